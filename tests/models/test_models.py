"""The models: sizes of the reference, and what a training loop relies on."""

import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollify_jax.models import MODELS, create_model, resnet
from mollify_jax.models.convolution import convolve
from mollify_jax.models.densenet import DenseNet
from mollify_jax.models.resnet import ResNet
from mollify_jax.models.wide_resnet import WideResNet

KEY = jax.random.key(0)
README = (Path(__file__).parents[2] / 'README.md').read_text()

# Counted in the authors' PyTorch networks on 32x32x3 (64x64x3 in the column
# that says so): trainable parameters at 10, 100 and, 64x64, 200 classes;
# batch-norm running statistics; convolutions; batch norms; multiply-adds of
# convolutions and dense layer for one image at 10 classes, and at 200, 64x64.
REFERENCE = {
  'preact_resnet18': (
    (11171146, 11217316, 11268616),
    (6784, 20, 16),
    (555422720, 2221772800),
  ),
  'preact_resnet34': (
    (21279306, 21325476, 21376776),
    (14208, 36, 32),
    (1159402496, 4637691904),
  ),
  'preact_resnet50': (
    (23509066, 23693476, 23898376),
    (41344, 53, 48),
    (1297829888, 5191647232),
  ),
  'preact_resnet101': (
    (42501194, 42685604, 42890504),
    (93568, 104, 99),
    (2509983744, 10040262656),
  ),
  'resnet18': (
    (11173962, 11220132, 11271432),
    (9600, 20, 20),
    (555422720, 2221772800),
  ),
  'resnet34': (
    (21282122, 21328292, 21379592),
    (17024, 36, 36),
    (1159402496, 4637691904),
  ),
  'resnet50': (
    (23520842, 23705252, 23910152),
    (53120, 53, 53),
    (1297829888, 5191647232),
  ),
  'resnet101': (
    (42512970, 42697380, 42902280),
    (105344, 104, 104),
    (2509983744, 10040262656),
  ),
  'resnext29_4x32d': (
    (6807882, 6900132, 7617032),
    (25216, 31, 31),
    (1071327232, 4286087168),
  ),
  'densenet40': (
    (1059298, 1100428, 1146128),
    (18720, 39, 39),
    (282917328, 1131742272),
  ),
  'densenet100': (
    (7083538, 7189468, 7307168),
    (118800, 99, 99),
    (1816743408, 7267161792),
  ),
  'googlenet': (
    (6310314, 6402564, 6505064),
    (16064, 66, 66),
    (531884032, 2127699968),
  ),
  # Their 1x1 convolutions also see a border of zeros, one pixel wide, and the
  # 3x3 before has no border: 7,962,624 multiply-adds less than ours at 32x32.
  'all_conv_net': (
    (1409674, 1427044, 1561544),
    (2880, 9, 9),
    (402851712 + 7962624, 1626003456 + 17399808),
  ),
  'wrn_40_2': (
    (2243546, 2255156, 2268056),
    (5408, 40, 37),
    (327599360, 1310417920),
  ),
  'wrn_40_10': (
    (55841754, 55899444, 55963544),
    (26912, 40, 37),
    (8074483968, 32298038272),
  ),
}


# Parameters published for networks that the authors do not have.
PUBLISHED = {
  # Table 2 of Huang et al. says 0.8 M for 100 layers, and 40 have 0.18 M.
  ('densenet_bc100', 10): 769162,
  ('densenet_bc40', 10): 176122,
  # Table 4 of Zagoruyko & Komodakis says 36.5 M.
  ('wrn_28_10', 10): 36479194,
  # torchvision's resnet50.
  ('resnet50_large_stem', 1000): 25557032,
  # timm's vit_small_patch16_224 has 22,050,664 with a class token and learned
  # positions.
  ('vit_s16', 1000): 22050664 - 384 - (1 + 14 * 14) * 384,
}

# Shallow networks of the same blocks, quick to compile.
SHALLOW = {
  'wrn_10_1': (WideResNet, {'depth': 10, 'widen': 1}),
  'resnext': (
    ResNet,
    {
      'block': functools.partial(
        resnet.BottleneckBlock, groups=2, group_width=8
      ),
      'blocks': (1, 1),
      'pool': 2,
    },
  ),
  'densenet_bc10': (
    DenseNet,
    {'depth': 10, 'bottleneck': True, 'compression': 0.5},
  ),
}


def make_fast(name, **fields):
  """The table's small model, or a shallow one."""
  if name not in SHALLOW:
    return create_model(name, 10, **fields)
  model, own = SHALLOW[name]
  return model(num_classes=10, **own, **fields)


