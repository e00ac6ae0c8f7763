"""Real handwritten digits that come with scikit-learn: no network needed."""

import numpy as np

from mollify_jax.data import dataset, splits
from mollify_jax.data.facts import FACTS

TEST_EXAMPLES_PER_CLASS = 36
SPLIT_SEED = 0


def load() -> dataset.Dataset:
  """1,797 digits of 8 x 8 pixels: 1,437 for training, 360 for testing.

  The test split holds exactly 36 of each class, the training split the rest
  (138 to 147 of each). The split and the order of both parts are drawn once,
  with a fixed seed, so that any prefix is class-mixed. Pixels are counts in
  [0, 16], stored as round(count * 255 / 16).
  Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten
  Digits", UCI Machine Learning Repository, 1998 (its test part).

  Raises:
    ImportError: scikit-learn is not installed.
  """
  from sklearn.datasets import load_digits

  counts, labels = load_digits(return_X_y=True)
  images = np.rint(counts * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
  labels = labels.astype(np.int32)
  train, test = splits.hold_out(labels, TEST_EXAMPLES_PER_CLASS, SPLIT_SEED)
  facts = FACTS['digits']
  arrays = (images[train], labels[train], images[test], labels[test])
  return dataset.Dataset(
    'digits',
    *arrays,
    class_names=facts.class_names,
    mean=facts.mean,
    std=facts.std,
    fingerprint=dataset.fingerprint(*arrays),
  )
