"""Steps by name: order, keys, views, and specs that are refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollify_jax import augment
from mollify_jax.augment import (
  IMAGE_STEPS,
  AugmentSpec,
  augment_image,
  augment_images,
  augment_views,
  pipeline,
)

IMAGES = np.random.default_rng(1).integers(0, 256, (6, 9, 7, 3), np.uint8)
FCR = ('flip', 'crop', 'rotate')


def keys(count, seed=0):
  return jax.random.split(jax.random.key(seed), count)


@functools.cache
def compiled(spec):
  return jax.jit(functools.partial(augment_images, spec=spec))


# Those that no other file runs under their name.
@pytest.mark.parametrize(
  'steps',
  [
    (*FCR, 'trivial_augment_wide'),
    *(
      pytest.param((step,), marks=pytest.mark.slow)
      for step in IMAGE_STEPS
      if step not in FCR
    ),
  ],
)
def test_an_image_does_not_depend_on_its_neighbours(steps):
  spec = AugmentSpec(steps=steps, crop_padding=2)
  batch = compiled(spec)(keys(6), IMAGES)
  assert batch.dtype == np.uint8
  assert batch.shape == IMAGES.shape
  np.testing.assert_array_equal(batch, compiled(spec)(keys(6), IMAGES))
  # In another batch, at another place, among others.
  order = np.array([4, 2])
  np.testing.assert_array_equal(
    np.asarray(batch)[order], compiled(spec)(keys(6)[order], IMAGES[order])
  )
  alone = jax.jit(augment_image, static_argnums=2)(keys(6)[3], IMAGES[3], spec)
  np.testing.assert_array_equal(alone, batch[3])
  others = compiled(spec)(keys(6, seed=1), IMAGES)
  assert (np.asarray(others) != batch).any()


def test_steps_are_applied_in_order_with_their_own_keys():
  spec = AugmentSpec(steps=('rotate', 'crop', 'flip'), crop_padding=1)
  key, image = jax.random.key(3), IMAGES[0]
  want = augment.random_rotate(jax.random.fold_in(key, 0), image, 15.0)
  want = augment.random_crop(jax.random.fold_in(key, 1), want, 1)
  want = augment.random_flip(jax.random.fold_in(key, 2), want)
  np.testing.assert_array_equal(augment_image(key, image, spec), want)


@pytest.mark.parametrize(
  ('step', 'neutral'),
  [
    ('crop', {'crop_padding': 0}),
    ('rotate', {'rotate_degrees': 0.0}),
    ('random_erasing', {'erasing_probability': 0.0}),
    ('resized_crop', {'resized_crop_scale': (1.0, 1.0)}),
  ],
)
def test_options_reach_their_steps(step, neutral):
  images = np.repeat(IMAGES, 2, axis=2)[:, :, :9]  # square: any crop of all
  out = compiled(AugmentSpec(steps=(step,), **neutral))(keys(6), images)
  np.testing.assert_array_equal(out, images)
  out = compiled(AugmentSpec(steps=(step,)))(keys(6), images)
  assert (np.asarray(out) != images).any()


def test_no_steps_is_the_identity():
  out = augment_image(jax.random.key(0), IMAGES[0], AugmentSpec(steps=()))
  np.testing.assert_array_equal(out, IMAGES[0])


def shift_by_key(key, image, **_):
  """A cheap stand-in for a random step: adds a number drawn with the key."""
  return image + jax.random.bits(key, (), jnp.uint8)


def test_views_differ_in_augmix_only(monkeypatch):
  for name in ('random_flip', 'augmix', 'random_erase'):
    monkeypatch.setattr(pipeline, name, shift_by_key)
  spec = AugmentSpec(steps=('flip', 'augmix', 'random_erasing'))
  key = jax.random.key(2)
  views = augment_views(key, IMAGES[0], spec, 3)
  assert views.shape == (4, *IMAGES[0].shape)

  def shift(key):
    return np.asarray(jax.random.bits(key, (), jnp.uint8))

  before, mixing, after = (jax.random.fold_in(key, i) for i in range(3))
  plain = IMAGES[0] + shift(before) + shift(after)
  np.testing.assert_array_equal(views[0], plain)
  mix_keys = jax.random.split(mixing, 3)
  for view, mix_key in zip(views[1:], mix_keys, strict=True):
    np.testing.assert_array_equal(view, plain + shift(mix_key))
  assert len({np.asarray(view).tobytes() for view in views}) == 4


@pytest.mark.parametrize(
  ('step', 'function', 'options', 'wanted'),
  [
    (
      'rand_augment',
      'rand_augment',
      {'rand_augment_operations': 3, 'rand_augment_magnitude': 5},
      {'num_operations': 3, 'magnitude': 5},
    ),
    ('auto_augment_imagenet', 'auto_augment', {}, 'imagenet'),
    ('auto_augment_cifar10', 'auto_augment', {}, 'cifar10'),
    (
      'augmix',
      'augmix',
      {
        'augmix_severity': 5,
        'augmix_width': 2,
        'augmix_depth': 4,
        'augmix_alpha': 0.5,
      },
      {'severity': 5, 'width': 2, 'depth': 4, 'alpha': 0.5},
    ),
  ],
)
def test_options_reach_the_policies(
  monkeypatch, step, function, options, wanted
):
  calls = []

  def record(key, image, *arguments, **parameters):
    del key
    calls.append(parameters or arguments[0])
    return image

  monkeypatch.setattr(pipeline, function, record)
  augment_image(jax.random.key(0), IMAGES[0], AugmentSpec((step,), **options))
  assert calls == [wanted]


def test_views_need_augmix():
  with pytest.raises(ValueError, match="needs 'augmix' as one of the steps"):
    augment_views(jax.random.key(0), IMAGES[0], AugmentSpec(steps=('flip',)))


def test_mixing_comes_last_and_takes_a_batch():
  spec = AugmentSpec(steps=('flip', 'mixup'), mix_alpha=0.2)
  assert spec.mixing_step == 'mixup'
  assert spec.without_mixing() == AugmentSpec(steps=('flip',), mix_alpha=0.2)
  assert AugmentSpec(steps=('flip',)).mixing_step is None
  with pytest.raises(ValueError, match=r'spec.without_mixing.*augment.mixup'):
    augment_image(jax.random.key(0), IMAGES[0], spec)


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'steps': ('flip', 'spin')}, "'spin'; choose from flip, crop, .*, cutmix"),
    ({'steps': 'flip'}, r"must be a tuple.*write \('flip',\)"),
    (
      {'steps': ('mixup', 'flip')},
      "'mixup' mixes.*last step, got 'flip' after",
    ),
    ({'steps': ('mixup', 'cutmix')}, "must be the last step, got 'cutmix'"),
    ({'crop_padding': -1}, 'crop_padding must be >= 0, got -1'),
    ({'rotate_degrees': float('nan')}, r'rotate_degrees must be in'),
    ({'rotate_degrees': 200.0}, r'rotate_degrees must be in \[0, 180\]'),
    ({'rand_augment_magnitude': 31}, r'magnitude must be in \[0, 30\], got 31'),
    ({'rand_augment_operations': 0}, 'rand_augment_operations must be >= 1'),
    ({'augmix_severity': 11}, r'augmix_severity must be in \[1, 10\], got 11'),
    ({'augmix_depth': 0}, 'augmix_depth must be >= 1, or -1'),
    ({'augmix_alpha': 0.0}, 'augmix_alpha must be finite and > 0'),
    ({'mix_alpha': float('inf')}, 'mix_alpha must be finite and > 0'),
    ({'resized_crop_scale': (0.5,)}, r'resized_crop_scale must be \(low, high'),
    ({'resized_crop_scale': (0.5, 0.1)}, '0 < low <= high <= 1'),
    ({'erasing_probability': 1.5}, r'erasing_probability must be in \[0, 1\]'),
  ],
)
def test_bad_specs_are_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    AugmentSpec(**fields)


@pytest.mark.parametrize(
  'fields',
  [
    {'crop_padding': 4.0},
    {'rotate_degrees': '15'},
    {'augmix_width': True},
    {'rand_augment_magnitude': None},
  ],
)
def test_wrong_types_are_refused(fields):
  with pytest.raises(TypeError, match=r'must be a (whole )?number, got'):
    AugmentSpec(**fields)


def test_specs_are_hashable_and_compare_by_value():
  spec = AugmentSpec(['flip'], resized_crop_scale=[0.1, 1.0])
  assert spec == AugmentSpec(('flip',), resized_crop_scale=(0.1, 1.0))
  assert hash(spec) == hash(AugmentSpec(('flip',), resized_crop_scale=(0.1, 1)))


def test_wrong_rank_names_the_batch_function():
  with pytest.raises(ValueError, match='call augment_images'):
    augment_image(jax.random.key(0), jnp.zeros((2, 4, 4, 3)), AugmentSpec())
