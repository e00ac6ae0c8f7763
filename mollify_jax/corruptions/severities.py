"""Every parameter of the corruptions, per severity and published set.

Numbers are facts from the scripts of Hendrycks & Dietterich (ICLR 2019, arXiv
1903.12261): one script each for CIFAR, Tiny-ImageNet and ImageNet. Nothing is
interpolated between the three; images of another size take one of them as it
is.
"""

import dataclasses
import numbers
from types import MappingProxyType
from typing import Any

# In the published order. The fifteen are for reporting, the four for choosing
# hyperparameters.
CORRUPTIONS = (
  'gaussian_noise',
  'shot_noise',
  'impulse_noise',
  'defocus_blur',
  'glass_blur',
  'motion_blur',
  'zoom_blur',
  'snow',
  'frost',
  'fog',
  'brightness',
  'contrast',
  'elastic_transform',
  'pixelate',
  'jpeg_compression',
)
EXTRA_CORRUPTIONS = ('speckle_noise', 'gaussian_blur', 'spatter', 'saturate')

GROUPS = MappingProxyType(
  {
    'noise': ('gaussian_noise', 'shot_noise', 'impulse_noise'),
    'blur': ('defocus_blur', 'glass_blur', 'motion_blur', 'zoom_blur'),
    'weather': ('snow', 'frost', 'fog', 'brightness'),
    'digital': (
      'contrast',
      'elastic_transform',
      'pixelate',
      'jpeg_compression',
    ),
  }
)

SEVERITIES = (1, 2, 3, 4, 5)


@dataclasses.dataclass(frozen=True)
class ParameterSet:
  """What one script fixes beside the severities.

  Attributes:
    size: height and width of the images it was written for.
    fog_grid: side of the wrap-around grid of fog, a power of two.
    texture_scale: of the frost textures.
  """

  size: int
  fog_grid: int
  texture_scale: float


PARAMETER_SETS = MappingProxyType(
  {
    'cifar': ParameterSet(size=32, fog_grid=32, texture_scale=0.2),
    'tiny_imagenet': ParameterSet(size=64, fog_grid=64, texture_scale=0.3),
    'imagenet': ParameterSet(size=224, fog_grid=256, texture_scale=1.0),
  }
)


# Words that stand for several corruptions, as configs and commands say them.
SELECTIONS = MappingProxyType(
  {
    'benchmark': CORRUPTIONS,
    'extra': EXTRA_CORRUPTIONS,
    'all': CORRUPTIONS + EXTRA_CORRUPTIONS,
    'none': (),
  }
)


def select_corruptions(wanted: str) -> tuple[str, ...]:
  """The names that words and names, with commas between, stand for.

  Args:
    wanted: words in `SELECTIONS` and corruptions, as `extra,fog,contrast`.

  Returns:
    Names in the published order, each once.

  Raises:
    ValueError: an unknown word or name.
  """
  names = set()
  for name in map(str.strip, wanted.split(',')):
    names.update(SELECTIONS.get(name, (name,)))
    if name not in SELECTIONS and name not in SELECTIONS['all']:
      raise ValueError(
        f'unknown corruption {name!r}; choose from {", ".join(SELECTIONS)}, or '
        f'name some of {", ".join(SELECTIONS["all"])}, with commas between'
      )
  return tuple(name for name in SELECTIONS['all'] if name in names)


def parameters_for(name: str, severity: int, parameters: str) -> dict[str, Any]:
  """The parameters of one corruption at one severity.

  Args:
    name: in `CORRUPTIONS` or `EXTRA_CORRUPTIONS`.
    severity: 1..5; 1 is the mildest.
    parameters: a name in `PARAMETER_SETS`.

  Returns:
    Parameter name -> value. Lengths are in pixels and amounts in units of the
    full range; the kernels say which is which.

  Raises:
    ValueError: an unknown name, severity or parameter set.
  """
  if name not in _TABLES:
    raise ValueError(
      f'unknown corruption {name!r}; choose from '
      f'{", ".join(CORRUPTIONS + EXTRA_CORRUPTIONS)}'
    )
  # True is 1 for Python, and 2.0 is 2.
  whole = isinstance(severity, numbers.Integral)
  if not whole or isinstance(severity, bool) or severity not in SEVERITIES:
    raise ValueError(
      f'severity must be one of {SEVERITIES!r}, got {severity!r}'
    )
  if parameters not in PARAMETER_SETS:
    raise ValueError(
      f'unknown parameter set {parameters!r}; choose from '
      f'{", ".join(PARAMETER_SETS)}'
    )
  table = _TABLES[name][parameters]
  return {field: values[severity - 1] for field, values in table.items()}


