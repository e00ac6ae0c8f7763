"""One HTML page of everything that is known about some runs.

  python -m mollify_jax.evaluation.report [--out=report.html] \
    [--reference=experiments/poster.json] [--temperature_scaling] \
    WORKDIR [WORKDIR ...]

The page needs neither a network nor other files: pictures and styles are in it,
and there is no script. Workdirs whose configs differ in the seed alone make one
row and one curve, the mean over seeds. A run that has not finished stands there
and says so.
"""

import base64
import html
import math
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mollify_jax import errors
from mollify_jax.corruptions.severities import CORRUPTIONS
from mollify_jax.evaluation import (
  corruption_plots,
  corruption_tables,
  page_style,
  plots,
  reports,
  seed_tables,
)
from mollify_jax.evaluation.seed_tables import Row, Run
from mollify_jax.evaluation.table_styles import (
  Column,
  Table,
  breakable,
  render_html,
)
from mollify_jax.training.config import flatten

_PAPER = 'https://arxiv.org/abs/2406.01494'


class Section(NamedTuple):
  """A part of the page: its anchor, its heading, HTML."""

  anchor: str
  title: str
  body: str


def render(
  runs: Sequence[Run],
  reference: Mapping[str, Any] | None = None,
  *,
  scaled: bool = False,
) -> str:
  """The page.

  Args:
    runs: see `seed_tables.open_runs`; on one data set.
    reference: other people's figures; see `seed_tables.read_reference`.
    scaled: whether the figures with temperature scaling stand beside the
      others (see `reports.scaled`).

  Raises:
    ValueError: see `seed_tables.render`; or there is no temperature scaling.
  """
  rows = seed_tables.group_runs(
    seed_tables.with_scaled(runs) if scaled else runs
  )
  means = [mean_record(row) for row in rows if row.records]
  sections = [
    Section('summary', 'Summary', render_html(seed_tables.make_summary(rows))),
    *_corruption_sections(rows, means, reference),
    *_temperature_section(rows, means),
    *_reliability_section(rows),
    Section('differences', 'What differs between the runs', _differences(runs)),
    Section('runs', 'The runs', '\n'.join(_run(run, runs) for run in runs)),
    Section('missing', 'What is missing', _missing(rows, runs)),
  ]
  title = _page_title(rows, runs)
  links = ''.join(
    f'<li><a href="#{s.anchor}">{html.escape(s.title)}</a></li>'
    for s in sections
  )
  bodies = '\n'.join(
    f'<section id="{s.anchor}" aria-labelledby="{s.anchor}-title">\n'
    f'<h2 id="{s.anchor}-title">{html.escape(s.title)}</h2>\n'
    f'{s.body}\n</section>'
    for s in sections
  )
  return page_style.PAGE.format(
    title=html.escape(title),
    style=page_style.STYLE,
    paper=_PAPER,
    facts=html.escape(_facts(rows, runs)),
    links=links,
    sections=bodies,
  )


def mean_record(row: Row) -> dict[str, Any]:
  """A record of the means over a row's seeds, for pictures.

  Figures of conditions and cells that all seeds have are averaged; bins are
  left out, for `pooled` has them. Its method is the row's title.
  """
  first = row.records[0]
  record = {**first, 'method': ' '.join(row.title.split())}
  record['conditions'] = _mean_rows(
    [r['conditions'] for r in row.records], ('corruption', 't')
  )
  corrupted = [r.get('corrupted') or {} for r in row.records]
  if all(each.get('cells') for each in corrupted):
    record['corrupted'] = {
      **corrupted[0],
      'cells': _mean_rows(
        [each['cells'] for each in corrupted], ('corruption', 'severity')
      ),
    }
  else:
    record.pop('corrupted', None)
  return record


def pooled(row: Row) -> list[dict[str, Any]]:
  """Records of corruption and bins, of all seeds, for reliability diagrams.

  The fifteen common corruptions are one; what lacks bins is left out.
  """
  found = []
  for record in row.records:
    found += record['conditions']
  for record in row.records:
    cells = (record.get('corrupted') or {}).get('cells') or []
    found += [
      {**cell, 'corruption': 'corruptions'}
      for cell in cells
      if cell['corruption'] in CORRUPTIONS
    ]
  order = ('clean', 'corruptions')
  found.sort(
    key=lambda c: (
      order.index(c['corruption']) if c['corruption'] in order else 2
    )
  )
  chosen = []
  for condition in found:
    bins = condition.get('bins')
    if bins and not _are_bins(bins):
      raise ValueError(
        f'the record of {row.records[0]["method"]!r} has bins of '
        f'{condition["corruption"]!r} that are none; evaluate again'
      )
    if bins and sum(bins['count']):
      chosen.append({'corruption': condition['corruption'], 'bins': bins})
  return chosen


