"""The page is whole, needs nothing else, and shows what was and was not run."""

import base64
import copy
import html
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mollify_jax.corruptions.severities import CORRUPTIONS
from mollify_jax.evaluation import (
  corruption_plots,
  plots,
  report,
  reports,
  seed_tables,
)

POSTER = Path(__file__).parents[2] / 'experiments' / 'poster.json'
EVIL = '<script>alert(1)</script> & "a$x^{" \'b\''
VOID = {'meta', 'col', 'img', 'br', 'wbr', 'hr', 'link', 'input'}


@pytest.fixture(autouse=True)
def quick_pictures(request, monkeypatch):
  """Tests that are not marked slow draw an empty picture."""
  if request.node.get_closest_marker('slow'):
    return

  def draw(path, what):
    assert what
    path.write_text('<svg viewBox="0 0 90 60"></svg>')

  monkeypatch.setattr(corruption_plots, 'draw_severity_curves', draw)
  for name in ('draw_comparison', 'draw_reliability_diagram'):
    monkeypatch.setattr(plots, name, draw)


def figures(error, confident=0.9):
  counts = [0] * 13 + [50, 50, 0]
  return {
    'n': 100,
    'error': error,
    'nll': 3 * error,
    'brier': 2 * error,
    'ece': error / 2,
    'gap': -error / 2,
    'confidence': confident,
    'label_confidence': 0.8,
    'bins': {
      'count': counts,
      'confidence': [confident * c for c in counts],
      'correct': [(1 - error) * c for c in counts],
    },
  }


def record(seed=0, error=0.1, method='plain', names=CORRUPTIONS, **fields):
  return {
    'format': 1,
    'method': method,
    'dataset': 'digits',
    'model': 'small_cnn',
    'steps': 1320,
    'parameters': 57130,
    'seconds': 83.0,
    'images_per_second': 1018.0,
    'data_fingerprint': 'abcdef0123',
    'command': [
      *('python', '-m', 'mollify_jax.main', '--config=configs/digits.py:plain'),
      '--config.data.path=my digits.npz',
    ],
    'config': {
      'method': method,
      'seed': seed,
      'mollify': {'roles': ['clean'], 'beta_b': 2.0},
    },
    'environment': {'jax': '0.10.2', 'device': 'cpu', 'commit': '0123456789ab'},
    'conditions': [
      {'corruption': 'clean', 't': 0.0, **figures(error)},
      *(
        {'corruption': name, 't': t, **figures(error + t / 2)}
        for name in ('noise', 'blur')
        for t in (0.3, 0.7)
      ),
    ],
    'corrupted': {
      'title': 'digits-C-like',
      'source': 'generated',
      'parameters': 'cifar',
      'seed': 0,
      'skipped': {} if 'frost' in names else {'frost': 'no photographs'},
      'cells': [
        {
          'corruption': name,
          'severity': severity,
          **figures(error + severity / 20),
        }
        for name in names
        for severity in (1, 2, 3, 4, 5)
      ],
    },
    **fields,
  }


def without(run, *parts):
  run = copy.deepcopy(run)
  if 'corrupted' in parts:
    del run['corrupted']
  if 'temperatures' in parts:
    del run['conditions'][1:]
  return run


def opened(results, workdir='/runs/a'):
  return seed_tables.Run(Path(workdir), results['config'], results)


def unfinished(method='late', seed=0):
  config = {'method': method, 'seed': seed, 'model': 'small_cnn'}
  return seed_tables.Run(Path('/runs/late'), config, None)


class Page(HTMLParser):
  """Checks that tags are closed in order; keeps what a test asks for."""

  def __init__(self, text):
    super().__init__()
    self.open, self.tags, self.words = [], [], {}
    self.feed(text)
    self.close()
    assert self.open == [], f'left open: {self.open}'

  def handle_starttag(self, tag, attributes):
    names = [name for name, _ in attributes]
    assert len(names) == len(set(names)), (tag, names)
    self.tags.append((tag, dict(attributes)))
    if tag not in VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open
    assert self.open.pop() == tag, f'{tag} closes {self.open}'

  def handle_data(self, data):
    if self.open:
      self.words.setdefault(self.open[-1], []).append(data)

  def of(self, tag):
    return [attributes for name, attributes in self.tags if name == tag]


