"""PyTorch's operations entry by entry, in JAX: arithmetic, comparisons, activations.

At a kink the derivative is the one that PyTorch takes, so that conversions can be compared to rounding everywhere.
"""

import math
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def _add(a: Any, b: Any, alpha: Any = 1) -> Any:
    return a + (b if alpha == 1 else alpha * b)


def _sub(a: Any, b: Any, alpha: Any = 1) -> Any:
    return a - (b if alpha == 1 else alpha * b)


def _div(a: Any, b: Any, rounding_mode: str | None = None) -> Any:
    if rounding_mode is None:
        return a / b
    if jnp.issubdtype(jnp.result_type(a, b), jnp.integer):
        return lax.div(*jnp.broadcast_arrays(a, b)) if rounding_mode == "trunc" else jnp.floor_divide(a, b)
    return jnp.trunc(a / b) if rounding_mode == "trunc" else jnp.floor(a / b)


def _pow(a: Any, b: Any) -> Any:
    if isinstance(b, int | float) and float(b).is_integer() and abs(b) < 1024:
        return lax.integer_pow(jnp.asarray(a), int(b))
    if isinstance(b, float) and b == 0.5:
        return jnp.sqrt(a)
    return jnp.power(a, b)


def _clamp(x: Array, low: Any = None, high: Any = None) -> Array:
    x = x if low is None else jnp.where(x < low, low, x)
    return x if high is None else jnp.where(x > high, high, x)


def _hardtanh(x: Array, low: float = -1.0, high: float = 1.0) -> Array:
    return jnp.where((x > low) & (x < high), x, jnp.where(x <= low, low, high).astype(x.dtype))


def _leaky_relu(x: Array, slope: float = 0.01) -> Array:
    return jnp.where(x > 0, x, slope * x)


