"""Follow the constrained minimiser from the first distance to the last, and settle in the mirror plane.

Everything here is in pair coordinates and in float64; `find` turns it into a `Path`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from saddlescope.numerics.continuation import (
    TANGENTS,
    ContinuationState,
    LegInfo,
    Solver,
    Tolerances,
    advance_to,
    descend,
    evaluate,
    init_tracking,
    settle,
)
from saddlescope.numerics.newton import CONVERGED, MAX_STEPS, NON_FINITE, OUTCOMES, Iterate
from saddlescope.numerics.tangent import Unconstrained
from saddlescope.paths.constraint import PairObjective, PairSurface

Progress = Callable[[int, int, str], None]

# A branch whose weights are this many times larger than at the start is left; whether it is a channel, `decide` says.
RUNAWAY = 30.0

# A branch that misses its tolerance at this many asked distances in a row is given up.
PATIENCE = 3

# A descent that bridges a fold is stored with about this many points at most.
BRIDGE = 200


@dataclass(frozen=True)
class Node:
    """One stored point of the path, in pair coordinates, with what was measured there."""

    x: np.ndarray
    distance: float
    loss: float
    residual: float
    gradient: float  # norm of the full gradient
    slope: float
    curvature: float
    iterations: int
    status: int
    kind: str = "asked"  # | "between": a minimiser between asked distances | "bridge": on a descent that leaves a fold


@dataclass(frozen=True)
class Trajectory:
    """The nodes in order, the folds met, and why following stopped early (None: it did not)."""

    nodes: tuple[Node, ...]
    folds: tuple[tuple[float, float], ...]  # distance, and how far the descent moved the parameters
    stopped: str | None
    ran_away: bool  # it stopped because weights passed the bound
    iterations: int
    products: int


def distances_between(first: float, reach: float, steps: int) -> np.ndarray:
    """Return ``steps`` log-spaced distances from ``first`` to ``reach * first``."""
    return first * np.logspace(0.0, np.log10(reach), steps)


def node_of(iterate: Iterate, distance: float, slope: float, curvature: float, *, kind: str = "asked") -> Node:
    """Return the record of one iterate."""
    return Node(
        np.asarray(iterate.x),
        distance,
        float(iterate.value),
        float(iterate.residual),
        float(jnp.linalg.norm(iterate.gradient)),
        slope,
        curvature,
        int(iterate.iterations),
        int(iterate.status),
        kind,
    )


def bridge(
    objective: PairObjective, surface: PairSurface, leg: LegInfo, limits: Tolerances, solver: Solver
) -> list[Node]:
    """Return the points of the descent at fixed distance by which a fold is left, from the last good prediction on.

    Points closer together than a 200th of the way are thinned out. Residuals are measured at each that is kept.
    """
    _, points, values, count = descend(objective, surface, leg.leap_from, leg.leap_d, limits, solver)
    xs, losses = np.asarray(points)[: int(count)], np.asarray(values)[: int(count)]
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(xs, axis=0), axis=1))])
    kept: list[int] = []
    for k in range(len(xs)):
        if not kept or way[k] - way[kept[-1]] > way[-1] / BRIDGE or (k == len(xs) - 1 and way[k] > way[kept[-1]]):
            kept.append(k)
    nan, nodes = float("nan"), []
    for k in kept:
        there = evaluate(objective, surface, jnp.asarray(xs[k]), leg.leap_d, limits.tolerance, solver)
        here = node_of(there, float(leg.leap_d), nan, nan, kind="bridge")
        nodes.append(replace(here, x=xs[k], loss=float(losses[k]), iterations=0, status=MAX_STEPS))
    return nodes


def between(
    objective: PairObjective, surface: PairSurface, leg: LegInfo, limits: Tolerances, solver: Solver
) -> list[Node]:
    """Return the points between two asked distances: accepted strides, and the descent if a fold was bridged."""
    count = int(leg.traced)
    if count == 0 and float(leg.leap) == 0.0:
        return []
    xs, told = np.asarray(leg.trace)[:count].copy(), np.asarray(leg.trace_told)[:count]
    fold = float(leg.leap_d) if float(leg.leap) > 0 and solver in TANGENTS else 0.0
    bridged = fold == 0.0
    nodes: list[Node] = []
    nan = float("nan")
    for x, (d, loss, residual, gradient, status) in zip(xs, told.tolist(), strict=True):
        if not bridged and d <= fold:
            nodes += bridge(objective, surface, leg, limits, solver)
            bridged = True
        nodes.append(Node(x, d, loss, residual, gradient, nan, nan, 0, int(status), "between"))
    if not bridged:
        nodes += bridge(objective, surface, leg, limits, solver)
    return nodes


def _has_run_away(nodes: list[Node], start: float) -> bool:
    """Return whether the parameters' norm has passed `RUNAWAY` times that at the start; NaN has not."""
    return float(np.linalg.norm(nodes[-1].x)) / start > RUNAWAY


