r"""CIFAR-10 at the size of two CPU cores: WRN-16-1 on a JPEG archive.

  python -m experiments.table1 --workdir=/tmp/cpu_cifar10 \
    --config=experiments/cpu_cifar10/config.py \
    --config.data.path=cifar10_jpeg.npz

runs the four variants; one of them is

  python -m mollify_jax.main --config=experiments/cpu_cifar10/config.py:blur \
    --config.data.path=cifar10_jpeg.npz --workdir=/tmp/cpu_cifar10/blur

Any variant with `,trivial_augment_wide` behind it augments by that as well:

  python -m mollify_jax.main \
    --config=experiments/cpu_cifar10/config.py:plain,trivial_augment_wide ...

The measured table stands in README.md beside this file.
"""

import ml_collections

VARIANTS = {  # which roles an example may be dealt
  'plain': ('clean',),
  'diffusion': ('clean', 'noise'),
  'blur': ('clean', 'blur'),
  'diffusion_blur': ('clean', 'noise', 'blur'),
}
AUGMENTATIONS = {
  'fcr': ('flip', 'crop', 'rotate'),
  'trivial_augment_wide': ('flip', 'crop', 'rotate', 'trivial_augment_wide'),
}


def get_config(variant: str = 'diffusion_blur') -> ml_collections.ConfigDict:
  """The configuration of one variant, or of VARIANT,AUGMENTATION."""
  method, _, augmentation = variant.partition(',')
  augmentation = augmentation or 'fcr'
  if method not in VARIANTS or augmentation not in AUGMENTATIONS:
    raise ValueError(
      f'unknown variant {variant!r}; choose from {", ".join(VARIANTS)}, with '
      f'a comma and one of {", ".join(AUGMENTATIONS)} behind it if you like'
    )
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.method = variant
  config.data = {
    'name': 'archive',
    'path': '',
    'data_dir': '',
    'train_examples': 0,
    'test_examples': 0,
  }

  config.augment = AUGMENTATIONS[augmentation]
  config.augment_options = {'crop_padding': 4, 'rotate_degrees': 15.0}
  config.mollify = {
    'roles': VARIANTS[method],
    'beta_a': 1.0,
    'beta_b': 2.0,
    'noise_power': 1.0,
    'blur_power': 1.0,
    'noise_gamma_knots': (),  # at t = 0, ..., 1; () is the formula
    'blur_gamma_knots': (),
    'blur_width_min': 0.3,
    'blur_width_max': 32.0,
    'label_rule': 'smooth',
    'assignment': 'stratified',
  }

  config.model = 'wrn_16_1'
  config.dtype = 'float32'
  config.loss = 'cross_entropy'
  config.label_smoothing = 0.0
  config.batch_size = 128
  config.epochs = 4
  config.optimizer = {
    'learning_rate': 0.1,
    'momentum': 0.9,
    'nesterov': True,
    'weight_decay': 5e-4,
    'weight_decay_form': 'coupled',
    'schedule': 'cosine_per_step',
    'warmup_epochs': 0.25,
    'gradient_clip': 0.0,
    'ema_decay': 0.0,
  }

  config.steps_per_call = 20
  config.checkpoint_every_steps = 200
  config.keep_checkpoints = 2
  config.eval = {
    'batch_size': 500,
    'temperatures': (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9),
    'every_epochs': 0,
    'seed': 0,
    'corruptions': 'benchmark',  # the fifteen; or extra, all, none, names
    'corrupted_path': '',  # of official files or tfds'; '' generates them
    'corruption_parameters': 'auto',  # by size; of generated ones
    'save_logits': False,
  }
  config.tensorboard = False
  config.deterministic = False  # the same bits on GPUs too, at some cost
  return config
