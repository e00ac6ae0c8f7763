"""Order and batches of resident data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mollify_jax.data import resident


def test_permutation_holds_everything_and_depends_on_seed_and_epoch():
  first = resident.epoch_permutation(3, 5, 100)
  assert first.dtype == np.int32
  np.testing.assert_array_equal(np.sort(first), np.arange(100))
  np.testing.assert_array_equal(first, resident.epoch_permutation(3, 5, 100))
  for other in ((4, 5), (3, 6), (5, 3)):
    assert not np.array_equal(first, resident.epoch_permutation(*other, 100))


def test_permutation_is_the_documented_one():
  # Resumed runs rely on this stream.
  want = np.random.default_rng((7, 2)).permutation(50)
  np.testing.assert_array_equal(resident.epoch_permutation(7, 2, 50), want)


@settings(max_examples=30, deadline=None)
@given(
  num_examples=st.integers(1, 60),
  batch_size=st.integers(1, 60),
  epoch=st.integers(0, 4),
)
def test_an_epoch_deals_each_example_at_most_once(
  num_examples, batch_size, epoch
):
  batch_size = min(batch_size, num_examples)
  steps = num_examples // batch_size
  dealt = resident.train_indices(
    1, epoch * steps, steps, batch_size, num_examples
  )
  assert dealt.shape == (steps, batch_size)
  assert dealt.dtype == np.int32
  assert len(np.unique(dealt)) == dealt.size
  assert dealt.min() >= 0
  assert dealt.max() < num_examples
  # Only a tail shorter than a batch is dropped.
  assert num_examples - dealt.size < batch_size


def test_the_dropped_tail_changes_from_epoch_to_epoch():
  seen = resident.train_indices(0, 0, 12, 7, 20)  # 6 epochs, 6 dropped in each
  np.testing.assert_array_equal(np.unique(seen), np.arange(20))


@settings(max_examples=30, deadline=None)
@given(
  first_step=st.integers(0, 20),
  cuts=st.lists(st.integers(0, 9), min_size=1, max_size=5),
)
def test_steps_do_not_depend_on_how_many_are_asked_for(first_step, cuts):
  whole = resident.train_indices(2, first_step, sum(cuts), 4, 18)
  parts, step = [], first_step
  for count in cuts:
    parts.append(resident.train_indices(2, step, count, 4, 18))
    step += count
  np.testing.assert_array_equal(whole, np.concatenate(parts))


@pytest.mark.parametrize(
  ('num_examples', 'batch_size', 'num_batches'),
  [(10, 4, 3), (12, 4, 3), (3, 8, 1), (1, 1, 1)],
)
def test_padded_batches_count_every_example_once(
  num_examples, batch_size, num_batches
):
  indices, mask = resident.padded_batches(num_examples, batch_size)
  assert indices.shape == mask.shape == (num_batches, batch_size)
  assert indices.dtype == np.int32
  assert mask.dtype == bool
  assert mask.sum() == num_examples
  np.testing.assert_array_equal(indices[mask], np.arange(num_examples))
  assert not indices[~mask].any()


def test_check_divisible_says_the_next_batch_size():
  resident.check_divisible(24, 8)
  with pytest.raises(
    ValueError,
    match=r'^batch_size 100 does not divide by the 8 devices; '
    r'the next batch size up is 104$',
  ):
    resident.check_divisible(100, 8)
  with pytest.raises(ValueError, match=r'next batch size up is 8$'):
    resident.check_divisible(3, 8)


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda: resident.epoch_permutation(-1, 0, 5), 'seed must be >= 0'),
    (lambda: resident.epoch_permutation(0, -1, 5), 'epoch must be >= 0'),
    (lambda: resident.epoch_permutation(0, 0, 0), 'num_examples must be >= 1'),
    (lambda: resident.train_indices(0, -1, 1, 1, 5), 'first_step must be'),
    (lambda: resident.train_indices(0, 0, -1, 1, 5), 'num_steps must be'),
    (lambda: resident.train_indices(0, 0, 1, 0, 5), 'batch_size must be >= 1'),
    (lambda: resident.train_indices(0, 0, 1, 6, 5), 'wanted at most 5'),
    (lambda: resident.padded_batches(0, 5), 'num_examples must be >= 1'),
    (lambda: resident.padded_batches(5, 0), 'batch_size must be >= 1, got 0'),
    (lambda: resident.check_divisible(0, 1), 'batch_size must be >= 1'),
  ],
)
def test_arguments_out_of_range_are_refused(call, message):
  with pytest.raises(ValueError, match=message):
    call()
