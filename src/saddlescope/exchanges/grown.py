"""The network whose units are all doubled, with equal shares, for any model that reads shapes from its arrays.

Each swap of a unit with its copy leaves the network as it is and the point where it stands; so the Hessian commutes
with all swaps, and antisymmetric directions of different units, on which the swaps have different signs, do not mix.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from saddlescope.models.contract import unwrapped
from saddlescope.models.units import Units
from saddlescope.units.neurons import Slice


def grown_apply(model: Any, units: Units, count: int, copied: int, arrays: Mapping[str, Array], rows: Any) -> Any:
    """Return the outputs of a model with grown arrays; those of its fixed arrays that belong to units are copied too.

    Args:
        model: the model of the shapes before.
        units: the layer that grew.
        count: its number of units before.
        copied: how many of them, from the first on, have a copy.
        arrays: the trained arrays, grown.
        rows: inputs, as the model takes them.
    """
    own = unwrapped(model)
    if not hasattr(own, "fixed"):
        return model.apply(arrays, rows)
    pieces = units.facts.moves_along
    fixed = {name: _doubled(jnp.asarray(v), _of(name, pieces), count, copied) for name, v in own.fixed.items()}
    outputs = own.function({**arrays, **fixed}, *own.split(rows))
    return outputs.reshape(-1, 1) if outputs.ndim == 1 else outputs


def grown_arrays(
    arrays: Mapping[str, Array],
    units: Units,
    count: int,
    copied: int,
    steps: Mapping[str, Array] | None = None,
) -> dict[str, Array]:
    """Return the arrays with copies behind each place's units: outgoing entries shared equally, steps with both signs.

    Args:
        arrays: the trained arrays.
        units: the layer.
        count: its number of units.
        copied: how many of them, from the first on, get a copy.
        steps: what is added to the units and taken from their copies, in the shapes of the arrays; zero elsewhere.
    """
    places = (*units.incoming, *units.outgoing)
    grown = {}
    for name, value in arrays.items():
        shared = _halved(jnp.asarray(value), _of(name, units.outgoing), copied)
        pieces, step = _of(name, places), None if steps is None else steps[name]
        plus = shared if step is None else shared + step
        grown[name] = _doubled(plus, pieces, count, copied, None if step is None else shared - step)
    return grown


def _of(name: str, pieces: tuple[Slice, ...]) -> tuple[Slice, ...]:
    return tuple(piece for piece in pieces if piece.name == name)


def _halved(value: Array, pieces: tuple[Slice, ...], copied: int) -> Array:
    """Halve the entries of the units that have a copy."""
    for piece in pieces:
        first = jnp.moveaxis(value, piece.axis, 0)
        inside = jnp.arange(first.shape[0]) - piece.start
        mine = (inside >= 0) & (inside < copied * piece.block)
        factors = jnp.where(mine, 0.5, 1.0).reshape(-1, *[1] * (first.ndim - 1))
        value = jnp.moveaxis(first * factors, 0, piece.axis)
    return value


def _doubled(
    value: Array, pieces: tuple[Slice, ...], count: int, copied: int, twins: Array | None = None
) -> Float[Array, "..."]:
    """Put copies behind the units of each place, taken from ``twins`` where they differ."""
    source = value if twins is None else twins
    for piece in sorted(pieces, key=lambda piece: -piece.start):  # the last place first: earlier starts stay
        end = piece.start + count * piece.block
        first, second = (jnp.moveaxis(one, piece.axis, 0) for one in (value, source))
        copies = second[piece.start : piece.start + copied * piece.block]
        value = jnp.moveaxis(jnp.concatenate([first[:end], copies, first[end:]]), 0, piece.axis)
        whole = jnp.concatenate([second[:end], copies, second[end:]])
        source = jnp.moveaxis(whole, 0, piece.axis)
    return value
