"""Reading the published archives, and everything that can be wrong in them."""

import dataclasses
import functools
import hashlib
import os
import pickle
import tarfile
import warnings
import zipfile

import numpy as np
import pytest

from mollify_jax.data import (
  cifar_originals,
  originals,
  tiny_imagenet_originals,
)
from mollify_jax.data.facts import CORRUPTED, FACTS, file_name
from mollify_jax.data.originals import ORIGINALS, Original


def decoded(data):
  import io

  from PIL import Image

  return np.asarray(Image.open(io.BytesIO(data)))


@pytest.fixture
def published(small):
  return small.small_published()


def refusal(call):
  """The one line of a ValueError."""
  with pytest.raises(ValueError) as caught:
    call()
  message = str(caught.value)
  assert '\n' not in message
  return message


# Which archive.


def test_every_original_is_fully_described():
  assert set(ORIGINALS) == {
    'cifar10',
    'cifar100',
    'cifar10_corrupted',
    'cifar100_corrupted',
    'tiny_imagenet',
    'tiny_imagenet_corrupted',
  }
  for original in (one for group in ORIGINALS.values() for one in group):
    algorithm, digest = original.digest.split(':')
    assert len(bytes.fromhex(digest)) == hashlib.new(algorithm).digest_size
    assert original.url.endswith(f'/{original.file_name}')
    assert original.size > 1e8


def test_digests_are_those_of_tfds():
  tfds = pytest.importorskip('tensorflow_datasets')
  folder = os.path.join(os.path.dirname(tfds.__file__), 'url_checksums')
  for name in ('cifar10', 'cifar100', 'cifar10_corrupted'):
    with open(os.path.join(folder, f'{name}.txt')) as file:
      url, size, digest, file_name = file.read().split('\n')[0].split('\t')
    original = ORIGINALS[name][0]
    assert original.file_name == file_name == url.rpartition('/')[2]
    assert (original.size, original.digest) == (int(size), f'sha256:{digest}')


def test_the_archive_is_found_under_either_name(tmp_path):
  python = tmp_path / 'cifar-10-python.tar.gz'
  python.touch()
  assert originals.find('cifar10', tmp_path) == (
    python,
    ORIGINALS['cifar10'][1],
  )
  binary = tmp_path / 'cifar-10-binary.tar.gz'
  binary.mkdir()  # no file
  assert originals.find('cifar10', str(tmp_path))[0] == python
  with pytest.raises(FileNotFoundError) as caught:
    originals.find('cifar100', tmp_path)
  message = str(caught.value)
  assert repr(str(tmp_path)) in message
  assert 'cifar-100-binary.tar.gz or cifar-100-python.tar.gz' in message
  assert ORIGINALS['cifar100'][0].url in message


@pytest.mark.parametrize('algorithm', ['md5', 'sha256'])
def test_digests_are_compared(tmp_path, algorithm):
  path = tmp_path / 'a.tar'
  path.write_bytes(b'content')
  digest = hashlib.new(algorithm, b'content').hexdigest()
  original = Original('a.tar', 'http://x/a.tar', 7, f'{algorithm}:{digest}')
  verify = functools.partial(originals.verify, path)
  assert f'published {algorithm}' in verify(original)
  assert f'published {algorithm}' in verify(original, ['0' * 64])
  wrong = dataclasses.replace(original, digest=f'{algorithm}:{digest[::-1]}')
  found = hashlib.sha256(b'content').hexdigest()
  message = refusal(lambda: verify(wrong))
  assert f'another {algorithm} than {digest[::-1]}' in message
  assert f'--trust={found}' in message
  assert 'http://x/a.tar' in message
  assert f'trusted sha256 {found}' in verify(wrong, [found.upper()])
  longer = dataclasses.replace(original, size=8)
  assert 'is 7 bytes long, wanted 8' in refusal(lambda: verify(longer))
  assert found in verify(longer, [found])
  unknown = dataclasses.replace(original, digest='')
  assert f'sha256 {found}; the published one is not known' in verify(unknown)


