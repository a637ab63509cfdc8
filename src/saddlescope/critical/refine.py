"""The critical point beside a point: Newton steps with what is flat projected out, until the gradient is rounding.

Index, nullity and verdict belong to such a refined point, never to a point that is only near one (science notes,
9.5). All norms are taken after `natural_scale`, so that no answer hangs on units.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpy.linalg import norm
from scipy.sparse.linalg import LinearOperator, minres

from saddlescope.arrays import require_finite
from saddlescope.critical.reduced import Reduced, in_32, reduced_hessian, reduced_product, reduced_value_and_gradient
from saddlescope.models.chain import is_traceable
from saddlescope.numerics.spectrum import SAFETY, SCALE_32, entry_rounding, natural_scale
from saddlescope.problem.kronecker import apply_inverse_sqrt, factors

# At most so many Newton steps lead from the point given to the critical point that is certified.
STEPS, FREE_STEPS = 24, 8

# A step stalls if it leaves the gradient above this share of what it was; so many in a row end the search, and so does
# a gradient so many times the first: beside a fold the first steps may lead up.
FALL, STALLED, WORST = 0.5, 3, 10.0

# The refined gradient is at most this many times its rounding.
ROUNDING = 4.0

# In natural units, what is this small beside the largest parameter is rounding of the solver.
VANISHING = 2.0**-70

# A probe this long, relative to the parameters, measures how fast the Hessian changes on the way.
PROBE = 1e-5

# Products of one matrix-free Newton step.
PRODUCTS = 300


@dataclass(frozen=True)
class RefinedPoint:
    """A critical point x near the one given, and what bounds the errors of the second derivatives there.

    Not ``converged``: Newton's method reaches no gradient of rounding from here; then x is the point given.
    ``hessian`` and its entries' ``rounding`` are None for a matrix-free part. The exact critical point lies about
    ``way`` further: what a quantity changes from x to x + way, times ``factor``, bounds its error for that reason.
    ``decrease`` is g^T |H|^-1 g / 2 at the point given, about the loss that is left to win or lose. ``already``: the
    gradient there is rounding. ``scale``: natural units of the parameters.
    """

    x: np.ndarray
    hessian: np.ndarray | None
    rounding: np.ndarray | None
    gradient: np.ndarray
    gradient_rounding: np.ndarray
    loss: float
    decrease: float
    converged: bool
    already: bool
    scale: np.ndarray
    way: np.ndarray
    factor: float
    products: int

    @property
    def gradient_norm(self) -> float:
        """Norm of the gradient at x."""
        return float(np.linalg.norm(self.gradient))

    @property
    def gradient_noise(self) -> float:
        """Norm of the gradient's rounding at x."""
        return float(np.linalg.norm(self.gradient_rounding))

    def drift(self, quantity: Callable[[np.ndarray], np.ndarray], here: np.ndarray) -> np.ndarray:
        """Return what a quantity of x changes on the way to the exact critical point, at most, with its sign."""
        if self.factor == 0.0 or not self.way.any():
            return np.zeros_like(here)
        return self.factor * (quantity(self.x + self.way) - here)


@dataclass(frozen=True)
class _Step:
    """A Newton step, g^T |H|^-1 g / 2, what the gradient's rounding leaves open, and two norms after scaling."""

    move: np.ndarray
    decrease: float
    loose: np.ndarray
    norm: float
    noise: float
    scale: np.ndarray


def _newton(hessian: np.ndarray, rounding: np.ndarray, gradient: np.ndarray, noise: np.ndarray) -> _Step:
    """Return the Newton step in all directions whose curvature is not drowned by the rounding."""
    scale = natural_scale(hessian, rounding)
    scaled = scale[:, None] * (0.5 * (hessian + hessian.T)) * scale
    values, vectors = np.linalg.eigh(scaled)
    error = float(np.linalg.norm(scale[:, None] * rounding * scale))
    along = vectors.T @ (scale * gradient)
    sure = np.abs(values) > 4.0 * error
    values, vectors, along = values[sure], vectors[:, sure], along[sure]
    norm, size = float(np.linalg.norm(scale * gradient)), float(np.linalg.norm(scale * noise))
    loose = np.zeros(len(gradient))
    if len(values):
        flattest = int(np.argmin(np.abs(values)))
        left = size / (SAFETY * np.sqrt(len(gradient)))  # of the gradient, in one direction
        loose = scale * vectors[:, flattest] * (left / abs(values[flattest]))
    decrease = float(0.5 * np.sum(along**2 / np.abs(values)))
    return _Step(-scale * (vectors @ (along / values)), decrease, loose, norm, size, scale)


