"""What a dense layer behind the units reads: their activations, and products of these over two halves of the data."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from saddlescope.exchanges.blocks import ALIKE, Places
from saddlescope.exchanges.cut import FED, NoCutError, Site, pulls, run
from saddlescope.problem.problem import Chunk, Problem


class Read(NamedTuple):
    """Activations of the units, a row for each place where they are read, and what is made of them."""

    rows: Float[Array, "rows units"]
    sent: Float[Array, "rows outgoing"]


class Products(NamedTuple):
    """Mean products over rows: of the columns (activations, and 1 where there is a bias), and of what is sent."""

    gram: np.ndarray  # (columns, columns)
    mean: np.ndarray  # (outgoing,), of what the units send
    square: float  # mean |sent|^2
    rows: float


class Mixed(NamedTuple):
    """Mean products of units with other incoming entries, with all columns and with themselves."""

    cross: np.ndarray  # (columns, units)
    squares: np.ndarray  # (units,)


def read(problem: Problem, places: Places, arrays: dict[str, Array], inputs: Array) -> Read:
    """Return what the layer behind the units reads and makes of it.

    Raises:
        NoCutError: the units are read more than once, or not by a dense layer of their own.
    """
    sites: list[tuple[Any, Site]] = []

    def note(values: list[Any], site: Site) -> list[Any]:
        sites.append((values[0], site))
        return values

    run(problem.network.apply, arrays, inputs, places.units, note)
    pieces = places.units.outgoing
    if len(sites) != 1 or len(pieces) != 1 or sites[0][1].equation.primitive.name != "dot_general":
        raise NoCutError("the units are not read by one dense layer")
    sent, site = sites[0]
    side = site.roles.index(FED)
    (contracted, batched) = site.equation.params["dimension_numbers"]
    axes, units = contracted[side], places.shape[0]
    if batched[0] or len(axes) != 1 or site.values[side].shape[axes[0]] != units or pieces[0].block != 1 or side != 0:
        raise NoCutError("the layer that reads the units is not dense in them alone")
    rows = jnp.moveaxis(site.values[side], axes[0], -1).reshape(-1, units)
    if rows.shape[0] % inputs.shape[0]:
        raise NoCutError("what is read has no rows of its own for each sample")
    return Read(rows, sent.reshape(rows.shape[0], -1))


def require_dense_reading(problem: Problem, places: Places, theta: Array) -> None:
    """Refuse units whose rows are not sample by sample, or whose outgoing entries are not the weights as they stand.

    Raises:
        NoCutError: see above.
    """
    arrays = problem.network.layout.unflatten(theta)
    inputs = problem.inputs[0]
    seen = read(problem, places, arrays, inputs)
    weights = theta[places.entries][:, places.feeds :]
    if seen.sent.shape[1] != weights.shape[1] or not _close(seen.rows @ weights, seen.sent):
        raise NoCutError("what is sent is not the activations times the outgoing weights")
    each = seen.rows.shape[0] // inputs.shape[0]
    other = read(problem, places, arrays, inputs.at[-1].set(inputs[0])).rows
    if inputs.shape[0] > 1 and not (other[:-each] == seen.rows[:-each]).all():
        raise NoCutError("what is read is not ordered sample by sample")


def _close(one: Array, other: Array) -> bool:
    return bool(jnp.max(jnp.abs(one - other)) <= ALIKE * jnp.max(jnp.abs(other)))


def shifting_array(problem: Problem, places: Places, theta: Array) -> str | None:
    """Return the name of a trained array that is added to what the units send (a bias), tried by its gradient."""
    model, layout = problem.network, problem.network.layout
    arrays, inputs = layout.unflatten(theta), problem.inputs[0]

    def pulled(outputs: Array) -> Array:
        """Any function of the outputs without a stationary point."""
        return jnp.vdot(jnp.cos(1.0 + jnp.arange(outputs.size, dtype=outputs.dtype)).reshape(outputs.shape), outputs)

    slopes, _ = pulls(model.apply, arrays, inputs, places.units, pulled)
    width = places.shape[1] - places.feeds
    wanted = slopes[0].reshape(-1, width).sum(axis=0)
    gradient = jax.grad(lambda given: pulled(model.apply(given, inputs)))(arrays)
    own = {piece.name for piece in (*places.units.incoming, *places.units.outgoing)}
    for name, value in gradient.items():
        if name not in own and value.shape == (width,) and bool(wanted.any()) and _close(value, wanted):
            return name
    return None


def halves(problem: Problem) -> tuple[Problem, Problem]:
    """Return the problem with the weights of the first half of the samples only, and of the second."""
    index = jnp.arange(problem.weights.size).reshape(problem.weights.shape)
    first = index < problem.samples // 2
    parts = (jnp.where(first, problem.weights, 0.0), jnp.where(first, 0.0, problem.weights))
    one, other = (problem.with_arrays({"weights": part}) for part in parts)
    return one, other


def _columns(rows: Array, chunk: Chunk, constant: bool) -> tuple[Array, Array]:
    """Return the columns and a weight for each row."""
    weights = jnp.repeat(chunk.weights, rows.shape[0] // chunk.weights.shape[0])
    return jnp.concatenate([rows, jnp.ones((rows.shape[0], int(constant)), rows.dtype)], axis=1), weights


@eqx.filter_jit
def _products(problem: Problem, places: Places, theta: Array, constant: bool) -> tuple[Array, Array, Array, Array]:
    arrays = problem.network.layout.unflatten(theta)

    def term(chunk: Chunk) -> tuple[Array, Array, Array, Array]:
        seen = read(problem, places, arrays, chunk.inputs)
        columns, weights = _columns(seen.rows, chunk, constant)
        weighted = weights[:, None] * columns
        return weighted.T @ columns, weights @ seen.sent, jnp.sum(weights[:, None] * seen.sent**2), jnp.sum(weights)

    return problem.add_chunks(term)


def products(problem: Problem, places: Places, theta: Array, *, constant: bool) -> Products:
    """Return mean products over all rows of positive weight."""
    gram, mean, square, rows = (np.asarray(part) for part in _products(problem, places, theta, constant))
    return Products(gram / rows, mean / rows, float(square / rows), float(rows))


@eqx.filter_jit
def _mixed(
    problem: Problem, places: Places, theta: Array, entries: Array, constant: bool
) -> tuple[Array, Array, Array]:
    layout = problem.network.layout
    arrays, moved = layout.unflatten(theta), layout.unflatten(theta.at[places.entries].set(entries))

    def term(chunk: Chunk) -> tuple[Array, Array, Array]:
        columns, weights = _columns(read(problem, places, arrays, chunk.inputs).rows, chunk, constant)
        other = read(problem, places, moved, chunk.inputs).rows
        return columns.T @ (weights[:, None] * other), weights @ other**2, jnp.sum(weights)

    return problem.add_chunks(term)


def mixed(problem: Problem, places: Places, theta: Array, entries: Array, *, constant: bool) -> Mixed:
    """Return mean products of the units at these entries with all columns, and with themselves."""
    cross, squares, rows = (np.asarray(part) for part in _mixed(problem, places, theta, entries, constant))
    return Mixed(cross / rows, squares / rows)
