"""Flip, crop and rotate one image: the paper's "FCR".

The semantics are torchvision's (transforms v2, uint8 tensors): nearest
neighbour, zeros outside. Each deterministic kernel has a random twin that
takes a key.
"""

import math

import jax
import jax.numpy as jnp


def flip_image(image: jax.Array, flip: jax.Array) -> jax.Array:
  """Mirrors one image [H, W, C] left to right where `flip`, bool[], is true."""
  _check_image(image, 'flip_image')
  return jnp.where(flip, image[:, ::-1], image)


def random_flip(key: jax.Array, image: jax.Array) -> jax.Array:
  """Mirrors one image with probability 1/2."""
  return flip_image(image, jax.random.bernoulli(key))


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
  return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)


def random_crop(
  key: jax.Array, image: jax.Array, padding: int = 4
) -> jax.Array:
  """Crops one image at an offset uniform over the (2 padding + 1)^2."""
  top, left = jax.random.randint(key, (2,), 0, 2 * padding + 1)
  return crop_image(image, top, left, padding)


def rotate_image(image: jax.Array, degrees: jax.Array) -> jax.Array:
  """Turns one image counter-clockwise about its centre.

  Args:
    image: [H, W, C].
    degrees: float32[], the angle.

  Returns:
    Same shape and dtype: the nearest source pixel of each, zero outside.

  Raises:
    ValueError: `image` is not rank 3.
  """
  _check_image(image, 'rotate_image')
  height, width, _ = image.shape
  radians = jnp.asarray(degrees, jnp.float32) * (math.pi / 180.0)
  cos, sin = jnp.cos(radians), jnp.sin(radians)
  x = jnp.arange(width, dtype=jnp.float32) + (0.5 - width / 2)
  y = jnp.arange(height, dtype=jnp.float32)[:, None] + (0.5 - height / 2)
  column = _source_index(x * cos, y * -sin, width)
  row = _source_index(x * sin, y * cos, height)
  inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
  index = jnp.where(inside, row * width + column, 0)
  pixels = image.reshape(height * width, -1)[index]
  return jnp.where(inside[..., None], pixels, jnp.zeros((), image.dtype))


def random_rotate(
  key: jax.Array, image: jax.Array, degrees: float = 15.0
) -> jax.Array:
  """Turns one image by an angle uniform in [-degrees, degrees]."""
  angle = jax.random.uniform(key, minval=-degrees, maxval=degrees)
  return rotate_image(image, angle)


def _source_index(a, b, size):
  """Nearest index of the source coordinate a + b, measured from the centre."""
  # torchvision's grid: normalised to [-1, 1] and back, in float32. The order
  # of rounding decides which pixel is nearest at a tie.
  half = size / 2
  return jnp.round((a / half + b / half + 1.0) * half - 0.5).astype(jnp.int32)


def _check_image(image, function):
  if jnp.ndim(image) != 3:
    raise ValueError(
      f'{function} takes one image [H, W, C], got shape {jnp.shape(image)!r}; '
      f'for a batch [B, H, W, C] call jax.vmap({function})'
    )
