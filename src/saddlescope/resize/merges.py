"""Merges on trial: what each pair of a layer is estimated to cost, and parameters with a pair merged, not yet settled.

The work is done in a packed network whose merged-away neurons are held at zero: a mask, not a new shape, so that one
compiled solver serves many merges.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from saddlescope.arrays import Layout, Parameters, to_numpy
from saddlescope.data.data import Data
from saddlescope.models.chain import Activation, Traceable, is_traceable
from saddlescope.models.sizes import layer_sizes, unit_counts, with_units
from saddlescope.precision import in_float64
from saddlescope.problem.kronecker import factors
from saddlescope.problem.problem import Problem
from saddlescope.resize.merge_cost import Unexpressed
from saddlescope.units.actions import remove
from saddlescope.units.neurons import Neurons

Progress = Callable[[int, int, str], None]

# The estimate looks at no more samples than this, or four times the layer's width.
SAMPLES = 4096

# So many pairs, the best by their rank-one bound, are tried with merged neurons of their own.
TRIED = 512

# Where the merged incoming vector may lie between the two: (1 - t) theta_l + t theta_m.
MIXES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Merge:
    """One way to merge a pair, before anything is settled: where, how, and what it is estimated to cost.

    The merged incoming vector is (1 - mix) theta_l + mix sign theta_m; ``estimate`` is the loss expected after the
    next layer's incoming weights are fitted anew by least squares. At mix 0 or 1 one neuron is dropped and all others
    make up for it; that counts for the one partner with which merging it would cost least.
    """

    layer: int
    pair: tuple[int, int]
    mix: float
    sign: float
    estimate: float


def sample(problem: Problem, count: int) -> Array:
    """Return evenly spaced inputs: enough for a layer of ``count`` neurons."""
    rows = problem.inputs.reshape(-1, problem.inputs.shape[-1])[: problem.samples]
    return rows[:: -(-problem.samples // max(SAMPLES, 4 * count))]


@eqx.filter_jit
def activations(
    network: Traceable, parameters: Parameters, inputs: Array, layer: int
) -> tuple[Float[Array, "samples neurons"], Float[Array, "samples columns"]]:
    """Return a hidden layer's preactivations, and its activations with a column of ones for the next layer's bias."""
    found = network.trace(parameters, inputs)[layer - 1]
    return found.preactivations, network.chain[layer].padded(found.outputs)


@eqx.filter_jit
def _mixed_moments(
    kind: Activation, z: Array, h: Array, pairs: Int[Array, "pairs 2"], weights: Float[Array, "pairs mixes 2"]
) -> tuple[Float[Array, "pairs mixes columns"], Float[Array, "pairs mixes"]]:
    """Return the mean products of each merged neuron with all activations, and its mean square."""

    def one(pair: Array, weight: Array) -> tuple[Array, Array]:
        new = kind.function(z[:, pair] @ weight.T)
        return new.T @ h / len(h), jnp.mean(new**2, axis=0)

    return jax.lax.map(lambda both: one(*both), (pairs, weights))


def scales_of(network: Any, incoming: np.ndarray, layer: int) -> np.ndarray:
    """Return the factor that fixes each neuron's scale: 1/|theta| for homogeneous activations, else 1."""
    if not network.homogeneous(layer):
        return np.ones(len(incoming))
    lengths = np.linalg.norm(incoming, axis=1)
    return 1.0 / np.where(lengths > 0, lengths, 1.0)


