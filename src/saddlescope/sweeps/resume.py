"""What is already done: one JSON file a task, named by its id, written beside its place and renamed."""

import json
from pathlib import Path
from typing import Any

from saddlescope.errors import UNREADABLE
from saddlescope.files import write_file
from saddlescope.sweeps.plan import Task


def keep(folder: Path, task: Task, result: dict[str, Any], seconds: float) -> None:
    """Write what a task measured.

    Raises:
        StorageError: the disk refuses.
        ValueError: the result holds what JSON does not, such as NaN.
    """
    record = {"id": task.identity, "name": task.name, "settings": task.settings, "result": result, "seconds": seconds}
    write_file(_place(folder, task), json.dumps(record, indent=1, allow_nan=False) + "\n", "a result")


def kept(folder: Path, task: Task) -> tuple[dict[str, Any], float] | None:
    """Return a task's result and seconds if it is done; a file that is no whole record of it counts as not done."""
    try:
        record = json.loads(_place(folder, task).read_text("utf-8"))
        same = record["id"] == task.identity and record["settings"] == task.settings
        return (dict(record["result"]), float(record["seconds"])) if same else None
    except UNREADABLE:
        return None


def _place(folder: Path, task: Task) -> Path:
    return folder / f"{task.identity}.json"
