"""Tiny ImageNet: 200 classes of ImageNet at 64 x 64 pixels."""

import tensorflow_datasets as tfds

from mollify_jax.data import originals, tiny_imagenet_originals
from mollify_jax.data.facts import FACTS


class TinyImagenet(tfds.core.GeneratorBasedBuilder):
  """Tiny ImageNet, its train and validation splits."""

  VERSION = tfds.core.Version('1.0.0')

  def _info(self) -> tfds.core.DatasetInfo:
    facts = FACTS['tiny_imagenet']
    return tfds.core.DatasetInfo(
      builder=self,
      description=(
        '200 classes of ImageNet at 64 x 64 pixels: 500 training and 50 '
        'validation images of each; labels count the WordNet ids in '
        'alphabetical order. The test images, whose labels were never '
        'published, are left out.'
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
      homepage='http://cs231n.stanford.edu/',
      citation=(
        '@misc{le2015tiny, title={Tiny ImageNet Visual Recognition Challenge}, '
        'author={Ya Le and Xuan Yang}, year={2015}, note={Stanford CS 231N}}'
      ),
    )

  def _split_generators(self, dl_manager):
    original = originals.ORIGINALS[self.name][0]
    path = dl_manager.download(original.url)
    originals.verify(path, original)
    splits = tiny_imagenet_originals.read(path, FACTS[self.name])
    return {
      split: self._generate_examples(examples)
      for split, examples in splits.items()
    }

  def _generate_examples(self, examples):
    yield from examples()
