"""The rules by which one unit of a layer is absorbed by others, on the matrices of incoming and outgoing vectors.

Each rule keeps sum_j a_j g(theta_j . h) + constant, for every h, exactly where vectors are equal. What it calls equal
or zero up to a tolerance is a proposal: `keep` measures what the outputs lose by it. Source: [S21] section 3.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist

from saddlescope.models.units import Parity
from saddlescope.resize.result import Refusal, Removal

# Relative distances up to this come from rounding alone.
ROUNDING = 1e-14


@dataclass(frozen=True)
class LayerFacts:
    """What the rules may use: by default nothing of the activation, so that only equal incoming vectors count.

    ``weights``: the first so many incoming entries multiply the layer's inputs and the rest, at most one, is a bias;
    None when nothing is known of them. ``next_bias``: a constant can be added to what the outgoing weights produce.
    ``nonnegative``: the layer's inputs are never negative. ``exponential``: g(z + b) = exp(b) g(z).
    """

    function: Callable[[np.ndarray], np.ndarray] | None = None
    parity: Parity = "none"
    homogeneous: bool = False
    exponential: bool = False
    weights: int | None = None
    next_bias: bool = False
    nonnegative: bool = False

    def at(self, z: float) -> float:
        """Return g(z); zero when the function is not known, so that it adds no constant."""
        return float(self.function(np.asarray([z]))[0]) if self.function is not None else 0.0

    @property
    def rectifier(self) -> bool:
        """Whether g is zero for all negative numbers."""
        return self.homogeneous and self.function is not None and self.at(-1.0) == 0.0

    @property
    def linear(self) -> bool:
        """Whether g is a multiple of the identity: odd, and of degree 1."""
        return self.homogeneous and self.parity == "odd"


@dataclass(frozen=True, eq=False)
class Units:
    """A layer on its way to fewer units: state, carried from rule to rule.

    ``numbers`` are the units' numbers in the given network, ``constant`` what is to be added to the next bias.
    ``barred`` units are those that the rule in hand may not take out; ``refused``: whose removal cost too much.
    """

    layer: int
    incoming: Float[np.ndarray, "units entries"]
    outgoing: Float[np.ndarray, "units outputs"]
    numbers: tuple[int, ...]
    constant: Float[np.ndarray, " outputs"]
    removed: tuple[Removal, ...] = ()
    left: tuple[str, ...] = ()
    barred: frozenset[int] = frozenset()
    refused: tuple[Refusal, ...] = ()

    @property
    def allowed(self) -> np.ndarray:
        """Return, by unit, whether the rule in hand may take it out."""
        return np.asarray([number not in self.barred for number in self.numbers], dtype=bool)

    def removal(
        self,
        unit: int,
        why: str,
        *,
        into: int | None = None,
        into_bias: bool = False,
        gap: float = 0.0,
        data_dependent: bool = False,
    ) -> Removal:
        """Return the record of taking out a unit, in the numbers of the given network."""
        return Removal(
            layer=self.layer,
            neuron=self.numbers[unit],
            why=why,
            into=None if into is None else self.numbers[into],
            into_bias=into_bias,
            gap=float(gap),
            data_dependent=data_dependent,
        )

    def without(self, gone: dict[int, Removal]) -> "Units":
        """Return the layer without these units; if none would be left, the first stays and sends out nothing."""
        outgoing = self.outgoing
        if len(gone) == len(self.numbers):
            stays = min(gone)
            gone = {unit: removal for unit, removal in gone.items() if unit != stays}
            outgoing = np.zeros_like(outgoing)
        keep = [unit for unit in range(len(self.numbers)) if unit not in gone]
        return replace(
            self,
            incoming=self.incoming[keep],
            outgoing=outgoing[keep],
            numbers=tuple(self.numbers[unit] for unit in keep),
            removed=(*self.removed, *(gone[unit] for unit in sorted(gone))),
        )

    def say(self, text: str) -> "Units":
        """Return the layer with one more line on what is redundant and stays."""
        return replace(self, left=(*self.left, f"layer {self.layer}: {text}"))


def drop_silent(units: Units, facts: LayerFacts, tolerance: float) -> Units:
    """Take out units with a_j = 0, relative to the layer's largest outgoing vector."""
    del facts
    shares = relative_lengths(units.outgoing)
    silent = np.flatnonzero((shares <= tolerance) & units.allowed)
    return units.without({int(j): units.removal(int(j), "zero outgoing weights", gap=shares[j]) for j in silent})


def drop_constant(units: Units, facts: LayerFacts, tolerance: float) -> Units:
    """Move units whose weights are zero into the next bias: a_j g(b_j)."""
    if facts.weights is None or facts.function is None:
        return units
    shares = relative_lengths(units.incoming[:, : facts.weights])
    idle = [int(j) for j in np.flatnonzero((shares <= tolerance) & units.allowed)]
    height = {j: facts.at(float(units.incoming[j, facts.weights :].sum())) for j in idle}
    if not facts.next_bias:
        held = [units.numbers[j] for j in idle if height[j] != 0.0]
        idle = [j for j in idle if height[j] == 0.0]
        if held:
            units = units.say(f"neuron {held[0]} is a constant, and there is no bias to take it")
    gone = {j: units.removal(j, "constant", into_bias=height[j] != 0.0, gap=shares[j]) for j in idle}
    added = sum((height[j] * units.outgoing[j] for j in idle), start=np.zeros_like(units.constant))
    return replace(units, constant=units.constant + added).without(gone)


