"""Products of all units' antisymmetric blocks at once, chunk by chunk, and the tries that they are such products.

``x`` stands for the entries of all units, (units, m): incoming ones first, then outgoing ones. A unit's copy and its
twin are moved by +v/sqrt(2) and -v/sqrt(2).
"""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from saddlescope.errors import NeuronsError
from saddlescope.exchanges.cut import NoCutError, cut_values, fixed_cuts, pulls, with_entries
from saddlescope.exchanges.grown import grown_apply, grown_arrays
from saddlescope.models.units import Units
from saddlescope.problem.problem import CHUNK_BYTES, Chunk, Problem

ALIKE = 1e-9
"""Outputs, and what must vanish beside what must not, agree to this share."""


class Places(eqx.Module):
    """The units of a layer in the flattened parameters.

    ``entries``: (units, m), positions of incoming, then outgoing entries; ``feeds`` of them come in.
    """

    units: Units = eqx.field(static=True)
    feeds: int = eqx.field(static=True)
    entries: Array

    @staticmethod
    def of(problem: Problem, layer: int) -> "Places":
        """Return the places of a layer's units.

        Raises:
            NeuronsError: units that cannot be split into copies.
        """
        units, layout = problem.network.layers[layer], problem.network.layout
        incoming, outgoing = units.incoming_positions(layout), units.outgoing_positions(layout)
        both = np.concatenate([incoming, outgoing], axis=1)
        if not (incoming.size and outgoing.size) or len(np.unique(both)) < both.size or not units.facts.mergeable:
            raise NeuronsError(
                "these units cannot be copied with shares",
                name="layer",
                value=units.facts.name or layer,
                expected="entries that come in and others that go out, each of one unit",
            )
        return Places(units, incoming.shape[1], jnp.asarray(both))

    @property
    def shape(self) -> tuple[int, int]:
        """Number of units, and of entries of each."""
        units, m = self.entries.shape
        return units, m

    def shares(self, share: float) -> Float[np.ndarray, " m"]:
        """Return factors for a unit's entries: 1 for what comes in, ``share`` for what goes out."""
        return np.where(np.arange(self.shape[1]) < self.feeds, 1.0, share)


def product(problem: Problem, places: Places, way: str, theta: Array, v: Float[Array, "batch units m"]) -> Array:
    """Return the blocks of all units times each of a batch of vectors, penalties left out."""
    term = _cut_product if way == "cut" else _grown_product
    return problem.add_chunks(lambda chunk: term(problem, places, theta, v, chunk))


