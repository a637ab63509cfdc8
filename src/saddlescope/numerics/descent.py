"""Full-batch gradient descent on a surface: the 2019 paper's own way, kept as a reference for comparisons.

The step length doubles slowly after a fall and halves after a rise; nothing else is clever, on purpose ([B19] section
4.1).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Scalar

from saddlescope.numerics.newton import CONVERGED, MAX_STEPS, NON_FINITE, ROUNDING, RUNNING, STAGNATED, Iterate, begin
from saddlescope.numerics.tangent import Objective, Surface, Vector, tangent


class _Walk(NamedTuple):
    """State: the iterate and the step length."""

    iterate: Iterate
    length: Scalar


def descent(
    objective: Objective,
    surface: Surface,
    x: Vector,
    d: Scalar,
    *,
    tolerance: Scalar,
    radius: Scalar,
    limit: Int[Array, ""],
) -> Iterate:
    """Descend on the surface at d from x, at most ``1000 limit`` gradients."""

    def step(state: _Walk) -> _Walk:
        now = state.iterate
        slope = tangent(surface, now.x, now.gradient).project(now.gradient)
        length = jnp.minimum(state.length, radius / jnp.maximum(now.residual, 1e-300))
        x = surface.retract(now.x - length * slope, d)
        value, gradient = objective.value_and_gradient(x)
        residual = jnp.linalg.norm(tangent(surface, x, gradient).project(gradient))
        good = value <= now.value + ROUNDING * jnp.abs(now.value)
        status = jnp.where(good & (residual <= tolerance), CONVERGED, RUNNING)
        status = jnp.where(~good & (length < 1e-14), STAGNATED, status)

        def pick(new: Array, old: Array) -> Array:
            return jnp.where(good, new, old)

        moved = now._replace(
            x=pick(x, now.x),
            value=pick(value, now.value),
            gradient=pick(gradient, now.gradient),
            residual=pick(residual, now.residual),
            iterations=now.iterations + 1,
            status=status,
        )
        return _Walk(moved, jnp.where(good, 1.1 * length, 0.5 * length))

    first = begin(objective, surface, x, d, tolerance)
    end = jax.lax.while_loop(
        lambda s: (s.iterate.status == RUNNING) & (s.iterate.iterations < 1000 * limit),
        step,
        _Walk(first, jnp.asarray(0.1, first.value.dtype)),
    ).iterate
    end = end._replace(status=jnp.where(end.status == RUNNING, MAX_STEPS, end.status))
    finite = jnp.isfinite(end.value)
    return end._replace(status=jnp.where(finite, end.status, NON_FINITE))
