r"""How long a run takes to start, with no compiled programs kept and with them.

  python -m experiments.speed.startup
  python -m experiments.speed.startup --config.model=wrn_16_1 \
    --out=experiments/speed/startup.json

Trains digits for one epoch by the command of the README, twice in a round: the
first start in a new folder, the second beside it, with the programs that the
first has left in `mollify_cache`. From the start of the process to the first
training step, as metrics.jsonl tells it, and to its end, which is after the
evaluation and the pictures: wall time and CPU time, the latter of all its
threads. Medians over rounds with quartiles. What follows `--config.` goes to
the trainer. Needs Linux, whose /proc tells the CPU time of a process.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from experiments.speed.loops import processor
from mollify_jax.evaluation import reports

ROOT = Path(__file__).parents[2]
CONFIG = (
  '--config=configs/digits.py',
  '--config.epochs=1',
  '--config.steps_per_call=1',  # so that every step is told when it is done
  '--config.eval.corruptions=none',
)
FIGURES = ('wall to step 1', 'CPU to step 1', 'wall', 'CPU')


def cpu_seconds(pid: int) -> float:
  """CPU time of a running process until now, its threads' included."""
  fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
  ticks = int(fields[11]) + int(fields[12])  # in user and in system mode
  return ticks / os.sysconf('SC_CLK_TCK')


def start_run(workdir: Path, flags: list[str]) -> dict[str, float]:
  """FIGURES of one run, in seconds.

  Raises:
    RuntimeError: it failed, or ended without a step.
  """
  environment = {
    name: value
    for name, value in os.environ.items()
    if name != 'JAX_COMPILATION_CACHE_DIR'
  }
  with tempfile.TemporaryFile('w+') as said:
    begun = time.monotonic()
    process = subprocess.Popen(
      [
        *(sys.executable, '-m', 'mollify_jax.main', f'--workdir={workdir}'),
        *CONFIG,
        *flags,
      ],
      cwd=ROOT,
      stdout=said,
      stderr=said,
      env={**environment, 'JAX_PLATFORMS': 'cpu'},
    )
    found, journal = {}, workdir / 'metrics.jsonl'
    while True:
      pid, status, usage = os.wait4(process.pid, os.WNOHANG)
      if pid:
        process.returncode = os.waitstatus_to_exitcode(status)
        break
      if not found and journal.exists() and journal.stat().st_size:
        found['wall to step 1'] = time.monotonic() - begun
        found['CPU to step 1'] = cpu_seconds(process.pid)
      time.sleep(0.01)
    found['wall'] = time.monotonic() - begun
    found['CPU'] = usage.ru_utime + usage.ru_stime
    if process.returncode or len(found) < len(FIGURES):
      said.seek(0)
      raise RuntimeError(f'a run failed: {said.read()[-3000:]}')
  return found


def count_programs(folder: Path) -> int:
  """Compiled programs that are kept there."""
  return len(list(folder.glob('mollify_cache/compiled_*/*-cache')))


def main():
  parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--out', type=Path, help='also write results as JSON')
  arguments, flags = parser.parse_known_args()
  for flag in flags:
    if not flag.startswith('--config.'):
      parser.error(f'{flag!r} is neither of this script nor a --config.FIELD')
  found = {'first': [], 'second': []}
  programs = {name: [] for name in found}
  for _ in range(arguments.rounds):
    with tempfile.TemporaryDirectory() as folder:
      before = 0
      for name in found:
        found[name].append(start_run(Path(folder, name), flags))
        kept = count_programs(Path(folder))
        programs[name].append(kept - before)
        before = kept
  record = {
    'processor': processor(),
    'environment': reports.environment(jax.devices()),
    'rounds': arguments.rounds,
    'flags': [*CONFIG, *flags],
    'rows': [],
  }
  print(f'{record["processor"]}, jax {record["environment"]["jax"]}; seconds')
  for name, runs in found.items():
    row = {'start': name, 'programs_written': programs[name]}
    for figure in FIGURES:
      low, median, high = np.quantile(
        [run[figure] for run in runs], [0.25, 0.5, 0.75]
      )
      row[figure] = {'seconds': median, 'low': low, 'high': high}
    record['rows'].append(row)
    print(
      f'{name:<8}'
      + '; '.join(
        f'{figure} {row[figure]["seconds"]:.1f} '
        f'({row[figure]["low"]:.1f}-{row[figure]["high"]:.1f})'
        for figure in FIGURES
      )
      + f'; {programs[name]} programs written'
    )
  if arguments.out:
    reports.write_json(arguments.out, record)


if __name__ == '__main__':
  main()
