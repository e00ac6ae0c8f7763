"""How examples reach the devices: one interface, whatever lies behind it.

A batch is a function of (seed, step), so a feed has nothing to save.
"""

import math
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from mollify_jax import parallel
from mollify_jax.data import resident
from mollify_jax.parallel import split_batch

FEEDS = ('auto', 'resident', 'sharded')


class ResidentFeed:
  """Examples that stay on the devices as uint8; only indices are sent.

  Attributes:
    constants: what every step gets, on the devices already.
    constant_axes: of each, as `parallel.parallelize_steps` takes them.
    num_slices: how many arrays `train_slices` and `eval_chunks` give.
  """

  num_slices = 2

  def __init__(
    self, images: np.ndarray, labels: np.ndarray, *, sharded: bool = False
  ):
    """Copies the examples to the devices.

    Args:
      images: uint8[N, H, W, C].
      labels: int32[N].
      sharded: give every device (of all hosts) its part of the images only,
        instead of all of them.
    """
    self.num_examples = len(labels)
    self._sharded = sharded
    place = parallel.shard if sharded else parallel.replicate
    self.constants = (place(images), parallel.replicate(labels))
    self.constant_axes = (0 if sharded else None, None)

  def read(
    self, constants: Sequence[jax.Array], slices: Sequence[jax.Array]
  ) -> dict[str, jax.Array]:
    """This device's part of one batch; runs inside the compiled step.

    Returns:
      image uint8[B, H, W, C], label int32[B], index int32[B] (which example
      it is), mask bool[B] (False: padding, not to be counted).
    """
    images, labels = constants
    index, mask = slices
    if self._sharded:
      pixels = parallel.take_sharded(images, index)
      index = parallel.take_own(index)
    else:
      pixels = images[index]
    return {
      'image': pixels,
      'label': labels[index],
      'index': index,
      'mask': mask,
    }

  def train_slices(
    self, seed: int, first_step: int, num_steps: int, batch_size: int
  ) -> tuple[np.ndarray, ...]:
    """What changes from step to step, [local devices, num_steps, ...]."""
    index = resident.train_indices(
      seed, first_step, num_steps, batch_size, self.num_examples
    )
    return self._slices(index, np.ones(index.shape, bool))

  def eval_chunks(self, batch_size: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Every example once, in padded, masked batches; here in one chunk."""
    yield self._slices(*resident.padded_batches(self.num_examples, batch_size))

  def _slices(self, index, mask):
    if self._sharded:
      # Every device looks the whole batch up.
      shape = (jax.local_device_count(), *index.shape)
      return np.broadcast_to(index, shape), split_batch(mask)
    return split_batch(index), split_batch(mask)


def choose_feed(
  wanted: str, num_bytes: int, *, memory: int, share: float, num_devices: int
) -> str:
  """Which feed the examples get.

  Args:
    wanted: one of `FEEDS`; anything but `auto` is taken as it is.
    num_bytes: of all images.
    memory: bytes per device.
    share: of that memory that examples may take, in (0, 1].
    num_devices: of all hosts.

  Returns:
    `resident` where a copy fits on every device, else `sharded`.

  Raises:
    ValueError: under `auto`, where all devices together have too little.
  """
  if wanted != 'auto':
    return wanted
  room = share * memory
  if num_bytes <= room:
    return 'resident'
  if math.ceil(num_bytes / num_devices) <= room:
    return 'sharded'
  raise ValueError(
    f'the images take {num_bytes >> 20} MiB and {num_devices} devices have '
    f'{int(room * num_devices) >> 20} MiB for them '
    f'(config.data_memory_share={share!r}); take more devices, fewer '
    'examples, or a larger share'
  )
