"""Runs are one method if, and only if, nothing but the seed differs."""

import copy
import json
from pathlib import Path

import pytest

from mollify_jax.evaluation import plots, seeds


def run(method='plain', seed=0, model='small_cnn', data='digits', **fields):
  return {
    'method': method,
    'model': model,
    'dataset': data,
    'config': {'seed': seed, 'mollify': {'beta_b': 2.0, **fields}},
  }


def test_seeds_of_one_config_are_one_method_in_the_order_given():
  runs = [run('b', 1), run('a', 0), run('b', 0), run('a', 5)]
  methods = seeds.group_runs(runs)
  assert [method.name for method in methods] == ['b', 'a']
  assert methods[0].runs == (runs[0], runs[2])
  assert methods[1].runs == (runs[1], runs[3])
  assert methods[0].title == 'b (2 seeds)'
  assert seeds.group_runs(runs[:1])[0].title == 'b'


def test_methods_of_one_name_are_told_apart_by_their_fields():
  runs = [run(), run(beta_b=4.0), run(seed=1), run('other')]
  names = [method.name for method in seeds.group_runs(runs)]
  assert names == ['plain, beta_b=2.0', 'plain, beta_b=4.0', 'other']


def test_many_differences_are_counted():
  configs = [
    {f'a.{f}': n * (f != 'same') for f in ('same', *'bcdef')} for n in (0, 1)
  ]
  assert seeds.tell_apart(configs) == [
    'b=0, c=0, d=0 and 2 more',
    'b=1, c=1, d=1 and 2 more',
  ]
  assert seeds.tell_apart([{'b': 1}, {'b': 1}]) == ['', '']
  assert seeds.tell_apart([{}, {'b': 1}]) == ['b=absent', 'b=1']


def test_what_changes_no_figure_parts_no_seeds():
  path = Path(__file__).parents[2] / 'experiments/cpu_cifar10/results.json'
  old = json.loads(path.read_text())[0]
  config = copy.deepcopy(old['config'])
  config.update(seed=1, draws_per_image=1, steps_per_call=7, feed='sharded')
  config['data'].update(path='elsewhere.npz', data_dir='there')
  methods = seeds.group_runs([old, {**old, 'config': config}])
  assert [method.title for method in methods] == ['plain (2 seeds)']
  config['draws_per_image'] = 2
  titles = [m.title for m in seeds.group_runs([old, {**old, 'config': config}])]
  assert titles == ['plain, draws_per_image=1', 'plain, draws_per_image=2']


def test_seeds_of_a_fitted_schedule_have_knots_of_their_own():
  path = Path(__file__).parents[2] / 'experiments/cpu_cifar10/results.json'
  old = json.loads(path.read_text())[3]
  runs = []
  for seed, last in ((0, 0.5), (1, 0.75)):
    config = copy.deepcopy(old['config'])
    config.update(seed=seed, fitted_on='diffusion_blur')
    config['mollify']['noise_gamma_knots'] = (0.0, last)
    runs.append({**old, 'config': config})
  assert len(seeds.group_runs(runs)) == 1
  for run in runs:
    run['config']['fitted_on'] = ''
  assert len(seeds.group_runs(runs)) == 2


def test_networks_and_records_without_config_stay_apart():
  runs = [run(), run(seed=1, model='wrn_16_1')]
  names = [method.name for method in seeds.group_runs(runs)]
  assert names == ['plain, small_cnn', 'plain, wrn_16_1']
  bare = {'method': 'm', 'model': 'x', 'dataset': 'digits'}
  assert len(seeds.group_runs([bare, dict(bare)])) == 2


def test_a_copy_of_a_run_is_no_second_seed():
  with pytest.raises(ValueError, match='with seed 3 is there twice'):
    seeds.group_runs([run(seed=3), run(), run(seed=3)])


def test_mean_and_deviation():
  mean, deviation = plots.mean_and_std([[1.0, 2.0], [3.0, None]])
  assert mean[0] == 2
  assert deviation[0] == pytest.approx(2**0.5)
  assert mean[1] != mean[1]  # unknown of one seed is unknown of the mean
  assert plots.mean_and_std([[1.0]])[1] is None
