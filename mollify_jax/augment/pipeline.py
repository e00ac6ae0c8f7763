"""Augmentation steps by name, in the order they are applied."""

import dataclasses
import functools
import numbers
from collections.abc import Callable

import jax
import jax.numpy as jnp

from mollify_jax.augment.chains import augmix
from mollify_jax.augment.erasing import random_erase
from mollify_jax.augment.geometry import random_crop, random_flip, random_rotate
from mollify_jax.augment.magnitudes import RAND_AUGMENT
from mollify_jax.augment.mixing import cutmix, mixup
from mollify_jax.augment.policies import (
  auto_augment,
  rand_augment,
  trivial_augment_wide,
)
from mollify_jax.augment.resized_crop import random_resized_crop
from mollify_jax.kernels.shapes import check_positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentOptions:
  """Parameters of the steps; those of steps not taken are idle. Hashable.

  Attributes:
    crop_padding: of `crop`: pixels of zeros around, >= 0.
    rotate_degrees: of `rotate`: the largest angle, in [0, 180].
    resized_crop_scale: of `resized_crop`: the share of the area kept.
    rand_augment_operations: how many operations, >= 1.
    rand_augment_magnitude: their bin, 0 to 30.
    augmix_severity: bins are drawn below it, 1 to 10.
    augmix_width: how many chains, >= 1.
    augmix_depth: operations per chain; -1 draws 1 to 3.
    augmix_alpha: of the Dirichlet weights, > 0.
    erasing_probability: of `random_erasing`, in [0, 1].
    mix_alpha: of `mixup` and `cutmix`: lambda ~ Beta(alpha, alpha), > 0.
    mix_per_example: draws a lambda for each example; the authors draw one for
      the batch.

  Raises:
    ValueError, TypeError: a parameter out of range or of a wrong type.
  """

  crop_padding: int = 4
  rotate_degrees: float = 15.0
  resized_crop_scale: tuple[float, ...] = (0.08, 1.0)
  rand_augment_operations: int = 2
  rand_augment_magnitude: int = 9
  augmix_severity: int = 3
  augmix_width: int = 3
  augmix_depth: int = -1
  augmix_alpha: float = 1.0
  erasing_probability: float = 0.5
  mix_alpha: float = 1.0
  mix_per_example: bool = False

  def __post_init__(self):
    scale = tuple(self.resized_crop_scale)
    object.__setattr__(self, 'resized_crop_scale', scale)
    if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
      raise ValueError(
        'resized_crop_scale must be (low, high) with 0 < low <= high <= 1, '
        f'got {scale!r}'
      )
    for name, lowest, highest in (
      ('crop_padding', 0, None),
      ('rotate_degrees', 0, 180),
      ('rand_augment_operations', 1, None),
      ('rand_augment_magnitude', 0, RAND_AUGMENT.bins - 1),
      ('augmix_severity', 1, 10),
      ('augmix_width', 1, None),
      ('erasing_probability', 0, 1),
    ):
      value = getattr(self, name)
      whole = AugmentOptions.__annotations__[name] is int
      kind = numbers.Integral if whole else numbers.Real
      if isinstance(value, bool) or not isinstance(value, kind):
        wanted = 'a whole number' if whole else 'a number'
        raise TypeError(f'{name} must be {wanted}, got {value!r}')
      if not value >= lowest or (highest is not None and value > highest):
        wanted = f'>= {lowest}'
        if highest is not None:
          wanted = f'in [{lowest}, {highest}]'
        raise ValueError(f'{name} must be {wanted}, got {value!r}')
    if self.augmix_depth != -1 and self.augmix_depth < 1:
      raise ValueError(
        f'augmix_depth must be >= 1, or -1 to draw it, got '
        f'{self.augmix_depth!r}'
      )
    for name in ('augmix_alpha', 'mix_alpha'):
      check_positive(name, getattr(self, name))


@dataclasses.dataclass(frozen=True)
class AugmentSpec(AugmentOptions):
  """Which steps, in the order applied. Hashable, a valid static argument.

  Attributes:
    steps: names from `STEPS`; () is none. One of `MIXING_STEPS` may come last.

  Raises:
    ValueError: an unknown step (the choices are listed), an order that cannot
      work, or a parameter out of range.
  """

  steps: tuple[str, ...] = ('flip', 'crop', 'rotate')

  def __post_init__(self):
    super().__post_init__()
    if isinstance(self.steps, str):
      raise ValueError(
        f'steps must be a tuple of names, got {self.steps!r}; write '
        f'({self.steps!r},) for one step'
      )
    object.__setattr__(self, 'steps', tuple(self.steps))
    for step in self.steps:
      if step not in STEPS:
        raise ValueError(
          f'unknown augmentation {step!r}; choose from {", ".join(STEPS)}'
        )
    for position, step in enumerate(self.steps[:-1]):
      if step in MIXING_STEPS:
        raise ValueError(
          f'augmentation {step!r} mixes images and labels and must be the last '
          f'step, got {self.steps[position + 1]!r} after it; steps before it '
          f'may be {", ".join(IMAGE_STEPS)}'
        )

  @property
  def mixing_step(self) -> str | None:
    """The one of `MIXING_STEPS` at the end, if there is one."""
    if self.steps and self.steps[-1] in MIXING_STEPS:
      return self.steps[-1]
    return None

  def without_mixing(self) -> 'AugmentSpec':
    """The steps that `augment_images` can take: all but `mixing_step`."""
    if self.mixing_step is None:
      return self
    return dataclasses.replace(self, steps=self.steps[:-1])


