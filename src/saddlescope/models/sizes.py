"""How many units a model has, and the same model with other numbers of them."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Protocol, runtime_checkable

from saddlescope.errors import SettingsError
from saddlescope.models.chain import is_traceable
from saddlescope.models.contract import Adapted, adapted, unwrapped
from saddlescope.models.units import Model


@runtime_checkable
class Resizable(Model, Protocol):
    """A model that can be built with other numbers of units."""

    def with_units(self, counts: Mapping[int, int]) -> "Resizable":
        """Return a model like this one, its layers of these numbers with so many units, the others as they are."""
        ...


def unit_counts(model: Any) -> dict[int, int]:
    """Return the number of units of each layer, by number from 1."""
    return {layer: units.count_in(model.layout) for layer, units in model.layers.items()}


def layer_sizes(model: Any) -> tuple[int, ...]:
    """Return the numbers of inputs, of each layer's units, and of outputs of a chain, or as a class of its own says.

    Of other models only the numbers of each layer's units are known.
    """
    if is_traceable(model):
        return (model.chain[0].inputs, *(layer.outputs for layer in model.chain))
    own = unwrapped(model)
    return tuple(own.widths) if hasattr(own, "widths") else tuple(unit_counts(model).values())


def with_units(model: Any, counts: Mapping[int, int]) -> Any:
    """Return a model like this one with other numbers of units in the layers named.

    A class of the user's own has ``with_units``, or is a dataclass with ``widths`` of all layers, the inputs' first.

    Raises:
        SettingsError: a model that cannot be built with other numbers.
    """
    require_resizable(model, "a change of widths")
    own = unwrapped(model)
    if hasattr(own, "with_units"):
        other = own.with_units(counts)
    else:
        other = replace(own, widths=tuple(counts.get(k, width) for k, width in enumerate(own.widths)))
    return adapted(other) if isinstance(model, Adapted) else other


def is_resizable(model: Any) -> bool:
    """Return whether a model can be built with other numbers of units."""
    own = unwrapped(model)
    return hasattr(own, "with_units") or (is_dataclass(own) and "widths" in {field.name for field in fields(own)})


def require_resizable(model: Any, verb: str) -> None:
    """Refuse a model whose layers cannot be given other numbers of units.

    Raises:
        SettingsError: see above.
    """
    if not is_resizable(model):
        raise _refusal(model, f"{verb} needs a network that can be built in other widths")


def require_traceable(model: Any, verb: str) -> None:
    """Refuse a model that is no chain of dense layers, before anything is computed.

    Raises:
        SettingsError: see above.
    """
    if not is_traceable(model):
        raise _refusal(model, f"{verb} knows chains of dense layers only")


def _refusal(model: Any, text: str) -> SettingsError:
    own = unwrapped(model)
    return SettingsError(
        text,
        name="network",
        value=own.__name__ if isinstance(own, type) else f"a {type(own).__qualname__}",
        expected="a MLP",
        advice="Paths, certificates and walks work with any model",
    )


def require_resizable_layer(model: Any, layer: int) -> None:
    """Refuse a layer whose number of units cannot change, with the reason that was found.

    Raises:
        SettingsError: see above.
    """
    units = model.layers.get(layer)
    if units is None or units.facts.resizable:
        return
    own = unwrapped(model)
    why = (
        own.symmetry(layer).reasons
        if callable(getattr(own, "symmetry", None))
        else ("an array holds more than these units",)
    )
    raise SettingsError(
        f"the number of units of {units.facts.name or f'layer {layer}'} cannot change ({'; '.join(why)[:200]})",
        name="layer",
        value=layer,
        expected="units of which each is fed and read for itself",
    )
