"""The data sets that a configuration can name."""

import dataclasses
import os

from mollify_jax.data import archives, digits, tfds_source
from mollify_jax.data.dataset import SPLITS, Dataset

NAMES = ('digits', 'archive', 'cifar10', 'cifar100')


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

  Raises:
    ValueError: an unknown name (the choices are listed), no path for an
      archive, or a negative number of examples.
  """

  name: str = 'digits'
  path: str = ''
  data_dir: str = ''
  train_examples: int = 0
  test_examples: int = 0

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


def load(spec: DataSpec, cache_dir: str | os.PathLike) -> Dataset:
  """Reads a data set into host memory.

  mean and std stay those of the whole training split when only its first
  examples are taken, so that runs on parts can be compared.

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
  return _first(dataset, spec)


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
