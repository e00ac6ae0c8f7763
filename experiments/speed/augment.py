r"""What augmentation costs: ours beside the naive form, Pillow and torchvision.

  python -m experiments.speed.augment
  python -m experiments.speed.augment --python=/tmp/torch/bin/python

The naive form is what `lax.switch` under `vmap` does: every operation on every
image. Pillow's FCR + TrivialAugmentWide stands below, one image at a time, as
host loaders run it. With --python, the interpreter of an environment that has
torchvision (see torchvision_augment.py), its transforms run in turn with ours,
on tensors and on Pillow images. CPU time, round after round; compilation apart.
The rows that are mollified are the whole of what the training step does before
the network: augment, normalise, mollify.
"""

import argparse
import functools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from experiments.speed.corruptions import natural_images
from mollify_jax import MollifySpec, example_keys, mollify_batch
from mollify_jax.augment import (
  AugmentSpec,
  apply,
  augment_images,
  policies,
)
from mollify_jax.augment.magnitudes import (
  SIGNED,
  TRIVIAL_AUGMENT_WIDE,
  magnitude_table,
)
from mollify_jax.augment.operations import SELECTABLE, operation_number
from mollify_jax.kernels.pixels import normalize_images

HERE = Path(__file__).parent
FCR = ('flip', 'crop', 'rotate')
MEAN, STD = (0.491, 0.482, 0.446), (0.247, 0.243, 0.261)
# Row -> our steps, and what torchvision_augment.py calls the same.
ROWS = {
  'FCR': (FCR, 'fcr'),
  'TrivialAugmentWide': (('trivial_augment_wide',), 'trivial_augment_wide'),
  'FCR + TrivialAugmentWide': (
    (*FCR, 'trivial_augment_wide'),
    'fcr,trivial_augment_wide',
  ),
  'RandAugment': (('rand_augment',), 'rand_augment'),
  'AutoAugment, ImageNet': (
    ('auto_augment_imagenet',),
    'auto_augment_imagenet',
  ),
  'AutoAugment, CIFAR-10': (('auto_augment_cifar10',), 'auto_augment_cifar10'),
  'AugMix': (('augmix',), 'augmix'),
  'resized crop': (('resized_crop',), 'resized_crop'),
  'random erasing': (('random_erasing',), 'random_erasing'),
}


def naive_trivial_augment_wide(key, image):
  """Under `vmap`, every operation on every image, and a selection."""
  operation, magnitude = policies.draw_trivial_augment_wide(key, image.shape)
  branches = [
    lambda image, m, name=name: apply(image, name, m)
    for name in SELECTABLE
    if name != 'Invert'  # which the policy does not draw
  ]
  number = operation[0] - (operation[0] > operation_number('Invert'))
  return jax.lax.switch(number, branches, image, magnitude[0])


def mollified(keys, images, labels, assignment):
  """What the training step does to a batch before the network."""
  images = normalize_images(images, MEAN, STD)
  return mollify_batch(keys, images, labels, MollifySpec(assignment=assignment))


def our_cases(images):
  """Name -> (function of keys and images), all to be compiled."""
  labels = jax.nn.one_hot(jnp.arange(len(images)) % 10, 10)

  def augment(steps):
    spec = AugmentSpec(steps=steps)
    return lambda keys, images: augment_images(keys, images, spec)

  def naive(steps):
    def run(keys, images):
      images = augment(steps)(keys, images)
      return jax.vmap(naive_trivial_augment_wide)(keys, images)

    return run

  def then_mollify(function, assignment):
    return lambda keys, images: mollified(
      keys, function(keys, images), labels, assignment
    )

  cases = {name: augment(steps) for name, (steps, _) in ROWS.items()}
  cases |= {
    'TrivialAugmentWide, naive': naive(()),
    'FCR + TrivialAugmentWide, naive': naive(FCR),
  }
  for name in ('FCR + TrivialAugmentWide', 'FCR + TrivialAugmentWide, naive'):
    for assignment in ('stratified', 'iid'):
      cases[f'{name}, mollified {assignment}'] = then_mollify(
        cases[name], assignment
      )
  return cases


class PillowPipeline:
  """FCR + TrivialAugmentWide with Pillow: its operations, our tables."""

  def __init__(self):
    self._random = np.random.default_rng(0)
    self._table = magnitude_table(TRIVIAL_AUGMENT_WIDE, 32, 32)

  def __call__(self, image: Image.Image) -> np.ndarray:
    random = self._random
    if random.random() < 0.5:
      image = ImageOps.mirror(image)
    top, left = random.integers(0, 9, 2)
    image = ImageOps.expand(image, 4).crop((left, top, left + 32, top + 32))
    image = image.rotate(random.uniform(-15, 15))
    name = policies.CHOICES[random.integers(14)]
    magnitude = self._table[operation_number(name), random.integers(31)]
    if name in SIGNED and random.random() < 0.5:
      magnitude = -magnitude
    return np.asarray(self._apply(image, name, float(magnitude)))

  def _apply(self, image, name, m):
    affine = {
      'ShearX': (1, m, 0, 0, 1, 0),
      'ShearY': (1, 0, 0, m, 1, 0),
      'TranslateX': (1, 0, -int(m), 0, 1, 0),
      'TranslateY': (1, 0, 0, 0, 1, -int(m)),
    }
    if name in affine:
      return image.transform((32, 32), Image.Transform.AFFINE, affine[name])
    if name in ('Brightness', 'Color', 'Contrast', 'Sharpness'):
      return getattr(ImageEnhance, name)(image).enhance(1 + m)
    return {
      'Identity': lambda: image,
      'Rotate': lambda: image.rotate(m),
      'Posterize': lambda: ImageOps.posterize(image, int(m)),
      'Solarize': lambda: ImageOps.solarize(image, 255 * m),
      'AutoContrast': lambda: ImageOps.autocontrast(image),
      'Equalize': lambda: ImageOps.equalize(image),
    }[name]()


