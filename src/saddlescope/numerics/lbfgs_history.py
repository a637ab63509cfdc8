"""Curvature seen along earlier directions, which preconditions later solves with nearly the same Hessian.

A limited-memory BFGS matrix (Nocedal 1980) built from the directions of conjugate gradients, as in Morales and Nocedal
2000, on top of another preconditioner. Along a path hundreds of solves follow each other whose Hessians hardly differ:
what one of them learnt of the stiff and the flat directions serves the next. Only the speed of a solve depends on it,
never its result, so that single precision is enough.

The matrix is applied in its compact form (Byrd, Nocedal, Schnabel 1994): with S of the directions, Y of their images
and the upper triangle R of S'Y in order of age, the two loops over the pairs are two products with the inverse of R
between four with S and Y. That inverse gains a column with every pair and loses its first row and column with the
oldest, so that nothing is ever solved, and nothing is sequential.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Scalar

from saddlescope.numerics.tangent import Vector

# Directions kept at most, and numbers kept at most in one of the two tables: 32 MB, on an accelerator 512 MB.
SLOTS, NUMBERS, NUMBERS_ACCELERATOR = 400, 2**23, 2**27


class LBFGSHistory(NamedTuple):
    """A ring of unit directions s and their images y = H s; pairs whose curvature is not to be trusted are zero."""

    directions: Float[Array, "slots size"]
    images: Float[Array, "slots size"]
    curvatures: Float[Array, " slots"]  # s.y, 0 for pairs that are not trusted
    inverse: Float[Array, "slots slots"]  # of the triangle of s_i.y_j, i no younger than j: row and column by slot
    filled: Int[Array, ""]  # pairs ever kept: the ring holds the last of them


def empty(size: int) -> LBFGSHistory:
    """Return a history with nothing in it, for vectors of this size.

    More directions than entries depend on each other, and the triangle's inverse then magnifies rounding: so few
    entries are kept in double precision, which costs nothing.
    """
    room = NUMBERS if jax.default_backend() == "cpu" else NUMBERS_ACCELERATOR
    slots = max(1, min(SLOTS, room // size))
    zero = jnp.zeros((slots, size), jnp.float32 if size > slots else jnp.float64)
    return LBFGSHistory(zero, zero, jnp.zeros(slots), jnp.zeros((slots, slots)), jnp.asarray(0))


def remember(history: LBFGSHistory, direction: Vector, image: Vector, least: Scalar) -> LBFGSHistory:
    """Return the history with one more pair in the place of its oldest; a curvature below ``least`` is not trusted."""
    length = jnp.linalg.norm(direction)
    s, y = direction / length, image / length
    curvature = s @ y
    trusted = curvature > least
    s, y = (jnp.where(trusted, v, 0.0).astype(history.directions.dtype) for v in (s, y))
    own = jnp.where(trusted, 1.0 / jnp.where(trusted, curvature, 1.0), 0.0)
    at = jnp.mod(history.filled, history.curvatures.shape[0])
    rest = history.inverse.at[at].set(0.0).at[:, at].set(0.0)
    column = -own * (rest @ (history.directions @ y).astype(rest.dtype))
    return LBFGSHistory(
        history.directions.at[at].set(s),
        history.images.at[at].set(y),
        history.curvatures.at[at].set(jnp.where(trusted, curvature, 0.0)),
        rest.at[:, at].set(column.at[at].set(own)),
        history.filled + 1,
    )


def precondition(history: LBFGSHistory, base: Callable[[Vector], Vector], v: Vector) -> Vector:
    """Return the history's inverse Hessian times v: P w + S R'^-1 (D a - Y'P w), with a = R^-1 S'v and w = v - Y a."""
    kind, inverse = history.directions.dtype, history.inverse
    rounded = v.astype(kind)
    weights = inverse @ (history.directions @ rounded).astype(inverse.dtype)
    whole = base((rounded - weights.astype(kind) @ history.images).astype(v.dtype)).astype(kind)
    back = (history.curvatures * weights - (history.images @ whole).astype(inverse.dtype)) @ inverse
    return (whole + back.astype(kind) @ history.directions).astype(v.dtype)
