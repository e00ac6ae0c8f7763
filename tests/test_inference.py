"""The front door: any number of images in, probabilities out, or one line."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mollify_jax
from mollify_jax.training.export import make_files
from mollify_jax.training.finished import make_predict

ROOT = Path(__file__).parents[1]
NAMES = ('ant', 'bee', 'cow')


def pixels(*shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def sums(parameters, images):
  """Probabilities that tell the images apart; rows do not mix."""
  logits = images.astype(jnp.float32).sum(axis=(1, 2)) * parameters
  return jax.nn.softmax(logits)


@pytest.fixture
def sizes():
  return []


@pytest.fixture
def classifier(sizes):
  """Of images [4, 5, 3]; `sizes` are those that it was compiled for."""

  def function(parameters, images):
    sizes.append(len(images))
    return sums(parameters, images)

  return mollify_jax.Classifier(
    function,
    np.float32(0.01),
    class_names=NAMES,
    image_shape=(4, 5, 3),
    max_batch=8,
  )


@pytest.mark.parametrize('count', [1, 2, 3, 7, 8, 9, 16, 29])
def test_any_number_of_images(classifier, count):
  images = pixels(count, 4, 5, 3)
  result = classifier.predict(images)
  assert isinstance(result, np.ndarray)
  assert result.dtype == np.float32
  assert result.shape == (count, 3)
  np.testing.assert_allclose(result, sums(0.01, images), atol=1e-6)
  np.testing.assert_array_equal(classifier.predict(jnp.asarray(images)), result)
  best = [NAMES[k] for k in result.argmax(axis=1)]
  assert classifier.classify(images) == best


def test_one_image_and_none(classifier):
  image = pixels(4, 5, 3)
  result = classifier.predict(image)
  assert result.shape == (3,)
  np.testing.assert_array_equal(result, classifier.predict(image[None])[0])
  assert classifier.classify(image) == NAMES[result.argmax()]
  empty = classifier.predict(image[None][:0])
  assert (empty.shape, empty.dtype) == ((0, 3), np.float32)
  assert classifier.classify(image[None][:0]) == []


def test_few_sizes_are_compiled_and_little_is_filled(classifier, sizes):
  for count in range(1, 30):
    classifier.predict(pixels(count, 4, 5, 3))
  assert sorted(sizes) == [1, 2, 4, 8]
  classifier.predict(pixels(5, 4, 5, 3))
  assert len(sizes) == 4


def test_a_limit_that_is_no_power_of_two_holds(sizes):
  def function(parameters, images):
    sizes.append(len(images))
    return sums(parameters, images)

  odd = mollify_jax.Classifier(
    function, 0.01, class_names=NAMES, image_shape=(4, 5, 3), max_batch=6
  )
  images = pixels(17, 4, 5, 3)
  np.testing.assert_allclose(odd.predict(images), sums(0.01, images), atol=1e-6)
  assert sizes == [6]
  with pytest.raises(ValueError, match='max_batch must be >= 1, got 0'):
    mollify_jax.Classifier(
      function, 0.01, class_names=NAMES, image_shape=(4, 5, 3), max_batch=0
    )


WANTED = r'\[4, 5, 3\] or \[B, 4, 5, 3\]'
BAD_IMAGES = {
  'float': (
    np.zeros((2, 4, 5, 3), np.float32),
    TypeError,
    rf"images are 'float32', want uint8 pixels 0\.\.255 of shape {WANTED}",
  ),
  'of JAX, float': (jnp.zeros((4, 5, 3)), TypeError, "images are 'float32'"),
  'int64': (np.zeros((4, 5, 3), np.int64), TypeError, "images are 'int64'"),
  'bool': (np.zeros((4, 5, 3), bool), TypeError, "images are 'bool'"),
  'a list of numbers': ([1, 2], TypeError, "images are 'int64'"),
  'text': ('photo.png', TypeError, "images are 'str"),
  'None': (None, TypeError, "images are 'object'"),
  'of several sizes': (
    [pixels(4, 5, 3), pixels(5, 5, 3)],
    ValueError,
    'images are no array .*; give all of them one size',
  ),
  'grey, without channels': (
    pixels(4, 5),
    ValueError,
    rf'images have the shape \(4, 5\), want {WANTED}: a grey image needs',
  ),
  'of five axes': (pixels(1, 1, 4, 5, 3), ValueError, 'have the shape'),
  'a scalar': (np.uint8(3), ValueError, r'have the shape \(\)'),
  'grey': (
    pixels(2, 4, 5, 1),
    ValueError,
    rf'\(2, 4, 5, 1\) have 1 channels, want {WANTED}: convert them',
  ),
  'channels first': (pixels(2, 3, 4, 5), ValueError, 'have 5 channels'),
  'transposed': (
    pixels(5, 4, 3),
    ValueError,
    rf'\(5, 4, 3\) are 5x4, want {WANTED}: resize them',
  ),
  'larger': (pixels(2, 8, 10, 3), ValueError, 'are 8x10, want'),
  'without pixels': (pixels(2, 0, 5, 3), ValueError, 'are 0x5, want'),
}


@pytest.mark.parametrize('name', BAD_IMAGES)
def test_bad_images_are_refused_in_one_line(classifier, sizes, name):
  images, kind, message = BAD_IMAGES[name]
  for method in (classifier.predict, classifier.classify):
    with pytest.raises(kind, match=message) as caught:
      method(images)
    assert '\n' not in str(caught.value)
  assert sizes == []  # before anything is compiled


@pytest.mark.parametrize('rule', ['smooth', 'extra', 'extra_smooth'])
def test_probabilities_are_of_the_classes_without_the_extra_one(
  make_run, tmp_path, rule
):
  run = make_run(label_rule=rule)
  images = pixels(3, *run.image_shape)
  logits = run.model.apply(
    run.variables, (images / np.float32(255) - 0.3) / 0.4, train=False
  )
  assert logits.shape[1] == 10 + (rule != 'smooth')
  whole = np.asarray(jax.nn.softmax(logits))[:, :10]
  wanted = whole / whole.sum(axis=1, keepdims=True)
  predicted = make_predict(run)(run.variables, images)
  np.testing.assert_allclose(predicted, wanted, atol=1e-6)
  for name, data in make_files(run).items():
    (tmp_path / name).write_bytes(data)
  classifier = mollify_jax.load(tmp_path)
  np.testing.assert_allclose(classifier.predict(images), wanted, atol=1e-6)
  assert classifier.class_names == run.class_names


def test_an_export_is_loaded_by_its_folder_and_its_files(export_folder):
  images = pixels(2, 8, 8, 1)
  first, *others = (
    mollify_jax.load(path)
    for path in (
      export_folder,
      str(export_folder),
      export_folder / 'model.stablehlo',
      export_folder / 'export.json',
    )
  )
  assert first.image_shape == (8, 8, 1)
  assert first.class_names == tuple(f'class {k}' for k in range(10))
  for other in others:
    np.testing.assert_array_equal(first.predict(images), other.predict(images))


def unfinished(path):
  (path / 'checkpoints').mkdir()
  (path / 'config.json').write_text('{}')
  return path


def a_file(path):
  (path / 'weights.npz').write_bytes(b'PK')
  return path / 'weights.npz'


BAD_PATHS = {
  'nothing there': (
    lambda path: path / 'typo',
    FileNotFoundError,
    r'typo does not exist; wanted the workdir of a finished run, or a folder',
  ),
  'an empty folder': (
    lambda path: path,
    ValueError,
    r'is a folder that is neither the workdir .* nor an export .*; check',
  ),
  'another file': (a_file, ValueError, r'weights\.npz is a file that is neith'),
  'an unfinished run': (unfinished, ValueError, 'a run that has not finished'),
}


@pytest.mark.parametrize('name', BAD_PATHS)
def test_a_path_that_is_neither_is_named(tmp_path, name):
  make, kind, message = BAD_PATHS[name]
  path = make(tmp_path)
  before = sorted(tmp_path.rglob('*'))
  with pytest.raises(kind, match=message) as caught:
    mollify_jax.load(path)
  assert '\n' not in str(caught.value)
  assert sorted(tmp_path.rglob('*')) == before


# Whoever imports one of them fails.
BLOCKED = """
import sys

