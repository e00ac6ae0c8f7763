"""CIFAR-10, CIFAR-100 and their corrupted test sets as tfds examples.

An example is what a tfds builder yields: (key, {feature: value}), images as
PNG files. Keys are those of tfds' own builders, so that tfds, which orders
examples by a hash of the key, writes them in the order known from elsewhere.
"""

import dataclasses
import functools
import io
import itertools
import os
from collections.abc import Callable, Collection, Iterator, Mapping

import numpy as np

from mollify_jax.data import originals
from mollify_jax.data.facts import CorruptedFacts, Facts, file_name

Example = tuple[int | str, Mapping[str, object]]
LABELS_MEMBER = 'labels.npy'
_IMAGE_BYTES = 3074  # at most, with its labels


@dataclasses.dataclass(frozen=True)
class _Layout:
  """One data set's members, in both of its archives.

  Attributes:
    folders: the top folders of the binary and of the Python archive.
    members: file names without `.bin`, of each split.
    meta: file name of the class names in the Python archive.
    labels: (feature, binary file of its class names, Python key of the names,
      Python key of the labels), in the order of the bytes before an image.
  """

  folders: tuple[str, str]
  members: Mapping[str, tuple[str, ...]]
  meta: str
  labels: tuple[tuple[str, str, bytes, bytes], ...]