def check(text):
  """What must be true of every page."""
  page = Page(text)
  assert text.startswith('<!doctype html>\n<html lang="en">')
  assert not page.of('script')
  assert not page.of('link')
  assert not page.of('iframe')
  for tag, attributes in page.tags:
    for name, value in attributes.items():
      if '//' in (value or '') and not value.startswith('data:'):
        assert (tag, name) == ('a', 'href'), (tag, name, value)
      assert not name.startswith('on')
  (style,) = page.words['style']
  assert 'url(' not in style
  assert '@import' not in style
  assert 'prefers-color-scheme: dark' in style
  for image in page.of('img'):
    assert image['src'].startswith('data:image/svg+xml;base64,')
    assert len(image['alt']) > 40
    picture = base64.b64decode(image['src'].partition(',')[2])
    assert b'<svg' in picture
    assert picture.rstrip().endswith(b'</svg>')
    assert b'<image' not in picture
  for head in page.of('th'):
    assert head['scope'] in ('col', 'row', 'colgroup')
  names = [
    attributes['id'] for _, attributes in page.tags if 'id' in attributes
  ]
  assert len(names) == len(set(names))
  for link in page.of('a'):
    href = link['href']
    assert (
      href[1:] in names if href.startswith('#') else href.startswith('http')
    )
  return page


def section(text, name):
  return re.search(rf'<section id="{name}".*?</section>', text, re.DOTALL)[0]


def plain_text(part):
  return html.unescape(re.sub(r'<[^>]*>', '', part.replace('<wbr>', '')))


def test_the_checks_find_what_is_wrong():
  for bad in ('<p><b></p></b>', '<div>', '</p>', '<p id="a" id="b"></p>'):
    with pytest.raises(AssertionError):
      Page(bad)


def test_two_methods_of_several_seeds():
  runs = [
    *(opened(record(s, e)) for s, e in enumerate((0.1, 0.2, 0.4))),
    opened(record(0, 0.05, 'better'), '/runs/b'),
    opened(record(1, 0.07, 'better'), '/runs/c'),
    unfinished(),
  ]
  runs[3].config['mollify']['beta_b'] = 4.0
  runs[4].config['mollify']['beta_b'] = 4.0
  text = report.render(runs, seed_tables.read_reference(POSTER))
  page = check(text)
  assert '3 methods, 5 finished runs, 1 not finished' in text
  summary = plain_text(section(text, 'summary'))
  assert '23.33 ± 15.28' in summary
  assert 'late: not run (seed 0 has not finished)' in summary
  corruptions = section(text, 'corruptions')
  assert corruptions.count('<table>') == 3
  assert 'class="theirs"' in corruptions
  assert '12.1' in corruptions
  differences = plain_text(section(text, 'differences'))
  assert 'config.mollify.beta_b' in differences
  assert re.search(
    r'mollify\.<wbr>beta_<wbr>b</th><td class="value">2.0</td>'
    r'<td class="value"><mark>4.0</mark></td>',
    section(text, 'differences'),
  )
  # Severities, temperatures, and a reliability diagram of each method.
  assert len(page.of('img')) == 4
  alts = [image['alt'] for image in page.of('img')]
  assert 'plain 48.33, better 31.00' in alts[0]
  assert 'mean confidence 0.900, accuracy 0.767' in alts[2]
  ran = section(text, 'runs')
  assert ran.count('<article>') == 6
  assert ran.count('<details>') == 6 + 5  # configs and environments
  assert 'Not finished' in ran
  missing = plain_text(section(text, 'missing'))
  assert 'late: seed 0 has not finished' in missing
  assert 'one seed' not in missing


def test_temperature_scaling_stands_beside_the_rest():
  run, other = record(), record(error=0.05)
  run['temperature_scaling'] = {
    'temperature': 1.5,
    'conditions': other['conditions'],
    'corrupted': other['corrupted'],
  }
  text = report.render([opened(run)], scaled=True)
  page = check(text)
  assert 'plain + temperature scaling' in plain_text(section(text, 'summary'))
  assert (
    'plain 35.00, plain + temperature scaling 30.00'
    in (page.of('img')[0]['alt'])
  )
  assert section(text, 'runs').count('<article>') == 1
  with pytest.raises(ValueError, match='no temperature scaling'):
    report.render([opened(record())], scaled=True)


def test_one_run_says_how_to_make_it_again():
  text = report.render([opened(record())])
  check(text)
  code = html.unescape(re.search(r'<code>(.*?)</code>', text, re.DOTALL)[1])
  command = (
    'python -m mollify_jax.main --config=configs/digits.py:plain '
    "'--config.data.path=my digits.npz' --workdir=/runs/a"
  )
  assert code == f'{command}\n{command} --mode=evaluate'
  words = plain_text(section(text, 'runs'))
  for fact in (
    *('abcdef0123', '0123456789ab', '57,130', '1,320', '1 min 23 s'),
    *('1,018 images/s', 'digits-C-like (generated'),
  ):
    assert fact in words
  assert 'one seed, so nothing is known of its spread' in text
  assert 'One run.' in section(text, 'differences')


