"""A point taken apart: its copies, the parameters without them, and the blocks that copying adds to the Hessian."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from saddlescope.arrays import Layout, Parameters
from saddlescope.critical.exchange import (
    Antisymmetric,
    Block,
    Coupling,
    block,
    closed_coupling,
    product_coupling,
    share_signs,
)
from saddlescope.critical.fibre import Fibre
from saddlescope.critical.flat import dependent_inputs
from saddlescope.critical.groups import Embedding, InputUnits, embedding, find_groups, misfit, reduce_vector
from saddlescope.critical.patterns import LayerPatterns, incoming_rows, layer_patterns, outgoing_rows
from saddlescope.critical.reduced import Reduced
from saddlescope.critical.refine import RefinedPoint
from saddlescope.critical.result import Group
from saddlescope.critical.twins import Turned, find_twins, turn
from saddlescope.models.chain import is_traceable
from saddlescope.models.contract import exchangeable_layers
from saddlescope.models.sizes import unit_counts, with_units
from saddlescope.models.units import Units
from saddlescope.problem.kinks import ON_KINK, has_breaks, kink_distances
from saddlescope.problem.problem import Problem

# A share of the outgoing sum below this is not told from 0, and has no sign.
TINY = 1e-12


@dataclass(frozen=True)
class Decomposition:
    """The point, taken apart: its copies, the parameters without them, and the problem seen through these."""

    problem: Problem
    parameters: dict[str, np.ndarray]
    layers: dict[int, Units]
    groups: tuple[Group, ...]
    parts: Embedding
    x: np.ndarray
    small: Problem | None  # the reduced network's own problem, for perceptrons
    turned: Turned  # sign twins that were made copies: ``parameters`` are those after it
    relations: np.ndarray | None  # between the inputs, for perceptrons
    reasons: tuple[str, ...]

    @property
    def reduced(self) -> Reduced:
        """The problem as a function of x; through the small network where there is one."""
        if self.small is None:
            return Reduced.of(self.problem, self.parts)
        size = self.parts.size
        return Reduced.of(self.small, Embedding(np.arange(size), np.ones(size)))

    def at(self, x: np.ndarray) -> "dict[str, np.ndarray]":
        """Return the full parameter set M x, sign twins as copies."""
        return Layout.of(self.parameters).unflatten_numpy(self.parts.lift(x))

    def given(self, x: np.ndarray) -> "dict[str, np.ndarray]":
        """Return the full parameter set M x with the sign twins turned back."""
        found = self.at(x)
        for layer, unit in reversed(self.turned):
            found = turn(found, self.layers[layer], unit)
        return found


def scene_of(
    problem: Problem,
    parameters: dict[str, np.ndarray],
    close: float,
    *,
    relations: np.ndarray | None = None,
    inputs: InputUnits | None = None,
) -> Decomposition:
    """Find the copies, leave out those that share otherwise than by multiples, and reduce the rest.

    Linear layers have no copies here: GL(p) between them holds what copies would add (`patterns.mixing_rows`).

    Args:
        problem: network, data and loss.
        parameters: in any order of names.
        close: incoming vectors within this share of the layer's largest are copies.
        relations: `flat.dependent_inputs` of this problem, where they are known.
        inputs: `input_units` of this problem, where they are known.
    """
    parameters = {name: parameters[name] for name in problem.network.layout.names}  # they may come in any order
    network = problem.network
    layers, reasons, turned = exchangeable_layers(network), [], ()
    groups: tuple[Group, ...] = ()
    bent = {layer: units for layer, units in layers.items() if units.facts.mergeable and not units.facts.linear}
    inputs = input_units(problem, parameters) if inputs is None else inputs
    if not problem.penalised:
        parameters, turned = find_twins(parameters, bent, close=close, units=inputs)
        groups = find_groups(parameters, bent, close=close, units=inputs)
    reasons += [f"unit {unit} of layer {layer} counts as a copy with the other sign" for layer, unit in turned]
    usable = []
    for group in groups:
        gap = misfit(parameters, layers[group.layer], group, units=inputs)
        if gap <= close and _have_signs(group.shares, gap):
            usable.append(group)
        elif gap <= close:
            reasons.append(f"a share of copies {group.units} in layer {group.layer} is too small to have a sign")
        else:
            reasons.append(
                f"copies {group.units} in layer {group.layer} do not send out multiples of one vector, or they nearly "
                f"cancel (misfit {gap:.1e}): they are not reduced"
            )
    kept = tuple(usable)
    parts = embedding(parameters, layers, kept)
    x = reduce_vector(np.asarray(Layout.of(parameters).flatten(parameters)), parts)
    small = None
    if is_traceable(network):
        counts = unit_counts(network)
        for group in kept:
            counts[group.layer] -= len(group.units) - 1
        small = problem.with_network(with_units(network, counts))
        relations = dependent_inputs(problem) if relations is None else relations
    return Decomposition(problem, parameters, layers, kept, parts, x, small, turned, relations, tuple(reasons))


@eqx.filter_jit
def _largest_values(problem: Problem, theta: Array) -> tuple[Array, ...]:
    """Return, for each hidden layer, the largest |value| of everything that it reads."""
    network = problem.network
    parameters = network.layout.unflatten(theta)

    def chunk(rows: tuple[Array, Array]) -> tuple[Array, ...]:
        real = rows[1][:, None] > 0
        traced = network.trace(parameters, rows[0])[:-1]
        return tuple(jnp.max(jnp.where(real, jnp.abs(layer.inputs), 0.0), axis=0) for layer in traced)

    return tuple(jnp.max(each, axis=0) for each in jax.lax.map(chunk, (problem.inputs, problem.weights)))


def input_units(problem: Problem, parameters: Parameters) -> dict[int, np.ndarray]:
    """Return the units in which the incoming vectors of a perceptron's layers are compared, none for other networks.

    A weight counts by what it adds at most: two units that differ only in the weight of a large input are no copies,
    though that weight is small (science notes, 9.7). What is never read keeps the unit 1.
    """
    network = problem.network
    if not is_traceable(network):
        return {}
    theta = jnp.asarray(network.layout.flatten(parameters))
    found = {}
    for layer, values in enumerate(_largest_values(problem, theta), start=1):
        size = network.chain[layer - 1].padded(np.asarray(values)[None])[0]
        found[layer] = np.where((size > 0) & np.isfinite(size), size, 1.0)
    return found


def _have_signs(shares: tuple[float, ...], gap: float) -> bool:
    """Return whether every share is 0, or beyond what the copies' misfit leaves open."""
    smallest = max(TINY, gap) * max(abs(share) for share in shares)
    return all(share == 0 or abs(share) > smallest for share in shares)


