r"""Kills training runs without warning, again and again, and compares.

  python -m experiments.trust.kills
  python -m experiments.trust.kills --kills=100 --seed=1

A run on scikit-learn's digits is made once without disturbance. The same run is
then made again in other directories; its process gets SIGKILL at a moment of
one of the kinds below and is started again with the same command, until it
ends. Sometimes the newest checkpoint is damaged as well before the start. In
the end everything has to be as if nothing had happened: every array of the last
checkpoint bit for bit, every figure of the results, each step once in
metrics.jsonl with the same loss, and no temporary file. Exits with status 1 if
anything differs.
"""

import argparse
import collections
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

FLAGS = (
  '--config=configs/digits.py',
  '--config.epochs=6',
  '--config.steps_per_call=4',
  '--config.checkpoint_every_steps=8',
  '--config.eval.temperatures=(0.2,0.4,0.6)',
  '--config.eval.every_epochs=1',
  '--config.eval.corruptions=none',
)
LAST_STEP = 132
ROOT = Path(__file__).parents[2]


def start(workdir: Path, flags: Sequence[str] = FLAGS) -> subprocess.Popen[str]:
  """A run of the command, with stderr to be read."""
  return subprocess.Popen(
    [sys.executable, '-m', 'mollify_jax.main', *flags, f'--workdir={workdir}'],
    cwd=ROOT,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  )


def saved_steps(workdir: Path) -> list[int]:
  return sorted(
    int(path.name.removeprefix('step_'))
    for path in workdir.glob('checkpoints/step_*')
    if path.name.removeprefix('step_').isdecimal()
  )


# Moments at which to kill: kind -> whether it has come.
MOMENTS = {
  'starting': lambda workdir, seconds, wait: seconds > wait,
  'compiling': lambda workdir, seconds, wait: (
    (workdir / 'metrics.jsonl').exists() and seconds > wait / 5
  ),
  'training': lambda workdir, seconds, wait: (
    bool(saved_steps(workdir)) and seconds > wait
  ),
  'writing a checkpoint': lambda workdir, seconds, wait: any(
    'tmp' in path.name for path in workdir.glob('checkpoints/*')
  ),
  'evaluating': lambda workdir, seconds, wait: (
    LAST_STEP in saved_steps(workdir)
  ),
}


def kill_at(workdir: Path, kind: str, wait: float) -> bool:
  """Starts the run and kills it; False if it ended before the moment came."""
  process = start(workdir)
  begun = time.monotonic()
  while process.poll() is None:
    if MOMENTS[kind](workdir, time.monotonic() - begun, wait):
      process.send_signal(signal.SIGKILL)
      process.communicate()
      return process.returncode == -signal.SIGKILL
    time.sleep(0.001)
  if process.returncode:
    sys.exit(f'the run failed:\n{process.communicate()[1]}')
  return False


def damage(workdir: Path, choice: random.Random) -> str | None:
  """Truncates, empties or flips a bit in a file of the newest checkpoint."""
  steps = saved_steps(workdir)
  if len(steps) < 2 or (workdir / 'results.json').exists():
    return None  # nothing to go back to, or nobody to notice
  files = [
    path
    for path in (workdir / 'checkpoints' / f'step_{steps[-1]}').rglob('*')
    if path.is_file() and path.stat().st_size
  ]
  # Mostly what holds the values, which is the largest file.
  path = choice.choice(
    [*files, *[max(files, key=os.path.getsize)] * len(files)]
  )
  data = bytearray(path.read_bytes())
  kind = choice.choice(['truncated', 'emptied', 'flipped'])
  if kind == 'flipped':
    data[choice.randrange(len(data))] ^= 1 << choice.randrange(8)
  else:
    del data[0 if kind == 'emptied' else choice.randrange(len(data)) :]
  path.write_bytes(bytes(data))
  return kind


def finish(workdir: Path) -> str:
  """Runs to the end; what it said."""
  process = start(workdir)
  said = process.communicate()[1]
  if process.returncode:
    sys.exit(f'the run failed:\n{said}')
  return said


