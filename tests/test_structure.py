"""Which file may import which: the floors of the house."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'mollify_jax'

# A file may import from floors below its own, and the ground floor and files
# of one package may import each other.
FLOORS = {
  'main': 7,
  'inference': 7,
  'training.loop': 6,
  'training.step': 5,
  'training.config': 5,
  'training.inputs': 5,
  'training.profiling': 6,
  'training.finished': 6,
  'training.export': 6,
  'training.evaluator': 6,
  'training.workdir': 6,
  'training.journal': 6,
  'training': 4,  # all its other files
  'evaluation': 5,
  'evaluation.seeds': 6,  # compares configs
  'evaluation.seed_tables': 6,
  'evaluation.label_schedule': 7,  # commands, which open finished runs
  'evaluation.likelihood': 7,
  'evaluation.report': 6,
  'feeds': 4,
  'models': 3,
  'data': 3,
  'metrics': 3,
  'parallel': 3,
  'hosts': 3,
  'exported': 3,
  'progress': 3,
  'augment': 2,
  'corruptions': 2,
  'corruptions.make': 6,  # a command, not a kernel
  'kernels.mollify': 2,
  'kernels.noise': 1,
  'kernels.blur': 1,
  'kernels.labels': 1,
  'kernels.losses': 1,
  'kernels.shapes': 0,
  'kernels.schedules': 0,
  'kernels.dct': 0,
  'kernels.pixels': 0,
  'kernels.conditional': 0,
  'kernels.gaussian': 0,
  'rng': 0,
  'errors': 0,
}

# Third-party packages that need an excuse, and who has it.
OUTSIDE = {
  'flax': ('models', 'training', 'evaluation'),
  'optax': ('training',),
  'orbax': ('training.checkpoints',),
  'ml_collections': ('main', 'training.loop'),
  'absl': ('main', 'data.streaming'),
  'grain': ('data.streaming',),
  'tensorflow_datasets': ('data',),
  'tensorflow': (),
  'sklearn': ('data',),
  'PIL': ('data', 'evaluation', 'corruptions.textures'),
  'matplotlib': ('evaluation',),
  'rich': ('progress', 'evaluation'),
  'safetensors': ('models.import_torch', 'training.export', 'exported'),
  'flatbuffers': ('training.export', 'exported'),
  'tensorboardX': ('training.journal',),
}


def module_name(path: Path) -> str:
  parts = path.relative_to(PACKAGE).with_suffix('').parts
  return '.'.join(part for part in parts if part != '__init__')


def lookup(table, name):
  """The entry of the longest prefix of a dotted name."""
  parts = name.split('.')
  for end in range(len(parts), 0, -1):
    if '.'.join(parts[:end]) in table:
      return table['.'.join(parts[:end])]
  raise KeyError(f'{name} has no floor: give it one')


def imports(path: Path):
  """Dotted names that a file imports, also inside functions."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path} imports relatively'
      for alias in node.names:
        yield f'{node.module}.{alias.name}'


FILES = sorted(PACKAGE.rglob('*.py'))


def test_the_package_is_found():
  assert len(FILES) > 20


@pytest.mark.parametrize('path', FILES, ids=module_name)
def test_imports_go_down(path):
  name = module_name(path)
  if not name:
    return  # the public door, held by the subprocess test below
  for imported in imports(path):
    assert not imported.startswith('configs'), 'nothing imports configs'
    if not imported.startswith('mollify_jax.'):
      continue
    target = imported.removeprefix('mollify_jax.')
    if (PACKAGE / Path(*target.split('.'))).with_suffix('.py').exists():
      pass
    else:  # an object of a module, not a module
      target = target.rpartition('.')[0] or target
    same_package = name.split('.')[0] == target.split('.')[0]
    mine, theirs = lookup(FLOORS, name), lookup(FLOORS, target)
    assert theirs < mine or (same_package and theirs == mine), (
      f'{name} (floor {mine}) imports {target} (floor {theirs})'
    )


@pytest.mark.parametrize('path', FILES, ids=module_name)
def test_third_party_packages_stay_in_their_rooms(path):
  name = module_name(path)
  for imported in imports(path):
    package = imported.split('.')[0]
    if package not in OUTSIDE:
      continue
    assert any(
      name == room or name.startswith(f'{room}.') for room in OUTSIDE[package]
    ), f'{name} imports {package}, which only {OUTSIDE[package]} may'


def test_kernels_need_only_jax_and_numpy():
  allowed = {'jax', 'numpy', 'mollify_jax', *sys.stdlib_module_names}
  rooms = ('kernels', 'augment', 'corruptions', 'rng')
  for path in FILES:
    name = module_name(path)
    if name.split('.')[0] in rooms and name != 'corruptions.make':
      for imported in imports(path):
        if (name, imported) == ('corruptions.textures', 'PIL.Image'):
          continue  # loaded when frost is asked for
        assert imported.split('.')[0] in allowed, (path, imported)


def test_data_does_not_import_jax():
  for path in (PACKAGE / 'data').rglob('*.py'):
    assert not any(name.split('.')[0] == 'jax' for name in imports(path))


def test_only_parallel_says_pmap():
  for path in FILES:
    if module_name(path) != 'parallel':
      assert 'jax.pmap' not in path.read_text(), path


def test_importing_the_door_loads_jax_and_numpy_only():
  code = (
    'import sys, mollify_jax, mollify_jax.corruptions\n'
    'heavy = ["flax", "optax", "orbax", "tensorflow", "ml_collections",'
    ' "tensorflow_datasets", "matplotlib", "sklearn", "absl", "rich",'
    ' "grain", "PIL", "safetensors"]\n'
    'print([name for name in heavy if name in sys.modules])\n'
  )
  output = subprocess.run(
    [sys.executable, '-c', code],
    capture_output=True,
    text=True,
    check=True,
    cwd=ROOT,
  ).stdout
  assert output.strip() == '[]'


def test_every_config_file_is_self_contained():
  for path in (ROOT / 'configs').glob('*.py'):
    for name in imports(path):
      assert name == 'ml_collections', (path, name)
