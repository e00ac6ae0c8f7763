"""Your own images: one folder per class.

  PATH/train/CLASS/*.jpg   PATH/test/CLASS/*.png

or, without train and test, one level of classes, from which the test split is
drawn:

  PATH/CLASS/*.jpeg

Classes are sorted by name and files within a class by theirs, whatever order
the file system has. Hidden files, folders within a class, and files that do
not end in .jpg, .jpeg or .png are skipped, and their number is logged.
"""

import hashlib
import logging
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from mollify_jax.data import cache, dataset
from mollify_jax.data.dataset import SPLITS, Dataset, StreamedDataset
from mollify_jax.data.decoding import center_crop, open_image
from mollify_jax.data.facts import IMAGENET_MEAN, IMAGENET_STD

SUFFIXES = ('.jpg', '.jpeg', '.png')
SPLIT_SEED = 0


def load(
  path: str | os.PathLike,
  cache_dir: str | os.PathLike,
  *,
  image_size: int | None = None,
  test_fraction: float = 0.0,
) -> Dataset:
  """Reads all images into memory; decoding happens once, see `cache`.

  Args:
    path: the folder.
    cache_dir: where the decoded images are kept; made when needed.
    image_size: height and width of the result. Images of another size are
      resized until their shorter side has it, with antialiasing, then the
      centre is cropped. None: they must all be of one size already.
    test_fraction: share of each class, in (0, 1), that makes up the test split
      of a folder without train and test; which images those are changes with
      nothing but the number of files in the class. 0: the folder has both.

  Returns:
    The data set, named after the folder. Images are RGB, unless every one of
    them is grey, which gives one channel. mean and std are those of the
    training pixels.

  Raises:
    FileNotFoundError, NotADirectoryError: there is no such folder.
    ValueError: no images, a class without any, a class that only the test
      split has, an image that cannot be read or is of another size; the
      message names the file or folder.
    OSError: the cache cannot be written.
  """
  if image_size is not None and image_size < 1:
    raise ValueError(f'image_size must be >= 1 or None, got {image_size!r}')
  parts = sources(path, test_fraction=test_fraction)
  name = parts['train'].root.name
  return cache.load_or_make(
    cache_dir,
    name,
    _digest(parts, image_size),
    lambda: _decode(name, parts, image_size),
  )


def sources(
  path: str | os.PathLike, *, test_fraction: float = 0.0
) -> dict[str, 'FolderSource']:
  """The files of both splits, for `streaming`; they are listed, not opened.

  Args:
    path, test_fraction: as for `load`.

  Returns:
    {'train': ..., 'test': ...}.

  Raises:
    FileNotFoundError, NotADirectoryError, ValueError: as for `load`.
  """
  root = _checked_root(path)
  splits = _list_splits(root, test_fraction)
  class_names = tuple(splits['train'])
  return {
    split: FolderSource(root, class_names, splits[split]) for split in SPLITS
  }


def stream(
  path: str | os.PathLike, image_size: int, *, test_fraction: float = 0.0
) -> StreamedDataset:
  """Opens a folder whose images are decoded while training runs.

  Args:
    path, test_fraction: as for `load`.
    image_size: height and width of what the feed makes of an image.

  Returns:
    The data set. mean and std are ImageNet's, since nothing has been decoded;
    the fingerprint is that of names, sizes and times of change.

  Raises:
    FileNotFoundError, NotADirectoryError, ValueError: as for `load`.
  """
  parts = sources(path, test_fraction=test_fraction)
  return StreamedDataset(
    name=parts['train'].root.name,
    train_source=parts['train'],
    test_source=parts['test'],
    image_size=image_size,
    class_names=parts['train'].class_names,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    fingerprint=_digest(parts, image_size),
  )


class FolderSource:
  """The encoded images of one split; `sources` makes it.

  Attributes:
    root: the folder, absolute.
    class_names: those of the training split, sorted.
    paths: of each image, relative to root; sorted by class, then by name.
    labels: int32[N], each in [0, len(class_names)).
  """

  def __init__(
    self,
    root: pathlib.Path,
    class_names: tuple[str, ...],
    files: Mapping[str, Sequence[str]],
  ):
    """Takes the files of each class, a subset of class_names in their order."""
    self.root = root
    self.class_names = class_names
    self.paths = [path for paths in files.values() for path in paths]
    counts = [len(files.get(name, ())) for name in class_names]
    self.labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)

  def __len__(self) -> int:
    return len(self.paths)

  def __getitem__(self, index: int) -> tuple[bytes, int]:
    """(the file, its label); OSError if it cannot be read."""
    return (self.root / self.paths[index]).read_bytes(), int(self.labels[index])

  def describe(self, index: int) -> str:
    """The file's path, for messages."""
    return str(self.root / self.paths[index])


