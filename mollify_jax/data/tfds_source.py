"""Data sets that tfds prepared, read without TensorFlow.

tfds reads one of its file formats, array_record, without TensorFlow.
`mollify_jax.data.prepare` writes it from the original archives; a directory
that tfds wrote elsewhere is read as it is. Its other format, TFRecord, takes
TensorFlow, which the extra `tensorflow` installs.
"""

import contextlib
import hashlib
import importlib
import importlib.util
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from mollify_jax.data import cache, dataset
from mollify_jax.data.dataset import Dataset, StreamedDataset
from mollify_jax.data.decoding import decode_images
from mollify_jax.data.facts import (
  CORRUPTED,
  FACTS,
  IMAGENET_MEAN,
  IMAGENET_STD,
  Facts,
)
from mollify_jax.errors import one_line

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
  root, directory = _find(name, data_dir, NAMES[name])
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
  root, directory = _find(name, data_dir, NAMES[name])
  return _stream(name, root, directory, FACTS[name], image_size)


def load_other(
  tfds_name: str, data_dir: str | os.PathLike, cache_dir: str | os.PathLike
) -> Dataset:
  """Reads any prepared data set of images of one size, with labels.

  Args:
    tfds_name: as tfds calls it; 'name/config' is one of its configs.
    data_dir, cache_dir: as for `load`.

  Returns:
    The data set. Its splits are `train`, and `test` or else `validation`;
    mean and std are those of the training pixels.

  Raises:
    ValueError, FileNotFoundError: as `load`, or it lacks such splits, or the
      features `image` and `label`.
  """
  root, directory = _find(tfds_name, data_dir, tfds_name)
  return cache.load_or_make(
    cache_dir,
    tfds_name,
    _digest(directory),
    lambda: _read(tfds_name, root, directory, None),
  )


def stream_other(
  tfds_name: str, data_dir: str | os.PathLike, image_size: int
) -> StreamedDataset:
  """Opens any prepared data set of images with labels; see `stream`.

  mean and std are ImageNet's, since nothing has been decoded.

  Raises:
    ValueError, FileNotFoundError: as `load_other` and `stream`.
  """
  root, directory = _find(tfds_name, data_dir, tfds_name)
  return _stream(tfds_name, root, directory, None, image_size)


def load_corrupted(
  name: str, config: str, data_dir: str | os.PathLike
) -> tuple[np.ndarray, np.ndarray]:
  """One prepared config of a corrupted test set; see `corrupted`.

  Args:
    name: one of `facts.CORRUPTED`.
    config: such as 'fog_3'.
    data_dir: as for `load`.

  Returns:
    (uint8[N, H, W, C], int32[N]), in the order of the files.

  Raises:
    ValueError, FileNotFoundError: as `load`.
  """
  root, directory = _find(name, data_dir, f'{name}/{config}')
  clean = FACTS[CORRUPTED[name].clean]
  split = CORRUPTED[name].split
  tfds, builder, records_of, _ = _open(
    name, root, directory, clean, {split: clean.test_examples}
  )
  with _reading(name, root, directory):
    encoded, labels = records_of(tfds, builder, split)
  with _naming(directory):
    images, _ = decode_images(split, encoded, clean.image_shape[:2])
    dataset.check_labels(split, labels, len(images), len(clean.class_names))
  return images, labels


def _find(
  name: str, data_dir: str | os.PathLike, folder: str
) -> tuple[pathlib.Path, pathlib.Path]:
  """(data_dir, directory of the newest version in that folder of it)."""
  root = pathlib.Path(
    data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
  ).expanduser()
  directory = _newest_version(root / folder)
  if directory is None:
    wanted = root / folder / 'VERSION' / 'dataset_info.json'
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
  name: str, root: pathlib.Path, directory: pathlib.Path, facts: Facts | None
) -> Dataset:
  """Both splits of one prepared version; without facts, its own are used."""
  tfds, builder, records_of, facts = _open(name, root, directory, facts)
  with _reading(name, root, directory):
    records = [records_of(tfds, builder, split) for split in facts.split_sizes]
  size = facts.image_shape[:2]
  with _naming(directory):
    arrays = []
    for split, (encoded, labels) in zip(
      facts.split_sizes, records, strict=True
    ):
      images, _ = decode_images(split, encoded, None if None in size else size)
      if facts.image_shape[2] == 1:
        images = np.ascontiguousarray(images[..., :1])
      arrays += [images, labels]
    mean, std = facts.mean, facts.std
    if not mean:
      mean, std = dataset.channel_statistics(arrays[0])
    return Dataset(
      name,
      *arrays,
      class_names=facts.class_names,
      mean=mean,
      std=std,
      fingerprint=dataset.fingerprint(*arrays),
    )


