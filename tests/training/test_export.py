"""An export predicts what its run predicts, and is whole or not there."""

import json
import os
import runpy
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load

import mollify_jax
from mollify_jax import exported
from mollify_jax.data import digits
from mollify_jax.models import MODELS
from mollify_jax.training import export, loop
from mollify_jax.training.finished import make_predict, open_run
from mollify_jax.training.workdir import locked

ROOT = Path(__file__).parents[2]


def train(workdir, *, dtype='float32', rule='smooth', ema_decay=0.0):
  config = runpy.run_path(ROOT / 'configs' / 'digits.py')['get_config'](
    'diffusion'
  ).to_dict()
  config.update(epochs=1, dtype=dtype)
  config['mollify']['label_rule'] = rule
  config['optimizer']['ema_decay'] = ema_decay
  config['eval'].update(corruptions='none', temperatures=(0.5,), every_epochs=0)
  return config, loop.run(config, str(workdir))


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """(workdir, config, results) of a finished run."""
  workdir = tmp_path_factory.mktemp('trained') / 'run'
  return workdir, *train(workdir)


@pytest.fixture
def copied(trained, tmp_path):
  """(a copy of the workdir, config)."""
  workdir = tmp_path / 'run'
  shutil.copytree(trained[0], workdir)
  return workdir, trained[1]


