"""The permutation point, made as critical as float64 allows, and the decision whether it is critical at all.

The path's tolerance is one of tracking. The point's own gradient is brought to rounding in the network with one neuron
less: by Newton steps in all directions that are not flat, and where a flat valley is left that still goes down, by
steps along it. One dense Hessian is decomposed; after it only its flattest directions get new Hessian products at
every step, and the others keep their curvature: a Schur complement joins both. Critical is what has a gradient of
rounding, or nothing left to win: both say the same of a point in any units of parameters, data and loss.
"""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from saddlescope.numerics.continuation import Tolerances, settle
from saddlescope.numerics.newton import CONVERGED, ROUNDING, Iterate
from saddlescope.numerics.spectrum import rounding_bound
from saddlescope.numerics.tangent import Unconstrained
from saddlescope.paths.constraint import PairObjective, value_and_gradient
from saddlescope.precision import single
from saddlescope.problem.kronecker import factors

# Up to so many parameters Hessians are dense: as many as `certify` forms. Beyond, conjugate gradients.
DENSE_POLISH = 2000

# At most so many Newton steps on either side of a descent, steps of a descent, and steps of conjugate gradients.
NEWTON_STEPS, STEPS, KRYLOV_STEPS = 8, 40, 30

# Directions whose curvature is below this share of the largest get new products at every step; in small networks all.
WEAK, SMALL = 1e-6, 300

# Below this share of the largest a curvature has no sign, and a descent leaves the direction alone; Newton steps try
# each of the others too.
FLAT, FLAT_SHARES = 1e-14, (1e-13, 1e-11, 1e-9, 1e-7)

# A step down is taken if the loss falls by this share of what its model says; above the second the radius grows.
FAIR, GOOD = 0.1, 0.7

# A Newton step is taken if it makes the gradient norm this much smaller.
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


def takes(norm: float, before: float) -> bool:
    """Return whether a Newton step from one gradient norm to another is taken: finite, and clearly smaller."""
    return math.isfinite(norm) and norm <= FALL * before


def is_critical(norm: float, rounding: float, decrease: float, loss: float) -> bool:
    """Return whether a gradient is zero to its rounding, or leaves less than a share `CRITICAL` of the loss to win."""
    if not np.isfinite(norm):
        return False
    return bool(norm <= rounding or decrease <= CRITICAL * abs(loss))


@eqx.filter_jit
def _hessian(objective: PairObjective, x: Array) -> Array:
    return objective.hessian(x)


@eqx.filter_jit
def _conditioned(objective: PairObjective, x: Array, v: Array) -> Array:
    return objective.precondition(x, jnp.asarray(0.0), v)


def _rounding(objective: PairObjective, x: Array, gradient: np.ndarray, free: np.ndarray) -> float:
    """Return a bound on the rounding of the gradient's free entries, measured against the same program in float32."""
    bare = PairObjective(objective.problem, objective.coordinates, units=objective.units, loss_unit=objective.loss_unit)
    coarse = single(bare)
    return rounding_bound(gradient[free], np.asarray(value_and_gradient(coarse, x.astype(jnp.float32))[1])[free])


@eqx.filter_jit
def _products(objective: PairObjective, x: Array, rows: Array) -> Array:
    return jax.lax.map(lambda v: objective.hessian_product(x, v), rows, batch_size=32)


class _Frame(NamedTuple):
    """Eigenvectors of one Hessian on the free entries: weak or downward ones, and strong ones with their curvatures."""

    free: np.ndarray
    weak: np.ndarray
    strong: np.ndarray
    curvatures: np.ndarray
    flat: float  # below it a curvature has no sign

    def products(self, objective: PairObjective, x: Array) -> np.ndarray:
        """Return the Hessian at x times the weak directions, a column each."""
        rows = np.zeros((self.weak.shape[1], x.shape[0]))
        rows[:, self.free] = self.weak.T
        return np.asarray(_products(objective, x, jnp.asarray(rows)))[:, self.free].T if len(rows) else self.weak


def _frame(objective: PairObjective, x: Array, free: np.ndarray) -> _Frame:
    hessian = np.asarray(_hessian(objective, x))[np.ix_(free, free)]
    values, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T))
    top = float(np.max(np.abs(values), initial=0.0))
    weak = values <= (WEAK * top if len(free) > SMALL else np.inf)
    return _Frame(free, vectors[:, weak], vectors[:, ~weak], values[~weak], FLAT * top)


class _Model(NamedTuple):
    """The quadratic model at one point: the strong directions eliminated from the weak ones."""

    frame: _Frame
    coupling: np.ndarray  # strong by weak
    values: np.ndarray  # of the Schur complement
    vectors: np.ndarray
    slope: np.ndarray  # in these
    strong_slope: np.ndarray

    @property
    def decrease(self) -> float:
        """g^T |H|^-1 g / 2 over all directions whose curvature has a sign: the loss left to win or lose."""
        sure = np.abs(self.values) > self.frame.flat
        weak = np.sum(self.slope[sure] ** 2 / np.abs(self.values[sure]))
        return float(0.5 * (weak + np.sum(self.strong_slope**2 / self.frame.curvatures)))

    def descent(self, radius: float) -> tuple[np.ndarray, float]:
        """Return a step down within the radius, and by how much the model's loss falls along it."""
        sure = np.abs(self.values) > self.frame.flat
        sizes, slope = np.abs(self.values[sure]), self.slope[sure]
        inside = -slope / (sizes + _shift(sizes, slope, radius))
        falls = -float(slope @ inside + 0.5 * np.sum(sizes * inside**2))
        falls += 0.5 * float(np.sum(self.strong_slope**2 / self.frame.curvatures))
        return self._joined(self.vectors[:, sure] @ inside), falls

    def newton(self, share: float) -> np.ndarray:
        """Return the Newton step in the directions whose curvature is above a share of the largest."""
        sure = np.abs(self.values) > share / FLAT * self.frame.flat
        return self._joined(-self.vectors[:, sure] @ (self.slope[sure] / self.values[sure]))

    def _joined(self, weak: np.ndarray) -> np.ndarray:
        strong = -(self.strong_slope + self.coupling @ weak) / self.frame.curvatures
        return self.frame.weak @ weak + self.frame.strong @ strong


