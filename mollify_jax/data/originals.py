"""The archives as their authors published them: where, which, how to open.

What a member means is told by `cifar_originals` and
`tiny_imagenet_originals`. Nothing is ever extracted: members are read in
memory.
"""

import contextlib
import dataclasses
import hashlib
import io
import lzma
import os
import pathlib
import pickle
import posixpath
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

from mollify_jax.errors import one_line


@dataclasses.dataclass(frozen=True)
class Original:
  """One published archive.

  Attributes:
    file_name: what its authors call it.
    url: where it is.
    size: in bytes; 0 is unknown.
    digest: 'sha256:HEX' or 'md5:HEX'; '' is unknown.
    note: for whom another archive of the name has been refused.
  """

  file_name: str
  url: str
  size: int = 0
  digest: str = ''
  note: str = ''


TORONTO = 'https://www.cs.toronto.edu/~kriz'
ZENODO = 'https://zenodo.org/records'

# Each data set's archives; any one of them will do, the first is downloaded.
# The SHA-256 come from tensorflow_datasets 4.9.10 (url_checksums/), the MD5 of
# the -python archives from torchvision, the others from the Zenodo records and
# TorchUncertainty.
ORIGINALS = {
  'cifar10': (
    Original(
      'cifar-10-binary.tar.gz',
      f'{TORONTO}/cifar-10-binary.tar.gz',
      170_052_171,
      'sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd',
    ),
    Original(
      'cifar-10-python.tar.gz',
      f'{TORONTO}/cifar-10-python.tar.gz',
      170_498_071,
      'md5:c58f30108f718f92721af3b95e74349a',
    ),
  ),
  'cifar100': (
    Original(
      'cifar-100-binary.tar.gz',
      f'{TORONTO}/cifar-100-binary.tar.gz',
      168_513_733,
      'sha256:58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec',
    ),
    Original(
      'cifar-100-python.tar.gz',
      f'{TORONTO}/cifar-100-python.tar.gz',
      169_001_437,
      'md5:eb9058c3a382ffc7106e4002c42a8d85',
    ),
  ),
  'cifar10_corrupted': (
    Original(
      'CIFAR-10-C.tar',
      f'{ZENODO}/2535967/files/CIFAR-10-C.tar',
      2_918_471_680,
      'sha256:c72763e101c723b7c507b96205f7e938912a5d587376173b825850cf3cb876a7',
    ),
  ),
  'cifar100_corrupted': (
    Original(
      'CIFAR-100-C.tar',
      f'{ZENODO}/3555552/files/CIFAR-100-C.tar',
      2_918_473_216,
      'md5:11f0ed0f1191edbf9fa23466ae6021d3',
    ),
  ),
  'tiny_imagenet': (
    Original(
      'tiny-imagenet-200.zip',
      'http://cs231n.stanford.edu/tiny-imagenet-200.zip',
      248_100_043,
      'md5:90528d7ca1a48142e341f4ef8d21d0de',
    ),
  ),
  # Record 8206060 and not the authors' 2536630, whose frost folder holds 1,000
  # classes by mistake (github.com/hendrycks/robustness/issues/60).
  'tiny_imagenet_corrupted': (
    Original(
      'Tiny-ImageNet-C.tar',
      f'{ZENODO}/8206060/files/Tiny-ImageNet-C.tar',
      1_794_775_040,
      'md5:f9c9a9dbdc11469f0b850190f7ad8be1',
      'that of Zenodo record 2536630 has a wrong frost folder',
    ),
  ),
}

# Its __module__ changed with NumPy 2, and the files name the old one.
_RECONSTRUCT = np.empty(0).__reduce__()[0]
# What the standard library raises for damaged data; RuntimeError is zipfile's
# for what it cannot decrypt or decompress.
_DAMAGE = (
  tarfile.TarError,
  zipfile.BadZipFile,
  zlib.error,
  lzma.LZMAError,
  EOFError,
  RuntimeError,
  OSError,
)
# Tars are filled up to whole blocks, by default of 10 KiB.
_LARGEST_END = 1 << 20
# All that a pickle of the CIFARs needs beyond lists, dicts, text and numbers.
_ADMITTED = {
  ('numpy.core.multiarray', '_reconstruct'): _RECONSTRUCT,
  ('numpy._core.multiarray', '_reconstruct'): _RECONSTRUCT,
  ('numpy', 'ndarray'): np.ndarray,
  ('numpy', 'dtype'): np.dtype,
}


