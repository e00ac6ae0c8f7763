"""Residual blocks and what follows the last one, against NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollify_jax.models import resnet
from mollify_jax.models.all_conv import AllConvNet
from mollify_jax.models.convolution import convolve
from mollify_jax.models.densenet import DenseLayer, Transition
from mollify_jax.models.googlenet import InceptionBlock
from mollify_jax.models.normalization import batch_norm
from mollify_jax.models.preact_resnet import (
  BasicBlock,
  BottleneckBlock,
  PreactResNet,
)
from mollify_jax.models.wide_resnet import WideBlock, WideResNet

# Two groups of 16 / 64 of the width: 8 channels each where it is 16.
GroupedBlock = functools.partial(
  resnet.BottleneckBlock, groups=2, group_width=32
)

# class, input channels, width, stride, whether the shortcut is a projection
BLOCKS = [
  pytest.param(BasicBlock, 3, 4, 2, True, id='basic-2'),
  pytest.param(BasicBlock, 3, 4, 1, True, id='basic-wider'),
  pytest.param(BasicBlock, 4, 4, 1, False, id='basic-1'),
  pytest.param(BottleneckBlock, 8, 2, 2, True, id='bottleneck-2'),
  pytest.param(BottleneckBlock, 8, 2, 1, False, id='bottleneck-1'),
  pytest.param(WideBlock, 3, 4, 2, True, id='wide-2'),
  pytest.param(WideBlock, 4, 4, 1, False, id='wide-1'),
]
# The same, of blocks that end in a ReLU.
ENDING_IN_RELU = [
  pytest.param(resnet.BasicBlock, 3, 4, 2, True, id='basic-2'),
  pytest.param(resnet.BasicBlock, 4, 4, 1, False, id='basic-1'),
  pytest.param(resnet.BottleneckBlock, 8, 2, 2, True, id='bottleneck-2'),
  pytest.param(resnet.BottleneckBlock, 8, 2, 1, False, id='bottleneck-1'),
  pytest.param(GroupedBlock, 8, 4, 2, True, id='grouped-2'),
  pytest.param(GroupedBlock, 16, 4, 1, False, id='grouped-1'),
]


def make_block(block, width, stride):
  norm = batch_norm(False, jnp.float32, None)
  return block(width, stride, norm, jnp.float32)


def normalize(x, variables, name):
  """Batch norm with running statistics, in float64."""
  params = jax.tree.map(
    lambda leaf: np.asarray(leaf, np.float64),
    {**variables['params'][name], **variables['batch_stats'][name]},
  )
  x = (x - params['mean']) / np.sqrt(params['var'] + 1e-5)
  return x * params['scale'] + params['bias']


def activate(x, variables, name):
  return np.maximum(normalize(x, variables, name), 0)


def convolution(x, variables, name, stride=1):
  """Sum over the window, in float64, by shifted slices; group by group."""
  kernel = np.asarray(variables['params'][name]['kernel'], np.float64)
  groups = x.shape[-1] // kernel.shape[2]
  if groups > 1:
    parts = zip(
      np.split(x, groups, -1), np.split(kernel, groups, -1), strict=True
    )
    return np.concatenate(
      [correlate(part, weights, stride) for part, weights in parts], -1
    )
  return correlate(x, kernel, stride)


def correlate(x, kernel, stride):
  size = kernel.shape[0]
  half = size // 2
  height, width = x.shape[1:3]
  padded = np.pad(x, ((0, 0), (half, half), (half, half), (0, 0)))
  return sum(
    padded[:, i : i + height : stride, j : j + width : stride] @ kernel[i, j]
    for i in range(size)
    for j in range(size)
  )


def oracle(block, x, variables, stride):
  """One block from its definition; only `block` says which."""
  activated = activate(x, variables, 'norm1')
  if block is BottleneckBlock:
    y = convolution(activated, variables, 'conv1')
    y = activate(y, variables, 'norm2')
    y = convolution(y, variables, 'conv2', stride)
    y = activate(y, variables, 'norm3')
    y = convolution(y, variables, 'conv3')
  else:
    y = convolution(activated, variables, 'conv1', stride)
    y = activate(y, variables, 'norm2')
    y = convolution(y, variables, 'conv2')
  if 'projection' not in variables['params']:
    return x + y
  entrance = activated if block is WideBlock else x
  return convolution(entrance, variables, 'projection', stride) + y


@pytest.mark.parametrize(
  ('block', 'channels', 'width', 'stride', 'projects'), BLOCKS
)
def test_block_is_its_definition(
  block, channels, width, stride, projects, initialise
):
  x = np.random.default_rng(0).normal(size=(2, 5, 4, channels))
  module = make_block(block, width, stride)
  images = jnp.asarray(x, jnp.float32)
  variables = initialise(module, images)
  # Small enough that the epsilon beside it can be seen.
  variables['batch_stats']['norm1']['var'] *= 1e-5
  assert ('projection' in variables['params']) == projects
  want = oracle(block, x, variables, stride)
  got = jax.jit(module.apply)(variables, images)
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.std(want))


@pytest.mark.parametrize(
  ('block', 'channels', 'width', 'stride', 'projects'), ENDING_IN_RELU
)
def test_block_that_ends_in_a_relu_is_its_definition(
  block, channels, width, stride, projects, initialise
):
  x = np.random.default_rng(0).normal(size=(2, 5, 4, channels))
  module = make_block(block, width, stride)
  images = jnp.asarray(x, jnp.float32)
  variables = initialise(module, images)
  params = variables['params']
  assert ('projection' in params) == ('projection_norm' in params) == projects
  if block is resnet.BasicBlock:
    y = activate(convolution(x, variables, 'conv1', stride), variables, 'norm1')
    y = normalize(convolution(y, variables, 'conv2'), variables, 'norm2')
  else:
    assert params['conv2']['kernel'].shape == (3, 3, 2, 2 * module.groups)
    y = activate(convolution(x, variables, 'conv1'), variables, 'norm1')
    y = activate(convolution(y, variables, 'conv2', stride), variables, 'norm2')
    y = normalize(convolution(y, variables, 'conv3'), variables, 'norm3')
  entrance = x
  if projects:
    entrance = convolution(x, variables, 'projection', stride)
    entrance = normalize(entrance, variables, 'projection_norm')
  want = np.maximum(entrance + y, 0)
  assert (want == 0).any()
  got = jax.jit(module.apply)(variables, images)
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.std(want))


@pytest.mark.parametrize('bottleneck', [False, True])
def test_dense_layer_appends_to_its_input(bottleneck, initialise):
  x = np.random.default_rng(0).normal(size=(2, 5, 4, 6))
  norm = batch_norm(False, jnp.float32, None)
  module = DenseLayer(3, bottleneck, norm, jnp.float32)
  images = jnp.asarray(x, jnp.float32)
  variables = initialise(module, images)
  y = convolution(activate(x, variables, 'norm1'), variables, 'conv1')
  if bottleneck:
    assert y.shape[-1] == 12
    y = convolution(activate(y, variables, 'norm2'), variables, 'conv2')
  got = jax.jit(module.apply)(variables, images)
  np.testing.assert_array_equal(got[..., :6], images)
  np.testing.assert_allclose(got[..., 6:], y, rtol=1e-4, atol=1e-5)


def test_transition_is_its_definition(initialise):
  x = np.random.default_rng(0).normal(size=(2, 5, 4, 6))
  module = Transition(3, batch_norm(False, jnp.float32, None), jnp.float32)
  images = jnp.asarray(x, jnp.float32)
  variables = initialise(module, images)
  y = convolution(activate(x, variables, 'norm'), variables, 'conv')
  want = np.stack(
    [
      np.stack([y[:, i : i + 2, j : j + 2].mean((1, 2)) for j in (0, 2)], 1)
      for i in (0, 2, 4)
    ],
    axis=1,
  )
  assert want.shape == (2, 3, 2, 3)
  got = jax.jit(module.apply)(variables, images)
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_inception_block_is_its_definition(initialise):
  x = np.random.default_rng(0).normal(size=(2, 5, 4, 6))
  module = InceptionBlock(
    (2, 3, 4, 5, 6, 7), batch_norm(False, jnp.float32, None), jnp.float32
  )
  images = jnp.asarray(x, jnp.float32)
  variables = initialise(module, images)

  def layer(x, name):
    bias = np.asarray(variables['params'][f'{name}_conv']['bias'], np.float64)
    y = convolution(x, variables, f'{name}_conv') + bias
    return activate(y, variables, f'{name}_norm')

  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
  highest = np.max(
    [padded[:, i : i + 5, j : j + 4] for i in range(3) for j in range(3)], 0
  )
  want = [
    layer(x, 'one'),
    layer(layer(x, 'three_before'), 'three'),
    layer(layer(layer(x, 'five_before'), 'five1'), 'five2'),
    layer(highest, 'pooled'),
  ]
  assert [y.shape[-1] for y in want] == [2, 4, 6, 7]
  got = jax.jit(module.apply)(variables, images)
  np.testing.assert_allclose(
    got, np.concatenate(want, -1), rtol=1e-4, atol=1e-4
  )


def test_all_conv_net_is_its_definition(initialise):
  """In evaluation, on images whose sides stay even once and then do not."""
  model = AllConvNet(10)
  x = np.random.default_rng(0).normal(size=(1, 6, 4, 3))
  images = jnp.asarray(x, jnp.float32)
  variables = initialise(model, images, train=False)
  params = variables['params']
  for index in range(1, 10):
    if index in (4, 7):  # maxima over 2x2, or over what there is
      odd = [(0, side % 2) for side in x.shape[1:3]]
      x = np.pad(x, ((0, 0), *odd, (0, 0)), constant_values=-np.inf)
      x = np.max([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], 0)
    bias = np.asarray(params[f'conv{index}']['bias'], np.float64)
    x = convolution(x, variables, f'conv{index}') + bias
    x = normalize(x, variables, f'norm{index}')
    x = x / (1 + np.exp(-1.702 * x))
  assert x.shape == (1, 2, 1, 192)
  want = x.mean((1, 2)) @ params['head']['kernel'] + params['head']['bias']
  got = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, images)
  np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3)


def silence(variables):
  """Sets scale and bias of every norm to zero: all activations vanish."""
  for name in variables['batch_stats']:
    variables['params'][name] = jax.tree.map(
      jnp.zeros_like, variables['params'][name]
    )


@pytest.mark.parametrize('block', [BasicBlock, BottleneckBlock])
def test_projection_takes_the_raw_input(block, initialise):
  """With all activations held at zero, the projected input remains."""
  images = jnp.asarray(
    np.random.default_rng(0).normal(size=(2, 5, 4, 3)), jnp.float32
  )
  module = make_block(block, 4, 2)
  variables = initialise(module, images)
  silence(variables)
  kernel = variables['params']['projection']['kernel']
  np.testing.assert_array_equal(
    module.apply(variables, images), convolve(images, kernel, 2)
  )


def test_wide_projection_takes_the_activated_input(initialise):
  images = jnp.ones((1, 4, 4, 3))
  module = make_block(WideBlock, 4, 2)
  variables = initialise(module, images)
  silence(variables)
  assert not module.apply(variables, images).any()


def last_features(initialise, model, last):
  """Output of the layer `last`, the parameters, and the logits."""
  images = jnp.asarray(
    np.random.default_rng(0).normal(size=(2, 8, 8, 3)), jnp.float32
  )
  variables = initialise(model, images, train=False)
  logits, state = jax.jit(
    lambda variables: model.apply(
      variables,
      images,
      train=False,
      mutable=['intermediates'],
      capture_intermediates=True,
    )
  )(variables)
  (features,) = state['intermediates'][last]['__call__']
  return np.asarray(features), variables['params'], np.asarray(logits)


def test_nothing_stands_between_the_last_block_and_the_pooling(initialise):
  model = PreactResNet(BasicBlock, (1, 1), 10)
  features, params, logits = last_features(initialise, model, 'group2_block1')
  assert set(params) == {'stem', 'head', 'group1_block1', 'group2_block1'}
  assert features.min() < 0
  want = (
    features.mean((1, 2)) @ params['head']['kernel'] + params['head']['bias']
  )
  np.testing.assert_allclose(logits, want, rtol=1e-4, atol=1e-5)


def test_wide_network_ends_in_a_norm_and_a_relu(initialise):
  features, params, logits = last_features(
    initialise, WideResNet(10, 1, 10), 'norm'
  )
  blocks = {f'group{group}_block1' for group in (1, 2, 3)}
  assert set(params) == {'stem', 'norm', 'head'} | blocks
  assert features.min() < 0
  pooled = np.maximum(features, 0).mean((1, 2))
  want = pooled @ params['head']['kernel'] + params['head']['bias']
  np.testing.assert_allclose(logits, want, rtol=1e-4, atol=1e-5)
