"""Temperature scaling: one number that divides all logits of a network.

The usual remedy for over-confidence that needs no other training, and so the
yardstick that mollification is held against. Source: Guo et al. 2017
(arXiv 1706.04599), section 4.2.
"""

import math
from typing import NamedTuple

import numpy as np

# Of the temperature. A network beyond them is at chance, or never wrong.
LEAST, MOST = 0.05, 20.0
# Logits are widened to float64 so many rows at a time.
_ROWS = 4096


class Fit(NamedTuple):
  """A fitted temperature.

  Attributes:
    temperature: in [LEAST, MOST]; above 1 it lowers confidence.
    nll: of the examples at that temperature, nats.
    at_bound: the least NLL lies outside of [LEAST, MOST].
  """

  temperature: float
  nll: float
  at_bound: bool


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> Fit:
  """The temperature T at which softmax(logits / T) has the least NLL.

  In the inverse temperature the NLL is convex, with slope
  mean(sum_k p_k z_k - z_y) and curvature mean(variance of z under p). Newton's
  method in float64 finds the root of the slope, in a bracket that is halved
  where a Newton step leaves it.

  Args:
    logits: float[N, K].
    labels: int[N], in [0, K).

  Returns:
    The fit. Where all logits of each example are equal, every temperature is
    as good: 1.

  Raises:
    ValueError: no examples, shapes that do not fit, or logits that are not
      finite.
  """
  if logits.ndim != 2 or labels.shape != logits.shape[:1] or not logits.size:
    raise ValueError(
      f'logits {logits.shape!r} and labels {labels.shape!r} have no '
      'temperature; give [N, K] and [N], N and K >= 1'
    )
  if not np.isfinite(logits).all():
    raise ValueError(
      'logits that are not finite have no temperature; look at the training'
    )
  low, high = 1 / MOST, 1 / LEAST
  if (
    _slope(logits, labels, low)[1] >= 0 and _slope(logits, labels, high)[1] <= 0
  ):  # flat, for the slope grows
    return Fit(1.0, _slope(logits, labels, 1.0)[0], False)
  for bound, outside in ((low, 1), (high, -1)):
    nll, slope, _ = _slope(logits, labels, bound)
    if outside * slope >= 0:
      return Fit(1 / bound, nll, True)
  inverse = 1.0
  for _ in range(100):
    nll, slope, curvature = _slope(logits, labels, inverse)
    low, high = (inverse, high) if slope < 0 else (low, inverse)
    step = -slope / curvature if curvature > 0 else math.inf
    if abs(step) <= 1e-10 * inverse or high - low <= 1e-12 * high:
      break
    inverse += step
    if not low < inverse < high:
      inverse = math.sqrt(low * high)
  return Fit(1 / inverse, nll, False)


def _slope(logits, labels, inverse):
  """NLL at an inverse temperature, its slope and its curvature."""
  sums = np.zeros(3)
  for first in range(0, len(labels), _ROWS):
    z = logits[first : first + _ROWS].astype(np.float64)
    z -= z.max(axis=1, keepdims=True)
    z_true = np.take_along_axis(
      z, labels[first : first + _ROWS, np.newaxis], axis=1
    )[:, 0]
    weight = np.exp(inverse * z)
    total = weight.sum(axis=1)
    mean = (weight * z).sum(axis=1) / total
    square = (weight * np.square(z)).sum(axis=1) / total
    sums += (
      (np.log(total) - inverse * z_true).sum(),
      (mean - z_true).sum(),
      np.maximum(square - np.square(mean), 0).sum(),
    )
  return tuple((sums / len(labels)).tolist())
