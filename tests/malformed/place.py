"""Where a case is set up: whole inputs to damage, and the commands."""

import os
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).parents[2]
# A run of two steps.
SHORT = (
  '--config.epochs=1',
  '--config.batch_size=16',
  '--config.data.train_examples=32',
  '--config.data.test_examples=20',
  '--config.eval.batch_size=20',
  '--config.eval.temperatures=(0.5,)',
  '--config.eval.every_epochs=0',
  '--config.eval.corruptions=none',
  '--config.steps_per_call=1',
  '--config.checkpoint_every_steps=1',
)


class Place(NamedTuple):
  """A folder for one case.

  Attributes:
    path: it may hold anything.
    whole: the folder of whole inputs, which must stay as they are.
  """

  path: Path
  whole: Path

  def copy(self, name: str) -> Path:
    """A copy of a whole input, to be damaged."""
    target = self.path / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if (self.whole / name).is_dir():
      shutil.copytree(self.whole / name, target)
    else:
      shutil.copy(self.whole / name, target)
    return target

  def train(self, *flags: str, config: str = 'digits.py') -> list[str]:
    """The trainer's command line, for a short run in `path/run`."""
    if not config.startswith('/'):
      config = f'{ROOT}/configs/{config}'
    where = (f'--config={config}', f'--workdir={self.path}/run')
    given = {flag.partition('=')[0] for flag in flags}
    # ml_collections joins tuples that are given twice.
    short = (flag for flag in SHORT if flag.partition('=')[0] not in given)
    return ['mollify_jax.main', *where, *short, *flags]

  def prepare(self, *names: str) -> list[str]:
    """That of `prepare`, from `path/archives` to `path/tfds`."""
    where = (f'--archives={self.path}/archives', f'--data_dir={self.path}/tfds')
    return ['mollify_jax.data.prepare', *names, *where]

  def make(self, *flags: str, dataset: str = 'digits') -> list[str]:
    """That of `make`, of brightness into `path/made`."""
    where = (f'--dataset={dataset}', f'--out={self.path}/made')
    return [
      'mollify_jax.corruptions.make',
      *where,
      '--test_examples=20',
      '--corruptions=brightness',
      *flags,
    ]


class Case(NamedTuple):
  """One malformed input.

  Attributes:
    set_up: makes it; returns the command line.
    megabytes: that the command may take beyond what an empty one takes.
    limits: of resources, for instance {'RLIMIT_FSIZE': 1000}.
    free: bytes on a disk of its own; None is no such disk.
    read_only: whether the folder of the case is mounted so.
    may_change: regular expression of paths that may come, go or change.
    slow: whether it is left to the long suite.
  """

  set_up: Callable[[Place], list[str]]
  megabytes: int = 700
  limits: Mapping[str, int] = {}
  free: int | None = None
  read_only: bool = False
  may_change: str = '(?!)'
  slow: bool = False


def keep(path: Path, length: int) -> None:
  """Cuts a file; a negative length is that of the lost end."""
  data = path.read_bytes()
  path.write_bytes(data[:length])


def flip(path: Path, at: float) -> None:
  """Turns over a bit at a share of the file's length."""
  data = bytearray(path.read_bytes())
  data[int(len(data) * at)] ^= 0x10
  path.write_bytes(data)


def damages(lengths=(0, 3, 0.5, -1), flips=()) -> dict[str, Callable]:
  """What can be done to any file: name -> what does it."""
  found = {}
  for length in lengths:
    share = isinstance(length, float)
    title = f'cut to {length:.0%}' if share else f'cut to {length} bytes'
    if not share and length < 0:
      title = f'cut by {-length} bytes'
    found[title] = lambda path, n=length, share=share: keep(
      path, int(path.stat().st_size * n) if share else n
    )
  for at in flips:
    found[f'a bit flipped at {at:.1%}'] = lambda path, at=at: flip(path, at)
  return found


def become_directory(path: Path) -> None:
  path.unlink()
  path.mkdir()


def forbid(path: Path) -> None:
  path.chmod(0)


class Payload:
  """Whoever unpickles it makes a file."""

  def __init__(self, path: Path):
    self.path = path

  def __reduce__(self):
    return os.mkdir, (str(self.path / 'executed'),)


def rewrite_npz(path: Path, changes: Mapping[str, np.ndarray | None]) -> None:
  """Writes an .npz anew with some arrays changed, added or left out (None)."""
  with np.load(path) as archive:
    arrays = dict(archive)
  arrays.update(changes)
  np.savez(path, **{k: a for k, a in arrays.items() if a is not None})


def npz_with_member(path: Path, name: str, data: bytes) -> None:
  """Replaces one member by other bytes."""
  with zipfile.ZipFile(path) as archive:
    members = {n: archive.read(n) for n in archive.namelist()}
  members[name] = data
  with zipfile.ZipFile(path, 'w') as archive:
    for member, content in members.items():
      archive.writestr(member, content)
