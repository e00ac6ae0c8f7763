"""Means over seeds by hand, layouts, refusals, and what was not run."""

import copy
import csv
import io
import json
import re
import shutil
import statistics
import subprocess
from pathlib import Path

import pytest

from mollify_jax.corruptions.severities import CORRUPTIONS
from mollify_jax.evaluation import reports, seeds
from mollify_jax.evaluation import seed_tables as tables

POSTER = Path(__file__).parents[2] / 'experiments' / 'poster.json'


def figures(error):
  return {
    'n': 100,
    'error': error,
    'nll': 3 * error,
    'brier': 2 * error,
    'ece': error / 2,
    'gap': -error / 2,
  }


def record(seed=0, error=0.1, method='plain', names=CORRUPTIONS, **fields):
  """Corruption i, from 1, has this error and i in 100 more, at every
  severity."""
  return {
    'format': 1,
    'method': method,
    'dataset': 'cifar10',
    'model': 'small_cnn',
    'steps': 5,
    'data_fingerprint': 'abc',
    'config': {'method': method, 'seed': seed, 'mollify': {'beta_b': 2.0}},
    'conditions': [{'corruption': 'clean', 't': 0.0, **figures(error)}],
    'corrupted': {
      'title': 'cifar10-C',
      'source': 'official files',
      'parameters': 'cifar',
      'seed': None,
      'skipped': {} if 'frost' in names else {'frost': 'no photographs'},
      'cells': [
        {
          'corruption': name,
          'severity': severity,
          **figures(error + (CORRUPTIONS.index(name) + 1) / 100),
        }
        for name in names
        for severity in (1, 2, 3, 4, 5)
      ],
    },
    **fields,
  }


def clean_only(*args, **kwargs):
  run = record(*args, **kwargs)
  del run['corrupted']
  return run


WITHOUT_FROST = tuple(name for name in CORRUPTIONS if name != 'frost')


def rows_of(text):
  """Cells of a Markdown table by the name of the row."""
  lines = [line for line in text.splitlines() if line.startswith('| ')]
  table = [[c.strip() for c in line[2:-1].split(' | ')] for line in lines]
  heads = table[2]
  return {row[0]: dict(zip(heads, row, strict=True)) for row in table[3:]}


def csv_of(text):
  return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def three():
  """Three seeds, and another method of two."""
  return [
    tables.Row('plain', [record(s, e) for s, e in enumerate((0.1, 0.2, 0.4))]),
    tables.Row(
      'better', [record(s, e, 'better') for s, e in ((0, 0.11), (7, 0.12))]
    ),
  ]


def test_means_and_deviations_by_hand(three):
  rows = rows_of(tables.render(three, 'error', 'markdown'))
  deviation = 100 * statistics.stdev([0.1, 0.2, 0.4])
  assert f'{deviation:.2f}' == '15.28'
  assert rows['plain']['seeds'] == '3'
  assert rows['plain']['clean'] == '23.33 ± 15.28'
  assert rows['plain']['shot'] == '25.33 ± 15.28'
  # 23.33 and the mean of 1 to 15; clean included, a sixteenth less.
  assert rows['plain']['mean 15'] == '31.33 ± 15.28'
  assert rows['plain']['mean 16'] == '30.83 ± 15.28'
  assert rows['better']['seeds'] == '2'
  assert rows['better']['clean'] == '**11.50** ± 0.71'
  assert rows['better']['mean 15'] == '**19.50** ± 0.71'


def test_a_deviation_of_means_is_not_a_mean_of_deviations():
  runs = [record(0), record(1)]
  for run, name in zip(runs, ('fog', 'snow'), strict=True):
    for cell in run['corrupted']['cells']:
      cell['error'] += 0.3 * (cell['corruption'] == name)
  rows = rows_of(tables.render([tables.Row('a', runs)], 'error'))
  assert rows['a']['fog'] == '35.00 ± 21.21'
  assert rows['a']['mean 15'] == '20.00 ± 0.00'


