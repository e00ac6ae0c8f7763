"""Batch normalisation as all models here use it."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn


def batch_norm(
  train: bool, dtype: Any, axis_name: str | None
) -> Callable[..., nn.BatchNorm]:
  """A constructor of normalisations; training and evaluation share weights.

  Momentum and epsilon are PyTorch's defaults. One difference remains: the
  running variance averages the biased batch variance, PyTorch's the unbiased
  one, larger by n / (n - 1) for n values per channel.

  Args:
    train: use the statistics of the batch, and update the running ones;
      otherwise use the running ones.
    dtype: of the output; statistics are float32 whatever it is.
    axis_name: mapped device axis over which the batch is split: statistics are
      those of the whole batch. None: the batch is all here.
  """
  return functools.partial(
    nn.BatchNorm,
    use_running_average=not train,
    momentum=0.9,
    epsilon=1e-5,
    dtype=dtype,
    axis_name=axis_name,
  )
