"""The optimiser against its textbook equations in float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mollify_jax.models import MODELS, create_model
from mollify_jax.training.optimizer import (
  OptimizerSpec,
  kernels,
  learning_rate,
  make_optimizer,
)
from mollify_jax.training.state import TrainState


def run_both(spec, steps=6, steps_per_epoch=2, epochs=3):
  """Parameters after a few steps on a quadratic: ours and the textbook's."""
  optimizer = make_optimizer(spec, steps_per_epoch, epochs)
  start = np.array([1.0, -2.0, 0.5])
  curvature = np.array([1.0, 0.3, 2.0])

  params = jnp.asarray(start, jnp.float32)
  state = optimizer.init(params)
  expected, buffer = start.copy(), np.zeros(3)
  for step in range(steps):
    gradient = jnp.asarray(curvature, jnp.float32) * params
    updates, state = optimizer.update(gradient, state, params)
    params = params + updates

    gradient = curvature * expected
    if spec.gradient_clip:
      norm = np.linalg.norm(gradient)
      gradient = gradient * min(1, spec.gradient_clip / norm)
    if spec.weight_decay_form == 'coupled':
      gradient = gradient + spec.weight_decay * expected
    buffer = spec.momentum * buffer + gradient
    update = gradient + spec.momentum * buffer if spec.nesterov else buffer
    if spec.weight_decay_form == 'decoupled':
      update = update + spec.weight_decay * expected
    rate = textbook_rate(spec, step, steps_per_epoch, epochs)
    expected = expected - rate * update
  return params, expected


def textbook_rate(spec, step, steps_per_epoch, epochs):
  progress = {
    'cosine_per_epoch': (step // steps_per_epoch) / epochs,
    'cosine_per_step': step / (steps_per_epoch * epochs),
    'constant': 0.0,
  }[spec.schedule]
  rate = spec.learning_rate * 0.5 * (1 + np.cos(np.pi * progress))
  if spec.warmup_epochs:
    rate *= min(1, (step + 1) / (spec.warmup_epochs * steps_per_epoch))
  return rate


@pytest.mark.parametrize(
  'fields',
  [
    {},
    {'weight_decay_form': 'decoupled'},
    {'nesterov': True, 'schedule': 'cosine_per_step'},
    {'gradient_clip': 0.5},
    {'schedule': 'constant', 'warmup_epochs': 1.5, 'momentum': 0.0},
  ],
)
def test_updates_match_the_textbook(fields):
  spec = OptimizerSpec(**{'learning_rate': 0.2, 'weight_decay': 0.1, **fields})
  ours, textbook = run_both(spec)
  np.testing.assert_allclose(ours, textbook, rtol=2e-6)


# name -> shape, whether its weights decay with AdamW
PARAMETERS = {
  ('dense', 'kernel'): ((3, 2), True),
  ('dense', 'bias'): ((2,), False),
  ('block', 'attention', 'query', 'kernel'): ((3, 2, 2), True),
  ('block', 'attention', 'query', 'bias'): ((2, 2), False),
  ('norm', 'scale'): ((3,), False),
  ('class_token',): ((1, 1, 3), False),
  ('positions',): ((1, 4, 3), False),
}


def nested(flat):
  tree = {}
  for path, leaf in flat.items():
    node = tree
    for name in path[:-1]:
      node = node.setdefault(name, {})
    node[path[-1]] = leaf
  return tree


@pytest.mark.parametrize(
  'fields',
  [
    {},
    {'weight_decay': 0.0},
    {'gradient_clip': 1.0},
    {'beta1': 0.5, 'beta2': 0.9, 'epsilon': 0.1, 'gradient_clip': 1e-3},
    {'schedule': 'cosine_per_epoch', 'ema_decay': 0.5},
  ],
)
def test_adamw_matches_the_textbook(fields):
  """Nine steps on a quadratic, with warm-up; Loshchilov & Hutter, alg. 2."""
  fields = {'learning_rate': 0.05, 'weight_decay': 0.3, **fields}
  fields = {'schedule': 'cosine_per_step', 'warmup_epochs': 1.5, **fields}
  spec = OptimizerSpec(name='adamw', **fields)
  random = np.random.default_rng(0)
  start = {
    path: random.choice([-1, 1], shape) * random.uniform(0.5, 2, shape)
    for path, (shape, _) in PARAMETERS.items()
  }
  curvature = {
    path: random.uniform(0.3, 2, shape)
    for path, (shape, _) in PARAMETERS.items()
  }
  optimizer = make_optimizer(spec, steps_per_epoch=3, epochs=3)
  params = jax.tree.map(jnp.float32, nested(start))
  state = TrainState(
    step=jnp.int32(0),
    params=params,
    batch_stats={},
    opt_state=optimizer.init(params),
    ema={'params': params, 'batch_stats': {}},
  )
  for _ in range(9):
    updates, opt_state = optimizer.update(
      jax.tree.map(lambda c, p: c * p, nested(curvature), state.params),
      state.opt_state,
      state.params,
    )
    state = state.replace(
      step=state.step + 1,
      params=optax.apply_updates(state.params, updates),
      opt_state=opt_state,
    ).averaged(spec.ema_decay)

  expected, average = dict(start), dict(start)
  mean = {path: np.zeros_like(leaf) for path, leaf in start.items()}
  square = {path: np.zeros_like(leaf) for path, leaf in start.items()}
  for step in range(9):
    gradients = {path: curvature[path] * expected[path] for path in start}
    if spec.gradient_clip:
      norm = np.sqrt(sum(np.sum(g**2) for g in gradients.values()))
      scale = min(1, spec.gradient_clip / norm)
      gradients = {path: scale * g for path, g in gradients.items()}
    rate = textbook_rate(spec, step, 3, 3)
    for path, gradient in gradients.items():
      mean[path] = spec.beta1 * mean[path] + (1 - spec.beta1) * gradient
      square[path] = spec.beta2 * square[path] + (1 - spec.beta2) * gradient**2
      update = (mean[path] / (1 - spec.beta1 ** (step + 1))) / (
        np.sqrt(square[path] / (1 - spec.beta2 ** (step + 1))) + spec.epsilon
      )
      if PARAMETERS[path][1]:
        update = update + spec.weight_decay * expected[path]
      expected[path] = expected[path] - rate * update
      decay = min(spec.ema_decay, (step + 1) / (step + 10))
      average[path] = decay * average[path] + (1 - decay) * expected[path]

  # 1 - beta2 keeps four digits of float32 where beta2 is 0.999.
  def compare(ours, textbook):
    np.testing.assert_allclose(ours, textbook, rtol=2e-5, atol=2e-5)

  jax.tree.map(compare, state.params, nested(expected))
  jax.tree.map(compare, state.ema['params'], nested(average))


@pytest.mark.parametrize('name', MODELS)
def test_every_parameter_is_a_kernel_or_does_not_decay(name):
  model = create_model(name, 10)
  params = jax.eval_shape(
    lambda key, images: model.init(key, images, train=False),
    jax.random.key(0),
    jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32),
  )['params']
  decays = {
    jax.tree_util.keystr(path, simple=True, separator='.'): chosen
    for path, chosen in jax.tree_util.tree_leaves_with_path(kernels(params))
  }
  leaves = {
    jax.tree_util.keystr(path, simple=True, separator='.'): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(params)
  }
  assert decays.keys() == leaves.keys()
  for path, chosen in decays.items():
    rank = leaves[path].ndim
    if path.endswith('.bias') and '.attention.' in path:
      assert rank in (1, 2)
      assert not chosen, path
    else:
      assert chosen == (rank >= 2), path
  assert any(decays.values())


