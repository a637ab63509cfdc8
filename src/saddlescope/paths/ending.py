"""The end of a path: settle in the mirror plane, decide what was found, measure between the nodes, build the `Path`."""

from dataclasses import dataclass, replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from saddlescope.arrays import Layout, to_numpy
from saddlescope.numerics.continuation import Solver, Tolerances
from saddlescope.numerics.newton import CONVERGED, OUTCOMES
from saddlescope.outcomes import Outcome
from saddlescope.paths.constraint import PairObjective, PairSurface, value_and_gradient
from saddlescope.paths.decide import End, allowed_gap, decide, is_continuous
from saddlescope.paths.events import convergence_events, fold_events
from saddlescope.paths.follow import Node, Trajectory, mirror_mask, node_of, settle_in_mirror
from saddlescope.paths.growth import growth_text, measure_growth
from saddlescope.paths.maxima import maximum_events
from saddlescope.paths.polish import Polished, polish_point
from saddlescope.paths.result import Event, Growth, Path, PathSettings, PermutationPoint, Start
from saddlescope.paths.start import start_warning
from saddlescope.paths.units import Units
from saddlescope.problem.kinks import has_creases, kink_distances
from saddlescope.problem.problem import Problem
from saddlescope.units.actions import merge
from saddlescope.units.coordinates import PairCoordinates
from saddlescope.units.neurons import Neurons

# Nodes are handed to compiled programs in multiples of so many rows, or of so many numbers (32 MB) if those are fewer.
ROWS, ROW_NUMBERS = 256, 2**22

# A preactivation this small, relative to its layer's largest, counts as on a kink when a residual is explained.
NEAR_KINK = 1e-9


@dataclass(frozen=True)
class PathData:
    """Everything that following produced, handed to `finish`."""

    problem: Problem
    objective: PairObjective
    surface: PairSurface
    trail: Trajectory
    limits: Tolerances
    solver: Solver
    layout: Layout
    neurons: Neurons
    layer: int
    pair: tuple[int, int]
    settings: PathSettings
    tolerance: float
    units: Units
    start: Start


@dataclass(frozen=True)
class Verdict:
    """How the path ended, why, and the point in the mirror plane if it is the path's limit."""

    ending: Outcome
    reasons: tuple[str, ...]
    polished: Polished | None
    gap: float
    growth: Growth


def _on_kinks(found: PathData, x: Array) -> bool:
    """Return whether some sample lies on a kink of the activation there."""
    if not has_creases(found.problem):
        return False
    near = np.asarray(kink_distances(found.problem, found.objective.theta(x)))
    return bool((near[:, 0] <= NEAR_KINK * near[:, 1]).any())


def kink_reason(found: PathData) -> tuple[str, ...]:
    """Return why a kinked activation's residuals stay up: minimisers on kinks, counted over the missed distances."""
    missed = [node for node in found.trail.nodes if node.kind == "asked" and node.status != CONVERGED]
    if not missed or not has_creases(found.problem):
        return ()
    on = sum(_on_kinks(found, jnp.asarray(node.x)) for node in missed)
    names = {layer.activation.name for layer in found.problem.network.chain[:-1] if layer.activation.kinked}
    text = (
        f"at {on} of the {len(missed)} distances missed the best point lies on a kink of "
        f"{', '.join(sorted(names))} (a preactivation within {NEAR_KINK:.0e} of the largest from it): the loss "
        "has a corner there, and its gradient does not vanish"
    )
    return (text,) if on else ()


@eqx.filter_jit
def _value(problem: Problem, theta: Array) -> Array:
    return problem.value(theta)


@eqx.filter_jit
def _gradient_norm(problem: Problem, theta: Array) -> Array:
    return jnp.linalg.norm(problem.gradient(theta))


def _growth(found: PathData, real: tuple[Node, ...]) -> Growth:
    """Return what grew along the requested distances, in the path's units."""
    turned = np.asarray(_turned_back(found.surface.coordinates, _padded(np.stack([node.x for node in real]))))
    distances = np.array([node.distance for node in real])
    layers = dict(found.problem.network.layers)
    return measure_growth(distances, turned[: len(real)], found.layout, layers, found.layer, found.pair)


