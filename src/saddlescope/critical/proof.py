"""Proofs in ball arithmetic: an exact critical point lies here, alone, and its index is exactly this.

The certificate (`certify`) rests on bounds of rounding that are measured; here every operation rounds outward. The
gradient and Hessian of the loss are enclosed over boxes of parameters (`enclosure`), Krawczyk's test isolates the
critical point, and Gershgorin's discs give the signs, at the point and at its lift, where one neuron is copied.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from saddlescope.arrays import Parameters, require_finite, to_numpy
from saddlescope.critical.enclosure import BallLoss, to_parameters, to_vector
from saddlescope.data.data import Data
from saddlescope.errors import NeuronsError, SettingsError, ShapeError
from saddlescope.html_repr import card
from saddlescope.models.chain import Traceable
from saddlescope.models.sizes import layer_sizes, require_traceable, unit_counts
from saddlescope.numerics import balls
from saddlescope.numerics.balls import Ball, Balls, flint

NOT_SHOWN = (
    "the proof is about real arithmetic, the data being exactly as stored: what the same network computes in floating "
    "point differs by rounding",
    "nothing is said about critical points beyond the radius",
    "it trusts python-flint's arithmetic and this program; no proof assistant has checked them",
)
LIFT_NOT_SHOWN = (
    "the lifted point is the exact lift of the exact critical point, the last copy's share being what the others leave "
    "of 1; it is not isolated: weight may move between the copies at equal loss"
)


@dataclass(frozen=True, kw_only=True)
class LiftProof:
    """The point at which one neuron is copied: signs of its Hessian in the wider network; None if not all are proved.

    ``symmetry_nullity`` of the zero eigenvalues are explained by the copies: weight moves between them.
    """

    layer: int
    neuron: int
    shares: tuple[float, ...]
    widths: tuple[int, ...]
    index: int | None
    nullity: int | None
    symmetry_nullity: int


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What was proved about a critical point near a given parameter vector; all bounds are rounded outward.

    verdict: "proved" if all that was asked for is proved, else "not-proved", with ``reasons``.
    radius: the box of this radius (largest norm) about the given vector holds exactly one critical point; None if not
        proved.
    distance: bound of a critical point's distance from the given vector, largest norm; None if none was found. Given
        without ``radius``, that critical point is proved to exist, but not to be the only one as near.
    parameters, uncertainty: the critical point rounded to float64, and the bound of each entry's error.
    loss: lower and upper bound of the loss at the critical point.
    index, nullity: of the loss' Hessian there; None if not proved.
    curvature: no eigenvalue of that Hessian is closer to 0.
    contraction: bound of |I - C H| over the box of ``radius``; a proof needs less than 1.
    lift: the same for the copied neuron, if asked for.
    """

    verdict: str
    radius: float | None = None
    distance: float | None = None
    parameters: dict[str, np.ndarray] | None = None
    uncertainty: float | None = None
    loss: tuple[float, float] | None = None
    index: int | None = None
    nullity: int | None = None
    curvature: float | None = None
    contraction: float | None = None
    lift: LiftProof | None = None
    reasons: tuple[str, ...] = ()
    not_shown: tuple[str, ...] = NOT_SHOWN
    precision_bits: int = 0
    seconds: float = 0.0

    @property
    def proved(self) -> bool:
        """Whether all that was asked for is proved."""
        return self.verdict == "proved"

    def _repr_html_(self) -> str:
        """Return the summary that notebooks show."""
        facts = {
            "exactly one critical point within": self.radius,
            "index": self.index,
            "nullity": self.nullity,
            "loss between": self.loss,
            "index with the copy": None if self.lift is None else self.lift.index,
            "reasons": "; ".join(self.reasons) or None,
            "not shown": "; ".join(self.not_shown),
        }
        return card(self.verdict, facts)


