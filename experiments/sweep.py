"""Many runs from one command: skipped, resumed, shared between machines.

A sweep is a list of jobs, each a run of `mollify_jax.main` in a directory of
its own. Whoever runs one claims it by a file, so that the same command may be
given on several machines that share the directory; a claim whose owner is gone
is taken over. What is finished is not run again, what was cut goes on.
"""

import contextlib
import dataclasses
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags as absl_flags
from ml_collections import config_flags

from mollify_jax.evaluation import reports, seeds
from mollify_jax.training.config import check_file, differences, run_spec
from mollify_jax.training.stopping import EXIT_STATUS

# A claim is renewed this often, and stale if it was not for so long.
RENEW_SECONDS = 30.0
STALE_SECONDS = 300.0


@dataclasses.dataclass(frozen=True)
class Job:
  """One run of a sweep.

  Attributes:
    name: of its directory, with the seed behind it.
    title: of its row in a table; runs that differ in the seed share it.
    seed: of the run.
    argument: FILE.py:VARIANT, for `--config`.
    flags: `--config.FIELD=VALUE`, in order; later ones win.
    fitted_on: the name of the job whose run the label schedule is fitted on
      beforehand; '' is the config's own schedule.
  """

  name: str
  title: str
  seed: int
  argument: str
  flags: tuple[str, ...] = ()
  fitted_on: str = ''

  @property
  def directory(self) -> str:
    return f'{self.name}-seed{self.seed}'

  @property
  def needs(self) -> str:
    """The directory of the run that must be finished before, or ''."""
    return self.fitted_on and f'{self.fitted_on}-seed{self.seed}'

  def config(self) -> dict[str, Any]:
    """The fields of its config, without a fitted schedule.

    Raises:
      ValueError, OSError: a config file, a variant or a field that does not
        exist, or a value that it cannot have.
    """
    check_file(self.argument)
    values = absl_flags.FlagValues()
    argv = ['', f'--config={self.argument}', *self.all_flags()]
    config_flags.DEFINE_config_file('config', flag_values=values, sys_argv=argv)
    try:
      with warnings.catch_warnings():
        # ml_collections loads the file by a method that Python will drop.
        warnings.simplefilter('ignore', DeprecationWarning)
        values(argv)
    except (KeyError, AttributeError) as error:
      field = str(error).rpartition('Attempting to lookup: ')[2].strip('"\'')
      raise ValueError(
        f'unknown config field {field} (see {self.argument})'
      ) from error
    except absl_flags.Error as error:
      raise ValueError(f'{str(error).rstrip("?. ")}; see --help') from error
    config = values.config.to_dict()
    run_spec(config)
    return config

  def all_flags(self) -> tuple[str, ...]:
    """Those of the job, and its seed."""
    return (*self.flags, f'--config.seed={self.seed}')


class Stopped(Exception):
  """A run was stopped by a signal; the sweep ends, to be gone on with."""


