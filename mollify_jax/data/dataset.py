"""What every reader returns: two splits of images in host memory."""

import dataclasses
import hashlib
from typing import Any

import numpy as np

SPLITS = ('train', 'test')


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """A classification data set, checked when it is built.

  Attributes:
    name: what the catalog calls it.
    train_images: uint8[N, H, W, C], N >= 1.
    train_labels: int32[N], each in [0, num_classes).
    test_images: uint8[M, H, W, C], M >= 1.
    test_labels: int32[M], each in [0, num_classes).
    class_names: class_names[label] is the class's name.
    mean: one per channel, of the training pixels divided by 255.
    std: one per channel, likewise, > 0.
    fingerprint: tells two data sets apart; equal for equal contents.
    validation_images: uint8[V, H, W, C], V >= 1, held out of training; None
      if nothing is.
    validation_labels: int32[V], or None.

  Raises:
    TypeError: an array of the wrong kind or dtype.
    ValueError: wrong shapes or counts, an empty split, a label out of range,
      or normalisation constants that do not fit the channels.
  """

  name: str
  train_images: np.ndarray
  train_labels: np.ndarray
  test_images: np.ndarray
  test_labels: np.ndarray
  class_names: tuple[str, ...]
  mean: tuple[float, ...]
  std: tuple[float, ...]
  fingerprint: str
  validation_images: np.ndarray | None = None
  validation_labels: np.ndarray | None = None

  def __post_init__(self):
    if not self.class_names:
      raise ValueError(
        f'class_names must name at least one class, got {self.class_names!r}'
      )
    held_out = () if self.validation_images is None else ('validation',)
    for split in SPLITS + held_out:
      images = getattr(self, f'{split}_images')
      labels = getattr(self, f'{split}_labels')
      check_images(split, images)
      check_labels(split, labels, len(images), self.num_classes)
      if labels.dtype != np.int32:
        raise TypeError(f'{split} labels must be int32, got {labels.dtype}')
    check_same_size(self.train_images, self.test_images)
    channels = self.train_images.shape[3]
    for field in ('mean', 'std'):
      values = getattr(self, field)
      if len(values) != channels or not np.all(np.isfinite(values)):
        raise ValueError(
          f'{field} must be {channels} finite numbers, one per channel, '
          f'got {values!r}'
        )
    if min(self.std) <= 0:
      raise ValueError(
        f'std must be > 0 in every channel, got {self.std!r}: a channel of '
        'the training images is constant; remove it'
      )

  @property
  def num_classes(self) -> int:
    """K: labels are in [0, K)."""
    return len(self.class_names)

  @property
  def num_train(self) -> int:
    """Training examples."""
    return len(self.train_labels)

  @property
  def num_test(self) -> int:
    """Test examples."""
    return len(self.test_labels)

  @property
  def num_validation(self) -> int:
    """Examples held out of training."""
    return 0 if self.validation_labels is None else len(self.validation_labels)

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """(H, W, C) of every image."""
    return self.train_images.shape[1:]


@dataclasses.dataclass(frozen=True, eq=False)
class StreamedDataset:
  """A data set that no device can hold: encoded images in random access.

  Attributes:
    name: what the catalog calls it.
    train_source: `len` and `[i]` -> an encoded image and its label; see
      `streaming`.
    test_source: likewise.
    image_size: height and width of what a feed makes of an image, in RGB.
    class_names: class_names[label] is the class's name.
    mean, std: per channel, of pixels / 255.
    fingerprint: tells two data sets apart.
    validation_source: held out of training; None if nothing is.
  """

  name: str
  train_source: Any
  test_source: Any
  image_size: int
  class_names: tuple[str, ...]
  mean: tuple[float, ...]
  std: tuple[float, ...]
  fingerprint: str
  validation_source: Any = None

  @property
  def num_classes(self) -> int:
    """K: labels are in [0, K)."""
    return len(self.class_names)

  @property
  def num_train(self) -> int:
    """Training examples."""
    return len(self.train_source)

  @property
  def num_test(self) -> int:
    """Test examples."""
    return len(self.test_source)

  @property
  def num_validation(self) -> int:
    """Examples held out of training."""
    return 0 if self.validation_source is None else len(self.validation_source)

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """(H, W, C) of every image."""
    return (self.image_size, self.image_size, 3)