def prove(
    network: Any,
    data_inputs: np.ndarray,
    data_targets: np.ndarray,
    parameters: Parameters,
    *,
    layer: int | None = None,
    neuron: int | None = None,
    shares: Sequence[float] = (0.5, 0.5),
    precision_bits: int = 128,
    loss: str = "mse",
    weight_decay: float = 0.0,
) -> Proof:
    """Prove that one exact critical point of the loss lies near the given parameters, and what its index is.

    With ``layer`` and ``neuron``, also index and nullity of the point of the wider network at which this neuron is
    copied, copy j with ``shares[j]`` of its outgoing weights: index = index(reduced) + sum over copies of the index of
    [[0, G], [G^T, sigma B]]. **A critical point that is not isolated cannot be proved in this way**: flat directions
    (scales, a loss of 0, neurons that coincide) end in "not-proved" with the reason.

    Args:
        network: with a smooth activation.
        data_inputs: inputs, a row per sample; float64 numbers are taken as exact.
        data_targets: targets, a row per sample.
        parameters: a point near a critical point, for example where training ended with a gradient of 1e-10.
        layer: hidden layer of the neuron to copy, from 1.
        neuron: the neuron to copy, from 0.
        shares: each copy's share of the outgoing weights; sum 1, at least two. The last is what the others leave of 1.
        precision_bits: working precision, 64 to 4096.
        loss: "mse" or "normalised".
        weight_decay: factor of |theta|^2 / 2; with it, copies are no critical point, and ``layer`` is refused.

    Returns:
        The proof, or why there is none.

    Raises:
        SettingsError: a kinked activation, a loss that is neither of the two, or a setting outside its range.
        ShapeError: data or parameters that do not fit the network.
        NonFiniteError: NaN or infinity among data or parameters.
        NeuronsError: no such hidden layer or neuron.
        MissingExtraError: python-flint is not installed.

    Source: R. Krawczyk 1969; science notes, section 3; [FA00] theorem 3.
    """
    began = time.perf_counter()
    flint()
    check_settings(network, loss, weight_decay, precision_bits)
    data = Data(data_inputs, targets=data_targets)
    _check_data(network, data, loss)
    network.check(parameters)
    require_finite(parameters, "the point")
    signs = _share_signs(network, layer, neuron, shares, weight_decay)
    with balls.precision(precision_bits):
        task = BallLoss.of(network, data, loss, weight_decay)
        found = _isolate(task, network, to_numpy(parameters))
        proof, region = found if isinstance(found, tuple) else (found, None)
        if region is not None:
            proof = _at_point(proof, task, region)
            if signs is not None and layer is not None and neuron is not None:
                proof = _lift(proof, task, region.box, (layer, neuron), shares, signs)
    return replace(proof, precision_bits=precision_bits, seconds=time.perf_counter() - began)


def check_settings(network: Any, loss: str, weight_decay: float, precision_bits: int = 128) -> None:
    """Refuse what cannot be proved, or is no setting."""
    require_traceable(network, "prove")
    for layer in network.chain[:-1]:
        if layer.activation.name in balls.JETS:
            continue
        raise SettingsError(
            "this activation has kinks, where the loss has no second derivative: the proof encloses the Hessian over "
            "whole boxes"
            if layer.activation.kinks
            else "this activation is not known in ball arithmetic",
            name="activation",
            value=layer.activation.name,
            expected=f"one of {', '.join(balls.JETS)}",
            advice="certify tells the signs at a point of a kinked network, without proof",
        )
    if loss not in ("mse", "normalised"):
        raise SettingsError(
            "no proof for this loss",
            name="loss",
            value=loss,
            expected="mse or normalised",
            advice="The cross entropy does not change when all outputs rise together, so none of its critical points "
            "is isolated",
        )
    if not 0.0 <= weight_decay < math.inf:
        raise SettingsError("not a penalty", name="weight_decay", value=weight_decay, expected="a number, 0 or more")
    if not 64 <= precision_bits <= 4096:
        raise SettingsError("not a precision", name="precision_bits", value=precision_bits, expected="64 to 4096")


def _check_data(network: Traceable, data: Data, loss: str) -> None:
    """Refuse data that do not fit the network or the loss."""
    assert data.targets is not None
    sizes = layer_sizes(network)
    ends = ((data.inputs, sizes[0], "inputs"), (data.targets, sizes[-1], "targets"))
    for values, width, name in ends:
        if values.shape[1] != width:
            raise ShapeError(
                "data and network do not fit", name=f"{name} per sample", value=values.shape[1], expected=str(width)
            )
    if loss == "normalised" and not data.targets.any():
        raise ShapeError("all targets are zero, so the loss cannot be normalised", name="mean squared target", value=0)


