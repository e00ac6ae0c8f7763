"""Which examples make up which batch, for data that stays on the devices.

Only indices are made here, on the host; the devices gather the images. The
order depends on (seed, epoch) alone: not on the number of devices, on how many
steps are asked for at once, or on what ran before.
"""

import numpy as np


def epoch_permutation(seed: int, epoch: int, num_examples: int) -> np.ndarray:
  """The order of the training examples in one epoch.

  Args:
    seed: >= 0.
    epoch: >= 0, counted from 0.
    num_examples: >= 1.

  Returns:
    int32[num_examples], a permutation of [0, num_examples).

  Raises:
    ValueError: a negative seed or epoch, or no examples.
  """
  _check_at_least('seed', seed, 0)
  _check_at_least('epoch', epoch, 0)
  _check_at_least('num_examples', num_examples, 1)
  generator = np.random.default_rng((seed, epoch))
  return generator.permutation(num_examples).astype(np.int32)


def train_indices(
  seed: int,
  first_step: int,
  num_steps: int,
  batch_size: int,
  num_examples: int,
) -> np.ndarray:
  """The examples of steps first_step + [0, num_steps).

  Step s belongs to epoch s // (num_examples // batch_size). The tail of an
  epoch that does not fill a batch is dropped; which examples those are changes
  from epoch to epoch.

  Args:
    seed: >= 0.
    first_step: >= 0, counted from 0 over the whole training.
    num_steps: >= 0.
    batch_size: of all devices together, in [1, num_examples].
    num_examples: size of the training split.

  Returns:
    int32[num_steps, batch_size], each in [0, num_examples).

  Raises:
    ValueError: an argument out of range.
  """
  _check_at_least('first_step', first_step, 0)
  _check_at_least('num_steps', num_steps, 0)
  _check_at_least('batch_size', batch_size, 1)
  if batch_size > num_examples:
    raise ValueError(
      f'batch_size {batch_size!r} is larger than the training split; wanted '
      f'at most {num_examples}'
    )
  steps_per_epoch = num_examples // batch_size
  indices = np.empty((num_steps, batch_size), np.int32)
  done = 0
  while done < num_steps:
    epoch, begin = divmod(first_step + done, steps_per_epoch)
    count = min(steps_per_epoch - begin, num_steps - done)
    order = epoch_permutation(seed, epoch, num_examples)
    batches = order[: steps_per_epoch * batch_size].reshape(-1, batch_size)
    indices[done : done + count] = batches[begin : begin + count]
    done += count
  return indices


def padded_batches(
  num_examples: int, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
  """All examples, in order, in batches of one size, for evaluation.

  Args:
    num_examples: n >= 1.
    batch_size: of all devices together, >= 1.

  Returns:
    (indices int32[ceil(n / batch_size), batch_size], mask bool of the same
    shape). Where the mask is False the index is 0 and must not be counted.

  Raises:
    ValueError: an argument out of range.
  """
  _check_at_least('num_examples', num_examples, 1)
  _check_at_least('batch_size', batch_size, 1)
  num_batches = -(-num_examples // batch_size)
  indices = np.arange(num_batches * batch_size, dtype=np.int32)
  mask = indices < num_examples
  indices[~mask] = 0
  shape = (num_batches, batch_size)
  return indices.reshape(shape), mask.reshape(shape)


def check_divisible(batch_size: int, device_count: int) -> None:
  """Refuses a global batch that the devices cannot share evenly.

  Raises:
    ValueError: batch_size < 1, or not a multiple of device_count; the message
      names the next multiple up.
  """
  _check_at_least('device_count', device_count, 1)
  _check_at_least('batch_size', batch_size, 1)
  if batch_size % device_count:
    larger = -(-batch_size // device_count) * device_count
    raise ValueError(
      f'batch_size {batch_size!r} does not divide by the {device_count} '
      f'devices; the next batch size up is {larger}'
    )


def _check_at_least(name: str, value: int, least: int) -> None:
  if value < least:
    raise ValueError(f'{name} must be >= {least}, got {value!r}')
