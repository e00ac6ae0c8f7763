"""Both forms of several steps, and where the rows of a batch go."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollify_jax import parallel
from mollify_jax.parallel import AXIS


@pytest.mark.parametrize('backend', ['cpu', 'gpu'])
@pytest.mark.parametrize('donate', [False, True])
def test_steps_are_the_body_one_after_the_other(monkeypatch, backend, donate):
  """The scan of accelerators is compiled for the CPU here."""
  monkeypatch.setattr(jax, 'default_backend', lambda: backend)

  def body(carry, matrix, shards, rows, weights):
    local = jnp.sum(rows @ matrix, axis=0) * weights.sum() + shards.sum()
    carry = carry + jax.lax.psum(local, AXIS)
    return carry, {'norm': jnp.linalg.norm(carry), 'carry': carry}

  steps = parallel.parallelize_steps(
    body, constant_axes=(None, 0), num_split=2, donate_carry=donate
  )
  random = np.random.default_rng(0)
  matrix = random.normal(size=(3, 3)).astype(np.float32)
  shards = random.normal(size=(1, 4)).astype(np.float32)
  rows = random.normal(size=(1, 5, 2, 3)).astype(np.float32)
  weights = random.normal(size=(1, 5, 2)).astype(np.float32)
  start = np.ones(3, np.float32)
  carry, outputs = steps(
    parallel.replicate(start), matrix, shards, rows, weights
  )
  want = start.copy()
  for step in range(5):
    local = (rows[0, step] @ matrix).sum(0) * weights[0, step].sum()
    want = want + local + shards.sum()
    np.testing.assert_allclose(outputs['carry'][step], want, rtol=1e-5)
    np.testing.assert_allclose(
      outputs['norm'][step], np.linalg.norm(want), rtol=1e-5
    )
  np.testing.assert_allclose(carry, want, rtol=1e-5)


def test_a_batch_is_split_in_contiguous_parts(monkeypatch):
  """Six devices on three hosts: every position goes to one of them."""
  monkeypatch.setattr(jax, 'device_count', lambda: 6)
  monkeypatch.setattr(jax, 'local_device_count', lambda: 2)
  batch = np.arange(24).reshape(2, 12)
  parts = []
  for process in range(3):
    monkeypatch.setattr(jax, 'process_index', lambda process=process: process)
    part = parallel.split_batch(batch)
    assert part.shape == (2, 2, 2)
    # The share of a host that reads its own rows is split alike.
    own = batch[:, 4 * process : 4 * (process + 1)]
    np.testing.assert_array_equal(parallel.split_local(own), part)
    parts.append(part)
  whole = np.concatenate(parts).swapaxes(0, 1).reshape(2, 12)
  np.testing.assert_array_equal(whole, batch)


def test_a_sharded_array_is_padded_and_found_again():
  array = np.random.default_rng(0).integers(0, 256, (7, 3, 2), np.uint8)
  part = parallel.shard(array)
  assert part.shape == (jax.local_device_count(), 7, 3, 2)
  index = np.array([6, 0, 3, 3], np.int32)
  taken = jax.pmap(
    parallel.take_sharded, axis_name=AXIS, in_axes=(0, None), out_axes=0
  )(part, index)
  np.testing.assert_array_equal(np.concatenate(taken), array[index])


def test_memory_is_a_number_of_bytes():
  assert 2**28 < parallel.device_memory() < 2**50


def test_compiled_programs_get_a_place_unless_there_is_one(tmp_path):
  before = jax.config.jax_compilation_cache_dir
  try:
    jax.config.update('jax_compilation_cache_dir', None)
    parallel.cache_compilations(tmp_path / 'cache')
    chosen = jax.config.jax_compilation_cache_dir
    assert chosen.startswith(str(tmp_path / 'cache' / 'compiled_'))
    assert not (tmp_path / 'cache').exists()  # until something is compiled
    parallel.cache_compilations(tmp_path / 'other')
    assert jax.config.jax_compilation_cache_dir == chosen
  finally:
    jax.config.update('jax_compilation_cache_dir', before)
