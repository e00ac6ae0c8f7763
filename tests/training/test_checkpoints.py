"""Checkpoints: what goes in comes out, the newest stays."""

import errno
import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollify_jax import parallel
from mollify_jax.models import create_model
from mollify_jax.training.checkpoints import Checkpoints
from mollify_jax.training.optimizer import OptimizerSpec, make_optimizer
from mollify_jax.training.state import create_state


@functools.cache
def make_state(seed=0, with_ema=True, num_classes=3, optimizer='sgd'):
  return create_state(
    create_model('small_cnn', num_classes),
    make_optimizer(OptimizerSpec(name=optimizer), 10, 1),
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


def damage(path, kind):
  data = bytearray(path.read_bytes())
  if kind == 'flipped':
    data[len(data) // 2] ^= 0x10
  path.write_bytes(bytes(data[: len(data) // 2] if kind == 'cut' else data))
  if kind == 'empty':
    path.write_bytes(b'')
  if kind == 'missing':
    path.unlink()


@pytest.fixture(scope='module')
def two_checkpoints(tmp_path_factory):
  """(directory, state) with checkpoints of steps 10 and 20."""
  directory = tmp_path_factory.mktemp('run') / 'checkpoints'
  state = make_state()
  checkpoints = Checkpoints(directory)
  for step in (10, 20):
    checkpoints.save(state.replace(step=jnp.int32(step)))
  checkpoints.close()
  return directory, state


def files_of(checkpoint):
  """Those that matter, by what they are: label, manifest, structure, values."""
  files = [path for path in checkpoint.rglob('*') if path.is_file()]
  return {
    'label': checkpoint / '_CHECKPOINT_METADATA',
    'manifest': checkpoint / 'default' / 'manifest.ocdbt',
    'structure': checkpoint / 'default' / '_METADATA',
    'values': max(files, key=lambda path: path.stat().st_size),
  }


def restore_strictly(directory, state):
  checkpoints = Checkpoints(directory)
  try:
    return checkpoints.restore(like=state)
  finally:
    checkpoints.close()


@pytest.mark.parametrize('kind', ['cut', 'flipped', 'empty', 'missing'])
@pytest.mark.parametrize('which', ['label', 'manifest', 'structure', 'values'])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(
  two_checkpoints, tmp_path, which, kind
):
  source, state = two_checkpoints
  directory = tmp_path / 'checkpoints'
  shutil.copytree(source, directory)
  damage(files_of(directory / 'step_20')[which], kind)

  # Where nothing may be moved, it is an error that names it.
  with pytest.raises(ValueError, match=r'step_20 cannot be read \(.+\); train'):
    restore_strictly(directory, state)
  assert (directory / 'step_20').is_dir()

  warnings = []
  checkpoints = Checkpoints(directory, strict=False, warn=warnings.append)
  restored = checkpoints.restore(like=make_state(seed=1))
  (warning,) = warnings
  assert f'{directory / "step_20"} cannot be read' in warning
  assert '\n' not in warning
  assert int(restored.step) == 10
  jax.tree.map(np.testing.assert_array_equal, restored.params, state.params)
  # It lies aside, and its step can be saved again.
  assert (tmp_path / 'unreadable_checkpoints' / 'step_20').is_dir()
  checkpoints.save(state.replace(step=jnp.int32(20)))
  checkpoints.close()
  checkpoints = Checkpoints(directory)
  assert int(checkpoints.restore(like=state).step) == 20
  checkpoints.close()


def relabel(checkpoint, change):
  """Changes what orbax wrote down beside the values."""
  path = checkpoint / '_CHECKPOINT_METADATA'
  label = json.loads(path.read_text())
  change(label['custom_metadata'])
  path.write_text(json.dumps(label))


@pytest.mark.parametrize('strict', [True, False])
def test_a_checkpoint_without_a_digest_is_used_and_that_is_said(
  two_checkpoints, tmp_path, strict
):
  source, state = two_checkpoints
  directory = tmp_path / 'checkpoints'
  shutil.copytree(source, directory)
  relabel(directory / 'step_20', dict.clear)
  warnings = []
  checkpoints = Checkpoints(directory, strict=strict, warn=warnings.append)
  restored = checkpoints.restore(like=make_state(seed=1))
  checkpoints.close()
  assert int(restored.step) == 20
  jax.tree.map(np.testing.assert_array_equal, restored.params, state.params)
  (warning,) = warnings
  assert f'{directory / "step_20"} is from a version that wrote no' in warning
  assert not (tmp_path / 'unreadable_checkpoints').exists()


def to_bfloat16(state):
  return jax.tree.map(
    lambda leaf: (
      leaf.astype(jnp.bfloat16) if leaf.dtype == jnp.float32 else leaf
    ),
    state,
  )


OTHERS = {
  'shape': (
    lambda: make_state(num_classes=4),
    r'head.bias is float32 \(3,\), wanted float32 \(4,\)',
  ),
  'dtype': (
    lambda: to_bfloat16(make_state()),
    r'mean is float32 \(32,\), wanted bfloat16 \(32,\)',
  ),
  'optimizer': (
    lambda: make_state(optimizer='adamw'),
    r'opt_state.1.count is absent, wanted int32 \(\)',
  ),
  'tree': (lambda: make_state(with_ema=False), r'ema.* wanted absent'),
}


@pytest.mark.parametrize('which', OTHERS)
@pytest.mark.parametrize('labelled', [True, False])
def test_another_network_is_no_damage(
  two_checkpoints, tmp_path, which, labelled
):
  directory = tmp_path / 'checkpoints'
  shutil.copytree(two_checkpoints[0], directory)
  if not labelled:  # as before structures had a digest
    relabel(directory / 'step_20', lambda label: label.pop('structure_sha256'))
  like, message = OTHERS[which]
  checkpoints = Checkpoints(directory, strict=False, warn=pytest.fail)
  with pytest.raises(ValueError, match=message) as caught:
    checkpoints.restore(like=like())
  checkpoints.close()
  assert 'step_20 is of another network or optimizer' in str(caught.value)
  assert '\n' not in str(caught.value)
  assert checkpoints.latest_step() == 20
  assert not (tmp_path / 'unreadable_checkpoints').exists()


@pytest.mark.parametrize(
  'error',
  [
    PermissionError(errno.EACCES, 'Permission denied'),
    OSError(errno.EMFILE, 'Too many open files'),
    ValueError("UNKNOWN: cannot open [os_error_code='24']"),
    OSError(errno.ENOSPC, 'No space left on device'),
    OSError(errno.EIO, 'Input/output error'),
  ],
)
def test_what_may_pass_moves_nothing(
  two_checkpoints, tmp_path, monkeypatch, error
):
  directory = tmp_path / 'checkpoints'
  shutil.copytree(two_checkpoints[0], directory)
  checkpoints = Checkpoints(directory, strict=False, warn=pytest.fail)

  def fail(*_):
    raise ValueError('restoring failed') from error

  monkeypatch.setattr(checkpoints, '_restore_step', fail)
  with pytest.raises(
    OSError, match=r'step_20 cannot be read now \(.+\), and is'
  ):
    checkpoints.restore(like=make_state())
  checkpoints.close()
  assert (directory / 'step_20').is_dir()
  assert not (tmp_path / 'unreadable_checkpoints').exists()


def test_no_checkpoint_that_can_be_read(two_checkpoints, tmp_path):
  source, state = two_checkpoints
  directory = tmp_path / 'checkpoints'
  shutil.copytree(source, directory)
  for step in (10, 20):
    damage(files_of(directory / f'step_{step}')['values'], 'cut')
  warnings = []
  checkpoints = Checkpoints(directory, strict=False, warn=warnings.append)
  with pytest.raises(
    ValueError, match=r'step_10 cannot be read.*no other to go'
  ):
    checkpoints.restore(like=state)
  checkpoints.close()
  assert len(warnings) == 2


def test_state_depends_on_the_seed_only():
  again = make_state.__wrapped__(3)
  jax.tree.map(np.testing.assert_array_equal, make_state(3), again)
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
