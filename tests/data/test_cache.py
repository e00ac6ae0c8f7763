"""The cache of decoded data sets: whole or made anew, never half."""

import json
import logging
import zlib

import numpy as np
import pytest

from mollify_jax.data import cache
from mollify_jax.data.dataset import Dataset

SOURCE = 'ab' * 32


@pytest.fixture
def made():
  """The data set, and a list that grows whenever it is made."""
  random = np.random.default_rng(0)
  calls = []

  def make():
    calls.append(1)
    return Dataset(
      name='made',
      train_images=random_images.copy(),
      train_labels=np.arange(7, dtype=np.int32) % 3,
      test_images=random_images[:3].copy(),
      test_labels=np.arange(3, dtype=np.int32),
      class_names=('a', 'b', 'c'),
      mean=(0.1, 0.2, 1 / 3),
      std=(0.4, 0.5, 0.6),
      fingerprint='cd' * 32,
    )

  random_images = random.integers(0, 256, (7, 6, 5, 3), np.uint8)
  make.calls = calls
  return make


def load(folder, make):
  return cache.load_or_make(folder, 'made', SOURCE, make)


def assert_equal(one, two):
  for field in one.__dataclass_fields__:
    a, b = getattr(one, field), getattr(two, field)
    if isinstance(a, np.ndarray):
      assert a.dtype == b.dtype
      np.testing.assert_array_equal(a, b)
    else:
      assert a == b


def test_the_second_load_maps_what_the_first_made(tmp_path, made):
  first = load(tmp_path / 'deep' / 'cache', made)
  second = load(tmp_path / 'deep' / 'cache', made)
  assert len(made.calls) == 1
  assert_equal(first, second)
  assert isinstance(second.train_images, np.memmap)
  assert [p.name for p in (tmp_path / 'deep' / 'cache').iterdir()] == [SOURCE]


@pytest.mark.parametrize('name', ['train_images.npy', 'manifest.json'])
@pytest.mark.parametrize('keep', [0, 1, 60, 0.5, 0.99, -1])
def test_a_cut_cache_is_made_anew(tmp_path, made, caplog, name, keep):
  first = load(tmp_path, made)
  file = tmp_path / SOURCE / name
  whole = file.read_bytes()
  keep = int(keep * len(whole)) if isinstance(keep, float) else keep
  if name == 'manifest.json' and keep == -1:
    keep = -2  # the last byte is white space or the closing brace
  file.write_bytes(whole[:keep])
  with caplog.at_level(logging.WARNING):
    assert_equal(load(tmp_path, made), first)
  assert len(made.calls) == 2
  assert f'the cache {tmp_path / SOURCE} is damaged' in caplog.text
  assert_equal(load(tmp_path, made), first)
  assert len(made.calls) == 2  # it is whole again
  assert len(list(tmp_path.iterdir())) == 1


def test_no_changed_byte_changes_the_data(tmp_path, made):
  first = load(tmp_path, made)
  for file in sorted((tmp_path / SOURCE).iterdir()):
    whole = file.read_bytes()
    # Every 61st byte lands in pixels, headers and the manifest.
    for position in range(0, len(whole), 61):
      damaged = bytearray(whole)
      damaged[position] ^= 0x5A
      file.write_bytes(damaged)
      assert_equal(load(tmp_path, made), first)


@pytest.mark.parametrize(
  'changes',
  [
    {'version': cache.VERSION + 1},
    {'source': 'another'},
    {'class_names': []},
    {'std': [0.4, 0.5]},
  ],
)
def test_another_manifest_is_made_anew(tmp_path, made, changes):
  first = load(tmp_path, made)
  file = tmp_path / SOURCE / 'manifest.json'
  manifest = {**json.loads(file.read_text()), **changes}
  del manifest['checksum']
  text = json.dumps(manifest, sort_keys=True).encode()
  manifest['checksum'] = zlib.crc32(text)
  file.write_text(json.dumps(manifest))
  assert_equal(load(tmp_path, made), first)
  assert len(made.calls) == 2


@pytest.mark.parametrize('failing', ['save', 'rename'])
@pytest.mark.parametrize('error', [OSError(28, 'no space'), KeyboardInterrupt])
def test_a_failed_write_leaves_nothing_behind(
  tmp_path, made, monkeypatch, failing, error
):
  module = {'save': cache.np, 'rename': cache.os}[failing]

  def fail(*_, **__):
    raise error

  monkeypatch.setattr(module, failing, fail)
  kind = error if isinstance(error, type) else type(error)
  with pytest.raises(kind) as caught:
    load(tmp_path, made)
  if kind is OSError:
    message = str(caught.value)
    assert message.startswith('cannot write the decoded images to')
    assert 'no space' in message
    assert 'make room' in message
  assert list(tmp_path.iterdir()) == []


def test_a_cache_folder_that_is_a_file_is_named(tmp_path, made):
  (tmp_path / 'file').write_text('in the way')
  with pytest.raises(OSError, match='cannot write the decoded images'):
    load(tmp_path / 'file', made)
