"""Densely connected networks for small images."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mollify_jax.models.convolution import Convolution
from mollify_jax.models.normalization import batch_norm
from mollify_jax.models.pooling import average_pool, halve


class DenseLayer(nn.Module):
  """A 3x3 convolution after batch norm and ReLU; its output is appended.

  With `bottleneck` a 1x1 convolution to 4 `growth` channels comes before it,
  after a batch norm and a ReLU of its own.
  [B, H, W, C] -> [B, H, W, C + growth].
  """

  growth: int
  bottleneck: bool
  norm: Callable[..., nn.Module]
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    y = nn.relu(self.norm(name='norm1')(x))
    if self.bottleneck:
      y = Convolution(4 * self.growth, 1, 1, self.dtype, name='conv1')(y)
      y = nn.relu(self.norm(name='norm2')(y))
      y = Convolution(self.growth, 3, 1, self.dtype, name='conv2')(y)
    else:
      y = Convolution(self.growth, 3, 1, self.dtype, name='conv1')(y)
    return jnp.concatenate([x, y], axis=-1)


class Transition(nn.Module):
  """Batch norm, ReLU, a 1x1 convolution, and means over 2x2 positions.

  [B, H, W, C] -> [B, ceil(H / 2), ceil(W / 2), features].
  """

  features: int
  norm: Callable[..., nn.Module]
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    y = nn.relu(self.norm(name='norm')(x))
    return halve(Convolution(self.features, 1, 1, self.dtype, name='conv')(y))


class DenseNet(nn.Module):
  """DenseNet (Huang et al. 2017, arXiv 1608.06993) with three dense groups.

  The stem has 2 `growth` channels. DenseNet-BC is `bottleneck=True` with
  `compression=0.5`. No dropout. Pooling and the dense layer compute in
  float32.
  """

  depth: int
  num_classes: int
  growth: int = 12
  bottleneck: bool = False
  compression: float = 1.0  # of the channels, in a transition
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, images: jax.Array, train: bool) -> jax.Array:
    """float[B, H, W, C] of any size -> logits float32[B, num_classes].

    Raises:
      ValueError: `depth` is not 4 plus a positive multiple of 3, or of 6 with
        bottlenecks.
    """
    step = 6 if self.bottleneck else 3
    if self.depth <= 4 or (self.depth - 4) % step:
      raise ValueError(
        f'depth is {self.depth!r}, want 4 plus a positive multiple of {step}, '
        'such as 40 or 100'
      )
    norm = batch_norm(train, self.dtype, self.axis_name)
    x = Convolution(2 * self.growth, 3, 1, self.dtype, name='stem')(images)
    for group in range(3):
      if group > 0:
        x = Transition(
          features=int(self.compression * x.shape[-1]),
          norm=norm,
          dtype=self.dtype,
          name=f'transition{group}',
        )(x)
      for index in range((self.depth - 4) // step):
        x = DenseLayer(
          growth=self.growth,
          bottleneck=self.bottleneck,
          norm=norm,
          dtype=self.dtype,
          name=f'group{group + 1}_layer{index + 1}',
        )(x)
    x = nn.relu(norm(name='norm')(x))
    return nn.Dense(self.num_classes, name='head')(average_pool(x))
