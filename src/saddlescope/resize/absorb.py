"""The rules by which one unit of a layer is absorbed by others, on the matrices of incoming and outgoing vectors.

Each rule keeps sum_j a_j g(theta_j . h) + constant, for every h, up to the tolerance by which it calls vectors equal.
Sources: [S21] section 3; odd activations: Sussmann 1992, Farrugia-Roberts 2023.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist

from saddlescope.problem.activations import Parity
from saddlescope.resize.result import Removal

# Up to so many classes of sign twins and single units, every choice of signs is tried.
FLIPPED = 12

# Relative distances up to this come from rounding alone.
ROUNDING = 1e-14


@dataclass(frozen=True)
class Facts:
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
    """

    layer: int
    incoming: Float[np.ndarray, "units entries"]
    outgoing: Float[np.ndarray, "units outputs"]
    numbers: tuple[int, ...]
    constant: Float[np.ndarray, " outputs"]
    removed: tuple[Removal, ...] = ()
    left: tuple[str, ...] = ()

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


def drop_silent(units: Units, facts: Facts, tolerance: float) -> Units:
    """Take out units with a_j = 0, relative to the layer's largest outgoing vector."""
    del facts
    shares = relative_lengths(units.outgoing)
    silent = np.flatnonzero(shares <= tolerance)
    return units.without({int(j): units.removal(int(j), "zero outgoing weights", gap=shares[j]) for j in silent})


def drop_constant(units: Units, facts: Facts, tolerance: float) -> Units:
    """Move units whose weights are zero into the next bias: a_j g(b_j)."""
    if facts.weights is None or facts.function is None:
        return units
    shares = relative_lengths(units.incoming[:, : facts.weights])
    idle = [int(j) for j in np.flatnonzero(shares <= tolerance)]
    height = {j: facts.at(float(units.incoming[j, facts.weights :].sum())) for j in idle}
    if not facts.next_bias:
        held = [units.numbers[j] for j in idle if height[j] != 0.0]
        idle = [j for j in idle if height[j] == 0.0]
        if held:
            units = units.say(f"neuron {held[0]} is a constant, and there is no bias to take it")
    gone = {j: units.removal(j, "constant", into_bias=height[j] != 0.0, gap=shares[j]) for j in idle}
    added = sum((height[j] * units.outgoing[j] for j in idle), start=np.zeros_like(units.constant))
    return replace(units, constant=units.constant + added).without(gone)


def merge_copies(units: Units, facts: Facts, tolerance: float) -> Units:
    """Merge units with one incoming vector, up to what the activation leaves open; drop groups that send out zero."""
    vectors, logs = canonical(units, facts)
    gaps = relative_gaps(vectors, vectors)
    incoming, outgoing = units.incoming.copy(), units.outgoing.copy()
    gone: dict[int, Removal] = {}
    free = np.ones(len(vectors), dtype=bool)
    for first in range(len(vectors)):
        block = [int(j) for j in np.flatnonzero(free & (gaps[first] <= tolerance)) if j > first]
        if not free[first] or not block:
            continue
        members = [first, *block]
        free[members] = False
        sizes = np.exp(logs[members] - logs[members].max()) * np.linalg.norm(outgoing[members], axis=1)
        # Exact copies stay as the first one is; otherwise the one that matters most says where the group lies.
        lead = first if (gaps[first, block] <= ROUNDING).all() else members[int(np.argmax(sizes))]
        factors = np.exp(logs[members] - logs[lead])
        parts = factors[:, None] * units.outgoing[members]
        total, largest = parts.sum(axis=0), float(np.linalg.norm(parts, axis=1).max())
        if np.linalg.norm(total) <= tolerance * largest:
            for j in members:
                gone[j] = units.removal(j, "zero-type group", gap=gaps[first, j])
        else:
            incoming[first], outgoing[first] = units.incoming[lead], total
            for j in block:
                other = "positive multiple" if facts.homogeneous else "copy with another bias"
                why = "copy" if abs(logs[j] - logs[first]) <= tolerance else other
                gone[j] = units.removal(j, why, into=first, gap=gaps[first, j])
    return replace(units, incoming=incoming, outgoing=outgoing).without(gone)


def merge_twins(units: Units, facts: Facts, tolerance: float) -> Units:
    """Merge units with opposite incoming vectors, where the activation's parity makes that exact."""
    if facts.parity == "none" or (facts.parity != "odd" and facts.weights is None):
        return units
    pairs = _twins(units, facts, tolerance)
    if not pairs:
        return units
    if facts.parity == "odd":
        return _merge_pairs(units, pairs, sign=-1.0, into_bias=False, tolerance=tolerance)
    if facts.parity == "odd+constant":
        return _merge_constant_twins(units, facts, pairs, tolerance)
    return _merge_linear_twins(units, facts, pairs, tolerance)


