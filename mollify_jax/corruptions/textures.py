"""The frost textures, read from an installed package that carries them.

They are photographs under Apache-2.0 and not part of this repository. The
package `imagecorruptions` ships them byte by byte; it is looked up, never
imported.
"""

import functools
import hashlib
import importlib.util
import pathlib

import numpy as np

# File, sha256. The benchmark draws one of the first five of six.
_FILES = (
  (
    'frost1.png',
    'ff9f907860bd7a835d459e32f9d588062b7f61ee267343cc7222b56753a14755',
  ),
  (
    'frost2.png',
    'fe211a89b336999c207a852ce05818d4545d0b57c5beadd824b4cc9d9a9b6137',
  ),
  (
    'frost3.png',
    '2d0d50b4a9bb213f38b024ef7768731bb83cc08d2f26b5766bbc167cdfa0e504',
  ),
  (
    'frost4.jpg',
    '3f8b91ca1a9fa7167b09e773da53f5ae60d0a1fd88f02a783f6e328a72887f6e',
  ),
  (
    'frost5.jpg',
    '5fc6a19df4a429ba68abdcc8f8a4278d4c9f81c9ccafd2c92ab0c8cf8992ebd2',
  ),
)


class TexturesMissingError(ImportError):
  """Frost needs photographs that are not installed."""


@functools.cache
def frost_textures(scale: float) -> tuple[np.ndarray, ...]:
  """The five textures.

  Args:
    scale: of both sides: 1, 0.3 or 0.2, with OpenCV's bilinear `resize`.

  Returns:
    uint8[H, W, 3] each, RGB.

  Raises:
    TexturesMissingError: they are not installed, or Pillow is not.
    ValueError: a file is not the benchmark's.
  """
  folder = _folder()
  try:
    from PIL import Image
  except ImportError as error:
    raise TexturesMissingError(
      'frost reads its textures with Pillow, which is not installed: '
      'pip install pillow'
    ) from error
  textures = []
  for name, digest in _FILES:
    path = folder / name
    content = path.read_bytes() if path.is_file() else b''
    if hashlib.sha256(content).hexdigest() != digest:
      raise ValueError(
        f'{str(path)!r} is not the texture of the benchmark; install it again: '
        'pip install --force-reinstall --no-deps imagecorruptions'
      )
    with Image.open(path) as image:
      textures.append(_resize(np.asarray(image.convert('RGB')), scale))
  return tuple(textures)


def _folder() -> pathlib.Path:
  found = importlib.util.find_spec('imagecorruptions')
  if found is None or not found.submodule_search_locations:
    raise TexturesMissingError(
      'frost needs its textures, which the package imagecorruptions carries: '
      "pip install --no-deps imagecorruptions (or '.[frost]')"
    )
  return pathlib.Path(found.submodule_search_locations[0]) / 'frost'


def _resize(image: np.ndarray, scale: float) -> np.ndarray:
  """OpenCV's bilinear resize of uint8[H, W, 3], in its 11-bit integers."""
  if scale == 1.0:
    return image
  # int32 with 11 + 11 bits after the point, reduced as OpenCV reduces them.
  rows, columns = (_taps(size, scale) for size in image.shape[:2])
  wide = image.astype(np.int64)
  first, weight = columns
  last = wide.shape[1] - 1
  left, right = wide[:, first], wide[:, np.minimum(first + 1, last)]
  wide = left * (2048 - weight)[:, None] + right * weight[:, None]
  first, weight = rows
  last = wide.shape[0] - 1
  upper, lower = wide[first] >> 4, wide[np.minimum(first + 1, last)] >> 4
  weight = weight[:, None, None]
  total = ((upper * (2048 - weight)) >> 16) + ((lower * weight) >> 16)
  return np.clip((total + 2) >> 2, 0, 255).astype(np.uint8)


def _taps(size, scale):
  """First pixel of the two, and weight of the second in 1/2048."""
  resized = round(size * scale)
  position = (np.arange(resized) + 0.5) * (1 / scale) - 0.5
  first = np.floor(position).astype(np.int64)
  weight = np.rint((position - first).astype(np.float32) * 2048)
  weight = weight.astype(np.int64)
  weight[first < 0] = 0
  return np.clip(first, 0, size - 1), weight
