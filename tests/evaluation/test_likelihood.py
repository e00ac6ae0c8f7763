"""The likelihood view against float64, and the command on a finished run."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from mollify_jax import parallel, rng
from mollify_jax.evaluation import likelihood, passes, reports
from mollify_jax.feeds import ResidentFeed
from mollify_jax.kernels.blur import blur_image
from mollify_jax.kernels.mollify import MollifySpec, mollify_example
from mollify_jax.models import create_model

N, K = 7, 4
MEAN, STD = (0.4,), (0.25,)


def test_bound_against_float64():
  random = np.random.default_rng(0)
  log_likelihoods = random.normal(-3, 2, (50, 16)).astype(np.float32)
  rows = likelihood.bound(log_likelihoods)
  assert [row['samples'] for row in rows] == [1, 2, 4, 8, 16]
  exact = log_likelihoods.astype(np.float64)
  for row in rows:
    size = row['samples']
    groups = exact.reshape(50, -1, size)
    values = (special.logsumexp(groups, axis=2) - np.log(size)).mean(axis=1)
    assert row['log_likelihood'] == pytest.approx(values.mean(), abs=1e-6)
    assert row['standard_error'] == pytest.approx(
      values.std(ddof=1) / np.sqrt(50), rel=1e-5
    )
  # Jensen's bound at first, nearer for every S, and for every single image.
  assert rows[0]['log_likelihood'] == pytest.approx(exact.mean(), abs=1e-6)
  for image in log_likelihoods[:10]:
    values = [row['log_likelihood'] for row in likelihood.bound(image[None])]
    assert (np.diff(values) > 0).all()
  (row,) = likelihood.bound(np.float32([[-2.0]]))
  assert row == {
    'samples': 1,
    'log_likelihood': -2.0,
    'standard_error': 0.0,
  }


@pytest.fixture(scope='module')
def images():
  return np.random.default_rng(0).integers(0, 256, (N, 6, 5, 1), np.uint8)


@pytest.fixture(scope='module')
def labels():
  return np.random.default_rng(1).integers(0, K, N).astype(np.int32)


def measured(images, labels, rule, batch_size, smoothing=0.0, samples=4):
  mollify = MollifySpec(label_rule=rule, assignment='stratified')
  outputs = K + (rule == 'extra_smooth')
  model = create_model('small_cnn', outputs, axis_name=parallel.AXIS)
  variables = model.init(
    jax.random.key(3), jnp.zeros((1, 6, 5, 1)), train=False
  )
  # Sharper than at first, so that views differ.
  variables = jax.tree.map(lambda leaf: 3 * leaf, variables)
  spec = likelihood.LikelihoodSpec(
    passes.EvalSpec(K, MEAN, STD, mollify), smoothing
  )
  record = likelihood.measure(
    likelihood.make_sampling(model, spec),
    parallel.replicate(variables),
    ResidentFeed(images, labels, batch_size=batch_size),
    spec,
    samples=samples,
    seed=5,
  )
  return (
    record,
    lambda x: np.asarray(model.apply(variables, x, train=False), np.float64),
    mollify,
  )


@pytest.mark.parametrize(
  ('rule', 'smoothing'), [('smooth', 0.1), ('extra_smooth', 0.0)]
)
def test_everything_against_float64(images, labels, rule, smoothing):
  """Image by image and draw by draw, from the definitions."""
  record, logits, mollify = measured(images, labels, rule, 4, smoothing)
  x = ((images / 255 - MEAN[0]) / STD[0]).astype(np.float32)
  y = np.eye(K, dtype=np.float32)[labels]
  key = rng.purpose_key(5, rng.Purpose.LIKELIHOOD)
  draw = jax.jit(mollify_example, static_argnums=3)
  log_likelihood, log_probs = np.zeros((N, 4)), np.zeros((N, 4, K))
  for i in range(N):
    for s in range(4):
      example = jax.random.fold_in(jax.random.fold_in(key, i), s)
      image, label = draw(
        example, x[i], (1 - smoothing) * y[i] + smoothing / K, mollify
      )
      f = logits(image[None])[0]
      log_likelihood[i, s] = np.asarray(label) @ special.log_softmax(f)
      log_probs[i, s] = special.log_softmax(f[:K])
  assert log_likelihood.std(axis=1).min() > 1e-3  # draws differ
  assert record['examples'] == N
  for row, size in zip(record['bound'], (1, 2, 4), strict=True):
    groups = log_likelihood.reshape(N, -1, size)
    expected = special.logsumexp(groups, axis=2) - np.log(size)
    assert row['log_likelihood'] == pytest.approx(expected.mean(), abs=2e-5)

  def check(row, probs):
    guess, confidence = probs.argmax(axis=1), probs.max(axis=1)
    assert row['error'] == pytest.approx(np.mean(guess != labels))
    nll = -np.log(probs[np.arange(N), labels]).mean()
    assert row['nll'] == pytest.approx(nll, abs=2e-5)
    assert row['confidence'] == pytest.approx(confidence.mean(), abs=2e-5)
    slot = np.floor(15 * confidence)
    gaps = [
      abs((confidence - (guess == labels))[slot == j].sum()) for j in range(16)
    ]
    assert row['ece'] == pytest.approx(sum(gaps) / N, abs=2e-5)

  for row, size in zip(record['averaged'], (1, 2, 4), strict=True):
    assert row['samples'] == size
    check(row, np.exp(log_probs[:, :size]).mean(axis=1))
  clean = logits(x)
  check(record['plain'], special.softmax(clean[:, :K], axis=1))

  # At t = 1 the blur is as wide as the image.
  blurred = np.stack([blur_image(image, 5**2 / 2) for image in x])
  rows = record['over_t']['blur']
  assert [row['t'] for row in rows] == pytest.approx(np.linspace(0, 1, 11))
  p = special.softmax(logits(blurred), axis=1)
  assert rows[10]['entropy'] == pytest.approx(
    special.entr(p).sum(axis=1).mean(), abs=2e-5
  )
  noised = record['over_t']['noise']
  p = special.softmax(clean, axis=1)  # noise at t = 0 is none
  assert noised[0]['entropy'] == pytest.approx(
    special.entr(p).sum(axis=1).mean(), abs=2e-5
  )
  assert noised[0]['accuracy'] == pytest.approx(1 - record['plain']['error'])
  assert noised[0]['confidence'] == record['plain']['confidence']


def test_entropy_of_labels():
  def figures(rule, t, smoothing=0.0):
    spec = likelihood.LikelihoodSpec(
      passes.EvalSpec(K, MEAN, STD, MollifySpec(label_rule=rule)), smoothing
    )
    row = likelihood._label_figures(likelihood.View.BLUR, t, spec)
    return row['label_entropy'], row['label_confidence']

  def expected(*shares):
    return pytest.approx(float(special.entr(shares).sum()), abs=1e-6)

  assert figures('smooth', 0.0) == (0, 1)
  assert figures('smooth', 0.4) == (
    expected(0.7, 0.1, 0.1, 0.1),
    pytest.approx(0.7),
  )
  assert figures('smooth', 0.0, 0.4)[0] == expected(0.7, 0.1, 0.1, 0.1)
  assert figures('smooth', 1.0) == (
    expected(*4 * [0.25]),
    pytest.approx(0.25),
  )
  assert figures('extra_smooth', 0.4) == (expected(0.6, 0.4), 1)
  assert figures('extra', 1.0) == (expected(0.5, 0.5), 1)
  assert figures('decay', 0.4) == figures('decay', 1.0) == (0, 1)


def test_batches_make_no_difference(images, labels):
  one = measured(images, labels, 'smooth', 7, samples=2)[0]
  two = measured(images, labels, 'smooth', 3, samples=2)[0]
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
    assert a == pytest.approx(b, abs=1e-5)


def test_the_command_writes_its_record_and_pictures(
  held_out_run, tmp_path, capsys
):
  workdir = tmp_path / 'run'
  shutil.copytree(held_out_run, workdir)
  assert likelihood.main([str(workdir), '--samples=2']) == 0
  text = capsys.readouterr().out
  record = json.loads((workdir / 'likelihood.json').read_text())
  assert 'diffusion_blur: 100 images of the test split, 2 draws each' in text
  assert record['examples'] == 100
  assert [row['samples'] for row in record['bound']] == [1, 2]
  # The plain prediction is what the run's own evaluation measured.
  results = reports.read_results(workdir / 'results.json')
  for name in ('error', 'nll', 'ece', 'confidence'):
    clean = results['conditions'][0][name]
    assert record['plain'][name] == pytest.approx(clean, abs=1e-5)
  for condition in results['conditions'][1:]:
    (row,) = [
      row
      for row in record['over_t'][condition['corruption']]
      if row['t'] == condition['t']
    ]
    assert row['label_confidence'] == pytest.approx(
      condition['label_confidence'], abs=1e-6
    )
    if condition['corruption'] == 'blur':  # the noise is another
      assert row['accuracy'] == pytest.approx(1 - condition['error'])
  for kind, head in (('png', b'\x89PNG'), ('pdf', b'%PDF')):
    assert (workdir / f'likelihood.{kind}').read_bytes().startswith(head)

  before = (workdir / 'likelihood.json').read_bytes()
  for arguments, message in (
    (['--samples=3'], '--samples must be a power of two, got 3'),
    (['--samples=0'], '--samples must be a power of two, got 0'),
    (['--split=train'], 'unknown --split=train; choose from test, validation'),
    (['--examples=101'], '--examples=101, and the test split has 100 images'),
    (['--examples=-1'], '--examples=-1'),
    (['--draws=3'], 'unrecognized arguments'),
  ):
    assert likelihood.main([str(workdir), *arguments]) == 1
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith('error: ')
    assert message in line
  assert (workdir / 'likelihood.json').read_bytes() == before


def test_a_split_that_was_not_held_out_is_named(changed_run, capsys):
  def change(record):
    record['config']['data']['validation_fraction'] = 0.0

  workdir = changed_run(change)
  assert likelihood.main([str(workdir), '--split=validation']) == 1
  (line,) = capsys.readouterr().err.splitlines()
  assert 'trained on all of its images; take --split=test' in line
  assert not (workdir / 'likelihood.json').exists()
