"""Heat-equation blur of one image by matrix products."""

import jax
import jax.numpy as jnp

from mollify_jax.kernels.dct import dct_basis, squared_angular_frequencies
from mollify_jax.kernels.shapes import (
  check_image,
  check_lengths,
  check_scalar,
)


def blur_image(image: jax.Array, tau: jax.Array) -> jax.Array:
  """Diffuses one image for time `tau` under the heat equation.

  Each cosine mode (i, j) shrinks by exp(-(w_i^2 + w_j^2) tau), where
  w_i = pi i / H and w_j = pi j / W: heat flow with reflecting edges, so the
  channel means never move. The factor separates over the axes, so the image
  becomes K_h X K_w^T with K = D^T diag(exp(-w^2 tau)) D and D the DCT-II
  basis. Source: Rissanen et al. 2023 (arXiv 2206.13397); equation 4 of
  Heinonen et al. 2025 (arXiv 2406.01494).

  Args:
    image: float[H, W, C], any value range. Nothing is clipped: next to sharp
      edges the result leaves that range by up to a few percent at small tau.
    tau: float32[], in squared pixels, >= 0; may be infinite. A Gaussian blur
      whose standard deviation is s pixels corresponds to tau = s^2 / 2.

  Returns:
    Same shape and dtype, computed in float32. Equals `image` at tau = 0 (to
    rounding); tends to the channel means, which it is at infinity.

  Raises:
    ValueError: `image` is not rank 3 or `tau` not a scalar (checked while
      tracing, free at run time).
    TypeError: `image` is not floating point.
  """
  check_image(image, 'blur_image', 'blur_images')
  check_scalar(tau, 'tau', 'blur_image')
  height, width, _ = image.shape
  # The constant mode's 0 times infinity would be NaN.
  tau = jnp.minimum(jnp.asarray(tau, jnp.float32), jnp.finfo(jnp.float32).max)
  blurred = jnp.einsum(
    'ah,hwc,bw->abc',
    _heat_kernel(height, tau),
    image.astype(jnp.float32),
    _heat_kernel(width, tau),
    precision='highest',
  )
  return blurred.astype(image.dtype)


def _heat_kernel(size: int, tau: jax.Array) -> jax.Array:
  """The heat kernel of one axis after time tau: float32[size, size]."""
  basis = dct_basis(size)
  decay = jnp.exp(-tau * squared_angular_frequencies(size))
  return jnp.matmul(basis.T * decay, basis, precision='highest')


def blur_images(images: jax.Array, tau: jax.Array) -> jax.Array:
  """Blurs a batch: float[B, H, W, C], float[B]; see `blur_image`.

  Raises:
    ValueError, TypeError: as `blur_image`, or lengths that differ.
  """
  check_lengths('blur_images', images=images, tau=tau)
  return jax.vmap(blur_image)(images, tau)
