"""The end of a path: settle in the mirror plane, decide what was found, measure between the nodes, build the `Path`."""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from saddlescope.arrays import Layout, to_numpy
from saddlescope.numerics.continuation import Limits, Solver, evaluate
from saddlescope.numerics.newton import CONVERGED, OUTCOMES, Iterate
from saddlescope.numerics.tangent import Unconstrained
from saddlescope.outcomes import Outcome
from saddlescope.paths.constraint import PairObjective, PairSurface
from saddlescope.paths.events import CHANNEL_EXPONENT, convergence_events, fold_events, growth_exponent
from saddlescope.paths.follow import RUNAWAY, Node, Trail, node_of, settle_in_mirror
from saddlescope.paths.maxima import maximum_events
from saddlescope.paths.result import Event, Path, PathSettings, PermutationPoint
from saddlescope.problem.kinks import is_kinked, kink_distances
from saddlescope.problem.problem import Problem
from saddlescope.symmetry.actions import merge
from saddlescope.symmetry.coordinates import PairCoordinates
from saddlescope.symmetry.neurons import Neurons

# Between two nodes the loss may exceed both by this share of the path's barrier and still count as continuous.
RIPPLE = 0.01


# Nodes are handed to compiled programs in multiples of so many rows, or of so many numbers (32 MB) if those are fewer.
ROWS, ROW_NUMBERS = 256, 2**22

# A preactivation this small, relative to its layer's largest, counts as on a kink when a residual is explained.
NEAR_KINK = 1e-9


@dataclass(frozen=True)
class Found:
    """Everything that following produced, handed to `finish`."""

    problem: Problem
    objective: PairObjective
    surface: PairSurface
    trail: Trail
    limits: Limits
    solver: Solver
    layout: Layout
    neurons: Neurons
    layer: int
    pair: tuple[int, int]
    settings: PathSettings
    tolerance: float


@dataclass(frozen=True)
class Verdict:
    """How the path ended, why, and the point in the mirror plane if it is the path's limit."""

    ending: Outcome
    reasons: tuple[str, ...]
    settled: Iterate | None
    gap: float


def kink_reason(found: Found) -> tuple[str, ...]:
    """Return why a kinked activation's residuals stay up: minimisers on kinks, counted over the missed distances."""
    missed = [node for node in found.trail.nodes if node.kind == "asked" and node.status != CONVERGED]
    if not missed or not is_kinked(found.problem):
        return ()
    turn, on = found.surface.coordinates.unrotate, 0
    for node in missed:
        near = np.asarray(kink_distances(found.problem, turn(jnp.asarray(node.x))))
        on += bool((near[:, 0] <= NEAR_KINK * near[:, 1]).any())
    text = (
        f"at {on} of the {len(missed)} distances missed the best point lies on a kink of "
        f"{found.problem.network.activation} (a preactivation within {NEAR_KINK:.0e} of the largest from 0): the loss "
        "has a corner there, and its gradient does not vanish"
    )
    return (text,) if on else ()


@eqx.filter_jit
def _value(problem: Problem, theta: Array) -> Array:
    return problem.value(theta)


@eqx.filter_jit
def _gradient_norm(problem: Problem, theta: Array) -> Array:
    return jnp.linalg.norm(problem.gradient(theta))


def outgoing_gaps(found: Found, nodes: tuple[Node, ...]) -> np.ndarray:
    """Return |a_m - a_l| at the nodes."""
    places = np.asarray(found.surface.coordinates.outgoing_difference)
    return np.array([np.sqrt(2.0) * np.linalg.norm(node.x[places]) for node in nodes])


def allowed_gap(nodes: tuple[Node, ...], unresolved: float) -> float:
    """Return how far the loss may still move from the last distance to zero, ten times the linear extrapolation.

    With distances falling by the factor r per leg and a loss linear in the distance, what is left after the last leg
    is its
    change times r/(1 - r). Added are 1e-8 of the loss for rounding, and what the residual leaves open: the tolerance
    times the way that settling moved the point.
    """
    last, before = nodes[-1], nodes[-2]
    ratio = last.distance / before.distance if before.distance > last.distance else 0.9
    change = abs(last.loss - before.loss)
    return 10.0 * change * ratio / (1.0 - ratio) + 1e-8 * abs(last.loss) + unresolved


