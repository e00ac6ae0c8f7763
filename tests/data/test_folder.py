"""Class folders: both layouts, sizes, and everything that can be wrong."""

import io
import logging
import os
import pathlib
import pickle

import numpy as np
import pytest
from PIL import Image

from mollify_jax.data import folder

CLASSES = ('ant', 'bee', 'cat')


def pixels(seed, shape=(6, 5, 3)):
  generator = np.random.default_rng(seed)
  return generator.integers(0, 256, shape, dtype=np.uint8)


def save(path, image, kind='PNG'):
  path.parent.mkdir(parents=True, exist_ok=True)
  file = io.BytesIO()
  Image.fromarray(image).save(file, kind)
  path.write_bytes(file.getvalue())


@pytest.fixture
def root(tmp_path):
  """3 classes with 4 training and 2 test images each."""
  path = tmp_path / 'pets'
  for label, name in enumerate(CLASSES):
    for split, count in (('train', 4), ('test', 2)):
      for index in range(count):
        seed = 100 * (split == 'test') + 10 * label + index
        save(path / split / name / f'{index}.png', pixels(seed))
  return path


@pytest.fixture
def flat(tmp_path):
  """One level: 10, 5 and 1 images."""
  path = tmp_path / 'flat'
  for name, count in zip(CLASSES, (10, 5, 1), strict=True):
    for index in range(count):
      save(path / name / f'{index}.png', pixels(index))
  return path


@pytest.fixture
def cache(tmp_path):
  return tmp_path / 'cache'


@pytest.fixture
def load(cache):
  def load(path, **arguments):
    return folder.load(path, cache, **arguments)

  return load


@pytest.fixture
def refusal(cache):
  """The one line with which a folder is refused; nothing is left behind."""

  def refusal(error, path, **arguments):
    with pytest.raises(error) as caught:
      folder.load(path, cache, **arguments)
    assert type(caught.value) is error
    message = str(caught.value)
    assert '\n' not in message
    assert not cache.exists() or not list(cache.iterdir())
    return message

  return refusal


# What is read.


def test_images_are_read_in_order(root, load):
  data = load(root)
  want = [
    pixels(10 * label + index) for label in range(3) for index in range(4)
  ]
  np.testing.assert_array_equal(data.train_images, want)
  want = [
    pixels(100 + 10 * label + index) for label in range(3) for index in range(2)
  ]
  np.testing.assert_array_equal(data.test_images, want)
  np.testing.assert_array_equal(data.train_labels, np.repeat(range(3), 4))
  np.testing.assert_array_equal(data.test_labels, np.repeat(range(3), 2))
  assert data.class_names == CLASSES
  assert data.name == 'pets'
  scaled = data.train_images / 255
  np.testing.assert_allclose(data.mean, scaled.mean((0, 1, 2)), rtol=1e-12)
  np.testing.assert_allclose(data.std, scaled.std((0, 1, 2)), rtol=1e-12)


def test_the_order_is_not_that_of_the_file_system(root, monkeypatch):
  want = folder.sources(root)
  original = pathlib.Path.iterdir
  monkeypatch.setattr(
    pathlib.Path,
    'iterdir',
    lambda self: iter(sorted(original(self), key=str, reverse=True)),
  )
  got = folder.sources(root)
  for split in ('train', 'test'):
    assert got[split].paths == want[split].paths
    assert got[split].paths == sorted(got[split].paths)
    np.testing.assert_array_equal(got[split].labels, want[split].labels)
    assert got[split].class_names == CLASSES


def test_a_source_gives_files_and_labels(root):
  source = folder.sources(root)['train']
  assert len(source) == 12
  file = root / 'train' / 'bee' / '2.png'
  assert source[6] == (file.read_bytes(), 1)
  assert source.describe(6) == str(file)
  again = pickle.loads(pickle.dumps(source))
  assert again[6] == source[6]


def test_the_second_load_does_not_decode(root, load, monkeypatch):
  first = load(root)
  monkeypatch.setattr(folder, 'open_image', lambda *_: pytest.fail('decoded'))
  again = load(root)
  assert again.fingerprint == first.fingerprint
  np.testing.assert_array_equal(again.train_images, first.train_images)
  assert again.class_names == first.class_names


def test_a_changed_file_is_noticed(root, load):
  first = load(root)
  save(root / 'train' / 'ant' / '0.png', pixels(99))
  changed = load(root)
  np.testing.assert_array_equal(changed.train_images[0], pixels(99))
  assert changed.fingerprint != first.fingerprint
  save(root / 'test' / 'cat' / '9.png', pixels(98))
  assert len(load(root).test_images) == 7
  assert load(root, image_size=4).test_images.shape == (7, 4, 4, 3)


