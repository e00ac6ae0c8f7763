"""TrivialAugmentWide, RandAugment and AutoAugment of one image.

Each is a drawing function, which gives numbers of operations and their signed
magnitudes, and the policy itself, which draws and applies them in order. The
variant is torchvision's (transforms v2, 0.29): nearest neighbour, black
outside, whatever the image size. torchvision draws once for a batch; here
every image has its own key.
"""

import jax
import jax.numpy as jnp

from mollify_jax.augment import magnitudes
from mollify_jax.augment.magnitudes import pick_magnitude
from mollify_jax.augment.operations import (
  ENHANCING,
  GEOMETRIC,
  apply_selected,
  operation_number,
)

# Both policies draw from these, uniformly.
CHOICES = (
  'Identity',
  *GEOMETRIC,
  *ENHANCING,
  'Posterize',
  'Solarize',
  'AutoContrast',
  'Equalize',
)

# Two operations each, as (operation, probability, bin of 10). Cubuk et al. 2019
# (arXiv 1805.09501), tables 7 and 9, in torchvision's reading.
SUB_POLICIES = {
  'imagenet': (
    (('Posterize', 0.4, 8), ('Rotate', 0.6, 9)),
    (('Solarize', 0.6, 5), ('AutoContrast', 0.6, 0)),
    (('Equalize', 0.8, 0), ('Equalize', 0.6, 0)),
    (('Posterize', 0.6, 7), ('Posterize', 0.6, 6)),
    (('Equalize', 0.4, 0), ('Solarize', 0.2, 4)),
    (('Equalize', 0.4, 0), ('Rotate', 0.8, 8)),
    (('Solarize', 0.6, 3), ('Equalize', 0.6, 0)),
    (('Posterize', 0.8, 5), ('Equalize', 1.0, 0)),
    (('Rotate', 0.2, 3), ('Solarize', 0.6, 8)),
    (('Equalize', 0.6, 0), ('Posterize', 0.4, 6)),
    (('Rotate', 0.8, 8), ('Color', 0.4, 0)),
    (('Rotate', 0.4, 9), ('Equalize', 0.6, 0)),
    (('Equalize', 0.0, 0), ('Equalize', 0.8, 0)),
    (('Invert', 0.6, 0), ('Equalize', 1.0, 0)),
    (('Color', 0.6, 4), ('Contrast', 1.0, 8)),
    (('Rotate', 0.8, 8), ('Color', 1.0, 2)),
    (('Color', 0.8, 8), ('Solarize', 0.8, 7)),
    (('Sharpness', 0.4, 7), ('Invert', 0.6, 0)),
    (('ShearX', 0.6, 5), ('Equalize', 1.0, 0)),
    (('Color', 0.4, 0), ('Equalize', 0.6, 0)),
    (('Equalize', 0.4, 0), ('Solarize', 0.2, 4)),
    (('Solarize', 0.6, 5), ('AutoContrast', 0.6, 0)),
    (('Invert', 0.6, 0), ('Equalize', 1.0, 0)),
    (('Color', 0.6, 4), ('Contrast', 1.0, 8)),
    (('Equalize', 0.8, 0), ('Equalize', 0.6, 0)),
  ),
  'cifar10': (
    (('Invert', 0.1, 0), ('Contrast', 0.2, 6)),
    (('Rotate', 0.7, 2), ('TranslateX', 0.3, 9)),
    (('Sharpness', 0.8, 1), ('Sharpness', 0.9, 3)),
    (('ShearY', 0.5, 8), ('TranslateY', 0.7, 9)),
    (('AutoContrast', 0.5, 0), ('Equalize', 0.9, 0)),
    (('ShearY', 0.2, 7), ('Posterize', 0.3, 7)),
    (('Color', 0.4, 3), ('Brightness', 0.6, 7)),
    (('Sharpness', 0.3, 9), ('Brightness', 0.7, 9)),
    (('Equalize', 0.6, 0), ('Equalize', 0.5, 0)),
    (('Contrast', 0.6, 7), ('Sharpness', 0.6, 5)),
    (('Color', 0.7, 7), ('TranslateX', 0.5, 8)),
    (('Equalize', 0.3, 0), ('AutoContrast', 0.4, 0)),
    (('TranslateY', 0.4, 3), ('Sharpness', 0.2, 6)),
    (('Brightness', 0.9, 6), ('Color', 0.2, 8)),
    (('Solarize', 0.5, 2), ('Invert', 0.0, 0)),
    (('Equalize', 0.2, 0), ('AutoContrast', 0.6, 0)),
    (('Equalize', 0.2, 0), ('Equalize', 0.6, 0)),
    (('Color', 0.9, 9), ('Equalize', 0.6, 0)),
    (('AutoContrast', 0.8, 0), ('Solarize', 0.2, 8)),
    (('Brightness', 0.1, 3), ('Color', 0.7, 0)),
    (('Solarize', 0.4, 5), ('AutoContrast', 0.9, 0)),
    (('TranslateY', 0.9, 9), ('TranslateY', 0.7, 9)),
    (('AutoContrast', 0.9, 0), ('Solarize', 0.8, 3)),
    (('Equalize', 0.8, 0), ('Invert', 0.1, 0)),
    (('TranslateY', 0.7, 9), ('AutoContrast', 0.9, 0)),
  ),
}


