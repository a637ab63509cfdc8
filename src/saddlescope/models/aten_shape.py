"""PyTorch's operations that move, join, cut, pad or make arrays, in JAX; and its sums, means and extremes."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array


def _axes(axes: Any) -> Any:
    """Return the axes as JAX wants them; PyTorch means all of them by none."""
    if axes is None or isinstance(axes, int):
        return axes
    return tuple(axes) or None


def _reshape(x: Array, shape: Sequence[Any]) -> Array:
    return jnp.reshape(x, [operator.index(n) for n in shape])


def _expand(x: Array, shape: Sequence[int], *_: Any, **__: Any) -> Array:
    lead = len(shape) - x.ndim
    return jnp.broadcast_to(x, [x.shape[i - lead] if n == -1 else n for i, n in enumerate(shape)])


def _unsqueeze(x: Array, axis: int) -> Array:
    return jnp.expand_dims(x, axis if axis >= 0 else axis + x.ndim + 1)


def _squeeze(x: Array, axes: Any = None) -> Array:
    wanted = range(x.ndim) if axes is None else [axes] if isinstance(axes, int) else axes
    return jnp.squeeze(x, tuple(axis for axis in wanted if x.shape[axis] == 1))


def _slice(x: Array, axis: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Array:
    index = [slice(None)] * x.ndim
    index[axis] = slice(start, end, step)
    return x[tuple(index)]


def _select(x: Array, axis: int, index: int) -> Array:
    return lax.index_in_dim(x, index, axis, keepdims=False)


def _split(x: Array, sizes: Sequence[int] | int, axis: int = 0) -> list[Array]:
    if isinstance(sizes, int):
        return jnp.split(x, list(range(sizes, x.shape[axis], sizes)), axis)
    return jnp.split(x, list(np.cumsum(sizes)[:-1]), axis)


def _unbind(x: Array, axis: int = 0) -> list[Array]:
    return [_select(x, axis, i) for i in range(x.shape[axis])]


def _pad(x: Array, pad: Sequence[int], value: float = 0.0) -> Array:
    pairs = [(pad[i], pad[i + 1], 0) for i in range(len(pad) - 2, -1, -2)]
    return lax.pad(x, jnp.asarray(value, x.dtype), [*[(0, 0, 0)] * (x.ndim - len(pairs)), *pairs])


def _pad_by(mode: str) -> Callable[[Array, Sequence[int]], Array]:
    def pad(x: Array, widths: Sequence[int]) -> Array:
        pairs = [(widths[i], widths[i + 1]) for i in range(len(widths) - 2, -1, -2)]
        return jnp.pad(x, [*[(0, 0)] * (x.ndim - len(pairs)), *pairs], mode=mode)

    return pad


def _roll(x: Array, by: Any, axes: Any = ()) -> Array:
    return jnp.roll(x, by, _axes(axes))


def _pixel_shuffle(x: Array, r: int) -> Array:
    *lead, c, h, w = x.shape
    y = x.reshape(*lead, c // r**2, r, r, h, w)
    n = len(lead)
    return y.transpose([*range(n), n, n + 3, n + 1, n + 4, n + 2]).reshape(*lead, c // r**2, h * r, w * r)


def _pixel_unshuffle(x: Array, r: int) -> Array:
    *lead, c, h, w = x.shape
    y = x.reshape(*lead, c, h // r, r, w // r, r)
    n = len(lead)
    return y.transpose([*range(n), n, n + 2, n + 4, n + 1, n + 3]).reshape(*lead, c * r * r, h // r, w // r)


def _var(x: Array, axes: Any = None, correction: Any = 1, keepdim: bool = False) -> Array:
    return jnp.var(x, _axes(axes), ddof=1 if correction is None else correction, keepdims=keepdim)


def _norm(x: Array, order: Any = 2, axes: Any = None, keepdim: bool = False, **_: Any) -> Array:
    order = 2 if order is None else order
    if order == 2:
        return jnp.sqrt(jnp.sum(jnp.square(x), _axes(axes), keepdims=keepdim))
    if order == 1:
        return jnp.sum(jnp.abs(x), _axes(axes), keepdims=keepdim)
    if order == float("inf"):
        return jnp.max(jnp.abs(x), _axes(axes), keepdims=keepdim)
    return jnp.sum(jnp.abs(x) ** order, _axes(axes), keepdims=keepdim) ** (1.0 / order)


def _extreme(of: Callable[..., Array], where: Callable[..., Array]) -> Callable[..., Any]:
    def extreme(x: Array, axis: int | None = None, keepdim: bool = False) -> Any:
        if axis is None:
            return of(x)
        return of(x, axis, keepdims=keepdim), where(x, axis, keepdims=keepdim)

    return extreme


def _reduced(function: Callable[..., Array]) -> Callable[..., Array]:
    return lambda x, axes=None, keepdim=False, dtype=None: function(
        x if dtype is None else x.astype(dtype), _axes(axes), keepdims=keepdim
    )


def _cast(x: Any, dtype: Any = None, **_: Any) -> Array:
    return jnp.asarray(x) if dtype is None else jnp.asarray(x).astype(dtype)


def _ordered(x: Array, count: int, axis: int, descending: bool) -> tuple[Array, Array]:
    order = jnp.argsort(x, axis, stable=True, descending=descending)
    order = lax.slice_in_dim(order, 0, count, axis=axis % x.ndim)
    return jnp.take_along_axis(x, order, axis), order


def _topk(x: Array, k: int, axis: int = -1, largest: bool = True, *_: Any, **__: Any) -> tuple[Array, Array]:
    return _ordered(x, k, axis, largest)


def _sort(x: Array, axis: int = -1, descending: bool = False) -> tuple[Array, Array]:
    return _ordered(x, x.shape[axis], axis, descending)


def _logsumexp(x: Array, axes: Any, keepdim: bool = False) -> Array:
    return jax.scipy.special.logsumexp(x, _axes(axes), keepdims=keepdim)


def _var_mean(x: Array, axes: Any = None, correction: Any = 1, keepdim: bool = False) -> tuple[Array, Array]:
    return _var(x, axes, correction, keepdim), jnp.mean(x, _axes(axes), keepdims=keepdim)


def _like(value: float) -> Callable[..., Array]:
    return lambda x, dtype=None, **_: jnp.full(x.shape, value, dtype or x.dtype)


def _arange(*bounds: Any, dtype: Any = None) -> Array:
    return jnp.arange(*bounds, dtype=dtype)


def _same(x: Array, **_: Any) -> Array:
    return x


OPERATIONS: dict[str, Callable[..., Any]] = {
    **{name: _same for name in ("clone", "alias", "detach", "contiguous", "lift_fresh_copy", "lift_fresh")},
    **{name: _reshape for name in ("view", "reshape", "_unsafe_view", "view_copy")},
    "t": lambda x: x.T,
    "permute": jnp.transpose,
    "transpose": jnp.swapaxes,
    "movedim": jnp.moveaxis,
    "expand": _expand,
    "unsqueeze": _unsqueeze,
    "squeeze": _squeeze,
    "slice": _slice,
    "narrow": lambda x, axis, start, length: lax.slice_in_dim(x, start, start + length, axis=axis),
    "select": _select,
    "cat": lambda parts, axis=0: jnp.concatenate([p for p in parts if p.shape != (0,)], axis),
    "stack": lambda parts, axis=0: jnp.stack(parts, axis),
    "split": _split,
    "split_with_sizes": _split,
    "unbind": _unbind,
    "copy": lambda x, source, *_: jnp.broadcast_to(source, x.shape).astype(x.dtype),
    "flip": lambda x, axes: jnp.flip(x, tuple(axes)),
    "roll": _roll,
    "repeat": lambda x, times: jnp.tile(x, times),
    "constant_pad_nd": _pad,
    **{f"reflection_pad{n}d": _pad_by("reflect") for n in (1, 2, 3)},
    **{f"replication_pad{n}d": _pad_by("edge") for n in (1, 2, 3)},
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "tril": lambda x, k=0: jnp.tril(x, k),
    "triu": lambda x, k=0: jnp.triu(x, k),
    "diagonal": lambda x, offset=0, a=0, b=1: jnp.diagonal(x, offset, a, b),
    "sum": _reduced(jnp.sum),
    "mean": _reduced(jnp.mean),
    "prod": _reduced(jnp.prod),
    "amax": _reduced(jnp.max),
    "amin": _reduced(jnp.min),
    "logsumexp": _logsumexp,
    "topk": _topk,
    "sort": _sort,
    "any": _reduced(jnp.any),
    "all": _reduced(jnp.all),
    "max": _extreme(jnp.max, jnp.argmax),
    "min": _extreme(jnp.min, jnp.argmin),
    "argmax": lambda x, axis=None, keepdim=False: jnp.argmax(x, axis, keepdims=keepdim),
    "argmin": lambda x, axis=None, keepdim=False: jnp.argmin(x, axis, keepdims=keepdim),
    "var": _var,
    "std": lambda *args, **kwargs: jnp.sqrt(_var(*args, **kwargs)),
    "var_mean": _var_mean,
    "linalg_vector_norm": _norm,
    "norm": _norm,
    "cumsum": lambda x, axis, **_: jnp.cumsum(x, axis),
    "cumprod": lambda x, axis, **_: jnp.cumprod(x, axis),
    "_to_copy": _cast,
    "to": _cast,
    "full": lambda shape, value, dtype=None: jnp.full(shape, value, dtype),
    "zeros": lambda shape, dtype=None: jnp.zeros(shape, dtype or jnp.float64),
    "ones": lambda shape, dtype=None: jnp.ones(shape, dtype or jnp.float64),
    "empty": lambda shape, dtype=None: jnp.zeros(shape, dtype or jnp.float64),
    "full_like": lambda x, value, dtype=None: jnp.full(x.shape, value, dtype or x.dtype),
    "zeros_like": _like(0.0),
    "ones_like": _like(1.0),
    "new_zeros": lambda x, shape, dtype=None: jnp.zeros(shape, dtype or x.dtype),
    "new_ones": lambda x, shape, dtype=None: jnp.ones(shape, dtype or x.dtype),
    "arange": _arange,
    "scalar_tensor": lambda value, dtype=None: jnp.asarray(value, dtype),
    "sym_size": lambda x, axis: x.shape[axis],
    "sym_numel": lambda x: x.size,
}
