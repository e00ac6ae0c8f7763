"""Reliability diagrams per method: clean images above, corrupted ones below."""

import math
import textwrap

import numpy as np

from experiments.figures import captions
from experiments.figures.ablations import group_mean
from experiments.figures.inputs import Inputs
from mollify_jax.corruptions.severities import SEVERITIES
from mollify_jax.evaluation import corruption_plots, plots
from mollify_jax.evaluation import corruption_tables as tables

_COLUMNS = 4
ROWS = ('clean', 'corrupted')


def make(inputs: Inputs):
  """Accuracy by confidence, ECE and the share of the examples, per method.

  Bins are summed over corruptions, severities and seeds. The pooled ECE is that
  of each seed's sums, where over- and under-confidence of different cells
  cancel; the mean is over cells, as in tables. Both +- std over seeds.

  Raises:
    ValueError, OSError: as `Inputs`; see `corruption_plots.shared_corruptions`;
      a record without bins.
  """
  names = corruption_plots.shared_corruptions(inputs.runs)
  methods = inputs.methods
  columns = min(len(methods), _COLUMNS)
  blocks = math.ceil(len(methods) / columns)
  figure = plots.new_figure(
    plots.PAGE,
    4.35 * blocks + 0.65,
    layout='constrained',
  )
  grid = figure.add_gridspec(
    4 * blocks, _COLUMNS, height_ratios=[3, 1] * 2 * blocks
  )
  histograms = []
  for place, method in enumerate(methods):
    block, column = divmod(place, columns)
    for row, kind in enumerate(ROWS):
      seeds_bins = [bins_of(run, kind, names) for run in method.runs]
      top, bottom = (
        figure.add_subplot(grid[4 * block + 2 * row + half, column])
        for half in (0, 1)
      )
      histograms.append(bottom)
      top.set_label(f'{method.name}, {kind}')
      plots.fill_reliability(top, bottom, plots.pool_bins(seeds_bins))
      mean, deviation = plots.mean_and_std(
        [plots.pooled_ece(bins) for bins in seeds_bins]
      )
      told = f'ECE {_show(mean, deviation)}'
      if kind == 'corrupted':  # of single cells, errors of opposite sign stay
        mean, deviation = plots.mean_and_std(
          [group_mean(run, names, 'ece') for run in method.runs]
        )
        told = f'pooled {told}\nmean ECE {_show(mean, deviation)}'
      if row == 0:
        name = textwrap.wrap(method.title.replace(',', ', '), 24)
        told = '\n'.join([*name, told])
      top.set_title(told, fontsize=7.5, parse_math=False)
      for panel in (top, bottom):
        panel.tick_params(labelsize=7)
        panel.set_xticks([0, 0.5, 1])
      top.set_yticks([0, 0.5, 1])
      top.set_xticklabels([])
      bottom.set_xticklabels(['0', '0.5', '1'])
      if column == 0:
        top.set_ylabel(f'{kind}:\naccuracy', fontsize=8)
        bottom.set_ylabel('share', fontsize=8)
      else:
        top.set_yticklabels([])
      if row == 1:
        bottom.set_xlabel('confidence', fontsize=8)
      handles, labels = top.get_legend_handles_labels()
  # One scale for all, as far as the largest bin.
  highest = max(bar.get_height() for p in histograms for bar in p.patches)
  highest = math.ceil(10 * highest) / 10
  for place, panel in enumerate(histograms):
    panel.set_ylim(0, highest)
    ticks = ['0', f'{highest:g}'] if place // 2 % columns == 0 else ['', '']
    panel.set_yticks([0, highest], ticks)
  figure.legend(
    handles,
    labels,
    loc='outside upper center',
    ncols=2,
    fontsize=8,
    frameon=False,
  )
  clean = tables.clean_condition(inputs.runs[0]).get('n')
  captions.below(
    figure,
    inputs,
    names,
    f'clean: n = {clean:,}; corrupted: all corruptions and severities in one '
    'diagram; ECE of 15 bins',
  )
  return figure


def _show(mean, deviation):
  spread = '' if deviation is None else f' ± {deviation:.3f}'
  return f'{mean:.3f}{spread}'


def bins_of(run, kind: str, names) -> dict[str, np.ndarray]:
  """The bins of the clean test set or of all corrupted ones of a run.

  Args:
    run: a record.
    kind: in `ROWS`.
    names: the corruptions that are summed.

  Raises:
    ValueError: the record lacks bins, or they hold no examples.
  """
  cells = tables.cells(run)
  chosen = (
    [tables.clean_condition(run)]
    if kind == 'clean'
    else [cells[name, severity] for name in names for severity in SEVERITIES]
  )
  try:
    bins = plots.pool_bins([cell['bins'] for cell in chosen])
    shapes = {values.shape for values in bins.values()}
  except (KeyError, TypeError, ValueError):
    shapes = None
  if shapes != {(16,)}:
    raise ValueError(
      f'the record of {run["method"]!r} lacks bins of 16 for reliability '
      'diagrams; evaluate the run again'
    )
  if not bins['count'].sum() > 0:
    raise ValueError(f'no examples in the bins of {run["method"]!r}, {kind}')
  return bins
