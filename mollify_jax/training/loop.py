"""The run: config in, checkpoints, metrics.jsonl, results and pictures out."""

import contextlib
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mollify_jax import hosts, parallel
from mollify_jax.data import resident
from mollify_jax.data.dataset import Dataset, StreamedDataset
from mollify_jax.evaluation import corruption_tables, reports
from mollify_jax.feeds import Feed
from mollify_jax.progress import Progress
from mollify_jax.training import export
from mollify_jax.training import optimizer as optimizers
from mollify_jax.training.checkpoints import Checkpoints
from mollify_jax.training.config import RunSpec, run_spec
from mollify_jax.training.evaluator import Evaluator
from mollify_jax.training.finished import make_model
from mollify_jax.training.inputs import make_feed, open_data
from mollify_jax.training.journal import Journal, read_lines
from mollify_jax.training.profiling import Profile
from mollify_jax.training.state import TrainState, create_state
from mollify_jax.training.step import StepSpec, make_train_steps
from mollify_jax.training.stopping import Interrupted, StopRequest
from mollify_jax.training.workdir import check_config, claimed

MODES = ('train', 'evaluate', 'export')


class NonFiniteLossError(Exception):
  """Training diverged; the last good checkpoint is kept."""


def run(
  config: Mapping[str, Any],
  workdir: str,
  mode: str = 'train',
  flags: Sequence[str] = (),
) -> dict[str, Any]:
  """Trains, or goes on training, and evaluates.

  Running it again with the same arguments resumes from the newest checkpoint;
  after the end it only reads the results again.

  Args:
    config: the fields of `RunSpec`, nested.
    workdir: directory of this one run; created if absent.
    mode: a name in `MODES`. `evaluate` trains nothing: it evaluates the last
      checkpoint of a finished training again, for which `config.eval` may be
      another one, and replaces the results. `export` writes the network of a
      finished training as a folder, for which it needs no data; see `export`.
    flags: of the command that asked for the run, for its record.

  Returns:
    The result record, as in results.json; that of the export, as in
    export.json.

  Raises:
    ValueError, TypeError: a bad config, data set, or a workdir that belongs
      to another config.
    FileNotFoundError: a missing data file.
    NonFiniteLossError: the loss or a gradient became infinite or NaN.
    Interrupted: SIGTERM, SIGINT or a preemption notice; see `stopping`.
  """
  if mode not in MODES:
    raise ValueError(f'unknown --mode={mode}; choose from {", ".join(MODES)}')
  with StopRequest(workdir) as stop:
    return _run(config, workdir, mode, flags, stop)


def describe(results: dict[str, Any]) -> str:
  """What `run` returned, for the terminal."""
  if 'platforms' in results:
    return export.describe(results)
  tables = [reports.format_table(results)]
  if results.get('corrupted', {}).get('cells'):
    tables.append(corruption_tables.format_run(results))
  if scaling := results.get('temperature_scaling'):
    bound = ' (a bound)' if scaling.get('at_bound') else ''
    tables.append(
      f'with logits divided by {scaling["temperature"]:.4g}{bound}, fitted to '
      f'{scaling["examples"]:,} images held out of training:\n'
      '  python -m mollify_jax.evaluation.reports --temperature_scaling WORKDIR'
    )
  return '\n\n'.join(tables)


