"""Take out of any model the units that its outputs do not need: copies, zero-type groups, what sends out nothing.

Nothing is asked of what the units compute; the layers' own laws (sign twins, multiples) are used for dense layers only.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from saddlescope.arrays import Parameters, fingerprint, require_finite, to_numpy
from saddlescope.models.contract import exchangeable_layers, unwrapped
from saddlescope.models.sizes import layer_sizes, with_units
from saddlescope.resize.expand import outputs_of
from saddlescope.resize.keep import Yardstick
from saddlescope.resize.one_layer import EXACT, reduce_layer
from saddlescope.resize.result import Reduction, Removal

# Shares of the tolerance that a layer may lose; at 0 only what changes nothing goes.
SHARES = (1.0, 0.1, 0.0)


def reduce_model(model: Any, parameters: Parameters, inputs: np.ndarray, *, tolerance: float) -> Reduction:
    """Return a model without the units that its outputs on the data do not need, layer by layer until none goes.

    Layers whose number of units cannot change (heads, units under a norm, fused arrays) are left as they are, and
    ``left`` names them.

    Raises:
        ShapeError: parameters or inputs that do not fit.
        NonFiniteError: a parameter or an output that is not finite.
        SettingsError: code that has its number of units built in.
    """
    model.check(parameters)
    require_finite(parameters, "the network")
    given = to_numpy(parameters)
    wanted = outputs_of(model, given, inputs)
    yardstick = Yardstick.of(_rows(wanted), np.zeros(_rows(wanted).shape[1]))
    for share in SHARES:  # what the layers lose adds up
        found = _all_layers(model, given, inputs, share * tolerance if share else None)
        outputs = outputs_of(found.model, found.parameters, inputs)
        if yardstick.loss(_rows(outputs)) <= tolerance:
            break
    else:
        found, outputs = _Found(model, given, _numbers(model, given), ()), wanted
    return Reduction(
        network=unwrapped(found.model),
        parameters=found.parameters,
        widths=layer_sizes(found.model),
        removed=found.removed,
        kept={layer: tuple(numbers) for layer, numbers in found.numbers.items()},
        left=tuple(
            f"layer {k} ({units.facts.name}): its number of units cannot change"
            for k, units in model.layers.items()
            if not units.facts.resizable
        ),
        nearest={},
        refused=(),
        undecided=False,
        output_loss=yardstick.loss(_rows(outputs)),
        max_output_deviation=float(np.abs(outputs - wanted).max()),
        output_scale=float(np.abs(wanted).max()),
        tolerance=tolerance,
        fingerprints={"parameters": fingerprint(given), "inputs": fingerprint({"inputs": inputs})},
    )


@dataclass(frozen=True, eq=False)
class _Found:
    """What is left: the model, its parameters, the old numbers of the units of each layer, and what went."""

    model: Any
    parameters: dict[str, np.ndarray]
    numbers: dict[int, list[int]]
    removed: tuple[Removal, ...]


def _numbers(model: Any, parameters: Parameters) -> dict[int, list[int]]:
    return {k: list(range(units.count(parameters))) for k, units in exchangeable_layers(model).items()}


def _all_layers(model: Any, parameters: dict[str, np.ndarray], inputs: np.ndarray, tolerance: float | None) -> _Found:
    """Return what is left when each layer may lose the tolerance; None: only what is equal, or zero, entry by entry."""
    numbers, removed, again = _numbers(model, parameters), list[Removal](), True
    while again:
        again = False
        for layer in reversed([k for k in numbers if model.layers[k].facts.resizable]):

            def outputs(at: dict[str, np.ndarray], now: Any = model) -> np.ndarray:
                return outputs_of(now, at, inputs)

            small, gone = reduce_layer(
                parameters,
                model.neurons(layer),
                outputs=None if tolerance is None else outputs,
                layer=layer,
                tolerance=tolerance or EXACT,
            )
            if gone:
                old = numbers[layer]
                again, model, parameters = True, with_units(model, {layer: len(old) - len(gone)}), small
                lost = {one.neuron for one in gone}
                removed += [
                    replace(one, neuron=old[one.neuron], into=None if one.into is None else old[one.into])
                    for one in gone
                ]
                numbers[layer] = [number for k, number in enumerate(old) if k not in lost]
    return _Found(model, parameters, numbers, tuple(removed))


def _rows(outputs: np.ndarray) -> np.ndarray:
    return outputs.reshape(len(outputs), -1)
