"""Any object that keeps the contract of a model, in the one form that every verb works with.

A model has ``layout``, ``apply`` and, for what leads through its units, ``layers`` (`models.units.Model`). What else
the verbs ask (units of one layer, checks of parameters, a description for records) is derived here where a class does
not have it. Classes that tell their units by ``neurons(layer)`` alone are asked for layer 1, 2, ... until they refuse.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from saddlescope.arrays import Layout, Parameters
from saddlescope.errors import NeuronsError, SettingsError, ShapeError
from saddlescope.models.units import UnitFacts, Units
from saddlescope.units.neurons import Neurons

WHOLE = ("layout", "apply", "layers", "neurons", "homogeneous", "check", "describe", "initial")
"""What the verbs ask; a class that has all of it is taken as it is."""

KINDS = "a MLP, a model of from_torch, from_function, from_flax or from_equinox, or your own layout and apply"

ENTRY_BYTES = 16
"""Memory of a number on the way through a model that is kept for the gradient, and of its derivative."""


@dataclass(frozen=True, eq=False)
class Adapted:
    """A model of the user's own class with everything that the verbs ask; it is equal to what it stands for."""

    model: Any
    layers: Mapping[int, Units]

    @property
    def layout(self) -> Layout:
        """Names and shapes of the trained arrays."""
        return self.model.layout

    def apply(self, parameters: Parameters, inputs: Any) -> Any:
        """Return the outputs, a row for each sample."""
        return self.model.apply(parameters, inputs)

    def neurons(self, layer: int | str) -> Neurons:
        """Return the units of a layer, by number or name.

        Raises:
            NeuronsError: no such layer.
        """
        if hasattr(self.model, "neurons") and not isinstance(layer, str):
            return self.model.neurons(layer)
        return self.layers[layer_number(self, layer)]

    def homogeneous(self, layer: int | str) -> bool:
        """Return whether the scale of each unit of a layer is open."""
        return self.layers[layer_number(self, layer)].facts.homogeneous

    def check(self, parameters: Parameters) -> None:
        """Refuse parameters whose names or shapes are not this model's.

        Raises:
            ShapeError: a missing or unknown array, or a wrong shape.
        """
        if hasattr(self.model, "check"):
            self.model.check(parameters)
        require_shapes(self.layout, parameters)

    def initial(self, seed: int) -> dict[str, np.ndarray]:
        """Return the model's own start.

        Raises:
            SettingsError: it has none.
        """
        if hasattr(self.model, "initial"):
            return self.model.initial(seed)
        raise SettingsError(
            "a model of your own has no starts of its own",
            name="seed",
            value=seed,
            advice="Give the parameters to start from (initial=...)",
        )

    def describe(self) -> dict[str, object]:
        """Return what a record needs to recognise the model."""
        if hasattr(self.model, "describe"):
            return dict(self.model.describe())
        told = {name: getattr(self.model, name) for name in ("widths", "activation", "bias") if hasattr(self, name)}
        named = {str(k): units.facts.name for k, units in self.layers.items()}
        return {"model": type(self.model).__qualname__, "parameters": self.layout.size, "layers": named, **told}

    def __getattr__(self, name: str) -> Any:
        """Return what else the user's class has."""
        if name.startswith("__") or name == "model":
            raise AttributeError(name)
        return getattr(self.model, name)

    def __eq__(self, other: object) -> bool:
        """Compare what it stands for; what cannot be hashed is equal to itself only."""
        other = unwrapped(other)
        return self.model is other or (_hashable(self.model) and bool(self.model == other))

    def __hash__(self) -> int:
        """Hash what it stands for."""
        return hash(self.model) if _hashable(self.model) else id(self.model)