def batch_size(problem: Problem) -> int:
    """Return how many vectors at once keep a chunk's memory in bounds."""
    return min(32, max(1, CHUNK_BYTES // (problem.inputs.shape[1] * problem.sample_bytes)))


def _along(gradient: Callable[[Array], Array], at: Array, v: Array) -> Array:
    return jax.vmap(lambda one: jax.jvp(gradient, (at,), (one,))[1])(v)


def _loss_of(problem: Problem, chunk: Chunk) -> Callable[[Any], Array]:
    return lambda outputs: problem.weighted_loss_sum(outputs, chunk.targets, chunk.weights)


def sent_by(problem: Problem, places: Places, theta: Array, chunk: Chunk) -> Callable[[Array], Array]:
    """Return S, a function of all units' entries: the loss's derivative by what they send, fixed, times what they send.

    It is a sum over units, and linear in what goes out.
    """
    model, layout = problem.network, problem.network.layout
    arrays = layout.unflatten(theta)
    slopes, frozen = pulls(model.apply, arrays, chunk.inputs, places.units, _loss_of(problem, chunk))

    def sent(x: Array) -> Array:
        here = with_entries(layout, theta, places.entries, x)
        values, _ = fixed_cuts(model.apply, here, chunk.inputs, places.units, frozen)
        return sum((jnp.vdot(slope, value) for slope, value in zip(slopes, values, strict=True)), jnp.zeros(()))

    return sent


def _cut_product(problem: Problem, places: Places, theta: Array, v: Array, chunk: Chunk) -> Array:
    sent = sent_by(problem, places, theta, chunk)
    return _along(jax.grad(sent), theta[places.entries] * places.shares(0.5).astype(theta.dtype), v)


def _grown_product(problem: Problem, places: Places, theta: Array, v: Array, chunk: Chunk) -> Array:
    model, layout, count = problem.network, problem.network.layout, places.shape[0]
    arrays = layout.unflatten(theta)

    def moved(x: Array) -> Array:
        steps = layout.unflatten(jnp.zeros_like(theta).at[places.entries].set(x * math.sqrt(0.5)))
        grown = grown_arrays(arrays, places.units, count, count, steps)
        outputs = grown_apply(model, places.units, count, count, grown, chunk.inputs)
        return problem.weighted_loss_sum(outputs, chunk.targets, chunk.weights)

    return _along(jax.grad(moved), jnp.zeros(places.shape, theta.dtype), v)


@eqx.filter_jit
def penalty(problem: Problem, places: Places, theta: Array) -> Float[Array, " units"]:
    """Return what the penalties add to each block, a multiple of 1, in the network with this one unit copied."""
    x = theta[places.entries]
    sent = x[:, places.feeds :]
    size = theta.shape[0] + places.shape[1]
    half = 0.5 * (theta @ theta + jnp.sum(x[:, : places.feeds] ** 2, axis=1) - 0.5 * jnp.sum(sent**2, axis=1))
    return problem.weight_decay + problem.norm_barrier * jnp.maximum(0.0, half - 1000.0 * size) ** 2


# Tries.


def usable_way(problem: Problem, places: Places, theta: Array, way: str) -> str:
    """Return the way in which the blocks can be computed, tried on the first chunk.

    Raises:
        NeuronsError: no way is left, or copying a unit changes the outputs.
    """
    reasons = []
    for one, tried in (("cut", _objection_to_cut), ("grown", _objection_to_grown)):
        if way in ("auto", one):
            objection = tried(problem, places, theta)
            if objection is None:
                return one
            reasons.append(f"{one}: {objection}")
    raise NeuronsError(
        f"the blocks of these units cannot be computed ({'; '.join(reasons)})",
        name="layer",
        value=places.units.facts.name or "-",
    )


def _first(problem: Problem) -> Chunk:
    return jax.tree.map(lambda leaf: leaf[0], Chunk(problem.inputs, problem.targets, problem.weights))


def _objection_to_cut(problem: Problem, places: Places, theta: Array) -> str | None:
    """Return why the values at the cuts are no sums over units, linear in what goes out; None where they are."""
    generator = np.random.default_rng(0)
    noise = jnp.asarray(generator.normal(size=places.shape))
    lone = jnp.asarray(generator.permuted(np.arange(places.shape[0]) % 2 == 0))
    try:
        leak, bent, left, mixed = (float(x) for x in _cut_tries(problem, places, theta, noise, lone))
    except NoCutError as error:
        return str(error)
    if not np.isfinite([leak, bent, left, mixed]).all():
        return "values that are not finite"
    if leak > 0.0:
        return "units reach the outputs by another way than their outgoing weights"
    if max(bent, left) > ALIKE:
        return "what the units send is not linear in their outgoing weights"
    return "units feel each other (a norm, a softmax or a maximum over them)" if mixed > ALIKE else None


@eqx.filter_jit
def _cut_tries(problem: Problem, places: Places, theta: Array, noise: Array, lone: Array) -> tuple[Array, ...]:
    """Return four numbers that vanish for units that can be copied, near theta; all but the first are shares."""
    model, layout, chunk = problem.network, problem.network.layout, _first(problem)
    x0 = theta[places.entries]
    x = x0 + noise * (0.1 * jnp.abs(x0) + 0.1 * jnp.sqrt(jnp.mean(x0**2)))
    frozen = cut_values(model.apply, layout.unflatten(theta), chunk.inputs, places.units)
    pulled = [jnp.cos(1.0 + jnp.arange(value.size, dtype=value.dtype)).reshape(value.shape) for value in frozen]

    def both(x: Array) -> tuple[Array, Array]:
        here = with_entries(layout, theta, places.entries, x)
        values, outputs = fixed_cuts(model.apply, here, chunk.inputs, places.units, frozen)
        return sum((jnp.vdot(p, z) for p, z in zip(pulled, values, strict=True)), jnp.zeros(())), jnp.sum(outputs)

    def sent(x: Array) -> Array:
        return both(x)[0]

    leak = jnp.max(jnp.abs(jax.grad(lambda x: both(x)[1])(x)))
    slopes = [jax.grad(sent)(x * places.shares(share)) for share in (1.0, 0.5, 0.0)]
    size = jnp.max(jnp.abs(slopes[0]))
    bent = jnp.max(jnp.abs((slopes[0] + slopes[2] - 2.0 * slopes[1])[:, : places.feeds]))
    bent = jnp.maximum(bent, jnp.max(jnp.abs((slopes[0] - slopes[2])[:, places.feeds :])))
    left = jnp.max(jnp.abs(slopes[2][:, : places.feeds]))
    image = jax.jvp(jax.grad(sent), (x,), (jnp.where(lone[:, None], noise, 0.0),))[1]
    mixed = jnp.max(jnp.where(lone[:, None], 0.0, jnp.abs(image)))
    own = jnp.max(jnp.abs(image))
    return (
        leak,
        bent / jnp.where(size > 0, size, 1.0),
        left / jnp.where(size > 0, size, 1.0),
        mixed / jnp.where(own > 0, own, 1.0),
    )


def _objection_to_grown(problem: Problem, places: Places, theta: Array) -> str | None:
    """Return why the network cannot be evaluated with units copied; None where its outputs stay."""
    model, count, chunk = problem.network, places.shape[0], _first(problem)
    arrays = model.layout.unflatten(theta)
    before = np.asarray(model.apply(arrays, chunk.inputs))
    for copied in dict.fromkeys((1, count)):
        grown = grown_arrays(arrays, places.units, count, copied)
        try:
            after = np.asarray(grown_apply(model, places.units, count, copied, grown, chunk.inputs))
        except Exception as error:  # whatever the user's code or JAX says of shapes
            line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            return f"it does not run with {count + copied} units ({line[:100].rstrip('.')})"
        if after.shape != before.shape or not np.abs(after - before).max() <= ALIKE * np.abs(before).max():
            return f"copying {'a unit' if copied == 1 else 'all units'} changes the outputs"
    return None
