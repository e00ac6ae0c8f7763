"""MixUp and CutMix: each example is mixed with its partner, labels alike.

The semantics are those of torchvision's transforms v2, which the authors use:
the partner of an example is the one before it in the batch. Each deterministic
kernel takes one example; the sampling functions take a batch.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from mollify_jax.augment.boxes import check_box, span
from mollify_jax.kernels.shapes import check_positive, check_scalar


def mix_example(
  image: jax.Array,
  partner_image: jax.Array,
  label: jax.Array,
  partner_label: jax.Array,
  lam: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Mixes one example with another: lam x + (1 - lam) partner, label alike.

  Source: Zhang et al. 2018, "mixup" (arXiv 1710.09412).

  Args:
    image: float[H, W, C], any value range.
    partner_image: of the image's shape and dtype.
    label: float[K], any distribution.
    partner_label: of the label's shape and dtype.
    lam: float[], the share of the example itself, in [0, 1].

  Returns:
    image, label: shapes and dtypes as received, computed in float32. The
    example itself at lam = 1, its partner at lam = 0.

  Raises:
    ValueError: wrong ranks, or partners of other shapes.
    TypeError: integer images or labels, or partners of other dtypes.
  """
  _check_examples(
    'mix_example', 'mixup', image, partner_image, label, partner_label
  )
  _check_float_image('mix_example', image)
  check_scalar(lam, 'lam', 'mix_example')
  return (
    _blend(image, partner_image, lam),
    _blend(label, partner_label, lam),
  )


