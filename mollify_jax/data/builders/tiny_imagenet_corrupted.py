"""Tiny-ImageNet-C: the 15 corruptions of the benchmark at 5 severities."""

import logging

import tensorflow_datasets as tfds

from mollify_jax.data import originals, tiny_imagenet_originals
from mollify_jax.data.builders import corrupted
from mollify_jax.data.facts import CORRUPTED, FACTS


class TinyImagenetCorrupted(tfds.core.GeneratorBasedBuilder):
  """Corrupted images of the classes of Tiny ImageNet.

  They were drawn and cropped anew by the authors: they are not the validation
  images of `tiny_imagenet`.
  """

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = corrupted.configs('tiny_imagenet_corrupted')

  def _info(self) -> tfds.core.DatasetInfo:
    facts = FACTS['tiny_imagenet']
    return tfds.core.DatasetInfo(
      builder=self,
      description=(
        '10,000 images of the classes of Tiny ImageNet under 15 common '
        'corruptions at 5 severities each, as published by the authors.'
      ),
      features=tfds.features.FeaturesDict(
        {
          'id': tfds.features.Text(),
          'image': tfds.features.Image(
            shape=facts.image_shape, encoding_format='jpeg'
          ),
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
    for _, examples in tiny_imagenet_originals.read_corrupted(
      path,
      FACTS['tiny_imagenet'],
      CORRUPTED[self.name],
      {self.builder_config.name},
      logging.getLogger(__name__).warning,
    ):
      yield from examples()
