"""The common corruptions of one image at severities 1 to 5."""

import numpy as np

from experiments.figures import sheets
from experiments.figures.inputs import Inputs
from mollify_jax import corruptions
from mollify_jax.corruptions.severities import (
  CORRUPTIONS,
  EXTRA_CORRUPTIONS,
  GROUPS,
  SEVERITIES,
  nearest_parameters,
  select_corruptions,
)
from mollify_jax.evaluation import corruption_tables as tables
from mollify_jax.evaluation import plots

_GREY = 0xD0


def make(inputs: Inputs):
  """Two blocks of rows, a group under the other; grey: not to be had here.

  Raises:
    ValueError, OSError: as `Inputs`; unknown corruptions.
  """
  names = select_corruptions(inputs.arguments.corruptions)
  if not names:
    raise ValueError(
      f'--corruptions={inputs.arguments.corruptions!r} names none; take '
      'benchmark, extra, all, or names with commas between'
    )
  dataset, index = inputs.dataset, inputs.image_index
  if dataset.image_shape[-1] not in (1, 3):
    raise ValueError(
      f'images of {dataset.image_shape[-1]} channels cannot be corrupted; '
      'wanted 1 or 3: name another data set'
    )
  image = np.asarray(dataset.test_images)[index]
  parameters = nearest_parameters(*image.shape[:2])
  missing = corruptions.unavailable(image.shape, parameters)
  blocks = [b for b in _blocks(names) if b]
  longest = max(map(len, blocks))
  width = plots.PAGE / 2 * len(blocks)
  cell = (plots.PAGE / 2 - 0.85) / (1 + len(SEVERITIES))
  figure = plots.new_figure(
    width,
    cell * image.shape[0] / image.shape[1] * longest + 0.55,
    layout='constrained',
  )
  panels = figure.subplots(1, len(blocks), squeeze=False)[0]
  for panel, block in zip(panels, blocks, strict=True):
    pictures = np.stack(
      [
        corrupt(image, index, name, parameters, inputs.arguments.seed)
        if name not in missing
        else grey_row(image)
        for name in block
      ]
    )
    rows = [tables.row_title(name) for name in block]
    columns = ['clean', *map(str, SEVERITIES)]
    sheets.fill_sheet(panel, pictures, rows, columns)
    panel.set_ylim(longest, 0)  # rows of both blocks are level
    for row, name in enumerate(block):
      if name in missing:
        panel.text(
          1 + len(SEVERITIES) / 2,
          row + 0.5,
          'its photographs are not installed',
          ha='center',
          va='center',
          fontsize=7,
        )
      if row and _group(name) != _group(block[row - 1]):
        panel.axhline(row, color='black', linewidth=0.6)
    panel.axvline(1, 1 - len(block) / longest, 1, color='black', linewidth=0.6)
  figure.suptitle(
    f'{dataset.name}: test image {index} under the common corruptions, '
    f'severity 1 to 5 ({parameters} parameters, seed {inputs.arguments.seed})',
    fontsize=8,
    parse_math=False,
  )
  return figure


def corrupt(
  image: np.ndarray, index: int, name: str, parameters: str, seed: int
) -> np.ndarray:
  """The image clean and at each severity, as in evaluation: uint8[6, H, W, C].

  Args:
    image: uint8[H, W, C].
    index: its place in the test set, to which the randomness is bound.
    name, parameters: see `corruptions.corrupt`.
    seed: of the corrupted set.
  """
  rows = [image]
  for severity in SEVERITIES:
    keys = corruptions.cell_keys(seed, name, severity, np.array([index]))
    rows.append(
      corruptions.corrupt_batch(keys, image[None], name, severity, parameters)[
        0
      ]
    )
  return np.stack([np.asarray(row) for row in rows])


def grey_row(image: np.ndarray) -> np.ndarray:
  """The image, and grey where its corruptions would be: uint8[6, H, W, C]."""
  grey = np.full((len(SEVERITIES), *image.shape), _GREY, np.uint8)
  return np.concatenate([image[None], grey])


def _blocks(names):
  """Two columns: noise and blur, weather and digital; extra ones below both."""
  left = [n for g in ('noise', 'blur') for n in GROUPS[g] if n in names]
  right = [n for g in ('weather', 'digital') for n in GROUPS[g] if n in names]
  for name in (n for n in EXTRA_CORRUPTIONS if n in names):
    (left if len(left) <= len(right) else right).append(name)
  if not set(names) & set(CORRUPTIONS):
    return [left + right]
  return [left, right]


def _group(name):
  return next((g for g, names in GROUPS.items() if name in names), 'extra')
