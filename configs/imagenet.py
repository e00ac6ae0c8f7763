r"""ImageNet (1,000 classes, 224x224), pre-activation ResNet-50, streamed.

  tfds build imagenet2012 --file_format=array_record --data_dir=/data/tfds
  python -m mollify_jax.main --config=configs/imagenet.py \
    --config.data.data_dir=/data/tfds --config.data.num_workers=16 \
    --workdir=/tmp/imagenet

The first command, run once and anywhere, needs TensorFlow and the archives of
image-net.org; training does not. The paper has no ImageNet; the recipe is the
usual one of 90 epochs (Goyal et al. 2017, arXiv 1706.02677). Random resized
crops are made on the host; the flip, on the device.

Variants: plain, diffusion, blur, diffusion_blur (the default).

Not run: there was neither the data nor an accelerator. The same feed was run
on folders of JPEGs made in the tests.
"""

import ml_collections

VARIANTS = {  # which roles an example may be dealt
  'plain': ('clean',),
  'diffusion': ('clean', 'noise'),
  'blur': ('clean', 'blur'),
  'diffusion_blur': ('clean', 'noise', 'blur'),
}


def get_config(variant: str = 'diffusion_blur') -> ml_collections.ConfigDict:
  """The configuration of one variant."""
  if variant not in VARIANTS:
    raise ValueError(
      f'unknown variant {variant!r}; choose from {", ".join(VARIANTS)}'
    )
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.method = variant
  config.fitted_on = ''  # method of the run that gave the label schedule
  config.data = {
    'name': 'imagenet',
    'path': '',  # of an .npz or a folder, with name='archive' or 'folder'
    'data_dir': '',  # where tfds keeps its data sets
    'image_size': 224,  # of folders and streams; 0 takes images as they are
    'test_fraction': 0.0,  # of a folder without train and test
    'num_workers': 8,  # that decode a stream
    'train_examples': 0,  # 0 is all
    'test_examples': 0,
    'validation_fraction': 0.0,  # held out of training
    'validation_seed': 0,
    'evaluate_on': 'test',  # or 'validation'
  }
  config.feed = 'auto'
  config.data_memory_share = 0.5

  config.augment = ('flip',)
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
    'mix_per_example': False,  # one lambda per batch
  }
  config.consistency_weight = 0.0  # 12 is AugMix's; needs the step augmix
  config.mollify = {
    'roles': VARIANTS[variant],
    'beta_a': 1.0,
    'beta_b': 2.0,
    'noise_power': 1.0,
    'blur_power': 1.0,
    'noise_gamma_knots': (),  # at t = 0, ..., 1; () is the formula
    'blur_gamma_knots': (),
    'blur_width_min': 0.3,
    'blur_width_max': 224.0,
    'label_rule': 'smooth',
    'assignment': 'stratified',
  }

  config.model = 'preact_resnet50_large_stem'
  config.dtype = 'auto'
  config.loss = 'cross_entropy'
  config.label_smoothing = 0.0
  config.batch_size = 256
  config.draws_per_image = 1  # in a batch, each augmented anew
  config.epochs = 90
  config.optimizer = {
    'name': 'sgd',  # or 'adamw', for transformers
    'learning_rate': 0.1,
    'momentum': 0.9,
    'nesterov': False,
    'beta1': 0.9,  # these three of adamw
    'beta2': 0.999,
    'epsilon': 1e-8,
    'weight_decay': 1e-4,
    'weight_decay_form': 'coupled',
    'schedule': 'cosine_per_step',
    'warmup_epochs': 5.0,
    'gradient_clip': 0.0,
    'ema_decay': 0.0,
  }

  config.steps_per_call = 4  # 154 MB of pixels
  config.checkpoint_every_steps = 5000
  config.keep_checkpoints = 2
  config.eval = {
    'batch_size': 256,
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
