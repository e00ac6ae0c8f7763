"""Tables over seeds, in the layout of the paper's poster.

  python -m mollify_jax.evaluation.seed_tables WORKDIR [WORKDIR ...]
  python -m mollify_jax.evaluation.seed_tables --metric=error --style=latex \
    --reference=experiments/poster.json --temperature_scaling WORKDIR ...

Workdirs whose configs differ in the seed alone make one row: the mean over
seeds and the sample standard deviation (n - 1). A row that was not run stands
there and says so. With a reference, other people's figures stand below ours,
in grey or in brackets.
"""

import csv
import io
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mollify_jax import errors
from mollify_jax.corruptions.severities import CORRUPTIONS, GROUPS
from mollify_jax.evaluation import corruption_tables as tables
from mollify_jax.evaluation import reports, seeds
from mollify_jax.evaluation.table_styles import (
  EN_DASH,
  RENDERERS,
  Cell,
  Column,
  Table,
)

STYLES = ('markdown', 'latex', 'csv', 'html')
METRICS = ('error', 'nll', 'ece')
# Of a table, and of the rows of a reference, in the poster's order.
COLUMNS = ('clean', *CORRUPTIONS, 'mean_15', 'mean_16')
# The option that adds rows with temperature scaling.
SCALING = 'temperature_scaling'
_REFERENCE_FIELDS = ('source', 'dataset', 'model', 'metric', 'rows')


class Row(NamedTuple):
  """One method.

  Attributes:
    title: what the row is called.
    records: a result record (see `reports`) for each seed; none if it was not
      run, which the table then says.
    note: stands below the table.
  """

  title: str
  records: Sequence[Mapping[str, Any]]
  note: str = ''


class Run(NamedTuple):
  """What a workdir holds.

  Attributes:
    workdir: its path.
    config: as it was asked for.
    results: the result record; None if the run has not finished.
  """

  workdir: Path
  config: Mapping[str, Any]
  results: Mapping[str, Any] | None


class Figure(NamedTuple):
  """One figure over seeds: mean, sample standard deviation, how many seeds.

  NaN where it could not be had; `count` of `of` corruptions are in a mean,
  None in what is no mean.
  """

  mean: float
  std: float
  n: int
  count: int | None = None
  of: int | None = None


def render(
  rows: Sequence[Row],
  metric: str = 'error',
  style: str = 'markdown',
  reference: Mapping[str, Any] | None = None,
) -> str:
  """The table of one metric.

  Columns: the number of seeds, clean, the fifteen corruptions in their groups,
  mean 15, and mean 16 (clean included, as the poster prints). A mean over
  corruptions is taken for each seed, then over seeds. The best mean of each
  column is bold, ties as well. A corruption that some seed of a row lacks is
  left out of that row; where rows lack different ones, the means say over how
  many they are and are not ranked.

  Args:
    rows: one or more.
    metric: a name in `corruption_tables.METRICS`.
    style: 'markdown', 'latex' (needs the packages booktabs, graphicx and, with
      a reference, xcolor), 'html' (a fragment; see `table_styles.render_html`)
      or 'csv': a line per row and column in full precision, without marks,
      errors as fractions of 1.
    reference: see `read_reference`.

  Raises:
    ValueError: an unknown metric or style; no rows; two of one title; records
      that are not comparable; seeds of a row with another config, or one
      twice; a reference of another metric.
  """
  if style not in STYLES:
    raise ValueError(
      f'unknown style {style!r}; choose from {", ".join(STYLES)}'
    )
  table = make_table(rows, metric, reference)
  if style == 'csv':
    return _csv(rows, metric, reference)
  return RENDERERS[style](table)


