"""Losses and their gradients against float64, where float32 is fragile too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from mollify_jax import losses


def softmax64(logits):
  logits = np.asarray(logits, np.float64)
  return scipy.special.softmax(logits, axis=-1)


def log_z_and_gradient64(logits):
  """log Z and its gradient by 64-point quadrature of the integral over g.

  Z = sum_k int_0^1 f_k^(1-g) m^g dg, an oracle that knows nothing of the
  closed form.
  """
  log_f = scipy.special.log_softmax(np.asarray(logits, np.float64))
  size = len(log_f)
  nodes, weights = np.polynomial.legendre.leggauss(64)
  g = 0.5 * (nodes + 1)
  terms = (
    0.5
    * weights[:, None]
    * np.exp((1 - g)[:, None] * log_f + g[:, None] * log_f.mean())
  )
  z = terms.sum()
  gradient = ((1 - g)[:, None] * terms).sum(0) + (
    g[:, None] * terms
  ).sum() / size
  return np.log(z), gradient / z - np.exp(log_f)


@pytest.mark.parametrize('tag', ['k10', 'k100'])
def test_reference_values(reference, tag):
  golden = reference('losses.npz')
  logits, labels = golden[f'logits_{tag}'], golden[f'y_{tag}']
  for loss, name in (
    (losses.cross_entropy, 'ce'),
    (losses.normalized_cross_entropy, 'nce'),
  ):
    np.testing.assert_allclose(
      jax.vmap(loss)(logits, labels),
      golden[f'exact64_{name}_per_{tag}'],
      rtol=1e-5,
    )
  log_z = jax.vmap(losses.normalized_cross_entropy)(
    logits, jnp.zeros_like(labels)
  )
  np.testing.assert_allclose(
    jnp.exp(log_z), golden[f'quad64_Z_per_{tag}'], rtol=1e-5
  )


@pytest.mark.parametrize('tag', ['degenerate', 'geomean'])
def test_reference_where_classes_sit_at_the_geometric_mean(reference, tag):
  golden = reference('losses.npz')
  suffix = '' if tag == 'degenerate' else '_k3'
  value = jax.vmap(losses.normalized_cross_entropy)(
    golden[f'{tag}_logits{suffix}'], golden[f'{tag}_y{suffix}']
  )
  np.testing.assert_allclose(value, golden[f'{tag}_nce_limit64'], rtol=1e-5)


@pytest.mark.parametrize('tag', ['k10', 'k100'])
def test_gradients(reference, tag):
  golden = reference('losses.npz')
  for logits, label in zip(
    golden[f'logits_{tag}'], golden[f'y_{tag}'], strict=True
  ):
    label64 = label.astype(np.float64)
    plain = softmax64(logits) * label64.sum() - label64
    _, log_z = log_z_and_gradient64(logits)
    scale = np.abs(plain).max()
    for loss, exact in (
      (losses.cross_entropy, plain),
      (losses.dirichlet_nll, plain),
      (losses.normalized_cross_entropy, plain + log_z),
    ):
      gradient = jax.grad(loss)(jnp.asarray(logits), jnp.asarray(label))
      np.testing.assert_allclose(gradient, exact, rtol=1e-5, atol=1e-6 * scale)


@pytest.mark.parametrize('spread', [0.0, 1e-7, 1e-6, 1e-4, 1e-2, 0.3, 1.0])
@pytest.mark.parametrize('size', [2, 10, 1000])
def test_normalised_gradient_near_equal_logits(spread, size):
  rng = np.random.default_rng(3)
  logits = (1.5 + spread * rng.normal(size=size)).astype(np.float32)
  label = np.eye(size, dtype=np.float32)[0]
  value, gradient = jax.jit(
    jax.value_and_grad(losses.normalized_cross_entropy)
  )(logits, label)
  log_z, slope = log_z_and_gradient64(logits)
  f = softmax64(logits)
  np.testing.assert_allclose(value, log_z - np.log(f[0]), rtol=1e-5)
  np.testing.assert_allclose(gradient, f - label + slope, rtol=1e-5)


def test_normaliser_alone_near_equal_logits():
  """Without the label's gradient, which hides an error of the normaliser."""
  logits = np.float32([0.0, 1e-3, -2e-3, 5e-4])
  slope = jax.grad(losses.normalized_cross_entropy)(logits, np.zeros(4, 'f'))
  _, exact = log_z_and_gradient64(logits)
  np.testing.assert_allclose(slope, exact, atol=1e-7)


