"""The models, by name.

model.apply(variables, images, train=True, mutable=['batch_stats'],
rngs={'dropout': key}) returns (logits, updates); with train=False it returns
the logits alone and takes no key. `variables` holds 'params' (float32) and,
where there is batch norm, 'batch_stats' (float32).
"""

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mollify_jax.models import preact_resnet, resnet
from mollify_jax.models.all_conv import AllConvNet
from mollify_jax.models.densenet import DenseNet
from mollify_jax.models.googlenet import GoogLeNet
from mollify_jax.models.preact_resnet import PreactResNet
from mollify_jax.models.resnet import ResNet
from mollify_jax.models.small_cnn import SmallCnn
from mollify_jax.models.vision_transformer import VisionTransformer
from mollify_jax.models.wide_resnet import WideResNet

# name -> class, its own fields
MODELS: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
  'preact_resnet18': (
    PreactResNet,
    {'block': preact_resnet.BasicBlock, 'blocks': (2, 2, 2, 2)},
  ),
  'preact_resnet34': (
    PreactResNet,
    {'block': preact_resnet.BasicBlock, 'blocks': (3, 4, 6, 3)},
  ),
  'preact_resnet50': (
    PreactResNet,
    {'block': preact_resnet.BottleneckBlock, 'blocks': (3, 4, 6, 3)},
  ),
  'preact_resnet101': (
    PreactResNet,
    {'block': preact_resnet.BottleneckBlock, 'blocks': (3, 4, 23, 3)},
  ),
  'preact_resnet50_large_stem': (
    PreactResNet,
    {
      'block': preact_resnet.BottleneckBlock,
      'blocks': (3, 4, 6, 3),
      'large_stem': True,
    },
  ),
  'resnet18': (ResNet, {'block': resnet.BasicBlock, 'blocks': (2, 2, 2, 2)}),
  'resnet34': (ResNet, {'block': resnet.BasicBlock, 'blocks': (3, 4, 6, 3)}),
  'resnet50': (
    ResNet,
    {'block': resnet.BottleneckBlock, 'blocks': (3, 4, 6, 3)},
  ),
  'resnet101': (
    ResNet,
    {'block': resnet.BottleneckBlock, 'blocks': (3, 4, 23, 3)},
  ),
  'resnet50_large_stem': (
    ResNet,
    {
      'block': resnet.BottleneckBlock,
      'blocks': (3, 4, 6, 3),
      'large_stem': True,
    },
  ),
  'resnext29_4x32d': (
    ResNet,
    {
      'block': functools.partial(
        resnet.BottleneckBlock, groups=4, group_width=32
      ),
      'blocks': (3, 3, 3),
      'pool': 8,
    },
  ),
  'wrn_16_1': (WideResNet, {'depth': 16, 'widen': 1}),
  'wrn_28_10': (WideResNet, {'depth': 28, 'widen': 10}),
  'wrn_40_2': (WideResNet, {'depth': 40, 'widen': 2}),
  'wrn_40_10': (WideResNet, {'depth': 40, 'widen': 10}),
  'densenet40': (DenseNet, {'depth': 40}),
  'densenet100': (DenseNet, {'depth': 100}),
  'densenet_bc40': (
    DenseNet,
    {'depth': 40, 'bottleneck': True, 'compression': 0.5},
  ),
  'densenet_bc100': (
    DenseNet,
    {'depth': 100, 'bottleneck': True, 'compression': 0.5},
  ),
  'all_conv_net': (AllConvNet, {}),
  'googlenet': (GoogLeNet, {}),
  'vit_ti4': (VisionTransformer, {'patch': 4, 'width': 192, 'heads': 3}),
  'vit_s16': (VisionTransformer, {'patch': 16, 'width': 384, 'heads': 6}),
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

  Vision transformers want sides that their patch divides. The parameters of
  `resnext29_4x32d` and `all_conv_net` depend on the size from 64x64 on.

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