def make_table(
  rows: Sequence[Row],
  metric: str = 'error',
  reference: Mapping[str, Any] | None = None,
) -> Table:
  """The table of one metric, without a style; see `render`.

  Raises:
    ValueError: see `render`.
  """
  if metric not in tables.METRICS:
    raise ValueError(
      f'unknown metric {metric!r}; choose from {", ".join(tables.METRICS)}'
    )
  if reference is not None and reference['metric'] != metric:
    raise ValueError(
      f'the reference is a table of {reference["metric"]!r}, asked for was '
      f'{metric!r}; leave it out, or choose its metric'
    )
  check_rows(rows)
  summaries = [summarize_row(row) for row in rows]
  whole = _with_corruptions(summaries)
  ranked = tables.share_corruptions(whole)
  figures = [row_figures(row, metric) for row in rows]
  theirs = reference['rows'] if reference else {}
  columns = [_seed_column(rows, len(theirs))]
  for name in COLUMNS:
    columns.append(
      Column(
        next((g for g, names in GROUPS.items() if name in names), ''),
        _head(name, whole if ranked else ()),
        [
          *_cells(name, metric, figures, ranked),
          *(Cell(_show_theirs(row.get(name))) for row in theirs.values()),
        ],
      )
    )
  return Table(
    title=_title(rows, metric),
    names=[
      *_names(rows),
      *(f'{_one_line(name)} (theirs)' for name in theirs),
    ],
    columns=columns,
    notes=_notes(rows, summaries, reference),
    theirs=len(theirs),
  )


def make_summary(
  rows: Sequence[Row], metrics: Sequence[str] = METRICS
) -> Table:
  """Clean, mean 15 and mean 16 of several metrics in one table.

  Args:
    rows: see `render`.
    metrics: names in `corruption_tables.METRICS`.

  Raises:
    ValueError: see `render`.
  """
  check_rows(rows)
  summaries = [summarize_row(row) for row in rows]
  whole = _with_corruptions(summaries)
  ranked = tables.share_corruptions(whole)
  figures = {name: [row_figures(row, name) for row in rows] for name in metrics}
  columns = [_seed_column(rows)]
  for name in ('clean', 'mean_15', 'mean_16') if whole else ('clean',):
    for metric in metrics:
      columns.append(
        Column(
          _head(name, whole if ranked else ()),
          tables.METRICS[metric].title,
          _cells(name, metric, figures[metric], ranked),
        )
      )
  title = f'{_where(rows)}; lower is better'
  return Table(title, _names(rows), columns, _notes(rows, summaries, None))


def row_figures(row: Row, metric: str) -> dict[str, Figure]:
  """Every column of a row: name in `COLUMNS` -> figure over its seeds."""
  summaries = summarize_row(row)
  found = {}
  for name in COLUMNS:
    if name in CORRUPTIONS:
      each = [s['corruptions'].get(name, {}) for s in summaries]
    else:
      each = [s[name] for s in summaries]
    figure = over_seeds([one.get(metric) for one in each])
    if each:
      figure = figure._replace(count=each[0].get('count'), of=each[0].get('of'))
    found[name] = figure
  return found


def over_seeds(values: Sequence[float | None]) -> Figure:
  """Mean and deviation of one figure of each seed."""
  mean, std = _mean_and_std([_number(value) for value in values])
  return Figure(mean, std, len(values) if math.isfinite(mean) else 0)


def ranked_cells(metric: str, figures: Sequence[Figure]) -> list[Cell]:
  """The cells of a column; the best are marked where there are two to rank."""
  known = [figure.mean for figure in figures if figure.n]
  bests = tables.best_of(metric, known) if len(known) > 1 else ()
  cells = []
  for figure in figures:
    text = tables.show(metric, figure.mean)
    # A deviation has no sign.
    spread = tables.show(metric, figure.std).lstrip('+')
    cells.append(Cell(text, text in bests, '' if spread == '-' else spread))
  return cells


def summarize_row(row: Row) -> list[dict[str, Any]]:
  """`corruption_tables.summarize` of each seed, all over the same corruptions.

  What one seed lacks is left out of all, for the mean over seeds would be one
  of different images. A record without corrupted test sets has its clean
  figures and nothing else.
  """
  reasons = {}  # corruption -> why, of the seeds that lack it
  evaluated = [record for record in row.records if _is_corrupted(record)]
  for record in evaluated:
    for name, why in tables.summarize(record)['left_out'].items():
      reasons.setdefault(name, []).append((seed(record), why))
  lacking = {}
  for name, whys in reasons.items():
    number, lacking[name] = whys[0]
    if len(whys) < len(evaluated) or len({why for _, why in whys}) > 1:
      lacking[name] = f'seed {number}: {lacking[name]}'
  summaries = []
  for record in row.records:
    if not _is_corrupted(record):
      summaries.append(_clean_alone(record))
      continue
    corrupted = record['corrupted']
    shared = {
      **corrupted,
      'cells': [
        cell for cell in corrupted['cells'] if cell['corruption'] not in lacking
      ],
      'skipped': lacking,
    }
    summaries.append(tables.summarize({**record, 'corrupted': shared}))
  return summaries


