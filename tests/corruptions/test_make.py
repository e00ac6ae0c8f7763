"""Making folders: what is in them, and what a kill, a disk or a user may do."""

import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import numpy as np
import pytest

from mollify_jax import corruptions
from mollify_jax.corruptions import make as module
from mollify_jax.data import corrupted_manifest, digits
from mollify_jax.data.corrupted import CorruptedFolder

pytest.importorskip('sklearn')

ROOT = Path(__file__).parents[2]
NAMES = ('gaussian_noise', 'contrast')
SHAPE = (8, 8, 1)


def run(out, *extra, names='gaussian_noise,contrast', examples=7):
  """The exit status of the command."""
  return module.main(
    [
      '--dataset=digits',
      f'--out={out}',
      f'--corruptions={names}',
      f'--test_examples={examples}',
      *extra,
    ]
  )


def contents(out):
  """{name: bytes} of every file, hidden ones as well."""
  return {
    str(path.relative_to(out)): path.read_bytes()
    for path in out.rglob('*')
    if path.is_file()
  }


def arrays(out):
  return {k: v for k, v in contents(out).items() if k.endswith('.npy')}


class FakeKernels:
  """Quick stand-ins whose images depend on all that they should depend on."""

  def __init__(self):
    self.calls = []
    self.before_call = lambda: None

  def cell_keys(self, seed, name, severity, indices):
    text = f'{seed} {name} {severity}'
    base = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)
    return np.asarray(base + indices * 7919)

  def corrupt_batch(self, keys, images, name, severity, parameters):
    self.before_call()
    self.calls.append((name, severity, images.shape))
    return images + (keys % 251).astype(np.uint8)[:, None, None, None]


@pytest.fixture
def fakes(monkeypatch):
  fakes = FakeKernels()
  for name in ('cell_keys', 'corrupt_batch'):
    monkeypatch.setattr(module.corruptions, name, getattr(fakes, name))
  monkeypatch.setattr(module.corruptions, 'unavailable', lambda *_: {})
  return fakes


@pytest.fixture
def whole(fakes, tmp_path):
  """What a run that nothing interrupts has in its folder."""
  assert run(tmp_path / 'whole') == 0
  fakes.calls.clear()
  return arrays(tmp_path / 'whole')


def failure(capsys, *args, **kwargs):
  """The one line of a run that fails."""
  capsys.readouterr()
  assert run(*args, **kwargs) == 1
  error = capsys.readouterr().err
  *progress, line = error.splitlines()
  assert line.startswith('error: ')
  assert 'error: ' not in ''.join(progress)
  return line


# The kernels themselves.


@pytest.mark.slow
def test_the_layout_is_the_official_one(tmp_path):
  out = tmp_path / 'set'
  assert run(out) == 0
  assert sorted(contents(out)) == [
    'contrast.npy',
    'gaussian_noise.npy',
    'labels.npy',
    'manifest.json',
  ]
  assert os.listdir(tmp_path) == ['set']
  clean = digits.load()
  labels = np.load(out / 'labels.npy')
  assert labels.dtype == np.uint8
  np.testing.assert_array_equal(labels, np.tile(clean.test_labels[:7], 5))
  for name in NAMES:
    images = np.load(out / f'{name}.npy')
    assert (images.dtype, images.shape) == (np.uint8, (35, *SHAPE))
    for severity in (1, 4):
      keys = corruptions.cell_keys(0, name, severity, np.arange(7))
      np.testing.assert_array_equal(
        images[7 * (severity - 1) : 7 * severity],
        corruptions.corrupt_batch(
          keys, clean.test_images[:7], name, severity, 'cifar'
        ),
      )
    np.save(tmp_path / 'saved.npy', images)
    saved = (tmp_path / 'saved.npy').read_bytes()
    assert saved == (out / f'{name}.npy').read_bytes()


