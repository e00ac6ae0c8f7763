"""Checks of arguments, made while tracing and therefore free at run time."""

import math
import numbers

import jax
import jax.numpy as jnp

# Static parameters between these neither vanish nor overflow in float32, nor
# do a logarithm divided by one.
LEAST, MOST = 1e-30, 1e30


def check_image(image: jax.Array, function: str, batch_function: str) -> None:
  """Refuses anything but one float[H, W, C] image with at least one pixel.

  Args:
    image: what the caller received.
    function: the caller's name, for the message.
    batch_function: the function that takes a batch, for the message.

  Raises:
    ValueError: `image` is not rank 3, or has no pixels.
    TypeError: `image` is not floating point.
  """
  shape = jnp.shape(image)
  if len(shape) != 3:
    raise ValueError(
      f'{function} takes one image [H, W, C], got shape {shape!r}; '
      f'for a batch [B, H, W, C] call {batch_function}'
    )
  if 0 in shape:
    raise ValueError(f'{function} got an image without pixels: {shape!r}')
  dtype = jnp.result_type(image)
  if not jnp.issubdtype(dtype, jnp.floating):
    raise TypeError(
      f'{function} takes normalised floating-point images, got dtype '
      f'{dtype.name!r}; convert first: (image / 255 - mean) / std'
    )


def check_vector(vector: jax.Array, function: str, batch_function: str) -> None:
  """Refuses anything but one non-empty [K] vector (a label, logits).

  Raises:
    ValueError: `vector` is not rank 1, or is empty.
  """
  shape = jnp.shape(vector)
  if len(shape) != 1 or 0 in shape:
    raise ValueError(
      f'{function} takes one vector [K], got shape {shape!r}; '
      f'for a batch [B, K] call {batch_function}'
    )


def check_scalar(value: jax.Array, name: str, function: str) -> None:
  """Refuses anything but a scalar, so that [B] never broadcasts over [B, K].

  Raises:
    ValueError: `value` is not rank 0.
  """
  shape = jnp.shape(value)
  if shape != ():
    raise ValueError(
      f'{function} takes one scalar {name} per example, got shape {shape!r}; '
      f'map over a batch with jax.vmap or call the plural function'
    )


def check_lengths(function: str, **arrays: jax.Array) -> None:
  """Refuses batches that do not have one entry per example.

  Args:
    function: the caller's name, for the message.
    arrays: what must have a common leading axis [B].

  Raises:
    ValueError: a scalar, or lengths that differ.
  """
  shapes = {name: jnp.shape(array) for name, array in arrays.items()}
  if () in shapes.values() or len({s[0] for s in shapes.values()}) != 1:
    given = ', '.join(f'{name} {shape!r}' for name, shape in shapes.items())
    raise ValueError(
      f'{function} takes one of each per example, [B, ...], got shapes '
      f'{given}; for a common value: jnp.full(B, value)'
    )


def check_positive(name: str, value: float) -> None:
  """Refuses a static parameter that float32 cannot take for a positive one.

  Raises:
    TypeError: `value` is not a number.
    ValueError: not finite, not > 0, or not in [LEAST, MOST].
  """
  if isinstance(value, bool) or not isinstance(value, numbers.Real):
    raise TypeError(f'{name} must be a number, got {value!r}')
  if not 0 < value < math.inf:
    raise ValueError(f'{name} must be finite and > 0, got {value!r}')
  if not LEAST <= value <= MOST:
    raise ValueError(
      f'{name} must be in [{LEAST}, {MOST}] for float32, got {value!r}'
    )
