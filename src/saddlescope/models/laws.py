"""What is true of a group of units, decided by trying: no rule about kinds of layers, only outputs before and after.

Everything is tried at arrays that were scattered at random, so that nothing seems to hold only because all scales are 1
or all biases 0. A change of the outputs below `SAME` of their size is none; one beyond `OTHER` is one; between the two
nothing is claimed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from saddlescope.models.tracing import Place

SAME, OTHER = 1e-10, 1e-8
TRIES, PAIRS, MOST_UNITS = 3, 4, 64
Arrays = Mapping[str, Any]


@dataclass(frozen=True)
class Trial:
    """A compiled function of all arrays with its data, the arrays, and its outputs there."""

    function: Callable[[Arrays, tuple[Any, ...]], Any]
    inputs: tuple[Any, ...]
    arrays: Arrays
    outputs: np.ndarray

    @staticmethod
    def of(function: Callable[..., Any], inputs: tuple[Any, ...], arrays: Arrays) -> "Trial":
        """Compile and run once."""
        compiled = jax.jit(lambda given, data: function(given, *data))
        held = {name: jax.numpy.asarray(value) for name, value in arrays.items()}
        data = tuple(jax.numpy.asarray(value) for value in inputs)
        return Trial(compiled, data, held, np.asarray(compiled(held, data)))

    def with_inputs(self, inputs: tuple[Any, ...]) -> "Trial":
        """Return the same with other inputs of equal shape."""
        data = tuple(jax.numpy.asarray(value) for value in inputs)
        return Trial(self.function, data, self.arrays, np.asarray(self.function(self.arrays, data)))

    def at(self, arrays: Arrays) -> "Trial":
        """Return the same at other arrays."""
        held = {name: jax.numpy.asarray(value) for name, value in arrays.items()}
        return Trial(self.function, self.inputs, held, np.asarray(self.function(held, self.inputs)))

    def change(self, changed: Arrays) -> float:
        """Return the largest change of the outputs, relative to the largest output, when some arrays are replaced."""
        there = np.asarray(self.function({**self.arrays, **changed}, self.inputs))
        largest = float(np.abs(self.outputs).max())
        change = float(np.abs(there - self.outputs).max())
        if not np.isfinite(change):
            return np.inf
        return change / largest if largest > 0 else change


def scattered(arrays: Arrays, seed: int = 0) -> dict[str, np.ndarray]:
    """Return the float arrays multiplied by random factors, and noise added where an array has both signs or is 0.

    An array without negative entries, such as variances, keeps its sign.
    """
    generator, result = np.random.default_rng(seed), {}
    for name, value in arrays.items():
        array = np.asarray(value)
        if array.dtype.kind == "f" and array.size:
            level = float(np.sqrt(np.mean(np.square(array)))) or 0.3
            factor = generator.uniform(0.6, 1.4, array.shape)
            noise = 0.0 if array.min() >= 0 and array.max() > 0 else 0.3 * level
            array = array * factor + noise * generator.standard_normal(array.shape)
        result[name] = array
    return result


def shuffled(inputs: Sequence[Any], seed: int) -> tuple[np.ndarray, ...]:
    """Return inputs of the same shapes: the entries of each sample in another order, floats scaled at random, too."""
    generator, result = np.random.default_rng([seed, 3]), []
    for value in inputs:
        rows = np.array(value)
        flat = generator.permuted(rows.reshape(len(rows), -1), axis=1) if rows.ndim > 1 else rows[:, None]
        flat = flat * generator.uniform(0.5, 1.5, flat.shape) if rows.dtype.kind == "f" else flat
        result.append(flat.reshape(rows.shape))
    return tuple(result)


def _blocks(arrays: Arrays, place: Place, units: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a copy of the array, and its part (before, units, after, ...) that belongs to the units, as a view."""
    whole = np.array(arrays[place.name])
    front = np.moveaxis(whole, place.axis, 0)
    span = front[place.start : place.start + place.before * units * place.after]
    return whole, np.lib.stride_tricks.as_strided(
        span,
        (place.before, units, place.after, *span.shape[1:]),
        (span.strides[0] * units * place.after, span.strides[0] * place.after, *span.strides),
    )