def last_state(workdir: Path):
  logging.getLogger('absl').setLevel(logging.ERROR)
  manager = ocp.CheckpointManager(
    (workdir / 'checkpoints').absolute(),
    options=ocp.CheckpointManagerOptions(step_prefix='step', read_only=True),
  )
  tree = manager.restore(LAST_STEP, args=ocp.args.StandardRestore())
  manager.close()
  return tree


def differences(one, two, where='') -> list[str]:
  """Places at which two trees are not the same, bit for bit."""
  if isinstance(one, dict) and isinstance(two, dict):
    names = one.keys() | two.keys()
    return [
      line
      for name in sorted(names)
      for line in differences(one.get(name), two.get(name), f'{where}/{name}')
    ]
  if isinstance(one, (list, tuple)) and isinstance(two, (list, tuple)):
    if len(one) != len(two):
      return [f'{where}: {len(one)} and {len(two)} entries']
    pairs = enumerate(zip(one, two, strict=True))
    return [
      line for i, (a, b) in pairs for line in differences(a, b, f'{where}/{i}')
    ]
  if isinstance(one, np.ndarray):
    same = one.dtype == two.dtype and one.tobytes() == two.tobytes()
  else:
    same = one == two
  return [] if same else [f'{where} differs']


def outcome(workdir: Path):
  """All that must not depend on kills."""
  results = json.loads((workdir / 'results.json').read_text())
  for name in ('seconds', 'images_per_second'):
    del results[name]  # wall time
  for name in ('environment', 'evaluation_environment'):
    del results[name]['commit']  # somebody may work on the repository
  lines = [
    json.loads(line)
    for line in (workdir / 'metrics.jsonl').read_text().splitlines()
  ]
  for line in lines:
    line.pop('seconds', None)
    line.pop('images_per_second', None)
  return {'state': last_state(workdir), 'results': results, 'metrics': lines}


def leftovers(workdir: Path) -> list[str]:
  """Temporary files and directories."""
  return [
    str(path.relative_to(workdir))
    for path in workdir.rglob('*')
    if 'unreadable_checkpoints' not in path.parts
    and ('tmp' in path.name or path.name.startswith('.'))
    and path.name != '.lock'
  ]


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--kills', type=int, default=25)
  parser.add_argument('--per_run', type=int, default=7, help='kills of a run')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--out', type=Path, help='also write counts as JSON')
  arguments = parser.parse_args()
  choice = random.Random(arguments.seed)
  kills, damaged = collections.Counter(), collections.Counter()
  runs, warnings, faults = 0, 0, []
  with tempfile.TemporaryDirectory() as folder:
    reference = Path(folder) / 'reference'
    begun = time.monotonic()
    finish(reference)
    whole = time.monotonic() - begun
    wanted = outcome(reference)
    while kills.total() < arguments.kills:
      runs += 1
      workdir = Path(folder) / f'run_{runs}'
      for _ in range(arguments.per_run):
        kind = choice.choice(list(MOMENTS))
        if not kill_at(workdir, kind, choice.uniform(0, whole)):
          break  # the run came to its end before the moment
        kills[kind] += 1
        print(f'{kills.total():3d} killed while {kind}', flush=True)
        if kills.total() % 4 == 0 and (done := damage(workdir, choice)):
          damaged[done] += 1
        if kills.total() == arguments.kills:
          break
      said = finish(workdir)
      warnings += said.count('warning: checkpoint')
      found = differences(wanted, outcome(workdir)) + [
        f'left behind: {name}' for name in leftovers(workdir)
      ]
      faults += [f'run {runs}: {line}' for line in found]
      shutil.rmtree(workdir)
  counts = ', '.join(f'{number} {kind}' for kind, number in kills.items())
  print(
    f'\n{kills.total()} kills ({counts}) over {runs} runs; '
    f'{damaged.total()} checkpoints damaged, {warnings} named in a warning at '
    f'the last start; differences: {len(faults)}'
  )
  for line in faults:
    print(line)
  if arguments.out:
    record = {
      'kills': kills,
      'runs': runs,
      'damaged': damaged,
      'differences': faults,
    }
    arguments.out.write_text(json.dumps(record, indent=2) + '\n')
  sys.exit(bool(faults))


if __name__ == '__main__':
  main()
