"""The experiments by name. To add one: a file with ``EXPERIMENT``, one with ``draw``, a line here."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from saddlescope.errors import SettingsError
from saddlescope.papers.experiment import Experiment

Draw = Callable[[Mapping[str, Any]], Any]
"""From results by task name to a matplotlib Figure."""

# Name on the command line: the module that holds the frozen ``EXPERIMENT``, and the one that holds
# ``draw(results) -> Figure``. A module with several experiments names them: "module:EXPERIMENT_OF_THIS_NAME".
CATALOGUE = {
    "toy-paths": ("toy_experiment", "toy_figure"),
    "path-geometry": ("geometry_experiment", "geometry_figure"),
    "merge-landscape": ("landscape_experiment", "landscape_figure"),
    "mnist-paths": ("mnist_experiment", "mnist_figure"),
    "path-types": ("types_experiment", "types_figure"),
    "minima-and-points": ("minima_experiment", "minima_figure"),
    "counts": ("counts_experiment", "counts_figure"),
    "overparameterised-training": ("students_experiment", "students_figure"),
    "deep-overparameterised": ("deep_experiment", "deep_figure"),
    "mnist-widths": ("widths_experiment", "widths_figure"),
}


def find(name: str) -> tuple[Experiment, Draw]:
    """Return an experiment and the function that draws its results.

    Raises:
        SettingsError: no such experiment.
    """
    if name not in CATALOGUE:
        raise SettingsError("no such experiment", name="name", value=name, expected=", ".join(CATALOGUE))
    experiment, figure = CATALOGUE[name]
    return _member(experiment, "EXPERIMENT"), _member(figure, "draw")


def _member(place: str, usual: str) -> Any:
    module, _, member = place.partition(":")
    return getattr(import_module(f"saddlescope.papers.{module}"), member or usual)
