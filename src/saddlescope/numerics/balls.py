"""Proofs about vectors and matrices in ball arithmetic (python-flint's Arb), knowing nothing of networks.

A ball [mid +- rad] holds the exact real number, and every operation rounds outward: what comes out true is true.
`refine` goes to a zero of a gradient with more digits than float64 has, `isolate` proves that an exact zero is there
and alone (Krawczyk), `signs` proves signs of eigenvalues. The working precision is python-flint's: see `precision`.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from saddlescope.errors import MissingExtraError

# python-flint is imported on first use, so its types are only named here.
Ball = Any
"""A real number in an interval: ``flint.arb``."""
Balls = Any
"""A matrix of balls: ``flint.arb_mat``."""
Jet = Callable[[Ball], tuple[Ball, Ball, Ball]]
"""From z to a function's value, slope and second derivative."""

# Newton steps, and Hessians among them, that `refine` takes at most.
MOST_STEPS, MOST_HESSIANS = 60, 8

# A step that shrinks less than this asks for a new Hessian.
SLOW = 1e-2


def flint() -> ModuleType:
    """Import python-flint.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return import_module("flint")
    except ImportError as missing:
        raise MissingExtraError(
            "proofs compute with balls, and python-flint is not installed",
            advice="Install the extra that holds it: pip install 'saddlescope[proof]'",
        ) from missing


def precision(bits: int) -> AbstractContextManager[Any]:
    """Return a context in which balls are rounded to so many bits; the caller's precision comes back on leaving."""
    return flint().ctx.workprec(bits)


# Numbers in, numbers out.


def exact(values: Any) -> Balls:
    """Return a matrix of float64 numbers (a vector is a column) as balls of radius 0."""
    array = np.asarray(values, dtype=np.float64)
    array = array[:, None] if array.ndim == 1 else array
    return flint().arb_mat(*array.shape, [float(value) for value in array.ravel()])


def widen(centre: Balls, radius: Ball) -> Balls:
    """Return the box of all matrices within ``radius`` of the centre, entry by entry."""
    spread = flint().arb(0, radius)
    return flint().arb_mat(centre.nrows(), centre.ncols(), [value + spread for value in centre.entries()])


def floats(matrix: Balls) -> np.ndarray:
    """Return the midpoints, rounded to float64."""
    entries = [float(value.mid()) for value in matrix.entries()]
    return np.array(entries, dtype=np.float64).reshape(matrix.nrows(), matrix.ncols())


def above(value: Ball) -> float:
    """Return a float64 that is not below any number of the ball."""
    return float(np.nextafter(float(value.upper()), np.inf))


def below(value: Ball) -> float:
    """Return a float64 that is not above any number of the ball."""
    return float(np.nextafter(float(value.lower()), -np.inf))


def add(terms: Iterable[Ball]) -> Ball:
    """Return the sum."""
    return sum(terms, flint().arb(0))


def norm(matrix: Balls) -> Ball:
    """Return an upper bound, exact as a number, of max_i sum_j |matrix_ij|; infinite if an entry may be."""
    arb = flint().arb
    largest: Ball = arb(0)
    for row in matrix.tolist():
        total = add(abs(value) for value in row).abs_upper()
        if not total.is_finite():  # NaN compares with nothing, so it would be passed over
            return arb.pos_inf()
        largest = total if total > largest else largest
    return largest


# Activations, each with two derivatives.


def _tanh(z: Ball) -> tuple[Ball, Ball, Ball]:
    value = z.tanh()
    slope = 1 - value * value
    return value, slope, -2 * value * slope


def _sigmoid(z: Ball) -> tuple[Ball, Ball, Ball]:
    value = 1 / (1 + (-z).exp())
    slope = value / (1 + z.exp())
    return value, slope, slope * (1 - 2 * value)


def _softplus(z: Ball) -> tuple[Ball, Ball, Ball]:
    value, slope, _ = _sigmoid(z)
    return z.exp().log1p(), value, slope


def _silu(z: Ball) -> tuple[Ball, Ball, Ball]:
    value, slope, bend = _sigmoid(z)
    return z * value, value + z * slope, 2 * slope + z * bend


def _erf(z: Ball) -> tuple[Ball, Ball, Ball]:
    arb = flint().arb
    slope = (2 / arb.pi()).sqrt() * (-z * z / 2).exp()
    return (z / arb(2).sqrt()).erf(), slope, -z * slope


def _gelu(z: Ball) -> tuple[Ball, Ball, Ball]:
    value, slope, bend = _erf(z)
    return z * (1 + value) / 2, (1 + value + z * slope) / 2, slope + z * bend / 2


def _exp(z: Ball) -> tuple[Ball, Ball, Ball]:
    value = z.exp()
    return value, value, value


def _sine(z: Ball) -> tuple[Ball, Ball, Ball]:
    value, slope = z.sin_cos()
    return value, slope, -value


def _identity(z: Ball) -> tuple[Ball, Ball, Ball]:
    return z, flint().arb(1), flint().arb(0)


def _sigmoid_softplus(z: Ball) -> tuple[Ball, Ball, Ball]:
    value, slope, bend = _sigmoid(4 * z)
    more = _softplus(z)
    return value + more[0], 4 * slope + more[1], 16 * bend + more[2]


