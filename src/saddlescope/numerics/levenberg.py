"""Levenberg-Marquardt for sums of squares, many starting points at once, each with its own damping and end.

Minimises |r(x)|^2 with steps (J'J + mu I) s = -J'r. The damping follows Nielsen 1999 (Madsen, Nielsen & Tingleff 2004,
algorithm 3.16). Finished lanes are left out between compiled chunks; batches come in powers of two.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Scalar

from saddlescope.errors import SettingsError
from saddlescope.outcomes import Outcome
from saddlescope.precision import in_float64

Residual = Callable[[Array], Array]
Linear = Callable[[Array], tuple[Array, Array]]
"""Parameter vector to residuals and their Jacobian, one row a residual."""

Progress = Callable[[int, int, str], None]

RUNNING, CONVERGED, MAX_STEPS, STAGNATED, DIVERGED, NON_FINITE = range(6)
OUTCOMES = {
    CONVERGED: Outcome.CONVERGED,
    MAX_STEPS: Outcome.MAX_STEPS,
    STAGNATED: Outcome.STAGNATED,
    DIVERGED: Outcome.DIVERGED,
    NON_FINITE: Outcome.NON_FINITE,
}

# First damping, as a share of the largest diagonal entry of J'J.
FIRST_DAMPING = 1e-3

# Values that differ by less than this share are equal to rounding; between them the smaller gradient decides.
LEVEL = 1e-14

# A step shorter than this share of |x| moves nothing in float64.
SHORTEST = 1e-16


class Lane(NamedTuple):
    """State of one starting point."""

    x: Float[Array, " size"]
    value: Scalar
    gradient: Float[Array, " size"]  # of the value: 2 J'r
    gram: Float[Array, "size size"]  # J'J
    damping: Scalar
    growth: Scalar
    iterations: Int[Array, ""]
    status: Int[Array, ""]


class LeastSquares(NamedTuple):
    """Where each lane ended; ``values`` are |r|^2 and ``gradient_norms`` those of its gradient 2 J'r."""

    points: np.ndarray
    values: np.ndarray
    gradient_norms: np.ndarray
    iterations: np.ndarray
    outcomes: tuple[Outcome, ...]


def _evaluate(linear: Linear, x: Array) -> tuple[Scalar, Array, Array]:
    r, pull = linear(x)
    return r @ r, 2.0 * (r @ pull), pull.T @ pull


def _begin(linear: Linear, x: Array) -> Lane:
    value, gradient, gram = _evaluate(linear, x)
    damping = FIRST_DAMPING * jnp.max(jnp.diag(gram))
    status = jnp.where(jnp.isfinite(value) & jnp.isfinite(damping), RUNNING, NON_FINITE)
    return Lane(x, value, gradient, gram, damping, jnp.full_like(value, 2.0), jnp.asarray(0), status)


def _advance(linear: Linear, lane: Lane, target: Scalar, tolerance: Scalar, bound: Scalar) -> Lane:
    """Try one step; a lane that has ended stays as it is."""
    here = lane.gradient / 2.0
    matrix = lane.gram + lane.damping * jnp.eye(lane.x.shape[0], dtype=lane.x.dtype)
    step = -jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(matrix), here)
    solved = jnp.all(jnp.isfinite(step))
    step = jnp.where(solved, step, 0.0)
    x = lane.x + step
    value, gradient, gram = _evaluate(linear, x)
    predicted = step @ (lane.damping * step - here)
    ratio = (lane.value - value) / jnp.where(predicted > 0, predicted, 1.0)
    level = jnp.abs(value - lane.value) <= LEVEL * lane.value
    flatter = jnp.linalg.norm(gradient) < jnp.linalg.norm(lane.gradient)
    better = jnp.where(level, flatter, value < lane.value)
    good = solved & jnp.isfinite(value) & jnp.all(jnp.isfinite(gram)) & better
    easier = lane.damping * jnp.where(level, 1.0 / 3.0, jnp.clip(1.0 - (2.0 * ratio - 1.0) ** 3, 1.0 / 3.0, 2.0))
    short = solved & (jnp.linalg.norm(step) <= SHORTEST * jnp.linalg.norm(lane.x))
    status = jnp.where(~good & (short | (lane.growth > 1e30)), STAGNATED, RUNNING)
    size = jnp.max(jnp.abs(jnp.where(good, x, lane.x)))
    status = jnp.where(size > bound, DIVERGED, status)
    done = (jnp.where(good, value, lane.value) <= target) | (
        jnp.linalg.norm(jnp.where(good, gradient, lane.gradient)) <= tolerance
    )
    status = jnp.where(done, CONVERGED, status)
    new = Lane(
        jnp.where(good, x, lane.x),
        jnp.where(good, value, lane.value),
        jnp.where(good, gradient, lane.gradient),
        jnp.where(good, gram, lane.gram),
        jnp.where(good, easier, lane.damping * lane.growth),
        jnp.where(good, 2.0, 2.0 * lane.growth),
        lane.iterations + 1,
        status,
    )
    return jax.tree.map(lambda fresh, old: jnp.where(lane.status == RUNNING, fresh, old), new, lane)


