"""The pass over a test set, against the same thing in plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollify_jax import parallel, rng
from mollify_jax.evaluation import passes
from mollify_jax.feeds import ResidentFeed
from mollify_jax.kernels.blur import blur_image
from mollify_jax.kernels.gaussian import standard_normal
from mollify_jax.kernels.mollify import MollifySpec
from mollify_jax.kernels.noise import add_noise
from mollify_jax.models import create_model

N, K = 37, 4
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


@pytest.fixture(scope='module')
def images():
  return np.random.default_rng(0).integers(0, 256, (N, 6, 9, 3), np.uint8)


@pytest.fixture(scope='module')
def labels():
  return np.random.default_rng(1).integers(0, K, N).astype(np.int32)


def normalized(images):
  return ((images / 255 - np.array(MEAN)) / np.array(STD)).astype(np.float32)


def degraded(images, condition, seed):
  """Every image by itself, straight from the definitions."""
  x = normalized(images)
  if condition.corruption == 'clean':
    return x
  if condition.corruption == 'blur':
    width = np.exp(
      (1 - condition.t) * np.log(0.3) + condition.t * np.log(images.shape[2])
    )
    return np.stack([blur_image(image, width**2 / 2) for image in x])
  key = rng.purpose_key(seed, rng.Purpose.EVALUATE)
  epsilon = [
    standard_normal(jax.random.fold_in(key, i), image.shape)
    for i, image in enumerate(x)
  ]
  return np.stack(
    [add_noise(a, e, condition.t) for a, e in zip(x, epsilon, strict=True)]
  )


@pytest.mark.parametrize('batch_size', [5, 37, 64])
def test_metrics_do_not_depend_on_the_batches(images, labels, batch_size):
  model = create_model('small_cnn', K, axis_name=parallel.AXIS)
  variables = model.init(jax.random.key(3), normalized(images), train=False)
  spec = passes.EvalSpec(K, MEAN, STD, MollifySpec())
  conditions = passes.temperature_grid((0.2, 0.6))
  feed = ResidentFeed(images, labels, batch_size=batch_size)
  records = passes.run_conditions(
    passes.make_scoring(model, spec),
    parallel.replicate(variables),
    feed,
    conditions,
    spec,
    seed=7,
  )
  assert [(r['corruption'], r['t']) for r in records] == [
    ('clean', 0.0),
    ('noise', 0.2),
    ('noise', 0.6),
    ('blur', 0.2),
    ('blur', 0.6),
  ]
  for condition, record in zip(conditions, records, strict=True):
    logits = model.apply(
      variables, degraded(images, condition, seed=7), train=False
    )
    logits = np.asarray(logits, np.float64)
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert record['n'] == N
    assert record['error'] == np.mean(probs.argmax(axis=1) != labels)
    nll = -np.log(probs[np.arange(N), labels]).mean()
    np.testing.assert_allclose(record['nll'], nll, rtol=1e-5)
    brier = np.square(probs - np.eye(K)[labels]).sum(axis=1).mean()
    np.testing.assert_allclose(record['brier'], brier, rtol=1e-5)
    np.testing.assert_allclose(
      record['confidence'], probs.max(axis=1).mean(), rtol=1e-5
    )
    assert sum(record['bins']['count']) == N


@pytest.mark.parametrize('outputs', [K, K + 1])  # one more: an extra class
def test_divided_logits_are_scored_beside(images, labels, outputs):
  model = create_model('small_cnn', outputs, axis_name=parallel.AXIS)
  variables = model.init(jax.random.key(3), normalized(images), train=False)
  spec = passes.EvalSpec(K, MEAN, STD, MollifySpec())
  score = passes.make_scoring(model, spec, keep_logits=True, scaled=True)
  feed = ResidentFeed(images, labels, batch_size=16)

  def figures(temperature):
    return passes.run_pass(
      score,
      parallel.replicate(variables),
      feed.eval_batches(),
      passes.Condition(),
      seed=0,
      temperature=temperature,
    )

  plain, examples = figures(1.0)
  scaled = plain.pop('scaled')
  assert scaled == plain  # the same to the last bit at 1
  again, kept = figures(0.25)
  scaled = again.pop('scaled')
  assert again == plain
  np.testing.assert_array_equal(kept['logits'], examples['logits'])
  logits = np.asarray(
    model.apply(variables, normalized(images), train=False), np.float64
  )[:, :K]
  probs = np.exp(4 * logits) / np.exp(4 * logits).sum(axis=1, keepdims=True)
  assert scaled['error'] == plain['error']
  for name, value in (
    ('nll', -np.log(probs[np.arange(N), labels]).mean()),
    ('brier', np.square(probs - np.eye(K)[labels]).sum(axis=1).mean()),
    ('confidence', probs.max(axis=1).mean()),
  ):
    np.testing.assert_allclose(scaled[name], value, rtol=1e-5)
    assert scaled[name] != plain[name]

  records = [{'corruption': 'clean', **again, 'scaled': scaled}]
  assert passes.take_scaled(records) == [{'corruption': 'clean', **scaled}]
  assert records == [{'corruption': 'clean', **again}]


def test_label_confidence_is_that_of_the_tempered_label():
  spec = passes.EvalSpec(10, MEAN, STD, MollifySpec(blur_power=2.0))
  for condition, gamma in (
    (passes.Condition(), 0.0),
    (passes.Condition('noise', 0.5), 0.5),  # sin^2(pi / 4)
    (passes.Condition('noise', 1.0), 1.0),
    (passes.Condition('blur', 0.5), 0.25),
  ):
    confidence = passes.label_confidence(condition, spec)
    assert confidence == pytest.approx(1 - gamma + gamma / 10, abs=1e-6)


def test_knots_are_the_labels_of_passes_and_pictures(images):
  mollify = MollifySpec(
    noise_gamma_knots=(0.0, 0.2, 0.4), blur_gamma_knots=(0.5, 1.0)
  )
  spec = passes.EvalSpec(K, MEAN, STD, mollify)
  strip = passes.mollification_strip(images[0], 2, (0.25, 1.0), spec)
  for name, gammas in (('noise', (0.1, 0.4)), ('blur', (0.625, 1.0))):
    for t, gamma, label in zip(
      (0.25, 1.0), gammas, strip[name][1], strict=True
    ):
      confidence = 1 - gamma + gamma / K
      condition = passes.Condition(name, t)
      assert passes.label_confidence(condition, spec) == pytest.approx(
        confidence, abs=1e-6
      )
      assert label[2] == pytest.approx(confidence, abs=1e-6)


def test_least_blur_wider_than_the_image_has_a_schedule(images):
  spec = MollifySpec(blur_width_min=50.0)
  x = jnp.asarray(normalized(images))
  keys = rng.keys_at(jax.random.key(0), jnp.arange(N))
  blurred = passes.degrade_images(
    x, keys, passes.CORRUPTIONS.index('blur'), 0.5, spec
  )
  # Nothing but the channel means is left of an image 6 x 9 at 50 pixels.
  np.testing.assert_allclose(
    blurred, np.broadcast_to(x.mean((1, 2), keepdims=True), x.shape), atol=1e-5
  )


def test_strip_runs_from_the_image_to_nothing(images):
  spec = passes.EvalSpec(K, MEAN, STD, MollifySpec())
  strip = passes.mollification_strip(images[0], 2, (0.0, 0.4, 1.0), spec)
  assert list(strip) == ['noise', 'blur']
  for pixels, tempered in strip.values():
    assert pixels.shape == (3, 6, 9, 3)
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    np.testing.assert_allclose(tempered[0], np.eye(K)[2], atol=1e-6)
    np.testing.assert_allclose(tempered[2], np.full(K, 1 / K), atol=1e-6)
  np.testing.assert_allclose(strip['noise'][0][0], images[0] / 255, atol=1e-6)


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (('fog', 0.1), "unknown corruption 'fog'.*clean, noise"),
    (('noise', 2), 't must'),
  ],
)
def test_impossible_conditions(arguments, message):
  with pytest.raises(ValueError, match=message):
    passes.Condition(*arguments)
