"""Brightness and saturation against HSV formulas in float64."""

import functools

import jax
import numpy as np
import pytest

from mollify_jax.corruptions.color import brighten, saturate

# Compiled again and again; what the scripts made is compared in every run.
pytestmark = pytest.mark.slow

CHANGES = [
  (brighten, {'add': 0.05}),
  (brighten, {'add': 0.2}),  # every clipped value is a whole number
  (brighten, {'add': -0.3}),
  (saturate, {'scale': 0.3, 'add': 0.0}),
  (saturate, {'scale': 2.0, 'add': 0.0}),  # so is every value
  (saturate, {'scale': 30.0, 'add': 0.2}),
]


def apply(kernel, image, **parameters):
  return np.asarray(jax.jit(functools.partial(kernel, **parameters))(image))


def rgb_to_hsv(rgb):
  """skimage.color.rgb2hsv, operation by operation, in float64."""
  red, green, blue = np.moveaxis(rgb, -1, 0)
  value = rgb.max(-1)
  delta = value - rgb.min(-1)
  grey = delta == 0
  saturation = np.where(grey, 0.0, delta / np.where(value == 0, 1.0, value))
  delta = np.where(grey, 1.0, delta)
  hue = (green - blue) / delta
  hue = np.where(green == value, 2.0 + (blue - red) / delta, hue)
  hue = np.where(blue == value, 4.0 + (red - green) / delta, hue)
  return np.where(grey, 0.0, (hue / 6.0) % 1.0), saturation, value


def hsv_to_rgb(hue, saturation, value):
  """skimage.color.hsv2rgb likewise."""
  sector = np.floor(hue * 6)
  part = hue * 6 - sector
  p = value * (1 - saturation)
  q = value * (1 - part * saturation)
  t = value * (1 - (1 - part) * saturation)
  sector = sector.astype(np.uint8) % 6
  red = np.choose(sector, [value, q, p, p, t, value])
  green = np.choose(sector, [t, value, value, q, p, p])
  blue = np.choose(sector, [p, p, t, value, value, q])
  return np.stack([red, green, blue], -1)


def in_float64(kernel, image, parameters):
  """The published formula on the scale 0..255, for RGB."""
  hue, saturation, value = rgb_to_hsv(image / 255.0)
  if kernel is brighten:
    value = np.clip(value + parameters['add'], 0, 1)
  else:
    saturation = saturation * parameters['scale'] + parameters['add']
    saturation = np.clip(saturation, 0, 1)
  return np.clip(hsv_to_rgb(hue, saturation, value), 0, 1) * 255


def sample_colors():
  """Random colours and all from few levels, ties included: uint8[H, W, 3]."""
  rng = np.random.default_rng(0)
  levels = np.array([0, 1, 2, 51, 85, 127, 128, 170, 204, 254, 255])
  corners = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(-1, 3)
  grey = np.repeat(np.arange(256)[:, None], 3, 1)
  random = rng.integers(0, 256, (40_000, 3))
  return np.concatenate([corners, grey, random]).astype(np.uint8)[None]


@pytest.mark.parametrize(('kernel', 'parameters'), CHANGES)
def test_against_float64(kernel, parameters):
  image = sample_colors()
  ours = apply(kernel, image, **parameters)
  exact = in_float64(kernel, image, parameters)
  np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-4)
  # Truncation falls on the same side wherever float64 is at a whole number.
  np.testing.assert_array_equal(ours.astype(np.uint8), exact.astype(np.uint8))


@pytest.mark.parametrize('shape', [(8, 8, 3), (24, 40, 3), (1, 1, 3)])
def test_any_size_batched(shape):
  rng = np.random.default_rng(1)
  images = rng.integers(0, 256, (3, *shape)).astype(np.uint8)
  for kernel, parameters in CHANGES[::3]:
    batch = apply(jax.vmap(functools.partial(kernel, **parameters)), images)
    exact = in_float64(kernel, images, parameters).astype(np.uint8)
    np.testing.assert_array_equal(batch.astype(np.uint8), exact)


@pytest.mark.parametrize(('kernel', 'parameters'), CHANGES[::3])
def test_jit_is_eager_and_vmap_is_loop(kernel, parameters):
  rng = np.random.default_rng(3)
  images = rng.integers(0, 256, (3, 9, 6, 3)).astype(np.uint8)
  loop = np.stack([kernel(image, **parameters) for image in images])
  batch = apply(jax.vmap(functools.partial(kernel, **parameters)), images)
  assert batch.dtype == loop.dtype == np.float32
  np.testing.assert_allclose(batch, loop, rtol=0, atol=6e-5)
  np.testing.assert_array_equal(batch.astype(np.uint8), loop.astype(np.uint8))


@pytest.mark.parametrize('shape', [(8, 8, 1), (28, 28, 1), (1, 1, 1)])
def test_grey(shape):
  rng = np.random.default_rng(2)
  image = rng.integers(0, 256, shape).astype(np.uint8)
  ours = apply(brighten, image, add=0.3)
  exact = np.clip(image / 255.0 + 0.3, 0, 1) * 255
  np.testing.assert_array_equal(ours.astype(np.uint8), exact.astype(np.uint8))
  np.testing.assert_allclose(ours, exact, atol=5e-5)
  for parameters in ({'scale': 0.3, 'add': 0.0}, {'scale': 2.0, 'add': 0.1}):
    ours = apply(saturate, image, **parameters)
    red = in_float64(saturate, np.repeat(image, 3, 2), parameters)
    luma = (red @ [0.299, 0.587, 0.114])[..., None]
    np.testing.assert_allclose(ours, luma, atol=5e-5)
    assert ours.shape == shape


def test_limits():
  image = sample_colors()
  np.testing.assert_allclose(apply(brighten, image, add=0.0), image, atol=6e-5)
  np.testing.assert_array_equal(
    apply(brighten, image, add=-1.0), np.zeros_like(image)
  )
  np.testing.assert_allclose(
    apply(saturate, image, scale=1.0, add=0.0), image, atol=6e-5
  )
  value = np.broadcast_to(image.max(-1, keepdims=True), image.shape)
  np.testing.assert_allclose(
    apply(saturate, image, scale=0.0, add=0.0), value, atol=6e-5
  )


def test_order_of_channels_carries_over():
  # A law of hue: permuting the channels permutes the result.
  image = sample_colors()
  image = image[:, (np.diff(np.sort(image), axis=-1) > 0).all((0, 2))]
  for order in ([1, 2, 0], [2, 1, 0]):
    swapped = apply(saturate, image[..., order], scale=1.7, add=0.1)
    plain = apply(saturate, image, scale=1.7, add=0.1)
    np.testing.assert_allclose(swapped, plain[..., order], atol=6e-5)


def test_errors():
  image = np.zeros((8, 8, 3), np.uint8)
  with pytest.raises(ValueError, match=r'add must be in \[-1, 1\].*got 40'):
    brighten(image, add=40)
  with pytest.raises(ValueError, match='scale must be >= 0, got -2'):
    saturate(image, scale=-2, add=0.0)
  with pytest.raises(TypeError, match='saturate takes pixels as uint8'):
    saturate(image / 255, scale=2.0, add=0.0)
