"""Data sets in one .npz file, of encoded images or of plain arrays.

Encoded (JPEG or PNG; image i is bytes[offsets[i]:offsets[i + 1]]), for the
splits `train` and `test`:

  train_bytes uint8[B]   train_offsets int[N + 1]   train_labels int[N]

Plain:

  train_images uint8[N, H, W, C] or uint8[N, H, W]   train_labels int[N]

and in both, optionally, class_names str[K]; without it the classes are '0',
'1', ... up to the largest label.
"""

import contextlib
import hashlib
import itertools
import os
import pathlib
import zipfile
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import numpy as np

from mollify_jax.data import cache, dataset
from mollify_jax.data.dataset import SPLITS, Dataset
from mollify_jax.data.decoding import decode_images

ENCODED = tuple(f'{s}_{k}' for s in SPLITS for k in ('bytes', 'offsets'))
PLAIN = tuple(f'{s}_images' for s in SPLITS)
# Beyond both, what a member unpacks to is a bomb: pictures of anything come to
# a tenth of their size, and zeros to a thousandth.
_LARGE = 1 << 26
_LARGEST_RATIO = 200
LABELS = tuple(f'{s}_labels' for s in SPLITS)


def load(
  path: str | os.PathLike, cache_dir: str | os.PathLike
) -> dataset.Dataset:
  """Reads an archive; what had to be decoded is decoded once.

  The decoded arrays are kept in `cache_dir/<sha256 of the archive>`; see
  `cache`.

  Args:
    path: an .npz file in one of the layouts above.
    cache_dir: made when needed; not used for plain arrays.

  Returns:
    The data set, named after the file. Images are RGB, unless every one of
    them is grey, which gives one channel. mean and std are those of the
    training pixels.

  Raises:
    FileNotFoundError, IsADirectoryError: there is no such file.
    TypeError: an array of the wrong dtype.
    ValueError: not an archive, cut short or damaged, pickled objects, members
      missing, or contents that contradict each other.
    OSError: the cache cannot be written.
  """
  path = pathlib.Path(path).expanduser()
  _check_file(path)
  with open(path, 'rb') as file:
    fingerprint = hashlib.file_digest(file, 'sha256').hexdigest()
  if not _is_encoded(path):
    return _make(path, fingerprint)
  return cache.load_or_make(
    cache_dir, path.stem, fingerprint, lambda: _make(path, fingerprint)
  )


def _check_file(path: pathlib.Path) -> None:
  """Refuses what is obviously no .npz file, before hashing all of it."""
  if path.is_dir():
    raise IsADirectoryError(
      f'archive {str(path)!r} is a directory; wanted an .npz file; name one'
    )
  if not path.exists():
    raise FileNotFoundError(
      f'archive {str(path)!r} does not exist; wanted an .npz file; check the '
      'path'
    )
  with open(path, 'rb') as file:
    start = file.read(4)
  if not start:
    raise ValueError(
      f'archive {str(path)!r} is empty; wanted an .npz file; copy it again'
    )
  if start != b'PK\x03\x04':
    raise ValueError(
      f'archive {str(path)!r} is not an .npz file: it starts with {start!r}; '
      'write it with numpy.savez'
    )


@contextlib.contextmanager
def _naming(path: pathlib.Path) -> Iterator[None]:
  """Puts the archive's path before the messages raised inside."""
  try:
    yield
  except (TypeError, ValueError) as error:
    # Not type(error): UnicodeDecodeError, a ValueError, takes five arguments.
    kind = TypeError if isinstance(error, TypeError) else ValueError
    raise kind(f'archive {str(path)!r}: {error}') from error


