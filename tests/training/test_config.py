"""Config fields become specs, or a line that names what is wrong."""

import copy
import importlib.util
import json
from pathlib import Path

import pytest

from mollify_jax.training.config import differences, run_spec

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(ROOT.glob('configs/*.py')) + sorted(
  ROOT.glob('experiments/*/config.py')
)


def load(path):
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def digits():
  config = load(ROOT / 'configs' / 'digits.py').get_config().to_dict()
  return json.loads(json.dumps(config))


@pytest.mark.parametrize(
  'path', CONFIGS, ids=lambda p: f'{p.parent.name}/{p.stem}'
)
def test_every_config_and_variant_is_a_valid_run(path):
  module = load(path)
  assert list(module.VARIANTS) == [
    'plain',
    'diffusion',
    'blur',
    'diffusion_blur',
  ]
  for variant, roles in module.VARIANTS.items():
    config = module.get_config(variant).to_dict()
    if config['data']['name'] in ('archive', 'folder'):
      config['data']['path'] = 'some/path'
    spec = run_spec(config)
    assert spec.method == variant
    assert spec.mollify.roles == roles
  for augmentation, steps in getattr(module, 'AUGMENTATIONS', {}).items():
    config = module.get_config(f'blur,{augmentation}').to_dict()
    config['data']['path'] = {'archive': 'x.npz'}.get(
      config['data']['name'], ''
    )
    spec = run_spec(config)
    assert spec.mollify.roles == module.VARIANTS['blur']
    assert spec.augment == steps
  with pytest.raises(ValueError, match="unknown variant 'fog'; choose from pl"):
    module.get_config('fog')
  if hasattr(module, 'AUGMENTATIONS'):
    with pytest.raises(ValueError, match=r'comma.*trivial_augment_wide'):
      module.get_config('blur,fog')


def test_paper_recipe():
  module = load(ROOT / 'configs' / 'cifar100.py')
  spec = run_spec(module.get_config().to_dict())
  assert (spec.model, spec.batch_size, spec.epochs) == (
    'preact_resnet50',
    128,
    300,
  )
  assert spec.augment == ('flip', 'crop', 'rotate', 'trivial_augment_wide')
  optimizer = spec.optimizer
  assert optimizer.learning_rate == 0.01
  assert optimizer.momentum == 0.9
  assert optimizer.weight_decay == 5e-4
  assert optimizer.weight_decay_form == 'coupled'
  assert optimizer.schedule == 'cosine_per_epoch'
  assert (spec.mollify.beta_a, spec.mollify.beta_b) == (1, 2)
  assert spec.mollify.assignment == 'iid'


