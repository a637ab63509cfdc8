"""How far the loss strays along a walk that should keep it equal."""

import numpy as np
from matplotlib.axes import Axes

from saddlescope.plots.canvas import BLUE, GREY, axes_or_new
from saddlescope.valleys.result import Walk


def plot_walk(walk: Walk, axes: Axes | None = None) -> Axes:
    """Draw |L - L at the start| over the time in [0, 1], every segment taking the same share.

    The scale is logarithmic; points without any deviation have no place on it and are counted in the legend.
    """
    axes = axes_or_new(axes)
    deviations = walk.scan.loss_deviations
    segments, points = deviations.shape
    times = (np.arange(segments * points) + 1.0) / max(segments * points, 1)
    flat = deviations.ravel()
    shown = flat > 0
    exact = int(np.sum(flat == 0))
    axes.plot(times[shown], flat[shown], ".-", color=BLUE, lw=0.8, ms=3, label=f"measured; {exact} points exactly 0")
    for border in range(1, segments):
        axes.axvline(border / segments, color=GREY, lw=0.4, alpha=0.4)
    axes.set_xlim(0.0, 1.0)
    if shown.any():
        axes.set_yscale("log")
    axes.set_xlabel(f"time on the walk ({segments} segments)")
    axes.set_ylabel("$|L - L_0|$")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), frameon=False)  # above: inside it would hide points
    return axes
