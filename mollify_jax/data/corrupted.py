"""The corrupted test sets: every test image under 15 or 19 corruptions.

They are read from one of

  DATA_DIR/cifar10_corrupted/gaussian_noise_1/VERSION   as tfds prepares them
  PATH/gaussian_noise.npy   PATH/labels.npy             the official layout,
      uint8[5 N, H, W, C] with the severities one after the other, mapped
      into memory and not read before it is used
  PATH/gaussian_noise/1/CLASS/*.JPEG                    as ImageNet-C unpacks

The second is also what `mollify_jax.corruptions.make` writes, of any data set;
its folders have a manifest.json, and the published ones have none.

Corruptions go by the names of the files (glass_blur, elastic_transform);
tfds' own (frosted_glass_blur, elastic) are understood as well.

Order. A published folder keeps the order of the original archive's test
images. tfds orders examples by a hash of the split's name and their key, so
the clean CIFARs that it prepared are in another order: the first test image of
CIFAR-10 is number 9,933 of the archive. A folder made here is in the order in
which the clean images were read.
"""

import os
import pathlib
from collections.abc import Sequence

import numpy as np

from mollify_jax import errors
from mollify_jax.data import corrupted_manifest, dataset, folder, tfds_source
from mollify_jax.data.facts import (
  BENCHMARK_CORRUPTIONS,
  CORRUPTED,
  EXTRA_CORRUPTIONS,
  FACTS,
  FILE_NAMES,
  file_name,
)

# As the files are called, the 15 of the benchmark first.
FILES = tuple(map(file_name, BENCHMARK_CORRUPTIONS + EXTRA_CORRUPTIONS))
SEVERITIES = (1, 2, 3, 4, 5)
LABELS = 'labels.npy'
# Ends a message about a folder that is whole, but not of these images.
_MAKE_ANOTHER = (
  'make one of these test images with `python -m mollify_jax.corruptions.make`'
)
_TINY_FROST = (
  'the frost images of Zenodo record 2536630 are of 1,000 classes, record '
  '8206060 has them right'
)
_TFDS_NAMES = {file: name for name, file in FILE_NAMES.items()}


