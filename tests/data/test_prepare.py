"""From small archives to tfds directories, and what may go wrong between."""

import contextlib
import dataclasses
import fcntl
import functools
import gc
import hashlib
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

from mollify_jax.data import (
  cifar_originals,
  downloads,
  originals,
  prepare,
  tfds_source,
)
from mollify_jax.data.facts import FACTS
from mollify_jax.data.prepare import Published

tfds = pytest.importorskip('tensorflow_datasets')
pytest.importorskip('array_record')

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def quiet():
  tfds.disable_progress_bar()


@pytest.fixture
def published(small):
  return Published(**small.small_published())


@pytest.fixture
def run(published, archives, tmp_path):
  """Prepares into tmp_path/'data' and returns what was said."""

  def run(*names, **kwargs):
    said = []
    arguments = {
      'data_dir': tmp_path / 'data',
      'archives': archives,
      'published': published,
      **kwargs,
    }
    prepare.prepare(names, say=said.append, **arguments)
    return said

  return run


@pytest.fixture(scope='session')
def prepared(archives, tmp_path_factory):
  """A directory with all six; not to be changed."""
  directory = tmp_path_factory.mktemp('prepared')
  conftest = str(Path(__file__).with_name('conftest.py'))
  code = f"""
    import runpy, socket, sys

    def refuse(*_):
      raise AssertionError('the network was asked')

    socket.socket.connect = socket.getaddrinfo = refuse
    import tensorflow_datasets as tfds
    from mollify_jax.data import prepare

    small = runpy.run_path({conftest!r})
    published = prepare.Published(**small['small_published']())
    tfds.disable_progress_bar()
    prepare.prepare(
      prepare.NAMES, {str(directory)!r}, {str(archives)!r}, published=published
    )
    heavy = ('tensorflow', 'flax', 'torch', 'cv2')
    assert not [name for name in heavy if name in sys.modules]
  """
  process = subprocess.run(
    [sys.executable, '-W', 'error', '-c', textwrap.dedent(code)],
    capture_output=True,
    text=True,
    cwd=ROOT,
    check=False,
  )
  assert process.returncode == 0, process.stderr
  # tfds' own announcements would speak of downloads.
  lines = process.stdout.splitlines()
  assert all(line.split(':')[0] in prepare.NAMES for line in lines)
  return directory


def refusal(call, error=ValueError):
  with pytest.raises(error) as caught:
    call()
  message = str(caught.value)
  assert '\n' not in message
  return message


def files(directory):
  """Contents by relative path; of array_record files the records, decoded.

  tfds serialises the features of a record in an order that changes from
  process to process.
  """
  contents = {}
  for path in sorted(Path(directory).rglob('*')):
    name = str(path.relative_to(directory))
    if path.name == 'dataset_info.json':
      builder = tfds.builder_from_directory(path.parent)
      contents[name + ': records'] = {
        split: [repr(record) for record in records]
        for split, records in builder.as_data_source().items()
      }
    if path.is_file():
      is_record = '.array_record' in path.name
      contents[name] = None if is_record else path.read_bytes()
  return contents


def source(data_dir, name):
  """What `tfds.data_source` reads, as lists."""
  splits = tfds.data_source(name, data_dir=data_dir)
  return {split: list(records) for split, records in splits.items()}


# What is written.


@pytest.mark.parametrize('name', ['cifar10', 'cifar100'])
def test_cifars_are_read_back_equal(prepared, small, name):
  splits = source(prepared, name)
  assert set(splits) == {'train', 'test'}
  for split, records in splits.items():
    want = small.cifar_examples(name, split)
    assert len(records) == len(want)
    for record in records:
      index = int(record['id'].decode().removeprefix(f'{split}_'))
      image, labels = want[index]
      np.testing.assert_array_equal(record['image'], image)
      assert {key: record[key] for key in labels} == labels
  ids = [record['id'] for record in splits['train']]
  assert len(set(ids)) == len(ids)


