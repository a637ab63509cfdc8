"""Sign twins: units of an odd activation whose vectors are each other's negatives, turned so that they are copies.

g(-z) = -g(z) makes (theta, a) and (-theta, -a) the same unit; g(-z) = c - g(z) does too, once c a has gone to the next
bias. Both maps are linear and invertible and leave the loss alone, so index and nullity stay (science notes, 9.8).
"""

from collections.abc import Mapping

import numpy as np

from saddlescope.arrays import Layout, Parameters
from saddlescope.critical.groups import InputUnits, incoming_in
from saddlescope.models.units import UnitFacts, Units

Turned = tuple[tuple[int, int], ...]
"""Units that were turned: (layer, unit)."""


def can_turn(facts: UnitFacts) -> bool:
    """Return whether units have a twin of the other sign, and what its constant sends has a place to go."""
    return facts.parity == "odd" or (facts.parity == "odd+constant" and bool(facts.absorbs))


def find_twins(
    parameters: Parameters, layers: Mapping[int, Units], *, close: float, units: InputUnits | None = None
) -> tuple[dict[str, np.ndarray], Turned]:
    """Turn every unit whose negative lies within ``close`` of an earlier unit, layer by layer.

    Returns:
        The parameters after it, and which units were turned.
    """
    found: list[tuple[int, int]] = []
    here = dict(parameters)
    for layer, neurons in layers.items():
        if not can_turn(neurons.facts):
            continue
        incoming = incoming_in(units, layer, neurons.incoming_vectors(here))
        reach = close * max(float(np.linalg.norm(incoming, axis=1).max()), 1e-300)
        kept: list[np.ndarray] = []
        for unit, vector in enumerate(incoming):
            same = any(np.linalg.norm(vector - other) <= reach for other in kept)
            if not same and any(np.linalg.norm(vector + other) <= reach for other in kept):
                here = turn(here, neurons, unit)
                found.append((layer, unit))
            elif not same:
                kept.append(vector)
    return here, tuple(found)


def turn(parameters: Parameters, neurons: Units, unit: int) -> dict[str, np.ndarray]:
    """Return the parameters with one unit turned; twice is the identity."""
    layout = Layout.of(parameters)
    theta = np.array(layout.flatten(parameters))
    outgoing = neurons.outgoing_positions(layout)[unit]
    if neurons.facts.parity == "odd+constant":  # g(z) = 1 - g(-z): the sigmoid
        start = layout.offsets()[neurons.facts.absorbs]
        theta[start : start + len(outgoing)] += theta[outgoing]
    theta[neurons.incoming_positions(layout)[unit]] *= -1.0
    theta[outgoing] *= -1.0
    return layout.unflatten_numpy(theta)
