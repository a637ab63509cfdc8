"""Walks measured: level to rounding, critical exactly where theory says, one pass, one compilation."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saddlescope.arrays import Layout
from saddlescope.data.data import Data, teacher_data
from saddlescope.errors import NeuronsError, NonFiniteError, SettingsError, ShapeError
from saddlescope.models.mlp import MLP
from saddlescope.precision import float64
from saddlescope.problem.problem import Problem
from saddlescope.units.actions import permute, split
from saddlescope.units.neurons import Neurons, Slice
from saddlescope.valleys.moves import route_position
from saddlescope.valleys.result import Measurements, MoveKind
from saddlescope.valleys.walk import measure, walk

ORDER = (4, 2, 3, 0, 1)


def random_set(network, seed=0):
    generator = np.random.default_rng(seed)
    return {
        name: generator.normal(size=shape)
        for name, shape in zip(network.layout.names, network.layout.shapes, strict=True)
    }


def points_of(found, points):
    times = [(s + k / points) / found.segments for s in range(found.segments) for k in range(1, points + 1)]
    return [route_position(found.route, min(1.0, t)) for t in times]


@pytest.fixture(scope="module")
def deep():
    """A walk in the second layer of a random network, with a loss summed in several chunks."""
    network = MLP((3, 4, 5, 2), "tanh")
    start = random_set(network)
    for name in ("2.weight", "2.bias"):
        start[name][3] = start[name][1]
    generator = np.random.default_rng(1)
    problem = Problem(network, Data(generator.normal(size=(30, 3)), generator.normal(size=(30, 2))), chunk=12)
    return problem, start, walk(problem, start, ORDER, layer=2, pair=(1, 3), points=3)


def test_loss_and_outputs_stay_to_a_few_units_of_rounding(deep):
    problem, start, found = deep
    assert found.loss == problem.loss_of(start)
    assert found.max_loss_deviation <= 20 * np.finfo(float).eps * found.loss
    assert found.scan.max_output_deviation <= 20 * np.finfo(float).eps * found.scan.largest_output
    assert found.scan.largest_output == np.abs(problem.outputs_of(start)).max()


def test_what_was_measured_is_what_the_problem_says_at_those_points(deep):
    problem, _, found = deep
    shown = points_of(found, 3)
    losses = [problem.loss_of(at) for at in shown]
    norms = [np.sqrt(sum(np.sum(g**2) for g in problem.gradient_of(at).values())) for at in shown]
    np.testing.assert_allclose(found.scan.losses.ravel(), losses, rtol=1e-14)
    np.testing.assert_allclose(found.scan.gradient_norms.ravel(), norms, rtol=1e-11)
    assert found.max_gradient_norm == pytest.approx(max(norms), rel=0.2)
    assert np.ptp(norms) > 0.1


def test_a_walk_that_is_not_level_is_seen(deep):
    """The measurement itself is broken here: a neuron that still sends walks."""
    problem, _, found = deep
    broken = dataclasses.replace(found.route, moves=found.route.moves[1:])
    with float64():
        scan = measure(problem, [broken], points=2)
    assert scan.max_loss_deviation > 1e-3
    assert scan.max_output_deviation > 1e-3


@pytest.fixture(scope="module")
def critical():
    """Critical points at a loss above zero, by number of outputs: the problem with one neuron more, and parameters.

    The targets are a random network's outputs plus residuals that are orthogonal to all their derivatives.
    """

    def make(outputs):
        network = MLP((2, 3, outputs), "tanh")
        generator = np.random.default_rng(outputs)
        reduced = random_set(network, 7)
        x = generator.normal(size=(60, 2))
        blank = Problem(network, Data(x, np.zeros((60, outputs))))
        with float64():
            jacobian = np.asarray(jax.jacobian(blank.outputs)(network.layout.flatten(reduced))).reshape(
                60 * outputs, -1
            )
        r = generator.normal(size=60 * outputs)
        r -= jacobian @ np.linalg.lstsq(jacobian, r, rcond=None)[0]
        targets = blank.outputs_of(reduced) + r.reshape(60, outputs)
        wide = Problem(MLP((2, 4, outputs), "tanh"), Data(x, targets))
        return wide, reduced, network.neurons(1)

    return {outputs: make(outputs) for outputs in (1, 3)}


def kinds_of(found):
    return np.array([move.kind is not MoveKind.WALK for move in found.route.moves])


@pytest.mark.parametrize("outputs", [1, 3])
def test_from_a_proportional_split_transfers_are_critical_and_walks_are_not(critical, outputs):
    problem, reduced, neurons = critical[outputs]
    start = split(reduced, neurons, 1, (0.3, 0.7))
    found = walk(problem, start, (2, 3, 0, 1), layer=1, pair=(1, 3))
    assert found.segments >= 5
    np.testing.assert_array_equal(found.scan.critical, kinds_of(found))
    assert found.max_loss_deviation < 1e-14 * found.loss
    assert found.max_gradient_norm > 1e-4
    assert found.scan.critical_stretches == tuple((k, k) for k in range(0, found.segments, 2))


def test_with_three_outputs_most_of_the_equal_loss_plane_is_not_critical(critical):
    problem, reduced, neurons = critical[3]
    start = split(reduced, neurons, 1, (0.3, 0.7))
    shift = np.array([0.2, -0.1, 0.3])
    start["2.weight"][:, 1] += shift
    start["2.weight"][:, 3] -= shift
    found = walk(problem, start, (2, 3, 0, 1), layer=1, pair=(1, 3))
    assert found.max_loss_deviation < 1e-14 * found.loss
    assert found.scan.gradient_norm > 1e-4
    expected = kinds_of(found)
    expected[0] = expected[-1] = False
    np.testing.assert_array_equal(found.scan.critical, expected)


def test_with_one_output_all_of_the_plane_is_critical(critical):
    problem, reduced, neurons = critical[1]
    start = split(reduced, neurons, 1, (-2.5, 3.5))
    found = walk(problem, start, (2, 3, 0, 1), layer=1, pair=(1, 3))
    np.testing.assert_array_equal(found.scan.critical, kinds_of(found))
    none = walk(problem, start, (2, 3, 0, 1), layer=1, pair=(1, 3), tolerance=0.0)
    assert not none.scan.critical.any()


def test_at_zero_loss_the_whole_walk_is_critical():
    network = MLP((2, 5, 3), "softplus")
    start = random_set(network)
    for name in ("0.weight", "0.bias"):
        start[name][4] = start[name][0]
    problem = Problem(network, teacher_data(network, start, np.random.default_rng(2).normal(size=(50, 2))))
    found = walk(problem, start, ORDER, layer=1, pair=(4, 0))
    assert found.scan.critical.all()
    assert found.scan.critical_stretches == ((0, found.segments - 1),)
    assert found.max_loss_deviation < 1e-28


class Channels(eqx.Module):
    """A convolution over windows of 3, flattened, then dense; counts how often it is traced."""

    counter: list = eqx.field(static=True)
    widths: tuple = eqx.field(static=True, default=(6, 20, 2))

    def __hash__(self):
        return id(self.counter)

    @property
    def layout(self):
        return Layout(("conv.weight", "conv.bias", "fc.weight"), ((5, 3), (5,), (2, 20)))

    def check(self, parameters):
        self.layout.flatten(parameters)

    def neurons(self, layer):
        return Neurons((Slice("conv.weight", 0), Slice("conv.bias", 0)), (Slice("fc.weight", 1, block=4),))

    def apply(self, parameters, inputs):
        self.counter.append(1)
        windows = jnp.stack([inputs[:, k : k + 3] for k in range(4)], axis=1)
        maps = jnp.einsum("sow,cw->sco", windows, parameters["conv.weight"])
        here = jnp.tanh(maps + parameters["conv.bias"][None, :, None])
        return here.reshape(inputs.shape[0], -1) @ parameters["fc.weight"].T


def test_channels_walk_and_other_permutations_pairs_and_tolerances_compile_nothing_new():
    network = Channels([])
    generator = np.random.default_rng(0)
    start = {n: generator.normal(size=s) for n, s in zip(network.layout.names, network.layout.shapes, strict=True)}
    start["conv.weight"][4], start["conv.bias"][4] = start["conv.weight"][2], start["conv.bias"][2]
    problem = Problem(network, Data(generator.normal(size=(20, 6)), generator.normal(size=(20, 2))))
    found = walk(problem, start, ORDER, layer=1, pair=(2, 4), points=2)
    assert found.max_loss_deviation < 1e-14 * found.loss
    assert found.scan.max_output_deviation < 1e-13
    traced = len(network.counter)
    other = permute(start, network.neurons(1), (4, 0, 1, 2, 3))
    again = walk(problem, other, (0, 2, 1, 3, 4), layer=1, pair=(0, 3), points=2, tolerance=0.1)
    assert again.segments != found.segments
    assert len(network.counter) == traced


def test_the_names_of_the_parameters_may_come_in_any_order(deep):
    problem, start, found = deep
    turned = dict(reversed(start.items()))
    again = walk(problem, turned, ORDER, layer=2, pair=(1, 3), points=3)
    np.testing.assert_array_equal(again.scan.losses, found.scan.losses)


def test_a_permutation_that_moves_nothing_is_a_walk_of_no_segments(deep):
    problem, start, _ = deep
    found = walk(problem, start, range(5), layer=2, pair=(1, 3), points=3)
    assert found.segments == 0
    assert found.scan.losses.shape == (0, 3)
    assert found.max_loss_deviation == found.scan.max_output_deviation == 0.0
    assert found.max_gradient_norm == found.scan.gradient_norm > 0
    assert found.scan.critical_stretches == ()
    assert found.scan.critical.shape == (0,)


def test_a_point_brings_its_layer_and_pair_and_progress_is_told(deep):
    problem, start, found = deep

    class Point:
        parameters, layer, pair = start, 2, (1, 3)

    told = []
    again = walk(problem, Point(), ORDER, points=3, progress=lambda *words: told.append(words))
    np.testing.assert_array_equal(again.scan.losses, found.scan.losses)
    assert again.layer == 2
    assert told[-1] == (found.segments, found.segments, "walking")


def test_stretches_join_neighbouring_critical_segments():
    norms = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    scan = Measurements(
        loss=1.0,
        gradient_norm=0.0,
        largest_output=1.0,
        losses=np.ones((6, 2)),
        gradient_norms=norms,
        output_deviations=np.zeros((6, 2)),
        tolerance=1e-8,
    )
    # Segment 4 starts where segment 3 ends, at a gradient of 1.
    np.testing.assert_array_equal(scan.critical, [True, True, False, False, False, True])
    assert scan.critical_stretches == ((0, 1), (5, 5))


def test_a_loss_that_is_not_finite_is_neither_level_nor_critical():
    column = np.full((1, 1), np.nan)
    scan = Measurements(
        loss=1.0,
        gradient_norm=0.0,
        largest_output=1.0,
        losses=column,
        gradient_norms=column,
        output_deviations=column,
        tolerance=1.0,
    )
    assert np.isnan(scan.max_loss_deviation)
    assert not scan.critical.any()


def test_mistakes_are_named(deep):
    problem, start, _ = deep
    for words, error, text in (
        ({"pair": (1, 3)}, SettingsError, r"which neurons coincide: layer, pair=\(None, \(1, 3\)\)"),
        ({"layer": 2}, SettingsError, "which neurons coincide"),
        ({"layer": 3, "pair": (1, 3)}, NeuronsError, "no such hidden layer: layer=3; expected 1 to 2"),
        ({"layer": 2, "pair": (0, 3)}, NeuronsError, "neurons 0 and 3 are no twins"),
        ({"layer": 2, "pair": (1, 3), "points": 0}, SettingsError, "points=0; expected an integer, 1 or more"),
        ({"layer": 2, "pair": (1, 3), "tolerance": -1.0}, SettingsError, "tolerance=-1.0; expected 0 or more"),
        ({"layer": 2, "pair": (1, 3), "tolerance": float("nan")}, SettingsError, "tolerance=nan"),
    ):
        with pytest.raises(error, match=text):
            walk(problem, start, ORDER, **words)
    with pytest.raises(NeuronsError, match="permutation=0,1; expected 0 to 4"):
        walk(problem, start, (0, 1), layer=2, pair=(1, 3))
    with pytest.raises(ShapeError, match="do not fit the network"):
        walk(problem, {"0.weight": start["0.weight"]}, ORDER, layer=2, pair=(1, 3))
    bad = {**start, "0.bias": np.full(4, np.inf)}
    with pytest.raises(NonFiniteError, match=r"0\.bias\[0\]=inf"):
        walk(problem, bad, ORDER, layer=2, pair=(1, 3))


def test_a_penalty_is_refused_since_it_is_not_constant_along_a_walk(deep):
    problem, start, _ = deep
    data = Data(np.zeros((2, 3)), np.zeros((2, 2)))
    penalised = Problem(problem.network, data, weight_decay=0.5)
    with pytest.raises(SettingsError, match=r"penalty on the parameters is not constant.*=\(0\.5, 0\.0\); expected 0"):
        walk(penalised, start, ORDER, layer=2, pair=(1, 3))
