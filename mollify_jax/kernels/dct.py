"""The orthonormal DCT-II basis, in which the heat equation is diagonal."""

import functools
import math

import numpy as np


@functools.cache
def dct_basis(size: int) -> np.ndarray:
  """The orthonormal DCT-II matrix D: coefficients = D @ signal.

  D[i, n] = c_i cos(pi i (n + 1/2) / size) with c_0 = sqrt(1 / size) and
  c_i = sqrt(2 / size) otherwise; D D^T = I.

  Args:
    size: number of samples, static, >= 1.

  Returns:
    float32[size, size], computed in float64 and rounded once; read-only.
  """
  frequency = np.arange(size)[:, None]
  position = np.arange(size)[None, :] + 0.5
  basis = math.sqrt(2 / size) * np.cos(math.pi * frequency * position / size)
  basis[0] = math.sqrt(1 / size)
  return _read_only(basis)


@functools.cache
def squared_angular_frequencies(size: int) -> np.ndarray:
  """The Laplacian's eigenvalues along one axis, (pi i / size)^2 per pixel^2.

  Returns:
    float32[size]; read-only.
  """
  return _read_only(np.square(math.pi * np.arange(size) / size))


@functools.cache
def squared_frequencies(height: int, width: int) -> np.ndarray:
  """The Laplacian's eigenvalues pi^2 (i^2 / H^2 + j^2 / W^2) per pixel^2.

  Axis 0 is the vertical frequency i < H, axis 1 the horizontal j < W.

  Returns:
    float32[height, width]; read-only.
  """
  vertical = np.square(math.pi * np.arange(height) / height)
  horizontal = np.square(math.pi * np.arange(width) / width)
  return _read_only(vertical[:, None] + horizontal[None, :])


def _read_only(array: np.ndarray) -> np.ndarray:
  array = array.astype(np.float32)
  array.flags.writeable = False
  return array
