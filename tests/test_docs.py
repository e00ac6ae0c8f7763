"""The pages under docs/: what they show is run, what they name exists."""

import argparse
import contextlib
import copy
import importlib.util
import io
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import pytest

import mollify_jax
from mollify_jax import corruptions

ROOT = Path(__file__).parents[1]
DOCS = ROOT / 'docs'
PAGES = sorted(DOCS.rglob('*.md'))
SHOWN = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *PAGES]
EXAMPLES = sorted((DOCS / 'examples').glob('*.md'))
LONGEST_EXAMPLE = 60  # lines of code


def blocks(path, language):
  """The code blocks of one page, in order."""
  text = path.read_text()
  return re.findall(rf'^```{language}\n(.*?)^```', text, re.M | re.S)


def page_name(path):
  return path.relative_to(ROOT).as_posix()


def python_pages(paths):
  return [path for path in paths if blocks(path, 'python')]


def close(shown, printed):
  """Whether two lines agree but for figures of another machine."""
  number = r'\d+(?:\.\d+)?'
  if re.split(number, shown) != re.split(number, printed):
    return False
  pairs = zip(
    re.findall(number, shown), re.findall(number, printed), strict=True
  )
  return all(
    float(a) == pytest.approx(float(b), rel=0.1, abs=0.05) for a, b in pairs
  )


def test_figures_of_another_machine_are_close():
  assert close('plain clean 0.96', 'plain clean 0.93')
  assert not close('plain clean 0.96', 'plain clean 0.85')
  assert not close('8 devices', '1 devices')
  assert not close('plain 0.96', 'mollified 0.96')
  assert not close('plain 0.96', 'plain 0.96 0.96')


# Each trains for a few seconds; the first of them is enough by default.
@pytest.mark.parametrize(
  'path',
  [
    pytest.param(
      path, marks=() if path.stem == 'plain_jax' else pytest.mark.slow
    )
    for path in python_pages(EXAMPLES)
  ],
  ids=lambda path: path.stem,
)
def test_examples_run_and_print_what_they_show(path, tmp_path):
  # In a process of its own, as a reader who copies the page has it: one page
  # makes eight devices of a CPU.
  program = tmp_path / 'page.py'
  program.write_text('\n\n'.join(blocks(path, 'python')))
  done = subprocess.run(
    [sys.executable, '-W', 'error', program],
    cwd=tmp_path,
    capture_output=True,
    text=True,
    check=False,
    env={
      **{k: v for k, v in os.environ.items() if k != 'XLA_FLAGS'},
      'JAX_PLATFORMS': 'cpu',
      'PYTHONPATH': str(ROOT),
    },
  )
  assert done.returncode == 0, done.stderr[-2000:]
  shown = ''.join(blocks(path, 'text')).splitlines()
  printed = done.stdout.splitlines()
  assert shown
  assert len(shown) == len(printed), done.stdout
  for one, other in zip(shown, printed, strict=True):
    assert close(one, other), f'{page_name(path)} shows {one!r}, not {other!r}'


