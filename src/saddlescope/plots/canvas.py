"""Where a plot draws when it is given no axes, a layout that is the same each time, and the colours of all plots."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

# Okabe and Ito's colours, told apart by colour-blind readers.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"


def axes_or_new(axes: Axes | None) -> Axes:
    """Return the axes, or the only ones of a new figure that matplotlib's global state does not know."""
    return Figure(layout="constrained").subplots() if axes is None else axes


class SteadyLayout(ConstrainedLayoutEngine):
    """Matplotlib's constrained layout with places rounded to a millionth of the figure.

    Its linear solver takes terms in the order of their addresses in memory, so that places differ from run to run in
    their last bits, and with them the bytes of a file.
    """

    def execute(self, fig: Figure) -> None:
        """Lay the figure out."""
        super().execute(fig)
        for axes in fig.axes:
            within = axes.get_in_layout()
            axes.set_position(np.round(axes.get_position(original=True).bounds, 6).tolist())
            axes.set_in_layout(within)  # the line before takes it out


@contextmanager
def steady(figure: Figure) -> Iterator[Figure]:
    """Let a figure in constrained layout be laid out to the same bytes; its own layout comes back afterwards."""
    engine = figure.get_layout_engine()
    if not isinstance(engine, ConstrainedLayoutEngine):
        yield figure
        return
    figure.set_layout_engine(SteadyLayout(**engine.get()))
    try:
        yield figure
    finally:
        figure.set_layout_engine(engine)
