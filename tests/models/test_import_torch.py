"""PyTorch's weights against PyTorch's logits; how the files were made stands
in golden/models/make_torch_golden.py."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from mollify_jax.models import create_model, import_torch
from mollify_jax.models.preact_resnet import (
  BasicBlock,
  BottleneckBlock,
  PreactResNet,
)

GOLDEN = Path(__file__).parents[1] / 'golden' / 'models'
FILES = {
  18: GOLDEN / 'preact_resnet18_width2.npz',
  50: GOLDEN / 'preact_resnet50_width2.safetensors',
}
MODELS = {
  18: PreactResNet(BasicBlock, (2, 2, 2, 2), 5, width=2),
  50: PreactResNet(BottleneckBlock, (3, 4, 6, 3), 5, width=2),
}


def state_dict(depth=18):
  return import_torch.read_tensors(FILES[depth])


@pytest.mark.parametrize('depth', FILES)
def test_logits_are_those_of_pytorch(depth):
  golden = np.load(GOLDEN / 'preact_resnets.npz', allow_pickle=False)
  model = MODELS[depth]
  variables = import_torch.load(FILES[depth], model)
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {
    jnp.dtype('float32')
  }
  got = jax.jit(lambda v, x: model.apply(v, x, train=False))(
    variables, golden[f'images{depth}']
  )
  want = golden[f'logits{depth}']
  assert np.abs(want[0] - want[1]).max() > 0.1
  np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)


def assert_same_trees(got, want):
  jax.tree.map(np.testing.assert_array_equal, got, want)


@pytest.mark.parametrize('depth', FILES)
def test_both_kinds_of_file_hold_the_same(depth, tmp_path):
  tensors = state_dict(depth)
  np.savez(tmp_path / 'state.npz', **tensors)
  save_file(tensors, tmp_path / 'state.safetensors')
  want = import_torch.load(FILES[depth], MODELS[depth])
  for name in ('state.npz', 'state.safetensors'):
    assert_same_trees(import_torch.load(tmp_path / name, MODELS[depth]), want)


def test_every_tensor_finds_one_place():
  tensors = state_dict(50)
  values = {name: i for i, name in enumerate(tensors)}
  marked = {
    name: np.full(array.shape, values[name], np.float32)
    for name, array in tensors.items()
  }
  variables = import_torch.from_state_dict(marked, MODELS[50])
  found = {leaf.flat[0] for leaf in map(np.asarray, jax.tree.leaves(variables))}
  assert found == {
    value
    for name, value in values.items()
    if not name.endswith('num_batches_tracked')
  }


@pytest.mark.parametrize(
  'prefix', ['module.', 'net.', '_orig_mod.', 'net._orig_mod.', 'net.module.']
)
def test_wrapped_modules_are_unwrapped(prefix):
  tensors = state_dict()
  want = import_torch.from_state_dict(tensors, MODELS[18])
  wrapped = {f'{prefix}{name}': array for name, array in tensors.items()}
  # The authors' Lightning module has these beside the network.
  wrapped['dctlayer.weight'] = wrapped['idctlayer.weight'] = np.eye(3)
  assert_same_trees(import_torch.from_state_dict(wrapped, MODELS[18]), want)


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16', 'float64'])
def test_floats_of_any_width_become_float32(dtype, tmp_path):
  tensors = {
    name: array if array.dtype == np.int64 else array.astype(jnp.dtype(dtype))
    for name, array in state_dict().items()
  }
  save_file(tensors, tmp_path / 'state.safetensors')
  variables = import_torch.load(tmp_path / 'state.safetensors', MODELS[18])
  want = tensors['conv1.weight'].astype(np.float32).transpose(2, 3, 1, 0)
  np.testing.assert_array_equal(variables['params']['stem']['kernel'], want)


def test_what_is_missing_left_over_or_misshaped_is_named():
  tensors = state_dict()
  lacking = {k: v for k, v in tensors.items() if k != 'layer2.0.layer.3.weight'}
  with pytest.raises(ValueError, match=r'lacks layer2\.0\.layer\.3\.weight;'):
    import_torch.from_state_dict(lacking, MODELS[18])
  extra = {**tensors, 'bn.weight': np.ones(3)}
  with pytest.raises(ValueError, match=r'has besides bn\.weight;'):
    import_torch.from_state_dict(extra, MODELS[18])
  reshaped = {**tensors, 'linear.weight': np.ones((7, 16))}
  with pytest.raises(
    ValueError, match=r'linear\.weight float64\[7, 16\] where .*float\[5, 16\]'
  ):
    import_torch.from_state_dict(reshaped, MODELS[18])
  whole = {**tensors, 'linear.bias': np.ones(5, np.int32)}
  with pytest.raises(ValueError, match=r'linear\.bias int32\[5\] where'):
    import_torch.from_state_dict(whole, MODELS[18])


def test_the_state_of_another_depth_is_refused_in_one_line():
  with pytest.raises(ValueError, match=r'and \d+ more; it is not') as error:
    import_torch.load(FILES[50], MODELS[18])
  assert '\n' not in str(error.value)
  assert str(FILES[50]) in str(error.value)


def test_other_networks_are_refused():
  with pytest.raises(TypeError, match='model is a SmallCnn, want a Preact'):
    import_torch.load(FILES[18], create_model('small_cnn', 5))


def test_pickles_and_damaged_files_are_refused(tmp_path):
  with pytest.raises(ValueError, match=r"suffix is '\.ckpt', want \.safe"):
    import_torch.load(tmp_path / 'run.ckpt', MODELS[18])
  for path in FILES.values():
    cut = tmp_path / path.name
    cut.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(ValueError, match=f'{path.name}: not a whole'):
      import_torch.load(cut, MODELS[18])
  np.savez(tmp_path / 'objects.npz', a=np.array([None]))
  with pytest.raises(ValueError, match=r'plain arrays .*allow_pickle=False'):
    import_torch.load(tmp_path / 'objects.npz', MODELS[18])
