import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from mollify_jax.corruptions import spatter as kernels
from mollify_jax.corruptions.severities import parameters_for

# Compiled again and again; what the scripts made is compared in every run.
pytestmark = pytest.mark.slow

SETS = {32: 'cifar', 64: 'tiny_imagenet', 224: 'imagenet'}
SHAPES = [(8, 8, 1), (28, 28, 1), (24, 40, 3), (33, 17, 3)]
EMBOSS = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])


# Compiled once per shape and parameters rather than operation by operation.
STEPS = ('canny_edges', 'edge_distance', 'equalise', 'emboss')
canny_edges, edge_distance, equalise, emboss = (
  jax.jit(getattr(kernels, name)) for name in STEPS
)
spatter = jax.jit(
  kernels.spatter,
  static_argnames=(
    'loc',
    'scale',
    'blur_sigma',
    'threshold',
    'strength',
    'kind',
  ),
)


def cases(arrays):
  """(severity, reference arrays of one case) of spatter."""
  prefix = 'spatter__'
  names = [name for name in arrays if name.startswith(prefix)]
  for i, severity in enumerate(arrays[prefix + 'severity']):
    for j in range(arrays[prefix + 'image'].shape[1]):
      yield (
        int(severity),
        {
          name.removeprefix(prefix): arrays[name][i, j]
          for name in names
          if name != prefix + 'severity'
        },
      )


def draws(shape, seed=0):
  """(image, z) at random."""
  rng = np.random.default_rng(seed)
  image = rng.integers(0, 256, shape, dtype=np.uint8)
  return image, rng.standard_normal(shape[:2]).astype(np.float32)


def levels_of(shape, seed):
  """Blots as spatter has them: int[H, W] in [0, 255], many of them zero."""
  _, z = draws(shape, seed)
  smooth = ndimage.gaussian_filter(z.astype(np.float64), 0.5 + seed % 3)
  levels = np.clip(100 + 90 * smooth / smooth.std(), 0, 255).astype(int)
  return np.where(levels < 60 + 20 * (seed % 4), 0, levels)


def canny_model(levels):
  """Canny pixel by pixel, angles in degrees, and SciPy's components."""
  smooth, derivative = [1, 2, 1], [-1, 0, 1]
  filters = np.outer(smooth, derivative), np.outer(derivative, smooth)
  dx, dy = (ndimage.correlate(levels, f, mode='nearest') for f in filters)
  magnitude = np.abs(dx) + np.abs(dy)
  around = np.pad(magnitude, 1)
  weak = np.zeros(levels.shape, bool)
  for y, x in np.argwhere(magnitude > 50):
    here = magnitude[y, x]
    angle = np.degrees(np.arctan2(abs(dy[y, x]), abs(dx[y, x])))
    if angle < 22.5:
      step, strict = (0, 1), False
    elif angle > 67.5:
      step, strict = (1, 0), False
    else:
      step, strict = (1, -1 if dx[y, x] * dy[y, x] < 0 else 1), True
    before = around[1 + y - step[0], 1 + x - step[1]]
    after = around[1 + y + step[0], 1 + x + step[1]]
    weak[y, x] = here > before and (here > after if strict else here >= after)
  parts, _ = ndimage.label(weak, np.ones((3, 3)))
  strong = np.unique(parts[weak & (magnitude > 150)])
  return weak & np.isin(parts, strong)


def distance_model(edges):
  """float64[H, W]: the shortest chamfer paths, by trying steps until none is
  shorter."""
  distance = np.where(edges, 0.0, 1e9)
  height, width = edges.shape
  steps = [
    (y, x, {1: 1.0, 2: 1.4, 5: 2.1969}[y * y + x * x])
    for y in range(-2, 3)
    for x in range(-2, 3)
    if y * y + x * x in (1, 2, 5)
  ]
  while True:
    padded = np.pad(distance, 2, constant_values=1e9)
    shifted = [
      padded[2 + y : 2 + y + height, 2 + x : 2 + x + width] + length
      for y, x, length in steps
    ]
    new = np.minimum(distance, np.min(shifted, axis=0))
    if np.array_equal(new, distance):
      return np.minimum(distance, 20)
    distance = new


def mean_distance_model(edges):
  """int[H, W]: averaged and truncated; 1e-9 is for sums that are whole."""
  mean = ndimage.uniform_filter(distance_model(edges), 3, mode='mirror')
  return np.floor(mean + 1e-9).astype(int)