# The deeper ones differ from these in the number of blocks only.
EACH_KIND = [
  'small_cnn',
  'wrn_16_1',
  'preact_resnet18',
  'preact_resnet50',
  'resnet18',
  'resnet50_large_stem',
  'resnext29_4x32d',
  'densenet40',
  'densenet_bc40',
  'all_conv_net',
  'googlenet',
]
FAST = ['small_cnn', *SHALLOW]


def train_forward(model, variables, images):
  """Logits and new statistics of one forward pass in training."""
  return jax.jit(
    lambda v, x: model.apply(
      v, x, train=True, mutable=['batch_stats'], rngs={'dropout': KEY}
    )
  )(variables, images)


def evaluate(model, variables, images):
  return jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, images)


@functools.cache
def shapes(model, image_shape):
  """Variables of `model` as shapes only: nothing is computed."""
  return jax.eval_shape(
    lambda key: model.init(key, jnp.zeros((1, *image_shape)), train=False),
    KEY,
  )


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


@functools.cache
def multiply_adds(model, image_shape):
  """Multiply-adds of products and convolutions in one forward pass."""
  jaxpr = jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False))(
    shapes(model, image_shape), jnp.zeros((1, *image_shape))
  )

  def walk(jaxpr):
    total = 0
    for equation in jaxpr.eqns:
      kind = equation.primitive.name
      if kind == 'dot_general':
        left = equation.invars[0].aval.shape
        (contracted, _), _ = equation.params['dimension_numbers']
        size = int(np.prod([left[axis] for axis in contracted]))
        total += equation.outvars[0].aval.size * size
      elif kind == 'conv_general_dilated':
        kernel = equation.invars[1].aval.shape
        total += equation.outvars[0].aval.size * int(np.prod(kernel[:3]))
      for value in equation.params.values():
        if hasattr(value, 'jaxpr'):
          total += walk(value.jaxpr)
    return total

  return walk(jaxpr.jaxpr)


def batch(size, shape=(8, 8, 3)):
  generator = np.random.default_rng(size)
  return jnp.asarray(generator.normal(size=(size, *shape)), jnp.float32)


@pytest.mark.parametrize('name', REFERENCE)
def test_counts_are_those_of_the_reference(name):
  params, (buffers, convolutions, norms), _ = REFERENCE[name]
  settings = [(10, 32), (100, 32), (200, 64)]
  for want, (classes, size) in zip(params, settings, strict=True):
    variables = shapes(create_model(name, classes), (size, size, 3))
    assert count(variables['params']) == want
    assert count(variables['batch_stats']) == buffers
  leaves = jax.tree.leaves(variables['params'])
  assert sum(leaf.ndim == 4 for leaf in leaves) == convolutions
  assert len(jax.tree.leaves(variables['batch_stats'])) == 2 * norms
  # Kernels, scales and biases of norms, one dense layer; and in two networks
  # biases of convolutions: no other tensors.
  biases = {'all_conv_net': 9, 'googlenet': 63}.get(name, 0)
  assert len(leaves) == convolutions + biases + 2 * norms + 2


@pytest.mark.parametrize('name', REFERENCE)
def test_multiply_adds_are_those_of_the_reference(name):
  _, _, (small, large) = REFERENCE[name]
  assert multiply_adds(create_model(name, 10), (32, 32, 3)) == small
  assert multiply_adds(create_model(name, 200), (64, 64, 3)) == large


@pytest.mark.parametrize(('name', 'classes'), PUBLISHED)
def test_counts_are_the_published_ones(name, classes):
  variables = shapes(create_model(name, classes), (32, 32, 3))
  assert count(variables['params']) == PUBLISHED[name, classes]


@pytest.mark.parametrize('name', MODELS)
def test_the_readme_has_the_counts(name):
  row = re.search(rf'^\| `{name}` \|(.*)\|(.*)\|.*\|$', README, re.MULTILINE)
  parameters, millions = (int(cell.replace(',', '')) for cell in row.groups())
  model = create_model(name, 10)
  assert count(shapes(model, (32, 32, 3))['params']) == parameters
  assert round(multiply_adds(model, (32, 32, 3)) / 1e6) == millions


@pytest.mark.parametrize('name', EACH_KIND)
@pytest.mark.parametrize('image_shape', [(28, 21, 1), (1, 1, 3)])
def test_any_image_gives_one_row_of_logits(name, image_shape):
  model = create_model(name, 7)
  for size, train in [(1, False), (3, True)]:
    logits, updates = jax.eval_shape(
      lambda v, x, train=train: model.apply(
        v, x, train=train, mutable=['batch_stats'], rngs={'dropout': KEY}
      ),
      shapes(model, image_shape),
      batch(size, image_shape),
    )
    assert logits.shape == (size, 7)
    assert logits.dtype == jnp.float32
    assert set(updates) == {'batch_stats'}


