"""Which runs a table is made of, and what is written of them."""

import copy
import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import ablations, augmentations, table1, tables
from experiments.sweep import Sweep

ROOT = Path(__file__).parents[2]
CIFAR10 = str(ROOT / 'configs' / 'cifar10.py')
DIGITS = str(ROOT / 'configs' / 'digits.py')


def recipe(config=CIFAR10, seeds=(0,), flags=(), groups=()):
  return tables.Recipe(config, seeds, flags, groups)


def test_table1_has_the_four_methods_and_fits_where_images_are_held_out():
  rows = table1.make_rows(recipe(seeds=(0, 1)))
  assert [row.title for row in rows] == [
    'FCR + TrivialAugment',
    '+ Diffusion',
    '+ Blur',
    '+ Diffusion + Blur',
  ]
  roles = [row.jobs[1].config()['mollify']['roles'] for row in rows]
  assert roles == [
    ('clean',),
    ('clean', 'noise'),
    ('clean', 'blur'),
    ('clean', 'noise', 'blur'),
  ]
  config = rows[0].jobs[1].config()
  assert config['seed'] == 1
  assert config['epochs'] == 300
  assert config['augment'][-1] == 'trivial_augment_wide'
  held_out = ('--config.data.validation_fraction=0.1',)
  *_, fitted = table1.make_rows(recipe(flags=held_out))
  assert fitted.jobs[0].needs == 'diffusion_blur-seed0'
  assert table1.make_rows(recipe(DIGITS))[0].title == 'Plain'


@pytest.mark.parametrize('budget', ['cpu', 'fast'])
@pytest.mark.parametrize('dataset', tables.DATASETS)
def test_budgets_are_valid_for_every_data_set(dataset, budget):
  budgets = tables.DIGITS_BUDGETS if dataset == 'digits' else tables.BUDGETS
  flags = tuple(f'--config.{field}' for field in budgets[budget])
  config = str(ROOT / 'configs' / f'{dataset}.py')
  plain = recipe(config, flags=flags).plain()
  assert plain['data']['validation_fraction'] == 0.1


def test_eight_augmentations_with_and_without():
  rows = augmentations.make_rows(recipe())
  assert len(rows) == 16
  steps = {row.title: row.jobs[0].config()['augment'] for row in rows}
  assert steps['No augmentation'] == ()
  assert steps['FCR, mollified'] == ('flip', 'crop', 'rotate')
  assert steps['FCR + CutMix'] == ('flip', 'crop', 'rotate', 'cutmix')
  assert len({json.dumps(s) for s in steps.values()}) == 8
  with pytest.raises(ValueError, match='has no augmentations to choose from'):
    augmentations.make_rows(recipe(DIGITS))


def test_ablations_change_one_thing_and_share_equal_runs():
  rows = ablations.make_rows(recipe())
  jobs = {job.directory: job.config() for row in rows for job in row.jobs}
  base = recipe().row('x', 'x', variant='diffusion_blur').jobs[0].config()

  def changed(config):
    flat = {
      **config,
      **{f'mollify.{k}': v for k, v in config['mollify'].items()},
    }
    flat.pop('mollify')
    flat.pop('method')
    return flat

  counts = {}
  for config in jobs.values():
    config, other = changed(config), changed(base)
    fields = frozenset(key for key in config if config[key] != other[key])
    counts[fields] = counts.get(fields, 0) + 1
  powers = ('mollify.noise_power', 'mollify.blur_power')
  assert (
    counts
    == {
      frozenset(): 1,  # shared by all groups
      frozenset({'mollify.roles'}): 5,
      frozenset({'mollify.beta_b'}): 3,
      frozenset(powers): 9,
      frozenset(powers[:1]): 3,
      frozenset(powers[1:]): 3,
      frozenset({'mollify.label_rule'}): 3,
      frozenset({'loss'}): 1,
      frozenset({'mollify.assignment'}): 1,
      frozenset({'draws_per_image'}): 3,
    }
  )
  assert len([row for row in rows if row.jobs[0].name == 'base']) == 7
  assert 'noise_power=0.5,blur_power=2-seed0' in jobs
  assert 'roles=noise-blur-seed0' in jobs
  some = ablations.make_rows(recipe(groups=('loss', 'draws')))
  assert {row.group for row in some} == {'loss', 'draws'}
  with pytest.raises(ValueError, match="unknown --group='luck'; choose from"):
    ablations.make_rows(recipe(groups=('luck',)))


