"""Data sets by name or by file: digits, the papers' toys, MNIST and other IDX folders, the user's own files."""

import json
import math
import os
from pathlib import Path
from typing import Literal

import numpy as np

from saddlescope.data.data import Data, teacher_data
from saddlescope.data.download import CHECKSUMS, cache_folder, fetch
from saddlescope.data.foreign import exists, foreign_kind
from saddlescope.data.idx import read_idx
from saddlescope.data.tables import read_csv, read_npy_pair, read_npz
from saddlescope.errors import DataError
from saddlescope.models.mlp import MLP

Split = Literal["train", "test"]
_PREFIX = {"train": "train", "test": "t10k"}

NAMES = ("digits", "digits-used", "toy", "mnist", "mnist-test")

# A pixel counts as used if so many of the digits have something there.
USED = 0.05


def digits() -> Data:
    """Return 1797 hand-written digits, 8 x 8 pixels in [0, 1], with labels; part of the package, no download.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository (CC BY 4.0), the test
    set as scikit-learn ships it.
    """
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as stored:
        return Data(stored["images"] / 16.0, labels=stored["labels"], name="digits")


def digits_used() -> Data:
    """Return the digits without the pixels that fewer than 1 in 20 of them use: 50 of 64 stay.

    The weights of a pixel that hardly any sample uses lie in a valley that falls without end: where they are free, a
    network has no critical point to find.
    """
    data = digits()
    used = np.mean(data.inputs != 0, axis=0) >= USED
    return Data(data.inputs[:, used], labels=data.labels, name="digits-used")


def normal_inputs(samples: int, width: int, seed: int) -> np.ndarray:
    """Return standard-normal inputs, (samples, width)."""
    return np.random.default_rng(seed).normal(size=(samples, width))


def grid_inputs(low: float = -5.0, high: float = 5.0, step: float = 0.25) -> np.ndarray:
    """Return the points of a square grid, (points, 2); the default is that of [S21], 1681 points."""
    axis = low + step * np.arange(round((high - low) / step) + 1)
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)


def toy_teacher(activation: str = "tanh", seed: int = 0) -> tuple[MLP, dict[str, np.ndarray]]:
    """Return a teacher of the kind of [B19] Fig. 1: 2-5-1 with biases, incoming and outgoing weights standard normal.

    The paper does not print its teacher; the output bias is 0.
    """
    generator = np.random.default_rng(seed)
    generator.normal(size=(1000, 2))  # the toy's inputs come first from the same seed
    network = MLP((2, 5, 1), activation)
    arrays = (*(generator.normal(size=shape) for shape in network.layout.shapes[:-1]), np.zeros(1))
    return network, dict(zip(network.layout.names, arrays, strict=True))


def toy(activation: str = "tanh", seed: int = 0) -> Data:
    """Return the toy task of [B19] Fig. 1: 1000 standard-normal inputs and the `toy_teacher`'s outputs."""
    network, parameters = toy_teacher(activation, seed)
    return teacher_data(network, parameters, normal_inputs(1000, 2, seed), name="toy")


def deep_teacher() -> tuple[MLP, dict[str, np.ndarray]]:
    """Return the teacher of [S21]'s experiment with three hidden layers, 2-4-4-4-1 tanh with biases.

    Weights as published with the paper's scripts; they fit sin 2x + x + cos 3y - 0.4 (y - 1)^2 on `grid_inputs`.
    """
    stored = json.loads(Path(__file__).with_name("deep_teacher.json").read_text("utf-8"))
    network = MLP(tuple(stored["widths"]), stored["activation"])
    arrays = [np.array(layer[name]) for layer in stored["layers"] for name in ("weight", "bias")]
    return network, dict(zip(network.layout.names, arrays, strict=True))


def idx_folder(folder: Path, split: Split = "train") -> Data:
    """Read images and labels in MNIST's file names from a folder; bytes become [0, 1], others stay as they are.

    Raises:
        DataError: a missing, corrupt or truncated file, or images and labels that differ in number.
    """
    arrays = []
    for kind in ("images-idx3", "labels-idx1"):
        stem = f"{_PREFIX[split]}-{kind}-ubyte"
        found = [path for path in (folder / f"{stem}.gz", folder / stem) if path.is_file()]
        if not found:
            raise DataError(
                "an IDX file is missing", name="file", value=folder / f"{stem}[.gz]", expected="an IDX file"
            )
        arrays.append(read_idx(found[0]))
    images, labels = arrays
    if len(images) != len(labels):
        raise DataError(
            "images and labels differ in number", name="labels", value=len(labels), expected=f"{len(images)}"
        )
    scale = 255.0 if images.dtype == np.uint8 else 1.0
    pixels = images.reshape(len(images), math.prod(images.shape[1:])) / scale
    pixels.flags.writeable = False  # `Data` takes it over, without a copy
    return Data(pixels, labels=labels, name=f"{folder.name}-{split}")


def mnist(split: Split = "train", folder: str | Path | None = None) -> Data:
    """Return MNIST with pixels in [0, 1]: from ``folder``, from $SADDLESCOPE_DATA, from the cache, or downloaded once.

    Raises:
        DataError: the files are damaged, or cannot be had.
    """
    if folder is not None:
        return idx_folder(Path(folder), split)
    places = [cache_folder() / "mnist"]
    if "SADDLESCOPE_DATA" in os.environ:
        given = Path(os.environ["SADDLESCOPE_DATA"])
        places = [given / "mnist", given, *places]
    for place in places:
        if (place / f"{_PREFIX[split]}-images-idx3-ubyte.gz").is_file():
            return idx_folder(place, split)
    for name in CHECKSUMS:
        if name.startswith(_PREFIX[split]):
            fetch(name, places[-1])
    return idx_folder(places[-1], split)


def load_data(spec: str) -> Data:
    """Return the data that a command-line word names: a name of `NAMES`, a file, "x.npy,y.npy", or an IDX folder.

    Raises:
        DataError: neither a known name nor a file or folder that can be read.
    """
    named = {
        "digits": digits,
        "digits-used": digits_used,
        "toy": toy,
        "mnist": lambda: mnist("train"),
        "mnist-test": lambda: mnist("test"),
    }
    if spec in named:
        return named[spec]()
    if spec.count(",") == 1 and spec.endswith(".npy"):
        first, second = spec.split(",")
        return read_npy_pair(Path(first), Path(second))
    path = Path(spec)
    if exists(path) and path.is_dir():
        return idx_folder(path)
    readers = {".npz": read_npz, ".csv": read_csv}
    if path.suffix.lower() in readers:
        return readers[path.suffix.lower()](path)
    kind = foreign_kind(path) if exists(path) else None
    raise DataError(
        f"this data is not known: it is {kind}" if kind else "this data is not known",
        name="data",
        value=spec,
        expected=f"{', '.join(NAMES)}, a .npz or .csv file, x.npy,y.npy, or a folder of IDX files",
    )
