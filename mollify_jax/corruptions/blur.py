"""Defocus, glass, motion, zoom and Gaussian blur.

Source: Hendrycks & Dietterich 2019 (arXiv 1903.12261) and the scripts that
made CIFAR-10-C, whose OpenCV, SciPy and ImageMagick calls are written out here
with their borders and roundings.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from mollify_jax.corruptions.filters import (
  blur_separable,
  clip_pixels,
  correlate_pixels,
  gaussian_taps,
)
from mollify_jax.kernels.pixels import check_pixels

MOTION_DEGREES = (-45.0, 45.0)


def gaussian_blur(image: jax.Array, *, sigma: float) -> jax.Array:
  """Blurs with a Gaussian of `sigma` pixels, cut at 4 sigma; edges repeat.

  Args:
    image: uint8[H, W, C].
    sigma: pixels, static. Below 1/8 the window is one pixel: no blur.

  Returns:
    float32[H, W, C] in [0, 255], not truncated.

  Raises:
    ValueError, TypeError: `image` is not one image of pixels.
  """
  check_pixels(image, 'gaussian_blur')
  return clip_pixels(_blur(image.astype(jnp.float32), sigma))


def defocus_blur(
  image: jax.Array, *, radius: float, alias_sigma: float
) -> jax.Array:
  """Correlates with an anti-aliased disc; the border reflects (101).

  Args:
    image: uint8[H, W, C].
    radius: of the disc in pixels, static; below 1 it is a single pixel.
    alias_sigma: of the Gaussian that softens its edge, pixels, static.

  Returns:
    float32[H, W, C] in [0, 255], not truncated.

  Raises:
    ValueError, TypeError: `image` is not one image of pixels.
  """
  check_pixels(image, 'defocus_blur')
  kernel = _trim(disc_kernel(radius, alias_sigma))
  return clip_pixels(
    correlate_pixels(image.astype(jnp.float32), kernel, 'reflect')
  )


def disc_kernel(radius: float, alias_sigma: float) -> np.ndarray:
  """The disc of `defocus_blur`: float32[17, 17], or larger beyond radius 8.

  Where the disc touches the border of its grid (radius 8 and more), softening
  it makes the sum exceed 1 by about one percent. The benchmark's images are
  that much brighter, so it stays.
  """
  half = 8 if radius <= 8 else math.ceil(radius)
  offsets = np.arange(-half, half + 1)
  disc = offsets[:, None] ** 2 + offsets**2 <= radius**2
  disc = disc.astype(np.float32) / np.float32(disc.sum())
  taps = gaussian_taps(alias_sigma, 1 if radius <= 8 else 2)
  taps = taps.astype(np.float32).astype(float)
  reach = len(taps) // 2
  # In float32, columns first, each product and sum rounded once, as OpenCV
  # does it: the sum of the kernel decides how flat areas are truncated.
  for axis in (1, 0):
    padding = [(reach, reach) if i == axis else (0, 0) for i in (0, 1)]
    padded = np.pad(disc, padding, 'reflect')
    windows = np.moveaxis(
      np.lib.stride_tricks.sliding_window_view(padded, len(taps), axis=axis),
      -1,
      0,
    )
    disc = (windows[reach] * taps[reach]).astype(np.float32)
    for i in range(1, reach + 1):
      pair = windows[reach - i] + windows[reach + i]
      disc = (disc + pair * taps[reach - i]).astype(np.float32)
  return disc


def shuffle_glass(
  image: jax.Array,
  offsets: jax.Array,
  *,
  sigma: float,
  max_delta: int,
  iterations: int,
) -> jax.Array:
  """Looks through frosted glass: blur, copy from near by, blur again.

  Pixels are visited from the bottom right. Each takes the value of the pixel
  at its offset, which an earlier visit may have changed; in rows and columns
  0..max_delta nothing changes.

  Args:
    image: uint8[H, W, C].
    offsets: int[iterations, H - 2 d, W - 2 d, 2], d = max_delta: (dx, dy) of
      the visited pixels in the order of the visits, rows and columns
      descending from H - d and W - d; each in [-d, d).
    sigma: of both Gaussians in pixels, static.
    max_delta: d, static, >= 1.
    iterations: static, >= 1.

  Returns:
    float32[H, W, C] in [0, 255], not truncated.

  Raises:
    ValueError, TypeError: `image` is not one image of pixels, or `offsets` has
      another shape.
  """
  check_pixels(image, 'shuffle_glass')
  height, width, channels = image.shape
  wanted = _glass_shape(height, width, max_delta, iterations)
  if jnp.shape(offsets) != wanted:
    raise ValueError(
      f'shuffle_glass got offsets of shape {jnp.shape(offsets)!r}, wanted '
      f'{wanted!r} for an image of shape {image.shape!r}'
    )
  pixels = jnp.floor(_blur(image.astype(jnp.float32), sigma))
  # The shuffle does not look at colours: it moves positions, and the image is
  # looked up once.
  source = jnp.arange(height * width, dtype=jnp.int32).reshape(height, width)
  # A loop carries what its body returns: under shard_map, of this device.
  source += 0 * pixels[..., 0].astype(jnp.int32)
  for iteration in range(iterations):
    dx, dy = jnp.moveaxis(
      offsets[iteration, ::-1, ::-1].astype(jnp.int32), 2, 0
    )
    move = _copy_from_above if max_delta == 1 else _copy_in_order
    source = move(source, dx, dy, max_delta)
  pixels = pixels.reshape(-1, channels)[source.reshape(-1)]
  return clip_pixels(_blur(pixels.reshape(image.shape), sigma))


def glass_blur(
  key: jax.Array,
  image: jax.Array,
  *,
  sigma: float,
  max_delta: int,
  iterations: int,
) -> jax.Array:
  """Samples `shuffle_glass`: offsets uniform in [-max_delta, max_delta)."""
  check_pixels(image, 'glass_blur')
  offsets = draw_offsets(
    key, image.shape, max_delta=max_delta, iterations=iterations
  )
  return shuffle_glass(
    image, *offsets, sigma=sigma, max_delta=max_delta, iterations=iterations
  )


def draw_offsets(
  key: jax.Array, shape: tuple[int, ...], *, max_delta: int, iterations: int
) -> tuple[jax.Array]:
  """The randomness of `glass_blur`, as `shuffle_glass` takes it: int8."""
  wanted = _glass_shape(*shape[:2], max_delta, iterations)
  choices = 2 * max_delta
  # A byte is enough where the choices divide 256; 2^32 % 6 is no bias to speak
  # of. Random bits are most of the cost.
  dtype = jnp.uint8 if 256 % choices == 0 else jnp.uint32
  bits = jax.random.bits(key, wanted, dtype)
  return ((bits % choices).astype(jnp.int8) - max_delta,)


def smear_motion(
  image: jax.Array, degrees: jax.Array, *, radius: float, sigma: float
) -> jax.Array:
  """Smears along one direction, to one side, with ImageMagick's arithmetic.

  Tap i of 2 ceil(radius) + 1 weighs exp(-i^2 / (2 sigma^2)) and reads the
  pixel nearest to i steps along the angle, in 16-bit integers.

  Args:
    image: uint8[H, W, C].
    degrees: float32[], 0 is to the right and 90 downwards.
    radius: pixels, static.
    sigma: pixels, static.

  Returns:
    float32[H, W, C] of integers in [0, 255].

  Raises:
    ValueError, TypeError: `image` is not one image of pixels.
  """
  check_pixels(image, 'smear_motion')
  return smear_levels(
    image.astype(jnp.float32), degrees, radius=radius, sigma=sigma
  )


def motion_blur(
  key: jax.Array, image: jax.Array, *, radius: float, sigma: float
) -> jax.Array:
  """Samples `smear_motion` at an angle uniform in [-45, 45) degrees."""
  check_pixels(image, 'motion_blur')
  angle = draw_motion(key, image.shape)
  return smear_motion(image, *angle, radius=radius, sigma=sigma)


def draw_motion(key: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array]:
  """The randomness of `motion_blur`: (float32[] degrees,)."""
  low, high = MOTION_DEGREES
  return (jax.random.uniform(key, (), jnp.float32, low, high),)


def smear_levels(
  pixels: jax.Array, degrees: jax.Array, *, radius: float, sigma: float
) -> jax.Array:
  """`smear_motion` of float32[H, W, C] that holds integers in [0, 255]."""
  height, width, channels = pixels.shape
  taps = 2 * math.ceil(radius) + 1
  weights = np.exp(-0.5 * (np.arange(taps) / sigma) ** 2)
  weights /= weights.sum()
  radians = jnp.asarray(degrees, jnp.float32) * (math.pi / 180.0)
  steps = jnp.arange(taps, dtype=jnp.float32)
  nudge = jnp.where(radians < 0, _tie_nudges(taps), -1e-5)
  rows = jnp.ceil(steps * jnp.sin(radians) - 0.5 + nudge).astype(jnp.int32)
  columns = jnp.ceil(steps * jnp.cos(radians) - 0.5).astype(jnp.int32)
  reach = taps - 1
  padded = jnp.pad(pixels, ((reach, reach), (reach, reach), (0, 0)), 'edge')
  total = jnp.zeros_like(pixels)
  for tap in range(taps):
    start = reach + rows[tap], reach + columns[tap], jnp.int32(0)
    window = jax.lax.dynamic_slice(padded, start, (height, width, channels))
    # 257 takes 8 bits to 16.
    total += window * np.float32(257 * weights[tap])
  return jnp.floor(jnp.clip(jnp.floor(total + 0.5), 0, 65535) / 257)


def _tie_nudges(taps: int) -> np.ndarray:
  """float32[taps]: to which side taps fall that lie midway between two rows.

  At -30 degrees every second tap does, but for the rounding of the sine; in
  float64 nearly all of them fall to the lower row (with ImageMagick's way of
  computing it).
  """
  index = np.arange(taps)
  down, right = (taps * f(math.radians(-30)) for f in (math.sin, math.cos))
  rows = np.ceil(index * down / math.hypot(down, right) - 0.5)
  exact = np.ceil(-index / 2 - 0.5)
  return np.where(rows > exact, 1e-5, -1e-5).astype(np.float32)


def zoom_blur(image: jax.Array, *, stop: float, step: float) -> jax.Array:
  """Averages the image with its centre zooms at 1, 1 + step, ..., ~ stop.

  Factor 1 is among them, so the image itself counts twice.

  Args:
    image: uint8[H, W, C].
    stop: the largest zoom factor, static; whether it is itself taken is up
      to the rounding of `numpy.arange`, as in the scripts.
    step: between factors, static.

  Returns:
    float32[H, W, C] in [0, 255], not truncated.

  Raises:
    ValueError, TypeError: `image` is not one image of pixels.
  """
  check_pixels(image, 'zoom_blur')
  pixels = image.astype(jnp.float32)
  factors = np.arange(1, stop, step)
  total = pixels + pixels
  for factor in factors[1:].tolist():
    total += zoom_centre(pixels, factor)
  return clip_pixels(total / (len(factors) + 1))


def zoom_centre(pixels: jax.Array, factor: float) -> jax.Array:
  """Enlarges the centre of float32[H, W, C] by a static factor >= 1.

  Bilinear, corner on corner, as SciPy's `zoom` of a centre crop; the window is
  off the centre where a side is odd.
  """
  height, width, _ = pixels.shape
  first, second, weights = _zoom_taps(height, factor)
  weights = jnp.asarray(weights)[:, None, None]
  upper, lower = pixels[first], pixels[second]
  pixels = upper + (lower - upper) * weights
  first, second, weights = _zoom_taps(width, factor)
  weights = jnp.asarray(weights)[:, None]
  left, right = pixels[:, first], pixels[:, second]
  return left + (right - left) * weights


def zoom_plan(size: int, factor: float) -> tuple[int, int, int, int]:
  """(crop, top, resized, trim): which pixels `zoom_centre` reads and keeps.

  `crop` pixels from `top` on become `resized`, of which `size` are kept from
  `trim` on. Rounding is that of doubles: 1.25 and 1.2500000000000002 differ.
  """
  crop = math.ceil(size / factor)
  resized = round(crop * factor)  # half to even, as in the scripts
  return crop, (size - crop) // 2, resized, (resized - size) // 2


@functools.cache
def _zoom_taps(size: int, factor: float) -> tuple[np.ndarray, ...]:
  """The two pixels of every output, and the weight of the second."""
  crop, top, resized, trim = zoom_plan(size, factor)
  scale = (crop - 1) / max(resized - 1, 1)
  position = (np.arange(size) + trim) * scale
  first = np.clip(np.floor(position), 0, max(crop - 2, 0)).astype(np.int32)
  weight = np.clip(position - first, 0, 1)
  first += top
  second = np.minimum(first + 1, size - 1)  # of weight 0 where it is cut
  return first, second, weight.astype(np.float32)


def _blur(pixels, sigma):
  """A Gaussian of float32[H, W, C] that holds whole pixels."""
  taps = gaussian_taps(sigma, int(4 * sigma + 0.5))
  return blur_separable(pixels, taps, 'edge')


def _trim(kernel):
  """Without the rows and columns on the outside that are all but zero."""
  half = len(kernel) // 2
  reach = np.abs(np.argwhere(kernel > 1e-12) - half).max()
  kept = slice(half - reach, half + reach + 1)
  return np.where(kernel > 1e-12, kernel, 0)[kept, kept]


def _glass_shape(height, width, max_delta, iterations):
  rows, columns = (max(n - 2 * max_delta, 0) for n in (height, width))
  return iterations, rows, columns, 2


def _copy_from_above(source, dx, dy, max_delta):
  """One iteration with offsets -1 and 0, whose sources nobody has changed."""
  d = max_delta
  height, width = source.shape
  rows, columns = height - 2 * d, width - 2 * d
  if min(rows, columns) <= 0:
    return source
  own, left, above, corner = (
    source[d + 1 + y : d + 1 + y + rows, d + 1 + x : d + 1 + x + columns]
    for y in (0, -1)
    for x in (0, -1)
  )
  moved = jnp.where(
    dy == 0, jnp.where(dx == 0, own, left), jnp.where(dx == 0, above, corner)
  )
  return source.at[d + 1 :, d + 1 :].set(moved)


def _copy_in_order(source, dx, dy, max_delta):
  """One iteration where sources may have been visited: row after row.

  Rows below are finished and rows above untouched when a row's turn comes.
  Within it a pixel may look at visited ones to its right, and they at theirs:
  chains that doubling of pointers follows to their ends.
  """
  d = max_delta
  height, width = source.shape
  rows, columns = height - 2 * d, width - 2 * d
  if min(rows, columns) <= 0:
    return source
  first = d + 1
  position = jnp.arange(columns)

  def visit(index, source):
    row = height - d - index
    x, y = dx[row - first], dy[row - first]
    window = jax.lax.dynamic_slice(source, (row - d, 0), (2 * d, width))
    value = window[y + d, first + position + x]
    target = position + x
    follows = (y == 0) & (x > 0) & (target < columns)
    link = jnp.where(follows, target, position)
    for _ in range(max(columns - 1, 1).bit_length()):
      link = link[link]
    return jax.lax.dynamic_update_slice(source, value[link][None], (row, first))

  return jax.lax.fori_loop(0, rows, visit, source)
