"""Trains a few steps on virtual devices; run by test_devices in a process.

python run_steps.py NUM_DEVICES OUT.npz
"""

import os
import sys
import warnings

os.environ['XLA_FLAGS'] = (
  f'--xla_force_host_platform_device_count={sys.argv[1]}'
)
warnings.simplefilter('error')

import flax.linen as nn  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402

from mollify_jax import MollifySpec, parallel  # noqa: E402
from mollify_jax.augment import AugmentSpec  # noqa: E402
from mollify_jax.data import digits  # noqa: E402
from mollify_jax.evaluation import corrupted, passes  # noqa: E402
from mollify_jax.evaluation.temperature_scaling import (  # noqa: E402
  fit_temperature,
)
from mollify_jax.feeds import ResidentFeed  # noqa: E402
from mollify_jax.models import create_model  # noqa: E402
from mollify_jax.models.dropout import Dropout  # noqa: E402
from mollify_jax.training.optimizer import (  # noqa: E402
  OptimizerSpec,
  make_optimizer,
)
from mollify_jax.training.state import create_state  # noqa: E402
from mollify_jax.training.step import StepSpec, make_train_steps  # noqa: E402


class Dropping(nn.Module):
  """With dropout, and without batch statistics."""

  num_classes: int
  axis_name: str

  @nn.compact
  def __call__(self, images, train):
    x = nn.relu(nn.Dense(32)(images.reshape(len(images), -1)))
    x = Dropout(0.5, self.axis_name)(x, train)
    return nn.Dense(self.num_classes)(x)


def train_and_evaluate(
  assignment,
  *,
  sharded=False,
  steps=('crop', 'rotate'),
  per_example=False,
  model='small_cnn',
):
  """Two calls of two steps, then three passes: name -> array."""
  dataset = digits.load()
  # Roles, batch and devices do not divide each other: 16 % 3 and 2 % 3.
  mollify = MollifySpec(assignment=assignment, blur_width_max=8.0)
  spec = StepSpec(
    num_classes=10,
    mean=dataset.mean,
    std=dataset.std,
    augment=AugmentSpec(
      steps=steps, crop_padding=1, mix_per_example=per_example
    ),
    mollify=mollify,
    ema_decay=0.5,
  )
  if model == 'dropping':
    model = Dropping(10, parallel.AXIS)
  else:
    model = create_model(model, 10, axis_name=parallel.AXIS)
  optimizer = make_optimizer(OptimizerSpec(learning_rate=0.05), 10, 1)
  state = create_state(model, optimizer, (8, 8, 1), 0, with_ema=True)
  feed = ResidentFeed(
    dataset.train_images,
    dataset.train_labels,
    batch_size=16,
    sharded=sharded,
  )
  train_steps = make_train_steps(model, optimizer, spec, feed)
  state = parallel.replicate(state)
  losses = []
  for call in range(2):
    donated = jax.tree.leaves(state.params)[0]
    state, step_metrics = train_steps(
      state,
      *feed.constants,
      np.int32(0),
      *feed.train_slices(2 * call, 2),
    )
    assert donated.is_deleted(), 'the state was copied, not donated'
    losses.append(parallel.to_host(step_metrics)['loss'])

  eval_spec = passes.EvalSpec(10, dataset.mean, dataset.std, mollify)
  feed = ResidentFeed(
    dataset.test_images,
    dataset.test_labels,
    batch_size=128,  # does not divide the test set
    sharded=sharded,
  )
  score = passes.make_scoring(model, eval_spec, keep_logits=True, scaled=True)
  _, examples = passes.run_pass(
    score,
    state.variables(),
    feed.eval_batches(),
    passes.Condition(),
    seed=0,
  )
  temperature = fit_temperature(examples['logits'], examples['label'])[0]
  records = passes.run_conditions(
    score,
    state.variables(),
    feed,
    passes.temperature_grid([0.4]),
    eval_spec,
    seed=0,
    temperature=temperature,
  )
  if assignment == 'iid':
    records += corrupted.evaluate(
      score,
      state.variables(),
      corrupted.GeneratedCells('digits', feed, dataset.image_shape, seed=0),
      ('impulse_noise',),
      temperature=temperature,
      on_cell=lambda *_: None,
    )['cells']
  leaves = jax.tree_util.tree_leaves_with_path(parallel.to_host(state))
  return {
    'loss': np.concatenate(losses),
    'count': np.array([record['n'] for record in records]),
    'nll': np.array([record['nll'] for record in records]),
    'temperature': np.array(temperature),
    'scaled_nll': np.array([record['scaled']['nll'] for record in records]),
    'error': np.array([record['error'] for record in records]),
    'adaptive_ece': np.array([record['adaptive_ece'] for record in records]),
    **{f'state{jax.tree_util.keystr(path)}': leaf for path, leaf in leaves},
  }


assert jax.local_device_count() == int(sys.argv[1])
np.savez(
  sys.argv[2],
  **{
    f'{case}/{name}': array
    for case, arguments in {
      'iid': {'assignment': 'iid'},
      'stratified': {'assignment': 'stratified'},
      'sharded': {'assignment': 'iid', 'sharded': True},
      # A partner may lie on another device.
      'mixup': {
        'assignment': 'stratified',
        'steps': ('trivial_augment_wide', 'mixup'),
      },
      'cutmix': {
        'assignment': 'stratified',
        'steps': ('crop', 'cutmix'),
        'per_example': True,
      },
      'dropout': {'assignment': 'iid', 'model': 'dropping'},
    }.items()
    for name, array in train_and_evaluate(**arguments).items()
  },
)
