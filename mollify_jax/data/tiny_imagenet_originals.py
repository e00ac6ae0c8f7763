"""Tiny ImageNet and its corrupted twin as tfds examples, in JPEG.

Labels count the WordNet ids in alphabetical order. Grey JPEGs, of which there
are some, are kept as they are.
"""

import io
import math
import os
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping

from mollify_jax.data import originals
from mollify_jax.data.facts import CorruptedFacts, Facts, file_name

Example = tuple[str, Mapping[str, object]]
ZIP_FOLDER = 'tiny-imagenet-200'
TAR_FOLDER = 'Tiny-ImageNet-C'
# Of bytes unpacked; the images are of 64 x 64 pixels.
_LARGEST_IMAGE, _LARGEST_TEXT = 1 << 20, 1 << 24


def read(
  path: str | os.PathLike, facts: Facts
) -> dict[str, Callable[[], Iterator[Example]]]:
  """The examples of both splits of tiny-imagenet-200.zip.

  Its test images have no labels and are left out; the 10,000 validation images
  are what everyone evaluates on.

  Args:
    path: the archive.
    facts: how many examples there must be, and of which classes.

  Returns:
    For each split what starts its examples. All names and counts have been
    checked; the images themselves are while they are read.

  Raises:
    ValueError: damaged, members missing, other counts or classes.
    OSError: the file cannot be read.
  """
  with originals.naming(path), zipfile.ZipFile(path) as archive:
    members = archive.namelist()
    for member in members:
      originals.check_name(member)
    if len(set(members)) != len(members):
      twice = next(name for name, n in Counter(members).items() if n > 1)
      raise ValueError(f'member {twice} is there twice; download it again')
    annotations = f'{ZIP_FOLDER}/val/val_annotations.txt'
    wnids = f'{ZIP_FOLDER}/wnids.txt'
    originals.check_members(set(members), [wnids, annotations])
    classes = originals.read_zip_member(archive, wnids, _LARGEST_TEXT)
    classes = classes.decode().split()
    if sorted(classes) != list(facts.class_names):
      difference = sorted({*classes} ^ {*facts.class_names})
      raise ValueError(
        f'wnids.txt lists {len(classes)} classes that are not the '
        f'{len(facts.class_names)} known ones (see {", ".join(difference[:3])})'
        '; download it again'
      )
    files = {
      'train': _train_files(members),
      facts.test_split: _validation_files(
        members,
        originals.read_zip_member(archive, annotations, _LARGEST_TEXT).decode(),
      ),
    }
    for split, count in facts.split_sizes.items():
      check_balance(
        split, Counter(files[split].values()), count, facts.class_names
      )
  return {
    split: _zip_examples(path, table, facts) for split, table in files.items()
  }


def read_corrupted(
  path: str | os.PathLike,
  facts: Facts,
  corrupted: CorruptedFacts,
  wanted: Collection[str],
  say: Callable[[str], None],
) -> Iterator[tuple[str, Callable[[], Iterator[Example]]]]:
  """The configs of Tiny-ImageNet-C.tar, each as soon as it is complete.

  One pass; in memory are the configs of which some but not all images have
  been met: one at a time, where the archive keeps each in one piece.

  Args:
    path: the archive.
    facts: of the clean data set.
    corrupted: of this one.
    wanted: names of configs; the others are skipped over.
    say: is told of classes that do not belong, which are left out.

  Yields:
    (name of the config, what starts its examples).

  Raises:
    ValueError: damaged, or a config whose images are not as many per class as
      they should be.
    OSError: the file cannot be read.
  """
  corruptions = {file_name(c): c for c in corrupted.corruptions}
  labels = {name: label for label, name in enumerate(facts.class_names)}
  pattern = re.compile(rf'{TAR_FOLDER}/(\w+)/(\d+)/(\w+)/([^/]+\.JPEG)')
  started: dict[str, dict[str, tuple[int, bytes]]] = {}
  finished = set()
  strangers: dict[str, Counter] = {}
  pixels = facts.test_examples * math.prod(facts.image_shape)
  largest = 2 * len(corrupted.configs) * pixels + (1 << 20)
  with originals.naming(path):
    for member, file in originals.tar_members(path, largest):
      match = pattern.fullmatch(member)
      if not match or match[1] not in corruptions:
        continue
      config = f'{corruptions[match[1]]}_{match[2]}'
      if config not in wanted:
        continue
      if match[3] not in labels:
        strangers.setdefault(corruptions[match[1]], Counter())[match[3]] += 1
        continue
      key = f'{match[3]}/{match[4]}'
      images = started.setdefault(config, {})
      if config in finished or key in images:
        raise ValueError(
          f'{config} holds {key} twice, or more than {facts.test_examples} '
          'images of the known classes; download it again'
        )
      images[key] = (
        labels[match[3]],
        _checked(member, file.read(_LARGEST_IMAGE), facts),
      )
      if len(images) == facts.test_examples:
        finished.add(config)
        _check_classes(config, images, facts)
        yield config, _tar_examples(started.pop(config))
    for corruption, counts in strangers.items():
      say(
        f'{corruption}: left out {counts.total()} images of {len(counts)} '
        'classes that Tiny ImageNet does not have; this is the folder that '
        'record 2536630 got wrong, Zenodo record 8206060 has it right'
      )
    for config in corrupted.configs:
      if config in wanted and config not in finished:
        _check_classes(config, started.get(config, {}), facts)