def test_flags_of_the_setting_win_over_the_users_and_those_over_the_budget():
  flags = ('--config.epochs=6', '--config.epochs=7', '--config.loss=bad')
  row = recipe(flags=flags).row(
    'x', 'x', variant='plain', fields={'loss': 'cross_entropy'}
  )
  config = row.jobs[0].config()
  assert config['epochs'] == 7
  assert config['loss'] == 'cross_entropy'


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--dataset=mnist', '--workdir=x'], "choice: 'mnist'"),
    (['--dataset=digits'], '--workdir'),
    (['--workdir=x'], '--dataset'),
    (['--dataset=digits', '--workdir=x', '--shard=3/2'], 'wanted I/N with'),
    (['--dataset=digits', '--workdir=x', '--seeds=0'], 'must be >= 1'),
    (['--dataset=digits', '--workdir=x', '--epochs=3'], 'unknown flag'),
    (
      ['--dataset=digits', '--workdir=x', '--config.epoch=3'],
      'unknown config field',
    ),
    (
      ['--dataset=digits', '--workdir=x', '--config.epochs=0'],
      'config.epochs must be >= 1',
    ),
    (['--config=none.py', '--workdir=x'], 'none.py'),
  ],
)
def test_bad_flags_are_one_line(
  tmp_path, monkeypatch, capsys, arguments, message
):
  monkeypatch.chdir(tmp_path)
  status = tables.main('table1', '', table1.make_rows, arguments)
  assert status == 1
  error = capsys.readouterr().err
  assert error.startswith('error: ')
  assert len(error.splitlines()) == 1
  assert message in error
  assert list(tmp_path.iterdir()) == []


def test_a_table_without_runs_says_so(tmp_path):
  arguments = ['--dataset=cifar10', f'--workdir={tmp_path}', '--tables_only']
  assert tables.main('table1', '', table1.make_rows, arguments) == 0
  text = (tmp_path / 'table1.md').read_text()
  assert text.count('not run') >= 4
  assert '12.1' in text  # the authors' own figure
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    'table1.csv',
    'table1.html',
    'table1.md',
    'table1.tex',
  ]


def test_a_table_is_written_of_whatever_is_finished(tmp_path):
  """Seeds 1 and 2 of one method, and a fitted row whose seeds' knots differ."""
  path = ROOT / 'experiments' / 'cpu_cifar10' / 'results.json'
  records = {run['method']: run for run in json.loads(path.read_text())}
  flags = ('--config.data.validation_fraction=0.1',)
  rows = table1.make_rows(recipe(DIGITS, (0, 1, 2), flags))
  jobs = [job for row in rows for job in row.jobs]
  for job in jobs:
    config = job.config()
    if job.seed == 0 or job.name not in ('blur', 'diffusion_blur_fitted'):
      continue
    record = copy.deepcopy(records[job.argument.rpartition(':')[2]])
    if job.fitted_on:
      config['fitted_on'] = job.fitted_on
      config['mollify'].update(
        noise_gamma_knots=(0.0, job.seed / 3), noise_power=1.0
      )
    record.update(config=config, method=config['method'])
    (tmp_path / job.directory).mkdir()
    (tmp_path / job.directory / 'results.json').write_text(json.dumps(record))
  sweep = Sweep(jobs, tmp_path)
  text = tables.write_tables('table1', sweep, rows, tmp_path)
  lines = [line for line in text.splitlines() if line.startswith('| +')]
  assert lines[1].startswith('| + Blur | 2 |')
  assert lines[3].startswith('| + Diffusion + Blur, fitted labels | 2 |')
  assert 'seed 0 waiting' in text
  for name in ('severities.png', 'temperatures.png', 'table1_results.json'):
    assert (tmp_path / name).exists()


def test_digits_get_their_own_budget_by_whatever_name():
  arguments = [f'--config={DIGITS}', '--workdir=x', '--budget=fast']
  _, found = tables._parse('table1', '', arguments, False)
  assert found.plain()['model'] == 'small_cnn'


@pytest.mark.slow
def test_the_whole_of_it_on_digits(tmp_path):
  """Five methods, two seeds, fitted labels and temperatures, four styles."""
  command = [
    *(sys.executable, '-m', 'experiments.table1', '--dataset=digits'),
    *(f'--workdir={tmp_path}', '--budget=fast', '--seeds=2'),
  ]
  process = subprocess.run(
    command, cwd=ROOT, capture_output=True, text=True, check=False
  )
  assert process.returncode == 0, process.stderr[-3000:]
  assert '10 of 10 runs finished' in process.stdout
  with (tmp_path / 'table1.csv').open() as file:
    lines = list(csv.DictReader(file))
  clean = [x for x in lines if x['column'] == 'clean' and x['metric'] == 'ece']
  titles = [x['title'] for x in clean]
  assert '+ Diffusion + Blur, fitted labels' in titles
  assert '+ Blur, temperature scaled' in titles
  assert len(titles) == 10
  assert all(int(x['n']) == 2 for x in clean)
  runs = json.loads((tmp_path / 'table1_results.json').read_text())
  assert len(runs) == 10
  for name in ('table1.md', 'table1.tex', 'table1.html', 'severities.png'):
    assert (tmp_path / name).stat().st_size > 1000
  again = subprocess.run(
    command, cwd=ROOT, capture_output=True, text=True, check=True
  )
  assert 'under way' not in again.stdout
