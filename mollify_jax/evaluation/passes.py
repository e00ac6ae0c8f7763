"""Passes over a test set: clean, and over a grid of temperatures."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mollify_jax import metrics, rng
from mollify_jax.feeds import Batch, Feed
from mollify_jax.kernels import schedules
from mollify_jax.kernels.blur import blur_images
from mollify_jax.kernels.mollify import ROLES, MollifySpec, degrade_example
from mollify_jax.kernels.noise import noise_images
from mollify_jax.kernels.pixels import normalize_images
from mollify_jax.parallel import AXIS, collect, gather, parallelize

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
    'noise': spec.mollify.noise_gamma,
    'blur': spec.mollify.blur_gamma,
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


def make_scoring(
  model: nn.Module,
  spec: EvalSpec,
  *,
  keep_logits: bool = False,
  scaled: bool = False,
) -> Callable[..., Any]:
  """Compiles the one step that every pass is made of.

  Args:
    model: the network.
    spec: what else it takes; static.
    keep_logits: whether the rows hold them.
    scaled: whether the logits are also scored when divided by a temperature
      (see `temperature_scaling`; not the t of mollification).

  Returns:
    score(variables, seed, corruption, t, temperature, *batch) -> (sums, rows)
    with a `feeds.Batch`: per kind of score, `plain` and if asked for `scaled`,
    the sums added over devices; the rows, one per example of the whole batch
    in its order, `index`, `mask`, `label`, and `logits` if they are kept, and
    per kind the `metrics.ExampleScores`.
  """
  kinds = ('plain', 'scaled') if scaled else ('plain',)

  def body(
    variables, seed, corruption, t, temperature, image, label, index, mask
  ):
    key = rng.purpose_key(seed, rng.Purpose.EVALUATE)
    pixels = normalize_images(image, spec.mean, spec.std)
    # Bound to the image, so every model and every t meets the same noise.
    keys = rng.keys_at(key, index)
    pixels = degrade_images(pixels, keys, corruption, t, spec.mollify)
    logits = model.apply(variables, pixels, train=False)
    rows = {'index': index, 'mask': mask, 'label': label}
    if keep_logits:
      rows['logits'] = logits[:, : spec.num_classes].astype(jnp.float32)
    sums = {}
    for kind in kinds:
      if kind == 'scaled':
        logits = logits.astype(jnp.float32) / temperature
      sums[kind] = metrics.batch_sums(logits, label, mask, spec.num_classes)
      rows[kind] = metrics.score_examples(logits, label, spec.num_classes)
    return jax.lax.psum(sums, AXIS), gather(rows)

  return parallelize(
    body, shared_axes=(None,) * 5, num_split=len(Batch._fields), replicated=True
  )


def run_pass(
  score: Callable[..., Any],
  variables: Any,
  batches: Iterable[Batch],
  condition: Condition,
  *,
  seed: int,
  temperature: float = 1.0,
) -> tuple[dict[str, Any], dict[str, np.ndarray] | None]:
  """One pass over a test set; no example is dropped, none counted twice.

  Args:
    score: from `make_scoring`.
    variables: the network's, replicated.
    batches: every example once, padded and masked.
    condition: how images are degraded on top of what `batches` holds.
    seed: of the noise.
    temperature: that logits are divided by, if `score` does so.

  Returns:
    (figures, examples): those of `metrics.finalize`, `adaptive_ece`,
    `ece_batch100` and the bins of reliability diagrams; the same of the
    divided logits under `scaled`, if `score` divides them; and `logits`
    float32[N, K] and `label` int32[N] in the order of the test set, or None
    if `score` does not keep them.
  """
  scalars = (
    np.int32(seed),
    np.int32(CORRUPTIONS.index(condition.corruption)),
    np.float32(condition.t),
    np.float32(temperature),
  )
  outputs = collect(score(variables, *scalars, *batch) for batch in batches)
  sums, rows = jax.tree.map(lambda *parts: np.stack(parts), *outputs)
  kept = rows['mask'].reshape(-1)
  order = np.argsort(rows['index'].reshape(-1)[kept])
  rows = jax.tree.map(
    lambda array: array.reshape(-1, *array.shape[2:])[kept][order], rows
  )
  figures = {
    kind: _figures(metrics.add_up(of_kind), rows[kind])
    for kind, of_kind in sums.items()
  }
  figures = {**figures.pop('plain'), **figures}
  if 'logits' not in rows:
    return figures, None
  return figures, {name: rows[name] for name in ('logits', 'label')}


def _figures(sums, scores):
  return {
    **metrics.finalize(sums),
    'adaptive_ece': metrics.adaptive_ece(scores),
    'ece_batch100': metrics.ece_over_batches(scores, 100),
    'bins': metrics.reliability(sums),
  }


def take_scaled(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
  """Takes the figures of divided logits out of records, to stand alone.

  Args:
    records: of passes with `scaled` in each, which is removed.

  Returns:
    The same records with the figures that stood under `scaled`.
  """
  figures = [record.pop('scaled') for record in records]
  return [{**r, **scaled} for r, scaled in zip(records, figures, strict=True)]


def run_conditions(
  score: Callable[..., Any],
  variables: Any,
  feed: Feed,
  conditions: Sequence[Condition],
  spec: EvalSpec,
  *,
  seed: int,
  temperature: float = 1.0,
  on_pass: Callable[[Condition, dict[str, np.ndarray] | None], None] = (
    lambda condition, examples: None
  ),
) -> list[dict[str, Any]]:
  """Evaluates every condition on a feed's test set.

  Args:
    score: from `make_scoring`.
    variables: the network's, replicated.
    feed: of the test set.
    conditions: the passes.
    spec: as given to `make_scoring`.
    seed: of the noise.
    temperature: see `run_pass`.
    on_pass: called after each pass with its condition and the examples of
      `run_pass`.

  Returns:
    One record per condition, with `corruption`, `t`, the figures of `run_pass`
    and `label_confidence`.
  """
  records = []
  for condition in conditions:
    # Closed even if a pass fails: a stream has processes of its own.
    with contextlib.closing(feed.eval_batches()) as batches:
      figures, examples = run_pass(
        score,
        variables,
        batches,
        condition,
        seed=seed,
        temperature=temperature,
      )
    records.append(
      {
        'corruption': condition.corruption,
        't': condition.t,
        **figures,
        'label_confidence': label_confidence(condition, spec),
      }
    )
    on_pass(condition, examples)
  return records
