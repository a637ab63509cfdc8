"""Outputs on disk: one writer at a time, whole or not at all, and what a dead process left is put right.

While an output NAME is written, hidden names ``.NAME.D.part`` (the new), ``.NAME.D.old`` (the former, where the system
cannot exchange two names in one step) and ``.NAME.D.next`` (work that goes on another time) may lie beside it. D is a
digest of NAME, so that no name of somebody else's is taken for one of these. They belong to whoever holds the output's
lock; one who gets the lock knows that what lies there was left by a process that is dead.
"""

import contextlib
import ctypes
import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from saddlescope.errors import RecordExistsError, StorageError

if TYPE_CHECKING:
    from filelock import FileLock

# A name may have 255 bytes on most disks; the digest and the ending take the rest.
LABEL_BYTES = 200
LEFTOVER = re.compile(r"\.(?P<label>.+)\.(?P<digest>[0-9a-f]{10})\.(?:part|old)", re.DOTALL)
AT_FDCWD, RENAME_EXCHANGE = -100, 2

Objection = Callable[[Path], str | None]
"""From what lies at an output's place to why it is not an earlier result of the same command, or None if it is."""


def real(output: Path) -> Path:
    """Return the place that an output's name leads to: symbolic links are followed, so that they stay links."""
    return Path(os.path.realpath(output))


def beside(output: Path, ending: str) -> Path:
    """Return the hidden name beside an output with the ending part, old or next."""
    name = os.fsencode(output.name)
    label = os.fsdecode(name[:LABEL_BYTES])
    return output.with_name(f".{label}.{_digest(name)}.{ending}")


def _digest(name: bytes) -> str:
    return hashlib.sha256(name).hexdigest()[:10]


# One writer at a time.


@contextmanager
def claim(output: Path) -> Iterator[Path]:
    """Hold an output against other processes, put right what dead ones left of it and beside it; yield its real place.

    A claim may be taken again inside of it.

    Raises:
        StorageError: another process has claimed it.
    """
    output = real(output)
    if not output.name:  # the root of the disk, which no command may write
        yield output
        return
    with _lock(output):
        recover(output)
        inside = [place for place in output.iterdir() if place.is_dir()] if output.is_dir() else []
        for folder in (output.parent, output, *inside):
            _clean(folder)
        yield output


