"""What several commands share: words turned into values, each mistake one clear line."""

import json
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from saddlescope.errors import RecordExistsError, SettingsError, StorageError
from saddlescope.printable import printable

LONGEST_NAME = 230
"""Common file systems take 255 bytes, and a file that is being written has a longer name for a while."""

LARGEST = 2**31 - 1


def numbers(word: str, what: str, example: str) -> tuple[int, ...]:
    """Return the whole numbers of a word such as ``2,5,1``.

    Raises:
        SettingsError: a part is no whole number.
    """
    try:
        return tuple(int(part) for part in word.split(","))
    except ValueError as error:
        raise SettingsError(
            f"not a list of whole numbers for {what}", name=what, value=word, expected=f"such as {example}"
        ) from error


def pair_of(word: str) -> tuple[int, int] | None:
    """Return the pair of a word such as ``0,3``; None for ``closest``.

    Raises:
        SettingsError: anything else.
    """
    if word == "closest":
        return None
    values = numbers(word, "pair", "0,3")
    if len(values) != 2:
        raise SettingsError("a pair needs two neurons", name="pair", value=word, expected="such as 0,3, or closest")
    return values[0], values[1]


def one_of(value: str, name: str, choices: tuple[str, ...]) -> str:
    """Return the value if it is one of the choices.

    Raises:
        SettingsError: it is not.
    """
    if value not in choices:
        raise SettingsError("this setting cannot be used", name=name, value=value, expected=", ".join(choices))
    return value


def array_size(value: int, name: str) -> int:
    """Return a number of neurons that an array can have.

    Raises:
        SettingsError: it is larger.
    """
    if value > LARGEST:
        raise SettingsError("more than an array can hold", name=name, value=value, expected=f"at most {LARGEST}")
    return value


def short_name(path: Path) -> Path:
    """Return the path if its name leaves room for that of a file that is being written.

    Raises:
        StorageError: it is too long.
    """
    if len(os.fsencode(path.name)) > LONGEST_NAME:
        raise StorageError("the output's name is too long", name="out", value=path, expected=f"{LONGEST_NAME} bytes")
    return path


def free_file(path: Path, *, overwrite: bool) -> Path:
    """Return the path if a file may be written there; asked before anything is computed.

    Raises:
        RecordExistsError: it exists and may not be overwritten.
        StorageError: its folder does not exist or takes no files, or it is a folder itself.
    """
    short_name(path)
    if path.is_dir():
        raise StorageError("the output is a folder", name="file", value=path, expected="a file name")
    if path.exists() and not overwrite:
        raise RecordExistsError("the output exists", name="file", value=path, advice="Use another name, or --overwrite")
    above = path.absolute().parent
    if not above.is_dir():
        raise StorageError("the folder for the output does not exist", name="folder", value=above)
    try:
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        what = f"the folder for the output cannot be written to ({error.strerror})"
        raise StorageError(what, name="folder", value=above) from error
    return path


@contextmanager
def own_folder(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Make a folder for several outputs; if the work in it fails, a folder made here is taken away again.

    Raises:
        RecordExistsError: it exists and may not be written into, or is a file.
        StorageError: it cannot be made.
    """
    there = path.is_dir()
    if path.exists() and not (there and overwrite):
        raise RecordExistsError("the output exists", name="out", value=path, advice="Use another name, or --overwrite")
    try:
        path.mkdir(exist_ok=there)
    except OSError as error:
        what = f"the folder for the output cannot be made ({error.strerror})"
        raise StorageError(what, name="out", value=path, expected="a writable place") from error
    try:
        yield path
    except BaseException:
        if not there:
            shutil.rmtree(path, ignore_errors=True)
        raise


def seed_of(value: int) -> int:
    """Return a seed that random generators take.

    Raises:
        SettingsError: it is negative.
    """
    if value < 0:
        raise SettingsError("a seed cannot be negative", name="seed", value=value, expected="0 or more")
    return value


def print_json(value: Any) -> None:
    """Print exactly one JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=1, allow_nan=False) + "\n")
    sys.stdout.flush()


def write_json(path: Path, value: Any) -> None:
    """Write one JSON document under a temporary name, then rename it.

    Raises:
        StorageError: the disk refuses.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        what = f"the document cannot be written ({error.strerror})"
        raise StorageError(what, name="out", value=path, expected="a disk with room for it") from error


def say(text: str, *, quiet: bool = False) -> None:
    """Print a line for people on standard error."""
    if not quiet:
        sys.stderr.write(printable(text) + "\n")


def command_line(*words: str, **options: Any) -> str:
    """Return a command of this program as a shell takes it; options that are None or 0.0 are left out."""
    given = [
        (f"--{name.replace('_', '-')}", str(value))
        for name, value in options.items()
        if value is not None and not (isinstance(value, float) and value == 0)
    ]
    return shlex.join(["saddlescope", *words, *(word for pair in given for word in pair)])
