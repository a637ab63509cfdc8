"""The signs of the Hessian at a refined point, by every way that can be afforded, with the flat directions named."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from saddlescope.arrays import Layout
from saddlescope.critical.claimed import fibre_claims, flat_claims
from saddlescope.critical.decomposition import Decomposition, antisymmetric
from saddlescope.critical.fibre import Fibre, fibres_of
from saddlescope.critical.flat import NullSpace, null_space, transfer_rows
from saddlescope.critical.groups import Embedding
from saddlescope.critical.reduced import (
    Reduced,
    in_32,
    reduced_hessian,
    reduced_product,
    reduced_value_and_gradient,
)
from saddlescope.critical.refine import RefinedPoint
from saddlescope.critical.result import Flat, Group, Inertia, Part
from saddlescope.critical.symmetric import DenseSigns, dense_inertia, free_inertia
from saddlescope.models.chain import is_traceable
from saddlescope.numerics.spectrum import entry_rounding, natural_scale

Range = tuple[int, int]

# A claimed flat direction's |H n| may exceed the bounds by so many times, and so many times the gradient's norm.
CLAIM = 8.0

# A share this near 0 is noted: beyond 0 the signs that copying adds are others.
NEAR_ZERO = 1e-4


@dataclass(frozen=True)
class Signs:
    """What was found: by method the ranges of index and nullity, the parts, the flat directions, the bounds."""

    methods: dict[str, tuple[Range, Range]]
    parts: tuple[Part, ...]
    flat: tuple[Flat, ...]
    rounding: float
    drift: float
    chance: float | None
    products: int
    reasons: tuple[str, ...]

    @property
    def index(self) -> Range:
        """The index as all methods together allow it; they do not exclude each other (`words.disagreement`)."""
        return _meet([index for index, _ in self.methods.values()])

    @property
    def nullity(self) -> Range:
        """The nullity as all methods together allow it."""
        return _meet([nullity for _, nullity in self.methods.values()])


def _meet(ranges: list[Range]) -> Range:
    return max(low for low, _ in ranges), min(high for _, high in ranges)


@dataclass(frozen=True)
class Symmetric:
    """Signs of the reduced network, its flat directions, and the largest |H n| seen on each kind of them."""

    inertia: Inertia
    null: NullSpace
    residuals: dict[str, float]
    rounding: float
    drift: float
    chance: float | None
    products: int
    method: str


def symmetric_signs(
    scene: Decomposition, point: RefinedPoint, *, steps: int, seed: int, fibres: Sequence[Fibre] = ()
) -> Symmetric:
    """Return the signs of the network without copies; ``fibres``: what else may be flat, if signs stay open."""
    reduced, x = scene.reduced, point.x
    problem = scene.problem if scene.small is None else scene.small
    if point.hessian is None:
        probe = np.random.default_rng(seed).normal(size=len(x))
        claims = flat_claims(scene, problem, scene.parts, x, reduced_product(reduced, x, probe), point.gradient)
        null = null_space(claims, np.ones(len(x)))
        free = free_inertia(reduced, point, null.rows, steps=steps, seed=seed)
        residuals = _by_count(null, [float(np.linalg.norm(reduced_product(reduced, x, row))) for row in null.rows])
        found = (free.rounding, free.drift, free.chance, free.steps + point.products, "matrix-free")
        return Symmetric(free.inertia, null, residuals, *found)
    assert point.rounding is not None
    scale = natural_scale(point.hessian, point.rounding)
    claims = flat_claims(scene, problem, scene.parts, x, point.hessian, point.gradient)
    drift = point.drift(lambda at: reduced_hessian(reduced, at), point.hessian)
    null, signs = _dense(point.hessian, null_space(claims, scale), point.rounding, drift, scale, point.gradient)
    if signs.inertia.unresolved and fibres:
        more = fibre_claims(scene, fibres, len(x))
        null = null_space(claims | more, scale, measured=more)
        null, signs = _dense(point.hessian, null, point.rounding, drift, scale, point.gradient)
    products = point.products + (len(x) if point.factor else 0)
    residuals = _by_count(null, signs.residuals)
    return Symmetric(signs.inertia, null, residuals, signs.rounding, signs.drift, None, products, "dense")


def _dense(
    hessian: np.ndarray,
    null: NullSpace,
    rounding: np.ndarray,
    drift: np.ndarray,
    scale: np.ndarray,
    gradient: np.ndarray,
) -> tuple[NullSpace, DenseSigns]:
    """Return the signs, after leaving out claimed directions along which H is not as small as claimed."""
    signs = dense_inertia(hessian, null.rows, rounding, drift)
    allowed = CLAIM * (signs.rounding + signs.drift + float(np.linalg.norm(scale * gradient)))
    wrong = {kind for kind, residual in _by_count(null, signs.residuals).items() if residual > allowed}
    if not wrong:
        return null, signs
    keep = np.concatenate([np.full(count, kind not in wrong) for kind, count in null.counts.items()])
    reasons = tuple(f"the Hessian does not vanish along the kind '{kind}': not counted as flat" for kind in wrong)
    counts = {kind: count for kind, count in null.counts.items() if kind not in wrong}
    null = NullSpace(null.rows[keep], counts, (*null.reasons, *reasons))
    return null, dense_inertia(hessian, null.rows, rounding, drift)


def _by_count(null: NullSpace, residuals: "np.ndarray | list[float]") -> dict[str, float]:
    """Return the largest residual of each kind."""
    found, start = {}, 0
    for kind, count in null.counts.items():
        found[kind], start = float(np.max(residuals[start : start + count])), start + count
    return found


def _transfer_residual(scene: Decomposition, x: np.ndarray, group: Group) -> float:
    """Return |H v|/|v| for weight moved from the group's first copy to its second."""
    full = scene.at(x)
    row = transfer_rows(full, scene.layers[group.layer], group)[0]
    theta = np.asarray(Layout.of(full).flatten(full))
    image = reduced_product(_whole_problem(scene, len(theta)), theta, row)
    return float(np.linalg.norm(image) / max(float(np.linalg.norm(row)), 1e-300))