def test_columns_stand_in_the_order_of_the_poster(three):
  lines = tables.render(three).splitlines()
  groups = [cell.strip() for cell in lines[2].split('|')[1:-1]]
  assert [group for group in groups if group] == [
    *('noise', 'blur', 'weather', 'digital')
  ]
  heads = [cell.strip() for cell in lines[4].split('|')[1:-1]]
  assert heads[:4] == ['method', 'seeds', 'clean', 'Gauss.']
  assert heads[-3:] == ['JPEG', 'mean 15', 'mean 16']
  assert heads[groups.index('weather')] == 'snow'
  assert len(heads) == 20


def test_one_seed_has_no_deviation():
  text = tables.render([tables.Row('a', [record()])])
  assert rows_of(text)['a']['clean'] == '10.00'
  assert '±' not in text
  assert '**' not in text  # nothing to be better than


def test_ties_are_all_bold():
  rows = [
    tables.Row(title, [record(error=error, method=title)])
    for title, error in (('a', 0.1), ('b', 0.100001), ('c', 0.2))
  ]
  table = rows_of(tables.render(rows))
  assert [table[n]['clean'] for n in 'abc'] == [
    '**10.00**',
    '**10.00**',
    '20.00',
  ]
  table = rows_of(tables.render(rows[:2], 'ece'))
  assert [table[n]['fog'] for n in 'ab'] == ['**0.100**', '**0.100**']


def test_the_best_gap_is_the_nearest_to_zero():
  rows = [
    tables.Row(title, [record(error=error, method=title)])
    for title, error in (('under', 0.3), ('over', -0.2))
  ]
  table = rows_of(tables.render(rows, 'gap'))
  assert table['under']['clean'] == '-0.150'
  assert table['over']['clean'] == '**+0.100**'


@pytest.mark.parametrize('style', tables.STYLES)
def test_a_row_that_was_not_run_says_so(style, three):
  rows = [*three, tables.Row('GPU recipe', [], 'takes 300 epochs')]
  text = tables.render(rows, 'nll', style)
  assert 'takes 300 epochs' in text
  if style == 'markdown':
    row = rows_of(text)['GPU recipe (not run)']
    assert row.pop('seeds') == '0'
    del row['method']
    assert set(row.values()) == {'-'}
    assert '- GPU recipe: not run (takes 300 epochs)' in text
  if style == 'csv':
    found = [row for row in csv_of(text) if row['title'] == 'GPU recipe']
    assert len(found) == 18
    assert {(row['mean'], row['std'], row['n']) for row in found} == {
      ('', '', '0')
    }


@pytest.mark.parametrize('style', tables.STYLES)
def test_nothing_was_run(style):
  text = tables.render([tables.Row('a', [])], 'error', style)
  assert 'not run' in text


def test_without_frost_the_table_says_fourteen():
  runs = [record(seed, names=WITHOUT_FROST) for seed in (0, 1)]
  rows = [tables.Row('a', runs)]
  text = tables.render(rows)
  row = rows_of(text)['a']
  assert row['frost'] == '-'
  mean = 10 + (120 - 9) / 14
  assert row['mean 14 of 15'] == f'{mean:.2f} ± 0.00'
  assert 'mean 15 of 16' in row
  assert 'without frost: no photographs' in text
  found = {
    row['column']: row for row in csv_of(tables.render(rows, style='csv'))
  }
  assert found['mean_15']['count'] == '14'
  assert found['frost']['n'] == '0'


def test_what_one_seed_lacks_is_left_out_of_its_row():
  runs = [record(0), record(1, names=WITHOUT_FROST)]
  text = tables.render([tables.Row('a', runs)])
  assert rows_of(text)['a']['frost'] == '-'
  assert rows_of(text)['a']['mean 14 of 15'].startswith('17.93 ')
  assert 'seed 1: no photographs' in text