def judge(found: PathData) -> Verdict:
    """Settle and polish the merged network, decide how the path ended; the point is kept if it is the path's limit."""
    trail, unit = found.trail, found.units.loss
    real = tuple(node for node in trail.nodes if node.kind == "asked")
    growth = _growth(found, real)
    if trail.stopped is not None:
        ending = decide(End(True, trail.ran_away, False, np.nan, np.nan, growth))
        why = f"followed down to distance {real[-1].distance:.4g}, {growth.share:.2g} of the first: {trail.stopped}"
        return Verdict(ending, (why, *((growth_text(growth),) if trail.ran_away else ())), None, np.nan, growth)
    last = jnp.asarray(real[-1].x)
    merged, settled = settle_in_mirror(found.objective, found.surface, last, found.limits, mirror_solver(found))
    mask = mirror_mask(found.surface, last)
    polished = polish_point(found.objective, mask, settled, found.limits, on_kinks=_on_kinks(found, settled.x))
    settled = polished.iterate
    gap = float(settled.value) - real[-1].loss
    ends = real[-2], real[-1]
    way = float(jnp.linalg.norm(settled.x - last))
    losses, distances = (ends[0].loss, ends[1].loss), (ends[0].distance, ends[1].distance)
    allowed = allowed_gap(losses, distances, found.tolerance * way)
    ending = decide(End(False, False, polished.critical, gap, allowed, growth))
    if ending is Outcome.PERMUTATION_POINT:
        return Verdict(ending, (), polished, unit * gap, growth)
    if ending is Outcome.NOT_CONVERGED:
        return Verdict(ending, (_uncritical(polished),), None, unit * gap, growth)
    jump = (
        f"putting the distance to zero moves the loss from {unit * real[-1].loss:.6g} to "
        f"{unit * float(merged.value):.6g} ({unit * float(settled.value):.6g} after settling); the path's own trend "
        f"allows {unit * allowed:.3g}"
    )
    reasons = (growth_text(growth), jump) if ending is Outcome.CHANNEL else (jump,)
    return Verdict(ending, reasons, None, unit * gap, growth)


def _uncritical(polished: Polished) -> str:
    """Return why the merged network's point is not critical, with the numbers."""
    ended, norm = OUTCOMES[int(polished.iterate.status)], float(polished.iterate.residual)
    return (
        f"the merged network was not settled ({ended}): its gradient norm {norm:.3g} is above its rounding "
        f"{polished.rounding:.1e}, and a quadratic model sees a change of the loss by {polished.decrease:.2e} of "
        f"{float(polished.iterate.value):.3e}"
    )


def mirror_solver(found: PathData) -> Solver:
    """Return the corrector for the merged network: the references settle with dense Newton steps too."""
    return found.solver if found.solver in ("krylov", "creased") else "newton"


def _point(found: PathData, verdict: Verdict) -> PermutationPoint | None:
    """Return the permutation point, its gradient recomputed at the lifted parameters."""
    polished = verdict.polished
    if polished is None:
        return None
    theta = found.objective.theta(polished.iterate.x)
    parameters = found.layout.unflatten_numpy(np.asarray(theta))
    return PermutationPoint(
        layer=found.layer,
        pair=found.pair,
        parameters=parameters,
        reduced=_reduced(found, parameters),
        loss=float(_value(found.problem, theta)),
        gradient_norm=float(_gradient_norm(found.problem, theta)),
        reduced_gradient_norm=float(polished.iterate.residual),
        shares=(0.5, 0.5),
        loss_gap=verdict.gap,
        unpolished_gradient_norm=polished.before,
        polish_distance=polished.distance,
        gradient_rounding=polished.rounding,
        accuracy=found.problem.accuracy(parameters),
    )


