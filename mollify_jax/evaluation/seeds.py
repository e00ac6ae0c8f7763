"""Runs that differ in nothing but their seed, taken together as one method."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mollify_jax.evaluation import corruption_tables as tables


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
    Method(_distinct(index, names, groups), tuple(group))
    for index, group in enumerate(groups)
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


def _distinct(index, names, groups):
  """A name, and what its method has otherwise than others of that name."""
  name = names[index]
  mine = _flatten(groups[index][0].get('config') or {})
  fields = set()
  for other, group in zip(names, groups, strict=True):
    if other == name:
      theirs = _flatten(group[0].get('config') or {})
      fields |= {
        field
        for field in mine.keys() | theirs.keys()
        if mine.get(field) != theirs.get(field)
      }
  fields -= {'seed'}
  told = ', '.join(
    f'{f.rpartition(".")[2]} {mine.get(f)}' for f in sorted(fields)
  )
  return f'{name}, {told}' if told else name


def _flatten(fields, prefix=''):
  flat = {}
  for name, value in fields.items():
    if isinstance(value, Mapping):
      flat.update(_flatten(value, f'{prefix}{name}.'))
    else:
      flat[f'{prefix}{name}'] = value
  return flat
