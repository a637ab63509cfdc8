"""What decides, on each side of where it turns: written against mutants that earlier tests let pass (tests/mutants)."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from saddlescope.arrays import Layout
from saddlescope.data.data import Data
from saddlescope.data.weights import save_weights
from saddlescope.models.mlp import MLP
from saddlescope.numerics.newton import CONVERGED, MAX_STEPS, STAGNATED
from saddlescope.outcomes import Outcome
from saddlescope.paths import maxima
from saddlescope.paths.decide import is_continuous
from saddlescope.paths.events import convergence_events, fold_events, interior_maxima
from saddlescope.paths.follow import Node, Trajectory
from saddlescope.paths.growth import growth_exponent, is_channel, measure_growth
from saddlescope.paths.units import Units, units_of
from saddlescope.problem.problem import Problem
from saddlescope.records import recognise
from saddlescope.records.recheck import recheck_path
from saddlescope.units.neurons import Neurons, Slice
from saddlescope.valleys.result import Measurements

pytestmark = pytest.mark.usefixtures("stand_ins")

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
    network = MLP((2, 3, 2), "tanh")
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
    nothing = MLP((2, 3, 2), "tanh", bias=False)
    assert "2.bias" not in units_of(Problem(nothing, Data(inputs, np.ones((12, 2)))), nothing.layout.names).arrays


# Paths: what happened on the way.


def node(distance: float, slope: float = 0.0, residual: float = 0.0, **changes) -> Node:
    at = Node(np.zeros(1), distance, 1.0 / distance, residual, 0.0, slope, 0.0, 1, CONVERGED)
    return replace(at, **changes)


def trail(*nodes: Node, folds: tuple[tuple[float, float], ...] = ()) -> Trajectory:
    return Trajectory(nodes, folds, None, False, 0, 0)


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
    found = fold_events(trail(node(4.0), node(2.0), node(1.0), folds=((2.0 * (1 + 5e-13), 0.3), (1.5, 0.7))))
    assert [(event.kind, event.distance, event.loss, event.node) for event in found] == [
        (Outcome.FOLD, 2.0 * (1 + 5e-13), 0.5, 1),
        (Outcome.FOLD, 1.5, 0.5, 1),
    ]
    assert fold_events(trail(node(4.0), node(2.0), folds=((2.0 * (1 + 5e-12), 0.3),)))[0].node == 0


def test_only_requested_distances_that_were_missed_are_noted():
    nodes = (node(4.0), node(3.0, status=MAX_STEPS, kind="bridge"), node(2.0, status=STAGNATED), node(1.0))
    found = convergence_events(trail(*nodes), 1e-9)
    assert [(event.kind, event.node) for event in found] == [(Outcome.NOT_CONVERGED, 2)]
    assert found[0].detail.startswith("stagnated")


@pytest.mark.parametrize(("fold", "noted"), [(None, True), (0.5, False), (0.7, False), (1.0, True), (0.49, True)])
def test_between_two_branches_there_is_no_maximum(monkeypatch, fold, noted):
    """A fold at the second node, or between, parts the slopes; one at the first node was before them."""
    bridge = node(0.9, kind="bridge")
    way = trail(node(2.0, -1.0), node(1.0, -1.0), bridge, node(0.5, 1.0), folds=() if fold is None else ((fold, 0.1),))
    iterate = SimpleNamespace(gradient=np.array([3.0, 4.0]), value=7.0)
    asked = []

    def refine(objective, surface, pair, limits, solver):
        asked.append(pair)
        return 0.8, iterate, 1e-12

    monkeypatch.setattr(maxima, "refine", refine)
    found = maxima.maximum_events(None, None, way, None, None)  # type: ignore[arg-type]
    assert bool(found) is noted
    if noted:
        assert asked == [(way.nodes[1], way.nodes[3])]
        assert (found[0].distance, found[0].loss, found[0].node) == (0.8, 7.0, 1)
        assert "gradient 5" in found[0].detail


# Walks, and what was stored.


@pytest.mark.parametrize(
    ("norms", "start", "critical"),
    [
        ([[1e-8, 1e-8]], 1e-8, [True]),  # the tolerance itself
        ([[1.1e-8, 0.0]], 0.0, [False]),
        ([[0.0, 1.1e-8]], 0.0, [False]),
        ([[0.0, 0.0]], 1.1e-8, [False]),  # a segment begins at the start
        ([[0.0, 0.0], [0.0, 2e-8], [0.0, 0.0], [0.0, 0.0]], 0.0, [True, False, False, True]),
    ],
)
def test_a_segment_is_critical_if_no_norm_on_it_is_above_the_tolerance(norms, start, critical):
    rows = np.array(norms)
    scan = Measurements(loss=1.0, gradient_norm=start, largest_output=1.0, losses=1.0 - rows, gradient_norms=rows,
                output_deviations=rows, tolerance=1e-8)  # fmt: skip
    assert scan.critical.tolist() == critical
    assert scan.max_gradient_norm == max(start, rows.max())
    assert scan.max_loss_deviation == pytest.approx(rows.max(), abs=1e-16)
    assert scan.max_output_deviation == rows.max()


def test_what_is_computed_again_deviates_by_the_largest_of_its_kind():
    class Fake:
        def loss_of(self, row):
            return float(row["a"][0])

        def gradient_of(self, row):
            return {"a": 3.0 * row["a"], "b": 4.0 * row["a"]}

        def fingerprint(self, row):
            return {"data": "same"}

    def checked(losses, norms, again=(1.0, 4.0), data="same"):
        path = SimpleNamespace(parameters={"a": np.array(again)[:, None]}, losses=np.array(losses),
                               full_gradient_norms=np.array(norms), fingerprints={"data": data})  # fmt: skip
        return recheck_path(Fake(), path)  # type: ignore[arg-type]

    found = checked([1.0, 4.0], [5.0, 20.0])
    assert (found.loss_deviation, found.gradient_deviation, found.same_data) == (0.0, 0.0, True)
    found = checked([1.5, 3.9], [7.0, 19.0], data="other")
    assert (found.loss_deviation, found.same_data) == (0.5 / 4, False)
    assert found.gradient_deviation == pytest.approx(2 / 20)
    assert checked([np.nan, 4.0], [5.0, 20.0]).loss_deviation == 0.0  # nothing was stored there
    assert checked([1.0, 4.0], [5.0, 20.0], again=(1.0, np.nan)).loss_deviation == math.inf
    assert checked([np.nan, np.nan], [5.0, 20.0]).loss_deviation == 0.0
    assert checked([1.0, 2.0], [0.0, 0.0], again=(0.0, 0.0)).loss_deviation > 1e200


WALK = {"kind": "walk", "moves": []}
PAGE = "<!doctype html><title>x: saddlescope</title><footer><p>saddlescope 1</footer></html>"


@pytest.mark.parametrize(
    ("command", "name", "content", "ours"),
    [
        ("saddlescope walk", "a.json", json.dumps(WALK), True),
        ("saddlescope walk", "a.json", json.dumps({"kind": "walk", "words": ""}), True),
        ("saddlescope walk", "a.json", json.dumps({"kind": "walk"}), False),
        ("saddlescope walk", "a.json", json.dumps({"kind": "certificate", "words": ""}), False),
        ("saddlescope certify", "a.json", json.dumps({"kind": "certificate", "words": ""}), True),
        ("saddlescope walk", "a.json", json.dumps([WALK]), False),
        ("saddlescope walk", "a.json", json.dumps(WALK)[:-1], False),
        ("saddlescope report", "a.html", PAGE, True),
        ("saddlescope report", "a.html", PAGE[:-1], False),
        ("saddlescope report", "a.html", PAGE.replace("<footer><p>saddlescope", "<footer><p>other"), False),
        ("saddlescope report", "a.html", PAGE.replace(": saddlescope<", ": other<"), False),
        ("saddlescope report", "a.html", " " + PAGE, False),
        ("saddlescope train", "a.safetensors", "no weights", False),
    ],
)
def test_a_file_is_ours_by_all_of_its_marks(tmp_path, command, name, content, ours):
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert (recognise.objection(tmp_path / name, command) is None) is ours
    assert recognise.objection(tmp_path / "none", command) == "not a plain file"
    assert recognise.objection(tmp_path, command) == "not a plain file"


@pytest.mark.parametrize(
    ("content", "ours"),
    [
        (b"<svg>saddlescope path</svg>", True),
        (b"<svg>saddlescope path</sv", False),
        (b"<svg>saddlescope walk</svg>", False),
        (b"<svg>path</svg>", False),
        (b"<svg>saddlescope path</svg>" + b" " * 58, True),  # the end lies within the last 64 bytes
        (b"<svg>saddlescope path</svg>" + b" " * 59, False),
    ],
)
def test_a_figure_is_ours_by_its_maker_and_its_end(tmp_path, content, ours):
    (tmp_path / "a.svg").write_bytes(content)
    assert (recognise.objection(tmp_path / "a.svg", "saddlescope path", drawn=True) is None) is ours
    (tmp_path / "a.gif").write_bytes(content)
    assert recognise.objection(tmp_path / "a.gif", "saddlescope path", drawn=True) is not None


def test_weights_are_ours_by_their_note(tmp_path):
    network = MLP((2, 3, 1), "tanh")
    parameters = network.initial(0)
    for k, (notes, command, ours) in enumerate(
        (
            ({"written by": "saddlescope train"}, "saddlescope train", True),
            ({"written by": "saddlescope expand"}, "saddlescope train", False),
            ({"command": "saddlescope train --data x"}, "saddlescope train", True),  # of older versions
            ({"command": "saddlescope trainer"}, "saddlescope train", False),
            ({"command": "saddlescope train --data x"}, "saddlescope expand", False),
        )
    ):
        file = tmp_path / f"{k}.safetensors"
        save_weights(file, network, parameters, notes=notes)
        assert (recognise.objection(file, command) is None) is ours
