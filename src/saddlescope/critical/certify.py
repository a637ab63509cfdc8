"""certify: what a critical point is, by up to three ways that check each other; the public verb of this package."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from saddlescope.arrays import from_user, require_finite, to_numpy
from saddlescope.critical.groups import CLOSE
from saddlescope.critical.result import Certificate, Inertia, Kind
from saddlescope.critical.scene import Scene, kink, scene_of
from saddlescope.critical.signs import Signs, find_signs
from saddlescope.critical.symmetric import Settled, settle_dense, settle_free
from saddlescope.critical.words import KINKED, NOT_SHOWN, PROBABLE, ROUNDED, disagreement, tolerance_words, verdict
from saddlescope.errors import SettingsError
from saddlescope.precision import in_float64
from saddlescope.problem.activations import activation
from saddlescope.problem.networks import Perceptron
from saddlescope.problem.problem import Problem

# Up to this many reduced parameters their Hessian is formed; measured in benchmarks/certificates.py.
DENSE_LIMIT = 2000

# Up to this many parameters the whole Hessian, and the exchange by products, check the closed form.
CHECK_LIMIT = 400

# A point counts as critical if a quadratic model sees less than this share of the loss left to win or lose.
CRITICAL = 1e-4

# A loss below this share of the mean squared output is zero to rounding.
ZERO = 1e-28

# So is a residual below this share of the median target.
MET = 1e-13


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
    coarse = any(from_user(value, name).dtype.itemsize < 8 for name, value in given.items())
    scene = scene_of(problem, to_numpy(given), close)
    reasons = list(scene.reasons)
    dense = scene.parts.size <= dense_limit
    settled, way = (settle_dense(scene.reduced, scene.x), None) if dense else settle_free(scene.reduced, scene.x)
    on_kink = kink(scene, scene.parameters) or (kink(scene, scene.at(settled.x)) if settled.distance > 0 else None)
    zero = _is_zero(scene, settled.first_loss)
    critical = _is_critical(settled, gradient_tolerance) or (zero and gradient_tolerance is None)
    if coarse and not critical:
        reasons.append("the point is stored in less than float64: rounding alone leaves a gradient; refine it first")
    check = sum(value.size for value in scene.parameters.values()) <= check_limit
    signs = None
    if critical and on_kink is None:
        signs = find_signs(scene, settled, way, zero=zero, check=check, steps=steps, seed=seed)
    found = _Findings(scene, settled, signs, on_kink, critical, zero, tuple(reasons), gradient_tolerance)
    return _write(found, time.perf_counter() - began)


@dataclass(frozen=True)
class _Findings:
    """Everything that the certificate is written from."""

    scene: Scene
    settled: Settled
    signs: Signs | None
    on_kink: str | None
    critical: bool
    zero: bool
    reasons: tuple[str, ...]
    gradient_tolerance: float | None


def _is_zero(scene: Scene, loss: float) -> bool:
    """Return whether the loss is zero to rounding and cannot be negative: squared errors of targets.

    Every output must be met to rounding at every sample, by what is usual for the output: one large output, or one
    large target, must not hide what is left of the others.
    """
    problem = scene.problem
    if problem.loss not in ("mse", "normalised") or problem.penalised:
        return False
    targets = np.asarray(problem.targets).reshape(-1, problem.targets.shape[-1])[: problem.samples]
    square = 1.0 if problem.loss == "normalised" else float(np.mean(np.square(targets)))
    if loss > ZERO * square:
        return False
    gap = np.abs(problem.outputs_of(scene.parameters) - targets).max(axis=0)
    return bool(np.all(gap <= MET * np.median(np.abs(targets), axis=0)))


def _is_critical(settled: Settled, tolerance: float | None) -> bool:
    if not np.isfinite(settled.first_norm):
        return False
    if tolerance is not None:
        return settled.first_norm <= tolerance
    rounding = settled.gradient_noise if np.isfinite(settled.gradient_noise) else 0.0
    return settled.first_norm <= rounding or settled.decrease <= CRITICAL * abs(settled.first_loss)


def _not_critical(found: _Findings) -> str:
    """Return why the point is not critical, with the numbers."""
    settled = found.settled
    text = f"gradient norm {settled.first_norm:.3e} (its rounding {settled.gradient_noise:.1e})"
    if found.gradient_tolerance is not None:
        return f"{text} is above the tolerance {found.gradient_tolerance:.1e}"
    text += f"; a quadratic model sees a change of the loss by {settled.decrease:.2e} of {settled.first_loss:.3e}"
    if not settled.pinned:
        text += "; Newton corrections from here do not converge"
    elif settled.distance > 0:
        text += f"; a critical point of loss {settled.loss:.6g} lies at distance {settled.distance:.3g}"
    return text


def _write(found: _Findings, seconds: float) -> Certificate:
    """Return the certificate."""
    scene, settled, signs = found.scene, found.settled, found.signs
    reasons, kind = list(found.reasons), Kind.UNDECIDED
    size = sum(value.size for value in scene.parameters.values())
    index, nullity = (0, size), (0, size)
    if found.on_kink is not None:
        reasons.append(found.on_kink)
    elif not found.critical:
        kind = Kind.NOT_CRITICAL
        reasons.append(_not_critical(found))
    else:
        assert signs is not None
        against = disagreement(signs.methods)
        if against is not None:
            reasons.append(against)
        else:
            index, nullity = signs.index, signs.nullity
            if not settled.pinned:  # away from a critical point only what is unused is flat for certain
                unused = sum(one.count for one in signs.flat if one.kind == "unused")
                index, nullity = (index[0], index[1] + nullity[0] - unused), (unused, nullity[1])
            if found.zero and index[0] == 0:
                index = (0, 0)
            total = Inertia(index[0], nullity[0], 0, max(index[1] - index[0], nullity[1] - nullity[0]))
            kind, more = verdict(total, global_minimum=found.zero, pinned=settled.pinned)
            reasons += [*more, *signs.reasons]
    network = scene.problem.network
    not_shown = [*NOT_SHOWN, ROUNDED]
    if isinstance(network, Perceptron) and activation(network.activation).kinked:
        not_shown.append(KINKED)
    if signs is not None and signs.chance is not None:
        not_shown.append(PROBABLE)
    rounding, drift = (signs.rounding, signs.drift) if signs else (settled.rounding, settled.drift)
    flat = signs.flat if signs else ()
    return Certificate(
        verdict=kind,
        index=index[0] if index[0] == index[1] else None,
        nullity=nullity[0] if nullity[0] == nullity[1] else None,
        index_range=index,
        nullity_range=nullity,
        symmetry_nullity=sum(one.count for one in flat if one.kind in ("outgoing transfer", "scaling")),
        loss=settled.first_loss,
        gradient_norm=float(np.linalg.norm(_full_gradient(scene))),
        refined_gradient_norm=settled.gradient_norm,
        distance=_distance(scene, settled),
        groups=scene.groups,
        flat=flat,
        parts=signs.parts if signs else (),
        method=" + ".join(signs.methods) if signs else "none",
        methods=signs.methods if signs else {},
        error_bound=rounding + drift,
        tolerance=tolerance_words(rounding, drift),
        reasons=tuple(reasons),
        not_shown=tuple(not_shown),
        evaluations={"hessian_products": signs.products if signs else settled.products},
        seconds=seconds,
    )


def _full_gradient(scene: Scene) -> np.ndarray:
    gradient = scene.problem.gradient_of(scene.parameters)
    return np.concatenate([value.ravel() for value in gradient.values()])


def _distance(scene: Scene, settled: Settled) -> float:
    """Return how far the point whose signs were counted lies from the one given, in all parameters."""
    there = scene.at(settled.x)
    return float(np.sqrt(sum(np.sum((there[name] - value) ** 2) for name, value in scene.parameters.items())))
