import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from mollify_jax.corruptions import elastic
from mollify_jax.corruptions.severities import parameters_for

# Compiled again and again; what the scripts made is compared in every run.
pytestmark = pytest.mark.slow

SETS = {32: 'cifar', 64: 'tiny_imagenet', 224: 'imagenet'}
SHAPES = [(8, 8, 1), (28, 28, 1), (24, 40, 3), (33, 17, 3)]

# Compiled once per shape and parameters rather than operation by operation.
inverse_affine = jax.jit(elastic.inverse_affine, static_argnums=(1, 2))
source_positions = jax.jit(elastic.source_positions, static_argnums=(1, 2))
warp_affine = jax.jit(elastic.warp_affine)
warp_elastic = jax.jit(elastic.warp_elastic, static_argnames='alpha')
elastic_transform = jax.jit(
  elastic.elastic_transform, static_argnames=('alpha', 'sigma')
)


def cases(arrays):
  """(severity, reference arrays of one case) of elastic_transform."""
  prefix = 'elastic_transform__'
  names = [name for name in arrays if name.startswith(prefix)]
  severities = arrays[prefix + 'severity']
  for i, severity in enumerate(severities):
    for j in range(arrays[prefix + 'image'].shape[1]):
      case = {
        name.removeprefix(prefix): arrays[name][i, j]
        for name in names
        if name != prefix + 'severity'
      }
      yield int(severity), case


def draws(shape, shift, seed=0):
  """(image, corner shifts, field) at random."""
  rng = np.random.default_rng(seed)
  image = rng.integers(0, 256, shape, dtype=np.uint8)
  corners = rng.uniform(-shift, shift, (3, 2)).astype(np.float32)
  noise = rng.uniform(-1, 1, (2, *shape[:2])).astype(np.float32)
  return image, corners, noise


