"""From a feature map to one vector per image."""

import jax
import jax.numpy as jnp


def average_pool(x: jax.Array) -> jax.Array:
  """The mean over all positions: float[B, H, W, C] -> float32[B, C]."""
  # The barrier keeps bfloat16 activations out of the loop that sums them:
  # XLA:CPU of jaxlib 0.12.0.1 reads garbage (1e36) where it fuses the two.
  x = jax.lax.optimization_barrier(x)
  return jnp.mean(x, axis=(1, 2), dtype=jnp.float32)
