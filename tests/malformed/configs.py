"""Config fields and files, and command lines, that are wrong."""

from .place import ROOT, Case, Place, become_directory, forbid


def flags(*values, config='digits.py'):
  """The trainer with fields of the config changed."""

  def set_up(place: Place):
    return place.train(
      *(f'--config.{value}' for value in values), config=config
    )

  return set_up


def file(text):
  """A config file with that text; DIGITS is configs/digits.py."""

  def set_up(place: Place):
    path = place.path / 'config.py'
    digits = (ROOT / 'configs' / 'digits.py').read_text()
    if isinstance(text, bytes):
      path.write_bytes(text)
    else:
      path.write_text(text.replace('DIGITS', digits))
    return place.train(config=str(path))

  return set_up


def damaged_file(damage):
  def set_up(place: Place):
    argv = file('DIGITS')(place)
    damage(place.path / 'config.py')
    return argv

  return set_up


def changed(line):
  """configs/digits.py with one more line before it returns."""
  head, _, tail = (
    (ROOT / 'configs' / 'digits.py').read_text().rpartition('  return config')
  )
  return file(f'{head}  {line}\n  return config{tail}')


def replaced(field):
  """The same with a field replaced that ConfigDict would keep in its type."""
  fields = f'dict(config.to_dict(), {field})'
  return changed(f'config = ml_collections.ConfigDict({fields})')


def bare(*arguments):
  return lambda place: ['mollify_jax.main', *arguments]


def made(*options, dataset='digits'):
  return lambda place: place.make(*options, dataset=dataset)


CASES = {
  # Misspelt.
  'a field misspelt': Case(flags('epoch=3')),
  'a field of a section misspelt': Case(flags('mollify.betab=3')),
  'a section misspelt': Case(flags('molify.beta_b=3')),
  'a field below a value': Case(flags('epochs.x=3')),
  'a field misspelt in the file': Case(changed('config.epoch = 3')),
  'a field of a section misspelt in the file': Case(
    changed('config.optimizer.learning_rat = 0.1')
  ),
  'a field left out': Case(changed('del config.seed')),
  'a section left out': Case(changed('del config.mollify')),
  # Of the wrong type.
  'text for an int': Case(flags('batch_size=many')),
  'a float for an int': Case(flags('epochs=1.5')),
  'text for a bool': Case(flags('tensorboard=perhaps')),
  'an int for a tuple in the file': Case(
    changed('config.eval = dict(config.eval, temperatures=0.5)')
  ),
  'text for a tuple in the file': Case(
    replaced("augment='crop'"),
  ),
  'text for numbers': Case(flags("eval.temperatures=('a',)")),
  'a bool for an int in the file': Case(
    replaced('epochs=True'),
  ),
  'a value for a section': Case(
    replaced('data=3'),
  ),
  'a section for a value': Case(
    replaced('seed={}'),
  ),
  'NaN': Case(flags('optimizer.learning_rate=nan')),
  'infinity': Case(flags('mollify.beta_a=inf')),
  # Out of range.
  **{
    f'{field} out of range': Case(flags(field))
    for field in (
      'seed=-1',
      'batch_size=0',
      'label_smoothing=1.5',
      'data_memory_share=0.0',
      'mollify.beta_b=-1.0',
      'mollify.blur_width_min=-1.0',
      'optimizer.learning_rate=-0.1',
      'optimizer.momentum=1.5',
      'eval.temperatures=(1.5,)',
      'data.train_examples=-1',
      'data.validation_fraction=1.0',
      'augment_options.crop_padding=-1',
    )
  },
  # A name that is none.
  **{
    f'{field} unknown': Case(flags(field))
    for field in (
      'model=resnet9000',
      'data.name=mnist',
      'loss=l2',
      "augment=('crpo',)",
      "mollify.roles=('clean','fog')",
      'mollify.label_rule=smoth',
      'optimizer.name=adam',
      'optimizer.schedule=cosine',
      'eval.corruptions=fogg',
      'data.evaluate_on=train',
    )
  },
  # Contradictory.
  'momentum of AdamW': Case(
    flags('optimizer.name=adamw', 'optimizer.momentum=0.8')
  ),
  'more warm-up than training': Case(flags('optimizer.warmup_epochs=2.0')),
  'a batch beyond the data': Case(flags('batch_size=64')),
  'more examples than there are': Case(flags('data.test_examples=99999')),
  'validation without a share': Case(flags('data.evaluate_on=validation')),
  'an archive without a path': Case(flags('data.name=archive')),
  'a path for digits': Case(flags('data.path=a.npz')),
  'an image size for digits': Case(flags('data.image_size=8')),
  'digits streamed': Case(flags('feed=streaming')),
  'temperatures twice': Case(flags('eval.temperatures=(0.5,0.5)')),
  'consistency without augmix': Case(
    changed('config.consistency_weight = 12.0')
  ),
  'widths the wrong way round': Case(flags('mollify.blur_width_min=9.0')),
  'no roles': Case(flags('mollify.roles=()')),
  # Config files.
  'no such file': Case(
    lambda place: place.train(config=f'{place.path}/config.py')
  ),
  'no such variant': Case(lambda place: place.train(config='digits.py:fog')),
  'no Python': Case(file('config = {')),
  'a file of bytes': Case(file(b'\xff\xfe\x00')),
  'an empty file': Case(file('')),
  'get_config that returns nothing': Case(
    file('def get_config(variant=""):\n  pass')
  ),
  'get_config that returns a dict': Case(
    file('def get_config(variant=""):\n  return {"epochs": 1}')
  ),
  'a file that raises': Case(file('1 / 0')),
  'get_config that raises': Case(
    file('def get_config(variant=""):\n  return [][1]')
  ),
  'a value that is no value': Case(changed('config.method = object()')),
  'an import that is not there': Case(file('import no_such_module')),
  'a file without permission': Case(damaged_file(forbid)),
  'a directory for a file': Case(damaged_file(become_directory)),
  # Command lines.
  'no config': Case(bare('--workdir=/nowhere')),
  'no workdir': Case(bare(f'--config={ROOT}/configs/digits.py')),
  'an empty workdir': Case(
    bare(f'--config={ROOT}/configs/digits.py', '--workdir=')
  ),
  'an unknown flag': Case(lambda place: place.train('--wrokdir=x')),
  'an unknown mode': Case(lambda place: place.train('--mode=test')),
  'a stray argument': Case(lambda place: place.train('stray')),
  'text for a number of processes': Case(
    lambda place: place.train('--num_processes=two')
  ),
  'make, no data set': Case(
    lambda place: ['mollify_jax.corruptions.make', f'--out={place.path}/o']
  ),
  'make, an unknown data set': Case(made(dataset='mnist')),
  'make, an unknown corruption': Case(made('--corruptions=fogg')),
  'make, an unknown set of parameters': Case(made('--parameters=x')),
  'make, a negative seed': Case(made('--seed=-1')),
  'make, text for a seed': Case(made('--seed=x')),
  'make, no batch': Case(made('--batch_size=0')),
  'make, too many examples': Case(made('--test_examples=9999')),
  'make, an unknown option': Case(made('--sed=1')),
  'make, an image size for digits': Case(made('--image_size=9')),
  'make, a stream': Case(made(dataset='imagenet')),
}
