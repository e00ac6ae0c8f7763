"""What a run reads: its data set, and the feed that its size asks for."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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


def reopen_data(
  spec: RunSpec, cache_dir: Path, results: Mapping[str, Any]
) -> tuple[Dataset | StreamedDataset, str]:
  """`open_data`, for a run that has been finished.

  The feed is the run's: streams know their examples by name, size and time,
  arrays by their pixels, and the two hold out other images.

  Args:
    spec: of the run.
    cache_dir: where decoded images may be kept.
    results: the result record of the run.

  Raises:
    ValueError: other data is there now; or as `open_data`.
    TypeError, OSError: as `open_data`.
  """
  feed = results.get('feed', spec.feed)
  dataset, kind = open_data(dataclasses.replace(spec, feed=feed), cache_dir)
  fingerprint = results['data_fingerprint']
  if dataset.fingerprint != fingerprint:
    told = ', the times of its files too' if kind == 'streaming' else ''
    raise ValueError(
      f'the data set {dataset.name!r} that is here has the fingerprint '
      f'{dataset.fingerprint!r}, and the run was trained on {fingerprint!r}; '
      f'bring back the data that it was trained on{told}'
    )
  return dataset, kind


def make_feed(
  spec: RunSpec, dataset: Dataset | StreamedDataset, kind: str, split: str
) -> Feed:
  """The feed of one split, `train`, `test` or `validation`."""
  batch_size = spec.batch_size
  if split != 'train':
    # Figures do not depend on it. A run that is opened again may have other
    # devices; and a batch beyond the whole split would be padding.
    size = min(spec.eval.batch_size, getattr(dataset, f'num_{split}'))
    batch_size = -(-size // jax.device_count()) * jax.device_count()
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
    count = streamed.num_train + streamed.num_test
    count += _num_beside(streamed, spec)
    kind = choose(count * math.prod(streamed.image_shape))
    if kind == 'streaming':
      return streamed, kind
    return catalog.load(spec.data, cache_dir), kind
  if spec.feed == 'streaming':
    return catalog.stream(spec.data), spec.feed  # which says what it lacks
  dataset = catalog.load(spec.data, cache_dir)
  count = dataset.num_train + dataset.num_test + _num_beside(dataset, spec)
  return dataset, choose(count * math.prod(dataset.image_shape))


def _num_beside(dataset: Dataset | StreamedDataset, spec: RunSpec) -> int:
  """Examples that are evaluated on besides the `test` arrays."""
  return dataset.num_validation if spec.data.evaluate_on == 'test' else 0
