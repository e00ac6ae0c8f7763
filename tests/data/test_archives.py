"""Archives: both layouts, the cache, and everything that can be wrong."""

import hashlib
import io
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mollify_jax.data import archives, dataset

REAL_ARCHIVE = os.environ.get('MOLLIFY_CIFAR10_ARCHIVE')


def random_images(count, shape=(6, 5, 3), seed=0):
  generator = np.random.default_rng(seed)
  return generator.integers(0, 256, (count, *shape), dtype=np.uint8)


def encode(image, kind='PNG', mode=None):
  """One image as the bytes of a file."""
  picture = Image.fromarray(image.squeeze())
  if mode:
    picture = picture.convert(mode)
  file = io.BytesIO()
  picture.save(file, kind)
  return file.getvalue()


def packed(split, files, labels):
  """The members of one split of encoded images."""
  return {
    f'{split}_bytes': np.frombuffer(b''.join(files), np.uint8),
    f'{split}_offsets': np.cumsum([0, *map(len, files)]),
    f'{split}_labels': np.asarray(labels),
  }


def encoded_members(train=None, test=None):
  if train is None:
    train = [encode(image) for image in random_images(7)]
  if test is None:
    test = [encode(image) for image in random_images(3, seed=1)]
  return {
    **packed('train', train, np.arange(len(train)) % 3),
    **packed('test', test, np.arange(len(test)) % 3),
    'class_names': np.array(['ant', 'bee', 'cat']),
  }


def plain_members(shape=(6, 5, 3)):
  return {
    'train_images': random_images(7, shape),
    'train_labels': np.array([0, 1, 2, 3, 0, 1, 2], np.uint8),
    'test_images': random_images(3, shape, seed=1),
    'test_labels': np.array([2, 0, 1], np.int64),
  }


@pytest.fixture
def write(tmp_path):
  """Writes members to an archive and returns its path."""

  def write(members, name='set.npz', save=np.savez_compressed):
    path = tmp_path / name
    save(path, **members)
    return path

  return write


@pytest.fixture
def cache(tmp_path):
  return tmp_path / 'above' / 'cache'


@pytest.fixture
def decoded_splits(monkeypatch):
  """Counts decoding: the splits decoded since the test began."""
  splits = []
  original = archives.decode_images

  def counting(split, *arguments):
    splits.append(split)
    return original(split, *arguments)

  monkeypatch.setattr(archives, 'decode_images', counting)
  return splits


def refusal(error, path, cache):
  """The one line with which an archive is refused; nothing is left behind."""
  with pytest.raises(error) as caught:
    archives.load(path, cache)
  assert type(caught.value) is error
  message = str(caught.value)
  assert '\n' not in message
  assert str(path) in message
  assert not cache.exists() or not list(cache.iterdir())
  return message


def assert_equal(left, right):
  for field in ('train_images', 'train_labels', 'test_images', 'test_labels'):
    np.testing.assert_array_equal(getattr(left, field), getattr(right, field))
    assert getattr(left, field).dtype == getattr(right, field).dtype
  for field in ('name', 'class_names', 'mean', 'std', 'fingerprint'):
    assert getattr(left, field) == getattr(right, field)


def test_png_is_read_exactly(write, cache):
  path = write(encoded_members())
  data = archives.load(path, cache)
  np.testing.assert_array_equal(data.train_images, random_images(7))
  np.testing.assert_array_equal(data.test_images, random_images(3, seed=1))
  assert data.train_labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
  assert data.train_labels.dtype == np.int32
  assert data.class_names == ('ant', 'bee', 'cat')
  assert data.name == 'set'
  assert data.fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()


def test_jpeg_is_read_as_pillow_reads_it(write, cache):
  files = [encode(image, 'JPEG') for image in random_images(4)]
  data = archives.load(write(encoded_members(files, files[:2])), cache)
  for image, file in zip(data.train_images, files, strict=True):
    want = np.asarray(Image.open(io.BytesIO(file)))
    np.testing.assert_array_equal(image, want)


def test_grey_images_have_one_channel(write, cache):
  grey = random_images(5, (6, 5, 1))
  files = [encode(image) for image in grey]
  path = write(encoded_members(files, files[:2]))
  for _ in range(2):  # decoded, then from the cache
    data = archives.load(path, cache)
    np.testing.assert_array_equal(data.train_images, grey)
    assert len(data.mean) == len(data.std) == 1


