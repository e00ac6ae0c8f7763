"""Full and read-only disks, and limits of the system."""

from .folders import train as train_on_images
from .npz import ENCODED
from .npz import train as train_on_archive
from .originals import FILES
from .place import Case, Place
from .records import RUN


def fresh(*flags):
  return lambda place: place.train(*flags)


def encoded(place: Place):
  return train_on_archive(place, place.copy(ENCODED))


def images(place: Place):
  place.copy('images')
  return train_on_images(place)


def archives(place: Place):
  for name in ('cifar10', 'cifar10_corrupted'):
    place.copy(f'archives/{FILES[name]}')
  return place.prepare('cifar10', 'cifar10_corrupted')


def made(place: Place):
  return place.make()


def evaluated(place: Place):
  place.copy(RUN)
  return place.train('--mode=evaluate')


def closed(command):
  """The folder of the case may not be written into."""

  def set_up(place: Place):
    argv = command(place)
    place.path.chmod(0o500)
    return argv

  return set_up


def in_workdir(command):
  def set_up(place: Place):
    (place.path / 'run').mkdir()
    (place.path / 'run').chmod(0o500)
    return command(place)

  return set_up


COMMANDS = {
  'training': fresh(),
  'an archive to decode': encoded,
  'a folder to decode': images,
  'prepare': archives,
  'make': made,
}
# What a run or a set that can go on keeps.
KEPT = '/(run|made)(/|$)'
CASES = {
  **{
    f'{name} on a full disk': Case(command, free=0, may_change=KEPT)
    for name, command in COMMANDS.items()
  },
  **{
    f'{name} on a read-only disk': Case(command, read_only=True)
    for name, command in COMMANDS.items()
  },
  **{
    f'{name} in a folder without permission': Case(closed(command))
    for name, command in COMMANDS.items()
  },
  'training in a workdir without permission': Case(in_workdir(fresh())),
  # Where no disk can be had, too.
  **{
    f'{name} with files of at most 3 kB': Case(
      COMMANDS[name], limits={'RLIMIT_FSIZE': 3000}
    )
    for name in ('an archive to decode', 'a folder to decode', 'prepare')
  },
  **{
    f'{name} on a disk of {free} kB': Case(
      COMMANDS[name], free=free << 10, may_change=KEPT, slow=free == 24
    )
    for name, free in (
      ('an archive to decode', 16),
      ('a folder to decode', 16),
      ('prepare', 64),
      ('make', 12),
      ('make', 24),
    )
  },
  **{
    f'training on a disk of {free} kB': Case(
      fresh('--config.eval.save_logits=True'),
      free=free << 10,
      may_change=KEPT,
      slow=free != 16,
    )
    for free in (4, 16, 300)
  },
  'evaluating on a full disk': Case(evaluated, free=0, slow=True),
}
