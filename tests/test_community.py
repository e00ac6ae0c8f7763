"""CITATION.cff, CHANGELOG.md and CONTRIBUTING.md say what the code says."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import mollify_jax

from .test_structure import FLOORS

ROOT = Path(__file__).parents[1]
CHANGELOG = (ROOT / 'CHANGELOG.md').read_text()
CONTRIBUTING = (ROOT / 'CONTRIBUTING.md').read_text()
PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']


@pytest.fixture
def citation():
  return yaml.safe_load((ROOT / 'CITATION.cff').read_text())


def test_citation_has_what_the_schema_asks_for(citation):
  # Of the schema of version 1.2.0: what is required, and no other field.
  assert {'authors', 'cff-version', 'message', 'title'} <= citation.keys()
  assert citation.keys() <= {
    *('abstract', 'authors', 'cff-version', 'commit', 'contact'),
    *('date-released', 'doi', 'identifiers', 'keywords', 'license'),
    *('license-url', 'message', 'preferred-citation', 'references'),
    *('repository', 'repository-artifact', 'repository-code', 'title'),
    *('type', 'url', 'version'),
  }
  assert citation['cff-version'] == '1.2.0'
  assert citation['type'] == 'software'
  paper = citation['preferred-citation']
  assert {'authors', 'title', 'type'} <= paper.keys()
  assert paper['type'] == 'conference-paper'
  for author in paper['authors']:
    assert author.keys() == {'given-names', 'family-names'}
  for identifier in paper['identifiers']:
    assert identifier['type'] in ('doi', 'url', 'swh', 'other')
    assert isinstance(identifier['value'], str)


def test_citation_is_of_this_version_and_licence(citation):
  assert str(citation['version']) == PROJECT['version']
  assert citation['version'] == mollify_jax.__version__
  assert citation['license'] == PROJECT['license']


def test_citation_is_of_the_paper_that_the_readme_cites(citation):
  paper = citation['preferred-citation']
  readme = (ROOT / 'README.md').read_text()
  fields = dict(re.findall(r'^ +(\w+) += \{(.*)\},?$', readme, re.M))
  names = [f'{a["family-names"]}, {a["given-names"]}' for a in paper['authors']]
  assert fields['author'] == ' and '.join(names)
  assert fields['title'] == paper['title']
  assert fields['year'] == str(paper['year'])
  assert fields['booktitle'] == paper['conference']['name']
  assert fields['note'] == paper['identifiers'][0]['value']


def test_changelog_keeps_its_form():
  heads = re.findall(r'^## (.*)$', CHANGELOG, re.M)
  assert heads[0] == '[Unreleased]'
  released = [
    re.fullmatch(r'\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)', head)
    for head in heads[1:]
  ]
  assert all(released), heads
  assert released[0][1] == PROJECT['version']
  dates = [head[2] for head in released]
  assert dates == sorted(dates, reverse=True)
  kinds = re.findall(r'^### (.*)$', CHANGELOG, re.M)
  assert kinds
  assert set(kinds) <= {
    *('Added', 'Changed', 'Deprecated', 'Removed', 'Fixed', 'Security')
  }


def test_changelog_says_that_noise_is_drawn_anew():
  unreleased = CHANGELOG.partition('## [Unreleased]')[2].partition('## [')[0]
  assert 'noise that a key gives differs from earlier' in unreleased


def test_the_map_of_the_house_has_the_floors():
  lines = dict(re.findall(r'^(\d)  (.*(?:\n   .*)*)', CONTRIBUTING, re.M))
  assert len(lines) == 8
  for name, floor in FLOORS.items():
    room = name.rpartition('.')[2]
    assert re.search(rf'\b{room}\b', lines[str(floor)]), (name, floor)


def test_files_named_in_contributing_exist():
  named = set(re.findall(r'`([\w/.]+(?:/|\.py|\.md|\.toml))`', CONTRIBUTING))
  assert len(named) > 20
  for path in named - {'.venv'}:
    if 'NAME' not in path:
      assert any(
        (root / path).exists() for root in (ROOT, ROOT / 'mollify_jax')
      )


def test_tables_named_in_contributing_exist():
  for table, path in re.findall(
    r'`([A-Z_]{5,})`[^`]*?`([\w/]+\.py)`', CONTRIBUTING
  ):
    file = next(
      root / path
      for root in (ROOT, ROOT / 'mollify_jax')
      if (root / path).exists()
    )
    assert re.search(rf'^{table}\b', file.read_text(), re.M), (table, path)
