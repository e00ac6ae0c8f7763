"""Tables of a run on the common corruptions: text, Markdown, LaTeX, CSV.

  python -m mollify_jax.evaluation.corruption_tables WORKDIR [WORKDIR ...]
  python -m mollify_jax.evaluation.corruption_tables --metric=ece \
    --style=latex WORKDIR ...

prints one run whole, or several side by side, a row per method, the best of
each column marked. Figures on the published files ('cifar10-C') and on images
generated here ('cifar10-C-like') are never put into one table.
"""

import csv
import io
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from mollify_jax import errors
from mollify_jax.corruptions.severities import (
  CORRUPTIONS,
  EXTRA_CORRUPTIONS,
  GROUPS,
  SEVERITIES,
)
from mollify_jax.evaluation import reports
from mollify_jax.evaluation.table_styles import (
  RENDERERS,
  Cell,
  Column,
  Table,
  align,
  escape_markdown,
  join_markdown,
)


class Metric(NamedTuple):
  """How one figure is named and printed.

  Attributes:
    title: in a sentence, with its unit.
    head: of a column, in lines of at most 8 letters.
    show: the figure as text.
  """

  title: str
  head: str
  show: Callable[[float], str]


def _thousandths(value):
  return f'{value:.3f}'


METRICS = MappingProxyType(
  {
    'error': Metric('error %', 'error\n%', lambda v: f'{100 * v:.2f}'),
    'nll': Metric('NLL', 'NLL', _thousandths),
    'brier': Metric('Brier', 'Brier', _thousandths),
    'ece': Metric('ECE', 'ECE', _thousandths),
    'adaptive_ece': Metric('adaptive ECE', 'adaptive\nECE', _thousandths),
    'classwise_ece': Metric(
      'class-wise ECE', 'class-\nwise\nECE', _thousandths
    ),
    'gap': Metric('confidence - accuracy', 'gap', lambda v: f'{v:+.3f}'),
    'ece_batch100': Metric(
      "ECE, mean over batches of 100 (the authors' way; inflated)",
      'inflated\nECE*',
      _thousandths,
    ),
  }
)

STYLES = ('text', 'markdown', 'latex')
# The metrics that are compared where none is named.
_COMPARED = ('error', 'nll', 'ece')

# Of AlexNet in percent, each corruption averaged over its severities: what
# mCE on ImageNet-C is relative to (Hendrycks & Dietterich 2019; with the digits
# that github.com/hendrycks/robustness and AugMix's code give).
_ALEXNET_CLEAN = 43.5
_ALEXNET = dict(
  zip(
    CORRUPTIONS,
    (
      *(88.6428, 89.4468, 92.2640),
      *(81.9880, 82.6268, 78.5948, 79.8360),
      *(86.6816, 82.6572, 81.9324, 56.4592),
      *(85.3204, 64.6056, 71.7840, 60.6500),
    ),
    strict=True,
  )
)

# Heads of the wide tables.
SHORT_NAMES = dict(
  zip(
    CORRUPTIONS,
    (
      *('Gauss.', 'shot', 'impulse'),
      *('defocus', 'glass', 'motion', 'zoom'),
      *('snow', 'frost', 'fog', 'bright.'),
      *('contrast', 'elastic', 'pixel', 'JPEG'),
    ),
    strict=True,
  )
)


