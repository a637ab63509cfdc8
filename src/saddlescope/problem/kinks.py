"""How near samples come to the kinks of a perceptron's activation, where the loss has no gradient of its own."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from saddlescope.models.activations import activation
from saddlescope.models.mlp import is_dense
from saddlescope.problem.problem import Problem

# A preactivation this small, relative to the layer's largest, lies on the kink: rounding decides its side.
ON_KINK = 1e-13


def is_kinked(problem: Problem) -> bool:
    """Return whether a derivative of the network is known to jump."""
    return any(units.facts.kinked for units in problem.network.layers.values())


def has_creases(problem: Problem) -> bool:
    """Return whether the network has kinks whose preactivations are at hand: a chain of dense layers."""
    return is_dense(problem.network) and is_kinked(problem)


def may_be_kinked(problem: Problem) -> bool:
    """Return whether a derivative of the network may jump: known of its units, or not known not to."""
    return any(units.facts.kinked is not False for units in problem.network.layers.values())


@eqx.filter_jit
def kink_distances(problem: Problem, theta: Float[Array, " size"]) -> Float[Array, "layers 2"]:
    """Return, for each hidden layer, the smallest and the largest |preactivation| over samples and neurons."""
    network = problem.network
    parameters = network.layout.unflatten(theta)
    g = activation(network.activation).function

    def chunk(rows: tuple[Array, Array]) -> Array:
        here, found = rows[0], []
        for k in range(network.depth - 1):
            z = here @ parameters[f"{2 * k}.weight"].T
            z = z + parameters[f"{2 * k}.bias"][None, :] if network.bias else z
            here, z = g(z), jnp.abs(z)
            real = rows[1][:, None] > 0
            found.append(jnp.stack([jnp.min(jnp.where(real, z, jnp.inf)), jnp.max(jnp.where(real, z, 0.0))]))
        return jnp.stack(found)

    each = jax.lax.map(chunk, (problem.inputs, problem.weights))
    return jnp.stack([each[:, :, 0].min(axis=0), each[:, :, 1].max(axis=0)], axis=1)
