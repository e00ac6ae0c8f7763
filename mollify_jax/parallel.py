"""One program on every device: the only file that says pmap.

State and data are replicated and stay on the devices; the batch is split over
them. Inside, `AXIS` names the device axis for means and sums.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

AXIS = 'devices'


def parallelize_steps(
  body: Callable,
  *,
  num_replicated: int,
  num_split: int,
  donate_carry: bool = False,
) -> Callable:
  """Compiles several steps of `body` to run on all devices at once.

  On accelerators the steps are one `lax.scan` in one call, without a host
  round trip. On CPU every step is a call of its own: XLA:CPU runs a
  convolution inside a loop about thirty times slower than outside
  (experiments/speed/loops.py), and a call costs it next to nothing.

  Args:
    body: (carry, *replicated, *slices) -> (carry, outputs), like the body of
      a scan. Carry and outputs must be equal on all devices, as
      `jax.lax.pmean` and `psum` over `AXIS` make them.
    num_replicated: arguments that are the same on every device and step.
    num_split: arguments that carry leading axes [local devices, steps].
    donate_carry: the call may reuse the carry's buffers.

  Returns:
    steps(carry, *replicated, *split) -> (carry, outputs); both replicated,
    without a device axis, outputs with a leading [steps] axis.
  """
  compiled = functools.partial(
    jax.pmap,
    axis_name=AXIS,
    in_axes=(None,) * (1 + num_replicated) + (0,) * num_split,
    out_axes=None,
    donate_argnums=(0,) if donate_carry else (),
  )
  if jax.default_backend() != 'cpu':

    def scan(carry, *arguments):
      replicated, split = _split_at(arguments, num_replicated)
      return jax.lax.scan(
        lambda carry, slices: body(carry, *replicated, *slices), carry, split
      )

    return compiled(scan)

  step = compiled(body)

  def loop(carry, *arguments):
    replicated, split = _split_at(arguments, num_replicated)
    outputs = []
    for index in range(split[0].shape[1]):
      carry, output = step(
        carry, *replicated, *(array[:, index] for array in split)
      )
      # Waiting bounds the collectives in flight, which CPU devices need.
      outputs.append(to_host(output))
    return carry, jax.tree.map(lambda *leaves: np.stack(leaves), *outputs)

  return loop


def replicate(tree: Any) -> Any:
  """Copies a tree to every local device, once.

  The result has the sharding that a parallel call returns, so that the first
  call can reuse the buffers of a donated state as every later one does.
  """
  mesh = jax.sharding.Mesh(np.array(jax.local_devices()), (AXIS,))
  sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  return jax.device_put(tree, sharding)


def split_batch(array: np.ndarray) -> np.ndarray:
  """This process's part of a global batch, split over its devices.

  Args:
    array: [steps, B], B divisible by the number of devices of all processes.

  Returns:
    [local devices, steps, B / devices]; device d of all devices holds the
    positions d * B / devices + [0, B / devices) of every step.
  """
  steps = array.shape[0]
  parts = array.reshape(steps, jax.device_count(), -1).swapaxes(0, 1)
  first = jax.process_index() * jax.local_device_count()
  return np.ascontiguousarray(parts[first : first + jax.local_device_count()])


def to_host(tree: Any) -> Any:
  """Waits for a tree of replicated arrays and returns it as NumPy arrays."""
  return jax.tree.map(np.asarray, tree)


def _split_at(arguments: tuple, index: int) -> tuple[tuple, tuple]:
  return arguments[:index], arguments[index:]
