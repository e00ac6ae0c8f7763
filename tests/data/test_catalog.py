"""Names, parts of data sets, and what the package may import."""

import ast
from pathlib import Path

import numpy as np
import pytest

import mollify_jax.data
from mollify_jax.data import archives, catalog, tfds_source
from mollify_jax.data.catalog import DataSpec
from mollify_jax.data.facts import FACTS


def test_the_default_needs_nothing(tmp_path):
  data = catalog.load(DataSpec(), tmp_path / 'cache')
  assert data.name == 'digits'
  assert not (tmp_path / 'cache').exists()


def test_readers_get_what_the_spec_says(monkeypatch, tmp_path):
  digits = catalog.load(DataSpec(), tmp_path)
  calls = []

  def reader(*arguments):
    calls.append(arguments)
    return digits

  monkeypatch.setattr(archives, 'load', reader)
  monkeypatch.setattr(tfds_source, 'load', reader)
  catalog.load(DataSpec('archive', path='a.npz'), tmp_path)
  catalog.load(DataSpec('cifar10', data_dir='d'), tmp_path)
  catalog.load(DataSpec('cifar100'), tmp_path)
  assert calls == [
    ('a.npz', tmp_path),
    ('cifar10', 'd', tmp_path),
    ('cifar100', '', tmp_path),
  ]


def test_the_first_examples_are_taken(tmp_path):
  whole = catalog.load(DataSpec(), tmp_path)
  spec = DataSpec(train_examples=50, test_examples=20)
  part = catalog.load(spec, tmp_path)
  np.testing.assert_array_equal(part.train_images, whole.train_images[:50])
  np.testing.assert_array_equal(part.train_labels, whole.train_labels[:50])
  np.testing.assert_array_equal(part.test_images, whole.test_images[:20])
  np.testing.assert_array_equal(part.test_labels, whole.test_labels[:20])
  assert part.mean == whole.mean
  prints = {
    catalog.load(
      DataSpec(train_examples=n, test_examples=m), tmp_path
    ).fingerprint
    for n in (0, 50)
    for m in (0, 20, 50)
  }
  assert len(prints) == 6
  full = DataSpec(train_examples=1437)
  assert catalog.load(full, tmp_path).fingerprint == whole.fingerprint


def test_validation_is_held_out_of_training(tmp_path):
  whole = catalog.load(DataSpec(), tmp_path)
  trained = catalog.load(DataSpec(validation_fraction=0.2), tmp_path)
  judged = catalog.load(
    DataSpec(validation_fraction=0.2, evaluate_on='validation'), tmp_path
  )
  np.testing.assert_array_equal(trained.test_images, whole.test_images)
  np.testing.assert_array_equal(trained.train_images, judged.train_images)
  assert len(judged.train_labels) + len(judged.test_labels) == 1437
  assert trained.mean == judged.mean == whole.mean

  def rows(images):
    return {image.tobytes() for image in images}

  # No two digits are equal, so these are sets of examples.
  assert not rows(judged.train_images) & rows(judged.test_images)
  assert not rows(judged.test_images) & rows(whole.test_images)
  assert rows(judged.test_images) < rows(whole.train_images)
  shares = np.bincount(judged.test_labels) / np.bincount(whole.train_labels)
  np.testing.assert_allclose(shares, 0.2, atol=0.004)
  assert whole.validation_images is None
  assert whole.num_validation == 0
  for held_out in (trained, judged):  # at hand whatever is evaluated on
    assert held_out.num_validation == judged.num_test
    for kind in ('images', 'labels'):
      np.testing.assert_array_equal(
        getattr(held_out, f'validation_{kind}'), getattr(judged, f'test_{kind}')
      )
  assert judged.validation_images is judged.test_images  # no second copy
  prints = {d.fingerprint for d in (whole, trained, judged)}
  assert len(prints) == 3


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    (
      {'name': 'mnist'},
      "^unknown data set 'mnist'; choose from digits, archive, folder, "
      'tfds, cifar10, cifar100, tiny_imagenet, imagenet$',
    ),
    ({'name': 'archive'}, "^data set 'archive' needs the path of an .npz"),
    ({'name': 'folder'}, "^data set 'folder' needs the path of a folder of"),
    ({'name': 'tfds'}, "^data set 'tfds' needs tfds' name of it as its path"),
    ({'test_fraction': 1.0}, r'^test_fraction must be in \[0, 1\)'),
    ({'num_workers': -1}, '^num_workers must be >= 0'),
    ({'train_examples': -1}, r'^train_examples must be >= 0 .*, got -1$'),
    ({'test_examples': -5}, r'^test_examples must be >= 0'),
    ({'validation_fraction': 1.0}, r'^validation_fraction must be in \[0, 1\)'),
    ({'validation_seed': -1}, r'^validation_seed must be in'),
    (
      {'validation_fraction': 0.1, 'evaluate_on': 'train'},
      "^unknown evaluate_on 'train'; choose from test, validation",
    ),
    ({'evaluate_on': 'validation'}, 'hold out a fraction'),
  ],
)
def test_a_bad_spec_is_refused_before_anything_is_read(fields, message):
  with pytest.raises(ValueError, match=message):
    DataSpec(**fields)


@pytest.mark.parametrize(('split', 'size'), [('train', 1437), ('test', 360)])
def test_more_examples_than_there_are_is_an_error(tmp_path, split, size):
  spec = DataSpec(**{f'{split}_examples': size + 1})
  with pytest.raises(
    ValueError,
    match=f'^{split}_examples={size + 1} is more than the {split} split of '
    f"'digits' holds; wanted at most {size}, or 0 for all$",
  ):
    catalog.load(spec, tmp_path)


def test_facts_are_consistent():
  for facts in FACTS.values():
    assert len(facts.mean) == len(facts.std) == facts.image_shape[2]
    assert len(set(facts.class_names)) == len(facts.class_names)
  assert FACTS['cifar10'].mean == (0.491, 0.482, 0.446)
  assert FACTS['cifar10'].std == (0.247, 0.243, 0.261)
  assert FACTS['cifar100'].mean == (0.507, 0.487, 0.441)
  assert FACTS['cifar100'].std == (0.267, 0.256, 0.276)
  assert len(FACTS['cifar10'].class_names) == 10
  names = FACTS['cifar100'].class_names
  assert len(names) == 100
  assert list(names) == sorted(names)


def test_readers_import_neither_jax_nor_tensorflow():
  for path in Path(mollify_jax.data.__file__).parent.glob('*.py'):
    for node in ast.walk(ast.parse(path.read_text())):
      names = []
      if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
      elif isinstance(node, ast.ImportFrom):
        names = [node.module]
      for name in names:
        assert name.split('.')[0] not in ('jax', 'flax', 'tensorflow'), path
