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
  for process, out in started:
    _, stderr = process.communicate()
    assert process.returncode == 0, stderr[-3000:]
    arrays.append(dict(np.load(out)))
  one = arrays[0]
  for assignment in ('iid', 'stratified'):
    assert np.isfinite(one[f'{assignment}/loss']).all()
    assert one[f'{assignment}/loss'].shape == (4,)
    assert (one[f'{assignment}/count'] == 360).all()
  assert len(one) > 20
  for several in arrays[1:]:
    assert several.keys() == one.keys()
    for name, value in one.items():
      np.testing.assert_allclose(
        several[name], value, rtol=1e-5, atol=1e-5, err_msg=name
      )
