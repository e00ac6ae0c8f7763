"""JPEG compression, bit for bit what libjpeg makes of an image.

A float DCT would differ in up to 44 percent of the values (quality 50, whose
tables have many ties), so every step is libjpeg's own, in int32: baseline
JPEG, 4:2:0 chroma, the slow-integer DCT and triangle chroma upsampling, the
defaults of libjpeg, libjpeg-turbo and Pillow. Huffman coding loses nothing and
is left out. Source: ITU-T T.81 (1992) and the file comments of libjpeg 6b.
"""

import jax
import jax.numpy as jnp
import numpy as np

from mollify_jax.kernels.pixels import check_pixels


def compress_jpeg(image: jax.Array, *, quality: int) -> jax.Array:
  """Encodes one image as JPEG and decodes it again.

  Args:
    image: uint8[H, W, C]; C = 3 is RGB, C = 1 a greyscale JPEG (one plane).
    quality: 1..100 on libjpeg's scale, static; 100 has all steps equal to 1.

  Returns:
    float32[H, W, C], whole numbers in [0, 255]: the bytes that Pillow's
    `save(format='JPEG', quality=quality)` and `open` give.

  Raises:
    ValueError, TypeError: `image` is not one uint8 image, or `quality` not a
      whole number in 1..100.
  """
  check_pixels(image, 'compress_jpeg')
  luma_steps, chroma_steps = quantisation_steps(quality)
  height, width, channels = image.shape
  pixels = jnp.asarray(image).astype(jnp.int32)
  if channels == 1:
    (decoded,) = _code_planes([pixels[..., 0]], [luma_steps])
    return decoded[..., None].astype(jnp.float32)
  luma, blue, red = _rgb_to_ycc(pixels)
  luma, blue, red = _code_planes(
    [luma, _halve(blue), _halve(red)], [luma_steps, chroma_steps, chroma_steps]
  )
  blue, red = _double(blue, height, width), _double(red, height, width)
  return _ycc_to_rgb(luma, blue, red).astype(jnp.float32)


