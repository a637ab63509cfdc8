"""PyTorch's normalisations and softmax in JAX. Batch norm in eval mode is a x + c for each channel."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array


def _channels(x: Array) -> tuple[int, ...]:
    return (1, -1) + (1,) * (x.ndim - 2)


def _scaled(y: Array, weight: Array | None, bias: Array | None) -> Array:
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _batch_norm(
    x: Array, gamma: Array | None, beta: Array | None, mean: Array, variance: Array, _momentum: float, eps: float
) -> tuple[Array, None, None]:
    a = lax.rsqrt(variance + eps)
    a = a if gamma is None else gamma * a
    c = -mean * a
    c = c if beta is None else beta + c
    return x * a.reshape(_channels(x)) + c.reshape(_channels(x)), None, None


def _batch_norm_of_batch(x: Array, gamma: Array | None, beta: Array | None, *rest: Any) -> tuple[Array, None, None]:
    """Normalise each channel by its own mean and variance: instance norm comes so, a sample's channels side by side."""
    training, _momentum, eps = rest[-3:]
    if not training or len(rest) != 3:
        raise NotImplementedError
    y = _standardised(x, (0, *range(2, x.ndim)), eps)
    shaped = [None if value is None else value.reshape(_channels(x)) for value in (gamma, beta)]
    return _scaled(y, *shaped), None, None


def _standardised(x: Array, axes: tuple[int, ...], eps: float) -> Array:
    away = x - x.mean(axes, keepdims=True)
    return away * lax.rsqrt(jnp.square(away).mean(axes, keepdims=True) + eps)


def _layer_norm(
    x: Array, shape: Sequence[int], weight: Array | None, bias: Array | None, eps: float
) -> tuple[Array, None, None]:
    return _scaled(_standardised(x, tuple(range(x.ndim - len(shape), x.ndim)), eps), weight, bias), None, None


def _group_norm(
    x: Array, weight: Array | None, bias: Array | None, _n: int, _c: int, _rest: int, groups: int, eps: float
) -> tuple[Array, None, None]:
    parts = x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    y = _standardised(parts, tuple(range(2, parts.ndim)), eps).reshape(x.shape)
    shaped = [None if value is None else value.reshape(_channels(x)) for value in (weight, bias)]
    return _scaled(y, *shaped), None, None


def _rms_norm(x: Array, shape: Sequence[int], weight: Array | None = None, eps: float | None = None) -> Array:
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    eps = float(jnp.finfo(x.dtype).eps) if eps is None else eps
    return _scaled(x * lax.rsqrt(jnp.square(x).mean(axes, keepdims=True) + eps), weight, None)


def _softmax(x: Array, axis: int, *_: Any) -> Array:
    return jax.nn.softmax(x, axis)


def _log_softmax(x: Array, axis: int, *_: Any) -> Array:
    return jax.nn.log_softmax(x, axis)


def _safe_softmax(x: Array, axis: int, *_: Any) -> Array:
    """Return the softmax; 0 where a whole row is -inf."""
    masked = jnp.all(x == -jnp.inf, axis=axis, keepdims=True)
    return jnp.where(masked, 0.0, jax.nn.softmax(jnp.where(masked, 0.0, x), axis))


OPERATIONS: dict[str, Callable[..., Any]] = {
    "_native_batch_norm_legit_no_training": _batch_norm,
    "_native_batch_norm_legit": _batch_norm_of_batch,
    "native_layer_norm": _layer_norm,
    "native_group_norm": _group_norm,
    "rms_norm": _rms_norm,
    "_fused_rms_norm": lambda *args: (_rms_norm(*args), None),
    "_softmax": _softmax,
    "softmax": _softmax,
    "_log_softmax": _log_softmax,
    "log_softmax": _log_softmax,
    "_safe_softmax": _safe_softmax,
}
