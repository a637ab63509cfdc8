"""A permutation path as a figure: loss along gamma(t), loss and gradient norm against distance, outgoing weights.

Every function takes and returns Axes; `path_figure` puts them together. Nothing here touches matplotlib's global state.
"""

from pathlib import Path as FilePath
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saddlescope.files import writing
from saddlescope.outcomes import Outcome
from saddlescope.paths.result import Path
from saddlescope.plots.canvas import BLUE, GREEN, GREY, ORANGE, RED, axes_or_new, steady

STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "saddlescope",  # the same figure, the same bytes
}
QUARTERS = ([0, 0.25, 0.5, 0.75, 1], ["0", "¼", "½", "¾", "1"])
MARKS = {
    Outcome.FOLD: ("v", RED, "fold"),
    Outcome.INTERIOR_MAXIMUM: ("^", GREEN, "interior maximum"),
    Outcome.NOT_CONVERGED: ("x", GREY, "not converged"),
    Outcome.CHANNEL: ("s", RED, "channel to infinity"),
    Outcome.RUNAWAY: ("P", RED, "weights run away"),
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


def plot_loss(path: Path, axes: Axes | None = None) -> Axes:
    """Draw L along gamma(t); with a permutation point the whole of t in [0, 1], else the part that was followed."""
    axes = axes_or_new(axes)
    axes.plot(path.times, path.losses, color=BLUE, lw=1.3)
    point = path.permutation_point
    if point is not None:
        axes.plot(1.0 - path.times, path.losses, color=BLUE, lw=1.3, alpha=0.55)
        transfer = [path.losses[-1], point.loss, path.losses[-1]]
        axes.plot([path.times[-1], 0.5, 1.0 - path.times[-1]], transfer, color=BLUE, lw=1.3, ls=":")
        axes.plot(0.5, point.loss, "o", color=ORANGE, ms=6, zorder=5, label="permutation point")
        axes.set_xticks(*QUARTERS)
    _mark_events(path, axes, path.times)
    axes.set_xlabel("$t$ along $\\gamma$")
    axes.set_ylabel("loss $L(\\gamma(t))$")
    finite = path.losses[np.isfinite(path.losses)]
    low, high = float(finite.min(initial=0.0)), float(finite.max(initial=0.0 if point is None else point.loss))
    if high > low:
        axes.set_ylim(low, high + 0.06 * (high - low))
    if point is not None or path.events:
        _legend(axes, columns=2)
    return axes


def _legend(axes: Axes, *, columns: int = 3) -> None:
    """Put the legend above the axes, where it hides no line, at the right, where no power of ten stands."""
    above = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0)}
    axes.legend(**above, ncols=columns, borderaxespad=0.2, handletextpad=0.5, columnspacing=1.2, frameon=False)


def _positive(path: Path) -> np.ndarray:
    return path.distances > 0


def _fall_to_the_right(path: Path, axes: Axes) -> None:
    """Give the axes a logarithmic abscissa for all distances of the path, the largest at the left."""
    axes.set_xscale("log")
    shown = path.distances[_positive(path)]
    if len(shown):
        axes.set_xlim(1.3 * shown.max(), shown.min() / 1.3)


def plot_distance(path: Path, axes: Axes | None = None) -> Axes:
    """Draw L against the distance of the pair, falling to the right; dots where the tolerance was met."""
    axes = axes_or_new(axes)
    keep = _positive(path)
    axes.plot(path.distances[keep], path.losses[keep], color=BLUE, lw=1.0)
    asked = keep & (path.kinds == "asked") & path.converged
    axes.plot(path.distances[asked], path.losses[asked], ".", color=BLUE, ms=2.5)
    point = path.permutation_point
    if point is not None:
        axes.axhline(point.loss, color=ORANGE, lw=0.8, ls="--", label="at the permutation point")
        _legend(axes)
    _fall_to_the_right(path, axes)
    axes.set_xlabel("distance $\\delta$ of the pair (falls to the right)")
    axes.set_ylabel("loss $L$")
    return axes


