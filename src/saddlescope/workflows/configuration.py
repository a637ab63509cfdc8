"""A whole study in one TOML file, every word checked before anything is computed.

The tables are frozen dataclasses whose field types are the types that a file must hold and whose metadata are the
ranges; a key that no table knows is refused with the nearest name and its place in the file.
"""

import difflib
import math
import tomllib
import types
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from saddlescope.errors import SettingsError

Loss = Literal["mse", "normalised", "cross-entropy", "binary-cross-entropy"]


def _in_range(expected: str, holds: Callable[[Any], bool], **words: Any) -> Any:
    return field(metadata={"expected": expected, "holds": holds}, **words)


def _at_least(least: int, **words: Any) -> Any:
    return _in_range(f"{least} or more", lambda value: value >= least, **words)


def _positive(**words: Any) -> Any:
    return _in_range("above 0", lambda value: value > 0, **words)


@dataclass(frozen=True, kw_only=True)
class TrainTable:
    """``[train]``: the network to be trained when no file is named; as ``saddlescope train``."""

    widths: tuple[int, ...] = _in_range(
        "3 or more widths of 1 or more", lambda value: len(value) >= 3 and min(value) >= 1
    )
    activation: str
    seed: int = _at_least(0, default=0)
    adam_steps: int = _at_least(0, default=2000)
    learning_rate: float = _positive(default=1e-2)
    newton_steps: int = _at_least(0, default=200)
    tolerance: float = _positive(default=1e-10)


@dataclass(frozen=True, kw_only=True)
class PathTable:
    """``[path]``: the pairs to be merged, and how; as ``saddlescope path``."""

    layer: int = _at_least(1)
    pairs: Literal["all", "closest"] | tuple[tuple[int, ...], ...] = _in_range(
        '"all", "closest", or a list of pairs of two different neurons, each pair once',
        lambda value: isinstance(value, str) or _different_pairs(value),
        default="all",
    )
    distance: Literal["incoming", "joint", "tied"] = "tied"
    steps: int = _at_least(1, default=200)
    reach: float = _in_range("between 0 and 1", lambda value: 0 < value < 1, default=1e-4)
    solver: Literal["auto", "newton", "creased", "krylov", "flow", "descent"] = "auto"
    tolerance: float | None = _positive(default=None)
    max_iterations: int = _at_least(1, default=200)


@dataclass(frozen=True, kw_only=True)
class CertifyTable:
    """``[certify]``: as ``saddlescope certify`` on each run."""

    gradient_tolerance: float | None = _positive(default=None)
    steps: int = _at_least(1, default=400)
    along: int = _at_least(0, default=0)
    prove: bool = False


@dataclass(frozen=True, kw_only=True)
class WalkTable:
    """``[walk]``: as ``saddlescope walk`` from each run."""

    to: tuple[int, ...] = _in_range(
        "each neuron once, from 0", lambda value: len(value) >= 2 and sorted(value) == list(range(len(value)))
    )
    points: int = _at_least(1, default=5)
    tolerance: float = _positive(default=1e-8)


@dataclass(frozen=True, kw_only=True)
class ReportTable:
    """``[report]``: one page on all runs; as ``saddlescope report``."""

    name: str = _in_range(
        "the plain name of a file in the study's folder that ends in .html, without folders",
        lambda value: value.endswith(".html") and _plain_name(value),
        default="report.html",
    )


@dataclass(frozen=True, kw_only=True)
class Study:
    """A whole study; a table that is None is left out of it."""

    data: str
    network: str | None = None
    loss: Loss | None = None
    target: Literal["data", "network"] | None = None
    activation: str | None = None
    weight_decay: float = _at_least(0, default=0.0)
    norm_barrier: float = _at_least(0, default=0.0)
    train: TrainTable | None = None
    path: PathTable | None = None
    certify: CertifyTable | None = None
    walk: WalkTable | None = None
    report: ReportTable | None = None


def load_study(file: Path) -> Study:
    """Read a study from a TOML file.

    Raises:
        SettingsError: the file cannot be read, is no TOML, or :func:`check_study` refuses what it holds.
    """
    try:
        words = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"the study's file cannot be read ({error.strerror})", name="file", value=file, expected="a TOML file"
        ) from error
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, a number of 4300 digits, 1000 brackets
        what = f"the study's file is no TOML ({error})"
        raise SettingsError(what, name="file", value=file, expected="a TOML file") from error
    return check_study(words)