def summarize(results: Mapping[str, Any]) -> dict[str, Any]:
  """Every mean of one run on the common corruptions.

  Over severities first, then over corruptions, as published. A corruption
  that lacks a severity is left out, never averaged over four; a figure that
  is null makes the means over it NaN.

  Args:
    results: a result record (see `reports`) with a `corrupted` entry.

  Returns:
    A dict of
      clean: metric -> figure;
      corruptions: name -> the same, the mean of severities 1 to 5; whole
        ones only, in the published order, the four extra ones last;
      left_out: name -> why, of all the others;
      groups: noise, blur, weather, digital -> mean;
      mean_15, mean_16 (clean included, as the paper's poster prints),
        mean_extra (for choosing hyperparameters) -> mean;
      severities: the means at severity 0 (clean) to 5, over the same
        corruptions as mean_15;
      mce: `mce` and `relative_mce`, `normalized` by AlexNet on ImageNet-C
        alone; elsewhere the plain mean error, and that above the clean one.
    A mean has the metrics, and `count` `of` so many corruptions. NaN where
    `count` is 0.

  Raises:
    ValueError: there are no corrupted test sets or no clean condition, or a
      cell is unknown or there twice.
  """
  clean = clean_condition(results)
  found = cells(results)
  skipped = results['corrupted'].get('skipped') or {}
  whole, left_out = {}, {}
  for name in CORRUPTIONS + EXTRA_CORRUPTIONS:
    missing = [s for s in SEVERITIES if (name, s) not in found]
    if not missing:
      whole[name] = _mean([found[name, s] for s in SEVERITIES])
    elif name in skipped:
      left_out[name] = ' '.join(str(skipped[name]).split())
    elif len(missing) == len(SEVERITIES):
      left_out[name] = 'not run'
    else:
      some = ', '.join(map(str, missing))
      left_out[name] = f'severity {some} missing'
  benchmark = [name for name in CORRUPTIONS if name in whole]
  rows = [whole[name] for name in benchmark]
  return {
    'clean': _mean([clean]),
    'corruptions': whole,
    'left_out': left_out,
    'groups': {
      group: _mean_of([whole[n] for n in names if n in whole], len(names))
      for group, names in GROUPS.items()
    },
    'mean_15': _mean_of(rows, len(CORRUPTIONS)),
    # Without any corruption this would be the clean figure again.
    'mean_16': _mean_of(rows and [clean, *rows], len(CORRUPTIONS) + 1),
    'mean_extra': _mean_of(
      [whole[name] for name in EXTRA_CORRUPTIONS if name in whole],
      len(EXTRA_CORRUPTIONS),
    ),
    'severities': severity_means(results, benchmark),
    'mce': _mce(results, whole, benchmark),
  }


def severity_means(
  results: Mapping[str, Any], names: Sequence[str]
) -> list[dict[str, Any]]:
  """Means over corruptions at severity 0 (clean), 1, ..., 5.

  Args:
    results: a result record with a `corrupted` entry.
    names: the corruptions, whole in this record. Without any, all but
      severity 0 are NaN.

  Returns:
    Six dicts of metric -> figure, with their `severity`, and `count` of names.
  """
  found = cells(results)
  rows = [_mean([clean_condition(results)])]
  for severity in SEVERITIES:
    rows.append(_mean([found[name, severity] for name in names]))
  return [
    {'severity': severity, 'count': len(names), **row}
    for severity, row in enumerate(rows)
  ]


def cells(results: Mapping[str, Any]) -> dict[tuple[str, int], Any]:
  """The cells of a record by (corruption, severity), in the published order.

  Raises:
    ValueError: there are none, or one is unknown or there twice.
  """
  corrupted = results.get('corrupted')
  if not corrupted or not corrupted.get('title') or not corrupted.get('cells'):
    raise ValueError(
      f'the record of {results["method"]!r} has no corrupted test sets; '
      'evaluate the run on them first'
    )
  found = {}
  for cell in corrupted['cells']:
    key = cell.get('corruption'), cell.get('severity')
    if (
      key[0] not in CORRUPTIONS + EXTRA_CORRUPTIONS or key[1] not in SEVERITIES
    ):
      raise ValueError(
        f'the record of {results["method"]!r} has a cell {key!r}; wanted a '
        f'corruption of {", ".join(CORRUPTIONS + EXTRA_CORRUPTIONS)} and a '
        'severity of 1 to 5: evaluate again'
      )
    if key in found:
      raise ValueError(
        f'the record of {results["method"]!r} has the cell {key!r} twice; '
        'evaluate again'
      )
    found[key] = cell
  order = CORRUPTIONS + EXTRA_CORRUPTIONS
  return dict(sorted(found.items(), key=lambda i: (order.index(i[0][0]), i[0])))


def clean_condition(results: Mapping[str, Any]) -> Mapping[str, Any]:
  """The clean pass of a record.

  Raises:
    ValueError: there is none.
  """
  for condition in results['conditions']:
    if condition['corruption'] == 'clean':
      return condition
  raise ValueError(
    f'the record of {results["method"]!r} has no clean condition; '
    'evaluate the run again'
  )


