"""Corrupted test sets, from tfds directories and from folders of .npy."""

import dataclasses
import hashlib
import json
import tarfile

import numpy as np
import pytest

from mollify_jax.data import corrupted_manifest, prepare, tfds_source
from mollify_jax.data.corrupted import CorruptedFolder, CorruptedTestSet
from mollify_jax.data.corrupted_manifest import File, Manifest
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


def test_names_of_the_files_are_understood(npy_folder):
  test_set = CorruptedTestSet(NAME, npy_folder)
  assert test_set.corruptions == (
    'gaussian_noise',
    'glass_blur',
    'elastic_transform',
  )
  assert (test_set.title, test_set.num_classes) == ('cifar10-C', 10)
  for file, name in (
    ('glass_blur', 'frosted_glass_blur'),
    ('elastic_transform', 'elastic'),
  ):
    np.testing.assert_array_equal(
      test_set.load(file, 3)[0], test_set.load(name, 3)[0]
    )
    np.testing.assert_array_equal(
      CorruptedFolder(npy_folder).load(name, 3)[0], test_set.load(name, 3)[0]
    )


def test_prepared_corruptions_are_listed(archives, small, tmp_path):
  assert CorruptedTestSet(NAME, tmp_path).corruptions == ()
  prepare.prepare(
    ['cifar10', NAME],
    tmp_path,
    archives,
    published=prepare.Published(**small.small_published()),
    say=lambda line: None,
  )
  test_set = CorruptedTestSet(NAME, tmp_path)
  assert test_set.title == 'cifar10-C'
  assert test_set.corruptions == (
    'gaussian_noise',
    'glass_blur',
    'elastic_transform',
  )
  # tfds shuffles the clean test set and the corrupted ones, and all alike.
  clean = tfds_source.load('cifar10', tmp_path, tmp_path / 'cache')
  archive = np.array(small.cifar_labels(NAME))
  assert sorted(clean.test_labels) == sorted(archive)
  assert (clean.test_labels != archive).any()
  np.testing.assert_array_equal(
    test_set.load('glass_blur', 2)[1], clean.test_labels
  )
  (tmp_path / NAME / 'elastic_4').rename(tmp_path / NAME / 'away')
  assert 'elastic_transform' not in CorruptedTestSet(NAME, tmp_path).corruptions


CLEAN = np.array([0, 2, 1, 1, 0, 2], np.int32)
SHAPE = (4, 6, 3)


@pytest.fixture
def folder(tmp_path, small):
  """As if published: two corruptions of six images in three classes."""
  path = tmp_path / 'published'
  path.mkdir()
  for seed, name in enumerate(('contrast', 'glass_blur')):
    np.save(path / f'{name}.npy', small.pixels(seed, shape=(30, *SHAPE)))
  np.save(path / 'labels.npy', np.tile(CLEAN.astype(np.uint8), 5))
  return path


@pytest.fixture
def made(folder):
  """The same as if it was made here."""
  files = {}
  for path in folder.glob('*.npy'):
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    files[path.name] = File(digest, path.stat().st_size, 0)
  corrupted_manifest.write(
    folder,
    Manifest(
      dataset='toys',
      fingerprint='ab12',
      num_examples=6,
      image_shape=SHAPE,
      num_classes=3,
      seed=0,
      parameters='cifar',
      parameters_size=32,
      corruptions=('contrast', 'frost', 'fog', 'glass_blur'),
      skipped={'frost': 'its textures are missing; get them'},
      files=files,
      environments=({'jax': '1'},),
      command='make it',
    ),
  )
  return folder


def test_a_published_folder_of_any_data_set(folder):
  test_set = CorruptedFolder(
    folder, 'toys', labels=CLEAN, image_shape=SHAPE, num_classes=3
  )
  assert test_set.title == 'toys-C'
  assert test_set.corruptions == ('glass_blur', 'contrast')
  assert (test_set.num_classes, test_set.num_examples) == (3, 6)
  assert test_set.manifest is None
  test_set.check()
  for name in test_set.corruptions:
    whole = np.load(folder / f'{name}.npy')
    for severity in range(1, 6):
      images, labels = test_set.load(name, severity)
      assert isinstance(images, np.memmap)
      np.testing.assert_array_equal(
        images, whole[6 * (severity - 1) : 6 * severity]
      )
      np.testing.assert_array_equal(labels, CLEAN)
      assert labels.dtype == np.int32


