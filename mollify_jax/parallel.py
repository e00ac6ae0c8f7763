"""One program on every device: the only file that says pmap.

The state is replicated and stays on the devices; the data is replicated too,
or in parts; the batch is split over them. Inside, `AXIS` names the device axis
for means and sums.
"""

import collections
import functools
import os
import platform
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

AXIS = 'devices'


def parallelize_steps(
  body: Callable,
  *,
  constant_axes: Sequence[int | None],
  num_split: int,
  donate_carry: bool = False,
) -> Callable:
  """Compiles several steps of `body` to run on all devices at once.

  On accelerators the steps are one `lax.scan` in one call, without a host
  round trip. On CPU every step is a call of its own: XLA:CPU runs a
  convolution inside a loop about thirty times slower than outside
  (experiments/speed/loops.py), and a call costs it next to nothing.

  Args:
    body: (carry, *constants, *slices) -> (carry, outputs), like the body of a
      scan. Carry and outputs must be equal on all devices, as
      `jax.lax.pmean` and `psum` over `AXIS` make them.
    constant_axes: of each argument that is the same in every step: None if
      every device has all of it (see `replicate`), 0 if each has its part
      (see `shard`).
    num_split: arguments that carry leading axes [local devices, steps].
    donate_carry: the call may reuse the carry's buffers.

  Returns:
    steps(carry, *constants, *split, stop=None) -> (carry, outputs); both
    replicated, without a device axis, outputs with a leading [steps] axis.
    Where every step is a call of its own, `stop(number of steps done)` is asked
    after each; true, which it must be in all processes, ends the call with
    fewer outputs.
  """
  num_constants = len(constant_axes)
  compiled = functools.partial(
    jax.pmap,
    axis_name=AXIS,
    in_axes=(None, *constant_axes) + (0,) * num_split,
    out_axes=None,
    donate_argnums=(0,) if donate_carry else (),
  )
  if jax.default_backend() != 'cpu':

    def scan(carry, *arguments):
      constants, split = _split_at(arguments, num_constants)
      return jax.lax.scan(
        lambda carry, slices: body(carry, *constants, *slices), carry, split
      )

    steps = compiled(scan)
    return lambda *arguments, stop=None: steps(*arguments)

  step = compiled(body)

  def loop(carry, *arguments, stop=None):
    constants, split = _split_at(arguments, num_constants)
    outputs = []
    for index in range(split[0].shape[1]):
      carry, output = step(
        carry, *constants, *(array[:, index] for array in split)
      )
      # Waiting bounds the collectives in flight, which CPU devices need.
      outputs.append(to_host(output))
      if stop is not None and stop(index + 1):
        break
    return carry, jax.tree.map(lambda *leaves: np.stack(leaves), *outputs)

  return loop


def parallelize(
  body: Callable,
  *,
  shared_axes: Sequence[int | None] = (),
  num_split: int,
  replicated: bool,
) -> Callable:
  """Compiles one call of `body` to run on all devices at once.

  Args:
    body: (*shared, *split) -> outputs.
    shared_axes: of each argument that is not split; see `parallelize_steps`.
    num_split: arguments that carry a leading axis [local devices].
    replicated: outputs are equal on all devices and returned without a device
      axis; otherwise they stay on their devices under one.

  Returns:
    The function of the same arguments; it does not wait for its results.
  """
  return jax.pmap(
    body,
    axis_name=AXIS,
    in_axes=(*shared_axes, *(0,) * num_split),
    out_axes=None if replicated else 0,
  )


def gather(tree: Any) -> Any:
  """The whole batch [B, ...] on every device, from the shares of each."""
  return jax.lax.all_gather(tree, AXIS, tiled=True)


def previous_in_batch(tree: Any) -> Any:
  """For each of this device's [B, ...], the one before it in the whole batch.

  The last example of the whole batch stands before the first.
  """
  devices = jax.lax.axis_size(AXIS)
  to_next = [(device, (device + 1) % devices) for device in range(devices)]

  def shift(array):
    first = jax.lax.ppermute(array[-1:], AXIS, to_next)
    return jnp.concatenate([first, array[:-1]])

  return jax.tree.map(shift, tree)


def collect(calls: Iterable[Any]) -> list[Any]:
  """The results of parallel calls on the host, in order.

  A few calls are under way at a time: enough to keep an accelerator busy, and
  not so many that collectives on CPU devices, which wait for each other, block
  their threads.
  """
  most = 0 if jax.default_backend() == 'cpu' else 4
  waiting, done = collections.deque(), []
  for result in calls:
    waiting.append(result)
    if len(waiting) > most:
      done.append(to_host(waiting.popleft()))
  return done + [to_host(result) for result in waiting]


