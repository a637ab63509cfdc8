"""Save and load results: a folder NAME.saddle with result.json and arrays.nc, written beside its name, then renamed.

result.json holds the SHA-256 of arrays.nc, because netCDF reads a flipped byte without complaint.
"""

import hashlib
import json
import os
import shutil
import tempfile
import uuid
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from saddlescope.errors import UNREADABLE, RecordError, RecordExistsError, StorageError
from saddlescope.paths.result import Path
from saddlescope.records.provenance import versions
from saddlescope.records.schema import FORMAT, arrays, document, rebuild

DOCUMENT, ARRAYS = "result.json", "arrays.nc"


def check_free(folder: str | FilePath, *, overwrite: bool = False) -> FilePath:
    """Return the folder's path if a result may be written there.

    Raises:
        RecordExistsError: something is there already and ``overwrite`` is False, or it is not a result.
        StorageError: the folder above does not exist or cannot be written to.
    """
    folder = FilePath(folder)
    if os.path.lexists(folder):
        if not overwrite:
            raise RecordExistsError(
                "the output exists", name="out", value=folder, advice="Use another name, or --overwrite"
            )
        if not (folder / DOCUMENT).is_file():
            raise RecordExistsError(
                "the output exists and is not a result", name="out", value=folder, advice="Use another name"
            )
    above = folder.absolute().parent
    try:
        with tempfile.TemporaryFile(dir=above):
            pass  # permissions alone do not say whether the disk takes a file
    except OSError as error:
        raise StorageError(
            f"the folder for the output cannot be written to ({error.strerror})",
            name="folder",
            value=above,
            expected="a writable folder",
        ) from error
    return folder


def save_path(path: Path, folder: str | FilePath, *, overwrite: bool = False) -> Path:
    """Write a path to a folder, whole or not at all; return it with the versions filled in.

    Raises:
        RecordExistsError: the folder exists and ``overwrite`` is False.
        StorageError: the disk refuses; nothing is left behind, and an older result stays as it was.
    """
    folder = check_free(folder, overwrite=overwrite)
    path = path if path.versions else replace(path, versions=versions())
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        temporary.mkdir()
        _write_arrays(path, temporary / ARRAYS)
        content = {**document(path), "arrays_sha256": _sha256(temporary / ARRAYS)}
        text = json.dumps(content, indent=1, allow_nan=False) + "\n"
        (temporary / DOCUMENT).write_text(text, encoding="utf-8")
        for name in (ARRAYS, DOCUMENT, "."):
            _to_disk(temporary / name)
        _move(temporary, folder)
    except OSError as error:
        raise StorageError(
            f"the result cannot be written ({error.strerror or error})",
            name="out",
            value=folder,
            expected="a disk with room for it",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


def _sha256(file: FilePath) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _to_disk(place: FilePath) -> None:
    """Wait until a file or folder is on the disk: only now does a full disk say so for certain."""
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _move(temporary: FilePath, folder: FilePath) -> None:
    """Give the finished folder its name; an older result is put aside first, and back if that fails."""
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.old")
    replacing = folder.exists()
    if replacing:
        os.rename(folder, aside)
    try:
        os.rename(temporary, folder)
    except OSError:
        if replacing:
            os.rename(aside, folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _write_arrays(path: Path, file: FilePath) -> None:
    import xarray  # slow to import, and only needed here

    variables = {
        name: (dims, value.astype(str) if value.dtype.kind in "UO" else value)
        for name, (dims, value) in arrays(path).items()
    }
    attributes = {"title": "permutation path", "format": ".".join(map(str, FORMAT))}
    dataset = xarray.Dataset({name: value for name, value in variables.items()}, attrs=attributes)
    try:
        dataset.to_netcdf(file, engine="netcdf4")
    except RuntimeError as error:  # the netCDF library's way to say that the disk is full
        raise OSError(str(error)) from error


def read_document(folder: str | FilePath) -> dict[str, Any]:
    """Return result.json of a result folder.

    Raises:
        RecordError: not a result, damaged, or of an unknown major version.
    """
    file = FilePath(folder) / DOCUMENT
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


def _read_arrays(file: FilePath, digest: str | None) -> dict[str, np.ndarray]:
    import xarray

    try:
        if _sha256(file) != digest:
            raise RecordError("the arrays of a result are damaged, not what was written", name="file", value=file)
        with xarray.open_dataset(file, engine="netcdf4") as dataset:
            stored = {str(name): np.asarray(value.values) for name, value in dataset.variables.items()}
    except (OSError, RuntimeError, ValueError) as error:
        raise RecordError("the arrays of a result are missing or damaged", name="file", value=file) from error
    for name, value in stored.items():
        if value.dtype == object:
            stored[name] = value.astype(str)
    return stored
