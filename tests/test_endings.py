"""How a path ends is decided by pure functions: each constant that decides has a case on each side; units do not."""

import math
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from references.synthetic_paths import synthetic_path
from saddlescope.arrays import Layout
from saddlescope.cli.study import _is_done
from saddlescope.cli.summary import path_json, path_told
from saddlescope.critical.certify import certify
from saddlescope.data.data import Data, teacher_data
from saddlescope.data.sources import normal_inputs, toy, toy_teacher
from saddlescope.models.mlp import MLP
from saddlescope.numerics.newton import Iterate, begin, takes
from saddlescope.numerics.piecewise_smooth import takes_on_creases
from saddlescope.numerics.tangent import Unconstrained
from saddlescope.outcomes import Outcome
from saddlescope.paths import polish
from saddlescope.paths.advice import advice
from saddlescope.paths.constraint import PairObjective
from saddlescope.paths.decide import End, allowed_gap, decide, goes_on, is_continuous
from saddlescope.paths.find import find_path
from saddlescope.paths.growth import growth_exponent, is_channel, measure_growth
from saddlescope.paths.result import Growth, PathSettings, Start
from saddlescope.paths.start import is_another_network, start_warning
from saddlescope.paths.units import Units, decimal_unit, units_of
from saddlescope.precision import float64, in_float64
from saddlescope.problem.problem import Problem
from saddlescope.records.schema import arrays, document, rebuild
from saddlescope.units.coordinates import PairCoordinates
from saddlescope.units.neurons import Neurons, Slice

SILENT = Growth(
    array="0.weight",
    role="incoming",
    layer=1,
    unit=0,
    first=1.0,
    last=1.0,
    exponent=0.0,
    difference_exponent=0.0,
    sum_exponent=0.0,
    share=1e-4,
    of_pair=True,
)


def growing(difference: float, total: float = 0.0) -> Growth:
    return replace(SILENT, difference_exponent=difference, sum_exponent=total)


def end(**changes) -> End:
    """An end that is a permutation point, but for the changes."""
    return End(False, False, True, 0.0, 1e-9, SILENT)._replace(**changes)


@pytest.mark.parametrize(
    ("difference", "total", "channel"),
    [
        (-1.0, 0.0, True),
        (-0.51, 0.0, True),
        (-0.49, 0.0, False),
        (-1.49, 0.0, True),
        (-1.51, 0.0, False),
        (-5.0, 0.0, False),
        (1.0, 0.0, False),
        (-1.0, -0.49, True),
        (-1.0, -0.51, False),  # the sum grows like 1/distance too: it is not finite
        (-1.0, math.nan, True),  # a sum that is zero throughout
        (math.nan, 0.0, False),
    ],
)
def test_a_channel_is_what_grows_like_one_over_the_distance_with_a_finite_sum(difference, total, channel):
    assert is_channel(difference, total) is channel


@pytest.mark.parametrize(
    ("changes", "ending"),
    [
        ({}, Outcome.PERMUTATION_POINT),
        ({"gap": 1e-9}, Outcome.PERMUTATION_POINT),
        ({"gap": 1.001e-9}, Outcome.JUMP),
        ({"gap": -1.001e-9}, Outcome.JUMP),
        ({"gap": math.nan}, Outcome.JUMP),
        ({"gap": 1.0, "growth": growing(-1.0)}, Outcome.CHANNEL),
        ({"gap": 1.0, "growth": growing(-0.4)}, Outcome.JUMP),
        ({"gap": 1.0, "growth": growing(-3.0)}, Outcome.JUMP),
        ({"growth": growing(-1.0)}, Outcome.PERMUTATION_POINT),  # the loss goes on: growth alone is no verdict
        ({"critical": False}, Outcome.NOT_CONVERGED),
        ({"critical": False, "gap": 1.0, "growth": growing(-1.0)}, Outcome.NOT_CONVERGED),
        ({"stopped": True, "critical": False}, Outcome.NOT_CONVERGED),
        ({"stopped": True, "growth": growing(-1.0)}, Outcome.NOT_CONVERGED),
        ({"stopped": True, "ran_away": True, "growth": growing(-1.0)}, Outcome.CHANNEL),
        ({"stopped": True, "ran_away": True, "growth": growing(-3.0)}, Outcome.RUNAWAY),
        ({"stopped": True, "ran_away": True, "growth": replace(growing(-1.0), of_pair=False)}, Outcome.RUNAWAY),
        ({"stopped": True, "ran_away": True, "growth": growing(1.0, -2.0)}, Outcome.RUNAWAY),
    ],
)
def test_each_ending_has_its_case(changes, ending):
    assert decide(end(**changes)) is ending


