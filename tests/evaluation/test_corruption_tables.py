"""Means, layouts and refusals of the corruption tables, computed by hand."""

import csv
import json
import math
import os
import re

import pytest

from mollify_jax.corruptions.severities import CORRUPTIONS, EXTRA_CORRUPTIONS
from mollify_jax.evaluation import corruption_tables as tables
from mollify_jax.evaluation import reports

HOW = 'put the frost textures beside the data'
BINS = {'count': [1] * 16, 'confidence': [0.5] * 16, 'correct': [0] * 16}


def figures(error):
  return {
    'n': 100,
    'error': error,
    'nll': 3 * error,
    'brier': 2 * error,
    'ece': error / 2,
    'adaptive_ece': error / 4,
    'classwise_ece': error / 8,
    'gap': -error / 2,
    'confidence': 1 - error / 2,
    'ece_batch100': error / 2 + 0.05,
    'bins': BINS,
  }


def error_at(index, severity):
  """Of the corruption at this position: 0.01, 0.02, ... plus the severity."""
  return (index + 1) / 100 + severity / 10


def record(method='plain', *, names=CORRUPTIONS, shift=0.0, **corrupted):
  order = CORRUPTIONS + EXTRA_CORRUPTIONS
  return {
    'format': 1,
    'method': method,
    'dataset': 'cifar10',
    'model': 'small_cnn',
    'steps': 5,
    'num_classes': 10,
    'conditions': [
      {'corruption': 'noise', 't': 0.5, **figures(0.9)},
      {'corruption': 'clean', 't': 0.0, **figures(0.05)},
    ],
    'corrupted': {
      'title': 'cifar10-C',
      'source': 'official files',
      'parameters': 'cifar',
      'seed': None,
      'skipped': {},
      'cells': [
        {
          'corruption': name,
          'severity': severity,
          **figures(error_at(order.index(name), severity) + shift),
        }
        # Not in the published order, which the tables restore.
        for severity in (5, 4, 3, 2, 1)
        for name in reversed(names)
      ],
      **corrupted,
    },
  }


def without(*names):
  return tuple(name for name in CORRUPTIONS if name not in names)


def without_frost(method='plain', **kwargs):
  return record(
    method, names=without('frost'), skipped={'frost': HOW}, **kwargs
  )


def generated(method='plain', **kwargs):
  about = {'title': 'cifar10-C-like', 'source': 'generated', 'seed': 0}
  return record(method, **{**about, **kwargs})


def cell_of(results, name, severity):
  (cell,) = (
    c
    for c in results['corrupted']['cells']
    if (c['corruption'], c['severity']) == (name, severity)
  )
  return cell


def row_of(text, start):
  (line,) = (t for t in text.splitlines() if t.strip().startswith(start))
  return line


def test_means_by_hand():
  # Over severities, corruption i (from 1) has i / 100 + 0.3.
  summary = tables.summarize(record(names=CORRUPTIONS + EXTRA_CORRUPTIONS))
  assert list(summary['corruptions']) == [*CORRUPTIONS, *EXTRA_CORRUPTIONS]
  assert summary['corruptions']['shot_noise']['error'] == pytest.approx(0.32)
  assert summary['corruptions']['shot_noise']['gap'] == pytest.approx(-0.16)
  assert summary['clean']['error'] == 0.05
  groups = {g: row['error'] for g, row in summary['groups'].items()}
  assert groups == {
    'noise': pytest.approx(0.32),  # (31 + 32 + 33) / 3
    'blur': pytest.approx(0.355),  # (34 + 35 + 36 + 37) / 4
    'weather': pytest.approx(0.395),
    'digital': pytest.approx(0.435),
  }
  assert summary['mean_15']['error'] == pytest.approx(0.38)
  assert summary['mean_15']['nll'] == pytest.approx(3 * 0.38)
  assert summary['mean_16']['error'] == pytest.approx((15 * 0.38 + 0.05) / 16)
  assert summary['mean_extra']['error'] == pytest.approx(0.475)  # 16 to 19
  counts = [
    (summary[m]['count'], summary[m]['of'])
    for m in ('mean_15', 'mean_16', 'mean_extra')
  ]
  assert counts == [(15, 15), (16, 16), (4, 4)]
  severities = summary['severities']
  assert [row['severity'] for row in severities] == [0, 1, 2, 3, 4, 5]
  assert [row['error'] for row in severities] == [
    pytest.approx(e) for e in (0.05, 0.18, 0.28, 0.38, 0.48, 0.58)
  ]
  assert severities[5]['ece'] == pytest.approx(0.29)
  assert summary['left_out'] == {}
  mce = summary['mce']
  assert not mce['normalized']
  assert mce['mce'] == pytest.approx(0.38)
  assert mce['relative_mce'] == pytest.approx(0.33)


