"""The pictures of a run. Matplotlib is loaded inside, without global state."""

import io
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mollify_jax.evaluation import reports

# Okabe and Ito's colours, told apart by colour-blind readers and in print.
_PREDICTED, _LABEL, _ACCURACY = '#0072B2', '#D55E00', '#009E73'
_QUIET = '#999999'
_METHODS = (
  '#000000',
  '#0072B2',
  '#E69F00',
  '#009E73',
  '#CC79A7',
  '#D55E00',
)
_STYLES = ('--x', '-o', '-^', '-s')
_TITLES = {'clean': 'clean', 'noise': 'diffusion noise', 'blur': 'heat blur'}


def draw_mollification_strip(
  path: str | os.PathLike,
  strip: Mapping[str, tuple[np.ndarray, np.ndarray]],
  temperatures: Sequence[float],
  class_names: Sequence[str],
) -> None:
  """One image under growing t, its tempered label as bars below each.

  Args:
    path: of the PNG.
    strip: per corruption, pixels float[T, H, W, C] in 0..1 and labels
      float[T, K] (K + 1 with an extra class).
    temperatures: T values of t.
    class_names: K names.

  Raises:
    ValueError: the arrays do not have T entries, or not these shapes.
  """
  for name, (images, labels) in strip.items():
    for array in (images, labels):
      if len(array) != len(temperatures):
        raise ValueError(
          f'the strip of {name!r} has {len(array)} entries for '
          f'{len(temperatures)} temperatures; give one of each per t'
        )
    if images.ndim != 4:
      raise ValueError(
        f'the strip of {name!r} has images of shape {images.shape!r}; give '
        '[T, H, W, C]'
      )
    if labels.ndim != 2 or labels.shape[1] < len(class_names):
      raise ValueError(
        f'the strip of {name!r} has labels of shape {labels.shape!r} for '
        f'{len(class_names)} classes; give a column per class'
      )
  if not strip or not len(temperatures):
    raise ValueError('nothing to draw in the strip; give some temperatures')
  columns, rows = len(temperatures), len(strip)
  figure = new_figure(1.25 * columns + 0.6, 2.35 * rows + 0.3)
  grid = figure.add_gridspec(
    2 * rows, columns, height_ratios=[1.5, 1] * rows, wspace=0.12, hspace=0.16
  )
  for row, (name, (images, labels)) in enumerate(strip.items()):
    if images.shape[-1] != 3:  # neither colour nor grey: show the mean
      images = images.mean(axis=-1, keepdims=True)
    for column, t in enumerate(temperatures):
      picture = figure.add_subplot(grid[2 * row, column])
      gray = images.shape[-1] == 1
      picture.imshow(
        images[column, ..., 0] if gray else images[column],
        cmap='gray' if gray else None,
        vmin=0,
        vmax=1,
        interpolation='nearest',
      )
      picture.set_xticks([])
      picture.set_yticks([])
      if row == 0:
        picture.set_title(f't = {t:g}', fontsize=9)
      bars = figure.add_subplot(grid[2 * row + 1, column])
      label = labels[column]
      true = int(np.argmax(labels[0][: len(class_names)]))
      colors = [_LABEL if k == true else _QUIET for k in range(len(label))]
      bars.bar(np.arange(len(label)), label, color=colors, width=0.9)
      bars.set_ylim(0, 1.05)
      bars.set_xticks([])
      bars.set_yticks([0, 1] if column == 0 else [])
      bars.tick_params(labelsize=7)
      for side in ('top', 'right'):
        bars.spines[side].set_visible(False)
      if column == 0:
        picture.set_ylabel(_TITLES.get(name, name), fontsize=9)
        # Under the image: over its bar, a long name would cross the axis.
        picture.set_xlabel(
          str(class_names[true]),
          fontsize=8,
          color=_LABEL,
          labelpad=2,
          parse_math=False,
        )
        bars.set_ylabel('label', fontsize=9)
  save(figure, path)


