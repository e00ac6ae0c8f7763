"""Times torchvision's transforms; run by `augment.py`.

  python torchvision_augment.py IMAGES.npy

Needs none of this project, but torchvision >= 0.20. Prints its version, then
reads lines `STEPS KIND`, KIND one of `tensors` and `pillow`, and answers each
with the CPU seconds per image of one pass over the images, one at a time, as
data loaders do it.
"""

import sys
import time

import numpy as np
import torch
import torchvision
from PIL import Image
from torchvision.transforms import v2

FCR = (
  v2.RandomHorizontalFlip(),
  v2.RandomCrop(32, padding=4),
  v2.RandomRotation(15),
)
POLICIES = {
  'trivial_augment_wide': v2.TrivialAugmentWide(),
  'rand_augment': v2.RandAugment(),
  'auto_augment_imagenet': v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET),
  'auto_augment_cifar10': v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10),
  'augmix': v2.AugMix(),
  'resized_crop': v2.RandomResizedCrop(32, antialias=True),
  'random_erasing': v2.RandomErasing(),
}


def make(steps):
  transforms = []
  for step in steps.split(','):
    transforms += FCR if step == 'fcr' else (POLICIES[step],)
  return v2.Compose(transforms)


def main():
  torch.set_num_threads(1)
  torch.manual_seed(0)
  pixels = np.load(sys.argv[1])
  images = {
    'tensors': [torch.from_numpy(p).permute(2, 0, 1) for p in pixels],
    'pillow': [Image.fromarray(p) for p in pixels],
  }
  print(torchvision.__version__, flush=True)
  for line in sys.stdin:
    steps, kind = line.split()
    transform = make(steps)
    for image in images[kind][:8]:
      transform(image)
    start = time.process_time()
    for image in images[kind]:
      transform(image)
    print((time.process_time() - start) / len(pixels), flush=True)


if __name__ == '__main__':
  main()
