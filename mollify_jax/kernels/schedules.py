"""How strongly temperature t in [0, 1] degrades an image and its label.

All functions are elementwise over any shape, compute in float32 and return
float32. Each uses the form that keeps float32 within 1e-6 of the exact value
(relative for widths and times, absolute for the rest) and a finite gradient
at both ends where the exact gradient is finite.

Source of every schedule but `gamma_from_knots`, which interpolates measured
values: Heinonen et al. 2025 (arXiv 2406.01494), section 3.
"""

import itertools
import math
import numbers
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from mollify_jax.kernels.shapes import LEAST, MOST


def alpha(t: jax.Array) -> jax.Array:
  """Signal weight cos(pi t / 2): 1 at t = 0 and exactly 0 at t = 1."""
  # The sine of the complement: float32 cos(pi / 2) would leave -4e-8.
  return jnp.sin(0.5 * math.pi * (1.0 - _float32(t)))


def sigma(t: jax.Array) -> jax.Array:
  """Noise weight sin(pi t / 2): exactly 0 at t = 0, 1 at t = 1."""
  return jnp.sin(0.5 * math.pi * _float32(t))


def snr(t: jax.Array) -> jax.Array:
  """Signal-to-noise ratio alpha^2 / sigma^2 = cot^2(pi t / 2).

  Infinite at t = 0 (in float32 below 3.5e-20, already), where its gradient is
  minus infinity; exactly 0 at t = 1.
  """
  t = _float32(t)
  # The tangent from the nearer end. The gradient of alpha / sigma would be
  # infinity minus infinity at t = 0, and so NaN.
  near_zero = t < 0.5
  low = jnp.where(near_zero, t, 0.25)
  high = jnp.where(near_zero, 0.75, t)
  tangent = jnp.where(
    near_zero,
    1.0 / jnp.tan(0.5 * math.pi * low),
    jnp.tan(0.5 * math.pi * (1.0 - high)),
  )
  return jnp.square(tangent)


def noise_gamma(t: jax.Array, power: float | jax.Array = 1.0) -> jax.Array:
  """Label softening of a noised image: sin^2(pi t / 2)^power.

  Equals (1 / (1 + SNR))^power, but is computed without the ratio, whose
  gradient is NaN at t = 0.

  Args:
    t: float[...], temperature in [0, 1].
    power: k_n > 0, scalar or of t's shape. k < 1 softens labels early
      ("greedy"), 1 is the paper's default, 100 amounts to no softening.

  Returns:
    float32[...] in [0, 1], 0 at t = 0, 1 at t = 1. The gradient at t = 0 is
    finite for power >= 1/2.
  """
  t = _float32(t)
  # Powers magnify rounding by a factor of k. Near t = 1, where the result is
  # not small, start from log(1 - alpha^2), which float32 resolves best there.
  near_zero = t < 0.5
  low = jnp.where(near_zero, t, 0.25)
  high = jnp.where(near_zero, 0.75, t)
  return jnp.where(
    near_zero,
    jnp.power(sigma(low), 2.0 * power),
    jnp.exp(power * jnp.log1p(-jnp.square(alpha(high)))),
  )


def blur_gamma(t: jax.Array, power: float | jax.Array = 1.0) -> jax.Array:
  """Label softening of a blurred image: t^power.

  Args:
    t: float[...], temperature in [0, 1].
    power: k_b > 0, scalar or of t's shape; see `noise_gamma`.

  Returns:
    float32[...] in [0, 1], 0 at t = 0, 1 at t = 1. The gradient at t = 0 is
    finite for power >= 1.
  """
  return jnp.power(_float32(t), power)


