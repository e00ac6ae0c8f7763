"""Means over images, windows and pairs, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollify_jax.models.pooling import average_pool, halve, pool_windows


def feature_map(height, width):
  generator = np.random.default_rng(0)
  return generator.normal(size=(2, height, width, 3)).astype(np.float32)


@pytest.mark.parametrize('shape', [(8, 8), (7, 7), (15, 1), (9, 13)])
def test_a_map_below_two_windows_is_averaged_whole(shape):
  x = jnp.asarray(feature_map(*shape))
  np.testing.assert_array_equal(pool_windows(x, 8), average_pool(x))


def test_windows_follow_each_other_row_by_row():
  x = feature_map(8, 12)
  got = jax.jit(pool_windows, static_argnums=1)(jnp.asarray(x), 4)
  want = x.reshape(2, 2, 4, 3, 4, 3).mean(axis=(2, 4)).reshape(2, -1)
  assert got.shape == (2, 2 * 3 * 3)
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_windows_share_what_they_do_not_divide():
  x = feature_map(7, 3)
  got = pool_windows(jnp.asarray(x), 3)  # windows of 4 and 3 rows
  want = [x[:, :4].mean((1, 2)), x[:, 4:].mean((1, 2))]
  np.testing.assert_allclose(got, np.concatenate(want, 1), atol=1e-6)


@pytest.mark.parametrize('shape', [(4, 6), (5, 3), (1, 1), (2, 7)])
def test_halving_averages_the_positions_there_are(shape):
  x = feature_map(*shape)
  got = jax.jit(halve)(jnp.asarray(x))
  for i in range(-(-shape[0] // 2)):
    for j in range(-(-shape[1] // 2)):
      cell = x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
      np.testing.assert_allclose(
        got[:, i, j], cell.mean((1, 2)), rtol=1e-5, atol=1e-6
      )
  assert got.shape == (2, -(-shape[0] // 2), -(-shape[1] // 2), 3)


def test_halving_sums_in_float32_and_keeps_the_dtype():
  x = jnp.asarray([256.0, 1.0, 1.0, 1.0], jnp.bfloat16).reshape(1, 2, 2, 1)
  got = jax.jit(halve)(x)
  assert got.dtype == jnp.bfloat16
  # 259 / 4; sums in bfloat16 would stay at 256.
  assert got.item() == jnp.asarray(64.75, jnp.bfloat16)
