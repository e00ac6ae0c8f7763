r"""Draws the figures of a paper as PNG, SVG and PDF.

  python -m experiments.figures NAME [WORKDIR ...] --out=DIR
  python -m experiments.figures all experiments/digits/results.json --out=DIR

NAME is one of augmentations, corruptions, sequences, method (images), severity,
ablations, reliability (finished runs); `all` draws those that its inputs allow.
A WORKDIR may also be a JSON file of records. Runs that differ in nothing but
their seed are one method. Images are scikit-learn's digits, or those of
--config=FILE.py, or of --data=NAME --path=... as in config.data.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

from experiments.figures import (
  ablations,
  augmentations,
  corruptions,
  method,
  reliability,
  sequences,
  severity,
)
from experiments.figures.inputs import Inputs, NotGivenError
from mollify_jax import errors, parallel
from mollify_jax.evaluation import plots

FIGURES = MappingProxyType(
  {
    'augmentations': augmentations.make,
    'corruptions': corruptions.make,
    'sequences': sequences.make,
    'method': method.make,
    'severity': severity.make,
    'ablations': ablations.make,
    'reliability': reliability.make,
  }
)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
  """The arguments of the command.

  Raises:
    ValueError: one line of what is wrong.
  """
  parser = errors.ArgumentParser(
    prog='python -m experiments.figures',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('name', help=f'all, {", ".join(FIGURES)}')
  parser.add_argument(
    'workdirs',
    nargs='*',
    type=Path,
    metavar='WORKDIR',
    help='a finished run, or a JSON file of one record or a list of them',
  )
  parser.add_argument('--out', type=Path, required=True, help='folder')
  parser.add_argument('--config', default='', help='FILE.py or FILE.py:VARIANT')
  parser.add_argument('--data', default='', help='as config.data.name')
  parser.add_argument('--path', default='', help='as config.data.path')
  parser.add_argument('--data_dir', default='', help='as config.data.data_dir')
  parser.add_argument('--image_size', type=int, default=0, help='of a folder')
  parser.add_argument(
    '--image', type=int, default=0, help='which test image is shown'
  )
  parser.add_argument('--seed', type=int, default=0, help='of what is drawn')
  parser.add_argument(
    '--corruptions', default='all', help='as config.eval.corruptions'
  )
  parser.add_argument('--steps', default='', help='augmentations, with commas')
  parser.add_argument(
    '--rows', type=int, default=1, help='images for each augmentation, to 8'
  )
  parser.add_argument(
    '--draws', type=int, default=10, help='of each augmentation, to 20'
  )
  parser.add_argument('--metric', default='error', help='of ablations')
  parser.add_argument('--method', default='', help='whose predictions to show')
  values = parser.parse_intermixed_args(arguments)
  if values.name not in ('all', *FIGURES):
    raise ValueError(
      f'unknown figure {values.name!r}; choose from all, {", ".join(FIGURES)}'
    )
  if not 0 <= values.seed < 2**31:
    raise ValueError(f'--seed must be in [0, 2^31), got {values.seed!r}')
  return values


def draw(name: str, inputs: Inputs) -> list[Path]:
  """Draws one figure; returns its files.

  Raises:
    NotGivenError: it needs an input that was not named.
    ValueError, TypeError, OSError: it cannot be drawn of what was named.
  """
  figure = FIGURES[name](inputs)
  inputs.arguments.out.mkdir(parents=True, exist_ok=True)
  return plots.save_for_print(figure, inputs.arguments.out / name)


def main(arguments: Sequence[str]) -> int:
  """Draws what was asked for; returns the exit status."""
  try:
    values = parse(arguments)
    inputs = Inputs(values)
    parallel.cache_compilations(inputs.cache)
    if values.name != 'all':
      print(*draw(values.name, inputs), sep='\n')
      return 0
    for name in FIGURES:
      try:
        print(*draw(name, inputs), sep='\n')
      except NotGivenError as error:
        print(f'left out {name}: {errors.describe(error)}')
  except (ValueError, TypeError, OSError, ImportError) as error:
    print('error:', errors.describe(error), file=sys.stderr)
    return 1
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
