"""Groups that act on a model's units, found by trying: GL(n), rotations, scales, for each head by itself.

A group of units is moved through several slices of arrays. For one pair of units, each slice may turn with a matrix A
or with its inverse transpose; which combinations leave the outputs alone is the null space of their derivatives at
parameters that were scattered at random. So the heads of an attention fall apart by themselves, a bias that nothing
reads takes no part, and nothing is assumed about kinds of layers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from saddlescope.problem.problem import Problem
from saddlescope.units.neurons import Neurons, Slice

# Derivatives of the outputs along a sum of moves, relative to those along the moves: none, or surely some.
NONE, SOME = 1e-9, 1e-6

# Samples and points at which a law is tried.
SAMPLES, POINTS = 32, 3

# Rows of one group, as a multiple of the parameters; beyond that none is claimed.
MOST_ROWS = 4


@dataclass(frozen=True)
class Law:
    """What may be done to a group of units: ``factors`` times the move of each slice leaves the outputs alone.

    ``way``: "mix" (E_ij at slices of factor 1, -E_ji at those of factor -1), "turn" (E_ij - E_ji at every slice) or
    "scale" (E_ii times the factor).
    """

    kind: str
    way: str
    places: tuple[np.ndarray, ...]  # of each slice, (units, entries)
    factors: tuple[float, ...]

    def mirrors(self, other: "Law") -> bool:
        """Return whether the other is this one with every matrix replaced by its inverse transpose."""
        same = len(self.places) == len(other.places) and all(map(np.array_equal, self.places, other.places))
        return self.way == other.way == "mix" and same and self.factors == tuple(-f for f in other.factors)

    def rows(self, theta: Float[np.ndarray, " size"], *, turns: bool) -> Float[np.ndarray, "rows size"]:
        """Return the directions at theta; of ``turns`` only those that keep the parameters' norm."""
        units = range(len(self.places[0]))
        if self.way == "scale":
            return np.zeros((0, len(theta))) if turns else np.stack([self._along(theta, i, i) for i in units])
        if self.way == "mix" and not turns:
            return np.stack([self._along(theta, i, j) for i in units for j in units])
        found = [self._along(theta, i, j) - self._along(theta, j, i) for i in units for j in units if i < j]
        return np.stack(found) if found else np.zeros((0, len(theta)))

    def _along(self, theta: np.ndarray, i: int, j: int) -> np.ndarray:
        row = np.zeros(len(theta))
        for places, factor in zip(self.places, self.factors, strict=True):
            row += factor * move(theta, places, i, j, dual=self.way == "mix" and factor < 0)
        return row


def move(theta: np.ndarray, places: np.ndarray, i: int, j: int, *, dual: bool = False) -> np.ndarray:
    """Return E_ij theta at a slice, or E_ji theta."""
    row, (to, of) = np.zeros(len(theta)), (j, i) if dual else (i, j)
    row[places[to]] = theta[places[of]]
    return row


def laws(problem: Problem, theta: Float[np.ndarray, " size"]) -> tuple[Law, ...]:
    """Return the laws of every group of units that the model tells, each tried at scattered parameters.

    Source: science notes, section 9.8.
    """
    trials, found = _Trials.of(problem, theta), []
    for kind, slices, units in _groups(problem.network):
        layout = problem.network.layout
        places = tuple(Neurons((piece,), (), units).incoming_positions(layout) for piece in slices)
        if len(places[0]) < 2 or len(places[0]) ** 2 > MOST_ROWS * layout.size:
            continue
        mixes = _laws(trials, kind, "mix", places)
        found += mixes
        rest = tuple(p for p in places if not any(p is q for law in mixes for q in law.places))
        found += _laws(trials, kind, "turn", rest) if len(rest) > 1 else []
        found += _laws(trials, kind.replace("linear units", "scaling"), "scale", rest) if len(rest) > 1 else []
    return tuple(found)


