"""Two processes of one device each train what one process of two does."""

import json
import os
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


def start(photos, workdir, feed, *flags, devices=1):
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


@pytest.mark.slow
@pytest.mark.parametrize('feed', ['resident', 'sharded', 'streaming'])
def test_the_number_of_hosts_changes_nothing(photos, tmp_path, feed):
  one, two = tmp_path / 'one', tmp_path / 'two'
  alone = finish([start(photos, one, feed, devices=2)], one)
  hosts = (f'--coordinator=127.0.0.1:{free_port()}', '--num_processes=2')
  together = finish(
    [start(photos, two, feed, *hosts, f'--process_id={i}') for i in range(2)],
    two,
  )
  assert alone['feed'] == together['feed'] == feed
  assert alone['environment']['device_count'] == 2
  assert together['environment']['device_count'] == 2
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
def test_one_host_is_preempted_and_the_run_goes_on_elsewhere(photos, tmp_path):
  """SIGTERM reaches one of two; both save and end; one process finishes."""
  flags = ('--config.epochs=40', '--config.eval.corruptions=none')
  one, two = tmp_path / 'one', tmp_path / 'two'
  alone = finish([start(photos, one, 'resident', *flags, devices=2)], one)
  hosts = (f'--coordinator=127.0.0.1:{free_port()}', '--num_processes=2')
  processes = [
    start(photos, two, 'resident', *flags, *hosts, f'--process_id={i}')
    for i in range(2)
  ]
  journal = two / 'metrics.jsonl'
  while not journal.exists() or not journal.read_text():
    assert processes[0].poll() is None, processes[0].communicate()[1]
    time.sleep(0.01)
  processes[1].send_signal(signal.SIGTERM)
  for process in processes:
    errors = process.communicate(timeout=300)[1]
    assert process.returncode == 75, errors[-3000:]
    assert 'stopped: by a preemption notice after step' in errors
  saved = read_lines(journal)[-1]['step']
  assert 0 < saved < 160
  assert (two / 'checkpoints' / f'step_{saved}').is_dir()

  # On another number of devices.
  resumed = finish([start(photos, two, 'resident', *flags, devices=4)], two)
  for a, b in zip(alone['conditions'], resumed['conditions'], strict=True):
    assert a['nll'] == pytest.approx(b['nll'], abs=1e-4)
  lines = [read_lines(d / 'metrics.jsonl') for d in (one, two)]
  steps, losses = (
    [[line[name] for line in part] for part in lines]
    for name in ('step', 'loss')
  )
  assert steps[0] == steps[1] == list(range(1, 161))
  assert losses[0] == pytest.approx(losses[1], abs=1e-4)


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
