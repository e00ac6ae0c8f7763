"""Standard normal numbers, many per key, at a fraction of the usual cost."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp


def standard_normal(key: jax.Array, shape: Sequence[int]) -> jax.Array:
  """Draws independent standard normal numbers.

  As `jax.random.normal`, whose Threefry costs about nine times as much on a
  CPU and is most of what noising an image costs. Here the key gives 64 bits, by
  Threefry or whatever its implementation is; number i is a hash of these and of
  i, through the inverse of the normal distribution function. The hash is two
  of the least biased 32-bit mixers of C. Wellons' search
  (github.com/skeeto/hash-prospector), half of the key before each; the inverse
  is Wichura's PPND7 (AS 241, Applied Statistics 37(3), 1988).
  tests/kernels/test_gaussian.py says what it is held to; it is not for
  cryptography.

  Args:
    key: key[].
    shape: of the result, fewer than 2**32 numbers; static.

  Returns:
    float32[*shape], between -6.4 and 6.4. The first numbers, in row-major
    order, do not depend on how many follow.

  Raises:
    ValueError: too many numbers.
  """
  count = math.prod(shape)
  if count >= 2**32:
    raise ValueError(
      f'standard_normal draws fewer than 2**32 numbers per key, got the shape '
      f'{tuple(shape)!r}; split the key'
    )
  seeds = jax.random.bits(key, (2,), jnp.uint32)
  counter = jax.lax.iota(jnp.uint32, count)
  return _inverse_normal(_hash(counter, *seeds)).reshape(shape)


def _hash(counter, seed, other_seed):
  """uint32[...] -> uint32[...], one to one."""
  # Neighbouring counters far apart: 2**32 over the golden ratio.
  x = counter * jnp.uint32(0x9E3779B9) + seed
  x = _mix(x, 16, 0x21F0AAAD, 15, 0xD35A2D97, 15) ^ other_seed
  return _mix(x, 16, 0x7FEB352D, 15, 0x846CA68B, 16)


def _mix(x, shift, factor, second_shift, second_factor, last_shift):
  x = (x ^ (x >> shift)) * jnp.uint32(factor)
  x = (x ^ (x >> second_shift)) * jnp.uint32(second_factor)
  return x ^ (x >> last_shift)


def _inverse_normal(bits):
  """uint32[...] -> float32[...], standard normal if the bits are uniform."""
  # The first bit is the sign, the others where in the lower half, in the middle
  # of one of 2**31 intervals. As int32, which vector units convert directly.
  half = (bits & jnp.uint32(0x7FFFFFFF)).astype(jnp.int32)
  p = (half.astype(jnp.float32) + jnp.float32(0.5)) * jnp.float32(2.0**-32)
  q = jnp.float32(0.5) - p
  central = q * _ratio(
    jnp.float32(0.180625) - q * q,
    (59.109374720, 159.29113202, 50.434271938, 3.3871327179),
    (67.187563600, 78.757757664, 17.895169469, 1.0),
  )
  # p >= 2**-33, so that of Wichura's two tails the nearer one is enough.
  tail = _ratio(
    jnp.sqrt(-jnp.log(p)) - jnp.float32(1.6),
    (0.17023821103, 1.3067284816, 2.7568153900, 1.4234372777),
    (0.12021132975, 0.73700164250, 1.0),
  )
  value = jnp.where(q <= jnp.float32(0.425), central, tail)
  return jnp.where(bits >> 31, value, -value)


def _ratio(x, numerator, denominator):
  """Two polynomials, highest power first."""
  return _polynomial(x, numerator) / _polynomial(x, denominator)


def _polynomial(x, coefficients):
  value = jnp.float32(coefficients[0])
  for coefficient in coefficients[1:]:
    value = value * x + jnp.float32(coefficient)
  return value
