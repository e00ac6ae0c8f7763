"""AugMix: recorded draws, the mixture, and what is drawn how often."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollify_jax.augment import chains
from mollify_jax.augment.magnitudes import SIGNED
from mollify_jax.augment.operations import operation_number

SHAPE = (32, 32, 3)


def keys(count, seed=0):
  return jax.random.split(jax.random.key(seed), count)


def recorded(arrays, facts, tag):
  """(images, AugMixDraw) of torchvision's recorded draws."""
  names = facts['AugMix']['operations']
  ours = np.array([operation_number(name) for name in names], np.int32)
  index = arrays[f'{tag}__op']
  draw = chains.AugMixDraw(
    jnp.asarray(np.where(index >= 0, ours[np.maximum(index, 0)], 0)),
    jnp.asarray(arrays[f'{tag}__magnitude'].astype(np.float32)),
    jnp.asarray(arrays[f'{tag}__m']),
    jnp.asarray(arrays[f'{tag}__w']),
  )
  return arrays[f'images_{tag[-2:]}'][arrays[f'{tag}__image']], draw


@pytest.mark.parametrize(
  'tag', ['augmix_32', pytest.param('augmix_64', marks=pytest.mark.slow)]
)
def test_augmix_equals_torchvision(reference, facts, tag):
  arrays = reference('augment/sampled.npz')
  images, draw = recorded(arrays, facts, tag)

  @jax.jit
  @jax.vmap
  def run(image, draw):
    ends = chains.run_chains(image, draw)
    return ends, chains.mix_chains(image, ends, draw)

  ends, out = run(images, draw)
  difference = np.abs(np.asarray(out).astype(int) - arrays[f'{tag}__out'])
  assert difference.max() <= 2
  assert (difference > 0).mean() <= 0.003
  if f'{tag}__chains' in arrays:
    wrong = np.asarray(ends) != arrays[f'{tag}__chains']
    assert wrong.mean() <= 0.002
    mixed = jax.jit(jax.vmap(chains.mix_chains))(
      images, arrays[f'{tag}__chains'], draw
    )
    difference = np.asarray(mixed).astype(int) - arrays[f'{tag}__out']
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() <= 0.001


def test_operations_are_torchvisions(facts):
  assert set(chains.CHOICES) == set(facts['AugMix']['operations'])
  assert len(chains.CHOICES) == 13


def test_a_mixture_in_float64():
  random = np.random.default_rng(0)
  image = random.integers(0, 256, (4, 5, 3)).astype(np.uint8)
  ends = random.integers(0, 256, (2, 4, 5, 3)).astype(np.uint8)
  draw = chains.AugMixDraw(
    None, None, jnp.array([0.3, 0.7]), jnp.array([0.9, 0.1])
  )
  want = 0.3 * image + 0.7 * (0.9 * ends[0] + 0.1 * ends[1])
  out = np.asarray(chains.mix_chains(image, ends, draw))
  near_whole = np.abs(want - np.round(want)) < 1e-3
  np.testing.assert_array_equal(out[~near_whole], np.floor(want)[~near_whole])