def _mean_rows(tables, keys):
  """Rows that every table has, their figures averaged."""
  by_key = [{tuple(r[k] for k in keys): r for r in table} for table in tables]
  means = []
  for key, first in by_key[0].items():
    each = [table.get(key) for table in by_key]
    if None in each:
      continue
    row = {}
    for name, value in first.items():
      values = [other.get(name) for other in each]
      if name in keys:
        row[name] = value
      elif all(_is_number(v) for v in values):
        row[name] = math.fsum(values) / len(values)
      elif _is_number(value) or value is None:
        row[name] = math.nan
    # A mean of whole numbers that are all the same is that number.
    if 'n' in first:
      row['n'] = first['n']
    means.append(row)
  return means


def _are_bins(bins):
  return isinstance(bins, Mapping) and all(
    isinstance(bins.get(name), list) and all(map(_is_number, bins[name]))
    for name in ('count', 'confidence', 'correct')
  )


def _is_number(value):
  return isinstance(value, (int, float)) and not isinstance(value, bool)


def _corruption_sections(rows, means, reference):
  metrics = list(seed_tables.METRICS)
  if reference and reference['metric'] not in metrics:
    metrics.append(reference['metric'])
  if any('corrupted' in mean for mean in means) or reference:
    said = set()  # what stands below one table needs no repetition
    tables = ''
    for metric in metrics:
      table = seed_tables.make_table(
        rows, metric, seed_tables.reference_of(reference, metric)
      )
      notes = [note for note in table.notes if note not in said]
      said.update(notes)
      tables += render_html(table._replace(notes=notes)) + '\n'
    yield Section('corruptions', 'Common corruptions', tables)
  corrupted = [
    mean
    for mean in means
    if 'corrupted' in mean
    and corruption_tables.summarize(mean)['mean_15']['count']
  ]
  if not corrupted:
    return
  names = [mean['method'] for mean in corrupted]
  shared = set(CORRUPTIONS)
  for mean in corrupted:
    shared &= set(corruption_tables.summarize(mean)['corruptions'])
  if shared:
    errors_at_5 = ', '.join(
      f'{mean["method"]} '
      + corruption_tables.show(
        'error',
        corruption_tables.severity_means(
          mean, [name for name in CORRUPTIONS if name in shared]
        )[-1]['error'],
      )
      for mean in corrupted
    )
    methods = [
      plots.Method(title, tuple(row.records))
      for row in rows
      if (title := ' '.join(row.title.split())) in names
    ]
    picture = _picture(
      lambda path: corruption_plots.draw_severity_curves(path, methods),
      'Curves of error, NLL and ECE against severity 0 (clean) to 5, for all '
      f'corruptions and for each group, a curve for each of {", ".join(names)}.'
      f' Error in % at severity 5, all corruptions: {errors_at_5}.',
      'Means over the corruptions that every run has, and over seeds; the '
      'bands are one standard deviation.',
    )
    yield Section('severities', 'Severity curves', picture)


def _temperature_section(rows, means):
  """Means over the temperature grid, and the curves, where there is a grid."""
  degraded = [
    mean
    for mean in means
    if any(c['corruption'] != 'clean' for c in mean['conditions'])
  ]
  if not degraded:
    return
  body = _grid_table([row for row in rows if row.records], means)
  names = ', '.join(mean['method'] for mean in degraded)
  body += _picture(
    lambda path: plots.draw_comparison(path, degraded),
    'Curves of error and ECE against temperature t from 0 (clean) to 1, under '
    f'diffusion noise and heat blur, a curve for each of {names}. The figures '
    'are in the table above.',
    'Means over seeds; t = 0 is the clean test set.',
  )
  yield Section('temperatures', 'Diffusion noise and heat blur', body)


