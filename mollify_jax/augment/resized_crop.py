"""Random resized crop: a random box of the image, enlarged to its size.

The semantics are torchvision's (transforms v2): bilinear with antialiasing,
and for uint8 images the integer arithmetic of its CPU kernel, bit for bit.
"""

import jax
import jax.numpy as jnp

from mollify_jax.augment.boxes import (
  check_box,
  check_image,
  check_range,
  draw_sides,
  place_first,
)


def resized_crop_image(
  image: jax.Array,
  box: jax.Array,
  height: int | None = None,
  width: int | None = None,
) -> jax.Array:
  """Cuts a box out of one image and resizes it with a triangle filter.

  Each output pixel is a weighted mean over the box: the weights fall linearly
  from the pixel's own place in the box to 0 at a distance of one pixel of the
  box or of the output, whichever is larger, and sum to 1. Floats: that, in
  float32. uint8: rows are filtered first and rounded to whole grey levels,
  then columns, both with the weights of `_quantize`.

  Args:
    image: uint8[H, W, C], or float[H, W, C] of any value range.
    box: int32[4] = (top, left, height, width) in pixels, inside the image,
      sides >= 1.
    height: of the output, in pixels, static; None: H.
    width: likewise; None: W.

  Returns:
    [height, width, C] of the same dtype; the box itself where it has the size
    of the output. uint8 is exact while the box is at most 100 times as high
    and wide as the output.

  Raises:
    ValueError: wrong ranks, or an output without pixels.
    TypeError: an image of another integer type, a box of floats.
  """
  check_image(image, 'resized_crop_image')
  check_box(box, 'resized_crop_image')
  image = jnp.asarray(image)
  height = _check_side('height', height, image.shape[0])
  width = _check_side('width', width, image.shape[1])
  if image.dtype != jnp.uint8 and not jnp.issubdtype(image.dtype, jnp.floating):
    raise TypeError(
      'resized_crop_image takes uint8 or floating-point images, got dtype '
      f'{image.dtype.name!r}; convert first: image.astype(jnp.float32)'
    )
  top, left, box_height, box_width = jnp.asarray(box, jnp.int32)
  rows = _triangles(top, box_height, image.shape[0], height)
  columns = _triangles(left, box_width, image.shape[1], width)
  if image.dtype == jnp.uint8:
    return _resample_uint8(_resample_uint8(image, columns, 1), rows, 0)
  out = _resample(_resample(image.astype(jnp.float32), columns, 1), rows, 0)
  return out.astype(image.dtype)


