"""The loop in this process: what it learns, and what stops it."""

import fcntl
import importlib.util
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from PIL import Image

from mollify_jax.data.digits import load as load_digits
from mollify_jax.models import MODELS
from mollify_jax.models.vision_transformer import VisionTransformer
from mollify_jax.training import evaluator, loop
from mollify_jax.training import optimizer as optimizers
from mollify_jax.training.checkpoints import Checkpoints
from mollify_jax.training.journal import read_lines

DIGITS = Path(__file__).parents[2] / 'configs' / 'digits.py'


@pytest.fixture
def config():
  spec = importlib.util.spec_from_file_location('digits', DIGITS)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config().to_dict()
  config['epochs'] = 2
  config['steps_per_call'] = 4
  config['checkpoint_every_steps'] = 8
  config['eval']['temperatures'] = (0.3,)
  config['eval']['every_epochs'] = 1
  config['eval']['corruptions'] = 'none'
  return config


def test_every_option_at_once_learns(tmp_path, config):
  config['mollify']['label_rule'] = 'extra_smooth'
  config['loss'] = 'normalized_cross_entropy'
  config['label_smoothing'] = 0.05
  config['dtype'] = 'bfloat16'
  config['tensorboard'] = True
  config['optimizer'].update(
    ema_decay=0.5, gradient_clip=1.0, weight_decay_form='decoupled'
  )
  results = loop.run(config, str(tmp_path / 'run'))
  clean = results['conditions'][0]
  assert clean['n'] == 360
  assert clean['error'] < 0.5  # 0.9 is chance
  lines = read_lines(tmp_path / 'run' / 'metrics.jsonl')
  losses = [line['loss'] for line in lines if line['event'] == 'train']
  assert len(losses) == 44
  assert np.mean(losses[-8:]) < np.mean(losses[:8])
  assert [line['step'] for line in lines if line['event'] == 'evaluate'] == [24]
  assert list((tmp_path / 'run' / 'tensorboard').iterdir())


def test_a_network_without_batch_norm_trains_and_is_restored(
  tmp_path, config, monkeypatch
):
  fields = {'patch': 2, 'width': 32, 'heads': 2, 'depth': 1}
  monkeypatch.setitem(MODELS, 'vit', (VisionTransformer, fields))
  config['model'] = 'vit'
  config['optimizer'].update(ema_decay=0.5)
  results = loop.run(config, str(tmp_path / 'run'))
  lines = read_lines(tmp_path / 'run' / 'metrics.jsonl')
  losses = [line['loss'] for line in lines if line['event'] == 'train']
  assert np.mean(losses[-8:]) < np.mean(losses[:8]) - 0.02
  again = loop.run(config, str(tmp_path / 'run'), 'evaluate')
  assert again['conditions'] == results['conditions']


@pytest.mark.slow
def test_adamw_resumes_bit_for_bit_and_is_no_sgd(tmp_path, config, monkeypatch):
  fields = {'patch': 2, 'width': 32, 'heads': 2, 'depth': 1}
  monkeypatch.setitem(MODELS, 'vit', (VisionTransformer, fields))
  config.update(model='vit', augment=())
  config['mollify']['roles'] = ('clean',)
  config['eval']['every_epochs'] = 0
  sgd = dict(config['optimizer'])
  config['optimizer'].update(
    name='adamw',
    learning_rate=1e-2,
    weight_decay=0.1,
    warmup_epochs=0.5,
    gradient_clip=1.0,
    ema_decay=0.5,
  )
  whole, cut = tmp_path / 'whole', tmp_path / 'cut'
  results = loop.run(config, str(whole))
  assert results['conditions'][0]['error'] < 0.7  # 0.9 is chance

  honest, calls = loop._check_finite, []

  def interrupt(*arguments):
    calls.append(arguments)
    if len(calls) == 6:  # steps 21 to 24; the checkpoint of 16 is the newest
      raise KeyboardInterrupt
    honest(*arguments)

  with monkeypatch.context() as patch:
    patch.setattr(loop, '_check_finite', interrupt)
    with pytest.raises(KeyboardInterrupt):
      loop.run(config, str(cut))
  assert loop.run(config, str(cut))['conditions'] == results['conditions']
  assert len(calls) == 6
  one, two = (saved_arrays(path, 44) for path in (whole, cut))
  assert one.keys() == two.keys()
  moments = [name for name in one if name[0] == 'opt_state' and 'nu' in name]
  assert len(moments) > 10
  for name, array in one.items():
    np.testing.assert_array_equal(array, two[name], err_msg=name)
  assert all(one[name].any() for name in moments)

  # The config is what tells, and without it the checkpoint does.
  config['optimizer'] = {**sgd, 'ema_decay': 0.5}
  with pytest.raises(ValueError, match=r"optimizer.name: 'adamw' -> 'sgd'"):
    loop.run(config, str(cut))
  for name in ('config.json', 'results.json'):
    (cut / name).unlink()
  with pytest.raises(
    ValueError, match=r'step_44 is of another network or optimizer \(opt_state'
  ):
    loop.run(config, str(cut))
  assert (cut / 'checkpoints' / 'step_44').is_dir()