def _elu(x: Array, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Array:
    return jnp.where(x > 0, scale * x, scale * alpha * jnp.expm1(input_scale * jnp.minimum(x, 0.0)))


def _gelu(x: Array, approximate: str = "none") -> Array:
    return jax.nn.gelu(x, approximate=approximate == "tanh")


def _prelu(x: Array, slope: Array) -> Array:
    if slope.ndim == 1 and x.ndim > 1:
        slope = slope.reshape((1, -1) + (1,) * (x.ndim - 2))
    return jnp.where(x > 0, x, slope * x)


def _softplus(x: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    return jnp.where(x * beta > threshold, x, jnp.logaddexp(jnp.minimum(x * beta, threshold), 0.0) / beta)


def _hardsigmoid(x: Array) -> Array:
    return _hardtanh(x + 3.0, 0.0, 6.0) / 6.0


def _hardswish(x: Array) -> Array:
    return jnp.where(x <= -3.0, 0.0, jnp.where(x < 3.0, x * (x + 3.0) / 6.0, x))


def _hardshrink(x: Array, width: float = 0.5) -> Array:
    return jnp.where((x >= -width) & (x <= width), 0.0, x)


def _softshrink(x: Array, width: float = 0.5) -> Array:
    return jnp.where(x > width, x - width, jnp.where(x < -width, x + width, 0.0))


def _threshold(x: Array, threshold: float, value: float) -> Array:
    return jnp.where(x <= threshold, value, x)


def _glu(x: Array, axis: int = -1) -> Array:
    a, b = jnp.split(x, 2, axis)
    return a * jax.nn.sigmoid(b)


def _mish(x: Array) -> Array:
    return x * jnp.tanh(_softplus(x))


def _log_sigmoid(x: Array) -> tuple[Array, None]:
    return jax.nn.log_sigmoid(x), None


def _rrelu(x: Array, _noise: Any, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, *_: Any) -> Any:
    if training:
        raise NotImplementedError
    return _leaky_relu(x, (lower + upper) / 2)


def _where(condition: Array, a: Any, b: Any) -> Array:
    return jnp.where(condition, a, b)


def _masked_fill(x: Array, mask: Array, value: Any) -> Array:
    return jnp.where(mask, jnp.asarray(value, x.dtype), x)


def _nan_to_num(x: Array, nan: Any = None, posinf: Any = None, neginf: Any = None) -> Array:
    return jnp.nan_to_num(x, nan=0.0 if nan is None else nan, posinf=posinf, neginf=neginf)


def _logit(x: Array, eps: float | None = None) -> Array:
    x = x if eps is None else _clamp(x, eps, 1.0 - eps)
    return jnp.log(x / (1.0 - x))


def _round(x: Array, decimals: int = 0) -> Array:
    return jnp.round(x, decimals)


def _same(x: Any, *_: Any) -> Any:
    return x


OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": _add,
    "sub": _sub,
    "rsub": lambda a, b, alpha=1: b - alpha * a,
    "mul": lambda a, b: a * b,
    "div": _div,
    "pow": _pow,
    "square": jnp.square,
    "neg": lambda x: -x,
    "abs": jnp.abs,
    "sign": jnp.sign,
    "floor": jnp.floor,
    "ceil": jnp.ceil,
    "trunc": jnp.trunc,
    "round": _round,
    "exp": jnp.exp,
    "exp2": jnp.exp2,
    "expm1": jnp.expm1,
    "log": jnp.log,
    "log2": jnp.log2,
    "log10": jnp.log10,
    "log1p": jnp.log1p,
    "sqrt": jnp.sqrt,
    "rsqrt": lax.rsqrt,
    "reciprocal": lambda x: 1.0 / x,
    "sin": jnp.sin,
    "cos": jnp.cos,
    "tan": jnp.tan,
    "asin": jnp.arcsin,
    "acos": jnp.arccos,
    "atan": jnp.arctan,
    "atan2": jnp.arctan2,
    "sinh": jnp.sinh,
    "cosh": jnp.cosh,
    "tanh": jnp.tanh,
    "asinh": jnp.arcsinh,
    "acosh": jnp.arccosh,
    "atanh": jnp.arctanh,
    "erf": lax.erf,
    "erfc": lax.erfc,
    "special_erf": lax.erf,
    "logit": _logit,
    "fmod": lambda a, b: lax.rem(*jnp.broadcast_arrays(a, jnp.asarray(b, a.dtype))),
    "remainder": jnp.remainder,
    "maximum": jnp.maximum,
    "minimum": jnp.minimum,
    "logaddexp": jnp.logaddexp,
    "hypot": jnp.hypot,
    "lerp": lambda a, b, w: a + w * (b - a),
    "addcmul": lambda x, a, b, value=1: x + value * a * b,
    "addcdiv": lambda x, a, b, value=1: x + value * a / b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "logical_and": jnp.logical_and,
    "logical_or": jnp.logical_or,
    "logical_xor": jnp.logical_xor,
    "logical_not": jnp.logical_not,
    "bitwise_and": lambda a, b: a & b,
    "bitwise_or": lambda a, b: a | b,
    "bitwise_xor": lambda a, b: a ^ b,
    "bitwise_not": lambda x: ~x,
    "isnan": jnp.isnan,
    "isinf": jnp.isinf,
    "nan_to_num": _nan_to_num,
    "where": _where,
    "masked_fill": _masked_fill,
    "clamp": _clamp,
    "clamp_min": lambda x, low: _clamp(x, low),
    "clamp_max": lambda x, high: _clamp(x, None, high),
    "relu": jax.nn.relu,
    "relu6": lambda x: _hardtanh(x, 0.0, 6.0),
    "hardtanh": _hardtanh,
    "leaky_relu": _leaky_relu,
    "rrelu_with_noise": _rrelu,
    "rrelu_with_noise_functional": lambda *a: (_rrelu(*a), None),
    "elu": _elu,
    "celu": lambda x, alpha=1.0: _elu(x, alpha, 1.0, 1.0 / alpha),
    "selu": lambda x: _elu(x, SELU_ALPHA, SELU_SCALE, 1.0),
    "gelu": _gelu,
    "silu": jax.nn.silu,
    "mish": _mish,
    "sigmoid": jax.nn.sigmoid,
    "log_sigmoid_forward": _log_sigmoid,
    "prelu": _prelu,
    "_prelu_kernel": _prelu,
    "softplus": _softplus,
    "hardsigmoid": _hardsigmoid,
    "hardswish": _hardswish,
    "hardshrink": _hardshrink,
    "softshrink": _softshrink,
    "threshold": _threshold,
    "glu": _glu,
    "dropout": _same,  # exported in eval mode only; an active one is refused before
}

SYMBOLIC: dict[Any, Callable[..., Any]] = {
    **{f: f for f in (operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, operator.neg)},
    **{f: f for f in (operator.eq, operator.ne, operator.ge, operator.gt, operator.le, operator.lt, operator.pow)},
    **{f: f for f in (operator.getitem, operator.truediv, operator.and_, operator.or_, operator.not_)},
    **{f: f for f in (math.floor, math.ceil, math.trunc, max, min, int, float)},
}
"""Python's own functions, by which an exported graph computes with sizes, and takes one of several results."""
