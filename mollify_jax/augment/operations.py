"""The operations that policies are made of, by name and by number.

Names and units of magnitude are torchvision's. `apply` runs one operation
whose name is known; `apply_selected` takes a number that is known only when
the program runs, and costs a batch what its examples need.
"""

import functools

import jax
import jax.numpy as jnp

from mollify_jax.augment import color
from mollify_jax.augment.geometry import (
  INTERPOLATIONS,
  affine_image,
  rotation_matrix,
)
from mollify_jax.kernels.conditional import apply_where
from mollify_jax.kernels.pixels import check_pixels

# The number of an operation is its place here. The order groups what
# `apply_selected` computes together, and each group's order is that of the
# function behind it: geometry, enhancement, maps of values.
GEOMETRIC = ('ShearX', 'ShearY', 'TranslateX', 'TranslateY', 'Rotate')
ENHANCING = ('Brightness', 'Color', 'Contrast', 'Sharpness')
REMAPPING = ('Posterize', 'Solarize', 'AutoContrast', 'Invert')
SELECTABLE = ('Identity', *GEOMETRIC, *ENHANCING, *REMAPPING, 'Equalize')
OPERATIONS = (*SELECTABLE, 'HorizontalFlip')

_NUMBER = {name: number for number, name in enumerate(SELECTABLE)}


def operation_number(name: str) -> int:
  """What `apply_selected` calls an operation.

  Raises:
    ValueError: not one of `SELECTABLE`.
  """
  _check_name(name, SELECTABLE)
  return _NUMBER[name]


def apply(
  image: jax.Array,
  operation: str,
  magnitude: jax.Array | float | None = None,
  *,
  interpolation: str = 'nearest',
  fill: float | None = None,
) -> jax.Array:
  """Applies one operation to one image, as torchvision's v2 policies do.

  Args:
    image: uint8[H, W, 1 or 3].
    operation: static, one of `OPERATIONS`.
    magnitude: float32[], signed. ShearX, ShearY: the slope, > 0 moves lower
      rows left and right columns up, the top or left edge stays. TranslateX,
      TranslateY: pixels, truncated to whole ones, > 0 moves right or down.
      Rotate: degrees, > 0 counter-clockwise. Brightness, Color, Contrast,
      Sharpness: factor - 1. Posterize: bits kept. Solarize: the threshold as a
      fraction of 255. The others ignore it, and it may be left out.
    interpolation: static, of geometric operations; see `affine_image`.
    fill: likewise.

  Returns:
    Same shape and dtype.

  Raises:
    ValueError: an unknown operation (the choices are listed), no magnitude for
      one that has one, another rank or number of channels.
    TypeError: another dtype.
  """
  check_pixels(image, 'augment.apply')
  _check_name(operation, OPERATIONS)
  if magnitude is None:
    if operation in (*GEOMETRIC, *ENHANCING, 'Posterize', 'Solarize'):
      raise ValueError(
        f'augment.apply needs a magnitude for {operation!r}; its docstring has '
        'the units'
      )
    magnitude = 0.0
  if jnp.shape(magnitude):
    raise ValueError(
      'augment.apply takes one scalar magnitude per image, got shape '
      f'{jnp.shape(magnitude)!r}; map over a batch with jax.vmap'
    )
  image = jnp.asarray(image)
  if operation in GEOMETRIC:
    matrix = _matrix(_NUMBER[operation], magnitude, *image.shape[:2])
    return affine_image(image, matrix, interpolation=interpolation, fill=fill)
  kernel = {
    'Identity': lambda image, _: image,
    'HorizontalFlip': lambda image, _: image[:, ::-1],
    'Brightness': color.adjust_brightness,
    'Color': color.adjust_color,
    'Contrast': color.adjust_contrast,
    'Sharpness': color.adjust_sharpness,
    'Posterize': color.posterize,
    'Solarize': color.solarize,
    'AutoContrast': lambda image, _: color.autocontrast(image),
    'Invert': lambda image, _: color.invert(image),
    'Equalize': lambda image, _: color.equalize(image),
  }[operation]
  return kernel(image, magnitude)


# Compiled, so that a call outside of `jit` does not compile its loops anew.
@functools.partial(jax.jit, static_argnames='interpolation')
def apply_selected(
  image: jax.Array,
  operation: jax.Array,
  magnitude: jax.Array,
  *,
  interpolation: str = 'nearest',
) -> jax.Array:
  """Applies the operation of a number to one image.

  The operations fall into four groups (one gather, one blend, one look-up, and
  Equalize, whose histogram costs most), and under `vmap` a group runs on the
  images that need it only.

  Args:
    image: uint8[H, W, 1 or 3].
    operation: int32[], as `operation_number` counts.
    magnitude: float32[], in the units of `apply`.
    interpolation: static, of geometric operations.

  Returns:
    Same shape and dtype, what `apply` gives.

  Raises:
    ValueError: another rank or number of channels, or an unknown
      interpolation.
    TypeError: another dtype.
  """
  check_pixels(image, 'augment.apply_selected')
  _check_name(interpolation, INTERPOLATIONS, 'interpolation')
  image = jnp.asarray(image)
  operation = jnp.asarray(operation, jnp.int32)
  magnitude = jnp.asarray(magnitude, jnp.float32)
  transform = functools.partial(_transform, interpolation=interpolation)
  for group, kernel in (
    (GEOMETRIC, transform),
    (ENHANCING, _enhance),
    (REMAPPING, _remap),
    (('Equalize',), _equalize),
  ):
    first, last = _NUMBER[group[0]], _NUMBER[group[-1]]
    needed = (operation >= first) & (operation <= last)
    image = apply_where(needed, kernel, image, operation, magnitude)
  return image


def _transform(image, operation, magnitude, *, interpolation):
  matrix = _matrix(operation, magnitude, *image.shape[:2])
  return affine_image(image, matrix, interpolation=interpolation)


def _enhance(image, operation, magnitude):
  return color.enhance(image, operation - _NUMBER[ENHANCING[0]], magnitude)


def _remap(image, operation, magnitude):
  return color.remap(image, operation - _NUMBER[REMAPPING[0]], magnitude)


def _equalize(image, operation, magnitude):
  del operation, magnitude
  return color.equalize(image)


def _matrix(operation, magnitude, height, width):
  """The affine map float32[2, 3] of a geometric operation's number."""
  m = jnp.asarray(magnitude, jnp.float32)
  one, zero = jnp.float32(1), jnp.float32(0)
  choices = [
    jnp.array([[one, m, m * (height / 2)], [zero, one, zero]]),
    jnp.array([[one, zero, zero], [m, one, m * (width / 2)]]),
    jnp.array([[one, zero, -jnp.trunc(m)], [zero, one, zero]]),
    jnp.array([[one, zero, zero], [zero, one, -jnp.trunc(m)]]),
    rotation_matrix(m),
  ]
  which = operation - _NUMBER[GEOMETRIC[0]]
  if isinstance(which, int):
    return choices[which]
  return jnp.stack(choices)[which]


def _check_name(name, choices, what='operation'):
  if name not in choices:
    raise ValueError(
      f'unknown {what} {name!r}; choose from {", ".join(choices)}'
    )
