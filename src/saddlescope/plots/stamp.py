"""A line at the foot of a figure that says of which size it is, so that it cannot be taken for another."""

from matplotlib.figure import Figure

from saddlescope.plots.path import GREY


def stamp(figure: Figure, text: str) -> Figure:
    """Write a line below everything that is drawn, in a strip of its own, and return the figure."""
    strip = 0.17 / figure.get_figheight()
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.set(rect=(0.0, strip, 1.0, 1.0 - strip))  # type: ignore[call-arg]
    figure.text(0.01, 0.2 * strip, text, fontsize=6, color=GREY, va="bottom", ha="left")
    return figure
