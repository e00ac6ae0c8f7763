"""The share of time in which a device worked, of traces made up and real."""

import json

import jax
import numpy as np
import pytest

from mollify_jax.training import profiling

# plane -> lines -> (operation or None, start, duration), nanoseconds
TRACE = {
  '/device:0': [
    [('conv', 100, 50), ('add', 120, 10), ('conv', 300, 100)],
    [('copy', 140, 20), (None, 0, 1000), ('empty', 900, 0)],
  ],
  '/device:1': [[('conv', 0, 200)]],
  '/host': [[(None, 0, 5000)]],
}


class Fake:
  def __init__(self, **fields):
    self.__dict__.update(fields)


def fake(trace):
  return Fake(
    planes=[
      Fake(
        lines=[
          Fake(
            events=[
              Fake(
                start_ns=start,
                duration_ns=duration,
                stats=[('hlo_op', name)] if name else [],
              )
              for name, start, duration in line
            ]
          )
          for line in lines
        ]
      )
      for lines in trace.values()
    ]
  )


def test_share_is_of_the_union_of_operations():
  summary = profiling.summarize(fake(TRACE))
  # [100, 160] and [300, 400] out of [100, 400]; all of the other device.
  assert summary['busy_share'] == pytest.approx((160 / 300 + 1) / 2)
  assert summary['seconds'] == pytest.approx(300e-9)
  assert summary['operations'] == pytest.approx(
    {'conv': 350e-9, 'copy': 20e-9, 'add': 10e-9}
  )


def test_a_trace_without_operations_has_no_share():
  assert profiling.summarize(fake({'/host': [[(None, 0, 9)]]})) == {
    'seconds': 0.0,
    'busy_share': None,
    'operations': {},
  }


def test_whole_calls_after_the_first_are_traced(tmp_path):
  work = jax.jit(lambda x: jax.numpy.sin(x @ x).sum())
  x = np.ones((300, 300), np.float32)
  with profiling.Profile(tmp_path, steps=5) as profile:
    said = []
    for step in (3, 6, 9, 12):
      work(x).block_until_ready()
      said.append(profile.after(step))
  assert [line is None for line in said] == [True, True, False, True]
  assert 'profiled 6 steps: the device worked' in said[2]
  record = json.loads((tmp_path / 'profile.json').read_text())
  assert (record['first_step'], record['steps']) == (3, 6)
  assert 0 < record['busy_share'] <= 1
  assert record['operations']
  assert list((tmp_path / 'profile').rglob('*.xplane.pb'))


def test_a_run_that_ends_early_stops_the_trace(tmp_path):
  for _ in range(2):  # a second trace could not begin if the first went on
    with profiling.Profile(tmp_path, steps=100) as profile:
      profile.after(1)
  assert not (tmp_path / 'profile.json').exists()


def test_no_steps_no_trace(tmp_path):
  with profiling.Profile(tmp_path, steps=0) as profile:
    assert profile.after(1) is profile.after(2) is None
  assert not list(tmp_path.iterdir())