def _groups(network: Any) -> list[tuple[str, Sequence[Slice], int | None]]:
    """Return, of every group whose arrays are all trained, the kind of its laws, its slices and units."""
    symmetries = getattr(network, "symmetries", None)
    if symmetries is None:
        return [("linear units", (*u.incoming, *u.outgoing), u.units) for u in network.layers.values()]
    names = {"heads": "attention", "units within a head": "attention", "residual stream": "residual stream"}
    return [
        (names.get(group.kind, "linear units"), (*group.incoming, *group.outgoing), group.units)
        for group in symmetries
        if not group.moves_along
    ]


@eqx.filter_jit
def _derivatives(network: Any, inputs: Array, theta: Array, rows: Array) -> Array:
    """Return the derivatives of all outputs along each row."""

    def outputs(at: Array) -> Array:
        return jnp.ravel(network.apply(network.layout.unflatten(at), inputs))

    return jax.lax.map(lambda row: jax.jvp(outputs, (theta,), (row,))[1], rows, batch_size=16)


@dataclass(frozen=True)
class _Trials:
    """A model with a few samples and parameters scattered at random around the user's own."""

    network: Any
    inputs: np.ndarray
    points: tuple[np.ndarray, ...]

    @staticmethod
    def of(problem: Problem, theta: np.ndarray) -> "_Trials":
        rows = problem.unpadded_inputs()
        generator, usual = np.random.default_rng(0), max(float(np.sqrt(np.mean(np.square(theta)))), 1e-300)
        points = tuple(theta + 0.3 * (np.abs(theta) + usual) * generator.normal(size=len(theta)) for _ in range(POINTS))
        return _Trials(problem.network, rows[:: max(1, len(rows) // SAMPLES)][:SAMPLES], points)

    def along(self, k: int, rows: np.ndarray) -> np.ndarray:
        """Return the derivatives at one point along each row, as columns."""
        padded = np.concatenate([rows, np.zeros((-len(rows) % 16, rows.shape[1]))])  # few shapes, few programs
        found = _derivatives(self.network, jnp.asarray(self.inputs), jnp.asarray(self.points[k]), jnp.asarray(padded))
        return np.asarray(found)[: len(rows)].T


def _moves(way: str, theta: np.ndarray, places: Sequence[np.ndarray], i: int, j: int) -> np.ndarray:
    """Return the moves that a law may combine: for "mix" two a slice."""
    if way == "scale":
        return np.stack([move(theta, each, i, i) for each in places])
    if way == "turn":
        return np.stack([move(theta, each, i, j) - move(theta, each, j, i) for each in places])
    return np.stack([sign * move(theta, each, i, j, dual=sign < 0) for each in places for sign in (1.0, -1.0)])


def _laws(trials: _Trials, kind: str, way: str, places: tuple[np.ndarray, ...]) -> list[Law]:
    """Return the combinations of moves that leave the outputs alone, for one pair of units and then for another."""
    units, found = len(places[0]), list[Law]()
    pairs = [(0, 1), (1, 0), (units - 1, 0)][: len(trials.points)]
    tried = [trials.along(k, _moves(way, trials.points[k], places, *pair)) for k, pair in enumerate(pairs)]
    columns = max(tried, key=lambda each: len(_felt(each)))  # of a unit that is never on there is nothing to be learnt
    for row in _combinations(columns):
        law = _law(kind, way, places, row)
        if law is not None and any(law.mirrors(other) for other in found):
            continue
        others = [(units // 2, units // 2 - 1), (0, units - 1), (1, 0)][: len(trials.points)]
        if law is not None and all(_holds(trials, law, k, i, j) for k, (i, j) in enumerate(others)):
            found.append(law)
    return found


def _law(kind: str, way: str, places: tuple[np.ndarray, ...], row: np.ndarray) -> Law | None:
    """Return the law of one combination; None where it is none: one slice alone, or two moves of one slice."""
    if way != "mix":
        used = np.flatnonzero(row)
        equal = way == "scale" or bool((row[used] == row[used[0]]).all())
        return (
            Law(kind, way, tuple(places[k] for k in used), tuple(map(float, row[used])))
            if len(used) > 1 and equal
            else None
        )
    pairs = row.reshape(-1, 2)
    used = np.flatnonzero(pairs.any(axis=1))
    if len(used) < 2 or not (np.isin(pairs, (0.0, 1.0)).all() and (pairs[used].sum(axis=1) == 1.0).all()):
        return None
    return Law(kind, way, tuple(places[k] for k in used), tuple(1.0 if pairs[k, 0] else -1.0 for k in used))


def _combinations(columns: np.ndarray) -> np.ndarray:
    """Return a basis of the combinations of columns that vanish, in reduced echelon form, whole numbers as such.

    A column that vanishes by itself takes no part. Nothing is returned where a singular value is neither none nor some.
    """
    sizes, felt = np.linalg.norm(columns, axis=0), _felt(columns)
    if len(felt) == 0:
        return np.zeros((0, columns.shape[1]))
    _, values, vectors = np.linalg.svd(columns[:, felt] / sizes[felt], full_matrices=True)
    values = np.concatenate([values, np.zeros(len(felt) - len(values))])
    if ((values > NONE) & (values < SOME)).any():
        return np.zeros((0, columns.shape[1]))
    null = vectors[values <= NONE] / sizes[felt]
    found = np.zeros((len(null), columns.shape[1]))
    found[:, felt] = _echelon(null)
    return found


def _felt(columns: np.ndarray) -> np.ndarray:
    """Return which moves the outputs feel; none where something is not finite."""
    sizes = np.linalg.norm(columns, axis=0)
    return np.flatnonzero(sizes > NONE * sizes.max()) if np.isfinite(sizes).all() else np.zeros(0, int)


def _echelon(rows: np.ndarray) -> np.ndarray:
    """Return the reduced echelon form of independent rows."""
    rows = np.array(rows)
    done = 0
    for column in range(rows.shape[1]):
        if done == len(rows):
            break
        best = done + int(np.argmax(np.abs(rows[done:, column])))
        if np.abs(rows[best, column]) <= SOME * np.abs(rows[done:]).max():
            continue
        rows[[done, best]] = rows[[best, done]]
        rows[done] /= rows[done, column]
        others = np.arange(len(rows)) != done
        rows[others] -= np.outer(rows[others, column], rows[done])
        done += 1
    whole = np.round(rows)
    return np.where(np.abs(rows - whole) <= SOME, whole, rows)


def _holds(trials: _Trials, law: Law, k: int, i: int, j: int) -> bool:
    """Whether the outputs stand still along a law at one point, measured by how they move along its parts."""
    theta = trials.points[k]
    parts = _moves(law.way, theta, law.places, i, j)
    if law.way == "mix":
        parts = parts.reshape(len(law.places), 2, -1)[np.arange(len(law.places)), [int(f < 0) for f in law.factors]]
    else:
        parts = np.asarray(law.factors)[:, None] * parts
    columns = trials.along(k, parts)
    return bool(np.linalg.norm(columns.sum(axis=1)) <= NONE * np.linalg.norm(columns, axis=0).sum())


def mixing_claims(
    found: Sequence[Law], theta: Float[np.ndarray, " size"], *, turns: bool
) -> Mapping[str, Float[np.ndarray, "rows size"]]:
    """Return the directions of all laws at theta, by kind.

    Args:
        found: what `laws` returned.
        theta: all parameters.
        turns: only directions that keep the parameters' norm, for a loss with a penalty on it.
    """
    claims: dict[str, list[np.ndarray]] = {}
    for law in found:
        claims.setdefault(law.kind, []).append(law.rows(theta, turns=turns))
    return {kind: np.concatenate(rows) for kind, rows in claims.items()}
