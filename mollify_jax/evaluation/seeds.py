"""Runs that differ in nothing but their seed, taken together as one method."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mollify_jax.evaluation import corruption_tables as tables

# More of them would not fit beside a row's title.
_FIELDS_IN_TITLE = 3


class Method(NamedTuple):
  """One method, trained once or with several seeds.

  Attributes:
    name: what it is called (see `group_runs`).
    runs: result records.
  """

  name: str
  runs: tuple[Mapping[str, Any], ...]

  @property
  def title(self) -> str:
    """The name, and of how many seeds if there are several."""
    count = len(self.runs)
    return f'{self.name} ({count} seeds)' if count > 1 else self.name


def group_runs(runs: Sequence[Mapping[str, Any]]) -> list[Method]:
  """Groups runs that have all but the seed in common.

  That is method, data set, network and every other field of the config.

  A record without a config is a method of its own. Methods of one name get
  the fields of the config in which they differ behind it.

  Args:
    runs: result records (see `reports`).

  Returns:
    The methods in the order in which they first appear.

  Raises:
    ValueError: a config is there twice with the same seed: two copies of a
      run are not two seeds.
  """
  groups = {}
  for index, run in enumerate(runs):
    groups.setdefault(_identity(run, index), []).append(run)
  names = [tables.row_names([*group, *runs])[0] for group in groups.values()]
  for name, group in zip(names, groups.values(), strict=True):
    found = set()
    for run in group:
      seed = (run.get('config') or {}).get('seed')
      if seed in found:
        raise ValueError(
          f'the run of {name!r} with seed {seed!r} is there twice; name each '
          'run once'
        )
      found.add(seed)
  groups = list(groups.values())
  return [
    Method(title, tuple(group))
    for title, group in zip(_titles(names, groups), groups, strict=True)
  ]


def _identity(run, index):
  """Equal for runs that differ in their seed alone."""
  config = run.get('config')
  if not isinstance(config, Mapping):
    return index
  fields = {k: v for k, v in config.items() if k != 'seed'}
  names = ('method', 'dataset', 'data_fingerprint', 'model')
  about = [*(run.get(name) for name in names), fields]
  return json.dumps(about, sort_keys=True)


def tell_apart(configs: Sequence[Mapping[str, Any]]) -> list[str]:
  """What each config has that others have not: 'beta_b=4.0, epochs=3'.

  Args:
    configs: nested or flat; the seed is passed over.

  Returns:
    A text per config, of at most a few fields and how many more there are; ''
    where all are equal.
  """
  flat = [_flatten(config) for config in configs]
  names = sorted({name for config in flat for name in config} - {'seed'})
  differing = [
    name
    for name in names
    if len({json.dumps(c.get(name, 'absent')) for c in flat}) > 1
  ]
  shown = differing
  if len(differing) > _FIELDS_IN_TITLE + 1:  # "and 1 more" is no shorter
    shown = differing[:_FIELDS_IN_TITLE]
  rest = len(differing) - len(shown)
  texts = []
  for config in flat:
    fields = ', '.join(
      f'{name.rpartition(".")[2]}={config.get(name, "absent")}'
      for name in shown
    )
    texts.append(f'{fields} and {rest} more' if rest else fields)
  return texts


def _titles(names, groups):
  """The names; those of one name with what their configs have otherwise."""
  titles = list(names)
  for name in dict.fromkeys(names):
    same = [index for index, other in enumerate(names) if other == name]
    told = tell_apart([groups[i][0].get('config') or {} for i in same])
    for index, text in zip(same, told, strict=True):
      titles[index] = f'{name}, {text}' if text else name
  return titles


def _flatten(fields, prefix=''):
  flat = {}
  for name, value in fields.items():
    if isinstance(value, Mapping):
      flat.update(_flatten(value, f'{prefix}{name}.'))
    else:
      flat[f'{prefix}{name}'] = value
  return flat
