"""From a corruption's name to its kernel, its parameters and its randomness."""

import dataclasses
import functools
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp

from mollify_jax import rng
from mollify_jax.corruptions import blur, elastic, noise, spatter, weather
from mollify_jax.corruptions.color import brighten, saturate
from mollify_jax.corruptions.digital import pixelate, reduce_contrast
from mollify_jax.corruptions.jpeg import compress_jpeg
from mollify_jax.corruptions.severities import (
  CORRUPTIONS,
  EXTRA_CORRUPTIONS,
  PARAMETER_SETS,
  SEVERITIES,
  parameters_for,
)
from mollify_jax.corruptions.textures import TexturesMissingError
from mollify_jax.kernels.pixels import check_pixels


@dataclasses.dataclass(frozen=True)
class Kernel:
  """One corruption, its randomness apart.

  Attributes:
    apply: (image, *randomness, **parameters) -> float32 in [0, 255].
    draw: (key, image shape, **some parameters) -> randomness, a tuple; None if
      there is none.
    draw_takes: the parameters on which the shape of the randomness depends.
  """

  apply: Callable[..., jax.Array]
  draw: Callable[..., tuple[jax.Array, ...]] | None = None
  draw_takes: tuple[str, ...] = ()


KERNELS = MappingProxyType(
  {
    'gaussian_noise': Kernel(noise.add_gaussian_noise, noise.draw_normal),
    'shot_noise': Kernel(noise.expose_photons_at, noise.draw_bits),
    'impulse_noise': Kernel(noise.replace_at_random, noise.draw_uniform),
    'defocus_blur': Kernel(blur.defocus_blur),
    'glass_blur': Kernel(
      blur.shuffle_glass, blur.draw_offsets, ('max_delta', 'iterations')
    ),
    'motion_blur': Kernel(blur.smear_motion, blur.draw_motion),
    'zoom_blur': Kernel(blur.zoom_blur),
    'snow': Kernel(weather.cover_with_snow, weather.draw_snow),
    'frost': Kernel(weather.frost_at, weather.draw_frost),
    'fog': Kernel(weather.add_plasma_fog, weather.draw_plasma, ('grid',)),
    'brightness': Kernel(brighten),
    'contrast': Kernel(reduce_contrast),
    'elastic_transform': Kernel(
      elastic.elastic_transform_by, elastic.draw_elastic
    ),
    'pixelate': Kernel(pixelate),
    'jpeg_compression': Kernel(compress_jpeg),
    'speckle_noise': Kernel(noise.add_speckle_noise, noise.draw_normal),
    'gaussian_blur': Kernel(blur.gaussian_blur),
    'spatter': Kernel(spatter.spatter, spatter.draw_spatter),
    'saturate': Kernel(saturate),
  }
)


def draw_randomness(
  key: jax.Array,
  shape: tuple[int, ...],
  name: str,
  severity: int,
  parameters: str = 'cifar',
) -> tuple[jax.Array, ...]:
  """What is random in one corruption of one image.

  Args:
    key: key[].
    shape: (H, W, C) of the image.
    name: as in `corrupt`. Static, as all that follows.
    severity: likewise.
    parameters: likewise.

  Returns:
    Arrays for `corrupt_with`; () for a deterministic corruption. Most depend
    on neither severity nor parameters.

  Raises:
    ValueError: an unknown name, severity or parameter set.
  """
  draw, arguments = recipe(name, severity, parameters)
  return draw(key, shape, **dict(arguments)) if draw else ()


def recipe(
  name: str, severity: int, parameters: str
) -> tuple[Callable[..., Any] | None, tuple[tuple[str, Any], ...]]:
  """(draw, arguments): equal for equal randomness, and hashable.

  Drawing is most of what compiling a corruption takes; severities with the
  same recipe can share it.
  """
  values = _arguments(name, severity, parameters)
  kernel = KERNELS[name]
  return kernel.draw, tuple(
    (field, values[field]) for field in kernel.draw_takes
  )


def corrupt_with(
  image: jax.Array,
  randomness: tuple[jax.Array, ...],
  name: str,
  severity: int,
  parameters: str = 'cifar',
  *,
  dtype: jnp.dtype = jnp.uint8,
) -> jax.Array:
  """Corrupts one image with the randomness given.

  Args:
    image: as in `corrupt`.
    randomness: from `draw_randomness` with the same arguments.
    name: as in `corrupt`, static, as all that follows.
    severity: likewise.
    parameters: likewise.
    dtype: likewise.

  Returns:
    As `corrupt`.

  Raises:
    ValueError, TypeError: as `corrupt`.
  """
  arguments = _arguments(name, severity, parameters)
  check_pixels(image, 'corrupt')
  _check_size(image.shape[:2], parameters)
  if jnp.dtype(dtype) not in (jnp.uint8, jnp.float32):
    raise ValueError(f'dtype must be uint8 or float32, got {dtype!r}')
  return KERNELS[name].apply(image, *randomness, **arguments).astype(dtype)


