"""Dropout that does not depend on how many devices share a batch."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mollify_jax import rng


class Dropout(nn.Module):
  """Zeroes a share of each example's values in training, and scales the rest.

  float[B, ...] -> the same. The expectation stays; with train=False so does
  everything. Needs the key 'dropout' in training. Examples draw by their
  position in the batch that is split over `axis_name`.
  """

  rate: float  # in [0, 1)
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    if not train:
      return x
    size = x.shape[0]
    first = 0 if self.axis_name is None else jax.lax.axis_index(self.axis_name)
    keys = rng.example_keys(self.make_rng('dropout'), first * size, size)
    keep = 1.0 - self.rate
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, keep, x.shape[1:]))
    return jnp.where(kept(keys), x / keep, 0.0).astype(x.dtype)