def _reduced(found: PathData, parameters: dict[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """Return the parameters with one unit less; None where the layer cannot lose one."""
    units = found.problem.network.layers[found.layer]
    if units.units is not None or not units.facts.resizable:
        return None
    return to_numpy(merge(parameters, found.neurons, *found.pair))


def _last_node(found: PathData, verdict: Verdict) -> list[Node]:
    """Return the node at distance zero: merged incoming vectors, outgoing weights split as at the path's end."""
    if verdict.polished is None:
        return []
    settled = verdict.polished.iterate
    places, x = np.asarray(found.surface.coordinates.outgoing_difference), np.array(settled.x)
    x[places] = found.trail.nodes[-1].x[places] if found.settings.distance == "incoming" else 0.0
    value, gradient = value_and_gradient(found.objective, jnp.asarray(x))
    here = settled._replace(x=jnp.asarray(x), value=value, gradient=gradient)
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


def finish(found: PathData) -> Path:
    """Build the `Path` from the trail: verdict, events, losses between the nodes, accuracies."""
    verdict = judge(found)
    nodes = [*found.trail.nodes, *_last_node(found, verdict)]
    turn, unit = found.surface.coordinates, found.units.loss
    turned = np.asarray(_turned_back(turn, _padded(np.stack([node.x for node in nodes]))))[: len(nodes)]
    thetas = turned * found.units.vector(dict(zip(found.layout.names, found.layout.shapes, strict=True)))
    parameters = found.layout.unflatten_numpy(thetas)
    losses = unit * np.array([node.loss for node in nodes])
    middles = _between(found.problem, thetas)
    point = _point(found, verdict)
    barrier = float(max(np.nanmax(losses), np.nanmax(middles), -np.inf if point is None else point.loss))
    excess = float(np.max(middles - np.maximum(losses[:-1], losses[1:])))
    deviation = max(0.0, excess) / barrier if barrier > 0 else 0.0
    # Below the tolerance times the longest chord, a loss between nodes is what the residuals leave open.
    unresolved = unit * found.tolerance * float(np.max(np.linalg.norm(np.diff(turned, axis=0), axis=1)))
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
        full_gradient_norms=_full_norms(found, thetas, column("gradient")),
        slopes=unit * column("slope"),
        curvatures=column("curvature"),
        iterations=column("iterations"),
        converged=(column("status") == CONVERGED) | (column("kind") == "merged"),
        kinds=column("kind"),
        outgoing_norms=outgoing,
        accuracies=None if accuracies is None else np.array(accuracies, dtype=np.float64),
        parameters=parameters,
        events=_events(found, verdict),
        ending=verdict.ending,
        reasons=(*verdict.reasons, *kink_reason(found)),
        permutation_point=point,
        barrier=barrier,
        continuous=verdict.ending is Outcome.PERMUTATION_POINT and is_continuous(excess, barrier, unresolved),
        largest_deviation=deviation,
        tolerance=found.tolerance,
        evaluations={"iterations": found.trail.iterations, "hessian_products": found.trail.products},
        seconds=0.0,
        fingerprints=found.problem.fingerprint(rows[0]),
        problem=describe(found.problem),
        start=found.start,
        growth=verdict.growth,
        warnings=start_warning(found.start),
        units=found.units.arrays,
        loss_unit=unit,
    )


def _events(found: PathData, verdict: Verdict) -> tuple[Event, ...]:
    """Return all events, the largest distance first, their losses in the problem's own units."""
    events: list[Event] = [*fold_events(found.trail), *convergence_events(found.trail, found.tolerance)]
    events += maximum_events(found.objective, found.surface, found.trail, found.limits, found.solver)
    if verdict.ending in (Outcome.CHANNEL, Outcome.RUNAWAY, Outcome.JUMP):
        last = found.trail.nodes[-1]
        events.append(Event(verdict.ending, last.distance, last.loss, len(found.trail.nodes) - 1, verdict.reasons[0]))
    events = [replace(event, loss=found.units.loss * event.loss) for event in events]
    return tuple(sorted(events, key=lambda event: -event.distance))


def _full_norms(found: PathData, thetas: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the norms of the full gradient in the problem's own units."""
    if found.units.ordinary:
        return known
    return np.array([float(_gradient_norm(found.problem, jnp.asarray(theta))) for theta in thetas])


def describe(problem: Problem) -> dict[str, object]:
    """Return what a reader needs to know of the problem: network, loss and penalties."""
    loss = problem.loss if isinstance(problem.loss, str) else "user function"
    return {
        **problem.network.describe(),
        "loss": loss,
        "weight_decay": float(problem.weight_decay),
        "norm_barrier": float(problem.norm_barrier),
    }
