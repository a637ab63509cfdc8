"""The experiment `overparameterised-training` as a figure: endings by width, and what zero-loss neurons became."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saddlescope.papers.overparameterised import interval, zeros
from saddlescope.papers.students_experiment import ACTIVATIONS, cells
from saddlescope.plots.canvas import BLUE, GREEN, GREY, ORANGE, RED
from saddlescope.plots.path import STYLE

NAMES = {"sigmoid_softplus": r"$g$ = sigmoid($4x$) + softplus($x$)"}
ENDINGS = (
    ("zero loss", BLUE, ""),
    ("critical point", ORANGE, "//"),
    ("not converged", "#CCCCCC", ""),
)
ROLES = (("copies", BLUE, ""), ("zero-type groups", GREEN, "//"), ("silent", "#CCCCCC", ""), ("other", RED, "xx"))


def draw(results: Mapping[str, Any]) -> Figure:
    """Return a column an activation: above the seeds by their end, below the mean share of neurons of each kind."""
    every = cells(results)
    names = [name for name in ACTIVATIONS if any(key[0] == name for key in every)]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 4.2), layout="constrained")
        panels = figure.subplots(2, max(len(names), 1), squeeze=False, sharey="row")
        for column, name in enumerate(names):
            widths = [width for other, width in every if other == name]
            groups = [every[name, width] for width in widths]
            _endings(groups, panels[0, column])
            _neurons(groups, panels[1, column])
            for axes in panels[:, column]:
                axes.set_xticks(range(len(widths)), [str(width) for width in widths])
            panels[0, column].set_title(NAMES.get(name, name), fontsize=8)
            panels[1, column].set_xlabel("width $m$ of the student")
        panels[0, 0].set_ylabel("share of seeds")
        panels[1, 0].set_ylabel("share of neurons at $L = 0$")
        for row in panels if names else ():
            handles, labels = row[0].get_legend_handles_labels()
            row[-1].legend(handles, labels, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _stack(axes: Axes, shares: Sequence[Sequence[float]], kinds: Sequence[tuple[str, str, str]]) -> None:
    """Draw bars of shares, one bar a width."""
    below = [0.0] * len(shares[0])
    for row, (label, colour, hatch) in zip(shares, kinds, strict=True):
        axes.bar(range(len(row)), row, 0.7, bottom=below, color=colour, hatch=hatch, ec="white", lw=0.3, label=label)
        below = [a + b for a, b in zip(below, row, strict=True)]
    axes.set_ylim(0.0, 1.03)


def _endings(groups: Sequence[list[Any]], axes: Axes) -> None:
    """Draw how the seeds ended, with the 95% interval of zero loss and the number of seeds."""
    shares = [[sum(one["ending"] == kind for one in row) / len(row) for row in groups] for kind, _, _ in ENDINGS]
    _stack(axes, shares, ENDINGS)
    for place, row in enumerate(groups):
        low, high = interval(len(zeros(row)), len(row))
        share = shares[0][place]
        axes.errorbar(place, share, yerr=[[share - low], [high - share]], color="black", capsize=2, lw=0.8, fmt="none")
        axes.text(place, 0.03, f"{len(zeros(row))}/{len(row)}", ha="center", fontsize=6, color="white")


def _neurons(groups: Sequence[list[Any]], axes: Axes) -> None:
    """Draw what the neurons of the zero-loss students are."""
    shares: list[list[float]] = [[], [], [], []]
    for row in groups:
        ends = zeros(row)
        kinds = [[sum(one["copies"]), sum(one["zero_groups"]), one["silent"], one["other"]] for one in ends]
        total = sum(map(sum, kinds))
        for kind in range(4):
            shares[kind].append(sum(one[kind] for one in kinds) / total if total else 0.0)
    _stack(axes, shares, ROLES)
    for place, row in enumerate(groups):
        if not zeros(row):
            axes.text(place, 0.03, "none", ha="center", fontsize=6, color=GREY)
