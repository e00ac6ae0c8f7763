"""What `--mode=export` refuses."""

import json
import shutil

from .checkpoints import FILES, remove
from .place import Case, Place, damages, forbid
from .records import HALF, RUN, edit


def export(change=lambda run: None, *, flags=(), run=RUN):
  """The command on a run in which something is wrong."""

  def set_up(place: Place):
    place.copy(run)
    place = place._replace(path=(place.path / run).parent)
    change(place.path / 'run')
    return place.train('--mode=export', *flags)

  return set_up


def damaged(name, damage):
  return lambda run: damage(run / name)


def forget_input(record):
  del record['input']


def with_folder(name, content):
  """Something of the user's where the export would go."""

  def change(run):
    (run / 'export').mkdir()
    (run / 'export' / name).write_text(content)

  return change


def with_other_export(run):
  config = json.loads((run / 'config.json').read_text())
  text = json.dumps({**config, 'seed': 7})
  with_folder('config.json', text)(run)


def lose_checkpoints(run):
  shutil.rmtree(run / 'checkpoints')


CASES = {
  'nothing there': Case(lambda place: place.train('--mode=export')),
  'an unfinished run': Case(export(run=HALF)),
  'another config': Case(export(flags=('--config.seed=7',))),
  'results cut': Case(
    export(damaged('results.json', damages((0.5,))['cut to 50%']))
  ),
  'results without permission': Case(export(damaged('results.json', forbid))),
  'results of an earlier version': Case(
    export(damaged('results.json', edit(forget_input)))
  ),
  'results of another step': Case(
    export(damaged('results.json', edit(lambda record: record.update(steps=3))))
  ),
  'checkpoints missing': Case(export(lose_checkpoints)),
  'a damaged checkpoint': Case(
    export(damaged(f'checkpoints/step_2/{FILES["label"]}', remove))
  ),
  'a file in its place': Case(
    export(lambda run: (run / 'export').write_text('mine'))
  ),
  'a folder of others in its place': Case(
    export(with_folder('notes.txt', 'mine'))
  ),
  'an export of another config in its place': Case(export(with_other_export)),
  'a disk that is full': Case(export(), free=40_000),
  'a disk that is read-only': Case(export(), read_only=True),
  'a limit of file sizes': Case(export(), limits={'RLIMIT_FSIZE': 50_000}),
  'a workdir without permission': Case(export(lambda run: run.chmod(0o500))),
}