def gamma_from_knots(
  t: jax.Array, knots: Sequence[float] | jax.Array
) -> jax.Array:
  """Label softening that was measured: knots with straight lines between.

  Args:
    t: float[...], temperature in [0, 1].
    knots: M >= 2 values of gamma at t = 0, 1 / (M - 1), ..., 1, each in
      [0, 1] and never decreasing; `check_knots` refuses others.

  Returns:
    float32[...] in [0, 1]: at a knot, its value. The gradient is finite
    everywhere: the slope of the line, at a knot of the line to its right (at
    t = 1 of the last).

  Raises:
    ValueError: fewer than two knots, or not a vector (checked while tracing).
  """
  knots = _float32(knots)
  if knots.ndim != 1 or knots.shape[0] < 2:
    raise ValueError(
      f'gamma_from_knots takes at least two knots [M], got shape '
      f'{knots.shape!r}'
    )
  last = knots.shape[0] - 1
  position = _float32(t) * last
  index = jnp.clip(jnp.floor(position), 0, last - 1).astype(jnp.int32)
  low, high = knots[index], knots[index + 1]
  # Measured from the nearer knot, so that both are met exactly and rounding
  # cannot lead out of [0, 1].
  along = position - index
  return jnp.where(
    along < 0.5,
    low + along * (high - low),
    high - (1.0 - along) * (high - low),
  )


def check_knots(name: str, knots: Sequence[float]) -> None:
  """Refuses knots that are no label schedule.

  Args:
    name: of the parameter, for the message.
    knots: what `gamma_from_knots` would get.

  Raises:
    TypeError: not a tuple or list of numbers.
    ValueError: one knot, one outside of [0, 1], or a decrease.
  """
  if not isinstance(knots, (tuple, list)) or any(
    isinstance(knot, bool) or not isinstance(knot, numbers.Real)
    for knot in knots
  ):
    raise TypeError(
      f'{name} must be a tuple of numbers, got {knots!r}; write (0.0, 1.0)'
    )
  if len(knots) < 2:
    raise ValueError(
      f'{name} must have at least two values, for t = 0 and t = 1, got '
      f'{knots!r}; write (0.0, 1.0), or () for the formula'
    )
  for knot in knots:
    if not 0 <= knot <= 1:
      raise ValueError(f'{name} must be in [0, 1], got {knot!r}')
  for before, after in itertools.pairwise(knots):
    if after < before:
      raise ValueError(
        f'{name} must never decrease, got {after!r} after {before!r}'
      )


def blur_width(
  t: jax.Array, minimum: float = 0.3, maximum: float = 32.0
) -> jax.Array:
  """Blur width in pixels: exp((1 - t) ln minimum + t ln maximum).

  Args:
    t: float[...], temperature in [0, 1].
    minimum: width at t = 0 in pixels, >= 1e-30, static. The paper's is 0.3:
      blur at t = 0 is slight, not none.
    maximum: width at t = 1 in pixels, >= minimum, <= 1e30, static. The
      paper's is the image width W.

  Returns:
    float32[...], from `minimum` to `maximum`, geometric in t.

  Raises:
    ValueError: not 0 < minimum <= maximum, or beyond what float32 can hold.
  """
  if not LEAST <= minimum <= maximum <= MOST:
    raise ValueError(
      f'blur widths must lie in [{LEAST}, {MOST}] pixels with 0 < minimum <= '
      f'maximum, got minimum={minimum!r} and maximum={maximum!r}'
    )
  t = _float32(t)
  # Measured from the nearer end, so that the exponent, and with it the
  # rounding error, is at most half as large.
  ratio = math.log(maximum / minimum)
  return jnp.where(
    t < 0.5,
    minimum * jnp.exp(ratio * t),
    maximum * jnp.exp(-ratio * (1.0 - t)),
  )


def dissipation_time(width: jax.Array) -> jax.Array:
  """Heat-equation time tau = width^2 / 2 in squared pixels.

  A Gaussian of standard deviation `width` is the heat kernel at this time.
  Infinite for widths above 1.8e19, which `blur_image` takes.
  """
  return 0.5 * jnp.square(_float32(width))


def _float32(t: jax.Array) -> jax.Array:
  return jnp.asarray(t, jnp.float32)