def test_mce_of_imagenet_is_relative_to_alexnet():
  alexnet = (88.6428, 89.4468, 92.264, 81.988, 82.6268, 78.5948, 79.836)
  alexnet += (86.6816, 82.6572, 81.9324, 56.4592, 85.3204, 64.6056)
  alexnet += (71.784, 60.65)
  shares = range(60, 90, 2)  # of AlexNet's errors, in percent
  run = record(title='imagenet-C', parameters='imagenet')
  run['dataset'] = 'imagenet'
  for cell in run['corrupted']['cells']:
    index = CORRUPTIONS.index(cell['corruption'])
    # The mean over severities is what counts, not each of them.
    spread = (cell['severity'] - 3) / 100
    cell['error'] = shares[index] * alexnet[index] / 1e4 + spread
  run['conditions'][1]['error'] = 0.239
  mce = tables.summarize(run)['mce']
  assert mce['normalized']
  assert mce['mce'] == pytest.approx(0.74)  # (60 + 62 + ... + 88) / 15
  relative = sum(
    (share * error / 100 - 23.9) / (error - 43.5)
    for share, error in zip(shares, alexnet, strict=True)
  )
  assert mce['relative_mce'] == pytest.approx(relative / 15)
  line = row_of(tables.format_run(run), 'mCE')
  assert line.startswith(f'mCE 74.00, relative mCE {100 * relative / 15:.2f} (')
  assert line.endswith("(% of AlexNet's; 15 of 15 corruptions)")
  table = tables.compare_runs([run])
  assert row_of(table, 'method').endswith('mCE')
  assert row_of(table, 'plain').endswith(' 74.00')
  assert "mCE: in % of AlexNet's errors" in table
  assert 'mCE' not in tables.compare_runs([run], 'nll')
  run['corrupted']['cells'] = [
    c for c in run['corrupted']['cells'] if c['corruption'] != 'frost'
  ]
  mce = tables.summarize(run)['mce']
  assert mce['mce'] == pytest.approx((15 * 74 - 76) / 14 / 100)
  assert 'mCE, 14 of 15' in tables.compare_runs([run])


@pytest.mark.parametrize(
  ('dataset', 'title', 'source'),
  [
    ('imagenet', 'imagenet-C-like', 'generated'),
    ('tiny_imagenet', 'tiny_imagenet-C', 'official files'),
    ('cifar10', 'cifar10-C', 'tfds'),
  ],
)
def test_mce_elsewhere_is_the_mean_error(dataset, title, source):
  run = {**record(title=title, source=source), 'dataset': dataset}
  summary = tables.summarize(run)
  assert not summary['mce']['normalized']
  assert summary['mce']['mce'] == summary['mean_15']['error']
  assert 'unnormalised' in tables.format_run(run)
  assert 'mCE' not in tables.compare_runs([run])


