"""Two processes of one device each train what one process of two does."""

import json
import os
import socket
import subprocess
import sys
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
