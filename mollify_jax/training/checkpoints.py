"""Saving and restoring the training state; the only file that says orbax."""

import hashlib
import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from mollify_jax.parallel import to_host
from mollify_jax.training.state import TrainState

UNREADABLE = 'unreadable_checkpoints'


class Checkpoints:
  """The checkpoints of one run, newest last; the newest is always kept.

  States are saved as NumPy copies: orbax commits a checkpoint atomically (a
  directory that appears by renaming), and host copies let training donate
  the state's buffers while a background thread writes. Each carries a digest
  of its values, because what a disk or a copy has damaged may still decode.
  """

  def __init__(
    self,
    directory: Path,
    *,
    keep: int = 2,
    warn: Callable[[str], None] | None = None,
  ):
    """Opens, or creates, a directory that keeps the `keep` newest states.

    Args:
      directory: of the checkpoints.
      keep: how many.
      warn: receives one line for each checkpoint that turns out to be damaged.
        It is moved out of the way, to `unreadable_checkpoints` beside the
        directory, and the one before it counts as the newest. None: damage is
        an error, and nothing is moved.

    Raises:
      ValueError: a checkpoint is damaged and `warn` is None.
    """
    # Orbax and its thread pool narrate every save at INFO, and what we report
    # ourselves as errors.
    logging.getLogger('absl').setLevel(logging.CRITICAL)
    self._directory = Path(directory).absolute()
    self._warn = warn
    self._check_labels()
    self._manager = ocp.CheckpointManager(
      self._directory,
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
    """Copies the state to the host and starts writing it."""
    state = to_host(state)
    self._manager.save(
      int(state.step),
      args=ocp.args.StandardSave(state),
      custom_metadata={_DIGEST: _digest(state)},
    )

  def restore(self, like: TrainState) -> TrainState:
    """The newest whole checkpoint, as NumPy arrays shaped as those of `like`.

    Raises:
      FileNotFoundError: there is no checkpoint.
      ValueError: none that can be read.
    """
    template = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    damaged = ''
    _expect_orphans()
    while (step := self.latest_step()) is not None:
      try:
        return self._restore_step(step, template)
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
    """Waits for the last save and frees the threads."""
    self._manager.wait_until_finished()
    self._manager.close()

  def _restore_step(self, step, template):
    state = self._manager.restore(step, args=ocp.args.StandardRestore(template))
    saved = self._manager.metadata(step).custom_metadata or {}
    if _DIGEST not in saved:
      raise ValueError('it has no digest')
    if saved[_DIGEST] != _digest(state):
      raise ValueError('its values do not match their digest')
    return state

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
    path = self._directory / f'step_{step}'
    reason = (str(error).strip() or repr(error)).splitlines()[0][:200]
    damaged = f'checkpoint {path} cannot be read ({reason})'
    if self._warn is None:
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


def _expect_orphans():
  """Silences reads that end, in threads, after the first of them failed.

  For the rest of the process: some take their time.
  """
  hook = sys.unraisablehook

  def report(unraisable):
    if str(unraisable.exc_value) != 'Event loop is closed':
      hook(unraisable)

  sys.unraisablehook = report


_DIGEST = 'sha256'


def _digest(state):
  """Over the names, types, shapes and bytes of all leaves."""
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(state):
    leaf = np.ascontiguousarray(leaf)
    what = f'{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape};'
    digest.update(what.encode())
    digest.update(leaf.data if leaf.ndim else leaf.tobytes())
  return digest.hexdigest()
