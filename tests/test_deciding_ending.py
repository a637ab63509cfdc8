"""What the end of a path makes of what following found, on each side of where it turns (see tests/mutants)."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from saddlescope.arrays import Layout
from saddlescope.data.data import Data, teacher_data
from saddlescope.data.sources import normal_inputs
from saddlescope.models.mlp import MLP
from saddlescope.numerics.newton import CONVERGED, STAGNATED, Iterate
from saddlescope.outcomes import Outcome
from saddlescope.paths import ending, find
from saddlescope.paths.decide import End
from saddlescope.paths.follow import Node, Trajectory
from saddlescope.paths.polish import Polished
from saddlescope.paths.result import Event, Growth, PathSettings
from saddlescope.paths.units import Units
from saddlescope.precision import in_float64
from saddlescope.problem.problem import Problem
from saddlescope.units.neurons import Neurons, Slice

pytestmark = pytest.mark.usefixtures("stand_ins")

STILL = Growth(array="0.weight", role="incoming", layer=1, unit=0, first=1.0, last=1.0, exponent=0.0,
               difference_exponent=0.0, sum_exponent=0.0, share=1e-4, of_pair=True)  # fmt: skip
CHANNEL = replace(STILL, difference_exponent=-1.0)


def node(distance: float, loss: float, x=(3.0, 4.0), **changes) -> Node:
    return replace(Node(np.array(x), distance, loss, 0.0, 0.0, 0.0, 0.0, 1, CONVERGED), **changes)


def found(*nodes: Node, stopped: str | None = None, ran_away: bool = False, loss: float = 4.0, **changes) -> Any:
    """What following found, the rest of it stand-ins."""
    way = Trajectory(nodes, (), stopped, ran_away, 0, 0)
    here = {"problem": None, "objective": None, "surface": None, "limits": None, "solver": "newton", "tolerance": 1e-3}
    return SimpleNamespace(trail=way, units=Units({}, loss), **{**here, **changes})


def iterate(loss: float, x=(0.0, 0.0)) -> Iterate:
    one = jnp.asarray(1.0)
    return Iterate(jnp.asarray(x), jnp.asarray(loss), jnp.zeros(2), jnp.asarray(0.3), one, one, one, one,
                   jnp.asarray(STAGNATED))  # fmt: skip


@pytest.fixture
def judged(monkeypatch):
    """Judge a path's end whose merged network settles at a loss, critical or not; what was asked for is kept."""

    @in_float64
    def judge(data: Any, *, loss: float = 0.0, critical: bool = True, growth: Growth = STILL, merged: float = 7.0):
        asked: dict[str, Any] = {}

        def settle(objective, surface, last, limits, solver):
            asked.update(last=np.asarray(last).tolist(), solver=solver)
            return iterate(merged), iterate(-99.0, (9.0, 9.0))

        def polish(objective, mask, settled, limits, *, on_kinks):
            asked.update(settled=float(settled.value), on_kinks=on_kinks)
            return Polished(iterate(loss, (3.0, 9.0)), 0.5, 0.25, 1e-9, 1e-3, critical)

        monkeypatch.setattr(ending, "settle_in_mirror", settle)
        monkeypatch.setattr(ending, "polish_point", polish)
        monkeypatch.setattr(ending, "mirror_mask", lambda *_: None)
        monkeypatch.setattr(ending, "_on_kinks", lambda data, x: np.asarray(x).tolist() == [9.0, 9.0])
        monkeypatch.setattr(ending, "_growth", lambda data, real: asked.update(real=real) or growth)
        return ending.judge(data), asked

    return judge


LEVEL = (node(2.0, 1.0), node(1.5, 50.0, (8.0, 8.0), kind="bridge"), node(1.0, 1.0))


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        (1.0, Outcome.PERMUTATION_POINT),
        (1.00499, Outcome.PERMUTATION_POINT),  # level, but for the tolerance 1e-3 times the way of 5 that is settled
        (1.00501, Outcome.JUMP),
        (0.99501, Outcome.PERMUTATION_POINT),
        (0.99499, Outcome.JUMP),
        (math.nan, Outcome.JUMP),
    ],
)
def test_the_merged_loss_goes_on_if_it_moves_no_further_than_the_way_that_settling_took(judged, loss, kind):
    verdict, asked = judged(found(*LEVEL), loss=loss)
    assert verdict.ending is kind
    assert verdict.gap == pytest.approx(4.0 * (loss - 1.0), abs=0.0, nan_ok=True)
    assert (verdict.polished is not None) is (kind is Outcome.PERMUTATION_POINT)
    assert (asked["last"], asked["settled"], asked["on_kinks"]) == ([3.0, 4.0], -99.0, True)
    assert [one.distance for one in asked["real"]] == [2.0, 1.0]  # the bridge is none of the distances asked for


