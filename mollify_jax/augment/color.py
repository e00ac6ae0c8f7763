"""Pointwise and enhancement operations on the pixels of one image.

All take uint8[H, W, 1 or 3] and return the same, value for value what
torchvision's transforms v2 give for uint8 tensors; where it differs from
Pillow, torchvision is followed. Its arithmetic is float32 and truncates.
"""

import jax
import jax.numpy as jnp

from mollify_jax.kernels.pixels import check_pixels

LEVELS = 256


def adjust_brightness(image: jax.Array, magnitude: jax.Array) -> jax.Array:
  """f v with f = 1 + magnitude: -1 is black, 0 the image itself.

  Args:
    image: uint8[H, W, 1 or 3].
    magnitude: float32[], >= -1.

  Returns:
    Same shape and dtype, clipped to 0..255 and truncated.

  Raises:
    ValueError, TypeError: not one image of pixels.
  """
  check_pixels(image, 'adjust_brightness')
  return _blend(image, jnp.zeros_like(image), magnitude)


def adjust_color(image: jax.Array, magnitude: jax.Array) -> jax.Array:
  """f v - magnitude grey: -1 is grey, 0 the image itself, 1 twice as colourful.

  Grey is floor(0.2989 R + 0.587 G + 0.114 B). The weights add up to 0.9999, so
  that a grey pixel loses one level at a negative magnitude. An image of one
  channel is returned as it is. Arguments as `adjust_brightness`.
  """
  check_pixels(image, 'adjust_color')
  if image.shape[2] == 1:
    return image
  return _blend(image, _grey(image)[..., None], magnitude)


def adjust_contrast(image: jax.Array, magnitude: jax.Array) -> jax.Array:
  """f v - magnitude mean: -1 is flat, 0 the image itself.

  The mean is that of `adjust_color`'s grey over the pixels, not rounded
  (Pillow rounds it). Arguments as `adjust_brightness`.
  """
  check_pixels(image, 'adjust_contrast')
  return _blend(image, _mean_grey(image), magnitude)


def adjust_sharpness(image: jax.Array, magnitude: jax.Array) -> jax.Array:
  """v - magnitude (b - v) with b smoothed: -1 is smooth, > 0 sharpens.

  b is the 3x3 mean with weight 5/13 in the middle and 1/13 around, rounded;
  the outermost pixels are left alone. Arguments as `adjust_brightness`.
  """
  check_pixels(image, 'adjust_sharpness')
  return _sharpen(image, magnitude)


def posterize(image: jax.Array, bits: jax.Array) -> jax.Array:
  """Keeps the high bits of every value.

  Args:
    image: uint8[H, W, 1 or 3].
    bits: float32[] or int32[], in [0, 8], truncated; 8 is the identity, 0
      black.

  Returns:
    Same shape and dtype.

  Raises:
    ValueError, TypeError: not one image of pixels.
  """
  check_pixels(image, 'posterize')
  return _posterize(image.astype(jnp.int32), bits).astype(jnp.uint8)


def solarize(image: jax.Array, threshold: jax.Array) -> jax.Array:
  """Inverts values of at least 255 threshold.

  Args:
    image: uint8[H, W, 1 or 3].
    threshold: float32[], in [0, 1]. At 1, the value 255 still becomes 0.

  Returns:
    Same shape and dtype.

  Raises:
    ValueError, TypeError: not one image of pixels.
  """
  check_pixels(image, 'solarize')
  return _solarize(image.astype(jnp.int32), threshold).astype(jnp.uint8)


def invert(image: jax.Array) -> jax.Array:
  """255 - v: uint8[H, W, 1 or 3], and the same back."""
  check_pixels(image, 'invert')
  return jnp.uint8(255) - image


