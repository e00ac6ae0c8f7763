"""Metrics as sums, which add up exactly over batches, devices and hosts."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

NUM_BINS = 15
# One slot more, for a confidence of exactly 1.0, as in torchmetrics.
NUM_SLOTS = NUM_BINS + 1
_EDGES = (np.arange(1, NUM_SLOTS) / NUM_BINS).astype(np.float32)


class MetricSums(NamedTuple):
  """Sums over examples; on the device int32 and float32.

  Attributes:
    count: number of examples.
    errors: of wrong ones.
    nll: sum of -ln p_y, nats.
    brier: sum of sum_k (p_k - onehot_k)^2.
    confidence: sum of max_k p_k.
    bin_count: [16] examples by confidence: slots [j/15, (j+1)/15), then 1.0.
    bin_confidence: [16] sum of confidence in each slot.
    bin_correct: [16] right ones in each slot.
    class_probability: [K, 16] for every class, the sum of its probability over
      the examples that give it one in the slot.
    class_count: [K, 16] how many of those examples are of that class.
  """

  count: Any
  errors: Any
  nll: Any
  brier: Any
  confidence: Any
  bin_count: Any
  bin_confidence: Any
  bin_correct: Any
  class_probability: Any
  class_count: Any


class ExampleScores(NamedTuple):
  """What cannot be added up: one entry per example, [B].

  Attributes:
    confidence: float32, max_k p_k.
    correct: bool, whether the most probable class is the label.
  """

  confidence: Any
  correct: Any


def batch_sums(
  logits: jax.Array, labels: jax.Array, mask: jax.Array, num_classes: int
) -> MetricSums:
  """The sums of one batch.

  Args:
    logits: float[B, K] or [B, K + 1]; an extra class is dropped, and the rest
      renormalised.
    labels: int32[B], in [0, num_classes).
    mask: bool[B]; False rows count nothing, whatever they hold.
    num_classes: K, static.

  Raises:
    ValueError: shapes do not fit (checked while tracing, free at run time).
  """
  if logits.ndim != 2 or logits.shape[1] < num_classes:
    raise ValueError(
      f'logits of shape {logits.shape!r}; give [B, {num_classes}], or one '
      'class more'
    )
  if labels.shape != logits.shape[:1] or mask.shape != logits.shape[:1]:
    raise ValueError(
      f'labels {labels.shape!r} and mask {mask.shape!r} for logits '
      f'{logits.shape!r}; give one of each per row'
    )
  logits = jnp.where(mask[:, None], logits[:, :num_classes], 0.0)
  logits = logits.astype(jnp.float32)
  log_probs = jax.nn.log_softmax(logits)
  probs = jnp.exp(log_probs)
  onehot = jax.nn.one_hot(labels, num_classes)
  confidence = probs.max(axis=1)
  correct = (jnp.argmax(logits, axis=1) == labels) & mask
  slot = jnp.sum(confidence[:, None] >= _EDGES, axis=1)
  member = jax.nn.one_hot(slot, NUM_SLOTS) * mask[:, None]

  def total(values):
    return jnp.sum(jnp.where(mask, values, 0.0))

  return MetricSums(
    count=jnp.sum(mask.astype(jnp.int32)),
    errors=jnp.sum((mask & ~correct).astype(jnp.int32)),
    # A gather: onehot * log_probs is NaN where another class has p = 0.
    nll=total(-jnp.take_along_axis(log_probs, labels[:, None], axis=1)[:, 0]),
    brier=total(jnp.sum(jnp.square(probs - onehot), axis=1)),
    confidence=total(confidence),
    bin_count=jnp.sum(member, axis=0).astype(jnp.int32),
    bin_confidence=jnp.sum(member * confidence[:, None], axis=0),
    bin_correct=jnp.sum(member * correct[:, None], axis=0).astype(jnp.int32),
    **_class_sums(probs, onehot, mask),
  )


def _class_sums(probs, onehot, mask):
  lower = jnp.array([-jnp.inf, *_EDGES])[:, None, None]
  upper = jnp.array([*_EDGES, jnp.inf])[:, None, None]
  # [16, B, K], which XLA need not hold: it goes into the sums over B.
  member = (probs >= lower) & (probs < upper) & mask[:, None]
  return {
    'class_probability': jnp.sum(jnp.where(member, probs, 0.0), axis=1).T,
    'class_count': jnp.sum(jnp.where(member, onehot, 0.0), axis=1)
    .astype(jnp.int32)
    .T,
  }


def score_examples(
  logits: jax.Array, labels: jax.Array, num_classes: int
) -> ExampleScores:
  """The scores of a batch; arguments as of `batch_sums`."""
  logits = logits[:, :num_classes].astype(jnp.float32)
  return ExampleScores(
    confidence=jax.nn.softmax(logits).max(axis=1),
    correct=jnp.argmax(logits, axis=1) == labels,
  )


def add_up(sums: MetricSums) -> MetricSums:
  """Adds stacked sums over all leading axes, in int64 and float64."""

  def add(name, values):
    values = np.asarray(values)
    wide = np.int64 if np.issubdtype(values.dtype, np.integer) else np.float64
    values = values.astype(wide)
    trailing = {'bin': 1, 'class': 2}.get(name.partition('_')[0], 0)
    return values.sum(axis=tuple(range(values.ndim - trailing)))

  return MetricSums(*map(add, MetricSums._fields, sums))


def finalize(sums: MetricSums) -> dict[str, float]:
  """Means over examples.

  Returns:
    n, error, nll, brier, confidence; ece, over 15 equal-width bins of
    confidence; classwise_ece, the mean over classes of the same over bins of
    that class's probability (Kull et al. 2019, arXiv 1910.12656); and gap,
    confidence - accuracy, which is positive for an over-confident model.

  Raises:
    ValueError: no example was counted.
  """
  n = int(sums.count)
  if n == 0:
    raise ValueError('no examples were counted, so there are no means')
  gaps = np.abs(np.asarray(sums.bin_correct) - sums.bin_confidence)
  class_gaps = np.abs(np.asarray(sums.class_count) - sums.class_probability)
  error, confidence = float(sums.errors) / n, float(sums.confidence) / n
  return {
    'n': n,
    'error': error,
    'nll': float(sums.nll) / n,
    'brier': float(sums.brier) / n,
    'ece': float(gaps.sum()) / n,
    'classwise_ece': float(class_gaps.sum()) / len(class_gaps) / n,
    'confidence': confidence,
    'gap': confidence - (1.0 - error),
  }


def adaptive_ece(scores: ExampleScores, num_bins: int = NUM_BINS) -> float:
  """Calibration error over bins of equal mass (Nguyen & O'Connor 2015).

  Examples are sorted by confidence and cut into `num_bins` parts whose sizes
  differ by at most one; ties are cut in the order given.

  Args:
    scores: of the whole test set, in its order.
    num_bins: >= 1.

  Returns:
    sum over the bins of |sum of confidence - number correct|, over n.
  """
  order = np.argsort(scores.confidence, kind='stable')
  gap = scores.confidence.astype(np.float64) - scores.correct
  parts = np.array_split(gap[order], num_bins)
  return float(sum(abs(part.sum()) for part in parts)) / len(order)


def ece_over_batches(scores: ExampleScores, batch_size: int = 100) -> float:
  """The mean over batches of each batch's calibration error.

  It is what the authors' code reports, and large even for a calibrated model,
  because a bin of a batch holds few examples: the pooled `ece` is the one to
  report.

  Args:
    scores: of the whole test set, in its order.
    batch_size: examples per batch; a last, smaller one counts as much.
  """
  slot = np.searchsorted(_EDGES, scores.confidence, side='right')
  batch = np.arange(len(slot)) // batch_size
  gap = scores.confidence.astype(np.float64) - scores.correct
  sums = np.zeros((batch[-1] + 1, NUM_SLOTS))
  np.add.at(sums, (batch, slot), gap)
  sizes = np.bincount(batch)
  return float(np.mean(np.abs(sums).sum(axis=1) / sizes))


def reliability(sums: MetricSums) -> dict[str, list[float]]:
  """The sixteen slots' count, sum of confidence, and number correct."""
  return {
    'count': np.asarray(sums.bin_count).tolist(),
    'confidence': np.asarray(sums.bin_confidence).tolist(),
    'correct': np.asarray(sums.bin_correct).tolist(),
  }
