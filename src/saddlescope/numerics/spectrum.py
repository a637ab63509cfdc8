"""Eigenvalues with bounds: dense ones a posteriori, the lowest of a large operator by Lanczos with its residuals."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# float32 rounds 2^29 times more coarsely than float64; to first order errors of one and the same program scale so.
SCALE_32 = 2.0**-29

# Rounding differs between two runs of a program; what was measured once is multiplied by this.
SAFETY = 16.0


class Spectrum(NamedTuple):
    """Eigenvalues in rising order and, for each, a bound on its distance to an exact eigenvalue of the matrix given."""

    values: np.ndarray
    bounds: np.ndarray


def dense_spectrum(matrix: Float[np.ndarray, "size size"], error: float = 0.0) -> Spectrum:
    """Return all eigenvalues of a symmetric matrix known to within ``error`` (2-norm), with bounds a posteriori.

    With computed V and values, |A V - V values| and |V^T V - 1| bound the distance of every computed eigenvalue to
    the exact one of the same number (Weyl); ``error`` is added (Weyl again).

    Raises:
        numpy.linalg.LinAlgError: the eigenvalues did not converge.
    """
    if len(matrix) == 0:
        return Spectrum(np.zeros(0), np.zeros(0))
    matrix = 0.5 * (matrix + matrix.T)
    values, vectors = np.linalg.eigh(matrix)
    residual = np.linalg.norm(matrix @ vectors - vectors * values)
    skew = np.linalg.norm(vectors.T @ vectors - np.eye(len(values)))
    size = float(np.max(np.abs(values)))
    own = float(residual + 2.0 * size * skew + len(values) * np.finfo(float).eps * size)
    return Spectrum(values, np.full(len(values), own + error))


def rounding_bound(fine: np.ndarray, coarse: np.ndarray) -> float:
    """Return a bound on the 2-norm of the rounding in ``fine`` from the same program's float32 result ``coarse``.

    Measured, not proved: `SAFETY` times their difference, scaled by 2^-29, plus a few units in the last place.
    Infinite where float32 overflowed.
    """
    fine = np.asarray(fine, dtype=np.float64)
    difference = np.asarray(coarse, dtype=np.float64) - fine
    if not np.isfinite(difference).all():
        return float("inf")
    own = np.finfo(float).eps * float(np.linalg.norm(fine))
    return float(SAFETY * (SCALE_32 * float(np.linalg.norm(difference)) + own))


def entry_rounding(fine: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Return a bound on the rounding of every entry of ``fine``, measured as in `rounding_bound`.

    Infinite where float32 overflowed. **A single entry may have been lucky**: only norms of many are dependable.
    """
    fine = np.asarray(fine, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        difference = np.abs(np.asarray(coarse, dtype=np.float64) - fine)
        found = SAFETY * (SCALE_32 * difference + np.finfo(float).eps * np.abs(fine))
    return np.where(np.isfinite(found), found, np.inf)


def natural_scale(
    matrix: Float[np.ndarray, "size size"], rounding: Float[np.ndarray, "size size"]
) -> Float[np.ndarray, " size"]:
    """Return powers of two d for which the largest entry of every row of diag(d) A diag(d) is near 1 (Ruiz).

    The signs of the eigenvalues stay (Sylvester), and no longer hang on the units of parameters, inputs or targets.
    A row is never enlarged so far that its rounding would exceed 2^-40 of the others.

    Source: science notes, section 9.7; Ruiz 2001, the maximum norm.
    """
    weight = np.abs(matrix) + 2.0**40 * rounding
    scale = np.ones(len(weight))
    if not np.isfinite(weight).all():
        return scale
    for _ in range(12):
        top = scale * (weight * scale).max(axis=1, initial=0.0)
        scale = np.where(top > 0.0, scale / np.sqrt(np.where(top > 0.0, top, 1.0)), scale)
    return 2.0 ** np.round(np.log2(scale))


class Lanczos(NamedTuple):
    """Ritz values in rising order, residual norms of their vectors, the lowest vectors, steps done, start's share.

    ``edge`` bounds the operator's largest |eigenvalue| as far as Lanczos saw it.
    """

    values: np.ndarray
    residuals: np.ndarray
    vectors: np.ndarray  # (few, size)
    steps: int
    orthogonality: float


def lanczos(
    product: Callable[[Float[Array, " size"]], Float[Array, " size"]],
    size: int,
    *,
    steps: int,
    null: Float[np.ndarray, "null size"],
    seed: int = 0,
    few: int = 8,
) -> Lanczos:
    """Run Lanczos from a random vector with full reorthogonalisation, kept orthogonal to the rows of ``null``.

    Args:
        product: the symmetric operator; jittable.
        size: its size.
        steps: most steps; fewer if the space is exhausted.
        null: orthonormal rows that are projected out.
        seed: seed of the random start.
        few: number of lowest Ritz vectors returned.

    Returns:
        Ritz values with residual norms |A y - theta y|: each is within its residual of an eigenvalue. **Nothing is
        said here about eigenvalues that Lanczos has not seen**: see `chance_unseen`.
    """
    steps = min(steps, size - len(null))
    if steps <= 0:
        return Lanczos(np.zeros(0), np.zeros(0), np.zeros((0, size)), 0, 0.0)
    start = jnp.asarray(np.random.default_rng(seed).normal(size=size))
    basis, alphas, betas = _lanczos(product, start, jnp.asarray(null), steps)
    basis, alphas, betas = np.asarray(basis), np.asarray(alphas), np.asarray(betas)
    broken = np.flatnonzero(betas <= 1e-13 * max(np.max(np.abs(alphas)), np.max(betas)))
    done = int(broken[0]) + 1 if len(broken) else steps
    tridiagonal = np.diag(alphas[:done]) + np.diag(betas[: done - 1], 1) + np.diag(betas[: done - 1], -1)
    values, small = np.linalg.eigh(tridiagonal)
    residuals = np.abs(betas[done - 1] * small[-1])
    used = basis[:done]
    skew = float(np.max(np.abs(used @ used.T - np.eye(done))))
    return Lanczos(values, residuals, small[:, :few].T @ used, done, skew)


@eqx.filter_jit
def _lanczos(product: Callable[[Array], Array], start: Array, null: Array, steps: int) -> tuple[Array, Array, Array]:
    """Return the basis (steps, size), the diagonal and the off-diagonal, as one compiled loop."""

    def clean(v: Array, basis: Array) -> Array:
        for _ in range(2):  # twice is enough (Kahan, Parlett)
            v = v - null.T @ (null @ v)
            v = v - basis.T @ (basis @ v)
        return v

    def step(k: Array, state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        basis, alphas, betas, ahead = state
        here = ahead
        basis = basis.at[k].set(here)
        image = product(here)
        alpha = here @ image
        rest = clean(image, basis)
        beta = jnp.linalg.norm(rest)
        ahead = rest / jnp.where(beta > 0, beta, 1.0)
        return basis, alphas.at[k].set(alpha), betas.at[k].set(beta), ahead

    empty = jnp.zeros((steps, start.shape[0]), start.dtype)
    first = clean(start, empty)
    zeros = jnp.zeros((steps,), start.dtype)
    begin = (empty, zeros, zeros, first / jnp.linalg.norm(first))
    basis, alphas, betas, _ = jax.lax.fori_loop(0, steps, step, begin)
    return basis, alphas, betas


def chance_unseen(lanczos: Lanczos, size: int, error: float = 0.0) -> float:
    """Return a bound on the probability, over the random start, that an eigenvalue <= ``error`` went unseen.

    For c - A with c above the largest eigenvalue, Lanczos's estimate xi of its largest eigenvalue misses it by more
    than the share epsilon with probability at most 1.648 sqrt(n) exp(-sqrt(epsilon) (2k - 1)) (Kuczynski and
    Wozniakowski 1992, theorem 4.2). If all Ritz values are above ``error``, a hidden eigenvalue <= ``error`` means
    epsilon >= (lowest - error)/(c - error). 1 if the lowest Ritz value is not above ``error``, or not a number.
    """
    if lanczos.steps == 0:
        return 0.0
    low, high = float(lanczos.values[0] - error), float(1.05 * (lanczos.values[-1] + lanczos.residuals[-1]) - error)
    if not low > 0.0:
        return 1.0
    if lanczos.steps >= size:
        return 0.0
    share = low / high
    return float(min(1.0, 1.648 * np.sqrt(size) * np.exp(-np.sqrt(share) * (2 * lanczos.steps - 1))))
