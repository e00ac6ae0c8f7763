"""The pictures of a run. Matplotlib is loaded inside, without global state.

Each `draw_` function writes one picture; the `fill_` functions beside them
draw the same into panels of a larger figure.
"""

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from mollify_jax.evaluation import reports


class Style(NamedTuple):
  """How one method looks: in colour, in grey and as a bar.

  Attributes:
    color: of its line or bar.
    marker: of its points.
    line: Matplotlib's name of the dashes.
    hatch: over its bar.
  """

  color: str
  marker: str
  line: str
  hatch: str

  def of_line(self) -> dict[str, str]:
    """Arguments of `Axes.plot`."""
    return {
      'color': self.color,
      'marker': self.marker,
      'linestyle': self.line,
    }


# Okabe and Ito's colours, told apart by colour-blind readers. In grey, their
# lightness L* is 0, 46, 70, 59, 62, 53 and 70: the first four are 10 apart and
# more, and all have a marker and a hatch of their own.
COLORS = (
  *('#000000', '#0072B2', '#E69F00', '#009E73'),
  *('#CC79A7', '#D55E00', '#56B4E9'),
)
MARKERS = ('x', 'o', '^', 's', 'D', 'v', 'P', '*')
LINES = ('--', '-', '-', '-', '-.', '-.', '-.', ':')
HATCHES = ('', '////', '....', 'xxxx', '\\\\\\\\', '++++', '||||', 'oo')
_PREDICTED, _LABEL, _ACCURACY = '#0072B2', '#D55E00', '#009E73'
_QUIET = '#bbbbbb'
TITLES = MappingProxyType(
  {'clean': 'clean', 'noise': 'diffusion noise', 'blur': 'heat blur'}
)
# The two ways to degrade an image, where they share axes.
KINDS = MappingProxyType(
  {
    'noise': Style('#000000', 'o', '-', ''),
    'blur': Style('#56B4E9', '^', '--', '////'),
  }
)
# Widths of figures in print, in inches: one column, and the whole page.
COLUMN, PAGE = 3.25, 6.75
FORMATS = ('png', 'svg', 'pdf')
# In vector formats text stays text, and PDF brings the letters along. Nothing
# in a file depends on when or by whom it was drawn.
_VECTOR = {
  'svg.fonttype': 'none',
  'pdf.fonttype': 42,
  'svg.hashsalt': 'mollify_jax',
}
_METADATA = {'png': {}, 'svg': {'Date': None}, 'pdf': {'CreationDate': None}}
_DPI = {'png': 200, 'svg': 300, 'pdf': 300}  # of vectors: of the images inside


class Method(NamedTuple):
  """One method, trained once or with several seeds.

  Attributes:
    name: what it is called.
    runs: result records (see `reports`), a seed each.
  """

  name: str
  runs: tuple[Mapping[str, Any], ...]

  @property
  def title(self) -> str:
    """The name, and of how many seeds if there are several."""
    count = len(self.runs)
    return f'{self.name} ({count} seeds)' if count > 1 else self.name


def draw_mollification_strip(
  path: str | os.PathLike,
  strip: Mapping[str, tuple[np.ndarray, np.ndarray]],
  temperatures: Sequence[float],
  class_names: Sequence[str],
) -> None:
  """One image under growing t, its tempered label as bars below each.

  Args:
    path: of the PNG.
    strip, temperatures, class_names: see `fill_strip`.

  Raises:
    ValueError: as `fill_strip`.
  """
  figure = new_figure(1.25 * len(temperatures) + 0.6, 2.35 * len(strip) + 0.3)
  fill_strip(figure, strip, temperatures, class_names)
  save(figure, path)


