"""Multilayer perceptrons with PyTorch's names: ``0.weight`` (out, in), ``0.bias``, ``2.weight``, ..."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from saddlescope.arrays import Layout, Parameters
from saddlescope.errors import NeuronsError, SettingsError, ShapeError
from saddlescope.problem.activations import activation as find_activation
from saddlescope.symmetry.neurons import Neurons, Slice

WIDEST = 2**31 - 1
"""An array's index fits into 32 bits in JAX's programs."""


class Perceptron(eqx.Module):
    """A network of dense layers of the given widths, the activation after each but the last.

    It holds no parameters, only structure, and compares by value: compiled functions are shared between equal networks.

    Raises:
        SettingsError: fewer than two widths, one below 1 or above `WIDEST`, or an unknown activation.
    """

    widths: tuple[int, ...] = eqx.field(static=True)
    activation: str = eqx.field(static=True)
    bias: bool = eqx.field(static=True)

    def __init__(self, widths: tuple[int, ...], activation: str = "relu", *, bias: bool = True) -> None:
        """Check and keep the structure."""
        if len(widths) < 2 or not all(isinstance(w, int | np.integer) and 1 <= w <= WIDEST for w in widths):
            raise SettingsError(
                "not the widths of a network",
                name="widths",
                value=widths,
                expected=f"at least two integers from 1 to {WIDEST}",
            )
        find_activation(activation)
        self.widths = tuple(int(width) for width in widths)
        self.activation = activation
        self.bias = bool(bias)

    @property
    def depth(self) -> int:
        """Number of weight matrices; hidden layers are one fewer."""
        return len(self.widths) - 1

    @property
    def layout(self) -> Layout:
        """Names and shapes of the parameters, in order."""
        names: list[str] = []
        shapes: list[tuple[int, ...]] = []
        for k, (inputs, outputs) in enumerate(zip(self.widths[:-1], self.widths[1:], strict=True)):
            names.append(f"{2 * k}.weight")
            shapes.append((outputs, inputs))
            if self.bias:
                names.append(f"{2 * k}.bias")
                shapes.append((outputs,))
        return Layout(tuple(names), tuple(shapes))

    def apply(self, parameters: Parameters, inputs: Any) -> Float[Array, "samples outputs"]:
        """Return the network's outputs for inputs (samples, n_0), before any softmax."""
        g = find_activation(self.activation).function
        here: Float[Array, "samples inputs"] = jnp.asarray(inputs)
        for k in range(self.depth):
            here = here @ jnp.asarray(parameters[f"{2 * k}.weight"]).T
            if self.bias:
                here = here + jnp.asarray(parameters[f"{2 * k}.bias"])[None, :]
            if k < self.depth - 1:
                here = g(here)
        return here

    def neurons(self, layer: int) -> Neurons:
        """Return the neurons of hidden layer ``layer``, counted from 1.

        Raises:
            NeuronsError: no such hidden layer.
        """
        self._check_layer(layer)
        here, after = 2 * (layer - 1), 2 * layer
        bias = (Slice(f"{here}.bias", 0),) if self.bias else ()
        return Neurons((Slice(f"{here}.weight", 0), *bias), (Slice(f"{after}.weight", 1),))

    def _check_layer(self, layer: int) -> None:
        if not isinstance(layer, int | np.integer) or not 1 <= layer < self.depth:
            expected = f"1 to {self.depth - 1}" if self.depth > 1 else "nothing: this network has no hidden layer"
            raise NeuronsError("no such hidden layer", name="layer", value=layer, expected=expected)

    def homogeneous(self, layer: int) -> bool:
        """Return whether the layer's activation leaves the scale of each neuron open."""
        self._check_layer(layer)
        return find_activation(self.activation).homogeneous

    def initial(self, seed: int) -> dict[str, np.ndarray]:
        """Return random parameters: weights and biases uniform in +-1/sqrt(inputs), PyTorch's default for Linear.

        Raises:
            SettingsError: a negative seed.
        """
        if seed < 0:
            raise SettingsError("not a seed", name="seed", value=seed, expected="0 or more")
        generator = np.random.default_rng(seed)
        layout = self.layout
        fan_in = [width for width in self.widths[:-1] for _ in range(2 if self.bias else 1)]
        return {
            name: generator.uniform(-1.0, 1.0, shape) / np.sqrt(inputs)
            for name, shape, inputs in zip(layout.names, layout.shapes, fan_in, strict=True)
        }

    def check(self, parameters: Parameters) -> None:
        """Refuse parameters whose names or shapes are not this network's.

        Raises:
            ShapeError: a missing or unknown array, or a wrong shape.
        """
        layout = self.layout
        wanted = dict(zip(layout.names, layout.shapes, strict=True))
        given = {name: tuple(np.shape(value)) for name, value in parameters.items()}
        if given != wanted:
            raise ShapeError("the parameters do not fit the network", name="shapes", value=given, expected=str(wanted))