def check_rows(rows: Sequence[Row]) -> None:
  """Refuses rows whose figures must not stand in one table.

  Raises:
    ValueError: see `render`.
  """
  if not rows:
    raise ValueError('no rows for a table; name at least one workdir')
  titles = [_one_line(row.title) for row in rows]
  for title in titles:
    if titles.count(title) > 1:
      raise ValueError(f'two rows are called {title!r}; give them other titles')
  records = [record for row in rows for record in row.records]
  corrupted = [record for record in records if _is_corrupted(record)]
  if corrupted:
    tables.comparable(corrupted)
  for record in records:
    for name, title in (
      ('dataset', 'data sets'),
      ('data_fingerprint', 'clean images'),
    ):
      pair = records[0].get(name), record.get(name)
      if pair[0] != pair[1]:
        raise ValueError(
          f'{records[0]["method"]!r} and {record["method"]!r} cannot be '
          f'compared, their {title} are {pair[0]!r} and {pair[1]!r}; name runs '
          'on one test set'
        )
  for title, row in zip(titles, rows, strict=True):
    _check_seeds(title, row.records)


def read_reference(path: str | os.PathLike) -> dict[str, Any]:
  """Reads other people's figures from a JSON file.

  Its fields:
    source: where the figures come from, for the note below the table.
    dataset: the test set that they are on, such as 'cifar10-C'.
    model: the network, and how long it was trained.
    metric: a name in `corruption_tables.METRICS`.
    rows: method -> column -> figure; the columns are those of `COLUMNS`. A
      figure is printed as it stands there (errors are in %); one known as a
      range only is [low, high]; what is not known is left out, or null.

  Raises:
    FileNotFoundError, ValueError: missing, damaged, or no such table.
  """
  try:
    reference = json.loads(Path(path).read_text())
  except FileNotFoundError:
    raise FileNotFoundError(
      f'{path} is missing; wanted a table such as experiments/poster.json'
    ) from None
  except (ValueError, RecursionError) as error:
    raise ValueError(
      f'{path} is damaged ({errors.one_line(error)}); wanted a table such as '
      'experiments/poster.json; mend it'
    ) from error
  wrong = _wrong_reference(reference)
  if wrong:
    raise ValueError(
      f'{path} is no table of figures ({wrong}); mend it; the format stands in '
      'seed_tables.read_reference'
    )
  return reference


def reference_of(
  reference: Mapping[str, Any] | None, metric: str
) -> Mapping[str, Any] | None:
  """The reference where it is of this metric, else None."""
  return reference if reference and reference['metric'] == metric else None


def open_runs(workdirs: Sequence[str | os.PathLike]) -> list[Run]:
  """Reads workdirs; one whose run has not finished has no record.

  Raises:
    ValueError: a directory that holds no run, or a damaged record.
    OSError: what cannot be read.
  """
  runs = []
  for workdir in map(Path, workdirs):
    if (workdir / 'results.json').exists():
      results = reports.read_results(workdir / 'results.json')
      config = results.get('config')
      if not isinstance(config, Mapping):
        raise ValueError(
          f'{workdir / "results.json"} has the config {config!r}, wanted an '
          'object; delete it and run the same command again'
        )
      runs.append(Run(workdir, config, results))
    elif (workdir / 'config.json').exists():
      runs.append(
        Run(workdir, reports.read_json(workdir / 'config.json'), None)
      )
    else:
      raise FileNotFoundError(
        f'{workdir / "results.json"} is missing, and config.json as well; '
        'wanted the workdir of a run; check the path'
      )
  return runs


