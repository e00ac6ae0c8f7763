r"""Lets one run train for half an hour and watches what must not grow.

  python -m experiments.trust.soak
  python -m experiments.trust.soak --minutes=600 --out=soak.json

A run on scikit-learn's digits that evaluates and saves a checkpoint every few
seconds. Every five seconds its resident memory, threads, open files and the
files in its workdir are looked at (Linux: /proc), and of every cycle, from one
evaluation to the next, the CPU time, the wall time, and the work: CPU time over
that of a fixed computation, for a machine that others use slows down and speeds
up. Slopes are the medians of the slopes of all pairs (Theil and Sen) after a
warm-up of a sixth, with the interval that holds 95 of 100 when cycles and
samples are drawn again in blocks of two minutes. At the end the run gets
SIGTERM and is resumed. Exits with status 1 if memory grows by more than 64 KiB
per checkpoint, if the work of a cycle is shown to grow by more than three per
cent an hour, if files, threads or checkpoints pile up, or if the end is not in
order.
"""

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from experiments.trust.kills import start
from mollify_jax.evaluation import reports

FLAGS = (
  '--config=configs/digits.py',
  '--config.epochs=1000000',
  '--config.steps_per_call=22',
  '--config.checkpoint_every_steps=440',
  '--config.eval.every_epochs=20',
  '--config.eval.temperatures=(0.2,0.5)',
  '--config.eval.corruptions=none',
)
KEEP = 2  # config.keep_checkpoints
STEPS_PER_CYCLE = 440
TRENDS = (
  'memory_mib',
  'cpu_seconds_per_cycle',
  'work_per_cycle',
  'seconds_per_cycle',
)
TICKS = os.sysconf('SC_CLK_TCK')
MEBIBYTE = 2**20


def yardstick() -> float:
  """CPU seconds of the same work every time: how slow the machine is."""
  matrix = np.random.default_rng(0).normal(size=(300, 300))
  start = time.process_time()
  for _ in range(10):
    np.sort(matrix @ matrix, axis=0)
  return time.process_time() - start


def cpu_seconds(pid: int) -> float:
  """User and system time so far, of all threads."""
  fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
  return (int(fields[11]) + int(fields[12])) / TICKS


def resources(pid: int) -> dict[str, float]:
  status = dict(
    line.split(':', 1)
    for line in Path(f'/proc/{pid}/status').read_text().splitlines()
  )
  return {
    'memory_mib': int(status['VmRSS'].split()[0]) / 1024,
    'threads': int(status['Threads']),
    'open_files': len(os.listdir(f'/proc/{pid}/fd')),
  }


def disk(workdir: Path) -> dict[str, float]:
  """What lies in the workdir; files may vanish while they are counted."""
  sizes = {}
  for folder, _, names in os.walk(workdir):
    for name in names:
      path = Path(folder) / name
      try:
        sizes[path] = path.stat().st_size
      except FileNotFoundError:
        continue
  journal = sum(v for p, v in sizes.items() if p.name == 'metrics.jsonl')
  checkpoints = workdir / 'checkpoints'
  return {
    'files': len(sizes),
    'mib_but_journal': (sum(sizes.values()) - journal) / MEBIBYTE,
    'journal_mib': journal / MEBIBYTE,
    'checkpoints': len(list(checkpoints.glob('*')))
    if checkpoints.exists()
    else 0,
  }


def watch(
  process: subprocess.Popen,
  workdir: Path,
  seconds: float,
  beyond: float = math.inf,
):
  """Looks at the run until `seconds` are over -> samples, cycles.

  Or until it has evaluated a step after `beyond`.
  """
  journal = workdir / 'metrics.jsonl'
  samples, cycles = [], []
  begun, next_sample = time.monotonic(), 0.0
  place, rest = 0, ''
  while (now := time.monotonic() - begun) < seconds:
    if cycles and cycles[-1]['step'] > beyond:
      break
    if process.poll() is not None:
      sys.exit(f'the run ended:\n{process.communicate()[1]}')
    if now >= next_sample:
      samples.append({'at': now, **resources(process.pid), **disk(workdir)})
      next_sample = now + 5
    if journal.exists():
      with journal.open() as file:
        file.seek(place)
        lines = (rest + file.read()).split('\n')
        place = file.tell()
      rest = lines.pop()
      for line in map(json.loads, lines):
        if line['event'] == 'evaluate':
          cpu = cpu_seconds(process.pid)
          cycles.append(
            {
              'at': now,
              'cpu': cpu,
              'step': line['step'],
              'yardstick': yardstick(),
            }
          )
    time.sleep(0.02)
  return samples, cycles


def slope(at: np.ndarray, values: np.ndarray) -> float:
  """Theil and Sen's, per hour."""
  one, two = np.triu_indices(len(at), 1)
  apart = at[two] - at[one]
  use = apart > 0
  return float(np.median((values[two] - values[one])[use] / apart[use]) * 3600)