def check_study(words: dict[str, Any]) -> Study:
    """Return the study that the words of a file describe.

    Raises:
        SettingsError: an unknown or missing key, a value of the wrong type or out of its range, or tables that do not
            fit together.
    """
    study: Study = _table(Study, words, "")
    if (study.network is None) == (study.train is None):
        raise SettingsError(
            "a study needs one network",
            name="network",
            value="both" if study.train else "neither",
            expected="network = FILE, or a table [train], not both",
        )
    for name in ("certify", "walk", "report"):
        if getattr(study, name) is not None and study.path is None:
            raise SettingsError("this table works on the runs of [path]", name=name, value="given", expected="[path]")
    if study.loss in ("cross-entropy", "binary-cross-entropy") and study.target == "network":
        raise SettingsError(f"{study.loss} needs the data's labels", name="target", value="network", expected="data")
    return study


def _table(kind: Any, words: dict[str, Any], place: str) -> Any:
    """Return the dataclass of a table's words; the place is empty for the file's top."""
    known = {entry.name: entry for entry in fields(kind)}
    where = f"[{place}]" if place else "the top of the file"
    for name in words:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise SettingsError(
                f"unknown key in {where}",
                name="key",
                value=name,
                expected=", ".join(known) if not near else None,
                advice=f"Did you mean {near[0]}?" if near else None,
            )
    for name, entry in known.items():
        if entry.default is MISSING and name not in words:
            raise SettingsError(f"a key is missing in {where}", name="key", value=name)
    return kind(**{name: _value(known[name], value, place) for name, value in words.items()})


def _value(entry: Any, value: Any, place: str) -> Any:
    """Return a key's value in the form of its type, checked against its range."""
    key = f"{place}.{entry.name}" if place else entry.name
    for kind in _choices(entry.type):
        if hasattr(kind, "__dataclass_fields__") and isinstance(value, dict):
            return _table(kind, value, key)
        fits, formed = _formed(kind, value)
        if fits and entry.metadata.get("holds", lambda _: True)(formed):
            return formed
    raise SettingsError("a value that cannot be used", name=key, value=repr(value), expected=_expected(entry))


def _choices(kind: Any) -> tuple[Any, ...]:
    """Return the kinds of a union without None, which no TOML file can hold."""
    union = get_origin(kind) is types.UnionType or str(get_origin(kind)) == "typing.Union"
    return tuple(choice for choice in get_args(kind) if choice is not types.NoneType) if union else (kind,)


def _formed(kind: Any, value: Any) -> tuple[bool, Any]:
    """Return whether a value is of a kind, and the value: lists become tuples, whole numbers may stand for others."""
    if get_origin(kind) is Literal:
        return isinstance(value, str) and value in get_args(kind), value
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            return False, value
        parts = [_formed(get_args(kind)[0], part) for part in value]
        return all(fits for fits, _ in parts), tuple(part for _, part in parts)
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool, value
    if kind is float:
        fits = isinstance(value, int | float) and math.isfinite(value)
        return fits, float(value) if fits else value
    return isinstance(kind, type) and isinstance(value, kind), value


def _expected(entry: Any) -> str:
    """Return in words what a key may hold."""
    if "expected" in entry.metadata:
        kinds = [_words(kind) for kind in _choices(entry.type) if kind in (int, float)]
        return ", ".join([*kinds, entry.metadata["expected"]])
    return " or ".join(_words(kind) for kind in _choices(entry.type))


def _words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(get_args(kind))
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text in quotes"}
    return names.get(kind, "a table")


def _different_pairs(pairs: tuple[tuple[int, ...], ...]) -> bool:
    """Whether these are pairs of two different neurons from 0, none of them twice in either order."""
    whole = all(len(pair) == 2 and min(pair) >= 0 and pair[0] != pair[1] for pair in pairs)
    return whole and len(pairs) > 0 and len({frozenset(pair) for pair in pairs}) == len(pairs)


def _plain_name(name: str) -> bool:
    """Whether this names a file inside of a folder, on every system, and can be printed."""
    return name.isprintable() and not name.startswith(".") and not any(sign in name for sign in "/\\:")
