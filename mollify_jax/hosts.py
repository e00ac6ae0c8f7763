"""Several processes, one per host: how they meet, agree and end together."""

import atexit
import contextlib
import json
import os
import sys
import threading
import time
import traceback
import zlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

_FAILURE = 'mollify_jax/failure'
_END = 'mollify_jax/end'
# A host that hears of a failure may be about to report one of its own, which
# says more; so it has some time.
_GRACE_SECONDS = 3.0
# How much longer process 0 stays than the others, which end at the same time.
_LAST_SECONDS = 2.0


def check_equal(what: str, value: Any) -> None:
  """Refuses, on every host at once, what differs between the hosts.

  Without this they would part ways and wait for each other for ever.

  Args:
    what: for the message: `the hosts differ in ...`.
    value: anything with a telling `repr`.

  Raises:
    ValueError: the hosts' values differ.
  """
  if jax.process_count() == 1:
    return
  digest = np.uint32(zlib.crc32(repr(value).encode()))
  digests = multihost_utils.process_allgather(digest)
  if (digests != digests[0]).any():
    raise ValueError(
      f'the hosts differ in {what}; this one, {jax.process_index()}, has '
      f'{value!r}; make them equal'
    )


def join(
  distributed: bool,
  coordinator: str | None,
  num_processes: int | None,
  process_id: int | None,
  timeout_seconds: int = 300,
) -> None:
  """Makes this process one of several, if any argument says so.

  Args:
    distributed: the hosts of a TPU pod or a Slurm job find each other.
    coordinator: HOST:PORT of process 0, elsewhere.
    num_processes: how many there are.
    process_id: which this one is, from 0.
    timeout_seconds: how long to wait for the others at the start, and how long
      after one of them has gone silent all others end.

  Raises:
    ValueError: flags that do not go together, no pod or job is found, or the
      others do not come.
  """
  if timeout_seconds < 1:
    raise ValueError(
      f'--host_timeout={timeout_seconds} must be >= 1, in seconds'
    )
  told = (coordinator, num_processes, process_id)
  if not distributed and told == (None, None, None):
    return
  if not distributed:
    host, _, port = (coordinator or '').rpartition(':')
    if None in told or not host or not port.isdecimal():
      raise ValueError(
        f'--coordinator={coordinator} --num_processes={num_processes} '
        f'--process_id={process_id}: wanted all three, the first as HOST:PORT '
        'of process 0; or --distributed on a TPU pod or under Slurm'
      )
    if not 0 <= process_id < num_processes:
      raise ValueError(
        f'--process_id={process_id} must be in [0, {num_processes - 1}], with '
        f'--num_processes={num_processes}'
      )
  waiting = threading.Timer(
    timeout_seconds, _give_up_waiting, (*told, timeout_seconds)
  )
  waiting.daemon = True
  waiting.start()
  try:
    jax.distributed.initialize(
      *told,
      initialization_timeout=timeout_seconds + 60,  # ours comes first
      heartbeat_timeout_seconds=timeout_seconds,
      shutdown_timeout_seconds=timeout_seconds,
    )
  except (ValueError, RuntimeError) as error:
    raise ValueError(
      f'cannot join the other hosts ({error}); where there is no TPU pod and '
      'no Slurm, give --coordinator=HOST:PORT, --num_processes and --process_id'
    ) from error
  finally:
    waiting.cancel()
  ended = threading.Event()
  listener = threading.Thread(
    target=_listen, args=(_client(), ended), daemon=True
  )
  listener.start()
  # Before JAX's own farewell, which was registered before.
  atexit.register(lambda: (ended.set(), listener.join()))


def _give_up_waiting(coordinator, num_processes, process_id, seconds):
  """Ends the process with one line, where JAX would abort with a core dump."""
  who = 'this process'
  if coordinator is not None:
    who = (
      f'process {process_id} of {num_processes}, with '
      f'--coordinator={coordinator},'
    )
  print(
    f'error: {who} waited {seconds} s for the others; start them all with the '
    'same coordinator, each with a process id of its own from 0 on, or raise '
    '--host_timeout',
    file=sys.stderr,
    flush=True,
  )
  os._exit(1)


@contextlib.contextmanager
def fail_together() -> Iterator[None]:
  """Ends all processes if one of several ends by an error.

  At a normal end this one would wait for the others, and they for it, in the
  middle of a step. The others print what this one died of: the note of a
  SystemExit (see `stopping.end`), or the error, whose traceback is printed
  here. Of a process that dies without a word, JAX itself tells the others once
  its heartbeat is missed, and aborts them.
  """
  try:
    yield
  except BaseException as error:
    if jax.process_count() == 1:
      raise
    status, line = 1, f'{type(error).__name__}: {error}'
    if isinstance(error, SystemExit):
      status = error.code if isinstance(error.code, int) else 1
      line = ' '.join(getattr(error, '__notes__', [line]))
    else:
      traceback.print_exc()
      if isinstance(error, jax.errors.JaxRuntimeError):
        print(
          'error: if this was a read or a reduction, another process has died; '
          'look at its output',
          file=sys.stderr,
        )
    _tell_others(status, line)
    _leave(status)


def _leave(status):
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)


def _client():
  """JAX's key-value store, which has no public name."""
  from jax._src import distributed

  return distributed.global_state.client


def _tell_others(status, line):
  """Publishes why this process ends; returns when they have had time to read.

  Process 0 holds the store, and the end of any process breaks the collectives
  of the others before they know why.
  """
  told = {'process': jax.process_index(), 'status': status, 'line': line}
  with contextlib.suppress(Exception):  # another one was first
    _client().key_value_set(_FAILURE, json.dumps(told))
  with contextlib.suppress(Exception):  # not all come, or the store is gone
    _client().wait_at_barrier(_END, int(1000 * (_GRACE_SECONDS + 1)))
  if jax.process_index() == 0:
    # JAX aborts whoever is still there when the store goes.
    time.sleep(_LAST_SECONDS)


def _listen(client, ended):
  """Ends this process when another one has told of its end."""
  told = None
  # No blocking read: Python must not exit while a thread is inside one.
  while told is None:
    if ended.wait(0.5):
      return
    with contextlib.suppress(Exception):  # there is no such key, all is well
      told = json.loads(client.key_value_try_get(_FAILURE))
  if told['process'] == jax.process_index():
    return
  time.sleep(_GRACE_SECONDS)
  print(
    f'{"error" if told["status"] == 1 else "stopped"}: process '
    f'{told["process"]} ended: {told["line"]}',
    file=sys.stderr,
  )
  _leave(told['status'])
