"""PyTorch's products of matrices, attention included, in JAX."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array


def _addmm(c: Array, a: Array, b: Array, beta: Any = 1, alpha: Any = 1) -> Array:
    product = a @ b if alpha == 1 else alpha * (a @ b)
    return (c if beta == 1 else beta * c) + product


def _linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    y = x @ weight.T
    return y if bias is None else y + bias


def _attention(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None = None,
    dropout: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    **attn: Any,
) -> Array:
    if dropout:
        raise NotImplementedError
    mask = attn.get("attn_mask", mask)
    if enable_gqa:
        k, v = (jnp.repeat(part, q.shape[-3] // part.shape[-3], axis=-3) for part in (k, v))
    scores = q @ jnp.swapaxes(k, -1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        scores = jnp.where(jnp.tril(jnp.ones(scores.shape[-2:], bool)), scores, -jnp.inf)
    if mask is not None:
        scores = jnp.where(mask, scores, -jnp.inf) if mask.dtype == bool else scores + mask
    return jax.nn.softmax(scores, -1) @ v


def _flash_attention(
    q: Array,
    k: Array,
    v: Array,
    dropout: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: Any = None,
    scale: Any = None,
) -> tuple[Array, None]:
    return _attention(q, k, v, attn_mask, dropout, is_causal, scale), None


def _bilinear(a: Array, b: Array, weight: Array, bias: Array | None = None) -> Array:
    y = jnp.einsum("...i,oij,...j->...o", a, weight, b)
    return y if bias is None else y + bias


def _trilinear(
    a: Array, b: Array, c: Array, more_a: Any, more_b: Any, more_c: Any, summed: Any, _unroll: int = 1
) -> Array:
    parts = [jnp.expand_dims(x, tuple(more)) for x, more in ((a, more_a), (b, more_b), (c, more_c))]
    return jnp.sum(parts[0] * parts[1] * parts[2], tuple(summed))


def _cosine(a: Array, b: Array, axis: int = 1, eps: float = 1e-8) -> Array:
    norms = [jnp.maximum(jnp.sqrt(jnp.sum(jnp.square(part), axis, keepdims=True)), eps) for part in (a, b)]
    return jnp.sum((a / norms[0]) * (b / norms[1]), axis)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "mm": lambda a, b: a @ b,
    "bmm": lambda a, b: a @ b,
    "mv": lambda a, b: a @ b,
    "dot": lambda a, b: a @ b,
    "matmul": lambda a, b: a @ b,
    "addmm": _addmm,
    "baddbmm": _addmm,
    "addmv": _addmm,
    "linear": _linear,
    "bilinear": _bilinear,
    "_trilinear": _trilinear,
    "cosine_similarity": _cosine,
    "scaled_dot_product_attention": _attention,
    "_scaled_dot_product_flash_attention_for_cpu": _flash_attention,
    "_scaled_dot_product_attention_math": lambda *args, **kwargs: (_attention(*args, **kwargs), None),
}
