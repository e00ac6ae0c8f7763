"""The figures for print show what records and kernels say, and fit the page."""

import itertools
import json
import re
import sys

import jax
import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from PIL import Image

from experiments.figures import __main__ as command
from experiments.figures import (
  ablations,
  augmentations,
  reliability,
  sequences,
)
from experiments.figures.inputs import Inputs
from mollify_jax import augment, corruptions
from mollify_jax.corruptions.severities import CORRUPTIONS, GROUPS
from mollify_jax.data import digits
from mollify_jax.evaluation import plots
from mollify_jax.kernels.mollify import MollifySpec

RUN_FIGURES = ('severity', 'ablations', 'reliability')


def bins(shift=0):
  count = np.array([0] * 5 + [4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24])
  confidence = count * (np.arange(16) + 0.5) / 16
  correct = np.maximum(count - 3 - shift * (count > 0), 0)
  return {
    'count': count.tolist(),
    'confidence': confidence.tolist(),
    'correct': correct.tolist(),
  }


def record(method='plain', seed=0, scale=1.0, roles=('clean',), **mollify):
  def figures(error, shift=0):
    return {
      'n': 1234,
      'error': error,
      'nll': 4 * error,
      'brier': error / 3,
      'ece': error / 2,
      'confidence': 1 - error / 2,
      'bins': bins(shift),
    }

  return {
    'format': 1,
    'method': method,
    'dataset': 'digits',
    'model': 'small_cnn',
    'steps': 7,
    'config': {
      'seed': seed,
      'method': method,
      'data': {'name': 'digits'},
      'mollify': {'roles': list(roles), 'noise_power': 2.0, **mollify},
    },
    'conditions': [
      {
        'corruption': name,
        't': t,
        'label_confidence': 1 - 0.9 * t,
        **figures(scale * (0.05 + 0.4 * t)),
      }
      for name, grid in (
        ('clean', (0.0,)),
        ('noise', (0.3, 0.6)),
        ('blur', (0.2, 0.5)),
      )
      for t in grid
    ],
    'corrupted': {
      'title': 'digits-C-like',
      'source': 'generated',
      'parameters': 'cifar',
      'seed': 0,
      'skipped': {},
      'cells': [
        {
          'corruption': name,
          'severity': severity,
          **figures(scale * (index / 100 + severity / 10), 1),
        }
        for index, name in enumerate(CORRUPTIONS)
        for severity in range(1, 6)
      ],
    },
  }


def some_runs():
  """A plain run, and a method of three seeds with a name like a formula."""
  roles = ('clean', 'noise', 'blur')
  return [
    record(),
    *(
      record('a_$x^{_$,b', seed, scale, roles)
      for seed, scale in ((0, 0.4), (1, 0.5), (2, 0.9))
    ),
  ]


@pytest.fixture
def inputs(tmp_path):
  """Inputs of a command line, with records in a file if there are any."""

  def build(name, *options, runs=()):
    arguments = [name, f'--out={tmp_path / "out"}', *options]
    if runs:
      path = tmp_path / 'runs.json'
      path.write_text(json.dumps(runs))
      arguments.append(str(path))
    return Inputs(command.parse(arguments))

  return build


def labelled(figure, label):
  (panel,) = (axes for axes in figure.axes if axes.get_label() == label)
  return panel


def assert_fits(figure):
  """No letter leaves the page, and no two titles of panels meet."""
  figure.canvas.draw()
  box = figure.get_tightbbox()
  width, height = figure.get_size_inches()
  assert box.x0 > -0.01
  assert box.y0 > -0.01
  assert box.x1 < width + 0.01
  assert box.y1 < height + 0.01
  titles = [a.title for a in figure.axes if a.get_title()]
  for one, other in itertools.combinations(titles, 2):
    assert not one.get_window_extent().overlaps(other.get_window_extent())


