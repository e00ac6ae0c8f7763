"""Times single convolutions in PyTorch; run by `convolutions.py`.

Needs none of this project, but torch >= 2.1. Prints its version, then reads
lines `BATCH SIZE INPUTS OUTPUTS WINDOW PASS LAYOUT SECONDS` and answers each
with one line of JSON: seconds per call, of CPU time in one thread. PASS is
forward, input or weights; LAYOUT is contiguous or channels_last.
"""

import functools
import json
import sys
import time

import torch


@functools.cache
def tensors(batch, size, inputs, outputs, window, layout):
  """Images, kernel, cotangent of the output."""
  torch.manual_seed(0)
  shapes = (
    (batch, inputs, size, size),
    (outputs, inputs, window, window),
    (batch, outputs, size, size),
  )
  layout = {
    'contiguous': torch.contiguous_format,
    'channels_last': torch.channels_last,
  }[layout]
  return [
    torch.randn(shape).contiguous(memory_format=layout) for shape in shapes
  ]


def call(shape, which, layout):
  images, kernel, output = tensors(*shape, layout)
  pad = [shape[4] // 2] * 2
  if which == 'forward':
    return torch.nn.functional.conv2d(images, kernel, padding=pad)
  return torch.ops.aten.convolution_backward(
    *(output, images, kernel, None, [1, 1], pad, [1, 1], False, [0, 0], 1),
    [which == 'input', which == 'weights', False],
  )


def main():
  torch.set_num_threads(1)
  print(torch.__version__, flush=True)
  for line in sys.stdin:
    *shape, which, layout, seconds = line.split()
    shape = tuple(map(int, shape))
    with torch.no_grad():
      call(shape, which, layout)
      calls, start = 0, time.process_time()
      while calls == 0 or time.process_time() - start < float(seconds):
        call(shape, which, layout)
        calls += 1
      elapsed = time.process_time() - start
    print(json.dumps({'seconds': elapsed / calls}), flush=True)


if __name__ == '__main__':
  main()
