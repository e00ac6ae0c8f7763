"""Saving and restoring the training state; the only file that says orbax."""

import logging
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from mollify_jax.parallel import to_host
from mollify_jax.training.state import TrainState


class Checkpoints:
  """The checkpoints of one run, newest last; the newest is always kept.

  States are saved as NumPy copies: orbax commits a checkpoint atomically (a
  directory that appears by renaming), and host copies let training donate
  the state's buffers while a background thread writes.
  """

  def __init__(self, directory: Path, *, keep: int = 2):
    """Opens, or creates, a directory that keeps the `keep` newest states."""
    # Orbax and its thread pool narrate every save at INFO.
    logging.getLogger('absl').setLevel(logging.WARNING)
    self._manager = ocp.CheckpointManager(
      Path(directory).absolute(),
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
    self._manager.save(int(state.step), args=ocp.args.StandardSave(state))

  def restore(self, like: TrainState) -> TrainState:
    """The newest checkpoint, as NumPy arrays with the structure of `like`.

    Raises:
      FileNotFoundError: there is no checkpoint.
    """
    step = self.latest_step()
    if step is None:
      raise FileNotFoundError(
        f'no checkpoint under {self._manager.directory}; train first'
      )
    template = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    return self._manager.restore(step, args=ocp.args.StandardRestore(template))

  def close(self) -> None:
    """Waits for the last save and frees the threads."""
    self._manager.wait_until_finished()
    self._manager.close()
