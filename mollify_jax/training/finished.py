"""A finished run, opened again: its network, its weights, what they expect."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from mollify_jax import parallel
from mollify_jax.evaluation import reports
from mollify_jax.kernels.labels import num_outputs
from mollify_jax.kernels.pixels import normalize_images
from mollify_jax.models import create_model
from mollify_jax.training import optimizer as optimizers
from mollify_jax.training.checkpoints import Checkpoints
from mollify_jax.training.config import RunSpec, run_spec
from mollify_jax.training.state import create_state


class FinishedRun(NamedTuple):
  """What a workdir holds after its training.

  Attributes:
    directory: the workdir.
    results: its result record (see `reports`).
    spec: its config.
    model: the network.
    variables: of the network, NumPy arrays: `params` and `batch_stats`, the
      moving average's if it had one.
    image_shape: (H, W, C) of the images that it was trained on.
    mean: per channel, of pixels in [0, 1], that images are normalised with.
    std: likewise.
    class_names: K of them, in the order of the outputs.
  """

  directory: Path
  results: dict[str, Any]
  spec: RunSpec
  model: nn.Module
  variables: dict[str, Any]
  image_shape: tuple[int, int, int]
  mean: tuple[float, ...]
  std: tuple[float, ...]
  class_names: tuple[str, ...]


def open_run(workdir: str | os.PathLike) -> FinishedRun:
  """Opens a finished run without its data.

  Raises:
    FileNotFoundError: no results.json: not a workdir, or not finished.
    ValueError: a record of another version, or damaged; or no whole
      checkpoint of the last step.
    OSError: what cannot be read.
  """
  directory = Path(workdir).expanduser().absolute()
  results = reports.read_results(directory / 'results.json')
  if 'input' not in results:
    raise ValueError(
      f'{directory / "results.json"} was written by an earlier version and '
      'does not say how images are normalised; evaluate the run again with '
      '--mode=evaluate'
    )
  spec = run_spec(results['config'])
  facts = results['input']
  image_shape = tuple(facts['shape'])
  model = make_model(spec, results['num_classes'])
  optimizer = optimizers.make_optimizer(
    spec.optimizer, max(1, results['steps'] // spec.epochs), spec.epochs
  )
  # Shapes are all that a checkpoint is compared with.
  like = jax.eval_shape(
    lambda: create_state(
      model,
      optimizer,
      image_shape,
      spec.seed,
      with_ema=spec.optimizer.ema_decay > 0,
    )
  )
  folder = directory / 'checkpoints'
  if not folder.is_dir():  # which opening it would create
    raise FileNotFoundError(
      f'{folder} is missing: the weights of this run are not here; copy them '
      'there, or train again in another workdir'
    )
  with contextlib.closing(
    Checkpoints(folder, keep=spec.keep_checkpoints)
  ) as checkpoints:
    state = checkpoints.restore(like=like)
  if int(state.step) != results['steps']:
    raise ValueError(
      f'{directory}: the newest checkpoint is of step {int(state.step)} and '
      f'the results are of step {results["steps"]}; evaluate the run again '
      'with --mode=evaluate'
    )
  return FinishedRun(
    directory=directory,
    results=results,
    spec=spec,
    model=model,
    variables=state.variables(),
    image_shape=image_shape,
    mean=tuple(facts['mean']),
    std=tuple(facts['std']),
    class_names=tuple(results['class_names']),
  )


def make_model(spec: RunSpec, num_classes: int) -> nn.Module:
  """The network of a config; bfloat16 where `auto` and not on a CPU."""
  dtype = spec.dtype
  if dtype == 'auto':
    dtype = 'float32' if jax.default_backend() == 'cpu' else 'bfloat16'
  return create_model(
    spec.model,
    num_outputs(num_classes, spec.mollify.label_rule),
    dtype=jnp.dtype(dtype),
    axis_name=parallel.AXIS,
  )


def make_predict(run: FinishedRun) -> Callable[[Any, jax.Array], jax.Array]:
  """From pixels to probabilities.

  Returns:
    predict(variables, images), of the run's variables and uint8[B, H, W, C]:
    float32[B, K]. An extra class is dropped and the rest renormalised, as in
    `metrics`.
  """
  num_classes = len(run.class_names)

  def predict(variables, images):
    pixels = normalize_images(images, run.mean, run.std)
    logits = run.model.apply(variables, pixels, train=False)
    return jax.nn.softmax(logits[:, :num_classes].astype(jnp.float32))

  return predict
