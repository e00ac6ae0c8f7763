"""Spatter: drops of water or splashes of mud in front of an image.

Source: the script of Hendrycks & Dietterich (ICLR 2019, arXiv 1903.12261). Its
water goes through OpenCV's 8-bit integer filters (Canny, chamfer distance,
histogram equalisation), which are followed here to the last integer.
"""

import jax
import jax.numpy as jnp
import numpy as np

from mollify_jax.corruptions.filters import (
  clip_pixels,
  gaussian_taps,
)
from mollify_jax.kernels.pixels import check_pixels

KINDS = ('water', 'mud')

# RGB, in grey levels.
WATER_COLOUR = (175, 238, 238)
MUD_COLOUR = (63, 42, 20)
# ITU-R BT.601, for images of one channel.
_LUMA = (0.299, 0.587, 0.114)

# Canny: sums of absolute 3x3 Sobel derivatives above HIGH start an edge, those
# above LOW carry it on.
_CANNY_LOW = 50
_CANNY_HIGH = 150
# tan(22.5 degrees), of which OpenCV keeps 15 binary places.
_TAN_BITS = 15
_TAN_22 = round(np.tan(np.pi / 8) * 2**_TAN_BITS)

# Chamfer lengths of a straight, a diagonal and a knight's step, in 1/10000 of
# a pixel: the published 1, 1.4 and 2.1969, as integers, so that no sum rounds.
_UNIT = 10000
_DIAGONAL = 14000
_KNIGHT = 21969
# Pixels, where the distance is cut off.
_FARTHEST = 20

# Correlated with the equalised distance: a relief lit from the top left.
_EMBOSS = ((-2, -1, 0), (-1, 1, 1), (0, 1, 2))

# Below this the blurred mask of mud is dropped.
_MUD_FLOOR = 0.8


def spatter(
  image: jax.Array,
  z: jax.Array,
  *,
  loc: float,
  scale: float,
  blur_sigma: float,
  threshold: float,
  strength: float,
  kind: str,
) -> jax.Array:
  """Spatters one image from given Gaussian noise.

  The liquid is where the blurred layer loc + scale z reaches `threshold`.
  Water adds strength m (175, 238, 238) with m = `water_mask`; mud covers the
  image with (63, 42, 20) at the opacity `mud_mask`. Images of one channel take
  the luma 0.299 R + 0.587 G + 0.114 B of the colour.

  Args:
    image: uint8[H, W, C], C = 1 or 3.
    z: float32[H, W], standard normal.
    loc, scale: mean and deviation of the layer, of the range [0, 1]; static.
    blur_sigma: of the layer, in pixels, >= 0; static.
    threshold: of the blurred layer; static.
    strength: water: its opacity; mud: sigma of the blur of the mask, in
      pixels, >= 0; static.
    kind: in `KINDS`; static.

  Returns:
    float32[H, W, C] in [0, 255]. With no liquid at all mud leaves the image as
    it is and water gives black, as the 0 / 0 of the published script does.

  Raises:
    ValueError: an unknown `kind`, or shapes that do not fit.
    TypeError: `image` is not uint8.
  """
  check_pixels(image, 'spatter')
  _check_kind(kind)
  if jnp.shape(z) != image.shape[:2]:
    raise ValueError(
      f'spatter takes one z per pixel, {image.shape[:2]!r}, got shape '
      f'{jnp.shape(z)!r}'
    )
  layer = smooth_layer(z, loc=loc, scale=scale, blur_sigma=blur_sigma)
  pixels = image.astype(jnp.float32)
  channels = image.shape[2]
  if kind == 'mud':
    mask = mud_mask(layer, threshold=threshold, blur_sigma=strength)[..., None]
    mixed = pixels * (1.0 - mask) + mask * _colour(MUD_COLOUR, channels)
    return clip_pixels(mixed)
  mask = water_mask(quantise_layer(layer, threshold=threshold))
  water = mask[..., None] * (strength * _colour(WATER_COLOUR, channels))
  return jnp.where(jnp.any(mask > 0), clip_pixels(pixels + water), 0.0)


def random_spatter(
  key: jax.Array,
  image: jax.Array,
  *,
  loc: float,
  scale: float,
  blur_sigma: float,
  threshold: float,
  strength: float,
  kind: str,
) -> jax.Array:
  """Samples `spatter`: z standard normal."""
  check_pixels(image, 'random_spatter')
  return spatter(
    image,
    *draw_spatter(key, image.shape),
    loc=loc,
    scale=scale,
    blur_sigma=blur_sigma,
    threshold=threshold,
    strength=strength,
    kind=kind,
  )


def draw_spatter(key: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array]:
  """What is random in `spatter`: (float32[H, W] standard normals,)."""
  return (jax.random.normal(key, shape[:2], jnp.float32),)