# name -> (key, image, spec) -> image
IMAGE_STEPS: dict[str, Callable[..., jax.Array]] = {
  'flip': lambda key, image, spec: random_flip(key, image),
  'crop': lambda key, image, spec: random_crop(key, image, spec.crop_padding),
  'rotate': lambda key, image, spec: random_rotate(
    key, image, spec.rotate_degrees
  ),
  'resized_crop': lambda key, image, spec: random_resized_crop(
    key, image, scale=spec.resized_crop_scale
  ),
  'trivial_augment_wide': lambda key, image, spec: trivial_augment_wide(
    key, image
  ),
  'rand_augment': lambda key, image, spec: rand_augment(
    key,
    image,
    num_operations=spec.rand_augment_operations,
    magnitude=spec.rand_augment_magnitude,
  ),
  'auto_augment_imagenet': lambda key, image, spec: auto_augment(
    key, image, 'imagenet'
  ),
  'auto_augment_cifar10': lambda key, image, spec: auto_augment(
    key, image, 'cifar10'
  ),
  'augmix': lambda key, image, spec: augmix(
    key,
    image,
    severity=spec.augmix_severity,
    width=spec.augmix_width,
    depth=spec.augmix_depth,
    alpha=spec.augmix_alpha,
  ),
  'random_erasing': lambda key, image, spec: random_erase(
    key, image, probability=spec.erasing_probability
  ),
}
# name -> (key or keys, images, labels, alpha=, partners=) -> images, labels
MIXING_STEPS: dict[str, Callable[..., tuple[jax.Array, jax.Array]]] = {
  'mixup': mixup,
  'cutmix': cutmix,
}
STEPS = (*IMAGE_STEPS, *MIXING_STEPS)


def augment_image(
  key: jax.Array, image: jax.Array, spec: AugmentSpec
) -> jax.Array:
  """Applies the steps of `spec` to one image.

  Args:
    key: key[]; each step folds in its position.
    image: uint8[H, W, 1 or 3].
    spec: static, without a mixing step.

  Returns:
    Same shape and dtype.

  Raises:
    ValueError: `image` is not rank 3, or `spec` mixes images.
    TypeError: another dtype.
  """
  _check(image, spec, 'augment_image')
  for position, name in enumerate(spec.steps):
    step_key = jax.random.fold_in(key, position)
    image = IMAGE_STEPS[name](step_key, image, spec)
  return image


def augment_images(
  keys: jax.Array, images: jax.Array, spec: AugmentSpec
) -> jax.Array:
  """Augments each of key[B], uint8[B, H, W, C] by itself; see `augment_image`.

  Raises:
    ValueError, TypeError: as `augment_image`, or lengths that differ.
  """
  return jax.vmap(augment_image, in_axes=(0, 0, None))(keys, images, spec)


def augment_views(
  key: jax.Array, image: jax.Array, spec: AugmentSpec, num_mixes: int = 2
) -> jax.Array:
  """One image without AugMix, and several independent AugMix versions of it.

  The views that AugMix's consistency loss compares: all other steps draw the
  same for every view.

  Args:
    key: key[].
    image: uint8[H, W, 1 or 3].
    spec: static, with `augmix` as one of its steps.
    num_mixes: static, >= 1.

  Returns:
    uint8[1 + num_mixes, H, W, C], the view without AugMix first.

  Raises:
    ValueError, TypeError: as `augment_image`, or `augmix` is not one step.
  """
  _check(image, spec, 'augment_views')
  if spec.steps.count('augmix') != 1:
    raise ValueError(
      f"augment_views needs 'augmix' as one of the steps, got {spec.steps!r}"
    )
  views = image[None]
  for position, name in enumerate(spec.steps):
    step_key = jax.random.fold_in(key, position)
    step = functools.partial(_run_step, name, spec)
    if name == 'augmix':
      mix_keys = jax.random.split(step_key, num_mixes)
      mixes = jax.vmap(step, in_axes=(0, None))(mix_keys, views[0])
      views = jnp.concatenate([views, mixes])
    else:
      views = jax.vmap(step, in_axes=(None, 0))(step_key, views)
  return views


def _run_step(name, spec, key, image):
  return IMAGE_STEPS[name](key, image, spec)


def _check(image, spec, function):
  if jnp.ndim(image) != 3:
    raise ValueError(
      f'{function} takes one image [H, W, C], got shape {jnp.shape(image)!r}; '
      'for a batch [B, H, W, C] call augment_images'
    )
  if spec.mixing_step:
    raise ValueError(
      f'{function} cannot take {spec.mixing_step!r}, which needs a batch and '
      'its labels; give it spec.without_mixing(), and call augment.'
      f'{spec.mixing_step} after that'
    )
