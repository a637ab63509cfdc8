"""Units that are linear on the data: those that switch on and off together can be mixed like linear ones.

Near a point without kinks every unit of a piecewise linear activation has one slope for each sample. Units of a layer
with the same slopes are a linear layer of their own, and GL(p) acts between their incoming and outgoing vectors; a
unit with one slope for all samples can pass a shift on to the next bias. Units of slope 0 pass on nothing.
"""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from saddlescope.critical.flat import mixing_row
from saddlescope.models.chain import Traceable, is_traceable
from saddlescope.precision import in_float64
from saddlescope.problem.problem import Problem


@dataclass(frozen=True)
class LayerPatterns:
    """One hidden layer: units with the same slopes, and each unit's slope if it is one number.

    Samples at which nothing behind the layer is on do not count: no slope there reaches the loss.
    """

    alike: tuple[tuple[int, ...], ...]
    slopes: Float[np.ndarray, " units"]  # NaN where they differ between samples
    idle: tuple[Float[np.ndarray, "_ incoming"], ...]  # by unit: what no sample at which it is on can see

    def like(self, unit: int) -> tuple[int, ...]:
        """Return the units with the same slopes as this one, itself among them; none for another activation."""
        return next((units for units in self.alike if unit in units), ())


@in_float64
def layer_patterns(problem: Problem, x: Float[np.ndarray, " size"]) -> tuple[LayerPatterns, ...]:
    """Return the patterns of every hidden layer; nothing where no layer's activation is linear on either side of 0.

    Units of another activation are like none, have no slope, and count as on.
    """
    network = problem.network
    chain = network.chain[:-1] if is_traceable(network) else ()
    kinds = [layer.activation.slopes for layer in chain if layer.activation is not None]
    if not any(kinds):
        return ()
    values = [
        [np.asarray(array).reshape(-1, array.shape[-1])[: problem.samples] for array in arrays]
        for arrays in _values(problem, jnp.asarray(x))
    ]
    read = np.ones(problem.samples, bool)  # samples at which some unit of the next layer is on, and is read itself
    found: list[LayerPatterns] = []
    for layer, kind, (inputs, z) in zip(reversed(chain), reversed(kinds), reversed(values), strict=True):
        if kind is None:
            unseen = np.zeros((0, layer.padded(inputs).shape[1]))
            found.append(LayerPatterns((), np.full(layer.outputs, np.nan), (unseen,) * layer.outputs))
            read = np.ones(problem.samples, bool)
            continue
        slopes = np.where(z > 0, kind[1], kind[0])
        found.append(_patterns(slopes[read], layer.padded(inputs)[read]))
        read = read & (slopes != 0.0).any(axis=1)
    return tuple(reversed(found))


@eqx.filter_jit
def _values(problem: Problem, theta: Array) -> list[tuple[Array, Array]]:
    """Return what every hidden layer reads, and its preactivations, chunk by chunk."""
    parameters = problem.network.layout.unflatten(theta)

    def chunk(inputs: Array) -> list[tuple[Array, Array]]:
        return [(one.inputs, one.preactivations) for one in problem.network.trace(parameters, inputs)[:-1]]

    return jax.lax.map(chunk, problem.inputs)


def _patterns(
    slopes: Float[np.ndarray, "samples units"], inputs: Float[np.ndarray, "samples incoming"]
) -> LayerPatterns:
    """Sort units by their slopes at the samples where it matters."""
    groups: dict[bytes, list[int]] = {}
    for unit, column in enumerate(slopes.T):
        groups.setdefault(column.tobytes(), []).append(unit)
    first = slopes[0] if len(slopes) else np.zeros(slopes.shape[1])
    constant = np.where((slopes == first).all(axis=0), first, np.nan)
    idle = tuple(_unseen(inputs[column != 0.0]) for column in slopes.T)
    return LayerPatterns(tuple(map(tuple, groups.values())), constant, idle)


def _unseen(inputs: Float[np.ndarray, "samples incoming"]) -> Float[np.ndarray, "rows incoming"]:
    """Return the directions that fewer samples than entries leave unseen, by their number alone."""
    samples, size = inputs.shape
    if samples >= size or samples == 0:  # a dead unit's entries are unused, each by itself
        return np.zeros((0, size))
    return np.linalg.svd(inputs, full_matrices=True)[2][samples:]


