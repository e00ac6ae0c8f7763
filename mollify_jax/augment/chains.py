"""AugMix of one image: a convex mixture of chains of operations.

Source: Hendrycks et al. 2020 (arXiv 1912.02781), in torchvision's variant
(transforms v2, 0.29): bilinear, all thirteen operations.
"""

import math
from typing import NamedTuple

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
from mollify_jax.kernels.shapes import check_positive

CHOICES = (
  *GEOMETRIC,
  'Posterize',
  'Solarize',
  'AutoContrast',
  'Equalize',
  *ENHANCING,
)
LONGEST_CHAIN = 3


class AugMixDraw(NamedTuple):
  """What AugMix draws for one image.

  Attributes:
    operation: int32[width, steps], numbers of operations; Identity after the
      end of a chain.
    magnitude: float32[width, steps], signed.
    keep: float32[2], the weights of the image itself and of the mixture.
    weights: float32[width], of the chains in the mixture.
  """

  operation: jax.Array
  magnitude: jax.Array
  keep: jax.Array
  weights: jax.Array


def draw_augmix(
  key: jax.Array,
  image_shape: tuple[int, ...],
  *,
  severity: int = 3,
  width: int = 3,
  depth: int = -1,
  alpha: float = 1.0,
) -> AugMixDraw:
  """Draws chains and weights.

  Args:
    key: key[].
    image_shape: (H, W, ...), static. Translations are shares of the side.
    severity: bins are uniform over [0, severity) of 10; static, 1 to 10.
    width: how many chains, static, >= 1.
    depth: operations per chain, static; -1: uniform over 1, 2, 3 per chain.
    alpha: both kinds of weights are Dirichlet(alpha, ...), static, > 0.

  Returns:
    The draw. Operations are uniform over the thirteen of `CHOICES`.

  Raises:
    ValueError: a parameter out of range.
  """
  if (
    not 1 <= severity <= magnitudes.AUGMIX.bins
    or width < 1
    or (depth != -1 and depth < 1)
    or not 0 < alpha < math.inf
  ):
    raise ValueError(
      f'AugMix wants a severity in [1, {magnitudes.AUGMIX.bins}], width >= 1, '
      'depth >= 1 or -1, and alpha finite and > 0; got '
      f'{severity!r}, {width!r}, {depth!r} and {alpha!r}'
    )
  check_positive('alpha', alpha)
  steps = LONGEST_CHAIN if depth < 1 else depth
  keys = jax.random.split(key, 4)
  u = jax.random.uniform(keys[0], (3, width, steps), jnp.float32)
  choices = jnp.asarray([operation_number(name) for name in CHOICES], jnp.int32)
  operation = choices[(u[0] * len(CHOICES)).astype(jnp.int32)]
  magnitude = pick_magnitude(
    magnitudes.AUGMIX,
    operation,
    (u[1] * severity).astype(jnp.int32),
    u[2] <= 0.5,
    image_shape,
  )
  if depth < 1:
    length = jax.random.uniform(keys[1], (width, 1), jnp.float32) * steps
    ended = jnp.arange(steps, dtype=jnp.int32) > length.astype(jnp.int32)
    operation = jnp.where(ended, operation_number('Identity'), operation)
  return AugMixDraw(
    operation,
    magnitude,
    _draw_dirichlet(keys[2], alpha, 2),
    _draw_dirichlet(keys[3], alpha, width),
  )


def apply_augmix(image: jax.Array, draw: AugMixDraw) -> jax.Array:
  """keep_0 image + keep_1 sum_i weights_i chain_i, truncated.

  Args:
    image: uint8[H, W, 1 or 3].
    draw: see `AugMixDraw`.

  Returns:
    Same shape and dtype. The weights sum to 1 up to rounding, so that a pixel
    that no chain changed may come out one level lower.

  Raises:
    ValueError, TypeError: as `operations.apply_selected`.
  """
  return mix_chains(image, run_chains(image, draw), draw)


def run_chains(image: jax.Array, draw: AugMixDraw) -> jax.Array:
  """The end of every chain: uint8[width, H, W, C], each from the image."""
  width, steps = draw.operation.shape
  chains = jnp.broadcast_to(image, (width, *image.shape))

  def advance(chain, operation, magnitude):
    return apply_selected(chain, operation, magnitude, interpolation='bilinear')

  for step in range(steps):
    chains = jax.vmap(advance)(
      chains, draw.operation[:, step], draw.magnitude[:, step]
    )
  return chains


def mix_chains(
  image: jax.Array, chains: jax.Array, draw: AugMixDraw
) -> jax.Array:
  """The mixture of uint8[H, W, C] with chains uint8[width, H, W, C]."""
  mixed = draw.keep[0] * image.astype(jnp.float32)
  for chain, weight in zip(chains, draw.weights * draw.keep[1], strict=True):
    mixed = mixed + weight * chain.astype(jnp.float32)
  return mixed.astype(jnp.uint8)


def augmix(
  key: jax.Array,
  image: jax.Array,
  *,
  severity: int = 3,
  width: int = 3,
  depth: int = -1,
  alpha: float = 1.0,
) -> jax.Array:
  """AugMix of one uint8[H, W, 1 or 3] image; see `draw_augmix`."""
  draw = draw_augmix(
    key,
    image.shape,
    severity=severity,
    width=width,
    depth=depth,
    alpha=alpha,
  )
  return apply_augmix(image, draw)


def _draw_dirichlet(key, alpha, count):
  if alpha == 1:  # exponentials, without the rejection sampler of gamma
    exponential = jax.random.exponential(key, (count,), jnp.float32)
    # An exact 0 is one draw in 2^23, and 0 / 0 if there is but one chain.
    exponential = jnp.maximum(exponential, jnp.finfo(jnp.float32).tiny)
    return exponential / jnp.sum(exponential)
  return jax.random.dirichlet(
    key, jnp.full((count,), alpha, jnp.float32), dtype=jnp.float32
  )
