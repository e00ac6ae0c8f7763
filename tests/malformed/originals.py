"""Malformed archives as their authors publish them, read by `prepare`."""

import gzip
import io
import pickle
import tarfile
import zipfile

import numpy as np

from ..data import conftest as small
from .place import (
  Case,
  Payload,
  Place,
  become_directory,
  damages,
  flip,
  forbid,
)

FILES = {
  'cifar10': 'cifar-10-binary.tar.gz',
  'cifar100': 'cifar-100-binary.tar.gz',
  'cifar10_corrupted': 'CIFAR-10-C.tar',
  'cifar100_corrupted': 'CIFAR-100-C.tar',
  'tiny_imagenet': 'tiny-imagenet-200.zip',
  'tiny_imagenet_corrupted': 'Tiny-ImageNet-C.tar',
}
PYTHON = {
  'cifar10': 'cifar-10-python.tar.gz',
  'cifar100': 'cifar-100-python.tar.gz',
}
TEN, HUNDRED = 'cifar-10-batches-bin', 'cifar-100-binary'
PICKLED = 'cifar-10-batches-py'
CORRUPTED = 'CIFAR-10-C'
TINY, TINY_C = 'tiny-imagenet-200', 'Tiny-ImageNet-C'


def write_whole(folder):
  (folder / 'archives').mkdir()
  small.write_archives(folder / 'archives')
  for name, file in PYTHON.items():
    members = small.cifar_python(name)
    small.write_tar(folder / 'archives' / file, members, 'w:gz')


def damaged(name, damage, file=None):
  """One archive is damaged."""

  def set_up(place: Place):
    damage(place.copy(f'archives/{file or FILES[name]}'))
    return place.prepare(name)

  return set_up


def rewritten(name, change, file=None, mode=None):
  """An archive written anew once `change` has been at its members."""

  def damage(path):
    members = read_members(path)
    change(members)
    if path.suffix == '.zip':
      small.write_zip(path, members)
    else:
      small.write_tar(path, members, 'w:gz' if path.suffix == '.gz' else 'w')

  return damaged(name, damage, file)


def read_members(path):
  if path.suffix == '.zip':
    with zipfile.ZipFile(path) as archive:
      return {name: archive.read(name) for name in archive.namelist()}
  with tarfile.open(path) as archive:
    return {
      member.name: archive.extractfile(member).read() for member in archive
    }


def with_member(name, member, data):
  return rewritten(name, lambda members: members.update({member: data}))


def without(name, member):
  return rewritten(name, lambda members: members.pop(member))


def tar_info(name, kind, target=''):
  info = tarfile.TarInfo(name)
  info.type, info.linkname = kind, target
  return info


def array(name, member, make):
  """A member .npy of other contents."""

  def change(members):
    made = make(np.load(io.BytesIO(members[member])))
    members[member] = small.npy(made, allow_pickle=True)

  return rewritten(name, change)


def objects(member):
  """A member .npy whose payload makes a folder beside the archive."""

  def set_up(place: Place):
    path = place.copy(f'archives/{FILES["cifar10_corrupted"]}')
    members = read_members(path)
    content = np.array([Payload(place.path)] * 50, object)
    members[member] = small.npy(content, allow_pickle=True)
    small.write_tar(path, members)
    return place.prepare('cifar10_corrupted')

  return set_up


def pickled(make, name='cifar10', member=f'{PICKLED}/data_batch_2'):
  """A member of the Python archive pickled from what `make` is given."""

  def set_up(place: Place):
    path = place.copy(f'archives/{PYTHON[name]}')
    members = read_members(path)
    content = pickle.loads(members[member], encoding='bytes')
    data = make(content, place)
    members[member] = data if isinstance(data, bytes) else small.pickle2(data)
    small.write_tar(path, members, 'w:gz')
    return place.prepare(name)

  return set_up


def call(module, function, argument):
  """A pickle, written by hand, that calls a function."""
  return f"c{module}\n{function}\n(S'{argument}'\ntR.".encode()


def zeros(member, megabytes=512):
  """A bomb: a gzipped tar of whole members, then one of zeros."""

  def damage(path):
    members = read_members(path)
    members.pop(member, None)
    path.unlink()
    with tarfile.open(path, 'w:gz', compresslevel=1) as archive:
      for name, content in members.items():
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
      info = tarfile.TarInfo(member)
      info.size = megabytes << 20
      archive.addfile(info, Zeros())

  return damage


class Zeros:
  def read(self, size):
    return bytes(size)


def endless(path):
  """A gzip that goes on, after the end of its tar, with 2 GiB of zeros."""
  block = gzip.compress(bytes(1 << 26), 9)
  with path.open('ab') as file:
    for _ in range(32):
      file.write(block)