@pytest.mark.parametrize('name', ['cifar10_corrupted', 'cifar100_corrupted'])
def test_corrupted_cifars_are_read_back_equal(prepared, small, name):
  orders = set()
  for corruption in small.CORRUPTIONS:
    for severity in range(1, 6):
      splits = source(prepared, f'{name}/{corruption}_{severity}')
      assert set(splits) == {'test'}
      want = small.corrupted_pixels(name, corruption, severity)
      index = {image.tobytes(): i for i, image in enumerate(want)}
      order = tuple(index[r['image'].tobytes()] for r in splits['test'])
      orders.add(order)
      assert sorted(order) == list(range(small.TEST))
      labels = small.cifar_labels(name)
      assert [r['label'] for r in splits['test']] == [labels[i] for i in order]
  # The same image stands at the same place in every config.
  assert len(orders) == 1


def decode(data):
  """As TensorFlow decodes: three channels, grey ones too."""
  import io

  from PIL import Image

  return np.asarray(Image.open(io.BytesIO(data)).convert('RGB'))


def test_tiny_imagenet_is_read_back_equal(prepared, small):
  splits = source(prepared, 'tiny_imagenet')
  assert set(splits) == {'train', 'validation'}
  names = FACTS['tiny_imagenet'].class_names
  for split, records in splits.items():
    want = {file: rest for file, *rest in small.tiny_files(split)}
    assert len(records) == len(want)
    for record in records:
      wnid, data = want.pop(record['id'].decode())
      assert names[record['label']] == wnid
      np.testing.assert_array_equal(record['image'], decode(data))


def test_corrupted_tiny_imagenet_is_read_back_equal(prepared, small):
  names = FACTS['tiny_imagenet'].class_names
  for corruption in small.CORRUPTIONS[:2]:
    for severity in (1, 5):
      splits = source(
        prepared, f'tiny_imagenet_corrupted/{corruption}_{severity}'
      )
      (records,) = splits.values()
      seen = set()
      for record in records:
        wnid, _, file = record['id'].decode().partition('/')
        index = int(file.removeprefix('test_').removesuffix('.JPEG'))
        seen.add(index)
        assert names[record['label']] == wnid == small.WNIDS[index]
        data = small.tiny_corrupted_jpeg(corruption, severity, index)
        np.testing.assert_array_equal(record['image'], decode(data))
      assert seen == set(range(small.NUM_CLASSES))


@pytest.mark.parametrize('name', ['cifar10', 'cifar100', 'cifar10_corrupted'])
def test_the_directory_looks_as_tfds_writes_it(prepared, name):
  config = 'elastic_4' if name.endswith('corrupted') else None
  own = tfds.builder_cls(name)
  assert own.__module__.startswith('tensorflow_datasets.')
  version = str(own.VERSION)
  directory = prepared / name / (config or '') / version
  info = json.loads((directory / 'dataset_info.json').read_text())
  assert info['name'] == name
  assert info['version'] == version
  assert info['fileFormat'] == 'array_record'
  assert info['moduleName'] == own.__module__
  assert info.get('configName') == config
  # tfds' own builder finds the files, and believes them to be its own.
  builder = tfds.builder(name, config=config, data_dir=prepared)
  assert type(builder) is own
  assert Path(builder.data_dir) == directory
  read = tfds.builder_from_directory(directory).info
  wanted = own(config=config, data_dir=prepared / 'none').info
  for field in ('description', 'citation', 'homepage', 'supervised_keys'):
    assert getattr(read, field) == getattr(wanted, field)
  assert {key: repr(value) for key, value in read.features.items()} == {
    key: repr(value) for key, value in wanted.features.items()
  }
  assert read.release_notes == wanted.release_notes
  assert set(read.splits) == ({'test'} if config else {'train', 'test'})
  if not config:
    assert tuple(read.features['label'].names) == FACTS[name].class_names


