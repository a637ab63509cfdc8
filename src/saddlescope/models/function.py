"""A model from any pure function of named arrays and inputs, with the units that were found in it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from saddlescope.arrays import Layout, Parameters, fingerprint
from saddlescope.errors import NeuronsError, SettingsError, ShapeError
from saddlescope.models.units import Symmetry, Units


@dataclass(frozen=True)
class Input:
    """The shape of one sample and the kind of its numbers: ``f``loat, ``i``nteger or ``b``oolean."""

    shape: tuple[int, ...]
    kind: str

    @property
    def size(self) -> int:
        """Number of entries of one sample."""
        return math.prod(self.shape)

    def cast(self, value: Any) -> Array:
        """Return the values in this shape and kind; floats keep their precision."""
        array = jnp.asarray(value)
        array = array.reshape(array.shape[0], *self.shape)
        return array if self.kind == "f" else array.astype(jnp.int64 if self.kind == "i" else jnp.bool_)


@dataclass(frozen=True, eq=False)
class Function:
    """A model given by ``function(arrays, *inputs)``; it holds structure and fixed arrays, not the trained ones.

    Models are compared by identity: programs compiled for one are not shared with another.

    Attributes:
        function: outputs, a row for each sample, from all arrays (trained and fixed) and the inputs.
        layout: the trained arrays, by the user's own names.
        fixed: arrays that are not trained: running statistics, frozen parameters.
        inputs: what each input looks like.
        output: the shape of one sample's output.
        symmetries: the groups of units that were found and tried.
        origin: where the model comes from, for records.
        operations: the number of JAX operations.
        source: names, shapes and types in the user's own file, where they differ from the layout's.
    """

    function: Callable[..., Array]
    layout: Layout
    fixed: Mapping[str, np.ndarray]
    inputs: tuple[Input, ...]
    output: tuple[int, ...]
    symmetries: tuple[Symmetry, ...] = ()
    origin: str = "function"
    operations: int = 0
    source: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    # The contract of a model.

    @property
    def layers(self) -> Mapping[int, Units]:
        """The units of the layers that paths can lead through, by number from 1, in order of computation."""
        return {group.layer: group.neurons for group in self.symmetries if group.layer is not None}

    def apply(self, parameters: Parameters, inputs: Any) -> Array:
        """Return the outputs for a batch.

        Args:
            parameters: the trained arrays.
            inputs: one array, batch first, each sample in its own shape or flattened; or a tuple of one for each
                input. Several inputs may also come as one matrix, flattened and side by side.
        """
        outputs = self.function({**parameters, **self.fixed}, *self.split(inputs))
        return outputs.reshape(-1, 1) if outputs.ndim == 1 else outputs

    def split(self, inputs: Any) -> list[Array]:
        """Return the inputs one by one, each sample in its own shape."""
        if isinstance(inputs, tuple | list) and len(inputs) == len(self.inputs):
            return [one.cast(value) for one, value in zip(self.inputs, inputs, strict=True)]
        if len(self.inputs) == 1:
            return [self.inputs[0].cast(inputs)]
        edges = np.cumsum([one.size for one in self.inputs])[:-1]
        return [one.cast(v) for one, v in zip(self.inputs, jnp.split(jnp.asarray(inputs), edges, axis=1), strict=True)]

    def describe(self) -> dict[str, object]:
        """Return what a record needs to recognise the model."""
        return {
            "model": self.origin,
            "parameters": self.layout.size,
            "operations": self.operations,
            "inputs": [list(one.shape) for one in self.inputs],
            "output": list(self.output),
            "layers": {str(group.layer): group.name for group in self.symmetries if group.layer is not None},
            "fixed": fingerprint(self.fixed) if self.fixed else None,
        }

    # What the verbs ask besides.

    def symmetry(self, layer: int | str) -> Symmetry:
        """Return the group of a layer, by number or name.

        Raises:
            NeuronsError: no such layer.
        """
        for group in self.symmetries:
            if group.layer is not None and (group.name == layer or group.layer == layer):
                return group
        known = ", ".join(f"{group.layer} ({group.name})" for group in self.symmetries if group.layer is not None)
        other = next((group for group in self.symmetries if group.name == layer), None)
        raise NeuronsError(
            "no such layer" if other is None else f"units that no path can lead through ({other.reasons[-1]})",
            name="layer",
            value=layer,
            expected=known if len(known) < 200 else f"1 to {len(self.layers)}",
        )

    def neurons(self, layer: int | str) -> Units:
        """Return the units of a layer, by number or name.

        Raises:
            NeuronsError: no such layer, or one whose units differ in arrays that are not trained.
        """
        group = self.symmetry(layer)
        for piece in group.moves_along:
            value = np.moveaxis(np.asarray(self.fixed[piece.name]), piece.axis, 0)
            rows = value[piece.start : piece.start + group.units * piece.block].reshape(group.units, -1)
            if not (rows == rows[0]).all():
                raise NeuronsError(
                    f"the units of {group.name} differ in an array that is not trained, so that exchanging what is "
                    "trained changes the outputs",
                    name="array",
                    value=piece.name,
                    advice="Running statistics: read the module with from_torch(..., statistics='folded')",
                )
        return group.neurons

    def homogeneous(self, layer: int | str) -> bool:
        """Return whether the scale of each unit of a layer is open."""
        return self.symmetry(layer).homogeneous

    def check(self, parameters: Parameters) -> None:
        """Refuse parameters whose names or shapes are not this model's.

        Raises:
            ShapeError: a missing or unknown array, or a wrong shape.
        """
        wanted = dict(zip(self.layout.names, self.layout.shapes, strict=True))
        given = {name: tuple(np.shape(value)) for name, value in parameters.items()}
        if given != wanted:
            wrong = [name for name in {**wanted, **given} if given.get(name) != wanted.get(name)]
            raise ShapeError(
                "the parameters do not fit the model",
                name=wrong[0] if wrong else "order",
                value=given.get(wrong[0], "missing") if wrong else tuple(given)[:4],
                expected=str(wanted.get(wrong[0], "no such array")),
            )

    def initial(self, seed: int) -> dict[str, np.ndarray]:
        """Refuse: how a model of one's own is started is not known here.

        Raises:
            SettingsError: always.
        """
        raise SettingsError(
            "a model of your own has no starts of its own",
            name="seed",
            value=seed,
            advice="Give the parameters to start from (initial=...)",
        )

    def with_symmetries(self, symmetries: tuple[Symmetry, ...], operations: int) -> "Function":
        """Return the model with these units."""
        return replace(self, symmetries=symmetries, operations=operations)
