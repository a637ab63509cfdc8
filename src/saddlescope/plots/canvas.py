"""Where a plot draws when it is given no axes, and the colours that all plots share."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind readers.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"


def axes_or_new(axes: Axes | None) -> Axes:
    """Return the axes, or the only ones of a new figure that matplotlib's global state does not know."""
    return Figure(layout="constrained").subplots() if axes is None else axes