class Sweep:
  """The jobs of one command, in one directory."""

  def __init__(
    self,
    jobs: Sequence[Job],
    workdir: Path,
    *,
    shard: tuple[int, int] = (1, 1),
    environment: Mapping[str, str] | None = None,
  ):
    """Checks every job's config before anything runs.

    Args:
      jobs: all of them, of all machines; a job stands behind the one it needs.
      workdir: holds a directory per job.
      shard: (i, n), this machine's part of n, from 1 on. What needs another
        job goes where that goes.
      environment: variables that the runs get besides those of this process.

    Raises:
      ValueError, OSError: as `Job.config`; a directory that holds a run of
        another config; or two jobs in one directory.
    """
    self.jobs = tuple(jobs)
    self.workdir = workdir
    self._environment = {**os.environ, **(environment or {})}
    names = [job.directory for job in jobs]
    if len(set(names)) < len(names):
      raise ValueError(f'two jobs share a directory: {sorted(names)!r}')
    self._configs = {job.directory: job.config() for job in jobs}
    for job in jobs:
      self._needs_evaluation(job)  # refuses what is of another config
    index, count = shard
    roots = [job.directory for job in jobs if not job.needs]
    self.own = tuple(
      job
      for job in jobs
      if roots.index(job.needs or job.directory) % count == index - 1
    )
    self._failed: dict[str, int] = {}

  def config(self, job: Job) -> dict[str, Any]:
    """The fields of a job's config, as `Job.config`."""
    return self._configs[job.directory]

  def results(self, job: Job) -> dict[str, Any] | None:
    """The record of a finished job; None if it is not finished."""
    path = self.workdir / job.directory / 'results.json'
    return reports.read_results(path) if path.exists() else None

  def state(self, job: Job) -> str:
    """`finished`, `failed`, `running`, `begun`, `waiting` or `not run`."""
    directory = self.workdir / job.directory
    if self._is_finished(job):
      return 'finished'
    if job.directory in self._failed:
      return 'failed'
    if _is_held(self._claim(job)):
      return 'running'
    if (directory / 'checkpoints').exists():
      return 'begun'
    if job.needs and self.state(self._job(job.needs)) != 'finished':
      return 'waiting'
    return 'not run'

  def run(self, on_finished=lambda: None) -> int:
    """Runs what is to be run here, one job after the other.

    Args:
      on_finished: called after each run.

    Returns:
      An exit status: 0; 1 if a run failed; 75 if one was stopped, or others
      are still running elsewhere.
    """
    self.workdir.mkdir(parents=True, exist_ok=True)
    ran = True
    try:
      while ran:  # a pass may make possible what another job needs
        ran = False
        for job in self.own:
          ready = self.state(job) in ('not run', 'begun')
          if ready and self._run_if_free(job):
            ran = True
            on_finished()
    except Stopped as stopped:
      print(f'stopped: {stopped}', file=sys.stderr)
      return EXIT_STATUS
    if any(self.state(job) == 'failed' for job in self.own):
      return 1
    left = [job for job in self.own if self.state(job) != 'finished']
    for job in left:
      print(f'{job.directory}: {self.state(job)}', file=sys.stderr)
    return EXIT_STATUS if left else 0

  def progress(self) -> str:
    """How many are finished, and the time that the rest will take."""
    states = [self.state(job) for job in self.own]
    finished = states.count('finished')
    text = f'{finished} of {len(states)} runs finished'
    if running := states.count('running'):
      text += f', {running} under way'
    seconds = [
      reports.read_json(path)['seconds']
      for path in self.workdir.glob('*/sweep.json')
    ]
    left = len(states) - finished
    if seconds and left:
      minutes = statistics.median(seconds) * left / 60
      text += f', about {_duration(minutes)} left for {left}'
    return text

  def _job(self, directory):
    return next(job for job in self.jobs if job.directory == directory)

  def _claim(self, job):
    return self.workdir / f'{job.directory}.claim'

  def _needs_evaluation(self, job):
    """Whether a finished run was evaluated otherwise than is wanted now.

    Raises:
      ValueError: it is of another config altogether.
    """
    results = self.results(job)
    if results is None:
      return False
    # A fitted run has a schedule that the job has not.
    wanted = {**self.config(job), 'fitted_on': job.fitted_on}
    changed = differences(
      seeds.telling_fields({**results['config'], 'fitted_on': job.fitted_on}),
      seeds.telling_fields(wanted),
    )
    other = [line for line in changed if not line.startswith('eval.')]
    if other:
      raise ValueError(
        f'{self.workdir / job.directory} holds a run of another config '
        f'({"; ".join(other)}); choose another --workdir, or delete that one'
      )
    return bool(changed)

  def _run_if_free(self, job):
    with claimed(self._claim(job)) as mine:
      if not mine or self._is_finished(job):
        return False
      print(f'[{self.progress()}] {job.title}, seed {job.seed}', flush=True)
      started = time.monotonic()
      fresh = not (self.workdir / job.directory).exists()
      status = self._run(job)
      if status in (EXIT_STATUS, 128 + signal.SIGTERM, 128 + signal.SIGINT):
        raise Stopped(f'{job.directory}; run the same command again')
      if status:
        self._failed[job.directory] = status
        print(f'{job.directory} failed ({status})', file=sys.stderr, flush=True)
      elif fresh:  # the time of a part says nothing
        reports.write_json(
          self.workdir / job.directory / 'sweep.json',
          {'seconds': time.monotonic() - started},
        )
    return True

  def _is_finished(self, job):
    return self.results(job) is not None and not self._needs_evaluation(job)

  def _run(self, job):
    fitted = ()
    if job.fitted_on:
      path = self.workdir / f'{job.directory}.labels.json'
      begun = (self.workdir / job.directory / 'config.json').exists()
      if not (begun and path.exists()):  # or it may be of an earlier run
        status = self._call(
          'mollify_jax.evaluation.label_schedule',
          str(self.workdir / job.needs),
          f'--out={path}',
        )
        if status:
          return status
      fitted = fitted_flags(reports.read_json(path))
    arguments = [
      f'--config={job.argument}',
      f'--workdir={self.workdir / job.directory}',
      *job.all_flags(),
      *fitted,
    ]
    if self._needs_evaluation(job):
      arguments.append('--mode=evaluate')
    return self._call('mollify_jax.main', *arguments)

  def _call(self, module, *arguments):
    """Runs a module of the package; a SIGTERM here reaches it."""
    process = subprocess.Popen(
      [sys.executable, '-m', module, *arguments], env=self._environment
    )
    with _passing_on(process):
      status = process.wait()
    # As a shell gives it: Popen's are negative for signals.
    return 128 - status if status < 0 else status