def draw_box(
  key: jax.Array,
  height: int,
  width: int,
  scale: tuple[float, float] = (0.08, 1.0),
  ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> jax.Array:
  """Draws a box by its area and its aspect ratio, torchvision's way.

  The first of ten tries that fits the image, anywhere in it: area uniform on
  `scale`, log(width / height) uniform on log `ratio`. If none fits, the
  largest central box whose ratio is allowed.

  Args:
    key: key[], used for nothing else.
    height: of the image, in pixels, static.
    width: likewise.
    scale: least and largest part of the image, 0 < low <= high <= 1, static.
    ratio: least and largest width / height, 0 < low <= high, static.

  Returns:
    int32[4] = (top, left, height, width), inside the image, sides >= 1.

  Raises:
    ValueError, TypeError: `scale` or `ratio` is not such a pair.
  """
  check_range('scale', scale, maximum=1.0)
  check_range('ratio', ratio)
  widths, heights = draw_sides(
    jax.random.fold_in(key, _DRAW_SIDES), height * width, scale, ratio
  )
  fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
  box = place_first(
    jax.random.fold_in(key, _DRAW_PLACE), heights, widths, fits, height, width
  )
  central = jnp.array(central_box(height, width, ratio), jnp.int32)
  return jnp.where(fits.any(), box, central)


def central_box(
  height: int, width: int, ratio: tuple[float, float]
) -> tuple[int, int, int, int]:
  """The largest central box whose width / height lies in `ratio`.

  Returns:
    (top, left, height, width) in pixels; sides are >= 1 even where no whole
    number of pixels has an allowed ratio.
  """
  low, high = ratio
  box_height, box_width = height, width
  if width / height < low:
    box_height = max(1, round(width / low))
  elif width / height > high:
    box_width = max(1, round(height * high))
  top, left = (height - box_height) // 2, (width - box_width) // 2
  return top, left, box_height, box_width


def random_resized_crop(
  key: jax.Array,
  image: jax.Array,
  *,
  scale: tuple[float, float] = (0.08, 1.0),
  ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> jax.Array:
  """Enlarges a random box of one image to the image's own size.

  Args:
    key: key[].
    image: uint8[H, W, C] or float[H, W, C].
    scale: see `draw_box`, static.
    ratio: see `draw_box`, static.

  Returns:
    Same shape and dtype.

  Raises:
    ValueError, TypeError: as `draw_box` and `resized_crop_image`.
  """
  check_image(image, 'random_resized_crop')
  height, width, _ = jnp.shape(image)
  return resized_crop_image(image, draw_box(key, height, width, scale, ratio))


def _triangles(start, box_side, image_side, out_side):
  """The filter, not yet normalised: int32[out_side, image_side].

  In integers, so that no rounding moves a position: with box side n and
  output side m, positions j of the box and i of the output are
  |m (2j + 1) - n (2i + 1)| / (2m) source pixels apart.
  """
  source = jnp.arange(image_side, dtype=jnp.int32) - start
  target = jnp.arange(out_side, dtype=jnp.int32)[:, None]
  reach = 2 * jnp.maximum(box_side, out_side)
  distance = out_side * (2 * source + 1) - box_side * (2 * target + 1)
  inside = (source >= 0) & (source < box_side)
  return jnp.where(inside, jnp.maximum(0, reach - jnp.abs(distance)), 0)


def _resample(image, triangles, axis):
  """Weighted means along one axis of a float32 image."""
  weights, _ = _normalize(triangles)
  return _contract(weights, image, axis)


def _resample_uint8(image, triangles, axis):
  """Weighted means along one axis, rounded half up to whole grey levels."""
  weights, bits = _quantize(triangles)
  # A float32 sum of integers is exact below 2^24. Bytes of the weights times
  # bytes of the image stay below that, whole weights would not.
  pixels = image.astype(jnp.float32)
  high, low = (
    _contract(part.astype(jnp.float32), pixels, axis).astype(jnp.int32)
    for part in (weights >> 8, weights & 255)
  )
  total = (high << 8) + low + (1 << (bits - 1))
  return jnp.clip(total >> bits, 0, 255).astype(jnp.uint8)


def _contract(weights, image, axis):
  """Replaces one axis of an image: float32[out, in] times [.., in, ..]."""
  out = jnp.tensordot(
    weights, image, axes=(1, axis), precision=jax.lax.Precision.HIGHEST
  )
  return jnp.moveaxis(out, 0, axis)


def _normalize(triangles):
  """Weights that sum to 1 per row, float32, and the sums before, int32."""
  total = triangles.sum(1, keepdims=True, dtype=jnp.int32)
  return triangles.astype(jnp.float32) / total.astype(jnp.float32), total


def _quantize(triangles):
  """Whole weights w = floor(2^bits weight + 1/2), int32, and `bits`, int32[].

  ATen's rule: the most bits, up to 22, that leave every weight below 2^15.
  """
  weights, total = _normalize(triangles)
  choices = jnp.array([2.0**bits for bits in range(1, 23)], jnp.float32)
  fits = 0.5 + weights.max() * choices < 2**15
  bits = fits.sum(dtype=jnp.int32)
  whole = jnp.round(weights * choices[bits - 1]).astype(jnp.int32)
  # Next to a half, float32 may round to the wrong side. The remainder tells
  # exactly: its two products may pass 2^31, but they wrap around alike.
  rest = (triangles << bits) - whole * total
  too_low, too_high = 2 * rest >= total, 2 * rest < -total
  return whole + too_low.astype(jnp.int32) - too_high.astype(jnp.int32), bits


def _check_side(name, side, default):
  if side is None:
    return default
  if isinstance(side, bool) or not isinstance(side, int) or side < 1:
    raise ValueError(
      f'{name} of the output must be an int >= 1, got {side!r}; None keeps '
      "the image's own"
    )
  return side


# Sub-streams of a key; the numbers must never change.
_DRAW_SIDES, _DRAW_PLACE = 0, 1
