"""Batches decoded while training runs, for data that no device can hold.

Which examples make up batch s depends on (seed, s) alone, and it is the order
of resident data; an example's crop depends on (seed, epoch, example). So there
is no position to save, neither ours nor grain's: a run resumes by asking for
its next step, on however many hosts and with however many workers.

A source has `len(source)`, and `source[i]` is (encoded image, label) or a
mapping {'image': encoded image, 'label': label}, as tfds' `as_data_source`
returns it with `decoders={'image': tfds.decode.SkipDecoding()}`. If it has
`__getitems__(indices)`, records are read with that; if it has `describe(i)`,
error messages say that of a damaged image too. Workers get a pickled copy.
"""

import contextlib
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mollify_jax.data import resident
from mollify_jax.data.decoding import center_crop, open_image
from mollify_jax.errors import one_line

if TYPE_CHECKING:
  pass

CROPS = ('random', 'center', 'whole')

# Of torchvision's RandomResizedCrop: share of the area, and width / height.
CROP_SCALE = (0.08, 1.0)
CROP_RATIO = (3 / 4, 4 / 3)

# The centre crop shows this share of the shorter side.
CENTER_SHARE = 224 / 256

# A worker decodes that many at a time: it is deaf to `close` meanwhile, and
# the parts of one batch go to different workers.
EXAMPLES_PER_TASK = 32

# Keeps crops apart from `resident.epoch_permutation`, which draws from
# (seed, epoch): NumPy pads with zeros, so example 0 would repeat its numbers.
CROP_STREAM = 1


class StreamingFeed:
  """Training batches of one process, as a function of the step.

  With worker processes, images are decoded ahead of the step that needs them,
  up to about two batches. Use it in a `with` statement: workers end with it,
  with any exception that `steps` raises, and with the process itself.
  """

  def __init__(
    self,
    source: Any,
    *,
    batch_size: int,
    image_size: int,
    seed: int,
    crop: str = 'random',
    num_workers: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    split: str = 'train',
  ):
    """Checks the arguments; nothing is read or started before `steps`.

    Args:
      source: the training examples; see the module.
      batch_size: of all processes together.
      image_size: height and width of the result.
      seed: >= 0, of the order and of the crops.
      crop: 'random' is torchvision's RandomResizedCrop, scale (0.08, 1) and
        ratio (3/4, 4/3), without its flip; 'center' is that of `eval_batches`.
      num_workers: processes that decode; 0 decodes when asked, in this one.
      process_index, process_count: which share of each batch this is; the
        processes must be numbered as their devices are.
      split: what messages call the source.

    Raises:
      ValueError: an argument out of range.
    """
    begin, end = _share(batch_size, process_index, process_count)
    _check_at_least('seed', seed, 0)
    reader = _Reader(source, split, image_size, crop, seed)
    if batch_size > len(source):
      raise ValueError(
        f'batch_size {batch_size!r} is larger than the {split} split; wanted '
        f'at most {len(source)}'
      )
    self._tasks = _TrainTasks(reader, batch_size, begin, end)
    self._num_workers = _checked_workers(num_workers)
    self._stream: _Stream | None = None
    self._next_step = 0
    self._closed = False

  def steps(self, first_step: int, num_steps: int) -> dict[str, np.ndarray]:
    """The batches of steps first_step + [0, num_steps).

    A call that begins where the last one ended goes on with what the workers
    have ready; any other first_step starts them anew.

    Args:
      first_step: >= 0, counted from 0 over the whole training.
      num_steps: >= 0.

    Returns:
      {'image': uint8[num_steps, B, H, W, 3], 'label': int32[num_steps, B]}, B
      being this process's share: positions process_index * B + [0, B) of what
      `resident.train_indices` says.

    Raises:
      ValueError: an argument out of range, or an image that cannot be read or
        decoded; the message names the split and the index.
      ChildProcessError: a worker died.
    """
    _check_at_least('first_step', first_step, 0)
    _check_at_least('num_steps', num_steps, 0)
    if self._closed:
      raise ValueError('this feed is closed; make another StreamingFeed')
    batches = self._tasks.empty_batches(num_steps)
    if not num_steps:
      return batches
    if self._stream is None or first_step != self._next_step:
      self._stop()
      self._stream = _Stream(self._tasks, first_step, self._num_workers)
    try:
      for step in range(num_steps):
        self._stream.fill({key: batches[key][step] for key in batches})
    except BaseException:  # an interrupt, too, must not leave workers behind
      self._stop()
      raise
    self._next_step = first_step + num_steps
    return batches

  def close(self) -> None:
    """Ends the workers and waits for them; calling it again does nothing."""
    self._closed = True
    self._stop()

  def __enter__(self) -> 'StreamingFeed':
    return self

  def __exit__(self, *_) -> None:
    self.close()

  def _stop(self) -> None:
    stream, self._stream = self._stream, None
    if stream is not None:
      stream.close()