@given(st.floats(0.05, 0.95), st.floats(-5, 5), st.floats(0.1, 3))
def test_the_allowed_gap_is_ten_times_what_a_straight_line_to_distance_zero_leaves(ratio, slope, last):
    distances = (last / ratio, last)
    losses = (2.0 + slope * distances[0], 2.0 + slope * last)
    expected = 10.0 * abs(slope) * last + 1e-8 * abs(losses[1]) + 3e-7
    assert allowed_gap(losses, distances, 3e-7) == pytest.approx(expected, rel=1e-9, abs=1e-13)


def test_a_gap_just_beyond_the_trend_is_refused_and_one_within_is_not():
    """Loss 1 + 1e-3 d, last two distances 2 and 1: the line is 1e-3 from its end, so 1e-2 is the limit."""
    limit = allowed_gap((1.002, 1.001), (2.0, 1.0), 0.0)
    assert goes_on(0.999e-2, limit)
    assert goes_on(-0.999e-2, limit)
    assert not goes_on(1.001e-2, limit)
    assert allowed_gap((1.0, 1.0), (1.0, 1.0), 0.0) == pytest.approx(1e-8)
    assert allowed_gap((2.0, 1.0), (1.0, 1.0), 0.0) == pytest.approx(90.0)  # equal distances: a factor of 0.9


@pytest.mark.parametrize(
    ("excess", "unresolved", "continuous"),
    [(0.0, 0.0, True), (0.0099, 0.0, True), (0.0101, 0.0, False), (0.5, 0.6, True), (math.nan, 1.0, False)],
)
def test_a_path_is_continuous_within_a_hundredth_of_its_barrier(excess, unresolved, continuous):
    assert is_continuous(2.0 * excess, 2.0, 2.0 * unresolved) is continuous


@pytest.mark.parametrize(
    ("value", "residual", "taken"),
    [
        (0.9, 9.0, True),  # the loss falls, whatever the gradient does
        (1.0 + 5e-15, 0.5, True),  # within rounding, and the gradient falls
        (1.0, 1.0, False),  # nothing falls
        (1.0 + 5e-14, 0.5, False),  # the loss rises
        (1.1, 0.1, False),
        (math.nan, 0.1, False),
        (0.5, math.nan, False),
        (-math.inf, 0.1, False),
        (0.5, math.inf, False),
    ],
)
def test_a_step_of_a_correction_is_finite_and_goes_down(value, residual, taken):
    with float64():
        assert bool(takes(*map(jnp.asarray, (value, residual, 1.0, 1.0)))) is taken


@pytest.mark.parametrize(
    ("value", "residual", "lands", "letting", "taken"),
    [
        (0.9, 9.0, False, False, True),
        (1.0 + 5e-4, 0.5, False, False, True),  # within the slack of a landing, and the gradient falls
        (1.0 + 5e-4, 2.0, True, False, True),  # or a crease is met
        (1.0 + 5e-4, 2.0, False, False, False),
        (1.0 + 5e-3, 0.5, True, False, False),
        (2.0, 2.0, False, True, True),  # letting a crease go
        (math.nan, 0.1, True, True, False),
        (0.5, math.inf, True, True, False),
    ],
)
def test_a_step_on_creases_is_finite_and_goes_down_or_meets_one(value, residual, lands, letting, taken):
    with float64():
        one, zero, none = jnp.asarray(1.0), jnp.asarray(0), jnp.zeros(2)
        state = Iterate(none, one, none, one, one, one, zero, zero, zero)
        at = (jnp.asarray(value), jnp.asarray(residual), state, jnp.asarray(1e-3))
        found = takes_on_creases(*at, lands=jnp.asarray(lands), letting=jnp.asarray(letting))
        assert bool(found) is taken


