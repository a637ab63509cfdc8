"""A point taken apart: its copies, the parameters without them, and the blocks that copying adds to the Hessian."""

from dataclasses import dataclass
from typing import Any

import numpy as np

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
from saddlescope.critical.groups import Embedding, embedding, find_groups, misfit, reduce_vector
from saddlescope.critical.result import Group
from saddlescope.critical.symmetric import Reduced
from saddlescope.errors import NeuronsError
from saddlescope.problem.kinks import ON_KINK, is_kinked, kink_distances
from saddlescope.problem.networks import Perceptron
from saddlescope.problem.problem import Problem
from saddlescope.symmetry.neurons import Neurons

# A share of the outgoing sum below this is not told from 0, and has no sign.
TINY = 1e-12


@dataclass(frozen=True)
class Scene:
    """The point, taken apart: its copies, the parameters without them, and the problem seen through these."""

    problem: Problem
    parameters: dict[str, np.ndarray]
    layers: dict[int, Neurons]
    groups: tuple[Group, ...]
    parts: Embedding
    x: np.ndarray
    small: Problem | None  # the reduced network's own problem, for perceptrons
    reasons: tuple[str, ...]

    @property
    def reduced(self) -> Reduced:
        """The problem as a function of x; through the small network where there is one."""
        if self.small is None:
            return Reduced.of(self.problem, self.parts)
        size = self.parts.size
        return Reduced.of(self.small, Embedding(np.arange(size), np.ones(size)))

    def at(self, x: np.ndarray) -> "dict[str, np.ndarray]":
        """Return the full parameter set M x."""
        return Layout.of(self.parameters).unflatten_numpy(self.parts.lift(x))


def hidden_layers(network: Any, parameters: Parameters) -> dict[int, Neurons]:
    """Return the neurons of every hidden layer, by its number from 1."""
    layers: dict[int, Neurons] = {}
    while True:
        try:
            layers[len(layers) + 1] = network.neurons(len(layers) + 1)
        except NeuronsError:
            break
    for neurons in layers.values():
        neurons.count(parameters)
    return layers


def scene_of(problem: Problem, parameters: dict[str, np.ndarray], close: float) -> Scene:
    """Find the copies, leave out those that share otherwise than by multiples, and reduce the rest."""
    parameters = {name: parameters[name] for name in problem.network.layout.names}  # they may come in any order
    layers, reasons = hidden_layers(problem.network, parameters), []
    groups = () if problem.penalised else find_groups(parameters, layers, close=close)
    usable = []
    for group in groups:
        gap = misfit(parameters, layers[group.layer], group)
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
    if isinstance(problem.network, Perceptron):
        widths = list(problem.network.widths)
        for group in kept:
            widths[group.layer] -= len(group.units) - 1
        network = Perceptron(tuple(widths), problem.network.activation, bias=problem.network.bias)
        small = problem.with_network(network)
    return Scene(problem, parameters, layers, kept, parts, x, small, tuple(reasons))


def _have_signs(shares: tuple[float, ...], gap: float) -> bool:
    """Return whether every share is 0, or beyond what the copies' misfit leaves open."""
    smallest = max(TINY, gap) * max(abs(share) for share in shares)
    return all(share == 0 or abs(share) > smallest for share in shares)


def _largest_terms(problem: Problem, parameters: dict[str, np.ndarray]) -> list[float]:
    """Return, for each hidden layer, a bound on sum_j |w_j h_j| + |b|, whose rounding a preactivation carries.

    A kinked activation never enlarges what it is given, so that the bound goes from layer to layer.
    """
    top, found = np.abs(np.asarray(problem.inputs)).max(axis=(0, 1)), []
    for k in range(problem.network.depth - 1):
        top = np.abs(parameters[f"{2 * k}.weight"]) @ top + np.abs(parameters.get(f"{2 * k}.bias", 0.0))
        found.append(float(top.max()))
    return found


def kink(scene: Scene, parameters: dict[str, np.ndarray]) -> str | None:
    """Return a reason if some sample lies on a kink of the activation, where there is no Hessian."""
    network = scene.problem.network
    if not is_kinked(scene.problem):
        return None
    distances = np.asarray(kink_distances(scene.problem, Layout.of(parameters).flatten(parameters)))
    largest = _largest_terms(scene.problem, parameters)
    for layer, (nearest, terms) in enumerate(zip(distances[:, 0], largest, strict=True), start=1):
        if nearest <= ON_KINK * terms:
            return (
                f"a sample lies on the kink of {network.activation} in layer {layer} "
                f"(|preactivation| {nearest:.1e}): there is no Hessian"
            )
    return None


def coupling_of(scene: Scene, x: np.ndarray, group: Group, method: str) -> Coupling:
    """Return G and B of a group's unit at the reduced parameters x."""
    layout, neurons = Layout.of(scene.parameters), scene.layers[group.layer]
    incoming, outgoing = neurons.incoming_positions(layout), neurons.outgoing_positions(layout)
    into, out = scene.parts.source[incoming], scene.parts.source[outgoing]
    first, second = group.units[:2]
    if method == "closed-form":
        assert scene.small is not None
        positions = scene.small.network.neurons(group.layer).incoming_positions(scene.small.network.layout)
        unit = int(np.flatnonzero(positions[:, 0] == into[first][0])[0])
        return closed_coupling(scene.small, x, group.layer, unit)
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


def antisymmetric(
    scene: Scene, x: np.ndarray, way: np.ndarray | None, drift: float, method: str
) -> list[tuple[Group, int, int, Block]]:
    """Return, for every group and every sign with its number of times, the signs of its block.

    Source: science notes, section 3.
    """
    layout, found = Layout.of(scene.parameters), []
    for group in scene.groups:
        neurons = scene.layers[group.layer]
        places = neurons.outgoing_positions(layout)[group.units[0]]
        extra = len(places) - len(np.unique(scene.parts.source[places]))
        coupling = coupling_of(scene, x, group, method)
        change = drift
        if way is not None:
            ahead = coupling_of(scene, x + way, group, method)
            change = 4.0 * float(np.linalg.norm(ahead.g - coupling.g) + np.linalg.norm(ahead.b - coupling.b))
        homogeneous = scene.problem.network.homogeneous(group.layer)
        for sigma, times in zip((-1, 0, 1), share_signs(group.shares), strict=True):
            if times:
                one = block(coupling, sigma, homogeneous=homogeneous, extra=extra, drift=change)
                found.append((group, sigma, times, one))
    return found
