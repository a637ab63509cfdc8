"""The symmetric part: signs of the reduced network's Hessian, dense or matrix-free, and the critical point it is at.

Parameters are x, with theta = scale * x[source] (`groups.Embedding`); with the identity this is the whole network.
"""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Scalar

from saddlescope.arrays import require_finite
from saddlescope.critical.groups import Embedding
from saddlescope.critical.result import Inertia
from saddlescope.numerics.spectrum import SAFETY, chance_unseen, dense_spectrum, lanczos, rounding_bound
from saddlescope.problem.kronecker import factors, half_apply
from saddlescope.problem.networks import Perceptron
from saddlescope.problem.problem import Problem

# At most so many Newton corrections lead from the point given to the critical point that is certified.
CORRECTIONS = 6

# A probe this long, relative to the parameters, measures how fast the Hessian changes along the correction.
PROBE = 1e-5

# The chance, over Lanczos's random start, that a nonpositive eigenvalue went unseen must be below this.
CHANCE = 1e-6


class Reduced(eqx.Module):
    """A problem as a function of x."""

    problem: Problem
    source: Array
    scale: Array
    size: int = eqx.field(static=True)

    @staticmethod
    def of(problem: Problem, parts: Embedding) -> "Reduced":
        """Return the problem seen through an embedding."""
        return Reduced(problem, jnp.asarray(parts.source), jnp.asarray(parts.scale), parts.size)

    def lift(self, x: Array) -> Array:
        """Return M x."""
        return self.scale * x[self.source]

    def pull(self, v: Array) -> Array:
        """Return M^T v."""
        return jnp.zeros((self.size,), v.dtype).at[self.source].add(self.scale * v)

    def value_and_gradient(self, x: Array) -> tuple[Scalar, Array]:
        """Return loss and gradient in x."""
        value, gradient = self.problem.value_and_gradient(self.lift(x))
        return value, self.pull(gradient)

    def product(self, x: Array, v: Array) -> Array:
        """Return M^T H M v."""
        return self.pull(self.problem.hessian_product(self.lift(x), self.lift(v)))


@eqx.filter_jit
def _value_and_gradient(reduced: Reduced, x: Array) -> tuple[Scalar, Array]:
    return reduced.value_and_gradient(x)


@eqx.filter_jit
def _hessian(reduced: Reduced, x: Array) -> Array:
    identity = jnp.eye(reduced.size, dtype=x.dtype)
    return jax.lax.map(lambda v: reduced.product(x, v), identity, batch_size=16)


@eqx.filter_jit
def _product(reduced: Reduced, x: Array, v: Array) -> Array:
    return reduced.product(x, v)


def in_32(reduced: Reduced, x: np.ndarray) -> tuple[Reduced, Array]:
    """Return the same in float32, to measure rounding."""
    coarse = jax.tree.map(lambda leaf: leaf.astype(jnp.float32) if leaf.dtype == jnp.float64 else leaf, reduced)
    return coarse, jnp.asarray(x, jnp.float32)


