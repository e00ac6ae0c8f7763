"""Makes the golden files of this folder. Needs PyTorch 2 and safetensors.

  python tests/golden/models/make_torch_golden.py tests/golden/models

The networks are written here from the docstring of
`mollify_jax/models/preact_resnet.py`, in PyTorch, at a width of 2; the names
of their tensors are those of the authors' networks. Weights and running
statistics come from a few forward passes in training at a fixed seed; logits
are computed in float64. Another version of PyTorch may draw other weights.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

WIDTH, CLASSES = 2, 5


class Block(nn.Module):
  """Batch norm, ReLU and convolution, two or three times."""

  def __init__(self, inputs, width, stride, bottleneck):
    super().__init__()
    if bottleneck:
      windows, channels = (1, 3, 1), (inputs, width, width, 4 * width)
      strides, self.name = (1, stride, 1), 'resfunc'
    else:
      windows, channels = (3, 3), (inputs, width, width)
      strides, self.name = (stride, 1), 'layer'
    layers = []
    for index, window in enumerate(windows):
      before, after = channels[index : index + 2]
      layers += [
        nn.BatchNorm2d(before),
        nn.ReLU(),
        convolution(before, after, window, strides[index]),
      ]
    setattr(self, self.name, nn.Sequential(*layers))
    self.shortcut = nn.Identity()
    if stride > 1 or inputs != channels[-1]:
      self.shortcut = convolution(inputs, channels[-1], 1, stride)

  def forward(self, x):
    return self.shortcut(x) + getattr(self, self.name)(x)


def convolution(inputs, outputs, window, stride):
  return nn.Conv2d(
    inputs, outputs, window, stride, padding=window // 2, bias=False
  )


class Network(nn.Module):
  """The stem, four groups of blocks, the mean over the image, a dense layer."""

  def __init__(self, counts, bottleneck):
    super().__init__()
    self.conv1 = convolution(3, WIDTH, 3, 1)
    channels = WIDTH
    for group, count in enumerate(counts):
      width = WIDTH * 2**group
      blocks = []
      for index in range(count):
        stride = 2 if group and not index else 1
        blocks.append(Block(channels, width, stride, bottleneck))
        channels = width * (4 if bottleneck else 1)
      setattr(self, f'layer{group + 1}', nn.Sequential(*blocks))
    self.linear = nn.Linear(channels, CLASSES)

  def forward(self, images):
    x = self.conv1(images)
    for group in (self.layer1, self.layer2, self.layer3, self.layer4):
      x = group(x)
    return self.linear(x.mean(dim=(2, 3)))


def make(counts, bottleneck, seed):
  """A network's state and logits float64[2, CLASSES], and float32 images."""
  torch.manual_seed(seed)
  network = Network(counts, bottleneck)
  for module in network.modules():
    if isinstance(module, nn.BatchNorm2d):
      nn.init.uniform_(module.weight, 0.5, 1.5)
      nn.init.normal_(module.bias, std=0.3)
  nn.init.normal_(network.linear.weight)  # logits of about 1
  for _ in range(10):  # moves the running statistics
    network(torch.randn(16, 3, 12, 12))
  state = {
    name: tensor.clone() for name, tensor in network.state_dict().items()
  }
  images = torch.randn(2, 3, 11, 14)
  logits = network.double().eval()(images.double())
  return state, images.permute(0, 2, 3, 1).numpy(), logits.detach().numpy()


def main(folder):
  state, images, logits = make((2, 2, 2, 2), False, 0)
  np.savez_compressed(
    folder / 'preact_resnet18_width2.npz',
    **{name: tensor.numpy() for name, tensor in state.items()},
  )
  state, deep_images, deep_logits = make((3, 4, 6, 3), True, 1)
  path = folder / 'preact_resnet50_width2.safetensors'
  save_file(state, path)
  path.chmod(0o644)
  np.savez_compressed(
    folder / 'preact_resnets.npz',
    images18=images,
    logits18=logits,
    images50=deep_images,
    logits50=deep_logits,
  )
  print(logits, deep_logits, sep='\n')


if __name__ == '__main__':
  main(Path(sys.argv[1]))
