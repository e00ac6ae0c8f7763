"""GoogLeNet for small images."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mollify_jax.models.convolution import Convolution
from mollify_jax.models.dropout import Dropout
from mollify_jax.models.normalization import batch_norm
from mollify_jax.models.pooling import average_pool

# Channels of the branches of each block: 1x1; 3x3 and what it is reduced to
# before; two 3x3 likewise; after the maximum. Table 1 of the paper.
GROUPS = (
  ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
  (
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
  ),
  ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)


class InceptionBlock(nn.Module):
  """Four branches side by side.

  1x1; 1x1 and 3x3; 1x1 and two 3x3, which stand for the paper's 5x5; a 3x3
  maximum and 1x1. Convolutions have a bias and are followed by batch norm and
  ReLU. [B, H, W, C] -> [B, H, W, the sum of four of `channels`].
  """

  channels: tuple[int, int, int, int, int, int]
  norm: Callable[..., nn.Module]
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    def convolve(x, features, size, name):
      x = Convolution(
        features, size, dtype=self.dtype, use_bias=True, name=f'{name}_conv'
      )(x)
      return nn.relu(self.norm(name=f'{name}_norm')(x))

    one, three_before, three, five_before, five, pooled = self.channels
    highest = nn.max_pool(x, (3, 3), (1, 1), ((1, 1), (1, 1)))
    y = convolve(x, three_before, 1, 'three_before')
    z = convolve(x, five_before, 1, 'five_before')
    z = convolve(z, five, 3, 'five1')
    return jnp.concatenate(
      [
        convolve(x, one, 1, 'one'),
        convolve(y, three, 3, 'three'),
        convolve(z, five, 3, 'five2'),
        convolve(highest, pooled, 1, 'pooled'),
      ],
      axis=-1,
    )


class GoogLeNet(nn.Module):
  """GoogLeNet (Szegedy et al. 2015, arXiv 1409.4842) with batch norm.

  For small images, as the authors of the mollification paper train it: the
  stem is three 3x3 convolutions at stride 1; there are no auxiliary
  classifiers. Maxima over 3x3 at stride 2 come before each of the three groups
  of blocks, and dropout of 0.4 before the dense layer. Pooling and the dense
  layer compute in float32.
  """

  num_classes: int
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, images: jax.Array, train: bool) -> jax.Array:
    """float[B, H, W, C] of any size -> logits float32[B, num_classes]."""
    norm = batch_norm(train, self.dtype, self.axis_name)
    x = images
    for index, features in enumerate((64, 64, 192), start=1):
      x = Convolution(features, 3, dtype=self.dtype, name=f'stem{index}')(x)
      x = nn.relu(norm(name=f'stem_norm{index}')(x))
    for group, blocks in enumerate(GROUPS, start=1):
      x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
      for index, channels in enumerate(blocks, start=1):
        x = InceptionBlock(
          channels, norm, self.dtype, name=f'group{group}_block{index}'
        )(x)
    features = Dropout(0.4, self.axis_name)(average_pool(x), train)
    return nn.Dense(self.num_classes, name='head')(features)