def saved_arrays(workdir, step):
  """{path of names: array} of a checkpoint, without a state to compare."""
  manager = ocp.CheckpointManager(
    workdir / 'checkpoints',
    options=ocp.CheckpointManagerOptions(step_prefix='step', read_only=True),
  )
  tree = manager.restore(step, args=ocp.args.StandardRestore())
  manager.close()
  return {
    tuple(str(getattr(key, 'key', getattr(key, 'idx', ''))) for key in path): (
      leaf
    )
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


@pytest.mark.slow
def test_a_transformer_of_the_table_learns_with_adamw(tmp_path, config):
  config['model'] = 'vit_ti4'  # four patches of 4x4
  config['optimizer'].update(
    name='adamw',
    learning_rate=1e-3,
    weight_decay=0.1,
    warmup_epochs=0.5,
    gradient_clip=1.0,
  )
  results = loop.run(config, str(tmp_path / 'run'))
  assert results['conditions'][0]['error'] < 0.5  # 0.9 is chance


def test_non_finite_loss_keeps_the_last_good_checkpoint(
  tmp_path, config, monkeypatch
):
  honest = optimizers.learning_rate

  def explode(spec, step, *schedule):
    rate = honest(spec, step, *schedule)
    return jnp.where(jnp.asarray(step) >= 18, jnp.inf, rate)

  monkeypatch.setattr(optimizers, 'learning_rate', explode)
  with pytest.raises(
    loop.NonFiniteLossError, match=r'step 20: loss nan.*of step 16 is kept'
  ) as caught:
    loop.run(config, str(tmp_path / 'run'))
  assert '\n' not in str(caught.value)
  for part in (
    'gradient norm nan',
    'at learning rate inf',
    'lower config.optimizer.learning_rate',
    'set config.optimizer.gradient_clip',
  ):
    assert part in str(caught.value)
  checkpoints = Checkpoints(tmp_path / 'run' / 'checkpoints')
  assert checkpoints.latest_step() == 16
  checkpoints.close()
  steps = [
    line['step'] for line in read_lines(tmp_path / 'run' / 'metrics.jsonl')
  ]
  assert steps == list(range(1, 17))

  # With the cause mended, the same command goes on from there.
  monkeypatch.setattr(optimizers, 'learning_rate', honest)
  results = loop.run(config, str(tmp_path / 'run'))
  assert results['steps'] == 44


@pytest.mark.parametrize(
  ('name', 'value'),
  [('loss', np.nan), ('loss', np.inf), ('grad_norm', np.inf)],
)
def test_the_first_figure_that_is_not_finite_is_named(tmp_path, name, value):
  metrics = {
    'loss': np.float32([1.5, 2.5, 3.5]),
    'grad_norm': np.float32([10.0, 20.0, 30.0]),
    'learning_rate': np.float32([0.1, 0.2, 0.3]),
  }
  checkpoints = Checkpoints(tmp_path / 'checkpoints')
  loop._check_finite(metrics, 8, checkpoints)
  metrics[name][1:] = value
  expected = {'loss': 2.5, 'grad_norm': 20.0, name: value}
  with pytest.raises(loop.NonFiniteLossError) as caught:
    loop._check_finite(metrics, 8, checkpoints)
  checkpoints.close()
  assert str(caught.value).startswith(
    f'step 10: loss {expected["loss"]}, gradient norm '
    f'{expected["grad_norm"]} at learning rate 0.2; '
  )
  assert str(caught.value).endswith('no checkpoint had been written yet')


def test_a_workdir_of_another_config_is_left_alone(tmp_path, config):
  directory = tmp_path / 'run'
  directory.mkdir()
  other = {**config, 'seed': 5}
  text = json.dumps(other)
  (directory / 'config.json').write_text(text)
  with pytest.raises(ValueError, match='seed: 5 -> 0'):
    loop.run(config, str(directory))
  assert (directory / 'config.json').read_text() == text
  (tmp_path / 'file').write_text('')
  with pytest.raises(ValueError, match='is a file; name a directory'):
    loop.run(config, str(tmp_path / 'file'))


def test_nothing_is_written_before_the_data_is_read(tmp_path, config):
  config['data'].update(name='archive', path=str(tmp_path / 'none.npz'))
  with pytest.raises(OSError, match=r'none\.npz'):
    loop.run(config, str(tmp_path / 'run'))
  assert list(tmp_path.iterdir()) == []


def test_archive_of_plain_arrays_trains(tmp_path, config):
  """Colour images of a user's own, not square, with named classes."""
  rng = np.random.default_rng(0)
  labels = np.arange(96) % 3
  images = rng.integers(0, 80, (96, 12, 10, 3), np.uint8)
  images[np.arange(96), ..., labels] += 120  # the class is the colour
  np.savez(
    tmp_path / 'mine.npz',
    train_images=images[:64],
    train_labels=labels[:64],
    test_images=images[64:],
    test_labels=labels[64:],
    class_names=np.array(['red', 'green', 'blue']),
  )
  config['data'].update(name='archive', path=str(tmp_path / 'mine.npz'))
  config['mollify']['blur_width_max'] = None
  config.update(batch_size=16, epochs=8)
  results = loop.run(config, str(tmp_path / 'run'))
  assert results['class_names'] == ['red', 'green', 'blue']
  assert results['conditions'][0]['n'] == 32
  assert results['conditions'][0]['error'] < 0.2


@pytest.mark.parametrize(
  ('wanted', 'workers', 'feed'),
  [
    ('auto', 0, 'resident'),
    pytest.param('sharded', 0, 'sharded', marks=pytest.mark.slow),
    pytest.param('streaming', 2, 'streaming', marks=pytest.mark.slow),
  ],
)
def test_folder_of_class_folders_trains(
  tmp_path, config, wanted, workers, feed
):
  """A user's own images of several sizes; the class is the colour."""
  random = np.random.default_rng(0)
  for channel, name in enumerate(('red', 'green', 'blue')):
    folder = tmp_path / 'mine' / name
    folder.mkdir(parents=True)
    for i in range(24):
      shape = (16 + i % 3, 20, 3)
      pixels = random.integers(0, 80, shape, np.uint8)
      pixels[..., channel] += 120
      Image.fromarray(pixels).save(folder / f'{i}.png')
  config['data'].update(
    name='folder',
    path=str(tmp_path / 'mine'),
    image_size=12,
    test_fraction=0.25,
    num_workers=workers,
  )
  config['mollify']['blur_width_max'] = None
  config.update(batch_size=16, epochs=8, feed=wanted)
  if feed == 'streaming':
    with pytest.raises(ValueError, match='draws_per_image=2 is for data that'):
      loop.run({**config, 'draws_per_image': 2}, str(tmp_path / 'run'))
  results = loop.run(config, str(tmp_path / 'run'))
  assert results['feed'] == feed
  assert results['class_names'] == ['blue', 'green', 'red']
  assert [c['n'] for c in results['conditions']] == [18, 18, 18]
  assert results['conditions'][0]['error'] < 0.2
  assert (tmp_path / 'run' / 'mollification.png').exists()


def test_feeds_that_cannot_be_had_stop_before_anything_is_written(
  tmp_path, config
):
  config['feed'] = 'streaming'
  with pytest.raises(ValueError, match=r"'digits' cannot be streamed; take"):
    loop.run(config, str(tmp_path / 'run'))
  config['data'].update(name='imagenet', data_dir=str(tmp_path / 'tfds'))
  config['feed'] = 'resident'
  with pytest.raises(ValueError, match='can only be streamed'):
    loop.run(config, str(tmp_path / 'run'))
  config['feed'] = 'auto'
  config['data']['image_size'] = 32
  with pytest.raises(OSError, match='tfds build imagenet2012'):
    loop.run(config, str(tmp_path / 'run'))
  assert list(tmp_path.iterdir()) == []


def test_constant_schedule_trains(tmp_path, config):
  config['optimizer'].update(schedule='constant', warmup_epochs=0.0)
  config['epochs'] = 1
  loop.run(config, str(tmp_path / 'run'))
  lines = read_lines(tmp_path / 'run' / 'metrics.jsonl')
  rates = [line['learning_rate'] for line in lines if line['event'] == 'train']
  np.testing.assert_allclose(rates, [0.05] * 22, rtol=1e-6)


def test_a_workdir_in_use_is_left_alone(tmp_path, config):
  directory = tmp_path / 'run'
  directory.mkdir()
  with (directory / '.lock').open('w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(ValueError, match='is in use by another process'):
      loop.run(config, str(directory))
  assert [path.name for path in directory.iterdir()] == ['.lock']


def test_a_run_goes_on_with_the_data_it_began_with(
  tmp_path, config, monkeypatch
):
  images = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), np.uint8)
  members = {
    'train_images': images,
    'train_labels': np.arange(64) % 2,
    'test_images': images[:8],
    'test_labels': np.arange(8) % 2,
  }
  path = tmp_path / 'mine.npz'
  np.savez(path, **members)
  config['data'].update(name='archive', path=str(path))
  config.update(batch_size=16, epochs=4)

  def interrupt(*_, **__):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(loop.parallel, 'to_host', interrupt)
    with pytest.raises(KeyboardInterrupt):
      loop.run(config, str(tmp_path / 'run'))
  members['train_images'] = 255 - images
  np.savez(path, **members)
  with pytest.raises(ValueError, match=r'began with other data.*fingerprint'):
    loop.run(config, str(tmp_path / 'run'))


