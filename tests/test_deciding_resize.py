"""What the rules of resizing call zero, equal or spanned, on each side of where it turns (see tests/mutants)."""

from dataclasses import replace

import numpy as np
import pytest

from saddlescope.errors import SettingsError
from saddlescope.models.mlp import MLP
from saddlescope.resize import reduce as reduction
from saddlescope.resize.keep import Yardstick
from saddlescope.resize.one_layer import (
    _drop_never_active,
    apply_rules,
    check_tolerance,
    reduce_layer,
    steps_of,
    units_of,
    written,
)
from saddlescope.resize.reduction_rules import (
    LayerFacts,
    Units,
    cancels,
    canonical,
    drop_constant,
    drop_silent,
    merge_combinations,
    merge_copies,
    relative_gaps,
    relative_lengths,
    spanning,
)
from saddlescope.resize.twins import FLIPPED, _twins, _vanishing, merge_twins
from saddlescope.units.neurons import Neurons, Slice

pytestmark = pytest.mark.usefixtures("stand_ins")

EPS = np.finfo(float).eps
LAYER = Neurons((Slice("0.weight", 0), Slice("0.bias", 0)), (Slice("2.weight", 1),))


def layer(incoming, outgoing, **changes) -> Units:
    incoming, outgoing = np.array(incoming, float), np.array(outgoing, float)
    units = Units(1, incoming, outgoing, tuple(range(len(incoming))), np.zeros(outgoing.shape[1]))
    return replace(units, **changes)


def relu(z: np.ndarray) -> np.ndarray:
    return np.maximum(z, 0.0)


def test_lengths_and_gaps_are_relative_to_the_larger():
    assert relative_lengths(np.array([[3.0, 4.0], [0.0, 1.0], [0.0, 0.0]])).tolist() == [1.0, 0.2, 0.0]
    assert relative_lengths(np.zeros((2, 2))).tolist() == [0.0, 0.0]
    gaps = relative_gaps(np.array([[3.0, 0.0], [0.0, 0.0]]), np.array([[0.0, 4.0], [3.0, 0.0], [0.0, 0.0]]))
    assert gaps.tolist() == [[1.25, 0.0, 1.0], [1.0, 1.0, 0.0]]


def test_the_activation_is_known_by_what_it_does():
    assert LayerFacts(function=relu, homogeneous=True).rectifier
    assert not LayerFacts(function=relu).rectifier
    assert not LayerFacts(homogeneous=True).rectifier
    assert not LayerFacts(function=lambda z: z, homogeneous=True).rectifier
    assert LayerFacts(homogeneous=True, parity="odd").linear
    assert not LayerFacts(homogeneous=True).linear
    assert not LayerFacts(parity="odd").linear
    assert (LayerFacts().at(3.0), LayerFacts(function=relu).at(3.0)) == (0.0, 3.0)


def test_a_unit_is_silent_up_to_the_tolerance_and_if_it_is_allowed():
    units = layer(np.eye(3), [[4.0], [1.0], [1.1]])
    assert drop_silent(units, LayerFacts(), 0.25).numbers == (0, 2)
    assert drop_silent(replace(units, barred=frozenset({1})), LayerFacts(), 0.25).numbers == (0, 1, 2)
    nothing = drop_silent(layer(np.eye(2), [[0.0], [0.0]]), LayerFacts(), 0.25)
    assert (nothing.numbers, nothing.outgoing.tolist()) == ((0,), [[0.0]])  # a layer needs one unit


def test_a_unit_without_weights_is_a_constant_in_the_next_bias():
    units = layer([[4.0, 0.0, 7.0], [0.6, 0.8, 2.0], [0.7, 0.8, 2.0]], [[1.0, 0.0], [3.0, 5.0], [1.0, 1.0]])
    facts = LayerFacts(function=lambda z: z**2, weights=2, next_bias=True)
    found = drop_constant(units, facts, 0.25)
    assert (found.numbers, found.constant.tolist()) == ((0, 2), [12.0, 20.0])
    assert drop_constant(units, replace(facts, weights=None), 0.25) is units
    assert drop_constant(units, replace(facts, function=None), 0.25) is units
    held = drop_constant(units, replace(facts, next_bias=False), 0.25)
    assert (held.numbers, held.left) == (
        (0, 1, 2),
        ("layer 1: neuron 1 is a constant, and there is no bias to take it",),
    )
    zero = drop_constant(units, replace(facts, next_bias=False, function=lambda z: 0.0 * z), 0.25)
    assert (zero.numbers, zero.removed[0].into_bias) == ((0, 2), False)
    assert drop_constant(replace(units, barred=frozenset({1})), facts, 0.25).numbers == (0, 1, 2)


