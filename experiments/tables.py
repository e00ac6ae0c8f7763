r"""What the commands of tables share: their flags, budgets and files.

  --dataset=cifar10|cifar100|tiny_imagenet|digits, or --config=FILE.py
  --workdir=DIR    a directory per run in it; the same command goes on
  --seeds=3        0, 1, 2
  --budget=        paper: the config as it is
                   cpu: a small network, some hours on two cores
                   fast: minutes, to see that everything works
  --shard=i/n      this machine's part of n; without it, several machines that
                   share DIR may run the same command and share the work
  --out=DIR        where the tables go, DIR of --workdir by default
  --tables_only    nothing is run
  --config.FIELD=VALUE goes to every run

The tables have every run that is finished, and say so of the others; they are
written anew after each. An exit status of 75 asks for the same command again.
"""

import argparse
import os
import re
import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.sweep import Job, Sweep
from mollify_jax import errors
from mollify_jax.evaluation import (
  corruption_plots,
  page_style,
  plots,
  report,
  reports,
  seed_tables,
)

ROOT = Path(__file__).parents[1]
DATASETS = ('cifar10', 'cifar100', 'tiny_imagenet', 'digits')
POSTER = Path(__file__).parent / 'poster.json'
METRICS = ('error', 'nll', 'ece')
STYLES = {'markdown': 'md', 'latex': 'tex', 'csv': 'csv', 'html': 'html'}

# What a budget sets, for photographs and for digits.
_SMALL = (
  'data.validation_fraction=0.1',
  'model=wrn_16_1',
  'optimizer.learning_rate=0.1',
  'optimizer.nesterov=True',
  'optimizer.schedule=cosine_per_step',
  'optimizer.warmup_epochs=0.25',
  'mollify.assignment=stratified',
  'eval.every_epochs=0',
  'eval.batch_size=500',
)
BUDGETS: Mapping[str, tuple[str, ...]] = {
  'paper': (),
  'cpu': (
    *_SMALL,
    'epochs=6',
    'data.test_examples=5000',
    'steps_per_call=27',
    'checkpoint_every_steps=351',
  ),
  'fast': (
    *_SMALL,
    'epochs=1',
    'data.train_examples=2000',
    'data.test_examples=500',
    'steps_per_call=7',
    'eval.temperatures=(0.3,)',
    'eval.corruptions=gaussian_noise,defocus_blur,fog,jpeg_compression',
  ),
}
DIGITS_BUDGETS: Mapping[str, tuple[str, ...]] = {
  'paper': (),
  'cpu': ('data.validation_fraction=0.1',),
  'fast': (
    'data.validation_fraction=0.1',
    'epochs=4',
    'eval.temperatures=(0.3,)',
    'eval.corruptions=gaussian_noise,defocus_blur,fog,jpeg_compression',
  ),
}


_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}</title>
<style>
{style}
</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


class Row(NamedTuple):
  """One row of a table: a setting, a job per seed."""

  title: str
  jobs: tuple[Job, ...]
  group: str = ''


class Recipe(NamedTuple):
  """What the runs of one command have in common.

  Attributes:
    config: path of the config file.
    seeds: of every row.
    flags: of every run, those of the budget first.
    groups: the tables asked for; () is all.
  """

  config: str
  seeds: tuple[int, ...]
  flags: tuple[str, ...]
  groups: tuple[str, ...] = ()

  @property
  def has_augmentations(self) -> bool:
    """Whether its variants take an augmentation behind a comma."""
    return 'AUGMENTATIONS' in runpy.run_path(self.config)

  def plain(self) -> dict[str, Any]:
    """The config of plain training."""
    (job,) = self._replace(seeds=(0,)).row('x', 'x', variant='plain').jobs
    return job.config()

  def row(
    self,
    name: str,
    title: str,
    *,
    variant: str,
    fields: Mapping[str, object] | None = None,
    fitted_on: str = '',
    group: str = '',
  ) -> Row:
    """One row; see `Job` for the arguments. `fields` win over all flags."""
    flags = [f'--config.{key}={value}' for key, value in (fields or {}).items()]
    return Row(
      title,
      tuple(
        Job(
          name=name,
          title=title,
          seed=seed,
          argument=f'{self.config}:{variant}',
          flags=(*self.flags, *flags, f'--config.method={name}'),
          fitted_on=fitted_on,
        )
        for seed in self.seeds
      ),
      group,
    )


