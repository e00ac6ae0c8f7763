"""The models, by name.

model.apply(variables, images, train=True, mutable=['batch_stats']) returns
(logits, updates); with train=False it returns the logits alone. `variables`
holds 'params' (float32) and 'batch_stats' (float32).
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mollify_jax.models.preact_resnet import (
  BasicBlock,
  BottleneckBlock,
  PreactResNet,
)
from mollify_jax.models.small_cnn import SmallCnn
from mollify_jax.models.wide_resnet import WideResNet

# name -> class, its own fields
MODELS: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
  'preact_resnet18': (
    PreactResNet,
    {'block': BasicBlock, 'blocks': (2, 2, 2, 2)},
  ),
  'preact_resnet34': (
    PreactResNet,
    {'block': BasicBlock, 'blocks': (3, 4, 6, 3)},
  ),
  'preact_resnet50': (
    PreactResNet,
    {'block': BottleneckBlock, 'blocks': (3, 4, 6, 3)},
  ),
  'preact_resnet101': (
    PreactResNet,
    {'block': BottleneckBlock, 'blocks': (3, 4, 23, 3)},
  ),
  'preact_resnet50_large_stem': (
    PreactResNet,
    {'block': BottleneckBlock, 'blocks': (3, 4, 6, 3), 'large_stem': True},
  ),
  'wrn_16_1': (WideResNet, {'depth': 16, 'widen': 1}),
  'small_cnn': (SmallCnn, {}),
}


def create_model(
  name: str,
  num_classes: int,
  *,
  dtype: Any = jnp.float32,
  axis_name: str | None = None,
) -> nn.Module:
  """The model of that name; it takes images float[B, H, W, C] of any size.

  Args:
    name: a key of MODELS.
    num_classes: logits per image, >= 1.
    dtype: floating point type that the layers compute in; parameters, batch
      statistics and logits are float32 whatever it is.
    axis_name: mapped device axis over which training batches are split; batch
      statistics are then those of the whole batch. None: one device.

  Raises:
    ValueError: `name` is unknown, `num_classes` < 1, or `dtype` is no floating
      point type.
  """
  if name not in MODELS:
    raise ValueError(
      f'unknown model {name!r}, want one of {", ".join(sorted(MODELS))}'
    )
  if num_classes < 1:
    raise ValueError(f'num_classes is {num_classes!r}, want at least 1')
  model, fields = MODELS[name]
  return model(
    num_classes=num_classes,
    dtype=_floating(dtype),
    axis_name=axis_name,
    **fields,
  )


def _floating(dtype: Any) -> jnp.dtype:
  """`dtype`, given as a type or by name, if it is floating point."""
  try:
    parsed = jnp.dtype(dtype)
  except TypeError:
    parsed = None
  if parsed is None or not jnp.issubdtype(parsed, jnp.floating):
    raise ValueError(
      f'dtype is {dtype!r}, want a floating point type such as float32 or '
      'bfloat16'
    )
  return parsed
