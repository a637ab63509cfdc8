"""Activation functions and the facts about them that the science needs: scale, kinks, parity."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.scipy.special import erf as error_function
from jax.typing import ArrayLike
from jaxtyping import Array

from saddlescope.errors import SettingsError
from saddlescope.models.units import Parity


@dataclass(frozen=True)
class Activation:
    """An activation function g and what is known of it.

    ``homogeneous``: g(s z) = s g(z) for s > 0. ``kinked``: g' jumps somewhere. ``parity``: "odd", "odd+constant" or
    "even+linear", the functions that g is the sum of, which give further equivalent networks ([S21] excludes them).
    """

    name: str
    function: Callable[[Array], Array]
    homogeneous: bool = False
    kinked: bool = False
    parity: Parity = "none"


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


def _leaky_relu(z: Array) -> Array:
    return jnp.where(z > 0, z, 0.01 * z)


def _identity(z: Array) -> Array:
    return z


ACTIVATIONS: dict[str, Activation] = {
    entry.name: entry
    for entry in (
        Activation("relu", jax.nn.relu, homogeneous=True, kinked=True, parity="even+linear"),
        Activation("leaky_relu", _leaky_relu, homogeneous=True, kinked=True, parity="even+linear"),
        Activation("tanh", _tanh, parity="odd"),
        Activation("sigmoid", _sigmoid, parity="odd+constant"),
        Activation("softplus", jax.nn.softplus, parity="even+linear"),
        Activation("gelu", _gelu, parity="even+linear"),
        Activation("silu", _silu, parity="even+linear"),
        Activation("erf", _erf, parity="odd"),
        Activation("exp", jnp.exp),
        Activation("identity", _identity, homogeneous=True, parity="odd"),
        Activation("sine", jnp.sin, parity="odd"),
        Activation("sigmoid_softplus", _sigmoid_softplus),
    )
}
"""leaky_relu has slope 0.01; gelu is the exact one; erf: erf(z/sqrt 2); sigmoid_softplus: sigmoid(4z) + softplus(z)."""


def activation(name: str) -> Activation:
    """Return the activation with this name.

    Raises:
        SettingsError: no such activation; the nearest name is suggested.
    """
    if name not in ACTIVATIONS:
        near = difflib.get_close_matches(str(name).lower(), ACTIVATIONS, n=1)
        raise SettingsError(
            "unknown activation",
            name="activation",
            value=name,
            expected=f"one of {', '.join(ACTIVATIONS)}",
            advice=f"Did you mean {near[0]}?" if near else None,
        )
    return ACTIVATIONS[name]