def check_images(split: str, images: np.ndarray) -> None:
  """Refuses what is not a non-empty uint8[N, H, W, C].

  Raises:
    TypeError: not an array, or not of dtype uint8.
    ValueError: another rank, or nothing in it.
  """
  _check_array(f'{split} images', images)
  if images.dtype != np.uint8:
    raise TypeError(
      f'{split} images must be uint8 in [0, 255], got {images.dtype}; '
      'scale and convert them'
    )
  if images.ndim != 4 or 0 in images.shape:
    raise ValueError(
      f'{split} images must have the shape [N, H, W, C] with nothing empty, '
      f'got {images.shape!r}; reshape them'
    )


def check_labels(
  split: str, labels: np.ndarray, num_examples: int, num_classes: int
) -> None:
  """Refuses labels that are not integers in [0, num_classes), one per image.

  Raises:
    TypeError: not an array, or not of an integer dtype.
    ValueError: wrong count or rank, or a label out of range; the message
      names the first one and its index.
  """
  _check_array(f'{split} labels', labels)
  if not np.issubdtype(labels.dtype, np.integer):
    raise TypeError(
      f'{split} labels must be integer class indices, got {labels.dtype}; '
      'convert them'
    )
  if labels.shape != (num_examples,):
    raise ValueError(
      f'{split} labels must have the shape ({num_examples},), one per image, '
      f'got {labels.shape!r}; write them again'
    )
  outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
  if outside.size:
    first = outside[0]
    raise ValueError(
      f'{split} label {first} is {int(labels[first])}, wanted a class index '
      f'in [0, {num_classes - 1}]; {outside.size} of {num_examples} are out '
      'of range: correct them, or name all classes'
    )


def check_same_size(train_images: np.ndarray, test_images: np.ndarray) -> None:
  """Refuses splits whose images [N, H, W, C] differ in [H, W, C].

  Raises:
    ValueError: they differ.
  """
  if train_images.shape[1:] != test_images.shape[1:]:
    raise ValueError(
      'train and test images must have one size [H, W, C], got '
      f'{train_images.shape[1:]!r} and {test_images.shape[1:]!r}; resize one '
      'of them'
    )


def channel_statistics(
  images: np.ndarray,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """(mean, std) per channel of uint8[N, H, W, C], in units of 255."""
  channels = images.shape[3]
  total = np.zeros(channels)
  total_squares = np.zeros(channels)
  # In parts, because float64 takes eight times the room. The sums are of whole
  # numbers below 2^53 and so exact in any order.
  for begin in range(0, len(images), 1024):
    part = images[begin : begin + 1024].reshape(-1, channels)
    part = part.astype(np.float64)
    total += part.sum(axis=0)
    total_squares += np.einsum('nc,nc->c', part, part)
  count = images.size // channels
  mean = total / count
  std = np.sqrt(np.maximum(total_squares / count - mean**2, 0))
  return tuple((mean / 255).tolist()), tuple((std / 255).tolist())


def fingerprint(*arrays: np.ndarray) -> str:
  """Hex SHA-256 of the arrays' dtypes, shapes and contents, in order."""
  digest = hashlib.sha256()
  for array in arrays:
    digest.update(f'{array.dtype.str}{array.shape}'.encode())
    digest.update(np.ascontiguousarray(array).data)
  return digest.hexdigest()


def _check_array(what: str, value: np.ndarray) -> None:
  if not isinstance(value, np.ndarray):
    raise TypeError(f'{what} must be a NumPy array, got {type(value)!r}')