def assert_band(band, x, low, high):
  points = band.get_paths()[0].vertices
  for at, below, above in zip(x, low, high, strict=True):
    y = points[np.isclose(points[:, 0], at), 1]
    np.testing.assert_allclose([y.min(), y.max()], [below, above], rtol=1e-6)


def test_severity_shows_means_over_corruptions_and_the_band_of_seeds(inputs):
  figure = command.FIGURES['severity'](inputs('severity', runs=some_runs()))
  assert_fits(figure)
  assert [a.get_title() for a in figure.axes] == ['error %', 'NLL', 'ECE']
  for panel, factor in zip(figure.axes, (100, 4, 0.5), strict=True):
    plain, mollified = panel.get_lines()
    want = np.array([0.05, *(0.07 + np.arange(1, 6) / 10)])
    np.testing.assert_array_equal(plain.get_xdata(), range(6))
    np.testing.assert_allclose(plain.get_ydata(), factor * want)
    np.testing.assert_allclose(mollified.get_ydata(), factor * 0.6 * want)
    (band,) = panel.collections  # one run has none
    spread = np.std([0.4, 0.5, 0.9], ddof=1)
    low, high = (factor * (0.6 + s * spread) * want for s in (-1, 1))
    assert_band(band, range(6), low, high)
  (legend,) = figure.legends
  names = [text.get_text() for text in legend.get_texts()]
  assert names == ['plain', 'a_$x^{_$,b (3 seeds)']
  caption = figure.get_supxlabel()
  assert 'digits-C-like' in caption
  assert '15 corruptions, n = 1,234 images' in caption
  assert 'over seeds' in caption


def test_ablations_are_bars_by_group_in_the_order_given(inputs):
  runs = some_runs()
  figure = command.FIGURES['ablations'](inputs('ablations', runs=runs))
  assert_fits(figure)
  heads = ['clean', 'noise (3)', 'blur (4)', 'weather (4)', 'digital (4)']
  assert [a.get_title() for a in figure.axes] == [*heads, 'all (15)']
  index = {name: i / 100 for i, name in enumerate(CORRUPTIONS)}
  groups = [*GROUPS.values(), CORRUPTIONS]
  wants = [5.0, *(100 * np.mean([index[n] for n in g]) + 30 for g in groups)]
  spread = np.std([0.4, 0.5, 0.9], ddof=1)
  for panel, want in zip(figure.axes, wants, strict=True):
    first, second = panel.patches
    assert first.get_y() < second.get_y()
    np.testing.assert_allclose(first.get_width(), want)
    np.testing.assert_allclose(second.get_width(), 0.6 * want)
    ((_, _, (whisker,)),) = (
      c for c in panel.containers if isinstance(c, ErrorbarContainer)
    )
    ((start, end),) = whisker.get_segments()
    np.testing.assert_allclose(
      [start[0], end[0]], [(0.6 - spread) * want, (0.6 + spread) * want]
    )
    texts = [text.get_text() for text in panel.texts]
    assert texts == [f'{want:.1f}', f'{0.6 * want:.1f}']
  low, high = figure.axes[0].get_ylim()
  assert low > high  # the first method is at the top
  figure = command.FIGURES['ablations'](
    inputs('ablations', '--metric=ece', runs=runs[::-1])
  )
  np.testing.assert_allclose(figure.axes[0].patches[1].get_width(), 0.025)
  with pytest.raises(ValueError, match="unknown --metric='loss'; choose from"):
    command.FIGURES['ablations'](
      inputs('ablations', '--metric=loss', runs=runs)
    )