def test_results_are_kept_if_a_picture_fails(tmp_path, config, monkeypatch):
  config['epochs'] = 1

  def fail(*_):
    raise ValueError('no picture')

  monkeypatch.setattr(evaluator.plots, 'draw_confidence_curve', fail)
  with pytest.raises(ValueError, match='no picture'):
    loop.run(config, str(tmp_path / 'run'))
  assert loop.run(config, str(tmp_path / 'run'))['steps'] == 22


@pytest.mark.slow
def test_the_seed_and_the_moving_average_reach_the_results(tmp_path, config):
  """Other seeds give other runs, and the average is what is evaluated."""
  config['epochs'] = 1

  def nll(name, **changes):
    run = {**config, **changes}
    results = loop.run(run, str(tmp_path / name))
    return [condition['nll'] for condition in results['conditions']]

  base = nll('base')
  assert nll('again') == base
  other = nll('seed', seed=1)
  assert all(a != b for a, b in zip(base, other, strict=True))
  noise = nll('noise', eval={**config['eval'], 'seed': 1})
  assert noise[0] == base[0]  # clean
  assert noise[1] != base[1]
  ema = nll('ema', optimizer={**config['optimizer'], 'ema_decay': 0.9})
  assert all(a != b for a, b in zip(base, ema, strict=True))


