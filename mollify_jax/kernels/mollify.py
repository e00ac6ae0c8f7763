"""Supervised mollification: degrade each image, soften its label as much.

Every example is dealt a role (clean, noise, blur or pure noise) and draws a
temperature t ~ Beta(a, b); the role's kernel degrades the image and the
matching gamma softens the label. Source: Heinonen et al. 2025
(arXiv 2406.01494), algorithm 1.
"""

import dataclasses
import enum

import jax
import jax.numpy as jnp

from mollify_jax.kernels import schedules
from mollify_jax.kernels.blur import blur_image
from mollify_jax.kernels.gaussian import standard_normal
from mollify_jax.kernels.labels import check_rule, temper_label
from mollify_jax.kernels.noise import add_noise
from mollify_jax.kernels.shapes import (
  check_image,
  check_positive,
  check_scalar,
  check_vector,
)


class Role(enum.IntEnum):
  """What happens to one example."""

  CLEAN = 0
  NOISE = 1
  BLUR = 2
  PURE_NOISE = 3  # no image left, a uniform label


ROLES = {role.name.lower(): role for role in Role}
ASSIGNMENTS = ('iid', 'stratified')


@dataclasses.dataclass(frozen=True)
class MollifySpec:
  """What to do to a batch. Hashable, so a valid static argument of `jit`.

  Attributes:
    roles: names from `ROLES` that examples are dealt with equal shares; a
      name may stand more than once to get a larger share. ('clean',) is
      plain training.
    beta_a: first parameter of t ~ Beta(a, b), > 0.
    beta_b: second parameter, > 0. The paper's default is Beta(1, 2).
    noise_power: k_n > 0, see `schedules.noise_gamma`.
    blur_power: k_b > 0, see `schedules.blur_gamma`.
    noise_gamma_knots: gamma of a noised image at equally spaced t from 0 to
      1, with straight lines between: at least two values in [0, 1] that never
      decrease, in place of the formula, so that `noise_power` must be 1. ()
      is the formula. `evaluation.label_schedule` fits them to a run.
    blur_gamma_knots: likewise of a blurred image, in place of `blur_power`.
    blur_width_min: blur width at t = 0 in pixels, > 0.
    blur_width_max: blur width at t = 1 in pixels; None: the image width.
    label_rule: see `labels.temper_label`.
    assignment: `iid`, as in the paper: each example draws its role, and every
      kernel runs on every example. `stratified`: roles go round the batch in
      turn, exact shares, and each kernel runs only where it is used.

  Raises:
    ValueError, TypeError: a field out of its range or of a wrong type.
  """

  roles: tuple[str, ...] = ('clean', 'noise', 'blur')
  beta_a: float = 1.0
  beta_b: float = 2.0
  noise_power: float = 1.0
  blur_power: float = 1.0
  noise_gamma_knots: tuple[float, ...] = ()
  blur_gamma_knots: tuple[float, ...] = ()
  blur_width_min: float = 0.3
  blur_width_max: float | None = None
  label_rule: str = 'smooth'
  assignment: str = 'iid'

  def __post_init__(self):
    if not isinstance(self.roles, (tuple, list)) or not self.roles:
      raise ValueError(
        f'roles must be a non-empty tuple of role names, got {self.roles!r}; '
        "write ('clean', 'noise')"
      )
    object.__setattr__(self, 'roles', tuple(self.roles))
    for name in self.roles:
      if not isinstance(name, str) or name not in ROLES:
        raise ValueError(
          f'unknown role {name!r}; choose from {", ".join(ROLES)}'
        )
    for field in (
      'beta_a',
      'beta_b',
      'noise_power',
      'blur_power',
      'blur_width_min',
      'blur_width_max',
    ):
      value = getattr(self, field)
      if value is None and field == 'blur_width_max':
        continue
      check_positive(field, value)
    for kind in ('noise', 'blur'):
      self._check_knots(f'{kind}_gamma_knots', f'{kind}_power')
    maximum = self.blur_width_max
    if maximum is not None and self.blur_width_min > maximum:
      raise ValueError(
        f'blur_width_min={self.blur_width_min!r} exceeds '
        f'blur_width_max={maximum!r}; swap them or raise the maximum'
      )
    check_rule(self.label_rule)
    if self.assignment not in ASSIGNMENTS:
      raise ValueError(
        f'unknown assignment {self.assignment!r}; choose from '
        f'{", ".join(ASSIGNMENTS)}'
      )

  def _check_knots(self, name, power_name):
    knots, power = getattr(self, name), getattr(self, power_name)
    if isinstance(knots, (tuple, list)) and not knots:
      knots = ()
    else:
      schedules.check_knots(name, knots)
      if power != 1:
        raise ValueError(
          f'{name} stands in place of the formula that {power_name} is the '
          f'power of, got {power_name}={power!r}; set {power_name} to 1, or '
          f'{name} to ()'
        )
    object.__setattr__(self, name, tuple(map(float, knots)))

  def noise_gamma(self, t: jax.Array) -> jax.Array:
    """Label softening of a noised image at t in [0, 1], float32[...]."""
    if self.noise_gamma_knots:
      return schedules.gamma_from_knots(t, self.noise_gamma_knots)
    return schedules.noise_gamma(t, self.noise_power)

  def blur_gamma(self, t: jax.Array) -> jax.Array:
    """Label softening of a blurred image at t in [0, 1], float32[...]."""
    if self.blur_gamma_knots:
      return schedules.gamma_from_knots(t, self.blur_gamma_knots)
    return schedules.blur_gamma(t, self.blur_power)

  def blur_width(self, t: jax.Array, image_width: int) -> jax.Array:
    """The blur width at temperature t, float32[...] in pixels.

    Args:
      t: float[...], in [0, 1].
      image_width: W in pixels, static; the largest blur where
        `blur_width_max` is None.
    """
    maximum = self.blur_width_max
    if maximum is None:
      # An image narrower than the least blur still has a valid schedule.
      maximum = max(float(image_width), self.blur_width_min)
    return schedules.blur_width(t, self.blur_width_min, maximum)


