"""From stored pixels to the channel-normalised floats that kernels take."""

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
    ValueError: `mean` or `std` does not have one number per channel.
  """
  channels = jnp.shape(images)[-1]
  if len(mean) != channels or len(std) != channels:
    raise ValueError(
      f'normalize_images needs one mean and std per channel ({channels}), '
      f'got mean={mean!r} and std={std!r}'
    )
  mean = jnp.array(mean, jnp.float32)
  std = jnp.array(std, jnp.float32)
  return (images.astype(jnp.float32) / 255.0 - mean) / std
