"""Contrast against NumPy in float64, pixelation against Pillow."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from mollify_jax.corruptions.digital import pixelate, reduce_contrast

SHAPES = [
  (8, 8, 1),
  (28, 28, 1),
  (24, 40, 3),
  (17, 33, 3),
  (1, 1, 3),
  (1, 9, 1),
]


def random_images(shape, count=4):
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (count, *shape)).astype(np.uint8)


def apply(kernel, images, **parameters):
  kernel = functools.partial(kernel, **parameters)
  return np.asarray(jax.jit(jax.vmap(kernel))(images))


def pixelate_with_pillow(image, scale):
  height, width, channels = image.shape
  picture = Image.fromarray(image if channels == 3 else image[..., 0])
  small = (max(1, int(width * scale)), max(1, int(height * scale)))
  picture = picture.resize(small, Image.Resampling.BOX)
  picture = picture.resize((width, height), Image.Resampling.BOX)
  return np.asarray(picture).reshape(image.shape)


@pytest.mark.parametrize('shape', SHAPES)
def test_pixelate_equals_pillow(shape):
  images = random_images(shape)
  for scale in (0.95, 0.65, 0.5, 0.25, 0.01):
    expected = [pixelate_with_pillow(image, scale) for image in images]
    np.testing.assert_array_equal(
      apply(pixelate, images, scale=scale), expected, err_msg=f'{scale}'
    )


@pytest.mark.parametrize('size', [32, 64, 224])
@pytest.mark.parametrize('scale', [0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.4, 0.3])
def test_pixelate_equals_pillow_at_published_sizes(size, scale):
  (image,) = random_images((size, size, 3), 1)
  np.testing.assert_array_equal(
    apply(pixelate, image[None], scale=scale)[0],
    pixelate_with_pillow(image, scale),
  )


def test_pixelate_limits():
  images = random_images((12, 8, 3))
  np.testing.assert_array_equal(apply(pixelate, images, scale=1.0), images)
  flat = apply(pixelate, images, scale=1e-6)
  assert (flat == flat[:, :1, :1]).all()
  # Once more changes nothing when the boxes tile the image.
  once = apply(pixelate, images, scale=0.5).astype(np.uint8)
  np.testing.assert_array_equal(apply(pixelate, once, scale=0.5), once)


@pytest.mark.parametrize('shape', SHAPES)
def test_contrast_against_float64(shape):
  images = random_images(shape)
  for factor in (0.75, 0.4, 0.05, 1.5):
    pixels = images / 255.0
    mean = pixels.mean((1, 2), keepdims=True)
    expected = np.clip((pixels - mean) * factor + mean, 0, 1) * 255
    np.testing.assert_allclose(
      apply(reduce_contrast, images, factor=factor), expected, atol=5e-5
    )


@pytest.mark.parametrize('size', [28, 44, 301])
def test_contrast_keeps_flat_images(size):
  """Compiled, where a division becomes a multiplication."""
  levels = np.arange(256, dtype=np.uint8)
  keep = jax.jit(
    lambda level: reduce_contrast(
      jnp.broadcast_to(level, (size, size, 1)), factor=0.3
    )[0, 0, 0]
  )
  for level in levels[:: 1 if size < 300 else 16]:
    assert int(keep(level)) == level


def test_contrast_limits():
  (image,) = random_images((12, 9, 3), 1)
  np.testing.assert_allclose(
    reduce_contrast(image, factor=1.0), image, atol=2e-5
  )
  np.testing.assert_allclose(
    reduce_contrast(image, factor=0.0),
    np.broadcast_to(image.mean((0, 1)), image.shape),
    atol=2e-5,
  )


@pytest.mark.parametrize(
  ('kernel', 'parameters'),
  [(pixelate, {'scale': 0.7}), (reduce_contrast, {'factor': 0.4})],
)
def test_jit_is_eager_and_vmap_is_loop(kernel, parameters):
  images = random_images((10, 14, 3))
  loop = [kernel(image, **parameters) for image in images]
  batch = apply(kernel, images, **parameters)
  np.testing.assert_allclose(batch, loop, atol=3e-5)
  assert batch.dtype == loop[0].dtype == np.float32


def test_errors():
  image = np.zeros((8, 8, 3), np.uint8)
  with pytest.raises(ValueError, match=r'scale must be in \(0, 1\], got 0'):
    pixelate(image, scale=0)
  with pytest.raises(ValueError, match='factor must be >= 0, got -1'):
    reduce_contrast(image, factor=-1)
  with pytest.raises(ValueError, match=r'call jax.vmap\(pixelate\)'):
    pixelate(image[None], scale=0.5)
