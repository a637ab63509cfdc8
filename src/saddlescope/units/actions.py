"""What can be done to interchangeable units without asking what kind of layer they are in: pure functions.

swap and permute leave the network's function alone; split then merge returns; remove is the only one that loses
something.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from saddlescope.arrays import Parameters
from saddlescope.errors import NeuronsError, SettingsError
from saddlescope.units.neurons import Neurons, Slice


def _namespace(value: object) -> object:
    return jnp if isinstance(value, jax.Array) else np


def _entries(piece: Slice, units: Sequence[int]) -> np.ndarray:
    """Return the indices along the slice's axis that the units own, unit after unit."""
    return np.concatenate([piece.start + unit * piece.block + np.arange(piece.block) for unit in units])


def _arrange(parameters: Parameters, neurons: Neurons, order: Sequence[int]) -> dict:
    """Return the parameters whose i-th unit is the old unit order[i]; the number of units may change."""
    count = neurons.count(parameters)
    pieces = (*neurons.incoming, *neurons.outgoing)
    places = [(piece.name, piece.axis) for piece in pieces]
    if len(order) != count and (neurons.units is not None or len(set(places)) < len(places)):
        raise NeuronsError(
            "units of a fused array cannot be added or removed",
            name="slices",
            value=sorted(set(places)),
            expected="one slice for each array, and no fixed number of units",
            advice="Cut the fused array into one array for each slice first",
        )
    result = dict(parameters)
    for piece in pieces:
        value = result[piece.name]
        length = np.shape(value)[piece.axis]
        before, after = np.arange(piece.start), np.arange(piece.start + count * piece.block, length)
        index = np.concatenate([before, _entries(piece, order), after]).astype(int)
        result[piece.name] = _namespace(value).take(value, index, axis=piece.axis)  # type: ignore[attr-defined]
    return result


def _scale_outgoing(parameters: Parameters, neurons: Neurons, factors: Sequence[float]) -> dict:
    """Return the parameters with each unit's outgoing entries multiplied by its factor."""
    result = dict(parameters)
    for piece in neurons.outgoing:
        value = result[piece.name]
        scale = np.ones(np.shape(value)[piece.axis])
        for unit, factor in enumerate(factors):
            scale[_entries(piece, [unit])] = factor
        shape = [1] * np.ndim(value)
        shape[piece.axis] = -1
        result[piece.name] = value * np.asarray(scale.reshape(shape), dtype=value.dtype)
    return result


def permute(parameters: Parameters, neurons: Neurons, order: Sequence[int]) -> dict:
    """Return the parameters with unit i replaced by the old unit order[i]; the network's function stays.

    Raises:
        NeuronsError: ``order`` is not a permutation of all units.
    """
    count = neurons.count(parameters)
    if sorted(int(i) for i in order) != list(range(count)):
        raise NeuronsError(
            "not a permutation of the units", name="order", value=list(order), expected=f"0 to {count - 1}, each once"
        )
    return _arrange(parameters, neurons, [int(i) for i in order])


def swap(parameters: Parameters, neurons: Neurons, l: int, m: int) -> dict:
    """Exchange units l and m; the network's function stays ([B19] section 2).

    Raises:
        NeuronsError: a number out of range, or l = m.
    """
    neurons.check_pair(parameters, l, m)
    order = list(range(neurons.count(parameters)))
    order[l], order[m] = m, l
    return _arrange(parameters, neurons, order)


def remove(parameters: Parameters, neurons: Neurons, unit: int) -> dict:
    """Return the parameters without one unit.

    Raises:
        NeuronsError: no such unit, it is the last one, or its array is fused with others.
    """
    count = neurons.count(parameters)
    if not 0 <= unit < count or count == 1:
        raise NeuronsError(
            "this unit cannot be removed", name="unit", value=unit, expected=f"0 to {count - 1}, of at least 2 units"
        )
    return _arrange(parameters, neurons, [i for i in range(count) if i != unit])


def split(parameters: Parameters, neurons: Neurons, unit: int, shares: Sequence[float] = (0.5, 0.5)) -> dict:
    """Copy a unit; copy j sends out ``shares[j]`` times what it sent. The network's function stays.

    The first copy keeps its place, the others are appended.

    Raises:
        NeuronsError: no such unit, or its array is fused with others.
        SettingsError: the shares do not sum to 1.

    Source: [FA00]; [S21] section 3.
    """
    count = neurons.count(parameters)
    if not 0 <= unit < count:
        raise NeuronsError("no such neuron in this layer", name="unit", value=unit, expected=f"0 to {count - 1}")
    if len(shares) == 0 or abs(sum(shares) - 1.0) > 1e-12 * max(1.0, *(abs(share) for share in shares)):
        raise SettingsError(
            "the shares must sum to 1", name="shares", value=tuple(shares), expected=f"sum 1, not {sum(shares)}"
        )
    wide = _arrange(parameters, neurons, [*range(count), *[unit] * (len(shares) - 1)])
    factors = [1.0] * (count + len(shares) - 1)
    factors[unit] = shares[0]
    factors[count:] = list(shares[1:])
    return _scale_outgoing(wide, neurons, factors)


def _combine(parameters: Parameters, neurons: Neurons, l: int, m: int) -> dict:
    """Return the parameters with unit l holding the mean of incoming and the sum of outgoing entries of l and m."""
    result = dict(parameters)
    for pieces, weight in ((neurons.incoming, 0.5), (neurons.outgoing, 1.0)):
        for piece in pieces:
            value = result[piece.name]
            space = _namespace(value)
            ours, theirs = (space.take(value, _entries(piece, [i]), axis=piece.axis) for i in (l, m))  # type: ignore[attr-defined]
            index = [slice(None)] * np.ndim(value)
            index[piece.axis] = _entries(piece, [l])  # type: ignore[call-overload]
            if space is np:
                value = np.array(value)
                value[tuple(index)] = weight * (ours + theirs)
            else:
                value = value.at[tuple(index)].set(weight * (ours + theirs))
            result[piece.name] = value
    return result


def merge(parameters: Parameters, neurons: Neurons, l: int, m: int) -> dict:
    """Merge two units: incoming entries are averaged, outgoing ones summed; the merged unit stands at min(l, m).

    For units that coincide the network's function stays; otherwise it changes.

    Raises:
        NeuronsError: a number out of range, or l = m.
    """
    neurons.check_pair(parameters, l, m)
    l, m = min(l, m), max(l, m)
    return remove(_combine(parameters, neurons, l, m), neurons, m)


def lift(reduced: Parameters, neurons: Neurons, l: int, m: int, shares: tuple[float, float] = (0.5, 0.5)) -> dict:
    """Undo `merge` for units that coincided: split unit min(l, m) and put the copy at max(l, m).

    Raises:
        NeuronsError: a number out of range, or l = m.
        SettingsError: the shares do not sum to 1.
    """
    l, m = min(l, m), max(l, m)
    wide = split(reduced, neurons, l, shares)
    count = neurons.count(wide)
    neurons.check_pair(wide, l, m)
    order = list(range(count - 1))
    order.insert(m, count - 1)
    return _arrange(wide, neurons, order)
