"""How near samples come to the kinks of a chain's activations, where the loss has no second derivative of its own."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from saddlescope.models.chain import is_traceable
from saddlescope.problem.problem import Problem

# A preactivation this small, relative to the layer's largest, lies on the kink: rounding decides its side.
ON_KINK = 1e-13


def is_kinked(problem: Problem) -> bool:
    """Return whether a derivative of the network is known to jump."""
    return any(units.facts.kinked for units in problem.network.layers.values())


def has_creases(problem: Problem) -> bool:
    """Return whether the network's gradient jumps, at preactivations that are at hand: a chain of dense layers."""
    return is_traceable(problem.network) and is_kinked(problem)


def has_breaks(problem: Problem) -> bool:
    """Return whether its Hessian is known to jump, at preactivations that are at hand: at kinks of g or of g'."""
    network = problem.network
    return is_traceable(network) and any(layer.activation and layer.activation.kinks for layer in network.chain)


def is_piecewise(problem: Problem) -> bool:
    """Return whether between kinks the outputs are polynomials of what is read: a point's surroundings tell all."""
    if not is_traceable(problem.network):
        return is_kinked(problem)
    return is_kinked(problem) and all(
        layer.activation is None or layer.activation.polynomial for layer in problem.network.chain
    )


def may_be_kinked(problem: Problem) -> bool:
    """Return whether a derivative of the network may jump: known of its units, or not known not to."""
    return any(units.facts.kinked is not False for units in problem.network.layers.values())


@eqx.filter_jit
def kink_distances(problem: Problem, theta: Float[Array, " size"]) -> Float[Array, "layers 2"]:
    """Return, by hidden layer, the least distance of a preactivation from a kink, and the largest |preactivation|.

    A layer without kinks is infinitely far from them.
    """
    network = problem.network
    parameters = network.layout.unflatten(theta)

    def chunk(rows: tuple[Array, Array]) -> Array:
        found, real = [], rows[1][:, None] > 0
        for layer, _, z, _ in network.trace(parameters, rows[0])[:-1]:
            near = [jnp.min(jnp.where(real, jnp.abs(z - kink.at), jnp.inf)) for kink in layer.activation.kinks]
            nearest = jnp.min(jnp.stack(near)) if near else jnp.asarray(jnp.inf, z.dtype)
            found.append(jnp.stack([nearest, jnp.max(jnp.where(real, jnp.abs(z), 0.0))]))
        return jnp.stack(found)

    each = jax.lax.map(chunk, (problem.inputs, problem.weights))
    return jnp.stack([each[:, :, 0].min(axis=0), each[:, :, 1].max(axis=0)], axis=1)
