"""find_path: from a minimum and a pair of neurons to a `Path`; the one public verb of this package."""

import time
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from saddlescope.arrays import Layout, require_finite, to_numpy
from saddlescope.errors import NeuronsError, SettingsError
from saddlescope.numerics.continuation import Limits, Solver, evaluate, settle
from saddlescope.numerics.newton import DENSE_LIMIT
from saddlescope.numerics.tangent import Unconstrained
from saddlescope.paths.constraint import PairObjective, PairSurface
from saddlescope.paths.ending import Found, finish
from saddlescope.paths.follow import Progress, distances_between, follow
from saddlescope.paths.result import Path, PathSettings
from saddlescope.precision import in_float64
from saddlescope.problem.kinks import is_kinked
from saddlescope.problem.kronecker import factors
from saddlescope.problem.networks import Perceptron
from saddlescope.problem.problem import Problem
from saddlescope.symmetry.coordinates import PairCoordinates
from saddlescope.symmetry.gauge import fix_scale, most_similar_pair

DENSE_TOLERANCE = 1e-10

# Large problems: this share of the tangential gradient norm that the first change of distance brings about.
KRYLOV_TOLERANCE = 1e-4

# A large network's start is polished by at most so many iterations.
POLISH_ITERATIONS = 30

# The longest single step of a correction, as a share of the norm of all parameters at the start.
RADIUS = 0.05


def check_settings(settings: PathSettings) -> None:
    """Refuse settings outside their ranges.

    Raises:
        SettingsError: an unknown distance or solver, fewer than 3 steps, a reach outside (0, 1), a tolerance that is
            not positive, or an iteration limit below 1.
    """
    rules = (
        ("distance", settings.distance in ("incoming", "joint", "tied"), "incoming, joint or tied"),
        (
            "solver",
            settings.solver in ("auto", "newton", "creased", "krylov", "flow", "descent"),
            "auto, newton, creased, krylov, flow or descent",
        ),
        ("steps", settings.steps >= 3, "a whole number from 3 up"),
        ("reach", 0.0 < settings.reach < 1.0, "a number between 0 and 1"),
        ("tolerance", settings.tolerance is None or settings.tolerance > 0.0, "a positive number"),
        ("max_iterations", settings.max_iterations >= 1, "a whole number from 1 up"),
    )
    for name, holds, expected in rules:
        if not holds:
            raise SettingsError(
                "this setting cannot be used", name=name, value=getattr(settings, name), expected=expected
            )


def choose_solver(settings: PathSettings, problem: Problem, size: int) -> Solver:
    """Return the corrector asked for; "auto" takes dense Hessians up to `DENSE_LIMIT` parameters.

    Raises:
        SettingsError: "creased" for an activation without a kink.
    """
    creased = is_kinked(problem)
    if settings.solver == "creased" and not creased:
        raise SettingsError(
            "this loss has no creases", name="solver", value="creased", expected="a perceptron of relu or leaky_relu"
        )
    if settings.solver != "auto":
        return settings.solver  # type: ignore[return-value]
    if size > DENSE_LIMIT:
        return "krylov"
    return "creased" if creased else "newton"


def _polish(objective: PairObjective, x: Array, limits: Limits, solver: Solver) -> Array:
    """Return the minimum near x, found without any constraint; x itself when it is one already."""
    linear: Solver = "krylov" if solver == "krylov" or x.shape[0] > DENSE_LIMIT else "newton"
    if solver == "creased":
        linear = solver
    if linear == "krylov":  # a start that stays above the tolerance is reported as an event at the first node
        limits = limits._replace(iterations=jnp.minimum(limits.iterations, POLISH_ITERATIONS))
    return settle(objective, Unconstrained(jnp.ones_like(x)), x, jnp.asarray(0.0), limits, linear).x


def _first_gradient(
    objective: PairObjective, surface: PairSurface, x: Array, distances: np.ndarray, limits: Limits
) -> float:
    """Return the tangential gradient norm right after the first change of distance, before any correction."""
    return float(evaluate(objective, surface, x, jnp.asarray(distances[1]), limits.tolerance, "krylov").residual)