def judge(found: Found) -> Verdict:
    """Decide how the path ended; the point is kept only if it is the limit of the path."""
    trail = found.trail
    real = tuple(node for node in trail.nodes if node.kind == "asked")
    gaps = outgoing_gaps(found, real)
    exponent = growth_exponent(np.array([node.distance for node in real]), gaps)
    if trail.stopped is not None:
        growth = float(np.linalg.norm(real[-1].x) / np.linalg.norm(real[0].x))
        ending = Outcome.CHANNEL if growth > RUNAWAY else Outcome.NOT_CONVERGED
        return Verdict(ending, (f"followed down to distance {real[-1].distance:.4g}: {trail.stopped}",), None, np.nan)
    merged, settled = settle_in_mirror(
        found.objective, found.surface, jnp.asarray(real[-1].x), found.limits, mirror_solver(found)
    )
    gap = float(settled.value) - real[-1].loss
    way = float(jnp.linalg.norm(settled.x - jnp.asarray(real[-1].x)))
    allowed = allowed_gap(real, found.tolerance * way)
    if int(settled.status) != CONVERGED:
        ended = OUTCOMES[int(settled.status)]
        why = f"the merged network was not settled: {ended}, gradient norm {float(settled.residual):.3g}"
        return Verdict(Outcome.NOT_CONVERGED, (why,), None, gap)
    if abs(gap) <= allowed:
        return Verdict(Outcome.PERMUTATION_POINT, (), settled, gap)
    jump = (
        f"putting the distance to zero moves the loss from {real[-1].loss:.6g} to {float(merged.value):.6g} "
        f"({float(settled.value):.6g} after settling); the path's own trend allows {allowed:.3g}"
    )
    if exponent < CHANNEL_EXPONENT:
        grows = f"|a_m - a_l| grows like distance^{exponent:.2f} over the last decade, to {gaps[-1]:.4g}"
        return Verdict(Outcome.CHANNEL, (grows, jump), None, gap)
    return Verdict(Outcome.JUMP, (jump,), None, gap)


def mirror_solver(found: Found) -> Solver:
    """Return the corrector for the merged network: the references settle with dense Newton steps too."""
    return found.solver if found.solver in ("krylov", "creased") else "newton"


def _point(found: Found, verdict: Verdict) -> PermutationPoint | None:
    """Return the permutation point, its gradient recomputed at the lifted parameters."""
    if verdict.settled is None:
        return None
    theta = found.surface.coordinates.unrotate(verdict.settled.x)
    parameters = to_numpy(found.layout.unflatten(theta))
    return PermutationPoint(
        layer=found.layer,
        pair=found.pair,
        parameters=parameters,
        reduced=to_numpy(merge(parameters, found.neurons, *found.pair)),
        loss=float(_value(found.problem, theta)),
        gradient_norm=float(_gradient_norm(found.problem, theta)),
        reduced_gradient_norm=float(verdict.settled.residual),
        shares=(0.5, 0.5),
        loss_gap=verdict.gap,
        accuracy=found.problem.accuracy(parameters),
    )


def _last_node(found: Found, verdict: Verdict) -> list[Node]:
    """Return the node at distance zero: merged incoming vectors, outgoing weights split as at the path's end."""
    if verdict.settled is None:
        return []
    places = found.surface.coordinates.outgoing_difference
    gap = jnp.asarray(found.trail.nodes[-1].x)[places]
    if found.settings.distance == "joint" or found.settings.distance == "tied":
        gap = jnp.zeros_like(gap)
    x = verdict.settled.x.at[places].set(gap)
    whole = Unconstrained(jnp.ones_like(x))
    there = evaluate(found.objective, whole, x, jnp.zeros_like(x[0]), found.limits.tolerance, "newton")
    here = verdict.settled._replace(x=x, value=there.value, gradient=there.gradient)
    return [node_of(here, 0.0, 0.0, float("nan"), kind="merged")]


