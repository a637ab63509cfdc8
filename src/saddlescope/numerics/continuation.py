"""Track a minimiser while the surface's parameter d falls: predict, correct, adapt the stride, one compiled loop a leg.

A leg goes from one asked distance to the next in as many strides as smooth tracking needs: when the corrector moves
the point far beyond
the prediction the stride is cut; where cutting does not help, the minimiser has ceased to exist (a fold) and the leg
says so.
"""

from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Scalar

from saddlescope.numerics.descent import descent
from saddlescope.numerics.flow import flow
from saddlescope.numerics.lbfgs_history import LBFGSHistory, empty
from saddlescope.numerics.linear import FLAT, tangential_hessian
from saddlescope.numerics.newton import (
    CONVERGED,
    DENSE,
    KRYLOV,
    MAX_STEPS,
    NON_FINITE,
    RUNNING,
    Iterate,
    begin,
    correct,
    correct_traced,
)
from saddlescope.numerics.piecewise_smooth import CREASED, Creased, hold
from saddlescope.numerics.tangent import Objective, Surface, Vector, tangent

Solver = Literal["newton", "creased", "krylov", "flow", "descent"]

# Correctors with dense Hessians: they give the tangent of the branch too. The others descend in their own ways.
METHODS = {"newton": DENSE, "creased": CREASED, "krylov": KRYLOV}
TANGENTS = ("newton", "creased")

# A leg may be cut into strides up to this factor finer before a far move counts as a fold.
FINEST = 4096.0

# The same bound where no tangent is at hand and every correction is expensive.
COARSEST = 16.0

# After so many strides a leg is finished in one: the leg is then reported as a leap or as not converged.
STRIDES = 200

# Share of the newest secant in the running mean of the velocity: secants of late, short strides hold more of the
# residuals than those of early, long ones.
NEWEST = 0.15

# The points in between are kept as long as they fit into this many numbers (32 MB).
TRACE_NUMBERS = 2**22

# While strides can still be cut, a correction that needs more Newton iterations than this is not worth finishing.
PATIENCE = 12


class Tolerances(NamedTuple):
    """Tangential gradient norm to reach, longest single step, iteration limit of one correction, and a largest norm.

    A leg ends where the norm of the point passes ``bound``: a branch that runs off to infinity is not followed stride
    by stride to the end of the leg.
    """

    tolerance: Scalar
    radius: Scalar
    iterations: Int[Array, ""]
    bound: Scalar | float = float("inf")


class ContinuationState(NamedTuple):
    """State carried along the path: the point, its velocity dx/dd as far as known, and the stride in log d."""

    x: Vector
    d: Scalar
    velocity: Vector
    stride: Scalar
    fresh: Array  # no velocity is known yet, or a leap has made it meaningless
    mean_velocity: Vector  # a running mean of the velocity: where the branch is straight it holds less of the residuals
    memory: LBFGSHistory | None = None  # what conjugate gradients have learnt so far


class LegInfo(NamedTuple):
    """What happened on one leg: the iterate at its end and the worst of its strides."""

    iterate: Iterate
    slope: Scalar  # dL/dd along the path
    curvature: Scalar  # lowest eigenvalue of the tangential Hessian; NaN if not computed
    iterations: Int[Array, ""]
    products: Int[Array, ""]
    strides: Int[Array, ""]
    leap: Scalar  # largest distance between prediction and correction at the finest stride; 0 when all was smooth
    leap_from: Vector  # the predicted point of that leap
    leap_d: Scalar
    trace: Float[Array, "room size"]  # the points after each accepted stride, the last one excepted
    trace_told: Float[Array, "room 5"]  # at each of them: d, value, residual, norm of the full gradient, status
    traced: Int[Array, ""]


def solve(
    objective: Objective,
    surface: Surface,
    x: Vector,
    d: Scalar,
    limits: Tolerances,
    solver: Solver,
    memory: LBFGSHistory | None = None,
    other: Vector | None = None,
) -> Iterate:
    """Minimise on the surface at d from x with the named corrector; see `correct` for ``memory`` and ``other``."""
    options = {"tolerance": limits.tolerance, "radius": limits.radius, "limit": limits.iterations}
    if solver == "flow":
        return flow(objective, surface, x, d, **options)
    if solver == "descent":
        return descent(objective, surface, x, d, **options)
    if solver == "krylov" and memory is None:
        memory = empty(x.shape[0])
    return correct(objective, surface, x, d, method=METHODS[solver], memory=memory, other=other, **options)


def surface_at(objective: Objective, surface: Surface, x: Vector, solver: Solver) -> Surface:
    """Return the surface along which the minimiser moves: where the loss has creases, the ones on which x lies too."""
    if solver != "creased":
        return surface
    assert isinstance(objective, Creased)
    return hold(objective, surface, x)