def plot_gradient(path: Path, axes: Axes | None = None) -> Axes:
    """Draw the tangential and the full gradient norm against the distance, with the tolerance, without the start."""
    axes = axes_or_new(axes)
    keep = _positive(path) & (path.kinds == "asked") & (path.times > 0)
    for values, colour, label in (
        (path.full_gradient_norms, GREY, "full"),
        (path.gradient_norms, BLUE, "tangential"),
    ):
        shown = keep & (values > 0)
        axes.plot(path.distances[shown], values[shown], ".-", color=colour, lw=1.0, ms=2.5, label=label)
    axes.axhline(path.tolerance, color=RED, lw=0.8, ls="--", label="tolerance")
    axes.set_yscale("log")
    _fall_to_the_right(path, axes)
    axes.set_xlabel("distance $\\delta$")
    axes.set_ylabel("gradient norm")
    _legend(axes)
    return axes


def plot_outgoing(path: Path, axes: Axes | None = None) -> Axes:
    """Draw the norms of both outgoing vectors against the distance: a channel shows as growth like 1/distance."""
    axes = axes_or_new(axes)
    keep = _positive(path)
    l, m = path.pair
    for column, colour, label in ((0, BLUE, f"$|a_{{{l}}}|$"), (1, ORANGE, f"$|a_{{{m}}}|$")):
        axes.plot(path.distances[keep], path.outgoing_norms[keep, column], color=colour, lw=1.0, label=label)
    _fall_to_the_right(path, axes)
    axes.set_xlabel("distance $\\delta$")
    axes.set_ylabel("outgoing norm")
    _legend(axes)
    return axes


def plot_accuracy(path: Path, axes: Axes | None = None) -> Axes:
    """Draw the accuracy along gamma(t).

    Raises:
        ValueError: the path holds no accuracies.
    """
    axes = axes_or_new(axes)
    if path.accuracies is None:
        raise ValueError("this path was followed on data without labels: accuracies=None")
    percent = 100.0 * path.accuracies
    axes.plot(path.times, percent, color=GREEN, lw=1.3)
    if path.permutation_point is not None:
        axes.plot(1.0 - path.times, percent, color=GREEN, lw=1.3, alpha=0.55)
        axes.plot([path.times[-1], 1.0 - path.times[-1]], [percent[-1], percent[-1]], color=GREEN, lw=1.3, ls=":")
        axes.set_xticks(*QUARTERS)
    axes.set_ylim(max(0.0, percent.min() - 2.0), min(100.5, percent.max() + 2.0))
    axes.set_xlabel("$t$ along $\\gamma$")
    axes.set_ylabel("accuracy (%)")
    return axes


def path_figure(path: Path) -> Figure:
    """Return four panels: loss along gamma, loss and gradient norm against distance, accuracy or outgoing norms."""
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
        l, m = path.pair
        title = f"layer {path.layer}, neurons {l} and {m}, {path.settings.distance} distance: {path.ending}"
        figure.suptitle(title, fontsize=9)
        figure.canvas.draw_idle()
    return figure


def save_figure(figure: Figure, file: str | FilePath, *, by: str = "saddlescope library") -> None:
    """Write a figure as PNG, PDF or SVG by its name, whole or not at all, fonts embedded.

    Args:
        figure: from one of the drawing functions.
        file: its name; the suffix says the format.
        by: program and command, kept in the file, by which ``--overwrite`` knows its own figures again.

    Raises:
        StorageError: the disk refuses; nothing is left behind.
    """
    file = FilePath(file)
    maker = {".svg": {"Date": None, "Creator": by}, ".pdf": {"CreationDate": None, "Creator": by}}
    metadata = maker.get(file.suffix, {"Software": by})
    with writing(file, "the figure") as draft, mpl.rc_context(STYLE), steady(figure):
        figure.savefig(draft, dpi=200, metadata=metadata, format=file.suffix.removeprefix("."))
