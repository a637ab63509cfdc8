"""Flat directions with a reason, as vectors: what a symmetry, the loss or the data leave open at every point.

Along each kind the loss is constant, not only flat to second order, and along all of them together: they are orbits
of groups (the scale of homogeneous units, GL(p) among units that are linear on the data: `patterns`) and translations
that nothing reads (a shift of all logits, inputs that depend on each other, unused parameters), on which these groups
act.
"""

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from jaxtyping import Float, Int

from saddlescope.arrays import Layout, Parameters
from saddlescope.critical.exchange import Evaluate, structurally_unused
from saddlescope.critical.groups import Embedding
from saddlescope.critical.result import Group
from saddlescope.problem.problem import Problem
from saddlescope.units.neurons import Neurons

# Claimed rows may depend on each other; singular values between these shares are unclear.
DEPENDENT, INDEPENDENT = 1e-12, 1e-6

# The same for rows that come from a singular value decomposition, whose own errors are larger.
MEASURED = 1e-9


@dataclass(frozen=True)
class NullSpace:
    """Independent flat rows, how many each kind adds to those before it, and the reasons why some are in doubt."""

    rows: np.ndarray
    counts: dict[str, int]
    reasons: tuple[str, ...]


def null_space(
    claims: Mapping[str, Float[np.ndarray, "rows size"]],
    scale: Float[np.ndarray, " size"],
    *,
    measured: Collection[str] = (),
) -> NullSpace:
    """Return a basis of all claimed rows, kind by kind; a kind whose dimension is unclear is left out.

    Args:
        claims: rows by kind.
        scale: natural units of the parameters (`natural_scale`), in which independence is judged.
        measured: kinds whose rows were computed, and are not exact.
    """
    basis, counts, reasons = np.zeros((0, len(scale))), {}, []
    for kind, rows in claims.items():
        turned = rows / scale
        turned = turned - (turned @ basis.T) @ basis
        sizes = np.linalg.norm(rows / scale, axis=1)
        if not sizes.any():
            continue
        _, values, directions = np.linalg.svd(turned[sizes > 0] / sizes[sizes > 0, None], full_matrices=False)
        unclear = (values > (MEASURED if kind in measured else DEPENDENT * np.sqrt(len(rows)))) & (
            values <= INDEPENDENT
        )
        if unclear.any():
            reasons.append(f"how many directions of the kind '{kind}' are independent is unclear: none is counted")
            continue
        more = directions[values > INDEPENDENT]
        if len(more):
            basis, counts[kind] = np.concatenate([basis, more - (more @ basis.T) @ basis]), len(more)
    return NullSpace(basis * scale, counts, tuple(reasons))


def scaling_rows(
    x: Float[np.ndarray, " size"], layout: Layout, layers: Mapping[int, Neurons], parts: Embedding
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


def mixing_row(
    x: Float[np.ndarray, " size"], into: Int[np.ndarray, "units p"], out: Int[np.ndarray, "units q"], i: int, j: int
) -> Float[np.ndarray, " size"]:
    """Return the row that adds unit j's incoming vector to unit i, and takes i's outgoing vector from unit j."""
    row = np.zeros(len(x))
    row[into[i]] += x[into[j]]
    row[out[j]] -= x[out[i]]
    return row


def softmax_rows(problem: Problem) -> Float[np.ndarray, "rows size"]:
    """Return the rows that shift all logits alike, one for each input of the last layer and one for its bias.

    Source: science notes, section 9.8.
    """
    network, layout = problem.network, problem.network.layout
    if problem.loss != "cross_entropy":
        return np.zeros((0, layout.size))
    columns = network.chain[-1].positions(layout).T
    rows = np.zeros((len(columns), layout.size))
    np.put_along_axis(rows, columns, 1.0, axis=1)
    return rows


def dependent_inputs(problem: Problem) -> Float[np.ndarray, "rows columns"]:
    """Return the linear relations between the inputs, and 1 with biases, that hold to the rounding of the data.

    Columns that are zero are left out: nothing reads their weights at all.
    Source: science notes, section 9.8.
    """
    first, chunks = problem.network.chain[0], np.asarray(problem.inputs)
    columns = chunks.shape[-1] + (first.bias is not None)
    triangle, left, size = np.zeros((0, columns)), problem.samples, np.zeros(columns)
    parts = [first.padded(chunk[: max(0, left - k * chunks.shape[1])]) for k, chunk in enumerate(chunks)]
    for part in parts:
        size = np.maximum(size, np.abs(part).max(axis=0, initial=0.0))
    alive = size > 0
    unit = np.where(alive, size, 1.0)
    for part in parts:  # the triangle of a QR decomposition, chunk by chunk
        triangle = np.linalg.qr(np.concatenate([triangle, part / unit]), mode="r")
    if not alive.any():
        return np.zeros((0, columns))
    _, values, vectors = np.linalg.svd(np.asarray(triangle)[:, alive], full_matrices=True)
    values = np.concatenate([values, np.zeros(max(0, int(alive.sum()) - len(values)))])
    null = vectors[values <= 8.0 * columns * np.finfo(float).eps * values[0]]
    found = np.zeros((len(null), columns))
    found[:, alive] = _sparse(null)
    found = found / unit
    found /= np.abs(found).max(axis=1, keepdims=True, initial=1e-300)
    whole = np.round(found)
    found = np.where((whole != 0) & (np.abs(found - whole) <= 1e-12), whole, found)
    return found[[all(_holds(part, row) for part in parts) for row in found]]


def _sparse(null: Float[np.ndarray, "rows size"]) -> Float[np.ndarray, "rows size"]:
    """Return a basis of the same space with the identity in some columns, and zeros where only rounding stood."""
    if len(null) == 0:
        return null
    pivots = np.asarray(scipy.linalg.qr(null, pivoting=True)[-1])[: len(null)]
    rows = np.linalg.solve(null[:, pivots], null)
    rows[:, pivots] = np.eye(len(null))
    return np.where(np.abs(rows) > 1e-12, rows, 0.0)


def _holds(part: Float[np.ndarray, "samples columns"], row: Float[np.ndarray, " columns"]) -> bool:
    """Return whether a relation holds at every sample, up to the rounding of its own terms."""
    slack = 4.0 * len(row) * np.finfo(float).eps
    return bool((np.abs(part @ row) <= slack * (np.abs(part) @ np.abs(row))).all())


def input_rows(problem: Problem, relations: Float[np.ndarray, "relations columns"]) -> Float[np.ndarray, "rows size"]:
    """Return, for every unit of the first layer and every relation between the inputs, the weights along it."""
    layout = problem.network.layout
    places = problem.network.chain[0].positions(layout)
    rows = np.zeros((len(places) * len(relations), layout.size))
    for row, (unit, relation) in zip(rows, itertools.product(places, relations), strict=True):
        row[unit] = relation
    return rows


def unused_rows(
    evaluate: Evaluate,
    x: Float[np.ndarray, " size"],
    image: Float[np.ndarray, "*lead size"],
    gradient: Float[np.ndarray, " size"],
    *,
    kinked: bool,
) -> Float[np.ndarray, "unused size"]:
    """Return the unit vectors of parameters on which neither gradient nor Hessian depend: exact zeros in both.

    ``image`` is the Hessian, or its product with a random vector. Zeros by rounding, and those that hang on the zeros
    of other parameters, are left out (`exchange.structurally_unused`).
    """
    dead = (gradient == 0) & (image == 0 if image.ndim == 1 else ~image.any(axis=0))
    return np.eye(len(gradient))[structurally_unused(evaluate, x, dead, kinked=kinked)]


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