def eval_batches(
  source: Any,
  *,
  batch_size: int,
  image_size: int,
  num_workers: int = 0,
  process_index: int = 0,
  process_count: int = 1,
  split: str = 'test',
  crop: str = 'center',
) -> Iterator[dict[str, np.ndarray]]:
  """All examples, in order, in batches of one size, as `padded_batches`.

  Leaving the loop early ends the workers as soon as the iterator
  is dropped; `contextlib.closing` says so in the code.

  Args:
    source: the examples; see the module.
    batch_size: of all processes together.
    image_size: height and width of the result.
    num_workers, process_index, process_count, split: as for `StreamingFeed`.
    crop: 'center' resizes the shorter side to round(image_size * 256 / 224)
      and takes the centre; 'whole' resizes all of it, for images that were
      cropped when they were stored.

  Returns:
    An iterator over ceil(len(source) / batch_size) batches, on every process
    the same number of them: {'image': uint8[B, H, W, 3], 'label': int32[B],
    'mask': bool[B]}. Where the mask is False, image and label are 0 and must
    not be counted.

  Raises:
    ValueError: an argument out of range; the iterator raises what `steps`
      raises.
  """
  begin, end = _share(batch_size, process_index, process_count)
  tasks = _EvalTasks(
    _Reader(source, split, image_size, crop, seed=0), batch_size, begin, end
  )
  return _evaluation(tasks, _checked_workers(num_workers))


def random_box(
  generator: np.random.Generator, width: int, height: int
) -> tuple[int, int, int, int]:
  """Where torchvision's RandomResizedCrop would cut: (left, top, w, h).

  Area is uniform in CROP_SCALE, the logarithm of the ratio in CROP_RATIO. If
  ten boxes in a row do not fit, it is the largest centred one of such a ratio.
  """
  low, high = (math.log(ratio) for ratio in CROP_RATIO)
  for _ in range(10):
    area = width * height * generator.uniform(*CROP_SCALE)
    ratio = math.exp(generator.uniform(low, high))
    wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
    if 0 < wide <= width and 0 < tall <= height:
      left = int(generator.integers(width - wide + 1))
      top = int(generator.integers(height - tall + 1))
      return left, top, wide, tall
  wide = min(width, round(height * CROP_RATIO[1]))
  tall = min(height, round(width / CROP_RATIO[0]))
  return (width - wide) // 2, (height - tall) // 2, wide, tall


