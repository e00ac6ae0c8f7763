"""Malformed folders: of images, and of corrupted test images."""

import io
import json
import os

import numpy as np
from PIL import Image

from .npz import PLAIN, png
from .place import (
  Case,
  Payload,
  Place,
  become_directory,
  damages,
  flip,
  forbid,
  keep,
)

IMAGES, PUBLISHED, MADE = 'images', 'published', 'made'


def write_whole(folder, server):
  """Class folders; corrupted test images, published and made here."""
  with np.load(folder / PLAIN) as archive:
    arrays = dict(archive)
  for split in ('train', 'test'):
    for index, image in enumerate(arrays[f'{split}_images']):
      label = arrays[f'{split}_labels'][index]
      place = folder / IMAGES / split / 'abcd'[label]
      place.mkdir(parents=True, exist_ok=True)
      (place / f'{index}.png').write_bytes(png(image))
  published = folder / PUBLISHED
  published.mkdir()
  images = np.tile(arrays['test_images'], (5, 1, 1, 1))
  np.save(published / 'brightness.npy', images)
  np.save(published / 'labels.npy', np.tile(arrays['test_labels'], 5))
  argv = [
    'mollify_jax.corruptions.make',
    '--dataset=archive',
    f'--path={folder / PLAIN}',
    f'--out={folder / MADE}',
    '--corruptions=brightness',
  ]
  reply = server.run(argv, folder / MADE)
  assert reply['status'] == 0, reply


def train(place: Place, *flags):
  return place.train(
    '--config.data.name=folder',
    f'--config.data.path={place.path}/images',
    *flags,
  )


def damaged(name, damage, *flags):
  def set_up(place: Place):
    damage(place.copy(IMAGES) / name)
    return train(place, *flags)

  return set_up


def corrupted(kind, name, damage, command='train'):
  """The trainer on corrupted images of which one file is damaged."""

  def set_up(place: Place):
    folder = place.copy(kind)
    damage(folder / name)
    if command == 'make':
      return [
        'mollify_jax.corruptions.make',
        '--dataset=archive',
        f'--path={place.whole / PLAIN}',
        f'--out={folder}',
        '--corruptions=brightness,fog',
      ]
    return place.train(
      '--config.data.name=archive',
      f'--config.data.path={place.whole / PLAIN}',
      '--config.data.test_examples=0',
      '--config.eval.corruptions=brightness',
      f'--config.eval.corrupted_path={folder}',
    )

  return set_up


def save(make):
  """Replaces an .npy by what is made of its array."""
  return lambda path: np.save(path, make(np.load(path)))


def objects(path):
  array = np.array([Payload(path.parents[1])] * 120, object)
  np.save(path, array, allow_pickle=True)


def link(target):
  def damage(path):
    path.unlink()
    path.symlink_to(target)

  return damage


def large_png(path):
  """Twenty thousand pixels square, in 50 kB."""
  import struct
  import zlib

  def chunk(kind, data):
    return b''.join(
      [
        struct.pack('>I', len(data)),
        kind,
        data,
        struct.pack('>I', zlib.crc32(kind + data)),
      ]
    )

  side = 20_000
  rows = zlib.compress(bytes((side + 1) * 1000), 9)
  header = struct.pack('>IIBBBBB', side, side, 8, 0, 0, 0, 0)
  path.write_bytes(
    b'\x89PNG\r\n\x1a\n'
    + chunk(b'IHDR', header)
    + chunk(b'IDAT', rows)
    + chunk(b'IEND', b'')
  )


def sixteen_bits(path):
  Image.fromarray(np.zeros((8, 8), np.uint16)).save(path)


def another_size(path):
  path.write_bytes(png(np.zeros((9, 8, 3), np.uint8)))


def jpeg_cut(path):
  file = io.BytesIO()
  Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(file, 'JPEG')
  path.write_bytes(file.getvalue()[:-200])


def remove_files(path):
  for file in path.iterdir():
    file.unlink()


def rename_bytes(name):
  return lambda path: os.rename(path, os.fsencode(path.parent) + b'/' + name)


def manifest(**changes):
  def damage(path):
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, **changes}))

  return damage


def nested(path):
  path.write_text('[' * 100_000)


