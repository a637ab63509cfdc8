"""Copies in a parameter set: which units coincide, how they share what they send out, and the network without them.

With every group reduced to one unit the parameters are x; theta = M x with one entry per row, ``scale * x[source]``. So
H_reduced(x) = M^T H(theta) M, in any model whose units enter by their outgoing weights; no smaller network is built.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from saddlescope.arrays import Layout, Parameters
from saddlescope.critical.result import Group
from saddlescope.units.neurons import Neurons

# Incoming vectors this close, relative to the layer's largest, are taken for copies; so are outgoing vectors for
# multiples of their sum. The certificate is about the exact copies, and says how far away they are.
CLOSE = 1e-7


@dataclass(frozen=True)
class Embedding:
    """theta = scale * x[source]; rows of theta that copy the same entry of x share its source."""

    source: np.ndarray
    scale: np.ndarray

    @property
    def size(self) -> int:
        """Number of reduced parameters."""
        return int(self.source.max()) + 1

    def lift(self, x: Float[np.ndarray, " reduced"]) -> Float[np.ndarray, " size"]:
        """Return M x."""
        return self.scale * x[self.source]

    def pull(self, v: Float[np.ndarray, " size"]) -> Float[np.ndarray, " reduced"]:
        """Return M^T v."""
        return np.bincount(self.source, weights=self.scale * v, minlength=self.size)


InputUnits = Mapping[int, np.ndarray]
"""By layer, the largest value that each entry of an incoming vector is multiplied by; no entry, no units."""


def incoming_in(units: InputUnits | None, layer: int, vectors: np.ndarray) -> np.ndarray:
    """Return incoming vectors, each entry as what it adds to a preactivation at most."""
    return vectors if units is None or layer not in units else vectors * units[layer]


def find_groups(
    parameters: Parameters, layers: Mapping[int, Neurons], *, close: float = CLOSE, units: InputUnits | None = None
) -> tuple[Group, ...]:
    """Return the groups of units whose incoming vectors coincide, layer by layer.

    A unit is compared through what is left of the units before it: copies in the layer before leave incoming vectors
    as they are, because all copies of a unit are read by the same weights up to their shares.
    """
    groups: list[Group] = []
    for layer, neurons in layers.items():
        incoming = incoming_in(units, layer, neurons.incoming_vectors(parameters))
        outgoing = neurons.outgoing_vectors(parameters)
        reach = close * max(float(np.linalg.norm(incoming, axis=1).max()), 1e-300)
        free = list(range(len(incoming)))
        while free:
            first = free.pop(0)
            same = [k for k in free if np.linalg.norm(incoming[k] - incoming[first]) <= reach]
            if same:
                copies = (first, *same)
                groups.append(Group(layer, copies, _shares(outgoing[list(copies)])))
                free = [k for k in free if k not in same]
    return tuple(groups)


def _shares(outgoing: Float[np.ndarray, "copies outgoing"]) -> tuple[float, ...]:
    """Return each copy's share of the sum, by least squares; they sum to 1 unless the sum is zero (then NaN)."""
    outgoing = outgoing / max(float(np.abs(outgoing).max()), 1e-300)  # squares neither overflow nor vanish
    total = outgoing.sum(axis=0)
    square = float(total @ total)
    if square == 0.0:
        return (float("nan"),) * len(outgoing)
    return tuple(float(row @ total) / square for row in outgoing)


def misfit(parameters: Parameters, neurons: Neurons, group: Group, *, units: InputUnits | None = None) -> float:
    """Return how far the copies are from exact ones: of their outgoing vectors from multiples of the sum, relative.

    To it is added what large shares make of small differences: outgoing vectors that nearly cancel carry the rounding
    of their sum, and the difference of incoming vectors, many times over.
    """
    copies = list(group.units)
    outgoing, incoming = neurons.outgoing_vectors(parameters)[copies], neurons.incoming_vectors(parameters)[copies]
    incoming = incoming_in(units, group.layer, incoming)
    if not np.isfinite(group.shares).all():
        return float("inf") if outgoing.any() else 0.0
    outgoing = outgoing / max(float(np.abs(outgoing).max()), 1e-300)
    total = outgoing.sum(axis=0)
    largest = float(np.linalg.norm(outgoing, axis=1).max())
    gap = float(np.linalg.norm(outgoing - np.outer(group.shares, total), axis=1).max() / largest)
    apart = float(np.linalg.norm(incoming - incoming[0], axis=1).max())
    apart /= max(float(np.linalg.norm(incoming, axis=1).max()), 1e-300)
    return gap + max(abs(share) for share in group.shares) * (apart + 4.0 * np.finfo(float).eps)


def embedding(parameters: Parameters, layers: Mapping[int, Neurons], groups: tuple[Group, ...]) -> Embedding:
    """Return M for the given groups, each reduced to its first unit with the sum of the outgoing vectors."""
    layout = Layout.of(parameters)
    source, scale = np.arange(layout.size), np.ones(layout.size)
    # From the last layer to the first: a copy's row is then read through what the layer after made of it.
    for group in sorted(groups, key=lambda group: -group.layer):
        neurons = layers[group.layer]
        incoming, outgoing = neurons.incoming_positions(layout), neurons.outgoing_positions(layout)
        first = group.units[0]
        for unit, share in zip(group.units, group.shares, strict=True):
            if unit != first:
                source[incoming[unit]] = incoming[first]
                source[outgoing[unit]] = outgoing[first]
            scale[outgoing[unit]] *= share
    # Follow copies of copies (weights between two layers that both hold copies) to the entry that is kept.
    while not np.array_equal(source[source], source):
        source = source[source]
    kept, source = np.unique(source, return_inverse=True)
    del kept
    return Embedding(source.astype(int), scale)


def reduce_vector(theta: Float[np.ndarray, " size"], parts: Embedding) -> Float[np.ndarray, " reduced"]:
    """Return the x whose copies M x lie nearest: means of incoming entries, sums of outgoing ones, by least squares."""
    return parts.pull(theta) / np.bincount(parts.source, weights=parts.scale**2, minlength=parts.size)
