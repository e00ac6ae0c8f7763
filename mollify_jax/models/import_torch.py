r"""Weights that were trained in PyTorch, for the pre-activation ResNets.

The names are those of the networks in the authors' code (PreActResNet18 and
its deeper siblings). In PyTorch, write a state dict without pickle:

  state = torch.load('run.ckpt', weights_only=True)
  safetensors.torch.save_file(state.get('state_dict', state), 'run.safetensors')

and here:

  model = create_model('preact_resnet50', 10)
  variables = import_torch.load('run.safetensors', model)
  logits = model.apply(variables, images, train=False)
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from string import ascii_letters
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mollify_jax.models.preact_resnet import BottleneckBlock, PreactResNet

# Of DataParallel, of the authors' Lightning module, of torch.compile.
PREFIXES = ('module.', 'net.', '_orig_mod.')
# Counters of batch norm, and the blur's matrices in the Lightning module.
UNUSED = ('num_batches_tracked', 'dctlayer.weight', 'idctlayer.weight')

_LEAVES = {
  'kernel': 'weight',
  'scale': 'weight',
  'bias': 'bias',
  'mean': 'running_mean',
  'var': 'running_var',
}


def load(path: str | Path, model: PreactResNet) -> dict[str, Any]:
  """The variables of `model` from a file of PyTorch tensors.

  Args:
    path: `.safetensors` (needs the package of that name), or `.npz` with one
      array for each entry of the state dict.
    model: whose variables are wanted; any depth, width and number of classes.

  Returns:
    {'params', 'batch_stats'}, float32.

  Raises:
    ValueError: the file is neither or cannot be read, or its tensors are not
      those of `model`.
    TypeError: `model` is not a pre-activation ResNet.
  """
  path = Path(path)
  try:
    return from_state_dict(read_tensors(path), model)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error


def read_tensors(path: Path) -> dict[str, np.ndarray]:
  """All arrays of a `.safetensors` or `.npz` file; pickles are refused."""
  if path.suffix == '.safetensors':
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
      return load_file(path)
    except SafetensorError as error:
      raise ValueError(f'not a whole safetensors file ({error})') from error
  if path.suffix == '.npz':
    try:
      with path.open('rb') as raw, np.load(raw, allow_pickle=False) as file:
        return dict(file)
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
      raise ValueError(f'not a whole .npz of plain arrays ({error})') from error
  raise ValueError(
    f'the suffix is {path.suffix!r}, want .safetensors or .npz; how to write '
    f'one in PyTorch is shown in {__name__}'
  )


def from_state_dict(
  tensors: Mapping[str, np.ndarray], model: PreactResNet
) -> dict[str, Any]:
  """The variables of `model` from PyTorch tensors by name.

  Args:
    tensors: of a state dict; names may stand behind `module.`, `net.` and
      `_orig_mod.`, floats may be of any width.
    model: see `load`.

  Returns:
    {'params', 'batch_stats'}, float32.

  Raises:
    ValueError: tensors that are missing, left over or of another shape or
      type; they are named.
    TypeError: `model` is not a pre-activation ResNet.
  """
  if not isinstance(model, PreactResNet):
    raise TypeError(
      f'model is a {type(model).__name__}, want a PreactResNet: only the '
      "authors' pre-activation ResNets can be imported"
    )
  tensors = _without_prefixes(tensors)
  stem = tensors.get('conv1.weight')
  channels = stem.shape[1] if stem is not None and stem.ndim == 4 else 3
  like = jax.eval_shape(
    lambda: model.init(
      jax.random.key(0), jnp.zeros((1, 8, 8, channels)), train=False
    )
  )
  names = jax.tree.map_with_path(lambda path, _: _torch_name(path, model), like)
  expected = jax.tree.leaves(names)
  _refuse('lacks', [name for name in expected if name not in tensors])
  _refuse('has besides', sorted(tensors.keys() - set(expected)))

  wrong = []

  def convert(name, leaf):
    array = tensors[name]
    shape = tuple(leaf.shape[i] for i in _torch_axes(leaf.ndim))
    # JAX counts bfloat16 among the floating types, NumPy does not.
    if array.shape != shape or not jnp.issubdtype(array.dtype, jnp.floating):
      wrong.append(
        f'{name} {array.dtype.name}{list(array.shape)} where the model wants '
        f'float{list(shape)}'
      )
      return None
    return jnp.asarray(
      array.astype(np.float32).transpose(np.argsort(_torch_axes(leaf.ndim)))
    )

  variables = jax.tree.map(convert, names, like)
  _refuse('has', wrong)
  return variables


def _torch_axes(ndim: int) -> tuple[int, ...]:
  """Our axes in PyTorch's order: of vectors, dense layers, convolutions."""
  return {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}[ndim]


def _without_prefixes(
  tensors: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
  """`tensors` less what is not used, and less prefixes that all share."""
  tensors = {
    name: array for name, array in tensors.items() if not name.endswith(UNUSED)
  }
  for prefix in PREFIXES * 2:  # they may stand in any order
    if tensors and all(name.startswith(prefix) for name in tensors):
      tensors = {
        name.removeprefix(prefix): array for name, array in tensors.items()
      }
  return tensors


def _torch_name(path: tuple[Any, ...], model: PreactResNet) -> str:
  """Where the authors keep the leaf at `path` of our variables."""
  _, *modules, leaf = (entry.key for entry in path)
  suffix = _LEAVES[leaf]
  if modules == ['stem']:
    return f'conv1.{suffix}'
  if modules == ['head']:
    return f'linear.{suffix}'
  block, layer = modules
  group, index = (int(part.lstrip(ascii_letters)) for part in block.split('_'))
  place = f'layer{group}.{index - 1}'
  if layer == 'projection':
    return f'{place}.shortcut.{suffix}'
  # Batch norm, ReLU and convolution, two or three times in a row.
  kind, number = layer[:-1], int(layer[-1])
  position = 3 * (number - 1) + {'norm': 0, 'conv': 2}[kind]
  sequence = 'resfunc' if model.block is BottleneckBlock else 'layer'
  return f'{place}.{sequence}.{position}.{suffix}'


def _refuse(verb: str, names: list[str]) -> None:
  """Raises if there are any, naming the first few."""
  if names:
    more = f' and {len(names) - 4} more' if len(names) > 4 else ''
    raise ValueError(
      f'the state dict {verb} {", ".join(names[:4])}{more}; it is not that of '
      'this model'
    )
