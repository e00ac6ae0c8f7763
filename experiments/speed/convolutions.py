r"""Single convolutions on one core of a CPU, in GFLOP/s of CPU time.

  python -m experiments.speed.convolutions
  python -m experiments.speed.convolutions --python=/tmp/torch/bin/python \
    --out=experiments/speed/convolutions.json

The three passes of a layer, forward, towards the input and towards the
weights, in float32: as XLA's convolution and as matrix products, one for each
position of the window; and PyTorch's, contiguous and channels last, in a
process of its own that needs nothing of this project
(`torch_convolutions.py`). The shapes are those of WRN-16-1 and ResNet-18
(SHAPES); all variants of a shape run in turn, round after round, pinned to one
core. Work is counted as 2 B H W C D h w, padding included, for every variant
and pass alike, so that ratios are those of speed.
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.speed.loops import processor, time_in_turn
from experiments.speed.training import Torch
from mollify_jax.evaluation import reports


class Shape(NamedTuple):
  """Of one layer: images [batch, size, size, inputs], stride 1."""

  batch: int
  size: int
  inputs: int
  outputs: int
  window: int

  def flops(self) -> int:
    """Of one pass."""
    return (
      2
      * self.batch
      * (self.size * self.window) ** 2
      * (self.inputs * self.outputs)
    )


SHAPES = (
  Shape(128, 32, 16, 16, 3),  # WRN-16-1
  Shape(128, 16, 32, 32, 3),
  Shape(128, 8, 64, 64, 3),
  Shape(32, 32, 64, 64, 3),  # ResNet-18
  Shape(32, 16, 128, 128, 3),
  Shape(32, 8, 256, 256, 3),
  Shape(32, 4, 512, 512, 3),
  Shape(128, 16, 16, 32, 1),  # the first shortcut of each, after its stride
  Shape(32, 16, 64, 128, 1),
)
PASSES = ('forward', 'input', 'weights')


def convolution(images: jax.Array, kernel: jax.Array) -> jax.Array:
  """[B, H, W, C] and [h, w, C, D], h = w odd -> [B, H, W, D]."""
  return jax.lax.conv_general_dilated(
    images, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )


def products(images: jax.Array, kernel: jax.Array) -> jax.Array:
  """The same as a sum of matrix products, one per position of the window."""
  height, width = images.shape[1:3]
  half = kernel.shape[0] // 2
  padded = jnp.pad(images, ((0, 0), (half, half), (half, half), (0, 0)))
  return sum(
    padded[:, y : y + height, x : x + width] @ kernel[y, x]
    for y in range(kernel.shape[0])
    for x in range(kernel.shape[1])
  )


FORMS = {'convolution': convolution, 'products': products}
LAYOUTS = ('contiguous', 'channels_last')


def compiled(form: Callable, which: str) -> Callable:
  """One pass: (images, kernel, cotangent of the output) -> its result.

  A convolution is linear in either argument, so that nothing of the forward
  pass is left in the other two.
  """

  def run(images, kernel, output):
    if which == 'forward':
      return form(images, kernel)
    if which == 'input':
      return jax.vjp(lambda x: form(x, kernel), images)[1](output)[0]
    return jax.vjp(lambda k: form(images, k), kernel)[1](output)[0]

  return jax.jit(run)


def arrays(shape: Shape) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Images, kernel and a cotangent of the output: float32."""
  batch, size, inputs, outputs, window = shape
  random = np.random.default_rng(0)
  return tuple(
    jnp.asarray(random.normal(size=sizes), jnp.float32)
    for sizes in (
      (batch, size, size, inputs),
      (window, window, inputs, outputs),
      (batch, size, size, outputs),
    )
  )


def measure(shape: Shape, torch: Torch | None, rounds: int, seconds: float):
  """{(variant, pass): GFLOP/s of each round}."""
  inputs = arrays(shape)
  cases = {
    (title, which): _call(compiled(form, which), inputs)
    for title, form in FORMS.items()
    for which in PASSES
  }
  others = [
    (f'PyTorch {layout}', which, layout)
    for layout in LAYOUTS
    for which in PASSES
    if torch
  ]
  found = {}
  for _ in range(rounds):
    for case, (value,) in time_in_turn(cases, 1, seconds).items():
      found.setdefault(case, []).append(value)
    for title, which, layout in others:
      answer = torch.measure(*shape, which, layout, seconds)
      found.setdefault((title, which), []).append(answer['seconds'])
  work = shape.flops() / 1e9
  return {
    case: [work / value for value in values] for case, values in found.items()
  }


def _call(function, inputs):
  def call():
    jax.block_until_ready(function(*inputs))

  call()  # compiles
  return call


def parse(text: str) -> Shape:
  numbers = [int(part) for part in text.split(',')]
  if len(numbers) != 5 or min(numbers) < 1 or numbers[4] % 2 == 0:
    raise argparse.ArgumentTypeError(
      f'{text!r}, wanted BATCH,SIZE,INPUTS,OUTPUTS,WINDOW with an odd window'
    )
  return Shape(*numbers)


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--shapes', nargs='+', type=parse, default=SHAPES)
  parser.add_argument('--python', type=Path, help='an interpreter with torch')
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--seconds', type=float, default=0.05, help='per case')
  parser.add_argument('--out', type=Path, help='also write results as JSON')
  arguments = parser.parse_args()

  # Before JAX starts its threads, and PyTorch's process, which inherit it.
  if hasattr(os, 'sched_setaffinity'):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
  torch = arguments.python and Torch(arguments.python, 'torch_convolutions.py')
  record = {
    'processor': processor(),
    'environment': reports.environment(jax.devices()),
    'torch': torch.version if torch else None,
    'rounds': arguments.rounds,
    'seconds': arguments.seconds,
    'rows': [],
  }
  print(
    f'{record["processor"]}, jax {record["environment"]["jax"]}, '
    f'torch {record["torch"] or "not run"}; GFLOP/s (quartiles): '
    'forward | towards the input | towards the weights'
  )
  for shape in arguments.shapes:
    found = measure(shape, torch, arguments.rounds, arguments.seconds)
    window = f'{shape.window}x{shape.window}'
    print(
      f'\n{window}, {shape.inputs} -> {shape.outputs} channels, '
      f'{shape.batch} of {shape.size}x{shape.size}'
    )
    for title in dict.fromkeys(title for title, _ in found):
      row = {**shape._asdict(), 'variant': title}
      for which in PASSES:
        low, median, high = np.quantile(found[title, which], [0.25, 0.5, 0.75])
        row[which] = {'gflops': median, 'low': low, 'high': high}
      record['rows'].append(row)
      print(
        f'{title:<22}'
        + ' | '.join(
          f'{row[which]["gflops"]:6.1f} ({row[which]["low"]:.1f}-'
          f'{row[which]["high"]:.1f})'
          for which in PASSES
        )
      )
  if arguments.out:
    reports.write_json(arguments.out, record)


if __name__ == '__main__':
  main()
