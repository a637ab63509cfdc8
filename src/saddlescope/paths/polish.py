"""The permutation point, made as critical as float64 allows, and the decision whether it is critical at all.

The path's tolerance is one of tracking; the point's own gradient is brought to rounding by Newton steps in the network
with one neuron less, in which directions too flat to have a sign are left out. Critical is what has a gradient of
rounding, or nothing left to win: both say the same of a point in any units of parameters, data and loss.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from saddlescope.numerics.continuation import Limits, settle
from saddlescope.numerics.newton import CONVERGED, Iterate
from saddlescope.numerics.spectrum import rounding_bound
from saddlescope.numerics.tangent import Unconstrained
from saddlescope.paths.constraint import PairObjective
from saddlescope.problem.kronecker import factors

# Up to so many parameters Hessians are dense: as many as `certify` forms. Beyond, conjugate gradients.
DENSE_POLISH = 2000

# At most so many Hessians are formed, and so many steps taken with each; conjugate gradients take so many steps.
HESSIANS, STEPS, KRYLOV_STEPS = 4, 4, 30

# Directions whose curvature is below one of these shares of the largest are left out; each is tried.
FLAT_SHARES = (1e-13, 1e-11, 1e-9, 1e-7)

# A step is taken if it makes the gradient norm this much smaller; otherwise rounding or the model's end is reached.
FALL = 0.5

# The bound on the gradient's rounding holds a factor of 16 of safety: below this share of it there is nothing to gain.
ROUNDED = 0.125

# A point counts as critical if a quadratic model sees less than this share of the loss left to win or lose.
CRITICAL = 1e-5


class Polished(NamedTuple):
    """The point polished, its distance from where it was, what its gradient's norm and rounding are, and a verdict.

    ``decrease`` is g^T |H|^-1 g / 2, about the loss left to win or lose, in the path's unit.
    """

    iterate: Iterate
    before: float
    distance: float
    rounding: float
    decrease: float
    critical: bool


def takes(new: float, old: float) -> bool:
    """Return whether a step that leads from one gradient norm to another is taken: finite, and clearly smaller."""
    return bool(np.isfinite(new)) and new <= FALL * old


def is_critical(norm: float, rounding: float, decrease: float, loss: float) -> bool:
    """Return whether a gradient is zero to its rounding, or leaves less than a share `CRITICAL` of the loss to win."""
    if not np.isfinite(norm):
        return False
    return bool(norm <= rounding or decrease <= CRITICAL * abs(loss))


@eqx.filter_jit
def _hessian(objective: PairObjective, x: Array) -> Array:
    return objective.hessian(x)


@eqx.filter_jit
def _value_and_gradient(objective: PairObjective, x: Array) -> tuple[Array, Array]:
    return objective.value_and_gradient(x)


@eqx.filter_jit
def _conditioned(objective: PairObjective, x: Array, v: Array) -> Array:
    return objective.precondition(x, jnp.asarray(0.0), v)


def _rounding(objective: PairObjective, x: Array, gradient: np.ndarray, free: np.ndarray) -> float:
    """Return a bound on the rounding of the gradient's free entries, measured against the same program in float32."""
    bare = PairObjective(objective.problem, objective.coordinates, units=objective.units, loss_unit=objective.loss_unit)
    coarse = jax.tree.map(lambda leaf: leaf.astype(jnp.float32) if leaf.dtype == jnp.float64 else leaf, bare)
    return rounding_bound(gradient[free], np.asarray(_value_and_gradient(coarse, x.astype(jnp.float32))[1])[free])


class _Eigen(NamedTuple):
    """A Hessian's eigenvalues, their sizes relative to the largest, and its vectors, on the free entries."""

    values: np.ndarray
    shares: np.ndarray
    vectors: np.ndarray

    def step(self, gradient: np.ndarray, share: float) -> np.ndarray:
        """Return the Newton step in the directions whose curvature is not flat."""
        keep = self.shares > share
        along = self.vectors[:, keep].T @ gradient
        return -self.vectors[:, keep] @ (along / self.values[keep])

    def decrease(self, gradient: np.ndarray) -> float:
        """Return g^T |H|^-1 g / 2 over these directions."""
        keep = self.shares > FLAT_SHARES[0]
        along = self.vectors[:, keep].T @ gradient
        return float(0.5 * np.sum(along**2 / np.abs(self.values[keep])))