def smooth_layer(
  z: jax.Array, *, loc: float, scale: float, blur_sigma: float
) -> jax.Array:
  """The blurred layer: float32[H, W] of z float32[H, W].

  Gaussian of radius int(4 blur_sigma + 0.5), replicated border.
  """
  # z is blurred before it is shifted: rounding errors stay those of a quantity
  # around zero.
  smooth = _blur(jnp.asarray(z, jnp.float32), blur_sigma)
  return loc + scale * smooth


def quantise_layer(layer: jax.Array, *, threshold: float) -> jax.Array:
  """The liquid in grey levels: int32[H, W], 0 where there is none.

  Truncated, and modulo 256: a layer above 1 wraps around to dark, as the cast
  of the published script does.
  """
  levels = (layer * 255.0).astype(jnp.int32) & 255
  return jnp.where(layer < threshold, 0, levels)


def mud_mask(
  layer: jax.Array, *, threshold: float, blur_sigma: float
) -> jax.Array:
  """Opacity of the mud: float32[H, W], 0 or in [0.8, 1]."""
  # What is NOT mud is blurred, so that the inside of a splash is exactly 1.
  dry = (layer <= threshold).astype(jnp.float32)
  mask = 1.0 - _blur(dry, blur_sigma)
  return jnp.where(mask < _MUD_FLOOR, 0.0, mask)


def water_mask(levels: jax.Array) -> jax.Array:
  """Brightness of the water: float32[H, W] in [0, 1], the largest 1.

  levels * mean(emboss(equalise(distance to the nearest edge))), over its
  maximum; 0 everywhere if there is no water.

  Args:
    levels: int32[H, W] in [0, 255], from `quantise_layer`.
  """
  distance = edge_distance(canny_edges(levels))
  relief = emboss(equalise(distance))
  # Ninths never tie, so adding a half before the floor rounds to nearest.
  light = (2 * _box_sum(relief) + 9) // 18
  water = (levels * light).astype(jnp.float32)
  return water / jnp.maximum(jnp.max(water), 1.0)


def canny_edges(levels: jax.Array) -> jax.Array:
  """Canny's edges as OpenCV finds them (thresholds 50 and 150).

  3x3 Sobel derivatives with replicated border; magnitude |dx| + |dy|, zero
  outside the image; kept where it is a maximum across the edge, whose direction
  is one of four; then every weak pixel connected to a strong one (8
  neighbours). Source: Canny 1986 (PAMI 8(6)).

  Args:
    levels: int32[H, W] in [0, 255].

  Returns:
    bool[H, W].
  """
  height, width = levels.shape
  padded = jnp.pad(levels, 1, 'edge')
  rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
  columns = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
  dx = rows[:, 2:] - rows[:, :-2]
  dy = columns[2:] - columns[:-2]

  magnitude = jnp.abs(dx) + jnp.abs(dy)
  around = jnp.pad(magnitude, 1)

  def neighbour(row, column):
    return around[1 + row : 1 + row + height, 1 + column : 1 + column + width]

  def largest(row, column):
    # Of two equal pixels the first is kept.
    return (magnitude > neighbour(-row, -column)) & (
      magnitude >= neighbour(row, column)
    )

  # |dy| / |dx| against tan(22.5) and tan(67.5) = tan(22.5) + 2.
  ratio_22 = jnp.abs(dx) * _TAN_22
  ratio_67 = ratio_22 + (jnp.abs(dx) << (_TAN_BITS + 1))
  rise = jnp.abs(dy) << _TAN_BITS
  diagonal = jnp.where(
    (dx ^ dy) < 0,
    (magnitude > neighbour(-1, 1)) & (magnitude > neighbour(1, -1)),
    (magnitude > neighbour(-1, -1)) & (magnitude > neighbour(1, 1)),
  )
  maximum = jnp.where(
    rise < ratio_22,
    largest(0, 1),
    jnp.where(rise > ratio_67, largest(1, 0), diagonal),
  )
  weak = maximum & (magnitude > _CANNY_LOW)
  return _connected(weak & (magnitude > _CANNY_HIGH), weak)


def edge_distance(edges: jax.Array) -> jax.Array:
  """Local mean of the distance to the nearest edge: int32[H, W] in [0, 20].

  The chamfer distance (steps of 1, 1.4 and 2.1969 pixels; Borgefors 1986) cut
  off at 20 pixels, averaged over 3x3 pixels, truncated. 20 without any edge.

  Args:
    edges: bool[H, W].
  """
  # |dy| rows away only the pixel nearest in its row counts, because the length
  # grows with |dx|. Integers far below 2^24, so float32 is exact, and faster.
  across = _distance_in_row(edges)
  height = edges.shape[0]
  reach = min(_FARTHEST, height - 1)
  padded = jnp.pad(across, ((reach, reach), (0, 0)), constant_values=_FARTHEST)

  def nearer(dy, distance):
    above = jax.lax.dynamic_slice_in_dim(padded, reach - dy, height)
    below = jax.lax.dynamic_slice_in_dim(padded, reach + dy, height)
    length = _chamfer_length(jnp.minimum(above, below), dy)
    return jnp.minimum(distance, length)

  distance = _chamfer_length(across, 0)
  distance = jax.lax.fori_loop(1, reach + 1, nearer, distance)
  return _box_sum(distance.astype(jnp.int32)) // (9 * _UNIT)