def test_means_over_other_corruptions_are_not_ranked():
  rows = [
    tables.Row('a', [record()]),
    tables.Row('b', [record(method='b', error=0.2, names=WITHOUT_FROST)]),
  ]
  text = tables.render(rows)
  table = rows_of(text)
  assert table['a']['mean 15'] == '18.00 (15 of 15)'
  assert table['b']['mean 15'] == '27.93 (14 of 15)'
  assert table['a']['fog'] == '**20.00**'
  assert table['a']['frost'] == '19.00'
  assert 'not ranked' in text


def test_a_run_without_corrupted_test_sets_has_its_clean_figure():
  rows = [
    tables.Row('a', [record(error=0.2)]),
    tables.Row('b', [clean_only(method='b')]),
  ]
  text = tables.render(rows)
  table = rows_of(text)
  assert table['b']['clean'] == '**10.00**'
  assert table['b']['fog'] == table['b']['mean 15'] == '-'
  assert table['a']['mean 15'] == '28.00'
  assert '- b: no corrupted test sets' in text
  text = tables.render(rows[1:])
  assert 'clean test set only' in text
  assert rows_of(text)['b']['mean 15'] == '-'
  rows[1].records[0]['data_fingerprint'] = 'xyz'
  with pytest.raises(ValueError, match="clean images are 'abc' and 'xyz'"):
    tables.render(rows)


def test_a_figure_that_is_null_is_a_dash_in_every_mean_over_it(three):
  cell = three[0].records[1]['corrupted']['cells'][0]
  cell['nll'] = None
  row = rows_of(tables.render(three, 'nll'))['plain']
  assert row['Gauss.'] == row['mean 15'] == row['mean 16'] == '-'
  assert row['shot'] != '-'


def generated(run):
  run = copy.deepcopy(run)
  run['corrupted'].update(title='cifar10-C-like', source='generated', seed=0)
  return run


@pytest.mark.parametrize(
  ('rows', 'message'),
  [
    ([], 'no rows'),
    (
      [('a', [record()]), ('b', [generated(record())])],
      "test sets are 'cifar10-C' and 'cifar10-C-like'",
    ),
    ([('a', [record()]), ('a\n', [])], "two rows are called 'a'"),
    (
      [('a', [record(), record(1, dataset='cifar100')])],
      "data sets are 'cifar10' and 'cifar100'",
    ),
    ([('a', [record(3), record(3)])], "row 'a' has seed 3 twice"),
    (
      [('a', [record(), record(1, method='b')])],
      "differ in more than the seed .method: 'plain' and 'b'",
    ),
    (
      [
        (
          'a',
          [
            record(),
            record(1, config={'method': 'plain', 'seed': 1, 'epochs': 3}),
          ],
        )
      ],
      "epochs: 'absent' and 3; mollify.beta_b: 2.0 and 'absent'",
    ),
    ([('a', [record(), record(1, config=None)])], 'record without a config'),
  ],
)
def test_what_does_not_belong_together_is_refused(rows, message):
  for style in tables.STYLES:
    with pytest.raises(ValueError, match=message) as caught:
      tables.render([tables.Row(*row) for row in rows], 'error', style)
    assert '\n' not in str(caught.value)


def test_unknown_choices_are_named(three):
  with pytest.raises(ValueError, match="unknown metric 'loss'"):
    tables.render(three, 'loss')
  with pytest.raises(
    ValueError, match="unknown style 'word'; choose from mark"
  ):
    tables.render(three, 'error', 'word')
  with pytest.raises(ValueError, match="reference is a table of 'error'"):
    tables.render(three, 'nll', 'markdown', tables.read_reference(POSTER))


def test_the_poster_holds_what_is_known_and_no_more():
  poster = tables.read_reference(POSTER)
  assert poster['metric'] == 'error'
  assert 'not at hand' in poster['source']
  noise = ('gaussian_noise', 'shot_noise', 'impulse_noise')
  assert poster['rows'] == {
    'FCR+TrivialAugment': {
      **{name: [13, 31] for name in noise},
      'mean_15': 12.1,
    },
    'FCR+TrivialAugment + Diffusion': {
      **{name: [6, 7] for name in noise},
      'mean_15': 7.9,
    },
  }


