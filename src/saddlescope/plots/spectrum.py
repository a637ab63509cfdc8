"""The eigenvalues that a certificate rests on, each with its bound, block by block in its own colour."""

import math

import numpy as np
from matplotlib.axes import Axes

from saddlescope.critical.result import Certificate
from saddlescope.plots.canvas import BLUE, GREEN, GREY, ORANGE, axes_or_new

COLOURS = {"symmetric": BLUE, "antisymmetric": ORANGE, "all": GREY}


def plot_spectrum(certificate: Certificate, axes: Axes | None = None) -> Axes:
    """Draw every block's eigenvalues in rising order, linear near 0 and logarithmic beyond.

    Zero modes that a symmetry explains are rings at 0, as many as the certificate counts; they are not measured
    eigenvalues. A block that occurs several times is drawn once and its legend entry says how often it counts.
    """
    axes = axes_or_new(axes)
    place, sizes = 0, [0.0]
    for part in certificate.parts:
        order = np.argsort(part.inertia.values)
        values, bounds = part.inertia.values[order], part.inertia.bounds[order]
        places = np.arange(place, place + len(values))
        label = part.name if part.times == 1 else f"{part.name}, {part.times} times"
        colour = COLOURS.get(part.name.split(",")[0], GREY)
        axes.errorbar(places, values, yerr=bounds, fmt=".", color=colour, ms=4, elinewidth=0.8, label=label)
        sizes.extend(np.abs(values[np.isfinite(values)]))
        place += len(values)
    if certificate.symmetry_nullity:
        rings = np.arange(place, place + certificate.symmetry_nullity)
        label = "zero by symmetry"
        axes.plot(rings, np.zeros(len(rings)), "o", mfc="none", color=GREEN, ms=4, label=label)
    # Linear within a millionth of the largest, so that a zero does not stretch the axis over all powers of ten.
    linear = 1e-6 * max(sizes) or 1.0
    axes.set_yscale("symlog", linthresh=linear)
    # Every second power of ten, from 10 times the linear range: nearer ones would be written over the 0.
    powers = 10.0 ** np.arange(math.ceil(math.log10(linear)) + 1, math.ceil(math.log10(max(*sizes, linear))) + 1, 2)
    axes.set_yticks([*-powers[::-1], 0.0, *powers], minor=False)
    axes.axhline(0.0, color=GREY, lw=0.8)
    axes.set_xlabel("eigenvalue, in rising order within its block")
    axes.set_ylabel("eigenvalue of the Hessian, natural units")
    if certificate.parts or certificate.symmetry_nullity:
        # Above the axes: inside it would hide a negative eigenvalue, which the verdict hangs on.
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), frameon=False)
    return axes
