"""The three distances of a pair of neurons as constraint surfaces in pair coordinates.

* incoming: |theta_m - theta_l| = d, the paper's ([B19] section 4.1);
* joint:    |theta_m - theta_l|^2 + |a_m - a_l|^2 = d^2, sqrt 2 times the distance to the swap's fixed points;
* tied:     |theta_m - theta_l| = d and a_m - a_l = (d/d_0) (a_m - a_l)_0, the outgoing sum free.

For homogeneous activations the scale of the pair is fixed in addition: |theta_l| = |theta_m| = 1, so that d cannot
shrink by rescaling (science notes, section 2.4). All constraints are quadratic in pair coordinates.
"""

import math
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Scalar

from saddlescope.numerics.tangent import ROUNDING_DOUBLE, ROUNDING_SINGLE, Vector
from saddlescope.problem.kink_surfaces import Creases
from saddlescope.problem.kronecker import Factors, apply
from saddlescope.problem.problem import Problem
from saddlescope.units.coordinates import PairCoordinates

# The preconditioner's damping, as a share of its largest eigenvalue.
DAMPING = 1e-7

Distance = Literal["incoming", "joint", "tied"]


class PairSurface(eqx.Module):
    """The surface of all parameters at which a pair has a given distance; see the module's head.

    ``outgoing_start`` holds the outgoing differences, in pair coordinates, at the distance ``start``.
    """

    coordinates: PairCoordinates
    start: Scalar
    outgoing_start: Float[Array, " outgoing"]
    kind: Distance = eqx.field(static=True)
    unit_incoming: bool = eqx.field(static=True)

    @staticmethod
    @eqx.filter_jit
    def of(coordinates: PairCoordinates, x: Vector, kind: Distance, *, unit_incoming: bool) -> "PairSurface":
        """Return the family of surfaces whose first member holds the point x."""
        outgoing = x[coordinates.outgoing_difference]
        empty = PairSurface(coordinates, jnp.zeros(()), outgoing, kind, unit_incoming)
        return PairSurface(coordinates, empty.distance(x), outgoing, kind, unit_incoming)

    def _differences(self) -> Array:
        incoming, outgoing = self.coordinates.incoming_difference, self.coordinates.outgoing_difference
        return jnp.concatenate([incoming, outgoing]) if self.kind == "joint" else incoming

    def distance(self, x: Vector) -> Scalar:
        """Return the distance d of the surface on which x lies."""
        return math.sqrt(2.0) * jnp.linalg.norm(x[self._differences()])

    def free(self, x: Vector) -> Vector:
        """Return 0 for prescribed outgoing differences (tied), 1 for all else."""
        free = jnp.ones_like(x)
        return free.at[self.coordinates.outgoing_difference].set(0.0) if self.kind == "tied" else free

    def normals(self, x: Vector) -> Float[Array, "constraints size"]:
        """Return the gradient of the distance and, with the scale fixed, of theta_l.theta_m-type constraints."""
        places = self._differences()
        gap = x[places]
        zero = jnp.zeros_like(x)
        rows = [zero.at[places].set(gap / jnp.linalg.norm(gap))]
        if self.unit_incoming:
            sums, differences = self.coordinates.incoming_sum, self.coordinates.incoming_difference
            rows.append(zero.at[sums].set(x[differences]).at[differences].set(x[sums]))
            rows.append(zero.at[sums].set(x[sums]).at[differences].set(x[differences]))
        return jnp.stack(rows)

    def curvature_product(self, x: Vector, multipliers: Float[Array, " constraints"], v: Vector) -> Vector:
        """Return sum_i lambda_i Hess h_i v."""
        places = self._differences()
        zero = jnp.zeros_like(x)
        total = zero.at[places].set(multipliers[0] * v[places] / jnp.linalg.norm(x[places]))
        if self.unit_incoming:
            sums, differences = self.coordinates.incoming_sum, self.coordinates.incoming_difference
            total = total.at[sums].add(multipliers[1] * v[differences] + multipliers[2] * v[sums])
            total = total.at[differences].add(multipliers[1] * v[sums] + multipliers[2] * v[differences])
        return total

    def retract(self, x: Vector, d: Scalar) -> Vector:
        """Scale the difference to d; with the scale fixed, bring the sum back to its place and length."""
        places = self._differences()
        gap = x[places]
        x = x.at[places].set(gap * (d / (math.sqrt(2.0) * jnp.linalg.norm(gap))))
        if self.kind == "tied":
            x = x.at[self.coordinates.outgoing_difference].set(self.outgoing_start * (d / self.start))
        if self.unit_incoming:
            total, gap = x[self.coordinates.incoming_sum], x[self.coordinates.incoming_difference]
            total = total - gap * ((total @ gap) / (gap @ gap))
            length = jnp.sqrt(2.0 - gap @ gap)  # |theta_l|^2 + |theta_m|^2 = 2
            x = x.at[self.coordinates.incoming_sum].set(total * (length / jnp.linalg.norm(total)))
        return x


