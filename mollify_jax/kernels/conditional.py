"""A branch whose `vmap` costs only the examples that take it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def apply_where(
  needed: jax.Array,
  function: Callable[..., jax.Array],
  value: jax.Array,
  *arguments: Any,
) -> jax.Array:
  """`function(value, *arguments)` where `needed`, `value` elsewhere.

  The same as `lax.cond(needed, function, ...)`, whose `vmap` evaluates both
  sides for every example and selects. The `vmap` of this one collects the
  examples that are needed, computes them a few at a time in a loop that ends
  with the last of them, and puts them back: a rare and costly branch costs a
  batch what its examples cost. Nested `vmap`s make one batch. Forward only; it
  has no gradient.

  Args:
    needed: bool[].
    function: of one example, static; it may close over static values only, and
      returns the shape and dtype of `value`.
    value: an array.
    arguments: arrays, passed to `function`.

  Returns:
    Same shape and dtype as `value`.

  Raises:
    TypeError: `needed` is not bool.
  """

  @jax.custom_batching.custom_vmap
  def branch(needed, value, *arguments):
    return jax.lax.cond(
      needed, lambda: function(value, *arguments), lambda: value
    )

  @branch.def_vmap
  def on_batch(size, in_batched, *operands):
    return batch(*_broadcast(size, in_batched, operands)), True

  @jax.custom_batching.custom_vmap
  def batch(needed, value, *arguments):
    return _apply_to_needed(needed, function, value, arguments)

  @batch.def_vmap
  def on_batch_of_batches(size, in_batched, *operands):
    operands = _broadcast(size, in_batched, operands)
    shape = operands[1].shape
    merged = [operand.reshape(-1, *operand.shape[2:]) for operand in operands]
    return batch(*merged).reshape(shape), True

  needed, value, *arguments = map(jnp.asarray, (needed, value, *arguments))
  if needed.dtype != bool:
    raise TypeError(
      f'apply_where takes needed as bool, got dtype {needed.dtype.name!r}'
    )
  # Under shard_map both sides must vary over the same axes of the mesh.
  value = jnp.where(needed, value, value)
  return branch(needed, value, *arguments)


def _broadcast(size, in_batched, operands):
  """All with a leading axis [size]."""
  return [
    operand if batched else jnp.broadcast_to(operand, (size, *operand.shape))
    for operand, batched in zip(operands, in_batched, strict=True)
  ]


def _apply_to_needed(needed, function, value, arguments):
  """The batch: bool[B], values [B, ...], arguments [B, ...] each."""
  size = needed.shape[0]
  # Small enough that a partly filled last round wastes little, large enough
  # that an accelerator goes round the loop a few times only.
  chunk = min(size, max(_SMALLEST_CHUNK, size // 8))
  order = jnp.argsort(~needed)  # the needed ones first
  count = jnp.sum(needed, dtype=jnp.int32)

  def unfinished(carry):
    first, _ = carry
    return first < count

  def compute_chunk(carry):
    first, result = carry
    place = first + jnp.arange(chunk, dtype=jnp.int32)
    index = order[jnp.minimum(place, size - 1)]
    computed = jax.vmap(function)(
      result[index], *(argument[index] for argument in arguments)
    )
    # Places past the last needed one write nowhere.
    nowhere = size + jnp.arange(chunk, dtype=index.dtype)
    index = jnp.where(place < count, index, nowhere)
    return first + chunk, result.at[index].set(
      computed, mode='drop', unique_indices=True
    )

  _, result = jax.lax.while_loop(
    unfinished, compute_chunk, (jnp.int32(0), value)
  )
  return result


_SMALLEST_CHUNK = 16
