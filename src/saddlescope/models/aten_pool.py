"""PyTorch's pooling in JAX, with ceil mode, padding, adaptive sizes, and its choice of the first among equal maxima."""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from saddlescope.models.aten_conv import FEW_SHIFTS, pad_last, per_axis, shifts


def _pads(x: Array, window: list[int], stride: list[int], padding: list[int], dilation: list[int], ceil: bool) -> list:
    """Return what to pad before and after each axis; with ceil mode the last window must start within the input."""
    pads = []
    for i, (k, s, p, d) in enumerate(zip(window, stride, padding, dilation, strict=True)):
        size = x.shape[x.ndim - len(window) + i]
        reach = d * (k - 1) + 1
        room = size + 2 * p - reach
        steps = -(-room // s) if ceil else room // s
        if ceil and steps * s >= size + p:
            steps -= 1
        pads.append((p, steps * s + reach - size - p))
    return pads


def _fit(x: Array, pads: list, value: float) -> Array:
    """Pad, or cut what no window reaches."""
    cut = [slice(None)] * (x.ndim - len(pads)) + [slice(0, None if high >= 0 else high) for _, high in pads]
    return pad_last(x[tuple(cut)], [(low, max(high, 0)) for low, high in pads], value)


def _max_pool(n: int) -> Callable[..., Array]:
    def pool(x: Array, window: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil: bool = False) -> Array:
        k = per_axis(window, n)
        s, p, d = per_axis(stride or k, n), per_axis(padding, n), per_axis(dilation, n)
        padded = _fit(x, _pads(x, k, s, p, d, ceil), -jnp.inf)
        best: Array | None = None
        for part in shifts(padded, k, s, d):
            best = part if best is None else jnp.where(part > best, part, best)
        assert best is not None
        return best

    return pool


def _sums(x: Array, k: list[int], s: list[int], pads: list) -> Array:
    n, one = len(k), [1] * len(k)
    whole = all(x.shape[x.ndim - n + i] % k[i] == 0 for i in range(n))
    if k == s and whole and not any(low or high > 0 for low, high in pads):
        shape = list(x.shape[: x.ndim - n])
        axes = []
        for i in range(n):
            shape += [x.shape[x.ndim - n + i] // k[i], k[i]]
            axes.append(len(shape) - 1)
        return x.reshape(shape).sum(tuple(axes))
    padded = _fit(x, pads, 0.0)
    if math.prod(k) > FEW_SHIFTS:
        lead = [1] * (x.ndim - n)
        return lax.reduce_window(padded, 0.0, lax.add, [*lead, *k], [*lead, *s], "VALID")
    parts = shifts(padded, k, s, one)
    return sum(parts, start=next(parts))


def _avg_pool(n: int) -> Callable[..., Array]:
    def pool(
        x: Array,
        window: Any,
        stride: Any = (),
        padding: Any = 0,
        ceil: bool = False,
        count_pad: bool = True,
        divisor: int | None = None,
    ) -> Array:
        k = per_axis(window, n)
        s, p, one = per_axis(stride or k, n), per_axis(padding, n), [1] * n
        pads = _pads(x, k, s, p, one, ceil)
        total = _sums(x, k, s, pads)
        if divisor:
            return total / divisor
        inside = jnp.ones(x.shape[x.ndim - n :], x.dtype)
        inside = pad_last(inside, [(q, q) for q in p], 1.0 if count_pad else 0.0)
        beyond = [(0, high - q) for (_, high), q in zip(pads, p, strict=True)]
        if not any(p) and not any(high > 0 for _, high in beyond):
            return total / math.prod(k)
        return total / _sums(inside, k, s, beyond)

    return pool


def _edges(size: int, parts: int) -> list[tuple[int, int]]:
    return [(i * size // parts, -(-(i + 1) * size // parts)) for i in range(parts)]


def _adaptive(n: int, reduce: Callable[..., Array]) -> Callable[..., Array]:
    """Pool each axis in turn into parts that differ in length by one at most, as both means and maxima allow."""

    def pool(x: Array, size: Any) -> Array:
        for i, parts in enumerate(per_axis(size, n)):
            axis = x.ndim - n + i
            pieces = [
                reduce(lax.slice_in_dim(x, low, high, axis=axis), axis=axis, keepdims=True)
                for low, high in _edges(x.shape[axis], parts)
            ]
            x = pieces[0] if parts == 1 else jnp.concatenate(pieces, axis)
        return x

    return pool


def _with_indices(pool: Callable[..., Array]) -> Callable[..., tuple[Array, None]]:
    return lambda *args: (pool(*args), None)


OPERATIONS: dict[str, Callable[..., Any]] = {
    **{f"max_pool{n}d": _max_pool(n) for n in (1, 2, 3)},
    **{f"max_pool{n}d_with_indices": _with_indices(_max_pool(n)) for n in (1, 2, 3)},
    **{f"avg_pool{n}d": _avg_pool(n) for n in (1, 2, 3)},
    **{f"adaptive_avg_pool{n}d": _adaptive(n, jnp.mean) for n in (1, 2, 3)},
    **{f"_adaptive_avg_pool{n}d": _adaptive(n, jnp.mean) for n in (2, 3)},
    **{f"adaptive_max_pool{n}d": _with_indices(_adaptive(n, jnp.max)) for n in (1, 2, 3)},
}
