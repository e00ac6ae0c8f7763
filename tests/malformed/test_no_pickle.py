"""Nothing in the package unpickles a data file, or could."""

import ast
import io
import pickle

import numpy as np
import pytest

from mollify_jax.data import originals

from ..data import conftest as small
from .place import ROOT, Payload

FILES = sorted((ROOT / 'mollify_jax').rglob('*.py'))
# What runs, or can run, code that a file brings along.
LOADERS = {
  '_pickle',
  'cloudpickle',
  'dill',
  'joblib',
  'jsonpickle',
  'marshal',
  'msgpack_numpy',
  'pandas',
  'pickle',
  'shelve',
  'torch',
  'yaml',
}
# CIFAR is published as pickles, too. They are read by an unpickler that admits
# four names and calls nothing else; the tests below hold it to that.
EXCUSED = {'data/originals.py': {'pickle'}}
READERS = ('load', 'read_array', 'open_memmap')


def modules(tree):
  """The top packages of every import, also inside functions."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from (alias.name.split('.')[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield node.module.split('.')[0]


def calls(tree):
  """(called, its keywords) of all calls of an attribute or a name."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Call):
      keywords = {word.arg: ast.unparse(word.value) for word in node.keywords}
      yield ast.unparse(node.func), keywords


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_no_file_of_the_package_unpickles(path):
  name = path.relative_to(ROOT / 'mollify_jax').as_posix()
  tree = ast.parse(path.read_text())
  assert set(modules(tree)) & LOADERS == EXCUSED.get(name, set())
  for called, keywords in calls(tree):
    assert keywords.get('allow_pickle', 'False') == 'False', (name, called)
    head, _, last = called.rpartition('.')
    if head in ('np', 'numpy', 'np.lib.format') and last in READERS:
      assert 'allow_pickle' in keywords, f'{name}: say allow_pickle=False'
    assert called not in ('eval', 'exec', 'pickle.load', 'pickle.loads')
    assert 'pickle.Unpickler' not in called, f'{name}: use load_pickle'


def test_the_scan_sees_what_it_looks_for():
  tree = ast.parse('def f():\n  import pickle\n  np.load(x, allow_pickle=True)')
  assert set(modules(tree)) & LOADERS == {'pickle'}
  assert list(calls(tree)) == [('np.load', {'allow_pickle': 'True'})]


def global_call(module, name, *arguments):
  """A pickle, written by hand, of one call with text arguments."""
  texts = ''.join(f"S'{argument}'\n" for argument in arguments)
  return f'c{module}\n{name}\n({texts}tR.'.encode()


def build(state):
  """A pickle that sets the state of the class of arrays itself."""
  return b'cnumpy\nndarray\n' + pickle.dumps(state, 0)[:-1] + b'b.'


@pytest.mark.parametrize(
  'data',
  [
    global_call('os', 'system', 'mkdir executed'),
    global_call('posix', 'system', 'mkdir executed'),
    global_call('builtins', 'eval', '__import__("os").mkdir("executed")'),
    global_call('builtins', 'exec', '__import__("os").mkdir("executed")'),
    global_call('subprocess', 'getoutput', 'mkdir executed'),
    global_call('numpy.core.multiarray', 'fromfile', '/etc/passwd'),
    global_call('numpy', 'ndarray.__reduce__', '1'),
    global_call('importlib', 'import_module', 'antigravity'),
    # The name in the form of protocol 4, and from the extension registry.
    b'\x80\x04\x8c\x02os\x8c\x05mkdir\x93\x8c\x08executed\x85R.',
    b'\x80\x02\x82\x01.',
    # OBJ and INST, two more ways to call.
    b"(cos\nmkdir\nS'executed'\no.",
    b"(S'executed'\nios\nmkdir\n.",
    # A persistent name.
    b'Pexecuted\n.',
    build({'__reduce__': 1}),
  ],
)
def test_the_unpickler_calls_nothing(tmp_path, monkeypatch, data):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ValueError, match='wanted a pickle of arrays, lists'):
    originals.load_pickle('member', data)
  assert list(tmp_path.iterdir()) == []


def test_those_pickles_do_execute_elsewhere(tmp_path, monkeypatch):
  # Or the test above would prove nothing.
  monkeypatch.chdir(tmp_path)
  pickle.loads(global_call('posix', 'mkdir', 'executed'))
  assert (tmp_path / 'executed').is_dir()
  array = np.array([Payload(tmp_path / 'executed')], object)
  data = small.npy(array, allow_pickle=True)
  np.load(io.BytesIO(data), allow_pickle=True)
  assert (tmp_path / 'executed' / 'executed').is_dir()