# The CIFARs.


@pytest.mark.parametrize('name', ['cifar10', 'cifar100'])
@pytest.mark.parametrize('form', ['binary', 'python'])
def test_both_forms_of_a_cifar_are_read(tmp_path, small, published, name, form):
  members = {'binary': small.cifar_binary, 'python': small.cifar_python}[form]
  path = small.write_tar(tmp_path / 'a.tar.gz', members(name), 'w:gz')
  cifar = cifar_originals.read(path, name, published['facts'][name])
  assert cifar.names['label'] == FACTS[name].class_names
  if name == 'cifar100':
    assert cifar.names['coarse_label'] == small.COARSE_NAMES
  splits = cifar.splits()
  assert list(splits) == ['train', 'test']
  for split, examples in splits.items():
    want = small.cifar_examples(name, split)
    got = list(examples())
    assert len(got) == len(want)
    for index, (key, example) in enumerate(got):
      image, labels = want[index]
      assert key == index
      assert example.pop('id') == f'{split}_{index:05d}'
      np.testing.assert_array_equal(decoded(example.pop('image')), image)
      assert example == labels


@pytest.mark.parametrize('form', ['binary', 'python'])
def test_full_counts_are_wanted_by_default(tmp_path, small, form):
  members = {'binary': small.cifar_binary, 'python': small.cifar_python}[form]
  path = small.write_tar(tmp_path / 'a.tar', members('cifar10'))
  message = refusal(
    lambda: cifar_originals.read(path, 'cifar10', FACTS['cifar10'])
  )
  assert 'holds 20 train images, wanted 50000' in message
  assert str(path) in message


def edited(members, name, change):
  """Members of which one is changed (bytes), replaced, or left out (None)."""
  (full,) = [member for member in members if member.endswith(name)]
  content = change(members[full]) if callable(change) else change
  rest = {key: value for key, value in members.items() if key != full}
  return rest if content is None else {**rest, full: content}


@pytest.mark.parametrize(
  ('member', 'change', 'message'),
  [
    (
      'data_batch_3.bin',
      None,
      'it lacks cifar-10-batches-bin/data_batch_3.bin',
    ),
    (
      'batches.meta.txt',
      None,
      'it lacks cifar-10-batches-bin/batches.meta.txt',
    ),
    ('test_batch.bin', lambda data: data[:-1], 'is 30729 bytes long, wanted a'),
    ('test_batch.bin', lambda data: data[3073:], 'holds 9 test images, wanted'),
    (
      'data_batch_2.bin',
      lambda data: b'\x0a' + data[1:],
      'label of train image 4 is 10, wanted a class index in [0, 9]',
    ),
    (
      'batches.meta.txt',
      lambda data: data.replace(b'cat', b'cot'),
      "its class 3 is 'cot', wanted 'cat'; download it again",
    ),
    ('batches.meta.txt', b'airplane', "its class 1 is None, wanted 'auto"),
    ('batches.meta.txt', b'\xff\xfe', "codec can't decode"),
  ],
)
def test_a_wrong_binary_cifar(
  tmp_path, small, published, member, change, message
):
  members = edited(small.cifar_binary('cifar10'), member, change)
  path = small.write_tar(tmp_path / 'a.tar', members)
  got = refusal(
    lambda: cifar_originals.read(path, 'cifar10', published['facts']['cifar10'])
  )
  assert message in got
  assert str(path) in got


class Evil:
  def __reduce__(self):
    return os.system, ('touch /tmp/mollify_jax_was_here',)