@in_float64
def find_path(
    problem: Problem,
    parameters: Any,
    *,
    layer: int,
    pair: tuple[int, int] | None = None,
    settings: PathSettings | None = None,
    progress: Progress | None = None,
) -> Path:
    """Follow the path on which two neurons of a hidden layer merge, from a minimum to their permutation point.

    The distance of the pair is lowered from its first value to ``reach`` times that, and at each distance the loss is
    minimised over everything else, tracked continuously; then the pair is merged and the merged network's minimum is
    found. **A path is not promised to end in a permutation point**: look at ``ending`` and ``reasons``.

    Args:
        problem: network, data and loss.
        parameters: a minimum of the problem's loss, as a parameter set or as what `train` returned; polished first when
            ``settings.polish``.
        layer: hidden layer, counted from 1.
        pair: two neurons of it, counted from 0; None takes the pair with the most similar incoming vectors.
        settings: distance, number of distances, solver, tolerance; see `PathSettings`.
        progress: called with (done, total, message) after each distance.

    Returns:
        The path with everything measured on it, in float64 NumPy arrays.

    Raises:
        NeuronsError: no such layer or neuron, twice the same neuron, or a pair that coincides already.
        ShapeError: parameters that do not fit the network.
        NonFiniteError: NaN or infinity among the parameters.
        SettingsError: a setting outside its range.

    Source: [B19] section 4.1; science notes, section 2.
    """
    began = time.perf_counter()
    settings = settings or PathSettings()
    check_settings(settings)
    network = problem.network
    parameters = getattr(parameters, "parameters", parameters)
    network.check(parameters)
    require_finite(parameters, "the starting point")
    neurons = network.neurons(layer)
    homogeneous = network.homogeneous(layer)
    start = to_numpy(parameters)
    if pair is None:
        pair = most_similar_pair(start, neurons, homogeneous=homogeneous)
    neurons.check_pair(start, *pair)
    pair = (min(pair), max(pair))
    layout = Layout.of(start)
    if homogeneous:
        start = to_numpy(fix_scale(start, neurons, units=pair))

    coordinates = PairCoordinates.of(neurons, layout, pair)
    solver = choose_solver(settings, problem, layout.size)
    theta = layout.flatten(start)
    factored = solver == "krylov" and isinstance(network, Perceptron)
    objective = PairObjective(problem, coordinates)
    if factored:
        single = problem.in_single() if layout.size > DENSE_LIMIT else None
        objective = PairObjective(problem, coordinates, factors(problem, theta), single)
    x = coordinates.rotate(theta)
    tolerance = settings.tolerance or DENSE_TOLERANCE
    radius = RADIUS * float(jnp.linalg.norm(x))
    limits = Limits(jnp.asarray(tolerance), jnp.asarray(radius), jnp.asarray(settings.max_iterations))
    if settings.polish:
        x = _polish(objective, x, limits, solver)
    if homogeneous:  # polishing may have moved the scale
        moved = layout.unflatten_numpy(np.asarray(coordinates.unrotate(x)))
        x = coordinates.rotate(layout.flatten(fix_scale(moved, neurons, units=pair)))
    kind = settings.distance
    surface = PairSurface.of(coordinates, x, kind, unit_incoming=homogeneous)  # type: ignore[arg-type]
    first = float(surface.start)
    if first == 0.0:
        raise NeuronsError(
            "these two neurons coincide already", name="pair", value=pair, expected="neurons at a positive distance"
        )
    distances = distances_between(first, settings.reach, settings.steps)
    if settings.tolerance is None and solver == "krylov":
        tolerance = KRYLOV_TOLERANCE * _first_gradient(objective, surface, x, distances, limits)
        limits = limits._replace(tolerance=jnp.asarray(tolerance))
    trail = follow(objective, surface, x, distances, limits, solver, progress)
    found = Found(
        problem, objective, surface, trail, limits, solver, layout, neurons, layer, pair, settings, float(tolerance)
    )
    path = finish(found)
    return replace(path, seconds=time.perf_counter() - began)