def adapted(model: Any) -> Any:
    """Return the model with everything that the verbs ask; a whole one as it is.

    Raises:
        SettingsError: no model, units that are none, or a description that no record can hold.
    """
    if isinstance(model, Adapted) or all(hasattr(model, name) for name in WHOLE):
        return model
    if isinstance(model, type) or not isinstance(getattr(model, "layout", None), Layout) or not _calls(model, "apply"):
        raise SettingsError("this is not a model", name="network", value=_said(model), expected=KINDS)
    found = Adapted(model, _layers(model))
    try:
        json.dumps(found.describe(), default=lambda value: np.asarray(value).tolist())
    except (TypeError, ValueError) as error:
        raise SettingsError(
            "what the model says of itself cannot be kept in a record",
            name="describe()",
            value=error,
            expected="numbers, words, lists and dicts",
        ) from error
    return found


def unwrapped(model: Any) -> Any:
    """Return the user's own object."""
    return model.model if isinstance(model, Adapted) else model


def layer_number(model: Any, layer: int | str) -> int:
    """Return the number of a layer that is given by number or name.

    Raises:
        NeuronsError: no such layer.
    """
    layers = model.layers
    found = [k for k, units in layers.items() if layer == (units.facts.name if isinstance(layer, str) else k)]
    if isinstance(layer, bool) or len(found) != 1:
        names = ", ".join(f"{k} ({units.facts.name})" if units.facts.name else str(k) for k, units in layers.items())
        raise NeuronsError(
            "no such layer",
            name="layer",
            value=layer,
            expected=names if layers else "nothing: this model has no layers of units",
        )
    return int(found[0])


def exchangeable_layers(model: Any) -> dict[int, Units]:
    """Return the layers whose units can be exchanged as they stand: those with frozen differences are left out."""
    found: dict[int, Units] = {}
    for number, units in model.layers.items():
        try:
            model.neurons(number)
        except NeuronsError:
            continue
        found[number] = units
    return found


def require_shapes(layout: Layout, parameters: Parameters) -> None:
    """Refuse parameters of other names or shapes.

    Raises:
        ShapeError: a missing or unknown array, or a wrong shape.
    """
    wanted = dict(zip(layout.names, layout.shapes, strict=True))
    given = {name: tuple(np.shape(value)) for name, value in parameters.items()}
    if given == wanted:
        return
    wrong = next(name for name in {**wanted, **given} if given.get(name) != wanted.get(name))
    raise ShapeError(
        "the parameters do not fit the model",
        name=wrong,
        value=given.get(wrong, "missing"),
        expected=str(wanted.get(wrong, "no such array")),
    )


