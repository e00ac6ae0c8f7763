"""How examples reach the devices: one interface, whatever lies behind it.

A batch is a function of (seed, step), so a feed has nothing to save. A feed
has:

  constants, constant_axes    what every step gets, on the devices already, and
                              the axes that `parallel.parallelize_steps` wants
  title, num_examples         for the log
  batch_size                  over all devices
  num_slices                  how many arrays change from step to step
  train_slices(step, count)   those of some training steps
  read(constants, slices)     this device's batch, inside the compiled step
  eval_batches()              the batches of one pass over all examples, split
                              over the devices already: `Batch`
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mollify_jax import parallel
from mollify_jax.data import resident, streaming

FEEDS = ('auto', 'resident', 'sharded', 'streaming')


class Batch(NamedTuple):
  """Examples of one pass, in one piece per local device.

  Attributes:
    image: uint8[local devices, B, H, W, C].
    label: int32[local devices, B].
    index: int32[local devices, B], positions in the test set.
    mask: bool[local devices, B]; False is padding, not to be counted.
  """

  image: Any
  label: Any
  index: Any
  mask: Any


class ResidentFeed:
  """Examples that stay on the devices as uint8; only indices are sent."""

  num_slices = 2

  def __init__(
    self,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    batch_size: int,
    seed: int = 0,
    sharded: bool = False,
    draws: int = 1,
  ):
    """Copies the examples to the devices.

    Args:
      images: uint8[N, H, W, C].
      labels: int32[N].
      batch_size: over all devices, divisible by their number.
      seed: of the order of training.
      sharded: give every device (of all hosts) its part of the images only,
        instead of all of them.
      draws: how often an image stands in a batch of training, one behind the
        other; divides `batch_size`.
    """
    self.num_examples = len(labels)
    self.batch_size = batch_size
    self._seed = seed
    self._sharded = sharded
    self._draws = draws
    self._first = images[0], int(labels[0])
    place = parallel.shard if sharded else parallel.replicate
    self.constants = (place(images), parallel.replicate(labels))
    self.constant_axes = (0 if sharded else None, None)
    self.title = 'in parts on the devices' if sharded else 'on every device'
    self._look_up = parallel.parallelize(
      lambda images, labels, *slices: Batch(
        **self.read((images, labels), slices)
      ),
      shared_axes=self.constant_axes,
      num_split=self.num_slices,
      replicated=False,
    )

  def __enter__(self) -> 'ResidentFeed':
    return self

  def __exit__(self, *_) -> None:
    self.constants = ()

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
    self, first_step: int, num_steps: int
  ) -> tuple[np.ndarray, ...]:
    """What changes from step to step, [local devices, num_steps, ...]."""
    index = resident.train_indices(
      self._seed,
      first_step,
      num_steps,
      self.batch_size // self._draws,
      self.num_examples,
    )
    # Randomness is bound to the place in the batch, so these draws differ.
    index = np.repeat(index, self._draws, axis=1)
    return self._slices(index, np.ones(index.shape, bool))

  def eval_batches(self) -> Iterator[Batch]:
    """Every example once, in padded, masked batches of one shape."""
    slices = self._slices(
      *resident.padded_batches(self.num_examples, self.batch_size)
    )
    for step in range(slices[0].shape[1]):
      yield self._look_up(
        *self.constants, *(array[:, step] for array in slices)
      )

  def first_example(self) -> tuple[np.ndarray, int]:
    """(uint8[H, W, C], label), for a picture."""
    return self._first

  def _slices(self, index, mask):
    if self._sharded:
      # Every device looks the whole batch up.
      shape = (jax.local_device_count(), *index.shape)
      return np.broadcast_to(index, shape), parallel.split_batch(mask)
    return parallel.split_batch(index), parallel.split_batch(mask)


class StreamedFeed:
  """Examples decoded and cropped on the host while the devices compute.

  Training sees torchvision's random resized crops, evaluation the centre.
  """

  constants = ()
  constant_axes = ()
  num_slices = 4
  title = 'streamed from the disk'

  def __init__(
    self,
    source: Any,
    *,
    num_classes: int,
    batch_size: int,
    image_size: int,
    num_workers: int,
    seed: int = 0,
    split: str = 'train',
    eval_crop: str = 'center',
  ):
    """Starts nothing yet; see `streaming.StreamingFeed` for the arguments.

    Args:
      source, batch_size, image_size, num_workers, seed, split: as there.
      num_classes: labels must be in [0, num_classes).
      eval_crop: see `streaming.eval_batches`.

    Raises:
      ValueError: an argument out of range, or an empty source.
    """
    self.num_examples = len(source)
    self._num_classes = num_classes
    self._source = source
    self.batch_size = batch_size
    self._options = {
      'image_size': image_size,
      'split': split,
      'num_workers': num_workers,
      'process_index': jax.process_index(),
      'process_count': jax.process_count(),
    }
    self._seed = seed
    self._eval_crop = eval_crop
    self._stream: streaming.StreamingFeed | None = None
    self._batches()  # checks the arguments before anything is trained

  def __enter__(self) -> 'StreamedFeed':
    return self

  def __exit__(self, *_) -> None:
    if self._stream is not None:
      self._stream.close()

  def read(
    self, constants: Sequence[jax.Array], slices: Sequence[jax.Array]
  ) -> dict[str, jax.Array]:
    """This device's part of one batch, as `ResidentFeed.read`."""
    del constants
    return dict(zip(('image', 'label', 'index', 'mask'), slices, strict=True))

  def train_slices(
    self, first_step: int, num_steps: int
  ) -> tuple[np.ndarray, ...]:
    """What changes from step to step, [local devices, num_steps, ...]."""
    if self._stream is None:
      self._stream = streaming.StreamingFeed(
        self._source,
        batch_size=self.batch_size,
        seed=self._seed,
        **self._options,
      )
    batches = self._stream.steps(first_step, num_steps)
    self._check_labels(batches['label'])
    mask = np.ones(batches['label'].shape, bool)
    # Training binds randomness to positions, never to examples.
    index = np.zeros(batches['label'].shape, np.int32)
    return self._split(batches['image'], batches['label'], index, mask)

  def eval_batches(self) -> Iterator[Batch]:
    """Every example once, in padded, masked batches of one shape."""
    size = self.batch_size // jax.process_count()
    for number, batch in enumerate(self._batches()):
      self._check_labels(batch['label'])
      first = number * self.batch_size + jax.process_index() * size
      index = first + np.arange(size, dtype=np.int32)
      arrays = (batch['image'], batch['label'], index, batch['mask'])
      slices = self._split(*(array[np.newaxis] for array in arrays))
      yield Batch(*(array[:, 0] for array in slices))

  def first_example(self) -> tuple[np.ndarray, int]:
    """(uint8[H, W, 3], label), for a picture."""
    options = {
      **self._options,
      'num_workers': 0,
      'process_index': 0,
      'process_count': 1,
    }
    batch = next(streaming.eval_batches(self._source, batch_size=1, **options))
    return batch['image'][0], int(batch['label'][0])

  def _batches(self):
    return streaming.eval_batches(
      self._source,
      batch_size=self.batch_size,
      crop=self._eval_crop,
      **self._options,
    )

  def _check_labels(self, labels):
    outside = labels[(labels < 0) | (labels >= self._num_classes)]
    if outside.size:
      raise ValueError(
        f'a {self._options["split"]} label is {int(outside[0])}, wanted a '
        f'class index in [0, {self._num_classes - 1}]'
      )

  def _split(self, *arrays):
    return tuple(parallel.split_local(array) for array in arrays)


