"""The status and the line once more, of processes started by a shell."""

import re
import subprocess

import pytest

from .place import ROOT, Place
from .test_malformed import ENVIRONMENT, PYTHON

COMMANDS = {
  'a misspelt field': (
    lambda place: place.train('--config.epoch=3'),
    'unknown config field .epoch.',
  ),
  'an archive cut short': (
    lambda place: [
      'mollify_jax.corruptions.make',
      '--dataset=archive',
      f'--path={place.path}/cut.npz',
      f'--out={place.path}/made',
    ],
    'cut.npz.: it is cut short or damaged',
  ),
  'a record that is none': (
    lambda place: ['mollify_jax.evaluation.reports', str(place.path)],
    'results.json is damaged',
  ),
  'a table of nothing': (
    lambda place: [
      'mollify_jax.evaluation.corruption_tables',
      f'{place.path}/x',
    ],
    'results.json is missing',
  ),
  'an archive that is not there': (
    lambda place: place.prepare('cifar10'),
    'the archive of data set .cifar10. is not in',
  ),
}


@pytest.mark.parametrize('name', COMMANDS)
def test_a_process_ends_with_status_1(tmp_path, name):
  (tmp_path / 'cut.npz').write_bytes(b'PK\x03\x04')
  (tmp_path / 'results.json').write_text('{')
  before = sorted(tmp_path.rglob('*'))
  argv, message = COMMANDS[name]
  process = subprocess.run(
    [*PYTHON, '-m', *argv(Place(tmp_path, tmp_path))],
    cwd=ROOT,
    env=ENVIRONMENT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert process.returncode == 1, process.stderr
  (line,) = process.stderr.splitlines()
  assert line.startswith('error: ')
  assert re.search(message, line), line
  assert sorted(tmp_path.rglob('*')) == before