def test_vectors_are_compared_up_to_what_the_activation_leaves_open():
    units = layer([[3.0, 4.0], [0.0, 0.0]], [[1.0], [1.0]])
    vectors, logs = canonical(units, LayerFacts(homogeneous=True))
    assert (vectors.tolist(), logs.tolist()) == ([[0.6, 0.8], [0.0, 0.0]], [np.log(5.0), 0.0])
    vectors, logs = canonical(units, LayerFacts(exponential=True, weights=1))
    assert (vectors.tolist(), logs.tolist()) == ([[3.0, 0.0], [0.0, 0.0]], [4.0, 0.0])
    for facts in (LayerFacts(), LayerFacts(exponential=True)):
        vectors, logs = canonical(units, facts)
        assert (vectors.tolist(), logs.tolist()) == ([[3.0, 4.0], [0.0, 0.0]], [0.0, 0.0])


def test_multiples_merge_with_their_factor_and_cancel_together():
    facts = LayerFacts(homogeneous=True)
    merged = merge_copies(layer([[3.0, 4.0], [6.0, 8.0]], [[1.0], [5.0]]), facts, 1e-9)
    assert merged.numbers == (0,)
    assert merged.outgoing == pytest.approx(np.array([[11.0]]))
    assert merged.removed[0].why == "positive multiple"
    gone = merge_copies(layer([[3.0, 4.0], [6.0, 8.0], [1.0, 0.0]], [[2.0], [-1.0], [1.0]]), facts, 1e-9)
    assert gone.numbers == (2,)
    kept = merge_copies(
        layer([[3.0, 4.0], [6.0, 8.0], [1.0, 0.0]], [[2.0], [-1.0], [1.0]], barred=frozenset({0})), facts, 1e-9
    )
    assert kept.numbers == (0, 2)  # it may not go: it stays, and sends out nothing
    assert kept.outgoing == pytest.approx(np.array([[0.0], [1.0]]), abs=1e-15)
    near = layer([[1.0], [1.25], [9.0]], [[1.0], [1.0], [1.0]])
    assert merge_copies(near, LayerFacts(), 0.2).numbers == (0, 2)  # the tolerance itself
    assert merge_copies(near, LayerFacts(), 0.19).numbers == (0, 1, 2)
    assert merge_copies(replace(near, barred=frozenset({1})), LayerFacts(), 0.2).numbers == (0, 1, 2)


@pytest.mark.parametrize(("rest", "zero"), [(1.9 * EPS, True), (2.1 * EPS, False)])
def test_a_sum_cancels_to_one_rounding_of_its_terms(rest, zero):
    assert cancels(np.array([rest]), np.array([[1.0], [-1.0]])) is zero


def test_as_few_rows_are_taken_as_span_what_is_wanted():
    rows = np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 1e-3]])
    chosen, parts = spanning(rows, np.array([[3.0, 6.0, 0.0]]), 1e-9)
    assert chosen == (2,)
    assert parts == pytest.approx(np.array([[3.0]]))
    chosen, parts = spanning(rows, np.array([[3.0, 2.0, 0.0]]), 1e-9)
    assert len(chosen) == 2
    assert parts.T @ rows[list(chosen)] == pytest.approx(np.array([[3.0, 2.0, 0.0]]))
    assert spanning(rows, np.array([[1.0, 2.0, 1e-3]]), 1e-9)[0] == (2, 3)
    assert spanning(rows, np.array([[1.0, 2.0, 1e-3]]), 1e-3)[0] == (2,)  # the rest is 4e-4 of it
    assert spanning(rows[:1], np.array([[0.0, 1.0, 0.0]]), 1e-9)[0] == (0,)  # nothing spans it: all stay
    assert spanning(rows, np.zeros((1, 3)), 1e-9)[0] == ()
    twice = np.array([[1.0, 0.0], [1.0, 1e-10], [0.0, 1.0]])
    assert spanning(twice, np.array([[1.0, 1.0], [1.0, -1.0]]), 1e-9)[0] in ((0, 2), (1, 2))