Feed = ResidentFeed | StreamedFeed


def host_batches(
  images: np.ndarray, labels: np.ndarray, batch_size: int
) -> Iterator[Batch]:
  """Every example of arrays on the host once, as `eval_batches`.

  Args:
    images: uint8[N, H, W, C]; may be a map of a file, of which each process
      reads its own part.
    labels: int32[N].
    batch_size: over all devices, divisible by their number.
  """
  index, mask = map(
    parallel.split_batch, resident.padded_batches(len(labels), batch_size)
  )
  for step in range(index.shape[1]):
    rows = index[:, step]
    yield Batch(images[rows], labels[rows], rows, mask[:, step])


def choose_feed(
  wanted: str,
  num_bytes: int,
  *,
  memory: int,
  share: float,
  num_devices: int,
  can_stream: bool,
) -> str:
  """Which feed the examples get.

  Args:
    wanted: one of `FEEDS`; anything but `auto` is taken as it is.
    num_bytes: of all images, decoded.
    memory: bytes per device.
    share: of that memory that examples may take, in (0, 1].
    num_devices: of all hosts.
    can_stream: whether the examples have a source to stream from.

  Returns:
    `resident` where a copy fits on every device, `sharded` where it fits on
    all of them together, else `streaming`.

  Raises:
    ValueError: `streaming` is wanted or needed, and impossible.
  """
  if wanted == 'streaming' and not can_stream:
    raise ValueError(
      "config.feed='streaming' is for folders with config.data.image_size and "
      "for tfds data sets; take feed='auto'"
    )
  if wanted != 'auto':
    return wanted
  room = share * memory
  if num_bytes <= room:
    return 'resident'
  if math.ceil(num_bytes / num_devices) <= room:
    return 'sharded'
  if can_stream:
    return 'streaming'
  raise ValueError(
    f'the images take {num_bytes >> 20} MiB and {num_devices} devices have '
    f'{int(room * num_devices) >> 20} MiB for them '
    f'(config.data_memory_share={share!r}); take more devices, fewer '
    'examples, or a larger share'
  )
