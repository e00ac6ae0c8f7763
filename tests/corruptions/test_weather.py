"""Snow, frost and fog against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollify_jax.corruptions import weather

RANDOM = np.random.default_rng(0)


def pixels(*shape):
  return RANDOM.integers(0, 256, shape, np.uint8)


def diamond_square(draws, decay):
  """Point by point: each new one from its four neighbours on the torus."""
  size = int(np.sqrt(len(draws) + 1))
  heights = np.full((size, size), np.nan)
  heights[0, 0] = 0
  draws = iter(draws.astype(float))
  step, amplitude = size, 100.0
  while step > 1:
    half = step // 2
    lattice = range(0, size, step)
    straight = (-half, 0), (half, 0), (0, -half), (0, half)
    diagonal = (-half, -half), (-half, half), (half, -half), (half, half)
    for rows, columns, corners in (
      (half, half, diagonal),
      (0, half, straight),
      (half, 0, straight),
    ):
      new = {}
      for i in lattice:
        for j in lattice:
          row, column = i + rows, j + columns
          near = [
            heights[(row + y) % size, (column + x) % size] for y, x in corners
          ]
          noise = amplitude**2 * next(draws)
          new[row, column] = np.mean(near) + noise
      for place, value in new.items():
        heights[place] = value
    step, amplitude = half, amplitude / decay
  heights -= heights.min()
  return heights / heights.max()


@pytest.mark.parametrize(('size', 'decay'), [(2, 3.0), (8, 1.75), (16, 2.5)])
def test_plasma_is_diamond_square(size, decay):
  draws = RANDOM.uniform(-1, 1, size**2 - 1).astype(np.float32)
  ours = np.asarray(weather.plasma(draws, decay=decay))
  np.testing.assert_allclose(ours, diamond_square(draws, decay), atol=1e-5)
  assert ours.min() == 0
  assert ours.max() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize('channels', [1, 3])
def test_fog_is_the_definition(channels):
  image = pixels(6, 9, channels)
  heights = RANDOM.uniform(0, 1, (6, 9)).astype(np.float32)
  x = image / 255
  exact = x + 1.5 * heights[..., None]
  exact = np.clip(exact * x.max() / (x.max() + 1.5), 0, 1) * 255
  ours = weather.add_fog(image, heights, amount=1.5)
  np.testing.assert_allclose(ours, exact, atol=1e-3)
  black = np.zeros((4, 4, 3), np.uint8)
  fogged = weather.add_fog(black, heights[:4, :4], amount=1.5)
  np.testing.assert_array_equal(fogged, black)


@pytest.mark.slow
def test_fog_grows_its_grid_with_the_image():
  image = pixels(40, 70, 3)
  ours = weather.fog(jax.random.key(0), image, amount=0.5, decay=2.0, grid=32)
  assert ours.shape == image.shape
  (draws,) = weather.draw_plasma(jax.random.key(0), image.shape, grid=32)
  assert draws.shape == (128**2 - 1,)


@pytest.mark.parametrize(
  ('image_weight', 'frost_weight'), [(1.0, 0.2), (0.8, 0.6), (0.6, 0.75)]
)
def test_frost_is_the_weighted_sum(image_weight, frost_weight):
  image = np.arange(256, dtype=np.uint8).repeat(256).reshape(256, 256)
  texture = image.T
  exact = image_weight * image.astype(float) + frost_weight * texture
  exact = np.clip(exact, 0, 255)
  image, texture = (
    np.repeat(a[..., None], 3, axis=2) for a in (image, texture)
  )
  ours = weather.add_frost(
    image, texture, image_weight=image_weight, frost_weight=frost_weight
  )
  np.testing.assert_allclose(ours[..., 0], exact, atol=1e-3)
  # All pairs of pixels: truncation agrees with float64 everywhere.
  np.testing.assert_array_equal(
    np.asarray(ours[..., 1]).astype(np.uint8), exact.astype(np.uint8)
  )


def test_frost_on_grey_takes_the_luma():
  image, texture = pixels(5, 6, 1), pixels(5, 6, 3)
  luma = texture @ np.array([0.299, 0.587, 0.114])
  exact = np.clip(0.75 * image[..., 0] + 0.45 * luma, 0, 255)
  ours = weather.add_frost(image, texture, image_weight=0.75, frost_weight=0.45)
  np.testing.assert_allclose(ours[..., 0], exact, atol=1e-3)


@pytest.mark.slow
def test_frost_takes_five_textures_and_all_places_but_the_last():
  keys = jax.random.split(jax.random.key(0), 4000)
  index, place = jax.vmap(lambda k: weather.draw_frost(k, (32, 32, 3)))(keys)
  assert np.unique(index).tolist() == [0, 1, 2, 3, 4]
  assert np.min(place) >= 0
  assert np.max(place) < 1
  _, sizes = weather._stacked_textures(0.2)
  assert sizes.tolist() == [
    [120, 180],
    [63, 112],
    [63, 112],
    [70, 105],
    [99, 132],
  ]


def test_frost_never_takes_the_last_place(monkeypatch):
  """Offsets 0 to size - side - 1, of a texture whose pixels say where."""
  stack = np.zeros((5, 20, 30, 3), np.uint8)
  stack[:] = (8 * np.arange(20)[:, None] + np.arange(30) % 8)[..., None]
  stack[..., 1] = np.arange(30)
  sizes = np.array([[20, 30]] * 5)
  monkeypatch.setattr(weather, '_stacked_textures', lambda _: (stack, sizes))
  image = np.zeros((8, 8, 3), np.uint8)
  for place, row, column in ((0.0, 0, 0), (1 - 2**-24, 11, 21)):
    crop = weather.frost_at(
      image,
      jnp.int32(2),
      jnp.full(2, place, jnp.float32),
      image_weight=1.0,
      frost_weight=1.0,
      texture_scale=0.2,
    )
    assert int(crop[0, 0, 0]) // 8 == row
    assert int(crop[0, 0, 1]) == column


def test_snow_is_the_definition():
  """Without motion: one tap, so that only the mixing is left."""
  image, z = pixels(10, 12, 3), RANDOM.standard_normal((10, 12))
  z = z.astype(np.float32)
  ours = weather.cover_with_snow(
    image,
    z,
    -90.0,
    loc=0.2,
    scale=0.3,
    zoom=1.0,
    threshold=0.5,
    blur_radius=0.0,
    blur_sigma=1.0,
    mix=0.8,
  )
  layer = 0.2 + 0.3 * z.astype(float)
  layer[layer < 0.5] = 0
  layer = (np.clip(layer, 0, 1) * 255).astype(np.uint8)[..., None] / 255
  x = image / 255
  grey = (x @ np.array([0.299, 0.587, 0.114]))[..., None]
  white = 0.8 * x + 0.2 * np.maximum(x, 1.5 * grey + 0.5)
  exact = np.clip(white + layer + np.rot90(layer, 2), 0, 1) * 255
  np.testing.assert_allclose(ours, exact, atol=2e-3)


@pytest.mark.slow
def test_snow_falls_downwards_and_lies_on_grey_images_too():
  (_, degrees) = jax.vmap(lambda k: weather.draw_snow(k, (4, 4, 1)))(
    jax.random.split(jax.random.key(0), 500)
  )
  assert np.min(degrees) >= -135
  assert np.max(degrees) < -45
  flakes = {
    'loc': 0.3,
    'scale': 0.3,
    'zoom': 1.25,
    'threshold': 0.65,
    'blur_radius': 4.0,
    'blur_sigma': 2.0,
  }
  grey = pixels(9, 9, 1)
  arguments = RANDOM.standard_normal((9, 9)).astype(np.float32), -80.0
  alone = weather.cover_with_snow(grey, *arguments, mix=0.8, **flakes)
  colour = weather.cover_with_snow(
    np.repeat(grey, 3, axis=2), *arguments, mix=0.8, **flakes
  )
  np.testing.assert_allclose(colour, np.repeat(alone, 3, 2), atol=1e-3)
