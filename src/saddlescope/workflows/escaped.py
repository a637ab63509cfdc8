"""What growing along the loss finds: both offers for every new unit, which was taken, and the grown network."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from saddlescope.html_repr import card

NO_GAIN = "growing gains nothing to second order here"


@dataclass(frozen=True, kw_only=True, eq=False)
class Offer:
    """One way to grow a layer by a unit: a line along which the loss falls, with what it promises and what it gives.

    The loss along the line is offset + slope t + curvature t^2/2 + quartic t^4/24 to the order in which it is used.

    Attributes:
        family: "split": a unit is copied with half of its outgoing weights each, and the copies part along the lowest
            direction of its block, (t/sqrt(2)) v for one and -(t/sqrt(2)) v for the other; "birth": a new unit begins
            to send, -t g/|g|.
        source: the unit that is copied; None for a birth.
        incoming: of a split, the direction's incoming entries; of a birth, what feeds the new unit.
        outgoing: of a split, the direction's outgoing entries; of a birth, -g/|g|.
        offset: what growing alone adds to the loss, before any step: 0 without penalties.
        slope: 0 for a split, -|g| for a birth.
        curvature: second derivative of the loss along the line; of a split, the block's eigenvalue.
        quartic: fourth derivative of the loss along the line of a split; None for a birth.
        promise: how far the model falls at its minimum, the offset included: 3 curvature^2/(2 quartic) for a split,
            slope^2/(2 curvature) for a birth. Computed before any step is tried; None where the model has no minimum.
        step: t that a line search on the full loss chose.
        loss: the loss there, measured.
    """

    family: Literal["split", "birth"]
    source: int | None
    incoming: np.ndarray
    outgoing: np.ndarray
    offset: float
    slope: float
    curvature: float
    quartic: float | None
    promise: float | None
    step: float
    loss: float


@dataclass(frozen=True, kw_only=True, eq=False)
class GrownUnit:
    """One unit more in one layer. ``split`` or ``birth`` is None where nothing falls that way, to the order of it.

    Attributes:
        layer: number of the layer, from 1.
        name: its name.
        neuron: place of the new unit, from 0.
        taken: the family that reached the lower loss.
        split: the offer of a copy.
        birth: that of a new unit that sends nothing yet.
        loss_before: the loss without the unit.
        loss_after: with it, measured in the grown network; always below ``loss_before``.
    """

    layer: int
    name: str
    neuron: int
    taken: Literal["split", "birth"]
    split: Offer | None
    birth: Offer | None
    loss_before: float
    loss_after: float

    @property
    def offer(self) -> Offer:
        """The offer that was taken."""
        found = self.split if self.taken == "split" else self.birth
        assert found is not None
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Escape:
    """A network grown unit by unit, each along a line that lowers the loss.

    Attributes:
        network: the grown model.
        parameters: its parameters.
        widths: its widths; of models that are no chains, the number of units of each layer.
        grown: the new units in order.
        refused: by layer, why it did not reach the width that was asked for.
        loss_before: the loss at the start.
        loss_after: at the end.
        seed: of the births' random starts.
        fingerprints: of data and parameters at the start.
        seconds: wall time.
    """

    network: Any
    parameters: dict[str, np.ndarray]
    widths: tuple[int, ...]
    grown: tuple[GrownUnit, ...]
    refused: Mapping[int, str]
    loss_before: float
    loss_after: float
    seed: int
    fingerprints: Mapping[str, str]
    seconds: float

    @property
    def reached(self) -> bool:
        """Whether all widths that were asked for were reached."""
        return not self.refused

    def _repr_html_(self) -> str:
        """Return the summary that notebooks show."""
        facts: dict[str, object] = {"loss before": self.loss_before, "loss after": self.loss_after}
        for one in self.grown:
            facts[f"{one.name}, unit {one.neuron}"] = f"{one.taken}, loss {one.loss_after:.6g}"
        facts |= {f"layer {layer} stopped": why for layer, why in self.refused.items()}
        return card(f"grown by {len(self.grown)} units to {'-'.join(map(str, self.widths))}", facts)
