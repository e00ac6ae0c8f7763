"""Jobs are run once, gone on with, shared, and refused if they are others'."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import sweep
from experiments.sweep import Job, Sweep, claimed

ROOT = Path(__file__).parents[2]
DIGITS = str(ROOT / 'configs' / 'digits.py')


def make_job(name='plain', seed=0, flags=(), fitted_on=''):
  variant = 'plain' if name == 'plain' else 'diffusion_blur'
  return Job(name, name, seed, f'{DIGITS}:{variant}', flags, fitted_on)


class Runs(Sweep):
  """A sweep whose runs write their record at once, and are written down."""

  def __init__(self, *arguments, status=0, **options):
    super().__init__(*arguments, **options)
    self.calls, self.status = [], status

  def _call(self, module, *arguments):
    self.calls.append((module, arguments))
    if self.status:
      return self.status
    flags = dict(a.lstrip('-').split('=', 1) for a in arguments if '=' in a)
    if module.endswith('label_schedule'):
      rows = [{'new_gamma': 0.0}, {'new_gamma': 0.5}]
      record = {'method': 'both', 'gamma': {'noise': rows, 'blur': rows}}
      Path(flags['out']).write_text(json.dumps(record))
      return 0
    directory = Path(flags['workdir'])
    directory.mkdir(exist_ok=True)
    (job,) = (j for j in self.jobs if j.directory == directory.name)
    write_record(directory, self.config(job))
    return 0


def write_record(directory, config):
  record = {
    'format': 1,
    'method': config['method'],
    'dataset': 'digits',
    'model': 'small_cnn',
    'steps': 1,
    'conditions': [],
    'config': config,
  }
  (directory / 'results.json').write_text(json.dumps(record))


def test_what_is_finished_is_not_run_again(tmp_path):
  jobs = [make_job(seed=seed) for seed in (0, 1)]
  (tmp_path / 'plain-seed1').mkdir()
  write_record(tmp_path / 'plain-seed1', jobs[1].config())
  runs = Runs(jobs, tmp_path)
  assert [runs.state(job) for job in jobs] == ['not run', 'finished']
  finished = []
  assert runs.run(on_finished=lambda: finished.append(runs.progress())) == 0
  assert [module for module, _ in runs.calls] == ['mollify_jax.main']
  assert '--config.seed=0' in runs.calls[0][1]
  assert finished == ['2 of 2 runs finished']
  assert runs.run() == 0
  assert len(runs.calls) == 1
  assert not list(tmp_path.glob('*.claim*'))


def test_a_fitted_schedule_waits_for_its_run_and_becomes_flags(tmp_path):
  power = ('--config.mollify.noise_power=3.0',)
  jobs = [make_job('fitted', flags=power, fitted_on='both'), make_job('both')]
  runs = Runs(jobs, tmp_path)
  assert runs.state(jobs[0]) == 'waiting'
  assert runs.run() == 0
  modules = [module.rpartition('.')[2] for module, _ in runs.calls]
  assert modules == ['main', 'label_schedule', 'main']
  assert str(tmp_path / 'both-seed0') in runs.calls[1][1]
  flags = runs.calls[2][1]
  assert '--config.mollify.noise_gamma_knots=(0.0, 0.5)' in flags
  assert '--config.fitted_on=both' in flags
  # They win over what was asked for of all runs.
  powers = [flag for flag in flags if 'noise_power' in flag]
  assert powers[-1] == '--config.mollify.noise_power=1.0'


def test_a_schedule_of_runs_that_were_deleted_is_fitted_again(tmp_path):
  jobs = [make_job('both'), make_job('fitted', fitted_on='both')]
  assert Runs(jobs, tmp_path).run() == 0
  for job in jobs:
    shutil.rmtree(tmp_path / job.directory)
  runs = Runs(jobs, tmp_path)
  assert runs.run() == 0
  modules = [module.rpartition('.')[2] for module, _ in runs.calls]
  assert modules == ['main', 'label_schedule', 'main']


def test_a_run_of_another_config_is_refused_and_another_evaluation_made(
  tmp_path,
):
  job = make_job()
  Runs([job], tmp_path).run()
  other = make_job(flags=('--config.epochs=3',))
  with pytest.raises(ValueError, match=r'another config \(epochs: 60 -> 3\)'):
    Runs([other], tmp_path)
  again = Runs(
    [make_job(flags=('--config.eval.temperatures=(0.25,)',))], tmp_path
  )
  assert again.run() == 0
  assert '--mode=evaluate' in again.calls[0][1]
  assert again.run() == 0
  assert len(again.calls) == 1


def test_failures_are_told_and_the_others_run(tmp_path, capsys):
  jobs = [make_job(), make_job('both')]
  runs = Runs(jobs, tmp_path, status=1)
  assert runs.run() == 1
  assert len(runs.calls) == 2
  assert [runs.state(job) for job in jobs] == ['failed', 'failed']
  assert 'plain-seed0 failed (1)' in capsys.readouterr().err
  stopped = Runs(jobs, tmp_path, status=75)
  assert stopped.run() == 75
  assert len(stopped.calls) == 1


def test_shards_part_the_jobs_and_keep_dependents_together(tmp_path):
  jobs = [
    make_job(name, seed, fitted_on='both' * (name == 'fitted'))
    for seed in (0, 1)
    for name in ('plain', 'both', 'fitted')
  ]
  parts = [Runs(jobs, tmp_path, shard=(i, 3)).own for i in (1, 2, 3)]
  names = [[job.directory for job in part] for part in parts]
  assert sorted(name for part in names for name in part) == sorted(
    job.directory for job in jobs
  )
  for part in names:
    for seed in (0, 1):
      assert (f'fitted-seed{seed}' in part) == (f'both-seed{seed}' in part)


def test_a_claimed_job_is_left_to_its_owner(tmp_path, capsys):
  job = make_job()
  runs = Runs([job], tmp_path)
  with claimed(tmp_path / 'plain-seed0.claim') as mine:
    assert mine
    assert runs.state(job) == 'running'
    assert runs.run() == 75
    assert runs.progress() == '0 of 1 runs finished, 1 under way'
  assert not runs.calls
  assert 'plain-seed0: running' in capsys.readouterr().err


@pytest.mark.parametrize('space', ['', 'of another container'])
def test_stale_claims_are_taken_over(tmp_path, space):
  path = tmp_path / 'x.claim'
  with claimed(path):
    owner = json.loads(path.read_text())
  # A process that has ended, or one elsewhere that no longer renews its claim.
  gone = subprocess.Popen([sys.executable, '-c', ''])
  gone.wait()
  owner.update(process=gone.pid, processes=space or owner['processes'])
  path.write_text(json.dumps(owner))
  if space:
    with claimed(path) as mine:
      assert not mine  # for it was renewed just now
    old = time.time() - 2 * sweep.STALE_SECONDS
    os.utime(path, (old, old))
  with claimed(path) as mine:
    assert mine
    assert json.loads(path.read_text())['process'] == os.getpid()
  assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_only_one_of_many_gets_a_stale_claim(tmp_path):
  """Processes that all find the same stale claim at once."""
  path = tmp_path / 'x.claim'
  path.write_text(json.dumps({'host': 'elsewhere', 'process': 1}))
  old = time.time() - 2 * sweep.STALE_SECONDS
  os.utime(path, (old, old))
  told = tmp_path / 'told'
  told.mkdir()
  program = (
    'import sys, time\n'
    'from pathlib import Path\n'
    'from experiments.sweep import claimed\n'
    'path, told, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]\n'
    '(told / f"ready{name}").touch()\n'
    'while not (told / "go").exists(): time.sleep(0.001)\n'
    'with claimed(path) as mine:\n'
    '  (told / f"answer{name}").write_text(str(int(mine)))\n'
    '  while mine and len(list(told.glob("answer*"))) < 4: time.sleep(0.01)\n'
  )
  processes = [
    subprocess.Popen(
      [sys.executable, '-c', program, str(path), str(told), str(number)],
      cwd=ROOT,
    )
    for number in range(4)
  ]
  try:
    while len(list(told.glob('ready*'))) < 4:
      assert all(process.poll() is None for process in processes)
      time.sleep(0.1)
    (told / 'go').touch()
    assert [process.wait(timeout=120) for process in processes] == [0] * 4
  finally:
    for process in processes:
      process.kill()
  answers = [answer.read_text() for answer in told.glob('answer*')]
  assert sorted(answers) == ['0', '0', '0', '1']
  assert list(tmp_path.iterdir()) == [told]


@pytest.mark.slow
def test_a_signal_reaches_the_run_and_ends_the_sweep(tmp_path):
  """The real thing: SIGTERM while a run trains, and the same command again."""
  command = [
    *(sys.executable, '-m', 'experiments.table1', f'--workdir={tmp_path}'),
    *(f'--config={DIGITS}', '--config.epochs=400'),
  ]
  environment = {**os.environ, 'JAX_PLATFORMS': 'cpu'}
  process = subprocess.Popen(command, cwd=ROOT, env=environment)
  steps = tmp_path / 'plain-seed0' / 'metrics.jsonl'
  try:
    deadline = time.monotonic() + 120
    while not steps.exists() or steps.stat().st_size == 0:
      assert process.poll() is None
      assert time.monotonic() < deadline
      time.sleep(0.2)
    assert (tmp_path / 'plain-seed0.claim').exists()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 75
  finally:
    process.kill()
  assert (tmp_path / 'plain-seed0' / 'checkpoints').exists()
  assert not list(tmp_path.glob('*.claim'))
  # The tables say what there is.
  assert 'seed 0 begun' in (tmp_path / 'table1.md').read_text()
