r"""Turns the original archives into tfds directories, without TensorFlow.

  python -m mollify_jax.data.prepare cifar10 cifar10_corrupted \
    --archives=DIR --data_dir=DIR

Without --archives they are downloaded. What `tfds.data_source` and
`tfds_source.load` then find under data_dir is what tfds' own builders would
have written; data sets that tfds does not have come from `builders`.
"""

import argparse
import contextlib
import dataclasses
import fcntl
import io
import json
import os
import pathlib
import re
import secrets
import shutil
import sys
import time
import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from mollify_jax import errors
from mollify_jax.data import (
  cifar_originals,
  downloads,
  originals,
  tiny_imagenet_originals,
)
from mollify_jax.data.facts import CORRUPTED, FACTS, CorruptedFacts, Facts
from mollify_jax.data.originals import ORIGINALS, Original

NAMES = tuple(ORIGINALS)
FILE_FORMAT = 'array_record'
# Seconds between lines about a download.
REPORT_INTERVAL = 5.0

# A user can mend these; anything else is a bug and keeps its traceback.
USER_ERRORS = (ValueError, TypeError, OSError)

Examples = Callable[[], Iterator[tuple[int | str, Mapping[str, object]]]]


@dataclasses.dataclass(frozen=True)
class Published:
  """What is known of the data sets; tests put small ones here.

  Attributes:
    facts: of the clean data sets.
    corrupted: of the corrupted ones.
    originals: the archives of both.
  """

  facts: Mapping[str, Facts] = dataclasses.field(default_factory=lambda: FACTS)
  corrupted: Mapping[str, CorruptedFacts] = dataclasses.field(
    default_factory=lambda: CORRUPTED
  )
  originals: Mapping[str, Sequence[Original]] = dataclasses.field(
    default_factory=lambda: ORIGINALS
  )


PUBLISHED = Published()


def prepare(
  names: Sequence[str],
  data_dir: str | os.PathLike = '',
  archives: str | os.PathLike = '',
  *,
  trusted: Collection[str] = (),
  published: Published = PUBLISHED,
  say: Callable[[str], object] = print,
) -> None:
  """Writes data sets as tfds directories of array_record files.

  Each directory (of a version, and where there are configs of each) appears
  whole, by renaming. Those that are there and whole are kept. All archives
  are looked for before the first is read.

  Args:
    names: which, of NAMES.
    data_dir: where tfds keeps its data sets; '' is tfds' default: the
      environment variable TFDS_DATA_DIR, else ~/tensorflow_datasets.
    archives: the folder of the original archives; '' is `data_dir/downloads`,
      into which what is missing is downloaded.
    trusted: hex SHA-256 of archives to be taken though they are not the
      published ones.
    published: sizes, classes, digests and addresses.
    say: is told what happens, one line at a time.

  Raises:
    ValueError: an unknown name, tfds is not installed, an archive that is
      damaged or not the published one, or a directory that is whole but holds
      something else.
    OSError: an archive is not there or cannot be downloaded, the disk is full,
      or another process prepares the same data set.
  """
  unknown = [name for name in names if name not in NAMES]
  if unknown or not names:
    raise ValueError(
      f'unknown data set {unknown[0]!r}; choose from {", ".join(NAMES)}'
      if unknown
      else f'no data set was named; choose from {", ".join(NAMES)}'
    )
  root = pathlib.Path(
    data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
  ).expanduser()
  tasks = [_Task(name, root, published) for name in dict.fromkeys(names)]
  pending = []
  for task in tasks:
    kept = len(task.configs) - len(task.missing())
    if kept:
      say(f'{task.name}: kept {kept} of {len(task.configs)} in {task.home}')
    if kept < len(task.configs):
      pending.append(task)
  if archives:
    for task in pending:
      originals.find(task.name, archives, published.originals)
  for task in pending:
    begin = time.monotonic()
    with _locked(task.home) as is_alone:
      if is_alone:
        task.sweep()
      if not (missing := task.missing()):
        continue  # another process was faster
      path = _archive(task.name, root, archives, trusted, published, say)
      for config, splits, class_names in task.read(path, missing, say):
        task.write(config, splits, class_names)
        say(f'{task.name}: wrote {task.directory(config)}')
    say(f'{task.name}: done in {time.monotonic() - begin:.0f} s')


