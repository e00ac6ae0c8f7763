"""Scripts of experiments/speed that have nothing to run on here but a CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.speed import convolutions, scaling

ROOT = Path(__file__).parents[1]


def test_reduced_bytes_of_a_compiled_program():
  program = """
  %all-reduce.1 = f32[16]{0} all-reduce(%x), channel_id=1, to_apply=%add
  %all-reduce = (f32[16]{0}, bf16[3,3,16,2]{3,2,1,0}, f32[]) all-reduce(%a, %b)
  %start = (f32[5]{0}, f32[5]{0}) add(%all-reduce.1, %all-reduce)
  """
  count, total = scaling.reduced_bytes(program)
  assert count == 2
  assert total == 4 * 16 + (4 * 16 + 2 * 3 * 3 * 16 * 2 + 4)
  assert scaling.all_reduces(program) == [64, 644]


def test_all_reduces_are_counted_without_a_run(tmp_path):
  out = tmp_path / 'scaling.json'
  out.write_text(json.dumps({'rows': ['kept'], 'counts': ['replaced']}))
  printed = run_script(
    'scaling',
    *('--count', 'small_cnn', '--batch', '4', '--size', '8'),
    *('--devices', '2', '--out', str(out)),
  )
  record = json.loads(out.read_text())
  assert record['rows'] == ['kept']
  (found,) = record['counts']
  assert found['devices'] == 2
  # Forward and backward of each normalisation, and the gradients.
  assert found['normalisations'] == 3
  assert found['all_reduces'] == len(found['bytes_of_each']) == 2 * 3 + 1
  assert found['reduced_bytes'] == sum(found['bytes_of_each'])
  # Gradients, and at least twice what the normalisations keep.
  least = 4 * (found['parameters'] + 2 * found['statistics'])
  assert least <= found['reduced_bytes'] < 1.01 * least
  assert 'small_cnn, 2 devices: 7 all-reduces of' in printed


def run_script(name, *flags):
  """What it printed."""
  process = subprocess.run(
    [sys.executable, '-m', f'experiments.speed.{name}', *flags],
    cwd=ROOT,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    check=False,
  )
  assert process.returncode == 0, process.stderr[-3000:]
  return process.stdout


@pytest.mark.parametrize('window', [1, 3, 5])
@pytest.mark.parametrize('which', convolutions.PASSES)
def test_forms_of_a_convolution_agree(window, which):
  shape = convolutions.Shape(2, 6, 3, 4, window)
  inputs = convolutions.arrays(shape)
  one, other = (
    convolutions.compiled(form, which)(*inputs)
    for form in convolutions.FORMS.values()
  )
  result = {'forward': 2, 'input': 0, 'weights': 1}[which]
  assert one.shape == other.shape == inputs[result].shape
  np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_convolutions_at_a_tiny_size(tmp_path):
  out = tmp_path / 'convolutions.json'
  printed = run_script(
    'convolutions',
    *('--shapes', '2,8,3,5,3', '3,4,4,6,1', '--rounds', '3'),
    *('--seconds', '0', '--out', str(out)),
  )
  record = json.loads(out.read_text())
  assert record['environment']['jax']
  assert record['torch'] is None
  assert [(row['window'], row['variant']) for row in record['rows']] == [
    (window, form) for window in (3, 1) for form in convolutions.FORMS
  ]
  for row in record['rows']:
    for which in convolutions.PASSES:
      figures = row[which]
      assert 0 < figures['low'] <= figures['gflops'] <= figures['high']
  assert '1x1, 4 -> 6 channels, 3 of 4x4' in printed


def test_gflops_are_work_by_time(monkeypatch):
  shape = convolutions.Shape(2, 8, 3, 5, 3)
  assert shape.flops() == 2 * (2 * 8 * 8) * (3 * 3 * 3) * 5
  monkeypatch.setattr(
    convolutions,
    'time_in_turn',
    lambda cases, rounds, seconds: {case: [1e-3] for case in cases},
  )
  found = convolutions.measure(shape, None, rounds=2, seconds=0)
  assert len(found) == 6
  for values in found.values():
    assert values == pytest.approx([34_560e-6] * 2)


@pytest.mark.slow
def test_the_second_start_finds_the_programs_of_the_first(tmp_path):
  out = tmp_path / 'startup.json'
  printed = run_script(
    'startup',
    *('--rounds', '1', '--out', str(out)),
    *('--config.data.train_examples=64', '--config.eval.temperatures=(0.3,)'),
  )
  record = json.loads(out.read_text())
  first, second = record['rows']
  assert (first['start'], second['start']) == ('first', 'second')
  # What compiles in less than a second is not kept; which that is, a busy
  # machine may see otherwise the second time.
  assert first['programs_written'][0] > second['programs_written'][0]
  for row in record['rows']:
    for which in ('wall', 'CPU'):
      assert 0 < row[f'{which} to step 1']['seconds'] < row[which]['seconds']
  assert 'first   wall to step 1' in printed
  assert '--config.epochs=1' in record['flags']


def test_a_misspelt_flag_of_startup_is_refused():
  process = subprocess.run(
    [sys.executable, '-m', 'experiments.speed.startup', '--rouns=1'],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert process.returncode == 2
  assert "'--rouns=1' is neither of this script nor" in process.stderr


def test_gpu_script_at_a_tiny_size(tmp_path):
  out = tmp_path / 'gpu.json'
  printed = run_script(
    'gpu',
    *('--networks', 'small_cnn', '--batches', '8', '16', '--size', '8'),
    *('--matrix', '64', '--rounds', '2', '--seconds', '0.01'),
    *('--minutes', '0.01', '--out', str(out)),
  )
  record = json.loads(out.read_text())
  assert record['matrix_flops_per_second'] > 0
  variants = [row['variant'] for row in record['rows']]
  assert variants == ['plain', 'mollified', 'augmented']
  for row in record['rows']:
    assert row['images_per_second'] == pytest.approx(8 / row['seconds'])
    assert 0 < row['low'] <= row['seconds'] <= row['high']
  # 1 + 2 times the forward pass, without products with padding: of 3 x n taps
  # in a row, 2 lie outside at stride 1 and 1 at stride 2.
  macs = 3 * 32 * 22**2 + 32 * 64 * 11**2 + 64 * 64 * 10**2 + 64 * 10
  share = record['rows'][0]['share_of_matrix_rate']
  flops = (
    share
    * record['matrix_flops_per_second']
    / record['rows'][0]['images_per_second']
  )
  assert flops == pytest.approx(6 * macs, rel=0.05)
  assert '16 of 8x8: not run, out of time' in printed
