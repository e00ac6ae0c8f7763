"""The streaming feed: order, crops, resumption, worker processes."""

import contextlib
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from mollify_jax import parallel
from mollify_jax.data import folder, resident, streaming
from mollify_jax.data.streaming import StreamingFeed, eval_batches

NUM_EXAMPLES = 21
SIZE = 8


def picture(index, width=20, height=16):
  """A smooth image in which every crop looks different."""
  generator = np.random.default_rng(index)
  small = generator.integers(0, 256, (4, 5, 3), dtype=np.uint8)
  return Image.fromarray(small).resize((width, height))


def encode(image, kind='PNG'):
  file = io.BytesIO()
  image.save(file, kind)
  return file.getvalue()


class Pictures:
  """Example i is picture(i) with the label i."""

  def __init__(self, count=NUM_EXAMPLES):
    self.files = [encode(picture(index)) for index in range(count)]

  def __len__(self):
    return len(self.files)

  def __getitem__(self, index):
    return self.files[index], index


@pytest.fixture(scope='module')
def pictures():
  return Pictures()


@pytest.fixture(scope='module')
def folder_source(tmp_path_factory):
  """The same examples as files, which worker processes can open."""
  root = tmp_path_factory.mktemp('images')
  for index in range(NUM_EXAMPLES):
    for split in ('train', 'test'):
      path = root / split / f'{index:03d}'
      path.mkdir(parents=True)
      (path / 'a.png').write_bytes(encode(picture(index)))
  return folder.sources(root)['train']


def feed(source, **changes):
  arguments = {'batch_size': 4, 'image_size': SIZE, 'seed': 3, **changes}
  return StreamingFeed(source, **arguments)


def assert_equal(left, right):
  assert left.keys() == right.keys()
  for key in left:
    assert left[key].dtype == right[key].dtype
    np.testing.assert_array_equal(left[key], right[key])


def from_hosts(source, count, first_step, num_steps, **changes):
  """What several processes hold, put together into global batches."""
  shares = [
    feed(source, process_index=index, process_count=count, **changes).steps(
      first_step, num_steps
    )
    for index in range(count)
  ]
  return {
    key: np.concatenate([share[key] for share in shares], axis=1)
    for key in ('image', 'label')
  }


@contextlib.contextmanager
def no_process_left():
  """No child process outlives the block."""
  before = set(multiprocessing.active_children())
  yield
  assert not set(multiprocessing.active_children()) - before


# The order.


@pytest.mark.parametrize('hosts', [1, 2, 4])
def test_the_order_is_that_of_resident_data_on_any_hosts(pictures, hosts):
  batches = from_hosts(pictures, hosts, 0, 15)
  assert batches['image'].shape == (15, 4, SIZE, SIZE, 3)
  assert batches['image'].dtype == np.uint8
  assert batches['label'].dtype == np.int32
  np.testing.assert_array_equal(
    batches['label'], resident.train_indices(3, 0, 15, 4, NUM_EXAMPLES)
  )
  for epoch in batches['label'].reshape(3, -1):  # 5 steps each, 1 dropped
    assert len(set(epoch.tolist())) == 20
  assert_equal(batches, from_hosts(pictures, 1, 0, 15))