JETS: dict[str, Jet] = {
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "gelu": _gelu,
    "silu": _silu,
    "erf": _erf,
    "exp": _exp,
    "identity": _identity,
    "sine": _sine,
    "sigmoid_softplus": _sigmoid_softplus,
}
"""By the names of `problem.activations`: all that have two continuous derivatives."""


# Zeros of a gradient.


@dataclass(frozen=True)
class Refined:
    """A point, exact as a number, close to a zero of the gradient.

    ``inverse`` is about the Hessian's inverse, and ``step`` bounds |inverse gradient(point)| in the largest norm.
    """

    point: Balls
    inverse: Balls
    step: Ball


def refine(start: Balls, gradient: Callable[[Balls], Balls], hessian: Callable[[Balls], Balls]) -> Refined | str:
    """Take Newton steps, on midpoints, until the gradient cannot be told from 0 in the working precision.

    **Proves nothing**: `isolate` does. Returns words instead where the steps do not settle.
    """
    here, inverse, last, hessians = start.mid(), None, None, 0
    least = flint().arb(2) ** -flint().ctx.prec  # at a zero at 0 the rounding shrinks with the steps
    for _ in range(MOST_STEPS):
        if inverse is None:
            if hessians == MOST_HESSIANS:
                break
            hessians += 1
            try:
                inverse = hessian(here).mid().inv().mid()
            except ZeroDivisionError:
                return "the Hessian is singular to the working precision"
        move = inverse * gradient(here)
        length = norm(move.mid())
        if not norm(move).is_finite():
            return "numbers outgrow the working precision"
        if not length > 4 * max(value.rad() for value in move.entries()) or length < least:
            return Refined(here, inverse, norm(move))
        if last is not None and not length < SLOW * last:
            inverse = None
        here, last = (here - move).mid(), length
    return f"Newton's steps do not settle: the last is {above(last):.2e} long" if last is not None else "no step taken"


@dataclass(frozen=True)
class Isolation:
    """Whether a box of the given radius holds exactly one zero; ``error`` bounds its distance from the centre.

    ``contraction`` is |I - C H(box)|; below 1 every matrix in H(box) is nonsingular. All in the largest norm.
    ``hessian`` is H(box).
    """

    proved: bool
    contraction: Ball
    error: Ball
    hessian: Balls


def isolate(refined: Refined, hessian: Callable[[Balls], Balls], radius: Ball) -> Isolation:
    """Prove that the box of this radius about the refined point x holds exactly one zero of the gradient (Krawczyk).

    K(X) = x - C gradient(x) + (I - C H(X)) (X - x) lies inside X if |C gradient(x)| < (1 - |I - C H(X)|) radius.

    Args:
        refined: x and C, with the bound of |C gradient(x)|.
        hessian: from a box to an enclosure of the Hessian over all of it.
        radius: half the box's width, exact as a number.
    """
    over = hessian(widen(refined.point, radius))
    contraction = norm(exact(np.eye(over.nrows())) - refined.inverse * over)
    room = 1 - contraction
    if not room > 0:
        return Isolation(False, contraction, flint().arb.pos_inf(), over)
    return Isolation(bool(refined.step < room * radius), contraction, (refined.step / room).abs_upper(), over)


# Signs and ranks.


@dataclass(frozen=True)
class Signs:
    """Numbers of eigenvalues proved to be negative, and positive; the signs of the others are not proved."""

    negative: int
    positive: int
    undecided: int


def signs(matrix: Balls) -> Signs:
    """Prove the signs of the eigenvalues of every symmetric matrix in the enclosure.

    V^T matrix V, with V the midpoint's eigenvectors in float64, has rows and columns scaled, and Gershgorin's discs
    that miss 0 are counted: on the span of their rows the form has these signs (the discs of a principal submatrix are
    no larger), V is injective there, and so the matrix has at least as many eigenvalues of each sign (Sylvester).
    No property of V is needed.
    """
    size, middle = matrix.nrows(), floats(matrix)
    if size == 0:
        return Signs(0, 0, 0)
    if not np.isfinite(middle).all():
        return Signs(0, 0, size)
    vectors = exact(np.linalg.eigh((middle + middle.T) / 2)[1])
    product = (vectors.transpose() * matrix * vectors).tolist()
    scales = []
    for i in range(size):
        height = abs(float(product[i][i].mid()))
        scales.append(flint().arb(1.0 / np.sqrt(height) if 1e-300 < height < 1e300 else 1.0))
    negative = positive = 0
    for i, row in enumerate(product):
        reach = add(abs(row[j]) * scales[j] for j in range(size) if j != i)
        negative += bool(row[i] * scales[i] < -reach)
        positive += bool(row[i] * scales[i] > reach)
    return Signs(negative, positive, size - negative - positive)


def full_rank(matrix: Balls) -> bool:
    """Return whether every matrix in the enclosure is proved to have the largest rank that its shape allows."""
    rows, columns = matrix.nrows(), matrix.ncols()
    middle = floats(matrix)
    if min(rows, columns) == 0:
        return True
    if not np.isfinite(middle).all():
        return False
    other = exact(np.linalg.pinv(middle))
    product = matrix * other if rows <= columns else other * matrix
    return bool(norm(exact(np.eye(min(rows, columns))) - product) < 1)