def test_corruptions_are_evaluated_written_and_evaluated_again(
  tmp_path, config
):
  workdir = tmp_path / 'run'
  config['eval'].update(corruptions='contrast', save_logits=True)
  config['eval']['every_epochs'] = 0
  results = loop.run(config, str(workdir))
  cells = results['corrupted']['cells']
  assert [cell['severity'] for cell in cells] == [1, 2, 3, 4, 5]
  assert results['corrupted']['title'] == 'digits-C-like'
  clean = results['conditions'][0]
  assert clean['error'] < cells[4]['error']
  with np.load(workdir / 'logits.npz', allow_pickle=False) as logits:
    names = ['clean', 'noise_t0.3', 'blur_t0.3']
    names += [f'contrast_{s}' for s in range(1, 6)]
    assert {*logits.files} == {*names, 'labels', 'corrupted_labels'}
    labels = load_digits().test_labels
    for name in ('labels', 'corrupted_labels'):
      np.testing.assert_array_equal(logits[name], labels)
    for name, record in zip(
      names, [*results['conditions'], *cells], strict=True
    ):
      assert logits[name].shape == (360, 10)
      wrong = logits[name].argmax(1) != labels
      assert wrong.mean() == pytest.approx(record['error'], abs=1e-9)
  written = {path.name for path in workdir.iterdir()}
  tables = {'corruptions.csv', 'corruptions.md', 'corruptions.tex'}
  assert tables | {'corruptions.png', 'severities.png'} <= written
  text = loop.describe(results)
  assert 'digits-C-like' in text

  # Again, with another evaluation of the same training.
  config['eval'].update(corruptions='saturate', save_logits=False)
  with pytest.raises(ValueError, match=r"'saturate'.*--mode=evaluate"):
    loop.run(config, str(workdir))
  before = (workdir / 'config.json').read_bytes()
  lines = (workdir / 'metrics.jsonl').read_bytes()
  again = loop.run(config, str(workdir), 'evaluate')
  assert again['conditions'] == results['conditions']
  assert again['corrupted']['cells'][0]['corruption'] == 'saturate'
  assert again['config']['eval']['corruptions'] == 'saturate'
  assert (workdir / 'config.json').read_bytes() == before
  assert (workdir / 'metrics.jsonl').read_bytes() == lines
  left = {path.name for path in workdir.iterdir()}
  assert 'corruptions.csv' in left
  # The fifteen and the logits belonged to the other evaluation.
  assert not left & {'severities.png', 'corruptions.tex', 'logits.npz'}
  stored = json.loads((workdir / 'results.json').read_text())
  assert stored['corrupted'] == again['corrupted']


