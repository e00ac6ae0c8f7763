"""From a feature map to one vector per image, or to a smaller map."""

import jax
import jax.numpy as jnp
import numpy as np


def average_pool(x: jax.Array) -> jax.Array:
  """The mean over all positions: float[B, H, W, C] -> float32[B, C]."""
  # The barrier keeps bfloat16 activations out of the loop that sums them:
  # XLA:CPU of jaxlib 0.12.0.1 reads garbage (1e36) where it fuses the two.
  x = jax.lax.optimization_barrier(x)
  return jnp.mean(x, axis=(1, 2), dtype=jnp.float32)


def pool_windows(x: jax.Array, size: int) -> jax.Array:
  """The means over windows of about `size` positions, side by side.

  There are max(1, H // size) rows and max(1, W // size) columns of windows,
  which share the positions as evenly as they can: a map smaller than twice
  `size` is averaged as a whole.

  Args:
    x: float[B, H, W, C].
    size: >= 1 (static).

  Returns:
    float32[B, rows * columns * C], row by row.
  """
  rows, columns = (
    np.array_split(np.arange(length), max(1, length // size))
    for length in x.shape[1:3]
  )
  return jnp.concatenate(
    [
      average_pool(x[:, row[0] : row[-1] + 1, column[0] : column[-1] + 1])
      for row in rows
      for column in columns
    ],
    axis=-1,
  )


def halve(x: jax.Array) -> jax.Array:
  """The means over 2x2 positions; over those there are, at an odd edge.

  float[B, H, W, C] -> [B, ceil(H / 2), ceil(W / 2), C], same dtype; the sums
  are float32.
  """
  # An odd edge is doubled, which leaves its mean as it is.
  odd = [(0, x.shape[axis] % 2) for axis in (1, 2)]
  doubled = jnp.pad(x, ((0, 0), *odd, (0, 0)), mode='edge')
  total = sum(
    doubled[:, i::2, j::2].astype(jnp.float32)
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1))
  )
  return (0.25 * total).astype(x.dtype)
