"""Holding out a part of the examples, the same part for ever."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def hold_out(
  labels: np.ndarray, share: int | float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
  """Draws the same share of every class.

  Args:
    labels: int[N].
    share: how many of each class are held out (an int), or which fraction of
      each class, in (0, 1), rounded to the nearest whole number (a float).
    seed: in [0, 2^32).

  Returns:
    (kept, held out): indices into `labels`, both in an order drawn with the
    seed, so that any prefix is class-mixed.

  Raises:
    ValueError: a share that leaves no example on one of the two sides.
  """
  if isinstance(share, float) and not 0 < share < 1:
    raise ValueError(f'the share held out must be in (0, 1), got {share!r}')
  # RandomState and not default_rng: NumPy promises that this stream never
  # changes, and results are only comparable on one and the same split.
  order = np.random.RandomState(seed).permutation(len(labels))
  held = np.zeros(len(labels), bool)
  for label in np.unique(labels):
    members = np.flatnonzero(labels[order] == label)
    count = share
    if isinstance(share, float):
      count = int(np.floor(share * len(members) + 0.5))
    held[members[:count]] = True
  if held.all() or not held.any():
    raise ValueError(
      f'holding out {share!r} of {len(labels)} examples leaves nothing on one '
      'side; choose another share'
    )
  return order[~held], order[held]


class Subset:
  """Some examples of a source in random access; see `streaming`."""

  def __init__(self, source: Any, indices: np.ndarray):
    """Takes int[N] indices into the source."""
    self._source = source
    self._indices = indices

  def __len__(self) -> int:
    return len(self._indices)

  def __getitem__(self, index: int) -> Any:
    return self._source[int(self._indices[index])]

  def __getitems__(self, indices: Sequence[int]) -> list[Any]:
    chosen = [int(self._indices[index]) for index in indices]
    if hasattr(self._source, '__getitems__'):
      return self._source.__getitems__(chosen)
    return [self._source[index] for index in chosen]

  def describe(self, index: int) -> str:
    """Names an example in messages."""
    whole = int(self._indices[index])
    if hasattr(self._source, 'describe'):
      return self._source.describe(whole)
    return f'{whole} of the whole split'
