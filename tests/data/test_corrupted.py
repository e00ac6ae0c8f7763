"""Corrupted test sets, from tfds directories and from folders of .npy."""

import tarfile

import numpy as np
import pytest

from mollify_jax.data import prepare
from mollify_jax.data.corrupted import CorruptedTestSet
from mollify_jax.data.facts import CORRUPTED, FACTS

pytest.importorskip('tensorflow_datasets')

NAME = 'cifar10_corrupted'


@pytest.fixture(autouse=True)
def small_facts(small, monkeypatch):
  published = small.small_published()
  for table, values in (
    (FACTS, published['facts']),
    (CORRUPTED, published['corrupted']),
  ):
    for name, value in values.items():
      monkeypatch.setitem(table, name, value)


@pytest.fixture
def npy_folder(archives, tmp_path):
  with tarfile.open(archives / 'CIFAR-10-C.tar') as archive:
    archive.extractall(tmp_path, filter='data')
  return tmp_path / 'CIFAR-10-C'


def refusal(error, call):
  with pytest.raises(error) as caught:
    call()
  assert '\n' not in str(caught.value)
  return str(caught.value)


def test_npy_files_are_mapped_under_the_names_of_tfds(npy_folder, small):
  test_set = CorruptedTestSet(NAME, npy_folder)
  for corruption in small.CORRUPTIONS:
    for severity in (1, 5):
      images, labels = test_set.load(corruption, severity)
      assert isinstance(images, np.memmap)
      np.testing.assert_array_equal(
        images, small.corrupted_pixels(NAME, corruption, severity)
      )
      np.testing.assert_array_equal(labels, small.cifar_labels(NAME))
      assert labels.dtype == np.int32


@pytest.mark.parametrize('name', ['cifar100_corrupted', NAME])
def test_prepared_directories_hold_the_same(archives, small, tmp_path, name):
  prepare.prepare(
    [name],
    tmp_path,
    archives,
    published=prepare.Published(**small.small_published()),
    say=lambda line: None,
  )
  test_set = CorruptedTestSet(name, tmp_path)
  for corruption in small.CORRUPTIONS:
    images, labels = test_set.load(corruption, 2)
    want = small.corrupted_pixels(name, corruption, 2)
    # tfds shuffles when it writes: compare as multisets.
    assert sorted(
      (image.tobytes(), label)
      for image, label in zip(images, labels, strict=True)
    ) == sorted(
      (image.tobytes(), label)
      for image, label in zip(want, small.cifar_labels(name), strict=True)
    )
    assert labels.dtype == np.int32


def test_what_is_not_there_is_said(npy_folder, tmp_path):
  assert 'choose from cifar10_corrupted, ' in refusal(
    ValueError, lambda: CorruptedTestSet('svhn_corrupted', tmp_path)
  )
  test_set = CorruptedTestSet(NAME, npy_folder)
  assert "unknown corruption 'rain'" in refusal(
    ValueError, lambda: test_set.load('rain', 1)
  )
  assert 'severity must be one of (1, 2, 3, 4, 5), got 6' in refusal(
    ValueError, lambda: test_set.load('elastic', 6)
  )
  (npy_folder / 'elastic_transform.npy').unlink()
  assert "elastic_transform.npy' does not exist" in refusal(
    FileNotFoundError, lambda: test_set.load('elastic', 1)
  )
  empty = CorruptedTestSet(NAME, tmp_path / 'nothing')
  message = refusal(FileNotFoundError, lambda: empty.load('elastic', 3))
  assert 'cifar10_corrupted/elastic_3/VERSION' in message
  assert '`python -m mollify_jax.data.prepare cifar10_corrupted' in message


@pytest.mark.parametrize(
  ('array', 'message'),
  [
    (np.zeros((40, 32, 32, 3), np.uint8), 'wanted uint8 of shape (50, 32'),
    (np.zeros((50, 32, 32, 3), np.float32), 'holds float32'),
    (np.array([{}] * 50), 'cannot be read ('),
  ],
)
def test_other_images_are_refused(npy_folder, array, message):
  np.save(npy_folder / 'glass_blur.npy', array, allow_pickle=True)
  test_set = CorruptedTestSet(NAME, npy_folder)
  assert message in refusal(
    ValueError, lambda: test_set.load('frosted_glass_blur', 1)
  )


def test_a_file_cut_short_is_refused(npy_folder):
  path = npy_folder / 'gaussian_noise.npy'
  path.write_bytes(path.read_bytes()[:-1])
  test_set = CorruptedTestSet(NAME, npy_folder)
  assert 'cannot be read (' in refusal(
    ValueError, lambda: test_set.load('gaussian_noise', 1)
  )


@pytest.mark.parametrize(
  ('labels', 'message'),
  [
    (np.zeros(40, np.uint8), 'wanted integers of shape (50,)'),
    (np.tile(np.arange(10) / 1, 5), 'holds float64'),
    (np.arange(50) % 9, 'does not repeat the 10 test labels 5 times'),
    (np.tile(np.arange(10) + 1, 5), 'wanted a class index in [0, 9]'),
    (np.zeros(50, np.int64), 'holds 0 to 10 labels per class, wanted 1'),
  ],
)
def test_other_labels_are_refused(npy_folder, labels, message):
  np.save(npy_folder / 'labels.npy', labels)
  assert message in refusal(
    ValueError, lambda: CorruptedTestSet(NAME, npy_folder)
  )