@pytest.mark.parametrize(
  ('name', 'image_shape'),
  [
    ('small_cnn', (4, 6, 3)),
    ('wrn_10_1', (8, 8, 1)),
    ('resnext', (9, 8, 3)),
    ('densenet_bc10', (7, 5, 3)),
  ],
)
def test_a_batch_of_one_is_finite(name, image_shape, initialise):
  model = make_fast(name)
  images = batch(1, image_shape)
  variables = initialise(model, images, train=False)
  assert np.isfinite(evaluate(model, variables, images)).all()
  logits, updates = train_forward(model, variables, images)
  for leaf in [logits, *jax.tree.leaves(updates)]:
    assert np.isfinite(leaf).all()


@pytest.mark.parametrize('name', [*EACH_KIND, 'vit_ti4'])
def test_bfloat16_is_for_the_layers_only(name):
  model = create_model(name, 10, dtype='bfloat16')
  variables = shapes(model, (8, 8, 3))
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {
    jnp.dtype('float32')
  }
  logits, updates = jax.eval_shape(
    lambda v, x: model.apply(
      v,
      x,
      train=True,
      mutable=['batch_stats', 'intermediates'],
      capture_intermediates=True,
      rngs={'dropout': KEY},
    ),
    variables,
    batch(2),
  )
  assert logits.dtype == jnp.float32
  for leaf in jax.tree.leaves(updates.get('batch_stats', {})):
    assert leaf.dtype == jnp.float32
  inside = updates['intermediates']
  del inside['__call__'], inside['head']
  if name == 'googlenet':  # after the pooling
    del inside['Dropout_0']
  assert {leaf.dtype for leaf in jax.tree.leaves(inside)} == {
    jnp.dtype('bfloat16')
  }


def test_bfloat16_logits_are_near_float32_logits(initialise):
  images = batch(4)
  variables = initialise(create_model('small_cnn', 10), images, train=False)
  exact, rough = (
    train_forward(
      create_model('small_cnn', 10, dtype=dtype), variables, images
    )[0]
    for dtype in (jnp.float32, jnp.bfloat16)
  )
  error = np.abs(exact - rough).max()
  assert 0 < error < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize('name', ['small_cnn', 'wrn_10_1'])
def test_evaluation_sees_each_image_alone(name, initialise):
  model = make_fast(name)
  images = batch(6)
  variables = initialise(model, images, train=False)
  np.testing.assert_allclose(
    evaluate(model, variables, images)[:2],
    evaluate(model, variables, images[:2]),
    rtol=1e-4,
    atol=1e-5,
  )
  together, _ = train_forward(model, variables, images)
  alone, _ = train_forward(model, variables, images[:2])
  assert np.abs(together[:2] - alone).max() > 1e-3


def test_training_moves_the_running_statistics_by_a_tenth(initialise):
  model = create_model('small_cnn', 10)
  images = 3 + 2 * batch(6)
  variables = initialise(model, images, train=False)
  _, updates = train_forward(model, variables, images)
  kernel = variables['params']['conv1']['kernel']
  inputs = np.asarray(convolve(images, kernel, 1), np.float64)
  stats = updates['batch_stats']['norm1']
  before = variables['batch_stats']['norm1']
  np.testing.assert_allclose(
    stats['mean'],
    0.9 * before['mean'] + 0.1 * inputs.mean((0, 1, 2)),
    rtol=1e-4,
    atol=1e-5,
  )
  np.testing.assert_allclose(
    stats['var'],
    0.9 * before['var'] + 0.1 * inputs.var((0, 1, 2)),
    rtol=1e-4,
  )


@pytest.mark.parametrize('name', FAST)
def test_statistics_over_a_device_axis_are_those_of_the_whole_batch(
  name, initialise
):
  images = batch(8)
  model = make_fast(name)
  variables = initialise(model, images, train=False)
  logits, updates = train_forward(model, variables, images)
  split = make_fast(name, axis_name='parts')
  split_logits, split_updates = jax.jit(
    jax.vmap(
      lambda part: split.apply(
        variables, part, train=True, mutable=['batch_stats']
      ),
      axis_name='parts',
    )
  )(images.reshape(4, 2, 8, 8, 3))
  np.testing.assert_allclose(
    split_logits.reshape(8, 10), logits, rtol=1e-3, atol=1e-4
  )
  for got, want in zip(
    jax.tree.leaves(split_updates), jax.tree.leaves(updates), strict=True
  ):
    for part in got:
      np.testing.assert_allclose(part, want, rtol=1e-3, atol=1e-5)


