"""What a command says of an error that its user can mend."""

import argparse
import errno
from typing import NoReturn

# What to do where the operating system said only what is wrong.
_REMEDIES = {
  errno.EACCES: 'change its permissions, or name another place',
  errno.EPERM: 'change its permissions, or name another place',
  errno.EROFS: 'name another place, for this one is read-only',
  errno.ENOSPC: 'make room, then run the same command again',
  errno.EDQUOT: 'make room, then run the same command again',
  errno.EFBIG: 'raise the limit of file sizes (ulimit -f), then run the same '
  'command again',
  errno.EMFILE: 'raise the limit of open files (ulimit -n)',
  errno.ENFILE: 'close programs, or raise the limit of open files',
  errno.EIO: 'check the disk, or name another place',
  errno.ENOENT: 'check the path',
  errno.ENOTDIR: 'wanted a directory there; check the path',
  errno.EISDIR: 'wanted a file there; check the path',
  errno.ELOOP: 'a link leads round in a circle; mend it',
  errno.ENAMETOOLONG: 'take a shorter name',
}


class ArgumentParser(argparse.ArgumentParser):
  """A parser whose complaints are errors like all others: one line, status 1.

  Options must be spelt out.
  """

  def __init__(self, **options):
    super().__init__(allow_abbrev=False, **options)

  def error(self, message: str) -> NoReturn:
    """Raises ValueError in place of ending the process."""
    raise ValueError(f'{message}; see --help')


def describe(error: BaseException) -> str:
  """One line: what was given, what was wanted, what to do.

  Our own messages say so. An error of the operating system has a number, the
  reason and, with some luck, the file: here it gets the rest.
  """
  if is_bare(error):
    where = '' if error.filename is None else f' {str(error.filename)!r}'
    reason = f'{error.strerror}); {remedy(error.errno)}'
    return f'cannot use{where or " a file"} ({reason}'
  return one_line(error)


def remedy(number: int) -> str:
  """What to do about an `errno` of the operating system."""
  return _REMEDIES.get(number, 'check the path and the disk')


def is_bare(error: BaseException) -> bool:
  """Whether an error is the operating system's own, without a word of ours."""
  return isinstance(error, OSError) and error.errno is not None


def one_line(error: BaseException) -> str:
  """What an exception says, for the inside of a message."""
  return ' '.join(str(error).split()) or type(error).__name__
