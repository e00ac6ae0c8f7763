r"""Trains a config's four variants, evaluates each, and tabulates them.

  python -m experiments.four_methods --config=configs/digits.py \
    --workdir=/tmp/digits --out=experiments/digits
  python -m experiments.four_methods --workdir=/tmp/cpu_cifar10 \
    --config=experiments/cpu_cifar10/config.py \
    --config.data.path=cifar10_jpeg.npz --out=experiments/cpu_cifar10

Further flags go to `mollify_jax.main`; with --mode=evaluate, finished trainings
are evaluated again. A finished variant is not trained again, and a cut one goes
on, so the command may be repeated. Each variant runs in a process of its own on
two virtual CPU devices, which keep two cores busier than one device's threads
do. With --tables_only nothing is run.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from mollify_jax.evaluation import (
  corruption_plots,
  corruption_tables,
  plots,
  reports,
)

METHODS = ('plain', 'diffusion', 'blur', 'diffusion_blur')


def run_method(method: str, config: str, workdir: Path, flags: list[str]):
  """Runs one variant; its progress goes to the terminal."""
  devices = '--xla_force_host_platform_device_count=2'
  subprocess.run(
    [
      sys.executable,
      '-m',
      'mollify_jax.main',
      f'--config={config}:{method}',
      f'--workdir={workdir / method}',
      *flags,
    ],
    env={**os.environ, 'XLA_FLAGS': devices, 'JAX_PLATFORMS': 'cpu'},
    check=True,
  )


def main():
  parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
  parser.add_argument('--config', required=True, help='FILE.py')
  parser.add_argument('--workdir', type=Path, required=True)
  parser.add_argument(
    '--out', type=Path, help='folder for results.json, tables and pictures'
  )
  parser.add_argument('--tables_only', action='store_true')
  arguments, flags = parser.parse_known_args()
  if not arguments.tables_only:
    for method in METHODS:
      run_method(method, arguments.config, arguments.workdir, flags)
  if arguments.out:
    arguments.out.mkdir(parents=True, exist_ok=True)
  runs = [
    reports.read_results(arguments.workdir / method / 'results.json')
    for method in METHODS
  ]
  if arguments.out:
    reports.write_json(arguments.out / 'results.json', runs)
    plots.draw_comparison(arguments.out / 'comparison.png', runs)
  print(reports.compare_table(runs))
  if all('corrupted' in run for run in runs):
    report_corruptions(runs, arguments.out)


def report_corruptions(runs, out: Path | None) -> None:
  """Error, NLL and ECE of the -C evaluation, in the poster's layout."""
  print(f'\n{corruption_tables.compare_metrics(runs)}')
  if out:
    for style, ending in (('markdown', 'md'), ('latex', 'tex')):
      text = corruption_tables.compare_metrics(runs, style)
      reports.write_whole(out / f'corruptions.{ending}', f'{text}\n'.encode())
    corruption_plots.draw_severity_curves(out / 'severities.png', runs)


if __name__ == '__main__':
  main()
