"""Vision transformers."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mollify_jax.models.convolution import check_images
from mollify_jax.models.pooling import average_pool


def embed_positions(height: int, width: int, features: int) -> np.ndarray:
  """Sines and cosines of row and column: float32[height, width, features].

  A quarter of the features each are sin(w x), cos(w x), sin(w y), cos(w y),
  with w from 1 down to 1e-4 in geometric steps. Source: MoCo v3 (Chen et al.
  2021, arXiv 2104.02057), as in big_vision.

  Raises:
    ValueError: `features` is not a multiple of 4, >= 8.
  """
  if features < 8 or features % 4:
    raise ValueError(f'features is {features!r}, want a multiple of 4, >= 8')
  frequencies = 1e-4 ** np.linspace(0, 1, features // 4)
  y, x = np.mgrid[:height, :width][..., None] * frequencies
  return np.concatenate(
    [np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=-1
  ).astype(np.float32)


class EncoderBlock(nn.Module):
  """Attention, then two dense layers with a GELU, each after layer norm.

  [B, N, D] -> the same; the inputs of both halves are added to their outputs.
  """

  heads: int
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    initial = {
      'kernel_init': nn.initializers.xavier_uniform(),
      'dtype': self.dtype,
    }
    y = nn.LayerNorm(dtype=self.dtype, name='norm1')(x)
    x += nn.MultiHeadAttention(
      self.heads,
      deterministic=True,
      force_fp32_for_softmax=True,
      name='attention',
      **initial,
    )(y)
    y = nn.LayerNorm(dtype=self.dtype, name='norm2')(x)
    y = nn.gelu(nn.Dense(4 * x.shape[-1], name='dense1', **initial)(y))
    return x + nn.Dense(x.shape[-1], name='dense2', **initial)(y)


class VisionTransformer(nn.Module):
  """ViT (Dosovitskiy et al. 2021, arXiv 2010.11929), pre-norm.

  With the changes of 'Better plain ViT baselines' (Beyer et al. 2022, arXiv
  2205.01580): fixed sine-cosine positions and the mean over all patches
  instead of a class token, so the parameters do not depend on the image size.
  No dropout and no batch norm: there are no 'batch_stats'. The mean and the
  head compute in float32.
  """

  patch: int
  width: int
  heads: int
  num_classes: int
  depth: int = 12
  dtype: Any = jnp.float32
  axis_name: str | None = None  # all examples are seen alone; accepted unused

  @nn.compact
  def __call__(self, images: jax.Array, train: bool) -> jax.Array:
    """float[B, H, W, C] -> logits float32[B, num_classes].

    Raises:
      ValueError: H or W is not a positive multiple of `patch`.
    """
    del train
    check_images(images)
    batch, height, width, channels = images.shape
    if height % self.patch or width % self.patch:
      raise ValueError(
        f'images are {height}x{width}, want sides that {self.patch} divides: '
        'resize them, or take a model with another patch'
      )
    rows, columns = height // self.patch, width // self.patch
    # A convolution with stride `patch`, as the product that it is.
    x = images.reshape(batch, rows, self.patch, columns, self.patch, channels)
    x = x.swapaxes(2, 3).reshape(batch, rows, columns, -1)
    x = nn.Dense(self.width, dtype=self.dtype, name='stem')(x)
    x += embed_positions(rows, columns, self.width).astype(self.dtype)
    x = x.reshape(batch, rows * columns, self.width)
    for index in range(self.depth):
      x = EncoderBlock(self.heads, self.dtype, name=f'block{index + 1}')(x)
    x = nn.LayerNorm(dtype=self.dtype, name='norm')(x)
    return nn.Dense(self.num_classes, name='head')(average_pool(x[:, None]))
