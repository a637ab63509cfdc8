"""Interchangeable units as slices of parameter arrays: what comes in, what goes out, nothing about layer types.

A unit of a layer owns a block of entries along one axis of each of several arrays. Dense neurons, convolution channels,
batch-norm scales, feed-forward units of a transformer and attention heads are only longer tuples of slices.
"""

from dataclasses import dataclass

import numpy as np

from saddlescope.arrays import Layout, Parameters
from saddlescope.errors import NeuronsError


@dataclass(frozen=True)
class Slice:
    """Unit i owns entries ``start + i*block`` to ``start + (i+1)*block - 1`` along ``axis`` of the array ``name``.

    ``block`` > 1: a channel's columns behind a flattening, the rows of an attention head. ``start``: fused arrays.
    """

    name: str
    axis: int
    block: int = 1
    start: int = 0


@dataclass(frozen=True)
class Neurons:
    """The interchangeable units of one layer: their incoming and outgoing slices, in a fixed order.

    ``units`` must be given when an array holds more than the units (a fused array); otherwise it is derived.
    """

    incoming: tuple[Slice, ...]
    outgoing: tuple[Slice, ...]
    units: int | None = None

    def count(self, parameters: Parameters) -> int:
        """Return the number of units, on which all slices must agree.

        Raises:
            NeuronsError: a named array or axis is missing, or the slices disagree.
        """
        return self.count_in(Layout.of(parameters))

    def count_in(self, layout: Layout) -> int:
        """Return the number of units in arrays of this layout; see `count`.

        Raises:
            NeuronsError: a named array or axis is missing, or the slices disagree.
        """
        shapes = dict(zip(layout.names, layout.shapes, strict=True))
        counts: dict[str, int] = {}
        for piece in (*self.incoming, *self.outgoing):
            shape = shapes.get(piece.name)
            if shape is None or not -len(shape) <= piece.axis < len(shape):
                raise NeuronsError(
                    "a slice names an array or axis that the parameters do not have",
                    name="slice",
                    value=f"{piece.name} axis {piece.axis}",
                    expected=f"one of {shapes}",
                )
            room = shape[piece.axis] - piece.start
            fits = room // piece.block if self.units is None else self.units
            if piece.block < 1 or piece.start < 0 or fits < 1 or fits * piece.block > room:
                raise NeuronsError(
                    "a slice does not fit its array", name="slice", value=piece, expected=f"within {shape}"
                )
            if self.units is None and room % piece.block:
                raise NeuronsError(
                    "a block does not divide its axis", name="slice", value=piece, expected=f"a divisor of {room}"
                )
            counts[f"{piece.name} axis {piece.axis}"] = fits
        if len(set(counts.values())) != 1:
            raise NeuronsError(
                "the slices disagree on the number of units", name="counts", value=counts, expected="one number"
            )
        return next(iter(counts.values()))

    def _positions(self, layout: Layout, pieces: tuple[Slice, ...]) -> np.ndarray:
        count, offsets = self.count_in(layout), layout.offsets()
        shapes = dict(zip(layout.names, layout.shapes, strict=True))
        rows = []
        for piece in pieces:
            shape = shapes[piece.name]
            places = np.arange(int(np.prod(shape))).reshape(shape) + offsets[piece.name]
            first = np.moveaxis(places, piece.axis, 0)[piece.start : piece.start + count * piece.block]
            rows.append(first.reshape(count, -1))
        return np.concatenate(rows, axis=1) if rows else np.zeros((count, 0), dtype=int)

    def incoming_positions(self, layout: Layout) -> np.ndarray:
        """Return, (units, p), where each unit's incoming entries lie in the flattened parameters."""
        return self._positions(layout, self.incoming)

    def outgoing_positions(self, layout: Layout) -> np.ndarray:
        """Return, (units, q), where each unit's outgoing entries lie in the flattened parameters."""
        return self._positions(layout, self.outgoing)

    def _vectors(self, parameters: Parameters, pieces: tuple[Slice, ...]) -> np.ndarray:
        flat = np.concatenate([np.ravel(np.asarray(value)) for value in parameters.values()])
        return flat[self._positions(Layout.of(parameters), pieces)]

    def incoming_vectors(self, parameters: Parameters) -> np.ndarray:
        """Return the incoming vectors, one row per unit."""
        return self._vectors(parameters, self.incoming)

    def outgoing_vectors(self, parameters: Parameters) -> np.ndarray:
        """Return the outgoing vectors, one row per unit."""
        return self._vectors(parameters, self.outgoing)

    def check_pair(self, parameters: Parameters, l: int, m: int) -> None:
        """Refuse a pair that is not two different units of this layer, or units that cannot share what goes out.

        Raises:
            NeuronsError: a number out of range, l = m, no outgoing slices, or entries that come in and go out at once.
        """
        count = self.count(parameters)
        self._require_split(Layout.of(parameters))
        for neuron in (l, m):
            if not 0 <= neuron < count:
                raise NeuronsError(
                    "no such neuron in this layer", name="neuron", value=neuron, expected=f"0 to {count - 1}"
                )
        if l == m:
            raise NeuronsError("a pair needs two different neurons", name="pair", value=(l, m), expected="l != m")

    def _require_split(self, layout: Layout) -> None:
        """Refuse units that do not split into copies: a copy has the same incoming and a share of the outgoing entries.

        With tied weights (an autoencoder whose decoder is the encoder's transpose, a recurrent layer) an entry would
        have to be both.
        """
        incoming, outgoing = self.incoming_positions(layout), self.outgoing_positions(layout)
        if incoming.size == 0 or outgoing.size == 0:
            raise NeuronsError(
                "these units cannot be merged",
                name="slices",
                value=f"{len(self.incoming)} incoming, {len(self.outgoing)} outgoing",
                expected="at least one of each",
                advice="Weights that are tied (used for what comes in and for what goes out) are not supported",
            )
        shared = incoming.size + outgoing.size - len(np.union1d(incoming, outgoing))
        if shared > 0:
            raise NeuronsError(
                "the neurons share entries, so that their incoming and outgoing vectors cannot move apart",
                name="shared entries",
                value=shared,
                expected="0",
                advice="Tied weights, used for what comes in and for what goes out, are not supported",
            )
