r"""Training steps beside PyTorch's, on one core or on one GPU.

  python -m experiments.speed.training
  python -m experiments.speed.training --python=/tmp/torch/bin/python \
    --networks preact_resnet18 --batch 64

Ours is the trainer's own step: uint8 images on the device, gather,
normalisation, forward, backward and update in one call, the state donated;
`mollified` and `augmented` add what their names say. PyTorch runs in turn with
it in a process of its own, which needs nothing of this project
(`torch_training.py`). Medians over rounds are printed with their quartiles and
the ratio to PyTorch eager; on a CPU of process CPU time, elsewhere of wall
time.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mollify_jax import MollifySpec
from mollify_jax.augment import AugmentSpec
from mollify_jax.feeds import ResidentFeed
from mollify_jax.models import create_model
from mollify_jax.parallel import AXIS, replicate, to_host
from mollify_jax.training.optimizer import OptimizerSpec, make_optimizer
from mollify_jax.training.state import create_state
from mollify_jax.training.step import StepSpec, make_train_steps

CLASSES = 10
# name -> augmentation, roles
OURS = {
  'plain': ((), ('clean',)),
  'mollified': ((), ('clean', 'noise', 'blur')),
  'augmented': (
    ('flip', 'crop', 'rotate', 'trivial_augment_wide'),
    ('clean', 'noise', 'blur'),
  ),
}
# network -> batch size, image size, of the table in README.md
CPU_CASES = {
  'small_cnn': (64, 8),
  'wrn_16_1': (128, 32),
  'preact_resnet18': (64, 32),
  'preact_resnet50': (32, 32),
}


class Ours:
  """Steps of this package."""

  def __init__(self, network, batch, size, kind, dtype, per_call):
    augment, roles = OURS[kind]
    spec = StepSpec(
      num_classes=CLASSES,
      mean=(0.5,) * 3,
      std=(0.25,) * 3,
      augment=AugmentSpec(steps=augment),
      mollify=MollifySpec(roles=roles, assignment='stratified'),
    )
    model = create_model(network, CLASSES, dtype=dtype, axis_name=AXIS)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (4 * batch, size, size, 3), np.uint8)
    labels = random.integers(0, CLASSES, 4 * batch, np.int32)
    self.feed = ResidentFeed(images, labels, batch_size=batch)
    optimizer = make_optimizer(
      OptimizerSpec(learning_rate=0.01, momentum=0.9, weight_decay=5e-4),
      4,
      1000,
    )
    self.state = replicate(
      create_state(model, optimizer, (size, size, 3), seed=0)
    )
    self.steps = make_train_steps(model, optimizer, spec, self.feed)
    self.per_call, self.done = per_call, 0

  def call(self):
    """`per_call` steps; waits for their metrics."""
    self.state, metrics = self.steps(
      self.state,
      *self.feed.constants,
      np.int32(0),
      *self.feed.train_slices(self.done, self.per_call),
    )
    self.done += self.per_call
    return to_host(metrics)

  def measure(self, seconds):
    cpu = jax.default_backend() == 'cpu'
    clock = time.process_time if cpu else time.perf_counter
    self.call()
    calls, start = 0, clock()
    while calls == 0 or clock() - start < seconds:
      self.call()
      calls += 1
    return (clock() - start) / (calls * self.per_call)


class Torch:
  """PyTorch in a process of its own, which runs a script beside this one."""

  def __init__(self, python, script='torch_training.py'):
    self._process = subprocess.Popen(
      [str(python), str(Path(__file__).with_name(script))],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    self.version = self._process.stdout.readline().strip()

  def measure(self, *request):
    """What the script answers, such as `seconds` per step, or an `error`."""
    self._process.stdin.write(f'{" ".join(map(str, request))}\n')
    self._process.stdin.flush()
    return json.loads(self._process.stdout.readline())


def quartiles(values):
  low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
  return {'seconds': median, 'low': low, 'high': high}


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--networks', nargs='+', default=list(CPU_CASES))
  parser.add_argument('--batch', type=int, help="instead of the table's")
  parser.add_argument('--size', type=int, help="instead of the table's")
  parser.add_argument('--ours', nargs='+', default=list(OURS))
  parser.add_argument('--torch', nargs='+', default=['eager', 'channels_last'])
  parser.add_argument('--python', type=Path, help='an interpreter with torch')
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--seconds', type=float, default=1.0)
  parser.add_argument('--out', type=Path, help='also write results as JSON')
  arguments = parser.parse_args()

  if jax.default_backend() == 'cpu' and hasattr(os, 'sched_setaffinity'):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
  torch = arguments.python and Torch(arguments.python)
  device = jax.devices()[0]
  print(
    f'{platform.machine()} {device.device_kind}, jax '
    f'{metadata.version("jax")}, torch {torch.version if torch else "not run"}'
  )
  rows = []
  for network in arguments.networks:
    batch, size = CPU_CASES.get(network, (32, 32))
    batch, size = arguments.batch or batch, arguments.size or size
    cases = {
      kind: Ours(network, batch, size, kind, jnp.float32, 1)
      for kind in arguments.ours
    }
    seconds = {kind: [] for kind in cases}
    for case in cases.values():
      case.call()  # compiles
    for _ in range(arguments.rounds):
      for kind, case in cases.items():
        seconds[kind].append(case.measure(arguments.seconds))
      for how in arguments.torch if torch else ():
        answer = torch.measure(network, batch, size, how, arguments.seconds)
        if 'error' in answer:
          sys.exit(f'PyTorch, {network} {how}: {answer["error"]}')
        seconds.setdefault(f'PyTorch {how}', []).append(answer['seconds'])
    print(f'\n{network}, batch {batch} of {size}x{size}x3')
    reference = np.median(seconds.get('PyTorch eager', [np.nan]))
    for name, values in seconds.items():
      row = {'network': network, 'batch': batch, 'size': size, 'variant': name}
      row.update(quartiles(values))
      row['times_eager'] = reference / row['seconds'] if torch else None
      rows.append(row)
      print(
        f'{name:<24} {batch / row["seconds"]:>9,.1f} images/s  '
        f'{1e3 * row["seconds"]:>9.1f} ms ({1e3 * row["low"]:.1f}-'
        f'{1e3 * row["high"]:.1f})  {reference / row["seconds"]:>6.2f}'
      )
  if arguments.out:
    record = {
      'machine': f'{platform.machine()}, {device.device_kind}',
      'versions': {name: metadata.version(name) for name in ('jax', 'flax')},
      'torch': torch.version if torch else None,
      'rounds': arguments.rounds,
      'rows': rows,
    }
    arguments.out.write_text(json.dumps(record, indent=2) + '\n')


if __name__ == '__main__':
  main()
