"""The evaluation of a run: which passes, and what is written of them."""

import contextlib
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from mollify_jax import hosts
from mollify_jax.corruptions.severities import (
  SEVERITIES,
  select_corruptions,
)
from mollify_jax.data.dataset import Dataset, StreamedDataset
from mollify_jax.evaluation import (
  corrupted,
  corruption_plots,
  corruption_tables,
  passes,
  plots,
  temperature_scaling,
)
from mollify_jax.feeds import Feed
from mollify_jax.progress import Progress
from mollify_jax.training.config import RunSpec
from mollify_jax.training.state import TrainState

# What an evaluation leaves if it had corruptions.
_OPTIONAL_FILES = (
  'corruptions.csv',
  'corruptions.md',
  'corruptions.tex',
  'corruptions.png',
  'severities.png',
)


class Evaluator:
  """The test set on the devices, and the one compiled step over it."""

  def __init__(
    self,
    model: nn.Module,
    dataset: Dataset | StreamedDataset,
    spec: RunSpec,
    feed: Feed,
    validation_feed: Feed | None = None,
  ):
    """Opens corrupted files, so that bad ones stop a run before it trains.

    Args:
      model: the network.
      dataset: what it is evaluated on.
      spec: of the run.
      feed: of the test set.
      validation_feed: of the images held out of training, to fit temperature
        scaling on; None does without.

    Raises:
      ValueError, OSError: as `corrupted.open_cells`.
    """
    self._spec = passes.EvalSpec(
      num_classes=dataset.num_classes,
      mean=dataset.mean,
      std=dataset.std,
      mollify=spec.mollify,
    )
    self._dataset = dataset
    self._options = spec.eval
    self._feed = feed
    self._validation_feed = validation_feed
    self._names = select_corruptions(spec.eval.corruptions)
    self._cells = None
    if self._names:
      if spec.eval.corrupted_path and spec.data.evaluate_on != 'test':
        raise ValueError(
          f'config.eval.corrupted_path={spec.eval.corrupted_path!r} holds '
          f'test images, and config.data.evaluate_on='
          f"{spec.data.evaluate_on!r} asks for others; set it to ''"
        )
      self._cells = corrupted.open_cells(
        dataset,
        feed,
        self._names,
        path=spec.eval.corrupted_path,
        parameters=spec.eval.corruption_parameters,
        seed=spec.eval.seed,
        batch_size=feed.batch_size,
        # tfds and folders have an order of their own.
        same_order=spec.data.name == 'archive',
        num_workers=spec.data.num_workers,
      )
      hosts.check_equal(
        'the corrupted images or the textures that they have',
        (
          self._cells.title,
          self._cells.source,
          self._cells.parameters,
          self._cells.seed,
          sorted(self._cells.skipped),
        ),
      )
    self._score = passes.make_scoring(
      model,
      self._spec,
      keep_logits=spec.eval.save_logits,
      scaled=validation_feed is not None,
    )
    self._score_validation = passes.make_scoring(
      model, self._spec, keep_logits=True
    )

  def clean(self, state: TrainState) -> dict[str, float]:
    """Scalar metrics on the clean test set."""
    with contextlib.closing(self._feed.eval_batches()) as batches:
      figures, _ = passes.run_pass(
        self._score,
        state.variables(),
        batches,
        passes.Condition(),
        seed=self._options.seed,
      )
    return {name: figures[name] for name in ('error', 'nll', 'brier', 'ece')}

  def everything(self, state: TrainState, directory: Path) -> dict[str, Any]:
    """All passes; writes logits.npz into the directory if that is asked for.

    Returns:
      `conditions`, the clean pass and the temperature grid; `corrupted` as
      `corrupted.evaluate` returns it, if any corruption is asked for; and if
      images were held out, `temperature_scaling`: the `temperature` fitted to
      them, whether it is `at_bound`, how many `examples` of which `split`, and
      `conditions` and `corrupted` as above with logits divided by it.
    """
    lead = jax.process_index() == 0
    conditions = passes.temperature_grid(self._options.temperatures)
    names = [n for n in self._names if n not in self._cells.skipped]
    total = len(conditions) + len(names) * len(SEVERITIES)
    with (
      Progress('evaluating', total, active=lead) as progress,
      LogitsFile(
        directory / 'logits.npz', active=lead and self._options.save_logits
      ) as logits,
    ):
      done = 0

      def finish(title, examples, labels_name):
        nonlocal done
        done += 1
        logits.add(title, examples, labels_name)
        progress.update(done, title)

      def finish_condition(condition, examples):
        at = '' if condition.corruption == 'clean' else f'_t{condition.t:g}'
        finish(f'{condition.corruption}{at}', examples, 'labels')

      scaling = self._fit_temperature(state, progress)
      temperature = scaling.get('temperature', 1.0)
      results = {
        'conditions': passes.run_conditions(
          self._score,
          state.variables(),
          self._feed,
          conditions,
          self._spec,
          seed=self._options.seed,
          temperature=temperature,
          on_pass=finish_condition,
        )
      }
      if not self._names:
        return self._with_scaled(results, scaling)
      for line in (self._cells.note, *self._cells.skipped.values()):
        if line:
          progress.say(line)
      results['corrupted'] = corrupted.evaluate(
        self._score,
        state.variables(),
        self._cells,
        self._names,
        temperature=temperature,
        on_cell=lambda name, severity, examples: finish(
          f'{name}_{severity}', examples, 'corrupted_labels'
        ),
      )
    return self._with_scaled(results, scaling)

  def _fit_temperature(self, state, progress):
    """The head of the record `temperature_scaling`; {} if there is none."""
    if self._validation_feed is None:
      return {}
    with contextlib.closing(self._validation_feed.eval_batches()) as batches:
      _, examples = passes.run_pass(
        self._score_validation,
        state.variables(),
        batches,
        passes.Condition(),
        seed=self._options.seed,
      )
    try:
      fit = temperature_scaling.fit_temperature(
        examples['logits'], examples['label']
      )
    except ValueError as error:  # a network that diverged has figures still
      progress.say(f'no temperature scaling: {error}')
      return {}
    bound = ', a bound: the least NLL lies beyond it' if fit.at_bound else ''
    progress.say(
      f'temperature scaling: {fit.temperature:.4g}{bound}, fitted to '
      f'{len(examples["label"]):,} images held out of training'
    )
    return {
      'temperature': fit.temperature,
      'at_bound': fit.at_bound,
      'examples': len(examples['label']),
      'split': 'validation',
    }

  def _with_scaled(self, results, scaling):
    """The figures of divided logits, apart from the plain ones."""
    if self._validation_feed is None:
      return results
    scaled = {'conditions': passes.take_scaled(results['conditions'])}
    if 'corrupted' in results:
      cells = passes.take_scaled(results['corrupted']['cells'])
      scaled['corrupted'] = {**results['corrupted'], 'cells': cells}
    if scaling:
      results['temperature_scaling'] = {**scaling, **scaled}
    return results

  def draw(self, directory: Path, results: dict[str, Any]) -> None:
    """The tables and pictures of a run, beside its results.json.

    Those of an earlier evaluation go: they are not of these results.
    """
    stale = list(_OPTIONAL_FILES)
    if not self._options.save_logits:
      stale.append('logits.npz')
    for name in stale:
      (directory / name).unlink(missing_ok=True)
    temperatures = (0.0, *self._options.temperatures)
    strip = passes.mollification_strip(
      *self._feed.first_example(), temperatures, self._spec
    )
    plots.draw_mollification_strip(
      directory / 'mollification.png',
      strip,
      temperatures,
      self._dataset.class_names,
    )
    conditions = results['conditions']
    plots.draw_confidence_curve(directory / 'confidence.png', conditions)
    plots.draw_reliability_diagram(directory / 'reliability.png', conditions)
    if results.get('corrupted', {}).get('cells'):
      corruption_tables.write_tables(directory, results)
      corruption_plots.draw_heat_map(directory / 'corruptions.png', results)
      if corruption_tables.summarize(results)['mean_15']['count']:
        corruption_plots.draw_severity_curves(
          directory / 'severities.png',
          [plots.Method(results['method'], (results,))],
        )


