"""What figures of runs say beside their panels: names, test set, n, seeds."""

from collections.abc import Sequence

from experiments.figures.inputs import Inputs
from mollify_jax.corruptions.severities import CORRUPTIONS
from mollify_jax.evaluation import corruption_tables as tables
from mollify_jax.evaluation import seeds

_COLUMNS = 4


def legend(figure, handles: Sequence, methods: Sequence[seeds.Method]) -> None:
  """One legend above the panels, in rows of four."""
  made = figure.legend(
    handles,
    [method.title for method in methods],
    loc='outside upper center',
    ncols=min(len(methods), _COLUMNS),
    fontsize=8,
    frameon=False,
  )
  for text in made.get_texts():
    text.set_parse_math(False)  # names are not formulas


def legend_height(methods: Sequence[seeds.Method]) -> float:
  """Inches that the legend takes."""
  return 0.17 * -(-len(methods) // _COLUMNS)


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
