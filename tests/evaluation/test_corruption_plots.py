"""Pictures of the corruptions are whole PNGs that show what was measured."""

import os
import sys

import numpy as np
import pytest
from PIL import Image

from mollify_jax.corruptions.severities import CORRUPTIONS, EXTRA_CORRUPTIONS
from mollify_jax.evaluation import corruption_plots as plots
from mollify_jax.evaluation import corruption_tables as tables
from mollify_jax.evaluation.plots import Method

# Drawing takes long; the tables are tested in every run.
pytestmark = pytest.mark.slow


def methods(runs):
  return [Method(run['method'], (run,)) for run in runs]


def record(method='plain', *, names=CORRUPTIONS, scale=1.0, **corrupted):
  def figures(error):
    return {
      'n': 100,
      'error': error,
      'nll': 4 * error,
      'ece': error / 2,
      'gap': error / 2 - 0.1,
    }

  order = CORRUPTIONS + EXTRA_CORRUPTIONS
  return {
    'method': method,
    'dataset': 'cifar10',
    'model': 'small_cnn',
    'conditions': [{'corruption': 'clean', 't': 0.0, **figures(0.05)}],
    'corrupted': {
      'title': 'cifar10-C',
      'source': 'official files',
      'parameters': 'cifar',
      'seed': None,
      'skipped': {},
      'cells': [
        {
          'corruption': name,
          'severity': severity,
          **figures(scale * (order.index(name) / 100 + severity / 10)),
        }
        for name in names
        for severity in range(1, 6)
      ],
      **corrupted,
    },
  }


def without_frost(method='plain', **kwargs):
  names = tuple(name for name in CORRUPTIONS if name != 'frost')
  return record(method, names=names, skipped={'frost': 'get it'}, **kwargs)


def read_png(path):
  with Image.open(path) as image:
    image.load()
    assert image.format == 'PNG'
    pixels = np.asarray(image.convert('RGB'))
  assert min(pixels.shape[:2]) > 400
  assert pixels.std() > 10
  assert [p.name for p in path.parent.iterdir()] == [path.name]
  assert path.stat().st_mode & 0o777 == 0o644
  path.unlink()
  return pixels


@pytest.fixture
def drawn(monkeypatch):
  """The figures that were saved, beside their PNGs."""
  figures = []
  save = plots.save

  def keep(figure, path):
    figures.append(figure)
    save(figure, path)

  monkeypatch.setattr(plots, 'save', keep)
  return figures


def texts_of(figure):
  return [text.get_text() for text in figure.axes[0].texts]


def rows_of(figure):
  return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_heat_map_shows_every_figure(tmp_path, drawn):
  path = tmp_path / 'map.png'
  plots.draw_heat_map(path, record('a_$x^{_$'))
  read_png(path)
  (figure,) = drawn
  texts = texts_of(figure)
  # Figures stand beside their group's name, row by row.
  cells = [text for text in texts if text[0].isdigit()]
  assert cells[:6] == ['10.0', '20.0', '30.0', '40.0', '50.0', '30.0']
  assert len(cells) == 15 * 6
  assert cells[-6:] == ['24.0', '34.0', '44.0', '54.0', '64.0', '44.0']
  assert [t for t in texts if t.isalpha()] == [
    *('noise', 'blur', 'weather', 'digital')
  ]
  assert rows_of(figure) == [tables.row_title(name) for name in CORRUPTIONS]
  title = figure.axes[0].get_title()
  assert 'cifar10, a_$x^{_$: error %' in title
  assert 'cifar10-C (official files)' in title
  assert 'clean: 5.00; mean (15 of 15): 37.00' in title


def test_heat_map_without_frost_and_with_extras(tmp_path, drawn):
  path = tmp_path / 'map.png'
  run = without_frost()
  extras = record(names=EXTRA_CORRUPTIONS[:2])['corrupted']['cells']
  run['corrupted']['cells'] += extras
  run['corrupted']['cells'].pop()  # Gaussian blur lacks its last severity.
  run['corrupted']['cells'][0]['ece'] = None
  plots.draw_heat_map(path, run, 'ece')
  pixels = read_png(path)
  (figure,) = drawn
  texts = texts_of(figure)
  assert texts.count('not available') == 1
  assert texts.count('not run') == 2  # spatter and saturate
  assert texts.count('extra') == 1
  assert rows_of(figure)[15:] == [
    *('speckle noise', 'gaussian blur', 'spatter', 'saturate')
  ]
  assert 'mean (14 of 15)' in figure.axes[0].get_title()
  cells = [text for text in texts if text[0].isdigit()]
  # 14 x 6, one figure and its mean less; a whole and a broken extra.
  assert len(cells) == 14 * 6 - 2 + 6 + 4
  hatched = [p for p in figure.axes[0].patches if p.get_hatch()]
  assert len(hatched) == 6 + 2 + 2 + 6 + 6
  grey = (pixels == 0xE8).all(axis=-1)
  assert grey.mean() > 0.02


@pytest.mark.parametrize('metric', list(tables.METRICS))
def test_heat_map_of_every_metric(tmp_path, metric):
  # The record lacks some of the metrics: those are hatched throughout.
  path = tmp_path / 'map.png'
  plots.draw_heat_map(path, record(), metric)
  read_png(path)