def nearest_parameters(height: int, width: int) -> str:
  """The set made for the size nearest to an image's, by ratio of sides.

  Args:
    height: of the images, in pixels.
    width: likewise.

  Returns:
    A name in `PARAMETER_SETS`. Whoever takes it for another size than its own
    should say so to the user.
  """
  side = max(height, width)

  def distance(name):
    size = PARAMETER_SETS[name].size
    return max(size / side, side / size)

  return min(PARAMETER_SETS, key=distance)


# corruption -> set -> parameter -> its values at severities 1 to 5.
_TABLES = {
  'gaussian_noise': {
    'cifar': {
      'sigma': (0.04, 0.06, 0.08, 0.09, 0.1),
    },
    'tiny_imagenet': {
      'sigma': (0.04, 0.08, 0.12, 0.15, 0.18),
    },
    'imagenet': {
      'sigma': (0.08, 0.12, 0.18, 0.26, 0.38),
    },
  },
  'shot_noise': {
    'cifar': {
      'lam': (500, 250, 100, 75, 50),
    },
    'tiny_imagenet': {
      'lam': (250, 100, 50, 30, 15),
    },
    'imagenet': {
      'lam': (60, 25, 12, 5, 3),
    },
  },
  'impulse_noise': {
    'cifar': {
      'amount': (0.01, 0.02, 0.03, 0.05, 0.07),
    },
    'tiny_imagenet': {
      'amount': (0.01, 0.02, 0.05, 0.08, 0.14),
    },
    'imagenet': {
      'amount': (0.03, 0.06, 0.09, 0.17, 0.27),
    },
  },
  'defocus_blur': {
    'cifar': {
      'radius': (0.3, 0.4, 0.5, 1.0, 1.5),
      'alias_sigma': (0.4, 0.5, 0.6, 0.2, 0.1),
    },
    'tiny_imagenet': {
      'radius': (0.5, 1.0, 1.5, 2.5, 3.0),
      'alias_sigma': (0.6, 0.1, 0.1, 0.01, 0.1),
    },
    'imagenet': {
      'radius': (3.0, 4.0, 6.0, 8.0, 10.0),
      'alias_sigma': (0.1, 0.5, 0.5, 0.5, 0.5),
    },
  },
  'glass_blur': {
    'cifar': {
      'sigma': (0.05, 0.25, 0.4, 0.25, 0.4),
      'max_delta': (1, 1, 1, 1, 1),
      'iterations': (1, 1, 1, 2, 2),
    },
    'tiny_imagenet': {
      'sigma': (0.1, 0.5, 0.6, 0.7, 0.9),
      'max_delta': (1, 1, 1, 2, 2),
      'iterations': (1, 1, 2, 1, 2),
    },
    'imagenet': {
      'sigma': (0.7, 0.9, 1.0, 1.1, 1.5),
      'max_delta': (1, 2, 2, 3, 4),
      'iterations': (2, 1, 3, 2, 2),
    },
  },
  'motion_blur': {
    'cifar': {
      'radius': (6.0, 6.0, 6.0, 8.0, 9.0),
      'sigma': (1.0, 1.5, 2.0, 2.0, 2.5),
    },
    'tiny_imagenet': {
      'radius': (10.0, 10.0, 10.0, 10.0, 12.0),
      'sigma': (1.0, 1.5, 2.0, 2.5, 3.0),
    },
    'imagenet': {
      'radius': (10.0, 15.0, 15.0, 15.0, 20.0),
      'sigma': (3.0, 5.0, 8.0, 12.0, 15.0),
    },
  },
  'zoom_blur': {
    'cifar': {
      'stop': (1.06, 1.11, 1.16, 1.21, 1.26),
      'step': (0.01, 0.01, 0.01, 0.01, 0.01),
    },
    'tiny_imagenet': {
      'stop': (1.06, 1.11, 1.16, 1.21, 1.26),
      'step': (0.01, 0.01, 0.01, 0.01, 0.01),
    },
    'imagenet': {
      'stop': (1.11, 1.16, 1.21, 1.26, 1.31),
      'step': (0.01, 0.01, 0.02, 0.02, 0.03),
    },
  },
  'snow': {
    'cifar': {
      'loc': (0.1, 0.1, 0.15, 0.25, 0.3),
      'scale': (0.2, 0.2, 0.3, 0.3, 0.3),
      'zoom': (1.0, 1.0, 1.75, 2.25, 1.25),
      'threshold': (0.6, 0.5, 0.55, 0.6, 0.65),
      'blur_radius': (8.0, 10.0, 10.0, 12.0, 14.0),
      'blur_sigma': (3.0, 4.0, 4.0, 6.0, 12.0),
      'mix': (0.95, 0.9, 0.9, 0.85, 0.8),
    },
    'tiny_imagenet': {
      'loc': (0.1, 0.1, 0.15, 0.25, 0.3),
      'scale': (0.2, 0.2, 0.3, 0.3, 0.3),
      'zoom': (1.0, 1.0, 1.75, 2.25, 1.25),
      'threshold': (0.6, 0.5, 0.55, 0.6, 0.65),
      'blur_radius': (8.0, 10.0, 10.0, 12.0, 14.0),
      'blur_sigma': (3.0, 4.0, 4.0, 6.0, 12.0),
      'mix': (0.8, 0.8, 0.7, 0.65, 0.6),
    },
    'imagenet': {
      'loc': (0.1, 0.2, 0.55, 0.55, 0.55),
      'scale': (0.3, 0.3, 0.3, 0.3, 0.3),
      'zoom': (3.0, 2.0, 4.0, 4.5, 2.5),
      'threshold': (0.5, 0.5, 0.9, 0.85, 0.85),
      'blur_radius': (10.0, 12.0, 12.0, 12.0, 12.0),
      'blur_sigma': (4.0, 4.0, 8.0, 8.0, 12.0),
      'mix': (0.8, 0.7, 0.7, 0.65, 0.55),
    },
  },
  'frost': {
    'cifar': {
      'image_weight': (1.0, 1.0, 0.9, 0.85, 0.75),
      'frost_weight': (0.2, 0.3, 0.4, 0.4, 0.45),
    },
    'tiny_imagenet': {
      'image_weight': (1.0, 0.9, 0.8, 0.75, 0.7),
      'frost_weight': (0.3, 0.4, 0.45, 0.5, 0.55),
    },
    'imagenet': {
      'image_weight': (1.0, 0.8, 0.7, 0.65, 0.6),
      'frost_weight': (0.4, 0.6, 0.7, 0.7, 0.75),
    },
  },
  'fog': {
    'cifar': {
      'amount': (0.2, 0.5, 0.75, 1.0, 1.5),
      'decay': (3.0, 3.0, 2.5, 2.0, 1.75),
    },
    'tiny_imagenet': {
      'amount': (0.4, 0.7, 1.0, 1.5, 2.0),
      'decay': (3.0, 3.0, 2.5, 2.0, 1.75),
    },
    'imagenet': {
      'amount': (1.5, 2.0, 2.5, 2.5, 3.0),
      'decay': (2.0, 2.0, 1.7, 1.5, 1.4),
    },
  },
  'brightness': {
    'cifar': {
      'add': (0.05, 0.1, 0.15, 0.2, 0.3),
    },
    'tiny_imagenet': {
      'add': (0.1, 0.2, 0.3, 0.4, 0.5),
    },
    'imagenet': {
      'add': (0.1, 0.2, 0.3, 0.4, 0.5),
    },
  },
  'contrast': {
    'cifar': {
      'factor': (0.75, 0.5, 0.4, 0.3, 0.15),
    },
    'tiny_imagenet': {
      'factor': (0.4, 0.3, 0.2, 0.1, 0.05),
    },
    'imagenet': {
      'factor': (0.4, 0.3, 0.2, 0.1, 0.05),
    },
  },
  'elastic_transform': {
    'cifar': {
      'alpha': (0.0, 1.6, 2.56, 3.2, 3.2),
      'sigma': (0.0, 6.4, 1.92, 1.28, 0.96),
      'affine_shift': (2.56, 2.24, 1.92, 1.6, 0.96),
    },
    'tiny_imagenet': {
      'alpha': (0.0, 3.2, 6.4, 6.4, 10.24),
      'sigma': (0.0, 19.2, 5.12, 1.92, 1.92),
      'affine_shift': (5.12, 3.84, 3.84, 1.92, 1.28),
    },
    'imagenet': {
      'alpha': (488.0, 488.0, 12.2, 17.08, 29.28),
      'sigma': (170.8, 19.52, 2.44, 2.44, 2.44),
      'affine_shift': (24.4, 48.8, 4.88, 4.88, 4.88),
    },
  },
  'pixelate': {
    'cifar': {
      'scale': (0.95, 0.9, 0.85, 0.75, 0.65),
    },
    'tiny_imagenet': {
      'scale': (0.9, 0.8, 0.7, 0.6, 0.5),
    },
    'imagenet': {
      'scale': (0.6, 0.5, 0.4, 0.3, 0.25),
    },
  },
  'jpeg_compression': {
    'cifar': {
      'quality': (80, 65, 58, 50, 40),
    },
    'tiny_imagenet': {
      'quality': (65, 58, 50, 40, 25),
    },
    'imagenet': {
      'quality': (25, 18, 15, 10, 7),
    },
  },
  'speckle_noise': {
    'cifar': {
      'sigma': (0.06, 0.1, 0.12, 0.16, 0.2),
    },
    'tiny_imagenet': {
      'sigma': (0.15, 0.2, 0.25, 0.3, 0.35),
    },
    'imagenet': {
      'sigma': (0.15, 0.2, 0.35, 0.45, 0.6),
    },
  },
  'gaussian_blur': {
    'cifar': {
      'sigma': (0.4, 0.6, 0.7, 0.8, 1.0),
    },
    'tiny_imagenet': {
      'sigma': (0.5, 0.75, 1.0, 1.25, 1.5),
    },
    'imagenet': {
      'sigma': (1.0, 2.0, 3.0, 4.0, 6.0),
    },
  },
  'spatter': {
    'cifar': {
      'loc': (0.62, 0.65, 0.65, 0.65, 0.65),
      'scale': (0.1, 0.1, 0.3, 0.1, 0.1),
      'blur_sigma': (0.7, 0.8, 1.0, 0.7, 0.5),
      'threshold': (0.7, 0.7, 0.69, 0.69, 0.68),
      'strength': (0.5, 0.5, 0.5, 0.6, 0.6),
      'kind': ('water', 'water', 'water', 'mud', 'mud'),
    },
    'tiny_imagenet': {
      'loc': (0.62, 0.65, 0.65, 0.65, 0.65),
      'scale': (0.1, 0.1, 0.3, 0.1, 0.1),
      'blur_sigma': (0.7, 0.8, 1.0, 0.7, 0.5),
      'threshold': (0.7, 0.7, 0.69, 0.68, 0.67),
      'strength': (0.6, 0.6, 0.6, 0.6, 0.6),
      'kind': ('water', 'water', 'water', 'mud', 'mud'),
    },
    'imagenet': {
      'loc': (0.65, 0.65, 0.65, 0.65, 0.67),
      'scale': (0.3, 0.3, 0.3, 0.3, 0.4),
      'blur_sigma': (4.0, 3.0, 2.0, 1.0, 1.0),
      'threshold': (0.69, 0.68, 0.68, 0.65, 0.65),
      'strength': (0.6, 0.6, 0.5, 1.5, 1.5),
      'kind': ('water', 'water', 'water', 'mud', 'mud'),
    },
  },
  'saturate': {
    'cifar': {
      'scale': (0.3, 0.1, 1.5, 2.0, 2.5),
      'add': (0.0, 0.0, 0.0, 0.1, 0.2),
    },
    'tiny_imagenet': {
      'scale': (0.3, 0.1, 2.0, 5.0, 30.0),
      'add': (0.0, 0.0, 0.0, 0.1, 0.2),
    },
    'imagenet': {
      'scale': (0.3, 0.1, 2.0, 5.0, 20.0),
      'add': (0.0, 0.0, 0.0, 0.1, 0.2),
    },
  },
}