def test_reliability_pools_all_cells_and_seeds(inputs):
  runs = some_runs()
  figure = command.FIGURES['reliability'](inputs('reliability', runs=runs))
  assert_fits(figure)
  for kind, shift in (('clean', 0), ('corrupted', 1)):
    want = {key: np.array(values, float) for key, values in bins(shift).items()}
    ece = np.abs(want['correct'] - want['confidence']).sum()
    ece /= want['count'].sum()
    # The last bin holds the confidence of exactly 1, too.
    count, correct = (
      np.append(want[k][:14], want[k][14:].sum()) for k in ('count', 'correct')
    )
    for name, spread in (('plain', ''), ('a_$x^{_$,b', ' ± 0.000')):
      panel = labelled(figure, f'{name}, {kind}')
      accuracy, _ = panel.containers
      np.testing.assert_allclose(
        [bar.get_height() for bar in accuracy],
        (correct / np.maximum(count, 1))[count > 0],
      )
      assert f'ECE {ece:.3f}{spread}' in panel.get_title()
      below = figure.axes[figure.axes.index(panel) + 1]
      np.testing.assert_allclose(
        [bar.get_height() for bar in below.patches], count / count.sum()
      )
  title = labelled(figure, 'plain, corrupted').get_title()
  assert 'mean ECE 0.185' in title  # half the mean error, 0.37
  (run,) = some_runs()[:1]
  del run['corrupted']['cells'][3]['bins']
  with pytest.raises(ValueError, match="'plain' lacks bins of 16"):
    reliability.bins_of(run, 'corrupted', CORRUPTIONS)


def test_many_methods_fit_the_page(inputs):
  runs = [record(f'method_{i},trivial_augment_wide') for i in range(9)]
  for name in RUN_FIGURES:
    assert_fits(command.FIGURES[name](inputs(name, runs=runs)))


def test_method_shows_labels_schedules_and_predictions(inputs):
  given = inputs('method', runs=some_runs())
  figure = command.FIGURES['method'](given)
  assert_fits(figure)
  strips, softening, *predictions = (
    figure.axes[:24],
    *figure.axes[24:],
  )
  t = np.linspace(0, 1, 6)
  # Rows are noise, its labels, blur, its labels; the run's powers are 2 and 1.
  label = digits.load().test_labels[0]
  for row, gamma in ((0, np.sin(np.pi * t / 2) ** 4), (1, t)):
    bars = strips[12 * row + 1 : 12 * (row + 1) : 2]
    heights = np.array([[bar.get_height() for bar in b.patches] for b in bars])
    want = np.outer(gamma, np.full(10, 0.1))
    want[:, label] += 1 - gamma
    np.testing.assert_allclose(heights, want, atol=1e-6)
  noise, blur = softening.get_lines()
  x = noise.get_xdata()
  np.testing.assert_allclose(
    noise.get_ydata(), np.sin(np.pi * x / 2) ** 4, atol=1e-6
  )
  np.testing.assert_allclose(blur.get_ydata(), x, atol=1e-6)
  # Of the method that was mollified: means of 3 seeds.
  for panel, grid in zip(predictions, ((0.3, 0.6), (0.2, 0.5)), strict=True):
    t = np.array([0, *grid])
    error = 0.6 * (0.05 + 0.4 * t)
    for line, want in zip(
      panel.get_lines(), (1 - 0.9 * t, 1 - error / 2, 1 - error), strict=True
    ):
      np.testing.assert_allclose(line.get_xdata(), t)
      np.testing.assert_allclose(line.get_ydata(), want)
    assert len(panel.collections) == 3
  # What the strip shows at t = 0 is the image.
  shown = strips[0].images[0].get_array()
  image = digits.load().test_images[0, ..., 0] / 255
  np.testing.assert_allclose(shown, image, atol=1e-6)
  plain = command.FIGURES['method'](
    inputs('method', '--method=plain', runs=some_runs())
  )
  np.testing.assert_allclose(
    plain.axes[25].get_lines()[2].get_ydata()[0], 1 - 0.05
  )
  with pytest.raises(ValueError, match="no run has the method 'x'; choose"):
    command.FIGURES['method'](inputs('method', '--method=x', runs=some_runs()))


def test_method_without_runs_has_the_schedule_alone(inputs):
  figure = command.FIGURES['method'](inputs('method', '--image=5'))
  assert_fits(figure)
  assert len(figure.axes) == 25


