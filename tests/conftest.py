"""Paths and arrays that many tests share."""

from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).parent / 'golden'
# The whole reference set, which some checkouts have beside the repository.
REFERENCE = Path(__file__).parents[2] / 'shared' / 'reference'


@pytest.fixture(
  params=[
    'golden',
    pytest.param('reference', marks=pytest.mark.reference),
  ],
)
def reference(request):
  """Loads arrays by file name: the committed subset, then the whole set.

  Both have the same keys; the subset has fewer examples.
  """
  folder = {'golden': GOLDEN, 'reference': REFERENCE}[request.param]
  if not folder.is_dir():
    pytest.skip('the full reference set is not beside this checkout')
  return lambda name: np.load(folder / name, allow_pickle=False)


@pytest.fixture(scope='session')
def make_run():
  """make_run(model, image_shape, ...) -> a finished run that never ran.

  Its weights are random, and none of it is on disk.
  """
  import runpy

  import jax

  from mollify_jax.training.config import run_spec
  from mollify_jax.training.finished import FinishedRun, make_model

  def random(path, leaf):
    generator = np.random.default_rng(list(jax.tree_util.keystr(path).encode()))
    scale = 1 / np.sqrt(np.prod(leaf.shape[:-1])) if leaf.ndim > 1 else 0.3
    values = scale * generator.normal(size=leaf.shape)
    if path[-1].key in ('scale', 'var'):
      values = 0.5 + np.abs(values)
    return values.astype(leaf.dtype)

  def make(
    model='small_cnn',
    image_shape=(8, 8, 1),
    *,
    label_rule='smooth',
    dtype='float32',
  ):
    configs = Path(__file__).parents[1] / 'configs'
    config = runpy.run_path(configs / 'digits.py')['get_config']().to_dict()
    config.update(model=model, dtype=dtype)
    config['mollify']['label_rule'] = label_rule
    spec = run_spec(config)
    network = make_model(spec, 10)
    variables = jax.eval_shape(
      lambda: network.init(
        jax.random.key(0), np.zeros((1, *image_shape), np.float32), train=False
      )
    )
    return FinishedRun(
      directory=None,
      results={
        'method': 'plain',
        'dataset': 'digits',
        'data_fingerprint': '0',
        'model': model,
        'steps': 1,
        'config': config,
      },
      spec=spec,
      model=network,
      variables=jax.tree.map_with_path(random, variables),
      image_shape=image_shape,
      mean=(0.3,) * image_shape[-1],
      std=(0.4,) * image_shape[-1],
      class_names=tuple(f'class {k}' for k in range(10)),
    )

  return make


@pytest.fixture(scope='session')
def export_folder(make_run, tmp_path_factory):
  """An export of `make_run()`, to be copied before it is damaged."""
  from mollify_jax.training.export import make_files

  folder = tmp_path_factory.mktemp('exports') / 'export'
  folder.mkdir()
  for name, data in make_files(make_run()).items():
    (folder / name).write_bytes(data)
  return folder
