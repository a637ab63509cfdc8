"""Save and load results: a folder NAME.saddle with result.json and arrays.nc, written beside its name, then renamed.

result.json holds the SHA-256 of arrays.nc, because netCDF reads a flipped byte without complaint.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from saddlescope.errors import UNREADABLE, RecordError, RecordExistsError
from saddlescope.files import foreign_entry, require_free, restored, writing
from saddlescope.paths.result import Path
from saddlescope.records.provenance import versions
from saddlescope.records.schema import FORMAT, arrays, document, rebuild

DOCUMENT, ARRAYS = "result.json", "arrays.nc"


def check_free(folder: str | FilePath, *, overwrite: bool = False) -> FilePath:
    """Return the folder's path if a result may be written there.

    Raises:
        RecordExistsError: something is there already and ``overwrite`` is False, or it is not a whole path and nothing
            else; or it would lie inside of a path.
        StorageError: the folder above does not exist or cannot be written to.
    """
    folder = FilePath(folder)
    if (folder.absolute().parent / ARRAYS).is_file() and path_objection(folder.absolute().parent) is None:
        raise RecordExistsError("the output lies inside another result", name="out", value=folder)
    return require_free(folder, overwrite=overwrite, objection=path_objection, kind="a result of saddlescope path")


def path_objection(folder: FilePath) -> str | None:
    """Return why a folder is not a whole stored path and nothing else, or None if it is."""
    if not folder.is_dir():
        return "not a folder"
    try:
        content = read_document(folder)
        digest = _sha256(folder / ARRAYS)
    except (RecordError, OSError):
        return f"no readable {DOCUMENT} and {ARRAYS}"
    if content.get("kind") != "path" or content.get("arrays_sha256") != digest:
        return "another kind, or damaged"
    return foreign_entry(folder, (DOCUMENT, ARRAYS).__contains__)


def save_path(path: Path, folder: str | FilePath, *, overwrite: bool = False) -> Path:
    """Write a path to a folder, whole or not at all; return it with the versions filled in.

    Raises:
        RecordExistsError: the folder exists and ``overwrite`` is False.
        StorageError: the disk refuses; nothing is left behind, and an older result stays as it was.
    """
    folder = check_free(folder, overwrite=overwrite)
    path = path if path.versions else replace(path, versions=versions())
    with writing(folder, "the result") as draft:
        draft.mkdir()
        _write_arrays(path, draft / ARRAYS)
        content = {**document(path), "arrays_sha256": _sha256(draft / ARRAYS)}
        text = json.dumps(content, indent=1, allow_nan=False) + "\n"
        (draft / DOCUMENT).write_text(text, encoding="utf-8")
    return path


def _sha256(file: FilePath) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _write_arrays(path: Path, file: FilePath) -> None:
    import xarray  # slow to import, and only needed here

    variables = {
        name: (dims, value.astype(str) if value.dtype.kind in "UO" else value)
        for name, (dims, value) in arrays(path).items()
    }
    attributes = {"title": "permutation path", "format": ".".join(map(str, FORMAT))}
    dataset = xarray.Dataset({name: value for name, value in variables.items()}, attrs=attributes)
    try:
        with _plainly_named(file) as place:
            dataset.to_netcdf(place, engine="netcdf4")
            if place != file:
                shutil.copyfile(place, file)
    except RuntimeError as error:  # the netCDF library's way to say that the disk is full
        raise OSError(str(error)) from error


@contextmanager
def _plainly_named(file: FilePath) -> Iterator[FilePath]:
    """Yield a place that the netCDF library can name: the file itself, or for names that are no UTF-8 a passing one."""
    try:
        os.fspath(file.absolute()).encode("utf-8")
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory() as folder:
            yield FilePath(folder) / ARRAYS
    else:
        yield file


def read_document(folder: str | FilePath) -> dict[str, Any]:
    """Return result.json of a result folder.

    Raises:
        RecordError: not a result, damaged, or of an unknown major version.
    """
    file = restored(FilePath(folder)) / DOCUMENT
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        major = int(content["format"][0])
    except UNREADABLE as error:
        raise RecordError(
            "this is not a readable result", name="run", value=folder, expected=f"a folder with {DOCUMENT}"
        ) from error
    if major != FORMAT[0]:
        raise RecordError(
            "a result of another format",
            name="format",
            value=content["format"],
            expected=f"{FORMAT[0]}.x",
            advice="Use the version that wrote it",
        )
    return content


def load_path(folder: str | FilePath) -> Path:
    """Return a stored path, equal to the saved one array by array.

    Raises:
        RecordError: not a path, incomplete, damaged, or of an unknown major version.
    """
    content = read_document(folder)
    if content.get("kind") != "path":
        raise RecordError("this result is not a path", name="kind", value=content.get("kind"), expected="path")
    return rebuild(content, _read_arrays(FilePath(folder) / ARRAYS, content.get("arrays_sha256")))


def _variables(file: FilePath) -> dict[str, np.ndarray]:
    import xarray

    with xarray.open_dataset(file, engine="netcdf4") as dataset:
        return {str(name): np.asarray(value.values) for name, value in dataset.variables.items()}


def _read_arrays(file: FilePath, digest: str | None) -> dict[str, np.ndarray]:
    try:
        if _sha256(file) != digest:
            raise RecordError("the arrays of a result are damaged, not what was written", name="file", value=file)
        with _plainly_named(file) as place:
            if place != file:
                shutil.copyfile(file, place)
            stored = _variables(place)
    except (OSError, RuntimeError, ValueError) as error:
        raise RecordError("the arrays of a result are missing or damaged", name="file", value=file) from error
    for name, value in stored.items():
        if value.dtype == object:
            stored[name] = value.astype(str)
    return stored
