r"""Training on one GPU in one call: ours, PyTorch, and what the card can do.

  python -m experiments.speed.gpu --python=python3 --out=gpu.json

Images/s in bfloat16 for several networks and batch sizes, plain, mollified and
mollified with flip, crop, rotate and TrivialAugmentWide, twenty steps per call;
PyTorch in turn with it, eager with images from the host and compiled on
resident data (channels last, autocast). Beside them the FLOP/s of the network
(three times those of the forward pass) as a share of a large bfloat16 matrix
product measured here, and the memory needed at most. What `--minutes` leave no
time for, but for the first case, is printed as not run. Needs jax, flax and
optax, and an interpreter with torch for `--python`; no TensorFlow, tfds or
ml_collections. Without a GPU it runs on the CPU, in float32, where only tiny
sizes make sense:

  python -m experiments.speed.gpu --networks=small_cnn --batches=8 --size=8 \
    --matrix=256 --rounds=1 --seconds=0.01
"""

import argparse
import json
import os
import platform
import time
from importlib import metadata
from pathlib import Path

# Memory is left for PyTorch, which runs beside it.
os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')

import jax
import jax.numpy as jnp
import numpy as np

from experiments.speed.training import CLASSES, Ours, Torch, quartiles
from mollify_jax.models import create_model

NETWORKS = ('preact_resnet50', 'wrn_40_2')
BATCHES = (512, 128, 1024, 2048)  # the most telling first
KINDS = ('plain', 'mollified', 'augmented')
HOWS = ('loader', 'compiled')


def matrix_rate(size: int, seconds: float) -> float:
  """FLOP/s of a product of two square bfloat16 matrices."""
  a = jax.random.normal(jax.random.key(0), (size, size), jnp.bfloat16)
  multiply = jax.jit(lambda a: a @ a)
  multiply(a).block_until_ready()
  rates, begun = [], time.perf_counter()
  while len(rates) < 5 or time.perf_counter() - begun < seconds:
    start = time.perf_counter()
    for _ in range(10):
      result = multiply(a)
    result.block_until_ready()
    rates.append(10 * 2 * size**3 / (time.perf_counter() - start))
  return float(np.median(rates))


def training_flops(network: str, size: int) -> float:
  """Of one example: forward, and twice as much backward.

  Products with padding, which some count as well, are not counted.
  """
  model = create_model(network, CLASSES)
  images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
  variables = jax.eval_shape(
    lambda key, x: model.init(key, x, train=False), jax.random.key(0), images
  )
  forward = jax.jit(lambda v, x: model.apply(v, x, train=False))
  return 3 * forward.lower(variables, images).cost_analysis()['flops']


def run_case(network, batch, arguments, torch):
  """Seconds per step of all variants in turn; those that failed say why."""
  gpu = jax.default_backend() != 'cpu'
  per_call = 20 if gpu else 1
  dtype = jnp.bfloat16 if gpu else jnp.float32
  ours, seconds, notes, memory = {}, {}, {}, {}
  for kind in KINDS:
    try:
      ours[kind] = Ours(network, batch, arguments.size, kind, dtype, per_call)
      ours[kind].call()
    except jax.errors.JaxRuntimeError as error:
      ours.pop(kind, None)
      notes[kind] = str(error).splitlines()[0]
    stats = jax.local_devices()[0].memory_stats() or {}
    memory[kind] = stats.get('peak_bytes_in_use')  # the most so far
  for _ in range(arguments.rounds):
    for kind, case in ours.items():
      seconds.setdefault(kind, []).append(case.measure(arguments.seconds))
    for how in HOWS if torch else ():
      name = f'PyTorch {how}'
      if name in notes:
        continue
      answer = torch.measure(
        network, batch, arguments.size, how, arguments.seconds
      )
      if 'error' in answer:
        notes[name] = answer['error']
        continue
      seconds.setdefault(name, []).append(answer['seconds'])
      memory[name] = answer.get('bytes')
  rows = [
    {'variant': name, 'peak_bytes': memory.get(name), **quartiles(values)}
    for name, values in seconds.items()
  ]
  return rows, notes


def save(record, path: Path | None):
  if path is not None:
    path.write_text(json.dumps(record, indent=2) + '\n')


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--networks', nargs='+', default=NETWORKS)
  parser.add_argument('--batches', nargs='+', type=int, default=BATCHES)
  parser.add_argument('--size', type=int, default=32)
  parser.add_argument('--matrix', type=int, default=8192)
  parser.add_argument('--python', type=Path, help='an interpreter with torch')
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--seconds', type=float, default=0.5, help='of a round')
  parser.add_argument('--minutes', type=float, default=9)
  parser.add_argument('--out', type=Path, help='also write results as JSON')
  arguments = parser.parse_args()

  begun = time.monotonic()
  torch = arguments.python and Torch(arguments.python)
  device = jax.devices()[0]
  rate = matrix_rate(arguments.matrix, arguments.seconds)
  record = {
    'machine': f'{platform.machine()}, {device.device_kind}',
    'versions': {
      name: metadata.version(name) for name in ('jax', 'jaxlib', 'flax')
    },
    'torch': torch.version if torch else None,
    'matrix_flops_per_second': rate,
    'rows': [],
    'not_run': [],
  }
  print(
    f'{record["machine"]}, jax {record["versions"]["jax"]}, torch '
    f'{record["torch"] or "not run"}; bfloat16 matrices of '
    f'{arguments.matrix}: {rate / 1e12:.2f} TFLOP/s'
  )
  for batch in arguments.batches:
    for network in arguments.networks:
      title = f'{network}, batch {batch} of {arguments.size}x{arguments.size}'
      late = time.monotonic() - begun > 60 * arguments.minutes
      if late and record['rows']:
        record['not_run'].append(f'{title}: out of time')
        print(f'{title}: not run, out of time')
        continue
      flops = training_flops(network, arguments.size)
      rows, notes = run_case(network, batch, arguments, torch)
      print(title)
      for row in rows:
        speed = batch / row['seconds']
        row.update(
          network=network,
          batch=batch,
          images_per_second=speed,
          share_of_matrix_rate=speed * flops / rate,
        )
        record['rows'].append(row)
        print(
          f'  {row["variant"]:<18} {speed:>10,.0f} images/s '
          f'({batch / row["high"]:,.0f}-{batch / row["low"]:,.0f}), '
          f'{row["share_of_matrix_rate"]:.1%} of the matrix rate'
          + (
            f', {row["peak_bytes"] / 2**30:.1f} GiB'
            if row['peak_bytes']
            else ''
          )
        )
      for name, reason in notes.items():
        record['not_run'].append(f'{title}, {name}: {reason}')
        print(f'  {name:<18} not run: {reason}')
      save(record, arguments.out)  # each time, for the call may be cut
  save(record, arguments.out)


if __name__ == '__main__':
  main()
