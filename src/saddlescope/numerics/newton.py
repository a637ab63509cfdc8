"""Pseudo-transient continuation: a linearly implicit gradient flow on a surface that turns into Newton's method.

Each step solves (H + 1/tau) s = -g in the tangent space. The pseudo-time tau grows as the gradient falls (1/tau ~ |g|
/ radius), stays
below 1/|lambda_min|, and shrinks until the step fits the length allowed, which in turn shrinks after refused steps;
the loss never
rises beyond rounding. Followed from the previous distance this stays near the gradient flow (science notes, section 2).
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Scalar

from saddlescope.numerics.lbfgs_history import LBFGSHistory
from saddlescope.numerics.linear import dense_step, krylov_step
from saddlescope.numerics.tangent import Objective, Surface, Vector, tangent
from saddlescope.outcomes import Outcome

Linear = Literal["dense", "krylov"]

# Codes that compiled loops carry, and what they mean outside.
RUNNING, CONVERGED, MAX_STEPS, STAGNATED, NON_FINITE = range(5)
OUTCOMES = {
    CONVERGED: Outcome.CONVERGED,
    MAX_STEPS: Outcome.MAX_STEPS,
    STAGNATED: Outcome.STAGNATED,
    NON_FINITE: Outcome.NON_FINITE,
}

# Up to this many parameters a dense Hessian and its eigenvalues are taken at every step. To a tolerance of 1e-10 whole
# paths by conjugate gradients take 5.4 times as long at 25 parameters, 0.7 times at 61, 0.8 at 121, 0.4 at 253
# (benchmarks/results/growth.txt); but they see no folds, and left the gradient flow's branch at 25 and 49. So dense
# steps are taken for as long as they cost no more than a few times the time.
DENSE_LIMIT = 256

# Share of |g| / radius, the rate at which an explicit step just reaches the radius, that is always added to the
# shift: dense
# steps stay close to the gradient flow; conjugate gradients are held back by the radius and would only be slowed.
CAUTION: dict[Linear, float] = {"dense": 1.0, "krylov": 0.1}

# The loss may rise by this relative amount, rounding of the sum over samples, when the gradient falls.
ROUNDING = 1e-14


class Iterate(NamedTuple):
    """State of the iteration at one point of the surface."""

    x: Vector
    value: Scalar
    gradient: Vector
    residual: Scalar  # norm of the tangential gradient
    reach: Scalar  # longest step allowed now, as a share of the caller's radius
    curvature: Scalar
    iterations: Int[Array, ""]
    products: Int[Array, ""]
    status: Int[Array, ""]
    memory: LBFGSHistory | None = None  # of conjugate gradients; other methods keep none


def begin(objective: Objective, surface: Surface, x: Vector, d: Scalar, tolerance: Scalar) -> Iterate:
    """Evaluate the starting point, retracted onto the surface at d."""
    x = surface.retract(x, d)
    value, gradient = objective.value_and_gradient(x)
    residual = jnp.linalg.norm(tangent(surface, x, gradient).project(gradient))
    zero = jnp.asarray(0)
    status = jnp.where(residual <= tolerance, CONVERGED, RUNNING)
    status = jnp.where(jnp.isfinite(value) & jnp.isfinite(residual), status, NON_FINITE)
    return Iterate(
        x, value, gradient, residual, jnp.ones_like(value), jnp.full_like(value, jnp.nan), zero, zero, status
    )


def takes(value: Scalar, residual: Scalar, value_before: Scalar, residual_before: Scalar) -> Array:
    """Return whether a step is taken: all finite, and the loss falls, or stays to rounding while the gradient falls."""
    noise = ROUNDING * jnp.abs(value_before)
    finite = jnp.isfinite(value) & jnp.isfinite(residual)
    falls = value < value_before - noise
    level = (value <= value_before + noise) & (residual < residual_before)
    return finite & (falls | level)


def advance(
    objective: Objective,
    surface: Surface,
    state: Iterate,
    d: Scalar,
    tolerance: Scalar,
    radius: Scalar,
    linear: Linear,
) -> Iterate:
    """Try one step; a refused step leaves the point and shortens the steps allowed."""
    space = tangent(surface, state.x, state.gradient)
    slope = space.project(state.gradient)
    shift = CAUTION[linear] * jnp.linalg.norm(slope) / radius
    solve = dense_step if linear == "dense" else partial(krylov_step, tolerance=tolerance, memory=state.memory)
    step = solve(objective, surface, state.x, space, slope, shift, state.reach * radius)
    x = surface.retract(state.x + step.move, d)
    value, gradient = objective.value_and_gradient(x)
    residual = jnp.linalg.norm(tangent(surface, x, gradient).project(gradient))
    good = takes(value, residual, state.value, state.residual)
    ratio = (state.value - value) / jnp.where(step.predicted > 0, step.predicted, 1.0)
    length = jnp.linalg.norm(step.move) / radius
    longer = jnp.where(ratio > 0.7, jnp.minimum(1.0, jnp.maximum(state.reach, 3.0 * length)), state.reach)
    reach = jnp.where(good, longer, 0.25 * jnp.minimum(state.reach, length))
    status = jnp.where(good & (residual <= tolerance), CONVERGED, RUNNING)
    stuck = ~good & (reach * radius < 1e-15 * jnp.linalg.norm(state.x))
    status = jnp.where(stuck, STAGNATED, status)

    def pick(new: Array, old: Array) -> Array:
        return jnp.where(good, new, old)

    return Iterate(
        pick(x, state.x),
        pick(value, state.value),
        pick(gradient, state.gradient),
        pick(residual, state.residual),
        reach,
        step.curvature,
        state.iterations + 1,
        state.products + step.products,
        status,
        step.memory,
    )


class Method(NamedTuple):
    """How to begin at a point (as `begin`), and how to try one step (as `advance`, without its last argument)."""

    begin: Callable[..., Iterate]
    advance: Callable[..., Iterate]


DENSE = Method(begin, partial(advance, linear="dense"))
KRYLOV = Method(begin, partial(advance, linear="krylov"))


def _better(one: Iterate, other: Iterate) -> Iterate:
    """Return the iterate of lower residual; a NaN loses."""
    return jax.tree.map(partial(jnp.where, other.residual < one.residual), other, one)


def correct(
    objective: Objective,
    surface: Surface,
    x: Vector,
    d: Scalar,
    *,
    tolerance: Scalar,
    radius: Scalar,
    limit: Int[Array, ""],
    method: Method,
    memory: LBFGSHistory | None = None,
    other: Vector | None = None,
) -> Iterate:
    """Minimise on the surface at d, starting from x, until the tangential gradient norm is within the tolerance.

    Pure and jittable: the whole iteration is one compiled loop. The result's status says how it ended; its memory
    serves the next correction. ``other`` is a second guess: the one of lower residual is taken where x is not enough.
    """
    first = method.begin(objective, surface, x, d, tolerance)
    if other is not None:
        first = jax.lax.cond(
            first.status == CONVERGED,
            lambda: first,
            lambda: _better(first, method.begin(objective, surface, other, d, tolerance)),
        )
    first = first._replace(memory=memory)
    end = jax.lax.while_loop(
        lambda s: (s.status == RUNNING) & (s.iterations < limit),
        lambda s: method.advance(objective, surface, s, d, tolerance, radius),
        first,
    )
    return end._replace(status=jnp.where(end.status == RUNNING, MAX_STEPS, end.status))


def correct_traced(
    objective: Objective,
    surface: Surface,
    x: Vector,
    d: Scalar,
    *,
    tolerance: Scalar,
    radius: Scalar,
    limit: Int[Array, ""],
    method: Method,
    room: int,
) -> tuple[Iterate, Float[Array, "room size"], Float[Array, " room"], Int[Array, ""]]:
    """Do as `correct`, and return also every iterate up to ``room``, their values, and how many there are."""
    first = method.begin(objective, surface, x, d, tolerance)
    points = jnp.zeros((room, x.shape[0]), x.dtype).at[0].set(first.x)
    values = jnp.zeros((room,), x.dtype).at[0].set(first.value)

    def step(carry: tuple[Iterate, Array, Array]) -> tuple[Iterate, Array, Array]:
        state = method.advance(objective, surface, carry[0], d, tolerance, radius)
        at = jnp.minimum(state.iterations, room - 1)
        return state, carry[1].at[at].set(state.x), carry[2].at[at].set(state.value)

    end, points, values = jax.lax.while_loop(
        lambda c: (c[0].status == RUNNING) & (c[0].iterations < limit), step, (first, points, values)
    )
    status = jnp.where(end.status == RUNNING, MAX_STEPS, end.status)
    return end._replace(status=status), points, values, jnp.minimum(end.iterations + 1, room)
