"""Activation functions against torch, and the facts stated of them against the functions themselves."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from saddlescope.errors import SettingsError
from saddlescope.models.activations import ACTIVATIONS, activation, layer_activations, spelled
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
    "gelu_tanh": torch.nn.GELU("tanh"),
    "mish": torch.nn.Mish(),
    "elu": torch.nn.ELU(),
    "selu": torch.nn.SELU(),
    "relu6": torch.nn.ReLU6(),
    "hardswish": torch.nn.Hardswish(),
}
PARAMETERS = {
    "leaky_relu:0.2": torch.nn.LeakyReLU(0.2),
    "leaky_relu:-0.5": torch.nn.LeakyReLU(-0.5),
    "leaky_relu:3": torch.nn.LeakyReLU(3.0),
    "elu:0.5": torch.nn.ELU(0.5),
}
ALL = [*ACTIVATIONS, *PARAMETERS]
Z = np.concatenate([np.linspace(-6, 6, 97), np.random.default_rng(0).normal(size=50)])  # holds 0, where kinks are
POSITIVE = np.concatenate([Z[Z > 0.1], [7.0, 9.5]])  # beyond every kink, too


def _ours(name, z):
    with float64():
        return np.asarray(activation(name).function(jnp.asarray(z)))


def test_every_activation_is_known_to_torch_here():
    assert set(TORCH) == set(ACTIVATIONS)
    assert all(entry.name == name for name, entry in ACTIVATIONS.items())


@pytest.mark.parametrize("name", ALL)
def test_value_slope_and_bend_agree_with_torch(name):
    z = torch.from_numpy(Z).requires_grad_()
    there = {**TORCH, **PARAMETERS}[name](z)
    (slope,) = torch.autograd.grad(there.sum(), z, create_graph=True)
    found = torch.autograd.grad(slope.sum(), z, allow_unused=True)[0] if slope.requires_grad else None
    bend = torch.zeros_like(z) if found is None else found
    entry = activation(name)
    with float64():
        by_grad = jax.vmap(jax.grad(entry.function))(jnp.asarray(Z))
        rise, curve = (entry.derivative(jnp.asarray(Z), order) for order in (1, 2))
    # gelu and erf cancel for very negative z, so that the absolute error is what rounding allows.
    np.testing.assert_allclose(_ours(name, Z), there.detach().numpy(), rtol=1e-14, atol=1e-15)
    for ours in (by_grad, rise):
        np.testing.assert_allclose(ours, slope.detach().numpy(), rtol=1e-13, atol=1e-15)
    smooth = ~np.isin(Z, [kink.at for kink in entry.kinks])
    np.testing.assert_allclose(curve[smooth], bend.numpy()[smooth], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ALL)
def test_homogeneous_ones_and_no_others_scale(name):
    scales = all(np.allclose(_ours(name, s * Z), s * _ours(name, Z), rtol=1e-12, atol=1e-13) for s in (0.3, 7.0))
    assert activation(name).homogeneous == scales
    if scales:
        assert activation(name).slopes == pytest.approx(tuple(float(s * _ours(name, s)) for s in (-1.0, 1.0)))
    else:
        assert activation(name).slopes is None


def _slopes(name, z):
    with float64():
        return np.asarray(activation(name).derivative(jnp.asarray(z)))


@pytest.mark.parametrize("name", ALL)
def test_kinks_are_where_slope_or_bend_jump_and_nowhere_else(name):
    entry, half = activation(name), np.arange(-20, 21) / 2.0
    right, left = _slopes(name, half + 1e-9), _slopes(name, half - 1e-9)
    with float64():
        ends = [np.asarray(entry.derivative(jnp.asarray(half + sign * 1e-9), 2)) for sign in (1.0, -1.0)]
    jumps, bends = (np.abs(one - other) > 1e-6 * (1 + np.abs(one)) for one, other in ((right, left), ends))
    assert [kink.at for kink in entry.kinks] == half[jumps | bends].tolist()
    assert entry.kinked == jumps.any()
    for kink in entry.kinks:
        there = half == kink.at
        assert (kink.below, kink.above) == pytest.approx((left[there][0], right[there][0]), abs=1e-8)


@pytest.mark.parametrize("name", ALL)
def test_polynomials_and_no_others_have_no_third_derivative_between_kinks(name):
    entry = activation(name)
    with float64():
        third = jax.vmap(jax.grad(lambda z: entry.derivative(z, 2)))(jnp.asarray(np.arange(-40, 41) / 4.0 + 0.1))
    assert entry.polynomial == (not np.asarray(third).any())


@pytest.mark.parametrize("name", ALL)
def test_the_parity_is_the_first_that_holds(name):
    right, left = _ours(name, POSITIVE), _ours(name, -POSITIVE)

    def constant(values):
        return bool(np.ptp(values) < 1e-12 * (1 + np.abs(values).max()))

    if constant(right + left):
        parity = "odd" if abs(right[0] + left[0]) < 1e-12 else "odd+constant"
    else:
        parity = "even+linear" if constant((right - left) / POSITIVE) else "none"
    assert activation(name).parity == parity


@pytest.mark.parametrize("name", ALL)
def test_large_numbers_do_not_become_nan(name):
    z = np.array([-1e3, -50.0, 50.0, 500.0])
    with float64():
        slope = jax.vmap(jax.grad(activation(name).function))(jnp.asarray(z))
    assert np.isfinite(_ours(name, z)).all()
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("name", ALL)
def test_the_caller_s_precision_stays(name):
    assert activation(name).function(jnp.ones(2, jnp.float32)).dtype == jnp.float32
    assert _ours(name, np.ones(2)).dtype == np.float64


@pytest.mark.parametrize(("given", "meant"), [("tanhh", "tanh"), ("ReLU", "relu"), ("Sigmoid", "sigmoid")])
def test_an_unknown_name_is_answered_with_the_nearest(given, meant):
    with pytest.raises(SettingsError, match=rf"activation={given}; expected one of .*Did you mean {meant}\?"):
        activation(given)


def test_a_name_like_no_other_is_answered_without_a_guess():
    with pytest.raises(SettingsError, match=r"activation=qqq; expected one of [^?]*\.$"):
        activation("qqq")


@pytest.mark.parametrize("given", ["leaky_relu:", "leaky_relu:a", "leaky_relu:inf", "leaky_relu:1", "elu:0", "elu:nan"])
def test_a_parameter_that_is_none_is_refused_with_the_form(given):
    with pytest.raises(SettingsError, match=rf"activation={given}; expected {given.split(':')[0]}:(SLOPE|ALPHA), "):
        activation(given)


def test_a_parameter_of_an_activation_that_has_none_is_refused_with_the_list():
    with pytest.raises(SettingsError, match=r"activation=tanh:2; expected one of relu, .*Did you mean tanh\?"):
        activation("tanh:2")


def test_the_usual_parameter_is_the_plain_activation():
    assert activation("leaky_relu:0.01") is activation("leaky_relu") is ACTIVATIONS["leaky_relu"]
    assert activation("elu:1") is ACTIVATIONS["elu"]
    assert activation("leaky_relu:0.20").name == "leaky_relu:0.2"


@pytest.mark.parametrize(
    ("given", "hidden", "spelling"),
    [
        ("tanh", 3, "tanh"),
        (("relu", "tanh"), 2, "relu,tanh"),
        ("relu, leaky_relu:0.20", 2, "relu,leaky_relu:0.2"),
        (["relu", "relu"], 2, "relu"),
        ("identity", 0, "identity"),
    ],
)
def test_activations_of_layers_have_one_spelling(given, hidden, spelling):
    assert spelled(given, hidden) == spelling == spelled(spelling, hidden)
    assert len(layer_activations(given, hidden)) == max(hidden, 1)


@pytest.mark.parametrize(("given", "hidden"), [("relu,tanh", 3), ("relu,tanh", 1), ("relu,tanh", 0), ([], 2)])
def test_another_number_of_activations_than_of_hidden_layers_is_refused(given, hidden):
    with pytest.raises(SettingsError, match="not an activation for each hidden layer"):
        layer_activations(given, hidden)


def test_a_wrong_name_among_several_is_refused_with_the_list():
    with pytest.raises(SettingsError, match=r"activation=tahn; expected one of relu, .*Did you mean tanh\?"):
        layer_activations("relu,tahn", 2)
