"""Data files of the user's: .npz, a pair of .npy, CSV with a header. Nothing is guessed, no pickle loaded."""

import csv
import re
import stat
import tokenize
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from saddlescope.data.data import Data
from saddlescope.data.foreign import exists, foreign_kind
from saddlescope.errors import DataError

# What damaged archives and heads of arrays raise, out of NumPy, zipfile and Python's own parser.
_DAMAGED = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,
    RecursionError,
    RuntimeError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
)
_KINDS = {"inputs": r"(x|inputs?)[_ ]?(\d{0,9})", "targets": r"(y|targets?)[_ ]?(\d{0,9})", "labels": r"(labels?)()"}
_ARRAYS = ("inputs", "targets", "labels", "outputs")


def _refuse(path: Path, what: str, expected: str) -> DataError:
    return DataError(what, name="file", value=path, expected=expected)


def _require_file(path: Path, expected: str) -> None:
    if not exists(path):
        raise _refuse(path, "no such file", expected)
    if not stat.S_ISREG(path.stat().st_mode):
        raise _refuse(path, "this is no file", expected)


def _load(path: Path, expected: str) -> np.ndarray | tuple[list[str], dict[str, Any]]:
    """Return the array of an .npy file, or of an .npz file the names of all members and those that are data."""
    _require_file(path, expected)
    opened = False
    try:
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            opened = True
            if isinstance(content, np.ndarray):
                return content
            with content:
                names = list(content.files)
                return names, {name: content[name] for name in _ARRAYS if name in names}
    except _DAMAGED as error:
        kind = None if opened else foreign_kind(path)
        what = "an array cannot be read" if opened else "this is not what its name says, or is damaged"
        raise _refuse(path, what + (f" (it looks like {kind})" if kind else ""), expected) from error


def read_npz(path: Path) -> Data:
    """Read ``inputs`` with ``targets``, ``labels`` or both from an .npz file; ``outputs`` are kept where they are.

    Raises:
        DataError: missing, damaged, without these arrays, with two of one name, or with arrays that are not numbers.
    """
    expected = "an .npz file with inputs and targets or labels"
    content = _load(path, expected)
    if isinstance(content, np.ndarray):
        raise _refuse(path, "this holds a single array", expected)
    names, arrays = content
    if "inputs" not in names or not {"targets", "labels"} & set(names):
        raise _refuse(path, f"arrays are missing, found {', '.join(names) or 'none'}", expected)
    twice = sorted({name for name in _ARRAYS if names.count(name) > 1})
    if twice:
        raise _refuse(path, f"two arrays of one name, {', '.join(twice)}", expected)
    raw = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
    if raw:
        raise _refuse(path, f"{', '.join(raw)} cannot be read as arrays", expected)
    return Data(**arrays, name=path.name)


def read_npy_pair(inputs: Path, outputs: Path) -> Data:
    """Read inputs and targets (floating point) or labels (integers, one dimension) from two .npy files.

    Raises:
        DataError: missing or damaged files.
    """
    arrays = []
    for path in (inputs, outputs):
        content = _load(path, "an .npy file")
        if not isinstance(content, np.ndarray):
            raise _refuse(path, "this is an archive of several arrays", "an .npy file")
        arrays.append(content)
    first, second = arrays
    name = f"{inputs.name},{outputs.name}"
    if second.ndim == 1 and second.dtype.kind in "iu":
        return Data(first, labels=second, name=name)
    return Data(first, targets=second, name=name)


def read_csv(path: Path) -> Data:
    """Read a CSV file with a header: columns ``x...``/``input...``, ``y...``/``target...``, ``label``.

    Cells are parted by commas, or by semicolons where the header has them. A byte order mark is skipped. Numbered
    columns are taken in the order of their numbers, wherever they stand.

    Raises:
        DataError: no header, a column with another name or the same as another's, a row of the wrong length, or a
            cell that is no number.
    """
    expected = "a header with x0, x1, ... (or input...), y0, ... (or target...), or label"
    _require_file(path, expected)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            rows = list(csv.reader(file, delimiter=";" if ";" in first and "," not in first else ",", strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _refuse(path, "this cannot be read as CSV", expected) from error
    if not rows:
        raise _refuse(path, "the file is empty", expected)
    places = _columns(rows[0], path, expected)
    table = np.array(
        [_numbers(row, line, len(rows[0]), path) for line, row in enumerate(rows[1:], start=2) if row]
    ).reshape(-1, len(rows[0]))
    targets = table[:, places["targets"]] if places["targets"] else None
    labels = table[:, places["labels"][0]] if places["labels"] else None
    return Data(table[:, places["inputs"]], targets, labels, path.name)


def _columns(names: list[str], path: Path, expected: str) -> dict[str, list[int]]:
    """Return where the inputs, targets and labels stand, each in the order of its numbers."""
    header = [name.strip().lower() for name in names]
    found: dict[str, dict[int | None, int]] = {kind: {} for kind in _KINDS}
    unknown = []
    for place, name in enumerate(header):
        kind, match = next(((kind, m) for kind, rule in _KINDS.items() if (m := re.fullmatch(rule, name))), ("", None))
        if match is None:
            unknown.append(names[place])
            continue
        number = int(match[2]) if match[2] else None
        if number in found[kind]:
            raise DataError(
                f"two columns of {path} stand for the same",
                name="columns",
                value=[names[found[kind][number]], names[place]],
                expected="each once",
            )
        found[kind][number] = place
    mixed = [kind for kind, numbers in found.items() if None in numbers and len(numbers) > 1]
    if unknown or mixed or not found["inputs"]:
        value = unknown or [names[place] for kind in mixed for place in found[kind].values()] or names
        raise DataError(f"the columns of {path} are not understood", name="columns", value=value, expected=expected)
    if not found["targets"] and not found["labels"]:
        raise _refuse(path, "there are neither targets nor labels", expected)
    return {kind: [numbers[key] for key in sorted(numbers, key=lambda n: n or 0)] for kind, numbers in found.items()}


def _numbers(row: list[str], line: int, width: int, path: Path) -> list[float]:
    if len(row) != width:
        raise DataError(
            f"line {line} of {path} has the wrong length", name="cells", value=len(row), expected=str(width)
        )
    numbers = []
    for column, cell in enumerate(row, start=1):
        try:
            numbers.append(float("not a number" if "_" in cell else cell))  # Python reads 1_000 as a thousand
        except ValueError as error:
            where = f"line {line}, column {column} of {path}"
            raise DataError(f"not a number in {where}", name="cell", value=repr(cell), expected="a number") from error
    return numbers
