r"""What more devices cost: time per example, and bytes that are all-reduced.

  python -m experiments.speed.scaling
  python -m experiments.speed.scaling --network=preact_resnet18 --batch=16
  python -m experiments.speed.scaling --count preact_resnet50 wrn_16_1

The trainer's step at a fixed batch per device on 1, 2, 4 and 8 virtual CPU
devices of one process, and on two processes of one device each; every case in
processes of its own, all in turn, round after round. CPU time per example says
what a device more costs in work (virtual devices share the cores, so that wall
time says nothing). The bytes are counted in the compiled program, whose
all-reduces are listed with their sizes; the least that data parallelism needs
is every gradient once, parameters x 4 bytes, of which a ring sends about twice
as much over each link. `--count` compiles the steps of other networks for
`--devices` and counts alone: nothing is run, and what `--out` holds of the rest
stays.
"""

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from mollify_jax.evaluation import reports

ROOT = Path(__file__).parents[2]
# title -> processes, devices of each
CASES = {
  '1 device': (1, 1),
  '2 devices': (1, 2),
  '4 devices': (1, 4),
  '8 devices': (1, 8),
  '2 processes of 1': (2, 1),
}
BYTES = {'f32': 4, 's32': 4, 'u32': 4, 'bf16': 2, 'f16': 2, 'pred': 1}


def all_reduces(program: str) -> list[int]:
  """Bytes of each all-reduce of a compiled program.

  Those of one shape or of a tuple of shapes, as in
  `%all-reduce.3 = (f32[16]{0}, f32[3,3,16,16]{3,2,1,0}) all-reduce(...)`.
  """
  sizes = []
  for result in re.findall(
    r'= (.*?) all-reduce(?:-start)?\(', program, flags=re.MULTILINE
  ):
    sizes.append(0)
    for kind, dimensions in re.findall(r'(\w+)\[([\d,]*)\]', result):
      shape = [int(size) for size in dimensions.split(',') if size]
      sizes[-1] += BYTES[kind] * int(np.prod(shape, dtype=np.int64))
  return sizes


def reduced_bytes(program: str) -> tuple[int, int]:
  """All-reduces of a compiled program: how many, and their bytes together."""
  sizes = all_reduces(program)
  return len(sizes), sum(sizes)


def run_case(network, batch, size, processes, devices, seconds):
  """Its figures, from the first of its processes; CPU time of all of them."""
  with tempfile.TemporaryDirectory() as dump, socket.socket() as listener:
    listener.bind(('127.0.0.1', 0))
    port = listener.getsockname()[1]
    listener.close()
    flags = f'--xla_force_host_platform_device_count={devices}'
    children = [
      subprocess.Popen(
        [
          sys.executable,
          '-m',
          'experiments.speed.scaling_worker',
          network,
          str(batch * devices * processes),
          str(size),
          str(seconds),
          str(port),
          str(processes),
          str(i),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={
          **os.environ,
          'JAX_PLATFORMS': 'cpu',
          'XLA_FLAGS': f'{flags} --xla_dump_to={dump}/{i} '
          '--xla_dump_hlo_as_text',
        },
      )
      for i in range(processes)
    ]
    # The last line: gloo, where there are several, writes lines of its own.
    said = [child.communicate()[0].splitlines() for child in children]
    answers = [json.loads(lines[-1]) for lines in said]
    programs = [
      path.read_text()
      for path in Path(dump, '0').glob('*after_optimizations.txt')
    ]
    # The step's; no other program reduces as much.
    count, total = max(map(reduced_bytes, programs), key=lambda pair: pair[1])
  examples = answers[0]['steps'] * batch * devices * processes
  return {
    'cpu_ms_per_example': 1e3 * sum(a['cpu'] for a in answers) / examples,
    'parameters': answers[0]['parameters'],
    'all_reduces': count,
    'reduced_bytes': total,
  }


def count(network, batch, size, devices):
  """The all-reduces of one network's step, from a process that compiles it."""
  flags = f'--xla_force_host_platform_device_count={devices}'
  process = subprocess.run(
    [
      *(sys.executable, '-m', 'experiments.speed.scaling_count'),
      *(network, str(batch * devices), str(size)),
    ],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    text=True,
    check=True,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': flags},
  )
  return json.loads(process.stdout.splitlines()[-1])


def print_count(found):
  *small, largest = found['bytes_of_each']
  least = 4 * found['parameters']
  print(
    f'{found["network"]}, {found["devices"]} devices: {found["all_reduces"]} '
    f'all-reduces of {found["reduced_bytes"]:,} bytes, '
    f'{found["reduced_bytes"] / least:.3f} of the parameters; the largest '
    f'{largest:,}'
    + (
      f', the others {small[0]:,} to {small[-1]:,}, together {sum(small):,}'
      if small
      else ''
    )
    + f'; {found["normalisations"]} normalisations'
  )


def save(path, **parts):
  """Replaces these parts of the results and keeps the others."""
  if path is None:
    return
  record = json.loads(path.read_text()) if path.exists() else {}
  reports.write_json(path, {**record, **parts})


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--network', default='wrn_16_1')
  parser.add_argument('--batch', type=int, default=16, help='of each device')
  parser.add_argument('--size', type=int, default=32)
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--seconds', type=float, default=3.0)
  parser.add_argument('--count', nargs='+', help='networks only to compile')
  parser.add_argument('--devices', type=int, default=2, help='with --count')
  parser.add_argument('--out', type=Path, help='also write results as JSON')
  arguments = parser.parse_args()
  if arguments.count:
    counts = []
    for network in arguments.count:
      counts.append(
        count(network, arguments.batch, arguments.size, arguments.devices)
      )
      print_count(counts[-1])
    save(arguments.out, counts=counts)
    return
  found = {title: [] for title in CASES}
  for _ in range(arguments.rounds):
    for title, (processes, devices) in CASES.items():
      found[title].append(
        run_case(
          arguments.network,
          arguments.batch,
          arguments.size,
          processes,
          devices,
          arguments.seconds,
        )
      )
  rows = []
  one = np.median([f['cpu_ms_per_example'] for f in found['1 device']])
  for title, figures in found.items():
    low, median, high = np.quantile(
      [f['cpu_ms_per_example'] for f in figures], [0.25, 0.5, 0.75]
    )
    row = {**figures[0], 'case': title, 'cpu_ms_per_example': median}
    least = 4 * row['parameters']
    row.update(low=low, high=high, times_one=median / one, least_bytes=least)
    rows.append(row)
    print(
      f'{title:<18} {median:7.3f} ms of CPU an example ({low:.3f}-{high:.3f}), '
      f'{median / one:.2f}; {row["all_reduces"]} all-reduces of '
      f'{row["reduced_bytes"]:,} bytes, {row["reduced_bytes"] / least:.3f} of '
      'the parameters'
    )
  save(arguments.out, rows=rows)


if __name__ == '__main__':
  main()