def _eigen(objective: PairObjective, x: Array, free: np.ndarray) -> _Eigen:
    hessian = np.asarray(_hessian(objective, x))[np.ix_(free, free)]
    values, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T))
    largest = float(np.max(np.abs(values), initial=0.0)) or 1.0
    return _Eigen(values, np.abs(values) / largest, vectors)


def _moved(x: Array, free: np.ndarray, step: np.ndarray) -> Array:
    return x.at[jnp.asarray(free)].add(jnp.asarray(step))


def _dense(
    objective: PairObjective, at: Iterate, free: np.ndarray, rounding: float, radius: float
) -> tuple[Iterate, float]:
    """Take Newton steps, each Hessian serving several, while the gradient falls; return the point and its decrease."""

    def tried(state: Iterate, step: np.ndarray) -> tuple[float, Iterate]:
        if not np.linalg.norm(step) <= radius:
            return np.inf, state
        x = _moved(state.x, free, step)
        value, gradient = _value_and_gradient(objective, x)
        residual = float(np.linalg.norm(np.asarray(gradient)[free]))
        return residual, state._replace(x=x, value=value, gradient=gradient, residual=jnp.asarray(residual))

    eigen = _eigen(objective, at.x, free)
    for round_ in range(HESSIANS):
        before = float(at.residual)
        if before <= ROUNDED * rounding:
            break
        if round_ > 0:
            eigen = _eigen(objective, at.x, free)
        for _ in range(STEPS):
            gradient = np.asarray(at.gradient)[free]
            ways = [tried(at, eigen.step(gradient, share)) for share in FLAT_SHARES]
            norm, ahead = min(ways, key=lambda way: way[0] if np.isfinite(way[0]) else np.inf)
            if not takes(norm, float(at.residual)):
                break
            at = ahead
            if norm <= ROUNDED * rounding:
                break
        if not takes(float(at.residual), before):
            break
    return at, eigen.decrease(np.asarray(at.gradient)[free])


def _matrix_free(
    objective: PairObjective, mask: Array, at: Iterate, rounding: float, limits: Limits
) -> tuple[Iterate, float]:
    """Take steps of conjugate gradients to the gradient's rounding; the decrease comes from the preconditioner."""
    if objective.factors is not None:
        own = eqx.tree_at(lambda one: one.factors, objective, factors(objective.problem, objective.theta(at.x)))
        objective = own
    limits = limits._replace(
        tolerance=jnp.asarray(ROUNDED * rounding), iterations=jnp.minimum(limits.iterations, KRYLOV_STEPS)
    )
    ahead = settle(objective, Unconstrained(mask), at.x, jnp.asarray(0.0), limits, "krylov")
    if float(ahead.residual) < float(at.residual):
        at = ahead._replace(memory=None)
    slope = mask * at.gradient
    return at, 0.5 * float(slope @ (mask * _conditioned(objective, at.x, slope)))


def polish_point(
    objective: PairObjective, mask: Float[Array, " size"], settled: Iterate, limits: Limits, *, on_kinks: bool
) -> Polished:
    """Bring the gradient in the mirror plane to rounding, and decide whether the point is critical.

    Args:
        objective: the loss in pair coordinates.
        mask: 1 for entries that may move, 0 for the differences of the pair.
        settled: a point of the plane.
        limits: whose radius bounds each step.
        on_kinks: samples lie on kinks there: no gradient vanishes, nothing is polished, and the residual along the
            creases decides.
    """
    free = np.flatnonzero(np.asarray(mask))
    before = float(settled.residual)
    if on_kinks or not np.isfinite(before):
        return Polished(settled, before, 0.0, float("nan"), float("nan"), int(settled.status) == CONVERGED)
    value, gradient = _value_and_gradient(objective, settled.x)
    start = settled._replace(value=value, gradient=gradient, residual=jnp.linalg.norm(mask * gradient), memory=None)
    rounding = _rounding(objective, settled.x, np.asarray(gradient), free)
    if len(free) <= DENSE_POLISH:
        end, decrease = _dense(objective, start, free, rounding, float(limits.radius))
    else:
        end, decrease = _matrix_free(objective, mask, start, rounding, limits)
    critical = is_critical(float(end.residual), rounding, decrease, float(end.value))
    end = end._replace(status=jnp.asarray(CONVERGED) if critical else settled.status)
    return Polished(end, before, float(jnp.linalg.norm(end.x - settled.x)), rounding, decrease, critical)
