"""Label rules against float64 arrays, their sums and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollify_jax import temper_label, temper_labels
from mollify_jax.kernels.labels import RULES, num_outputs

CODES = {'smooth': 'ls', 'decay': 'ld', 'extra': 'la', 'extra_smooth': 'lm'}


@pytest.mark.parametrize('rule', RULES)
def test_reference(reference, rule):
  golden = reference('labels.npz')
  classes = int(golden['num_classes'])
  onehot = golden[f'onehot_{CODES[rule]}'][:, :classes]
  value = temper_labels(onehot, golden['gamma'], rule)
  assert value.shape[1] == num_outputs(classes, rule)
  np.testing.assert_allclose(
    value, golden[f'exact64_{CODES[rule]}'], rtol=0, atol=1e-6
  )


@pytest.mark.parametrize('rule', RULES)
def test_batch_of_size_k_is_not_confused(rule):
  """A [B] strength must not broadcast over the K classes when B == K."""
  labels = jnp.eye(4)
  gamma = jnp.array([0.0, 0.2, 0.5, 1.0])
  batch = jax.jit(temper_labels, static_argnums=2)(labels, gamma, rule)
  for i in range(4):
    one = temper_label(labels[i], gamma[i], rule)
    np.testing.assert_allclose(batch[i], one, atol=1e-7)
  sums = {
    'smooth': jnp.ones(4),
    'decay': 1 - gamma,
    'extra': 1 + gamma,
    'extra_smooth': jnp.ones(4),
  }
  np.testing.assert_allclose(batch.sum(1), sums[rule], atol=1e-6)


def test_limits():
  label = jnp.array([0.0, 0.7, 0.3])  # a mixed label
  np.testing.assert_array_equal(temper_label(label, 0.0), label)
  np.testing.assert_allclose(temper_label(label, 1.0), 1 / 3, atol=1e-7)
  np.testing.assert_array_equal(temper_label(label, 1.0, 'decay'), 0)


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_dtype_is_kept(dtype):
  label = jnp.eye(3, dtype=dtype)[0]
  assert temper_label(label, 0.25).dtype == label.dtype


def test_wrong_inputs_are_named():
  label = jnp.eye(3)[0]
  with pytest.raises(ValueError, match="unknown label rule 'soft'; choose one"):
    temper_label(label, 0.5, rule='soft')
  with pytest.raises(ValueError, match='call temper_labels'):
    temper_label(jnp.eye(3), 0.5)
  with pytest.raises(ValueError, match='one scalar gamma per example'):
    temper_label(label, jnp.zeros(3))
  with pytest.raises(TypeError, match='one-hot label first'):
    temper_label(jnp.array([0, 1, 0]), 0.5)
