"""The exchange split: what copying a unit adds to the signs of the Hessian, from G and B alone (science notes, 3).

A unit with incoming vector theta, outgoing vector a and input h, copied with shares beta (sum 1), adds to the reduced
network's Hessian, by congruence, one block K_q = [[0, G], [G^T, sigma_q B]] for each sign sigma_q of diag(beta) on
{eps : sum_j beta_j eps_j = 0}, with G = E[r (x) g'(theta.h) h], B = E[(a.r) g''(theta.h) h h^T]. At a critical point
a^T G = 0 exactly: moving outgoing weight between copies is flat.
"""

import collections
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Scalar

from saddlescope.critical.result import Inertia
from saddlescope.models.chain import Activation
from saddlescope.numerics.spectrum import dense_spectrum, entry_rounding, natural_scale
from saddlescope.precision import single
from saddlescope.problem.kinks import is_piecewise
from saddlescope.problem.problem import Chunk, Problem

Evaluate = Callable[[np.ndarray], tuple[float, np.ndarray]]
"""Loss and gradient at a parameter vector."""


class Coupling(NamedTuple):
    """G and B of one unit, each with a bound on its entries' errors, and what is known of its rows and columns.

    ``outgoing_null``, ``incoming_null``: by kind, rows along which G and B vanish for a reason: a softmax that does
    not see a common shift, inputs that depend on each other, units that are linear on the data.
    """

    g: np.ndarray  # (outgoing, incoming)
    b: np.ndarray  # (incoming, incoming)
    g_error: np.ndarray | float
    b_error: np.ndarray | float
    outgoing: np.ndarray
    incoming: np.ndarray
    used: np.ndarray  # (incoming,)
    outgoing_null: Mapping[str, np.ndarray] = MappingProxyType({})  # (rows, outgoing)
    incoming_null: Mapping[str, np.ndarray] = MappingProxyType({})  # (rows, incoming)


class Block(NamedTuple):
    """Signs of one K_q, and how many of its flat directions have which reason (`signs.WHY`)."""

    inertia: Inertia
    counts: dict[str, int]


def share_signs(shares: tuple[float, ...]) -> tuple[int, int, int]:
    """Return how many sigma_q are -1, 0 and +1: the signs of diag(beta) on {eps : sum_j beta_j eps_j = 0}.

    diag(beta) splits into that space and the line of equal entries, on which it is sum beta = 1 > 0; so of the signs
    of beta one +1 is taken away. The space holds the axes of shares 0, on which it vanishes.
    """
    beta = np.asarray(shares)
    return int(np.sum(beta < 0)), int(np.sum(beta == 0)), int(np.sum(beta > 0)) - 1


def structurally_unused(
    evaluate: Evaluate, x: Float[np.ndarray, " size"], dead: Bool[np.ndarray, " size"], *, kinked: bool = False
) -> Bool[np.ndarray, " size"]:
    """Return which of the entries of x with zero derivatives nothing reads, all together, for no reason of rounding.

    At random points the gradient there must be exactly zero. Between kinks the loss is a polynomial of what is read,
    and points nearby are enough; else it is analytic, and an entry that it does not read near x it reads nowhere: the
    random points then lie far apart, at every scale, so that no unit that is only saturated, and no entry that is
    multiplied by a zero of another, counts as structurally_unused.
    """
    generator = np.random.default_rng(0)
    usual = max(float(np.sqrt(np.mean(np.square(x)))), 1e-300)
    for size in (1e-7,) if kinked else 10.0 ** np.arange(-9.0, 4.0, 2.0):
        if not dead.any():
            break
        noise = generator.normal(size=len(x))
        near = x + (size if kinked else 0.1) * (np.abs(x) + usual) * noise
        at = near if kinked else np.where(dead, size * noise, near)
        dead = dead & (evaluate(at)[1] == 0.0)
    return dead


# In closed form, for dense layers.


def _chunk_coupling(
    problem: Problem, theta: Array, layer: int, unit: Array, chunk: Chunk
) -> tuple[Float[Array, "outgoing incoming"], Float[Array, "incoming incoming"], Float[Array, " incoming"]]:
    """Return one chunk's part of G and B, and of how many samples read an entry of the incoming vector.

    ``unit`` is traced, so that all units share one compilation.
    """
    network = problem.network
    parameters = network.layout.unflatten(theta)

    def loss(probe: Array) -> Array:
        outputs = network.trace(parameters, chunk.inputs, {layer + 1: probe})[-1].outputs
        return problem.weighted_loss_sum(outputs, chunk.targets, chunk.weights)

    own, after = network.trace(parameters, chunk.inputs)[layer - 1 : layer + 1]
    kind = own.layer.activation
    r = jax.grad(loss)(jnp.zeros_like(after.preactivations))
    here, z = own.layer.padded(own.inputs), jnp.take(own.preactivations, unit, axis=1)
    a = jnp.take(parameters[after.layer.weight], unit, axis=1)
    slope, bend = kind.derivative(z), kind.derivative(z, 2)
    g, b = r.T @ (slope[:, None] * here), (here * ((r @ a) * bend)[:, None]).T @ here
    alive = ((slope != 0) | (bend != 0)) if kind.polynomial else jnp.ones_like(z, bool)
    # A hidden unit's zero may be an underflow, or hang on weights that are zero, unless it is off all around.
    seen = (here != 0) if layer == 1 or _dies(network.chain[layer - 2].activation) else jnp.ones_like(here, bool)
    return g, b, jnp.sum(chunk.weights[:, None] * (seen & alive[:, None]), axis=0)