@pytest.mark.parametrize(("loss", "goes_on"), [(-18.99, True), (-19.02, False), (20.99, True), (21.02, False)])
def test_the_merged_loss_may_move_ten_times_as_far_as_the_last_two_distances_say(judged, loss, goes_on):
    falling = (node(2.0, 3.0), node(1.0, 1.0))  # 10 |3 - 1| 0.5 / (1 - 0.5), and 0.005 as above
    verdict, _ = judged(found(*falling), loss=loss)
    assert (verdict.ending is Outcome.PERMUTATION_POINT) is goes_on


def test_an_end_that_is_no_point_says_why_with_its_numbers(judged):
    verdict, _ = judged(found(*LEVEL), loss=2.0)
    assert (verdict.ending, verdict.polished, verdict.growth) == (Outcome.JUMP, None, STILL)
    assert len(verdict.reasons) == 1
    assert "from 4 to 28 (8 after settling); the path's own trend allows 0.02" in verdict.reasons[0]
    verdict, _ = judged(found(*LEVEL), loss=2.0, growth=CHANNEL)
    assert (verdict.ending, len(verdict.reasons)) == (Outcome.CHANNEL, 2)
    verdict, _ = judged(found(*LEVEL), loss=1.0, critical=False)
    assert (verdict.ending, verdict.polished, verdict.gap) == (Outcome.NOT_CONVERGED, None, 0.0)
    assert verdict.reasons[0].startswith("the merged network was not settled (stagnated): its gradient norm 0.3")


@pytest.mark.parametrize(
    ("ran_away", "growth", "kind", "reasons"),
    [
        (False, CHANNEL, Outcome.NOT_CONVERGED, 1),
        (True, STILL, Outcome.RUNAWAY, 2),
        (True, CHANNEL, Outcome.CHANNEL, 2),
        (True, replace(CHANNEL, of_pair=False), Outcome.RUNAWAY, 2),
    ],
)
def test_a_path_that_was_given_up_has_no_merged_network(judged, ran_away, growth, kind, reasons):
    verdict, asked = judged(found(*LEVEL, stopped="given up", ran_away=ran_away), growth=growth)
    assert (verdict.ending, verdict.polished, len(verdict.reasons)) == (kind, None, reasons)
    assert verdict.reasons[0] == "followed down to distance 1, 0.0001 of the first: given up"
    assert math.isnan(verdict.gap)
    assert set(asked) == {"real"}


def test_what_is_decided_on_is_what_was_measured(judged, monkeypatch):
    ends = []
    monkeypatch.setattr(ending, "decide", lambda end: ends.append(end) or Outcome.JUMP)
    judged(found(*LEVEL), loss=2.0)
    judged(found(*LEVEL, stopped="given up", ran_away=True))
    assert ends[0] == End(False, False, True, 1.0, pytest.approx(5e-3 + 1e-8, abs=1e-15), STILL)
    assert ends[1][:3] == (True, True, False)
    assert np.isnan(ends[1][3:5]).all()


# On kinks.


@pytest.mark.parametrize(
    ("distances", "on"),
    [
        ([[0.9e-9, 1.0]], True),
        ([[1.1e-9, 1.0]], False),
        ([[4e-9, 4.0]], True),  # the bound itself
        ([[0.0, 0.0]], True),
        ([[1.0, 1.0], [0.0, 1.0]], True),  # one of the layers
        ([[1.0, 1.0], [1.0, 1.0]], False),
        ([[math.nan, 1.0]], False),
    ],
)
def test_a_preactivation_is_on_a_kink_within_a_billionth_of_the_largest(monkeypatch, distances, on):
    monkeypatch.setattr(ending, "kink_distances", lambda problem, theta: np.array(distances))
    data = found(objective=SimpleNamespace(theta=lambda x: x))
    monkeypatch.setattr(ending, "has_creases", lambda problem: True)
    assert ending._on_kinks(data, jnp.zeros(2)) is on
    monkeypatch.setattr(ending, "has_creases", lambda problem: False)
    assert ending._on_kinks(data, jnp.zeros(2)) is False