def group_runs(runs: Sequence[Run]) -> list[Row]:
  """A row for all runs of one method whose configs differ in the seed alone.

  Rows are in the order of appearance and called by their method; where several
  would be called the same, by what else is different as well.
  """
  rows = []
  for title, members in grouped(runs):
    waiting = [run for run in members if run.results is None]
    note = ''
    if waiting:
      numbers = ', '.join(str(run.config.get('seed', '?')) for run in waiting)
      note = f'seed {numbers} has not finished'
    rows.append(
      Row(title, [run.results for run in members if run.results], note)
    )
  return rows


def grouped(runs: Sequence[Run]) -> list[tuple[str, list[Run]]]:
  """The runs of each method under its title; see `seeds.group`."""
  about = [
    # Runs on other images are refused later, and not told apart.
    {'method': (run.results or run.config).get('method', '?')}
    for run in runs
  ]
  groups = seeds.group(about, [run.config for run in runs])
  return [(title, [runs[i] for i in indices]) for title, indices in groups]


def seed(record: Mapping[str, Any]) -> Any:
  """The seed of a record; '?' if it has no config."""
  return (record.get('config') or {}).get('seed', '?')


def with_scaled(runs: Sequence[Run]) -> list[Run]:
  """The runs, each that has temperature scaling followed by itself with it.

  Raises:
    ValueError: none has.
  """
  finished = [run.results for run in runs if run.results]
  if finished:
    reports.with_scaled(finished)  # which says what is missing
  found = []
  for run in runs:
    found.append(run)
    if run.results and run.results.get('temperature_scaling'):
      found.append(run._replace(results=reports.scaled(run.results)))
  return found


def _is_corrupted(record):
  return bool((record.get('corrupted') or {}).get('cells'))


def _clean_alone(record):
  """The summary of a record without corrupted test sets."""
  clean = tables.clean_condition(record)
  return {
    'clean': {name: clean.get(name) for name in tables.METRICS},
    'corruptions': {},
    'left_out': {},
    'mean_15': {'count': 0, 'of': len(CORRUPTIONS)},
    'mean_16': {'count': 0, 'of': len(CORRUPTIONS) + 1},
  }


def _number(value):
  return math.nan if value is None else value


def _mean_and_std(values):
  """NaN for the deviation of fewer than two; both NaN if any figure is."""
  if not values or not all(map(math.isfinite, values)):
    return math.nan, math.nan
  mean = math.fsum(values) / len(values)
  if len(values) == 1:
    return mean, math.nan
  squares = math.fsum((value - mean) ** 2 for value in values)
  return mean, math.sqrt(squares / (len(values) - 1))


def _check_seeds(title, records):
  """Refuses records that are no seeds of one config."""
  if len(records) < 2:
    return
  if not all(isinstance(r.get('config'), Mapping) for r in records):
    raise ValueError(
      f'row {title!r} has a record without a config, so it is not known '
      'whether its runs are seeds of one; give it a row of its own'
    )
  first = seeds.telling_fields(records[0]['config'])
  for record in records[1:]:
    other = seeds.telling_fields(record['config'])
    wrong = [
      f'{name}: {first.get(name, "absent")!r} and {other.get(name, "absent")!r}'
      for name in sorted(first.keys() | other.keys())
      if first.get(name, 'absent') != other.get(name, 'absent')
    ]
    if record['method'] != records[0]['method']:
      wrong.append(f'method: {records[0]["method"]!r} and {record["method"]!r}')
    if wrong:
      raise ValueError(
        f'row {title!r} has runs that differ in more than the seed '
        f'({"; ".join(wrong)}); give them rows of their own'
      )
  numbers = [seed(record) for record in records]
  for number in numbers:
    if numbers.count(number) > 1:
      raise ValueError(
        f'row {title!r} has seed {number!r} twice, which is no second sample; '
        'leave one out'
      )


