"""Random erasing: a random box of the image is painted over.

The semantics are torchvision's RandomErasing, after Zhong et al. 2020,
"Random Erasing Data Augmentation" (arXiv 1708.04896).
"""

import numbers

import jax
import jax.numpy as jnp

from mollify_jax.augment.boxes import (
  check_box,
  check_image,
  check_range,
  draw_sides,
  place_first,
  span,
)


def erase_image(
  image: jax.Array, box: jax.Array, value: float | jax.Array = 0
) -> jax.Array:
  """Paints a box of one image over.

  Args:
    image: [H, W, C] of any dtype.
    box: int32[4] = (top, left, height, width) in pixels. What lies outside the
      image is left out; empty is allowed.
    value: one number, or [C], one per channel, in the image's own units.

  Returns:
    Same shape and dtype; the image itself where the box is empty.

  Raises:
    ValueError: wrong ranks.
    TypeError: a box of floats, or a fraction for an image of integers.
    OverflowError: a Python number that the image's integers cannot hold.
  """
  check_image(image, 'erase_image')
  check_box(box, 'erase_image')
  image = jnp.asarray(image)
  value = _as_pixel(value, image)
  height, width, _ = image.shape
  top, left, box_height, box_width = jnp.asarray(box, jnp.int32)
  rows = span(top, top + box_height, height)
  columns = span(left, left + box_width, width)
  return jnp.where(rows[:, None, None] & columns[:, None], value, image)


def draw_box(
  key: jax.Array,
  height: int,
  width: int,
  scale: tuple[float, float] = (0.02, 0.33),
  ratio: tuple[float, float] = (0.3, 3.3),
) -> jax.Array:
  """Draws the box to erase by its area and its aspect ratio.

  The first of ten tries that is smaller than the image in both directions,
  anywhere in it: area uniform on `scale`, log(height / width) uniform on log
  `ratio`. If none is, nothing is erased.

  Args:
    key: key[], used for nothing else.
    height: of the image, in pixels, static.
    width: likewise.
    scale: least and largest part of the image, 0 < low <= high <= 1, static.
    ratio: least and largest height / width, 0 < low <= high, static.

  Returns:
    int32[4] = (top, left, height, width), inside the image; sides of 0 where
    there is nothing to erase.

  Raises:
    ValueError, TypeError: `scale` or `ratio` is not such a pair.
  """
  check_range('scale', scale, maximum=1.0)
  check_range('ratio', ratio)
  # The ratio is height / width here, and width / height in a resized crop.
  heights, widths = draw_sides(
    jax.random.fold_in(key, _DRAW_SIDES), height * width, scale, ratio
  )
  fits = (heights < height) & (widths < width)
  box = place_first(
    jax.random.fold_in(key, _DRAW_PLACE), heights, widths, fits, height, width
  )
  return jnp.where(fits.any(), box, jnp.zeros(4, jnp.int32))


def random_erase(
  key: jax.Array,
  image: jax.Array,
  *,
  probability: float = 0.5,
  scale: tuple[float, float] = (0.02, 0.33),
  ratio: tuple[float, float] = (0.3, 3.3),
  value: float | jax.Array = 0,
) -> jax.Array:
  """Paints a random box of one image over, or leaves the image alone.

  Args:
    key: key[].
    image: [H, W, C] of any dtype.
    probability: of erasing at all, in [0, 1], static.
    scale: see `draw_box`, static.
    ratio: see `draw_box`, static.
    value: see `erase_image`.

  Returns:
    Same shape and dtype.

  Raises:
    ValueError, TypeError, OverflowError: as `draw_box` and `erase_image`, or
      `probability` out of range or not a number.
  """
  check_image(image, 'random_erase')
  _check_probability(probability)
  height, width, _ = jnp.shape(image)
  box = draw_box(key, height, width, scale, ratio)
  chance = jax.random.uniform(
    jax.random.fold_in(key, _DRAW_WHETHER), (), jnp.float32
  )
  box = jnp.where(chance < probability, box, jnp.zeros(4, jnp.int32))
  return erase_image(image, box, value)


def _as_pixel(value, image):
  """`value` in the image's dtype, [] or [C]."""
  shape = jnp.shape(value)
  if shape not in ((), image.shape[-1:]):
    raise ValueError(
      f'erase_image takes one value or one per channel, [{image.shape[-1]}], '
      f'got shape {shape!r}'
    )
  if jnp.issubdtype(image.dtype, jnp.integer) and not jnp.issubdtype(
    jnp.result_type(value), jnp.integer
  ):
    raise TypeError(
      f'erase_image got value={value!r} for an image of {image.dtype.name}; '
      'give whole grey levels'
    )
  return jnp.asarray(value, image.dtype)


def _check_probability(probability):
  if isinstance(probability, bool) or not isinstance(probability, numbers.Real):
    raise TypeError(f'probability must be a number, got {probability!r}')
  if not 0 <= probability <= 1:
    raise ValueError(f'probability must be in [0, 1], got {probability!r}')


# Sub-streams of a key; the numbers must never change.
_DRAW_SIDES, _DRAW_PLACE, _DRAW_WHETHER = 0, 1, 2
