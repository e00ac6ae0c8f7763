"""Every kernel of floats, on the inputs where float arithmetic breaks.

Hypothesis draws what is between; the ends (t, gamma and lambda of exactly 0
and 1, equal and extreme logits) are part of every batch.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mollify_jax import (
  MollifySpec,
  Role,
  add_noise,
  augment,
  blur_image,
  degrade_example,
  example_keys,
  losses,
  metrics,
  mollify_batch,
  schedules,
  temper_label,
)
from mollify_jax.augment import mixing
from mollify_jax.kernels.labels import RULES
from mollify_jax.kernels.mollify import draw_temperature
from mollify_jax.kernels.pixels import normalize_images

SHAPES = [(1, 1, 1), (1, 7, 3), (4, 6, 2)]
DTYPES = ['float32', 'bfloat16', 'float16']
CLASSES = [2, 1000]
LARGE = 1e4  # float16 ends at 65504

# Where each shape with each dtype would only cost time.
paired = pytest.mark.parametrize(
  ('shape', 'dtype'), list(zip(SHAPES, DTYPES, strict=True))
)
few = settings(max_examples=20, deadline=None, derandomize=True)
many = settings(max_examples=60, deadline=None, derandomize=True)
seeds = st.integers(0, 2**31 - 1)
dtypes = st.sampled_from(DTYPES)
between = st.one_of(
  st.sampled_from([1e-30, 1e-7, 0.5 - 2**-25, 0.5, 1 - 2**-24]),
  st.floats(0, 1, width=32),
)
# Temperatures, softenings or shares of one batch: both ends, and two others.
shares = st.tuples(between, between).map(lambda two: np.float32([0, 1, *two]))
pixels = st.one_of(
  st.sampled_from([0.0, LARGE, -LARGE]), st.floats(-3, 3, width=16)
)
logit_values = st.one_of(
  st.sampled_from([0.0, LARGE, -LARGE]), st.floats(-LARGE, LARGE, width=32)
)


def images(shape):
  """One image: often all zeros, else mostly one value."""
  return st.one_of(
    st.just(np.zeros(shape, np.float32)),
    hnp.arrays(np.float32, shape, elements=pixels, fill=pixels),
  )


@st.composite
def some_logits(draw, size):
  """float32[4, K]: all equal, one class far above and below, anything."""
  row = hnp.arrays(np.float32, size, elements=logit_values, fill=logit_values)
  onehot = np.eye(size)[draw(st.integers(0, size - 1))]
  return np.float32(
    [
      np.full(size, draw(logit_values)),
      LARGE * (2 * onehot - 1),
      LARGE * (1 - 2 * onehot),
      draw(row),
    ]
  )


@st.composite
def some_labels(draw, size):
  """float32[5, K]: every kind of label that the rules make."""
  onehot = np.eye(size)[draw(st.integers(0, size - 1))]
  gamma = draw(between)
  return np.float32(
    [
      onehot,
      np.full(size, 1 / size),
      np.zeros(size),  # decay, at gamma 1
      (1 - gamma) * onehot + gamma / size,
      onehot + np.eye(size)[-1],  # extra, at gamma 1
    ]
  )


@functools.cache
def differentiated(function, *argnums):
  """Compiles (gradients of the sum of all outputs, outputs) for a batch."""

  def total(*arguments):
    out = jax.vmap(function)(*arguments)
    sums = [jnp.sum(leaf, dtype=jnp.float32) for leaf in jax.tree.leaves(out)]
    return sum(sums), out

  return jax.jit(jax.grad(total, argnums, has_aux=True))


def as_float64(array):
  return np.asarray(array).astype(np.float64)


def assert_finite(tree):
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    assert np.isfinite(as_float64(leaf)).all(), (path, leaf)


def assert_dtype(tree, dtype):
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    assert leaf.dtype == dtype, (path, leaf.dtype)


def assert_between(value, low, high, slack=0.0):
  value = as_float64(value)
  assert (value >= low - slack).all(), (value, low)
  assert (value <= high + slack).all(), (value, high)


def repeated(image, size, dtype):
  return jnp.tile(jnp.asarray(image, dtype), (size, 1, 1, 1))


def all_schedules(t):
  width = schedules.blur_width(t, 0.3, 32.0)
  return {
    'alpha': schedules.alpha(t),
    'sigma': schedules.sigma(t),
    'noise_half': schedules.noise_gamma(t, 0.5),
    'noise': schedules.noise_gamma(t),
    'noise_100': schedules.noise_gamma(t, 100.0),
    'blur': schedules.blur_gamma(t),
    'blur_100': schedules.blur_gamma(t, 100.0),
    'width': width,
    'time': schedules.dissipation_time(width),
  }


@many
@given(t=shares, dtype=dtypes)
def test_schedules(t, dtype):
  t = jnp.asarray(t, dtype)
  (gradient,), out = differentiated(all_schedules, 0)(t)
  assert_finite((gradient, out))
  assert_dtype(out, 'float32')
  width, time = out.pop('width'), out.pop('time')
  assert_between(width, 0.3, 32, slack=1e-5)
  assert_between(time, 0.045, 512, slack=1e-3)
  for name, value in out.items():
    assert_between(value, 0, 1)
    np.testing.assert_array_equal(value[:2], [name == 'alpha', name != 'alpha'])
  np.testing.assert_allclose(out['alpha'] ** 2 + out['sigma'] ** 2, 1, 4e-7)


@many
@given(t=shares)
def test_the_signal_to_noise_ratio_is_never_nan(t):
  """Infinite at t = 0, and so is its slope."""
  (slope,), value = differentiated(schedules.snr, 0)(t)
  assert_between(value, 0, np.inf)
  assert_between(slope, -np.inf, 0)
  assert value[0] == np.inf
  assert slope[0] == -np.inf
  assert value[1] == slope[1] == 0
  inside = t > 1e-9
  assert_finite((value[inside], slope[inside]))


@few
@given(minimum=st.floats(1e-30, 1e30), factor=st.floats(1, 1e30), t=shares)
def test_blur_widths_of_any_size(minimum, factor, t):
  maximum = min(minimum * factor, 1e30)
  minimum = min(minimum, maximum)
  width = schedules.blur_width(t, minimum, maximum)
  assert_finite(width)
  assert_between(width / minimum, 1 - 1e-4, np.inf)
  assert_between(width / maximum, 0, 1 + 1e-4)


@pytest.mark.parametrize(
  ('minimum', 'maximum'), [(1e-300, 32.0), (1e-31, 32.0), (0.3, 1e31)]
)
def test_widths_that_float32_cannot_hold_are_refused(minimum, maximum):
  with pytest.raises(ValueError, match='blur widths must lie in') as caught:
    schedules.blur_width(0.5, minimum, maximum)
  assert '\n' not in str(caught.value)


def noised_and_blurred(image, epsilon, t):
  tau = schedules.dissipation_time(schedules.blur_width(t))
  return {
    'noised': add_noise(image, epsilon, t),
    'blurred': blur_image(image, tau),
  }


@pytest.mark.parametrize('shape', SHAPES)
@few
@given(data=st.data(), t=shares, dtype=dtypes, seed=seeds)
def test_noise_and_blur(shape, data, t, dtype, seed):
  image = repeated(data.draw(images(shape)), 4, dtype)
  epsilon = np.random.default_rng(seed).normal(size=image.shape)
  epsilon = jnp.asarray(epsilon, dtype)
  gradients, out = differentiated(noised_and_blurred, 0, 1, 2)(
    image, epsilon, t
  )
  assert_finite((gradients, out))
  assert_dtype((gradients[:2], out), dtype)
  assert gradients[2].dtype == 'float32'
  rounding = 2 * float(jnp.finfo(dtype).eps)
  x, e = as_float64(image), as_float64(epsilon)
  alpha, sigma = (
    as_float64(scale(t)).reshape(4, 1, 1, 1)
    for scale in (schedules.alpha, schedules.sigma)
  )
  largest = alpha * abs(x) + sigma * abs(e)
  assert_between(out['noised'], -largest, largest, rounding * (1 + largest))
  # Next to sharp edges blur leaves the range of the image a little.
  largest = abs(x).max()
  assert_between(out['blurred'], -1.25 * largest, 1.25 * largest, 1e-30)
  np.testing.assert_allclose(
    as_float64(out['blurred']).mean((1, 2)),
    x.mean((1, 2)),
    rtol=0,
    atol=(rounding + 1e-6) * (1e-3 + 2 * largest),
  )


@pytest.mark.parametrize('shape', SHAPES)
def test_blur_for_any_time(shape):
  """From none to forever, where only the channel means are left."""
  image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  tau = np.float32([0.0, 1e-38, 1e30, 3e38, np.inf])
  gradients, out = differentiated(blur_image, 0, 1)(
    repeated(image, 5, 'float32'), tau
  )
  assert_finite((gradients, out))
  np.testing.assert_allclose(out[:2], [image] * 2, atol=3e-6)
  flat = np.broadcast_to(image.mean((0, 1)), (3, *shape))
  np.testing.assert_allclose(out[2:], flat, atol=1e-6)


@functools.cache
def degrading(spec):
  return differentiated(functools.partial(degrade_example, spec=spec), 0, 1, 4)


def every_role_at(t, image, label, seed, dtype):
  """Arguments of `degrade_example` for four roles at four temperatures."""
  epsilon = np.random.default_rng(seed).normal(size=(16, *image.shape))
  return (
    repeated(image, 16, dtype),
    jnp.tile(jnp.asarray(label, dtype), (16, 1)),
    jnp.asarray(epsilon, jnp.float32),
    jnp.repeat(jnp.arange(4), 4),
    jnp.tile(t, 4),
  )


# Every rule, shape, dtype and number of classes once.
@pytest.mark.parametrize(
  ('rule', 'shape', 'dtype', 'classes'),
  [
    ('smooth', (1, 1, 1), 'float16', 2),
    ('decay', (1, 7, 3), 'bfloat16', 1000),
    ('extra', (4, 6, 2), 'float32', 2),
    ('extra_smooth', (1, 7, 3), 'float16', 1000),
  ],
)
@few
@given(data=st.data(), t=shares, seed=seeds)
def test_degrading_in_every_role(rule, shape, dtype, classes, data, t, seed):
  roles = tuple(role.name.lower() for role in Role)
  spec = MollifySpec(roles, noise_power=2.0, blur_power=2.0, label_rule=rule)
  label = np.eye(classes)[seed % classes]
  image = data.draw(images(shape))
  arguments = every_role_at(t, image, label, seed, dtype)
  gradients, (degraded, tempered) = degrading(spec)(*arguments)
  assert_finite((gradients, degraded, tempered))
  assert_dtype((degraded, tempered, gradients[:2]), dtype)
  assert_between(tempered, 0, 1)
  sums = as_float64(tempered).sum(1).reshape(4, 4)
  slack = 4 * float(jnp.finfo(dtype).eps)
  low, high = {'decay': (0, 1), 'extra': (1, 2)}.get(rule, (1, 1))
  assert_between(sums, low, high, slack)
  # Hard at t = 0 but for pure noise; as soft as can be at t = 1 but for clean.
  hard, soft = 1, {'decay': 0, 'extra': 2}.get(rule, 1)
  np.testing.assert_allclose(sums[:3, 0], hard, atol=slack)
  np.testing.assert_allclose(sums[1:, 1], soft, atol=slack)
  np.testing.assert_array_equal(tempered[:12:4, :classes], [label] * 3)
  np.testing.assert_array_equal(degraded[:4], arguments[0][:4])


def test_greedy_schedules_spare_other_roles():
  """With powers below 1 the slope at t = 0 is infinite, for its role only."""
  spec = MollifySpec(noise_power=0.25, blur_power=0.25)
  arguments = every_role_at(
    np.float32([0, 1, 0.3, 0]), np.zeros((1, 1, 1)), [1.0, 0.0], 0, 'float32'
  )

  def hardest(*arguments):
    return degrade_example(*arguments, spec)[1][0]

  (slope,), _ = differentiated(hardest, 4)(*arguments)
  clean, noise, blur, _ = np.asarray(slope).reshape(4, 4)
  np.testing.assert_array_equal(clean, 0)
  for used in (noise, blur):
    np.testing.assert_array_equal(used[[0, 3]], -np.inf)
    assert_finite(used[1:3])


@pytest.mark.parametrize(
  ('assignment', 'beta_a', 'beta_b', 'end'),
  [('iid', 1e-30, 1, 0), ('stratified', 1, 1e-30, 1)],
)
def test_batches_at_the_ends(assignment, beta_a, beta_b, end):
  """All drawn at exactly 0 or 1, in a batch of as many as there are classes."""
  spec = MollifySpec(
    ('clean', 'noise', 'blur', 'pure_noise'),
    beta_a=beta_a,
    beta_b=beta_b,
    assignment=assignment,
  )
  keys = example_keys(jax.random.key(0), 0, 12)
  image = jnp.zeros((12, 1, 5, 1), jnp.bfloat16)
  labels = jnp.eye(12)

  def total(image, labels):
    out = mollify_batch(keys, image, labels, spec)
    return sum(jnp.sum(x, dtype=jnp.float32) for x in out), out

  gradients, (mollified, tempered) = jax.jit(
    jax.grad(total, (0, 1), has_aux=True)
  )(image, labels)
  assert_finite((gradients, mollified, tempered))
  assert mollified.dtype == image.dtype
  t = jax.vmap(draw_temperature, (0, None))(keys, spec)
  np.testing.assert_array_equal(t, end)
  hard = (np.asarray(tempered) == np.eye(12)).all(1)
  soft = np.isclose(tempered, 1 / 12).all(1)
  assert (hard | soft).all()
  if assignment == 'stratified':  # clean examples, three of twelve
    np.testing.assert_array_equal(hard, np.arange(12) % 4 == 0)
  else:
    assert soft.any()
    assert soft.sum() < 6


@pytest.mark.parametrize('beta_b', [1e-30, 1e-3, 1.0, 2.0, 1e3, 1e30])
@pytest.mark.parametrize('beta_a', [1e-30, 1e-3, 1.0, 2.0, 1e3, 1e30])
def test_temperatures_of_any_beta_distribution(beta_a, beta_b):
  spec = MollifySpec(beta_a=beta_a, beta_b=beta_b)
  keys = example_keys(jax.random.key(0), 0, 64)
  t = jax.vmap(draw_temperature, (0, None))(keys, spec)
  assert_between(t, 0, 1)
  mean = beta_a / (beta_a + beta_b)
  assert abs(t.mean() - mean) < 5 * np.sqrt(mean * (1 - mean) / 64) + 1e-6


@pytest.mark.parametrize('value', [1e-31, 1e-38, 1e31, 1e300])
def test_parameters_that_float32_cannot_hold_are_refused(value):
  """They would be 0 or infinite there, and temperatures NaN."""
  message = r'must be in \[1e-30, 1e\+30\] for float32, got '
  for field in (
    'beta_a',
    'beta_b',
    'noise_power',
    'blur_power',
    'blur_width_min',
    'blur_width_max',
  ):
    with pytest.raises(ValueError, match=f'{field} {message}') as caught:
      MollifySpec(**{field: value})
    assert '\n' not in str(caught.value)
  with pytest.raises(ValueError, match=f'^alpha {message}'):
    mixing.draw_lambda(jax.random.key(0), value)
  for field in ('mix_alpha', 'augmix_alpha'):
    with pytest.raises(ValueError, match=f'{field} {message}'):
      augment.AugmentSpec(**{field: value})


def every_rule(label, gamma):
  return {rule: temper_label(label, gamma, rule) for rule in RULES}


@pytest.mark.parametrize('classes', CLASSES)
@few
@given(data=st.data(), gamma=shares, dtype=dtypes)
def test_tempered_labels(classes, data, gamma, dtype):
  label = data.draw(some_labels(classes))[3]
  label = jnp.asarray(label, dtype)
  gradients, out = differentiated(every_rule, 0, 1)(
    jnp.tile(label, (4, 1)), gamma
  )
  assert_finite((gradients, out))
  assert_dtype(out, dtype)
  slack = 4 * float(jnp.finfo(dtype).eps)
  mass, g = as_float64(label).sum(), as_float64(gamma)
  for rule, sums in {
    'smooth': (1 - g) * mass + g,
    'decay': (1 - g) * mass,
    'extra': mass + g,
    'extra_smooth': (1 - g) * mass + g,
  }.items():
    assert_between(out[rule], 0, 1)
    np.testing.assert_allclose(
      as_float64(out[rule]).sum(1), sums, rtol=slack, atol=slack
    )


@functools.cache
def losses_and_gradients():
  def each(logits, label):
    return {
      loss.__name__: jax.value_and_grad(loss, (0, 1))(logits, label)
      for loss in (
        losses.cross_entropy,
        losses.dirichlet_nll,
        losses.normalized_cross_entropy,
      )
    }

  return jax.jit(jax.vmap(each))


@pytest.mark.parametrize('classes', CLASSES)
@few
@given(data=st.data(), dtype=dtypes)
def test_losses(classes, data, dtype):
  logits = jnp.asarray(data.draw(some_logits(classes)), dtype)
  labels = data.draw(some_labels(classes))
  # Every kind of logits with every kind of label.
  logits, labels = jnp.repeat(logits, 5, 0), np.tile(labels, (4, 1))
  out = losses_and_gradients()(logits, labels)
  assert_finite(out)
  for value, (in_logits, in_label) in out.values():
    assert value.dtype == in_label.dtype == 'float32'
    assert in_logits.dtype == dtype
  cross, (slope, _) = out['cross_entropy']
  x, y = as_float64(logits), as_float64(labels)
  exact = -(y * scipy.special.log_softmax(x, axis=1)).sum(1)
  np.testing.assert_allclose(cross, exact, rtol=1e-5, atol=1e-5)
  assert_between(cross, 0, np.inf)
  exact = scipy.special.softmax(x, axis=1) * y.sum(1, keepdims=True) - y
  rounding = 2 * float(jnp.finfo(dtype).eps)
  np.testing.assert_allclose(
    as_float64(slope), exact, rtol=rounding, atol=rounding * 1e-2 + 1e-6
  )
  np.testing.assert_array_equal(out['dirichlet_nll'][1][0], slope)
  # The normaliser is at most 1: a logarithmic mean is below the arithmetic.
  normalized, (slope, _) = out['normalized_cross_entropy']
  assert_between(normalized - cross, -np.inf, 1e-5 * (1 + abs(cross)))
  assert_between(slope, -3, 3)


@pytest.mark.parametrize(
  ('classes', 'dtype'),
  [(2, 'float16'), (1000, 'bfloat16'), (1000, 'float32')],
)
@few
@given(data=st.data())
def test_jensen_shannon(classes, dtype, data):
  rows = jnp.asarray(data.draw(some_logits(classes)), dtype)
  # Views that agree, each row in turn; and sets of three different ones.
  views = jnp.concatenate([jnp.stack([rows] * 3, 1), rows[None, :3]])
  views = jnp.concatenate([views, rows[None, 1:]])
  (gradient,), value = differentiated(losses.jensen_shannon, 0)(views)
  assert_finite((gradient, value))
  assert value.dtype == 'float32'
  assert_between(value, 0, np.log(3), slack=1e-5)
  np.testing.assert_allclose(value[:4], 0, atol=1e-5)


@pytest.mark.parametrize('samples', [1, 3])
@few
@given(data=st.data(), dtype=dtypes)
def test_multi_sample_nll(samples, data, dtype):
  values = st.one_of(st.sampled_from([0.0, -2 * LARGE]), st.floats(-100, 0))
  row = hnp.arrays(np.float32, samples, elements=values, fill=values)
  log_probs = jnp.asarray(
    [data.draw(row), np.zeros(samples), np.full(samples, -2 * LARGE)], dtype
  )
  (gradient,), value = differentiated(losses.multi_sample_nll, 0)(log_probs)
  assert_finite((gradient, value))
  assert value.dtype == 'float32'
  exact = -as_float64(log_probs)
  assert_between(value, exact.min(1), exact.max(1), slack=1e-2)
  np.testing.assert_allclose(as_float64(gradient).sum(1), -1, rtol=1e-2)


sum_up = jax.jit(metrics.batch_sums, static_argnums=3)


# As many examples as classes; many classes, with one to be dropped.
@pytest.mark.parametrize(
  ('classes', 'columns', 'dtype'),
  [(4, 4, 'float16'), (2, 3, 'bfloat16'), (1000, 1001, 'float32')],
)
@few
@given(data=st.data(), mask=st.tuples(*[st.booleans()] * 3))
def test_metrics(classes, columns, dtype, data, mask):
  logits = jnp.asarray(data.draw(some_logits(columns)), dtype)
  labels = np.int32([0, 1, data.draw(st.integers(0, classes - 1)), 3 % classes])
  mask = np.array([True, *mask])
  sums = sum_up(logits, labels, mask, classes)
  assert_finite(sums)
  n = int(mask.sum())
  assert sums.count == n
  for name, high in (
    ('errors', n),
    ('nll', 2.1 * LARGE * n),
    ('brier', 2 * n),
    ('confidence', n),
    ('bin_count', n),
    ('bin_confidence', n),
    ('bin_correct', n),
    ('class_probability', n),
    ('class_count', n),
  ):
    assert_between(getattr(sums, name), 0, high, slack=1e-5 * high)
  means = metrics.finalize(metrics.add_up(sums))
  for name in ('error', 'ece', 'classwise_ece', 'confidence'):
    assert_between(means[name], 0, 1, slack=1e-5)
  assert_between(means['gap'], -1, 1, slack=1e-5)
  scores = metrics.score_examples(logits, labels, classes)
  scores = metrics.ExampleScores(*map(np.asarray, scores))
  assert_between(scores.confidence, 1 / classes, 1, slack=1e-5)
  for value in (
    metrics.adaptive_ece(scores),
    metrics.ece_over_batches(scores, 3),
  ):
    assert_between(value, 0, 1, slack=1e-5)


def blended_and_cut(image, partner, label, other, lam):
  side = jnp.int32(0)
  box = mixing.cutmix_box(lam, side, side, *image.shape[:2])
  return (
    mixing.mix_example(image, partner, label, other, lam),
    mixing.cut_example(image, partner, label, other, box),
  )


@paired
@few
@given(data=st.data(), lam=shares)
def test_mixing(shape, dtype, data, lam):
  one, two = (repeated(data.draw(images(shape)), 4, dtype) for _ in range(2))
  label, other = jnp.asarray([[[1.0, 0.0]], [[0.25, 0.75]]], dtype)
  label, other = (jnp.tile(y, (4, 1)) for y in (label, other))
  gradients, out = differentiated(blended_and_cut, 0, 1, 2, 3, 4)(
    one, two, label, other, lam
  )
  assert_finite((gradients, out))
  assert_dtype((gradients[:4], out), dtype)
  rounding = 2 * float(jnp.finfo(dtype).eps)
  x, y = as_float64(one), as_float64(two)
  low, high = np.minimum(x, y), np.maximum(x, y)
  slack = rounding * (1e-3 + np.maximum(abs(low), abs(high)))
  for mixed, mixed_label in out:
    assert_between(mixed, low, high, slack)
    assert_between(mixed_label, 0, 1)
    np.testing.assert_allclose(as_float64(mixed_label).sum(1), 1, rounding)
  np.testing.assert_array_equal(out[0][0][0], two[0])
  for mixed, _ in out:
    np.testing.assert_array_equal(mixed[1], one[1])


def moved(image, degrees, box):
  return {
    'rotated': augment.rotate_image(image, degrees, interpolation='bilinear'),
    'cropped': augment.resized_crop_image(image, box),
    'erased': augment.erase_image(image, box, 0.5),
  }


@paired
@few
@given(data=st.data(), angle=st.floats(-180, 180, width=32))
def test_geometry_of_floats(shape, dtype, data, angle):
  """Nothing is outside the range of the image and what is painted in."""
  image = data.draw(images(shape))
  height, width, _ = shape
  boxes = [(0, 0, height, width), (height - 1, width - 1, 1, 1)]
  gradients, out = differentiated(moved, 0, 1)(
    repeated(image, 6, dtype),
    np.repeat(np.float32([0, 180, angle]), 2),
    np.int32(boxes * 3),
  )
  assert_finite((gradients, out))
  assert_dtype((gradients[0], out), dtype)
  slack = 4 * float(jnp.finfo(dtype).eps) * (1 + abs(image).max())
  low, high = min(image.min(), 0), max(image.max(), 0.5)
  for moved_image in out.values():
    assert_between(moved_image, low, high, slack)


@pytest.mark.parametrize('pixel', [0, 255])
def test_pixels_of_one_value(pixel):
  image = np.full((2, 1, 1, 3), pixel, np.uint8)
  for std in ((1e-3, 0.3, 1.0), (1e-30,) * 3):
    assert_finite(normalize_images(image, (0.0, 0.5, 1.0), std))
  for std in ((0.3, 0.0, 0.3), (0.3, -1.0, 0.3), (0.3, float('nan'), 0.3)):
    with pytest.raises(ValueError, match='needs std > 0 in every') as caught:
      normalize_images(image, (0.0, 0.5, 1.0), std)
    assert '\n' not in str(caught.value)