def _largest_terms(problem: Problem, parameters: dict[str, np.ndarray]) -> list[float]:
    """Return, for each hidden layer, a bound on sum_j |w_j h_j| + |b|, whose rounding a preactivation carries.

    A unit passes on what it is given, or at most its activation's value at either end, where that is larger.
    """
    top, found = np.abs(np.asarray(problem.inputs)).max(axis=(0, 1)), []
    for layer in problem.network.chain[:-1]:
        top = np.abs(layer.matrix(parameters)) @ layer.padded(top[None])[0]
        found.append(float(top.max()))
        ends = np.abs(np.asarray(layer.activation.function(jnp.stack([top, -top]))))
        top = np.nan_to_num(np.maximum(top, ends.max(axis=0)), nan=np.inf)
    return found


def kink(scene: Decomposition, parameters: dict[str, np.ndarray]) -> str | None:
    """Return a reason if some sample lies on a kink of the activation, where there is no Hessian."""
    network = scene.problem.network
    if not has_breaks(scene.problem) or not scene.layers:
        return None
    distances = np.asarray(kink_distances(scene.problem, Layout.of(parameters).flatten(parameters)))
    largest = _largest_terms(scene.problem, parameters)
    for layer, (nearest, terms) in enumerate(zip(distances[:, 0], largest, strict=True), start=1):
        if np.isfinite(nearest) and nearest <= ON_KINK * terms:
            return (
                f"a sample lies on the kink of {network.chain[layer - 1].activation.name} in layer {layer} "
                f"(a preactivation at {nearest:.1e} from it): there is no Hessian"
            )
    return None


def coupling_of(scene: Decomposition, x: np.ndarray, group: Group, method: str) -> Coupling:
    """Return G and B of a group's unit at the reduced parameters x."""
    layout, neurons = Layout.of(scene.parameters), scene.layers[group.layer]
    incoming, outgoing = neurons.incoming_positions(layout), neurons.outgoing_positions(layout)
    into, out = scene.parts.source[incoming], scene.parts.source[outgoing]
    first, second = group.units[:2]
    if method == "closed-form":
        assert scene.small is not None
        return closed_coupling(scene.small, x, group.layer, _small_unit(scene, group))
    equal = tuple(1.0 / len(group.units) for _ in group.units)
    groups = tuple(Group(g.layer, g.units, equal) if g is group else g for g in scene.groups)
    parts = embedding(scene.parameters, scene.layers, groups)
    columns, rows = np.unique(into[first]), np.unique(out[first])
    moves = Antisymmetric(np.zeros((len(columns), layout.size)), np.zeros((len(rows), layout.size)))
    for unit, sign in ((first, 1.0), (second, -1.0)):
        scale = scene.parts.scale[incoming[unit]]
        moves.first[np.searchsorted(columns, into[unit]), incoming[unit]] = sign * scale
        moves.second[np.searchsorted(rows, out[unit]), outgoing[unit]] = sign
    return product_coupling(scene.problem, parts.lift(x), moves, x[rows], x[columns], len(group.units))


