"""Supervised data mollification in JAX.

The kernels are pure functions of one example, with a batch twin under `vmap`.
Importing this package loads jax and numpy only; the trainer lives in
`mollify_jax.main` and needs the extra `train`.
"""

from mollify_jax import augment
from mollify_jax.inference import Classifier, load
from mollify_jax.kernels import losses, schedules
from mollify_jax.kernels.blur import blur_image, blur_images
from mollify_jax.kernels.labels import temper_label, temper_labels
from mollify_jax.kernels.mollify import (
  MollifySpec,
  Role,
  degrade_example,
  mollify_batch,
  mollify_example,
)
from mollify_jax.kernels.noise import add_noise, noise_image, noise_images
from mollify_jax.rng import example_keys

__version__ = '0.1.0'

__all__ = [
  'Classifier',
  'MollifySpec',
  'Role',
  'add_noise',
  'augment',
  'blur_image',
  'blur_images',
  'degrade_example',
  'example_keys',
  'load',
  'losses',
  'mollify_batch',
  'mollify_example',
  'noise_image',
  'noise_images',
  'schedules',
  'temper_label',
  'temper_labels',
]
