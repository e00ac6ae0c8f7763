"""Times training steps in PyTorch; run by `training.py` and `gpu.py`.

Needs none of this project, but torch >= 2.1. The networks are written here from
the docstrings of `mollify_jax/models`. Prints its version, then reads lines
`NETWORK BATCH SIZE HOW SECONDS` and answers each with one line of JSON: seconds
per step and the bytes of device memory that were needed at most, or an error.
On a CPU the seconds are those of the process, in one thread.

HOW is one of
  eager           contiguous float32 (bfloat16 autocast on a GPU), resident data
  channels_last   the same with channels last
  compiled        the same under torch.compile
  loader          eager, images from the host: float32, pinned and copied
"""

import json
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

CLASSES = 10


def convolution(inputs, outputs, window, stride=1):
  return nn.Conv2d(
    inputs, outputs, window, stride, padding=window // 2, bias=False
  )


class PreactBlock(nn.Module):
  def __init__(self, inputs, width, stride, bottleneck):
    super().__init__()
    if bottleneck:
      windows, channels = (1, 3, 1), (inputs, width, width, 4 * width)
      strides = (1, stride, 1)
    else:
      windows, channels = (3, 3), (inputs, width, width)
      strides = (stride, 1)
    layers = []
    for index, window in enumerate(windows):
      before, after = channels[index : index + 2]
      layers += [
        nn.BatchNorm2d(before),
        nn.ReLU(inplace=True) if index else nn.ReLU(),
        convolution(before, after, window, strides[index]),
      ]
    self.layers = nn.Sequential(*layers)
    self.shortcut = nn.Identity()
    if stride > 1 or inputs != channels[-1]:
      self.shortcut = convolution(inputs, channels[-1], 1, stride)

  def forward(self, x):
    return self.shortcut(x) + self.layers(x)


def preact_resnet(counts, bottleneck):
  layers, channels = [convolution(3, 64, 3)], 64
  for group, count in enumerate(counts):
    width = 64 * 2**group
    for index in range(count):
      stride = 2 if group and not index else 1
      layers.append(PreactBlock(channels, width, stride, bottleneck))
      channels = width * (4 if bottleneck else 1)
  return nn.Sequential(*layers, *pooled(channels))


def pooled(channels):
  return (
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
    nn.Linear(channels, CLASSES),
  )


class WideBlock(nn.Module):
  def __init__(self, inputs, width, stride):
    super().__init__()
    self.norm1, self.norm2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(width)
    self.conv1 = convolution(inputs, width, 3, stride)
    self.conv2 = convolution(width, width, 3)
    self.projection = None
    if stride > 1 or inputs != width:
      self.projection = convolution(inputs, width, 1, stride)

  def forward(self, x):
    y = F.relu(self.norm1(x))
    if self.projection is not None:
      x = self.projection(y)
    y = self.conv1(y)
    return x + self.conv2(F.relu(self.norm2(y), inplace=True))


def wide_resnet(depth, widen):
  layers, channels = [convolution(3, 16, 3)], 16
  for group in range(3):
    width = 16 * widen * 2**group
    for index in range((depth - 4) // 6):
      stride = 2 if group and not index else 1
      layers.append(WideBlock(channels, width, stride))
      channels = width
  return nn.Sequential(
    *layers, nn.BatchNorm2d(channels), nn.ReLU(inplace=True), *pooled(channels)
  )


def small_cnn():
  layers = []
  for inputs, outputs, stride in ((3, 32, 1), (32, 64, 2), (64, 64, 1)):
    layers += [
      convolution(inputs, outputs, 3, stride),
      nn.BatchNorm2d(outputs),
      nn.ReLU(inplace=True),
    ]
  return nn.Sequential(*layers, *pooled(64))


NETWORKS = {
  'preact_resnet18': lambda: preact_resnet((2, 2, 2, 2), False),
  'preact_resnet50': lambda: preact_resnet((3, 4, 6, 3), True),
  'wrn_16_1': lambda: wide_resnet(16, 1),
  'wrn_40_2': lambda: wide_resnet(40, 2),
  'small_cnn': small_cnn,
}


class Training:
  """One network and its data; `step` is what a user's loop does."""

  def __init__(self, network, batch, size, how):
    torch.manual_seed(0)
    self.device = 'cuda' if torch.cuda.is_available() else 'cpu'
    self.how, self.batch = how, batch
    self.layout = (
      torch.contiguous_format
      if how in ('eager', 'loader')
      else torch.channels_last
    )
    self.network = NETWORKS[network]().to(self.device)
    self.network = self.network.to(memory_format=self.layout)
    self.optimizer = torch.optim.SGD(
      self.network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4
    )
    self.forward = self.network
    if how == 'compiled':
      self.forward = torch.compile(self.network)
    images = torch.randint(
      0, 256, (4 * batch, 3, size, size), dtype=torch.uint8
    )
    labels = torch.randint(0, CLASSES, (4 * batch,))
    if how == 'loader':
      # What a loader's workers would have made; decoding is not counted.
      self.images = images.float().div(255).sub(0.5).div(0.25)
      self.labels = labels
      if self.device == 'cuda':
        self.images = self.images.pin_memory()
        self.labels = labels.pin_memory()
    else:
      self.images = images.to(self.device)
      self.labels = labels.to(self.device)
    self.position = 0

  def step(self):
    """Forward, backward and update; the loss, not waited for."""
    first = self.position * self.batch
    self.position = (self.position + 1) % 4
    rows = slice(first, first + self.batch)
    images, labels = self.images[rows], self.labels[rows]
    if self.how == 'loader':
      images = images.to(self.device, non_blocking=True)
      labels = labels.to(self.device, non_blocking=True)
    else:
      images = images.float().div(255).sub(0.5).div(0.25)
    images = images.contiguous(memory_format=self.layout)
    with torch.autocast('cuda', torch.bfloat16, self.device == 'cuda'):
      logits = self.forward(images)
    soft = F.one_hot(labels, CLASSES).float()
    loss = F.cross_entropy(logits.float(), soft)
    self.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    self.optimizer.step()
    return loss

  def measure(self, seconds):
    cuda = self.device == 'cuda'
    clock = time.perf_counter if cuda else time.process_time
    for _ in range(3 if cuda else 1):
      loss = self.step()
    loss.item()
    steps, start = 0, clock()
    while steps == 0 or clock() - start < seconds:
      for _ in range(5 if cuda else 1):
        loss = self.step()
        steps += 1
      loss.item()
    return (clock() - start) / steps


def main():
  torch.set_num_threads(1)
  if torch.cuda.is_available():
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision('high')
  print(torch.__version__, flush=True)
  kept, training = None, None
  for line in sys.stdin:
    *what, seconds = line.split()
    network, batch, size, how = what
    try:
      if what != kept:  # an earlier one is freed first
        training = None
        if torch.cuda.is_available():
          torch.cuda.empty_cache()
          torch.cuda.reset_peak_memory_stats()
        training = Training(network, int(batch), int(size), how)
        kept = what
      answer = {'seconds': training.measure(float(seconds))}
      if torch.cuda.is_available():
        answer['bytes'] = torch.cuda.max_memory_allocated()
    except Exception as error:  # out of memory is an answer too
      kept = training = None
      answer = {'error': str(error).splitlines()[0]}
    print(json.dumps(answer), flush=True)


if __name__ == '__main__':
  main()
