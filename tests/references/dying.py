"""A process that dies at a moment of one's choice, played in this process or real.

From the k-th write below a folder on, nothing that the dying process does to files happens any more: no cleaning up, as
after SIGKILL. Moments are the audit events of Python that come before a write, and before names are exchanged.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WRITES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree")


class Killed(BaseException):
    """Stands for SIGKILL."""


class _Moments:
    """Counts the writes below a folder, and dies at the k-th (0: never)."""

    folder, at, count, real = "", 0, 0, False

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if self.folder and self._counts(event, args):
            self.count += 1
            if self.at and self.count >= self.at:
                if self.real:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise Killed

    def _counts(self, event: str, args: tuple[Any, ...]) -> bool:
        if event == "ctypes.dlsym":
            return args[1] == "renameat2"
        writes = event == "open" and isinstance(args[2], int) and bool(args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if not writes and event not in WRITES:
            return False
        inside = event in ("os.remove", "os.rmdir") and args[1] != -1  # in an open folder: shutil.rmtree at work
        return inside or (isinstance(args[0], str | bytes | os.PathLike) and self._below(os.fsdecode(args[0])))

    def _below(self, place: str) -> bool:
        return os.path.abspath(place).startswith(self.folder)


_moments = _Moments()
sys.addaudithook(_moments)  # can never be taken away again; idle while no folder is set


@contextmanager
def dying(folder: Path, at: int, *, real: bool = False) -> Iterator[_Moments]:
    """Die just before the k-th write below a folder; only count where ``at`` is 0."""
    _moments.folder, _moments.at, _moments.count, _moments.real = str(folder), at, 0, real
    try:
        yield _moments
    finally:
        _moments.folder = ""