def draw_temperature(key: jax.Array, spec: MollifySpec) -> jax.Array:
  """Draws one temperature t ~ Beta(beta_a, beta_b).

  Args:
    key: key[] of one example, not yet split.
    spec: static.

  Returns:
    float32[] in [0, 1].
  """
  key = jax.random.fold_in(key, _DRAW_TEMPERATURE)
  # Inverse distribution functions where they are closed forms: exact, and far
  # cheaper than the rejection sampler behind jax.random.beta.
  if spec.beta_a == 1:
    u = jax.random.uniform(key)
    return -jnp.expm1(jnp.log1p(-u) / spec.beta_b)
  if spec.beta_b == 1:
    return jnp.power(jax.random.uniform(key), 1 / spec.beta_a)
  return jax.random.beta(key, spec.beta_a, spec.beta_b)


def draw_role(key: jax.Array, spec: MollifySpec) -> jax.Array:
  """Draws one role, each entry of `spec.roles` with equal probability.

  Args:
    key: key[] of one example, not yet split.
    spec: static.

  Returns:
    int32[], a value of `Role`.
  """
  key = jax.random.fold_in(key, _DRAW_ROLE)
  slot = jax.random.randint(key, (), 0, len(spec.roles))
  return _role_of_slot(spec)[slot]