def test_their_figures_stand_below_ours_and_are_never_best(three):
  poster = tables.read_reference(POSTER)
  text = tables.render(three, 'error', 'markdown', poster)
  rows = rows_of(text)
  assert list(rows)[:2] == ['plain', 'better']
  theirs = rows['*[FCR+TrivialAugment + Diffusion (theirs)]*']
  assert theirs['mean 15'] == '*[7.9]*'
  assert theirs['impulse'] == '*[6\u20137]*'
  assert theirs['fog'] == theirs['clean'] == theirs['seeds'] == '-'
  assert rows['better']['mean 15'].startswith('**')  # 7.9 takes no part
  assert 'theirs: cifar10-C, pre-activation ResNet-50, 300 epochs' in text
  assert 'another test set than theirs' not in text
  text = tables.render(
    [tables.Row('a', [generated(record())])], 'error', 'markdown', poster
  )
  assert 'ours is cifar10-C-like: another test set than theirs' in text
  latex = tables.render(three, 'error', 'latex', poster)
  assert '\\textcolor{gray}{FCR+TrivialAugment (theirs)}' in latex
  assert '\\textcolor{gray}{13--31}' in latex
  assert latex.startswith('% needs \\usepackage{booktabs,graphicx,xcolor}')
  page = tables.render(three, 'error', 'html', poster)
  assert page.count('<tr class="theirs">') == 2
  found = [
    row
    for row in csv_of(tables.render(three, 'error', 'csv', poster))
    if row['source'] == 'theirs' and row['title'].endswith('Diffusion')
  ]
  found = {row['column']: row for row in found}
  assert list(found) == list(tables.COLUMNS)
  assert float(found['mean_15']['mean']) == pytest.approx(0.079)
  assert found['shot_noise']['mean'] == ''
  assert float(found['shot_noise']['low']) == pytest.approx(0.06)
  assert float(found['shot_noise']['high']) == pytest.approx(0.07)
  assert found['fog']['mean'] == found['fog']['low'] == ''


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda r: r.pop('source'), 'lacks source'),
    (lambda r: r.update(metric='loss'), "metric is 'loss'"),
    (lambda r: r.update(rows=[]), r'rows is \[\]'),
    (lambda r: r['rows'].update(a=3), "'a' is 3"),
    (lambda r: r['rows'].update(a={'rain': 3}), "column 'rain'"),
    (lambda r: r['rows'].update(a={'fog': [3, 2]}), r'fog of .a. is \[3, 2\]'),
    (lambda r: r['rows'].update(a={'fog': '3'}), "fog of 'a' is '3'"),
    (lambda r: r['rows'].update(a={'fog': True}), 'is True'),
    (lambda r: r.update(model=None), 'model is None'),
  ],
)
def test_a_reference_that_is_none_is_named(tmp_path, change, message):
  reference = json.loads(POSTER.read_text())
  change(reference)
  path = tmp_path / 'table.json'
  path.write_text(json.dumps(reference))
  with pytest.raises(ValueError, match=message) as caught:
    tables.read_reference(path)
  assert '\n' not in str(caught.value)
  for text in ('[', '3'):
    path.write_text(text)
    with pytest.raises(ValueError, match=r'table\.json is'):
      tables.read_reference(path)
  with pytest.raises(FileNotFoundError, match='is missing'):
    tables.read_reference(tmp_path / 'other.json')


def test_csv_is_in_full_and_without_marks(three):
  text = tables.render(three, 'error', 'csv')
  assert '*' not in text
  rows = csv_of(text)
  assert len(rows) == 2 * 18
  assert {row['metric'] for row in rows} == {'error'}
  row = rows[0]
  assert (row['title'], row['seeds'], row['column']) == (
    *('plain', '0 1 2', 'clean'),
  )
  assert float(row['mean']) == pytest.approx(0.7 / 3, abs=1e-15)
  assert float(row['std']) == pytest.approx(statistics.stdev([0.1, 0.2, 0.4]))
  assert row['n'] == '3'
  assert rows[17]['column'] == 'mean_16'
  assert rows[17]['count'] == '16'
  one = csv_of(
    tables.render([three[0]._replace(records=[record()])], style='csv')
  )
  assert one[0]['std'] == ''


