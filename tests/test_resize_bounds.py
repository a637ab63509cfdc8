"""The constants that decide in resizing and claims, each with a case on either side of it."""

import numpy as np
import pytest

import saddlescope as ss
from saddlescope.errors import SettingsError
from saddlescope.papers.claims_points import signs, vanishes
from saddlescope.papers.samples import lifted_case
from saddlescope.resize.expand import expand
from saddlescope.resize.keep import Yardstick, kept
from saddlescope.resize.manifold import SEARCH_LIMIT, SEARCHED, manifold_graph, subspaces
from saddlescope.resize.reduction_rules import LayerFacts, Units, cancels, drop_silent, merge_copies
from saddlescope.resize.twins import FLIPPED

NETWORK = ss.MLP((2, 3, 1), "tanh")
SMALL = NETWORK.initial(0)
TINY = 2.0**-52


@pytest.mark.parametrize(("share", "answer"), [(0.5, "yes"), (2.0, "undecided"), (9.0, "undecided"), (20.0, "no")])
def test_locate_says_yes_to_the_tolerance_and_undecided_to_ten_times_it(share, answer):
    wide = dict(expand(NETWORK, SMALL, widths={1: 4}).parameters)
    norm = np.sqrt(sum(np.sum(np.square(value)) for value in wide.values()))
    wide["2.bias"] = wide["2.bias"] + share * 1e-9 * norm
    found = ss.locate(SMALL, wide, NETWORK.neurons(1), tolerance=1e-9)
    assert found.answer == answer
    assert found.residual == pytest.approx(share * 1e-9, rel=1e-3, abs=0.0)


@pytest.mark.parametrize(("miss", "fine"), [(4e-13, True), (4e-12, False)])
def test_shares_must_sum_to_one_to_rounding(miss, fine):
    if fine:
        assert expand(NETWORK, SMALL, shares={(1, 0): (0.5, 0.5 + miss)}).widths == (2, 4, 1)
    else:
        with pytest.raises(SettingsError, match="must sum to 1"):
            expand(NETWORK, SMALL, shares={(1, 0): (0.5, 0.5 + miss)})


@pytest.mark.parametrize(("rest", "zero"), [(1e-17, True), (1e-13, False)])
def test_outgoing_vectors_cancel_only_to_their_own_rounding(rest, zero):
    parts = np.array([[0.3, -0.2], [-0.3 + rest, 0.2]])
    assert cancels(parts.sum(axis=0), parts) == zero


@pytest.mark.parametrize(("pairs", "goes"), [(FLIPPED, True), (FLIPPED + 1, False)])
def test_signs_are_turned_round_among_so_many_classes_only(pairs, goes):
    """b g(z') with z' turned round takes the linear part of one pair; beyond FLIPPED classes it is not looked for."""
    generator = np.random.default_rng(0)
    others = generator.normal(size=(pairs - 2, 3))
    incoming = np.vstack([[[1.0, 2.0, 0.3], [-1.0, -2.0, -0.3], [1.0, 2.0, 1.0]], others])
    outgoing = np.concatenate([[0.7, 0.6, -0.7], generator.normal(size=pairs - 2)])
    network = ss.MLP((2, len(incoming), 1), "softplus")
    parameters = {
        "0.weight": incoming[:, :2].copy(),
        "0.bias": incoming[:, 2].copy(),
        "2.weight": outgoing[None],
        "2.bias": np.zeros(1),
    }
    assert bool(ss.reduce(network, parameters).removed) == goes


def test_outputs_below_their_rounding_are_zero_and_nothing_near_can_be_measured_then():
    wanted = np.array([[1e-16, 1.0], [-1e-16, 0.5]])
    lost = Yardstick.of(wanted, np.array([2e-16, 1e-15]))
    assert lost.zero.tolist() == [True, False]
    assert lost.rounding == np.inf
    assert lost.loss(wanted + np.array([[3e-16, 0.0]])) == 0.0
    assert lost.loss(wanted + np.array([[5e-16, 0.0]])) == np.inf
    seen = Yardstick.of(wanted, np.array([5e-17, 1e-15]))
    assert seen.rounding == pytest.approx(0.5)
    assert seen.loss(wanted + np.array([[1e-16, 1e-3]])) == pytest.approx(1.0)
    assert seen.loss(np.full((2, 2), np.nan)) == np.inf


def test_an_output_is_as_large_as_its_largest_value_and_zero_at_its_error():
    yardstick = Yardstick.of(np.array([[1e-20, -4.0], [TINY, 1.0]]), np.array([TINY, 1e-15]))
    assert yardstick.zero.tolist() == [True, False]  # at the very error
    assert yardstick.sizes.tolist() == [TINY, 4.0]
    assert yardstick.loss(np.array([[1e-20, -4.0], [TINY, 1.5]])) == pytest.approx(0.125)
    assert yardstick.loss(np.array([[1e-20, -4.0], [3 * TINY, 1.0]])) == 0.0  # twice the error, no more
    assert yardstick.loss(np.array([[1e-20, -4.0], [np.nan, 1.0]])) == np.inf
    assert yardstick.loss(np.array([[1e-20, np.nan], [TINY, 1.0]])) == np.inf
    nothing = Yardstick.of(np.zeros((2, 1)), np.zeros(1))
    assert (nothing.loss(np.zeros((2, 1))), nothing.loss(np.full((2, 1), 1e-300)), nothing.rounding) == (
        0.0,
        np.inf,
        0.0,
    )