def _shift(sizes: np.ndarray, slope: np.ndarray, radius: float) -> float:
    """Return the shift of all curvatures that brings the step just within the radius; 0 where it is already."""

    def too_long(shift: float) -> bool:
        return float(np.linalg.norm(slope / (sizes + shift))) > radius

    if not len(sizes) or not too_long(0.0):
        return 0.0
    low, high = 0.0, float(np.linalg.norm(slope)) / radius
    for _ in range(60):
        middle = 0.5 * (low + high) if low > 0.0 else 1e-3 * high
        low, high = (middle, high) if too_long(middle) else (low, middle)
        if low > 0.0 and high < 1.1 * low:
            break
    return high


def _model(objective: PairObjective, at: Iterate, frame: _Frame) -> _Model:
    images = frame.products(objective, at.x)
    gradient = np.asarray(at.gradient)[frame.free]
    own, coupling = frame.weak.T @ images, frame.strong.T @ images
    strong_slope = frame.strong.T @ gradient
    schur = 0.5 * (own + own.T) - coupling.T @ (coupling / frame.curvatures[:, None])
    values, vectors = np.linalg.eigh(schur)
    slope = vectors.T @ (frame.weak.T @ gradient - coupling.T @ (strong_slope / frame.curvatures))
    return _Model(frame, coupling, values, vectors, slope, strong_slope)


def _tried(objective: PairObjective, at: Iterate, free: np.ndarray, step: np.ndarray) -> Iterate:
    """Return the point that a step leads to."""
    moved = np.array(at.x)  # in NumPy: in JAX every number of free entries would compile a program
    moved[free] += step
    x = jnp.asarray(moved)
    value, gradient = value_and_gradient(objective, x)
    residual = jnp.asarray(np.linalg.norm(np.asarray(gradient)[free]))
    return at._replace(x=x, value=value, gradient=gradient, residual=residual)


def _newton(
    objective: PairObjective, at: Iterate, model: _Model, enough: float, radius: float
) -> tuple[Iterate, _Model]:
    """Take short Newton steps while the gradient falls."""
    for _ in range(NEWTON_STEPS):
        if float(at.residual) <= enough:
            break
        steps = [step for step in map(model.newton, FLAT_SHARES) if float(np.linalg.norm(step)) <= radius]
        ways = [_tried(objective, at, model.frame.free, step) for step in steps]
        ways = [way for way in ways if takes(float(way.residual), float(at.residual))]
        if not ways:
            break
        at = min(ways, key=lambda way: float(way.residual))
        model = _model(objective, at, model.frame)
    return at, model


def _descend(objective: PairObjective, at: Iterate, model: _Model, radius: float) -> tuple[Iterate, _Model]:
    """Take steps along what is flat until a quadratic model has nothing left to win, or no step is taken."""
    for _ in range(STEPS):
        if model.decrease <= 0.5 * CRITICAL * abs(float(at.value)):
            break
        step, falls = model.descent(radius)
        ahead = _tried(objective, at, model.frame.free, step)
        won, length = float(at.value - ahead.value), float(np.linalg.norm(step))
        if not (won > ROUNDING * abs(float(at.value)) and won >= FAIR * falls):  # NaN, too
            radius = 0.25 * min(radius, length)
            if not radius > 1e-15 * float(jnp.linalg.norm(at.x)):
                break
            continue
        radius = max(radius, 3.0 * length) if won > GOOD * falls else radius
        at, model = ahead, _model(objective, ahead, model.frame)
    return at, model


def _dense(
    objective: PairObjective, at: Iterate, free: np.ndarray, rounding: float, radius: float
) -> tuple[Iterate, float]:
    """Polish with one dense Hessian; return the point and the decrease that is left."""
    if not len(free):
        return at, 0.0
    enough = ROUNDED * rounding
    at, model = _newton(objective, at, _model(objective, at, _frame(objective, at.x, free)), enough, radius)
    if not is_critical(float(at.residual), rounding, model.decrease, float(at.value)):
        at, model = _descend(objective, at, model, radius)
        at, model = _newton(objective, at, _model(objective, at, _frame(objective, at.x, free)), enough, radius)
    return at, model.decrease


def _matrix_free(
    objective: PairObjective, mask: Array, at: Iterate, rounding: float, limits: Tolerances
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
    objective: PairObjective, mask: Float[Array, " size"], settled: Iterate, limits: Tolerances, *, on_kinks: bool
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
    value, gradient = value_and_gradient(objective, settled.x)
    start = settled._replace(value=value, gradient=gradient, residual=jnp.linalg.norm(mask * gradient), memory=None)
    rounding = _rounding(objective, settled.x, np.asarray(gradient), free)
    if len(free) <= DENSE_POLISH:
        end, decrease = _dense(objective, start, free, rounding, float(limits.radius))
    else:
        end, decrease = _matrix_free(objective, mask, start, rounding, limits)
    critical = is_critical(float(end.residual), rounding, decrease, float(end.value))
    end = end._replace(status=jnp.asarray(CONVERGED) if critical else settled.status)
    return Polished(end, before, float(jnp.linalg.norm(end.x - settled.x)), rounding, decrease, critical)
