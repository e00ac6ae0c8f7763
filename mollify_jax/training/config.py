"""From a config file's fields to frozen specs; misspelt fields stop here."""

import dataclasses
import math
import runpy
import traceback
import types
import typing
from collections.abc import Mapping
from typing import Any

from mollify_jax.augment import AugmentOptions, AugmentSpec
from mollify_jax.corruptions.severities import (
  PARAMETER_SETS,
  select_corruptions,
)
from mollify_jax.data.catalog import DataSpec
from mollify_jax.feeds import FEEDS
from mollify_jax.kernels.mollify import MollifySpec
from mollify_jax.models import create_model
from mollify_jax.training.optimizer import OptimizerSpec
from mollify_jax.training.step import LOSSES, check_consistency

DTYPES = ('auto', 'float32', 'bfloat16')


def _check_positive(spec, prefix, *names):
  for name in names:
    if getattr(spec, name) < 1:
      raise ValueError(
        f'{prefix}{name} must be >= 1, got {getattr(spec, name)!r}'
      )


@dataclasses.dataclass(frozen=True)
class EvalOptions:
  """How a run is evaluated.

  Attributes:
    batch_size: over all devices.
    temperatures: the grid, each in [0, 1], for noise and for blur.
    every_epochs: clean evaluation while training; 0 is only at the end.
    seed: of the evaluation noise and of generated corruptions, the same for
      every model.
    corruptions: of the -C evaluation after training: `benchmark` (the fifteen,
      for reporting), `extra` (the four, for choosing hyperparameters), `all`,
      `none`, or names with commas between.
    corrupted_path: a folder of .npy files in the layout of CIFAR-10-C, one of
      images in that of ImageNet-C, or the data_dir of tfds where the corrupted
      set is prepared; '' generates the images on the devices.
    corruption_parameters: of generated ones, `cifar`, `tiny_imagenet` or
      `imagenet`; `auto` takes the set made for the nearest image size.
    save_logits: also write those of every pass, to logits.npz.
  """

  batch_size: int = 500
  temperatures: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)
  every_epochs: int = 0
  seed: int = 0
  corruptions: str = 'benchmark'
  corrupted_path: str = ''
  corruption_parameters: str = 'auto'
  save_logits: bool = False

  def __post_init__(self):
    _check_positive(self, 'config.eval.', 'batch_size')
    if not 0 <= self.seed < 2**31:
      raise ValueError(
        f'config.eval.seed must be in [0, 2^31), got {self.seed!r}'
      )
    try:
      select_corruptions(self.corruptions)
    except ValueError as error:
      raise ValueError(f'config.eval.corruptions: {error}') from error
    if self.corruption_parameters not in ('auto', *PARAMETER_SETS):
      raise ValueError(
        'unknown config.eval.corruption_parameters '
        f'{self.corruption_parameters!r}; choose from auto, '
        f'{", ".join(PARAMETER_SETS)}'
      )
    if not self.temperatures:
      raise ValueError('config.eval.temperatures is empty; name at least one')
    if len(set(self.temperatures)) < len(self.temperatures):
      raise ValueError(
        'config.eval.temperatures must differ from each other, got '
        f'{self.temperatures!r}'
      )
    for t in self.temperatures:
      if not 0 <= t <= 1:
        raise ValueError(
          f'config.eval.temperatures must be in [0, 1], got {t!r}'
        )
    if self.every_epochs < 0:
      raise ValueError(
        f'config.eval.every_epochs must be >= 0, got {self.every_epochs!r}'
      )


