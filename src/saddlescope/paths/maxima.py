"""Interior maxima of the loss along the path: located between nodes, refined, and reported with their gradient.

At dL/dd = 0 on an incoming or joint path every multiplier vanishes, so the point is a critical point of the full
loss: a saddle met
before the permutation point ([B19] supplement, "Loss on the permutation path"). On a tied path it need not be one.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from saddlescope.numerics.continuation import Limits, Solver, base_motion, settle
from saddlescope.numerics.newton import CONVERGED, Iterate
from saddlescope.outcomes import Outcome
from saddlescope.paths.constraint import PairObjective, PairSurface
from saddlescope.paths.events import interior_maxima
from saddlescope.paths.follow import Node, Trail
from saddlescope.paths.result import Event

STEPS = 40


def refine(
    objective: PairObjective, surface: PairSurface, pair: tuple[Node, Node], limits: Limits, solver: Solver
) -> tuple[float, Iterate, float]:
    """Bisect dL/dd = 0 between two nodes; return distance, iterate and slope at the best distance found."""
    low, high = pair
    left, right = (low.distance, jnp.asarray(low.x)), (high.distance, jnp.asarray(high.x))
    best: tuple[float, Iterate, float] | None = None
    for _ in range(STEPS):
        d = float(np.sqrt(left[0] * right[0]))
        middle: Array = 0.5 * (left[1] + right[1])
        found = settle(objective, surface, middle, jnp.asarray(d), limits, solver)
        slope = float(found.gradient @ base_motion(surface, found.x, jnp.asarray(d)))
        if best is None or abs(slope) < abs(best[2]):
            best = (d, found, slope)
        if int(found.status) != CONVERGED or abs(slope) <= 10.0 * float(limits.tolerance):
            break
        if slope < 0:
            left = (d, found.x)
        else:
            right = (d, found.x)
    assert best is not None
    return best


def maximum_events(
    objective: PairObjective, surface: PairSurface, trail: Trail, limits: Limits, solver: Solver
) -> list[Event]:
    """Return one event for each interior maximum of the loss along the path."""
    events = []
    asked = [k for k, node in enumerate(trail.nodes) if node.kind == "asked"]
    nodes = tuple(trail.nodes[k] for k in asked)
    for k in interior_maxima(nodes):
        distance, found, slope = refine(objective, surface, (nodes[k], nodes[k + 1]), limits, solver)
        gradient = float(jnp.linalg.norm(found.gradient))
        detail = f"dL/dd = {slope:.3g}, norm of the full gradient {gradient:.3g}"
        events.append(Event(Outcome.INTERIOR_MAXIMUM, distance, float(found.value), asked[k], detail))
    return events
