"""Convolution, in the form that runs fastest for each window and grouping."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

# PyTorch's default, with which the paper's recipe was found: uniform on
# +-1/sqrt(window * inputs). He et al.'s normal, of variance 2 / (window *
# outputs), has six times the variance where inputs = outputs. Normalisation
# hides the scale of a weight, but its gradient is divided by that scale: at
# the paper's learning rate of 0.01, small_cnn and wrn_16_1 on digits need
# about 1.8 times as many epochs from He's to the same training loss (three
# seeds each), preact_resnet18 hardly more (one seed).
uniform_fan_in = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')


def convolve(
  images: jax.Array, kernel: jax.Array, stride: int, *, groups: int = 1
) -> jax.Array:
  """Correlates images with a centred window of odd size, zeros outside.

  The padding is half the window on every side, as in PyTorch, and not XLA's
  'SAME', which at stride 2 pads on the right and below only.

  Args:
    images: float[B, H, W, C].
    kernel: [h, w, C / groups, D] in the dtype of `images`, h and w odd
      (static).
    stride: rows and columns from one window to the next, >= 1 (static).
    groups: output channels [i D / groups, (i + 1) D / groups) see the input
      channels [i C / groups, (i + 1) C / groups) only (static).

  Returns:
    float[B, ceil(H / stride), ceil(W / stride), D].
  """
  if groups > 1:
    # One convolution for each: with XLA's own grouping, four groups took 8 to
    # 16 times as long to train on CPUs (32 to 8 pixels, 128 to 512 channels).
    parts = zip(
      jnp.split(images, groups, axis=-1),
      jnp.split(kernel, groups, axis=-1),
      strict=True,
    )
    return jnp.concatenate(
      [convolve(image, part, stride) for image, part in parts], axis=-1
    )
  height, width = kernel.shape[:2]
  if height == width == 1:
    # A matrix product: on CPUs its weight gradient is 1.3 to 4 times faster
    # than a convolution's, and nothing else is slower.
    return images[:, ::stride, ::stride] @ kernel[0, 0]
  # Larger windows stay a convolution: products of shifted slices or of
  # patches, also for the weight gradient only, were slower on CPUs.
  return jax.lax.conv_general_dilated(
    images,
    kernel,
    window_strides=(stride, stride),
    padding=[(height // 2, height // 2), (width // 2, width // 2)],
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )


def check_images(images: jax.Array) -> None:
  """Refuses what cannot be a batch of normalised images.

  Raises:
    ValueError: not four axes.
    TypeError: not floating point.
  """
  if images.ndim != 4:
    raise ValueError(
      f'images have the shape {images.shape!r}, want [B, H, W, C]: '
      'one image needs a batch axis of one, a grey image a channel axis'
    )
  if not jnp.issubdtype(images.dtype, jnp.floating):
    raise TypeError(
      f'images are {images.dtype.name!r}, want floating point: '
      'normalise the pixels first'
    )


class Convolution(nn.Module):
  """A square window of `size` pixels (odd), without bias unless asked for.

  float[B, H, W, C] -> dtype[B, ceil(H / stride), ceil(W / stride), features].
  """

  features: int
  size: int
  stride: int = 1
  dtype: Any = jnp.float32
  groups: int = 1
  use_bias: bool = False

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    check_images(images)
    channels = images.shape[-1]
    if channels % self.groups or self.features % self.groups:
      raise ValueError(
        f'{self.groups!r} groups do not divide {channels!r} input and '
        f'{self.features!r} output channels; change one of the three'
      )
    kernel = self.param(
      'kernel',
      uniform_fan_in,
      (self.size, self.size, channels // self.groups, self.features),
      jnp.float32,
    )
    y = convolve(
      images.astype(self.dtype),
      kernel.astype(self.dtype),
      self.stride,
      groups=self.groups,
    )
    if self.use_bias:
      bias = self.param(
        'bias', nn.initializers.zeros, (self.features,), jnp.float32
      )
      y += bias.astype(self.dtype)
    return y
