"""Damaged files of a run: config, data, results, journal; its directory."""

import json
import shutil

from .place import Case, Place, become_directory, forbid, keep

# A run that is whole, and the same before its second and last step.
RUN, HALF = 'run', 'half/run'


def write_whole(folder, server):
  """Trains two steps; HALF is the run after the first of them."""
  reply = server.run(Place(folder, folder).train(), folder / RUN)
  assert reply['status'] == 0, reply['err']
  shutil.copytree(folder / RUN, folder / HALF)
  (folder / HALF / 'results.json').unlink()
  shutil.rmtree(folder / HALF / 'checkpoints' / 'step_2')


def nested(path):
  path.write_text('[' * 100_000)


def text(content):
  return lambda path: path.write_text(content)


def edit(change):
  """Changes the record in a JSON file."""

  def damage(path):
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))

  return damage


DAMAGES = {
  'empty': text(''),
  'cut': lambda path: keep(path, 40),
  'that is no UTF-8': lambda path: path.write_bytes(b'{"a": "\xff"}'),
  'a list': text('[1, 2]'),
  'null': text('null'),
  'nested': nested,
  'a directory': become_directory,
  'without permission': forbid,
}


def damaged(name, damage, command='train', run=RUN):
  """A command on a run of which one file is damaged."""

  def set_up(place: Place):
    place.copy(run)
    place = place._replace(path=(place.path / run).parent)
    damage(place.path / 'run' / name)
    return {
      'train': place.train(),
      'evaluate': place.train('--mode=evaluate'),
      'reports': ['mollify_jax.evaluation.reports', f'{place.path}/run'],
      'tables': [
        'mollify_jax.evaluation.corruption_tables',
        f'{place.path}/run',
      ],
    }[command]

  return set_up


def with_cells(change=lambda record: None):
  """Adds corrupted test sets to a record, then changes it."""

  def edited(record):
    figures = {
      name: value
      for name, value in record['conditions'][0].items()
      if name not in ('corruption', 't', 'bins')
    }
    record['corrupted'] = {
      'title': 'digits-C',
      'source': 'official files',
      'cells': [
        {'corruption': 'fog', 'severity': s, **figures} for s in range(1, 6)
      ],
    }
    change(record)

  return edit(edited)


def line(number, content):
  """Replaces a line of the journal."""

  def damage(path):
    lines = path.read_bytes().splitlines()
    lines[number] = content
    path.write_bytes(b'\n'.join(lines) + b'\n')

  return damage


def occupied(place: Place):
  (place.path / 'run').write_text('')
  return place.train()


def under_a_file(place: Place):
  (place.path / 'file').write_text('')
  return [
    f'--workdir={place.path}/file/run' if part.startswith('--workdir') else part
    for part in place.train()
  ]


def other(*flags):
  """A whole run, asked for with other flags."""

  def set_up(place: Place):
    place.copy(RUN)
    return place.train(*flags)

  return set_up


RESULTS = {
  'of another format': edit(lambda record: record.update(format=2)),
  'without conditions': edit(lambda record: record.pop('conditions')),
  'whose conditions are a number': edit(
    lambda record: record.update(conditions=3)
  ),
  'whose conditions are numbers': edit(
    lambda record: record.update(conditions=[3])
  ),
  'without a clean condition': edit(lambda record: record['conditions'].pop(0)),
  'whose error is text': edit(
    lambda record: record['conditions'][1].update(error='low')
  ),
  'whose t is null': edit(
    lambda record: record['conditions'][1].update(t=None)
  ),
  'without an error': edit(lambda record: record['conditions'][1].pop('error')),
  'whose method is a list': edit(lambda record: record.update(method=[])),
}
TABLES = {
  'without corrupted test sets': edit(lambda record: None),
  'whose corrupted test sets are text': edit(
    lambda record: record.update(corrupted='yes')
  ),
  'whose cells are an object': with_cells(
    lambda record: record['corrupted'].update(cells={'a': 1})
  ),
  'with a cell twice': with_cells(
    lambda record: record['corrupted']['cells'].append(
      record['corrupted']['cells'][0]
    )
  ),
  'with an unknown cell': with_cells(
    lambda record: record['corrupted']['cells'][0].update(corruption='smog')
  ),
  'with a cell of text': with_cells(
    lambda record: record['corrupted']['cells'][0].update(error='low')
  ),
  'with skipped as a list': with_cells(
    lambda record: record['corrupted'].update(skipped=[1])
  ),
}

CASES = {
  **{
    f'results.json {name}, {command}': Case(
      damaged('results.json', damage, command)
    )
    for command in ('reports', 'train')
    for name, damage in (DAMAGES | RESULTS).items()
    if command == 'reports' or name in ('cut', 'a list', 'a directory')
  },
  **{
    f'results.json {name}, tables': Case(
      damaged('results.json', damage, 'tables')
    )
    for name, damage in TABLES.items()
  },
  'no results.json': Case(
    lambda place: ['mollify_jax.evaluation.reports', f'{place.path}/run']
  ),
  'no results.json, tables': Case(
    lambda place: [
      'mollify_jax.evaluation.corruption_tables',
      f'{place.path}/run',
    ],
  ),
  'tables, an unknown metric': Case(
    lambda place: [
      *damaged('results.json', with_cells(), 'tables')(place),
      '--metric=accuracy',
    ],
  ),
  'tables, an unknown option': Case(
    lambda place: ['mollify_jax.evaluation.corruption_tables', '--x=1']
  ),
  **{
    f'config.json {name}': Case(damaged('config.json', damage))
    for name, damage in {
      **DAMAGES,
      'with an unknown field': edit(lambda record: record.update(epoch=1)),
      'without a field': edit(lambda record: record.pop('model')),
      'with text for a number': edit(
        lambda record: record.update(batch_size='many')
      ),
      'with other values': edit(lambda record: record.update(epochs=7)),
    }.items()
  },
  **{
    f'data.json {name}': Case(
      damaged('data.json', damage, run=HALF), may_change=r'/\.lock$'
    )
    for name, damage in {
      **DAMAGES,
      'of other data': edit(lambda record: record.update(train_examples=1)),
    }.items()
  },
  **{
    f'metrics.jsonl {name}': Case(
      damaged('metrics.jsonl', damage, run=HALF),
      slow=name not in ('that is no UTF-8', 'a directory'),
    )
    for name, damage in {
      'cut in its first line': line(0, b'{"event": "tra'),
      'that is no UTF-8': line(0, b'{"event": "\xff"}'),
      'with a number': line(0, b'1'),
      'with a line without step': line(0, b'{"event": "train"}'),
      'with text for a step': line(0, b'{"event": "train", "step": "1"}'),
      'nested': line(0, b'[' * 100_000),
      'a directory': become_directory,
      'without permission': forbid,
    }.items()
  },
  'a workdir that is a file': Case(occupied),
  'a workdir below a file': Case(under_a_file),
  'a workdir of another run': Case(other('--config.seed=1')),
  'a workdir of another evaluation': Case(other('--config.eval.seed=1')),
  'a workdir without a run, to evaluate': Case(
    lambda place: place.train('--mode=evaluate')
  ),
  'a run that is not finished, to evaluate': Case(
    damaged('.', lambda path: None, 'evaluate', HALF)
  ),
  'a lock that is a directory': Case(
    damaged('.lock', become_directory, run=HALF)
  ),
}
