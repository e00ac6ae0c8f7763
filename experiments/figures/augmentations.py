"""What each augmentation does to an image: a row per step, draws beside it."""

import textwrap
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from experiments.figures import sheets
from experiments.figures.inputs import Inputs
from mollify_jax.augment import (
  MIXING_STEPS,
  STEPS,
  AugmentOptions,
  AugmentSpec,
  augment_images,
)
from mollify_jax.evaluation import plots

# Images drawn at once, each the partner of the next when two are mixed.
NUM_IMAGES = 8


def make(inputs: Inputs):
  """One sheet: `--rows` images for each of `--steps`, `--draws` of each.

  Raises:
    ValueError, OSError: as `Inputs`; an unknown step, or a number out of
      range.
  """
  arguments = inputs.arguments
  steps = tuple(arguments.steps.split(',')) if arguments.steps else STEPS
  for step in steps:
    if step not in STEPS:
      raise ValueError(
        f'unknown augmentation {step!r}; choose from {", ".join(STEPS)}'
      )
  images = choose_images(inputs.dataset, inputs.image_index)
  num_rows, num_draws = arguments.rows, arguments.draws
  if not 1 <= num_rows <= len(images) or not 1 <= num_draws <= 20:
    raise ValueError(
      f'--rows={num_rows!r} and --draws={num_draws!r}; wanted 1 to '
      f'{len(images)} images and 1 to 20 draws'
    )
  pictures = [
    draw(images, step, arguments.seed, num_draws, inputs.augment)[:num_rows]
    for step in steps
  ]
  rows = [
    '\n'.join(textwrap.wrap(step.replace('_', ' '), 16)) if row == 0 else ''
    for step in steps
    for row in range(num_rows)
  ]
  columns = ['image', *map(str, range(1, num_draws + 1))]
  ratio = images.shape[1] / images.shape[2]
  left, above = 0.95, 0.42
  width = plots.PAGE - left - 0.05
  height = width / len(columns) * len(rows) * ratio
  total = height + above + 0.05
  figure = plots.new_figure(plots.PAGE, total)
  panel = figure.add_axes(
    (left / plots.PAGE, 0.05 / total, width / plots.PAGE, height / total)
  )
  sheets.fill_sheet(panel, np.concatenate(pictures), rows, columns)
  panel.axvline(1, color='black', linewidth=0.8)
  for step in range(1, len(steps) if num_rows > 1 else 0):
    panel.axhline(step * num_rows, color='black', linewidth=0.8)
  panel.set_title(
    f'{inputs.dataset.name}: test image {inputs.image_index} and '
    f'{num_draws} draws of each augmentation',
    fontsize=8,
    parse_math=False,
  )
  return figure


def choose_images(dataset, first: int) -> np.ndarray:
  """uint8[8, H, W, C]: a test image, then the first of each other class.

  Fewer than 8 classes: other images after them; fewer than 8 images: all.
  """
  labels = np.asarray(dataset.test_labels)
  firsts = np.unique(labels, return_index=True)[1]
  firsts = firsts[labels[firsts] != labels[first]]
  index = [first, *np.sort(firsts)]
  rest = np.setdiff1d(np.arange(len(labels)), index)
  index = np.concatenate([index, rest]).astype(int)[:NUM_IMAGES]
  return np.asarray(dataset.test_images)[index]


def draw(
  images: np.ndarray,
  step: str,
  seed: int,
  num_draws: int,
  options: Mapping[str, Any],
) -> np.ndarray:
  """Images and draws side by side: uint8[N, 1 + draws, H, W, C].

  `mixup` and `cutmix` mix each image with the one before it, a lambda per
  example.

  Args:
    images: uint8[N, H, W, C].
    step: in `STEPS`.
    seed: of the draws.
    num_draws: of each image.
    options: fields of `AugmentOptions`.
  """
  keys = jax.random.split(jax.random.key(seed), (num_draws, len(images)))
  if step in MIXING_STEPS:
    labels = np.eye(len(images), dtype=np.float32)

    def once(keys):
      mixed, _ = MIXING_STEPS[step](
        keys,
        images / np.float32(255),
        labels,
        alpha=AugmentOptions(**options).mix_alpha,
      )
      return (mixed * 255).astype(np.uint8)
  else:
    spec = AugmentSpec(steps=(step,), **options)

    def once(keys):
      return augment_images(keys, images, spec)

  draws = np.asarray(jax.jit(jax.vmap(once))(keys))
  return np.concatenate([images[:, None], draws.swapaxes(0, 1)], axis=1)
