"""From the original archives to a trained, judged network, with no network.

The archives are small, of exactly the published structure; the whole way runs
in a process of its own that cannot reach the network, where the machine lets
us cut it off, and never loads TensorFlow.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('tensorflow_datasets')

ROOT = Path(__file__).parents[2]

SCRIPT = """
import importlib.util
import sys

spec = importlib.util.spec_from_file_location('conftest', sys.argv[1])
small = importlib.util.module_from_spec(spec)
spec.loader.exec_module(small)
archives, workdir = sys.argv[2:]

from mollify_jax.data import prepare
from mollify_jax.data.facts import CORRUPTED, FACTS
from mollify_jax.training import loop

published = small.small_published()
FACTS.update(published['facts'])
CORRUPTED.update(published['corrupted'])

data_dir = f'{workdir}/tfds'
names = ['cifar10', 'cifar10_corrupted']
published = prepare.Published(**published)
prepare.prepare(names, data_dir, archives, published=published)

path = 'configs/cifar10.py'
spec = importlib.util.spec_from_file_location('config', path)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
config = module.get_config().to_dict()
config.update(model='small_cnn', epochs=1, batch_size=5, steps_per_call=2)
config['data']['data_dir'] = data_dir
config['eval'].update(
  batch_size=5,
  temperatures=[0.5],
  every_epochs=0,
  corruptions='gaussian_noise,glass_blur,elastic_transform',
  corrupted_path=data_dir,
)
results = loop.run(config, f'{workdir}/run')
assert results['steps'] == 4
assert results['conditions'][0]['n'] == 10

corrupted = results['corrupted']
assert corrupted['title'] == 'cifar10-C'
assert corrupted['source'] == 'tfds'
assert len(corrupted['cells']) == 15
assert all(cell['n'] == 10 for cell in corrupted['cells'])
for cell in corrupted['cells']:
  if cell['severity'] == 1:
    print(cell['corruption'], cell['error'])
assert not [name for name in sys.modules if name.startswith('tensorflow.')]
print('done')
"""


@pytest.mark.slow
def test_archives_train_and_are_judged_without_a_network(archives, tmp_path):
  script = tmp_path / 'script.py'
  script.write_text(SCRIPT)
  arguments = [
    sys.executable,
    '-W',
    'error',
    str(script),
    str(Path(__file__).with_name('conftest.py')),
    str(archives),
    str(tmp_path / 'out'),
  ]
  cut_off = [shutil.which('unshare') or 'false', '--net']
  if subprocess.run([*cut_off, 'true'], check=False).returncode == 0:
    arguments = [*cut_off, *arguments]
  process = subprocess.run(
    arguments, cwd=ROOT, capture_output=True, text=True, check=False
  )
  assert process.returncode == 0, process.stderr[-3000:]
  assert process.stdout.splitlines()[-1] == 'done'
