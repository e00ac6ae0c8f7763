"""The common corruptions of Hendrycks & Dietterich as kernels of one image.

  image = corruptions.corrupt(key, image, 'fog', 3)  # uint8[32, 32, 3]
  images = corruptions.corrupt_batch(keys, images, 'fog', 3)

The fifteen of the benchmark and the four extra ones, at severities 1 to 5 of
the three published parameter sets, value for value what the authors' scripts
make (arXiv 1903.12261). `severities` holds the numbers; the kernels themselves,
each random one with a twin that takes its randomness, stand in `noise`,
`blur`, `weather`, `color`, `digital`, `elastic`, `spatter` and `jpeg`.

Tiny-ImageNet-C and ImageNet-C are stored as JPEG of quality 85, a second
compression that is not part of the corruptions and is not made here;
`jpeg.compress_jpeg(image, quality=85)` makes it.
"""

from mollify_jax.corruptions.dispatch import (
  cell_keys,
  corrupt,
  corrupt_batch,
  corrupt_with,
  draw_randomness,
  unavailable,
)
from mollify_jax.corruptions.severities import (
  CORRUPTIONS,
  EXTRA_CORRUPTIONS,
  GROUPS,
  PARAMETER_SETS,
  SEVERITIES,
  nearest_parameters,
  parameters_for,
  select_corruptions,
)
from mollify_jax.corruptions.textures import TexturesMissingError

__all__ = [
  'CORRUPTIONS',
  'EXTRA_CORRUPTIONS',
  'GROUPS',
  'PARAMETER_SETS',
  'SEVERITIES',
  'TexturesMissingError',
  'cell_keys',
  'corrupt',
  'corrupt_batch',
  'corrupt_with',
  'draw_randomness',
  'nearest_parameters',
  'parameters_for',
  'select_corruptions',
  'unavailable',
]
