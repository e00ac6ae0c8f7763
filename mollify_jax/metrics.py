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
  """

  count: Any
  errors: Any
  nll: Any
  brier: Any
  confidence: Any
  bin_count: Any
  bin_confidence: Any
  bin_correct: Any


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
  logits = logits[:, :num_classes].astype(jnp.float32)
  logits = jnp.where(mask[:, None], logits, 0.0)
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
  )


def add_up(sums: MetricSums) -> MetricSums:
  """Adds stacked sums over all leading axes, in int64 and float64."""

  def add(name, values):
    values = np.asarray(values)
    wide = np.int64 if np.issubdtype(values.dtype, np.integer) else np.float64
    values = values.astype(wide)
    trailing = 1 if name.startswith('bin_') else 0
    return values.sum(axis=tuple(range(values.ndim - trailing)))

  return MetricSums(*map(add, MetricSums._fields, sums))


def finalize(sums: MetricSums) -> dict[str, float]:
  """Means over examples: n, error, nll, brier, ece, confidence.

  Raises:
    ValueError: no example was counted.
  """
  n = int(sums.count)
  if n == 0:
    raise ValueError('no examples were counted, so there are no means')
  gap = np.abs(np.asarray(sums.bin_correct) - sums.bin_confidence)
  return {
    'n': n,
    'error': float(sums.errors) / n,
    'nll': float(sums.nll) / n,
    'brier': float(sums.brier) / n,
    'ece': float(gap.sum()) / n,
    'confidence': float(sums.confidence) / n,
  }


def reliability(sums: MetricSums) -> dict[str, list[float]]:
  """The sixteen slots' count, sum of confidence, and number correct."""
  return {
    'count': np.asarray(sums.bin_count).tolist(),
    'confidence': np.asarray(sums.bin_confidence).tolist(),
    'correct': np.asarray(sums.bin_correct).tolist(),
  }
