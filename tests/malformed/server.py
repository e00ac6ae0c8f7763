"""Runs the commands of this package, each in a child of one warm process.

  python server.py SMALL

reads one request per line from stdin and answers with one line, both JSON. A
child runs a module as `python -m` does and ends as the interpreter ends, but
need not import JAX first. SMALL is tests/data/conftest.py, whose small data
sets stand in for the published ones.

Children have no capabilities: permissions bind root, too. One that asks for a
disk gets it in a mount namespace of its own.
"""

import atexit
import ctypes
import gc
import hashlib
import importlib.util
import json
import os
import resource
import runpy
import shutil
import signal
import stat
import sys
import tempfile
import threading
import traceback
import warnings
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
NEW_MOUNTS, NEW_USER = 0x00020000, 0x10000000
READ_ONLY, REMOUNT, BIND, RECURSIVE, PRIVATE = 1, 32, 4096, 16384, 1 << 18
SECONDS = 120  # until a child that hangs is killed


def snapshot(root):
  """{path: what is there} of everything below a folder."""
  found = {}
  for folder, folders, files in os.walk(os.fsencode(root)):
    for name in folders + files:
      path = os.path.join(folder, name)
      found[os.fsdecode(path)] = _describe(path)
  return found


def _describe(path):
  mode = os.lstat(path).st_mode
  if stat.S_ISLNK(mode):
    return f'link to {os.fsdecode(os.readlink(path))}'
  if not stat.S_ISREG(mode):
    return f'mode {mode:o}'
  try:
    with open(path, 'rb') as file:
      return hashlib.file_digest(file, 'sha256').hexdigest()
  except PermissionError:  # where the tests do not run as root
    return f'unreadable, {os.lstat(path).st_size} bytes'


def _check(result):
  if result:
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _mount(source, target, kind, flags, options=None):
  names = [value and str(value).encode() for value in (source, target, kind)]
  _check(LIBC.mount(*names, flags, options and options.encode()))


def isolate_mounts():
  """From here on, what this process mounts is seen by itself alone."""
  user, group = os.geteuid(), os.getegid()
  _check(LIBC.unshare(NEW_MOUNTS | (NEW_USER if user else 0)))
  if user:
    Path('/proc/self/setgroups').write_text('deny')
    Path('/proc/self/uid_map').write_text(f'{user} {user} 1')
    Path('/proc/self/gid_map').write_text(f'{group} {group} 1')
  _mount(None, '/', None, RECURSIVE | PRIVATE)


def mount_small(folder, free):
  """Puts a folder on a disk of its own with so many bytes to spare."""
  with tempfile.TemporaryDirectory() as aside:
    shutil.copytree(folder, aside, symlinks=True, dirs_exist_ok=True)
    _mount('tmpfs', folder, 'tmpfs', 0, f'size={64 << 20}')
    shutil.copytree(aside, folder, symlinks=True, dirs_exist_ok=True)
  ballast = shutil.disk_usage(folder).free - free
  Path(folder, 'ballast').write_bytes(bytes(ballast))


def mount_read_only(folder):
  """Makes a folder read-only, whatever its modes say."""
  _mount(folder, folder, None, BIND)
  _mount(None, folder, None, BIND | REMOUNT | READ_ONLY)


def drop_capabilities():
  """Of root's powers only the name stays."""
  header = (ctypes.c_uint32 * 2)(0x20080522, 0)
  nothing = (ctypes.c_uint32 * 6)()
  _check(LIBC.capset(header, nothing))


def serve(request):
  """Has a child run one request; returns the reply, or in there None."""
  texts = [os.memfd_create(name) for name in ('out', 'err')]
  before = snapshot(request['root'])
  pid = os.fork()
  if pid == 0:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, text in enumerate(texts, start=1):
      os.dup2(text, number)
    return None
  _, status, usage = os.wait4(pid, 0)
  out, err = (
    os.pread(text, 1 << 20, 0).decode(errors='backslashreplace')
    for text in texts
  )
  for text in texts:
    os.close(text)
  return {
    'status': os.waitstatus_to_exitcode(status),
    'out': out,
    'err': err,
    'before': before,
    'after': snapshot(request['root']),
    'megabytes': usage.ru_maxrss >> 10,
  }


def serve_on_disk(request):
  """The same from a child that has a disk of its own."""
  reading, writing = os.pipe()
  pid = os.fork()
  if pid:
    os.close(writing)
    with open(reading) as file:
      reply = json.load(file)
    os.waitpid(pid, 0)
    return reply
  os.close(reading)
  folder, free = request['disk']['folder'], request['disk']['free']
  try:
    isolate_mounts()
    if free is None:
      mount_read_only(folder)
    else:
      mount_small(folder, free)
    reply = serve(request)
  except OSError as error:  # nobody may mount here
    reply = {'failed': str(error)}
  if reply is None:
    return None
  with open(writing, 'w') as file:
    json.dump(reply, file)
  os._exit(0)


def warm_up(small_path):
  """Imports what takes long; puts small data sets under the known names."""
  spec = importlib.util.spec_from_file_location('small', small_path)
  small = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(small)
  from sklearn import datasets  # noqa: F401

  from mollify_jax.data import facts, originals, prepare
  from mollify_jax.training import loop  # noqa: F401

  prepare._import_tfds()
  published = small.small_published()
  facts.FACTS.update(published['facts'])
  facts.CORRUPTED.update(published['corrupted'])
  originals.ORIGINALS.update(published['originals'])
  # JAX warns of every fork; before its first array it has no threads.
  warnings.filterwarnings('ignore', 'os.fork', RuntimeWarning)
  gc.freeze()  # or every child would copy the heap to look through it


def answer_requests():
  """Serves until stdin ends; returns in children only, with a request."""
  for line in sys.stdin:
    request = json.loads(line)
    reply = (serve_on_disk if request['disk'] else serve)(request)
    if reply is None:
      return request
    print(json.dumps(reply), flush=True)
  return None


def run_command(request):
  """Ends as `python -m MODULE ...` does."""
  os.chdir(request['cwd'])
  for name, value in request['limits'].items():
    resource.setrlimit(getattr(resource, name), (value, value))
  drop_capabilities()
  signal.alarm(SECONDS)
  module = request['argv'][0]
  sys.argv = request['argv']
  sys.modules.pop(module, None)
  status = 0
  try:
    runpy.run_module(module, run_name='__main__', alter_sys=True)
  except SystemExit as error:
    status = error.code or 0
  except BaseException:
    traceback.print_exc()
    status = 1
  # What the interpreter does at its end, but for taking the heap apart.
  threading._shutdown()
  atexit._run_exitfuncs()
  sys.stdout.flush()
  os._exit(status)


if __name__ == '__main__':
  warm_up(sys.argv[1])
  if request := answer_requests():
    run_command(request)
