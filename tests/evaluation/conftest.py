"""One finished run that held images out, for the commands that open it."""

import json
import runpy
from pathlib import Path

import pytest

from mollify_jax.training import loop

CONFIGS = Path(__file__).parents[2] / 'configs'


@pytest.fixture(scope='session')
def held_out_run(tmp_path_factory):
  """The workdir of a short run on digits; tests leave it as it is."""
  config = runpy.run_path(CONFIGS / 'digits.py')['get_config']().to_dict()
  config.update(epochs=1, augment=())
  config['data'].update(validation_fraction=0.2, test_examples=100)
  config['eval'].update(
    corruptions='contrast', temperatures=(0.5,), every_epochs=0
  )
  workdir = tmp_path_factory.mktemp('held_out') / 'run'
  loop.run(config, str(workdir))
  return workdir


@pytest.fixture
def changed_run(held_out_run, tmp_path):
  """Makes a workdir of the same run with its record changed.

  Returns:
    (change: the record of results.json -> None) -> the new workdir.
  """

  def make(change):
    copy = tmp_path / 'changed'
    copy.mkdir()
    (copy / 'checkpoints').symlink_to(held_out_run / 'checkpoints')
    record = json.loads((held_out_run / 'results.json').read_text())
    change(record)
    (copy / 'results.json').write_text(json.dumps(record))
    return copy

  return make
