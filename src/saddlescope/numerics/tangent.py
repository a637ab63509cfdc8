"""Constraint surfaces as the solvers see them: normals, curvature, a retraction; projections built from these.

A surface at parameter d is {x : h_i(x) = 0, fixed entries as prescribed}. Steps live in its tangent space, the
retraction brings a step back onto the surface, and the Lagrangian's Hessian H - sum_i lambda_i Hess h_i acts on the
tangent space. Nothing here knows of neurons.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float, Scalar

Vector = Float[Array, " size"]

# Normals whose singular value is below this share of the largest add no direction of their own.
DEPENDENT = 1e-10

# Relative rounding of Hessian products, with some room: of sums over many samples in either precision.
ROUNDING_DOUBLE, ROUNDING_SINGLE = 1e-14, 1e-6


@runtime_checkable
class Objective(Protocol):
    """A smooth function of a vector, with its derivatives."""

    def value_and_gradient(self, x: Vector) -> tuple[Scalar, Vector]:
        """Return value and gradient at x."""
        ...

    def hessian_product(self, x: Vector, v: Vector) -> Vector:
        """Return the Hessian at x times v."""
        ...

    def model_product(self, x: Vector, v: Vector) -> Vector:
        """Return the Hessian at x times v, to `rounding`: what the model inside a step is built from."""
        ...

    @property
    def rounding(self) -> float:
        """Relative rounding of `model_product`."""
        ...

    def hessian(self, x: Vector) -> Float[Array, "size size"]:
        """Return the dense Hessian at x."""
        ...

    def precondition(self, x: Vector, shift: Scalar, v: Vector) -> Vector:
        """Return an approximation of (Hessian + shift)^-1 v, symmetric and positive definite in v."""
        ...


@runtime_checkable
class Surface(Protocol):
    """A family of constraint surfaces with one parameter d."""

    def free(self, x: Vector) -> Vector:
        """Return 1 for entries that may move at fixed d and 0 for prescribed ones."""
        ...

    def normals(self, x: Vector) -> Float[Array, "constraints size"]:
        """Return the constraints' gradients, scaled to be of order one however small d is."""
        ...

    def curvature_product(self, x: Vector, multipliers: Float[Array, " constraints"], v: Vector) -> Vector:
        """Return sum_i lambda_i Hess h_i v, in the scaling of `normals`."""
        ...

    def retract(self, x: Vector, d: Scalar) -> Vector:
        """Return the point of the surface at d that belongs to x."""
        ...


class Tangent(NamedTuple):
    """What is needed to work in the tangent space at one point."""

    free: Vector
    basis: Float[Array, "constraints size"]  # orthonormal rows, spanning the normals
    multipliers: Float[Array, " constraints"]

    def project(self, v: Vector) -> Vector:
        """Project orthogonally onto the tangent space."""
        v = self.free * v
        return v - self.basis.T @ (self.basis @ v)


def tangent(surface: Surface, x: Vector, gradient: Vector) -> Tangent:
    """Return the tangent space of the surface at x, with the Lagrange multipliers that fit the gradient best."""
    free = surface.free(x)
    normals = surface.normals(x) * free
    if normals.shape[0] == 0:
        return Tangent(free, normals, jnp.zeros((0,), x.dtype))
    # By singular values: normals may coincide, or be zero where a slot is not in use.
    u, s, vt = jnp.linalg.svd(normals, full_matrices=False)
    counts = s > DEPENDENT * s[0]
    basis = jnp.where(counts[:, None], vt, 0.0)
    multipliers = u @ jnp.where(counts, (vt @ gradient) / jnp.where(counts, s, 1.0), 0.0)
    return Tangent(free, basis, multipliers)


class Unconstrained(NamedTuple):
    """The whole space, or the part of it in which the entries with mask 0 are held: a surface without normals."""

    mask: Vector

    def free(self, x: Vector) -> Vector:
        """Return the mask."""
        del x
        return self.mask

    def normals(self, x: Vector) -> Float[Array, "constraints size"]:
        """Return no normals."""
        return jnp.zeros((0, x.shape[0]), x.dtype)

    def curvature_product(self, x: Vector, multipliers: Float[Array, " constraints"], v: Vector) -> Vector:
        """Return zero: there is nothing that curves."""
        del x, multipliers
        return jnp.zeros_like(v)

    def retract(self, x: Vector, d: Scalar) -> Vector:
        """Return x itself."""
        del d
        return x
