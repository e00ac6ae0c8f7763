"""A damaged or foreign export is told in one line, and never run."""

import json
import shutil

import jax
import pytest

from mollify_jax import exported


def edit(**changes):
  """Changes export.json, without its digests."""

  def damage(folder):
    path = folder / exported.RECORD
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

  return damage


def write(name, content):
  return lambda folder: (folder / name).write_bytes(content)


def cut(name):
  def damage(folder):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])

  return damage


def flip(name):
  def damage(folder):
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 0x10
    (folder / name).write_bytes(data)

  return damage


def remove(name):
  return lambda folder: (folder / name).unlink()


def reseal(contents=(), **changes):
  """Changes files or the record, and the digests with them."""

  def damage(folder):
    files = {name: (folder / name).read_bytes() for name in exported.FILES}
    files.update(contents)
    record = json.loads(files[exported.RECORD])
    files[exported.RECORD] = exported.seal({**record, **changes}, files)
    for name, data in files.items():
      (folder / name).write_bytes(data)

  return damage


ALTERED = 'is damaged or was altered'
DAMAGES = {
  **{
    f'{name} {title}': (damage(name), ValueError, rf'{name} {ALTERED}.*; copy')
    for name in exported.FILES[:-1]
    for title, damage in (('cut', cut), ('flipped', flip))
  },
  **{
    f'{name} missing': (
      remove(name),
      FileNotFoundError,
      rf'{name} is missing; an exported folder holds model\.stablehlo, ',
    )
    for name in exported.FILES
  },
  'record cut': (cut(exported.RECORD), ValueError, 'export.json is damaged'),
  'record not UTF-8': (
    write(exported.RECORD, b'{"a": "\xff"}'),
    ValueError,
    'export.json is damaged',
  ),
  'record nested': (
    write(exported.RECORD, b'[' * 100_000),
    ValueError,
    'export.json is damaged',
  ),
  'record a list': (
    write(exported.RECORD, b'[1]'),
    ValueError,
    'wanted an object, got list',
  ),
  'record empty': (
    write(exported.RECORD, b'{}'),
    ValueError,
    'is of format None, wanted 1; export the run again',
  ),
  'of a later format': (edit(format=2), ValueError, 'is of format 2, wanted 1'),
  'classes renamed': (
    edit(class_names=['a', 'b']),
    ValueError,
    rf'export\.json {ALTERED}',
  ),
  'digests a list': (edit(sha256=[]), ValueError, rf'export\.json {ALTERED}'),
  'digests missing': (edit(sha256={}), ValueError, rf'export\.json {ALTERED}'),
  'another calling convention': (
    reseal(calling_convention_version=99),
    ValueError,
    r'by jax .* with calling convention 99; jax .* knows \d+ to \d+; install',
  ),
  'for other devices': (
    reseal(platforms=['tpu']),
    ValueError,
    'was exported for tpu, and the devices here are cpu',
  ),
  'a program of the future': (
    reseal({exported.MODEL: b'\x01' * 64}),
    ValueError,
    'was written by jax .* cannot read it .*; install that version',
  ),
}


@pytest.mark.parametrize('name', DAMAGES)
def test_damage_is_told_in_one_line(export_folder, tmp_path, name):
  damage, kind, message = DAMAGES[name]
  folder = tmp_path / 'export'
  shutil.copytree(export_folder, folder)
  damage(folder)
  with pytest.raises(kind, match=message) as caught:
    exported.read(folder)
  assert '\n' not in str(caught.value)
  assert str(folder) in str(caught.value)


def test_the_layout_of_the_record_is_free(export_folder, tmp_path):
  folder = tmp_path / 'export'
  shutil.copytree(export_folder, folder)
  path = folder / exported.RECORD
  record = json.loads(path.read_text())
  path.write_text(json.dumps(dict(reversed(record.items()))))
  assert exported.read(folder).record['image_shape'] == [8, 8, 1]


def test_what_the_record_says_is_so(export_folder):
  record, parameters, function = exported.read(export_folder)
  assert record['jax'] == jax.__version__
  assert record['platforms'] == ['cpu', 'cuda', 'rocm', 'tpu']
  assert record['calling_convention_version'] == (
    function.calling_convention_version
  )
  assert record['normalisation'] == {'mean': [0.3], 'std': [0.4]}
  # The order of the program's arguments, for whoever calls it without JAX.
  *taken, images = function.in_avals
  assert [(tuple(p['shape'])) for p in record['parameters']] == [
    aval.shape for aval in taken
  ]
  assert [p['name'] for p in record['parameters']] == sorted(parameters)
  assert {array.dtype.name for array in parameters.values()} == {'float32'}
  assert str(images.shape) == '(batch, 8, 8, 1)'
  assert images.dtype == 'uint8'
  config = json.loads((export_folder / exported.CONFIG).read_text())
  assert config['model'] == 'small_cnn'
