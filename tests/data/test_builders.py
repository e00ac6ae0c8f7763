"""The builders that tfds lacks: found by name, written without TensorFlow."""

import dataclasses
import sys

import numpy as np
import pytest

from mollify_jax.data import originals
from mollify_jax.data.facts import (
  BENCHMARK_CORRUPTIONS,
  CORRUPTED,
  EXTRA_CORRUPTIONS,
  FACTS,
  IMAGENET_MEAN,
  IMAGENET_STD,
  file_name,
)

tfds = pytest.importorskip('tensorflow_datasets')
pytest.importorskip('array_record')

from mollify_jax.data import builders  # noqa: E402

NAMES = ('cifar100_corrupted', 'tiny_imagenet', 'tiny_imagenet_corrupted')


@pytest.fixture(autouse=True)
def quiet():
  tfds.disable_progress_bar()


@pytest.fixture
def small_facts(small, monkeypatch):
  """The published counts and digests, but of small archives."""
  published = small.small_published()
  for field, table in (
    ('facts', FACTS),
    ('corrupted', CORRUPTED),
    ('originals', originals.ORIGINALS),
  ):
    for name, value in published[field].items():
      monkeypatch.setitem(table, name, value)


@pytest.fixture
def download(archives, monkeypatch):
  """tfds' downloads come from the folder of archives; gives the URLs."""
  urls = []

  def download(_, url):
    urls.append(url)
    return archives / url.rpartition('/')[2]

  monkeypatch.setattr(tfds.download.DownloadManager, 'download', download)
  return urls


def write(name, data_dir):
  builder = tfds.builder(name, data_dir=data_dir, file_format='array_record')
  builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(try_download_gcs=False)
  )
  return builder


# What is known.


def test_corruptions_are_those_of_tfds():
  from tensorflow_datasets.image_classification import cifar10_corrupted

  assert list(BENCHMARK_CORRUPTIONS) == cifar10_corrupted.BENCHMARK_CORRUPTIONS
  assert list(EXTRA_CORRUPTIONS) == cifar10_corrupted.EXTRA_CORRUPTIONS
  files = cifar10_corrupted._CORRUPTIONS_TO_FILENAMES
  assert {name: f'{file_name(name)}.npy' for name in files} == files
  own = [
    (config.name, config.corruption, config.severity, config.description)
    for config in cifar10_corrupted.Cifar10Corrupted.BUILDER_CONFIGS
  ]
  ours = [
    (config.name, config.corruption, config.severity, config.description)
    for config in builders.Cifar100Corrupted.BUILDER_CONFIGS
  ]
  assert ours == own
  assert list(CORRUPTED['cifar10_corrupted'].configs) == [
    name for name, *_ in own
  ]


def test_numbers_of_configs():
  assert {name: len(value.configs) for name, value in CORRUPTED.items()} == {
    'cifar10_corrupted': 95,
    'cifar100_corrupted': 95,
    'tiny_imagenet_corrupted': 75,
  }
  configs = CORRUPTED['tiny_imagenet_corrupted'].configs
  assert configs['elastic_3'] == ('elastic', 3)
  assert 'spatter_1' not in configs


def test_facts_of_tiny_imagenet():
  facts = FACTS['tiny_imagenet']
  assert len(facts.class_names) == 200
  assert list(facts.class_names) == sorted(facts.class_names)
  assert {len(name) for name in facts.class_names} == {9}
  assert facts.split_sizes == {'train': 100_000, 'validation': 10_000}
  assert (facts.mean, facts.std) == (IMAGENET_MEAN, IMAGENET_STD)
  assert FACTS['cifar10'].split_sizes == {'train': 50_000, 'test': 10_000}


# What is registered.


def test_builders_are_found_by_name(tmp_path):
  assert set(NAMES) <= set(tfds.list_builders(with_community_datasets=False))
  for name in NAMES:
    builder = tfds.builder(name, data_dir=tmp_path)
    assert builder.name == name
    assert type(builder).__module__ == f'mollify_jax.data.builders.{name}'
  assert (
    tfds.builder('tiny_imagenet_corrupted/fog_5', data_dir=tmp_path).info
  ).config_description == 'Corruption method: fog, severity level: 5'
  with pytest.raises(ValueError, match='spatter_1'):
    tfds.builder('tiny_imagenet_corrupted/spatter_1', data_dir=tmp_path)


@pytest.mark.parametrize('name', NAMES)
def test_features(name, tmp_path):
  info = tfds.builder(name, data_dir=tmp_path).info
  clean = CORRUPTED[name].clean if name in CORRUPTED else name
  assert info.features['image'].shape == FACTS[clean].image_shape
  assert tuple(info.features['label'].names) == FACTS[clean].class_names
  assert info.supervised_keys == ('image', 'label')
  assert info.description
  assert info.citation
  assert info.homepage