def find(
  name: str,
  directory: str | os.PathLike,
  originals: Mapping[str, Sequence[Original]] = ORIGINALS,
) -> tuple[pathlib.Path, Original]:
  """The first of a data set's archives that lies in a directory.

  Raises:
    FileNotFoundError: there is none; the message names them and their URL.
  """
  for original in originals[name]:
    path = pathlib.Path(directory).expanduser() / original.file_name
    if path.is_file():
      return path, original
  wanted = ' or '.join(original.file_name for original in originals[name])
  raise FileNotFoundError(
    f'the archive of data set {name!r} is not in {str(directory)!r}; wanted '
    f'{wanted}; download {originals[name][0].url} into it'
  )


def verify(
  path: str | os.PathLike, original: Original, trusted: Collection[str] = ()
) -> str:
  """Refuses an archive that is not the published one.

  Args:
    path: the archive.
    original: what it should be. Without a known digest any archive passes.
    trusted: hex SHA-256 of other archives that pass, for the user's own
      copies.

  Returns:
    What was found, for a person: the digest, and whether it was compared.

  Raises:
    ValueError: another size or digest.
  """
  path = pathlib.Path(path)
  algorithm, _, wanted = original.digest.partition(':')
  size = path.stat().st_size
  if original.size in (0, size) and wanted and not trusted:
    if _digest(path, algorithm) == wanted:
      return f'{path.name} has the published {algorithm}'
  found = _digest(path, 'sha256')
  if found in {digest.lower() for digest in trusted}:
    return f'{path.name} has the trusted sha256 {found}'
  if original.size in (0, size):
    if not wanted:
      return f'{path.name} has sha256 {found}; the published one is not known'
    if _digest(path, algorithm) == wanted:
      return f'{path.name} has the published {algorithm}'
    wrong = f'has another {algorithm} than {wanted}'
  else:
    wrong = f'is {size:,} bytes long, wanted {original.size:,}'
  raise ValueError(
    f'archive {str(path)!r} is not the published one: it {wrong}; delete it '
    f'and download {original.url}, or, if this copy is right for you, pass '
    f'--trust={found}' + (f' ({original.note})' if original.note else '')
  )


def _digest(path: pathlib.Path, algorithm: str) -> str:
  with open(path, 'rb') as file:
    # MD5 recognises a file here; nobody's security hangs on it.
    new = hashlib.new(algorithm, usedforsecurity=False)
    return hashlib.file_digest(file, lambda: new).hexdigest()


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
  """Puts the archive's path before what is found wrong inside."""
  try:
    yield
  except _DAMAGE as error:
    # gzip says OSError of damaged data; a file that cannot be opened has an
    # errno.
    if isinstance(error, OSError) and error.errno:
      raise
    raise ValueError(
      f'archive {str(path)!r} is cut short or damaged ({one_line(error)}); '
      'copy or download it again'
    ) from error
  except UnicodeDecodeError as error:
    raise ValueError(
      f'archive {str(path)!r} holds text that is no UTF-8 ({error}); wanted '
      'the published archive; download it again'
    ) from error
  except ValueError as error:
    raise ValueError(f'archive {str(path)!r}: {error}') from error


def tar_members(
  path: str | os.PathLike, largest: int
) -> Iterator[tuple[str, BinaryIO]]:
  """(name, open file) of a tar's files, in the order of the archive.

  A file can be read until the next one is asked for; one that is not read is
  skipped over. The members are not kept, for there may be a million.

  Args:
    path: the archive.
    largest: bytes that it may unpack to, far beyond what it should hold. A
      compressed one could unpack to a thousand times its size.

  Raises:
    ValueError: no tar; one that unpacks to more; a member that climbs out of
      the archive or is neither a file nor a directory; a damaged archive, if
      wrapped in `naming`.
  """
  total = 0
  with _open_tar(path) as archive:
    while (member := archive.next()) is not None:
      archive.members.clear()
      check_name(member.name)
      total += member.size
      if total > largest:
        raise ValueError(
          f'member {member.name!r} makes it unpack to {total:,} bytes; wanted '
          f'at most {largest:,}; download it again'
        )
      if member.isfile():
        yield posixpath.normpath(member.name), archive.extractfile(member)
      elif not member.isdir():
        raise ValueError(
          f'member {member.name!r} is neither a file nor a directory; the '
          'published archive has no such member; download it again'
        )
    # tarfile stops before the end, where gzip keeps its checksum.
    archive.fileobj.read(_LARGEST_END)
    if archive.fileobj.read(1):
      raise ValueError(
        f'it goes on for more than {_LARGEST_END:,} bytes after its last '
        'member; wanted the published archive; download it again'
      )


def _open_tar(path: str | os.PathLike) -> tarfile.TarFile:
  try:
    return tarfile.open(path, 'r:*')
  except tarfile.ReadError as error:  # which lists all compressions it knows
    raise ValueError(
      'it is empty, damaged or no tar archive; wanted the published archive; '
      'download it again'
    ) from error


