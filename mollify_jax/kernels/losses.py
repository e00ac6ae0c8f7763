"""Losses of one example's logits [K] against a soft label [K].

All compute in float32 and return float32[] in nats; map over a batch with
`jax.vmap`. Source: Heinonen et al. 2025 (arXiv 2406.01494), section 3.
"""

import math

import jax
import jax.numpy as jnp

from mollify_jax.kernels.shapes import check_vector


def cross_entropy(logits: jax.Array, label: jax.Array) -> jax.Array:
  """Cross-entropy -sum_k y_k log f_k with f = softmax(logits).

  Args:
    logits: float[K].
    label: float[K], non-negative; need not sum to 1.

  Returns:
    float32[], >= 0.

  Raises:
    ValueError: not two vectors of one length.
  """
  log_f, y = _log_softmax_and_label('cross_entropy', logits, label)
  return -jnp.sum(y * log_f)


def dirichlet_nll(logits: jax.Array, label: jax.Array) -> jax.Array:
  """Cross-entropy read as a likelihood: -log Dir(f; 1 + y).

  log Dir(f; 1 + y) = sum_k y_k log f_k + ln Gamma(K + sum_k y_k)
                      - sum_k ln Gamma(1 + y_k),
  where sum_k y_k = 1 for a label distribution. Tempering moves the
  concentration from 1 + onehot to 1 + 1/K. The gradient in the logits is
  that of `cross_entropy`.

  Args:
    logits: float[K].
    label: float[K], non-negative.

  Returns:
    float32[]; a density, so it may be negative.

  Raises:
    ValueError: not two vectors of one length.
  """
  _, y = _log_softmax_and_label('dirichlet_nll', logits, label)
  gammaln = jax.scipy.special.gammaln
  log_normalizer = gammaln(y.shape[0] + jnp.sum(y)) - jnp.sum(gammaln(1.0 + y))
  return cross_entropy(logits, label) - log_normalizer


def normalized_cross_entropy(logits: jax.Array, label: jax.Array) -> jax.Array:
  """Cross-entropy plus the log normaliser of the tempered likelihood.

  log Z with Z = sum_k int_0^1 f_k^(1-g) fbar^g dg
               = sum_k f_k expm1(d_k) / d_k,   d_k = ln fbar - ln f_k,
  and fbar the geometric mean of f. The form (fbar - f_k) / d_k is 0/0 for
  every class at the geometric mean; this one has a series there, and works on
  logarithms, so that logits of any size neither overflow nor cancel.

  Args:
    logits: float[K].
    label: float[K], non-negative.

  Returns:
    float32[]. Equal logits give log Z = 0 and the gradient of
    `cross_entropy`.

  Raises:
    ValueError: not two vectors of one length.
  """
  log_f, y = _log_softmax_and_label('normalized_cross_entropy', logits, label)
  difference = jnp.mean(log_f) - log_f
  log_z = jax.nn.logsumexp(log_f + _log_expm1_ratio(difference))
  return -jnp.sum(y * log_f) + log_z


def multi_sample_nll(log_probs: jax.Array) -> jax.Array:
  """Negative log of the mean likelihood over S augmented views.

  -log (1/S) sum_s p(y | x_s): equation 1 of Heinonen et al. 2025 as S grows,
  its bound, equation 2, at S = 1.

  Args:
    log_probs: float[S], log p(y | x_s).

  Returns:
    float32[], the NLL of the averaged prediction.

  Raises:
    ValueError: `log_probs` is not one non-empty vector.
  """
  check_vector(log_probs, 'multi_sample_nll', 'jax.vmap(multi_sample_nll)')
  log_probs = jnp.asarray(log_probs, jnp.float32)
  return math.log(log_probs.shape[0]) - jax.nn.logsumexp(log_probs)


def jensen_shannon(logits: jax.Array) -> jax.Array:
  """Jensen-Shannon divergence between the predictions for V views.

  1/V sum_v KL(f_v || m) with f_v = softmax(logits_v) and m their mean: AugMix's
  consistency loss, there with V = 3 and a weight of 12. Source: Hendrycks et
  al. 2020 (arXiv 1912.02781), section 3, whose code cuts m off at 1e-7; in
  logarithms that is not needed.

  Args:
    logits: float[V, K].

  Returns:
    float32[] in nats, in [0, ln V] to rounding (1e-7); 0 where all agree.

  Raises:
    ValueError: not a non-empty [V, K].
  """
  shape = jnp.shape(logits)
  if len(shape) != 2 or 0 in shape:
    raise ValueError(
      f'jensen_shannon takes the logits [V, K] of one example, got shape '
      f'{shape!r}; for a batch call jax.vmap(jensen_shannon)'
    )
  log_f = jax.nn.log_softmax(jnp.asarray(logits, jnp.float32))
  log_mean = jax.nn.logsumexp(log_f, axis=0) - math.log(shape[0])
  divergence = jnp.sum(jnp.exp(log_f) * (log_f - log_mean), axis=1)
  return jnp.mean(divergence)


def _log_softmax_and_label(function, logits, label):
  check_vector(logits, function, f'jax.vmap({function})')
  check_vector(label, function, f'jax.vmap({function})')
  if jnp.shape(logits) != jnp.shape(label):
    raise ValueError(
      f'{function} needs logits and label of one length, got '
      f'{jnp.shape(logits)!r} and {jnp.shape(label)!r}'
    )
  logits = jnp.asarray(logits, jnp.float32)
  return jax.nn.log_softmax(logits), jnp.asarray(label, jnp.float32)


def _log_expm1_ratio(d: jax.Array) -> jax.Array:
  """log(expm1(d) / d), with the value d/2 + d^2/24 - ... through d = 0."""
  # Even but for d/2. The series is cut at d^6: the next term is below 5e-10.
  near = jnp.abs(d) < 0.5
  square = jnp.square(jnp.where(near, d, 0.0))
  series = square * (1 / 24 - square * (1 / 2880 - square / 181440))
  # The other branch must stay finite where it is not taken, or its gradient
  # would turn the sum into NaN.
  a = jnp.where(near, 1.0, jnp.abs(d))
  direct = jnp.log(-jnp.expm1(-a) / a) + 0.5 * a
  return 0.5 * d + jnp.where(near, series, direct)