def _grid_table(rows, means):
  shared = reports.shared_corruptions(means)
  # title -> metric -> figures of every seed, row by row
  found = [[reports.summaries(r) for r in row.records] for row in rows]
  titles = [
    title
    for title in reports.summaries(means[0])
    if title.split(',')[0] in shared - {'clean'} and 'above' not in title
  ]
  columns = []
  for title in titles:
    for metric in seed_tables.METRICS:
      figures = [
        seed_tables.over_seeds([seed[title][metric] for seed in seeds])
        for seeds in found
      ]
      columns.append(
        Column(
          title,
          corruption_tables.METRICS[metric].title,
          seed_tables.ranked_cells(metric, figures),
        )
      )
  if not columns:
    return (
      '<p>The runs were evaluated at different temperatures: no means over '
      'them are compared.</p>\n'
    )
  table = Table(
    f'{means[0]["dataset"]}: means over temperatures; lower is better',
    [mean['method'] for mean in means],
    columns,
    ['each temperature is a pass over the whole test set'],
  )
  return render_html(table) + '\n'


def _reliability_section(rows):
  figures = []
  for row in rows:
    conditions = pooled(row)
    if not conditions:
      continue
    kinds = ', '.join(dict.fromkeys(c['corruption'] for c in conditions))
    title = ' '.join(row.title.split())
    figures.append(
      _picture(
        lambda path, conditions=conditions: plots.draw_reliability_diagram(
          path, conditions
        ),
        f'Reliability diagrams of {title}: accuracy against confidence in '
        f'fifteen bins, with the share of examples in each; {kinds}. '
        f'{_describe_bins(conditions)}.',
        title,
      )
    )
  if figures:
    words = (
      '<p class="quiet">Accuracy against confidence; hatched: the gap between '
      'them. Pooled over the fifteen corruptions or the temperatures, and over '
      'seeds: over-confidence in one and under-confidence in another cancel, '
      'so that an ECE here is at most the mean in the tables.</p>\n'
    )
    yield Section('reliability', 'Reliability', words + '\n'.join(figures))


def _describe_bins(conditions):
  """Mean confidence and accuracy of each kind, in words."""
  sums = {}
  for condition in conditions:
    bins = condition['bins']
    total = sums.setdefault(condition['corruption'], [0.0, 0.0, 0.0])
    for index, key in enumerate(('count', 'confidence', 'correct')):
      total[index] += math.fsum(bins[key])
  return '; '.join(
    f'{name}: mean confidence {confidence / count:.3f}, accuracy '
    f'{correct / count:.3f}'
    for name, (count, confidence, correct) in sums.items()
  )


def _picture(
  draw: Callable[[Path], None], description: str, caption: str
) -> str:
  """A figure with a picture that is part of the page."""
  with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / 'picture.svg'
    draw(path)
    picture = path.read_bytes()
  points = re.search(rb'viewBox="0 0 ([\d.]+) ([\d.]+)"', picture)
  width, height = (round(float(side) * 4 / 3) for side in points.groups())
  data = base64.b64encode(picture).decode()
  return (
    '<figure class="picture">\n'
    '<div class="scroll" role="region" tabindex="0" '
    f'aria-label="{html.escape(caption)}">'
    f'<img alt="{html.escape(description)}" width="{width}" height="{height}" '
    f'src="data:image/svg+xml;base64,{data}"></div>\n'
    f'<figcaption>{html.escape(caption)}</figcaption>\n</figure>\n'
  )


def _mapping(record, name):
  """A section of a record; empty if it is none."""
  part = record.get(name)
  return part if isinstance(part, Mapping) else {}


def _known(run):
  """What is compared between runs: the config, then where it ran."""
  fields = {f'config.{n}': v for n, v in flatten(run.config).items()}
  if run.results:
    for name in ('environment', 'evaluation_environment'):
      part = flatten(_mapping(run.results, name))
      fields.update({f'{name}.{n}': v for n, v in part.items()})
    fields['data_fingerprint'] = run.results.get('data_fingerprint', 'unknown')
  return fields


def _differing(runs):
  """Fields that are not the same in all runs that have any of their kind."""
  known = [_known(run) for run in runs]
  names = list(dict.fromkeys(name for fields in known for name in fields))
  differ = []
  for name in names:
    having = [
      fields
      for run, fields in zip(runs, known, strict=True)
      if run.results or name.startswith('config.')
    ]
    if len({repr(fields.get(name, 'absent')) for fields in having}) > 1:
      differ.append(name)
  return differ