class CorruptedFolder:
  """A folder of .npy files in the layout of CIFAR-10-C, of any data set.

  Attributes:
    path: the folder.
    title: what tables call it: `NAME-C`, or `NAME-C-like` if it was made here.
    manifest: of what was made here; None for a published folder.
    corruptions: those that are there, under the names of `FILES` and in their
      order.
    labels: int32[N], the same for every severity.
    num_examples: N.
    num_classes: labels are in [0, num_classes).
  """

  def __init__(
    self,
    path: str | os.PathLike,
    name: str = '',
    *,
    labels: np.ndarray | None = None,
    same_order: bool = True,
    num_examples: int | None = None,
    image_shape: tuple[int, int, int] | None = None,
    num_classes: int | None = None,
    fingerprint: str = '',
  ):
    """Reads the labels and the manifest, but no image yet.

    Args:
      path: the folder.
      name: of the clean data set; '' is taken from the manifest, or from the
        folder.
      labels: int[N], of the clean test set, to compare with.
      same_order: whether those are in the order of a published folder's
        files. False for what tfds prepared: only the number of each label is
        compared then. A folder made here has the order of its clean images.
      num_examples: N; None is the number of `labels`, or what is there.
      image_shape: (H, W, C); None is what the first file has.
      num_classes: None is what the manifest says, or the largest label + 1.
      fingerprint: `corrupted_manifest.fingerprint` of the clean test
        set, which a folder made here must have been made from; '' is not
        compared, but then the name is.

    Raises:
      FileNotFoundError: no such folder, or no labels in it.
      ValueError: a damaged manifest, or a folder or labels that do not fit
        the clean test set.
    """
    self.path = pathlib.Path(path).expanduser()
    if not self.path.is_dir():
      raise FileNotFoundError(
        f'{str(self.path)!r} is not a folder; wanted one in the layout of '
        f'CIFAR-10-C: {LABELS} and one .npy per corruption'
      )
    self.manifest = corrupted_manifest.read(self.path)
    if labels is not None:
      labels = np.asarray(labels)
      num_examples = len(labels)
    if self.manifest is not None:
      self._check_manifest(
        name, fingerprint, num_examples, image_shape, num_classes
      )
      name = name or self.manifest.dataset
      num_examples = num_examples or self.manifest.num_examples
      image_shape = image_shape or self.manifest.image_shape
      num_classes = num_classes or self.manifest.num_classes
    self.title = (
      self.manifest.title
      if self.manifest is not None
      else (f'{name}-C' if name else self.path.resolve().name)
    )
    self.corruptions = tuple(
      file for file in FILES if (self.path / f'{file}.npy').exists()
    )
    self.labels = self._read_labels(num_examples, num_classes)
    self.num_examples = len(self.labels)
    self.num_classes = num_classes or int(self.labels.max()) + 1
    if labels is not None:
      self._check_clean(labels, same_order or self.manifest is not None)
    self._image_shape = None if image_shape is None else tuple(image_shape)

  def load(
    self, corruption: str, severity: int
  ) -> tuple[np.ndarray, np.ndarray]:
    """All test images under one corruption.

    Args:
      corruption: one of `corruptions`, or tfds' name of it.
      severity: 1..5; 1 is the mildest.

    Returns:
      (uint8[N, H, W, C], int32[N]), the first a read-only map of the file.

    Raises:
      ValueError: an unknown corruption or severity, or a file that is damaged
        or holds something else.
      FileNotFoundError: this one is not there.
    """
    file = file_name(corruption)
    if file not in FILES:
      raise ValueError(
        f'unknown corruption {corruption!r} of {self.title!r}; choose from '
        f'{", ".join(self.corruptions or FILES)}'
      )
    _check_severity(severity)
    images = self._open(file)
    first = SEVERITIES.index(severity) * self.num_examples
    return images[first : first + self.num_examples], self.labels

  def check(
    self, corruptions: Sequence[str] = (), *, checksums: bool = False
  ) -> None:
    """Refuses files that `load` would refuse, before hours are spent.

    Args:
      corruptions: which; () is all that are there.
      checksums: also compare what was made here with its manifest's SHA-256,
        for which all of it is read.

    Raises:
      ValueError, FileNotFoundError: as `load`; or there is no corruption, or
        a checksum is wrong.
    """
    if not corruptions and not self.corruptions:
      raise FileNotFoundError(
        f'{str(self.path)!r} holds no corruption{self._strangers()}; wanted '
        f'{FILES[0]}.npy and others'
      )
    for corruption in corruptions or self.corruptions:
      self.load(corruption, SEVERITIES[0])
    if checksums and self.manifest is not None:
      names = map(file_name, corruptions or self.corruptions)
      for file in (LABELS, *(f'{name}.npy' for name in names)):
        self._check_made(file, checksum=True)

  def _check_manifest(
    self,
    name: str,
    fingerprint: str,
    num_examples: int | None,
    image_shape: tuple[int, int, int] | None,
    num_classes: int | None,
  ) -> None:
    """Refuses what was made here of another clean test set."""
    made = self.manifest
    found = (made.num_examples, made.image_shape, made.num_classes)
    wanted = tuple(
      old if new is None else new
      for old, new in zip(
        found,
        (num_examples, image_shape and tuple(image_shape), num_classes),
        strict=True,
      )
    )
    if found != wanted:
      raise ValueError(
        f'{str(self.path)!r} was made of {_describe(*found)}, wanted '
        f'{_describe(*wanted)}; {_MAKE_ANOTHER}'
      )
    if fingerprint and made.fingerprint != fingerprint:
      raise ValueError(
        f'{str(self.path)!r} was made of other test images of '
        f'{made.dataset!r} than those that are clean; {_MAKE_ANOTHER}'
      )
    if name and not fingerprint and made.dataset != name:
      raise ValueError(
        f'{str(self.path)!r} was made of {made.dataset!r}, wanted {name!r}; '
        f'{_MAKE_ANOTHER}'
      )

  def _open(self, file: str) -> np.ndarray:
    """uint8[5 N, H, W, C], mapped."""
    path = self.path / f'{file}.npy'
    _refuse_directory(path)
    if not path.is_file():
      raise FileNotFoundError(
        f'{str(path)!r} does not exist{self._why_missing(file)}'
      )
    self._check_made(path.name)
    images = _map(path)
    count, repeats = self.num_examples, len(SEVERITIES)
    if self._image_shape is None and images.ndim == 4:
      self._image_shape = images.shape[1:]
    shape = self._image_shape or ('H', 'W', 'C')
    wanted = (repeats * count, *shape)
    if images.dtype != np.uint8 or images.shape != wanted:
      raise ValueError(
        f'{str(path)!r} holds {images.dtype} of shape {images.shape!r}, wanted '
        f'uint8 of shape {wanted!r}{_severities_missing(images, count)}; '
        f'{self._remedy(file)}'
      )
    return images

  def _read_labels(
    self, num_examples: int | None, num_classes: int | None
  ) -> np.ndarray:
    """int32[N], once they are the same for every severity."""
    path = self.path / LABELS
    _refuse_directory(path)
    if not path.is_file():
      raise FileNotFoundError(
        f'{str(path)!r} does not exist; wanted a folder in the layout of '
        f'CIFAR-10-C: {LABELS} and one .npy per corruption; copy it into the '
        f'folder{self._hint()}'
      )
    self._check_made(LABELS)
    labels = _map(path)
    repeats = len(SEVERITIES)
    is_list = labels.ndim == 1 and labels.dtype.kind in 'iu'
    if num_examples is None:
      if not is_list or len(labels) % repeats or not len(labels):
        raise ValueError(
          f'{str(path)!r} holds {labels.dtype} of shape {labels.shape!r}, '
          f'wanted integers, the test labels {repeats} times; '
          f'{self._remedy()}'
        )
      num_examples = len(labels) // repeats
    if not is_list or len(labels) != repeats * num_examples:
      raise ValueError(
        f'{str(path)!r} holds {labels.dtype} of shape {labels.shape!r}, wanted '
        f'integers of shape ({repeats * num_examples},)'
        f'{_severities_missing(labels, num_examples)}; {self._remedy()}'
      )
    parts = np.asarray(labels).reshape(repeats, num_examples)
    if (parts != parts[0]).any():
      raise ValueError(
        f'{str(path)!r} does not repeat the {num_examples} test labels '
        f'{repeats} times; {self._remedy()}'
      )
    if num_classes is None:  # at least none below 0
      num_classes = max(int(parts[0].max()) + 1, 1)
    try:
      dataset.check_labels('test', parts[0], num_examples, num_classes)
    except ValueError as error:
      raise ValueError(f'{str(path)!r}: {error}; {self._remedy()}') from error
    return parts[0].astype(np.int32)

  def _check_clean(self, clean: np.ndarray, same_order: bool) -> None:
    """Compares with the labels of the clean test set."""
    if same_order and np.array_equal(self.labels, clean):
      return
    path = str(self.path / LABELS)
    remedy = 'copy it again' if self.manifest is None else _MAKE_ANOTHER
    classes = max(self.num_classes, int(clean.max()) + 1)
    found = np.bincount(self.labels, minlength=classes)
    wanted = np.bincount(clean, minlength=classes)
    if (found != wanted).any():
      label = int(np.flatnonzero(found != wanted)[0])
      raise ValueError(
        f'{path!r} holds label {label} {found[label]} times per severity, '
        f'wanted {wanted[label]} times, as in the clean test set; '
        f'{remedy}'
      )
    if same_order:
      first = int(np.flatnonzero(self.labels != clean)[0])
      raise ValueError(
        f'{path!r} has the labels of the clean test set in another order (the '
        f'first to differ is number {first}): shuffled files; {remedy}'
        ', or read the clean images in the order of the archive'
      )

  def _check_made(self, file: str, *, checksum: bool = False) -> None:
    """Compares a file that was made here with its manifest."""
    if self.manifest is None:
      return
    if file not in self.manifest.files:
      raise ValueError(
        f"{str(self.path / file)!r} is not in the folder's manifest, so "
        'nobody knows what it is; move it away'
      )
    damage = corrupted_manifest.damage(
      self.path, self.manifest, file, checksum=checksum
    )
    if damage:
      raise ValueError(f'{str(self.path / file)!r} {damage}; {self._remedy()}')

  def _remedy(self, file: str = '') -> str:
    """What to do about a damaged file, for the end of a message."""
    if self.manifest is not None:
      return f'run `{self.manifest.command}` again'
    if file == 'frost' and 'tiny' in self.title.lower():
      # Record 2536630 has the frost images of all of ImageNet.
      return _TINY_FROST
    return 'copy it again'

  def _why_missing(self, file: str) -> str:
    """Ends a message about a file that is not there."""
    made = self.manifest
    if made is None:
      there = ', '.join(self.corruptions) or 'no corruption'
      return (
        f'; there is {there}{self._strangers()}; copy it into the folder, or '
        'choose others in config.eval.corruptions'
      )
    if file in made.skipped:
      return f': it was skipped; {made.skipped[file]}'
    if file in made.corruptions:
      return f': it is not made yet; {self._remedy()}'
    return (
      f': it was not asked for; run `{made.command}` again with '
      f'--corruptions={file}'
    )

  def _strangers(self) -> str:
    """Names files that may be misnamed."""
    known = {LABELS, *(f'{file}.npy' for file in FILES)}
    others = sorted(
      path.name for path in self.path.glob('*.npy') if path.name not in known
    )
    return (
      f' (and {", ".join(others[:5])}, of which nothing is known)'
      if (others)
      else ''
    )

  def _hint(self) -> str:
    """Where the folder that was meant may be."""
    inside = sorted(self.path.glob(f'*/{LABELS}'))
    if inside:
      return f'; did you mean {str(inside[0].parent)!r}?'
    if any((self.path / file).is_dir() for file in FILES):
      return (
        '; this one has folders of images: prepare its archive with `python -m '
        'mollify_jax.data.prepare tiny_imagenet_corrupted`'
      )
    return ''


