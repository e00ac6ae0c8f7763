r"""CIFAR-100, pre-activation ResNet-50, the paper's recipe.

  python -m mollify_jax.main --config=configs/cifar100.py --workdir=/tmp/c100
  python -m mollify_jax.main --config=configs/cifar100.py:plain --workdir=...
  python -m mollify_jax.main --config=configs/cifar100.py:plain,mixup ...

Variants: plain, diffusion, blur, diffusion_blur (the default); behind a comma,
an augmentation on top of flip, crop and rotate. The default is the paper's,
TrivialAugmentWide; `fcr` is none.

Measured: nothing yet at this size (it wants an accelerator); for figures on
two CPU cores see experiments/cpu_cifar10.
"""

import ml_collections

VARIANTS = {  # which roles an example may be dealt
  'plain': ('clean',),
  'diffusion': ('clean', 'noise'),
  'blur': ('clean', 'blur'),
  'diffusion_blur': ('clean', 'noise', 'blur'),
}
FCR = ('flip', 'crop', 'rotate')
AUGMENTATIONS = {  # the steps before normalisation, in order; mixing comes last
  'trivial_augment_wide': (*FCR, 'trivial_augment_wide'),
  'fcr': FCR,
  'rand_augment': (*FCR, 'rand_augment'),
  'auto_augment': (*FCR, 'auto_augment_imagenet'),  # as the authors have it
  'auto_augment_cifar10': (*FCR, 'auto_augment_cifar10'),
  'augmix': (*FCR, 'augmix'),
  'mixup': (*FCR, 'mixup'),
  'cutmix': (*FCR, 'cutmix'),
  'random_erasing': (*FCR, 'random_erasing'),
  'none': (),
}


def get_config(variant: str = 'diffusion_blur') -> ml_collections.ConfigDict:
  """The configuration of VARIANT or VARIANT,AUGMENTATION."""
  method, _, augmentation = variant.partition(',')
  augmentation = augmentation or 'trivial_augment_wide'
  if method not in VARIANTS or augmentation not in AUGMENTATIONS:
    raise ValueError(
      f'unknown variant {variant!r}; choose from {", ".join(VARIANTS)}; behind '
      f'a comma, from {", ".join(AUGMENTATIONS)}'
    )
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.method = variant
  config.fitted_on = ''  # method of the run that gave the label schedule
  config.data = {
    'name': 'cifar100',
    'path': '',  # of an .npz or a folder, with name='archive' or 'folder'
    'data_dir': '',  # where tfds keeps its data sets
    'image_size': 0,  # of folders and streams; 0 takes images as they are
    'test_fraction': 0.0,  # of a folder without train and test
    'num_workers': 2,  # that decode a stream
    'train_examples': 0,  # 0 is all
    'test_examples': 0,
    'validation_fraction': 0.0,  # held out of training
    'validation_seed': 0,
    'evaluate_on': 'test',  # or 'validation'
  }
  config.feed = 'auto'
  config.data_memory_share = 0.5

  config.augment = AUGMENTATIONS[augmentation]
  config.augment_options = {
    'crop_padding': 4,
    'rotate_degrees': 15.0,
    'resized_crop_scale': (0.08, 1.0),
    'rand_augment_operations': 2,
    'rand_augment_magnitude': 9,  # of 0 to 30
    'augmix_severity': 3,
    'augmix_width': 3,
    'augmix_depth': -1,  # drawn, 1 to 3
    'augmix_alpha': 1.0,
    'erasing_probability': 0.5,
    'mix_alpha': 1.0,
    'mix_per_example': False,  # one lambda per batch, as the authors have it
  }
  config.consistency_weight = 0.0  # 12 is AugMix's; needs the step augmix
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
    'assignment': 'iid',  # as in the paper; 'stratified' costs less
  }

  config.model = 'preact_resnet50'
  config.dtype = 'auto'
  config.loss = 'cross_entropy'
  config.label_smoothing = 0.0
  config.batch_size = 128
  config.draws_per_image = 1  # in a batch, each augmented anew
  config.epochs = 300
  config.optimizer = {
    'name': 'sgd',  # or 'adamw', for transformers
    'learning_rate': 0.01,
    'momentum': 0.9,
    'nesterov': False,
    'beta1': 0.9,  # these three of adamw
    'beta2': 0.999,
    'epsilon': 1e-8,
    'weight_decay': 5e-4,
    'weight_decay_form': 'coupled',
    'schedule': 'cosine_per_epoch',
    'warmup_epochs': 0.0,
    'gradient_clip': 0.0,
    'ema_decay': 0.0,
  }

  config.steps_per_call = 50
  config.checkpoint_every_steps = 3900
  config.keep_checkpoints = 2
  config.eval = {
    'batch_size': 1000,
    'temperatures': (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9),
    'every_epochs': 10,
    'seed': 0,
    'corruptions': 'benchmark',  # the fifteen; or extra, all, none, names
    'corrupted_path': '',  # of official files or tfds'; '' generates them
    'corruption_parameters': 'auto',  # by size; of generated ones
    'save_logits': False,
  }
  config.tensorboard = False
  config.deterministic = False  # the same bits on GPUs too, at some cost
  config.profile_steps = 0  # to trace, into the workdir
  return config