def _differences(runs):
  """Fields that differ, a column for all seeds of a method."""
  names = [name for name in _differing(runs) if name != 'config.seed']
  if not names:
    return (
      '<p>Nothing but the seed.</p>' if len(runs) > 1 else '<p>One run.</p>'
    )
  groups = seed_tables.grouped(runs)
  titles = [title for title, _ in groups]
  heads = ''.join(
    f'<th scope="col" class="value">{breakable(title)}</th>' for title in titles
  )
  rows = []
  for name in names:
    values = [
      ', '.join(
        dict.fromkeys(str(_known(run).get(name, '-')) for run in members)
      )
      for _, members in groups
    ]
    cells = ''.join(
      f'<td class="value">{_marked(value, value != values[0])}</td>'
      for value in values
    )
    rows.append(f'<tr><th scope="row">{breakable(name)}</th>{cells}</tr>')
  return (
    '<figure class="table"><figcaption>Every field in which two runs differ, '
    'but the seed; marked: what the first method does not have.</figcaption>'
    '<div class="scroll" role="region" tabindex="0" '
    'aria-label="Differences between the runs">'
    f'<table><thead><tr><th scope="col">field</th>{heads}</tr></thead>\n'
    f'<tbody>{chr(10).join(rows)}</tbody></table></div></figure>'
  )


def _marked(text, marked):
  text = html.escape(text)
  return f'<mark>{text}</mark>' if marked else text


def _run_title(run):
  method = (run.results or run.config).get('method', '?')
  return f'{" ".join(str(method).split())}, seed {run.config.get("seed", "?")}'


def _run(run, runs):
  """What is known of one run, to make it once more."""
  title = html.escape(_run_title(run))
  parts = [f'<article>\n<h3>{title}</h3>']
  if run.results is None:
    parts.append(
      '<p class="warning">Not finished: there is no results.json. The same '
      'command goes on with it.</p>'
    )
  parts += [_dl(_run_facts(run)), _commands(run)]
  differ = set(_differing(runs)) if len(runs) > 1 else set()
  config = {f'config.{n}': v for n, v in flatten(run.config).items()}
  parts.append(_details('config', config, differ))
  for name in ('environment', 'evaluation_environment'):
    part = _mapping(run.results or {}, name)
    if not part or (
      # evaluated where it was trained
      name.startswith('eval') and part == run.results.get('environment')
    ):
      continue
    fields = {f'{name}.{n}': v for n, v in flatten(part).items()}
    parts.append(_details(name.replace('_', ' '), fields, differ))
  parts.append('</article>')
  return '\n'.join(parts)


def _run_facts(run):
  results = run.results or {}
  environment = _mapping(results, 'environment')
  facts = {
    'workdir': str(run.workdir),
    'data set': results.get('dataset'),
    'data fingerprint': results.get('data_fingerprint'),
    'network': results.get('model') or run.config.get('model'),
    'parameters': _with_commas(results.get('parameters')),
    'steps': _with_commas(results.get('steps')),
    'training': _duration(results.get('seconds')),
    'speed': _speed(results.get('images_per_second')),
    'device': environment.get('device'),
    'devices': environment.get('device_count'),
    'commit': environment.get('commit'),
  }
  corrupted = results.get('corrupted') or {}
  if corrupted.get('cells'):
    facts['corrupted test sets'] = corruption_tables.describe(results)
  return {name: value for name, value in facts.items() if value is not None}


def _with_commas(value):
  return f'{value:,}' if _is_number(value) else None


def _duration(seconds):
  if not _is_number(seconds):
    return None
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f'{hours} h {minutes} min' if hours else f'{minutes} min {seconds} s'


def _speed(value):
  return f'{value:,.0f} images/s' if _is_number(value) else None


def _commands(run):
  """The commands that make a run again and evaluate it again."""
  recorded = (run.results or {}).get('command')
  if isinstance(recorded, list) and recorded:
    command = shlex.join([*map(str, recorded), f'--workdir={run.workdir}'])
    lines = [command, f'{command} --mode=evaluate']
    words = 'Trained (and resumed) by the first, evaluated again by the second:'
  else:
    program = (
      'import json, sys; from mollify_jax.training import loop; '
      'loop.run(json.load(open(sys.argv[1])), sys.argv[2])'
    )
    lines = [
      shlex.join(
        [
          *('python', '-c', program),
          *(str(run.workdir / 'config.json'), 'NEW_WORKDIR'),
        ]
      )
    ]
    words = 'Its command was not recorded; this trains its config once more:'
  code = html.escape('\n'.join(lines))
  return f'<p>{words}</p>\n<pre><code>{code}</code></pre>'


