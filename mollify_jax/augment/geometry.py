"""Flip, crop and affine maps of one image, by torchvision's rules.

Deterministic kernels and their random twins, which take a key first. Values
are those of torchvision's transforms v2 on uint8 tensors: nearest neighbour
unless bilinear is asked for, zeros outside.
"""

import math

import jax
import jax.numpy as jnp

INTERPOLATIONS = ('nearest', 'bilinear')


def flip_image(image: jax.Array, flip: jax.Array) -> jax.Array:
  """Mirrors one image [H, W, C] left to right where `flip`, bool[], is true."""
  _check_image(image, 'flip_image')
  return jnp.where(flip, image[:, ::-1], image)


def random_flip(key: jax.Array, image: jax.Array) -> jax.Array:
  """Mirrors one image with probability 1/2."""
  # In float32 also under x64, where bernoulli would draw another number.
  return flip_image(image, jax.random.bernoulli(key, jnp.float32(0.5)))


def crop_image(
  image: jax.Array, top: jax.Array, left: jax.Array, padding: int = 4
) -> jax.Array:
  """Pads one image with zeros and cuts its own size out again.

  Args:
    image: [H, W, C].
    top: int32[], first row of the padded image, in [0, 2 padding].
    left: int32[], first column, likewise.
    padding: pixels on each side, static.

  Returns:
    Same shape and dtype; the image itself at top = left = padding.

  Raises:
    ValueError: `image` is not rank 3.
  """
  _check_image(image, 'crop_image')
  padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
  start = [jnp.asarray(offset, jnp.int32) for offset in (top, left, 0)]
  return jax.lax.dynamic_slice(padded, start, image.shape)


def random_crop(
  key: jax.Array, image: jax.Array, padding: int = 4
) -> jax.Array:
  """Crops one image at an offset uniform over the (2 padding + 1)^2."""
  top, left = jax.random.randint(key, (2,), 0, 2 * padding + 1, dtype=jnp.int32)
  return crop_image(image, top, left, padding)


def affine_image(
  image: jax.Array,
  matrix: jax.Array,
  *,
  interpolation: str = 'nearest',
  fill: float | None = None,
) -> jax.Array:
  """Reads one image at affinely mapped places.

  The pixel at (x, y), measured from the centre of the image in pixels, x to
  the right and y down, becomes the source's value at
  xs = m_00 x + m_01 y + m_02, ys = m_10 x + m_11 y + m_12.

  Args:
    image: [H, W, C].
    matrix: float32[2, 3].
    interpolation: static. `nearest` rounds a place half-way between two pixels
      to the even one, so far as float32 can tell. `bilinear` counts what lies
      outside as 0; integer images are rounded half to even.
    fill: of places outside, static. None is black. Under `bilinear`, None
      fades the border to black once; a number multiplies by the share that
      lies inside a second time, as torchvision does: with fill=0 the border is
      darker than with None.

  Returns:
    Same shape and dtype.

  Raises:
    ValueError: wrong shapes, or an unknown interpolation.
  """
  _check_image(image, 'affine_image')
  if jnp.shape(matrix) != (2, 3):
    raise ValueError(
      f'affine_image takes a matrix [2, 3], got shape {jnp.shape(matrix)!r}; '
      'for a batch call jax.vmap(affine_image)'
    )
  if interpolation not in INTERPOLATIONS:
    raise ValueError(
      f'unknown interpolation {interpolation!r}; choose from '
      f'{", ".join(INTERPOLATIONS)}'
    )
  source = _source_places(matrix, *image.shape[:2])
  if interpolation == 'nearest':
    place = jnp.round(source).astype(jnp.int32)
    return _read_pixels(image, place, 0 if fill is None else fill)
  return _read_bilinear(image, source, fill)


def rotation_matrix(degrees: jax.Array) -> jax.Array:
  """Counter-clockwise about the centre: float32[2, 3] from float32[]."""
  radians = jnp.asarray(degrees, jnp.float32) * (math.pi / 180.0)
  cos, sin, zero = jnp.cos(radians), jnp.sin(radians), jnp.float32(0)
  return jnp.array([[cos, -sin, zero], [sin, cos, zero]])