def check_balance(
  split: str, counts: Counter, total: int, class_names: Collection[str]
) -> None:
  """Refuses a split that is not `total` images, equally many per class.

  Raises:
    ValueError: another count, or another class; the first is named.
  """
  share = total // len(class_names)
  for name in [*class_names, *sorted({*counts} - {*class_names})]:
    wanted = share if name in class_names else 0
    if counts[name] != wanted:
      raise ValueError(
        f'{split} holds {counts[name]} images of class {name}, wanted {wanted}'
        f' ({counts.total()} images in all, wanted {total}); download it again'
      )


def _train_files(members: Collection[str]) -> dict[str, str]:
  """Class by member."""
  pattern = re.compile(rf'{ZIP_FOLDER}/train/(\w+)/images/[^/]+\.JPEG')
  matches = ((member, pattern.fullmatch(member)) for member in members)
  return {member: match[1] for member, match in matches if match}


def _validation_files(
  members: Collection[str], annotations: str
) -> dict[str, str]:
  """Class by member."""
  folder = f'{ZIP_FOLDER}/val/images/'
  lines = [line.split('\t') for line in annotations.splitlines()]
  if any(len(line) < 2 for line in lines):
    raise ValueError(
      'val_annotations.txt must have an image and its class in every line, '
      'with a tab between; download it again'
    )
  files = {folder + line[0]: line[1] for line in lines}
  originals.check_members(set(members), list(files))
  unlabelled = {
    member
    for member in members
    if member.startswith(folder) and member != folder
  } - set(files)
  if unlabelled or len(files) != len(lines):
    raise ValueError(
      f'val_annotations.txt has {len(lines)} lines for {len(files)} images and '
      f'lacks {len(unlabelled)}; wanted one line per image; download it again'
    )
  return files


def _zip_examples(path, table, facts) -> Callable[[], Iterator[Example]]:
  labels = {name: label for label, name in enumerate(facts.class_names)}

  def examples() -> Iterator[Example]:
    with originals.naming(path), zipfile.ZipFile(path) as archive:
      for member, name in table.items():
        data = originals.read_zip_member(archive, member, _LARGEST_IMAGE)
        data = _checked(member, data, facts)
        key = member.rpartition('/')[2]
        yield key, {'id': key, 'image': data, 'label': labels[name]}

  return examples


def _tar_examples(images) -> Callable[[], Iterator[Example]]:
  def examples() -> Iterator[Example]:
    for key, (label, data) in images.items():
      yield key, {'id': key, 'image': data, 'label': label}

  return examples


def _check_classes(config: str, images: Mapping, facts: Facts) -> None:
  counts = Counter(facts.class_names[label] for label, _ in images.values())
  check_balance(config, counts, facts.test_examples, facts.class_names)


def _checked(member: str, data: bytes, facts: Facts) -> bytes:
  """The data, if it begins as a JPEG of the right size."""
  from PIL import Image

  height, width = facts.image_shape[:2]
  try:
    with Image.open(io.BytesIO(data), formats=['JPEG']) as image:
      found = image.height, image.width
  except Exception:  # damaged bytes make Pillow raise anything
    found = None
  if found != (height, width):
    what = 'no JPEG' if found is None else f'{found[0]} x {found[1]} pixels'
    raise ValueError(
      f'member {member} is {what}, wanted a JPEG of {height} x {width} pixels; '
      'download it again'
    )
  return data