def merge_combinations(units: Units, facts: Facts, tolerance: float) -> Units:
    """Keep, of units with a linear activation, only as many as the layer's linear map needs of their vectors."""
    if not facts.linear or facts.weights is None:
        return units
    reach = facts.weights if facts.next_bias else units.incoming.shape[1]
    weights, bias = units.incoming[:, :reach], units.incoming[:, reach:].sum(axis=1)
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


def canonical(units: Units, facts: Facts) -> tuple[Float[np.ndarray, "units entries"], Float[np.ndarray, " units"]]:
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


@dataclass(frozen=True)
class _Twins:
    """Units ``first`` and ``second`` with theta_second = -ratio theta_first; a unit alone has no second."""

    first: int
    second: int | None
    ratio: float
    gap: float


def _twins(units: Units, facts: Facts, tolerance: float) -> list[_Twins]:
    """Return the pairs of sign twins, in order; each unit in at most one."""
    vectors, logs = canonical(units, facts)
    gaps = relative_gaps(vectors, -vectors)
    free = np.ones(len(vectors), dtype=bool)
    pairs: list[_Twins] = []
    for first in range(len(vectors)):
        others = [int(j) for j in np.flatnonzero(free & (gaps[first] <= tolerance)) if j > first]
        if free[first] and others:
            second = others[0]
            free[[first, second]] = False
            pairs.append(_Twins(first, second, float(np.exp(logs[second] - logs[first])), float(gaps[first, second])))
    return pairs


def _amplitudes(units: Units, pairs: Sequence[_Twins]) -> tuple[np.ndarray, np.ndarray]:
    """Return what g(theta_first . h) and what g(-theta_first . h) is multiplied with, pair by pair."""
    plus = units.outgoing[[pair.first for pair in pairs]]
    minus = np.zeros_like(plus)
    for k, pair in enumerate(pairs):
        if pair.second is not None:
            minus[k] = pair.ratio * units.outgoing[pair.second]
    return plus, minus


def _merge_pairs(
    units: Units,
    pairs: Sequence[_Twins],
    *,
    sign: float,
    into_bias: bool,
    tolerance: float,
    flips: Sequence[bool] = (),
) -> Units:
    """Put a+ g(z) + a- g(-z) = (a+ + sign a-) g(z) + what the caller accounts for at the first, or with z -> -z."""
    plus, minus = _amplitudes(units, pairs)
    incoming, outgoing = units.incoming.copy(), units.outgoing.copy()
    gone: dict[int, Removal] = {}
    for k, pair in enumerate(pairs):
        flip = bool(flips) and flips[k]
        total = minus[k] + sign * plus[k] if flip else plus[k] + sign * minus[k]
        incoming[pair.first] = -units.incoming[pair.first] if flip else units.incoming[pair.first]
        outgoing[pair.first] = total
        largest = max(float(np.linalg.norm(plus[k])), float(np.linalg.norm(minus[k])))
        if pair.second is not None and np.linalg.norm(total) <= tolerance * largest:
            for unit in (pair.first, pair.second):
                gone[unit] = units.removal(unit, "sign twins that cancel", into_bias=into_bias, gap=pair.gap)
        elif pair.second is not None:
            gone[pair.second] = units.removal(
                pair.second, "sign twin", into=pair.first, into_bias=into_bias, gap=pair.gap
            )
    return replace(units, incoming=incoming, outgoing=outgoing).without(gone)


def _merge_constant_twins(units: Units, facts: Facts, pairs: list[_Twins], tolerance: float) -> Units:
    """Merge twins of g(-z) = 2 g(0) - g(z): the constant goes to the next bias, a constant unit, or vanishes."""
    plus, minus = _amplitudes(units, pairs)
    height = facts.at(0.0)
    total = 2.0 * height * minus.sum(axis=0)
    if facts.next_bias:
        merged = _merge_pairs(units, pairs, sign=-1.0, into_bias=True, tolerance=tolerance)
        return replace(merged, constant=merged.constant + total)
    flips = _vanishing(2.0 * height * minus, 2.0 * height * plus, tolerance)
    if flips is not None:
        return _merge_pairs(units, pairs, sign=-1.0, into_bias=False, tolerance=tolerance, flips=flips)
    idle = np.flatnonzero(relative_lengths(units.incoming) <= tolerance)
    incoming, outgoing = units.incoming.copy(), units.outgoing.copy()
    if len(idle):
        outgoing[idle[0]] += total / height
    elif len(pairs) > 1 and pairs[0].second is not None:
        # Two neurons or more go and one comes: the first twin becomes the constant that all of them leave.
        plus, minus = _amplitudes(units, pairs[:1])
        place = pairs[0].second
        outgoing[pairs[0].first] = (plus - minus)[0]
        incoming[place], outgoing[place] = 0.0, total / height
        pairs = pairs[1:]
    else:
        names = ", ".join(str(units.numbers[unit]) for unit in (pairs[0].first, pairs[0].second or 0))
        return units.say(f"neurons {names} are sign twins, and there is no bias to take their constant")
    units = replace(units, incoming=incoming, outgoing=outgoing)
    return _merge_pairs(units, pairs, sign=-1.0, into_bias=False, tolerance=tolerance)


