"""Files from the web: resumed where they stopped, and whole or not there."""

import contextlib
import fcntl
import http.client
import os
import pathlib
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import BinaryIO

CHUNK = 1 << 20
TIMEOUT = 60.0  # seconds without a byte
ATTEMPTS = 4  # in a row without a byte

# Worth another attempt; every other answer of a server is final.
_TEMPORARY = (408, 425, 429, 500, 502, 503, 504)


class _Interrupted(Exception):
  """The connection failed; what has arrived is kept."""


def fetch(
  url: str,
  path: str | os.PathLike,
  *,
  check: Callable[[pathlib.Path], object] | None = None,
  report: Callable[[int, int], object] | None = None,
  pause: float = 1.0,
) -> None:
  """Downloads a file.

  What has arrived lies in `path.part`, from where the next call goes on; the
  file gets its name when it is whole and has passed the check.

  Args:
    url: http or https.
    path: where the file goes; its folder is made when needed. An existing file
      is replaced.
    check: raises ValueError if it dislikes the file, which is then deleted.
    report: called with (bytes so far, bytes in all; 0 is unknown).
    pause: seconds before the second attempt; they double from one to the next.

  Raises:
    ValueError: from `check`.
    OSError: the server cannot be reached or says no, the disk is full, or
      another process downloads the same file.
  """
  path = pathlib.Path(path)
  part = path.with_name(f'{path.name}.part')
  with _folder(path.parent), _locked(part) as file:
    failures = 0
    while True:
      before = file.seek(0, os.SEEK_END)
      try:
        _receive(url, file, report)
        break
      except _Interrupted as error:
        arrived = file.seek(0, os.SEEK_END) > before
        failures = 0 if arrived else failures + 1
        if failures == ATTEMPTS:
          kept = file.seek(0, os.SEEK_END)
          raise OSError(
            f'cannot download {url} ({error}); run the same command again '
            + (f'to go on after {kept:,} bytes' if kept else 'later')
            + f', or put the file into {str(path.parent)!r} yourself'
          ) from error
        time.sleep(pause * 2 ** max(failures - 1, 0))
    try:
      if check is not None:
        check(part)
    except ValueError:
      part.unlink()
      raise
    os.replace(part, path)


@contextlib.contextmanager
def _folder(path: pathlib.Path) -> Iterator[None]:
  """Makes a folder, and removes it if it stays empty."""
  path.mkdir(parents=True, exist_ok=True)
  try:
    yield
  finally:
    with contextlib.suppress(OSError):
      path.rmdir()


@contextlib.contextmanager
def _locked(part: pathlib.Path) -> Iterator[BinaryIO]:
  """The partial file, opened for writing by this process alone."""
  # Unbuffered: a full disk must not be met again on closing.
  with open(part, 'ab', buffering=0) as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise OSError(
        f'another process is writing {str(part)!r}; wait for it'
      ) from error
    except OSError:  # a file system without locks
      pass
    try:
      yield file
    finally:
      with contextlib.suppress(FileNotFoundError):
        if not part.stat().st_size:
          part.unlink()


def _receive(
  url: str, file: BinaryIO, report: Callable[[int, int], object] | None
) -> None:
  """Appends what is missing; on return the file is whole."""
  done = file.tell()
  headers = {'User-Agent': 'mollify_jax', 'Accept-Encoding': 'identity'}
  if done:
    headers['Range'] = f'bytes={done}-'
  request = urllib.request.Request(url, headers=headers)
  try:
    response = urllib.request.urlopen(request, timeout=TIMEOUT)
  except urllib.error.HTTPError as error:
    with error:
      if error.code == 416:  # nothing after these bytes, or too many of them
        total = _number(r'bytes \*/(\d+)', error.headers['Content-Range'])
        if total == done:
          return
        _restart(file)
        raise _Interrupted('the server has another file now') from error
      if error.code in _TEMPORARY:
        raise _Interrupted(f'HTTP status {error.code}') from error
      raise OSError(
        f'cannot download {url} (HTTP status {error.code}, {error.reason}); '
        'find the file elsewhere'
      ) from error
  except (OSError, http.client.HTTPException) as error:
    raise _Interrupted(_reason(error)) from error
  with response:
    length = _number(r'(\d+)', response.headers['Content-Length'])
    if response.status == 206:
      begin = _number(r'bytes (\d+)-', response.headers['Content-Range'])
      if begin != done:
        _restart(file)
        raise _Interrupted(f'the server went on at byte {begin}, not {done}')
    elif done:  # it cannot resume: from the beginning
      _restart(file)
      done = 0
    total = 0 if length is None else done + length
    _check_space(file, total - done)
    while chunk := _read(response):
      _write(file, chunk)
      done += len(chunk)
      if report is not None:
        report(done, total)
  if total and done < total:
    raise _Interrupted(f'the connection ended after {done} of {total} bytes')


def _restart(file: BinaryIO) -> None:
  file.seek(0)
  file.truncate()


def _read(response: http.client.HTTPResponse) -> bytes:
  try:
    return response.read(CHUNK)
  except http.client.IncompleteRead as error:
    return error.partial
  except (OSError, http.client.HTTPException) as error:
    raise _Interrupted(_reason(error)) from error


def _write(file: BinaryIO, chunk: bytes) -> None:
  try:
    rest = memoryview(chunk)
    while rest:
      rest = rest[file.write(rest) :]
  except OSError as error:
    raise OSError(
      f'cannot write {file.name!r} ({error.strerror}); make room and run the '
      'same command again to go on'
    ) from error


def _check_space(file: BinaryIO, size: int) -> None:
  free = shutil.disk_usage(pathlib.Path(file.name).parent).free
  if size > free:
    raise OSError(
      f'{file.name!r} needs {size:,} bytes more, and {free:,} are free; make '
      'room or choose another folder'
    )


def _number(pattern: str, text: str | None) -> int | None:
  match = re.match(pattern, text or '')
  return int(match[1]) if match else None


def _reason(error: Exception) -> str:
  reason = getattr(error, 'reason', None) or error
  return ' '.join(str(reason).split()) or type(error).__name__
