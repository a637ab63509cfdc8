"""A permutation path as a figure: loss along gamma(t), loss and gradient norm against distance, outgoing weights.

Every function takes and returns Axes; `path_figure` puts them together. Nothing here touches matplotlib's global state.
"""

from pathlib import Path as FilePath

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saddlescope.outcomes import Outcome
from saddlescope.paths.result import Path

# Okabe and Ito's colours, told apart by colour-blind readers.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"
STYLE = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
}
QUARTERS = ([0, 0.25, 0.5, 0.75, 1], ["0", "¼", "½", "¾", "1"])
MARKS = {
    Outcome.FOLD: ("v", RED, "fold"),
    Outcome.INTERIOR_MAXIMUM: ("^", GREEN, "interior maximum"),
    Outcome.NOT_CONVERGED: ("x", GREY, "not converged"),
    Outcome.CHANNEL: ("s", RED, "channel to infinity"),
    Outcome.JUMP: ("D", RED, "jump"),
}


def _mark_events(path: Path, axes: Axes, places: np.ndarray) -> None:
    """Mark events at the given abscissae of the nodes, one legend entry a kind."""
    seen: set[Outcome] = set()
    for event in path.events:
        marker, colour, label = MARKS[event.kind]
        text = None if event.kind in seen else label
        seen.add(event.kind)
        axes.plot(places[event.node], event.loss, marker, color=colour, ms=5, label=text, zorder=4, clip_on=False)


def plot_loss(path: Path, axes: Axes) -> Axes:
    """Draw L along gamma(t); with a permutation point the whole of t in [0, 1], else the part that was followed."""
    axes.plot(path.times, path.losses, color=BLUE, lw=1.3)
    point = path.permutation_point
    if point is not None:
        axes.plot(1.0 - path.times, path.losses, color=BLUE, lw=1.3, alpha=0.55)
        axes.plot([path.times[-1], 1.0 - path.times[-1]], [path.losses[-1], point.loss], color=BLUE, lw=1.3, ls=":")
        axes.plot(0.5, point.loss, "o", color=ORANGE, ms=6, zorder=5, label="permutation point")
        axes.set_xticks(*QUARTERS)
    _mark_events(path, axes, path.times)
    axes.set_xlabel("$t$ along $\\gamma$")
    axes.set_ylabel("loss $L(\\gamma(t))$")
    axes.set_ylim(bottom=min(0.0, float(path.losses.min())))
    if point is not None or path.events:
        axes.legend(loc="best")
    return axes


def _positive(path: Path) -> np.ndarray:
    return path.distances > 0


def plot_distance(path: Path, axes: Axes) -> Axes:
    """Draw L against the distance of the pair, falling to the right; dots where the tolerance was met."""
    keep = _positive(path)
    axes.plot(path.distances[keep], path.losses[keep], color=BLUE, lw=1.0)
    asked = keep & (path.kinds == "asked") & path.converged
    axes.plot(path.distances[asked], path.losses[asked], ".", color=BLUE, ms=2.5)
    point = path.permutation_point
    if point is not None:
        axes.axhline(point.loss, color=ORANGE, lw=0.8, ls="--", label="at the permutation point")
        axes.legend(loc="best")
    axes.set_xscale("log")
    axes.invert_xaxis()
    axes.set_xlabel("distance $\\delta$ of the pair (falls to the right)")
    axes.set_ylabel("loss $L$")
    return axes


def plot_gradient(path: Path, axes: Axes) -> Axes:
    """Draw the tangential and the full gradient norm against the distance, with the tolerance; the start is left out."""
    keep = _positive(path) & (path.kinds == "asked") & (path.times > 0)
    for values, colour, label in (
        (path.full_gradient_norms, GREY, "full"),
        (path.gradient_norms, BLUE, "tangential"),
    ):
        shown = np.where(keep & (values > 0), values, np.nan)
        axes.plot(path.distances, shown, color=colour, lw=1.0, label=label)
    axes.axhline(path.tolerance, color=RED, lw=0.8, ls="--", label="tolerance")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.invert_xaxis()
    axes.set_xlabel("distance $\\delta$")
    axes.set_ylabel("gradient norm")
    axes.legend(loc="best")
    return axes


def plot_outgoing(path: Path, axes: Axes) -> Axes:
    """Draw the norms of both outgoing vectors against the distance: a channel shows as growth like 1/distance."""
    keep = _positive(path)
    l, m = path.pair
    for column, colour, label in ((0, BLUE, f"$|a_{{{l}}}|$"), (1, ORANGE, f"$|a_{{{m}}}|$")):
        axes.plot(path.distances[keep], path.outgoing_norms[keep, column], color=colour, lw=1.0, label=label)
    axes.set_xscale("log")
    axes.invert_xaxis()
    axes.set_xlabel("distance $\\delta$")
    axes.set_ylabel("outgoing norm")
    axes.legend(loc="best")
    return axes


def plot_accuracy(path: Path, axes: Axes) -> Axes:
    """Draw the accuracy along gamma(t).

    Raises:
        ValueError: the path holds no accuracies.
    """
    if path.accuracies is None:
        raise ValueError("this path was followed on data without labels: accuracies=None")
    percent = 100.0 * path.accuracies
    axes.plot(path.times, percent, color=GREEN, lw=1.3)
    if path.permutation_point is not None:
        axes.plot(1.0 - path.times, percent, color=GREEN, lw=1.3, alpha=0.55)
        axes.plot([0.25, 0.75], [percent[-1], percent[-1]], color=GREEN, lw=1.3, ls=":")
        axes.set_xticks(*QUARTERS)
    axes.set_ylim(max(0.0, percent.min() - 2.0), min(100.5, percent.max() + 2.0))
    axes.set_xlabel("$t$ along $\\gamma$")
    axes.set_ylabel("accuracy (%)")
    return axes


def path_figure(path: Path) -> Figure:
    """Return a figure of four panels: loss along gamma, loss and gradient against distance, accuracy or outgoing norms."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 4.6), layout="constrained")
        panels = figure.subplots(2, 2)
        plot_loss(path, panels[0, 0])
        plot_distance(path, panels[0, 1])
        plot_gradient(path, panels[1, 0])
        if path.accuracies is not None:
            plot_accuracy(path, panels[1, 1])
        else:
            plot_outgoing(path, panels[1, 1])
        figure.suptitle(
            f"layer {path.layer}, neurons {path.pair[0]} and {path.pair[1]}, {path.settings.distance} distance: {path.ending}",
            fontsize=9,
        )
        figure.canvas.draw_idle()
    return figure


def save_figure(figure: Figure, file: str | FilePath) -> None:
    """Write a figure as PNG, PDF or SVG by its name, fonts embedded."""
    with mpl.rc_context(STYLE):
        figure.savefig(file, dpi=200)
