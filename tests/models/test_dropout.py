"""Dropout: its moments, its keys, and that devices do not matter."""

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollify_jax.models import create_model
from mollify_jax.models.dropout import Dropout

KEY = jax.random.key(0)


def drop(x, key=KEY, rate=0.3, **fields):
  return Dropout(rate, **fields).apply({}, x, True, rngs={'dropout': key})


def test_a_share_is_zero_and_the_mean_stays():
  x = jnp.full((8, 5000), 2.0)
  got = np.asarray(drop(x))
  assert set(np.unique(got)) == {0.0, np.float32(2 / 0.7)}
  # 40,000 draws: five standard errors.
  assert abs((got == 0).mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / got.size)


def test_every_example_draws_for_itself_and_every_key_anew():
  x = jnp.ones((4, 64))
  got = np.asarray(drop(x))
  assert len({row.tobytes() for row in got}) == 4
  np.testing.assert_array_equal(drop(x), got)
  assert (np.asarray(drop(x, jax.random.key(1))) != got).any()


def test_an_example_draws_by_its_place_in_the_whole_batch():
  x = jnp.ones((8, 3, 5))
  split = jax.vmap(
    lambda part: drop(part, axis_name='parts'), axis_name='parts'
  )(x.reshape(4, 2, 3, 5))
  np.testing.assert_array_equal(split.reshape(8, 3, 5), drop(x))


def test_nothing_is_dropped_in_evaluation_and_the_dtype_stays():
  x = jnp.ones((2, 5), jnp.bfloat16)
  assert Dropout(0.5).apply({}, x, False) is x
  assert drop(x).dtype == jnp.bfloat16


def test_a_network_that_drops_asks_for_a_key_in_training_only():
  model = create_model('all_conv_net', 10)
  images = jnp.zeros((1, 8, 8, 3))

  def apply(train):
    variables = model.init(KEY, images, train=False)
    return model.apply(variables, images, train=train, mutable=['batch_stats'])

  jax.eval_shape(lambda: apply(False))
  with pytest.raises(flax.errors.InvalidRngError, match='dropout'):
    jax.eval_shape(lambda: apply(True))