def quantisation_steps(quality: int) -> np.ndarray:
  """The tables of libjpeg at one quality: int32[luma and chroma, 8, 8].

  Annex K of T.81 is quality 50; the scale is 5000 / quality percent below it
  and 200 - 2 quality above. Rows are vertical frequencies.

  Raises:
    ValueError: `quality` is not a whole number in 1..100.
  """
  if quality not in range(1, 101):
    raise ValueError(
      f'quality must be a whole number from 1 to 100, got {quality!r}'
    )
  quality = int(quality)
  percent = 5000 // quality if quality < 50 else 200 - 2 * quality
  tables = np.array([_LUMA_STEPS, _CHROMA_STEPS], np.int32)
  return np.clip((tables * percent + 50) // 100, 1, 255)


_LUMA_STEPS = (
  (16, 11, 10, 16, 24, 40, 51, 61),
  (12, 12, 14, 19, 26, 58, 60, 55),
  (14, 13, 16, 24, 40, 57, 69, 56),
  (14, 17, 22, 29, 51, 87, 80, 62),
  (18, 22, 37, 56, 68, 109, 103, 77),
  (24, 35, 55, 64, 81, 104, 113, 92),
  (49, 64, 78, 87, 103, 121, 120, 101),
  (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA_STEPS = (
  (17, 18, 24, 47, 99, 99, 99, 99),
  (18, 21, 26, 66, 99, 99, 99, 99),
  (24, 26, 56, 99, 99, 99, 99, 99),
  (47, 66, 99, 99, 99, 99, 99, 99),
  (99, 99, 99, 99, 99, 99, 99, 99),
  (99, 99, 99, 99, 99, 99, 99, 99),
  (99, 99, 99, 99, 99, 99, 99, 99),
  (99, 99, 99, 99, 99, 99, 99, 99),
)

# The DCT of 8 points times 8192 sqrt(2): row k is cos(pi k (2 i + 1) / 16).
# Some entries are one off the nearest whole number: the slow-integer transform
# adds up rounded constants, and before its shifts it is this linear map. The
# inverse transform is the transpose.
_BITS = 13
_DCT = np.array(
  [
    [8192, 8192, 8192, 8192, 8192, 8192, 8192, 8192],
    [11363, 9633, 6437, 2260, -2260, -6437, -9633, -11363],
    [10703, 4433, -4433, -10703, -10703, -4433, 4433, 10703],
    [9633, -2259, -11362, -6436, 6436, 11362, 2259, -9633],
    [8192, -8192, -8192, 8192, 8192, -8192, -8192, 8192],
    [6437, -11362, 2261, 9633, -9633, -2261, 11362, -6437],
    [4433, -10704, 10704, -4433, -4433, 10704, -10704, 4433],
    [2260, -6436, 9633, -11363, 11363, -9633, 6436, -2260],
  ],
  np.int32,
)


def _code_planes(planes, steps):
  """Quantises planes int32[h, w] in 0..255 in the DCT domain of 8x8 blocks."""
  blocks = [_split_blocks(plane) for plane in planes]
  counts = [block.shape[-1] for block in blocks]
  steps = np.repeat(np.stack(steps, -1), counts, axis=-1)
  decoded = _code_blocks(jnp.concatenate(blocks, -1), steps)
  ends = np.cumsum(counts)
  return [
    _join_blocks(decoded[..., end - count : end], *plane.shape)
    for plane, count, end in zip(planes, counts, ends, strict=True)
  ]


def _code_blocks(blocks, steps):
  """Blocks int32[8, 8, n] in 0..255 through their DCT, quantised by `steps`."""
  # Two more bits between the passes; 8 times the orthonormal DCT at the end.
  rows = _transform(blocks - 128, _DCT, 1, _BITS - 2)
  coefficients = _transform(rows, _DCT, 0, _BITS + 2)
  # To the nearest multiple, halves away from zero (the division truncates).
  half = jnp.where(coefficients < 0, -4 * steps, 4 * steps)
  coefficients = jax.lax.div(coefficients + half, 8 * steps) * steps
  columns = _transform(coefficients, _DCT.T, 0, _BITS - 2)
  pixels = _transform(columns, _DCT.T, 1, _BITS + 2 + 3)
  return jnp.clip(pixels + 128, 0, 255)


def _transform(blocks, matrix, axis, shift):
  """matrix @ blocks along an axis of 8, divided by 2^shift and rounded."""
  total = 1 << (shift - 1)
  for i in range(8):
    taps = np.expand_dims(matrix[:, i], (1 - axis, 2))
    line = jax.lax.slice_in_dim(blocks, i, i + 1, axis=axis)
    total = total + taps * line
  return total >> shift


def _split_blocks(plane):
  """int32[h, w] -> int32[8, 8, blocks], edges repeated to whole blocks."""
  height, width = plane.shape
  plane = jnp.pad(plane, ((0, -height % 8), (0, -width % 8)), 'edge')
  blocks = plane.reshape(-(-height // 8), 8, -(-width // 8), 8)
  return blocks.transpose(1, 3, 0, 2).reshape(8, 8, -1)


def _join_blocks(blocks, height, width):
  """The inverse of `_split_blocks`, cut to [height, width]."""
  blocks = blocks.reshape(8, 8, -(-height // 8), -(-width // 8))
  plane = blocks.transpose(2, 0, 3, 1)
  rows, _, columns, _ = plane.shape
  return plane.reshape(8 * rows, 8 * columns)[:height, :width]


def _rgb_to_ycc(pixels):
  """int32[H, W, 3] RGB -> luma, blue and red difference, int32[H, W]."""
  # 16-bit fixed point; the chroma weights sum to zero, and their half is one
  # unit short so that 255.5 does not round up.
  r, g, b = pixels[..., 0], pixels[..., 1], pixels[..., 2]
  luma = (19595 * r + 38470 * g + 7471 * b + (1 << 15)) >> 16
  centre = (128 << 16) + (1 << 15) - 1
  blue = (-11059 * r - 21709 * g + 32768 * b + centre) >> 16
  red = (32768 * r - 27439 * g - 5329 * b + centre) >> 16
  return luma, blue, red


def _ycc_to_rgb(luma, blue, red):
  """The inverse of `_rgb_to_ycc`, clipped: int32[H, W, 3]."""
  blue, red, half = blue - 128, red - 128, 1 << 15
  r = luma + ((91881 * red + half) >> 16)
  g = luma + ((-22554 * blue - 46802 * red + half) >> 16)
  b = luma + ((116130 * blue + half) >> 16)
  return jnp.clip(jnp.stack([r, g, b], -1), 0, 255)


def _halve(plane):
  """Means of 2x2 pixels, halves rounded down and up in alternate columns."""
  height, width = plane.shape
  # libjpeg repeats pixels sideways to whole blocks before it takes means.
  # Downwards it completes the last pair only; `_split_blocks` does the rest.
  plane = jnp.pad(plane, ((0, height % 2), (0, -width % 16)), 'edge')
  pairs = plane[::2] + plane[1::2]
  columns = pairs.shape[1] // 2
  bias = 1 + np.arange(columns, dtype=np.int32) % 2
  return (pairs[:, ::2] + pairs[:, 1::2] + bias) >> 2


def _double(plane, height, width):
  """Chroma int32[h, w] back to the size of the image: "fancy" upsampling."""
  # Only samples that some pixel of the image went into take part.
  plane = plane[:, : -(-width // 2)]
  if plane.shape[1] <= 2:  # libjpeg repeats samples where it has so few
    doubled = jnp.repeat(jnp.repeat(plane, 2, 0), 2, 1)
    return doubled[:height, :width]
  # A triangle filter each way: 3/4 of the nearest sample, 1/4 of the next.
  padded = jnp.pad(plane, ((1, 1), (0, 0)), 'edge')
  rows = jnp.stack([3 * plane + padded[:-2], 3 * plane + padded[2:]], 1)
  rows = rows.reshape(-1, plane.shape[1])[:height]
  padded = jnp.pad(rows, ((0, 0), (1, 1)), 'edge')
  left = (3 * rows + padded[:, :-2] + 8) >> 4
  right = (3 * rows + padded[:, 2:] + 7) >> 4
  return jnp.stack([left, right], 2).reshape(height, -1)[:, :width]
