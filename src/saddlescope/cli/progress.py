"""Progress with time left on a terminal; nothing in a pipe unless verbose, nothing when quiet."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from saddlescope.printable import printable


@contextmanager
def progress_bar(*, quiet: bool = False, verbose: bool = False) -> Iterator[Callable[[int, int, str], None] | None]:
    """Yield a callback (done, total, message) that draws a bar on standard error, or None where none belongs.

    With ``verbose`` every step is a line instead, on a terminal or not.
    """
    if verbose and not quiet:
        yield _line
        return
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        BarColumn(bar_width=24),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("compiling", total=1)

        def report(done: int, total: int, message: str) -> None:
            bar.update(task, completed=done, total=total, description=printable(message))

        yield report


def _line(done: int, total: int, message: str) -> None:
    sys.stderr.write(f"{done}/{total} {printable(message)}\n")
