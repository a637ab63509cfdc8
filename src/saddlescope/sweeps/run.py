"""Run the tasks of a plan that are not done yet; what is finished stays, whatever happens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saddlescope.errors import SettingsError
from saddlescope.sweeps.executors import Measure, compute
from saddlescope.sweeps.plan import Task
from saddlescope.sweeps.resume import keep, kept

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Swept:
    """Results and seconds by task name, in the plan's order; how many tasks there are, and how many were done anew."""

    results: dict[str, dict[str, Any]]
    seconds: dict[str, float]
    total: int
    computed: int


def gather(folder: Path, tasks: Sequence[Task]) -> Swept:
    """Return what is done of a plan, without computing anything."""
    found = {task.name: kept(folder, task) for task in tasks}
    done = {name: one for name, one in found.items() if one is not None}
    return Swept(
        {name: result for name, (result, _) in done.items()},
        {name: seconds for name, (_, seconds) in done.items()},
        len(tasks),
        0,
    )


def sweep(
    measure: Measure, tasks: Sequence[Task], folder: Path, *, workers: int = 1, progress: Progress | None = None
) -> Swept:
    """Compute what is not yet done, and keep each result as soon as it is there.

    An interruption or an error leaves all finished tasks in the folder; the same call goes on from there.

    Args:
        measure: a function at the top of a module, from settings to a result that JSON can hold.
        tasks: from `plan`.
        folder: where results lie; it exists.
        workers: processes; 1 computes in this one.
        progress: called with (done, total, message with the time left).

    Raises:
        SettingsError: fewer than one worker.
        StorageError: a result cannot be written.
    """
    if workers < 1:
        raise SettingsError("not a number of processes", name="workers", value=workers, expected="1 or more")
    before = gather(folder, tasks)
    open_ = [task for task in tasks if task.name not in before.results]
    spent = list(before.seconds.values())
    if progress is not None:
        progress(len(before.results), len(tasks), "begun" if not before.results else "going on")
    computed = 0
    for task, result, seconds in compute(measure, open_, workers=min(workers, max(len(open_), 1))):
        keep(folder, task, result, seconds)
        computed += 1
        spent.append(seconds)
        if progress is not None:
            left = (len(open_) - computed) * sum(spent) / len(spent) / min(workers, len(open_))
            progress(len(before.results) + computed, len(tasks), f"{task.name}; {_clock(left)} left")
    after = gather(folder, tasks)
    return Swept(after.results, after.seconds, len(tasks), computed)


def _clock(seconds: float) -> str:
    """Return a duration in words for people."""
    if seconds < 100:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 6000 else f"about {seconds / 3600:.1f} h"
