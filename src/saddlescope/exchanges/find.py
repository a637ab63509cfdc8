"""The public verb: of every unit of a layer, whether its copy is unstable, along what, and how strongly."""

import time
from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from saddlescope.arrays import Parameters, require_finite, to_numpy
from saddlescope.errors import DataError, NeuronsError, NonFiniteError, SettingsError
from saddlescope.exchanges.blocks import Places, batch_size, penalty, product, usable_way
from saddlescope.exchanges.costs import unit_costs
from saddlescope.exchanges.cut import NoCutError
from saddlescope.exchanges.result import Exchange, ExchangeSettings, LayerExchange, UnitCosts
from saddlescope.models.contract import layer_number, unwrapped
from saddlescope.numerics.simultaneous import Pairs, form_blocks, lowest_pairs
from saddlescope.numerics.spectrum import dense_spectrum, entry_rounding, rounding_bound
from saddlescope.precision import in_float64
from saddlescope.problem.kinks import ON_KINK, has_creases, kink_distances
from saddlescope.problem.problem import Problem

Progress = Callable[[int, int, str], None]

MOST_ENTRIES = 4 * 2**20
"""Blocks are formed where all of a layer's together have no more entries: 32 MB."""


class Given(eqx.Module):
    """What the product of a layer's blocks needs."""

    problem: Problem
    places: Places
    theta: Array
    way: str = eqx.field(static=True)


class Lowest(NamedTuple):
    """Lowest pairs of all blocks, with a bound on each value's rounding, how they were found, and limits in words."""

    pairs: Pairs
    rounding: np.ndarray
    method: str
    notes: tuple[str, ...] = ()


@in_float64
def exchange(
    problem: Problem,
    params: Parameters,
    *,
    layer: int | str = "all",
    settings: ExchangeSettings | None = None,
    progress: Progress | None = None,
) -> Exchange:
    """Find the lowest eigenvalue of [[0, G], [G^T, B/2]] for every unit of a layer: what copying it opens.

    A unit that is copied with equal shares leaves the outputs as they are. The Hessian of the grown network then splits
    into the part that moves both copies alike, and the *block* that moves them apart. A negative eigenvalue of the
    block means that the loss falls, to second order, when the copies part along its eigenvector. That holds at any
    parameters, trained or not: the gradient along the block is zero. **Nothing is said about the other directions.**

    Args:
        problem: model, data and loss.
        params: the model's parameters.
        layer: number or name of a layer, or "all".
        settings: how the eigenvalues are computed.
        progress: called with steps done, most steps, and a word.

    Returns:
        For each layer arrays over its units. ``unstable`` is None where rounding or the residual does not let the sign
        be decided, and where a kink lies on a sample.

    Raises:
        NeuronsError: no such layer, or units that cannot be copied with shares.
        ShapeError: parameters that do not fit.
        NonFiniteError: parameters, or derivatives of the loss, that are not finite.
        SettingsError: a setting out of range.

    Source: science notes 9.1; [FA00] Theorem 3 for one output.
    """
    begin = time.perf_counter()
    words = _checked(settings or ExchangeSettings())
    problem.network.check(params)
    require_finite(params, "the parameters")
    numbers = _numbers(problem.network, layer)
    theta = problem.network.layout.flatten(to_numpy(params))
    loss, gradient = (np.asarray(value) for value in _value_and_gradient(problem, theta))
    if not (np.isfinite(loss) and np.isfinite(gradient).all()):
        raise NonFiniteError(
            "the loss or its gradient is not finite at these parameters",
            name="loss",
            value=float(loss),
            expected="finite numbers",
            advice="Look for NaN or overflow in the activations",
        )
    found: dict[int, LayerExchange] = {}
    skipped: dict[int, str] = {}
    for number in numbers:
        try:
            found[number] = _layer(problem, theta, number, words, progress)
        except NeuronsError as error:
            if layer != "all":
                raise
            skipped[number] = str(error)
    if not found and skipped:
        raise NeuronsError("no layer can be analysed; the first", name="reason", value=next(iter(skipped.values())))
    return Exchange(
        layers=MappingProxyType(found),
        skipped=MappingProxyType(skipped),
        loss=float(loss),
        gradient_norm=float(np.linalg.norm(gradient)),
        settings=words,
        fingerprints=problem.fingerprint(to_numpy(params)),
        seconds=time.perf_counter() - begin,
    )


