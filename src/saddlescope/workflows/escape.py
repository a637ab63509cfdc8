"""One unit more in a layer, without a plateau: the better of a split and a birth, after line searches on the loss.

A *split* copies the unit whose block has the most negative eigenvalue and parts the copies along its eigenvector
(second order); a *birth* adds a unit that sends nothing, fed by the vector that makes its gradient largest, and lets it
send (first order). Neither wins always (science notes, 9.2), so both are tried.
"""

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.optimize import minimize_scalar

from saddlescope.arrays import Parameters
from saddlescope.exchanges.births import birth_gradients, steepest_birth
from saddlescope.exchanges.blocks import Places
from saddlescope.exchanges.find import exchange
from saddlescope.exchanges.result import ExchangeSettings, LayerExchange
from saddlescope.models.contract import adapted
from saddlescope.models.sizes import with_units
from saddlescope.problem.problem import Problem
from saddlescope.resize.expand import ZeroGroup, expand_layer
from saddlescope.units.neurons import Neurons
from saddlescope.workflows.escaped import NO_GAIN, GrownUnit, Offer

DOUBLINGS, REFINED = 8, 16
"""A line search looks at 2^-8 to 2^8 times the model's step, and times a unit's own length, then refines there."""

FARTHEST = 2.0**20
"""A model whose minimum lies farther off than so many lengths of a unit has none: its coefficient is rounding."""

CLEAR = 10.0
"""What is said to fall, or to have a gradient, exceeds so many times its own rounding, as trials show it."""

TRIALS = 4
"""Parameters changed in their last bits, to see how far rounding carries."""


class Line(NamedTuple):
    """The grown problem, where a line starts in it, and its direction."""

    problem: Problem
    base: Float[Array, " size"]
    direction: Float[Array, " size"]

    def at(self, step: float) -> dict[str, np.ndarray]:
        """Return the parameters at a step."""
        theta = np.asarray(self.base) + step * np.asarray(self.direction)
        return self.problem.network.layout.unflatten_numpy(theta)


class Grown(NamedTuple):
    """What one growth gives: the wider problem, its parameters, and the record."""

    problem: Problem
    parameters: dict[str, np.ndarray]
    unit: GrownUnit


def grow_unit(problem: Problem, params: Parameters, layer: int, *, seed: int = 0) -> Grown | str:
    """Return the network with one unit more in a layer and a lower loss, or why there is none.

    Args:
        problem: model, data and loss; the model can be built in other widths.
        params: its parameters, finite, in float64.
        layer: number of the layer.
        seed: of the birth's random starts.

    Raises:
        NeuronsError: units that cannot be copied with shares.
        NonFiniteError: a loss, or derivatives of it, that are not finite.
    """
    found = exchange(problem, params, layer=layer, settings=ExchangeSettings(costs=False))[layer]
    theta = problem.network.layout.flatten(params)
    floor = found_loss(problem, theta)
    lines = [_split(problem, params, found, floor), _birth(problem, params, found, floor, seed)]
    offers = [None if one is None else one[0] for one in lines]
    enough = floor.loss - CLEAR * floor.rounding
    kept = [one if one is not None and one[0].loss < enough else None for one in lines]
    gaining = [one for one in kept if one is not None]
    if not gaining:
        return NO_GAIN + _why(offers)
    offer, line = min(gaining, key=lambda one: one[0].loss)
    parameters = line.at(offer.step)
    after = line.problem.loss_of(parameters)
    if not after < enough:  # the search's own number was another
        return NO_GAIN + _why(offers)
    unit = GrownUnit(
        layer=layer,
        name=found.name,
        neuron=found.units,
        taken=offer.family,
        split=offers[0],
        birth=offers[1],
        loss_before=floor.loss,
        loss_after=after,
    )
    return Grown(line.problem, parameters, unit)