@pytest.mark.parametrize(
  ('member', 'content', 'message'),
  [
    ('/test', None, 'it lacks cifar-100-python/test'),
    ('/meta', None, 'it lacks cifar-100-python/meta'),
    ('/test', pickle.dumps(Evil(), 2), 'posix.system, which is not admitted'),
    ('/test', pickle.dumps(pickle.loads, 2), 'loads, which is not admitted'),
    ('/test', b'cos\nsystem\n.', 'os.system, which is not admitted'),
    ('/test', pickle.dumps([1], 2), 'test is not a dict with the keys data,'),
    ('/test', b'\x80\x02', 'member test cannot be read ('),
    ('/test', b'', 'member test cannot be read ('),
    ('/test', lambda data: data[:5000], 'member test cannot be read ('),
    ('/meta', pickle.dumps({}, 2), 'meta is not a dict with the keys coarse_'),
  ],
)
def test_a_wrong_python_cifar(
  tmp_path, small, published, member, content, message
):
  members = edited(small.cifar_python('cifar100'), member, content)
  path = small.write_tar(tmp_path / 'a.tar', members)
  facts = published['facts']['cifar100']
  got = refusal(lambda: cifar_originals.read(path, 'cifar100', facts))
  assert message in got
  assert not os.path.exists('/tmp/mollify_jax_was_here')


@pytest.mark.parametrize(
  ('key', 'value', 'message'),
  [
    ('data', np.zeros((10, 3072), np.int16), 'no uint8[n, 3072]'),
    ('data', np.zeros((10, 100), np.uint8), 'no uint8[n, 3072]'),
    ('data', np.array([None]), 'no uint8[n, 3072]'),
    ('data', [1, 2], 'no uint8[n, 3072]'),
    ('labels', [0] * 9, 'are not 10 class indices'),
    ('labels', [0] * 9 + [300], 'are not 10 class indices'),
    ('labels', [0] * 9 + [-1], 'are not 10 class indices'),
    ('labels', np.zeros(10), 'are not 10 class indices'),
    ('labels', [0] * 9 + [10], 'label of test image 9 is 10'),
  ],
)
def test_wrong_arrays_in_a_python_cifar(
  tmp_path, small, published, key, value, message
):
  content = {
    b'data': np.zeros((10, 3072), np.uint8),
    b'labels': [0] * 10,
    key.encode(): value,
  }
  members = edited(
    small.cifar_python('cifar10'), '/test_batch', small.pickle2(content)
  )
  path = small.write_tar(tmp_path / 'a.tar', members)
  facts = published['facts']['cifar10']
  assert message in refusal(
    lambda: cifar_originals.read(path, 'cifar10', facts)
  )


# Hostile and damaged tars.


def link(kind):
  info = tarfile.TarInfo('cifar-10-batches-bin/readme')
  info.type, info.linkname = kind, '/etc/passwd'
  return info


@pytest.mark.parametrize(
  ('name', 'content', 'message'),
  [
    ('../evil', b'x', "member '../evil' leads out of the archive"),
    ('a/../../evil', b'x', 'leads out of the archive'),
    ('/etc/evil', b'x', "member '/etc/evil' leads out of the archive"),
    ('a\\..\\..\\evil', b'x', 'leads out of the archive'),
    ('C:/evil', b'x', 'leads out of the archive'),
    ('a', link(tarfile.SYMTYPE), 'neither a file nor a directory'),
    ('a', link(tarfile.LNKTYPE), 'neither a file nor a directory'),
    ('a', link(tarfile.FIFOTYPE), 'neither a file nor a directory'),
  ],
)
def test_members_that_climb_out(
  tmp_path, small, published, name, content, message
):
  members = {**small.cifar_binary('cifar10'), name: content}
  path = small.write_tar(tmp_path / 'a.tar', members)
  facts = published['facts']['cifar10']
  assert message in refusal(
    lambda: cifar_originals.read(path, 'cifar10', facts)
  )


@pytest.mark.parametrize('mode', ['w', 'w:gz', 'w:bz2', 'w:xz'])
@pytest.mark.parametrize('keep', [0, 100, 600, 0.3, 0.7])
def test_a_truncated_tar(tmp_path, small, published, mode, keep):
  path = small.write_tar(
    tmp_path / 'a.tar', small.cifar_binary('cifar10'), mode
  )
  whole = path.read_bytes()
  cut = int(keep * len(whole)) if isinstance(keep, float) else keep
  path.write_bytes(whole[:cut])
  facts = published['facts']['cifar10']
  message = refusal(lambda: cifar_originals.read(path, 'cifar10', facts))
  assert str(path) in message
  assert 'again' in message