def test_what_is_lost_may_be_all_that_is_allowed():
    units = Units(1, np.eye(2), np.array([[0.0], [1.0]]), (0, 1), np.zeros(1))
    assert kept(drop_silent, units, LayerFacts(), 0.0, lambda state: 0.5, 0.5).numbers == (1,)
    refused = kept(drop_silent, units, LayerFacts(), 0.0, lambda state: 0.51, 0.5)
    assert refused.numbers == (0, 1)
    assert [(one.neuron, one.loss) for one in refused.refused] == [(0, 0.51)]


@pytest.mark.parametrize("bad", [(), (3,), (0, 5), (1, 2, 6, 7), tuple(range(8))])
def test_of_a_batch_just_those_go_that_the_outputs_do_not_need(bad):
    """Halving finds any set of needed units, whichever of them a rule would take out."""
    units = Units(1, np.zeros((8, 1)), np.zeros((8, 1)), tuple(range(8)), np.zeros(1))

    def rule(state, facts, tolerance):
        del facts, tolerance
        gone = {k: state.removal(k, "test") for k in np.flatnonzero(state.allowed).tolist()}
        keep = [k for k in range(len(state.numbers)) if k not in gone]
        return Units(
            1,
            state.incoming[keep],
            state.outgoing[keep],
            tuple(state.numbers[k] for k in keep),
            state.constant,
            (*state.removed, *gone.values()),
            barred=state.barred,
            refused=state.refused,
        )

    def loss(state):
        return float(sum(number not in state.numbers for number in bad))

    found = kept(rule, units, LayerFacts(), 0.0, loss, 0.5)
    assert found.numbers == bad
    assert sorted(refusal.neuron for refusal in found.refused) == sorted(bad)
    assert all(refusal.loss >= 1.0 for refusal in found.refused)


def test_searches_stop_before_they_start():
    assert len(manifold_graph(4, 5).subspaces) == 360
    for small, wide in ((5, 7), (1, SEARCHED + 1), (60, 60)):
        with pytest.raises(SettingsError, match=f"at most {SEARCH_LIMIT}"):
            manifold_graph(small, wide)
    assert next(subspaces(30, 31)).small == 30


@pytest.mark.parametrize(
    ("value", "found"),
    [(-2e-8, (1, 0)), (-5e-9, None), (-2e-12, None), (-5e-13, (0, 1)), (2e-8, (0, 0))],
)
def test_an_eigenvalue_counts_only_outside_the_gap(value, found):
    assert signs(np.array([value, 1.0])) == found


def test_a_gradient_vanishes_or_stands_or_neither():
    case = lifted_case(0)
    scale, natural = case.facts["scale"], case.facts["natural"]
    assert scale > 1e-2 * natural
    assert vanishes(0.9e-11 * scale, case) is True
    assert vanishes(1e-9 * scale, case) is None
    assert vanishes(1.1e-6 * scale, case) is False


def test_what_is_lost_below_the_rounding_of_the_outputs_counts_as_lost():
    """3e-9 times a neuron beside 1e12 and -1e12, whose sum rounds by 1e-4: without it f changes, so it stays."""
    network = ss.MLP((1, 4, 1), "tanh", bias=False)
    parameters = {
        "0.weight": np.array([[0.7], [0.7], [1.3], [-0.4]]),
        "2.weight": np.array([[1e12, -1e12, 1.0, 3e-9]]),
    }
    found = ss.reduce(network, parameters, np.linspace(0.5, 2.0, 31)[:, None])
    assert 3 in found.kept[1]
    assert 3 in [refusal.neuron for refusal in found.refused]


@pytest.mark.parametrize(("gap", "stays"), [(5e-15, 1.0), (2e-14, 1.0 + 2e-14)])
def test_copies_to_rounding_stay_as_the_first_is_others_as_the_one_that_sends_out_most(gap, stays):
    units = Units(1, np.array([[1.0], [1.0 + gap]]), np.array([[1.0], [5.0]]), (0, 1), np.zeros(1))
    merged = merge_copies(units, LayerFacts(), 1e-9)
    assert (merged.numbers, merged.outgoing.tolist(), merged.incoming.tolist()) == ((0,), [[6.0]], [[stays]])


def test_what_was_merged_takes_nothing_up_any_more():
    """The second is near both others, which are not near each other: it goes into the first, and the third stays."""
    units = Units(1, np.array([[1.0], [1.0009], [1.0018]]), np.ones((3, 1)), (0, 1, 2), np.zeros(1))
    merged = merge_copies(units, LayerFacts(), 1e-3)
    assert (merged.numbers, merged.outgoing.tolist()) == ((0, 2), [[2.0], [1.0]])
