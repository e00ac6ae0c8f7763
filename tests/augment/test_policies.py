"""Policies: tables, recorded draws, and what is drawn how often."""

import collections
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollify_jax.augment import magnitudes, policies
from mollify_jax.augment.operations import SELECTABLE, operation_number

SCALES = {
  'TrivialAugmentWide': magnitudes.TRIVIAL_AUGMENT_WIDE,
  'RandAugment': magnitudes.RAND_AUGMENT,
  'AutoAugment_IMAGENET': magnitudes.AUTO_AUGMENT,
  'AutoAugment_CIFAR10': magnitudes.AUTO_AUGMENT,
  'AugMix': magnitudes.AUGMIX,
}
SHAPE = (32, 32, 3)


def keys(count, seed=0):
  return jax.random.split(jax.random.key(seed), count)


def numbers(names, index):
  """Our numbers of operations that are counted in `names`; -1 is Identity."""
  ours = np.array([operation_number(name) for name in names], np.int32)
  return np.where(index >= 0, ours[np.maximum(index, 0)], 0)


@pytest.mark.parametrize('policy', SCALES)
@pytest.mark.parametrize('size', [32, 64])
def test_tables_are_torchvisions_bit_for_bit(facts, policy, size):
  table = magnitudes.magnitude_table(SCALES[policy], size, size)
  assert table.dtype == np.float32
  assert table.shape[1] == facts[policy]['num_bins']
  known = facts[policy]['magnitudes'][str(size)]
  compared = 0
  for name in SELECTABLE:
    if name in known:
      row = table[operation_number(name)]
      np.testing.assert_array_equal(row.astype(float), known[name], name)
      compared += 1
  assert compared >= 11
  if f'{policy}' != 'AugMix':
    pixels = known['TranslateX_pixels']
    row = table[operation_number('TranslateX')]
    np.testing.assert_array_equal(np.trunc(row), pixels)


def test_translations_follow_the_side_they_go_along():
  table = magnitudes.magnitude_table(magnitudes.RAND_AUGMENT, 20, 60)
  x, y = (
    table[operation_number(name), -1] for name in ('TranslateX', 'TranslateY')
  )
  np.testing.assert_allclose([x, y], [60 * 150 / 331, 20 * 150 / 331])


def test_operations_and_sub_policies_are_torchvisions(facts):
  assert set(policies.CHOICES) == set(facts['RandAugment']['operations'])
  assert set(policies.CHOICES) == set(facts['TrivialAugmentWide']['operations'])
  assert len(policies.CHOICES) == 14
  for name, policy in (('IMAGENET', 'imagenet'), ('CIFAR10', 'cifar10')):
    known = [
      [[op, probability, index or 0] for op, probability, index in pair]
      for pair in facts[f'AutoAugment_{name}']['sub_policies']
    ]
    ours = [[list(entry) for entry in p] for p in policies.SUB_POLICIES[policy]]
    assert ours == known
  for name in SCALES:
    assert set(magnitudes.SIGNED) == set(facts[name]['signed'])


def check_sampled(arrays, tag, operation, magnitude):
  """Our outputs for recorded draws, which torchvision's `out` belongs to."""
  images = arrays[f'images_{tag[-2:]}'][arrays[f'{tag}__image']]
  ours = jax.jit(jax.vmap(policies.apply_sequence))(
    images, operation, magnitude.astype(np.float32)
  )
  difference = np.abs(np.asarray(ours).astype(int) - arrays[f'{tag}__out'])
  # A difference of one level, which Color may make, can grow in a second
  # operation.
  assert (difference > 0).mean() <= 0.002
  assert difference.max() <= (1 if 'trivial' in tag else 4)


@pytest.mark.parametrize('size', ['32', '64'])
def test_trivial_augment_wide_equals_torchvision(reference, facts, size):
  arrays = reference('augment/sampled.npz')
  tag = f'trivial_{size}'
  names = facts['TrivialAugmentWide']['operations']
  operation = numbers(names, arrays[f'{tag}__op'])
  magnitude = arrays[f'{tag}__magnitude']
  ours = magnitudes.pick_magnitude(
    SCALES['TrivialAugmentWide'],
    operation,
    np.maximum(arrays[f'{tag}__bin'], 0),
    arrays[f'{tag}__sign'] < 0,
    (int(size), int(size)),
  )
  np.testing.assert_array_equal(ours, magnitude)
  check_sampled(arrays, tag, operation[:, None], magnitude[:, None])