def test_series_meets_the_direct_form():
  d = jnp.array([-0.5001, -0.4999, 0.4999, 0.5001, -1e-4, 0.0, 2.0, -30.0])
  value = losses._log_expm1_ratio(d)
  d = np.asarray(d, np.float64)
  with np.errstate(invalid='ignore'):
    exact = np.where(d == 0, 0, np.log(np.expm1(d) / d))
  np.testing.assert_allclose(value, exact, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize('scale', [1e2, 1e4])
def test_finite_at_extreme_logits(scale):
  logits = scale * jnp.array([1.0, -1.0, 0.0, 0.5])
  label = jnp.full(4, 0.25)
  for loss in (
    losses.cross_entropy,
    losses.dirichlet_nll,
    losses.normalized_cross_entropy,
  ):
    value, gradient = jax.value_and_grad(loss)(logits, label)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_dirichlet_is_a_density():
  """Integrates to 1 over the simplex of three classes."""
  label = jnp.array([0.6, 0.3, 0.1])
  n = 400
  a, b = np.meshgrid(np.arange(n) + 0.5, np.arange(n) + 0.5)
  inside = a + b < n
  f = np.stack([a, b, n - a - b], -1)[inside] / n
  density = np.exp(
    -jax.vmap(losses.dirichlet_nll, (0, None))(np.log(f).astype('f'), label)
  )
  # Cells on the diagonal are cut in half; their share is O(1 / n).
  np.testing.assert_allclose(density.sum() / n**2, 1, atol=5e-3)


def test_multi_sample():
  log_probs = jnp.log(jnp.array([0.9, 0.1, 0.2]))
  value = losses.multi_sample_nll(log_probs)
  np.testing.assert_allclose(value, -np.log(0.4), rtol=1e-6)
  assert losses.multi_sample_nll(log_probs[:1]) == -log_probs[0]
  # Far below the smallest float32 probability.
  value = losses.multi_sample_nll(jnp.array([-500.0, -500.0]))
  np.testing.assert_allclose(value, 500, rtol=1e-6)


def test_low_precision_logits_are_computed_in_float32():
  logits = jnp.array([3.0, -1.0, 0.5], jnp.bfloat16)
  label = jnp.array([1.0, 0.0, 0.0], jnp.bfloat16)
  value = losses.cross_entropy(logits, label)
  assert value.dtype == jnp.float32
  np.testing.assert_allclose(value, -np.log(softmax64(logits)[0]), rtol=1e-5)


def test_wrong_inputs_are_named():
  with pytest.raises(ValueError, match=r'jax.vmap\(cross_entropy\)'):
    losses.cross_entropy(jnp.zeros((2, 3)), jnp.zeros((2, 3)))
  with pytest.raises(ValueError, match=r'got \(3,\) and \(4,\)'):
    losses.dirichlet_nll(jnp.zeros(3), jnp.zeros(4))
  with pytest.raises(ValueError, match='multi_sample_nll'):
    losses.multi_sample_nll(jnp.zeros(()))


@pytest.mark.parametrize('shape', [(3, 10), (2, 2), (4, 1000)])
def test_jensen_shannon_equals_float64(shape):
  logits = np.random.default_rng(0).normal(size=shape).astype(np.float32) * 5
  f = softmax64(logits)
  mean = f.mean(axis=0)
  want = np.mean([scipy.special.rel_entr(row, mean).sum() for row in f])
  ours = losses.jensen_shannon(logits)
  np.testing.assert_allclose(ours, want, rtol=1e-5)
  np.testing.assert_allclose(jax.jit(losses.jensen_shannon)(logits), ours)

  def at(scale):  # d/ds of the divergence of s * logits, by differences
    f = softmax64(scale * logits.astype(np.float64))
    mean = f.mean(axis=0)
    return np.mean([scipy.special.rel_entr(row, mean).sum() for row in f])

  gradient = jax.grad(losses.jensen_shannon)(jnp.asarray(logits))
  np.testing.assert_allclose(
    np.sum(gradient * logits),
    (at(1 + 1e-4) - at(1 - 1e-4)) / 2e-4,
    rtol=2e-3,
    atol=1e-6,
  )


def test_jensen_shannon_limits():
  agree = jnp.tile(jnp.array([3.0, -1.0, 0.5]), (3, 1))
  np.testing.assert_allclose(losses.jensen_shannon(agree), 0, atol=1e-6)
  # Views that are sure of different classes: ln V, whatever the logits' size.
  for size in (30.0, 1e4):
    certain = size * jnp.eye(3, 5)
    value, gradient = jax.value_and_grad(losses.jensen_shannon)(certain)
    np.testing.assert_allclose(value, np.log(3), rtol=1e-5)
    assert np.isfinite(gradient).all()
  # The order of views is of no account.
  logits = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
  np.testing.assert_allclose(
    losses.jensen_shannon(logits[::-1]), losses.jensen_shannon(logits), 1e-6
  )
  with pytest.raises(ValueError, match=r'takes the logits \[V, K\].*\(3,\)'):
    losses.jensen_shannon(jnp.zeros(3))


@pytest.mark.parametrize(
  'loss',
  [
    losses.cross_entropy,
    losses.dirichlet_nll,
    losses.normalized_cross_entropy,
  ],
)
def test_a_batch_of_as_many_as_classes_is_a_loop(loss):
  """Square arrays, which would hide a mean over the wrong axis."""
  random = np.random.default_rng(4)
  logits = random.normal(size=(6, 6)).astype(np.float32) * 3
  labels = random.dirichlet(np.ones(6), 6).astype(np.float32)
  batch = jax.jit(jax.vmap(loss))(logits, labels)
  one_by_one = [
    loss(row, label) for row, label in zip(logits, labels, strict=True)
  ]
  np.testing.assert_allclose(batch, one_by_one, rtol=1e-5)
  # As many views as classes, too.
  f = softmax64(logits)
  want = scipy.special.rel_entr(f, f.mean(axis=0)).sum(axis=1).mean()
  np.testing.assert_allclose(losses.jensen_shannon(logits), want, rtol=1e-5)