def test_all_grey_images_have_one_channel(root, load):
  for path in root.rglob('*.png'):
    save(path, pixels(0, (6, 5)))
  assert load(root).train_images.shape == (12, 6, 5, 1)
  save(root / 'test' / 'cat' / '1.png', pixels(1))
  assert load(root).train_images.shape == (12, 6, 5, 3)
  save(root / 'train' / 'bee' / '1.png', pixels(1))
  save(root / 'test' / 'cat' / '1.png', pixels(0, (6, 5)))
  data = load(root)
  grey = pixels(0, (6, 5, 1))
  np.testing.assert_array_equal(data.train_images[0], grey.repeat(3, axis=2))
  np.testing.assert_array_equal(data.train_images[5], pixels(1))


def test_images_are_resized_and_cropped_only_if_needed(root, load):
  exact, wide = pixels(1, (4, 4, 3)), pixels(2, (8, 12, 3))
  save(root / 'train' / 'ant' / '0.png', exact)
  save(root / 'train' / 'ant' / '1.png', wide)
  data = load(root, image_size=4)
  assert data.train_images.shape == (12, 4, 4, 3)
  np.testing.assert_array_equal(data.train_images[0], exact)
  # 12 x 8 becomes 6 x 4, of which the middle 4 x 4 is cut.
  small = Image.fromarray(wide).resize((6, 4), Image.Resampling.BILINEAR)
  np.testing.assert_array_equal(data.train_images[1], np.asarray(small)[:, 1:5])


def test_names_end_in_any_case(root, load):
  save(root / 'train' / 'ant' / 'A.JPG', pixels(0), 'JPEG')
  save(root / 'train' / 'ant' / 'B.Jpeg', pixels(0), 'JPEG')
  save(root / 'train' / 'ant' / 'C.PNG', pixels(0))
  assert (load(root).train_labels == 0).sum() == 7


def test_what_is_no_image_is_skipped_and_counted(root, load, caplog):
  want = load(root)
  assert not caplog.records
  for name in ('.DS_Store', '.hidden.png', 'notes.txt', 'film.gif'):
    (root / 'train' / 'ant' / name).write_bytes(b'x')
  (root / 'train' / 'ant' / 'folder.png').mkdir()
  (root / 'test' / '.git').mkdir()
  (root / 'test' / 'README.md').write_text('x')
  with caplog.at_level(logging.WARNING):
    data = load(root)
  assert data.fingerprint == want.fingerprint
  (record,) = caplog.records
  assert record.getMessage() == (
    f'skipped 7 entries of {root} that are not images, such as '
    'train/ant/.DS_Store'
  )


# The drawn test split.


def test_a_fraction_of_each_class_is_for_the_test(flat, load):
  data = load(flat, test_fraction=0.2)
  assert np.bincount(data.test_labels, minlength=3).tolist() == [2, 1, 0]
  assert np.bincount(data.train_labels).tolist() == [8, 4, 1]
  parts = folder.sources(flat, test_fraction=0.2)
  paths = parts['train'].paths + parts['test'].paths
  assert sorted(paths) == sorted(
    path.relative_to(flat).as_posix() for path in flat.rglob('*.png')
  )
  assert parts['train'].paths == sorted(parts['train'].paths)


def test_the_drawn_split_is_the_same_for_ever(flat):
  parts = folder.sources(flat, test_fraction=0.2)
  # Of RandomState(0): results are only comparable on one and the same split.
  assert parts['test'].paths == ['ant/2.png', 'ant/8.png', 'bee/2.png']
  for index in range(7):
    save(flat / 'aardvark' / f'{index}.png', pixels(index))
  again = folder.sources(flat, test_fraction=0.2)['test'].paths
  assert again[-3:] == parts['test'].paths
  assert again[0].startswith('aardvark/')


def test_a_class_always_keeps_a_training_image(flat):
  parts = folder.sources(flat, test_fraction=0.99)
  assert np.bincount(parts['train'].labels).tolist() == [1, 1, 1]


# What can be wrong.


def test_no_such_folder(tmp_path, refusal):
  message = refusal(FileNotFoundError, tmp_path / 'none')
  assert message.startswith(f"'{tmp_path}/none' does not exist; wanted")
  (tmp_path / 'file').touch()
  message = refusal(NotADirectoryError, tmp_path / 'file')
  assert 'is a file; wanted a folder' in message
  (tmp_path / 'loop').symlink_to(tmp_path / 'loop')
  assert 'does not exist' in refusal(FileNotFoundError, tmp_path / 'loop')


def test_no_images(tmp_path, refusal):
  message = refusal(ValueError, tmp_path, test_fraction=0.5)
  assert message.startswith(f"'{tmp_path}' holds no images; wanted a folder")
  (tmp_path / 'train').mkdir()
  (tmp_path / 'test').mkdir()
  message = refusal(ValueError, tmp_path)
  assert message.startswith(f"'{tmp_path}/train' holds no images; wanted")


