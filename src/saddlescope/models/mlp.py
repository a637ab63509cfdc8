"""Multilayer perceptrons with PyTorch's names: ``0.weight`` (out, in), ``0.bias``, ``2.weight``, ..."""

from collections.abc import Mapping
from typing import Any, TypeGuard

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from saddlescope.arrays import Layout, Parameters
from saddlescope.errors import NeuronsError, SettingsError, ShapeError
from saddlescope.models.activations import activation as find_activation
from saddlescope.models.contract import unwrapped
from saddlescope.models.units import UnitFacts, Units
from saddlescope.units.neurons import Neurons, Slice

WIDEST = 2**31 - 1
"""An array's index fits into 32 bits in JAX's programs."""


class MLP(eqx.Module):
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
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.widths[:1]

    @property
    def sample_bytes(self) -> int:
        """About how much memory one sample's gradient takes: its inputs, four copies of each layer's width."""
        return 8 * self.widths[0] + 32 * sum(self.widths[1:])

    @property
    def layers(self) -> Mapping[int, Units]:
        """The neurons of the hidden layers by number from 1, with the facts about them."""
        entry = find_activation(self.activation)
        found = {}
        for layer in range(1, self.depth):
            facts = UnitFacts(
                name=f"layer {layer}",
                homogeneous=entry.homogeneous,
                parity=entry.parity,
                kinked=entry.kinked,
                linear=entry.name == "identity",
                absorbs=f"{2 * layer}.bias" if self.bias else "",
            )
            neurons = self.neurons(layer)
            found[layer] = Units(neurons.incoming, neurons.outgoing, neurons.units, facts)
        return found

    def describe(self) -> dict[str, object]:
        """Return what a record needs to build the network again."""
        return {"widths": list(self.widths), "activation": self.activation, "bias": self.bias}

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


def is_dense(network: object) -> TypeGuard[MLP]:
    """Return whether the closed forms for chains of dense layers hold for a network."""
    return isinstance(network, MLP)


def require_dense(network: object, verb: str) -> None:
    """Refuse a network that is no chain of dense layers, before anything is computed.

    Raises:
        SettingsError: see above.
    """
    if not is_dense(network):
        raise SettingsError(
            f"{verb} knows chains of dense layers only",
            name="network",
            value=f"a {type(unwrapped(network)).__qualname__}",
            expected="a MLP",
            advice="Paths, certificates and walks work with any model",
        )