@pytest.mark.slow
def test_no_image_depends_on_the_batch_size_or_the_number(tmp_path):
  for name, batch_size, examples in (('a', 7, 7), ('b', 3, 7), ('c', 3, 5)):
    extra = f'--batch_size={batch_size}'
    assert run(tmp_path / name, extra, examples=examples) == 0
  assert arrays(tmp_path / 'a') == arrays(tmp_path / 'b')
  for name in NAMES:
    seven = np.load(tmp_path / 'a' / f'{name}.npy').reshape(5, 7, *SHAPE)
    five = np.load(tmp_path / 'c' / f'{name}.npy').reshape(5, 5, *SHAPE)
    np.testing.assert_array_equal(seven[:, :5], five)


def test_seeds_differ(tmp_path):
  for seed in (0, 1):
    assert run(tmp_path / f'{seed}', f'--seed={seed}') == 0
  zero, one = arrays(tmp_path / '0'), arrays(tmp_path / '1')
  assert zero['gaussian_noise.npy'] != one['gaussian_noise.npy']
  assert zero['contrast.npy'] == one['contrast.npy']


def test_the_manifest_tells_everything(tmp_path):
  out = tmp_path / 'set'
  assert run(out, '--seed=3') == 0
  record = json.loads((out / 'manifest.json').read_text())
  clean = digits.load()
  fingerprint = corrupted_manifest.fingerprint(
    clean.test_images[:7], clean.test_labels[:7]
  )
  (environment,) = record.pop('environments')
  assert record.pop('files') == {
    name: {
      'sha256': hashlib.sha256(data).hexdigest(),
      'num_bytes': len(data),
      'environment': 0,
    }
    for name, data in arrays(out).items()
  }
  assert record == {
    'format': 1,
    'title': 'digits-C-like',
    'dataset': 'digits',
    'fingerprint': fingerprint,
    'num_examples': 7,
    'image_shape': list(SHAPE),
    'num_classes': 10,
    'seed': 3,
    'parameters': 'cifar',
    'parameters_size': 32,
    'corruptions': list(NAMES),
    'skipped': {},
    'command': (
      f'{module.PROGRAM} --dataset=digits --out={out} '
      f'--corruptions=gaussian_noise,contrast --test_examples=7 --seed=3'
    ),
  }
  assert set(environment) == {
    'mollify_jax',
    'jax',
    'jaxlib',
    'numpy',
    'platform',
    'device',
    'commit',
  }
  assert environment['jax'] == jax.__version__
  assert environment['platform'] == jax.devices()[0].platform
  test_set = CorruptedFolder(
    out,
    'digits',
    labels=clean.test_labels[:7],
    image_shape=clean.image_shape,
    num_classes=clean.num_classes,
    fingerprint=fingerprint,
  )
  assert test_set.title == 'digits-C-like'
  assert test_set.corruptions == NAMES
  test_set.check(checksums=True)


# The files, with stand-ins for the kernels.


def test_one_shape_is_compiled(fakes, tmp_path):
  assert run(tmp_path / 'a', '--batch_size=3') == 0
  assert {shape for *_, shape in fakes.calls} == {(3, *SHAPE)}
  assert len(fakes.calls) == 2 * 5 * 3
  fakes.calls.clear()
  assert run(tmp_path / 'b') == 0
  assert {shape for *_, shape in fakes.calls} == {(7, *SHAPE)}
  assert arrays(tmp_path / 'a') == arrays(tmp_path / 'b')


def test_an_interrupted_make_goes_on(fakes, whole, tmp_path, capsys):
  out = tmp_path / 'set'
  for after in (1, 3, 9):  # 7 examples in batches of 3: 3 calls a cell

    def before_call(after=after):
      if len(fakes.calls) == after:
        raise KeyboardInterrupt

    fakes.before_call = before_call
    fakes.calls.clear()
    capsys.readouterr()
    assert run(out, '--batch_size=3') == 130
    assert capsys.readouterr().err.splitlines()[-1] == (
      'interrupted; run the same command again to go on'
    )
    assert not list(out.rglob('*.tmp'))
    assert sorted(arrays(out)) == ['labels.npy']
  assert sorted(path.name for path in (out / '.parts').iterdir()) == [
    f'gaussian_noise_{severity}' for severity in (1, 2, 3, 4)
  ]
  fakes.before_call = lambda: None
  fakes.calls.clear()
  assert run(out, '--batch_size=7') == 0
  assert 'going on after 4 of 10 parts' in capsys.readouterr().out
  assert [call[:2] for call in fakes.calls] == [
    ('gaussian_noise', 5),
    *(('contrast', severity) for severity in range(1, 6)),
  ]
  assert arrays(out) == whole
  assert sorted(contents(out)) == [*sorted(whole), 'manifest.json']


