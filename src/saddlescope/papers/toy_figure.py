"""The experiment `toy-paths` as a figure: incoming vectors before and after, and the loss against the distance."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saddlescope.papers.curves import jumps
from saddlescope.papers.toy_experiment import points
from saddlescope.plots.path import BLUE, GREY, ORANGE, RED, STYLE

ORDER = ("relu", "tanh", "softplus")
ROLES = ((BLUE, "o"), (ORANGE, "s"), (RED, "^"))


def draw(results: Mapping[str, Any]) -> Figure:
    """Return a column an activation: above the neurons, below the loss; the distance with most permutation points."""
    known = [name for name in ORDER if any(one["activation"] == name for one in results.values())]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 4.4), layout="constrained")
        panels = figure.subplots(2, max(len(known), 1), squeeze=False)
        for column, activation in enumerate(known):
            distance = max(("tied", "incoming"), key=lambda kind: _ended(results, activation, kind))
            chosen = _chosen(results, activation, distance)
            _plot_neurons(chosen, panels[0, column])
            others = [
                one
                for one in results.values()
                if (one["activation"], one["distance"]) == (activation, distance) and one not in chosen
            ]
            _plot_losses(chosen, others, panels[1, column])
            panels[0, column].set_title(f"{activation}, {distance} distance", fontsize=8)
        panels[0, 0].set_ylabel("$w_2/|b|$")
        panels[1, 0].set_ylabel("loss $L$")
    return figure


def _ended(results: Mapping[str, Any], activation: str, kind: str) -> int:
    return sum(len(group) for group in points(results, activation, kind))


def _chosen(results: Mapping[str, Any], activation: str, distance: str) -> list[Any]:
    """Return two pairs that meet in one point, if there are any, and one that does not."""
    groups = points(results, activation, distance)
    first = groups[0][:2] if groups else []
    return first + (groups[1][:1] if len(groups) > 1 else [])


def _plot_neurons(chosen: list[Any], axes: Axes) -> None:
    """Draw w/|b| of each neuron: the teacher's as crosses, those at each pair's end in its colour and shape."""
    for one, (colour, marker) in zip(chosen, ROLES, strict=False):
        l, m = one["pair"]
        across = [row[0] / abs(row[2]) for row in one["after"]]
        up = [row[1] / abs(row[2]) for row in one["after"]]
        axes.plot(across, up, marker, color=colour, ms=6, mfc="none", label=f"after {l}⇔{m}")
        axes.plot(across[l], up[l], marker, color=colour, ms=6)
    if chosen:
        rows = chosen[0]["before"]
        axes.plot([r[0] / abs(r[2]) for r in rows], [r[1] / abs(r[2]) for r in rows], "k+", ms=7, label="before")
        for number, row in enumerate(rows):
            axes.annotate(
                str(number),
                (row[0] / abs(row[2]), row[1] / abs(row[2])),
                xytext=(3, 3),
                textcoords="offset points",
                fontsize=7,
            )
        axes.legend(fontsize=6, loc="best", handletextpad=0.2, borderaxespad=0.1, framealpha=0.7, frameon=True)
    axes.set_xscale("symlog", linthresh=1)
    axes.set_yscale("symlog", linthresh=1)
    axes.axhline(0, color=GREY, lw=0.4)
    axes.axvline(0, color=GREY, lw=0.4)
    axes.set_xlabel("$w_1/|b|$")


def _plot_losses(chosen: list[Any], others: list[Any], axes: Axes) -> None:
    """Draw the loss over the distance, falling to the right, of all pairs; the chosen ones in colour."""
    for one in others:
        _curve(one, axes, color="#bbbbbb", lw=0.6)
    if others:
        axes.plot([], [], color="#bbbbbb", lw=0.6, label="other pairs")
    for one, (colour, marker) in zip(chosen, ROLES, strict=False):
        l, m = one["pair"]
        _curve(one, axes, color=colour, lw=1.2, label=f"${l}$⇔${m}$")
        axes.plot(1.03, one["loss_at_point"], marker, transform=axes.get_yaxis_transform(), color=colour, ms=4)
        axes.get_lines()[-1].set_clip_on(False)
    if any(jumps(one) for one in (*chosen, *others)):
        axes.plot([], [], "--", color=GREY, lw=0.8, label="discontinuous")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.invert_xaxis()
    top = max((one["barrier"] for one in chosen), default=1.0)
    low = min((one["loss_at_point"] for one in chosen), default=1.0)
    axes.set_ylim(min(1e-3 * top, 0.1 * low), 300 * top)
    axes.set_xlabel("distance $\\delta/\\delta_0$")
    axes.legend(fontsize=6, loc="upper right", framealpha=0.7, frameon=True)


def _curve(one: Any, axes: Axes, **style: Any) -> None:
    """Draw a path without its first node (loss zero) and the merged one (distance zero); dashed where it jumps."""
    style = {**style, "ls": "--"} if jumps(one) else style
    first = one["distances"][0]
    rows = [(d / first, loss) for d, loss in zip(one["distances"], one["losses"], strict=True) if d and loss]
    if rows:
        across, up = zip(*rows[1:], strict=True)
        axes.plot(across, up, **style)
