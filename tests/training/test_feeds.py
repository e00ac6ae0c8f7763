"""Which feed the examples get, and what it hands to a step."""

import numpy as np
import pytest

from mollify_jax.training.feeds import ResidentFeed, choose_feed

MIB = 1 << 20


@pytest.mark.parametrize(
  ('num_bytes', 'num_devices', 'kind'),
  [(50, 1, 'resident'), (50, 8, 'resident'), (51, 8, 'sharded')],
)
def test_a_copy_each_where_it_fits(num_bytes, num_devices, kind):
  arguments = {'memory': 100, 'share': 0.5, 'num_devices': num_devices}
  assert choose_feed('auto', num_bytes, **arguments) == kind
  for wanted in ('resident', 'sharded'):
    assert choose_feed(wanted, num_bytes, **arguments) == wanted


def test_too_much_for_all_devices_together_is_one_line():
  with pytest.raises(ValueError, match=r'401 MiB and 8 devices have 400 MiB'):
    choose_feed('auto', 401 * MIB, memory=100 * MIB, share=0.5, num_devices=8)


@pytest.mark.parametrize('sharded', [False, True])
def test_evaluation_slices_hold_every_example_once(sharded):
  images = np.zeros((11, 2, 2, 1), np.uint8)
  feed = ResidentFeed(images, np.arange(11, dtype=np.int32), sharded=sharded)
  (chunk,) = feed.eval_chunks(batch_size=4)
  index, mask = chunk
  assert len(chunk) == feed.num_slices
  np.testing.assert_array_equal(np.sort(index[mask]), np.arange(11))
  index, mask = feed.train_slices(0, first_step=1, num_steps=3, batch_size=4)
  assert index.shape == mask.shape == (1, 3, 4)
  assert mask.all()
