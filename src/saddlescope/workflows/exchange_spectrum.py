"""The Hessian at a permutation point in two parts, by what the exchange does to them; with a penalty too.

At theta = sigma theta the swap commutes with the Hessian of any loss that it leaves alone, a penalty on |theta|
included. A certificate reduces copies only where no penalty stands; this split of the dense matrix needs no reduction.
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from saddlescope.arrays import Layout
from saddlescope.critical.result import Inertia
from saddlescope.errors import SettingsError
from saddlescope.numerics.spectrum import dense_spectrum
from saddlescope.paths.result import Path
from saddlescope.precision import in_float64
from saddlescope.problem.problem import Problem

# Beyond this many parameters no dense Hessian is formed.
LARGEST = 2000


class Parity(NamedTuple):
    """Signs of the symmetric and the antisymmetric part, and the size of what should vanish between the two."""

    symmetric: Inertia
    antisymmetric: Inertia
    mixing: float


@eqx.filter_jit
def _hessian(problem: Problem, theta: Float[Array, " size"]) -> Float[Array, "size size"]:
    return problem.hessian(theta)


@in_float64
def parity(problem: Problem, path: Path, *, error: float = 0.0) -> Parity:
    """Return the eigenvalues of the dense Hessian at a path's permutation point, split by the pair's exchange.

    Args:
        problem: the path's problem.
        path: a path with a permutation point.
        error: what the Hessian is known to within (2-norm), such as a certificate's largest bound. What is left
            between the two parts is added to it (Weyl), and to both parts' bounds.

    Raises:
        SettingsError: a path without a permutation point, or more than 2000 parameters.
    """
    point = path.permutation_point
    if point is None:
        raise SettingsError("this path has no permutation point", name="ending", value=path.ending.value)
    layout, neurons, (l, m) = Layout.of(point.parameters), path.neurons, path.pair
    theta = np.concatenate([np.ravel(value) for value in point.parameters.values()])
    if theta.size > LARGEST:
        raise SettingsError(
            "too large for a dense Hessian", name="parameters", value=theta.size, expected=f"at most {LARGEST}"
        )
    hessian = np.asarray(_hessian(problem, jnp.asarray(theta)))
    hessian = 0.5 * (hessian + hessian.T)
    first, second = (
        np.concatenate(
            [np.ravel(side(layout)[unit]) for side in (neurons.incoming_positions, neurons.outgoing_positions)]
        )
        for unit in (l, m)
    )
    even, odd = np.zeros((theta.size, len(first))), np.zeros((theta.size, len(first)))
    columns = np.arange(len(first))
    even[first, columns] = even[second, columns] = odd[first, columns] = np.sqrt(0.5)
    odd[second, columns] = -np.sqrt(0.5)
    rest = np.delete(np.eye(theta.size), np.concatenate([first, second]), axis=1)
    even = np.concatenate([even, rest], axis=1)
    mixing = float(np.linalg.norm(even.T @ hessian @ odd, ord=2))
    found = [dense_spectrum(side.T @ hessian @ side, error + mixing) for side in (even, odd)]
    symmetric, antisymmetric = (Inertia.of(values, bounds) for values, bounds in found)
    return Parity(symmetric, antisymmetric, mixing)
