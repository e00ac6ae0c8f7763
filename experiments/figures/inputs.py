"""What a figure is drawn from: images of a data set, records of runs."""

import argparse
import dataclasses
import functools
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mollify_jax import errors
from mollify_jax.augment import AugmentOptions
from mollify_jax.data import catalog
from mollify_jax.data.dataset import Dataset
from mollify_jax.evaluation import passes, plots, reports, seeds
from mollify_jax.kernels.mollify import MollifySpec
from mollify_jax.training.config import check_file

# What is drawn where nothing else is named.
DIGITS = Path(__file__).parents[2] / 'configs' / 'digits.py'
DATA_OPTIONS = ('data', 'path', 'data_dir', 'image_size')


class NotGivenError(ValueError):
  """A figure's input is missing; `all` leaves that figure out."""


class Inputs:
  """The arguments of the command, and what they name, read when asked for."""

  def __init__(self, arguments: argparse.Namespace):
    self.arguments = arguments
    self._is_of_run = False  # the data set

  @functools.cached_property
  def runs(self) -> list[dict[str, Any]]:
    """The records of all workdirs, in their order.

    Raises:
      NotGivenError: no workdir was named.
      ValueError, OSError: one cannot be read.
    """
    workdirs = self.arguments.workdirs
    if not workdirs:
      raise NotGivenError(
        'it shows finished runs, and none was named; name their workdirs, or '
        'files of their records'
      )
    return [run for path in workdirs for run in reports.read_runs(path)]

  @functools.cached_property
  def methods(self) -> list[plots.Method]:
    """The runs, those that differ only in their seed together."""
    return seeds.group_runs(self.runs)

  @functools.cached_property
  def dataset(self) -> Dataset:
    """The data set whose images are shown.

    Raises:
      NotGivenError: it is a run's, no option names it, and it is not here.
      ValueError, TypeError, OSError: as `catalog.load`.
    """
    try:
      return catalog.load(self._data, self.cache)
    except (ValueError, OSError) as error:
      if not self._is_of_run:
        raise
      raise NotGivenError(
        f'the images of the run cannot be read ({errors.describe(error)}); '
        'name them by --data and --path, or others'
      ) from error

  @property
  def cache(self) -> Path:
    """Where decoded images and compiled programs are kept."""
    return self.arguments.out.absolute().parent / 'mollify_cache'

  @functools.cached_property
  def mollify(self) -> MollifySpec:
    """The schedules: of the config that names the data, or the paper's."""
    return self._config[1]

  @functools.cached_property
  def augment(self) -> dict[str, Any]:
    """What the config that names the data says of augmentations, or nothing.

    Raises:
      ValueError, TypeError: an option that there is not, or out of its range.
    """
    options = dict(self._config[2])
    AugmentOptions(**options)
    return options

  @property
  def evaluation(self) -> passes.EvalSpec:
    """How images of the data set are normalised and mollified."""
    return passes.EvalSpec(
      num_classes=self.dataset.num_classes,
      mean=self.dataset.mean,
      std=self.dataset.std,
      mollify=self.mollify,
    )

  @property
  def image_index(self) -> int:
    """The test image that is shown.

    Raises:
      ValueError: there is none at that place.
    """
    index = self.arguments.image
    if not 0 <= index < self.dataset.num_test:
      raise ValueError(
        f'--image={index!r} of {self.dataset.name!r}; wanted one of its test '
        f'images, 0 to {self.dataset.num_test - 1}'
      )
    return index

  def of_run(self, run: Mapping[str, Any]) -> 'Inputs':
    """The same with data and schedules of a run where no option names them.

    Raises:
      ValueError: the record holds no config.
    """
    other = Inputs(self.arguments)
    config = run.get('config')
    if not isinstance(config, Mapping):
      raise ValueError(
        f'the record of {run["method"]!r} has no config; evaluate the run again'
      )
    data, mollify, options = _specs(config)
    given = self.arguments.config or any(
      getattr(self.arguments, name) for name in DATA_OPTIONS
    )
    other._config = (self._data if given else data, mollify, options)
    other._data = other._config[0]
    other._is_of_run = not given
    return other

  @functools.cached_property
  def _config(self) -> tuple[catalog.DataSpec, MollifySpec, dict[str, Any]]:
    arguments = self.arguments
    if arguments.data and not arguments.config:
      return catalog.DataSpec(name='digits'), MollifySpec(), {}
    file = arguments.config or str(DIGITS)
    check_file(file)
    path, *variant = file.split(':', 1)
    return _specs(runpy.run_path(path)['get_config'](*variant).to_dict())

  @functools.cached_property
  def _data(self) -> catalog.DataSpec:
    names = {'data': 'name'}
    given = {
      names.get(option, option): getattr(self.arguments, option)
      for option in DATA_OPTIONS
      if getattr(self.arguments, option)
    }
    spec = self._config[0]
    if 'name' in given:  # the path was another data set's
      given.setdefault('path', '')
    return dataclasses.replace(spec, **given)


def _specs(config):
  """Data, schedules and augmentation options of a run's or a file's config."""
  try:
    return (
      catalog.DataSpec(**config['data']),
      MollifySpec(**config['mollify']),
      config.get('augment_options', {}),
    )
  except (KeyError, TypeError) as error:
    raise ValueError(
      f'a config that lacks data and mollify, or has fields that they do not '
      f'have ({error}); take one as those in configs'
    ) from error