@pytest.mark.parametrize('function', ['replace', 'fsync', 'unlink'])
def test_a_kill_anywhere_leaves_only_whole_files(
  fakes, whole, tmp_path, monkeypatch, function
):
  """Nothing between two changes of the folder makes the next run go wrong."""
  real = getattr(os, function)
  for after in range(40):
    out = tmp_path / f'{after}'
    left = after

    def killed(*args, **kwargs):
      nonlocal left
      if not left:
        # As with SIGKILL, nobody cleans up.
        raise SystemExit
      left -= 1
      return real(*args, **kwargs)

    with monkeypatch.context() as patch:
      patch.setattr(os, function, killed)
      # Deleting through pathlib looks the function up in os.
      try:
        run(out)
        is_finished = True
      except SystemExit:
        is_finished = False
    if out.exists():
      manifest = corrupted_manifest.read(out)
      for path in out.glob('*.npy'):
        assert path.read_bytes() == whole[path.name]
        assert not corrupted_manifest.damage(out, manifest, path.name)
    assert run(out) == 0
    assert arrays(out) == whole
    assert sorted(contents(out)) == [*sorted(whole), 'manifest.json']
    if is_finished:
      break
  assert is_finished
  assert after > 2


@pytest.mark.slow
def test_a_killed_process_goes_on(fakes, whole, tmp_path):
  out = tmp_path / 'set'
  code = f"""
    import sys, time
    sys.path.insert(0, {str(Path(__file__).parent)!r})
    from test_make import FakeKernels, module, run
    import pathlib

    fakes = FakeKernels()
    module.corruptions.cell_keys = fakes.cell_keys
    module.corruptions.corrupt_batch = fakes.corrupt_batch

    def wait():
      if len(fakes.calls) == 7:
        print('waiting', flush=True)
        time.sleep(60)

    fakes.before_call = wait
    run(pathlib.Path({str(out)!r}))
  """
  process = subprocess.Popen(
    [sys.executable, '-c', textwrap.dedent(code)],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    text=True,
  )
  try:
    assert any(line == 'waiting\n' for line in process.stdout)
    # It holds the folder.
    assert run(out) == 1
  finally:
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
  assert process.returncode == -signal.SIGKILL
  assert sorted(arrays(out)) == ['gaussian_noise.npy', 'labels.npy']
  assert sorted(os.listdir(out / '.parts')) == [
    'contrast_1',
    'contrast_2',
    'contrast_3.tmp',
  ]
  assert run(out) == 0
  assert [call[:2] for call in fakes.calls] == [
    ('contrast', severity) for severity in (3, 4, 5)
  ]
  assert arrays(out) == whole
  assert sorted(contents(out)) == [*sorted(whole), 'manifest.json']


def test_what_is_whole_is_kept(fakes, tmp_path, capsys):
  out = tmp_path / 'set'
  assert run(out) == 0
  before = contents(out)
  times = {path: path.stat().st_mtime_ns for path in out.iterdir()}
  fakes.calls.clear()
  assert run(out) == 0
  assert f'kept 2 of 2 corruptions in {out}' in capsys.readouterr().out
  assert not fakes.calls
  assert contents(out) == before
  assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == times
  # More of them join.
  assert run(out, names='gaussian_noise,fog') == 0
  assert {name for name, *_ in fakes.calls} == {'fog'}
  manifest = corrupted_manifest.read(out)
  assert manifest.corruptions == (*NAMES, 'fog')
  assert '--corruptions=gaussian_noise,fog' in manifest.command
  assert before.items() - {('manifest.json', before['manifest.json'])} <= (
    contents(out).items()
  )


