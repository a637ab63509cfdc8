"""Joins: matching permuted copies, and the path of constant loss between them through every hidden layer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saddlescope.data.data import Data, teacher_data
from saddlescope.errors import NeuronsError, SettingsError, ShapeError
from saddlescope.models.mlp import MLP
from saddlescope.problem.problem import Problem
from saddlescope.units.actions import permute
from saddlescope.valleys.join import join, join_position, match, wider, with_spares

NETWORK = MLP((2, 4, 5, 3, 2), "tanh")


def random_set(network, seed=0):
    generator = np.random.default_rng(seed)
    return {
        name: generator.normal(size=shape)
        for name, shape in zip(network.layout.names, network.layout.shapes, strict=True)
    }


def permuted(network, parameters, orders):
    for k, order in enumerate(orders):
        parameters = permute(parameters, network.neurons(k + 1), order)
    return parameters


ORDERS = ((2, 0, 3, 1), (4, 1, 2, 0, 3), (1, 0, 2))


@pytest.fixture(scope="module")
def zero_loss():
    first = random_set(NETWORK)
    inputs = np.random.default_rng(5).normal(size=(40, 2))
    problem = Problem(NETWORK, teacher_data(NETWORK, first, inputs))
    return problem, first, join(problem, first, permuted(NETWORK, first, ORDERS), points=3)


@given(
    seed=st.integers(0, 1000),
    orders=st.tuples(st.permutations(range(4)), st.permutations(range(5)), st.permutations(range(3))),
    noise=st.sampled_from([0.0, 1e-13, 1e-11]),
)
def test_the_permutations_of_all_layers_are_found(seed, orders, noise):
    first = random_set(NETWORK, seed)
    generator = np.random.default_rng(seed)
    second = permuted(NETWORK, first, orders)
    second = {name: value + noise * generator.normal(size=value.shape) for name, value in second.items()}
    assert match(NETWORK, first, second) == tuple(tuple(order) for order in orders)


@pytest.mark.parametrize("turned", [False, True], ids=["other weights", "the same weights in another order"])
@given(seed=st.integers(0, 100), orders=st.tuples(*(st.permutations(range(5)) for _ in range(3))))
def test_neurons_with_equal_incoming_vectors_are_told_apart_by_what_they_send(turned, seed, orders):
    network = MLP((2, 5, 5, 5, 2), "tanh")
    first = random_set(network, seed)
    for k in range(3):
        first[f"{2 * k}.weight"][3] = first[f"{2 * k}.weight"][1]
        first[f"{2 * k}.bias"][3] = first[f"{2 * k}.bias"][1]
    if turned:
        first["2.weight"][:, 3] = first["2.weight"][::-1, 1]
    second = permuted(network, first, orders)
    found = permuted(network, first, match(network, first, second))
    for name in found:
        np.testing.assert_array_equal(found[name], second[name], err_msg=name)


def test_a_join_starts_and_ends_exactly_in_the_copies_with_their_spares(zero_loss):
    _, first, found = zero_loss
    assert found.permutations == ORDERS
    assert found.network.widths == (2, 5, 6, 4, 2)
    assert found.gap == 0.0
    ends = (
        (found.first, join_position(found, 0.0), first),
        (found.second, join_position(found, 1.0), permuted(NETWORK, first, ORDERS)),
    )
    for stated, at, narrow in ends:
        for name in at:
            np.testing.assert_array_equal(at[name], stated[name], err_msg=name)
            inside = tuple(slice(0, length) for length in narrow[name].shape)
            np.testing.assert_array_equal(at[name][inside], narrow[name], err_msg=name)
        for k, width in enumerate(NETWORK.widths[1:-1]):
            assert not at[f"{2 * (k + 1)}.weight"][:, width].any()


def test_the_loss_stays_zero_and_the_outputs_stay_through_all_layers(zero_loss):
    problem, first, found = zero_loss
    wide = problem.with_network(found.network)
    wanted = problem.outputs_of(first)
    assert found.scan.loss < 1e-29
    assert found.scan.max_loss_deviation < 1e-29
    assert found.scan.max_output_deviation < 1e-13
    for t in np.linspace(0, 1, 17):
        np.testing.assert_allclose(wide.outputs_of(join_position(found, float(t))), wanted, rtol=0, atol=1e-13)


def test_at_zero_loss_the_whole_join_is_critical(zero_loss):
    _, _, found = zero_loss
    assert found.segments == len(found.scan.critical) == sum(route.segments for route in found.routes)
    assert found.scan.critical_stretches == ((0, found.segments - 1),)


def test_a_layer_costs_two_segments_a_moved_neuron_and_cycle_less_one(zero_loss):
    _, _, found = zero_loss
    # (moved, cycles) of ORDERS: (4, 1), (3, 1), (2, 1); neuron 0, the spare's twin, moves in each: 2 (p + c) - 1.
    assert [route.segments for route in found.routes] == [9, 7, 5]


def test_a_join_at_a_loss_above_zero_is_level_too():
    network = MLP((2, 4, 3), "softplus", bias=False)
    first = random_set(network)
    generator = np.random.default_rng(1)
    problem = Problem(network, Data(generator.normal(size=(30, 2)), generator.normal(size=(30, 3))))
    found = join(problem, first, permute(first, network.neurons(1), (3, 2, 1, 0)), points=2)
    assert found.scan.loss > 0.1
    assert found.scan.max_loss_deviation < 1e-13 * found.scan.loss
    assert not found.scan.critical.any()


def test_copies_that_agree_up_to_rounding_are_joined_by_a_last_segment():
    network = MLP((2, 4, 3), "softplus", bias=False)
    first = random_set(network)
    second = permute(first, network.neurons(1), (1, 2, 3, 0))
    second["2.weight"] = second["2.weight"] + 1e-11
    problem = Problem(network, teacher_data(network, first, np.random.default_rng(1).normal(size=(30, 2))))
    found = join(problem, first, second, points=2)
    assert found.gap == pytest.approx(1e-11, rel=1e-4, abs=0.0)
    assert found.segments == found.routes[0].segments + 1 == len(found.scan.losses)
    same_end = join_position(found, 1.0)
    for name in same_end:
        np.testing.assert_array_equal(same_end[name], found.second[name])
    assert found.scan.losses[-1, -1] == pytest.approx(problem.loss_of(second), rel=1e-3, abs=0.0)
    with pytest.raises(NeuronsError, match="expected at most 0"):
        join(problem, first, second, atol=0.0)


def test_a_network_is_joined_to_itself_by_nothing():
    network = MLP((2, 4, 3), "softplus", bias=False)
    first = random_set(network)
    problem = Problem(network, teacher_data(network, first, np.random.default_rng(1).normal(size=(30, 2))))
    found = join(problem, first, first, points=2)
    assert found.segments == 0
    assert found.scan.max_loss_deviation == 0.0
    for t in (0.0, 0.5, 1.0):
        for name, value in join_position(found, t).items():
            np.testing.assert_array_equal(value, found.second[name])


def test_spares_send_nothing_and_copy_the_neuron_asked_for():
    first = random_set(NETWORK)
    wide = with_spares(NETWORK, first, (1, 4, 0))
    wider(NETWORK).check(wide)
    np.testing.assert_array_equal(wide["0.weight"][4], first["0.weight"][1])
    np.testing.assert_array_equal(wide["2.weight"][5, :4], first["2.weight"][4])
    assert not wide["2.weight"][:, 4].any()
    assert not wide["4.weight"][:, 5].any()
    with pytest.raises(NeuronsError, match="unit=9"):
        with_spares(NETWORK, first, (9, 0, 0))


def test_what_is_no_permuted_copy_is_refused():
    first = random_set(NETWORK)
    other = random_set(NETWORK, 1)
    with pytest.raises(NeuronsError, match=r"no permutation was found.* differs: largest difference=.*; expected"):
        match(NETWORK, first, other)
    near = permuted(NETWORK, first, ORDERS)
    near["6.bias"] = near["6.bias"] + 1e-3
    with pytest.raises(NeuronsError, match=r"6\.bias differs: largest difference=0\.001"):
        match(NETWORK, first, near)
    assert match(NETWORK, first, near, atol=1e-2) == ORDERS


def test_sign_twins_are_no_permutations():
    first = random_set(NETWORK)
    turned = {name: value.copy() for name, value in first.items()}
    turned["0.weight"][0] *= -1
    turned["0.bias"][0] *= -1
    turned["2.weight"][:, 0] *= -1
    with pytest.raises(NeuronsError, match=r"Copies up to sign \(tanh\) or scale \(ReLU\) are no permutations"):
        match(NETWORK, first, turned)


def test_networks_and_settings_that_cannot_be_joined_are_refused():
    flat = MLP((2, 3), "tanh")
    data = Data(np.zeros((3, 2)), np.ones((3, 3)))
    with pytest.raises(SettingsError, match="hidden layers of a perceptron"):
        join(Problem(flat, data), random_set(flat), random_set(flat))
    network = MLP((2, 4, 3), "tanh")
    first = random_set(network)
    with pytest.raises(SettingsError, match="penalty on the parameters is not constant"):
        join(Problem(network, data, weight_decay=0.1), first, first)
    for atol in (-1.0, float("nan")):
        with pytest.raises(SettingsError, match="atol="):
            match(network, first, first, atol=atol)
    with pytest.raises(ShapeError, match="do not fit the network"):
        match(network, first, random_set(NETWORK))
