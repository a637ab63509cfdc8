"""The folder of a reproduction: what may lie in it, whether it is finished, where the next tasks' results go.

NAME.json is written last and holds the digests of the other files, so that a folder whose writing was interrupted is
known, and completed by the same command. What ``--overwrite`` computes anew goes into ``anew`` beside ``tasks`` until
all of it is there: the finished reproduction stays as it is until then, and an interruption loses nothing.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from saddlescope.errors import RecordExistsError, StorageError
from saddlescope.files import foreign_entry, remove
from saddlescope.records.recognise import figure, json_of
from saddlescope.sweeps.plan import Task

FORMAT = 1
SUFFIXES = (".pdf", ".svg", ".png")
TASKS, ANEW = "tasks", "anew"
TASK_FILE = re.compile(r"[0-9a-f]{16}\.json")


def open_folder(out: Path, name: str, tasks: Sequence[Task], *, overwrite: bool) -> Path:
    """Return the folder of task results in ``out``, made if need be, after looking at what lies there.

    Raises:
        RecordExistsError: the folder holds something else, or a finished reproduction, and ``overwrite`` is False.
        StorageError: it cannot be made or written into.
    """
    reason = _objection(out, name) if os.path.lexists(out) else None
    if reason is not None:
        raise RecordExistsError(
            f"this is no folder of a reproduction ({reason})",
            name="out",
            value=out,
            advice="Name a new folder with --out",
        )
    if _is_swapped(out, name):
        settle(out)
    ended = is_finished(out, name)
    if ended and not overwrite:
        same = _identities(out, name) == [task.identity for task in tasks]
        what = "this reproduction is finished" if same else "the folder holds a finished reproduction of another size"
        raise RecordExistsError(what, name="out", value=out, advice="Use another --out, or --overwrite")
    folder = out / (ANEW if ended or (out / ANEW).is_dir() else TASKS)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"the folder cannot be made ({error.strerror or error})", name="out", value=out, expected="a writable place"
        ) from error
    if not os.access(folder, os.W_OK):
        raise StorageError("the folder cannot be written into", name="out", value=out, expected="a writable place")
    return folder


def settle(out: Path) -> None:
    """Let what was computed anew take the place of the former tasks, after the files have been written from it."""
    if (out / ANEW).is_dir():
        remove(out / TASKS)
        os.rename(out / ANEW, out / TASKS)


def is_finished(out: Path, name: str) -> bool:
    """Whether all tasks of the reproduction that lies there are done, and all its files as they were written."""
    data = _data(out, name)
    try:
        told = data.get("files") or {file: None for file in _files(name)}  # versions before 0.2 kept no digests
        whole = all(sha in (None, digest(out / file)) and (out / file).is_file() for file, sha in told.items())
        return whole and all(task["done"] for task in data["tasks"])
    except (OSError, KeyError, TypeError, AttributeError):
        return False


def digest(file: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _data(out: Path, name: str) -> dict[str, Any]:
    return json_of(out / f"{name}.json") or {}


def _identities(out: Path, name: str) -> list[str]:
    return [task.get("id", "") for task in _data(out, name).get("tasks", [])]


def _is_swapped(out: Path, name: str) -> bool:
    """Whether a process died while the new tasks took their place: the files were already written from them."""
    anew = out / ANEW
    if not anew.is_dir() or not is_finished(out, name):
        return False
    results = _data(out, name)["results"]
    found = [json_of(anew / f"{identity}.json") for identity in _identities(out, name)]
    there = {one["name"]: (one["result"], one["seconds"]) for one in found if one is not None}
    seconds = {task["name"]: task["seconds"] for task in _data(out, name)["tasks"]}
    return len(there) == len(found) and all(
        there.get(task, (None, 0.0))[0] == result and round(there[task][1], 2) == seconds[task]
        for task, result in results.items()
    )


def _objection(out: Path, name: str) -> str | None:
    """Return why a folder may not be written into: it holds anything that is not of this reproduction."""
    if not out.is_dir():
        return "not a folder"
    data = out / f"{name}.json"
    found = foreign_entry(out, lambda entry: entry in (data.name, TASKS, ANEW, *_files(name)))
    for tasks in (out / TASKS, out / ANEW):
        if found is None and os.path.lexists(tasks):
            found = foreign_entry(tasks, lambda entry: bool(TASK_FILE.fullmatch(entry))) if tasks.is_dir() else "a file"
    if found is not None:
        return found
    if os.path.lexists(data) and (_data(out, name).get("kind"), _data(out, name).get("name")) != ("reproduction", name):
        return f"{data.name} is of something else, or damaged"
    changed = (file for file in _files(name) if os.path.lexists(out / file) and not _kept(out, name, file))
    return next((f"{file} is not as it was written" for file in changed), None)


def _kept(out: Path, name: str, file: str) -> bool:
    """Whether a figure or text is what was written once, or what an interrupted process wrote."""
    data, text = _data(out, name), (out / file).read_bytes()
    if data and data.get("files", {}).get(file) in (None, digest(out / file)):
        return True
    if file.endswith(".md"):
        return text.startswith(b"# ") and b"\n\nSource: " in text and f"]({name}.png)".encode() in text
    return figure(out / file, "saddlescope reproduce") is None


def _files(name: str) -> list[str]:
    """Return the names of figures and text."""
    return [f"{name}{suffix}" for suffix in (*SUFFIXES, ".md")]
