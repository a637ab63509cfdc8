"""Activation functions by name, some with a parameter, and the facts about them: scale, kinks, parity."""

import difflib
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
from jax.scipy.special import erf as error_function
from jax.typing import ArrayLike
from jaxtyping import Array

from saddlescope.errors import SettingsError
from saddlescope.models.chain import Activation, Kink

# The derivatives of tanh and of the sigmoid are 1 - t^2 and s (1 - s), which is rounding where the unit is saturated;
# written with exponentials they keep all digits, and a saturated unit's gradient is small instead of rounded to zero.


@jax.custom_jvp
def _tanh(z: ArrayLike) -> Array:
    return jnp.tanh(z)


@jax.custom_jvp
def _sech2(z: ArrayLike) -> Array:
    """1 / cosh(z)^2."""
    u = jnp.exp(-2.0 * jnp.abs(z))
    return 4.0 * u / ((1.0 + u) * (1.0 + u))


@jax.custom_jvp
def _sigmoid(z: ArrayLike) -> Array:
    return jax.nn.sigmoid(z)


@jax.custom_jvp
def _bell(z: ArrayLike) -> Array:
    """The sigmoid's derivative, 1 / (4 cosh(z/2)^2)."""
    u = jnp.exp(-jnp.abs(z))
    return u / ((1.0 + u) * (1.0 + u))


_tanh.defjvps(lambda dz, _, z: _sech2(z) * dz)
_sech2.defjvps(lambda dz, y, z: -2.0 * _tanh(z) * y * dz)
_sigmoid.defjvps(lambda dz, _, z: _bell(z) * dz)
_bell.defjvps(lambda dz, y, z: -_tanh(0.5 * z) * y * dz)


def _silu(z: Array) -> Array:
    return z * _sigmoid(z)


def _erf(z: Array) -> Array:
    return error_function(z / jnp.sqrt(jnp.asarray(2.0, z.dtype)))


def _gelu(z: Array) -> Array:
    return jax.nn.gelu(z, approximate=False)


def _sigmoid_softplus(z: Array) -> Array:
    return _sigmoid(4.0 * z) + jax.nn.softplus(z)


def _gelu_tanh(z: Array) -> Array:
    u = math.sqrt(2.0 / math.pi) * (z + 0.044715 * z * z * z)
    return z * _sigmoid(2.0 * u)


def _mish(z: Array) -> Array:
    return z * _tanh(jax.nn.softplus(z))


# JAX's own relu6 and hard_swish give the mean of both slopes on a kink; like relu, these give one side's.


def _relu6(z: Array) -> Array:
    return jnp.where(z > 0, jnp.where(z < 6, z, 6.0), 0.0)


def _hardswish(z: Array) -> Array:
    return jnp.where(z > -3, jnp.where(z < 3, z * (z + 3.0) / 6.0, z), 0.0)


def _identity(z: Array) -> Array:
    return z


def _leaky_relu(slope: float) -> Activation:
    """g(z) = z above 0, slope z below."""

    def function(z: Array) -> Array:
        return jnp.where(z > 0, z, slope * z)

    return Activation(
        "leaky_relu", function, homogeneous=True, parity="even+linear", kinks=(Kink(0.0, slope, 1.0),), polynomial=True
    )


def _exponential(name: str, alpha: float, scale: float) -> Activation:
    """g(z) = scale z above 0, scale alpha (exp(z) - 1) below: twice differentiable nowhere at 0."""

    def function(z: Array) -> Array:
        below = alpha * jnp.expm1(jnp.where(z > 0, 0.0, z))
        return scale * jnp.where(z > 0, z, below)

    return Activation(name, function, kinks=(Kink(0.0, scale * alpha, scale),))


_SELU = (1.6732632423543772848170429916717, 1.0507009873554804934193349852946)
"""alpha and scale of SELU (Klambauer and others 2017): they keep mean 0 and variance 1."""

_WITH_PARAMETER: dict[str, tuple[float, Callable[[float], Activation], Callable[[float], bool], str]] = {
    "leaky_relu": (0.01, _leaky_relu, lambda slope: slope != 1.0, "leaky_relu:SLOPE, a number other than 1"),
    "elu": (1.0, lambda alpha: _exponential("elu", alpha, 1.0), lambda alpha: alpha > 0.0, "elu:ALPHA, above 0"),
}
"""By name: the parameter where none is given, the function, which parameters there are, and how they are written."""