def draw_trivial_augment_wide(
  key: jax.Array, image_shape: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
  """One of `CHOICES`, one of 31 bins, and a sign, all uniform.

  Source: Mueller and Hutter 2021 (arXiv 2103.10158), the wide search space.

  Args:
    key: key[].
    image_shape: (H, W, ...), static. Translations reach 32 pixels at any size.

  Returns:
    operation int32[1] and magnitude float32[1], for `apply_sequence`.
  """
  u = jax.random.uniform(key, (3, 1), jnp.float32)
  scale = magnitudes.TRIVIAL_AUGMENT_WIDE
  operation = _numbers(CHOICES)[_pick(u[0], len(CHOICES))]
  bin_index = _pick(u[1], scale.bins)
  return operation, pick_magnitude(
    scale, operation, bin_index, u[2] <= 0.5, image_shape
  )


def draw_rand_augment(
  key: jax.Array,
  image_shape: tuple[int, ...],
  *,
  num_operations: int = 2,
  magnitude: int = 9,
) -> tuple[jax.Array, jax.Array]:
  """Several of `CHOICES`, with replacement, at one bin of 31.

  Source: Cubuk et al. 2020 (arXiv 1909.13719).

  Args:
    key: key[].
    image_shape: (H, W, ...), static. Translations are shares of the side.
    num_operations: n >= 1, static.
    magnitude: the bin, in [0, 30], static.

  Returns:
    operation int32[n] and magnitude float32[n], for `apply_sequence`.

  Raises:
    ValueError: `num_operations` or `magnitude` out of range.
  """
  bins = magnitudes.RAND_AUGMENT.bins
  if num_operations < 1 or not 0 <= magnitude < bins:
    raise ValueError(
      f'RandAugment wants num_operations >= 1 and a magnitude in '
      f'[0, {bins - 1}], got {num_operations!r} and {magnitude!r}'
    )
  u = jax.random.uniform(key, (2, num_operations), jnp.float32)
  operation = _numbers(CHOICES)[_pick(u[0], len(CHOICES))]
  return operation, pick_magnitude(
    magnitudes.RAND_AUGMENT, operation, magnitude, u[1] <= 0.5, image_shape
  )


def draw_auto_augment(
  key: jax.Array, image_shape: tuple[int, ...], policy: str
) -> tuple[jax.Array, jax.Array]:
  """One of 25 sub-policies, uniformly, and which of its two operations act.

  Source: Cubuk et al. 2019 (arXiv 1805.09501).

  Args:
    key: key[].
    image_shape: (H, W, ...), static. Translations are shares of the side.
    policy: static, a name in `SUB_POLICIES`.

  Returns:
    operation int32[2] and magnitude float32[2], for `apply_sequence`; what
    does not act is Identity.

  Raises:
    ValueError: an unknown policy.
  """
  if policy not in SUB_POLICIES:
    raise ValueError(
      f'unknown policy {policy!r}; choose from {", ".join(SUB_POLICIES)}'
    )
  u = jax.random.uniform(key, (5,), jnp.float32)
  table = SUB_POLICIES[policy]
  row = _pick(u[0], len(table))
  operation = jnp.asarray(
    [[operation_number(name) for name, _, _ in pair] for pair in table],
    jnp.int32,
  )[row]
  probability = jnp.asarray(
    [[p for _, p, _ in pair] for pair in table], jnp.float32
  )[row]
  bin_index = jnp.asarray(
    [[index for _, _, index in pair] for pair in table], jnp.int32
  )[row]
  magnitude = pick_magnitude(
    magnitudes.AUTO_AUGMENT, operation, bin_index, u[3:] <= 0.5, image_shape
  )
  acts = u[1:3] <= probability
  identity = operation_number('Identity')
  return jnp.where(acts, operation, identity), magnitude


def apply_sequence(
  image: jax.Array,
  operation: jax.Array,
  magnitude: jax.Array,
  *,
  interpolation: str = 'nearest',
) -> jax.Array:
  """Applies operations one after the other.

  Args:
    image: uint8[H, W, 1 or 3].
    operation: int32[n], see `operations.apply_selected`.
    magnitude: float32[n].
    interpolation: static.

  Returns:
    Same shape and dtype.

  Raises:
    ValueError, TypeError: as `apply_selected`.
  """
  for index in range(operation.shape[0]):
    image = apply_selected(
      image, operation[index], magnitude[index], interpolation=interpolation
    )
  return image


def trivial_augment_wide(key: jax.Array, image: jax.Array) -> jax.Array:
  """TrivialAugmentWide of one uint8[H, W, 1 or 3] image."""
  return apply_sequence(image, *draw_trivial_augment_wide(key, image.shape))


def rand_augment(
  key: jax.Array,
  image: jax.Array,
  *,
  num_operations: int = 2,
  magnitude: int = 9,
) -> jax.Array:
  """RandAugment of one uint8[H, W, 1 or 3] image."""
  drawn = draw_rand_augment(
    key, image.shape, num_operations=num_operations, magnitude=magnitude
  )
  return apply_sequence(image, *drawn)


def auto_augment(key: jax.Array, image: jax.Array, policy: str) -> jax.Array:
  """AutoAugment of one uint8[H, W, 1 or 3] image, `imagenet` or `cifar10`."""
  return apply_sequence(image, *draw_auto_augment(key, image.shape, policy))


def _pick(u, count):
  """An integer uniform over [0, count) from u uniform on [0, 1)."""
  return (u * count).astype(jnp.int32)


def _numbers(names):
  return jnp.asarray([operation_number(name) for name in names], jnp.int32)
