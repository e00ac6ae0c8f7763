"""A finished run opened again scores as it did when it was evaluated."""

import json
import runpy
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from mollify_jax.data import digits
from mollify_jax.kernels.pixels import normalize_images
from mollify_jax.training import loop
from mollify_jax.training.finished import open_run

CONFIGS = Path(__file__).parents[2] / 'configs'


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  config = runpy.run_path(CONFIGS / 'digits.py')['get_config'](
    'plain'
  ).to_dict()
  config['epochs'] = 2
  config['eval'].update(corruptions='none', temperatures=(0.5,))
  config['optimizer']['ema_decay'] = 0.9
  workdir = tmp_path_factory.mktemp('finished') / 'run'
  return workdir, loop.run(config, str(workdir))


def test_the_weights_are_those_that_were_evaluated(trained):
  workdir, results = trained
  run = open_run(workdir)
  data = digits.load()
  assert run.image_shape == data.image_shape
  images = normalize_images(jnp.asarray(data.test_images), run.mean, run.std)
  logits = run.model.apply(run.variables, images, train=False)
  wrong = np.mean(np.argmax(logits, axis=1) != data.test_labels)
  np.testing.assert_allclose(wrong, results['conditions'][0]['error'])
  assert run.class_names == tuple(map(str, range(10)))
  assert run.spec.epochs == 2


def test_what_is_no_finished_run_is_named(trained, tmp_path):
  with pytest.raises(FileNotFoundError, match=r'results\.json'):
    open_run(tmp_path)
  assert list(tmp_path.iterdir()) == []
  copy = tmp_path / 'copy'
  shutil.copytree(trained[0], copy)
  path = copy / 'results.json'
  record = json.loads(path.read_text())
  path.write_text(json.dumps({**record, 'steps': record['steps'] + 1}))
  with pytest.raises(ValueError, match='newest checkpoint is of step'):
    open_run(copy)
  del record['input']
  path.write_text(json.dumps(record))
  with pytest.raises(ValueError, match='written by an earlier version'):
    open_run(copy)
  shutil.copy(trained[0] / 'results.json', path)
  shutil.rmtree(copy / 'checkpoints')
  with pytest.raises(FileNotFoundError, match='weights of this run'):
    open_run(copy)
  assert not (copy / 'checkpoints').exists()