def test_a_command_that_was_not_recorded_is_said_to_be_so(tmp_path):
  run = record()
  del run['command']
  text = report.render([opened(run, '/runs/my run')])
  code = html.unescape(re.search(r'<code>(.*?)</code>', text, re.DOTALL)[1])
  assert code.startswith("python -c 'import json")
  assert "'/runs/my run/config.json' NEW_WORKDIR" in code
  assert 'plain, seed 0: its command was not recorded' in text
  assert '--mode=evaluate' not in text


def test_everything_that_comes_from_records_is_escaped():
  run = record(method=EVIL, dataset=EVIL, model=EVIL, data_fingerprint=EVIL)
  run['class_names'] = [EVIL]
  run['command'] = [EVIL]
  run['environment'] = {'commit': EVIL, EVIL: EVIL}
  run['config'] |= {'method': EVIL, EVIL: EVIL}
  run['corrupted'].update(title=EVIL, source=EVIL)
  run['corrupted']['skipped'] = {'saturate': EVIL}
  other = copy.deepcopy(run)
  other['config'][EVIL] = 'else'
  text = report.render(
    [opened(run, EVIL), opened(other, 'b'), unfinished(f'{EVIL} 2')],
    {
      **seed_tables.read_reference(POSTER),
      'source': EVIL,
      'rows': {EVIL: {'fog': 3}},
    },
  )
  check(text)
  assert '<script' not in text
  assert text.count('&lt;script&gt;') > 20


@pytest.mark.parametrize(
  ('parts', 'sections', 'words'),
  [
    (
      ('corrupted',),
      ('temperatures', 'reliability'),
      'not evaluated on common corruptions',
    ),
    (
      ('temperatures',),
      ('corruptions', 'severities', 'reliability'),
      'not evaluated over temperatures',
    ),
    (('corrupted', 'temperatures'), ('reliability',), 'common corruptions'),
  ],
)
def test_runs_without_some_test_sets(parts, sections, words):
  text = report.render([opened(without(record(), *parts))])
  page = check(text)
  found = [attributes['id'] for attributes in page.of('section')]
  always = ('summary', 'differences', 'runs', 'missing')
  assert sorted(found) == sorted((*sections, *always))
  assert words in section(text, 'missing')


@pytest.mark.slow
def test_some_runs_have_what_others_lack():
  runs = [
    opened(record()),
    opened(without(record(method='b'), 'corrupted', 'temperatures'), '/runs/b'),
    opened(
      record(method='c', names=[n for n in CORRUPTIONS if n != 'frost']),
      '/runs/c',
    ),
  ]
  text = report.render(runs)
  check(text)
  assert 'not ranked' in section(text, 'summary')
  assert 'no frost: no photographs' in section(text, 'missing')
  assert 'evaluated at different temperatures' in section(text, 'temperatures')


def test_nothing_has_finished():
  text = report.render([unfinished(), unfinished('other')])
  page = check(text)
  assert '0 finished runs, 2 not finished' in text
  assert not page.of('img')


def test_bins_that_are_none_or_missing():
  run = record()
  for condition in (*run['conditions'], *run['corrupted']['cells']):
    del condition['bins']
  assert 'id="reliability"' not in report.render([opened(run)])
  run['conditions'][0]['bins'] = {'count': 3}
  with pytest.raises(ValueError, match="bins of 'clean' that are none"):
    report.render([opened(run)])


def test_extra_corruptions_are_not_pooled_with_the_fifteen():
  run = record(names=('fog',))
  extra = {**run['corrupted']['cells'][0], 'corruption': 'saturate'}
  run['corrupted']['cells'].append(extra)
  kinds = [c['corruption'] for c in report.pooled(seed_tables.Row('a', [run]))]
  assert kinds == [
    'clean',
    *(['corruptions'] * 5),
    'noise',
    'noise',
    *(['blur'] * 2),
  ]


@pytest.mark.slow
def test_pictures_are_drawn_whatever_a_method_is_called():
  runs = [opened(record()), opened(record(method=EVIL), '/runs/b')]
  assert len(check(report.render(runs)).of('img')) == 4


