r"""What each choice of the method is worth: one change at a time.

  python -m experiments.ablations --dataset=cifar10 --workdir=DIR
  python -m experiments.ablations --group=amount,loss --dataset=...

Each group is a table of its own; every other choice is that of the config's
`diffusion_blur`, and a setting that is the config's own is the same run in
every group. See `experiments.tables` for what all tables of this kind share.
"""

import sys
from collections.abc import Mapping

from experiments import tables

POWERS = (0.5, 1.0, 2.0, 100.0)

# group -> title of a row -> the fields that it sets.
GROUPS: Mapping[str, Mapping[str, Mapping[str, object]]] = {
  'roles': {
    ' : '.join(roles): {'mollify.roles': roles}
    for roles in (
      ('clean', 'noise', 'blur'),
      ('clean', 'noise'),
      ('clean', 'blur'),
      ('noise', 'blur'),
      ('clean', 'clean', 'noise', 'blur'),
      ('clean', 'noise', 'blur', 'pure_noise'),
    )
  },
  'amount': {
    f't ~ Beta(1, {b:g})': {'mollify.beta_a': 1.0, 'mollify.beta_b': b}
    for b in (1.0, 2.0, 4.0, 9.0)
  },
  'label_power': {
    f'k_n = {noise:g}, k_b = {blur:g}': {
      'mollify.noise_power': noise,
      'mollify.blur_power': blur,
    }
    for noise in POWERS
    for blur in POWERS
  },
  'label_rule': {
    rule: {'mollify.label_rule': rule}
    for rule in ('smooth', 'decay', 'extra', 'extra_smooth')
  },
  'loss': {
    'cross-entropy': {'loss': 'cross_entropy'},
    'normalised': {'loss': 'normalized_cross_entropy'},
  },
  'assignment': {
    name: {'mollify.assignment': name} for name in ('iid', 'stratified')
  },
  'draws': {
    f'{draws} draw{"s" * (draws > 1)} per image': {'draws_per_image': draws}
    for draws in (1, 2, 4, 8)
  },
}


def make_rows(recipe: tables.Recipe) -> list[tables.Row]:
  """A row per group and setting; what is the config's own is one run.

  Raises:
    ValueError: an unknown group.
  """
  variant = 'diffusion_blur'
  base = recipe.row('base', 'base', variant=variant)
  rows = []
  for group in recipe.groups or GROUPS:
    if group not in GROUPS:
      raise ValueError(
        f'unknown --group={group!r}; choose from {", ".join(GROUPS)}'
      )
    for title, fields in GROUPS[group].items():
      row = recipe.row(
        _name(fields), title, variant=variant, fields=fields, group=group
      )
      if tables.same_config(row, base):
        row = row._replace(jobs=base.jobs)
      rows.append(row)
  return rows


def _name(fields):
  """Of a directory: 'noise_power=0.5,blur_power=2'."""
  return ','.join(
    f'{field.rpartition(".")[2]}={_spelt(value)}'
    for field, value in fields.items()
  )


def _spelt(value):
  if isinstance(value, tuple):
    return '-'.join(value)
  return f'{value:g}' if isinstance(value, float) else value


if __name__ == '__main__':
  sys.exit(
    tables.main('ablations', __doc__, make_rows, sys.argv[1:], with_groups=True)
  )
