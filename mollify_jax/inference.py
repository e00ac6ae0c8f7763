"""The front door for a trained classifier: pixels in, probabilities out."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mollify_jax import exported
from mollify_jax.parallel import collect


class Classifier:
  """A trained network on the default device; see `load`.

  Attributes:
    class_names: K of them, in the order of the probabilities.
    image_shape: (H, W, C) of the images that it takes, those that it was
      trained on. For other sizes `training.finished.open_run` has the network
      itself.
  """

  def __init__(
    self,
    function: Callable[[Any, Any], jax.Array],
    parameters: Any,
    *,
    class_names: Sequence[str],
    image_shape: Sequence[int],
    max_batch: int = 256,
  ):
    """Copies the parameters to the device.

    Args:
      function: (parameters, uint8[B, H, W, C]) -> float32[B, K], for any B.
      parameters: a tree of arrays.
      class_names: K.
      image_shape: (H, W, C).
      max_batch: images per call at most.

    Raises:
      ValueError: `max_batch` < 1.
    """
    if max_batch < 1:
      raise ValueError(f'max_batch must be >= 1, got {max_batch!r}')
    self.class_names = tuple(class_names)
    self.image_shape = tuple(image_shape)
    self._function = jax.jit(function)
    self._parameters = jax.device_put(parameters)
    self._max_batch = max_batch

  def predict(self, images: np.ndarray | jax.Array) -> np.ndarray:
    """The probability of each class.

    Images are sent in parts of at most `max_batch`; the last part is filled up
    to a power of two, so that few sizes are ever compiled and less than half of
    any call is filling. It does its own compiling and cannot be called under
    `jax.jit`.

    Args:
      images: uint8[H, W, C] or [B, H, W, C], B >= 0, pixels as they are
        stored: normalisation is done here.

    Returns:
      float32[K] or [B, K], each row of sum 1. A network with an extra class
      (the label rules `extra` and `extra_smooth`) gives the probabilities of
      the K classes under the condition that it is none of the extra one, as
      they are evaluated.

    Raises:
      TypeError: the images are not uint8.
      ValueError: their shape is not that of `image_shape`, with or without a
        batch axis.
    """
    pixels = self._checked(images)
    if pixels.ndim == 3:
      return self._predict_batch(pixels[None])[0]
    return self._predict_batch(pixels)

  def classify(self, images: np.ndarray | jax.Array) -> str | list[str]:
    """The name of the most probable class, or one name per image.

    Arguments and errors as of `predict`.
    """
    best = np.argmax(self.predict(images), axis=-1)
    if best.ndim == 0:
      return self.class_names[best]
    return [self.class_names[index] for index in best]

  def _predict_batch(self, pixels):
    if len(pixels) == 0:
      return np.zeros((0, len(self.class_names)), np.float32)
    outputs = collect(
      self._function(self._parameters, part) for part in self._parts(pixels)
    )
    return np.concatenate(outputs)[: len(pixels)]

  def _parts(self, pixels):
    """Parts of at most `max_batch` images, the last one filled with zeros."""
    for first in range(0, len(pixels), self._max_batch):
      part = pixels[first : first + self._max_batch]
      size = min(1 << (len(part) - 1).bit_length(), self._max_batch)
      missing = size - len(part)
      yield np.pad(part, ((0, missing), (0, 0), (0, 0), (0, 0)))

  def _checked(self, images):
    """The images as a NumPy array: padding on the device would compile."""
    try:
      pixels = np.asarray(images)
    except ValueError as error:
      raise ValueError(
        f'images are no array ({error}); give all of them one size'
      ) from error
    height, width, channels = self.image_shape
    wanted = f'[{height}, {width}, {channels}] or [B, {height}, {width}, '
    wanted += f'{channels}]'
    if pixels.dtype != np.uint8:
      raise TypeError(
        f'images are {pixels.dtype.name!r}, want uint8 pixels 0..255 of shape '
        f'{wanted}: give them as they are stored, normalisation is done here'
      )
    if pixels.ndim not in (3, 4):
      raise ValueError(
        f'images have the shape {pixels.shape!r}, want {wanted}: a grey image '
        'needs a channel axis, too'
      )
    if pixels.shape[-1] != channels:
      raise ValueError(
        f'images of shape {pixels.shape!r} have {pixels.shape[-1]} channels, '
        f'want {wanted}: convert them'
      )
    if pixels.shape[-3:] != self.image_shape:
      raise ValueError(
        f'images of shape {pixels.shape!r} are {pixels.shape[-3]}x'
        f'{pixels.shape[-2]}, want {wanted}: resize them'
      )
    return pixels


def load(path: str | os.PathLike, *, max_batch: int = 256) -> Classifier:
  """Loads a trained classifier.

      classifier = mollify_jax.load('/tmp/digits')
      probabilities = classifier.predict(images)  # uint8 [B, H, W, C]

  Args:
    path: the workdir of a finished run, which takes what training takes (the
      extra `train`); or a folder that `--mode=export` wrote, or its
      model.stablehlo or export.json, which take flatbuffers and safetensors
      only. Load exports of people whom you trust: they are programs.
    max_batch: images that are sent to the device in one call; fewer take less
      memory.

  Raises:
    FileNotFoundError: there is no such path, or a file of it is missing.
    ValueError: it is neither, is not whole, or does not run here; `max_batch`
      < 1.
    ImportError: a package that it takes is not installed.
    OSError: a file cannot be read.
  """
  given = Path(path).expanduser().absolute()
  is_file = given.is_file()
  folder = given
  if is_file and given.name in (exported.MODEL, exported.RECORD):
    folder = given.parent
  if not given.exists():
    raise FileNotFoundError(
      f'{given} does not exist; wanted the workdir of a finished run, or a '
      'folder that --mode=export wrote'
    )
  for name in (exported.RECORD, exported.MODEL):
    if (folder / name).exists():
      return _load_export(folder, max_batch)
  if (folder / 'results.json').exists():
    return _load_run(folder, max_batch)
  if (folder / 'config.json').exists():
    raise ValueError(
      f'{given} is the workdir of a run that has not finished (it has no '
      'results.json); run its command again'
    )
  raise ValueError(
    f'{given} is {"a file" if is_file else "a folder"} that is neither the '
    f'workdir of a finished run (with results.json) nor an export (with '
    f'{exported.RECORD}); check the path'
  )


def _load_export(folder, max_batch):
  export = exported.read(folder)
  return Classifier(
    export.function.call,
    export.parameters,
    class_names=export.record['class_names'],
    image_shape=export.record['image_shape'],
    max_batch=max_batch,
  )


def _load_run(folder, max_batch):
  try:
    from mollify_jax.training import finished
  except ImportError as error:
    raise ImportError(
      f'{folder} is a workdir, and opening one takes what training takes '
      f"({error}); pip install 'mollify_jax[train]', or load what "
      '--mode=export writes'
    ) from error
  run = finished.open_run(folder)
  return Classifier(
    finished.make_predict(run),
    run.variables,
    class_names=run.class_names,
    image_shape=run.image_shape,
    max_batch=max_batch,
  )
