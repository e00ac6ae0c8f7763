"""Random erasing: what is painted over, and how the boxes are drawn."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollify_jax.augment.erasing import draw_box, erase_image, random_erase

erase = jax.jit(erase_image)
random = jax.jit(
  random_erase, static_argnames=('probability', 'scale', 'ratio')
)


def random_image(shape, seed=0):
  # No zeros: whatever is 0 afterwards has been erased.
  return np.random.default_rng(seed).integers(1, 256, shape).astype(np.uint8)


def draw_many(n, height, width, **options):
  draw = jax.jit(jax.vmap(lambda key: draw_box(key, height, width, **options)))
  return np.asarray(draw(jax.random.split(jax.random.key(4), n)), np.int64)


def simulate(rng, height, width, scale=(0.02, 0.33), ratio=(0.3, 3.3)):
  """torchvision's loop; an empty box where it leaves the image alone."""
  for _ in range(10):
    area = height * width * rng.uniform(*scale)
    aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
    h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    if h < height and w < width:
      return rng.integers(height - h + 1), rng.integers(width - w + 1), h, w
  return 0, 0, 0, 0


def moments(boxes):
  """First and second moments of [n, 4] boxes, and how many are empty."""
  boxes = np.asarray(boxes, np.float64)
  products = boxes[:, :, None] * boxes[:, None]
  empty = (boxes[:, 2:] == 0).any(1, keepdims=True)
  return np.concatenate(
    [boxes, products.reshape(len(boxes), -1), empty], axis=1
  )


@pytest.mark.parametrize('box', [(2, 1, 3, 4), (0, 0, 6, 9), (5, 8, 1, 1)])
@pytest.mark.parametrize('dtype', ['uint8', 'float32', 'bfloat16'])
def test_the_box_and_nothing_else_is_painted(box, dtype):
  image = jnp.asarray(random_image((6, 9, 3))).astype(dtype)
  out = erase(image, np.array(box), 7)
  top, left, height, width = box
  expected = np.array(image)
  expected[top : top + height, left : left + width] = 7
  np.testing.assert_array_equal(out, expected)
  assert out.dtype == dtype
  np.testing.assert_array_equal(erase_image(image, np.array(box), 7), expected)


def test_a_value_per_channel():
  image = random_image((4, 4, 3))
  out = erase(image, np.array([0, 1, 2, 2]), np.array([10, 20, 30]))
  np.testing.assert_array_equal(out[1, 2], [10, 20, 30])
  np.testing.assert_array_equal(out[2:], image[2:])


@pytest.mark.parametrize(
  'box', [(0, 0, 0, 0), (2, 3, 0, 2), (2, 3, 2, -1), (6, 0, 3, 3)]
)
def test_empty_boxes_change_nothing(box):
  image = random_image((6, 9, 3))
  np.testing.assert_array_equal(erase(image, np.array(box)), image)


def test_a_box_beyond_the_edge_is_cut_off():
  out = erase(random_image((6, 9, 3)), np.array([4, -1, 5, 3]))
  assert not out[4:, :2].any()
  assert np.count_nonzero(out) == 6 * 9 * 3 - 12


@pytest.mark.parametrize(
  ('height', 'width', 'options'),
  [(32, 24, {}), (12, 40, {'scale': (0.2, 0.9), 'ratio': (0.5, 5.0)})],
)
def test_boxes_have_the_distribution_of_a_simulation(height, width, options):
  boxes = draw_many(20_000, height, width, **options)
  top, left, box_height, box_width = boxes.T
  assert (boxes >= 0).all()
  assert (box_height < height).all()
  assert (box_width < width).all()
  # Every corner is reached.
  assert (top + box_height).max() == height
  assert (left + box_width).max() == width

  rng = np.random.default_rng(4)
  loop = [simulate(rng, height, width, **options) for _ in range(20_000)]
  ours, theirs = moments(boxes), moments(loop)
  error = np.sqrt(ours.var(0) / len(ours) + theirs.var(0) / len(theirs))
  assert (abs(ours.mean(0) - theirs.mean(0)) <= 5 * error).all()


