"""Many images as one: sheets with a name for each row and column."""

from collections.abc import Sequence

import numpy as np

from mollify_jax.evaluation import plots


def tile(pictures: np.ndarray) -> np.ndarray:
  """One picture of a grid of them, white gaps between.

  Args:
    pictures: uint8[rows, columns, H, W, C].

  Returns:
    uint8[rows * (H + 2 g), columns * (W + 2 g), C], with a gap of g pixels
    around each, a sixteenth of the height, at least 1.
  """
  gap = max(1, pictures.shape[2] // 16)
  gaps = ((0, 0), (0, 0), (gap, gap), (gap, gap), (0, 0))
  pictures = np.pad(pictures, gaps, constant_values=255)
  rows, columns, height, width, channels = pictures.shape
  return pictures.transpose(0, 2, 1, 3, 4).reshape(
    rows * height, columns * width, channels
  )


def fill_sheet(
  panel,
  pictures: np.ndarray,
  rows: Sequence[str],
  columns: Sequence[str],
  *,
  size: float = 7,
) -> None:
  """Draws a sheet into axes. A cell is 1 x 1, the first at the top left.

  Args:
    panel: Matplotlib's axes.
    pictures: uint8[R, N, H, W, C].
    rows: R names, at the left.
    columns: N names, above.
    size: of the letters, in points.
  """
  extent = (0, len(columns), len(rows), 0)
  height, width = tile(pictures[:1, :1]).shape[:2]
  plots.show_image(panel, tile(pictures), extent=extent, aspect=height / width)
  panel.set_xticks(np.arange(len(columns)) + 0.5, columns, fontsize=size)
  panel.set_yticks(np.arange(len(rows)) + 0.5, rows, fontsize=size)
  panel.xaxis.tick_top()
  panel.tick_params(length=0, pad=2)
  panel.spines[:].set_visible(False)
