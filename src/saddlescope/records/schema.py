"""A `Path` as one JSON document and one set of labelled arrays, and back: the format, with its version."""

from dataclasses import asdict
from typing import Any

import numpy as np

from saddlescope.errors import UNREADABLE, NeuronsError, RecordError
from saddlescope.outcomes import Outcome
from saddlescope.paths.result import Event, Growth, Path, PathSettings, PermutationPoint, Start
from saddlescope.units.neurons import Neurons, Slice

FORMAT = (1, 0)

# What stands for the stroke of a parameter's name, which netCDF keeps for groups.
_STROKE = "\N{FRACTION SLASH}"

# Arrays with one entry a node, by their field in `Path`.
NODE_ARRAYS = (
    "times",
    "distances",
    "losses",
    "gradient_norms",
    "full_gradient_norms",
    "slopes",
    "curvatures",
    "iterations",
    "converged",
    "kinds",
    "outgoing_norms",
    "accuracies",
)

SCALARS = (
    "layer",
    "solver",
    "gauge",
    "barrier",
    "continuous",
    "largest_deviation",
    "tolerance",
    "seconds",
)


def plain(value: Any, *, exact: bool = False) -> Any:
    """Return a value that JSON can hold: arrays become lists, enumerations their text, NaN and infinity None.

    With ``exact`` NaN and infinity become the words NaN, Infinity and -Infinity, so that they can be read back.
    """
    if isinstance(value, dict):
        return {str(key): plain(item, exact=exact) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, exact=exact) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist(), exact=exact)
    if isinstance(value, Outcome):
        return value.value
    if isinstance(value, float) and not np.isfinite(value):
        return _word(value) if exact else None
    return value


def _word(value: float) -> str:
    return "NaN" if np.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def document(path: Path) -> dict[str, Any]:
    """Return everything of a path that a person would read, for result.json."""
    point = path.permutation_point
    return plain(
        {
            "format": list(FORMAT),
            "kind": "path",
            "ending": path.ending,
            "advice": path.advice,
            "reasons": path.reasons,
            "pair": path.pair,
            "settings": asdict(path.settings),
            "neurons": asdict(path.neurons),
            "events": [asdict(event) for event in path.events],
            "permutation_point": None if point is None else _point_document(point),
            "evaluations": path.evaluations,
            "fingerprints": path.fingerprints,
            "versions": path.versions,
            "problem": path.problem,
            "start": None if path.start is None else asdict(path.start),
            "growth": None if path.growth is None else asdict(path.growth),
            "warnings": path.warnings,
            "units": path.units,
            "loss_unit": path.loss_unit,
            **{name: getattr(path, name) for name in SCALARS},
        },
        exact=True,
    )


def _point_document(point: PermutationPoint) -> dict[str, Any]:
    return {name: value for name, value in vars(point).items() if name not in ("parameters", "reduced")}


