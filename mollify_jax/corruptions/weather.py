"""Snow, frost and fog. Brightness, which the paper counts here, is in color.

Source: Hendrycks & Dietterich 2019 (arXiv 1903.12261) and the scripts that
made CIFAR-10-C.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from mollify_jax.corruptions.blur import smear_levels, zoom_centre
from mollify_jax.corruptions.filters import (
  check_shape,
  clip_pixels,
)
from mollify_jax.corruptions.textures import frost_textures
from mollify_jax.kernels.pixels import check_pixels

SNOW_DEGREES = (-135.0, -45.0)
# Weights of luma in R, G, B (ITU-R BT.601).
LUMA = (0.299, 0.587, 0.114)


class TextureTooSmallError(ValueError):
  """An image does not fit into the smallest of the frost textures."""


def cover_with_snow(
  image: jax.Array,
  epsilon: jax.Array,
  degrees: jax.Array,
  *,
  loc: float,
  scale: float,
  zoom: float,
  threshold: float,
  blur_radius: float,
  blur_sigma: float,
  mix: float,
) -> jax.Array:
  """Whitens an image and lets smeared flakes fall on it.

  Args:
    image: uint8[H, W, C].
    epsilon: float32[H, W], standard normal; the flakes are where
      loc + scale epsilon, enlarged by `zoom`, exceeds `threshold`.
    degrees: float32[], direction of the fall, as in `blur.smear_motion`.
    loc, scale, zoom, threshold, blur_radius, blur_sigma: of the flakes, static.
    mix: share of the image itself in the whitened one, static.

  Returns:
    float32[H, W, C] in [0, 255], not truncated.

  Raises:
    ValueError, TypeError: `image` is not one image of pixels.
  """
  check_pixels(image, 'cover_with_snow')
  check_shape(epsilon, image.shape[:2], 'epsilon', 'cover_with_snow')
  flakes = snow_flakes(
    epsilon, loc=loc, scale=scale, zoom=zoom, threshold=threshold
  )
  flakes = smear_levels(flakes, degrees, radius=blur_radius, sigma=blur_sigma)
  pixels = image.astype(jnp.float32)
  white = jnp.maximum(pixels, grey_level(pixels) * 1.5 + 127.5)
  whitened = mix * pixels + (1 - mix) * white
  return clip_pixels(whitened + flakes + flakes[::-1, ::-1])


def snow_flakes(
  epsilon: jax.Array, *, loc: float, scale: float, zoom: float, threshold: float
) -> jax.Array:
  """The flakes before they fall: float32[H, W, 1] of integers in [0, 255]."""
  layer = zoom_centre((loc + scale * epsilon)[..., None], zoom)
  layer = jnp.where(layer < threshold, 0.0, jnp.clip(layer, 0.0, 1.0))
  return jnp.floor(layer * 255)


def snow(
  key: jax.Array,
  image: jax.Array,
  *,
  loc: float,
  scale: float,
  zoom: float,
  threshold: float,
  blur_radius: float,
  blur_sigma: float,
  mix: float,
) -> jax.Array:
  """Samples `cover_with_snow`: fall uniform in [-135, -45) degrees."""
  check_pixels(image, 'snow')
  return cover_with_snow(
    image,
    *draw_snow(key, image.shape),
    loc=loc,
    scale=scale,
    zoom=zoom,
    threshold=threshold,
    blur_radius=blur_radius,
    blur_sigma=blur_sigma,
    mix=mix,
  )


def draw_snow(
  key: jax.Array, shape: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
  """The randomness of `snow`: (float32[H, W] normal, float32[] degrees)."""
  normal_key, angle_key = jax.random.split(key)
  low, high = SNOW_DEGREES
  return (
    jax.random.normal(normal_key, shape[:2], jnp.float32),
    jax.random.uniform(angle_key, (), jnp.float32, low, high),
  )


def grey_level(pixels: jax.Array) -> jax.Array:
  """Luma of float32[H, W, C]: [H, W, 1]; one channel is its own luma."""
  if pixels.shape[2] == 1:
    return pixels
  red, green, blue = (pixels[..., i : i + 1] for i in range(3))
  return red * LUMA[0] + green * LUMA[1] + blue * LUMA[2]


def add_frost(
  image: jax.Array,
  texture: jax.Array,
  *,
  image_weight: float,
  frost_weight: float,
) -> jax.Array:
  """image_weight image + frost_weight texture; the sum exceeds 1.

  Args:
    image: uint8[H, W, C].
    texture: uint8[H, W, 3], a crop; on grey images its luma counts.
    image_weight, frost_weight: static.

  Returns:
    float32[H, W, C] in [0, 255], not truncated.

  Raises:
    ValueError, TypeError: `image` is not one image of pixels.
  """
  check_pixels(image, 'add_frost')
  check_shape(texture, (*image.shape[:2], 3), 'a texture', 'add_frost')
  texture = texture.astype(jnp.float32)
  if image.shape[2] == 1:
    texture = grey_level(texture)
  value = image.astype(jnp.float32) * image_weight + texture * frost_weight
  if image.shape[2] == 3:
    # Whether a sum that is a whole number falls short of it is for float64.
    table = jnp.asarray(_frosted_levels(image_weight, frost_weight))
    level = table[image.astype(jnp.int32) * 256 + texture.astype(jnp.int32)]
    value = jnp.clip(value, level, level + (1 - 2.0**-15))
  return clip_pixels(value)


@functools.cache
def _frosted_levels(image_weight: float, frost_weight: float) -> np.ndarray:
  """float32[65536]: of pixel p and texture t, at 256 p + t, truncated."""
  levels = np.arange(256)
  total = image_weight * levels[:, None] + frost_weight * levels
  return np.clip(np.floor(total), 0, 255).astype(np.float32).reshape(-1)


def frost(
  key: jax.Array,
  image: jax.Array,
  *,
  image_weight: float,
  frost_weight: float,
  texture_scale: float,
) -> jax.Array:
  """Samples `add_frost`: one of five textures, and a place in it.

  Args:
    key: key[].
    image: uint8[H, W, C].
    image_weight, frost_weight: as in `add_frost`.
    texture_scale: of the textures, static.

  Returns:
    float32[H, W, C] in [0, 255], not truncated.

  Raises:
    ValueError, TypeError: `image` is not one image of pixels, or larger than
      the smallest texture.
    TexturesMissingError: the textures are not installed.
  """
  check_pixels(image, 'frost')
  return frost_at(
    image,
    *draw_frost(key, image.shape),
    image_weight=image_weight,
    frost_weight=frost_weight,
    texture_scale=texture_scale,
  )


def draw_frost(
  key: jax.Array, shape: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
  """The randomness of `frost`: (int32[] texture, float32[2] in [0, 1))."""
  texture_key, place_key = jax.random.split(key)
  return (
    jax.random.randint(texture_key, (), 0, 5, jnp.int32),
    jax.random.uniform(place_key, (2,), jnp.float32),
  )


def frost_at(
  image: jax.Array,
  texture: jax.Array,
  place: jax.Array,
  *,
  image_weight: float,
  frost_weight: float,
  texture_scale: float,
) -> jax.Array:
  """`add_frost` with a crop of the installed textures.

  Args:
    image: uint8[H, W, C].
    texture: int32[], in 0..4.
    place: float32[2], in [0, 1): row and column, as a share of the room that
      the crop has. Its last place is never taken unless it is the only one.
    image_weight, frost_weight, texture_scale: as in `frost`.

  Returns, Raises:
    As `frost`.
  """
  check_pixels(image, 'frost_at')
  height, width, _ = image.shape
  stack, sizes = _stacked_textures(texture_scale)
  smallest = sizes.min(axis=0)
  if height > smallest[0] or width > smallest[1]:
    remedy = "take the parameter set 'imagenet'"
    if texture_scale == 1:
      remedy = 'there are no larger ones'
    raise TextureTooSmallError(
      f'frost with textures of scale {texture_scale:g} takes images of at most '
      f'{smallest[0]}x{smallest[1]} pixels, got {height}x{width}; {remedy}'
    )
  room = np.maximum(sizes - np.array([height, width]), 1).astype(np.float32)
  row, column = (place * jnp.asarray(room)[texture]).astype(jnp.int32)
  crop = jax.lax.dynamic_slice(
    jnp.asarray(stack),
    (jnp.asarray(texture, jnp.int32), row, column, jnp.int32(0)),
    (1, height, width, 3),
  )
  return add_frost(
    image, crop[0], image_weight=image_weight, frost_weight=frost_weight
  )


def add_fog(
  image: jax.Array, heightmap: jax.Array, *, amount: float
) -> jax.Array:
  """Adds fog as thick as a height map and compresses the range again.

  (image + amount heightmap) m / (m + amount), m the image's maximum.

  Args:
    image: uint8[H, W, C].
    heightmap: float32[H, W] in [0, 1].
    amount: in units of the full range, static.

  Returns:
    float32[H, W, C] in [0, 255], not truncated; black images stay black.

  Raises:
    ValueError, TypeError: `image` is not one image of pixels.
  """
  check_pixels(image, 'add_fog')
  check_shape(heightmap, image.shape[:2], 'a heightmap', 'add_fog')
  pixels = image.astype(jnp.float32)
  thick = 255.0 * amount
  brightest = pixels.max()
  fogged = (pixels + heightmap[..., None] * thick) * brightest
  # A black image stays black also where there is no fog.
  return clip_pixels(fogged / jnp.maximum(brightest + thick, 1e-3))


def fog(
  key: jax.Array, image: jax.Array, *, amount: float, decay: float, grid: int
) -> jax.Array:
  """Samples `add_plasma_fog`; its arguments are explained there."""
  check_pixels(image, 'fog')
  draws = draw_plasma(key, image.shape, grid=grid)
  return add_plasma_fog(image, *draws, amount=amount, decay=decay, grid=grid)


def draw_plasma(
  key: jax.Array, shape: tuple[int, ...], *, grid: int
) -> tuple[jax.Array]:
  """The randomness of `fog`: (float32[side^2 - 1] in [-1, 1),)."""
  draws = _plasma_side(shape, grid) ** 2 - 1
  return (jax.random.uniform(key, (draws,), jnp.float32, -1.0, 1.0),)


def add_plasma_fog(
  image: jax.Array, draws: jax.Array, *, amount: float, decay: float, grid: int
) -> jax.Array:
  """`add_fog` with the first rows and columns of a plasma.

  Args:
    image: uint8[H, W, C].
    draws: float32[side^2 - 1], of `plasma`.
    amount: as in `add_fog`.
    decay: as in `plasma`.
    grid: side of the plasma, doubled until the image fits; static, a power of
      two.

  Returns:
    float32[H, W, C] in [0, 255], not truncated.

  Raises:
    ValueError, TypeError: `image` is not one image of pixels.
  """
  check_pixels(image, 'add_plasma_fog')
  count = _plasma_side(image.shape, grid) ** 2 - 1
  check_shape(draws, (count,), 'draws', 'add_plasma_fog')
  height, width, _ = image.shape
  heightmap = plasma(draws, decay=decay)[:height, :width]
  return add_fog(image, heightmap, amount=amount)


def _plasma_side(shape, grid):
  while grid < max(shape[:2]):
    grid *= 2
  return grid


def plasma(draws: jax.Array, *, decay: float) -> jax.Array:
  """A fractal height map by diamond-square on a grid that wraps around.

  A new point is the mean of four neighbours plus noise of amplitude w^2, where
  w is 100 at first and divided by `decay` at each halving of the distance.
  (The scripts scale uniform draws by w twice.)

  Args:
    draws: float32[4^m - 1], uniform in [-1, 1): per level the centres of the
      squares, the points above and below them, then those beside them.
    decay: > 1, static.

  Returns:
    float32[2^m, 2^m], from 0 to 1.
  """
  heights = jnp.zeros((1, 1))
  amplitude, used = 100.0, 0
  while used < len(draws):
    side = len(heights)
    centres, above, beside = (
      draws[used + i * side**2 : used + (i + 1) * side**2].reshape(side, side)
      * amplitude**2
      for i in range(3)
    )
    pairs = heights + jnp.roll(heights, -1, 0)
    centres += (pairs + jnp.roll(pairs, -1, 1)) / 4
    across = heights + jnp.roll(heights, -1, 1)
    above += (across + centres + jnp.roll(centres, 1, 0)) / 4
    along = heights + jnp.roll(heights, -1, 0)
    beside += (along + centres + jnp.roll(centres, 1, 1)) / 4
    # Interleaved: coarse rows hold heights and `above`, the new ones `beside`
    # and centres.
    coarse = jnp.stack([heights, above], axis=-1).reshape(side, 2 * side)
    fine = jnp.stack([beside, centres], axis=-1).reshape(side, 2 * side)
    heights = jnp.stack([coarse, fine], axis=1).reshape(2 * side, 2 * side)
    amplitude /= decay
    used += 3 * side**2
  heights -= heights.min()
  # A grid of one point is flat.
  return heights / jnp.maximum(heights.max(), jnp.finfo(jnp.float32).tiny)


@functools.cache
def _stacked_textures(scale: float) -> tuple[np.ndarray, np.ndarray]:
  """uint8[5, H, W, 3] padded to the largest, and int32[5, 2] their sizes."""
  textures = frost_textures(scale)
  sizes = np.array([texture.shape[:2] for texture in textures], np.int32)
  stack = np.zeros((len(textures), *sizes.max(axis=0), 3), np.uint8)
  for slot, texture in zip(stack, textures, strict=True):
    slot[: texture.shape[0], : texture.shape[1]] = texture
  return stack, sizes
