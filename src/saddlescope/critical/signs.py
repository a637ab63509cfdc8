"""The signs of the Hessian at a settled point, by every way that can be afforded, with the flat directions named."""

from dataclasses import dataclass, replace

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from saddlescope.arrays import Layout
from saddlescope.critical.exchange import Block
from saddlescope.critical.flat import independent, scaling_rows, transfer_rows, unused_rows
from saddlescope.critical.groups import Embedding
from saddlescope.critical.result import Flat, Group, Inertia, Part
from saddlescope.critical.scene import Scene, antisymmetric
from saddlescope.critical.symmetric import (
    Reduced,
    Settled,
    dense_inertia,
    free_inertia,
    in_32,
    reduced_hessian,
    reduced_product,
    reduced_value_and_gradient,
)
from saddlescope.numerics.spectrum import rounding_bound
from saddlescope.problem.problem import Problem

Range = tuple[int, int]

KINDS = ("outgoing transfer", "scaling", "unused", "piecewise linear", "zero share", "zero loss")


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
    """Signs of the reduced network, its flat directions as rows of x, and how they split by reason."""

    inertia: Inertia
    null: np.ndarray
    scaling: int
    unused: int
    residual: float
    rounding: float
    drift: float
    chance: float | None
    products: int
    method: str


def _scaling(scene: Scene, x: np.ndarray, parts: Embedding) -> np.ndarray:
    """Return the scaling rows of all homogeneous layers; a penalty leaves none flat."""
    if scene.problem.penalised:
        return np.zeros((0, len(x)))
    network, layout = scene.problem.network, Layout.of(scene.parameters)
    layers = {layer: neurons for layer, neurons in scene.layers.items() if network.homogeneous(layer)}
    return scaling_rows(x, layout, layers, parts)


def _null(scene: Scene, reduced: Reduced, x: np.ndarray, image: np.ndarray, gradient: np.ndarray) -> tuple:
    """Return (unused rows, scaling rows without what is unused, whether their number is beyond doubt)."""
    unused = unused_rows(lambda at: reduced_value_and_gradient(reduced, at), x, image, gradient)
    scaling = _scaling(scene, x, scene.parts)
    scaling[:, unused.any(axis=0)] = 0.0
    basis, sure = independent(scaling)
    return unused, basis, sure


def symmetric_signs(scene: Scene, settled: Settled, way: np.ndarray | None, *, steps: int, seed: int) -> Symmetric:
    """Return the signs of the network without copies."""
    reduced, x = scene.reduced, settled.x
    if settled.hessian is not None:
        unused, scaling, sure = _null(scene, reduced, x, settled.hessian, settled.gradient)
        null = np.concatenate([unused, scaling])
        inertia, residual = dense_inertia(settled.hessian, null, settled.rounding + settled.drift, settled.sway)
        numbers = (residual, settled.rounding, settled.drift + _sway(settled, inertia), None, settled.products, "dense")
    else:
        assert way is not None
        probe = np.random.default_rng(seed).normal(size=len(x))
        unused, scaling, sure = _null(scene, reduced, x, reduced_product(reduced, x, probe), settled.gradient)
        null = np.concatenate([unused, scaling])
        free = free_inertia(reduced, x, null, way, steps=steps, seed=seed)
        inertia = free.inertia
        residual = max((float(np.linalg.norm(reduced_product(reduced, x, row))) for row in scaling[:2]), default=0.0)
        numbers = (residual, free.rounding, free.drift, free.chance, free.steps, "matrix-free")
    if not sure:  # their number is in doubt, so they are not counted as flat
        inertia = replace(inertia, zero=inertia.zero - len(scaling), unresolved=inertia.unresolved + len(scaling))
    return Symmetric(inertia, null, len(scaling) if sure else 0, len(unused), *numbers)


def _sway(settled: Settled, inertia: Inertia) -> float:
    """Return how much the Hessian may change on the way that the gradient's rounding leaves open."""
    lowest = np.abs(inertia.values[np.abs(inertia.values) > inertia.bounds]).min(initial=np.inf)
    return settled.sway / float(lowest)


@eqx.filter_jit
def _full_product(problem: Problem, theta: Array, v: Array) -> Array:
    return problem.hessian_product(theta, v)


def _transfer_residual(scene: Scene, x: np.ndarray, group: Group) -> float:
    """Return |H v|/|v| for weight moved from the group's first copy to its second."""
    full = scene.at(x)
    row = transfer_rows(full, scene.layers[group.layer], group)[0]
    theta = Layout.of(full).flatten(full)
    image = np.asarray(_full_product(scene.problem, theta, jnp.asarray(row)))
    return float(np.linalg.norm(image) / max(float(np.linalg.norm(row)), 1e-300))


