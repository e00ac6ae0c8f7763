"""Wide residual networks."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mollify_jax.models.convolution import Convolution
from mollify_jax.models.normalization import batch_norm
from mollify_jax.models.pooling import average_pool


class WideBlock(nn.Module):
  """Two 3x3 convolutions, each after batch norm and ReLU.

  Where the width changes, the shortcut projects the activated input;
  elsewhere it is the raw input.
  [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), width].
  """

  width: int
  stride: int
  norm: Callable[..., nn.Module]
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    y = nn.relu(self.norm(name='norm1')(x))
    if self.stride != 1 or x.shape[-1] != self.width:
      x = Convolution(
        self.width, 1, self.stride, self.dtype, name='projection'
      )(y)
    y = Convolution(self.width, 3, self.stride, self.dtype, name='conv1')(y)
    y = nn.relu(self.norm(name='norm2')(y))
    return x + Convolution(self.width, 3, 1, self.dtype, name='conv2')(y)


class WideResNet(nn.Module):
  """WRN-depth-widen (Zagoruyko & Komodakis 2016, arXiv 1605.07146).

  Three groups of (depth - 4) / 6 blocks of 16, 32 and 64 times `widen`
  channels, then batch norm and ReLU. No dropout. Pooling and the dense layer
  compute in float32.
  """

  depth: int
  widen: int
  num_classes: int
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, images: jax.Array, train: bool) -> jax.Array:
    """float[B, H, W, C] of any size -> logits float32[B, num_classes].

    Raises:
      ValueError: `depth` is not 4 plus a positive multiple of 6.
    """
    if self.depth < 10 or (self.depth - 4) % 6:
      raise ValueError(
        f'depth is {self.depth!r}, want 4 plus a positive multiple of 6, '
        'such as 16, 28 or 40'
      )
    norm = batch_norm(train, self.dtype, self.axis_name)
    x = Convolution(16, 3, 1, self.dtype, name='stem')(images)
    for group in range(3):
      for index in range((self.depth - 4) // 6):
        x = WideBlock(
          width=16 * self.widen * 2**group,
          stride=2 if group > 0 and index == 0 else 1,
          norm=norm,
          dtype=self.dtype,
          name=f'group{group + 1}_block{index + 1}',
        )(x)
    x = nn.relu(norm(name='norm')(x))
    return nn.Dense(self.num_classes, name='head')(average_pool(x))
