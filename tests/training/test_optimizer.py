"""The optimiser against its textbook equations in float64 NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from mollify_jax.training.optimizer import (
  OptimizerSpec,
  learning_rate,
  make_optimizer,
)


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
    progress = {
      'cosine_per_epoch': (step // steps_per_epoch) / epochs,
      'cosine_per_step': step / (steps_per_epoch * epochs),
      'constant': 0.0,
    }[spec.schedule]
    rate = spec.learning_rate * 0.5 * (1 + np.cos(np.pi * progress))
    if spec.warmup_epochs:
      rate *= min(1, (step + 1) / (spec.warmup_epochs * steps_per_epoch))
    expected = expected - rate * update
  return params, expected


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
  ],
)
def test_bad_fields_are_refused(field, value, message):
  with pytest.raises(ValueError, match=message):
    OptimizerSpec(**{field: value})
