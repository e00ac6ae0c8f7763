"""Trains and evaluates one configuration; see the README."""

import sys
from pathlib import Path

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from mollify_jax import errors, hosts, parallel
from mollify_jax.training import loop, stopping
from mollify_jax.training.config import check_file

config_flags.DEFINE_config_file('config', None, 'FILE.py or FILE.py:VARIANT.')
flags.DEFINE_string('workdir', None, 'Directory of this one run.')
flags.DEFINE_string('mode', 'train', 'train, evaluate again, or export.')
flags.DEFINE_bool('distributed', False, 'Join the hosts of a TPU pod or Slurm.')
flags.DEFINE_string('coordinator', None, 'HOST:PORT of process 0.')
flags.DEFINE_integer('process_id', None, 'This process, from 0.')
flags.DEFINE_integer('num_processes', None, 'How many there are.')
flags.DEFINE_integer('host_timeout', 300, 'Seconds to wait for other hosts.')
flags.mark_flags_as_required(['config', 'workdir'])

# A user mends these; anything else is a bug and keeps its traceback.
USER_ERRORS = (ValueError, TypeError, OSError, loop.NonFiniteLossError)


@hosts.fail_together()
def main(argv: list[str]) -> None:
  """Runs the command; see `stopping` for its exit status."""
  values = flags.FLAGS
  try:
    if argv[1:]:
      raise ValueError(f'unexpected {argv[1:]!r}; flags begin with --')
    who = (values.coordinator, values.num_processes, values.process_id)
    hosts.join(values.distributed, *who, values.host_timeout)
    cache = (
      Path(values.workdir).expanduser().absolute().parent / 'mollify_cache'
    )
    parallel.cache_compilations(cache)
    results = loop.run(
      values.config.to_dict(), values.workdir, values.mode, sys.argv[1:]
    )
    if jax.process_index() == 0:
      print(f'{loop.describe(results)}\n\nin {values.workdir}')
  except USER_ERRORS as error:
    stopping.end(errors.describe(error))
  except KeyboardInterrupt as error:
    stopping.end(str(error) or 'by Ctrl-C', stopping.EXIT_STATUS)


def parse(argv: list[str]) -> list[str]:
  """Parses flags, once the config file is known to be one."""
  try:
    for argument in argv[1:]:
      name, _, value = argument.lstrip('-').partition('=')
      if name == 'config':
        check_file(value)
    return flags.FLAGS(argv)
  except (KeyError, AttributeError) as error:  # from overriding a field
    while isinstance(error, Exception):
      error = error.args[0]
    field = str(error).rpartition('Attempting to lookup: ')[2]
    stopping.end(f'unknown config field {field} (see the config file)')
  except flags.Error as error:
    stopping.end(f'{str(error).rstrip("?. ")}; see --help')
  except USER_ERRORS as error:
    stopping.end(errors.describe(error))


if __name__ == '__main__':
  logging.set_verbosity(logging.WARNING)  # JAX tells which backends are missing
  app.run(main, flags_parser=parse)