def _why(offers: list[Offer | None]) -> str:
    """Return what was tried in vain, in words."""
    tried = [f"{one.family} to {one.loss:.6g} at best" for one in offers if one is not None]
    return f" (no lower loss was found: {', '.join(tried)})" if tried else ""


class Floor(NamedTuple):
    """A loss, and how far rounding of the parameters' last bits carries it."""

    loss: float
    rounding: float


def found_loss(problem: Problem, theta: Array) -> Floor:
    """Return the loss with its rounding, measured by trials."""
    losses = np.asarray(_values(problem, theta[None] * _jitter(theta.shape[0])))
    return Floor(float(losses[0]), float(np.abs(losses - losses[0]).max() + 4e-16 * abs(losses[0])))


def _jitter(size: int) -> Array:
    """Return factors for trials: 1, then 1 plus or minus the last bits."""
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(TRIALS, size))
    return jnp.asarray(np.concatenate([np.ones((1, size)), 1.0 + 2.0 * np.finfo(float).eps * signs]))


@eqx.filter_jit
def _values(problem: Problem, thetas: Float[Array, "many size"]) -> Float[Array, " many"]:
    return jax.lax.map(problem.value, thetas)


# The two families.


def _split(problem: Problem, params: Parameters, found: LayerExchange, floor: Floor) -> tuple[Offer, Line] | None:
    """Return the split of the most unstable unit; None where no unit is unstable for certain."""
    unit = next((one for one in found.order if found.unstable[one] is True), None)
    if unit is None:
        return None
    incoming, outgoing = found.direction(unit)
    wider, wide, units = grown_problem(
        problem, params, found.layer, [2 if i == unit else 1 for i in range(found.units)]
    )
    line = _line(wider, wide, units, {unit: (incoming, outgoing), found.units: (-incoming, -outgoing)}, math.sqrt(0.5))
    value, _, curvature, quartic = (float(one) for one in _derivatives(*line))
    offset = value - floor.loss
    size = _length(found.layer, problem, params, unit)
    step = math.sqrt(-6.0 * curvature / quartic) if curvature < 0.0 < quartic else math.inf
    falls = step <= FARTHEST * size
    chosen, loss = _search(line, (step, size) if falls else (size,))
    return Offer(
        family="split",
        source=unit,
        incoming=incoming,
        outgoing=outgoing,
        offset=offset,
        slope=0.0,
        curvature=curvature,
        quartic=quartic,
        promise=1.5 * curvature**2 / quartic - offset if falls else None,
        step=chosen,
        loss=loss,
    ), line


def _birth(
    problem: Problem, params: Parameters, found: LayerExchange, floor: Floor, seed: int
) -> tuple[Offer, Line] | None:
    """Return the birth of largest gradient; None where that is rounding, or the network cannot be cut."""
    if found.way != "cut":
        return None
    places, theta = Places.of(problem, found.layer), problem.network.layout.flatten(params)
    born = steepest_birth(problem, places, theta, seed)
    size = float(np.linalg.norm(born.gradient))
    if not size > CLEAR * _gradient_rounding(problem, places, theta, born.incoming):
        return None
    outgoing = -born.gradient / size
    group = ZeroGroup(1, born.incoming, np.zeros((1, len(outgoing))))
    wider, wide, units = grown_problem(problem, params, found.layer, [1] * found.units, (group,))
    line = _line(wider, wide, units, {found.units: (np.zeros_like(born.incoming), outgoing)}, 1.0)
    value, slope, curvature, _ = (float(one) for one in _derivatives(*line))
    offset = value - floor.loss
    size = max(_length(found.layer, problem, params, unit) for unit in range(found.units))
    step = -slope / curvature if curvature > 0.0 > slope else math.inf
    falls = step <= FARTHEST * size
    chosen, loss = _search(line, (step, size) if falls else (size,))
    return Offer(
        family="birth",
        source=None,
        incoming=born.incoming,
        outgoing=outgoing,
        offset=offset,
        slope=slope,
        curvature=curvature,
        quartic=None,
        promise=0.5 * slope**2 / curvature - offset if falls else None,
        step=chosen,
        loss=loss,
    ), line


