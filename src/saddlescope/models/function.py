"""A model from any pure function of named arrays and inputs, with the units that were found in it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from saddlescope.arrays import Layout, Parameters, fingerprint
from saddlescope.errors import NeuronsError, SaddlescopeError, SettingsError, ShapeError
from saddlescope.models.sizes import require_resizable_layer
from saddlescope.models.units import Symmetry, Units
from saddlescope.precision import float64


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
        rebuild: makes the function anew for arrays of other shapes, where its program holds shapes of its own.
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
    rebuild: Callable[[Mapping[str, np.ndarray]], Callable[..., Array]] | None = None

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

    # Other numbers of units.

    def with_units(self, counts: Mapping[int, int]) -> "Function":
        """Return this model with other numbers of units in some layers: arrays get longer or shorter along their axes.

        Args:
            counts: by layer, how many units it is to have, 1 or more.

        Raises:
            NeuronsError: no such layer, or units that differ in an array that is not trained.
            SettingsError: units whose number cannot change, or code that has their number built in.
        """
        groups = {number: self.symmetry(number) for number in counts}
        shapes = dict(zip(self.layout.names, map(list, self.layout.shapes), strict=True))
        fixed = {name: np.asarray(value) for name, value in self.fixed.items()}
        for number, group in groups.items():
            require_resizable_layer(self, number)
            self.neurons(number)
            for piece in (*group.incoming, *group.outgoing):
                shapes[piece.name][piece.axis] = counts[number] * piece.block
            for piece in group.moves_along:  # alike in all units
                one = np.take(fixed[piece.name], np.arange(piece.block), axis=piece.axis)
                fixed[piece.name] = np.concatenate([one] * counts[number], axis=piece.axis)
        layout = Layout(self.layout.names, tuple(tuple(shape) for shape in shapes.values()))
        symmetries = tuple(
            group if group.layer is None else replace(group, units=counts.get(group.layer, group.units))
            for group in self.symmetries
        )
        other = replace(self, layout=layout, fixed=fixed, symmetries=symmetries)
        why = other._runs()
        if why is not None and self.rebuild is not None:
            other, why = other._rebuilt(why)
        if why is not None:
            raise SettingsError(
                f"the model's code has its number of units built in ({why})",
                name="units",
                value=", ".join(f"{groups[number].name} {count}" for number, count in counts.items()),
                advice="Let it read shapes from its arrays",
            )
        return other

    def _rebuilt(self, why: str) -> "tuple[Function, str | None]":
        """Return the model with its function made anew for its shapes, and why it does not run all the same."""
        assert self.rebuild is not None
        draw, named = np.random.default_rng(0), zip(self.layout.names, self.layout.shapes, strict=True)
        try:
            function = self.rebuild({**{name: draw.normal(size=shape) for name, shape in named}, **self.fixed})
        except SaddlescopeError as error:
            return self, f"{why}; {str(error)[:160]}"
        other = replace(self, function=function)
        return other, other._runs()

    def _runs(self) -> str | None:
        """Return why the model does not run on arrays of its shapes, without computing; None if it does."""
        with float64():
            arrays = {
                n: jax.ShapeDtypeStruct(s, jnp.float64)
                for n, s in zip(self.layout.names, self.layout.shapes, strict=True)
            }
            fixed = {name: jax.ShapeDtypeStruct(value.shape, value.dtype) for name, value in self.fixed.items()}
            kinds = {"f": jnp.float64, "i": jnp.int64, "b": jnp.bool_}
            data = [jax.ShapeDtypeStruct((2, *one.shape), kinds[one.kind]) for one in self.inputs]
            try:
                found = jax.eval_shape(self.function, {**arrays, **fixed}, *data)
            except Exception as error:  # of the user's own code
                line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
                return line[:120].rstrip(".")
        return None if found.shape == (2, *self.output) else f"outputs of shape {found.shape[1:]}"
