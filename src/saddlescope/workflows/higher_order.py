"""Points of higher order: merge pair after pair along paths, then lift the small network back and count its signs.

Each merge ends in a critical point of a network with one neuron less ([B19] section 4.1), which is the next start.
After K merges the small point, lifted into the first network, is a K-th order permutation point ([B19] section 4.2).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from saddlescope.arrays import Parameters, to_numpy
from saddlescope.critical.lifted import Lifted, lifted_signs
from saddlescope.errors import SettingsError
from saddlescope.models.sizes import require_traceable, unit_counts, with_units
from saddlescope.outcomes import Outcome
from saddlescope.paths.find import find_path
from saddlescope.paths.result import Path, PathSettings
from saddlescope.problem.problem import Problem
from saddlescope.units.actions import permute, split

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class Merge:
    """One merge: layer, the pair in that step's numbering, how its path ended, the loss before and after."""

    layer: int
    pair: tuple[int, int]
    ending: Outcome
    reasons: tuple[str, ...]
    loss_before: float
    loss_after: float | None


@dataclass(frozen=True, kw_only=True)
class HigherOrder:
    """A point of order ``len(members' surplus)``, or how far the merges came.

    ``members[layer][unit]`` are the first network's neurons that the small network's neuron stands for. ``parameters``
    is the lifted point in the first network, the outgoing weights shared equally; ``signs`` its index and nullity, from
    the small network alone.
    """

    merges: tuple[Merge, ...]
    network: Any
    reduced: dict[str, np.ndarray]
    members: dict[int, tuple[tuple[int, ...], ...]]
    parameters: dict[str, np.ndarray]
    loss: float
    signs: Lifted
    complete: bool


def merge_recursively(
    problem: Problem,
    parameters: Parameters,
    merges: Sequence[tuple[int, tuple[int, int] | None]],
    *,
    settings: PathSettings | None = None,
    progress: Progress | None = None,
) -> HigherOrder:
    """Merge pairs one after the other, at one or several layers, and certify the point of higher order.

    Args:
        problem: a perceptron's problem without penalties.
        parameters: a minimum.
        merges: for each merge the layer (from 1) and a pair in the numbering of the first network, any member of a
            merged group standing for it; None takes the most similar pair.
        settings: of each path.
        progress: called with (done, total, message) along each path.

    Returns:
        The point; if a path has no permutation point, the one before it, and ``complete`` is False.

    Raises:
        NeuronsError: no such layer or neuron, or a pair that has been merged already.
        SettingsError: a penalised problem, or a network that is no perceptron.

    Source: [B19] section 4.2; science notes, sections 2 and 3.
    """
    require_traceable(problem.network, "merge_recursively")
    if problem.penalised:
        raise SettingsError("points of higher order need a perceptron without penalties", name="problem", value=problem)
    now, here = problem, to_numpy(getattr(parameters, "parameters", parameters))
    members: dict[int, tuple[tuple[int, ...], ...]] = {
        layer: tuple((unit,) for unit in range(count)) for layer, count in unit_counts(problem.network).items()
    }
    done: list[Merge] = []
    for layer, wanted in merges:
        pair = None if wanted is None else _places(members[layer], wanted)
        path = find_path(now, here, layer=layer, pair=pair, settings=settings, progress=progress)
        point = path.permutation_point
        done.append(_merge(path))
        if point is None or point.reduced is None:
            break
        now = now.with_network(with_units(now.network, {layer: unit_counts(now.network)[layer] - 1}))
        here = point.reduced
        members[layer] = _joined(members[layer], path.pair)
    copies = {
        (layer, unit): (1.0 / len(group),) * len(group)
        for layer, groups in members.items()
        for unit, group in enumerate(groups)
        if len(group) > 1
    }
    lifted = lift_members(now.network, here, members)
    return HigherOrder(
        merges=tuple(done),
        network=now.network,
        reduced=here,
        members=members,
        parameters=lifted,
        loss=problem.loss_of(lifted),
        signs=lifted_signs(now, here, copies),
        complete=len(done) == len(merges) and all(one.loss_after is not None for one in done),
    )


def lift_members(
    network: Any, reduced: Parameters, members: dict[int, tuple[tuple[int, ...], ...]]
) -> dict[str, np.ndarray]:
    """Return the first network's parameters in which each small neuron is copied to its members, with equal shares."""
    parameters = dict(reduced)
    for layer, groups in members.items():
        neurons = network.neurons(layer)
        order = [group[0] for group in groups]
        for unit, group in enumerate(groups):
            parameters = split(parameters, neurons, unit, (1.0 / len(group),) * len(group))
            order += group[1:]
        parameters = permute(parameters, neurons, [int(place) for place in np.argsort(order)])
    return to_numpy(parameters)


def _merge(path: Path) -> Merge:
    return Merge(
        layer=path.layer,
        pair=path.pair,
        ending=path.ending,
        reasons=path.reasons,
        loss_before=float(path.losses[0]),
        loss_after=path.loss_at_point,
    )


def _places(groups: tuple[tuple[int, ...], ...], pair: tuple[int, int]) -> tuple[int, int]:
    """Return where the groups of two of the first network's neurons stand now; a number out of range stays."""
    where = {unit: place for place, group in enumerate(groups) for unit in group}
    first, second = (where.get(unit, unit) for unit in pair)
    return first, second


def _joined(groups: tuple[tuple[int, ...], ...], pair: tuple[int, int]) -> tuple[tuple[int, ...], ...]:
    """Return the groups after the second of a pair went into the first, as `merge` orders them."""
    first, second = min(pair), max(pair)
    both = (*groups[first], *groups[second])
    return tuple(both if k == first else group for k, group in enumerate(groups) if k != second)