def test_a_folder_says_what_nobody_tells(folder):
  test_set = CorruptedFolder(folder)
  assert test_set.title == 'published'
  assert (test_set.num_classes, test_set.num_examples) == (3, 6)
  assert test_set.load('contrast', 5)[0].shape == (6, *SHAPE)


def test_what_was_made_here_is_called_so(made):
  test_set = CorruptedFolder(
    made,
    'toys',
    labels=CLEAN,
    image_shape=SHAPE,
    num_classes=3,
    fingerprint='ab12',
  )
  assert test_set.title == 'toys-C-like'
  test_set.check(checksums=True)
  assert CorruptedFolder(made).title == 'toys-C-like'
  # The name is compared only where the fingerprint is not.
  CorruptedFolder(made, 'renamed', fingerprint='ab12')


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'fingerprint': 'cd34'}, "made of other test images of 'toys' than"),
    ({'name': 'digits'}, "was made of 'toys', wanted 'digits'; make one"),
    (
      {'labels': CLEAN[:5]},
      'was made of 6 images of 4 x 6 x 3 in 3 classes, wanted 5 images of',
    ),
    ({'image_shape': (4, 4, 3)}, 'wanted 6 images of 4 x 4 x 3 in 3 classes'),
    ({'num_classes': 10}, 'wanted 6 images of 4 x 6 x 3 in 10 classes'),
    (
      # Whoever made it read the clean images in this order.
      {'labels': CLEAN[::-1], 'same_order': False},
      'number 0): shuffled files; make one of these test images with `python',
    ),
  ],
)
def test_what_was_made_of_other_images_is_refused(made, arguments, message):
  assert message in refusal(
    ValueError, lambda: CorruptedFolder(made, **arguments)
  )


def test_damage_to_what_was_made_here(made):
  path = made / 'contrast.npy'
  data = bytearray(path.read_bytes())
  data[-1] ^= 1
  path.write_bytes(data)
  test_set = CorruptedFolder(made)
  test_set.check()
  test_set.check(['glass_blur'], checksums=True)
  message = refusal(ValueError, lambda: test_set.check(checksums=True))
  assert "contrast.npy' does not have the checksum" in message
  assert 'run `make it` again' in message
  path.write_bytes(data[:-1])
  message = refusal(ValueError, lambda: test_set.load('contrast', 1))
  assert f'holds {len(data) - 1} bytes and not the {len(data)} of' in message
  np.save(made / 'snow.npy', np.zeros((30, *SHAPE), np.uint8))
  assert "snow.npy' is not in the folder's manifest" in refusal(
    ValueError, lambda: CorruptedFolder(made).load('snow', 1)
  )
  np.save(made / 'labels.npy', np.tile(CLEAN, 5))
  assert "labels.npy' holds 248 bytes" in refusal(
    ValueError, lambda: CorruptedFolder(made)
  )


def test_what_is_missing_of_a_folder_is_said(made):
  test_set = CorruptedFolder(made)
  assert 'skipped; its textures are missing; get them' in refusal(
    FileNotFoundError, lambda: test_set.load('frost', 1)
  )
  assert (
    "fog.npy' does not exist: it is not made yet; run `make it`"
    in refusal(FileNotFoundError, lambda: test_set.check(['fog']))
  )
  assert 'run `make it` again with --corruptions=snow' in refusal(
    FileNotFoundError, lambda: test_set.load('snow', 1)
  )


@pytest.mark.parametrize(
  ('text', 'reason'),
  [
    ('{', 'Expecting property name'),
    ('[]', 'it is not of format 1'),
    ('{"format": 2}', 'it is not of format 1'),
    ('{"format": 1}', 'KeyError'),
    (b'\xff\xfe', 'it is not text'),
  ],
)
def test_other_manifests_are_refused(folder, text, reason):
  path = folder / 'manifest.json'
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  message = refusal(ValueError, lambda: CorruptedFolder(folder))
  assert 'is no manifest of corrupted test images (' in message
  assert reason in message


@pytest.mark.parametrize(
  ('field', 'value'),
  [
    ('image_shape', [4, 6]),
    ('num_examples', None),
    ('files', {'fog.npy': 3}),
    ('dataset', 5),
  ],
)
def test_manifests_with_a_wrong_field_are_refused(made, field, value):
  path = made / 'manifest.json'
  record = json.loads(path.read_text())
  path.write_text(json.dumps({**record, field: value}))
  assert 'is no manifest of corrupted test images (' in refusal(
    ValueError, lambda: CorruptedFolder(made)
  )


