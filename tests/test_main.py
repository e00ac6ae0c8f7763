"""The command itself: a whole run, a killed one resumed, and bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
# A run of seconds: two epochs of 22 steps in calls of 4.
SHORT = (
  '--config.epochs=2',
  '--config.steps_per_call=4',
  '--config.checkpoint_every_steps=8',
  '--config.eval.temperatures=(0.3,)',
  '--config.eval.every_epochs=1',
  '--config.eval.corruptions=none',
)


def command(workdir, *flags, config='configs/digits.py'):
  return [
    sys.executable,
    '-W',
    'error',
    '-W',  # ml_collections 1.1 loads a config file so
    'ignore:the load_module:DeprecationWarning',
    '-m',
    'mollify_jax.main',
    f'--config={config}',
    f'--workdir={workdir}',
    *flags,
  ]


def run(workdir, *flags, config='configs/digits.py'):
  return subprocess.run(
    command(workdir, *flags, config=config),
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
  )


def final_state(workdir, step):
  """Every array of the last checkpoint, read without this package."""
  import orbax.checkpoint as ocp

  manager = ocp.CheckpointManager(
    (Path(workdir) / 'checkpoints').absolute(),
    options=ocp.CheckpointManagerOptions(step_prefix='step', read_only=True),
  )
  assert manager.latest_step() == step
  tree = manager.restore(step, args=ocp.args.StandardRestore())
  manager.close()
  return tree


def assert_identical(one, two):
  assert type(one) is type(two)
  if isinstance(one, dict):
    assert one.keys() == two.keys()
    for name in one:
      assert_identical(one[name], two[name])
  elif isinstance(one, (list, tuple)):
    for a, b in zip(one, two, strict=True):
      assert_identical(a, b)
  elif one is not None:
    np.testing.assert_array_equal(one, two)


def test_a_whole_run_and_a_killed_one(tmp_path):
  whole, killed = tmp_path / 'whole', tmp_path / 'killed'
  process = run(whole, *SHORT)
  assert process.returncode == 0, process.stderr[-3000:]
  assert 'ECE' in process.stdout
  assert 'noise' in process.stdout
  for name in ('mollification.png', 'confidence.png', 'reliability.png'):
    assert (whole / name).read_bytes().startswith(b'\x89PNG')
  results = json.loads((whole / 'results.json').read_text())
  assert [c['corruption'] for c in results['conditions']] == [
    'clean',
    'noise',
    'blur',
  ]
  assert results['steps'] == 44
  assert results['config']['epochs'] == 2

  # Killed without warning after a checkpoint, in the middle of training.
  process = subprocess.Popen(
    command(killed, *SHORT),
    cwd=ROOT,
    stderr=subprocess.DEVNULL,
    stdout=subprocess.DEVNULL,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
  )
  journal = killed / 'metrics.jsonl'
  deadline = time.monotonic() + 120
  while time.monotonic() < deadline:
    if journal.exists() and len(journal.read_text().splitlines()) >= 20:
      break
    assert process.poll() is None, 'the run ended before it could be killed'
    time.sleep(0.01)
  process.send_signal(signal.SIGKILL)
  process.wait()
  assert not (killed / 'results.json').exists()

  process = run(killed, *SHORT)
  assert process.returncode == 0, process.stderr[-3000:]
  assert 'resuming after step' in process.stderr
  assert_identical(final_state(whole, 44), final_state(killed, 44))
  again = json.loads((killed / 'results.json').read_text())
  assert again['conditions'] == results['conditions']
  steps = [
    line['step']
    for line in map(json.loads, journal.read_text().splitlines())
    if line['event'] == 'train'
  ]
  assert steps == list(range(1, 45))

  # A third time: nothing left to do, the same table.
  before = journal.read_bytes()
  process = run(killed, *SHORT)
  assert process.returncode == 0
  assert 'ECE' in process.stdout
  assert journal.read_bytes() == before

  # All figures come out of the checkpoint again.
  (killed / 'results.json').rename(tmp_path / 'before.json')
  process = run(killed, *SHORT, '--mode=evaluate')
  assert process.returncode == 0, process.stderr[-3000:]
  derived = json.loads((killed / 'results.json').read_text())
  for record in (derived, again, results):
    for name in ('environment', 'evaluation_environment'):
      # Somebody may work on the repository.
      assert record[name].pop('commit')
  assert derived == again
  for record in (derived, results):
    del record['seconds'], record['images_per_second']
  assert derived == results  # of another run of the same config

  # The network is handed on.
  process = run(killed, *SHORT, '--mode=export')
  assert process.returncode == 0, process.stderr[-3000:]
  assert 'exported into export/: uint8 [B, 8, 8, 1]' in process.stdout
  assert (killed / 'export' / 'model.stablehlo').exists()

  # What somebody needs to make them once more.
  flags = ['python', '-m', 'mollify_jax.main', *results['command'][3:]]
  assert results['command'] == flags
  assert set(SHORT) < set(flags)
  assert not any(part.startswith(('--workdir', '--mode')) for part in flags)
  assert results['config']['seed'] == 0
  assert results['data_fingerprint']
  assert {*results['environment']} >= {
    'jax',
    'jaxlib',
    'flax',
    'optax',
    'numpy',
    'python',
    'device',
    'device_count',
  }

  # Another config in the same place is refused and nothing is touched.
  process = run(killed, *SHORT, '--config.mollify.beta_b=4')
  assert process.returncode == 1
  assert 'mollify.beta_b: 2.0 -> 4.0' in process.stderr
  assert process.stderr.count('\n') == 1
  assert journal.read_bytes() == before


def test_divergence_ends_in_one_line(tmp_path):
  process = run(
    tmp_path / 'run', *SHORT, '--config.optimizer.learning_rate=1e20'
  )
  assert process.returncode == 1
  (line,) = [t for t in process.stderr.splitlines() if t.startswith('error')]
  assert 'error: step ' in line
  assert 'lower config.optimizer.learning_rate' in line
  assert 'Traceback' not in process.stderr


BAD_COMMANDS = [
  (['--config.epoch=3'], 'epoch'),
  (['--config.mollify.betab=3'], 'betab'),
  (['--config.batch_size=many'], 'batch_size'),
  (['--config.model=resnet9000'], 'resnet9000'),
  (['--config.data.name=mnist'], "unknown data set 'mnist'; choose from"),
  (['--config.mollify.beta_b=-1.0'], 'beta_b must be finite and > 0'),
  (
    ['--config.data.name=archive', '--config.data.path=/nowhere/a.npz'],
    '/nowhere/a.npz',
  ),
  (['--config.batch_size=5000'], 'exceeds the'),
  (['stray'], 'stray'),
]


@pytest.mark.parametrize(('flags', 'message'), BAD_COMMANDS)
def test_bad_commands_end_in_one_line(tmp_path, flags, message):
  process = run(tmp_path / 'run', *flags)
  assert process.returncode == 1
  assert message in process.stderr
  assert process.stderr.startswith('error: ')
  assert process.stderr.count('\n') == 1, process.stderr
  assert not (tmp_path / 'run').exists()


def test_unknown_variant_and_missing_config(tmp_path):
  process = run(tmp_path / 'run', config='configs/digits.py:fog')
  assert process.returncode == 1
  assert "unknown variant 'fog'; choose from plain" in process.stderr
  assert process.stderr.count('\n') == 1, process.stderr
  process = run(tmp_path / 'run', config='configs/digit.py')
  assert process.returncode == 1
  assert 'digit.py' in process.stderr
  assert process.stderr.count('\n') == 1, process.stderr


def test_batch_that_does_not_divide_by_the_devices(tmp_path):
  process = subprocess.run(
    command(tmp_path / 'run', '--config.batch_size=30'),
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
    env={
      **os.environ,
      'JAX_PLATFORMS': 'cpu',
      'XLA_FLAGS': '--xla_force_host_platform_device_count=8',
    },
  )
  assert process.returncode == 1
  assert '32' in process.stderr  # the next size up
  assert process.stderr.count('\n') == 1
