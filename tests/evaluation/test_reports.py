"""Tables hold the right figures; records are written whole or not at all."""

import json

import jax
import pytest

from mollify_jax.evaluation import reports


def condition(corruption, t, error, ece=0.1):
  return {
    'corruption': corruption,
    't': t,
    'n': 10,
    'error': error,
    'nll': 2 * error,
    'brier': error / 2,
    'ece': ece,
  }


def record(method='plain', scale=1.0):
  return {
    'format': 1,
    'method': method,
    'dataset': 'digits',
    'model': 'small_cnn',
    'steps': 5,
    'conditions': [
      condition('clean', 0.0, 0.1 * scale),
      condition('noise', 0.3, 0.2 * scale, ece=0.02 / scale),
      condition('noise', 0.5, 0.4 * scale, ece=0.04 / scale),
      condition('noise', 0.9, 0.9 * scale, ece=0.3 / scale),
      condition('blur', 0.7, 0.5 * scale),
    ],
  }


def test_summaries_are_means_over_the_grid():
  rows = reports.summaries(record())
  assert rows['clean']['error'] == pytest.approx(0.1)
  assert rows['noise, t <= 0.5']['error'] == pytest.approx(0.3)
  assert rows['noise, t <= 0.5']['ece'] == pytest.approx(0.03)
  assert rows['noise, t <= 0.5, above clean'] == {'error': pytest.approx(0.2)}
  assert rows['noise, whole grid']['nll'] == pytest.approx(1.0)
  assert rows['blur, whole grid']['error'] == pytest.approx(0.5)
  assert 'blur, t <= 0.5' not in rows  # nothing was measured there


def test_one_run_as_text():
  lines = reports.format_table(record()).splitlines()
  assert lines[0] == 'digits, small_cnn, plain: 5 steps'
  (line,) = [t for t in lines if t.startswith('noise, t = 0.5')]
  assert line.split()[-4:] == ['40.00', '0.800', '0.200', '0.040']
  (line,) = [t for t in lines if t.startswith('mean noise, t <= 0.5  ')]
  assert line.split()[-4:] == ['30.00', '0.600', '0.150', '0.030']
  assert max(map(len, lines)) <= 80


def test_runs_side_by_side_mark_the_best():
  runs = [record(), record('diffusion', 0.5)]
  lines = reports.compare_table(runs).splitlines()
  assert lines[0].split()[-2:] == ['plain', 'diffusion']
  (line,) = [t for t in lines if t.startswith('noise, t <= 0.5: error')]
  assert line.split()[-2:] == ['30.00', '*15.00']
  (line,) = [t for t in lines if t.startswith('noise, t <= 0.5: ECE')]
  assert line.split()[-2:] == ['*0.030', '0.060']
  table = reports.compare_table(runs, markdown=True)
  assert '| noise, t <= 0.5: error % | 30.00 | **15.00** |' in table


def test_ties_are_not_marked():
  table = reports.compare_table([record(), record('again')])
  assert '*' not in table


def test_json_is_written_atomically(tmp_path):
  path = tmp_path / 'results.json'
  reports.write_json(path, record())
  assert reports.read_results(path) == record()
  with pytest.raises(TypeError):
    reports.write_json(path, {'format': object()})
  assert reports.read_results(path) == record()
  assert [p.name for p in tmp_path.iterdir()] == ['results.json']


def test_what_json_lacks_becomes_null(tmp_path):
  path = tmp_path / 'results.json'
  runs = [record(), record('broken')]
  runs[1]['conditions'][0].update(nll=float('nan'), brier=float('inf'))
  reports.write_json(path, {'runs': runs})
  read = reports.read_json(path)['runs']
  assert read[0] == runs[0]
  assert read[1]['conditions'][0]['nll'] is None
  assert read[1]['conditions'][0]['brier'] is None
  table = reports.compare_table(read)
  (line,) = [t for t in table.splitlines() if t.startswith('clean: NLL')]
  assert line.split()[-1] == '-'


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('{"format": 1, "meth', 'is damaged'),
    ('', 'is damaged'),
    ('[]', 'wanted an object, got list'),
    ('{"format": 1}', 'lacks method, dataset'),
    (json.dumps({**record(), 'format': 2}), 'of another format'),
  ],
)
def test_damaged_records_are_named(tmp_path, text, message):
  path = tmp_path / 'results.json'
  path.write_text(text)
  with pytest.raises(ValueError, match=message):
    reports.read_results(path)


