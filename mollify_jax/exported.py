"""An exported classifier: a folder that is read without this package.

model.stablehlo         the network as a function of its parameters and of
                        pixels, through `jax.export`; any batch size
parameters.safetensors  the parameters by name, float32
config.json             of the run that they were trained in
export.json             what else one has to know, and everybody's digests

`--mode=export` writes it (see `training.export`). Reading one takes jax, numpy,
flatbuffers (for `jax.export`) and safetensors.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from mollify_jax import errors

FORMAT = 1
MODEL = 'model.stablehlo'
PARAMETERS = 'parameters.safetensors'
CONFIG = 'config.json'
RECORD = 'export.json'
FILES = (MODEL, PARAMETERS, CONFIG, RECORD)
# What to do about a folder that is not as it was written.
_REMEDY = 'copy the whole folder again, or export the run again'


class Export(NamedTuple):
  """What an exported folder holds.

  Attributes:
    record: export.json.
    parameters: name -> float32[...].
    function: a `jax.export.Exported`; `function.call(parameters, images)` maps
      uint8[B, H, W, C] to probabilities float32[B, K].
  """

  record: dict[str, Any]
  parameters: dict[str, np.ndarray]
  function: Any


def seal(record: Mapping[str, Any], files: Mapping[str, bytes]) -> bytes:
  """The content of export.json: a record with the digests of all files.

  Args:
    record: what JSON can hold.
    files: name -> content of the other three.
  """
  digests = {name: _sha256(files[name]) for name in FILES[:-1]}
  record = {**record, 'sha256': digests}
  digests[RECORD] = _sha256(_canonical(record))
  return f'{json.dumps(record, indent=1, allow_nan=False)}\n'.encode()


def read(folder: Path) -> Export:
  """Reads an exported folder whose files are as they were written.

  What a model.stablehlo computes may call into jaxlib: a digest tells damage,
  not whom a folder comes from. Read those of people whom you trust.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: a file is damaged or was altered, or the folder is of another
      version, or for other devices.
    ImportError: flatbuffers or safetensors is not installed.
    OSError: a file cannot be read.
  """
  record = _read_record(folder / RECORD)
  files = {}
  for name in FILES[:-1]:
    files[name] = _read_bytes(folder / name)
    if _sha256(files[name]) != record['sha256'][name]:
      raise ValueError(
        f'{folder / name} is damaged or was altered (its sha256 is not the one '
        f'in {RECORD}); {_REMEDY}'
      )
  _check_runs_here(folder, record)
  try:
    import flatbuffers  # noqa: F401, jax.export reads with it
    from safetensors.numpy import load
  except ImportError as error:
    raise ImportError(
      f'an export is read with flatbuffers and safetensors ({error}); pip '
      "install 'mollify_jax[export]'"
    ) from error
  try:
    function = jax.export.deserialize(bytearray(files[MODEL]))
  except Exception as error:  # whole, so what is not understood is newer
    raise ValueError(
      f'{folder / MODEL} was written by jax {record["jax"]} and jax '
      f'{jax.__version__} cannot read it ({errors.one_line(error)}); install '
      'that version, or export the run again with this one'
    ) from error
  return Export(record, load(files[PARAMETERS]), function)


def _read_record(path: Path) -> dict[str, Any]:
  """export.json, if it is whole."""
  try:
    record = json.loads(_read_bytes(path))
    if not isinstance(record, dict):
      raise ValueError(f'wanted an object, got {type(record).__name__}')
  except (ValueError, RecursionError) as error:
    raise ValueError(
      f'{path} is damaged ({errors.one_line(error)}); {_REMEDY}'
    ) from error
  if record.get('format') != FORMAT:
    raise ValueError(
      f'{path} is of format {record.get("format")!r}, wanted {FORMAT}; export '
      'the run again with this version of mollify_jax, or install the other'
    )
  digests = record.get('sha256')
  own = digests.pop(RECORD, None) if isinstance(digests, dict) else None
  if own != _sha256(_canonical(record)):
    raise ValueError(
      f'{path} is damaged or was altered (its sha256 is not the one that it '
      f'names); {_REMEDY}'
    )
  return record


def _check_runs_here(folder: Path, record: Mapping[str, Any]) -> None:
  """Refuses what this jax, or its devices, cannot run."""
  version = record['calling_convention_version']
  least = jax.export.minimum_supported_calling_convention_version
  most = jax.export.maximum_supported_calling_convention_version
  if not least <= version <= most:
    raise ValueError(
      f'{folder} was exported by jax {record["jax"]} with calling convention '
      f'{version}; jax {jax.__version__} knows {least} to {most}; install a '
      'version nearer to the other, or export the run again with this one'
    )
  platform = jax.export.default_export_platform()
  if platform not in record['platforms']:
    raise ValueError(
      f'{folder} was exported for {", ".join(record["platforms"])}, and the '
      f'devices here are {platform}; choose others with JAX_PLATFORMS'
    )


def _read_bytes(path: Path) -> bytes:
  if not path.exists():
    raise FileNotFoundError(
      f'{path} is missing; an exported folder holds {", ".join(FILES)}; '
      f'{_REMEDY}'
    )
  return path.read_bytes()


def _sha256(data: bytes) -> str:
  return hashlib.sha256(data).hexdigest()


def _canonical(record: Mapping[str, Any]) -> bytes:
  """The same bytes for the same record, however its file is laid out."""
  return json.dumps(record, sort_keys=True, separators=(',', ':')).encode()