class CorruptedTestSet:
  """One published test set, by corruption and severity.

  Attributes:
    name: in `facts.CORRUPTED`.
    facts: which corruptions and severities there can be.
    clean: facts of the data set that was corrupted.
    title: what tables call it; see `CorruptedFolder`.
    corruptions: those that are there, at all severities, under the names of
      `FILES`.
    num_classes: labels are in [0, num_classes).
  """

  def __init__(self, name: str, path: str | os.PathLike = ''):
    """Looks for the files; none is read yet.

    Args:
      name: one of `facts.CORRUPTED`.
      path: a folder of .npy files, or a data_dir of tfds; '' is tfds' default.

    Raises:
      ValueError: an unknown name, labels that are not the test labels once
        per severity, or a folder made here of another data set.
    """
    if name not in CORRUPTED:
      raise ValueError(
        f'unknown corrupted data set {name!r}; choose from '
        f'{", ".join(CORRUPTED)}'
      )
    self.name = name
    self.facts = CORRUPTED[name]
    self.clean = FACTS[self.facts.clean]
    self.num_classes = len(self.clean.class_names)
    self._path = path
    self._folder = None
    if path and _is_npy_folder(pathlib.Path(path).expanduser()):
      self._folder = CorruptedFolder(
        path,
        self.facts.clean,
        num_examples=self.clean.test_examples,
        image_shape=self.clean.image_shape,
        num_classes=self.num_classes,
      )
      _check_balance(
        str(self._folder.path / LABELS), self._folder.labels, self.num_classes
      )

  def check(
    self, corruptions: Sequence[str], labels: np.ndarray | None = None
  ) -> None:
    """Refuses what is not there, before hours are spent.

    Args:
      corruptions: which will be loaded.
      labels: int[N] of the clean test set, to compare their number.

    Raises:
      FileNotFoundError: one of them is not there at all severities.
      ValueError: the clean test set has another size.
    """
    there = self.corruptions
    for corruption in corruptions:
      if file_name(corruption) not in there:
        raise FileNotFoundError(
          f'{corruption!r} of {self.name!r} is not prepared at all severities; '
          f'there is {", ".join(there) or "none"}; prepare it with `python -m '
          f'mollify_jax.data.prepare {self.name}`'
        )
    if labels is not None and len(labels) != self.clean.test_examples:
      raise ValueError(
        f'{self.name!r} has {self.clean.test_examples} images per corruption, '
        f'and the clean test set here {len(labels)}; evaluate on all of it '
        '(test_examples=0)'
      )

  @property
  def title(self) -> str:
    return self._folder.title if self._folder else f'{self.facts.clean}-C'

  @property
  def corruptions(self) -> tuple[str, ...]:
    known = [file_name(corruption) for corruption in self.facts.corruptions]
    if self._folder is not None:
      return tuple(file for file in self._folder.corruptions if file in known)
    root = pathlib.Path(
      self._path or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
    ).expanduser()
    return tuple(
      file
      for file in known
      if all(
        any((root / self.name).glob(f'{config}/*/dataset_info.json'))
        for config, (corruption, _) in self.facts.configs.items()
        if file_name(corruption) == file
      )
    )

  def load(
    self, corruption: str, severity: int
  ) -> tuple[np.ndarray, np.ndarray]:
    """All test images under one corruption.

    Args:
      corruption: one of `facts.corruptions`, or the name of its file.
      severity: one of `facts.severities`; 1 is the mildest.

    Returns:
      (uint8[N, H, W, C], int32[N]); a read-only map of the file where that
      is an .npy.

    Raises:
      ValueError: an unknown corruption or severity, or files that are damaged
        or do not hold what `facts` says.
      FileNotFoundError: this one is not there.
    """
    corruption = _TFDS_NAMES.get(corruption, corruption)
    if corruption not in self.facts.corruptions:
      raise ValueError(
        f'unknown corruption {corruption!r} of {self.name!r}; choose from '
        f'{", ".join(self.facts.corruptions)}'
      )
    _check_severity(severity)
    if self._folder is None:
      return tfds_source.load_corrupted(
        self.name, f'{corruption}_{severity}', self._path
      )
    return self._folder.load(corruption, severity)


