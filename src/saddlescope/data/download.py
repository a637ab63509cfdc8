"""Fetch the MNIST files once, with checksums, into the user's cache."""

import hashlib
import os
import urllib.error
import urllib.request
from pathlib import Path

from saddlescope.errors import DataError, StorageError
from saddlescope.files import write_file

MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)

CHECKSUMS = {
    "train-images-idx3-ubyte.gz": "0b367032e93c5d0cea0925647cfdb18614af8ee15f83e6f2fc2ad904a6835971",
    "train-labels-idx1-ubyte.gz": "1787548bbe0bff1ec2ecdc0ef292b02df999e2d1a6002d27500982c652b17203",
    "t10k-images-idx3-ubyte.gz": "1a1a05eab793c14bb050b398624a11b0ffd1a2953baed553b1b9bd079e2a20be",
    "t10k-labels-idx1-ubyte.gz": "b91679a0acfe4ba0e50a2437a903084cba1f5f92592b016a25a7dfd00455798b",
}

TIMEOUT = 30.0


def cache_folder() -> Path:
    """Return the user's cache folder of this program."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "saddlescope"


def fetch(name: str, folder: Path, mirrors: tuple[str, ...] = MIRRORS) -> Path:
    """Download one MNIST file into a folder, check it, and only then give it its name.

    Raises:
        DataError: no mirror gave the file with the right checksum.
        StorageError: the file cannot be written.
    """
    problems = []
    for mirror in mirrors:
        try:
            with urllib.request.urlopen(mirror + name, timeout=TIMEOUT) as answer:
                content = answer.read()
        except (urllib.error.URLError, OSError, ValueError) as error:
            problems.append(f"{mirror}: {getattr(error, 'reason', error)}")
            continue
        digest = hashlib.sha256(content).hexdigest()
        if digest != CHECKSUMS[name]:
            problems.append(f"{mirror}: wrong checksum {digest[:12]}")
            continue
        return _write(content, folder / name)
    raise DataError(
        f"{name} cannot be downloaded ({'; '.join(problems)})",
        advice="Put the four MNIST files into a folder and name it with SADDLESCOPE_DATA or --data",
    )


def _write(content: bytes, path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"the folder for downloaded files cannot be made ({error.strerror})"
        raise StorageError(what, name="folder", value=path.parent, expected="a writable place") from error
    write_file(path, content, "a downloaded file")
    return path