class LogitsFile:
  """An .npz that grows by one array per pass and appears when it is whole."""

  def __init__(self, path: str | os.PathLike, *, active: bool):
    """Writes nothing unless `active`."""
    self._path = Path(path)
    self._active = active
    self._written: set[str] = set()

  def __enter__(self) -> 'LogitsFile':
    if self._active:
      descriptor, self._temporary = tempfile.mkstemp(
        dir=self._path.parent, prefix=f'.{self._path.name}.'
      )
      self._file = os.fdopen(descriptor, 'wb')
      self._zip = zipfile.ZipFile(self._file, 'w', zipfile.ZIP_DEFLATED)
    return self

  def add(
    self, name: str, examples: dict[str, np.ndarray] | None, labels_name: str
  ) -> None:
    """Appends the logits of one pass, and the labels that they belong to.

    Args:
      name: of the array, float32[N, K].
      examples: `logits` and `label` in the order of the images.
      labels_name: of the array int32[N], written once; files may hold the
        images in another order than the clean test set.
    """
    if not self._active:
      return
    self._write(name, examples['logits'])
    if labels_name not in self._written:
      self._write(labels_name, examples['label'])

  def _write(self, name, array):
    self._written.add(name)
    with self._zip.open(f'{name}.npy', 'w', force_zip64=True) as member:
      np.lib.format.write_array(member, array, allow_pickle=False)

  def __exit__(self, kind, *_) -> None:
    if not self._active:
      return
    try:
      self._zip.close()
      self._file.close()
      if kind is None:
        os.chmod(self._temporary, 0o644)
        os.replace(self._temporary, self._path)
    finally:
      # It is gone if it got its name.
      Path(self._temporary).unlink(missing_ok=True)