def read_zip_member(
  archive: zipfile.ZipFile, member: str, largest: int
) -> bytes:
  """A member of a zip; zipfile compares its CRC-32.

  Raises:
    ValueError: it unpacks to more bytes than `largest`.
  """
  size = archive.getinfo(member).file_size
  if size > largest:
    raise ValueError(
      f'member {member} unpacks to {size:,} bytes, wanted at most {largest:,}; '
      'download it again'
    )
  return archive.read(member)


def check_name(name: str) -> None:
  """Refuses a member's name that leads out of the archive.

  Raises:
    ValueError: an absolute name, or one with '..'.
  """
  parts = name.replace('\\', '/').split('/')
  if not parts[0] or '..' in parts or ':' in parts[0]:
    raise ValueError(
      f'member {name!r} leads out of the archive; the published archive has '
      'no such member; download it again'
    )


def check_members(present: Collection[str], wanted: Sequence[str]) -> None:
  """Refuses an archive that lacks members.

  Raises:
    ValueError: some are missing.
  """
  missing = [name for name in wanted if name not in present]
  if missing:
    raise ValueError(
      f'it lacks {", ".join(missing[:3])}'
      + (f' and {len(missing) - 3} more' if len(missing) > 3 else '')
      + '; wanted the published archive; download it again'
    )


def load_pickle(name: str, data: bytes) -> Any:
  """What a Python 2 pickle of plain containers and arrays holds.

  Strings come as bytes. Nothing but NumPy arrays, lists, tuples, dicts,
  strings and numbers is admitted, so that reading runs no foreign code.

  Raises:
    ValueError: anything else in it, or damage.
  """
  try:
    return _Unpickler(data).load()
  except Exception as error:  # damaged pickles make it raise anything
    raise ValueError(
      f'member {name} cannot be read ({one_line(error)}); wanted a pickle of '
      'arrays, lists, dicts, strings and numbers; download the archive again'
    ) from error


class _Unpickler(pickle._Unpickler):
  """The one in Python: that in C takes as much memory as a pickle says."""

  def __init__(self, data: bytes):
    super().__init__(io.BytesIO(data), encoding='bytes')

  def find_class(self, module: str, name: str) -> Any:
    try:
      return _ADMITTED[module, name]
    except KeyError:
      raise pickle.UnpicklingError(
        f'it asks for {module}.{name}, which is not admitted'
      ) from None


def read_npy(name: str, file: BinaryIO, shape: tuple[int, ...]) -> np.ndarray:
  """A whole .npy member of integers in the given shape.

  Raises:
    ValueError: pickled objects, another kind or shape, or damage.
  """
  dtype = _npy_dtype(name, file, shape, 'iu', 'integers')
  return _read_array(name, file, shape, dtype)


def npy_blocks(
  name: str, file: BinaryIO, shape: tuple[int, ...], num_blocks: int
) -> Iterator[np.ndarray]:
  """The rows of a .npy member uint8[shape] in equal blocks, one at a time.

  Raises:
    ValueError: pickled objects, another dtype or shape, or damage.
  """
  dtype = _npy_dtype(name, file, shape, 'u', 'uint8')
  if dtype != np.uint8:
    raise ValueError(f'member {name} holds {dtype}, wanted uint8')
  block = (shape[0] // num_blocks, *shape[1:])
  for _ in range(num_blocks):
    yield _read_array(name, file, block, dtype)


def _npy_dtype(name, file, shape, kinds, wanted) -> np.dtype:
  """The dtype that the header tells, once the header is as wanted."""
  try:
    version = np.lib.format.read_magic(file)
    read_header = {
      (1, 0): np.lib.format.read_array_header_1_0,
      (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    found, fortran_order, dtype = read_header(file)
  except Exception as error:  # KeyError, ValueError, whatever ast raises
    raise ValueError(
      f'member {name} is not a whole .npy file ({one_line(error)}); download '
      'the archive again'
    ) from error
  if dtype.hasobject:
    raise ValueError(
      f'member {name} holds pickled Python objects, which are never loaded; '
      f'wanted {wanted}; download the archive again'
    )
  if found != shape or dtype.kind not in kinds or fortran_order:
    raise ValueError(
      f'member {name} is {dtype} of shape {found!r}, wanted {wanted} of shape '
      f'{shape!r} in C order; download the archive again'
    )
  return dtype


def _read_array(name, file, shape, dtype) -> np.ndarray:
  size = int(np.prod(shape)) * dtype.itemsize
  data = file.read(size)
  if len(data) != size:
    raise ValueError(f'member {name} is cut short; download the archive again')
  return np.frombuffer(data, dtype).reshape(shape)