@pytest.mark.parametrize('mode', ['w:gz', 'w:bz2', 'w:xz'])
def test_a_damaged_tar(tmp_path, small, published, mode):
  path = small.write_tar(
    tmp_path / 'a.tar', small.cifar_binary('cifar10'), mode
  )
  whole = bytearray(path.read_bytes())
  middle = len(whole) // 2
  whole[middle : middle + 64] = bytes(64)
  path.write_bytes(whole)
  facts = published['facts']['cifar10']
  assert str(path) in refusal(
    lambda: cifar_originals.read(path, 'cifar10', facts)
  )


def test_a_missing_file_is_not_called_damaged(tmp_path, published):
  with pytest.raises(FileNotFoundError):
    cifar_originals.read(
      tmp_path / 'none', 'cifar10', published['facts']['cifar10']
    )


# Corrupted CIFARs.


def read_cifar_c(path, published, name='cifar10_corrupted', wanted=None):
  corrupted = published['corrupted'][name]
  facts = published['facts'][corrupted.clean]
  configs = cifar_originals.read_corrupted(
    path, facts, corrupted, set(corrupted.configs if wanted is None else wanted)
  )
  return {config: list(examples()) for config, examples in configs}


@pytest.mark.parametrize('name', ['cifar10_corrupted', 'cifar100_corrupted'])
def test_corrupted_cifars_are_read(archives, small, published, name):
  path, _ = originals.find(name, archives)
  configs = read_cifar_c(path, published, name)
  assert set(configs) == {
    f'{corruption}_{severity}'
    for corruption in small.CORRUPTIONS
    for severity in range(1, 6)
  }
  for config, examples in configs.items():
    corruption, _, severity = config.rpartition('_')
    want = small.corrupted_pixels(name, corruption, int(severity))
    for index, (key, example) in enumerate(examples):
      assert key == index
      np.testing.assert_array_equal(decoded(example['image']), want[index])
      assert example['label'] == small.cifar_labels(name)[index]


def test_one_pass_over_the_data(archives, small, published, monkeypatch):
  opened, blocks = [], []
  original_open, original_blocks = tarfile.open, originals.npy_blocks
  monkeypatch.setattr(
    tarfile,
    'open',
    lambda *args: opened.append(args) or original_open(*args),
  )
  monkeypatch.setattr(
    originals,
    'npy_blocks',
    lambda name, *args: blocks.append(name) or original_blocks(name, *args),
  )
  path = archives / 'CIFAR-10-C.tar'
  read_cifar_c(path, published)
  assert len(opened) == 2  # names and labels, then the arrays
  assert len(blocks) == len(small.CORRUPTIONS)
  blocks.clear()
  assert set(read_cifar_c(path, published, wanted=['elastic_2'])) == {
    'elastic_2'
  }
  assert blocks == ['CIFAR-10-C/elastic_transform.npy']


def test_full_arrays_are_wanted_by_default(archives, published):
  path = archives / 'CIFAR-10-C.tar'
  full = {**published, 'facts': FACTS}
  message = refusal(lambda: read_cifar_c(path, full))
  assert 'labels.npy is uint8 of shape (50,), wanted integers' in message
  assert 'of shape (50000,)' in message
  full = {**published, 'corrupted': CORRUPTED}
  message = refusal(lambda: read_cifar_c(path, full))
  assert 'it lacks brightness.npy, contrast.npy, defocus_blur.npy' in message
  assert 'and 13 more' in message


LABELS = np.arange(10)