def test_the_default_config_is_that_of_tfds(prepared):
  for name in ('cifar10_corrupted', 'cifar100_corrupted'):
    metadata = prepared / name / '.config' / 'metadata.json'
    assert json.loads(metadata.read_text()) == {
      'default_config_name': 'brightness_1'
    }


def test_our_reader_takes_it(prepared, small, published, monkeypatch, tmp_path):
  for name in ('cifar10', 'cifar100'):
    monkeypatch.setitem(FACTS, name, published.facts[name])
    data = tfds_source.load(name, prepared, tmp_path)
    for split in ('train', 'test'):
      want = {
        image.tobytes(): labels['label']
        for image, labels in small.cifar_examples(name, split)
      }
      images = getattr(data, f'{split}_images')
      labels = getattr(data, f'{split}_labels').tolist()
      assert labels == [want.pop(image.tobytes()) for image in images]
      assert not want


def test_both_forms_of_a_cifar_give_the_same_files(
  run, prepared, small, tmp_path
):
  folder = tmp_path / 'python'
  folder.mkdir()
  small.write_archives(folder, python=True)
  run('cifar10', 'cifar100', archives=folder)
  for name in ('cifar10', 'cifar100'):
    assert files(tmp_path / 'data' / name) == files(prepared / name)


def test_nothing_but_whole_directories_is_left(prepared):
  assert {path.name for path in prepared.iterdir()} == set(prepare.NAMES)
  leftovers = [
    path
    for path in prepared.rglob('*')
    if path.name.endswith(('.tmp', '.part')) or 'incomplete' in path.name
  ]
  assert not leftovers


def test_the_images_of_a_config_are_let_go(
  archives, published, tmp_path, monkeypatch
):
  blocks, alive = [], []
  original = originals.npy_blocks

  def watched(*args):
    for array in original(*args):
      blocks.append(weakref.ref(array))
      yield array
      del array

  monkeypatch.setattr(originals, 'npy_blocks', watched)
  gc.disable()  # builders are cyclic garbage, and a full run makes 95
  try:
    prepare.prepare(
      ['cifar10_corrupted'],
      tmp_path / 'data',
      archives,
      published=published,
      say=lambda _: alive.append(sum(ref() is not None for ref in blocks)),
    )
  finally:
    gc.enable()
  assert len(blocks) == 15
  assert max(alive) == 1


def test_the_default_directory_is_that_of_tfds(run, tmp_path, monkeypatch):
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'elsewhere'))
  run('cifar10', data_dir='')
  assert (tmp_path / 'elsewhere' / 'cifar10' / '3.0.2').is_dir()


# Kept or redone.


def test_what_is_whole_is_kept(run, tmp_path):
  run('cifar10', 'cifar10_corrupted')
  before = files(tmp_path / 'data')
  stats = {path: path.stat() for path in (tmp_path / 'data').rglob('*')}
  said = run('cifar10', 'cifar10_corrupted', archives=tmp_path / 'none')
  assert said == [
    f'cifar10: kept 1 of 1 in {tmp_path}/data/cifar10',
    f'cifar10_corrupted: kept 15 of 15 in {tmp_path}/data/cifar10_corrupted',
  ]
  assert files(tmp_path / 'data') == before
  assert {path: path.stat() for path in (tmp_path / 'data').rglob('*')} == stats


@pytest.mark.parametrize(
  'damage',
  [
    lambda path: (path / 'dataset_info.json').unlink(),
    lambda path: (path / 'dataset_info.json').write_text('{'),
    lambda path: (path / 'features.json').unlink(),
    lambda path: next(path.glob('*train*')).unlink(),
    lambda path: os.truncate(next(path.glob('*train*')), 1000),
    lambda path: os.truncate(next(path.glob('*test*')), 0),
    lambda path: [file.unlink() for file in path.iterdir()],
  ],
)
def test_what_is_not_whole_is_redone(run, prepared, tmp_path, damage):
  target = tmp_path / 'data' / 'cifar10'
  shutil.copytree(prepared / 'cifar10', target)
  damage(target / '3.0.2')
  said = run('cifar10')
  assert not any('kept' in line for line in said)
  assert said[-2] == f'cifar10: wrote {target / "3.0.2"}'
  assert files(target) == files(prepared / 'cifar10')