def test_command(tmp_path, capsys):
  for name, scale in (('plain', 1.0), ('diffusion', 0.5)):
    (tmp_path / name).mkdir()
    reports.write_json(tmp_path / name / 'results.json', record(name, scale))
  paths = [str(tmp_path / name) for name in ('plain', 'diffusion')]
  assert reports.main(paths) == 0
  assert '*15.00' in capsys.readouterr().out
  assert reports.main(paths[:1]) == 0
  assert 'noise, t = 0.5' in capsys.readouterr().out
  assert reports.main([*paths, '--markdown']) == 0
  assert '| **15.00** |' in capsys.readouterr().out
  assert reports.main([str(tmp_path / 'nowhere')]) == 1
  assert 'results.json is missing' in capsys.readouterr().err
  assert reports.main([]) == 1


def test_environment_names_versions_and_devices():
  class Device:
    platform = 'cpu'
    device_kind = 'abacus'

  environment = reports.environment([Device(), Device()])
  assert environment['device'] == 'abacus'
  assert environment['device_count'] == 2
  assert environment['jax'] == jax.__version__
  assert environment['commit']


def test_the_command_is_recorded_without_its_place():
  kept = ['--config=configs/digits.py:plain', '--config.epochs', '2']
  flags = ['--workdir=/a', *kept, '--mode', 'evaluate', '--distributed']
  flags += ['-coordinator', 'a:1', '--process_id=1', '--config.tensorboard']
  assert reports.command(flags) == [
    *('python', '-m', 'mollify_jax.main', *kept, '--config.tensorboard')
  ]
  assert reports.command([]) == []


def row_of(text, start):
  (line,) = [t for t in text.splitlines() if t.startswith(start)]
  return line


@pytest.mark.parametrize('missing', [None, float('nan')])
def test_a_figure_that_is_missing_is_a_dash_and_never_the_best(missing):
  run = record()
  run['conditions'][0]['nll'] = missing
  assert '-' in row_of(reports.format_table(run), 'clean').split()
  for runs in ([run, record('other')], [record('other'), run]):
    row = row_of(reports.compare_table(runs), 'clean: NLL')
    assert set(row.split()[-2:]) == {'-', '*0.200'}


def test_means_over_other_temperatures_are_not_compared():
  other = record('other')
  other['conditions'][2]['t'] = 0.4
  text = reports.compare_table([record(), other])
  assert 'noise' not in text
  assert 'blur, whole grid' in text


def test_other_data_or_nothing_are_not_compared():
  with pytest.raises(ValueError, match="'digits' and on 'cifar10'"):
    reports.compare_table([record(), {**record(), 'dataset': 'cifar10'}])
  with pytest.raises(ValueError, match='no runs'):
    reports.compare_table([])


def test_a_record_without_a_clean_condition_is_one_line(tmp_path, capsys):
  run = record()
  run['conditions'] = run['conditions'][1:]
  with pytest.raises(ValueError, match="'plain' has no clean condition"):
    reports.summaries(run)
  reports.write_json(tmp_path / 'results.json', run)
  assert reports.main([str(tmp_path)]) == 1
  assert capsys.readouterr().err.count('\n') == 1


def test_a_record_without_steps_is_refused(tmp_path):
  run = record()
  del run['steps']
  reports.write_json(tmp_path / 'results.json', run)
  with pytest.raises(ValueError, match='lacks steps'):
    reports.read_results(tmp_path / 'results.json')


def test_runs_of_a_workdir_of_a_record_and_of_a_list(tmp_path):
  runs = [record('one'), record('two')]
  reports.write_json(tmp_path / 'results.json', runs[0])
  reports.write_json(tmp_path / 'several.json', runs)
  assert reports.read_runs(tmp_path) == runs[:1]
  assert reports.read_runs(tmp_path / 'results.json') == runs[:1]
  assert reports.read_runs(tmp_path / 'several.json') == runs
  for value, message in (
    ([], 'empty list'),
    ([runs[0], 'x'], 'entry 1 of .* is str'),
    ([{**runs[0], 'format': 2}], 'another format'),
    ('x', 'damaged'),
  ):
    (tmp_path / 'odd.json').write_text(json.dumps(value))
    with pytest.raises(ValueError, match=message) as caught:
      reports.read_runs(tmp_path / 'odd.json')
    assert len(str(caught.value).splitlines()) == 1
