"""One training step, and several of them in one compiled call."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from mollify_jax import rng
from mollify_jax.augment import (
  MIXING_STEPS,
  AugmentSpec,
  augment_images,
  augment_views,
)
from mollify_jax.feeds import Feed
from mollify_jax.kernels import losses
from mollify_jax.kernels.labels import temper_labels
from mollify_jax.kernels.mollify import MollifySpec, mollify_batch
from mollify_jax.kernels.pixels import normalize_images
from mollify_jax.parallel import AXIS, parallelize_steps, previous_in_batch
from mollify_jax.training.state import TrainState

LOSSES = {
  'cross_entropy': losses.cross_entropy,
  'dirichlet_nll': losses.dirichlet_nll,
  'normalized_cross_entropy': losses.normalized_cross_entropy,
}


def check_consistency(weight: float, augment: AugmentSpec) -> None:
  """Refuses a consistency loss without the views that it compares.

  Raises:
    ValueError: a weight out of range, or steps that do not go with one.
  """
  if not 0 <= weight < math.inf:
    raise ValueError(
      f'consistency_weight must be finite and >= 0, got {weight!r}'
    )
  if weight and (augment.steps.count('augmix') != 1 or augment.mixing_step):
    raise ValueError(
      f"consistency_weight={weight!r} needs 'augmix' as one of the steps and "
      f'no mixing of labels, got augment={augment.steps!r}; change the steps, '
      'or set the weight to 0'
    )


@dataclasses.dataclass(frozen=True)
class StepSpec:
  """What one training step does besides the network. Static.

  Attributes:
    num_classes: K of the labels.
    mean, std: per channel, of pixels / 255.
    augment: before normalisation; a label-mixing step after it.
    mollify: after both.
    loss: a name in `LOSSES`.
    consistency_weight: of AugMix's Jensen-Shannon loss, >= 0.
    label_smoothing: constant softening of every label in [0, 1], before
      mollification; a baseline, 0 in the paper.
    ema_decay: 0 is none.

  Raises:
    ValueError: unknown loss, or smoothing out of its range.
  """

  num_classes: int
  mean: tuple[float, ...]
  std: tuple[float, ...]
  augment: AugmentSpec
  mollify: MollifySpec
  loss: str = 'cross_entropy'
  consistency_weight: float = 0.0
  label_smoothing: float = 0.0
  ema_decay: float = 0.0

  def __post_init__(self):
    if self.loss not in LOSSES:
      raise ValueError(
        f'unknown loss {self.loss!r}; choose from {", ".join(LOSSES)}'
      )
    if not 0 <= self.label_smoothing <= 1:
      raise ValueError(
        f'label_smoothing must be in [0, 1], got {self.label_smoothing!r}'
      )
    check_consistency(self.consistency_weight, self.augment)


def prepare_batch(
  batch: dict[str, jax.Array],
  seed: jax.Array,
  step: jax.Array,
  spec: StepSpec,
) -> tuple[jax.Array, jax.Array]:
  """Augments, normalises and mollifies this device's part of a batch.

  Args:
    batch: {'image': uint8[B, H, W, C], 'label': int32[B]}.
    seed, step: int32[].
    spec: static.

  Returns:
    float32[V, B, H, W, C] and tempered labels float32[B, K]. There is one view,
    or with a consistency loss three: without AugMix and twice with it, all
    degraded alike.
  """
  size = batch['label'].shape[0]
  first = jax.lax.axis_index(AXIS) * size

  def example_keys(purpose):
    return rng.example_keys(rng.step_key(seed, purpose, step), first, size)

  keys = example_keys(rng.Purpose.AUGMENT)
  if spec.consistency_weight:
    views = jax.vmap(augment_views, in_axes=(0, 0, None), out_axes=1)(
      keys, batch['image'], spec.augment
    )
  else:
    augment = spec.augment.without_mixing()
    views = augment_images(keys, batch['image'], augment)[None]
  views = normalize_images(views, spec.mean, spec.std)
  labels = jax.nn.one_hot(batch['label'], spec.num_classes)
  if spec.label_smoothing:
    labels = temper_labels(labels, jnp.full(size, spec.label_smoothing))
  if spec.augment.mixing_step:
    images, labels = _mix(views[0], labels, seed, step, first, spec.augment)
    views = images[None]
  # Roles go round the whole training stream, so that shares are exact over
  # it even if the batch does not divide by their number.
  cycle = len(spec.mollify.roles)
  batch_size = jax.lax.axis_size(AXIS) * size
  first_of_step = (step % cycle) * (batch_size % cycle)
  keys = example_keys(rng.Purpose.MOLLIFY)
  mollified = [
    mollify_batch(keys, view, labels, spec.mollify, first_of_step + first)
    for view in views
  ]
  return jnp.stack([image for image, _ in mollified]), mollified[0][1]


def _mix(images, labels, seed, step, first, augment):
  """MixUp or CutMix with the previous example of the whole batch."""
  key = rng.step_key(seed, rng.Purpose.MIX, step)
  if augment.mix_per_example:
    key = rng.example_keys(key, first, images.shape[0])
  return MIXING_STEPS[augment.mixing_step](
    key,
    images,
    labels,
    alpha=augment.mix_alpha,
    partners=previous_in_batch((images, labels)),
  )


def train_step(
  state: TrainState,
  batch: dict[str, jax.Array],
  seed: jax.Array,
  *,
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  spec: StepSpec,
) -> tuple[TrainState, dict[str, jax.Array]]:
  """One update from this device's part of the batch; runs under `AXIS`.

  Args:
    state: replicated.
    batch: {'image': uint8[B, H, W, C], 'label': int32[B]}.
    seed: int32[].
    model, optimizer, spec: static.

  Returns:
    The new state and the step's metrics over the global batch: `loss` in
    nats, `error` in [0, 1] against each image's own hard label, `grad_norm`.
  """
  views, labels = prepare_batch(batch, seed, state.step, spec)
  loss_function = jax.vmap(LOSSES[spec.loss])
  # The views of one example follow each other, so that the position of each
  # in the global batch, to which dropout is bound, needs no device's size.
  images = jnp.swapaxes(views, 0, 1).reshape(-1, *views.shape[2:])
  dropout_key = rng.step_key(seed, rng.Purpose.MODEL, state.step)

  def mean_loss(params):
    logits, updated = model.apply(
      {'params': params, 'batch_stats': state.batch_stats},
      images,
      train=True,
      mutable=['batch_stats'],
      rngs={'dropout': dropout_key},
    )
    logits = jnp.swapaxes(
      logits.reshape(-1, len(views), logits.shape[-1]), 0, 1
    )
    loss = jnp.mean(loss_function(logits[0], labels))
    if spec.consistency_weight:
      divergence = jax.vmap(losses.jensen_shannon, in_axes=1)(logits)
      loss += spec.consistency_weight * jnp.mean(divergence)
    return loss, (logits[0], updated.get('batch_stats', {}))

  (loss, (logits, batch_stats)), gradients = jax.value_and_grad(
    mean_loss, has_aux=True
  )(state.params)
  guess = jnp.argmax(logits[:, : spec.num_classes], axis=-1)
  gradients, loss, error, batch_stats = jax.lax.pmean(
    (gradients, loss, jnp.mean(guess != batch['label']), batch_stats), AXIS
  )
  updates, opt_state = optimizer.update(
    gradients, state.opt_state, state.params
  )
  state = state.replace(
    step=state.step + 1,
    params=optax.apply_updates(state.params, updates),
    batch_stats=batch_stats,
    opt_state=opt_state,
  )
  if spec.ema_decay:
    state = state.averaged(spec.ema_decay)
  return state, {
    'loss': loss,
    'error': error,
    'grad_norm': optax.tree.norm(gradients),
  }


def make_train_steps(
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  spec: StepSpec,
  feed: Feed,
) -> Callable[..., tuple[TrainState, dict[str, Any]]]:
  """Compiles several steps into one call.

  Returns:
    steps(state, *feed.constants, seed, *slices) -> (state, metrics), with
    `seed` int32[] and the slices of `feed.train_slices`; the state is
    donated. Metrics are float32[S].
  """
  num_constants = len(feed.constant_axes)

  def body(state, *arguments):
    constants, seed = arguments[:num_constants], arguments[num_constants]
    batch = feed.read(constants, arguments[num_constants + 1 :])
    return train_step(
      state, batch, seed, model=model, optimizer=optimizer, spec=spec
    )

  return parallelize_steps(
    body,
    constant_axes=(*feed.constant_axes, None),
    num_split=feed.num_slices,
    donate_carry=True,
  )