def _gradient_rounding(problem: Problem, places: Places, theta: Array, incoming: np.ndarray) -> float:
    """Return how far the last bits of the parameters carry the gradient of a new unit."""
    fed = np.tile(incoming, (1, places.shape[0], 1))
    found = [birth_gradients(problem, places, theta * factors, fed)[0, 0] for factors in _jitter(theta.shape[0])]
    return float(max(np.linalg.norm(one - found[0]) for one in found) + 4e-16 * np.linalg.norm(found[0]))


def grown_problem(
    problem: Problem,
    params: Parameters,
    layer: int,
    copies: list[int],
    zero_type: tuple[ZeroGroup, ...] = (),
) -> tuple[Problem, dict[str, np.ndarray], Neurons]:
    """Return the problem of the wider network, its parameters at equal function, and the layer's units in it."""
    units = problem.network.neurons(layer)
    wide, origins = expand_layer(params, units, copies=copies, zero_type=zero_type, layer=layer)
    network = adapted(with_units(problem.network, {layer: len(origins)}))
    return problem.with_network(network), wide, network.neurons(layer)


def _line(
    problem: Problem, base: Parameters, units: Neurons, moves: dict[int, tuple[np.ndarray, np.ndarray]], factor: float
) -> Line:
    """Return the line from the base on which these units' entries move, in multiples of a factor."""
    layout = problem.network.layout
    incoming, outgoing = units.incoming_positions(layout), units.outgoing_positions(layout)
    direction = np.zeros(layout.size)
    for unit, (into, out) in moves.items():
        direction[incoming[unit]] = factor * into
        direction[outgoing[unit]] = factor * out
    return Line(problem, layout.flatten(base), jnp.asarray(direction))


def _length(layer: int, problem: Problem, params: Parameters, unit: int) -> float:
    """Return the norm of a unit's entries; 1 where it is 0."""
    units = problem.network.neurons(layer)
    entries = [units.incoming_vectors(params)[unit], units.outgoing_vectors(params)[unit]]
    return float(np.linalg.norm(np.concatenate(entries))) or 1.0


# Along a line.


@eqx.filter_jit
def _derivatives(problem: Problem, base: Array, direction: Array) -> tuple[Array, Array, Array, Array]:
    """Return the loss at the start of a line and its first, second and fourth derivative along it."""

    def along(function: Any) -> Any:
        return lambda t: jax.jvp(function, (t,), (jnp.ones_like(t),))[1]

    def loss(t: Array) -> Array:
        return problem.value(base + t * direction)

    first, zero = along(loss), jnp.zeros(())
    second = along(first)
    return loss(zero), first(zero), second(zero), along(along(second))(zero)


@eqx.filter_jit
def _losses(problem: Problem, base: Array, direction: Array, steps: Float[Array, " many"]) -> Float[Array, " many"]:
    return jax.lax.map(lambda t: problem.value(base + t * direction), steps)


def _search(line: Line, scales: tuple[float, ...]) -> tuple[float, float]:
    """Return the step of least loss that was met, and that loss; the start itself is not among the steps."""
    steps = np.outer(scales, 2.0 ** np.arange(-DOUBLINGS, DOUBLINGS + 1)).ravel()
    losses = np.asarray(_losses(*line, jnp.asarray(steps)))
    losses = np.where(np.isfinite(losses), losses, np.inf)
    best = int(losses.argmin())

    def loss(t: float) -> float:
        value = float(_losses(*line, jnp.asarray([t]))[0])
        return value if math.isfinite(value) else math.inf

    low, high = 0.5 * steps[best], 2.0 * steps[best]
    finer = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"maxiter": REFINED})
    if finer.fun < losses[best]:
        return float(finer.x), float(finer.fun)
    return float(steps[best]), float(losses[best])