class _Reader:
  """Reads, decodes and crops examples of one source."""

  def __init__(
    self, source: Any, split: str, image_size: int, crop: str, seed: int
  ):
    if crop not in CROPS:
      raise ValueError(f'unknown crop {crop!r}; choose from {", ".join(CROPS)}')
    _check_at_least('image_size', image_size, 1)
    if not len(source):
      raise ValueError(
        f'the {split} split is empty, wanted one example at least; check the '
        'source'
      )
    self.source = source
    self.image_size = image_size
    self.seed = seed
    self._split = split
    self._crop = crop

  def read(self, epoch: int, examples: Sequence[int]) -> dict[str, np.ndarray]:
    """{'image': uint8[N, H, W, 3], 'label': int32[N]} of N examples."""
    size = self.image_size
    images = np.empty((len(examples), size, size, 3), np.uint8)
    labels = np.empty(len(examples), np.int32)
    records = self._records(examples)
    for row, (example, record) in enumerate(
      zip(examples, records, strict=True)
    ):
      if isinstance(record, Mapping):
        record = record['image'], record['label']
      data, labels[row] = record
      images[row] = self._pixels(epoch, example, data)
    return {'image': images, 'label': labels}

  def _records(self, examples: Sequence[int]) -> list[Any]:
    if examples and hasattr(self.source, '__getitems__'):
      # One by one below, it is said which one cannot be read.
      with contextlib.suppress(Exception):
        return self.source.__getitems__(examples)
    records = []
    for example in examples:
      try:
        records.append(self.source[example])
      except Exception as error:  # of a file system or a C++ library
        raise ValueError(
          f'{self._split} example {example} cannot be read '
          f'({one_line(error)}); restore the file'
        ) from error
    return records

  def _pixels(self, epoch: int, example: int, data: bytes) -> np.ndarray:
    from PIL import Image

    what = f'{self._split} image {example}'
    if hasattr(self.source, 'describe'):
      what += f' ({self.source.describe(example)})'
    image = open_image(what, data)
    if image.mode != 'RGB':
      image = image.convert('RGB')
    size = self.image_size
    if self._crop == 'center':
      return np.asarray(center_crop(image, round(size / CENTER_SHARE), size))
    if self._crop == 'whole':
      whole = image.resize((size, size), Image.Resampling.BILINEAR)
      return np.asarray(whole)
    generator = np.random.default_rng((self.seed, epoch, example, CROP_STREAM))
    left, top, wide, tall = random_box(generator, *image.size)
    # Cut first: resizing a box would look at pixels outside of it.
    image = image.crop((left, top, left + wide, top + tall))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


class _Tasks:
  """A host's share of the batches, in parts that are decoded on access.

  Task i is part i % P of step i // P, P being the parts per step; subclasses
  say which examples that are. Workers get a copy each.
  """

  def __init__(self, reader: _Reader, batch_size: int, begin: int, end: int):
    self._reader = reader
    self._batch_size = batch_size
    self._parts = [
      (first, min(first + EXAMPLES_PER_TASK, end))
      for first in range(begin, end, EXAMPLES_PER_TASK)
    ]
    self._share = end - begin

  @property
  def parts_per_step(self) -> int:
    return len(self._parts)

  def empty_batches(self, *leading: int) -> dict[str, np.ndarray]:
    """Room for this host's share of `leading` batches."""
    size = self._reader.image_size
    shape = (*leading, self._share)
    return {
      'image': np.empty((*shape, size, size, 3), np.uint8),
      'label': np.empty(shape, np.int32),
    }

  def __getitem__(self, task: int) -> dict[str, np.ndarray]:
    step, part = divmod(int(task), len(self._parts))
    return self._reader.read(*self._examples(step, *self._parts[part]))


