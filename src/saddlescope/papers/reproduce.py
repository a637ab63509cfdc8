"""From an experiment to its folder: tasks/*.json, then NAME.pdf, .svg, .png, .md and, last, NAME.json (the data)."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from saddlescope.files import claim, write_file
from saddlescope.papers.catalogue import Draw, find
from saddlescope.papers.experiment import Experiment, Judgement, Size, judgements
from saddlescope.papers.folder import FORMAT, SUFFIXES, digest, is_finished, open_folder, settle
from saddlescope.papers.stamp import stamp
from saddlescope.papers.text import markdown
from saddlescope.plots.path import save_figure
from saddlescope.records.provenance import versions
from saddlescope.sweeps.plan import Task, plan
from saddlescope.sweeps.run import Progress, Swept, gather, sweep


@dataclass(frozen=True)
class Reproduction:
    """What was done: size, tasks done and planned, judgements, and the files written."""

    name: str
    size: Size
    done: int
    total: int
    judgements: tuple[Judgement, ...]
    files: tuple[Path, ...]


def reproduce(
    name: str,
    out: Path,
    *,
    size: Size = "full",
    workers: int = 1,
    overwrite: bool = False,
    command: str = "",
    progress: Progress | None = None,
) -> Reproduction:
    """Run an experiment of the papers, or what is left of it, and write figure, data and text into a folder.

    After an interruption the figure of what is done is written, and says so; the same call goes on.

    Args:
        name: a name of the catalogue.
        out: a folder: new, empty, or one that this function wrote.
        size: "full", or "quick": smaller, a minute or so.
        workers: processes.
        overwrite: compute and write a finished reproduction anew.
        command: the words to keep in the data, by which it was made.
        progress: called with (done, total, message with the time left).

    Returns:
        Judgements of the papers' claims, and the files.

    Raises:
        SettingsError: no such experiment, or fewer than one worker.
        RecordExistsError: the folder holds something else, or the finished reproduction, and ``overwrite`` is False.
        StorageError: the disk refuses.
        KeyboardInterrupt: interrupted; all finished tasks are kept.
    """
    experiment, draw = find(name)
    tasks = plan(experiment.name, experiment.version, experiment.tasks(size))
    with claim(out):
        folder = open_folder(out, name, tasks, overwrite=overwrite)
        try:
            swept = sweep(experiment.measure, tasks, folder, workers=workers, progress=progress)
        except KeyboardInterrupt:
            done = gather(folder, tasks)
            if done.results and not is_finished(out, name):
                write(experiment, draw, out, size, tasks, done, command)
            raise
        found = write(experiment, draw, out, size, tasks, swept, command)
        settle(out)
    return found


def describe(size: Size, done: int, total: int) -> str:
    """Return the line that tells a quick or unfinished figure from a full one."""
    words = "full size" if size == "full" else "quick size (smaller than the paper's; --quick)"
    return words if done == total else f"{words}, unfinished: {done} of {total} tasks done"


def write(
    experiment: Experiment, draw: Draw, out: Path, size: Size, tasks: Sequence[Task], swept: Swept, command: str
) -> Reproduction:
    """Write figure, data and text of the tasks done; the same results give the same figure and text.

    Raises:
        StorageError: the disk refuses.
    """
    note = describe(size, len(swept.results), swept.total)
    found = judgements(experiment, swept.results)
    figure = stamp(draw(swept.results), f"saddlescope reproduce {experiment.name}: {note}")
    files = [out / f"{experiment.name}{suffix}" for suffix in (*SUFFIXES, ".md")]
    for file in files[:-1]:
        save_figure(figure, file, by="saddlescope reproduce")
    write_file(files[-1], markdown(experiment, found, note), "the text")
    data = {
        "format": FORMAT,
        "kind": "reproduction",
        "name": experiment.name,
        "title": experiment.title,
        "source": experiment.source,
        "size": size,
        "note": note,
        "claims": [asdict(claim) for claim in experiment.claims],
        "judgements": [asdict(one) for one in found],
        "tasks": [_row(task, swept) for task in tasks],
        "results": swept.results,
        "files": {file.name: digest(file) for file in files},
        "made": {
            "command": command,
            "seconds": round(sum(swept.seconds.values()), 1),
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            **versions(),
        },
    }
    files.append(out / f"{experiment.name}.json")  # last: it says of the others that they are whole
    write_file(files[-1], json.dumps(data, allow_nan=False) + "\n", "the data")
    return Reproduction(experiment.name, size, len(swept.results), swept.total, found, tuple(files))


def _row(task: Task, swept: Swept) -> dict[str, Any]:
    seconds = swept.seconds.get(task.name)
    return {
        "id": task.identity,
        "name": task.name,
        "settings": task.settings,
        "done": task.name in swept.results,
        "seconds": None if seconds is None else round(seconds, 2),
    }
