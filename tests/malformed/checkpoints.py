"""Damaged checkpoints, met by `--mode=evaluate` and by going on training."""

import json
import shutil

from .place import (
  Case,
  Place,
  become_directory,
  damages,
  flip,
  forbid,
  keep,
)
from .records import HALF, RUN

FILES = {
  'label': '_CHECKPOINT_METADATA',
  'manifest': 'default/manifest.ocdbt',
  'structure': 'default/_METADATA',
}


def damaged(damage, name='step_2', *flags, run=RUN, mode='evaluate'):
  """A run of which one checkpoint, or a file in it, is damaged."""

  def set_up(place: Place):
    place.copy(run)
    place = place._replace(path=(place.path / run).parent)
    path = place.path / 'run' / 'checkpoints' / name
    if name.endswith('values'):
      files = (p for p in path.parent.rglob('*') if p.is_file())
      path = max(files, key=lambda file: file.stat().st_size)
    damage(path)
    if mode == 'train':
      (place.path / 'run' / 'results.json').unlink(missing_ok=True)
      return place.train(*flags)
    return place.train(f'--mode={mode}', *flags)

  return set_up


def relabel(**changes):
  def damage(path):
    label = json.loads(path.read_text())
    label['custom_metadata'].update(changes)
    path.write_text(json.dumps(label))

  return damage


def reconfigure(path):
  """The config of a run, but not its checkpoints, is another one."""
  file = path.parent / 'config.json'
  config = json.loads(file.read_text())
  config['optimizer']['ema_decay'] = 0.9
  file.write_text(json.dumps(config))


def remove(path):
  shutil.rmtree(path) if path.is_dir() else path.unlink()


# The others take as long, and are left to the long suite.
QUICK = (
  ('label', 'flipped'),
  ('values', 'cut to 50%'),
  ('values', 'flipped'),
  ('values', 'without permission'),
)
LONG = (
  'label a list',
  'label of other values',
  'label of another structure',
  'a checkpoint without permission',
  'all checkpoints missing',
  'a file for a checkpoint',
)
CASES = {
  **{
    f'{which} {name}': Case(
      damaged(damage, f'step_2/{file}'), slow=(which, name) not in QUICK
    )
    for which, file in {**FILES, 'values': 'values'}.items()
    for name, damage in {
      **damages((0, 0.5)),
      'missing': remove,
      'a directory': become_directory,
      'without permission': forbid,
      'flipped': lambda path: flip(path, 0.5),
    }.items()
    if which in ('label', 'values') or name in ('cut to 50%', 'missing')
  },
  'label a list': Case(
    damaged(lambda path: path.write_text('[]'), f'step_2/{FILES["label"]}')
  ),
  'label nested': Case(
    damaged(
      lambda path: path.write_text('[' * 100_000), f'step_2/{FILES["label"]}'
    ),
  ),
  'label of other values': Case(
    damaged(relabel(sha256='0' * 64), f'step_2/{FILES["label"]}')
  ),
  'label of another structure': Case(
    damaged(relabel(structure_sha256='0' * 64), f'step_2/{FILES["label"]}')
  ),
  'a checkpoint without permission': Case(damaged(forbid)),
  'all checkpoints without permission': Case(damaged(forbid, '.')),
  'all checkpoints missing': Case(
    damaged(remove, '.'), may_change='/checkpoints$'
  ),
  'a file for all checkpoints': Case(
    damaged(lambda path: [shutil.rmtree(path), path.write_text('')], '.'),
  ),
  'a file for a checkpoint': Case(
    damaged(lambda path: [shutil.rmtree(path), path.write_text('')])
  ),
  'a checkpoint of another network': Case(
    damaged(reconfigure, '.', '--config.optimizer.ema_decay=0.9')
  ),
  'a checkpoint without permission, to go on from': Case(
    damaged(forbid, 'step_1/values', run=HALF, mode='train')
  ),
  'the only checkpoint damaged, to go on from': Case(
    damaged(
      lambda path: keep(path, 100), 'step_1/values', run=HALF, mode='train'
    ),
    may_change='/(un)?[a-z_]*checkpoints',
  ),
}
CASES = {
  name: case._replace(slow=case.slow or name in LONG)
  for name, case in CASES.items()
}
