"""What the corrupted data sets have in common: one config per corruption."""

import dataclasses

import tensorflow_datasets as tfds

from mollify_jax.data.facts import CORRUPTED

CITATION = """@inproceedings{hendrycks2019benchmarking,
  title={Benchmarking Neural Network Robustness to Common Corruptions and
    Perturbations},
  author={Dan Hendrycks and Thomas Dietterich},
  booktitle={International Conference on Learning Representations},
  year={2019},
  url={https://openreview.net/forum?id=HJz6tiCqYm},
}"""


# tfds' own class is one of eq=False: its configs are told apart by name.
@dataclasses.dataclass(eq=False)
class CorruptedConfig(tfds.core.BuilderConfig):
  """One corruption at one severity.

  Attributes:
    corruption: as tfds calls it.
    severity: 1 is the mildest.
  """

  corruption: str = ''
  severity: int = 0


def configs(name: str) -> list[CorruptedConfig]:
  """The configs of a data set of `facts.CORRUPTED`, ordered as tfds does."""
  return [
    CorruptedConfig(
      name=config,
      description=(
        f'Corruption method: {corruption}, severity level: {severity}'
      ),
      corruption=corruption,
      severity=severity,
    )
    for config, (corruption, severity) in CORRUPTED[name].configs.items()
  ]
