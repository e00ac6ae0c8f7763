"""metrics.jsonl: each step once, whatever was cut."""

import json

import numpy as np

from mollify_jax.training.journal import Journal, read_lines


def record(journal, count, start):
  loss = np.arange(start, start + count, dtype=np.float32)
  journal.record_steps({'loss': loss}, batch_size=8, seconds=2.0)


def test_lines(tmp_path):
  with Journal(tmp_path) as journal:
    record(journal, 3, 10)
    journal.record_evaluation({'error': 0.25})
  lines = read_lines(tmp_path / 'metrics.jsonl')
  assert [line['step'] for line in lines] == [1, 2, 3, 3]
  assert lines[0] == {'event': 'train', 'step': 1, 'loss': 10.0}
  assert lines[2]['images_per_second'] == 12.0
  assert lines[2]['seconds'] == 2.0
  assert lines[3] == {'event': 'evaluate', 'step': 3, 'error': 0.25}


def test_resuming_writes_each_step_once(tmp_path):
  with Journal(tmp_path) as journal:
    record(journal, 4, 0)
    record(journal, 4, 4)
  path = tmp_path / 'metrics.jsonl'
  with path.open('a') as file:
    file.write('{"event": "train", "ste')  # killed while writing
  with Journal(tmp_path, first_step=4) as journal:
    record(journal, 4, 100)
  lines = read_lines(path)
  assert [line['step'] for line in lines] == list(range(1, 9))
  assert [line['loss'] for line in lines[4:]] == [100, 101, 102, 103]
  assert [p.name for p in tmp_path.iterdir()] == ['metrics.jsonl']


def test_other_processes_write_nothing(tmp_path):
  with Journal(tmp_path, active=False) as journal:
    record(journal, 2, 0)
  assert list(tmp_path.iterdir()) == []


def test_tensorboard_files_hold_the_scalars(tmp_path):
  with Journal(tmp_path, tensorboard=True) as journal:
    record(journal, 2, 1)
  (events,) = (tmp_path / 'tensorboard').iterdir()
  assert b'train/loss' in events.read_bytes()
  assert json.loads((tmp_path / 'metrics.jsonl').read_text().split('\n')[0])