def contents(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def check_predictions(workdir, results):
  data = digits.load()
  of_run = mollify_jax.load(workdir)
  of_export = mollify_jax.load(workdir / 'export')
  assert of_export.class_names == of_run.class_names
  assert of_export.image_shape == of_run.image_shape == data.image_shape
  for size in (1, 2, 7, 64):
    images = data.test_images[:size]
    probabilities = of_export.predict(images)
    np.testing.assert_allclose(
      probabilities, of_run.predict(images), rtol=0, atol=1e-6
    )
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
  for classifier in (of_run, of_export):
    guess = classifier.predict(data.test_images).argmax(axis=1)
    wrong = np.mean(guess != data.test_labels)
    assert wrong == results['conditions'][0]['error']
  assert 0.02 < wrong < 0.9  # or equality would say little


def contents_of_files(folder):
  return {
    path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()
  }


def test_the_export_predicts_what_the_run_predicts(
  copied, trained, monkeypatch
):
  workdir, config = copied
  before = contents_of_files(workdir)
  # It needs no data.
  monkeypatch.delattr(loop, 'open_data')
  record = loop.run(config, str(workdir), 'export')
  assert 'exported into export/' in loop.describe(record)
  assert contents_of_files(workdir) == before
  assert {*contents(workdir / 'export')} == {*exported.FILES}
  assert json.loads((workdir / 'export' / 'config.json').read_text()) == (
    json.loads((workdir / 'config.json').read_text())
  )
  check_predictions(workdir, trained[2])


def test_so_do_bfloat16_an_average_and_an_extra_class(tmp_path):
  workdir = tmp_path / 'run'
  config, results = train(
    workdir, dtype='bfloat16', rule='extra', ema_decay=0.9
  )
  assert open_run(workdir).model.num_classes == 11
  record = loop.run(config, str(workdir), 'export')
  assert record['dtype'] == 'bfloat16'
  assert record['parameters'][-1]['shape'] in ([32], [64])
  check_predictions(workdir, results)


def check_model(make_run, name, size, channels):
  run = make_run(name, (size, size, channels))
  files = export.make_files(run)
  function = jax.export.deserialize(bytearray(files[exported.MODEL]))
  parameters = load(files[exported.PARAMETERS])
  assert str(function.out_avals[0].shape) == '(batch, 10)'
  images = np.random.default_rng(0).integers(
    0, 256, (3, size, size, channels), np.uint8
  )
  wanted = jax.jit(make_predict(run))(run.variables, images)
  assert wanted.std() > 1e-4
  found = jax.jit(function.call)(parameters, images)
  np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize('name', ['small_cnn', 'wrn_16_1', 'vit_ti4'])
def test_networks_take_any_batch_once_exported(make_run, name):
  check_model(make_run, name, 8, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
  'name', sorted(MODELS.keys() - {'small_cnn', 'wrn_16_1', 'vit_ti4'})
)
def test_all_networks_take_any_batch_once_exported(make_run, name):
  check_model(make_run, name, 16, 3)


def test_the_same_weights_give_the_same_bytes(make_run):
  first = export.make_files(make_run())
  # From another place in the code, by which JAX names operations.
  second = (lambda: export.make_files(make_run()))()
  assert first == second
  for data in first.values():
    assert str(ROOT).encode() not in data
    assert b'site-packages' not in data


@pytest.mark.parametrize('name', ['flatbuffers', 'safetensors.numpy'])
def test_a_missing_package_is_named(make_run, monkeypatch, name):
  monkeypatch.setitem(sys.modules, name, None)  # which import refuses
  wanted = r"pip install 'mollify_jax\[export\]'"
  with pytest.raises(ValueError, match=wanted) as caught:
    export.make_files(make_run())
  assert '\n' not in str(caught.value)


def test_an_export_is_replaced_by_a_whole_one_only(copied, monkeypatch):
  workdir, config = copied
  folder = workdir / 'export'
  loop.run(config, str(workdir), 'export')
  (folder / exported.MODEL).write_bytes(b'damaged')
  damaged = contents(folder)
  rename = Path.rename

  def fail_at(count):
    """The first `count` renames go well."""
    done = []

    def counted(path, target):
      if len(done) == count:
        done.append(path)
        raise OSError(28, 'No space left on device')
      done.append(path)
      return rename(path, target)

    return counted

  for count in (0, 1):
    with monkeypatch.context() as patched:
      patched.setattr(Path, 'rename', fail_at(count))
      with pytest.raises(OSError, match='No space left') as caught:
        loop.run(config, str(workdir), 'export')
      assert caught.value.filename == str(folder)
    assert contents(folder) == damaged
    assert not list(workdir.glob('.export*'))
  # As a kill leaves them.
  (workdir / '.export.abcdefgh').mkdir()
  shutil.copytree(folder, workdir / '.export.abcdefgh.old')
  loop.run(config, str(workdir), 'export')
  assert exported.read(folder).record['model'] == 'small_cnn'
  assert not list(workdir.glob('.export*'))
  assert folder.stat().st_mode & 0o777 == 0o755


def test_a_failure_leaves_no_export(copied, monkeypatch):
  workdir, config = copied
  write_bytes = Path.write_bytes

  def fail(path, data):
    if path.name == exported.CONFIG:
      raise OSError(28, 'No space left on device')
    return write_bytes(path, data)

  monkeypatch.setattr(Path, 'write_bytes', fail)
  with pytest.raises(OSError, match='No space left'):
    loop.run(config, str(workdir), 'export')
  assert not [p for p in workdir.iterdir() if 'export' in p.name]


def occupy(content):
  """Puts something else where the export would go."""

  def change(workdir, config):
    folder = workdir / 'export'
    if content == 'file':
      folder.write_text('mine')
    elif content == 'link':
      (workdir / 'aside').mkdir()
      os.symlink(workdir / 'aside', folder)
    elif content == 'folder':
      folder.mkdir()
      (folder / 'notes.txt').write_text('mine')
    else:
      loop.run(config, str(workdir), 'export')
      path = folder / exported.CONFIG
      path.write_text(json.dumps({**json.loads(path.read_text()), **content}))
    return config

  return change


def unfinish(workdir, config):
  (workdir / 'results.json').unlink()
  return config


def empty(workdir, config):
  shutil.rmtree(workdir)
  workdir.mkdir()
  return config


def ask_otherwise(workdir, config):
  return {**config, 'seed': 7}


REFUSED = {
  'an unfinished run': (
    unfinish,
    'wants a finished training, and .* has no results.json; run the command',
  ),
  'no run': (empty, 'holds no run; name that of a finished training'),
  'another config': (ask_otherwise, r'of another config \(seed: 0 -> 7\)'),
  'a file there': (occupy('file'), 'is not a folder, .*; move it away'),
  'a link there': (occupy('link'), 'is not a folder, .*; move it away'),
  'a folder there': (
    occupy('folder'),
    "holds 'notes.txt', which is not part of an export; move it away",
  ),
  'another export there': (
    occupy({'seed': 7}),
    r'an export of another config \(seed: 7 -> 0\); move it away',
  ),
}


def tree(folder):
  return {
    path: path.is_file() and path.read_bytes()
    for path in folder.rglob('*')
    if path.name != '.lock'
  }


@pytest.mark.parametrize('name', REFUSED)
def test_refused_in_one_line(copied, name):
  change, message = REFUSED[name]
  workdir, config = copied
  config = change(workdir, config)
  before = tree(workdir)
  with pytest.raises(ValueError, match=message) as caught:
    loop.run(config, str(workdir), 'export')
  assert '\n' not in str(caught.value)
  assert tree(workdir) == before


def test_another_evaluation_is_no_other_config(copied):
  workdir, config = copied
  config = {**config, 'eval': {**config['eval'], 'temperatures': (0.2,)}}
  for _ in range(2):  # the second replaces the first
    assert loop.run(config, str(workdir), 'export')['format'] == 1


def test_a_workdir_in_use_is_left_alone(copied):
  workdir, config = copied
  with locked(workdir), pytest.raises(ValueError, match='in use by another'):
    loop.run(config, str(workdir), 'export')
  assert not (workdir / 'export').exists()


def test_several_processes_are_refused(copied, monkeypatch):
  workdir, config = copied
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  with pytest.raises(ValueError, match='is for one process, and there are 2'):
    loop.run(config, str(workdir), 'export')
  assert not (workdir / 'export').exists()
