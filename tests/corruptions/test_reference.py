"""Every corruption against what the authors' scripts made of the same images.

Deterministic ones, and random ones with their randomness given: at most one
grey level apart everywhere, and equal on at least 99 % of the values at every
severity; those in EXACT on all of them.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollify_jax.corruptions import (
  PARAMETER_SETS,
  SEVERITIES,
  blur,
  corrupt_with,
  elastic,
  noise,
  parameters_for,
  spatter,
  weather,
)
from mollify_jax.corruptions.textures import frost_textures

SETS = {facts.size: name for name, facts in PARAMETER_SETS.items()}
# Three compilations of everything are a minute's work.
SIZES = [
  size if size == 32 else pytest.param(size, marks=pytest.mark.slow)
  for size in SETS
]
EXACT = (
  'gaussian_noise',
  'shot_noise',
  'impulse_noise',
  'speckle_noise',
  'brightness',
  'saturate',
  'contrast',
  'jpeg_compression',
  'pixelate',
)
DETERMINISTIC = (
  'defocus_blur',
  'gaussian_blur',
  'zoom_blur',
  'brightness',
  'contrast',
  'saturate',
  'jpeg_compression',
  'pixelate',
)


def check(name, size, pairs):
  """Compares [(ours, theirs)], one pair per severity."""
  compared = 0
  for ours, theirs in pairs:
    ours = np.asarray(ours)
    assert ours.dtype == theirs.dtype == np.uint8
    # The committed arrays of the largest size hold a corner only (and of the
    # height map of fog, which no other pixel looks at).
    ours = ours[:, : theirs.shape[1], : theirs.shape[2]].astype(int)
    difference = np.abs(ours - theirs)
    compared += 1
    assert difference.max() <= (0 if name in EXACT else 1), (name, size)
    equal = (difference == 0).mean()
    assert equal >= 0.99, f'{name} at {size}, case {compared}: {equal:.5f}'
  assert compared > 0


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('name', DETERMINISTIC)
def test_deterministic(corruption_arrays, name, size):
  arrays = corruption_arrays('deterministic', size)
  inputs = arrays['inputs']

  def pairs():
    for severity in SEVERITIES:
      run = functools.partial(
        corrupt_with,
        randomness=(),
        name=name,
        severity=severity,
        parameters=SETS[size],
      )
      yield jax.jit(jax.vmap(run))(inputs), arrays[name][severity - 1]

  check(name, size, pairs())


def fog_draws(arrays, case, decay):
  """Uniform in (-1, 1) of those that the reference has scaled by level."""
  draws = arrays['fog__draws'][case]
  scales, amplitude, side = [], 100.0, 1
  while side * side <= draws.shape[-1]:
    scales.append(np.full(3 * side * side, amplitude))
    amplitude, side = amplitude / decay, 2 * side
  return (draws / np.concatenate(scales)).astype(np.float32)


def glass_offsets(arrays, severity, shape, max_delta, iterations):
  offsets = arrays[f'glass_blur__dxdy_s{severity}']
  rows, columns = (n - 2 * max_delta for n in shape[:2])
  return offsets.reshape(-1, iterations, rows, columns, 2)


def frost_crops(arrays, case, size):
  textures = frost_textures(PARAMETER_SETS[SETS[size]].texture_scale)
  return np.stack(
    [
      textures[index][row : row + size, column : column + size]
      for index, (row, column) in zip(
        arrays['frost__texture_index'][case],
        arrays['frost__row_col'][case],
        strict=True,
      )
    ]
  )


def run_explicit(name, arrays, case, size):
  """Our output [E, H, W, C] for one severity of one random corruption."""
  severity = int(arrays[f'{name}__severity'][case])
  p = parameters_for(name, severity, SETS[size])
  images = arrays['inputs'][arrays[f'{name}__image'][case]]

  def given(what):
    return arrays[f'{name}__{what}'][case].astype(np.float32)

  if name in ('gaussian_noise', 'speckle_noise'):
    kernel = {
      'gaussian_noise': noise.add_gaussian_noise,
      'speckle_noise': noise.add_speckle_noise,
    }[name]
    randomness = (given('z'),)
  elif name == 'shot_noise':
    kernel, randomness = (
      noise.expose_photons,
      (arrays[f'{name}__counts'][case],),
    )
  elif name == 'impulse_noise':
    kernel, randomness = (
      noise.replace_impulses,
      (arrays[f'{name}__mask'][case],),
    )
    p = {}
  elif name == 'glass_blur':
    kernel = blur.shuffle_glass
    randomness = (
      glass_offsets(
        arrays,
        severity,
        images.shape[1:],
        p['max_delta'],
        p['iterations'],
      ),
    )
  elif name == 'motion_blur':
    kernel, randomness = blur.smear_motion, (given('angle'),)
  elif name == 'fog':
    if f'{name}__draws' in arrays:
      kernel = weather.add_plasma_fog
      randomness = (fog_draws(arrays, case, p['decay']),)
      p['grid'] = PARAMETER_SETS[SETS[size]].fog_grid
    else:  # the largest has no draws
      kernel, randomness = weather.add_fog, (given('heightmap'),)
      del p['decay']
  elif name == 'frost':
    kernel, randomness = weather.add_frost, (frost_crops(arrays, case, size),)
  elif name == 'snow':
    kernel, randomness = weather.cover_with_snow, (given('z'), given('angle'))
  elif name == 'spatter':
    kernel, randomness = spatter.spatter, (given('z'),)
  elif name == 'elastic_transform':
    kernel = elastic.warp_elastic
    smooth = np.stack([given('smooth_u_dx'), given('smooth_u_dy')], axis=1)
    randomness = (given('corner_shift'), smooth)
    p = {'alpha': p['alpha']}
  run = jax.jit(jax.vmap(lambda image, *r: kernel(image, *r, **p)))
  return run(images, *randomness).astype(jnp.uint8)


AT_EVERY_SIZE = (
  'glass_blur',
  'motion_blur',
  'fog',
  'frost',
  'snow',
  'spatter',
  'elastic_transform',
)
# Seconds of compilation per severity.
COSTLY = ('snow', 'spatter', 'elastic_transform')
AT_32 = ('gaussian_noise', 'speckle_noise', 'shot_noise', 'impulse_noise')


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize(
  'name',
  [
    pytest.param(name, marks=pytest.mark.slow) if name in COSTLY else name
    for name in AT_EVERY_SIZE
  ],
)
def test_with_the_randomness_given(corruption_arrays, name, size):
  check_explicit(corruption_arrays, name, size)


@pytest.mark.parametrize('name', AT_32)
def test_noise_with_the_randomness_given(corruption_arrays, name):
  check_explicit(corruption_arrays, name, 32)


def check_explicit(corruption_arrays, name, size):
  arrays = corruption_arrays('explicit', size)
  check(
    name,
    size,
    (
      (run_explicit(name, arrays, case, size), arrays[f'{name}__out'][case])
      for case in range(len(arrays[f'{name}__severity']))
    ),
  )


@pytest.mark.slow
def test_fog_of_the_reference_has_this_height_map(corruption_arrays):
  arrays = corruption_arrays('explicit', 32)
  for case, severity in enumerate(arrays['fog__severity']):
    decay = parameters_for('fog', int(severity), 'cifar')['decay']
    ours = jax.vmap(functools.partial(weather.plasma, decay=decay))(
      fog_draws(arrays, case, decay)
    )
    np.testing.assert_allclose(ours, arrays['fog__heightmap'][case], atol=1e-6)


def test_frost_textures_are_those_of_the_reference(corruption_arrays):
  for size in (32, 64):
    arrays = corruption_arrays('explicit', size)
    for case in range(len(arrays['frost__severity'])):
      np.testing.assert_array_equal(
        frost_crops(arrays, case, size), arrays['frost__crop_rgb'][case]
      )


@pytest.mark.slow
def test_snow_flakes_are_those_of_the_reference(corruption_arrays):
  for size in SETS:
    arrays = corruption_arrays('explicit', size)
    for case, severity in enumerate(arrays['snow__severity']):
      p = parameters_for('snow', int(severity), SETS[size])
      flakes = jax.vmap(
        lambda z, p=p: weather.snow_flakes(
          z,
          loc=p['loc'],
          scale=p['scale'],
          zoom=p['zoom'],
          threshold=p['threshold'],
        )
      )(arrays['snow__z'][case].astype(np.float32))
      np.testing.assert_array_equal(
        flakes[..., 0], arrays['snow__layer_before_blur_u8'][case]
      )
      smeared = jax.vmap(
        lambda f, a, p=p: blur.smear_levels(
          f, a, radius=p['blur_radius'], sigma=p['blur_sigma']
        )
      )(flakes, arrays['snow__angle'][case])
      np.testing.assert_array_equal(
        smeared[..., 0], arrays['snow__layer_blurred_u8'][case]
      )


def test_defocus_kernels_are_those_of_the_reference(corruption_arrays):
  for size in SETS:
    arrays = corruption_arrays('aux', size)
    for severity in SEVERITIES:
      p = parameters_for('defocus_blur', severity, SETS[size])
      np.testing.assert_allclose(
        blur.disc_kernel(**p),
        arrays[f'defocus_kernel_s{severity}'],
        atol=2e-9,
      )
