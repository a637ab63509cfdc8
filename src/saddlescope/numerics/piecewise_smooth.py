"""Newton's method for a loss with creases: steps end on the crease where the slope turns, and continue along it.

A point within the band just below a crease is *held* on it: the crease joins the constraint surface. A step runs down a
model of the loss whose slope jumps at each crease crossed, and ends where the slope turns: at a zero, or on a crease.
A held crease is let go, to the side where the loss falls, when the loss would fall by that more than by staying.
A minimum on creases has zero among its subgradients; the residual is the norm of what is left of one.

ActiveKinks points lie a hair below the crease, never on it: gradients and Hessians are those of the lower side.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Scalar

from saddlescope.numerics.linear import dense_step
from saddlescope.numerics.newton import CONVERGED, NON_FINITE, ROUNDING, RUNNING, STAGNATED, Iterate, Method
from saddlescope.numerics.tangent import Objective, Surface, Tangent, Vector, tangent

# How far below a crease a held point lies, as a share of the largest height: far above rounding (1e-16), far below all
# that matters.
BELOW = 1e-13

# At most so many creases are held at once, and so many are looked at along a step.
SLOTS, CROSSINGS = 32, 64

# A crease is let go when the slope across it is this many times the slope along all that are held.
SETTLED = 100.0

# Corrections that bring a point back onto its creases; each is quadratically better.
RETURNS = 3


@runtime_checkable
class Creases(Protocol):
    """The creases of an objective; see `saddlescope.problem.kink_surfaces`."""

    def preactivations(self, x: Vector) -> Float[Array, " creases"]:
        """Return all preactivations; infinite where there is none."""
        ...

    def gradient_jumps(self, x: Vector) -> Float[Array, " creases"]:
        """Return by how much the slope per unit of height rises across each crease."""
        ...

    def chosen(self, x: Vector, names: Int[Array, " chosen"]) -> Float[Array, " chosen"]:
        """Return the preactivations of the named creases alone."""
        ...


@runtime_checkable
class Creased(Objective, Protocol):
    """An objective that knows its creases."""

    @property
    def creases(self) -> Creases:
        """The creases."""
        ...


class ActiveKinks(eqx.Module):
    """A surface cut down to the creases that are held: a surface like any other."""

    surface: Surface
    creases: Creases
    names: Int[Array, " slots"]
    held: Bool[Array, " slots"]
    below: Scalar

    def free(self, x: Vector) -> Vector:
        """Return the surface's own free entries."""
        return self.surface.free(x)

    def gradients(self, x: Vector) -> Float[Array, "slots size"]:
        """Return the gradients of the slots' preactivations, zero for slots not held."""
        rows = jax.jacrev(lambda at: self.creases.chosen(at, self.names))(x) * self.free(x)
        return jnp.where(self.held[:, None], rows, 0.0)

    def lengths(self, x: Vector) -> Float[Array, " slots"]:
        """Return the norms of these gradients, 1 for slots not held."""
        return jnp.where(self.held, jnp.linalg.norm(self.gradients(x), axis=1), 1.0)

    def normals(self, x: Vector) -> Float[Array, "constraints size"]:
        """Return the surface's normals and the held creases'; rows of zeros for the other slots."""
        return jnp.concatenate([self.surface.normals(x), self.gradients(x) / self.lengths(x)[:, None]])

    def curvature_product(self, x: Vector, multipliers: Float[Array, " constraints"], v: Vector) -> Vector:
        """Return sum_i lambda_i Hess h_i v over the surface's constraints and the held creases."""
        own = multipliers.shape[0] - self.names.shape[0]
        weights = jnp.where(self.held, multipliers[own:] / self.lengths(x), 0.0)
        slope = jax.grad(lambda at: weights @ self.creases.chosen(at, self.names))
        return self.surface.curvature_product(x, multipliers[:own], v) + jax.jvp(slope, (x,), (v,))[1]

    def retract(self, x: Vector, d: Scalar) -> Vector:
        """Return to the surface at d, and to just below the held creases."""
        return self.to_heights(x, d, -self.below)

    def to_heights(self, x: Vector, d: Scalar, preactivations: Scalar | Float[Array, " slots"]) -> Vector:
        """Return the point of the surface at d, near x, at which the held creases have these preactivations."""
        return jax.lax.fori_loop(
            0,
            RETURNS,
            lambda _, at: self.surface.retract(at + self.towards(at, preactivations), d),
            self.surface.retract(x, d),
        )

    def towards(self, x: Vector, height: Scalar | Float[Array, " slots"]) -> Vector:
        """Return the shortest move within the surface's tangent space that brings the held creases to a height."""
        # The directions count as constant: what they multiply is zero at a point that lies where it should.
        still = jax.lax.stop_gradient(x)
        space = tangent(self.surface, still, jnp.zeros_like(x))
        rows = jax.vmap(space.project)(self.gradients(still))
        lack = jnp.where(self.held, height - self.creases.chosen(x, self.names), 0.0)
        return _pseudo_solve(rows, lack)