class _Forward(eqx.Module):
    """Residuals and their Jacobian by forward differentiation, a column a parameter: right for any residual."""

    residual: Residual

    def __call__(self, x: Array) -> tuple[Array, Array]:
        return self.residual(x), jax.jacfwd(self.residual)(x)


@eqx.filter_jit
def _start(linear: Linear, points: Array) -> Lane:
    return jax.vmap(lambda x: _begin(linear, x))(points)


@eqx.filter_jit
def _chunk(linear: Linear, lanes: Lane, steps: Array, target: Scalar, tolerance: Scalar, bound: Scalar) -> Lane:
    """Take up to ``steps`` steps in every lane; end sooner when all have ended."""
    advance = jax.vmap(lambda lane: _advance(linear, lane, target, tolerance, bound))
    return jax.lax.while_loop(
        lambda c: (c[0] < steps) & jnp.any(c[1].status == RUNNING),
        lambda c: (c[0] + 1, advance(c[1])),
        (jnp.asarray(0), lanes),
    )[1]


@in_float64
def levenberg(
    residual: Residual,
    points: Float[np.ndarray, "lanes size"],
    *,
    target: float = 0.0,
    tolerance: float = 1e-14,
    limit: int = 2000,
    bound: float = 1e8,
    chunk: int = 200,
    linear: Linear | None = None,
    progress: Progress | None = None,
) -> LeastSquares:
    """Minimise |r(x)|^2 from every starting point.

    Args:
        residual: r, jittable; parameter vector to residual vector.
        points: starting points, one a row.
        target: a lane ends when |r|^2 is at most this;
        tolerance: or when |2 J'r| is.
        limit: largest number of steps tried in one lane.
        bound: a lane with a larger entry counts as diverged.
        chunk: steps between two reports, after which lanes that ended are left out.
        linear: r and its Jacobian, where these can be had sooner than a column a parameter.
        progress: called with (steps, limit, message).

    Returns:
        Points, values and outcomes, in the order of the starting points.

    Raises:
        SettingsError: no lane, or a limit or chunk below 1.
    """
    for name, number in (("points", len(points)), ("limit", limit), ("chunk", chunk)):
        if number < 1:
            raise SettingsError("this setting cannot be used", name=name, value=number, expected="1 or more")
    settings = (jnp.asarray(target), jnp.asarray(tolerance), jnp.asarray(bound))
    linear = _Forward(residual) if linear is None else linear
    lanes = jax.tree.map(np.array, _start(linear, jnp.asarray(points, jnp.float64)))
    done = 0
    while done < limit and (going := np.flatnonzero(lanes.status == RUNNING)).size:
        padded = np.resize(going, min(1 << int(going.size - 1).bit_length(), len(points)))
        steps = min(chunk, limit - done)
        part = jax.tree.map(lambda leaf, rows=padded: jnp.asarray(leaf[rows]), lanes)
        ended = _chunk(linear, part, jnp.asarray(steps), *settings)
        for leaf, fresh in zip(lanes, ended, strict=True):
            leaf[going] = np.asarray(fresh)[: going.size]
        done += steps
        if progress is not None:
            progress(done, limit, f"{int((lanes.status == RUNNING).sum())} of {len(points)} still running")
    status = np.where(lanes.status == RUNNING, MAX_STEPS, lanes.status)
    return LeastSquares(
        points=lanes.x,
        values=lanes.value,
        gradient_norms=np.linalg.norm(lanes.gradient, axis=1),
        iterations=lanes.iterations,
        outcomes=tuple(OUTCOMES[int(code)] for code in status),
    )
