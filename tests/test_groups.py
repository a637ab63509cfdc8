"""Copies in a parameter set: found, weighed, taken out and put back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from references.critical_networks import copied, critical, gradient_and_hessian
from saddlescope.arrays import Layout
from saddlescope.critical.groups import embedding, find_groups, misfit, reduce_vector
from saddlescope.models.mlp import MLP
from saddlescope.units.actions import permute, split
from saddlescope.units.neurons import Neurons, Slice

seeds = st.integers(0, 1000)
finite_shares = st.floats(-3, 3).filter(lambda share: abs(share) > 0.01 and abs(1 - share) > 0.01)


def layers_of(point):
    network = MLP(point.widths, point.activation, bias=point.bias)
    return {layer: network.neurons(layer) for layer in range(1, network.depth)}


def flat(parameters):
    return np.concatenate([value.ravel() for value in parameters.values()])


def test_a_network_without_copies_has_no_groups() -> None:
    point = critical((3, 4, 4, 2))
    assert find_groups(point.parameters, layers_of(point)) == ()
    parts = embedding(point.parameters, layers_of(point), ())
    assert parts.size == point.size
    assert np.array_equal(parts.lift(flat(point.parameters)), flat(point.parameters))


@given(seed=seeds, share=finite_shares)
def test_copies_are_found_in_every_layer_with_their_shares(seed: int, share: float) -> None:
    point = critical((2, 3, 3, 2), seed=seed % 7)
    wide = copied(copied(copied(point, 1, 2, (share, 1 - share)), 2, 0, (0.5, 0.0, 0.5)), 1, 0, (0.25, 0.75))
    groups = find_groups(wide.parameters, layers_of(wide))
    assert [(group.layer, group.units) for group in groups] == [(1, (0, 4)), (1, (2, 3)), (2, (0, 3, 4))]
    for group, shares in zip(groups, ((0.25, 0.75), (share, 1 - share), (0.5, 0.0, 0.5)), strict=True):
        assert group.shares == pytest.approx(shares, abs=1e-13 * max(1, abs(share)))
        assert misfit(wide.parameters, layers_of(wide)[group.layer], group) < 1e-13


@given(seed=seeds, order=st.permutations(range(5)))
def test_groups_follow_a_permutation(seed: int, order: list[int]) -> None:
    point = copied(critical((2, 3, 2), seed=seed % 7), 1, 1, (0.2, 0.3, 0.5))
    layers = layers_of(point)
    (group,) = find_groups(permute(point.parameters, layers[1], order), layers)
    assert sorted(order[unit] for unit in group.units) == [1, 3, 4]
    shares = dict(zip((1, 3, 4), (0.2, 0.3, 0.5), strict=True))
    assert group.shares == pytest.approx([shares[order[unit]] for unit in group.units])


@pytest.mark.parametrize(("gap", "found"), [(0.0, True), (0.5e-7, True), (2e-7, False)])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e6])
def test_close_is_relative_to_the_largest_incoming_vector(gap: float, found: bool, scale: float) -> None:
    point = copied(critical((2, 3, 2), bias=False), 1, 0, (0.5, 0.5))
    parameters = {name: value.copy() for name, value in point.parameters.items()}
    parameters["0.weight"] *= scale
    largest = np.linalg.norm(parameters["0.weight"], axis=1).max()
    parameters["0.weight"][3] += gap * largest * np.array([0.6, 0.8])
    assert bool(find_groups(parameters, layers_of(point))) == found


def test_shares_are_nothing_where_the_sum_is_nothing_and_survive_any_scale() -> None:
    point = copied(critical((2, 3, 2)), 1, 0, (1.0, 0.0))
    parameters = {name: value.copy() for name, value in point.parameters.items()}
    layers = layers_of(point)
    for scale in (1e-200, 1e200):
        parameters["2.weight"] = point.parameters["2.weight"] * scale
        (group,) = find_groups(parameters, layers)
        assert group.shares == (1.0, 0.0)
        assert misfit(parameters, layers[1], group) < 1e-14
    parameters["2.weight"][:, 3] = -parameters["2.weight"][:, 0]
    (group,) = find_groups(parameters, layers)
    assert np.isnan(group.shares).all()
    assert misfit(parameters, layers[1], group) == np.inf


@pytest.mark.parametrize("share", [1e2, 1e5, 1e9, 1e12])
def test_outgoing_vectors_that_nearly_cancel_misfit_by_the_rounding_of_their_sum(share: float) -> None:
    """With one output all vectors are multiples of each other; that alone would call any sum exact."""
    point = copied(critical((2, 3, 1)), 1, 0, (share, 1 - share))
    (group,) = find_groups(point.parameters, layers_of(point))
    gap = misfit(point.parameters, layers_of(point)[1], group)
    wrong = abs(group.shares[0] - share) / share
    assert wrong <= gap <= 1e-14 * share


def test_large_shares_of_units_that_are_not_quite_the_same_misfit_by_both() -> None:
    point = copied(critical((2, 3, 2), bias=False), 1, 0, (1e6, 1 - 1e6))
    parameters = {name: value.copy() for name, value in point.parameters.items()}
    parameters["0.weight"][3] *= 1 + 1e-8
    (group,) = find_groups(parameters, layers_of(point))
    assert misfit(parameters, layers_of(point)[1], group) == pytest.approx(1e6 * 1e-8, rel=0.1)


def test_outgoing_vectors_that_are_no_multiples_misfit_by_the_angle() -> None:
    point = copied(critical((2, 3, 2)), 1, 0, (0.5, 0.5))
    parameters = {name: value.copy() for name, value in point.parameters.items()}
    parameters["2.weight"][:, 0], parameters["2.weight"][:, 3] = (1.0, 0.0), (0.0, 1.0)
    (group,) = find_groups(parameters, layers_of(point))
    assert misfit(parameters, layers_of(point)[1], group) == pytest.approx(np.sqrt(0.5))


def several(seed=0):
    """A network with copies in all of its hidden layers, and the network without them."""
    point = critical((2, 3, 2, 3, 2), seed=seed, samples=60)
    wide = copied(copied(copied(point, 1, 0, (0.3, 0.9, -0.2)), 2, 1, (0.4, 0.6)), 3, 2, (1.5, -0.5))
    return point, wide


def test_the_embedding_of_copies_in_neighbouring_layers_leads_from_the_small_network_to_the_wide_one() -> None:
    point, wide = several()
    layers = layers_of(wide)
    parts = embedding(wide.parameters, layers, find_groups(wide.parameters, layers))
    assert parts.size == point.size
    np.testing.assert_allclose(parts.lift(flat(point.parameters)), flat(wide.parameters), rtol=1e-13)
    np.testing.assert_allclose(reduce_vector(flat(wide.parameters), parts), flat(point.parameters), rtol=1e-13)


@given(seed=seeds)
def test_pulling_back_is_the_transpose_of_lifting_and_reducing_its_left_inverse(seed: int) -> None:
    _, wide = several()
    layers = layers_of(wide)
    parts = embedding(wide.parameters, layers, find_groups(wide.parameters, layers))
    generator = np.random.default_rng(seed)
    x, v = generator.normal(size=parts.size), generator.normal(size=wide.size)
    assert parts.lift(x) @ v == pytest.approx(x @ parts.pull(v), rel=1e-11, abs=1e-11)
    np.testing.assert_allclose(reduce_vector(parts.lift(x), parts), x, rtol=1e-12)


def test_the_hessian_pulled_back_is_the_small_networks() -> None:
    point, wide = several()
    layers = layers_of(wide)
    parts = embedding(wide.parameters, layers, find_groups(wide.parameters, layers))
    whole = gradient_and_hessian(wide)[1].astype(float)
    lifts = np.stack([parts.lift(row) for row in np.eye(parts.size)])
    small = gradient_and_hessian(point)[1].astype(float)
    np.testing.assert_allclose(lifts @ whole @ lifts.T, small, rtol=1e-11, atol=1e-13)


def test_units_with_blocks_are_reduced_block_by_block() -> None:
    neurons = Neurons((Slice("conv", 0), Slice("shift", 0)), (Slice("fc", 1, block=3),))
    generator = np.random.default_rng(0)
    small = {
        "conv": generator.normal(size=(2, 1, 2)),
        "shift": generator.normal(size=2),
        "fc": generator.normal(size=(2, 6)),
    }
    wide = split(small, neurons, 1, (0.7, 0.3))
    (group,) = find_groups(wide, {1: neurons})
    assert (group.layer, group.units) == (1, (1, 2))
    assert group.shares == pytest.approx((0.7, 0.3))
    parts = embedding(wide, {1: neurons}, (group,))
    assert parts.size == flat(small).size
    np.testing.assert_allclose(parts.lift(flat(small)), flat(wide), rtol=1e-14)
    layout = Layout.of(wide)
    fc = parts.source[neurons.outgoing_positions(layout)]
    assert np.array_equal(fc[1], fc[2])
    assert len(np.unique(fc)) == 12


def test_the_first_of_several_close_units_gathers_the_others() -> None:
    point = copied(critical((2, 3, 2), bias=False), 1, 0, (0.2, 0.2, 0.6))
    parameters = {name: value.copy() for name, value in point.parameters.items()}
    largest = np.linalg.norm(parameters["0.weight"], axis=1).max()
    parameters["0.weight"][3, 0] += 0.9e-7 * largest
    parameters["0.weight"][4, 0] += 1.8e-7 * largest
    assert [group.units for group in find_groups(parameters, layers_of(point))] == [(0, 3)]
