"""How strong each operation is at each bin: the tables of the policies."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from mollify_jax.augment.operations import SELECTABLE, operation_number

# Operations whose magnitude gets a random sign.
SIGNED = (
  'ShearX',
  'ShearY',
  'TranslateX',
  'TranslateY',
  'Rotate',
  'Brightness',
  'Color',
  'Contrast',
  'Sharpness',
)


@dataclasses.dataclass(frozen=True)
class MagnitudeScale:
  """The range of every operation. Hashable.

  Bin 0 is the weakest and bins - 1 the strongest; between them magnitudes go
  in equal steps. Solarize goes from 1 to 0 everywhere.

  Attributes:
    bins: how many there are.
    shear: largest slope.
    translate: largest shift, in pixels or as a share of the side.
    translate_unit: 'pixels' or 'share'.
    rotate: largest angle in degrees.
    enhance: largest change of Brightness, Color, Contrast, Sharpness.
    most_bits, least_bits: that Posterize keeps, at bin 0 and the last.
  """

  bins: int
  shear: float
  translate: float
  translate_unit: str
  rotate: float
  enhance: float
  most_bits: int
  least_bits: int


TRIVIAL_AUGMENT_WIDE = MagnitudeScale(
  bins=31,
  shear=0.99,
  translate=32.0,
  translate_unit='pixels',
  rotate=135.0,
  enhance=0.99,
  most_bits=8,
  least_bits=2,
)
RAND_AUGMENT = MagnitudeScale(
  bins=31,
  shear=0.3,
  translate=150.0 / 331.0,
  translate_unit='share',
  rotate=30.0,
  enhance=0.9,
  most_bits=8,
  least_bits=4,
)
AUTO_AUGMENT = dataclasses.replace(RAND_AUGMENT, bins=10)
AUGMIX = dataclasses.replace(
  AUTO_AUGMENT, translate=1.0 / 3.0, most_bits=4, least_bits=0
)


def magnitude_table(
  scale: MagnitudeScale, height: int, width: int
) -> np.ndarray:
  """Unsigned magnitudes float32[len(SELECTABLE), bins] at an image size.

  Bit for bit torchvision's (on CPUs with vector units), which truncation
  needs: a threshold of 119.00001 instead of 119 is another integer. Operations
  without magnitude have 0.
  """
  x, y = width, height
  if scale.translate_unit == 'pixels':
    x = y = 1
  ranges = {
    'ShearX': (0.0, scale.shear),
    'ShearY': (0.0, scale.shear),
    'TranslateX': (0.0, scale.translate * x),
    'TranslateY': (0.0, scale.translate * y),
    'Rotate': (0.0, scale.rotate),
    'Brightness': (0.0, scale.enhance),
    'Color': (0.0, scale.enhance),
    'Contrast': (0.0, scale.enhance),
    'Sharpness': (0.0, scale.enhance),
    'Solarize': (1.0, 0.0),
  }
  table = np.zeros((len(SELECTABLE), scale.bins), np.float32)
  for name, (first, last) in ranges.items():
    table[operation_number(name)] = _equal_steps(first, last, scale.bins)
  drop = (scale.most_bits - scale.least_bits) / (scale.bins - 1)
  table[operation_number('Posterize')] = scale.most_bits - np.round(
    drop * np.arange(scale.bins)
  )
  return table


def pick_magnitude(
  scale: MagnitudeScale,
  operation: jax.Array,
  bin_index: jax.Array,
  negative: jax.Array,
  image_shape: tuple[int, ...],
) -> jax.Array:
  """The signed magnitude of each drawn operation.

  Args:
    scale: static.
    operation: int32[...], numbers of operations.
    bin_index: int32[...], in [0, bins).
    negative: bool[...]; only operations that are signed heed it.
    image_shape: (H, W, ...), static.

  Returns:
    float32[...].
  """
  table = jnp.asarray(magnitude_table(scale, *image_shape[:2]))
  magnitude = table[operation, bin_index]
  signed = jnp.asarray([name in SIGNED for name in SELECTABLE])[operation]
  return jnp.where(signed & negative, -magnitude, magnitude)


def _equal_steps(first, last, count):
  """torch.linspace in float32: from both ends, with fused multiply-add."""
  first, last = np.float32(first), np.float32(last)
  # One step is rounded to float32; float64 holds its products exactly, so that
  # the sum is rounded once.
  step = float((last - first) / np.float32(count - 1))
  index = np.arange(count)
  from_first = float(first) + step * index
  from_last = float(last) - step * (count - 1 - index)
  return np.where(index < count // 2, from_first, from_last).astype(np.float32)
