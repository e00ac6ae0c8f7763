"""Results of a run: the JSON record, and tables made from it.

  python -m mollify_jax.evaluation.reports WORKDIR [WORKDIR ...]

prints the tables of finished runs side by side, the best figure starred; with
--temperature_scaling, each run that has it also with temperature scaling.
"""

import json
import math
import os
import platform
import reprlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from mollify_jax import errors

FORMAT = 1
# Flags of `main`, with a value, that are not of what a run computes.
_PLACE = (
  *('workdir', 'mode', 'coordinator', 'process_id', 'num_processes'),
  'host_timeout',
)
_REQUIRED = ('format', 'method', 'dataset', 'model', 'steps', 'conditions')


def environment(devices: Sequence[Any]) -> dict[str, Any]:
  """Versions, hardware and commit, for the record."""
  versions = {}
  for name in ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy'):
    try:
      versions[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
      versions[name] = 'not installed'
  return {
    **versions,
    'python': platform.python_version(),
    'machine': platform.machine(),
    'platform': devices[0].platform,
    'device': devices[0].device_kind,
    'device_count': len(devices),
    'commit': _commit(),
  }


def command(flags: Sequence[str]) -> list[str]:
  """The command of a run, for the record; nothing of no flags.

  Without what says where and on which hosts: the records of two runs of one
  config are the same, and whoever repeats one has another place.
  """
  kept = []
  rest = iter(flags)
  for flag in rest:
    name, has_value, _ = flag.lstrip('-').partition('=')
    if flag.startswith('-') and name in _PLACE:
      if not has_value:
        next(rest, None)
    elif not (flag.startswith('-') and name.endswith('distributed')):
      kept.append(flag)
  return ['python', '-m', 'mollify_jax.main', *kept] if kept else []


def write_json(path: str | os.PathLike, record: Any) -> None:
  """Writes JSON as `write_whole` does.

  JSON has neither NaN nor infinity: such figures become null.
  """
  text = json.dumps(_finite(record), indent=1, allow_nan=False)
  write_whole(path, f'{text}\n'.encode())


def write_whole(path: str | os.PathLike, data: bytes) -> None:
  """Writes a file under a temporary name and renames it into place."""
  path = Path(path)
  descriptor, temporary = tempfile.mkstemp(
    dir=path.parent, prefix=f'.{path.name}.'
  )
  try:
    with os.fdopen(descriptor, 'wb') as file:
      file.write(data)
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)
  except BaseException as error:
    os.unlink(temporary)
    if errors.is_bare(error):  # a full disk is told without a name
      error.filename = os.fspath(path)
    raise