def test_means_over_seeds_are_of_what_all_have():
  runs = [record(0, 0.1), record(1, 0.3)]
  runs[1]['conditions'] = runs[1]['conditions'][:3]
  runs[0]['corrupted']['cells'][0]['nll'] = None
  mean = report.mean_record(seed_tables.Row('a', runs))
  assert mean['method'] == 'a'
  assert [(c['corruption'], c['t']) for c in mean['conditions']] == [
    *(('clean', 0.0), ('noise', 0.3), ('noise', 0.7))
  ]
  assert mean['conditions'][0]['error'] == pytest.approx(0.2)
  cells = mean['corrupted']['cells']
  assert cells[0]['nll'] != cells[0]['nll']  # one seed has none
  assert cells[1]['nll'] == pytest.approx(3 * 0.3)
  assert cells[1]['n'] == 100


@pytest.mark.slow
def test_the_same_runs_make_the_same_page():
  runs = [opened(record()), opened(record(method='b'), '/runs/b')]
  assert report.render(runs) == report.render(runs)


def write(path, run):
  path.mkdir()
  reports.write_json(path / 'results.json', run)
  return str(path)


def test_command(tmp_path, capsys):
  out = tmp_path / 'page.html'
  one = write(tmp_path / 'one', without(record(), 'corrupted'))
  two = write(tmp_path / 'two', record(method='b', dataset='cifar10'))
  damaged = write(tmp_path / 'damaged', record())
  (tmp_path / 'damaged' / 'results.json').write_text('{')
  assert report.main([one, f'--out={out}']) == 0
  assert capsys.readouterr().out == f'wrote {out}\n'
  assert out.stat().st_mode & 0o777 == 0o644
  before = out.read_bytes()
  check(before.decode())
  for arguments, message in (
    ([], 'no workdir; usage: python -m mollify_jax.evaluation.report'),
    ([one, '--color=red'], "unknown option '--color=red'"),
    ([one, two], "data sets are 'digits' and 'cifar10'"),
    ([one, one], 'has seed 0 twice'),
    ([damaged], 'results.json is damaged'),
    ([str(tmp_path)], 'results.json is missing'),
    ([one, '--reference=none.json'], 'none.json is missing'),
    ([one, f'--out={tmp_path}/nowhere/a.html'], 'nowhere'),
    ([one, f'--out={tmp_path}'], 'cannot use'),
  ):
    assert report.main([f'--out={out}', *arguments]) == 1
    printed, err = capsys.readouterr()
    assert err.startswith('error: ')
    assert message in err
    assert err.count('\n') == 1
    assert printed == ''
    assert out.read_bytes() == before
  assert sorted(p.name for p in tmp_path.iterdir()) == [
    *('damaged', 'one', 'page.html', 'two')
  ]


def test_a_failed_write_leaves_the_old_page(tmp_path, monkeypatch, capsys):
  out = tmp_path / 'page.html'
  run = write(tmp_path / 'run', without(record(), 'corrupted', 'temperatures'))
  assert report.main([f'--out={out}', run]) == 0
  before = out.read_bytes()
  replace = os.replace

  def fail(source, target):
    if Path(target) == out:
      raise OSError('disk full')
    replace(source, target)

  monkeypatch.setattr(os, 'replace', fail)
  capsys.readouterr()
  assert report.main([f'--out={out}', run]) == 1
  assert capsys.readouterr().err == 'error: disk full\n'
  assert out.read_bytes() == before
  assert sorted(p.name for p in tmp_path.iterdir()) == ['page.html', 'run']


BROWSER = shutil.which('chromium') or shutil.which('chromium-browser')


@pytest.mark.slow
@pytest.mark.skipif(not BROWSER, reason='no chromium here')
def test_a_browser_shows_it_without_complaint(tmp_path):
  path = tmp_path / 'page.html'
  path.write_text(
    report.render([opened(record()), opened(record(method=EVIL), '/runs/b')])
  )
  process = subprocess.run(
    [
      *(BROWSER, '--headless', '--no-sandbox', '--disable-gpu'),
      f'--user-data-dir={tmp_path}/profile',
      *('--enable-logging=stderr', '--v=0', '--dump-dom', path.as_uri()),
    ],
    capture_output=True,
    text=True,
    check=False,
  )
  assert process.returncode == 0, process.stderr[-2000:]
  assert 'CONSOLE' not in process.stderr
  shown = Page(process.stdout)
  assert not shown.of('script')
  # A browser adds no element that the page lacks: no tag was misplaced.
  page = Page(path.read_text())
  assert [tag for tag, _ in shown.tags] == [tag for tag, _ in page.tags]