def base_motion(surface: Surface, x: Vector, d: Scalar) -> Vector:
    """Return how the retraction moves x when d changes: the derivative of retract(x, d) with respect to d."""
    return jax.jvp(lambda e: surface.retract(x, e), (d,), (jnp.ones_like(d),))[1]


def dense_velocity(
    objective: Objective, surface: Surface, x: Vector, d: Scalar, gradient: Vector
) -> tuple[Vector, Scalar]:
    """Return dx/dd along the minimisers, T H (dx/dd) = 0, and the lowest eigenvalue of the tangential Hessian."""
    space = tangent(surface, x, gradient)
    base = base_motion(surface, x, d)
    values, vectors = jnp.linalg.eigh(tangential_hessian(objective, surface, x, space))
    bend = surface.curvature_product(x, space.multipliers, base)
    force = space.project(objective.hessian_product(x, base) - bend)
    positive = jnp.maximum(values, FLAT * jnp.max(jnp.abs(values)))
    return base - space.project(vectors @ ((vectors.T @ force) / positive)), values[0]


def _slope(objective: Objective, surface: Surface, found: Iterate, d: Scalar, solver: Solver) -> Scalar:
    """Return dL/dd along the minimisers, by the envelope theorem; on creases they move along these."""
    along = surface_at(objective, surface, found.x, solver)
    return found.gradient @ base_motion(along, found.x, d)


def _velocity(
    objective: Objective, surface: Surface, track: ContinuationState, found: Iterate, d: Scalar, solver: Solver
) -> tuple[Vector, Scalar]:
    """Return the velocity at a corrected point: the tangent where it is cheap, else the secant."""
    if solver in TANGENTS:
        here = surface_at(objective, surface, found.x, solver)
        return dense_velocity(objective, here, found.x, d, found.gradient)
    run = jnp.where(d == track.d, 1.0, d - track.d)
    return (found.x - track.x) / run, jnp.full_like(d, jnp.nan)


class _March(NamedTuple):
    track: ContinuationState
    leg: LegInfo
    running: Array


def _stride(
    objective: Objective,
    surface: Surface,
    state: _March,
    target: Scalar,
    full: Scalar,
    limits: Tolerances,
    solver: Solver,
) -> _March:
    """Try one stride; accept it, or cut it."""
    track, leg = state.track, state.leg
    last = track.stride >= jnp.log(track.d / target) * (1 - 1e-12)
    d = jnp.where(last, target, track.d * jnp.exp(-track.stride))
    dense = solver in TANGENTS
    finest_stride = full / (FINEST if dense else COARSEST)
    finest = (track.stride <= finest_stride * 1.001) | (leg.strides >= STRIDES)
    d = jnp.where(leg.strides >= STRIDES, target, d)
    last = last | (leg.strides >= STRIDES)
    ahead = (d - track.d) * jnp.where(track.fresh, 0.0, track.velocity)
    wild = jnp.linalg.norm(ahead) > 0.1 * jnp.linalg.norm(track.x)
    ahead = jnp.where(finest & wild, 0.0, ahead)  # better no prediction than one beyond its range
    guess = surface_at(objective, surface, track.x, solver).retract(track.x + ahead, d)
    patience = jnp.where(finest | (not dense), limits.iterations, jnp.minimum(PATIENCE, limits.iterations))
    mean_velocity = None if dense else track.x + (d - track.d) * jnp.where(track.fresh, 0.0, track.mean_velocity)
    patient = limits._replace(iterations=patience)
    found = solve(objective, surface, guess, d, patient, solver, track.memory, mean_velocity)
    moved = jnp.linalg.norm(found.x - guess)
    reach = jnp.linalg.norm(guess - track.x)
    # Dense tangents predict sharply; elsewhere only a move beyond one full step counts as a leap.
    sharp = dense & ~track.fresh
    allowed = jnp.where(sharp, 0.5 * reach + 1e-3 * limits.radius, limits.radius)
    smooth = (found.status == CONVERGED) & (moved <= allowed) & (reach <= 0.1 * jnp.linalg.norm(track.x))
    accept = smooth | finest
    ends = accept & (last | (found.status == NON_FINITE) | (jnp.linalg.norm(found.x) > limits.bound))
    leaps = accept & ~smooth & (moved > leg.leap)
    velocity, curvature = _velocity(objective, surface, track, found, d, solver)

    def pick(new: Array, old: Array) -> Array:
        return jnp.where(accept, new, old)

    taken = ContinuationState(
        pick(found.x, track.x),
        pick(d, track.d),
        pick(velocity, track.velocity),
        jnp.where(accept, jnp.minimum(2.0 * track.stride, full), jnp.maximum(0.25 * track.stride, finest_stride)),
        pick(~smooth & (not dense), track.fresh),
        pick(
            jnp.where(track.fresh, velocity, track.mean_velocity + NEWEST * (velocity - track.mean_velocity)),
            track.mean_velocity,
        ),
        found.memory,
    )
    found = found._replace(memory=None)  # once is enough: the track has it
    told = LegInfo(
        jax.tree.map(pick, found, leg.iterate),
        leg.slope,
        pick(curvature, leg.curvature),
        leg.iterations + found.iterations,
        leg.products
        + found.products
        + (track.x.shape[0] + 1 if dense else 0),  # the velocity's Hessian, and one product
        leg.strides + 1,
        jnp.where(leaps, moved, leg.leap),
        jnp.where(leaps, guess, leg.leap_from),
        jnp.where(leaps, d, leg.leap_d),
        *_write(leg, found, d, accept & ~ends),
    )
    return _March(taken, told, ~ends)


