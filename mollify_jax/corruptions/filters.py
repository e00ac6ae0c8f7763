"""What several corruptions share: borders, Gaussians, sums of shifted images.

Images are float32[H, W, C] on the scale 0..255, so that uint8 values are exact
and a black or white area stays where it is.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

# How the line a b c d goes on beyond its ends, as jnp.pad calls it.
#   edge        a a | a b c d | d d
#   reflect     c b | a b c d | c b     (101: the edge is not repeated)
#   symmetric   b a | a b c d | d c
BORDERS = ('edge', 'reflect', 'symmetric')


def check_shape(
  array: jax.Array, wanted: tuple[int, ...], what: str, function: str
) -> None:
  """Refuses randomness that would be broadcast instead of used as it is.

  Raises:
    ValueError: `array` has another shape than `wanted`.
  """
  if jnp.shape(array) != tuple(wanted):
    raise ValueError(
      f'{function} got {what} of shape {jnp.shape(array)!r}, wanted '
      f'{tuple(wanted)!r}; give one image its own'
    )


def clip_pixels(values: jax.Array) -> jax.Array:
  """Clips to [0, 255]."""
  return jnp.clip(values, 0.0, 255.0)


def gaussian_taps(sigma: float, radius: int) -> np.ndarray:
  """exp(-i^2 / (2 sigma^2)) on -radius..radius, summing to 1.

  Args:
    sigma: pixels, > 0, or 0 with radius 0.
    radius: pixels, >= 0.

  Returns:
    float64[2 radius + 1].
  """
  if radius == 0:
    return np.ones(1)
  offsets = np.arange(-radius, radius + 1)
  # In SciPy's order of rounding.
  taps = np.exp(-0.5 / (sigma * sigma) * offsets**2)
  return taps / taps.sum()


def blur_separable(
  image: jax.Array, taps: np.ndarray, border: str
) -> jax.Array:
  """Correlates rows and columns with the same symmetric taps.

  Nearly as float64 would: it adds weighted second differences to the pixel,
  which are exact where an area is flat or even and small where it is nearly
  so. Exactly there the result is a whole number in theory and a hair less in
  practice for some grey levels; those of SciPy's float64 sums are tabulated.

  Args:
    image: float32[H, W, C] of integers in [0, 255].
    taps: float64[2 r + 1], static, with a sum of 1.
    border: in `BORDERS`.

  Returns:
    float32[H, W, C] in [0, 255].
  """
  if len(taps) == 1:
    return image
  rows = _second_differences(image, taps, 0, border)
  change = rows + _second_differences(rows, taps, 1, border)
  change += _second_differences(image, taps, 1, border)
  flat = jnp.asarray(_flat_areas(tuple(taps.tolist())))
  settled = flat[image.astype(jnp.uint8)].astype(jnp.float32)
  # Exactly: a corner's share of 1e-11 makes white a level darker in float64.
  return jnp.where(change == 0, settled, _join(image, change))


@functools.cache
def _flat_areas(taps: tuple[float, ...]) -> np.ndarray:
  """uint8[256]: what float64 makes of flat areas of each level, truncated."""
  half = len(taps) // 2
  line = np.arange(256) / 255
  for _ in ('rows', 'columns'):
    total = line * taps[half]
    for tap in taps[:half]:  # from the outside in, as SciPy adds
      total += (line + line) * tap
    line = total
  return np.clip(line * 255, 0, 255).astype(np.uint8)


def smoothing_matrix(size: int, taps: np.ndarray, border: str) -> np.ndarray:
  """The matrix that correlates a line of `size` pixels with `taps`.

  For taps wider than the line, where sums of shifted images are slow.

  Args:
    size: pixels of the line.
    taps: float[2 r + 1], of any r.
    border: in `BORDERS`.

  Returns:
    float64[size, size].
  """
  radius = len(taps) // 2
  source = np.pad(np.arange(size), radius, border)
  matrix = np.zeros((size, size))
  for row in range(size):
    np.add.at(matrix[row], source[row : row + len(taps)], taps)
  return matrix


# Beyond this many taps a convolution is faster than a sum of shifted images,
# and compiles in less time.
_MOST_SHIFTS = 32


def correlate_pixels(
  image: jax.Array, kernel: np.ndarray, border: str
) -> jax.Array:
  """Correlates whole pixels with one kernel, nearly as float64 would.

  The mean of five pixels is a whole number every fifth time, and then the last
  bit of the sum decides which way it is truncated. So each weight is split in
  two: sums of the coarse parts are exact in float32, and the fine parts add up
  to so little that their rounding is far below that of float32 at 255.

  Args:
    image: float32[H, W, C] of integers in [0, 255].
    kernel: float[2 r + 1, 2 r + 1], static, with a sum of about 1.
    border: in `BORDERS`.

  Returns:
    float32[H, W, C], the correlation with `kernel`, whose integer part is
    right to about 1e-7.
  """
  kernel = np.asarray(kernel, np.float64)
  coarse = np.round(kernel * 2.0**14) / 2.0**14
  # Exact as it is, unless a convolution takes a transformed algorithm.
  exact = jnp.round(_correlate(image, coarse, border) * 2.0**14) / 2.0**14
  return _join(exact, _correlate(image, kernel - coarse, border))


def _join(exact, rest):
  """exact + rest, with an integer part that float32 does not round away.

  Args:
    exact: float32[...] without rounding error, in about [0, 255].
    rest: float32[...].
  """
  whole = jnp.floor(exact)
  rest = (exact - whole) + rest
  step = jnp.floor(rest)
  # 255 + (1 - 2^-15) is a float32; what is nearer to 256 would become it.
  return whole + step + jnp.minimum(rest - step, 1 - 2.0**-15)


def _second_differences(image, taps, axis, border):
  """What a symmetric correlation along one axis adds to an image."""
  radius = len(taps) // 2
  padding = [(0, 0)] * 3
  padding[axis] = radius, radius
  padded = jnp.pad(image, padding, border)
  windows = [
    jax.lax.slice_in_dim(padded, i, i + image.shape[axis], axis=axis)
    for i in range(len(taps))
  ]
  total = jnp.zeros_like(image)
  for i in range(radius):
    pair = (windows[i] - image) + (windows[-1 - i] - image)
    total += pair * np.float32(taps[i])
  return total


def _correlate(image, kernel, border):
  radius = len(kernel) // 2
  height, width, _ = image.shape
  padding = ((radius, radius), (radius, radius), (0, 0))
  padded = jnp.pad(image, padding, border)
  taps = np.argwhere(kernel)
  if len(taps) > _MOST_SHIFTS:
    channels_first = jnp.moveaxis(padded, 2, 0)[:, None]
    result = jax.lax.conv_general_dilated(
      channels_first,
      jnp.asarray(kernel, jnp.float32)[None, None],
      (1, 1),
      'VALID',
      precision='highest',
    )
    return jnp.moveaxis(result[:, 0], 0, 2)
  total = jnp.zeros_like(image)
  for y, x in taps:
    window = padded[y : y + height, x : x + width]
    total += window * np.float32(kernel[y, x])
  return total