def test_without_frost_every_table_says_fourteen():
  run = without_frost()
  summary = tables.summarize(run)
  assert summary['left_out']['frost'] == HOW
  mean = (15 * 0.38 - 0.39) / 14  # frost is the ninth
  assert summary['mean_15']['error'] == pytest.approx(mean)
  assert summary['mean_15']['count'] == 14
  assert summary['mean_16']['error'] == pytest.approx((14 * mean + 0.05) / 15)
  assert summary['groups']['weather']['count'] == 3
  assert summary['severities'][1]['error'] == pytest.approx(mean - 0.2)
  assert (summary['mce']['count'], summary['mce']['of']) == (14, 15)
  text = tables.format_run(run)
  assert row_of(text, 'mean 14 of 15 ').split()[4] == f'{100 * mean:.2f}'
  assert row_of(text, 'mean 15 of 16 ')
  assert row_of(text, 'weather, 3 of 4')
  assert row_of(text, 'means over 14 of 15')
  assert '14 of 15 corruptions)' in row_of(text, 'mCE')
  assert set(row_of(text, 'frost').split()[1:]) == {'-'}
  assert f'without frost: {HOW}' in text.splitlines()
  assert 'mean 15 ' not in text.replace('mean 15 of', '')
  for style in tables.STYLES:
    for runs in ([run], [run, without_frost('other', shift=0.01)]):
      table = tables.compare_runs(runs, 'error', style)
      assert 'mean 14 of 15' in table
      assert 'mean 15 of 16' in table
      assert f'without frost: {HOW}' in table
  assert 'mean 14 of 15' in tables.format_run(run, 'markdown')


def test_a_corruption_is_never_averaged_over_four_severities():
  run = record()
  run['corrupted']['cells'].remove(cell_of(run, 'fog', 5))
  summary = tables.summarize(run)
  assert 'fog' not in summary['corruptions']
  assert summary['left_out']['fog'] == 'severity 5 missing'
  assert summary['mean_15']['count'] == 14
  mean = (15 * 0.38 - 0.40) / 14
  assert summary['mean_15']['error'] == pytest.approx(mean)
  # Nor does it count at the four severities that it has.
  assert summary['severities'][1]['error'] == pytest.approx(mean - 0.2)
  text = tables.format_run(run)
  assert 'without fog: severity 5 missing' in text
  assert set(row_of(text, 'fog').split()[1:]) == {'-'}


@pytest.mark.parametrize('missing', [None, math.nan, math.inf])
def test_a_figure_that_is_missing_is_a_dash_and_in_no_mean(missing):
  run = record()
  cell_of(run, 'fog', 2)['nll'] = missing
  run['conditions'][1]['brier'] = missing
  text = tables.format_run(run)
  assert row_of(text, 'fog').split()[2] == '-'
  assert row_of(text, 'fog').split()[1] == '40.00'
  assert row_of(text, 'mean 15 ').split()[3] == '-'
  assert row_of(text, 'mean noise').split()[3] == '0.960'
  assert row_of(text, 'severity 2').split()[3] == '-'
  assert row_of(text, 'clean').split()[3] == '-'
  for runs in ([run, record('other')], [record('other'), run]):
    line = row_of(tables.compare_runs(runs, 'nll'), run['method']).split()
    assert line[11] == '-'
    line = row_of(tables.compare_runs(runs, 'nll'), 'other').split()
    assert line[11] == '*1.200'


def test_a_record_of_before_a_metric_was_known_has_dashes():
  run = record()
  for figures in (*run['corrupted']['cells'], *run['conditions']):
    del figures['adaptive_ece']
  assert row_of(tables.format_run(run), 'snow').split()[5] == '-'