def _stream(
  name: str,
  root: pathlib.Path,
  directory: pathlib.Path,
  facts: Facts | None,
  image_size: int,
) -> StreamedDataset:
  """Both splits of one prepared version in random access."""
  tfds, builder, records_of, facts = _open(name, root, directory, facts)
  if records_of is not _records:
    raise ValueError(
      f'{str(directory)!r} is not prepared as {FILE_FORMAT}, and nothing else '
      f'can be streamed; move it away and {_advice(name, root)}'
    )
  train, test = (_source(tfds, builder, split) for split in facts.split_sizes)
  return StreamedDataset(
    name=name,
    train_source=train,
    test_source=test,
    image_size=image_size,
    class_names=facts.class_names
    or tuple(builder.info.features['label'].names),
    mean=facts.mean or IMAGENET_MEAN,
    std=facts.std or IMAGENET_STD,
    fingerprint=_digest(directory),
  )


def _open(
  name: str,
  root: pathlib.Path,
  directory: pathlib.Path,
  facts: Facts | None,
  split_sizes: Mapping[str, int] | None = None,
) -> tuple[Any, Any, Callable[..., tuple[list[bytes], np.ndarray]], Facts]:
  """(tfds, the builder of a version, what reads its splits, its facts)."""
  tfds = _import_tfds(name)
  with _reading(name, root, directory):  # JSON, protobuf, tfds' own
    builder = tfds.builder_from_directory(directory)
    formats = [entry.value for entry in builder.info.available_file_formats()]
  records_of = _records
  if FILE_FORMAT not in formats:
    records_of = _tfrecords
    if importlib.util.find_spec('tensorflow') is None:
      raise ValueError(
        f'{str(directory)!r} is prepared as {", ".join(formats)}, which takes '
        "TensorFlow to read: pip install 'mollify_jax[tensorflow]'; or move "
        f'it away and {_advice(name, root)}'
      )
  _check_features(directory, builder.info)
  if facts is None:
    facts = _facts_of(directory, builder.info)
  _check_info(directory, builder.info, facts, split_sizes or facts.split_sizes)
  return tfds, builder, records_of, facts


def _facts_of(directory: pathlib.Path, info: Any) -> Facts:
  """What a directory says of itself; mean and std are left empty."""
  splits = [split for split in ('test', 'validation') if split in info.splits]
  if 'train' not in info.splits or not splits:
    raise ValueError(
      f'{str(directory)!r} has the splits {", ".join(info.splits)}, wanted '
      'train, and test or validation; take another data set'
    )
  return Facts(
    class_names=tuple(info.features['label'].names),
    mean=(),
    std=(),
    train_examples=info.splits['train'].num_examples,
    test_examples=info.splits[splits[0]].num_examples,
    image_shape=tuple(info.features['image'].shape),
    test_split=splits[0],
  )


@contextlib.contextmanager
def _reading(
  name: str, root: pathlib.Path, directory: pathlib.Path
) -> Iterator[None]:
  """One line of whatever goes wrong; C++ errors arrive as RuntimeError."""
  try:
    yield
  except Exception as error:
    raise ValueError(
      f'{str(directory)!r} cannot be read ({one_line(error)}); delete it, '
      f'then {_advice(name, root)}'
    ) from error


@contextlib.contextmanager
def _naming(directory: pathlib.Path) -> Iterator[None]:
  """Puts the directory before the messages raised inside."""
  try:
    yield
  except ValueError as error:
    raise ValueError(f'{str(directory)!r}: {error}') from error


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


def _check_features(directory: pathlib.Path, info: Any) -> None:
  """Refuses what is no set of labelled images."""
  missing = [
    key
    for key, attribute in (('image', 'shape'), ('label', 'names'))
    if key not in info.features or not hasattr(info.features[key], attribute)
  ]
  if missing:
    raise ValueError(
      f'{str(directory)!r} lacks the features {", ".join(missing)}; wanted an '
      'image and a class label per example; take another data set'
    )


def _check_info(
  directory: pathlib.Path,
  info: Any,
  facts: Facts,
  wanted: Mapping[str, int],
) -> None:
  """Compares what tfds wrote down of its files with the facts."""
  sizes = {
    split: info.splits[split].num_examples if split in info.splits else 0
    for split in wanted
  }
  if sizes != wanted:
    raise ValueError(
      f'{str(directory)!r} holds {sizes!r} examples, wanted {wanted!r}; delete '
      'it and prepare all of it again'
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


def _advice(name: str, root: pathlib.Path) -> str:
  """What to run, for the end of a message."""
  if name in STREAMED or (name not in NAMES and name not in CORRUPTED):
    return (
      f'run `tfds build {NAMES.get(name, name)} --file_format={FILE_FORMAT} '
      f'--data_dir={root}`, which needs TensorFlow and the original archives'
    )
  return (
    f'run `python -m mollify_jax.data.prepare {name} --data_dir={root}` '
    '(--archives=DIR where there is no network), or use an .npz file '
    "(name='archive')"
  )
