"""What training carries from step to step. No key: see `rng`."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from mollify_jax import rng


class TrainState(flax.struct.PyTreeNode):
  """Everything a checkpoint holds.

  Attributes:
    step: int32[], updates made so far.
    params: float32 master weights.
    batch_stats: float32 running BatchNorm statistics, {} where there are none.
    opt_state: the optimiser's own.
    ema: {'params', 'batch_stats'} averaged over steps, or {} without EMA.
  """

  step: jax.Array
  params: Any
  batch_stats: Any
  opt_state: Any
  ema: Any

  def variables(self) -> dict[str, Any]:
    """What evaluation uses: the moving average if there is one."""
    return self.ema or self._last()

  def _last(self) -> dict[str, Any]:
    return {'params': self.params, 'batch_stats': self.batch_stats}

  def averaged(self, decay: float) -> 'TrainState':
    """The state with its moving average advanced by one step."""
    # Early on, average over the steps there are, not over the initial values.
    decay = jnp.minimum(decay, self.step / (self.step + 9.0))
    ema = jax.tree.map(
      lambda average, last: decay * average + (1.0 - decay) * last,
      self.ema,
      self._last(),
    )
    return self.replace(ema=ema)


def create_state(
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  image_shape: tuple[int, int, int],
  seed: int,
  *,
  with_ema: bool = False,
) -> TrainState:
  """The state at step 0; parameters depend on `seed` and nothing else."""
  key = rng.purpose_key(seed, rng.Purpose.INITIALIZE)
  images = jnp.zeros((1, *image_shape), jnp.float32)
  variables = jax.jit(lambda k: model.init(k, images, train=False))(key)
  state = TrainState(
    step=jnp.zeros((), jnp.int32),
    params=variables['params'],
    batch_stats=variables.get('batch_stats', {}),
    opt_state=optimizer.init(variables['params']),
    ema={},
  )
  # A copy: two leaves of a donated state must not share one buffer.
  return state.replace(
    ema=jax.tree.map(jnp.copy, state._last()) if with_ema else {}
  )