def mixing_rows(
    network: Traceable, x: Float[np.ndarray, " size"], patterns: tuple[LayerPatterns, ...]
) -> Float[np.ndarray, "rows size"]:
    """Return the rows of GL(p), and of shifts, among the units that are alike.

    For every A, (A W1, A b1, -W2 A) leaves the function alone; so does b1 + c, b2 - s W2 c at the one slope s.
    Source: science notes, section 9.8; Baldi and Hornik 1989.
    """
    layout, rows = network.layout, []
    for layer, pattern in enumerate(patterns, start=1):
        neurons = network.layers[layer]
        into, out = neurons.incoming_positions(layout), neurons.outgoing_positions(layout)
        rows += [mixing_row(x, into, out, i, j) for units in pattern.alike for i in units for j in units]
        own, after = network.chain[layer - 1], network.chain[layer]
        for i in np.flatnonzero(np.isfinite(pattern.slopes)) if own.bias and after.bias else ():
            row = np.zeros(layout.size)
            row[own.positions(layout)[i, -1]] = 1.0
            row[after.positions(layout)[:, -1]] = -pattern.slopes[i] * x[out[i]]
            rows.append(row)
    return np.stack(rows) if rows else np.zeros((0, layout.size))


def unseen_rows(network: Traceable, patterns: tuple[LayerPatterns, ...]) -> Float[np.ndarray, "rows size"]:
    """Return the weights of units that are on at fewer samples than they have weights, along what these do not see."""
    layout, rows = network.layout, []
    for layer, pattern in enumerate(patterns, start=1):
        places = network.layers[layer].incoming_positions(layout)
        for unit, idle in enumerate(pattern.idle):
            for direction in idle:
                row = np.zeros(layout.size)
                row[places[unit]] = direction
                rows.append(row)
    return np.stack(rows) if rows else np.zeros((0, layout.size))


def incoming_rows(
    network: Traceable, x: Float[np.ndarray, " size"], patterns: tuple[LayerPatterns, ...], layer: int, unit: int
) -> Float[np.ndarray, "rows incoming"]:
    """Return the incoming directions along which a copied unit's G vanishes at a critical point.

    They are the incoming vectors of other units that are alike, G theta_j = dL/da_j = 0, the bias at one slope, and
    what no sample at which the unit is on can see.
    """
    vectors = network.layers[layer].incoming_vectors(network.layout.unflatten_numpy(x))
    pattern = patterns[layer - 1]
    rows = [vectors[other] for other in pattern.like(unit) if other != unit]
    if network.chain[layer - 1].bias and network.chain[layer].bias and np.isfinite(pattern.slopes[unit]):
        rows.append(np.eye(vectors.shape[1])[-1])
    rows += list(pattern.idle[unit])
    return np.stack(rows) if rows else np.zeros((0, vectors.shape[1]))


def outgoing_rows(
    network: Traceable, x: Float[np.ndarray, " size"], patterns: tuple[LayerPatterns, ...], layer: int, unit: int
) -> dict[str, Float[np.ndarray, "rows outgoing"]]:
    """Return, by kind, the outgoing directions along which G of a unit vanishes at a critical point.

    They are the outgoing vectors of other units that are alike, a_j^T G = dL/dtheta_j = 0; dead units of the next
    layer, which read nothing; and of p alike units there that send to fewer than p, what is not passed on.
    """
    parameters = network.layout.unflatten_numpy(x)
    own = network.layers[layer].outgoing_vectors(parameters)
    mixed = [own[other] for other in patterns[layer - 1].like(unit) if other != unit]
    dead = np.zeros((0, own.shape[1]))
    if layer < len(patterns):
        pattern, width = patterns[layer], network.chain[layer].outputs
        dead = np.eye(width)[pattern.slopes == 0.0]
        vectors = network.layers[layer + 1].outgoing_vectors(parameters)
        for units in pattern.alike:
            if len(units) > vectors.shape[1] and pattern.slopes[units[0]] != 0.0:
                for null in np.linalg.svd(vectors[list(units)].T, full_matrices=True)[2][vectors.shape[1] :]:
                    row = np.zeros(width)
                    row[list(units)] = null
                    mixed.append(row)
    return {"unused": dead} | ({"linear units": np.stack(mixed)} if mixed else {})
