"""Noising and blurring over t, and which frequencies of an image they leave.

Noise is white: it has the variance sigma(t)^2 at every frequency, where the
images have alpha(t)^2 times their own spectrum. Their ratio is the SNR of a
frequency, and SNR / (1 + SNR) the share of its variance that is image. Blur
shrinks a frequency w to exp(-tau(t) w^2). Source: Heinonen et al. 2025 (arXiv
2406.01494), section 3; Rissanen et al. 2023 (arXiv 2206.13397).
"""

from typing import NamedTuple

import numpy as np

from experiments.figures import sheets
from experiments.figures.inputs import Inputs
from mollify_jax.evaluation import passes, plots
from mollify_jax.kernels import schedules
from mollify_jax.kernels.dct import dct_basis, squared_frequencies
from mollify_jax.kernels.mollify import MollifySpec

NUM_IMAGES_SHOWN = 9
NUM_IN_SPECTRUM = 2000
_STEPS = 241  # of t, in the strips and curves


class Kept(NamedTuple):
  """What is left of the frequencies over t.

  Attributes:
    t: float[T].
    edges: float[F + 1], cycles per pixel, of the bins of frequencies.
    noise: float[F, T], SNR / (1 + SNR), the mean over a bin's frequencies but
      the constant one, which blur keeps for ever; NaN of none.
    blur: float[F, T], exp(-tau w^2), likewise.
    noise_share: float[T], of all frequencies, those with SNR >= 1.
    blur_share: float[T], of all frequencies, those with exp(-tau w^2) >= 1/2.
  """

  t: np.ndarray
  edges: np.ndarray
  noise: np.ndarray
  blur: np.ndarray
  noise_share: np.ndarray
  blur_share: np.ndarray


def make(inputs: Inputs):
  """Images, strips of what is kept of each frequency, and the shares kept.

  Raises:
    ValueError, OSError: as `Inputs`.
  """
  dataset, index = inputs.dataset, inputs.image_index
  t = np.linspace(0, 1, NUM_IMAGES_SHOWN)
  strip = passes.mollification_strip(
    dataset.test_images[index], dataset.test_labels[index], t, inputs.evaluation
  )
  num_images = min(NUM_IN_SPECTRUM, dataset.num_test)
  power = spectrum(dataset.test_images[:num_images], dataset.mean, dataset.std)
  kept = measure(power, inputs.mollify)

  # Images stand over the t that they have in the strips.
  half = 0.5 / (NUM_IMAGES_SHOWN - 1)
  left, width, bar = 0.85, 5.2, 0.12
  cell = width / NUM_IMAGES_SHOWN * dataset.image_shape[0]
  cell /= dataset.image_shape[1]
  heights = {'image': cell, 'strip': 0.85, 'curves': 1.0}
  total = 0.55 + 2 * (cell + heights['strip'] + 0.2) + heights['curves'] + 0.45
  figure = plots.new_figure(plots.PAGE, total)
  top = total - 0.55

  def panel_of(kind, gap, at=left, wide=width):
    nonlocal top
    height = heights[kind]
    top -= height + gap
    box = (at / plots.PAGE, top / total, wide / plots.PAGE, height / total)
    return figure.add_axes(box)

  for name, values, title in (
    ('noise', kept.noise, 'SNR / (1 + SNR)'),
    ('blur', kept.blur, r'exp($-\tau\,\omega^2$)'),
  ):
    pictures = (255 * strip[name][0]).round().astype(np.uint8)[None]
    panel = panel_of('image', 0.02)
    panel.set_label(name)
    columns = [f'{value:.3g}' for value in t] if name == 'noise' else [''] * 9
    sheets.fill_sheet(panel, pictures, [plots.TITLES[name]], columns)
    panel.set_aspect('auto')
    panel.set_yticklabels([plots.TITLES[name].replace(' ', '\n')], fontsize=8)
    if name == 'noise':
      panel.set_title('temperature t', fontsize=8, pad=6)
    panel = panel_of('strip', 0.0)
    panel.set_label(f'{name} kept')
    mesh = panel.pcolormesh(
      kept.t,
      kept.edges,
      values[:, :-1],
      cmap='cividis',
      vmin=0,
      vmax=1,
      rasterized=True,
    )
    centers = (kept.edges[1:] + kept.edges[:-1]) / 2
    if len(centers) > 1:
      panel.contour(
        kept.t, centers, values, levels=[0.5], colors='white', linewidths=1
      )
    panel.set_xlim(-half, 1 + half)
    panel.set_xticks([])
    panel.set_ylabel('frequency\n(cycles/pixel)', fontsize=7)
    panel.tick_params(labelsize=7)
    panel.spines[['top', 'right', 'bottom']].set_visible(False)
    box = panel.get_position()
    bar_panel = figure.add_axes(
      (
        (left + width - half * width / (1 + 2 * half) + 0.12) / plots.PAGE
        + 0.02,
        box.y0,
        bar / plots.PAGE,
        box.height,
      )
    )
    colorbar = figure.colorbar(mesh, cax=bar_panel, ticks=[0, 0.5, 1])
    colorbar.ax.axhline(0.5, color='white', linewidth=1)
    colorbar.ax.tick_params(labelsize=7)
    colorbar.set_label(title, fontsize=7)
    top -= 0.16
  panel = panel_of('curves', 0.02)
  panel.set_label('shares')
  for name, values, condition in (
    ('noise', kept.noise_share, 'SNR ≥ 1'),
    ('blur', kept.blur_share, r'exp($-\tau\,\omega^2$) ≥ 1/2'),
  ):
    style = plots.KINDS[name]
    panel.plot(
      kept.t,
      100 * values,
      **style.of_line(),
      markevery=_STEPS // (NUM_IMAGES_SHOWN - 1),
      markersize=4,
      label=f'{name}: {condition}',
    )
  panel.set_xlim(-half, 1 + half)
  panel.set_ylim(-3, 103)
  panel.set_xticks(t, [f'{value:.3g}' for value in t])
  panel.set_xlabel('temperature t', fontsize=8)
  panel.set_ylabel('frequencies\nkept (%)', fontsize=7)
  panel.tick_params(labelsize=7)
  panel.grid(alpha=0.3)
  panel.legend(fontsize=7, frameon=False, loc='upper right')
  figure.text(
    0.5,
    1 - 0.06 / total,
    f'{dataset.name}: test image {index}; spectrum: mean over {num_images:,} '
    'test images',
    ha='center',
    va='top',
    fontsize=8,
    parse_math=False,
  )
  return figure