@eqx.filter_jit
def _closed(problem: Problem, theta: Array, layer: int, unit: Array) -> tuple[Array, Array, Array]:
    return problem.add_chunks(lambda chunk: _chunk_coupling(problem, theta, layer, unit, chunk))


def _dies(kind: Activation) -> bool:
    """Return whether a unit's zero, away from kinks, is one all around, as ReLU's: it is off there."""
    return kind.polynomial and any(kink.at == 0.0 for kink in kind.kinks)


def closed_coupling(problem: Problem, theta: Float[np.ndarray, " size"], layer: int, unit: int) -> Coupling:
    """Return G and B of a unit of a perceptron without copies, by one pass over the data.

    Source: science notes, section 3; [FA00] for one output.
    """
    x, u = jnp.asarray(theta), jnp.asarray(unit)
    g, b, reads = (np.asarray(value) for value in _closed(problem, x, layer, u))
    g32, b32, _ = (np.asarray(value) for value in _closed(single(problem), x.astype(jnp.float32), layer, u))
    parameters = problem.network.layout.unflatten_numpy(np.asarray(theta))
    neurons = problem.network.neurons(layer)
    return Coupling(
        g,
        b,
        entry_rounding(g, g32),
        entry_rounding(b, b32),
        neurons.outgoing_vectors(parameters)[unit],
        neurons.incoming_vectors(parameters)[unit],
        reads > 0,
    )


# By Hessian products, in any model.


class Antisymmetric(NamedTuple):
    """Where a copied unit's reduced incoming and outgoing entries go in two of its copies, and with which factors."""

    first: np.ndarray  # (incoming, size): + embedding at one copy, - at the other
    second: np.ndarray  # (outgoing, size)


@eqx.filter_jit
def _products(problem: Problem, theta: Array, directions: Array) -> Array:
    return jax.lax.map(lambda v: problem.hessian_product(theta, v), directions, batch_size=16)


@eqx.filter_jit
def _value_and_gradient(problem: Problem, theta: Array) -> tuple[Scalar, Array]:
    return problem.value_and_gradient(theta)