def _merge_linear_twins(units: Units, facts: Facts, pairs: list[_Twins], tolerance: float) -> Units:
    """Merge twins of g(-z) = g(z) - c z: linear parts must cancel, or be carried by few of the twins."""
    slope = facts.at(1.0) - facts.at(-1.0)
    reach = facts.weights if facts.next_bias else units.incoming.shape[1]
    taken = {unit for pair in pairs for unit in (pair.first, pair.second)}
    alone = [_Twins(unit, None, 1.0, 0.0) for unit in range(len(units.numbers)) if unit not in taken]
    classes = [*pairs, *alone] if len(pairs) + len(alone) <= FLIPPED else pairs
    plus, minus = _amplitudes(units, classes)
    vectors = units.incoming[[pair.first for pair in classes]]
    stay = -slope * minus[:, :, None] * vectors[:, None, :]
    flip = slope * plus[:, :, None] * vectors[:, None, :]
    rows = len(classes)
    flips = _vanishing(stay[:, :, :reach].reshape(rows, -1), flip[:, :, :reach].reshape(rows, -1), tolerance)
    if flips is not None:
        constant = np.where(np.asarray(flips)[:, None, None], flip, stay)[:, :, reach:].sum(axis=(0, 2))
        merged = _merge_pairs(
            units, classes, sign=1.0, into_bias=bool(constant.any()), tolerance=tolerance, flips=flips
        )
        return replace(merged, constant=merged.constant + constant)
    stay, vectors = stay[: len(pairs)], vectors[: len(pairs)]
    chosen, parts = spanning(vectors[:, :reach], stay[:, :, :reach].sum(axis=0), tolerance)
    names = ", ".join(str(units.numbers[pairs[k].first]) for k in chosen)
    units = units.say(f"the sign twins of {names} stay: they carry a linear part that nothing else can")
    if len(chosen) == len(pairs):
        return units
    constant = stay[:, :, reach:].sum(axis=(0, 2))
    outgoing = units.outgoing.copy()
    for k, part in zip(chosen, parts, strict=True):
        pair, share = pairs[k], part / slope
        outgoing[pair.first] = plus[k] + minus[k] + share
        outgoing[pair.second] = -share / pair.ratio
        constant = constant - part * vectors[k, reach:].sum()
    units = replace(units, outgoing=outgoing, constant=units.constant + constant)
    others = [pair for k, pair in enumerate(pairs) if k not in chosen]
    return _merge_pairs(units, others, sign=1.0, into_bias=bool(constant.any()), tolerance=tolerance)


def _vanishing(
    stay: Float[np.ndarray, "classes entries"], flip: Float[np.ndarray, "classes entries"], tolerance: float
) -> tuple[bool, ...] | None:
    """Return which classes to flip so that what they leave adds up to zero, as few as possible; None if none do."""
    sizes = np.maximum(np.linalg.norm(stay, axis=1), np.linalg.norm(flip, axis=1))
    limit = tolerance * float(sizes.max(initial=0.0))
    if np.linalg.norm(stay.sum(axis=0)) <= limit:
        return (False,) * len(stay)
    if len(stay) > FLIPPED:
        return None
    # Norms of all combinations, from the triangular factor of their few generators.
    triangle = np.linalg.qr(np.vstack([stay.sum(axis=0), flip - stay]).T, mode="r").T  # pyright: ignore[reportAttributeAccessIssue]
    ways = np.asarray(list(itertools.product((False, True), repeat=len(stay))))
    norms = np.linalg.norm(triangle[0] + ways @ triangle[1:], axis=1)
    good = np.flatnonzero(norms <= limit)
    return tuple(bool(way) for way in ways[good[np.argmin(ways[good].sum(axis=1))]]) if len(good) else None
