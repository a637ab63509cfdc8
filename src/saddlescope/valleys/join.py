"""join: one spare neuron a hidden layer connects all permuted copies of a network at constant loss ([S21]).

The permutations are found by matching, layer by layer from the inputs; then each copy is given its spares, and the
layers are walked through one after the other, each with its own spare, the others staying where they are.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from saddlescope.arrays import Parameters, require_finite, to_numpy
from saddlescope.errors import NeuronsError, SettingsError
from saddlescope.models.sizes import require_traceable, unit_counts, with_units
from saddlescope.precision import in_float64
from saddlescope.problem.problem import Problem
from saddlescope.units.actions import permute, split
from saddlescope.valleys.moves import route_end, route_position
from saddlescope.valleys.result import Join, Route
from saddlescope.valleys.route import find_route
from saddlescope.valleys.walk import POINTS, TOLERANCE, Progress, check_settings, measure

ALIKE = 1e-9
"""Largest difference of two copies' parameters, relative to the largest parameter."""

SWEEPS = 10
"""Most passes through the layers in search of a match; one is enough unless incoming vectors are equal."""


@in_float64
def join(
    problem: Problem,
    first: Any,
    second: Any,
    *,
    atol: float = ALIKE,
    points: int = POINTS,
    tolerance: float = TOLERANCE,
    progress: Progress | None = None,
) -> Join:
    """Join two permuted copies of a network at constant loss, in the network with one neuron more a hidden layer.

    Each copy is given, in every hidden layer, a spare neuron at the last place: a copy of one neuron's incoming vector
    that sends nothing, neuron 0 of the first network's layer and what corresponds to it in the second's. Hidden layers
    are then permuted in turn (`walk`). The path ends in the second copy; where the two agree only up to a gap, a last
    straight segment closes it.

    Args:
        problem: a perceptron without spares, data and loss, without penalty.
        first: a parameter set, or what holds one as ``parameters``.
        second: the same, of a permuted copy.
        atol: largest difference of matched parameters, as a share of the largest parameter.
        points: how many points of each segment are measured.
        tolerance: gradient norm up to which a point counts as critical.
        progress: called with segments done, all segments, and a message.

    Returns:
        The path and its measurement; `join_position` gives the parameters anywhere on it.

    Raises:
        NeuronsError: no permutations were found that turn one into the other.
        SettingsError: no perceptron, no hidden layer, a penalty, or a setting out of range.
        ShapeError: parameters that do not fit the network.
        NonFiniteError: NaN or infinity among the parameters.

    Source: [S21] (one extra neuron per layer connects all permutations); [B19] section 4.2 (ii).
    """
    began = time.perf_counter()
    network = problem.network
    require_traceable(network, "join")
    check_settings(problem, points, tolerance)
    if not network.layers:
        raise SettingsError(
            "spare neurons are given to the hidden layers of a perceptron",
            name="network",
            value=network,
            expected="a MLP with a hidden layer",
        )
    orders = match(network, first, second, atol=atol)
    wide = wider(network)
    start = with_spares(network, _set_of(network, first), [0] * len(orders))
    goal = with_spares(network, _set_of(network, second), [order.index(0) for order in orders])
    routes: list[Route] = []
    for k, order in enumerate(orders):
        here = route_end(routes[-1]) if routes else start
        spare = len(order)
        routes.append(find_route(here, wide.neurons(k + 1), (0, spare), (*order, spare)))
    reached = route_end(routes[-1])
    gap = _gap(reached, goal)
    end = goal if gap > 0.0 else None
    scan = measure(problem.with_network(wide), routes, end=end, points=points, tolerance=tolerance, progress=progress)
    return Join(
        network=wide,
        permutations=orders,
        routes=tuple(routes),
        second=goal,
        gap=gap,
        scan=scan,
        seconds=time.perf_counter() - began,
    )


def join_position(found: Join, t: float) -> dict[str, np.ndarray]:
    """Return the parameters at time t in [0, 1] of a join; every segment takes the same time.

    Raises:
        SettingsError: t lies outside [0, 1].
    """
    if not 0.0 <= t <= 1.0:
        raise SettingsError("time outside the path", name="t", value=t, expected="0 <= t <= 1")
    here = t * found.segments
    for route in found.routes:
        if here <= route.segments:
            return route_position(route, here / route.segments if route.segments else 0.0)
        here -= route.segments
    reached = route_end(found.routes[-1])
    return {name: (1.0 - here) * reached[name] + here * found.second[name] for name in reached}


def wider(network: Any) -> Any:
    """Return the network with one neuron more in every hidden layer."""
    return with_units(network, {layer: count + 1 for layer, count in unit_counts(network).items()})