def _pseudo_solve(rows: Float[Array, "slots size"], wanted: Float[Array, " slots"]) -> Vector:
    """Return the shortest vector whose products with the rows are as wanted, as far as they can be."""
    u, s, vt = jnp.linalg.svd(rows, full_matrices=False)
    inverse = jnp.where(s > 1e-10 * jnp.max(s), 1.0 / jnp.where(s > 0, s, 1.0), 0.0)
    return vt.T @ (inverse * (u.T @ wanted))


def hold(objective: Creased, surface: Surface, x: Vector) -> ActiveKinks:
    """Return the surface cut down to the creases on which x lies."""
    creases = objective.creases
    preactivations = creases.preactivations(x)
    highest = jnp.max(jnp.where(jnp.isfinite(preactivations), jnp.abs(preactivations), 0.0))
    below = BELOW * jnp.maximum(highest, jnp.linalg.norm(x))  # all preactivations may vanish at once
    offsets, names = jax.lax.top_k(-jnp.abs(preactivations + below), min(SLOTS, x.shape[0], preactivations.shape[0]))
    return ActiveKinks(surface, creases, names, -offsets <= 0.5 * below, below)


class Look(NamedTuple):
    """What is found at a point: its creases, their tangent space, the slope there, and the worst crease to hold."""

    held: ActiveKinks
    space: Tangent
    slope: Vector
    upward: Bool[Array, " slots"]  # letting go leads above the crease
    excess: Float[Array, " slots"]  # how fast the loss falls when a crease is let go; 0: it does not
    residual: Scalar


def classify(objective: Creased, surface: Surface, x: Vector, gradient: Vector) -> Look:
    """Take the gradient apart: along the creases held, and across each of them."""
    held = hold(objective, surface, x)
    space = tangent(held, x, gradient)
    slope = space.project(gradient)
    lengths = held.lengths(x)
    below = space.multipliers[-held.names.shape[0] :]  # slope on the lower side, per unit of way
    above = below + objective.creases.gradient_jumps(x)[held.names] * lengths
    excess = jnp.where(held.held, jnp.maximum(jnp.maximum(below, -above), 0.0), 0.0)
    residual = jnp.sqrt(slope @ slope + excess @ excess)
    return Look(held, space, slope, -above > below, excess, residual)


def begin(objective: Creased, surface: Surface, x: Vector, d: Scalar, tolerance: Scalar) -> Iterate:
    """Evaluate the starting point, on the surface at d and on the creases on which it lay."""
    x = hold(objective, surface, x).retract(x, d)
    value, gradient = objective.value_and_gradient(x)
    residual = classify(objective, surface, x, gradient).residual
    status = jnp.where(residual <= tolerance, CONVERGED, RUNNING)
    status = jnp.where(jnp.isfinite(value) & jnp.isfinite(residual), status, NON_FINITE)
    zero, one = jnp.asarray(0), jnp.ones_like(value)
    return Iterate(x, value, gradient, residual, one, jnp.full_like(value, jnp.nan), zero, zero, status)


def share_of_step(
    preactivations: Float[Array, " creases"],
    speeds: Float[Array, " creases"],
    gradient_jumps: Float[Array, " creases"],
    slope: Scalar,
    bend: Scalar,
) -> tuple[Scalar, Int[Array, ""], Bool[Array, ""]]:
    """Return where the modelled slope turns along a step, t in [0, 1], the crease there, and whether there is one.

    The model: slope + t bend + the sum of pressure * |speed| over all creases crossed before t.
    """
    times = jnp.where(preactivations * speeds < 0, -preactivations / jnp.where(speeds != 0, speeds, 1.0), jnp.inf)
    negative, names = jax.lax.top_k(-times, min(CROSSINGS, times.shape[0]))
    times = -negative
    jumps = jnp.where(jnp.isfinite(times), gradient_jumps[names] * jnp.abs(speeds[names]), 0.0)
    after = jnp.cumsum(jumps)
    before = after - jumps
    at = jnp.where(jnp.isfinite(times), times, 0.0)
    reached = slope + bend * at
    # Beyond a crease, or already before it: at one with negative pressure the slope falls back below zero.
    turned = jnp.isfinite(times) & ((reached + after >= 0) | (reached + before >= 0))
    first = jnp.argmax(turned)
    some = jnp.any(turned)
    # The slope may pass zero between two creases, or behind the last: there the step ends without one.
    passed = jnp.where(some, before[first], after[-1])
    zero = jnp.where(bend > 0, -(slope + passed) / jnp.where(bend > 0, bend, 1.0), jnp.inf)
    end = jnp.where(some, times[first], jnp.inf)
    t = jnp.minimum(jnp.minimum(end, zero), 1.0)
    return t, names[first], some & (end <= jnp.minimum(zero, 1.0))


