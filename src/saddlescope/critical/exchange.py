"""The exchange split: what copying a unit adds to the signs of the Hessian, from G and B alone (science notes, 3).

A unit with incoming vector theta, outgoing vector a and input h, copied with shares beta (sum 1), adds to the reduced
network's Hessian, by congruence, one block K_q = [[0, G], [G^T, sigma_q B]] for each sign sigma_q of diag(beta) on
{eps : sum_j beta_j eps_j = 0}, with G = E[r (x) g'(theta.h) h], B = E[(a.r) g''(theta.h) h h^T]. At a critical point
a^T G = 0 exactly: moving outgoing weight between copies is flat.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Scalar

from saddlescope.critical.result import Inertia
from saddlescope.numerics.spectrum import dense_spectrum, rounding_bound
from saddlescope.problem.activations import activation
from saddlescope.problem.problem import Chunk, Problem

Evaluate = Callable[[np.ndarray], tuple[float, np.ndarray]]
"""Loss and gradient at a parameter vector."""


class Coupling(NamedTuple):
    """G and B of one unit, each with a bound on its rounding, the unit's own vectors, and which entries are read."""

    g: np.ndarray  # (outgoing, incoming)
    b: np.ndarray  # (incoming, incoming)
    g_error: float
    b_error: float
    outgoing: np.ndarray
    incoming: np.ndarray
    used: np.ndarray  # (incoming,)


class Block(NamedTuple):
    """Signs of one K_q, and how many of its flat directions have which reason."""

    inertia: Inertia
    transfer: int
    scaling: int
    unused: int
    linear: int


def share_signs(shares: tuple[float, ...]) -> tuple[int, int, int]:
    """Return how many sigma_q are -1, 0 and +1: the signs of diag(beta) on {eps : sum_j beta_j eps_j = 0}.

    diag(beta) splits into that space and the line of equal entries, on which it is sum beta = 1 > 0; so of the signs
    of beta one +1 is taken away. The space holds the axes of shares 0, on which it vanishes.
    """
    beta = np.asarray(shares)
    return int(np.sum(beta < 0)), int(np.sum(beta == 0)), int(np.sum(beta > 0)) - 1


def unread(
    evaluate: Evaluate, x: Float[np.ndarray, " size"], dead: Bool[np.ndarray, " size"]
) -> Bool[np.ndarray, " size"]:
    """Return which of the entries of x with zero derivatives nothing reads, for a reason other than rounding.

    With zeros in their place the loss must be the same, bit by bit, and the gradient there exactly zero. The
    derivatives of a saturated unit are zero by rounding only; at zero it is not saturated.
    """
    if not dead.any():
        return dead
    loss = evaluate(x)[0]
    while dead.any():
        value, gradient = evaluate(np.where(dead, 0.0, x))
        alive = dead & (gradient != 0)
        if not alive.any():
            return dead if value == loss else np.zeros_like(dead)
        dead = dead & ~alive
    return dead


def _cast32(tree: Problem) -> Problem:
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32) if leaf.dtype == jnp.float64 else leaf, tree)


# In closed form, for dense layers.


def _chunk_coupling(
    problem: Problem, theta: Array, layer: int, unit: Array, chunk: Chunk
) -> tuple[Float[Array, "outgoing incoming"], Float[Array, "incoming incoming"], Float[Array, " incoming"]]:
    """Return one chunk's part of G and B, and of how many samples read an entry of the incoming vector.

    ``unit`` is traced, so that all units share one compilation.
    """
    network = problem.network
    parameters = network.layout.unflatten(theta)
    entry = activation(network.activation).function

    def affine(k: int, here: Array) -> Array:
        z = here @ parameters[f"{2 * k}.weight"].T
        return z + parameters[f"{2 * k}.bias"][None, :] if network.bias else z

    def loss_after(z: Array) -> Array:
        for k in range(layer + 1, network.depth):
            z = affine(k, entry(z))
        return problem.sample_loss(z, chunk.targets, chunk.weights)

    here = chunk.inputs
    for k in range(layer - 1):
        here = entry(affine(k, here))
    z = affine(layer - 1, here)
    r = jax.grad(loss_after)(affine(layer, entry(z)))
    if network.bias:
        here = jnp.concatenate([here, jnp.ones_like(here[:, :1])], axis=1)
    slope = jax.vmap(jax.grad(entry))
    bend = jax.vmap(jax.grad(jax.grad(entry)))
    own = jnp.take(z, unit, axis=1)
    a = jnp.take(parameters[f"{2 * layer}.weight"], unit, axis=1)
    g, b = r.T @ (slope(own)[:, None] * here), (here * ((r @ a) * bend(own))[:, None]).T @ here
    return g, b, jnp.sum(chunk.weights[:, None] * (here != 0), axis=0)


@eqx.filter_jit
def _closed(problem: Problem, theta: Array, layer: int, unit: Array) -> tuple[Array, Array, Array]:
    return problem.add_chunks(lambda chunk: _chunk_coupling(problem, theta, layer, unit, chunk))


