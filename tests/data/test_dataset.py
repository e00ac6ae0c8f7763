"""What a Dataset refuses."""

import dataclasses

import numpy as np
import pytest

from mollify_jax.data import dataset

GOOD = dataset.Dataset(
  name='good',
  train_images=np.arange(4 * 2 * 3 * 3, dtype=np.uint8).reshape(4, 2, 3, 3),
  train_labels=np.array([0, 1, 2, 1], np.int32),
  test_images=np.zeros((2, 2, 3, 3), np.uint8),
  test_labels=np.array([2, 0], np.int32),
  class_names=('a', 'b', 'c'),
  mean=(0.1, 0.2, 0.3),
  std=(0.4, 0.5, 0.6),
  fingerprint='0',
)


def test_classes_are_counted():
  assert GOOD.num_classes == 3


@pytest.mark.parametrize(
  ('changes', 'error', 'message'),
  [
    (
      {'train_labels': np.array([0, 1, 7, 1], np.int32)},
      ValueError,
      r'^train label 2 is 7, wanted a class index in \[0, 2\]; 1 of 4',
    ),
    (
      {'test_labels': np.array([-1, -2], np.int32)},
      ValueError,
      r'^test label 0 is -1, wanted .* 2 of 2 are out of range',
    ),
    (
      {'test_labels': np.zeros(3, np.int32)},
      ValueError,
      r'test labels must have the shape \(2,\), one per image, got \(3,\)',
    ),
    (
      {'train_labels': np.zeros((4, 1), np.int32)},
      ValueError,
      r'train labels must have the shape \(4,\)',
    ),
    (
      {'train_labels': np.zeros(4, np.int64)},
      TypeError,
      'train labels must be int32, got int64',
    ),
    (
      {'train_labels': np.zeros(4)},
      TypeError,
      'train labels must be integer class indices, got float64',
    ),
    ({'train_labels': [0, 1, 2, 1]}, TypeError, 'must be a NumPy array'),
    (
      {'train_images': np.zeros((4, 2, 3, 3), np.float32)},
      TypeError,
      r'train images must be uint8 in \[0, 255\], got float32',
    ),
    (
      {'train_images': np.zeros((4, 2, 3), np.uint8)},
      ValueError,
      r'shape \[N, H, W, C\] with nothing empty, got \(4, 2, 3\)',
    ),
    (
      {
        'test_images': np.zeros((0, 2, 3, 3), np.uint8),
        'test_labels': np.zeros(0, np.int32),
      },
      ValueError,
      'test images .* nothing empty',
    ),
    (
      {'test_images': np.zeros((2, 3, 3, 3), np.uint8)},
      ValueError,
      r'one size \[H, W, C\], got \(2, 3, 3\) and \(3, 3, 3\)',
    ),
    ({'mean': (0.5,)}, ValueError, 'mean must be 3 finite numbers'),
    ({'mean': (0.5, 0.5, np.nan)}, ValueError, 'mean must be 3 finite'),
    ({'std': (0.5, 0.0, 0.5)}, ValueError, 'std must be > 0'),
    ({'class_names': ()}, ValueError, 'at least one class'),
  ],
)
def test_contradictions_are_refused_in_one_line(changes, error, message):
  with pytest.raises(error, match=message) as caught:
    dataclasses.replace(GOOD, **changes)
  assert '\n' not in str(caught.value)


def test_fingerprint_sees_contents_shape_and_dtype():
  array = np.arange(6, dtype=np.int32)
  prints = {
    dataset.fingerprint(array),
    dataset.fingerprint(array[::-1]),
    dataset.fingerprint(array.reshape(2, 3)),
    dataset.fingerprint(array.astype(np.uint32)),
    dataset.fingerprint(array, array),
  }
  assert len(prints) == 5
  assert dataset.fingerprint(array.copy()) in prints
