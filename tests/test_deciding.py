"""What decides, on each side of where it turns: written against mutants that earlier tests let pass (tests/mutants)."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from saddlescope.arrays import Layout
from saddlescope.numerics.newton import CONVERGED, MAX_STEPS, STAGNATED
from saddlescope.outcomes import Outcome
from saddlescope.paths import maxima
from saddlescope.paths.decide import is_continuous
from saddlescope.paths.events import convergence_events, fold_events, interior_maxima
from saddlescope.paths.follow import Node, Trail
from saddlescope.paths.growth import growth_exponent, is_channel, measure_growth
from saddlescope.paths.units import Units, units_of
from saddlescope.problem.data import Data
from saddlescope.problem.networks import Perceptron
from saddlescope.problem.problem import Problem
from saddlescope.symmetry.neurons import Neurons, Slice

# Paths: how they end.


def test_at_the_bound_itself_a_path_is_continuous_and_an_exponent_no_channel():
    assert is_continuous(0.02, 2.0, 0.0)  # 0.01 * 2.0, exactly
    assert not is_channel(-0.5, 0.0)
    assert not is_channel(-1.5, 0.0)
    assert is_channel(-1.0, -0.5)


def test_an_exponent_takes_three_points_within_a_factor_of_ten_of_the_last():
    assert growth_exponent(np.array([10.0, 3.0, 1.0]), np.array([100.0, 9.0, 1.0])) == pytest.approx(2.0)
    assert math.isnan(growth_exponent(np.array([10.1, 3.0, 1.0]), np.array([100.0, 9.0, 1.0])))
    assert math.isnan(growth_exponent(np.array([3.0, 1.0]), np.array([9.0, 1.0])))
    assert math.isnan(growth_exponent(np.array([9.0, 3.0, 1.0]), np.array([0.0, 9.0, 1.0])))


def test_what_grew_is_what_gained_not_what_is_large_in_whichever_layer():
    names = ("0.weight", "2.weight", "4.weight", "4.bias")
    layout = Layout(names, ((2, 2), (2, 2), (1, 2), (1,)))
    layers = {
        1: Neurons((Slice("0.weight", 0),), (Slice("2.weight", 1),)),
        2: Neurons((Slice("2.weight", 0),), (Slice("4.weight", 1),)),
    }
    distances = np.array([1.0, 0.5, 0.25, 0.125])
    rows = np.ones((4, layout.size))
    rows[:, 0] = 1e3
    rows[:, 9] = 3.0 / distances
    grown = measure_growth(distances, rows, layout, layers, 1, (0, 1))
    assert (grown.array, grown.role, grown.layer, grown.unit, grown.of_pair) == ("4.weight", "outgoing", 2, 1, False)
    assert (grown.first, grown.last) == (3.0, 24.0)
    assert grown.exponent == pytest.approx(-1.0)
    rows[:, 9] = 1.0
    rows[:, 6] = 3.0 / distances  # from unit 0 of the first layer into unit 1 of the second
    assert measure_growth(distances, rows, layout, layers, 1, (0, 1)).role == "outgoing"
    grown = measure_growth(distances, rows, layout, layers, 2, (0, 1))
    assert (grown.role, grown.layer, grown.unit, grown.of_pair) == ("incoming", 2, 1, False)
    rows[:, 6] = 1.0
    rows[:, 8:10] = np.stack([2.0 / distances + 1.0, -2.0 / distances + 1.0], axis=1)
    assert measure_growth(distances, rows, layout, layers, 2, (0, 1)).of_pair
    assert not measure_growth(distances, rows, layout, layers, 1, (0, 1)).of_pair


def test_units_are_ordinary_only_all_together_and_scale_by_division():
    assert not Units({"a": 1.0, "b": 10.0}, 1.0).ordinary
    assert not Units({"a": 1.0, "b": 1.0}, 10.0).ordinary
    scaled = Units({"a": 1.0, "b": 10.0}, 1.0).scaled({"a": np.ones(2), "b": np.ones(2)})
    assert scaled["b"].tolist() == [0.1, 0.1]
    assert Units({"a": 2.0, "b": 10.0}, 1.0).vector({"b": (2,), "a": (1,)}).tolist() == [10.0, 10.0, 2.0]


def test_only_errors_that_are_squared_have_a_unit_and_zero_targets_have_none():
    network = Perceptron((2, 3, 2), "tanh")
    inputs = np.random.default_rng(0).normal(size=(12, 2))
    names = network.layout.names
    zero = units_of(Problem(network, Data(inputs, np.zeros((12, 2)))), names)
    assert zero.ordinary
    entropy = Problem(network, Data(1e4 * inputs, labels=np.arange(12) % 2), loss="cross_entropy")
    found = units_of(entropy, names)
    assert found.loss == 1.0
    assert found.arrays == {name: 1e-4 if name == "0.weight" else 1.0 for name in names}
    small = units_of(Problem(network, Data(inputs, np.full((12, 2), 1e-5)), loss="normalised"), names)
    assert (small.arrays["2.weight"], small.arrays["2.bias"], small.arrays["0.weight"]) == (1e-5, 1e-5, 1.0)
    nothing = Perceptron((2, 3, 2), "tanh", bias=False)
    assert "2.bias" not in units_of(Problem(nothing, Data(inputs, np.ones((12, 2)))), nothing.layout.names).arrays


# Paths: what happened on the way.


def node(distance: float, slope: float = 0.0, residual: float = 0.0, **changes) -> Node:
    at = Node(np.zeros(1), distance, 1.0 / distance, residual, 0.0, slope, 0.0, 1, CONVERGED)
    return replace(at, **changes)


def trail(*nodes: Node, folds: tuple[tuple[float, float], ...] = ()) -> Trail:
    return Trail(nodes, folds, None, False, 0, 0)


@pytest.mark.parametrize(
    ("slopes", "residual", "found"),
    [
        ((-1.0, 1.0), 0.0, [0]),
        ((1.0, -1.0), 0.0, []),  # a minimum
        ((-1.0, -1.0), 0.0, []),
        ((1.0, 1.0), 0.0, []),
        ((0.0, 1.0), 0.0, []),
        ((-1.0, 0.0), 0.0, []),
        ((-1.0, -2.0, 3.0), 0.0, [1]),
        ((-1.0, math.nan), 0.0, []),
        ((math.nan, 1.0), 0.0, []),
        ((-1.0, 2.0), 0.099, [0]),  # the smaller slope is above ten times the residual
        ((-1.0, 2.0), 0.1, []),
        ((-2.0, 1.0), 0.101, []),
    ],
)
def test_a_maximum_is_where_the_slope_turns_clearly_from_falling_to_rising(slopes, residual, found):
    nodes = tuple(node(2.0**-k, slope, residual) for k, slope in enumerate(slopes))
    assert interior_maxima(nodes) == found


def test_the_larger_residual_of_two_nodes_decides_whether_slopes_are_clear():
    assert interior_maxima((node(1.0, -1.0, 0.2), node(0.5, 1.0, 0.0))) == []
    assert interior_maxima((node(1.0, -1.0, 0.0), node(0.5, 1.0, 0.2))) == []


def test_a_fold_is_noted_at_the_last_node_before_it():
    found = fold_events(trail(node(4.0), node(2.0), node(1.0), folds=((2.0 * (1 + 1e-13), 0.3), (1.5, 0.7))))
    assert [(event.kind, event.distance, event.loss, event.node) for event in found] == [
        (Outcome.FOLD, 2.0 * (1 + 1e-13), 0.5, 1),
        (Outcome.FOLD, 1.5, 0.5, 1),
    ]
    assert fold_events(trail(node(4.0), node(2.0), folds=((2.0 * (1 + 1e-11), 0.3),)))[0].node == 0


def test_only_requested_distances_that_were_missed_are_noted():
    nodes = (node(4.0), node(3.0, status=MAX_STEPS, kind="bridge"), node(2.0, status=STAGNATED), node(1.0))
    found = convergence_events(trail(*nodes), 1e-9)
    assert [(event.kind, event.node) for event in found] == [(Outcome.NOT_CONVERGED, 2)]
    assert found[0].detail.startswith("stagnated")


@pytest.mark.parametrize(("fold", "noted"), [(None, True), (0.5, False), (0.7, False), (1.0, True), (0.49, True)])
def test_between_two_branches_there_is_no_maximum(monkeypatch, fold, noted):
    """A fold at the second node, or between, parts the slopes; one at the first node was before them."""
    bridge = node(0.9, kind="bridge")
    way = trail(node(1.0, -1.0), bridge, node(0.5, 1.0), folds=() if fold is None else ((fold, 0.1),))
    iterate = SimpleNamespace(gradient=np.array([3.0, 4.0]), value=7.0)
    asked = []

    def refine(objective, surface, pair, limits, solver):
        asked.append(pair)
        return 0.8, iterate, 1e-12

    monkeypatch.setattr(maxima, "refine", refine)
    found = maxima.maximum_events(None, None, way, None, None)  # type: ignore[arg-type]
    assert bool(found) is noted
    if noted:
        assert asked == [(way.nodes[0], way.nodes[2])]
        assert (found[0].distance, found[0].loss, found[0].node) == (0.8, 7.0, 0)
        assert "gradient 5" in found[0].detail