def changed(
    arrays: Arrays, units: int, places: Sequence[Place], change: Callable[[np.ndarray, Place], None]
) -> dict[str, np.ndarray]:
    """Return the arrays of these places after ``change(part, place)`` wrote into each part (before, units, ...)."""
    result: dict[str, np.ndarray] = {}
    for place in places:
        whole, part = _blocks({**arrays, **result}, place, units)
        change(part, place)
        result[place.name] = whole
    return result


def permuted(arrays: Arrays, units: int, places: Sequence[Place], order: np.ndarray) -> dict[str, np.ndarray]:
    """Return the changed arrays after one permutation of the units at these places."""

    def move(part: np.ndarray, _: Place) -> None:
        part[...] = part[:, order].copy()

    return changed(arrays, units, places, move)


def derangement(units: int, generator: np.random.Generator) -> np.ndarray:
    """Return a random permutation that leaves no unit where it is."""
    around = generator.permutation(units)
    order = np.empty(units, dtype=int)
    order[around] = np.roll(around, 1)
    return order


@dataclass(frozen=True)
class Exchange:
    """How the outputs answer to permutations: all places together, and without one of them."""

    deviation: float
    omission: float
    idle: tuple[Place, ...]

    @property
    def verified(self) -> bool:
        """Whether permutations change nothing, and every place is needed for that."""
        return self.deviation <= SAME and self.omission >= OTHER


def exchange(trials: Sequence[Trial], units: int, places: Sequence[Place], seed: int = 0) -> Exchange:
    """Permute the units at random; the last trial is the one at scattered arrays, where omissions are measured.

    A place whose entries the outputs do not feel at all (the bias of an attention's keys) is idle: it moves along,
    and leaving it out proves nothing.
    """
    generator, deviation, scatter = np.random.default_rng(seed), 0.0, trials[-1]
    for trial in trials:
        for _ in range(TRIES):
            order = derangement(units, generator)
            deviation = max(deviation, trial.change(permuted(trial.arrays, units, places, order)))
    if deviation > SAME:
        return Exchange(deviation, 0.0, ())
    if len(places) == 1:  # without it nothing is moved at all: that it is felt must do
        return Exchange(deviation, _felt_by(scatter, units, places[0]), ())
    order, without = derangement(units, generator), {}
    for place in places:
        rest = [other for other in places if other != place]
        without[place] = scatter.change(permuted(scatter.arrays, units, rest, order))
    idle = tuple(p for p, gap in without.items() if gap < OTHER and _felt_by(scatter, units, p) <= SAME)
    felt = [gap for place, gap in without.items() if place not in idle]
    return Exchange(deviation, min(felt, default=0.0), idle)


def _felt_by(trial: Trial, units: int, place: Place) -> float:
    """Return how much the outputs change when a place's entries are shaken."""
    generator = np.random.default_rng(1)

    def shake(part: np.ndarray, _: Place) -> None:
        part += generator.standard_normal(part.shape) * (np.abs(part).mean() + 0.1)

    return trial.change(changed(trial.arrays, units, [place], shake))


@dataclass(frozen=True)
class Roles:
    """Which places feed the units, which read them, and the laws that hold between the two."""

    incoming: tuple[Place, ...]
    outgoing: tuple[Place, ...]
    separate: bool = False
    homogeneous: bool = False
    odd: bool = False
    linear: bool = False


@dataclass(frozen=True)
class _Pair:
    """Two units of a group at scattered arrays, both felt by the outputs, on which laws are tried."""

    trial: Trial
    units: int
    l: int
    m: int

    def copied(self, arrays: Arrays, places: Sequence[Place]) -> dict[str, np.ndarray]:
        """Let m be fed as l is."""

        def copy(part: np.ndarray, _: Place) -> None:
            part[:, self.m] = part[:, self.l]

        return changed(arrays, self.units, places, copy)

    def moved(self, places: Sequence[Place], change: Callable[[np.ndarray], None], arrays: Arrays | None = None) -> Any:
        """Return all arrays after a change of some places."""
        arrays = self.trial.arrays if arrays is None else arrays
        return {**arrays, **changed(arrays, self.units, places, lambda part, _: change(part))}


