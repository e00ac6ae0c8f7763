"""Paths and arrays that many tests share."""

from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).parent / 'golden'
# The whole reference set, which some checkouts have beside the repository.
REFERENCE = Path(__file__).parents[2] / 'shared' / 'reference'


@pytest.fixture(
  params=[
    'golden',
    pytest.param('reference', marks=pytest.mark.reference),
  ],
)
def reference(request):
  """Loads arrays by file name: the committed subset, then the whole set.

  Both have the same keys; the subset has fewer examples.
  """
  folder = {'golden': GOLDEN, 'reference': REFERENCE}[request.param]
  if not folder.is_dir():
    pytest.skip('the full reference set is not beside this checkout')
  return lambda name: np.load(folder / name, allow_pickle=False)