def test_only_a_finished_training_is_evaluated(tmp_path, config):
  with pytest.raises(ValueError, match='holds no run; name that of a finished'):
    loop.run(config, str(tmp_path / 'none'), 'evaluate')
  assert not (tmp_path / 'none').exists()
  with pytest.raises(ValueError, match='unknown --mode=eval; choose'):
    loop.run(config, str(tmp_path / 'none'), 'eval')
  workdir = tmp_path / 'run'
  workdir.mkdir()
  (workdir / 'config.json').write_text(json.dumps(config))
  with pytest.raises(ValueError, match='of 44 steps; there is no checkpoint'):
    loop.run(config, str(workdir), 'evaluate')
  assert not (workdir / 'results.json').exists()
  config['epochs'] = 3
  with pytest.raises(ValueError, match=r'epochs: 2 -> 3'):
    loop.run(config, str(workdir), 'evaluate')


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'corruptions': 'rain'}, "config.eval.corruptions: unknown .*'rain'"),
    ({'corruption_parameters': 'svhn'}, "corruption_parameters 'svhn'; choose"),
    (
      {'corrupted_path': '/nowhere', 'corruptions': 'fog'},
      "corrupted_path='/nowhere' is not a folder",
    ),
  ],
)
def test_a_bad_evaluation_stops_the_run_before_it_trains(
  tmp_path, config, changes, message
):
  config['eval'].update(changes)
  with pytest.raises((ValueError, OSError), match=message):
    loop.run(config, str(tmp_path / 'run'))
  assert not (tmp_path / 'run' / 'metrics.jsonl').exists()


@pytest.mark.slow
def test_temperature_scaling_goes_with_every_feed_and_label(tmp_path, config):
  """Streamed images and an extra class; and not where it has no split."""
  random = np.random.default_rng(0)
  for channel, name in enumerate(('red', 'green', 'blue')):
    folder = tmp_path / 'mine' / name
    folder.mkdir(parents=True)
    for i in range(24):
      pixels = random.integers(0, 80, (16 + i % 3, 20, 3), np.uint8)
      pixels[..., channel] += 120
      Image.fromarray(pixels).save(folder / f'{i}.png')
  config['data'].update(
    name='folder',
    path=str(tmp_path / 'mine'),
    image_size=12,
    test_fraction=0.25,
    validation_fraction=0.25,
    num_workers=0,
  )
  config['mollify'].update(blur_width_max=None, label_rule='extra_smooth')
  config.update(batch_size=16, epochs=1)
  config['eval']['every_epochs'] = 0
  temperatures = []
  for feed in ('resident', 'streaming'):
    run = {**config, 'feed': feed}
    results = loop.run(run, str(tmp_path / feed))
    scaling = results['temperature_scaling']
    assert scaling['examples'] in (13, 14, 15)  # a quarter of 54
    assert [c['n'] for c in scaling['conditions']] == [18, 18, 18]
    assert 'corrupted' not in scaling
    temperatures.append(scaling['temperature'])
    again = loop.run(run, str(tmp_path / feed), 'evaluate')
    assert again['temperature_scaling'] == scaling
  assert all(0.05 <= temperature <= 20 for temperature in temperatures)
  config['data']['evaluate_on'] = 'validation'
  judged = loop.run({**config, 'feed': 'resident'}, str(tmp_path / 'judged'))
  assert 'temperature_scaling' not in judged
  assert judged['conditions'][0]['n'] in (13, 14, 15)
