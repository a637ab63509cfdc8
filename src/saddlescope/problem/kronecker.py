"""A Kronecker-factored approximation of a dense chain's Gauss-Newton matrix, as preconditioner for large networks.

For each layer, with h its input (1 appended for the bias), D the outputs' derivative by its preactivations and H the
loss's Hessian by
the outputs: E[h h^T] (x) E[D^T H D] (Martens and Grosse 2015). Only the speed of a solve depends on it, never its
result.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Scalar

from saddlescope.models.chain import Traceable
from saddlescope.problem.problem import Chunk, Problem


class LayerFactors(NamedTuple):
    """Eigenvectors and eigenvalues of both factors of one layer."""

    input_vectors: Float[Array, "inputs inputs"]
    input_values: Float[Array, " inputs"]
    output_vectors: Float[Array, "outputs outputs"]
    output_values: Float[Array, " outputs"]


Factors = tuple[LayerFactors, ...]


def _chunk_factors(problem: Problem, theta: Array, chunk: Chunk) -> list[tuple[Array, Array]]:
    """Return (sum over samples of h h^T, of D^T H D) for each layer, for one chunk."""
    network = problem.network
    parameters = network.layout.unflatten(theta)
    traced = network.trace(parameters, chunk.inputs)
    here = traced[-1].outputs

    def weighted_loss_sum(out: Array, target: Array, weight: Array) -> Scalar:
        return problem.weighted_loss_sum(out[None], target[None], weight[None])

    bend = jax.vmap(jax.hessian(weighted_loss_sum))(here, chunk.targets, chunk.weights)
    back = jnp.broadcast_to(jnp.eye(here.shape[1]), bend.shape)
    result: list[tuple[Array, Array]] = []
    for k, (layer, inputs, _, _) in reversed(list(enumerate(traced))):
        h = layer.padded(inputs) * chunk.weights[:, None]
        result.append((h.T @ h, jnp.einsum("nij,nio,njp->op", bend, back, back)))
        if k:
            before = traced[k - 1]
            slopes = before.layer.activation.derivative(before.preactivations)
            back = (back @ parameters[layer.weight]) * slopes[:, None, :]
    return result[::-1]


@eqx.filter_jit
def factors(problem: Problem, theta: Float[Array, " size"]) -> Factors:
    """Return the eigendecomposed factors of every layer of a dense chain at theta."""
    sums = problem.add_chunks(lambda chunk: _chunk_factors(problem, theta, chunk))
    result = []
    for inputs, outputs in sums:
        input_values, input_vectors = jnp.linalg.eigh(inputs / problem.samples)
        output_values, output_vectors = jnp.linalg.eigh(outputs)
        positive = (jnp.maximum(values, 0.0) for values in (input_values, output_values))
        first, second = positive
        result.append(LayerFactors(input_vectors, first, output_vectors, second))
    return tuple(result)


def apply(network: Traceable, layers: Factors, shift: Scalar, v: Float[Array, " size"]) -> Float[Array, " size"]:
    """Return (factors + shift)^-1 v, layer by layer."""
    return _power(network, layers, shift, v, -1.0)


def apply_inverse_sqrt(
    network: Traceable, layers: Factors, shift: Scalar, v: Float[Array, " size"], *, inverse: bool = False
) -> Float[Array, " size"]:
    """Return (factors + shift)^-1/2 v, or with ``inverse`` (factors + shift)^1/2 v."""
    return _power(network, layers, shift, v, 0.5 if inverse else -0.5)


def _power(network: Traceable, layers: Factors, shift: Scalar, v: Array, exponent: float) -> Array:
    """Return (factors + shift)^exponent v, layer by layer."""
    pieces = network.layout.unflatten(v)
    done: dict[str, Array] = {}
    for layer, dense in zip(layers, network.chain, strict=True):
        turned = layer.output_vectors.T @ dense.matrix(pieces) @ layer.input_vectors
        values = layer.output_values[:, None] * layer.input_values[None, :] + shift
        turned = turned / values if exponent == -1.0 else turned * values**exponent
        done |= dense.arrays(layer.output_vectors @ turned @ layer.input_vectors.T)
    return network.layout.flatten(done)
