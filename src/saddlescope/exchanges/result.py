"""What the exchange analysis says of the units of a layer, as frozen records of arrays over units."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from saddlescope.html_repr import card


@dataclass(frozen=True, kw_only=True)
class ExchangeSettings:
    """How the lowest eigenvalues are computed.

    Attributes:
        way: "cut" takes products in the network's own shapes, "grown" in the network whose units are all doubled;
            "auto" is the first, and the second where the computation cannot be cut.
        dense: blocks of up to so many entries are formed, where all of a layer's together take at most 32 MB.
        steps: most iterations for larger ones.
        tolerance: largest residual of an eigenvector there, as a share of its block's size.
        seed: of the random starts.
        costs: whether costs of dropping and merging units are computed, too, where one dense layer reads them.
        most: largest held-out cost at which a unit is called one to drop or to merge.
    """

    way: str = "auto"
    dense: int = 128
    steps: int = 400
    tolerance: float = 1e-6
    seed: int = 0
    costs: bool = True
    most: float = 0.01


@dataclass(frozen=True, kw_only=True, eq=False)
class UnitCosts:
    """What it costs to drop a unit, or to merge it with another, all outgoing weights of the layer being refitted.

    Costs are mean squared changes of what the layer sends, as shares of its variance; arrays over units. They are of
    one change at a time, and of the layer alone: **not of the loss**. Weights are fitted on the first half of the
    samples; ``_held_out`` is the cost on the second.

    Attributes:
        drop: cost of dropping the unit, on the samples that the weights were fitted to.
        drop_held_out: the same on the others.
        partner: the unit to merge it with, the best that was tried; -1 where there is none.
        mix: share of the unit's own incoming entries in the merged unit, the rest being its partner's.
        merge: cost of this merge.
        merge_held_out: the same on the others.
        verdict: "drop" or "merge", whichever costs less held out, where that is at most `ExchangeSettings.most`; else
            "keep".
        bias: the trained array that is added to what the units send, and refitted too; None where there is none.
        rows: rows that the weights were fitted to, and held-out ones.
    """

    drop: np.ndarray
    drop_held_out: np.ndarray
    partner: np.ndarray
    mix: np.ndarray
    merge: np.ndarray
    merge_held_out: np.ndarray
    verdict: tuple[str, ...]
    bias: str | None
    rows: tuple[int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerExchange:
    """What becomes of each unit of a layer when it is copied with equal shares, to second order; arrays over units.

    The coordinates of a copy are the entries of one twin minus those of the other, divided by sqrt(2).

    Attributes:
        layer: number of the layer, from 1.
        name: its name.
        lowest: smallest eigenvalue of the block; NaN where it is not finite.
        residual: bound on the distance of ``lowest`` to an eigenvalue: the eigenvector's residual and rounding.
        scale: largest |eigenvalue| of the block; in iterations the largest that was met.
        unstable: True where the block has an eigenvalue below 0, False where it has none, None where that is not
            decided.
        incoming: (units, p), the eigenvector's incoming entries, in the order of the layer's slices.
        outgoing: (units, q), its outgoing entries; both together have length 1.
        method: "dense" or "iterative".
        way: "cut" or "grown", see `ExchangeSettings`.
        steps: iterations done.
        kinked: whether the activation's derivative jumps (the second derivatives are those between kinks); None where
            that is not known.
        notes: what limits the answer, in words.
        costs: of dropping and merging units; None where they were not asked for, or cannot be had (see ``notes``).
    """

    layer: int
    name: str
    lowest: np.ndarray
    residual: np.ndarray
    scale: np.ndarray
    unstable: tuple[bool | None, ...]
    incoming: np.ndarray
    outgoing: np.ndarray
    method: str
    way: str
    steps: int
    kinked: bool | None
    notes: tuple[str, ...] = ()
    costs: UnitCosts | None = None

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.lowest)

    @property
    def order(self) -> tuple[int, ...]:
        """The units from the most unstable one on; those without a number last."""
        return tuple(np.argsort(self.lowest, kind="stable").tolist())

    def direction(self, unit: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the lowest direction of a unit: its incoming and its outgoing entries.

        Raises:
            IndexError: no such unit.
        """
        return self.incoming[unit], self.outgoing[unit]


@dataclass(frozen=True, kw_only=True, eq=False)
class Exchange:
    """The exchange analysis of the layers that were asked for.

    Attributes:
        layers: by number, in order.
        skipped: by number, why a layer is left out, where all were asked for.
        loss: the loss at the parameters.
        gradient_norm: the norm of its gradient; the blocks are exact whatever it is.
        settings: what was asked.
        fingerprints: of data and parameters.
        seconds: wall time.
    """

    layers: Mapping[int, LayerExchange]
    skipped: Mapping[int, str]
    loss: float
    gradient_norm: float
    settings: ExchangeSettings
    fingerprints: Mapping[str, str]
    seconds: float

    def __getitem__(self, layer: int | str) -> LayerExchange:
        """Return a layer by number or name.

        Raises:
            KeyError: it was not asked for.
        """
        for number, found in self.layers.items():
            if layer in (number, found.name):
                return found
        raise KeyError(layer)

    def _repr_html_(self) -> str:
        """Return the summary that notebooks show."""
        facts: dict[str, object] = {"loss": self.loss, "gradient norm": self.gradient_norm}
        for found in self.layers.values():
            few = ", ".join(f"{unit} ({found.lowest[unit]:.3g})" for unit in found.order[:5])
            facts[f"{found.name}, most unstable units"] = few
        total = sum(found.units for found in self.layers.values())
        count = sum(sign is True for found in self.layers.values() for sign in found.unstable)
        return card(f"{count} of {total} units are unstable when copied", facts)