def _wrong_reference(reference):
  """What is wrong with other people's figures, or ''."""
  if not isinstance(reference, Mapping):
    return f'wanted an object, got {type(reference).__name__}'
  missing = [name for name in _REFERENCE_FIELDS if name not in reference]
  if missing:
    return f'lacks {", ".join(missing)}'
  for name in _REFERENCE_FIELDS[:-1]:
    if not isinstance(reference[name], str):
      return f'{name} is {reference[name]!r}, wanted text'
  if reference['metric'] not in tables.METRICS:
    return (
      f'metric is {reference["metric"]!r}, wanted one of '
      f'{", ".join(tables.METRICS)}'
    )
  if not isinstance(reference['rows'], Mapping) or not reference['rows']:
    return f'rows is {reference["rows"]!r}, wanted an object of methods'
  for method, row in reference['rows'].items():
    if not isinstance(row, Mapping):
      return f'{method!r} is {row!r}, wanted an object of columns'
    for name, value in row.items():
      if name not in COLUMNS:
        return f'{method!r} has a column {name!r}, wanted {", ".join(COLUMNS)}'
      if value is not None and not _is_figure(value):
        return (
          f'{name} of {method!r} is {value!r}, wanted a number, [low, high] or '
          'null'
        )
  return ''


def _is_figure(value):
  pair = value if isinstance(value, list) else [value, value]
  return (
    len(pair) == 2
    and all(
      isinstance(each, (int, float))
      and not isinstance(each, bool)
      and math.isfinite(each)
      for each in pair
    )
    and pair[0] <= pair[1]
  )


def _show_theirs(value):
  if value is None:
    return '-'
  if isinstance(value, list):
    return EN_DASH.join(f'{each:.10g}' for each in value)
  return f'{value:.10g}'


def _head(name, summaries):
  if name in CORRUPTIONS:
    return tables.SHORT_NAMES[name]
  if name == 'clean':
    return name
  title = name.replace('_', ' ')
  return tables.mean_title(title, summaries[0][name]) if summaries else title


def _cells(name, metric, rows, ranked):
  """The cells of one column; in means that are not ranked, what they are of."""
  figures = [row[name] for row in rows]
  if ranked or not name.startswith('mean'):
    return ranked_cells(metric, figures)
  return [
    cell._replace(
      best=False, remark=f'{figure.count} of {figure.of}' if figure.n else ''
    )
    for cell, figure in zip(ranked_cells(metric, figures), figures, strict=True)
  ]


def _with_corruptions(summaries):
  """The first seed's summary of each row that was run on corruptions."""
  return [each[0] for each in summaries if each and each[0]['corruptions']]


def _seed_column(rows, theirs=0):
  counts = [Cell(str(len(row.records))) for row in rows]
  return Column('', 'seeds', [*counts, *([Cell('-')] * theirs)])


def _names(rows):
  return [
    _one_line(row.title) + ('' if row.records else ' (not run)') for row in rows
  ]


def _title(rows, metric):
  direction = 'nearest to 0' if metric == 'gap' else 'lower'
  return (
    f'{tables.METRICS[metric].title}, {direction} is better; {_where(rows)}'
  )


def _where(rows):
  """The data of a table: 'cifar10; cifar10-C (official files)'."""
  records = [record for row in rows for record in row.records]
  if not records:
    return 'nothing was run yet'
  corrupted = [record for record in records if _is_corrupted(record)]
  where = tables.describe(*corrupted) if corrupted else 'clean test set only'
  return f'{records[0]["dataset"]}; {where}'


def _notes(rows, summaries, reference):
  measured = [
    (_one_line(row.title), each[0])
    for row, each in zip(rows, summaries, strict=True)
    if row.records and _is_corrupted(row.records[0])
  ]
  notes = []
  if any(len(row.records) > 1 for row in rows):
    notes.append(
      'mean over seeds ± sample standard deviation (n - 1); one seed has none'
    )
  if measured:
    notes += tables.compare_notes(*zip(*measured, strict=True))
  for row in rows:
    note = _one_line(row.note)
    if not row.records:
      note = f'not run ({note})' if note else 'not run'
    elif not _is_corrupted(row.records[0]):
      note = '; '.join(filter(None, ('no corrupted test sets', note)))
    if note:
      notes.append(f'{_one_line(row.title)}: {note}')
  records = [r for row in rows for r in row.records if _is_corrupted(r)]
  if records:
    notes += tables.like_note(records[0])
  if reference:
    notes.append(
      f'theirs: {_one_line(reference["dataset"])}, '
      f'{_one_line(reference["model"])}; {_one_line(reference["source"])}'
    )
    other = {r['corrupted']['title'] for r in records} - {reference['dataset']}
    if other:
      notes.append(
        f'ours is {", ".join(sorted(other))}: another test set than theirs'
      )
  return notes


