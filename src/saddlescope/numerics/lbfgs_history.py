"""Curvature seen along earlier directions, which preconditions later solves with nearly the same Hessian.

A limited-memory BFGS matrix (Nocedal 1980) built from the directions of conjugate gradients, as in Morales and Nocedal
2000, on top of another preconditioner. Along a path hundreds of solves follow each other whose Hessians hardly differ:
what one of them learnt of the stiff and the flat directions serves the next. Only the speed of a solve depends on it,
never its result, so that single precision is enough.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, Int, Scalar

from saddlescope.numerics.tangent import Vector

# Directions kept at most, and numbers kept at most in one of the two tables (32 MB each).
SLOTS, NUMBERS = 400, 2**23


class LBFGSHistory(NamedTuple):
    """A ring of unit directions s, their images y = H s and 1 / (s.y), 0 where that curvature is not to be trusted."""

    directions: Float32[Array, "slots size"]
    images: Float32[Array, "slots size"]
    inverses: Float32[Array, " slots"]
    filled: Int[Array, ""]  # pairs ever kept: the ring holds the last of them


def empty(size: int) -> LBFGSHistory:
    """Return a memory with nothing in it, for vectors of this size."""
    slots = max(1, min(SLOTS, NUMBERS // size))
    zero = jnp.zeros((slots, size), jnp.float32)
    return LBFGSHistory(zero, zero, zero[:, 0], jnp.asarray(0))


def remember(memory: LBFGSHistory, direction: Vector, image: Vector, least: Scalar) -> LBFGSHistory:
    """Return the memory with one more pair in the place of its oldest; a curvature below ``least`` is not trusted."""
    length = jnp.linalg.norm(direction)
    s, y = direction / length, image / length
    curvature = s @ y
    trusted = curvature > least
    inverse = jnp.where(trusted, 1.0 / jnp.where(trusted, curvature, 1.0), 0.0)
    at = jnp.mod(memory.filled, memory.inverses.shape[0])
    return LBFGSHistory(
        memory.directions.at[at].set(s.astype(jnp.float32)),
        memory.images.at[at].set(y.astype(jnp.float32)),
        memory.inverses.at[at].set(inverse.astype(jnp.float32)),
        memory.filled + 1,
    )


def precondition(memory: LBFGSHistory, base: Callable[[Vector], Vector], v: Vector) -> Vector:
    """Return the memory's inverse Hessian times v, by the two loops of Nocedal 1980 around ``base``."""
    slots = memory.inverses.shape[0]
    kept = jnp.minimum(memory.filled, slots)

    def back(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        rest, weights = carry
        at = jnp.mod(memory.filled - 1 - i, slots)
        weight = memory.inverses[at] * (memory.directions[at] @ rest)
        return rest - weight * memory.images[at], weights.at[at].set(weight)

    def forth(i: Array, whole: Array) -> Array:
        at = jnp.mod(memory.filled - kept + i, slots)
        weight = memory.inverses[at] * (memory.images[at] @ whole)
        return whole + (weights[at] - weight) * memory.directions[at]

    rest, weights = jax.lax.fori_loop(0, kept, back, (v.astype(jnp.float32), jnp.zeros_like(memory.inverses)))
    whole = base(rest.astype(v.dtype)).astype(jnp.float32)
    return jax.lax.fori_loop(0, kept, forth, whole).astype(v.dtype)