def test_damage_is_named_and_made_good(fakes, whole, tmp_path, capsys):
  out = tmp_path / 'set'
  assert run(out) == 0
  data = bytearray(whole['contrast.npy'])
  data[-1] ^= 1
  (out / 'contrast.npy').write_bytes(data)
  (out / 'labels.npy').write_bytes(whole['labels.npy'][:-1])
  (out / 'gaussian_noise.npy').unlink()
  fakes.calls.clear()
  capsys.readouterr()
  assert run(out) == 0
  said = capsys.readouterr().out
  assert (
    'contrast.npy does not have the checksum of its manifest; it is made again'
  ) in said
  size = len(whole['labels.npy'])
  assert f'labels.npy holds {size - 1} bytes and not the {size} of' in said
  assert len(fakes.calls) == 10
  assert arrays(out) == whole


def test_parts_of_another_environment_are_not_mixed_in(
  fakes, whole, tmp_path, monkeypatch
):
  out = tmp_path / 'set'

  def before_call():
    if len(fakes.calls) == 7:
      raise KeyboardInterrupt

  fakes.before_call = before_call
  assert run(out) == 130
  fakes.before_call = lambda: None
  fakes.calls.clear()
  monkeypatch.setattr(module, '_environment', lambda: {'jax': 'another'})
  assert run(out) == 0
  assert len(fakes.calls) == 5  # of which two were there
  manifest = corrupted_manifest.read(out)
  assert [entry['jax'] for entry in manifest.environments] == [
    jax.__version__,
    'another',
  ]
  assert {name: file.environment for name, file in manifest.files.items()} == {
    'labels.npy': 0,
    'gaussian_noise.npy': 0,
    'contrast.npy': 1,
  }
  assert arrays(out) == whole


@pytest.mark.parametrize(
  ('extra', 'difference'),
  [
    (['--seed=1'], '(seed 0, wanted 1)'),
    (['--parameters=imagenet'], "(parameters 'cifar', wanted 'imagenet')"),
    (
      ['--test_examples=6'],
      '(num_examples 7, wanted 6; other test images)',
    ),
  ],
)
def test_another_set_is_refused(fakes, tmp_path, capsys, extra, difference):
  out = tmp_path / 'set'
  assert run(out) == 0
  before = contents(out)
  line = failure(capsys, out, *extra)
  assert f'holds another set {difference}; choose another --out' in line
  assert contents(out) == before


def test_other_images_are_another_set(fakes, tmp_path, capsys, monkeypatch):
  out = tmp_path / 'set'
  assert run(out) == 0
  clean = digits.load()
  turned = dataclasses.replace(clean, test_images=clean.test_images[:, ::-1])
  monkeypatch.setattr(module.catalog.digits, 'load', lambda: turned)
  assert 'another set (other test images)' in failure(capsys, out)


def test_a_published_folder_is_never_touched(fakes, tmp_path, capsys):
  out = tmp_path / 'CIFAR-10-C'
  out.mkdir()
  np.save(out / 'fog.npy', np.zeros(3, np.uint8))
  before = contents(out)
  line = failure(capsys, out)
  assert 'holds .npy files that were not made here (there is no man' in line
  assert contents(out) == before


def test_a_stranger_among_the_files_is_never_touched(fakes, tmp_path, capsys):
  out = tmp_path / 'set'
  assert run(out) == 0
  np.save(out / 'fog.npy', np.zeros(3, np.uint8))
  before = contents(out)
  line = failure(capsys, out, names='contrast,fog')
  assert "fog.npy' is not in the manifest of its folder; move it away" in line
  assert contents(out) == before
  (out / 'manifest.json').write_text('{')
  assert 'is no manifest of corrupted test images' in failure(capsys, out)


def test_two_makes_in_one_folder_are_refused(fakes, tmp_path, capsys):
  out = tmp_path / 'set'
  assert run(out) == 0
  folder = os.open(out, os.O_RDONLY)
  try:
    fcntl.flock(folder, fcntl.LOCK_EX)
    assert 'another process writes into' in failure(capsys, out, names='fog')
  finally:
    os.close(folder)
  assert run(out, names='fog') == 0


