"""Noise kernels against NumPy in float64, and their sampling twins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from mollify_jax.corruptions import noise

RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.integers(0, 256, (9, 14, 3), np.uint8)
X = IMAGE / 255


def test_gaussian_and_speckle_are_the_definitions():
  z = RANDOM.standard_normal(IMAGE.shape).astype(np.float32)
  for kernel, exact in (
    (noise.add_gaussian_noise, X + 0.3 * z.astype(float)),
    (noise.add_speckle_noise, X + X * 0.3 * z.astype(float)),
  ):
    ours = kernel(IMAGE, z, sigma=0.3)
    np.testing.assert_allclose(ours, np.clip(exact, 0, 1) * 255, atol=1e-4)
    np.testing.assert_array_equal(
      jax.jit(kernel, static_argnames='sigma')(IMAGE, z, sigma=0.3).astype(
        np.uint8
      ),
      ours.astype(np.uint8),
    )


@pytest.mark.parametrize('lam', [500, 60, 12, 3])
def test_photon_counts_truncate_as_in_float64(lam):
  counts = np.arange(IMAGE.size).reshape(IMAGE.shape) % (2 * lam)
  exact = np.clip(counts / float(lam), 0, 1) * 255
  ours = noise.expose_photons(IMAGE, counts, lam=lam)
  np.testing.assert_allclose(ours, exact, rtol=1e-6)
  np.testing.assert_array_equal(
    np.asarray(ours).astype(np.uint8), exact.astype(np.uint8)
  )


@pytest.mark.parametrize('lam', [500, 50, 3])
def test_poisson_counts_invert_the_distribution_function(lam):
  """Against SciPy's quantiles, for every grey level."""
  levels = np.repeat(np.arange(256, dtype=np.uint8), 200).reshape(256, 200, 1)
  bits = RANDOM.integers(0, 2**32, levels.shape, np.uint32)
  bits[:, 0], bits[:, 1] = 0, 2**32 - 1
  ours = np.asarray(noise.poisson_counts(levels, bits, lam=lam))
  assert (ours[0] == 0).all()  # black
  uniform = (bits.astype(np.float64) + 0.5) / 2**32
  exact = scipy.stats.poisson.ppf(uniform, levels.astype(float) * lam / 255)
  inner = np.s_[1:, 2:]
  same = ours[inner] == exact[inner]
  assert same.mean() > 0.9999  # the table's last bit may decide otherwise
  assert np.abs(ours[inner] - exact[inner]).max() <= 1
  # The two ends are drawn once in four thousand million times each.
  ends = np.abs(ours[1:, :2] - levels[1:, :2].astype(float) * lam / 255)
  assert ends.max() < 7.5 * np.sqrt(lam) + 12


@pytest.mark.parametrize('lam', [500, 15, 3])
def test_shot_noise_has_the_poisson_moments(lam):
  image = np.full((100, 100, 1), 180, np.uint8)
  bits = jax.random.bits(jax.random.key(0), image.shape, jnp.uint32)
  counts = np.asarray(noise.poisson_counts(image, bits, lam=lam))
  mean, n = lam * 180 / 255, counts.size
  assert abs(counts.mean() - mean) < 5 * np.sqrt(mean / n)
  fourth = mean + 3 * mean**2
  assert abs(counts.var() - mean) < 5 * np.sqrt((fourth - mean**2) / n)


def test_impulses_replace_the_share_they_should():
  image = np.full((200, 200, 3), 100, np.uint8)
  ours = np.asarray(noise.impulse_noise(jax.random.key(1), image, amount=0.2))
  n = ours.size
  for value in (0, 255):
    share = (ours == value).mean()
    assert abs(share - 0.1) < 5 * np.sqrt(0.1 * 0.9 / n)
  assert set(np.unique(ours)) == {0.0, 100.0, 255.0}
  # Channel by channel: coloured.
  assert (np.ptp(ours, axis=2) > 0).mean() > 0.4


def test_impulses_without_a_mask_change_nothing():
  np.testing.assert_array_equal(
    noise.replace_impulses(IMAGE, np.zeros(IMAGE.shape, np.int8)), IMAGE
  )


@pytest.mark.slow
def test_samplers_differ_by_key_and_repeat_with_it():
  for sampler, arguments in (
    (noise.gaussian_noise, {'sigma': 0.1}),
    (noise.speckle_noise, {'sigma': 0.1}),
    (noise.shot_noise, {'lam': 60}),
    (noise.impulse_noise, {'amount': 0.3}),
  ):
    first, again, other = (
      np.asarray(sampler(jax.random.key(seed), IMAGE, **arguments))
      for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.1


def test_floats_are_refused():
  with pytest.raises(TypeError, match='gaussian_noise takes pixels as uint8'):
    noise.gaussian_noise(jax.random.key(0), X.astype(np.float32), sigma=0.1)