def _dl(facts):
  rows = ''.join(
    f'<dt>{html.escape(name)}</dt><dd>{html.escape(str(value))}</dd>'
    for name, value in facts.items()
  )
  return f'<dl>{rows}</dl>'


def _details(title, fields, differ):
  """A table of fields, folded away; what differs between runs is marked."""
  count = sum(name in differ for name in fields)
  words = f' ({count} of {len(fields)} fields differ between the runs)'
  rows = '\n'.join(
    f'<tr><th scope="row">{breakable(name.partition(".")[2])}</th>'
    f'<td class="value">{_marked(_value(value), name in differ)}</td></tr>'
    for name, value in fields.items()
  )
  return (
    f'<details><summary>{html.escape(title)}{words if count else ""}</summary>'
    '<div class="scroll"><table><thead><tr><th scope="col">field</th>'
    '<th scope="col" class="value">value</th></tr></thead>\n'
    f'<tbody>{rows}</tbody></table></div></details>'
  )


def _value(value):
  return "''" if value == '' else str(value)


def _missing(rows, runs):
  """What a reader should not take for granted, a line each."""
  lines = []
  for row in rows:
    title = ' '.join(row.title.split())
    if row.note:
      lines.append(f'{title}: {row.note}')
    if len(row.records) == 1:
      lines.append(f'{title}: one seed, so nothing is known of its spread')
  for run in runs:
    if run.results is None:
      continue
    name = _run_title(run)
    corrupted = run.results.get('corrupted') or {}
    if not corrupted.get('cells'):
      lines.append(f'{name}: not evaluated on common corruptions')
    else:
      left_out = corruption_tables.summarize(run.results)['left_out']
      for corruption in CORRUPTIONS:
        if corruption in left_out:
          lines.append(f'{name}: no {corruption}: {left_out[corruption]}')
    if not any(c['corruption'] != 'clean' for c in run.results['conditions']):
      lines.append(f'{name}: not evaluated over temperatures')
    commit = _mapping(run.results, 'environment').get('commit', 'unknown')
    if commit == 'unknown':
      lines.append(f'{name}: the commit of the code is not known')
    elif str(commit).endswith('+'):
      lines.append(f'{name}: the code differed from commit {commit[:-1]}')
    if not run.results.get('command'):
      lines.append(f'{name}: its command was not recorded')
  if not lines:
    return '<p>Nothing that this page knows of.</p>'
  items = ''.join(f'<li>{html.escape(line)}</li>' for line in lines)
  return f'<ul>{items}</ul>'


def _page_title(rows, runs):
  records = [record for row in rows for record in row.records]
  if records:
    models = ', '.join(dict.fromkeys(record['model'] for record in records))
    return f'{records[0]["dataset"]}, {models}'
  data = runs[0].config.get('data')
  name = data.get('name', '?') if isinstance(data, Mapping) else '?'
  return f'{name}, {runs[0].config.get("model", "?")}'


def _facts(rows, runs):
  finished = sum(run.results is not None for run in runs)
  words = f'{len(rows)} method{"s" * (len(rows) != 1)}, {finished} finished '
  words += f'run{"s" * (finished != 1)}'
  if finished < len(runs):
    words += f', {len(runs) - finished} not finished'
  return words


_USAGE = (
  'usage: python -m mollify_jax.evaluation.report [--out=report.html] '
  '[--reference=FILE.json] [--temperature_scaling] WORKDIR ...'
)


def main(arguments: Sequence[str]) -> int:
  """Writes the page of the named workdirs; returns the exit status."""
  try:
    options, workdirs = seed_tables.parse(
      arguments, {'out': 'report.html', 'reference': ''}, _USAGE
    )
    scaled = bool(options[seed_tables.SCALING])
    reference = None
    if options['reference']:
      reference = seed_tables.read_reference(options['reference'])
    runs = seed_tables.open_runs(workdirs)
    page = render(runs, reference, scaled=scaled)
    reports.write_whole(options['out'], page.encode())
  except (OSError, ValueError) as error:
    print('error:', errors.describe(error), file=sys.stderr)
    return 1
  print(f'wrote {options["out"]}')
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