class PairCreases(eqx.Module):
    """The creases of a problem's loss, seen in pair coordinates."""

    own: Creases
    objective: "PairObjective"

    def preactivations(self, x: Vector) -> Float[Array, " creases"]:
        """Return all preactivations."""
        return self.own.preactivations(self.objective.theta(x))

    def gradient_jumps(self, x: Vector) -> Float[Array, " creases"]:
        """Return by how much the slope per unit of height rises across each crease."""
        return self.objective.in_loss_units(self.own.gradient_jumps(self.objective.theta(x)))

    def chosen(self, x: Vector, names: Int[Array, " chosen"]) -> Float[Array, " chosen"]:
        """Return the preactivations of the named creases alone."""
        return self.own.chosen(self.objective.theta(x), names)


class PairObjective(eqx.Module):
    """A problem's loss, seen in the pair coordinates of two of its neurons, and in the path's units.

    ``factors`` precondition large solves; ``single``, the same problem in single precision, gives the products inside
    their steps. Losses, gradients and residuals never come from it. ``units`` and ``loss_unit`` (None: all are one)
    are what the solvers measure parameters and loss in; see `paths.units`.
    """

    problem: Problem
    coordinates: PairCoordinates
    factors: Factors | None = None
    single: Problem | None = None
    units: Vector | None = None
    loss_unit: Scalar | None = None

    def theta(self, x: Vector) -> Vector:
        """Return the problem's own parameters at x."""
        theta = self.coordinates.unrotate(x)
        return theta if self.units is None else self.units * theta

    def coordinates_of(self, theta: Vector) -> Vector:
        """Return x at the problem's own parameters; the inverse of `theta`."""
        return self.coordinates.rotate(theta if self.units is None else theta / self.units)

    def in_loss_units(self, value: Array) -> Array:
        """Return a loss, or what is linear in it, in the path's unit of loss."""
        return value if self.loss_unit is None else value / self.loss_unit

    def pull(self, gradient: Vector) -> Vector:
        """Return a gradient in pair coordinates and in the path's units."""
        gradient = gradient if self.units is None else self.units * gradient
        return self.coordinates.rotate(self.in_loss_units(gradient))

    @property
    def creases(self) -> PairCreases:
        """The creases of a loss whose activation has a kink; for no other."""
        return PairCreases(Creases(self.problem), self)

    def value_and_gradient(self, x: Vector) -> tuple[Scalar, Vector]:
        """Return loss and gradient in pair coordinates."""
        value, gradient = self.problem.value_and_gradient(self.theta(x))
        return self.in_loss_units(value), self.pull(gradient)

    def hessian_product(self, x: Vector, v: Vector) -> Vector:
        """Return the Hessian times v in pair coordinates."""
        return self.pull(self.problem.hessian_product(self.theta(x), self.theta(v)))

    def model_product(self, x: Vector, v: Vector) -> Vector:
        """Return the Hessian times v in pair coordinates, in single precision where there is a problem of it."""
        if self.single is None:
            return self.hessian_product(x, v)
        at, along = (self.theta(one).astype(jnp.float32) for one in (x, v))
        return self.pull(self.single.hessian_product(at, along).astype(x.dtype))

    @property
    def rounding(self) -> float:
        """Relative rounding of `model_product`."""
        return ROUNDING_DOUBLE if self.single is None else ROUNDING_SINGLE

    def hessian(self, x: Vector) -> Float[Array, "size size"]:
        """Return the dense Hessian in pair coordinates."""
        half = jax.vmap(self.pull)(self.problem.hessian(self.theta(x)))
        turned = jax.vmap(self.coordinates.rotate)
        return turned(half.T if self.units is None else self.units * half.T)

    def precondition(self, x: Vector, shift: Scalar, v: Vector) -> Vector:
        """Return an approximate solve with the shifted Hessian; v itself where there are no factors."""
        del x
        if self.factors is None:
            return v
        network = self.problem.network
        top = jnp.max(jnp.stack([layer.input_values[-1] * layer.output_values[-1] for layer in self.factors]))
        shift = shift if self.loss_unit is None else shift * self.loss_unit
        shift = jnp.maximum(shift, DAMPING * top)
        # With D the units: (D H D / unit)^-1 = unit D^-1 H^-1 D^-1.
        back = self.coordinates.unrotate(v)
        back = apply(network, self.factors, shift, back if self.units is None else back / self.units)
        back = back if self.loss_unit is None else back * self.loss_unit
        return self.coordinates_of(back)


@eqx.filter_jit
def value_and_gradient(objective: PairObjective, x: Vector) -> tuple[Scalar, Vector]:
    """Return the objective's loss and gradient at a point, compiled once for all who ask outside of a solve."""
    return objective.value_and_gradient(x)


@eqx.filter_jit
def theta_of(objective: PairObjective, x: Vector) -> Vector:
    """Return the problem's own parameters at a point, compiled."""
    return objective.theta(x)