# field path, value, exception, part of the message
BAD_FIELDS = [
  ('epoch', 3, ValueError, 'unknown config field config.epoch; choose from'),
  ('mollify.betab', 2, ValueError, 'unknown config field config.mollify.betab'),
  ('mollify.beta_b', 0.0, ValueError, 'config.mollify: beta_b must be finite'),
  (
    'mollify.beta_b',
    '2',
    TypeError,
    'config.mollify.beta_b must be of type fl',
  ),
  ('mollify.noise_power', -1.0, ValueError, 'noise_power must be finite and >'),
  (
    'mollify.noise_gamma_knots',
    [0.5, 0.1],
    ValueError,
    'config.mollify: noise_gamma_knots must never decrease, got 0.1 after 0.5',
  ),
  (
    'mollify.blur_gamma_knots',
    [0.0, 1.0],  # with the power of 2 of configs/digits.py
    ValueError,
    'got blur_power=2.0; set blur_power to 1, or blur_gamma_knots to',
  ),
  ('mollify.blur_gamma_knots', 0.5, TypeError, 'blur_gamma_knots must be a tu'),
  ('mollify.blur_width_min', 0.0, ValueError, 'blur_width_min must be finite'),
  ('mollify.blur_width_max', 0.1, ValueError, 'exceeds blur_width_max=0.1'),
  ('mollify.roles', ['fog'], ValueError, "unknown role 'fog'; choose from"),
  ('mollify.roles', 'clean', TypeError, 'config.mollify.roles must be a tuple'),
  ('mollify.label_rule', 'hard', ValueError, "unknown label rule 'hard'"),
  ('mollify', 3, TypeError, 'config.mollify must be a section with the fields'),
  ('model', 'resnet9000', ValueError, 'resnet9000'),
  ('data.name', 'mnist', ValueError, "unknown data set 'mnist'; choose from"),
  ('data.name', 'archive', ValueError, 'needs the path of an .npz'),
  ('augment', ['spin'], ValueError, "'spin'; choose from flip, crop, rotate,"),
  ('augment', ['mixup', 'flip'], ValueError, "'mixup' mixes images and labels"),
  (
    'augment_options.spin',
    1,
    ValueError,
    'config.augment_options.spin; choose',
  ),
  (
    'consistency_weight',
    12.0,
    ValueError,
    'config.consistency_weight=12.0 nee',
  ),
  ('consistency_weight', -1.0, ValueError, 'config.consistency_weight must be'),
  ('augment_options.crop_padding', -1, ValueError, 'crop_padding'),
  ('loss', 'hinge', ValueError, "unknown config.loss 'hinge'; choose from cro"),
  (
    'dtype',
    'int8',
    ValueError,
    "unknown config.dtype 'int8'; choose from auto",
  ),
  ('label_smoothing', 2.0, ValueError, r'config.label_smoothing must be in'),
  ('optimizer.warmup_epochs', 99.0, ValueError, 'exceeds config.epochs=60'),
  ('eval.temperatures', [0.1, 0.1], ValueError, 'must differ from each other'),
  (
    'data.path',
    'x.npz',
    ValueError,
    'is for the data sets archive, folder, tf',
  ),
  ('feed', 'drip', ValueError, "unknown config.feed 'drip'; choose from auto"),
  (
    'data_memory_share',
    1.5,
    ValueError,
    r'config.data_memory_share must be in',
  ),
  ('label_smoothing', 'a', TypeError, 'config.label_smoothing must be of type'),
  ('batch_size', 0, ValueError, 'config.batch_size must be >= 1, got 0'),
  ('batch_size', 64.5, TypeError, 'config.batch_size must be of type int'),
  ('epochs', True, TypeError, 'config.epochs must be of type int, got True'),
  ('seed', -1, ValueError, r'config.seed must be in \[0, 2\^31\), got -1'),
  ('optimizer.momentum', 1.5, ValueError, 'momentum must be in'),
  ('optimizer.learning_rate', float('nan'), ValueError, 'must be finite'),
  ('optimizer.name', 'adam', ValueError, "config.optimizer: unknown name 'ada"),
  ('optimizer.beta2', 0.99, ValueError, 'beta2=0.99 is of adamw and does noth'),
  ('eval.temperatures', [0.5, 1.5], ValueError, r'in \[0, 1\], got 1.5'),
  ('eval.batch_size', 0, ValueError, 'config.eval.batch_size must be >= 1'),
  ('draws_per_image', 0, ValueError, 'config.draws_per_image must be >= 1'),
  ('draws_per_image', 3, ValueError, 'does not divide by config.draws_per_im'),
  ('tensorboard', 1, TypeError, 'config.tensorboard must be of type bool'),
]


@pytest.mark.parametrize(('field', 'value', 'error', 'message'), BAD_FIELDS)
def test_bad_fields_are_named_in_one_line(field, value, error, message):
  config = digits()
  *sections, name = field.split('.')
  section = config
  for key in sections:
    section = section[key]
  section[name] = value
  with pytest.raises(error, match=message) as caught:
    run_spec(config)
  assert '\n' not in str(caught.value)


def test_an_image_is_not_mixed_with_itself():
  config = (
    load(ROOT / 'configs' / 'cifar10.py').get_config('plain,mixup').to_dict()
  )
  config['draws_per_image'] = 2
  with pytest.raises(
    ValueError, match="mix an image with itself in the step 'm"
  ):
    run_spec(config)


def test_missing_fields_are_named():
  config = digits()
  del config['model']
  with pytest.raises(
    ValueError, match=r'config field config\.model is missing'
  ):
    run_spec(config)


def test_differences_name_the_fields():
  old = digits()
  new = copy.deepcopy(old)
  assert differences(old, new) == []
  new['mollify']['beta_b'] = 4.0
  new['extra'] = 1
  assert differences(old, new) == [
    "extra: 'absent' -> 1",
    'mollify.beta_b: 2.0 -> 4.0',
  ]