def _is_rounding(gradient: np.ndarray, noise: np.ndarray, times: float = ROUNDING) -> bool:
    """Return whether every entry of a gradient is what rounding leaves of zero."""
    return bool(np.all(np.abs(gradient) <= times * noise))


def _gradient_rounding(reduced: Reduced, x: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Return the rounding of every entry of the gradient, measured against float32.

    Root mean square of three runs, at x and at two points within its rounding: one alone may have been lucky.
    """
    coarse, x32 = in_32(reduced, x)
    generator, runs = np.random.default_rng(0), []
    for size in (0.0, 2.0**-24, 2.0**-24):
        near = np.asarray(x32) * (1.0 + size * generator.choice([-1.0, 1.0], len(x)))
        runs.append(entry_rounding(gradient, reduced_value_and_gradient(coarse, near.astype(np.float32))[1]))
    usual = np.sqrt(np.mean(np.square(runs), axis=0))
    # Where float32 underflows it tells nothing: there, what one unit in the last place of the parameters changes.
    under = usual < 2.0 * SAFETY * SCALE_32 * np.abs(gradient)
    if under.any():
        near = np.nextafter(x, np.where(generator.random(len(x)) < 0.5, -np.inf, np.inf))
        usual = np.where(
            under, np.maximum(usual, SAFETY * np.abs(reduced_value_and_gradient(reduced, near)[1] - gradient)), usual
        )
    return usual


def _rounding(reduced: Reduced, x: np.ndarray, hessian: np.ndarray, gradient: np.ndarray) -> tuple[Any, Any]:
    """Return the rounding of every entry of Hessian and gradient, measured against float32.

    Of parameters that vanish beside the others (weight decay leaves 1e-29) a gradient is rounding, too, where it means
    a displacement of less than `VANISHING` of the largest parameter: no solver can tell it from 0.
    """
    coarse, x32 = in_32(reduced, x)
    rounding, noise = entry_rounding(hessian, reduced_hessian(coarse, x32)), _gradient_rounding(reduced, x, gradient)
    scale = natural_scale(hessian, rounding)
    return rounding, np.maximum(noise, VANISHING * float(np.abs(x / scale).max()) / scale)


def refine_dense(reduced: Reduced, x: np.ndarray) -> RefinedPoint:
    """Return the critical point that dense Newton steps lead to while the gradient falls.

    Args:
        reduced: the problem without copies.
        x: where to start.

    Raises:
        NonFiniteError: loss, gradient or Hessian are not finite at x.
    """
    loss, gradient = reduced_value_and_gradient(reduced, x)
    hessian = reduced_hessian(reduced, x)
    require_finite(
        {"loss": np.asarray(loss), "gradient": gradient, "Hessian": hessian}, "what is computed at the point"
    )
    rounding, noise = _rounding(reduced, x, hessian, gradient)
    start, products, stalled = (x, hessian, gradient, loss), 2 * len(x), 0
    step = first = _newton(hessian, rounding, gradient, noise)
    while (
        not _is_rounding(gradient, noise, 1.0)
        and step.move.any()
        and products < (STEPS + 2) * len(x)
        and stalled < STALLED
    ):
        x = x + step.move
        loss, gradient = reduced_value_and_gradient(reduced, x)
        if not np.linalg.norm(first.scale * gradient) <= WORST * first.norm:  # NaN, too
            break
        hessian, products = reduced_hessian(reduced, x), products + len(x)
        if not np.isfinite(hessian).all():
            break
        before, step = step, _newton(hessian, rounding, gradient, noise)
        stalled = 0 if step.norm < FALL * before.norm else stalled + 1
    converged = bool(np.isfinite(hessian).all()) and _is_rounding(gradient, noise)
    if not converged:
        x, hessian, gradient, loss = start
    elif x is not start[0]:
        rounding, noise = _rounding(reduced, x, hessian, gradient)
        products += len(x)
        step = _newton(hessian, rounding, gradient, noise)
    way, factor = _way(x, step) if converged else (np.zeros_like(x), 0.0)
    return RefinedPoint(
        x,
        hessian,
        rounding,
        gradient,
        noise,
        float(loss),
        first.decrease,
        converged,
        _is_rounding(start[2], noise) if x is start[0] else False,
        first.scale,
        way,
        factor,
        products,
    )


def _way(x: np.ndarray, step: _Step) -> tuple[np.ndarray, float]:
    """Return a probe along the way that the exact critical point may lie off, and the factor of `RefinedPoint`."""
    lengths = [float(np.linalg.norm(move / step.scale)) for move in (step.move, step.loose)]
    if not np.isfinite(lengths).all() or max(lengths) == 0.0:
        return np.zeros_like(x), 0.0 if max(lengths) == 0.0 else np.inf
    longest = max(lengths)
    move = (step.move, step.loose)[lengths.index(longest)]
    reach = max(PROBE * float(np.linalg.norm(x / step.scale)), longest)
    return (reach / longest) * move, 4.0 * sum(lengths) / reach


# Matrix-free.


class Congruent(eqx.Module):
    """P H P with P = (Kronecker factors)^-1/2: the same signs as H, far better conditioned; P = 1 without factors."""

    reduced: Reduced
    x: Array
    layers: Any
    shift: Array

    def half(self, v: Array) -> Array:
        """Return P v."""
        return (
            v if self.layers is None else apply_inverse_sqrt(self.reduced.problem.network, self.layers, self.shift, v)
        )

    def product(self, v: Array) -> Array:
        """Return P H P v."""
        return self.half(self.reduced.product(self.x, self.half(v)))


def congruent(reduced: Reduced, x: np.ndarray) -> Congruent:
    """Return the operator whose signs are counted, preconditioned where the reduced network is a perceptron."""
    network, point = reduced.problem.network, jnp.asarray(x)
    if not is_traceable(network) or reduced.size != network.layout.size:
        return Congruent(reduced, point, None, jnp.asarray(0.0))
    layers = factors(reduced.problem, point)
    top = max(float(layer.input_values[-1] * layer.output_values[-1]) for layer in layers)
    return Congruent(reduced, point, layers, jnp.asarray(1e-6 * top))


def refine_free(reduced: Reduced, x: np.ndarray) -> RefinedPoint:
    """Return the critical point that Newton steps by MINRES lead to, without a Hessian.

    MINRES leaves out what is flat by itself: its iterates stay in the range of P H P.

    Raises:
        NonFiniteError: loss or gradient are not finite at x.
    """
    loss, gradient = reduced_value_and_gradient(reduced, x)
    require_finite({"loss": np.asarray(loss), "gradient": gradient}, "what is computed at the point")
    noise = _gradient_rounding(reduced, x, gradient)
    operator = congruent(reduced, x)
    start, products, decrease = (x, gradient, loss), 0, float("nan")
    way = np.zeros_like(x)
    for _ in range(FREE_STEPS):
        turned = _turned(operator, gradient)
        way, spent = _minres_step(operator, reduced, x, turned)
        products += spent
        if np.isnan(decrease):
            decrease = 0.5 * abs(float(gradient @ way))
        if _is_rounding(gradient, noise, 1.0) or not way.any():
            break
        value, slope = reduced_value_and_gradient(reduced, x + way)
        if not norm(_turned(operator, slope)) < FALL * norm(turned):
            break
        x, loss, gradient = x + way, value, slope
        operator = congruent(reduced, x)
    already, converged = _is_rounding(start[1], noise), _is_rounding(gradient, noise)
    if not converged:
        x, gradient, loss = start
    return RefinedPoint(
        x,
        None,
        None,
        gradient,
        noise,
        float(loss),
        decrease,
        converged,
        already,
        np.ones_like(x),
        way,
        4.0,
        products,
    )


def _turned(operator: Congruent, v: np.ndarray) -> np.ndarray:
    return np.asarray(operator.half(jnp.asarray(v)))


def _minres_step(operator: Congruent, reduced: Reduced, x: np.ndarray, turned: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the step P s with P H P s = -P g, to a millionth of the gradient, and the products that it took."""
    count = 0

    def product(v: np.ndarray) -> np.ndarray:
        nonlocal count
        count += 1
        return _turned(operator, reduced_product(reduced, x, _turned(operator, np.ravel(v))))

    if not turned.any():
        return np.zeros_like(turned), 0
    matrix = LinearOperator((len(x), len(x)), matvec=product, dtype=np.float64)  # pyright: ignore[reportCallIssue]
    step, _ = minres(matrix, -turned, rtol=1e-6, maxiter=min(PRODUCTS, 4 * len(x)))
    return _turned(operator, step), count
