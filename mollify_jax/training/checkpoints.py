"""Saving and restoring the training state; the only file that says orbax."""

import contextlib
import errno
import hashlib
import logging
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from mollify_jax import errors
from mollify_jax.parallel import to_host
from mollify_jax.training.state import TrainState

UNREADABLE = 'unreadable_checkpoints'
# What says nothing about a checkpoint: the next attempt may find it whole.
_PASSING = (
  errno.EACCES,
  errno.EPERM,
  errno.EMFILE,
  errno.ENFILE,
  errno.ENOMEM,
  errno.ENOSPC,
  errno.EDQUOT,
  errno.EROFS,
  errno.EIO,
  errno.ESTALE,
  errno.ETIMEDOUT,
)


class _OtherNetworkError(ValueError):
  """A checkpoint is whole, and not of what is being trained."""


class Checkpoints:
  """The checkpoints of one run, newest last; the newest is always kept.

  States are saved as NumPy copies: orbax commits a checkpoint atomically (a
  directory that appears by renaming), and host copies let training donate
  the state's buffers while a background thread writes. Each carries a digest
  of its values, because what a disk or a copy has damaged may still decode,
  and one of its structure, which tells damage from another network.
  """

  def __init__(
    self,
    directory: Path,
    *,
    keep: int = 2,
    strict: bool = True,
    warn: Callable[[str], object] = lambda line: None,
  ):
    """Opens, or creates, a directory that keeps the `keep` newest states.

    Args:
      directory: of the checkpoints.
      keep: how many.
      strict: whether a damaged checkpoint is an error. Otherwise it is moved
        out of the way, to `unreadable_checkpoints` beside the directory, and
        the one before it counts as the newest.
      warn: receives one line for each that is moved, or that is used though
        it has no digest: versions before this one wrote none.

    Raises:
      ValueError: a checkpoint is damaged, if `strict`.
      OSError: one cannot be read now; nothing is moved.
    """
    # Orbax and its thread pool narrate every save at INFO, and what we report
    # ourselves as errors.
    logging.getLogger('absl').setLevel(logging.CRITICAL)
    _expect_orphans()
    self._directory = Path(directory).absolute()
    if self._directory.exists() and not self._directory.is_dir():
      raise NotADirectoryError(
        f'{self._directory} is a file; wanted the directory of the checkpoints '
        'of this run; move it away'
      )
    self._strict = strict
    self._warn = warn
    self._failed = False  # to write
    self._check_labels()
    self._manager = ocp.CheckpointManager(
      self._directory,
      item_handlers=ocp.StandardCheckpointHandler(),
      options=ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        step_prefix='step',
        cleanup_tmp_directories=True,
      ),
    )

  def latest_step(self) -> int | None:
    """The newest complete checkpoint's step; None if there is none."""
    return self._manager.latest_step()

  def save(self, state: TrainState) -> None:
    """Copies the state to the host and starts writing it.

    Raises:
      OSError: this one or the one before it cannot be written.
    """
    state = to_host(state)
    with self._explaining():
      self._manager.save(
        int(state.step),
        args=ocp.args.StandardSave(state),
        custom_metadata={
          _DIGEST: _digest(state),
          _STRUCTURE: _structure_digest(_structure(_plain(state))),
        },
      )

  def restore(self, like: TrainState) -> TrainState:
    """The newest whole checkpoint, as NumPy arrays shaped as those of `like`.

    Raises:
      FileNotFoundError: there is no checkpoint.
      ValueError: none that is whole, or the newest is of another network.
      OSError: the newest cannot be read now; nothing is moved.
    """
    template = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    damaged = ''
    while (step := self.latest_step()) is not None:
      try:
        return self._restore_step(step, template)
      except _OtherNetworkError:
        raise
      # Storage raises what it likes; whatever it is, this one is lost.
      except Exception as error:
        damaged = self._set_aside(step, error)
        self._manager.reload()
    if damaged:
      raise ValueError(
        f'{damaged}, and there is no other to go on from; it lies in '
        f'{self._directory.parent / UNREADABLE} now; train in another workdir, '
        'or put a whole copy back'
      )
    raise FileNotFoundError(
      f'no checkpoint under {self._directory}; train first'
    )

  def close(self) -> None:
    """Waits for the last save and frees the threads.

    Raises:
      OSError: it cannot be written.
    """
    try:
      with self._explaining():
        self._manager.wait_until_finished()
    finally:
      self._manager.close()
      if self._failed:  # threads that were still writing are done now
        self._remove_unfinished()

  @contextlib.contextmanager
  def _explaining(self):
    """Says in one line what the system refused while a checkpoint was written.

    Nothing of it stays.
    """
    try:
      yield
    except Exception as error:  # storage raises what it likes
      number = _system_error(error)
      if number is None:
        raise
      self._failed = True
      self._remove_unfinished()
      raise OSError(
        f'cannot write a checkpoint into {self._directory} '
        f'({os.strerror(number)}); {errors.remedy(number)}'
      ) from error

  def _remove_unfinished(self):
    if jax.process_index() == 0:
      for path in self._directory.glob('*.orbax-checkpoint-tmp'):
        shutil.rmtree(path, ignore_errors=True)

  def _restore_step(self, step, template):
    label = self._manager.metadata(step)
    if label.commit_timestamp_nsecs is None:  # which orbax does not mind
      raise ValueError('its label is missing or damaged')
    saved = label.custom_metadata or {}
    description = self._manager.item_metadata(step)
    if description is None:
      raise ValueError('the description of its structure is missing')
    found = _structure(description.tree)
    # Whoever is silent about its structure is believed.
    if saved.get(_STRUCTURE, '') not in ('', _structure_digest(found)):
      raise ValueError('its structure does not match the digest of it')
    difference = _difference(found, _structure(_plain(template)))
    if difference:
      raise _OtherNetworkError(
        f'checkpoint {self._path(step)} is of another network or optimizer '
        f'({difference}); put back the config and the code that it was trained '
        'with, or choose another --workdir'
      )
    state = self._manager.restore(step, args=ocp.args.StandardRestore(template))
    if _DIGEST not in saved:
      self._warn(
        f'checkpoint {self._path(step)} is from a version that wrote no '
        'digest, so nobody can tell whether it is undamaged; going on from it'
      )
    elif saved[_DIGEST] != _digest(state):
      raise ValueError('its values do not match their digest')
    return state

  def _path(self, step: int) -> Path:
    return self._directory / f'step_{step}'

  def _check_labels(self):
    """Finds checkpoints that orbax itself would stumble over."""
    if not self._directory.is_dir():
      return
    names = ocp.path.step.standard_name_format(step_prefix='step')
    for found in names.find_all(self._directory):
      try:
        found.commit_timestamp_nsecs  # noqa: B018 - reads the label
      except Exception as error:
        self._set_aside(found.step, error)

  def _set_aside(self, step, error):
    """Moves a damaged checkpoint away; says which, and why."""
    path = self._path(step)
    _refuse_passing(path, error)
    reason = (str(error).strip() or repr(error)).splitlines()[0][:200]
    damaged = f'checkpoint {path} cannot be read ({reason})'
    if self._strict:
      raise ValueError(
        f'{damaged}; train on with the command without --mode, or restore it '
        'from a copy'
      ) from error
    self._warn(f'{damaged}; going on from the one before it')
    if jax.process_index() == 0:
      place = self._directory.parent / UNREADABLE / path.name
      place.parent.mkdir(exist_ok=True)
      shutil.rmtree(place, ignore_errors=True)  # an older one of this step
      path.rename(place)
    return damaged