def test_nothing_is_erased_where_nothing_fits():
  """A box as high as the image is refused, so a strip stays as it is."""
  boxes = draw_many(200, 1, 40)
  assert (boxes[:, 2] == 0).all()
  assert (boxes == 0).all(1).any()  # ten tries failed


def test_one_pixel_is_left_alone():
  image = random_image((1, 1, 3))
  for seed in range(5):
    np.testing.assert_array_equal(
      random(jax.random.key(seed), image, probability=1.0), image
    )


def test_batch_equals_loop():
  images = random_image((4, 8, 9, 3))
  keys = jax.random.split(jax.random.key(1), 4)
  batch = jax.jit(jax.vmap(lambda k, i: random_erase(k, i, probability=1.0)))(
    keys, images
  )
  assert batch.dtype == np.uint8
  draw = jax.jit(draw_box, static_argnums=(1, 2))
  for key, image, out in zip(keys, images, batch, strict=True):
    np.testing.assert_array_equal(out, random(key, image, probability=1.0))
    np.testing.assert_array_equal(out, erase(image, draw(key, 8, 9)))
    assert (out != image).any()


@pytest.mark.parametrize('options', [{}, {'probability': 0.2}])
def test_the_share_that_is_erased(options):
  n, probability = 4000, options.get('probability', 0.5)
  image = np.ones((16, 16, 1), np.uint8)
  keys = jax.random.split(jax.random.key(6), n)
  out = jax.jit(jax.vmap(lambda k: random_erase(k, image, **options)))(keys)
  share = (np.asarray(out) == 0).any((1, 2, 3)).mean()
  error = math.sqrt(probability * (1 - probability) / n)
  assert abs(share - probability) <= 5 * error


def test_x64_mode_changes_nothing():
  image, key = random_image((8, 9, 3)), jax.random.key(2)
  plain = random(key, image, probability=1.0)
  with jax.enable_x64(True):
    wide = random(key, image, probability=1.0)
  assert (plain != image).any()
  np.testing.assert_array_equal(wide, plain)


def test_bad_parameters_are_refused():
  key, image = jax.random.key(0), random_image((8, 8, 3))
  for probability in (-0.1, 1.1, math.nan):
    with pytest.raises(ValueError, match=rf'in \[0, 1\], got {probability!r}'):
      random_erase(key, image, probability=probability)
  with pytest.raises(TypeError, match="probability must be a number, got '1'"):
    random_erase(key, image, probability='1')
  with pytest.raises(ValueError, match=r'scale .* <= 1.0, got \(0.1, 2.0\)'):
    random_erase(key, image, scale=(0.1, 2.0))
  with pytest.raises(ValueError, match=r'ratio must .* got \(3.3, 0.3\)'):
    random_erase(key, image, ratio=(3.3, 0.3))


def test_wrong_arguments_are_named():
  image, box = random_image((6, 6, 3)), np.array([0, 0, 3, 3])
  with pytest.raises(ValueError, match=r'call jax.vmap\(erase_image\)'):
    erase_image(image[None], box)
  with pytest.raises(ValueError, match=r'call jax.vmap\(random_erase\)'):
    random_erase(jax.random.key(0), image[None])
  with pytest.raises(ValueError, match=r'without pixels: \(0, 6, 3\)'):
    erase_image(image[:0], box)
  with pytest.raises(ValueError, match=r'four integers \[4\], got shape'):
    erase_image(image, box[None])
  with pytest.raises(TypeError, match="got dtype 'float32'; round it first"):
    erase_image(image, box.astype(np.float32))
  with pytest.raises(ValueError, match=r'one per channel, \[3\], got .*\(2,\)'):
    erase_image(image, box, np.zeros(2))
  with pytest.raises(TypeError, match=r'value=0.5 for an image of uint8; give'):
    erase_image(image, box, 0.5)
