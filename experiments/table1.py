r"""Table 1 of the paper: four methods, clean and under fifteen corruptions.

  python -m experiments.table1 --dataset=cifar10 --workdir=DIR --seeds=3
  python -m experiments.table1 --dataset=cifar10 --workdir=DIR --budget=cpu \
    --config.data.name=archive --config.data.path=cifar10.npz
  python -m experiments.table1 --config=configs/digits.py --workdir=DIR

trains and evaluates what is not finished yet and writes table1.md, .tex, .csv,
.html, results.json and two pictures into the workdir (or --out). Beside the
paper's four methods there is one that fits the label schedule on images held
out of training, and a row per method with a temperature fitted on them
(`config.data.validation_fraction`; the cpu budget holds a tenth out).
See `experiments.tables` for what all tables of this kind share.
"""

import sys

from experiments import tables

METHODS = {
  'diffusion': '+ Diffusion',
  'blur': '+ Blur',
  'diffusion_blur': '+ Diffusion + Blur',
}


def make_rows(recipe: tables.Recipe) -> list[tables.Row]:
  """A row per method."""
  plain = recipe.plain()
  trivial = 'trivial_augment_wide' in plain['augment']
  base = 'FCR + TrivialAugment' if trivial else 'Plain'
  rows = [recipe.row('plain', base, variant='plain')]
  for method, title in METHODS.items():
    rows.append(recipe.row(method, title, variant=method))
  if plain['data'].get('validation_fraction', 0):
    rows.append(
      recipe.row(
        'diffusion_blur_fitted',
        '+ Diffusion + Blur, fitted labels',
        variant='diffusion_blur',
        fitted_on='diffusion_blur',
      )
    )
  return rows


if __name__ == '__main__':
  sys.exit(tables.main('table1', __doc__, make_rows, sys.argv[1:]))
