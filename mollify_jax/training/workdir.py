"""The directory of one run: whose it is, and that only one process group is in.

config.json   the config, as it was asked for
data.json     what the run reads, so that a resumed one reads the same
.lock         held while a run goes on
"""

import contextlib
import dataclasses
import fcntl
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from mollify_jax.data.dataset import Dataset, StreamedDataset
from mollify_jax.evaluation import reports
from mollify_jax.training.config import differences, run_spec


def check_config(
  directory: Path, config: Mapping[str, Any], *, but: Sequence[str] = ()
) -> None:
  """Refuses a workdir that holds a run of another config.

  Args:
    directory: the workdir.
    config: as asked for.
    but: sections in which they may differ.

  Raises:
    ValueError: the message names the fields; or it is not a directory.
  """
  if directory.exists() and not directory.is_dir():
    raise ValueError(
      f'--workdir={directory} is a file; name a directory for this run'
    )
  path = directory / 'config.json'
  if but and not path.exists():
    raise ValueError(
      f'--workdir={directory} holds no run; name that of a finished training'
    )

  def compared(config):
    # With what fields had before they could be set.
    whole = json.loads(json.dumps(dataclasses.asdict(run_spec(config))))
    return {name: whole[name] for name in whole if name not in but}

  changed = path.exists() and differences(
    _compared_file(path, compared), compared(config)
  )
  if changed and all(line.startswith('eval.') for line in changed):
    raise ValueError(
      f'--workdir={directory} holds a run with another evaluation '
      f'({"; ".join(changed)}); --mode=evaluate evaluates a finished training '
      'so'
    )
  if changed:
    raise ValueError(
      f'--workdir={directory} holds a run of another config '
      f'({"; ".join(changed)}); choose another workdir, or delete that one'
    )


def _compared_file(path, compared):
  """What `compared` makes of the config in a file."""
  config = reports.read_json(path)
  try:
    return compared(config)
  except (ValueError, TypeError) as error:
    raise ValueError(
      f'{path} is damaged or of another version ({error}); choose another '
      'workdir, or delete that file to go on with the config given'
    ) from error


@contextlib.contextmanager
def claimed(
  directory: Path,
  config: Mapping[str, Any],
  dataset: Dataset | StreamedDataset,
  kind: str,
  *,
  new: bool = True,
) -> Iterator[None]:
  """Holds the workdir for this run; creates it where it is new.

  Only process 0 of several writes; `directory` is shared by all.

  Args:
    directory: the workdir.
    config: as asked for; see `check_config`.
    dataset: what the run reads.
    kind: its feed.
    new: whether a run may begin here. Otherwise the config that is there
      stays.

  An error before the first step of a new run leaves nothing of it.

  Raises:
    ValueError: another run is in the directory, or it was begun with other
      data.
    OSError: it cannot be written into.
  """
  if jax.process_index() != 0:
    yield
    return
  is_begun = (directory / 'config.json').exists()
  made = [path for path in (directory, *directory.parents) if not path.exists()]
  with locked(directory, create=True):
    _remove_leftovers(directory)
    try:
      _check_data(directory / 'data.json', _describe(dataset, kind))
      if new:
        reports.write_json(directory / 'config.json', config)
      yield
    except Exception:
      if not is_begun and not (directory / 'metrics.jsonl').exists():
        _remove_unbegun(directory, made)
      raise


@contextlib.contextmanager
def locked(directory: Path, *, create: bool = False) -> Iterator[None]:
  """Keeps other processes out of a workdir.

  Args:
    directory: the workdir.
    create: whether it may be new.

  Raises:
    ValueError: another process is in it.
    OSError: it cannot be written into.
  """
  try:
    if create:
      directory.mkdir(parents=True, exist_ok=True)
    lock = (directory / '.lock').open('w')
  except OSError as error:
    raise OSError(
      f'cannot write into --workdir={directory} ({error.strerror}); choose '
      'another one'
    ) from error
  with lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise ValueError(
        f'--workdir={directory} is in use by another process; wait for it, or '
        'choose another workdir'
      ) from None
    except OSError:  # a file system without locks
      pass
    yield


def _remove_unbegun(directory: Path, made: Sequence[Path]) -> None:
  """Deletes what says whose a run is that ended before its first step.

  Or the command, mended, would be refused as another one.
  """
  for name in ('config.json', 'data.json', '.lock'):
    (directory / name).unlink(missing_ok=True)
  with contextlib.suppress(OSError):  # what is not empty stays
    for path in (directory / 'checkpoints', *made):
      path.rmdir()


def _remove_leftovers(directory: Path) -> None:
  """Deletes files that a killed run had not yet renamed into place."""
  for path in directory.iterdir():
    # As tempfile.mkstemp names them in `reports` and `evaluator`.
    if path.is_file() and re.fullmatch(r'\..+\.\w+\.[a-z0-9_]{8}', path.name):
      path.unlink(missing_ok=True)


def _describe(dataset: Dataset | StreamedDataset, kind: str) -> dict[str, Any]:
  """What must not change between the parts of a run."""
  streamed = kind == 'streaming'
  return {
    'streamed': streamed,
    'train_examples': dataset.num_train,
    'test_examples': dataset.num_test,
    'classes': dataset.num_classes,
    'image_shape': list(dataset.image_shape),
    # Of a stream it changes with the place of the files.
    'fingerprint': None if streamed else dataset.fingerprint,
  }


def _check_data(path: Path, data: Mapping[str, Any]) -> None:
  """Compares with what the run began with, or writes that down."""
  if not path.exists():
    reports.write_json(path, data)
    return
  changed = differences(reports.read_json(path), data)
  if changed:
    raise ValueError(
      f'the run in {path.parent} began with other data or another feed '
      f'({"; ".join(changed)}); restore them (config.feed keeps a feed), or '
      'choose another workdir'
    )