def zip_bomb(member):
  def damage(path):
    members = read_members(path)
    with zipfile.ZipFile(path, 'w') as archive:
      for name, content in members.items():
        if name != member:
          archive.writestr(name, content)
      info = zipfile.ZipInfo(member)
      info.compress_type = zipfile.ZIP_DEFLATED
      with archive.open(info, 'w') as file:
        for _ in range(32):
          file.write(bytes(1 << 24))

  return damage


def encrypted(path):
  """Says of its first member that it is encrypted."""
  data = bytearray(path.read_bytes())
  for mark, at in ((b'PK\x01\x02', 8), (b'PK\x03\x04', 6)):
    begin = -1
    while (begin := data.find(mark, begin + 1)) >= 0:
      data[begin + at] |= 1
  path.write_bytes(data)


def no_utf8(path):
  """A member whose name is no UTF-8, though the zip says it is."""
  data = path.read_bytes().replace(b'words.txt', b'words\xff\xfext')
  data = bytearray(data)
  at = data.rindex(b'PK\x01\x02', 0, data.rindex(b'words\xff'))
  data[at + 9] |= 8
  path.write_bytes(data)


def repeated(path):
  with zipfile.ZipFile(path, 'a') as archive:
    import warnings

    with warnings.catch_warnings(action='ignore'):
      archive.writestr(f'{TINY}/wnids.txt', 'n1')


def bin_member(make):
  return rewritten(
    'cifar10',
    lambda members: members.update(
      {f'{TEN}/data_batch_2.bin': make(members[f'{TEN}/data_batch_2.bin'])}
    ),
  )


def second_label(value):
  return lambda data: data[:3073] + bytes([value]) + data[3074:]


def data_dir_file(place):
  place.copy(f'archives/{FILES["cifar10"]}')
  (place.path / 'tfds').write_text('')
  return place.prepare('cifar10')


def changed_dict(**changes):
  def make(content, place):
    return {**content, **{k.encode(): v for k, v in changes.items()}}

  return make


CASES = {
  f'{name}, missing': Case(lambda place, name=name: place.prepare(name))
  for name in ('cifar10', 'tiny_imagenet')
}
for name in FILES:
  lengths = (
    (0, 100, 0.5, -1) if name in ('cifar10', 'tiny_imagenet') else (0.3, 0.7)
  )
  CASES |= {
    f'{name} {title}': Case(damaged(name, damage))
    for title, damage in damages(lengths).items()
  }
