"""Compiled training steps with jax_debug_nans on: no NaN in what they return.

JAX looks at the outputs of `jit` but not at those of `pmap`, so here the body
of the trainer's step is mapped over one device by `vmap` and compiled by `jit`.
"""

import functools
import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollify_jax import parallel, rng
from mollify_jax.data import digits
from mollify_jax.kernels import mollify
from mollify_jax.training import loop
from mollify_jax.training.config import run_spec
from mollify_jax.training.finished import make_model
from mollify_jax.training.optimizer import make_optimizer
from mollify_jax.training.state import TrainState
from mollify_jax.training.step import train_step

CONFIG = Path(__file__).parents[2] / 'configs' / 'digits.py'
ROLES = ('clean', 'noise', 'blur', 'pure_noise')
BATCH = 24


@pytest.fixture
def debug_nans():
  before = jax.config.jax_debug_nans
  jax.config.update('jax_debug_nans', True)
  with pytest.raises(FloatingPointError):  # it does see what `jit` returns
    jax.jit(jnp.log)(-1.0)
  yield
  jax.config.update('jax_debug_nans', before)


@pytest.fixture
def only_ends(monkeypatch):
  """Temperatures of exactly 0 and 1, half and half."""

  def draw(key, spec):
    return jax.random.bernoulli(key).astype(jnp.float32)

  keys = rng.example_keys(rng.step_key(0, rng.Purpose.MOLLIFY, 0), 0, BATCH)
  drawn = jax.vmap(draw, (0, None))(keys, None).reshape(-1, len(ROLES))
  assert drawn.min(axis=0).tolist() == [0] * 4, 'not every role at both ends'
  assert drawn.max(axis=0).tolist() == [1] * 4, 'not every role at both ends'
  monkeypatch.setattr(mollify, 'draw_temperature', draw)


def configured(**changes):
  spec = importlib.util.spec_from_file_location('digits_config', CONFIG)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config()
  config.update(changes)
  return run_spec(config.to_dict())


def initial_state(model, optimizer, image_shape):
  """Like `create_state`, without the seconds that it compiles for."""
  variables = jax.eval_shape(
    functools.partial(model.clone(axis_name=None).init, train=False),
    jax.random.key(0),
    jnp.zeros((1, *image_shape)),
  )
  random = np.random.default_rng(0)
  params = jax.tree.map(
    lambda leaf: 0.1 * random.normal(size=leaf.shape).astype(leaf.dtype),
    variables['params'],
  )
  statistics = jax.tree.map(
    lambda leaf: np.ones(leaf.shape, leaf.dtype), variables['batch_stats']
  )
  return TrainState(
    step=np.int32(0),
    params=params,
    batch_stats=statistics,
    opt_state=optimizer.init(params),
    ema={},
  )


def step_and_state(spec):
  """The compiled step of a run, its first state, and a batch of digits.

  A third of the images are black, a third white.
  """
  dataset = digits.load()
  model = make_model(spec, dataset.num_classes)
  optimizer = make_optimizer(spec.optimizer, steps_per_epoch=2, epochs=1)
  body = functools.partial(
    train_step,
    model=model,
    optimizer=optimizer,
    spec=loop._step_spec(spec, dataset),
  )
  step = jax.jit(
    jax.vmap(
      body,
      axis_name=parallel.AXIS,
      in_axes=(None, 0, None),
      out_axes=None,
    ),
    # The program is the same; compiling it well would take most of the time.
    compiler_options={'xla_backend_optimization_level': 0},
  )
  images = dataset.train_images[:BATCH].copy()
  images[::3], images[1::3] = 0, 255
  batch = {
    'image': images[None],
    'label': np.int32(dataset.train_labels[None, :BATCH]),
  }
  state = initial_state(model, optimizer, dataset.image_shape)
  return step, jax.tree.map(jnp.asarray, state), batch


def train(spec, steps=2):
  step, state, batch = step_and_state(spec)
  for _ in range(steps):
    state, metrics = step(state, batch, np.int32(0))
    assert all(np.isfinite(value) for value in jax.tree.leaves(metrics))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


@pytest.mark.usefixtures('debug_nans')
def test_the_default_config():
  train(configured())


# Every rule, loss, smoothing and form of mixing at least once.
@pytest.mark.parametrize(
  ('rule', 'loss', 'smoothing', 'augment', 'consistency', 'others'),
  [
    ('smooth', 'cross_entropy', 1.0, ('augmix',), 12.0, {}),
    ('decay', 'dirichlet_nll', 0.0, ('mixup',), 0.0, {'dtype': 'bfloat16'}),
    (
      'decay',
      'normalized_cross_entropy',
      0.0,
      (),
      0.0,
      {'optimizer': {'gradient_clip': 1.0, 'momentum': 0.0}},
    ),
    (
      'extra',
      'normalized_cross_entropy',
      0.1,
      ('cutmix',),
      0.0,
      {'optimizer': {'name': 'adamw', 'gradient_clip': 1.0}},
    ),
    ('extra_smooth', 'dirichlet_nll', 1.0, (), 0.0, {'dtype': 'bfloat16'}),
    ('extra_smooth', 'cross_entropy', 0.0, ('mixup',), 0.0, {}),
  ],
)
@pytest.mark.usefixtures('debug_nans', 'only_ends')
def test_rules_losses_and_smoothing_at_the_ends(
  rule, loss, smoothing, augment, consistency, others
):
  train(
    configured(
      augment=augment,
      augment_options={'augmix_width': 1, 'augmix_depth': 1},
      mollify={'roles': ROLES, 'label_rule': rule},
      loss=loss,
      label_smoothing=smoothing,
      consistency_weight=consistency,
      **others,
    )
  )
