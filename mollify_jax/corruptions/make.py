r"""Writes a test set under corruptions, in the layout of CIFAR-10-C.

  python -m mollify_jax.corruptions.make --dataset=digits --out=DIR

DIR/gaussian_noise.npy   one per corruption: uint8[5 N, H, W, C], severities 1
                         to 5 one after the other
DIR/labels.npy           the N test labels five times
DIR/manifest.json        what it is, of what and how it was made
DIR/.parts/              what a killed make goes on from; gone at the end

The images are those that evaluation generates: each depends on the seed, the
corruption, the severity and its position in the test set, and on nothing else.
"""

import argparse
import contextlib
import dataclasses
import fcntl
import hashlib
import io
import os
import pathlib
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

import mollify_jax
from mollify_jax import corruptions, errors
from mollify_jax.corruptions.severities import (
  CORRUPTIONS,
  EXTRA_CORRUPTIONS,
  PARAMETER_SETS,
  SEVERITIES,
  nearest_parameters,
  select_corruptions,
)
from mollify_jax.data import catalog, corrupted_manifest
from mollify_jax.data.catalog import DataSpec
from mollify_jax.data.corrupted_manifest import File, Manifest
from mollify_jax.data.dataset import Dataset
from mollify_jax.evaluation import reports
from mollify_jax.progress import Progress

ALL = CORRUPTIONS + EXTRA_CORRUPTIONS
PROGRAM = 'python -m mollify_jax.corruptions.make'
LABELS = 'labels.npy'
PARTS = '.parts'

# A user can mend these; anything else is a bug and keeps its traceback.
USER_ERRORS = (ValueError, TypeError, OSError, ImportError)

# What makes two sets different ones.
_IDENTITY = (
  'dataset',
  'num_examples',
  'image_shape',
  'num_classes',
  'fingerprint',
  'seed',
  'parameters',
)


def make(
  spec: DataSpec,
  out: str | os.PathLike,
  *,
  seed: int = 0,
  names: Sequence[str] = CORRUPTIONS,
  parameters: str = 'auto',
  batch_size: int = 500,
  command: str = PROGRAM,
  say: Callable[[str], object] = print,
) -> None:
  """Makes what is missing of a folder; what is whole stays.

  A killed make goes on at the next severity. Nothing bears its final name
  before it is whole.

  Args:
    spec: the clean data set; its test split is corrupted. What is decoded of
      it is kept in `mollify_cache` beside `out`.
    out: the folder; made when needed.
    seed: of all randomness, in [0, 2^32).
    names: of corruptions.
    parameters: a name in `PARAMETER_SETS`; 'auto' is the set made for the size
      nearest to the images'.
    batch_size: images per call, >= 1; changes no image.
    command: for the manifest.
    say: is told what happens, one line at a time.

  Raises:
    ValueError, TypeError: an argument, the data set, or a folder that holds
      another set.
    OSError: the disk is full, the folder cannot be written, another process
      writes into it, or the data is missing.
  """
  _check_arguments(spec, seed, names, parameters, batch_size)
  out = pathlib.Path(out).expanduser()
  with _claimed(out):
    existing = _read_manifest(out)
    data = catalog.load(spec, out.parent / 'mollify_cache')
    wanted = _describe(data, seed, parameters)
    _check_identity(out, existing, wanted)
    size = wanted.parameters_size
    if wanted.image_shape[:2] != (size, size):
      height, width = wanted.image_shape[:2]
      say(
        f'images are {height} x {width}, and the parameters '
        f'{wanted.parameters!r} were published for {size} x {size}'
      )
    maker = _Maker(out, existing or wanted, data, batch_size, say)
    maker.make(dict.fromkeys(names), command)
  say(f'{wanted.title} is in {out}')