def test_one_run_as_text():
  names = CORRUPTIONS + EXTRA_CORRUPTIONS
  text = tables.format_run(record(names=names))
  lines = text.splitlines()
  assert lines[0] == 'cifar10, small_cnn, plain: cifar10-C (official files)'
  assert max(map(len, lines)) <= 80
  starts = [line.strip() for line in lines]
  order = [
    *('clean', 'noise', 'gaussian noise', 'blur', 'defocus blur', 'weather'),
    *('snow', 'digital', 'contrast', 'elastic', 'jpeg', 'extra: for choosing'),
    *('speckle noise', 'saturate', 'means over severities', 'mean noise'),
    *('mean 15', 'mean 16', 'mean extra', 'severity 0', 'severity 5', 'mCE'),
  ]
  found = [
    next(i for i, line in enumerate(starts) if line.startswith(title))
    for title in order
  ]
  assert found == sorted(found)
  assert row_of(text, 'jpeg').split() == [
    *('jpeg', '45.00', '1.350', '0.900', '0.225', '0.113', '0.056'),
    *('-0.225', '0.275'),
  ]
  assert 'for reporting' in text
  assert 'gap: confidence - accuracy; above 0 is over-confident' in text
  assert "* ECE, mean over batches of 100 (the authors' way; inflated)" in text
  assert lines[4].split()[-1] == 'ECE*'
  assert 'extra' not in tables.format_run(record())


def test_extras_alone_have_no_empty_benchmark():
  run = record(names=EXTRA_CORRUPTIONS)
  summary = tables.summarize(run)
  assert summary['mean_15']['count'] == 0
  assert math.isnan(summary['mean_15']['error'])
  assert math.isnan(summary['mean_16']['error'])
  for style in ('text', 'markdown'):
    text = tables.format_run(run, style)
    assert 'mean extra' in text
    for title in ('mean 15', 'fog', 'weather', 'mCE', 'without', '0 of'):
      assert title not in text
  with pytest.raises(ValueError, match='none of the fifteen'):
    tables.compare_runs([run])


def test_one_run_as_markdown():
  text = tables.format_run(record('a|b'), 'markdown')
  table = [line for line in text.splitlines() if line.startswith('| ')]
  assert {line.count('|') for line in table} == {10}
  assert '| snow | 38.00 | 1.140 |' in text
  assert text.startswith('cifar10, small_cnn, a\\|b:')
  with pytest.raises(ValueError, match="as 'latex'; choose from text"):
    tables.format_run(record(), 'latex')


def test_runs_side_by_side_in_the_layout_of_the_poster():
  runs = [record(), record('better', shift=-0.02)]
  cell_of(runs[0], 'snow', 1)['error'] -= 0.2  # 38 -> 34: better than 36
  lines = tables.compare_runs(runs).splitlines()
  assert (
    lines[0] == 'cifar10: error %, lower is better; cifar10-C (official files)'
  )
  assert re.findall(r'[a-z]+', lines[2]) == [
    *('noise', 'blur', 'weather', 'digital')
  ]
  heads = re.split(r'  +', lines[3])
  assert heads[0:3] == ['method', 'clean', 'Gauss.']
  assert heads[16:] == ['JPEG', 'mean 15', 'mean 16']
  assert len(heads) == 19
  # Each group heading starts where its first column may, and ends with it.
  assert lines[2].index('- noise') < lines[3].index('shot')
  assert lines[2].rindex('-') + 1 == lines[3].index('JPEG') + 4
  plain, better = (re.split(r'  +', line) for line in lines[5:7])
  assert plain[:3] == ['plain', '5.00', '31.00']
  assert better[:3] == ['better', '5.00', '*29.00']  # equal: none is best
  assert (plain[9], better[9]) == ('*34.00', '36.00')
  assert (plain[17], better[17]) == ('37.73', '*36.00')
  markdown = tables.compare_runs(runs, 'ece', 'markdown')
  assert '| better | 0.025 | **0.145** |' in markdown
  table = [line for line in markdown.splitlines() if line.startswith('| ')]
  assert {line.count('|') for line in table} == {20}
  assert 'cifar10: ECE' in markdown