def comparable(runs: Sequence[Mapping[str, Any]]) -> None:
  """Refuses runs whose figures must not stand side by side.

  Raises:
    ValueError: no runs, other data, published files beside generated images,
      images generated with other parameters, or another number of images.
  """
  if not runs:
    raise ValueError('no runs to compare; name at least one')
  facts = [_facts(run) for run in runs]
  for run, other in zip(runs, facts, strict=True):
    for name, value in other.items():
      if value != facts[0][name]:
        raise ValueError(
          f'{runs[0]["method"]!r} and {run["method"]!r} cannot be compared, '
          f'their {name} are {facts[0][name]!r} and {value!r}; name runs on '
          'one test set'
        )


def format_run(results: Mapping[str, Any], style: str = 'text') -> str:
  """One run: clean, every corruption by group, means, severities, notes.

  Args:
    results: a result record with a `corrupted` entry.
    style: 'text' or 'markdown'.

  Raises:
    ValueError: see `summarize`; or another style.
  """
  if style not in STYLES[:2]:
    raise ValueError(
      f'one run cannot be shown as {style!r}; choose from text, markdown, or '
      'compare_runs for a row of LaTeX'
    )
  summary = summarize(results)
  shown = [
    names
    for names in (CORRUPTIONS, EXTRA_CORRUPTIONS)
    if any(name in names for name, _ in cells(results))
  ]
  sections = [[['clean', *_figures(summary['clean'])]]]
  if CORRUPTIONS in shown:
    for group, names in GROUPS.items():
      sections.append(_section(group, names, summary))
  if EXTRA_CORRUPTIONS in shown:
    sections.append(
      _section(
        'extra: for choosing hyperparameters', EXTRA_CORRUPTIONS, summary
      )
    )
  means = [['means over severities 1 to 5']]
  if CORRUPTIONS in shown:
    for group, mean in summary['groups'].items():
      means.append([mean_title(f'mean {group}', mean), *_figures(mean)])
    for number in (15, 16):
      mean = summary[f'mean_{number}']
      means.append([mean_title(f'mean {number}', mean), *_figures(mean)])
  if EXTRA_CORRUPTIONS in shown:
    mean = summary['mean_extra']
    means.append([mean_title('mean extra', mean), *_figures(mean)])
  sections.append(means)
  if CORRUPTIONS in shown:
    mean = summary['mean_15']
    sections.append(
      [
        [f'means over {mean["count"]} of {mean["of"]} corruptions'],
        *(
          [f'severity {row["severity"]}', *_figures(row)]
          for row in summary['severities']
        ),
      ]
    )
  heads = ['test set', *(metric.head for metric in METRICS.values())]
  title = (
    f'{results["dataset"]}, {results["model"]}, {results["method"]}: '
    f'{describe(results)}'
  )
  notes = [*_run_notes(summary, shown), *like_note(results)]
  if style == 'markdown':
    heads = [head.replace('-\n', '-').replace('\n', ' ') for head in heads]
    rows = [
      [row[0].strip(), *row[1:]]
      if len(row) > 1
      else [f'**{row[0]}**', *([''] * len(METRICS))]
      for section in sections
      for row in section
    ]
    return join_markdown(title, map(escape_markdown, heads), rows, notes)
  return '\n\n'.join([title, align(heads, sections), '\n'.join(notes)])


def compare_runs(
  runs: Sequence[Mapping[str, Any]],
  metric: str = 'error',
  style: str = 'text',
) -> str:
  """Runs side by side: a row per method, a column per corruption, the means.

  The layout of the paper's poster: clean, the fifteen in their groups, mean
  15, mean 16 (and mCE relative to AlexNet on ImageNet-C). The best of each
  column is starred, bold in Markdown and LaTeX; where some run lacks a
  corruption that another has, the means are not ranked.

  Args:
    runs: result records with a `corrupted` entry, on one test set.
    metric: a name in `METRICS`.
    style: 'text', 'markdown' or 'latex' (needs the package booktabs).

  Raises:
    ValueError: see `comparable` and `summarize`; an unknown metric or style;
      or none of the fifteen was run.
  """
  if metric not in METRICS:
    raise ValueError(
      f'unknown metric {metric!r}; choose from {", ".join(METRICS)}'
    )
  if style not in STYLES:
    raise ValueError(
      f'unknown style {style!r}; choose from {", ".join(STYLES)}'
    )
  comparable(runs)
  summaries = [summarize(run) for run in runs]
  if not any(summary['mean_15']['count'] for summary in summaries):
    raise ValueError(
      'none of the fifteen corruptions was run at all five severities; '
      'evaluate them first'
    )
  names = row_names(runs)
  notes = [*compare_notes(names, summaries), *like_note(runs[0])]
  columns = [
    Column('', 'clean', _ranked(metric, [s['clean'] for s in summaries]))
  ]
  for group, corruptions in GROUPS.items():
    for name in corruptions:
      rows = [s['corruptions'].get(name, {}) for s in summaries]
      columns.append(Column(group, SHORT_NAMES[name], _ranked(metric, rows)))
  for number in (15, 16):
    rows = [summary[f'mean_{number}'] for summary in summaries]
    columns.append(_mean_column(f'mean {number}', metric, rows, summaries))
  mce = [summary['mce'] for summary in summaries]
  if metric == 'error' and mce[0]['normalized']:
    rows = [{**row, 'error': row['mce']} for row in mce]
    columns.append(_mean_column('mCE', metric, rows, summaries))
    notes.append("mCE: in % of AlexNet's errors")
  title = (
    f'{runs[0]["dataset"]}: {METRICS[metric].title}, '
    f'{"nearest to 0" if metric == "gap" else "lower"} is better; '
    f'{describe(*runs)}'
  )
  return RENDERERS[style](Table(title, names, columns, notes))