def _read_members(path: pathlib.Path) -> dict[str, np.ndarray]:
  """The arrays of one of the two layouts, none of them looked into yet."""
  # Opened here, because numpy.load forgets to close what is no zip file.
  with open(path, 'rb') as file, _open(file) as archive:
    present = set(archive.files)
    is_plain = present.isdisjoint(ENCODED) and not present.isdisjoint(PLAIN)
    wanted = (*(PLAIN if is_plain else ENCODED), *LABELS)
    missing = [name for name in wanted if name not in present]
    if missing:
      other = (
        ''
        if present & {*PLAIN, *ENCODED}
        else (f' or, for plain arrays, {", ".join(PLAIN)}')
      )
      raise ValueError(
        f'it lacks {", ".join(missing)}{other}; it holds '
        f'{", ".join(sorted(present)) or "nothing"}; add what is missing'
      )
    optional = present & {'class_names'}
    for name in (*wanted, *optional):
      _check_room(archive.zip, name)
    return {name: _member(archive, name) for name in (*wanted, *optional)}


def _open(file: BinaryIO) -> np.lib.npyio.NpzFile:
  try:
    return np.load(file, allow_pickle=False)
  except Exception as error:  # zipfile, zlib, struct, ...: all say: damaged
    raise _damaged('it', error) from error


