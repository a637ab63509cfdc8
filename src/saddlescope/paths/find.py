"""find_path: from a minimum and a pair of neurons to a `Path`; the one public verb of this package."""

import time
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from saddlescope.arrays import Layout, require_finite, to_numpy
from saddlescope.errors import NeuronsError, SettingsError
from saddlescope.models.chain import is_traceable
from saddlescope.models.contract import layer_number
from saddlescope.numerics.continuation import Solver, Tolerances, evaluate
from saddlescope.numerics.newton import DENSE_LIMIT
from saddlescope.paths.constraint import PairObjective, PairSurface
from saddlescope.paths.ending import PathData, finish
from saddlescope.paths.follow import Progress, distances_between, follow
from saddlescope.paths.result import Path, PathSettings
from saddlescope.paths.start import polish_start, start_of
from saddlescope.paths.units import Units, units_of
from saddlescope.precision import in_float64
from saddlescope.problem.kinks import has_creases
from saddlescope.problem.kronecker import factors
from saddlescope.problem.problem import Problem
from saddlescope.units.coordinates import PairCoordinates
from saddlescope.units.gauge import fix_scale, most_similar_pair
from saddlescope.units.neurons import Neurons

DENSE_TOLERANCE = 1e-10

# Large problems: this share of the tangential gradient norm that the first change of distance brings about.
KRYLOV_TOLERANCE = 1e-4

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
    creased = has_creases(problem)
    if settings.solver == "creased" and not creased:
        raise SettingsError(
            "this loss has no creases", name="solver", value="creased", expected="a perceptron of relu or leaky_relu"
        )
    if settings.solver != "auto":
        return settings.solver  # type: ignore[return-value]
    if size > DENSE_LIMIT:
        return "krylov"
    return "creased" if creased else "newton"


def _first_gradient(
    objective: PairObjective, surface: PairSurface, x: Array, distances: np.ndarray, limits: Tolerances
) -> float:
    """Return the tangential gradient norm right after the first change of distance, before any correction."""
    return float(evaluate(objective, surface, x, jnp.asarray(distances[1]), limits.tolerance, "krylov").residual)


def _objective(
    problem: Problem,
    coordinates: PairCoordinates,
    layout: Layout,
    units: Units,
    start: dict[str, np.ndarray],
    solver: Solver,
) -> PairObjective:
    """Return the problem as the solvers see it; large networks get a preconditioner and products in float32."""
    vector = unit = None
    if not units.ordinary:
        vector = jnp.asarray(units.vector(dict(zip(layout.names, layout.shapes, strict=True))))
        unit = jnp.asarray(units.loss)
    objective = PairObjective(problem, coordinates, units=vector, loss_unit=unit)
    if solver != "krylov" or not is_traceable(problem.network):
        return objective
    theta = objective.theta(coordinates.rotate(layout.flatten(start)))
    single = problem.in_single() if layout.size > DENSE_LIMIT else None
    return PairObjective(problem, coordinates, factors(problem, theta), single, vector, unit)


def _units(network: Any, layer: int | str) -> tuple[Neurons, int, bool]:
    """Return the plain slices of a layer's units, its number, and whether the scale of each is open.

    Raises:
        NeuronsError: no such layer, or units that cannot be merged.
    """
    units = network.neurons(layer)  # refuses in its own words
    number = layer_number(network, layer)
    if not network.layers[number].facts.mergeable:
        raise NeuronsError("the units of this layer cannot be merged", name="layer", value=layer)
    return Neurons(units.incoming, units.outgoing, units.units), number, network.homogeneous(number)


@in_float64
def find_path(
    problem: Problem,
    parameters: Any,
    *,
    layer: int | str,
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
        layer: hidden layer, counted from 1, or its name.
        pair: two neurons of it, counted from 0; None takes the pair with the most similar incoming vectors.
        settings: distance, number of distances, solver, tolerance; see `PathSettings`.
        progress: called with (done, total, message) after each distance.

    Returns:
        The path with everything measured on it, in float64 NumPy arrays.

    Raises:
        NeuronsError: no such layer or neuron, twice the same neuron, or a pair that coincides already.
        ShapeError: parameters that do not fit the network.
        NonFiniteError: NaN or infinity among the parameters, or a loss that is not finite there.
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
    neurons, layer, homogeneous = _units(network, layer)
    layout = network.layout
    parameters = {name: parameters[name] for name in layout.names}
    units = units_of(problem, layout.names)
    start = units.scaled(to_numpy(parameters))
    if pair is None:
        pair = most_similar_pair(start, neurons, homogeneous=homogeneous)
    neurons.check_pair(start, *pair)
    pair = (min(pair), max(pair))
    if homogeneous:
        start = to_numpy(fix_scale(start, neurons, units=pair))

    coordinates = PairCoordinates.of(neurons, layout, pair)
    solver = choose_solver(settings, problem, layout.size)
    objective = _objective(problem, coordinates, layout, units, start, solver)
    given = x = coordinates.rotate(layout.flatten(start))
    tolerance = settings.tolerance or DENSE_TOLERANCE
    radius = RADIUS * float(jnp.linalg.norm(x))
    limits = Tolerances(jnp.asarray(tolerance), jnp.asarray(radius), jnp.asarray(settings.max_iterations))
    if settings.polish:
        x = polish_start(objective, x, limits, solver)
    began_at = start_of(objective, given, x, polished=settings.polish)
    require_finite({"loss": np.asarray(began_at.loss_given)}, "what is computed at the starting point")
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
    numbers = (layout, neurons, layer, pair, settings, float(tolerance), units, began_at)
    path = finish(PathData(problem, objective, surface, trail, limits, solver, *numbers))
    return replace(path, seconds=time.perf_counter() - began)
