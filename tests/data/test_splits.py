"""Held-out parts: exact shares of every class, disjoint, fixed."""

import numpy as np
import pytest

from mollify_jax.data import splits


@pytest.mark.parametrize(
  ('share', 'counts'), [(0.25, [5, 10, 1]), (0.1, [2, 4, 0]), (3, [3, 3, 3])]
)
def test_every_class_gives_its_share(share, counts):
  labels = np.random.default_rng(0).permutation(
    np.repeat([0, 1, 2], [20, 40, 4])
  )
  kept, held = splits.hold_out(labels, share, seed=1)
  np.testing.assert_array_equal(
    np.sort(np.concatenate([kept, held])), np.arange(64)
  )
  np.testing.assert_array_equal(np.bincount(labels[held], minlength=3), counts)


def test_the_part_is_a_function_of_the_seed():
  labels = np.arange(60) % 3
  one = splits.hold_out(labels, 0.2, seed=5)
  again = splits.hold_out(labels, 0.2, seed=5)
  other = splits.hold_out(labels, 0.2, seed=6)
  np.testing.assert_array_equal(one[1], again[1])
  assert set(one[1]) != set(other[1])
  # Held for ever: hyperparameters chosen on it must stay comparable.
  assert one[1][:6].tolist() == [31, 42, 34, 52, 56, 19]


@pytest.mark.parametrize('share', [0.0, 1.0, -0.1, 2.0, 0.01, 0, 100])
def test_an_empty_side_is_refused(share):
  with pytest.raises(ValueError, match=r'leaves nothing|must be in \(0, 1\)'):
    splits.hold_out(np.arange(60) % 3, share, seed=0)