class Block:
  def find_spec(self, name, path=None, target=None):
    if name.split('.')[0] in {blocked!r}:
      raise ModuleNotFoundError(f'{{name}} is blocked')

sys.meta_path.insert(0, Block())
"""
TRAINING = (
  *('flax', 'optax', 'orbax', 'chex', 'ml_collections', 'absl', 'sklearn'),
  *('matplotlib', 'rich', 'PIL', 'tensorboardX', 'grain'),
)


def run_blocked(code, blocked):
  return subprocess.run(
    [
      sys.executable,
      '-W',
      'error',
      '-c',
      BLOCKED.format(blocked=blocked) + code,
    ],
    capture_output=True,
    text=True,
    check=False,
    cwd=ROOT,
  )


def test_an_export_needs_nothing_of_training(export_folder, tmp_path):
  images = pixels(5, 8, 8, 1)
  np.save(tmp_path / 'images.npy', images)
  code = (
    'import mollify_jax, numpy as np\n'
    f'classifier = mollify_jax.load({str(export_folder)!r})\n'
    f'images = np.load({str(tmp_path / "images.npy")!r})\n'
    f'np.save({str(tmp_path / "out.npy")!r}, classifier.predict(images))\n'
    'print(sorted(n for n in sys.modules if n.startswith("mollify_jax.t")))\n'
  )
  process = run_blocked(code, TRAINING)
  assert process.returncode == 0, process.stderr[-3000:]
  assert process.stdout == '[]\n'
  np.testing.assert_allclose(
    np.load(tmp_path / 'out.npy'),
    mollify_jax.load(export_folder).predict(images),
    atol=1e-6,
  )


@pytest.mark.parametrize('missing', ['flatbuffers', 'safetensors', 'flax'])
def test_a_missing_package_is_named(export_folder, tmp_path, missing):
  path = export_folder
  if missing == 'flax':
    path = tmp_path / 'run'
    path.mkdir()
    (path / 'results.json').write_text('{}')
  code = (
    'import mollify_jax\n'
    'try:\n'
    f'  mollify_jax.load({str(path)!r})\n'
    'except ImportError as error:\n'
    '  print(error)\n'
  )
  process = run_blocked(code, (missing,))
  assert process.returncode == 0, process.stderr[-3000:]
  assert process.stdout.count('\n') == 1
  extra = 'train' if missing == 'flax' else 'export'
  assert f"pip install 'mollify_jax[{extra}]'" in process.stdout