@dataclasses.dataclass(frozen=True)
class RunSpec:
  """One run, whole: what a config file's `get_config` must give.

  Attributes:
    seed: of initial parameters, order, augmentation and mollification.
    method: the variant's name, for tables.
    fitted_on: the method of the run that the label schedule was fitted to, see
      `evaluation.label_schedule`; '' is none. Changes nothing but tables: seeds
      of one method then have schedules of their own.
    data: which data set.
    augment: names of augmentation steps, in order.
    augment_options: their parameters.
    consistency_weight: of AugMix's Jensen-Shannon loss between an image
      without AugMix and two AugMix versions of it; 0 is none. Needs the step
      `augmix`.
    mollify: what mollification does; roles=('clean',) is plain training.
    model: a name in `models.MODELS`.
    dtype: of the network's computation; `auto` is float32 on CPU and
      bfloat16 elsewhere. Parameters are always float32.
    loss: a name in `step.LOSSES`.
    label_smoothing: constant, a baseline.
    optimizer: how parameters are updated.
    batch_size: over all devices; must divide by their number.
    epochs: passes over the training data.
    draws_per_image: how often each image stands in its batch, augmented and
      mollified anew each time (repeated batching, the S draws of eq. 2). The
      steps of an epoch stay the same, so that an image is met in one epoch of
      so many.
    feed: a name in `feeds.FEEDS`; `auto` keeps a copy of the images on every
      device if they fit, else a part on each.
    data_memory_share: of a device's memory that images may take, in (0, 1].
    steps_per_call: training steps per compiled call.
    checkpoint_every_steps: rounded up to whole calls.
    keep_checkpoints: how many of the newest stay, >= 1.
    eval: how the run is evaluated.
    tensorboard: also write TensorBoard files.
    deterministic: the same bits in every run, on GPUs too, where it costs
      speed.
    profile_steps: at least as many steps after the first call are traced; 0 is
      none. See `profiling`.
  """

  seed: int
  method: str
  data: DataSpec
  augment: tuple[str, ...]
  mollify: MollifySpec
  model: str
  batch_size: int
  epochs: int
  optimizer: OptimizerSpec = OptimizerSpec()
  augment_options: AugmentOptions = AugmentOptions()
  consistency_weight: float = 0.0
  dtype: str = 'auto'
  loss: str = 'cross_entropy'
  label_smoothing: float = 0.0
  feed: str = 'auto'
  data_memory_share: float = 0.5
  steps_per_call: int = 50
  checkpoint_every_steps: int = 1000
  keep_checkpoints: int = 2
  eval: EvalOptions = EvalOptions()
  tensorboard: bool = False
  deterministic: bool = False
  profile_steps: int = 0
  draws_per_image: int = 1
  fitted_on: str = ''

  def __post_init__(self):
    _check_positive(
      self,
      'config.',
      'batch_size',
      'epochs',
      'steps_per_call',
      'checkpoint_every_steps',
      'keep_checkpoints',
      'draws_per_image',
    )
    if self.batch_size % self.draws_per_image:
      raise ValueError(
        f'config.batch_size={self.batch_size!r} does not divide by '
        f'config.draws_per_image={self.draws_per_image!r}; change one of them'
      )
    if not 0 <= self.seed < 2**31:
      raise ValueError(f'config.seed must be in [0, 2^31), got {self.seed!r}')
    if self.profile_steps < 0:
      raise ValueError(
        f'config.profile_steps must be >= 0, got {self.profile_steps!r}'
      )
    if not 0 <= self.label_smoothing <= 1:
      raise ValueError(
        'config.label_smoothing must be in [0, 1], got '
        f'{self.label_smoothing!r}'
      )
    if self.optimizer.warmup_epochs > self.epochs:
      raise ValueError(
        f'config.optimizer.warmup_epochs={self.optimizer.warmup_epochs!r} '
        f'exceeds config.epochs={self.epochs!r}; warm up for less'
      )
    if not 0 < self.data_memory_share <= 1:
      raise ValueError(
        'config.data_memory_share must be in (0, 1], got '
        f'{self.data_memory_share!r}'
      )
    for field, choices in (
      ('dtype', DTYPES),
      ('loss', tuple(LOSSES)),
      ('feed', FEEDS),
    ):
      value = getattr(self, field)
      if value not in choices:
        raise ValueError(
          f'unknown config.{field} {value!r}; choose from {", ".join(choices)}'
        )
    # Both name what they refuse, long before any data is read.
    create_model(self.model, num_classes=2)
    augment = self.augment_spec()
    if self.draws_per_image > 1 and augment.mixing_step:
      raise ValueError(
        f'config.draws_per_image={self.draws_per_image!r} would mix an image '
        f'with itself in the step {augment.mixing_step!r}; leave out one of '
        'them'
      )
    try:
      check_consistency(self.consistency_weight, augment)
    except ValueError as error:
      raise ValueError(f'config.{error}') from error

  def augment_spec(self) -> AugmentSpec:
    """The augmentation, names and parameters together."""
    return AugmentSpec(
      steps=self.augment, **dataclasses.asdict(self.augment_options)
    )


