"""Progress for a person: a bar on a terminal, plain lines elsewhere."""

import sys
import time


class Progress:
  """Counts towards a total on stderr, with the time left.

  Used as a context manager. The pace is measured from the first update on,
  because what comes before it is mostly compilation.
  """

  # Seconds between plain lines; a log file wants few.
  _INTERVAL = 5.0

  def __init__(
    self, label: str, total: int, *, done: int = 0, active: bool = True
  ):
    """Starts at `done` of `total`; silent unless `active`."""
    self._label = label
    self._total = total
    self._active = active
    self._bar = None
    if active and sys.stderr.isatty():
      self._bar, self._task = _rich_bar(label, total, done)
    self._first: tuple[float, int] | None = None
    self._shown = -float('inf')

  def __enter__(self) -> 'Progress':
    if self._bar is not None:
      self._bar.start()
    return self

  def __exit__(self, *exception) -> None:
    if self._bar is not None:
      self._bar.stop()

  def update(self, done: int, detail: str = '') -> None:
    """Shows that `done` of the total are finished, with a few figures."""
    now = time.monotonic()
    left = self._time_left(now, done)
    if self._bar is not None:
      self._bar.update(self._task, completed=done, detail=detail, left=left)
    elif done >= self._total or now - self._shown >= self._INTERVAL:
      self._shown = now
      parts = [f'{self._label} {done}/{self._total}', detail, left]
      self.say('  '.join(part for part in parts if part))

  def say(self, message: str) -> None:
    """Prints one line, above the bar if there is one."""
    if self._bar is not None:
      self._bar.console.print(message, highlight=False, markup=False)
    elif self._active:
      print(message, file=sys.stderr, flush=True)

  def _time_left(self, now: float, done: int) -> str:
    if self._first is None:
      self._first = now, done
      return ''
    start, before = self._first
    if done <= before:
      return ''
    left = round((now - start) / (done - before) * (self._total - done))
    hours, left = divmod(left, 3600)
    minutes, seconds = divmod(left, 60)
    clock = f'{minutes:02d}:{seconds:02d}'
    return f'{hours}:{clock} left' if hours else f'{clock} left'


def _rich_bar(label: str, total: int, done: int):
  from rich import progress
  from rich.console import Console

  bar = progress.Progress(
    progress.TextColumn('{task.description}'),
    progress.BarColumn(),
    progress.MofNCompleteColumn(),
    progress.TextColumn('{task.fields[detail]}', markup=False),
    progress.TextColumn('{task.fields[left]}'),
    console=Console(stderr=True),
  )
  task = bar.add_task(
    label, total=total, completed=done, detail='compiling', left=''
  )
  return bar, task
