"""From free groups of axes to symmetries: each is tried, given its roles, its kind and its name."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from saddlescope.models.laws import PAIRS, Exchange, Roles, Trial, exchange, roles, scattered, shuffled
from saddlescope.models.tracing import Found, Place, free_groups
from saddlescope.models.units import Kind, Symmetry
from saddlescope.units.neurons import Slice

_LAST = re.compile(r"(^|[._])(weight|bias|kernel|scale|embedding|value|w|b)$")

MOST_PLACES = 96
"""Beyond so many places, roles are not tried: a residual stream of a deep network, which no path is led through."""


def find_symmetries(
    function: Callable[..., Any], arrays: Mapping[str, Any], fixed: Collection[str], inputs: tuple[Any, ...]
) -> tuple[tuple[Symmetry, ...], int]:
    """Return the groups of interchangeable units of ``function(arrays, *inputs)``, and its number of operations.

    Args:
        function: outputs from all arrays, trained or not, and the data.
        arrays: all arrays by name, in float64.
        fixed: names of arrays that are not trained.
        inputs: a few samples.

    Returns:
        Only groups where permutations were tried and left the outputs alone, and where no place can be left out.
    """
    found, operations = free_groups(function, arrays, *inputs)
    if not found:
        return (), operations
    own = _own(function, inputs, arrays)
    trials = _trials(own, arrays)
    result: list[Symmetry] = []
    for group in found:
        tried = exchange((own, trials[0]), group.units, group.places)
        if tried.verified:
            result.append(_symmetry(trials, group, tried, fixed, arrays))
    return _numbered(result), operations


def _own(function: Callable[..., Any], inputs: tuple[Any, ...], arrays: Mapping[str, Any]) -> Trial:
    """Return the trial at the user's arrays and example; numbers that are all the same there are drawn instead.

    An example of zeros is enough to build a model, but hides what weights that multiply it do.
    """
    generator = np.random.default_rng(0)
    drawn = tuple(
        generator.normal(size=rows.shape) if rows.dtype.kind == "f" and rows.size and np.ptp(rows) == 0 else rows
        for rows in map(np.asarray, inputs)
    )
    told = Trial.of(function, drawn, arrays)
    return told if np.isfinite(told.outputs).all() else Trial.of(function, inputs, arrays)


def _trials(own: Trial, arrays: Mapping[str, Any]) -> tuple[Trial, ...]:
    """Return trials at arrays scattered at random, with other inputs; where these are out of bounds, the user's own."""
    result = []
    for seed in range(PAIRS):
        there = own.at(scattered(arrays, seed))
        other = there.with_inputs(shuffled(own.inputs, seed)) if seed else there
        finite = [trial for trial in (other, there, own) if np.isfinite(trial.outputs).all()]
        result.append(finite[0] if finite else own)
    return tuple(result)


def _symmetry(
    trials: Sequence[Trial], group: Found, tried: Exchange, fixed: Collection[str], arrays: Mapping[str, Any]
) -> Symmetry:
    still = [place for place in group.places if place.name in fixed]
    reasons = [f"{place.name} moves along, but the outputs do not feel it" for place in tried.idle]
    reasons += [f"{name} is not trained" for name in dict.fromkeys(place.name for place in still)]
    kind = _kind(group, arrays)
    if len(group.places) > MOST_PLACES:
        moved = [place for place in group.places if place not in still]
        part = Roles(tuple(moved), ())
        reasons.append(f"{len(group.places)} places: not tried what comes in and what goes out")
    else:
        part = roles(trials, group.units, group.places, still, tried.idle)
    fused = _fused(group, arrays)
    mergeable, resizable, more = _allowed(part, kind, fused)
    return Symmetry(
        layer=None,
        name=_name(part.incoming or group.places),
        units=group.units,
        incoming=_slices(part.incoming, group.units, fixed),
        outgoing=_slices(part.outgoing, group.units, fixed),
        moves_along=_slices(still, group.units, ()),
        verified=True,
        deviation=tried.deviation,
        omission=tried.omission,
        kind=kind,
        mergeable=mergeable,
        resizable=resizable,
        homogeneous=part.homogeneous,
        odd=part.odd,
        fused=fused,
        reasons=(*reasons, *more),
        linear=part.linear,
    )


def _allowed(part: Roles, kind: Kind, fused: bool) -> tuple[bool, bool, list[str]]:
    """Return whether units can be merged, whether their number can change, and why not."""
    reasons, mergeable, resizable = [], bool(part.outgoing) and bool(part.incoming), part.separate
    if not mergeable:
        reasons.append("no array reads these units linearly, with all others only feeding them: they cannot be merged")
    elif _overlap(part):
        mergeable = False
        reasons.append("an array both feeds the units and reads them: its entries have no single role")
    elif part.linear and kind == "units within a head":
        mergeable = resizable = False
        reasons.append(
            "a product of two linear maps: any invertible matrix moves these units, there is nothing to merge"
        )
    elif part.linear:
        reasons.append("nothing stands between two linear maps: any invertible matrix moves these units")
    if mergeable and not part.separate:
        reasons.append("units feel each other even where nobody reads them (a norm over them): none can be removed")
    if fused:
        reasons.append("an array holds more than these units: their number cannot change")
    return mergeable, mergeable and resizable and not fused, reasons


def _fused(group: Found, arrays: Mapping[str, Any]) -> bool:
    """Whether some array holds more than these units along an axis, or the units along two."""
    names = [place.name for place in group.places]
    return len(set(names)) < len(names) or any(not _covers(place, group.units, arrays) for place in group.places)


def _covers(place: Place, units: int, arrays: Mapping[str, Any]) -> bool:
    return place.before == 1 and units * place.after == np.shape(arrays[place.name])[place.axis]


def _overlap(part: Roles) -> bool:
    return bool({place.name for place in part.incoming if any(_meet(place, other) for other in part.outgoing)})


def _meet(one: Place, other: Place) -> bool:
    """Two places of one array meet if they lie along different axes, or on the same entries of one."""
    return one.name == other.name and (one.axis != other.axis or one.start == other.start)


def _kind(group: Found, arrays: Mapping[str, Any]) -> Kind:
    if "heads" in group.marks:
        return "heads"
    if "within" in group.marks:
        return "units within a head"
    if "residual" in group.marks:
        return "residual stream"
    if "channels" in group.marks or any(np.ndim(arrays[place.name]) > 2 for place in group.places):
        return "channels"
    return "hidden units"


def _slices(places: Sequence[Place], units: int, fixed: Collection[str]) -> tuple[Slice, ...]:
    return tuple(
        Slice(place.name, place.axis, place.after, place.start + block * units * place.after)
        for place in places
        if place.name not in fixed
        for block in range(place.before)
    )


def _name(places: Sequence[Place]) -> str:
    """Return what the first array belongs to: its name without ``weight``, ``kernel`` and the like at the end."""
    name = places[0].name
    while (shorter := _LAST.sub("", name)) not in ("", name):
        name = shorter
    return name


def _numbered(groups: Sequence[Symmetry]) -> tuple[Symmetry, ...]:
    """Give numbers to the layers that paths can lead through, and make names unique."""
    result, number, seen = [], 0, dict[str, int]()
    names = [group.name for group in groups]
    for group in groups:
        name = group.name
        if names.count(name) > 1 and group.kind in ("heads", "units within a head", "residual stream"):
            name = f"{name} ({group.kind})"
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            name = f"{name} #{seen[name]}"
        if group.mergeable:
            number += 1
        values = {**vars(group), "name": name, "layer": number if group.mergeable else None}
        result.append(Symmetry(**values))
    return tuple(result)