def _whole_problem(scene: Decomposition, size: int) -> Reduced:
    return Reduced.of(scene.problem, Embedding(np.arange(size), np.ones(size)))


def _whole(scene: Decomposition, symmetric: Symmetric, point: RefinedPoint) -> tuple[Inertia, int]:
    """Return the signs of the whole Hessian with all copies, dense, and the Hessian products that it took."""
    full = scene.at(point.x)
    theta = np.asarray(Layout.of(full).flatten(full))
    identity = Embedding(np.arange(len(theta)), np.ones(len(theta)))
    reduced = _whole_problem(scene, len(theta))
    hessian, gradient = reduced_hessian(reduced, theta), reduced_value_and_gradient(reduced, theta)[1]
    coarse, theta32 = in_32(reduced, theta)
    rounding = entry_rounding(hessian, reduced_hessian(coarse, theta32))
    drift = point.drift(lambda at: reduced_hessian(reduced, scene.parts.lift(at)), hessian)
    claims = flat_claims(scene, scene.problem, identity, theta, hessian, gradient)
    moves = [transfer_rows(full, scene.layers[group.layer], group) for group in scene.groups]
    lifted = np.stack([scene.parts.lift(row) for row in symmetric.null.rows]) if len(symmetric.null.rows) else None
    claims["outgoing transfer"] = np.concatenate(moves)
    if lifted is not None:
        claims["without copies"] = lifted
    scale = natural_scale(hessian, rounding)
    _, signs = _dense(hessian, null_space(claims, scale), rounding, drift, scale, gradient)
    return signs.inertia, 2 * len(theta)


def _near_zero(group: Group, sigma: int, block: Inertia) -> tuple[str, ...]:
    """Return a note on each share so near 0, with the sign sigma, that a small change of it gives another index.

    Beyond 0 one block of the group has -sigma for sigma, and K(-sigma) is congruent to -K(sigma): its negative
    eigenvalues are as many as the positive ones of this ``block``.
    """
    change = block.positive - block.negative
    if sigma == 0 or not (change or block.unresolved):
        return ()
    by = "may be another" if block.unresolved else f"is {abs(change)} {'higher' if change > 0 else 'lower'}"
    return tuple(
        f"unit {unit} of layer {group.layer} has the share {share:.1e} of what copies {group.units} send out: at a "
        f"distance of {abs(share):.1e} in the share, beyond 0, the index {by}"
        for unit, share in zip(group.units, group.shares, strict=True)
        if np.sign(share) == sigma and abs(share) <= NEAR_ZERO
    )