NAME = 'a_b & 50% #1 <script>alert(1)</script> | *x* $ ~ ^ \\ {"q"}'


def test_names_are_escaped(three):
  rows = [three[0]._replace(title=NAME, note=NAME), three[1]]
  page = tables.render(rows, 'error', 'html')
  assert '<script' not in page
  assert '&lt;script&gt;alert(1)' in page
  latex = tables.render(rows, 'error', 'latex')
  body = latex.partition('\n')[2]
  assert re.findall(r'(?<!\\)[%#_^~]', body) == []
  markdown = tables.render(rows, 'error', 'markdown')
  table = [line for line in markdown.splitlines() if line.startswith('| ')]
  assert {len(re.findall(r'(?<!\\)\|', line)) for line in table} == {21}
  assert csv_of(tables.render(rows, 'error', 'csv'))[0]['title'] == NAME


def test_latex_is_well_formed(three):
  rows = [*three, tables.Row('c', [])]
  poster = tables.read_reference(POSTER)
  lines = tables.render(rows, 'error', 'latex', poster).splitlines()
  body = [line for line in lines if re.search(r'\\\\(\[.*\])?$', line)]
  assert len(body) == 2 + 2 * 2 + 1 + 2
  for line in body:
    cells = re.split(r'(?<!\\)&', line)
    spans = [re.search(r'\\multicolumn\{(\d+)\}', cell) for cell in cells]
    assert sum(int(span[1]) if span else 1 for span in spans) == 20
  text = '\n'.join(lines)
  assert text.count('{') == text.count('}')
  assert '\\tiny$\\pm$15.28' in text
  assert '\\textbf{11.50}' in text


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which('pdflatex'), reason='no pdflatex here')
def test_latex_compiles_and_fits(three, tmp_path):
  rows = [three[0]._replace(title=NAME, note=NAME), three[1]]
  poster = tables.read_reference(POSTER)
  table = tables.render(rows, 'error', 'latex', poster)
  (tmp_path / 'paper.tex').write_text(
    '\\documentclass[twocolumn]{article}\n'
    '\\usepackage{booktabs,graphicx,xcolor}\n'
    f'\\begin{{document}}\n{table}\n\\end{{document}}\n'
  )
  process = subprocess.run(
    ['pdflatex', '-interaction=nonstopmode', '-halt-on-error', 'paper.tex'],
    cwd=tmp_path,
    capture_output=True,
    text=True,
    check=False,
  )
  assert process.returncode == 0, process.stdout[-2000:]
  assert 'Overfull' not in process.stdout


def write(path, run, name='results.json'):
  path.mkdir(parents=True, exist_ok=True)
  reports.write_json(path / name, run)
  return str(path)


def test_workdirs_are_grouped_by_config_but_seed(tmp_path):
  def with_beta(seed, beta_b, method='plain'):
    config = {'method': method, 'seed': seed, 'mollify': {'beta_b': beta_b}}
    return record(seed, method=method, config=config)

  paths = [
    write(tmp_path / 'a', with_beta(0, 2.0)),
    write(tmp_path / 'b', with_beta(0, 4.0)),
    write(tmp_path / 'c', with_beta(1, 2.0)),
    write(tmp_path / 'd', with_beta(0, 2.0, 'plain + temperature scaling')),
    write(tmp_path / 'e', with_beta(2, 2.0)['config'], 'config.json'),
    write(tmp_path / 'f', {'method': 'g', 'seed': 5}, 'config.json'),
  ]
  rows = tables.group_runs(tables.open_runs(paths))
  assert [row.title for row in rows] == [
    'plain, beta_b=2.0',
    'plain, beta_b=4.0',
    'plain + temperature scaling',
    'g',
  ]
  seeds = [[r['config']['seed'] for r in row.records] for row in rows]
  assert seeds == [[0, 1], [0], [0], []]
  assert [row.note for row in rows] == [
    *('seed 2 has not finished', '', '', 'seed 5 has not finished')
  ]
  text = tables.render(rows)
  assert 'g: not run (seed 5 has not finished)' in text