def _share_signs(
    network: Any, layer: int | None, neuron: int | None, shares: Sequence[float], weight_decay: float
) -> dict[int, int] | None:
    """Return how often each sign sigma occurs, exactly: diag(shares) on the vectors that the shares are normal to.

    (1, ..., 1) is orthogonal to these in that form, with the value sum(shares) = 1: one positive sign falls away.
    """
    if layer is None and neuron is None:
        return None
    if layer is None or neuron is None:
        raise SettingsError(
            "a neuron needs its layer", name="layer, neuron", value=(layer, neuron), expected="both, or neither"
        )
    network.neurons(layer)  # refuses a layer that is not there
    count = unit_counts(network)[layer]
    if not 0 <= neuron < count:
        raise NeuronsError("no such neuron in this layer", name="neuron", value=neuron, expected=f"0 to {count - 1}")
    if weight_decay > 0:
        raise SettingsError(
            "copies are no critical point where weights are penalised",
            name="weight_decay",
            value=weight_decay,
            expected="0 with layer and neuron",
        )
    largest = max([1.0, *(abs(share) for share in shares)])
    if len(shares) < 2 or not largest < math.inf or not abs(sum(shares) - 1.0) <= 1e-12 * largest:
        raise SettingsError(
            "the shares must sum to 1", name="shares", value=tuple(shares), expected="two or more, sum 1"
        )
    exact = [Fraction(float(share)) for share in shares[:-1]]
    exact.append(Fraction(1) - sum(exact))
    negative, zero = sum(share < 0 for share in exact), exact.count(Fraction(0))
    return {1: len(exact) - negative - zero - 1, -1: negative, 0: zero}


@dataclass(frozen=True)
class _Region:
    """A box that holds one critical point, and the Hessian over it."""

    box: Balls
    hessian: Balls


