r"""What it costs to corrupt images: ours beside the authors' scripts.

  python -m experiments.speed.corruptions
  python -m experiments.speed.corruptions --scripts=make_cifar_c.py \
    --python=/tmp/authors/bin/python

The first measures ours alone. The second also runs `make_cifar_c.py` of
github.com/hendrycks/robustness, which is not part of this repository, with the
Python of an environment that has its libraries (see authors_corruptions.py),
on the first of the same images, in turn with ours, round after round. CPU time
on one core; compilation is measured apart.
"""

import argparse
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

from mollify_jax import corruptions
from mollify_jax.corruptions import dispatch, textures
from mollify_jax.data import digits

HERE = Path(__file__).parent
BATCH = 500


def natural_images(count: int) -> np.ndarray:
  """uint8[count, 32, 32, 3]: digits, enlarged and tinted; speed is all."""
  pixels = digits.load().train_images[:count]
  pixels = np.kron(pixels, np.ones((1, 4, 4, 1), np.uint8))
  tint = np.random.default_rng(0).uniform(0.3, 1, (len(pixels), 1, 1, 3))
  noise = np.random.default_rng(1).integers(0, 30, (*pixels.shape[:3], 3))
  return np.clip(pixels * tint + noise, 0, 255).astype(np.uint8)


class Ours:
  """Draws and kernels, compiled as the -C evaluation compiles them."""

  def __init__(self, images: np.ndarray):
    self._images = jnp.asarray(images)
    self._draws = {}
    self._cells = {}
    self.compile_seconds = dict.fromkeys(dispatch.KERNELS, 0.0)

  def prepare(self, name: str, severity: int) -> None:
    start = time.process_time()
    recipe = dispatch.recipe(name, severity, 'cifar')
    keys = corruptions.cell_keys(0, name, severity, jnp.arange(BATCH))
    shape = self._images.shape[1:]
    draw, arguments = recipe
    if draw is None:
      self._draws[recipe] = lambda keys: ()
    elif recipe not in self._draws:
      self._draws[recipe] = (
        jax.jit(jax.vmap(lambda key: draw(key, shape, **dict(arguments))))
        .lower(keys)
        .compile()
      )
    randomness = self._draws[recipe](keys)
    kernel = (
      jax.jit(
        jax.vmap(
          lambda image, given: dispatch.corrupt_with(
            image, given, name, severity
          )
        )
      )
      .lower(self._images, randomness)
      .compile()
    )
    self._cells[name, severity] = keys, self._draws[recipe], kernel
    self.compile_seconds[name] += time.process_time() - start

  def seconds_per_image(self, name: str, severity: int) -> float:
    keys, draw, kernel = self._cells[name, severity]
    jax.block_until_ready(kernel(self._images, draw(keys)))
    calls, start = 0, time.process_time()
    while calls == 0 or time.process_time() - start < 0.03:
      jax.block_until_ready(kernel(self._images, draw(keys)))
      calls += 1
    return (time.process_time() - start) / calls / BATCH


class Authors:
  """The scripts in a process of their own."""

  def __init__(self, python: str, script: str, images: np.ndarray):
    self._folder = tempfile.TemporaryDirectory()
    path = Path(self._folder.name) / 'images.npy'
    np.save(path, images)
    self._process = subprocess.Popen(
      [
        python,
        str(HERE / 'authors_corruptions.py'),
        script,
        str(path),
        str(textures._folder()),
      ],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      env={**os.environ, 'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1'},
    )

  def seconds_per_image(self, name: str, severity: int) -> float:
    print(name, severity, file=self._process.stdin, flush=True)
    answer = self._process.stdout.readline()
    if not answer:
      sys.exit('error: the scripts stopped; their message stands above')
    return float(answer)


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--scripts', help='make_cifar_c.py of the authors')
  parser.add_argument('--python', default=sys.executable)
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--their_images', type=int, default=25)
  parser.add_argument('--out', type=Path, help='also write results as JSON')
  arguments = parser.parse_args()
  if jax.default_backend() == 'cpu':
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

  images = natural_images(BATCH)
  ours = Ours(images)
  names = corruptions.CORRUPTIONS
  authors = None
  if arguments.scripts:
    authors = Authors(
      arguments.python, arguments.scripts, images[: arguments.their_images]
    )
  rows = []
  print(
    f'{platform.machine()} {jax.devices()[0].device_kind}, jax '
    f'{metadata.version("jax")}, batches of {BATCH} images 32x32x3, one core\n'
  )
  print(
    f'{"images/s of CPU time":<22}{"ours":>10}{"theirs":>9}{"ratio":>8}'
    f'{"compile s":>11}'
  )
  for name in names:
    for severity in corruptions.SEVERITIES:
      ours.prepare(name, severity)
    mine, theirs = [], []
    for _ in range(arguments.rounds):
      mine.append(
        np.mean([ours.seconds_per_image(name, s) for s in range(1, 6)])
      )
      if authors:
        theirs.append(
          np.mean([authors.seconds_per_image(name, s) for s in range(1, 6)])
        )
    row = {
      'corruption': name,
      'ours_images_per_second': 1 / np.median(mine),
      'ours_range': [1 / max(mine), 1 / min(mine)],
      'compile_seconds': ours.compile_seconds[name],
    }
    if authors:
      row |= {
        'theirs_images_per_second': 1 / np.median(theirs),
        'theirs_range': [1 / max(theirs), 1 / min(theirs)],
        'ratio': np.median(theirs) / np.median(mine),
      }
    rows.append(row)
    show(row)
  total = {
    'corruption': 'the whole set',
    'compile_seconds': sum(row['compile_seconds'] for row in rows),
  }
  for who in ('ours', 'theirs')[: 2 if authors else 1]:
    rate = f'{who}_images_per_second'
    total[rate] = len(rows) / sum(1 / row[rate] for row in rows)
    total[f'{who}_seconds'] = 750_000 / total[rate]
  if authors:
    total['ratio'] = total['theirs_seconds'] / total['ours_seconds']
  show(total)
  print(
    '\n15 x 5 x 10,000 images: '
    + ', '.join(
      f'{who} {total[f"{who}_seconds"]:,.0f} CPU-s'
      for who in ('ours', 'theirs')
      if f'{who}_seconds' in total
    )
    + f'; ours compile in {total["compile_seconds"]:.0f} s'
  )
  if arguments.out:
    record = {
      'machine': f'{platform.machine()}, {jax.devices()[0].device_kind}',
      'versions': {name: metadata.version(name) for name in ('jax', 'numpy')},
      'batch': BATCH,
      'rounds': arguments.rounds,
      'rows': [*rows, total],
    }
    arguments.out.write_text(json.dumps(record, indent=2) + '\n')


def show(row):
  theirs = row.get('theirs_images_per_second')
  print(
    f'{row["corruption"]:<22}{row["ours_images_per_second"]:>10,.0f}'
    + (f'{theirs:>9,.0f}{row["ratio"]:>8.1f}' if theirs else ' ' * 17)
    + f'{row["compile_seconds"]:>11.1f}',
    flush=True,
  )


if __name__ == '__main__':
  main()
