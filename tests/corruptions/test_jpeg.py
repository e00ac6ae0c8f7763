"""JPEG against Pillow's libjpeg, bit for bit, at awkward sizes too."""

import functools
import io

import jax
import numpy as np
import pytest
from PIL import Image

from mollify_jax.corruptions.jpeg import compress_jpeg, quantisation_steps

# Compiled again and again; what the scripts made is compared in every run.
pytestmark = pytest.mark.slow


def with_pillow(image, quality):
  picture = Image.fromarray(image if image.shape[2] == 3 else image[..., 0])
  file = io.BytesIO()
  picture.save(file, format='JPEG', quality=quality)
  return np.asarray(Image.open(file)).reshape(image.shape)


def compress(images, quality):
  kernel = functools.partial(compress_jpeg, quality=quality)
  return np.asarray(jax.jit(jax.vmap(kernel))(images))


def sample_images(shape):
  """Noise, two colours, a flat one and something smooth: uint8[4, H, W, C]."""
  rng = np.random.default_rng(0)
  height, width, channels = shape
  row, column = np.mgrid[:height, :width]
  waves = [
    128 + 100 * np.sin(row / (3 + c) + column / (5 - c))
    for c in range(channels)
  ]
  return np.stack(
    [
      rng.integers(0, 256, shape),
      255 * rng.integers(0, 2, shape),
      np.broadcast_to(rng.integers(0, 256, channels), shape),
      np.stack(waves, -1),
    ]
  ).astype(np.uint8)


@pytest.mark.parametrize(
  ('shape', 'quality'),
  [
    ((32, 32, 3), 1),
    ((32, 32, 3), 49),
    ((32, 32, 3), 100),
    ((24, 40, 3), 95),
    ((17, 33, 3), 75),
    ((30, 30, 3), 50),
    ((28, 28, 3), 7),
    ((9, 6, 3), 90),
    ((7, 5, 3), 85),  # three chroma columns: smoothed
    ((20, 4, 3), 85),  # two: repeated
    ((1, 1, 3), 60),
    ((8, 8, 1), 50),
    ((28, 28, 1), 25),
    ((13, 21, 1), 92),
    ((1, 1, 1), 80),
  ],
)
def test_equals_pillow(shape, quality):
  images = sample_images(shape)
  expected = [with_pillow(image, quality) for image in images]
  np.testing.assert_array_equal(compress(images, quality), expected)


@pytest.mark.parametrize('size', [32, 64, 224])
def test_tables_and_second_compression(corruption_arrays, size):
  arrays = corruption_arrays('aux', size)
  for name in arrays:
    if name.startswith('jpeg_qtables_q'):
      quality = int(name.removeprefix('jpeg_qtables_q'))
      steps = quantisation_steps(quality).reshape(2, 64)
      np.testing.assert_array_equal(steps, arrays[name])
  if 'inputs_saved_q85' in arrays:
    saved = arrays['inputs_saved_q85']
    images = corruption_arrays('deterministic', size)['inputs'][: len(saved)]
    np.testing.assert_array_equal(compress(images, 85), saved)


def test_step_limits():
  assert (quantisation_steps(100) == 1).all()
  assert (quantisation_steps(1) == 255).all()


def test_jit_is_eager_and_vmap_is_loop():
  images = sample_images((10, 18, 3))[:2]
  loop = [compress_jpeg(image, quality=70) for image in images]
  np.testing.assert_array_equal(compress(images, 70), loop)
  assert loop[0].dtype == np.float32


def test_grey_stays_grey():
  # In colour, flat grey passes the chroma channels at their centre. Quality 90
  # has steps small enough to keep a flat block's mean.
  flat = np.full((16, 16, 3), 77, np.uint8)
  (coded,) = compress(flat[None], 90)
  assert (coded == coded[0, 0, 0]).all()
  assert abs(coded[0, 0, 0] - 77) <= 1


def test_errors():
  image = np.zeros((8, 8, 3), np.uint8)
  for quality in (0, 101, 50.5, '50', None):
    with pytest.raises(ValueError, match='quality must be a whole number'):
      compress_jpeg(image, quality=quality)
  with pytest.raises(TypeError, match='compress_jpeg takes pixels as uint8'):
    compress_jpeg(image.astype(np.float32), quality=50)
