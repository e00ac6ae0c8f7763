"""One process of one case of `scaling.py`."""

import json
import sys
import time

import jax
import jax.numpy as jnp

from experiments.speed.training import Ours
from mollify_jax import hosts


def main():
  network, *numbers = sys.argv[1:]
  batch, size, seconds, port, processes, process = map(float, numbers)
  processes = int(processes)
  if processes > 1:
    hosts.join(False, f'127.0.0.1:{port:.0f}', processes, int(process))
  ours = Ours(network, int(batch), int(size), 'mollified', jnp.float32, 1)
  ours.call()
  parameters = sum(leaf.size for leaf in jax.tree.leaves(ours.state.params))
  # As many steps in every process, for they wait for each other.
  begun = time.perf_counter()
  ours.call()
  one = time.perf_counter() - begun
  steps = max(2, round(seconds / one)) if processes == 1 else 8
  start = time.process_time()
  for _ in range(steps):
    ours.call()
  cpu = time.process_time() - start
  print(json.dumps({'cpu': cpu, 'steps': steps, 'parameters': parameters}))


if __name__ == '__main__':
  main()
