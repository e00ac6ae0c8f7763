"""What a folder of corrupted test images that was made here says of itself.

manifest.json lies beside the .npy files of `mollify_jax.corruptions.make`. The
published folders have none, so the two are never mixed up.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from mollify_jax.data import dataset

FILE_NAME = 'manifest.json'
# Raise it when older manifests can no longer be read.
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class File:
  """One finished file.

  Attributes:
    sha256: of all its bytes, in hexadecimal.
    num_bytes: its size.
    environment: index into `Manifest.environments`, of where it was made.
  """

  sha256: str
  num_bytes: int
  environment: int


@dataclasses.dataclass(frozen=True)
class Manifest:
  """The facts of one folder.

  Attributes:
    dataset: name of the clean data set.
    fingerprint: of its test images and labels; see `fingerprint`.
    num_examples: test images under every corruption and severity.
    image_shape: (H, W, C).
    num_classes: labels are in [0, num_classes).
    seed: of all randomness.
    parameters: name of the set of parameters.
    parameters_size: height and width that set was published for, in pixels.
    corruptions: those asked for so far, in order.
    skipped: why one of them was left out.
    files: what is finished, by file name. An entry is written before its file
      gets its name.
    environments: versions and hardware, the latest last.
    command: the last one that made a file.
  """

  dataset: str
  fingerprint: str
  num_examples: int
  image_shape: tuple[int, int, int]
  num_classes: int
  seed: int
  parameters: str
  parameters_size: int
  corruptions: tuple[str, ...] = ()
  skipped: Mapping[str, str] = dataclasses.field(default_factory=dict)
  files: Mapping[str, File] = dataclasses.field(default_factory=dict)
  environments: tuple[Mapping[str, str], ...] = ()
  command: str = ''

  @property
  def title(self) -> str:
    """What tables call it: like the published set, but not that set."""
    return f'{self.dataset}-C-like'


def fingerprint(images: np.ndarray, labels: np.ndarray) -> str:
  """Tells clean test sets apart, whatever there is to train on.

  Args:
    images: uint8[N, H, W, C].
    labels: int32[N].

  Returns:
    Hexadecimal; it changes with the order, too.
  """
  return dataset.fingerprint(images, labels.astype(np.int32))


def read(folder: str | os.PathLike) -> Manifest | None:
  """The manifest of a folder; None if it has none.

  Raises:
    ValueError: it is damaged, of another format, or of something else.
    OSError: it cannot be read.
  """
  path = pathlib.Path(folder) / FILE_NAME
  try:
    text = path.read_text()
  except (FileNotFoundError, NotADirectoryError):
    return None
  except UnicodeDecodeError as error:
    raise ValueError(_not_ours(path, 'it is not text')) from error
  try:
    record = json.loads(text)
  except (ValueError, RecursionError) as error:
    raise ValueError(_not_ours(path, error)) from error
  if not isinstance(record, dict) or record.get('format') != FORMAT:
    raise ValueError(_not_ours(path, f'it is not of format {FORMAT}'))
  try:
    return _from_record(record)
  except (KeyError, TypeError, ValueError, AttributeError) as error:
    reason = f'{type(error).__name__}: {error}'
    raise ValueError(_not_ours(path, reason)) from error


def write(folder: str | os.PathLike, manifest: Manifest) -> None:
  """Writes it under a hidden name and renames it into place."""
  path = pathlib.Path(folder) / FILE_NAME
  # One process writes at a time; what a killed one left is written over.
  temporary = path.with_name(f'.{FILE_NAME}.tmp')
  record = {
    'format': FORMAT,
    'title': manifest.title,
    **dataclasses.asdict(manifest),
  }
  try:
    with open(temporary, 'w') as file:
      json.dump(record, file, indent=1)
      file.write('\n')
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except BaseException:
    with contextlib.suppress(OSError):
      temporary.unlink()
    raise


def damage(
  folder: str | os.PathLike,
  manifest: Manifest,
  file_name: str,
  *,
  checksum: bool = True,
) -> str:
  """What is wrong with a finished file, for the inside of a message.

  Args:
    folder: where it is.
    manifest: of the folder; has an entry for the file.
    file_name: such as 'fog.npy'.
    checksum: also compare SHA-256, for which all of the file is read.

  Returns:
    '' if nothing is.

  Raises:
    OSError: it cannot be read.
  """
  wanted = manifest.files[file_name]
  path = pathlib.Path(folder) / file_name
  if not path.is_file():
    return 'is not there'
  size = path.stat().st_size
  if size != wanted.num_bytes:
    return f'holds {size} bytes and not the {wanted.num_bytes} of its manifest'
  if checksum:
    with open(path, 'rb') as file:
      digest = hashlib.file_digest(file, 'sha256').hexdigest()
    if digest != wanted.sha256:
      return 'does not have the checksum of its manifest'
  return ''


def _from_record(record: dict[str, Any]) -> Manifest:
  fields = {field.name for field in dataclasses.fields(Manifest)}
  values = {name: record[name] for name in fields}
  values['image_shape'] = tuple(int(side) for side in record['image_shape'])
  if len(values['image_shape']) != 3:
    raise ValueError(f'image_shape is {record["image_shape"]!r}')
  for name in ('num_examples', 'num_classes', 'seed', 'parameters_size'):
    values[name] = int(record[name])
  for name in ('dataset', 'fingerprint', 'parameters', 'command'):
    if not isinstance(record[name], str):
      raise ValueError(f'{name} is {record[name]!r}')
  for name in ('corruptions', 'environments'):
    values[name] = tuple(record[name])
  values['files'] = {
    name: File(str(v['sha256']), int(v['num_bytes']), int(v['environment']))
    for name, v in record['files'].items()
  }
  values['skipped'] = dict(record['skipped'])
  return Manifest(**values)


def _not_ours(path: pathlib.Path, reason: object) -> str:
  return (
    f'{str(path)!r} is no manifest of corrupted test images '
    f'({" ".join(str(reason).split())}); make the set again in another folder'
  )