def test_only_missing_configs_are_written(run, prepared, tmp_path):
  name = 'cifar10_corrupted'
  target = tmp_path / 'data' / name
  shutil.copytree(prepared / name, target)
  shutil.rmtree(target / 'elastic_2')
  (target / 'elastic_3' / '1.0.0' / 'dataset_info.json').unlink()
  said = run(name)
  assert said[0] == f'{name}: kept 13 of 15 in {target}'
  assert [line for line in said if ': wrote' in line] == [
    f'{name}: wrote {target}/elastic_{severity}/1.0.0' for severity in (2, 3)
  ]
  assert files(target) == files(prepared / name)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'fileFormat': 'tfrecord'}, 'as tfrecord, wanted'),
    ({}, "holds {'train': 20, 'test': 10} examples as array_record, wanted"),
  ],
)
def test_another_data_set_is_left_alone(
  run, prepared, published, tmp_path, change, message
):
  target = tmp_path / 'data' / 'cifar10'
  shutil.copytree(prepared / 'cifar10', target)
  path = target / '3.0.2' / 'dataset_info.json'
  path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
  before = {file: file.read_bytes() for file in target.glob('*/*')}
  if not change:
    facts = dataclasses.replace(published.facts['cifar10'], test_examples=9)
    published = dataclasses.replace(published, facts={'cifar10': facts})
  got = refusal(lambda: run('cifar10', published=published))
  assert message in got
  assert 'move it away' in got
  after = {file: file.read_bytes() for file in target.glob('*/*')}
  assert after == before


def in_a_process(code, tmp_path, archives, **kwargs):
  """Runs code with `prepare`, `small` and `published`; gives the process."""
  conftest = str(Path(__file__).with_name('conftest.py'))
  head = f"""
    import os, resource, runpy, signal, sys
    from mollify_jax.data import cifar_originals, prepare

    small = runpy.run_path({conftest!r})
    published = prepare.Published(**small['small_published']())
    DATA, ARCHIVES = {str(tmp_path / 'data')!r}, {str(archives)!r}
  """
  return subprocess.run(
    [sys.executable, '-c', textwrap.dedent(head) + textwrap.dedent(code)],
    capture_output=True,
    text=True,
    cwd=ROOT,
    check=False,
    **kwargs,
  )


def test_a_killed_run_is_done_again(run, prepared, archives, tmp_path):
  process = in_a_process(
    """
    encode, count = cifar_originals.encode_png, 0

    def encode_until(image):
      global count
      count += 1
      if count == 34:  # in the middle of the fourth config
        os.kill(os.getpid(), signal.SIGKILL)
      return encode(image)

    cifar_originals.encode_png = encode_until
    prepare.prepare(['cifar10_corrupted'], DATA, ARCHIVES, published=published)
    """,
    tmp_path,
    archives,
  )
  assert process.returncode == -signal.SIGKILL, process.stderr
  home = tmp_path / 'data' / 'cifar10_corrupted'
  assert list(home.glob('.*.tmp/**/incomplete*'))
  assert len(list(home.glob('*/1.0.0/dataset_info.json'))) == 3
  said = run('cifar10_corrupted')
  assert 'kept 3 of 15' in said[0]
  assert files(home) == files(prepared / 'cifar10_corrupted')