def test_the_best_gap_is_the_nearest_to_zero():
  runs = [record(), record('over')]
  cell_of(runs[1], 'fog', 1)['gap'] += 0.9  # mean -0.200 -> -0.020
  cell_of(runs[1], 'snow', 1)['gap'] += 2.9  # mean -0.190 -> +0.390
  plain, over = (
    row_of(tables.compare_runs(runs, 'gap'), name).split()
    for name in ('plain', 'over')
  )
  assert (plain[11], over[11]) == ('-0.200', '*-0.020')
  assert (plain[9], over[9]) == ('*-0.190', '+0.390')
  assert 'nearest to 0' in tables.compare_runs(runs, 'gap')


def unescaped(text, letters):
  return re.findall(rf'(?<!\\)[{re.escape(letters)}]', text)


def latex_columns(line):
  """How many columns a line of a tabular fills."""
  cells = re.split(r'(?<!\\)&', line.removesuffix('\\\\'))
  spans = [re.search(r'\\multicolumn\{(\d+)\}', cell) for cell in cells]
  return sum(int(span[1]) if span else 1 for span in spans)


def test_latex_is_well_formed():
  runs = [
    without_frost('a_b & 50% #1 {x} ~ ^ \\ $ "q" --option'),
    without_frost('better', shift=-0.02),
  ]
  table = tables.compare_runs(runs, 'error', 'latex')
  lines = table.splitlines()
  assert lines[0] == '% needs \\usepackage{booktabs,graphicx}'
  body = '\n'.join(lines[1:])
  assert unescaped(body, '%#$_^~') == []
  row = (
    'a\\_b \\& 50\\% \\#1 \\{x\\} \\textasciitilde{} \\textasciicircum{} '
    "\\textbackslash{} \\$ ''q'' -{}-option & 5.00 & 31.00 &"
  )
  assert row in body
  braces = re.sub(r'\\[{}]', '', body)
  assert braces.count('{') == braces.count('}')
  (spec,) = re.findall(r'begin\{tabular\}\{(l?r+)\}', body)
  assert len(spec) == 19
  rows = [line for line in lines if line.endswith('\\\\')]
  assert len(rows) == 4
  assert {latex_columns(line) for line in rows} == {19}
  for group, width in (('noise', 3), ('blur', 4), ('weather', 4)):
    assert f'\\multicolumn{{{width}}}{{c}}{{{group}}}' in rows[0]
  rules = re.findall(r'\\cmidrule\(lr\)\{(\d+)-(\d+)\}', body)
  assert rules == [('3', '5'), ('6', '9'), ('10', '13'), ('14', '17')]
  assert rows[3].count('\\textbf{29.00}') == 1
  assert ' & -- & ' in rows[3]  # frost
  for name in ('toprule', 'midrule', 'bottomrule'):
    assert body.count(f'\\{name}') == 1
  assert 'error \\%' in body
  gap = tables.compare_runs(runs, 'gap', 'latex')
  assert '$-$0.155' in gap


def test_means_over_other_corruptions_are_not_ranked():
  runs = [record(), without_frost('other')]
  table = tables.compare_runs(runs)
  assert row_of(table, 'plain').endswith('38.00 (15 of 15)  35.94 (16 of 16)')
  assert row_of(table, 'other   ').endswith(
    '37.93 (14 of 15)  35.73 (15 of 16)'
  )
  assert 'not ranked' in table
  assert f'other without frost: {HOW}' in table


def test_runs_of_several_models_are_told_apart():
  runs = [record(), {**record(), 'model': 'wide'}]
  table = tables.compare_runs(runs)
  assert row_of(table, 'plain, small_cnn')
  assert row_of(table, 'plain, wide')


