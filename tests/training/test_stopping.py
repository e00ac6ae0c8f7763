"""Signals: a step is finished, a checkpoint saved, and the run goes on."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mollify_jax.training.journal import read_lines
from mollify_jax.training.stopping import (
  EXIT_STATUS,
  Interrupted,
  StopRequest,
)

ROOT = Path(__file__).parents[2]


def send(number):
  os.kill(os.getpid(), number)
  time.sleep(0.01)  # the handler runs between two lines of Python


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_training_is_noted(number, capsys):
  with StopRequest('work') as stop:
    with stop.deferring():
      assert not stop.asked(3)
      send(number)
      assert stop.asked(4)
    assert number.name in capsys.readouterr().err
    with pytest.raises(
      Interrupted, match=f'by {number.name} after step 4; run'
    ):
      stop.stop('after step 4')


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_elsewhere_ends_the_run(number):
  with pytest.raises(Interrupted, match=r'outside training.*go on in work'):
    with StopRequest('work'):
      send(number)


def test_nobody_takes_it_for_a_failure():
  assert not issubclass(Interrupted, Exception)


def test_handlers_are_put_back():
  before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
  threads = threading.active_count()
  with StopRequest('work'):
    assert signal.getsignal(signal.SIGTERM) is not before[0]
  assert before == [
    signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)
  ]
  deadline = time.monotonic() + 5
  while threading.active_count() > threads and time.monotonic() < deadline:
    time.sleep(0.01)
  assert threading.active_count() <= threads


def test_another_thread_gets_none():
  """Python gives signals to the main thread only; a run elsewhere has none."""
  failures = []

  def run():
    try:
      with StopRequest('work') as stop, stop.deferring():
        assert not stop.asked(1)
    except BaseException as error:
      failures.append(error)

  thread = threading.Thread(target=run)
  thread.start()
  thread.join()
  assert not failures


SECOND = """
import os, signal, time
from mollify_jax.training.stopping import StopRequest
with StopRequest('work') as stop, stop.deferring():
  for number in NUMBERS:
    os.kill(os.getpid(), number)
    time.sleep(0.2)
print('still here')
"""


@pytest.mark.parametrize('number', ['SIGTERM', 'SIGINT'])
def test_the_second_signal_ends_the_process_at_once(number):
  code = SECOND.replace('NUMBERS', f'[signal.{number}] * 2')
  process = subprocess.run(
    [sys.executable, '-c', code],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
  )
  assert process.returncode == 128 + getattr(signal, number)
  assert 'still here' not in process.stdout
  assert 'once more ends the process' in process.stderr


@pytest.mark.slow
def test_a_stopped_run_goes_on_as_if_nothing_had_been(tmp_path):
  def command(workdir):
    return [
      sys.executable,
      '-m',
      'mollify_jax.main',
      '--config=configs/digits.py',
      f'--workdir={workdir}',
      '--config.epochs=40',
      '--config.eval.corruptions=none',
      '--config.eval.temperatures=(0.3,)',
      '--config.eval.every_epochs=20',
    ]

  options = {
    'cwd': ROOT,
    'env': {**os.environ, 'JAX_PLATFORMS': 'cpu'},
    'stderr': subprocess.PIPE,
    'stdout': subprocess.DEVNULL,
    'text': True,
  }
  whole, cut = tmp_path / 'whole', tmp_path / 'cut'
  subprocess.run(command(whole), check=True, **options)
  for number in (signal.SIGTERM, signal.SIGINT):
    process = subprocess.Popen(command(cut), **options)
    journal = cut / 'metrics.jsonl'
    size = journal.stat().st_size if journal.exists() else 0
    while not journal.exists() or journal.stat().st_size == size:
      assert process.poll() is None
      time.sleep(0.01)
    process.send_signal(number)
    errors = process.communicate()[1]
    assert process.returncode == EXIT_STATUS, errors
    assert f'stopped: by {number.name} after step' in errors
  subprocess.run(command(cut), check=True, **options)
  lines = [read_lines(d / 'metrics.jsonl') for d in (whole, cut)]
  kept = [
    [(line['event'], line['step'], line.get('loss')) for line in part]
    for part in lines
  ]
  assert kept[0] == kept[1]
  assert (whole / 'results.json').read_text().split('"conditions"')[1] == (
    cut / 'results.json'
  ).read_text().split('"conditions"')[1]
