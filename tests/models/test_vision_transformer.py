"""The vision transformer against its definition in float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollify_jax.models import create_model
from mollify_jax.models.vision_transformer import (
  VisionTransformer,
  embed_positions,
)

KEY = jax.random.key(0)


def tiny(**fields):
  return VisionTransformer(
    **{
      'patch': 2,
      'width': 12,
      'heads': 3,
      'num_classes': 5,
      'depth': 2,
      **fields,
    }
  )


def batch(size, shape):
  generator = np.random.default_rng(size)
  return jnp.asarray(generator.normal(size=(size, *shape)), jnp.float32)


def normalize(x, params):
  """Layer norm over the features."""
  x = x - x.mean(-1, keepdims=True)
  x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
  return x * params['scale'] + params['bias']


def attend(x, params):
  """Softmax attention of one image [N, D], head by head."""
  heads = params['query']['kernel'].shape[1]
  result = params['out']['bias']
  for head in range(heads):
    query, key, value = (
      x @ params[name]['kernel'][:, head] + params[name]['bias'][head]
      for name in ('query', 'key', 'value')
    )
    weights = np.exp(query @ key.T / np.sqrt(query.shape[1]))
    weights /= weights.sum(1, keepdims=True)
    result = result + weights @ value @ params['out']['kernel'][head]
  return result


def gelu(x):
  return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def oracle(model, params, image):
  """Logits of one image, in float64."""
  params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
  patch = model.patch
  tokens = []
  for y in range(image.shape[0] // patch):
    for x in range(image.shape[1] // patch):
      cell = image[y * patch :, x * patch :][:patch, :patch]
      token = cell.reshape(-1) @ params['stem']['kernel']
      frequencies = [1e4 ** (-i / 2) for i in range(3)]  # 12 / 4 of them
      angles = [[place * w for w in frequencies] for place in (x, y)]
      position = [f(a) for a in np.array(angles) for f in (np.sin, np.cos)]
      tokens.append(token + params['stem']['bias'] + np.concatenate(position))
  z = np.stack(tokens)
  for index in range(model.depth):
    block = params[f'block{index + 1}']
    z = z + attend(normalize(z, block['norm1']), block['attention'])
    y = normalize(z, block['norm2'])
    y = gelu(y @ block['dense1']['kernel'] + block['dense1']['bias'])
    z = z + y @ block['dense2']['kernel'] + block['dense2']['bias']
  mean = normalize(z, params['norm']).mean(0)
  return mean @ params['head']['kernel'] + params['head']['bias']


def test_logits_are_those_of_the_definition(initialise):
  model = tiny()
  images = batch(2, (4, 6, 3))
  variables = initialise(model, images, train=False)
  assert set(variables) == {'params'}
  got = jax.jit(lambda v, x: model.apply(v, x, train=True))(variables, images)
  want = [
    oracle(model, variables['params'], np.asarray(image, np.float64))
    for image in images
  ]
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_the_same_parameters_serve_every_size(initialise):
  model = tiny()
  variables = initialise(model, batch(1, (4, 4, 3)), train=False)
  for shape in ((2, 2, 3), (8, 4, 3)):
    logits = jax.eval_shape(
      lambda x: model.apply(variables, x, train=False), batch(1, shape)
    )
    assert logits.shape == (1, 5)
    assert logits.dtype == jnp.float32


def test_positions_differ_and_do_not_depend_on_the_size():
  large = embed_positions(7, 9, 8)
  np.testing.assert_array_equal(large[:3, :4], embed_positions(3, 4, 8))
  assert len(np.unique(large.reshape(63, 8), axis=0)) == 63
  with pytest.raises(ValueError, match='features is 6, want a multiple of 4'):
    embed_positions(2, 2, 6)


def test_sides_that_the_patch_does_not_divide_are_refused():
  with pytest.raises(ValueError, match='images are 30x32, want sides that 4'):
    create_model('vit_ti4', 10).init(KEY, batch(1, (30, 32, 3)), train=False)


def test_images_without_a_batch_axis_are_refused():
  with pytest.raises(ValueError, match=r'\[B, H, W, C\]'):
    tiny().init(KEY, jnp.ones((8, 8, 3)), train=False)


def test_every_parameter_but_the_bias_of_keys_has_a_gradient(initialise):
  """That one adds the same to all scores of a query, which softmax ignores."""
  model = tiny(axis_name='parts')
  images = batch(4, (4, 4, 3))
  variables = initialise(model, images, train=False)

  @jax.jit
  @jax.grad
  def gradient(params):
    logits = model.apply({'params': params}, images, train=True)
    return -jax.nn.log_softmax(logits)[:, 0].mean()

  for path, leaf in jax.tree.leaves_with_path(gradient(variables['params'])):
    name = jax.tree_util.keystr(path)
    assert np.isfinite(leaf).all(), name
    if "['key']['bias']" not in name:
      assert np.abs(leaf).max() > 1e-6, name


def test_bfloat16_logits_are_near_float32_logits(initialise):
  images = batch(4, (4, 4, 3))
  variables = initialise(tiny(), images, train=False)

  def logits(dtype):
    model = tiny(dtype=dtype)
    return jax.jit(lambda v: model.apply(v, images, train=False))(variables)

  exact, rough = logits(jnp.float32), logits(jnp.bfloat16)
  error = np.abs(exact - rough).max()
  assert 0 < error < 0.1 * np.abs(exact).max()