def _run(
  config: Mapping[str, Any],
  workdir: str,
  mode: str,
  flags: Sequence[str],
  stop: StopRequest,
) -> dict[str, Any]:
  spec = run_spec(config)
  # Through JSON, so that tuples and lists compare equal with what was stored.
  config = json.loads(json.dumps(config))
  if spec.deterministic:
    parallel.compute_deterministically()
  if not workdir:
    raise ValueError('--workdir is empty; name a directory for this run')
  directory = Path(workdir).expanduser().absolute()
  check_config(directory, config, but=() if mode == 'train' else ('eval',))
  if mode == 'export':
    return export.export_run(directory)
  only_evaluate = mode == 'evaluate'
  for batch_size in (spec.batch_size, spec.eval.batch_size):
    resident.check_divisible(batch_size, jax.device_count())
  results_path = directory / 'results.json'
  hosts.check_equal(
    'what they find in --workdir, which all must share', results_path.exists()
  )
  if results_path.exists() and not only_evaluate:
    print(f'{directory} is finished: reading results.json', file=sys.stderr)
    return reports.read_results(results_path)

  dataset, kind = open_data(spec, directory.parent / 'mollify_cache')
  hosts.check_equal(
    'their data or the feed that fits into their memory',
    (kind, dataset.num_train, dataset.num_test, dataset.class_names),
  )
  model = make_model(spec, dataset.num_classes)
  with (
    claimed(directory, config, dataset, kind, new=not only_evaluate),
    contextlib.closing(
      Checkpoints(
        directory / 'checkpoints',
        keep=spec.keep_checkpoints,
        strict=only_evaluate,
        warn=_warn,
      )
    ) as checkpoints,
    contextlib.ExitStack() as feeds,
  ):
    train_feed = None
    if only_evaluate:
      _check_trained(spec, dataset, checkpoints)
    else:
      train_feed = feeds.enter_context(make_feed(spec, dataset, kind, 'train'))
    test_feed = feeds.enter_context(make_feed(spec, dataset, kind, 'test'))
    validation_feed = None
    if dataset.num_validation and spec.data.evaluate_on == 'test':
      validation_feed = feeds.enter_context(
        make_feed(spec, dataset, kind, 'validation')
      )
    evaluator = Evaluator(model, dataset, spec, test_feed, validation_feed)
    state = _train(
      spec, model, dataset, train_feed, evaluator, directory, checkpoints, stop
    )
    results = _results(spec, config, dataset, state, directory)
    results['feed'] = kind
    results['command'] = reports.command(flags)
    if only_evaluate and results_path.exists():
      # Time and speed are those of the machine that trained.
      before = reports.read_results(results_path)
      results['environment'] = before['environment']
      results['command'] = results['command'] or before.get('command', [])
    results.update(evaluator.everything(state, directory))
    if jax.process_index() == 0:
      try:
        evaluator.draw(directory, results)
      except Exception:  # what hours were spent on is kept all the same
        reports.write_json(results_path, results)
        raise
      # Last, for it says that the run is finished.
      reports.write_json(results_path, results)
  return results


def _warn(line: str) -> None:
  print(f'warning: {line}', file=sys.stderr, flush=True)


def _check_trained(
  spec: RunSpec,
  dataset: Dataset | StreamedDataset,
  checkpoints: Checkpoints,
) -> None:
  """Refuses to evaluate what would go on training afterwards."""
  step = checkpoints.latest_step()
  total = dataset.num_train // spec.batch_size * spec.epochs
  if step != total:
    raise ValueError(
      f'--mode=evaluate wants a finished training of {total} steps; there is '
      + ('no checkpoint' if step is None else f'one of step {step}')
      + '; run the command without --mode'
    )


def _train(
  spec: RunSpec,
  model: nn.Module,
  dataset: Dataset | StreamedDataset,
  feed: Feed | None,
  evaluator: Evaluator,
  directory: Path,
  checkpoints: Checkpoints,
  stop: StopRequest,
) -> TrainState:
  """Trains from the newest checkpoint, or from step 0, to the end.

  `feed` may be None if there is nothing left to train.
  """
  steps_per_epoch = dataset.num_train // spec.batch_size
  total = steps_per_epoch * spec.epochs
  schedule = (spec.optimizer, steps_per_epoch, spec.epochs)
  optimizer = optimizers.make_optimizer(*schedule)
  state = create_state(
    model,
    optimizer,
    dataset.image_shape,
    spec.seed,
    with_ema=spec.optimizer.ema_decay > 0,
  )
  if checkpoints.latest_step() is not None:
    state = checkpoints.restore(like=state)
  step = int(state.step)
  hosts.check_equal('their newest checkpoint, which all must share', step)
  if step == total:
    return parallel.replicate(state)

  train_steps = make_train_steps(
    model, optimizer, _step_spec(spec, dataset), feed
  )
  lead = jax.process_index() == 0
  state = parallel.replicate(state)
  with (
    Journal(
      directory, first_step=step, tensorboard=spec.tensorboard, active=lead
    ) as journal,
    Progress('training', total, done=step, active=lead) as progress,
    Profile(directory, spec.profile_steps if lead else 0) as profile,
  ):
    progress.say(f'{feed.num_examples:,} training examples, {feed.title}')
    if step:
      progress.say(f'resuming after step {step} of {total}')
    hosts.check_equal(
      'the evaluations in metrics.jsonl, which all must share',
      journal.evaluated,
    )
    evaluate_every = spec.eval.every_epochs * steps_per_epoch
    while step < total:
      if _due(step, evaluate_every, spec) and journal.evaluated < step:
        try:
          clean = evaluator.clean(state)
        except Interrupted:
          checkpoints.save(state)
          raise
        journal.record_evaluation(clean)
        progress.say(
          f'step {step}: test error {clean["error"]:.2%}, '
          f'NLL {clean["nll"]:.3f}, ECE {clean["ece"]:.3f}'
        )
      with stop.deferring():
        # Calls end at multiples of steps_per_call wherever a run was cut, so a
        # resumed run makes the very calls of an uninterrupted one.
        count = spec.steps_per_call - step % spec.steps_per_call
        start = time.monotonic()
        state, metrics = train_steps(
          state,
          *feed.constants,
          np.int32(spec.seed),
          *feed.train_slices(step, min(count, total - step)),
          stop=lambda done, step=step: stop.asked(step + done),
        )
        metrics = parallel.to_host(metrics)
        seconds = time.monotonic() - start
        count = len(metrics['loss'])
        metrics['learning_rate'] = np.asarray(
          optimizers.learning_rate(
            schedule[0], jnp.arange(step, step + count), *schedule[1:]
          )
        )
        _check_finite(metrics, step, checkpoints)
        journal.record_steps(metrics, spec.batch_size, seconds)
        step += count
        asked = stop.asked(step)
        due = _due(step, spec.checkpoint_every_steps, spec)
        if asked or due or step == total:
          checkpoints.save(state)
        progress.update(
          step,
          f'loss {metrics["loss"].mean():.3f}  '
          f'{count * spec.batch_size / seconds:,.0f} images/s',
        )
        if found := profile.after(step):
          progress.say(found)
        if asked and step < total:
          stop.stop(f'after step {step} of {total}, which is saved')
  return state