def test_draws_have_the_stated_distributions():
  n = 6000
  draw = jax.vmap(functools.partial(chains.draw_augmix, image_shape=SHAPE))(
    keys(n)
  )
  operation = np.asarray(draw.operation)
  assert operation.shape == (n, 3, 3)
  acts = operation != operation_number('Identity')
  depth = acts.sum(2)
  # A chain ends once and for all.
  assert (acts == (np.arange(3) < depth[..., None])).all()
  for length in (1, 2, 3):
    share = (depth == length).mean()
    assert abs(share - 1 / 3) < 5 * np.sqrt(2 / 9 / depth.size)
  drawn = operation[acts]
  for name in chains.CHOICES:
    p = 1 / 13
    share = (drawn == operation_number(name)).mean()
    assert abs(share - p) < 5 * np.sqrt(p * (1 - p) / drawn.size), name
  # Posterize has 4, 4 and 3 bits at the three bins of severity 3.
  bits = np.asarray(draw.magnitude)[operation == operation_number('Posterize')]
  assert set(bits) == {3.0, 4.0}
  assert abs((bits == 3).mean() - 1 / 3) < 5 * np.sqrt(2 / 9 / bits.size)
  degrees = np.asarray(draw.magnitude)[operation == operation_number('Rotate')]
  assert len(set(degrees)) == 5  # 0 and two of both signs
  assert np.abs(degrees).max() < 7

  keep, weights = np.asarray(draw.keep), np.asarray(draw.weights)
  for share, count in ((keep, 2), (weights, 3)):
    np.testing.assert_allclose(share.sum(1), 1, atol=1e-6)
    # Dirichlet(1, ..., 1): variance (c - 1) / (c^2 (c + 1)).
    variance = (count - 1) / (count**2 * (count + 1))
    for column in share.T:
      assert abs(column.mean() - 1 / count) < 5 * np.sqrt(variance / n)
      assert abs(column.var() / variance - 1) < 0.1
  signed = np.asarray(draw.magnitude)[
    np.isin(operation, [operation_number(name) for name in SIGNED])
  ]
  signed = signed[signed != 0]
  assert abs((signed < 0).mean() - 0.5) < 5 * 0.5 / np.sqrt(signed.size)
  # Nothing that is drawn tells of anything else.
  columns = np.concatenate(
    [
      *(keep[:, :1], weights[:, :2], depth, operation[:, :, 0]),
      np.asarray(draw.magnitude)[:, :, 0] < 0,
    ],
    axis=1,
  )
  correlation = np.corrcoef(columns.T.astype(float))
  fixed = np.eye(len(correlation), dtype=bool)
  fixed[1:3, 1:3] = True  # weights sum to 1
  for chain in range(3):  # only some operations have a sign
    fixed[6 + chain, 9 + chain] = fixed[9 + chain, 6 + chain] = True
  assert np.abs(correlation[~fixed]).max() < 5 / np.sqrt(n)


@pytest.mark.slow  # compiles the sampler of gamma
def test_depth_and_alpha_can_be_set():
  draw = jax.vmap(
    functools.partial(
      chains.draw_augmix, image_shape=SHAPE, width=2, depth=4, alpha=50.0
    )
  )(keys(200))
  assert draw.operation.shape == (200, 2, 4)
  assert (np.asarray(draw.operation) != 0).all()
  assert 0.03 < np.asarray(draw.weights)[:, 0].std() < 0.07  # 0.05 by theory


def test_parameters_reach_the_draw(monkeypatch):
  calls = []

  def record(key, image_shape, **parameters):
    calls.append((image_shape, parameters))
    return None

  monkeypatch.setattr(chains, 'draw_augmix', record)
  monkeypatch.setattr(chains, 'apply_augmix', lambda image, draw: image)
  parameters = {'severity': 4, 'width': 2, 'depth': 1, 'alpha': 0.3}
  chains.augmix(jax.random.key(0), np.zeros(SHAPE, np.uint8), **parameters)
  assert calls == [(SHAPE, parameters)]


@pytest.mark.slow
def test_one_image_equals_its_place_in_a_batch():
  images = np.random.default_rng(0).integers(0, 256, (4, 9, 8, 3), np.uint8)
  batch = jax.jit(jax.vmap(chains.augmix))(keys(4), images)
  assert batch.dtype == np.uint8
  alone = jax.jit(chains.augmix)(keys(4)[2], images[2])
  np.testing.assert_array_equal(alone, batch[2])


@pytest.mark.parametrize('width', [1, 3])
def test_weights_of_draws_that_are_all_zero(monkeypatch, width):
  """An exponential draw is 0 once in 2^23 times; 0 / 0 would be NaN."""
  monkeypatch.setattr(
    jax.random, 'exponential', lambda key, shape, dtype: jnp.zeros(shape, dtype)
  )
  draw = chains.draw_augmix(jax.random.key(0), SHAPE, width=width)
  np.testing.assert_allclose(draw.keep, 0.5)
  np.testing.assert_allclose(draw.weights, 1 / width, rtol=1e-6)
