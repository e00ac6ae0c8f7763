"""Convolution: every form against a direct sum and against XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollify_jax.models.convolution import Convolution, convolve

CASES = [  # size, stride, image height and width
  (1, 1, (5, 4)),
  (1, 2, (5, 4)),
  (3, 1, (5, 4)),
  (3, 2, (5, 4)),
  (3, 2, (1, 1)),
  (3, 3, (7, 8)),
]


def direct_convolution(images, kernel, stride):
  """Float64 sums over the window, zeros outside; independent of XLA."""
  size = kernel.shape[0]
  images = np.asarray(images, np.float64)
  kernel = np.asarray(kernel, np.float64)
  half = size // 2
  padded = np.pad(images, ((0, 0), (half, half), (half, half), (0, 0)))
  rows = range(0, images.shape[1], stride)
  columns = range(0, images.shape[2], stride)
  return np.stack(
    [
      np.stack(
        [
          np.einsum(
            'bhwc,hwcd->bd',
            padded[:, row : row + size, column : column + size],
            kernel,
          )
          for column in columns
        ],
        axis=1,
      )
      for row in rows
    ],
    axis=1,
  )


def xla_convolution(images, kernel, stride):
  half = kernel.shape[0] // 2
  return jax.lax.conv_general_dilated(
    images,
    kernel,
    (stride, stride),
    [(half, half), (half, half)],
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )


def example(size, shape):
  generator = np.random.default_rng(size)
  images = generator.normal(size=(2, *shape, 3))
  kernel = generator.normal(size=(size, size, 3, 4))
  return jnp.asarray(images, jnp.float32), jnp.asarray(kernel, jnp.float32)


@pytest.mark.parametrize(('size', 'stride', 'shape'), CASES)
def test_is_the_sum_over_a_centred_window(size, stride, shape):
  images, kernel = example(size, shape)
  want = direct_convolution(images, kernel, stride)
  assert want.shape[1:3] == tuple(-(-n // stride) for n in shape)
  np.testing.assert_allclose(
    convolve(images, kernel, stride), want, rtol=1e-4, atol=1e-5
  )


@pytest.mark.parametrize(('size', 'stride', 'shape'), CASES)
def test_gradients_are_those_of_xla(size, stride, shape):
  images, kernel = example(size, shape)
  _, pull_back = jax.vjp(lambda x, k: convolve(x, k, stride), images, kernel)
  out, pull_back_xla = jax.vjp(
    lambda x, k: xla_convolution(x, k, stride), images, kernel
  )
  cotangent = jnp.asarray(
    np.random.default_rng(9).normal(size=out.shape), jnp.float32
  )
  for got, want in zip(
    pull_back(cotangent), pull_back_xla(cotangent), strict=True
  ):
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_module_has_one_float32_kernel_and_computes_in_its_dtype():
  layer = Convolution(4, 3, stride=2, dtype=jnp.bfloat16)
  images = jnp.ones((2, 5, 6, 3))
  out, variables = layer.init_with_output(jax.random.key(0), images)
  assert out.dtype == jnp.bfloat16
  assert out.shape == (2, 3, 3, 4)
  (kernel,) = jax.tree.leaves(variables)
  assert kernel.dtype == jnp.float32
  assert kernel.shape == (3, 3, 3, 4)


def test_initial_weights_are_uniform_over_the_fan_in():
  layer = Convolution(128, 3)
  variables = layer.init(jax.random.key(0), jnp.ones((1, 3, 3, 64)))
  (kernel,) = jax.tree.leaves(variables)
  bound = 1 / np.sqrt(9 * 64)
  assert np.abs(kernel).max() <= bound
  # 73728 values: the standard error of the variance is 0.33 % of it.
  np.testing.assert_allclose(np.var(kernel), bound**2 / 3, rtol=0.017)


def test_images_without_a_batch_axis_are_refused():
  with pytest.raises(ValueError, match=r'shape \(8, 8, 3\).*\[B, H, W, C\]'):
    Convolution(4, 3).init(jax.random.key(0), jnp.ones((8, 8, 3)))


def test_integer_images_are_refused():
  images = jnp.ones((1, 8, 8, 3), jnp.uint8)
  with pytest.raises(TypeError, match="'uint8', want floating point"):
    Convolution(4, 3).init(jax.random.key(0), images)


@pytest.mark.parametrize('stride', [1, 2])
def test_groups_are_those_of_xla(stride):
  generator = np.random.default_rng(0)
  images = jnp.asarray(generator.normal(size=(2, 5, 4, 6)), jnp.float32)
  kernel = jnp.asarray(generator.normal(size=(3, 3, 2, 9)), jnp.float32)

  def grouped(images, kernel):
    return convolve(images, kernel, stride, groups=3)

  def xla_grouped(images, kernel):
    return jax.lax.conv_general_dilated(
      images,
      kernel,
      (stride, stride),
      [(1, 1), (1, 1)],
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
      feature_group_count=3,
    )

  got, pull_back = jax.vjp(grouped, images, kernel)
  want, pull_back_xla = jax.vjp(xla_grouped, images, kernel)
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
  for ours, theirs in zip(pull_back(got), pull_back_xla(got), strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_groups_that_do_not_divide_the_channels_are_refused():
  with pytest.raises(ValueError, match='4 groups do not divide 3 input and 8'):
    Convolution(8, 3, groups=4).init(jax.random.key(0), jnp.ones((1, 8, 8, 3)))


def test_a_bias_is_added_to_every_position():
  images, _ = example(3, (5, 4))
  layer = Convolution(4, 3, use_bias=True)
  variables = layer.init(jax.random.key(0), images)
  without = layer.apply(variables, images)
  bias = jnp.arange(4.0)
  variables['params']['bias'] += bias
  np.testing.assert_allclose(
    layer.apply(variables, images), without + bias, rtol=1e-6, atol=1e-6
  )
