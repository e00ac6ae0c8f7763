"""The -C evaluation: generated and read cells against each image by itself."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from mollify_jax import corruptions, metrics, parallel
from mollify_jax.corruptions import textures, weather
from mollify_jax.data.dataset import Dataset
from mollify_jax.evaluation import corrupted, passes
from mollify_jax.feeds import ResidentFeed
from mollify_jax.kernels.mollify import MollifySpec
from mollify_jax.models import create_model

N, K, SHAPE = 11, 4, (9, 12, 3)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


@pytest.fixture(scope='module')
def dataset():
  random = np.random.default_rng(0)
  images = random.integers(0, 256, (N, *SHAPE), np.uint8)
  labels = (np.arange(N) % K).astype(np.int32)
  return Dataset(
    'shapes', images, labels, images, labels, tuple('abcd'), MEAN, STD, 'x'
  )


@pytest.fixture(scope='module')
def network():
  """(model, variables, logits of uint8 images)."""
  model = create_model('small_cnn', K, axis_name=parallel.AXIS)
  variables = model.init(jax.random.key(3), jnp.zeros((1, *SHAPE)), train=False)

  def logits(images):
    pixels = (images / 255 - np.array(MEAN)) / np.array(STD)
    return np.asarray(
      model.apply(variables, pixels.astype(np.float32), train=False)
    )

  return model, variables, logits


def scoring(network):
  model, variables, _ = network
  spec = passes.EvalSpec(K, MEAN, STD, MollifySpec())
  score = passes.make_scoring(model, spec, keep_logits=True)
  return score, parallel.replicate(variables)


@pytest.mark.parametrize(
  'batch_size', [4, pytest.param(16, marks=pytest.mark.slow)]
)
def test_generated_cells_are_the_kernels_image_by_image(
  dataset, network, batch_size
):
  feed = ResidentFeed(
    dataset.test_images, dataset.test_labels, batch_size=batch_size
  )
  cells = corrupted.GeneratedCells('shapes', feed, SHAPE, seed=5)
  kept = {}
  record = corrupted.evaluate(
    *scoring(network),
    cells,
    ('impulse_noise', 'contrast'),
    on_cell=lambda name, severity, examples: kept.update(
      {(name, severity): examples['logits']}
    ),
  )
  assert record['title'] == 'shapes-C-like'
  assert record['source'] == 'generated'
  assert record['seed'] == 5
  assert record['skipped'] == {}
  assert len(record['cells']) == len(kept) == 10
  for cell in record['cells']:
    name, severity = cell['corruption'], cell['severity']
    keys = corruptions.cell_keys(5, name, severity, jnp.arange(N))
    images = np.stack(
      [
        corruptions.corrupt(key, image, name, severity)
        for key, image in zip(keys, dataset.test_images, strict=True)
      ]
    )
    logits = network[2](images)
    np.testing.assert_allclose(kept[name, severity], logits, atol=1e-3)
    errors = kept[name, severity].argmax(1) != dataset.test_labels
    assert cell['n'] == N
    assert cell['error'] == errors.mean()
    probs = np.asarray(jax.nn.softmax(kept[name, severity]), float)
    nll = -np.log(probs[np.arange(N), dataset.test_labels]).mean()
    assert cell['nll'] == pytest.approx(nll, rel=1e-4)
    scores = metrics.ExampleScores(probs.max(1).astype(np.float32), ~errors)
    assert cell['adaptive_ece'] == pytest.approx(
      metrics.adaptive_ece(scores), abs=1e-5
    )
    assert cell['gap'] == pytest.approx(
      probs.max(1).mean() - 1 + errors.mean(), abs=1e-5
    )


def write_official(folder, dataset, seed):
  """What the generated cells of that seed hold, in the official layout."""
  images, labels = dataset.test_images, dataset.test_labels
  np.save(folder / 'labels.npy', np.tile(labels, 5).astype(np.uint8))
  for name in ('impulse_noise', 'contrast'):
    parts = [
      corruptions.corrupt_batch(
        corruptions.cell_keys(seed, name, severity, jnp.arange(N)),
        images,
        name,
        severity,
      )
      for severity in corruptions.SEVERITIES
    ]
    np.save(folder / f'{name}.npy', np.concatenate(parts))


def open_cells(dataset, names, path='', **changes):
  feed = ResidentFeed(dataset.test_images, dataset.test_labels, batch_size=4)
  arguments = {
    'path': str(path),
    'parameters': 'auto',
    'seed': 5,
    'batch_size': 4,
    'same_order': True,
  }
  return corrupted.open_cells(dataset, feed, names, **(arguments | changes))


@pytest.mark.slow
def test_files_and_generation_give_the_same_figures(dataset, network, tmp_path):
  write_official(tmp_path, dataset, seed=5)
  names = ('impulse_noise', 'contrast')
  score = scoring(network)
  records = [
    corrupted.evaluate(
      *score,
      open_cells(dataset, names, path),
      names,
      on_cell=lambda *_: None,
    )
    for path in ('', tmp_path)
  ]
  generated, read = records
  assert read['title'] == 'shapes-C'
  assert read['source'] == 'official files'
  assert read['seed'] is read['parameters'] is None
  for a, b in zip(generated['cells'], read['cells'], strict=True):
    for name in ('error', 'nll', 'ece', 'classwise_ece', 'ece_batch100'):
      assert a[name] == pytest.approx(b[name], abs=1e-5), (a, name)


def test_files_are_checked_before_anything_is_trained(dataset, tmp_path):
  with pytest.raises(FileNotFoundError, match=r'labels\.npy.* does not exist'):
    open_cells(dataset, ('contrast',), tmp_path)
  with pytest.raises(FileNotFoundError, match='is not a folder; name'):
    open_cells(dataset, ('contrast',), tmp_path / 'typo')
  write_official(tmp_path, dataset, seed=5)
  with pytest.raises(FileNotFoundError, match='does not exist; there'):
    open_cells(dataset, ('contrast', 'fog'), tmp_path)
  np.save(tmp_path / 'contrast.npy', np.zeros((4 * N, *SHAPE), np.uint8))
  with pytest.raises(ValueError, match='a missing severity: 4 times 11 rows'):
    open_cells(dataset, ('contrast',), tmp_path)
  labels = np.tile(np.roll(dataset.test_labels, 1), 5).astype(np.uint8)
  np.save(tmp_path / 'labels.npy', labels)
  with pytest.raises(ValueError, match=r'shuffled files|times per severity'):
    open_cells(dataset, ('impulse_noise',), tmp_path)


def test_the_parameter_set_is_chosen_by_size_and_said(dataset):
  feed = ResidentFeed(dataset.test_images, dataset.test_labels, batch_size=4)
  make = corrupted.GeneratedCells
  small = make('shapes', feed, SHAPE, seed=0)
  assert small.parameters == 'cifar'
  assert small.note == (
    "corruptions of 9x12 images with the parameter set 'cifar', which was made "
    'for 32x32'
  )
  assert make('shapes', feed, (32, 32, 3), seed=0).note == ''
  assert make('shapes', feed, (64, 64, 3), seed=0).parameters == 'tiny_imagenet'
  with pytest.raises(ValueError, match="'imagenet' for 32x32 images"):
    make('shapes', feed, (32, 32, 3), parameters='imagenet', seed=0)


def test_frost_that_cannot_be_had_is_skipped_and_said(
  dataset, network, monkeypatch
):
  feed = ResidentFeed(dataset.test_images, dataset.test_labels, batch_size=4)
  large = corrupted.GeneratedCells('shapes', feed, (100, 100, 3), seed=0)
  assert 'at most' in large.skipped['frost']
  monkeypatch.setattr(textures.importlib.util, 'find_spec', lambda name: None)
  textures.frost_textures.cache_clear()
  weather._stacked_textures.cache_clear()
  cells = corrupted.GeneratedCells('shapes', feed, SHAPE, seed=0)
  record = corrupted.evaluate(
    *scoring(network), cells, ('frost', 'contrast'), on_cell=lambda *_: None
  )
  assert 'pip install' in record['skipped']['frost']
  assert {cell['corruption'] for cell in record['cells']} == {'contrast'}


def write_tree(root, dataset, names=('fog', 'blur/glass_blur')):
  """Images in folders, as ImageNet-C unpacks; each cell of its own colour."""
  for number, name in enumerate(names):
    for severity in corruptions.SEVERITIES:
      for index, label in enumerate(dataset.test_labels):
        folder = root / name / str(severity) / 'abcd'[label]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.full((9, 9, 3), 40 * severity + 20 * number, np.uint8)
        Image.fromarray(pixels).save(folder / f'{index:02d}.png')


def test_folders_of_images_are_read_whole(dataset, network, tmp_path):
  """Not cropped again: they were cropped before they were corrupted."""
  square = dataclasses.replace(
    dataset,
    train_images=dataset.train_images[:, :9, :9],
    test_images=dataset.test_images[:, :9, :9],
  )
  write_tree(tmp_path, dataset)
  cells = open_cells(square, ('fog', 'glass_blur'), tmp_path)
  assert (cells.title, cells.source) == ('shapes-C', 'official files')
  batches = list(cells.batches('glass_blur', 3))
  images = np.concatenate([batch.image[0] for batch in batches])
  mask = np.concatenate([batch.mask[0] for batch in batches])
  assert images.shape[1:] == (9, 9, 3)
  assert (images[mask] == 140).all()
  labels = np.concatenate([batch.label[0] for batch in batches])[mask]
  assert (
    np.bincount(labels).tolist() == np.bincount(dataset.test_labels).tolist()
  )
  with pytest.raises(FileNotFoundError, match='as in ImageNet-C'):
    open_cells(square, ('snow',), tmp_path)
  shutil.move(tmp_path / 'fog' / '5', tmp_path / 'elsewhere')
  with pytest.raises(FileNotFoundError, match='does not exist'):
    open_cells(square, ('fog',), tmp_path)
  shutil.move(tmp_path / 'elsewhere', tmp_path / 'fog' / '5')
  (tmp_path / 'weather' / 'fog' / '1').mkdir(parents=True)
  with pytest.raises(ValueError, match='are the same corruption'):
    open_cells(square, ('fog',), tmp_path)
  shutil.rmtree(tmp_path / 'weather')
  (tmp_path / 'fog' / '1' / 'a' / '00.png').unlink()
  with pytest.raises(ValueError, match='holds 10 images, wanted 11'):
    open_cells(square, ('fog',), tmp_path)
  (tmp_path / 'fog' / '1' / 'a').rename(tmp_path / 'fog' / '1' / 'n01')
  with pytest.raises(ValueError, match='1 folders that are no class'):
    open_cells(square, ('fog',), tmp_path)


def test_the_frost_of_tiny_imagenet_c_is_named(dataset, tmp_path):
  tiny = dataclasses.replace(dataset, name='tiny_imagenet')
  write_tree(tmp_path, dataset, names=('frost',))
  (tmp_path / 'frost' / '1' / 'a').rename(tmp_path / 'frost' / '1' / 'n9')
  with pytest.raises(ValueError, match='record 8206060 has them right'):
    open_cells(tiny, ('frost',), tmp_path)
