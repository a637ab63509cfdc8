"""Every student's final loss above its width, marked by how its training ended."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from saddlescope.plots.canvas import BLUE, GREY, ORANGE

MARKS = {
    "zero loss": ("o", BLUE),
    "critical point": ("s", ORANGE),
    "not converged": ("x", GREY),
}


def plot_losses(groups: Mapping[int, Sequence[Mapping[str, Any]]], axes: Axes) -> Axes:
    """Draw a point a student, log scale; widths stand side by side at equal distances, seeds a little apart."""
    for kind, (marker, colour) in MARKS.items():
        across: list[float] = []
        up: list[float] = []
        for place, row in enumerate(groups.values()):
            spread = np.linspace(-0.25, 0.25, len(row)) if len(row) > 1 else np.zeros(1)
            mine = [(place + x, one["loss"]) for x, one in zip(spread, row, strict=True) if one["ending"] == kind]
            across += [x for x, _ in mine]
            up += [loss for _, loss in mine]
        if across:
            axes.plot(across, up, marker, color=colour, ms=3.5, mfc="none", mew=0.8, ls="none", label=kind)
    if groups:
        axes.set_yscale("log")
        axes.legend(loc="best")
    axes.set_xticks(range(len(groups)), [str(width) for width in groups])
    axes.set_xlim(-0.5, max(len(groups), 1) - 0.5)
    return axes