def test_linear_units_are_as_many_as_their_map_needs():
    facts = LayerFacts(function=lambda z: 2.0 * z, homogeneous=True, parity="odd", weights=2, next_bias=True)
    units = layer([[1.0, 0.0, 3.0], [0.0, 1.0, 4.0], [1.0, 1.0, 9.0]], [[1.0], [1.0], [2.0]])
    found = merge_combinations(units, facts, 1e-9)
    assert found.numbers == (2,)
    assert found.outgoing == pytest.approx(np.array([[3.0]]))
    assert found.constant == pytest.approx([2.0 * (3.0 + 4.0 + 18.0 - 27.0)])
    assert all(removal.into_bias for removal in found.removed)
    assert merge_combinations(units, replace(facts, weights=None), 1e-9) is units
    assert merge_combinations(units, replace(facts, parity="none"), 1e-9) is units
    assert merge_combinations(replace(units, barred=frozenset({0})), facts, 1e-9).numbers == (0, 1, 2)
    assert merge_combinations(units, replace(facts, next_bias=False), 1e-9).numbers == (0, 1, 2)  # biases count too


def test_twins_are_within_the_tolerance_and_each_in_one_pair():
    units = layer([[4.0, 0.0], [-4.0, 1.0], [-4.0, 0.0], [5.0, 5.0]], np.ones((4, 1)))
    gap = 1.0 / np.sqrt(17.0)
    pairs = _twins(units, LayerFacts(), gap * 1.0001)
    assert [(pair.first, pair.second, pair.ratio) for pair in pairs] == [(0, 1, 1.0)]
    assert pairs[0].gap == pytest.approx(gap)
    assert [(pair.first, pair.second) for pair in _twins(units, LayerFacts(), gap * 0.999)] == [(0, 2)]
    assert _twins(replace(units, barred=frozenset({0})), LayerFacts(), 1e-9) == []
    scaled = _twins(layer([[3.0, 4.0], [-6.0, -8.0]], np.ones((2, 1))), LayerFacts(homogeneous=True), 1e-9)
    assert scaled[0].ratio == pytest.approx(2.0)


def test_twins_merge_only_where_the_parity_is_known():
    units = layer([[4.0, 0.0], [-4.0, 0.0]], [[3.0], [1.0]])
    assert merge_twins(units, LayerFacts(), 1e-9) is units
    odd = merge_twins(units, LayerFacts(parity="odd"), 1e-9)
    assert (odd.numbers, odd.outgoing.tolist()) == ((0,), [[2.0]])
    assert merge_twins(units, LayerFacts(parity="odd"), 0.0).numbers == (0,)  # exact twins are exact
    assert merge_twins(units, LayerFacts(parity="odd+constant"), 1e-9) is units
    constant = LayerFacts(parity="odd+constant", weights=2, next_bias=True, function=lambda z: 0.5 + z)
    found = merge_twins(units, constant, 1e-9)
    assert (found.numbers, found.outgoing.tolist(), found.constant.tolist()) == ((0,), [[2.0]], [1.0])
    assert merge_twins(units, constant, 0.0) is units  # constants cancel to rounding only


