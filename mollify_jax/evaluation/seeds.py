"""Runs that differ in nothing but their seed, taken together as one method."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from mollify_jax.evaluation import corruption_tables as tables
from mollify_jax.evaluation.plots import Method
from mollify_jax.training.config import flatten, run_spec

# What changes no figure: where things lie, and how the work is cut up.
PASSIVE_FIELDS = (
  'data.data_dir',
  'data.num_workers',
  'feed',
  'data_memory_share',
  'steps_per_call',
  'checkpoint_every_steps',
  'keep_checkpoints',
  'tensorboard',
  'deterministic',
  'profile_steps',
)
# What a schedule that was fitted sets: in each seed to something else.
FITTED_FIELDS = (
  'mollify.noise_gamma_knots',
  'mollify.blur_gamma_knots',
  'mollify.noise_power',
  'mollify.blur_power',
)
# More of them would not fit beside a row's title.
_FIELDS_IN_TITLE = 3


def telling_fields(config: Mapping[str, Any]) -> dict[str, Any]:
  """The fields of a config that tell methods apart, flat.

  Not the seed, nor what changes no figure, nor the label schedule where
  `config.fitted_on` says that it was fitted. Fields that came later than the
  run have the value that they had before they could be set.
  """
  try:
    config = dataclasses.asdict(run_spec(config))
  except (TypeError, ValueError):  # of another version: compared as it is
    pass
  fields = json.loads(json.dumps(flatten(config)))
  for name in ('seed', *PASSIVE_FIELDS):
    fields.pop(name, None)
  if fields.get('fitted_on'):
    for name in FITTED_FIELDS:
      fields.pop(name, None)
  if fields.get('data.name') in ('archive', 'folder'):
    fields.pop('data.path', None)  # records have a fingerprint of what is there
  if 'eval.corrupted_path' in fields:
    fields['eval.corrupted_path'] = bool(fields['eval.corrupted_path'])
  return fields


def group(
  about: Sequence[Mapping[str, Any]],
  configs: Sequence[Mapping[str, Any] | None],
) -> list[tuple[str, list[int]]]:
  """Groups runs that have the same method, network, data and telling fields.

  Args:
    about: of each run, a mapping with its `method`; also `model`, `dataset` and
      `data_fingerprint`, if runs with others are to stay apart.
    configs: of each run; None is a method of its own.

  Returns:
    (title, indices of its runs) for each method, in the order in which they
    first appear. Titles are methods, with the network if there are several;
    those of one title get what their configs have otherwise behind it.
  """
  groups: dict[str, list[int]] = {}
  fields = [config and telling_fields(config) for config in configs]
  for index, (run, mine) in enumerate(zip(about, fields, strict=True)):
    names = ('method', 'model', 'dataset', 'data_fingerprint')
    key = index
    if mine is not None:
      key = [[run.get(name) for name in names], mine]
    groups.setdefault(json.dumps(key, sort_keys=True), []).append(index)
  members = list(groups.values())
  names = [str(run['method']) for run in about]
  if len({run.get('model') for run in about}) > 1:
    names = tables.row_names(about)
  titles = [names[indices[0]] for indices in members]
  for title in list(dict.fromkeys(titles)):
    same = [i for i, other in enumerate(titles) if other == title]
    told = tell_apart([fields[members[i][0]] or {} for i in same])
    for i, text in zip(same, told, strict=True):
      titles[i] = f'{title}, {text}' if text else title
  return list(zip(titles, members, strict=True))


def group_runs(runs: Sequence[Mapping[str, Any]]) -> list[Method]:
  """The methods of finished runs; see `group`.

  Args:
    runs: result records (see `reports`).

  Raises:
    ValueError: a method is there twice with the same seed: two copies of a run
      are not two seeds.
  """
  configs = [run.get('config') for run in runs]
  configs = [c if isinstance(c, Mapping) else None for c in configs]
  methods = []
  for title, indices in group(runs, configs):
    found = set()
    for index in indices:
      seed = (configs[index] or {}).get('seed')
      if seed in found:
        raise ValueError(
          f'the run of {title!r} with seed {seed!r} is there twice; name each '
          'run once'
        )
      found.add(seed)
    methods.append(Method(title, tuple(runs[index] for index in indices)))
  return methods


def tell_apart(configs: Sequence[Mapping[str, Any]]) -> list[str]:
  """What each config has that others have not: 'beta_b=4.0, epochs=3'.

  Args:
    configs: flat.

  Returns:
    A text per config, of at most a few fields and how many more there are; ''
    where all are equal.
  """
  names = sorted({name for config in configs for name in config})
  differing = [
    name
    for name in names
    if len({json.dumps(c.get(name, 'absent')) for c in configs}) > 1
  ]
  shown = differing
  if len(differing) > _FIELDS_IN_TITLE + 1:  # "and 1 more" is no shorter
    shown = differing[:_FIELDS_IN_TITLE]
  rest = len(differing) - len(shown)
  texts = []
  for config in configs:
    fields = ', '.join(
      f'{name.rpartition(".")[2]}={config.get(name, "absent")}'
      for name in shown
    )
    texts.append(f'{fields} and {rest} more' if rest else fields)
  return texts
