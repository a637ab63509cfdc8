"""Parameter sets (dicts of arrays by name) as vectors and back, fingerprints, and checks at the door.

The order of a flattened parameter set is the dict's own order, never sorted: the layout is explicit in `Layout`.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from saddlescope.errors import DataError, NonFiniteError, ShapeError

Parameters = Mapping[str, Any]
"""A parameter set: arrays (NumPy or JAX) by PyTorch's names, such as ``0.weight``. Never changed in place."""


@dataclass(frozen=True)
class Layout:
    """Names, shapes and offsets of a flattened parameter set. Hashable, so that it can be static under jit."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(parameters: Parameters) -> "Layout":
        """Return the layout of a parameter set, in the dict's own order."""
        return Layout(tuple(parameters), tuple(tuple(np.shape(value)) for value in parameters.values()))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of entries of each array."""
        return tuple(math.prod(shape) for shape in self.shapes)

    @property
    def size(self) -> int:
        """Number of entries of all arrays together."""
        return sum(self.sizes)

    def offsets(self) -> dict[str, int]:
        """Position of each array's first entry in the vector."""
        starts = np.concatenate([[0], np.cumsum(self.sizes)])[:-1]
        return {name: int(start) for name, start in zip(self.names, starts, strict=True)}

    def flatten(self, parameters: Parameters) -> Float[Array, " size"]:
        """Join all arrays, row by row, into one vector (works under jit).

        Raises:
            ShapeError: names or shapes differ from this layout.
        """
        given = Layout(self.names, tuple(tuple(np.shape(parameters.get(name, ()))) for name in self.names))
        if set(parameters) != set(self.names) or given != self:
            raise ShapeError(
                "the parameters do not fit the layout",
                name="shapes",
                value=dict(zip(parameters, Layout.of(parameters).shapes, strict=True)),
                expected=str(dict(zip(self.names, self.shapes, strict=True))),
            )
        pieces = [parameters[name] for name in self.names]
        if all(isinstance(piece, np.ndarray) for piece in pieces):  # nothing to compile
            return jnp.asarray(np.concatenate([np.ravel(piece) for piece in pieces]))
        return jnp.concatenate([jnp.ravel(jnp.asarray(piece)) for piece in pieces])

    def unflatten(self, vector: Float[Array, " size"]) -> dict[str, Array]:
        """Cut a vector into the named arrays (works under jit)."""
        pieces = jnp.split(vector, np.cumsum(self.sizes)[:-1])
        return {n: jnp.reshape(p, s) for n, p, s in zip(self.names, pieces, self.shapes, strict=True)}

    def unflatten_numpy(self, vector: np.ndarray) -> dict[str, np.ndarray]:
        """Cut the last axis of a NumPy array into the named arrays; leading axes stay."""
        lead = vector.shape[:-1]
        pieces = np.split(vector, np.cumsum(self.sizes)[:-1], axis=-1)
        return {n: p.reshape(lead + s) for n, p, s in zip(self.names, pieces, self.shapes, strict=True)}


def from_user(value: Any, name: str) -> np.ndarray:
    """Return a user's array, of whatever library, as a NumPy array: values as they are, half types widened exactly.

    A torch tensor is detached and brought from its device; bfloat16 and the 8-bit floats, which NumPy does not know,
    become float32, which holds each of their values.

    Args:
        value: an array of NumPy, JAX or torch, or nested sequences of numbers.
        name: what it is, for the error's text.

    Raises:
        DataError: a masked entry, rows of unequal length, a tensor without values, or something that is no array.
    """
    if isinstance(value, np.ma.MaskedArray):
        masked = int(np.ma.count_masked(value))
        if masked:
            where = [int(i) for i in np.argwhere(np.ma.getmaskarray(value))[0]]
            raise DataError(
                "the array has masked entries",
                name=f"{name}{where}",
                value=f"masked, one of {masked}",
                expected="an array without a mask",
                advice="Drop these rows, or put numbers in their place",
            )
        value = value.data
    try:
        array = np.asarray(_from_torch(value))
    except (ValueError, TypeError, RuntimeError) as error:  # NotImplementedError of torch's meta device is the second
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise DataError(
            f"this cannot be read as an array ({error})", name=f"type of {name}", value=kind, expected="real numbers"
        ) from error
    if array.dtype.kind == "V" and array.dtype.names is None and jnp.issubdtype(array.dtype, jnp.floating):
        return array.astype(np.float32)
    return array


def _from_torch(value: Any) -> Any:
    """Return a torch tensor as a NumPy array, anything else as it is; torch itself is not imported."""
    if type(value).__module__.split(".")[0] != "torch" or not hasattr(value, "detach"):
        return value
    dense = value.detach().cpu().resolve_conj().resolve_neg()
    dense = dense.dequantize() if dense.is_quantized else dense.to_dense()
    unknown = dense.is_floating_point() and str(dense.dtype) not in ("torch.float16", "torch.float32", "torch.float64")
    return (dense.float() if unknown else dense).numpy()


def to_numpy(parameters: Parameters) -> dict[str, np.ndarray]:
    """Copy a parameter set into contiguous float64 NumPy arrays, the form in which results are handed out."""
    return {n: np.array(from_user(v, n), dtype=np.float64, order="C") for n, v in parameters.items()}


def require_finite(parameters: Parameters, what: str) -> None:
    """Refuse NaN and infinity, naming the first array and entry that holds one.

    Raises:
        NonFiniteError: an entry is not finite.
        DataError: an array that is masked, or not of real numbers.
    """
    for name, value in parameters.items():
        array = from_user(value, name)
        if array.dtype.kind not in "fiu":
            raise DataError("not numbers", name=f"type of {name}", value=array.dtype, expected="real numbers")
        finite = np.isfinite(array)
        if not finite.all():
            where = tuple(int(i) for i in np.argwhere(~finite)[0])
            raise NonFiniteError(
                f"{what} holds {int((~finite).sum())} numbers that are not finite",
                name=f"{name}{list(where)}",
                value=array[where],
                expected="finite numbers",
            )


def fingerprint(arrays: Parameters) -> str:
    """Return the SHA-256 (hex) of names, shapes, types and bytes, independent of memory order."""
    digest = hashlib.sha256()
    for name, value in arrays.items():
        array = np.ascontiguousarray(np.asarray(value))
        digest.update(f"{name}{array.shape}{array.dtype.str}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)  # no copy of a large data set
    return digest.hexdigest()
