"""The data sets that a configuration can name."""

import dataclasses
import os

import numpy as np

from mollify_jax.data import archives, digits, folder, splits, tfds_source
from mollify_jax.data.dataset import SPLITS, Dataset, StreamedDataset

NAMES = ('digits', 'archive', 'folder', 'tfds', *tfds_source.NAMES)
EVALUATE_ON = ('test', 'validation')


@dataclasses.dataclass(frozen=True)
class DataSpec:
  """Which data set, and how much of it.

  Attributes:
    name: one of NAMES. `digits` comes with scikit-learn, `archive` is an
      .npz file (see `archives`), `folder` has a folder per class (see
      `folder`), `tfds` is any prepared data set of labelled images, and so
      are the others, of which more is known.
    path: of the archive or the folder; the name of the `tfds` data set.
    data_dir: where tfds keeps its data sets; '' is tfds' own default.
    image_size: height and width that the images of a folder, and all images
      that are streamed, are resized and cropped to; 0 takes them as they are,
      which a stream cannot.
    test_fraction: of each class of a folder without train and test, in [0, 1).
    num_workers: processes that decode a stream; 0 is this one.
    train_examples: the first n of the training split; 0 is all. Of a folder,
      which is sorted by class, n that a fixed seed draws.
    test_examples: likewise of the test split.
    validation_fraction: of every class of the training split, held out, in
      [0, 1); 0 trains on all of it. Which examples it is depends on
      `validation_seed` alone.
    validation_seed: of that choice.
    evaluate_on: `test`, or `validation`, on which hyperparameters are chosen.

  Raises:
    ValueError: an unknown name (the choices are listed), no path for an
      archive, a negative number of examples, or nothing held out that could
      be evaluated on.
  """

  name: str = 'digits'
  path: str = ''
  data_dir: str = ''
  image_size: int = 0
  test_fraction: float = 0.0
  num_workers: int = 2
  train_examples: int = 0
  test_examples: int = 0
  validation_fraction: float = 0.0
  validation_seed: int = 0
  evaluate_on: str = 'test'

  def __post_init__(self):
    if self.name not in NAMES:
      raise ValueError(
        f'unknown data set {self.name!r}; choose from {", ".join(NAMES)}'
      )
    kinds = {
      'archive': 'the path of an .npz file',
      'folder': 'the path of a folder of class folders',
      'tfds': "tfds' name of it as its path",
    }
    if self.name in kinds and not self.path:
      raise ValueError(
        f'data set {self.name!r} needs {kinds[self.name]}, got '
        f'path={self.path!r}'
      )
    if self.path and self.name not in kinds:
      raise ValueError(
        f'path={self.path!r} is for the data sets {", ".join(kinds)}, got '
        f'name={self.name!r}; choose one of them, or leave the path empty'
      )
    if not 0 <= self.test_fraction < 1:
      raise ValueError(
        f'test_fraction must be in [0, 1), got {self.test_fraction!r}'
      )
    for field in ('image_size', 'num_workers'):
      if getattr(self, field) < 0:
        raise ValueError(f'{field} must be >= 0, got {getattr(self, field)!r}')
    for field in ('train_examples', 'test_examples'):
      if getattr(self, field) < 0:
        raise ValueError(
          f'{field} must be >= 0 (0 is all), got {getattr(self, field)!r}'
        )
    if not 0 <= self.validation_fraction < 1:
      raise ValueError(
        'validation_fraction must be in [0, 1), got '
        f'{self.validation_fraction!r}'
      )
    if not 0 <= self.validation_seed < 2**32:
      raise ValueError(
        f'validation_seed must be in [0, 2^32), got {self.validation_seed!r}'
      )
    if self.evaluate_on not in EVALUATE_ON:
      raise ValueError(
        f'unknown evaluate_on {self.evaluate_on!r}; choose from '
        f'{", ".join(EVALUATE_ON)}'
      )
    if self.evaluate_on == 'validation' and not self.validation_fraction:
      raise ValueError(
        "evaluate_on='validation' with validation_fraction=0.0; hold out a "
        'fraction, for instance 0.1'
      )


def load(spec: DataSpec, cache_dir: str | os.PathLike) -> Dataset:
  """Reads a data set into host memory.

  mean and std stay those of the whole training split when only a part of it
  is taken, so that runs on parts can be compared. The `test` arrays are those
  to evaluate on: with evaluate_on='validation' they are the held-out part,
  which the `validation` arrays are in any case.

  Args:
    spec: what to read.
    cache_dir: where decoded images may be kept; made when needed.

  Raises:
    ValueError, TypeError, OSError: the data is missing, damaged or not of
      the expected form, or smaller than what was asked for; one line says
      what to do.
  """
  if spec.image_size and spec.name != 'folder':
    raise ValueError(
      f'image_size={spec.image_size!r} is for folders and streams; data set '
      f"{spec.name!r} is read as it is: set it to 0, or config.feed='streaming'"
    )
  if spec.name == 'digits':
    dataset = digits.load()
  elif spec.name == 'archive':
    dataset = archives.load(spec.path, cache_dir)
  elif spec.name == 'folder':
    dataset = folder.load(
      spec.path,
      cache_dir,
      image_size=spec.image_size or None,
      test_fraction=spec.test_fraction,
    )
  elif spec.name == 'tfds':
    dataset = tfds_source.load_other(spec.path, spec.data_dir, cache_dir)
  else:
    dataset = tfds_source.load(spec.name, spec.data_dir, cache_dir)
  return _hold_out(_first(dataset, spec), spec)


