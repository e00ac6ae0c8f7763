r"""What mollification costs: images/s of each kernel beside a memory copy.

  python -m experiments.speed.mollify
  python -m experiments.speed.mollify --authors=model.py \
    --python=/tmp/torch/bin/python

Every round runs all variants in turn, so that a noisy machine disturbs all
alike; medians over rounds are printed with their quartiles. On CPU the figure
is process CPU time, elsewhere wall time. The second command runs the authors'
PyTorch transform in turn with ours; see `authors_mollify.py`.
"""

import argparse
import functools
import json
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mollify_jax import (
  MollifySpec,
  blur_images,
  example_keys,
  mollify_batch,
  noise_images,
)


def variants(batch_size: int, size: int):
  """Name -> a function without arguments that works on one batch."""
  keys = example_keys(jax.random.key(0), 0, batch_size)
  images = jax.random.normal(jax.random.key(1), (batch_size, size, size, 3))
  labels = jax.nn.one_hot(jnp.arange(batch_size) % 10, 10)
  t = jnp.linspace(0, 1, batch_size)
  mollify = jax.jit(mollify_batch, static_argnums=3)
  cases = {
    'memory copy': functools.partial(jax.jit(jnp.copy), images),
    'noise, all examples': functools.partial(
      jax.jit(noise_images), keys, images, t
    ),
    'blur, all examples': functools.partial(jax.jit(blur_images), images, t),
  }
  for assignment in ('stratified', 'iid'):
    for name, roles in (
      ('diffusion', ('clean', 'noise')),
      ('blur', ('clean', 'blur')),
      ('diffusion + blur', ('clean', 'noise', 'blur')),
    ):
      spec = MollifySpec(roles=roles, assignment=assignment)
      cases[f'{name}, {assignment}'] = functools.partial(
        mollify, keys, images, labels, spec
      )
  return cases


# Roles of ours -> letters of the authors' command.
AUTHORS = {'diffusion': 'xn', 'blur': 'xb', 'diffusion + blur': 'xnb'}


class Authors:
  """Their transform in a process of its own; none without --authors."""

  def __init__(self, script: Path | None, python: Path, size: int):
    self._process = script and subprocess.Popen(
      [
        str(python),
        str(Path(__file__).with_name('authors_mollify.py')),
        str(script),
        str(size),
      ],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )

  def seconds(self, batch_size: int) -> dict[str, float]:
    """CPU seconds per batch of every mixture of roles."""
    if self._process is None:
      return {}
    seconds = {}
    for name, letters in AUTHORS.items():
      self._process.stdin.write(f'{letters} {batch_size}\n')
      self._process.stdin.flush()
      seconds[f"{name}, the authors' code"] = float(
        self._process.stdout.readline()
      )
    return seconds


def measure(cases, authors: Authors, batch_size: int, rounds: int):
  """Seconds per call of every case: [rounds] each, interleaved."""
  clock = (
    time.process_time if jax.default_backend() == 'cpu' else time.perf_counter
  )
  seconds = {name: [] for name in cases}
  for case in cases.values():
    jax.block_until_ready(case())  # compile
  for _ in range(rounds):
    for name, case in cases.items():
      calls = 0
      start = clock()
      while calls == 0 or clock() - start < 0.02:
        jax.block_until_ready(case())
        calls += 1
      seconds[name].append((clock() - start) / calls)
    for name, value in authors.seconds(batch_size).items():
      seconds.setdefault(name, []).append(value)
  return seconds


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--batch', type=int, nargs='+', default=[128, 512])
  parser.add_argument('--size', type=int, default=32)
  parser.add_argument('--rounds', type=int, default=15)
  parser.add_argument('--authors', type=Path, help='their src/model.py')
  parser.add_argument('--python', type=Path, help='with torch, for --authors')
  parser.add_argument('--out', type=Path, help='also write results as JSON')
  arguments = parser.parse_args()

  device = jax.devices()[0]
  print(
    f'{platform.machine()} {device.device_kind}, jax '
    f'{metadata.version("jax")}, {arguments.size}x{arguments.size}x3 float32'
  )
  authors = Authors(arguments.authors, arguments.python, arguments.size)
  rows = []
  for batch_size in arguments.batch:
    seconds = measure(
      variants(batch_size, arguments.size),
      authors,
      batch_size,
      arguments.rounds,
    )
    floor = np.median(seconds['memory copy'])
    print(
      f'\nbatch {batch_size:<30} {"images/s":>10} {"quartiles":>21} '
      f'{"x copy":>8}'
    )
    for name, values in seconds.items():
      low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
      rows.append(
        {
          'batch': batch_size,
          'variant': name,
          'images_per_second': batch_size / median,
          'quartiles': [batch_size / high, batch_size / low],
          'ratio_to_copy': median / floor,
        }
      )
      print(
        f'{name:<36} {batch_size / median:>10,.0f} '
        f'{batch_size / high:>10,.0f}-{batch_size / low:<10,.0f} '
        f'{median / floor:>8.1f}'
      )
  if arguments.out:
    record = {
      'machine': f'{platform.machine()}, {device.device_kind}',
      'versions': {name: metadata.version(name) for name in ('jax', 'numpy')},
      'size': arguments.size,
      'rounds': arguments.rounds,
      'rows': rows,
    }
    arguments.out.write_text(json.dumps(record, indent=2) + '\n')


if __name__ == '__main__':
  main()
