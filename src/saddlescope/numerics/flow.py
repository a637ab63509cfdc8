"""Gradient flow on a surface by a stiff ODE solver: the slow, faithful reference for `newton`.

dx/dt = -T(x) grad L(x), integrated with Kvaerno's fifth-order implicit method until the tangential gradient norm is
within the
tolerance or the time horizon ends ([B19] section 4.1 follows the flow in thought; MLPGradientFlow in practice).
"""

from typing import Any

import diffrax
import jax.numpy as jnp
from jaxtyping import Array, Int, Scalar

from saddlescope.numerics.newton import CONVERGED, MAX_STEPS, NON_FINITE, RUNNING, Iterate, begin
from saddlescope.numerics.tangent import Objective, Surface, Vector, tangent

HORIZON = 1e12


def flow(
    objective: Objective,
    surface: Surface,
    x: Vector,
    d: Scalar,
    *,
    tolerance: Scalar,
    radius: Scalar,
    limit: Int[Array, ""],
) -> Iterate:
    """Follow the gradient flow on the surface at d from x; ``limit`` is ignored, the solver's step limit is 4096."""
    del radius, limit
    first = begin(objective, surface, x, d, tolerance)

    def field(t: Any, y: Vector, args: Any) -> Vector:
        del t, args
        y = surface.retract(y, d)
        _, gradient = objective.value_and_gradient(y)
        return -tangent(surface, y, gradient).project(gradient)

    def arrived(t: Any, y: Vector, args: Any, **_: object) -> Array:
        return jnp.linalg.norm(field(t, y, args)) <= tolerance

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        diffrax.Kvaerno5(),
        t0=0.0,
        t1=jnp.where(first.status == RUNNING, HORIZON, 1e-12),
        dt0=None,
        y0=first.x,
        stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-9),
        event=diffrax.Event(arrived),
        max_steps=4096,
        throw=False,
    )
    assert solution.ys is not None
    moved = jnp.where(first.status == RUNNING, solution.ys[-1], first.x)
    end = begin(objective, surface, moved, d, tolerance)
    finite = jnp.isfinite(end.value) & jnp.isfinite(end.residual)
    status = jnp.where(end.residual <= tolerance, CONVERGED, MAX_STEPS)
    steps = jnp.asarray(solution.stats["num_steps"])
    return end._replace(status=jnp.where(finite, status, NON_FINITE), iterations=steps)
