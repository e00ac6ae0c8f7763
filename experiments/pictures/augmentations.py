r"""One sheet per augmentation: eight images, each with twelve draws.

  python -m experiments.pictures.augmentations --out=/tmp/sheets
  python -m experiments.pictures.augmentations --out=/tmp/sheets \
    --data=archive --path=cifar10.npz

The first takes scikit-learn's digits, the second the test images of any data
set that `config.data` can name. `mixup` and `cutmix` mix each image with the
one before it, a lambda per example.
"""

import argparse
from pathlib import Path

import jax
import numpy as np

from mollify_jax.augment import (
  MIXING_STEPS,
  STEPS,
  AugmentSpec,
  augment_images,
)
from mollify_jax.data import catalog
from mollify_jax.evaluation import plots

NUM_IMAGES, NUM_DRAWS, GAP = 8, 12, 2


def choose_images(dataset) -> np.ndarray:
  """uint8[8, H, W, C], one of each of the first eight classes or so."""
  labels = np.asarray(dataset.test_labels)
  firsts = np.unique(labels, return_index=True)[1]
  rest = np.setdiff1d(np.arange(len(labels)), firsts)
  index = np.concatenate([firsts, rest])[:NUM_IMAGES]
  return np.asarray(dataset.test_images)[np.sort(index)]


def draw(images: np.ndarray, step: str, seed: int) -> np.ndarray:
  """Images and draws side by side: uint8[8, 1 + 12, H, W, C]."""
  keys = jax.random.split(jax.random.key(seed), (NUM_DRAWS, len(images)))
  if step in MIXING_STEPS:
    labels = np.eye(len(images), dtype=np.float32)

    def once(keys):
      mixed, _ = MIXING_STEPS[step](keys, images / np.float32(255), labels)
      return (mixed * 255).astype(np.uint8)
  else:
    spec = AugmentSpec(steps=(step,))

    def once(keys):
      return augment_images(keys, images, spec)

  draws = np.asarray(jax.jit(jax.vmap(once))(keys))
  return np.concatenate([images[:, None], draws.swapaxes(0, 1)], axis=1)


def tile(pictures: np.ndarray) -> np.ndarray:
  """One picture of a grid [rows, columns, H, W, C], white gaps between."""
  gaps = ((0, 0), (0, 0), (GAP, GAP), (GAP, GAP), (0, 0))
  pictures = np.pad(pictures, gaps, constant_values=255)
  rows, columns, height, width, channels = pictures.shape
  return pictures.transpose(0, 2, 1, 3, 4).reshape(
    rows * height, columns * width, channels
  )


def save_sheet(path: Path, pictures: np.ndarray, title: str) -> None:
  sheet = tile(pictures)
  height, width = sheet.shape[:2]
  figure = plots.new_figure(13, 13 * height / width)
  axes = figure.add_subplot()
  axes.imshow(sheet.squeeze(), cmap='gray', vmin=0, vmax=255)
  cell = width / (NUM_DRAWS + 1)
  axes.set_xticks([cell / 2, cell * (1 + NUM_DRAWS / 2)])
  axes.set_xticklabels(['image', f'{NUM_DRAWS} draws'])
  axes.xaxis.tick_top()
  axes.tick_params(length=0)
  axes.set_yticks([])
  axes.axvline(cell - 0.5, color='black', linewidth=1)
  axes.spines[:].set_visible(False)
  axes.set_title(title, fontsize=13)
  plots.save(figure, path)


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--out', type=Path, required=True)
  parser.add_argument('--data', default='digits', help='as config.data.name')
  parser.add_argument('--path', default='', help='as config.data.path')
  parser.add_argument('--data_dir', default='')
  parser.add_argument('--steps', nargs='+', choices=STEPS, default=STEPS)
  parser.add_argument('--seed', type=int, default=0)
  arguments = parser.parse_args()
  try:
    spec = catalog.DataSpec(
      name=arguments.data, path=arguments.path, data_dir=arguments.data_dir
    )
    images = choose_images(catalog.load(spec, arguments.out))
  except (ValueError, TypeError, OSError) as error:
    raise SystemExit(f'error: {error}') from error
  arguments.out.mkdir(parents=True, exist_ok=True)
  for step in arguments.steps:
    path = arguments.out / f'{step}.png'
    save_sheet(path, draw(images, step, arguments.seed), step)
    print(path)


if __name__ == '__main__':
  main()
