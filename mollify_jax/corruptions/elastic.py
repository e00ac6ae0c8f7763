"""Elastic transform: a random affine map, then a smooth random displacement.

Source: the script of Hendrycks & Dietterich (ICLR 2019, arXiv 1903.12261),
after Simard et al. 2003. Its affine step is OpenCV's, which rounds positions to
1/32 pixel, and a position that float32 rounds to the wrong side is off by a
whole 1/32. So the few numbers of the map are kept in pairs of float32 whose sum
has about 36 significant bits (after Dekker 1971, Numerische Mathematik 18).
"""

import jax
import jax.numpy as jnp
import numpy as np

from mollify_jax.corruptions.filters import (
  gaussian_taps,
  smoothing_matrix,
)
from mollify_jax.kernels.pixels import check_pixels

# OpenCV adds positions up in 1/1024 pixel and keeps 1/32.
_SUM_BITS = 10
_POSITION_BITS = 5
# Its pixel indices are 16 bits wide and stop there.
_INDEX_LIMITS = (-(2**15), 2**15 - 1)
# Two terms of this size still add up in int32.
_LARGEST_TERM = 2.0**29
# Twice the area, in squared pixels, below which the moved corners count as
# lying on a line.
_SMALLEST_AREA = 1e-6
# Pixels; farther than any displacement needs to go, and safe as an int32.
_LARGEST_DISPLACEMENT = 2.0**20


def elastic_transform(
  image: jax.Array,
  corner_shift: jax.Array,
  noise: jax.Array,
  *,
  alpha: float,
  sigma: float,
) -> jax.Array:
  """Warps one image by given corner shifts and a given rough field.

  Args:
    image: uint8[H, W, C], C = 1 or 3.
    corner_shift: float32[3, 2], in pixels; see `inverse_affine`.
    noise: float32[2, H, W], uniform on (-1, 1): the displacements along x and
      along y before smoothing. Unused if alpha = 0.
    alpha: pixels, what the smoothed field is multiplied by; static. At 0 only
      the affine map is left.
    sigma: of the smoothing, in pixels; > 0 unless alpha = 0; static.

  Returns:
    float32[H, W, C] in [0, 255].

  Raises:
    ValueError: shapes that do not fit, or sigma <= 0 where it is needed.
    TypeError: `image` is not uint8.
  """
  check_pixels(image, 'elastic_transform')
  smooth = smooth_displacement(noise, sigma=sigma) if alpha else noise
  return warp_elastic(image, corner_shift, smooth, alpha=alpha)


def elastic_transform_by(
  image: jax.Array,
  corner_draw: jax.Array,
  noise: jax.Array,
  *,
  alpha: float,
  sigma: float,
  affine_shift: float,
) -> jax.Array:
  """`elastic_transform` with shifts in units of `affine_shift` pixels.

  Args:
    image, noise, alpha, sigma: as there.
    corner_draw: float32[3, 2], uniform on (-1, 1).
    affine_shift: pixels; static.

  Returns, Raises:
    As `elastic_transform`.
  """
  corner_shift = affine_shift * jnp.asarray(corner_draw, jnp.float32)
  return elastic_transform(image, corner_shift, noise, alpha=alpha, sigma=sigma)


def random_elastic_transform(
  key: jax.Array,
  image: jax.Array,
  *,
  alpha: float,
  sigma: float,
  affine_shift: float,
) -> jax.Array:
  """Samples `elastic_transform_by`: shifts and field uniform on [-1, 1)."""
  check_pixels(image, 'random_elastic_transform')
  return elastic_transform_by(
    image,
    *draw_elastic(key, image.shape),
    alpha=alpha,
    sigma=sigma,
    affine_shift=affine_shift,
  )


