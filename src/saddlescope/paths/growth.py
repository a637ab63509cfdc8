"""Which weights grew along a path, by how much, and like which power of the distance: what tells a channel apart.

In a channel to infinity the outgoing weights of the pair grow like 1/distance while their sum stays finite (science
notes, section 2.2). Other weights, or another power, are no channel, however large they have become.
"""

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from saddlescope.arrays import Layout
from saddlescope.paths.result import Growth
from saddlescope.units.neurons import Neurons

# |a_m - a_l| ~ distance^p with p between these over the late nodes counts as 1/distance.
STEEPEST, CHANNEL_EXPONENT = -1.5, -0.5

# The fit uses the nodes within this factor of the last distance, if there are so many.
LATE, FEWEST = 10.0, 3


def growth_exponent(distances: Float[np.ndarray, " nodes"], sizes: Float[np.ndarray, " nodes"]) -> float:
    """Return p of sizes ~ distances^p over the last decade of distances; NaN with fewer than three points."""
    late = (distances <= LATE * distances[-1]) & (sizes > 0)
    if late.sum() < FEWEST:
        return float("nan")
    return float(np.polyfit(np.log(distances[late]), np.log(sizes[late]), 1)[0])


def is_channel(difference: float, total: float) -> bool:
    """Return whether exponents of |a_m - a_l| and |a_l + a_m| are a channel's: like 1/distance, and a finite sum.

    The sum counts as finite unless it grows like 1/distance too; NaN, of a sum that is zero, is finite.
    """
    return STEEPEST < difference < CHANNEL_EXPONENT and not total < CHANNEL_EXPONENT


def measure_growth(
    distances: Float[np.ndarray, " nodes"],
    rows: Float[np.ndarray, "nodes size"],
    layout: Layout,
    layers: Mapping[int, Neurons],
    layer: int,
    pair: tuple[int, int],
) -> Growth:
    """Return which unit's weights in which array grew most from the first to the last node, and the pair's exponents.

    Args:
        distances: of the nodes, falling.
        rows: the flattened parameters at the nodes.
        layout: of the parameters.
        layers: the neurons of all hidden layers, by number.
        layer: the pair's layer.
        pair: two of its neurons.
    """
    name, places, role, where, unit = _most_grown(rows, layout, layers, layer)
    sizes = np.linalg.norm(rows[:, places], axis=1)
    outgoing = layers[layer].outgoing_positions(layout)
    first, second = (rows[:, outgoing[neuron]] for neuron in pair)
    return Growth(
        array=name,
        role=role,
        layer=where,
        unit=unit,
        first=float(sizes[0]),
        last=float(sizes[-1]),
        exponent=growth_exponent(distances, sizes),
        difference_exponent=growth_exponent(distances, np.linalg.norm(second - first, axis=1)),
        sum_exponent=growth_exponent(distances, np.linalg.norm(first + second, axis=1)),
        share=float(distances[-1] / distances[0]),
        of_pair=role == "outgoing" and where == layer and unit in pair,
    )


def _most_grown(
    rows: np.ndarray, layout: Layout, layers: Mapping[int, Neurons], layer: int
) -> tuple[str, np.ndarray, str, int | None, int | None]:
    """Return name, places, role, layer and unit of the weights whose squares grew most; the pair's layer goes first."""
    gained = np.square(rows[-1]) - np.square(rows[0])
    offsets, sizes = layout.offsets(), dict(zip(layout.names, layout.sizes, strict=True))
    spans = {name: np.arange(offsets[name], offsets[name] + sizes[name]) for name in layout.names}
    name = max(spans, key=lambda one: float(gained[spans[one]].sum()))
    span = spans[name]
    for number in (layer, *(other for other in layers if other != layer)):
        neurons = layers[number]
        for role, pieces, positions in (
            ("outgoing", neurons.outgoing, neurons.outgoing_positions(layout)),
            ("incoming", neurons.incoming, neurons.incoming_positions(layout)),
        ):
            if name not in [piece.name for piece in pieces]:
                continue
            mine = [row[np.isin(row, span)] for row in positions]
            unit = int(np.argmax([float(gained[places].sum()) for places in mine]))
            return name, mine[unit], role, number, unit
    return name, span, "other", None, None


def growth_text(growth: Growth) -> str:
    """Return what grew, in words with the numbers."""
    whose = "" if growth.layer is None else f"{growth.role} weights of neuron {growth.unit} of layer {growth.layer}, "
    like = "" if math.isnan(growth.exponent) else f", like distance^{growth.exponent:.2f}"
    return (
        f"{whose}{growth.array}, grew from {growth.first:.3g} to {growth.last:.3g}{like}; "
        f"|a_m - a_l| goes like distance^{growth.difference_exponent:.2f}, |a_l + a_m| like "
        f"distance^{growth.sum_exponent:.2f}; {growth.share:.2g} of the first distance was reached"
    )