def merge_copies(units: Units, facts: LayerFacts, tolerance: float) -> Units:
    """Merge units with one incoming vector, up to what the activation leaves open; drop groups that send out zero."""
    vectors, logs = canonical(units, facts)
    gaps = relative_gaps(vectors, vectors)
    incoming, outgoing = units.incoming.copy(), units.outgoing.copy()
    gone: dict[int, Removal] = {}
    free, allowed = np.ones(len(vectors), dtype=bool), units.allowed
    for first in range(len(vectors)):
        block = [int(j) for j in np.flatnonzero(free & allowed & (gaps[first] <= tolerance)) if j > first]
        if not free[first] or not block:
            continue
        members = [first, *block]
        free[members] = False
        sizes = np.exp(logs[members] - logs[members].max()) * np.linalg.norm(outgoing[members], axis=1)
        # Exact copies stay as the first one is; otherwise the one that matters most says where the group lies.
        lead = first if (gaps[first, block] <= ROUNDING).all() else members[int(np.argmax(sizes))]
        factors = np.exp(logs[members] - logs[lead])
        parts = factors[:, None] * units.outgoing[members]
        total = parts.sum(axis=0)
        if cancels(total, parts) and allowed[first]:
            for j in members:
                gone[j] = units.removal(j, "zero-type group", gap=gaps[first, j])
        else:
            incoming[first], outgoing[first] = units.incoming[lead], total
            for j in block:
                other = "positive multiple" if facts.homogeneous else "copy with another bias"
                why = "copy" if abs(logs[j] - logs[first]) <= tolerance else other
                gone[j] = units.removal(j, why, into=first, gap=gaps[first, j])
    return replace(units, incoming=incoming, outgoing=outgoing).without(gone)


def cancels(total: Float[np.ndarray, " outputs"], parts: Float[np.ndarray, "units outputs"]) -> bool:
    """Return whether a sum of outgoing vectors is zero but for the rounding of its terms."""
    return bool(np.linalg.norm(total) <= np.finfo(float).eps * np.linalg.norm(parts, axis=1).sum())


def merge_combinations(units: Units, facts: LayerFacts, tolerance: float) -> Units:
    """Keep, of units with a linear activation, only as many as the layer's linear map needs of their vectors."""
    if not facts.linear or facts.weights is None:
        return units
    reach = facts.weights if facts.next_bias else units.incoming.shape[1]
    weights, bias = units.incoming[:, :reach], units.incoming[:, reach:].sum(axis=1)
    if not units.allowed.all():
        return units
    chosen, parts = spanning(weights, units.outgoing.T @ weights, tolerance)
    if len(chosen) == len(weights):
        return units
    outgoing = np.zeros_like(units.outgoing)
    outgoing[list(chosen)] = parts
    constant = units.constant + facts.at(1.0) * bias @ (units.outgoing - outgoing)
    gone = {
        j: units.removal(j, "linear combination", into_bias=bool(bias.any()))
        for j in range(len(weights))
        if j not in chosen
    }
    return replace(units, outgoing=outgoing, constant=constant).without(gone)


def canonical(
    units: Units, facts: LayerFacts
) -> tuple[Float[np.ndarray, "units entries"], Float[np.ndarray, " units"]]:
    """Return u and log f, with a g(theta . h) = f a g(u . h): unit vectors, or zero biases, where g allows that."""
    if facts.homogeneous:
        lengths = np.linalg.norm(units.incoming, axis=1)
        lengths = np.where(lengths > 0.0, lengths, 1.0)
        return units.incoming / lengths[:, None], np.log(lengths)
    if facts.exponential and facts.weights is not None:
        vectors = units.incoming.copy()
        vectors[:, facts.weights :] = 0.0
        return vectors, units.incoming[:, facts.weights :].sum(axis=1)
    return units.incoming, np.zeros(len(units.incoming))


def relative_lengths(vectors: Float[np.ndarray, "units entries"]) -> Float[np.ndarray, " units"]:
    """Return each row's norm divided by the largest; zeros when all are zero."""
    lengths = np.linalg.norm(vectors, axis=1)
    return lengths / (lengths.max() or 1.0)


def relative_gaps(
    ours: Float[np.ndarray, "units entries"], theirs: Float[np.ndarray, "units entries"]
) -> Float[np.ndarray, "units units"]:
    """Return |u_i - v_j| / max(|u_i|, |v_j|), 0 for two zero vectors."""
    lengths = np.maximum(np.linalg.norm(ours, axis=1)[:, None], np.linalg.norm(theirs, axis=1)[None, :])
    return cdist(ours, theirs) / np.where(lengths > 0.0, lengths, 1.0)


def spanning(
    rows: Float[np.ndarray, "units entries"], wanted: Float[np.ndarray, "outputs entries"], tolerance: float
) -> tuple[tuple[int, ...], Float[np.ndarray, "chosen outputs"]]:
    """Return few rows w_k and factors x_k with sum_k x_k w_k = wanted: each next row lowers the rest the most."""
    chosen: list[int] = []
    rest, span = wanted, rows.copy()
    while len(chosen) < len(rows) and np.linalg.norm(rest) > tolerance * np.linalg.norm(wanted):
        lengths = np.linalg.norm(span, axis=1)
        usable = lengths > tolerance * np.linalg.norm(rows, axis=1)
        usable[chosen] = False
        if not usable.any():
            return tuple(range(len(rows))), np.zeros((len(rows), len(wanted)))
        directions = span / np.where(usable, lengths, 1.0)[:, None]
        gains = np.where(usable, np.linalg.norm(directions @ rest.T, axis=1), -1.0)
        best = int(np.argmax(gains))
        chosen.append(best)
        direction = directions[best]
        span = span - np.outer(span @ direction, direction)
        rest = rest - np.outer(rest @ direction, direction)
    chosen.sort()
    return tuple(chosen), np.linalg.lstsq(rows[chosen].T, wanted.T)[0] if chosen else np.zeros((0, len(wanted)))
