"""Units that are linear on the data: those that switch on and off together can be mixed like linear ones.

Near a point without kinks every unit of a piecewise linear activation has one slope for each sample. Units of a layer
with the same slopes are a linear layer of their own, and GL(p) acts between their incoming and outgoing vectors; a
unit with one slope for all samples can pass a shift on to the next bias. Units of slope 0 pass on nothing.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from saddlescope.models.activations import activation
from saddlescope.models.mlp import MLP, is_dense
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


def layer_patterns(problem: Problem, x: Float[np.ndarray, " size"]) -> tuple[LayerPatterns, ...]:
    """Return the patterns of every hidden layer; nothing for activations that are not piecewise linear."""
    network = problem.network
    if not is_dense(network):
        return ()
    kind = activation(network.activation)
    if not kind.homogeneous:
        return ()
    parameters = network.layout.unflatten_numpy(x)
    here = np.asarray(problem.inputs).reshape(-1, problem.inputs.shape[-1])[: problem.samples]
    below = {"relu": 0.0, "leaky_relu": 0.01, "identity": 1.0}[kind.name]
    slopes, entered = [], []
    for k in range(network.depth - 1):
        entered.append(np.concatenate([here, np.ones((len(here), 1))], axis=1) if network.bias else here)
        z = here @ parameters[f"{2 * k}.weight"].T + (parameters[f"{2 * k}.bias"] if network.bias else 0.0)
        slopes.append(np.where(z > 0, 1.0, below))
        here = slopes[-1] * z
    read = np.ones(len(here), bool)  # samples at which some unit of the next layer is on, and is read itself
    found: list[LayerPatterns] = []
    for layer, inputs in zip(reversed(slopes), reversed(entered), strict=True):
        found.append(_patterns(layer[read], inputs[read]))
        read = read & (layer != 0.0).any(axis=1)
    return tuple(reversed(found))


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
    network: MLP, x: Float[np.ndarray, " size"], patterns: tuple[LayerPatterns, ...]
) -> Float[np.ndarray, "rows size"]:
    """Return the rows of GL(p), and of shifts, among the units that are alike.

    For every A, (A W1, A b1, -W2 A) leaves the function alone; so does b1 + c, b2 - s W2 c at the one slope s.
    Source: science notes, section 9.8; Baldi and Hornik 1989.
    """
    layout, parameters, rows = network.layout, network.layout.unflatten_numpy(x), []
    for layer, pattern in enumerate(patterns, start=1):
        names = [f"{2 * layer - 2}.weight", f"{2 * layer}.weight", f"{2 * layer - 2}.bias", f"{2 * layer}.bias"]
        first, second = parameters[names[0]], parameters[names[1]]
        for i, j in ((i, j) for units in pattern.alike for i in units for j in units):
            move = {name: np.zeros_like(value) for name, value in parameters.items()}
            move[names[0]][i], move[names[1]][:, j] = first[j], -second[:, i]
            if network.bias:
                move[names[2]][i] = parameters[names[2]][j]
            rows.append(np.concatenate([value.ravel() for value in move.values()]))
        for i in np.flatnonzero(np.isfinite(pattern.slopes)) if network.bias else ():
            move = {name: np.zeros_like(value) for name, value in parameters.items()}
            move[names[2]][i], move[names[3]][:] = 1.0, -pattern.slopes[i] * second[:, i]
            rows.append(np.concatenate([value.ravel() for value in move.values()]))
    return np.stack(rows) if rows else np.zeros((0, layout.size))


def unseen_rows(network: MLP, patterns: tuple[LayerPatterns, ...]) -> Float[np.ndarray, "rows size"]:
    """Return the weights of units that are on at fewer samples than they have weights, along what these do not see."""
    layout, rows = network.layout, []
    for layer, pattern in enumerate(patterns, start=1):
        places = network.neurons(layer).incoming_positions(layout)
        for unit, idle in enumerate(pattern.idle):
            for direction in idle:
                row = np.zeros(layout.size)
                row[places[unit]] = direction
                rows.append(row)
    return np.stack(rows) if rows else np.zeros((0, layout.size))


def incoming_rows(
    network: MLP, x: Float[np.ndarray, " size"], patterns: tuple[LayerPatterns, ...], layer: int, unit: int
) -> Float[np.ndarray, "rows incoming"]:
    """Return the incoming directions along which a copied unit's G vanishes at a critical point.

    They are the incoming vectors of other units that are alike, G theta_j = dL/da_j = 0, the bias at one slope, and
    what no sample at which the unit is on can see.
    """
    vectors = network.neurons(layer).incoming_vectors(network.layout.unflatten_numpy(x))
    pattern = patterns[layer - 1]
    rows = [vectors[other] for other in pattern.like(unit) if other != unit]
    if network.bias and np.isfinite(pattern.slopes[unit]):
        rows.append(np.eye(vectors.shape[1])[-1])
    rows += list(pattern.idle[unit])
    return np.stack(rows) if rows else np.zeros((0, vectors.shape[1]))


def outgoing_rows(
    network: MLP, x: Float[np.ndarray, " size"], patterns: tuple[LayerPatterns, ...], layer: int, unit: int
) -> dict[str, Float[np.ndarray, "rows outgoing"]]:
    """Return, by kind, the outgoing directions along which G of a unit vanishes at a critical point.

    They are the outgoing vectors of other units that are alike, a_j^T G = dL/dtheta_j = 0; dead units of the next
    layer, which read nothing; and of p alike units there that send to fewer than p, what is not passed on.
    """
    parameters = network.layout.unflatten_numpy(x)
    own = network.neurons(layer).outgoing_vectors(parameters)
    mixed = [own[other] for other in patterns[layer - 1].like(unit) if other != unit]
    dead = np.zeros((0, own.shape[1]))
    if layer < len(patterns):
        pattern, width = patterns[layer], network.widths[layer + 1]
        dead = np.eye(width)[pattern.slopes == 0.0]
        vectors = network.neurons(layer + 1).outgoing_vectors(parameters)
        for units in pattern.alike:
            if len(units) > vectors.shape[1] and pattern.slopes[units[0]] != 0.0:
                for null in np.linalg.svd(vectors[list(units)].T, full_matrices=True)[2][vectors.shape[1] :]:
                    row = np.zeros(width)
                    row[list(units)] = null
                    mixed.append(row)
    return {"unused": dead} | ({"linear units": np.stack(mixed)} if mixed else {})
