"""What happened on the way, read off the trail: folds, interior maxima, non-convergence."""

from itertools import pairwise

import numpy as np

from saddlescope.numerics.newton import CONVERGED, OUTCOMES
from saddlescope.outcomes import Outcome
from saddlescope.paths.follow import Node, Trajectory
from saddlescope.paths.result import Event


def fold_events(trail: Trajectory) -> list[Event]:
    """Return one event for each descent that bridged a fold, with the distance and how far the point moved."""
    distances = np.array([node.distance for node in trail.nodes])
    events = []
    for distance, moved in trail.folds:
        at = int(np.flatnonzero(distances >= distance * (1 - 1e-12))[-1])
        detail = f"the minimiser ceased to exist here; descent at fixed distance moved the parameters by {moved:.3g}"
        events.append(Event(Outcome.FOLD, distance, trail.nodes[at].loss, at, detail))
    return events


def convergence_events(trail: Trajectory, tolerance: float) -> list[Event]:
    """Return one event for each asked distance at which the tolerance was missed."""
    return [
        Event(
            Outcome.NOT_CONVERGED,
            node.distance,
            node.loss,
            k,
            f"{OUTCOMES[node.status]}: tangential gradient norm {node.residual:.3g} above {tolerance:.3g}",
        )
        for k, node in enumerate(trail.nodes)
        if node.kind == "asked" and node.status != CONVERGED
    ]


def interior_maxima(nodes: tuple[Node, ...]) -> list[int]:
    """Return the nodes k at which the loss stops rising: dL/dd < 0 at k (rising as d falls) and > 0 at k + 1."""
    found = []
    for k, (here, after) in enumerate(pairwise(nodes)):
        known = np.isfinite(here.slope) and np.isfinite(after.slope)
        # At the rounding level of the gradient the sign of the slope says nothing.
        clear = known and min(abs(here.slope), abs(after.slope)) > 10.0 * max(here.residual, after.residual)
        if clear and here.slope < 0 < after.slope:
            found.append(k)
    return found
