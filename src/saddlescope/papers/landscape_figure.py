"""The experiment `merge-landscape` as a figure: contours over difference and outgoing share, and cuts through them."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from saddlescope.plots.path import BLUE, GREEN, GREY, ORANGE, RED, STYLE


def draw(results: Mapping[str, Any]) -> Figure:
    """Return contours with the path, and cuts at several shares."""
    found = results.get("surface", {})
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 3.1), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1.0))
        if "losses" not in found:
            left.text(0.5, 0.5, f"no permutation point: {found.get('ending', 'not measured')}", ha="center")
            return figure
        across, up = np.array(found["differences"]), np.array(found["shares"])
        losses, trace = np.array(found["losses"]), np.array(found["trace"], dtype=float)
        point, name = found["loss_at_point"], "path" if found["continuous"] else "path (discontinuous)"
        levels = np.geomspace(losses.min(), losses.max(), 24)
        colours = left.contourf(across, up, losses.T, levels, norm=LogNorm(), cmap="viridis")
        left.contour(
            across, up, losses.T, point * np.array([0.93, 0.97, 1.0, 1.15, 1.5]), colors="white", linewidths=0.6
        )
        figure.colorbar(colours, ax=left, format="%.0e", ticks=levels[::5]).ax.set_title("loss $L$", fontsize=8)
        left.plot(trace[:, 0], trace[:, 1], color=RED, lw=1.5, label=name)
        left.plot([0.0, 0.0], [trace[-1, 1], 1 - trace[-1, 1]], color=RED, lw=1.5, ls=":")
        left.plot(-trace[:, 0], 1 - trace[:, 1], color=RED, lw=1.5, ls="--", label="its mirror image")
        left.plot(0, 0.5, "o", color=ORANGE, mec="white", ms=7, label="permutation point", zorder=5)
        left.set_xlim(across[0], across[-1])
        left.set_ylim(up[0], up[-1])
        left.set_xlabel("difference $(\\vartheta_m-\\vartheta_l)\\cdot e$")
        left.set_ylabel("share of $a_l$ in $a_l+a_m$")
        left.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, columnspacing=1.0, handlelength=1.5)
        for share, colour in ((0.5, BLUE), (0.0, GREEN), (1.25, GREY)):
            row = int(np.argmin(np.abs(up - share)))
            right.plot(across, losses[:, row], color=colour, lw=1.2, label=f"share {up[row]:.2f}")
        right.plot(trace[:, 0], trace[:, 2], color=RED, lw=1.2, label="the path")
        right.plot(0, point, "o", color=ORANGE, ms=6)
        right.set_yscale("log")
        right.set_ylim(0.2 * point, 3 * losses.max())
        right.set_xlabel("difference $(\\vartheta_m-\\vartheta_l)\\cdot e$")
        right.set_ylabel("loss $L$")
        right.legend(loc="upper center", ncols=2)
    return figure