def closed_coupling(problem: Problem, theta: Float[np.ndarray, " size"], layer: int, unit: int) -> Coupling:
    """Return G and B of a unit of a perceptron without copies, by one pass over the data.

    Source: science notes, section 3; [FA00] for one output.
    """
    x, u = jnp.asarray(theta), jnp.asarray(unit)
    g, b, reads = (np.asarray(value) for value in _closed(problem, x, layer, u))
    g32, b32, _ = (np.asarray(value) for value in _closed(_cast32(problem), x.astype(jnp.float32), layer, u))
    kind = activation(problem.network.activation)
    if kind.homogeneous:  # piecewise linear: zeros are exact
        used = (b != 0).any(axis=1) | (g != 0).any(axis=0)
    else:  # a hidden unit's output of zero may be an underflow, unless the activation is odd
        used = (reads > 0) | (layer > 1 and kind.parity != "odd")
    parameters = problem.network.layout.unflatten_numpy(np.asarray(theta))
    neurons = problem.network.neurons(layer)
    return Coupling(
        g,
        b,
        rounding_bound(g, g32),
        rounding_bound(b, b32),
        neurons.outgoing_vectors(parameters)[unit],
        neurons.incoming_vectors(parameters)[unit],
        used,
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
    g32, b32 = read(_products(_cast32(problem), x.astype(jnp.float32), directions.astype(jnp.float32)))
    silent = ~((b != 0).any(axis=1) | (g != 0).any(axis=0))

    def evaluate(at: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = _value_and_gradient(problem, jnp.asarray(at))
        return float(value), np.asarray(gradient)

    quiet = unread(evaluate, np.asarray(theta), (moves.first[silent] != 0).any(axis=0))
    used = ((moves.first != 0) & ~quiet).any(axis=1)
    return Coupling(g, b, rounding_bound(g, g32), rounding_bound(b, b32), outgoing, incoming, used)


# From G and B to signs.


def _complement(vector: Float[np.ndarray, " size"]) -> Float[np.ndarray, "size rest"]:
    """Return an orthonormal basis of what is orthogonal to a vector that is not zero."""
    basis, _ = np.linalg.qr(np.concatenate([vector[:, None], np.eye(len(vector))], axis=1))
    return basis[:, 1 : len(vector)]


def block(coupling: Coupling, sigma: int, *, homogeneous: bool, extra: int = 0, drift: float = 0.0) -> Block:
    """Return the signs of K = [[0, G], [G^T, sigma B]] at the critical point near which G and B were taken.

    Flat for a stated reason, and taken out before any eigenvalue is computed: the outgoing vector itself; outgoing
    directions beyond the number of incoming ones; ``extra`` outgoing directions that differ between copies in the
    next layer; incoming entries that no sample uses; with a homogeneous activation the incoming vector itself; and
    the kernel of G where sigma is zero, or where B is, as for a piecewise linear activation.

    Args:
        coupling: G and B.
        sigma: -1, 0 or 1.
        homogeneous: whether scaling the unit's incoming vector only scales its output.
        extra: see above.
        drift: how much G and B may differ between here and the exact critical point.
    """
    g, b = coupling.g, coupling.b
    used = coupling.used
    g, b = g[:, used], b[np.ix_(used, used)]
    error_g, error_b = coupling.g_error + drift, coupling.b_error + drift
    a, theta = coupling.outgoing, coupling.incoming[used]
    transfer, scaling = extra, 0
    if np.linalg.norm(a) > 0 and len(a) > 0:
        error_g += float(np.linalg.norm(a @ g) / np.linalg.norm(a))  # zero at the exact point
        g, transfer = _complement(a).T @ g, transfer + 1
    if homogeneous and np.linalg.norm(theta) > 0:
        error_g += float(np.linalg.norm(g @ theta) / np.linalg.norm(theta))
        turn = _complement(theta)
        g, b, scaling = g @ turn, turn.T @ b @ turn, 1
    if g.shape[0] > g.shape[1]:
        transfer += g.shape[0] - g.shape[1]
        g = np.linalg.qr(g)[1]
    unused = int((~used).sum())
    bend = sigma * b
    flat = sigma == 0 or (homogeneous and not bend.any())
    linear = g.shape[1] - g.shape[0] if flat else 0
    zero = transfer + scaling + unused + linear
    if flat:
        singular = np.linalg.svd(g, compute_uv=False) if g.size else np.zeros(0)
        bounds = error_g + len(singular) * np.finfo(float).eps * (singular.max() if len(singular) else 0.0)
        both = np.concatenate([-singular, singular])
        return Block(Inertia.of(both, np.asarray(bounds), zero=zero), transfer, scaling, unused, linear)
    # A congruence that brings G to the size of B keeps the signs and narrows the bounds.
    size_g, size_b = float(np.linalg.norm(g)), float(np.linalg.norm(bend))
    scale = size_b / size_g if size_g > 0 and size_b > 0 else 1.0
    whole = np.block([[np.zeros((len(g), len(g))), scale * g], [scale * g.T, bend]])
    values, bounds = dense_spectrum(whole, error_b + (scale * error_g if len(g) else 0.0))
    return Block(Inertia.of(values, bounds, zero=zero), transfer, scaling, unused, linear)
