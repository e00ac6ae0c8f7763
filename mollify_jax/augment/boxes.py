"""Rectangles in an image: checked, drawn, and told from the rest.

What random resized crop and random erasing share. Both draw ten rectangles
and take the first that fits; which side is the long one, what fits, and what
to do when nothing does is theirs.
"""

import math
import numbers

import jax
import jax.numpy as jnp

TRIES = 10


def draw_sides(
  key: jax.Array,
  area: int,
  scale: tuple[float, float],
  ratio: tuple[float, float],
) -> tuple[jax.Array, jax.Array]:
  """Draws the sides of `TRIES` rectangles: a = sqrt(A r), b = sqrt(A / r).

  A / `area` is uniform on `scale` and log r uniform on log `ratio`, each try
  by itself, as in torchvision's RandomResizedCrop and RandomErasing.

  Args:
    key: key[].
    area: pixels of the image, static.
    scale: least and largest part of the area, 0 < low <= high, static.
    ratio: least and largest a / b, 0 < low <= high, static.

  Returns:
    a, b: int32[TRIES], in pixels, rounded half to even. They may exceed the
    image, or be 0.
  """
  low = jnp.array([[scale[0]], [math.log(ratio[0])]], jnp.float32)
  high = jnp.array([[scale[1]], [math.log(ratio[1])]], jnp.float32)
  share, log_ratio = jax.random.uniform(
    key, (2, TRIES), jnp.float32, minval=low, maxval=high
  )
  side = jnp.sqrt(area * share)
  stretch = jnp.exp(0.5 * log_ratio)
  return (
    jnp.round(side * stretch).astype(jnp.int32),
    jnp.round(side / stretch).astype(jnp.int32),
  )


def place_first(
  key: jax.Array,
  heights: jax.Array,
  widths: jax.Array,
  accepted: jax.Array,
  image_height: int,
  image_width: int,
) -> jax.Array:
  """Puts the first accepted rectangle anywhere in the image.

  Args:
    key: key[].
    heights: int32[N], in pixels.
    widths: int32[N], in pixels.
    accepted: bool[N]. An accepted rectangle is no larger than the image.
    image_height: in pixels, static.
    image_width: in pixels, static.

  Returns:
    int32[4] = (top, left, height, width); top and left are uniform over all
    places inside the image. Meaningless where nothing is accepted.
  """
  first = jnp.argmax(accepted)
  sides = jnp.stack([heights[first], widths[first]])
  room = jnp.array([image_height, image_width], jnp.int32) - sides
  corner = jax.random.randint(key, (2,), 0, room + 1, jnp.int32)
  return jnp.concatenate([corner, sides])


def span(start: jax.Array, stop: jax.Array, size: int) -> jax.Array:
  """Which of `size` positions lie in [start, stop): bool[size]."""
  index = jnp.arange(size, dtype=jnp.int32)
  return (index >= start) & (index < stop)


def check_image(image: jax.Array, function: str) -> None:
  """Refuses anything but one [H, W, C] image, of any dtype, with pixels.

  Raises:
    ValueError: `image` is not rank 3, or has no pixels.
  """
  shape = jnp.shape(image)
  if len(shape) != 3:
    raise ValueError(
      f'{function} takes one image [H, W, C], got shape {shape!r}; '
      f'for a batch [B, H, W, C] call jax.vmap({function})'
    )
  if 0 in shape:
    raise ValueError(f'{function} got an image without pixels: {shape!r}')


def check_box(box: jax.Array, function: str) -> None:
  """Refuses anything but one box of four whole numbers.

  Raises:
    ValueError: `box` is not of shape [4].
    TypeError: `box` is not of an integer type.
  """
  shape = jnp.shape(box)
  if shape != (4,):
    raise ValueError(
      f'{function} takes one box of four integers [4], got shape {shape!r}; '
      f'for a batch [B, 4] call jax.vmap({function})'
    )
  dtype = jnp.result_type(box)
  if not jnp.issubdtype(dtype, jnp.integer):
    raise TypeError(
      f'{function} takes a box in whole pixels, got dtype {dtype.name!r}; '
      'round it first: jnp.round(box).astype(jnp.int32)'
    )


def check_range(
  name: str, values: tuple[float, float], maximum: float = math.inf
) -> None:
  """Refuses anything but (low, high) with 0 < low <= high <= maximum.

  Args:
    name: the parameter's name, for the message.
    values: what the caller received.
    maximum: the largest `high`; infinity itself is refused.

  Raises:
    TypeError: not a pair of numbers.
    ValueError: out of order or out of range.
  """
  if (
    not isinstance(values, (tuple, list))
    or len(values) != 2
    or any(
      isinstance(value, bool) or not isinstance(value, numbers.Real)
      for value in values
    )
  ):
    raise TypeError(f'{name} must be two numbers (low, high), got {values!r}')
  low, high = values
  if not 0 < low <= high <= maximum or high == math.inf:
    limit = '' if maximum == math.inf else f' <= {maximum!r}'
    raise ValueError(
      f'{name} must be finite with 0 < low <= high{limit}, got {values!r}'
    )