class Torchvision:
  """Its transforms, in a process of their own."""

  def __init__(self, python: str, images: np.ndarray):
    self._folder = tempfile.TemporaryDirectory()
    path = Path(self._folder.name) / 'images.npy'
    np.save(path, images)
    self._process = subprocess.Popen(
      [python, str(HERE / 'torchvision_augment.py'), str(path)],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      env={**os.environ, 'OMP_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1'},
    )
    self.version = self._process.stdout.readline().strip()

  def seconds_per_image(self, steps: str, kind: str) -> float:
    print(steps, kind, file=self._process.stdin, flush=True)
    answer = self._process.stdout.readline()
    if not answer:
      sys.exit('error: torchvision stopped; its message stands above')
    return float(answer)


def seconds_per_image(function, count: int) -> float:
  """CPU time of calls for a while, each on `count` images."""
  calls, start = 0, time.process_time()
  while calls == 0 or time.process_time() - start < 0.1:
    function()
    calls += 1
  return (time.process_time() - start) / calls / count


def measure(arguments):
  """Seconds per image and round of each (row, who); seconds to compile."""
  images = natural_images(arguments.batch)
  keys = example_keys(jax.random.key(0), 0, len(images))
  device_images = jnp.asarray(images)
  compiled, compile_seconds = {}, {}
  for name, function in our_cases(images).items():
    start = time.perf_counter()
    compiled[name] = jax.jit(function).lower(keys, device_images).compile()
    compile_seconds[name] = time.perf_counter() - start
  measures = {
    (name, 'ours'): lambda call=call: seconds_per_image(
      lambda: jax.block_until_ready(call(keys, device_images)), len(images)
    )
    for name, call in compiled.items()
  }
  pillow, pillow_images = PillowPipeline(), [*map(Image.fromarray, images)]
  measures['FCR + TrivialAugmentWide', 'Pillow'] = lambda: seconds_per_image(
    lambda: [pillow(image) for image in pillow_images], len(images)
  )
  version = None
  if arguments.python:
    torchvision = Torchvision(arguments.python, images)
    version = torchvision.version
    for name, (_, steps) in ROWS.items():
      kinds = ['tensors']
      if name != 'random erasing':  # which takes no Pillow images
        kinds.append('pillow')
      for kind in kinds:
        measures[name, f'torchvision, {kind}'] = functools.partial(
          torchvision.seconds_per_image, steps, kind
        )
  seconds = {case: [] for case in measures}
  for _ in range(arguments.rounds):
    for case, measure_once in measures.items():
      seconds[case].append(measure_once())
  return seconds, compile_seconds, version


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--python', help='an interpreter with torchvision')
  parser.add_argument('--batch', type=int, default=128)
  parser.add_argument('--rounds', type=int, default=7)
  parser.add_argument('--out', type=Path, help='also write results as JSON')
  arguments = parser.parse_args()
  if jax.default_backend() == 'cpu':
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
  seconds, compile_seconds, torchvision = measure(arguments)

  print(
    f'{platform.machine()} {jax.devices()[0].device_kind}, jax '
    f'{metadata.version("jax")}, Pillow {metadata.version("pillow")}, '
    f'torchvision {torchvision or "not measured"}; batches of '
    f'{arguments.batch} images 32x32x3, one core\n'
  )
  print(
    f'{"images/s of CPU time":<52}{"median":>9}{"quartiles":>18}{"ours x":>8}'
    f'{"compile s":>11}'
  )
  rows = []
  for (name, who), values in seconds.items():
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    row = {
      'augmentation': name,
      'by': who,
      'images_per_second': 1 / median,
      'quartiles': [1 / high, 1 / low],
    }
    # What ours of the same is faster by.
    base = seconds[name.replace(', naive', ''), 'ours']
    if base is not values:
      row['ours_times_faster'] = median / np.median(base)
    if who == 'ours':
      row['compile_seconds'] = compile_seconds[name]
    rows.append(row)
    label = name if who == 'ours' else f'{name}: {who}'
    faster = row.get('ours_times_faster')
    print(
      f'{label:<52}{1 / median:>9,.0f}'
      f'{f"{1 / high:,.0f}-{1 / low:,.0f}":>18}'
      + (f'{faster:>8.1f}' if faster else ' ' * 8)
      + (f'{row["compile_seconds"]:>11.1f}' if who == 'ours' else '')
    )
  if arguments.out:
    record = {
      'machine': f'{platform.machine()}, {jax.devices()[0].device_kind}',
      'versions': {
        **{name: metadata.version(name) for name in ('jax', 'numpy', 'pillow')},
        'torchvision': torchvision,
      },
      'batch': arguments.batch,
      'rounds': arguments.rounds,
      'rows': rows,
    }
    arguments.out.write_text(json.dumps(record, indent=2) + '\n')


if __name__ == '__main__':
  main()
