"""Mollification of examples and batches: oracle, distributions, invariances."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollify_jax import (
  MollifySpec,
  Role,
  degrade_example,
  example_keys,
  mollify_batch,
  mollify_example,
)
from mollify_jax.kernels.gaussian import standard_normal
from mollify_jax.kernels.mollify import draw_role, draw_temperature

mollify = jax.jit(mollify_batch, static_argnums=3)


def make_batch(size, shape=(6, 5, 2), classes=4, seed=0):
  keys = example_keys(jax.random.key(seed), 0, size)
  images = jax.random.normal(jax.random.key(seed + 1), (size, *shape))
  labels = jax.nn.one_hot(jnp.arange(size) % classes, classes)
  return keys, images, labels


def roles_of(images, mollified, labels, tempered):
  """Which examples were left exactly as they were."""
  same_image = np.asarray((images == mollified).all((1, 2, 3)))
  same_label = np.asarray((labels == tempered).all(1))
  return same_image, same_label


@pytest.mark.parametrize('tag', ['k1', 'k05_2'])
def test_reference(reference, tag):
  golden = reference('mollify_batch.npz')
  spec = MollifySpec(
    noise_power=float(golden[f'npow_{tag}']),
    blur_power=float(golden[f'bpow_{tag}']),
  )
  labels = jax.nn.one_hot(golden['labels'], int(golden['num_classes']))
  images, tempered = jax.vmap(functools.partial(degrade_example, spec=spec))(
    golden['x'], labels, golden['eps'], golden['roles'], golden['t']
  )
  np.testing.assert_allclose(images, golden['x_out_ref32'], atol=5e-6)
  np.testing.assert_allclose(tempered, golden[f'y_out_ref32_{tag}'], atol=2e-6)
  clean = golden['roles'] == 0
  np.testing.assert_array_equal(images[clean], golden['x'][clean])


@pytest.mark.parametrize(
  ('a', 'b'), [(1, 2), (1, 1), (2, 1), (1, 4), (1, 9), (0.5, 0.5)]
)
def test_temperatures_follow_their_beta_distribution(reference, a, b):
  golden = reference('sampling.npz')
  spec = MollifySpec(beta_a=a, beta_b=b)
  n = 20_000
  keys = example_keys(jax.random.key(7), 0, n)
  t = np.asarray(jax.vmap(lambda k: draw_temperature(k, spec))(keys))
  assert t.min() >= 0
  assert t.max() <= 1
  name = f'a{a}_b{b}'
  variance = golden[f'var_{name}']
  assert abs(t.mean() - golden[f'mean_{name}']) < 5 * np.sqrt(variance / n)
  levels = golden['quantile_levels']
  below = (t[:, None] <= golden[f'quantiles_{name}']).mean(0)
  assert (abs(below - levels) < 5 * np.sqrt(levels * (1 - levels) / n)).all()


@pytest.mark.parametrize(
  ('tag', 'roles'),
  [
    ('xnb', ('clean', 'noise', 'blur')),
    ('xn', ('clean', 'noise')),
    ('xb', ('clean', 'blur')),
    ('xxnb', ('clean', 'clean', 'noise', 'blur')),
  ],
)
def test_roles_are_drawn_with_their_shares(reference, tag, roles):
  expected = reference('sampling.npz')[f'role_prob_{tag}']
  n = 20_000
  keys = example_keys(jax.random.key(3), 0, n)
  spec = MollifySpec(roles=roles)
  drawn = np.asarray(jax.vmap(lambda k: draw_role(k, spec))(keys))
  share = np.bincount(drawn, minlength=4) / n
  assert (
    abs(share - expected) <= 5 * np.sqrt(expected * (1 - expected) / n)
  ).all()


@pytest.mark.parametrize(
  'roles',
  [
    ('clean',),
    ('noise',),
    ('clean', 'noise'),
    ('clean', 'noise', 'blur'),
    ('blur', 'clean', 'pure_noise', 'clean', 'noise'),
  ],
)
@pytest.mark.parametrize('size', [1, 7, 12])
def test_stratified_equals_the_plain_form(roles, size):
  """Computing only where needed changes nothing but the cost."""
  spec = MollifySpec(roles=roles, assignment='stratified')
  keys, images, labels = make_batch(size)
  for first in (0, 2, 5):
    fast = mollify(keys, images, labels, spec, first)
    for i in range(size):
      role = Role[roles[(first + i) % len(roles)].upper()]
      epsilon = standard_normal(jax.random.fold_in(keys[i], 2), images[i].shape)
      t = draw_temperature(keys[i], spec)
      image, label = degrade_example(
        images[i], labels[i], epsilon, role, t, spec
      )
      np.testing.assert_allclose(fast[0][i], image, atol=1e-6)
      np.testing.assert_allclose(fast[1][i], label, atol=1e-6)


def test_stratified_shares_are_exact():
  spec = MollifySpec(roles=('clean', 'noise'), assignment='stratified')
  keys, images, labels = make_batch(10)
  same, same_label = roles_of(
    images,
    *(lambda o: (o[0], labels, o[1]))(mollify(keys, images, labels, spec)),
  )
  assert same.sum() == 5
  np.testing.assert_array_equal(same, same_label)


def test_stratified_parts_equal_the_whole():
  """Two devices of five give what one device of ten gives."""
  spec = MollifySpec(assignment='stratified')
  keys, images, labels = make_batch(10)
  whole = mollify(keys, images, labels, spec)
  for first in (0, 5):
    part = slice(first, first + 5)
    image, label = mollify(keys[part], images[part], labels[part], spec, first)
    np.testing.assert_allclose(image, whole[0][part], atol=1e-6)
    np.testing.assert_allclose(label, whole[1][part], atol=1e-6)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
@pytest.mark.parametrize('assignment', ['iid', 'stratified'])
def test_dtypes_and_eager_equals_jit(dtype, assignment):
  spec = MollifySpec(assignment=assignment)
  keys, images, labels = make_batch(6)
  images = images.astype(dtype)
  eager = mollify_batch(keys, images, labels, spec)
  jitted = mollify(keys, images, labels, spec)
  assert eager[0].dtype == images.dtype
  assert eager[1].dtype == labels.dtype
  for one, two in zip(eager, jitted, strict=True):
    np.testing.assert_allclose(
      np.asarray(one, np.float32),
      np.asarray(two, np.float32),
      atol=2e-2 if dtype != 'float32' else 2e-6,
    )


def test_iid_batch_equals_loop_and_ignores_neighbours():
  spec = MollifySpec()
  keys, images, labels = make_batch(6)
  batch = mollify(keys, images, labels, spec)
  one = jax.jit(mollify_example, static_argnums=3)
  for i in range(6):
    image, label = one(keys[i], images[i], labels[i], spec)
    np.testing.assert_allclose(batch[0][i], image, atol=1e-6)
    np.testing.assert_allclose(batch[1][i], label, atol=1e-6)
  shorter = mollify(keys[:3], images[:3], labels[:3], spec)
  np.testing.assert_allclose(shorter[0], batch[0][:3], atol=1e-6)


def test_pure_noise_has_no_image_and_a_uniform_label():
  spec = MollifySpec(roles=('pure_noise',))
  keys, images, labels = make_batch(5)
  one = mollify(keys, images, labels, spec)
  two = mollify(keys, 100 + images, labels, spec)
  np.testing.assert_array_equal(one[0], two[0])
  np.testing.assert_allclose(one[1], 0.25, atol=1e-7)


def test_clean_only_is_the_identity():
  for assignment in ('iid', 'stratified'):
    spec = MollifySpec(roles=('clean',), assignment=assignment)
    keys, images, labels = make_batch(4)
    mollified, tempered = mollify(keys, images, labels, spec)
    np.testing.assert_array_equal(mollified, images)
    np.testing.assert_array_equal(tempered, labels)


def test_extra_class_rules_widen_the_label():
  keys, images, labels = make_batch(4)
  for assignment in ('iid', 'stratified'):
    spec = MollifySpec(label_rule='extra_smooth', assignment=assignment)
    _, tempered = mollify(keys, images, labels, spec)
    assert tempered.shape == (4, 5)
    np.testing.assert_allclose(tempered.sum(1), 1, atol=1e-6)


def test_batch_size_equal_to_num_classes():
  keys, images, labels = make_batch(8, classes=8)
  spec = MollifySpec(roles=('noise',))
  _, tempered = mollify(keys, images, labels, spec)
  np.testing.assert_array_equal(tempered.argmax(1), np.arange(8))
  np.testing.assert_allclose(tempered.sum(1), 1, atol=1e-6)


def test_images_narrower_than_the_least_blur_width():
  spec = MollifySpec(roles=('blur',), blur_width_min=2.0)
  keys, images, labels = make_batch(3, shape=(4, 1, 1))
  mollified, _ = mollify(keys, images, labels, spec)
  assert np.isfinite(mollified).all()


@pytest.mark.parametrize('assignment', ['iid', 'stratified'])
def test_knots_soften_in_place_of_the_formula(assignment):
  noise, blur = (0.1, 0.2, 0.9), (0.0, 0.5)
  spec = MollifySpec(
    roles=('noise', 'blur', 'clean', 'pure_noise'),
    assignment=assignment,
    noise_gamma_knots=noise,
    blur_gamma_knots=blur,
  )
  keys, images, labels = make_batch(24)
  mollified, tempered = mollify(keys, images, labels, spec)
  plain = mollify(
    keys, images, labels, MollifySpec(spec.roles, assignment=assignment)
  )
  np.testing.assert_array_equal(mollified, plain[0])  # labels alone differ
  assert spec.noise_gamma(0.75) == pytest.approx(0.55)
  assert spec.blur_gamma(0.5) == pytest.approx(0.25)
  for i in range(24):
    role = Role[spec.roles[i % 4].upper()]
    if assignment == 'iid':
      role = Role(int(draw_role(keys[i], spec)))
    t = float(draw_temperature(keys[i], spec))
    gamma = {
      Role.NOISE: np.interp(t, (0, 0.5, 1), noise),
      Role.BLUR: np.interp(t, (0, 1), blur),
      Role.CLEAN: 0,
      Role.PURE_NOISE: 1,
    }[role]
    expected = (1 - gamma) * np.asarray(labels[i]) + gamma / 4
    np.testing.assert_allclose(tempered[i], expected, atol=1e-6)


@pytest.mark.parametrize('kind', ['noise', 'blur'])
def test_bad_knots_are_refused(kind):
  field = f'{kind}_gamma_knots'
  with pytest.raises(ValueError, match=f'{field} must never decrease'):
    MollifySpec(**{field: (0.5, 0.0)})
  with pytest.raises(TypeError, match=f'{field} must be a tuple of numbers'):
    MollifySpec(**{field: 0.5})
  with pytest.raises(ValueError, match=f'got {kind}_power=2.0; set {kind}_po'):
    MollifySpec(**{field: (0.0, 1.0), f'{kind}_power': 2.0})
  spec = MollifySpec(**{field: [0, 1]})
  assert getattr(spec, field) == (0.0, 1.0)
  hash(spec)
  assert MollifySpec(**{field: []}) == MollifySpec()


@pytest.mark.parametrize(
  ('field', 'value', 'message'),
  [
    ('roles', ('clean', 'fog'), "unknown role 'fog'; choose from clean, noise"),
    ('roles', (), 'non-empty tuple'),
    ('roles', 'clean', 'non-empty tuple'),
    ('beta_a', 0.0, 'beta_a must be finite and > 0, got 0.0'),
    ('beta_b', -1.0, 'beta_b must be finite and > 0, got -1.0'),
    ('noise_power', 0, 'noise_power must be finite and > 0, got 0'),
    ('blur_power', float('nan'), 'blur_power must be finite and > 0, got nan'),
    ('blur_width_min', 0.0, 'blur_width_min must be finite and > 0'),
    ('blur_width_max', 0.1, 'exceeds blur_width_max=0.1'),
    ('label_rule', 'hard', "unknown label rule 'hard'; choose one of smooth"),
    ('assignment', 'sorted', "unknown assignment 'sorted'; choose from iid"),
  ],
)
def test_bad_specs_are_refused(field, value, message):
  with pytest.raises(ValueError, match=message.replace('(', r'\(')):
    MollifySpec(**{field: value})


def test_wrong_types_in_specs_are_refused():
  with pytest.raises(TypeError, match="beta_b must be a number, got '2'"):
    MollifySpec(beta_b='2')
  with pytest.raises(TypeError, match='betab'):
    MollifySpec(betab=2)


def test_spec_is_hashable_and_equal_by_value():
  assert hash(MollifySpec(roles=['clean'])) == hash(
    MollifySpec(roles=('clean',))
  )


def test_wrong_batches_are_named():
  keys, images, labels = make_batch(4)
  spec = MollifySpec()
  with pytest.raises(ValueError, match='call mollify_example'):
    mollify_batch(keys, images[0], labels, spec)
  with pytest.raises(ValueError, match='mollify_batch'):
    mollify_example(keys[0], images, labels[0], spec)
  with pytest.raises(ValueError, match='one_hot'):
    mollify_batch(keys, images, jnp.zeros(4, jnp.int32), spec)
  with pytest.raises(ValueError, match=r'one key, image and label per example'):
    mollify_batch(keys[:3], images, labels, spec)
