"""The experiment `counts` as a figure: G and T, permutation points per minimum against limits, the regimes."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saddlescope.counting.regimes import Regime
from saddlescope.plots.path import BLUE, GREEN, ORANGE, RED, STYLE
from saddlescope.plots.regimes import plot_regimes


def draw(results: Mapping[str, Any]) -> Figure:
    """Return three panels; one stays empty where its task is not done."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 2.7), layout="constrained")
        left, middle, right = figure.subplots(1, 3, width_ratios=(1.0, 1.0, 1.3))
        if "enumeration" in results:
            _plot_subspaces(results["enumeration"]["rows"], left)
        if "ratios" in results:
            _plot_ratios(results["ratios"]["rows"], middle)
        if "regimes" in results:
            found = [Regime(r, m) for r, m in results["regimes"]["crossings"]]
            for text in plot_regimes(right, found, results["regimes"]["widest"]).texts:
                text.set_fontsize(6.5)
        for axes, letter in zip((left, middle, right), "ABC", strict=True):
            axes.set_title(letter, loc="left", fontsize=9, fontweight="bold")
    return figure


def _plot_subspaces(rows: list[list[int]], axes: Axes) -> None:
    """Draw G and T over m for some r, as lines, and what enumeration listed, as dots."""
    widest = max(row[1] for row in rows)
    for r, colour in ((1, GREEN), (2, BLUE), (4, ORANGE)):
        mine = [row for row in rows if row[0] == r]
        wide = [row[1] for row in mine]
        axes.plot(wide, [row[2] for row in mine], "--", color=colour, lw=1.0)
        axes.plot(wide, [row[3] for row in mine], "-", color=colour, lw=1.0, label=f"$r={r}$")
        axes.plot(wide, [row[4] for row in mine], "o", color=colour, ms=2.5)
        axes.plot(wide, [row[5] for row in mine], "o", color=colour, ms=2.5)
    axes.plot([], [], "o", color="black", ms=2.5, label="listed")
    axes.set_yscale("log")
    axes.set_xlim(0.5, widest + 0.5)
    axes.set_xlabel("width $m$")
    axes.set_ylabel("$G(r,m)$ (dashed), $T(r,m)$")
    axes.legend(loc="upper left", handlelength=1.2)


def _plot_ratios(rows: list[list[int | float]], axes: Axes) -> None:
    """Draw T(K, n) and its bound relative to n^K/(2^K K!), and the limit that Lemma 1 prints."""
    for order, colour in ((1, GREEN), (2, BLUE), (3, ORANGE)):
        mine = [row for row in rows if row[0] == order]
        wide = [row[1] for row in mine]
        axes.plot(wide, [row[2] for row in mine], "-", color=colour, lw=1.0, label=f"$K={order}$")
        axes.plot(wide, [row[3] for row in mine], "--", color=colour, lw=1.0)
        axes.plot(wide, [row[4] for row in mine], ":", color=RED, lw=1.0)
    axes.plot([], [], "k--", lw=1.0, label="lower bound")
    axes.plot([], [], ":", color=RED, lw=1.0, label="limit as printed")
    axes.set_xscale("log")
    axes.set_ylim(0, 1.75)
    axes.set_xlabel("width $n$")
    axes.set_ylabel("relative to $n^K/(2^K K!)$")
    axes.legend(loc="upper right", ncols=2, handlelength=1.2, columnspacing=0.8)