def test_one_coloured_image_makes_all_of_them_rgb(write, cache):
  grey = random_images(5, (6, 5, 1))
  files = [encode(image) for image in grey]
  coloured = [encode(image) for image in random_images(1)]
  data = archives.load(write(encoded_members(files, coloured)), cache)
  np.testing.assert_array_equal(data.train_images, grey.repeat(3, axis=3))
  np.testing.assert_array_equal(data.test_images, random_images(1))
  data = archives.load(write(encoded_members(coloured + files, files)), cache)
  np.testing.assert_array_equal(data.train_images[:1], random_images(1))
  np.testing.assert_array_equal(data.test_images, grey.repeat(3, axis=3))


def test_palettes_and_transparency_become_rgb(write, cache):
  colour = np.zeros((6, 5, 3), np.uint8)
  colour[:3] = (204, 51, 102)  # in the palette that Pillow converts to
  files = [encode(colour, mode=mode) for mode in ('P', 'RGBA', 'RGB')]
  data = archives.load(write(encoded_members(files, files)), cache)
  np.testing.assert_array_equal(data.train_images, np.stack([colour] * 3))


@pytest.mark.parametrize('shape', [(6, 5, 3), (6, 5, 1), (6, 5)])
def test_plain_arrays_are_read(write, cache, shape):
  members = plain_members(shape)
  data = archives.load(write(members, save=np.savez), cache)
  want = members['train_images'].reshape(7, 6, 5, -1)
  np.testing.assert_array_equal(data.train_images, want)
  assert data.class_names == ('0', '1', '2', '3')
  assert data.test_labels.dtype == np.int32
  assert not cache.exists()  # there was nothing to decode


@pytest.mark.parametrize('count', [7, 2500])
def test_statistics_are_those_of_the_training_pixels(count):
  images = random_images(count)
  images[..., 1] //= 3
  mean, std = dataset.channel_statistics(images)
  pixels = images.astype(np.float64) / 255
  np.testing.assert_allclose(mean, pixels.mean((0, 1, 2)), rtol=1e-12)
  np.testing.assert_allclose(std, pixels.std((0, 1, 2)), rtol=1e-12)


def test_loaded_statistics_are_not_of_the_test_pixels(write, cache):
  data = archives.load(write(encoded_members()), cache)
  pixels = random_images(7) / 255
  np.testing.assert_allclose(data.mean, pixels.mean((0, 1, 2)), rtol=1e-12)
  np.testing.assert_allclose(data.std, pixels.std((0, 1, 2)), rtol=1e-12)


# The cache.


def test_the_second_load_does_not_decode(write, cache, decoded_splits):
  path = write(encoded_members())
  first = archives.load(path, cache)
  assert decoded_splits == ['train', 'test']
  files = list(cache.iterdir())
  assert [file.name for file in files] == [first.fingerprint]
  changed = files[0].stat().st_mtime_ns
  assert_equal(archives.load(path, cache), first)
  assert decoded_splits == ['train', 'test']
  assert files[0].stat().st_mtime_ns == changed


def test_another_archive_of_the_same_name_is_decoded(
  write, cache, decoded_splits
):
  archives.load(write(encoded_members()), cache)
  members = encoded_members(
    [encode(image) for image in random_images(7, seed=9)]
  )
  data = archives.load(write(members), cache)
  np.testing.assert_array_equal(data.train_images, random_images(7, seed=9))
  assert decoded_splits == ['train', 'test'] * 2
  assert len(list(cache.iterdir())) == 2


def test_missing_archive(tmp_path, cache):
  message = refusal(FileNotFoundError, tmp_path / 'none.npz', cache)
  assert 'does not exist; wanted an .npz file' in message


def test_directory_instead_of_archive(tmp_path, cache):
  message = refusal(IsADirectoryError, tmp_path, cache)
  assert 'is a directory; wanted an .npz file' in message


def test_empty_archive(tmp_path, cache):
  path = tmp_path / 'empty.npz'
  path.touch()
  assert 'is empty; wanted an .npz' in refusal(ValueError, path, cache)


def test_other_files_are_not_archives(tmp_path, cache):
  path = tmp_path / 'pickle.npz'
  path.write_bytes(pickle.dumps({'train_images': 1}))
  assert 'is not an .npz file: it starts' in refusal(ValueError, path, cache)
  with open(path, 'wb') as file:
    np.save(file, np.zeros(3))
  assert r'starts with b' in refusal(ValueError, path, cache)


