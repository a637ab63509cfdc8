"""walk: from a permutation point to any permutation of its layer at equal loss, measured on the way.

A pass along the segments keeps one parameter vector and writes into it only what a segment moves, so that a walk of
thousands of segments costs its evaluations and nothing else; shapes, not moves, decide what is compiled.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from saddlescope.arrays import Parameters
from saddlescope.errors import SettingsError
from saddlescope.models.contract import layer_number
from saddlescope.precision import in_float64
from saddlescope.problem.problem import Problem
from saddlescope.units.neurons import Neurons
from saddlescope.valleys.moves import Change, RouteGeometry, changes
from saddlescope.valleys.result import Measurements, Route, Walk
from saddlescope.valleys.route import find_route

Progress = Callable[[int, int, str], None]

POINTS, TOLERANCE = 5, 1e-8
"""Points measured on each segment, and the gradient norm up to which a point counts as critical."""

LEAST_BLOCK, LARGEST_BLOCK = 8, 64


@in_float64
def walk(
    problem: Problem,
    point: Any,
    permutation: Sequence[int],
    *,
    layer: int | str | None = None,
    pair: tuple[int, int] | None = None,
    neurons: Neurons | None = None,
    points: int = POINTS,
    tolerance: float = TOLERANCE,
    progress: Progress | None = None,
) -> Walk:
    """Walk from a permutation point to a permutation of its layer at equal loss, by the fewest straight segments.

    Twins (two neurons with equal incoming vectors) need only one to send: the other is spare, walks to a third neuron's
    incoming vector, takes over what that one sends, which then is spare, and so on (`valleys.route` has the count). The
    end is ``permute(point.parameters, neurons, permutation)`` to the last bit: neuron i is the old neuron
    permutation[i], the twins with the split of their outgoing sum that they had at the start.

    **The loss is equal all along; the walk is critical only in parts.** On a transfer the gradient vanishes where the
    start is critical and what is given away is a multiple of the twins' sum, or more generally G^T a_l = 0; while a
    spare neuron is between two others it does not, unless the loss is zero. See ``scan.critical``.

    Args:
        problem: network, data and loss, without penalty.
        point: a permutation point, or a parameter set with equal incoming vectors of the pair.
        permutation: which old neuron each place gets, counted from 0.
        layer: hidden layer, counted from 1, or its name; by default the point's.
        pair: the twins; by default the point's.
        neurons: the layer's neurons; by default the network's.
        points: how many points of each segment are measured, the last at its end.
        tolerance: gradient norm up to which a point counts as critical.
        progress: called with segments done, all segments, and a message.

    Returns:
        The walk; `route_position(walk.route, t)` gives the parameters anywhere on it.

    Raises:
        NeuronsError: not a permutation, no such layer or pair, or the two incoming vectors differ.
        SettingsError: neither a layer nor neurons are known, no pair, a penalty, fewer than one point, or a tolerance
            below 0.
        ShapeError: parameters that do not fit the network.
        NonFiniteError: NaN or infinity among the parameters.

    Source: [B19] section 4.2 (ii); [S21] for the affine subspaces that the segments lie in.
    """
    began = time.perf_counter()
    check_settings(problem, points, tolerance)
    parameters = getattr(point, "parameters", point)
    layer = layer if layer is not None else getattr(point, "layer", None)
    pair = pair if pair is not None else getattr(point, "pair", None)
    if pair is None or (layer is None and neurons is None):
        raise SettingsError(
            "these parameters do not say which neurons coincide",
            name="layer, pair",
            value=(layer, pair),
            expected="a permutation point, or layer and pair",
        )
    problem.network.check(parameters)
    start = {name: parameters[name] for name in problem.network.layout.names}
    units = neurons if neurons is not None else problem.network.neurons(layer)
    number = layer_number(problem.network, layer) if isinstance(layer, str) else layer
    route = find_route(start, units, pair, permutation)
    scan = measure(problem, [route], points=points, tolerance=tolerance, progress=progress)
    return Walk(layer=number, route=route, scan=scan, seconds=time.perf_counter() - began)


def check_settings(problem: Problem, points: int, tolerance: float) -> None:
    """Refuse what makes no walk of equal loss, or no measurement.

    Raises:
        SettingsError: a penalty in the loss, fewer than one point, or a tolerance below 0.
    """
    if problem.penalised:
        raise SettingsError(
            "a penalty on the parameters is not constant along a walk",
            name="weight_decay, norm_barrier",
            value=(float(problem.weight_decay), float(problem.norm_barrier)),
            expected="0",
            advice="Walk on the same problem without it: the rest of the loss is constant",
        )
    if isinstance(points, bool) or not isinstance(points, int | np.integer) or points < 1:
        raise SettingsError("not a number of points", name="points", value=points, expected="an integer, 1 or more")
    if not tolerance >= 0.0:
        raise SettingsError("not a tolerance", name="tolerance", value=tolerance, expected="0 or more")


def measure(
    problem: Problem,
    routes: Sequence[Route],
    *,
    end: Parameters | None = None,
    points: int = POINTS,
    tolerance: float = TOLERANCE,
    progress: Progress | None = None,
) -> Measurements:
    """Return loss, gradient norm and change of the outputs along routes of which each starts where the one before ends.

    One pass: memory is a few copies of the parameters, whatever the number of segments. Needs float64 (`precision`).

    Args:
        problem: network, data and loss.
        routes: at least one; their starts have the names in the network's order.
        end: if given, one more straight segment leads there.
        points: how many points of each segment are measured.
        tolerance: gradient norm up to which a point counts as critical.
        progress: called with segments done, all segments, and a message.

    Returns:
        The measurement, a row a segment.
    """
    total = sum(route.segments for route in routes) + int(end is not None)
    theta = problem.network.layout.flatten(routes[0].start)
    reference = _outputs(problem, theta)
    start = _look(problem, theta, reference)
    rows: list[np.ndarray] = []
    fractions = jnp.arange(1, points + 1) / points
    for batch, used in _batches(routes, theta.shape[0]):
        theta, measured = _pass(problem, theta, reference, batch, fractions)
        rows.append(np.asarray(measured)[:used])
        if progress is not None:
            progress(sum(len(part) for part in rows), total, "walking")
    if end is not None:
        last = problem.network.layout.flatten(end)
        whole = Block(jnp.arange(last.shape[0])[None], theta[None], last[None], jnp.ones(1, bool))
        rows.append(np.asarray(_pass(problem, theta, reference, whole, fractions)[1]))
    table = np.concatenate([*rows, np.zeros((0, points, 3))])
    return Measurements(
        loss=float(start[0]),
        gradient_norm=float(start[1]),
        largest_output=float(jnp.max(jnp.abs(reference))),
        losses=table[:, :, 0],
        gradient_norms=table[:, :, 1],
        output_deviations=table[:, :, 2],
        tolerance=float(tolerance),
    )


class Block(NamedTuple):
    """Some segments of equal shape: which entries move, from where, to where; unused rows are no segments.

    Unused entries of a row point beyond the parameters.
    """

    positions: Int[Array, "block width"]
    before: Float[Array, "block width"]
    after: Float[Array, "block width"]
    used: Bool[Array, " block"]


def _batches(routes: Sequence[Route], size: int) -> Iterator[tuple[Block, int]]:
    """Yield the segments in blocks of about as many numbers as there are parameters, each with its number of rows."""
    width = max(_width(route) for route in routes)
    block = int(np.clip(size // (3 * width), LEAST_BLOCK, LARGEST_BLOCK))
    stream = _stream(routes)
    while chunk := list(islice(stream, block)):
        positions = np.full((block, width), size)
        before, after = np.zeros((2, block, width))
        for row, change in enumerate(chunk):
            entries = slice(0, len(change.positions))
            positions[row, entries], before[row, entries], after[row, entries] = change
        rows = (positions, before, after, np.arange(block) < len(chunk))
        yield Block(*(jnp.asarray(row) for row in rows)), len(chunk)


def _width(route: Route) -> int:
    """Return the largest number of entries that a segment of this route moves."""
    incoming, outgoing = (
        sum(np.size(route.start[p.name]) // np.shape(route.start[p.name])[p.axis] * p.block for p in pieces)
        for pieces in (route.neurons.incoming, route.neurons.outgoing)
    )
    return max(incoming, 2 * outgoing)


def _stream(routes: Iterable[Route]) -> Iterator[Change]:
    for route in routes:
        yield from changes(route, RouteGeometry(route.start, route.neurons, route.pair))


@eqx.filter_jit
def _outputs(problem: Problem, theta: Array) -> Array:
    return problem.outputs(theta)


@eqx.filter_jit
def _look(problem: Problem, theta: Array, reference: Array) -> Float[Array, " 3"]:
    """Return loss, gradient norm and largest change of an output."""
    value, gradient = problem.value_and_gradient(theta)
    change = jnp.max(jnp.abs(problem.outputs(theta) - reference))
    return jnp.stack([value, jnp.linalg.norm(gradient), change])


@eqx.filter_jit
def _pass(
    problem: Problem,
    theta: Float[Array, " size"],
    reference: Float[Array, "samples outputs"],
    block: Block,
    fractions: Float[Array, " points"],
) -> tuple[Float[Array, " size"], Float[Array, "block points 3"]]:
    """Pass along a block of segments; return the parameters at its end and what was measured."""

    def segment(theta: Array, row: tuple[Array, ...]) -> tuple[Array, Array]:
        places, start, goal, used = row

        def at(share: Array) -> Array:
            here = theta.at[places].set((1.0 - share) * start + share * goal, mode="drop")
            return _look(problem, here, reference)

        nothing = jnp.zeros((fractions.shape[0], 3))
        measured = jax.lax.cond(used, lambda: jax.lax.map(at, fractions), lambda: nothing)
        return theta.at[places].set(goal, mode="drop"), measured

    return jax.lax.scan(segment, theta, tuple(block))
