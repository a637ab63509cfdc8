"""Sign twins: units of an odd activation whose vectors are each other's negatives, turned so that they are copies.

g(-z) = -g(z) makes (theta, a) and (-theta, -a) the same unit; g(-z) = c - g(z) does too, once c a has gone to the next
bias. Both maps are linear and invertible and leave the loss alone, so index and nullity stay (science notes, 9.8).
"""

from typing import Any

import numpy as np

from saddlescope.arrays import Layout, Parameters
from saddlescope.critical.groups import Units, incoming_in
from saddlescope.problem.activations import activation
from saddlescope.problem.networks import Perceptron
from saddlescope.symmetry.neurons import Neurons

Turned = tuple[tuple[int, int], ...]
"""Units that were turned: (layer, unit)."""


def parity(network: Any) -> str:
    """Return the parity of a network's activation; "none" where it is not known."""
    return activation(network.activation).parity if isinstance(network, Perceptron) else "none"


def find_twins(
    network: Any, parameters: Parameters, layers: dict[int, Neurons], *, close: float, units: Units | None = None
) -> tuple[dict[str, np.ndarray], Turned]:
    """Turn every unit whose negative lies within ``close`` of an earlier unit, layer by layer.

    Returns:
        The parameters after it, and which units were turned.
    """
    found: list[tuple[int, int]] = []
    here = dict(parameters)
    kind = parity(network)
    if kind not in ("odd", "odd+constant") or (kind == "odd+constant" and not network.bias):
        return here, ()
    for layer, neurons in layers.items():
        incoming = incoming_in(units, layer, neurons.incoming_vectors(here))
        reach = close * max(float(np.linalg.norm(incoming, axis=1).max()), 1e-300)
        kept: list[np.ndarray] = []
        for unit, vector in enumerate(incoming):
            same = any(np.linalg.norm(vector - other) <= reach for other in kept)
            if not same and any(np.linalg.norm(vector + other) <= reach for other in kept):
                here = turn(network, here, neurons, layer, unit)
                found.append((layer, unit))
            elif not same:
                kept.append(vector)
    return here, tuple(found)


def turn(network: Any, parameters: Parameters, neurons: Neurons, layer: int, unit: int) -> dict[str, np.ndarray]:
    """Return the parameters with one unit turned; twice is the identity."""
    layout = Layout.of(parameters)
    theta = np.array(layout.flatten(parameters))
    outgoing = neurons.outgoing_positions(layout)[unit]
    if parity(network) == "odd+constant":  # g(z) = 1 - g(-z): the sigmoid
        start = layout.offsets()[f"{2 * layer}.bias"]
        theta[start : start + len(outgoing)] += theta[outgoing]
    theta[neurons.incoming_positions(layout)[unit]] *= -1.0
    theta[outgoing] *= -1.0
    return layout.unflatten_numpy(theta)