def arrays(path: Path) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Return (dimension names, array) for every array of a path."""
    result: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    for name in NODE_ARRAYS:
        value = getattr(path, name)
        if value is not None:
            result[name] = (("node", "neuron_of_pair")[: value.ndim], value)
    result.update(_parameter_arrays("path", path.parameters, ("node",)))
    point = path.permutation_point
    if point is not None:
        result.update(_parameter_arrays("point", point.parameters, ()))
        result.update(_parameter_arrays("reduced", point.reduced or {}, ()))
    return result


def _parameter_arrays(
    group: str, parameters: dict[str, np.ndarray], lead: tuple[str, ...]
) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    stored = {name: f"{group}.{name.replace('/', _STROKE)}" for name in parameters}
    return {
        stored[name]: ((*lead, *(f"{stored[name]}.{k}" for k in range(value.ndim - len(lead)))), value)
        for name, value in parameters.items()
    }


def rebuild(document: dict[str, Any], stored: dict[str, np.ndarray]) -> Path:
    """Return the path that a document and its arrays hold.

    Raises:
        RecordError: a field or array is missing or of the wrong form.
    """
    try:
        _check_kinds(document)
        pair = (int(document["pair"][0]), int(document["pair"][1]))
        neurons = _neurons(document["neurons"])
        first = {name: value[0] for name, value in _group(stored, "path").items()}
        neurons.check_pair(first, *pair)
        columns = {name: stored.get(name) if name == "accuracies" else stored[name] for name in NODE_ARRAYS}
        return Path(
            **columns,  # type: ignore[arg-type]
            **{name: _number(document[name]) for name in SCALARS},
            pair=pair,
            neurons=neurons,
            settings=PathSettings(**{name: _number(value) for name, value in document["settings"].items()}),
            parameters=_group(stored, "path"),
            events=tuple(_event(event) for event in document["events"]),
            ending=Outcome(document["ending"]),
            reasons=tuple(document["reasons"]),
            permutation_point=_point(document["permutation_point"], stored, pair),
            evaluations=document["evaluations"],
            fingerprints=document["fingerprints"],
            versions=document["versions"],
            problem=document["problem"],
            **_later(document),
        )
    except (*UNREADABLE, NeuronsError) as error:
        raise RecordError("a stored path is incomplete or damaged", name="field", value=error) from error


def _check_kinds(document: dict[str, Any]) -> None:
    """Refuse fields that hold something else than what they are read as."""
    for name in ("barrier", "largest_deviation", "tolerance", "seconds"):
        _require(name, _number(document[name]), (int, float))
    _require("layer", document["layer"], (int,))
    for name in ("solver", "gauge"):
        _require(name, document[name], (str,))
    for name in ("evaluations", "fingerprints", "versions", "problem"):
        _require(name, document[name], (dict,))
    for name in ("data", "parameters"):
        _require(f"fingerprints.{name}", document["fingerprints"].get(name), (str,))


def _require(name: str, value: Any, kinds: tuple[type, ...]) -> None:
    if not isinstance(value, kinds) or isinstance(value, bool):
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise TypeError(f"{name} is {value!r}, not {expected}")


def _later(document: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that records of the first version do not have, where the document has them."""
    found: dict[str, Any] = {}
    for name, kind in (("start", Start), ("growth", Growth)):
        if document.get(name) is not None:
            found[name] = kind(**{key: _number(value) for key, value in document[name].items()})
    if "warnings" in document:
        found["warnings"] = tuple(document["warnings"])
    if "units" in document:
        found["units"] = {name: float(unit) for name, unit in document["units"].items()}
        found["loss_unit"] = float(document["loss_unit"])
    return found


def _number(value: Any) -> Any:
    """Return what a field held before `plain` spelled out its NaN or infinity."""
    return float(value) if value in ("NaN", "Infinity", "-Infinity") else value


def _neurons(value: dict[str, Any]) -> Neurons:
    incoming, outgoing = (tuple(Slice(**piece) for piece in value[side]) for side in ("incoming", "outgoing"))
    return Neurons(incoming, outgoing, value["units"])


def _event(value: dict[str, Any]) -> Event:
    numbers = {name: _number(value[name]) for name in ("distance", "loss")}
    return Event(kind=Outcome(value["kind"]), node=value["node"], detail=value["detail"], **numbers)


def _group(stored: dict[str, np.ndarray], group: str) -> dict[str, np.ndarray]:
    whole = {name.replace(_STROKE, "/"): value for name, value in stored.items()}
    return {name.removeprefix(f"{group}."): value for name, value in whole.items() if name.startswith(f"{group}.")}


def _point(
    value: dict[str, Any] | None, stored: dict[str, np.ndarray], pair: tuple[int, int]
) -> PermutationPoint | None:
    if value is None:
        return None
    shares = (float(value["shares"][0]), float(value["shares"][1]))
    rest = {name: item for name, item in value.items() if name not in ("pair", "shares", "accuracy")}
    return PermutationPoint(
        **{name: _number(item) for name, item in rest.items()},
        pair=pair,
        shares=shares,
        accuracy=_number(value["accuracy"]),
        parameters=_group(stored, "point"),
        reduced=_group(stored, "reduced") or None,
    )
