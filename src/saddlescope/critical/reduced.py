"""A problem as a function of the parameters without copies, x with theta = scale * x[source] (`groups.Embedding`).

With the identity as embedding this is the whole network. Each quantity is one compiled program.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Scalar

from saddlescope.critical.groups import Embedding
from saddlescope.precision import single
from saddlescope.problem.problem import Problem


class Reduced(eqx.Module):
    """A problem as a function of x."""

    problem: Problem
    source: Array
    scale: Array
    size: int = eqx.field(static=True)
    whole: bool = eqx.field(static=True)  # x is theta

    @staticmethod
    def of(problem: Problem, parts: Embedding) -> "Reduced":
        """Return the problem seen through an embedding."""
        whole = bool(np.array_equal(parts.source, np.arange(len(parts.source))) and np.all(parts.scale == 1.0))
        return Reduced(problem, jnp.asarray(parts.source), jnp.asarray(parts.scale), parts.size, whole)

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
    if reduced.whole:
        return reduced.problem.hessian(x)
    identity = jnp.eye(reduced.size, dtype=x.dtype)
    return jax.lax.map(lambda v: reduced.product(x, v), identity, batch_size=16)


@eqx.filter_jit
def _product(reduced: Reduced, x: Array, v: Array) -> Array:
    return reduced.product(x, v)


def in_32(reduced: Reduced, x: np.ndarray) -> tuple[Reduced, Array]:
    """Return the same in float32, to measure rounding."""
    coarse = single(reduced)
    return coarse, jnp.asarray(x, jnp.float32)


def reduced_product(reduced: Reduced, x: Any, v: Any) -> np.ndarray:
    """Return M^T H M v as a NumPy array; in float32 where all are."""
    return np.asarray(_product(reduced, jnp.asarray(x), jnp.asarray(v)))


def reduced_gradient(reduced: Reduced, x: np.ndarray) -> np.ndarray:
    """Return the gradient in x as a NumPy array."""
    return reduced_value_and_gradient(reduced, x)[1]


def reduced_value_and_gradient(reduced: Reduced, x: Any) -> tuple[float, np.ndarray]:
    """Return loss and gradient in x, as a Python number and a NumPy array; in float32 where the problem is."""
    value, gradient = _value_and_gradient(reduced, jnp.asarray(x))
    return float(value), np.asarray(gradient)


def reduced_hessian(reduced: Reduced, x: Any) -> np.ndarray:
    """Return M^T H M, dense; in float32 where the reduced problem is."""
    return np.asarray(_hessian(reduced, jnp.asarray(x)))
