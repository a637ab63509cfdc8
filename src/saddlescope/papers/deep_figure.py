"""The experiment `deep-overparameterised` as a figure: losses by width, and how near the teacher's neurons are."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saddlescope.papers.deep_experiment import TARGET, TOLERANCE, cells
from saddlescope.papers.strips import MARKS, plot_losses
from saddlescope.plots.canvas import GREY
from saddlescope.plots.path import STYLE


def draw(results: Mapping[str, Any]) -> Figure:
    """Return two panels over the width: loss of every seed; distance to each neuron of the teacher's first layer."""
    groups = cells(results)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 2.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        plot_losses(groups, left)
        _distances(groups, right)
        left.set_ylabel("loss $L$")
        right.set_ylabel(r"distance of nearest $\pm\vartheta$ / $|\vartheta^*|$")
        if groups:
            left.axhline(TARGET, color=GREY, lw=0.7, ls=":")
            right.axhline(TOLERANCE, color=GREY, lw=0.7, ls=":")
        for axes in (left, right):
            axes.set_xlabel("width of each hidden layer (teacher: 4)")
    return figure


def _distances(groups: Mapping[int, Any], axes: Axes) -> None:
    """Draw a point a teacher neuron and student, marked by the student's end."""
    for place, row in enumerate(groups.values()):
        spread = np.linspace(-0.25, 0.25, len(row)) if len(row) > 1 else np.zeros(1)
        for x, one in zip(spread, row, strict=True):
            marker, colour = MARKS[one["ending"]]
            heights = one["distances"]
            axes.plot([place + x] * len(heights), heights, marker, color=colour, ms=3, mfc="none", mew=0.7, ls="none")
    if groups:
        axes.set_yscale("log")
    axes.set_xticks(range(len(groups)), [str(width) for width in groups])
    axes.set_xlim(-0.5, max(len(groups), 1) - 0.5)