@pytest.mark.parametrize(
  ('member', 'array', 'message'),
  [
    ('elastic_transform.npy', None, 'it lacks elastic_transform.npy'),
    ('labels.npy', None, 'it lacks labels.npy'),
    ('labels.npy', np.tile(LABELS, 4), 'of shape (40,), wanted integers'),
    ('labels.npy', np.tile(LABELS, 5) / 2, 'is float64 of shape (50,)'),
    (
      'labels.npy',
      np.r_[np.tile(LABELS, 3), LABELS[::-1], LABELS],
      'not the test labels 5 times over: label 0 is 0 at first and 9 at '
      'repetition 4',
    ),
    ('labels.npy', np.tile(LABELS + 1, 5), 'labels in [1, 10], wanted class'),
    ('labels.npy', np.tile(LABELS - 1, 5), 'labels in [-1, 8], wanted class'),
    (
      'labels.npy',
      np.full(50, None),
      'labels.npy holds pickled Python objects',
    ),
    ('gaussian_noise.npy', np.full(50, None), 'holds pickled Python objects'),
    ('gaussian_noise.npy', np.zeros((50, 32, 32, 3)), 'is float64 of shape'),
    (
      'gaussian_noise.npy',
      np.zeros((50, 32, 32, 3), np.uint16),
      'holds uint16, wanted uint8',
    ),
    (
      'gaussian_noise.npy',
      np.zeros((49, 32, 32, 3), np.uint8),
      'of shape (49, 32, 32, 3), wanted uint8 of shape (50, 32, 32, 3)',
    ),
    (
      'gaussian_noise.npy',
      np.asfortranarray(np.zeros((50, 32, 32, 3), np.uint8)),
      'in C order',
    ),
    ('gaussian_noise.npy', b'nonsense', 'is not a whole .npy file'),
    ('gaussian_noise.npy', b'', 'is not a whole .npy file'),
  ],
)
def test_a_wrong_corrupted_cifar(
  tmp_path, small, published, member, array, message
):
  content = small.npy(array) if isinstance(array, np.ndarray) else array
  members = edited(small.cifar_corrupted('cifar10_corrupted'), member, content)
  path = small.write_tar(tmp_path / 'a.tar', members)
  assert message in refusal(lambda: read_cifar_c(path, published))


def test_a_member_that_is_cut_short(tmp_path, small, published):
  members = edited(
    small.cifar_corrupted('cifar10_corrupted'),
    'glass_blur.npy',
    lambda data: data[:-1],
  )
  path = small.write_tar(tmp_path / 'a.tar', members)
  message = refusal(lambda: read_cifar_c(path, published))
  assert 'glass_blur.npy is cut short' in message


def test_a_member_that_is_there_twice(tmp_path, small, published):
  members = small.cifar_corrupted('cifar10_corrupted')
  members['./CIFAR-10-C/labels.npy'] = members['CIFAR-10-C/labels.npy']
  path = small.write_tar(tmp_path / 'a.tar', members)
  assert 'labels.npy is there twice' in refusal(
    lambda: read_cifar_c(path, published)
  )


# Tiny ImageNet.


def read_tiny(path, published):
  splits = tiny_imagenet_originals.read(
    path, published['facts']['tiny_imagenet']
  )
  return {split: list(examples()) for split, examples in splits.items()}


def test_tiny_imagenet_is_read(archives, small, published):
  splits = read_tiny(archives / 'tiny-imagenet-200.zip', published)
  assert list(splits) == ['train', 'validation']
  names = FACTS['tiny_imagenet'].class_names
  for split, examples in splits.items():
    want = small.tiny_files(split)
    assert len(examples) == len(want)
    for (key, example), (file, wnid, data) in zip(examples, want, strict=True):
      assert key == example['id'] == file
      assert example['image'] == data
      assert names[example['label']] == wnid


WNID = FACTS['tiny_imagenet'].class_names[7]


