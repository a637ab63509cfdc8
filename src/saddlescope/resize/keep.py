"""A rule takes out what the outputs do not need, and no more: each proposal is measured, and split until it fits.

A rule judges the vectors of one layer: what it calls zero or equal up to a tolerance may matter to the function (large
weights multiply small differences), and what is below its tolerance adds up. So the outputs decide.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from saddlescope.resize.reduction_rules import LayerFacts, Units
from saddlescope.resize.result import Refusal

Rule = Callable[[Units, LayerFacts, float], Units]

Loss = Callable[[Units], float]
"""What the outputs lose when the layer is as the state says, relative to their size; infinity if not finite."""


@dataclass(frozen=True, eq=False)
class Yardstick:
    """The outputs to keep, and what a change of each is measured against: its largest value on the data.

    ``rounding`` is the most by which the outputs, as computed, may differ from the exact ones, relative to their size:
    what is smaller than that cannot be measured.
    """

    wanted: Float[np.ndarray, "samples outputs"]
    sizes: Float[np.ndarray, " outputs"]
    zero: np.ndarray  # per output: it is zero but for rounding
    rounding: float

    @staticmethod
    def of(wanted: Float[np.ndarray, "samples outputs"], errors: Float[np.ndarray, " outputs"]) -> "Yardstick":
        """Return the yardstick; ``errors``: bounds of the rounding errors of each output."""
        sizes = np.abs(wanted).max(axis=0)
        zero = sizes <= errors
        unknown = np.where(errors > 0.0, np.inf, 0.0)  # of an output that is lost in rounding nothing can be measured
        shares = np.divide(errors, sizes, out=unknown, where=~zero)
        return Yardstick(wanted, np.where(zero, errors, sizes), zero, float(np.max(shares, initial=0.0)))

    def loss(self, outputs: Float[np.ndarray, "samples outputs"]) -> float:
        """Return the largest change of an output relative to its size; outputs that were zero must stay so."""
        if not np.isfinite(outputs).all():
            return float("inf")
        changes = np.abs(outputs - self.wanted).max(axis=0)
        at_zero = np.where(changes <= 2.0 * self.sizes, 0.0, np.inf)
        shares = np.divide(changes, self.sizes, out=np.zeros_like(changes), where=self.sizes > 0.0)
        return float(np.max(np.where(self.zero, at_zero, shares), initial=0.0))


def kept(rule: Rule, units: Units, facts: LayerFacts, tolerance: float, loss: Loss, allowed: float) -> Units:
    """Return the layer after a rule, without those of its removals by which the outputs would lose too much.

    Args:
        rule: takes out units that are not barred.
        units: the layer; ``barred`` as the rule left it when it was tried before.
        facts: what the rule may use.
        tolerance: up to which the rule calls vectors equal, or zero.
        loss: measures the outputs.
        allowed: the most that the outputs may lose, all removals so far together.
    """
    proposal = rule(units, facts, tolerance)
    gone = [number for number in units.numbers if number not in proposal.numbers]
    if not gone:
        return proposal
    lost = loss(proposal)
    if lost <= allowed:
        return proposal
    why = {removal.neuron: removal.why for removal in proposal.removed}
    if len(gone) == 1:
        return _refused(units, gone, why, lost)
    half = len(gone) // 2
    first = kept(rule, _barring(units, gone[half:]), facts, tolerance, loss, allowed)
    second = replace(first, barred=(first.barred - set(gone[half:])) | set(gone[:half]))
    after = kept(rule, second, facts, tolerance, loss, allowed)
    known = {refusal.neuron for refusal in after.refused}
    stuck = [number for number in gone if number in after.numbers and number not in known]
    return _refused(after, stuck, why, lost)


def _barring(units: Units, numbers: list[int]) -> Units:
    return replace(units, barred=units.barred | set(numbers))


def _refused(units: Units, numbers: list[int], why: dict[int, str], lost: float) -> Units:
    """Return the layer with these units barred, and the reason on record."""
    records = tuple(Refusal(layer=units.layer, neuron=number, why=why[number], loss=lost) for number in numbers)
    return replace(_barring(units, numbers), refused=(*units.refused, *records))
