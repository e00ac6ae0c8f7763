"""The corrupted test sets: every test image under 15 or 19 corruptions.

They are read from either of

  DATA_DIR/cifar10_corrupted/gaussian_noise_1/VERSION   as tfds prepares them
  PATH/gaussian_noise.npy   PATH/labels.npy             the official layout,
      uint8[5 N, H, W, C] with the severities one after the other, mapped
      into memory and not read before it is used

under the same names, tfds' own: `elastic` and `frosted_glass_blur` stand for
the files elastic_transform.npy and glass_blur.npy.
"""

import os
import pathlib

import numpy as np

from mollify_jax.data import dataset, tfds_source
from mollify_jax.data.facts import CORRUPTED, FACTS, file_name


class CorruptedTestSet:
  """One data set's test images, by corruption and severity.

  Attributes:
    name: in `facts.CORRUPTED`.
    facts: which corruptions and severities there can be.
    clean: facts of the data set that was corrupted.
  """

  def __init__(self, name: str, path: str | os.PathLike = ''):
    """Looks for the files; none is read yet.

    Args:
      name: one of `facts.CORRUPTED`.
      path: a folder of .npy files, or a data_dir of tfds; '' is tfds' default.

    Raises:
      ValueError: an unknown name, or labels that are not the test labels once
        per severity.
    """
    if name not in CORRUPTED:
      raise ValueError(
        f'unknown corrupted data set {name!r}; choose from '
        f'{", ".join(CORRUPTED)}'
      )
    self.name = name
    self.facts = CORRUPTED[name]
    self.clean = FACTS[self.facts.clean]
    self._path = path
    folder = pathlib.Path(path).expanduser() if path else None
    self._folder = folder if folder and _is_npy_folder(folder) else None
    self._labels = None if self._folder is None else self._read_labels()

  def load(
    self, corruption: str, severity: int
  ) -> tuple[np.ndarray, np.ndarray]:
    """All test images under one corruption.

    Args:
      corruption: one of `facts.corruptions`.
      severity: one of `facts.severities`; 1 is the mildest.

    Returns:
      (uint8[N, H, W, C], int32[N]); a read-only map of the file where that
      is an .npy.

    Raises:
      ValueError: an unknown corruption or severity, or files that are damaged
        or do not hold what `facts` says.
      FileNotFoundError: this one is not there.
    """
    if corruption not in self.facts.corruptions:
      raise ValueError(
        f'unknown corruption {corruption!r} of {self.name!r}; choose from '
        f'{", ".join(self.facts.corruptions)}'
      )
    if severity not in self.facts.severities:
      raise ValueError(
        f'severity must be one of {self.facts.severities!r}, got {severity!r}'
      )
    if self._folder is None:
      return tfds_source.load_corrupted(
        self.name, f'{corruption}_{severity}', self._path
      )
    count = self.clean.test_examples
    images = self._read_images(corruption)
    first = self.facts.severities.index(severity) * count
    return images[first : first + count], self._labels

  def _read_images(self, corruption: str) -> np.ndarray:
    path = self._folder / f'{file_name(corruption)}.npy'
    images = _map(path)
    repeats = len(self.facts.severities)
    wanted = (repeats * self.clean.test_examples, *self.clean.image_shape)
    if images.dtype != np.uint8 or images.shape != wanted:
      raise ValueError(
        f'{str(path)!r} holds {images.dtype} of shape {images.shape!r}, wanted '
        f'uint8 of shape {wanted!r}; copy it again'
      )
    return images

  def _read_labels(self) -> np.ndarray:
    """int32[N], the same for every severity."""
    path = self._folder / 'labels.npy'
    labels = _map(path)
    count, repeats = self.clean.test_examples, len(self.facts.severities)
    if labels.shape != (repeats * count,) or labels.dtype.kind not in 'iu':
      raise ValueError(
        f'{str(path)!r} holds {labels.dtype} of shape {labels.shape!r}, wanted '
        f'integers of shape ({repeats * count},); copy it again'
      )
    parts = np.asarray(labels).reshape(repeats, count)
    if (parts != parts[0]).any():
      raise ValueError(
        f'{str(path)!r} does not repeat the {count} test labels {repeats} '
        'times; copy it again'
      )
    try:
      dataset.check_labels('test', parts[0], count, len(self.clean.class_names))
    except ValueError as error:
      raise ValueError(f'{str(path)!r}: {error}') from error
    _check_balance(str(path), parts[0], len(self.clean.class_names))
    return parts[0].astype(np.int32)


def _is_npy_folder(folder: pathlib.Path) -> bool:
  return any(folder.glob('*.npy'))


def _check_balance(what: str, labels: np.ndarray, num_classes: int) -> None:
  """All three data sets have as many test images of every class."""
  if len(labels) % num_classes:
    return
  counts = np.bincount(labels, minlength=num_classes)
  if (counts != counts[0]).any():
    raise ValueError(
      f'{what} holds {counts.min()} to {counts.max()} labels per class, '
      f'wanted {len(labels) // num_classes} of each, as in the clean test set; '
      'copy it again'
    )


def _map(path: pathlib.Path) -> np.ndarray:
  """An .npy file as a read-only map; never with pickled objects."""
  if not path.is_file():
    raise FileNotFoundError(
      f'{str(path)!r} does not exist; wanted a folder in the layout of '
      'CIFAR-10-C: labels.npy and one .npy per corruption'
    )
  try:
    return np.load(path, mmap_mode='r', allow_pickle=False)
  except Exception as error:  # not an .npy, cut short, or of objects
    reason = ' '.join(str(error).split()) or type(error).__name__
    raise ValueError(
      f'{str(path)!r} cannot be read ({reason}); wanted a whole .npy of '
      'numbers; copy it again'
    ) from error
