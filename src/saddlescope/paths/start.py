"""The start of a path: polished to a minimum, and how far that is from the network that was given."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from saddlescope.numerics.continuation import Solver, Tolerances, settle
from saddlescope.numerics.newton import DENSE_LIMIT
from saddlescope.numerics.tangent import Unconstrained
from saddlescope.paths.constraint import PairObjective, theta_of, value_and_gradient
from saddlescope.paths.result import Start

# A large network's start is polished by at most so many iterations.
POLISH_ITERATIONS = 30

# Polishing that moves the parameters by more than this share of their norm leaves the network that was given.
FAR = 0.05

# So does one that lowers the loss by more than this share of it and moves them by more than a rounding of float32.
LOWER, MOVED = 0.05, 1e-3


def polish_start(objective: PairObjective, x: Array, limits: Tolerances, solver: Solver) -> Array:
    """Return the minimum near x, found without any constraint; x itself when it is one already."""
    linear: Solver = "krylov" if solver == "krylov" or x.shape[0] > DENSE_LIMIT else "newton"
    if solver == "creased":
        linear = solver
    if linear == "krylov":  # a start that stays above the tolerance is reported as an event at the first node
        limits = limits._replace(iterations=jnp.minimum(limits.iterations, POLISH_ITERATIONS))
    return settle(objective, Unconstrained(jnp.ones_like(x)), x, jnp.asarray(0.0), limits, linear).x


def is_another_network(loss_given: float, loss: float, relative_distance: float) -> bool:
    """Return whether polishing led so far that the path is not one of the network that was given."""
    lowered = loss_given - loss > LOWER * abs(loss_given) and relative_distance > MOVED
    return bool(relative_distance > FAR or lowered or not math.isfinite(relative_distance))


def start_of(objective: PairObjective, given: Array, x: Array, *, polished: bool) -> Start:
    """Return the record of a start: the point given and the one at which the path begins, in pair coordinates."""
    unit = 1.0 if objective.loss_unit is None else float(objective.loss_unit)
    (loss_given, slope_given), (loss, slope) = (value_and_gradient(objective, at) for at in (given, x))
    with np.errstate(over="ignore", invalid="ignore"):  # a loss that is not finite is refused by its name
        share = float(np.linalg.norm(np.asarray(x) - given)) / max(float(np.linalg.norm(given)), 1e-300)
        there, here = (np.asarray(theta_of(objective, at)) for at in (x, given))
        moved = float(np.linalg.norm(there - here))
    return Start(
        polished=polished,
        loss_given=unit * float(loss_given),
        loss=unit * float(loss),
        gradient_norm_given=float(jnp.linalg.norm(slope_given)),
        gradient_norm=float(jnp.linalg.norm(slope)),
        distance=moved,
        relative_distance=share,
        another_network=is_another_network(float(loss_given), float(loss), share),
    )


def start_warning(start: Start) -> tuple[str, ...]:
    """Return what to say where the path does not begin at the network that was given."""
    if not start.another_network:
        return ()
    return (
        f"the network given is no minimum: polishing took its loss from {start.loss_given:.6g} to {start.loss:.6g} and "
        f"moved its parameters by {start.distance:.3g} ({100.0 * start.relative_distance:.3g}% of their norm), so the "
        "path is that of another network; train it further on these data, with the loss and penalties given here",
    )
