"""Every random key is born here: root -> purpose -> step -> global example.

Keys are folded, never carried. A key is a function of (seed, purpose, step,
position in the global batch), so no checkpoint stores one, a resumed run draws
what the uninterrupted run would have drawn, and the draw does not depend on
how many devices share the batch.
"""

import enum

import jax
import jax.numpy as jnp


class Purpose(enum.IntEnum):
  """What a stream of randomness is for. The numbers must never change."""

  INITIALIZE = 0
  AUGMENT = 1
  MOLLIFY = 2
  MODEL = 3
  EVALUATE = 4
  CORRUPT = 5
  MIX = 6
  LIKELIHOOD = 7


def purpose_key(seed: int, purpose: Purpose) -> jax.Array:
  """The root key of one purpose: key[]."""
  return jax.random.fold_in(jax.random.key(seed), int(purpose))


def step_key(seed: int, purpose: Purpose, step: int | jax.Array) -> jax.Array:
  """The key of one purpose at one training step: key[]."""
  return jax.random.fold_in(purpose_key(seed, purpose), step)


def example_keys(
  key: jax.Array, first_index: int | jax.Array, batch_size: int
) -> jax.Array:
  """One key per example, bound to its position in the global batch.

  Args:
    key: key[], for instance of a training step.
    first_index: int32[], the global position of the first example: 0 on one
      device, `device_index * batch_size` on several.
    batch_size: static, the number of examples on this device.

  Returns:
    key[batch_size] for positions first_index + [0, batch_size).

  Raises:
    TypeError: `key` is not a typed key, or `batch_size` not an int.
    ValueError: a negative `first_index` (if it is known while tracing).
  """
  if not jnp.issubdtype(jnp.result_type(key), jax.dtypes.prng_key):
    raise TypeError(f'example_keys takes jax.random.key(seed), got {key!r}')
  if not isinstance(batch_size, int):
    raise TypeError(f'batch_size must be an int, got {batch_size!r}')
  if isinstance(first_index, int) and first_index < 0:
    raise ValueError(f'first_index must be >= 0, got {first_index!r}')
  return keys_at(key, first_index + jnp.arange(batch_size))


def keys_at(key: jax.Array, indices: jax.Array) -> jax.Array:
  """One key per index: key[B] from key[] and int32[B]."""
  return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, indices)