def test_of_the_distances_that_were_missed_those_on_kinks_are_counted(monkeypatch):
    relu, smooth = (SimpleNamespace(activation=SimpleNamespace(name=n, kinked=n == "relu")) for n in ("relu", "tanh"))
    network = SimpleNamespace(chain=(relu, smooth, relu))  # the last is the outputs'
    monkeypatch.setattr(ending, "_on_kinks", lambda data, x: float(x[0]) < 0)
    monkeypatch.setattr(ending, "has_creases", lambda problem: True)

    def reason(*nodes: Node) -> tuple[str, ...]:
        return ending.kink_reason(found(*nodes, problem=SimpleNamespace(network=network)))

    on, off = node(1.0, 1.0, (-1.0, 0.0)), node(1.0, 1.0, (1.0, 0.0))
    missed, free = replace(on, status=STAGNATED), replace(off, status=STAGNATED)
    assert reason(on, off, free, replace(missed, kind="bridge")) == ()  # none of the missed ones is on a kink
    (text,) = reason(missed, missed, free, on, replace(missed, kind="between"))
    assert text.startswith("at 2 of the 3 distances missed the best point lies on a kink of relu")
    monkeypatch.setattr(ending, "has_creases", lambda problem: False)
    assert reason(missed) == ()


# What is built from the verdict.


@pytest.mark.parametrize(("solver", "mirror"), [("krylov", "krylov"), ("creased", "creased"), ("dense", "newton")])
def test_the_merged_network_is_settled_by_newton_unless_kinks_or_size_forbid_it(solver, mirror):
    assert ending.mirror_solver(found(solver=solver)) == mirror


@pytest.mark.parametrize(("kind", "kept"), [("incoming", 5.0), ("tied", 0.0), ("joint", 0.0)])
def test_at_distance_zero_the_outgoing_weights_stay_split_only_where_they_are_free(monkeypatch, kind, kept):
    monkeypatch.setattr(ending, "value_and_gradient", lambda objective, x: (x[1] + 2.0, jnp.asarray([3.0, 4.0])))
    surface = SimpleNamespace(coordinates=SimpleNamespace(outgoing_difference=np.array([1])))
    data = found(node(1.0, 1.0, (8.0, 5.0)), surface=surface, settings=SimpleNamespace(distance=kind))
    polished = Polished(iterate(1.0, (0.5, 0.0)), 0.5, 0.25, 1e-9, 1e-3, True)
    (last,) = in_float64(ending._last_node)(data, ending.Verdict(Outcome.PERMUTATION_POINT, (), polished, 0.0, STILL))
    assert last.x.tolist() == [0.5, kept]
    assert (last.distance, last.loss, last.gradient, last.kind) == (0.0, kept + 2.0, 5.0, "merged")
    assert ending._last_node(data, ending.Verdict(Outcome.JUMP, (), None, 0.0, STILL)) == []


@pytest.mark.parametrize(
    ("units", "resizable", "reduced"), [(None, True, True), (None, False, False), (((0,), (1,)), True, False)]
)
def test_only_a_layer_that_can_lose_a_unit_has_a_reduced_network(units, resizable, reduced):
    layer = SimpleNamespace(units=units, facts=SimpleNamespace(resizable=resizable))
    problem = SimpleNamespace(network=SimpleNamespace(layers={1: layer}))
    neurons = Neurons((Slice("a", 0),), (Slice("b", 1),))
    parameters = {"a": np.array([[1.0], [1.0], [3.0]]), "b": np.array([[5.0, 6.0, 7.0]])}
    rows = ending._reduced(found(problem=problem, layer=1, neurons=neurons, pair=(0, 1)), parameters)
    assert (rows is not None) is reduced
    if rows is not None:
        assert (rows["a"].tolist(), rows["b"].tolist()) == ([[1.0], [3.0]], [[11.0, 7.0]])