def test_frequencies_kept_against_the_equations():
  spec = MollifySpec(blur_width_min=0.4, blur_width_max=9.0)
  power = np.random.default_rng(0).uniform(0.1, 3, (4, 6))
  kept = sequences.measure(power, spec)
  i, j = np.meshgrid(np.arange(4) / 4, np.arange(6) / 6, indexing='ij')
  squared = np.pi**2 * (i**2 + j**2)
  place = np.digitize(np.sqrt(squared) / (2 * np.pi), kept.edges) - 1
  place = np.minimum(place, len(kept.edges) - 2)
  place[0, 0] = -1  # the constant one
  for at in (0, 60, 150, 240):
    t = at / 240
    snr = 1 / np.tan(np.pi * t / 2) ** 2 if t else np.inf
    share = 1 - 1 / (1 + snr * power)
    tau = (0.4 ** (1 - t) * 9.0**t) ** 2 / 2
    left = np.exp(-tau * squared)
    for values, want in ((kept.noise, share), (kept.blur, left)):
      for row in range(len(kept.edges) - 1):
        if (place == row).any():
          np.testing.assert_allclose(
            values[row, at], want[place == row].mean(), atol=2e-6
          )
    np.testing.assert_allclose(kept.noise_share[at], (snr * power >= 1).mean())
    np.testing.assert_allclose(kept.blur_share[at], (left >= 0.5).mean())
  assert (np.diff(kept.noise_share) <= 0).all()


def test_spectrum_of_white_noise_is_flat_and_has_the_energy():
  pixels = np.random.default_rng(0).integers(0, 256, (3000, 4, 6, 2), np.uint8)
  mean, std = (0.5, 0.4), (0.2, 0.3)
  power = sequences.spectrum(pixels, mean, std)
  normalised = (pixels / 255 - mean) / std
  np.testing.assert_allclose(
    power.sum(), np.square(normalised).sum(axis=(1, 2)).mean(), rtol=1e-6
  )
  rest = np.delete(power.ravel(), 0)
  variance = np.mean((1 / 12) / np.square(std))
  np.testing.assert_allclose(rest, variance, rtol=0.12)


def test_sequences_show_images_over_their_t(inputs):
  figure = command.FIGURES['sequences'](inputs('sequences', '--image=3'))
  assert_fits(figure)
  sheet = labelled(figure, 'noise').images[0].get_array()
  image = digits.load().test_images[3, ..., 0] / 255
  np.testing.assert_allclose(sheet[1:9, 1:9], image, atol=1 / 500)
  shares = labelled(figure, 'shares')
  noise, blur = shares.get_lines()
  assert noise.get_ydata()[0] == blur.get_ydata()[0] == 100
  assert noise.get_ydata()[-1] == 0
  # The middle of an image stands over its t.
  figure.canvas.draw()
  for k, panel in ((0, 'noise kept'), (8, 'blur kept'), (4, 'shares')):
    at = labelled(figure, panel).transData.transform((k / 8, 0))[0]
    middle = labelled(figure, 'noise').transData.transform((k + 0.5, 0))[0]
    np.testing.assert_allclose(at, middle, atol=0.5)


def test_corruptions_are_those_of_an_evaluation(inputs, monkeypatch):
  monkeypatch.setattr(
    corruptions, 'unavailable', lambda *_: {'frost': 'not here'}
  )
  given = inputs(
    'corruptions',
    *('--corruptions=frost,contrast,gaussian_noise', '--image=2', '--seed=3'),
  )
  figure = command.FIGURES['corruptions'](given)
  assert_fits(figure)
  noise, others = (axes.images[0].get_array() for axes in figure.axes)
  image = digits.load().test_images[2]
  for severity in (1, 4):
    for sheet, row, name in (
      (noise, 0, 'gaussian_noise'),
      (others, 1, 'contrast'),
    ):
      (key,) = corruptions.cell_keys(3, name, severity, np.array([2]))
      want = corruptions.corrupt(key, image, name, severity)[..., 0] / 255
      cell = sheet[10 * row + 1 : 10 * row + 9, 10 * severity + 1 :][:, :8]
      np.testing.assert_allclose(cell, want, atol=1e-6)
  np.testing.assert_allclose(others[1:9, 1:9], image[..., 0] / 255)
  np.testing.assert_allclose(others[1:9, 11:19], 0xD0 / 255)
  texts = [t.get_text() for t in figure.axes[1].texts]
  assert texts == ['its photographs are not installed']
  rows = [t.get_text() for t in figure.axes[1].get_yticklabels()]
  assert rows == ['frost', 'contrast']


