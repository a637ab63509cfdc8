"""Where tasks are computed: in this process, one after the other, or in others (`concurrent.futures`, spawned)."""

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

from saddlescope.sweeps.plan import Task

Measure = Callable[[dict[str, Any]], dict[str, Any]]
Done = tuple[Task, dict[str, Any], float]
"""A task, what it measured, and its seconds."""


def compute(measure: Measure, tasks: Sequence[Task], *, workers: int = 1) -> Iterator[Done]:
    """Yield each task as it ends; with one worker here and in order, with more in spawned processes.

    Leaving the iterator (an error, an interruption) ends the processes; tasks not begun are never begun.
    """
    return _serial(measure, tasks) if workers == 1 else _processes(measure, tasks, workers)


def _serial(measure: Measure, tasks: Sequence[Task]) -> Iterator[Done]:
    for task in tasks:
        yield task, *_timed(measure, task.settings)


def _processes(measure: Measure, tasks: Sequence[Task], workers: int) -> Iterator[Done]:
    others = set(multiprocessing.active_children())
    # Spawned, not forked: JAX has threads, which a fork would leave in an unknown state.
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_leave_ctrl_c)
    try:
        ahead = {pool.submit(_timed, measure, task.settings): task for task in tasks}
        for future in as_completed(ahead):
            yield ahead[future], *future.result()
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()  # a task may take hours: an interruption does not wait for its end
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _leave_ctrl_c() -> None:
    """Leave an interruption from the keyboard to the process that began this one, which ends it without a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _timed(measure: Measure, settings: dict[str, Any]) -> tuple[dict[str, Any], float]:
    began = time.perf_counter()
    return measure(settings), time.perf_counter() - began