def test_a_full_disk_leaves_nothing(archives, tmp_path):
  # A limit on the size of files stands in for a disk that is full: the same
  # writes fail, in tfds' own C++ code.
  process = in_a_process(
    """
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
    try:
      prepare.prepare(['cifar10'], DATA, ARCHIVES, published=published)
    except OSError as error:
      print(error)
      sys.exit(7)
    """,
    tmp_path,
    archives,
  )
  assert process.returncode == 7, process.stderr
  message = process.stdout.splitlines()[-1]
  target = tmp_path / 'data' / 'cifar10' / '3.0.2'
  assert message.startswith(f'cannot write {str(target)!r} (File too large')
  assert 'make room or choose another data_dir' in message
  assert not (tmp_path / 'data').exists()


def test_what_was_written_is_read_before_it_gets_its_name(
  run, tmp_path, monkeypatch
):
  monkeypatch.setattr(prepare, '_num_records', lambda _: 1)
  message = refusal(lambda: run('cifar10'), OSError)
  assert '(what was written cannot be read back)' in message
  assert not (tmp_path / 'data').exists()


def test_a_failed_rename_puts_nothing_in_place(run, tmp_path, monkeypatch):
  original = Path.rename

  def rename(self, target):
    if Path(target).name == '1.0.0' and '.tmp' not in str(target):
      raise PermissionError(13, 'Permission denied')
    return original(self, target)

  monkeypatch.setattr(Path, 'rename', rename)
  message = refusal(lambda: run('cifar10_corrupted'), OSError)
  assert '(Permission denied)' in message
  assert not (tmp_path / 'data').exists()


def test_two_processes_do_not_prepare_one_data_set(run, tmp_path):
  home = tmp_path / 'data' / 'cifar10'
  home.mkdir(parents=True)
  folder = os.open(home, os.O_RDONLY)
  try:
    fcntl.flock(folder, fcntl.LOCK_EX)
    message = refusal(lambda: run('cifar10'), OSError)
  finally:
    os.close(folder)
  assert f'another process prepares {str(home)!r}' in message
  run('cifar10')


def test_what_another_process_wrote_meanwhile_is_kept(
  run, prepared, tmp_path, monkeypatch
):
  original = prepare._locked

  @contextlib.contextmanager
  def locked(home):
    with original(home) as is_alone:
      shutil.copytree(prepared / 'cifar10', home, dirs_exist_ok=True)
      yield is_alone

  monkeypatch.setattr(prepare, '_locked', locked)
  assert run('cifar10') == []
  assert (tmp_path / 'data' / 'cifar10' / '3.0.2').is_dir()


# What is refused, and leaves nothing behind.


@pytest.fixture
def main(tmp_path, monkeypatch, published, capsys):
  """Runs the command on small archives: (status, stdout, stderr)."""
  original = prepare.prepare
  monkeypatch.setattr(
    prepare,
    'prepare',
    functools.partial(original, published=published),
  )

  def main(*arguments):
    status = prepare.main([*arguments, f'--data_dir={tmp_path / "data"}'])
    captured = capsys.readouterr()
    if status:
      assert captured.err.startswith('error: ')
      assert captured.err.count('\n') == 1
    return status, captured.out, captured.err

  return main


def test_the_command(main, archives, tmp_path):
  status, out, err = main('cifar10', 'cifar100', f'--archives={archives}')
  assert (status, err) == (0, '')
  assert f'cifar10: wrote {tmp_path}/data/cifar10/3.0.2' in out
  assert f'cifar100: wrote {tmp_path}/data/cifar100/3.0.2' in out
  assert main('cifar10')[0] == 0


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['mnist'], "unknown data set 'mnist'; choose from cifar10, cifar100, "),
    ([], 'no data set was named; choose from cifar10, cifar100, '),
    (['--nonsense'], 'unrecognized arguments: --nonsense; see --help'),
    (['cifar10', '--trust'], 'expected one argument'),
  ],
)
def test_a_wrong_command(main, arguments, message, tmp_path):
  status, _, err = main(*arguments)
  assert status == 1
  assert message in err
  assert not (tmp_path / 'data').exists()


