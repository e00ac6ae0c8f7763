"""Checkpoints: what goes in comes out, the newest stays."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mollify_jax import parallel
from mollify_jax.models import create_model
from mollify_jax.training.checkpoints import Checkpoints
from mollify_jax.training.state import create_state


def make_state(seed=0, with_ema=True):
  return create_state(
    create_model('small_cnn', 3),
    optax.sgd(0.1, momentum=0.9),
    (8, 8, 1),
    seed,
    with_ema=with_ema,
  )


def test_round_trip_and_keep(tmp_path):
  state = parallel.replicate(make_state())
  checkpoints = Checkpoints(tmp_path / 'checkpoints', keep=2)
  assert checkpoints.latest_step() is None
  with pytest.raises(FileNotFoundError, match='no checkpoint under'):
    checkpoints.restore(like=state)
  for step in (10, 20, 30):
    saved = state.replace(
      step=jnp.int32(step),
      params=jax.tree.map(lambda leaf, s=step: leaf + s, state.params),
    )
    checkpoints.save(saved)
  checkpoints.close()
  names = sorted(path.name for path in (tmp_path / 'checkpoints').iterdir())
  assert names == ['step_20', 'step_30']

  checkpoints = Checkpoints(tmp_path / 'checkpoints', keep=2)
  assert checkpoints.latest_step() == 30
  restored = checkpoints.restore(like=make_state(seed=1))
  checkpoints.close()
  assert jax.tree.structure(restored) == jax.tree.structure(saved)
  jax.tree.map(np.testing.assert_array_equal, restored, saved)


def test_state_depends_on_the_seed_only():
  jax.tree.map(np.testing.assert_array_equal, make_state(3), make_state(3))
  one, two = (jax.tree.leaves(make_state(seed).params) for seed in (0, 1))
  assert any((a != b).any() for a, b in zip(one, two, strict=True))


def test_moving_average():
  state = make_state()
  moved = state.replace(
    step=jnp.int32(10_000),
    params=jax.tree.map(jnp.ones_like, state.params),
    batch_stats=jax.tree.map(jnp.ones_like, state.batch_stats),
  ).averaged(0.9)
  jax.tree.map(
    lambda new, old: np.testing.assert_allclose(
      new, 0.9 * old + 0.1, rtol=1e-5, atol=1e-7
    ),
    moved.ema,
    state.ema,
  )
  assert moved.variables() is moved.ema
  assert set(make_state(with_ema=False).variables()) == {
    'params',
    'batch_stats',
  }