def corrupt(
  key: jax.Array,
  image: jax.Array,
  name: str,
  severity: int,
  parameters: str = 'cifar',
  *,
  dtype: jnp.dtype = jnp.uint8,
) -> jax.Array:
  """Corrupts one image as the benchmark's scripts do.

  Args:
    key: key[]; deterministic corruptions ignore it.
    image: uint8[H, W, 3], RGB, or uint8[H, W, 1]. Any size; nothing is
      rescaled, so a parameter set means the same number of pixels at each.
    name: in `CORRUPTIONS` or `EXTRA_CORRUPTIONS`. Static, as all that follows.
    severity: 1..5.
    parameters: which script's numbers: `cifar` (for 32x32), `tiny_imagenet`
      (64x64) or `imagenet` (224x224). Another size takes any of them, by name.
    dtype: uint8 truncates, as the scripts do; float32 keeps the fractions.

  Returns:
    The given dtype, [H, W, C], in [0, 255].

  Raises:
    ValueError: an unknown name, severity or parameter set; a size for which
      another set was published; no single image; or a dtype of neither kind.
    TypeError: `image` is not uint8.
    TexturesMissingError: frost without its textures.
  """
  cell = name, severity, parameters
  parameters_for(*cell)
  check_pixels(image, 'corrupt')
  randomness = draw_randomness(key, image.shape, *cell)
  return corrupt_with(image, randomness, *cell, dtype=dtype)


@functools.partial(
  jax.jit, static_argnames=('name', 'severity', 'parameters', 'dtype')
)
def corrupt_batch(
  keys: jax.Array,
  images: jax.Array,
  name: str,
  severity: int,
  parameters: str = 'cifar',
  *,
  dtype: jnp.dtype = jnp.uint8,
) -> jax.Array:
  """Corrupts each image by itself: key[B], uint8[B, H, W, C]; see `corrupt`.

  Compiled once per shape, corruption, severity and parameter set.

  Raises:
    ValueError: also `images` is not a batch, or not as long as `keys`.
  """
  if jnp.ndim(images) != 4 or jnp.shape(keys) != (len(images),):
    raise ValueError(
      f'corrupt_batch takes images [B, H, W, C] and one key each, got shapes '
      f'{jnp.shape(images)!r} and {jnp.shape(keys)!r}; for one image call '
      'corrupt'
    )

  def one(key, image):
    return corrupt(key, image, name, severity, parameters, dtype=dtype)

  return jax.vmap(one)(keys, images)


def unavailable(
  image_shape: tuple[int, int, int], parameters: str
) -> dict[str, str]:
  """Corruptions that images of a shape cannot have here, and why.

  Args:
    image_shape: (H, W, C).
    parameters: as in `corrupt`.

  Returns:
    `frost`, with one line for the user, if its photographs are not installed,
    or one of them is smaller than the images; else nothing.

  Raises:
    ValueError: an unknown parameter set, or one for another size.
  """
  try:
    jax.eval_shape(
      lambda image: corrupt(jax.random.key(0), image, 'frost', 1, parameters),
      jax.ShapeDtypeStruct(image_shape, jnp.uint8),
    )
  except (TexturesMissingError, weather.TextureTooSmallError) as error:
    return {'frost': str(error)}
  return {}


def cell_keys(
  seed: int | jax.Array, name: str, severity: int, indices: jax.Array
) -> jax.Array:
  """The keys with which a test set is corrupted.

  Bound to the image, so that files written, images generated while evaluating
  and every batch size and number of devices agree.

  Args:
    seed: of the whole corrupted set, int32[] or int >= 0.
    name: as in `corrupt`.
    severity: likewise.
    indices: int32[B], positions in the test set.

  Returns:
    key[B].

  Raises:
    ValueError: unknown name or severity.
  """
  return rng.keys_at(
    rng.step_key(seed, rng.Purpose.CORRUPT, cell_number(name, severity)),
    indices,
  )


def cell_number(name: str, severity: int) -> int:
  """0..94: which of the 19 corruptions and 5 severities. Never to change.

  Raises:
    ValueError: unknown name or severity.
  """
  parameters_for(name, severity, 'cifar')  # checks both
  names = CORRUPTIONS + EXTRA_CORRUPTIONS
  return len(SEVERITIES) * names.index(name) + severity - 1


def _arguments(name, severity, parameters):
  """The kernel's parameters, with what the set fixes for all severities."""
  arguments = parameters_for(name, severity, parameters)
  facts = PARAMETER_SETS[parameters]
  if name == 'fog':
    arguments['grid'] = facts.fog_grid
  elif name == 'frost':
    arguments['texture_scale'] = facts.texture_scale
  return arguments


def _check_size(size, parameters):
  """Refuses a published size with another size's numbers."""
  for other, facts in PARAMETER_SETS.items():
    if size == (facts.size, facts.size) and other != parameters:
      raise ValueError(
        f'parameter set {parameters!r} for {size[0]}x{size[1]} images, for '
        f'which {other!r} was published; take parameters={other!r}'
      )