@pytest.mark.parametrize(
    ("kind", "noted"),
    [
        (Outcome.CHANNEL, True),
        (Outcome.RUNAWAY, True),
        (Outcome.JUMP, True),
        (Outcome.NOT_CONVERGED, False),
        (Outcome.PERMUTATION_POINT, False),
    ],
)
def test_events_come_by_distance_and_in_the_caller_s_unit_of_loss(monkeypatch, kind, noted):
    between = Event(Outcome.INTERIOR_MAXIMUM, 1.5, 3.0, 0, "a maximum")
    monkeypatch.setattr(ending, "maximum_events", lambda *_: [between, replace(between, distance=9.0)])
    data = found(node(2.0, 1.0), node(1.0, 0.5))
    events = ending._events(data, ending.Verdict(kind, ("why",), None, 0.0, STILL))
    last = [(kind, 1.0, 2.0, 1, "why")] if noted else []
    assert [(one.kind, one.distance, one.loss, one.node, one.detail) for one in events] == [
        (Outcome.INTERIOR_MAXIMUM, 9.0, 12.0, 0, "a maximum"),
        (Outcome.INTERIOR_MAXIMUM, 1.5, 12.0, 0, "a maximum"),
        *last,
    ]


@pytest.mark.parametrize(("rows", "columns", "padded"), [(1, 2, 256), (256, 2, 256), (257, 2, 512), (3, 2**21, 4)])
def test_rows_are_padded_by_copies_that_no_result_holds(rows, columns, padded):
    given = np.arange(rows)[:, None] * np.ones((1, columns))
    found_ = np.asarray(in_float64(ending._padded)(given))
    assert len(found_) == padded
    assert found_[:rows, 0].tolist() == list(range(rows))


NETWORK = MLP((2, 4, 1), "tanh")


@pytest.fixture(scope="module")
def followed():
    """A path in units of its own, and what `finish` was given."""
    teacher = NETWORK.initial(0)
    rows = teacher_data(NETWORK, teacher, normal_inputs(60, 2, 0))
    start = {
        **teacher,
        "0.weight": teacher["0.weight"] / 1e3,
        "2.weight": teacher["2.weight"] * 1e-2,
        "2.bias": teacher["2.bias"] * 1e-2,
    }
    problem = Problem(NETWORK, Data(rows.inputs * 1e3, rows.targets * 1e-2))
    given: list[ending.PathData] = []
    real = ending.finish
    find.finish = lambda data: given.append(data) or real(data)
    try:
        path = find.find_path(problem, start, layer=1, pair=(0, 1), settings=PathSettings(steps=8, reach=1e-2))
    finally:
        find.finish = real
    return problem, path, given[0]


def row_of(path, k):
    return {name: rows[k] for name, rows in path.parameters.items()}


def test_what_a_path_says_of_itself_is_what_its_parameters_say(followed):
    problem, path, data = followed
    count = len(path.losses)
    assert path.ending is Outcome.PERMUTATION_POINT
    middles = [
        problem.loss_of({name: 0.5 * (rows[k] + rows[k + 1]) for name, rows in path.parameters.items()})
        for k in range(count - 1)
    ]
    losses = [problem.loss_of(row_of(path, k)) for k in range(count)]
    np.testing.assert_allclose(path.losses, losses, rtol=1e-9, atol=1e-20)
    assert path.barrier == pytest.approx(max(*losses, *middles), rel=1e-9, abs=0.0)
    excess = max(middle - max(losses[k], losses[k + 1]) for k, middle in enumerate(middles))
    assert path.largest_deviation == pytest.approx(max(0.0, excess) / path.barrier, abs=1e-12)
    assert not path.continuous  # so few distances: between two of them lies more than a hundredth of the barrier
    assert path.largest_deviation > 0.01
    norms = [np.sqrt(sum(np.sum(part**2) for part in problem.gradient_of(row_of(path, k)).values())) for k in (0, -1)]
    assert path.full_gradient_norms[[0, -1]] == pytest.approx(norms, rel=1e-6, abs=1e-16)
    first, second = path.parameters["2.weight"][:, 0, 0], path.parameters["2.weight"][:, 0, 1]
    assert path.outgoing_norms == pytest.approx(np.abs(np.stack([first, second], axis=1)), rel=1e-12, abs=0.0)
    assert (path.times[0], path.times[-1]) == (0.0, 0.25)
    assert path.converged.tolist() == [*(one.status == CONVERGED for one in data.trail.nodes), True]
    assert path.kinds[-1] == "merged"
    assert path.accuracies is None
    point = path.permutation_point
    assert point.shares == (0.5, 0.5)
    assert point.loss == pytest.approx(problem.loss_of(point.parameters), rel=1e-12, abs=0.0)
    assert point.loss_gap == pytest.approx(point.loss - path.losses[-2], rel=1e-6, abs=1e-18)