class _Maker:
  """Fills one folder that nobody else writes into."""

  def __init__(
    self,
    out: pathlib.Path,
    manifest: Manifest,
    data: Dataset,
    batch_size: int,
    say: Callable[[str], object],
  ):
    self._out = out
    self._parts = out / PARTS
    self._manifest = manifest
    self._images = data.test_images
    self._labels = data.test_labels
    self._batch_size = min(batch_size, data.num_test)
    self._say = say
    self._cell_bytes = self._images.nbytes

  def make(self, names: Sequence[str], command: str) -> None:
    labels = _npy_of(_labels_array(self._labels, self._manifest.num_classes))
    missing = [name for name in names if not self._is_whole(f'{name}.npy')]
    skipped = {}
    unavailable = corruptions.unavailable(
      self._images.shape[1:], self._manifest.parameters
    )
    for name, reason in unavailable.items():
      if name in missing:
        if len(names) == 1:
          raise ValueError(reason)
        skipped[name] = reason
        missing.remove(name)
        self._say(f'{name}: skipped; {reason}')
    kept = len(names) - len(missing) - len(skipped)
    if kept:
      self._say(f'kept {kept} of {len(names)} corruptions in {self._out}')
    is_labelled = self._is_whole(LABELS)
    is_complete = is_labelled and not missing
    self._begin(names, skipped, '' if is_complete else command)
    try:
      if not is_labelled:
        with _explaining(self._out):
          self._finish(LABELS, [labels])
      if missing:
        self._make_corruptions(missing)
      with _explaining(self._out):
        shutil.rmtree(self._parts)
    finally:
      with contextlib.suppress(OSError):  # whole parts are kept
        self._parts.rmdir()

  def _make_corruptions(self, missing: Sequence[str]) -> None:
    count = len(self._labels)
    cells = [(name, severity) for name in missing for severity in SEVERITIES]
    done = count * sum(self._has_part(*cell) for cell in cells)
    if done:
      self._say(f'going on after {done // count} of {len(cells)} parts')
    self._check_space(cells)
    total = count * len(cells)
    with Progress('corrupting', total, done=done) as progress:
      for name in missing:
        for severity in SEVERITIES:
          if self._has_part(name, severity):
            continue
          begin = done

          def advance(images, begin=begin, cell=f'{name} {severity}'):
            progress.update(begin + images, cell)

          self._write_part(name, severity, advance)
          done += count
        with _explaining(self._out):
          self._finish(f'{name}.npy', self._joined(name))
          for severity in SEVERITIES:
            self._part(name, severity).unlink()

  def _begin(
    self, names: Sequence[str], skipped: dict[str, str], command: str
  ) -> None:
    """Writes down what this folder is before anything else is in it.

    Args:
      names: asked for.
      skipped: why some of them are left out.
      command: '' if no file will be made.
    """
    old = self._manifest
    environments = old.environments
    if command and (environment := _environment()) not in environments[-1:]:
      environments += (environment,)
      # Parts of a file come from one environment.
      with _explaining(self._out):
        if self._parts.exists():
          if any(self._parts.iterdir()):
            self._say('parts made by other versions are made again')
          shutil.rmtree(self._parts)
    still_skipped = {
      name: reason for name, reason in old.skipped.items() if name not in names
    }
    self._manifest = dataclasses.replace(
      old,
      corruptions=tuple(dict.fromkeys([*old.corruptions, *names])),
      skipped={**still_skipped, **skipped},
      environments=environments,
      command=command or old.command,
    )
    with _explaining(self._out):
      if self._manifest != old or not self._is_described():
        corrupted_manifest.write(self._out, self._manifest)
      self._parts.mkdir(exist_ok=True)

  def _is_described(self) -> bool:
    return (self._out / corrupted_manifest.FILE_NAME).exists()

  def _is_whole(self, file_name: str) -> bool:
    """Whether a file is finished; one that is not of this set is refused."""
    path = self._out / file_name
    if path.is_dir():
      raise IsADirectoryError(
        f'{str(path)!r} is a directory; wanted a file or nothing there; move '
        'it away, or choose another --out'
      )
    if file_name not in self._manifest.files:
      if path.exists():
        raise ValueError(
          f'{str(path)!r} is not in the manifest of its folder; move it away, '
          'or choose another --out'
        )
      return False
    damage = corrupted_manifest.damage(self._out, self._manifest, file_name)
    if damage and path.exists():
      self._say(f'{file_name} {damage}; it is made again')
    return not damage

  def _part(self, name: str, severity: int) -> pathlib.Path:
    return self._parts / f'{name}_{severity}'

  def _has_part(self, name: str, severity: int) -> bool:
    path = self._part(name, severity)
    return path.is_file() and path.stat().st_size == self._cell_bytes

  def _write_part(
    self, name: str, severity: int, advance: Callable[[int], object]
  ) -> None:
    """One severity, without a header."""
    with _explaining(self._out):
      part = self._part(name, severity)
      with _replacing(part, part.with_name(f'{part.name}.tmp')) as file:
        written = 0
        for images in self._corrupted(name, severity):
          file.write(np.ascontiguousarray(images).data)
          written += len(images)
          advance(written)

  def _corrupted(self, name: str, severity: int) -> Iterator[np.ndarray]:
    """uint8[b, H, W, C] of one batch after the other."""
    count = len(self._labels)
    pending = None
    for begin in range(0, count, self._batch_size):
      # The last batch repeats its last image: one shape is compiled.
      indices = np.minimum(
        np.arange(begin, begin + self._batch_size), count - 1
      )
      images = corruptions.corrupt_batch(
        corruptions.cell_keys(self._manifest.seed, name, severity, indices),
        self._images[indices],
        name,
        severity,
        self._manifest.parameters,
      )
      # The device works on this batch while the one before is written.
      if pending is not None:
        yield np.asarray(pending)
      pending = images[: count - begin]
    yield np.asarray(pending)

  def _joined(self, name: str) -> Iterator[bytes]:
    """The bytes of a whole .npy."""
    shape = (len(SEVERITIES) * len(self._labels), *self._images.shape[1:])
    yield _npy_header(np.dtype(np.uint8), shape)
    for severity in SEVERITIES:
      with open(self._part(name, severity), 'rb') as part:
        while chunk := part.read(1 << 22):
          yield chunk

  def _finish(self, file_name: str, chunks: Iterator[bytes] | list) -> None:
    """Writes a file, then its entry in the manifest, then gives it its name."""
    digest = hashlib.sha256()
    num_bytes = 0
    temporary = self._parts / file_name
    with _replacing(self._out / file_name, temporary) as file:
      for chunk in chunks:
        digest.update(chunk)
        num_bytes += len(chunk)
        file.write(chunk)
      latest = len(self._manifest.environments) - 1
      entry = File(digest.hexdigest(), num_bytes, latest)
      self._manifest = dataclasses.replace(
        self._manifest, files={**self._manifest.files, file_name: entry}
      )
      corrupted_manifest.write(self._out, self._manifest)

  def _check_space(self, cells: Sequence[tuple[str, int]]) -> None:
    """Refuses what cannot fit; one file is there twice while it is joined."""
    missing = sum(not self._has_part(*cell) for cell in cells)
    needed = (missing + len(SEVERITIES)) * self._cell_bytes
    free = shutil.disk_usage(self._out).free
    if needed > free:
      raise OSError(
        f'{str(self._out)!r} needs {needed:,} bytes more, and {free:,} are '
        'free; make room or choose another --out, then run the same command '
        'again to go on'
      )