def with_spares(network: Any, parameters: Parameters, units: Sequence[int]) -> dict[str, np.ndarray]:
    """Return the parameters with one more neuron at the end of each hidden layer, whose outgoing vector is zero.

    Args:
        network: the network without spares.
        parameters: its parameters.
        units: for each hidden layer, whose incoming vector the spare copies.

    Raises:
        NeuronsError: no such neuron.
    """
    result = dict(parameters)
    for k, unit in enumerate(units):
        result = split(result, network.neurons(k + 1), unit, (1.0, 0.0))
    return to_numpy(result)


def match(network: Any, first: Any, second: Any, *, atol: float = ALIKE) -> tuple[tuple[int, ...], ...]:
    """Return, for each hidden layer, the permutation that turns the first parameter set into the second.

    Neuron i of a layer of the second is neuron order[i] of the first: ``permute(first, neurons, order)``, layer by
    layer, gives the second. From the inputs on, neurons are assigned by their incoming vectors (the layer before being
    matched) and the sorted entries of their outgoing ones; neurons with equal incoming vectors are then told apart by
    sweeps that use both sides. **Where several layers hold neurons with equal incoming vectors that also send the same
    weights in other orders, a match may exist and not be found.**

    Args:
        network: of both.
        first: a parameter set, or what holds one as ``parameters``.
        second: the same.
        atol: largest difference of matched parameters, as a share of the largest parameter.

    Raises:
        NeuronsError: no permutation was found under which all parameters agree.
        SettingsError: ``atol`` is negative or not a number.
        ShapeError: parameters that do not fit the network.
        NonFiniteError: NaN or infinity among the parameters.
    """
    if not atol >= 0.0:
        raise SettingsError("not a tolerance", name="atol", value=atol, expected="0 or more")
    mine, theirs = _set_of(network, first), _set_of(network, second)
    allowed = atol * max(float(np.max(np.abs(value))) for value in theirs.values())
    orders = [np.arange(count) for count in unit_counts(network).values()]
    here, gap = mine, np.inf
    for sweep in range(SWEEPS):
        groups: list[np.ndarray] = []
        for k, known in enumerate(orders):
            neurons = network.neurons(k + 1)
            incoming = [neurons.incoming_vectors(side) for side in (theirs, here)]
            sent = [neurons.outgoing_vectors(side) for side in (theirs, here)]
            if sweep == 0:  # the order of the layer before is not known inside its groups, that of the next not at all
                incoming = [_sorted_inside(rows, groups) for rows in incoming]
                groups = _groups(incoming[0], 2.0 * allowed)
                sent = [np.sort(rows, axis=1) for rows in sent] if k + 1 < len(orders) else sent
            order = linear_sum_assignment(_squares(*incoming) + _squares(*sent))[1]
            here = permute(here, neurons, order.tolist())
            orders[k] = known[order]
        gap = _gap(here, theirs)
        if gap <= allowed:
            break
    if gap > allowed:
        worst = max(here, key=lambda name: float(np.max(np.abs(here[name] - theirs[name]))))
        raise NeuronsError(
            f"no permutation was found that turns the first network into the second: after the best, {worst} differs",
            name="largest difference",
            value=f"{gap:.3g}",
            expected=f"at most {allowed:.3g}",
            advice="Copies up to sign (tanh) or scale (ReLU) are no permutations",
        )
    return tuple(tuple(int(unit) for unit in order) for order in orders)


def _squares(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the squared distances of all rows of one array from all rows of another."""
    return cdist(one, other, "sqeuclidean")


def _groups(rows: np.ndarray, close: float) -> list[np.ndarray]:
    """Return the groups of two or more rows that are equal up to ``close``."""
    first = np.argmax(cdist(rows, rows, "chebyshev") <= close, axis=1)
    groups = [np.flatnonzero(first == unit) for unit in np.unique(first)]
    return [group for group in groups if len(group) > 1]


def _sorted_inside(rows: np.ndarray, groups: list[np.ndarray]) -> np.ndarray:
    """Return the rows with the entries that come from a group of equal neurons in rising order."""
    result = rows.copy()
    for group in groups:
        result[:, group] = np.sort(rows[:, group], axis=1)
    return result


def _gap(one: Parameters, other: Parameters) -> float:
    return max(float(np.max(np.abs(one[name] - other[name]))) for name in one)


def _set_of(network: Any, given: Any) -> dict[str, np.ndarray]:
    """Return a parameter set in the network's order, in float64."""
    parameters = getattr(given, "parameters", given)
    network.check(parameters)
    result = to_numpy({name: parameters[name] for name in network.layout.names})
    require_finite(result, "the network")
    return result