@pytest.mark.parametrize(
    ("norm", "taken"), [(0.49, True), (0.51, False), (1.0, False), (math.nan, False), (math.inf, False)]
)
def test_a_step_that_polishes_is_finite_and_halves_the_gradient(norm, taken):
    assert polish.takes(norm, 1.0) is taken


@pytest.mark.parametrize(
    ("norm", "decrease", "critical"),
    [
        (0.99e-12, 1.0, True),  # a gradient of rounding
        (1.01e-12, 1.0, False),
        (1.0, 1.99e-5, True),  # nothing left to win: 1e-5 of a loss of 2
        (1.0, 2.01e-5, False),
        (math.nan, 0.0, False),
        (math.inf, 0.0, False),
        (1.0, math.nan, False),
    ],
)
def test_critical_is_a_gradient_of_rounding_or_nothing_left_to_win(norm, decrease, critical):
    assert polish.is_critical(norm, 1e-12, decrease, 2.0) is critical


@pytest.mark.parametrize(
    ("loss", "moved", "other"),
    [
        (1.0, 0.0, False),
        (1.0, 0.049, False),
        (1.0, 0.051, True),
        (0.94, 1.1e-3, True),
        (0.96, 1.1e-3, False),
        (0.94, 0.9e-3, False),
        (0.5, math.nan, True),
    ],
)
def test_a_start_far_from_what_was_given_is_another_network(loss, moved, other):
    assert is_another_network(1.0, loss, moved) is other


@pytest.mark.parametrize(
    ("size", "unit"),
    [(1.0, 1.0), (29.0, 1.0), (31.0, 10.0), (1 / 29, 1.0), (1 / 31, 0.1), (2e6, 1e6), (2e-6, 1e-6), (0.0, 1.0)],
)
def test_units_are_powers_of_ten_far_from_one_and_one_elsewhere(size, unit):
    assert decimal_unit(size) == pytest.approx(unit, rel=1e-15, abs=0.0)
    assert decimal_unit(math.inf) == decimal_unit(math.nan) == 1.0


def test_growth_names_the_neuron_whose_weights_grew_and_the_pair_s_exponents():
    """A power law in one neuron's outgoing weights: the exponent is the law's, the sum of the pair stays finite."""
    layout = Layout(("0.weight", "2.weight", "2.bias"), ((3, 2), (1, 3), (1,)))
    neurons = Neurons((Slice("0.weight", 0),), (Slice("2.weight", 1),))
    distances = np.logspace(0, -2, 30)
    rows = np.ones((30, layout.size))
    rows[:, 6] = 2.0 / distances + 0.5
    rows[:, 8] = -2.0 / distances + 1.0
    found = measure_growth(distances, rows, layout, {1: neurons}, 1, (0, 2))
    assert (found.array, found.role, found.layer, found.unit) == ("2.weight", "outgoing", 1, 0)
    assert found.of_pair
    assert not measure_growth(distances, rows, layout, {1: neurons}, 1, (1, 2)).of_pair
    assert found.last == pytest.approx(200.5)
    assert found.difference_exponent == pytest.approx(-1.0, abs=1e-2)
    assert found.sum_exponent == pytest.approx(0.0, abs=1e-9)
    assert found.share == pytest.approx(1e-2)
    assert is_channel(found.difference_exponent, found.sum_exponent)
    rows[:, 9] = 1e6 / distances
    other = measure_growth(distances, rows, layout, {1: neurons}, 1, (0, 2))
    assert (other.array, other.role, other.layer, other.unit) == ("2.bias", "other", None, None)


@given(st.floats(-3, 3), st.floats(0.1, 10))
def test_the_exponent_of_a_power_law_over_the_last_decade_is_its_own(power, size):
    d = np.logspace(0, -4, 50)
    early = np.where(d > 2e-3, 7.0, 1.0)  # what happened before the last decade does not count
    assert growth_exponent(d, size * d**power * early) == pytest.approx(power, abs=1e-8)