class CorruptedTree:
  """Folders of images, PATH/CORRUPTION/SEVERITY/CLASS, as ImageNet-C has them.

  Attributes:
    title: `NAME-C`.
    path: the folder.
  """

  def __init__(
    self,
    path: str | os.PathLike,
    name: str,
    *,
    class_names: Sequence[str],
    num_examples: int,
  ):
    """Lists nothing yet.

    Args:
      path: the folder, of all corruptions or of the folders that the archives
        unpack to (noise, blur, weather, digital, extra).
      name: of the clean data set.
      class_names: those of the clean data set, in the order of its labels.
      num_examples: of its test set.
    """
    self.path = pathlib.Path(path).expanduser()
    self.title = f'{name}-C'
    self._name = name
    self._class_names = tuple(class_names)
    self._num_examples = num_examples

  @staticmethod
  def is_at(path: str | os.PathLike) -> bool:
    """Whether a folder looks like one."""
    folder = pathlib.Path(path).expanduser()
    return any(
      any(folder.glob(f'{prefix}{file}/1'))
      for prefix in ('', '*/')
      for file in FILES
    )

  def check(self, corruptions: Sequence[str]) -> None:
    """Refuses what `source` would refuse, before hours are spent.

    Every severity is looked for, and the lightest is listed.
    """
    for corruption in corruptions:
      for severity in SEVERITIES:
        self._place(file_name(corruption), severity)
      self.source(corruption, SEVERITIES[0])

  def source(self, corruption: str, severity: int) -> folder.FolderSource:
    """The encoded images of one cell, for `streaming`.

    Raises:
      ValueError: an unknown corruption or severity, or other classes or
        another number of images than the clean test set has.
      FileNotFoundError: this one is not there.
    """
    file = file_name(corruption)
    if file not in FILES:
      raise ValueError(
        f'unknown corruption {corruption!r} of {self.title!r}; choose from '
        f'{", ".join(FILES)}'
      )
    _check_severity(severity)
    place = self._place(file, severity)
    files = folder.list_classes(place)
    strangers = sorted(files.keys() - set(self._class_names))
    missing = sorted(set(self._class_names) - files.keys())
    if strangers or missing:
      problem = (
        f'{len(strangers)} folders that are no class of {self._name!r}, such '
        f'as {strangers[0]!r}'
        if strangers
        else f'no folder of {len(missing)} classes, such as {missing[0]!r}'
      )
      remedy = 'unpack it again'
      if file == 'frost' and 'tiny' in self._name:
        remedy = _TINY_FROST
      raise ValueError(f'{str(place)!r} holds {problem}; {remedy}')
    found = sum(map(len, files.values()))
    if found != self._num_examples:
      raise ValueError(
        f'{str(place)!r} holds {found} images, wanted '
        f'{self._num_examples} as in the clean test set; unpack it again'
      )
    ordered = {name: files[name] for name in self._class_names}
    return folder.FolderSource(place, self._class_names, ordered)

  def _place(self, file: str, severity: int) -> pathlib.Path:
    places = [
      place
      for prefix in ('', '*/')
      for place in sorted(self.path.glob(f'{prefix}{file}/{severity}'))
    ]
    if not places:
      raise FileNotFoundError(
        f'{str(self.path / file / str(severity))!r} does not exist; wanted '
        'folders CORRUPTION/SEVERITY/CLASS as in ImageNet-C'
      )
    if len(places) > 1:
      raise ValueError(
        f'{str(places[0])!r} and {str(places[1])!r} are the same corruption '
        'and severity; move one of them away'
      )
    return places[0]


