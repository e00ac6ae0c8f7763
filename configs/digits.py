r"""Handwritten digits (8x8, embedded in scikit-learn) on a laptop CPU.

  python -m mollify_jax.main --config=configs/digits.py --workdir=/tmp/digits
  python -m mollify_jax.main --config=configs/digits.py:plain --workdir=...

Variants: plain, diffusion, blur, diffusion_blur (the default).

Measured (jax 0.10.2, two cores of a Xeon, 10 to 15 s of training each; error %
/ pooled ECE, means over t = 0.1, ..., 0.5 for noise and blur):

  plain            clean 0.8 / 0.011   noise 25.3 / 0.147   blur 58.0 / 0.449
  diffusion_blur   clean 0.3 / 0.023   noise  8.3 / 0.138   blur  7.7 / 0.149

The label powers are 2, not the paper's 1: digits stay recognisable for longer
than photographs, and with 1 the network is under-confident.
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
    'name': 'digits',
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

  config.augment = ('crop', 'rotate')  # a flipped digit is no digit
  config.augment_options = {'crop_padding': 1, 'rotate_degrees': 10.0}
  config.mollify = {
    'roles': VARIANTS[variant],
    'beta_a': 1.0,
    'beta_b': 2.0,
    'noise_power': 2.0,
    'blur_power': 2.0,
    'noise_gamma_knots': (),  # at t = 0, ..., 1; () is the formula
    'blur_gamma_knots': (),
    'blur_width_min': 0.3,
    'blur_width_max': 8.0,
    'label_rule': 'smooth',
    'assignment': 'stratified',
  }

  config.model = 'small_cnn'
  config.dtype = 'auto'
  config.loss = 'cross_entropy'
  config.label_smoothing = 0.0
  config.batch_size = 64
  config.draws_per_image = 1  # in a batch, each augmented anew
  config.epochs = 60
  config.optimizer = {
    'name': 'sgd',  # or 'adamw', for transformers
    'learning_rate': 0.05,
    'momentum': 0.9,
    'nesterov': False,
    'beta1': 0.9,  # these three of adamw
    'beta2': 0.999,
    'epsilon': 1e-8,
    'weight_decay': 5e-4,
    'weight_decay_form': 'coupled',
    'schedule': 'cosine_per_step',
    'warmup_epochs': 0.0,
    'gradient_clip': 0.0,
    'ema_decay': 0.0,
  }

  config.steps_per_call = 110
  config.checkpoint_every_steps = 440
  config.keep_checkpoints = 2
  config.eval = {
    'batch_size': 360,
    'temperatures': (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9),
    'every_epochs': 20,
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