def test_advice_knows_what_is_done_already():
    for ending in (Outcome.CHANNEL, Outcome.RUNAWAY):
        plain = {kind: advice(ending, distance=kind, weight_decay=0.0, norm_barrier=0.0) for kind in KINDS}
        assert all("decay" not in text and "norm barrier" in text for text in plain.values())
        assert "tied" not in plain["tied"]
        assert ("tied" in plain["incoming"]) is (ending is Outcome.CHANNEL)
        assert "joint" not in plain["joint"]
        decayed = advice(ending, distance="tied", weight_decay=1e-3, norm_barrier=2.0)
        assert "weight decay above 0.001" in decayed
        assert "norm barrier above 2" in decayed


KINDS = ("incoming", "joint", "tied")


def test_a_channel_is_found_by_its_exponent_where_several_outputs_make_it_unavoidable():
    """Science notes, 2.2: with several outputs G is not 0, and free outgoing weights grow like 1/distance."""
    network = MLP((2, 4, 3), "tanh")
    teacher, chosen = network.initial(0), PathSettings(distance="incoming", steps=30)
    problem = Problem(network, teacher_data(network, teacher, normal_inputs(60, 2, 0)))
    path = find_path(problem, teacher, layer=1, pair=(2, 3), settings=chosen)
    assert path.ending is Outcome.CHANNEL
    grown = path.growth
    assert (grown.role, grown.layer, grown.of_pair) == ("outgoing", 1, True)
    gaps = [np.linalg.norm(rows[:, 3] - rows[:, 2]) for rows in path.parameters["2.weight"]]
    late = np.flatnonzero((path.kinds == "asked") & (path.distances <= 10 * path.distances[-1]))
    slope = np.log(gaps[late[-1]] / gaps[late[0]]) / np.log(path.distances[late[-1]] / path.distances[late[0]])
    assert grown.difference_exponent == pytest.approx(slope, abs=0.1)
    assert slope == pytest.approx(-1.0, abs=0.1)
    assert abs(grown.sum_exponent) < 0.1
    assert "tied" in path.advice
    assert f"distance^{grown.difference_exponent:.2f}" in " ".join(path.reasons)


def test_residuals_are_measured_on_bridges_too_and_the_largest_is_that_of_the_requested_distances():
    network, teacher = toy_teacher("tanh", 0)
    problem = Problem(network, toy("tanh", 0))
    path = find_path(problem, teacher, layer=1, pair=(2, 3), settings=PathSettings(steps=12, reach=1e-2))
    on = path.kinds == "bridge"
    assert on.any()
    assert np.isfinite(path.gradient_norms).all()
    assert np.isfinite(path.full_gradient_norms).all()
    assert path.residual == path.gradient_norms[path.kinds == "asked"].max()
    assert path.residual <= path.tolerance < path.gradient_norms[on].max()
    for k in np.flatnonzero(on)[::20]:
        gradient = problem.gradient_of({name: rows[k] for name, rows in path.parameters.items()})
        norm = math.sqrt(sum(float(np.sum(np.square(part))) for part in gradient.values()))
        assert path.full_gradient_norms[k] == pytest.approx(norm, rel=1e-6, abs=0.0)
        assert path.gradient_norms[k] <= norm * (1 + 1e-9)


@in_float64
def _polished(theta, problem, network):
    """A point of the network's mirror plane, disturbed, polished again."""
    coordinates = PairCoordinates.of(network.neurons(1), network.layout, (2, 3))
    objective = PairObjective(problem, coordinates)
    x = coordinates.rotate(jnp.asarray(theta))
    mask = jnp.ones_like(x).at[coordinates.incoming_difference].set(0.0).at[coordinates.outgoing_difference].set(0.0)
    at = begin(objective, Unconstrained(mask), mask * x, jnp.asarray(0.0), jnp.asarray(1e-30))
    free = np.flatnonzero(np.asarray(mask))
    rounding = polish._rounding(objective, at.x, np.asarray(at.gradient), free)
    return polish._dense(objective, at, free, rounding, 1.0), rounding