def cut_example(
  image: jax.Array,
  partner_image: jax.Array,
  label: jax.Array,
  partner_label: jax.Array,
  box: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Pastes a box of another example over one, and mixes the labels by area.

  The weight of the own label is 1 - (area of the box) / (H W). Source: Yun et
  al. 2019, "CutMix" (arXiv 1905.04899).

  Args:
    image: [H, W, C] of any dtype.
    partner_image: of the image's shape and dtype.
    label: float[K], any distribution.
    partner_label: of the label's shape and dtype.
    box: int32[4] = (top, left, bottom, right), half-open, in pixels. What lies
      outside the image is neither pasted nor counted; empty is allowed.

  Returns:
    image, label: shapes and dtypes as received. The example itself where the
    box is empty, its partner where the box is the whole image.

  Raises:
    ValueError: wrong ranks, or partners of other shapes.
    TypeError: integer labels, partners of other dtypes, a box of floats.
  """
  _check_examples(
    'cut_example', 'cutmix', image, partner_image, label, partner_label
  )
  check_box(box, 'cut_example')
  height, width, _ = jnp.shape(image)
  top, left, bottom, right = jnp.asarray(box, jnp.int32)
  rows = span(top, bottom, height)
  columns = span(left, right, width)
  inside = rows[:, None, None] & columns[:, None]
  area = rows.sum(dtype=jnp.int32) * columns.sum(dtype=jnp.int32)
  lam = 1.0 - area.astype(jnp.float32) / (height * width)
  lam = jnp.maximum(lam, 0.0)  # XLA divides by way of the reciprocal
  return (
    jnp.where(inside, partner_image, image),
    _blend(label, partner_label, lam),
  )


def cutmix_box(
  lam: jax.Array,
  center_row: jax.Array,
  center_column: jax.Array,
  height: int | jax.Array,
  width: int | jax.Array,
) -> jax.Array:
  """The box that CutMix pastes: sides sqrt(1 - lam) of the image's, clipped.

  The half sides are rounded down, floor(sqrt(1 - lam) H / 2), so sides are
  even before clipping and `lam` is not quite the weight of the own label;
  `cut_example` takes that from the box.

  Args:
    lam: float[], the part of the image to keep, in [0, 1].
    center_row: int32[], in [0, height).
    center_column: int32[], in [0, width).
    height: of the image, in pixels.
    width: likewise.

  Returns:
    int32[4] = (top, left, bottom, right), half-open, inside the image; empty
    where lam is near 1.

  Raises:
    ValueError: `lam` or a coordinate is not a scalar.
  """
  check_scalar(lam, 'lam', 'cutmix_box')
  check_scalar(center_row, 'center_row', 'cutmix_box')
  check_scalar(center_column, 'center_column', 'cutmix_box')
  lam = jnp.asarray(lam, jnp.float32)
  center = jnp.stack([center_row, center_column]).astype(jnp.int32)
  sides = jnp.stack([height, width]).astype(jnp.int32)
  half = (0.5 * jnp.sqrt(1.0 - lam) * sides).astype(jnp.int32)
  return jnp.concatenate(
    [jnp.maximum(center - half, 0), jnp.minimum(center + half, sides)]
  )


def draw_lambda(key: jax.Array, alpha: float) -> jax.Array:
  """Draws one lambda ~ Beta(alpha, alpha).

  Args:
    key: key[] of one example or batch, not yet split.
    alpha: finite, > 0, static.

  Returns:
    float32[] in [0, 1].

  Raises:
    ValueError, TypeError: `alpha` out of range or not a number.
  """
  check_positive('alpha', alpha)
  key = jax.random.fold_in(key, _DRAW_LAMBDA)
  if alpha == 1:  # uniform: no need of the rejection sampler behind beta
    return jax.random.uniform(key, (), jnp.float32)
  return jax.random.beta(key, alpha, alpha, dtype=jnp.float32)


def draw_cutmix_box(
  key: jax.Array, alpha: float, height: int, width: int
) -> jax.Array:
  """Draws one box for CutMix: lambda, and a centre uniform over the pixels.

  Args:
    key: key[] of one example or batch, not yet split.
    alpha: of lambda ~ Beta(alpha, alpha); finite, > 0, static.
    height: of the image, in pixels, static.
    width: likewise.

  Returns:
    int32[4], see `cutmix_box`.

  Raises:
    ValueError, TypeError: `alpha` out of range or not a number.
  """
  center_row, center_column = jax.random.randint(
    jax.random.fold_in(key, _DRAW_CENTER),
    (2,),
    0,
    jnp.array([height, width], jnp.int32),
    jnp.int32,
  )
  lam = draw_lambda(key, alpha)
  return cutmix_box(lam, center_row, center_column, height, width)


def mixup(
  key: jax.Array,
  images: jax.Array,
  labels: jax.Array,
  *,
  alpha: float = 1.0,
  partners: tuple[jax.Array, jax.Array] | None = None,
) -> tuple[jax.Array, jax.Array]:
  """MixUp on a batch: draws lambda ~ Beta(alpha, alpha), see `mix_example`.

  Args:
    key: key[]: one lambda for the batch, as the authors have it. Or key[B]: a
      lambda per example; the result for an example then depends on its key,
      itself and its partner only.
    images: float[B, H, W, C], any value range.
    labels: float[B, K], any distributions.
    alpha: finite, > 0, static. Lambda is uniform at 1.
    partners: (images, labels) of the same shapes and dtypes, what to mix each
      example with. None: the example before it, the last one for the first. A
      device that holds a part of a batch passes the partners its part has in
      the whole.

  Returns:
    images, labels: shapes and dtypes as received, computed in float32.

  Raises:
    ValueError: wrong ranks, shapes or lengths, or `alpha` out of range.
    TypeError: an old-style key, integer images or labels, partners of other
      dtypes, or `alpha` not a number.
  """
  check_positive('alpha', alpha)
  partners = _check_batch('mixup', mix_example, key, images, labels, partners)
  _check_float_image('mixup', images)
  draw = functools.partial(draw_lambda, alpha=alpha)
  return _mix_batch(mix_example, draw, key, images, labels, partners)


def cutmix(
  key: jax.Array,
  images: jax.Array,
  labels: jax.Array,
  *,
  alpha: float = 1.0,
  partners: tuple[jax.Array, jax.Array] | None = None,
) -> tuple[jax.Array, jax.Array]:
  """CutMix on a batch: draws lambda and a box, see `cut_example`.

  Lambda ~ Beta(alpha, alpha), the centre of the box uniform over all pixels;
  `cutmix_box` makes the box of them.

  Args:
    key: key[]: one box for the batch, as the authors have it. Or key[B]: a box
      per example; the result for an example then depends on its key, itself
      and its partner only.
    images: [B, H, W, C] of any dtype.
    labels: float[B, K], any distributions.
    alpha: finite, > 0, static. Lambda is uniform at 1.
    partners: as in `mixup`.

  Returns:
    images, labels: shapes and dtypes as received.

  Raises:
    ValueError: wrong ranks, shapes or lengths, or `alpha` out of range.
    TypeError: an old-style key, integer labels, partners of other dtypes, or
      `alpha` not a number.
  """
  check_positive('alpha', alpha)
  partners = _check_batch('cutmix', cut_example, key, images, labels, partners)
  height, width = jnp.shape(images)[1:3]
  draw = functools.partial(
    draw_cutmix_box, alpha=alpha, height=height, width=width
  )
  return _mix_batch(cut_example, draw, key, images, labels, partners)


def _mix_batch(
  kernel: Callable[..., tuple[jax.Array, jax.Array]],
  draw: Callable[[jax.Array], jax.Array],
  key: jax.Array,
  images: jax.Array,
  labels: jax.Array,
  partners: tuple[jax.Array, jax.Array],
) -> tuple[jax.Array, jax.Array]:
  """Applies `kernel` to each example with what `draw` makes of its key."""
  per_example = jnp.ndim(key) == 1
  drawn = jax.vmap(draw)(key) if per_example else draw(key)
  return jax.vmap(kernel, in_axes=(0, 0, 0, 0, 0 if per_example else None))(
    images, partners[0], labels, partners[1], drawn
  )


def _blend(own, partner, weight):
  """weight own + (1 - weight) partner in float32; the dtype stays."""
  weight = jnp.asarray(weight, jnp.float32)
  mixed = weight * jnp.asarray(own, jnp.float32)
  mixed += (1.0 - weight) * jnp.asarray(partner, jnp.float32)
  return mixed.astype(jnp.result_type(own))


def _check_float_image(function, image):
  dtype = jnp.result_type(image)
  if not jnp.issubdtype(dtype, jnp.floating):
    raise TypeError(
      f'{function} takes floating-point images, got dtype {dtype.name!r}; '
      'convert first: images / 255'
    )


def _check_batch(function, kernel, key, images, labels, partners):
  """Checks what a batch function received; returns the partners it implies."""
  if not jnp.issubdtype(jnp.result_type(key), jax.dtypes.prng_key):
    raise TypeError(f'{function} takes jax.random.key(seed), got {key!r}')
  given = (images, labels) if partners is None else partners
  if not isinstance(given, (tuple, list)) or len(given) != 2:
    raise ValueError(
      f'{function} takes partners=(images, labels), got {given!r}'
    )
  names = function, kernel.__name__
  _check_examples(*names, images, given[0], labels, given[1], batch=True)
  lengths = {jnp.shape(images)[0], jnp.shape(labels)[0], *jnp.shape(key)}
  if jnp.ndim(key) > 1 or len(lengths) != 1:
    raise ValueError(
      f'{function} needs one image and label per example, and one key or one '
      f'per example, got key {jnp.shape(key)!r}, images '
      f'{jnp.shape(images)!r}, labels {jnp.shape(labels)!r}'
    )
  if partners is None:
    return jnp.roll(images, 1, axis=0), jnp.roll(labels, 1, axis=0)
  return partners


def _check_examples(
  function, other, image, partner_image, label, partner_label, batch=False
):
  """Checks one example and its partner, or with `batch` a batch of them.

  Args:
    function: the caller's name, for the messages.
    other: what takes a batch, or with `batch` what takes one example.
    image: what the caller received, as the next three.
    partner_image: see above.
    label: see above.
    partner_label: see above.
    batch: whether there is a leading axis [B].
  """
  for name, axes, own, partner in (
    ('image', ('H', 'W', 'C'), image, partner_image),
    ('label', ('K',), label, partner_label),
  ):
    shape, dtype = jnp.shape(own), jnp.result_type(own)
    if len(shape) != len(axes) + batch:
      one = f'one {name} [{", ".join(axes)}]'
      many = f'{name}s [{", ".join(("B", *axes))}]'
      wanted, unwanted = (many, one) if batch else (one, many)
      raise ValueError(
        f'{function} takes {wanted}, got shape {shape!r}; '
        f'for {unwanted} call {other}'
      )
    if 0 in shape:
      raise ValueError(f'{function} got an empty {name}: shape {shape!r}')
    if jnp.shape(partner) != shape:
      raise ValueError(
        f'{function} needs a partner {name} of the same shape {shape!r}, '
        f'got {jnp.shape(partner)!r}'
      )
    if jnp.result_type(partner) != dtype:
      raise TypeError(
        f'{function} needs a partner {name} of the same dtype {dtype.name!r}, '
        f'got {jnp.result_type(partner).name!r}'
      )
  dtype = jnp.result_type(label)
  if not jnp.issubdtype(dtype, jnp.floating):
    raise TypeError(
      f'{function} takes label distributions, got dtype {dtype.name!r}; '
      'make them with jax.nn.one_hot(index, num_classes)'
    )


# Sub-streams of a key; the numbers must never change.
_DRAW_LAMBDA, _DRAW_CENTER = 0, 1