def _step_spec(spec: RunSpec, dataset: Dataset | StreamedDataset) -> StepSpec:
  return StepSpec(
    num_classes=dataset.num_classes,
    mean=dataset.mean,
    std=dataset.std,
    augment=spec.augment_spec(),
    mollify=spec.mollify,
    loss=spec.loss,
    consistency_weight=spec.consistency_weight,
    label_smoothing=spec.label_smoothing,
    ema_decay=spec.optimizer.ema_decay,
  )


def _check_finite(
  metrics: dict[str, np.ndarray],
  first_step: int,
  checkpoints: Checkpoints,
) -> None:
  """Stops a diverged run before its state is saved over a good one."""
  finite = np.isfinite(metrics['loss']) & np.isfinite(metrics['grad_norm'])
  if finite.all():
    return
  first = int(np.argmin(finite))
  kept = checkpoints.latest_step()
  raise NonFiniteLossError(
    f'step {first_step + first + 1}: loss {metrics["loss"][first]}, gradient '
    f'norm {metrics["grad_norm"][first]} at learning rate '
    f'{metrics["learning_rate"][first]:.3g}; '
    'in another workdir, lower config.optimizer.learning_rate or set '
    'config.optimizer.gradient_clip; '
    + (
      'no checkpoint had been written yet'
      if kept is None
      else f'the checkpoint of step {kept} is kept'
    )
  )


def _due(step: int, interval: int, spec: RunSpec) -> bool:
  """Whether a call that ends with this step has to do what is periodic.

  It does if a multiple of the interval lies in it. An interval of 0 is never.
  """
  calls, rest = divmod(step, spec.steps_per_call)
  if not interval or not calls or rest:
    return False
  return (step - spec.steps_per_call) // interval < step // interval


def _results(spec, config, dataset, state, directory):
  """The record of one finished run; see `reports`."""
  calls = [
    line
    for line in read_lines(directory / 'metrics.jsonl')
    if line['event'] == 'train' and 'seconds' in line
  ]
  environment = reports.environment(jax.devices())
  seconds = math.fsum(line['seconds'] for line in calls)
  return {
    'format': 1,
    'method': spec.method,
    'dataset': dataset.name,
    'data_fingerprint': dataset.fingerprint,
    'model': spec.model,
    'num_classes': dataset.num_classes,
    'class_names': list(dataset.class_names),
    'input': {  # what the network takes: pixels in [0, 1], normalised so
      'shape': list(dataset.image_shape),
      'mean': list(dataset.mean),
      'std': list(dataset.std),
    },
    'steps': int(state.step),
    'parameters': sum(leaf.size for leaf in jax.tree.leaves(state.params)),
    'seconds': seconds,
    'images_per_second': int(state.step) * spec.batch_size / seconds
    if seconds
    else None,
    'config': config,
    'environment': environment,
    'evaluation_environment': environment,
  }