def _whole(scene: Scene, symmetric: Symmetric, x: np.ndarray) -> tuple[Inertia, int]:
    """Return the signs of the whole Hessian with all copies, dense, and the Hessian products that it took."""
    full = scene.at(x)
    theta = np.asarray(Layout.of(full).flatten(full))
    identity = Embedding(np.arange(len(theta)), np.ones(len(theta)))
    reduced = Reduced.of(scene.problem, identity)
    hessian = reduced_hessian(reduced, theta)
    coarse, theta32 = in_32(reduced, theta)
    rounding = rounding_bound(hessian, reduced_hessian(coarse, theta32))
    rows = [scene.parts.lift(row) for row in symmetric.null]
    for group in scene.groups:
        rows += list(transfer_rows(full, scene.layers[group.layer], group))
    rows += list(_scaling(scene, theta, identity))
    null, sure = independent(np.stack(rows) if rows else np.zeros((0, len(theta))))
    # The way to the exact point is the same; the whole Hessian changes as much more as it is larger.
    size = float(np.linalg.norm(hessian)) / max(float(np.linalg.norm(symmetric.inertia.values)), 1e-300)
    inertia, _ = dense_inertia(hessian, null, rounding + symmetric.drift * max(1.0, size))
    if not sure:
        inertia = replace(inertia, zero=0, unresolved=inertia.unresolved + inertia.zero)
    return inertia, 2 * len(theta)


def find_signs(
    scene: Scene, settled: Settled, way: np.ndarray | None, *, zero: bool, check: bool, steps: int, seed: int
) -> Signs:
    """Return the signs by the exchange split in every form that applies, and of the whole Hessian if ``check``.

    ``zero``: the loss is zero to rounding; then G = B = 0 and copies add flat directions only.
    """
    symmetric = symmetric_signs(scene, settled, way, steps=steps, seed=seed)
    parts = [Part("symmetric" if scene.groups else "all", symmetric.method, symmetric.inertia)]
    methods: dict[str, tuple[Range, Range]] = {}
    counts: dict[str, int] = dict.fromkeys(KINDS, 0)
    counts["scaling"], counts["unused"] = symmetric.scaling, symmetric.unused
    forms = ["closed-form"] if scene.small is not None else []
    forms += ["exchange"] if check or not forms else []
    for k, form in enumerate(forms if scene.groups else []):
        total = symmetric.inertia
        for group, sigma, times, one in antisymmetric(scene, settled.x, way, symmetric.drift, form):
            # A block whose signs are beyond their bounds says that the loss is not zero after all.
            none = zero and one.inertia.negative == one.inertia.positive == 0
            inertia = Inertia(0, one.inertia.size, 0, 0) if none else one.inertia
            total = total.plus(inertia, times)
            if k == 0:
                name = f"antisymmetric, layer {group.layer} copies {group.units}, sign {sigma:+d}"
                parts.append(Part(name, form, inertia, times))
                for kind, count in _by_kind(one, sigma, zero=none).items():
                    counts[kind] += times * count
        methods[form] = (total.index, total.nullity)
    products = symmetric.products
    if not scene.groups:
        methods[symmetric.method] = (symmetric.inertia.index, symmetric.inertia.nullity)
    elif check:
        inertia, more = _whole(scene, symmetric, settled.x)
        methods["dense"], products = (inertia.index, inertia.nullity), products + more
    residuals = {"scaling": symmetric.residual, "unused": 0.0}
    residuals["outgoing transfer"] = max((_transfer_residual(scene, settled.x, g) for g in scene.groups), default=0.0)
    flat = tuple(
        Flat(kind, count, residuals.get(kind, float("nan")), WHY[kind]) for kind, count in counts.items() if count
    )
    reasons = ()
    if symmetric.chance is not None:
        reasons = (
            f"Lanczos, {symmetric.products} steps: the chance that a nonpositive eigenvalue of the symmetric part went "
            f"unseen is below {symmetric.chance:.1e} over its random start",
        )
    return Signs(methods, tuple(parts), flat, symmetric.rounding, symmetric.drift, symmetric.chance, products, reasons)


def _by_kind(one: Block, sigma: int, *, zero: bool) -> dict[str, int]:
    """Return how many flat directions of a block have which reason."""
    if zero:
        return {"zero loss": one.inertia.size}
    named = {"outgoing transfer": one.transfer, "scaling": one.scaling, "unused": one.unused}
    return {**named, "piecewise linear" if sigma else "zero share": one.linear}


WHY = {
    "outgoing transfer": "weight moves between copies along the unit's own outgoing vector, or where nothing reads it: "
    "the loss is constant",
    "scaling": "g(s z) = s g(z): incoming vector times s, outgoing vector divided by s leave the network alone",
    "unused": "gradient and Hessian are exactly zero there: no sample uses these parameters",
    "piecewise linear": "B = 0 for a piecewise linear activation, and the direction lies in the kernel of G: flat to "
    "second order",
    "zero share": "a copy that sends nothing out may turn within the kernel of G: flat to second order",
    "zero loss": "at zero loss G = B = 0: copies may part in any way, to second order",
}
