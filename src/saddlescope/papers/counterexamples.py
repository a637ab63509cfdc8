"""Counterexamples as files that anyone can judge again: claim.json, and for networks weights and data.

A folder a statement: ``claim.json`` (statement, facts, measured numbers, command), ``network.safetensors`` with
PyTorch's names, ``data.npz`` with inputs and targets.
"""

import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from saddlescope.data.weights import load_weights, save_weights
from saddlescope.errors import UNREADABLE, DataError, StorageError
from saddlescope.files import require_free, require_room, writing
from saddlescope.papers.claims import Verdict, find_statement
from saddlescope.papers.samples import Case
from saddlescope.papers.statements import Finding, Statement

FORMAT = 1
NEEDED = {"statement", "source", "words", "seed", "facts", "network", "numbers"}
README = "README.txt"
TEXT = "Counterexamples, one folder a statement. Judge one again: saddlescope claims --recheck FOLDER\n"


def save_counterexamples(folder: Path, verdicts: tuple[Verdict, ...], *, overwrite: bool = False) -> list[Path]:
    """Write a folder with one counterexample a statement that failed; return their folders.

    The folder is written beside its place and renamed.

    Raises:
        RecordExistsError: the folder exists and ``overwrite`` is False, or holds something else.
        StorageError: the disk refuses, or another process writes the same folder.
    """
    folder = Path(folder)
    check_free(folder, overwrite=overwrite)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"the folder cannot be made ({error.strerror or error})"
        raise StorageError(what, name="out", value=folder.parent, expected="a writable place") from error
    failed = [verdict for verdict in verdicts if verdict.counterexample is not None]
    with writing(folder, "the counterexamples") as draft:
        draft.mkdir()
        for verdict in failed:
            _write(draft / verdict.statement.name, folder / verdict.statement.name, verdict)
        (draft / README).write_text(TEXT, "utf-8")
    return [folder / verdict.statement.name for verdict in failed]


def check_free(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that must not be replaced.

    Raises:
        RecordExistsError: it exists and ``overwrite`` is False, or it is not the folder of counterexamples that this
            module wrote, whole and with nothing else in it.
        StorageError: a file is in the place of the folder above, or that takes no files.
    """
    folder = Path(folder)
    above = next((place for place in folder.absolute().parents if place.exists()), folder.absolute().parent)
    require_room(above)
    if os.path.lexists(folder):
        require_free(folder, overwrite=overwrite, objection=_objection, kind="a folder of counterexamples")


def _objection(folder: Path) -> str | None:
    """Return why a folder is not a whole folder of counterexamples and nothing else, or None if it is."""
    readme = folder / README
    if not readme.is_file() or readme.is_symlink() or readme.read_bytes() != TEXT.encode():
        return f"no {README} of saddlescope claims"
    for place in sorted(folder.iterdir()):
        if place == readme:
            continue
        try:
            record = _read(place)
        except DataError:
            return f"{place.name} in it is no counterexample"
        files = {"claim.json", *(("network.safetensors", "data.npz") if record.get("network") else ())}
        if place.is_symlink() or record["statement"] != place.name or {one.name for one in place.iterdir()} != files:
            return f"{place.name} in it is no whole counterexample, or more than one"
    return None


def _write(place: Path, final: Path, verdict: Verdict) -> None:
    case = verdict.counterexample
    assert case is not None
    place.mkdir()
    record = {
        "format": FORMAT,
        "statement": verdict.statement.name,
        "words": verdict.statement.words,
        "source": verdict.statement.source,
        "seed": case.seed,
        "facts": case.facts,
        "network": bool(case.widths),
        "numbers": verdict.numbers,
        "recheck": f"saddlescope claims --recheck {final}",
    }
    if case.widths:
        save_weights(place / "network.safetensors", case.network, case.parameters)
        np.savez(place / "data.npz", inputs=case.inputs, targets=case.targets)
    (place / "claim.json").write_text(json.dumps(record, indent=2) + "\n", "utf-8")


def _read(place: Path) -> dict[str, Any]:
    try:
        record = json.loads((place / "claim.json").read_text("utf-8"))
    except UNREADABLE as error:
        raise DataError(
            "this is no counterexample", name="folder", value=str(place), expected="a folder with a claim.json"
        ) from error
    if not isinstance(record, dict) or record.get("format") != FORMAT or not set(record) >= NEEDED:
        raise DataError(
            "a counterexample of another format", name="folder", value=str(place), expected=f"format {FORMAT}"
        )
    return record


def recheck(folder: Path) -> tuple[dict[str, Any], Finding | None]:
    """Judge a counterexample again from its files alone; return its record and what was found now.

    Raises:
        DataError: no such folder, or files that cannot be read.
        SettingsError: no statement of that name.
    """
    place = Path(folder)
    record = _read(place)
    statement = find_statement(str(record["statement"]))
    if not record["network"]:
        return record, _judged(statement, Case(record["seed"], record["facts"]), place)
    network, parameters = load_weights(place / "network.safetensors")
    try:
        with (place / "data.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            inputs, targets = arrays["inputs"], arrays["targets"]
    except (*UNREADABLE, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            "the data cannot be read", name="file", value=str(place / "data.npz"), expected="inputs and targets"
        ) from error
    described: dict[str, Any] = network.describe()
    case = Case(
        record["seed"],
        record["facts"],
        tuple(described["widths"]),
        described["activation"],
        described["bias"],
        parameters,
        inputs,
        targets,
    )
    return record, _judged(statement, case, place)


def _judged(statement: Statement, case: Case, place: Path) -> Finding | None:
    """Return what a statement finds in a case that was read; facts that somebody changed are no fault of ours.

    Raises:
        DataError: facts or arrays that the statement cannot be asked of.
    """
    try:
        return statement.judge(case)
    except (*UNREADABLE, AssertionError) as error:
        raise DataError(
            f"the counterexample does not hold what its statement is about ({type(error).__name__})",
            name="folder",
            value=str(place),
            expected="files as saddlescope claims wrote them",
        ) from error
