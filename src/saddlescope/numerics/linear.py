"""One Newton-like step in the tangent space: dense by eigenvalues, or matrix-free by conjugate gradients.

Both solve (T H T + shift) s = -T g, where H is the Lagrangian's Hessian and the shift is the inverse pseudo-time
1/tau of a
linearly implicit gradient flow. The shift exceeds the most negative eigenvalue seen, and |s| stays within the radius.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Scalar

from saddlescope.numerics.lbfgs_history import LBFGSHistory, precondition, remember
from saddlescope.numerics.tangent import Objective, Surface, Tangent, Vector

# A direction with curvature below this share of the largest is treated as flat: float64 noise decides its sign.
FLAT = 1e-13

# Conjugate gradients end when the residual is this share of the slope, or half the tolerance if that is nearer than
# the second share; after so many products, they end anyway.
FORCING, NEAR = 0.2, 0.02
PRODUCTS, PRODUCTS_WITH_MEMORY = 60, 400


class Step(NamedTuple):
    """A step, the reduction that its model predicts, the lowest curvature seen, the Hessian products spent."""

    move: Vector
    predicted: Scalar
    curvature: Scalar
    products: Int[Array, ""]
    memory: LBFGSHistory | None = None


def tangential_hessian(objective: Objective, surface: Surface, x: Vector, space: Tangent) -> Float[Array, "size size"]:
    """Return T (H - sum lambda Hess h) T, dense, with a large positive value outside the tangent space."""
    identity = jnp.eye(x.shape[0], dtype=x.dtype)
    bend = jax.vmap(lambda v: surface.curvature_product(x, space.multipliers, v))(identity)
    projection = jax.vmap(space.project)(identity)
    inside = projection @ (objective.hessian(x) - bend) @ projection
    inside = 0.5 * (inside + inside.T)
    outside = jnp.max(jnp.abs(inside)) + 1.0
    return inside + outside * (identity - projection)


def dense_step(
    objective: Objective, surface: Surface, x: Vector, space: Tangent, slope: Vector, shift: Scalar, radius: Scalar
) -> Step:
    """Solve by the full eigendecomposition; the shift grows until the step fits into the radius."""
    hessian = tangential_hessian(objective, surface, x, space)
    values, vectors = jnp.linalg.eigh(hessian)
    coefficients = vectors.T @ slope
    lowest = values[0]
    floor = jnp.maximum(FLAT * jnp.max(jnp.abs(values)), 1.5 * jnp.maximum(0.0, -lowest))

    def too_long(shift: Scalar) -> Array:
        return jnp.linalg.norm(coefficients / (values + shift)) > radius

    shift = jax.lax.while_loop(too_long, lambda s: 1.5 * s, jnp.maximum(shift, floor))
    move = -(vectors @ (coefficients / (values + shift)))
    predicted = -(slope @ move + 0.5 * move @ (hessian @ move))
    return Step(space.project(move), predicted, lowest, jnp.asarray(x.shape[0]))


class _Krylov(NamedTuple):
    """State of the conjugate gradients: iterate, residual, preconditioned residual, direction, model's bookkeeping."""

    move: Vector
    residual: Vector
    conditioned: Vector
    direction: Vector
    image: Vector  # (T H T) move, for the model's value
    curvature: Scalar  # lowest met
    highest: Scalar
    products: Int[Array, ""]
    running: Array
    memory: LBFGSHistory | None


def _to_boundary(move: Vector, direction: Vector, radius: Scalar) -> Scalar:
    """Return the positive s with |move + s direction| = radius."""
    a, b = direction @ direction, move @ direction
    c = jnp.minimum(move @ move - radius**2, 0.0)
    return (-b + jnp.sqrt(jnp.maximum(b * b - a * c, 0.0))) / jnp.where(a > 0, a, 1.0)


def forcing(tolerance: Scalar, slope: Scalar) -> Scalar:
    """Return to which share of the slope's norm a step's linear system is to be solved."""
    near = jnp.maximum(NEAR, 0.5 * tolerance / slope)
    return jnp.where(tolerance > NEAR * slope, jnp.minimum(FORCING, near), FORCING)


def krylov_step(
    objective: Objective,
    surface: Surface,
    x: Vector,
    space: Tangent,
    slope: Vector,
    shift: Scalar,
    radius: Scalar,
    *,
    tolerance: Scalar,
    memory: LBFGSHistory | None,
) -> Step:
    """Solve by preconditioned conjugate gradients, ended early by the radius or by negative curvature (Steihaug).

    With a memory, each direction and its image are kept there, and precondition at once. A curvature that is zero to
    the products' rounding ends the solve where it is: its sign would be noise.
    """
    enough = forcing(tolerance, jnp.linalg.norm(slope)) * jnp.linalg.norm(slope)
    limit = PRODUCTS if memory is None else PRODUCTS_WITH_MEMORY

    def apply(v: Vector) -> Vector:
        return space.project(objective.model_product(x, v) - surface.curvature_product(x, space.multipliers, v))

    def base(v: Vector) -> Vector:
        return space.project(objective.precondition(x, shift, space.project(v)))

    def condition(memory: LBFGSHistory | None, v: Vector) -> Vector:
        return base(v) if memory is None else space.project(precondition(memory, base, space.project(v)))

    def body(state: _Krylov) -> _Krylov:
        image = apply(state.direction)
        length = state.direction @ state.direction
        raw = (state.direction @ image) / length
        highest = jnp.maximum(state.highest, raw)
        bend = raw + shift
        rate = (state.residual @ state.conditioned) / (jnp.where(bend > 0, bend, 1.0) * length)
        ahead = state.move + rate * state.direction
        noise = objective.rounding * highest
        flat = (jnp.abs(bend) <= noise) & (state.products > 0)
        leaves = (bend <= 0) | (jnp.linalg.norm(ahead) > radius)
        rate = jnp.where(leaves, _to_boundary(state.move, state.direction, radius), rate)
        rate = jnp.where(flat, 0.0, rate)
        residual = state.residual - rate * (image + shift * state.direction)
        known = state.memory
        if known is not None:
            known = remember(known, state.direction, image + shift * state.direction, noise)
        conditioned = condition(known, residual)
        # Polak and Ribiere's form: the preconditioner changes as it learns.
        beta = (conditioned @ (residual - state.residual)) / (state.residual @ state.conditioned)
        return _Krylov(
            state.move + rate * state.direction,
            residual,
            conditioned,
            conditioned + beta * state.direction,
            state.image + rate * image,
            jnp.minimum(state.curvature, raw),
            highest,
            state.products + 1,
            ~(leaves | flat | (jnp.linalg.norm(residual) <= enough)) & (state.products + 1 < limit),
            known,
        )

    first = condition(memory, -slope)
    zero, none = jnp.zeros_like(x), jnp.zeros_like(shift)
    begin = _Krylov(zero, -slope, first, first, zero, none + jnp.inf, none, jnp.asarray(0), jnp.asarray(True), memory)
    end = jax.lax.while_loop(lambda s: s.running, body, begin)
    predicted = -(slope @ end.move + 0.5 * end.move @ end.image)
    return Step(end.move, predicted, end.curvature, end.products, end.memory)