def _member(archive: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
  try:
    array = archive[name]
  except Exception as error:  # as above
    if 'pickle' in str(error):
      raise ValueError(
        f'member {name} holds pickled Python objects, which are never loaded; '
        'wanted a plain array; write it with a numeric or string dtype'
      ) from error
    raise _damaged(f'member {name}', error) from error
  if not isinstance(array, np.ndarray):
    raise ValueError(
      f'member {name} is not an array; wanted one; write it as .npy'
    )
  return array


def _check_room(file: zipfile.ZipFile, name: str) -> None:
  """Refuses a member that unpacks to more than its bytes could be images of."""
  member = next(
    m for m in file.infolist() if m.filename in (f'{name}.npy', name)
  )
  packed, unpacked = member.compress_size, member.file_size
  if unpacked > _LARGE and unpacked > _LARGEST_RATIO * packed:
    raise ValueError(
      f'member {name} unpacks to {unpacked:,} bytes from {packed:,}, which no '
      f'images do; wanted at most {_LARGEST_RATIO} times as many; look where '
      'it comes from, or write it again with numpy.savez'
    )


def _damaged(what: str, error: Exception) -> ValueError:
  reason = ' '.join(str(error).split()) or type(error).__name__
  return ValueError(
    f'{what} is cut short or damaged ({reason}); wanted a whole .npz file; '
    'copy or write it again'
  )


def _decoded(members: Mapping[str, np.ndarray]) -> list[np.ndarray]:
  """Train and test images from their encoded bytes."""
  files = {split: _encoded_files(split, members) for split in SPLITS}
  # Minutes of decoding may follow, so what is quick to check comes first.
  num_classes = len(_class_names(members))
  for split in SPLITS:
    labels = members[f'{split}_labels']
    dataset.check_labels(split, labels, len(files[split]), num_classes)
  train_images, train_grey = decode_images('train', files['train'])
  test_images, test_grey = decode_images(
    'test', files['test'], train_images.shape[1:3]
  )
  images = [train_images, test_images]
  if train_grey and test_grey:
    return [np.ascontiguousarray(array[..., :1]) for array in images]
  return images


def _encoded_files(
  split: str, members: Mapping[str, np.ndarray]
) -> list[memoryview]:
  """The file of each image of one split."""
  data = members[f'{split}_bytes']
  offsets = members[f'{split}_offsets']
  if data.dtype != np.uint8 or data.ndim != 1:
    raise TypeError(
      f'{split}_bytes must be uint8 of rank 1, got {data.dtype} of shape '
      f'{data.shape!r}; write the files as numpy.uint8'
    )
  if not np.issubdtype(offsets.dtype, np.integer) or offsets.ndim != 1:
    raise TypeError(
      f'{split}_offsets must be integers of rank 1, got {offsets.dtype} of '
      f'shape {offsets.shape!r}; write them as numpy.int64'
    )
  if len(offsets) < 2:
    raise ValueError(
      f'{split}_offsets must hold one number more than there are images, and '
      f'one image at least; got {len(offsets)} of them; write both again'
    )
  offsets = offsets.tolist()  # of unbounded Python integers: nothing wraps
  for index, (begin, end) in enumerate(itertools.pairwise(offsets)):
    if not 0 <= begin < end <= len(data):
      raise ValueError(
        f'{split}_offsets[{index}:{index + 2}] is [{begin}, {end}], wanted '
        f'two increasing positions in [0, {len(data)}], the length of '
        f'{split}_bytes; write both again'
      )
  view = np.ascontiguousarray(data).data
  return [view[begin:end] for begin, end in itertools.pairwise(offsets)]


def _plain(members: Mapping[str, np.ndarray]) -> list[np.ndarray]:
  """Train and test images that were never encoded."""
  result = []
  for split in SPLITS:
    images = members[f'{split}_images']
    if images.ndim == 3:
      images = images[..., np.newaxis]
    dataset.check_images(split, images)
    if images.shape[1] in (1, 3) and images.shape[3] not in (1, 3):
      raise ValueError(
        f'{split} images of shape {images.shape!r} look like [N, C, H, W], '
        'wanted [N, H, W, C]; move the channels to the end'
      )
    result.append(images)
  return result


def _is_encoded(path: pathlib.Path) -> bool:
  """Whether there is something to decode; nothing else is looked at."""
  with _naming(path), open(path, 'rb') as file, _open(file) as archive:
    return ENCODED[0] in archive.files


def _make(path: pathlib.Path, fingerprint: str) -> Dataset:
  """The data set of an archive, read and decoded."""
  with _naming(path):
    members = _read_members(path)
    images = _decoded(members) if ENCODED[0] in members else _plain(members)
    return _make_dataset(path.stem, fingerprint, images, members)


def _make_dataset(
  name: str,
  fingerprint: str,
  images: list[np.ndarray],
  members: Mapping[str, np.ndarray],
) -> Dataset:
  """Checks what is left to check and puts the parts together."""
  train_images, test_images = images
  class_names = _class_names(members)
  for split, array in zip(SPLITS, images, strict=True):
    labels = members[f'{split}_labels']
    dataset.check_labels(split, labels, len(array), len(class_names))
  mean, std = dataset.channel_statistics(train_images)
  return Dataset(
    name=name,
    train_images=train_images,
    train_labels=members['train_labels'].astype(np.int32),
    test_images=test_images,
    test_labels=members['test_labels'].astype(np.int32),
    class_names=class_names,
    mean=mean,
    std=std,
    fingerprint=fingerprint,
  )


def _class_names(members: Mapping[str, np.ndarray]) -> tuple[str, ...]:
  """As stored; else '0', '1', ... up to the largest label."""
  if 'class_names' in members:
    names = members['class_names']
    if names.dtype.kind not in 'US' or names.ndim != 1 or not names.size:
      raise ValueError(
        'class_names must be a list of strings, one per class, got '
        f'{names.dtype} of shape {names.shape!r}; write them so'
      )
    try:
      return tuple(names.astype(str).tolist())
    except UnicodeDecodeError as error:
      raise ValueError(
        f'class_names are bytes and no ASCII text ({error}); wanted strings; '
        'write them as numpy.str_'
      ) from error
  largest = max(_largest_label(members, split) for split in SPLITS)
  num_images = members['train_labels'].size
  if largest >= num_images:
    raise ValueError(
      f'a label is {largest} while there are {num_images} training images; '
      'wanted class indices counted from 0; number the classes anew or add '
      'class_names'
    )
  return tuple(str(label) for label in range(max(largest, 0) + 1))


def _largest_label(members: Mapping[str, np.ndarray], split: str) -> int:
  labels = members[f'{split}_labels']
  if not np.issubdtype(labels.dtype, np.integer) or not labels.size:
    raise TypeError(
      f'{split} labels must be integer class indices, one per image, got '
      f'{labels.dtype} of shape {labels.shape!r}; convert them'
    )
  return int(labels.max())
