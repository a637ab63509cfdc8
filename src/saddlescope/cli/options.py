"""What several commands share: words turned into values, each mistake one clear line."""

import functools
import inspect
import json
import os
import shlex
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from saddlescope.errors import SettingsError, StorageError
from saddlescope.files import claim, require_free, write_file
from saddlescope.printable import printable

LONGEST_NAME = 255
"""Bytes that common file systems take; what a name is while it is written is shortened (`files`)."""

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


def holding(command: Callable[..., int]) -> Callable[..., int]:
    """Return a command that claims its outputs while it runs: another process that names one of them refuses."""

    @functools.wraps(command)
    def run(*words: Any, **options: Any) -> int:
        given = inspect.signature(command).bind(*words, **options)
        given.apply_defaults()
        with ExitStack() as stack:
            for name in ("out", "figure"):
                if isinstance(given.arguments.get(name), Path):
                    stack.enter_context(claim(given.arguments[name]))
            return command(*words, **options)

    return run


def free_file(path: Path, *, overwrite: bool, by: str, drawn: bool = False) -> Path:
    """Return the path if a file may be written there; asked before anything is computed.

    Args:
        path: the file.
        overwrite: whether an earlier result may be replaced.
        by: the command, whose own earlier results alone may be replaced.
        drawn: a figure of the command, not its result.

    Raises:
        RecordExistsError: it exists and may not be overwritten.
        StorageError: its folder does not exist or takes no files, or it is a folder itself.
    """
    short_name(path)
    if path.is_dir():
        raise StorageError("the output is a folder", name="file", value=path, expected="a file name")

    def objection(file: Path) -> str | None:
        from saddlescope.records.recognise import objection

        return objection(file, f"saddlescope {by}", drawn=drawn)

    kind = f"an earlier {'figure' if drawn else 'result'} of saddlescope {by}"
    return require_free(path, overwrite=overwrite, objection=objection, kind=kind, name="file")


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
    """Write one JSON document, whole or not at all.

    Raises:
        StorageError: the disk refuses.
    """
    write_file(path, json.dumps(value, indent=1, allow_nan=False) + "\n", "the document")


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
