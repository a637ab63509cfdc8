"""The merge surface as heights of the loss, with the path's nodes seen from above."""

import numpy as np
from matplotlib.axes import Axes

from saddlescope.plots.canvas import ORANGE, RED, axes_or_new
from saddlescope.workflows.merge_surface import Surface


def plot_surface(surface: Surface, axes: Axes | None = None) -> Axes:
    """Draw the loss over the pair's difference and the share of its outgoing weights, and the path beside it.

    The path also moves all other parameters: its own loss differs from the surface's below it.
    """
    axes = axes_or_new(axes)
    low, high = float(np.nanmin(surface.losses)), float(np.nanmax(surface.losses))
    # Levels crowd near the lowest loss, where the path lies.
    levels = low + max(high - low, np.finfo(float).tiny) * np.linspace(0.0, 1.0, 25) ** 2
    drawn = axes.contourf(surface.differences, surface.shares, surface.losses.T, levels=levels, cmap="cividis")
    if axes.figure is not None:
        axes.figure.colorbar(drawn, ax=axes, label="loss $L$")
    inside = _inside(surface)
    away = "" if inside.all() else f" ({int(np.sum(~inside))} of {len(inside)} nodes outside)"
    axes.plot(surface.trace[:, 0], surface.trace[:, 1], ".-", color=RED, lw=1.0, ms=2.5, label=f"path{away}")
    axes.plot(0.0, surface.trace[-1, 1], "o", color=ORANGE, ms=6, label="permutation point")
    # The frame is the surface's: the path is cut there, however far it leads.
    axes.set_xlim(surface.differences[0], surface.differences[-1])
    axes.set_ylim(surface.shares[0], surface.shares[-1])
    axes.set_xlabel("difference of the pair")
    axes.set_ylabel("share of the outgoing weights")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False)  # inside it is dark
    return axes


def _inside(surface: Surface) -> np.ndarray:
    across, up = surface.trace[:, 0], surface.trace[:, 1]
    low, high = surface.differences[0], surface.differences[-1]
    return (across >= low) & (across <= high) & (up >= surface.shares[0]) & (up <= surface.shares[-1])
