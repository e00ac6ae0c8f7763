"""Everything that a user can get wrong, in one table.

A case is a malformed input and a command that meets it (see `place.Case`; the
modules beside this one hold them). The command has to end with status 1 and
one line, which messages.json has under the case's name: what was given, what
was wanted, what to do. No file may be changed or left half-written, no memory
filled, and nothing that a file brings along executed.

In messages.json PLACE is the folder of the case, WHOLE that of the inputs it
was made from, and an ellipsis what is told by others.
"""

import json
import os
import re
import subprocess
import sys

import pytest

from . import (
  checkpoints,
  configs,
  disks,
  exports,
  folders,
  npz,
  originals,
  records,
)
from .place import ROOT, Place

MODULES = (
  configs,
  npz,
  folders,
  originals,
  records,
  checkpoints,
  disks,
  exports,
)
CASES = {
  f'{module.__name__.rpartition(".")[2]}: {name}': case
  for module in MODULES
  for name, case in module.CASES.items()
}
MESSAGES = json.loads(
  (ROOT / 'tests' / 'malformed' / 'messages.json').read_text()
)
PYTHON = (
  *(sys.executable, '-W', 'error'),
  # ml_collections 1.1 loads a config file so
  *('-W', 'ignore:the load_module:DeprecationWarning'),
)
ENVIRONMENT = {
  **os.environ,
  'JAX_PLATFORMS': 'cpu',
  'PYTHONPATH': str(ROOT),
}
# Said before anything is wrong.
PROGRESS = re.compile(
  r'warning: .+|(training|evaluating|corrupting) \d.*|'
  r'[\d,]+ training examples, .+|resuming after step .+|'
  r'.+ is finished: reading results.json'
)
TEMPORARY = re.compile(
  r'tmp$|\.part$|\.old$|orbax-checkpoint-tmp|/\.[^/]+\.[a-z0-9_]{8}$'
)


class Server:
  """`server.py`, as a child process."""

  def __init__(self, compiled):
    # Networks of the same shape are compiled once, and not to run for long.
    cache = {
      'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
      'JAX_COMPILATION_CACHE_DIR': str(compiled),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
      'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
    }
    here = ROOT / 'tests'
    scripts = (here / 'malformed' / 'server.py', here / 'data' / 'conftest.py')
    self._process = subprocess.Popen(
      [*PYTHON, *map(str, scripts)],
      cwd=ROOT,
      env={**ENVIRONMENT, **cache},
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    self.idle = self.run(['mollify_jax.evaluation.reports'], compiled)[
      'megabytes'
    ]

  def run(self, argv, root, *, limits=None, disk=None):
    request = {
      'argv': list(map(str, argv)),
      'root': str(root),
      'cwd': str(ROOT),
      'limits': dict(limits or {}),
      'disk': disk,
    }
    print(json.dumps(request), file=self._process.stdin, flush=True)
    return json.loads(self._process.stdout.readline())

  def close(self):
    self._process.communicate()


@pytest.fixture(scope='session')
def server(tmp_path_factory):
  server = Server(tmp_path_factory.mktemp('compiled'))
  yield server
  server.close()


@pytest.fixture(scope='session')
def whole(server, tmp_path_factory):
  """One whole input of every kind."""
  path = tmp_path_factory.mktemp('whole')
  npz.write_whole(path)
  originals.write_whole(path)
  folders.write_whole(path, server)
  records.write_whole(path, server)
  return path


@pytest.fixture
def place(whole, tmp_path):
  yield Place(tmp_path, whole)
  # Or pytest could not delete what may not be read.
  tmp_path.chmod(0o700)
  for folder, folders_, files in os.walk(os.fsencode(tmp_path)):
    for name in folders_ + files:
      path = os.path.join(folder, name)
      if not os.path.islink(path):
        os.chmod(path, 0o700)


@pytest.mark.parametrize(
  'name',
  [
    pytest.param(name, marks=pytest.mark.slow) if case.slow else name
    for name, case in CASES.items()
  ],
)
def test_refused_in_one_line(server, place, name):
  case = CASES[name]
  argv = case.set_up(place)
  disk = None
  if case.free is not None or case.read_only:
    disk = {'folder': str(place.path), 'free': case.free}
  reply = server.run(argv, place.path, limits=case.limits, disk=disk)
  if 'failed' in reply:
    pytest.skip(f'no disk to be had here: {reply["failed"]}')
  assert 'Traceback' not in reply['err'], reply['err'][-3000:]
  assert reply['status'] == 1, reply
  said = [
    line for line in reply['err'].splitlines() if not PROGRESS.fullmatch(line)
  ]
  assert len(said) == 1, reply['err']
  assert re.fullmatch(pattern(name, place), said[0]), said[0]
  before, after = reply['before'], reply['after']
  changed = {
    path
    for path in before.keys() | after.keys()
    if before.get(path) != after.get(path)
  }
  assert {p for p in changed if not re.search(case.may_change, p)} == set()
  assert {
    p for p in after.keys() - before.keys() if TEMPORARY.search(p)
  } == set()
  assert not any(path.endswith('executed') for path in after)
  assert reply['megabytes'] < server.idle + case.megabytes


def pattern(name, place):
  """The regular expression that the one line has to match."""
  text = re.escape(MESSAGES[name]).replace('…', '.+')
  for word, path in (('PLACE', place.path), ('WHOLE', place.whole)):
    text = text.replace(word, re.escape(str(path)))
  return f'error: {text}'


def test_every_case_has_its_message():
  assert MESSAGES.keys() == CASES.keys()
  assert len(CASES) >= 60