def test_an_axis_name_is_not_needed_outside_training(initialise):
  images = batch(2)
  split = create_model('small_cnn', 10, axis_name='parts')
  variables = initialise(split, images, train=False)
  np.testing.assert_array_equal(
    evaluate(split, variables, images),
    evaluate(create_model('small_cnn', 10), variables, images),
  )


@pytest.mark.parametrize('name', FAST)
def test_every_parameter_has_a_gradient(name, initialise):
  model = make_fast(name)
  images = batch(8)
  variables = initialise(model, images, train=False)

  @jax.jit
  def gradient(params):
    def loss(params):
      logits, _ = model.apply(
        {**variables, 'params': params},
        images,
        train=True,
        mutable=['batch_stats'],
      )
      return -jax.nn.log_softmax(logits)[:, 0].mean()

    return jax.grad(loss)(params)

  for path, leaf in jax.tree.leaves_with_path(gradient(variables['params'])):
    assert np.abs(leaf).max() > 1e-6, jax.tree_util.keystr(path)


def test_fresh_variables_are_float32_and_evaluate_as_they_stand():
  model = create_model('small_cnn', 10, axis_name='parts')
  variables = jax.jit(lambda: model.init(KEY, batch(2), train=False))()
  assert set(variables) == {'params', 'batch_stats'}
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {
    jnp.dtype('float32')
  }
  assert (variables['batch_stats']['norm1']['mean'] == 0).all()
  assert (variables['batch_stats']['norm1']['var'] == 1).all()
  logits = evaluate(model, variables, batch(4))
  assert 0.01 < np.std(logits) < 3


@pytest.mark.parametrize('name', ['small_cnn', 'wrn_10_1', 'densenet_bc10'])
def test_compiled_bfloat16_is_eager_bfloat16(name, initialise):
  """Held because jaxlib 0.12.0.1 miscompiles the pooling; see `pooling`."""
  model = make_fast(name, dtype=jnp.bfloat16)
  images = batch(64)
  variables = initialise(model, images, train=False)
  want = model.apply(variables, images, train=False)
  got = evaluate(model, variables, images)
  np.testing.assert_allclose(got, want, atol=0.05 * np.abs(want).max())


def test_a_large_stem_is_that_of_imagenet_networks():
  small = create_model('preact_resnet50', 1000)
  large = create_model('preact_resnet50_large_stem', 1000)
  parameters = [
    count(shapes(model, (224, 224, 3))['params']) for model in (small, large)
  ]
  assert parameters[1] - parameters[0] == (7 * 7 - 3 * 3) * 3 * 64
  # 4.09 G multiply-adds: torchvision's figure for ResNet-50, whose
  # convolutions have the same sizes and strides.
  assert abs(multiply_adds(large, (224, 224, 3)) / 4.09e9 - 1) < 0.005


def test_the_pooling_of_two_networks_grows_from_twice_the_window_on():
  for name in ('resnext29_4x32d', 'all_conv_net'):
    kernels = [
      shapes(create_model(name, 10), (size, size, 3))['params']['head'][
        'kernel'
      ]
      for size in (28, 32, 60, 64, 96)
    ]
    features = kernels[0].shape[0]
    assert [kernel.shape[0] // features for kernel in kernels] == [
      *(1, 1, 1, 4, 9)
    ]


def test_an_unknown_name_lists_the_choices():
  with pytest.raises(ValueError, match='unknown model') as error:
    create_model('resnet-50', 10)
  assert "'resnet-50'" in str(error.value)
  assert '\n' not in str(error.value)
  for name in MODELS:
    assert name in str(error.value)


def test_too_few_classes_are_refused():
  with pytest.raises(ValueError, match='num_classes is 0, want at least 1'):
    create_model('small_cnn', 0)


@pytest.mark.parametrize('dtype', ['int32', 'float31', jnp.uint8])
def test_a_dtype_that_is_not_floating_is_refused(dtype):
  with pytest.raises(ValueError, match='want a floating point type'):
    create_model('small_cnn', 10, dtype=dtype)


def test_an_impossible_depth_is_refused():
  with pytest.raises(ValueError, match='depth is 18, want 4 plus'):
    WideResNet(18, 1, 10).init(KEY, batch(1), train=False)