def test_an_empty_class(root, refusal):
  (root / 'train' / 'dog').mkdir()
  (root / 'train' / 'dog' / 'notes.txt').touch()
  message = refusal(ValueError, root)
  assert message == (
    f"class folder '{root}/train/dog' holds no .jpg, .jpeg, .png files; add "
    'some or remove it'
  )


def test_a_class_without_training_images(root, refusal, load):
  save(root / 'test' / 'dog' / '0.png', pixels(0))
  message = refusal(ValueError, root)
  assert 'has no training images of dog, which are in its test' in message
  save(root / 'train' / 'dog' / '0.png', pixels(0))
  save(root / 'train' / 'eel' / '0.png', pixels(0))  # the other way is fine
  data = load(root)
  assert data.class_names == (*CLASSES, 'dog', 'eel')
  assert data.test_labels.tolist() == [0, 0, 1, 1, 2, 2, 3]


def test_the_splits_must_be_there_or_be_drawn(root, flat, refusal):
  message = refusal(ValueError, flat)
  assert 'has no train and no test folder; make it, or set test_fr' in message
  message = refusal(ValueError, root, test_fraction=0.1)
  assert 'has a test folder, so test_fraction must be 0, got 0.1' in message
  (root / 'test').rename(root / 'val')
  assert 'has no test folder; make it, or' in refusal(ValueError, root)
  message = refusal(ValueError, flat, test_fraction=0.01)
  assert 'leaves the test split of' in message
  assert 'its largest class has 10 images; raise it' in message


@pytest.mark.parametrize('fraction', [-0.1, 1.0, float('nan')])
def test_a_fraction_out_of_range(flat, refusal, fraction):
  message = refusal(ValueError, flat, test_fraction=fraction)
  assert message.startswith('test_fraction must be in (0, 1), or 0 if there is')
  assert message.endswith(f'got {fraction!r}')


def test_an_image_size_out_of_range(root, refusal):
  message = refusal(ValueError, root, image_size=0)
  assert message == 'image_size must be >= 1 or None, got 0'


@pytest.mark.parametrize('split', ['train', 'test'])
def test_another_size_is_named(root, refusal, split):
  save(root / split / 'bee' / '1.png', pixels(0, (7, 5, 3)))
  assert refusal(ValueError, root) == (
    f"'{root}/{split}/bee/1.png' is 7 x 5 pixels, wanted 6 x 5 like the files "
    'before it; set image_size, or resize it'
  )


@pytest.mark.parametrize('data', [b'', b'no image', None])
def test_a_damaged_image_is_named(root, refusal, data):
  path = root / 'test' / 'bee' / '1.png'
  path.write_bytes(path.read_bytes()[:60] if data is None else data)
  message = refusal(ValueError, root)
  assert message.startswith(f"'{path}' cannot be decoded (")
  assert message.endswith('wanted a whole JPEG or PNG file; write it again')


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read everything')
def test_an_unreadable_image_is_named(root, refusal):
  path = root / 'test' / 'bee' / '1.png'
  path.chmod(0)
  message = refusal(ValueError, root)
  assert message.startswith(f"'{path}' cannot be read (Permission denied)")


def test_a_file_that_goes_while_reading_is_named(root, refusal, monkeypatch):
  path = root / 'train' / 'ant' / '1.png'
  original = folder.open_image

  def removing(what, data):
    path.unlink(missing_ok=True)
    return original(what, data)

  monkeypatch.setattr(folder, 'open_image', removing)
  message = refusal(ValueError, root)
  assert message.startswith(f"'{path}' cannot be read (No such file")


@pytest.mark.parametrize('place', ['train/dog', 'train/ant/9.png'])
@pytest.mark.parametrize('target', ['nowhere', None])
def test_links_that_lead_nowhere(root, refusal, place, target):
  path = root / place
  path.symlink_to(target or path)  # to nothing, or in a circle
  message = refusal(ValueError, root)
  assert message.startswith(f"'{path}' is a link that leads nowhere; wanted")


def test_a_link_back_to_the_root_ends(root, load):
  (root / 'train' / 'ant' / 'up').symlink_to(root)
  assert len(load(root).train_images) == 12  # folders in a class are skipped
  (root / 'train' / 'up').symlink_to(root)
  with pytest.raises(ValueError, match=r"^class folder '.*/train/up' holds no"):
    load(root)


def test_linked_classes_and_images_are_read(root, load):
  (root / 'train' / 'dog').symlink_to(root / 'train' / 'cat')
  (root / 'train' / 'ant' / '9.png').symlink_to(root / 'train/cat/0.png')
  data = load(root)
  assert np.bincount(data.train_labels).tolist() == [5, 4, 4, 4]
