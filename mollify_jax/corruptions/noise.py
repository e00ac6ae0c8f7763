"""Gaussian, shot, impulse and speckle noise, per pixel and channel.

Each random corruption is a kernel that takes its randomness and a sampling
twin that takes a key. Source: Hendrycks & Dietterich 2019 (arXiv 1903.12261)
and the scripts that made CIFAR-10-C.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from mollify_jax.corruptions.filters import (
  check_shape,
  clip_pixels,
)
from mollify_jax.kernels.gaussian import standard_normal
from mollify_jax.kernels.pixels import check_pixels


def add_gaussian_noise(
  image: jax.Array, epsilon: jax.Array, *, sigma: float
) -> jax.Array:
  """Adds the same amount of noise everywhere: image + 255 sigma epsilon.

  Args:
    image: uint8[H, W, C].
    epsilon: float32[H, W, C], standard normal.
    sigma: standard deviation in units of the full range, static.

  Returns:
    float32[H, W, C] in [0, 255], not truncated.

  Raises:
    ValueError, TypeError: `image` is not one image of pixels, or `epsilon` has
      another shape.
  """
  check_pixels(image, 'add_gaussian_noise')
  check_shape(epsilon, image.shape, 'epsilon', 'add_gaussian_noise')
  return clip_pixels(image.astype(jnp.float32) + epsilon * (255.0 * sigma))


def gaussian_noise(
  key: jax.Array, image: jax.Array, *, sigma: float
) -> jax.Array:
  """Samples `add_gaussian_noise`."""
  check_pixels(image, 'gaussian_noise')
  return add_gaussian_noise(image, *draw_normal(key, image.shape), sigma=sigma)


def draw_normal(key: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array]:
  """The randomness of Gaussian and speckle noise: (float32[H, W, C],)."""
  return (standard_normal(key, shape),)


def add_speckle_noise(
  image: jax.Array, epsilon: jax.Array, *, sigma: float
) -> jax.Array:
  """Adds noise in proportion to brightness: image (1 + sigma epsilon).

  Args:
    image: uint8[H, W, C].
    epsilon: float32[H, W, C], standard normal.
    sigma: standard deviation as a share of the pixel, static.

  Returns:
    float32[H, W, C] in [0, 255], not truncated; black stays black.

  Raises:
    ValueError, TypeError: `image` is not one image of pixels, or `epsilon` has
      another shape.
  """
  check_pixels(image, 'add_speckle_noise')
  check_shape(epsilon, image.shape, 'epsilon', 'add_speckle_noise')
  pixels = image.astype(jnp.float32)
  return clip_pixels(pixels + pixels * (epsilon * sigma))


def speckle_noise(
  key: jax.Array, image: jax.Array, *, sigma: float
) -> jax.Array:
  """Samples `add_speckle_noise`."""
  check_pixels(image, 'speckle_noise')
  return add_speckle_noise(image, *draw_normal(key, image.shape), sigma=sigma)


def expose_photons(
  image: jax.Array, counts: jax.Array, *, lam: float
) -> jax.Array:
  """The image seen as photon counts: 255 counts / lam.

  Args:
    image: uint8[H, W, C]; only its shape matters, its brightness is in
      `counts`.
    counts: int[H, W, C], Poisson with mean lam image / 255.
    lam: photons of a white pixel, static.

  Returns:
    float32[H, W, C] in [0, 255], not truncated.

  Raises:
    ValueError, TypeError: `image` is not one image of pixels, or `counts` has
      another shape.
  """
  check_pixels(image, 'expose_photons')
  check_shape(counts, image.shape, 'counts', 'expose_photons')
  # A table, because the float64 quotient of the scripts decides on which side
  # of an integer a count falls: 255 * (n / lam) is one wherever lam divides
  # 255 n.
  bound = math.ceil(lam)
  levels = np.clip(np.arange(bound + 1) / lam, 0.0, 1.0) * 255
  # The same truncation in float32: an integer from below stays below.
  table = _round_down(levels)
  return jnp.asarray(table)[jnp.clip(counts, 0, bound)]


def shot_noise(key: jax.Array, image: jax.Array, *, lam: float) -> jax.Array:
  """Samples `expose_photons`; black stays exactly black.

  The counts are the inverse of the distribution function at one 32-bit uniform
  per value, found by bisection in a table with a row per grey level: no
  rejection, so every example costs the same under `vmap`. Probabilities are
  exact to 2^-32.
  """
  check_pixels(image, 'shot_noise')
  return expose_photons_at(image, *draw_bits(key, image.shape), lam=lam)


def draw_bits(key: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array]:
  """The randomness of `shot_noise`: (uint32[H, W, C],)."""
  return (jax.random.bits(key, shape, jnp.uint32),)


def expose_photons_at(
  image: jax.Array, bits: jax.Array, *, lam: float
) -> jax.Array:
  """`expose_photons` with the counts that uint32[H, W, C] stand for."""
  counts = poisson_counts(image, bits, lam=lam)
  return expose_photons(image, counts, lam=lam)


def replace_impulses(image: jax.Array, mask: jax.Array) -> jax.Array:
  """Salt and pepper: 255 where the mask is +1, 0 where it is -1.

  Args:
    image: uint8[H, W, C].
    mask: int[H, W, C] of -1, 0 and 1; per channel, so impulses are coloured.

  Returns:
    float32[H, W, C]; untouched values come back exactly.

  Raises:
    ValueError, TypeError: `image` is not one image of pixels, or `mask` has
      another shape.
  """
  check_pixels(image, 'replace_impulses')
  check_shape(mask, image.shape, 'mask', 'replace_impulses')
  pixels = image.astype(jnp.float32)
  return jnp.where(mask == 0, pixels, jnp.where(mask > 0, 255.0, 0.0))


def impulse_noise(
  key: jax.Array, image: jax.Array, *, amount: float
) -> jax.Array:
  """Samples `replace_impulses`: each value with probability `amount`."""
  check_pixels(image, 'impulse_noise')
  uniform = draw_uniform(key, image.shape)
  return replace_at_random(image, *uniform, amount=amount)


def draw_uniform(key: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array]:
  """The randomness of `impulse_noise`: (float32[H, W, C] in [0, 1),)."""
  return (jax.random.uniform(key, shape, jnp.float32),)


def replace_at_random(
  image: jax.Array, uniform: jax.Array, *, amount: float
) -> jax.Array:
  """`replace_impulses`: salt below amount / 2, pepper below amount."""
  salt = (uniform < amount / 2).astype(jnp.int8)
  pepper = ((uniform >= amount / 2) & (uniform < amount)).astype(jnp.int8)
  return replace_impulses(image, salt - pepper)


def _round_down(levels: np.ndarray) -> np.ndarray:
  """float64 -> float32 towards zero, so that truncation sees no difference."""
  rounded = levels.astype(np.float32)
  above = rounded > levels
  return np.where(above, np.nextafter(rounded, np.float32(0)), rounded)


def poisson_counts(
  image: jax.Array, bits: jax.Array, *, lam: float
) -> jax.Array:
  """Poisson counts with mean lam image / 255.

  Args:
    image: uint8[H, W, C].
    bits: uint32[H, W, C], uniform over all 32-bit numbers.
    lam: static.

  Returns:
    int32[H, W, C].

  Raises:
    ValueError: `bits` has another shape than `image`.
  """
  check_shape(bits, image.shape, 'bits', 'poisson_counts')
  table = _poisson_table(lam)
  levels, width = table.shape
  flat = jnp.asarray(table).reshape(-1)
  row = image.astype(jnp.int32) * width
  # The last entries of a row stand for certainty, 2^32, which uint32 lacks.
  bits = jnp.minimum(bits, np.uint32(2**32 - 2))
  # The count is how many entries are <= bits; bisect on its binary digits.
  count = jnp.zeros(image.shape, jnp.int32)
  step = width // 2
  while step:
    here = flat[row + count + (step - 1)] <= bits
    count = jnp.where(here, count + step, count)
    step //= 2
  first = jnp.asarray(_first_counts(lam, levels))
  return first[image] + count


@functools.cache
def _poisson_table(lam: float) -> np.ndarray:
  """uint32[256, 2^m]: 2^32 P(N <= first + j) of every grey level.

  Counts further than about 7 standard deviations from the mean, which have
  a probability below 2^-32, are left out.
  """
  first = _first_counts(lam, 256)
  spread = 2 * _spread(lam) + 1
  width = 1 << (spread - 1).bit_length()
  counts = first[:, None] + np.arange(width)
  means = np.arange(256)[:, None] * (lam / 255)
  log_factorial = np.concatenate(
    [[0.0], np.cumsum(np.log(np.arange(1, counts.max() + 2)))]
  )
  # Black has the count 0 for certain: log 0 is minus infinity, 0 log 0 is 0.
  log_means = np.log(np.maximum(means, 1e-300))
  mass = np.exp(counts * log_means - means - log_factorial[counts])
  cumulative = np.cumsum(mass, axis=1) / mass.sum(axis=1, keepdims=True)
  table = np.floor(cumulative * 2.0**32)
  return np.minimum(table, 2.0**32 - 1).astype(np.uint32)


def _spread(lam: float) -> int:
  """Counts kept on either side of the mean."""
  return math.ceil(6.5 * math.sqrt(lam) + 10)


def _first_counts(lam: float, levels: int) -> np.ndarray:
  """int32[levels]: the smallest count that is kept of each grey level."""
  means = np.arange(levels) * (lam / 255)
  return np.maximum(np.floor(means) - _spread(lam), 0).astype(np.int32)