def test_cosine_is_constant_within_an_epoch_and_ends_near_zero():
  spec = OptimizerSpec(learning_rate=1.0)
  rates = [float(learning_rate(spec, step, 10, 300)) for step in (0, 9, 10)]
  assert rates[0] == rates[1] == 1.0
  assert rates[2] < 1.0
  last = float(learning_rate(spec, 2999, 10, 300))
  np.testing.assert_allclose(
    last, 0.5 * (1 + np.cos(np.pi * 299 / 300)), rtol=2e-3
  )


@pytest.mark.parametrize(
  ('field', 'value', 'message'),
  [
    ('learning_rate', 0.0, 'learning_rate must be finite and > 0, got 0.0'),
    ('momentum', 1.0, r'momentum must be in \[0, 1\), got 1.0'),
    ('weight_decay', -1e-4, 'weight_decay must be finite and >= 0'),
    ('schedule', 'linear', "unknown schedule 'linear'; choose from cosine_per"),
    ('weight_decay_form', 'l2', "unknown weight_decay_form 'l2'; choose from"),
    ('name', 'adam', "unknown name 'adam'; choose from sgd, adamw"),
    ('beta1', 1.0, r'beta1 must be in \[0, 1\), got 1.0'),
    ('beta2', -0.1, r'beta2 must be in \[0, 1\), got -0.1'),
    ('epsilon', 0.0, 'epsilon must be finite and > 0, got 0.0'),
  ],
)
def test_bad_fields_are_refused(field, value, message):
  with pytest.raises(ValueError, match=message):
    OptimizerSpec(**{field: value})


@pytest.mark.parametrize(
  ('name', 'field', 'value'),
  [
    ('adamw', 'momentum', 0.0),
    ('adamw', 'nesterov', True),
    ('adamw', 'weight_decay_form', 'decoupled'),
    ('sgd', 'beta1', 0.8),
    ('sgd', 'beta2', 0.99),
    ('sgd', 'epsilon', 1e-6),
  ],
)
def test_fields_of_the_other_optimiser_are_refused(name, field, value):
  other = {'sgd': 'adamw', 'adamw': 'sgd'}[name]
  with pytest.raises(ValueError) as caught:
    OptimizerSpec(**{'name': name, field: value})
  default = getattr(OptimizerSpec(), field)
  assert str(caught.value) == (
    f'{field}={value!r} is of {other} and does nothing with name={name!r}; '
    f'leave it at {default!r}, or choose name={other!r}'
  )
  OptimizerSpec(**{'name': other, field: value})
  OptimizerSpec(name=name, **{field: default})
