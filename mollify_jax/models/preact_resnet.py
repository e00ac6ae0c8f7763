"""Pre-activation residual networks for small images."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mollify_jax.models.convolution import Convolution
from mollify_jax.models.normalization import batch_norm
from mollify_jax.models.pooling import average_pool


class BasicBlock(nn.Module):
  """Two 3x3 convolutions, each after batch norm and ReLU.

  [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), width].
  """

  width: int
  stride: int
  norm: Callable[..., nn.Module]
  dtype: Any

  expansion = 1  # output channels per unit of width

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    y = nn.relu(self.norm(name='norm1')(x))
    y = Convolution(self.width, 3, self.stride, self.dtype, name='conv1')(y)
    y = nn.relu(self.norm(name='norm2')(y))
    y = Convolution(self.width, 3, 1, self.dtype, name='conv2')(y)
    return shortcut(x, self.width, self.stride, self.dtype) + y


class BottleneckBlock(nn.Module):
  """1x1, 3x3 and 1x1 convolution, each after batch norm and ReLU.

  [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), 4 width].
  """

  width: int
  stride: int
  norm: Callable[..., nn.Module]
  dtype: Any

  expansion = 4  # output channels per unit of width

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    features = self.expansion * self.width
    y = nn.relu(self.norm(name='norm1')(x))
    y = Convolution(self.width, 1, 1, self.dtype, name='conv1')(y)
    y = nn.relu(self.norm(name='norm2')(y))
    y = Convolution(self.width, 3, self.stride, self.dtype, name='conv2')(y)
    y = nn.relu(self.norm(name='norm3')(y))
    y = Convolution(features, 1, 1, self.dtype, name='conv3')(y)
    return shortcut(x, features, self.stride, self.dtype) + y


def shortcut(x: jax.Array, features: int, stride: int, dtype: Any) -> jax.Array:
  """The raw block input, projected where its shape must change.

  Call it in the `__call__` of a block, which then owns the projection.
  """
  if stride == 1 and x.shape[-1] == features:
    return x
  return Convolution(features, 1, stride, dtype, name='projection')(x)


class PreactResNet(nn.Module):
  """Pre-activation ResNet (He et al. 2016, arXiv 1603.05027).

  As the authors of the mollification paper (arXiv 2406.01494) train it, and
  unlike He et al.: shortcuts project the raw block input, not its activation;
  nothing is normalised or rectified between the last block and the pooling;
  the stem is a plain 3x3 convolution at stride 1. The pooling is over the
  whole image, so the parameters do not depend on the image size. Pooling and
  the dense layer compute in float32.

  With `large_stem` the stem is He et al.'s for ImageNet, a 7x7 convolution and
  a 3x3 maximum, both at stride 2: a sixteenth of the work on large images.
  """

  block: type[BasicBlock] | type[BottleneckBlock]
  blocks: tuple[int, ...]  # per group; the width doubles from group to group
  num_classes: int
  dtype: Any = jnp.float32
  axis_name: str | None = None
  large_stem: bool = False
  width: int = 64  # of the stem and the first group

  @nn.compact
  def __call__(self, images: jax.Array, train: bool) -> jax.Array:
    """float[B, H, W, C] of any size -> logits float32[B, num_classes]."""
    norm = batch_norm(train, self.dtype, self.axis_name)
    if self.large_stem:
      x = Convolution(self.width, 7, 2, self.dtype, name='stem')(images)
      x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
    else:
      x = Convolution(self.width, 3, 1, self.dtype, name='stem')(images)
    for group, count in enumerate(self.blocks):
      for index in range(count):
        x = self.block(
          width=self.width * 2**group,
          stride=2 if group > 0 and index == 0 else 1,
          norm=norm,
          dtype=self.dtype,
          name=f'group{group + 1}_block{index + 1}',
        )(x)
    return nn.Dense(self.num_classes, name='head')(average_pool(x))
