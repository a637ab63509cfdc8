"""Data files of the user's: .npz, a pair of .npy, CSV with a header. Nothing is guessed, no pickle loaded."""

import csv
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from saddlescope.errors import DataError
from saddlescope.problem.data import Data


def _refuse(path: Path, what: str, expected: str) -> DataError:
    return DataError(what, name="file", value=path, expected=expected)


def _load(path: Path, expected: str) -> Any:
    if not path.is_file():
        raise _refuse(path, "no such file", expected)
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise _refuse(path, "this is not what its name says, or is damaged", expected) from error


def read_npz(path: Path) -> Data:
    """Read ``inputs`` with ``targets``, ``labels`` or both from an .npz file.

    Raises:
        DataError: missing, damaged, without these arrays, or with arrays that are not numbers.
    """
    expected = "an .npz file with inputs and targets or labels"
    archive = _load(path, expected)
    if isinstance(archive, np.ndarray):
        raise _refuse(path, "this holds a single array", expected)
    with archive:
        if "inputs" not in archive.files or not {"targets", "labels"} & set(archive.files):
            raise _refuse(path, f"arrays are missing, found {', '.join(archive.files) or 'none'}", expected)
        try:
            arrays = {name: archive[name] for name in ("inputs", "targets", "labels") if name in archive.files}
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise _refuse(path, "an array cannot be read", expected) from error
    return Data(**arrays, name=path.name)


def read_npy_pair(inputs: Path, outputs: Path) -> Data:
    """Read inputs and targets (floating point) or labels (integers, one dimension) from two .npy files.

    Raises:
        DataError: missing or damaged files.
    """
    first, second = (_load(path, "an .npy file") for path in (inputs, outputs))
    name = f"{inputs.name},{outputs.name}"
    if second.ndim == 1 and second.dtype.kind in "iu":
        return Data(first, labels=second, name=name)
    return Data(first, targets=second, name=name)


def read_csv(path: Path) -> Data:
    """Read a CSV file with a header: columns ``x...``/``input...``, ``y...``/``target...``, ``label``.

    Raises:
        DataError: no header, a column with another name, a row of the wrong length, or a cell that is no number.
    """
    expected = "a header with x0, x1, ... (or input...), y0, ... (or target...), or label"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _refuse(path, "this cannot be read as CSV", expected) from error
    if not rows:
        raise _refuse(path, "the file is empty", expected)
    header = [name.strip().lower() for name in rows[0]]
    patterns = {"inputs": r"(x|inputs?)[_ ]?\d*", "targets": r"(y|targets?)[_ ]?\d*", "labels": r"labels?"}
    places = {kind: [k for k, name in enumerate(header) if re.fullmatch(rule, name)] for kind, rule in patterns.items()}
    known = sorted(k for found in places.values() for k in found)
    if known != list(range(len(header))) or not places["inputs"] or len(places["labels"]) > 1:
        unknown = [rows[0][k] for k in range(len(header)) if k not in known]
        raise DataError(
            f"the columns of {path} are not understood", name="columns", value=unknown or rows[0], expected=expected
        )
    if not places["targets"] and not places["labels"]:
        raise _refuse(path, "there are neither targets nor labels", expected)
    table = np.array([_numbers(row, line, len(header), path) for line, row in enumerate(rows[1:], start=2) if row])
    table = table.reshape(-1, len(header))
    targets = table[:, places["targets"]] if places["targets"] else None
    labels = table[:, places["labels"][0]] if places["labels"] else None
    return Data(table[:, places["inputs"]], targets, labels, path.name)


def _numbers(row: list[str], line: int, width: int, path: Path) -> list[float]:
    if len(row) != width:
        raise DataError(
            f"line {line} of {path} has the wrong length", name="cells", value=len(row), expected=str(width)
        )
    numbers = []
    for column, cell in enumerate(row, start=1):
        try:
            numbers.append(float(cell))
        except ValueError as error:
            where = f"line {line}, column {column} of {path}"
            raise DataError(f"not a number in {where}", name="cell", value=repr(cell), expected="a number") from error
    return numbers