@pytest.mark.parametrize(
  ('member', 'change', 'message'),
  [
    ('wnids.txt', None, 'it lacks tiny-imagenet-200/wnids.txt'),
    ('val_annotations.txt', None, 'it lacks tiny-imagenet-200/val/val_anno'),
    (f'{WNID}_1.JPEG', None, f'train holds 1 images of class {WNID}, wanted 2'),
    ('val_9.JPEG', None, 'it lacks tiny-imagenet-200/val/images/val_9.JPEG'),
    (
      'val_annotations.txt',
      lambda text: text.partition(b'\n')[2],
      'has 199 lines for 199 images and lacks 1',
    ),
    (
      'val_annotations.txt',
      lambda text: text.replace(WNID.encode(), b'n99999999'),
      f'validation holds 0 images of class {WNID}, wanted 1',
    ),
    ('val_annotations.txt', b'val_0.JPEG n0\n', 'with a tab between'),
    (
      'wnids.txt',
      lambda text: text.replace(WNID.encode(), b'n99999999'),
      f'200 classes that are not the 200 known ones (see {WNID}, n99999999)',
    ),
    ('val_9.JPEG', b'', 'val_9.JPEG is no JPEG, wanted a JPEG of 64 x 64'),
    ('val_9.JPEG', b'\x89PNG', 'val_9.JPEG is no JPEG, wanted'),
  ],
)
def test_a_wrong_tiny_imagenet(
  tmp_path, small, published, member, change, message
):
  members = edited(small.tiny_zip(), member, change)
  path = small.write_zip(tmp_path / 'a.zip', members)
  assert message in refusal(lambda: read_tiny(path, published))


def test_images_of_another_size(tmp_path, small, published):
  members = edited(
    small.tiny_zip(), 'val_9.JPEG', small.jpeg(0, shape=(32, 48, 3))
  )
  path = small.write_zip(tmp_path / 'a.zip', members)
  assert 'val_9.JPEG is 32 x 48 pixels, wanted a JPEG of 64 x 64' in refusal(
    lambda: read_tiny(path, published)
  )


def test_full_counts_of_tiny_imagenet_are_wanted(archives):
  message = refusal(
    lambda: read_tiny(archives / 'tiny-imagenet-200.zip', {'facts': FACTS})
  )
  assert 'train holds 2 images of class n01443537, wanted 500 (400' in message


@pytest.mark.parametrize('name', ['../evil', '/evil', 'a/../../evil'])
def test_zip_members_that_climb_out(tmp_path, small, published, name):
  path = small.write_zip(tmp_path / 'a.zip', {**small.tiny_zip(), name: b'x'})
  assert 'leads out of the archive' in refusal(
    lambda: read_tiny(path, published)
  )


def test_a_zip_member_that_is_there_twice(tmp_path, small, published):
  path = small.write_zip(tmp_path / 'a.zip', small.tiny_zip())
  with warnings.catch_warnings(), zipfile.ZipFile(path, 'a') as archive:
    warnings.simplefilter('ignore')  # zipfile's own
    archive.writestr('tiny-imagenet-200/wnids.txt', '')
  assert 'wnids.txt is there twice' in refusal(
    lambda: read_tiny(path, published)
  )


@pytest.mark.parametrize('keep', [0, 10, 0.5, -10])
def test_a_truncated_zip(tmp_path, archives, published, keep):
  whole = (archives / 'tiny-imagenet-200.zip').read_bytes()
  cut = int(keep * len(whole)) if isinstance(keep, float) else keep
  path = tmp_path / 'a.zip'
  path.write_bytes(whole[:cut])
  message = refusal(lambda: read_tiny(path, published))
  assert 'is cut short or damaged' in message
  assert str(path) in message


def test_a_damaged_zip_member(tmp_path, archives, published):
  whole = bytearray((archives / 'tiny-imagenet-200.zip').read_bytes())
  with zipfile.ZipFile(archives / 'tiny-imagenet-200.zip') as archive:
    offset = archive.getinfo(
      'tiny-imagenet-200/val/images/val_5.JPEG'
    ).header_offset
  whole[offset + 200] ^= 1
  path = tmp_path / 'a.zip'
  path.write_bytes(whole)
  message = refusal(lambda: read_tiny(path, published))
  assert 'damaged (Bad CRC-32 for file' in message


# Tiny ImageNet, corrupted.