def _signs(kind: Activation, z: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return -1 where the second neuron's sign twin is nearer, for activations that are odd up to a constant."""
    if kind.parity not in ("odd", "odd+constant"):
        return np.ones(len(pairs))
    together = z.T @ z
    return np.where(together[pairs[:, 0], pairs[:, 1]] < 0, -1.0, 1.0)


@eqx.filter_jit
def loss_at(problem: Problem, theta: Array) -> Array:
    """Return the loss of a flat parameter vector, compiled."""
    return problem.value(theta)


@in_float64
def estimate_merges(
    problem: Problem, parameters: Parameters, *, layer: int, live: Sequence[int] | None = None
) -> tuple[Merge, ...]:
    """Estimate what merging each pair of a layer costs, cheapest first, without settling anything.

    With e_l, e_m the parts of the two activations that the layer's others cannot express, the next layer loses
    a_l e_l + a_m e_m, less its projection on the merged neuron's own e. The estimate is the loss plus
    1/2 E|what is lost|^2 in the metric of the outputs' curvature (the Kronecker factor of the next layer): exact for
    the last hidden layer and a quadratic loss at a minimum, where only the last layer is fitted anew. Penalties on the
    weights count as they were before the merge.

    Args:
        problem: network, data and loss.
        parameters: a parameter set, best a minimum.
        layer: hidden layer, counted from 1.
        live: the neurons to pair; None takes all.

    Returns:
        One `Merge` a pair, the best of a few mixes of the two incoming vectors; of more than `TRIED` pairs only
        those with the best rank-one bound. Networks other than perceptrons: the loss right after plain merging.

    Raises:
        NeuronsError: no such layer.
        ShapeError: parameters that do not fit the network.
    """
    network = problem.network
    network.check(parameters)
    neurons = network.neurons(layer)
    here = to_numpy(parameters)
    units = np.arange(neurons.count(here)) if live is None else np.asarray(sorted(live))
    if len(units) < 2:
        return ()
    if not is_traceable(network):
        return _by_plain_merges(problem, here, layer, units)
    theta, kind = network.layout.flatten(here), network.chain[layer - 1].activation
    assert kind is not None
    z, h = activations(network, _arrays(here), sample(problem, len(units)), layer)
    columns = np.concatenate([units, np.arange(neurons.count(here), h.shape[1])])
    inside = np.asarray(h)[:, columns]
    curvature = factors(problem, theta)[layer]
    vectors, values = np.asarray(curvature.output_vectors), np.asarray(curvature.output_values)
    sizes = neurons.outgoing_vectors(here)[units] @ vectors * np.sqrt(values)
    geometry = Unexpressed.of(inside, sizes @ sizes.T, room=min(TRIED, math.comb(z.shape[1], 2)))
    first, second = geometry.pairs.T
    scales = scales_of(network, neurons.incoming_vectors(here), layer)[units]
    signs = _signs(kind, np.asarray(z)[:, units], geometry.pairs)
    t = np.asarray(MIXES)
    weights = np.stack([(1 - t) * scales[first, None], t * (signs * scales[second])[:, None]], axis=2)
    moments, squares = _mixed_moments(kind, z, h, jnp.asarray(units[geometry.pairs]), jnp.asarray(weights))
    costs = _with_own_partner(geometry.pairs, geometry.costs(np.asarray(moments)[:, :, columns], np.asarray(squares)))
    costs = costs + float(loss_at(problem, theta))
    found = {}
    for (l, m), sign, cost in zip(units[geometry.pairs], signs, costs, strict=True):
        mix = int(np.argmin(cost))
        found[int(l), int(m)] = Merge(layer, (int(l), int(m)), MIXES[mix], float(sign), float(cost[mix]))
    return tuple(sorted(found.values(), key=lambda merge: merge.estimate))


def _with_own_partner(pairs: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Return the costs, infinite where a neuron is dropped in favour of another partner than its cheapest."""
    costs, inside = costs.copy(), costs[:, 1:-1].min(axis=1)
    for neuron in np.unique(pairs):
        second, first = pairs[:, 1] == neuron, pairs[:, 0] == neuron
        best = pairs[int(np.argmin(np.where(second | first, inside, np.inf)))]
        elsewhere = np.any(pairs != best, axis=1)
        costs[second & elsewhere, 0] = costs[first & elsewhere, -1] = np.inf
    return costs


def _arrays(parameters: Parameters) -> dict[str, Array]:
    return {name: jnp.asarray(value) for name, value in parameters.items()}


def _by_plain_merges(problem: Problem, parameters: Parameters, layer: int, units: np.ndarray) -> tuple[Merge, ...]:
    """Rank by the loss right after averaging incoming and adding outgoing entries: needs no more than the slices."""
    neurons, layout = problem.network.neurons(layer), problem.network.layout
    incoming, outgoing = neurons.incoming_positions(layout), neurons.outgoing_positions(layout)
    flat = np.array(layout.flatten(parameters))
    scales = scales_of(problem.network, flat[incoming], layer)
    vectors = scales[:, None] * flat[incoming]
    pairs = [(int(l), int(m)) for l, m in itertools.combinations(units, 2)]
    pairs.sort(key=lambda pair: float(np.linalg.norm(vectors[pair[0]] - vectors[pair[1]])))
    found = []
    for l, m in pairs[:TRIED]:
        loss = float(loss_at(problem, jnp.asarray(merged_plainly(flat, incoming, outgoing, scales, (l, m)))))
        found.append(Merge(layer, (l, m), 0.5, 1.0, loss))
    return tuple(sorted(found, key=lambda merge: merge.estimate))


def merged_plainly(
    flat: np.ndarray, incoming: np.ndarray, outgoing: np.ndarray, scales: np.ndarray, pair: tuple[int, int]
) -> np.ndarray:
    """Return flat parameters with incoming entries averaged at l, their scales fixed, outgoing ones added, m zero."""
    l, m = pair
    flat = flat.copy()
    flat[incoming[l]] = 0.5 * (scales[l] * flat[incoming[l]] + scales[m] * flat[incoming[m]])
    flat[outgoing[l]] = flat[outgoing[l]] / scales[l] + flat[outgoing[m]] / scales[m]
    flat[incoming[m]] = flat[outgoing[m]] = 0.0
    return flat


@dataclass(frozen=True)
class MaskedNetwork:
    """State: a network in which only some neurons live, and whom of the original ones each stands for."""

    problem: Problem
    parameters: dict[str, np.ndarray]  # zero on the dead
    members: dict[int, dict[int, tuple[int, ...]]]  # by layer, by living neuron in order
    value: float

    @property
    def layout(self) -> Layout:
        """Layout of the packed parameters."""
        return self.problem.network.layout

    def neurons(self, layer: int) -> Neurons:
        """Return the slices of a hidden layer's neurons, the dead ones among them."""
        return self.problem.network.neurons(layer)

    @property
    def counts(self) -> dict[int, int]:
        """How many neurons of each layer live, by the layer's number."""
        every = unit_counts(self.problem.network)
        return {k: len(self.members[k]) if k in self.members else count for k, count in every.items()}

    @property
    def widths(self) -> tuple[int, ...]:
        """The living neurons of each layer, between the inputs and outputs where these are known (`layer_sizes`)."""
        every, living = layer_sizes(self.problem.network), tuple(self.counts.values())
        return living if len(every) == len(living) else (every[0], *living, every[-1])

    def dead(self) -> np.ndarray:
        """Return, per entry of the flat vector, whether it belongs to a neuron that was merged away."""
        gone = np.zeros(self.layout.size, dtype=bool)
        for layer, living in self.members.items():
            neurons = self.neurons(layer)
            absent = [i for i in range(neurons.count_in(self.layout)) if i not in living]
            gone[neurons.incoming_positions(self.layout)[absent]] = True
            gone[neurons.outgoing_positions(self.layout)[absent]] = True
        return gone


@dataclass(frozen=True)
class Start:
    """A merge carried out and not yet settled: "plain" (averaged, added) or "fitted" (outgoing by least squares)."""

    merge: Merge
    kind: str
    x: np.ndarray
    value: float


def narrow(problem: Problem, counts: Mapping[int, int]) -> Problem:
    """Return the same problem for a network of other numbers of units by layer: same data, loss and penalties."""

    def rows(array: Array) -> np.ndarray:
        return np.asarray(array).reshape(-1, *array.shape[2:])[: problem.samples]

    wanted = rows(problem.targets)
    labels = None if problem.labels is None else np.asarray(problem.labels)
    data = Data(rows(problem.inputs), wanted if wanted.dtype.kind == "f" else None, labels)
    return Problem(
        with_units(problem.network, counts),
        data,
        loss=problem.loss,
        weight_decay=float(problem.weight_decay),
        norm_barrier=float(problem.norm_barrier),
        chunk=problem.inputs.shape[1],
    )


def pack(problem: Problem, parameters: dict[str, np.ndarray], layers: tuple[int, ...]) -> MaskedNetwork:
    """Return the state in which every neuron of these layers lives and stands for itself."""
    counts = unit_counts(problem.network)
    members = {layer: {i: (i,) for i in range(counts[layer])} for layer in layers}
    value = float(loss_at(problem, problem.network.layout.flatten(parameters)))
    return MaskedNetwork(problem, parameters, members, value)


def unpack(packed: MaskedNetwork) -> MaskedNetwork:
    """Return the state cut to its living neurons, in a network of exactly their number."""
    parameters: Any = packed.parameters
    counts = unit_counts(packed.problem.network)
    for layer, alive in packed.members.items():
        for unit in reversed(range(counts[layer])):
            if unit not in alive:
                parameters = remove(parameters, packed.neurons(layer), unit)
    living = {layer: len(one) for layer, one in packed.members.items()}
    if all(counts[layer] == count for layer, count in living.items()):
        return packed
    members = {layer: dict(enumerate(alive.values())) for layer, alive in packed.members.items()}
    return MaskedNetwork(narrow(packed.problem, living), parameters, members, packed.value)


def _plain_start(packed: MaskedNetwork, layer: int, pair: tuple[int, int]) -> np.ndarray:
    """Return the flat parameters with incoming vectors averaged, their scale fixed, and outgoing ones summed."""
    flat = np.array(packed.layout.flatten(packed.parameters))
    neurons = packed.neurons(layer)
    incoming, outgoing = neurons.incoming_positions(packed.layout), neurons.outgoing_positions(packed.layout)
    scales = scales_of(packed.problem.network, flat[incoming], layer)
    return merged_plainly(flat, incoming, outgoing, scales, pair)


def _fitted_start(packed: MaskedNetwork, merge: Merge) -> np.ndarray:
    """Return the flat parameters with the merged neuron in place and the next layer fitted by least squares."""
    network, (l, m) = packed.problem.network, merge.pair
    living = packed.members[merge.layer]
    neurons = packed.neurons(merge.layer)
    flat = np.array(packed.layout.flatten(packed.parameters))
    incoming, outgoing = neurons.incoming_positions(packed.layout), neurons.outgoing_positions(packed.layout)
    inputs = sample(packed.problem, len(living))

    def columns(units: list[int]) -> np.ndarray:
        parameters = packed.layout.unflatten(jnp.asarray(flat))
        h = np.asarray(activations(network, parameters, inputs, merge.layer)[1])
        return h[:, [*units, *range(len(incoming), h.shape[1])]]

    # The fit is of the change: outgoing weights and bias move as little as the new activations ask for.
    kept = [i for i in living if i != m]
    before = columns([l, m])[:, :2] @ flat[outgoing[[l, m]]]
    scales = scales_of(network, flat[incoming], merge.layer)
    first, second = (1.0 - merge.mix) * scales[l], merge.mix * merge.sign * scales[m]
    flat[incoming[l]] = first * flat[incoming[l]] + second * flat[incoming[m]]
    flat[incoming[m]] = 0.0
    flat[outgoing[[l, m]]] = 0.0
    new = columns(kept)
    change, *_ = np.linalg.lstsq(new, before, rcond=1e-8)
    flat[outgoing[kept]] += change[: len(kept)]
    after = network.chain[merge.layer]
    if after.bias is not None:
        flat[after.positions(packed.layout)[:, -1]] += change[-1]
    return flat


def apply_merge(packed: MaskedNetwork, merge: Merge, *, both: bool) -> list[Start]:
    """Return the merge carried out: fitted and plain, or only the one of lower loss; none that is not finite."""
    made = [("plain", _plain_start(packed, merge.layer, merge.pair))]
    if is_traceable(packed.problem.network):
        made.insert(0, ("fitted", _fitted_start(packed, merge)))
    found = [Start(merge, kind, x, float(loss_at(packed.problem, jnp.asarray(x)))) for kind, x in made]
    good = sorted((start for start in found if np.isfinite(start.value)), key=lambda start: start.value)
    return good if both else good[:1]
