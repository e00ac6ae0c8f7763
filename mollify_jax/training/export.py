"""A finished run written as a folder that is used without this package."""

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from mollify_jax import errors, exported
from mollify_jax.training.config import differences, run_spec
from mollify_jax.training.finished import FinishedRun, make_predict, open_run
from mollify_jax.training.workdir import locked

FOLDER = 'export'
# All that jax.export knows of.
PLATFORMS = ('cpu', 'cuda', 'rocm', 'tpu')


def export_run(directory: Path) -> dict[str, Any]:
  """Writes DIRECTORY/export, all of it or nothing; see `exported`.

  One that is there already is replaced once the new one is complete.

  Args:
    directory: the workdir of a finished run.

  Returns:
    The record, as in export.json.

  Raises:
    ValueError: the training has not finished, there are several processes,
      what is in the place of the export is not an export of this run, or
      flatbuffers or safetensors is not installed.
    OSError: it cannot be written, or the run not be read.
  """
  if jax.process_count() > 1:
    raise ValueError(
      f'--mode=export is for one process, and there are {jax.process_count()}; '
      'run it on one host, without --distributed and --coordinator'
    )
  if not (directory / 'results.json').exists():
    raise ValueError(
      f'--mode=export wants a finished training, and {directory} has no '
      'results.json; run the command without --mode'
    )
  with locked(directory):
    _remove_leftovers(directory)
    run = open_run(directory)
    _check_replaceable(directory / FOLDER, run)
    files = make_files(run)
    _write_folder(directory / FOLDER, files)
  return json.loads(files[exported.RECORD])


def describe(record: Mapping[str, Any]) -> str:
  """What was exported, for the terminal."""
  shape = ', '.join(map(str, record['image_shape']))
  return (
    f'{record["dataset"]}, {record["model"]}, {record["method"]}: '
    f'{record["steps"]} steps\n\n'
    f'exported into {FOLDER}/: uint8 [B, {shape}] to '
    f'{len(record["class_names"])} probabilities, for '
    f'{", ".join(record["platforms"])}'
  )


def make_files(run: FinishedRun) -> dict[str, bytes]:
  """The contents of an export: name -> bytes.

  The network computes in the type that it would compute in here: a run whose
  dtype is `auto` is exported in float32 on a CPU, in bfloat16 elsewhere.

  Raises:
    ValueError: flatbuffers or safetensors is not installed.
  """
  try:
    import flatbuffers  # noqa: F401, jax.export writes with it
    from safetensors.numpy import save
  except ImportError as error:
    raise ValueError(
      f'an export is written with flatbuffers and safetensors ({error}); pip '
      "install 'mollify_jax[export]'"
    ) from error
  parameters = {
    name: np.ascontiguousarray(array, np.float32)
    for name, array in sorted(flatten_dict(run.variables, sep='.').items())
  }
  function = _export(run, parameters)
  config = json.dumps(run.results['config'], indent=1)
  files = {
    exported.MODEL: bytes(function.serialize()),
    exported.PARAMETERS: save(parameters),
    exported.CONFIG: f'{config}\n'.encode(),
  }
  record = {
    'format': exported.FORMAT,
    **{
      name: run.results[name]
      for name in ('method', 'dataset', 'data_fingerprint', 'model', 'steps')
    },
    'class_names': list(run.class_names),
    'image_shape': list(run.image_shape),
    'normalisation': {'mean': list(run.mean), 'std': list(run.std)},
    'dtype': np.dtype(run.model.dtype).name,
    # In the order in which the program takes them, before the images.
    'parameters': [
      {'name': name, 'shape': list(array.shape)}
      for name, array in parameters.items()
    ],
    'platforms': list(function.platforms),
    'calling_convention_version': function.calling_convention_version,
    'jax': jax.__version__,
  }
  files[exported.RECORD] = exported.seal(record, files)
  return files


def _export(run: FinishedRun, parameters: Mapping[str, np.ndarray]) -> Any:
  """The `jax.export.Exported` of (parameters by name, uint8[B, H, W, C])."""
  predict = make_predict(run)

  def classify(parameters, images):
    return predict(unflatten_dict(parameters, sep='.'), images)

  (batch,) = jax.export.symbolic_shape('batch')
  arguments = (
    {
      name: jax.ShapeDtypeStruct(array.shape, array.dtype)
      for name, array in parameters.items()
    },
    jax.ShapeDtypeStruct((batch, *run.image_shape), np.uint8),
  )
  # Or the paths of this machine would be in the file, and its bytes would
  # differ from one machine to the next.
  frames = jax.config.jax_traceback_in_locations_limit
  jax.config.update('jax_traceback_in_locations_limit', 0)
  try:
    return jax.export.export(jax.jit(classify), platforms=PLATFORMS)(*arguments)
  finally:
    jax.config.update('jax_traceback_in_locations_limit', frames)


def _check_replaceable(folder: Path, run: FinishedRun) -> None:
  """Refuses to replace what is not an export of this run."""
  if not os.path.lexists(folder):
    return
  remedy = 'move it away'
  if folder.is_symlink() or not folder.is_dir():
    raise ValueError(
      f'{folder} is not a folder, and the export would take its place; {remedy}'
    )
  strange = {path.name for path in folder.iterdir()} - {*exported.FILES}
  if strange:
    raise ValueError(
      f'{folder} holds {min(strange)!r}, which is not part of an export; '
      f'{remedy}'
    )
  try:
    config = json.loads((folder / exported.CONFIG).read_bytes())
    changed = differences(_compared(config), _compared(run.results['config']))
  except (OSError, ValueError, TypeError, AttributeError, RecursionError):
    return  # a damaged one, which is what to export again for
  if changed:
    raise ValueError(
      f'{folder} holds an export of another config ({"; ".join(changed)}); '
      f'{remedy}'
    )


def _compared(config: Mapping[str, Any]) -> dict[str, Any]:
  """A config with what fields had before they could be set, but `eval`."""
  whole = dataclasses.asdict(run_spec(config))
  return {**json.loads(json.dumps(whole)), 'eval': {}}


def _write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
  """Writes files into a folder beside, and renames it into place.

  Between the two renames that replace a folder there is none for a moment; a
  process killed just then leaves both, and the next export mends that.
  """
  try:
    temporary = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder.parent))
    old = temporary.with_name(f'{temporary.name}.old')
    try:
      for name, data in files.items():
        (temporary / name).write_bytes(data)
      temporary.chmod(0o755)
      if folder.exists():
        folder.rename(old)
      temporary.rename(folder)
    except BaseException:
      if old.exists() and not folder.exists():
        old.rename(folder)
      shutil.rmtree(temporary, ignore_errors=True)
      raise
  except OSError as error:
    if errors.is_bare(error):  # a full disk is told without a name
      error.filename, error.filename2 = os.fspath(folder), None
    raise
  shutil.rmtree(old, ignore_errors=True)


_PREFIX = f'.{FOLDER}.'


def _remove_leftovers(directory: Path) -> None:
  """Deletes folders of an export that was killed.

  One that was killed between its two renames has left the old export under
  another name: it goes back.
  """
  for old in directory.glob(f'{_PREFIX}*.old'):
    if not os.path.lexists(directory / FOLDER):
      old.rename(directory / FOLDER)
  for path in directory.glob(f'{_PREFIX}*'):
    shutil.rmtree(path, ignore_errors=True)