class _Task:
  """One data set under one root."""

  def __init__(self, name: str, root: pathlib.Path, published: Published):
    self._tfds = _import_tfds()
    self.name = name
    self.home = root / name
    self._corrupted = published.corrupted.get(name)
    if self._corrupted:
      self._facts = published.facts[self._corrupted.clean]
      self._sizes = {self._corrupted.split: self._facts.test_examples}
      self.configs = tuple(self._corrupted.configs)
    else:
      self._facts = published.facts[name]
      self._sizes = self._facts.split_sizes
      self.configs = (None,)  # tfds' name for what has no configs
    self._builder_class = _given_examples(self._tfds.builder_cls(name))

  def directory(self, config: str | None) -> pathlib.Path:
    """Where tfds looks for a config."""
    folder = self.home / config if config else self.home
    return folder / str(self._builder_class.VERSION)

  def missing(self) -> list[str | None]:
    """The configs that have to be written, whole directories being kept."""
    return [
      config
      for config in self.configs
      if not _is_whole(self._tfds, self.directory(config), self._sizes)
    ]

  def sweep(self) -> None:
    """Deletes what a killed run of this data set has left behind."""
    for path in self.home.glob('.*.tmp'):
      shutil.rmtree(path, ignore_errors=True)

  def read(
    self,
    path: pathlib.Path,
    missing: Sequence[str | None],
    say: Callable[[str], object],
  ) -> Iterator[
    tuple[str | None, dict[str, Examples], dict[str, tuple[str, ...]]]
  ]:
    """(config, examples of each split, class names to set) of an archive."""
    if self._corrupted is None:
      if self.name == 'tiny_imagenet':
        yield None, tiny_imagenet_originals.read(path, self._facts), {}
      else:
        cifar = cifar_originals.read(path, self.name, self._facts)
        yield None, cifar.splits(), dict(cifar.names)
      return
    arguments = (path, self._facts, self._corrupted, set(missing))
    if self._corrupted.clean == 'tiny_imagenet':
      configs = tiny_imagenet_originals.read_corrupted(
        *arguments, lambda line: say(f'{self.name}: {line}')
      )
    else:
      configs = cifar_originals.read_corrupted(*arguments)
    for config, examples in configs:
      yield config, {self._corrupted.split: examples}, {}

  def write(
    self,
    config: str | None,
    splits: Mapping[str, Examples],
    class_names: Mapping[str, tuple[str, ...]],
  ) -> None:
    """Writes one config, elsewhere at first, and moves it to its place."""
    staging = self.home / f'.{os.getpid()}-{secrets.token_hex(4)}.tmp'
    target = self.directory(config)
    try:
      with _explaining(target):
        written = _generate(
          self._tfds,
          self._builder_class,
          config,
          (splits, class_names),
          staging,
        )
        if not _is_whole(self._tfds, written, self._sizes):
          raise OSError('what was written cannot be read back')
        _move(written, target, staging / 'replaced')
        _copy_default_config(staging / self.name, self.home)
    finally:
      shutil.rmtree(staging, ignore_errors=True)


