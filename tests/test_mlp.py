"""MLPs: outputs against torch's Sequential, names, structure, neurons and what is refused."""

import itertools

import jax
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saddlescope.errors import NeuronsError, SettingsError, ShapeError
from saddlescope.models.mlp import MLP
from saddlescope.precision import float64
from saddlescope.units.neurons import Neurons, Slice

WIDTHS = [(3, 2), (1, 1, 1), (3, 5, 2), (4, 3, 6, 2), (2, 3, 3, 3, 1)]


def _sequential(network):
    layers = []
    for n, m in zip(network.widths[:-1], network.widths[1:], strict=True):
        layers += [torch.nn.Linear(n, m, bias=network.bias), torch.nn.Tanh()]
    return torch.nn.Sequential(*layers[:-1]).double()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("widths", WIDTHS)
def test_names_shapes_and_outputs_are_those_of_torch_s_sequential(widths, bias):
    network = MLP(widths, "tanh", bias=bias)
    parameters = network.initial(0)
    module = _sequential(network)
    module.load_state_dict({name: torch.from_numpy(value) for name, value in parameters.items()}, strict=True)
    assert list(parameters) == list(module.state_dict())
    x = np.random.default_rng(1).normal(size=(7, widths[0]))
    with float64():
        ours = jax.jit(network.apply)(parameters, x)
    np.testing.assert_allclose(ours, module(torch.from_numpy(x)).detach().numpy(), rtol=1e-13, atol=1e-15)


@given(st.lists(st.integers(1, 5), min_size=2, max_size=5), st.booleans())
def test_the_layout_counts_every_parameter(widths, bias):
    network = MLP(tuple(widths), bias=bias)
    expected = sum(m * (n + bias) for n, m in itertools.pairwise(widths))
    assert network.layout.size == expected == sum(value.size for value in network.initial(0).values())
    assert network.depth == len(widths) - 1
    network.check(network.initial(0))


def test_a_neuron_owns_a_row_a_bias_and_a_column():
    neurons = MLP((3, 5, 4, 2), "tanh").neurons(2)
    assert neurons == Neurons((Slice("2.weight", 0), Slice("2.bias", 0)), (Slice("4.weight", 1),))
    assert MLP((3, 5, 2), bias=False).neurons(1) == Neurons((Slice("0.weight", 0),), (Slice("2.weight", 1),))


@pytest.mark.parametrize("layer", [1, 2])
def test_a_neuron_without_outgoing_weights_does_not_change_the_outputs(layer):
    network = MLP((3, 5, 4, 2), "tanh")
    neurons = network.neurons(layer)
    x = np.random.default_rng(1).normal(size=(7, 3))
    apply = jax.jit(lambda vector: network.apply(network.layout.unflatten(vector), x))
    with float64():
        start = network.layout.flatten(network.initial(0))
        for unit in range(network.widths[layer]):
            silent = start.at[neurons.outgoing_positions(network.layout)[unit]].set(0.0)
            moved = silent.at[neurons.incoming_positions(network.layout)[unit]].add(1.0)
            np.testing.assert_array_equal(apply(moved), apply(silent))
            assert not np.array_equal(apply(silent), apply(start))


def test_equal_structure_is_one_key_and_any_difference_another():
    network = MLP((2, 3, 1), "tanh")
    assert network == MLP((2, 3, 1), "tanh")
    assert hash(network) == hash(MLP((2, 3, 1), "tanh"))
    others = [MLP((2, 3, 1)), MLP((2, 4, 1), "tanh"), MLP((2, 3, 1), "tanh", bias=False)]
    assert len({network, *others}) == 4


def test_homogeneous_is_the_activation_s():
    assert MLP((2, 3, 1), "relu").homogeneous(1)
    assert not MLP((2, 3, 1), "tanh").homogeneous(1)


def test_initial_parameters_are_torch_s_default_and_depend_on_the_seed_alone():
    network = MLP((100, 400, 25), "relu")
    first, again, other = network.initial(3), network.initial(3), network.initial(4)
    for name, inputs in (("0.weight", 100), ("0.bias", 100), ("2.weight", 400)):
        np.testing.assert_array_equal(first[name], again[name])
        assert not np.array_equal(first[name], other[name])
        assert first[name].dtype == np.float64
        assert 0.97 < np.abs(first[name]).max() * np.sqrt(inputs) <= 1.0
        assert np.abs(first[name]).mean() * np.sqrt(inputs) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("layer", [0, 3, -1])
def test_a_hidden_layer_that_is_not_there_is_refused_with_the_range(layer):
    with pytest.raises(NeuronsError, match=rf"layer={layer}; expected 1 to 2"):
        MLP((2, 3, 3, 1)).neurons(layer)
    with pytest.raises(NeuronsError, match=r"expected 1 to 2"):
        MLP((2, 3, 3, 1)).homogeneous(layer)


def test_a_network_without_hidden_layers_says_so():
    with pytest.raises(NeuronsError, match="no hidden layer"):
        MLP((2, 1)).neurons(1)


@pytest.mark.parametrize("widths", [(), (3,), (3, 0), (3, -1, 2)])
def test_widths_of_no_network_are_refused(widths):
    with pytest.raises(SettingsError, match="not the widths of a network: widths="):
        MLP(widths)


def test_an_unknown_activation_and_a_negative_seed_are_refused():
    with pytest.raises(SettingsError, match=r"activation=tanhh.*Did you mean tanh"):
        MLP((3, 2), "tanhh")
    with pytest.raises(SettingsError, match="seed=-1; expected 0 or more"):
        MLP((3, 2)).initial(-1)


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.pop("0.bias"),
        lambda p: p.update(extra=np.ones(1)),
        lambda p: p.update({"0.weight": p["0.weight"].T}),
        lambda p: p.update({"2.bias": np.ones(())}),
    ],
)
def test_parameters_of_another_network_are_refused(change):
    network = MLP((2, 3, 1), "tanh")
    parameters = network.initial(0)
    change(parameters)
    with pytest.raises(ShapeError, match="the parameters do not fit the network: shapes="):
        network.check(parameters)


def test_widths_that_no_array_has_are_refused():
    with pytest.raises(SettingsError, match="widths="):
        MLP((2, 2**31, 1))


def test_tied_units_are_refused_before_anything_is_followed():
    start = {"w": np.ones((3, 2)), "b": np.ones(3)}
    tied = Neurons((Slice("w", 0), Slice("b", 0)), (Slice("w", 0),))
    with pytest.raises(NeuronsError, match=r"share entries.*shared entries=6.*Tied weights"):
        tied.check_pair(start, 0, 1)
    with pytest.raises(NeuronsError, match=r"slices=2 incoming, 0 outgoing.*tied"):
        Neurons((Slice("w", 0), Slice("b", 0)), ()).check_pair(start, 0, 1)
    overlapping = Neurons((Slice("w", 0), Slice("w", 0)), (Slice("b", 0),))
    with pytest.raises(NeuronsError, match="shared entries=6"):
        overlapping.check_pair(start, 0, 1)