def autocontrast(image: jax.Array) -> jax.Array:
  """Stretches each channel to the full range.

  floor((v - min) / s) with s = (max - min) fl(1/255): float32's 1/255 is a
  little above it, so that the brightest value becomes 254 for most ranges. A
  channel of one value is left alone.

  Args:
    image: uint8[H, W, 1 or 3].

  Returns:
    Same shape and dtype.

  Raises:
    ValueError, TypeError: not one image of pixels.
  """
  check_pixels(image, 'autocontrast')
  return _look_up(image, _autocontrast_table(image))


def equalize(image: jax.Array) -> jax.Array:
  """Makes each channel's histogram flat, by Pillow's integer rule.

  With step = (H W - count of the highest value that occurs) // 255, value v
  becomes min(255, (pixels below v + step // 2) // step); a channel with step 0
  is left alone.

  Args:
    image: uint8[H, W, 1 or 3], fewer than 2^21 pixels.

  Returns:
    Same shape and dtype.

  Raises:
    ValueError, TypeError: not one image of pixels.
  """
  check_pixels(image, 'equalize')
  return _look_up(image, _equalize_table(image))


# For operations that are only known when the program runs.


def enhance(
  image: jax.Array, which: jax.Array, magnitude: jax.Array
) -> jax.Array:
  """One of the four blends; the others cost no pass of their own.

  Args:
    image: uint8[H, W, 1 or 3].
    which: int32[], 0 to 3: brightness, color, contrast, sharpness.
    magnitude: float32[], see `adjust_brightness`.

  Returns:
    Same shape and dtype.
  """
  black = jnp.zeros((), jnp.float32)
  grey = _grey(image)[..., None]
  if image.shape[2] == 1:  # it has no colour to take away
    magnitude = jnp.where(which == 1, 0.0, magnitude)
  contrast = jnp.where(which == 2, _mean_grey(image), black)
  other = jnp.where(which == 1, grey, contrast)
  return jnp.where(
    which == 3, _sharpen(image, magnitude), _blend(image, other, magnitude)
  )


def remap(
  image: jax.Array, which: jax.Array, magnitude: jax.Array
) -> jax.Array:
  """One of four maps of values, in one look-up.

  Args:
    image: uint8[H, W, 1 or 3].
    which: int32[], 0 to 3: posterize, solarize, autocontrast, invert.
    magnitude: float32[], of the first two.

  Returns:
    Same shape and dtype.
  """
  levels = jnp.arange(LEVELS, dtype=jnp.int32)
  table = jnp.select(
    [which == 0, which == 1, which == 2],
    [
      _posterize(levels, magnitude)[None],
      _solarize(levels, magnitude)[None],
      _autocontrast_table(image),
    ],
    255 - levels[None],
  )
  return _look_up(image, table)


def _blend(image, other, magnitude):
  """f v + (-magnitude) other with f = 1 + magnitude, in float32."""
  magnitude = jnp.asarray(magnitude, jnp.float32)
  factor = 1.0 + magnitude
  other = other.astype(jnp.float32)
  # f v is never negative, but behind a maximum XLA:CPU cannot fuse it into the
  # sum, which would leave the other product rounded, not this one: the wrong
  # one by torchvision, and truncation shows it (0.5 % instead of 0.07 %).
  own = jnp.maximum(factor * image.astype(jnp.float32), 0.0)
  return _truncate(own - magnitude * other)


