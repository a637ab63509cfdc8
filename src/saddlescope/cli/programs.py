"""Compiled programs kept between runs of the command line, and the folder that keeps them, mended where it is broken.

JAX writes an entry's program first and its time of use second, and fails at every later entry where one has no time.
It never removes what it cannot read. Both are mended here, and only in the folder that is this program's own.
"""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path

_PROGRAM, _TIME, _LOCK = "-cache", "-atime", ".lockfile"
# How long another process may hold the folder's lock before the mending is left to the next run.
_PATIENCE = 1.0
_FAULT = "persistent compilation cache entry"


def keep_programs(environment: MutableMapping[str, str]) -> Path | None:
    """Let JAX keep compiled programs between runs of this program, unless the user has decided otherwise.

    They lie in ``$XDG_CACHE_HOME/saddlescope`` (by default ``~/.cache/saddlescope``), 1 GB of them at most; a folder
    named in JAX_COMPILATION_CACHE_DIR is taken instead, and an empty name keeps nothing. Only the command line does
    this: ``import saddlescope`` changes no setting. Words are set before JAX is imported, which reads them then.

    Returns:
        The folder, if it is this program's own.
    """
    folder = Path(environment.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "saddlescope"
    if "JAX_COMPILATION_CACHE_DIR" in environment or not folder.is_absolute():
        return None
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        return None  # JAX would complain of every program that it cannot write
    environment["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    environment.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    environment.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(10**9))
    return folder


@contextmanager
def mended(folder: Path | None) -> Iterator[None]:
    """Remove half-written entries first; afterwards all of them, if JAX complained of one: the next run begins anew.

    The complaints are not shown: nothing but time is lost.
    """
    if folder is None:
        yield
        return
    _remove(folder, _halves)
    complaints: list[str] = []
    show = warnings.showwarning

    def shown(message: Warning | str, *others: object, **options: object) -> None:
        if _FAULT in str(message):
            complaints.append(str(message))
        else:
            show(message, *others, **options)  # type: ignore[arg-type]

    warnings.showwarning = shown
    try:
        yield
    finally:
        warnings.showwarning = show
        if complaints:
            _remove(folder, _entries)


def _entries(folder: Path) -> list[Path]:
    """Return every file of JAX's in the folder but its lock."""
    return [path for path in folder.iterdir() if path.name.endswith((_PROGRAM, _TIME))]


def _halves(folder: Path) -> list[Path]:
    """Return the programs without a time of use, those that are empty, and times without a program."""
    sizes = {path.name: path.stat().st_size for path in _entries(folder)}
    whole = {
        name.removesuffix(_PROGRAM)
        for name, size in sizes.items()
        if name.endswith(_PROGRAM) and size > 0 and name.removesuffix(_PROGRAM) + _TIME in sizes
    }
    return [folder / name for name in sizes if name.removesuffix(_PROGRAM).removesuffix(_TIME) not in whole]


def _remove(folder: Path, chosen: Callable[[Path], Iterable[Path]]) -> None:
    """Remove the chosen files under JAX's own lock; another process may be between its two writes."""
    with suppress(OSError):
        if not folder.is_dir() or not list(chosen(folder)):
            return
        from filelock import FileLock, Timeout

        with suppress(Timeout), FileLock(folder / _LOCK, timeout=_PATIENCE):
            for path in chosen(folder):
                path.unlink(missing_ok=True)