def _padded(rows: np.ndarray) -> Array:
    """Return the rows, repeated up to a multiple of `ROWS` or `ROW_NUMBERS`: programs are compiled for few lengths."""
    block = max(1, min(ROWS, ROW_NUMBERS // rows.shape[1]))
    return jnp.asarray(np.resize(rows, (-(-len(rows) // block) * block, rows.shape[1])))


@eqx.filter_jit
def _values(problem: Problem, thetas: Float[Array, "rows size"], count: Int[Array, ""]) -> Float[Array, " rows"]:
    """Return the losses of the first ``count`` rows, one after the other."""
    none = jnp.zeros(thetas.shape[0], thetas.dtype)
    return jax.lax.fori_loop(0, count, lambda k, all_: all_.at[k].set(problem.value(thetas[k])), none)


def _between(problem: Problem, thetas: np.ndarray) -> np.ndarray:
    """Return the losses half-way between neighbouring nodes."""
    middles = 0.5 * (thetas[:-1] + thetas[1:])
    return np.asarray(_values(problem, _padded(middles), jnp.asarray(len(middles))))[: len(middles)]


@eqx.filter_jit
def _turned_back(coordinates: PairCoordinates, xs: Float[Array, "rows size"]) -> Float[Array, "rows size"]:
    return jax.vmap(coordinates.unrotate)(xs)


def finish(found: Found) -> Path:
    """Build the `Path` from the trail: verdict, events, losses between the nodes, accuracies."""
    verdict = judge(found)
    nodes = [*found.trail.nodes, *_last_node(found, verdict)]
    turn = found.surface.coordinates
    thetas = np.asarray(_turned_back(turn, _padded(np.stack([node.x for node in nodes]))))[: len(nodes)]
    parameters = found.layout.unflatten_numpy(thetas)
    losses = np.array([node.loss for node in nodes])
    middles = _between(found.problem, thetas)
    point = _point(found, verdict)
    barrier = float(max(np.nanmax(losses), np.nanmax(middles), -np.inf if point is None else point.loss))
    excess = float(np.max(middles - np.maximum(losses[:-1], losses[1:])))
    deviation = max(0.0, excess) / barrier if barrier > 0 else 0.0
    # Below the tolerance times the longest chord, a loss between nodes is what the residuals leave open.
    unresolved = found.tolerance * float(np.max(np.linalg.norm(np.diff(thetas, axis=0), axis=1)))
    events: list[Event] = [*fold_events(found.trail), *convergence_events(found.trail, found.tolerance)]
    events += maximum_events(found.objective, found.surface, found.trail, found.limits, found.solver)
    if verdict.ending in (Outcome.CHANNEL, Outcome.JUMP):
        last = found.trail.nodes[-1]
        events.append(Event(verdict.ending, last.distance, last.loss, len(found.trail.nodes) - 1, verdict.reasons[0]))
    places = (found.surface.coordinates.outgoing_sum, found.surface.coordinates.outgoing_difference)
    outgoing = np.stack([np.linalg.norm(thetas[:, np.asarray(place)], axis=1) for place in places], axis=1)
    rows = [{name: array[k] for name, array in parameters.items()} for k in range(len(nodes))]
    accuracies = [found.problem.accuracy(row) for row in rows] if found.problem.accuracy(rows[0]) is not None else None

    def column(name: str) -> np.ndarray:
        return np.array([getattr(node, name) for node in nodes])

    return Path(
        layer=found.layer,
        pair=found.pair,
        neurons=found.neurons,
        settings=found.settings,
        solver=found.solver,
        gauge="unit-incoming" if found.surface.unit_incoming else "none",
        times=np.linspace(0.0, 0.25, len(nodes)),
        distances=column("distance"),
        losses=losses,
        gradient_norms=column("residual"),
        full_gradient_norms=column("gradient"),
        slopes=column("slope"),
        curvatures=column("curvature"),
        iterations=column("iterations"),
        converged=(column("status") == CONVERGED) | (column("kind") == "merged"),
        kinds=column("kind"),
        outgoing_norms=outgoing,
        accuracies=None if accuracies is None else np.array(accuracies, dtype=np.float64),
        parameters=parameters,
        events=tuple(sorted(events, key=lambda event: -event.distance)),
        ending=verdict.ending,
        reasons=(*verdict.reasons, *kink_reason(found)),
        permutation_point=point,
        barrier=barrier,
        continuous=verdict.ending is Outcome.PERMUTATION_POINT and excess <= max(RIPPLE * barrier, unresolved),
        largest_deviation=deviation,
        tolerance=found.tolerance,
        evaluations={"iterations": found.trail.iterations, "hessian_products": found.trail.products},
        seconds=0.0,
        fingerprints=found.problem.fingerprint(rows[0]),
        problem=describe(found.problem),
    )


def describe(problem: Problem) -> dict[str, object]:
    """Return what a reader needs to know of the problem: network, loss and penalties."""
    network = problem.network
    loss = problem.loss if isinstance(problem.loss, str) else "user function"
    return {
        "widths": list(network.widths),
        "activation": network.activation,
        "bias": network.bias,
        "loss": loss,
        "weight_decay": float(problem.weight_decay),
        "norm_barrier": float(problem.norm_barrier),
    }