def _check_arguments(spec, seed, names, parameters, batch_size) -> None:
  unknown = [name for name in names if name not in ALL]
  if unknown or not names:
    problem = (
      f'unknown corruption {unknown[0]!r}' if unknown else 'no corruption'
    )
    raise ValueError(f'{problem}; choose from {", ".join(ALL)}')
  if parameters != 'auto' and parameters not in PARAMETER_SETS:
    raise ValueError(
      f'unknown parameters {parameters!r}; choose from auto, '
      f'{", ".join(PARAMETER_SETS)}'
    )
  if not 0 <= seed < 2**32:
    raise ValueError(f'seed must be in [0, 2^32), got {seed!r}; give another')
  if batch_size < 1:
    raise ValueError(
      f'batch_size must be >= 1, got {batch_size!r}; give another'
    )
  if catalog.must_stream(spec):
    raise ValueError(
      f'data set {spec.name!r} can only be streamed, and files are made of '
      'images in memory; put the images wanted into a folder and take '
      '--dataset=folder with an --image_size'
    )


def _describe(data: Dataset, seed: int, parameters: str) -> Manifest:
  """The manifest of a folder that has no file yet."""
  height, width, _ = data.image_shape
  if parameters == 'auto':
    parameters = nearest_parameters(height, width)
  # Whatever the kernels refuse, they refuse before a file is written.
  corruptions.unavailable(data.image_shape, parameters)
  return Manifest(
    dataset=data.name,
    fingerprint=corrupted_manifest.fingerprint(
      data.test_images, data.test_labels
    ),
    num_examples=data.num_test,
    image_shape=tuple(data.image_shape),
    num_classes=data.num_classes,
    seed=seed,
    parameters=parameters,
    parameters_size=PARAMETER_SETS[parameters].size,
  )


def _read_manifest(out: pathlib.Path) -> Manifest | None:
  """What is in the folder already; None is nothing."""
  manifest = corrupted_manifest.read(out)
  if manifest is None and any(out.glob('*.npy')):
    raise ValueError(
      f'{str(out)!r} holds .npy files that were not made here (there is no '
      f'{corrupted_manifest.FILE_NAME}); choose another --out'
    )
  return manifest


def _check_identity(
  out: pathlib.Path, found: Manifest | None, wanted: Manifest
) -> None:
  if found is None:
    return
  changed = []
  for field in _IDENTITY:
    old, new = getattr(found, field), getattr(wanted, field)
    if old != new:
      shown = field == 'fingerprint'
      changed.append(
        'other test images' if shown else f'{field} {old!r}, wanted {new!r}'
      )
  if changed:
    raise ValueError(
      f'{str(out)!r} holds another set ({"; ".join(changed)}); choose another '
      '--out, or delete that one'
    )


def _environment() -> dict[str, str]:
  """What the exact bytes may depend on."""
  found = reports.environment(jax.devices()[:1])
  names = ('jax', 'jaxlib', 'numpy', 'platform', 'device', 'commit')
  return {
    'mollify_jax': mollify_jax.__version__,
    **{name: found[name] for name in names},
  }