@pytest.mark.parametrize('members', [encoded_members(), plain_members()])
@pytest.mark.parametrize('keep', [4, 30, 0.3, 0.5, 0.9, 0.99, -22, -1])
def test_cut_archive(write, cache, members, keep):
  path = write(members)
  whole = path.read_bytes()
  keep = int(keep * len(whole)) if isinstance(keep, float) else keep
  path.write_bytes(whole[:keep])
  message = refusal(ValueError, path, cache)
  assert 'cut short or damaged' in message
  assert 'copy or write it again' in message


@pytest.mark.parametrize('save', [np.savez, np.savez_compressed])
def test_changed_bytes_in_an_archive_are_noticed(write, cache, save):
  path = write(plain_members((32, 32, 3)), save=save)
  damaged = bytearray(path.read_bytes())
  damaged[len(damaged) // 2] ^= 0xFF
  path.write_bytes(damaged)
  message = refusal(ValueError, path, cache)
  assert 'member train_images is cut short or damaged' in message


class Exploding:
  """Pickles to something that would run when loaded."""

  def __reduce__(self):
    return (pytest.fail, ('the pickle was loaded',))


@pytest.mark.parametrize('name', ['train_bytes', 'train_labels', 'class_names'])
def test_pickled_members_are_never_loaded(write, cache, name):
  members = {**encoded_members(), name: np.array([Exploding()], object)}
  message = refusal(ValueError, write(members), cache)
  assert f'member {name} holds pickled Python objects' in message


def test_missing_members_are_listed(write, cache):
  members = encoded_members()
  del members['train_offsets'], members['test_labels']
  message = refusal(ValueError, write(members), cache)
  assert 'it lacks train_offsets, test_labels; it holds class_names' in message

  members = plain_members()
  del members['test_images']
  message = refusal(ValueError, write(members), cache)
  assert 'it lacks test_images; it holds test_labels, train_images' in message

  message = refusal(ValueError, write({'x': np.zeros(2)}), cache)
  assert 'it lacks train_bytes, train_offsets, test_bytes' in message
  assert 'or, for plain arrays, train_images, test_images' in message


@pytest.mark.parametrize(
  ('change', 'error', 'message'),
  [
    (
      lambda m: m['train_offsets'].__setitem__(3, m['train_offsets'][2]),
      ValueError,
      'train_offsets[2:4] is',
    ),
    (
      lambda m: m['train_offsets'].__setitem__(3, 10**6),
      ValueError,
      'train_offsets[2:4] is',
    ),
    (
      lambda m: m['test_offsets'].__setitem__(-1, m['test_offsets'][-1] + 1),
      ValueError,
      'test_offsets[2:4] is',
    ),
    (
      lambda m: m['test_offsets'].__setitem__(0, -1),
      ValueError,
      'test_offsets[0:2] is [-1,',
    ),
    (
      lambda m: m.update(test_offsets=m['test_offsets'][:1]),
      ValueError,
      'test_offsets must hold one number more',
    ),
    (
      lambda m: m.update(test_offsets=m['test_offsets'] / 1),
      TypeError,
      'test_offsets must be integers of rank 1, got float64',
    ),
    (
      lambda m: m.update(train_bytes=m['train_bytes'].astype(np.int16)),
      TypeError,
      'train_bytes must be uint8 of rank 1, got int16',
    ),
    (
      lambda m: m['train_labels'].__setitem__(5, 3),
      ValueError,
      'train label 5 is 3, wanted a class index in [0, 2]',
    ),
    (
      lambda m: m.update(test_labels=np.zeros(4, int)),
      ValueError,
      'test labels must have the shape (3,), one per image, got (4,)',
    ),
    (
      lambda m: m.update(test_labels=np.zeros(3)),
      TypeError,
      'test labels must be integer class indices, got float64',
    ),
    (
      lambda m: m.update(class_names=np.arange(3)),
      ValueError,
      'class_names must be a list of strings',
    ),
    (
      lambda m: m.update(class_names=np.array([b'\xff'])),
      ValueError,
      "codec can't decode",
    ),
  ],
)
def test_contradicting_encoded_members(
  write, cache, decoded_splits, change, error, message
):
  members = encoded_members()
  change(members)
  assert message in refusal(error, write(members), cache)
  assert decoded_splits == []  # refused before the long part


@pytest.mark.parametrize(
  ('changes', 'error', 'message'),
  [
    (
      {'train_images': np.zeros((7, 6, 5, 3), np.float32)},
      TypeError,
      'train images must be uint8 in [0, 255], got float32',
    ),
    (
      {'test_images': np.zeros((3, 6, 4, 3), np.uint8)},
      ValueError,
      'one size [H, W, C], got (6, 5, 3) and (6, 4, 3)',
    ),
    (
      {'test_images': np.zeros((3, 90), np.uint8)},
      ValueError,
      'test images must have the shape [N, H, W, C]',
    ),
    (
      {'train_images': random_images(7, (3, 32, 32))},
      ValueError,
      'look like [N, C, H, W]',
    ),
    (
      {'train_labels': np.array([0, 1, 2, -3, 0, 1, 2])},
      ValueError,
      'train label 3 is -3',
    ),
    (
      {'train_labels': np.array([0, 1, 10**9, 3, 0, 1, 2])},
      ValueError,
      'a label is 1000000000 while there are 7 training images',
    ),
    (
      {'train_labels': np.zeros(6, int)},
      ValueError,
      'train labels must have the shape (7,)',
    ),
    ({'train_labels': np.zeros(7)}, TypeError, 'got float64'),
    (
      {'train_images': np.full((7, 6, 5, 3), 9, np.uint8)},
      ValueError,
      'std must be > 0',
    ),
  ],
)
def test_contradicting_plain_members(write, cache, changes, error, message):
  path = write({**plain_members(), **changes})
  assert message in refusal(error, path, cache)


@pytest.mark.parametrize('kind', ['PNG', 'JPEG'])
@pytest.mark.parametrize('split', ['train', 'test'])
def test_a_damaged_image_is_named(write, cache, kind, split):
  files = [encode(image, kind) for image in random_images(4)]
  cut = files[2][: len(files[2]) // 2]
  for damaged in (cut, b'no image', encode(random_images(1)[0], 'GIF')):
    members = encoded_members(files, files)
    changed = [*files[:2], damaged, files[3]]
    members.update(packed(split, changed, np.arange(4) % 3))
    message = refusal(ValueError, write(members), cache)
    assert f'{split} image 2 cannot be decoded (' in message
    assert 'wanted a whole JPEG or PNG file' in message


@pytest.mark.parametrize('split', ['train', 'test'])
def test_the_first_image_of_another_size_is_named(write, cache, split):
  files = [encode(image) for image in random_images(4)]
  odd = encode(random_images(1, (5, 6, 3))[0])
  members = encoded_members(files, files)
  members.update(packed(split, [files[0], odd, odd], [0, 1, 2]))
  message = refusal(ValueError, write(members), cache)
  assert f'{split} image 1 is 5 x 6 pixels, wanted 6 x 5, one' in message
  message = refusal(ValueError, write(encoded_members(files, [odd])), cache)
  assert 'test image 0 is 5 x 6 pixels, wanted 6 x 5, one size' in message


def test_sixteen_bits_are_refused(write, cache):
  deep = encode(np.arange(30, dtype=np.uint16).reshape(6, 5) * 2000)
  message = refusal(ValueError, write(encoded_members([deep])), cache)
  assert "train image 0 is of mode 'I;16', wanted 8 bits" in message


@pytest.mark.reference
@pytest.mark.skipif(
  not REAL_ARCHIVE, reason='MOLLIFY_CIFAR10_ARCHIVE names no archive'
)
def test_the_real_archive(tmp_path):
  begin = time.perf_counter()
  first = archives.load(Path(REAL_ARCHIVE), tmp_path)
  middle = time.perf_counter()
  again = archives.load(Path(REAL_ARCHIVE), tmp_path)
  end = time.perf_counter()
  print(f'decoded in {middle - begin:.1f} s, read in {end - middle:.1f} s')
  assert_equal(again, first)
  assert first.train_images.shape == (50_000, 32, 32, 3)
  assert first.test_images.shape == (10_000, 32, 32, 3)
  np.testing.assert_array_equal(np.bincount(first.train_labels), [5000] * 10)
  np.testing.assert_allclose(first.mean, (0.4913, 0.4821, 0.4465), atol=1e-3)
  np.testing.assert_allclose(first.std, (0.2452, 0.2428, 0.2606), atol=1e-3)
