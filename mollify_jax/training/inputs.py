"""What a run reads: its data set, and the feed that its size asks for."""

import math
from pathlib import Path

import jax

from mollify_jax import parallel
from mollify_jax.data import catalog
from mollify_jax.data.dataset import Dataset, StreamedDataset
from mollify_jax.feeds import Feed, ResidentFeed, StreamedFeed, choose_feed
from mollify_jax.training.config import RunSpec


def open_data(
  spec: RunSpec, cache_dir: Path
) -> tuple[Dataset | StreamedDataset, str]:
  """The data set, and which of `feeds.FEEDS` it gets.

  Raises:
    ValueError, TypeError, OSError: as `catalog.load`; a feed that cannot be
      had; or fewer training examples than a batch.
  """
  dataset, kind = _open(spec, cache_dir)
  if spec.draws_per_image > 1 and kind == 'streaming':
    raise ValueError(
      f'config.draws_per_image={spec.draws_per_image!r} is for data that stays '
      f'on the devices, and {dataset.name!r} is streamed; set it to 1'
    )
  if spec.batch_size > dataset.num_train:
    raise ValueError(
      f'config.batch_size={spec.batch_size} exceeds the '
      f'{dataset.num_train} training examples of {dataset.name!r}; '
      'choose a smaller one'
    )
  return dataset, kind


def make_feed(
  spec: RunSpec, dataset: Dataset | StreamedDataset, kind: str, split: str
) -> Feed:
  """The feed of one split, `train` or `test`."""
  batch_size = spec.batch_size
  if split == 'test':
    # A batch beyond the whole test set would be padding.
    devices = jax.device_count()
    largest = -(-dataset.num_test // devices) * devices
    batch_size = min(spec.eval.batch_size, largest)
  if kind == 'streaming':
    return StreamedFeed(
      getattr(dataset, f'{split}_source'),
      num_classes=dataset.num_classes,
      batch_size=batch_size,
      image_size=dataset.image_size,
      num_workers=spec.data.num_workers,
      seed=spec.seed,
      split=split,
    )
  return ResidentFeed(
    getattr(dataset, f'{split}_images'),
    getattr(dataset, f'{split}_labels'),
    batch_size=batch_size,
    seed=spec.seed,
    sharded=kind == 'sharded',
    draws=spec.draws_per_image if split == 'train' else 1,
  )


def _open(
  spec: RunSpec, cache_dir: Path
) -> tuple[Dataset | StreamedDataset, str]:
  def choose(num_bytes):
    return choose_feed(
      spec.feed,
      num_bytes,
      memory=parallel.device_memory(),
      share=spec.data_memory_share,
      num_devices=jax.device_count(),
      can_stream=catalog.can_stream(spec.data),
    )

  if catalog.must_stream(spec.data):
    if spec.feed not in ('auto', 'streaming'):
      raise ValueError(
        f'data set {spec.data.name!r} can only be streamed, got '
        f"config.feed={spec.feed!r}; take 'auto'"
      )
    return catalog.stream(spec.data), 'streaming'
  if catalog.can_stream(spec.data):
    streamed = catalog.stream(spec.data)
    count = streamed.num_train + len(streamed.test_source)
    kind = choose(count * math.prod(streamed.image_shape))
    if kind == 'streaming':
      return streamed, kind
    return catalog.load(spec.data, cache_dir), kind
  if spec.feed == 'streaming':
    return catalog.stream(spec.data), spec.feed  # which says what it lacks
  dataset = catalog.load(spec.data, cache_dir)
  return dataset, choose(
    dataset.train_images.nbytes + dataset.test_images.nbytes
  )