def arguments(model: Any) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the shapes of the parameters in float64."""
    layout = model.layout
    return {n: jax.ShapeDtypeStruct(s, jnp.float64) for n, s in zip(layout.names, layout.shapes, strict=True)}


def output_of(model: Any, shape: tuple[int, ...], kind: Any) -> jax.ShapeDtypeStruct:
    """Return the form of the outputs for inputs of this form, without computing; in float64.

    Raises:
        ShapeError: the model does not run on such inputs, or its outputs are no float64 array with a row per sample.
    """
    try:
        out = jax.eval_shape(model.apply, arguments(model), jax.ShapeDtypeStruct(shape, kind))
    except Exception as error:
        line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ShapeError(
            f"data and network do not fit: it does not run on them ({line[:160].rstrip('.')})",
            name="shape of a sample",
            value=f"{shape[1:]} of {jnp.dtype(kind)}",
        ) from error
    if not isinstance(out, jax.ShapeDtypeStruct) or out.dtype != jnp.float64 or out.shape[:1] != shape[:1]:
        told = f"{out.dtype} {out.shape}" if isinstance(out, jax.ShapeDtypeStruct) else type(out).__name__
        raise ShapeError(
            "the outputs are not double precision with a row for each sample",
            name=f"outputs for {shape[0]} samples",
            value=told,
            expected=f"one float64 array of {shape[0]} rows",
            advice="Let apply keep its arguments' types",
        )
    return out


def as_taken(model: Any, rows: np.ndarray) -> np.ndarray:
    """Return inputs in the kind of numbers that the model takes: floats, or integers as they are where it needs them.

    Raises:
        ShapeError: it runs on neither.
    """
    stated = getattr(model, "input_shape", None)
    if stated is not None and rows.shape[1:] != tuple(stated):
        of_vector = len(stated) == 1 and rows.ndim == 2
        raise ShapeError(
            "data and network do not fit",
            name="inputs per sample",
            value=rows.shape[1] if of_vector else rows.shape[1:],
            expected=str(stated[0] if of_vector else tuple(stated)),
        )
    if rows.dtype.kind == "f" or stated is not None:
        return rows.astype(np.float64, copy=False)
    try:
        output_of(model, (2, *rows.shape[1:]), jnp.float64)
    except ShapeError:
        output_of(model, (2, *rows.shape[1:]), rows.dtype)
        return rows
    return rows.astype(np.float64)


def sample_bytes(model: Any, shape: tuple[int, ...], kind: Any) -> int:
    """Return about how much memory a sample's gradient takes: the model's own word, or all numbers on the way."""
    own = getattr(model, "sample_bytes", None)
    if own is not None:
        return int(own)
    sizes = []
    for samples in (2, 3):
        rows = jax.ShapeDtypeStruct((samples, *shape), kind)
        sizes.append(_numbers(jax.make_jaxpr(model.apply)(arguments(model), rows).jaxpr))
    return 8 * math.prod(shape) + ENTRY_BYTES * max(1, sizes[1] - sizes[0])


def _numbers(jaxpr: Jaxpr) -> int:
    """Return how many numbers the equations of a program make."""
    total = 0
    for equation in jaxpr.eqns:
        inner = list(_programs(equation.params))
        repeats = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        own = sum(math.prod(getattr(variable.aval, "shape", ())) for variable in equation.outvars)
        total += repeats * max(map(_numbers, inner)) if inner else own
    return total


def _programs(options: Mapping[str, Any]) -> Iterator[Jaxpr]:
    for value in options.values():
        for one in value if isinstance(value, list | tuple) else (value,):
            if isinstance(one, ClosedJaxpr | Jaxpr):
                yield one.jaxpr if isinstance(one, ClosedJaxpr) else one


def _layers(model: Any) -> dict[int, Units]:
    """Return the units of all layers with their facts.

    Raises:
        SettingsError: layers that are no units by number from 1.
    """
    given = getattr(model, "layers", None)
    if not isinstance(given, Mapping) and _calls(model, "neurons"):
        scale: Callable[[int], bool] = getattr(model, "homogeneous", lambda _: False)
        return {k: _with_facts(units, UnitFacts(homogeneous=bool(scale(k)))) for k, units in _asked(model)}
    layers = given if isinstance(given, Mapping) else {} if given is None else {0: given}
    if set(layers) != set(range(1, len(layers) + 1)) or not all(isinstance(u, Neurons) for u in layers.values()):
        raise SettingsError(
            "the layers are not units by number", name="layers", value=given, expected="{1: Units, 2: Units, ...}"
        )
    return {k: _with_facts(layers[k], UnitFacts()) for k in sorted(layers)}


def _asked(model: Any) -> Iterator[tuple[int, Neurons]]:
    """Ask for one layer after the other, until there is none, or only such as were told before."""
    seen: list[Neurons] = []
    while True:
        try:
            units = model.neurons(len(seen) + 1)
        except (NeuronsError, LookupError, ValueError):
            return
        if not isinstance(units, Neurons) or units in seen:
            return
        seen.append(units)
        yield len(seen), units


def _with_facts(units: Neurons, facts: UnitFacts) -> Units:
    if isinstance(units, Units):
        return units
    return Units(units.incoming, units.outgoing, units.units, replace(facts, resizable=units.units is None))


def _calls(model: Any, name: str) -> bool:
    return callable(getattr(model, name, None))


def _hashable(model: Any) -> bool:
    try:
        hash(model)
    except TypeError:
        return False
    return True


def _said(model: Any) -> str:
    return model.__name__ if isinstance(model, type) else f"a {type(model).__qualname__}"