@pytest.mark.parametrize('style', tables.STYLES)
def test_generated_images_are_called_so(style):
  runs = [generated(), generated('other', seed=1)]
  table = tables.compare_runs(runs, 'error', style)
  assert 'cifar10-C-like (generated, cifar parameters, seed 0, 1)' in table
  assert 'not to be compared with figures on cifar10-C' in table
  assert 'not to be compared' not in tables.compare_runs([record()])
  if style != 'latex':
    assert 'not to be compared' in tables.format_run(runs[0], style)


@pytest.mark.parametrize(
  ('other', 'message'),
  [
    (generated(), "test sets are 'cifar10-C' and 'cifar10-C-like'"),
    ({**record(), 'dataset': 'cifar100'}, "data sets are 'cifar10' and"),
  ],
)
def test_other_test_sets_are_refused(other, message):
  for style in tables.STYLES:
    with pytest.raises(ValueError, match=message) as caught:
      tables.compare_runs([record(), record(), other], 'error', style)
    assert '\n' not in str(caught.value)


def test_other_images_of_one_name_are_refused():
  with pytest.raises(ValueError, match="parameters are 'cifar' and 'imagenet'"):
    tables.compare_runs([generated(), generated(parameters='imagenet')])
  small = record('small')
  for cell in small['corrupted']['cells']:
    cell['n'] = 7
  with pytest.raises(ValueError, match='numbers of images are 100 and 7'):
    tables.compare_runs([record(), small])
  # One and the same files, read in two ways.
  runs = [record(), record('tfds', source='tfds', parameters=None)]
  assert '(official files, tfds)' in tables.compare_runs(runs)


def spoil(change):
  run = record()
  change(run)
  return run


@pytest.mark.parametrize(
  ('run', 'message'),
  [
    (spoil(lambda r: r.pop('corrupted')), 'has no corrupted test sets'),
    (spoil(lambda r: r['corrupted'].clear()), 'has no corrupted test sets'),
    (
      spoil(lambda r: r['corrupted']['cells'].clear()),
      'has no corrupted test sets',
    ),
    (spoil(lambda r: r['conditions'].pop()), "'plain' has no clean condition"),
    (
      spoil(lambda r: r['corrupted']['cells'][0].update(corruption='rain')),
      r"has a cell \('rain', 5\)",
    ),
    (
      spoil(lambda r: r['corrupted']['cells'][0].update(severity=6)),
      r"has a cell \('jpeg_compression', 6\)",
    ),
    (
      spoil(lambda r: r['corrupted']['cells'][0].update(severity=4)),
      r"the cell \('jpeg_compression', 4\) twice",
    ),
  ],
)
def test_damaged_records_are_named(tmp_path, run, message):
  for use in (
    tables.summarize,
    tables.format_run,
    lambda run: tables.compare_runs([run]),
    lambda run: tables.write_tables(tmp_path, run),
  ):
    with pytest.raises(ValueError, match=message):
      use(run)
  assert list(tmp_path.iterdir()) == []


def test_unknown_choices_are_named():
  with pytest.raises(
    ValueError, match="unknown metric 'loss'; choose from err"
  ):
    tables.compare_runs([record()], 'loss')
  with pytest.raises(ValueError, match="unknown style 'html'; choose from tex"):
    tables.compare_runs([record()], style='html')
  with pytest.raises(ValueError, match='no runs to compare'):
    tables.compare_runs([])


