"""Distances between units, and the scale that homogeneous activations leave open.

For an activation with g(s z) = s g(z), s > 0, incoming s theta with outgoing a/s gives the same network; distances
are then
measured after the scale is fixed: unit incoming vectors, the scale moved into the outgoing ones (science notes, 2.4).
"""

from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
import numpy as np

from saddlescope.arrays import Layout, Parameters
from saddlescope.errors import NeuronsError, SettingsError
from saddlescope.units.neurons import Neurons


def fix_scale(parameters: Parameters, neurons: Neurons, units: Sequence[int] | None = None) -> dict:
    """Give units incoming vectors of norm 1 and multiply their outgoing vectors by the old norm.

    Only for activations of degree 1 (ReLU, leaky ReLU): for others the network's function changes.

    Raises:
        NeuronsError: a unit's incoming vector is zero, so that it has no direction.
    """
    layout = Layout.of(parameters)
    chosen = range(neurons.count(parameters)) if units is None else units
    incoming, outgoing = neurons.incoming_positions(layout), neurons.outgoing_positions(layout)
    flat = np.concatenate([np.ravel(np.asarray(value)) for value in parameters.values()])
    for unit in chosen:
        length = float(np.linalg.norm(flat[incoming[unit]]))
        if length == 0.0:
            raise NeuronsError("the incoming vector of this neuron is zero: it has no scale", name="neuron", value=unit)
        flat[incoming[unit]] /= length
        flat[outgoing[unit]] *= length
    fixed = layout.unflatten_numpy(flat)
    return {
        name: fixed[name] if isinstance(value, np.ndarray) else jnp.asarray(fixed[name])
        for name, value in parameters.items()
    }


# Pairs are compared in blocks of so many units by all later ones, and so many of each block by their differences.
ROWS, NEAREST = 512, 64


def distance(
    parameters: Parameters,
    neurons: Neurons,
    l: int,
    m: int,
    *,
    kind: Literal["incoming", "joint"] = "incoming",
    homogeneous: bool = False,
) -> float:
    """Return |theta_m - theta_l|, or with "joint" sqrt(|theta_m - theta_l|^2 + |a_m - a_l|^2).

    Raises:
        NeuronsError: a number out of range, or l = m.
        SettingsError: an unknown kind.
    """
    neurons.check_pair(parameters, l, m)
    if kind not in ("incoming", "joint"):
        raise SettingsError("unknown distance", name="kind", value=kind, expected="incoming or joint")
    if homogeneous:
        parameters = fix_scale(parameters, neurons, (l, m))
    incoming, outgoing = neurons.incoming_vectors(parameters), neurons.outgoing_vectors(parameters)
    gap = incoming[m] - incoming[l]
    if kind == "joint":
        gap = np.concatenate([gap, outgoing[m] - outgoing[l]])
    return float(np.linalg.norm(gap))


def cosine(parameters: Parameters, neurons: Neurons, l: int, m: int) -> float:
    """Return the cosine similarity of two incoming vectors; NaN when one is zero."""
    neurons.check_pair(parameters, l, m)
    incoming = neurons.incoming_vectors(parameters)
    lengths = np.linalg.norm(incoming[l]) * np.linalg.norm(incoming[m])
    return float(incoming[l] @ incoming[m] / lengths) if lengths > 0 else float("nan")


def most_similar_pair(parameters: Parameters, neurons: Neurons, *, homogeneous: bool = False) -> tuple[int, int]:
    """Return the pair l < m at the smallest incoming distance (scale fixed for homogeneous activations).

    Raises:
        NeuronsError: the layer has only one neuron.
    """
    incoming = neurons.incoming_vectors(parameters)
    if len(incoming) < 2:
        raise NeuronsError("a pair needs two neurons", name="count", value=len(incoming), expected="at least 2")
    if homogeneous:
        lengths = np.linalg.norm(incoming, axis=1, keepdims=True)
        incoming = incoming / np.where(lengths > 0, lengths, 1.0)
    best, found = np.inf, (0, 1)
    for first in range(0, len(incoming), ROWS):
        for l, m in _nearest(incoming, first):
            gap = float(np.linalg.norm(incoming[m] - incoming[l]))
            if gap < best:
                best, found = gap, (l, m)
    return found


def _nearest(incoming: np.ndarray, first: int) -> list[tuple[int, int]]:
    """Return the pairs l < m of one block of rows that may be the nearest, in order.

    Squares and products are quick, but round: what they see as near is compared by its differences afterwards.
    """
    rows, rest = incoming[first : first + ROWS], incoming[first:]
    gaps = (rows**2).sum(axis=1)[:, None] + (rest**2).sum(axis=1)[None, :] - 2.0 * rows @ rest.T
    gaps[np.tril_indices(*gaps.shape[:1], m=gaps.shape[1])] = np.inf
    few = np.argpartition(gaps, min(NEAREST, gaps.size) - 1, axis=None)[:NEAREST]
    few = few[np.isfinite(gaps.ravel()[few])]
    return sorted((first + int(l), first + int(m)) for l, m in zip(*np.unravel_index(few, gaps.shape), strict=True))