def test_a_data_dir_that_is_a_file(main, archives, tmp_path):
  (tmp_path / 'data').touch()
  status, _, err = main('cifar10', f'--archives={archives}')
  assert status == 1
  home = tmp_path / 'data' / 'cifar10'
  assert f'cannot make the folder {str(home)!r} (Not a directory)' in err


def test_a_missing_archive_is_told_before_anything_is_read(
  main, archives, tmp_path
):
  folder = tmp_path / 'some'
  folder.mkdir()
  shutil.copy(archives / 'cifar-10-binary.tar.gz', folder)
  status, out, err = main('cifar10', 'tiny_imagenet', f'--archives={folder}')
  assert status == 1
  assert not out
  assert f'is not in {str(folder)!r}; wanted tiny-imagenet-200.zip' in err
  assert 'http://cs231n.stanford.edu/tiny-imagenet-200.zip' in err
  assert not (tmp_path / 'data').exists()


def test_the_published_digests_hold_by_default(archives, tmp_path, capsys):
  for name in prepare.NAMES:
    status = prepare.main(
      [name, f'--archives={archives}', f'--data_dir={tmp_path / "data"}']
    )
    err = capsys.readouterr().err
    assert status == 1
    assert err.startswith('error: archive ')
    assert 'is not the published one: it is ' in err
    assert '--trust=' in err
  assert not (tmp_path / 'data').exists()


def test_a_trusted_archive_is_taken(archives, tmp_path, capsys):
  path = archives / 'cifar-10-binary.tar.gz'
  digest = hashlib.sha256(path.read_bytes()).hexdigest()
  arguments = ['cifar10', f'--archives={archives}', f'--trust={digest}']
  # Trusted, but the counts are those of no CIFAR-10.
  status = prepare.main([*arguments, f'--data_dir={tmp_path / "data"}'])
  captured = capsys.readouterr()
  assert status == 1
  assert f'trusted sha256 {digest}' in captured.out
  assert 'holds 20 train images, wanted 50000' in captured.err
  assert not (tmp_path / 'data').exists()


def damaged(archives, tmp_path, file, change):
  folder = tmp_path / 'damaged'
  folder.mkdir()
  path = folder / file
  path.write_bytes(change((archives / file).read_bytes()))
  return folder


