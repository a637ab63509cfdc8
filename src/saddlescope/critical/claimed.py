"""All directions of x that are flat for a reason, by kind, in the order in which they are counted."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from saddlescope.arrays import Layout
from saddlescope.critical.decomposition import Decomposition
from saddlescope.critical.fibre import Fibre
from saddlescope.critical.flat import input_rows, scaling_rows, softmax_rows, unused_rows
from saddlescope.critical.groups import Embedding, reduce_vector
from saddlescope.critical.mixing import laws, mixing_claims
from saddlescope.critical.patterns import layer_patterns, mixing_rows, unseen_rows
from saddlescope.critical.reduced import Reduced, reduced_value_and_gradient
from saddlescope.models.chain import is_traceable
from saddlescope.problem.kinks import is_piecewise
from saddlescope.problem.problem import Problem

Claims = dict[str, np.ndarray]

# A direction of all parameters is one of x if it differs by this share at most from the nearest one that keeps copies.
WITHIN = 1e-9


def flat_claims(
    scene: Decomposition,
    problem: Problem,
    parts: Embedding,
    x: Float[np.ndarray, " size"],
    image: Float[np.ndarray, "*lead size"],
    gradient: Float[np.ndarray, " size"],
) -> Claims:
    """Return the rows of x that are flat for a reason; a penalty leaves what nothing reads, and rotations.

    Args:
        scene: the point, taken apart.
        problem: the one that is a function of x: of the network without copies, or the scene's own.
        parts: how x is embedded in all parameters.
        x: where.
        image: the Hessian there, or its product with a random vector.
        gradient: the gradient there.
    """
    reduced = Reduced.of(problem, Embedding(np.arange(len(x)), np.ones(len(x))) if problem is scene.small else parts)

    def evaluate(at: np.ndarray) -> tuple[float, np.ndarray]:
        return reduced_value_and_gradient(reduced, at)

    claims = {"unused": unused_rows(evaluate, x, image, gradient, kinked=is_piecewise(problem))}
    network, layout = scene.problem.network, Layout.of(scene.parameters)
    if not problem.penalised:
        layers = {layer: neurons for layer, neurons in scene.layers.items() if network.homogeneous(layer)}
        claims["scaling"] = scaling_rows(x, layout, layers, parts)
    if not is_traceable(problem.network):
        for kind, rows in _of_groups(problem, parts, x).items():
            claims[kind] = np.concatenate([claims[kind], rows]) if kind in claims else rows
    elif not problem.penalised:
        assert scene.relations is not None
        patterns = layer_patterns(problem, x)
        claims["linear units"] = mixing_rows(problem.network, x, patterns)
        claims["few samples"] = unseen_rows(problem.network, patterns)
        claims["softmax shift"] = softmax_rows(problem)
        claims["collinear inputs"] = input_rows(problem, scene.relations)
    unused = claims["unused"].any(axis=0)
    return {
        kind: rows if kind == "unused" else np.where(unused, 0.0, rows) for kind, rows in claims.items() if len(rows)
    }


def _of_groups(problem: Problem, parts: Embedding, x: np.ndarray) -> Claims:
    """Return what the laws of the model's groups leave open, as far as it keeps copies copies."""
    theta = parts.lift(x)
    found = mixing_claims(laws(problem, theta), theta, turns=problem.penalised)
    size = float(np.linalg.norm(theta))
    return {kind: _kept(parts, rows, size) for kind, rows in found.items()}


def _kept(parts: Embedding, rows: np.ndarray, size: float) -> np.ndarray:
    """Return the rows of x whose embedding is a row given; others, and moves of what has vanished, are left out."""
    small = np.stack([reduce_vector(row, parts) for row in rows]) if len(rows) else np.zeros((0, parts.size))
    gaps, sizes = np.linalg.norm(small[:, parts.source] * parts.scale - rows, axis=1), np.linalg.norm(rows, axis=1)
    return small[(gaps <= WITHIN * sizes) & (sizes > WITHIN * size)]


def fibre_claims(scene: Decomposition, fibres: Sequence[Fibre], size: int) -> Claims:
    """Return the rows of x along which no output changes that the loss sees, on these data (`fibre`)."""
    plain, centred = fibres[0], fibres[-1]
    claims: Claims = {"no effect": np.eye(size)[plain.idle]}
    tangents = [fibre.tangent for fibre in fibres]
    if tangents[0] is not None:
        claims["collinear inputs"] = _by_unit(scene, plain, size)
        claims["equal outputs"] = tangents[0]
    if centred is not plain and tangents[-1] is not None:
        claims["softmax shift" if tangents[0] is not None else "equal outputs"] = tangents[-1]
    return {kind: rows for kind, rows in claims.items() if len(rows)}


def _by_unit(scene: Decomposition, fibre: Fibre, size: int) -> np.ndarray:
    """Return what each unit's own incoming entries leave open: what it reads is linearly dependent on the data."""
    layout, seen, found = Layout.of(scene.parameters), set[int](), [np.zeros((0, size))]
    for units in scene.layers.values():
        for places in scene.parts.source[units.incoming_positions(layout)]:
            columns = np.unique(places)
            if int(columns[0]) in seen:
                continue
            seen.add(int(columns[0]))
            null = None if fibre.here is None else fibre.here.null(columns)
            if null is None or len(null) == 0:
                continue
            rows = np.zeros((len(null), size))
            rows[:, columns] = null
            found.append(rows)
    return np.concatenate(found)
