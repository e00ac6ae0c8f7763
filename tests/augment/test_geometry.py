"""Flip, crop and rotate against torchvision's outputs, and their draws."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollify_jax.augment import AugmentSpec, augment_image, augment_images
from mollify_jax.augment.geometry import (
  crop_image,
  flip_image,
  random_crop,
  random_flip,
  random_rotate,
  rotate_image,
)

GOLDEN = Path(__file__).parents[1] / 'golden' / 'augment_geometry.npz'


@pytest.fixture(scope='module')
def golden():
  return dict(np.load(GOLDEN, allow_pickle=False))


def keys(count, seed=0):
  return jax.random.split(jax.random.key(seed), count)


def test_flip_crop_rotate_equal_torchvision(golden):
  images = golden['images'][golden['image']]
  angle = golden['angle'].astype(np.float32)
  cropped = jax.vmap(crop_image)(images, golden['top'], golden['left'])
  np.testing.assert_array_equal(cropped, golden['crop_only_out'])
  rotated = jax.vmap(rotate_image)(images, angle)
  np.testing.assert_array_equal(rotated, golden['rotate_only_out'])

  @jax.jit
  @jax.vmap
  def flip_crop_rotate(image, flip, top, left, degrees):
    return rotate_image(crop_image(flip_image(image, flip), top, left), degrees)

  out = flip_crop_rotate(
    images, golden['flip'], golden['top'], golden['left'], angle
  )
  np.testing.assert_array_equal(out, golden['out'])


@pytest.mark.parametrize('size', ['24x40', '28x28x1'])
def test_rotation_of_other_sizes(golden, size):
  images = golden[f'rotate_{size}_images']
  for magnitude, out, tie in zip(
    golden[f'rotate_{size}_magnitude'],
    golden[f'rotate_{size}_out'].swapaxes(0, 1),
    golden[f'rotate_{size}_tie'],
    strict=True,
  ):
    ours = jax.vmap(rotate_image, (0, None))(images, np.float32(magnitude))
    # At a tie float32 rounding decides, and devices differ.
    wrong = (np.asarray(ours) != out).any((0, 3)) & ~tie
    assert not wrong.any()


@pytest.mark.parametrize('shape', [(1, 1, 1), (5, 8, 3), (7, 3, 2)])
def test_neutral_parameters_are_the_identity(shape):
  image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
  np.testing.assert_array_equal(flip_image(image, False), image)
  np.testing.assert_array_equal(flip_image(image, True), image[:, ::-1])
  np.testing.assert_array_equal(crop_image(image, 2, 2, 2), image)
  np.testing.assert_array_equal(rotate_image(image, 0.0), image)
  np.testing.assert_array_equal(rotate_image(image, 180.0), image[::-1, ::-1])
  assert rotate_image(image, 30.0).dtype == np.uint8


def test_batch_equals_loop_and_ignores_neighbours():
  images = np.random.default_rng(1).integers(0, 256, (6, 9, 7, 3), np.uint8)
  spec = AugmentSpec(crop_padding=2)
  batch = jax.jit(augment_images, static_argnums=2)(keys(6), images, spec)
  assert batch.dtype == np.uint8
  for i in range(6):
    np.testing.assert_array_equal(
      batch[i], augment_image(keys(6)[i], images[i], spec)
    )
  np.testing.assert_array_equal(
    batch[3:5], augment_images(keys(6)[3:5], images[3:5], spec)
  )
  assert (np.asarray(batch) != images).any((1, 2, 3)).sum() >= 4


def test_draws_have_the_stated_distributions():
  n = 4000
  image = jnp.arange(2, dtype=jnp.uint8).reshape(1, 2, 1)
  flipped = jax.vmap(random_flip, (0, None))(keys(n), image)[:, 0, 0, 0]
  assert abs(np.mean(flipped) - 0.5) < 5 * 0.5 / np.sqrt(n)

  # A lone bright pixel tells the offset.
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


def test_no_steps_is_the_identity():
  image = jnp.ones((4, 4, 1), jnp.uint8)
  spec = AugmentSpec(steps=())
  np.testing.assert_array_equal(
    augment_image(jax.random.key(0), image, spec), image
  )


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'steps': ('flip', 'spin')}, "'spin'; choose from flip, crop, rotate"),
    ({'crop_padding': -1}, 'crop_padding must be >= 0, got -1'),
    ({'rotate_degrees': 200.0}, r'rotate_degrees must be in \[0, 180\]'),
  ],
)
def test_bad_specs_are_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    AugmentSpec(**fields)


def test_wrong_rank_names_the_batch_function():
  with pytest.raises(ValueError, match='call augment_images'):
    augment_image(jax.random.key(0), jnp.zeros((2, 4, 4, 3)), AugmentSpec())
  with pytest.raises(ValueError, match=r'call jax.vmap\(rotate_image\)'):
    rotate_image(jnp.zeros((2, 4, 4, 3)), 3.0)
