"""One metric by group of corruptions: a row per method, in the order given."""

import textwrap

import numpy as np

from experiments.figures import captions
from experiments.figures.inputs import Inputs
from mollify_jax.evaluation import corruption_plots, plots
from mollify_jax.evaluation import corruption_tables as tables


def make(inputs: Inputs):
  """Bars for clean images, each group and all; whiskers: +- std over seeds.

  Raises:
    ValueError, OSError: as `Inputs`; see `corruption_plots.shared_corruptions`;
      an unknown --metric.
  """
  metric = inputs.arguments.metric
  if metric not in tables.METRICS:
    raise ValueError(
      f'unknown --metric={metric!r}; choose from {", ".join(tables.METRICS)}'
    )
  names = corruption_plots.shared_corruptions(inputs.runs)
  first, *others = corruption_plots.corruption_groups(names).items()
  groups = {'clean': (), **dict(others), first[0]: first[1]}
  titles = [
    '\n'.join(textwrap.wrap(method.title.replace(',', ', '), 24))
    for method in inputs.methods
  ]
  lines = sum(max(1, 0.62 * (title.count('\n') + 1)) for title in titles)
  figure = plots.new_figure(
    plots.PAGE, 0.25 * lines + 0.85, layout='constrained'
  )
  panels = figure.subplots(1, len(groups), sharey=True)
  place = np.arange(len(titles))
  for panel, (title, chosen) in zip(panels, groups.items(), strict=True):
    for row, (method, style) in enumerate(plots.styled(inputs.methods)):
      mean, deviation = plots.mean_and_std(
        [group_mean(run, chosen, metric) for run in method.runs]
      )
      panel.barh(
        row,
        mean,
        0.7,
        xerr=deviation,
        color=style.color,
        hatch=style.hatch,
        edgecolor='white' if style.hatch else style.color,
        linewidth=0,
        error_kw={'linewidth': 1, 'capsize': 2, 'ecolor': '#606060'},
        label=method.name,
      )
      reach = mean + (0 if deviation is None else deviation)
      panel.annotate(
        _show(metric, mean),
        (max(reach, 0) if np.isfinite(reach) else 0, row),
        (2, 0),
        textcoords='offset points',
        va='center',
        fontsize=6.5,
      )
    panel.set_title(title, fontsize=8)
    panel.margins(x=0.35)
    panel.tick_params(labelsize=7)
    panel.spines[['top', 'right']].set_visible(False)
    if metric != 'gap':
      panel.set_xlim(left=0)
    panel.locator_params(axis='x', nbins=3)
  panels[0].set_yticks(place, titles, parse_math=False)
  panels[0].set_ylim(len(titles) - 0.45, -0.55)
  captions.below(
    figure, inputs, names, f'{tables.METRICS[metric].title}, mean of severities'
  )
  return figure


def group_mean(run, names, metric: str) -> float:
  """A metric averaged over corruptions and severities; in %, if the error.

  Args:
    run: a record.
    names: of the corruptions; () is the clean test set.
    metric: a name in `corruption_tables.METRICS`.
  """
  scale = 100 if metric == 'error' else 1
  means = tables.severity_means(run, names)
  chosen = means[1:] if names else means[:1]
  return scale * float(np.mean([row[metric] for row in chosen]))


def _show(metric, value):
  if not np.isfinite(value):
    return '-'
  return f'{value:.1f}' if metric == 'error' else tables.show(metric, value)
