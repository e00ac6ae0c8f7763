"""Passes over a test set: clean, and over a grid of temperatures."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mollify_jax import metrics, rng
from mollify_jax.feeds import Feed
from mollify_jax.kernels import schedules
from mollify_jax.kernels.blur import blur_images
from mollify_jax.kernels.mollify import ROLES, MollifySpec, degrade_example
from mollify_jax.kernels.noise import noise_images
from mollify_jax.kernels.pixels import normalize_images
from mollify_jax.parallel import AXIS, parallelize_steps, to_host

# The order is the compiled branch number.
CORRUPTIONS = ('clean', 'noise', 'blur')


@dataclasses.dataclass(frozen=True)
class Condition:
  """One pass: every test image degraded by one kernel at one temperature.

  Attributes:
    corruption: a name in `CORRUPTIONS`.
    t: temperature in [0, 1]; `clean` ignores it.

  Raises:
    ValueError: unknown corruption or t out of range.
  """

  corruption: str = 'clean'
  t: float = 0.0

  def __post_init__(self):
    if self.corruption not in CORRUPTIONS:
      raise ValueError(
        f'unknown corruption {self.corruption!r}; choose from '
        f'{", ".join(CORRUPTIONS)}'
      )
    if not 0 <= self.t <= 1:
      raise ValueError(f'temperature t must be in [0, 1], got {self.t!r}')


@dataclasses.dataclass(frozen=True)
class EvalSpec:
  """What a pass needs besides the network and the data. Static.

  Attributes:
    num_classes: K of the labels; an extra class of the network is dropped.
    mean, std: per channel, of pixels / 255.
    mollify: blur widths, and the label schedule that confidence is held
      against.
  """

  num_classes: int
  mean: tuple[float, ...]
  std: tuple[float, ...]
  mollify: MollifySpec


def temperature_grid(temperatures: Sequence[float]) -> list[Condition]:
  """The clean pass, then noise and blur at each temperature."""
  return [Condition()] + [
    Condition(corruption, float(t))
    for corruption in CORRUPTIONS[1:]
    for t in temperatures
  ]


def degrade_images(
  images: jax.Array,
  keys: jax.Array,
  corruption: jax.Array,
  t: jax.Array,
  mollify: MollifySpec,
) -> jax.Array:
  """Degrades a whole batch by one kernel at one temperature.

  Args:
    images: float[B, H, W, C], channel-normalised.
    keys: key[B], for the noise.
    corruption: int32[], an index into `CORRUPTIONS`.
    t: float32[], in [0, 1].
    mollify: blur widths; static.

  Returns:
    Same shape and dtype.
  """
  temperatures = jnp.full(images.shape[0], t)
  widths = mollify.blur_width(temperatures, images.shape[2])
  # One batch has one kernel, so a real branch: only that one is computed.
  return jax.lax.switch(
    corruption,
    (
      lambda: images,
      lambda: noise_images(keys, images, temperatures),
      lambda: blur_images(images, schedules.dissipation_time(widths)),
    ),
  )


def label_confidence(condition: Condition, spec: EvalSpec) -> float:
  """The confidence of the tempered label: 1 - gamma + gamma / K."""
  gamma = {
    'clean': lambda t: 0.0,
    'noise': lambda t: schedules.noise_gamma(t, spec.mollify.noise_power),
    'blur': lambda t: schedules.blur_gamma(t, spec.mollify.blur_power),
  }[condition.corruption](condition.t)
  return float(1.0 - gamma + gamma / spec.num_classes)


def mollification_strip(
  image: np.ndarray,
  label: int,
  temperatures: Sequence[float],
  spec: EvalSpec,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """One image and its label over t, for a picture.

  Args:
    image: uint8[H, W, C].
    label: its class.
    temperatures: T values of t.
    spec: normalisation and schedules.

  Returns:
    Per corruption but clean: pixels float32[T, H, W, C] mapped back to
    0..1 and clipped to it, and tempered labels float32[T, K or K + 1].
  """
  t = jnp.asarray(temperatures, jnp.float32)
  pixels = normalize_images(jnp.asarray(image), spec.mean, spec.std)
  onehot = jax.nn.one_hot(label, spec.num_classes)
  epsilon = jax.random.normal(jax.random.key(0), pixels.shape)
  strip = {}
  for corruption in CORRUPTIONS[1:]:
    mollify = dataclasses.replace(spec.mollify, roles=(corruption,))
    degrade = functools.partial(
      degrade_example,
      pixels,
      onehot,
      epsilon,
      ROLES[corruption],
      spec=mollify,
    )
    images, labels = jax.vmap(lambda t, degrade=degrade: degrade(t=t))(t)
    images = images * jnp.array(spec.std) + jnp.array(spec.mean)
    strip[corruption] = (
      np.asarray(jnp.clip(images, 0, 1)),
      np.asarray(labels),
    )
  return strip


def make_evaluation(
  model: nn.Module, spec: EvalSpec, feed: Feed
) -> Callable[..., metrics.MetricSums]:
  """Compiles passes over batches of a test set into one call.

  Returns:
    evaluate(variables, *feed.constants, seed, corruption, t, *slices) ->
    (variables, sums), the sums with a leading [batches] axis and added over
    devices; the slices are a chunk of `feed.eval_chunks`.
  """
  num_constants = len(feed.constant_axes)

  def body(variables, *arguments):
    constants, rest = arguments[:num_constants], arguments[num_constants:]
    seed, corruption, t, *slices = rest
    batch = feed.read(constants, slices)
    key = rng.purpose_key(seed, rng.Purpose.EVALUATE)
    pixels = normalize_images(batch['image'], spec.mean, spec.std)
    # Bound to the image, so every model and every t meets the same noise.
    keys = rng.keys_at(key, batch['index'])
    pixels = degrade_images(pixels, keys, corruption, t, spec.mollify)
    logits = model.apply(variables, pixels, train=False)
    sums = metrics.batch_sums(
      logits, batch['label'], batch['mask'], spec.num_classes
    )
    return variables, jax.lax.psum(sums, AXIS)

  return parallelize_steps(
    body,
    constant_axes=(*feed.constant_axes, None, None, None),
    num_split=feed.num_slices,
  )


def run_conditions(
  evaluate: Callable[..., metrics.MetricSums],
  variables: Any,
  feed: Feed,
  conditions: Sequence[Condition],
  spec: EvalSpec,
  *,
  seed: int,
  on_pass: Callable[[int], None] = lambda done: None,
) -> list[dict[str, Any]]:
  """Evaluates every condition; no example is dropped, none counted twice.

  Args:
    evaluate: from `make_evaluation`.
    variables: the network's, replicated.
    feed: of the test set, as given to `make_evaluation`.
    conditions: the passes.
    spec: as given to `make_evaluation`.
    seed: of the noise.
    on_pass: called with the number of passes done, to show progress.

  Returns:
    One record per condition: `corruption`, `t`, the metrics of
    `metrics.finalize`, `label_confidence` and the bin sums.
  """
  records = []
  for condition in conditions:
    chunks = []
    # Closed even if a chunk fails: a stream has processes of its own.
    with contextlib.closing(feed.eval_chunks()) as all_slices:
      for slices in all_slices:
        _, sums = evaluate(
          variables,
          *feed.constants,
          np.int32(seed),
          np.int32(CORRUPTIONS.index(condition.corruption)),
          np.float32(condition.t),
          *slices,
        )
        chunks.append(to_host(sums))
    sums = metrics.add_up(
      jax.tree.map(lambda *parts: np.concatenate(parts), *chunks)
    )
    record = {
      'corruption': condition.corruption,
      't': condition.t,
      **metrics.finalize(sums),
      'label_confidence': label_confidence(condition, spec),
      'bins': metrics.reliability(sums),
    }
    records.append(record)
    on_pass(len(records))
  return records