def compare_metrics(
  runs: Sequence[Mapping[str, Any]],
  style: str = 'text',
  metrics: Sequence[str] = _COMPARED,
) -> str:
  """The tables of `compare_runs`, one after the other."""
  return '\n\n'.join(compare_runs(runs, name, style) for name in metrics)


def write_csv(path: str | os.PathLike, results: Mapping[str, Any]) -> None:
  """Writes every cell in full precision: a line each, clean first.

  Columns: dataset, model, method and the test set's title, corruption,
  severity (0 = clean), then all single figures. Null figures are empty.

  Raises:
    ValueError: see `summarize`.
  """
  found = cells(results)
  clean = clean_condition(results)
  fields = list(
    dict.fromkeys(
      name
      for cell in found.values()
      for name, value in cell.items()
      if not isinstance(value, (list, tuple, dict))
    )
  )
  about = {name: results[name] for name in ('dataset', 'model', 'method')}
  about['title'] = results['corrupted']['title']
  heads = [*about, 'corruption', 'severity']
  heads += [name for name in fields if name not in heads]
  text = io.StringIO()
  table = csv.DictWriter(
    text, heads, extrasaction='ignore', lineterminator='\n'
  )
  table.writeheader()
  for row in ({**clean, 'severity': 0}, *found.values()):
    row = {**row, **about}
    table.writerow({n: row[n] for n in heads if n in row and _is_known(row[n])})
  reports.write_whole(path, text.getvalue().encode())


def write_tables(
  directory: str | os.PathLike, results: Mapping[str, Any]
) -> None:
  """Writes corruptions.csv, .md (the run whole) and .tex (a row per metric).

  The LaTeX file is left out where none of the fifteen is whole.

  Raises:
    ValueError: see `summarize`.
  """
  directory = Path(directory)
  # All are made before any is written.
  texts = {'corruptions.md': format_run(results, 'markdown')}
  if summarize(results)['mean_15']['count']:
    texts['corruptions.tex'] = compare_metrics([results], 'latex')
  write_csv(directory / 'corruptions.csv', results)
  for name, text in texts.items():
    reports.write_whole(directory / name, f'{text}\n'.encode())


def describe(*runs: Mapping[str, Any]) -> str:
  """The test set of comparable runs: 'cifar10-C (official files)'."""
  sets = [run['corrupted'] for run in runs]

  def all_of(name):
    return ', '.join(dict.fromkeys(str(each.get(name)) for each in sets))

  words = all_of('source')
  if not any(map(_is_published, sets)):
    words += f', {all_of("parameters")} parameters, seed {all_of("seed")}'
  return f'{sets[0]["title"]} ({words})'


def row_title(name: str) -> str:
  """'jpeg_compression' -> 'jpeg': short enough for a table's first column."""
  for tail in ('_compression', '_transform'):
    name = name.removesuffix(tail)
  return name.replace('_', ' ')


def row_names(runs: Sequence[Mapping[str, Any]]) -> list[str]:
  """What each run is called: its method, and its model if there are several."""
  if len({run['model'] for run in runs}) == 1:
    return [str(run['method']) for run in runs]
  return [f'{run["method"]}, {run["model"]}' for run in runs]


def show(metric: str, value: float | None) -> str:
  """One figure as text; a dash for what could not be had."""
  value = _number(value)
  return METRICS[metric].show(value) if math.isfinite(value) else '-'


