"""Temperature scaling: the fit, and what a run leaves of it."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special

from mollify_jax.data import catalog
from mollify_jax.evaluation import corruption_tables, reports
from mollify_jax.evaluation.temperature_scaling import (
  LEAST,
  MOST,
  fit_temperature,
)
from mollify_jax.kernels.pixels import normalize_images
from mollify_jax.training.finished import open_run


def nll(logits, labels, temperature):
  log_p = special.log_softmax(np.float64(logits) / temperature, axis=1)
  return -log_p[np.arange(len(labels)), labels].mean()


def draw(seed, n=5000, classes=7, spread=3.0, temperature=1.0):
  """Logits, and labels that are drawn from softmax(logits / temperature)."""
  random = np.random.default_rng(seed)
  logits = random.normal(0, spread, (n, classes)).astype(np.float32)
  noise = random.gumbel(size=logits.shape)
  return logits, (logits / temperature + noise).argmax(axis=1)


@pytest.mark.parametrize(
  ('spread', 'temperature'),
  [(3.0, 1.0), (3.0, 4.0), (3.0, 0.2), (0.05, 1.0), (300.0, 19.0), (1e4, 15.0)],
)
def test_fit_against_scipy(spread, temperature):
  logits, labels = draw(0, spread=spread, temperature=temperature)
  fit = fit_temperature(logits, labels)
  found = optimize.minimize_scalar(
    lambda log_t: nll(logits, labels, np.exp(log_t)),
    bounds=(np.log(LEAST), np.log(MOST)),
    method='bounded',
    options={'xatol': 1e-9},
  )
  assert fit.nll <= found.fun + 1e-12
  assert fit.nll == pytest.approx(nll(logits, labels, fit.temperature))
  assert not fit.at_bound
  np.testing.assert_allclose(fit.temperature, np.exp(found.x), rtol=1e-5)


def test_the_temperature_of_the_labels_is_found():
  logits, labels = draw(1, n=40_000, temperature=2.5)
  assert fit_temperature(logits, labels).temperature == pytest.approx(
    2.5, rel=0.03
  )
  # Dividing the logits divides the temperature.
  one = fit_temperature(logits, labels).temperature
  two = fit_temperature(logits / np.float32(2), labels).temperature
  assert two == pytest.approx(one / 2, rel=1e-6)
  # A constant on all logits of an example changes nothing.
  moved = logits + np.arange(len(logits), dtype=np.float64)[:, np.newaxis]
  assert fit_temperature(moved, labels).temperature == pytest.approx(
    one, rel=1e-6
  )


def test_bounds_are_met_and_said():
  logits, labels = draw(2)
  right = logits.argmax(axis=1)
  assert fit_temperature(logits, right)[::2] == (pytest.approx(LEAST), True)
  wrong = logits.argmin(axis=1)
  assert fit_temperature(logits, wrong)[::2] == (pytest.approx(MOST), True)
  flat = fit_temperature(np.zeros((5, 3), np.float32), np.arange(5) % 3)
  assert flat == (1.0, pytest.approx(np.log(3)), False)
  assert fit_temperature(logits, labels).at_bound is False


@pytest.mark.parametrize(
  ('logits', 'labels', 'message'),
  [
    (np.zeros((0, 3)), np.zeros(0, int), r'\(0, 3\).*give \[N, K\]'),
    (np.zeros((4, 3)), np.zeros(3, int), r'labels \(3,\) have no temperature'),
    (np.full((2, 3), np.nan), np.zeros(2, int), 'not finite'),
  ],
)
def test_what_has_no_temperature(logits, labels, message):
  with pytest.raises(ValueError, match=message):
    fit_temperature(logits, labels)


def test_a_run_leaves_both_kinds_of_figures(held_out_run, capsys):
  results = reports.read_results(held_out_run / 'results.json')
  scaling = results['temperature_scaling']
  assert scaling['split'] == 'validation'
  assert scaling['examples'] == 287

  # The temperature is that of the held-out images, not of the test set.
  run = open_run(held_out_run)
  data = catalog.load(run.spec.data, held_out_run)

  def logits(images):
    pixels = normalize_images(jnp.asarray(images), run.mean, run.std)
    return np.asarray(run.model.apply(run.variables, pixels, train=False))

  fit = fit_temperature(logits(data.validation_images), data.validation_labels)
  assert scaling['temperature'] == pytest.approx(fit.temperature, rel=1e-5)
  assert abs(np.log(fit.temperature)) > 0.1  # else nothing could differ

  assert all('scaled' not in row for row in results['conditions'])
  scaled = reports.scaled(results)
  assert scaled['method'] == 'diffusion_blur + temperature scaling'
  assert 'temperature_scaling' not in scaled
  clean = scaled['conditions'][0]
  assert clean['nll'] == pytest.approx(
    nll(logits(data.test_images), data.test_labels, fit.temperature), rel=1e-5
  )
  pairs = [(results['conditions'], scaled['conditions'])]
  pairs += [(results['corrupted']['cells'], scaled['corrupted']['cells'])]
  for plain, other in pairs:
    assert len(plain) == len(other) > 2
    for a, b in zip(plain, other, strict=True):
      assert a.keys() == b.keys()
      assert a['error'] == b['error']  # the order of classes stays
      assert a['n'] == b['n'] == 100
      assert a['nll'] != b['nll']
      for name in ('corruption', 't', 'severity', 'label_confidence'):
        assert a.get(name) == b.get(name)

  for module in (reports, corruption_tables):
    assert module.main(['--temperature_scaling', str(held_out_run)]) == 0
    text = capsys.readouterr().out
    assert 'diffusion_blur + temperature scaling' in text


def test_records_without_or_with_damaged_scaling(
  held_out_run, changed_run, capsys
):
  record = json.loads((held_out_run / 'results.json').read_text())
  del record['temperature_scaling']
  with pytest.raises(ValueError, match='validation_fraction > 0, on which it'):
    reports.scaled(record)
  with pytest.raises(ValueError, match='has no temperature scaling'):
    reports.with_scaled([record])

  def damage(record):
    del record['temperature_scaling']['conditions'][1]['nll']

  workdir = changed_run(damage)
  for module in (reports, corruption_tables):
    assert module.main(['--temperature_scaling', str(workdir)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert 'is damaged (temperature_scaling: nll of number 1' in line