def test_temperature_scaling_makes_rows_of_its_own(tmp_path, capsys):
  paths = []
  for seed in (0, 1):
    run = record(seed, 0.1 * (seed + 1))
    other = record(seed, 0.05)
    run['temperature_scaling'] = {
      'temperature': 1.5,
      'conditions': other['conditions'],
      'corrupted': other['corrupted'],
    }
    paths.append(write(tmp_path / str(seed), run))
  paths.append(write(tmp_path / 'b', record(method='b')))
  paths.append(write(tmp_path / 'c', record()['config'], 'config.json'))
  (tmp_path / 'c' / 'config.json').write_text('{"method": "c", "seed": 0}')
  assert tables.main(['--metric=error', '--temperature_scaling', *paths]) == 0
  rows = rows_of(capsys.readouterr().out)
  assert list(rows) == [
    *('plain', 'plain + temperature scaling', 'b', 'c (not run)')
  ]
  assert rows['plain']['clean'] == '15.00 ± 7.07'
  assert rows['plain + temperature scaling']['clean'] == '**5.00** ± 0.00'
  assert tables.main(['--temperature_scaling', paths[2]]) == 1
  assert 'no temperature scaling' in capsys.readouterr().err
  assert tables.main(['--temperature_scaling=no', paths[0]]) == 1
  assert 'unknown option' in capsys.readouterr().err


def test_fields_that_came_later_do_not_part_seeds():
  path = POSTER.parent / 'cpu_cifar10' / 'results.json'
  old = json.loads(path.read_text())[0]['config']
  new = {**copy.deepcopy(old), 'profile_steps': 0, 'seed': 3}
  new['data']['evaluate_on'] = 'test'
  assert seeds.telling_fields(old) == seeds.telling_fields(new)
  new['data']['evaluate_on'] = 'validation'
  assert seeds.telling_fields(old) != seeds.telling_fields(new)


def test_command(tmp_path, capsys):
  paths = [
    write(tmp_path / str(s), record(s, e)) for s, e in ((0, 0.1), (1, 0.2))
  ]
  assert tables.main(paths) == 0
  out = capsys.readouterr().out
  assert out.count('lower is better') == 3
  assert '15.00 ± 7.07' in out
  assert tables.main(['--metric=error', f'--reference={POSTER}', *paths]) == 0
  assert '*[12.1]*' in capsys.readouterr().out
  assert tables.main([f'--reference={POSTER}', *paths]) == 0
  assert capsys.readouterr().out.count('*[12.1]*') == 1
  assert tables.main(['--style=csv', *paths]) == 0
  rows = csv_of(capsys.readouterr().out)
  assert [row['metric'] for row in rows[::18]] == ['error', 'nll', 'ece']
  assert len(rows) == 3 * 18
  twice = write(tmp_path / 'twice', record(0))
  empty = tmp_path / 'empty'
  empty.mkdir()
  for arguments, message in (
    ([], 'no workdir; usage: python -m'),
    (['--color=red', *paths], "unknown option '--color=red'"),
    (['--metric', *paths], "unknown option '--metric'"),
    (['--metric=loss', *paths], "unknown metric 'loss'"),
    (['--style=pdf', *paths], "unknown style 'pdf'"),
    (['--reference=none.json', *paths], 'none.json is missing'),
    (
      ['--metric=nll', f'--reference={POSTER}', *paths],
      "reference is a table of 'error'",
    ),
    ([*paths, twice], 'has seed 0 twice'),
    ([str(empty)], 'results.json is missing'),
    ([str(tmp_path / 'nowhere')], 'results.json is missing'),
  ):
    assert tables.main(arguments) == 1
    out, err = capsys.readouterr()
    assert err.startswith('error: ')
    assert message in err
    assert err.count('\n') == 1
    assert out == ''
