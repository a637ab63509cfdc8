"""A model of the user's own class is tried once, before anything is computed with it.

Its outputs are the same twice, belong to each sample for itself, and stay when the units of a layer are exchanged; when
one slice is left out of the exchange, they do not.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from saddlescope.errors import NeuronsError, SettingsError
from saddlescope.models.contract import Adapted
from saddlescope.models.laws import OTHER, SAME, derangement, permuted, scattered
from saddlescope.models.tracing import Place, free_groups
from saddlescope.models.units import Units

SAMPLES, TRIES = 8, 2


@eqx.filter_jit
def _outputs(model: Any, parameters: Mapping[str, Array], rows: Array) -> Array:
    return model.apply(parameters, rows)


def require_sound(model: Any, inputs: np.ndarray) -> None:
    """Refuse a user's own model that is random, mixes samples, or whose units are not what it says; in float64.

    Models of this package are known to be sound: their units follow from their form, or were tried when found.

    Args:
        model: what `adapted` returned.
        inputs: of the kind that the model takes.

    Raises:
        SettingsError: outputs that differ from call to call, or of one sample with the others.
        NeuronsError: slices that do not fit, or that do not make units.
    """
    if not isinstance(model, Adapted):
        return
    rows = inputs[:: max(1, len(inputs) // SAMPLES)][:SAMPLES]
    _require_repeatable(model, _parameters(model, 0), rows)
    tried = (_Tried.at(model, _parameters(model, seed), rows) for seed in range(2 * TRIES))
    trials = [one for one in tried if np.isfinite(one.outputs).all()][:TRIES]
    if not trials:  # no parameters drawn at random lie in its domain: nothing can be tried
        return
    _require_separate(trials[0])
    for number, units in model.layers.items():
        _require_units(trials, number, units)


class _Tried(eqx.Module):
    """A model at parameters drawn at random, with a few samples and its outputs there."""

    model: Any
    parameters: dict[str, np.ndarray]
    rows: np.ndarray
    outputs: np.ndarray

    @staticmethod
    def at(model: Any, parameters: dict[str, np.ndarray], rows: np.ndarray) -> "_Tried":
        return _Tried(model, parameters, rows, _compute(model, parameters, rows))

    def change(self, changed: Mapping[str, np.ndarray]) -> float:
        """Return the largest change of the outputs, relative to the largest output."""
        gap = np.abs(_compute(self.model, {**self.parameters, **changed}, self.rows) - self.outputs).max(initial=0.0)
        largest = float(np.abs(self.outputs).max(initial=0.0))
        return float(gap) / (largest or 1.0) if np.isfinite(gap) else np.inf


def _compute(model: Any, parameters: Mapping[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    arrays = {name: jnp.asarray(value) for name, value in parameters.items()}
    return np.asarray(_outputs(model, arrays, jnp.asarray(rows)))


def _parameters(model: Any, seed: int) -> dict[str, np.ndarray]:
    """Return parameters of ordinary size, each seed others; odd seeds without negative ones, such as variances."""
    generator, found = np.random.default_rng([seed, 11]), {}
    for name, shape in zip(model.layout.names, model.layout.shapes, strict=True):
        width = int(np.prod(shape[1:])) if len(shape) > 1 else 4
        value = generator.standard_normal(shape) / np.sqrt(max(1, width))
        found[name] = np.abs(value) + 0.1 if seed % 2 else value
    return found


def _require_repeatable(model: Any, parameters: Mapping[str, np.ndarray], rows: np.ndarray) -> None:
    arrays = {name: jnp.asarray(value) for name, value in parameters.items()}
    first, again = (np.asarray(model.apply(arrays, jnp.asarray(rows))) for _ in range(2))
    if not np.array_equal(first, again, equal_nan=True):
        raise SettingsError(
            "the model gives different outputs for the same inputs",
            name="largest difference",
            value=float(np.nanmax(np.abs(first - again))),
            expected="0",
            advice="Switch off dropout and noise",
        )


def _require_separate(trial: _Tried) -> None:
    """Refuse a model in which one sample changes another's outputs."""
    if len(trial.rows) < 2:
        return
    others = np.concatenate([trial.rows[:1], trial.rows[-1:].repeat(len(trial.rows) - 1, 0)])
    gap = np.abs(_compute(trial.model, trial.parameters, others)[0] - trial.outputs[0]).max(initial=0.0)
    if not gap <= 1e-9 * np.abs(trial.outputs).max(initial=0.0):
        raise SettingsError(
            "the samples of a batch change each other's outputs (statistics of the batch, or inputs that are not batch "
            "first)",
            name="change of sample 0",
            value=float(gap),
            expected="0",
        )


def _require_units(trials: Sequence[_Tried], layer: int, units: Units) -> None:
    """Refuse slices that are not one layer's interchangeable units."""
    first = trials[0]
    count = units.count(first.parameters)
    places = list(dict.fromkeys(_place(piece) for piece in (*units.incoming, *units.outgoing)))
    if count < 2 or not places:
        return
    generator = np.random.default_rng(layer)
    orders = [derangement(count, generator) for _ in trials]
    for trial, order in zip(trials, orders, strict=True):
        change = trial.change(permuted(trial.parameters, count, places, order))
        if change > SAME:
            missing = _missing(trial, count, places)
            raise NeuronsError(
                f"exchanging the units of layer {layer} changes the outputs (by {change:.1e} of their size): "
                + (f"slices forgotten, or too many ({missing})" if missing else "a slice is forgotten or wrong"),
                name="slices",
                value=", ".join(f"{place.name} axis {place.axis}" for place in places),
                expected="all that belongs to a unit",
                advice="saddlescope.symmetries(model, params, x) lists what belongs together",
            )
    for place in places if len(places) > 1 else ():
        rest = [other for other in places if other != place]
        gaps = [t.change(permuted(t.parameters, count, rest, o)) for t, o in zip(trials, orders, strict=True)]
        if max(gaps) < OTHER and _felt(first, place):
            raise NeuronsError(
                f"a slice of layer {layer} does not belong to its units: without it their exchange changes nothing",
                name="slice",
                value=f"{place.name} axis {place.axis}",
                expected="only what belongs to a unit",
            )


def _place(piece: Any) -> Place:
    return Place(piece.name, piece.axis, piece.start, 1, piece.block)


def _felt(trial: _Tried, place: Place) -> bool:
    """Whether the outputs depend on an array at all."""
    return trial.change({place.name: scattered({place.name: trial.parameters[place.name]}, 1)[place.name]}) > SAME


def _missing(trial: _Tried, count: int, places: Sequence[Place]) -> str:
    """Return what the axes of the computation say of the units: the slices that belong to them and are not named."""
    groups, _ = free_groups(trial.model.apply, trial.parameters, trial.rows)
    named = {(place.name, place.axis % trial.parameters[place.name].ndim) for place in places}
    best = max(
        (group for group in groups if group.units == count),
        key=lambda group: len(named & {(place.name, place.axis) for place in group.places}),
        default=None,
    )
    if best is None:
        return ""
    found = {(place.name, place.axis) for place in best.places}
    if not found & named:
        return ""
    return ", ".join(f"{name} axis {axis}" for name, axis in sorted(found ^ named))