def _gives_up(nodes: list[Node], start: float) -> str | None:
    """Return why following the branch further makes no sense, or None."""
    last = nodes[-1]
    if last.status == NON_FINITE:
        return "the loss or the gradient is not finite"
    if _has_run_away(nodes, start):
        return f"the weights have grown {float(np.linalg.norm(last.x)) / start:.3g}-fold"
    recent = [node for node in nodes if node.kind == "asked"][-PATIENCE:]
    if len(recent) == PATIENCE and all(node.status != CONVERGED for node in recent):
        return f"the tolerance was missed at {PATIENCE} distances in a row ({OUTCOMES[last.status]})"
    return None


def follow(
    objective: PairObjective,
    surface: PairSurface,
    x: Array,
    distances: np.ndarray,
    limits: Tolerances,
    solver: Solver,
    progress: Progress | None = None,
) -> Trajectory:
    """ContinuationState the minimiser through all asked distances, one compiled advance_to a leg."""
    full = jnp.asarray(np.log(distances[0] / distances[-1]) / (len(distances) - 1))
    first = evaluate(objective, surface, x, jnp.asarray(distances[0]), limits.tolerance, solver)
    nodes = [node_of(first, float(distances[0]), float("nan"), float("nan"))]
    start = max(float(jnp.linalg.norm(x)), 1e-300)
    limits = limits._replace(bound=jnp.asarray(RUNAWAY * start))
    track: ContinuationState = init_tracking(objective, surface, x, jnp.asarray(distances[0]), full, solver)
    folds: list[tuple[float, float]] = []
    iterations = products = 0
    for k, asked in enumerate(distances[1:], start=1):
        track, leg = advance_to(objective, surface, track, jnp.asarray(asked), full, limits, solver)
        distance = float(track.d)  # above the one asked for where the weights run away
        iterations += int(leg.iterations)
        products += int(leg.products)
        nodes += between(objective, surface, leg, limits, solver)
        if float(leg.leap) > 0:
            folds.append((float(leg.leap_d), float(leg.leap)))
        nodes.append(node_of(leg.iterate, distance, float(leg.slope), float(leg.curvature)))
        if progress is not None:
            progress(k, len(distances) - 1, f"distance {distance:.2e}, loss {nodes[-1].loss:.4e}")
        why = _gives_up(nodes, start)
        if why is not None:
            return Trajectory(tuple(nodes), tuple(folds), why, _has_run_away(nodes, start), iterations, products)
    return Trajectory(tuple(nodes), tuple(folds), None, False, iterations, products)


@eqx.filter_jit
def mirror_mask(surface: PairSurface, x: Array) -> Array:
    """Return 0 on all differences of the pair, 1 elsewhere: the fixed points of the swap."""
    places = surface.coordinates
    return jnp.ones_like(x).at[places.incoming_difference].set(0.0).at[places.outgoing_difference].set(0.0)


def settle_in_mirror(
    objective: PairObjective, surface: PairSurface, x: Array, limits: Tolerances, solver: Solver
) -> tuple[Iterate, Iterate]:
    """Put the distance to zero and minimise among the swap's fixed points, which is the network with one neuron less.

    Returns the point right after merging, unmoved, and the settled one.
    """
    mask = mirror_mask(surface, x)
    plane = Unconstrained(mask)
    none = jnp.asarray(0.0)
    merged = evaluate(objective, plane, x * mask, none, limits.tolerance, solver)
    return merged, settle(objective, plane, x * mask, none, limits, solver)
