"""Reference arrays of the corruptions, by kind and size."""

import numpy as np
import pytest

from mollify_jax.corruptions import SEVERITIES


@pytest.fixture
def corruption_arrays(reference):
  """load(kind, size) -> arrays: the committed subset, then the whole set.

  kind: `deterministic`, `explicit`, `aux` or `statistics`; size: 32, 64, 224.
  Keys and leading axes are those of the whole set's README.
  """
  return lambda kind, size: reference(f'corruptions/{kind}_{size}.npz')


@pytest.fixture(
  params=[
    ('golden', 32, (3,)),
    *(
      pytest.param(('reference', size, SEVERITIES), marks=pytest.mark.reference)
      for size in (32, 64, 224)
    ),
  ],
  ids=lambda parameters: f'{parameters[0]}-{parameters[1]}',
)
def corruption_statistics(request):
  """(arrays, image size, severities) of the authors' draws."""
  folder, size, severities = request.param
  root = request.config.rootpath
  folders = {
    'golden': root / 'tests' / 'golden',
    'reference': root.parent / 'shared' / 'reference',
  }
  if not folders[folder].is_dir():
    pytest.skip('the full reference set is not beside this checkout')
  path = folders[folder] / 'corruptions' / f'statistics_{size}.npz'
  return np.load(path, allow_pickle=False), size, severities