@pytest.mark.parametrize(
  ('name', 'file'),
  [
    ('cifar10', 'cifar-10-binary.tar.gz'),
    ('cifar10_corrupted', 'CIFAR-10-C.tar'),
    ('tiny_imagenet', 'tiny-imagenet-200.zip'),
    ('tiny_imagenet_corrupted', 'Tiny-ImageNet-C.tar'),
  ],
)
def test_a_truncated_archive(main, archives, tmp_path, name, file):
  folder = damaged(
    archives, tmp_path, file, lambda data: data[: len(data) // 30]
  )
  status, out, err = main(name, f'--archives={folder}')
  assert status == 1
  assert str(folder / file) in err
  assert ': wrote' not in out
  assert not (tmp_path / 'data').exists()


def test_damage_that_is_met_while_writing(main, archives, tmp_path):
  # The CRC of a member is only seen when it is read.
  def change(data):
    data = bytearray(data)
    data[data.index(b'val_7.JPEG') + 200] ^= 1
    return data

  folder = damaged(archives, tmp_path, 'tiny-imagenet-200.zip', change)
  status, _, err = main('tiny_imagenet', f'--archives={folder}')
  assert status == 1
  assert 'damaged (Bad CRC-32' in err
  assert not (tmp_path / 'data').exists()


def test_whole_configs_outlive_a_wrong_member(
  main, small, archives, prepared, tmp_path
):
  name = 'cifar10_corrupted'
  members = small.cifar_corrupted(name)
  last = list(members)[-1]
  assert last == 'CIFAR-10-C/elastic_transform.npy'
  members[last] = small.npy(np.zeros((50, 32, 32, 3), np.uint16))
  folder = tmp_path / 'wrong'
  folder.mkdir()
  small.write_tar(folder / 'CIFAR-10-C.tar', members)
  status, out, err = main(name, f'--archives={folder}')
  assert status == 1
  assert 'elastic_transform.npy holds uint16, wanted uint8' in err
  assert out.count(': wrote') == 10
  status, out, _ = main(name, f'--archives={archives}')
  assert status == 0
  assert 'kept 10 of 15' in out
  assert files(tmp_path / 'data' / name) == files(prepared / name)


def test_an_interrupt(main, archives, tmp_path, monkeypatch):
  def interrupt(_):
    raise KeyboardInterrupt

  monkeypatch.setattr(cifar_originals, 'encode_png', interrupt)
  status, _, err = main('cifar10', f'--archives={archives}')
  assert status == 1
  assert err == 'error: interrupted; run it again to go on\n'
  assert not (tmp_path / 'data').exists()


def test_tfds_not_installed(main, archives, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'tensorflow_datasets', None)
  status, _, err = main('cifar10', f'--archives={archives}')
  assert status == 1
  assert "pip install 'mollify_jax[data]'" in err
  assert not (tmp_path / 'data').exists()


# Downloaded.


@pytest.fixture
def server(archives, monkeypatch):
  """Serves the archives; `served` lists what was asked for."""
  for name in list(os.environ):
    if name.lower().endswith('_proxy'):
      monkeypatch.delenv(name)
  served = []

  class Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *args):
      super().__init__(*args, directory=archives)

    def log_request(self, *_):
      served.append(self.path)

  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    server.served = served
    yield server
    server.shutdown()
    thread.join()


@pytest.fixture
def online(published, server):
  """The published archives as the local server has them."""
  url = f'http://127.0.0.1:{server.server_port}'
  originals = {
    name: tuple(
      dataclasses.replace(value, url=f'{url}/{value.file_name}')
      for value in values
    )
    for name, values in published.originals.items()
  }
  return dataclasses.replace(published, originals=originals)


def test_archives_are_downloaded(run, online, server, prepared, tmp_path):
  said = run('cifar10', 'tiny_imagenet', archives='', published=online)
  assert server.served == ['/cifar-10-binary.tar.gz', '/tiny-imagenet-200.zip']
  assert any(line.startswith('cifar10: downloading http://') for line in said)
  assert 'cifar10: 0 of 0 MiB' in said
  for name in ('cifar10', 'tiny_imagenet'):
    assert files(tmp_path / 'data' / name) == files(prepared / name)
  # They are kept, and found there when they are needed again.
  shutil.rmtree(tmp_path / 'data' / 'cifar10')
  run('cifar10', archives='', published=online)
  assert len(server.served) == 2


def test_a_wrong_download_is_not_kept(run, online, archives, tmp_path):
  (original, *_) = online.originals['cifar10']
  wrong = dataclasses.replace(original, digest='md5:' + '0' * 32)
  published = dataclasses.replace(online, originals={'cifar10': (wrong,)})
  message = refusal(lambda: run('cifar10', archives='', published=published))
  assert 'has another md5 than 000' in message
  assert not (tmp_path / 'data').exists()
  digest = hashlib.sha256(
    (archives / original.file_name).read_bytes()
  ).hexdigest()
  run('cifar10', archives='', published=published, trusted=[digest])


def test_a_download_that_fails(run, online, server, tmp_path):
  server.shutdown()
  server.server_close()
  (original, *_) = online.originals['cifar10']
  gone = dataclasses.replace(original, url=original.url + '.gone')
  published = dataclasses.replace(online, originals={'cifar10': (gone,)})
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(downloads, 'ATTEMPTS', 1)
    message = refusal(
      lambda: run('cifar10', archives='', published=published), OSError
    )
  assert f'cannot download {gone.url}' in message
  assert not (tmp_path / 'data').exists()
