"""Augmentations of one image, per example, on the device."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from mollify_jax.augment.geometry import (
  random_crop,
  random_flip,
  random_rotate,
)


@dataclasses.dataclass(frozen=True)
class AugmentSpec:
  """Which steps, in the order applied. Hashable, a valid static argument.

  Attributes:
    steps: names from `STEPS`; () is none.
    crop_padding: pixels of zero padding for `crop`, >= 0.
    rotate_degrees: largest angle of `rotate`, in [0, 180].

  Raises:
    ValueError: an unknown step (the choices are listed), or a parameter out
      of range.
  """

  steps: tuple[str, ...] = ('flip', 'crop', 'rotate')
  crop_padding: int = 4
  rotate_degrees: float = 15.0

  def __post_init__(self):
    object.__setattr__(self, 'steps', tuple(self.steps))
    for step in self.steps:
      if step not in STEPS:
        raise ValueError(
          f'unknown augmentation {step!r}; choose from {", ".join(STEPS)}'
        )
    if self.crop_padding < 0:
      raise ValueError(f'crop_padding must be >= 0, got {self.crop_padding!r}')
    if not 0 <= self.rotate_degrees <= 180:
      raise ValueError(
        f'rotate_degrees must be in [0, 180], got {self.rotate_degrees!r}'
      )


# name -> (key, image, spec) -> image
STEPS: dict[str, Callable[..., jax.Array]] = {
  'flip': lambda key, image, spec: random_flip(key, image),
  'crop': lambda key, image, spec: random_crop(key, image, spec.crop_padding),
  'rotate': lambda key, image, spec: random_rotate(
    key, image, spec.rotate_degrees
  ),
}


def augment_image(
  key: jax.Array, image: jax.Array, spec: AugmentSpec
) -> jax.Array:
  """Applies the steps of `spec` to one image.

  Args:
    key: key[]; each step folds in its position.
    image: uint8[H, W, C].
    spec: static.

  Returns:
    Same shape and dtype.

  Raises:
    ValueError: `image` is not rank 3.
  """
  if jnp.ndim(image) != 3:
    raise ValueError(
      f'augment_image takes one image [H, W, C], got shape '
      f'{jnp.shape(image)!r}; for a batch [B, H, W, C] call augment_images'
    )
  for position, step in enumerate(spec.steps):
    image = STEPS[step](jax.random.fold_in(key, position), image, spec)
  return image


def augment_images(
  keys: jax.Array, images: jax.Array, spec: AugmentSpec
) -> jax.Array:
  """Augments each image by itself: key[B], uint8[B, H, W, C]; see above."""
  return jax.vmap(augment_image, in_axes=(0, 0, None))(keys, images, spec)