@pytest.mark.parametrize('size', ['32', '64'])
def test_rand_augment_equals_torchvision(reference, facts, size):
  arrays = reference('augment/sampled.npz')
  tag = f'rand_{size}'
  names = facts['RandAugment']['operations']
  operation = numbers(names, arrays[f'{tag}__op'])
  magnitude = arrays[f'{tag}__magnitude']
  ours = magnitudes.pick_magnitude(
    SCALES['RandAugment'],
    operation,
    9,
    arrays[f'{tag}__sign'] < 0,
    (int(size), int(size)),
  )
  np.testing.assert_array_equal(ours, magnitude)
  check_sampled(arrays, tag, operation, magnitude)


@pytest.mark.parametrize('policy', ['imagenet', 'cifar10'])
def test_auto_augment_equals_torchvision(reference, policy):
  arrays = reference('augment/sampled.npz')
  tag = f'auto_{policy}_32'
  rows = [
    policies.SUB_POLICIES[policy][i] for i in arrays[f'{tag}__sub_policy']
  ]
  applied = arrays[f'{tag}__applied']
  operation = np.array(
    [[operation_number(name) for name, _, _ in row] for row in rows], np.int32
  )
  ours = magnitudes.pick_magnitude(
    magnitudes.AUTO_AUGMENT,
    operation,
    np.array([[index for _, _, index in row] for row in rows]),
    arrays[f'{tag}__sign'] < 0,
    SHAPE,
  )
  magnitude = arrays[f'{tag}__magnitude']
  np.testing.assert_array_equal(np.where(applied, ours, 0), magnitude)
  check_sampled(arrays, tag, np.where(applied, operation, 0), magnitude)


def check_uniform(values, choices):
  """Every choice as often as any other, within five standard errors."""
  values = np.asarray(values).ravel()
  n, p = len(values), 1 / len(choices)
  error = np.sqrt(n * p * (1 - p))
  for choice in choices:
    assert abs((values == choice).sum() - n * p) < 5 * error, choice
  assert set(values) == set(choices)


def test_trivial_augment_wide_draws():
  draw = functools.partial(
    policies.draw_trivial_augment_wide, image_shape=SHAPE
  )
  operation, magnitude = map(np.asarray, jax.vmap(draw)(keys(20_000)))
  assert operation.shape == magnitude.shape == (20_000, 1)
  check_uniform(operation, [operation_number(n) for n in policies.CHOICES])
  table = magnitudes.magnitude_table(SCALES['TrivialAugmentWide'], 32, 32)
  negative = 0
  for name in policies.CHOICES:
    drawn = magnitude[operation == operation_number(name)]
    row = table[operation_number(name)]
    assert set(np.abs(drawn)) == set(row), name  # all bins, nothing else
    if name in magnitudes.SIGNED:
      check_uniform(np.abs(drawn), row)
      nonzero = drawn[drawn != 0]
      n = len(nonzero)
      negative += (nonzero < 0).sum()
      assert abs((nonzero < 0).mean() - 0.5) < 5 * 0.5 / np.sqrt(n)
    else:
      assert (drawn >= 0).all()
  assert negative > 1000


def test_rand_augment_draws():
  draw = functools.partial(
    policies.draw_rand_augment, image_shape=SHAPE, num_operations=3, magnitude=4
  )
  operation, magnitude = map(np.asarray, jax.vmap(draw)(keys(6000)))
  assert operation.shape == (6000, 3)
  for step in range(3):  # each step, and independent of each other
    check_uniform(
      operation[:, step], [operation_number(n) for n in policies.CHOICES]
    )
  same = (operation[:, 0] == operation[:, 1]).mean()
  assert abs(same - 1 / 14) < 5 * np.sqrt(1 / 14 / 6000)
  table = magnitudes.magnitude_table(SCALES['RandAugment'], 32, 32)[:, 4]
  np.testing.assert_array_equal(np.abs(magnitude), table[operation])


