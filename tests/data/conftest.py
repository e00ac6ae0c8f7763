"""Small archives of exactly the published structure, and what is in them."""

import dataclasses
import functools
import io
import pickle
import struct
import tarfile
import types
import zipfile

import numpy as np
import pytest
from PIL import Image

from mollify_jax.data.facts import CORRUPTED, FACTS, file_name
from mollify_jax.data.originals import ORIGINALS, Original

TRAIN, TEST = 20, 10
NUM_CLASSES = len(FACTS['tiny_imagenet'].class_names)
COARSE_NAMES = tuple(f'group_{index}' for index in range(20))
CORRUPTIONS = ('gaussian_noise', 'frosted_glass_blur', 'elastic')
# Deliberately not in alphabetical order: like the real one.
WNIDS = FACTS['tiny_imagenet'].class_names[::-1]


def pixels(*seed, shape=(32, 32, 3)):
  """A random image, the same for the same seed."""
  generator = np.random.default_rng(seed)
  return generator.integers(0, 256, shape, dtype=np.uint8)


@functools.cache
def jpeg(*seed, shape=(64, 64, 3), mode='RGB'):
  """A small random JPEG: blocks of colour."""
  blocks = pixels(*seed, shape=(shape[0] // 16, shape[1] // 16, 3))
  file = io.BytesIO()
  image = Image.fromarray(blocks.repeat(16, axis=0).repeat(16, axis=1))
  image.convert(mode).save(file, 'JPEG')
  return file.getvalue()


def write_tar(path, members, mode='w'):
  """members: name -> bytes, or a TarInfo to be added as it is."""
  with tarfile.open(path, mode) as archive:
    for name, content in members.items():
      if isinstance(content, tarfile.TarInfo):
        archive.addfile(content)
        continue
      info = tarfile.TarInfo(name)
      info.size = len(content)
      archive.addfile(info, io.BytesIO(content))
  return path


def write_zip(path, members):
  with zipfile.ZipFile(path, 'w') as archive:
    for name, content in members.items():
      archive.writestr(name, content)
  return path


def npy(array, **kwargs):
  file = io.BytesIO()
  np.save(file, array, **kwargs)
  return file.getvalue()


class Python2Pickler(pickle._Pickler):
  """Writes strings, of bytes or not, as Python 2 wrote its own."""

  dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

  def save_string(self, text):
    memo = text
    if isinstance(text, str):
      text = text.encode('latin1')
    if len(text) < 256:
      self.write(pickle.SHORT_BINSTRING + bytes([len(text)]) + text)
    else:
      self.write(pickle.BINSTRING + struct.pack('<i', len(text)) + text)
    self.memoize(memo)

  dispatch[bytes] = save_string
  dispatch[str] = save_string


def pickle2(value):
  """A pickle as Python 2 wrote it, with the NumPy names of its time."""
  file = io.BytesIO()
  Python2Pickler(file, protocol=2).dump(value)
  return file.getvalue().replace(b'numpy._core.', b'numpy.core.')


def cifar_examples(name, split):
  """[(pixels, {feature: label})] in the order of the archive."""
  coarse = name == 'cifar100'
  return [
    (
      pixels(len(name), len(split), index),
      {
        **({'coarse_label': index % 20} if coarse else {}),
        'label': index * 7 % (100 if coarse else 10),
      },
    )
    for index in range(TRAIN if split == 'train' else TEST)
  ]


def planes(image):
  return image.transpose(2, 0, 1).tobytes()


def _batches(name):
  """{member: examples}."""
  train = cifar_examples(name, 'train')
  test = cifar_examples(name, 'test')
  if name == 'cifar100':
    return {'train': train, 'test': test}
  size = TRAIN // 5
  batches = {
    f'data_batch_{i + 1}': train[i * size : (i + 1) * size] for i in range(5)
  }
  return {**batches, 'test_batch': test}


def cifar_binary(name):
  """The members of cifar-*-binary.tar.gz."""
  names = '\n'.join(FACTS[name].class_names).encode()
  if name == 'cifar10':
    folder, files = (
      'cifar-10-batches-bin',
      {'batches.meta.txt': names + b'\n\n'},
    )
  else:
    folder = 'cifar-100-binary'
    files = {
      'fine_label_names.txt': names + b'\n',
      'coarse_label_names.txt': '\n'.join(COARSE_NAMES).encode() + b'\n',
    }
  for member, examples in _batches(name).items():
    files[f'{member}.bin'] = b''.join(
      bytes(labels.values()) + planes(image) for image, labels in examples
    )
  return {f'{folder}/{member}': data for member, data in files.items()}


def cifar_python(name):
  """The members of cifar-*-python.tar.gz."""
  encoded = [text.encode() for text in FACTS[name].class_names]
  if name == 'cifar10':
    folder = 'cifar-10-batches-py'
    files = {'batches.meta': {b'label_names': encoded, b'num_vis': 3072}}
    keys = {'label': b'labels'}
  else:
    folder = 'cifar-100-python'
    coarse = [text.encode() for text in COARSE_NAMES]
    files = {
      'meta': {b'fine_label_names': encoded, b'coarse_label_names': coarse}
    }
    keys = {'label': b'fine_labels', 'coarse_label': b'coarse_labels'}
  for member, examples in _batches(name).items():
    data = b''.join(planes(image) for image, _ in examples)
    files[member] = {
      b'batch_label': b'a batch',
      b'data': np.frombuffer(data, np.uint8).reshape(-1, 3072),
      b'filenames': [b'%d.png' % index for index in range(len(examples))],
      **{
        key: [labels[feature] for _, labels in examples]
        for feature, key in keys.items()
      },
    }
  return {f'{folder}/{name}': pickle2(value) for name, value in files.items()}


def corrupted_pixels(name, corruption, severity):
  """uint8[TEST, 32, 32, 3]."""
  seed = CORRUPTIONS.index(corruption)
  return pixels(len(name), seed, severity, shape=(TEST, 32, 32, 3))


def cifar_labels(name):
  """The test labels of the corrupted twin."""
  clean = name.removesuffix('_corrupted')
  return [labels['label'] for _, labels in cifar_examples(clean, 'test')]


def cifar_corrupted(name):
  """The members of CIFAR-10-C.tar or CIFAR-100-C.tar; labels in the middle."""
  folder = 'CIFAR-10-C' if name == 'cifar10_corrupted' else 'CIFAR-100-C'
  files = {
    f'{folder}/{file_name(corruption)}.npy': npy(
      np.concatenate(
        [corrupted_pixels(name, corruption, s) for s in range(1, 6)]
      )
    )
    for corruption in CORRUPTIONS
  }
  labels = npy(np.tile(np.array(cifar_labels(name), np.uint8), 5))
  first, *rest = files.items()
  return dict([first, (f'{folder}/labels.npy', labels), *rest])


def tiny_files(split):
  """[(file name, class, JPEG)], two or one of each class."""
  if split == 'train':
    return [
      (f'{wnid}_{i}.JPEG', wnid, jpeg(1, index, i))
      for index, wnid in enumerate(WNIDS)
      for i in range(2)
    ]
  return [
    # Some of the real ones are grey.
    (f'val_{i}.JPEG', wnid, jpeg(2, i, mode='L' if i == 3 else 'RGB'))
    for i, wnid in enumerate(WNIDS)
  ]


def tiny_zip():
  """The members of tiny-imagenet-200.zip."""
  top = 'tiny-imagenet-200'
  files = {
    f'{top}/': b'',
    f'{top}/wnids.txt': '\n'.join(WNIDS).encode(),
    f'{top}/words.txt': b'n00001740\tentity\n',
    f'{top}/test/images/test_0.JPEG': jpeg(3),
  }
  for file, wnid, data in tiny_files('train'):
    files[f'{top}/train/{wnid}/images/{file}'] = data
  lines = []
  for file, wnid, data in tiny_files('validation'):
    files[f'{top}/val/images/{file}'] = data
    lines.append(f'{file}\t{wnid}\t0\t0\t63\t63\n')
  files[f'{top}/val/val_annotations.txt'] = ''.join(lines).encode()
  return files


def tiny_corrupted_jpeg(corruption, severity, index):
  return jpeg(4, CORRUPTIONS.index(corruption), severity, index)


def tiny_corrupted_tar(corruptions=CORRUPTIONS[:2]):
  """The members of Tiny-ImageNet-C.tar."""
  members = {}
  for corruption in corruptions:
    for severity in range(1, 6):
      folder = f'Tiny-ImageNet-C/{file_name(corruption)}/{severity}'
      for i, wnid in enumerate(WNIDS):
        data = tiny_corrupted_jpeg(corruption, severity, i)
        members[f'{folder}/{wnid}/test_{i}.JPEG'] = data
  return members


def small_published():
  """The keyword arguments of a small `prepare.Published`."""
  facts = {
    name: dataclasses.replace(FACTS[name], train_examples=n, test_examples=m)
    for name, n, m in (
      ('cifar10', TRAIN, TEST),
      ('cifar100', TRAIN, TEST),
      ('tiny_imagenet', 2 * NUM_CLASSES, NUM_CLASSES),
    )
  }
  corrupted = {
    name: dataclasses.replace(
      value,
      corruptions=CORRUPTIONS[:2] if name.startswith('tiny') else CORRUPTIONS,
    )
    for name, value in CORRUPTED.items()
  }
  originals = {
    name: tuple(Original(value.file_name, value.url) for value in values)
    for name, values in ORIGINALS.items()
  }
  return {'facts': facts, 'corrupted': corrupted, 'originals': originals}


def write_archives(folder, python=False):
  """All six archives; the CIFARs in one of their two forms."""
  kind = 'python' if python else 'binary'
  members = cifar_python if python else cifar_binary
  for name, number in (('cifar10', 10), ('cifar100', 100)):
    write_tar(folder / f'cifar-{number}-{kind}.tar.gz', members(name), 'w:gz')
    write_tar(
      folder / f'CIFAR-{number}-C.tar', cifar_corrupted(f'{name}_corrupted')
    )
  write_zip(folder / 'tiny-imagenet-200.zip', tiny_zip())
  write_tar(folder / 'Tiny-ImageNet-C.tar', tiny_corrupted_tar())
  return folder


@pytest.fixture
def small():
  """This module's functions, which test files cannot import."""
  return types.SimpleNamespace(**globals())


@pytest.fixture(scope='session')
def archives(tmp_path_factory):
  """A folder with all six archives; not to be changed."""
  return write_archives(tmp_path_factory.mktemp('archives'))
