"""Weights without compiling: the tests of models spend their time there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest


def fill(path, leaf):
  """Numbers of a sensible size that no default could hide behind."""
  name = path[-1].key
  seed = [ord(letter) for letter in jax.tree_util.keystr(path)]
  generator = np.random.default_rng(seed)
  if name == 'kernel':
    values = generator.normal(size=leaf.shape)
    values /= np.sqrt(np.prod(leaf.shape[:-1]))
  elif name in ('scale', 'var'):
    values = generator.uniform(0.5, 2, leaf.shape)
  else:
    values = 0.3 * generator.normal(size=leaf.shape)
  return jnp.asarray(values, leaf.dtype)


@pytest.fixture(scope='session')
def initialise():
  """initialise(model, images, ...) -> variables filled by `fill`."""

  def function(model, *args, **kwargs):
    variables = jax.eval_shape(
      lambda: model.init(jax.random.key(0), *args, **kwargs)
    )
    return jax.tree.map_with_path(fill, variables)

  return function