@contextmanager
def _lock(output: Path) -> Iterator[None]:
    from filelock import Timeout  # slow to import, and only needed by what writes

    lock = _file_lock(output)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise StorageError(
            "another process is writing this output",
            name="out",
            value=output,
            advice="Wait until it has ended, or use another name",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _file_lock(output: Path) -> "FileLock":
    """Return the lock of an output: a file in the user's cache, which is left there, so that nothing lies beside it."""
    from filelock import FileLock

    name = f"{hashlib.sha256(os.fsencode(output)).hexdigest()[:24]}.lock"
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    places = (Path(cache) / "saddlescope" / "locks", Path(tempfile.gettempdir()) / f"saddlescope-locks-{os.getuid()}")
    for folder in places:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if folder.is_absolute() and os.access(folder, os.W_OK):
                return FileLock(folder / name, is_singleton=True)
    raise StorageError("no folder for lock files", name="folder", value=places[0], expected="a writable cache folder")


def recover(output: Path) -> None:
    """Give a result back its name if a process died between two renames, and remove what else it left.

    Only for one who holds the claim, or who finds nothing where a result should be.
    """
    old, part = beside(output, "old"), beside(output, "part")
    if os.path.lexists(old):
        if os.path.lexists(output):
            remove(old)
        else:
            os.rename(old, output)
    remove(part)


def restored(output: Path) -> Path:
    """Return the place of a result that is to be read; one that a dead process left between two renames is recovered.

    Raises:
        StorageError: another process is writing it at this moment.
    """
    place = real(output)
    if not os.path.lexists(place) and os.path.lexists(beside(place, "old")):
        with _lock(place):
            recover(place)
    return output


def remove(place: Path) -> None:
    """Remove a file or a folder with all in it; a link is removed, not followed."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    elif os.path.lexists(place):
        place.unlink(missing_ok=True)


def _clean(folder: Path) -> None:
    """Put right what dead processes left of any output in a folder."""
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(folder)):
            found = LEFTOVER.fullmatch(name)
            if found is not None and found["digest"] == _digest(os.fsencode(found["label"])):
                target = folder / found["label"]
                with contextlib.suppress(StorageError, OSError), _lock(target):
                    recover(target)


# Whole or not at all.


@contextmanager
def writing(output: Path, what: str, ending: str = "part") -> Iterator[Path]:
    """Yield a hidden name for the new file or folder; on leaving, it takes its name in one step, or is removed.

    Until then what was there stays as it was. A folder takes the place of a folder, a file that of a file. Symbolic
    links are followed. With the ending ``next`` the draft of an interrupted or failed work stays, to be gone on with.

    Raises:
        StorageError: the disk refuses, or another process is writing the same output.
    """
    place = real(output)
    with _lock(place):
        draft = beside(place, ending)
        try:
            if place.is_symlink():
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))  # to itself: there is nothing to follow
            recover(place)
            yield draft
            _to_disk(draft)
            _exchange_or_move(draft, place)
        except OSError as error:
            raise StorageError(
                f"{what} cannot be written ({error.strerror or error})",
                name="out" if draft.is_dir() else "file",
                value=output,
                expected="a disk with room for it",
            ) from error
        finally:
            if ending == "part":
                with contextlib.suppress(OSError):
                    remove(draft)


def write_file(output: Path, content: bytes | str, what: str) -> None:
    """Write a file, whole or not at all; text as UTF-8, with what is no text (parts of odd file names) escaped.

    Raises:
        StorageError: the disk refuses, or another process is writing the same output.
    """
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    with writing(Path(output), what) as draft:
        draft.write_bytes(data)


def _to_disk(place: Path) -> None:
    """Wait until a file, or a folder and all files in it, is on the disk: only now does a full disk say so."""
    if place.is_dir():
        for inner in place.iterdir():
            _to_disk(inner)
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange_or_move(draft: Path, place: Path) -> None:
    """Give a finished draft its name; a file replaces a file, a folder changes names with a folder."""
    if not draft.is_dir():
        os.replace(draft, place)
    elif not place.exists():
        os.rename(draft, place)
    elif _exchange(draft, place):
        remove(draft)  # it has the former content now
    else:
        old = beside(place, "old")
        os.rename(place, old)
        try:
            os.rename(draft, place)
        except BaseException:
            os.rename(old, place)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Give two folders each other's names in one step of the system (Linux); False where it cannot."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    return rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0


# Outputs that exist.


def require_free(output: Path, *, overwrite: bool, objection: Objection, kind: str, name: str = "out") -> Path:
    """Return an output's name if it may be written: nothing is there, or with ``overwrite`` an earlier result.

    Args:
        output: file or folder.
        overwrite: whether an earlier result may be replaced.
        objection: why what is there is no earlier result, or None.
        kind: what an earlier result is, for the message.
        name: of the option, for the message.

    Raises:
        RecordExistsError: something is there that may not be replaced.
        StorageError: the folder above does not exist or takes no files.
    """
    if os.path.lexists(output):
        if not overwrite:
            raise RecordExistsError(
                "the output exists", name=name, value=output, advice="Use another name, or --overwrite"
            )
        reason = objection(output) if output.exists() else "a link that leads nowhere"
        if reason is not None:
            raise RecordExistsError(
                f"the output exists and is not {kind} ({reason})", name=name, value=output, advice="Use another name"
            )
    require_room(real(output).parent)
    return output


def require_room(folder: Path) -> None:
    """Refuse a folder that does not exist or takes no files: permissions alone do not say so.

    Raises:
        StorageError: it is so.
    """
    if not folder.is_dir():
        what = "the folder for the output does not exist and cannot be written to"
        raise StorageError(what, name="folder", value=folder)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        what = f"the folder for the output cannot be written to ({error.strerror})"
        raise StorageError(what, name="folder", value=folder, expected="a writable folder") from error


def foreign_entry(folder: Path, known: Callable[[str], bool]) -> str | None:
    """Return in words the first entry of a folder that is not known by its name, or is a link; None if all are."""
    for entry in sorted(os.listdir(folder)):
        if not known(entry):
            return f"{entry} in it is not part of one"
        if (folder / entry).is_symlink():
            return f"{entry} in it is a link"
    return None
