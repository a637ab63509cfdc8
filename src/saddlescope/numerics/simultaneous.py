"""The lowest eigenpairs of many symmetric blocks at once, where one product serves all of them.

Small blocks are formed; for large ones, locally optimal conjugate gradients run in all blocks side by side, with the
memory of six vectors and no other.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Progress = Callable[[int, int, str], None]
Product = Callable[[Any, Float[Array, "batch blocks m"]], Float[Array, "batch blocks m"]]
"""All blocks times a batch of vectors each; the first argument is what the product needs."""

TOGETHER = 10
"""Iterations in one compiled loop, between two looks at what is reached."""


class Pairs(NamedTuple):
    """Lowest eigenvalues, their vectors, residual norms, the largest |value| met, iterations done."""

    values: np.ndarray  # (blocks,)
    vectors: np.ndarray  # (blocks, m)
    residuals: np.ndarray  # (blocks,)
    scales: np.ndarray  # (blocks,)
    steps: int


class State(NamedTuple):
    """What is carried on: the iterate, the last move, their images, and the largest |Ritz value| of each block."""

    x: Array
    kx: Array
    p: Array
    kp: Array
    scale: Array


@eqx.filter_jit
def _images(product: Product, given: Any, v: Array) -> Array:
    return product(given, v)


def form_blocks(
    product: Product, given: Any, blocks: int, m: int, *, batch: int, kind: Any = None, progress: Progress | None = None
) -> Float[np.ndarray, "blocks m m"]:
    """Return all blocks, by as many products as a block has rows."""
    found = np.empty((m, blocks, m))
    for start in range(0, m, batch):
        rows = np.arange(start, start + batch) % m  # always as many: one compilation
        v = np.broadcast_to(np.eye(m)[rows][:, None, :], (batch, blocks, m))
        found[rows] = np.asarray(_images(product, given, jnp.asarray(v, kind)))
        if progress is not None:
            progress(min(start + batch, m), m, "products")
    return found.transpose(1, 0, 2)


def lowest_pairs(
    product: Product,
    given: Any,
    start: Float[np.ndarray, "blocks m"],
    *,
    steps: int,
    tolerance: float,
    progress: Progress | None = None,
) -> Pairs:
    """Return the lowest eigenpair of each block, from a random start.

    **An eigenvalue below those returned may have been missed where the start lies nearly at right angles to it**; each
    returned value is at least the block's lowest, and within its residual of an eigenvalue.

    Args:
        product: the blocks.
        given: what the product needs.
        start: a random vector for each block.
        steps: most iterations.
        tolerance: stop when all residuals are below this share of the largest |value| of their block.
        progress: called with iterations done and most, and a word.

    Source: Knyazev 2001 (LOBPCG), one vector for each block.
    """
    x = jnp.asarray(start / np.linalg.norm(start, axis=1, keepdims=True))
    state, done = _begin(product, given, x), 0
    while done < steps:
        state, worst = _advance(product, given, state, min(TOGETHER, steps - done))
        done += min(TOGETHER, steps - done)
        reached = float(worst)
        if progress is not None:
            progress(done, steps, f"largest residual {reached:.1e}")
        if not reached > tolerance:
            break
    x = state.x / jnp.linalg.norm(state.x, axis=1, keepdims=True)
    kx = _images(product, given, x[None])[0]
    values = jnp.sum(x * kx, axis=1)
    residuals = jnp.linalg.norm(kx - values[:, None] * x, axis=1)
    return Pairs(np.asarray(values), np.asarray(x), np.asarray(residuals), np.asarray(state.scale), done)


@eqx.filter_jit
def _begin(product: Product, given: Any, x: Array) -> State:
    kx = product(given, x[None])[0]
    return State(x, kx, jnp.zeros_like(x), jnp.zeros_like(x), jnp.linalg.norm(kx, axis=1))


@eqx.filter_jit
def _advance(product: Product, given: Any, state: State, steps: int) -> tuple[State, Array]:
    """Return the state after some iterations, and the largest residual as a share of its block's scale."""
    state = jax.lax.fori_loop(0, steps, lambda _, here: _step(product, given, here), state)
    # Images are carried by linear combination: they are taken anew before anybody looks.
    state = state._replace(kx=product(given, state.x[None])[0])
    value = jnp.sum(state.x * state.kx, axis=1)
    rest = jnp.linalg.norm(state.kx - value[:, None] * state.x, axis=1)
    return state, jnp.max(rest / jnp.where(state.scale > 0, state.scale, 1.0))


def _dot(a: Array, b: Array) -> Array:
    return jnp.sum(a * b, axis=1, keepdims=True)


def _unit(v: Array, kv: Array, floor: Array) -> tuple[Array, Array]:
    """Return vectors of length 1 with their images; zero where they are shorter than ``floor``."""
    length = jnp.linalg.norm(v, axis=1, keepdims=True)
    factor = jnp.where(length > floor, 1.0 / jnp.where(length > floor, length, 1.0), 0.0)
    return v * factor, kv * factor


def _step(product: Product, given: Any, state: State) -> State:
    """Move each block's vector to the lowest one in the span of itself, its residual and its last move."""
    x, kx, p, kp, scale = state
    rest = kx - _dot(x, kx) * x
    w, _ = _unit(rest, rest, 1e-15 * scale[:, None])
    w, _ = _unit(w - _dot(x, w) * x, w, jnp.asarray(1e-8))
    kw = product(given, w[None])[0]
    p, kp = _unit(p, kp, jnp.asarray(0.0))
    for _ in range(2):  # twice is enough (Kahan, Parlett)
        a, b = _dot(x, p), _dot(w, p)
        p, kp = _unit(p - a * x - b * w, kp - a * kx - b * kw, jnp.asarray(1e-8))
    basis, images = jnp.stack([x, w, p], axis=1), jnp.stack([kx, kw, kp], axis=1)
    small = jnp.einsum("bim,bjm->bij", basis, images)
    small = 0.5 * (small + small.transpose(0, 2, 1))
    empty = jnp.sum(basis**2, axis=2) < 0.5  # a direction that is not there must not be chosen
    high = 4.0 * jnp.max(jnp.abs(small), axis=(1, 2)) + 1.0  # above all that the others can give, 3 times the largest
    small = small + jnp.where(empty, high[:, None], 0.0)[:, :, None] * jnp.eye(3)
    values, vectors = jnp.linalg.eigh(small)
    c = vectors[:, :, :1]
    move, image = c[:, 1] * w + c[:, 2] * p, c[:, 1] * kw + c[:, 2] * kp
    seen = jnp.max(jnp.where(values < 0.9 * high[:, None], jnp.abs(values), 0.0), axis=1)
    x, kx = _unit(c[:, 0] * x + move, c[:, 0] * kx + image, jnp.asarray(0.0))
    return State(x, kx, move, image, jnp.maximum(scale, seen))
