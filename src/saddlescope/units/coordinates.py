"""Orthogonal pair coordinates: sums and differences of two neurons, everything else as it is.

With l < m the pair of neurons, a flattened parameter set theta becomes x of the same length, in which neuron l's
places hold (theta_l + theta_m)/sqrt 2 and neuron m's places (theta_m - theta_l)/sqrt 2. The map is orthogonal: norms
and gradient norms keep their size. The swap of l and m only changes the sign of the difference places.
"""

import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from saddlescope.arrays import Layout
from saddlescope.units.neurons import Neurons


class PairCoordinates(eqx.Module):
    """Positions of one pair's incoming and outgoing weights in a flattened parameter set.

    Positions are array leaves, so that functions compiled for one pair serve all pairs of equal shape.
    """

    incoming_sum: Int[Array, " incoming"]
    incoming_difference: Int[Array, " incoming"]
    outgoing_sum: Int[Array, " outgoing"]
    outgoing_difference: Int[Array, " outgoing"]

    @staticmethod
    def of(neurons: Neurons, layout: Layout, pair: tuple[int, int]) -> "PairCoordinates":
        """Return the coordinates of a pair of neurons; the first one's places will hold the sums."""
        incoming = np.asarray(neurons.incoming_positions(layout))
        outgoing = np.asarray(neurons.outgoing_positions(layout))
        first, second = pair
        return PairCoordinates(
            jnp.asarray(incoming[first]),
            jnp.asarray(incoming[second]),
            jnp.asarray(outgoing[first]),
            jnp.asarray(outgoing[second]),
        )

    @eqx.filter_jit
    def rotate(self, theta: Float[Array, " size"]) -> Float[Array, " size"]:
        """Map parameters, or a gradient, into pair coordinates."""
        sums = jnp.concatenate([self.incoming_sum, self.outgoing_sum])
        differences = jnp.concatenate([self.incoming_difference, self.outgoing_difference])
        first, second = theta[sums], theta[differences]
        root = math.sqrt(0.5)
        return theta.at[sums].set(root * (first + second)).at[differences].set(root * (second - first))

    @eqx.filter_jit
    def unrotate(self, x: Float[Array, " size"]) -> Float[Array, " size"]:
        """Map pair coordinates back into parameters; the inverse, and the transpose, of `rotate`."""
        sums = jnp.concatenate([self.incoming_sum, self.outgoing_sum])
        differences = jnp.concatenate([self.incoming_difference, self.outgoing_difference])
        total, gap = x[sums], x[differences]
        root = math.sqrt(0.5)
        return x.at[sums].set(root * (total - gap)).at[differences].set(root * (total + gap))
