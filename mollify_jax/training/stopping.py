"""How a run ends early: SIGTERM, SIGINT, a preemption notice, an error.

The first signal ends the run in good order: while training, after the step
under way and a checkpoint; elsewhere at once, for what is done there is made
again. The second one ends the process at once.
"""

import os
import signal
import sys
import threading
from types import TracebackType
from typing import NoReturn

import jax
from jax.experimental import multihost_utils

# EX_TEMPFAIL of sysexits.h: not a failure; run the same command again.
EXIT_STATUS = 75
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def end(message: str, status: int = 1) -> NoReturn:
  """Ends the process with one line on stderr: 1 is an error."""
  line = ' '.join('; '.join(message.strip().splitlines()).split())
  print('error:' if status == 1 else 'stopped:', line, file=sys.stderr)
  leave = SystemExit(status)
  leave.add_note(line)  # for the other hosts
  raise leave


class Interrupted(KeyboardInterrupt):
  """A signal or a preemption notice ended the run; what it had saved is kept.

  No Exception, so that nobody takes it for a failure of their own.
  """


class StopRequest:
  """Waits for a signal, as a context manager in the main thread.

  Several processes agree on when to stop: there JAX has SIGTERM, as the notice
  of a preemption that may reach one of them only, and SIGINT is passed on to
  it.
  """

  def __init__(self, workdir: str):
    """`workdir` is for the message."""
    self._workdir = workdir
    self._received: signal.Signals | None = None
    self._deferring = False
    self._asked = False

  def __enter__(self) -> 'StopRequest':
    self._before = {}
    if threading.current_thread() is not threading.main_thread():
      return self  # Python delivers signals to the main thread only
    self._several = jax.process_count() > 1
    handled = (signal.SIGINT,) if self._several else _SIGNALS
    for number in handled:
      self._before[number] = signal.signal(number, self._receive)
    # The handler runs between two lines of Python, which a long compilation
    # keeps waiting; a second signal must not wait.
    self._read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    self._write_end = write_end
    self._wakeup = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    threading.Thread(target=self._watch, daemon=True).start()
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
  ) -> None:
    if not self._before:
      return
    signal.set_wakeup_fd(self._wakeup)
    for number, handler in self._before.items():
      signal.signal(number, handler)
    os.close(self._write_end)  # which ends the thread

  def deferring(self) -> '_Deferred':
    """Inside, the first signal is only noted; see `asked`."""
    return _Deferred(self)

  def asked(self, step: int) -> bool:
    """Whether to stop after this step; the same in all processes.

    Args:
      step: how many steps are done; every process has to ask after the same
        ones.
    """
    if not self._asked:
      if jax.process_count() > 1:
        self._asked = multihost_utils.reached_preemption_sync_point(step)
      else:
        self._asked = self._received is not None
    return self._asked

  def stop(self, where: str) -> NoReturn:
    """Ends the run.

    Raises:
      Interrupted: always.
    """
    name = self._received.name if self._received else 'a preemption notice'
    raise Interrupted(
      f'by {name} {where}; run the same command again to go on in '
      f'{self._workdir}'
    )

  def _receive(self, number, frame):
    del frame
    self._received = signal.Signals(number)
    if self._several and self._deferring:
      os.kill(os.getpid(), signal.SIGTERM)  # to JAX, which tells the others
    if not self._deferring:
      self.stop('outside training; what was being done there begins anew')
    print(
      f'{self._received.name}: saving a checkpoint after this step; once more '
      'ends the process at once',
      file=sys.stderr,
      flush=True,
    )

  def _watch(self):
    signals = 0
    while byte := os.read(self._read_end, 1):
      signals += byte[0] in _SIGNALS
      if signals == 2:
        os._exit(128 + byte[0])
    os.close(self._read_end)


class _Deferred:
  def __init__(self, request: StopRequest):
    self._request = request

  def __enter__(self) -> None:
    self._request._deferring = True

  def __exit__(self, *_) -> None:
    self._request._deferring = False
