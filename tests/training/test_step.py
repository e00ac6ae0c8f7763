"""One training step against the same step written out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from mollify_jax import MollifySpec, augment, mollify_batch, parallel, rng
from mollify_jax.augment import AugmentSpec, augment_images
from mollify_jax.feeds import ResidentFeed
from mollify_jax.models import create_model
from mollify_jax.models.dropout import Dropout
from mollify_jax.training.optimizer import OptimizerSpec, make_optimizer
from mollify_jax.training.state import create_state
from mollify_jax.training.step import (
  StepSpec,
  make_train_steps,
  prepare_batch,
)

MEAN, STD, K, B = (0.3,), (0.4,), 4, 12
RATE, SEED = 0.1, 5


def spec(**changes):
  fields = {
    'num_classes': K,
    'mean': MEAN,
    'std': STD,
    'augment': AugmentSpec(steps=()),
    'mollify': MollifySpec(roles=('clean',)),
  }
  return StepSpec(**{**fields, **changes})


def one_step(step_spec):
  """(state before, state after, metrics, pixels, labels) of step 0."""
  random = np.random.default_rng(0)
  images = random.integers(0, 256, (20, 8, 8, 1), np.uint8)
  classes = step_spec.num_classes
  labels = random.integers(0, classes, 20).astype(np.int32)
  model = create_model('small_cnn', classes, axis_name=parallel.AXIS)
  optimizer = make_optimizer(
    OptimizerSpec(
      learning_rate=RATE, momentum=0.0, weight_decay=0.0, schedule='constant'
    ),
    steps_per_epoch=1,
    epochs=1,
  )
  before = create_state(model, optimizer, (8, 8, 1), SEED)
  donated, before = before, parallel.to_host(before)
  feed = ResidentFeed(images, labels, batch_size=B, seed=SEED)
  steps = make_train_steps(model, optimizer, step_spec, feed)
  slices = feed.train_slices(first_step=0, num_steps=1)
  after, metrics = steps(
    parallel.replicate(donated), *feed.constants, np.int32(SEED), *slices
  )
  index = np.random.default_rng((SEED, 0)).permutation(20)[:B]
  pixels = (images[index] / 255 - MEAN[0]) / STD[0]
  return (
    before,
    parallel.to_host(after),
    parallel.to_host(metrics),
    jnp.asarray(pixels, jnp.float32),
    labels[index],
  )


def check(before, after, metrics, pixels, targets, labels):
  """The step is that of gradient descent on the mean cross-entropy."""
  model = create_model('small_cnn', targets.shape[1])

  def mean_loss(params):
    logits, updated = model.apply(
      {'params': params, 'batch_stats': before.batch_stats},
      pixels,
      train=True,
      mutable=['batch_stats'],
    )
    loss = -(targets * jax.nn.log_softmax(logits)).sum(axis=1).mean()
    return loss, (logits, updated['batch_stats'])

  (loss, (logits, batch_stats)), gradient = jax.value_and_grad(
    mean_loss, has_aux=True
  )(before.params)
  expected = jax.tree.map(lambda p, g: p - RATE * g, before.params, gradient)

  def compare(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)

  jax.tree.map(compare, after.params, expected)
  jax.tree.map(compare, after.batch_stats, batch_stats)
  assert int(after.step) == 1
  compare(metrics['loss'], [loss])
  compare(metrics['error'], [np.mean(np.argmax(logits, axis=1) != labels)])
  compare(metrics['grad_norm'], [optax.tree.norm(gradient)])


def test_a_plain_step():
  *run, labels = one_step(spec())
  check(*run, jax.nn.one_hot(labels, K), labels)


def test_a_smoothed_step():
  """With as many examples as classes, like some of the steps below."""
  *run, labels = one_step(spec(label_smoothing=0.2, num_classes=B))
  assert len(set(labels)) > 4
  check(*run, 0.8 * np.eye(B)[labels] + 0.2 / B, labels)


@pytest.mark.parametrize(
  ('assignment', 'classes'), [('iid', K), ('stratified', B)]
)
def test_a_mollified_step(assignment, classes):
  mollify = MollifySpec(assignment=assignment)
  before, after, metrics, pixels, labels = one_step(
    spec(mollify=mollify, num_classes=classes)
  )
  key = jax.random.fold_in(
    jax.random.fold_in(jax.random.key(SEED), int(rng.Purpose.MOLLIFY)), 0
  )
  keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(B))
  pixels, targets = mollify_batch(
    keys, pixels, jax.nn.one_hot(labels, classes), mollify
  )
  np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
  np.testing.assert_array_equal(targets.argmax(axis=1), labels)
  check(before, after, metrics, pixels, targets, labels)


def step_key(purpose):
  return jax.random.fold_in(
    jax.random.fold_in(jax.random.key(SEED), int(purpose)), 0
  )


@pytest.mark.parametrize('per_example', [False, True])
@pytest.mark.parametrize('step', ['mixup', 'cutmix'])
def test_a_mixed_step(step, per_example):
  """Mixed after normalisation, with the previous example; tempered after."""
  mollify = MollifySpec(assignment='stratified')
  classes = B if per_example else K  # a weight per example is not per class
  before, after, metrics, pixels, labels = one_step(
    spec(
      mollify=mollify,
      augment=AugmentSpec((step,), mix_alpha=0.7, mix_per_example=per_example),
      num_classes=classes,
    )
  )
  key = step_key(rng.Purpose.MIX)
  if per_example:
    key = rng.example_keys(key, 0, B)
  pixels, targets = getattr(augment, step)(
    key, pixels, jax.nn.one_hot(labels, classes), alpha=0.7
  )
  assert (np.asarray(targets).max(axis=1) < 1).any()
  pixels, targets = mollify_batch(
    rng.example_keys(step_key(rng.Purpose.MOLLIFY), 0, B),
    pixels,
    targets,
    mollify,
  )
  check(before, after, metrics, pixels, targets, labels)


def test_a_consistent_step():
  """Cross-entropy of the view without AugMix, and the divergence of three."""
  mollify = MollifySpec(assignment='stratified')
  augment_spec = AugmentSpec(('flip', 'augmix'))
  step_spec = spec(mollify=mollify, augment=augment_spec, consistency_weight=3)
  before, after, metrics, _, labels = one_step(step_spec)
  images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8)
  images = images[np.random.default_rng((SEED, 0)).permutation(20)[:B]]
  keys = rng.example_keys(step_key(rng.Purpose.AUGMENT), 0, B)
  views = jax.jit(
    jax.vmap(functools.partial(augment.augment_views, spec=augment_spec))
  )(keys, images)
  assert views.shape == (B, 3, 8, 8, 1)
  keys = rng.example_keys(step_key(rng.Purpose.MOLLIFY), 0, B)
  mollified = []
  for view in jnp.moveaxis(views, 1, 0):
    pixels = jnp.asarray((view / 255 - MEAN[0]) / STD[0], jnp.float32)
    pixels, targets = mollify_batch(
      keys, pixels, jax.nn.one_hot(labels, K), mollify
    )
    mollified.append(pixels)
  model = create_model('small_cnn', K)

  def mean_loss(params):
    logits, updated = model.apply(
      {'params': params, 'batch_stats': before.batch_stats},
      jnp.concatenate(mollified),
      train=True,
      mutable=['batch_stats'],
    )
    f = jax.nn.softmax(logits.reshape(3, B, K))
    cross_entropy = -(targets * jnp.log(f[0])).sum(axis=1).mean()
    divergence = (f * (jnp.log(f) - jnp.log(f.mean(axis=0)))).sum(axis=2).mean()
    return cross_entropy + 3 * divergence, updated['batch_stats']

  (loss, batch_stats), gradient = jax.value_and_grad(mean_loss, has_aux=True)(
    before.params
  )
  expected = jax.tree.map(lambda p, g: p - RATE * g, before.params, gradient)
  for ours, want in (
    (after.params, expected),
    (after.batch_stats, batch_stats),
    (metrics['loss'], jnp.array([loss])),
  ):
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-6),
      ours,
      want,
    )


@pytest.mark.parametrize('steps', [('flip',), ('augmix', 'mixup')])
def test_consistency_without_its_views_is_refused(steps):
  with pytest.raises(ValueError, match="needs 'augmix' as one of the steps"):
    spec(augment=AugmentSpec(steps), consistency_weight=1.0)


def test_the_second_step_draws_anew():
  """Keys and roles of step 1 are its own, and they depend on the seed."""
  mollify = MollifySpec(assignment='stratified')
  step_spec = spec(mollify=mollify, augment=AugmentSpec(steps=('flip',)))
  images = np.random.default_rng(1).integers(0, 256, (B, 8, 8, 1), np.uint8)
  batch = {'image': images[:8], 'label': np.zeros(8, np.int32)}

  @functools.partial(jax.pmap, axis_name=parallel.AXIS, in_axes=(0, None, None))
  def prepare(batch, seed, step):
    return prepare_batch(batch, seed, step, step_spec)

  drawn = {}
  for seed, step in ((SEED, 0), (SEED, 1), (SEED + 1, 1)):
    pixels, labels = prepare(
      jax.tree.map(lambda a: a[None], batch), np.int32(seed), np.int32(step)
    )
    drawn[seed, step] = np.asarray(pixels[0, 0])
    keys = [
      rng.example_keys(rng.step_key(seed, purpose, step), 0, 8)
      for purpose in (rng.Purpose.AUGMENT, rng.Purpose.MOLLIFY)
    ]
    flipped = augment_images(keys[0], batch['image'], step_spec.augment)
    want = mollify_batch(
      keys[1],
      jnp.asarray((flipped / 255 - MEAN[0]) / STD[0], jnp.float32),
      jax.nn.one_hot(batch['label'], K),
      mollify,
      first_index=8 * step,  # roles go round the whole stream
    )
    np.testing.assert_allclose(pixels[0, 0], want[0], atol=1e-5)
    np.testing.assert_allclose(labels[0], want[1], atol=1e-6)
  assert (drawn[SEED, 0] != drawn[SEED, 1]).any()
  assert (drawn[SEED, 1] != drawn[SEED + 1, 1]).any()


def test_every_step_mixes_by_another_share():
  step_spec = spec(augment=AugmentSpec(steps=('mixup',)))
  batch = {
    'image': np.zeros((1, 4, 8, 8, 1), np.uint8),
    'label': np.arange(4, dtype=np.int32)[None],
  }

  @functools.partial(jax.pmap, axis_name=parallel.AXIS, in_axes=(0, None, None))
  def prepare(batch, seed, step):
    return prepare_batch(batch, seed, step, step_spec)

  shares = {
    float(prepare(batch, np.int32(SEED), np.int32(step))[1][0, 0, 0])
    for step in range(3)
  }
  assert len(shares) == 3


class DropsLogits(nn.Module):
  """What is dropped can be read off the loss; axis_name as in training."""

  axis_name: str | None = None

  @nn.compact
  def __call__(self, images, train):
    scale = self.param('scale', nn.initializers.ones, ())
    logits = jnp.full((len(images), K), 2.0) * scale
    return Dropout(0.5, self.axis_name)(logits, train)


def test_every_step_drops_anew():
  images = np.zeros((B, 8, 8, 1), np.uint8)
  feed = ResidentFeed(images, np.zeros(B, np.int32), batch_size=B, seed=SEED)
  model = DropsLogits(parallel.AXIS)
  optimizer = make_optimizer(OptimizerSpec(learning_rate=1e-9), 1, 1)
  state = create_state(model, optimizer, (8, 8, 1), SEED)
  assert state.batch_stats == {}
  steps = make_train_steps(model, optimizer, spec(), feed)
  _, metrics = steps(
    parallel.replicate(state),
    *feed.constants,
    np.int32(SEED),
    *feed.train_slices(first_step=0, num_steps=3),
  )
  want = []
  for step in range(3):
    logits = DropsLogits().apply(
      {'params': {'scale': jnp.ones(())}},
      images,
      train=True,
      rngs={'dropout': rng.step_key(SEED, rng.Purpose.MODEL, step)},
    )
    want.append(-jax.nn.log_softmax(logits)[:, 0].mean())
  assert len(set(map(float, want))) == 3
  np.testing.assert_allclose(parallel.to_host(metrics)['loss'], want, rtol=1e-5)