def _write(leg: LegInfo, found: Iterate, d: Scalar, wanted: Array) -> tuple[Array, Array, Array]:
    """Return the trace with one more point, if it is wanted and there is room."""
    wanted = wanted & (leg.traced < leg.trace.shape[0])
    at = jnp.minimum(leg.traced, leg.trace.shape[0] - 1)
    told = jnp.stack([d, found.value, found.residual, jnp.linalg.norm(found.gradient), found.status.astype(d.dtype)])
    return (
        leg.trace.at[at].set(jnp.where(wanted, found.x, leg.trace[at])),
        leg.trace_told.at[at].set(jnp.where(wanted, told, leg.trace_told[at])),
        leg.traced + wanted,
    )


@eqx.filter_jit
def init_tracking(
    objective: Objective, surface: Surface, x: Vector, d: Scalar, full: Scalar, solver: Solver
) -> ContinuationState:
    """Return the track that begins at the minimiser x; with dense Hessians its first velocity is the tangent's."""
    if solver in TANGENTS:
        _, gradient = objective.value_and_gradient(x)
        velocity, _ = dense_velocity(objective, surface_at(objective, surface, x, solver), x, d, gradient)
        return ContinuationState(x, d, velocity, full, jnp.asarray(False), velocity)
    none = jnp.zeros_like(x)
    return ContinuationState(
        x, d, none, full, jnp.asarray(True), none, empty(x.shape[0]) if solver == "krylov" else None
    )


@eqx.filter_jit
def advance_to(
    objective: Objective,
    surface: Surface,
    track: ContinuationState,
    target: Scalar,
    full: Scalar,
    limits: Tolerances,
    solver: Solver,
) -> tuple[ContinuationState, LegInfo]:
    """ContinuationState the minimiser from ``track.d`` down to ``target``; ``full`` is the longest stride in log d.

    The track returned is at a larger d where the point is not finite or its norm has passed ``limits.bound``.
    Compiled once per shape and solver; pairs, distances and data of equal shape share the program.
    """
    here = begin(objective, surface, track.x, track.d, limits.tolerance)
    zero, none = jnp.asarray(0), jnp.zeros_like(track.d)
    room = max(1, min(int(STRIDES), TRACE_NUMBERS // track.x.shape[0]))
    trace = jnp.zeros((room, track.x.shape[0]), track.x.dtype)
    nan = jnp.full_like(none, jnp.nan)
    told = jnp.zeros((room, 5), trace.dtype)
    leg = LegInfo(here, none, nan, zero, zero, zero, none, track.x, none, trace, told, zero)
    start = _March(track, leg, track.d > target)
    end = jax.lax.while_loop(
        lambda s: s.running, lambda s: _stride(objective, surface, s, target, full, limits, solver), start
    )
    slope = _slope(objective, surface, end.leg.iterate, end.track.d, solver)
    return end.track, end.leg._replace(slope=slope)


settle = eqx.filter_jit(solve)
"""`solve`, compiled: one correction at fixed d."""


@eqx.filter_jit
def evaluate(
    objective: Objective, surface: Surface, x: Vector, d: Scalar, tolerance: Scalar, solver: Solver
) -> Iterate:
    """Return the iterate at x, brought onto the surface at d, without any step: `settle` with no iterations.

    A program of its own, because a whole corrector takes several times as long to compile.
    """
    first = METHODS.get(solver, DENSE).begin(objective, surface, x, d, tolerance)
    return first._replace(status=jnp.where(first.status == RUNNING, MAX_STEPS, first.status))


slope_at = eqx.filter_jit(_slope)
"""dL/dd along the minimisers at one of them, compiled."""


@eqx.filter_jit
def descend(
    objective: Objective, surface: Surface, x: Vector, d: Scalar, limits: Tolerances, solver: Solver
) -> tuple[Iterate, Array, Array, Int[Array, ""]]:
    """Return one Newton-like correction at fixed d with all points that it passed: iterate, points, values, count."""
    return correct_traced(
        objective,
        surface,
        x,
        d,
        tolerance=limits.tolerance,
        radius=limits.radius,
        limit=limits.iterations,
        method=METHODS.get(solver, DENSE),
        room=max(2, min(2048, TRACE_NUMBERS // x.shape[0])),
    )
