"""Decoded data sets on disk: made once, memory-mapped from then on.

One folder per data set, named by a digest of what it was made from:

  DIGEST/train_images.npy  train_labels.npy  test_images.npy
        /test_labels.npy   manifest.json

It appears under its name whole or not at all, and the manifest holds the
checksum of every array, so a damaged one is noticed and made anew.
"""

import contextlib
import json
import logging
import os
import pathlib
import secrets
import shutil
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mollify_jax.data.dataset import SPLITS, Dataset

# Raise it when the same source would give other arrays than before.
VERSION = 2

_ARRAYS = tuple(f'{s}_{k}' for s in SPLITS for k in ('images', 'labels'))
_CHUNK = 1 << 24


def load_or_make(
  cache_dir: str | os.PathLike,
  name: str,
  source: str,
  make: Callable[[], Dataset],
) -> Dataset:
  """The data set made from that source, from the cache if it is there.

  Args:
    cache_dir: made when needed.
    name: of the returned data set.
    source: digest of what `make` reads, hexadecimal; names the folder.
    make: decodes the data set when the cache lacks it or is damaged.

  Returns:
    The data set; arrays that come from the cache are read-only maps of it.

  Raises:
    OSError: the cache cannot be written; what `make` raises.
  """
  folder = pathlib.Path(cache_dir).expanduser() / source
  cached = _read(folder, name)
  if cached is not None:
    return cached
  made = make()
  _write(folder, made)
  return made


def _read(folder: pathlib.Path, name: str) -> Dataset | None:
  """The cached data set, or None if there is none that can be trusted."""
  if not folder.exists():
    return None
  try:
    manifest = json.loads((folder / 'manifest.json').read_text())
    if manifest.pop('checksum') != _manifest_checksum(manifest):
      raise ValueError('the manifest does not have its own checksum')
    if manifest['version'] != VERSION or manifest['source'] != folder.name:
      raise ValueError('made from another source or by another version')
    arrays = {}
    for key in _ARRAYS:
      array = np.load(folder / f'{key}.npy', mmap_mode='r', allow_pickle=False)
      if _checksum(array) != manifest['checksums'][key]:
        raise ValueError(f'{key} does not have the checksum written for it')
      arrays[key] = array
    return Dataset(
      name=name,
      fingerprint=manifest['fingerprint'],
      class_names=tuple(manifest['class_names']),
      mean=tuple(manifest['mean']),
      std=tuple(manifest['std']),
      **arrays,
    )
  except Exception as error:  # whatever is wrong, the source has it all
    reason = ' '.join(str(error).split()) or type(error).__name__
    logging.getLogger(__name__).warning(
      'decoding again: the cache %s is damaged (%s)', folder, reason
    )
    return None


def _write(folder: pathlib.Path, made: Dataset) -> None:
  """Stores a data set under a temporary name, then renames it."""
  temporary = folder.with_name(
    f'.{folder.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp'
  )
  arrays = {key: getattr(made, key) for key in _ARRAYS}
  is_new = not folder.parent.exists()
  try:
    try:
      temporary.mkdir(parents=True)
      for key, array in arrays.items():
        np.save(temporary / f'{key}.npy', array, allow_pickle=False)
      manifest = {
        'version': VERSION,
        'source': folder.name,
        'fingerprint': made.fingerprint,
        'class_names': list(made.class_names),
        'mean': list(made.mean),
        'std': list(made.std),
        'checksums': {key: _checksum(a) for key, a in arrays.items()},
      }
      manifest['checksum'] = _manifest_checksum(manifest)
      (temporary / 'manifest.json').write_text(json.dumps(manifest, indent=1))
      _replace(temporary, folder)
    finally:  # an interrupt, too, must leave nothing behind
      shutil.rmtree(temporary, ignore_errors=True)
  except OSError as error:
    if is_new:
      with contextlib.suppress(OSError):
        folder.parent.rmdir()
    needed = sum(array.nbytes for array in arrays.values())
    raise OSError(
      f'cannot write the decoded images to {str(folder)!r} '
      f'({error.strerror or error}); wanted a folder with '
      f'{-(-needed >> 20)} MiB to spare; make room or choose another place'
    ) from error


def _replace(temporary: pathlib.Path, folder: pathlib.Path) -> None:
  """Renames a folder over another, which processes may have mapped."""
  old = temporary.with_suffix('.old')
  # Maps of the removed files stay valid until they are dropped.
  with contextlib.suppress(FileNotFoundError):  # or another replaces it too
    os.rename(folder, old)
  try:
    os.rename(temporary, folder)
  except OSError:
    # Another process was first; what it wrote was made from the same source.
    if not (folder / 'manifest.json').exists():
      raise
  finally:
    shutil.rmtree(old, ignore_errors=True)


def _manifest_checksum(manifest: Mapping[str, Any]) -> int:
  return zlib.crc32(json.dumps(manifest, sort_keys=True).encode())


def _checksum(array: np.ndarray) -> int:
  """CRC-32 of the contents."""
  data = memoryview(np.ascontiguousarray(array)).cast('B')
  value = 0
  for begin in range(0, len(data), _CHUNK):
    value = zlib.crc32(data[begin : begin + _CHUNK], value)
  return value