def test_augmentations_are_drawn_as_in_training(inputs):
  given = inputs('augmentations', '--steps=flip,crop,mixup', '--draws=3')
  figure = command.FIGURES['augmentations'](given)
  assert_fits(figure)
  sheet = figure.axes[0].images[0].get_array()
  assert sheet.shape == (30, 40)
  data = digits.load()
  images = augmentations.choose_images(data, 0)
  labels = [
    int(data.test_labels[(data.test_images == i).all(axis=(1, 2, 3))][0])
    for i in images
  ]
  assert len(set(labels)) == 8
  assert (images[0] == data.test_images[0]).all()
  keys = jax.random.split(jax.random.key(0), (3, 8))
  spec = augment.AugmentSpec(steps=('crop',), crop_padding=1)  # the config's
  for place in range(3):
    want = augment.augment_images(keys[place], images, spec)[0, ..., 0] / 255
    cell = sheet[11:19, 10 * (place + 1) + 1 :][:, :8]
    np.testing.assert_allclose(cell, want, atol=1e-6)
  figure = command.FIGURES['augmentations'](
    inputs('augmentations', '--steps=flip', '--draws=2', '--rows=3')
  )
  assert figure.axes[0].images[0].get_array().shape == (30, 30)


def lightness(color):
  """CIE L* of a colour, 0 to 100."""
  rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
  linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
  y = linear @ (0.2126, 0.7152, 0.0722)
  return 116 * y ** (1 / 3) - 16 if y > 0.008856 else 903.3 * y


def test_methods_are_told_apart_in_grey():
  styles = [plots.style_of(index) for index in range(8)]
  levels = [lightness(style.color) for style in styles]
  for one, other in itertools.combinations(levels[:4], 2):
    assert abs(one - other) > 10
  assert max(levels) < 80  # on white paper
  for field in ('marker', 'hatch'):
    assert len({getattr(style, field) for style in styles}) == 8
  looks = {(s.color, s.marker) for s in map(plots.style_of, range(56))}
  assert len(looks) == 56
  noise, blur = plots.KINDS['noise'], plots.KINDS['blur']
  assert abs(lightness(noise.color) - lightness(blur.color)) > 30
  assert noise.marker != blur.marker


def test_files_have_text_the_size_of_print_and_the_same_bytes(inputs, tmp_path):
  given = inputs('ablations', runs=some_runs())
  paths = command.draw('ablations', given)
  assert [p.name for p in paths] == [f'ablations.{e}' for e in plots.FORMATS]
  first = [path.read_bytes() for path in paths]
  assert sorted(given.arguments.out.iterdir()) == sorted(paths)
  with Image.open(paths[0]) as image:
    assert image.width == 6.75 * 200
  svg, pdf = first[1].decode(), first[2]
  texts = re.findall(r'<text[^>]*>([^<]*)</text>', svg)
  assert {'weather (4)', 'plain'} <= set(texts)
  assert 'a_$x^{_$,' in svg
  assert b'/FontFile2' in pdf  # TrueType, not the outlines of Type 3
  assert b'/Type3' not in pdf
  assert b'CreationDate' not in pdf
  again = command.draw('ablations', inputs('ablations', runs=some_runs()))
  assert [path.read_bytes() for path in again] == first
  assert 'matplotlib.pyplot' not in sys.modules


