"""CIFAR-100-C, the twin of tfds' own cifar10_corrupted."""

import tensorflow_datasets as tfds

from mollify_jax.data import cifar_originals, originals
from mollify_jax.data.builders import corrupted
from mollify_jax.data.facts import CORRUPTED, FACTS


class Cifar100Corrupted(tfds.core.GeneratorBasedBuilder):
  """The CIFAR-100 test images under 15 corruptions and 4 extra ones."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = corrupted.configs('cifar100_corrupted')

  def _info(self) -> tfds.core.DatasetInfo:
    facts = FACTS['cifar100']
    return tfds.core.DatasetInfo(
      builder=self,
      description=(
        'The test images of CIFAR-100 under 15 common corruptions and 4 extra '
        'ones, at 5 severities each, as published by the authors.'
      ),
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(shape=facts.image_shape),
          'label': tfds.features.ClassLabel(names=facts.class_names),
        }
      ),
      supervised_keys=('image', 'label'),
      homepage='https://github.com/hendrycks/robustness',
      citation=corrupted.CITATION,
    )

  def _split_generators(self, dl_manager):
    original = originals.ORIGINALS[self.name][0]
    path = dl_manager.download(original.url)
    originals.verify(path, original)
    return {CORRUPTED[self.name].split: self._generate_examples(path)}

  def _generate_examples(self, path):
    for _, examples in cifar_originals.read_corrupted(
      path,
      FACTS['cifar100'],
      CORRUPTED[self.name],
      {self.builder_config.name},
    ):
      yield from examples()
