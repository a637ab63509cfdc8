"""Chains of dense layers as they tell of themselves, and what they compute on the way: the one forward pass of all.

Closed forms (kinks, G and B, Kronecker factors, costs of merges) ask a model's ``chain`` for names, sizes and
activations, and its ``trace`` for numbers. What a class is called, and how its arrays are, is nobody's business.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeGuard, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from saddlescope.arrays import Layout, Parameters
from saddlescope.models.units import Model, Parity


class Kink(NamedTuple):
    """A place where g' or g'' jumps, and the slopes there on either side."""

    at: float
    below: float
    above: float


@dataclass(frozen=True)
class Activation:
    """An activation function g and what is known of it.

    ``homogeneous``: g(s z) = s g(z) for s > 0. ``parity``: "odd", "odd+constant" or "even+linear", the functions that
    g is the sum of, which give further equivalent networks ([S21] excludes them). ``kinks``: where it is not twice
    differentiable, in order. ``polynomial``: a polynomial between these; else it is analytic there.
    """

    name: str
    function: Callable[[Array], Array]
    homogeneous: bool = False
    parity: Parity = "none"
    kinks: tuple[Kink, ...] = ()
    polynomial: bool = False

    @property
    def kinked(self) -> bool:
        """Whether g' jumps somewhere."""
        return any(kink.below != kink.above for kink in self.kinks)

    @property
    def linear(self) -> bool:
        """Whether nothing bends."""
        return self.homogeneous and not self.kinks

    @property
    def slopes(self) -> tuple[float, float] | None:
        """The slopes below and above zero of a homogeneous function; None for another."""
        if not self.homogeneous:
            return None
        return (self.kinks[0].below, self.kinks[0].above) if self.kinks else (1.0, 1.0)

    def derivative(self, z: Array, order: int = 1) -> Array:
        """Return g'(z) or g''(z), entry by entry."""
        return (self.function, self._rise, self._bend)[order](z)

    def _rise(self, z: Array) -> Array:
        return jax.jvp(self.function, (z,), (jnp.ones_like(z),))[1]

    def _bend(self, z: Array) -> Array:
        return jax.jvp(self._rise, (z,), (jnp.ones_like(z),))[1]


@dataclass(frozen=True)
class Dense:
    """One layer of a chain: the names of its arrays, its sizes, and the activation behind it; no numbers.

    ``weight`` (outputs, inputs); ``bias``: None without; ``outgoing``: the next layer's weight, and ``activation``:
    both None for the last layer.
    """

    weight: str
    bias: str | None
    outgoing: str | None
    inputs: int
    outputs: int
    activation: Activation | None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the layer's arrays."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)

    def padded(self, rows: Any) -> Any:
        """Return inputs of the layer with a column of ones for its bias, if it has one; of either library's arrays."""
        if self.bias is None:
            return rows
        library = np if isinstance(rows, np.ndarray) else jnp
        return library.concatenate([rows, library.ones_like(rows[:, :1])], axis=1)

    def matrix(self, arrays: Mapping[str, Any]) -> Any:
        """Return the weight with the bias as last column; of either library's arrays."""
        weight = arrays[self.weight]
        if self.bias is None:
            return weight
        library = np if isinstance(weight, np.ndarray) else jnp
        return library.concatenate([weight, arrays[self.bias][:, None]], axis=1)

    def arrays(self, matrix: Any) -> dict[str, Any]:
        """Undo `matrix`."""
        if self.bias is None:
            return {self.weight: matrix}
        return {self.weight: matrix[:, : self.inputs], self.bias: matrix[:, self.inputs]}

    def positions(self, layout: Layout) -> np.ndarray:
        """Return where the entries of `matrix` lie in the flattened parameters."""
        offsets = layout.offsets()
        places = offsets[self.weight] + np.arange(self.outputs * self.inputs).reshape(self.outputs, self.inputs)
        if self.bias is None:
            return places
        return np.concatenate([places, offsets[self.bias] + np.arange(self.outputs)[:, None]], axis=1)


Chain = tuple[Dense, ...]


class Traced(NamedTuple):
    """What a layer of a chain reads and computes: a row a sample."""

    layer: Dense
    inputs: Float[Array, "samples inputs"]
    preactivations: Float[Array, "samples outputs"]
    outputs: Float[Array, "samples outputs"]


@runtime_checkable
class Traceable(Model, Protocol):
    """A model that tells what goes on inside: a chain of dense layers, whose arrays the layout has in this order."""

    @property
    def chain(self) -> Chain:
        """The layers in order of computation, the last without an activation; layer k is the k-th, from 1."""
        ...

    def trace(
        self, parameters: Parameters, inputs: Any, probes: Mapping[int, Array] | None = None
    ) -> tuple[Traced, ...]:
        """Return what every layer reads and computes; probes, by layer from 1, are added to preactivations."""
        ...


def trace_chain(
    chain: Chain, parameters: Parameters, inputs: Any, probes: Mapping[int, Array] | None = None
) -> tuple[Traced, ...]:
    """Return what every layer of a chain reads and computes.

    Args:
        chain: the layers.
        parameters: their arrays.
        inputs: a row a sample.
        probes: by layer, from 1: what is added to its preactivations, so that a derivative by it can be taken.
    """
    here, found = jnp.asarray(inputs), []
    for number, layer in enumerate(chain, start=1):
        z = here @ jnp.asarray(parameters[layer.weight]).T
        if layer.bias is not None:
            z = z + jnp.asarray(parameters[layer.bias])[None, :]
        if probes is not None and number in probes:
            z = z + probes[number]
        after = z if layer.activation is None else layer.activation.function(z)
        found.append(Traced(layer, here, z, after))
        here = after
    return tuple(found)


def is_traceable(model: object) -> TypeGuard[Traceable]:
    """Return whether the closed forms for chains of dense layers hold for a model: it tells its chain, all of it."""
    chain: Chain = getattr(model, "chain", ())
    if not chain or not callable(getattr(model, "trace", None)):
        return False
    layout: Any = getattr(model, "layout", None)
    return layout is not None and tuple(name for layer in chain for name in layer.names) == layout.names