def test_a_disturbed_permutation_point_comes_back_to_a_gradient_of_rounding(generator):
    network, teacher = toy_teacher("tanh", 0)
    problem = Problem(network, toy("tanh", 0))
    point = find_path(
        problem, teacher, layer=1, pair=(2, 3), settings=PathSettings(steps=12, reach=1e-2)
    ).permutation_point
    assert point.reduced_gradient_norm <= point.gradient_rounding
    assert point.reduced_gradient_norm <= point.unpolished_gradient_norm
    theta = np.concatenate([part.ravel() for part in point.parameters.values()])
    (found, decrease), rounding = _polished(theta + 1e-4 * generator.normal(size=theta.size), problem, network)
    assert float(found.residual) <= rounding
    assert float(found.value) == pytest.approx(point.loss, rel=1e-9, abs=0.0)
    assert decrease <= 1e-12 * point.loss


def test_the_start_says_how_far_it_was_polished():
    network, teacher = toy_teacher("tanh", 0)
    problem = Problem(network, toy("tanh", 0))
    chosen = PathSettings(steps=4, reach=0.5)
    bent = {**teacher, "0.bias": teacher["0.bias"] + 0.3}
    for parameters, far in ((teacher, False), (bent, True)):
        path = find_path(problem, parameters, layer=1, pair=(2, 3), settings=chosen)
        start = path.start
        assert start.loss_given == pytest.approx(problem.loss_of(parameters), rel=1e-12, abs=1e-30)
        assert start.loss == pytest.approx(path.losses[0], rel=1e-12, abs=1e-30)
        gaps = [path.parameters[name][0] - parameters[name] for name in parameters]
        moved = math.sqrt(sum(float(np.sum(gap**2)) for gap in gaps))
        assert start.distance == pytest.approx(moved, rel=1e-9, abs=1e-14)
        assert start.another_network is far
        assert bool(path.warnings) is far
        assert start_warning(start) == path.warnings
    kept = find_path(problem, bent, layer=1, pair=(2, 3), settings=replace(chosen, polish=False))
    assert not kept.start.polished
    assert kept.start.distance == 0.0
    assert kept.start.loss_given == kept.start.loss


def _scaled(inputs: float, targets: float, kind: str, pair: tuple[int, int]):
    """The path of one small teacher, with its inputs and targets in other units."""
    network, teacher = MLP((2, 4, 1), "tanh"), MLP((2, 4, 1), "tanh").initial(0)
    rows = teacher_data(network, teacher, normal_inputs(60, 2, 0))
    parameters = {
        **teacher,
        "0.weight": teacher["0.weight"] / inputs,
        "2.weight": teacher["2.weight"] * targets,
        "2.bias": teacher["2.bias"] * targets,
    }
    problem = Problem(network, Data(rows.inputs * inputs, rows.targets * targets))
    chosen = PathSettings(steps=15, distance=kind)
    return problem, find_path(problem, parameters, layer=1, pair=pair, settings=chosen)


@pytest.fixture(scope="module")
def unscaled():
    return {(kind, pair): _scaled(1.0, 1.0, kind, pair)[1] for kind, pair in SCALED}


SCALED = (("tied", (0, 1)), ("tied", (2, 3)), ("incoming", (0, 1)))


@settings(max_examples=8)
@given(st.sampled_from(SCALED), st.integers(-8, 8), st.integers(-8, 8))
def test_a_path_ends_the_same_in_other_units_and_its_point_is_never_not_critical(unscaled, which, inputs, targets):
    problem, path = _scaled(10.0**inputs, 10.0**targets, *which)
    same = unscaled[which]
    assert path.ending is same.ending
    point = path.permutation_point
    if point is not None:
        assert point.loss == pytest.approx(same.loss_at_point * 100.0**targets, rel=1e-6, abs=0.0)
        assert certify(problem, point).verdict != "not-critical"