_LAYOUTS = {
  'cifar10': _Layout(
    folders=('cifar-10-batches-bin', 'cifar-10-batches-py'),
    members={
      'train': tuple(f'data_batch_{i}' for i in range(1, 6)),
      'test': ('test_batch',),
    },
    meta='batches.meta',
    labels=(('label', 'batches.meta.txt', b'label_names', b'labels'),),
  ),
  'cifar100': _Layout(
    folders=('cifar-100-binary', 'cifar-100-python'),
    members={'train': ('train',), 'test': ('test',)},
    meta='meta',
    labels=(
      (
        'coarse_label',
        'coarse_label_names.txt',
        b'coarse_label_names',
        b'coarse_labels',
      ),
      ('label', 'fine_label_names.txt', b'fine_label_names', b'fine_labels'),
    ),
  ),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Cifar:
  """The contents of one archive.

  Attributes:
    names: class names of each label feature.
    images: uint8[N, 32, 32, 3] of each split.
    labels: uint8[N] of each label feature, of each split.
  """

  names: Mapping[str, tuple[str, ...]]
  images: Mapping[str, np.ndarray]
  labels: Mapping[str, Mapping[str, np.ndarray]]

  def splits(self) -> dict[str, Callable[[], Iterator[Example]]]:
    """What starts the examples of each split, in the order of the archive."""
    return {
      split: functools.partial(self._examples, split) for split in self.images
    }

  def _examples(self, split: str) -> Iterator[Example]:
    for index, image in enumerate(self.images[split]):
      labels = self.labels[split].items()
      yield (
        index,
        {
          'id': f'{split}_{index:05d}',
          'image': encode_png(image),
          **{feature: int(array[index]) for feature, array in labels},
        },
      )


def read(path: str | os.PathLike, name: str, facts: Facts) -> Cifar:
  """Reads the binary or the Python archive of a CIFAR; which, is seen.

  Args:
    path: the archive.
    name: 'cifar10' or 'cifar100'.
    facts: how many examples there must be, and of which classes.

  Raises:
    ValueError: damaged, members missing, other counts, labels or classes.
    OSError: the file cannot be read.
  """
  layout = _LAYOUTS[name]
  with originals.naming(path):
    # The Toronto archives hold 180 MB: read once, whole.
    largest = 2 * sum(facts.split_sizes.values()) * _IMAGE_BYTES + (1 << 20)
    members = {
      member: file.read()
      for member, file in originals.tar_members(path, largest)
    }
    is_python = any(
      member.startswith(f'{layout.folders[1]}/') for member in members
    )
    if is_python:
      names, parts = _read_python(layout, members)
    else:
      names, parts = _read_binary(layout, members)
    return _assemble(facts, names, parts)


def read_corrupted(
  path: str | os.PathLike,
  facts: Facts,
  corrupted: CorruptedFacts,
  wanted: Collection[str],
) -> Iterator[tuple[str, Callable[[], Iterator[Example]]]]:
  """The configs of a corrupted test set, in the order of the archive.

  Args:
    path: CIFAR-10-C.tar or CIFAR-100-C.tar.
    facts: of the clean data set.
    corrupted: of this one.
    wanted: names of configs; the others are skipped over.

  Yields:
    (name of the config, its examples). Names and labels of all members are
    checked before the first; 10,000 images are in memory at a time.

  Raises:
    ValueError: damaged, members missing, or arrays that are not as wanted.
    OSError: the file cannot be read.
  """
  num_images = facts.test_examples
  num_severities = len(corrupted.severities)
  rows = num_images * num_severities
  configs = corrupted.configs
  needed = {configs[config][0] for config in wanted}
  corruptions = {f'{file_name(c)}.npy': c for c in needed}
  largest = 2 * len(corrupted.corruptions) * rows * _IMAGE_BYTES + (1 << 20)
  with originals.naming(path):
    labels = _corrupted_labels(
      path, list(corruptions), num_severities, num_images, facts, largest
    )
    for member, file in originals.tar_members(path, largest):
      corruption = corruptions.pop(_base_name(member), None)
      if corruption is None:
        continue
      blocks = originals.npy_blocks(
        member, file, (rows, *facts.image_shape), num_severities
      )
      for severity, images in zip(corrupted.severities, blocks, strict=True):
        config = f'{corruption}_{severity}'
        if config in wanted:
          yield config, _corrupted_examples(images, labels)


def _corrupted_examples(images, labels) -> Callable[[], Iterator[Example]]:
  def examples() -> Iterator[Example]:
    pairs = zip(images, labels.tolist(), strict=True)
    for index, (image, label) in enumerate(pairs):
      yield index, {'image': encode_png(image), 'label': label}

  return examples


def encode_png(image: np.ndarray) -> bytes:
  """uint8[H, W, 3] as a PNG file; lossless."""
  from PIL import Image

  file = io.BytesIO()
  Image.fromarray(image).save(file, 'PNG')
  return file.getvalue()


def _read_binary(layout: _Layout, members: Mapping[str, bytes]):
  """(class names, (images, labels) of each member of each split)."""
  folder = layout.folders[0]
  files = [f'{m}.bin' for group in layout.members.values() for m in group]
  files += [names_file for _, names_file, _, _ in layout.labels]
  originals.check_members(members, [f'{folder}/{file}' for file in files])
  names = {
    feature: tuple(members[f'{folder}/{file}'].decode().split())
    for feature, file, _, _ in layout.labels
  }
  features = [feature for feature, *_ in layout.labels]
  record = len(features) + 3072
  parts = {}
  for split, group in layout.members.items():
    parts[split] = []
    for member in group:
      data = members[f'{folder}/{member}.bin']
      if len(data) % record:
        raise ValueError(
          f'member {member}.bin is {len(data)} bytes long, wanted a multiple '
          f'of {record}; download the archive again'
        )
      array = np.frombuffer(data, np.uint8).reshape(-1, record)
      labels = {name: array[:, i] for i, name in enumerate(features)}
      parts[split].append((array[:, len(features) :], labels))
  return names, parts


def _read_python(layout: _Layout, members: Mapping[str, bytes]):
  """The same, from pickles."""
  folder = layout.folders[1]
  files = [m for group in layout.members.values() for m in group]
  files.append(layout.meta)
  originals.check_members(members, [f'{folder}/{file}' for file in files])

  def load(file: str, keys: list[bytes]) -> list:
    content = originals.load_pickle(file, members[f'{folder}/{file}'])
    missing = not isinstance(content, dict) or set(keys) - set(content)
    if missing:
      raise ValueError(
        f'member {file} is not a dict with the keys '
        f'{", ".join(key.decode() for key in keys)}; download the archive again'
      )
    return [content[key] for key in keys]

  all_names = load(layout.meta, [key for _, _, key, _ in layout.labels])
  names = {}
  for (feature, *_), values in zip(layout.labels, all_names, strict=True):
    if not isinstance(values, list) or any(
      not isinstance(value, bytes) for value in values
    ):
      raise ValueError(
        f'member {layout.meta} holds no list of class names; download the '
        'archive again'
      )
    names[feature] = tuple(value.decode() for value in values)
  parts = {}
  for split, group in layout.members.items():
    parts[split] = []
    for member in group:
      pixels, *columns = load(
        member, [b'data', *(key for _, _, _, key in layout.labels)]
      )
      parts[split].append(_python_part(layout, member, pixels, columns))
  return names, parts


def _python_part(layout, member, pixels, columns):
  """(uint8[n, 3072], labels) of one unpickled member."""
  if (
    not isinstance(pixels, np.ndarray)
    or pixels.dtype != np.uint8
    or pixels.ndim != 2
    or pixels.shape[1] != 3072
  ):
    raise ValueError(
      f'the data of member {member} is no uint8[n, 3072]; download the archive '
      'again'
    )
  labels = {}
  for (feature, *_), column in zip(layout.labels, columns, strict=True):
    if (
      not isinstance(column, list)
      or len(column) != len(pixels)
      or any(type(label) is not int or not 0 <= label < 256 for label in column)
    ):
      raise ValueError(
        f'the labels of member {member} are not {len(pixels)} class indices, '
        'one per image; download the archive again'
      )
    labels[feature] = np.array(column, np.uint8)
  return pixels, labels


def _assemble(facts: Facts, names, parts) -> Cifar:
  """Puts the members of each split together, once they are as wanted."""
  pairs = itertools.zip_longest(names['label'], facts.class_names)
  for label, (found, wanted) in enumerate(pairs):
    if found != wanted:
      raise ValueError(
        f'its class {label} is {found!r}, wanted {wanted!r}; download it again'
      )
  images, labels = {}, {}
  for split, wanted in facts.split_sizes.items():
    pixels = np.concatenate([part for part, _ in parts[split]])
    if len(pixels) != wanted:
      raise ValueError(
        f'it holds {len(pixels)} {split} images, wanted {wanted}; download it '
        'again'
      )
    # Stored as all red, all green, all blue.
    planes = pixels.reshape(-1, 3, *facts.image_shape[:2])
    images[split] = planes.transpose(0, 2, 3, 1)
    labels[split] = {}
    for feature, classes in names.items():
      column = np.concatenate([part[feature] for _, part in parts[split]])
      if column.max() >= len(classes):
        index = int(np.argmax(column >= len(classes)))
        raise ValueError(
          f'{feature} of {split} image {index} is {column[index]}, wanted a '
          f'class index in [0, {len(classes) - 1}]; download it again'
        )
      labels[split][feature] = column
  return Cifar(names, images, labels)


def _corrupted_labels(
  path, files, num_severities, num_images, facts, largest
) -> np.ndarray:
  """The clean labels int[num_images], and that no member is missing."""
  labels = None
  present = set()
  for member, file in originals.tar_members(path, largest):
    name = _base_name(member)
    if name in present:
      raise ValueError(f'member {name} is there twice; download it again')
    present.add(name)
    if name == LABELS_MEMBER:
      labels = originals.read_npy(
        member, file, (num_severities * num_images,)
      ).reshape(num_severities, num_images)
  originals.check_members(present, [LABELS_MEMBER, *sorted(files)])
  if (labels != labels[0]).any():
    severity, index = np.argwhere(labels != labels[0])[0]
    raise ValueError(
      f'{LABELS_MEMBER} is not the test labels {num_severities} times over: '
      f'label {index} is {labels[0, index]} at first and '
      f'{labels[severity, index]} at repetition {severity + 1}; download it '
      'again'
    )
  num_classes = len(facts.class_names)
  if labels.min() < 0 or labels.max() >= num_classes:
    raise ValueError(
      f'{LABELS_MEMBER} holds labels in [{labels.min()}, {labels.max()}], '
      f'wanted class indices in [0, {num_classes - 1}]; download it again'
    )
  return labels[0]


def _base_name(member: str) -> str:
  return member.rpartition('/')[2]
