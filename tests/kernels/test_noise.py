"""Diffusion noise against float64 arrays, moments and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollify_jax import (
  add_noise,
  blur_images,
  example_keys,
  noise_image,
  noise_images,
  temper_labels,
)


def test_given_noise(reference):
  golden = reference('noise.npz')
  value = jax.vmap(add_noise)(golden['x'], golden['eps'], golden['t'])
  np.testing.assert_allclose(value, golden['exact64'], atol=2e-6)


def test_ends_are_exact(reference):
  golden = reference('noise.npz')
  image, epsilon = golden['x'][0], golden['eps'][0]
  np.testing.assert_array_equal(add_noise(image, epsilon, 0.0), image)
  np.testing.assert_array_equal(add_noise(image, epsilon, 1.0), epsilon)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
@pytest.mark.parametrize('shape', [(8, 8, 1), (6, 11, 3), (1, 5, 2)])
def test_dtype_is_kept_and_batch_equals_loop(dtype, shape):
  keys = example_keys(jax.random.key(1), 0, 4)
  images = jax.random.normal(jax.random.key(2), (4, *shape), dtype)
  t = jnp.array([0.0, 0.3, 0.6, 1.0])
  batch = noise_images(keys, images, t)
  assert batch.dtype == images.dtype
  assert batch.shape == images.shape
  jitted = jax.jit(noise_image)
  for i in range(4):
    one = noise_image(keys[i], images[i], t[i])
    np.testing.assert_allclose(
      batch[i], one, rtol=1e-2 if dtype != 'float32' else 1e-6, atol=1e-6
    )
    np.testing.assert_allclose(
      jitted(keys[i], images[i], t[i]),
      one,
      rtol=1e-2 if dtype != 'float32' else 1e-6,
      atol=1e-6,
    )


def test_moments_within_five_standard_errors():
  n = 200
  keys = example_keys(jax.random.key(0), 0, n)
  images = jnp.full((n, 16, 16, 3), 2.0)
  noised = np.asarray(noise_images(keys, images, jnp.full(n, 0.4)), np.float64)
  count = noised.size
  alpha, sigma = np.cos(0.2 * np.pi), np.sin(0.2 * np.pi)
  assert abs(noised.mean() - 2 * alpha) < 5 * sigma / np.sqrt(count)
  assert abs(noised.var() / sigma**2 - 1) < 5 * np.sqrt(2 / count)
  # Different keys, different noise.
  correlation = np.corrcoef(noised[0].ravel(), noised[1].ravel())[0, 1]
  assert abs(correlation) < 5 / np.sqrt(noised[0].size)


def test_wrong_inputs_are_named():
  image = jnp.zeros((4, 4, 3))
  with pytest.raises(ValueError, match=r'\(2, 4, 4, 3\).*call noise_images'):
    noise_image(jax.random.key(0), jnp.zeros((2, 4, 4, 3)), 0.5)
  with pytest.raises(TypeError, match="dtype 'uint8'"):
    noise_image(jax.random.key(0), jnp.zeros((4, 4, 3), jnp.uint8), 0.5)
  with pytest.raises(ValueError, match=r'epsilon of the image shape'):
    add_noise(image, jnp.zeros((4, 4, 1)), 0.5)
  with pytest.raises(ValueError, match=r'one scalar t per example'):
    add_noise(image, image, jnp.zeros(4))


def test_a_batch_wants_one_of_each_per_example():
  keys, images = jax.random.split(jax.random.key(0), 3), jnp.zeros((3, 4, 4, 1))
  for t in (0.5, jnp.zeros(2), jnp.zeros((2, 3))):
    with pytest.raises(ValueError, match='noise_images takes one of each per'):
      noise_images(keys, images, t)
    with pytest.raises(ValueError, match='blur_images takes one of each per'):
      blur_images(images, t)
    with pytest.raises(ValueError, match='temper_labels takes one of each per'):
      temper_labels(jnp.zeros((3, 5)), t)
