"""SGD with momentum, cosine decay, and weight decay coupled or decoupled."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import optax

WEIGHT_DECAYS = ('coupled', 'decoupled')
SCHEDULES = ('cosine_per_epoch', 'cosine_per_step', 'constant')


@dataclasses.dataclass(frozen=True)
class OptimizerSpec:
  """How parameters are updated. The defaults are the paper's recipe.

  Attributes:
    learning_rate: peak learning rate, > 0.
    momentum: heavy-ball momentum in [0, 1).
    nesterov: Nesterov's form of it.
    weight_decay: >= 0, on all parameters, biases and BatchNorm included.
    weight_decay_form: `coupled`, the paper's: added to the gradient before
      momentum, as L2 regularisation; `decoupled`: subtracted from the
      parameters, scaled by the learning rate only.
    schedule: `cosine_per_epoch`, the paper's: constant within an epoch;
      `cosine_per_step`; `constant`.
    warmup_epochs: linear warm-up from 0, >= 0; per step in every schedule.
    gradient_clip: largest global gradient norm; 0 is none.
    ema_decay: of the moving average of parameters and BatchNorm statistics
      that is evaluated in place of the last ones; 0 is none.

  Raises:
    ValueError: a field out of its range; the choices are listed.
  """

  learning_rate: float = 0.01
  momentum: float = 0.9
  nesterov: bool = False
  weight_decay: float = 5e-4
  weight_decay_form: str = 'coupled'
  schedule: str = 'cosine_per_epoch'
  warmup_epochs: float = 0.0
  gradient_clip: float = 0.0
  ema_decay: float = 0.0

  def __post_init__(self):
    if not 0 < self.learning_rate < math.inf:
      raise ValueError(
        f'learning_rate must be finite and > 0, got {self.learning_rate!r}'
      )
    for field in ('momentum', 'ema_decay'):
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
      ('weight_decay_form', WEIGHT_DECAYS),
      ('schedule', SCHEDULES),
    ):
      if getattr(self, field) not in choices:
        raise ValueError(
          f'unknown {field} {getattr(self, field)!r}; choose from '
          f'{", ".join(choices)}'
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
  """The optax chain that `spec` describes."""
  decay = optax.add_decayed_weights(spec.weight_decay)
  momentum = optax.trace(spec.momentum, nesterov=spec.nesterov)
  coupled = spec.weight_decay_form == 'coupled'
  return optax.chain(
    optax.clip_by_global_norm(spec.gradient_clip)
    if spec.gradient_clip
    else optax.identity(),
    decay if coupled else momentum,
    momentum if coupled else decay,
    optax.scale_by_learning_rate(
      lambda step: learning_rate(spec, step, steps_per_epoch, epochs)
    ),
  )
