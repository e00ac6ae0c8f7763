"""Random resized crop: torchvision's outputs, an oracle, and the draws."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollify_jax.augment.resized_crop import (
  central_box,
  draw_box,
  random_resized_crop,
  resized_crop_image,
)

GOLDEN = Path(__file__).parents[1] / 'golden' / 'augment' / 'resized_crop.npz'


@pytest.fixture(scope='module')
def golden():
  return dict(np.load(GOLDEN, allow_pickle=False))


crop = jax.jit(resized_crop_image, static_argnums=(2, 3))
random_crop = jax.jit(random_resized_crop)


def crop_to(height, width):
  """Crops a batch: images [B, H, W, C], boxes [B, 4]."""
  return jax.vmap(lambda image, box: crop(image, box, height, width))


def random_image(shape, seed=0):
  # Black and white as well as grey, so that rounding is put to the test.
  image = np.random.default_rng(seed).integers(-100, 356, shape)
  return image.clip(0, 255).astype(np.uint8)


def oracle_weights(box_side, out_side):
  """A triangle filter in float64, [out_side, box_side]."""
  step = box_side / out_side
  width = max(1.0, step)
  source = np.arange(box_side) + 0.5
  target = step * (np.arange(out_side)[:, None] + 0.5)
  weights = np.maximum(0, 1 - abs(source - target) / width)
  return weights / weights.sum(1, keepdims=True)


def oracle(image, box, height, width):
  """float64 for floats; int64 with 15-bit weights for uint8."""
  top, left, box_height, box_width = box
  out = image[top : top + box_height, left : left + box_width]
  for axis, sides in ((1, (box_width, width)), (0, (box_height, height))):
    weights = oracle_weights(*sides)
    if image.dtype == np.uint8:
      bits = 0
      while bits < 22 and int(0.5 + weights.max() * 2 ** (bits + 1)) < 2**15:
        bits += 1
      weights = np.floor(weights * 2**bits + 0.5).astype(np.int64)
    out = np.moveaxis(np.tensordot(weights, out, (1, axis)), 0, axis)
    if image.dtype == np.uint8:
      out = ((out + 2 ** (bits - 1)) >> bits).clip(0, 255)
  return out


@pytest.mark.parametrize('tag', ['32to32', '64to32'])
def test_equals_torchvision(golden, tag):
  images = golden[f'images_{tag[:2]}'][golden[f'{tag}_image']]
  boxes = golden[f'{tag}_box']
  out = crop_to(32, 32)(images, boxes)
  assert out.dtype == np.uint8
  np.testing.assert_array_equal(out, golden[f'{tag}_out'])
  # The float results are those of case 2 only.
  one = slice(2, 3)
  out = crop_to(32, 32)(images[one].astype(np.float32), boxes[one])
  np.testing.assert_allclose(out, golden[f'{tag}_out_float'], atol=1e-4)


@pytest.mark.parametrize(
  ('shape', 'height', 'width'),
  [
    ((24, 40, 1), 24, 40),
    ((9, 5, 4), 17, 3),
    ((40, 300, 2), 8, 7),  # many to one: more than 16 bits a weight
    ((1, 30, 3), 1, 30),
  ],
)
def test_equals_the_oracle(shape, height, width):
  rng = np.random.default_rng(1)
  size = np.array(shape[:2])
  sides = rng.integers(1, size + 1, (20, 2))
  sides[0] = size
  boxes = np.concatenate([rng.integers(0, size - sides + 1), sides], axis=1)
  images = random_image((20, *shape))
  out = crop_to(height, width)(images, boxes)
  expected = [
    oracle(i, b, height, width) for i, b in zip(images, boxes, strict=True)
  ]
  np.testing.assert_array_equal(out, expected)

  floats = images / np.float32(255) - np.float32(0.5)
  out = crop_to(height, width)(floats, boxes)
  expected = [
    oracle(i.astype(np.float64), b, height, width)
    for i, b in zip(floats, boxes, strict=True)
  ]
  np.testing.assert_allclose(out, expected, atol=1e-6)


@pytest.mark.parametrize(
  ('width', 'out_width'),
  [
    (239, 96),  # float32 alone rounds two of the weights to the wrong side
    (300, 7),  # sums pass 2^24
  ],
)
def test_integers_are_exact_where_float32_is_not(width, out_width):
  image = random_image((1, width, 10_000))
  box = np.array([0, 0, 1, width])
  np.testing.assert_array_equal(
    crop(image, box, 1, out_width), oracle(image, box, 1, out_width)
  )


@pytest.mark.parametrize('dtype', ['uint8', 'float32', 'bfloat16'])
def test_a_box_of_the_size_of_the_output_is_returned(dtype):
  image = jnp.asarray(random_image((9, 14, 3))).astype(dtype)
  whole = crop(image, np.array([0, 0, 9, 14]))
  np.testing.assert_array_equal(whole, image)
  assert whole.dtype == dtype
  part = crop(image, np.array([2, 5, 4, 8]), 4, 8)
  np.testing.assert_array_equal(part, image[2:6, 5:13])


def test_what_is_outside_the_box_does_not_count():
  image = random_image((12, 10, 1))
  box = np.array([3, 2, 5, 6])
  other = 255 - image
  other[3:8, 2:8] = image[3:8, 2:8]
  np.testing.assert_array_equal(crop(image, box), crop(other, box))
  assert (image != other).any()


def test_one_pixel_fills_the_image():
  image = random_image((6, 7, 3))
  out = crop(image, np.array([4, 1, 1, 1]))
  np.testing.assert_array_equal(out, np.broadcast_to(image[4, 1], (6, 7, 3)))
  single = np.full((1, 1, 3), 200, np.uint8)
  out = crop(single, np.array([0, 0, 1, 1]))
  np.testing.assert_array_equal(out, single)


def test_eager_equals_jit():
  image, box = random_image((7, 8, 3)), np.array([1, 2, 5, 4])
  np.testing.assert_array_equal(
    resized_crop_image(image, box), crop(image, box)
  )


def test_batch_equals_loop():
  images = random_image((3, 7, 8, 3))
  keys = jax.random.split(jax.random.key(2), 3)
  batch = jax.jit(jax.vmap(random_resized_crop))(keys, images)
  assert batch.dtype == np.uint8
  draw = jax.jit(draw_box, static_argnums=(1, 2))
  for key, image, out in zip(keys, images, batch, strict=True):
    np.testing.assert_array_equal(out, crop(image, draw(key, 7, 8)))
    assert (out != image).any()


def test_x64_mode_changes_nothing():
  image, key = random_image((7, 8, 3)), jax.random.key(3)
  plain = random_crop(key, image)
  box = np.array([1, 2, 5, 4])
  with jax.enable_x64(True):
    wide = random_crop(key, image)
    double = crop(image / 255, box)
  np.testing.assert_array_equal(wide, plain)
  assert double.dtype == np.float64
  np.testing.assert_allclose(double, oracle(image / 255, box, 7, 8), atol=1e-6)


def draw_many(n, height, width, **options):
  draw = jax.jit(jax.vmap(lambda key: draw_box(key, height, width, **options)))
  return np.asarray(draw(jax.random.split(jax.random.key(4), n)), np.int64)


def simulate(rng, height, width, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)):
  """torchvision's loop; None where it would fall back."""
  for _ in range(10):
    area = height * width * rng.uniform(*scale)
    aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
    w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    if 0 < w <= width and 0 < h <= height:
      return rng.integers(height - h + 1), rng.integers(width - w + 1), h, w
  return None


