"""SGD with momentum, or AdamW; cosine decay, warm-up and clipping."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

OPTIMIZERS = ('sgd', 'adamw')
WEIGHT_DECAYS = ('coupled', 'decoupled')
SCHEDULES = ('cosine_per_epoch', 'cosine_per_step', 'constant')
# Whose a field is that only one optimiser has.
_OWNERS = {
  'momentum': 'sgd',
  'nesterov': 'sgd',
  'weight_decay_form': 'sgd',
  'beta1': 'adamw',
  'beta2': 'adamw',
  'epsilon': 'adamw',
}


@dataclasses.dataclass(frozen=True)
class OptimizerSpec:
  """How parameters are updated. The defaults are the paper's recipe.

  Attributes:
    name: `sgd`, the paper's, or `adamw`, usual for transformers.
    learning_rate: peak learning rate, > 0.
    momentum: of `sgd`: heavy-ball momentum in [0, 1).
    nesterov: of `sgd`: Nesterov's form of it.
    beta1: of `adamw`: decay of the mean of gradients, in [0, 1).
    beta2: of `adamw`: decay of the mean of their squares, in [0, 1).
    epsilon: of `adamw`: added to the root of that mean, > 0.
    weight_decay: >= 0. With `sgd` on all parameters, biases and BatchNorm
      included, as in the paper; with `adamw` on kernels only (see `kernels`).
    weight_decay_form: of `sgd`: `coupled`, the paper's: added to the gradient
      before momentum, as L2 regularisation; `decoupled`: subtracted from the
      parameters, scaled by the learning rate only. That of `adamw` always is.
    schedule: `cosine_per_epoch`, the paper's: constant within an epoch;
      `cosine_per_step`; `constant`.
    warmup_epochs: linear warm-up from 0, >= 0; per step in every schedule.
    gradient_clip: largest global gradient norm; 0 is none.
    ema_decay: of the moving average of parameters and BatchNorm statistics
      that is evaluated in place of the last ones; 0 is none.

  Raises:
    ValueError: a field out of its range (the choices are listed), or one that
      does nothing with this optimiser and is not left at its default.
  """

  name: str = 'sgd'
  learning_rate: float = 0.01
  momentum: float = 0.9
  nesterov: bool = False
  beta1: float = 0.9
  beta2: float = 0.999
  epsilon: float = 1e-8
  weight_decay: float = 5e-4
  weight_decay_form: str = 'coupled'
  schedule: str = 'cosine_per_epoch'
  warmup_epochs: float = 0.0
  gradient_clip: float = 0.0
  ema_decay: float = 0.0

  def __post_init__(self):
    for field in ('learning_rate', 'epsilon'):
      if not 0 < getattr(self, field) < math.inf:
        raise ValueError(
          f'{field} must be finite and > 0, got {getattr(self, field)!r}'
        )
    for field in ('momentum', 'beta1', 'beta2', 'ema_decay'):
      if not 0 <= getattr(self, field) < 1:
        raise ValueError(
          f'{field} must be in [0, 1), got {getattr(self, field)!r}'
        )
    for field in ('weight_decay', 'warmup_epochs', 'gradient_clip'):
      if not 0 <= getattr(self, field) < math.inf:
        raise ValueError(
          f'{field} must be finite and >= 0, got {getattr(self, field)!r}'
        )
    for field, choices in (
      ('name', OPTIMIZERS),
      ('weight_decay_form', WEIGHT_DECAYS),
      ('schedule', SCHEDULES),
    ):
      if getattr(self, field) not in choices:
        raise ValueError(
          f'unknown {field} {getattr(self, field)!r}; choose from '
          f'{", ".join(choices)}'
        )
    for field in dataclasses.fields(self):
      owner = _OWNERS.get(field.name, self.name)
      value = getattr(self, field.name)
      if owner != self.name and value != field.default:
        raise ValueError(
          f'{field.name}={value!r} is of {owner} and does nothing with '
          f'name={self.name!r}; leave it at {field.default!r}, or choose '
          f'name={owner!r}'
        )


def learning_rate(
  spec: OptimizerSpec, step: jax.Array, steps_per_epoch: int, epochs: int
) -> jax.Array:
  """The learning rate of steps counted from 0: float32[...], as `step`."""
  step = jnp.asarray(step, jnp.float32)
  rate = jnp.full(step.shape, spec.learning_rate, jnp.float32)
  if spec.schedule != 'constant':
    progress = step / (steps_per_epoch * epochs)
    if spec.schedule == 'cosine_per_epoch':
      progress = jnp.floor(step / steps_per_epoch) / epochs
    rate *= 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
  if spec.warmup_epochs:
    warmup_steps = spec.warmup_epochs * steps_per_epoch
    rate *= jnp.minimum((step + 1.0) / warmup_steps, 1.0)
  return rate


def make_optimizer(
  spec: OptimizerSpec, steps_per_epoch: int, epochs: int
) -> optax.GradientTransformation:
  """The optax chain that `spec` describes.

  `adamw` is that of Loshchilov & Hutter 2019 (arXiv 1711.05101) with the decay
  scaled by the learning rate, as in PyTorch and optax.
  """
  if spec.name == 'adamw':
    rules = (
      optax.scale_by_adam(spec.beta1, spec.beta2, spec.epsilon),
      optax.add_decayed_weights(spec.weight_decay, mask=kernels),
    )
  else:
    rules = (
      optax.add_decayed_weights(spec.weight_decay),
      optax.trace(spec.momentum, nesterov=spec.nesterov),
    )
    if spec.weight_decay_form == 'decoupled':
      rules = rules[::-1]
  return optax.chain(
    optax.clip_by_global_norm(spec.gradient_clip)
    if spec.gradient_clip
    else optax.identity(),
    *rules,
    optax.scale_by_learning_rate(
      lambda step: learning_rate(spec, step, steps_per_epoch, epochs)
    ),
  )


def kernels(params: Any) -> Any:
  """Which parameters are multiplied with activations: bool, a tree as `params`.

  Those that flax calls `kernel`: not biases (attention's have two axes, so that
  the rank would not tell), scales of norms, class tokens and positions.
  """
  return jax.tree.map_with_path(
    lambda path, _: getattr(path[-1], 'key', None) == 'kernel', params
  )