def degrade_example(
  image: jax.Array,
  label: jax.Array,
  epsilon: jax.Array,
  role: jax.Array,
  t: jax.Array,
  spec: MollifySpec,
) -> tuple[jax.Array, jax.Array]:
  """Mollifies one example with its randomness given; see `mollify_example`.

  Args:
    image: float[H, W, C], channel-normalised.
    label: float[K], a distribution.
    epsilon: float[H, W, C], standard normal; used by the noise roles only.
    role: int32[], a value of `Role` that occurs in `spec.roles`.
    t: float[], temperature in [0, 1]; the clean role ignores it.
    spec: static.

  Returns:
    The degraded image and the softened label, as `mollify_example`.

  Raises:
    ValueError, TypeError: as `mollify_example`.
  """
  check_image(image, 'degrade_example', 'jax.vmap(degrade_example)')
  check_scalar(role, 'role', 'degrade_example')
  degraded = image
  for name in sorted(set(spec.roles) - {'clean'}):
    kernel = _degrade(ROLES[name], image, epsilon, t, spec)
    degraded = jnp.where(role == ROLES[name], kernel, degraded)
  return degraded, _soften(label, role, t, spec)


def mollify_example(
  key: jax.Array, image: jax.Array, label: jax.Array, spec: MollifySpec
) -> tuple[jax.Array, jax.Array]:
  """Mollifies one example: draws role, t and noise, degrades and softens.

  One example has no batch to stratify over: its role is drawn whatever
  `spec.assignment` says.

  Args:
    key: key[].
    image: float[H, W, C], channel-normalised; nothing is clipped.
    label: float[K], one-hot or any distribution (mix first, mollify after).
    spec: static.

  Returns:
    The image, same shape and dtype, and the label, float[K], or float[K + 1]
    under an `extra` rule, same dtype.

  Raises:
    ValueError: wrong ranks (the message names the batch function), or blur
      widths that do not fit the image.
    TypeError: image or label is not floating point.
  """
  check_image(image, 'mollify_example', 'mollify_batch')
  check_vector(label, 'mollify_example', 'mollify_batch')
  epsilon = None
  if not _NOISE_ROLES.isdisjoint(spec.roles):
    epsilon = _draw_epsilon(key, image)
  return degrade_example(
    image,
    label,
    epsilon,
    draw_role(key, spec),
    draw_temperature(key, spec),
    spec,
  )


def mollify_batch(
  keys: jax.Array,
  images: jax.Array,
  labels: jax.Array,
  spec: MollifySpec,
  first_index: int | jax.Array = 0,
) -> tuple[jax.Array, jax.Array]:
  """Mollifies a batch, each example by itself; see `mollify_example`.

  An example's noise and temperature depend on its key only. Its role does so
  under `iid`; under `stratified` example i of the batch has role number
  (first_index + i) modulo len(roles), so shuffle the batch, as training does.

  Args:
    keys: key[B], one per example, for instance from `rng.example_keys`.
    images: float[B, H, W, C], channel-normalised; nothing is clipped.
    labels: float[B, K], one-hot or any distribution.
    spec: static.
    first_index: int32[], >= 0, the position of the first example in the whole
      batch, or in the whole training stream. Only `stratified` uses it: a
      device that holds a part of the batch passes where its part begins, and
      the shares are exact over the whole.

  Returns:
    The images, same shape and dtype, and the labels, float[B, K], or
    float[B, K + 1] under an `extra` rule.

  Raises:
    ValueError: wrong ranks or lengths.
    TypeError: images or labels are not floating point.
  """
  if not isinstance(spec, MollifySpec):
    raise TypeError(f'mollify_batch takes a MollifySpec, got {spec!r}')
  _check_batch(keys, images, labels)
  if spec.assignment == 'iid':
    return jax.vmap(mollify_example, in_axes=(0, 0, 0, None))(
      keys, images, labels, spec
    )
  return _mollify_stratified(keys, images, labels, spec, first_index)


