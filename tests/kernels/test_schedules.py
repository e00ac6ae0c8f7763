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
