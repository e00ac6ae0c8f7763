"""What the devices did while a run trained, and how much of the time.

profile/      the trace, for XProf and TensorBoard
profile.json  first_step, steps, and what `summarize` makes of the trace
"""

import collections
from pathlib import Path
from typing import Any

import jax

from mollify_jax.evaluation import reports

_LONGEST = 20


class Profile:
  """Traces some steps of a run, after the first call, which compiles.

  Used as a context manager.
  """

  def __init__(self, workdir: Path, steps: int):
    """Traces at least `steps` steps, whole calls; 0 is none."""
    self._workdir = workdir
    self._wanted = steps
    self._first_step: int | None = None
    self._tracing = False

  def __enter__(self) -> 'Profile':
    return self

  def __exit__(self, *_) -> None:
    if self._tracing:
      jax.profiler.stop_trace()

  def after(self, step: int) -> str | None:
    """To be called after each call; a line for the user when all is traced."""
    if not self._wanted:
      return None
    if self._first_step is None:
      self._first_step = step
      options = jax.profiler.ProfileOptions()
      options.python_tracer_level = 0  # would slow down what is measured
      jax.profiler.start_trace(
        str(self._workdir / 'profile'), profiler_options=options
      )
      self._tracing = True
      return None
    steps = step - self._first_step
    if steps < self._wanted:
      return None
    self._wanted = 0
    self._tracing = False
    jax.profiler.stop_trace()
    traces = (self._workdir / 'profile').rglob('*.xplane.pb')
    newest = max(traces, key=lambda path: path.stat().st_mtime)
    record = {
      'first_step': self._first_step,
      'steps': steps,
      **summarize(jax.profiler.ProfileData.from_file(str(newest))),
    }
    reports.write_json(self._workdir / 'profile.json', record)
    share = record['busy_share']
    return f'profiled {steps} steps: the device worked ' + (
      'on nothing that the trace names'
      if share is None
      else f'{share:.1%} of the time'
    )


def summarize(data: jax.profiler.ProfileData) -> dict[str, Any]:
  """What compiled operations took.

  Returns:
    seconds: from the first operation to the last.
    busy_share: of these seconds, with at least one operation under way; the
      mean over devices, where those of a CPU count as one. None if the trace
      holds no operation.
    operations: the seconds of those that took longest, over all devices.
  """
  seconds, shares = 0.0, []
  operations = collections.Counter()
  for plane in data.planes:
    spans = []
    for line in plane.lines:
      for event in line.events:
        names = dict(event.stats)
        # Only compiled operations say from which one they come.
        if event.duration_ns and 'hlo_op' in names:
          start = event.start_ns
          spans.append((start, start + event.duration_ns))
          operations[names['hlo_op']] += event.duration_ns / 1e9
    if spans:
      whole = max(end for _, end in spans) - min(start for start, _ in spans)
      shares.append(_covered(spans) / whole)
      seconds = max(seconds, whole / 1e9)
  return {
    'seconds': seconds,
    'busy_share': sum(shares) / len(shares) if shares else None,
    'operations': dict(operations.most_common(_LONGEST)),
  }


def _covered(spans):
  """The length of the union of intervals."""
  covered, reached = 0.0, float('-inf')
  for start, end in sorted(spans):
    covered += max(0.0, end - max(start, reached))
    reached = max(reached, end)
  return covered
