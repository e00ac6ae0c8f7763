"""The method in one figure: images and labels over t, gamma(t), predictions."""

import numpy as np

from experiments.figures.inputs import Inputs, NotGivenError
from mollify_jax.evaluation import passes, plots

TEMPERATURES = tuple(np.linspace(0, 1, 6).tolist())
CORRUPTIONS = ('noise', 'blur')


def make(inputs: Inputs):
  """Strips above; below, the label's softening and what a run predicts.

  The run is the first of the method that --method names; without a name, the
  last that was trained on noise or blur, or the last. Its data set is shown
  unless another is named. Without runs only gamma(t) stands below.

  Raises:
    ValueError, OSError: as `Inputs`; an unknown method.
  """
  try:
    method = choose_method(inputs)
  except NotGivenError:
    method = None
  if method:
    inputs = inputs.of_run(method.runs[0])
  dataset, index = inputs.dataset, inputs.image_index
  strip = passes.mollification_strip(
    dataset.test_images[index],
    dataset.test_labels[index],
    TEMPERATURES,
    inputs.evaluation,
  )
  ratio = dataset.image_shape[0] / dataset.image_shape[1]
  above = 2 * (0.62 + 0.95 * ratio) + 0.4
  below = 2.2 if method else 1.95
  figure = plots.new_figure(plots.PAGE, above + below, layout='constrained')
  top, bottom = figure.subfigures(2, 1, height_ratios=[above, below])
  plots.fill_strip(
    top,
    strip,
    TEMPERATURES,
    dataset.class_names,
    size=8,
    ratio=2 * ratio,
    name_class=False,
  )
  label = dataset.class_names[int(dataset.test_labels[index])]
  top.align_ylabels()
  top.suptitle(
    f'{dataset.name}: test image {index} of class {label} and its tempered '
    'label (dark: its class)',
    fontsize=8,
    parse_math=False,
  )
  panels = bottom.subplots(1, 3 if method else 1, squeeze=False)[0]
  fill_softening(panels[0], inputs.mollify)
  if method:
    fill_predictions(panels[1:], method)
    (count,) = {run['conditions'][0]['n'] for run in method.runs}
    caption = bottom.legend(
      *panels[1].get_legend_handles_labels(),
      title=f'{method.title}: means over {count:,} test images',
      loc='outside lower right',
      ncols=3,
      fontsize=7,
      title_fontsize=7,
      frameon=False,
    )
    caption.get_title().set_parse_math(False)  # names are not formulas
  for panel in panels:
    panel.tick_params(labelsize=7)
    panel.xaxis.label.set_fontsize(8)
  return figure


def choose_method(inputs: Inputs):
  """The method whose predictions are shown.

  Raises:
    NotGivenError: there are no runs.
    ValueError: the name is none of theirs.
  """
  methods = inputs.methods
  wanted = inputs.arguments.method
  if wanted:
    for method in methods:
      if wanted == method.name:
        return method
    raise ValueError(
      f'no run has the method {wanted!r}; choose from '
      f'{", ".join(method.name for method in methods)}'
    )

  def is_mollified(method):
    roles = (method.runs[0].get('config') or {}).get('mollify', {})
    return len(set(roles.get('roles', ()))) > 1

  return ([m for m in methods if is_mollified(m)] or methods)[-1]


def fill_softening(panel, spec) -> None:
  """Draws gamma(t) for noise and blur into axes."""
  t = np.linspace(0, 1, 101)
  for name, gamma, knots, power in (
    ('noise', spec.noise_gamma, spec.noise_gamma_knots, spec.noise_power),
    ('blur', spec.blur_gamma, spec.blur_gamma_knots, spec.blur_power),
  ):
    panel.plot(
      t,
      np.asarray(gamma(t)),
      **plots.KINDS[name].of_line(),
      markevery=20,
      markersize=4,
      label=f'{name}, fitted' if knots else f'{name}, k = {power:g}',
    )
  panel.set_title('label softening', fontsize=8)
  panel.set_xlabel('temperature t')
  panel.set_ylabel(r'$\gamma(t)$', fontsize=8)
  panel.set_xlim(-0.03, 1.03)
  panel.set_ylim(0, 1.04)
  panel.grid(alpha=0.3)
  panel.legend(fontsize=7, frameon=False, loc='upper left')


def fill_predictions(panels, method) -> None:
  """Draws label confidence, predicted confidence and accuracy over t."""
  conditions = [run['conditions'] for run in method.runs]
  for panel, name in zip(panels, CORRUPTIONS, strict=True):
    plots.fill_confidence(panel, conditions, name)
    panel.set_title(f'predictions under {name}', fontsize=8)
  panels[1].set_yticklabels([])