def _is_whole(tfds: Any, directory: pathlib.Path, sizes: dict) -> bool:
  """Whether a directory was prepared to its end.

  Raises:
    ValueError: it was, but is of another format or size.
  """
  path = directory / 'dataset_info.json'
  try:
    info = json.loads(path.read_text())
    found = {
      split['name']: sum(map(int, split['shardLengths']))
      for split in info['splits']
    }
    file_format = info['fileFormat']
    if file_format == FILE_FORMAT:
      builder = tfds.builder_from_directory(directory)
      for split in builder.info.splits.values():
        for file, length in zip(
          split.filepaths, split.shard_lengths, strict=True
        ):
          if _num_records(os.fspath(file)) != length:
            return False
  except Exception:  # no such file, JSON, protobuf, array_record: not whole
    return False
  if file_format != FILE_FORMAT or found != sizes:
    raise ValueError(
      f'{str(directory)!r} holds {found!r} examples as {file_format}, wanted '
      f'{sizes!r} as {FILE_FORMAT}; move it away or take another data_dir'
    )
  return True


def _num_records(path: str) -> int:
  from array_record.python import array_record_module

  reader = array_record_module.ArrayRecordReader(path)
  try:
    return reader.num_records()
  finally:
    reader.close()


def _given_examples(builder_class: type) -> type:
  """A builder class that differs only in where its examples come from.

  They are in the attribute `given` of a builder: (what starts the examples of
  each split, class names of label features that have none yet).
  """

  def split_generators(self, dl_manager):
    del dl_manager  # tfds' own would try a download for 204 seconds
    splits, class_names = self.given
    # Builders live on in cycles of references; their images must not.
    self.given = None
    for feature, names in class_names.items():
      self.info.features[feature].names = list(names)
    return {split: examples() for split, examples in splits.items()}

  def fill(namespace):
    namespace.update(
      __module__=builder_class.__module__,  # tfds writes it down
      name=builder_class.name,
      _split_generators=split_generators,
    )

  return types.new_class(
    builder_class.__name__,
    (builder_class,),
    {'skip_registration': True},
    fill,
  )


def _generate(
  tfds: Any,
  builder_class: type,
  config: str | None,
  given: tuple[Mapping[str, Examples], Mapping[str, tuple[str, ...]]],
  staging: pathlib.Path,
) -> pathlib.Path:
  """Has tfds write one config below a new folder; where, is returned."""
  staging.mkdir()
  builder = builder_class(
    config=config, data_dir=staging, file_format=FILE_FORMAT
  )
  builder.given = given
  # tfds announces downloads, of which there are none.
  with contextlib.redirect_stdout(io.StringIO()):
    builder.download_and_prepare(
      download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )
  return pathlib.Path(builder.data_dir)


def _move(
  source: pathlib.Path, target: pathlib.Path, replaced: pathlib.Path
) -> None:
  """Renames a directory into place, in that of a half-made one if need be."""
  target.parent.mkdir(exist_ok=True)
  if target.exists():
    target.rename(replaced)
  try:
    source.rename(target)
  except BaseException:
    with contextlib.suppress(OSError):
      target.parent.rmdir()
    raise


def _copy_default_config(source: pathlib.Path, home: pathlib.Path) -> None:
  """Tells tfds which config is meant when none is named."""
  metadata = pathlib.Path('.config') / 'metadata.json'
  if (source / metadata).exists() and not (home / metadata).exists():
    (home / '.config').mkdir(exist_ok=True)
    (source / metadata).rename(home / metadata)


@contextlib.contextmanager
def _explaining(target: pathlib.Path) -> Iterator[None]:
  """Says which directory could not be written, and why."""
  try:
    yield
  except (OSError, RuntimeError) as error:
    reason = getattr(error, 'strerror', None) or errors.one_line(error)
    # array_record says so in the middle of a long RuntimeError.
    if match := re.search(r'write\(\) failed: ([^;]+)', reason):
      reason = match[1]
    raise OSError(
      f'cannot write {str(target)!r} ({reason}); make room or choose another '
      'data_dir, then run the same command again'
    ) from error