def roles(
    trials: Sequence[Trial], units: int, places: Sequence[Place], fixed: Sequence[Place], idle: Sequence[Place] = ()
) -> Roles:
    """Divide the places into incoming and outgoing ones.

    Places are outgoing if, with all others of two units equal, only the sums of what they hold for the two matter. The
    set is grown from the place that is used last: of two factors of a product only the later one reads. Each law must
    hold for a pair of units in every trial: one unit alone may happen to be silent, or linear on a few samples.
    """
    last = next(place for place in reversed(places) if place not in idle)
    tried = [_felt(trial, units, last, seed) for seed, trial in enumerate(trials)]
    pairs = [pair for pair in tried if pair is not None]
    if len(pairs) < len(trials):
        return Roles(tuple(places), ())
    outgoing: list[Place] = []
    for place in reversed(places):
        others = [other for other in places if other not in (place, *outgoing)]
        if place not in fixed and others and all(_only_sums(pair, others, [place, *outgoing]) for pair in pairs):
            outgoing.insert(0, place)
    incoming = [place for place in places if place not in outgoing]
    if not outgoing or not incoming:
        return Roles(tuple(incoming), tuple(outgoing))
    trained = [place for place in incoming if place not in fixed]
    return Roles(
        tuple(incoming),
        tuple(outgoing),
        all(_separate(pair, incoming, outgoing) for pair in pairs),
        bool(trained) and all(_scaled(pair, trained, outgoing, s) for pair in pairs for s in (0.4, 3.0)),
        bool(trained) and all(_scaled(pair, trained, outgoing, -1.0) for pair in pairs),
        bool(trained) and all(_mixed(pair, trained, outgoing) for pair in pairs),
    )


def _felt(trial: Trial, units: int, last: Place, seed: int) -> _Pair | None:
    """Return two units of which the outputs feel both, where they are used last; None if hardly any is felt."""
    felt: list[int] = []
    for unit in np.random.default_rng([seed, 5]).permutation(units)[:MOST_UNITS]:

        def grow(part: np.ndarray, _: Place, unit: int = int(unit)) -> None:
            part[:, unit] *= 1.01

        if trial.change(changed(trial.arrays, units, [last], grow)) >= 10 * SAME:
            felt.append(int(unit))
        if len(felt) == 2:
            return _Pair(trial, units, *felt)
    return None


def _only_sums(pair: _Pair, others: Sequence[Place], outgoing: Sequence[Place]) -> bool:
    generator = np.random.default_rng(2)

    def shift(part: np.ndarray) -> None:
        share = generator.standard_normal(part[:, pair.l].shape) * (np.abs(part).mean() + 0.1)
        part[:, pair.l] += share
        part[:, pair.m] -= share

    equal = pair.trial.at({**pair.trial.arrays, **pair.copied(pair.trial.arrays, others)})
    shifted = pair.moved(outgoing, shift, equal.arrays)
    return equal.change({**shifted, **pair.copied(shifted, others)}) <= SAME


def _separate(pair: _Pair, incoming: Sequence[Place], outgoing: Sequence[Place]) -> bool:
    """Whether a unit that nobody reads may be fed anything, without a change of what the others do."""

    def silence(part: np.ndarray) -> None:
        part[:, pair.m] = 0.0

    def shake(part: np.ndarray) -> None:
        part[:, pair.m] *= 1.7

    quiet = pair.trial.at(pair.moved(outgoing, silence))
    return quiet.change(pair.moved(incoming, shake, quiet.arrays)) <= SAME


def _scaled(pair: _Pair, incoming: Sequence[Place], outgoing: Sequence[Place], factor: float) -> bool:
    """Whether a factor of all that feeds a unit is undone by its inverse behind it."""

    def grow(part: np.ndarray) -> None:
        part[:, pair.l] *= factor

    def shrink(part: np.ndarray) -> None:
        part[:, pair.l] /= factor

    return pair.trial.change(pair.moved(outgoing, shrink, pair.moved(incoming, grow))) <= SAME


def _mixed(pair: _Pair, incoming: Sequence[Place], outgoing: Sequence[Place]) -> bool:
    """Whether mixing two units by an invertible matrix can be undone behind them: nothing bends between the two."""
    matrix, two = np.array([[1.0, 0.5], [-0.3, 0.9]]), [pair.l, pair.m]

    def by(m: np.ndarray) -> Callable[[np.ndarray], None]:
        def mix(part: np.ndarray) -> None:
            part[:, two] = np.einsum("ij,bj...->bi...", m, part[:, two])

        return mix

    mixed = pair.moved(outgoing, by(np.linalg.inv(matrix).T), pair.moved(incoming, by(matrix)))
    return pair.trial.change(mixed) <= SAME
