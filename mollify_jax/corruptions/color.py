"""Brightness and saturation: corruptions that go through HSV and back."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from mollify_jax.corruptions.filters import clip_pixels
from mollify_jax.kernels.pixels import check_pixels


def brighten(image: jax.Array, *, add: float) -> jax.Array:
  """Raises the HSV value of every pixel; hue and saturation stay.

  Truncated to uint8 the result equals, for every colour, that of the formula
  in float64; see `_rounding_table`. Source: Hendrycks & Dietterich 2019 (arXiv
  1903.12261), with the HSV of Smith 1978.

  Args:
    image: uint8[H, W, C]; for C = 1 the value is the pixel itself.
    add: in [-1, 1] of the full range, static.

  Returns:
    float32[H, W, C] in [0, 255]. At add = 0 `image`, to rounding: truncated, a
    value may come out one lower, as it does in float64.

  Raises:
    ValueError, TypeError: `image` is not one uint8 image.
    ValueError: `add` is outside [-1, 1].
  """
  check_pixels(image, 'brighten')
  if not -1 <= add <= 1:
    raise ValueError(f'add must be in [-1, 1] of the full range, got {add!r}')
  return _change_hsv(image, add, 1.0, 0.0)


def saturate(image: jax.Array, *, scale: float, add: float) -> jax.Array:
  """Scales and raises the HSV saturation; hue and value stay.

  Truncated to uint8 the result equals, for every colour, that of the formula
  in float64; see `_rounding_table`. Source: as `brighten`.

  Args:
    image: uint8[H, W, C]. Grey has hue 0, so `add` > 0 turns it red. For C = 1
      the result is the luma 0.299 R + 0.587 G + 0.114 B of that red.
    scale: >= 0, static. Below 1 colours fade; 0 leaves the HSV value in every
      channel.
    add: in [-1, 1], static; of the full saturation.

  Returns:
    float32[H, W, C] in [0, 255]. At scale = 1, add = 0 `image`, to rounding, as
    in `brighten`.

  Raises:
    ValueError, TypeError: `image` is not one uint8 image.
    ValueError: `scale` is negative or `add` outside [-1, 1].
  """
  check_pixels(image, 'saturate')
  if not scale >= 0:
    raise ValueError(f'scale must be >= 0, got {scale!r}; 1 changes nothing')
  if not -1 <= add <= 1:
    raise ValueError(f'add must be in [-1, 1] of saturation, got {add!r}')
  return _change_hsv(image, 0.0, scale, add)


def _change_hsv(image, value_add, scale, add):
  """value + value_add and saturation * scale + add, each clipped to [0, 1]."""
  image = jnp.asarray(image)
  if image.shape[2] == 3:
    return _change_color(image, value_add, scale, add)
  color = _change_color(jnp.repeat(image, 3, 2), value_add, scale, add)
  # The luma of a red whose green and blue are the same: where all three are,
  # it keeps their very value.
  red, other = color[..., :1], color[..., 1:2]
  return other + 0.299 * (red - other)


def _change_color(image, value_add, scale, add):
  """`_change_hsv` of uint8[H, W, 3]."""
  pixels = image.astype(jnp.int32)
  red, green, blue = jnp.moveaxis(pixels, 2, 0)
  high, low = pixels.max(2), pixels.min(2)
  middle = red + green + blue - high - low
  # Which channel is the highest and which the middle one, in the order of hue:
  # RG GR GB BG BR RB. Where two are highest, the earlier of R to G to B to R;
  # grey counts as red.
  red_high = (red >= green) & ((red > blue) | (high == low))
  green_high = ~red_high & (green > red) & (green >= blue)
  sector = jnp.where(
    red_high,
    jnp.where(green >= blue, 0, 5),
    jnp.where(
      green_high, jnp.where(blue >= red, 2, 1), jnp.where(red >= green, 4, 3)
    ),
  )
  index = high * (high + 1) * (high + 2) // 6 + middle * (middle + 1) // 2 + low
  bits = jnp.asarray(_rounding_table(value_add, scale, add))[index]
  bits = bits.astype(jnp.int32)

  top, bottom = high.astype(jnp.float32), low.astype(jnp.float32)
  new_top = clip_pixels(top + 255 * value_add)
  saturation = (top - bottom) / jnp.maximum(top, 1)
  new_saturation = jnp.clip(saturation * scale + add, 0, 1)
  new_bottom = new_top * (1 - new_saturation)
  share = (middle - low) / jnp.maximum(top - bottom, 1)
  new_middle = new_bottom + (new_top - new_bottom) * share

  new_top = _settle(new_top, bits >> 7)
  new_bottom = _settle(new_bottom, (bits >> 6) & 1)
  new_middle = _settle(new_middle, (bits >> sector) & 1)
  is_high = jnp.stack([red_high, green_high, ~(red_high | green_high)], 2)
  rest = jnp.where(
    pixels == low[..., None], new_bottom[..., None], new_middle[..., None]
  )
  return clip_pixels(jnp.where(is_high, new_top[..., None], rest))


def _settle(value, parity):
  """The float32 nearest to `value` that truncates to a number of `parity`."""
  whole = jnp.round(value)
  # The largest float32 below any whole number up to 256 is nearer than this.
  other = jnp.where(value < whole, whole, whole - 2.0**-16)
  agrees = (value.astype(jnp.int32) & 1) == parity
  return jnp.where(agrees, value, other)


@functools.lru_cache(maxsize=32)
def _rounding_table(value_add, scale, add):
  """How float64 truncates every colour: the last bits of the three channels.

  The exact result often is a whole number: all of them when saturation is
  doubled. The many roundings of the float64 formula then decide between it and
  the number below, and float32 cannot follow them: up to one value in ten would
  be off by one. So the formula (that of scikit-image, in its order of
  operations) is run for every colour while tracing, 0.2 s once per parameters,
  and one bit kept of each channel, which settles what float32 leaves open.

  Returns:
    uint8[256 * 257 * 258 / 6], over high >= middle >= low: bits 0 to 5 are the
    middle channel in the six sectors of hue, 6 the low and 7 the high one.
  """
  level = np.arange(256) / 255.0
  middle, low = np.tril_indices(256)
  rise = level[middle] - level[low]
  turn = np.array([0.0, 2.0, 2.0, 4.0, 4.0, 0.0])[:, None]
  sign = np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])[:, None]
  table = []
  for high in range(256):
    # The pairs middle <= high come first.
    pairs = (high + 1) * (high + 2) // 2
    value = level[high]
    delta = value - level[low[:pairs]]
    grey = delta == 0
    share = rise[:pairs] / np.where(grey, 1.0, delta)
    saturation = delta / value if high else delta
    hue = (turn + sign * share) / 6.0
    hue[5] = np.where(hue[5] < 0, hue[5] + 1.0, 0.0)
    hue[:, grey] = 0.0
    hue *= 6.0
    sector = np.floor(hue)
    part = hue - sector
    part = np.where(sector.astype(np.uint8) & 1, part, 1 - part)

    new_value = np.clip(value + value_add, 0, 1)
    new_saturation = np.clip(saturation * scale + add, 0, 1)
    rows = np.empty((8, pairs))
    rows[:6] = new_value * (1 - part * new_saturation)
    rows[6] = new_value * (1 - new_saturation)
    rows[7] = new_value
    odd = (np.clip(rows, 0, 1) * 255).astype(np.uint8) & 1
    table.append(np.packbits(odd, axis=0, bitorder='little')[0])
  table = np.concatenate(table)
  table.flags.writeable = False  # the cache hands out this very array
  return table