def trend(at, values, warm_up: float) -> dict[str, float]:
  """Level, slope per hour and its interval, by a bootstrap of blocks."""
  at, values = np.asarray(at), np.asarray(values, float)
  use = at >= warm_up
  at, values = at[use], values[use]
  blocks = np.split(
    np.arange(len(at)),
    np.flatnonzero(np.diff(at // 120)) + 1,
  )
  generator = np.random.default_rng(0)
  drawn = []
  for _ in range(200):
    chosen = generator.integers(0, len(blocks), len(blocks))
    rows = np.concatenate([blocks[i] for i in chosen])
    if np.ptp(at[rows]):
      drawn.append(slope(at[rows], values[rows]))
  low, high = np.percentile(drawn, [2.5, 97.5])
  return {
    'median': float(np.median(values)),
    'least': float(values.min()),
    'most': float(values.max()),
    'slope_per_hour': slope(at, values),
    'slope_low': float(low),
    'slope_high': float(high),
  }


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--minutes', type=float, default=30)
  parser.add_argument('--out', type=Path, help='also write the figures as JSON')
  arguments = parser.parse_args()
  seconds = 60 * arguments.minutes
  warm_up = seconds / 6
  faults = []
  with tempfile.TemporaryDirectory() as folder:
    workdir = Path(folder) / 'run'
    process = start(workdir, FLAGS)
    samples, cycles = watch(process, workdir, seconds)
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    said = process.communicate()[1]
    stop_seconds = time.monotonic() - asked
    if process.returncode != 75:
      faults.append(f'SIGTERM: status {process.returncode}\n{said}')
    process = start(workdir, FLAGS)
    _, resumed = watch(process, workdir, 300, beyond=cycles[-1]['step'])
    process.kill()
    process.communicate()
  if not resumed or resumed[-1]['step'] <= cycles[-1]['step']:
    faults.append('the resumed run did not go on from where it was')

  column = {name: [s[name] for s in samples] for name in samples[0]}
  ends = {name: np.asarray([c[name] for c in cycles]) for name in cycles[0]}
  found = {
    'memory_mib': trend(column['at'], column['memory_mib'], warm_up),
    'cpu_seconds_per_cycle': trend(
      ends['at'][1:], np.diff(ends['cpu']), warm_up
    ),
    'work_per_cycle': trend(
      ends['at'][1:],
      np.diff(ends['cpu']) / (ends['yardstick'][1:] + ends['yardstick'][:-1]),
      warm_up,
    ),
    'seconds_per_cycle': trend(ends['at'][1:], np.diff(ends['at']), warm_up),
  }
  per_hour = len(cycles) / ends['at'][-1] * 3600
  kib = found['memory_mib']['slope_per_hour'] * 1024 / per_hour
  if kib > 64:
    faults.append('memory grows')
  work = found['work_per_cycle']
  if work['slope_per_hour'] > 0.03 * work['median'] and work['slope_low'] > 0:
    faults.append('the work of a cycle grows')
  late = [s for s in samples if s['at'] >= warm_up]
  quarter = len(late) // 4
  for name in ('threads', 'open_files', 'files', 'mib_but_journal'):
    first = max(s[name] for s in late[:quarter])
    last = min(s[name] for s in late[-quarter:])
    found[name] = {'most': max(s[name] for s in late), 'first': first}
    if last > first:
      faults.append(f'{name} grow')
  # The one being written, and the one about to be deleted.
  most = max(column['checkpoints'])
  if most > KEEP + 2:
    faults.append(f'{most} checkpoints')
  steps = cycles[-1]['step']
  record = {
    'minutes': arguments.minutes,
    'steps': steps,
    'evaluations': len(cycles),
    'checkpoints_written': steps // STEPS_PER_CYCLE,
    'most_checkpoints': most,
    'journal_bytes_per_step': column['journal_mib'][-1] * MEBIBYTE / steps,
    'memory_kib_per_checkpoint': kib,
    'stop_seconds': stop_seconds,
    **found,
    'faults': faults,
    'environment': reports.environment(jax.devices('cpu')),
  }
  print(
    f'{arguments.minutes:g} minutes: {steps:,} steps, {len(cycles)} '
    f'evaluations, {record["checkpoints_written"]} checkpoints (at most {most} '
    'at a time)'
  )
  for name in TRENDS:
    values = found[name]
    print(
      f'{name}: median {values["median"]:.3f}, from {values["least"]:.3f} to '
      f'{values["most"]:.3f}; slope {values["slope_per_hour"]:+.3f} an hour '
      f'({values["slope_low"]:+.3f} to {values["slope_high"]:+.3f})'
    )
  print(f'memory per checkpoint: {kib:+.1f} KiB')
  print(
    f'threads at most {found["threads"]["most"]}, open files '
    f'{found["open_files"]["most"]}, files {found["files"]["most"]}, '
    f'{found["mib_but_journal"]["most"]:.1f} MiB and '
    f'{record["journal_bytes_per_step"]:.0f} bytes of metrics.jsonl a step; '
    f'SIGTERM took {stop_seconds:.1f} s'
  )
  print(f'faults: {len(faults)}')
  for fault in faults:
    print(fault)
  if arguments.out:
    arguments.out.write_text(json.dumps(record, indent=2) + '\n')
  sys.exit(bool(faults))


if __name__ == '__main__':
  main()
