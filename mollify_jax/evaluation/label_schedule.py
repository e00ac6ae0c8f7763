"""A label schedule fitted to a finished run: gamma where it calibrates.

  python -m mollify_jax.evaluation.label_schedule WORKDIR [--knots=11]
    [--out=FILE.json]

measures accuracy and mean confidence over t on the images that the run held
out of its training (`config.data.validation_fraction`; never on the test set)
and prints the `noise_gamma_knots` and `blur_gamma_knots` of the next run.

What it rests on. The labels of training are (1 - g) y + g / K at softening
g = gamma(t). At the optimum of their cross-entropy a network predicts their
mean, (1 - g) p(y | x_t) + g / K, and so its mean confidence is

  c = (1 - g) q + g / K,   hence   q = (c - g / K) / (1 - g)

with q its mean confidence under labels that are not softened at t (a constant
`label_smoothing` stays within q). The schedule wanted is the one whose mean
confidence is the accuracy a at every t:

  (1 - g') q + g' / K = a,   hence   g' = (q - a) / (q - 1 / K).

It is fitted by least squares: of all schedules in [0, 1] that never decrease,
the one with the least sum over images of (mean confidence - accuracy)^2. That
is the isotonic regression of g' with weights n (q - 1 / K)^2, cut off at 0 and
1: a knot counts by its images, and by how much gamma changes confidence there,
which is nothing where the network is at chance anyway. Accuracy is taken to
stay what it is, which the next run has to show: fit again to that one.

Where g > 0.95 the labels said next to nothing, so that q is a difference of
two nearly equal numbers, magnified more than twenty times. Such a knot has no
weight and takes the value of the knot before it, the least that does not
decrease; the next run's g is then low enough to measure q there.

An honest consequence: a network that was trained for so short that it is
under-confident even with hard labels (q < a) asks for negative gamma, and gets
0. Labels can only take confidence away, and the theory is one of a network at
its optimum; the longer the training, the more of q - a is over-confidence that
softening mends.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mollify_jax import errors, parallel
from mollify_jax.evaluation import passes, reports
from mollify_jax.training.finished import FinishedRun, open_run
from mollify_jax.training.inputs import make_feed, reopen_data

# Of gamma: beyond it, labels said too little to measure q.
LIMIT = 0.95


def isotonic(values: Sequence[float], weights: Sequence[float]) -> np.ndarray:
  """The sequence that never decreases and is nearest by weighted squares.

  Neighbours that decrease are pooled into their weighted mean until none does
  (Ayer et al. 1955).

  Args:
    values: float[M].
    weights: float[M], > 0.

  Returns:
    float64[M].
  """
  pools: list[tuple[float, float, int]] = []  # mean, weight, how many
  for value, weight in zip(values, weights, strict=True):
    pool = float(value), float(weight), 1
    while pools and pools[-1][0] >= pool[0]:
      mean, mass, count = pools.pop()
      total = mass + pool[1]
      pool = (
        (mean * mass + pool[0] * pool[1]) / total,
        total,
        count + pool[2],
      )
    pools.append(pool)
  return np.concatenate([np.full(count, mean) for mean, _, count in pools])


def unsoftened_confidence(
  confidence: np.ndarray, gamma: np.ndarray, num_classes: int
) -> np.ndarray:
  """q, what the mean confidence would be without softening; see the module.

  Args:
    confidence: float[M], measured.
    gamma: float[M], of the labels of training, in [0, 1].
    num_classes: K.

  Returns:
    float64[M] in [1 / K, 1]; NaN where gamma exceeds `LIMIT`.
  """
  confidence, gamma = np.float64(confidence), np.float64(gamma)
  known = gamma <= LIMIT
  kept = np.where(known, 1 - gamma, 1.0)
  q = (confidence - gamma / num_classes) / kept
  return np.where(known, np.clip(q, 1 / num_classes, 1), np.nan)


def fit_gamma(
  accuracy: np.ndarray,
  confidence: np.ndarray,
  gamma: np.ndarray,
  num_classes: int,
  counts: np.ndarray,
) -> np.ndarray:
  """The knots of the next label schedule; see the module.

  Args:
    accuracy: float[M], measured at M equally spaced t from 0 to 1.
    confidence: float[M], likewise.
    gamma: float[M], of the labels of training at these t.
    num_classes: K.
    counts: int[M], images that were measured.

  Returns:
    float64[M] in [0, 1], never decreasing.

  Raises:
    ValueError: there is no t at which gamma could be fitted.
  """
  q = unsoftened_confidence(confidence, gamma, num_classes)
  room = q - 1 / num_classes
  weights = counts * np.square(np.where(np.isnan(room), 0.0, room))
  # A millionth of a confidence is beyond what float32 resolves.
  known = np.flatnonzero(weights > counts * 1e-12)
  if not known.size:
    raise ValueError(
      f'gamma is above {LIMIT} or the confidence at chance at every t, which '
      'leaves nothing to fit to; train with less softening first'
    )
  wanted = (q - accuracy)[known] / room[known]
  fitted = np.clip(isotonic(wanted, weights[known]), 0, 1)
  knots = np.zeros(len(q))
  for first, last, value in zip(
    known, [*known[1:], len(q)], fitted, strict=True
  ):
    knots[first:last] = value
  return knots


def fit_run(run: FinishedRun, num_knots: int = 11) -> dict[str, Any]:
  """Measures a run on its held-out images and fits its label schedule.

  Returns:
    `method`, `dataset`, `model`, `split`, `examples`, `gamma`: per kind that
    the run was trained on (`noise`, `blur`) a row per t with `t`, `accuracy`,
    `confidence`, `unsoftened_confidence` (null where it could not be had),
    `old_gamma`, `new_gamma`; and `flags`, of the next run.

  Raises:
    ValueError: a run that this cannot be fitted to; or as `reopen_data`.
    TypeError, OSError: as `reopen_data`.
  """
  kinds = _fitted_kinds(run, num_knots)
  dataset, feed_kind = reopen_data(
    run.spec,
    run.directory.parent / 'mollify_cache',
    run.results,
  )
  spec = passes.EvalSpec(
    num_classes=len(run.class_names),
    mean=run.mean,
    std=run.std,
    mollify=run.spec.mollify,
  )
  times = np.linspace(0, 1, num_knots)
  conditions = [
    passes.Condition(kind, float(t)) for kind in kinds for t in times
  ]
  with make_feed(run.spec, dataset, feed_kind, 'validation') as feed:
    records = passes.run_conditions(
      passes.make_scoring(run.model, spec),
      parallel.replicate(run.variables),
      feed,
      conditions,
      spec,
      seed=run.spec.eval.seed,
    )
  gamma = {}
  for kind in kinds:
    rows = [record for record in records if record['corruption'] == kind]
    gamma[kind] = _fitted_rows(rows, times, spec)
  return {
    **{name: run.results[name] for name in ('method', 'dataset', 'model')},
    'split': 'validation',
    'examples': records[0]['n'],
    'gamma': gamma,
    'flags': _flags(gamma, run),
  }


def describe(record: dict[str, Any]) -> str:
  """What `fit_run` found, for the terminal."""
  lines = [
    f'{record["dataset"]}, {record["model"]}, {record["method"]}: '
    f'{record["examples"]} images held out of training',
  ]
  columns = {
    't': 't',
    'accuracy': 'accuracy',
    'confidence': 'confidence',
    'unsoftened_confidence': 'unsoftened',
    'old_gamma': 'old gamma',
    'new_gamma': 'new gamma',
  }
  for kind, rows in record['gamma'].items():
    lines += ['', kind.ljust(5) + ''.join(f'{c:>11}' for c in columns.values())]
    for row in rows:
      cells = [row[name] for name in columns]
      lines.append(
        ' ' * 5
        + f'{cells[0]:>11.3g}'
        + ''.join(f'{"-" if c is None else f"{c:.4f}":>11}' for c in cells[1:])
      )
  lines += ['', 'for the next run, in another workdir:']
  lines += [f'  {flag} \\' for flag in record['flags'][:-1]]
  lines += [f'  {record["flags"][-1]}']
  return '\n'.join(lines)


def _fitted_kinds(run, num_knots):
  """`noise` and `blur`, as far as the run was trained on them."""
  spec = run.spec
  if num_knots < 2:
    raise ValueError(f'--knots must be >= 2, got {num_knots}; take 11')
  if not spec.data.validation_fraction:
    raise ValueError(
      f'{run.directory} trained on all of its images; wanted a run with '
      'config.data.validation_fraction > 0, for gamma is fitted on images held '
      'out of training; train with 0.1'
    )
  if spec.mollify.label_rule != 'smooth':
    raise ValueError(
      f'{run.directory} has config.mollify.label_rule='
      f'{spec.mollify.label_rule!r}, under which confidence is no '
      "(1 - gamma) q + gamma / K; wanted a run with 'smooth'"
    )
  if spec.loss == 'normalized_cross_entropy':
    raise ValueError(
      f'{run.directory} has config.loss={spec.loss!r}, whose optimum is not '
      "the mean label; wanted a run with 'cross_entropy' or 'dirichlet_nll'"
    )
  kinds = [kind for kind in ('noise', 'blur') if kind in spec.mollify.roles]
  if not kinds:
    raise ValueError(
      f'{run.directory} has config.mollify.roles={spec.mollify.roles!r}, '
      "whose labels have no gamma; wanted a run with 'noise' or 'blur'"
    )
  return kinds


def _fitted_rows(records, times, spec):
  kind, num_classes = records[0]['corruption'], spec.num_classes
  schedule = {
    'noise': spec.mollify.noise_gamma,
    'blur': spec.mollify.blur_gamma,
  }[kind]
  gamma = np.asarray(schedule(times), np.float64)
  accuracy = np.array([1 - record['error'] for record in records])
  confidence = np.array([record['confidence'] for record in records])
  counts = np.array([record['n'] for record in records])
  q = unsoftened_confidence(confidence, gamma, num_classes)
  knots = fit_gamma(accuracy, confidence, gamma, num_classes, counts)
  columns = {
    't': times,
    'accuracy': accuracy,
    'confidence': confidence,
    'unsoftened_confidence': q,
    'old_gamma': gamma,
    # As they are printed; rounding keeps them in order.
    'new_gamma': np.round(knots, 4),
  }
  return [
    {
      name: None if np.isnan(value) else float(value)
      for name, value in zip(columns, row, strict=True)
    }
    for row in zip(*columns.values(), strict=True)
  ]


def _flags(gamma, run):
  flags = []
  for kind, rows in gamma.items():
    knots = ', '.join(f'{row["new_gamma"]!r}' for row in rows)
    flags.append(f'--config.mollify.{kind}_gamma_knots="({knots})"')
    if getattr(run.spec.mollify, f'{kind}_power') != 1:
      flags.append(f'--config.mollify.{kind}_power=1.0')
  return [*flags, f'--config.fitted_on={run.spec.method}']


def main(argv: Sequence[str] | None = None) -> int:
  """Fits the label schedule of a workdir; returns the exit status."""
  parser = errors.ArgumentParser(
    prog='python -m mollify_jax.evaluation.label_schedule',
    description='Fits the label schedule gamma(t) to a finished run, on the '
    'images that it held out of its training.',
  )
  parser.add_argument('workdir', help='of a finished run')
  parser.add_argument(
    '--knots', type=int, default=11, help='at equally spaced t from 0 to 1'
  )
  parser.add_argument('--out', default='', help='a JSON file to write')
  try:
    values = parser.parse_args(argv)
    if values.out and not Path(values.out).absolute().parent.is_dir():
      raise FileNotFoundError(
        f'--out={values.out!r} is in no directory; make it, or name another'
      )
    run = open_run(values.workdir)
    parallel.cache_compilations(run.directory.parent / 'mollify_cache')
    record = fit_run(run, values.knots)
    if values.out:
      reports.write_json(values.out, record)
  except (OSError, ValueError, TypeError) as error:
    print('error:', errors.describe(error), file=sys.stderr)
    return 1
  print(describe(record))
  return 0


if __name__ == '__main__':
  sys.exit(main())
