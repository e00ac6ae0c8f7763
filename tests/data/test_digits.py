"""The embedded digits and their fixed split."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from mollify_jax.data import digits
from mollify_jax.data.facts import FACTS


@pytest.fixture(scope='module')
def data():
  return digits.load()


def test_sizes_are_those_of_the_facts(data):
  facts = FACTS['digits']
  assert len(data.train_images) == facts.train_examples == 1437
  assert len(data.test_images) == facts.test_examples == 360
  assert data.train_images.shape[1:] == facts.image_shape
  assert data.class_names == tuple('0123456789')


def test_every_digit_is_in_exactly_one_split(data):
  """The two splits together are scikit-learn's set, as a multiset."""
  counts, labels = load_digits(return_X_y=True)
  # round(count * 255 / 16) undone.
  got = np.concatenate([data.train_images, data.test_images])
  got = np.rint(got.reshape(-1, 64) * (16 / 255))
  got_labels = np.concatenate([data.train_labels, data.test_labels])
  rows = np.column_stack([counts, labels])
  got_rows = np.column_stack([got, got_labels])
  assert sorted(map(tuple, got_rows)) == sorted(map(tuple, rows))
  # No digit occurs twice in the source, so the splits are disjoint.
  assert len(np.unique(rows, axis=0)) == 1797


def test_pixels_are_the_17_grey_levels(data):
  levels = np.rint(np.arange(17) * 255 / 16)
  np.testing.assert_array_equal(np.unique(data.train_images), levels)


def test_classes_are_balanced(data):
  np.testing.assert_array_equal(np.bincount(data.test_labels), [36] * 10)
  counts = np.bincount(data.train_labels)
  assert counts.min() == 138
  assert counts.max() == 147
  # Any prefix is class-mixed.
  assert np.bincount(data.train_labels[:200], minlength=10).min() >= 8


def test_the_split_is_the_same_for_ever(data):
  assert digits.load().fingerprint == data.fingerprint
  # Held so that results stay comparable; independent of platform and version.
  assert data.fingerprint.startswith('97f1ae42d307ea263ddbc41c3b3dd574')


def test_constants_are_those_of_the_training_pixels(data):
  pixels = data.train_images / 255
  np.testing.assert_allclose(data.mean, pixels.mean(), atol=5e-5)
  np.testing.assert_allclose(data.std, pixels.std(), atol=5e-5)
