"""A data set: inputs with targets, labels or both, checked at the door."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array

from saddlescope.arrays import Parameters, fingerprint, from_user, to_numpy
from saddlescope.errors import DataError, NonFiniteError, ShapeError
from saddlescope.models.contract import adapted, as_taken, output_of
from saddlescope.precision import float64

# Rows evaluated at once when a teacher makes targets.
CHUNK = 8192

# Sums of squares, and of squares of squares in the Hessian's products, stay within double precision for numbers of
# this size and the inverse of it; beyond, a loss becomes infinite, or zero where nothing fits.
LARGEST = 1e75


@dataclass(frozen=True, eq=False, init=False)
class Data:
    """Inputs (samples, ...), targets (samples, ...) or None, labels (samples,) or None, and a name for people.

    Samples may have any shape: a row of numbers, an image, a sequence of tokens. ``outputs`` (samples, ...) are what
    the user's own program computed for these inputs: a network that is opened with the data is compared with them
    (`agreement.require_agreement`). All arrays are copies, and read-only.

    Raises:
        DataError: no samples, no input columns, masked entries, numbers whose squares double precision does not hold,
            or labels that are not whole numbers within int64.
        ShapeError: arrays of wrong dimension, or with different numbers of samples.
        NonFiniteError: NaN or infinity.
    """

    inputs: np.ndarray
    targets: np.ndarray | None = None
    labels: np.ndarray | None = None
    name: str = "data"
    outputs: np.ndarray | None = None

    def __init__(
        self, inputs: Any, targets: Any = None, labels: Any = None, name: str = "data", outputs: Any = None
    ) -> None:
        """Check arrays of NumPy, JAX or torch, or nested lists, and keep copies: float64; integer inputs int64."""
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "inputs", _rows(from_user(inputs, "inputs"), "inputs", whole=True))
        for key, value in (("targets", targets), ("outputs", outputs)):
            rows = None if value is None else from_user(value, key)
            if rows is not None:
                rows = _rows(rows[:, None] if rows.ndim == 1 else rows, key)
                _same_length(self.inputs, rows, key)
            object.__setattr__(self, key, rows)
        object.__setattr__(self, "labels", None if labels is None else _labels(labels))
        _same_length(self.inputs, self.labels, "labels")

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all arrays."""
        names = ("inputs", "targets", "labels", "outputs")
        arrays = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return fingerprint(arrays)


def _rows(array: np.ndarray, name: str, *, whole: bool = False) -> np.ndarray:
    """Return checked rows in float64; ``whole``: integers and booleans stay what they are."""
    if array.dtype.kind not in "fiub":
        raise DataError("not numbers", name=f"type of {name}", value=array.dtype, expected="real numbers")
    if array.ndim < 2:
        raise ShapeError(
            "an array of the wrong dimension", name=f"shape of {name}", value=array.shape, expected="(samples, columns)"
        )
    if 0 in array.shape:
        raise DataError(
            "the data set is empty",
            name=f"shape of {name}",
            value=array.shape,
            expected="at least one sample and column",
        )
    if whole and (array.dtype.kind == "b" or (array.dtype.kind in "iu" and _fits(array))):
        return _frozen(array, np.bool_ if array.dtype.kind == "b" else np.int64)
    own = _frozen(array, np.float64)
    finite = np.isfinite(own)
    if not finite.all():
        place = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise NonFiniteError(
            f"the data hold {int((~finite).sum())} numbers that are not finite",
            name=f"{name}{list(place)}",
            value=array[place],
            expected="finite numbers",
        )
    _require_squares(own, name)
    return own


def _require_squares(rows: np.ndarray, name: str) -> None:
    """Refuse numbers whose squares overflow, or are all lost."""
    size = max(float(rows.max()), -float(rows.min()))  # without a copy of the rows
    if size and not 1.0 / LARGEST <= size <= LARGEST:
        raise DataError(
            "the numbers are too large or too small for sums of their squares in double precision",
            name=f"largest of {name}",
            value=f"{size:.3g}",
            expected=f"{1.0 / LARGEST:g} to {LARGEST:g}, or all zero",
            advice="Choose another unit of measurement",
        )


def _fits(array: np.ndarray) -> bool:
    """Whether int64 holds every entry."""
    return array.dtype.kind == "i" or bool((array <= np.uint64(np.iinfo(np.int64).max)).all())


def _frozen(array: np.ndarray, kind: type) -> np.ndarray:
    """Return the array as one that nobody can write to; a copy, unless it is such a one already."""
    if array.dtype == kind and array.flags.owndata and array.flags.c_contiguous and not array.flags.writeable:
        return array
    with np.errstate(over="ignore"):  # what float64 does not hold becomes infinite, and is refused as that
        own = np.array(array, dtype=kind, order="C")
    own.flags.writeable = False
    return own


def _labels(value: Any) -> np.ndarray:
    array = from_user(value, "labels")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ShapeError(
            "an array of the wrong dimension", name="shape of labels", value=array.shape, expected="(samples,)"
        )
    if array.dtype.kind not in "iubf":
        raise DataError("labels must be whole numbers", name="type of labels", value=array.dtype, expected="integers")
    good = np.ones(array.shape, bool)
    if array.dtype.kind == "u":
        good = array <= np.uint64(np.iinfo(np.int64).max)  # a cast would make larger ones negative
    elif array.dtype.kind == "f":
        good = np.isfinite(array) & (np.abs(array) < 2.0**63) & (np.trunc(array) == array)
    if not good.all():
        first = int(np.argmin(good))
        raise DataError(
            "labels must be whole numbers",
            name=f"labels[{first}]",
            value=array[first],
            expected="an integer of 64 bits",
        )
    return _frozen(array, np.int64)


def _same_length(inputs: np.ndarray, other: np.ndarray | None, name: str) -> None:
    if other is not None and len(other) != len(inputs):
        raise ShapeError(
            "different numbers of samples", name=name, value=len(other), expected=f"{len(inputs)}, as inputs"
        )


def teacher_data(
    network: Any, parameters: Parameters, inputs: np.ndarray, *, labels: np.ndarray | None = None, name: str = "teacher"
) -> Data:
    """Return a data set whose targets are a network's own outputs: the network is then a zero-loss minimum.

    Raises:
        ShapeError: parameters or inputs that do not fit the network.
        NonFiniteError: an output is not finite.
    """
    network = adapted(network)
    network.check(parameters)
    inputs = _rows(from_user(inputs, "inputs"), "inputs", whole=True)
    parameters = to_numpy(parameters)
    targets = network_outputs(network, parameters, inputs)
    targets.flags.writeable = False  # `Data` takes it over, without a copy
    return Data(inputs, targets, labels, name)


def network_outputs(network: Any, parameters: Parameters, inputs: np.ndarray) -> np.ndarray:
    """Return a network's outputs in float64, in chunks of bounded memory.

    Raises:
        ShapeError: inputs that do not fit the network.
    """
    with float64():
        inputs = as_taken(network, inputs)
        if getattr(network, "input_shape", None) is None:
            output_of(network, inputs[:1].shape, inputs.dtype)
        rows = [
            np.asarray(_apply(network, parameters, inputs[first : first + CHUNK]))
            for first in range(0, len(inputs), CHUNK)
        ]
    return np.concatenate(rows)


@eqx.filter_jit
def _apply(network: Any, parameters: Parameters, inputs: Any) -> Array:
    return network.apply(parameters, inputs)
