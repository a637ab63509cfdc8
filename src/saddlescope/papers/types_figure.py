"""The experiment `path-types` as a figure: a schematic of each kind, a real example below it."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saddlescope.papers.curves import jumps
from saddlescope.papers.types_experiment import KINDS, of_kind
from saddlescope.plots.path import BLUE, GREY, ORANGE, STYLE

NAMES = {
    "maximum-at-point": "maximum at the point",
    "maximum-before": "maximum before the point",
    "channel": "channel to infinity",
}


def draw(results: Mapping[str, Any]) -> Figure:
    """Return a column a kind: the schematic, the loss of the most dependable example, its outgoing weights."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 4.6), layout="constrained")
        panels = figure.subplots(3, len(KINDS), height_ratios=(0.6, 1.0, 1.0))
        for column, kind in enumerate(KINDS):
            mine = of_kind(results, kind)
            panels[0, column].set_title(f"{NAMES[kind]} ({len(mine)} of {len(results)})", fontsize=8)
            _schematic(kind, panels[0, column])
            if mine:
                _example(mine[0], panels[1, column], panels[2, column])
            else:
                panels[1, column].text(0.5, 0.5, "none found", ha="center", transform=panels[1, column].transAxes)
        panels[1, 0].set_ylabel("loss $L$")
        panels[2, 0].set_ylabel("outgoing $|a_l|$, $|a_m|$")
    return figure


def _schematic(kind: str, axes: Axes) -> None:
    """Draw the loss over t in [0, 1] as a sketch, without numbers."""
    t = np.linspace(0.0, 1.0, 201)
    near = 1.0 - np.abs(2.0 * t - 1.0)  # 0 at both minima, 1 at the permutation point
    if kind == "maximum-at-point":
        loss = np.minimum(np.sin(np.pi * np.minimum(near, 0.5)) ** 2, 1.0)
    elif kind == "maximum-before":
        loss = np.sin(np.pi * np.minimum(near, 0.5) * 1.4) ** 2
    else:
        loss = np.where(near < 0.7, np.sin(np.pi * np.minimum(near, 0.5)) ** 2, np.nan)
    axes.plot(t, loss, color=GREY, lw=1.5)
    if kind == "channel":
        axes.annotate(r"$|a|\to\infty$", (0.5, 0.5), ha="center", fontsize=7)
    else:
        axes.plot(0.5, loss[100], "o", color=ORANGE, ms=5)
    axes.set_xticks([0, 0.5, 1], ["$\\theta^*$", "$t=½$", "$\\sigma\\theta^*$"])
    axes.set_yticks([])
    axes.set_ylim(-0.05, 1.15)


def _example(one: Any, above: Axes, below: Axes) -> None:
    """Draw a real path's loss and outgoing norms over the distance."""
    first = one["distances"][0]
    rows = [k for k, d in enumerate(one["distances"]) if d]
    across = [one["distances"][k] / first for k in rows]
    above.plot(across, [one["losses"][k] for k in rows], color=BLUE, lw=1.2)
    if one["loss_at_point"] is not None:
        place = {"transform": above.get_yaxis_transform(), "clip_on": False}
        above.plot(1.0, one["loss_at_point"], "o", color=ORANGE, ms=5, **place)
    for column, style in zip(one["outgoing"], ("-", "--"), strict=True):
        below.plot(across, [column[k] for k in rows], style, color=BLUE, lw=1.2)
    l, m = one["pair"]
    leaps = ", discontinuous" if jumps(one) else ""
    above.set_title(f"teacher {one['seed']}, {l}⇔{m}, {one['distance']}{leaps}", fontsize=7)
    below.set_yscale("log")
    below.set_xlabel("distance $\\delta/\\delta_0$")
    for axes in (above, below):
        axes.set_xscale("log")
        axes.invert_xaxis()
    above.ticklabel_format(axis="y", scilimits=(-2, 2))