def test_csv_holds_every_figure_in_full(tmp_path):
  path = tmp_path / 'corruptions.csv'
  run = record('a, "b"', names=CORRUPTIONS + EXTRA_CORRUPTIONS)
  third = cell_of(run, 'gaussian_noise', 1)
  third['error'] = 1 / 3
  third['nll'] = None
  tables.write_csv(path, run)
  assert path.stat().st_mode & 0o777 == 0o644
  assert b'\r' not in path.read_bytes()
  with path.open(newline='') as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == 1 + 19 * 5
  assert (rows[0]['corruption'], rows[0]['severity']) == ('clean', '0')
  keys = [(row['corruption'], int(row['severity'])) for row in rows[1:]]
  assert keys == [
    (name, s) for name in CORRUPTIONS + EXTRA_CORRUPTIONS for s in range(1, 6)
  ]
  assert rows[1]['nll'] == ''
  assert rows[1]['error'] == '0.3333333333333333'
  for row, key in zip(rows[1:], keys, strict=True):
    assert row['method'] == 'a, "b"'
    assert row['title'] == 'cifar10-C'
    cell = cell_of(run, *key)
    assert set(row) == {*cell, 'dataset', 'model', 'method', 'title'} - {'bins'}
    for name in set(cell) - {'corruption', 'severity', 'bins'}:
      value = float(row[name]) if row[name] else None
      assert value == cell[name]
  for name, value in figures(0.05).items():
    assert name == 'bins' or float(rows[0][name]) == value


def test_tables_are_written_whole(tmp_path):
  tables.write_tables(tmp_path, without_frost())
  assert sorted(p.name for p in tmp_path.iterdir()) == [
    *('corruptions.csv', 'corruptions.md', 'corruptions.tex')
  ]
  latex = (tmp_path / 'corruptions.tex').read_text()
  assert latex.count('\\begin{tabular}') == 3
  for title in ('error \\%', 'NLL', 'ECE'):
    assert f'cifar10: {title}, lower' in latex
  markdown = (tmp_path / 'corruptions.md').read_text()
  assert markdown == tables.format_run(without_frost(), 'markdown') + '\n'


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
  tables.write_tables(tmp_path, record())
  before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

  def fail(*_):
    raise OSError('disk full')

  for name in ('replace', 'fdopen'):
    with monkeypatch.context() as patch:
      patch.setattr(os, name, fail)
      with pytest.raises(OSError, match='disk full'):
        tables.write_tables(tmp_path, record(shift=0.1))
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_what_json_keeps_is_enough(tmp_path):
  path = tmp_path / 'results.json'
  run = record()
  cell_of(run, 'fog', 1)['ece'] = math.nan
  reports.write_json(path, run)
  read = json.loads(path.read_text())
  assert tables.format_run(read) == tables.format_run(run)


def test_command(tmp_path, capsys):
  runs = {'plain': record(), 'like': generated(), 'better': record('better')}
  runs['better'] = record('better', shift=-0.02)
  for name, run in runs.items():
    (tmp_path / name).mkdir()
    reports.write_json(tmp_path / name / 'results.json', run)
  plain, like, better = (str(tmp_path / n) for n in ('plain', 'like', 'better'))
  assert tables.main([plain]) == 0
  assert capsys.readouterr().out == tables.format_run(runs['plain']) + '\n'
  assert tables.main(['--style=markdown', plain]) == 0
  assert '| snow | 38.00' in capsys.readouterr().out
  assert tables.main(['--style=latex', plain]) == 0
  assert capsys.readouterr().out.count('\\toprule') == 3
  assert tables.main([plain, better]) == 0
  assert capsys.readouterr().out.count('lower is better') == 3
  assert tables.main(['--metric=brier', plain, better]) == 0
  out = capsys.readouterr().out
  table = tables.compare_runs([runs['plain'], runs['better']], 'brier')
  assert out == f'{table}\n'
  for arguments, message in (
    ([plain, like], "'cifar10-C' and 'cifar10-C-like'"),
    (['--metric=loss', plain], "unknown metric 'loss'"),
    (['--style=html', plain, better], "unknown style 'html'"),
    (['--style=html', plain], "shown as 'html'"),
    (['--colour=red', plain], "unknown option '--colour=red'"),
    (['--metric', plain], "unknown option '--metric'"),
    ([str(tmp_path / 'nowhere')], 'results.json is missing'),
    ([], 'usage: python -m'),
  ):
    assert tables.main(arguments) == 1
    out, err = capsys.readouterr()
    assert message in err
    assert err.count('\n') == 1
    assert out == ''
