"""The fitted label schedule: algebra, least squares, and the command."""

import ast
import json

import numpy as np
import pytest
from scipy import optimize

from mollify_jax.evaluation import label_schedule
from mollify_jax.kernels.mollify import MollifySpec

K = 10


@pytest.mark.parametrize('seed', range(5))
def test_isotonic_against_scipy(seed):
  random = np.random.default_rng(seed)
  values = random.normal(size=30) + np.linspace(0, 1, 30)
  values[5:9] = values[5]  # ties
  weights = random.uniform(0.1, 5, 30)
  expected = optimize.isotonic_regression(values, weights=weights).x
  np.testing.assert_allclose(
    label_schedule.isotonic(values, weights), expected, rtol=1e-12
  )
  assert list(label_schedule.isotonic([3, 2], [1, 3])) == [2.25, 2.25]


def curves(seed, knots=11):
  """Confidence without softening, accuracy below it, and an old schedule."""
  random = np.random.default_rng(seed)
  t = np.linspace(0, 1, knots)
  q = 0.15 + 0.8 * (1 - t) ** 0.5 + random.uniform(-0.02, 0.02, knots)
  return q, t


def test_the_schedule_of_calibration_is_recovered():
  """Confidence under the fitted labels is the accuracy, at every t."""
  q, t = curves(0)
  wanted = 0.7 * t**2
  accuracy = (1 - wanted) * q + wanted / K
  for old in (np.zeros(11), t, np.sin(np.pi * t / 2) ** 2):
    confidence = (1 - old) * q + old / K
    known = old <= label_schedule.LIMIT
    np.testing.assert_allclose(
      label_schedule.unsoftened_confidence(confidence, old, K)[known], q[known]
    )
    knots = label_schedule.fit_gamma(
      accuracy, confidence, old, K, np.full(11, 50)
    )
    np.testing.assert_allclose(knots[known], wanted[known], atol=1e-12)
    # What could not be measured goes on as before.
    np.testing.assert_array_equal(knots[~known], knots[known][-1])


@pytest.mark.parametrize('seed', range(3))
def test_no_other_schedule_is_nearer_to_calibration(seed):
  q, _ = curves(seed)
  random = np.random.default_rng(seed + 10)
  # Negative at first, decreasing in between, beyond 1 at the end.
  accuracy = np.clip(q * random.uniform(0.5, 1.2, 11), 0.02, 1)
  accuracy[-1] = 0.05
  counts = random.integers(20, 200, 11)
  knots = label_schedule.fit_gamma(accuracy, q, np.zeros(11), K, counts)
  assert (np.diff(knots) >= 0).all()
  assert knots.min() >= 0
  assert knots.max() <= 1

  def gap(gamma):
    return np.sum(counts * ((1 - gamma) * q + gamma / K - accuracy) ** 2)

  for _ in range(3000):
    step = 10 ** random.uniform(-4, 0)
    other = np.sort(np.clip(knots + random.normal(0, step, 11), 0, 1))
    assert gap(other) >= gap(knots) - 1e-9


def test_negative_softening_counts_before_it_is_cut_off():
  """0.5 and -1 pool to less than 0; cut off first, they would give 0.25."""
  q, wanted = np.full(3, 0.9), np.array([0.5, -1.0, 0.8])
  knots = label_schedule.fit_gamma(
    (1 - wanted) * q + wanted / K, q, np.zeros(3), K, np.full(3, 50)
  )
  np.testing.assert_allclose(knots, [0, 0, 0.8], atol=1e-12)


def test_an_under_confident_network_gets_no_softening():
  q, t = curves(0)
  knots = label_schedule.fit_gamma(
    np.minimum(q + 0.05, 1), (1 - t) * q + t / K, t, K, np.full(11, 50)
  )
  np.testing.assert_array_equal(knots, 0)


def test_nothing_to_fit_to_is_said():
  ones = np.ones(3)
  for confidence, gamma in ((0.5 * ones, ones), (ones / K, 0 * ones)):
    with pytest.raises(ValueError, match='nothing to fit to; train with less'):
      label_schedule.fit_gamma(0.5 * ones, confidence, gamma, K, ones)


def test_the_command_prints_flags_that_a_config_takes(
  held_out_run, tmp_path, capsys
):
  out = tmp_path / 'gamma.json'
  before = sorted(held_out_run.iterdir())
  arguments = [str(held_out_run), '--knots=4', f'--out={out}']
  assert label_schedule.main(arguments) == 0
  text = capsys.readouterr().out
  record = json.loads(out.read_text())
  assert record['examples'] == 287  # a fifth of each class of 1,437
  assert record['split'] == 'validation'
  assert list(record['gamma']) == ['noise', 'blur']
  fields = {}
  *knots, last = record['flags']
  assert last == '--config.fitted_on=diffusion_blur'
  assert last in text
  for flag in knots:
    assert flag in text
    name, _, value = flag.removeprefix('--config.mollify.').partition('=')
    fields[name] = ast.literal_eval(value.strip('"'))
  spec = MollifySpec(**fields)  # powers are 2 in configs/digits.py
  for kind, rows in record['gamma'].items():
    assert [row['t'] for row in rows] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert [row['old_gamma'] for row in rows][3] == pytest.approx(1)
    assert rows[3]['unsoftened_confidence'] is None
    knots = getattr(spec, f'{kind}_gamma_knots')
    assert list(knots) == [row['new_gamma'] for row in rows]
  assert sorted(held_out_run.iterdir()) == before


def refuse(capsys, *arguments):
  assert label_schedule.main([str(a) for a in arguments]) == 1
  captured = capsys.readouterr()
  assert captured.out == ''
  (line,) = captured.err.splitlines()
  assert line.startswith('error: ')
  return line


@pytest.mark.parametrize(
  ('section', 'field', 'value', 'message'),
  [
    ('data', 'validation_fraction', 0.0, 'trained on all of its images; want'),
    ('data', 'validation_seed', 5, 'bring back the data that it was trained'),
    ('mollify', 'label_rule', 'decay', "wanted a run with 'smooth'"),
    ('mollify', 'roles', ['clean'], "wanted a run with 'noise' or 'blur'"),
    (None, 'loss', 'normalized_cross_entropy', 'is not the mean label'),
  ],
)
def test_runs_that_it_cannot_be_fitted_to(
  changed_run, tmp_path, capsys, section, field, value, message
):
  def change(record):
    config = record['config']
    (config[section] if section else config)[field] = value

  copy = changed_run(change)
  out = tmp_path / 'out.json'
  assert message in refuse(capsys, copy, f'--out={out}')
  assert not out.exists()


def test_bad_arguments_are_named(held_out_run, tmp_path, capsys):
  assert '--knots must be >= 2, got 1' in refuse(
    capsys, held_out_run, '--knots=1'
  )
  assert "invalid int value: 'x'" in refuse(capsys, held_out_run, '--knots=x')
  assert 'unrecognized arguments: --k=3' in refuse(
    capsys, held_out_run, '--k=3'
  )
  assert 'results.json is missing' in refuse(capsys, tmp_path)
  line = refuse(capsys, held_out_run, f'--out={tmp_path}/no/out.json')
  assert 'is in no directory; make it' in line
