"""The -C evaluation: every corruption and severity of a test set.

Cells come from files (the official ones, or what `corruptions.make` wrote), or
are generated on the devices from the clean test set, batch by batch and without
touching the disk. All of them, and the clean pass, go through the one compiled
step of `passes.make_scoring`.
"""

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from mollify_jax import corruptions, rng
from mollify_jax.corruptions import dispatch
from mollify_jax.data import corrupted_manifest
from mollify_jax.data.corrupted import (
  CorruptedFolder,
  CorruptedTestSet,
  CorruptedTree,
)
from mollify_jax.data.dataset import Dataset, StreamedDataset
from mollify_jax.evaluation import passes
from mollify_jax.feeds import Batch, Feed, StreamedFeed, host_batches
from mollify_jax.parallel import parallelize


class GeneratedCells:
  """Test images corrupted on the devices as they are needed.

  Attributes:
    title: `NAME-C-like`.
    source: where the images come from, for the record.
    parameters: a name in `corruptions.PARAMETER_SETS`.
    seed: of the corruptions.
    skipped: corruption -> why it cannot be had.
    note: one line for the user, '' if there is nothing to say.
  """

  source = 'generated'

  def __init__(
    self,
    name: str,
    feed: Feed,
    image_shape: tuple[int, int, int],
    *,
    parameters: str = 'auto',
    seed: int,
  ):
    """Compiles nothing yet.

    Args:
      name: of the clean data set.
      feed: of its test set.
      image_shape: (H, W, C) of its images.
      parameters: `auto` takes the set made for the nearest size.
      seed: >= 0.
    """
    height, width, _ = image_shape
    if parameters == 'auto':
      parameters = corruptions.nearest_parameters(height, width)
    size = corruptions.PARAMETER_SETS[parameters].size
    self.title = f'{name}-C-like'
    self.parameters = parameters
    self.seed = seed
    self.note = ''
    if (height, width) != (size, size):
      self.note = (
        f'corruptions of {height}x{width} images with the parameter set '
        f'{parameters!r}, which was made for {size}x{size}'
      )
    self.skipped = corruptions.unavailable(image_shape, parameters)
    self._feed = feed
    self._image_shape = image_shape
    self._draws: dict[Any, Callable[..., Any]] = {}

  def batches(self, name: str, severity: int) -> Iterator[Batch]:
    """Every test image once under one corruption."""
    cell = name, severity, self.parameters
    number = np.int32(dispatch.cell_number(name, severity))
    draw = self._make_draw(*dispatch.recipe(*cell))
    apply = None
    with contextlib.closing(self._feed.eval_batches()) as batches:
      for batch in batches:
        randomness = draw(np.int32(self.seed), number, batch.index)
        if apply is None:
          apply = _make_apply(*cell, num_arrays=len(randomness))
        yield batch._replace(image=apply(batch.image, *randomness))

  def _make_draw(self, draw, arguments):
    """Compiled once for all severities that draw the same."""
    if draw is None:
      return lambda seed, cell, index: ()
    if (draw, arguments) not in self._draws:

      def body(seed, cell, index):
        key = rng.step_key(seed, rng.Purpose.CORRUPT, cell)
        return jax.vmap(
          lambda key: draw(key, self._image_shape, **dict(arguments))
        )(rng.keys_at(key, index))

      self._draws[draw, arguments] = parallelize(
        body, shared_axes=(None, None), num_split=1, replicated=False
      )
    return self._draws[draw, arguments]


def _make_apply(name, severity, parameters, *, num_arrays):
  """Corrupts a batch with `num_arrays` arrays of randomness."""

  def one(image, *randomness):
    return dispatch.corrupt_with(image, randomness, name, severity, parameters)

  return parallelize(jax.vmap(one), num_split=1 + num_arrays, replicated=False)


class CellsFromFiles:
  """Corrupted test images that somebody wrote; attributes as above."""

  note = ''

  def __init__(
    self, files: CorruptedFolder | CorruptedTestSet, *, batch_size: int
  ):
    """Takes files that have been opened, and the size of a global batch."""
    manifest = getattr(files, 'manifest', None)
    self.title = files.title
    self.source = 'tfds'
    if isinstance(files, CorruptedFolder):
      self.source = 'files made here' if manifest else 'official files'
    self.parameters = manifest.parameters if manifest else None
    self.seed = manifest.seed if manifest else None
    self.skipped = dict(manifest.skipped) if manifest else {}
    self._files = files
    self._batch_size = batch_size

  def batches(self, name: str, severity: int) -> Iterator[Batch]:
    """Every test image once under one corruption."""
    images, labels = self._files.load(name, severity)
    yield from host_batches(images, labels, self._batch_size)


