"""What the README shows is run here."""

import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import mollify_jax

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text()
SNIPPETS = re.findall(r'```python\n(.*?)```', README, re.DOTALL)


def test_the_snippet_trains_somebody_elses_network():
  snippet = SNIPPETS[0]
  assert len(snippet.strip().splitlines()) <= 12

  def apply(params, images):
    return images.reshape(len(images), -1) @ params

  names = {'apply': apply}
  exec(compile(snippet, 'README.md', 'exec'), names)
  images = jax.random.normal(jax.random.key(0), (8, 6, 5, 3))
  labels = jnp.eye(4)[jnp.arange(8) % 4]
  params = jnp.zeros((90, 4))
  step = jax.jit(jax.value_and_grad(names['loss_fn']))
  loss, gradient = step(params, jax.random.key(1), images, labels)
  np.testing.assert_allclose(loss, np.log(4), rtol=1e-5)
  assert (gradient != 0).any()
  later, _ = step(params - 0.1 * gradient, jax.random.key(1), images, labels)
  assert later < loss


def test_the_snippet_augments_somebody_elses_images():
  pixels = np.random.default_rng(0).integers(0, 256, (4, 9, 8, 3), np.uint8)
  names = {
    'jax': jax,
    'mj': mollify_jax,
    'key': jax.random.key(0),
    'keys': mollify_jax.example_keys(jax.random.key(0), 0, 4),
    'pixels': pixels,
    'images': jnp.asarray(pixels / 255, jnp.float32),
    'labels': jnp.eye(4),
  }
  exec(compile(SNIPPETS[1], 'README.md', 'exec'), names)
  assert names['pixels'].shape == names['images'].shape == pixels.shape
  assert names['sheared'].shape == pixels.shape[1:]
  assert (names['pixels'] != pixels).any()
  np.testing.assert_allclose(names['labels'].sum(axis=1), 1, rtol=1e-6)
  listed = README[README.index('`mj.augment.STEPS` has them all') :]
  for step in mollify_jax.augment.STEPS:
    assert f'`{step}`' in listed[:400], step


def test_the_snippet_corrupts_somebody_elses_images():
  assert len(SNIPPETS) == 5
  pixels = np.full((3, 32, 32, 3), 100, np.uint8)
  names = {'jax': jax, 'pixels': pixels}
  exec(compile(SNIPPETS[2], 'README.md', 'exec'), names)
  assert names['foggy'].shape == pixels.shape
  assert names['foggy'].dtype == jnp.uint8
  assert (names['foggy'] != pixels).mean() > 0.5


def test_the_snippet_loads_a_classifier(export_folder):
  images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8)
  names = {'images': images}
  snippet = SNIPPETS[3].replace('/tmp/c100', str(export_folder))
  exec(compile(snippet, 'README.md', 'exec'), names)
  assert names['probabilities'].shape == (5, 10)
  assert len(names['names']) == 5


def test_the_snippet_needs_no_package_of_ours(export_folder, tmp_path):
  assert len(SNIPPETS[4].strip().splitlines()) <= 12
  images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8)
  np.save(tmp_path / 'images.npy', images)
  blocked = ('mollify_jax', 'flax', 'optax', 'orbax', 'ml_collections', 'absl')
  code = f"""
import sys

class Block:
  def find_spec(self, name, path=None, target=None):
    if name.split('.')[0] in {blocked!r}:
      raise ModuleNotFoundError(f'{{name}} is blocked')

sys.meta_path.insert(0, Block())
try:
  import mollify_jax
except ModuleNotFoundError:
  print('blocked')
import numpy as np
images = np.load('images.npy')
{SNIPPETS[4].replace('/tmp/c100/export', str(export_folder))}
np.save('probabilities.npy', probabilities)
print(names)
"""
  process = subprocess.run(
    [sys.executable, '-W', 'error', '-c', code],
    capture_output=True,
    text=True,
    check=False,
    cwd=tmp_path,
  )
  assert process.returncode == 0, process.stderr[-3000:]
  classifier = mollify_jax.load(export_folder)
  np.testing.assert_allclose(
    np.load(tmp_path / 'probabilities.npy'),
    classifier.predict(images),
    rtol=0,
    atol=1e-6,
  )
  said = ['blocked', str(classifier.classify(images))]
  assert process.stdout.splitlines() == said


def test_linked_files_exist():
  for target in re.findall(r'\]\((?!https?:)([^)#]+)\)', README):
    assert (ROOT / target).exists(), target


def test_named_commands_exist():
  for flag in re.findall(r'--config=(\S+?\.py)', README):
    assert (ROOT / flag).exists(), flag
  targets = re.findall(r'^make (\w+)', README, re.MULTILINE)
  assert targets == ['demo', 'test']
  makefile = (ROOT / 'Makefile').read_text()
  for target in targets:
    assert f'\n{target}:' in makefile
