"""The experiment `minima-and-points` as a figure: weight space seen along (1, 1, 1), where permutations are plane."""

import itertools
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saddlescope.papers.minima_experiment import critical_points, shown
from saddlescope.plots.path import BLUE, GREEN, ORANGE, STYLE

# Two unit vectors orthogonal to (1, 1, 1) and to each other.
PLANE = np.array([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0]]) / np.sqrt([[2.0], [6.0]])


def draw(results: Mapping[str, Any]) -> Figure:
    """Return minima, permutation points, paths and equal-loss lines of one teacher."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.6, 3.9), layout="constrained")
        axes = figure.subplots()
        best = shown(results)
        if best is None:
            axes.text(0.5, 0.5, "no permutation point found", ha="center")
            return figure
        _plot(best[1], axes)
        axes.set_xlabel("$(w_1-w_2)/\\sqrt{2}$")
        axes.set_ylabel("$(w_1+w_2-2w_3)/\\sqrt{6}$")
        axes.set_aspect("equal", "datalim")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure


def _plot(one: Any, axes: Axes) -> None:
    """Draw the permuted images of the first path and its point; those of other pairs that meet the same loss, too."""
    loss = one["walks"]["loss"]
    same = [path for path in one["paths"] if abs(path["loss"] - loss) <= 1e-6 * loss]
    label: str | None = "permutation path"
    for path in same:
        style: dict[str, Any] = {"lw": 1.2} if path is same[0] else {"lw": 0.5, "alpha": 0.4}
        style = style if path["continuous"] else {**style, "ls": "--"}
        label = label if path["continuous"] or label is None else f"{label} (dashed: jumps)"
        curve = np.array(path["weights"])
        for order in itertools.permutations(range(3)):
            axes.plot(*(PLANE @ curve[:, order].T), color=BLUE, label=label, zorder=2, **style)
            label = None
    points = np.array([row["weights"] for row in critical_points(one["walks"])]).reshape(-1, 3)
    label = "equal loss"
    for first, second in itertools.combinations(points, 2):
        if np.sum(first != second) == 1:  # one neuron moves, its outgoing weight zero
            axes.plot(*(PLANE @ np.stack([first, second]).T), color=ORANGE, lw=2.2, alpha=0.8, label=label, zorder=1)
            label = None
    minima = np.array([[one["minimum"][k] for k in order] for order in itertools.permutations(range(3))])
    axes.plot(*(PLANE @ minima.T), "o", color=GREEN, ms=7, label="minimum, $L=0$", zorder=4)
    axes.plot(*(PLANE @ points.T), "D", color=ORANGE, mec="black", ms=6, label="permutation point", zorder=5)
    axes.annotate(f"equal loss\n{loss:.2g}", (0.0, 0.0), ha="center", va="center", fontsize=7)