def _checked(settings: ExchangeSettings) -> ExchangeSettings:
    if settings.way not in ("auto", "cut", "grown"):
        raise SettingsError("not known", name="way", value=settings.way, expected="auto, cut or grown")
    for name, low in (("dense", 0), ("steps", 1), ("seed", 0)):
        value = getattr(settings, name)
        if not isinstance(value, int | np.integer) or value < low:
            raise SettingsError("not a setting", name=name, value=value, expected=f"an integer, {low} or more")
    if not 0.0 < settings.tolerance < 1.0:
        raise SettingsError("not a share", name="tolerance", value=settings.tolerance, expected="between 0 and 1")
    if not settings.most >= 0.0:
        raise SettingsError("not a share", name="most", value=settings.most, expected="0 or more")
    return settings


def _numbers(model: Any, layer: int | str) -> tuple[int, ...]:
    """Return the numbers of the layers that are asked for; a model that was searched says why a group is none.

    Raises:
        NeuronsError: no such layer, or a model without layers.
    """
    if layer == "all":
        if not model.layers:
            raise NeuronsError("this model has no layers of units", name="layer", value=layer)
        return tuple(model.layers)
    if isinstance(layer, str) and hasattr(model, "symmetry"):
        return (int(model.symmetry(layer).layer),)
    return (layer_number(model, layer),)


@eqx.filter_jit
def _value_and_gradient(problem: Problem, theta: Array) -> tuple[Array, Array]:
    return problem.value_and_gradient(theta)


def _images(given: Given, v: Float[Array, "batch units m"]) -> Array:
    """Return all blocks times a batch of vectors; a function of its own, so that programs are shared."""
    return product(given.problem, given.places, given.way, given.theta, v)


def _layer(
    problem: Problem, theta: Array, number: int, settings: ExchangeSettings, progress: Progress | None
) -> LayerExchange:
    places = Places.of(problem, number)
    given = Given(problem, places, theta, usable_way(problem, places, theta, settings.way))
    facts = places.units.facts
    name = facts.name or f"layer {number}"
    told = None if progress is None else _named(progress, name)
    units, m = places.shape
    small = m <= settings.dense and units * m * m <= MOST_ENTRIES
    lowest = _formed(given, told) if small else _iterated(given, settings, told)
    shift = np.asarray(penalty(problem, places, theta))
    pairs = lowest.pairs
    values, scale = pairs.values + shift, np.maximum(pairs.scales, np.abs(pairs.values)) + shift
    bounds = pairs.residuals + lowest.rounding + np.finfo(float).eps * np.abs(shift)
    vectors = pairs.vectors * np.where(_leading(pairs.vectors) < 0.0, -1.0, 1.0)[:, None]
    notes, decided = list(lowest.notes), not _on_kink(problem, theta, number)
    if not decided:
        notes.append("a sample lies on a kink: the loss has no second derivative here")
    costs = _costs(given, settings, notes)
    return LayerExchange(
        layer=number,
        name=name,
        lowest=values,
        residual=bounds,
        scale=scale,
        unstable=tuple(_sign(v, b, lowest.method) if decided else None for v, b in zip(values, bounds, strict=True)),
        incoming=vectors[:, : places.feeds],
        outgoing=vectors[:, places.feeds :],
        method=lowest.method,
        way=given.way,
        steps=pairs.steps,
        kinked=facts.kinked,
        notes=tuple(notes),
        costs=costs,
    )


def _costs(given: Given, settings: ExchangeSettings, notes: list[str]) -> UnitCosts | None:
    """Return what dropping and merging costs, or None and a note why it is not known."""
    if not settings.costs:
        return None
    try:
        return unit_costs(given.problem, given.places, given.theta, most=settings.most)
    except (NoCutError, DataError) as error:
        notes.append(f"no costs of dropping and merging: {error}")
        return None


def _named(progress: Progress, name: str) -> Progress:
    return lambda done, total, word: progress(done, total, f"{name}: {word}")


