"""The experiment `mnist-widths` as a figure: loss against gradients, and the last loss against the width."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from saddlescope.papers.widths_experiment import LOW, cells
from saddlescope.plots.canvas import BLUE, GREY
from saddlescope.plots.path import STYLE


def draw(results: Mapping[str, Any]) -> Figure:
    """Return two panels: a curve a student, lighter the narrower; a point a student over its width, with medians."""
    groups = cells(results)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 2.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        shades = mpl.colormaps["viridis"](np.linspace(0.0, 0.9, max(len(groups), 1)))
        for shade, (width, row) in zip(shades, groups.items(), strict=False):
            for one in row:
                label = f"{width}" if one is row[0] else None
                left.plot(one["gradients"], one["losses"], color=shade, lw=0.9, label=label)
            right.plot([width] * len(row), [one["loss"] for one in row], "o", color=BLUE, ms=4, mfc="none", mew=0.9)
        left.set_xlabel("gradient evaluations")
        left.set_ylabel("loss $L$ / mean squared target")
        right.set_xlabel("width of the hidden layer (teacher: 10)")
        right.set_ylabel("last loss $L$ / mean squared target")
        if groups:
            images = next(iter(results.values()))["images"]
            left.set_title(f"{images} images of MNIST, 14 x 14 pixels", fontsize=8)
            medians = [np.median([one["loss"] for one in row]) for row in groups.values()]
            right.plot(list(groups), medians, color=BLUE, lw=0.9)
            right.axhline(LOW, color=GREY, lw=0.7, ls=":")
            for axes in (left, right):
                axes.set_xscale("log")
                axes.set_yscale("log")
            right.set_xticks(list(groups), [str(width) for width in groups])
            right.xaxis.set_minor_locator(NullLocator())
            left.legend(title="width", ncols=2)
    return figure