def _sharpen(image, magnitude):
  height, width, _ = image.shape
  if height <= 2 or width <= 2:
    return image
  v = image.astype(jnp.int32)
  rows = v[:-2] + v[1:-1] + v[2:]
  total = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * v[1:-1, 1:-1]
  # Rounded, with no ties: 13 is odd.
  smooth = jnp.pad((2 * total + 13) // 26, ((1, 1), (1, 1), (0, 0)))
  row = jnp.arange(height, dtype=jnp.int32)[:, None, None]
  column = jnp.arange(width, dtype=jnp.int32)[:, None]
  inside = (row > 0) & (row < height - 1) & (column > 0) & (column < width - 1)
  magnitude = jnp.asarray(magnitude, jnp.float32)
  change = jnp.where(inside, smooth - v, 0).astype(jnp.float32)
  return _truncate(v.astype(jnp.float32) + change * -magnitude)


def _grey(image):
  """floor(0.2989 R + 0.587 G + 0.114 B): float32[H, W]."""
  if image.shape[2] == 1:
    return image[..., 0].astype(jnp.float32)
  red, green, blue = jnp.moveaxis(image.astype(jnp.float32), 2, 0)
  return jnp.floor((0.2989 * red + 0.587 * green) + 0.114 * blue)


def _mean_grey(image):
  total = jnp.sum(_grey(image))
  # Hidden, or the division would become a multiplication, which rounds
  # differently, and truncation would show it.
  count = jnp.float32(image.shape[0] * image.shape[1])
  return total / jax.lax.optimization_barrier(count)


def _posterize(v, bits):
  dropped = 8 - jnp.clip(jnp.asarray(bits).astype(jnp.int32), 0, 8)
  return v & (255 << dropped)


def _solarize(v, threshold):
  bound = 255.0 * jnp.asarray(threshold, jnp.float32)
  return jnp.where(v.astype(jnp.float32) >= bound, 255 - v, v)


def _autocontrast_table(image):
  """int32[C, 256]."""
  low = jnp.min(image, (0, 1)).astype(jnp.int32)[:, None]
  high = jnp.max(image, (0, 1)).astype(jnp.int32)[:, None]
  levels = jnp.arange(LEVELS, dtype=jnp.int32)
  scale = (high - low).astype(jnp.float32) * jnp.float32(1 / 255)
  scale = jnp.where(high == low, 1.0, scale)
  # A divisor of full size behind a barrier: XLA turns the division by a
  # broadcast one into a multiplication, which is one level off here and there.
  scale = jnp.broadcast_to(scale, (image.shape[2], LEVELS))
  scale = jax.lax.optimization_barrier(scale)
  stretched = (levels - low).astype(jnp.float32) / scale
  stretched = jnp.clip(stretched, 0.0, 255.0).astype(jnp.int32)
  return jnp.where(high == low, levels, stretched)


def _equalize_table(image):
  """int32[C, 256]."""
  height, width, channels = image.shape
  pixels = image.reshape(-1, channels).astype(jnp.int32)
  # One histogram of all channels, each with its own 256 bins.
  first = LEVELS * jnp.arange(channels, dtype=jnp.int32)
  histogram = jnp.zeros(channels * LEVELS, jnp.int32)
  histogram = histogram.at[(pixels + first).reshape(-1)].add(
    1, mode='promise_in_bounds'
  )
  histogram = histogram.reshape(channels, LEVELS)
  highest = jnp.max(pixels, 0)[:, None]
  levels = jnp.arange(LEVELS, dtype=jnp.int32)
  last = jnp.sum(
    jnp.where(levels == highest, histogram, 0),
    1,
    dtype=jnp.int32,
    keepdims=True,
  )
  step = (height * width - last) // 255
  below = jnp.cumsum(histogram, 1, dtype=jnp.int32) - histogram
  # An integer division in float32, which runs on vectors: with a half added,
  # the quotient is far enough from whole numbers for any rounding.
  numerator = (below + step // 2).astype(jnp.float32) + 0.5
  quotient = numerator / jnp.maximum(step, 1).astype(jnp.float32)
  table = jnp.minimum(quotient, 255.0).astype(jnp.int32)
  return jnp.where(step == 0, levels, table)


def _look_up(image, table):
  """table[c, v] for every value: uint8[H, W, C] and int32[C, 256]."""
  channels = image.shape[2]
  first = LEVELS * jnp.arange(channels, dtype=jnp.int32)
  flat = table.astype(jnp.uint8).reshape(-1)
  index = image.astype(jnp.int32) + first
  return flat.at[index].get(mode='promise_in_bounds')


def _truncate(values):
  return jnp.clip(values, 0.0, 255.0).astype(jnp.uint8)
