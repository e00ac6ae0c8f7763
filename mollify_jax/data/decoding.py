"""From encoded images (JPEG, PNG) to one uint8 array."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
  from PIL import Image

FORMATS = ('JPEG', 'PNG')


def decode_images(
  split: str,
  encoded: Sequence[bytes],
  size: tuple[int, int] | None = None,
) -> tuple[np.ndarray, bool]:
  """Decodes the images of one split, all of one size.

  One thread: at the sizes that fit into device memory most of the time is
  spent in Python between two calls of Pillow, and threads only queue for it
  (measured at 32 to 128 pixels on 2 cores: 1.6 times slower to 1.4 faster).

  Args:
    split: for messages.
    encoded: N >= 1 files of 8-bit images.
    size: (height, width) wanted; None is that of the first image.

  Returns:
    (uint8[N, H, W, 3], whether every image was stored in grey). A grey image
    has three equal channels; transparency is dropped.

  Raises:
    ValueError: an image that does not decode, is not 8-bit, or is of another
      size; the message names the split and the index.
  """
  images = None
  all_grey = True
  for index, data in enumerate(encoded):
    image, is_grey = _decode(split, index, data, size)
    if images is None:
      size = image.shape[:2]
      images = np.empty((len(encoded), *image.shape), np.uint8)
    images[index] = image
    all_grey = all_grey and is_grey
  return images, all_grey


def open_image(
  what: str, data: bytes, size: tuple[int, int] | None = None
) -> 'Image.Image':
  """An encoded image of 8 bits per channel, decoded, in the mode it has.

  Args:
    what: names it in messages.
    data: a JPEG or PNG file. Its EXIF orientation is not looked at, as
      torchvision does not.
    size: (height, width) wanted; None is any.

  Raises:
    ValueError: it does not decode, is not 8-bit, or is of another size.
  """
  from PIL import Image

  try:
    # Opening reads the header alone, so a wrong size costs no decoding.
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    is_wanted = size in (None, (image.height, image.width))
    if is_wanted and image.mode[0] not in 'IF':
      image.load()
  except Exception as error:  # damaged bytes make Pillow raise anything
    raise ValueError(
      f'{what} cannot be decoded ({_one_line(error)}); wanted a whole '
      f'{" or ".join(FORMATS)} file; write it again'
    ) from error
  if image.mode[0] in 'IF':
    raise ValueError(
      f'{what} is of mode {image.mode!r}, wanted 8 bits per channel; convert it'
    )
  if not is_wanted:
    raise ValueError(
      f'{what} is {image.height} x {image.width} pixels, wanted '
      f'{size[0]} x {size[1]}, one size for all; resize it'
    )
  return image


def center_crop(
  image: 'Image.Image', shorter_side: int, size: int
) -> 'Image.Image':
  """The middle size x size of an image resized to have that shorter side.

  Bilinear with antialiasing, and rounded as in torchvision's Resize and
  CenterCrop.

  Args:
    image: 8 bits per channel.
    shorter_side: in pixels, >= size.
    size: in pixels.
  """
  from PIL import Image

  width, height = image.size
  shorter = min(width, height)
  wide, high = (int(shorter_side * side / shorter) for side in (width, height))
  image = image.resize((wide, high), Image.Resampling.BILINEAR)
  left, top = round((wide - size) / 2), round((high - size) / 2)
  return image.crop((left, top, left + size, top + size))


def _decode(split, index, data, size) -> tuple[np.ndarray, bool]:
  """One image uint8[H, W, 3], and whether it was stored in grey."""
  image = open_image(f'{split} image {index}', data, size)
  rgb = image if image.mode == 'RGB' else image.convert('RGB')
  return np.asarray(rgb), image.mode == 'L'


def _one_line(error: Exception) -> str:
  # Pillow's own text ends in the address of a BytesIO, which helps nobody.
  if type(error).__name__ == 'UnidentifiedImageError':
    return 'not an image'
  return ' '.join(str(error).split()) or type(error).__name__