def _refuse_passing(path, error):
  """Raises OSError where it may be the fault of the moment that reading failed.

  Storage may wrap what the system says, or give up before it asks; so the
  files are read here once more, too.
  """
  number = _system_error(error)
  if number not in _PASSING:
    number = _first_unreadable(path)
  if number in _PASSING:
    raise OSError(
      f'checkpoint {path} cannot be read now ({os.strerror(number)}), and is '
      f'left where it is; {errors.remedy(number)}'
    ) from error


def _system_error(error):
  """The `errno` that an error comes from, or None."""
  while error is not None:
    if isinstance(error, OSError) and error.errno:
      return error.errno
    # As TensorStore says.
    if match := re.search(r"os_error_code='(\d+)'", str(error)):
      return int(match[1])
    error = error.__cause__ or error.__context__
  return None


def _first_unreadable(path):
  """The `errno` that reading the files of a checkpoint gives, or None."""

  def fail(error):
    raise error

  try:
    for folder, _, files in os.walk(path, onerror=fail):
      for name in files:
        (Path(folder) / name).read_bytes()
  except OSError as error:
    return error.errno
  return None


def _expect_orphans():
  """Silences what ends, in threads, after the first of its kind failed.

  For the rest of the process: some take their time.
  """
  hook = sys.unraisablehook
  if getattr(hook, 'expects_orphans', False):
    return

  def report(unraisable):
    if str(unraisable.exc_value) != 'Event loop is closed':
      hook(unraisable)

  report.expects_orphans = True
  sys.unraisablehook = report


_DIGEST = 'sha256'
_STRUCTURE = 'structure_sha256'


def _plain(state):
  """The state as orbax keeps it: dicts and lists, without our classes."""
  return ocp.tree.serialize_tree(state, keep_empty_nodes=True)


def _structure(tree):
  """{name of a leaf: its type and shape}."""
  return {
    jax.tree_util.keystr(path, simple=True, separator='.'): (
      f'{np.dtype(leaf.dtype)} {tuple(leaf.shape)}'
    )
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def _structure_digest(structure):
  return hashlib.sha256(repr(sorted(structure.items())).encode()).hexdigest()


def _difference(found, wanted):
  """The first leaf in which two structures differ, for a message, or ''."""
  for name in sorted(found.keys() | wanted.keys()):
    old, new = (side.get(name, 'absent') for side in (found, wanted))
    if old != new:
      return f'{name} is {old}, wanted {new}'
  return ''


def _digest(state):
  """Over the names, types, shapes and bytes of all leaves."""
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(state):
    leaf = np.ascontiguousarray(leaf)
    what = f'{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape};'
    digest.update(what.encode())
    digest.update(leaf.data if leaf.ndim else leaf.tobytes())
  return digest.hexdigest()