def best_of(metric: str, values: Sequence[float | None]) -> set[str]:
  """How the best of some figures is printed; the gap's may have either sign.

  Empty where none is known.
  """
  known = [value for value in map(_number, values) if math.isfinite(value)]
  if not known:
    return set()
  if metric == 'gap':  # neither over- nor under-confident
    best = min(map(abs, known))
    return {show(metric, best), show(metric, -best)}
  return {show(metric, min(known))}


def mean_title(title: str, mean: Mapping[str, Any]) -> str:
  """'mean 15', but 'mean 14 of 15' and 'weather, 3 of 4' if some are out."""
  if mean['count'] == mean['of']:
    return title
  share = f'{mean["count"]} of {mean["of"]}'
  name = title.removeprefix('mean ')
  return f'mean {share}' if name.isdigit() else f'{name}, {share}'


def compare_notes(
  names: Sequence[str], summaries: Sequence[Mapping[str, Any]]
) -> list[str]:
  """What the means of a table are over, and what is missing in which row."""
  if share_corruptions(summaries):
    notes = _mean_notes(summaries[0])
  else:
    notes = [
      'mean 15: the benchmark, for reporting; each the mean of 5 severities',
      "mean 16: clean included, as the paper's poster prints",
      'the means are not over the same corruptions in every row: not ranked',
    ]
  missing = {}  # (corruption, why) -> rows
  for row, summary in zip(names, summaries, strict=True):
    for name, why in summary['left_out'].items():
      if name in CORRUPTIONS:
        missing.setdefault((name, why), []).append(row)
  reasons = {}  # (rows, why) -> corruptions
  for (name, why), rows in missing.items():
    reasons.setdefault((tuple(rows), why), []).append(name)
  for (rows, why), left_out in reasons.items():
    who = '' if len(rows) == len(names) else f'{", ".join(rows)} '
    notes.append(f'{who}without {", ".join(left_out)}: {why}')
  return notes


def share_corruptions(summaries: Sequence[Mapping[str, Any]]) -> bool:
  """Whether the means of all are over the same of the fifteen."""
  sets = [
    {name for name in summary['corruptions'] if name in CORRUPTIONS}
    for summary in summaries
  ]
  return all(other == sets[0] for other in sets)


def like_note(results: Mapping[str, Any]) -> list[str]:
  """That generated images are no published ones; nothing where they are."""
  title = results['corrupted']['title']
  if not title.endswith('-like'):
    return []
  return [
    f'{title} is generated here: not to be compared with figures on '
    f'{title.removesuffix("-like")}'
  ]


def _is_published(corrupted):
  """Whether the images were published: then all have the same parameters."""
  return corrupted.get('source') in ('official files', 'tfds')


def _facts(results):
  """What must be the same in runs that are compared."""
  found = cells(results)
  corrupted = results['corrupted']
  return {
    'data sets': results['dataset'],
    'test sets': corrupted['title'],
    'clean images': results.get('data_fingerprint'),
    'parameters': (
      None if _is_published(corrupted) else corrupted.get('parameters')
    ),
    'numbers of images': next(iter(found.values())).get('n'),
  }


def _mean(rows):
  """Means of the metrics; NaN where a row lacks a figure, or of no rows."""
  return {
    name: (
      math.fsum(_number(row.get(name)) for row in rows) / len(rows)
      if rows
      else math.nan
    )
    for name in METRICS
  }


def _mean_of(rows, total):
  return {**_mean(rows), 'count': len(rows), 'of': total}


def _mce(results, whole, names):
  """mCE and relative mCE of Hendrycks & Dietterich 2019, section 4.

  On ImageNet-C, means over corruptions of sum E / sum E(AlexNet) and of
  sum (E - clean) / sum (E(AlexNet) - clean(AlexNet)), sums over severities.
  AlexNet was measured on those files alone: elsewhere there is no divisor.
  """
  clean = _number(clean_condition(results).get('error'))
  normalized = (
    results['dataset'] == 'imagenet'
    and results['corrupted']['title'] == 'imagenet-C'
  )
  errors, excesses = [], []
  for name in names:
    error = whole[name]['error']
    divisor = _ALEXNET[name] / 100 if normalized else 1.0
    errors.append(error / divisor)
    divisor -= _ALEXNET_CLEAN / 100 if normalized else 0.0
    excesses.append((error - clean) / divisor)
  return {
    'normalized': normalized,
    'mce': math.fsum(errors) / len(errors) if errors else math.nan,
    'relative_mce': math.fsum(excesses) / len(errors) if errors else math.nan,
    'count': len(errors),
    'of': len(CORRUPTIONS),
  }