def equalise_model(distance):
  """int[H, W]: the cumulative histogram as grey levels."""
  counts = np.cumsum(np.bincount(distance.reshape(-1), minlength=256))
  nearest = counts[distance.min()]
  if nearest == distance.size:
    return distance
  scale = np.float32(255) / np.float32(distance.size - nearest)
  table = np.rint(np.float32(counts - nearest) * scale)
  return table[distance].astype(int)


def water_model(levels):
  """float64[H, W]: `water_mask`."""
  light = equalise_model(mean_distance_model(canny_model(levels)))
  light = np.clip(ndimage.correlate(light, EMBOSS, mode='mirror'), 0, 255)
  light = np.rint(ndimage.uniform_filter(light * 1.0, 3, mode='mirror'))
  water = levels * light
  return water / max(water.max(), 1)


def spatter_model(image, z, loc, scale, blur_sigma, threshold, strength, kind):
  """The whole of `spatter` in float64."""
  layer = loc + scale * z.astype(np.float64)
  layer = ndimage.gaussian_filter(layer, blur_sigma, mode='nearest')
  luma = np.array([0.299, 0.587, 0.114])
  colour = np.array([175, 238, 238] if kind == 'water' else [63, 42, 20])
  if image.shape[2] == 1:
    colour = np.array([luma @ colour])
  if kind == 'water':
    levels = np.where(layer < threshold, 0, (layer * 255).astype(int) % 256)
    mask = strength * water_model(levels)[..., None]
    return np.clip(image + mask * colour, 0, 255) * (mask.max() > 0)
  mask = ndimage.gaussian_filter(
    (layer > threshold) * 1.0, strength, mode='nearest'
  )
  mask = np.where(mask < 0.8, 0, mask)[..., None]
  return image * (1 - mask) + mask * colour


@pytest.mark.parametrize('size', [32, 64])
def test_every_step_matches_the_reference(corruption_arrays, size):
  for severity, case in cases(corruption_arrays('explicit', size)):
    parameters = parameters_for('spatter', severity, SETS[size])
    threshold = parameters['threshold']
    layer = kernels.smooth_layer(
      case['z'],
      **{name: parameters[name] for name in ('loc', 'scale', 'blur_sigma')},
    )
    if 'liquid_smooth' in case:
      np.testing.assert_allclose(
        layer, case['liquid_smooth'], rtol=0, atol=3e-7
      )
    if parameters['kind'] == 'water':
      levels = kernels.quantise_layer(layer, threshold=threshold)
      edges = canny_edges(levels)
      np.testing.assert_array_equal(edges, case['water_canny'] > 0)
      distance = edge_distance(edges)
      np.testing.assert_array_equal(distance, case['water_dist'])
      light = equalise(distance)
      np.testing.assert_array_equal(light, case['water_equalized'])
      relief = emboss(light)
      np.testing.assert_array_equal(relief, case['water_filtered'])


@pytest.mark.parametrize('shape', SHAPES)
def test_edges_and_distances_match_models(shape):
  found = 0
  for seed in range(8):
    levels = levels_of(shape, seed)
    edges = canny_edges(jnp.int32(levels))
    found += int(edges.sum())
    np.testing.assert_array_equal(edges, canny_model(levels))
    distance = edge_distance(edges)
    np.testing.assert_array_equal(distance, mean_distance_model(edges))
    np.testing.assert_array_equal(
      equalise(distance), equalise_model(np.asarray(distance))
    )
  assert found > 0


@pytest.mark.parametrize('shape', [(50, 50), (7, 61), (61, 7), (1, 30)])
def test_distances_to_few_edges(shape):
  rng = np.random.default_rng(0)
  for count in (1, 1, 2, 5):
    edges = np.zeros(shape, bool)
    edges.reshape(-1)[rng.integers(0, edges.size, count)] = True
    np.testing.assert_array_equal(
      edge_distance(edges), mean_distance_model(edges)
    )


def test_an_edge_is_followed_all_the_way():
  # A spiral of weak pixels with one strong one at its outer end.
  weak = np.zeros((41, 41), bool)
  y, x, dy, dx = 0, 0, 0, 1
  for length in [40, *np.repeat(range(40, 0, -2), 2)[:-1]]:
    for _ in range(length):
      weak[y, x] = True
      y, x = y + dy, x + dx
    dy, dx = dx, -dy
  seeds = np.zeros_like(weak)
  seeds[0, 0] = True
  grown = kernels._connected(jnp.asarray(seeds), jnp.asarray(weak))
  np.testing.assert_array_equal(grown, weak)


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize(
  ('severity', 'parameters'),
  [(1, 'cifar'), (3, 'cifar'), (5, 'cifar'), (1, 'imagenet'), (5, 'imagenet')],
)
def test_spatter_matches_the_model(shape, severity, parameters):
  parameters = parameters_for('spatter', severity, parameters)
  image, z = draws(shape, severity)
  result = spatter(image, z, **parameters)
  assert result.dtype == jnp.float32
  np.testing.assert_allclose(
    result, spatter_model(image, z, **parameters), rtol=0, atol=2e-3
  )


