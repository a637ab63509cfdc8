"""The layer's incoming vectors and how they move along the path."""

import numpy as np
from matplotlib.axes import Axes

from saddlescope.paths.mirror import position
from saddlescope.paths.result import Path
from saddlescope.plots.canvas import BLUE, GREY, ORANGE, axes_or_new


def plot_neurons(path: Path, axes: Axes | None = None) -> Axes:
    """Draw every neuron's incoming vector up to the permutation point, its start as a dot, the pair in colour.

    The second half of the path is the mirror image, on which both of the pair go on along each other's track.

    Vectors of two components are drawn as they are; longer ones in the plane of their two principal components over
    the whole path, whose share of the variance the labels give. **What looks close there need not be close.**
    """
    axes = axes_or_new(axes)
    frames = np.stack([path.neurons.incoming_vectors(position(path, float(t))) for t in path.times])
    names = ("incoming component 1", "incoming component 2")
    if frames.shape[2] != 2:
        rows = frames.reshape(-1, frames.shape[2])
        centred = rows - rows.mean(axis=0)
        _, lengths, directions = np.linalg.svd(centred, full_matrices=False)
        shares = 100.0 * lengths**2 / max(float(np.sum(lengths**2)), np.finfo(float).tiny)
        # A layer with one input has one component only; the second is then zero everywhere.
        shares, missing = np.append(shares, 0.0)[:2], max(0, 2 - len(directions))
        flat = np.pad(centred @ directions[:2].T, ((0, 0), (0, missing)))
        frames = flat.reshape(len(path.times), -1, 2)
        names = tuple(f"component {k + 1} ({share:.0f} % of the variance)" for k, share in enumerate(shares))
    for unit in range(frames.shape[1]):
        colour = dict(zip(path.pair, (BLUE, ORANGE), strict=True)).get(unit, GREY)
        label = f"neuron {unit}" if unit in path.pair else None
        track = frames[:, unit]
        axes.plot(*track.T, color=colour, lw=1.0, alpha=1.0 if label else 0.5, label=label)
        axes.plot(*track[0], "o", color=colour, ms=4)
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    axes.legend(frameon=False)
    return axes
