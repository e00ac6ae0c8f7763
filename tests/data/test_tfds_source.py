"""tfds data sets in array_record, written and read without TensorFlow."""

import dataclasses
import io
import json
import shutil
import sys
import tempfile
import types

import numpy as np
import pytest
from PIL import Image

from mollify_jax.data import tfds_source
from mollify_jax.data.facts import FACTS

tfds = pytest.importorskip('tensorflow_datasets')
pytest.importorskip('array_record')

TRAIN, TEST = 40, 20


def example(split, index):
  """What the tiny data set holds: (pixels, label)."""
  generator = np.random.default_rng((len(split), index))
  pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
  return pixels, index % 10


def png(pixels):
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, 'PNG')
  file.seek(0)
  return file


class Cifar10(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """A tiny CIFAR-10; tfds takes encoded images without TensorFlow."""

  VERSION = tfds.core.Version('3.0.2')
  names = FACTS['cifar10'].class_names
  extra = ()
  shape = (32, 32, 3)

  def _info(self):
    features = {
      'id': tfds.features.Text(),
      'image': tfds.features.Image(shape=self.shape),
      'label': tfds.features.ClassLabel(num_classes=len(self.names)),
    }
    for name in self.extra:
      features[name] = tfds.features.ClassLabel(num_classes=20)
    return tfds.core.DatasetInfo(
      builder=self,
      description='tiny',
      features=tfds.features.FeaturesDict(features),
    )

  def _split_generators(self, dl_manager):
    self.info.features['label'].names = list(self.names)
    return {
      'train': self._generate_examples('train', TRAIN),
      'test': self._generate_examples('test', TEST),
    }

  def _generate_examples(self, split, count):
    for index in range(count):
      pixels, label = example(split, index)
      record = {
        'id': f'{split}_{index:05d}',
        'image': png(pixels),
        'label': label,
      }
      yield index, {**record, **dict.fromkeys(self.extra, 0)}


class Cifar100(Cifar10, skip_registration=True):
  names = FACTS['cifar100'].class_names
  extra = ('coarse_label',)


def prepare(builder_class, data_dir, **changes):
  tfds.disable_progress_bar()
  if changes:
    builder_class = types.new_class(
      builder_class.__name__,
      (builder_class,),
      {'skip_registration': True},
      lambda namespace: namespace.update(changes),
    )
  builder = builder_class(data_dir=data_dir, file_format='array_record')
  builder.download_and_prepare()


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  """A directory with both tiny data sets."""
  directory = tmp_path_factory.mktemp('tfds')
  for builder_class in (Cifar10, Cifar100):
    prepare(builder_class, directory)
  return directory


@pytest.fixture
def copy(prepared, tmp_path):
  """One that a test may damage: (data_dir, directory of the version)."""
  shutil.copytree(prepared, tmp_path / 'copy')
  return tmp_path / 'copy', tmp_path / 'copy' / 'cifar10' / '3.0.2'


NAMES = ('cifar10', 'cifar100')


@pytest.fixture(autouse=True)
def small_facts(monkeypatch):
  for name in NAMES:
    small = dataclasses.replace(
      FACTS[name], train_examples=TRAIN, test_examples=TEST
    )
    monkeypatch.setitem(FACTS, name, small)


def load(name, data_dir):
  """Reads the files themselves, into a cache that nobody has used."""
  with tempfile.TemporaryDirectory() as cache_dir:
    return tfds_source.load(name, data_dir, cache_dir)


def refusal(error, data_dir, name='cifar10'):
  with pytest.raises(error) as caught:
    load(name, data_dir)
  assert '\n' not in str(caught.value)
  return str(caught.value)


@pytest.mark.parametrize('name', NAMES)
def test_prepared_data_is_read_back_equal(prepared, name, monkeypatch):
  monkeypatch.setattr(tfds_source, 'RECORDS_PER_READ', 7)  # and a short tail
  data = load(name, prepared)
  for split, count in (('train', TRAIN), ('test', TEST)):
    # tfds shuffles when it writes: compare as multisets.
    want = sorted(
      (pixels.tobytes(), label)
      for pixels, label in (example(split, index) for index in range(count))
    )
    images = getattr(data, f'{split}_images')
    labels = getattr(data, f'{split}_labels')
    got = [
      (image.tobytes(), label)
      for image, label in zip(images, labels.tolist(), strict=True)
    ]
    assert sorted(got) == want
    assert images.shape == (count, 32, 32, 3)
    assert labels.dtype == np.int32
  assert data.name == name
  assert data.class_names == FACTS[name].class_names
  assert data.mean == FACTS[name].mean
  assert data.std == FACTS[name].std
  again = load(name, str(prepared))
  assert again.fingerprint == data.fingerprint
  np.testing.assert_array_equal(again.train_images, data.train_images)


def test_the_second_load_reads_no_record(copy, tmp_path, monkeypatch):
  data_dir, directory = copy
  first = tfds_source.load('cifar10', data_dir, tmp_path / 'cache')
  original = tfds_source._records
  reads = []
  monkeypatch.setattr(
    tfds_source,
    '_records',
    lambda *arguments: reads.append(1) or original(*arguments),
  )
  second = tfds_source.load('cifar10', data_dir, tmp_path / 'cache')
  assert not reads
  assert second.fingerprint == first.fingerprint
  np.testing.assert_array_equal(second.train_images, first.train_images)
  # Files that were written anew are read anew.
  (directory / 'features.json').touch()
  tfds_source.load('cifar10', data_dir, tmp_path / 'cache')
  assert len(reads) == 2


def test_tensorflow_is_never_imported(prepared):
  load('cifar10', prepared)
  assert not [name for name in sys.modules if name == 'tensorflow']


def test_records_are_read_in_batches(prepared, monkeypatch):
  from tensorflow_datasets.core.data_sources import base

  batches = []
  original = base.BaseDataSource.__getitems__

  def counting(self, keys):
    batches.append(len(keys))
    return original(self, keys)

  monkeypatch.setattr(base.BaseDataSource, '__getitems__', counting)
  monkeypatch.setattr(
    base.BaseDataSource, '__getitem__', lambda *_: pytest.fail('one by one')
  )
  load('cifar10', prepared)
  assert batches == [TRAIN, TEST]


def test_the_default_directory_is_that_of_tfds(prepared, monkeypatch):
  monkeypatch.setenv('TFDS_DATA_DIR', str(prepared))
  assert len(load('cifar10', '').train_images) == TRAIN
  monkeypatch.delenv('TFDS_DATA_DIR')
  monkeypatch.setenv('HOME', '/nowhere')
  message = refusal(FileNotFoundError, '')
  assert '/nowhere/tensorflow_datasets/cifar10' in message


def test_the_newest_version_is_read(copy):
  data_dir, directory = copy
  older = directory.with_name('3.0.0')
  shutil.copytree(directory, older)
  (older / 'dataset_info.json').write_text('{')
  shutil.copytree(older, directory.with_name('incomplete.AB_10.0.0'))
  load('cifar10', data_dir)
  older.rename(directory.with_name('10.0.0'))
  assert '10.0.0' in refusal(ValueError, data_dir)


def test_unknown_name():
  message = "'svhn'; choose from cifar10, cifar100, tiny_imagenet$"
  with pytest.raises(ValueError, match=message):
    load('svhn', '')
  with pytest.raises(ValueError, match=r"'svhn'; choose from .*imagenet$"):
    tfds_source.stream('svhn', '', 32)


def test_not_prepared(tmp_path):
  message = refusal(FileNotFoundError, tmp_path / 'none')
  assert str(tmp_path / 'none' / 'cifar10') in message
  assert (
    f'`python -m mollify_jax.data.prepare cifar10 --data_dir={tmp_path}/none`'
  ) in message
  assert "name='archive'" in message
  with pytest.raises(FileNotFoundError, match='tfds build imagenet2012'):
    tfds_source.stream('imagenet', tmp_path / 'none', 224)
  assert not list(tmp_path.iterdir())


def test_any_data_set_of_labelled_images_is_read(tmp_path):
  """One that nothing is known of: grey, not square, with names of its own."""

  class Letters(Cifar10, skip_registration=True):
    names = ('a', 'b')
    shape = (32, 32, 1)

    def _split_generators(self, dl_manager):
      splits = super()._split_generators(dl_manager)
      return {'train': splits['train'], 'validation': splits['test']}

    def _generate_examples(self, split, count):
      for key, record in super()._generate_examples(split, count):
        grey = Image.open(record['image']).convert('L')
        yield key, {**record, 'image': png(np.asarray(grey)), 'label': key % 2}

  prepare(Letters, tmp_path)
  data = tfds_source.load_other('letters', tmp_path, tmp_path / 'cache')
  assert data.train_images.shape == (TRAIN, 32, 32, 1)
  assert data.class_names == ('a', 'b')
  np.testing.assert_allclose(data.mean, data.train_images.mean() / 255)
  assert len(data.test_labels) == TEST
  want = [
    np.asarray(Image.fromarray(example('test', i)[0]).convert('L')).tobytes()
    for i in range(TEST)
  ]
  assert sorted(image.tobytes() for image in data.test_images) == sorted(want)
  streamed = tfds_source.stream_other('letters', tmp_path, 16)
  assert streamed.class_names == ('a', 'b')
  assert len(streamed.test_source) == TEST
  with pytest.raises(FileNotFoundError, match='run `tfds build numbers'):
    tfds_source.load_other('numbers', tmp_path, tmp_path / 'cache')


def test_a_data_set_without_labels_is_refused(tmp_path):
  class Unlabelled(Cifar10, skip_registration=True):
    def _info(self):
      features = {'image': tfds.features.Image(shape=(32, 32, 3))}
      return tfds.core.DatasetInfo(
        builder=self,
        description='tiny',
        features=tfds.features.FeaturesDict(features),
      )

    def _split_generators(self, dl_manager):
      return {'train': self._generate_examples('train', 3)}

    def _generate_examples(self, split, count):
      for index in range(count):
        yield index, {'image': png(example(split, index)[0])}

  prepare(Unlabelled, tmp_path)
  with pytest.raises(ValueError, match='lacks the features label'):
    tfds_source.load_other('unlabelled', tmp_path, tmp_path / 'cache')


def test_a_stream_opens_the_same_examples(prepared):
  streamed = tfds_source.stream('cifar10', prepared, image_size=32)
  whole = load('cifar10', prepared)
  assert streamed.num_train == TRAIN
  assert len(streamed.test_source) == TEST
  assert streamed.image_shape == whole.image_shape
  assert streamed.class_names == whole.class_names
  for index in (0, 7, TRAIN - 1):
    record = streamed.train_source[index]
    pixels = np.asarray(Image.open(io.BytesIO(record['image'])))
    np.testing.assert_array_equal(pixels, whole.train_images[index])
    assert record['label'] == whole.train_labels[index]


def test_tfds_not_installed(prepared, monkeypatch):
  monkeypatch.setitem(sys.modules, 'tensorflow_datasets', None)
  message = refusal(ValueError, prepared)
  assert "pip install 'mollify_jax[data]'" in message


def test_another_file_format(copy):
  data_dir, directory = copy
  path = directory / 'dataset_info.json'
  info = json.loads(path.read_text())
  path.write_text(json.dumps({**info, 'fileFormat': 'tfrecord'}))
  message = refusal(ValueError, data_dir)
  assert 'is prepared as tfrecord, which takes TensorFlow to read' in message
  assert "pip install 'mollify_jax[tensorflow]'" in message
  assert 'mollify_jax.data.prepare cifar10' in message
  with pytest.raises(ValueError, match='is prepared as tfrecord'):
    tfds_source.stream('cifar10', data_dir, 32)


@pytest.mark.parametrize('keep', [0, 10, 0.5, -5, None])
def test_damaged_records(copy, keep):
  data_dir, directory = copy
  path = directory / 'cifar10-train.array_record-00000-of-00001'
  whole = path.read_bytes()
  if keep is None:
    path.unlink()
  else:
    keep = int(keep * len(whole)) if isinstance(keep, float) else keep
    path.write_bytes(whole[:keep])
  message = refusal(ValueError, data_dir)
  assert str(directory) in message
  assert 'cannot be read (' in message
  assert 'delete it' in message


@pytest.mark.parametrize('name', ['dataset_info.json', 'features.json'])
@pytest.mark.parametrize('text', ['', '{'])
def test_damaged_description(copy, name, text):
  data_dir, directory = copy
  (directory / name).write_text(text)
  assert 'cannot be read (' in refusal(ValueError, data_dir)


def test_a_part_of_the_data_set_is_refused(prepared, monkeypatch):
  small = dataclasses.replace(FACTS['cifar10'], train_examples=50_000)
  monkeypatch.setitem(FACTS, 'cifar10', small)
  message = refusal(ValueError, prepared)
  assert f"holds {{'train': {TRAIN}, 'test': {TEST}}} examples" in message
  assert "wanted {'train': 50000" in message


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'names': tuple('abcdefghij')}, 'has the classes a, b, c'),
    ({'shape': (None, None, 3)}, 'images of shape (None, None, 3)'),
  ],
)
def test_other_contents_are_refused(tmp_path, changes, message):
  prepare(Cifar10, tmp_path, **changes)
  assert message in refusal(ValueError, tmp_path)


def test_a_damaged_image_is_named(tmp_path, monkeypatch):
  original = png

  def damaged(pixels):
    file = original(pixels)
    if np.array_equal(pixels, example('test', 3)[0]):
      return io.BytesIO(file.read()[:500])
    return file

  monkeypatch.setitem(globals(), 'png', damaged)
  prepare(Cifar10, tmp_path)
  message = refusal(ValueError, tmp_path)
  assert str(tmp_path) in message
  assert 'test image ' in message
  assert 'cannot be decoded' in message