def product_coupling(
    problem: Problem,
    theta: Float[np.ndarray, " size"],
    moves: Antisymmetric,
    outgoing: np.ndarray,
    incoming: np.ndarray,
    copies: int,
) -> Coupling:
    """Return G and B of a unit with ``copies`` equal shares at theta, by one Hessian product per incoming entry.

    With +eps at one copy and -eps at another the first-order change vanishes; what is left of the quadratic form is
    (2/copies) eps^T B eps, and 4 eta^T G eps with +-eta in the outgoing weights.
    """
    x, directions = jnp.asarray(theta), jnp.asarray(moves.first)

    def read(rows: Array) -> tuple[np.ndarray, np.ndarray]:
        images = np.asarray(rows, dtype=np.float64)
        return 0.5 * moves.second @ images.T, 0.5 * copies * moves.first @ images.T

    g, b = read(_products(problem, x, directions))
    g32, b32 = read(_products(single(problem), x.astype(jnp.float32), directions.astype(jnp.float32)))
    silent = ~((b != 0).any(axis=1) | (g != 0).any(axis=0))

    def evaluate(at: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = _value_and_gradient(problem, jnp.asarray(at))
        return float(value), np.asarray(gradient)

    quiet = structurally_unused(
        evaluate, np.asarray(theta), (moves.first[silent] != 0).any(axis=0), kinked=is_piecewise(problem)
    )
    used = ((moves.first != 0) & ~quiet).any(axis=1)
    return Coupling(g, b, entry_rounding(g, g32), entry_rounding(b, b32), outgoing, incoming, used)


# From G and B to signs.


def _complement(rows: Float[np.ndarray, "rows size"]) -> Float[np.ndarray, "size rest"]:
    """Return an orthonormal basis of what is orthogonal to linearly independent rows."""
    return np.linalg.qr(rows.T, mode="complete")[0][:, len(rows) :]


def _independent(rows: Float[np.ndarray, "rows size"], floor: float = 0.0) -> Float[np.ndarray, "rank size"]:
    """Return an orthonormal basis of the span of rows that are longer than ``floor``."""
    rows = rows[np.linalg.norm(rows, axis=1) > floor]
    if len(rows) == 0:
        return rows
    _, values, basis = np.linalg.svd(rows / np.linalg.norm(rows, axis=1, keepdims=True), full_matrices=False)
    return basis[values > 1e-6 * values[0]]


class _Scaled(NamedTuple):
    """G, sigma B, their errors' norms, and the null rows, all in natural units."""

    g: np.ndarray
    bend: np.ndarray
    g_error: float
    b_error: float
    outgoing: dict[str, np.ndarray]
    incoming: dict[str, np.ndarray]


def _scaled(coupling: Coupling, sigma: int, *, homogeneous: bool) -> _Scaled:
    """Take out what no sample uses, and bring the rest to natural units."""
    used = coupling.used
    g, bend = coupling.g[:, used], sigma * coupling.b[np.ix_(used, used)]
    wrong = [np.broadcast_to(coupling.g_error, coupling.g.shape)[:, used]]
    wrong.append(abs(sigma) * np.broadcast_to(coupling.b_error, coupling.b.shape)[np.ix_(used, used)])
    nothing = np.zeros((len(g), len(g)))
    errors = np.block([[nothing, wrong[0]], [wrong[0].T, wrong[1]]])
    scale = natural_scale(np.block([[nothing, g], [g.T, bend]]), errors)
    out, into = scale[: len(g)], scale[len(g) :]
    own = {"scaling": coupling.incoming[None, used]} if homogeneous else {}
    return _Scaled(
        out[:, None] * g * into,
        into[:, None] * bend * into,
        float(np.linalg.norm(out[:, None] * wrong[0] * into)),
        float(np.linalg.norm(into[:, None] * wrong[1] * into)),
        _bases({**coupling.outgoing_null, "outgoing transfer": coupling.outgoing[None, :]}, out),
        _bases({**{kind: rows[:, used] for kind, rows in coupling.incoming_null.items()}, **own}, into),
    )


def _bases(rows: Mapping[str, np.ndarray], scale: np.ndarray) -> dict[str, np.ndarray]:
    """Return, for each kind, an orthonormal basis of what it adds to the kinds before it, in natural units."""
    found, before = {}, np.zeros((0, len(scale)))
    for kind, more in rows.items():
        turned = _independent(more / scale)
        found[kind] = _independent(turned - (turned @ before.T) @ before, floor=1e-6)
        before = np.concatenate([before, found[kind]])
    return found


def block(coupling: Coupling, sigma: int, *, homogeneous: bool, extra: int = 0) -> Block:
    """Return the signs of K = [[0, G], [G^T, sigma B]] at the critical point near which G and B were taken.

    Flat for a stated reason, and taken out before any eigenvalue is computed: the outgoing vector itself; outgoing
    directions beyond the number of incoming ones; ``extra`` outgoing directions that differ between copies in the
    next layer; incoming entries that no sample uses; the coupling's own null rows; with a homogeneous activation the
    incoming vector itself; and the kernel of G where sigma is zero, or where B is, as for a piecewise linear
    activation.

    Args:
        coupling: G and B.
        sigma: -1, 0 or 1.
        homogeneous: whether scaling the unit's incoming vector only scales its output.
        extra: see above.
    """
    parts = _scaled(coupling, sigma, homogeneous=homogeneous)
    g, bend, error_g, error_b = parts.g, parts.bend, parts.g_error, parts.b_error
    outgoing, incoming = (
        np.concatenate([*kinds.values(), np.zeros((0, size))])
        for kinds, size in ((parts.outgoing, g.shape[0]), (parts.incoming, g.shape[1]))
    )
    counts = collections.Counter({kind: len(rows) for kind, rows in parts.outgoing.items()})
    counts.update({kind: len(rows) for kind, rows in parts.incoming.items()})
    counts.update({"outgoing transfer": extra, "unused": int((~coupling.used).sum())})
    # What vanishes at the exact point is an error here.
    error_g += float(np.linalg.norm(outgoing @ g)) + float(np.linalg.norm(g @ incoming.T))
    error_b += 2.0 * float(np.linalg.norm(bend @ incoming.T))
    left, right = _complement(outgoing), _complement(incoming)
    g, bend = left.T @ g @ right, right.T @ bend @ right
    if g.shape[0] > g.shape[1]:
        counts["outgoing transfer"] += g.shape[0] - g.shape[1]
        g = np.linalg.qr(g)[1]
    if sigma == 0 or (homogeneous and not bend.any()):
        # One output of a piecewise linear unit: all copies together are one vector, sum a_j theta_j.
        one = homogeneous and len(coupling.outgoing) == 1 and coupling.outgoing.any()
        counts["one vector" if one else "piecewise linear" if sigma else "zero share"] += g.shape[1] - g.shape[0]
        singular = np.linalg.svd(g, compute_uv=False) if g.size else np.zeros(0)
        bounds = error_g + len(singular) * np.finfo(float).eps * (singular.max() if len(singular) else 0.0)
        both = np.concatenate([-singular, singular])
        return Block(Inertia.of(both, np.asarray(bounds), zero=counts.total()), dict(counts))
    whole = np.block([[np.zeros((len(g), len(g))), g], [g.T, bend]])
    values, bounds = dense_spectrum(whole, error_b + (error_g if len(g) else 0.0))
    return Block(Inertia.of(values, bounds, zero=counts.total()), dict(counts))
