"""A branch under vmap: same values as lax.cond, work for the needed only."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from mollify_jax.kernels.conditional import apply_where


def scale(value, factor):
  return (value * factor).astype(value.dtype)


def batch(size, shape=(2, 3)):
  random = np.random.default_rng(size)
  return (
    random.random(size) < 0.4,
    random.normal(size=(size, *shape)).astype(np.float32),
    random.normal(size=size).astype(np.float32),
  )


def mapped(needed, values, factors):
  return jax.vmap(lambda n, v, f: apply_where(n, scale, v, f))(
    needed, values, factors
  )


def expected(needed, values, factors):
  computed = values * factors[:, None, None]
  return np.where(needed[:, None, None], computed, values)


def test_one_example():
  value = jnp.arange(3.0)
  for needed in (True, False):
    out = jax.jit(lambda n: apply_where(n, scale, value, 2.0))(needed)
    np.testing.assert_array_equal(out, value * (2 if needed else 1))


# Around the size of a chunk, where the last round is full, partly filled and
# beyond the batch.
@pytest.mark.parametrize('size', [1, 15, 16, 17, 100, 300])
def test_a_batch_equals_a_loop(size):
  arguments = batch(size)
  np.testing.assert_array_equal(mapped(*arguments), expected(*arguments))
  np.testing.assert_array_equal(
    jax.jit(mapped)(*arguments), expected(*arguments)
  )


@pytest.mark.parametrize('needed', [False, True])
def test_none_and_all(needed):
  _, values, factors = batch(40)
  flags = np.full(40, needed)
  np.testing.assert_array_equal(
    mapped(flags, values, factors), expected(flags, values, factors)
  )


def test_what_is_shared_is_shared():
  needed, values, factors = batch(20)
  out = jax.vmap(lambda n, f: apply_where(n, scale, values[0], f))(
    needed, factors
  )
  shared = np.broadcast_to(values[0], values.shape)
  np.testing.assert_array_equal(out, expected(needed, shared, factors))
  out = jax.vmap(lambda v: apply_where(True, scale, v, 3.0))(values)
  np.testing.assert_array_equal(out, values * 3)


def test_nested_maps_make_one_batch():
  needed, values, factors = batch(60)
  out = jax.vmap(mapped)(
    needed.reshape(5, 12),
    values.reshape(5, 12, 2, 3),
    factors.reshape(5, 12),
  )
  np.testing.assert_array_equal(
    out.reshape(values.shape), expected(needed, values, factors)
  )


def count_rounds(needed):
  """How often a chunk of at most 16 examples is computed."""
  rounds = []

  def counted(value):
    jax.debug.callback(lambda: rounds.append(1))
    return value + 1

  jax.block_until_ready(
    jax.vmap(lambda n, v: apply_where(n, counted, v))(needed, jnp.zeros(64))
  )
  jax.effects_barrier()
  return len(rounds)


def test_only_the_needed_are_computed():
  assert count_rounds(jnp.zeros(64, bool)) == 0
  assert count_rounds(jnp.arange(64) % 7 == 3) == 1
  assert count_rounds(jnp.arange(64) < 17) == 2
  assert count_rounds(jnp.ones(64, bool)) == 4


def test_under_shard_map():
  needed, values, factors = batch(24)
  mesh = Mesh(np.array(jax.devices()[:1]), ('d',))
  out = jax.jit(
    jax.shard_map(
      mapped,
      mesh=mesh,
      in_specs=PartitionSpec('d'),
      out_specs=PartitionSpec('d'),
    )
  )(needed, values, factors)
  np.testing.assert_array_equal(out, expected(needed, values, factors))


def test_a_shared_value_under_shard_map():
  needed, values, factors = batch(24)
  mesh = Mesh(np.array(jax.devices()[:1]), ('d',))
  out = jax.jit(
    jax.shard_map(
      jax.vmap(
        lambda n, v, f: apply_where(n, scale, v, f), in_axes=(0, None, 0)
      ),
      mesh=mesh,
      in_specs=(PartitionSpec('d'), PartitionSpec(), PartitionSpec('d')),
      out_specs=PartitionSpec('d'),
    )
  )(needed, values[0], factors)
  shared = np.broadcast_to(values[0], values.shape)
  np.testing.assert_array_equal(out, expected(needed, shared, factors))


def test_a_flag_that_is_no_bool_is_refused():
  with pytest.raises(TypeError, match="needed as bool, got dtype 'int32'"):
    apply_where(2, scale, jnp.zeros(3), 1.0)