class CellsFromTree:
  """Corrupted test images in folders, decoded as they are needed."""

  source = 'official files'
  seed = parameters = None
  note = ''

  def __init__(self, tree: CorruptedTree, **options: Any):
    """Takes an opened tree, and what `feeds.StreamedFeed` takes besides."""
    self.title = tree.title
    self.skipped: dict[str, str] = {}
    self._tree = tree
    self._options = options

  def batches(self, name: str, severity: int) -> Iterator[Batch]:
    """Every test image once under one corruption."""
    # They were cropped before they were corrupted.
    with StreamedFeed(
      self._tree.source(name, severity),
      split='test',
      eval_crop='whole',
      **self._options,
    ) as feed:
      yield from feed.eval_batches()


Cells = GeneratedCells | CellsFromFiles | CellsFromTree


def open_cells(
  dataset: Dataset | StreamedDataset,
  feed: Feed,
  names: Sequence[str],
  *,
  path: str,
  parameters: str,
  seed: int,
  batch_size: int,
  same_order: bool,
  num_workers: int = 0,
) -> Cells:
  """Where the corrupted images of a data set come from.

  Args:
    dataset: the clean data set.
    feed: of its test set.
    names: the corruptions that will be wanted.
    path: a folder of .npy files in the layout of CIFAR-10-C, or of images in
      that of ImageNet-C, or a data_dir of tfds with the prepared set; ''
      generates them.
    parameters, seed: of generated ones; see `GeneratedCells`.
    batch_size: over all devices.
    same_order: whether the clean images are in the order of the official
      files, so that their labels must agree one by one.
    num_workers: processes that decode folders of images.

  Raises:
    ValueError, OSError: files that are missing, damaged or of another test
      set; or sizes and parameters that do not go together.
  """
  if not path:
    return GeneratedCells(
      dataset.name, feed, dataset.image_shape, parameters=parameters, seed=seed
    )
  folder = pathlib.Path(path).expanduser()
  if not folder.is_dir():
    raise FileNotFoundError(
      f'config.eval.corrupted_path={path!r} is not a folder; name one of '
      "corrupted images, or '' to generate them"
    )
  if CorruptedTree.is_at(folder):
    tree = CorruptedTree(
      folder,
      dataset.name,
      class_names=dataset.class_names,
      num_examples=dataset.num_test,
    )
    tree.check(names)  # before hours are spent
    return CellsFromTree(
      tree,
      num_classes=dataset.num_classes,
      batch_size=batch_size,
      image_size=dataset.image_shape[0],
      num_workers=num_workers,
    )
  # Of a stream nobody has read the images or labels.
  clean = (
    (dataset.test_images, dataset.test_labels)
    if isinstance(dataset, Dataset)
    else None
  )
  published = f'{dataset.name}_corrupted'
  if (folder / published).is_dir():
    files = CorruptedTestSet(published, path)
    files.check(names, labels=clean[1] if clean else None)
  else:
    files = CorruptedFolder(
      folder,
      dataset.name,
      labels=clean[1] if clean else None,
      same_order=same_order,
      num_examples=dataset.num_test,
      image_shape=dataset.image_shape,
      num_classes=dataset.num_classes,
      fingerprint=corrupted_manifest.fingerprint(*clean) if clean else '',
    )
    skipped = files.manifest.skipped if files.manifest else ()
    wanted = [name for name in names if name not in skipped]
    if wanted:
      files.check(wanted, checksums=True)
  return CellsFromFiles(files, batch_size=batch_size)


def evaluate(
  score: Callable[..., Any],
  variables: Any,
  cells: Cells,
  names: Sequence[str],
  *,
  temperature: float = 1.0,
  on_cell: Callable[[str, int, dict[str, np.ndarray] | None], None],
) -> dict[str, Any]:
  """Passes over all cells.

  Args:
    score: from `passes.make_scoring`.
    variables: the network's, replicated.
    cells: where the images come from.
    names: of the corruptions.
    temperature: see `passes.run_pass`.
    on_cell: called after each pass with the corruption, its severity and the
      examples of `passes.run_pass`.

  Returns:
    The record `corrupted` of a result: `title`, `source`, `parameters`,
    `seed`, `skipped`, and `cells`, one record per corruption and severity
    with the figures of `passes.run_pass`.
  """
  records = []
  for name in names:
    if name in cells.skipped:
      continue
    for severity in corruptions.SEVERITIES:
      with contextlib.closing(cells.batches(name, severity)) as batches:
        figures, examples = passes.run_pass(
          score,
          variables,
          batches,
          passes.Condition(),
          seed=0,
          temperature=temperature,
        )
      records.append({'corruption': name, 'severity': severity, **figures})
      on_cell(name, severity, examples)
  return {
    'title': cells.title,
    'source': cells.source,
    'parameters': cells.parameters,
    'seed': cells.seed,
    'skipped': {
      name: cells.skipped[name] for name in names if name in cells.skipped
    },
    'cells': records,
  }
