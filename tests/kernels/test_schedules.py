"""Schedules against float64 arrays, their limits and their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollify_jax import schedules


def test_noise_scales(reference):
  golden = reference('schedules.npz')
  for name in ('alpha', 'sigma'):
    value = getattr(schedules, name)(golden['t'])
    np.testing.assert_allclose(value, golden[name], rtol=0, atol=1e-6)


def test_snr(reference):
  golden = reference('schedules.npz')
  value = schedules.snr(golden['t'])
  assert value[0] == np.inf
  assert golden['snr'][0] == np.inf
  # t itself is rounded to float32, which 1 - t magnifies next to t = 1.
  np.testing.assert_allclose(value[1:], golden['snr'][1:], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('kind', ['noise', 'blur'])
def test_gammas(reference, kind):
  golden = reference('schedules.npz')
  gamma = getattr(schedules, f'{kind}_gamma')
  powers = golden[f'gamma_{kind}_k']
  assert len(powers) == 4
  for power, expected in zip(powers, golden[f'gamma_{kind}'], strict=True):
    value = gamma(golden['t'], power)
    np.testing.assert_allclose(value, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize('size', [8, 28, 32, 64])
def test_blur_width_and_time(reference, size):
  golden = reference('schedules.npz')
  width = schedules.blur_width(golden['t'], 0.3, size)
  np.testing.assert_allclose(width, golden[f'blur_scale_W{size}'], rtol=1e-6)
  np.testing.assert_allclose(
    schedules.dissipation_time(width), golden[f'tau_W{size}'], rtol=1e-6
  )


def test_limits_are_exact():
  assert schedules.alpha(1.0) == 0
  assert schedules.alpha(0.0) == 1
  assert schedules.sigma(0.0) == 0
  assert schedules.sigma(1.0) == 1
  for power in (0.5, 1.0, 2.0, 100.0):
    for gamma in (schedules.noise_gamma, schedules.blur_gamma):
      assert gamma(0.0, power) == 0
      assert gamma(1.0, power) == 1
  assert schedules.blur_width(1.0, 0.3, 32.0) == 32


def test_variance_is_preserved():
  t = jnp.linspace(0, 1, 1001)
  total = schedules.alpha(t) ** 2 + schedules.sigma(t) ** 2
  np.testing.assert_allclose(total, 1, atol=3e-7)


@pytest.mark.parametrize('power', [0.5, 1.0, 2.0, 100.0])
def test_gradients_are_right_at_and_between_the_ends(power):
  t = np.array([0.0, 1e-3, 0.3, 0.499, 0.5, 0.7, 1.0])
  value = jax.vmap(jax.grad(schedules.noise_gamma), (0, None))(t, power)
  half = np.pi * t / 2
  exact = np.pi * power * np.sin(half) ** (2 * power - 1) * np.cos(half)
  np.testing.assert_allclose(value, exact, rtol=2e-4, atol=1e-5)
  if power >= 1:
    value = jax.vmap(jax.grad(schedules.blur_gamma), (0, None))(t, power)
    np.testing.assert_allclose(
      value, power * t ** (power - 1), rtol=2e-5, atol=1e-6
    )


@pytest.mark.parametrize(
  ('minimum', 'maximum'), [(0.0, 8.0), (-1.0, 8.0), (9.0, 8.0), (0.3, np.inf)]
)
def test_impossible_widths_are_refused(minimum, maximum):
  with pytest.raises(ValueError, match='0 < minimum <= maximum, got minimum='):
    schedules.blur_width(0.5, minimum, maximum)


KNOTS = (0.0, 0.1, 0.1, 0.7, 1.0)


def test_gamma_from_knots_is_linear_between_them():
  t = np.linspace(0, 1, 1001)
  exact = np.interp(t, np.linspace(0, 1, 5), KNOTS)
  gamma = jax.jit(lambda t: schedules.gamma_from_knots(t, KNOTS))
  np.testing.assert_allclose(gamma(t), exact, rtol=0, atol=1e-6)
  one_by_one = jax.vmap(lambda t: schedules.gamma_from_knots(t, KNOTS))(t)
  np.testing.assert_allclose(one_by_one, exact, rtol=0, atol=1e-6)
  assert gamma(t).dtype == jnp.float32


@pytest.mark.parametrize('knots', [KNOTS, (0.3, 0.3), (1.0, 1.0, 1.0)])
def test_gamma_from_knots_meets_its_knots_and_never_leaves_them(knots):
  at = np.linspace(0, 1, len(knots), dtype=np.float32)
  value = schedules.gamma_from_knots(at, knots)
  if len(knots) in (2, 3, 5):  # where float32 has the very t
    np.testing.assert_array_equal(value, np.float32(knots))
  t = np.random.default_rng(0).random(20_000, np.float32)
  value = schedules.gamma_from_knots(np.sort(t), knots)
  assert value.min() >= np.float32(min(knots))
  assert value.max() <= np.float32(max(knots))
  assert np.diff(value).min() >= -2e-7


def test_gradients_of_gamma_from_knots():
  t = np.array([0.0, 0.1, 0.25, 0.3, 0.5, 0.6, 0.99, 1.0])
  slope = jax.vmap(jax.grad(lambda t: schedules.gamma_from_knots(t, KNOTS)))(t)
  exact = np.diff(KNOTS)[np.minimum((4 * t).astype(int), 3)] * 4
  np.testing.assert_allclose(slope, exact, rtol=1e-5, atol=1e-6)
  # In the knots: the weights of the two neighbours.
  weights = jax.grad(lambda knots: schedules.gamma_from_knots(0.3, knots))(
    jnp.array(KNOTS)
  )
  np.testing.assert_allclose(weights, [0, 0.8, 0.2, 0, 0], atol=1e-6)


@pytest.mark.parametrize(
  ('knots', 'error', 'message'),
  [
    (0.5, TypeError, 'a must be a tuple of numbers, got 0.5'),
    ((0.0, '1'), TypeError, 'a must be a tuple of numbers'),
    ((0.0, True), TypeError, 'a must be a tuple of numbers'),
    ((0.5,), ValueError, r'at least two values.*got \(0.5,\)'),
    ((0.0, 1.5), ValueError, r'a must be in \[0, 1\], got 1.5'),
    ((0.0, float('nan')), ValueError, r'a must be in \[0, 1\], got nan'),
    ((0.2, 0.1), ValueError, 'never decrease, got 0.1 after 0.2'),
  ],
)
def test_knots_that_are_no_schedule_are_refused(knots, error, message):
  with pytest.raises(error, match=message):
    schedules.check_knots('a', knots)


def test_one_knot_is_no_schedule():
  with pytest.raises(ValueError, match=r'at least two knots \[M\], got shape'):
    schedules.gamma_from_knots(0.5, (0.5,))
