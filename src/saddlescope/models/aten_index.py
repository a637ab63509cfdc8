"""PyTorch's operations that look entries up, in JAX: embeddings, gathering, indexing, upsampling."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


def _embedding(weight: Array, index: Array, *_: Any) -> Array:
    return weight[index]


def _index(x: Array, indices: Sequence[Array | None]) -> Array:
    return x[tuple(slice(None) if index is None else index for index in indices)]


def _index_put(x: Array, indices: Sequence[Array | None], values: Array, accumulate: bool = False) -> Array:
    place = x.at[tuple(slice(None) if index is None else index for index in indices)]
    return place.add(values) if accumulate else place.set(values)


def _gather(x: Array, axis: int, index: Array, *_: Any, **__: Any) -> Array:
    rows = jnp.indices(index.shape, sparse=True)
    return x[tuple(index if k == axis % x.ndim else row for k, row in enumerate(rows))]


def _select_scatter(x: Array, source: Array, axis: int, index: int) -> Array:
    place: list[Any] = [slice(None)] * x.ndim
    place[axis] = index
    return x.at[tuple(place)].set(source)


def _slice_scatter(
    x: Array, source: Array, axis: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Array:
    place = [slice(None)] * x.ndim
    place[axis] = slice(start, end, step)
    return x.at[tuple(place)].set(source)


def _embedding_bag(
    weight: Array, index: Array, offsets: Array, _scale: Any = False, mode: int = 0, *_: Any
) -> tuple[Array, None, None, None]:
    """Add or average the rows of each bag; bags are told by where each begins in ``index``."""
    bag = jnp.sum(jnp.arange(index.shape[0])[:, None] >= offsets[None, :], axis=1) - 1
    belongs = (bag[:, None] == jnp.arange(offsets.shape[0])[None, :]).astype(weight.dtype)
    if mode == 2:
        raise NotImplementedError
    total = belongs.T @ weight[index]
    return (total / jnp.maximum(belongs.sum(0), 1.0)[:, None] if mode == 1 else total), None, None, None


def _sources(size: int, wanted: int, scale: float | None) -> np.ndarray:
    """Return the nearest entry of each place of the larger array."""
    ratio = size / wanted if not scale else 1.0 / scale
    return np.minimum(np.floor(np.arange(wanted) * ratio).astype(int), size - 1)


def _nearest(n: int) -> Callable[..., Array]:
    def upsample(x: Array, size: Sequence[int] | None, *scales: Any) -> Array:
        given = scales[0] if len(scales) == 1 and isinstance(scales[0], list | tuple) else scales
        factors = list(given) + [None] * (n - len(given))
        for i in range(n):
            axis = x.ndim - n + i
            wanted = size[i] if size is not None else int(x.shape[axis] * factors[i])
            x = jnp.take(x, _sources(x.shape[axis], wanted, factors[i]), axis=axis)
        return x

    return upsample


def _linear_matrix(size: int, wanted: int, corners: bool, scale: float | None) -> np.ndarray:
    if corners:
        at = np.arange(wanted) * ((size - 1) / (wanted - 1) if wanted > 1 else 0.0)
    else:
        at = np.maximum((np.arange(wanted) + 0.5) * (1.0 / scale if scale else size / wanted) - 0.5, 0.0)
    low = np.minimum(np.floor(at).astype(int), size - 1)
    high = np.minimum(low + 1, size - 1)
    matrix = np.zeros((wanted, size))
    np.add.at(matrix, (np.arange(wanted), low), 1.0 - (at - low))
    np.add.at(matrix, (np.arange(wanted), high), at - low)
    return matrix


def _multilinear(n: int) -> Callable[..., Array]:
    def upsample(x: Array, size: Sequence[int] | None, corners: bool, *scales: Any) -> Array:
        given = scales[0] if len(scales) == 1 and isinstance(scales[0], list | tuple) else scales
        factors = list(given) + [None] * (n - len(given))
        for i in range(n):
            axis = x.ndim - n + i
            wanted = size[i] if size is not None else int(x.shape[axis] * factors[i])
            matrix = _linear_matrix(x.shape[axis], wanted, corners, factors[i])
            x = jnp.moveaxis(jnp.moveaxis(x, axis, -1) @ jnp.asarray(matrix.T, x.dtype), -1, axis)
        return x

    return upsample


OPERATIONS: dict[str, Callable[..., Any]] = {
    "embedding": _embedding,
    "_embedding_bag": _embedding_bag,
    "_embedding_bag_forward_only": _embedding_bag,
    "index": _index,
    "_unsafe_index": _index,
    "index_put": _index_put,
    "_unsafe_index_put": _index_put,
    "index_select": lambda x, axis, index: jnp.take(x, index, axis),
    "gather": _gather,
    "select_scatter": _select_scatter,
    "slice_scatter": _slice_scatter,
    **{f"upsample_nearest{n}d": _nearest(n) for n in (1, 2, 3)},
    **{
        f"upsample_{name}": _multilinear(n) for n, name in enumerate(("linear1d", "bilinear2d", "trilinear3d"), start=1)
    },
}
