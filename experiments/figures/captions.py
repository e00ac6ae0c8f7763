"""What figures of runs say beside their panels: names, test set, n, seeds."""

import math
from collections.abc import Sequence

from experiments.figures.inputs import Inputs
from mollify_jax.corruptions.severities import CORRUPTIONS
from mollify_jax.evaluation import corruption_tables as tables
from mollify_jax.evaluation import plots

# Inches of a legend's entry without its letters, and of a letter of 8 points.
_ENTRY, _LETTER = 0.6, 0.066


def legend(figure, handles: Sequence, methods: Sequence[plots.Method]) -> None:
  """One legend above the panels, in as many columns as fit a page."""
  made = figure.legend(
    handles,
    [method.title for method in methods],
    loc='outside upper center',
    ncols=_legend_columns(methods),
    fontsize=8,
    frameon=False,
  )
  for text in made.get_texts():
    text.set_parse_math(False)  # names are not formulas


def legend_height(methods: Sequence[plots.Method]) -> float:
  """Inches that the legend takes."""
  return 0.17 * math.ceil(len(methods) / _legend_columns(methods))


def _legend_columns(methods):
  longest = max(len(method.title) for method in methods)
  fit = int(plots.PAGE / (_ENTRY + _LETTER * longest))
  return max(1, min(fit, len(methods)))


def below(figure, inputs: Inputs, names: Sequence[str], note: str = '') -> None:
  """The test set, what a mean is over, and what bands and bars are."""
  run = inputs.runs[0]
  count = next(iter(tables.cells(run).values())).get('n')
  share = f'{len(names)}'
  if len(names) < len(CORRUPTIONS):
    share += f' of {len(CORRUPTIONS)}'
  lines = [
    f'{tables.describe(*inputs.runs)}, {share} corruptions, '
    f'n = {count:,} images per corruption and severity'
  ]
  if note:
    lines.append(note)
  if any(len(method.runs) > 1 for method in inputs.methods):
    lines.append('mean ± standard deviation over seeds')
  figure.supxlabel('\n'.join(lines), fontsize=7, parse_math=False)
