"""Interior maxima of the loss along the path: located between nodes, refined, and reported with their gradient.

At dL/dd = 0 on an incoming or joint path every multiplier vanishes, so the point is a critical point of the full
loss: a saddle met before the permutation point ([B19] supplement, "Loss on the permutation path"). On a tied path, and
where creases or a fixed scale constrain it too, it need not be one.
"""

from contextlib import suppress

import jax.numpy as jnp
import numpy as np
from scipy.optimize import brentq

from saddlescope.numerics.continuation import Solver, Tolerances, settle, slope_at
from saddlescope.numerics.newton import CONVERGED, Iterate
from saddlescope.outcomes import Outcome
from saddlescope.paths.constraint import PairObjective, PairSurface
from saddlescope.paths.events import interior_maxima
from saddlescope.paths.follow import Node, Trajectory
from saddlescope.paths.result import Event

STEPS = 40


def refine(
    objective: PairObjective, surface: PairSurface, pair: tuple[Node, Node], limits: Tolerances, solver: Solver
) -> tuple[float, Iterate, float]:
    """Solve dL/dd = 0 between two nodes by Brent's method; return distance, iterate and slope at the best found."""
    ends = {float(np.log(node.distance)): node.slope for node in pair}
    known = {float(np.log(node.distance)): jnp.asarray(node.x) for node in pair}
    best: tuple[float, Iterate, float] | None = None

    def solved(place: float) -> float:
        nonlocal best
        if place in ends:
            return ends[place]
        below, above = max(at for at in known if at <= place), min(at for at in known if at >= place)
        share = (place - below) / (above - below) if above > below else 0.0
        guess = (1.0 - share) * known[below] + share * known[above]
        d = jnp.asarray(np.exp(place))
        found = settle(objective, surface, guess, d, limits, solver)
        slope = float(slope_at(objective, surface, found, d, solver))
        if best is None or abs(slope) < abs(best[2]):
            best = (float(d), found, slope)
        if int(found.status) != CONVERGED or abs(slope) <= float(limits.tolerance):
            raise StopIteration
        known[place] = found.x
        return slope

    with suppress(StopIteration):
        brentq(solved, min(ends), max(ends), maxiter=STEPS, disp=False)
    assert best is not None
    return best


def maximum_events(
    objective: PairObjective, surface: PairSurface, trail: Trajectory, limits: Tolerances, solver: Solver
) -> list[Event]:
    """Return one event for each interior maximum of the loss along a branch; at a fold the fold is the event."""
    events = []
    asked = [k for k, node in enumerate(trail.nodes) if node.kind == "asked"]
    nodes = tuple(trail.nodes[k] for k in asked)
    for k in interior_maxima(nodes):
        # Where a fold lies in between, the two slopes belong to two branches, and need not vanish between them.
        if any(nodes[k + 1].distance <= fold < nodes[k].distance for fold, _ in trail.folds):
            continue
        distance, found, slope = refine(objective, surface, (nodes[k], nodes[k + 1]), limits, solver)
        gradient = float(jnp.linalg.norm(found.gradient))
        detail = f"dL/dd = {slope:.3g}, norm of the full gradient {gradient:.3g}"
        events.append(Event(Outcome.INTERIOR_MAXIMUM, distance, float(found.value), asked[k], detail))
    return events
