"""Data sets that tfds prepared, read without TensorFlow.

tfds reads one of its file formats, array_record, without TensorFlow.
`mollify_jax.data.prepare` writes it from the original archives; a directory
that tfds wrote elsewhere is read as it is. Its other format, TFRecord, takes
TensorFlow, which the extra `tensorflow` installs.
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
from mollify_jax.data.dataset import Dataset, StreamedDataset
from mollify_jax.data.decoding import decode_images
from mollify_jax.data.facts import FACTS, Facts

# Ours -> tfds'.
NAMES = {
  'cifar10': 'cifar10',
  'cifar100': 'cifar100',
  'tiny_imagenet': 'tiny_imagenet',
  'imagenet': 'imagenet2012',
}
# Too large to be held decoded.
STREAMED = ('imagenet',)
FILE_FORMAT = 'array_record'

# Fetched together: one record at a time takes a minute for 60,000.
RECORDS_PER_READ = 1000


def load(
  name: str, data_dir: str | os.PathLike, cache_dir: str | os.PathLike
) -> Dataset:
  """Reads a prepared data set into memory.

  Args:
    name: one of NAMES, but none of STREAMED.
    data_dir: where tfds keeps its data sets; the newest version under
      `data_dir/name` is read. '' is tfds' default: the environment variable
      TFDS_DATA_DIR, else ~/tensorflow_datasets.
    cache_dir: where the decoded images are kept; see `cache`.

  Returns:
    The data set, in the order of the files, which tfds shuffled when it wrote
    them. mean and std are the constants of `facts`.

  Raises:
    ValueError: an unknown name; tfds is not installed; files that are in
      TFRecord where TensorFlow is not, damaged, or do not hold what `facts`
      says.
    FileNotFoundError: nothing is prepared.
  """
  names = [known for known in NAMES if known not in STREAMED]
  if name not in names:
    raise ValueError(
      f'unknown tfds data set {name!r}; choose from {", ".join(names)}'
    )
  root, directory = _find(name, data_dir)
  return cache.load_or_make(
    cache_dir,
    name,
    _digest(directory),
    lambda: _read(name, root, directory, FACTS[name]),
  )


def stream(
  name: str, data_dir: str | os.PathLike, image_size: int
) -> StreamedDataset:
  """Opens a prepared data set of any size; nothing is decoded yet.

  Args:
    name: one of NAMES.
    data_dir: as for `load`.
    image_size: height and width of what the feed makes of an image.

  Raises:
    ValueError, FileNotFoundError: as `load`, but TFRecord is refused: it has
      no random access.
  """
  if name not in NAMES:
    raise ValueError(
      f'unknown tfds data set {name!r}; choose from {", ".join(NAMES)}'
    )
  root, directory = _find(name, data_dir)
  facts = FACTS[name]
  tfds, builder, file_format = _open(name, root, directory, facts)
  if file_format != FILE_FORMAT:
    raise ValueError(
      f'{str(directory)!r} is prepared as {file_format}, which cannot be '
      f'streamed; wanted {FILE_FORMAT}; {_advice(name, root)}'
    )
  train, test = (_source(tfds, builder, split) for split in facts.split_sizes)
  return StreamedDataset(
    name=name,
    train_source=train,
    test_source=test,
    image_size=image_size,
    class_names=facts.class_names
    or tuple(builder.info.features['label'].names),
    mean=facts.mean,
    std=facts.std,
    fingerprint=_digest(directory),
  )


def _find(
  name: str, data_dir: str | os.PathLike
) -> tuple[pathlib.Path, pathlib.Path]:
  """(data_dir, directory of the newest version)."""
  root = pathlib.Path(
    data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
  ).expanduser()
  directory = _newest_version(root / NAMES[name])
  if directory is None:
    wanted = root / NAMES[name] / 'VERSION' / 'dataset_info.json'
    raise FileNotFoundError(
      f'data set {name!r} is not prepared: there is no {str(wanted)!r}; '
      f'{_advice(name, root)}'
    )
  return root, directory


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


def _read(
  name: str, root: pathlib.Path, directory: pathlib.Path, facts: Facts
) -> Dataset:
  """Both splits of one prepared version."""
  tfds, builder, file_format = _open(name, root, directory, facts)
  records_of = _records if file_format == FILE_FORMAT else _tfrecords
  try:
    records = [records_of(tfds, builder, split) for split in facts.split_sizes]
  except Exception as error:  # C++ errors arrive as RuntimeError
    raise _unreadable(name, root, directory, error) from error
  try:
    arrays = []
    for split, (encoded, labels) in zip(
      facts.split_sizes, records, strict=True
    ):
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


def _open(
  name: str, root: pathlib.Path, directory: pathlib.Path, facts: Facts
) -> tuple[Any, Any, str]:
  """(tfds, the builder of one prepared version, its file format)."""
  tfds = _import_tfds(name)
  try:
    builder = tfds.builder_from_directory(directory)
    formats = [entry.value for entry in builder.info.available_file_formats()]
  except Exception as error:  # JSON, protobuf, tfds' own
    raise _unreadable(name, root, directory, error) from error
  if FILE_FORMAT in formats:
    file_format = FILE_FORMAT
  else:
    file_format = formats[0] if formats else 'nothing'
    if importlib.util.find_spec('tensorflow') is None:
      raise ValueError(
        f'{str(directory)!r} is prepared as {file_format}, which takes '
        "TensorFlow to read: pip install 'mollify_jax[tensorflow]'; or move "
        f'it away and {_advice(name, root)}'
      )
  _check_info(directory, builder.info, facts)
  return tfds, builder, file_format


def _source(tfds: Any, builder: Any, split: str) -> Any:
  """Random access to {'image': encoded, 'label': int, ...}."""
  return builder.as_data_source(
    split,
    # Decoded by us, so that a damaged image is named by its index.
    decoders={'image': tfds.decode.SkipDecoding()},
    file_format=FILE_FORMAT,
  )


def _records(
  tfds: Any, builder: Any, split: str
) -> tuple[list[bytes], np.ndarray]:
  """(encoded images, int32 labels) of one split, in order."""
  source = _source(tfds, builder, split)
  encoded, labels = [], []
  for begin in range(0, len(source), RECORDS_PER_READ):
    end = min(begin + RECORDS_PER_READ, len(source))
    for record in source.__getitems__(list(range(begin, end))):
      encoded.append(record['image'])
      labels.append(record['label'])
  return encoded, np.array(labels, np.int32)


def _tfrecords(
  tfds: Any, builder: Any, split: str
) -> tuple[list[bytes], np.ndarray]:
  """The same from TFRecord, through TensorFlow."""
  records = builder.as_dataset(
    split=split,
    decoders={'image': tfds.decode.SkipDecoding()},
    shuffle_files=False,
  )
  encoded, labels = [], []
  for record in tfds.as_numpy(records):
    encoded.append(record['image'])
    labels.append(record['label'])
  return encoded, np.array(labels, np.int32)


def _check_info(directory: pathlib.Path, info: Any, facts: Facts) -> None:
  """Compares what tfds wrote down of its files with the facts."""
  wanted = facts.split_sizes
  sizes = {
    split: info.splits[split].num_examples if split in info.splits else 0
    for split in wanted
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
  if facts.image_shape and shape != facts.image_shape:
    raise ValueError(
      f'{str(directory)!r} holds images of shape {shape!r}, wanted '
      f'{facts.image_shape!r}; delete it and prepare it again'
    )
  names = tuple(info.features['label'].names)
  # tfds calls the classes 0, 1, ... where it was told no names.
  unnamed = tuple(str(label) for label in range(len(facts.class_names)))
  if facts.class_names and names not in (facts.class_names, unnamed):
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
    f'{_advice(name, root)}'
  )


def _advice(name: str, root: pathlib.Path) -> str:
  """What to run, for the end of a message."""
  if name in STREAMED:
    return (
      f'run `tfds build {NAMES[name]} --file_format={FILE_FORMAT} '
      f'--data_dir={root}`, which needs TensorFlow and the original archives'
    )
  return (
    f'run `python -m mollify_jax.data.prepare {name} --data_dir={root}` '
    '(--archives=DIR where there is no network), or use an .npz file '
    "(name='archive')"
  )


def _one_line(error: Exception) -> str:
  return ' '.join(str(error).split()) or type(error).__name__