def _one_line(text):
  return ' '.join(str(text).split())


def _csv(rows, metric, reference):
  """A line per row and column.

  `low` and `high` are the ends of a range of theirs; `count` is of the test
  sets that a mean is over.
  """
  text = io.StringIO()
  table = csv.writer(text, lineterminator='\n')
  table.writerow(
    [
      *('source', 'title', 'dataset', 'test_set', 'model', 'seeds', 'metric'),
      *('column', 'mean', 'std', 'n', 'low', 'high', 'count', 'note'),
    ]
  )
  for row in rows:
    first = row.records[0] if row.records else {}
    about = [
      'ours',
      _one_line(row.title),
      first.get('dataset', ''),
      first['corrupted']['title'] if first and _is_corrupted(first) else '',
      first.get('model', ''),
      ' '.join(str(seed(record)) for record in row.records),
      metric,
    ]
    note = _one_line(row.note) or ('' if row.records else 'not run')
    for name, figure in row_figures(row, metric).items():
      table.writerow(
        [
          *about,
          name,
          *(v if math.isfinite(v) else '' for v in figure[:2]),
          figure.n,
          *('', ''),
          figure.count if figure.of else '',
          note,
        ]
      )
  if reference:
    # As fractions, as ours are.
    unit = 100 if metric == 'error' else 1
    for title, row in reference['rows'].items():
      for name in COLUMNS:
        value = row.get(name)
        low_high, mean = ['', ''], ''
        if isinstance(value, list):
          low_high = [each / unit for each in value]
        elif value is not None:
          mean = value / unit
        table.writerow(
          [
            *('theirs', _one_line(title), '', reference['dataset']),
            *(reference['model'], '', metric, name, mean, '', ''),
            *(*low_high, '', _one_line(reference['source'])),
          ]
        )
  return text.getvalue().rstrip('\n')


_USAGE = (
  'usage: python -m mollify_jax.evaluation.seed_tables '
  f'[--metric={"|".join(tables.METRICS)}] [--style={"|".join(STYLES)}] '
  '[--reference=FILE.json] [--temperature_scaling] WORKDIR ...'
)


def parse(
  arguments: Sequence[str], options: Mapping[str, str], usage: str
) -> tuple[dict[str, str], list[str]]:
  """Options `--name=value`, `SCALING`, and the rest of a command line.

  Args:
    arguments: of the command.
    options: the options there are, with their defaults.
    usage: for the message.

  Raises:
    ValueError: an unknown option, or no workdir.
  """
  found, rest = {**options, SCALING: ''}, []
  for argument in arguments:
    name, _, value = argument.removeprefix('--').partition('=')
    if not argument.startswith('-'):
      rest.append(argument)
    elif argument == f'--{SCALING}':
      found[name] = 'yes'
    elif argument.startswith('--') and name in options and value:
      found[name] = value
    else:
      raise ValueError(f'unknown option {argument!r}; {usage}')
  if not rest:
    raise ValueError(f'no workdir; {usage}')
  return found, rest


def main(arguments: Sequence[str]) -> int:
  """Prints the tables of the named workdirs; returns the exit status."""
  try:
    options, workdirs = parse(
      arguments, {'metric': '', 'style': 'markdown', 'reference': ''}, _USAGE
    )
    reference = None
    if options['reference']:
      reference = read_reference(options['reference'])
    runs = open_runs(workdirs)
    rows = group_runs(with_scaled(runs) if options[SCALING] else runs)
    if options['metric']:
      texts = [render(rows, options['metric'], options['style'], reference)]
    else:
      texts = [
        render(rows, metric, options['style'], reference_of(reference, metric))
        for metric in METRICS
      ]
  except (OSError, ValueError) as error:
    print('error:', errors.describe(error), file=sys.stderr)
    return 1
  if options['style'] == 'csv':  # one table, one head
    texts[1:] = [text.partition('\n')[2] for text in texts[1:]]
    print('\n'.join(texts))
  else:
    print('\n\n'.join(texts))
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
