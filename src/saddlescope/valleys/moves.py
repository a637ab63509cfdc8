"""The token puzzle: what each neuron holds after some moves, and the parameters there.

Nothing is ever computed but the one sum a_l + a_m. After any moves a neuron's incoming vector is a copy of one of
the start's, and its outgoing vector a copy of one of the start's, zero, or that sum. Two integers a neuron therefore
say where a walk is, replaying is cheap, and the end is exact to the last bit.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from saddlescope.arrays import Layout, Parameters, to_numpy
from saddlescope.errors import SettingsError
from saddlescope.units.neurons import Neurons
from saddlescope.valleys.result import Move, MoveKind, Route

ZERO, SUM = -1, -2
"""Outgoing vectors that are no copy of the start's: nothing, and the sum of the pair's two."""


@dataclass(frozen=True)
class TokenState:
    """Whose incoming and whose outgoing vector of the start each neuron holds (or `ZERO`, or `SUM`)."""

    incoming: np.ndarray
    outgoing: np.ndarray

    @staticmethod
    def at_start(count: int) -> "TokenState":
        """Return the start: every neuron holds its own."""
        return TokenState(np.arange(count), np.arange(count))


class Change(NamedTuple):
    """One segment as the entries of the flattened parameters that move, from where, to where."""

    positions: np.ndarray
    before: np.ndarray
    after: np.ndarray


def _update(incoming: np.ndarray, outgoing: np.ndarray, move: Move, route: Route) -> None:
    """Make one move in working copies of the holdings."""
    if move.kind is MoveKind.WALK:
        incoming[move.neuron] = incoming[move.to]
    elif move.kind is MoveKind.SHARE:
        outgoing[[move.neuron, move.to]] = [route.permutation[move.neuron], route.permutation[move.to]]
    else:
        both = {int(outgoing[move.neuron]), int(outgoing[move.to])}
        outgoing[move.to] = SUM if both == set(route.pair) else outgoing[move.neuron]
        outgoing[move.neuron] = ZERO


def replay(route: Route, moves: int | None = None) -> TokenState:
    """Return what the neurons hold after the first ``moves`` moves of a route (None: all)."""
    start = TokenState.at_start(len(route.permutation))
    for move in route.moves[:moves]:
        _update(start.incoming, start.outgoing, move, route)
    return start


class RouteGeometry:
    """A route's start, flattened, and where each neuron's entries lie in it.

    Raises:
        NeuronsError: an entry comes in and goes out, as in a recurrent layer, or belongs to two neurons.
    """

    def __init__(self, start: Parameters, neurons: Neurons, pair: tuple[int, int]) -> None:
        self.layout = Layout.of(start)
        self.pair = pair
        self.incoming = neurons.incoming_positions(self.layout)
        self.outgoing = neurons.outgoing_positions(self.layout)
        self.flat = np.concatenate([np.ravel(value) for value in to_numpy(start).values()])

    def sent(self, codes: np.ndarray) -> np.ndarray:
        """Return the outgoing vectors, one row a code."""
        rows = self.flat[self.outgoing[np.maximum(codes, 0)]]
        rows[codes == ZERO] = 0.0
        l, m = self.pair
        rows[codes == SUM] = self.flat[self.outgoing[l]] + self.flat[self.outgoing[m]]
        return rows

    def at(self, held: TokenState) -> np.ndarray:
        """Return the flattened parameters of neurons that hold what ``held`` says."""
        flat = self.flat.copy()
        moved = np.flatnonzero(held.incoming != np.arange(len(held.incoming)))
        flat[self.incoming[moved]] = self.flat[self.incoming[held.incoming[moved]]]
        moved = np.flatnonzero(held.outgoing != np.arange(len(held.outgoing)))
        flat[self.outgoing[moved]] = self.sent(held.outgoing[moved])
        return flat


def _changes(route: Route, places: RouteGeometry, held: TokenState, moves: Iterable[Move]) -> Iterator[Change]:
    incoming, outgoing = held.incoming.copy(), held.outgoing.copy()
    for move in moves:
        if move.kind is MoveKind.WALK:
            before = places.flat[places.incoming[incoming[move.neuron]]]
            _update(incoming, outgoing, move, route)
            after = places.flat[places.incoming[incoming[move.neuron]]]
            yield Change(places.incoming[move.neuron], before, after)
        else:
            units = [move.neuron, move.to]
            before = places.sent(outgoing[units])
            _update(incoming, outgoing, move, route)
            yield Change(places.outgoing[units].ravel(), before.ravel(), places.sent(outgoing[units]).ravel())


def changes(route: Route, places: RouteGeometry) -> Iterator[Change]:
    """Yield the segments of a route, one after the other: a pass over a walk of any length in constant memory."""
    yield from _changes(route, places, TokenState.at_start(len(route.permutation)), route.moves)


def route_position(route: Route, t: float) -> dict[str, np.ndarray]:
    """Return the parameters gamma(t); gamma(1) is ``permute(start, neurons, permutation)`` to the last bit.

    The cost is a replay of integers and one copy of the parameters; to look at many points use `walk.measure`, which
    passes along the route once.

    Args:
        route: a route.
        t: time in [0, 1]; segment s of S takes the times s/S to (s + 1)/S.

    Raises:
        SettingsError: t lies outside [0, 1].
    """
    if not 0.0 <= t <= 1.0:
        raise SettingsError("time outside the path", name="t", value=t, expected="0 <= t <= 1")
    places = RouteGeometry(route.start, route.neurons, route.pair)
    whole = min(int(t * route.segments), route.segments - 1)
    if route.segments == 0:
        return places.layout.unflatten_numpy(places.flat)
    held = replay(route, whole)
    flat = places.at(held)
    share = t * route.segments - whole
    change = next(_changes(route, places, held, [route.moves[whole]]))
    flat[change.positions] = (1.0 - share) * change.before + share * change.after
    return places.layout.unflatten_numpy(flat)


def route_end(route: Route) -> dict[str, np.ndarray]:
    """Return the parameters at the end of a route."""
    return route_position(route, 1.0)