def same_config(row: Row, other: Row) -> bool:
  """Whether two rows have the same runs but for their name."""
  return all(
    {**mine.config(), 'method': ''} == {**theirs.config(), 'method': ''}
    for mine, theirs in zip(row.jobs, other.jobs, strict=True)
  )


def main(
  name: str,
  description: str,
  make_rows: Callable[[Recipe], list[Row]],
  arguments: Sequence[str],
  *,
  with_groups: bool = False,
) -> int:
  """The command of one table.

  Args:
    name: of its files.
    description: for --help.
    make_rows: its rows, given what is asked for.
    arguments: of the command line.
    with_groups: whether it has a flag --group.

  Returns:
    The exit status: 0, 1 for an error or a failed run, 75 if there is more to
    be done.
  """
  try:
    options, recipe = _parse(name, description, arguments, with_groups)
    rows = make_rows(recipe)
    jobs = {job.directory: job for row in rows for job in row.jobs}
    sweep = Sweep(
      tuple(jobs.values()),
      options.workdir,
      shard=options.shard,
      environment=_environment(options.budget),
    )
    out = options.out or options.workdir
    reference = None  # the authors' own figures, where they are of this table
    if name == 'table1' and Path(recipe.config).name == 'cifar10.py':
      reference = seed_tables.read_reference(POSTER)
    status = 0

    def write():
      print(f'[{sweep.progress()}]', flush=True)
      try:
        write_tables(name, sweep, rows, out, reference)
      except (OSError, ValueError) as error:  # the runs go on
        print('warning:', errors.describe(error), file=sys.stderr, flush=True)

    if not options.tables_only:
      status = sweep.run(on_finished=write)
    text = write_tables(name, sweep, rows, out, reference)
  except (OSError, ValueError, TypeError) as error:
    print('error:', errors.describe(error), file=sys.stderr)
    return 1
  print(f'{text}\nin {out}')
  return status


def write_tables(
  name: str,
  sweep: Sweep,
  rows: Sequence[Row],
  out: Path,
  reference: Mapping[str, Any] | None = None,
) -> str:
  """Writes NAME.md, .tex, .csv, .html, NAME_results.json and pictures.

  Returns:
    The tables of errors, as Markdown.
  """
  out.mkdir(parents=True, exist_ok=True)
  groups = list(dict.fromkeys(row.group for row in rows))
  tables = [
    (group, seed_rows(sweep, [row for row in rows if row.group == group]))
    for group in groups
  ]
  for style, ending in STYLES.items():
    texts = []
    for group, lines in tables:
      for metric in METRICS:
        named = lines
        if style == 'csv' and group:  # which has no heads between
          named = [x._replace(title=f'{group}: {x.title}') for x in lines]
        theirs = seed_tables.reference_of(reference, metric)
        text = seed_tables.render(named, metric, style, theirs)
        texts.append(_under(group, text, style))
    reports.write_whole(
      out / f'{name}.{ending}', _join(texts, style, name).encode()
    )
  jobs = {job.directory: job for row in rows for job in row.jobs}
  runs = [
    sweep.results(job)
    for job in jobs.values()
    if sweep.state(job) == 'finished'
  ]
  if runs:
    reports.write_json(out / f'{name}_results.json', runs)
    if name == 'table1':
      _draw(seed_rows(sweep, rows, scaled=False), out)
  return '\n\n'.join(
    _under(group, seed_tables.render(lines, 'error', 'markdown'), 'markdown')
    for group, lines in tables
  )


def seed_rows(
  sweep: Sweep, rows: Sequence[Row], *, scaled: bool = True
) -> list[seed_tables.Row]:
  """The finished records of each row.

  What is not finished has a row that says how far it is.

  Args:
    sweep: whose runs they are.
    rows: of the table.
    scaled: whether rows with a fitted temperature follow, where there is one.
  """
  lines = []
  for row in rows:
    records, missing = [], []
    for job in row.jobs:
      record = sweep.results(job) if sweep.state(job) == 'finished' else None
      if record is None:
        missing.append(f'seed {job.seed} {sweep.state(job)}')
      else:
        records.append(record)
    note = '; '.join(missing)
    lines.append(seed_tables.Row(row.title, records, note))
    fitted = [r for r in records if scaled and r.get('temperature_scaling')]
    if fitted:
      lines.append(
        seed_tables.Row(
          f'{row.title}, temperature scaled',
          [reports.scaled(record) for record in fitted],
          _temperatures([r['temperature_scaling'] for r in fitted]),
        )
      )
  return lines


