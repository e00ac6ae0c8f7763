"""Normal numbers from hashed counters: exactness, and how random they look.

Bounds are five standard errors and more, or a probability of 1e-6, so that what
holds for these keys is no luck.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
import scipy.stats

from mollify_jax import example_keys
from mollify_jax.kernels import gaussian
from mollify_jax.kernels.gaussian import standard_normal

IMAGES, SHAPE = 1024, (32, 32, 3)


@functools.cache
def many():
  """float64[1024, 3072]: the noise of the images of one epoch's start."""
  keys = example_keys(jax.random.key(0), 0, IMAGES)
  draw = jax.jit(jax.vmap(lambda key: standard_normal(key, SHAPE)))
  return np.asarray(draw(keys), np.float64).reshape(IMAGES, -1)


def mix(x, shifts, factors):
  """In Python's integers, which do not wrap by themselves."""
  for shift, factor in zip(shifts, (*factors, 1), strict=True):
    x = (x ^ (x >> shift)) * factor % 2**32
  return x


def test_hash_is_its_definition():
  seeds = np.asarray(jax.random.bits(jax.random.key(3), (2,), jnp.uint32))
  one, two = (int(seed) for seed in seeds)
  counters = [0, 1, 2, 1000, 2**31, 2**32 - 1]
  want = [
    mix(
      mix(
        (c * 0x9E3779B9 + one) % 2**32, (16, 15, 15), (0x21F0AAAD, 0xD35A2D97)
      )
      ^ two,
      (16, 15, 16),
      (0x7FEB352D, 0x846CA68B),
    )
    for c in counters
  ]
  got = gaussian._hash(jnp.array(counters, jnp.uint32), *seeds)
  assert got.dtype == jnp.uint32
  np.testing.assert_array_equal(got, np.array(want, np.uint32))


def test_inverse_of_the_distribution_function():
  bits = np.random.default_rng(0).integers(0, 2**32, 100_000, np.uint32)
  half = np.concatenate([2 ** np.arange(31), 2 ** np.arange(31) - 1])
  half = np.concatenate([half, [2**31 - 1, 0]]).astype(np.uint32)
  bits = np.concatenate([bits, half, half | np.uint32(2**31)])
  value = np.asarray(gaussian._inverse_normal(jnp.asarray(bits)))
  assert value.dtype == np.float32
  p = ((bits & 0x7FFFFFFF).astype(np.float64) + 0.5) / 2**32
  want = scipy.stats.norm.ppf(p) * np.where(bits >> 31, -1, 1)
  np.testing.assert_allclose(value, want, rtol=2e-6, atol=3e-7)
  assert 6.3 < np.abs(value).max() < 6.4


def test_moments():
  z = many().ravel()
  for order in range(1, 7):
    want = scipy.stats.norm.moment(order)
    error = np.sqrt((scipy.stats.norm.moment(2 * order) - want**2) / z.size)
    assert abs((z**order).mean() - want) < 5 * error, order


def test_kolmogorov_smirnov():
  assert scipy.stats.kstest(many().ravel(), 'norm').pvalue > 1e-6
  # Of each place over the keys, and of each key: p-values are uniform.
  for rows in (many(), many().T):
    chosen = rows[:: len(rows) // 256]
    p = [scipy.stats.kstest(row, 'norm').pvalue for row in chosen]
    assert min(p) > 1e-6
    assert scipy.stats.kstest(p, 'uniform').pvalue > 1e-6


@pytest.mark.parametrize('power', [1, 2])
def test_no_correlation_between_places(power):
  """Along one key: neighbours, channels, rows, powers of two."""
  z = many() ** power
  z = (z - z.mean()) / z.std()
  lags = {*range(1, 100), *(2**i for i in range(12)), 96, 192, 1536, 3071}
  for lag in lags:
    products = z[:, lag:] * z[:, :-lag]
    assert abs(products.mean()) < 6 / np.sqrt(products.size), lag


@pytest.mark.parametrize('power', [1, 2])
def test_no_correlation_between_keys(power):
  z = many() ** power
  z = (z - z.mean()) / z.std()
  correlation = z @ z.T / z.shape[1]
  np.fill_diagonal(correlation, 0)
  # Half a million pairs: their largest is expected near five.
  assert np.abs(correlation).max() * np.sqrt(z.shape[1]) < 7
  # Also shifted against each other.
  for lag in (1, 2, 3, 96):
    shifted = z[:, lag:] @ z[:, :-lag].T / (z.shape[1] - lag)
    assert np.abs(shifted).max() * np.sqrt(z.shape[1] - lag) < 7, lag


def test_pairs_fill_the_plane():
  u = scipy.stats.norm.cdf(many())
  for lag in (1, 2, 3, 96):
    counts, _, _ = np.histogram2d(
      u[:, :-lag].ravel(), u[:, lag:].ravel(), bins=32, range=[(0, 1)] * 2
    )
    assert scipy.stats.chisquare(counts.ravel()).pvalue > 1e-6, lag


def test_spectrum_is_flat():
  """No frequency of an image has more of the noise than another."""
  images = many().reshape(IMAGES, *SHAPE)
  power = scipy.fft.dctn(images, axes=(1, 2), norm='ortho') ** 2
  mean = power.mean(axis=(0, 3))
  error = np.sqrt(2 / (IMAGES * SHAPE[2]))
  assert np.abs(mean - 1).max() < 6 * error


def test_every_bit_of_key_and_counter_moves_half_of_the_bits():
  generator = np.random.default_rng(0)
  inputs = generator.integers(0, 2**32, (3, 20_000), np.uint32)
  base = np.asarray(gaussian._hash(*map(jnp.asarray, inputs)))
  for which in range(3):
    for bit in range(32):
      changed = inputs.copy()
      changed[which] ^= np.uint32(1) << np.uint32(bit)
      flipped = base ^ np.asarray(gaussian._hash(*map(jnp.asarray, changed)))
      share = np.unpackbits(flipped.view(np.uint8)).mean()
      bits = np.unpackbits(flipped[:, None].view(np.uint8), axis=1)
      assert abs(share - 0.5) < 0.003, (which, bit)
      assert np.abs(bits.mean(0) - 0.5).max() < 0.025, (which, bit)


@pytest.mark.parametrize('shape', [(), (0,), (1,), (7,), (5, 3, 1)])
def test_shapes_and_transformations(shape):
  key = jax.random.key(5)
  value = standard_normal(key, shape)
  assert value.shape == shape
  assert value.dtype == jnp.float32
  more = standard_normal(key, (40,))
  np.testing.assert_array_equal(value.ravel(), more[: value.size])
  np.testing.assert_allclose(
    jax.jit(standard_normal, static_argnums=1)(key, shape), value, rtol=1e-6
  )
  batch = jax.vmap(lambda key: standard_normal(key, shape))(key[None])
  np.testing.assert_allclose(batch[0], value, rtol=1e-6)


def test_too_many_numbers():
  with pytest.raises(ValueError, match=r'fewer than 2\*\*32 .* split the key'):
    jax.eval_shape(
      lambda key: standard_normal(key, (2**16, 2**16)), jax.random.key(0)
    )
