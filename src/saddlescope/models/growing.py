"""Models with other numbers of units: by widths, or by ``with_units(counts)`` of their own."""

from collections.abc import Mapping
from typing import Any

from saddlescope.errors import SettingsError
from saddlescope.models.contract import (
    Adapted,
    adapted,
    arguments,
    is_resizable,
    require_resizable,
    unwrapped,
    with_widths,
)


def with_units(model: Any, counts: Mapping[int, int]) -> Any:
    """Return a model like this one with other numbers of units in some layers.

    Raises:
        SettingsError: a model, or a layer, whose number of units cannot change.
        NeuronsError: no such layer.
    """
    require_growing(model, "a change of widths")
    own = unwrapped(model)
    if is_resizable(model):
        return with_widths(model, tuple(counts.get(layer, width) for layer, width in enumerate(own.widths)))
    other = own.with_units(counts)
    return adapted(other) if isinstance(model, Adapted) else other


def unit_counts(model: Any) -> tuple[int, ...]:
    """Return the widths of a model that has some, inputs and outputs among them; else the units of each layer."""
    own = unwrapped(model)
    if is_resizable(model):
        return tuple(own.widths)
    shapes = arguments(model)
    return tuple(units.count(shapes) for units in model.layers.values())


def require_growing(model: Any, verb: str) -> None:
    """Refuse a model that has neither widths nor ``with_units(counts)``.

    Raises:
        SettingsError: see above.
    """
    if not callable(getattr(unwrapped(model), "with_units", None)):
        require_resizable(model, verb)


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