def _temperatures(scalings):
  """'logits divided by 0.91, 1.2 (a bound)'."""
  texts = [
    f'{s["temperature"]:.3g}{" (a bound)" if s.get("at_bound") else ""}'
    for s in scalings
  ]
  return f'logits divided by {", ".join(texts)}'


def _parse(name, description, arguments, with_groups):
  """The options, and what every run of them has in common.

  Raises:
    ValueError: a flag that cannot be.
  """
  parser = errors.ArgumentParser(
    prog=f'python -m experiments.{name}',
    description=f'{description}\n{__doc__}',
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  which = parser.add_mutually_exclusive_group(required=True)
  which.add_argument('--dataset', choices=DATASETS)
  which.add_argument('--config', metavar='FILE.py')
  parser.add_argument('--workdir', type=Path, required=True)
  parser.add_argument('--seeds', type=int, default=1)
  parser.add_argument('--budget', choices=tuple(BUDGETS), default='paper')
  parser.add_argument('--shard', type=_shard, default=(1, 1), metavar='I/N')
  parser.add_argument('--out', type=Path)
  parser.add_argument('--tables_only', action='store_true')
  if with_groups:
    parser.add_argument('--group', default='', help='names with commas between')
  options, flags = parser.parse_known_args(arguments)
  if options.seeds < 1:
    raise ValueError(f'--seeds={options.seeds} must be >= 1')
  for flag in flags:
    if not flag.startswith('--config.') or '=' not in flag:
      raise ValueError(f'unknown flag {flag!r}; see --help')
  recipe = Recipe(
    # As it would be typed, for the commands that records hold.
    config=options.config
    or os.path.relpath(ROOT / 'configs' / f'{options.dataset}.py'),
    seeds=tuple(range(options.seeds)),
    flags=tuple(flags),
    groups=tuple(filter(None, getattr(options, 'group', '').split(','))),
  )
  digits = recipe.plain()['data']['name'] == 'digits'
  budget = (DIGITS_BUDGETS if digits else BUDGETS)[options.budget]
  fields = (f'--config.{field}' for field in budget)
  return options, recipe._replace(flags=(*fields, *flags))


def _shard(text):
  match = re.fullmatch(r'(\d+)/(\d+)', text)
  if not match or not 1 <= int(match[1]) <= int(match[2]):
    raise argparse.ArgumentTypeError(
      f'{text!r} is no part; wanted I/N with 1 <= I <= N, as 2/4'
    )
  return int(match[1]), int(match[2])


def _environment(budget):
  if budget == 'paper':
    return {}
  # Two virtual devices keep two cores busier than one device's threads do.
  count = '--xla_force_host_platform_device_count=2'
  return {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': count}


def _draw(rows, out):
  """Severity curves and the temperature grid, means over seeds."""
  rows = [row for row in rows if row.records]
  means = [report.mean_record(row) for row in rows]
  plots.draw_comparison(out / 'temperatures.png', means)
  if all(mean.get('corrupted') for mean in means):
    methods = [plots.Method(row.title, tuple(row.records)) for row in rows]
    corruption_plots.draw_severity_curves(out / 'severities.png', methods)


def _under(group, text, style):
  """A table under the head of its group."""
  if not group:
    return text
  head = group.replace('_', ' ')
  return {
    'markdown': f'## {head}\n\n{text}',
    'latex': f'% {head}\n{text}',
    'html': f'<h2>{head}</h2>\n{text}',
  }.get(style, text)


def _join(texts, style, name):
  if style == 'csv':  # one table, with one head
    first, *others = (text.splitlines() for text in texts)
    return '\n'.join([*first, *(line for t in others for line in t[1:])]) + '\n'
  body = '\n\n'.join(texts)
  if style == 'html':
    return _PAGE.format(name=name, style=page_style.STYLE, body=body)
  return f'{body}\n'