def run_spec(fields: Mapping[str, Any]) -> RunSpec:
  """Builds the spec of a run from nested config fields.

  Raises:
    ValueError: a field that does not exist (the choices are listed), that is
      missing, or whose value is out of range.
    TypeError: a value of the wrong type.
  """
  try:
    return _build(RunSpec, 'config', fields)
  except (ValueError, TypeError) as error:
    if ';' in str(error):  # it says what to do
      raise
    raise type(error)(
      f'{error}; change it in the config file or with --config.FIELD=VALUE'
    ) from error


def check_file(argument: str) -> None:
  """Refuses what is no config file; runs it, as `--config` will.

  Args:
    argument: FILE.py or FILE.py:VARIANT.

  Raises:
    ValueError: it raises, or gives no config; an unknown variant as it says.
    OSError: it cannot be read.
  """
  path, *variant = argument.split(':', 1)
  with open(path):
    pass
  try:
    config = runpy.run_path(path)['get_config'](*variant)
  except Exception as error:  # it is a program and may raise anything
    lines = [
      frame.lineno
      for frame in traceback.extract_tb(error.__traceback__)
      if frame.filename == path
    ]
    if isinstance(error, ValueError) and lines:
      raise
    where = f' in line {lines[-1]}' if lines else ''
    raise ValueError(
      f'config file {path!r} cannot be used ({type(error).__name__}{where}: '
      f'{error}); wanted a Python file with get_config, as those in configs; '
      'mend it'
    ) from error
  if not hasattr(config, 'to_dict'):
    raise ValueError(
      f'get_config of config file {path!r} returned {config!r}, wanted an '
      'ml_collections.ConfigDict; mend it'
    )


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
  """The fields in which two configs differ, as `field: old -> new` lines."""
  old, new = flatten(old), flatten(new)
  missing = 'absent'
  return [
    f'{name}: {old.get(name, missing)!r} -> {new.get(name, missing)!r}'
    for name in sorted(old.keys() | new.keys())
    if old.get(name, missing) != new.get(name, missing)
  ]


def flatten(fields: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  """The fields of nested sections by dotted name: 'mollify.beta_b'."""
  flat = {}
  for name, value in fields.items():
    if isinstance(value, Mapping):
      flat.update(flatten(value, f'{prefix}{name}.'))
    else:
      flat[f'{prefix}{name}'] = value
  return flat


def _build(cls, where, values):
  """An instance of `cls` from a mapping, checked field by field."""
  if not isinstance(values, Mapping):
    raise TypeError(
      f'{where} must be a section with the fields '
      f'{", ".join(f.name for f in dataclasses.fields(cls))}; got {values!r}'
    )
  fields = {field.name: field for field in dataclasses.fields(cls)}
  for name in values:
    if name not in fields:
      raise ValueError(
        f'unknown config field {where}.{name}; choose from {", ".join(fields)}'
      )
  hints = typing.get_type_hints(cls)
  arguments = {}
  for name, field in fields.items():
    if name in values:
      kind = hints[name]
      if dataclasses.is_dataclass(kind):
        arguments[name] = _build(kind, f'{where}.{name}', values[name])
      else:
        arguments[name] = _checked(f'{where}.{name}', values[name], kind)
    elif field.default is dataclasses.MISSING:
      raise ValueError(f'config field {where}.{name} is missing; add it')
  try:
    return cls(**arguments)
  except (ValueError, TypeError) as error:
    # Specs that others use without a config do not know where they stand.
    if where in str(error) or cls is RunSpec:
      raise
    raise type(error)(f'{where}: {error}') from error


def _checked(where, value, kind):
  """`value` as `kind`, one of the few kinds that configs are made of."""
  if typing.get_origin(kind) is tuple:
    if isinstance(value, str) or not isinstance(value, (list, tuple)):
      raise TypeError(
        f'{where} must be a tuple, got {value!r}; write (x,) for one entry'
      )
    item = typing.get_args(kind)[0]
    return tuple(_checked(where, entry, item) for entry in value)
  if isinstance(kind, types.UnionType):
    if value is None:
      return None
    kind = typing.get_args(kind)[0]
  accepted = (int, float) if kind is float else (kind,)
  if not isinstance(value, accepted) or (
    isinstance(value, bool) and kind is not bool
  ):
    raise TypeError(f'{where} must be of type {kind.__name__}, got {value!r}')
  if kind is float and not math.isfinite(value):
    raise ValueError(f'{where} must be finite, got {value!r}')
  return kind(value)
