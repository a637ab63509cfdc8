"""All rules on one layer of any model, each as far as the outputs stay; and the layer's state as parameters."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from saddlescope.arrays import Layout, Parameters, to_numpy
from saddlescope.errors import SettingsError
from saddlescope.resize.keep import Loss, Rule, Yardstick, kept
from saddlescope.resize.reduction_rules import (
    LayerFacts,
    Units,
    drop_constant,
    drop_silent,
    merge_combinations,
    merge_copies,
)
from saddlescope.resize.result import Removal
from saddlescope.resize.twins import merge_twins
from saddlescope.units.actions import remove
from saddlescope.units.neurons import Neurons

# What is equal, or zero, entry by entry goes first, then what is so up to rounding, so that near copies do not stand
# between exact ones.
EXACT = 1e-12

Step = tuple[float, Loss]
"""Up to which distance vectors are tried as equal, and what the outputs then lose, or may lose."""


def reduce_layer(
    parameters: Parameters,
    neurons: Neurons,
    *,
    outputs: Callable[[dict[str, np.ndarray]], Any] | None = None,
    layer: int = 1,
    tolerance: float = 1e-9,
) -> tuple[dict[str, np.ndarray], tuple[Removal, ...]]:
    """Take copies, zero-type groups and units that send out nothing out of one layer of any model.

    Nothing is asked of what the units compute, so that no symmetry of an activation is used.

    Args:
        parameters: the model's.
        neurons: the layer's units.
        outputs: the model's outputs on data, (samples, ...), for parameters of the given shapes. Without it only what
            is equal entry by entry goes, or zero but for the rounding of a sum.
        layer: the number that the records should say.
        tolerance: with ``outputs``: as in `reduce`.

    Raises:
        NeuronsError: units in a fused array are to be taken out.
        SettingsError: a tolerance outside 0 to 1 (exclusive).
    """
    check_tolerance(tolerance)
    own = to_numpy(parameters)
    numbers = tuple(range(neurons.count(own)))
    units = units_of(own, neurons, layer, numbers)
    if outputs is None:
        units = apply_rules(units, LayerFacts(), ((0.0, lambda _: 0.0),), tolerance)
    else:
        wanted = _rows(outputs(own))
        yardstick = Yardstick.of(wanted, np.zeros(wanted.shape[1]))

        def loss(state: Units) -> float:
            return yardstick.loss(_rows(outputs(written(own, neurons, state, erase=False))))

        units = apply_rules(units, LayerFacts(), steps_of(tolerance, yardstick, loss), tolerance)
    own = written(own, neurons, units, erase=False)
    for number in reversed(numbers):
        if number not in units.numbers:
            own = remove(own, neurons, number)
    return to_numpy(own), units.removed


def _rows(outputs: Any) -> np.ndarray:
    array = np.asarray(outputs, dtype=np.float64)
    return array.reshape(len(array), -1)


def check_tolerance(tolerance: float) -> None:
    """Refuse what is no tolerance.

    Raises:
        SettingsError: it is not between 0 and 1.
    """
    if not 0.0 < tolerance < 1.0:
        raise SettingsError("not a tolerance", name="tolerance", value=tolerance, expected="between 0 and 1")


def steps_of(tolerance: float, yardstick: Yardstick, loss: Loss) -> tuple[Step, ...]:
    """Return the steps in which vectors are tried as equal.

    What is equal entry by entry is exact, however the outputs round. Anything else may be hidden below their rounding,
    which therefore counts as lost.
    """

    def bound(units: Units) -> float:
        return loss(units) + yardstick.rounding

    return (0.0, loss), *((step, bound) for step in (EXACT, tolerance) if step <= tolerance)


def apply_rules(units: Units, facts: LayerFacts, steps: Sequence[Step], allowed: float) -> Units:
    """Return the layer after all rules, again and again until none takes anything out."""
    rules: tuple[Rule, ...] = (
        drop_silent,
        drop_constant,
        _drop_never_active,
        merge_copies,
        merge_twins,
        merge_combinations,
    )
    while True:
        before = len(units.numbers)
        units = replace(units, left=(), refused=())
        for step, loss in steps:
            for rule in rules:
                if len(units.numbers) > 1:
                    said = units.left
                    units = kept(rule, replace(units, barred=frozenset()), facts, step, loss, allowed)
                    units = replace(units, left=tuple(dict.fromkeys((*said, *units.left))))
        if len(units.numbers) == before:
            return replace(units, barred=frozenset())


def _drop_never_active(units: Units, facts: LayerFacts, tolerance: float) -> Units:
    """Take out rectified units that can never be active: no positive weight or bias, and inputs that are >= 0."""
    del tolerance
    if not (facts.rectifier and facts.nonnegative and facts.weights is not None):
        return units
    dead = np.flatnonzero((units.incoming <= 0.0).all(axis=1) & units.allowed)
    return units.without({int(j): units.removal(int(j), "dead for every input") for j in dead})


def units_of(parameters: dict[str, np.ndarray], neurons: Neurons, layer: int, numbers: tuple[int, ...]) -> Units:
    """Return the state of a layer of which only some units are left."""
    incoming, outgoing = neurons.incoming_vectors(parameters), neurons.outgoing_vectors(parameters)
    rows = list(numbers)
    return Units(layer, incoming[rows], outgoing[rows], numbers, np.zeros(outgoing.shape[1]))


def written(
    parameters: dict[str, np.ndarray],
    neurons: Neurons,
    units: Units,
    *,
    next_bias: str | None = None,
    erase: bool = True,
) -> dict[str, np.ndarray]:
    """Return the parameters, of the same shapes, with the layer's units as the state says; others send out nothing.

    ``erase``: the incoming entries of units that are gone become zero too, so that no layer below counts them.
    """
    layout = Layout.of(parameters)
    flat = np.concatenate([np.ravel(value) for value in parameters.values()])
    incoming, outgoing = neurons.incoming_positions(layout), neurons.outgoing_positions(layout)
    gone = [unit for unit in range(len(incoming)) if unit not in set(units.numbers)]
    flat[outgoing[gone]] = 0.0
    if erase:
        flat[incoming[gone]] = 0.0
    flat[incoming[list(units.numbers)]] = units.incoming
    flat[outgoing[list(units.numbers)]] = units.outgoing
    result = layout.unflatten_numpy(flat)
    if next_bias is not None and units.constant.any():
        result[next_bias] = result[next_bias] + units.constant
    return to_numpy(result)