def equalise(distance: jax.Array) -> jax.Array:
  """Spreads distances over the grey levels: int32[H, W] of int32[H, W].

  round(255 * share of the pixels at most so far, leaving out the nearest), as
  OpenCV equalises a histogram. A constant stays as it is.

  Args:
    distance: int32[H, W] in [0, 20].
  """
  bounds = jnp.arange(_FARTHEST + 1)
  # A loop is several times faster here than one comparison with all bounds.
  counts = jax.lax.map(lambda bound: jnp.sum(distance <= bound), bounds)
  nearest = jnp.min(jnp.where(counts > 0, counts, distance.size))
  rest = distance.size - nearest
  per_pixel = jnp.float32(255.0) / jnp.maximum(rest, 1).astype(jnp.float32)
  table = jnp.round((counts - nearest).astype(jnp.float32) * per_pixel)
  table = jnp.where(rest > 0, table, bounds.astype(jnp.float32))
  return table.astype(jnp.int32)[distance]


def emboss(grey: jax.Array) -> jax.Array:
  """Lights a relief from one corner: int32[H, W] of int32[H, W], in [0, 255].

  3x3 correlation with [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], border reflect-101,
  clipped.
  """
  height, width = grey.shape
  padded = jnp.pad(grey, 1, 'reflect')
  total = sum(
    weight * padded[row : row + height, column : column + width]
    for row, weights in enumerate(_EMBOSS)
    for column, weight in enumerate(weights)
    if weight
  )
  return jnp.clip(total, 0, 255)


def _check_kind(kind):
  if kind not in KINDS:
    raise ValueError(
      f'spatter knows no kind {kind!r}; choose from {", ".join(KINDS)}'
    )


def _blur(field, sigma):
  if sigma <= 0:
    return field
  radius = int(4 * sigma + 0.5)
  taps = gaussian_taps(sigma, radius).astype(np.float32)
  for axis in (0, 1):
    padding = [(0, 0), (0, 0)]
    padding[axis] = radius, radius
    padded = jnp.pad(field, padding, 'edge')
    field = sum(
      tap * jax.lax.slice_in_dim(padded, i, i + field.shape[axis], axis=axis)
      for i, tap in enumerate(taps)
    )
  return field


def _box_sum(field):
  padded = jnp.pad(field, 1, 'reflect')
  rows = padded[:-2] + padded[1:-1] + padded[2:]
  return rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]


def _colour(rgb, channels):
  """The colour in grey levels: float32[channels]."""
  if channels == 1:
    return np.float32([np.dot(rgb, _LUMA)])
  return np.float32(rgb)


def _distance_in_row(edges):
  """Pixels to the nearest edge of the same row, at most 20: float32[H, W]."""
  far = _FARTHEST
  distance = jnp.where(edges, 0, far).astype(jnp.float32)
  width = edges.shape[1]
  step = 1
  # Steps of 1, 2, 4 ... add up to every distance.
  while step < min(far, width):
    padded = jnp.pad(distance, ((0, 0), (step, step)), constant_values=far)
    left, right = padded[:, :width], padded[:, 2 * step :]
    distance = jnp.minimum(distance, jnp.minimum(left, right) + step)
    step *= 2
  return distance


def _chamfer_length(dx, dy):
  """Length of the shortest chamfer path, in `_UNIT`; dx an array, dy an int."""
  # A path has steps of two neighbouring directions only, so its length is
  # linear in each of the eight sectors, and their maximum, because the unit
  # ball is convex.
  flat = (_UNIT, _KNIGHT - 2 * _UNIT)
  steep = (_KNIGHT - _DIAGONAL, 2 * _DIAGONAL - _KNIGHT)
  lengths = [
    dx * along + dy * aside
    for along, aside in (flat, steep, steep[::-1], flat[::-1])
  ]
  return jnp.maximum(
    jnp.maximum(lengths[0], lengths[1]), jnp.maximum(lengths[2], lengths[3])
  )


def _connected(seeds, mask):
  """The pixels of `mask` joined to a seed through `mask`: bool[H, W]."""

  def grow(state):
    grown, _ = state
    padded = jnp.pad(grown, ((1, 1), (0, 0)))
    rows = padded[:-2] | padded[1:-1] | padded[2:]
    padded = jnp.pad(rows, ((0, 0), (1, 1)))
    rows = padded[:, :-2] | padded[:, 1:-1] | padded[:, 2:]
    new = rows & mask
    return new, jnp.any(new != grown)

  grown, _ = jax.lax.while_loop(
    lambda state: state[1], grow, (seeds, jnp.any(seeds))
  )
  return grown