def _finite(value: Any) -> Any:
  """The same with None for every number that JSON does not have."""
  if isinstance(value, dict):
    return {key: _finite(entry) for key, entry in value.items()}
  if isinstance(value, (list, tuple)):
    return [_finite(entry) for entry in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def read_json(path: str | os.PathLike) -> dict[str, Any]:
  """Reads a JSON object.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is not whole JSON, or something else than an object.
    OSError: it cannot be read.
  """
  return _read_value(path, (dict,))


def _read_value(path: str | os.PathLike, kinds: tuple[type, ...]) -> Any:
  """Reads a JSON file of an object, or of what else may be in it."""
  path = Path(path)
  if not path.exists():
    raise FileNotFoundError(
      f'{path} is missing; wanted the workdir of a finished run; has the run '
      'finished?'
    )
  try:
    record = json.loads(path.read_text())
    if not isinstance(record, kinds):
      raise ValueError(f'wanted an object, got {type(record).__name__}')
    return record
  except (ValueError, RecursionError) as error:
    raise ValueError(
      f'{path} is damaged ({error}); delete it and run the same command again'
    ) from error


def read_results(path: str | os.PathLike) -> dict[str, Any]:
  """Reads one run's record.

  Raises:
    FileNotFoundError, ValueError: missing, damaged, or not such a record.
  """
  results = read_json(path)
  _check_record(results, path)
  return results


def read_runs(path: str | os.PathLike) -> list[dict[str, Any]]:
  """Reads the records of a workdir, or of a file of one record or several.

  Args:
    path: the workdir of a finished run; or a JSON file that holds a record or
      a list of records, as the results.json of experiments do.

  Raises:
    FileNotFoundError, ValueError: missing, damaged, not such records, or none.
    OSError: it cannot be read.
  """
  path = Path(path)
  if path.is_dir():
    path = path / 'results.json'
  runs = _read_value(path, (dict, list))
  runs = [runs] if isinstance(runs, dict) else runs
  if not runs:
    raise ValueError(f'{path} is an empty list; wanted result records')
  for index, run in enumerate(runs):
    if not isinstance(run, dict):
      raise ValueError(
        f'entry {index} of {path} is {type(run).__name__}, wanted an object; '
        'name files of result records'
      )
    _check_record(run, path)
  return runs


def _check_record(results: dict[str, Any], path: str | os.PathLike) -> None:
  """Refuses an object that is no result record."""
  missing = [name for name in _REQUIRED if name not in results]
  if missing or results['format'] != FORMAT:
    raise ValueError(
      f'{path} is no result record of format {FORMAT} (lacks '
      f'{", ".join(missing) or "nothing, but is of another format"}); '
      'delete it and run the same command again'
    )
  wrong = _wrong_entry(results)
  if wrong:
    raise ValueError(
      f'{path} is damaged ({wrong}); delete it and run the same command again'
    )


def _wrong_entry(results: dict[str, Any]) -> str:
  """The first entry of a record that no table can be made of, or ''."""
  for name in ('method', 'dataset', 'model'):
    if not isinstance(results[name], str):
      return f'{name} is {results[name]!r}, wanted text'
  wrong = _wrong_figures(results)
  scaling = results.get('temperature_scaling')
  if wrong or scaling is None:
    return wrong
  if not isinstance(scaling, dict):
    return f'temperature_scaling is {reprlib.repr(scaling)}, wanted an object'
  temperature = scaling.get('temperature')
  if not isinstance(temperature, (int, float)):
    return f'the temperature of temperature_scaling is {temperature!r}'
  wrong = _wrong_figures(scaling)
  return wrong and f'temperature_scaling: {wrong}'


def _wrong_figures(results: dict[str, Any]) -> str:
  """The first entry of `conditions` and `corrupted` that is none, or ''."""
  corrupted = results.get('corrupted') or {}
  if not isinstance(corrupted, dict):
    return f'corrupted is {corrupted!r}, wanted an object'
  if not isinstance(corrupted.get('skipped') or {}, dict):
    return f'skipped is {corrupted["skipped"]!r}, wanted an object'
  return _wrong_row(
    'conditions', results.get('conditions'), ('corruption', 't', *_METRICS)
  ) or _wrong_row(
    'cells', corrupted.get('cells') or [], ('corruption', 'severity')
  )


def _wrong_row(title: str, rows: Any, fields: Sequence[str]) -> str:
  """The first of a list of conditions or cells that is none, or ''."""
  if not isinstance(rows, list):
    return f'{title} is {rows!r}, wanted a list'
  for index, row in enumerate(rows):
    if not isinstance(row, dict):
      return f'number {index} of {title} is {row!r}, wanted an object'
    for name in fields:
      kind = str if name == 'corruption' else (int, float)
      # A figure that could not be had is null.
      if not isinstance(row.get(name), kind) and not (
        name in _METRICS and name in row and row[name] is None
      ):
        return (
          f'{name} of number {index} of {title} is {row.get(name)!r}, wanted '
          + ('text' if name == 'corruption' else 'a number')
        )
    for name in _METRICS.keys() & row.keys():
      if not isinstance(row[name], (int, float, type(None))):
        return f'{name} of number {index} of {title} is {row[name]!r}'
  return ''


def scaled(results: dict[str, Any]) -> dict[str, Any]:
  """A run's record with temperature scaling, for every table and plot.

  Args:
    results: with `temperature_scaling`, as the evaluation leaves it for runs
      that held images out of training.

  Returns:
    The record with the figures of logits divided by the temperature in place
    of the plain ones, the method named `METHOD + temperature scaling`.

  Raises:
    ValueError: it has none.
  """
  scaling = results.get('temperature_scaling')
  if not scaling:
    raise ValueError(
      f'the record of {results["method"]!r} has no temperature scaling; train '
      'with config.data.validation_fraction > 0, on which it is fitted, or '
      'evaluate such a run again with --mode=evaluate'
    )
  record = {
    name: value
    for name, value in results.items()
    if name not in ('temperature_scaling', 'corrupted')
  }
  figures = ('conditions', 'corrupted')
  return {
    **record,
    **{name: scaling[name] for name in figures if name in scaling},
    'method': f'{results["method"]} + temperature scaling',
  }


def with_scaled(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
  """The runs, each that has temperature scaling followed by its `scaled`.

  Raises:
    ValueError: none has.
  """
  if not any(run.get('temperature_scaling') for run in runs):
    return [scaled(run) for run in runs]  # which says what is missing
  return [
    record
    for run in runs
    for record in (
      (run, scaled(run)) if run.get('temperature_scaling') else (run,)
    )
  ]


# Rows of the summary: corruption, largest t, title. The harder half of the
# grid, where little signal is left, is in the wider means only.
_MEANS = (
  ('noise', 0.5, 'noise, t <= 0.5'),
  ('noise', 1.0, 'noise, whole grid'),
  ('blur', 0.5, 'blur, t <= 0.5'),
  ('blur', 1.0, 'blur, whole grid'),
)
# Column: title, how to print it.
_METRICS = {
  'error': ('error %', lambda value: f'{100 * value:.2f}'),
  'nll': ('NLL', lambda value: f'{value:.3f}'),
  'brier': ('Brier', lambda value: f'{value:.3f}'),
  'ece': ('ECE', lambda value: f'{value:.3f}'),
}


def summaries(results: dict[str, Any]) -> dict[str, dict[str, float]]:
  """Means over the grid: title -> error, nll, brier, ece.

  Means are over conditions, each a pass over the whole test set; the ECE of
  each condition is pooled over its examples first. A mean without conditions
  is left out. Rows `above clean` hold the error in excess of the clean one.

  Raises:
    ValueError: there is no clean condition.
  """
  conditions = results['conditions']
  clean = [c for c in conditions if c['corruption'] == 'clean']
  if not clean:
    raise ValueError(
      f'the record of {results["method"]!r} has no clean condition; '
      'evaluate the run again'
    )
  clean = _mean(clean)
  rows = {'clean': clean}
  for corruption, largest, title in _MEANS:
    chosen = [
      c
      for c in conditions
      if c['corruption'] == corruption and 0 < c['t'] <= largest
    ]
    if chosen:
      rows[title] = _mean(chosen)
      excess = rows[title]['error'] - clean['error']
      rows[f'{title}, above clean'] = {'error': excess}
  return rows


def format_table(results: dict[str, Any]) -> str:
  """One run as text: a row per condition, then the means."""
  heads = [head for head, _ in _METRICS.values()]
  rows = [
    [_title(condition), *_cells(condition)]
    for condition in results['conditions']
  ]
  means = [
    [f'mean {title}', *_cells(row)]
    for title, row in summaries(results).items()
    if title != 'clean'
  ]
  title = (
    f'{results["dataset"]}, {results["model"]}, {results["method"]}: '
    f'{results["steps"]} steps'
  )
  return f'{title}\n\n{_text(["test set", *heads], rows, means)}'


def compare_table(
  runs: Sequence[dict[str, Any]], *, markdown: bool = False
) -> str:
  """Several runs side by side: a row per figure, a column per run.

  The best of each row is starred (bold in Markdown); lower is better in all.
  A corruption's means are left out where the runs' temperatures differ.

  Raises:
    ValueError: no runs, or runs on different data sets.
  """
  shared = shared_corruptions(runs)
  table = [summaries(run) for run in runs]
  titles = [title for title in table[0] if title.split(',')[0] in shared]
  rows = []
  for title in titles:
    for metric, (head, _) in _METRICS.items():
      if metric not in table[0][title]:
        continue
      values = [column[title][metric] for column in table]
      cells = [_show(metric, value) for value in values]
      known = [value for value in values if math.isfinite(value)]
      if known and len(set(cells)) > 1:
        best = _show(metric, min(known))
        cells = [_mark(c, markdown) if c == best else c for c in cells]
      rows.append([f'{title}: {head}', *cells])
  heads = ['mean over the test set', *(run['method'] for run in runs)]
  return _markdown(heads, rows) if markdown else _text(heads, rows)


def _mean(conditions):
  """Means of the metrics; NaN where a condition lacks a figure."""
  return {
    name: math.fsum(_number(c[name]) for c in conditions) / len(conditions)
    for name in _METRICS
  }


def _number(value):
  """JSON has no NaN, so a figure that could not be had is null there."""
  return math.nan if value is None else value


def _show(name, value):
  value = _number(value)
  return _METRICS[name][1](value) if math.isfinite(value) else '-'


def shared_corruptions(runs: Sequence[dict[str, Any]]) -> set[str]:
  """Corruptions whose means are over the same temperatures in every run.

  Raises:
    ValueError: no runs, or runs on different data sets.
  """
  if not runs:
    raise ValueError('no runs to compare; name at least one')
  for run in runs[1:]:
    if run['dataset'] != runs[0]['dataset']:
      raise ValueError(
        f'runs on {runs[0]["dataset"]!r} and on {run["dataset"]!r} cannot be '
        'compared; name runs on one data set'
      )

  def grid(run):
    temperatures = {}
    for c in run['conditions']:
      temperatures.setdefault(c['corruption'], set()).add(c['t'])
    return temperatures

  grids = [grid(run) for run in runs]
  return {
    name
    for name, temperatures in grids[0].items()
    if all(other.get(name) == temperatures for other in grids)
  }


def _title(condition):
  if condition['corruption'] == 'clean':
    return 'clean'
  return f'{condition["corruption"]}, t = {condition["t"]:g}'


def _cells(row):
  return [_show(name, row[name]) if name in row else '' for name in _METRICS]


def _mark(cell, markdown):
  return f'**{cell}**' if markdown else f'*{cell}'


def _text(heads, *groups):
  """Columns aligned: the first to the left, figures to the right."""
  lines = [heads, *(row for rows in groups for row in rows)]
  widths = [max(len(row[i]) for row in lines) for i in range(len(heads))]

  def line(row):
    figures = (
      cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)
    )
    return '  '.join([row[0].ljust(widths[0]), *figures]).rstrip()

  rule = '-' * (sum(widths) + 2 * (len(widths) - 1))
  parts = [line(heads)]
  for rows in groups:
    if rows:
      parts += [rule, *map(line, rows)]
  return '\n'.join(parts)


def _markdown(heads, rows):
  lines = [heads, ['---', *(['---:'] * (len(heads) - 1))], *rows]
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _commit() -> str:
  """The checkout's commit, with a + if files differ from it."""
  root = Path(__file__).parents[2]
  if not (root / '.git').exists():
    return 'unknown'
  try:
    out = [
      subprocess.run(
        ['git', '-C', str(root), *arguments],
        capture_output=True,
        text=True,
        check=True,
      ).stdout.strip()
      for arguments in (
        ('rev-parse', '--short=12', 'HEAD'),
        ('status', '--porcelain', '--untracked-files=no'),
      )
    ]
  except (OSError, subprocess.CalledProcessError):
    return 'unknown'
  return out[0] + ('+' if out[1] else '')


def main(arguments: Sequence[str]) -> int:
  """Prints the tables of the named workdirs; returns the exit status."""
  markdown = '--markdown' in arguments
  beside = '--temperature_scaling' in arguments
  workdirs = [a for a in arguments if not a.startswith('--')]
  if not workdirs:
    print(
      'usage: python -m mollify_jax.evaluation.reports [--markdown] '
      '[--temperature_scaling] WORKDIR ...'
    )
    return 1
  try:
    runs = [read_results(Path(path) / 'results.json') for path in workdirs]
    if beside:
      runs = with_scaled(runs)
    if len(runs) == 1 and not markdown:
      text = format_table(runs[0])
    else:
      text = compare_table(runs, markdown=markdown)
  except (OSError, ValueError) as error:
    print('error:', errors.describe(error), file=sys.stderr)
    return 1
  print(text)
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
