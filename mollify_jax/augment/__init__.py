"""Augmentations of uint8 images, per example, on the device.

`augment_images(keys, images, AugmentSpec(steps=(...)))` applies named steps,
each image with its own key: the result for an image depends on neither its
neighbours nor the batch size. `apply` is one operation of torchvision's
policies; `mixup` and `cutmix` act on batches and their labels. Needs jax and
numpy only.
"""

from mollify_jax.augment.chains import augmix
from mollify_jax.augment.erasing import erase_image, random_erase
from mollify_jax.augment.geometry import (
  affine_image,
  crop_image,
  flip_image,
  random_crop,
  random_flip,
  random_rotate,
  rotate_image,
)
from mollify_jax.augment.mixing import cut_example, cutmix, mix_example, mixup
from mollify_jax.augment.operations import (
  OPERATIONS,
  apply,
  apply_selected,
  operation_number,
)
from mollify_jax.augment.pipeline import (
  IMAGE_STEPS,
  MIXING_STEPS,
  STEPS,
  AugmentOptions,
  AugmentSpec,
  augment_image,
  augment_images,
  augment_views,
)
from mollify_jax.augment.policies import (
  auto_augment,
  rand_augment,
  trivial_augment_wide,
)
from mollify_jax.augment.resized_crop import (
  random_resized_crop,
  resized_crop_image,
)

__all__ = [
  'IMAGE_STEPS',
  'MIXING_STEPS',
  'OPERATIONS',
  'STEPS',
  'AugmentOptions',
  'AugmentSpec',
  'affine_image',
  'apply',
  'apply_selected',
  'augment_image',
  'augment_images',
  'augment_views',
  'augmix',
  'auto_augment',
  'crop_image',
  'cut_example',
  'cutmix',
  'erase_image',
  'flip_image',
  'mix_example',
  'mixup',
  'operation_number',
  'rand_augment',
  'random_crop',
  'random_erase',
  'random_flip',
  'random_resized_crop',
  'random_rotate',
  'resized_crop_image',
  'rotate_image',
  'trivial_augment_wide',
]
