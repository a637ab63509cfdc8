"""Sign twins: units with opposite incoming vectors, merged where the activation's parity makes that exact.

Source: Sussmann 1992 and Farrugia-Roberts 2023 for odd activations. A constant or a linear part has to go somewhere.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from saddlescope.resize.reduction_rules import (
    LayerFacts,
    Units,
    cancels,
    canonical,
    relative_gaps,
    relative_lengths,
    spanning,
)
from saddlescope.resize.result import Removal

# Up to so many classes of sign twins and single units, every choice of signs is tried.
FLIPPED = 12


def merge_twins(units: Units, facts: LayerFacts, tolerance: float) -> Units:
    """Merge units with opposite incoming vectors, where the activation's parity makes that exact."""
    if facts.parity == "none" or (facts.parity != "odd" and facts.weights is None):
        return units
    if facts.parity != "odd" and tolerance == 0.0:
        return units  # constants and linear parts cancel up to rounding only
    pairs = _twins(units, facts, tolerance)
    if not pairs:
        return units
    if facts.parity == "odd":
        return _merge_pairs(units, pairs, sign=-1.0, into_bias=False)
    if facts.parity == "odd+constant":
        return _merge_constant_twins(units, facts, pairs, tolerance)
    return _merge_linear_twins(units, facts, pairs, tolerance)


@dataclass(frozen=True)
class _Twins:
    """Units ``first`` and ``second`` with theta_second = -ratio theta_first; a unit alone has no second."""

    first: int
    second: int | None
    ratio: float
    gap: float


def _twins(units: Units, facts: LayerFacts, tolerance: float) -> list[_Twins]:
    """Return the pairs of sign twins, in order; each unit in at most one."""
    vectors, logs = canonical(units, facts)
    gaps = relative_gaps(vectors, -vectors)
    free = units.allowed
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
        if pair.second is not None and cancels(total, np.stack([plus[k], minus[k]])):
            for unit in (pair.first, pair.second):
                gone[unit] = units.removal(unit, "sign twins that cancel", into_bias=into_bias, gap=pair.gap)
        elif pair.second is not None:
            gone[pair.second] = units.removal(
                pair.second, "sign twin", into=pair.first, into_bias=into_bias, gap=pair.gap
            )
    return replace(units, incoming=incoming, outgoing=outgoing).without(gone)


def _merge_constant_twins(units: Units, facts: LayerFacts, pairs: list[_Twins], tolerance: float) -> Units:
    """Merge twins of g(-z) = 2 g(0) - g(z): the constant goes to the next bias, a constant unit, or vanishes."""
    plus, minus = _amplitudes(units, pairs)
    height = facts.at(0.0)
    total = 2.0 * height * minus.sum(axis=0)
    if facts.next_bias:
        merged = _merge_pairs(units, pairs, sign=-1.0, into_bias=True)
        return replace(merged, constant=merged.constant + total)
    flips = _vanishing(2.0 * height * minus, 2.0 * height * plus, tolerance)
    if flips is not None:
        return _merge_pairs(units, pairs, sign=-1.0, into_bias=False, flips=flips)
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
    return _merge_pairs(units, pairs, sign=-1.0, into_bias=False)


def _merge_linear_twins(units: Units, facts: LayerFacts, pairs: list[_Twins], tolerance: float) -> Units:
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
        merged = _merge_pairs(units, classes, sign=1.0, into_bias=bool(constant.any()), flips=flips)
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
    return _merge_pairs(units, others, sign=1.0, into_bias=bool(constant.any()))


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
