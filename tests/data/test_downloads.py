"""Downloads from a server on this machine that misbehaves on demand."""

import fcntl
import hashlib
import http.server
import os
import re
import shutil
import socketserver
import threading

import pytest

from mollify_jax.data import downloads

CONTENT = bytes(range(256)) * 4096 * 3  # 3 MiB
NAME = 'archive.tar'


class Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = 'HTTP/1.1'

  def do_GET(self):
    server = self.server
    asked = self.headers['Range']
    server.requests.append(asked)
    if server.statuses:
      self.send_response(server.statuses.pop(0))
      self.send_header('Content-Length', '0')
      self.end_headers()
      return
    begin = 0
    if asked and server.resumes:
      begin = int(re.fullmatch(r'bytes=(\d+)-', asked)[1])
      if begin >= len(server.content):
        self.send_response(416)
        self.send_header('Content-Range', f'bytes */{len(server.content)}')
        self.send_header('Content-Length', '0')
        self.end_headers()
        return
      begin += server.shift
      self.send_response(206)
      self.send_header(
        'Content-Range',
        f'bytes {begin}-{len(server.content) - 1}/{len(server.content)}',
      )
    else:
      self.send_response(200)
    body = server.content[begin:]
    if server.length:
      self.send_header('Content-Length', str(len(body)))
    else:
      self.send_header('Connection', 'close')
    self.end_headers()
    if server.cuts:
      body = body[: server.cuts.pop(0)]
      self.close_connection = True
    self.wfile.write(body)

  def log_message(self, *_):
    pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
  daemon_threads = True


@pytest.fixture
def server(monkeypatch):
  for name in list(os.environ):
    if name.lower().endswith('_proxy'):
      monkeypatch.delenv(name)
  with Server(('127.0.0.1', 0), Handler) as server:
    server.content = CONTENT
    server.requests, server.statuses, server.cuts = [], [], []
    server.resumes, server.length, server.shift = True, True, 0
    server.url = f'http://127.0.0.1:{server.server_port}/{NAME}'
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()


@pytest.fixture
def path(tmp_path):
  return tmp_path / 'downloads' / NAME


def fetch(server, path, **kwargs):
  downloads.fetch(server.url, path, **{'pause': 0, **kwargs})


def assert_only(path):
  """The file is there, whole, and nothing beside it."""
  assert path.read_bytes() == CONTENT
  assert list(path.parent.iterdir()) == [path]


def refusal(call, error=OSError):
  with pytest.raises(error) as caught:
    call()
  message = str(caught.value)
  assert '\n' not in message
  return message


def test_a_file_is_downloaded_with_progress(server, path):
  reports = []
  fetch(server, path, report=lambda *numbers: reports.append(numbers))
  assert_only(path)
  assert reports[-1] == (len(CONTENT), len(CONTENT))
  assert sorted(reports) == reports
  assert len(reports) >= 3
  assert server.requests == [None]


def test_an_existing_file_is_replaced(server, path):
  path.parent.mkdir()
  path.write_bytes(b'old')
  fetch(server, path)
  assert_only(path)


def test_lost_connections_are_taken_up_again(server, path):
  server.cuts = [1_000_000, 500_000, 0, 10]
  reports = []
  fetch(server, path, report=lambda *numbers: reports.append(numbers))
  assert_only(path)
  assert server.requests == [
    None,
    'bytes=1000000-',
    'bytes=1500000-',
    'bytes=1500000-',
    'bytes=1500010-',
  ]
  assert {total for _, total in reports} == {len(CONTENT)}


def test_the_next_call_goes_on(server, path):
  server.cuts = [1_000_000] + [0] * downloads.ATTEMPTS
  message = refusal(lambda: fetch(server, path))
  assert server.url in message
  assert 'run the same command again to go on after 1,000,000 bytes' in message
  assert not path.exists()
  part = path.with_name(f'{NAME}.part')
  assert part.read_bytes() == CONTENT[:1_000_000]
  server.requests.clear()
  fetch(server, path)
  assert server.requests == ['bytes=1000000-']
  assert_only(path)