def moments(boxes):
  """Columns whose means must agree: the box, its shape, and products."""
  boxes = np.asarray(boxes, np.float64)
  products = boxes[:, :, None] * boxes[:, None]
  aspect = np.log(boxes[:, 3] / boxes[:, 2])[:, None]
  return np.concatenate(
    [boxes, products.reshape(len(boxes), -1), aspect, aspect**2], axis=1
  )


@pytest.mark.parametrize(
  ('height', 'width', 'options'),
  [
    (24, 40, {}),
    (40, 12, {'scale': (0.3, 0.6), 'ratio': (0.2, 0.9)}),
  ],
)
def test_boxes_have_the_distribution_of_a_simulation(height, width, options):
  boxes = draw_many(20_000, height, width, **options)
  top, left, box_height, box_width = boxes.T
  assert (boxes >= [0, 0, 1, 1]).all()
  assert (top + box_height <= height).all()
  assert (left + box_width <= width).all()
  # Every corner is reached.
  assert (top + box_height).max() == height
  assert (left + box_width).max() == width

  rng = np.random.default_rng(4)
  loop = [simulate(rng, height, width, **options) for _ in range(20_000)]
  loop = [box for box in loop if box is not None]
  assert len(loop) > 19_900
  ours, theirs = moments(boxes), moments(loop)
  error = np.sqrt(ours.var(0) / len(ours) + theirs.var(0) / len(theirs))
  assert (abs(ours.mean(0) - theirs.mean(0)) <= 5 * error).all()