CASES |= {
  f'{name} in Python, {title}': Case(damaged(name, damage, PYTHON[name]))
  for name in PYTHON
  for title, damage in damages((0, 0.5, -1)).items()
}
CASES |= {
  f'cifar10 {title}': Case(damaged('cifar10', damage))
  for title, damage in damages((), (0.0, 0.1, 0.5, 0.9999)).items()
}
CASES |= {
  f'tiny_imagenet {title}': Case(damaged('tiny_imagenet', damage))
  for title, damage in damages((), (0.5, 0.9)).items()
}
CASES |= {
  'cifar10_corrupted, a header flipped': Case(
    damaged('cifar10_corrupted', lambda path: flip(path, 0.0))
  ),
  'cifar10, a directory': Case(damaged('cifar10', become_directory)),
  'cifar10, no permission': Case(damaged('cifar10', forbid)),
  'cifar10, text': Case(
    damaged('cifar10', lambda path: path.write_text('no tar'))
  ),
  'tiny_imagenet, a tar': Case(
    damaged(
      'tiny_imagenet', lambda path: path.write_bytes(gzip.compress(b'tar'))
    ),
  ),
  'cifar10, a member missing': Case(
    without('cifar10', f'{TEN}/data_batch_3.bin')
  ),
  'cifar10, a member cut': Case(bin_member(lambda data: data[:-1])),
  'cifar10, a member empty': Case(bin_member(lambda data: b'')),
  'cifar10, all members empty': Case(
    rewritten(
      'cifar10',
      lambda members: members.update(
        {name: b'' for name in members if name.endswith('.bin')}
      ),
    ),
  ),
  'cifar10, one image too few': Case(bin_member(lambda data: data[:-3073])),
  'cifar10, a label out of range': Case(bin_member(second_label(10))),
  'cifar10, other class names': Case(
    with_member('cifar10', f'{TEN}/batches.meta.txt', b'cat\ndog\n')
  ),
  'cifar10, class names that are no UTF-8': Case(
    with_member('cifar10', f'{TEN}/batches.meta.txt', b'\xff\n')
  ),
  'cifar10, a member that climbs out': Case(
    with_member('cifar10', '../evil', b'evil')
  ),
  'cifar10, a member that climbs out later': Case(
    with_member('cifar10', f'{TEN}/../../evil', b'evil')
  ),
  'cifar10, an absolute member': Case(
    with_member('cifar10', '/tmp/evil', b'evil')
  ),
  'cifar10, a Windows member': Case(
    with_member('cifar10', 'C:\\evil', b'evil')
  ),
  'cifar10, a symbolic link': Case(
    with_member(
      'cifar10', 'x', tar_info(f'{TEN}/link', tarfile.SYMTYPE, '/etc/passwd')
    ),
  ),
  'cifar10, a hard link': Case(
    with_member(
      'cifar10', 'x', tar_info(f'{TEN}/link', tarfile.LNKTYPE, '../../evil')
    ),
  ),
  'cifar10, a device': Case(
    with_member('cifar10', 'x', tar_info(f'{TEN}/null', tarfile.CHRTYPE))
  ),
  'cifar10, a member whose name is no UTF-8': Case(
    with_member('cifar10', '../\udcff', b'evil')
  ),
  'cifar10, a bomb among the images': Case(
    damaged('cifar10', zeros(f'{TEN}/data_batch_5.bin')), slow=True
  ),
  'cifar10, a bomb beside the images': Case(
    damaged('cifar10', zeros(f'{TEN}/readme.html'))
  ),
  'cifar10, a bomb after the end': Case(damaged('cifar10', endless)),
  'cifar100, a coarse label out of range': Case(
    rewritten(
      'cifar100',
      lambda members: members.update(
        {f'{HUNDRED}/test.bin': b'\x63' + members[f'{HUNDRED}/test.bin'][1:]}
      ),
    ),
  ),
  'cifar10 in Python, a pickle that makes a folder': Case(
    pickled(lambda content, place: Payload(place.path))
  ),
  'cifar10 in Python, labels that make a folder': Case(
    pickled(
      lambda content, place: {**content, b'labels': [Payload(place.path)]}
    ),
  ),
  'cifar10 in Python, class names that make a folder': Case(
    pickled(
      lambda content, place: {b'label_names': Payload(place.path)},
      member=f'{PICKLED}/batches.meta',
    ),
  ),
  **{
    f'cifar10 in Python, a call of {module}.{function}': Case(
      pickled(
        lambda content, place, module=module, function=function: call(
          module, function, f'mkdir {place.path}/executed'
        )
      ),
    )
    for module, function in (
      ('os', 'system'),
      ('posix', 'system'),
      ('builtins', 'eval'),
      ('numpy', 'load'),
      ('numpy', 'ndarray.tofile'),
    )
  },
  'cifar10 in Python, arrays of objects': Case(
    pickled(
      lambda content, place: {
        **content,
        b'data': np.array([Payload(place.path)], object),
      }
    ),
  ),
  'cifar10 in Python, a memo of 2^28 entries': Case(
    pickled(lambda content, place: b'\x80\x02Nr\xff\xff\xff\x0f.')
  ),
  'cifar10 in Python, a string of 2^40 bytes': Case(
    pickled(
      lambda content, place: (
        b'\x80\x04\x8e' + bytes(5) + b'\x01' + bytes(3) + b'.'
      )
    ),
  ),
  'cifar10 in Python, an array of 2^40 bytes': Case(
    pickled(lambda content, place: b'cnumpy\nndarray\n((L1099511627776L\nttR.'),
  ),
  'cifar10 in Python, lists in lists': Case(
    pickled(lambda content, place: b'(' * 5_000_00 + b'l' * 5_000_00 + b'.'),
  ),
  'cifar10 in Python, a pickle cut': Case(
    pickled(lambda content, place: small.pickle2(content)[:-9])
  ),
  'cifar10 in Python, float pixels': Case(
    pickled(changed_dict(data=np.zeros((4, 3072))))
  ),
  'cifar10 in Python, pixels of another shape': Case(
    pickled(changed_dict(data=np.zeros((4, 3073), np.uint8)))
  ),
  'cifar10 in Python, one label too few': Case(
    pickled(changed_dict(labels=[1, 2, 3]))
  ),
  'cifar10 in Python, a label out of range': Case(
    pickled(changed_dict(labels=[1, 2, 3, 10]))
  ),
  'cifar10 in Python, labels of text': Case(
    pickled(changed_dict(labels=['1', '2', '3', '4']))
  ),
  'cifar10 in Python, no dict': Case(pickled(lambda content, place: [1, 2])),
  'cifar10_corrupted, labels missing': Case(
    without('cifar10_corrupted', f'{CORRUPTED}/labels.npy')
  ),
  'cifar10_corrupted, a corruption missing': Case(
    without('cifar10_corrupted', f'{CORRUPTED}/glass_blur.npy')
  ),
  **{
    f'cifar10_corrupted, labels {title}': Case(
      array('cifar10_corrupted', f'{CORRUPTED}/labels.npy', make)
    )
    for title, make in {
      'of float': lambda labels: labels / 1,
      'out of range': lambda labels: labels * 10,
      'negative': lambda labels: labels.astype(int) - 1,
      'of another count': lambda labels: labels[:-1],
      'not repeated': np.sort,
    }.items()
  },
  **{
    f'cifar10_corrupted, images {title}': Case(
      array('cifar10_corrupted', f'{CORRUPTED}/glass_blur.npy', make),
      may_change='/tfds',
    )
    for title, make in {
      'of float': lambda images: images / 255,
      'of int8': lambda images: images.astype(np.int8),
      'of another count': lambda images: images[:-1],
      'of another shape': lambda images: images[:, :31],
      'in Fortran order': lambda images: np.asfortranarray(images),
    }.items()
  },
  'cifar10_corrupted, images cut': Case(
    rewritten(
      'cifar10_corrupted',
      lambda members: members.update(
        {
          f'{CORRUPTED}/glass_blur.npy': members[f'{CORRUPTED}/glass_blur.npy'][
            :-1
          ]
        }
      ),
    ),
  ),
  'cifar10_corrupted, pickled labels': Case(objects(f'{CORRUPTED}/labels.npy')),
  'cifar10_corrupted, pickled images': Case(
    objects(f'{CORRUPTED}/gaussian_noise.npy')
  ),
  'tiny_imagenet, a class list of others': Case(
    with_member('tiny_imagenet', f'{TINY}/wnids.txt', b'n1\nn2\n')
  ),
  'tiny_imagenet, a class list that is no UTF-8': Case(
    with_member('tiny_imagenet', f'{TINY}/wnids.txt', b'\xff')
  ),
  'tiny_imagenet, annotations missing': Case(
    without('tiny_imagenet', f'{TINY}/val/val_annotations.txt')
  ),
  'tiny_imagenet, annotations without classes': Case(
    with_member('tiny_imagenet', f'{TINY}/val/val_annotations.txt', b'a')
  ),
  'tiny_imagenet, annotations of one image': Case(
    with_member(
      'tiny_imagenet', f'{TINY}/val/val_annotations.txt', b'val_0.JPEG\tn1\n'
    ),
  ),
  'tiny_imagenet, a member that climbs out': Case(
    with_member('tiny_imagenet', f'{TINY}/../../evil', b'')
  ),
  'tiny_imagenet, an image that is text': Case(
    with_member('tiny_imagenet', f'{TINY}/val/images/val_5.JPEG', b'image')
  ),
  'tiny_imagenet, an image of another size': Case(
    with_member(
      'tiny_imagenet',
      f'{TINY}/val/images/val_5.JPEG',
      small.jpeg(9, shape=(32, 64, 3)),
    ),
  ),
  'tiny_imagenet, a bomb among the images': Case(
    damaged('tiny_imagenet', zip_bomb(f'{TINY}/val/images/val_5.JPEG')),
    slow=True,
  ),
  'tiny_imagenet, a bomb as class list': Case(
    damaged('tiny_imagenet', zip_bomb(f'{TINY}/wnids.txt')), slow=True
  ),
  'tiny_imagenet, encrypted': Case(damaged('tiny_imagenet', encrypted)),
  'tiny_imagenet, a member whose name is no UTF-8': Case(
    damaged('tiny_imagenet', no_utf8)
  ),
  'tiny_imagenet, a member twice': Case(damaged('tiny_imagenet', repeated)),
  'tiny_imagenet_corrupted, an image that is text': Case(
    with_member(
      'tiny_imagenet_corrupted',
      f'{TINY_C}/gaussian_noise/3/{small.WNIDS[5]}/test_5.JPEG',
      b'image',
    ),
  ),
  'tiny_imagenet_corrupted, an image missing': Case(
    without(
      'tiny_imagenet_corrupted',
      f'{TINY_C}/gaussian_noise/3/{small.WNIDS[5]}/test_5.JPEG',
    ),
  ),
  'tiny_imagenet_corrupted, a symbolic link': Case(
    with_member(
      'tiny_imagenet_corrupted',
      'x',
      tar_info(f'{TINY_C}/x', tarfile.SYMTYPE, '../../evil'),
    ),
  ),
  'a data_dir that is a file': Case(data_dir_file),
  'an unknown data set': Case(lambda place: place.prepare('cifar11')),
  'an unknown option': Case(lambda place: place.prepare('cifar10', '--x')),
  'no data set': Case(lambda place: place.prepare()),
}
# None of them computes. Configs that are whole stay; see `prepare`.
CASES = {
  name: case._replace(
    megabytes=200,
    may_change='/tfds' if '_corrupted' in name else case.may_change,
  )
  for name, case in CASES.items()
}