# What they write.


@pytest.mark.usefixtures('small_facts')
def test_cifar100_corrupted(tmp_path, small, download):
  builder = write('cifar100_corrupted/elastic_2', tmp_path)
  assert download == [
    'https://zenodo.org/records/3555552/files/CIFAR-100-C.tar'
  ]
  records = list(builder.as_data_source('test'))
  want = small.corrupted_pixels('cifar100_corrupted', 'elastic', 2)
  labels = small.cifar_labels('cifar100_corrupted')
  by_pixels = {want[i].tobytes(): labels[i] for i in range(small.TEST)}
  assert len(records) == small.TEST
  for record in records:
    assert by_pixels.pop(record['image'].tobytes()) == record['label']
  assert list(
    tfds.data_source('cifar100_corrupted/elastic_2', data_dir=tmp_path)
  )
  assert 'tensorflow' not in sys.modules


@pytest.mark.usefixtures('small_facts')
def test_tiny_imagenet(tmp_path, small, download):
  builder = write('tiny_imagenet', tmp_path)
  assert download == ['http://cs231n.stanford.edu/tiny-imagenet-200.zip']
  assert set(builder.info.splits) == {'train', 'validation'}
  for split in builder.info.splits:
    want = {file: rest for file, *rest in small.tiny_files(split)}
    source = builder.as_data_source(
      split, decoders={'image': tfds.decode.SkipDecoding()}
    )
    for record in source:
      wnid, data = want.pop(record['id'].decode())
      assert builder.info.features['label'].int2str(record['label']) == wnid
      assert record['image'] == data
    assert not want
  assert all(
    record['image'].shape == (64, 64, 3)
    for record in builder.as_data_source('validation')
  )
  assert 'tensorflow' not in sys.modules


@pytest.mark.usefixtures('small_facts', 'download')
def test_tiny_imagenet_corrupted(tmp_path, small):
  builder = write('tiny_imagenet_corrupted/frosted_glass_blur_3', tmp_path)
  source = builder.as_data_source(
    'test', decoders={'image': tfds.decode.SkipDecoding()}
  )
  seen = set()
  for record in source:
    wnid, _, file = record['id'].decode().partition('/')
    index = int(file.removeprefix('test_').removesuffix('.JPEG'))
    seen.add(index)
    assert small.WNIDS[index] == wnid
    assert builder.info.features['label'].int2str(record['label']) == wnid
    assert record['image'] == small.tiny_corrupted_jpeg(
      'frosted_glass_blur', 3, index
    )
  assert seen == set(range(small.NUM_CLASSES))


@pytest.mark.usefixtures('small_facts', 'download')
def test_strange_classes_are_logged(tmp_path, small, archives, caplog):
  members = small.tiny_corrupted_tar()
  strange = 'Tiny-ImageNet-C/gaussian_noise/1/n99999999/test_0.JPEG'
  path = small.write_tar(
    tmp_path / 'Tiny-ImageNet-C.tar',
    {**members, strange: small.jpeg(9)},
  )
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(tfds.download.DownloadManager, 'download', lambda *_: path)
    builder = write('tiny_imagenet_corrupted/gaussian_noise_1', tmp_path)
  assert builder.info.splits['test'].num_examples == small.NUM_CLASSES
  assert 'gaussian_noise: left out 1 images of 1 classes' in caplog.text


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.usefixtures('small_facts', 'download')
def test_a_wrong_archive_is_refused(tmp_path, name, monkeypatch):
  (original,) = originals.ORIGINALS[name]
  wrong = dataclasses.replace(original, digest='md5:' + '0' * 32)
  monkeypatch.setitem(originals.ORIGINALS, name, (wrong,))
  with pytest.raises(ValueError, match='another md5 than 000'):
    write(name, tmp_path)
  assert not list(tmp_path.rglob('dataset_info.json'))


def test_what_was_prepared_is_decoded_as_it_is_read(prepared_tiny, small):
  # A grey JPEG comes with three equal channels, as TensorFlow gives it.
  source = tfds.data_source(
    'tiny_imagenet', split='validation', data_dir=prepared_tiny
  )
  (grey,) = [record for record in source if record['id'] == b'val_3.JPEG']
  assert grey['image'].shape == (64, 64, 3)
  np.testing.assert_array_equal(
    grey['image'], grey['image'][..., :1].repeat(3, axis=-1)
  )


@pytest.fixture
def prepared_tiny(small_facts, download, tmp_path):
  write('tiny_imagenet', tmp_path)
  return tmp_path