def draw_confidence_curve(
  path: str | os.PathLike, conditions: Sequence[Mapping[str, Any]]
) -> None:
  """Do predictions match the label uncertainty? Means over the test set by t.

  Args:
    path: of the PNG.
    conditions: records with corruption, t, error, confidence and
      label_confidence; `clean` is drawn at t = 0 in every panel.

  Raises:
    ValueError: there is nothing but clean records.
  """
  names = [name for name in _names(conditions) if name != 'clean']
  if not names:
    raise ValueError(
      'no corrupted conditions to draw over t; give some temperatures'
    )
  figure = new_figure(3.7 * len(names), 3.1)
  panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
  for panel, name in zip(panels, names, strict=True):
    points = _over_t(conditions, name)
    t = [c['t'] for c in points]
    for key, title, color, style in (
      ('label_confidence', 'label confidence', _LABEL, '--'),
      ('confidence', 'predicted confidence', _PREDICTED, '-o'),
      ('accuracy', 'accuracy', _ACCURACY, ':s'),
    ):
      values = [1 - c['error'] if key == 'accuracy' else c[key] for c in points]
      panel.plot(t, values, style, color=color, label=title, markersize=4)
    panel.set_title(_TITLES.get(name, name), fontsize=10)
    panel.set_xlabel('temperature t')
    panel.set_xlim(-0.03, 1.03)  # so that no marker is cut
    panel.set_ylim(0, 1.04)
    panel.grid(alpha=0.3)
  panels[0].set_ylabel('mean over the test set')
  handles, titles = panels[0].get_legend_handles_labels()
  _legend_above(figure, handles, titles, 0.98)
  save(figure, path)


def draw_comparison(
  path: str | os.PathLike, runs: Sequence[Mapping[str, Any]]
) -> None:
  """Error and calibration error of several runs over t, side by side.

  Args:
    path: of the PNG.
    runs: result records (see `reports`), each a method on one data set.

  Raises:
    ValueError: no runs, or none that was degraded.
  """
  names = [n for run in runs for n in _names(run['conditions']) if n != 'clean']
  names = list(dict.fromkeys(names))
  if not names:
    raise ValueError('no degraded conditions to compare; evaluate over t first')
  figure = new_figure(3.7 * len(names), 5.2)
  panels = figure.subplots(
    2, len(names), sharex=True, sharey='row', squeeze=False
  )
  for row, (key, title) in enumerate((('error', 'error'), ('ece', 'ECE'))):
    for panel, name in zip(panels[row], names, strict=True):
      for run, color, style in styled(runs):
        points = _over_t(run['conditions'], name)
        panel.plot(
          [c['t'] for c in points],
          [c[key] for c in points],
          style,
          color=color,
          label=run['method'],
          markersize=4,
        )
      panel.set_ylim(bottom=0)
      panel.set_xlim(-0.03, 1.03)
      panel.grid(alpha=0.3)
    panels[row][0].set_ylabel(title)
  for panel, name in zip(panels[0], names, strict=True):
    panel.set_title(_TITLES.get(name, name), fontsize=10)
  for panel in panels[1]:
    panel.set_xlabel('temperature t')
  handles, titles = panels[0][0].get_legend_handles_labels()
  _legend_above(figure, handles, titles, 0.94)
  save(figure, path)