class _TrainTasks(_Tasks):
  """Shuffled anew every epoch, for ever; the order of resident data."""

  _epoch = -1
  _order: np.ndarray  # of that epoch; drawing it takes ImageNet 25 ms

  def __len__(self) -> int:
    return 1 << 62

  def _examples(self, step: int, begin: int, end: int) -> tuple[int, list[int]]:
    """(epoch, examples) at positions [begin, end) of the global batch."""
    num_examples = len(self._reader.source)
    epoch, index = divmod(step, num_examples // self._batch_size)
    if epoch != self._epoch:
      self._order = resident.epoch_permutation(
        self._reader.seed, epoch, num_examples
      )
      self._epoch = epoch
    first = index * self._batch_size
    return epoch, self._order[first + begin : first + end].tolist()


class _EvalTasks(_Tasks):
  """In order, each example once; the last parts may be short or empty."""

  def __len__(self) -> int:
    num_batches = -(-len(self._reader.source) // self._batch_size)
    return num_batches * len(self._parts)

  def _examples(self, step: int, begin: int, end: int) -> tuple[int, list[int]]:
    first = step * self._batch_size
    stop = min(first + end, len(self._reader.source))
    return 0, list(range(first + begin, stop))


class _Stream:
  """The results of tasks in order, from in here or from worker processes."""

  def __init__(self, tasks: _Tasks, first_step: int, num_workers: int):
    first_task = first_step * tasks.parts_per_step
    self._tasks = tasks
    self._workers = None
    if num_workers:
      self._workers = _start_workers(tasks, first_task, num_workers)
      self._results = self._workers
    else:
      self._results = map(tasks.__getitem__, range(first_task, len(tasks)))

  def fill(self, batch: dict[str, np.ndarray]) -> int:
    """Writes the next step's examples from row 0 on; returns their number."""
    filled = 0
    for _ in range(self._tasks.parts_per_step):
      part = self._next_part()
      count = len(part['label'])
      for key, array in part.items():
        batch[key][filled : filled + count] = array
      filled += count
    return filled

  def close(self) -> None:
    if self._workers is not None:
      self._workers.close()

  def _next_part(self) -> dict[str, np.ndarray]:
    try:
      return next(self._results)
    except RuntimeError as error:
      if self._workers is None:
        raise
      # Tasks raise ValueError, so this is grain's: a process is gone.
      raise ChildProcessError(
        f'a data worker died ({one_line(error)}); exit code -9 is a lack of '
        'memory, -7 a full /dev/shm: enlarge it or lower num_workers'
      ) from error


def _evaluation(
  tasks: _EvalTasks, num_workers: int
) -> Iterator[dict[str, np.ndarray]]:
  stream = _Stream(tasks, 0, num_workers)
  try:
    for _ in range(len(tasks) // tasks.parts_per_step):
      batch = tasks.empty_batches()
      count = stream.fill(batch)
      for array in batch.values():
        array[count:] = 0
      yield {**batch, 'mask': np.arange(len(batch['label'])) < count}
  finally:
    stream.close()


def _start_workers(tasks: _Tasks, first_task: int, num_workers: int) -> Any:
  """grain's iterator over the results; worker i does the tasks i, i + n, ...

  Raises:
    ValueError: grain is not installed.
  """
  try:
    import grain
  except ImportError as error:
    raise ValueError(
      f'num_workers={num_workers!r} needs grain, which cannot be imported '
      f"({error}); pip install 'mollify_jax[data]', or take num_workers=0"
    ) from error
  # grain reads flags of its own, and absl refuses that before a command line
  # was parsed, which in a notebook or a test nobody has done.
  from absl import flags

  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()
  dataset = grain.MapDataset.source(tasks)[first_task:]
  # Threads in a worker would decode several tasks in turns, none the sooner.
  dataset = dataset.to_iter_dataset(
    grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
  )
  # grain keeps twice this many results per worker: in all, two batches.
  ahead = -(-tasks.parts_per_step // num_workers)
  dataset = dataset.mp_prefetch(
    grain.MultiprocessingOptions(num_workers, per_worker_buffer_size=ahead),
    worker_init_fn=_prepare_worker,
  )
  return iter(dataset)


def _prepare_worker(index: int, count: int) -> None:
  """Runs first in a worker process."""
  del index, count
  # Ctrl-C reaches the whole group; the parent alone decides what it means.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  # Nothing here computes with jax; if a source did, it must not take a device.
  os.environ['JAX_PLATFORMS'] = 'cpu'
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
  """A killed parent closes nothing, and its workers would wait for ever."""
  multiprocessing.parent_process().join()
  os._exit(1)


def _share(
  batch_size: int, process_index: int, process_count: int
) -> tuple[int, int]:
  """The positions [begin, end) of a batch that this process's devices hold."""
  _check_at_least('batch_size', batch_size, 1)
  _check_at_least('process_count', process_count, 1)
  if not 0 <= process_index < process_count:
    raise ValueError(
      f'process_index must be in [0, {process_count - 1}], got '
      f'{process_index!r}'
    )
  if batch_size % process_count:
    larger = -(-batch_size // process_count) * process_count
    raise ValueError(
      f'batch_size {batch_size!r} does not divide by the {process_count} '
      f'processes; the next batch size up is {larger}'
    )
  size = batch_size // process_count
  return process_index * size, (process_index + 1) * size


def _checked_workers(num_workers: int) -> int:
  _check_at_least('num_workers', num_workers, 0)
  return num_workers


def _check_at_least(name: str, value: int, least: int) -> None:
  if value < least:
    raise ValueError(f'{name} must be >= {least}, got {value!r}')
