"""Error, NLL and calibration error against the severity of corruptions."""

from experiments.figures import captions
from experiments.figures.inputs import Inputs
from mollify_jax.evaluation import corruption_plots, plots
from mollify_jax.evaluation import corruption_tables as tables

METRICS = ('error', 'nll', 'ece')


def make(inputs: Inputs):
  """Three panels: a curve per method, a band of +- std over its seeds.

  Raises:
    ValueError, OSError: as `Inputs`; see `corruption_plots.shared_corruptions`.
  """
  names = corruption_plots.shared_corruptions(inputs.runs)
  figure = plots.new_figure(
    plots.PAGE,
    2.45 + captions.legend_height(inputs.methods),
    layout='constrained',
  )
  panels = figure.subplots(1, len(METRICS))
  for panel, metric in zip(panels, METRICS, strict=True):
    corruption_plots.fill_severity(panel, inputs.methods, names, metric)
    panel.set_title(tables.METRICS[metric].title, fontsize=8)
    panel.set_xlabel('severity (0: clean)', fontsize=8)
    panel.tick_params(labelsize=7)
  captions.legend(figure, panels[0].get_lines(), inputs.methods)
  captions.below(figure, inputs, names)
  return figure