def fitted_flags(schedule: Mapping[str, Any]) -> tuple[str, ...]:
  """Flags for `mollify_jax.main`, from a file of `label_schedule`."""
  flags = []
  for kind, rows in schedule['gamma'].items():
    knots = tuple(row['new_gamma'] for row in rows)
    flags += [
      f'--config.mollify.{kind}_gamma_knots={knots}',
      f'--config.mollify.{kind}_power=1.0',
    ]
  return (*flags, f'--config.fitted_on={schedule["method"]}')


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[bool]:
  """Holds a claim file, renewed until the end; yields False if another does."""
  token = json.dumps(
    {
      'host': socket.gethostname(),
      'processes': _process_space(),
      'process': os.getpid(),
      'id': uuid.uuid4().hex,
    }
  )
  if not _take(path, token):
    yield False
    return
  ended = threading.Event()

  def renew():
    while not ended.wait(RENEW_SECONDS):
      with contextlib.suppress(OSError):
        os.utime(path)

  thread = threading.Thread(target=renew, daemon=True)
  thread.start()
  try:
    yield True
  finally:
    ended.set()
    thread.join()
    if _read(path) == token:
      path.unlink(missing_ok=True)


def _take(path, token):
  """Whether this process has the claim now."""
  held = _read(path)
  if held:
    if _is_held(path):
      return False
    # Of several that find it stale, the one whose renaming succeeds may go on;
    # if what it renamed is another's new claim, it goes back.
    aside = path.with_name(f'{path.name}.{uuid.uuid4().hex}')
    try:
      path.rename(aside)
    except FileNotFoundError:
      return False
    if _read(aside) != held:
      with contextlib.suppress(FileExistsError):
        os.link(aside, path)
      aside.unlink()
      return False
    aside.unlink()
  # A link appears whole: nobody reads a claim that is half written.
  with tempfile.NamedTemporaryFile(
    'w', dir=path.parent, prefix=f'.{path.name}', delete=False
  ) as file:
    file.write(token)
  try:
    os.link(file.name, path)
  except FileExistsError:
    return False
  finally:
    os.unlink(file.name)
  return True


def _is_held(path):
  """Whether the owner of a claim is there, as far as can be told."""
  held = _read(path)
  if not held:
    return False
  try:
    owner = json.loads(held)
    renewed = path.stat().st_mtime
  except (ValueError, FileNotFoundError):
    return False
  # The clock of the file system: that of another machine may differ.
  with tempfile.NamedTemporaryFile(dir=path.parent) as file:
    now = os.stat(file.name).st_mtime
  if now - renewed > STALE_SECONDS:
    return False
  # Containers may share a name, and number their processes each by itself.
  if owner.get('processes') != _process_space():
    return True
  try:
    os.kill(owner['process'], 0)
  except ProcessLookupError:
    return False
  except PermissionError:  # it is there, and somebody else's
    pass
  return True


def _process_space():
  """What the numbers of processes are valid in: one boot, one container."""
  try:
    boot = Path('/proc/sys/kernel/random/boot_id').read_text().strip()
    return f'{boot} {os.readlink("/proc/self/ns/pid")}'
  except OSError:  # not Linux
    return socket.gethostname()


def _read(path):
  try:
    return path.read_text()
  except FileNotFoundError:
    return ''


@contextlib.contextmanager
def _passing_on(process):
  """While a child runs, signals are for it; Ctrl-C reaches it by itself."""
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  before = {
    signal.SIGTERM: signal.signal(
      signal.SIGTERM, lambda *_: process.send_signal(signal.SIGTERM)
    ),
    signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None),
  }
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


def _duration(minutes):
  hours, minutes = divmod(round(minutes), 60)
  return f'{hours} h {minutes} min' if hours else f'{minutes} min'
