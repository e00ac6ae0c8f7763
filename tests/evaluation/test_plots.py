"""Pictures are whole PNGs of the right data, and nothing else is left."""

import sys

import numpy as np
import pytest
from PIL import Image

from mollify_jax.evaluation import plots

T = (0.0, 0.5, 1.0)


def conditions():
  bins = {
    'count': [0] * 7 + [10] * 9,
    'confidence': [0.0] * 7 + [6.0] * 9,
    'correct': [0] * 7 + [5] * 9,
  }
  return [
    {
      'corruption': name,
      't': t,
      'error': t / 2,
      'ece': t / 4,
      'confidence': 1 - t / 3,
      'label_confidence': 1 - t / 2,
      'bins': bins,
    }
    for name, ts in (('clean', (0.0,)), ('noise', (0.9, 0.3)), ('blur', (0.5,)))
    for t in ts
  ]


def check_png(path):
  with Image.open(path) as image:
    image.load()
    assert image.format == 'PNG'
    assert min(image.size) > 200
    pixels = np.asarray(image.convert('RGB'))
  assert pixels.std() > 10
  assert [p.name for p in path.parent.iterdir()] == [path.name]
  return pixels


@pytest.mark.parametrize('channels', [1, 3, 5])
def test_mollification_strip(tmp_path, channels):
  images = np.random.default_rng(0).uniform(size=(3, 8, 8, channels))
  labels = np.linspace(np.eye(4)[2], np.full(4, 0.25), 3)
  path = tmp_path / 'strip.png'
  strip = {'noise': (images, labels), 'blur': (images, labels)}
  # Names are not formulas, however they look.
  names = ['a', 'b', 'a_$x^{_$', 'd']
  plots.draw_mollification_strip(path, strip, T, names)
  check_png(path)


def test_strip_of_another_length_is_refused(tmp_path):
  strip = {'noise': (np.zeros((2, 8, 8, 1)), np.zeros((2, 4)))}
  with pytest.raises(ValueError, match='2 entries for 3 temperatures'):
    plots.draw_mollification_strip(tmp_path / 's.png', strip, T, list('abcd'))
  assert list(tmp_path.iterdir()) == []


def test_confidence_curve(tmp_path):
  path = tmp_path / 'confidence.png'
  plots.draw_confidence_curve(path, conditions())
  check_png(path)
  with pytest.raises(ValueError, match='no corrupted conditions'):
    plots.draw_confidence_curve(path, conditions()[:1])


def test_comparison_draws_every_run(tmp_path):
  path = tmp_path / 'comparison.png'
  runs = [{'method': 'one', 'conditions': conditions()}]
  plots.draw_comparison(path, runs)
  alone = check_png(path)
  better = [{**c, 'error': c['error'] / 2} for c in conditions()]
  path.unlink()
  plots.draw_comparison(path, [*runs, {'method': 'two', 'conditions': better}])
  both = check_png(path)
  assert both.shape != alone.shape or (both != alone).any()
  for bad in ([], [{'method': 'clean', 'conditions': conditions()[:1]}]):
    with pytest.raises(ValueError, match='no degraded conditions'):
      plots.draw_comparison(path, bad)


def test_no_curve_is_cut_off(tmp_path, monkeypatch):
  steep = [
    {**c, 'error': 0.9, 'ece': 0.8} if c['corruption'] == 'blur' else c
    for c in conditions()
  ]
  steep[0]['ece'] = float('nan')
  figures = []
  monkeypatch.setattr(plots, 'save', lambda figure, _: figures.append(figure))
  plots.draw_comparison(
    tmp_path / 'x.png', [{'method': 'a', 'conditions': steep}]
  )
  for panel in figures[0].axes:
    low, high = panel.get_ylim()
    assert low == 0
    for line in panel.get_lines():
      assert np.nanmax(line.get_ydata()) < high


def test_svg_is_the_same_each_time(tmp_path):
  paths = [tmp_path / 'a.svg', tmp_path / 'b.svg']
  for path in paths:
    plots.draw_confidence_curve(path, conditions())
  assert paths[0].read_bytes().startswith(b'<?xml')
  assert paths[0].read_bytes() == paths[1].read_bytes()


def test_reliability_diagram_shows_the_gap(tmp_path):
  path = tmp_path / 'reliability.png'
  plots.draw_reliability_diagram(path, conditions())
  pixels = check_png(path)
  honest = conditions()
  for record in honest:
    record['bins'] = {**record['bins'], 'correct': [0] * 7 + [6] * 9}
  path.unlink()
  plots.draw_reliability_diagram(path, honest)
  assert (check_png(path) != pixels).any()


def test_pyplot_and_its_global_state_stay_out(tmp_path, monkeypatch):
  monkeypatch.delitem(sys.modules, 'matplotlib.pyplot', raising=False)
  plots.draw_confidence_curve(tmp_path / 'c.png', conditions())
  assert 'matplotlib.pyplot' not in sys.modules


@pytest.mark.parametrize(
  ('images', 'labels', 'message'),
  [
    ((3, 6, 6), (3, 4), 'images of shape'),
    ((3, 6, 6, 1), (3,), 'labels of shape'),
    ((3, 6, 6, 1), (3, 3), 'labels of shape'),
  ],
)
def test_strip_of_wrong_shapes_is_one_line(tmp_path, images, labels, message):
  rows = {'noise': (np.zeros(images), np.zeros(labels))}
  with pytest.raises(ValueError, match=message) as caught:
    plots.draw_mollification_strip(tmp_path / 'x.png', rows, T, list('abcd'))
  assert '\n' not in str(caught.value)
  assert not list(tmp_path.iterdir())


def test_nothing_to_draw_is_one_line(tmp_path):
  path = tmp_path / 'x.png'
  with pytest.raises(ValueError, match='nothing to draw'):
    plots.draw_mollification_strip(path, {}, T, list('abcd'))
  with pytest.raises(ValueError, match='no conditions'):
    plots.draw_reliability_diagram(path, [])
  empty = {key: [0] * 16 for key in ('count', 'confidence', 'correct')}
  with pytest.raises(ValueError, match="no examples in the bins of 'clean'"):
    plots.draw_reliability_diagram(
      path, [{'corruption': 'clean', 't': 0, 'bins': empty}]
    )
  short = {key: [1] * 15 for key in empty}
  with pytest.raises(ValueError, match='15 bins'):
    plots.draw_reliability_diagram(
      path, [{'corruption': 'clean', 't': 0, 'bins': short}]
    )
  assert not list(tmp_path.iterdir())


def test_a_long_class_name_crosses_no_axis(tmp_path, monkeypatch):
  figures = []
  save = plots.save
  monkeypatch.setattr(
    plots,
    'save',
    lambda figure, path: (figures.append(figure), save(figure, path)),
  )
  names = ['aquarium_fish', 'automobile', 'bird', 'sweet_pepper']
  for true in range(4):
    labels = np.tile(np.eye(4)[true], (3, 1))
    strip = {'noise': (np.ones((3, 8, 8, 1)), labels)}
    plots.draw_mollification_strip(tmp_path / 's.png', strip, T, names)
    figures[-1].canvas.draw()  # settles where things stand
    axes = figures[-1].axes
    texts = [a.xaxis.label for a in axes] + [t for a in axes for t in a.texts]
    (name,) = [t for t in texts if t.get_text() == names[true]]
    box = name.get_window_extent()
    for a in axes:
      assert not a.get_window_extent().overlaps(box)
