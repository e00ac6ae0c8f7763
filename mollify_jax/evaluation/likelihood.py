"""The likelihood of a finished run under its own mollification.

  python -m mollify_jax.evaluation.likelihood WORKDIR [--samples=64]
    [--examples=N] [--split=test]

Mollification reads as a likelihood of an image's label over draws x_s of the
image, each degraded with a role and a temperature of its own, its label
tempered as much (Heinonen et al. 2025, arXiv 2406.01494, equations 1 and 2):

  log 1/S sum_s p(y_s | x_s),   log p(y_s | x_s) = sum_k y_s,k log f_k(x_s).

S = 1 is the bound that training maximises (equation 2: the mean over draws of
the logarithm, by Jensen's inequality below the logarithm of the mean); S ->
infinity is equation 1. Measured here on images that were not trained on, with
draws as in training (roles with their shares, t ~ Beta(a, b)):

1. The bound against S = 1, 2, 4, ..., a mean over images with its standard
   error. For every S all draws are used, in groups of S, so that the estimate
   is unbiased and grows with S for every single image.
2. Test-time averaging against S: the mean of the predicted probabilities over
   the first S draws of each image, against the image's own hard label, beside
   the plain prediction from the clean image. With S = 1 it is the prediction
   from one degraded image.
3. Over t, for noise and for blur: the mean entropy of predictions and their
   mean confidence, beside the entropy of the tempered label. Where the label
   rule has an extra class, entropies include it, the label normalised;
   confidence is over the classes, as everywhere.

Writes likelihood.json, likelihood.png and likelihood.pdf into WORKDIR.
"""

import contextlib
import dataclasses
import enum
import io
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mollify_jax import errors, metrics, rng
from mollify_jax.data import splits
from mollify_jax.data.dataset import Dataset, StreamedDataset
from mollify_jax.evaluation import passes, plots, reports
from mollify_jax.feeds import Batch, Feed
from mollify_jax.kernels import losses
from mollify_jax.kernels.labels import num_outputs, temper_labels
from mollify_jax.kernels.mollify import mollify_example
from mollify_jax.kernels.pixels import normalize_images
from mollify_jax.parallel import (
  cache_compilations,
  collect,
  gather,
  parallelize,
  replicate,
)
from mollify_jax.progress import Progress
from mollify_jax.training.finished import FinishedRun, open_run
from mollify_jax.training.inputs import make_feed, reopen_data

SPLITS = ('test', 'validation')
TIMES = tuple(i / 10 for i in range(11))


class View(enum.IntEnum):
  """How a batch is degraded; from CLEAN on as `passes.CORRUPTIONS`."""

  TRAINING = 0  # each example by itself, as in training
  CLEAN = 1
  NOISE = 2  # all at one temperature
  BLUR = 3


@dataclasses.dataclass(frozen=True)
class LikelihoodSpec:
  """What the measurement needs besides the network and the data. Static.

  Attributes:
    passes: normalisation and mollification.
    label_smoothing: of the labels of training, before mollification.
  """

  passes: passes.EvalSpec
  label_smoothing: float = 0.0


def make_sampling(model: nn.Module, spec: LikelihoodSpec) -> Callable[..., Any]:
  """Compiles the one step that everything here is made of.

  Returns:
    sample(variables, seed, view, t, draw, *batch) -> rows with a
    `feeds.Batch`, on the examples of the whole batch [B]: `mask`, `label`,
    `log_likelihood` of the tempered label, `log_probs` [B, K], and `entropy`
    over all outputs, in nats. `t` counts for two views, `draw` for those with
    randomness: it is bound to seed, example and draw.
  """
  mollify, num_classes = spec.passes.mollify, spec.passes.num_classes

  def body(variables, seed, view, t, draw, image, label, index, mask):
    key = rng.purpose_key(seed, rng.Purpose.LIKELIHOOD)
    keys = rng.keys_at(key, index)
    keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, draw)
    pixels = normalize_images(image, spec.passes.mean, spec.passes.std)
    labels = jax.nn.one_hot(label, num_classes)
    if spec.label_smoothing:
      amount = jnp.full(labels.shape[0], spec.label_smoothing)
      labels = temper_labels(labels, amount)

    gamma = jnp.select(
      [view == View.NOISE, view == View.BLUR],
      [mollify.noise_gamma(t), mollify.blur_gamma(t)],
      0.0,
    )
    images, tempered = jax.lax.cond(
      view == View.TRAINING,
      # Roles are drawn here whatever the assignment is, with its shares.
      lambda: jax.vmap(mollify_example, in_axes=(0, 0, 0, None))(
        keys, pixels, labels, mollify
      ),
      lambda: (
        passes.degrade_images(pixels, keys, view - View.CLEAN, t, mollify),
        temper_labels(
          labels, jnp.full(labels.shape[0], gamma), mollify.label_rule
        ),
      ),
    )
    logits = model.apply(variables, images, train=False).astype(jnp.float32)
    log_f = jax.nn.log_softmax(logits)
    return gather(
      {
        'mask': mask,
        'label': label,
        'log_likelihood': -jax.vmap(losses.cross_entropy)(logits, tempered),
        'log_probs': jax.nn.log_softmax(logits[:, :num_classes]),
        'entropy': -jnp.sum(jnp.exp(log_f) * log_f, axis=1),
      }
    )

  return parallelize(
    body, shared_axes=(None,) * 5, num_split=len(Batch._fields), replicated=True
  )


