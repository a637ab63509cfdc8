"""The creases of a loss: where a preactivation of a kinked activation is zero for a sample, the gradient jumps.

A crease is named by one number, sample * (all hidden neurons) + neuron. Its height is the preactivation, the loss is
smooth on either side of height zero, and crossing from below to above adds pressure * (gradient of the height) to the
loss's gradient.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from saddlescope.models.activations import activation
from saddlescope.problem.problem import Problem


class Creases(eqx.Module):
    """All creases of a problem with a perceptron of a kinked activation, as functions of its flat parameters.

    The whole batch is taken at once: for problems small enough for dense Hessians.
    """

    problem: Problem

    def preactivations(self, theta: Float[Array, " size"]) -> Float[Array, " creases"]:
        """Return the preactivations of all samples and hidden neurons; infinite for padding."""
        preactivations = self._forward(theta, self._rows())[0]
        real = self.problem.weights.reshape(-1, 1) > 0
        return jnp.where(real, preactivations, jnp.inf).ravel()

    def gradient_jumps(self, theta: Float[Array, " size"]) -> Float[Array, " creases"]:
        """Return for each crease by how much the loss's slope per unit of height rises from below to above."""
        below, above = self._slopes()
        rows = self._rows()
        targets = self.problem.targets.reshape(-1, *self.problem.targets.shape[2:])
        weights = self.problem.weights.ravel()

        def loss(shifts: Array) -> Array:
            outputs = self._forward(theta, rows, shifts)[1]
            return self.problem.weighted_loss_sum(outputs, targets, weights)

        slopes = jax.grad(loss)(jnp.zeros((rows.shape[0], self._hidden()), theta.dtype))
        return ((above - below) * slopes).ravel()

    def chosen(self, theta: Float[Array, " size"], names: Int[Array, " chosen"]) -> Float[Array, " chosen"]:
        """Return the preactivations of the named creases alone."""
        hidden = self._hidden()
        preactivations = self._forward(theta, self._rows()[names // hidden])[0]
        return jnp.take_along_axis(preactivations, (names % hidden)[:, None], axis=1)[:, 0]

    def _rows(self) -> Array:
        return self.problem.inputs.reshape(-1, self.problem.inputs.shape[-1])

    def _hidden(self) -> int:
        return sum(self.problem.network.widths[1:-1])

    def _slopes(self) -> tuple[Array, Array]:
        slope = jax.grad(activation(self.problem.network.activation).function)
        return slope(jnp.asarray(-1e-300)), slope(jnp.asarray(1e-300))

    def _forward(self, theta: Array, rows: Array, shifts: Array | None = None) -> tuple[Array, Array]:
        """Return the preactivations of all hidden layers side by side, and the outputs; shifts add to activations."""
        network = self.problem.network
        parameters = network.layout.unflatten(theta)
        g, here, seen, column = activation(network.activation).function, rows, [], 0
        for k in range(network.depth):
            here = here @ parameters[f"{2 * k}.weight"].T
            here = here + parameters[f"{2 * k}.bias"][None, :] if network.bias else here
            if k < network.depth - 1:
                seen.append(here)
                here = g(here)
                if shifts is not None:
                    here = here + shifts[:, column : column + here.shape[1]]
                column += here.shape[1]
        return jnp.concatenate(seen, axis=1), here