ACTIVATIONS: dict[str, Activation] = {
    entry.name: entry
    for entry in (
        Activation(
            "relu",
            jax.nn.relu,
            homogeneous=True,
            parity="even+linear",
            kinks=(Kink(0.0, 0.0, 1.0),),
            polynomial=True,
        ),
        _leaky_relu(0.01),
        Activation("tanh", _tanh, parity="odd"),
        Activation("sigmoid", _sigmoid, parity="odd+constant"),
        Activation("softplus", jax.nn.softplus, parity="even+linear"),
        Activation("gelu", _gelu, parity="even+linear"),
        Activation("silu", _silu, parity="even+linear"),
        Activation("erf", _erf, parity="odd"),
        Activation("exp", jnp.exp),
        Activation("identity", _identity, homogeneous=True, parity="odd", polynomial=True),
        Activation("sine", jnp.sin, parity="odd"),
        Activation("sigmoid_softplus", _sigmoid_softplus),
        Activation("gelu_tanh", _gelu_tanh, parity="even+linear"),
        Activation("mish", _mish),
        _exponential("elu", 1.0, 1.0),
        _exponential("selu", *_SELU),
        Activation("relu6", _relu6, kinks=(Kink(0.0, 0.0, 1.0), Kink(6.0, 1.0, 0.0)), polynomial=True),
        Activation(
            "hardswish",
            _hardswish,
            parity="even+linear",
            kinks=(Kink(-3.0, 0.0, -0.5), Kink(3.0, 1.5, 1.0)),
            polynomial=True,
        ),
    )
}
"""leaky_relu has slope 0.01, elu alpha 1; gelu is the exact one, gelu_tanh its approximation; erf: erf(z/sqrt 2);
sigmoid_softplus: sigmoid(4z) + softplus(z)."""


@functools.lru_cache(maxsize=256)
def activation(name: str) -> Activation:
    """Return the activation with this name, or with this name and parameter: ``leaky_relu:0.2``, ``elu:0.5``.

    Raises:
        SettingsError: no such activation, and the nearest name is suggested; or a parameter that it cannot have.
    """
    stem, colon, word = str(name).partition(":")
    if colon and stem in _WITH_PARAMETER:
        return _with_parameter(name, stem, word)
    if name not in ACTIVATIONS:
        near = difflib.get_close_matches(stem.lower(), ACTIVATIONS, n=1)
        raise SettingsError(
            "unknown activation",
            name="activation",
            value=name,
            expected=f"one of {', '.join(ACTIVATIONS)}",
            advice=f"Did you mean {near[0]}?" if near else None,
        )
    return ACTIVATIONS[name]


def _with_parameter(name: str, stem: str, word: str) -> Activation:
    usual, make, allowed, form = _WITH_PARAMETER[stem]
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or not allowed(value):
        raise SettingsError("not a parameter of this activation", name="activation", value=name, expected=form)
    return ACTIVATIONS[stem] if value == usual else replace(make(value), name=f"{stem}:{value!r}")


def layer_activations(given: str | Sequence[str], hidden: int) -> tuple[Activation, ...]:
    """Return the activation of every hidden layer: one name for all, or one each, in a sequence or parted by commas.

    Raises:
        SettingsError: an unknown name, or another number of names.
    """
    names = [name.strip() for name in given.split(",")] if isinstance(given, str) else list(given)
    found = [activation(name) for name in names]
    if len(found) not in (1, hidden):
        raise SettingsError(
            "not an activation for each hidden layer",
            name="activation",
            value=",".join(names),
            expected=f"one name for all, or {hidden}, parted by commas" if hidden > 1 else "one name",
        )
    return tuple(found) if len(found) == hidden else (found[0],) * max(hidden, 1)


def spelled(given: str | Sequence[str], hidden: int) -> str:
    """Return the activations in the one form that files and records hold: one name where all are equal.

    Raises:
        SettingsError: see `layer_activations`.
    """
    names = [entry.name for entry in layer_activations(given, hidden)]
    return names[0] if len(set(names)) == 1 else ",".join(names)