def test_a_manifest_is_read_as_it_was_written(made):
  manifest = corrupted_manifest.read(made)
  before = (made / 'manifest.json').read_bytes()
  corrupted_manifest.write(made, manifest)
  assert (made / 'manifest.json').read_bytes() == before
  assert json.loads(before)['title'] == 'toys-C-like'
  other = dataclasses.replace(manifest, environments=({'jax': object()},))
  with pytest.raises(TypeError):
    corrupted_manifest.write(made, other)
  assert (made / 'manifest.json').read_bytes() == before
  assert not list(made.glob('.*'))


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (
      {'labels': CLEAN[::-1]},
      'another order (the first to differ is number 0): shuffled files',
    ),
    (
      {'labels': np.array([0, 2, 1, 1, 0, 0]), 'same_order': False},
      'holds label 0 2 times per severity, wanted 3 times, as in the clean',
    ),
    (
      {'labels': np.array([0, 2, 1, 1, 0, 0])},
      'holds label 0 2 times per severity, wanted 3 times, as in the clean',
    ),
    ({'num_classes': 2}, 'test label 1 is 2, wanted a class index in [0, 1]'),
    (
      {'labels': np.tile(CLEAN, 2)},
      'holds uint8 of shape (30,), wanted integers of shape (60,); copy',
    ),
    (
      {'num_examples': 10},
      '(a missing severity: 3 times 10 rows, not 5 times)',
    ),
    ({'num_examples': 5}, '(too many severities: 6 times 5 rows, not 5 times)'),
  ],
)
def test_a_folder_that_does_not_fit_is_refused(folder, arguments, message):
  assert message in refusal(
    ValueError, lambda: CorruptedFolder(folder, **arguments)
  )


def test_the_order_of_tfds_is_accepted_when_it_is_said(folder):
  test_set = CorruptedFolder(folder, labels=CLEAN[::-1], same_order=False)
  np.testing.assert_array_equal(test_set.load('contrast', 1)[1], CLEAN)


@pytest.mark.parametrize(
  ('labels', 'message'),
  [
    (np.tile(CLEAN, 5) / 1, 'holds float64 of shape (30,), wanted integers'),
    (np.arange(28) % 3, 'wanted integers, the test labels 5 times'),
    (np.zeros((5, 6), int), 'wanted integers, the test labels 5 times'),
    (np.zeros(0, int), 'wanted integers, the test labels 5 times'),
    (np.arange(30) % 4, 'does not repeat the 6 test labels 5 times'),
    (np.tile(CLEAN - 1, 5), 'test label 0 is -1, wanted a class index'),
    (np.array([{}] * 30), 'cannot be read (it holds pickled objects'),
  ],
)
def test_labels_that_are_none(folder, labels, message):
  np.save(folder / 'labels.npy', labels, allow_pickle=True)
  assert message in refusal(ValueError, lambda: CorruptedFolder(folder))


@pytest.mark.parametrize(
  ('array', 'message'),
  [
    (
      np.zeros((24, *SHAPE), np.uint8),
      '(a missing severity: 4 times 6 rows, not 5 times); copy it again',
    ),
    (
      np.zeros((36, *SHAPE), np.uint8),
      '(too many severities: 6 times 6 rows, not 5 times)',
    ),
    (np.zeros((29, *SHAPE), np.uint8), 'wanted uint8 of shape (30, 4, 6, 3);'),
    (np.zeros((30, 4, 4, 3), np.uint8), 'of shape (30, 4, 4, 3), wanted uint8'),
    (np.zeros((30, 4, 6), np.uint8), 'of shape (30, 4, 6), wanted uint8'),
    (np.zeros(()), 'holds float64 of shape (), wanted uint8'),
    (np.zeros((30, *SHAPE), np.int8), 'holds int8 of shape'),
    (np.array([{}] * 30), 'cannot be read (it holds pickled objects'),
  ],
)
def test_images_of_a_folder_that_are_none(folder, array, message):
  np.save(folder / 'contrast.npy', array, allow_pickle=True)
  test_set = CorruptedFolder(folder, image_shape=SHAPE)
  assert message in refusal(ValueError, lambda: test_set.load('contrast', 1))
  assert message in refusal(ValueError, test_set.check)
  test_set.check(['glass_blur'])