def _leading(vectors: np.ndarray) -> np.ndarray:
    """Return the largest entry of each row, with its sign."""
    return np.take_along_axis(vectors, np.abs(vectors).argmax(axis=1)[:, None], axis=1)[:, 0]


def _sign(value: float, bound: float, method: str) -> bool | None:
    """Return whether the lowest eigenvalue is below 0; a value from iterations bounds it from above only."""
    if value + bound < 0.0:
        return True
    return False if method == "dense" and value - bound >= 0.0 else None


def _on_kink(problem: Problem, theta: Array, number: int) -> bool:
    """Return whether rounding decides on which side of a kink a sample lies, in this layer or behind it."""
    if not has_creases(problem):
        return False
    near = np.asarray(kink_distances(problem, theta))[number - 1 :]
    return bool((near[:, 0] <= ON_KINK * near[:, 1]).any())


def _single(given: Given) -> Given:
    """Return the same in single precision, to measure rounding with."""
    own = unwrapped(given.problem.network)
    problem = given.problem.in_single()
    if hasattr(own, "fixed") and own.fixed:
        still = {n: v.astype(np.float32) if v.dtype == np.float64 else v for n, v in own.fixed.items()}
        problem = problem.with_arrays({"network": replace(own, fixed=still)})
    return Given(problem, given.places, given.theta.astype(jnp.float32), given.way)


def _in_single(compute: Callable[[Given, Any], np.ndarray], given: Given, like: np.ndarray) -> np.ndarray:
    """Return what is computed in single precision; infinite where the model does not run in it."""
    try:
        return compute(_single(given), jnp.float32)
    except (TypeError, ValueError):  # arrays inside the model that stay double
        return np.full(like.shape, np.inf)


def _formed(given: Given, progress: Progress | None) -> Lowest:
    """Return the lowest pairs of blocks that are formed."""
    units, m = given.places.shape
    batch = min(m, batch_size(given.problem))

    def form(there: Given, kind: Any) -> np.ndarray:
        return form_blocks(_images, there, units, m, batch=batch, kind=kind, progress=progress)

    blocks = form(given, jnp.float64)
    _require_numbers(blocks)
    wrong = entry_rounding(blocks, _in_single(form, given, blocks))
    values, vectors, bounds, scales = [], [], [], []
    for one in blocks:
        spectrum = dense_spectrum(one)
        _, own = np.linalg.eigh(0.5 * (one + one.T))
        values.append(spectrum.values[0])
        bounds.append(spectrum.bounds[0])
        scales.append(np.abs(spectrum.values).max())
        vectors.append(own[:, 0])
    pairs = Pairs(np.array(values), np.array(vectors), np.array(bounds), np.array(scales), m)
    return Lowest(pairs, np.linalg.norm(wrong, axis=(1, 2)), "dense")


def _iterated(given: Given, settings: ExchangeSettings, progress: Progress | None) -> Lowest:
    """Return the lowest pairs of blocks that are only multiplied with."""
    start = np.random.default_rng(settings.seed).normal(size=given.places.shape)
    pairs = lowest_pairs(_images, given, start, steps=settings.steps, tolerance=settings.tolerance, progress=progress)
    _require_numbers(pairs.values)

    def once(there: Given, kind: Any) -> np.ndarray:
        return np.asarray(_once(there, jnp.asarray(pairs.vectors, kind)[None])[0], dtype=np.float64)

    fine = once(given, jnp.float64)
    coarse = _in_single(once, given, fine)
    rounding = np.array([rounding_bound(one, other) for one, other in zip(fine, coarse, strict=True)])
    scale = np.where(pairs.scales > 0.0, pairs.scales, 1.0)
    slow = int((pairs.residuals > settings.tolerance * scale).sum())
    notes = [f"{slow} units did not reach the tolerance in {pairs.steps} iterations"] if slow else []
    return Lowest(pairs, rounding, "iterative", tuple(notes))


@eqx.filter_jit
def _once(given: Given, v: Array) -> Array:
    return _images(given, v)


def _require_numbers(values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise NonFiniteError(
            "second derivatives of the loss are not finite at these parameters",
            name="units",
            value=np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1)).tolist(),
            expected="finite numbers",
        )