def draw_reliability_diagram(
  path: str | os.PathLike, conditions: Sequence[Mapping[str, Any]]
) -> None:
  """Accuracy against confidence, pooled over each corruption's conditions.

  Args:
    path: of the PNG.
    conditions: records with corruption and bins (count, confidence and
      correct, [16] each: fifteen equal bins, then exactly 1.0).

  Raises:
    ValueError: no conditions, none of a corruption's bins hold examples, or
      the bins are not sixteen.
  """
  names = _names(conditions)
  if not names:
    raise ValueError('no conditions to draw; give at least the clean one')
  for condition in conditions:
    for key, values in condition['bins'].items():
      if len(values) != 16:
        raise ValueError(
          f'{condition["corruption"]!r} has {len(values)} bins of {key!r}; '
          'give 16'
        )
  figure = new_figure(3.1 * len(names), 3.9)
  grid = figure.add_gridspec(
    2, len(names), height_ratios=[4, 1], hspace=0.12, wspace=0.18
  )
  for column, name in enumerate(names):
    count, confidence, correct = (
      np.sum(
        [c['bins'][key] for c in conditions if c['corruption'] == name], axis=0
      )
      for key in ('count', 'confidence', 'correct')
    )
    if count.sum() == 0:
      raise ValueError(f'no examples in the bins of {name!r}')
    ece = np.abs(correct - confidence).sum() / count.sum()
    # For the eye, a confidence of exactly 1 belongs to the last bin.
    count, confidence, correct = map(_merge_last, (count, confidence, correct))
    filled = count > 0
    center = (np.arange(len(count)) + 0.5) / len(count)
    accuracy = correct[filled] / count[filled]
    mean = confidence[filled] / count[filled]
    top = figure.add_subplot(grid[0, column])
    # Over the bars, which would hide most of it.
    top.plot([0, 1], [0, 1], '--', color='black', linewidth=1, zorder=3)
    width = 0.94 / len(count)
    top.bar(
      center[filled],
      accuracy,
      width,
      color=_PREDICTED,
      alpha=0.55,
      label='accuracy',
    )
    # From accuracy to confidence: the gap that ECE averages.
    top.bar(
      center[filled],
      mean - accuracy,
      width,
      bottom=accuracy,
      fill=False,
      edgecolor=_LABEL,
      hatch='////',
      linewidth=0.8,
      label='gap',
    )
    top.set_title(
      f'{_TITLES.get(name, name)}: pooled ECE {ece:.3f}', fontsize=10
    )
    top.set_xlim(0, 1)
    top.set_ylim(0, 1)
    top.set_xticklabels([])
    bottom = figure.add_subplot(grid[1, column])
    bottom.bar(center, count / count.sum(), width, color=_QUIET)
    bottom.set_xlim(0, 1)
    bottom.set_ylim(0, 1)
    bottom.set_xlabel('confidence')
    if column == 0:
      top.set_ylabel('accuracy')
      bottom.set_ylabel('share')
      handles, titles = top.get_legend_handles_labels()
    else:
      top.set_yticklabels([])
      bottom.set_yticklabels([])
  _legend_above(figure, handles, titles, 0.94)
  save(figure, path)


def _names(conditions):
  """Corruptions in order of appearance."""
  return list(dict.fromkeys(c['corruption'] for c in conditions))


def _over_t(conditions, name):
  """One corruption's conditions by temperature, the clean one at t = 0."""
  clean = [{**c, 't': 0.0} for c in conditions if c['corruption'] == 'clean']
  chosen = (c for c in conditions if c['corruption'] == name)
  return clean + sorted(chosen, key=lambda condition: condition['t'])


def _merge_last(values):
  return np.append(values[:-2], values[-2] + values[-1])


def _legend_above(figure, handles, titles, height):
  """One legend above the panels, where no curve can run under it."""
  legend = figure.legend(
    handles,
    titles,
    loc='lower center',
    bbox_to_anchor=(0.5, height),
    ncols=min(len(titles), 4),
    fontsize=9,
    frameon=False,
  )
  for text in legend.get_texts():
    text.set_parse_math(False)  # names are not formulas


def new_figure(width: float, height: float):
  """A figure of that many inches, apart from pyplot's state."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(width, height))
  FigureCanvasAgg(figure)
  return figure


def styled(runs: Sequence[Any]) -> Iterator[tuple[Any, str, str]]:
  """Each run with the colour and line style of its place."""
  return zip(
    runs, itertools.cycle(_METHODS), itertools.cycle(_STYLES), strict=False
  )


def save(figure, path: str | os.PathLike) -> None:
  """Writes a figure, whole or not at all.

  As SVG, the same bytes each time, where the name ends so; else as PNG.
  """
  picture = io.BytesIO()
  if os.fspath(path).endswith('.svg'):
    import matplotlib

    with matplotlib.rc_context({'svg.hashsalt': 'mollify_jax'}):
      figure.savefig(
        picture, format='svg', bbox_inches='tight', metadata={'Date': None}
      )
  else:
    figure.savefig(picture, format='png', dpi=150, bbox_inches='tight')
  reports.write_whole(path, picture.getvalue())
