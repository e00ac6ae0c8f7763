"""Sampled corruptions: the moments of the authors' draws, over many of ours."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from mollify_jax.corruptions import (
  PARAMETER_SETS,
  cell_keys,
  corrupt,
)

SETS = {facts.size: name for name, facts in PARAMETER_SETS.items()}
RANDOM = (
  'shot_noise',
  *(
    pytest.param(name, marks=pytest.mark.slow)
    for name in (
      'gaussian_noise',
      'impulse_noise',
      'glass_blur',
      'motion_blur',
      'snow',
      'frost',
      'fog',
      'elastic_transform',
      'speckle_noise',
      'spatter',
    )
  ),
)
DRAWS = {32: 400, 64: 60, 224: 12}


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def draw_statistics(keys, image, name, severity, parameters):
  """What the reference measures, [draws, ...] each."""

  def one(key):
    after = corrupt(key, image, name, severity, parameters).astype(jnp.float32)
    before = image.astype(jnp.float32)
    change = after - before
    red, green = (change[..., i] - change[..., i].mean() for i in range(2))
    spread = jnp.sqrt((red**2).sum() * (green**2).sum())
    return {
      'rmse': jnp.sqrt((change**2).mean()),
      'chmean': after.mean((0, 1)),
      'sat0': (after == 0).mean(),
      'sat255': (after == 255).mean(),
      'rgcorr': (red * green).sum() / jnp.maximum(spread, 1e-9),
      'ps': radial_spectrum(change / 255),
    }

  return jax.vmap(one)(keys)


def radial_spectrum(change):
  size = change.shape[0]
  frequency = np.fft.fftfreq(size, 1 / size)
  radius = np.hypot(frequency[:, None], frequency)
  slot = np.minimum((16 * radius / (size / 2)).astype(int), 16)
  power = jnp.abs(jnp.fft.fft2(change, axes=(0, 1))) ** 2 / size**2
  power = power.mean(axis=2).reshape(-1)
  sums = jax.ops.segment_sum(power, slot.reshape(-1), num_segments=17)
  return sums / np.bincount(slot.reshape(-1), minlength=17)


def standard_errors(what, draws, mean, spread, count):
  """How far two samples' means are apart, as a standard normal would be.

  Welch's test: with a dozen draws, five standard errors are nothing unusual.
  """
  draws = np.asarray(draws, np.float64)
  theirs = np.float64(spread) ** 2 / count
  ours = draws.std(axis=0, ddof=1) ** 2 / len(draws)
  # The stored float32 is rounded; a fraction of values moves in whole values.
  floor = 1e-4 * np.abs(mean) + (2e-5 if what.startswith('sat') else 1e-9)
  error = np.sqrt(theirs + ours)
  freedom = (theirs + ours) ** 2 / np.maximum(
    theirs**2 / (count - 1) + ours**2 / (len(draws) - 1), 1e-300
  )
  t = (draws.mean(axis=0) - mean) / (error + floor)
  tail = scipy.stats.t.sf(np.abs(t), np.maximum(freedom, 1))
  return np.sign(t) * scipy.stats.norm.isf(tail)


@pytest.mark.parametrize('name', RANDOM)
def test_moments_are_those_of_the_authors_draws(corruption_statistics, name):
  arrays, size, severities = corruption_statistics
  inputs = arrays['inputs']
  theirs_n = int(arrays[f'{name}__n_draws'])
  ours_n = min(DRAWS[size], 4 * theirs_n)
  scores = []
  for severity in severities:
    for number, image in enumerate(inputs):
      first = 10_000 * number
      keys = cell_keys(5, name, severity, jnp.arange(first, first + ours_n))
      ours = draw_statistics(keys, image, name, severity, SETS[size])
      for what, draws in ours.items():
        theirs = [
          arrays[f'{name}__{what}_{moment}'][severity - 1, number]
          for moment in ('mean', 'std')
        ]
        scores.append(np.ravel(standard_errors(what, draws, *theirs, theirs_n)))
  scores = np.concatenate(scores)
  assert np.isfinite(scores).all()
  assert np.abs(scores).max() < 5, (
    f'{name} at {size}: {np.abs(scores).max():.1f} standard errors'
  )
  # And not merely within the noise: about as many on either side.
  assert abs(np.mean(scores)) < 0.5