def read_tiny_c(path, published, wanted=None):
  corrupted = published['corrupted']['tiny_imagenet_corrupted']
  said = []
  configs = tiny_imagenet_originals.read_corrupted(
    path,
    published['facts']['tiny_imagenet'],
    corrupted,
    set(corrupted.configs if wanted is None else wanted),
    said.append,
  )
  return {config: list(examples()) for config, examples in configs}, said


def test_corrupted_tiny_imagenet_is_read(archives, small, published):
  configs, said = read_tiny_c(archives / 'Tiny-ImageNet-C.tar', published)
  assert not said
  assert len(configs) == 10
  names = FACTS['tiny_imagenet'].class_names
  for config, examples in configs.items():
    corruption, _, severity = config.rpartition('_')
    for index, (key, example) in enumerate(examples):
      assert key == f'{small.WNIDS[index]}/test_{index}.JPEG' == example['id']
      assert names[example['label']] == small.WNIDS[index]
      assert example['image'] == small.tiny_corrupted_jpeg(
        corruption, int(severity), index
      )


def test_any_order_of_the_members_will_do(tmp_path, small, published):
  members = list(small.tiny_corrupted_tar(('frosted_glass_blur',)).items())
  members = {f'./{name}': data for name, data in members[::2] + members[1::2]}
  path = small.write_tar(tmp_path / 'a.tar', members)
  wanted = ['frosted_glass_blur_4', 'frosted_glass_blur_2']
  configs, _ = read_tiny_c(path, published, wanted)
  assert set(configs) == set(wanted)
  assert all(len(examples) == 200 for examples in configs.values())


def test_strange_classes_are_left_out_and_told(tmp_path, small, published):
  members = small.tiny_corrupted_tar(('elastic',))
  for i in range(6):
    folder = f'Tiny-ImageNet-C/elastic_transform/1/n9999999{i % 3}'
    members[f'{folder}/test_{i}.JPEG'] = small.jpeg(9)
  path = small.write_tar(tmp_path / 'a.tar', members)
  published['corrupted']['tiny_imagenet_corrupted'] = dataclasses.replace(
    published['corrupted']['tiny_imagenet_corrupted'], corruptions=('elastic',)
  )
  configs, said = read_tiny_c(path, published)
  assert {len(examples) for examples in configs.values()} == {200}
  (line,) = said
  assert line.startswith('elastic: left out 6 images of 3 classes')
  assert '8206060' in line


def test_configs_that_are_not_whole(tmp_path, small, published):
  members = small.tiny_corrupted_tar()
  missing = f'Tiny-ImageNet-C/{file_name("frosted_glass_blur")}/3/{WNID}'
  (name,) = [name for name in members if name.startswith(missing)]
  data = members.pop(name)
  path = small.write_tar(tmp_path / 'a.tar', members)
  message = refusal(lambda: read_tiny_c(path, published))
  assert (
    f'frosted_glass_blur_3 holds 0 images of class {WNID}, wanted 1 (199 images'
  ) in message
  members[name] = data
  members[f'{missing}/test_more.JPEG'] = data
  path = small.write_tar(tmp_path / 'b.tar', members)
  message = refusal(lambda: read_tiny_c(path, published))
  assert f'frosted_glass_blur_3 holds {WNID}/test_more.JPEG twice' in message
  del members[name]
  other = name.replace(WNID, FACTS['tiny_imagenet'].class_names[8])
  members[other] = data
  del members[f'{missing}/test_more.JPEG']
  path = small.write_tar(tmp_path / 'c.tar', members)
  message = refusal(lambda: read_tiny_c(path, published))
  assert f'frosted_glass_blur_3 holds 0 images of class {WNID}' in message


def test_a_corruption_that_is_missing(tmp_path, small, published):
  path = small.write_tar(
    tmp_path / 'a.tar', small.tiny_corrupted_tar(('gaussian_noise',))
  )
  message = refusal(lambda: read_tiny_c(path, published))
  assert 'frosted_glass_blur_1 holds 0 images of class n01443537' in message