def fill_strip(
  figure,
  strip: Mapping[str, tuple[np.ndarray, np.ndarray]],
  temperatures: Sequence[float],
  class_names: Sequence[str],
  *,
  size: float = 9,
  ratio: float = 1.5,
  name_class: bool = True,
) -> None:
  """Draws a strip of images over t with their labels into a (sub)figure.

  Args:
    figure: Matplotlib's, empty.
    strip: per corruption, pixels float[T, H, W, C] in 0..1 and labels
      float[T, K] (K + 1 with an extra class).
    temperatures: T values of t.
    class_names: K names.
    size: of the letters, in points.
    ratio: of an image's height to that of its label.
    name_class: whether the class stands under the first image.

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
  grid = figure.add_gridspec(
    2 * rows,
    columns,
    height_ratios=[ratio, 1] * rows,
    wspace=0.12,
    hspace=0.16,
  )
  for row, (name, (images, labels)) in enumerate(strip.items()):
    for column, t in enumerate(temperatures):
      picture = figure.add_subplot(grid[2 * row, column])
      show_image(picture, images[column])
      if row == 0:
        picture.set_title(f't = {t:.3g}', fontsize=size)
      bars = figure.add_subplot(grid[2 * row + 1, column])
      label = labels[column]
      true = int(np.argmax(labels[0][: len(class_names)]))
      colors = [_LABEL if k == true else _QUIET for k in range(len(label))]
      bars.bar(np.arange(len(label)), label, color=colors, width=0.9)
      bars.set_ylim(0, 1.05)
      bars.set_xticks([])
      bars.set_yticks([0, 1] if column == 0 else [])
      bars.tick_params(labelsize=size - 2)
      for side in ('top', 'right'):
        bars.spines[side].set_visible(False)
      if column == 0:
        picture.set_ylabel(TITLES.get(name, name), fontsize=size)
        bars.set_ylabel('label', fontsize=size)
      if column == 0 and name_class:
        # Under the image: over its bar, a long name would cross the axis.
        picture.set_xlabel(
          str(class_names[true]),
          fontsize=size - 1,
          color=_LABEL,
          labelpad=2,
          parse_math=False,
        )


def show_image(panel, pixels: np.ndarray, **options: Any) -> None:
  """Shows one image without axes.

  Args:
    panel: Matplotlib's axes.
    pixels: [H, W, C], uint8 or float in 0..1. Of other than 1 or 3 channels
      the mean is shown.
    options: of `Axes.imshow`, as `extent`.
  """
  if pixels.dtype == np.uint8:
    pixels = pixels / 255
  if pixels.shape[-1] != 3:  # neither colour nor grey: show the mean
    pixels = pixels.mean(axis=-1)
  panel.imshow(
    pixels,
    cmap='gray',
    vmin=0,
    vmax=1,
    **{'interpolation': 'nearest', **options},
  )
  panel.set_xticks([])
  panel.set_yticks([])


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
    fill_confidence(panel, [conditions], name)
    panel.set_title(TITLES.get(name, name), fontsize=10)
  panels[0].set_ylabel('mean over the test set')
  handles, titles = panels[0].get_legend_handles_labels()
  _legend_above(figure, handles, titles, 0.98)
  save(figure, path)


def fill_confidence(
  panel, seeds: Sequence[Sequence[Mapping[str, Any]]], name: str
) -> None:
  """Draws label confidence, confidence and accuracy over t into axes.

  Args:
    panel: Matplotlib's axes.
    seeds: the conditions of each run of one method; lines are means over
      runs, bands one standard deviation to either side (see `mean_and_std`).
    name: of the corruption; `clean` is drawn at t = 0.

  Raises:
    ValueError: the runs do not have the same temperatures.
  """
  points = [_over_t(conditions, name) for conditions in seeds]
  t = [c['t'] for c in points[0]]
  if any([c['t'] for c in other] != t for other in points):
    raise ValueError(
      f'runs of one method have other temperatures of {name!r}; evaluate them '
      'over the same'
    )
  for key, title, color, style in (
    ('label_confidence', 'label confidence', _LABEL, '--'),
    ('confidence', 'predicted confidence', _PREDICTED, '-o'),
    ('accuracy', 'accuracy', _ACCURACY, ':s'),
  ):
    values = [
      [1 - c['error'] if key == 'accuracy' else c[key] for c in run]
      for run in points
    ]
    mean, deviation = mean_and_std(values)
    panel.plot(t, mean, style, color=color, label=title, markersize=4)
    fill_band(panel, t, mean, deviation, color)
  panel.set_xlabel('temperature t')
  panel.set_xlim(-0.03, 1.03)  # so that no marker is cut
  panel.set_ylim(0, 1.04)
  panel.grid(alpha=0.3)


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
      for run, style in styled(runs):
        points = _over_t(run['conditions'], name)
        panel.plot(
          [c['t'] for c in points],
          [c[key] for c in points],
          **style.of_line(),
          label=run['method'],
          markersize=4,
        )
      start_at_zero(panel)
      panel.set_xlim(-0.03, 1.03)
      panel.grid(alpha=0.3)
    panels[row][0].set_ylabel(title)
  for panel, name in zip(panels[0], names, strict=True):
    panel.set_title(TITLES.get(name, name), fontsize=10)
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
    bins = pool_bins([c['bins'] for c in conditions if c['corruption'] == name])
    if bins['count'].sum() == 0:
      raise ValueError(f'no examples in the bins of {name!r}')
    top = figure.add_subplot(grid[0, column])
    bottom = figure.add_subplot(grid[1, column])
    fill_reliability(top, bottom, bins)
    top.set_title(
      f'{TITLES.get(name, name)}: pooled ECE {pooled_ece(bins):.3f}',
      fontsize=10,
    )
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


def fill_reliability(top, bottom, bins: Mapping[str, np.ndarray]) -> None:
  """Draws accuracy by confidence, and below it the share of the examples.

  Args:
    top, bottom: Matplotlib's axes of the diagram and of the histogram.
    bins: `count`, `confidence` and `correct`, [16] each.
  """
  total = bins['count'].sum()
  # For the eye, a confidence of exactly 1 belongs to the last bin.
  count, confidence, correct = (
    _merge_last(bins[key]) for key in ('count', 'confidence', 'correct')
  )
  filled = count > 0
  center = (np.arange(len(count)) + 0.5) / len(count)
  accuracy = correct[filled] / count[filled]
  mean = confidence[filled] / count[filled]
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
  top.set_xlim(0, 1)
  top.set_ylim(0, 1)
  top.set_xticklabels([])
  bottom.bar(center, count / total, width, color=_QUIET)
  bottom.set_xlim(0, 1)
  bottom.set_ylim(0, 1)


def pool_bins(
  all_bins: Sequence[Mapping[str, Sequence[float]]],
) -> dict[str, np.ndarray]:
  """The sums of `count`, `confidence` and `correct`, [16] each."""
  return {
    key: np.sum([bins[key] for bins in all_bins], axis=0)
    for key in ('count', 'confidence', 'correct')
  }


def pooled_ece(bins: Mapping[str, np.ndarray]) -> float:
  """Sum over bins of |right ones - confidence| by the number of examples."""
  gap = np.abs(bins['correct'] - bins['confidence']).sum()
  return float(gap / bins['count'].sum())


def mean_and_std(values: Any) -> tuple[np.ndarray, np.ndarray | None]:
  """Mean over seeds and the standard deviation between them.

  Args:
    values: float[S, ...]; None counts as NaN.

  Returns:
    float64[...] the mean, NaN where a run has none, and the unbiased
    deviation (that of S - 1); None of one run.
  """
  values = np.array(values, np.float64)
  mean = values.mean(axis=0)
  return mean, values.std(axis=0, ddof=1) if len(values) > 1 else None


def fill_band(panel, x, mean, deviation, color: str) -> None:
  """A band of one standard deviation to either side; none of one run."""
  if deviation is not None:
    panel.fill_between(
      x,
      mean - deviation,
      mean + deviation,
      color=color,
      alpha=0.2,
      linewidth=0,
    )


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


def new_figure(width: float, height: float, **options: Any):
  """A figure of that many inches, apart from pyplot's state."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(width, height), **options)
  FigureCanvasAgg(figure)
  return figure


