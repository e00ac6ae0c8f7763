"""Blur kernels against SciPy and plain loops."""

import math

import jax
import numpy as np
import pytest
import scipy.ndimage

from mollify_jax.corruptions import blur, filters

RANDOM = np.random.default_rng(0)
SHAPES = [(8, 8, 1), (13, 20, 3)]


def pixels(shape, seed=0):
  image = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
  image[: shape[0] // 2] = image[0, 0]  # and a flat area
  return image


def check(ours, exact, most=1e-3):
  ours = np.asarray(ours, float)
  np.testing.assert_allclose(ours, exact, atol=most)
  assert ours.min() >= 0
  assert ours.max() <= 255


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('sigma', [0.1, 0.4, 3.0])
def test_gaussian_is_scipys(shape, sigma):
  image = pixels(shape)
  exact = scipy.ndimage.gaussian_filter(
    image / 255, (sigma, sigma, 0), mode='nearest', truncate=4.0
  )
  ours = blur.gaussian_blur(image, sigma=sigma)
  check(ours, exact * 255)
  stored = (np.clip(exact, 0, 1) * 255).astype(np.uint8)
  assert (np.asarray(ours).astype(np.uint8) == stored).mean() > 0.99


def test_flat_areas_fall_as_in_float64():
  """Every grey level: a hair below an integer is a level less."""
  for sigma in (0.25, 0.4, 0.7, 1.0):
    for level in range(256):
      image = np.full((4, 4, 1), level, np.uint8)
      exact = scipy.ndimage.gaussian_filter(
        image / 255, (sigma, sigma, 0), mode='nearest', truncate=4.0
      )
      stored = (np.clip(exact, 0, 1) * 255).astype(np.uint8)
      taps = filters.gaussian_taps(sigma, int(4 * sigma + 0.5))
      table = filters._flat_areas(tuple(taps.tolist()))
      assert table[level] == stored[0, 0, 0], (sigma, level)
  image = (
    np.full((4, 4, 1), 0, np.uint8)
    + np.arange(256, dtype=np.uint8)[:, None, None, None]
  )
  ours = jax.vmap(lambda i: blur.gaussian_blur(i, sigma=1.0))(image)
  exact = scipy.ndimage.gaussian_filter(
    image[:, :, :, 0] / 255, (0, 1.0, 1.0), mode='nearest', truncate=4.0
  )
  np.testing.assert_array_equal(
    np.asarray(ours).astype(np.uint8)[..., 0],
    (np.clip(exact, 0, 1) * 255).astype(np.uint8),
  )


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize(
  ('radius', 'alias_sigma'), [(0.3, 0.4), (1.5, 0.1), (3, 0.1), (10, 0.5)]
)
def test_defocus_is_a_correlation_with_the_disc(shape, radius, alias_sigma):
  image = pixels(shape)
  kernel = blur.disc_kernel(radius, alias_sigma).astype(float)
  exact = scipy.ndimage.correlate(
    image.astype(float), kernel[:, :, None], mode='mirror'
  )
  ours = blur.defocus_blur(image, radius=radius, alias_sigma=alias_sigma)
  check(ours, np.clip(exact, 0, 255))


def test_disc_has_the_area_of_a_disc():
  kernel = blur.disc_kernel(6.0, 0.5)
  assert kernel.shape == (17, 17)
  assert kernel.sum() == pytest.approx(1, abs=1e-5)
  inside = kernel > kernel.max() / 2
  assert inside.sum() == pytest.approx(math.pi * 36, rel=0.05)
  assert blur.disc_kernel(10.0, 0.5).shape == (21, 21)


def glass_by_loops(image, offsets, sigma, max_delta, iterations):
  """As the definition reads: visit by visit, in float64."""

  def smooth(x):
    return scipy.ndimage.gaussian_filter(
      x, (sigma, sigma, 0), mode='nearest', truncate=4.0
    )

  height, width, _ = image.shape
  x = (smooth(image / 255) * 255).astype(np.uint8)
  for iteration in range(iterations):
    visits = iter(offsets[iteration].reshape(-1, 2))
    for h in range(height - max_delta, max_delta, -1):
      for w in range(width - max_delta, max_delta, -1):
        dx, dy = next(visits)
        x[h, w] = x[h + dy, w + dx]
  return np.clip(smooth(x / 255), 0, 1) * 255


@pytest.mark.parametrize('shape', [(8, 8, 1), (13, 20, 3), (5, 40, 1)])
@pytest.mark.parametrize(
  ('max_delta', 'iterations'), [(1, 1), (1, 2), (2, 2), (4, 3)]
)
def test_glass_is_the_loop(shape, max_delta, iterations):
  height, width, _ = shape
  rows, columns = (max(n - 2 * max_delta, 0) for n in (height, width))
  offsets = RANDOM.integers(
    -max_delta, max_delta, (iterations, rows, columns, 2)
  ).astype(np.int8)
  # Long chains to the right, which only the order of the visits resolves.
  offsets[:, : rows // 2] = (max_delta - 1, 0)
  image = pixels(shape)
  ours = blur.shuffle_glass(
    image, offsets, sigma=0.7, max_delta=max_delta, iterations=iterations
  )
  check(ours, glass_by_loops(image, offsets, 0.7, max_delta, iterations))


def test_glass_offsets_leave_out_the_upper_end():
  (offsets,) = blur.draw_offsets(
    jax.random.key(0), (40, 40, 3), max_delta=3, iterations=2
  )
  assert offsets.shape == (2, 34, 34, 2)
  values, counts = np.unique(np.asarray(offsets), return_counts=True)
  assert values.tolist() == [-3, -2, -1, 0, 1, 2]
  expected = offsets.size / 6
  assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_glass_refuses_other_offsets():
  with pytest.raises(ValueError, match=r'wanted \(1, 6, 6, 2\)'):
    blur.shuffle_glass(
      pixels((8, 8, 3)),
      np.zeros((1, 8, 8, 2), np.int8),
      sigma=0.7,
      max_delta=1,
      iterations=1,
    )


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('degrees', [-45.0, -30.0, 0.0, 12.3, 30.0, -100.0])
def test_motion_is_the_nearest_taps(shape, degrees):
  image, radius, sigma = pixels(shape), 6.0, 2.0
  height, width, _ = shape
  taps = 2 * math.ceil(radius) + 1
  angle = math.radians(degrees)
  down, right = taps * math.sin(angle), taps * math.cos(angle)
  length = math.hypot(down, right)
  weights = np.exp(-0.5 * (np.arange(taps) / sigma) ** 2)
  weights /= weights.sum()
  total = np.zeros(shape)
  for i, weight in enumerate(weights):
    row = math.ceil(i * down / length - 0.5)
    column = math.ceil(i * right / length - 0.5)
    rows = np.clip(np.arange(height) + row, 0, height - 1)
    columns = np.clip(np.arange(width) + column, 0, width - 1)
    total += weight * 257 * image[rows][:, columns]
  exact = np.clip(np.floor(total + 0.5), 0, 65535) // 257
  ours = blur.smear_motion(image, degrees, radius=radius, sigma=sigma)
  assert (np.asarray(ours) == exact).mean() > 0.999


@pytest.mark.parametrize('shape', [*SHAPES, (1, 1, 1), (1, 9, 3)])
def test_zoom_is_scipys(shape):
  image = pixels(shape)
  factors = np.arange(1, 1.21, 0.04)
  total = image.astype(float)
  for factor in factors:
    total = total + scipy_zoom(image.astype(float), float(factor))
  ours = blur.zoom_blur(image, stop=1.21, step=0.04)
  check(ours, total / (len(factors) + 1), most=1e-2)


def scipy_zoom(image, factor):
  """Each side by itself: crop the centre, enlarge, trim the surplus."""
  for axis in (0, 1):
    size = image.shape[axis]
    crop, top, resized, trim = blur.zoom_plan(size, factor)
    part = np.take(image, np.arange(top, top + crop), axis)
    zooms = [1.0, 1.0, 1.0]
    zooms[axis] = resized / crop
    if resized > 1 and crop > 1:
      part = scipy.ndimage.zoom(part, zooms, order=1)
    image = np.take(part, np.arange(trim, trim + size), axis)
  return image


def test_zoom_factors_are_the_doubles_of_the_scripts():
  assert blur.zoom_plan(32, 1.2500000000000002) == (26, 3, 33, 0)
  assert blur.zoom_plan(32, 1.25) == (26, 3, 32, 0)
