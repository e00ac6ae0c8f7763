"""CIFAR-10 and CIFAR-100 through tfds, read without TensorFlow.

tfds reads one of its file formats, array_record, without TensorFlow. Only to
download and convert a data set does tfds itself need TensorFlow, once; after
that it can be uninstalled.
"""

import hashlib
import importlib
import importlib.util
import os
import pathlib
import re
from typing import Any

import numpy as np

from mollify_jax.data import cache, dataset
from mollify_jax.data.dataset import SPLITS, Dataset
from mollify_jax.data.decoding import decode_images
from mollify_jax.data.facts import FACTS, Facts

NAMES = ('cifar10', 'cifar100')
FILE_FORMAT = 'array_record'

# Fetched together: one record at a time takes a minute for 60,000.
RECORDS_PER_READ = 1000


def load(
  name: str, data_dir: str | os.PathLike, cache_dir: str | os.PathLike
) -> Dataset:
  """Reads a data set that tfds has prepared, or has tfds prepare it.

  Args:
    name: one of NAMES.
    data_dir: where tfds keeps its data sets; the newest version under
      `data_dir/name` is read. '' is tfds' default: the environment variable
      TFDS_DATA_DIR, else ~/tensorflow_datasets.
    cache_dir: where the decoded images are kept; see `cache`.

  Returns:
    The data set, in the order of the files, which tfds shuffled when it wrote
    them. mean and std are the constants of `facts`.

  Raises:
    ValueError: an unknown name; tfds is not installed; files that are in
      another format, damaged, or do not hold what `facts` says.
    FileNotFoundError: nothing is prepared and tfds cannot prepare it here.
  """
  if name not in NAMES:
    raise ValueError(
      f'unknown tfds data set {name!r}; choose from {", ".join(NAMES)}'
    )
  root = pathlib.Path(
    data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
  ).expanduser()
  directory = _newest_version(root / name)
  if directory is None:
    directory = _prepare(name, root)
  return cache.load_or_make(
    cache_dir,
    name,
    _digest(directory),
    lambda: _read(name, root, directory, FACTS[name]),
  )


def _newest_version(directory: pathlib.Path) -> pathlib.Path | None:
  """The prepared version with the largest number, if there is any."""
  versions = [
    info.parent
    for info in directory.glob('*/dataset_info.json')
    if re.fullmatch(r'\d+\.\d+\.\d+', info.parent.name)
  ]
  return max(
    versions,
    key=lambda path: tuple(int(part) for part in path.name.split('.')),
    default=None,
  )


def _digest(directory: pathlib.Path) -> str:
  """Changes when a file of the directory is written anew."""
  digest = hashlib.sha256(str(directory.absolute()).encode())
  for path in sorted(directory.iterdir()):
    stat = path.stat()
    digest.update(f'/{path.name}/{stat.st_size}/{stat.st_mtime_ns}'.encode())
  return digest.hexdigest()


def _prepare(name: str, root: pathlib.Path) -> pathlib.Path:
  """Has tfds download and convert the data set, if TensorFlow is there."""
  wanted = (
    f'data set {name!r} is not prepared: there is no '
    f'{str(root / name / "VERSION" / "dataset_info.json")!r}'
  )
  # Asked first: tfds notices the lack only after minutes of vain downloads.
  if importlib.util.find_spec('tensorflow') is None:
    raise FileNotFoundError(
      f'{wanted}, and preparing it takes TensorFlow (reading does not); '
      f'{_advice(name, root, install=True)}'
    )
  tfds = _import_tfds(name)
  try:
    builder = tfds.builder(name, data_dir=root, file_format=FILE_FORMAT)
    builder.download_and_prepare(file_format=FILE_FORMAT)
  except Exception as error:  # network, disk, protobuf: any of many libraries
    raise FileNotFoundError(
      f'{wanted}, and tfds cannot prepare it here ({_one_line(error)}); with '
      f'a network, {_advice(name, root)}'
    ) from error
  return pathlib.Path(builder.data_dir)