def bound(log_likelihoods: np.ndarray) -> list[dict[str, float]]:
  """The S-sample bound for S = 1, 2, 4, ... up to all draws.

  Args:
    log_likelihoods: float[N, D], log p(y_s | x_s) of D draws of N images; D a
      power of two.

  Returns:
    Per S: `samples`, `log_likelihood`, the mean over images and over the
    D / S groups of S draws of log 1/S sum_s p(y_s | x_s), in nats, and its
    `standard_error` over images (0 for one image).
  """
  count, draws = log_likelihoods.shape
  rows = []
  for samples in _sizes(draws):
    groups = log_likelihoods.reshape(count, draws // samples, samples)
    nll = jax.vmap(jax.vmap(losses.multi_sample_nll))(groups)
    values = -np.asarray(nll, np.float64).mean(axis=1)
    error = values.std(ddof=1) / math.sqrt(count) if count > 1 else 0.0
    rows.append(
      {
        'samples': samples,
        'log_likelihood': float(values.mean()),
        'standard_error': float(error),
      }
    )
  return rows


def measure(
  sample: Callable[..., Any],
  variables: Any,
  feed: Feed,
  spec: LikelihoodSpec,
  *,
  samples: int,
  seed: int,
  on_batch: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
  """Draws every image of a feed, and looks at it over t.

  Args:
    sample: from `make_sampling`.
    variables: the network's, replicated.
    feed: of the images.
    spec: as given to `make_sampling`.
    samples: draws per image, a power of two.
    seed: of all draws.
    on_batch: called after each batch with the number of them.

  Returns:
    `examples`; `bound`, see there; `plain` and per S `averaged`: `error`,
    `nll`, `ece`, `confidence` of the prediction from the clean image, and of
    the mean prediction over S draws (`samples`); and per kind of `over_t` a
    row per t: `t`, `entropy`, `confidence`, `accuracy`, `label_entropy`,
    `label_confidence`. Entropies are in nats.
  """
  over_t = [(view, t) for view in (View.NOISE, View.BLUR) for t in TIMES]
  calls = [(View.TRAINING, 0.0, draw) for draw in range(samples)]
  calls += [(View.CLEAN, 0.0, 0)] + [(view, t, 0) for view, t in over_t]
  scores, likelihoods, entropies = [], [], []
  with contextlib.closing(feed.eval_batches()) as batches:
    for number, batch in enumerate(batches):
      rows = collect(
        sample(
          variables,
          np.int32(seed),
          np.int32(view),
          np.float32(t),
          np.int32(draw),
          *batch,
        )
        for view, t, draw in calls
      )
      rows = jax.tree.map(lambda *parts: np.stack(parts), *rows)
      kept = rows['mask'][0]
      label = rows['label'][0][kept]
      log_probs = rows['log_probs'][:, kept]  # [calls, B, K]
      averaged = [_log_mean(log_probs[:size]) for size in _sizes(samples)]
      scores.append(
        [_score(log_p, label) for log_p in (*averaged, *log_probs[samples:])]
      )
      likelihoods.append(rows['log_likelihood'][:samples, kept].T)
      entropies.append(rows['entropy'][samples + 1 :, kept])
      on_batch(number + 1)
  # Per kind of prediction, over all batches.
  figures = [
    _figures(
      {name: np.concatenate([s[name] for s in parts]) for name in parts[0]}
    )
    for parts in zip(*scores, strict=True)
  ]
  sizes = list(_sizes(samples))
  averaged, (plain, *at_t) = figures[: len(sizes)], figures[len(sizes) :]
  entropy = np.concatenate(entropies, axis=1).mean(axis=1, dtype=np.float64)
  record: dict[str, Any] = {
    'examples': sum(map(len, likelihoods)),
    'bound': bound(np.concatenate(likelihoods)),
    'plain': plain,
    'averaged': [
      {'samples': size, **row}
      for size, row in zip(sizes, averaged, strict=True)
    ],
    'over_t': {'noise': [], 'blur': []},
  }
  for (view, t), row, mean_entropy in zip(over_t, at_t, entropy, strict=True):
    record['over_t'][view.name.lower()].append(
      {
        't': t,
        'entropy': float(mean_entropy),
        'confidence': row['confidence'],
        'accuracy': 1 - row['error'],
        **_label_figures(view, t, spec),
      }
    )
  return record


def run_likelihood(
  run: FinishedRun, *, samples: int = 64, examples: int = 0, split: str = 'test'
) -> dict[str, Any]:
  """Measures a finished run.

  Args:
    run: from `open_run`.
    samples: draws per image, a power of two.
    examples: how many images, spread over the split; 0 is all.
    split: `test`, what the run is evaluated on, or `validation`, what it held
      out of training.

  Returns:
    As `measure`, with `method`, `dataset`, `model`, `split`, `samples`, `seed`
    and `num_outputs`.

  Raises:
    ValueError: an argument out of range; or as `reopen_data`.
    TypeError, OSError: as `reopen_data`.
  """
  if samples < 1 or samples & (samples - 1):
    raise ValueError(
      f'--samples must be a power of two, got {samples}; take 64'
    )
  if split not in SPLITS:
    raise ValueError(f'unknown --split={split}; choose from test, validation')
  if split == 'validation' and not run.spec.data.validation_fraction:
    raise ValueError(
      f'--split=validation, and {run.directory} trained on all of its images; '
      'take --split=test'
    )
  dataset, kind = reopen_data(
    run.spec,
    run.directory.parent / 'mollify_cache',
    run.results,
  )
  dataset = _spread(dataset, split, examples)
  num_classes = len(run.class_names)
  spec = LikelihoodSpec(
    passes.EvalSpec(num_classes, run.mean, run.std, run.spec.mollify),
    run.spec.label_smoothing,
  )
  seed = run.spec.eval.seed
  with make_feed(run.spec, dataset, kind, split) as feed:
    total = -(-feed.num_examples // feed.batch_size)
    with Progress('sampling', total) as progress:
      record = measure(
        make_sampling(run.model, spec),
        replicate(run.variables),
        feed,
        spec,
        samples=samples,
        seed=seed,
        on_batch=progress.update,
      )
  return {
    **{name: run.results[name] for name in ('method', 'dataset', 'model')},
    'split': split,
    'samples': samples,
    'seed': seed,
    'num_outputs': num_outputs(num_classes, run.spec.mollify.label_rule),
    **record,
  }


def describe(record: Mapping[str, Any]) -> str:
  """What `run_likelihood` found, for the terminal."""
  lines = [
    f'{record["dataset"]}, {record["model"]}, {record["method"]}: '
    f'{record["examples"]} images of the {record["split"]} split, '
    f'{record["samples"]} draws each',
    '',
    'averaged over S draws (role, t, noise) of each image, as in training',
    '   S    log likelihood              error %      NLL      ECE',
  ]

  def figures(row):
    return f'{100 * row["error"]:>9.2f}{row["nll"]:>9.3f}{row["ece"]:>9.3f}'

  for row, average in zip(record['bound'], record['averaged'], strict=True):
    lines.append(
      f'{row["samples"]:>4}{row["log_likelihood"]:>11.4f} +- '
      f'{row["standard_error"]:.4f}     {figures(average):>35}'
    )
  lines += [f'{"plain":<27}{figures(record["plain"]):>34}']
  for kind, rows in record['over_t'].items():
    lines += [
      '',
      f'{kind:<5}    t   entropy  of label  confidence  of label  accuracy',
    ]
    lines += [
      f'{row["t"]:>10.1f}{row["entropy"]:>10.3f}{row["label_entropy"]:>10.3f}'
      f'{row["confidence"]:>12.3f}{row["label_confidence"]:>10.3f}'
      f'{row["accuracy"]:>10.3f}'
      for row in rows
    ]
  return '\n'.join(lines)


def draw(directory: str | os.PathLike, record: Mapping[str, Any]) -> None:
  """Writes likelihood.png and likelihood.pdf: three panels, as in the module.

  Args:
    directory: where they go.
    record: from `run_likelihood`.
  """
  figure = plots.new_figure(13.2, 3.4)
  panels = figure.subplots(1, 3, gridspec_kw={'wspace': 0.55})
  _draw_bound(panels[0], record)
  _draw_averaging(panels[1], record)
  _draw_over_t(panels[2], record)
  for kind in ('png', 'pdf'):
    data = io.BytesIO()
    figure.savefig(data, format=kind, dpi=150, bbox_inches='tight')
    reports.write_whole(Path(directory) / f'likelihood.{kind}', data.getvalue())


_BLUE, _ORANGE, _GREEN = '#0072B2', '#D55E00', '#009E73'


def _draw_bound(panel, record):
  rows = record['bound']
  panel.errorbar(
    [row['samples'] for row in rows],
    [row['log_likelihood'] for row in rows],
    [row['standard_error'] for row in rows],
    fmt='-o',
    color=_BLUE,
    markersize=4,
    capsize=3,
  )
  panel.set_ylabel('log likelihood of an image (nats)')
  panel.set_title('bound on the likelihood', fontsize=10)
  _over_samples(panel, record)


def _draw_averaging(panel, record):
  rows = record['averaged']
  samples = [row['samples'] for row in rows]
  right = panel.twinx()
  for axis, name, title, color, marker in (
    (panel, 'error', 'error', _BLUE, 'o'),
    (panel, 'ece', 'ECE', _GREEN, 's'),
    (right, 'nll', 'NLL (right)', _ORANGE, '^'),
  ):
    values = [row[name] for row in rows]
    axis.plot(
      samples, values, f'-{marker}', color=color, label=title, markersize=4
    )
    axis.axhline(record['plain'][name], color=color, linestyle=':')
  for axis in (panel, right):
    axis.set_ylim(bottom=0)
  panel.plot([], [], ':', color='black', label='clean image alone')
  panel.set_ylabel('error, ECE')
  right.set_ylabel('NLL (nats)')
  panel.set_title('mean prediction over draws', fontsize=10)
  handles, titles = (
    a + b
    for a, b in zip(
      panel.get_legend_handles_labels(),
      right.get_legend_handles_labels(),
      strict=True,
    )
  )
  _legend_below(panel, handles, titles, 2)
  _over_samples(panel, record)


def _draw_over_t(panel, record):
  most = math.log(record['num_outputs'])
  for kind, color in (('noise', _BLUE), ('blur', _ORANGE)):
    rows = record['over_t'][kind]
    t = [row['t'] for row in rows]
    for name, scale, style, title in (
      ('entropy', most, '-o', f'entropy, {kind}'),
      ('label_entropy', most, '--', f'of the label, {kind}'),
      ('confidence', 1.0, ':', f'confidence, {kind}'),
    ):
      values = [row[name] / scale for row in rows]
      panel.plot(t, values, style, color=color, label=title, markersize=3)
  panel.set_xlabel('temperature t')
  panel.set_ylabel('entropy / its largest, confidence')
  panel.set_xlim(-0.03, 1.03)
  panel.set_ylim(-0.02, 1.04)
  panel.grid(alpha=0.3)
  panel.set_title('predictions and labels over t', fontsize=10)
  _legend_below(panel, *panel.get_legend_handles_labels(), 2)


def _over_samples(panel, record):
  samples = [row['samples'] for row in record['bound']]
  panel.set_xscale('log', base=2)
  panel.set_xticks(samples, [str(count) for count in samples])
  panel.minorticks_off()
  panel.set_xlabel('draws S per image')
  panel.grid(alpha=0.3)


def _legend_below(panel, handles, titles, columns):
  panel.legend(
    handles,
    titles,
    loc='upper center',
    bbox_to_anchor=(0.5, -0.18),
    ncols=columns,
    fontsize=8,
    frameon=False,
  )


def _sizes(samples):
  """1, 2, 4, ..., samples."""
  return [2**power for power in range(samples.bit_length())]


def _log_mean(log_probs):
  """log of the mean probability over draws: float64[B, K] from [S, B, K]."""
  log_probs = log_probs.astype(np.float64)
  largest = log_probs.max(axis=0)
  return largest + np.log(np.exp(log_probs - largest).mean(axis=0))


def _score(log_probs, label):
  """Per example, of predictions [B, K]."""
  return {
    'nll': -np.take_along_axis(log_probs, label[:, np.newaxis], axis=1)[:, 0],
    'confidence': np.exp(log_probs.max(axis=1)),
    'correct': log_probs.argmax(axis=1) == label,
  }


def _figures(scores):
  """Means over examples; the calibration error is pooled over all of them."""
  pooled = metrics.ExampleScores(scores['confidence'], scores['correct'])
  return {
    'error': float(np.mean(~scores['correct'])),
    'nll': float(scores['nll'].mean(dtype=np.float64)),
    'ece': metrics.ece_over_batches(pooled, len(pooled.correct)),
    'confidence': float(scores['confidence'].mean(dtype=np.float64)),
  }


def _label_figures(view, t, spec):
  """Entropy and confidence of the tempered label."""
  mollify, num_classes = spec.passes.mollify, spec.passes.num_classes
  gamma = (
    mollify.noise_gamma(t) if view == View.NOISE else mollify.blur_gamma(t)
  )
  label = jax.nn.one_hot(jnp.zeros(1, jnp.int32), num_classes)
  label = temper_labels(label, jnp.full(1, spec.label_smoothing))
  label = temper_labels(label, jnp.full(1, gamma), mollify.label_rule)
  label = np.asarray(label[0], np.float64)
  # `decay` leaves nothing at gamma = 1, and its limit is the hard label.
  share = label / label.sum() if label.sum() else np.eye(len(label))[0]
  classes = label[:num_classes]
  total = classes.sum()
  some = share[share > 0]
  return {
    'label_entropy': float(np.sum(some * -np.log(some))) + 0.0,  # no -0
    'label_confidence': float(classes.max() / total if total else 1.0),
  }


def _spread(
  dataset: Dataset | StreamedDataset, split: str, examples: int
) -> Dataset | StreamedDataset:
  """The data set with so many images in a split, 0 being all of them."""
  available = getattr(dataset, f'num_{split}')
  if not 0 <= examples <= available:
    raise ValueError(
      f'--examples={examples}, and the {split} split has {available} images; '
      f'give 1 to {available}, or 0 for all'
    )
  if not examples:
    return dataset
  # Folders are sorted by class.
  chosen = np.arange(examples) * available // examples
  if isinstance(dataset, StreamedDataset):
    source = splits.Subset(getattr(dataset, f'{split}_source'), chosen)
    return dataclasses.replace(dataset, **{f'{split}_source': source})
  fields = (f'{split}_images', f'{split}_labels')
  return dataclasses.replace(
    dataset, **{field: getattr(dataset, field)[chosen] for field in fields}
  )


def main(argv: Sequence[str] | None = None) -> int:
  """Measures a workdir; returns the exit status."""
  parser = errors.ArgumentParser(
    prog='python -m mollify_jax.evaluation.likelihood',
    description='The likelihood of a finished run under its own mollification.',
  )
  add = parser.add_argument
  add('workdir', help='of a finished run; the results go there')
  add('--samples', type=int, default=64, help='draws per image, 2^n')
  add('--examples', type=int, default=0, help='images; 0 is all')
  add('--split', default='test', help=', '.join(SPLITS))
  try:
    values = parser.parse_args(argv)
    run = open_run(values.workdir)
    cache_compilations(run.directory.parent / 'mollify_cache')
    record = run_likelihood(
      run,
      samples=values.samples,
      examples=values.examples,
      split=values.split,
    )
    draw(run.directory, record)
    reports.write_json(run.directory / 'likelihood.json', record)
  except (OSError, ValueError, TypeError) as error:
    print('error:', errors.describe(error), file=sys.stderr)
    return 1
  print(f'{describe(record)}\n\nin {run.directory}/likelihood.*')
  return 0


if __name__ == '__main__':
  sys.exit(main())
