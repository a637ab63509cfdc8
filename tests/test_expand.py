"""Expansion keeps the function to rounding, copies keep critical points critical, and the record says what was done."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf, expit

from saddlescope.data.data import Data
from saddlescope.errors import NeuronsError, NonFiniteError, SettingsError, ShapeError
from saddlescope.models.mlp import MLP
from saddlescope.problem.problem import Problem
from saddlescope.resize.expand import ZeroGroup, expand, expand_layer
from saddlescope.training.train import train
from saddlescope.units.neurons import Neurons, Slice

FUNCTIONS = {
    "relu": lambda z: np.maximum(z, 0.0),
    "tanh": np.tanh,
    "sigmoid": expit,
    "softplus": lambda z: np.logaddexp(0.0, z),
    "erf": lambda z: erf(z / np.sqrt(2.0)),
    "exp": np.exp,
}


def forward(network, parameters, x):
    """The network written down plainly in NumPy."""
    for k in range(network.depth):
        x = x @ parameters[f"{2 * k}.weight"].T
        x = x + parameters[f"{2 * k}.bias"] if network.bias else x
        x = FUNCTIONS[network.activation](x) if k < network.depth - 1 else x
    return x


def random_parameters(network, seed):
    generator = np.random.default_rng(seed)
    scale = 0.3 if network.activation == "exp" else 1.0
    return {name: scale * generator.normal(size=value.shape) for name, value in network.initial(0).items()}


def same(left, right, *, rounding=1e-13):
    """Whether two arrays agree to rounding, relative to their size."""
    gap, size = np.abs(left - right).max(), max(1.0, np.abs(right).max())
    assert gap <= rounding * size, f"differ by {gap:.3e} of {size:.3e}"


SHAPES = [(2, 3, 1), (3, 4, 2), (3, 2, 4, 4), (2, 3, 2, 3, 3)]


@settings(max_examples=20)
@given(
    st.sampled_from(SHAPES),
    st.sampled_from(sorted(FUNCTIONS)),
    st.booleans(),
    st.integers(0, 1000),
    st.sampled_from(["equal", "random"]),
    st.sampled_from([(), (1,), (2, 1)]),
)
def test_any_expansion_of_any_layers_keeps_the_function(shape, activation, bias, seed, shares, groups):
    network = MLP(shape, activation, bias=bias)
    parameters = random_parameters(network, seed)
    widths = {layer: shape[layer] + 4 for layer in range(1, network.depth)}
    zero_type = {layer: groups for layer in widths}
    found = expand(network, parameters, widths=widths, zero_type=zero_type, shares=shares, seed=seed)
    x = np.random.default_rng(1).normal(size=(50, shape[0]))
    assert found.network.widths == found.widths == tuple(widths.get(k, width) for k, width in enumerate(shape))
    found.network.check(found.parameters)
    wide, small = forward(found.network, found.parameters, x), forward(network, parameters, x)
    # Zero-type neurons of the layers before may cancel large numbers: rounding is relative to what is added up.
    sizes = [np.abs(value).max() for value in found.parameters.values()]
    same(wide, small, rounding=1e-14 * np.prod(np.maximum(1.0, sizes)))


def test_the_deviation_is_measured_on_the_inputs():
    network = MLP((2, 3, 2), "tanh")
    parameters, x = random_parameters(network, 0), np.random.default_rng(1).normal(size=(40, 2))
    found = expand(network, parameters, widths={1: 7}, shares="random", inputs=x)
    wanted = forward(network, parameters, x)
    assert found.output_scale == pytest.approx(np.abs(wanted).max(), rel=1e-12)
    assert 0.0 < found.max_output_deviation <= 1e-14
    group = ZeroGroup(1, np.ones(3), np.full((1, 2), 1e-13))  # accepted as zero, and yet the deviation tells
    spoiled = expand(network, parameters, zero_type={1: [group]}, inputs=x)
    assert spoiled.max_output_deviation == pytest.approx(1e-13, rel=0.1, abs=0.0)


def test_each_origin_says_how_its_neuron_came_to_be():
    network = MLP((2, 3, 4, 2), "tanh")
    parameters = random_parameters(network, 0)
    found = expand(network, parameters, widths={1: 8}, copies={(1, 0): 3}, zero_type={1: (2,)}, shares="random", seed=3)
    neurons = network.neurons(1)
    small_in, small_out = neurons.incoming_vectors(parameters), neurons.outgoing_vectors(parameters)
    wide_in, wide_out = neurons.incoming_vectors(found.parameters), neurons.outgoing_vectors(found.parameters)
    assert [origin.neuron for origin in found.origins] == list(range(8))
    assert [origin.kind for origin in found.origins] == ["kept"] * 3 + ["copy"] * 3 + ["zero-type"] * 2
    assert sum(origin.source == 0 for origin in found.origins) == 3
    shares = np.zeros(3)
    for origin in found.origins[:6]:
        shares[origin.source] += origin.share
        same(wide_in[origin.neuron], small_in[origin.source], rounding=0.0)
        same(wide_out[origin.neuron], origin.share * small_out[origin.source])
    same(shares, np.ones(3))
    same(wide_in[6], wide_in[7], rounding=0.0)
    same(wide_out[6], -wide_out[7])
    assert np.abs(wide_out[6]).min() > 0.0
    assert found.subspace(1).zero_groups == ((6, 7),)
    assert len(found.subspace(1).copies[0]) == 3
    with pytest.raises(NeuronsError, match=r"did not grow: layer=2; expected one of \[1\]"):
        found.subspace(2)


def test_named_shares_are_used_and_the_others_are_equal():
    network = MLP((2, 2, 1), "relu")
    parameters = random_parameters(network, 0)
    found = expand(network, parameters, copies={(1, 1): 2}, shares={(1, 0): (2.0, -1.5, 0.5)})
    by_source = {i: [o.share for o in found.origins if o.source == i] for i in (0, 1)}
    assert by_source == {0: [2.0, -1.5, 0.5], 1: [0.5, 0.5]}
    assert found.widths == (2, 5, 1)


@pytest.fixture(scope="module")
def trained():
    """A small network with two outputs and two hidden layers at a critical point of nonzero loss."""
    network, generator = MLP((2, 2, 2, 2), "tanh"), np.random.default_rng(1)
    x = generator.normal(size=(60, 2))
    teacher = {name: generator.normal(size=value.shape) for name, value in network.initial(0).items()}
    problem = Problem(network, Data(x, forward(network, teacher, x) + 0.1 * generator.normal(size=(60, 2))))
    result = train(problem, seed=1, adam_steps=400, max_newton=300, tolerance=1e-11)
    assert result.gradient_norm <= 1e-11
    assert result.loss > 1e-3
    return problem, result.parameters


def gradient_norm(problem, found):
    wide = problem.with_network(found.network)
    return float(np.sqrt(sum(np.sum(value**2) for value in wide.gradient_of(found.parameters).values())))


@pytest.mark.parametrize("shares", ["equal", "random"])
def test_copies_keep_a_critical_point_critical_in_all_layers(trained, shares):
    problem, parameters = trained
    found = expand(problem, parameters, widths={1: 6, 2: 5}, shares=shares, seed=2)
    assert gradient_norm(problem, found) <= 1e-11
    assert problem.with_network(found.network).loss_of(found.parameters) == pytest.approx(
        problem.loss_of(parameters), rel=1e-13, abs=0.0
    )


def test_zero_type_neurons_keep_the_loss_but_not_the_critical_point(trained):
    problem, parameters = trained
    found = expand(problem, parameters, zero_type={1: (2,)}, seed=2)
    assert gradient_norm(problem, found) > 1e-4
    assert problem.with_network(found.network).loss_of(found.parameters) == pytest.approx(
        problem.loss_of(parameters), rel=1e-13, abs=0.0
    )


def _convolution(p, x):
    h = torch.nn.functional.conv2d(x, p["conv.weight"])
    h = torch.nn.functional.batch_norm(h, p["mean"], p["var"], p["scale"], p["shift"])
    return torch.relu(h).flatten(1) @ p["fc.weight"].T


CHANNELS = Neurons(
    tuple(Slice(name, 0) for name in ("conv.weight", "mean", "var", "scale", "shift")),
    (Slice("fc.weight", 1, block=4),),
)


def convolution_parameters():
    generator = np.random.default_rng(0)
    shapes = {
        "conv.weight": (3, 2, 3, 3),
        "mean": (3,),
        "var": (3,),
        "scale": (3,),
        "shift": (3,),
        "fc.weight": (3, 12),
    }
    return {
        name: np.abs(generator.normal(size=shape)) if name == "var" else generator.normal(size=shape)
        for name, shape in shapes.items()
    }


def convolve(parameters):
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(4, 2, 4, 4)))
    return _convolution({name: torch.from_numpy(value) for name, value in parameters.items()}, x).numpy()


def test_channels_of_a_convolution_grow_by_the_same_verb():
    parameters = convolution_parameters()
    incoming = np.abs(np.random.default_rng(2).normal(size=CHANNELS.incoming_vectors(parameters).shape[1]))
    wide, origins = expand_layer(
        parameters,
        CHANNELS,
        copies=(1, 3, 2),
        zero_type=(ZeroGroup(2, incoming),),
        shares={1: (0.7, -0.4, 0.7)},
        layer=4,
    )
    assert CHANNELS.count(wide) == 8 == len(origins)
    assert {origin.layer for origin in origins} == {4}
    same(convolve(wide), convolve(parameters))


def test_units_of_a_fused_array_are_refused():
    fused = Neurons((Slice("qkv", 0),), (Slice("out", 1),), units=2)
    with pytest.raises(NeuronsError, match="fused array cannot be added"):
        expand_layer({"qkv": np.ones((6, 3)), "out": np.ones((3, 2))}, fused, copies=(2, 1))


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    network = MLP((2, 3, 1), "tanh")
    parameters = random_parameters(network, 0)
    options = {"widths": {1: 9}, "zero_type": {1: (2,)}, "shares": "random"}
    one, two, other = (expand(network, parameters, seed=seed, **options) for seed in (0, 0, 1))
    assert all(np.array_equal(one.parameters[name], two.parameters[name]) for name in one.parameters)
    assert not np.array_equal(one.parameters["0.weight"], other.parameters["0.weight"])


def test_nothing_asked_returns_the_network_and_nothing_is_changed_in_place():
    network = MLP((2, 3, 1), "tanh")
    parameters = random_parameters(network, 0)
    before = {name: value.copy() for name, value in parameters.items()}
    found = expand(network, parameters)
    assert found.network == network
    assert (found.origins, found.max_output_deviation) == ((), 0.0)
    expand(network, parameters, widths={1: 6}, zero_type={1: (1,)})
    assert all(np.array_equal(parameters[name], before[name]) for name in before)


def test_arrays_of_jax_in_single_precision_are_taken():
    network = MLP((2, 3, 1), "tanh")
    parameters = {name: jnp.asarray(value, jnp.float32) for name, value in random_parameters(network, 0).items()}
    found = expand(network, parameters, widths={1: 5})
    assert all(value.dtype == np.float64 for value in found.parameters.values())
    assert found.max_output_deviation <= 1e-15 * max(1.0, found.output_scale) * 10


MISTAKES = {
    "no such layer": ({"widths": {2: 5}}, NeuronsError, "layer=2; expected 1 to 1"),
    "no such neuron": ({"copies": {(1, 3): 2}}, NeuronsError, "neuron=3; expected 0 to 2"),
    "narrower": ({"widths": {1: 2}}, SettingsError, "width=2; expected at least 3"),
    "no room for what is asked": (
        {"widths": {1: 5}, "copies": {(1, 0): 3}, "zero_type": {1: (1,)}},
        SettingsError,
        "width=5; expected at least 6",
    ),
    "nobody left to be copied": (
        {"widths": {1: 9}, "copies": {(1, 0): 1, (1, 1): 1, (1, 2): 2}},
        SettingsError,
        "width=9; expected 4: every neuron is named",
    ),
    "no copy at all": ({"copies": {(1, 0): 0}}, SettingsError, "copies=0; expected an integer, 1 or more"),
    "shares of another sum": ({"shares": {(1, 0): (0.5, 0.4)}}, SettingsError, "must sum to 1"),
    "shares of another number": (
        {"shares": {(1, 0): (0.5, 0.5)}, "copies": {(1, 0): 3}},
        SettingsError,
        "one share a copy",
    ),
    "unknown shares": ({"shares": "fair"}, SettingsError, "shares=fair; expected equal, random"),
    "empty group": ({"zero_type": {1: (0,)}}, SettingsError, "size=0; expected 1 or more"),
    "group that does not sum to zero": (
        {"zero_type": {1: [ZeroGroup(1, outgoing=np.ones((1, 1)))]}},
        SettingsError,
        "must sum to zero",
    ),
    "group of another shape": ({"zero_type": {1: [ZeroGroup(1, np.ones(2))]}}, ShapeError, "do not fit"),
    "negative seed": ({"seed": -1}, SettingsError, "seed=-1; expected 0 or more"),
    "inputs of another width": ({"inputs": np.ones((4, 3))}, ShapeError, "inputs per sample=3; expected 2"),
}


@pytest.mark.parametrize(("options", "kind", "text"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_told_with_its_value(options, kind, text):
    network = MLP((2, 3, 1), "tanh")
    with pytest.raises(kind, match=text):
        expand(network, random_parameters(network, 0), **options)


def test_parameters_that_are_not_finite_are_refused():
    network = MLP((2, 3, 1), "tanh")
    with pytest.raises(NonFiniteError, match="not finite"):
        expand(network, {**random_parameters(network, 0), "0.bias": np.full(3, np.nan)}, widths={1: 5})