def draw_elastic(
  key: jax.Array, shape: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
  """The randomness of `random_elastic_transform`, for an image of `shape`.

  Returns:
    (float32[3, 2] corner shifts, float32[2, H, W] field), both on [-1, 1).
  """
  # One draw for both, because drawing is most of what takes long to compile.
  height, width = shape[:2]
  count = 6 + 2 * height * width
  draws = jax.random.uniform(key, (count,), jnp.float32, -1.0, 1.0)
  return draws[:6].reshape(3, 2), draws[6:].reshape(2, height, width)


def warp_elastic(
  image: jax.Array,
  corner_shift: jax.Array,
  smooth: jax.Array,
  *,
  alpha: float,
) -> jax.Array:
  """Warps one image by given corner shifts and a field smooth already.

  Args:
    image: uint8[H, W, C], C = 1 or 3.
    corner_shift: float32[3, 2], in pixels; see `inverse_affine`.
    smooth: float32[2, H, W], from `smooth_displacement`.
    alpha: pixels; static.

  Returns:
    float32[H, W, C] in [0, 255].

  Raises:
    ValueError: shapes that do not fit.
    TypeError: `image` is not uint8.
  """
  check_pixels(image, 'warp_elastic')
  height, width, _ = image.shape
  if jnp.shape(corner_shift) != (3, 2):
    raise ValueError(
      'elastic_transform moves three corners along (x, y), [3, 2], got shape '
      f'{jnp.shape(corner_shift)!r}'
    )
  if jnp.shape(smooth) != (2, height, width):
    raise ValueError(
      f'elastic_transform takes a field [2, H, W] = {(2, height, width)!r}, '
      f'got shape {jnp.shape(smooth)!r}'
    )
  inverse = inverse_affine(corner_shift, height, width)
  warped = warp_affine(image, source_positions(inverse, height, width))
  if alpha:
    warped = displace(warped, alpha * jnp.asarray(smooth, jnp.float32))
  return warped


def smooth_displacement(noise: jax.Array, *, sigma: float) -> jax.Array:
  """Gaussian smoothing of radius int(3 sigma + 0.5), half-sample symmetric.

  Args:
    noise: float32[..., H, W].
    sigma: pixels, > 0; may exceed the image; static.

  Returns:
    float32[..., H, W].

  Raises:
    ValueError: sigma <= 0.
  """
  if not sigma > 0:
    raise ValueError(
      f'elastic_transform smooths with a sigma > 0 in pixels, got {sigma!r}; '
      'for the affine map alone set alpha=0'
    )
  taps = gaussian_taps(sigma, int(3 * sigma + 0.5))
  down, across = (
    smoothing_matrix(size, taps, 'symmetric').astype(np.float32)
    for size in noise.shape[-2:]
  )
  return jnp.einsum(
    'ah,...hw,bw->...ab', down, noise, across, precision='highest'
  )


def inverse_affine(
  corner_shift: jax.Array, height: int, width: int
) -> tuple[jax.Array, jax.Array]:
  """The affine map that takes three moved corners back to their places.

  The corners are c + (q, q), c + (q, -q) and c - (q, q) as (x, y), with
  c = (W // 2, H // 2) and q = min(H, W) // 3, at least 1.

  Args:
    corner_shift: float32[3, 2], pixels along (x, y).
    height, width: of the image; static.

  Returns:
    (high, low), float32[2, 3] each, whose sum [A | b] maps (x, y) to
    A (x, y) + b. All zero if the moved corners lie on a line (to 1e-6 square
    pixels), as in OpenCV: every pixel is then the top left one.
  """
  reach = np.float32(max(min(height, width) // 3, 1))
  centre = np.float32([width // 2, height // 2])
  corners = centre + reach * np.float32([[1, 1], [1, -1], [-1, -1]])
  # The published script rounds the moved corners to float32, which the barrier
  # keeps XLA from taking for a sum of two constants that cancel.
  moved_corners = corners + jnp.asarray(corner_shift, jnp.float32)
  shift = jax.lax.optimization_barrier(moved_corners) - corners

  # The map there is [p q; r s] / side about the centre, which moves as the
  # middle of the first and the last corner does.
  side = 2 * reach
  first, second, third = shift
  across = _add(_two_sum(second, -third), _pair([side, 0]))
  down = _add(_two_sum(first, -second), _pair([0, side]))
  moved = _add(_two_sum(first / 2, third / 2), _pair(centre))

  p, r = zip(*across, strict=True)
  q, s = zip(*down, strict=True)
  area = _add(_multiply(p, s), _negate(_multiply(q, r)))
  on_a_line = jnp.abs(area[0]) < _SMALLEST_AREA
  area = tuple(
    jnp.where(on_a_line, safe, part)
    for safe, part in zip(_pair(side), area, strict=True)
  )
  matrix = tuple(
    jnp.stack(part).reshape(2, 2)
    for part in zip(s, _negate(q), _negate(r), p, strict=True)
  )
  matrix = _multiply(matrix, _divide(_pair(side), area))
  terms = _multiply(matrix, moved)
  mapped = _add(*((terms[0][:, i], terms[1][:, i]) for i in (0, 1)))
  offset = _add(_pair(centre), _negate(mapped))
  return tuple(
    jnp.where(on_a_line, 0.0, jnp.concatenate([a, b[:, None]], axis=1))
    for a, b in zip(matrix, offset, strict=True)
  )


def source_positions(
  inverse: tuple[jax.Array, jax.Array], height: int, width: int
) -> jax.Array:
  """Where each pixel comes from: int32[2, H, W], x and y in 1/32 pixel.

  round(1024 a x) + round(1024 (b y + c)), rounded to 1/32 of a pixel.

  Args:
    inverse: [a b c] of x and of y, from `inverse_affine`.
    height, width: of the image; static.
  """
  high, low = (2.0**_SUM_BITS * part for part in inverse)
  # Products of the leading 12 bits and a whole number below 4096 are exact.
  leading = _leading_bits(high)
  rest = (high - leading) + low

  def along(column, size):
    line = np.arange(size, dtype=np.float32)
    return leading[:, column, None] * line, rest[:, column, None] * line

  x_exact, x_rest = along(0, width)
  y_exact, y_rest = along(1, height)
  x_term = _round_sum([x_exact], x_rest)
  y_term = _round_sum([y_exact, high[:, 2:]], y_rest + low[:, 2:])
  bits = _SUM_BITS - _POSITION_BITS
  half = 2 ** (bits - 1)
  return (x_term[:, None, :] + y_term[:, :, None] + half) >> bits


def warp_affine(image: jax.Array, positions: jax.Array) -> jax.Array:
  """Samples an image between its pixels, at multiples of 1/32 pixel.

  Bilinear; beyond the border the image is mirrored about its outer pixels.

  Args:
    image: uint8[H, W, C].
    positions: int32[2, H, W], from `source_positions`.

  Returns:
    float32[H, W, C] in [0, 255], exact: a multiple of 1/1024.
  """
  steps = 2**_POSITION_BITS
  index = jnp.clip(positions >> _POSITION_BITS, *_INDEX_LIMITS)
  part = (positions & (steps - 1)).astype(jnp.float32) / steps
  height, width, _ = image.shape
  x, x_part = _fold(index[0], part[0], width, repeat_edge=False)
  y, y_part = _fold(index[1], part[1], height, repeat_edge=False)
  pixels, right, below = _flatten(image)

  def add_neighbour(neighbour, total):
    on_right, is_below = neighbour % 2, neighbour // 2
    offset = on_right * right + is_below * below
    pixel = _take(pixels, y * width + x + offset)
    x_weight = jnp.where(on_right, x_part, 1.0 - x_part)
    y_weight = jnp.where(is_below, y_part, 1.0 - y_part)
    return total + (x_weight * y_weight)[..., None] * pixel

  # A loop, because XLA fuses what is not one with `displace` and then does it
  # again for each of the pixels looked at there. It begins with zeros that are
  # as varying over the devices of a shard_map as what is added to them.
  total = 0.0 * image.astype(jnp.float32)
  return jax.lax.fori_loop(0, 4, add_neighbour, total)


def displace(image: jax.Array, displacement: jax.Array) -> jax.Array:
  """Samples an image at each pixel plus its displacement.

  Bilinear; beyond the border the image is mirrored about its outline, the outer
  pixels coming twice.

  Args:
    image: float32[H, W, C].
    displacement: float32[2, H, W], along x and along y, in pixels.

  Returns:
    float32[H, W, C], within the range of `image`.
  """
  height, width, _ = image.shape
  displacement = jnp.clip(
    displacement, -_LARGEST_DISPLACEMENT, _LARGEST_DISPLACEMENT
  )
  # Floor first, add the pixel's own place to the integer: the fraction loses
  # no bits.
  whole = jnp.floor(displacement)
  y, x = np.indices((height, width), dtype=np.int32)
  index = whole.astype(jnp.int32) + np.stack([x, y])
  part = displacement - whole
  x, x_part = _fold(index[0], part[0], width, repeat_edge=True)
  y, y_part = _fold(index[1], part[1], height, repeat_edge=True)
  x_part, y_part = x_part[..., None], y_part[..., None]
  pixels, right, below = _flatten(image)
  corner = y * width + x
  # This form leaves flat areas exactly as they are.
  left, other = _take(pixels, corner), _take(pixels, corner + right)
  top = left + x_part * (other - left)
  left, other = (
    _take(pixels, corner + below),
    _take(pixels, corner + below + right),
  )
  bottom = left + x_part * (other - left)
  return top + y_part * (bottom - top)


def _flatten(image):
  """Pixels [H W, C] and how far on the next column and the next row are."""
  height, width, channels = image.shape
  pixels = jnp.asarray(image).reshape(height * width, channels)
  return pixels, min(width - 1, 1), width * min(height - 1, 1)


def _take(pixels, index):
  """float32[H, W, C] of pixels [H W, C] at int32[H, W]."""
  taken = pixels.at[index].get(mode='promise_in_bounds')
  return taken.astype(jnp.float32)


def _fold(index, fraction, size, repeat_edge):
  """Brings positions on the mirrored line back to 0 .. size - 1.

  Returns:
    Index, in [0, size - 2] (0 if size is 1), and fraction, in [0, 1].
  """
  if size == 1:
    return jnp.zeros_like(index), jnp.zeros_like(fraction)
  period = 2 * size if repeat_edge else 2 * size - 2
  index = index % period
  # On the way back the next pixel is the one before.
  back = index >= (size if repeat_edge else size - 1)
  mirror = period - (2 if repeat_edge else 1)
  index = jnp.where(back, mirror - index, index)
  fraction = jnp.where(back, 1.0 - fraction, fraction)
  if repeat_edge:
    # Between an outer pixel and its own image.
    fraction = jnp.where(index < 0, 0.0, fraction)
    fraction = jnp.where(index > size - 2, 1.0, fraction)
    index = jnp.clip(index, 0, size - 2)
  return index, fraction


def _round_sum(terms, rest):
  """The int32 nearest to the sum of large terms and a small rest."""
  # Whole parts and fractions apart, or the fractions would lose their bits.
  wholes = [jnp.round(term) for term in terms]
  fraction = sum(t - w for t, w in zip(terms, wholes, strict=True)) + rest
  total = sum(wholes) + jnp.round(fraction)
  return jnp.clip(total, -_LARGEST_TERM, _LARGEST_TERM).astype(jnp.int32)


# Pairs (high, low) of float32. Every product below is either exact or in the
# low part, so that it does not matter whether a compiler fuses it with a sum.


def _pair(value):
  value = np.float32(value)
  return value, np.zeros_like(value)


def _negate(x):
  return -x[0], -x[1]


def _two_sum(a, b):
  """a + b without error (Knuth), for two float32."""
  total = a + b
  b_part = total - a
  return total, (a - (total - b_part)) + (b - b_part)


def _add(x, y):
  high, low = _two_sum(x[0], y[0])
  return _two_sum(high, low + (x[1] + y[1]))


def _multiply(x, y):
  a, b = _leading_bits(x[0]), _leading_bits(y[0])
  c, d = x[0] - a, y[0] - b
  low = (a * d + b * c) + (c * d + (x[0] * y[1] + x[1] * y[0]))
  return _two_sum(a * b, low)


def _divide(x, y):
  quotient = x[0] / y[0]
  zero = jnp.zeros_like(quotient)
  error = _add(x, _negate(_multiply((quotient, zero), y)))
  return _two_sum(quotient, error[0] / y[0])


def _leading_bits(value):
  """The 12 leading bits, so that a product of two such is exact."""
  return jax.lax.reduce_precision(value, exponent_bits=8, mantissa_bits=11)
