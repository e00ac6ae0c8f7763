"""What a run writes down while it trains: metrics.jsonl and TensorBoard."""

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from mollify_jax.evaluation import reports


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
    reports.write_whole(path, _text(kept).encode())
    self._file = path.open('a')
    if tensorboard:
      from tensorboardX import SummaryWriter

      self._board = SummaryWriter(str(Path(directory) / 'tensorboard'))

  def __enter__(self) -> 'Journal':
    return self

  def __exit__(self, *exception) -> None:
    if self._file is not None:
      # What could not be written would be tried, and fail, again.
      with contextlib.suppress(OSError):
        self._file.close()
    if self._board is not None:
      self._board.close()

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
    try:
      self._file.write(_text(lines))
      self._file.flush()
    except OSError as error:  # which does not name the file
      error.filename = self._file.name
      raise
    if self._board is None:
      return
    for line in lines:
      event, step = line['event'], line['step']
      for name in line.keys() - {'event', 'step'}:
        self._board.add_scalar(f'{event}/{name}', line[name], step)


def _text(lines: list[dict[str, Any]]) -> str:
  return ''.join(json.dumps(line) + '\n' for line in lines)


def read_lines(path: Path) -> list[dict[str, Any]]:
  """The lines of a metrics.jsonl; a last line cut by a crash is left out.

  Raises:
    ValueError: another line is damaged.
    OSError: the file cannot be read.
  """
  if not Path(path).exists():
    return []
  texts = Path(path).read_bytes().splitlines(keepends=True)
  lines = []
  for number, text in enumerate(texts, start=1):
    try:
      line = json.loads(text)
      if line['event'] not in ('train', 'evaluate') or line['step'] < 0:
        raise ValueError('it is no event of this journal')
    # Text, and so anything, is in a line that is no object.
    except (ValueError, TypeError, KeyError, RecursionError) as error:
      if number == len(texts) and not text.endswith(b'\n'):
        break
      raise ValueError(
        f'line {number} of {path} is damaged ({type(error).__name__}: '
        f'{error}); wanted a step per line as JSON; remove that line, or move '
        'the file away, and run the same command again'
      ) from error
    lines.append(line)
  return lines
