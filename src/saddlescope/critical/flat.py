"""Flat directions with a reason, as vectors: the scale of homogeneous units, unused parameters, moved weight."""

import numpy as np
from jaxtyping import Float

from saddlescope.arrays import Layout, Parameters
from saddlescope.critical.exchange import Evaluate, unread
from saddlescope.critical.groups import Embedding
from saddlescope.critical.result import Group
from saddlescope.symmetry.neurons import Neurons

# Scaling vectors of different layers may depend on each other; singular values between these shares are unclear.
DEPENDENT, INDEPENDENT = 1e-12, 1e-6


def scaling_rows(
    x: Float[np.ndarray, " size"], layout: Layout, layers: dict[int, Neurons], parts: Embedding
) -> Float[np.ndarray, "units size"]:
    """Return one row (theta_i, -a_i) for each unit of the layers: with g(s z) = s g(z) the loss is constant along it.

    Units that are copies of each other give the same row of x and are listed once.
    """
    rows = []
    for neurons in layers.values():
        incoming, outgoing = neurons.incoming_positions(layout), neurons.outgoing_positions(layout)
        seen: set[int] = set()
        for into, out in zip(parts.source[incoming], parts.source[outgoing], strict=True):
            if int(into[0]) in seen:
                continue
            seen.add(int(into[0]))
            row = np.zeros(len(x))
            row[into] = x[into]
            row[out] = -x[out]
            rows.append(row)
    return np.stack(rows) if rows else np.zeros((0, len(x)))


def independent(rows: Float[np.ndarray, "rows size"]) -> tuple[Float[np.ndarray, "rank size"], bool]:
    """Return an orthonormal basis of the rows' span, and whether its dimension is beyond doubt."""
    lengths = np.linalg.norm(rows, axis=1)
    rows = rows[lengths > 0] / lengths[lengths > 0, None]
    if len(rows) == 0:
        return rows, True
    _, values, basis = np.linalg.svd(rows, full_matrices=False)
    unclear = (values > DEPENDENT * values[0]) & (values <= INDEPENDENT * values[0])
    return basis[values > INDEPENDENT * values[0]], not unclear.any()


def unused_rows(
    evaluate: Evaluate,
    x: Float[np.ndarray, " size"],
    image: Float[np.ndarray, "*lead size"],
    gradient: Float[np.ndarray, " size"],
) -> Float[np.ndarray, "unused size"]:
    """Return the unit vectors of parameters on which neither gradient nor Hessian depend: exact zeros in both.

    ``image`` is the Hessian, or its product with a random vector. Zeros by rounding are left out (`exchange.unread`).
    """
    dead = (gradient == 0) & (image == 0 if image.ndim == 1 else ~image.any(axis=0))
    return np.eye(len(gradient))[unread(evaluate, x, dead)]


def transfer_rows(parameters: Parameters, neurons: Neurons, group: Group) -> Float[np.ndarray, "copies size"]:
    """Return one row for each further copy: the group's outgoing sum, added to it and taken from the first."""
    layout = Layout.of(parameters)
    places = neurons.outgoing_positions(layout)
    total = neurons.outgoing_vectors(parameters)[list(group.units)].sum(axis=0)
    rows = np.zeros((len(group.units) - 1, layout.size))
    for row, unit in zip(rows, group.units[1:], strict=True):
        row[places[unit]] += total
        row[places[group.units[0]]] -= total
    return rows
