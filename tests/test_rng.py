"""Keys are functions of purpose, step and global position."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollify_jax import rng


def data(keys):
  return np.asarray(jax.random.key_data(keys))


def test_keys_do_not_depend_on_how_the_batch_is_split():
  key = rng.step_key(0, rng.Purpose.MOLLIFY, 7)
  whole = data(rng.example_keys(key, 0, 8))
  parts = [data(rng.example_keys(key, first, 2)) for first in (0, 2, 4, 6)]
  np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_every_stream_is_its_own():
  streams = [
    rng.step_key(seed, purpose, step)
    for seed in (0, 1)
    for purpose in rng.Purpose
    for step in (0, 1, 1000)
  ]
  assert len({tuple(data(key)) for key in streams}) == len(streams)


def test_traced_seed_step_and_index_give_the_same_keys():
  def keys(seed, step, first):
    return rng.example_keys(
      rng.step_key(seed, rng.Purpose.AUGMENT, step), first, 3
    )

  np.testing.assert_array_equal(
    data(jax.jit(keys)(jnp.int32(3), jnp.int32(5), jnp.int32(6))),
    data(keys(3, 5, 6)),
  )


def test_purposes_keep_their_numbers():
  """Renumbering would change every published run."""
  assert {p.name: int(p) for p in rng.Purpose} == {
    'INITIALIZE': 0,
    'AUGMENT': 1,
    'MOLLIFY': 2,
    'MODEL': 3,
    'EVALUATE': 4,
    'CORRUPT': 5,
    'MIX': 6,
    'LIKELIHOOD': 7,
  }


@pytest.mark.parametrize(
  ('arguments', 'error', 'message'),
  [
    ((0, 0, 7), TypeError, r'takes jax.random.key\(seed\), got 0'),
    ((jax.random.key(0), 0, 7.0), TypeError, 'batch_size must be an int'),
    ((jax.random.key(0), -1, 7), ValueError, 'first_index must be >= 0'),
  ],
)
def test_other_arguments_are_refused(arguments, error, message):
  with pytest.raises(error, match=message):
    rng.example_keys(*arguments)