def test_a_killed_download_goes_on(server, path):
  path.parent.mkdir()
  path.with_name(f'{NAME}.part').write_bytes(CONTENT[:12345])
  fetch(server, path)
  assert server.requests == ['bytes=12345-']
  assert_only(path)


def test_killed_between_the_last_byte_and_the_name(server, path):
  path.parent.mkdir()
  path.with_name(f'{NAME}.part').write_bytes(CONTENT)
  fetch(server, path)
  assert_only(path)


def test_a_partial_file_longer_than_the_whole(server, path):
  path.parent.mkdir()
  path.with_name(f'{NAME}.part').write_bytes(CONTENT + b'more')
  fetch(server, path)
  assert_only(path)


def test_a_server_that_cannot_resume(server, path):
  server.resumes = False
  server.cuts = [1_000_000]
  fetch(server, path)
  assert server.requests == [None, 'bytes=1000000-']
  assert_only(path)


def test_a_server_that_resumes_elsewhere(server, path):
  server.shift = 1
  server.cuts = [1_000_000]
  fetch(server, path)
  assert server.requests == [None, 'bytes=1000000-', None]
  assert_only(path)


def test_a_server_that_does_not_tell_the_length(server, path):
  server.length = False
  reports = []
  fetch(server, path, report=lambda *numbers: reports.append(numbers))
  assert_only(path)
  assert reports[-1] == (len(CONTENT), 0)


@pytest.mark.parametrize('status', [429, 503])
def test_a_busy_server_is_asked_again(server, path, status):
  server.statuses = [status, status]
  fetch(server, path)
  assert_only(path)


def test_a_server_that_stays_busy(server, path):
  server.statuses = [503] * 99
  assert 'HTTP status 503' in refusal(lambda: fetch(server, path))
  assert len(server.requests) == downloads.ATTEMPTS
  assert not path.parent.exists()


@pytest.mark.parametrize('status', [403, 404])
def test_a_server_that_says_no(server, path, status):
  server.statuses = [status] * 99
  message = refusal(lambda: fetch(server, path))
  assert f'cannot download {server.url} (HTTP status {status}' in message
  assert len(server.requests) == 1
  assert not path.parent.exists()


def test_no_server(server, path):
  server.shutdown()
  server.server_close()
  message = refusal(lambda: fetch(server, path))
  assert f'cannot download {server.url} (' in message
  assert 'refused' in message
  assert not path.parent.exists()


def test_a_wrong_file_is_not_kept(server, path):
  def check(part):
    if hashlib.md5(part.read_bytes()).hexdigest() != 'right':
      raise ValueError('wrong digest')

  message = refusal(lambda: fetch(server, path, check=check), ValueError)
  assert message == 'wrong digest'
  assert not path.parent.exists()


def test_the_check_sees_the_whole_file(server, path):
  server.cuts = [1_000_000]
  seen = []
  fetch(server, path, check=lambda part: seen.append(part.read_bytes()))
  assert seen == [CONTENT]
  assert_only(path)


def test_too_little_room_is_told_before_it_is_filled(server, path, monkeypatch):
  usage = shutil.disk_usage('/')._replace(free=1000)
  monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage)
  message = refusal(lambda: fetch(server, path))
  assert f'needs {len(CONTENT):,} bytes more, and 1,000 are free' in message
  assert not path.parent.exists()


def test_a_write_that_fails_leaves_what_has_arrived(server, path, monkeypatch):
  original = downloads._write

  class Full:
    def __init__(self, file):
      self._file = file
      self.name = file.name

    def write(self, chunk):
      self._file.write(chunk[:10])
      raise OSError(28, 'No space left on device')

  monkeypatch.setattr(
    downloads, '_write', lambda file, chunk: original(Full(file), chunk)
  )
  message = refusal(lambda: fetch(server, path))
  assert 'cannot write' in message
  assert '(No space left on device)' in message
  monkeypatch.setattr(downloads, '_write', original)
  fetch(server, path)
  assert server.requests == [None, 'bytes=10-']
  assert_only(path)


def test_two_processes_do_not_write_one_file(server, path):
  path.parent.mkdir()
  with open(path.with_name(f'{NAME}.part'), 'ab') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    message = refusal(lambda: fetch(server, path))
  assert 'another process is writing' in message
  fetch(server, path)
  assert_only(path)
