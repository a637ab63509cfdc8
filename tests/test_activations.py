"""Activation functions against torch, and the facts stated of them against the functions themselves."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from saddlescope.errors import SettingsError
from saddlescope.models.activations import ACTIVATIONS, activation
from saddlescope.precision import float64

TORCH = {
    "relu": torch.nn.ReLU(),
    "leaky_relu": torch.nn.LeakyReLU(),
    "tanh": torch.nn.Tanh(),
    "sigmoid": torch.nn.Sigmoid(),
    "softplus": torch.nn.Softplus(),
    "gelu": torch.nn.GELU(),
    "silu": torch.nn.SiLU(),
    "erf": lambda z: torch.erf(z / math.sqrt(2)),
    "exp": torch.exp,
    "identity": torch.nn.Identity(),
    "sine": torch.sin,
    "sigmoid_softplus": lambda z: torch.sigmoid(4 * z) + torch.nn.functional.softplus(z),
}
Z = np.concatenate([np.linspace(-6, 6, 97), np.random.default_rng(0).normal(size=50)])  # holds 0, where kinks are
POSITIVE = Z[Z > 0.1]


def _ours(name, z):
    with float64():
        return np.asarray(ACTIVATIONS[name].function(jnp.asarray(z)))


def test_every_activation_is_known_to_torch_here():
    assert set(TORCH) == set(ACTIVATIONS)
    assert all(entry.name == name for name, entry in ACTIVATIONS.items())


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_value_and_slope_agree_with_torch(name):
    z = torch.from_numpy(Z).requires_grad_()
    there = TORCH[name](z)
    there.sum().backward()
    with float64():
        slope = jax.vmap(jax.grad(ACTIVATIONS[name].function))(jnp.asarray(Z))
    # gelu and erf cancel for very negative z, so that the absolute error is what rounding allows.
    np.testing.assert_allclose(_ours(name, Z), there.detach().numpy(), rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(slope, z.grad.numpy(), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_homogeneous_ones_and_no_others_scale(name):
    scales = all(np.allclose(_ours(name, s * Z), s * _ours(name, Z), rtol=1e-12, atol=1e-13) for s in (0.3, 7.0))
    assert ACTIVATIONS[name].homogeneous == scales


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_kinked_ones_and_no_others_have_a_jump_in_the_slope(name):
    right, left = (_ours(name, sign * 1e-6) - _ours(name, 0.0) for sign in (1.0, -1.0))
    assert ACTIVATIONS[name].kinked == (abs(right + left) / 1e-6 > 1e-3)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_parity_is_the_first_that_holds(name):
    right, left = _ours(name, POSITIVE), _ours(name, -POSITIVE)

    def constant(values):
        return bool(np.ptp(values) < 1e-12 * (1 + np.abs(values).max()))

    if constant(right + left):
        parity = "odd" if abs(right[0] + left[0]) < 1e-12 else "odd+constant"
    else:
        parity = "even+linear" if constant((right - left) / POSITIVE) else "none"
    assert ACTIVATIONS[name].parity == parity


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_large_numbers_do_not_become_nan(name):
    z = np.array([-1e3, -50.0, 50.0, 500.0])
    with float64():
        slope = jax.vmap(jax.grad(ACTIVATIONS[name].function))(jnp.asarray(z))
    assert np.isfinite(_ours(name, z)).all()
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_caller_s_precision_stays(name):
    assert ACTIVATIONS[name].function(jnp.ones(2, jnp.float32)).dtype == jnp.float32
    assert _ours(name, np.ones(2)).dtype == np.float64


@pytest.mark.parametrize(("given", "meant"), [("tanhh", "tanh"), ("ReLU", "relu"), ("Sigmoid", "sigmoid")])
def test_an_unknown_name_is_answered_with_the_nearest(given, meant):
    with pytest.raises(SettingsError, match=rf"activation={given}; expected one of .*Did you mean {meant}\?"):
        activation(given)


def test_a_name_like_no_other_is_answered_without_a_guess():
    with pytest.raises(SettingsError, match=r"activation=qqq; expected one of [^?]*\.$"):
        activation("qqq")