def inverse_model(corner_shift, height, width):
  """float64[2, 3]: the map back, by solving for the map there."""
  q = max(min(height, width) // 3, 1)
  signs = np.array([[1, 1], [1, -1], [-1, -1]])
  corners = np.float32([width // 2, height // 2] + q * signs)
  moved = (corners + corner_shift).astype(np.float64)
  there = np.linalg.solve(np.c_[corners, np.ones(3)], moved).T
  return np.linalg.inv(np.vstack([there, [0, 0, 1]]))[:2]


def positions_model(inverse, height, width):
  """int[2, H, W]: OpenCV's fixed point, from a float64 map."""
  columns = np.rint(1024 * inverse[:, :1] * np.arange(width))
  rows = np.rint(1024 * (inverse[:, 1:2] * np.arange(height) + inverse[:, 2:]))
  total = columns[:, None, :] + rows[:, :, None]
  return (total.astype(np.int64) + 16) >> 5


def sample_model(image, x, y, mode):
  """float64[H, W, C]: SciPy's bilinear interpolation."""
  channels = np.moveaxis(image.astype(np.float64), 2, 0)
  sampled = [
    ndimage.map_coordinates(channel, [y, x], order=1, mode=mode)
    for channel in channels
  ]
  return np.stack(sampled, axis=2)


def elastic_model(image, corner_shift, noise, alpha, sigma):
  """The whole of `elastic_transform` in float64."""
  height, width, _ = image.shape
  inverse = inverse_model(corner_shift, height, width)
  x, y = positions_model(inverse, height, width) / 32
  warped = sample_model(image, x, y, 'mirror')
  if alpha == 0:
    return warped
  dx, dy = (
    alpha * ndimage.gaussian_filter(field, sigma, mode='reflect', truncate=3)
    for field in noise.astype(np.float64)
  )
  y, x = np.indices((height, width))
  return sample_model(warped, x + dx, y + dy, 'reflect')


@pytest.mark.parametrize('size', SETS)
def test_inverse_affine_matches_the_reference(corruption_arrays, size):
  for _, case in cases(corruption_arrays('explicit', size)):
    matrix = np.vstack([case['M'], [0, 0, 1]])
    high, low = inverse_affine(case['corner_shift'], size, size)
    inverse = np.float64(high) + np.float64(low)
    np.testing.assert_allclose(
      inverse, np.linalg.inv(matrix)[:2], rtol=0, atol=3e-8
    )


@pytest.mark.parametrize('size', SETS)
def test_every_position_matches_the_reference(corruption_arrays, size):
  for _, case in cases(corruption_arrays('explicit', size)):
    inverse = inverse_affine(case['corner_shift'], size, size)
    positions = source_positions(inverse, size, size)
    matrix = np.vstack([case['M'], [0, 0, 1]])
    model = positions_model(np.linalg.inv(matrix)[:2], size, size)
    # A sum of 1/1024 pixel may fall on the other side of a half.
    wrong = np.asarray(positions) != model
    assert wrong.mean() < 1e-3
    assert np.abs(positions - model).max() <= 1


def test_affine_and_smoothing_match_the_reference(corruption_arrays):
  arrays = corruption_arrays('explicit', 32)
  for severity, case in cases(arrays):
    inverse = inverse_affine(case['corner_shift'], 32, 32)
    positions = source_positions(inverse, 32, 32)
    warped = warp_affine(arrays['inputs'][case['image']], positions)
    np.testing.assert_allclose(
      warped / 255, case['affine_only'], rtol=0, atol=3e-7
    )
    sigma = parameters_for('elastic_transform', severity, 'cifar')['sigma']
    if sigma > 0:
      rough = jnp.stack([case['u_dx'], case['u_dy']])
      np.testing.assert_allclose(
        elastic.smooth_displacement(rough, sigma=sigma),
        [case['smooth_u_dx'], case['smooth_u_dy']],
        rtol=0,
        atol=3e-7,
      )


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize(
  ('alpha', 'sigma'), [(0.0, 0.0), (2.5, 1.3), (60.0, 30.0)]
)
def test_elastic_transform_matches_scipy(shape, alpha, sigma):
  for seed in range(3):
    image, corners, noise = draws(shape, 0.08 * min(shape[:2]), seed)
    result = elastic_transform(image, corners, noise, alpha=alpha, sigma=sigma)
    expected = elastic_model(image, corners, noise, alpha, sigma)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, expected, rtol=0, atol=0.02)


@pytest.mark.parametrize('size', [32, 224, 500])
def test_positions_are_those_of_float64(size):
  wrong = []
  for seed in range(20):
    _, corners, _ = draws((1, 1, 1), 0.2 * size, seed)
    inverse = inverse_affine(corners, size, size)
    positions = source_positions(inverse, size, size)
    model = positions_model(inverse_model(corners, size, size), size, size)
    model = np.clip(model, -(2**24), 2**24)
    wrong.append(np.mean(np.asarray(positions) != model))
  # float32 alone has about 1e-3 wrong.
  assert np.mean(wrong) < 2e-5


def test_no_shift_and_no_field_is_the_identity():
  for shape in SHAPES:
    image, corners, noise = draws(shape, 1.0)
    result = elastic_transform(
      image, 0 * corners, 0 * noise, alpha=3.0, sigma=1.0
    )
    np.testing.assert_array_equal(result, image)


def test_moving_all_corners_alike_shifts_the_image():
  image, _, noise = draws((12, 20, 3), 1.0)
  shift = np.float32([[2, -3]] * 3)  # to the right, upwards
  result = elastic_transform(image, shift, noise, alpha=0, sigma=0)
  np.testing.assert_array_equal(result[:9, 2:], image[3:, :18])


@pytest.mark.parametrize('level', [0, 77, 200, 255])
def test_flat_images_stay_exactly_flat(level):
  image, corners, noise = draws((16, 16, 3), 2.0)
  flat = np.full_like(image, level)
  result = elastic_transform(flat, corners, noise, alpha=4, sigma=1.5)
  np.testing.assert_array_equal(result, flat)


@pytest.mark.parametrize('shape', [(1, 1, 1), (2, 2, 3), (1, 7, 3), (8, 8, 1)])
def test_any_corners_give_pixels(shape):
  image, corners, noise = draws(shape, 1.0)
  q = max(min(shape[:2]) // 3, 1)
  on_a_line = np.float32([[0, 0], [0, 0], [2 * q, 0]])  # third onto second
  almost = on_a_line + np.float32([[0, 0], [0, 0], [3e-4, 1e-3]])
  for shift in (on_a_line, almost, 40 * corners, 1e9 * corners):
    for alpha in (0.0, 5.0, 1e30):
      result = np.asarray(
        elastic_transform(image, shift, noise, alpha=alpha, sigma=2.0)
      )
      assert np.isfinite(result).all()
      assert image.min() <= result.min() <= result.max() <= image.max()


def test_corners_on_a_line_give_the_top_left_pixel():
  image, _, noise = draws((9, 9, 3), 1.0)
  shift = np.float32([[0, 0], [0, 0], [6, 0]])  # the third onto the second
  result = elastic_transform(image, shift, noise, alpha=0, sigma=0)
  np.testing.assert_array_equal(
    result, np.broadcast_to(image[0, 0], image.shape)
  )


def test_jit_and_vmap_change_nothing():
  shape = (28, 28, 1)
  stacks = [
    np.stack(parts)
    for parts in zip(*(draws(shape, 2.5, s) for s in range(2)), strict=True)
  ]

  def kernel(image, corners, noise):
    return elastic.elastic_transform(
      image, corners, noise, alpha=3.2, sigma=1.28
    )

  eager = [kernel(*parts) for parts in zip(*stacks, strict=True)]
  compiled = jax.jit(kernel)
  jitted = [compiled(*parts) for parts in zip(*stacks, strict=True)]
  batched = jax.jit(jax.vmap(kernel))(*stacks)
  np.testing.assert_allclose(jitted, eager, rtol=0, atol=2e-3)
  np.testing.assert_allclose(batched, eager, rtol=0, atol=2e-3)


@pytest.mark.parametrize('severity', [1, 3])
def test_random_elastic_transform_uses_its_draws(severity):
  parameters = parameters_for('elastic_transform', severity, 'cifar')
  image, _, _ = draws((32, 32, 3), 1.0)
  key = jax.random.key(3)
  corners, noise = elastic.draw_elastic(key, image.shape)
  result = elastic.random_elastic_transform(key, image, **parameters)
  shift = parameters.pop('affine_shift')
  expected = elastic.elastic_transform(
    image, shift * corners, noise, **parameters
  )
  np.testing.assert_array_equal(result, expected)
  other = elastic.random_elastic_transform(
    jax.random.key(4), image, **parameters, affine_shift=shift
  )
  assert np.any(np.asarray(other) != np.asarray(result))


def test_draws_are_uniform():
  keys = jax.random.split(jax.random.key(0), 500)
  corners, noise = jax.vmap(lambda key: elastic.draw_elastic(key, (8, 6, 1)))(
    keys
  )
  assert corners.shape == (500, 3, 2)
  assert noise.shape == (500, 2, 8, 6)
  for values in (corners, noise):
    values = np.asarray(values, np.float64)
    assert np.abs(values).max() <= 1
    error = np.sqrt(1 / 3 / values.size)
    assert abs(values.mean()) < 5 * error
    assert abs((values**2).mean() - 1 / 3) < 5 * 0.3 / np.sqrt(values.size)


def test_errors_say_what_was_wanted():
  image, corners, noise = draws((8, 8, 1), 1.0)
  with pytest.raises(ValueError, match=r'sigma > 0 in pixels, got 0\.0; for'):
    elastic.elastic_transform(image, corners, noise, alpha=1.0, sigma=0.0)
  with pytest.raises(ValueError, match=r'\[3, 2\], got shape \(2, 2\)'):
    elastic.elastic_transform(image, corners[:2], noise, alpha=1, sigma=1)
  with pytest.raises(ValueError, match=r'\(2, 8, 8\), got shape \(2, 8, 7\)'):
    elastic.elastic_transform(image, corners, noise[:, :, :7], alpha=1, sigma=1)
  with pytest.raises(TypeError, match='uint8'):
    elastic.elastic_transform(image / 255, corners, noise, alpha=1, sigma=1)
