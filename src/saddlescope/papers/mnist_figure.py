"""The experiment `mnist-paths` as a figure: loss and accuracy against the distance, highest loss over the width."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from saddlescope.papers.curves import jumps
from saddlescope.plots.path import BLUE, GREEN, GREY, ORANGE, RED, STYLE

COLOURS = {10: RED, 15: ORANGE, 20: GREEN, 25: BLUE}


def draw(results: Mapping[str, Any]) -> Figure:
    """Return three panels, a colour a width, a line a seed."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 2.7), layout="constrained")
        loss, accuracy, highest = figure.subplots(1, 3)
        seen: set[int] = set()
        for one in results.values():
            width, first = one["width"], one["distances"][0]
            label = None if width in seen else f"$H={width}$"
            seen.add(width)
            style = "--" if jumps(one) else "-"
            rows = [k for k, d in enumerate(one["distances"]) if d]
            across = [one["distances"][k] / first for k in rows]
            loss.plot(across, [one["losses"][k] for k in rows], color=COLOURS[width], lw=1.0, ls=style, label=label)
            if one["accuracies"] is not None:
                percent = [100 * one["accuracies"][k] for k in rows]
                accuracy.plot(across, percent, color=COLOURS[width], lw=1.0, ls=style)
            highest.plot(width, one["barrier"], "o", color=COLOURS[width], ms=4)
        loss.set_ylabel("relative loss $L$")
        accuracy.set_ylabel("training accuracy (%)")
        for axes in (loss, accuracy):
            axes.set_xscale("log")
            axes.set_xlim(1.5, 5e-5)
            axes.set_xlabel("distance $\\delta/\\delta_0$")
        low, high = accuracy.get_ylim()
        accuracy.set_ylim(min(low, high - 5.0), high)
        loss.set_ylim(bottom=0)
        highest.set_ylim(bottom=0)
        highest.set_xlim(7, 28)
        highest.set_xticks(list(COLOURS))
        highest.set_xlabel("width $H$")
        highest.set_ylabel("highest loss on the path")
        if any(jumps(one) for one in results.values()):
            loss.plot([], [], "--", color=GREY, lw=1.0, label="discontinuous")
        if seen:
            loss.legend(loc="best")
        for axes, letter in zip((loss, accuracy, highest), "ABC", strict=True):
            axes.set_title(letter, loc="left", fontsize=9, fontweight="bold")
    return figure