def test_frost_without_textures_is_skipped(
  fakes, tmp_path, capsys, monkeypatch
):
  out = tmp_path / 'set'
  line = 'the frost textures are missing; get them'

  def missing(*_):
    return {'frost': line}

  monkeypatch.setattr(
    module.corruptions, 'unavailable', lambda *_: {'frost': line}
  )
  assert line in failure(capsys, out, names='frost')
  assert not out.exists()
  assert run(out, names='contrast,frost') == 0
  assert f'frost: skipped; {line}' in capsys.readouterr().out
  manifest = corrupted_manifest.read(out)
  assert manifest.skipped == {'frost': line}
  assert manifest.corruptions == ('frost', 'contrast')
  assert sorted(arrays(out)) == ['contrast.npy', 'labels.npy']
  with pytest.raises(FileNotFoundError, match='it was skipped; the frost'):
    CorruptedFolder(out).load('frost', 1)
  # Another command leaves it as it is; the textures let it be made.
  assert run(out, names='contrast') == 0
  assert corrupted_manifest.read(out).skipped == {'frost': line}
  monkeypatch.setattr(module.corruptions, 'unavailable', lambda *_: {})
  assert run(out, names='contrast,frost') == 0
  assert corrupted_manifest.read(out).skipped == {}
  assert len(CorruptedFolder(out).load('frost', 1)[0]) == 7
  # Once it is there, nobody asks for textures.
  monkeypatch.setattr(
    module.corruptions, 'unavailable', lambda *_: {'frost': line}
  )
  assert run(out, names='frost') == 0


def test_a_full_disk_is_one_line(fakes, whole, tmp_path, capsys, monkeypatch):
  out = tmp_path / 'set'
  # 15 severities of 7 images, and 5 of them twice.
  usage = shutil.disk_usage(tmp_path)._replace(free=8959)
  monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage)
  line = failure(capsys, out, names='contrast,fog,snow')
  assert 'needs 8,960 bytes more, and 8,959 are free; make room' in line
  usage = usage._replace(free=8960)
  assert run(out, names='contrast,fog,snow') == 0


def test_a_disk_that_fills_up(fakes, whole, tmp_path, capsys, monkeypatch):
  real = os.fsync
  for after in range(30):
    out = tmp_path / f'{after}'
    left = after

    def full(descriptor):
      nonlocal left
      left -= 1
      if left < 0:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
      real(descriptor)

    with monkeypatch.context() as patch:
      patch.setattr(os, 'fsync', full)
      capsys.readouterr()
      status = run(out)
    if status == 0:
      break
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == (
      f'error: cannot write into {str(out)!r} (No space left on device); make '
      'room or choose another --out, then run the same command again to go on'
    )
    if out.exists():
      assert not list(out.rglob('*.tmp'))
      assert all(data == whole[name] for name, data in arrays(out).items())
    assert run(out) == 0
    assert arrays(out) == whole
  assert status == 0
  assert after > 10


def test_places_that_cannot_be_written(fakes, tmp_path, capsys):
  file = tmp_path / 'file'
  file.write_text('mine')
  for out in (file, file / 'set'):
    line = failure(capsys, out)
    assert f'cannot write into {str(out)!r} (' in line
    assert line.endswith('; choose another --out')
  assert file.read_text() == 'mine'