def _labels_array(labels: np.ndarray, num_classes: int) -> np.ndarray:
  """The published files' dtype, as long as it holds the labels."""
  dtype = np.uint8 if num_classes <= 256 else np.int64
  return np.tile(labels.astype(dtype), len(SEVERITIES))


def _npy_of(array: np.ndarray) -> bytes:
  file = io.BytesIO()
  np.save(file, array, allow_pickle=False)
  return file.getvalue()


def _npy_header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
  """What np.save writes before the values."""
  file = io.BytesIO()
  np.lib.format.write_array_header_1_0(
    file,
    {
      'descr': np.lib.format.dtype_to_descr(dtype),
      'fortran_order': False,
      'shape': shape,
    },
  )
  return file.getvalue()


@contextlib.contextmanager
def _replacing(path: pathlib.Path, temporary: pathlib.Path) -> Iterator[Any]:
  """A file that gets its name when the block ends well, else is deleted."""
  try:
    with open(temporary, 'wb') as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except BaseException:
    with contextlib.suppress(OSError):
      temporary.unlink()
    raise


@contextlib.contextmanager
def _explaining(out: pathlib.Path) -> Iterator[None]:
  """Says which folder could not be written, and why."""
  try:
    yield
  except OSError as error:
    raise OSError(
      f'cannot write into {str(out)!r} ({error.strerror or error}); make room '
      'or choose another --out, then run the same command again to go on'
    ) from error
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    raise ValueError(
      'a batch does not fit into the memory of the device; take a smaller '
      '--batch_size, and run the command again to go on'
    ) from error


@contextlib.contextmanager
def _claimed(out: pathlib.Path) -> Iterator[None]:
  """Makes the folder and keeps other processes out of it."""
  created = [path for path in (out, *out.parents) if not path.exists()]
  try:
    out.mkdir(parents=True, exist_ok=True)
    folder = os.open(out, os.O_RDONLY)
  except OSError as error:
    raise OSError(
      f'cannot write into {str(out)!r} ({error.strerror}); choose another --out'
    ) from error
  try:
    try:
      fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise OSError(
        f'another process writes into {str(out)!r}; wait for it, or choose '
        'another --out'
      ) from None
    except OSError:  # a file system without locks
      pass
    yield
  finally:
    # Only empty folders can be removed so.
    with contextlib.suppress(OSError):
      for path in created:
        path.rmdir()
    os.close(folder)


class _Parser(argparse.ArgumentParser):
  def error(self, message: str):
    raise ValueError(f'{message}; see --help')


def main(argv: Sequence[str] | None = None) -> int:
  """Returns the exit status."""
  parser = _Parser(
    prog=PROGRAM,
    description='Writes a test set under corruptions, as CIFAR-10-C is laid '
    'out. Run it again to go on after an interruption.',
  )
  add = parser.add_argument
  add('--dataset', required=True, help=', '.join(catalog.NAMES))
  add('--out', required=True, help='the folder that is written')
  add('--seed', type=int, default=0, help='of all randomness')
  add('--path', default='', help='of an archive or a folder; a name of tfds')
  add('--data_dir', default='', help="where tfds looks; '' is tfds' default")
  add('--image_size', type=int, default=0, help='images of a folder get it')
  add(
    '--test_fraction',
    type=float,
    default=0.0,
    help='of a folder that has no train and test',
  )
  add(
    '--corruptions',
    default='benchmark',
    help=f'benchmark, extra, all, or a comma list of {", ".join(ALL)}',
  )
  add(
    '--parameters',
    default='auto',
    help=f'auto (by image size), {", ".join(PARAMETER_SETS)}',
  )
  add('--batch_size', type=int, default=500, help='changes speed only')
  add('--test_examples', type=int, default=0, help='the first n; 0 is all')
  argv = sys.argv[1:] if argv is None else argv
  try:
    values = parser.parse_args(argv)
    spec = DataSpec(
      name=values.dataset,
      path=values.path,
      data_dir=values.data_dir,
      image_size=values.image_size,
      test_fraction=values.test_fraction,
      test_examples=values.test_examples,
    )
    make(
      spec,
      values.out,
      seed=values.seed,
      names=select_corruptions(values.corruptions),
      parameters=values.parameters,
      batch_size=values.batch_size,
      command=f'{PROGRAM} {shlex.join(argv)}',
      say=lambda line: print(line, flush=True),
    )
  except USER_ERRORS as error:
    print('error:', errors.describe(error), file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    print('interrupted; run the same command again to go on', file=sys.stderr)
    return 130
  return 0


if __name__ == '__main__':
  sys.exit(main())