def replicate(tree: Any) -> Any:
  """Copies a tree to every local device, once.

  The result has the sharding that a parallel call returns, so that the first
  call can reuse the buffers of a donated state as every later one does.
  """
  return jax.device_put(tree, _local_sharding())


def shard(array: np.ndarray) -> jax.Array:
  """Copies to each local device its part of an array, once.

  Args:
    array: [N, ...], the whole of it in every process; only the part of this
      process's devices is read, which matters where it is a map of a file.

  Returns:
    [local devices, n, ...] with n = ceil(N / all devices): device d of all
    devices holds the rows d n + [0, n); zeros follow the last row.
  """
  n = -(-len(array) // jax.device_count())
  parts = np.zeros((jax.local_device_count(), n, *array.shape[1:]), array.dtype)
  first = jax.process_index() * jax.local_device_count()
  for i, part in enumerate(parts):
    rows = array[(first + i) * n : (first + i + 1) * n]
    part[: len(rows)] = rows
  return jax.device_put(parts, _local_sharding(AXIS))


def take_sharded(part: jax.Array, index: jax.Array) -> jax.Array:
  """This device's rows of a batch, out of parts on all devices.

  Every device looks up what it has of the whole batch, and a sum over the
  devices, of which all but one add zeros, hands each its share.

  Args:
    part: [n, ...], as `shard` placed it; integers, for which sums are exact.
    index: int32[B], rows of the whole array for the whole batch, the same on
      every device; B divisible by their number.

  Returns:
    [B / devices, ...] for the positions d B / devices + [0, B / devices) of
    device d, as in `split_batch`.
  """
  local = index - jax.lax.axis_index(AXIS) * part.shape[0]
  here = (local >= 0) & (local < part.shape[0])
  rows = part[jnp.where(here, local, 0)]
  here = here.reshape(-1, *[1] * (rows.ndim - 1))
  rows = jnp.where(here, rows, jnp.zeros((), rows.dtype))
  return jax.lax.psum_scatter(rows, AXIS, scatter_dimension=0, tiled=True)


def take_own(array: jax.Array) -> jax.Array:
  """This device's share [B / devices, ...] of a whole batch [B, ...]."""
  size = array.shape[0] // jax.lax.axis_size(AXIS)
  first = jax.lax.axis_index(AXIS) * size
  return jax.lax.dynamic_slice_in_dim(array, first, size)


def compute_deterministically() -> None:
  """Asks XLA for the same bits in every run on a GPU, at some cost in speed.

  Before JAX is first used, for XLA reads its flags once. CPUs and TPUs give the
  same bits anyway.
  """
  flags = os.environ.get('XLA_FLAGS', '')
  os.environ['XLA_FLAGS'] = f'{flags} --xla_gpu_deterministic_ops=true'


def cache_compilations(directory: Path) -> None:
  """Keeps compiled programs on disk, so that the next start is quicker.

  Each kind of processor has a folder of its own, for machine code of another
  may not run. A place that the user gave JAX stays.

  Args:
    directory: created with the first program.
  """
  if jax.config.jax_compilation_cache_dir is not None:
    return
  features = Path('/proc/cpuinfo')
  lines = features.read_text().splitlines() if features.exists() else []
  kind = sorted({line for line in lines if line.startswith(_FEATURES)})
  digest = zlib.crc32('\n'.join(kind).encode())
  folder = directory / f'compiled_{platform.machine()}_{digest:08x}'
  jax.config.update('jax_compilation_cache_dir', str(folder))


# x86 and ARM.
_FEATURES = ('flags', 'model name', 'Features', 'CPU part')


def device_memory() -> int:
  """Bytes of memory per local device; CPU devices share the host's."""
  stats = jax.local_devices()[0].memory_stats()
  if stats and 'bytes_limit' in stats:
    return stats['bytes_limit']
  host = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
  return host // jax.local_device_count()


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


def split_local(array: np.ndarray) -> np.ndarray:
  """This process's share of a batch, split over its devices.

  Args:
    array: [steps, B, ...], B divisible by the number of local devices.

  Returns:
    A view [local devices, steps, B / local devices, ...].
  """
  steps = array.shape[0]
  shape = (steps, jax.local_device_count(), -1, *array.shape[2:])
  return array.reshape(shape).swapaxes(0, 1)


def to_host(tree: Any) -> Any:
  """Waits for a tree of replicated arrays and returns it as NumPy arrays."""
  return jax.tree.map(np.asarray, tree)


def _local_sharding(*axes: str) -> jax.sharding.Sharding:
  mesh = jax.sharding.Mesh(np.array(jax.local_devices()), (AXIS,))
  return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))


def _split_at(arguments: tuple, index: int) -> tuple[tuple, tuple]:
  return arguments[:index], arguments[index:]
