"""The experiment `path-geometry` as a figure: profile and loss in time, angles of the gradient, index."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saddlescope.papers.curves import jumps
from saddlescope.plots.path import BLUE, GREEN, ORANGE, QUARTERS, RED, STYLE

COLOURS = (BLUE, ORANGE, GREEN, RED)


def draw(results: Mapping[str, Any]) -> Figure:
    """Return four panels, a colour a path."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 4.6), layout="constrained")
        (profile, loss), (angle, index) = figure.subplots(2, 2)
        for number, ((name, one), colour) in enumerate(zip(results.items(), COLOURS, strict=False)):
            name = f"{name} (discontinuous)" if jumps(one) else name
            beside = 0.1 * number  # so that equal numbers of different paths do not hide each other
            _in_time(one, profile, loss, colour, name)
            rows = [k for k, seen in enumerate(one["clear"]) if seen]
            across = [one["looked"][k] / one["distances"][0] for k in rows]
            angle.plot(across, [one["tangent_angles"][k] for k in rows], "o-", color=colour, lw=0.8, ms=3, label=name)
            angle.plot(across, [one["distance_angles"][k] for k in rows], "x", color=colour, ms=4)
            index.plot(across, [one["index"][k][0] + beside for k in rows], "o", color=colour, ms=3)
            index.plot(across, [one["index"][k][1] + beside for k in rows], "_", color=colour, ms=7)
        profile.set_ylabel("$|\\vartheta_m-\\vartheta_l|$, $|a_m-a_l|$ (dashed)")
        loss.set_ylabel("loss $L(\\gamma(t))$ / at the point")
        for axes in (profile, loss):
            axes.set_xticks(*QUARTERS)
            axes.set_xlabel("$t$ along $\\gamma$")
        angle.set_ylabel("angle of $\\nabla L$ (degrees)")
        angle.set_title("o: to the tangent;  x: to the distance's gradient", fontsize=7, loc="left")
        angle.set_ylim(-3, 93)
        index.set_ylabel("negative eigenvalues")
        index.axhspan(1.5, 3.5, color="#eeeeee", zorder=0)
        index.text(0.98, 0.9, "more than one", ha="right", fontsize=7, transform=index.transAxes)
        index.set_ylim(-0.4, 3.5)
        index.set_yticks([0, 1, 2, 3])
        for axes in (angle, index):
            axes.set_xscale("log")
            axes.set_xlim(1.5, 5e-5)
            axes.set_xlabel("distance $\\delta/\\delta_0$")
        if results:
            profile.legend(loc="upper center", ncols=2)
    return figure


def _in_time(one: Any, profile: Axes, loss: Axes, colour: str, name: str) -> None:
    """Draw distance, difference of outgoing weights and loss over t, relative to their first or to the point's."""
    first, gap = one["profile"][0], abs(one["outgoing_gap"][0])
    profile.plot(one["times"], [x / first for x in one["profile"]], color=colour, lw=1.2, label=name)
    profile.plot(one["times"], [abs(x) / gap for x in one["outgoing_gap"]], "--", color=colour, lw=1.0)
    profile.set_ylim(0, 2.2)
    scale = one["loss_at_point"] or one["barrier"]
    loss.plot(one["times"], [x / scale for x in one["loss_in_time"]], color=colour, lw=1.2)
    loss.set_yscale("symlog", linthresh=1)
