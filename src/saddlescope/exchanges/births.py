"""A new unit that sends nothing yet: fed by the vector for which the loss falls fastest when it begins to send.

With S as in `blocks.sent_by`, a unit fed by x whose outgoing weights are zero has the gradient g(x) = dS/d(outgoing) by
these weights; S is linear in them, so that the gradient of |g|^2/2 by x is dS/d(incoming) of a unit fed by x that sends
with the weights g(x). Units do not feel each other in S: each of them holds the place for one start. Source: GradMax
(Evci et al. 2022), maximised on a sphere of incoming vectors.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from saddlescope.exchanges.blocks import Places, batch_size, sent_by
from saddlescope.problem.problem import Problem

STARTS, STEPS, SETTLED = 16, 60, 1e-9
"""Random starts at least, beside the units' own vectors; steps of each; the gain below which all have settled."""


class Birth(NamedTuple):
    """The incoming vector that was found, and the gradient by the outgoing weights there."""

    incoming: Float[np.ndarray, " p"]
    gradient: Float[np.ndarray, " q"]


@eqx.filter_jit
def _slopes(problem: Problem, places: Places, theta: Array, x: Float[Array, "batch units m"]) -> Array:
    """Return the gradient of S at each of a batch of entries of all units."""
    return problem.add_chunks(lambda chunk: jax.vmap(jax.grad(sent_by(problem, places, theta, chunk)))(x))


def birth_gradients(
    problem: Problem, places: Places, theta: Array, incoming: Float[np.ndarray, "batch units p"]
) -> Float[np.ndarray, "batch units q"]:
    """Return g(x) of new units fed by these vectors."""
    silent = np.zeros((*incoming.shape[:2], places.shape[1] - places.feeds))
    x = jnp.asarray(np.concatenate([incoming, silent], axis=2))
    return np.asarray(_slopes(problem, places, theta, x))[:, :, places.feeds :]


def _uphill(problem: Problem, places: Places, theta: Array, incoming: np.ndarray, sent: np.ndarray) -> np.ndarray:
    x = jnp.asarray(np.concatenate([incoming, sent], axis=2))
    return np.asarray(_slopes(problem, places, theta, x))[:, :, : places.feeds]


def steepest_birth(problem: Problem, places: Places, theta: Array, seed: int) -> Birth:
    """Return the new unit of largest |g| among vectors as long as the layer's incoming ones (root mean square).

    A local maximum of each start, the best of them: a larger one elsewhere cannot be excluded.

    Args:
        problem: the problem; the layer's way must be "cut".
        places: the layer's units.
        theta: the parameters.
        seed: of the random starts.
    """
    own = np.asarray(theta[places.entries])[:, : places.feeds]
    radius = float(np.sqrt(np.mean(np.sum(own**2, axis=1)))) or 1.0
    rounds = min(batch_size(problem), 1 + -(-STARTS // len(own)))
    drawn = np.random.default_rng(seed).normal(size=(rounds, *own.shape))
    alive = np.linalg.norm(own, axis=1) > 0.0
    drawn[0, alive] = own[alive]
    x = radius * _unit(drawn)
    g = birth_gradients(problem, places, theta, x)
    share = np.ones((*x.shape[:2], 1))
    for _ in range(STEPS):
        ahead = _unit(_uphill(problem, places, theta, x, g))
        trial = radius * _unit((1.0 - share) * x + share * radius * ahead)
        there = birth_gradients(problem, places, theta, trial)
        before, after = _lengths(g), _lengths(there)
        better = after > before  # False for what is not a number
        gained = np.where(better, after - before, 0.0).max()
        x, g = np.where(better, trial, x), np.where(better, there, g)
        share = np.where(better, np.minimum(1.0, 2.0 * share), 0.5 * share)
        if gained <= SETTLED * np.nanmax(_lengths(g)) and share.max() < 0.1:
            break
    sizes = np.where(np.isfinite(_lengths(g)[..., 0]), _lengths(g)[..., 0], -1.0)
    best = np.unravel_index(sizes.argmax(), sizes.shape)
    return Birth(x[best], g[best])


def _lengths(vectors: np.ndarray) -> np.ndarray:
    return np.linalg.norm(vectors, axis=-1, keepdims=True)


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = _lengths(vectors)
    return vectors / np.where(length > 0.0, length, 1.0)
