"""Metric sums against float64 references, masks, and exact addition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollify_jax import metrics


def sums_of(probs, labels, mask=None):
  probs = np.asarray(probs, np.float64)
  with np.errstate(divide='ignore'):
    logits = np.maximum(np.log(probs), -1e4).astype(np.float32)
  mask = np.ones(len(probs), bool) if mask is None else mask
  return metrics.batch_sums(
    jnp.asarray(logits), jnp.asarray(labels), jnp.asarray(mask), probs.shape[1]
  )


def test_reference(reference):
  golden = reference('calibration.npz')
  tags = [tag for tag in 'abc' if f'probs_{tag}' in golden]
  assert len(tags) >= 2
  for tag in tags:
    probs, labels = golden[f'probs_{tag}'], golden[f'labels_{tag}']
    result = metrics.finalize(metrics.add_up(sums_of(probs, labels)))
    assert result['n'] == len(labels)
    for name in ('error', 'nll', 'brier'):
      np.testing.assert_allclose(
        result[name], golden[f'{name}_{tag}'], rtol=1e-5, err_msg=name
      )
    np.testing.assert_allclose(result['ece'], golden[f'ece15_{tag}'], atol=1e-6)
    np.testing.assert_allclose(
      result['confidence'], probs.max(1).mean(), rtol=1e-5
    )


def test_confidences_on_bin_edges(reference):
  golden = reference('calibration.npz')
  sums = sums_of(golden['probs_edge'], golden['labels_edge'])
  ece = metrics.finalize(metrics.add_up(sums))['ece']
  np.testing.assert_allclose(ece, golden['ece15_edge'], atol=1e-6)
  assert abs(ece - golden['ece15_edge_merge']) > 1e-3


def test_split_batches_add_up_to_the_whole():
  probs = np.random.default_rng(0).dirichlet(np.ones(5), 64)
  labels = np.arange(64, dtype=np.int32) % 5
  whole = metrics.add_up(sums_of(probs, labels))
  parts = [
    sums_of(probs[i : i + 16], labels[i : i + 16]) for i in range(0, 64, 16)
  ]
  stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *parts)
  together = metrics.add_up(stacked)
  for name, one, two in zip(whole._fields, whole, together, strict=True):
    if np.issubdtype(np.asarray(one).dtype, np.integer):
      np.testing.assert_array_equal(one, two, err_msg=name)
    else:
      np.testing.assert_allclose(one, two, rtol=1e-6, err_msg=name)
  assert whole.count == whole.bin_count.sum() == 64
  assert whole.bin_correct.sum() == 64 - whole.errors


def test_masked_rows_count_nothing_even_if_nan():
  probs = np.random.default_rng(1).dirichlet(np.ones(4), 6)
  labels = np.int32([0, 1, 2, 3, 0, 1])
  logits = np.log(probs).astype(np.float32)
  logits[4:] = np.nan
  mask = np.array([True] * 4 + [False] * 2)
  masked = metrics.batch_sums(logits, labels, mask, 4)
  kept = metrics.batch_sums(logits[:4], labels[:4], mask[:4], 4)
  for one, two in zip(masked, kept, strict=True):
    np.testing.assert_allclose(one, two, rtol=1e-6)


def test_extra_class_is_dropped_and_the_rest_renormalised():
  logits = np.random.default_rng(2).normal(size=(8, 5)).astype(np.float32)
  labels = np.arange(8, dtype=np.int32) % 4
  mask = np.ones(8, bool)
  wide = metrics.batch_sums(logits, labels, mask, 4)
  narrow = metrics.batch_sums(logits[:, :4], labels, mask, 4)
  for one, two in zip(wide, narrow, strict=True):
    np.testing.assert_array_equal(one, two)


def test_reliability_is_json_ready():
  sums = metrics.add_up(sums_of([[0.9, 0.1], [0.2, 0.8]], np.int32([0, 0])))
  bins = metrics.reliability(sums)
  assert bins['count'][13] == 1
  assert bins['count'][12] == 1
  assert sum(bins['correct']) == 1
  assert all(len(values) == 16 for values in bins.values())


def measure(logits, labels):
  """Means of one batch of bare logits."""
  logits = np.asarray(logits, np.float32)
  mask = np.ones(len(logits), bool)
  sums = metrics.batch_sums(logits, np.int32(labels), mask, logits.shape[1])
  return metrics.finalize(metrics.add_up(sums))


def test_an_impossible_class_leaves_the_nll_of_the_others_alone():
  result = measure([[0.0, 0.0, -np.inf]], [1])
  assert result['nll'] == pytest.approx(np.log(2), rel=1e-6)
  assert result['brier'] == pytest.approx(0.5, rel=1e-6)
  assert measure([[0.0, -np.inf]], [1])['nll'] == np.inf


def test_no_examples_have_no_means():
  sums = sums_of([[0.5, 0.5]], np.int32([0]), np.array([False]))
  with pytest.raises(ValueError, match='no examples were counted'):
    metrics.finalize(metrics.add_up(sums))


@pytest.mark.parametrize(
  ('logits', 'labels', 'mask'),
  [
    ((4, 1), (4,), (4,)),  # would broadcast
    ((4, 2), (4,), (4,)),
    ((3,), (3,), (3,)),
    ((4, 3), (4, 1), (4,)),
    ((4, 3), (4,), (1,)),
  ],
)
def test_shapes_that_do_not_fit(logits, labels, mask):
  with pytest.raises(ValueError, match='give') as caught:
    metrics.batch_sums(
      np.zeros(logits, np.float32),
      np.zeros(labels, np.int32),
      np.ones(mask, bool),
      3,
    )
  assert '\n' not in str(caught.value)
  assert str(logits) in str(caught.value)


def random_scores(n, seed=0):
  random = np.random.default_rng(seed)
  confidence = random.uniform(0.2, 1, n).astype(np.float32)
  # Under-confident below 0.6 and over-confident above, so that it matters
  # which examples share a bin.
  correct = random.uniform(size=n) < 1.2 - confidence
  return metrics.ExampleScores(confidence, correct)


def test_gap_tells_over_confidence_from_under_confidence():
  labels = np.array([0, 0, 0, 1], np.int32)
  for confidence, sign in ((0.9, 1), (0.6, -1)):
    probs = np.tile([confidence, 1 - confidence], (4, 1))
    result = metrics.finalize(metrics.add_up(sums_of(probs, labels)))
    assert result['gap'] == pytest.approx(confidence - 0.75, abs=1e-6)
    assert np.sign(result['gap']) == sign


def test_classwise_ece_is_the_definition():
  random = np.random.default_rng(3)
  n, k = 300, 4
  probs = random.dirichlet(np.full(k, 0.4), n).astype(np.float32)
  labels = random.integers(0, k, n).astype(np.int32)
  sums = sums_of(probs, labels)
  # In float64, class by class and bin by bin.
  shown = np.asarray(jax.nn.softmax(np.maximum(np.log(probs), -1e4)))
  total = 0.0
  for c in range(k):
    for low in np.arange(15) / 15:
      p = shown[:, c].astype(float)
      inside = (p >= np.float32(low)) & (p < np.float32(low + 1 / 15))
      total += abs(p[inside].sum() - (labels[inside] == c).sum())
    total += abs((p[p >= 1] - (labels[p >= 1] == c)).sum())
  result = metrics.finalize(metrics.add_up(sums))
  assert result['classwise_ece'] == pytest.approx(total / k / n, rel=1e-4)
  assert sums.class_count.sum() == n
  np.testing.assert_allclose(sums.class_probability.sum(), n, rtol=1e-5)


def test_adaptive_ece_has_bins_of_equal_mass():
  scores = random_scores(1003)
  order = sorted(range(1003), key=lambda i: scores.confidence[i])
  sizes = [67] * 13 + [66] * 2  # 1003 = 13 * 67 + 2 * 66
  total, first = 0.0, 0
  for size in sizes:
    part = order[first : first + size]
    total += abs(
      sum(float(scores.confidence[i]) - bool(scores.correct[i]) for i in part)
    )
    first += size
  assert metrics.adaptive_ece(scores) == pytest.approx(total / 1003, rel=1e-9)
  # One bin: the absolute gap.
  gap = scores.confidence.astype(float).mean() - scores.correct.mean()
  assert metrics.adaptive_ece(scores, 1) == pytest.approx(abs(gap), rel=1e-6)


def test_ece_over_batches_is_the_mean_of_each_batchs():
  scores = random_scores(250)
  means = []
  for first in (0, 100, 200):
    part = slice(first, first + 100)
    confidence, correct = scores.confidence[part], scores.correct[part]
    slot = np.minimum((confidence.astype(float) * 15).astype(int), 15)
    gaps = [
      abs((confidence[slot == j].astype(float) - correct[slot == j]).sum())
      for j in range(16)
    ]
    means.append(sum(gaps) / len(confidence))
  ours = metrics.ece_over_batches(scores, 100)
  assert ours == pytest.approx(np.mean(means), rel=1e-6)


def test_ece_over_batches_is_large_for_a_calibrated_model():
  """Why the pooled figure is the one to report."""
  random = np.random.default_rng(0)
  confidence = random.uniform(0.3, 1, 20_000).astype(np.float32)
  scores = metrics.ExampleScores(
    confidence, random.uniform(size=20_000) < confidence
  )
  pooled = metrics.ece_over_batches(scores, 20_000)
  assert pooled < 0.015
  assert metrics.ece_over_batches(scores, 100) > 0.06


def test_scores_are_those_that_the_sums_count():
  random = np.random.default_rng(5)
  logits = random.normal(size=(40, 6)).astype(np.float32)
  labels = random.integers(0, 5, 40).astype(np.int32)
  scores = metrics.score_examples(jnp.asarray(logits), labels, 5)  # 1 extra
  sums = metrics.batch_sums(
    jnp.asarray(logits), jnp.asarray(labels), jnp.ones(40, bool), 5
  )
  assert int((~np.asarray(scores.correct)).sum()) == int(sums.errors)
  np.testing.assert_allclose(
    np.asarray(scores.confidence).sum(), sums.confidence, rtol=1e-6
  )


def test_a_batch_of_as_many_examples_as_classes():
  """Square logits: each row is an example, and each column a class."""
  logits = np.random.default_rng(6).normal(size=(5, 5)) * 3
  labels = np.int32([4, 2, 0, 2, 1])
  probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  result = measure(logits, labels)
  right = [
    row.argmax() == label for row, label in zip(probs, labels, strict=True)
  ]
  nll = [-np.log(row[label]) for row, label in zip(probs, labels, strict=True)]
  brier = [
    np.square(row - np.eye(5)[label]).sum()
    for row, label in zip(probs, labels, strict=True)
  ]
  assert result['n'] == 5
  assert result['error'] == pytest.approx(1 - np.mean(right))
  assert result['nll'] == pytest.approx(np.mean(nll), rel=1e-5)
  assert result['brier'] == pytest.approx(np.mean(brier), rel=1e-5)
  assert result['confidence'] == pytest.approx(probs.max(1).mean(), rel=1e-5)
  scores = metrics.score_examples(jnp.asarray(logits), labels, 5)
  np.testing.assert_array_equal(scores.correct, right)
  np.testing.assert_allclose(scores.confidence, probs.max(1), rtol=1e-5)
