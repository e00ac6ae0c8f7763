"""Malformed .npz archives, read by the trainer and by `make`."""

import io
import zipfile

import numpy as np
from PIL import Image

from .place import (
  Case,
  Payload,
  Place,
  become_directory,
  damages,
  forbid,
  npz_with_member,
  rewrite_npz,
)

PLAIN, ENCODED = 'plain.npz', 'encoded.npz'


def write_whole(folder):
  """Forty images of four classes, plain and as PNG files."""
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (64, 8, 8, 3), np.uint8)
  labels = np.arange(64) % 4
  np.savez(
    folder / PLAIN,
    train_images=images[:40],
    train_labels=labels[:40],
    test_images=images[40:],
    test_labels=labels[40:],
    class_names=np.array(['a', 'b', 'c', 'd']),
  )
  members = {}
  for split, part in (('train', slice(40)), ('test', slice(40, None))):
    files = [png(image) for image in images[part]]
    members[f'{split}_bytes'] = np.frombuffer(b''.join(files), np.uint8)
    members[f'{split}_offsets'] = np.cumsum([0, *map(len, files)])
    members[f'{split}_labels'] = labels[part]
  np.savez(folder / ENCODED, **members)


def png(image, **options):
  file = io.BytesIO()
  Image.fromarray(image).save(file, 'PNG', **options)
  return file.getvalue()


def train(place: Place, path):
  return place.train('--config.data.name=archive', f'--config.data.path={path}')


def damaged(damage, name=PLAIN):
  def set_up(place: Place):
    path = place.copy(name)
    damage(path)
    return train(place, path)

  return set_up


def changed(name=PLAIN, **arrays):
  return damaged(lambda path: rewrite_npz(path, arrays), name)


def with_member(name, data, archive=PLAIN):
  return damaged(lambda path: npz_with_member(path, name, data), archive)


def with_objects(name):
  def set_up(place: Place):
    path = place.copy(PLAIN)
    array = np.array([Payload(place.path)] * 40, object)
    rewrite_npz(path, {name: array})
    return train(place, path)

  return set_up


def huge_header(shape):
  file = io.BytesIO()
  header = {'descr': '|u1', 'fortran_order': False, 'shape': shape}
  np.lib.format.write_array_header_1_0(file, header)
  return file.getvalue() + bytes(64)


def bomb(path):
  """512 MiB of zeros as images, in half a MB."""
  header = huge_header((1 << 13, 256, 256, 1))[:-64]
  with zipfile.ZipFile(path, 'a', zipfile.ZIP_DEFLATED) as archive:
    with archive.open('train_images.npy', 'w', force_zip64=True) as file:
      file.write(header)
      chunk = bytes(1 << 24)
      for _ in range(32):
        file.write(chunk)


def fill_bomb(path):
  rewrite_npz(path, {'train_images': None})
  bomb(path)


def blank(path):
  with np.load(path) as archive:
    data = archive['train_bytes']
  rewrite_npz(path, {'train_bytes': np.zeros_like(data)})


def rename_in_zip(path):
  """A member whose name is no UTF-8, though the archive says it is."""
  data = path.read_bytes()
  assert data.count(b'class_names.npy') == 2
  data = data.replace(b'class_names.npy', b'class_n\xff\xfees.npy')
  data = bytearray(data)
  at = data.rindex(b'PK\x01\x02', 0, data.rindex(b'class_n'))
  data[at + 9] |= 8  # the flag of UTF-8
  path.write_bytes(bytes(data))


IMAGES = np.zeros((40, 8, 8, 3), np.uint8)
LABELS = np.arange(40) % 4

CASES = {
  'missing': Case(lambda place: train(place, place.path / 'a.npz')),
  'a directory': Case(damaged(become_directory)),
  'no permission': Case(damaged(forbid)),
  **{
    name: Case(damaged(damage))
    for name, damage in damages((0, 3, 0.5, 0.98, -1), (0.3,)).items()
  },
  'text': Case(damaged(lambda path: path.write_text('images'))),
  'float images': Case(changed(train_images=IMAGES / 255)),
  'images of rank 2': Case(changed(train_images=IMAGES.reshape(40, -1))),
  'channels first': Case(changed(train_images=IMAGES.transpose(0, 3, 1, 2))),
  'no images': Case(changed(train_images=IMAGES[:0])),
  'test images of another size': Case(
    changed(test_images=np.zeros((24, 9, 8, 3), np.uint8))
  ),
  'float labels': Case(changed(train_labels=LABELS.astype(float))),
  'one label too few': Case(changed(train_labels=LABELS[1:])),
  'a negative label': Case(changed(train_labels=LABELS - 1)),
  'a label out of range': Case(changed(test_labels=np.arange(24))),
  'a label of 2^40': Case(changed(train_labels=LABELS << 40, class_names=None)),
  'labels cut': Case(changed(test_labels=np.zeros((24, 1), int))),
  'class names that are numbers': Case(changed(class_names=LABELS[:4])),
  'class names that are no ASCII': Case(
    changed(class_names=np.array([b'\xff', b'b', b'c', b'd']))
  ),
  'pickled images': Case(with_objects('train_images')),
  'pickled labels': Case(with_objects('test_labels')),
  'pickled class names': Case(with_objects('class_names')),
  'members missing': Case(changed(test_labels=None, train_images=None)),
  'a member that is no .npy': Case(with_member('train_labels.npy', b'0, 1, 2')),
  'a header of 2^50 bytes': Case(
    with_member('train_images.npy', huge_header((1 << 40, 32, 32, 1)))
  ),
  'a header beyond 2^63': Case(
    with_member('train_images.npy', huge_header((1 << 62, 32, 32, 1)))
  ),
  'a bomb': Case(damaged(fill_bomb), megabytes=200),
  'a member whose name is no UTF-8': Case(damaged(rename_in_zip)),
  'fewer bytes than offsets say': Case(
    changed(ENCODED, train_bytes=np.zeros(10, np.uint8))
  ),
  'offsets that go back': Case(
    changed(ENCODED, test_offsets=np.arange(25)[::-1])
  ),
  'offsets of bytes': Case(changed(ENCODED, test_offsets=np.arange(25.0))),
  'bytes of int16': Case(
    changed(ENCODED, train_bytes=np.zeros(9999, np.int16))
  ),
  'images that are no PNG': Case(damaged(blank, ENCODED)),
}
