"""Facts about torchvision's policies: small, and committed whole."""

import json
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[1] / 'golden' / 'augment'


@pytest.fixture(scope='session')
def facts():
  """Operations, magnitude tables and sub-policies by name of the policy."""
  return json.loads((GOLDEN / 'policies.json').read_text())


@pytest.fixture(scope='session')
def exact_statistics():
  """Exact means over all draws, on the first image of ops_32.npz."""
  return json.loads((GOLDEN / 'statistics.json').read_text())