def reduced_product(reduced: Reduced, x: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return M^T H M v as a NumPy array."""
    return np.asarray(_product(reduced, jnp.asarray(x), jnp.asarray(v)))


def reduced_gradient(reduced: Reduced, x: np.ndarray) -> np.ndarray:
    """Return the gradient in x as a NumPy array."""
    return reduced_value_and_gradient(reduced, x)[1]


def reduced_value_and_gradient(reduced: Reduced, x: np.ndarray) -> tuple[float, np.ndarray]:
    """Return loss and gradient in x, as a Python number and a NumPy array."""
    value, gradient = _value_and_gradient(reduced, jnp.asarray(x))
    return float(value), np.asarray(gradient)


def reduced_hessian(reduced: Reduced, x: Any) -> np.ndarray:
    """Return M^T H M, dense; in float32 where the reduced problem is."""
    return np.asarray(_hessian(reduced, jnp.asarray(x)))


@dataclass(frozen=True)
class Settled:
    """A critical point x near the one given: loss and gradient norm at both, the error of the Hessian at it.

    ``hessian`` is None for a matrix-free part. ``drift`` bounds |H(x) - H(exact critical point)|, ``rounding`` the
    rounding in H. What the gradient's rounding leaves open may move the point along a direction of eigenvalue lambda,
    and so change the Hessian by ``sway / |lambda|`` more. ``decrease`` is g^T |H|^-1 g / 2 at the point given, about
    the loss that is left to win or lose.
    Not ``pinned``: Newton's corrections do not converge, as in a valley too flat for them; then x is the point given,
    and its Hessian is taken as it is, without drift.
    """

    x: np.ndarray
    hessian: np.ndarray | None
    gradient: np.ndarray
    loss: float
    gradient_norm: float
    gradient_noise: float
    first_loss: float
    first_norm: float
    distance: float
    decrease: float
    rounding: float
    drift: float
    sway: float
    products: int
    pinned: bool


def gradient_noise(reduced: Reduced, x: np.ndarray, gradient: np.ndarray) -> float:
    """Return a bound on the rounding of the gradient, measured against float32."""
    coarse, x32 = in_32(reduced, x)
    return rounding_bound(gradient, np.asarray(_value_and_gradient(coarse, x32)[1]))


def _correction(hessian: np.ndarray, gradient: np.ndarray, error: float) -> tuple[np.ndarray, float, np.ndarray]:
    """Return the Newton step in the directions whose curvature is not drowned by the error, and g^T |H|^-1 g / 2.

    The last array is the flattest of these directions, divided by its curvature's size; zero if there are none.
    """
    values, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T))
    sure = np.abs(values) > 4.0 * error
    values, vectors = values[sure], vectors[:, sure]
    along = vectors.T @ gradient
    loose = np.zeros(len(gradient))
    if len(values):
        k = int(np.argmin(np.abs(values)))
        loose = vectors[:, k] / abs(values[k])
    return -vectors @ (along / values), float(0.5 * np.sum(along**2 / np.abs(values))), loose


def _is_pinned(first: float, last: float, noise: float) -> bool:
    """Return whether the corrections led to a gradient of rounding, or made it a thousand times smaller."""
    return last <= max(4.0 * noise, 1e-3 * first)


def settle_dense(reduced: Reduced, x: np.ndarray) -> Settled:
    """Correct x by dense Newton steps while the gradient falls, and bound the errors of the Hessian there.

    Raises:
        NonFiniteError: loss, gradient or Hessian are not finite at x.
    """
    loss, gradient = (np.asarray(part) for part in _value_and_gradient(reduced, jnp.asarray(x)))
    hessian = reduced_hessian(reduced, x)
    require_finite({"loss": loss, "gradient": gradient, "Hessian": hessian}, "what is computed at the point")
    noise = gradient_noise(reduced, x, gradient)
    rounding = rounding_bound(hessian, reduced_hessian(*in_32(reduced, x)))
    step, decrease, loose = _correction(hessian, gradient, rounding)
    start = (x, hessian, gradient, loss)
    first = float(np.linalg.norm(gradient))
    products = 2 * len(x)
    for _ in range(CORRECTIONS):
        if np.linalg.norm(gradient) <= noise or not np.linalg.norm(step) > 0.0:
            break
        ahead = x + step
        value, slope = (np.asarray(part) for part in _value_and_gradient(reduced, jnp.asarray(ahead)))
        if not np.linalg.norm(slope) < 0.5 * np.linalg.norm(gradient):
            break
        x, loss, gradient = ahead, value, slope
        hessian = reduced_hessian(reduced, x)
        step, _, loose = _correction(hessian, gradient, rounding)
        products += len(x)
    pinned = _is_pinned(first, float(np.linalg.norm(gradient)), noise)
    drift = sway = 0.0
    if pinned:
        # What the rounding leaves of the gradient in one direction: the bound is on the norm, and holds the safety.
        left = noise / (SAFETY * np.sqrt(len(x)))
        way = max(step, left * loose, key=np.linalg.norm) if np.isfinite(left) else step
        change, products = _change(reduced, x, hessian, way), products + len(x)
        drift, sway = change * float(np.linalg.norm(step)), change * left if np.isfinite(left) else float("inf")
    else:
        x, hessian, gradient, loss = start
    return Settled(
        x,
        hessian,
        np.asarray(gradient),
        float(loss),
        float(np.linalg.norm(gradient)),
        noise,
        float(start[3]),
        first,
        float(np.linalg.norm(x - start[0])),
        decrease,
        rounding,
        drift,
        sway,
        products,
        pinned,
    )


def _change(reduced: Reduced, x: np.ndarray, hessian: np.ndarray, way: np.ndarray) -> float:
    """Return how much the Hessian changes per length along the way: measured on a probe, times 4."""
    length = float(np.linalg.norm(way))
    if length == 0.0:
        return 0.0
    reach = max(PROBE * float(np.linalg.norm(x)), length)
    change = reduced_hessian(reduced, x + (reach / length) * way) - hessian
    return 4.0 * float(np.linalg.norm(change, 2)) / reach


def dense_inertia(
    hessian: np.ndarray, null: Float[np.ndarray, "null size"], error: float, sway: float = 0.0
) -> tuple[Inertia, float]:
    """Return the signs of a Hessian whose null space holds the rows of ``null``, and the largest |H n| seen on them.

    The rows are orthonormal; they count as flat and are taken out before the eigenvalues are computed. To the error
    of an eigenvalue ``sway`` divided by its size is added (`Settled`).
    """
    residual = float(np.max(np.linalg.norm(null @ hessian, axis=1))) if len(null) else 0.0
    basis, _ = np.linalg.qr(np.concatenate([null.T, np.eye(len(hessian))], axis=1)) if len(null) else (None, None)
    inside = hessian if basis is None else basis[:, len(null) :].T @ hessian @ basis[:, len(null) :]
    values, bounds = dense_spectrum(inside, error)
    bounds = bounds + sway / np.maximum(np.abs(values), 1e-300)
    return Inertia.of(values, bounds, zero=len(null)), residual


# Matrix-free.


class _Congruent(eqx.Module):
    """P H P with P = (Kronecker factors)^-1/2: the same signs as H, far better conditioned; P = 1 without factors."""

    reduced: Reduced
    x: Array
    layers: Any
    shift: Array

    def half(self, v: Array) -> Array:
        return v if self.layers is None else half_apply(self.reduced.problem.network, self.layers, self.shift, v)

    def product(self, v: Array) -> Array:
        return self.half(self.reduced.product(self.x, self.half(v)))


def congruent(reduced: Reduced, x: np.ndarray) -> _Congruent:
    """Return the operator whose signs are counted, preconditioned where the reduced network is a perceptron."""
    network, point = reduced.problem.network, jnp.asarray(x)
    if not isinstance(network, Perceptron) or reduced.size != network.layout.size:
        return _Congruent(reduced, point, None, jnp.asarray(0.0))
    layers = factors(reduced.problem, point)
    top = max(float(layer.input_values[-1] * layer.output_values[-1]) for layer in layers)
    return _Congruent(reduced, point, layers, jnp.asarray(1e-6 * top))


def settle_free(reduced: Reduced, x: np.ndarray) -> tuple[Settled, np.ndarray]:
    """Return what is known of x without a Hessian, and an estimate of the way to the critical point, by one solve.

    The point is not corrected; the Kronecker factors stand in for the Hessian.

    Raises:
        NonFiniteError: loss or gradient are not finite at x.
    """
    loss, gradient = (np.asarray(part) for part in _value_and_gradient(reduced, jnp.asarray(x)))
    require_finite({"loss": loss, "gradient": gradient}, "what is computed at the point")
    operator = congruent(reduced, x)
    turned = operator.half(jnp.asarray(gradient))
    step = -np.asarray(operator.half(turned))
    norm, decrease = float(np.linalg.norm(gradient)), 0.5 * float(turned @ turned)
    noise = gradient_noise(reduced, x, gradient)
    return Settled(
        x, None, gradient, float(loss), norm, noise, float(loss), norm, 0.0, decrease, 0.0, 0.0, 0.0, 0, True
    ), step


@dataclass(frozen=True)
class Free:
    """Signs found without a matrix, the chance that a nonpositive eigenvalue went unseen, and what Lanczos did."""

    inertia: Inertia
    chance: float
    steps: int
    rounding: float
    drift: float


def free_inertia(
    reduced: Reduced,
    x: np.ndarray,
    null: Float[np.ndarray, "null size"],
    way: np.ndarray,
    *,
    steps: int,
    seed: int = 0,
) -> Free:
    """Return what can be said of the Hessian's signs by Lanczos on P H P, with full reorthogonalisation.

    Ritz values below minus their residual and rounding prove negative eigenvalues (Cauchy). That there are no others
    is shown only up to a probability over the random start, and only if no Ritz value is negative or unclear; else
    the remaining directions stay unresolved. ``way`` leads to the critical point: the change of the operator along it
    is measured on the lowest Ritz vectors and added to the bounds, times 4.
    """
    operator = congruent(reduced, x)
    null = _orthonormal(np.stack([np.asarray(_unhalf(operator, row)) for row in null]) if len(null) else null)
    found = lanczos(operator.product, len(x), steps=steps, null=null, seed=seed)
    coarse, x32 = in_32(reduced, x)
    rounding = drift = 0.0
    for vector in found.vectors[:2]:
        move = operator.half(jnp.asarray(vector))
        images = (
            _product(reduced, jnp.asarray(x), move),
            _product(coarse, x32, move.astype(jnp.float32)).astype(jnp.float64),
            _product(reduced, jnp.asarray(x + way), move),
        )
        fine, rough, ahead = (np.asarray(operator.half(image)) for image in images)
        rounding = max(rounding, rounding_bound(fine, rough))
        drift = max(drift, 4.0 * float(np.linalg.norm(ahead - fine)))
    rounding += float(np.max(np.abs(found.values), initial=0.0)) * found.orthogonality * found.steps
    error = rounding + drift
    rest = len(x) - len(null)
    chance = chance_unseen(found, rest, error)
    negative = int(np.sum(found.values < -(found.residuals + error)))
    unclear = int(np.sum(np.abs(found.values) <= found.residuals + error))
    settled = np.isfinite(found.values).all() and negative == unclear == 0 and chance <= CHANCE
    positive = rest if settled else int(np.sum(found.values > found.residuals + error))
    inertia = Inertia(
        negative,
        len(null),
        positive,
        rest - negative - positive,
        found.values,
        found.residuals + error,
    )
    return Free(inertia, chance, found.steps, rounding, drift)


def _unhalf(operator: _Congruent, v: np.ndarray) -> Array:
    """Return P^-1 v: the null vectors of P H P."""
    if operator.layers is None:
        return jnp.asarray(v)
    network = operator.reduced.problem.network
    return half_apply(network, operator.layers, operator.shift, jnp.asarray(v), inverse=True)


def _orthonormal(rows: np.ndarray) -> np.ndarray:
    return np.linalg.qr(rows.T)[0].T if len(rows) else rows