@pytest.mark.parametrize('hosts', [1, 2, 4])
def test_a_host_holds_what_its_devices_are_given(pictures, hosts, monkeypatch):
  whole = feed(pictures, batch_size=16).steps(0, 3)
  monkeypatch.setattr(jax, 'device_count', lambda: 8)
  monkeypatch.setattr(jax, 'local_device_count', lambda: 8 // hosts)
  for index in range(hosts):
    monkeypatch.setattr(jax, 'process_index', lambda index=index: index)
    share = feed(
      pictures, batch_size=16, process_index=index, process_count=hosts
    ).steps(0, 3)
    devices = parallel.split_batch(whole['label'])
    want = devices.swapaxes(0, 1).reshape(3, -1)
    np.testing.assert_array_equal(share['label'], want)


@pytest.mark.parametrize('size', [1, 3, 4, 100])
def test_the_size_of_tasks_changes_nothing(pictures, size, monkeypatch):
  want = feed(pictures).steps(4, 3)
  monkeypatch.setattr(streaming, 'EXAMPLES_PER_TASK', size)
  assert_equal(feed(pictures).steps(4, 3), want)


def test_any_cut_gives_the_uninterrupted_stream(pictures):
  whole = feed(pictures).steps(0, 12)
  for cuts in ([12], [1, 1, 10], [4, 0, 8]):
    stream = feed(pictures)
    parts, step = [], 0
    for count in cuts:
      parts.append(stream.steps(step, count))
      step += count
    joined = {
      key: np.concatenate([part[key] for part in parts]) for key in whole
    }
    assert_equal(joined, whole)
  for step in (11, 3, 5, 5):  # another feed, or jumps in this one
    want = {key: array[step : step + 1] for key, array in whole.items()}
    assert_equal(stream.steps(step, 1), want)
    assert_equal(feed(pictures).steps(step, 1), want)


def test_seeds_differ(pictures):
  left, right = (feed(pictures, seed=seed).steps(0, 5) for seed in (0, 1))
  assert not np.array_equal(left['label'], right['label'])


# The crops.


def crops_of(batches):
  """example -> its pixels, for batches of one epoch."""
  images = batches['image'].reshape(-1, SIZE, SIZE, 3)
  labels = batches['label'].reshape(-1).tolist()
  return dict(zip(labels, images, strict=True))


def test_a_crop_depends_on_seed_epoch_and_example_alone(pictures):
  first = crops_of(feed(pictures).steps(0, 5))
  other = crops_of(feed(pictures, batch_size=3).steps(0, 7))
  for example, pixels in first.items():
    np.testing.assert_array_equal(pixels, other[example])
  later = crops_of(feed(pictures).steps(5, 5))
  reseeded = crops_of(feed(pictures, seed=4).steps(0, 5))
  for changed in (later, reseeded):
    common = first.keys() & changed.keys()
    assert len(common) > 15
    for example in common:
      assert not np.array_equal(first[example], changed[example])


def test_example_0_does_not_repeat_the_numbers_of_the_order():
  order = np.random.default_rng((3, 1))
  crop = np.random.default_rng((3, 1, 0, streaming.CROP_STREAM))
  assert order.uniform() != crop.uniform()


def test_a_random_crop_is_cut_and_then_resized(pictures):
  batches = feed(pictures).steps(0, 1)
  for label, pixels in zip(
    batches['label'][0], batches['image'][0], strict=True
  ):
    generator = np.random.default_rng((3, 0, int(label), streaming.CROP_STREAM))
    left, top, wide, tall = streaming.random_box(generator, 20, 16)
    box = np.asarray(picture(int(label)))[top : top + tall, left : left + wide]
    want = Image.fromarray(box).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(pixels, np.asarray(want))


@pytest.mark.parametrize('shape', [(300, 200), (64, 64), (3, 2), (1, 1)])
def test_boxes_lie_within_the_image_and_its_bounds(shape):
  generator = np.random.default_rng(0)
  width, height = shape
  for _ in range(300):
    left, top, wide, tall = streaming.random_box(generator, width, height)
    assert 0 <= left <= left + wide <= width
    assert 0 <= top <= top + tall <= height
    assert wide > 0
    assert tall > 0
    if width >= 64:
      assert 0.07 < wide * tall / (width * height) <= 1
      assert 0.72 < wide / tall < 1.39


def test_boxes_have_the_moments_of_torchvision(monkeypatch):
  # Small enough that no box is refused, which would bend the distribution.
  monkeypatch.setattr(streaming, 'CROP_SCALE', (0.08, 0.5))
  generator = np.random.default_rng(1)
  boxes = np.array(
    [streaming.random_box(generator, 1000, 1000) for _ in range(4000)]
  )
  left, top, wide, tall = boxes.T.astype(float)

  def assert_uniform(values, low, high):
    error = (high - low) / np.sqrt(12 * len(values))
    assert abs(values.mean() - (low + high) / 2) < 5 * error
    assert abs(values.var() * 12 / (high - low) ** 2 - 1) < 0.1

  assert_uniform(wide * tall / 1e6, 0.08, 0.5)
  assert_uniform(np.log(wide / tall), np.log(3 / 4), np.log(4 / 3))
  assert_uniform(left / (1000 - wide), 0, 1)
  assert_uniform(top / (1000 - tall), 0, 1)


@pytest.mark.parametrize(
  ('shape', 'box'),
  [((1000, 10), (493, 0, 13, 10)), ((10, 1000), (0, 493, 10, 13))],
)
def test_a_narrow_image_is_cut_in_the_middle(shape, box, monkeypatch):
  monkeypatch.setattr(streaming, 'CROP_SCALE', (0.9, 1.0))
  generator = np.random.default_rng(0)
  assert streaming.random_box(generator, *shape) == box


def test_the_centre_crop_is_the_documented_one(pictures):
  got = feed(pictures, crop='center').steps(0, 1)
  # 20 x 16 with the shorter side 9 is 11 x 9; the middle begins at 2, 0.
  for label, pixels in zip(got['label'][0], got['image'][0], strict=True):
    resized = picture(int(label)).resize((11, 9), Image.Resampling.BILINEAR)
    want = np.asarray(resized)[0:8, 2:10]
    np.testing.assert_array_equal(pixels, want)


def test_the_centre_crop_is_antialiased_and_centred():
  checkers = 255 * (np.indices((64, 64)).sum(0) % 2)
  image = Image.fromarray(checkers.astype(np.uint8))
  small = np.asarray(streaming.center_crop(image, 8, 8))
  assert abs(small.astype(int) - 127).max() <= 2
  ramp = np.arange(60, dtype=np.uint8)
  image = Image.fromarray(np.tile(ramp, (30, 1)))
  middle = np.asarray(streaming.center_crop(image, 30, 30))
  np.testing.assert_array_equal(middle, np.tile(ramp[15:45], (30, 1)))


@pytest.mark.parametrize('mode', ['L', 'P', 'RGBA', 'LA', '1', 'CMYK'])
def test_every_mode_becomes_rgb(mode):
  image = Image.new('RGB', (16, 16), (255, 255, 255)).convert(mode)
  source = [(encode(image, 'JPEG' if mode == 'CMYK' else 'PNG'), 0)]
  batch = feed(source, batch_size=1).steps(0, 1)
  np.testing.assert_array_equal(
    batch['image'], np.full((1, 1, SIZE, SIZE, 3), 255, np.uint8)
  )


# Sources.


class Records(Pictures):
  """As tfds returns them, in batches."""

  def __init__(self):
    super().__init__()
    self.reads = []

  def __getitems__(self, indices):
    self.reads.append(list(indices))
    return [
      {'image': data, 'label': label, 'id': 'unused'}
      for data, label in (self[index] for index in indices)
    ]


def test_records_may_be_mappings_and_are_read_together(pictures):
  source = Records()
  assert_equal(feed(source).steps(0, 2), feed(pictures).steps(0, 2))
  order = resident.train_indices(3, 0, 2, 4, NUM_EXAMPLES)
  assert source.reads == order.tolist()


@pytest.mark.parametrize('with_getitems', [True, False])
def test_a_record_that_cannot_be_read_is_named(with_getitems):
  base = Records if with_getitems else Pictures

  class Broken(base):
    def __getitem__(self, index):
      if index == 11:
        raise RuntimeError('INTERNAL:\n checksum')
      return super().__getitem__(index)

  with pytest.raises(
    ValueError,
    match=r'^train example 11 cannot be read \(INTERNAL: checksum\); restore',
  ):
    feed(Broken(), batch_size=21).steps(0, 1)


@pytest.mark.parametrize(
  ('data', 'reason'),
  [
    (b'', r'cannot be decoded \(not an image\)'),
    (b'no image', r'cannot be decoded \(not an image\)'),
    (encode(picture(0))[:-40], 'cannot be decoded'),
    (encode(picture(0), 'JPEG')[:300], 'cannot be decoded'),
    (encode(picture(0), 'GIF'), r'cannot be decoded \(not an image\)'),
    (
      encode(Image.new('I;16', (9, 9))),
      "is of mode 'I;16', wanted 8 bits per channel; convert it",
    ),
  ],
)
def test_a_damaged_image_is_named(data, reason):
  source = Pictures()
  source.files[7] = data
  with pytest.raises(ValueError, match=f'^train image 7 {reason}') as caught:
    feed(source, batch_size=21).steps(0, 1)
  assert '\n' not in str(caught.value)
  with pytest.raises(ValueError, match=f'^test image 7 {reason}'):
    list(eval_batches(source, batch_size=4, image_size=SIZE))


# Evaluation.


@pytest.mark.parametrize('hosts', [1, 2, 4])
@pytest.mark.parametrize('count', [21, 16, 1])
def test_evaluation_counts_every_example_once(hosts, count, monkeypatch):
  monkeypatch.setattr(streaming, 'EXAMPLES_PER_TASK', 3)
  source = Pictures(count)
  shares = [
    list(
      eval_batches(
        source,
        batch_size=8,
        image_size=SIZE,
        process_index=index,
        process_count=hosts,
      )
    )
    for index in range(hosts)
  ]
  indices, mask = resident.padded_batches(count, 8)
  assert [len(share) for share in shares] == [len(indices)] * hosts
  for number, batches in enumerate(zip(*shares, strict=True)):
    whole = {
      key: np.concatenate([batch[key] for batch in batches])
      for key in ('image', 'label', 'mask')
    }
    np.testing.assert_array_equal(whole['mask'], mask[number])
    np.testing.assert_array_equal(whole['label'], indices[number])
    assert whole['label'].dtype == np.int32
    assert not whole['image'][~whole['mask']].any()
    for label, pixels in zip(
      whole['label'][whole['mask']],
      whole['image'][whole['mask']],
      strict=True,
    ):
      want = streaming.center_crop(picture(int(label)), 9, 8)
      np.testing.assert_array_equal(pixels, np.asarray(want))


# Worker processes.


def test_workers_change_nothing(folder_source, monkeypatch):
  monkeypatch.setattr(streaming, 'EXAMPLES_PER_TASK', 3)
  want = feed(folder_source).steps(0, 13)
  with no_process_left(), feed(folder_source, num_workers=2) as stream:
    for first, count in ((0, 2), (2, 5)):
      got = stream.steps(first, count)
      part = {key: want[key][first : first + count] for key in want}
      assert_equal(got, part)
      workers = {child.pid for child in multiprocessing.active_children()}
      if first == 0:
        at_first = workers
    assert len(at_first) >= 2
    assert workers == at_first  # it went on where it was
    # As after a crash: another process would begin just like this.
    assert_equal(
      stream.steps(11, 2), {key: array[11:13] for key, array in want.items()}
    )
    now = {child.pid for child in multiprocessing.active_children()}
    assert not now & at_first


def test_evaluation_with_workers(folder_source):
  arguments = {'batch_size': 8, 'image_size': SIZE}
  want = list(eval_batches(folder_source, **arguments))
  with no_process_left():
    got = list(eval_batches(folder_source, num_workers=2, **arguments))
    assert len(got) == 3
    for left, right in zip(got, want, strict=True):
      assert_equal(left, right)


def test_tfds_is_read_by_workers_without_tensorflow(tmp_path):
  tfds = pytest.importorskip('tensorflow_datasets')
  pytest.importorskip('array_record')
  tfds.disable_progress_bar()

  class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
      features = {
        'image': tfds.features.Image(shape=(None, None, 3)),
        'label': tfds.features.ClassLabel(num_classes=NUM_EXAMPLES),
      }
      return tfds.core.DatasetInfo(
        builder=self,
        description='tiny',
        features=tfds.features.FeaturesDict(features),
      )

    def _split_generators(self, dl_manager):
      return {'train': self._generate_examples()}

    def _generate_examples(self):
      for index in range(NUM_EXAMPLES):
        image = io.BytesIO(encode(picture(index)))
        yield index, {'image': image, 'label': index}

  Tiny(data_dir=tmp_path, file_format='array_record').download_and_prepare()
  source = tfds.builder_from_directory(
    tmp_path / 'tiny' / '1.0.0'
  ).as_data_source('train', decoders={'image': tfds.decode.SkipDecoding()})
  want = feed(source, crop='center').steps(0, 5)
  images = want['image'].reshape(-1, SIZE, SIZE, 3)
  for label, pixels in zip(want['label'].flat, images, strict=True):
    crop = streaming.center_crop(picture(int(label)), 9, 8)
    np.testing.assert_array_equal(pixels, np.asarray(crop))
  assert len(set(want['label'].flat)) == 20
  with (
    no_process_left(),
    feed(source, crop='center', num_workers=1) as stream,
  ):
    assert_equal(stream.steps(0, 5), want)
  assert 'tensorflow' not in sys.modules


def test_a_damaged_image_in_a_worker_reaches_the_parent(tmp_path):
  for index in range(8):
    for split in ('train', 'test'):
      path = tmp_path / split / f'{index:03d}'
      path.mkdir(parents=True)
      data = encode(picture(index))
      (path / 'a.png').write_bytes(data[:90] if index == 5 else data)
  source = folder.sources(tmp_path)['train']
  with no_process_left():
    stream = feed(source, batch_size=8, num_workers=2)
    with pytest.raises(ValueError) as caught:
      stream.steps(0, 1)
  message = str(caught.value)
  path = tmp_path / 'train' / '005' / 'a.png'
  assert message.startswith(f'train image 5 ({path}) cannot be decoded (')
  assert '\n' not in message


def test_a_worker_that_dies_does_not_hang_the_parent(folder_source):
  before = set(multiprocessing.active_children())
  with no_process_left():
    stream = feed(folder_source, num_workers=1)
    stream.steps(0, 1)
    for child in set(multiprocessing.active_children()) - before:
      child.kill()
    with pytest.raises(
      ChildProcessError, match=r'^a data worker died \('
    ) as caught:
      stream.steps(1, 100)
  assert '\n' not in str(caught.value)
  assert '-9' in str(caught.value)


def test_an_exception_in_the_block_ends_the_workers(folder_source):
  def interrupted():
    with feed(folder_source, num_workers=2) as stream:
      stream.steps(0, 1)
      raise ZeroDivisionError

  with no_process_left(), pytest.raises(ZeroDivisionError):
    interrupted()


def test_a_closed_feed_stays_closed(pictures):
  with feed(pictures) as stream:
    stream.steps(0, 1)
  stream.close()
  with pytest.raises(ValueError, match=r'^this feed is closed; make another'):
    stream.steps(1, 1)


def test_an_evaluation_left_early_ends_the_workers(folder_source):
  with no_process_left():
    batches = eval_batches(
      folder_source, batch_size=4, image_size=SIZE, num_workers=2
    )
    next(batches)
    assert multiprocessing.active_children()
    batches.close()


SCRIPT = """
import multiprocessing, sys, time
from mollify_jax.data import folder
from mollify_jax.data.streaming import StreamingFeed

if __name__ == '__main__':
  source = folder.sources(sys.argv[1])['train']
  with StreamingFeed(
    source, batch_size=4, image_size=8, seed=0, num_workers=2
  ) as feed:
    feed.steps(0, 4)  # so that both have started
    print(*(c.pid for c in multiprocessing.active_children()), flush=True)
    time.sleep(int(sys.argv[2]))
    step = 4
    while True:
      feed.steps(step, 1)
      step += 1
"""


def is_running(pid):
  """Neither gone nor a zombie."""
  try:
    status = Path(f'/proc/{pid}/stat').read_text()
  except FileNotFoundError:
    return False
  return status.rpartition(')')[2].split()[0] != 'Z'


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir('/proc/self'), reason='needs Linux')
@pytest.mark.parametrize('name', ['SIGINT', 'SIGKILL'])
def test_workers_end_with_an_interrupted_or_killed_parent(
  folder_source, tmp_path, name
):
  script = tmp_path / 'script.py'
  script.write_text(SCRIPT)
  # An interrupt comes while batches are made, a kill while workers wait.
  idle = 0 if name == 'SIGINT' else 1000
  process = subprocess.Popen(
    [sys.executable, str(script), str(folder_source.root), str(idle)],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env={**os.environ, 'PYTHONPATH': str(Path(streaming.__file__).parents[2])},
    start_new_session=True,
  )
  workers = [int(pid) for pid in process.stdout.readline().split()]
  assert len(workers) == 2
  time.sleep(0.5)
  if name == 'SIGINT':  # of a terminal: to the whole group
    os.killpg(process.pid, signal.SIGINT)
  else:
    process.kill()
  try:
    _, errors = process.communicate(timeout=15)  # workers hold the pipes too
    deadline = time.monotonic() + 5  # a pipe closes a little before the end
    while any(map(is_running, workers)) and time.monotonic() < deadline:
      time.sleep(0.01)
  finally:
    alive = [pid for pid in workers if is_running(pid)]
    for pid in alive:
      os.kill(pid, signal.SIGKILL)
  assert not alive
  if name == 'SIGINT':
    assert errors.count('Traceback') == 1
    # If a batch was on its way, Python's tracker of shared memory clears it up
    # and says so after this.
    assert '\nKeyboardInterrupt\n' in errors