def _isolate(task: BallLoss, network: Traceable, parameters: dict[str, np.ndarray]) -> tuple[Proof, _Region] | Proof:
    """Refine the point, prove that a tiny box about it holds a critical point, and a wider box no other."""
    given = balls.exact(to_vector(network, parameters))
    refined = balls.refine(given, task.gradient, task.hessian)
    if isinstance(refined, str):
        return Proof(verdict="not-proved", reasons=(f"no critical point was found: {refined}", *_flat(network)))
    way = balls.norm(given - refined.point)
    tiny = (flint().arb(2) ** (-flint().ctx.prec // 2) + 4 * refined.step).abs_upper()
    tight = balls.isolate(refined, task.hessian, tiny)
    if not tight.proved:
        bound = balls.above(tight.contraction)
        reason = f"the Hessian is not proved nonsingular: |I - C H| <= {bound:.2e}, less than 1 needed"
        return Proof(verdict="not-proved", reasons=(reason, *_flat(network)))
    away = (way + tight.error).abs_upper()
    rounded = balls.floats(refined.point)
    proof = Proof(
        verdict="proved",
        distance=balls.above(away),
        parameters=to_parameters(network, rounded[:, 0]),
        uncertainty=balls.above(balls.norm(balls.exact(rounded) - refined.point) + tight.error),
        curvature=balls.below((1 - tight.contraction) / balls.norm(refined.inverse)),
    )
    # A box of 5/2 of the way holds the given point and all that is as near to it as the critical point is.
    radius = (5 * away / 2 + tiny).abs_upper()
    wide = balls.isolate(refined, task.hessian, radius)
    if not wide.proved:
        bound = balls.above(wide.contraction)
        reason = (
            f"an exact critical point lies {balls.above(away):.2e} away, but it is not proved to be the only one as "
            f"near: |I - C H| <= {bound:.2e} over the box, less than 1 needed. Prove it from `parameters`"
        )
        return replace(proof, verdict="not-proved", reasons=(reason,))
    larger = _larger(radius, wide.contraction)
    if larger > 2 * radius:
        widest = balls.isolate(refined, task.hessian, larger)
        radius, wide = (larger, widest) if widest.proved else (radius, wide)
    proof = replace(proof, radius=balls.below(radius - way), contraction=balls.above(wide.contraction))
    return proof, _Region(balls.widen(refined.point, tight.error), tight.hessian)


def _larger(radius: Ball, contraction: Ball) -> Ball:
    """Return a radius, at most 1, at which |I - C H| should be about 1/4: it grows like the radius."""
    guess = (radius / (4 * contraction)).abs_lower()
    return guess if guess < 1 else flint().arb(1)


def _flat(network: Traceable) -> Iterator[str]:
    """Return why critical points of this network may not be isolated."""
    kinds = [layer.activation for layer in network.chain if layer.activation is not None]
    if any(kind.linear for kind in kinds):
        yield "identity units: incoming weights times s and outgoing ones divided by s leave the network alone"
    if any(kind.name == "exp" for kind in kinds) and network.chain[0].bias is not None:
        yield "exp(z + t) = exp(t) exp(z): a bias trades against outgoing weights, so no critical point is isolated"
    yield (
        "a point is proved only where it is isolated: not where neurons coincide (prove the network without copies, "
        "and ask for its lift) or send nothing out, nor with more parameters than the data fix"
    )


def _at_point(proof: Proof, task: BallLoss, region: _Region) -> Proof:
    """Add loss and index at the critical point."""
    found = balls.signs(region.hessian)
    value = task.value(region.box)
    proof = replace(proof, loss=(max(0.0, balls.below(value)), balls.above(value)))
    if found.undecided:
        reason = f"the signs of {found.undecided} of {task.size} eigenvalues are not proved; raise precision_bits"
        return replace(proof, verdict="not-proved", reasons=(*proof.reasons, reason))
    return replace(proof, index=found.negative, nullity=0)


def _lift(
    proof: Proof, task: BallLoss, box: Balls, place: tuple[int, int], shares: Sequence[float], signs: dict[int, int]
) -> Proof:
    """Add the signs at the point where one neuron is copied."""
    layer, neuron = place
    outgoing, coupling, curvature = task.coupling(box, layer, neuron)
    widths = [task.inputs, *task.rows]
    widths[layer] += len(shares) - 1
    lift = LiftProof(
        layer=layer,
        neuron=neuron,
        shares=tuple(shares),
        widths=tuple(widths),
        index=None,
        nullity=None,
        symmetry_nullity=len(shares) - 1,
    )
    proof = replace(proof, lift=lift, not_shown=(*proof.not_shown, LIFT_NOT_SHOWN))
    # a^T G = 0 at the critical point: the direction a of the outgoing weights is flat, the others are kept.
    vector = balls.floats(outgoing)
    others = balls.exact(np.linalg.svd(vector)[0][:, 1:])
    frame = flint().arb_mat([[*a, *row] for a, row in zip(outgoing.tolist(), others.tolist(), strict=True)])
    if not balls.full_rank(frame):
        return replace(
            proof, verdict="not-proved", reasons=(*proof.reasons, "the neuron's outgoing vector may be zero")
        )
    coupling = others.transpose() * coupling
    index, nullity = proof.index, len(shares) - 1
    for sigma, times in signs.items():
        one = _block(coupling, curvature, sigma) if times else (0, 0)
        if one is None or index is None:
            reason = f"the signs of [[0, G], [G^T, {sigma} B]] are not all proved, nor index and nullity of the lift"
            return replace(proof, verdict="not-proved", reasons=(*proof.reasons, reason))
        index, nullity = index + times * one[0], nullity + times * one[1]
    return replace(proof, lift=replace(lift, index=index, nullity=nullity, symmetry_nullity=nullity))


def _block(coupling: Balls, curvature: Balls, sigma: int) -> tuple[int, int] | None:
    """Return index and nullity of [[0, G], [G^T, sigma B]], G without its row along a; None if not proved."""
    rows, columns = coupling.nrows(), coupling.ncols()
    if sigma == 0 or rows > columns:  # a full rank settles all
        rank = min(rows, columns)
        return (rank, rows + columns - 2 * rank) if balls.full_rank(coupling) else None
    zero = [flint().arb(0)] * rows
    upper = [[*zero, *row] for row in coupling.tolist()]
    lower = [[*column, *(sigma * value for value in row)] for column, row in _beside(coupling, curvature)]
    found = balls.signs(flint().arb_mat([*upper, *lower]))
    return None if found.undecided else (found.negative, 0)


def _beside(coupling: Balls, curvature: Balls) -> Iterator[tuple[list[Ball], list[Ball]]]:
    """Yield the rows of G^T and of B together."""
    columns = coupling.transpose().tolist() if coupling.nrows() else [[]] * curvature.nrows()
    return zip(columns, curvature.tolist(), strict=True)