def _small_unit(scene: Decomposition, group: Group) -> int:
    """Return which unit of the network without copies has a group's entries of x in its incoming vector."""
    assert scene.small is not None
    incoming = scene.layers[group.layer].incoming_positions(Layout.of(scene.parameters))
    place = int(scene.parts.source[incoming][group.units[0]][0])
    positions = scene.small.network.neurons(group.layer).incoming_positions(scene.small.network.layout)
    return int(np.flatnonzero(positions[:, 0] == place)[0])


def with_null(
    coupling: Coupling,
    problem: Problem,
    x: np.ndarray,
    layer: int,
    unit: int,
    *,
    relations: np.ndarray | None,
    patterns: tuple[LayerPatterns, ...],
) -> Coupling:
    """Return the coupling of a dense unit with the rows along which G and B vanish for a reason.

    Args:
        coupling: G and B of the unit.
        problem: of the network without copies.
        x: its parameters.
        layer: from 1.
        unit: from 0.
        relations: between the inputs.
        patterns: `layer_patterns` of the problem at x.
    """
    network = problem.network
    incoming: dict[str, np.ndarray] = {}
    outgoing: dict[str, np.ndarray] = {}
    if layer == len(network.chain) - 1 and problem.loss == "cross_entropy":
        outgoing["softmax shift"] = np.ones((1, network.chain[-1].outputs))
    if layer == 1 and relations is not None:
        incoming["collinear inputs"] = relations
    if patterns:
        incoming["linear units"] = incoming_rows(network, x, patterns, layer, unit)
        outgoing |= outgoing_rows(network, x, patterns, layer, unit)
    return coupling._replace(outgoing_null=outgoing, incoming_null=incoming)


def drifting(coupling: Coupling, point: RefinedPoint, again: Callable[[np.ndarray], Coupling]) -> Coupling:
    """Return the coupling with what G and B may change on the way to the exact critical point added to its errors."""
    if point.factor == 0.0 or not point.way.any():
        return coupling
    ahead = again(point.x + point.way)
    return coupling._replace(
        g_error=coupling.g_error + point.factor * np.abs(ahead.g - coupling.g),
        b_error=coupling.b_error + point.factor * np.abs(ahead.b - coupling.b),
    )


def _with_fibres(scene: Decomposition, coupling: Coupling, group: Group, fibres: Sequence[Fibre]) -> Coupling:
    """Return the coupling of a unit of any model with the rows along which no output changes that the loss sees.

    They hold at x whatever the unit is fed and sends out; so G and B of its copies vanish along them.
    """
    layout, neurons, first = Layout.of(scene.parameters), scene.layers[group.layer], group.units[0]
    rows, columns = (
        np.unique(scene.parts.source[side(layout)[first]])
        for side in (neurons.outgoing_positions, neurons.incoming_positions)
    )
    own = np.union1d(rows, columns)
    outgoing = {"equal outputs": fibres[0].structurally_unused(rows, own)}
    if len(fibres) > 1:
        outgoing["softmax shift"] = fibres[-1].structurally_unused(rows, own)
    incoming = {"collinear inputs": fibres[0].structurally_unused(columns, own)}
    return coupling._replace(outgoing_null=outgoing, incoming_null=incoming)


def antisymmetric(
    scene: Decomposition, point: RefinedPoint, method: str, fibres: Sequence[Fibre] = ()
) -> list[tuple[Group, int, int, Block]]:
    """Return, for every group and every sign with its number of times, the signs of its block.

    ``fibres``: along what the outputs stay, for blocks whose signs are open otherwise.

    Source: science notes, section 3.
    """
    layout, found = Layout.of(scene.parameters), []
    patterns = () if scene.small is None else layer_patterns(scene.small, point.x)
    for group in scene.groups:
        neurons = scene.layers[group.layer]
        places = neurons.outgoing_positions(layout)[group.units[0]]
        extra = len(places) - len(np.unique(scene.parts.source[places]))

        def again(x: np.ndarray, group: Group = group) -> Coupling:
            return coupling_of(scene, x, group, method)

        coupling = drifting(again(point.x), point, again)
        if scene.small is not None:
            facts = {"relations": scene.relations, "patterns": patterns}
            coupling = with_null(coupling, scene.small, point.x, group.layer, _small_unit(scene, group), **facts)
        homogeneous = scene.problem.network.homogeneous(group.layer)
        for sigma, times in zip((-1, 0, 1), share_signs(group.shares), strict=True):
            if not times:
                continue
            one = block(coupling, sigma, homogeneous=homogeneous, extra=extra)
            if one.inertia.unresolved and fibres:
                coupling = _with_fibres(scene, coupling, group, fibres)
                one = block(coupling, sigma, homogeneous=homogeneous, extra=extra)
            found.append((group, sigma, times, one))
    return found