def _mollify_stratified(keys, images, labels, spec, first_index):
  """Runs each kernel on the examples of its role only.

  The k-th member of slot s sits at start[s] + k * cycle. All shapes are
  static though `first_index` is not: where the batch does not divide, the last
  member of a slot may lie past the end; it is computed on a repeated example
  and dropped.
  """
  size, cycle = images.shape[0], len(spec.roles)
  members = -(-size // cycle)
  start = (jnp.arange(cycle) - first_index) % cycle
  position = jnp.arange(size)
  slot = (first_index + position) % cycle
  t = jax.vmap(draw_temperature, in_axes=(0, None))(keys, spec)

  computed = [images]  # clean examples are read from here
  source = position
  offset = size
  for name in sorted(set(spec.roles) - {'clean'}):
    for number in [i for i, role in enumerate(spec.roles) if role == name]:
      index = start[number] + cycle * jnp.arange(members)
      index = jnp.minimum(index, size - 1)
      computed.append(
        jax.vmap(_draw_and_degrade, in_axes=(None, 0, 0, 0, None))(
          ROLES[name], keys[index], images[index], t[index], spec
        )
      )
      rank = offset + (position - start[number]) // cycle
      source = jnp.where(slot == number, rank, source)
      offset += members
  images = jnp.concatenate(computed)[source] if computed[1:] else images
  labels = jax.vmap(_soften, in_axes=(0, 0, 0, None))(
    labels, _role_of_slot(spec)[slot], t, spec
  )
  return images, labels


def _draw_and_degrade(role, key, image, t, spec):
  epsilon = None
  if role in (Role.NOISE, Role.PURE_NOISE):
    epsilon = _draw_epsilon(key, image)
  return _degrade(role, image, epsilon, t, spec)


def _degrade(role, image, epsilon, t, spec):
  """One kernel on one image; `role` is static."""
  if role == Role.NOISE:
    return add_noise(image, epsilon, t)
  if role == Role.PURE_NOISE:
    return epsilon.astype(image.dtype)
  if role == Role.BLUR:
    width = spec.blur_width(t, image.shape[1])
    return blur_image(image, schedules.dissipation_time(width))
  return image


def _soften(label, role, t, spec):
  """The softened label of one example; `role` is traced."""
  # Each schedule sees t only where it is used: for powers below 1 a gradient
  # at t = 0 is infinite, and 0 times that would be NaN for the other roles.
  noise_t = jnp.where(role == Role.NOISE, t, 0.5)
  blur_t = jnp.where(role == Role.BLUR, t, 0.5)
  gamma = jnp.select(
    [role == Role.NOISE, role == Role.BLUR, role == Role.PURE_NOISE],
    [
      spec.noise_gamma(noise_t),
      spec.blur_gamma(blur_t),
      jnp.ones((), jnp.float32),
    ],
    jnp.zeros((), jnp.float32),
  )
  return temper_label(label, gamma, spec.label_rule)


def _draw_epsilon(key, image):
  key = jax.random.fold_in(key, _DRAW_EPSILON)
  return standard_normal(key, image.shape)


def _role_of_slot(spec):
  return jnp.array([ROLES[name] for name in spec.roles], jnp.int32)


def _check_batch(keys, images, labels):
  shape = jnp.shape(images)
  if len(shape) != 4:
    raise ValueError(
      f'mollify_batch takes images [B, H, W, C], got shape {shape!r}; '
      'for one image [H, W, C] call mollify_example'
    )
  if jnp.ndim(labels) != 2:
    raise ValueError(
      f'mollify_batch takes label distributions [B, K], got shape '
      f'{jnp.shape(labels)!r}; make them with jax.nn.one_hot(index, K)'
    )
  lengths = (jnp.shape(keys)[:1], shape[:1], jnp.shape(labels)[:1])
  if len(set(lengths)) != 1:
    raise ValueError(
      'mollify_batch needs one key, image and label per example, got '
      f'keys {jnp.shape(keys)!r}, images {shape!r}, '
      f'labels {jnp.shape(labels)!r}'
    )


_NOISE_ROLES = {'noise', 'pure_noise'}
# Sub-streams of one example's key; the numbers must never change.
_DRAW_ROLE, _DRAW_TEMPERATURE, _DRAW_EPSILON = 0, 1, 2
