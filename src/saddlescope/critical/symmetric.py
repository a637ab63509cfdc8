"""The symmetric part: signs of the reduced network's Hessian, from its matrix or by Lanczos."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from saddlescope.critical.reduced import Reduced, in_32, reduced_product
from saddlescope.critical.refine import Congruent, RefinedPoint, congruent
from saddlescope.critical.result import Inertia
from saddlescope.numerics.spectrum import chance_unseen, dense_spectrum, lanczos, natural_scale, rounding_bound
from saddlescope.problem.kronecker import apply_inverse_sqrt

# The chance, over Lanczos's random start, that a nonpositive eigenvalue went unseen must be below this.
CHANCE = 1e-6


@dataclass(frozen=True)
class DenseSigns:
    """Signs after `natural_scale`, the largest |H n| / |n| seen on the flat rows, and the bounds' two parts."""

    inertia: Inertia
    residuals: np.ndarray  # one for each row of ``null``
    rounding: float
    drift: float


def dense_inertia(
    hessian: Float[np.ndarray, "size size"],
    null: Float[np.ndarray, "null size"],
    rounding: Float[np.ndarray, "size size"],
    drift: Float[np.ndarray, "size size"],
) -> DenseSigns:
    """Return the signs of a Hessian whose null space holds the rows of ``null``.

    The rows count as flat and are taken out before the eigenvalues are computed.

    Args:
        hessian: symmetric up to rounding.
        null: linearly independent rows.
        rounding: bound on each entry's rounding.
        drift: how the matrix changes on the way to the exact critical point, at most.
    """
    scale = natural_scale(hessian, rounding)
    scaled = scale[:, None] * (0.5 * (hessian + hessian.T)) * scale
    change = scale[:, None] * (0.5 * (drift + drift.T)) * scale
    errors = [
        float(np.linalg.norm(scale[:, None] * rounding * scale)),
        float(np.linalg.norm(change, 2)) if np.isfinite(change).all() else float("inf"),
    ]
    residuals = np.zeros(0)
    if len(null):
        rows = null / scale
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        residuals = np.linalg.norm(rows @ scaled, axis=1)
        basis, _ = np.linalg.qr(rows.T, mode="complete")
        rest = basis[:, len(null) :]
        scaled = rest.T @ scaled @ rest
    values, bounds = dense_spectrum(scaled, sum(errors))
    return DenseSigns(Inertia.of(values, bounds, zero=len(null)), residuals, *errors)


@dataclass(frozen=True)
class Free:
    """Signs found without a matrix, the chance that a nonpositive eigenvalue went unseen, and what Lanczos did."""

    inertia: Inertia
    chance: float
    steps: int
    rounding: float
    drift: float


def free_inertia(
    reduced: Reduced, point: RefinedPoint, null: Float[np.ndarray, "null size"], *, steps: int, seed: int = 0
) -> Free:
    """Return what can be said of the Hessian's signs by Lanczos on P H P, with full reorthogonalisation.

    Ritz values below minus their residual and rounding prove negative eigenvalues (Cauchy). That there are no others
    is shown only up to a probability over the random start, and only if no Ritz value is negative or unclear; else
    the remaining directions stay unresolved. The change of the operator along the point's ``way`` is measured on the
    lowest Ritz vectors and added to the bounds.
    """
    x = point.x
    operator = congruent(reduced, x)
    null = _orthonormal(np.stack([np.asarray(_unhalf(operator, row)) for row in null]) if len(null) else null)
    found = lanczos(operator.product, len(x), steps=steps, null=null, seed=seed)
    coarse, x32 = in_32(reduced, x)
    rounding = drift = 0.0
    for vector in found.vectors[:2]:
        move = operator.half(jnp.asarray(vector))
        images = (
            reduced_product(reduced, x, move),
            reduced_product(coarse, x32, move.astype(jnp.float32)).astype(np.float64),
            reduced_product(reduced, x + point.way, move),
        )
        fine, rough, ahead = (np.asarray(operator.half(jnp.asarray(image))) for image in images)
        rounding = max(rounding, rounding_bound(fine, rough))
        drift = max(drift, point.factor * float(np.linalg.norm(ahead - fine)))
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


def _unhalf(operator: Congruent, v: np.ndarray) -> Array:
    """Return P^-1 v: the null vectors of P H P."""
    if operator.layers is None:
        return jnp.asarray(v)
    network = operator.reduced.problem.network
    return apply_inverse_sqrt(network, operator.layers, operator.shift, jnp.asarray(v), inverse=True)


def _orthonormal(rows: np.ndarray) -> np.ndarray:
    return np.linalg.qr(rows.T)[0].T if len(rows) else rows
