"""Softening of one label by as much as its image was degraded."""

import jax
import jax.numpy as jnp

from mollify_jax.kernels.shapes import (
  check_lengths,
  check_scalar,
  check_vector,
)

# What a rule makes of the label y [K] at softening gamma.
RULES = ('smooth', 'decay', 'extra', 'extra_smooth')
EXTRA_CLASS_RULES = ('extra', 'extra_smooth')


def check_rule(rule: str) -> None:
  """Refuses a label rule that does not exist.

  Raises:
    ValueError: the message lists the choices.
  """
  if rule not in RULES:
    raise ValueError(
      f'unknown label rule {rule!r}; choose one of {", ".join(RULES)}'
    )


def num_outputs(num_classes: int, rule: str) -> int:
  """Columns of a tempered label, and so of the logits: K, or K + 1.

  Raises:
    ValueError: unknown rule.
  """
  check_rule(rule)
  return num_classes + (rule in EXTRA_CLASS_RULES)


def temper_label(
  label: jax.Array, gamma: jax.Array, rule: str = 'smooth'
) -> jax.Array:
  """Softens one label distribution by gamma.

  - `smooth`: (1 - gamma) y + gamma / K, the paper's; uniform at gamma 1
  - `decay`: (1 - gamma) y; no target at gamma 1
  - `extra`: y, plus an extra class of mass gamma (sums to 1 + gamma)
  - `extra_smooth`: (1 - gamma) y, plus an extra class of mass gamma

  Source: Heinonen et al. 2025 (arXiv 2406.01494), section 3 and ablations.

  Args:
    label: float[K], one-hot or any distribution (a MixUp label); sums to 1.
    gamma: float[], in [0, 1].
    rule: one of `RULES`, static.

  Returns:
    float[K], or float[K + 1] for the two `extra` rules (the extra class is
    last). Same dtype, computed in float32. Equals `label` at gamma = 0.

  Raises:
    ValueError: `label` is not rank 1, `gamma` not a scalar, unknown rule.
    TypeError: `label` holds class indices, not probabilities.
  """
  check_rule(rule)
  check_vector(label, 'temper_label', 'temper_labels')
  check_scalar(gamma, 'gamma', 'temper_label')
  dtype = jnp.result_type(label)
  if not jnp.issubdtype(dtype, jnp.floating):
    raise TypeError(
      f'temper_label takes probabilities, got dtype {dtype.name!r}; '
      'make a one-hot label first: jax.nn.one_hot(index, num_classes)'
    )
  y = label.astype(jnp.float32)
  gamma = jnp.asarray(gamma, jnp.float32)
  if rule == 'smooth':
    tempered = (1.0 - gamma) * y + gamma / y.shape[0]
  elif rule == 'decay':
    tempered = (1.0 - gamma) * y
  elif rule == 'extra':
    tempered = jnp.append(y, gamma)
  else:
    tempered = jnp.append((1.0 - gamma) * y, gamma)
  return tempered.astype(dtype)


def temper_labels(
  labels: jax.Array, gammas: jax.Array, rule: str = 'smooth'
) -> jax.Array:
  """Softens a batch: labels float[B, K], gammas float[B]; see `temper_label`.

  Returns:
    float[B, K], or float[B, K + 1] for the two `extra` rules.

  Raises:
    ValueError, TypeError: as `temper_label`.
  """
  check_lengths('temper_labels', labels=labels, gammas=gammas)
  return jax.vmap(lambda y, g: temper_label(y, g, rule=rule))(labels, gammas)