@pytest.mark.parametrize(
  ('height', 'width', 'ratio', 'box'),
  [
    (10, 60, (3 / 4, 4 / 3), (0, 23, 10, 13)),  # wide: cut to 4 / 3
    (60, 10, (3 / 4, 4 / 3), (23, 0, 13, 10)),  # tall: cut to 3 / 4
    (30, 40, (3 / 4, 4 / 3), (0, 0, 30, 40)),  # allowed
    # torchvision's rule gives a box without pixels here.
    (40, 1, (3.0, 4.0), (19, 0, 1, 1)),
  ],
)
def test_central_boxes(height, width, ratio, box):
  assert central_box(height, width, ratio) == box


def test_the_fallback_comes_after_ten_tries():
  """On a strip few boxes fit: the share that falls back counts the tries."""
  boxes = draw_many(4000, 1, 40, scale=(0.001, 0.3))
  assert (boxes[:, 2:] >= 1).all()  # none that rounds to nothing
  fell_back = (boxes == (0, 19, 1, 1)).all(1)
  rng = np.random.default_rng(5)
  loop = [simulate(rng, 1, 40, scale=(0.001, 0.3)) for _ in range(4000)]
  share = np.mean([box is None or box == (0, 19, 1, 1) for box in loop])
  assert 0.1 < share < 0.95
  error = np.sqrt(share * (1 - share) * 2 / 4000)
  assert abs(fell_back.mean() - share) < 5 * error


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'scale': (0.0, 1.0)}, r'scale must be finite with 0 < low .* <= 1.0'),
    ({'scale': (0.5, 0.1)}, r'scale .* got \(0.5, 0.1\)'),
    ({'scale': (0.5, 1.5)}, r'scale .* got \(0.5, 1.5\)'),
    ({'ratio': (2.0, 0.5)}, r'ratio must .* 0 < low <= high, got \(2.0, 0.5\)'),
    ({'ratio': (-1.0, 0.5)}, r'ratio .* got \(-1.0, 0.5\)'),
    ({'ratio': (0.5, math.inf)}, r'ratio .* got \(0.5, inf\)'),
    ({'ratio': (math.nan, 1.0)}, r'ratio .* got \(nan, 1.0\)'),
  ],
)
def test_bad_ranges_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    draw_box(jax.random.key(0), 8, 8, **options)
  with pytest.raises(ValueError, match=message):
    random_resized_crop(jax.random.key(0), np.zeros((8, 8, 3)), **options)


@pytest.mark.parametrize('scale', [0.5, (0.5,), ('0.1', 1.0), (0.1, True)])
def test_ranges_of_other_types_are_refused(scale):
  with pytest.raises(TypeError, match=r'scale must be two numbers \(low, high'):
    draw_box(jax.random.key(0), 8, 8, scale=scale)


def test_wrong_arguments_are_named():
  image, box = random_image((6, 6, 3)), np.array([0, 0, 3, 3])
  with pytest.raises(ValueError, match=r'call jax.vmap\(resized_crop_image\)'):
    resized_crop_image(image[None], box)
  with pytest.raises(ValueError, match=r'call jax.vmap\(random_resized_crop\)'):
    random_resized_crop(jax.random.key(0), image[None])
  with pytest.raises(ValueError, match=r'without pixels: \(6, 0, 3\)'):
    resized_crop_image(image[:, :0], box)
  with pytest.raises(ValueError, match=r'four integers \[4\], got shape'):
    resized_crop_image(image, box[None])
  with pytest.raises(TypeError, match="got dtype 'float32'; round it first"):
    resized_crop_image(image, box.astype(np.float32))
  with pytest.raises(TypeError, match=r"uint8 or floating.* got dtype 'int32'"):
    resized_crop_image(image.astype(np.int32), box)
  with pytest.raises(ValueError, match=r'height of the output .* got 0'):
    resized_crop_image(image, box, 0, 4)
  with pytest.raises(ValueError, match=r'width of the output .* got 4\.0'):
    resized_crop_image(image, box, 4, 4.0)