def test_scaled_targets_keep_losses_gradients_and_parameters_in_the_caller_s_units():
    problem, path = _scaled(1e3, 1e-6, "tied", (0, 1))
    assert path.units == pytest.approx(
        {"0.weight": 1e-3, "0.bias": 1.0, "2.weight": 1e-6, "2.bias": 1e-6}, rel=1e-14, abs=0.0
    )
    assert path.loss_unit == pytest.approx(1e-12, rel=1e-14, abs=0.0)
    for k in (0, len(path.losses) // 2, -1):
        row = {name: rows[k] for name, rows in path.parameters.items()}
        norm = math.sqrt(sum(float(np.sum(np.square(part))) for part in problem.gradient_of(row).values()))
        assert problem.loss_of(row) == pytest.approx(path.losses[k], rel=1e-9, abs=1e-40)
        assert path.full_gradient_norms[k] == pytest.approx(norm, rel=1e-6, abs=1e-24)


def test_only_a_perceptron_s_first_and_last_layers_have_units_of_their_own():
    network = MLP((2, 3, 3, 1), "tanh")
    inputs = 1e4 * normal_inputs(30, 2, 0)
    rows = Data(inputs, np.full((30, 1), 1e-5))
    found = units_of(Problem(network, rows), network.layout.names)
    assert found.arrays == {
        "0.weight": 1e-4,
        "0.bias": 1.0,
        "2.weight": 1.0,
        "2.bias": 1.0,
        "4.weight": 1e-5,
        "4.bias": 1e-5,
    }
    assert found.loss == pytest.approx(1e-10, rel=1e-14, abs=0.0)
    assert not found.ordinary
    assert units_of(Problem(network, rows, loss="normalised"), network.layout.names).loss == 1.0
    assert Units({"a": 1.0}, 1.0).ordinary


FAR = Start(
    polished=True,
    loss_given=0.141,
    loss=0.042,
    gradient_norm_given=0.3,
    gradient_norm=1e-12,
    distance=2.23,
    relative_distance=0.4,
    another_network=True,
)


def test_a_start_that_is_another_network_stands_in_the_summary_and_in_the_json():
    path = replace(synthetic_path(), start=FAR, warnings=start_warning(FAR))
    rows = dict(path_told(path).rows)
    assert rows["start"] == "polished: loss 0.141 to 0.042, moved by 2.23e+00, 40% of the parameters' norm"
    assert "0.141 to 0.042" in rows["warning"]
    assert "warning" not in dict(path_told(replace(path, start=replace(FAR, another_network=False), warnings=())).rows)
    told = path_json(path)
    assert told["start"]["distance"] == 2.23
    assert told["warnings"] == list(path.warnings)
    assert told["residual"] == path.residual


def test_a_record_keeps_start_growth_and_units_and_one_without_them_is_read():
    units = {"0.weight": 1e-3, "0.bias": 1.0, "2.weight": 1.0, "2.bias": 1.0}
    nan = replace(SILENT, exponent=math.nan)
    path = replace(synthetic_path(), start=FAR, growth=nan, warnings=start_warning(FAR), units=units, loss_unit=1e-12)
    stored = {name: value for name, (_, value) in arrays(path).items()}
    again = rebuild(document(path), stored)
    assert (again.start, again.warnings, again.units, again.loss_unit) == (FAR, path.warnings, units, 1e-12)
    assert math.isnan(again.growth.exponent)
    assert replace(again.growth, exponent=0.0) == SILENT
    names = ("start", "growth", "warnings", "units", "loss_unit")
    old = rebuild({key: value for key, value in document(path).items() if key not in names}, stored)
    assert (old.start, old.growth, old.warnings, old.units, old.loss_unit) == (None, None, (), {}, 1.0)
    point = {key: value for key, value in document(path)["permutation_point"].items() if "polish" not in key}
    del point["gradient_rounding"]
    assert math.isnan(rebuild({**document(path), "permutation_point": point}, stored).permutation_point.polish_distance)


@pytest.mark.parametrize(
    ("row", "done"),
    [
        ({"ending": "permutation-point"}, True),
        ({"ending": "permutation-point", "verdict": "saddle"}, True),
        ({"ending": "permutation-point", "verdict": "undecided"}, False),
        ({"ending": "permutation-point", "verdict": "not-critical"}, False),
        ({"ending": "runaway"}, False),
    ],
)
def test_a_study_is_done_only_with_critical_points(row, done):
    assert _is_done(row) is done