CASES = {
  'of images, missing': Case(train),
  'of images, a file': Case(
    lambda place: [(place.path / 'images').write_text(''), *train(place)][1:],
  ),
  'of images, without test': Case(
    damaged('test', lambda path: path.rename(path.parent / 'tests'))
  ),
  'of images, test_fraction beside test': Case(
    damaged('.', lambda path: None, '--config.data.test_fraction=0.5')
  ),
  'of images, a class without images': Case(damaged('train/a', remove_files)),
  'of images, a class only in test': Case(
    damaged('train/a', lambda path: path.rename(path.parent / 'e'))
  ),
  'of images, a class that may not be listed': Case(damaged('train/a', forbid)),
  'of images, a link round in a circle': Case(
    damaged('train/a/0.png', link('0.png'))
  ),
  'of images, a link to nowhere': Case(
    damaged('test/a/0.png', link('/nowhere/0.png'))
  ),
  'of images, a name that is no UTF-8': Case(
    damaged('train/a/0.png', rename_bytes(b'\xff.png'))
  ),
  'of images, a class that is no UTF-8': Case(
    damaged('train/a', rename_bytes(b'\xff'))
  ),
  'of images, no permission': Case(damaged('train/a/0.png', forbid)),
  **{
    f'of images, a PNG {name}': Case(damaged('train/a/0.png', damage))
    for name, damage in damages((0, 20, 0.5)).items()
  },
  'of images, a PNG bit flipped': Case(
    damaged('train/a/0.png', lambda path: flip(path, 0.5))
  ),
  'of images, text': Case(
    damaged('test/b/1.png', lambda path: path.write_text('image'))
  ),
  'of images, a JPEG cut': Case(damaged('test/b/1.png', jpeg_cut)),
  'of images, another size': Case(damaged('test/b/1.png', another_size)),
  'of images, 16 bits': Case(damaged('test/b/1.png', sixteen_bits)),
  'of images, a bomb': Case(damaged('test/b/1.png', large_png), megabytes=200),
  'of images, a bomb to be cropped': Case(
    damaged('test/b/1.png', large_png, '--config.data.image_size=8'),
    megabytes=200,
  ),
  'of images, streamed, damaged': Case(
    damaged(
      'train/a',
      lambda path: [keep(file, 30) for file in path.iterdir()],
      '--config.data.image_size=8',
      '--config.feed=streaming',
      '--config.data.num_workers=0',
    ),
    may_change='/run(/|$)',
    slow=True,
  ),
  'corrupted, missing': Case(
    corrupted(PUBLISHED, '.', lambda path: path.rename(path.parent / 'x'))
  ),
  'corrupted, no such corruption': Case(
    corrupted(PUBLISHED, 'brightness.npy', os.unlink)
  ),
  **{
    f'corrupted, images {name}': Case(
      corrupted(PUBLISHED, 'brightness.npy', damage)
    )
    for name, damage in damages((0, 50, 0.5, -1), (0.0001,)).items()
  },
  **{
    f'corrupted, images {name}': Case(
      corrupted(PUBLISHED, 'brightness.npy', damage)
    )
    for name, damage in {
      'with bytes too many': lambda path: path.write_bytes(
        path.read_bytes() + b'x'
      ),
      'of float': save(lambda images: images / 255),
      'of four severities': save(lambda images: images[:96]),
      'of another size': save(lambda images: images[:, 1:]),
      'pickled': objects,
      'a directory': become_directory,
      'no permission': forbid,
    }.items()
  },
  **{
    f'corrupted, labels {name}': Case(
      corrupted(PUBLISHED, 'labels.npy', damage)
    )
    for name, damage in {
      'missing': os.unlink,
      'empty': lambda path: path.write_bytes(b''),
      'of float': save(lambda labels: labels / 1),
      'out of range': save(lambda labels: labels * 5),
      'negative': save(lambda labels: labels - 1),
      'of another order': save(lambda labels: labels[::-1]),
      'of another count': save(lambda labels: labels[:100]),
      'not repeated': save(np.sort),
      'pickled': objects,
      'a directory': become_directory,
      'no permission': forbid,
    }.items()
  },
  **{
    f'made here, {name}': Case(corrupted(MADE, file, damage))
    for name, (file, damage) in {
      'a bit flipped': ('brightness.npy', lambda path: flip(path, 0.5)),
      'images cut': ('brightness.npy', lambda path: keep(path, -1)),
      'labels cut': ('labels.npy', lambda path: keep(path, 100)),
      'manifest empty': ('manifest.json', lambda path: path.write_text('')),
      'manifest cut': ('manifest.json', lambda path: keep(path, 200)),
      'manifest no UTF-8': (
        'manifest.json',
        lambda path: path.write_bytes(b'{"\xff": 1}'),
      ),
      'manifest a list': ('manifest.json', lambda path: path.write_text('[]')),
      'manifest nested': ('manifest.json', nested),
      'manifest a directory': ('manifest.json', become_directory),
      'manifest no permission': ('manifest.json', forbid),
      'manifest of another format': ('manifest.json', manifest(format=2)),
      'manifest of another shape': ('manifest.json', manifest(image_shape=3)),
      'manifest of other files': ('manifest.json', manifest(files=[1])),
      'manifest of other classes': ('manifest.json', manifest(num_classes=9)),
      'manifest of other images': ('manifest.json', manifest(fingerprint='1')),
    }.items()
  },
  **{
    f'made here, {name}, made on': Case(corrupted(MADE, file, damage, 'make'))
    for name, (file, damage) in {
      'manifest cut': ('manifest.json', lambda path: keep(path, 200)),
      'manifest gone': ('manifest.json', os.unlink),
      'another seed': ('manifest.json', manifest(seed=1)),
      'a stranger': (
        'fog.npy',
        lambda path: np.save(path, np.zeros(3)),
      ),
      'images a directory': ('brightness.npy', become_directory),
      'no permission': ('.', lambda path: path.chmod(0o500)),
    }.items()
  },
}
# Of each kind of corrupted images a few; the others are left to the long suite.
QUICK = (
  'images cut to 50%',
  'images pickled',
  'images no permission',
  'labels missing',
  'labels out of range',
  'labels pickled',
  'made here, a bit flipped',
  'made here, manifest cut',
  'made here, manifest nested',
  'no permission, made on',
)
CASES = {
  name: case._replace(
    slow=case.slow
    or (not name.startswith('of images') and not name.endswith(QUICK))
  )
  for name, case in CASES.items()
}
