"""certify: what a critical point is, by up to three ways that check each other; the public verb of this package."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from saddlescope.arrays import from_user, require_finite, to_numpy
from saddlescope.critical.decomposition import Decomposition, input_units, kink, scene_of
from saddlescope.critical.flat import dependent_inputs
from saddlescope.critical.groups import CLOSE
from saddlescope.critical.inertia import CONSTANT, Signs, find_signs
from saddlescope.critical.refine import RefinedPoint, refine_dense, refine_free
from saddlescope.critical.result import Certificate, Inertia, Kind
from saddlescope.critical.symmetric import dense_inertia
from saddlescope.critical.verdict import (
    KINKED,
    MAYBE_KINKED,
    NOT_SHOWN,
    PROBABLE,
    ROUNDED,
    UNREFINED,
    disagreement,
    tolerance_words,
    verdict,
)
from saddlescope.critical.zero import is_zero
from saddlescope.errors import SettingsError
from saddlescope.models.chain import is_traceable
from saddlescope.precision import in_float64
from saddlescope.problem.kinks import is_kinked, may_be_kinked
from saddlescope.problem.problem import Problem

# Up to this many reduced parameters their Hessian is formed; measured in benchmarks/certificates.py.
DENSE_LIMIT = 2000

# Up to this many parameters the whole Hessian, and the exchange by products, check the closed form.
CHECK_LIMIT = 400

# A point counts as critical if a quadratic model sees less than this share of the loss left to win or lose.
CRITICAL = 1e-4

# Near-copies are merged at these tolerances, too; the nearest critical point that is reached counts.
MERGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)

# Of critical points about as near as the nearest (within this factor) the one with most copies counts.
ABOUT = 10.0

# Flat directions of these kinds a symmetry of the network or the loss explains.
BY_SYMMETRY = (
    "outgoing transfer",
    "scaling",
    "linear units",
    "softmax shift",
    "one vector",
    "attention",
    "residual stream",
)


@in_float64
def certify(
    problem: Problem,
    point: Any,
    *,
    dense_limit: int = DENSE_LIMIT,
    check_limit: int = CHECK_LIMIT,
    steps: int = 400,
    close: float = CLOSE,
    gradient_tolerance: float | None = None,
    seed: int = 0,
) -> Certificate:
    """Say what a critical point is: gradient, index, nullity, flat directions, by the exchange split and dense checks.

    Copies (units of a layer with equal incoming vectors) are found and taken out; the signs of the Hessian are those
    of the network without copies plus those of the blocks K that copying adds (`exchange`). Small parts are dense,
    large ones matrix-free; where more than one way can be afforded they must agree. **"undecided" is an answer**, and
    ``not_shown`` belongs to it.

    Args:
        problem: network, data and loss.
        point: a parameter set, or what holds one as ``parameters`` (a permutation point, a training).
        dense_limit: up to so many parameters without copies the Hessian is formed.
        check_limit: up to so many parameters the whole Hessian, and G and B by products, check the result.
        steps: most Lanczos steps of a matrix-free part.
        close: incoming vectors within this share of the layer's largest count as copies.
        gradient_tolerance: gradient norm up to which the point counts as critical; by default the point does if a
            quadratic model sees less than 1e-4 of the loss left to win, or if the gradient is rounding.
        seed: seed of Lanczos's start.

    Returns:
        The certificate.

    Raises:
        ShapeError: parameters that do not fit the network.
        NonFiniteError: NaN or infinity among the parameters, or in loss, gradient or Hessian there.
        SettingsError: no point, or a limit or tolerance that is not positive.

    Source: science notes, sections 3 and 7; [FA00] theorem 3; [B19] section 4.2.
    """
    began = time.perf_counter()
    for name, value in (("steps", steps), ("close", close), ("gradient_tolerance", gradient_tolerance)):
        if value is not None and not value > 0:
            raise SettingsError("this setting cannot be used", name=name, value=value, expected="a positive number")
    given = getattr(point, "parameters", point)
    if not isinstance(given, Mapping):
        raise SettingsError(
            "there is no point to certify", name="point", value=point, expected="parameters, or what holds them"
        )
    problem.network.check(given)
    require_finite(given, "the point")
    start = to_numpy(given)
    reading = _nearest(problem, start, close, dense_limit)
    scene, point, reasons = reading.scene, reading.point, list(reading.scene.reasons)
    on_kink = kink(scene, scene.parameters) or (kink(scene, scene.at(point.x)) if reading.distance > 0 else None)
    zero = is_zero(problem, start)
    critical = _is_critical(reading, gradient_tolerance) or (zero and gradient_tolerance is None)
    if not critical and any(from_user(value, name).dtype.itemsize < 8 for name, value in given.items()):
        reasons.append("the point is stored in less than float64: rounding alone leaves a gradient; refine it first")
    check = sum(value.size for value in start.values()) <= check_limit
    signs = None
    if critical and on_kink is None and point.converged:
        signs = find_signs(scene, point, zero=zero, check=check, steps=steps, seed=seed)
    found = _Findings(reading, signs, on_kink, critical, zero, tuple(reasons), gradient_tolerance)
    return _write(found, time.perf_counter() - began)


@dataclass(frozen=True)
class _Reading:
    """The point with copies merged at one tolerance, and the critical point that is reached from there."""

    scene: Decomposition
    point: RefinedPoint
    first_loss: float  # at the point given
    first_norm: float
    distance: float  # from the point given, in all parameters
    relative: float  # the same in natural units, as a share of the parameters

    @property
    def merged(self) -> int:
        """How many units are copies of others."""
        return sum(len(group.units) - 1 for group in self.scene.groups)


def _nearest(problem: Problem, start: dict[str, np.ndarray], close: float, dense_limit: int) -> _Reading:
    """Return the reading whose critical point is nearest; the first one if none is reached."""
    start = {name: start[name] for name in problem.network.layout.names}
    relations = dependent_inputs(problem) if is_traceable(problem.network) else None
    units, scenes = input_units(problem, start), list[Decomposition]()
    for tolerance in (close, *(value for value in MERGES if value > close)):
        scene = scene_of(problem, start, tolerance, relations=relations, inputs=units)
        if all(scene.groups != other.groups or scene.turned != other.turned for other in scenes):
            scenes.append(scene)
    first = (problem.loss_of(start), _norm(problem.gradient_of(start)))
    readings = [_read(problem, start, scene, close, dense_limit, first) for scene in scenes]
    reached = [reading for reading in readings if reading.point.converged]
    if not reached:
        return readings[0]
    limit = ABOUT * min(reading.relative for reading in reached) + np.finfo(float).eps
    return max((reading for reading in reached if reading.relative <= limit), key=lambda reading: reading.merged)


def _norm(arrays: dict[str, np.ndarray]) -> float:
    return float(np.sqrt(sum(np.sum(np.square(value)) for value in arrays.values())))


def _read(
    problem: Problem,
    start: dict[str, np.ndarray],
    scene: Decomposition,
    close: float,
    dense_limit: int,
    first: tuple[float, float],
) -> _Reading:
    """Refine one reading; copies that only the refined point has are merged there, and it is refined once more.

    ``first``: loss and gradient norm at the start.
    """

    def refine(scene: Decomposition) -> RefinedPoint:
        dense = scene.parts.size <= dense_limit
        return refine_dense(scene.reduced, scene.x) if dense else refine_free(scene.reduced, scene.x)

    point = refine(scene)
    if point.converged:
        again = scene_of(problem, scene.given(point.x), close, relations=scene.relations)
        if sum(len(group.units) for group in again.groups) > sum(len(group.units) for group in scene.groups):
            second = refine(again)
            if second.converged:
                scene, point = again, replace(second, decrease=point.decrease)
    there, layout = scene.given(point.x), problem.network.layout
    theta = np.asarray(layout.flatten(start))
    gap, units = np.asarray(layout.flatten(there)) - theta, point.scale[scene.parts.source]
    return _Reading(
        scene,
        point,
        *first,
        float(np.linalg.norm(gap)),
        float(np.linalg.norm(gap / units) / max(float(np.linalg.norm(theta / units)), 1e-300)),
    )


@dataclass(frozen=True)
class _Findings:
    """Everything that the certificate is written from."""

    reading: _Reading
    signs: Signs | None
    on_kink: str | None
    critical: bool
    zero: bool
    reasons: tuple[str, ...]
    gradient_tolerance: float | None


def _is_critical(reading: _Reading, tolerance: float | None) -> bool:
    """Return whether the point is critical up to what the refined point, or the tolerance, allows."""
    point = reading.point
    if not np.isfinite(reading.first_norm):
        return False
    if tolerance is not None:
        return reading.first_norm <= tolerance
    if point.converged and point.already:
        return True
    won = max(point.decrease, abs(reading.first_loss - point.loss) if point.converged else 0.0)
    return bool(won <= CRITICAL * abs(reading.first_loss))


def _not_critical(found: _Findings) -> str:
    """Return why the point is not critical, with the numbers."""
    reading, point = found.reading, found.reading.point
    text = f"gradient norm {reading.first_norm:.3e} (its rounding {point.gradient_noise:.1e})"
    if found.gradient_tolerance is not None:
        return f"{text} is above the tolerance {found.gradient_tolerance:.1e}"
    text += f"; a quadratic model sees a change of the loss by {point.decrease:.2e} of {reading.first_loss:.3e}"
    if not point.converged:
        text += "; Newton corrections from here do not converge"
    elif reading.distance > 0:
        text += f"; a critical point of loss {point.loss:.6g} lies at distance {reading.distance:.3g}"
    return text


def _judge(found: _Findings, size: int) -> tuple[Kind, tuple[int, int], tuple[int, int], list[str]]:
    """Return the verdict, the ranges of index and nullity, and the reasons."""
    reading, signs, reasons = found.reading, found.signs, list(found.reasons)
    everything = (Kind.UNDECIDED, (0, size), (0, size))
    if found.on_kink is not None:
        return *everything, [*reasons, found.on_kink]
    if not found.critical:
        return Kind.NOT_CRITICAL, (0, size), (0, size), [*reasons, _not_critical(found)]
    if signs is None:
        return *everything, [*reasons, f"gradient norm {reading.first_norm:.3e}; {UNREFINED}"]
    against = disagreement(signs.methods)
    if against is not None:
        return *everything, [*reasons, against]
    index, nullity = signs.index, signs.nullity
    if found.zero and index[0] == 0:
        index = (0, 0)
    total = Inertia(index[0], nullity[0], 0, max(index[1] - index[0], nullity[1] - nullity[0]))
    loose = [one.kind for one in signs.flat if one.kind not in CONSTANT]
    kind, more = verdict(total, global_minimum=found.zero, loose=loose)
    if reading.distance > 0:
        more.append(f"said of the refined critical point of loss {reading.point.loss:.8g} at {reading.distance:.2e}")
    return kind, index, nullity, [*reasons, *more, *signs.reasons]


def _signs_here(point: RefinedPoint) -> tuple[int, int, int] | None:
    """Return the signs of the Hessian at a point that is not critical; None where no matrix was formed."""
    if point.converged or point.hessian is None or point.rounding is None:
        return None
    nothing = np.zeros((0, len(point.x)))
    found = dense_inertia(point.hessian, nothing, point.rounding, np.zeros_like(point.hessian)).inertia
    return found.negative, found.unresolved, found.positive


def _write(found: _Findings, seconds: float) -> Certificate:
    """Return the certificate."""
    reading, signs = found.reading, found.signs
    scene, point = reading.scene, reading.point
    kind, index, nullity, reasons = _judge(found, sum(value.size for value in scene.parameters.values()))
    not_shown = [*NOT_SHOWN, ROUNDED]
    if is_kinked(scene.problem):
        not_shown.append(KINKED)
    elif may_be_kinked(scene.problem):
        not_shown.append(MAYBE_KINKED)
    if signs is not None and signs.chance is not None:
        not_shown.append(PROBABLE)
    rounding, drift = (signs.rounding, signs.drift) if signs else (0.0, 0.0)
    flat = signs.flat if signs else ()
    return Certificate(
        verdict=kind,
        index=index[0] if index[0] == index[1] else None,
        nullity=nullity[0] if nullity[0] == nullity[1] else None,
        index_range=index,
        nullity_range=nullity,
        symmetry_nullity=sum(one.count for one in flat if one.kind in BY_SYMMETRY),
        loss=reading.first_loss,
        gradient_norm=reading.first_norm,
        refined_gradient_norm=point.gradient_norm,
        distance=reading.distance,
        relative_distance=reading.relative,
        point=scene.given(point.x),
        signs_here=_signs_here(point),
        groups=scene.groups,
        flat=flat,
        parts=signs.parts if signs else (),
        method=" + ".join(signs.methods) if signs else "none",
        methods=signs.methods if signs else {},
        error_bound=rounding + drift,
        tolerance=tolerance_words(rounding, drift),
        reasons=tuple(reasons),
        not_shown=tuple(not_shown),
        evaluations={"hessian_products": signs.products if signs else point.products},
        seconds=seconds,
    )