def _checked_root(path: str | os.PathLike) -> pathlib.Path:
  root = pathlib.Path(path).expanduser().absolute()
  if root.is_dir():
    return root
  if root.exists():
    raise NotADirectoryError(
      f'{str(root)!r} is a file; wanted a folder of class folders; name one'
    )
  raise FileNotFoundError(
    f'{str(root)!r} does not exist; wanted a folder of class folders; check '
    'the path'
  )


def _list_splits(
  root: pathlib.Path, test_fraction: float
) -> dict[str, dict[str, list[str]]]:
  """split -> class name -> files relative to root, all in order."""
  if not 0 <= test_fraction < 1:
    raise ValueError(
      'test_fraction must be in (0, 1), or 0 if there is a test folder, got '
      f'{test_fraction!r}'
    )
  present = [split for split in SPLITS if (root / split).is_dir()]
  skipped: list[str] = []
  if len(present) == 2:
    if test_fraction:
      raise ValueError(
        f'{str(root)!r} has a test folder, so test_fraction must be 0, got '
        f'{test_fraction!r}'
      )
    splits = {split: _list_classes(root, split, skipped) for split in SPLITS}
    only_test = [name for name in splits['test'] if name not in splits['train']]
    if only_test:
      raise ValueError(
        f'{str(root)!r} has no training images of {", ".join(only_test)}, '
        'which are in its test folder; wanted every class in train; add or '
        'remove them'
      )
  elif test_fraction:
    splits = _divide(root, _list_classes(root, '', skipped), test_fraction)
  else:
    missing = [split for split in SPLITS if split not in present]
    raise ValueError(
      f'{str(root)!r} has no {" and no ".join(missing)} folder; make it, or '
      'set test_fraction to draw the test split from the classes'
    )
  if skipped:
    logging.getLogger(__name__).warning(
      'skipped %d entries of %s that are not images, such as %s',
      len(skipped),
      root,
      skipped[0],
    )
  return splits


def list_classes(root: pathlib.Path) -> dict[str, list[str]]:
  """class name -> files relative to root, of a folder of class folders.

  Raises:
    ValueError: no classes, or one without images; or what cannot be listed.
  """
  return _list_classes(root, '', [])


def _list_classes(
  root: pathlib.Path, inner: str, skipped: list[str]
) -> dict[str, list[str]]:
  """class name -> files of the class folders in root/inner.

  What is left out is added to `skipped`.
  """
  classes = {}
  for entry in _entries(root / inner):
    relative = entry.relative_to(root).as_posix()
    if entry.name.startswith('.') or not _is_there(entry).is_dir():
      skipped.append(relative)
      continue
    files = []
    for file in _entries(entry):
      if _is_image(file):
        files.append(f'{relative}/{file.name}')
      else:
        skipped.append(f'{relative}/{file.name}')
    if not files:
      raise ValueError(
        f'class folder {str(entry)!r} holds no {", ".join(SUFFIXES)} files; '
        'add some or remove it'
      )
    classes[entry.name] = files
  if not classes:
    raise ValueError(
      f'{str(root / inner)!r} holds no images; wanted a folder per class with '
      f'{", ".join(SUFFIXES)} files'
    )
  return classes


def _entries(folder: pathlib.Path) -> list[pathlib.Path]:
  """What a folder holds, sorted by name."""
  try:
    entries = sorted(folder.iterdir(), key=lambda path: path.name)
  except OSError as error:
    raise ValueError(
      f'{str(folder)!r} cannot be listed ({error.strerror}); wanted a folder '
      'that may be read; change its permissions or remove it'
    ) from error
  for path in entries:
    # Python shows bytes that are no UTF-8 as lone surrogates.
    if any('\ud800' <= letter <= '\udfff' for letter in path.name):
      raise ValueError(
        f'{str(path)!r} has a name that is no UTF-8; wanted names of text, for '
        'they are written down; rename it'
      )
  return entries