@pytest.mark.parametrize('path', EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_short_assert_something_and_explain_themselves(path):
  code = '\n'.join(blocks(path, 'python'))
  lines = [line for line in code.splitlines() if line.strip()]
  assert 10 < len(lines) <= LONGEST_EXAMPLE
  assert re.search(r'^assert ', code, re.M)
  reasons = path.read_text().partition('## Why each line is there')[2]
  used = set(re.findall(r'\b(?:mj|corruptions)\.([A-Za-z_.]+)\(', code))
  used |= set(re.findall(r'\bmj\.((?:losses)\.\w+)', code))
  assert len(used) >= 2
  for name in used:
    assert name.rpartition('.')[2] in reasons, f'no reason given for {name}'


@pytest.mark.parametrize('path', python_pages(PAGES), ids=page_name)
def test_code_on_pages_is_formatted(path):
  for number, block in enumerate(blocks(path, 'python')):
    done = subprocess.run(
      [
        *(sys.executable, '-m', 'ruff', 'format', '--diff'),
        *('--config', ROOT / 'pyproject.toml', '-'),
      ],
      input=block,
      capture_output=True,
      text=True,
      check=False,
    )
    assert done.returncode == 0, (number, done.stdout, done.stderr)


def other_pages():
  """Pages with Python that are not examples; each runs from top to bottom."""
  return [path for path in python_pages(PAGES) if path not in EXAMPLES]


@pytest.mark.parametrize('path', other_pages(), ids=page_name)
def test_python_on_other_pages_runs(path, monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  code = '\n\n'.join(blocks(path, 'python'))
  with contextlib.redirect_stdout(io.StringIO()):
    exec(compile(code, page_name(path), 'exec'), {'__name__': '__main__'})


@pytest.mark.parametrize('path', SHOWN, ids=page_name)
def test_every_block_has_a_language_that_is_checked(path):
  fences = re.findall(r'^```(.*)$', path.read_text(), re.M)
  assert len(fences) % 2 == 0
  for language in fences[::2]:
    # Nothing, text and bibtex are not run: maps, outputs, a citation.
    assert language in ('python', 'bash', '', 'text', 'bibtex'), language


@pytest.mark.parametrize('path', SHOWN, ids=page_name)
def test_linked_files_exist(path):
  for target in re.findall(r'\]\((?!https?:)([^)#\s]+)', path.read_text()):
    assert (path.parent / target).exists(), target


def test_pages_are_in_the_navigation():
  # Not parsed: Material's own tags are more than plain YAML.
  listed = re.findall(
    r': ([\w/]+\.md)$', (ROOT / 'mkdocs.yml').read_text(), re.M
  )
  assert sorted(listed) == [p.relative_to(DOCS).as_posix() for p in PAGES]


@pytest.mark.parametrize(
  'package',
  [mollify_jax, mollify_jax.augment, corruptions],
  ids=lambda package: package.__name__,
)
def test_every_public_name_has_its_place_on_an_api_page(package):
  pages = '\n'.join(p.read_text() for p in (DOCS / 'api').glob('*.md'))
  for name in package.__all__:
    rendered = rf'^::: {package.__name__}\.{name}$'
    tabled = rf'^\| `{name}` \|'  # what is a plain table of names
    described = re.search(f'{rendered}|{tabled}', pages, re.M)
    # The package of augmentations has a page of its own.
    assert described or name == 'augment', f'{package.__name__}.{name}'


def test_names_on_api_pages_exist():
  for page in (DOCS / 'api').glob('*.md'):
    for name in re.findall(r'^::: (\S+)$', page.read_text(), re.M):
      module, _, attribute = name.rpartition('.')
      if not hasattr(importlib.import_module(module), attribute):
        assert importlib.util.find_spec(name), name


@pytest.mark.slow
def test_the_site_builds_strictly(tmp_path):
  pytest.importorskip('mkdocs')
  done = subprocess.run(
    [
      *(sys.executable, '-m', 'mkdocs', 'build', '--strict'),
      *('--site-dir', tmp_path / 'site'),
    ],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
    env={**os.environ, 'NO_MKDOCS_2_WARNING': '1'},
  )
  assert done.returncode == 0, done.stdout + done.stderr
  assert 'WARNING' not in done.stderr
  kernels = (tmp_path / 'site' / 'api' / 'kernels.html').read_text()
  assert 'channel-normalised' in kernels  # of a docstring
  for page in (tmp_path / 'site').rglob('*.html'):  # a reader needs no network
    fetched = r'<(?:script|link|img)[^>]*(?:src|href)="(?:https?:)?//[^"]*"'
    assert not re.search(fetched, page.read_text()), page


NOTEBOOK = DOCS / 'digits.ipynb'


def cells(kind):
  notebook = json.loads(NOTEBOOK.read_text())
  return [
    ''.join(cell['source'])
    for cell in notebook['cells']
    if cell['cell_type'] == kind
  ]


def test_the_notebook_is_one_and_holds_no_outputs():
  notebook = json.loads(NOTEBOOK.read_text())
  assert (notebook['nbformat'], notebook['nbformat_minor']) == (4, 5)
  ids = [cell['id'] for cell in notebook['cells']]
  assert len(ids) == len(set(ids))
  assert 12 <= len(ids) <= 20
  for cell in notebook['cells']:
    if cell['cell_type'] == 'code':
      assert cell['outputs'] == []
      assert cell['execution_count'] is None
  done = subprocess.run(
    [sys.executable, '-m', 'ruff', 'check', NOTEBOOK],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stdout


# Without a kernel: Jupyter's brings sockets, warnings and forty packages, and
# what could fail here is the code. Warnings are errors in it, too.
@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
  draw = (
    'import matplotlib.pyplot as plt\n'
    'for number in plt.get_fignums():\n'
    '  plt.figure(number).savefig(f"{number}.png")\n'
  )
  program = tmp_path / 'notebook.py'
  program.write_text('\n\n'.join([*cells('code'), draw]))
  done = subprocess.run(
    [sys.executable, '-W', 'error', program],
    cwd=tmp_path,
    capture_output=True,
    text=True,
    check=False,
    env={
      **os.environ,
      'JAX_PLATFORMS': 'cpu',
      'MPLBACKEND': 'agg',
      'PYTHONPATH': str(ROOT),
    },
  )
  assert done.returncode == 0, done.stderr[-2000:]
  pictures = list(tmp_path.glob('*.png'))
  assert len(pictures) == sum('plt.subplots' in cell for cell in cells('code'))


def commands(path):
  """The commands of a page's bash blocks, as lists of words."""
  for block in blocks(path, 'bash'):
    for line in block.replace('\\\n', ' ').splitlines():
      for command in line.split('&&'):
        words = shlex.split(command, comments=True)
        while words and re.fullmatch(r'[A-Z_]+=.*', words[0]):
          words = words[1:]
        if words:
          yield words


SHOWN_COMMANDS = [
  pytest.param(words, id=f'{page_name(path)}: {" ".join(words)}'[:90])
  for path in SHOWN
  for words in commands(path)
]


@pytest.mark.parametrize('words', SHOWN_COMMANDS)
def test_commands_exist_and_take_these_flags(words, monkeypatch, tmp_path):
  monkeypatch.chdir(ROOT)
  monkeypatch.syspath_prepend(ROOT)
  check_command(words, monkeypatch, tmp_path)


@pytest.mark.parametrize(
  'line',
  [
    'python -m mollify_jax.nothing',
    'python -m mollify_jax.main --config=configs/none.py --workdir=x',
    'python -m mollify_jax.main --config=configs/digits.py:none --workdir=x',
    'python -m mollify_jax.main --config=configs/digits.py --wordkir=x',
    'python -m mollify_jax.main --config=configs/digits.py --workdir=x '
    '--config.mollify.beta=2.0',
    'python -m mollify_jax.main --config=configs/digits.py --workdir=x '
    '--config.mollify.beta_b=two',
    'python -m mollify_jax.data.prepare cifar10 --data_path=/data',
    'python -m mollify_jax.corruptions.make --dataset=cifar10 --to=/data',
    'python -m mollify_jax.evaluation.corruption_tables x --stile=latex',
    'python -m mollify_jax.evaluation.reports x --latex',
    'python -m experiments.table1 --dataset=cifar10 --workdir=x --seed=3',
    'python -m experiments.figures nothing x --out=y',
    'python -m pytest tests/test_nothing.py',
    'python -m pytest -m fast',
    'make everything',
    "pip install '.[trian]'",
    'source .venv/bin/activate-it',
    'mollify --help',
  ],
)
def test_commands_that_do_not_exist_are_found(line, monkeypatch, tmp_path):
  monkeypatch.chdir(ROOT)
  monkeypatch.syspath_prepend(ROOT)
  with pytest.raises((AssertionError, LookupError)):
    check_command(shlex.split(line), monkeypatch, tmp_path)


def check_command(words, monkeypatch, tmp_path):
  """Fails unless the command exists and its flags are known to it."""
  match words:
    case ['make', *targets]:
      makefile = (ROOT / 'Makefile').read_text()
      for target in targets:
        assert f'\n{target}:' in makefile, target
    case ['source', path]:
      assert path == '.venv/bin/activate'
    case ['pip' | '.venv/bin/pip', 'install', *rest]:
      check_install(rest)
    case ['python', '-m', 'pytest', *rest]:
      check_pytest(rest)
    case ['python', '-m', module, *rest]:
      check_module(module, rest, monkeypatch, tmp_path)
    case ['ruff', 'check' | 'format', '.'] | ['.ci/run']:
      pass
    case ['git', 'clone', _] | ['cd', _]:
      pass
    case _:
      raise LookupError(f'no check for {words!r}; add one')


def check_install(rest):
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
  extras = project['optional-dependencies']
  for word in rest:
    if word.startswith('.'):
      for name in re.findall(r'[a-z]+', word):
        assert name in extras, f'no extra {name!r}'
    elif not word.startswith('-'):
      known = [line for lines in extras.values() for line in lines]
      assert any(re.match(rf'{word}\b', line) for line in known), word


def check_pytest(rest):
  settings = tomllib.loads((ROOT / 'pyproject.toml').read_text())
  markers = settings['tool']['pytest']['ini_options']['markers']
  known = {marker.partition(':')[0] for marker in markers}
  words = iter(rest)
  for word in words:
    if word == '-m':
      used = set(re.findall(r'\w+', next(words))) - {'not', 'or', 'and'}
      assert used <= known, used - known
    elif word == '-n':
      next(words)
    elif not word.startswith('-'):
      assert (ROOT / word).exists(), word


class _ParsedError(BaseException):
  """The flags were accepted: stop before anything is done."""


def check_module(name, rest, monkeypatch, tmp_path):
  """Starts the command, and stops it where its flags have been parsed."""
  try:
    spec = importlib.util.find_spec(name)
  except ModuleNotFoundError:
    spec = None
  if spec and spec.submodule_search_locations:  # a package is its __main__
    spec = importlib.util.find_spec(f'{name}.__main__')
  assert spec, f'no module {name}'
  monkeypatch.setattr(sys, 'argv', [name, *rest])
  if name == 'mollify_jax.main':
    check_main_flags(importlib.import_module(name), rest)
    return
  source = Path(spec.origin).read_text()
  parser = argparse.ArgumentParser
  parse_args, parse_known_args = parser.parse_args, parser.parse_known_args
  within = []

  def stop_after_all(self, *arguments):
    within.append(self)
    parse_args(self, *arguments)
    raise _ParsedError

  def stop_after_known(self, *arguments):
    namespace, others = parse_known_args(self, *arguments)
    if within:
      return namespace, others
    # What a table does not know itself is for the runs that it starts.
    assert all(other.startswith('--config.') for other in others), others
    raise _ParsedError

  monkeypatch.setattr(parser, 'parse_args', stop_after_all)
  monkeypatch.setattr(parser, 'parse_known_args', stop_after_known)
  if 'ArgumentParser' not in source:
    # It reads its few flags by hand, or leaves them to another module. In the
    # first case it goes on, and must find that there is no such run.
    absent = [w if w[0] == '-' else str(tmp_path / 'none') for w in rest]
    monkeypatch.setattr(sys, 'argv', [name, *absent])
  with contextlib.redirect_stderr(io.StringIO()) as told:
    try:
      with warnings.catch_warnings():
        warnings.filterwarnings('ignore', '.*found in sys.modules')
        runpy.run_module(name, run_name='__main__')
    except _ParsedError:
      return
    except SystemExit as error:
      status = error.code
  assert 'is missing' in told.getvalue(), f'status {status}: {told.getvalue()}'
  for word in rest:
    flag = re.match(r'--(\w+)', word)
    if flag:
      assert re.search(rf"'(--)?{flag[1]}'", source), word


def check_main_flags(module, rest):
  """Parses them as the command does, with a set of flags of its own."""
  from absl import flags
  from ml_collections import config_flags

  mine = flags.FlagValues()
  for flag in flags.FLAGS.flags_by_module_dict()[module.__name__]:
    if flag.name == 'config':
      config_flags.DEFINE_config_file('config', None, '', mine)
    else:
      mine[flag.name] = copy.deepcopy(flag)
  files = [w.partition('=')[2] for w in rest if w.startswith('--config=')]
  for file in files:
    assert Path(file.partition(':')[0]).exists(), file
  assert files, 'no --config'
  try:
    with warnings.catch_warnings():
      # ml_collections 1.1 loads a config file so.
      warnings.filterwarnings('ignore', 'the load_module')
      mine(['main', *rest])
    assert mine['config'].value
  except (
    flags.Error,
    ValueError,
    KeyError,
    AttributeError,
    TypeError,
  ) as error:
    raise AssertionError(f'{rest}: {error}') from error
