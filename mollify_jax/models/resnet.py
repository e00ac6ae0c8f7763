"""Residual networks whose blocks end in a ReLU, and ResNeXt."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mollify_jax.models.convolution import Convolution
from mollify_jax.models.normalization import batch_norm
from mollify_jax.models.pooling import average_pool, pool_windows


class BasicBlock(nn.Module):
  """Two 3x3 convolutions, each followed by batch norm, and two ReLUs.

  The second ReLU comes after the sum with the shortcut.
  [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), width].
  """

  width: int
  stride: int
  norm: Callable[..., nn.Module]
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    y = Convolution(self.width, 3, self.stride, self.dtype, name='conv1')(x)
    y = nn.relu(self.norm(name='norm1')(y))
    y = Convolution(self.width, 3, 1, self.dtype, name='conv2')(y)
    y = self.norm(name='norm2')(y)
    return nn.relu(
      shortcut(x, self.width, self.stride, self.norm, self.dtype) + y
    )


class BottleneckBlock(nn.Module):
  """1x1, 3x3 and 1x1 convolution, each followed by batch norm.

  The 3x3 convolution has the stride, and `groups` groups of
  `group_width` width / 64 channels; the plain block has one group of `width`.
  ReLUs follow the first two norms and the sum with the shortcut.
  [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), 4 width].
  """

  width: int
  stride: int
  norm: Callable[..., nn.Module]
  dtype: Any
  groups: int = 1  # ResNeXt's cardinality
  group_width: int = 64  # where `width` is 64

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    inner = self.width * self.group_width // 64 * self.groups
    y = Convolution(inner, 1, 1, self.dtype, name='conv1')(x)
    y = nn.relu(self.norm(name='norm1')(y))
    y = Convolution(
      inner, 3, self.stride, self.dtype, self.groups, name='conv2'
    )(y)
    y = nn.relu(self.norm(name='norm2')(y))
    y = Convolution(4 * self.width, 1, 1, self.dtype, name='conv3')(y)
    y = self.norm(name='norm3')(y)
    return nn.relu(
      shortcut(x, 4 * self.width, self.stride, self.norm, self.dtype) + y
    )


def shortcut(
  x: jax.Array,
  features: int,
  stride: int,
  norm: Callable[..., nn.Module],
  dtype: Any,
) -> jax.Array:
  """The block input, projected and normalised where its shape must change.

  Call it in the `__call__` of a block, which then owns the projection.
  """
  if stride == 1 and x.shape[-1] == features:
    return x
  x = Convolution(features, 1, stride, dtype, name='projection')(x)
  return norm(name='projection_norm')(x)


class ResNet(nn.Module):
  """ResNet (He et al. 2016, arXiv 1512.03385), ResNeXt (arXiv 1611.05431).

  For small images: the stem is a 3x3 convolution at stride 1, with batch norm
  and ReLU. The stride of a bottleneck is at its 3x3 convolution. Pooling and
  the dense layer compute in float32.

  With `large_stem` the stem is that for ImageNet, a 7x7 convolution and a 3x3
  maximum, both at stride 2, and ResNet-50 is torchvision's.

  `pool` None averages over the whole image. A number averages over windows of
  that many positions, and the dense layer sees them side by side: that is how
  the authors of the mollification paper take ResNeXt-29 from 32x32 to 64x64,
  and its parameters depend on the image size from twice the window on.
  """

  block: Callable[..., BasicBlock | BottleneckBlock]
  blocks: tuple[int, ...]  # per group; the width doubles from group to group
  num_classes: int
  dtype: Any = jnp.float32
  axis_name: str | None = None
  large_stem: bool = False
  pool: int | None = None

  @nn.compact
  def __call__(self, images: jax.Array, train: bool) -> jax.Array:
    """float[B, H, W, C] of any size -> logits float32[B, num_classes]."""
    norm = batch_norm(train, self.dtype, self.axis_name)
    size, stride = (7, 2) if self.large_stem else (3, 1)
    x = Convolution(64, size, stride, self.dtype, name='stem')(images)
    x = nn.relu(norm(name='stem_norm')(x))
    if self.large_stem:
      x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
    for group, count in enumerate(self.blocks):
      for index in range(count):
        x = self.block(
          width=64 * 2**group,
          stride=2 if group > 0 and index == 0 else 1,
          norm=norm,
          dtype=self.dtype,
          name=f'group{group + 1}_block{index + 1}',
        )(x)
    if self.pool is None:
      features = average_pool(x)
    else:
      features = pool_windows(x, self.pool)
    return nn.Dense(self.num_classes, name='head')(features)
