r"""Trains the four variants one after the other and tabulates them.

  python -m experiments.cpu_cifar10.run --archive=cifar10_jpeg.npz \
    --workdir=/tmp/cpu_cifar10

A finished variant is not trained again, and a cut one goes on, so the command
may be repeated. Each variant runs in a process of its own on two virtual CPU
devices, which keep two cores busier than one device's threads do.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from mollify_jax.evaluation import plots, reports

HERE = Path(__file__).parent
METHODS = ('plain', 'diffusion', 'blur', 'diffusion_blur')


def train(method: str, archive: Path, workdir: Path, flags: list[str]) -> None:
  """Runs one variant; its progress goes to the terminal."""
  devices = '--xla_force_host_platform_device_count=2'
  subprocess.run(
    [
      sys.executable,
      '-m',
      'mollify_jax.main',
      f'--config={HERE / "config.py"}:{method}',
      f'--config.data.path={archive}',
      f'--workdir={workdir / method}',
      *flags,
    ],
    env={**os.environ, 'XLA_FLAGS': devices, 'JAX_PLATFORMS': 'cpu'},
    check=True,
  )


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--archive', type=Path, required=True)
  parser.add_argument('--workdir', type=Path, required=True)
  parser.add_argument(
    '--out', type=Path, help='folder for results.json and the picture'
  )
  arguments, flags = parser.parse_known_args()
  for method in METHODS:
    train(method, arguments.archive, arguments.workdir, flags)
  runs = [
    reports.read_results(arguments.workdir / method / 'results.json')
    for method in METHODS
  ]
  print(reports.compare_table(runs))
  if arguments.out:
    reports.write_json(arguments.out / 'results.json', runs)
    plots.draw_comparison(arguments.out / 'comparison.png', runs)


if __name__ == '__main__':
  main()
