"""Heat blur against scipy's float64 DCT, its limits and its laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft

from mollify_jax import blur_image, blur_images, schedules
from mollify_jax.kernels.dct import (
  dct_basis,
  squared_angular_frequencies,
  squared_frequencies,
)


@pytest.mark.parametrize('size', ['32x32x3', '64x64x3', '8x8x1'])
def test_reference_at_temperatures(reference, size):
  golden = reference('blur.npz')
  images = golden[f'x_{size}']
  width = schedules.blur_width(golden[f't_{size}'], 0.3, images.shape[2])
  blurred = blur_images(images, schedules.dissipation_time(width))
  np.testing.assert_allclose(
    blurred, golden[f'exact64_{size}'], rtol=0, atol=5e-6
  )


def test_reference_not_square(reference):
  golden = reference('blur.npz')
  tau = jnp.asarray(golden['tau_28x20x3'], jnp.float32)
  blurred = blur_images(golden['x_28x20x3'], tau)
  np.testing.assert_allclose(
    blurred, golden['exact64_28x20x3'], rtol=0, atol=5e-6
  )


@pytest.mark.parametrize('shape', [(1, 1, 1), (1, 9, 3), (17, 5, 2), (7, 7, 4)])
def test_any_shape_against_scipy(shape):
  image = np.random.default_rng(0).normal(size=shape)
  height, width, _ = shape
  for tau in (0.0, 0.045, 2.0, 300.0):
    decay = np.exp(
      -tau
      * np.pi**2
      * (
        np.square(np.arange(height) / height)[:, None, None]
        + np.square(np.arange(width) / width)[None, :, None]
      )
    )
    spectrum = scipy.fft.dctn(image, axes=(0, 1), norm='ortho')
    exact = scipy.fft.idctn(decay * spectrum, axes=(0, 1), norm='ortho')
    blurred = blur_image(jnp.asarray(image, jnp.float32), tau)
    np.testing.assert_allclose(blurred, exact, rtol=0, atol=5e-6)


def test_frequencies(reference):
  golden = reference('schedules.npz')
  for height, width in ((8, 8), (32, 32), (28, 20)):
    np.testing.assert_allclose(
      squared_frequencies(height, width),
      golden[f'lambda_{height}x{width}'],
      rtol=1e-6,
    )
  np.testing.assert_allclose(
    squared_angular_frequencies(8), golden['lambda_8x8'][0], rtol=1e-6
  )


def test_basis_is_orthonormal():
  for size in (1, 2, 7, 32):
    basis = dct_basis(size).astype(np.float64)
    np.testing.assert_allclose(basis @ basis.T, np.eye(size), atol=2e-7)


def test_limits_and_semigroup():
  image = jax.random.normal(jax.random.key(0), (12, 10, 3))
  np.testing.assert_allclose(blur_image(image, 0.0), image, atol=3e-6)
  flat = jnp.broadcast_to(image.mean((0, 1)), image.shape)
  np.testing.assert_allclose(blur_image(image, 1e6), flat, atol=1e-6)
  np.testing.assert_allclose(
    blur_image(image, 3.0).mean((0, 1)), image.mean((0, 1)), atol=1e-6
  )
  # Heat flow for 1 and then for 2 is heat flow for 3.
  np.testing.assert_allclose(
    blur_image(blur_image(image, 1.0), 2.0), blur_image(image, 3.0), atol=3e-6
  )


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
def test_dtype_is_kept_and_batch_equals_loop(dtype):
  images = jax.random.normal(jax.random.key(2), (3, 9, 6, 2), dtype)
  tau = jnp.array([0.045, 1.0, 50.0])
  batch = jax.jit(blur_images)(images, tau)
  assert batch.dtype == images.dtype
  tolerance = {'float32': 2e-6, 'bfloat16': 2e-2, 'float16': 2e-3}[dtype]
  for i in range(3):
    np.testing.assert_allclose(
      np.asarray(batch[i], np.float32),
      np.asarray(blur_image(images[i], tau[i]), np.float32),
      atol=tolerance,
    )
    # Computed in float32 and rounded once at the end.
    exact = blur_image(images[i].astype(jnp.float32), tau[i])
    np.testing.assert_allclose(
      np.asarray(batch[i], np.float32), exact, atol=tolerance
    )


def test_gradient_in_tau_is_the_laplacian():
  image = jax.random.normal(jax.random.key(0), (8, 8, 1))
  _, slope = jax.jvp(lambda tau: blur_image(image, tau), (1.0,), (1.0,))
  step = 1e-2
  difference = blur_image(image, 1 + step) - blur_image(image, 1 - step)
  np.testing.assert_allclose(slope, difference / (2 * step), atol=2e-4)


def test_wrong_inputs_are_named():
  with pytest.raises(ValueError, match=r'\(2, 8, 8, 3\).*call blur_images'):
    blur_image(jnp.zeros((2, 8, 8, 3)), 1.0)
  with pytest.raises(ValueError, match='one scalar tau per example'):
    blur_image(jnp.zeros((8, 8, 3)), jnp.zeros(8))
  with pytest.raises(ValueError, match='without pixels'):
    blur_image(jnp.zeros((0, 8, 3)), 1.0)
  with pytest.raises(TypeError, match="dtype 'int32'"):
    blur_image(jnp.zeros((8, 8, 3), jnp.int32), 1.0)