def _let_go(state: Iterate, seen: Look, d: Scalar) -> Vector:
    """Return the point moved off the worst crease, to ten bands away on the side where the loss falls."""
    worst = jnp.argmax(seen.excess)
    held, below = seen.held, seen.held.below
    preactivations = (
        jnp.full(held.names.shape, -below).at[worst].set(jnp.where(seen.upward[worst], 10.0, -10.0) * below)
    )
    return held.to_heights(state.x, d, preactivations)


def _step(
    objective: Creased, state: Iterate, seen: Look, d: Scalar, radius: Scalar
) -> tuple[Vector, Scalar, Scalar, Bool[Array, ""], Scalar]:
    """Return where a Newton step down the creased model leads, its length, the lowest curvature, whether it landed.

    Last, by how much the loss may rise because a landing ends below its crease, not on it.
    """
    held, creases = seen.held, objective.creases
    shift = jnp.linalg.norm(seen.slope) / radius
    step = dense_step(objective, held, state.x, seen.space, seen.slope, shift, state.reach * radius)
    preactivations, speeds = jax.jvp(creases.preactivations, (state.x,), (step.move,))
    own = jnp.zeros(preactivations.shape, bool).at[held.names].max(held.held)
    speeds = jnp.where(own | ~jnp.isfinite(preactivations), 0.0, speeds)
    slope = seen.slope @ step.move
    bend = jnp.maximum(2.0 * (-step.predicted - slope), 0.0)
    gradient_jumps = creases.gradient_jumps(state.x)
    t, name, lands = share_of_step(preactivations, speeds, gradient_jumps, slope, bend)
    spot = jnp.argmin(held.held)  # a free slot; if there is none the landing is refused
    lands = lands & ~held.held[spot]
    landed = eqx.tree_at(
        lambda h: (h.names, h.held),
        held,
        (jnp.where(lands, held.names.at[spot].set(name), held.names), held.held.at[spot].max(lands)),
    )
    steepness = jnp.linalg.norm(state.gradient) / landed.lengths(state.x)[spot] + jnp.abs(gradient_jumps[name])
    slack = jnp.where(lands, 4.0 * held.below * steepness, 0.0)
    return landed.retract(state.x + t * step.move, d), t * jnp.linalg.norm(step.move), step.curvature, lands, slack


def takes_on_creases(
    value: Scalar, residual: Scalar, state: Iterate, slack: Scalar, *, lands: Bool[Array, ""], letting: Bool[Array, ""]
) -> Bool[Array, ""]:
    """Return whether a step is taken: finite, and the loss falls, or stays while the gradient falls or a crease is met.

    Letting a crease go moves by a rounding's worth: the loss cannot tell, the next step does.
    """
    noise = ROUNDING * jnp.abs(state.value)
    finite = jnp.isfinite(value) & jnp.isfinite(residual)
    falls = value < state.value - noise
    level = (value <= state.value + noise + slack) & ((residual < state.residual) | lands)
    return finite & (falls | level | letting)


def advance(
    objective: Creased, surface: Surface, state: Iterate, d: Scalar, tolerance: Scalar, radius: Scalar
) -> Iterate:
    """Let a crease go or try one step; a refused step leaves the point and shortens the steps allowed."""
    seen = classify(objective, surface, state.x, state.gradient)
    # Only near the best point along the creases do the slopes across them say where the loss falls.
    letting = jnp.max(seen.excess) > jnp.maximum(SETTLED * jnp.linalg.norm(seen.slope), 0.5 * tolerance)
    nan = jnp.full_like(radius, jnp.nan)
    x, length, curvature, lands, slack = jax.lax.cond(
        letting,
        lambda: (_let_go(state, seen, d), jnp.zeros_like(radius), nan, jnp.asarray(False), jnp.zeros_like(radius)),
        lambda: _step(objective, state, seen, d, radius),
    )
    value, gradient = objective.value_and_gradient(x)
    residual = classify(objective, surface, x, gradient).residual
    good = takes_on_creases(value, residual, state, slack, lands=lands, letting=letting)
    share = length / radius
    longer = jnp.minimum(1.0, jnp.maximum(state.reach, 3.0 * share))
    reach = jnp.where(good, longer, 0.25 * jnp.minimum(state.reach, share))
    reach = jnp.where(letting, state.reach, reach)
    status = jnp.where(good & (residual <= tolerance), CONVERGED, RUNNING)
    stuck = ~good & (reach * radius < 1e-15 * jnp.linalg.norm(state.x))
    status = jnp.where(stuck, STAGNATED, status)
    tried = Iterate(x, value, gradient, residual, reach, curvature, state.iterations, state.products, status)
    picked = jax.tree.map(lambda new, old: jnp.where(good, new, old), tried, state)
    return picked._replace(
        reach=reach,
        curvature=jnp.where(letting, state.curvature, curvature),
        iterations=state.iterations + 1,
        products=state.products + x.shape[0],
        status=status,
    )


CREASED = Method(begin, advance)
"""The method to hand to `correct` and `correct_traced`."""
