"""tfds builders that tfds lacks; they need no TensorFlow.

Importing this package registers them, so that `tfds.builder` and
`tfds.data_source` find them by name. `mollify_jax.data.prepare` writes their
files; `download_and_prepare` does so, too, one config at a time.
"""

from mollify_jax.data.builders.cifar100_corrupted import Cifar100Corrupted
from mollify_jax.data.builders.tiny_imagenet import TinyImagenet
from mollify_jax.data.builders.tiny_imagenet_corrupted import (
  TinyImagenetCorrupted,
)

__all__ = ['Cifar100Corrupted', 'TinyImagenet', 'TinyImagenetCorrupted']
