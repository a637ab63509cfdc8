"""What several commands share: words turned into values, each mistake one clear line."""

import json
import sys
from pathlib import Path
from typing import Any

from saddlescope.errors import RecordExistsError, SettingsError, StorageError


def numbers(word: str, what: str) -> tuple[int, ...]:
    """Return the whole numbers of a word such as ``2,5,1``.

    Raises:
        SettingsError: a part is no whole number.
    """
    try:
        return tuple(int(part) for part in word.split(","))
    except ValueError as error:
        raise SettingsError(f"not a list of whole numbers for {what}", name=what, value=word, expected="such as 2,5,1") from error


def pair_of(word: str) -> tuple[int, int] | None:
    """Return the pair of a word such as ``0,3``; None for ``closest``.

    Raises:
        SettingsError: anything else.
    """
    if word == "closest":
        return None
    values = numbers(word, "pair")
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


def free_file(path: Path, *, overwrite: bool) -> Path:
    """Return the path if a file may be written there; asked before anything is computed.

    Raises:
        RecordExistsError: it exists and may not be overwritten.
        StorageError: its folder does not exist, or it is a folder itself.
    """
    if path.is_dir():
        raise StorageError("the output is a folder", name="file", value=path, expected="a file name")
    if path.exists() and not overwrite:
        raise RecordExistsError("the output exists", name="file", value=path, advice="Use another name, or --overwrite")
    if not path.absolute().parent.is_dir():
        raise StorageError("the folder for the output does not exist", name="folder", value=path.absolute().parent)
    return path


def print_json(value: Any) -> None:
    """Print exactly one JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=1, allow_nan=False) + "\n")


def say(text: str, *, quiet: bool = False) -> None:
    """Print a line for people on standard error."""
    if not quiet:
        sys.stderr.write(text + "\n")
