"""A network of convolutions without shortcuts."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mollify_jax.models.convolution import Convolution
from mollify_jax.models.dropout import Dropout
from mollify_jax.models.normalization import batch_norm
from mollify_jax.models.pooling import pool_windows


class AllConvNet(nn.Module):
  """AllConvNet (Springenberg et al. 2015, arXiv 1412.6806), with changes.

  Three 3x3 convolutions of 96 channels and three of 192, a 3x3 and two 1x1
  convolutions of 192, each with a bias and followed by batch norm and
  x sigmoid(1.702 x), a GELU. As the authors of the mollification paper train
  it: the resolution is halved twice by maxima over 2x2, each followed by
  dropout of one half, and a dense layer makes the logits. It sees means over
  windows of 8x8 positions side by side: one up to images of 63x63, four from
  64x64 on, so the parameters depend on the image size. Pooling and the dense
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
    windows = ((96, 3),) * 3 + ((192, 3),) * 4 + ((192, 1),) * 2
    for index, (features, size) in enumerate(windows, start=1):
      if index in (4, 7):
        x = nn.max_pool(x, (2, 2), (2, 2), 'SAME')
        x = Dropout(0.5, self.axis_name)(x, train)
      x = Convolution(
        features, size, dtype=self.dtype, use_bias=True, name=f'conv{index}'
      )(x)
      x = norm(name=f'norm{index}')(x)
      x = x * nn.sigmoid(1.702 * x)
    return nn.Dense(self.num_classes, name='head')(pool_windows(x, 8))
