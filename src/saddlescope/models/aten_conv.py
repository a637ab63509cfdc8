"""PyTorch's convolutions in JAX: 1 to 3 dimensions, grouped, dilated, transposed.

XLA's convolution in double precision is slow on a CPU where there are few channels, and its derivatives more so: there
a convolution is written as one product of matrices over shifted copies of the input, a depthwise one as a sum of
shifted products (64 samples, 6 to 16 channels, 5 x 5: a Hessian product in 31 ms instead of 40; 16 to 16, 3 x 3: 34
instead of 85; from about 24 channels on XLA's own is faster: 24 to 24, 3 x 3: 13 ms instead of 61).
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

FEW_CHANNELS, FEW_SHIFTS = 24, 64


def per_axis(value: Sequence[int] | int, count: int) -> list[int]:
    """Return one number for each axis, from PyTorch's list of one or of all."""
    value = [value] if isinstance(value, int) else list(value)
    return value if len(value) == count else value * count


def shifts(x: Array, window: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Iterator[Array]:
    """Yield, for each place of a window over the last axes, what lies there for all windows (x is padded already)."""
    n = len(window)
    spans = [d * (k - 1) for k, d in zip(window, dilation, strict=True)]
    counts = [(x.shape[x.ndim - n + i] - spans[i] - 1) // stride[i] + 1 for i in range(n)]
    for place in itertools.product(*(range(k) for k in window)):
        first = [p * d for p, d in zip(place, dilation, strict=True)]
        last = [f + s * (c - 1) + 1 for f, s, c in zip(first, stride, counts, strict=True)]
        lead = [0] * (x.ndim - n)
        yield lax.slice(x, [*lead, *first], [*x.shape[: x.ndim - n], *last], [*[1] * (x.ndim - n), *stride])


def pad_last(x: Array, padding: Sequence[tuple[int, int]], value: float = 0.0) -> Array:
    """Pad the last axes."""
    if not any(low or high for low, high in padding):
        return x
    lead = [(0, 0, 0)] * (x.ndim - len(padding))
    return lax.pad(x, jnp.asarray(value, x.dtype), [*lead, *((low, high, 0) for low, high in padding)])


def _by_matrix(x: Array, w: Array, stride: list[int], dilation: list[int]) -> Array:
    window = w.shape[2:]
    if math.prod(window) == 1 and all(s == 1 for s in stride):
        return jnp.einsum("bc...,oc->bo...", x, w.reshape(w.shape[:2]))
    patches = jnp.stack(list(shifts(x, window, stride, dilation)), axis=2)
    return jnp.einsum("bck...,ock->bo...", patches, w.reshape(*w.shape[:2], -1))


def _depthwise(x: Array, w: Array, stride: list[int], dilation: list[int]) -> Array:
    flat = w.reshape(w.shape[0], -1)
    column = (1, -1) + (1,) * (x.ndim - 2)
    parts = (part * flat[:, k].reshape(column) for k, part in enumerate(shifts(x, w.shape[2:], stride, dilation)))
    return sum(parts, start=next(parts))


def _forward(x: Array, w: Array, stride: list[int], padding: list[int], dilation: list[int], groups: int) -> Array:
    pads = [(p, p) for p in padding]
    small = jax.default_backend() == "cpu" and math.prod(w.shape[2:]) <= FEW_SHIFTS
    if small and groups == x.shape[1] == w.shape[0] and groups > 1:
        return _depthwise(pad_last(x, pads), w, stride, dilation)
    if small and groups == 1 and (x.shape[1] < FEW_CHANNELS or math.prod(w.shape[2:]) == 1):
        return _by_matrix(pad_last(x, pads), w, stride, dilation)
    return lax.conv_general_dilated(x, w, stride, pads, rhs_dilation=dilation, feature_group_count=groups)


def _transposed(
    x: Array, w: Array, stride: list[int], padding: list[int], dilation: list[int], extra: list[int], groups: int
) -> Array:
    n, inputs, outputs = x.ndim - 2, w.shape[0], w.shape[1]
    w = jnp.flip(w, tuple(range(2, n + 2))).reshape(groups, inputs // groups, outputs, *w.shape[2:])
    w = jnp.swapaxes(w, 1, 2).reshape(groups * outputs, inputs // groups, *w.shape[3:])
    room = [dilation[i] * (w.shape[i + 2] - 1) - padding[i] for i in range(n)]
    pads = [(r, r + e) for r, e in zip(room, extra, strict=True)]
    return lax.conv_general_dilated(
        x, w, [1] * n, pads, lhs_dilation=stride, rhs_dilation=dilation, feature_group_count=groups
    )


def _convolution(
    x: Array,
    w: Array,
    bias: Array | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> Array:
    n = w.ndim - 2
    single = x.ndim == n + 1  # one sample without a batch axis
    x = x[None] if single else x
    s, p, d, e = (per_axis(value, n) for value in (stride, padding, dilation, output_padding))
    y = _transposed(x, w, s, p, d, e, groups) if transposed else _forward(x, w, s, p, d, groups)
    y = y if bias is None else y + bias.reshape((1, -1) + (1,) * n)
    return y[0] if single else y


OPERATIONS: dict[str, Callable[..., Any]] = {"convolution": _convolution}