def test_files_of_a_folder_that_are_damaged(folder):
  path = folder / 'contrast.npy'
  whole = path.read_bytes()
  test_set = CorruptedFolder(folder)
  for data in (whole[:-7], whole[:40], b'', b'GIF89a' * 50):
    path.write_bytes(data)
    message = refusal(ValueError, lambda: test_set.load('contrast', 1))
    assert "contrast.npy' cannot be read (" in message
    assert 'wanted a whole .npy of numbers; copy it again' in message
  path.write_bytes(whole + b'more')
  assert '4 bytes more than its header says' in refusal(
    ValueError, test_set.check
  )
  with path.open('wb') as file:
    np.savez(file, images=np.zeros(3))
  assert 'it is an .npz' in refusal(ValueError, test_set.check)


def test_severities_and_names_are_refused(folder):
  test_set = CorruptedFolder(folder, 'toys')
  for severity in (0, 6, '1', None):
    assert 'severity must be one of (1, 2, 3, 4, 5), got' in refusal(
      ValueError, lambda severity=severity: test_set.load('contrast', severity)
    )
  message = refusal(ValueError, lambda: test_set.load('rain', 1))
  assert (
    message == "unknown corruption 'rain' of 'toys-C'; choose from glass_blur, "
    'contrast'
  )
  (folder / 'glass_blur.npy').rename(folder / 'gass_blur.npy')
  message = refusal(FileNotFoundError, lambda: test_set.load('glass_blur', 1))
  assert "glass_blur.npy' does not exist; there is " in message
  assert '(and gass_blur.npy, of which nothing is known)' in message


def test_places_that_are_no_such_folder(folder, tmp_path):
  assert "nothing' is not a folder; wanted one in the layout" in refusal(
    FileNotFoundError, lambda: CorruptedFolder(tmp_path / 'nothing')
  )
  assert f'did you mean {str(folder)!r}?' in refusal(
    FileNotFoundError, lambda: CorruptedFolder(tmp_path)
  )
  images = tmp_path / 'Tiny-ImageNet-C'
  (images / 'frost').mkdir(parents=True)
  assert 'this one has folders of images: prepare its archive' in refusal(
    FileNotFoundError, lambda: CorruptedFolder(images)
  )
  for path in folder.glob('*_blur.npy'):
    path.unlink()
  (folder / 'contrast.npy').rename(folder / 'contrasts.npy')
  test_set = CorruptedFolder(folder)
  assert 'holds no corruption (and contrasts.npy, of which nothing' in refusal(
    FileNotFoundError, test_set.check
  )


def test_the_wrong_frost_of_tiny_imagenet_is_named(folder):
  # All 1,000 classes of ImageNet instead of 200: five times as many images.
  np.save(folder / 'frost.npy', np.zeros((150, *SHAPE), np.uint8))
  test_set = CorruptedFolder(folder, 'tiny_imagenet')
  message = refusal(ValueError, lambda: test_set.load('frost', 1))
  assert 'holds uint8 of shape (150, 4, 6, 3)' in message
  assert (
    'Zenodo record 2536630 are of 1,000 classes, record 8206060 has them right'
  ) in message


def test_a_named_test_set_that_was_made_here(npy_folder, made):
  assert 'was made of 6 images of 4 x 6 x 3 in 3 classes, wanted 10' in refusal(
    ValueError, lambda: CorruptedTestSet(NAME, made)
  )
  manifest = corrupted_manifest.read(made)
  files = {
    path.name: File('', path.stat().st_size, 0)
    for path in npy_folder.glob('*.npy')
  }
  facts = {
    'files': files,
    'num_examples': 10,
    'num_classes': 10,
    'image_shape': (32, 32, 3),
  }
  corrupted_manifest.write(
    npy_folder, dataclasses.replace(manifest, dataset='cifar10', **facts)
  )
  assert CorruptedTestSet(NAME, npy_folder).title == 'cifar10-C-like'
  corrupted_manifest.write(npy_folder, dataclasses.replace(manifest, **facts))
  assert "was made of 'toys', wanted 'cifar10'" in refusal(
    ValueError, lambda: CorruptedTestSet(NAME, npy_folder)
  )


def test_nothing_is_left_behind(made):
  before = {path: path.stat().st_mtime_ns for path in made.rglob('*')}
  CorruptedFolder(made).check(checksums=True)
  assert {path: path.stat().st_mtime_ns for path in made.rglob('*')} == before