def test_as_few_classes_are_turned_as_make_what_they_leave_vanish():
    stay = np.array([[4.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    flip = np.array([[-2.0, 0.0], [-2.0, 0.0], [-2.0, 0.0]])  # the first, or the other two
    assert _vanishing(stay, flip, 1e-9) == (True, False, False)
    assert _vanishing(np.array([[4.0], [-3.0]]), np.array([[9.0], [9.0]]), 0.2) is not None
    assert _vanishing(np.array([[4.0], [-3.0]]), np.array([[4.0], [9.0]]), 1.01 / 9) == (False, False)
    assert _vanishing(np.array([[4.0], [-3.0]]), np.array([[4.0], [9.0]]), 0.99 / 9) is None
    assert _vanishing(np.zeros((0, 1)), np.zeros((0, 1)), 1e-9) == ()


@pytest.mark.parametrize(("classes", "found"), [(12, True), (13, False)])
def test_choices_of_signs_are_tried_among_twelve_classes(classes, found):
    stay, flip = np.ones((classes, 1)), np.full((classes, 1), 5.0)
    flip[0] = 1.0 - classes
    assert (_vanishing(stay, flip, 1e-9) == (True,) + (False,) * (classes - 1)) is found


@pytest.mark.parametrize(("classes", "goes"), [(FLIPPED, True), (FLIPPED + 1, False)])
def test_single_units_are_turned_too_among_twelve_classes(classes, goes):
    """Where softplus(-z) = softplus(z) - z, a single unit that is turned round takes the linear part of the twins."""
    others = np.random.default_rng(0).normal(size=(classes - 2, 3))
    incoming = [[1.0, 2.0, 0.3], [-1.0, -2.0, -0.3], [1.0, 2.0, 1.0], *others]
    units = layer(incoming, [[0.7], [0.6], [-0.7], *np.ones((classes - 2, 1))])
    facts = LayerFacts(function=lambda z: np.logaddexp(0.0, z), parity="even+linear", weights=2, next_bias=True)
    found = merge_twins(units, facts, 1e-9)
    assert (len(found.numbers) == classes) is goes
    rows = np.random.default_rng(1).normal(size=(5, 2))

    def outputs(state):
        return (
            np.logaddexp(0.0, rows @ state.incoming[:, :2].T + state.incoming[:, 2]) @ state.outgoing + state.constant
        )

    np.testing.assert_allclose(outputs(found), outputs(units), rtol=1e-12)


def test_the_last_unit_of_a_layer_stays_as_it_is():
    """A layer needs one: were its constant put into the next bias, no unit would go, and nothing be measured."""
    units = layer([[0.0, 2.0]], [[3.0]])
    facts = LayerFacts(function=lambda z: z**2, weights=1, next_bias=True)
    found = apply_rules(units, facts, ((0.0, lambda _: 0.0),), 0.0)
    assert (found.outgoing.tolist(), found.constant.tolist(), found.removed) == ([[3.0]], [0.0], ())
    two = apply_rules(layer([[0.0, 2.0], [1.0, 0.0]], [[3.0], [1.0]]), facts, ((0.0, lambda _: 0.0),), 0.0)
    assert (two.numbers, two.constant.tolist()) == ((1,), [12.0])


@pytest.mark.parametrize(
    ("tolerance", "fine"), [(0.0, False), (1e-300, True), (0.999, True), (1.0, False), (-1.0, False), (np.nan, False)]
)
def test_a_tolerance_lies_between_0_and_1(tolerance, fine):
    if fine:
        check_tolerance(tolerance)
    else:
        with pytest.raises(SettingsError, match="not a tolerance"):
            check_tolerance(tolerance)


def test_a_rectified_unit_is_dead_without_any_positive_weight():
    facts = LayerFacts(function=relu, homogeneous=True, nonnegative=True, weights=2)
    units = layer([[-1.0, 0.0], [-1.0, 1e-9], [1.0, 1.0]], np.ones((3, 1)))
    assert _drop_never_active(units, facts, 0.5).numbers == (1, 2)
    for change in ({"nonnegative": False}, {"weights": None}, {"homogeneous": False}):
        assert _drop_never_active(units, replace(facts, **change), 0.5) is units
    assert _drop_never_active(replace(units, barred=frozenset({0})), facts, 0.5).numbers == (0, 1, 2)


@pytest.mark.parametrize("erase", [True, False])
def test_a_state_is_written_into_parameters_of_the_same_shapes(erase):
    own = {
        "0.weight": np.arange(6.0).reshape(3, 2),
        "0.bias": np.arange(3.0) + 10,
        "2.weight": np.arange(3.0)[None] + 5,
        "2.bias": np.ones(1),
    }
    units = units_of(own, LAYER, 1, (0, 2))
    assert units.incoming.tolist() == [[0.0, 1.0, 10.0], [4.0, 5.0, 12.0]]
    state = replace(units, incoming=10 * units.incoming, outgoing=np.array([[7.0], [8.0]]), constant=np.array([3.0]))
    found = written(own, LAYER, state, next_bias="2.bias", erase=erase)
    assert found["2.weight"].tolist() == [[7.0, 0.0, 8.0]]
    assert found["0.weight"].tolist() == [[0.0, 10.0], [0.0, 0.0] if erase else [2.0, 3.0], [40.0, 50.0]]
    assert found["0.bias"].tolist() == [100.0, 0.0 if erase else 11.0, 120.0]
    assert found["2.bias"].tolist() == [4.0]
    assert written(own, LAYER, state, erase=erase)["2.bias"].tolist() == [1.0]
    assert written(own, LAYER, replace(state, constant=np.zeros(1)), next_bias="none")["2.bias"].tolist() == [1.0]


def test_rounding_is_carried_from_layer_to_layer():
    """By hand: (columns + 1) half units of |W| |x| + |b|, through |W|, and 8 half units of every activation."""
    network = MLP((2, 1, 1), "identity")
    parameters = {"0.weight": np.array([[3.0, -4.0]]), "0.bias": np.array([2.0]), "2.weight": np.array([[-5.0]]),
                  "2.bias": np.array([1.0])}  # fmt: skip
    found = reduction._rounding(network, parameters, np.array([[1.0, 2.0], [0.0, 0.0]]))
    unit = 0.5 * EPS
    first = 3 * unit * (3 + 8 + 2)
    hidden = first + 8 * unit * 3  # value 3 - 8 + 2
    assert found == pytest.approx([hidden * 5 + 2 * unit * (5 * 3 + 1)], rel=0.1, abs=0.0)
    straight = {"0.weight": np.array([[3.0, -4.0]]), "0.bias": np.array([2.0])}
    found = reduction._rounding(MLP((2, 1), "tanh"), straight, np.array([[1.0, 2.0], [0.0, 0.0]]))
    assert found == pytest.approx([first], rel=1e-12, abs=0.0)
    found = reduction._rounding(MLP((2, 1), "tanh"), straight, np.array([[1e308, 1e308]]))
    assert found.tolist() == [np.inf]


def test_the_nearest_reduction_is_the_smallest_distance_beyond_the_tolerance():
    units = layer([[4.0, 0.0], [4.0, 1.0], [-4.0, 0.5]], [[1.0], [0.2], [1.0]])
    copies, twins = 1 / np.sqrt(17.0), 0.5 / np.hypot(4.0, 0.5)
    assert reduction._nearest_reduction(units, LayerFacts(), 1e-9) == pytest.approx(0.2)
    assert reduction._nearest_reduction(units, LayerFacts(), 0.21) == pytest.approx(copies)
    assert reduction._nearest_reduction(units, LayerFacts(parity="odd"), 1e-9) == pytest.approx(twins)
    flat = layer([[0.1, 4.0], [4.0, 1.0]], [[1.0], [1.0]])
    assert reduction._nearest_reduction(flat, LayerFacts(weights=1), 1e-9) == pytest.approx(0.1 / 4.0)
    whole = np.hypot(4.0, 1.0)  # the weights alone, both of them
    assert reduction._nearest_reduction(flat, LayerFacts(weights=2), 0.95) == pytest.approx(np.hypot(0.1, 4.0) / whole)
    assert reduction._nearest_reduction(layer([[1.0]], [[1.0]]), LayerFacts(), 1e-9) == np.inf


@pytest.mark.parametrize(("share", "undecided"), [(0.9e-8, True), (1.1e-8, False)])
def test_what_is_within_ten_tolerances_is_undecided(share, undecided):
    network = MLP((2, 2, 1), "tanh", bias=False)
    parameters = {"0.weight": np.array([[1.0, 2.0], [2.0, -1.0]]), "2.weight": np.array([[1.0, share]])}
    found = reduction.reduce(network, parameters, np.array([[1.0, 0.5], [-0.3, 2.0]]), tolerance=1e-9)
    assert found.widths == (2, 2, 1)
    assert found.nearest == pytest.approx({1: share}, abs=0.0)
    assert found.undecided is undecided


def test_what_is_exact_is_tried_first_and_rounding_counts_as_lost_in_all_else():
    yardstick = Yardstick(np.ones((1, 1)), np.ones(1), np.zeros(1, bool), 0.25)
    units = layer([[1.0]], [[1.0]])
    steps = steps_of(1e-9, yardstick, lambda state: 0.5)
    assert [(step, loss(units)) for step, loss in steps] == [(0.0, 0.5), (1e-12, 0.75), (1e-9, 0.75)]
    assert [step for step, _ in steps_of(1e-13, yardstick, lambda state: 0.5)] == [0.0, 1e-13]


def test_a_layer_of_a_model_keeps_just_the_units_that_stay():
    own = {"0.weight": np.array([[1.0], [2.0], [1.0]]), "0.bias": np.zeros(3), "2.weight": np.array([[3.0, 5.0, 7.0]])}
    found, removed = reduce_layer(own, LAYER)
    assert [removal.neuron for removal in removed] == [2]
    assert (found["0.weight"].tolist(), found["2.weight"].tolist()) == ([[1.0], [2.0]], [[10.0, 5.0]])
