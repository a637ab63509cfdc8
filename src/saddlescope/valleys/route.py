"""The shortest route: a permutation of n neurons with one spare, as a puzzle of n - 1 tokens and one hole.

A *hop* takes a token j to the hole h in two segments: the spare h walks to j's incoming vector, j gives h all that it
sends; the hole is now at j. Reaching a permutation of n places with hops alone is sorting by exchanges with the hole.
Of p places that it moves, in c cycles, a cycle costs one hop a token, and one more if the hole is not in it:

    hops = p + c          if the hole stays,        p + c - 2    if it moves

(the distance in the star graph: S. B. Akers, B. Krishnamurthy 1989). At a permutation point either twin may be the
hole, and at the end either may have been: four permutations of the places; the cheapest is taken. Around the hops stand
one transfer that empties the hole, and at the end a walk to the twin and a share: 2 hops + 3 segments. Hence, for a
permutation of n neurons that moves p of them in c cycles, twins l and m,

    hops = p + c        if it moves neither l nor m,
           p + c - 2    if it moves one of them, or both by one cycle in which they are not neighbours,
           p + c - 3    if it moves them by two cycles, or by one in which one takes the other's place,

never more than 2 floor(3(n - 2)/2) + 3 segments. The opening transfer is not needed if that twin sends nothing, nor the
share if it is to send nothing in the end; a permutation that only exchanges the twins is one share. Repeating the
paper's exchange for each of p - c transpositions ([B19] section 4.2: three hops, six segments) takes 6 (p - c) + 3.

Fewer is impossible where the twins' sum and everything else that is sent is not zero, and no other two incoming vectors
are equal: the parameters of equal function are then a union of affine subspaces, in which either two neurons are twins
or one sends nothing ([S21]); a segment lies in one of them, and two walks or two transfers in turn are one. The tests
search all sequences for n <= 5. Elsewhere the route leads to the same end, but need not be the shortest.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from saddlescope.arrays import Parameters, require_finite, to_numpy
from saddlescope.errors import NeuronsError
from saddlescope.units.neurons import Neurons
from saddlescope.valleys.moves import RouteGeometry
from saddlescope.valleys.result import Move, MoveKind, Route


def find_route(parameters: Parameters, neurons: Neurons, pair: tuple[int, int], permutation: Sequence[int]) -> Route:
    """Return the shortest equal-function route from twins to a permutation of their layer.

    The end is ``permute(parameters, neurons, permutation)`` to the last bit: neuron i is the old neuron permutation[i],
    with its incoming vector and what it sent at the start, so that the twins end with the split that they began with.

    Args:
        parameters: a parameter set in which the two neurons of the pair have equal incoming vectors.
        neurons: the layer.
        pair: the twins.
        permutation: which old neuron each place gets.

    Returns:
        The route; no segments, if nothing moves.

    Raises:
        NeuronsError: not a permutation of the neurons, not a pair, or twins whose incoming vectors differ.
        NonFiniteError: NaN or infinity among the parameters.
    """
    start = to_numpy(parameters)
    require_finite(start, "the start of the walk")
    count = neurons.count(start)
    order = _permutation(permutation, count)
    l, m = (int(unit) for unit in pair)
    neurons.check_pair(start, l, m)
    places = RouteGeometry(start, neurons, (l, m))
    gap = np.abs(places.flat[places.incoming[l]] - places.flat[places.incoming[m]])
    if np.any(gap > 0.0):
        raise NeuronsError(
            f"neurons {l} and {m} are no twins: their incoming vectors differ",
            name="largest difference",
            value=float(gap.max()),
            expected="0",
            advice="Merge them and lift the result (units.actions), if they are equal up to rounding",
        )
    sent = places.sent(np.arange(count))
    moves = _moves(order, (l, m), silent=~np.any(sent != 0.0, axis=1), alike=bool(np.all(sent[l] == sent[m])))
    return Route(start=start, neurons=neurons, pair=(l, m), permutation=order, moves=moves)


def _permutation(given: Sequence[int], count: int) -> tuple[int, ...]:
    """Return a permutation as Python integers."""
    order: list[Any] = list(given)
    whole = all(isinstance(unit, int | np.integer) and not isinstance(unit, bool) for unit in order)
    if not whole or sorted(order) != list(range(count)):
        missing = sorted(set(range(count)) - set(order)) if whole else []
        raise NeuronsError(
            "not a permutation of the layer's neurons",
            name="permutation",
            value=",".join(str(unit) for unit in order),
            expected=f"0 to {count - 1}, each once",
            advice=f"Missing: {', '.join(str(unit) for unit in missing[:10])}" if missing else None,
        )
    return tuple(int(unit) for unit in order)


def _cycle(goal: Sequence[int], first: int) -> list[int]:
    """Return the places that a token passes from ``first`` until it is back; goal[i]: where place i's token goes."""
    cycle, here = [first], goal[first]
    while here != first:
        cycle.append(here)
        here = goal[here]
    return cycle


def _hops(goal: Sequence[int], hole: int) -> list[int]:
    """Return the places whose tokens hop into the hole, in turn, so that every token comes to its goal.

    The token of place i goes to goal[i]; the hole ends at goal[hole].
    """
    own = _cycle(goal, hole)
    done, hops = set(own), []
    for first in range(len(goal)):
        if first not in done and goal[first] != first:
            cycle = _cycle(goal, first)
            done.update(cycle)
            hops += [first, *cycle[:0:-1], hole]  # the first token waits in the hole's place until its own is free
    return [*hops, *own[:0:-1]]


def _moves(order: tuple[int, ...], pair: tuple[int, int], *, silent: np.ndarray, alike: bool) -> tuple[Move, ...]:
    """Return the fewest moves; ``silent``: which neurons send nothing; ``alike``: the twins send the same."""
    goal = [0] * len(order)
    for place, old in enumerate(order):
        goal[old] = place
    ways = [_way(goal, hole, other, turned, silent) for hole, other in (pair, pair[::-1]) for turned in (False, True)]
    l, m = pair
    if all(goal[unit] == unit for unit in range(len(order)) if unit not in pair):
        return () if goal[l] == l or alike else (Move(MoveKind.SHARE, l, m),)
    return min(ways, key=len)


def _way(goal: list[int], hole: int, other: int, turned: bool, silent: np.ndarray) -> tuple[Move, ...]:
    """Return the moves with this twin as the hole; ``turned``: it ends where the other twin is to be."""
    ends = (goal[other], goal[hole]) if turned else (goal[hole], goal[other])
    aims = list(goal)
    aims[hole], aims[other] = ends
    moves = [] if silent[hole] else [Move(MoveKind.TRANSFER, hole, other)]
    for place in _hops(aims, hole):
        moves += [Move(MoveKind.WALK, hole, place), Move(MoveKind.TRANSFER, place, hole)]
        hole = place
    moves.append(Move(MoveKind.WALK, ends[0], ends[1]))
    old = goal.index(ends[0])
    return tuple(moves if silent[old] else [*moves, Move(MoveKind.SHARE, ends[0], ends[1])])