@pytest.mark.parametrize("share", [0.5, 2.0])
def test_between_nodes_the_loss_may_exceed_them_by_what_the_residuals_leave_open(followed, monkeypatch, share):
    """In the path's own units: the tolerance times the longest chord."""
    _, path, data = followed
    layout = Layout(data.layout.names, data.layout.shapes)
    flat = np.concatenate([path.parameters[name].reshape(len(path.losses), -1) for name in layout.names], axis=1)
    own = flat / data.units.vector(dict(zip(layout.names, layout.shapes, strict=True)))
    chord = max(np.linalg.norm(own[k + 1] - own[k]) for k in range(len(own) - 1))
    unresolved = data.units.loss * data.tolerance * chord
    seen = []
    monkeypatch.setattr(ending, "is_continuous", lambda *given: seen.append(given) or share < 1.0)
    again = in_float64(ending.finish)(data)
    ((excess, barrier, open_),) = seen
    assert again.continuous is (share < 1.0)
    assert barrier == pytest.approx(path.barrier, rel=1e-12, abs=0.0)
    assert open_ == pytest.approx(unresolved, rel=1e-9, abs=0.0)
    assert max(0.0, excess) / barrier == pytest.approx(path.largest_deviation, abs=1e-15)


def test_a_path_without_a_point_is_not_continuous_and_slopes_are_in_the_caller_s_unit(followed, monkeypatch):
    _, path, data = followed
    verdict = ending.Verdict(Outcome.JUMP, ("why",), None, 0.0, STILL)
    monkeypatch.setattr(ending, "judge", lambda _: verdict)
    monkeypatch.setattr(ending, "is_continuous", lambda *_: True)
    cut = in_float64(ending.finish)(data)
    assert (cut.continuous, cut.permutation_point, cut.kinds[-1]) == (False, None, "asked")
    assert cut.barrier == pytest.approx(max(path.losses[:-1]), rel=0.05)
    nodes = data.trail.nodes
    assert cut.slopes.tolist() == pytest.approx(
        [data.units.loss * one.slope for one in nodes], rel=1e-14, abs=0.0, nan_ok=True
    )
    missed = [*nodes[:-1], replace(nodes[-1], status=STAGNATED)]
    monkeypatch.setattr(ending, "_events", lambda *_: ())
    again = in_float64(ending.finish)(replace(data, trail=replace(data.trail, nodes=tuple(missed))))
    assert again.converged.tolist() == [*(one.status == CONVERGED for one in nodes[:-1]), False]


def test_with_labels_a_path_has_an_accuracy_at_every_node():
    problem = Problem(MLP((2, 4, 2), "tanh"), Data(normal_inputs(20, 2, 0), np.zeros((20, 2)), np.arange(20) % 2))
    path = find.find_path(
        problem,
        problem.network.initial(0),
        layer=1,
        pair=(0, 1),
        settings=PathSettings(steps=3, reach=0.5, polish=False),
    )
    assert path.accuracies.tolist() == [problem.accuracy(row_of(path, k)) for k in range(len(path.losses))]


def test_full_norms_are_those_that_were_measured_unless_the_units_are_others(monkeypatch):
    known, thetas = np.array([1.0, 2.0]), np.array([[3.0, 4.0], [6.0, 8.0]])
    monkeypatch.setattr(ending, "_gradient_norm", lambda problem, theta: jnp.linalg.norm(theta))
    assert ending._full_norms(found(loss=1.0), thetas, known) is known
    assert ending._full_norms(found(), thetas, known).tolist() == [5.0, 10.0]
