"""The creases of a loss: where a preactivation lies on a kink of its activation for a sample, the gradient jumps.

A crease is named by one number, sample * (all kinks of all hidden neurons) + kink. Its height is the preactivation less
the kink's place, the loss is smooth on either side of height zero, and crossing from below to above adds
pressure * (gradient of the height) to the loss's gradient.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from saddlescope.models.chain import Traced
from saddlescope.problem.problem import Problem


class Creases(eqx.Module):
    """All creases of a problem with a chain of dense layers, as functions of its flat parameters.

    The whole batch is taken at once: for problems small enough for dense Hessians.
    """

    problem: Problem

    def preactivations(self, theta: Float[Array, " size"]) -> Float[Array, " creases"]:
        """Return, for all samples and kinks, how far the preactivations lie above; infinite for padding."""
        real = self.problem.weights.reshape(-1, 1) > 0
        return jnp.where(real, self._above(self._trace(theta, self._rows())), jnp.inf).ravel()

    def gradient_jumps(self, theta: Float[Array, " size"]) -> Float[Array, " creases"]:
        """Return for each crease by how much the loss's slope per unit of height rises from below to above."""
        rows, network = self._rows(), self.problem.network
        targets = self.problem.targets.reshape(-1, *self.problem.targets.shape[2:])
        weights, parameters = self.problem.weights.ravel(), network.layout.unflatten(theta)

        def loss(probes: dict[int, Array]) -> Array:
            return self.problem.weighted_loss_sum(self._trace(theta, rows, probes)[-1].outputs, targets, weights)

        chain = network.chain
        zeros = {k: jnp.zeros((len(rows), layer.outputs), theta.dtype) for k, layer in enumerate(chain, 1) if k > 1}
        found = []
        for number, slopes in jax.grad(loss)(zeros).items():
            read = slopes @ parameters[chain[number - 1].weight]
            found += [(kink.above - kink.below) * read for kink in chain[number - 2].activation.kinks]
        return jnp.concatenate(found, axis=1).ravel()

    def chosen(self, theta: Float[Array, " size"], names: Int[Array, " chosen"]) -> Float[Array, " chosen"]:
        """Return the preactivations of the named creases alone."""
        chain = self.problem.network.chain[:-1]
        columns = sum(layer.outputs * len(layer.activation.kinks) for layer in chain)
        preactivations = self._above(self._trace(theta, self._rows()[names // columns]))
        return jnp.take_along_axis(preactivations, (names % columns)[:, None], axis=1)[:, 0]

    def _rows(self) -> Array:
        return self.problem.inputs.reshape(-1, self.problem.inputs.shape[-1])

    def _trace(self, theta: Array, rows: Array, probes: dict[int, Array] | None = None) -> tuple[Traced, ...]:
        network = self.problem.network
        return network.trace(network.layout.unflatten(theta), rows, probes)

    def _above(self, traced: tuple[Traced, ...]) -> Float[Array, "samples creases"]:
        """Return the preactivations of all hidden layers side by side, once for each kink, less its place."""
        pairs = [(z, kink) for layer, _, z, _ in traced[:-1] if layer.activation for kink in layer.activation.kinks]
        return jnp.concatenate([z - kink.at for z, kink in pairs], axis=1)