def test_gap_is_coloured_by_its_sign(tmp_path, drawn):
  plots.draw_heat_map(tmp_path / 'map.png', record(), 'gap')
  (figure,) = drawn
  low, high = figure.axes[1].get_ylim()
  assert low == -high
  (first, *_, last) = (
    patch.get_facecolor()
    for patch in figure.axes[0].patches
    if not patch.get_hatch()
  )
  assert first[2] > first[0]  # under-confident: towards purple
  assert last[0] > last[2]  # over-confident: towards orange


def test_severity_curves(tmp_path, drawn):
  path = tmp_path / 'curves.png'
  plots.draw_severity_curves(path, methods([record()]))
  alone = read_png(path)
  runs = [record(), record('other', scale=0.5), record('third', scale=0.7)]
  plots.draw_severity_curves(
    path, methods([*runs, record('fourth', scale=0.2)])
  )
  several = read_png(path)
  assert several.shape != alone.shape or (several != alone).any()
  figure = drawn[1]
  panels = np.array(figure.axes).reshape(3, 5)
  titles = [panel.get_title() for panel in panels[0]]
  assert titles == ['all (15)', 'noise (3)', 'blur (4)', 'weather (4)'] + [
    'digital (4)'
  ]
  assert {len(panel.get_lines()) for panel in figure.axes} == {4}
  x, y = panels[0, 0].get_lines()[0].get_data()
  np.testing.assert_array_equal(x, [0, 1, 2, 3, 4, 5])
  np.testing.assert_allclose(y, [5, 17, 27, 37, 47, 57])
  _, y = panels[0, 1].get_lines()[1].get_data()  # noise: 0, 1 and 2 percent
  np.testing.assert_allclose(y, [5, 5.5, 10.5, 15.5, 20.5, 25.5])
  _, y = panels[1, 0].get_lines()[0].get_data()
  np.testing.assert_allclose(y, [0.2, 0.68, 1.08, 1.48, 1.88, 2.28])
  _, y = panels[2, 0].get_lines()[0].get_data()
  np.testing.assert_allclose(y, [0.025, 0.085, 0.135, 0.185, 0.235, 0.285])
  names = [text.get_text() for text in figure.legends[0].get_texts()]
  assert names == ['plain', 'other', 'third', 'fourth']
  colors = {line.get_color() for line in panels[0, 0].get_lines()}
  assert len(colors) == 4


def test_no_severity_curve_is_cut_off(tmp_path, drawn):
  run = record()
  for cell in run['corrupted']['cells']:
    if cell['corruption'] == 'pixelate':
      cell.update(error=0.99, nll=9.0, ece=0.9)
  plots.draw_severity_curves(tmp_path / 'curves.png', methods([run]))
  for panel in drawn[0].axes:
    low, high = panel.get_ylim()
    assert low == 0
    assert all(max(line.get_ydata()) < high for line in panel.get_lines())


def test_curves_are_over_the_corruptions_of_every_run(tmp_path, drawn):
  path = tmp_path / 'curves.png'
  plots.draw_severity_curves(path, methods([record(), without_frost('other')]))
  read_png(path)
  (figure,) = drawn
  assert figure.axes[0].get_title() == 'all (14 of 15)'
  assert figure.axes[3].get_title() == 'weather (3 of 4)'
  first, second = (line.get_ydata() for line in figure.axes[0].get_lines())
  np.testing.assert_array_equal(first, second)
  np.testing.assert_allclose(first[1], 100 * (15 * 0.17 - 0.18) / 14)


def test_a_missing_figure_is_a_gap_in_its_curve(tmp_path, drawn):
  run = record()
  run['corrupted']['cells'][2]['nll'] = None
  plots.draw_severity_curves(tmp_path / 'curves.png', methods([run]))
  y = drawn[0].axes[5].get_lines()[0].get_ydata()
  assert np.isnan(y).tolist() == [False, False, False, True, False, False]


def test_what_cannot_be_drawn_is_one_line(tmp_path):
  path = tmp_path / 'picture.png'
  like = record(title='cifar10-C-like', source='generated')
  for runs, message in (
    ([record(), like], "'cifar10-C' and 'cifar10-C-like'"),
    ([], 'no runs'),
    ([record(names=EXTRA_CORRUPTIONS)], 'no corruption was run at all five'),
  ):
    with pytest.raises(ValueError, match=message) as caught:
      plots.draw_severity_curves(path, methods(runs))
    assert '\n' not in str(caught.value)
  with pytest.raises(ValueError, match="unknown metric 'loss'; choose from"):
    plots.draw_heat_map(path, record(), 'loss')
  with pytest.raises(ValueError, match='no corrupted test sets'):
    plots.draw_heat_map(path, {**record(), 'corrupted': None})
  assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_picture(tmp_path, monkeypatch):
  path = tmp_path / 'map.png'
  plots.draw_heat_map(path, record())
  before = path.read_bytes()

  def fail(*_):
    raise OSError('disk full')

  monkeypatch.setattr(os, 'replace', fail)
  with pytest.raises(OSError, match='disk full'):
    plots.draw_heat_map(path, record(scale=0.5))
  assert path.read_bytes() == before
  assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_pyplot_and_its_global_state_stay_out(tmp_path, monkeypatch):
  monkeypatch.delitem(sys.modules, 'matplotlib.pyplot', raising=False)
  plots.draw_heat_map(tmp_path / 'map.png', record())
  plots.draw_severity_curves(tmp_path / 'curves.png', methods([record()]))
  assert 'matplotlib.pyplot' not in sys.modules
