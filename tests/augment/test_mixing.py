"""MixUp and CutMix: torchvision's outputs, draws, partners, invariances."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollify_jax.augment.mixing import (
  cut_example,
  cutmix,
  cutmix_box,
  draw_cutmix_box,
  draw_lambda,
  mix_example,
  mixup,
)

# The deterministic kernel of each batch function, and what it draws.
KERNELS = {
  mixup: (mix_example, lambda key: draw_lambda(key, 1.0)),
  cutmix: (cut_example, lambda key: draw_cutmix_box(key, 1.0, 6, 5)),
}
JITTED = {mix: jax.jit(mix) for mix in KERNELS}
both = pytest.mark.parametrize('mix', KERNELS)


def make_batch(size, shape=(6, 5, 2), classes=4, seed=0):
  keys = jax.random.split(jax.random.key(seed), size)
  rng = np.random.default_rng(seed)
  images = jnp.asarray(rng.normal(size=(size, *shape)), jnp.float32)
  labels = jnp.asarray(rng.dirichlet(np.ones(classes), size), jnp.float32)
  return keys, images, labels


def assert_close(ours, theirs, atol=1e-6):
  for one, two in zip(ours, theirs, strict=True):
    one, two = np.asarray(one, np.float32), np.asarray(two, np.float32)
    np.testing.assert_allclose(one, two, atol=atol, rtol=0)


@pytest.fixture(scope='module')
def golden():
  # The first two examples only, in mixup__out; otherwise as recorded.
  path = Path(__file__).parents[1] / 'golden' / 'augment' / 'mixing.npz'
  return dict(np.load(path, allow_pickle=False))


@pytest.mark.parametrize('kind', ['labels', 'soft_labels'])
def test_mixup_equals_torchvision(golden, kind):
  images = golden['images'].astype(np.float32) / np.float32(255)
  labels = golden[kind]
  if kind == 'labels':
    labels = np.eye(10, dtype=np.float32)[labels]
  for lam, image, label in zip(
    golden['mixup__lam'],
    golden['mixup__out'],
    golden[f'mixup__{kind}_out'],
    strict=True,
  ):
    ours = jax.vmap(mix_example, (0, 0, 0, 0, None))(
      images, np.roll(images, 1, 0), labels, np.roll(labels, 1, 0), lam
    )
    assert_close((ours[0][:2], ours[1]), (image, label))


@pytest.mark.parametrize('kind', ['labels', 'soft_labels'])
def test_cutmix_equals_torchvision(golden, kind):
  images, labels = golden['images'], golden[kind]
  if kind == 'labels':
    labels = np.eye(10, dtype=np.float32)[labels]
  for i, (lam, (x, y)) in enumerate(
    zip(golden['cutmix__lam_drawn'], golden['cutmix__centre_xy'], strict=True)
  ):
    box = cutmix_box(lam, y, x, 32, 32)
    left, top, right, bottom = golden['cutmix__box_x1y1x2y2'][i]
    np.testing.assert_array_equal(box, [top, left, bottom, right])
    image, label = jax.vmap(cut_example, (0, 0, 0, 0, None))(
      images, np.roll(images, 1, 0), labels, np.roll(labels, 1, 0), box
    )
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, golden['cutmix__out'][i])
    assert_close([label], [golden[f'cutmix__{kind}_out'][i]])


def test_cutmix_boxes_equal_torchvision(golden):
  recorded = golden['cutmix_boxes']
  height, width, lam, x, y, left, top, right, bottom, weight = recorded.T
  boxes = jax.jit(jax.vmap(cutmix_box))(
    lam.astype(np.float32), *(a.astype(np.int32) for a in (y, x, height, width))
  )
  np.testing.assert_array_equal(
    boxes, np.stack([top, left, bottom, right], axis=1)
  )
  assert len({*zip(height, width, strict=True)}) >= 3
  # The weight of the own label, read off a label that is all the example's.
  boxes = np.asarray(boxes)
  weigh = jax.jit(jax.vmap(cut_example, (None, None, None, None, 0)))
  for size in ((32, 32), (24, 40)):
    same = (height == size[0]) & (width == size[1])
    image, own, other = np.zeros((*size, 1)), np.array([1.0]), np.array([0.0])
    _, label = weigh(image, image, own, other, boxes[same])
    assert_close(label.T, [weight[same]])


@both
def test_batch_equals_loop(mix):
  kernel, draw = (jax.jit(function) for function in KERNELS[mix])
  keys, images, labels = make_batch(4)
  for key in (keys, keys[0]):
    batch = JITTED[mix](key, images, labels)
    for i in range(4):
      drawn = draw(key[i] if key.ndim else key)
      one = kernel(images[i], images[i - 1], labels[i], labels[i - 1], drawn)
      assert_close((batch[0][i], batch[1][i]), one)
    assert_close(batch, JITTED[mix](key, images, labels), atol=0)
    np.testing.assert_allclose(batch[1].sum(1), 1, atol=1e-6)
  assert_close(batch, mix(key, images, labels))  # eager = jit


def test_alpha_reaches_the_draw():
  keys, images, labels = make_batch(3)
  mixed = mixup(keys[0], images, labels, alpha=0.4)
  lam = draw_lambda(keys[0], 0.4)
  assert_close(mixed[:1], [lam * images + (1 - lam) * jnp.roll(images, 1, 0)])
  mixed = cutmix(keys[0], images, labels, alpha=0.4)
  top, left, bottom, right = draw_cutmix_box(keys[0], 0.4, 6, 5)
  changed = np.zeros(images.shape, bool)
  changed[:, top:bottom, left:right] = True
  np.testing.assert_array_equal(mixed[0] != images, changed)


@both
def test_the_partner_is_the_example_before(mix):
  keys, images, _ = make_batch(4)
  value = np.arange(1, 5, dtype=np.float32)
  images = np.broadcast_to(value[:, None, None, None], images.shape)
  for key in (keys, keys[1]):
    mixed, labels = map(np.asarray, JITTED[mix](key, images, np.eye(4)))
    for i in range(4):
      assert set(np.flatnonzero(labels[i])) <= {i, (i - 1) % 4}
    # A label says how much of which image is there, on average.
    np.testing.assert_allclose(mixed.mean((1, 2, 3)), labels @ value, atol=1e-5)
    own = np.diag(labels).round(6)
    assert (len(np.unique(own)) == 1) == (key.ndim == 0)


@both
def test_an_example_sees_its_key_and_partner_only(mix):
  keys, images, labels = make_batch(4)
  whole = JITTED[mix](keys, images, labels)
  changed = JITTED[mix](
    keys.at[0].set(jax.random.key(9)),
    images.at[0].add(1.0).at[3].set(0.0),
    labels.at[0].set(0.25),
  )
  for one, two in zip(changed, whole, strict=True):
    np.testing.assert_array_equal(one[2], two[2])
    assert (one[1] != two[1]).any()  # its partner has changed


@both
def test_parts_with_their_partners_equal_the_whole(mix):
  """Two devices of two give what one device of four gives."""
  keys, images, labels = make_batch(4)
  before = jnp.roll(images, 1, 0), jnp.roll(labels, 1, 0)
  for key in (keys, keys[0]):
    whole = JITTED[mix](key, images, labels)
    for part in (slice(0, 2), slice(2, 4)):
      mixed = JITTED[mix](
        key[part] if key.ndim else key,
        images[part],
        labels[part],
        partners=(before[0][part], before[1][part]),
      )
      assert_close(mixed, (whole[0][part], whole[1][part]))


@both
def test_the_limits(mix):
  _, images, _ = make_batch(2)
  labels = jnp.eye(2)
  kernel = jax.jit(KERNELS[mix][0])
  own, other = (images[0], labels[0]), (images[1], labels[1])
  args = images[0], images[1], labels[0], labels[1]
  limits = {  # parameter: what must come out
    mixup: [(1.0, own), (0.0, other)],
    cutmix: [
      ((0, 0, 0, 0), own),
      ((2, 3, 2, 5), own),
      ((4, 3, 2, 5), own),
      ((7, -3, 9, -1), own),
      ((0, 0, 6, 5), other),
      ((-3, -1, 9, 7), other),
    ],
  }
  for parameter, expected in limits[mix]:
    mixed = kernel(*args, jnp.array(parameter))
    np.testing.assert_array_equal(mixed[0], expected[0])
    np.testing.assert_allclose(mixed[1], expected[1], atol=1e-7)
    assert (mixed[1] >= 0).all()


def test_a_box_beyond_the_edge_counts_what_is_inside():
  image, label = np.zeros((4, 8, 1)), np.array([1.0, 0.0])
  box = np.array([-2, 6, 3, 11])
  mixed, mixed_label = cut_example(image, image + 1, label, label[::-1], box)
  assert mixed.sum() == 6
  assert mixed[:3, 6:].all()
  np.testing.assert_allclose(mixed_label, [1 - 6 / 32, 6 / 32])


@both
def test_dtypes_stay_and_arithmetic_is_float32(mix):
  keys, images, labels = make_batch(4)
  images, labels = images.astype('bfloat16'), labels.astype('bfloat16')
  mixed = JITTED[mix](keys, images, labels)
  exact = JITTED[mix](keys, images.astype('float32'), labels.astype('float32'))
  for one, two in zip(mixed, exact, strict=True):
    assert one.dtype == jnp.bfloat16
    np.testing.assert_array_equal(one, two.astype('bfloat16'))


@pytest.mark.parametrize('dtype', ['uint8', 'int16'])
def test_cutmix_takes_integers(dtype):
  keys, images, labels = make_batch(4)
  images = np.asarray(50 * images).astype(dtype)
  mixed, _ = JITTED[cutmix](keys, images, labels)
  assert mixed.dtype == dtype
  assert ((mixed == images) | (mixed == np.roll(images, 1, 0))).all()


@both
def test_x64_mode_changes_nothing(mix):
  keys, images, labels = make_batch(4)
  plain = JITTED[mix](keys, images, labels)
  with jax.enable_x64(True):
    wide = JITTED[mix](keys, images, np.asarray(labels, np.float64))
  np.testing.assert_array_equal(wide[0], plain[0])
  assert wide[1].dtype == np.float64
  np.testing.assert_array_equal(wide[1].astype(np.float32), plain[1])


@pytest.mark.parametrize('alpha', [1.0, 0.4, 2.5])
def test_lambda_follows_its_beta_distribution(alpha):
  n = 20_000
  keys = jax.random.split(jax.random.key(5), n)
  lam = np.asarray(jax.vmap(lambda k: draw_lambda(k, alpha))(keys), np.float64)
  assert lam.min() >= 0
  assert lam.max() <= 1
  variance = 1 / (4 * (2 * alpha + 1))
  fourth = variance**2 * (3 - 6 / (2 * alpha + 3))
  assert abs(lam.mean() - 0.5) < 5 * np.sqrt(variance / n)
  spread = ((lam - 0.5) ** 2).mean()
  assert abs(spread - variance) < 5 * np.sqrt((fourth - variance**2) / n)


def test_the_uniform_lambda_is_the_beta_of_one():
  """The closed form and the sampler behind it agree in distribution."""
  n = 20_000
  keys = jax.random.split(jax.random.key(6), n)
  levels = np.linspace(0.05, 0.95, 10)
  for alpha in (1, 1 + 1e-6):
    lam = np.asarray(jax.vmap(lambda k, a=alpha: draw_lambda(k, a))(keys))
    below = (lam[:, None] <= levels).mean(0)
    assert (abs(below - levels) < 5 * np.sqrt(levels * (1 - levels) / n)).all()


def test_boxes_have_the_distribution_of_a_simulation():
  n, alpha, height, width = 10_000, 1.0, 9, 20
  draw = jax.jit(jax.vmap(lambda k: draw_cutmix_box(k, alpha, height, width)))
  boxes = draw(jax.random.split(jax.random.key(8), n))

  rng = np.random.default_rng(8)
  size = np.array([height, width])
  lam = rng.beta(alpha, alpha, (10 * n, 1))
  center = rng.integers(0, size, (10 * n, 2))
  half = (0.5 * np.sqrt(1 - lam) * size).astype(int)
  low, high = np.maximum(center - half, 0), np.minimum(center + half, size)
  simulated = np.concatenate([low, high], axis=1)

  ours, theirs = moments(boxes), moments(simulated)
  error = np.sqrt(ours.var(0) / len(ours) + theirs.var(0) / len(theirs))
  assert (abs(ours.mean(0) - theirs.mean(0)) < 5 * error).all()


def moments(boxes):
  """First and second moments of [n, 4] boxes, one column each."""
  boxes = np.asarray(boxes, np.float64)
  products = boxes[:, :, None] * boxes[:, None]
  return np.concatenate([boxes, products.reshape(len(boxes), -1)], axis=1)


@both
@pytest.mark.parametrize('alpha', [0, -1.0, float('inf'), float('nan')])
def test_bad_alphas_are_refused(mix, alpha):
  keys, images, labels = make_batch(2)
  with pytest.raises(ValueError, match=f'finite and > 0, got {alpha!r}'):
    mix(keys, images, labels, alpha=alpha)
  with pytest.raises(TypeError, match="alpha must be a number, got '1'"):
    mix(keys, images, labels, alpha='1')


@both
def test_wrong_batches_are_named(mix):
  keys, images, labels = make_batch(4)
  name, one = mix.__name__, KERNELS[mix][0].__name__
  with pytest.raises(ValueError, match=rf'{name} takes .*{one}'):
    mix(keys[0], images[0], labels)
  with pytest.raises(ValueError, match=rf'{name} takes labels \[B, K\].*{one}'):
    mix(keys[0], images, labels[0])
  with pytest.raises(ValueError, match=rf'{name} needs one image and label'):
    mix(keys[:3], images, labels)
  with pytest.raises(ValueError, match=rf'{name} needs one image and label'):
    mix(keys[0], images, labels[:3])
  with pytest.raises(ValueError, match=rf'{name} needs one image and label'):
    mix(keys[:, None], images, labels)
  with pytest.raises(ValueError, match=r'empty image: shape \(4, 6, 0, 2\)'):
    mix(keys, images[:, :, :0], labels)
  with pytest.raises(TypeError, match=rf'{name} takes jax.random.key\(seed\)'):
    mix(jnp.zeros(2, jnp.uint32), images, labels)
  with pytest.raises(TypeError, match=r"dtype 'int32'.*jax.nn.one_hot"):
    mix(keys, images, labels.astype(jnp.int32))


@both
def test_wrong_partners_are_named(mix):
  keys, images, labels = make_batch(4)
  with pytest.raises(ValueError, match=r'partner image of the same shape'):
    mix(keys, images, labels, partners=(images[:2], labels))
  with pytest.raises(ValueError, match=r'partner label of the same shape'):
    mix(keys, images, labels, partners=(images, labels[:, :2]))
  with pytest.raises(TypeError, match=r"same dtype 'float32', got 'float16'"):
    mix(keys, images, labels, partners=(images.astype('float16'), labels))
  with pytest.raises(ValueError, match=r'partners=\(images, labels\), got'):
    mix(keys, images, labels, partners=images)


def test_wrong_examples_are_named():
  _, images, labels = make_batch(4)
  pair = labels[0], labels[1]
  with pytest.raises(ValueError, match=r'one image \[H, W, C\].*call mixup'):
    mix_example(images, images, *pair, 0.5)
  with pytest.raises(ValueError, match=r'one image \[H, W, C\].*call cutmix'):
    cut_example(images, images, *pair, np.zeros(4, np.int32))
  with pytest.raises(ValueError, match='one scalar lam per example'):
    mix_example(images[0], images[1], *pair, jnp.ones(4))
  with pytest.raises(ValueError, match=r'four integers \[4\].*\(3,\)'):
    cut_example(images[0], images[1], *pair, np.zeros(3, np.int32))
  with pytest.raises(TypeError, match="whole pixels, got dtype 'float32'"):
    cut_example(images[0], images[1], *pair, np.zeros(4, np.float32))
  with pytest.raises(ValueError, match='one scalar center_row'):
    cutmix_box(0.5, np.arange(3), 1, 4, 4)
  pixels = images.astype(jnp.uint8)
  with pytest.raises(
    TypeError, match=r"mix_example takes .* got dtype 'uint8'"
  ):
    mix_example(pixels[0], pixels[1], *pair, 0.5)
  with pytest.raises(TypeError, match=r"mixup takes floating.* dtype 'uint8'"):
    mixup(jax.random.key(0), pixels, labels)


@both
@pytest.mark.parametrize('per_example', [False, True])
def test_a_batch_of_as_many_as_classes_is_a_loop(mix, per_example):
  """A weight per example must not fall on the classes of the label."""
  keys, images, labels = make_batch(5, classes=5)
  keys = keys if per_example else keys[0]
  out_images, out_labels = JITTED[mix](keys, images, labels)
  kernel, draw = KERNELS[mix]
  drawn = [draw(keys[i] if per_example else keys) for i in range(5)]
  assert len({str(value) for value in drawn}) == (5 if per_example else 1)
  for i in range(5):
    image, label = kernel(
      images[i], images[i - 1], labels[i], labels[i - 1], drawn[i]
    )
    assert_close((out_images[i], out_labels[i]), (image, label))
  np.testing.assert_allclose(out_labels.sum(axis=1), 1, atol=1e-6)