def _read(
  name: str, root: pathlib.Path, directory: pathlib.Path, facts: Facts
) -> Dataset:
  """Both splits of one prepared version."""
  tfds = _import_tfds(name)
  try:
    builder = tfds.builder_from_directory(directory)
    formats = [entry.value for entry in builder.info.available_file_formats()]
  except Exception as error:  # JSON, protobuf, tfds' own
    raise _unreadable(name, root, directory, error) from error
  if FILE_FORMAT not in formats:
    raise ValueError(
      f'{str(directory)!r} is prepared as {", ".join(sorted(formats))}, wanted '
      f'{FILE_FORMAT}; move it away or take another data_dir, then '
      f'{_advice(name, root, install=True)}'
    )
  _check_info(directory, builder.info, facts)
  try:
    records = [_records(tfds, builder, split) for split in SPLITS]
  except Exception as error:  # C++ errors arrive as RuntimeError
    raise _unreadable(name, root, directory, error) from error
  try:
    arrays = []
    for split, (encoded, labels) in zip(SPLITS, records, strict=True):
      images, _ = decode_images(split, encoded, facts.image_shape[:2])
      arrays += [images, labels]
    return Dataset(
      name,
      *arrays,
      class_names=facts.class_names,
      mean=facts.mean,
      std=facts.std,
      fingerprint=dataset.fingerprint(*arrays),
    )
  except ValueError as error:
    raise ValueError(f'{str(directory)!r}: {error}') from error


def _records(
  tfds: Any, builder: Any, split: str
) -> tuple[list[bytes], np.ndarray]:
  """(encoded images, int32 labels) of one split, in order."""
  source = builder.as_data_source(
    split,
    # Decoded by us, so that a damaged image is named by its index.
    decoders={'image': tfds.decode.SkipDecoding()},
    file_format=FILE_FORMAT,
  )
  encoded, labels = [], []
  for begin in range(0, len(source), RECORDS_PER_READ):
    end = min(begin + RECORDS_PER_READ, len(source))
    for record in source.__getitems__(list(range(begin, end))):
      encoded.append(record['image'])
      labels.append(record['label'])
  return encoded, np.array(labels, np.int32)


def _check_info(directory: pathlib.Path, info: Any, facts: Facts) -> None:
  """Compares what tfds wrote down of its files with the facts."""
  wanted = {'train': facts.train_examples, 'test': facts.test_examples}
  sizes = {
    split: info.splits[split].num_examples if split in info.splits else 0
    for split in SPLITS
  }
  if sizes != wanted:
    raise ValueError(
      f'{str(directory)!r} holds {sizes!r} examples, wanted {wanted!r}; delete '
      'it and prepare all of it again'
    )
  missing = [key for key in ('image', 'label') if key not in info.features]
  if missing:
    raise ValueError(
      f'{str(directory)!r} lacks the features {", ".join(missing)}; delete it '
      'and prepare it again'
    )
  shape = tuple(info.features['image'].shape)
  if shape != facts.image_shape:
    raise ValueError(
      f'{str(directory)!r} holds images of shape {shape!r}, wanted '
      f'{facts.image_shape!r}; delete it and prepare it again'
    )
  names = tuple(info.features['label'].names)
  # tfds calls the classes 0, 1, ... where it was told no names.
  unnamed = tuple(str(label) for label in range(len(facts.class_names)))
  if names not in (facts.class_names, unnamed):
    raise ValueError(
      f'{str(directory)!r} has the classes {", ".join(names)}, wanted '
      f'{", ".join(facts.class_names)}; delete it and prepare it again'
    )


def _import_tfds(name: str) -> Any:
  try:
    # tfds imports it late, while reading, and would blame the files.
    importlib.import_module('array_record')
    import tensorflow_datasets as tfds
  except ImportError as error:
    raise ValueError(
      f'data set {name!r} is read with tensorflow_datasets, which cannot be '
      f"imported ({error}); pip install 'mollify_jax[data]', or take another "
      'data set'
    ) from error
  return tfds


def _unreadable(
  name: str, root: pathlib.Path, directory: pathlib.Path, error: Exception
) -> ValueError:
  return ValueError(
    f'{str(directory)!r} cannot be read ({_one_line(error)}); delete it, then '
    f'{_advice(name, root, install=True)}'
  )


def _advice(name: str, root: pathlib.Path, *, install: bool = False) -> str:
  """What to run, for the end of a message."""
  command = f'tfds build {name} --file_format={FILE_FORMAT} --data_dir={root}'
  first = '`pip install tensorflow` and ' if install else ''
  return f"run {first}`{command}`, or use an .npz file (name='archive')"


def _one_line(error: Exception) -> str:
  return ' '.join(str(error).split()) or type(error).__name__