def auto_augment_outcomes(policy):
  """((number, magnitude), (number, magnitude)) -> its exact probability."""
  table = magnitudes.magnitude_table(magnitudes.AUTO_AUGMENT, 32, 32)
  outcomes = collections.Counter()
  for pair in policies.SUB_POLICIES[policy]:
    choices = []
    for name, probability, index in pair:
      number = operation_number(name)
      size = float(table[number, index])
      signs = (-1, 1) if name in magnitudes.SIGNED else (1,)
      acting = [((number, s * size), probability / len(signs)) for s in signs]
      choices.append([*acting, ((0, 0.0), 1 - probability)])
    for (first, p), (second, q) in itertools.product(*choices):
      outcomes[first, second] += p * q / 25
  return outcomes


@pytest.mark.parametrize('policy', ['imagenet', 'cifar10'])
def test_auto_augment_draws(policy):
  n = 40_000
  draw = functools.partial(
    policies.draw_auto_augment, image_shape=SHAPE, policy=policy
  )
  operation, magnitude = map(np.asarray, jax.vmap(draw)(keys(n)))
  magnitude = np.where(operation == 0, 0, magnitude)
  drawn = collections.Counter(
    ((int(a), float(x)), (int(b), float(y)))
    for (a, b), (x, y) in zip(operation, magnitude, strict=True)
  )
  expected = auto_augment_outcomes(policy)
  assert sum(expected.values()) == pytest.approx(1)
  assert drawn.keys() <= expected.keys()
  for outcome, p in expected.items():
    error = np.sqrt(n * p * (1 - p))
    assert abs(drawn[outcome] - n * p) <= 5 * error + 1e-6, outcome
  with pytest.raises(ValueError, match="'svhn'; choose from imagenet, cifar10"):
    draw(jax.random.key(0), policy='svhn')


@pytest.mark.parametrize(
  ('policy', 'function'),
  [
    ('TrivialAugmentWide', policies.trivial_augment_wide),
    ('RandAugment', policies.rand_augment),
  ],
)
def test_mean_over_draws_is_torchvisions(
  reference, exact_statistics, policy, function
):
  """Compared with the mean over all outcomes, not with another sample."""
  image = reference('augment/ops_32.npz')['images'][0]
  n = 5000
  out = jax.jit(jax.vmap(function, in_axes=(0, None)))(keys(n, 7), image)
  means = np.asarray(out, np.float64).mean((1, 2, 3))
  exact = exact_statistics[policy]['exact']
  assert abs(means.mean() - exact['mean']) < 5 * exact['std'] / np.sqrt(n)
  assert abs(means.std() / exact['std'] - 1) < 0.1


def test_same_key_same_result_and_another_key_another():
  images = np.random.default_rng(0).integers(0, 256, (3, 10, 12, 3), np.uint8)
  function = jax.jit(jax.vmap(policies.rand_augment))
  once = np.asarray(function(keys(3), images))
  np.testing.assert_array_equal(once, function(keys(3), images))
  others = [np.asarray(function(keys(3, seed), images)) for seed in (1, 2)]
  assert any((once != other).any() for other in others)
  # One image alone, without jit and vmap.
  np.testing.assert_array_equal(
    policies.rand_augment(keys(3)[1], images[1]), once[1]
  )


def test_sequence_keeps_order():
  """Inverting and posterizing do not commute."""
  image = jnp.full((2, 2, 1), 100, jnp.uint8)
  two = jnp.array(
    [operation_number('Posterize'), operation_number('Invert')], jnp.int32
  )
  out = policies.apply_sequence(image, two, jnp.array([1.0, 0.0]))
  assert (np.asarray(out) == 255).all()
  out = policies.apply_sequence(image, two[::-1], jnp.array([0.0, 1.0]))
  assert (np.asarray(out) == 128).all()


def test_a_magnitude_out_of_range_is_refused():
  with pytest.raises(ValueError, match=r'in \[0, 30\], got 2 and 31'):
    policies.draw_rand_augment(jax.random.key(0), SHAPE, magnitude=31)


def test_x64_mode_draws_the_same():
  draws = []
  for enabled in (False, True):
    with jax.enable_x64(enabled):
      key = jax.random.key(0)
      draws.append(
        [
          policies.draw_trivial_augment_wide(key, SHAPE),
          policies.draw_rand_augment(key, SHAPE),
          policies.draw_auto_augment(key, SHAPE, 'imagenet'),
        ]
      )
  for narrow, wide in zip(*map(jax.tree.leaves, draws), strict=True):
    assert narrow.dtype == wide.dtype
    np.testing.assert_array_equal(narrow, wide)