@pytest.mark.parametrize('shape', [(1, 1, 1), (2, 2, 3), (1, 7, 3), (5, 1, 1)])
@pytest.mark.parametrize('severity', [3, 5])
def test_any_size_gives_pixels(shape, severity):
  parameters = parameters_for('spatter', severity, 'imagenet')
  image, z = draws(shape)
  result = np.asarray(spatter(image, z, **parameters))
  assert result.shape == shape
  assert ((result >= 0) & (result <= 255)).all()


def test_no_liquid_leaves_mud_out_and_water_black():
  image, z = draws((16, 16, 3))
  parameters = {'loc': 0.0, 'scale': 0.1, 'blur_sigma': 1.0, 'threshold': 0.9}
  mud = kernels.spatter(image, z, **parameters, strength=0.6, kind='mud')
  np.testing.assert_array_equal(mud, image)
  water = kernels.spatter(image, z, **parameters, strength=0.6, kind='water')
  np.testing.assert_array_equal(water, np.zeros(image.shape))


def test_mud_everywhere_is_its_colour():
  image, z = draws((16, 16, 3))
  mud = kernels.spatter(
    image,
    z,
    loc=1.0,
    scale=0.0,
    blur_sigma=1.0,
    threshold=0.5,
    strength=1.5,
    kind='mud',
  )
  np.testing.assert_array_equal(mud, np.broadcast_to([63, 42, 20], image.shape))


def test_a_layer_above_one_wraps_around():
  layer = jnp.array([[0.5, 0.99, 1.0, 1.01, 2.5]])
  np.testing.assert_array_equal(
    kernels.quantise_layer(layer, threshold=0.6), [[0, 252, 255, 1, 125]]
  )


@pytest.mark.parametrize('severity', [3, 5])
def test_jit_and_vmap_change_nothing(severity):
  parameters = parameters_for('spatter', severity, 'cifar')
  images, zs = map(
    np.stack, zip(*(draws((28, 28, 1), s) for s in range(2)), strict=True)
  )

  def kernel(image, z):
    return kernels.spatter(image, z, **parameters)

  pairs = list(zip(images, zs, strict=True))
  eager = [kernel(*pair) for pair in pairs]
  compiled = jax.jit(kernel)
  jitted = [compiled(*pair) for pair in pairs]
  batched = jax.jit(jax.vmap(kernel))(images, zs)
  np.testing.assert_allclose(jitted, eager, rtol=0, atol=1e-4)
  np.testing.assert_allclose(batched, eager, rtol=0, atol=1e-4)


@pytest.mark.parametrize('severity', [1, 4])
def test_random_spatter_uses_its_draw(severity):
  parameters = parameters_for('spatter', severity, 'cifar')
  image, _ = draws((32, 32, 3))
  key = jax.random.key(3)
  (z,) = kernels.draw_spatter(key, image.shape)
  result = kernels.random_spatter(key, image, **parameters)
  np.testing.assert_array_equal(result, kernels.spatter(image, z, **parameters))
  other = kernels.random_spatter(jax.random.key(4), image, **parameters)
  assert np.any(np.asarray(other) != np.asarray(result))


def test_draws_are_normal():
  keys = jax.random.split(jax.random.key(0), 500)
  (z,) = jax.vmap(lambda key: kernels.draw_spatter(key, (8, 6, 1)))(keys)
  assert z.shape == (500, 8, 6)
  z = np.asarray(z, np.float64)
  assert abs(z.mean()) < 5 / np.sqrt(z.size)
  assert abs((z**2).mean() - 1) < 5 * np.sqrt(2 / z.size)


def test_errors_say_what_was_wanted():
  image, z = draws((8, 8, 1))
  parameters = parameters_for('spatter', 1, 'cifar')
  with pytest.raises(ValueError, match="kind 'oil'; choose from water, mud"):
    kernels.spatter(image, z, **{**parameters, 'kind': 'oil'})
  with pytest.raises(ValueError, match=r'\(8, 8\), got shape \(7, 8\)'):
    kernels.spatter(image, z[1:], **parameters)
  with pytest.raises(TypeError, match='uint8'):
    kernels.spatter(image / 255, z, **parameters)