def test_all_draws_what_it_can_and_says_what_not(tmp_path, capsys, monkeypatch):
  quick = {
    name: make
    for name, make in command.FIGURES.items()
    if name not in ('augmentations', 'corruptions')
  }
  monkeypatch.setattr(command, 'FIGURES', quick)
  monkeypatch.setattr(command.parallel, 'cache_compilations', lambda _: None)
  out = tmp_path / 'out'
  assert command.main(['all', f'--out={out}']) == 0
  printed = capsys.readouterr().out.splitlines()
  assert [line for line in printed if line.startswith('left out')] == [
    f'left out {name}: it shows finished runs, and none was named; name their '
    'workdirs, or files of their records'
    for name in RUN_FIGURES
  ]
  names = {f'{n}.{e}' for n in ('method', 'sequences') for e in plots.FORMATS}
  assert {path.name for path in out.iterdir()} == names
  assert {line for line in printed if '/' in line} == {
    str(out / name) for name in names
  }


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['picture'], "unknown figure 'picture'; choose from all, augmentations"),
    (['severity'], 'it shows finished runs, and none was named'),
    (['severity', 'PLACE/none'], 'none is missing; wanted the workdir'),
    (['severity', 'PLACE/list.json'], 'list.json is an empty list'),
    (['severity', 'PLACE/odd.json'], 'entry 0 of .*odd.json is int'),
    (['severity', 'PLACE/bad.json'], 'bad.json is damaged'),
    (['severity', 'PLACE/twice.json'], "'plain' with seed 0 is there twice"),
    (['severity', 'PLACE/clean.json'], 'no corrupted test sets'),
    (['method', '--image=400'], '--image=400 of .digits.; wanted one of'),
    (['method', '--data=moon'], "unknown data set 'moon'; choose from"),
    (['method', '--config=nowhere.py'], "cannot use 'nowhere.py'"),
    (['method', 'PLACE/no_config.json'], 'has no config'),
    (['corruptions', '--corruptions=rain'], "unknown corruption 'rain'"),
    (['corruptions', '--corruptions=none'], 'names none'),
    (['augmentations', '--steps=flop'], "unknown augmentation 'flop'"),
    (['augmentations', '--rows=9'], '--rows=9 and --draws=10; wanted'),
    (['method', '--seed=-1'], '--seed must be in'),
    (['method', '--sed=1'], 'unrecognized arguments: --sed=1; see --help'),
    (['method', '--image=x'], "invalid int value: 'x'; see --help"),
  ],
)
def test_bad_input_is_one_line(
  tmp_path, capsys, monkeypatch, arguments, message
):
  monkeypatch.setattr(command.parallel, 'cache_compilations', lambda _: None)
  clean = record()
  del clean['corrupted']
  no_config = record()
  del no_config['config']
  for name, value in {
    'list': [],
    'odd': [3],
    'twice': [record(), record()],
    'clean': clean,
    'no_config': no_config,
  }.items():
    (tmp_path / f'{name}.json').write_text(json.dumps(value))
  (tmp_path / 'bad.json').write_text('[{')
  arguments = [a.replace('PLACE', str(tmp_path)) for a in arguments]
  before = sorted(tmp_path.iterdir())
  assert command.main([*arguments, f'--out={tmp_path / "out"}']) == 1
  captured = capsys.readouterr()
  assert captured.out == ''
  (line,) = captured.err.splitlines()
  assert line.startswith('error: ')
  assert re.search(message, line), line
  assert sorted(tmp_path.iterdir()) == before


def test_group_mean_is_that_of_severities_and_corruptions():
  names = ('gaussian_noise', 'fog')
  want = 0.3 + np.mean([CORRUPTIONS.index(name) for name in names]) / 100
  got = ablations.group_mean(record(), names, 'error')
  np.testing.assert_allclose(got, 100 * want)
  np.testing.assert_allclose(ablations.group_mean(record(), (), 'nll'), 0.2)
