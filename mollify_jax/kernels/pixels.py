"""Stored pixels, and the channel-normalised floats that kernels take."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def normalize_images(
  images: jax.Array, mean: Sequence[float], std: Sequence[float]
) -> jax.Array:
  """Maps pixels 0..255 to (pixel / 255 - mean) / std per channel.

  Args:
    images: uint8[..., H, W, C].
    mean: C numbers, of pixels / 255, static.
    std: C numbers > 0, likewise.

  Returns:
    float32[..., H, W, C].

  Raises:
    ValueError: `mean` or `std` does not have one number per channel, or a
      `std` is not > 0.
  """
  channels = jnp.shape(images)[-1]
  if len(mean) != channels or len(std) != channels:
    raise ValueError(
      f'normalize_images needs one mean and std per channel ({channels}), '
      f'got mean={mean!r} and std={std!r}'
    )
  if not all(scale > 0 for scale in std):
    raise ValueError(
      f'normalize_images needs std > 0 in every channel, got {std!r}'
    )
  mean = jnp.array(mean, jnp.float32)
  std = jnp.array(std, jnp.float32)
  return (images.astype(jnp.float32) / 255.0 - mean) / std


def check_pixels(image: jax.Array, function: str) -> None:
  """Refuses anything but one uint8[H, W, 1 or 3] image with pixels.

  Args:
    image: what the caller received.
    function: the caller's name, for the message.

  Raises:
    ValueError: another rank, number of channels, or no pixels.
    TypeError: another dtype.
  """
  shape = jnp.shape(image)
  if len(shape) != 3:
    raise ValueError(
      f'{function} takes one image [H, W, C], got shape {shape!r}; for a batch '
      f'[B, H, W, C] call jax.vmap({function})'
    )
  if shape[2] not in (1, 3) or 0 in shape:
    raise ValueError(
      f'{function} takes images of 1 or 3 channels with at least one pixel, '
      f'got shape {shape!r}'
    )
  dtype = jnp.result_type(image)
  if dtype != jnp.uint8:
    raise TypeError(
      f'{function} takes pixels as uint8 in [0, 255], got dtype '
      f'{dtype.name!r}; apply it before images are normalised'
    )