def style_of(index: int) -> Style:
  """The look of the method at a place, from 0. 56 are told apart."""
  return Style(
    *(looks[index % len(looks)] for looks in (COLORS, MARKERS, LINES, HATCHES))
  )


def start_at_zero(panel) -> None:
  """Lets the y axis reach from 0 to above all curves of the axes that share it.

  Matplotlib's own limit, once the lower one is set, is that of one panel.
  """
  sharing = panel.get_shared_y_axes().get_siblings(panel)
  tops = [each.dataLim.y1 for each in sharing]
  top = max((top for top in tops if np.isfinite(top)), default=0.0)
  panel.set_ylim(0, 1.05 * top if top > 0 else 1)


def styled(runs: Sequence[Any]) -> Iterator[tuple[Any, Style]]:
  """Each run with the style of its place."""
  return ((run, style_of(index)) for index, run in enumerate(runs))


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


def save_for_print(figure, stem: str | os.PathLike) -> list[Path]:
  """Writes a figure at its size as PNG (200 dpi), SVG and PDF.

  The same figure gives the same bytes. All are made before one is written,
  each whole or not at all.

  Args:
    figure: Matplotlib's.
    stem: path without an ending.

  Returns:
    The three paths.
  """
  import matplotlib

  made = {}
  with matplotlib.rc_context(_VECTOR):
    for kind in FORMATS:
      picture = io.BytesIO()
      figure.savefig(
        picture, format=kind, dpi=_DPI[kind], metadata=_METADATA[kind]
      )
      made[Path(f'{os.fspath(stem)}.{kind}')] = picture.getvalue()
  for path, picture in made.items():
    reports.write_whole(path, picture)
  return list(made)