def can_stream(spec: DataSpec) -> bool:
  """Whether `stream` takes this data set."""
  return spec.image_size > 0 and spec.name not in ('digits', 'archive')


def must_stream(spec: DataSpec) -> bool:
  """Whether only `stream` takes it: decoded, it is beyond any memory."""
  return spec.name in tfds_source.STREAMED


def stream(spec: DataSpec) -> StreamedDataset:
  """Opens a data set whose images are decoded while training runs.

  Args:
    spec: what to read; `can_stream`.

  Raises:
    ValueError, OSError: as for `load`; or it is none to stream.
  """
  if spec.name in ('digits', 'archive'):
    raise ValueError(
      f"data set {spec.name!r} cannot be streamed; take config.feed='auto'"
    )
  if not can_stream(spec):
    raise ValueError(
      f'data set {spec.name!r} with image_size={spec.image_size!r} cannot be '
      'streamed; give folders and tfds data sets an image_size, for instance '
      '224'
    )
  if spec.name == 'folder':
    streamed = folder.stream(
      spec.path, spec.image_size, test_fraction=spec.test_fraction
    )
  elif spec.name == 'tfds':
    streamed = tfds_source.stream_other(
      spec.path, spec.data_dir, spec.image_size
    )
  else:
    streamed = tfds_source.stream(spec.name, spec.data_dir, spec.image_size)
  return _hold_out_stream(_first_of_stream(streamed, spec), spec)


def _first(dataset: Dataset, spec: DataSpec) -> Dataset:
  """The first spec.train_examples and spec.test_examples, 0 being all."""
  changes = {}
  for split in SPLITS:
    taken = _taken(spec, split, len(getattr(dataset, f'{split}_labels')))
    if taken is not None:
      for kind in ('images', 'labels'):
        field = f'{split}_{kind}'
        changes[field] = getattr(dataset, field)[taken]
      fingerprint = changes.get('fingerprint', dataset.fingerprint)
      changes['fingerprint'] = f'{fingerprint}-{split}[:{len(taken)}]'
  return dataclasses.replace(dataset, **changes)


def _first_of_stream(
  streamed: StreamedDataset, spec: DataSpec
) -> StreamedDataset:
  """The same of a stream."""
  changes = {}
  for split in SPLITS:
    source = getattr(streamed, f'{split}_source')
    taken = _taken(spec, split, len(source))
    if taken is not None:
      changes[f'{split}_source'] = splits.Subset(source, taken)
      fingerprint = changes.get('fingerprint', streamed.fingerprint)
      changes['fingerprint'] = f'{fingerprint}-{split}[:{len(taken)}]'
  return dataclasses.replace(streamed, **changes)


def _taken(spec: DataSpec, split: str, available: int) -> np.ndarray | None:
  """Indices of the examples taken of a split; None is all of them."""
  wanted = getattr(spec, f'{split}_examples')
  if wanted > available:
    raise ValueError(
      f'{split}_examples={wanted!r} is more than the {split} split of '
      f'{spec.name!r} holds; wanted at most {available}, or 0 for all'
    )
  if wanted in (0, available):
    return None
  if spec.name == 'folder':
    return np.random.RandomState(0).permutation(available)[:wanted]
  return np.arange(wanted)


def _hold_out(dataset: Dataset, spec: DataSpec) -> Dataset:
  """Takes the validation examples out of training, to evaluate or not."""
  fraction, seed = spec.validation_fraction, spec.validation_seed
  if not fraction:
    return dataset
  kept, held = splits.hold_out(dataset.train_labels, fraction, seed)
  changes = {
    'train_images': dataset.train_images[kept],
    'train_labels': dataset.train_labels[kept],
    'validation_images': dataset.train_images[held],
    'validation_labels': dataset.train_labels[held],
    'fingerprint': f'{dataset.fingerprint}-train-{fraction:g}/{seed}',
  }
  if spec.evaluate_on == 'validation':
    changes['test_images'] = changes['validation_images']
    changes['test_labels'] = changes['validation_labels']
    changes['fingerprint'] += '-validation'
  return dataclasses.replace(dataset, **changes)


def _hold_out_stream(
  streamed: StreamedDataset, spec: DataSpec
) -> StreamedDataset:
  """The same of a stream, whose labels nobody has read: of all examples."""
  fraction, seed = spec.validation_fraction, spec.validation_seed
  if not fraction:
    return streamed
  source = streamed.train_source
  kept, held = splits.hold_out(np.zeros(len(source), int), fraction, seed)
  changes = {
    'train_source': splits.Subset(source, kept),
    'validation_source': splits.Subset(source, held),
    'fingerprint': f'{streamed.fingerprint}-train-{fraction:g}/{seed}',
  }
  if spec.evaluate_on == 'validation':
    changes['test_source'] = changes['validation_source']
    changes['fingerprint'] += '-validation'
  return dataclasses.replace(streamed, **changes)
