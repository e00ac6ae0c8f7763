"""Flip, crop and rotate against torchvision's outputs, and their draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollify_jax.augment.geometry import (
  affine_image,
  crop_image,
  flip_image,
  random_crop,
  random_flip,
  random_rotate,
  rotate_image,
)


def keys(count, seed=0):
  return jax.random.split(jax.random.key(seed), count)


def test_flip_crop_rotate_equal_torchvision(reference):
  arrays = reference('augment/sampled.npz')
  images = arrays['images_32'][arrays['fcr_32__image']]
  flip, top, left, angle = (
    arrays[f'fcr_32__{name}'] for name in ('flip', 'top', 'left', 'angle')
  )
  angle = angle.astype(np.float32)
  cropped = jax.vmap(crop_image)(images, top, left)
  np.testing.assert_array_equal(cropped, arrays['fcr_32__crop_only_out'])
  rotated = jax.vmap(rotate_image)(images, angle)
  np.testing.assert_array_equal(rotated, arrays['fcr_32__rotate_only_out'])

  @jax.jit
  @jax.vmap
  def flip_crop_rotate(image, flip, top, left, degrees):
    return rotate_image(crop_image(flip_image(image, flip), top, left), degrees)

  out = flip_crop_rotate(images, flip, top, left, angle)
  np.testing.assert_array_equal(out, arrays['fcr_32__out'])


def in_float64(image, matrix, interpolation, fill):
  """The map of the docstring, pixel by pixel."""
  height, width, channels = image.shape
  out = np.zeros(image.shape)
  for i in range(height):
    for j in range(width):
      x, y = j + 0.5 - width / 2, i + 0.5 - height / 2
      column, row = matrix @ [x, y, 1] + [width / 2 - 0.5, height / 2 - 0.5]
      if interpolation == 'nearest':
        places = [(round(row), round(column), 1.0)]
      else:
        low, left = int(np.floor(row)), int(np.floor(column))
        places = [
          (r, c, (1 - abs(row - r)) * (1 - abs(column - c)))
          for r in (low, low + 1)
          for c in (left, left + 1)
        ]
      value, coverage = np.zeros(channels), 0.0
      for r, c, weight in places:
        if 0 <= r < height and 0 <= c < width:
          value += weight * image[r, c]
          coverage += weight
      if fill is not None:
        value = (value - fill) * coverage + fill
      out[i, j] = value
  return out


@pytest.mark.parametrize('interpolation', ['nearest', 'bilinear'])
@pytest.mark.parametrize('fill', [None, 77])
def test_affine_equals_float64(interpolation, fill):
  random = np.random.default_rng(3)
  image = random.integers(0, 256, (7, 12, 2)).astype(np.uint8)
  # Far from ties.
  matrix = np.array([[0.9312, 0.3071, 1.3713], [-0.4217, 1.1031, -0.6129]])
  ours = affine_image(
    image, matrix.astype(np.float32), interpolation=interpolation, fill=fill
  )
  assert ours.dtype == np.uint8
  want = in_float64(image, matrix, interpolation, fill)
  assert np.abs(ours - want).max() <= 0.5 + 1e-3
  # A float image keeps its fractions.
  ours = affine_image(
    image.astype(np.float32),
    matrix.astype(np.float32),
    interpolation=interpolation,
    fill=fill,
  )
  np.testing.assert_allclose(ours, want, atol=1e-2)


def test_half_way_the_even_pixel_is_nearest():
  image = np.arange(1, 9, dtype=np.uint8).reshape(1, 8, 1)
  matrix = np.array([[1, 0, 0.5], [0, 1, 0]], np.float32)
  # Half a pixel to the right of each: 0.5 goes to 0, 1.5 and 2.5 to 2.
  out = np.asarray(affine_image(image, matrix))[0, :, 0]
  np.testing.assert_array_equal(out, [1, 3, 3, 5, 5, 7, 7, 0])


@pytest.mark.parametrize('shape', [(1, 1, 1), (5, 8, 3), (7, 3, 2)])
def test_neutral_parameters_are_the_identity(shape):
  image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
  np.testing.assert_array_equal(flip_image(image, False), image)
  np.testing.assert_array_equal(flip_image(image, True), image[:, ::-1])
  np.testing.assert_array_equal(crop_image(image, 2, 2, 2), image)
  np.testing.assert_array_equal(rotate_image(image, 0.0), image)
  np.testing.assert_array_equal(rotate_image(image, 180.0), image[::-1, ::-1])
  assert rotate_image(image, 30.0).dtype == np.uint8


def test_draws_have_the_stated_distributions():
  n = 40_000
  image = jnp.arange(2, dtype=jnp.uint8).reshape(1, 2, 1)
  flipped = jax.vmap(random_flip, (0, None))(keys(n), image)[:, 0, 0, 0]
  assert abs(np.mean(flipped) - 0.5) < 5 * 0.5 / np.sqrt(n)

  # A lone bright pixel tells the offset.
  n = 4000
  image = jnp.zeros((9, 9, 1), jnp.uint8).at[4, 4].set(1)
  cropped = np.asarray(jax.vmap(random_crop, (0, None))(keys(n), image))
  position = cropped.reshape(n, -1).argmax(1)
  counts = np.bincount(position, minlength=81)
  assert len(counts) == 81
  assert abs(counts - n / 81).max() < 5 * np.sqrt(n / 81)

  image = jnp.zeros((65, 65, 1), jnp.uint8).at[32, 64].set(1)
  rotated = np.asarray(
    jax.vmap(lambda k: random_rotate(k, image, 15.0))(keys(500))
  )
  row, column = np.nonzero(rotated.any(0))[:2]
  angle = np.degrees(np.arctan2(32 - row, column - 32))
  assert 13 < angle.max() < 16.5
  assert -16.5 < angle.min() < -13


def test_wrong_rank_names_the_batch_function():
  with pytest.raises(ValueError, match=r'call jax.vmap\(rotate_image\)'):
    rotate_image(jnp.zeros((2, 4, 4, 3)), 3.0)
  with pytest.raises(ValueError, match=r'call jax.vmap\(affine_image\)'):
    affine_image(jnp.zeros((4, 4, 3)), jnp.zeros((2, 2, 3)))
  with pytest.raises(ValueError, match="'cubic'; choose from nearest, bil"):
    affine_image(jnp.zeros((4, 4, 3)), jnp.zeros((2, 3)), interpolation='cubic')
