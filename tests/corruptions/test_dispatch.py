"""The door to the corruptions: names, keys, sizes, and what is refused."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mollify_jax import corruptions, rng
from mollify_jax.corruptions import dispatch, severities, textures

ALL = corruptions.CORRUPTIONS + corruptions.EXTRA_CORRUPTIONS
RANDOM = [name for name in ALL if dispatch.KERNELS[name].draw]


def pixels(*shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_names_and_groups():
  assert len(corruptions.CORRUPTIONS) == 15
  assert len(corruptions.EXTRA_CORRUPTIONS) == 4
  assert set(dispatch.KERNELS) == set(ALL)
  grouped = [name for group in corruptions.GROUPS.values() for name in group]
  assert tuple(grouped) == corruptions.CORRUPTIONS
  assert list(map(len, corruptions.GROUPS.values())) == [3, 4, 4, 4]
  assert len(RANDOM) == 11


@pytest.mark.reference
def test_parameters_are_the_published_ones():
  path = Path(__file__).parents[3] / 'shared/reference/corruptions'
  if not path.is_dir():
    pytest.skip('the full reference set is not beside this checkout')
  published = json.loads((path / 'severities.json').read_text())['corruptions']
  assert set(published) == set(ALL)
  for name in ALL:
    for parameters in corruptions.PARAMETER_SETS:
      table = published[name][parameters]
      for severity in corruptions.SEVERITIES:
        ours = corruptions.parameters_for(name, severity, parameters)
        if name == 'zoom_blur':
          factors = np.arange(1, ours['stop'], ours['step']).tolist()
          size = corruptions.PARAMETER_SETS[parameters].size
          from mollify_jax.corruptions.blur import zoom_plan

          plan = [[z, *zoom_plan(size, z)] for z in factors]
          assert plan == table['zoom_plan'][severity - 1]
          continue
        assert set(ours) == set(table)
        for field, value in ours.items():
          wanted = table[field][severity - 1]
          if field == 'kind':
            wanted = ('water', 'mud')[wanted]
          assert value == wanted, (name, parameters, severity, field)


@pytest.mark.slow
def test_batch_is_a_loop_and_jit_is_eager():
  images = pixels(3, 16, 20, 3)
  for name in ('impulse_noise', 'motion_blur', 'contrast'):
    keys = corruptions.cell_keys(1, name, 2, jnp.arange(3))
    together = corruptions.corrupt_batch(keys, images, name, 2)
    assert together.dtype == jnp.uint8
    for key, image, ours in zip(keys, images, together, strict=True):
      alone = corruptions.corrupt(key, image, name, 2)
      difference = np.abs(np.asarray(alone, int) - np.asarray(ours, int))
      # Another order of adding may fall on the other side of an integer.
      assert difference.max() <= 1
      assert (difference > 0).mean() < 0.01


@pytest.mark.slow
def test_draws_and_kernels_apart_are_the_same_as_together():
  image, key = pixels(12, 12, 3), jax.random.key(3)
  for name in ('glass_blur', 'snow', 'shot_noise'):
    for severity in (1, 5):
      randomness = corruptions.draw_randomness(key, image.shape, name, severity)
      np.testing.assert_array_equal(
        corruptions.corrupt_with(image, randomness, name, severity),
        corruptions.corrupt(key, image, name, severity),
      )


@pytest.mark.slow
def test_floats_are_what_is_truncated():
  image, key = pixels(12, 12, 3), jax.random.key(3)
  for name in ('gaussian_noise', 'brightness'):
    values = corruptions.corrupt(key, image, name, 3, dtype=jnp.float32)
    assert values.dtype == jnp.float32
    np.testing.assert_array_equal(
      np.asarray(values).astype(np.uint8),
      corruptions.corrupt(key, image, name, 3),
    )
    assert (np.asarray(values) % 1 > 0).mean() > 0.5


@pytest.mark.slow
@pytest.mark.parametrize('name', ALL)
@pytest.mark.parametrize('shape', [(8, 8, 1), (17, 40, 3), (1, 1, 3)])
def test_any_size_gives_pixels(name, shape):
  """Also where a kernel is wider than the image."""
  for severity in (1, 3, 5):
    for images in (pixels(4, *shape), np.zeros((4, *shape), np.uint8)):
      keys = corruptions.cell_keys(0, name, severity, jnp.arange(4))
      values = corruptions.corrupt_batch(
        keys, images, name, severity, dtype=jnp.float32
      )
      assert values.shape == images.shape
      assert np.isfinite(values).all()
      assert np.min(values) >= 0
      assert np.max(values) <= 255


def test_keys_depend_on_seed_corruption_severity_and_image():
  index = jnp.arange(4)
  seen = set()
  for seed in (0, 1):
    for name in ALL:
      for severity in corruptions.SEVERITIES:
        keys = corruptions.cell_keys(seed, name, severity, index)
        seen.update(map(tuple, jax.random.key_data(keys).tolist()))
  assert len(seen) == 2 * 19 * 5 * 4
  # Files made yesterday must be made again tomorrow.
  assert dispatch.cell_number('gaussian_noise', 1) == 0
  assert dispatch.cell_number('jpeg_compression', 5) == 74
  assert dispatch.cell_number('saturate', 5) == 94
  (key,) = corruptions.cell_keys(7, 'fog', 2, jnp.array([5]))
  wanted = jax.random.fold_in(
    rng.step_key(7, rng.Purpose.CORRUPT, 9 * 5 + 1), 5
  )
  assert (jax.random.key_data(key) == jax.random.key_data(wanted)).all()


def test_severities_share_what_does_not_depend_on_them():
  """Compiling the draws is most of compiling; 75 cells need ten of them."""
  recipes = {
    dispatch.recipe(name, severity, 'cifar')
    for name in corruptions.CORRUPTIONS
    for severity in corruptions.SEVERITIES
  }
  assert len(recipes) == 11  # with none, of the deterministic ones


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (('rain', 1), "unknown corruption 'rain'; choose from gaussian_noise, .*"),
    (('fog', 0), r'severity must be one of \(1, 2, 3, 4, 5\), got 0'),
    (('fog', 6), 'got 6'),
    (('fog', 2.5), 'got 2.5'),
    (('fog', True), 'got True'),
    (('fog', 1, 'svhn'), "unknown parameter set 'svhn'; choose from cifar, "),
    (
      ('fog', 1, 'imagenet'),
      "'imagenet' for 32x32 images, for which 'cifar' was published; take "
      "parameters='cifar'",
    ),
  ],
)
def test_refusals(arguments, message):
  with pytest.raises(ValueError, match=message):
    corruptions.corrupt(jax.random.key(0), pixels(32, 32, 3), *arguments)


def test_refused_randomness():
  """It would be broadcast: the same noise in every channel, say."""
  image = pixels(8, 8, 3)
  for name, shape in (('gaussian_noise', (3,)), ('shot_noise', (8, 8, 1))):
    with pytest.raises(ValueError, match=r'wanted \(8, 8, 3\); give one'):
      corruptions.corrupt_with(image, (np.zeros(shape),), name, 1)
  fog = corruptions.draw_randomness(
    jax.random.key(0), image.shape, 'fog', 1, 'tiny_imagenet'
  )
  with pytest.raises(ValueError, match=r'draws of shape \(4095,\), wanted'):
    corruptions.corrupt_with(image, fog, 'fog', 1, 'cifar')
  with pytest.raises(ValueError, match="unknown corruption 'rain'"):
    corruptions.draw_randomness(jax.random.key(0), image.shape, 'rain', 1)


def test_refused_images():
  key = jax.random.key(0)
  with pytest.raises(ValueError, match=r'one image \[H, W, C\], got shape'):
    corruptions.corrupt(key, pixels(2, 8, 8, 3), 'fog', 1)
  with pytest.raises(ValueError, match=r'1 or 3 channels.*\(8, 8, 4\)'):
    corruptions.corrupt(key, pixels(8, 8, 4), 'fog', 1)
  with pytest.raises(TypeError, match=r"'float32'; apply it before"):
    corruptions.corrupt(key, np.zeros((8, 8, 3), np.float32), 'fog', 1)
  with pytest.raises(ValueError, match='one key each'):
    corruptions.corrupt_batch(
      jax.random.split(key, 3), pixels(2, 8, 8, 3), 'fog', 1
    )
  with pytest.raises(ValueError, match='dtype must be uint8 or float32'):
    corruptions.corrupt(key, pixels(8, 8, 3), 'fog', 1, dtype=jnp.int32)


def test_nearest_parameters_are_by_ratio():
  wanted = {8: 'cifar', 28: 'cifar', 45: 'cifar', 46: 'tiny_imagenet'}
  wanted |= {96: 'tiny_imagenet', 120: 'imagenet', 384: 'imagenet'}
  for size, name in wanted.items():
    assert corruptions.nearest_parameters(size, size) == name
  assert corruptions.nearest_parameters(10, 224) == 'imagenet'


def test_selections():
  select = corruptions.select_corruptions
  assert select('benchmark') == corruptions.CORRUPTIONS
  assert select('extra') == corruptions.EXTRA_CORRUPTIONS
  assert len(select('all')) == 19
  assert select('none') == ()
  assert select('contrast, fog,fog') == ('fog', 'contrast')
  assert select('extra,fog') == ('fog', *corruptions.EXTRA_CORRUPTIONS)
  with pytest.raises(ValueError, match="unknown corruption 'rain'; choose"):
    select('fog,rain')


def test_frost_without_its_textures_says_how_to_get_them(monkeypatch):
  monkeypatch.setattr(textures.importlib.util, 'find_spec', lambda name: None)
  textures.frost_textures.cache_clear()
  from mollify_jax.corruptions import weather

  weather._stacked_textures.cache_clear()
  line = corruptions.unavailable((8, 8, 3), 'cifar')['frost']
  assert 'pip install --no-deps imagecorruptions' in line
  assert '\n' not in line
  with pytest.raises(corruptions.TexturesMissingError, match='pip install'):
    corruptions.corrupt(jax.random.key(0), pixels(8, 8, 3), 'frost', 1)


def test_a_changed_texture_is_refused(monkeypatch, tmp_path):
  (tmp_path / 'frost').mkdir()
  (tmp_path / 'frost' / 'frost1.png').write_bytes(b'another')
  monkeypatch.setattr(textures, '_folder', lambda: tmp_path / 'frost')
  textures.frost_textures.cache_clear()
  with pytest.raises(ValueError, match='is not the texture of the benchmark'):
    textures.frost_textures(0.2)
  textures.frost_textures.cache_clear()


@pytest.mark.slow
def test_frost_does_not_import_the_package_that_carries_it():
  code = (
    'import sys, jax, numpy as np\n'
    'from mollify_jax import corruptions\n'
    'image = np.zeros((8, 8, 3), np.uint8)\n'
    'corruptions.corrupt(jax.random.key(0), image, "frost", 1)\n'
    'print("imagecorruptions" in sys.modules, "cv2" in sys.modules)\n'
  )
  output = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  ).stdout
  assert output.split() == ['False', 'False']


def test_an_image_larger_than_a_texture_is_refused():
  with pytest.raises(ValueError, match='at most 63x105 pixels, got 70x70'):
    corruptions.corrupt(jax.random.key(0), pixels(70, 70, 3), 'frost', 1)


def test_tables_are_whole():
  for name in ALL:
    for parameters in corruptions.PARAMETER_SETS:
      fields = severities.parameters_for(name, 1, parameters)
      for severity in corruptions.SEVERITIES:
        other = severities.parameters_for(name, severity, parameters)
        assert other.keys() == fields.keys()
