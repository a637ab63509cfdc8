"""Progress with time left: a bar on a terminal, a line now and then elsewhere, every step if verbose, none if quiet."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from saddlescope.printable import printable

# Where standard error is no terminal, work of more than a minute says once a minute how far it is.
EVERY = 60.0


@contextmanager
def progress_bar(*, quiet: bool = False, verbose: bool = False) -> Iterator[Callable[[int, int, str], None] | None]:
    """Yield a callback (done, total, message) that draws a bar on standard error, or None where none belongs.

    With ``verbose`` every step is a line instead, on a terminal or not; without it, and without a terminal, a line
    stands there every `EVERY` seconds, while nothing is called back, too.
    """
    if verbose and not quiet:
        yield _line
        return
    if quiet:
        yield None
        return
    if not sys.stderr.isatty():
        yield from _now_and_then()
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


def _now_and_then() -> Iterator[Callable[[int, int, str], None]]:
    """Yield a callback that only takes notes, which a thread writes down every `EVERY` seconds until the end."""
    began, over = time.monotonic(), threading.Event()
    last: list[tuple[int, int, str]] = []

    def report(done: int, total: int, message: str) -> None:
        last[:] = [(done, total, message)]

    def tell() -> None:
        while not over.wait(EVERY):
            spent = time.monotonic() - began
            done, total, message = last[0] if last else (0, 0, "preparing")
            left = f", about {spent * (total - done) / done:.0f} s left" if 0 < done < total else ""
            sys.stderr.write(f"{spent:.0f} s: {done}/{total} {printable(message)}{left}\n")

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield report
    finally:
        over.set()
        thread.join()