def _describe(num_examples, image_shape, num_classes) -> str:
  height, width, channels = image_shape
  return (
    f'{num_examples} images of {height} x {width} x {channels} in '
    f'{num_classes} classes'
  )


def _is_npy_folder(folder: pathlib.Path) -> bool:
  return any(folder.glob('*.npy'))


def _check_severity(severity: int) -> None:
  if severity not in SEVERITIES:
    raise ValueError(
      f'severity must be one of {SEVERITIES!r}, got {severity!r}'
    )


def _severities_missing(array: np.ndarray, count: int) -> str:
  """Says so if that is all that is wrong with a number of rows."""
  rows = array.shape[0] if array.ndim else 0
  repeats = len(SEVERITIES)
  if rows % count or rows // count == repeats or not rows:
    return ''
  found = rows // count
  if found % repeats == 0:
    return (
      f' (it is of {found // repeats} times as many images; the clean test set '
      f'was cut to {count})'
    )
  problem = 'a missing severity' if found < repeats else 'too many severities'
  return f' ({problem}: {found} times {count} rows, not {repeats} times)'


def _check_balance(what: str, labels: np.ndarray, num_classes: int) -> None:
  """All three data sets have as many test images of every class."""
  if len(labels) % num_classes:
    return
  counts = np.bincount(labels, minlength=num_classes)
  if (counts != counts[0]).any():
    raise ValueError(
      f'{what} holds {counts.min()} to {counts.max()} labels per class, '
      f'wanted {len(labels) // num_classes} of each, as in the clean test set; '
      'copy it again'
    )


def _refuse_directory(path: pathlib.Path) -> None:
  if path.is_dir():
    raise IsADirectoryError(
      f'{str(path)!r} is a directory; wanted a whole .npy of numbers; move it '
      'away and copy the file again'
    )


def _map(path: pathlib.Path) -> np.ndarray:
  """An .npy file as a read-only map; never with pickled objects."""
  try:
    array = np.load(path, mmap_mode='r', allow_pickle=False)
    if not isinstance(array, np.memmap):
      array.close()
      raise ValueError('it is an .npz, or something else that is no .npy')
    surplus = path.stat().st_size - array.offset - array.nbytes
    if surplus:
      raise ValueError(f'{surplus} bytes more than its header says')
    return array
  except Exception as error:  # not an .npy, cut short, or of objects
    if errors.is_bare(error):  # the file may be whole
      raise
    reason = errors.one_line(error)
    # numpy goes on with how to load them all the same.
    if 'pickle' in reason or 'Python objects' in reason:
      reason = 'it holds pickled objects, which are never loaded, or is damaged'
    raise ValueError(
      f'{str(path)!r} cannot be read ({reason}); wanted a whole .npy of '
      'numbers; copy it again'
    ) from error
