"""What a run writes down while it trains: metrics.jsonl and TensorBoard."""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np


class Journal:
  """Writes one JSON line per step.

  {"event": "train", "step": 1, "loss": ..., ...}; the last step of each
  compiled call also carries `seconds`, the wall time of the call, and
  `images_per_second`. {"event": "evaluate", ...} for each evaluation in
  between. Used as a context manager.
  """

  def __init__(
    self,
    directory: Path,
    *,
    first_step: int = 0,
    tensorboard: bool = False,
    active: bool = True,
  ):
    """Opens the journal of a run that goes on after `first_step` steps.

    Lines past that step, written before the run was cut, are dropped: the
    resumed run writes them again.

    Args:
      directory: the workdir; must exist.
      first_step: 0 for a new run.
      tensorboard: also write scalars for TensorBoard.
      active: False on all but one process of a multi-host run: write nothing.
    """
    self._step = first_step
    self._file = self._board = None
    path = Path(directory) / 'metrics.jsonl'
    kept = [line for line in read_lines(path) if line['step'] <= first_step]
    self._evaluated = max(
      (line['step'] for line in kept if line['event'] == 'evaluate'), default=0
    )
    if not active:
      return
    temporary = path.with_suffix('.jsonl.tmp')
    temporary.write_text(''.join(json.dumps(line) + '\n' for line in kept))
    os.replace(temporary, path)
    self._file = path.open('a')
    if tensorboard:
      from tensorboardX import SummaryWriter

      self._board = SummaryWriter(str(Path(directory) / 'tensorboard'))

  def __enter__(self) -> 'Journal':
    return self

  def __exit__(self, *exception) -> None:
    for resource in (self._file, self._board):
      if resource is not None:
        resource.close()

  @property
  def evaluated(self) -> int:
    """The step of the newest evaluation; 0 if there was none."""
    return self._evaluated

  def record_steps(
    self, metrics: dict[str, np.ndarray], batch_size: int, seconds: float
  ) -> None:
    """Writes the steps of one compiled call.

    Args:
      metrics: float[S] each.
      batch_size: over all devices.
      seconds: wall time of the call.
    """
    count = len(metrics['loss'])
    lines = [
      {
        'event': 'train',
        'step': self._step + i + 1,
        **{name: float(values[i]) for name, values in metrics.items()},
      }
      for i in range(count)
    ]
    lines[-1]['images_per_second'] = count * batch_size / seconds
    lines[-1]['seconds'] = seconds
    self._step += count
    self._write(lines)

  def record_evaluation(self, metrics: dict[str, float]) -> None:
    """Writes one evaluation after the steps recorded so far.

    A figure that is not finite is left out: JSON has neither NaN nor infinity.
    """
    self._evaluated = self._step
    finite = {k: v for k, v in metrics.items() if math.isfinite(v)}
    self._write([{'event': 'evaluate', 'step': self._step, **finite}])

  def _write(self, lines: list[dict[str, Any]]) -> None:
    if self._file is None:
      return
    self._file.write(''.join(json.dumps(line) + '\n' for line in lines))
    self._file.flush()
    if self._board is None:
      return
    for line in lines:
      event, step = line['event'], line['step']
      for name in line.keys() - {'event', 'step'}:
        self._board.add_scalar(f'{event}/{name}', line[name], step)


def read_lines(path: Path) -> list[dict[str, Any]]:
  """The lines of a metrics.jsonl; a last line cut by a crash is left out."""
  if not Path(path).exists():
    return []
  lines = []
  for text in Path(path).read_text().splitlines():
    try:
      lines.append(json.loads(text))
    except json.JSONDecodeError:
      break
  return lines
