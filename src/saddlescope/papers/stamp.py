"""A line at the foot of a figure that says of which size it is, so that it cannot be taken for another."""

import textwrap

from matplotlib.figure import Figure

from saddlescope.plots.path import GREY


def stamp(figure: Figure, text: str) -> Figure:
    """Write a line below everything that is drawn, in a strip of its own, and return the figure."""
    lines = textwrap.wrap(text, int(27 * figure.get_figwidth()))  # characters of this size to the inch
    strip = (0.06 + 0.11 * len(lines)) / figure.get_figheight()
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.set(rect=(0.0, strip, 1.0, 1.0 - strip))  # type: ignore[call-arg]
    figure.text(0.01, 0.03 / figure.get_figheight(), "\n".join(lines), fontsize=6, color=GREY, va="bottom", ha="left")
    return figure