@contextlib.contextmanager
def _locked(home: pathlib.Path) -> Iterator[bool]:
  """Makes a data set's folder and keeps other processes out of it.

  Yields:
    Whether there can be no other process: not every file system has locks.
  """
  created = not home.parent.exists()
  try:
    home.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise OSError(
      f'cannot make the folder {str(home)!r} ({error.strerror}); choose '
      'another data_dir'
    ) from error
  folder = os.open(home, os.O_RDONLY)
  try:
    try:
      fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
      is_alone = True
    except BlockingIOError as error:
      raise OSError(
        f'another process prepares {str(home)!r}; wait for it'
      ) from error
    except OSError:
      is_alone = False
    yield is_alone
  finally:
    # Only empty folders can be removed so.
    with contextlib.suppress(OSError):
      home.rmdir()
      if created:
        home.parent.rmdir()
    os.close(folder)


def _archive(
  name: str,
  root: pathlib.Path,
  archives: str | os.PathLike,
  trusted: Collection[str],
  published: Published,
  say: Callable[[str], object],
) -> pathlib.Path:
  """The verified archive of a data set, downloaded if it may be."""
  folder = pathlib.Path(archives) if archives else root / 'downloads'
  try:
    path, original = originals.find(name, folder, published.originals)
  except FileNotFoundError:
    if archives:
      raise
    original = published.originals[name][0]
    path = folder / original.file_name
    say(f'{name}: downloading {original.url}')
    downloads.fetch(
      original.url,
      path,
      check=lambda part: say(
        f'{name}: {originals.verify(part, original, trusted)}'
      ),
      report=_reporter(name, say),
    )
  else:
    say(f'{name}: checking {path}')
    say(f'{name}: {originals.verify(path, original, trusted)}')
  return path


def _reporter(
  name: str, say: Callable[[str], object]
) -> Callable[[int, int], None]:
  """Says how a download gets on, every few seconds."""
  start = time.monotonic()
  first = None
  shown = start

  def report(done: int, total: int) -> None:
    nonlocal first, shown
    now = time.monotonic()
    if first is None:
      first = done
    if now - shown >= REPORT_INTERVAL or done == total:
      shown = now
      rate = (done - first) / max(now - start, 1e-3)
      of_total = f' of {total >> 20}' if total else ''
      left = f', {(total - done) / rate:.0f} s left' if total and rate else ''
      say(f'{name}: {done >> 20}{of_total} MiB{left}')

  return report


def _import_tfds() -> Any:
  try:
    import array_record  # noqa: F401, tfds imports it late
    import tensorflow_datasets as tfds

    import mollify_jax.data.builders  # noqa: F401, for their names
  except ImportError as error:
    raise ValueError(
      'data sets are prepared with tensorflow_datasets, which cannot be '
      f"imported ({error}); pip install 'mollify_jax[data]'"
    ) from error
  return tfds


class _Parser(argparse.ArgumentParser):
  def error(self, message: str):
    raise ValueError(f'{message}; see --help')


def main(argv: Sequence[str] | None = None) -> int:
  """Returns the exit status."""
  parser = _Parser(
    prog='python -m mollify_jax.data.prepare',
    description='Turns original archives into tfds directories.',
  )
  parser.add_argument('names', nargs='*', help=', '.join(NAMES))
  parser.add_argument(
    '--archives', default='', help='their folder; without it, they are fetched'
  )
  parser.add_argument(
    '--data_dir', default='', help="where tfds looks; without it, tfds' default"
  )
  parser.add_argument(
    '--trust',
    metavar='SHA256',
    action='append',
    default=[],
    help='of an archive that is not the published one but right for you',
  )
  try:
    values = parser.parse_args(argv)
    _import_tfds().disable_progress_bar()
    prepare(
      values.names,
      values.data_dir,
      values.archives,
      trusted=values.trust,
      say=lambda line: print(line, flush=True),
    )
  except USER_ERRORS as error:
    print('error:', errors.describe(error), file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    print('error: interrupted; run it again to go on', file=sys.stderr)
    return 1
  return 0


if __name__ == '__main__':
  sys.exit(main())
