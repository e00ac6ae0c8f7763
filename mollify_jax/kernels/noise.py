"""Variance-preserving diffusion noise on one image."""

import jax
import jax.numpy as jnp

from mollify_jax.kernels import schedules
from mollify_jax.kernels.gaussian import standard_normal
from mollify_jax.kernels.shapes import (
  check_image,
  check_lengths,
  check_scalar,
)


def add_noise(image: jax.Array, epsilon: jax.Array, t: jax.Array) -> jax.Array:
  """Mixes one image with given noise: alpha(t) image + sigma(t) epsilon.

  Equation 3 of Heinonen et al. 2025 (arXiv 2406.01494), the cosine schedule
  of variance-preserving diffusion.

  Args:
    image: float[H, W, C], channel-normalised. Nothing is clipped.
    epsilon: float[H, W, C], standard normal.
    t: float[], temperature in [0, 1].

  Returns:
    Same shape and dtype as `image`, computed in float32. It is `image` at
    t = 0 and `epsilon` at t = 1.

  Raises:
    ValueError: wrong ranks, or `epsilon` is not of the image's shape.
    TypeError: `image` is not floating point.
  """
  check_image(image, 'add_noise', 'jax.vmap(add_noise)')
  check_scalar(t, 't', 'add_noise')
  if jnp.shape(epsilon) != jnp.shape(image):
    raise ValueError(
      f'add_noise needs epsilon of the image shape {jnp.shape(image)!r}, '
      f'got {jnp.shape(epsilon)!r}'
    )
  mixed = schedules.alpha(t) * image.astype(jnp.float32)
  mixed += schedules.sigma(t) * epsilon.astype(jnp.float32)
  return mixed.astype(image.dtype)


def noise_image(key: jax.Array, image: jax.Array, t: jax.Array) -> jax.Array:
  """Mixes one image with Gaussian noise drawn from `key`; see `add_noise`.

  Args:
    key: key[].
    image: float[H, W, C], channel-normalised.
    t: float[], temperature in [0, 1].

  Returns:
    Same shape and dtype as `image`. The noise is drawn in float32 whatever
    the dtype, so one key gives one noise.

  Raises:
    ValueError, TypeError: as `add_noise`.
  """
  check_image(image, 'noise_image', 'noise_images')
  epsilon = standard_normal(key, image.shape)
  return add_noise(image, epsilon, t)


def noise_images(keys: jax.Array, images: jax.Array, t: jax.Array) -> jax.Array:
  """Noises a batch: key[B], float[B, H, W, C], float[B]; see `noise_image`.

  Raises:
    ValueError, TypeError: as `noise_image`, or lengths that differ.
  """
  check_lengths('noise_images', keys=keys, images=images, t=t)
  return jax.vmap(noise_image)(keys, images, t)
