"""A small convolutional network for CPUs and for 8x8 digits."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mollify_jax.models.convolution import Convolution
from mollify_jax.models.normalization import batch_norm
from mollify_jax.models.pooling import average_pool


class SmallCnn(nn.Module):
  """Three 3x3 convolutions, each followed by batch norm and ReLU.

  The second one halves the resolution; the features are averaged over the
  image. 57 thousand parameters for 10 classes of RGB images.
  """

  num_classes: int
  dtype: Any = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(self, images: jax.Array, train: bool) -> jax.Array:
    """float[B, H, W, C] of any size -> logits float32[B, num_classes]."""
    norm = batch_norm(train, self.dtype, self.axis_name)
    x = Convolution(32, 3, 1, self.dtype, name='conv1')(images)
    x = nn.relu(norm(name='norm1')(x))
    x = Convolution(64, 3, 2, self.dtype, name='conv2')(x)
    x = nn.relu(norm(name='norm2')(x))
    x = Convolution(64, 3, 1, self.dtype, name='conv3')(x)
    x = nn.relu(norm(name='norm3')(x))
    return nn.Dense(self.num_classes, name='head')(average_pool(x))