def _is_image(path: pathlib.Path) -> bool:
  """By its name alone, except that folders are none."""
  if path.name.startswith('.') or path.suffix.lower() not in SUFFIXES:
    return False
  return _is_there(path).is_file()


def _is_there(path: pathlib.Path) -> pathlib.Path:
  """Refuses a link that goes round in a circle or whose target is gone."""
  if not path.exists():
    raise ValueError(
      f'{str(path)!r} is a link that leads nowhere; wanted a folder or an '
      'image; restore or remove it'
    )
  return path


def _divide(
  root: pathlib.Path, classes: dict[str, list[str]], test_fraction: float
) -> dict[str, dict[str, list[str]]]:
  """Both splits of one level of classes, stratified."""
  splits = {split: {} for split in SPLITS}
  for name, files in classes.items():
    # RandomState and not default_rng: NumPy promises that this stream never
    # changes, and results are only comparable on one and the same split.
    order = np.random.RandomState(SPLIT_SEED).permutation(len(files))
    num_test = min(round(test_fraction * len(files)), len(files) - 1)
    in_test = set(order[:num_test].tolist())
    for index, file in enumerate(files):
      split = 'test' if index in in_test else 'train'
      splits[split].setdefault(name, []).append(file)
  if not splits['test']:
    largest = max(len(files) for files in classes.values())
    raise ValueError(
      f'test_fraction {test_fraction!r} leaves the test split of {str(root)!r} '
      f'empty: its largest class has {largest} images; raise it'
    )
  return splits


def _digest(parts: Mapping[str, FolderSource], image_size: int | None) -> str:
  """Changes when a file is added, removed or written anew."""
  digest = hashlib.sha256(f'{parts["train"].root}/{image_size}'.encode())
  for source in parts.values():
    digest.update(f'/{len(source)}'.encode())
    for path, label in zip(source.paths, source.labels, strict=True):
      stat = (source.root / path).stat()
      digest.update(
        f'/{path}/{label}/{stat.st_size}/{stat.st_mtime_ns}'.encode()
      )
  return digest.hexdigest()


def _decode(
  name: str, parts: Mapping[str, FolderSource], image_size: int | None
) -> Dataset:
  """The data set with all its images decoded."""
  images, all_grey = [], True
  size = None if image_size is None else (image_size, image_size)
  for source in parts.values():
    decoded = None
    for index, (pixels, is_grey) in enumerate(_pixels(source, image_size)):
      if decoded is None:
        size = size or pixels.shape[:2]
        decoded = np.empty((len(source), *size, 3), np.uint8)
      if pixels.shape[:2] != size:
        raise ValueError(
          f'{source.describe(index)!r} is {pixels.shape[0]} x '
          f'{pixels.shape[1]} pixels, wanted {size[0]} x {size[1]} like the '
          'files before it; set image_size, or resize it'
        )
      decoded[index] = pixels
      all_grey = all_grey and is_grey
    images.append(decoded)
  if all_grey:
    images = [np.ascontiguousarray(array[..., :1]) for array in images]
  train, test = parts['train'], parts['test']
  arrays = (images[0], train.labels, images[1], test.labels)
  mean, std = dataset.channel_statistics(images[0])
  return Dataset(
    name,
    *arrays,
    class_names=train.class_names,
    mean=mean,
    std=std,
    fingerprint=dataset.fingerprint(*arrays),
  )


def _pixels(
  source: FolderSource, image_size: int | None
) -> Iterator[tuple[np.ndarray, bool]]:
  """(uint8[H, W, 3], whether it was stored in grey) of every image."""
  for index in range(len(source)):
    path = source.describe(index)
    try:
      data, _ = source[index]
    except OSError as error:
      raise ValueError(
        f'{path!r} cannot be read ({error.strerror}); restore it or change its '
        'permissions'
      ) from error
    image = open_image(repr(path), data)
    is_grey = image.mode == 'L'
    if image.mode != 'RGB':
      image = image.convert('RGB')
    if image_size is not None and image.size != (image_size, image_size):
      image = center_crop(image, image_size, image_size)
    yield np.asarray(image), is_grey
