"""The regimes of [S21] as a figure: over minimal width and width, where saddles or minima are more numerous."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from saddlescope.counting.regimes import Regime

# Okabe and Ito's colours, told apart by colour-blind readers.
SADDLES, MINIMA = "#D55E00", "#0072B2"


def plot_regimes(axes: "Axes", found: "list[Regime]", widest: int) -> "Axes":
    """Draw the crossing of both counts over r*; below it saddles outnumber, above it minima.

    Args:
        axes: what is drawn on, and returned.
        found: from `counting.regimes.regimes`, in rising order.
        widest: largest width looked at.
    """
    known = [(one.minimal, one.crossing) for one in found if one.crossing is not None]
    across, up = np.array(known, dtype=float).T
    axes.fill_between(across, across, up, color=SADDLES, alpha=0.35, linewidth=0)
    axes.fill_between(across, up, widest, color=MINIMA, alpha=0.35, linewidth=0)
    axes.plot(across, up, color="black", linewidth=1.0)
    axes.plot(across, across, color="black", linewidth=0.8, linestyle=":")
    axes.set_xlabel(r"minimal width $r^*$")
    axes.set_ylabel(r"width $m$")
    axes.set_xlim(across[0], across[-1])
    axes.set_ylim(across[0], widest)
    # Names inside their regions: a legend's patches would mix with the colours below them.
    inside = {"transform": axes.transAxes, "fontsize": 8}
    axes.text(0.05, 0.93, "more subspaces of minima", va="top", **inside)
    axes.text(0.97, 0.06, "networks narrower than $r^*$", ha="right", **inside)
    axes.annotate(
        "more symmetry-\ninduced saddles",
        xy=(across[-1] * 0.8, 0.5 * (across + up)[int(0.8 * len(up))]),
        xytext=(0.97, 0.15),
        textcoords="axes fraction",
        ha="right",
        fontsize=8,
        arrowprops={"arrowstyle": "-", "linewidth": 0.8},
    )
    return axes


def regimes_figure(found: "list[Regime]", widest: int) -> Figure:
    """Return a figure of one column's width with the regimes."""
    figure = Figure(figsize=(3.3, 2.9), layout="constrained")
    plot_regimes(figure.add_subplot(), found, widest)
    return figure
