"""Multilayer perceptrons with PyTorch's names: ``0.weight`` (out, in), ``0.bias``, ``2.weight``, ..."""

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from saddlescope.arrays import Layout, Parameters
from saddlescope.errors import NeuronsError, SettingsError, ShapeError
from saddlescope.models.activations import layer_activations, spelled
from saddlescope.models.chain import Chain, Dense, Traced, trace_chain
from saddlescope.models.units import UnitFacts, Units
from saddlescope.units.neurons import Neurons, Slice

WIDEST = 2**31 - 1
"""An array's index fits into 32 bits in JAX's programs."""


class MLP(eqx.Module):
    """A network of dense layers of the given widths, an activation after each but the last.

    ``activation``: one name for all hidden layers, or one for each, in a sequence or as ``"relu,tanh"``; a name may
    carry a parameter, ``"leaky_relu:0.2"``. It holds no weights, only structure, and compares by value: compiled
    functions are shared between equal networks.

    Raises:
        SettingsError: fewer than two widths, one below 1 or above `WIDEST`, an unknown activation, or another number
            of them than of hidden layers.
    """

    widths: tuple[int, ...] = eqx.field(static=True)
    activation: str = eqx.field(static=True)
    bias: bool = eqx.field(static=True)

    def __init__(self, widths: tuple[int, ...], activation: str | Sequence[str] = "relu", *, bias: bool = True) -> None:
        """Check and keep the structure."""
        if len(widths) < 2 or not all(isinstance(w, int | np.integer) and 1 <= w <= WIDEST for w in widths):
            raise SettingsError(
                "not the widths of a network",
                name="widths",
                value=widths,
                expected=f"at least two integers from 1 to {WIDEST}",
            )
        self.widths = tuple(int(width) for width in widths)
        self.activation = spelled(activation, len(widths) - 2)
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
        found = {}
        for layer, dense in enumerate(self.chain[:-1], start=1):
            entry = dense.activation
            assert entry is not None
            facts = UnitFacts(
                name=f"layer {layer}",
                homogeneous=entry.homogeneous,
                parity=entry.parity,
                kinked=entry.kinked,
                linear=entry.linear,
                absorbs=self.chain[layer].bias or "",
            )
            neurons = self.neurons(layer)
            found[layer] = Units(neurons.incoming, neurons.outgoing, neurons.units, facts)
        return found

    @property
    def chain(self) -> Chain:
        """The layers as the closed forms ask for them."""
        entries = [*layer_activations(self.activation, self.depth - 1)[: self.depth - 1], None]
        return tuple(
            Dense(
                weight=f"{2 * k}.weight",
                bias=f"{2 * k}.bias" if self.bias else None,
                outgoing=f"{2 * k + 2}.weight" if k < self.depth - 1 else None,
                inputs=self.widths[k],
                outputs=self.widths[k + 1],
                activation=entries[k],
            )
            for k in range(self.depth)
        )

    def trace(
        self, parameters: Parameters, inputs: Any, probes: Mapping[int, Array] | None = None
    ) -> tuple[Traced, ...]:
        """Return what every layer reads and computes; probes, by layer from 1, are added to preactivations."""
        return trace_chain(self.chain, parameters, inputs, probes)

    def with_units(self, counts: Mapping[int, int]) -> "MLP":
        """Return the network with other numbers of neurons in the hidden layers named, from 1.

        Raises:
            NeuronsError: no such hidden layer.
            SettingsError: a number below 1.
        """
        for layer in counts:
            self._check_layer(layer)
        widths = tuple(counts.get(k, width) for k, width in enumerate(self.widths))
        return MLP(widths, self.activation, bias=self.bias)

    def with_activation(self, activation: str) -> "MLP":
        """Return the network with another activation.

        Raises:
            SettingsError: see the class.
        """
        return MLP(self.widths, activation, bias=self.bias)

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
        return self.trace(parameters, inputs)[-1].outputs

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
        return layer_activations(self.activation, self.depth - 1)[layer - 1].homogeneous

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
