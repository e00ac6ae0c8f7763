"""Which feed the examples get, and what it hands to a step."""

import io

import numpy as np
import pytest
from PIL import Image

from mollify_jax.feeds import (
  ResidentFeed,
  StreamedFeed,
  choose_feed,
  host_batches,
)

MIB = 1 << 20


@pytest.mark.parametrize(
  ('num_bytes', 'num_devices', 'kind'),
  [
    (50, 1, 'resident'),
    (50, 8, 'resident'),
    (51, 8, 'sharded'),
    (400, 8, 'sharded'),
    (401, 8, 'streaming'),
    (51, 1, 'streaming'),
  ],
)
def test_a_copy_each_where_it_fits(num_bytes, num_devices, kind):
  arguments = {
    'memory': 100,
    'share': 0.5,
    'num_devices': num_devices,
    'can_stream': True,
  }
  assert choose_feed('auto', num_bytes, **arguments) == kind
  for wanted in ('resident', 'sharded', 'streaming'):
    assert choose_feed(wanted, num_bytes, **arguments) == wanted


def test_what_cannot_be_streamed_is_one_line():
  arguments = {
    'memory': 100 * MIB,
    'share': 0.5,
    'num_devices': 8,
    'can_stream': False,
  }
  with pytest.raises(ValueError, match=r'401 MiB and 8 devices have 400 MiB'):
    choose_feed('auto', 401 * MIB, **arguments)
  with pytest.raises(ValueError, match='is for folders with'):
    choose_feed('streaming', 1, **arguments)


def test_a_stream_gives_the_examples_of_a_resident_feed():
  """The same order in training, the same padding in evaluation."""
  pixels = np.random.default_rng(0).integers(0, 256, (11, 8, 8, 3), np.uint8)
  files = []
  for image in pixels:
    file = io.BytesIO()
    Image.fromarray(image).resize((40, 40), 0).save(file, 'PNG')
    files.append(file.getvalue())
  labels = np.arange(11, dtype=np.int32)
  resident = ResidentFeed(pixels, labels, batch_size=4, seed=3)
  with StreamedFeed(
    list(zip(files, labels.tolist(), strict=True)),
    num_classes=11,
    batch_size=4,
    image_size=8,
    num_workers=0,
    seed=3,
  ) as feed:
    assert feed.num_examples == resident.num_examples == 11
    for step, count in ((0, 3), (3, 1)):  # over the end of an epoch
      index, _ = resident.train_slices(step, count)
      batch = feed.read((), feed.train_slices(step, count))
      np.testing.assert_array_equal(batch['label'], labels[index])
      assert batch['image'].shape == (1, count, 4, 8, 8, 3)
      assert batch['mask'].all()
    theirs = list(feed.eval_batches())
    ours = list(resident.eval_batches())
    host = list(host_batches(pixels, labels, batch_size=4))
    assert len(theirs) == len(ours) == len(host) == 3
    for other in (ours, host):
      for a, b in zip(theirs, other, strict=True):
        np.testing.assert_array_equal(a.mask, b.mask)
        assert a.image.shape == b.image.shape == (1, 4, 8, 8, 3)
        for field in ('label', 'index'):
          np.testing.assert_array_equal(
            getattr(a, field)[a.mask], getattr(b, field)[b.mask]
          )
    for a, b in zip(ours, host, strict=True):
      np.testing.assert_array_equal(a.image, b.image)
    image, label = feed.first_example()
    assert label == 0
    np.testing.assert_array_equal(image, theirs[0].image[0, 0])


@pytest.mark.parametrize('sharded', [False, True])
def test_evaluation_batches_hold_every_example_once(sharded):
  labels = np.arange(11, dtype=np.int32)
  images = np.zeros((11, 2, 2, 1), np.uint8) + labels[:, None, None, None]
  images = images.astype(np.uint8)
  feed = ResidentFeed(images, labels, batch_size=4, sharded=sharded)
  seen = []
  for batch in feed.eval_batches():
    mask = np.asarray(batch.mask)
    assert mask.shape == (1, 4)
    for name in ('label', 'index'):
      np.testing.assert_array_equal(
        np.asarray(getattr(batch, name))[mask],
        np.asarray(batch.image)[mask][:, 0, 0, 0],
      )
    seen.extend(np.asarray(batch.index)[mask].tolist())
  assert seen == list(range(11))
  index, mask = feed.train_slices(first_step=1, num_steps=3)
  assert index.shape == mask.shape == (1, 3, 4)
  assert mask.all()


def test_a_stream_checks_its_labels_and_arguments():
  file = io.BytesIO()
  Image.new('RGB', (9, 9)).save(file, 'PNG')
  options = {'batch_size': 2, 'image_size': 4, 'num_workers': 0}
  source = [(file.getvalue(), label) for label in (0, 1, -1, 0)]
  with StreamedFeed(source, num_classes=2, split='test', **options) as feed:
    with pytest.raises(ValueError, match=r'a test label is -1, wanted a class'):
      list(feed.eval_batches())
    with pytest.raises(ValueError, match=r'label is -1'):
      feed.train_slices(0, 2)
  with pytest.raises(ValueError, match='split is empty'):
    StreamedFeed([], num_classes=2, **options)


def test_repeated_draws_are_neighbours_and_meet_every_image_once():
  images = np.zeros((12, 4, 4, 3), np.uint8)
  options = {'batch_size': 6, 'seed': 3}
  feed = ResidentFeed(images, np.arange(12, dtype=np.int32), draws=2, **options)
  index, mask = feed.train_slices(0, 4)
  drawn = index.reshape(4, 6)
  assert mask.all()
  np.testing.assert_array_equal(drawn[:, ::2], drawn[:, 1::2])
  # Four steps of three images each: every one of the twelve, once.
  np.testing.assert_array_equal(
    np.sort(drawn[:, ::2], axis=None), np.arange(12)
  )
  later, _ = feed.train_slices(2, 2)
  np.testing.assert_array_equal(later.reshape(2, 6), drawn[2:])
  # Evaluation is of every image once.
  assert [int(b.mask.sum()) for b in feed.eval_batches()] == [6, 6]
