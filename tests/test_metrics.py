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
