"""The IDX format of MNIST: magic number, dimensions, numbers in big-endian order; plain or gzipped."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from saddlescope.errors import DataError

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: Path) -> np.ndarray:
    """Return the array that an IDX file holds.

    Raises:
        DataError: a missing, truncated or corrupt file, or one that is not IDX.
    """
    raw = _bytes(path)
    if len(raw) < 4 or raw[0] != 0 or raw[1] != 0 or raw[2] not in TYPES or raw[3] == 0:
        raise DataError("not an IDX file", name="file", value=path, expected="a magic number 0 0 type dimensions")
    dimensions, kind = raw[3], np.dtype(TYPES[raw[2]])
    head = 4 + 4 * dimensions
    if len(raw) < head:
        raise DataError(
            "an IDX file is truncated in its head", name="file", value=path, expected=f"{head} bytes, not {len(raw)}"
        )
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", dimensions, 4))
    wanted = head + math.prod(shape) * kind.itemsize
    if len(raw) != wanted:
        what = "truncated" if len(raw) < wanted else "longer than its head says"
        raise DataError(f"an IDX file is {what}", name="file", value=path, expected=f"{wanted} bytes, not {len(raw)}")
    return np.frombuffer(raw, kind, math.prod(shape), head).reshape(shape).astype(kind.newbyteorder("="))


def _bytes(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(
            "a file cannot be read", name="file", value=path, expected=f"a readable file ({error.strerror})"
        ) from error
    if raw[:2] != b"\x1f\x8b" and path.suffix != ".gz":
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            "a gzipped file is corrupt or truncated", name="file", value=path, expected="a whole gzip file"
        ) from error
