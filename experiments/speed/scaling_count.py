"""Counts the all-reduces of one network's step; run by `scaling.py`.

python -m experiments.speed.scaling_count NETWORK BATCH SIZE

Compiles the trainer's step, mollified, for the devices there are and runs
nothing. Prints one line of JSON.
"""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np

from experiments.speed.scaling import all_reduces
from experiments.speed.training import CLASSES
from mollify_jax import MollifySpec, parallel
from mollify_jax.augment import AugmentSpec
from mollify_jax.evaluation import reports
from mollify_jax.models import create_model
from mollify_jax.training.optimizer import OptimizerSpec, make_optimizer
from mollify_jax.training.state import create_state
from mollify_jax.training.step import StepSpec, train_step


def compiled_step(network: str, batch: int, size: int):
  """(text of the program, state as shapes) of a global batch's step."""
  spec = StepSpec(
    num_classes=CLASSES,
    mean=(0.5,) * 3,
    std=(0.25,) * 3,
    augment=AugmentSpec(steps=()),
    mollify=MollifySpec(
      roles=('clean', 'noise', 'blur'), assignment='stratified'
    ),
  )
  model = create_model(network, CLASSES, axis_name=parallel.AXIS)
  optimizer = make_optimizer(OptimizerSpec(), 4, 1000)
  state = jax.eval_shape(
    lambda: create_state(model, optimizer, (size, size, 3), seed=0)
  )
  devices = jax.local_device_count()
  share = (devices, batch // devices)
  step = parallel.parallelize(
    lambda state, images, labels: train_step(
      state,
      {'image': images, 'label': labels},
      np.int32(0),
      model=model,
      optimizer=optimizer,
      spec=spec,
    ),
    shared_axes=(None,),
    num_split=2,
    replicated=True,
  )
  lowered = step.lower(
    state,
    jax.ShapeDtypeStruct((*share, size, size, 3), jnp.uint8),
    jax.ShapeDtypeStruct(share, jnp.int32),
  )
  # What is reduced is settled before machine code is made, which would take
  # most of the time.
  options = {'xla_backend_optimization_level': 0}
  return lowered.compile(compiler_options=options).as_text(), state


def main():
  network, batch, size = sys.argv[1:]
  program, state = compiled_step(network, int(batch), int(size))
  sizes = sorted(all_reduces(program))
  print(
    json.dumps(
      {
        'network': network,
        'devices': jax.local_device_count(),
        'parameters': sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        'statistics': sum(
          leaf.size for leaf in jax.tree.leaves(state.batch_stats)
        ),
        'normalisations': sum(
          path[-1].key == 'mean'
          for path, _ in jax.tree_util.tree_leaves_with_path(state.batch_stats)
        ),
        'all_reduces': len(sizes),
        'reduced_bytes': sum(sizes),
        'bytes_of_each': sizes,
        'environment': reports.environment(jax.devices()),
      }
    )
  )


if __name__ == '__main__':
  main()
