"""Corruptions of the digital chain: lower contrast, larger pixels."""

import jax
import jax.numpy as jnp
import numpy as np

from mollify_jax.corruptions.filters import clip_pixels
from mollify_jax.kernels.pixels import check_pixels


def reduce_contrast(image: jax.Array, *, factor: float) -> jax.Array:
  """Draws every pixel towards the mean colour of the image.

  (x - mean) factor + mean, the mean over the pixels of each channel.
  Source: Hendrycks & Dietterich 2019 (arXiv 1903.12261).

  Args:
    image: uint8[H, W, C].
    factor: >= 0, static. 1 changes nothing, 0 leaves the mean colour.

  Returns:
    float32[H, W, C] in [0, 255].

  Raises:
    ValueError, TypeError: `image` is not one uint8 image.
    ValueError: `factor` is negative.
  """
  check_pixels(image, 'reduce_contrast')
  if not factor >= 0:
    raise ValueError(f'factor must be >= 0, got {factor!r}; 1 changes nothing')
  pixels = jnp.asarray(image).astype(jnp.int32)
  count = pixels.shape[0] * pixels.shape[1]
  # Differences from the mean in whole numbers (up to 8 million pixels), so that
  # a flat image keeps its very values: a rounded mean, or a division that is
  # compiled as a multiplication, would cost it a grey level.
  above = pixels * count - jnp.sum(pixels, axis=(0, 1))
  towards_mean = above.astype(jnp.float32) * np.float32((1 - factor) / count)
  return clip_pixels(pixels.astype(jnp.float32) - towards_mean)


def pixelate(image: jax.Array, *, scale: float) -> jax.Array:
  """Shrinks one image by box means and enlarges it again by repetition.

  Pillow's BOX resize to int(H scale) x int(W scale) and back, byte for byte:
  whole source pixels are in a box or out of it, so this is no area weighting.
  Rows are shrunk first and rounded, then columns.

  Args:
    image: uint8[H, W, C].
    scale: in (0, 1], static. 1 changes nothing. A side has at least one pixel.

  Returns:
    float32[H, W, C], whole numbers in [0, 255].

  Raises:
    ValueError, TypeError: `image` is not one uint8 image.
    ValueError: `scale` is outside (0, 1].
  """
  check_pixels(image, 'pixelate')
  if not 0 < scale <= 1:
    raise ValueError(f'scale must be in (0, 1], got {scale!r}')
  height, width, _ = image.shape
  small_height = max(1, int(height * scale))
  small_width = max(1, int(width * scale))
  pixels = jnp.asarray(image).astype(jnp.float32)
  pixels = _box_means(pixels, _boxes(width, small_width), 1)
  pixels = _box_means(pixels, _boxes(height, small_height), 0)
  # Enlarging, a box holds one pixel.
  rows = _boxes(small_height, height).argmax(1)
  columns = _boxes(small_width, width).argmax(1)
  return pixels[rows][:, columns]


def _boxes(size, new_size):
  """Which pixels make up each new one: float32[new_size, size] of 0 and 1."""
  ratio = size / new_size
  reach = max(ratio, 1.0)
  centre = ((np.arange(new_size) + 0.5) * ratio)[:, None]
  pixel = np.arange(size)
  inside = (pixel >= np.trunc(centre - reach / 2 + 0.5)) & (
    pixel < np.trunc(centre + reach / 2 + 0.5)
  )
  distance = (pixel - centre + 0.5) * (1.0 / reach)
  inside &= (distance > -0.5) & (distance <= 0.5)
  return inside.astype(np.float32)


def _box_means(pixels, boxes, axis):
  """Means over boxes of one axis, rounded as Pillow does, in float32."""
  # Sums of whole numbers below 2^24 are exact in any order and precision.
  equation = ('ih,hwc->iwc', 'jw,hwc->hjc')[axis]
  totals = jnp.einsum(equation, boxes, pixels, precision='highest')
  # Pillow's weights have 22 fractional bits.
  counts = boxes.sum(1)
  weights = np.trunc(0.5 + (1.0 / counts.astype(np.float64)) * (1 << 22))
  weights = np.expand_dims(weights.astype(np.int32), (1 - axis, 2))
  means = (totals.astype(jnp.int32) * weights + (1 << 21)) >> 22
  return means.astype(jnp.float32)