def find_signs(scene: Decomposition, point: RefinedPoint, *, zero: bool, check: bool, steps: int, seed: int) -> Signs:
    """Return the signs by the exchange split in every form that applies, and of the whole Hessian if ``check``.

    ``zero``: the loss is zero to rounding; then G = B = 0 and copies add flat directions only.
    """
    open_ended = not is_traceable(scene.problem.network) and not scene.problem.penalised and point.hessian is not None
    fibres = fibres_of(scene.reduced, point.x) if open_ended else ()
    symmetric = symmetric_signs(scene, point, steps=steps, seed=seed, fibres=fibres)
    parts = [Part("symmetric" if scene.groups else "all", symmetric.method, symmetric.inertia)]
    methods: dict[str, tuple[Range, Range]] = {}
    counts: dict[str, int] = {**dict.fromkeys(WHY, 0), **symmetric.null.counts}
    notes: list[str] = []
    forms = ["closed-form"] if scene.small is not None else []
    forms += ["exchange"] if check or not forms else []
    for k, form in enumerate(forms if scene.groups else []):
        total = symmetric.inertia
        for group, sigma, times, one in antisymmetric(scene, point, form, fibres):
            # A block whose signs are beyond their bounds says that the loss is not zero after all.
            none = zero and one.inertia.negative == one.inertia.positive == 0
            inertia = Inertia(0, one.inertia.size, 0, 0) if none else one.inertia
            total = total.plus(inertia, times)
            if k == 0:
                name = f"antisymmetric, layer {group.layer} copies {group.units}, sign {sigma:+d}"
                parts.append(Part(name, form, inertia, times))
                notes += _near_zero(group, sigma, inertia)
                for kind, count in ({"zero loss": inertia.size} if none else one.counts).items():
                    counts[kind] += times * count
        methods[form] = (total.index, total.nullity)
    products = symmetric.products
    if not scene.groups:
        methods[symmetric.method] = (symmetric.inertia.index, symmetric.inertia.nullity)
    elif check:
        inertia, more = _whole(scene, symmetric, point)
        methods["dense"], products = (inertia.index, inertia.nullity), products + more
    residuals = dict(symmetric.residuals)
    residuals["outgoing transfer"] = max((_transfer_residual(scene, point.x, g) for g in scene.groups), default=0.0)
    flat = tuple(
        Flat(kind, count, residuals.get(kind, float("nan")), WHY[kind]) for kind, count in counts.items() if count
    )
    reasons = (*symmetric.null.reasons, *notes)
    if symmetric.chance is not None:
        reasons += (
            f"Lanczos, {symmetric.products} products: the chance that a nonpositive eigenvalue of the symmetric part "
            f"went unseen is below {symmetric.chance:.1e} over its random start",
        )
    return Signs(methods, tuple(parts), flat, symmetric.rounding, symmetric.drift, symmetric.chance, products, reasons)


CONSTANT = frozenset(
    {
        "outgoing transfer",
        "scaling",
        "unused",
        "softmax shift",
        "collinear inputs",
        "linear units",
        "few samples",
        "one vector",
        "zero loss",
        "attention",
        "residual stream",
        "no effect",
        "equal outputs",
    }
)
"""Kinds along which, all together, the loss is constant (`flat`); along the others it is flat to second order only."""

WHY = {
    "outgoing transfer": "weight moves between copies along the unit's own outgoing vector, or where nothing reads it: "
    "the loss is constant",
    "scaling": "g(s z) = s g(z): incoming vector times s, outgoing vector divided by s leave the network alone",
    "unused": "no sample uses these parameters: gradient and Hessian are exactly zero there, at random points too",
    "softmax shift": "adding the same number to all outputs leaves the cross entropy alone",
    "collinear inputs": "the inputs, and 1 with biases, satisfy a linear relation to the rounding of the data: weights "
    "along it are not read",
    "linear units": "units that are linear on the data, or switch on and off at the same samples, can be mixed as "
    "A W1, W2 A^-1, and one of a single slope passes a shift on: the network stays the same near this point",
    "few samples": "a unit that is on at fewer samples than it has weights: what these samples do not see is not read",
    "one vector": "copies of a piecewise linear unit with one output add up to one vector, sum a_j theta_j: what "
    "leaves it alone leaves the network alone near this point",
    "attention": "what a head's queries and keys, or its values and what reads them, have in common can be mixed by "
    "any invertible matrix (with a penalty: by any rotation): the outputs stay",
    "residual stream": "a residual stream without norms can be mixed by any invertible matrix, one with a norm or a "
    "penalty by rotations: the outputs stay",
    "no effect": "no output feels these parameters, here and at random points, such as the bias of an attention's keys",
    "equal outputs": "the rank of the outputs' derivatives is the same here and around: parameters of equal outputs on "
    "these data form a manifold through this point, and this is its tangent",
    "piecewise linear": "B = 0 for a piecewise linear activation, and the direction lies in the kernel of G: flat to "
    "second order",
    "zero share": "a copy that sends nothing out may turn within the kernel of G: flat to second order",
    "zero loss": "at zero loss G = B = 0: copies may part in any way, to second order",
}