def _number(value):
  """JSON has no NaN, so a figure that could not be had is null there."""
  return math.nan if value is None else value


def _is_known(value):
  return value is not None and (
    not isinstance(value, float) or math.isfinite(value)
  )


def _figures(row):
  return [show(name, row.get(name)) for name in METRICS]


def _section(title, names, summary):
  whole = summary['corruptions']
  return [
    [title],
    *([f'  {row_title(n)}', *_figures(whole.get(n, {}))] for n in names),
  ]


def _run_notes(summary, shown):
  """What the means are over, what is missing, and mCE."""
  notes = []
  if CORRUPTIONS in shown:
    mce = summary['mce']
    unit = "% of AlexNet's" if mce['normalized'] else '% error, unnormalised'
    notes += [
      f'mCE {show("error", mce["mce"])}, relative mCE '
      f'{show("error", mce["relative_mce"])} ({unit}; {mce["count"]} of '
      f'{mce["of"]} corruptions)',
      *_mean_notes(summary),
    ]
  if EXTRA_CORRUPTIONS in shown:
    notes.append('extra: not for reporting, and in no other mean')
  reasons = {}
  for name, why in summary['left_out'].items():
    if any(name in names for names in shown):
      reasons.setdefault(why, []).append(name)
  notes += [f'without {", ".join(n)}: {why}' for why, n in reasons.items()]
  notes.append(f'gap: {METRICS["gap"].title}; above 0 is over-confident')
  notes.append(f'* {METRICS["ece_batch100"].title}')
  return notes


def _mean_notes(summary):
  titles = [mean_title(f'mean {n}', summary[f'mean_{n}']) for n in (15, 16)]
  return [
    f'{titles[0]}: the benchmark, for reporting; each the mean of 5 severities',
    f"{titles[1]}: clean included, as the paper's poster prints",
  ]


def _ranked(metric, rows):
  """A cell of each row; where all look alike, none is best."""
  values = [row.get(metric) for row in rows]
  texts = [show(metric, value) for value in values]
  bests = best_of(metric, values) if len(set(texts)) > 1 else ()
  return [Cell(text, text in bests) for text in texts]


def _mean_column(title, metric, rows, summaries):
  """One mean; over how many is said in the head, or in each cell if mixed."""
  if share_corruptions(summaries):
    return Column('', mean_title(title, rows[0]), _ranked(metric, rows))
  return Column(
    '',
    title,
    [
      Cell(
        show(metric, row.get(metric)), remark=f'{row["count"]} of {row["of"]}'
      )
      for row in rows
    ],
  )


_USAGE = (
  'usage: python -m mollify_jax.evaluation.corruption_tables '
  f'[--metric={"|".join(METRICS)}] [--style={"|".join(STYLES)}] '
  '[--temperature_scaling] WORKDIR ...'
)


def main(arguments: Sequence[str]) -> int:
  """Prints the tables of the named workdirs; returns the exit status."""
  options = {'metric': None, 'style': 'text'}
  beside = '--temperature_scaling' in arguments
  workdirs = []
  for argument in arguments:
    if argument == '--temperature_scaling':
      continue
    name, _, value = argument.removeprefix('--').partition('=')
    if not argument.startswith('-'):
      workdirs.append(argument)
    elif argument.startswith('--') and name in options and value:
      options[name] = value
    else:
      print(f'error: unknown option {argument!r}; {_USAGE}', file=sys.stderr)
      return 1
  if not workdirs:
    print(_USAGE, file=sys.stderr)
    return 1
  metric, style = options['metric'], options['style']
  try:
    runs = [reports.read_results(Path(w) / 'results.json') for w in workdirs]
    if beside:
      runs = reports.with_scaled(runs)
    if len(runs) == 1 and metric is None and style != 'latex':
      text = format_run(runs[0], style)
    else:
      metrics = _COMPARED if metric is None else (metric,)
      text = compare_metrics(runs, style, metrics)
  except (OSError, ValueError) as error:
    print('error:', errors.describe(error), file=sys.stderr)
    return 1
  print(text)
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
