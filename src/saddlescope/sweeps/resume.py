"""What is already done: one JSON file a task, named by its id, written beside its place and renamed."""

import json
import os
from pathlib import Path
from typing import Any

from saddlescope.errors import StorageError
from saddlescope.sweeps.plan import Task


def write_whole(file: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Raises:
        StorageError: the disk refuses.
    """
    draft = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        draft.write_text(text, "utf-8")
        os.replace(draft, file)
    except OSError as error:
        raise StorageError(
            f"a result cannot be written ({error.strerror or error})",
            name="file",
            value=file,
            expected="a disk with room for it",
        ) from error
    finally:
        draft.unlink(missing_ok=True)


def keep(folder: Path, task: Task, result: dict[str, Any], seconds: float) -> None:
    """Write what a task measured.

    Raises:
        StorageError: the disk refuses.
        ValueError: the result holds what JSON does not, such as NaN.
    """
    record = {"id": task.identity, "name": task.name, "settings": task.settings, "result": result, "seconds": seconds}
    write_whole(_place(folder, task), json.dumps(record, indent=1, allow_nan=False) + "\n")


def kept(folder: Path, task: Task) -> tuple[dict[str, Any], float] | None:
    """Return a task's result and seconds if it is done; a file that is no whole record of it counts as not done."""
    try:
        record = json.loads(_place(folder, task).read_text("utf-8"))
        same = record["id"] == task.identity and record["settings"] == task.settings
        return (dict(record["result"]), float(record["seconds"])) if same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def forget(folder: Path, task: Task) -> None:
    """Take a task's result away, if there is one."""
    _place(folder, task).unlink(missing_ok=True)


def _place(folder: Path, task: Task) -> Path:
    return folder / f"{task.identity}.json"