def test_grain_not_installed(pictures, monkeypatch):
  monkeypatch.setitem(sys.modules, 'grain', None)
  with pytest.raises(
    ValueError, match=r"^num_workers=2 needs grain, .*'mollify_jax\[data\]'"
  ):
    feed(pictures, num_workers=2).steps(0, 1)
  feed(pictures).steps(0, 1)


# Arguments.


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'batch_size': 0}, '^batch_size must be >= 1, got 0$'),
    (
      {'batch_size': 22},
      '^batch_size 22 is larger than the train split; wanted at most 21$',
    ),
    (
      {'batch_size': 10, 'process_count': 4},
      '^batch_size 10 does not divide by the 4 processes; the next batch size '
      'up is 12$',
    ),
    ({'process_count': 0}, '^process_count must be >= 1, got 0$'),
    (
      {'process_index': 2, 'process_count': 2},
      r'^process_index must be in \[0, 1\], got 2$',
    ),
    ({'image_size': 0}, '^image_size must be >= 1, got 0$'),
    ({'seed': -1}, '^seed must be >= 0, got -1$'),
    ({'num_workers': -1}, '^num_workers must be >= 0, got -1$'),
    (
      {'crop': 'centre'},
      "^unknown crop 'centre'; choose from random, center, whole$",
    ),
  ],
)
def test_bad_arguments_are_refused_at_once(pictures, changes, message):
  with pytest.raises(ValueError, match=message):
    feed(pictures, **changes)


def test_bad_steps_and_empty_sources_are_refused(pictures):
  with pytest.raises(ValueError, match=r'^first_step must be >= 0, got -1$'):
    feed(pictures).steps(-1, 1)
  with pytest.raises(ValueError, match=r'^num_steps must be >= 0, got -2$'):
    feed(pictures).steps(0, -2)
  with pytest.raises(ValueError, match=r'^the test split is empty'):
    eval_batches([], batch_size=4, image_size=SIZE)