def spectrum(
  images: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]
) -> np.ndarray:
  """Mean squared DCT coefficient of normalised images: float64[H, W].

  Args:
    images: uint8[N, H, W, C].
    mean, std: per channel, of pixels / 255.
  """
  pixels = (images / 255 - np.array(mean)) / np.array(std)
  rows, columns = (dct_basis(size) for size in images.shape[1:3])
  coefficients = np.einsum('ih,nhwc,jw->nijc', rows, pixels, columns)
  return np.square(coefficients).mean(axis=(0, 3))


def measure(power: np.ndarray, spec: MollifySpec) -> Kept:
  """What noise and blur leave of each frequency.

  Args:
    power: float[H, W], the spectrum of clean images.
    spec: the schedules.
  """
  t = np.linspace(0, 1, _STEPS)
  alpha, sigma = (
    np.asarray(f(t), np.float64) for f in (schedules.alpha, schedules.sigma)
  )
  signal = np.square(alpha) * power[..., None]
  noise = np.square(sigma)
  # No signal and no noise: nothing was lost.
  total = signal + noise
  noised = np.where(total > 0, signal / np.where(total > 0, total, 1), 1.0)
  maximum = spec.blur_width_max or float(power.shape[1])
  width = schedules.blur_width(t, spec.blur_width_min, maximum)
  tau = np.asarray(schedules.dissipation_time(width), np.float64)
  squared = np.asarray(squared_frequencies(*power.shape), np.float64)
  blurred = np.exp(-squared[..., None] * tau)

  radius = np.sqrt(squared) / (2 * np.pi)  # cycles per pixel
  edges = np.linspace(0, radius.max(), max(power.shape) + 1)
  if radius.max() == 0:  # one pixel
    edges = np.array([0.0, 0.5])
  place = np.clip(np.digitize(radius, edges) - 1, 0, len(edges) - 2)

  def mean_by_bin(values):
    rows = []
    for index in range(len(edges) - 1):
      chosen = values[(place == index) & (radius > 0)]
      rows.append(
        chosen.mean(axis=0) if len(chosen) else np.full_like(t, np.nan)
      )
    return np.array(rows)

  return Kept(
    t=t,
    edges=edges,
    noise=mean_by_bin(noised),
    blur=mean_by_bin(blurred),
    noise_share=(noised >= 0.5).mean(axis=(0, 1)),
    blur_share=(blurred >= 0.5).mean(axis=(0, 1)),
  )
