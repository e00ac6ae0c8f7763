"""The pictures of the common corruptions. Matplotlib is loaded inside."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mollify_jax.corruptions.severities import (
  CORRUPTIONS,
  EXTRA_CORRUPTIONS,
  GROUPS,
  SEVERITIES,
)
from mollify_jax.evaluation import corruption_tables as tables
from mollify_jax.evaluation.plots import (
  Method,
  fill_band,
  mean_and_std,
  new_figure,
  save,
  start_at_zero,
  styled,
)

_MISSING = '#e8e8e8'
_CURVES = ('error', 'nll', 'ece')
# Between groups of rows and before the means, in cells.
_GAP = 0.3


def draw_heat_map(
  path: str | os.PathLike, results: Mapping[str, Any], metric: str = 'error'
) -> None:
  """One figure of every corruption and severity, and the means beside it.

  The fifteen by group, the four extra ones below where they were run. Hatched:
  not measured.

  Args:
    path: of the PNG.
    results: a result record with a `corrupted` entry.
    metric: a name in `corruption_tables.METRICS`.

  Raises:
    ValueError: see `corruption_tables.summarize`; or an unknown metric.
  """
  if metric not in tables.METRICS:
    raise ValueError(
      f'unknown metric {metric!r}; choose from {", ".join(tables.METRICS)}'
    )
  import matplotlib
  from matplotlib.colors import Normalize

  summary = tables.summarize(results)
  cells = tables.cells(results)
  ran = {name for name, _ in cells}
  skipped = results['corrupted'].get('skipped') or {}
  groups = dict(GROUPS) if ran & set(CORRUPTIONS) else {}
  if ran & set(EXTRA_CORRUPTIONS):
    groups['extra'] = EXTRA_CORRUPTIONS
  rows = {}  # name -> five severities and their mean
  for name in [n for group in groups.values() for n in group]:
    mean = summary['corruptions'].get(name, {})
    rows[name] = [
      *(cells.get((name, s), {}).get(metric) for s in SEVERITIES),
      mean.get(metric),
    ]
  scale = 100 if metric == 'error' else 1
  known = [scale * v for row in rows.values() for v in row if _is_number(v)]
  largest = max(map(abs, known), default=0.0) or 1.0
  if metric == 'gap':  # signed: over-confident and under-confident
    colors = matplotlib.colormaps['PuOr_r']
    norm = Normalize(-largest, largest)
  else:
    colors = matplotlib.colormaps['YlGnBu']
    norm = Normalize(0.0, largest)

  height = len(rows) + _GAP * (len(groups) - 1)
  figure = new_figure(6.4, 0.3 * height + 1.3)
  panel = figure.add_subplot()
  columns = [*range(len(SEVERITIES)), len(SEVERITIES) + _GAP]
  top = 0.0
  ticks = {}
  for group, names in groups.items():
    panel.text(
      -1.72,
      top + len(names) / 2,
      group,
      rotation=90,
      ha='center',
      va='center',
      fontsize=9,
    )
    for name in names:
      ticks[name] = top + 0.5
      for left, value in zip(columns, rows[name], strict=True):
        _draw_cell(panel, left, top, value, metric, colors, norm)
      if name not in ran:
        panel.text(
          len(SEVERITIES) / 2,
          top + 0.5,
          'not available' if name in skipped else 'not run',
          ha='center',
          va='center',
          fontsize=8,
          bbox={'facecolor': 'white', 'edgecolor': 'none', 'pad': 1},
        )
      top += 1.0
    top += _GAP
  panel.set_xlim(0, columns[-1] + 1)
  panel.set_ylim(height, 0)
  panel.set_yticks(
    list(ticks.values()), [tables.row_title(name) for name in ticks]
  )
  panel.set_xticks(
    [left + 0.5 for left in columns], [*map(str, SEVERITIES), 'mean']
  )
  panel.set_xlabel('severity', fontsize=9)
  panel.tick_params(length=0, labelsize=8)
  for spine in panel.spines.values():
    spine.set_visible(False)
  title = _heat_map_title(results, summary, metric)
  panel.set_title(title, fontsize=9, parse_math=False)
  colorbar = figure.colorbar(
    matplotlib.cm.ScalarMappable(norm, colors),
    ax=panel,
    fraction=0.05,
    aspect=30,
  )
  colorbar.set_label(tables.METRICS[metric].title, fontsize=8)
  colorbar.ax.tick_params(labelsize=8)
  save(figure, path)


def draw_severity_curves(
  path: str | os.PathLike, methods: Sequence[Method]
) -> None:
  """Error, NLL and ECE against severity: all corruptions, and each group.

  Means over those of the fifteen that every run has whole, so that all curves
  of a panel are over the same images. A method is one curve, with a band of
  one standard deviation over its seeds.

  Args:
    path: of the PNG.
    methods: of result records with a `corrupted` entry, on one test set.

  Raises:
    ValueError: see `shared_corruptions`.
  """
  runs = [run for method in methods for run in method.runs]
  shared = shared_corruptions(runs)
  panels_of = corruption_groups(shared)
  figure = new_figure(2.2 * len(panels_of), 6.0)
  panels = figure.subplots(
    len(_CURVES), len(panels_of), sharex=True, sharey='row', squeeze=False
  )
  for column, (title, names) in enumerate(panels_of.items()):
    panels[0, column].set_title(title, fontsize=10)
    panels[-1, column].set_xlabel('severity')
    for row, metric in enumerate(_CURVES):
      fill_severity(panels[row, column], methods, names, metric)
  for row, metric in enumerate(_CURVES):
    panels[row, 0].set_ylabel(tables.METRICS[metric].title)
  figure.align_ylabels(panels[:, 0])
  figure.subplots_adjust(wspace=0.1, hspace=0.12)
  figure.suptitle(
    f'{runs[0]["dataset"]}: {tables.describe(*runs)}; severity 0 is clean',
    y=0.965,
    fontsize=10,
    parse_math=False,
  )
  names = [method.title for method in methods]
  _legend(figure, panels[0, 0].get_lines(), names)
  save(figure, path)


def shared_corruptions(runs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
  """Those of the fifteen that every run has at all five severities.

  Raises:
    ValueError: see `corruption_tables.comparable`; or there are none.
  """
  tables.comparable(runs)
  whole = [tables.summarize(run)['corruptions'] for run in runs]
  shared = [n for n in CORRUPTIONS if all(n in found for found in whole)]
  if not shared:
    raise ValueError(
      'no corruption was run at all five severities in every run; evaluate '
      'them first'
    )
  return tuple(shared)


def corruption_groups(shared: Sequence[str]) -> dict[str, tuple[str, ...]]:
  """Corruptions by group, all of them first, under titles for panels.

  Args:
    shared: some of the fifteen.

  Returns:
    {'all (15)': (...), 'noise (3)': (...), 'weather (3 of 4)': (...), ...};
    a group of which there is none is left out.
  """
  found = {}
  for group, names in {'all': CORRUPTIONS, **GROUPS}.items():
    chosen = tuple(name for name in names if name in shared)
    if chosen:
      share = str(len(chosen))
      share += f' of {len(names)}' if len(chosen) < len(names) else ''
      found[f'{group} ({share})'] = chosen
  return found


def fill_severity(
  panel, methods: Sequence[Method], names: Sequence[str], metric: str
) -> None:
  """Draws one metric against severity into axes, a curve per method.

  Args:
    panel: Matplotlib's axes.
    methods: a curve each.
    names: the corruptions that are averaged, whole in every run.
    metric: a name in `corruption_tables.METRICS`; the error is in percent.
  """
  scale = 100 if metric == 'error' else 1
  severities = [0, *SEVERITIES]
  for method, style in styled(methods):
    values = [
      [scale * mean[metric] for mean in tables.severity_means(run, names)]
      for run in method.runs
    ]
    mean, deviation = mean_and_std(values)
    panel.plot(severities, mean, **style.of_line(), markersize=4, linewidth=1.4)
    fill_band(panel, severities, mean, deviation, style.color)
  start_at_zero(panel)
  panel.grid(alpha=0.3)
  panel.set_xticks(severities)
  panel.set_xlim(-0.2, 5.2)  # so that no marker is cut


def _draw_cell(panel, left, top, value, metric, colors, norm):
  """A coloured square with its figure, or a hatched one."""
  from matplotlib.patches import Rectangle

  if not _is_number(value):
    for style in (
      {'facecolor': _MISSING, 'edgecolor': '#b0b0b0', 'hatch': '////'},
      {'fill': False, 'edgecolor': 'white'},  # the hatch has the edge's colour
    ):
      panel.add_patch(Rectangle((left, top), 1, 1, **style))
    return
  color = colors(norm(value * (100 if metric == 'error' else 1)))
  panel.add_patch(
    Rectangle((left, top), 1, 1, facecolor=color, edgecolor='white')
  )
  # Black on light squares, white on dark ones, by relative luminance.
  linear = np.power(color[:3], 2.2)
  luminance = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
  text = tables.METRICS[metric].show(value)
  panel.text(
    left + 0.5,
    top + 0.5,
    f'{100 * value:.1f}' if metric == 'error' else text,
    ha='center',
    va='center',
    fontsize=8,
    color='black' if luminance > 0.25 else 'white',
  )


def _heat_map_title(results, summary, metric):
  title = (
    f'{results["dataset"]}, {results["method"]}: '
    f'{tables.METRICS[metric].title}\n{tables.describe(results)}\n'
  )
  figures = [('clean', summary['clean'])]
  if summary['mean_15']['count']:
    mean = summary['mean_15']
    figures.append((f'mean ({mean["count"]} of {mean["of"]})', mean))
  return title + '; '.join(
    f'{name}: {tables.show(metric, row[metric])}' for name, row in figures
  )


def _is_number(value):
  return value is not None and np.isfinite(value)


def _legend(figure, lines, names):
  """One legend above the panels, where no curve can run under it."""
  legend = figure.legend(
    lines,
    names,
    loc='lower center',
    bbox_to_anchor=(0.5, 0.97),
    ncols=min(len(names), 4),
    fontsize=9,
    frameon=False,
  )
  for text in legend.get_texts():
    text.set_parse_math(False)  # names are not formulas
