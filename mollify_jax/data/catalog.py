"""The data sets that a configuration can name."""

import dataclasses
import os

from mollify_jax.data import archives, digits, splits, tfds_source
from mollify_jax.data.dataset import SPLITS, Dataset

NAMES = ('digits', 'archive', 'cifar10', 'cifar100')
EVALUATE_ON = ('test', 'validation')


@dataclasses.dataclass(frozen=True)
class DataSpec:
  """Which data set, and how much of it.

  Attributes:
    name: one of NAMES. `digits` comes with scikit-learn, `archive` is an
      .npz file (see `archives`), the CIFARs are read with tfds.
    path: the archive; only read when name is `archive`.
    data_dir: where tfds keeps its data sets; '' is tfds' own default.
    train_examples: the first n of the training split; 0 is all.
    test_examples: the first n of the test split; 0 is all.
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
    if self.name == 'archive' and not self.path:
      raise ValueError(
        f'data set {self.name!r} needs the path of an .npz file, got '
        f'path={self.path!r}'
      )
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
  to evaluate on: with evaluate_on='validation' they are the held-out part.

  Args:
    spec: what to read.
    cache_dir: where decoded images may be kept; made when needed.

  Raises:
    ValueError, TypeError, OSError: the data is missing, damaged or not of
      the expected form, or smaller than what was asked for; one line says
      what to do.
  """
  if spec.name == 'digits':
    dataset = digits.load()
  elif spec.name == 'archive':
    dataset = archives.load(spec.path, cache_dir)
  else:
    dataset = tfds_source.load(spec.name, spec.data_dir, cache_dir)
  return _hold_out(_first(dataset, spec), spec)


def _first(dataset: Dataset, spec: DataSpec) -> Dataset:
  """The first spec.train_examples and spec.test_examples, 0 being all."""
  changes = {}
  for split in SPLITS:
    wanted = getattr(spec, f'{split}_examples')
    available = len(getattr(dataset, f'{split}_labels'))
    if wanted > available:
      raise ValueError(
        f'{split}_examples={wanted!r} is more than the {split} split of '
        f'{spec.name!r} holds; wanted at most {available}, or 0 for all'
      )
    if 0 < wanted < available:
      for kind in ('images', 'labels'):
        field = f'{split}_{kind}'
        changes[field] = getattr(dataset, field)[:wanted]
      changes['fingerprint'] = (
        f'{changes.get("fingerprint", dataset.fingerprint)}-{split}[:{wanted}]'
      )
  return dataclasses.replace(dataset, **changes)


def _hold_out(dataset: Dataset, spec: DataSpec) -> Dataset:
  """Takes the validation examples out of training, to evaluate or not."""
  fraction, seed = spec.validation_fraction, spec.validation_seed
  if not fraction:
    return dataset
  kept, held = splits.hold_out(dataset.train_labels, fraction, seed)
  changes = {
    'train_images': dataset.train_images[kept],
    'train_labels': dataset.train_labels[kept],
    'fingerprint': f'{dataset.fingerprint}-train-{fraction:g}/{seed}',
  }
  if spec.evaluate_on == 'validation':
    changes['test_images'] = dataset.train_images[held]
    changes['test_labels'] = dataset.train_labels[held]
    changes['fingerprint'] += '-validation'
  return dataclasses.replace(dataset, **changes)