def rotate_image(
  image: jax.Array,
  degrees: jax.Array,
  *,
  interpolation: str = 'nearest',
  fill: float | None = None,
) -> jax.Array:
  """Turns one image counter-clockwise about its centre.

  Args:
    image: [H, W, C].
    degrees: float32[], the angle.
    interpolation: static, see `affine_image`.
    fill: static, see `affine_image`.

  Returns:
    Same shape and dtype.

  Raises:
    ValueError: `image` is not rank 3.
  """
  _check_image(image, 'rotate_image')
  return affine_image(
    image, rotation_matrix(degrees), interpolation=interpolation, fill=fill
  )


def random_rotate(
  key: jax.Array, image: jax.Array, degrees: float = 15.0
) -> jax.Array:
  """Turns one image by an angle uniform in [-degrees, degrees]."""
  angle = jax.random.uniform(
    key, dtype=jnp.float32, minval=-degrees, maxval=degrees
  )
  return rotate_image(image, angle)


def _source_places(matrix, height, width):
  """Row and column of the source per pixel, float32[2, H, W]."""
  # torchvision's grid: normalised to [-1, 1] and back, in float32. The order
  # of rounding decides which pixel is nearest at a tie, and the barrier keeps
  # a division from becoming a multiplication, which rounds differently.
  half = jnp.array([height / 2, width / 2], jnp.float32)
  yx = jnp.asarray(matrix, jnp.float32)[::-1]
  yx = (yx / jax.lax.optimization_barrier(half)[:, None])[..., None, None]
  x = jnp.arange(width, dtype=jnp.float32) + (0.5 - width / 2)
  y = jnp.arange(height, dtype=jnp.float32)[:, None] + (0.5 - height / 2)
  half = half[:, None, None]
  return (x * yx[:, 0] + y * yx[:, 1] + yx[:, 2] + 1.0) * half - 0.5


def _read_pixels(image, place, fill):
  """The pixel at each place int32[2, H, W], `fill` outside the image."""
  height, width, channels = image.shape
  size = jnp.array([height, width], jnp.int32)[:, None, None]
  stride = jnp.array([width, 1], jnp.int32)[:, None, None]
  inside = (place >= 0) & (place < size)
  # One sum gives the index, negative outside. XLA:CPU computes a sum before
  # it gathers, where it would compute plain arithmetic anew per channel.
  index = jnp.sum(
    jnp.where(inside, place * stride, -height * width), 0, dtype=jnp.int32
  )
  pixels = jnp.asarray(image).reshape(-1, channels)
  pixels = pixels.at[jnp.maximum(index, 0)].get(mode='promise_in_bounds')
  return jnp.where(
    (index >= 0)[..., None], pixels, jnp.asarray(fill, image.dtype)
  )


def _read_bilinear(image, source, fill):
  """The four neighbours of each place float32[2, H, W], 0 outside."""
  low = jnp.floor(source)
  row, column = low.astype(jnp.int32)
  down, right = source - low
  up, left = (low + 1.0) - source
  sample = coverage = 0.0
  for row_step, column_step, weight in (
    (0, 0, up * left),
    (0, 1, up * right),
    (1, 0, down * left),
    (1, 1, down * right),
  ):
    place = jnp.stack([row + row_step, column + column_step])
    weight = weight[..., None]
    pixels = _read_pixels(image, place, 0)
    sample = sample + pixels.astype(jnp.float32) * weight
    if fill is not None:
      ones = jnp.ones((*image.shape[:2], 1), jnp.uint8)
      coverage = coverage + _read_pixels(ones, place, 0) * weight
  if fill is not None:
    sample = (sample - fill) * coverage + fill
  if not jnp.issubdtype(image.dtype, jnp.integer):
    return sample.astype(image.dtype)
  return jnp.round(sample).astype(image.dtype)


def _check_image(image, function):
  if jnp.ndim(image) != 3:
    raise ValueError(
      f'{function} takes one image [H, W, C], got shape {jnp.shape(image)!r}; '
      f'for a batch [B, H, W, C] call jax.vmap({function})'
    )
