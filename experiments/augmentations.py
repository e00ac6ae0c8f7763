r"""All eight augmentations of the paper, with and without mollification.

  python -m experiments.augmentations --dataset=cifar10 --workdir=DIR

none; flip, crop and rotation (FCR); and on top of those RandAugment,
AutoAugment, AugMix, TrivialAugmentWide, MixUp and CutMix: sixteen runs per
seed. See `experiments.tables` for what all tables of this kind share.
"""

import sys

from experiments import tables

AUGMENTATIONS = {
  'none': 'No augmentation',
  'fcr': 'FCR',
  'rand_augment': 'FCR + RandAugment',
  'auto_augment': 'FCR + AutoAugment',
  'augmix': 'FCR + AugMix',
  'trivial_augment_wide': 'FCR + TrivialAugment',
  'mixup': 'FCR + MixUp',
  'cutmix': 'FCR + CutMix',
}


def make_rows(recipe: tables.Recipe) -> list[tables.Row]:
  """Two rows per augmentation.

  Raises:
    ValueError: the config has no augmentations to choose from.
  """
  if not recipe.has_augmentations:
    raise ValueError(
      f'{recipe.config} has no augmentations to choose from; take one of '
      'configs/cifar10.py, configs/cifar100.py and configs/tiny_imagenet.py'
    )
  rows = []
  for augmentation, title in AUGMENTATIONS.items():
    for method, suffix in (('plain', ''), ('diffusion_blur', ', mollified')):
      rows.append(
        recipe.row(
          f'{augmentation}-{method}',
          title + suffix,
          variant=f'{method},{augmentation}',
        )
      )
  return rows


if __name__ == '__main__':
  sys.exit(tables.main('augmentations', __doc__, make_rows, sys.argv[1:]))
