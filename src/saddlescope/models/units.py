"""Units and what is known of them: slices of trained arrays, and the facts that the verbs ask for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Array

from saddlescope.arrays import Layout, Parameters
from saddlescope.units.neurons import Neurons, Slice

Parity = Literal["odd", "odd+constant", "even+linear", "none"]
Kind = Literal["hidden units", "channels", "heads", "units within a head", "residual stream"]


@dataclass(frozen=True)
class UnitFacts:
    """What is known of the units of a layer.

    ``homogeneous``: the scale of each unit is open. ``parity``: "odd" if the sign of each unit is, "odd+constant" if
    it is once the array ``absorbs`` has taken the constant that the unit sends. ``moves_along``: slices of arrays that
    belong to a unit and are not trained. ``mergeable``: of units that are fed alike only the sum of what they send out
    matters. ``resizable``: units can be added and removed. ``kinked``: the activation's derivative jumps; None: not
    known. ``linear``: nothing bends between what feeds the units and what reads them.
    """

    name: str = ""
    homogeneous: bool = False
    parity: Parity = "none"
    moves_along: tuple[Slice, ...] = ()
    mergeable: bool = True
    resizable: bool = True
    kinked: bool | None = None
    linear: bool = False
    absorbs: str = ""


@dataclass(frozen=True)
class Units(Neurons):
    """The interchangeable units of a layer, with the facts about them."""

    facts: UnitFacts = field(default_factory=UnitFacts)


@dataclass(frozen=True)
class Symmetry:
    """A group of interchangeable units that was found in a model and tried.

    Attributes:
        layer: its number among the layers that paths can lead through, from 1; None where they cannot.
        name: the arrays' common name, unique in the model.
        units: how many there are.
        incoming: slices of trained arrays that feed the units.
        outgoing: slices of trained arrays that read them, linearly.
        moves_along: slices of arrays that are not trained (running statistics, frozen arrays).
        verified: whether every permutation that was tried left the outputs alone.
        deviation: the largest relative change of the outputs over the permutations tried.
        omission: the smallest relative change when the slices of one place are left out of a permutation;
            of a group with one place only, the change when its entries are shaken.
        kind: what the units are.
        mergeable: whether of units that are fed alike only the sum of what they send out matters.
        resizable: whether units can be added and removed.
        homogeneous: whether outputs stay when a unit's incoming slices grow and its outgoing ones shrink alike.
        odd: whether outputs stay when both change sign.
        fused: whether an array holds more than these units.
        reasons: why it is not mergeable or resizable, and what else was met.
        linear: whether nothing bends between what feeds the units and what reads them.
    """

    layer: int | None
    name: str
    units: int
    incoming: tuple[Slice, ...]
    outgoing: tuple[Slice, ...]
    moves_along: tuple[Slice, ...]
    verified: bool
    deviation: float
    omission: float
    kind: Kind
    mergeable: bool
    resizable: bool
    homogeneous: bool = False
    odd: bool = False
    fused: bool = False
    reasons: tuple[str, ...] = ()
    linear: bool = False

    @property
    def neurons(self) -> Units:
        """The units as every verb takes them."""
        facts = UnitFacts(
            self.name,
            self.homogeneous,
            "odd" if self.odd else "none",
            self.moves_along,
            self.mergeable,
            self.resizable,
            linear=self.linear,
        )
        return Units(self.incoming, self.outgoing, self.units if self.fused else None, facts)


@runtime_checkable
class Model(Protocol):
    """What every verb may ask of a model, and nothing else."""

    @property
    def layout(self) -> Layout:
        """Names and shapes of the trained arrays, in order."""
        ...

    @property
    def layers(self) -> Mapping[int, Units]:
        """The layers' units by number, from 1, in order of computation."""
        ...

    def apply(self, parameters: Parameters, inputs: Array) -> Array:
        """Return the outputs, a row for each sample."""
        ...

    def describe(self) -> Mapping[str, object]:
        """Return what a record needs to recognise the model."""
        ...
