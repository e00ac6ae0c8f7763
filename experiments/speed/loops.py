r"""Why training steps are not scanned on CPU: convolutions inside a loop.

  python -m experiments.speed.loops

Times one training step of a small convolutional stack as a call of its own
and as the body of `lax.scan`, in turn. `parallel.parallelize_steps` chooses by
this figure.
"""

import argparse
import platform
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def loss(kernel, images):
  """Two 3x3 convolutions of 16 channels, as in WRN-16-1's first group."""
  for _ in range(2):
    images = jax.lax.conv_general_dilated(
      images,
      kernel,
      (1, 1),
      'SAME',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
  return jnp.mean(jnp.square(images))


def processor() -> str:
  """The name of this machine's CPU, as far as the system tells."""
  try:
    names = re.findall(
      r'model name\s*:\s*(.+)', Path('/proc/cpuinfo').read_text()
    )
  except OSError:
    names = []
  return names[0] if names else platform.processor() or platform.machine()


def time_in_turn(
  cases: Mapping[Any, Callable[[], object]],
  rounds: int,
  seconds: float,
  clock: Callable[[], float] = time.process_time,
) -> dict[Any, list[float]]:
  """Seconds per call of every case in every round.

  Args:
    cases: functions that wait for what they compute, compiled.
    rounds: of all cases in turn, so that a noisy machine disturbs all alike.
    seconds: for which a case is called, at least once, in a round.
    clock: the default is the CPU time of this process.
  """
  found = {name: [] for name in cases}
  for _ in range(rounds):
    for name, case in cases.items():
      calls, start = 0, clock()
      while calls == 0 or clock() - start < seconds:
        case()
        calls += 1
      found[name].append((clock() - start) / calls)
  return found


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--batch', type=int, default=64)
  parser.add_argument('--steps', type=int, default=2)
  parser.add_argument('--rounds', type=int, default=5)
  arguments = parser.parse_args()
  images = jax.random.normal(jax.random.key(0), (arguments.batch, 32, 32, 16))
  kernel = 0.1 * jax.random.normal(jax.random.key(1), (3, 3, 16, 16))

  def step(kernel, images):
    return kernel - 0.01 * jax.grad(loss)(kernel, images)

  one = jax.jit(step)

  @jax.jit
  def scan(kernel, images):
    return jax.lax.scan(
      lambda k, _: (step(k, images), None),
      kernel,
      length=arguments.steps,
    )[0]

  def loop(kernel, images):
    for _ in range(arguments.steps):
      kernel = one(kernel, images)
    return kernel

  cases = {
    name: lambda run=run: jax.block_until_ready(run(kernel, images))
    for name, run in (('one call per step', loop), ('lax.scan', scan))
  }
  for case in cases.values():
    case()
  calls = time_in_turn(cases, arguments.rounds, 0, time.perf_counter)
  seconds = {
    name: [value / arguments.steps for value in values]
    for name, values in calls.items()
  }
  for name, values in seconds.items():
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    print(
      f'{name:<20} {1e3 * median:8.1f} ms per step '
      f'({1e3 * low:.1f}-{1e3 * high:.1f})'
    )
  ratio = np.median(seconds['lax.scan']) / np.median(
    seconds['one call per step']
  )
  print(f'lax.scan / call on {jax.default_backend()}: {ratio:.1f}')


if __name__ == '__main__':
  main()