def test_a_batch_that_does_not_fit_is_one_line(fakes, tmp_path, capsys):
  def before_call():
    raise jax.errors.JaxRuntimeError(
      'RESOURCE_EXHAUSTED: Out of memory\nallocating 9 bytes'
    )

  fakes.before_call = before_call
  assert 'take a smaller --batch_size' in failure(capsys, tmp_path / 'set')


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ([], 'required: --dataset, --out; see --help'),
    (['--dataset=mnist', '--out=OUT'], "unknown data set 'mnist'; choose from"),
    (['--dataset=archive', '--out=OUT'], 'needs the path of an .npz file'),
    (['--dataset=imagenet', '--out=OUT'], 'can only be streamed, and files'),
    (
      ['--dataset=digits', '--out=OUT', '--corruptions=rain'],
      "unknown corruption 'rain'; choose from benchmark, ",
    ),
    (
      ['--dataset=digits', '--out=OUT', '--corruptions='],
      "unknown corruption ''; choose from benchmark, ",
    ),
    (
      ['--dataset=digits', '--out=OUT', '--parameters=mnist'],
      "unknown parameters 'mnist'; choose from auto, cifar, tiny_imagenet, ",
    ),
    (
      ['--dataset=digits', '--out=OUT', '--seed=-1'],
      'seed must be in [0, 2^32',
    ),
    (['--dataset=digits', '--out=OUT', '--seed=x'], "invalid int value: 'x'"),
    (
      ['--dataset=digits', '--out=OUT', '--batch_size=0'],
      'must be >= 1, got 0',
    ),
    (
      ['--dataset=digits', '--out=OUT', '--test_examples=361'],
      'more than the test split of',
    ),
    (['--dataset=digits', '--out=OUT', 'more'], 'unrecognized arguments: more'),
    (
      ['--dataset=archive', '--out=OUT', '--path=DIR/a.npz'],
      "a.npz' does not exist",
    ),
  ],
)
def test_mistakes_are_one_line_and_leave_nothing(
  fakes, tmp_path, capsys, arguments, message
):
  out = str(tmp_path / 'new' / 'set')
  arguments = [
    a.replace('OUT', out).replace('DIR', str(tmp_path)) for a in arguments
  ]
  assert module.main(arguments) == 1
  captured = capsys.readouterr()
  (line,) = captured.err.splitlines()
  assert line.startswith('error: ')
  assert message in line
  assert not list(tmp_path.iterdir())


def write_archive(path, images):
  """Images of two classes that are both for training and for testing."""
  labels = np.arange(len(images)) % 2
  np.savez(
    path,
    train_images=images,
    train_labels=labels,
    test_images=images,
    test_labels=labels,
  )


def test_images_of_other_channels_are_refused(tmp_path, capsys):
  path = tmp_path / 'a.npz'
  write_archive(path, np.arange(64).reshape(2, 4, 4, 2).astype(np.uint8))
  arguments = ['--dataset=archive', f'--path={path}', f'--out={tmp_path}/set']
  assert module.main(arguments) == 1
  assert 'takes images of 1 or 3 channels' in capsys.readouterr().err
  assert os.listdir(tmp_path) == ['a.npz']


def test_parameters_of_another_published_size_are_refused(tmp_path, capsys):
  path = tmp_path / 'a.npz'
  write_archive(
    path, np.arange(2 * 32 * 32 * 3).reshape(2, 32, 32, 3).astype(np.uint8)
  )
  arguments = ['--dataset=archive', f'--path={path}', f'--out={tmp_path}/set']
  assert module.main([*arguments, '--parameters=imagenet']) == 1
  assert "for which 'cifar' was published" in capsys.readouterr().err
  assert os.listdir(tmp_path) == ['a.npz']


def test_archives_of_your_own_in_any_number_of_classes(fakes, tmp_path):
  path = tmp_path / 'mine.npz'
  images = np.arange(2 * 20 * 30 * 3).reshape(2, 20, 30, 3).astype(np.uint8)
  labels = np.array([3, 299])
  np.savez(
    path,
    train_images=np.concatenate([images, images]),
    train_labels=np.concatenate([labels, labels]),
    test_images=images,
    test_labels=labels,
    class_names=np.array([f'class {label}' for label in range(300)]),
  )
  out = tmp_path / 'set'
  arguments = ['--dataset=archive', f'--path={path}', f'--out={out}']
  assert module.main([*arguments, '--corruptions=extra']) == 0
  test_set = CorruptedFolder(out, 'mine', labels=labels)
  assert test_set.title == 'mine-C-like'
  assert set(test_set.corruptions) == set(corruptions.EXTRA_CORRUPTIONS)
  assert test_set.load('saturate', 2)[0].shape == (2, 20, 30, 3)
  assert test_set.manifest.parameters == 'cifar'


def test_parameters_of_another_size_are_told(fakes, tmp_path, capsys):
  assert run(tmp_path / 'a') == 0
  assert (
    "images are 8 x 8, and the parameters 'cifar' were published for 32 x 32\n"
  ) in capsys.readouterr().out
  assert run(tmp_path / 'b', '--parameters=tiny_imagenet') == 0
  manifest = corrupted_manifest.read(tmp_path / 'b')
  assert (manifest.parameters, manifest.parameters_size) == (
    'tiny_imagenet',
    64,
  )
