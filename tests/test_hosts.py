"""Several processes train what one process does, and end together."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mollify_jax.training.journal import read_lines

ROOT = Path(__file__).parents[1]
FLAGS = (
  '--config=configs/folder.py',
  '--config.data.test_fraction=0.25',
  '--config.data.image_size=12',
  '--config.data.num_workers=1',
  '--config.model=small_cnn',
  '--config.epochs=2',
  '--config.batch_size=8',
  '--config.eval.batch_size=8',
  '--config.eval.temperatures=(0.3,)',
  '--config.eval.every_epochs=0',
  '--config.eval.corruptions=gaussian_noise,contrast',
)


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
  """A folder of 33 training and 11 test images, which no batch divides."""
  root = tmp_path_factory.mktemp('photos')
  random = np.random.default_rng(0)
  for name, count in (('cat', 24), ('dog', 20)):
    (root / name).mkdir()
    for i in range(count):
      pixels = random.integers(0, 256, (14, 16, 3), np.uint8)
      Image.fromarray(pixels).save(root / name / f'{i}.png')
  return root


def start(photos, workdir, feed, *flags, devices=1, environment=()):
  return subprocess.Popen(
    [
      sys.executable,
      '-m',
      'mollify_jax.main',
      *FLAGS,
      f'--config.data.path={photos}',
      f'--config.feed={feed}',
      f'--workdir={workdir}',
      *flags,
    ],
    cwd=ROOT,
    env={
      **os.environ,
      'JAX_PLATFORMS': 'cpu',
      'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}',
      **dict(environment),
    },
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def finish(processes, workdir):
  errors = [process.communicate(timeout=300)[1] for process in processes]
  for process, stderr in zip(processes, errors, strict=True):
    assert process.returncode == 0, stderr[-3000:]
  return json.loads((workdir / 'results.json').read_text())


def free_port():
  with socket.socket() as listener:
    listener.bind(('127.0.0.1', 0))
    return listener.getsockname()[1]


def start_two(photos, workdir, feed, *flags, devices=1):
  flags += (f'--coordinator=127.0.0.1:{free_port()}', '--num_processes=2')
  return [
    start(photos, workdir, feed, *flags, f'--process_id={i}', devices=devices)
    for i in range(2)
  ]


def wait_for_steps(processes, workdir):
  journal = workdir / 'metrics.jsonl'
  while not journal.exists() or not journal.read_text():
    assert processes[0].poll() is None, processes[0].communicate()[1]
    time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('feed', 'devices'),
  [('resident', 1), ('sharded', 2), ('streaming', 2), ('resident', 4)],
)
def test_the_number_of_hosts_changes_nothing(photos, tmp_path, feed, devices):
  """One process with one device, and two with one, two or four devices."""
  one, two = tmp_path / 'one', tmp_path / 'two'
  alone = finish([start(photos, one, feed)], one)
  together = finish(start_two(photos, two, feed, devices=devices), two)
  assert alone['feed'] == together['feed'] == feed
  assert alone['environment']['device_count'] == 1
  assert together['environment']['device_count'] == 2 * devices
  for a, b in zip(alone['conditions'], together['conditions'], strict=True):
    assert a['n'] == b['n'] == 11
    assert a['error'] == b['error']
    assert a['nll'] == pytest.approx(b['nll'], abs=1e-5)
  cells = [results['corrupted']['cells'] for results in (alone, together)]
  assert len(cells[0]) == 10
  for a, b in zip(*cells, strict=True):
    assert (a['corruption'], a['n']) == (b['corruption'], 11)
    for name in ('error', 'nll', 'ece', 'adaptive_ece', 'ece_batch100'):
      assert a[name] == pytest.approx(b[name], abs=1e-5), (a, name)
  lines = [read_lines(d / 'metrics.jsonl') for d in (one, two)]
  losses = [[line['loss'] for line in part] for part in lines]
  assert len(losses[0]) == 8
  assert losses[0] == pytest.approx(losses[1], abs=1e-5)


@pytest.mark.slow
def test_hosts_find_each_other_under_slurm(photos, tmp_path):
  """With the variables that Slurm sets for two tasks on one node."""
  run = tmp_path / 'run'
  processes = [
    start(
      photos,
      run,
      'resident',
      '--config.eval.corruptions=none',
      '--distributed',
      environment={
        'SLURM_JOB_ID': str(os.getpid()),  # which the port comes from
        'SLURM_STEP_NODELIST': '127.0.0.1',
        'SLURM_NTASKS': '2',
        'SLURM_PROCID': str(i),
        'SLURM_LOCALID': str(i),
        'SLURM_STEP_NUM_NODES': '1',
      },
    )
    for i in range(2)
  ]
  results = finish(processes, run)
  assert results['environment']['device_count'] == 2
  assert results['conditions'][0]['n'] == 11


@pytest.mark.slow
def test_a_run_that_moves_from_hosts_to_hosts(photos, tmp_path):
  """From two of two devices to two of four, and on to one of one.

  SIGTERM reaches one of two; both save and end.
  """
  flags = (
    '--config.epochs=40',
    '--config.eval.corruptions=none',
    # Sums in another order differ in the last bits. An interpolated pixel may
    # then be rounded to the next grey level, which is a step of its own, and
    # training makes more of a difference the larger its steps are.
    "--config.augment=('flip', 'crop')",
    '--config.optimizer.learning_rate=0.001',
  )
  one, two = tmp_path / 'one', tmp_path / 'two'
  alone = finish([start(photos, one, 'resident', *flags)], one)
  journal = two / 'metrics.jsonl'
  before = 0
  for devices in (2, 4):
    processes = start_two(photos, two, 'resident', *flags, devices=devices)
    while not before < journal_step(journal):
      assert processes[0].poll() is None, processes[0].communicate()[1]
      time.sleep(0.01)
    processes[1].send_signal(signal.SIGTERM)
    for process in processes:
      errors = process.communicate(timeout=300)[1]
      assert process.returncode == 75, errors[-3000:]
      assert 'stopped: by a preemption notice after step' in errors
    saved = read_lines(journal)[-1]['step']
    assert before < saved < 160
    assert (two / 'checkpoints' / f'step_{saved}').is_dir()
    before = saved

  resumed = finish([start(photos, two, 'resident', *flags)], two)
  for a, b in zip(alone['conditions'], resumed['conditions'], strict=True):
    assert a['nll'] == pytest.approx(b['nll'], abs=1e-5)
  lines = [read_lines(d / 'metrics.jsonl') for d in (one, two)]
  steps, losses = (
    [[line[name] for line in part] for part in lines]
    for name in ('step', 'loss')
  )
  assert steps[0] == steps[1] == list(range(1, 161))
  assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def journal_step(path):
  return max((line['step'] for line in read_lines(path)), default=0)


@pytest.mark.slow
def test_one_host_fails_and_the_other_says_why(photos, tmp_path):
  """A picture that nobody can read is met by the host whose turn it is."""
  broken = tmp_path / 'photos'
  shutil.copytree(photos, broken)
  victim = broken / 'cat' / '0.png'
  victim.write_bytes(victim.read_bytes()[:60])
  flags = ('--config.epochs=40', '--config.data.test_fraction=0.1')
  run = tmp_path / 'run'
  processes = start_two(broken, run, 'streaming', *flags)
  errors = [process.communicate(timeout=100)[1] for process in processes]
  assert [process.returncode for process in processes] == [1, 1]
  lines = [
    line for e in errors for line in e.splitlines() if line.startswith('error:')
  ]
  assert len(lines) == 2
  assert all(str(victim) in line for line in lines)
  assert sum('ended:' in line for line in lines) == 1
  assert not any('Traceback' in e for e in errors)


@pytest.mark.slow
@pytest.mark.parametrize('victim', [0, 1])
def test_a_killed_host_ends_the_other(photos, tmp_path, victim):
  """JAX does this, within its time-out."""
  run = tmp_path / 'run'
  flags = ('--config.epochs=4000', '--host_timeout=10')
  processes = start_two(photos, run, 'resident', *flags, devices=2)
  wait_for_steps(processes, run)
  processes[victim].kill()
  processes[victim].communicate()
  other = processes[1 - victim]
  begun = time.monotonic()
  errors = other.communicate(timeout=60)[1]
  assert other.returncode not in (0, 75)
  assert time.monotonic() - begun < 40
  assert 'another task died' in errors or 'another process has died' in errors


def test_a_host_that_waits_in_vain_says_so(photos, tmp_path):
  process = start(
    photos,
    tmp_path / 'run',
    'resident',
    f'--coordinator=127.0.0.1:{free_port()}',
    '--num_processes=2',
    '--process_id=1',
    '--host_timeout=2',
  )
  errors = process.communicate(timeout=120)[1]
  assert process.returncode == 1
  assert 'error: process 1 of 2, with --coordinator=127' in errors
  assert 'waited 2 s for the others; start them all' in errors
  assert not (tmp_path / 'run').exists()
