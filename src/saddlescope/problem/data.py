"""A data set: inputs with targets, labels or both, checked at the door."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from saddlescope.arrays import Parameters, fingerprint
from saddlescope.errors import DataError, NonFiniteError, ShapeError
from saddlescope.precision import float64

# Rows evaluated at once when a teacher makes targets.
CHUNK = 8192


@dataclass(frozen=True, eq=False)
class Data:
    """Inputs (samples, n_0), targets (samples, n_d) or None, labels (samples,) or None, and a name for people.

    Raises:
        DataError: no samples, no input columns, or labels that are not whole numbers.
        ShapeError: arrays of wrong dimension, or with different numbers of samples.
        NonFiniteError: NaN or infinity.
    """

    inputs: np.ndarray
    targets: np.ndarray | None = None
    labels: np.ndarray | None = None
    name: str = "data"

    def __post_init__(self) -> None:
        """Check, and bring the arrays into float64 and int64."""
        object.__setattr__(self, "inputs", _matrix(self.inputs, "inputs"))
        if self.targets is not None:
            targets = np.asarray(self.targets)
            targets = targets[:, None] if targets.ndim == 1 else targets
            object.__setattr__(self, "targets", _matrix(targets, "targets"))
            _same_length(self.inputs, self.targets, "targets")
        if self.labels is not None:
            object.__setattr__(self, "labels", _labels(self.labels))
            _same_length(self.inputs, self.labels, "labels")

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all arrays."""
        arrays = {"inputs": self.inputs, "targets": self.targets, "labels": self.labels}
        return fingerprint({name: array for name, array in arrays.items() if array is not None})


def _matrix(value: Any, name: str) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise DataError("not numbers", name=f"type of {name}", value=array.dtype, expected="real numbers")
    if array.ndim != 2:
        raise ShapeError(
            "an array of the wrong dimension", name=f"shape of {name}", value=array.shape, expected="(samples, columns)"
        )
    if array.shape[0] == 0 or array.shape[1] == 0:
        raise DataError(
            "the data set is empty",
            name=f"shape of {name}",
            value=array.shape,
            expected="at least one sample and column",
        )
    array = np.ascontiguousarray(array, dtype=np.float64)
    finite = np.isfinite(array)
    if not finite.all():
        row, column = (int(i) for i in np.argwhere(~finite)[0])
        raise NonFiniteError(
            f"the data hold {int((~finite).sum())} numbers that are not finite",
            name=f"{name}[{row}, {column}]",
            value=array[row, column],
            expected="finite numbers",
        )
    return array


def _labels(value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ShapeError(
            "an array of the wrong dimension", name="shape of labels", value=array.shape, expected="(samples,)"
        )
    whole = array.dtype.kind in "iub" or (array.dtype.kind == "f" and bool(np.all(array == np.round(array))))
    if not whole:
        raise DataError("labels must be whole numbers", name="type of labels", value=array.dtype, expected="integers")
    return np.ascontiguousarray(array, dtype=np.int64)


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
    network.check(parameters)
    inputs = _matrix(inputs, "inputs")
    if inputs.shape[1] != network.widths[0]:
        raise ShapeError(
            "data and network do not fit",
            name="inputs per sample",
            value=inputs.shape[1],
            expected=str(network.widths[0]),
        )
    with float64():
        rows = [
            np.asarray(network.apply(parameters, jnp.asarray(inputs[first : first + CHUNK])))
            for first in range(0, len(inputs), CHUNK)
        ]
    return Data(inputs, np.concatenate(rows), labels, name)
