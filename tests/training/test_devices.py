"""One, two and eight devices give the same training and evaluation."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np


def start(devices, folder):
  out = folder / f'{devices}.npz'
  process = subprocess.Popen(
    [
      sys.executable,
      str(Path(__file__).with_name('run_steps.py')),
      str(devices),
      str(out),
    ],
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    stderr=subprocess.PIPE,
    text=True,
  )
  return process, out


def test_devices_share_one_training(tmp_path):
  started = [start(devices, tmp_path) for devices in (1, 2, 8)]
  arrays = []
  errors = [process.communicate()[1] for process, _ in started]
  for (process, out), stderr in zip(started, errors, strict=True):
    assert process.returncode == 0, stderr[-3000:]
    arrays.append(dict(np.load(out)))
  one = arrays[0]
  for case in ('iid', 'stratified', 'sharded', 'mixup', 'cutmix', 'dropout'):
    assert np.isfinite(one[f'{case}/loss']).all()
    assert one[f'{case}/loss'].shape == (4,)
    assert (one[f'{case}/count'] == 360).all()
    assert 0.05 <= one[f'{case}/temperature'] <= 20
    assert (one[f'{case}/scaled_nll'] != one[f'{case}/nll']).all()
  assert len(one) > 30
  assert not any(name.startswith('dropout/state.batch') for name in one)
  # Where the images lie makes no difference at all.
  for name, value in one.items():
    if name.startswith('iid'):
      other = one[name.replace('iid', 'sharded', 1)]
      np.testing.assert_array_equal(other, value, err_msg=name)
  for several in arrays[1:]:
    assert several.keys() == one.keys()
    for name, value in one.items():
      np.testing.assert_allclose(
        several[name], value, rtol=1e-5, atol=1e-5, err_msg=name
      )
