"""Which point a certificate is about, which signs count and what is said of them, on each side of where it turns."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from saddlescope.critical import certify, decomposition, inertia, proof, refine, symmetric, twins, verdict
from saddlescope.critical.exchange import Coupling
from saddlescope.critical.flat import NullSpace
from saddlescope.critical.result import Flat, Group, Inertia, Kind
from saddlescope.critical.symmetric import dense_inertia
from saddlescope.errors import NeuronsError, SettingsError
from saddlescope.models.mlp import MLP
from saddlescope.numerics import balls, spectrum
from saddlescope.precision import float64

pytestmark = pytest.mark.usefixtures("stand_ins")

# Counts of signs.


def test_an_eigenvalue_at_its_bound_has_no_sign():
    found = Inertia.of(np.array([-2.0, -1.0, 1.0, 1.5, np.nan]), np.full(5, 1.0), zero=3)
    assert (found.negative, found.zero, found.positive, found.unresolved, found.size) == (1, 3, 1, 3, 8)
    assert (found.index, found.nullity) == ((1, 4), (3, 6))
    more = found.plus(Inertia(1, 2, 3, 4), 2)
    assert (more.negative, more.zero, more.positive, more.unresolved) == (3, 7, 7, 11)
    assert found.plus(more, 0) is found
    assert found.flat(2).zero == 5


def test_the_bounds_of_a_hessian_are_the_norms_of_its_rounding_and_of_its_drift():
    hessian, nothing = np.diag([1.0, 1.0, -1.0]), np.zeros((0, 3))
    drift = np.array([[0.0, 2e-3, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 4e-3]])
    found = dense_inertia(hessian, nothing, np.full((3, 3), 1e-14), drift)
    assert found.drift == pytest.approx(4e-3)
    assert found.rounding == pytest.approx(3e-14, abs=0.0)
    assert found.inertia.bounds == pytest.approx(found.drift, rel=1e-6)
    assert (found.inertia.negative, found.inertia.positive) == (1, 2)
    assert found.residuals.shape == (0,)
    assert dense_inertia(hessian, nothing, np.zeros((3, 3)), np.full((3, 3), np.nan)).inertia.unresolved == 3
    skew = dense_inertia(hessian, nothing, np.zeros((3, 3)), np.array([[0, 2e-3, 0], [-2e-3, 0, 0], [0, 0, 0]]))
    assert skew.drift == 0.0  # of a symmetric matrix only the symmetric part can change


def test_flat_rows_are_taken_out_and_their_images_measured_in_natural_units():
    hessian = np.diag([4.0, 1e-3, 16.0])
    rounding = np.diag([0.0, 2.0**-40, 0.0])  # the second row stays as it is: scale 1
    found = dense_inertia(hessian, np.array([[0.0, 5.0, 0.0]]), rounding, np.zeros((3, 3)))
    assert found.residuals == pytest.approx([1e-3])
    assert (found.inertia.positive, found.inertia.zero) == (2, 1)
    assert found.inertia.values == pytest.approx([1.0, 1.0])


# Flat directions that are not flat.


def test_kinds_that_do_not_vanish_are_left_out_with_a_reason():
    """Bounds of 1e-13 and no gradient: the second kind, with 1e-3, is not flat; the first is."""
    hessian, rounding = np.diag([1.0, 0.0, 1e-3, 0.0]), np.full((4, 4), 1e-14)
    rows = np.eye(4)[[1, 2, 3]]
    null = NullSpace(rows, {"unused": 1, "scaling": 1, "softmax shift": 1}, ("before",))
    zeros = np.zeros((4, 4))
    after, found = inertia._dense(hessian, null, rounding, zeros, np.ones(4), np.zeros(4))
    assert after.counts == {"unused": 1, "softmax shift": 1}
    assert np.array_equal(after.rows, rows[[0, 2]])
    assert after.reasons[0] == "before"
    assert "'scaling': not counted" in after.reasons[1]
    assert (found.inertia.zero, found.inertia.positive) == (2, 2)


def test_the_gradient_bounds_what_a_claimed_direction_may_miss_by():
    """Along the second axis H = 2^-10 stays in natural units, since that row's rounding is 2^-40: scale 1."""
    hessian, rounding = np.diag([1.0, 2.0**-10]), np.diag([0.0, 2.0**-40])
    null, zeros = NullSpace(np.array([[0.0, 1.0]]), {"scaling": 1}, ()), np.zeros((2, 2))
    for size, kept in ((0.126, True), (0.124, False)):
        gradient = size * 2.0**-10 * np.array([0.6, 0.8])
        assert bool(inertia._dense(hessian, null, rounding, zeros, np.ones(2), gradient)[0].counts) is kept
        assert bool(inertia._dense(hessian, null, rounding, zeros, np.full(2, 2.0), gradient / 2)[0].counts) is kept
        drift = size * 2.0**-10 * np.diag([1.0, 0.0])
        assert bool(inertia._dense(hessian, null, rounding, drift, np.ones(2), np.zeros(2))[0].counts) is kept


def test_at_eight_times_the_gradient_itself_a_claimed_direction_is_flat():
    null, zeros = NullSpace(np.array([[0.0, 1.0]]), {"scaling": 1}, ()), np.zeros((2, 2))
    assert inertia._dense(np.eye(2), null, zeros, zeros, np.ones(2), np.array([0.125, 0.0]))[0].counts


def test_ranges_meet_where_all_methods_allow():
    found = inertia.Signs({"a": ((1, 4), (0, 3)), "b": ((2, 5), (1, 2))}, (), (), 0.0, 0.0, None, 0, ())
    assert (found.index, found.nullity) == ((2, 4), (1, 2))


def test_the_largest_residual_of_each_kind_counts():
    null = NullSpace(np.eye(4)[:3], {"unused": 2, "scaling": 1}, ())
    assert inertia._by_count(null, [1.0, 3.0, 2.0]) == {"unused": 3.0, "scaling": 2.0}


# The point, taken apart.


@pytest.mark.parametrize(
    ("shares", "gap", "fine"),
    [
        ((0.5, 0.5), 0.0, True),
        ((1.0, 0.0), 0.0, True),
        ((4.0, 4.1e-12), 0.0, True),
        ((4.0, 3.9e-12), 0.0, False),
        ((-4.0, 4.1e-9), 1e-9, True),
        ((-4.0, 3.9e-9), 1e-9, False),
        ((-4.0, -3.9e-9), 1e-9, False),
    ],
)
def test_a_share_has_a_sign_beyond_1e_12_and_the_misfit_of_the_largest(shares, gap, fine):
    assert decomposition._have_signs(shares, gap) is fine


def test_terms_of_preactivations_are_bounded_layer_by_layer():
    problem = SimpleNamespace(inputs=np.array([[[1.0, -2.0]], [[-3.0, 1.0]]]), network=MLP((2, 2, 1, 1), "relu"))
    parameters = {
        "0.weight": np.array([[1.0, -1.0], [2.0, 0.5]]),
        "0.bias": np.array([-10.0, 1.0]),
        "2.weight": np.array([[1.0, -1.0]]),
        "2.bias": np.zeros(1),
    }
    found = decomposition._largest_terms(problem, parameters)  # type: ignore[arg-type]
    assert found == [3 + 2 + 10, (3 + 2 + 10) + (6 + 1 + 1)]


def test_only_the_last_layer_of_a_softmax_has_a_shift_and_only_the_first_sees_relations():
    coupling = Coupling(np.eye(2), np.eye(2), 0.0, 0.0, np.ones(2), np.ones(2), np.ones(2, bool))
    relations = np.ones((1, 2))
    for loss, layer, shift, first in (
        ("cross_entropy", 2, True, False),
        ("cross_entropy", 1, False, True),
        ("mse", 2, False, False),
    ):
        problem: Any = SimpleNamespace(network=MLP((2, 2, 2, 3), "tanh"), loss=loss)
        found = decomposition.with_null(coupling, problem, np.zeros(21), layer, 0, relations=relations, patterns=())
        assert set(found.outgoing_null) == ({"softmax shift"} if shift else set())
        assert set(found.incoming_null) == ({"collinear inputs"} if first else set())
        if shift:
            assert found.outgoing_null["softmax shift"].tolist() == [[1.0, 1.0, 1.0]]


def test_what_g_and_b_change_on_the_way_is_added_to_their_errors():
    coupling = Coupling(np.eye(2), np.eye(2), 0.5, 0.25, np.ones(2), np.ones(2), np.ones(2, bool))
    point: Any = SimpleNamespace(factor=4.0, x=np.ones(1), way=np.full(1, 0.5))

    def again(x: np.ndarray) -> Coupling:
        return coupling._replace(g=coupling.g - (x[0] - 1.0), b=coupling.b * x[0])

    found = decomposition.drifting(coupling, point, again)
    assert np.array_equal(found.g_error, np.full((2, 2), 0.5 + 4 * 0.5))
    assert np.array_equal(found.b_error, 0.25 + 4 * 0.5 * np.eye(2))
    point.way = np.zeros(1)
    assert decomposition.drifting(coupling, point, again) is coupling
    point.way, point.factor = np.ones(1), 0.0
    assert decomposition.drifting(coupling, point, again) is coupling


@pytest.mark.parametrize(
    ("second", "turned"),
    [((-1.0, -1.0), True), ((-1.0, -1.0 + 0.9e-3), True), ((-1.0, -1.0 + 2e-3), False), ((1.0, 1.0), False)],
)
def test_a_unit_is_turned_if_its_negative_is_near_an_earlier_one(second, turned):
    """Within 1e-3 of the largest incoming vector, of length sqrt 2; and not one that is near its own negative."""
    parameters = {"0.weight": np.array([[1.0, 1.0], second, [0.1, 0.0]]), "2.weight": np.array([[3.0, 5.0, 7.0]])}
    layers = MLP((2, 3, 1), "tanh", bias=False).layers
    with float64():
        after, found = twins.find_twins(parameters, layers, close=0.9e-3 / np.sqrt(2) * 1.001)
    assert found == (((1, 1),) if turned else ())
    assert after["0.weight"][1].tolist() == [(-value if turned else value) for value in second]
    assert after["2.weight"].tolist() == [[3.0, -5.0 if turned else 5.0, 7.0]]
    for activation in ("relu", "sigmoid"):  # no bias behind takes the sigmoid's constant
        layers = MLP((2, 3, 1), activation, bias=False).layers
        assert twins.find_twins(parameters, layers, close=1e-3)[1] == ()


# The refined point.


def test_a_gradient_is_rounding_entry_by_entry_up_to_four_times():
    noise = np.array([1.0, 2.0])
    assert refine._is_rounding(np.array([-4.0, 8.0]), noise)
    assert not refine._is_rounding(np.array([-4.1, 0.0]), noise)
    assert not refine._is_rounding(np.array([0.0, 8.1]), noise)
    assert not refine._is_rounding(np.array([np.nan, 0.0]), noise)
    assert not refine._is_rounding(np.array([1.1, 0.0]), noise, 1.0)


def test_a_newton_step_leaves_out_curvature_within_four_times_its_rounding():
    """Natural units stay: the rows' largest entries are 1. The third direction is known to 1e-4 only."""
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    gradient, noise = np.array([3.0, 4.0, 0.0]), np.array([0.3, 0.0, 0.4])
    hessian = turn @ np.diag([2.0, -1.0, 0.5]) @ turn.T
    step = refine._newton(hessian, np.zeros((3, 3)), gradient, noise)
    assert hessian @ step.move == pytest.approx(-gradient)
    along = turn.T @ gradient
    assert step.decrease == pytest.approx(0.5 * np.sum(along**2 / [2.0, 1.0, 0.5]))
    assert step.norm == pytest.approx(np.linalg.norm(step.scale * gradient))
    assert step.noise == pytest.approx(np.linalg.norm(step.scale * noise))
    flattest = np.linalg.eigh(step.scale[:, None] * hessian * step.scale)
    least = int(np.argmin(np.abs(flattest[0])))
    left = step.noise / (16 * np.sqrt(3)) / abs(flattest[0][least])
    assert np.abs(step.loose) == pytest.approx(np.abs(step.scale * flattest[1][:, least]) * left)
    plain = np.diag([1.0, 2.0**-12])
    for size, moves in ((0.24, True), (0.26, False)):
        rounding = np.diag([0.0, size * 2.0**-12])
        there = refine._newton(plain, rounding, np.array([1.0, 1.0]), np.ones(2))
        assert bool(there.move[1] != 0.0) is moves
        assert there.move[0] == -1.0


def test_the_way_is_probed_along_the_longer_of_two_moves_but_not_too_near():
    x = np.array([3.0, 4.0])
    step = refine._Step(np.array([2e-3, 0.0]), 0.0, np.array([0.0, 1e-3]), 0.0, 0.0, np.ones(2))
    way, factor = refine._way(x, step)
    assert way == pytest.approx([2e-3, 0.0])
    assert factor == pytest.approx(4 * 3e-3 / 2e-3)
    way, factor = refine._way(x, replace(step, move=np.array([1e-9, 0.0]), loose=np.array([0.0, 2e-9])))
    assert way == pytest.approx([0.0, 5e-5])
    assert factor == pytest.approx(4 * 3e-9 / 5e-5)
    way, factor = refine._way(x, replace(step, scale=np.array([1e-6, 1.0])))
    assert way == pytest.approx(np.array([1.0, 0.0]) * max(2e-3, 1e-5 * np.hypot(3e6, 4) * 1e-6))
    assert (refine._way(x, replace(step, move=0 * x, loose=0 * x))[1], 0.0) == (0.0, 0.0)
    assert refine._way(x, replace(step, move=x * np.nan))[1] == np.inf


def refined(**changes) -> refine.RefinedPoint:
    zero = np.zeros(2)
    at = refine.RefinedPoint(
        x=zero, hessian=None, rounding=None, gradient=zero, gradient_rounding=zero, loss=2.0,
        decrease=0.0, converged=True, already=False, scale=np.ones(2), way=zero, factor=0.0, products=0,
    )  # fmt: skip
    return replace(at, **changes)


def test_what_drifts_is_the_change_along_the_way_times_the_factor():
    def quantity(x: np.ndarray) -> np.ndarray:
        return 3.0 * x

    point = refined(way=np.array([0.5, 0.0]), factor=4.0)
    assert point.drift(quantity, np.zeros(2)).tolist() == [6.0, 0.0]
    assert refined(way=np.array([0.5, 0.0])).drift(quantity, np.ones(2)).tolist() == [0.0, 0.0]
    assert refined(factor=4.0).drift(quantity, np.ones(2)).tolist() == [0.0, 0.0]


# What a certificate says.


def reading(first_norm=1.0, first_loss=2.0, distance=0.0, relative=0.0, groups=(), **point) -> Any:
    return certify._Reading(
        SimpleNamespace(groups=groups), refined(**point), first_loss, first_norm, distance, relative  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "tolerance", "critical"),
    [
        ({"decrease": 1.99e-4}, None, True),  # 1e-4 of a loss of 2
        ({"decrease": 2.01e-4}, None, False),
        ({"decrease": 2.01e-4, "already": True}, None, True),
        ({"decrease": 2.01e-4, "already": True, "converged": False}, None, False),
        ({"loss": 2.0 - 1.99e-4}, None, True),
        ({"loss": 2.0 - 2.01e-4}, None, False),
        ({"loss": 2.0 + 2.01e-4}, None, False),
        ({"loss": 3.0, "converged": False}, None, True),
        ({"decrease": np.nan, "converged": False}, None, False),
        ({"first_norm": np.nan, "already": True}, None, False),
        ({"first_norm": np.inf}, np.inf, False),
        ({"first_norm": 1e-3, "decrease": 1.0}, 1e-3, True),
        ({"first_norm": 1.01e-3, "already": True}, 1e-3, False),
    ],
)
def test_a_point_is_critical_if_next_to_nothing_of_the_loss_is_left(changes, tolerance, critical):
    assert certify._is_critical(reading(**changes), tolerance) is critical


def judged(methods, *, flat=(), zero=False, critical=True, on_kink=None, none=False, distance=0.0):
    found = inertia.Signs(methods, (), flat, 0.0, 0.0, None, 0, ())
    return certify._judge(
        certify._Findings(reading(distance=distance), None if none else found, on_kink, critical, zero, (), None), 9
    )


def test_a_verdict_takes_the_ranges_of_all_methods_and_never_what_excludes_itself():
    assert judged({"a": ((0, 0), (0, 0))})[:3] == (Kind.STRICT_MINIMUM, (0, 0), (0, 0))
    assert judged({"a": ((0, 3), (0, 3)), "b": ((1, 4), (0, 9))})[:3] == (Kind.SADDLE, (1, 3), (0, 3))
    assert judged({"a": ((0, 1), (2, 3))})[0] == Kind.UNDECIDED
    assert judged({"a": ((0, 0), (2, 3))})[0] == Kind.UNDECIDED
    assert judged({"a": ((0, 1), (2, 2))})[0] == Kind.UNDECIDED
    assert judged({"a": ((0, 0), (0, 0)), "b": ((1, 1), (0, 0))})[:3] == (Kind.UNDECIDED, (0, 9), (0, 9))
    assert judged({"a": ((0, 2), (2, 4))}, zero=True)[:2] == (Kind.MINIMUM, (0, 0))
    assert judged({"a": ((1, 2), (2, 4))}, zero=True)[:2] == (Kind.UNDECIDED, (1, 2))
    assert judged({"a": ((0, 0), (0, 0))}, critical=False)[0] == Kind.NOT_CRITICAL
    assert judged({}, none=True)[:3] == (Kind.UNDECIDED, (0, 9), (0, 9))
    assert judged({"a": ((0, 0), (0, 0))}, on_kink="a kink")[::3] == (Kind.UNDECIDED, ["a kink"])
    for kind, wanted in (("scaling", Kind.MINIMUM), ("zero share", Kind.UNDECIDED)):
        assert judged({"a": ((0, 0), (1, 1))}, flat=(Flat(kind, 1, 0.0, ""),))[0] == wanted
    assert not any("refined" in why for why in judged({"a": ((0, 0), (0, 0))})[3])
    assert any("refined" in why for why in judged({"a": ((0, 0), (0, 0))}, distance=1e-9)[3])


def test_of_readings_about_as_near_the_one_with_most_copies_counts(monkeypatch):
    pair, three = (Group(1, (0, 1), (0.5, 0.5)),), (Group(1, (0, 1, 2), (0.2, 0.3, 0.5)),)
    assert (reading(groups=pair).merged, reading(groups=pair + three).merged) == (1, 3)

    def nearest(*found):
        rows = iter(found)
        monkeypatch.setattr(certify, "scene_of", lambda *args, **words: SimpleNamespace(groups=next(keys), turned=()))
        monkeypatch.setattr(certify, "_read", lambda *args: next(rows))
        keys = iter([0, 1, 2, 3, 4, 5][: len(found)] + [len(found) - 1] * 6)
        network = SimpleNamespace(layout=SimpleNamespace(names=()))
        problem: Any = SimpleNamespace(network=network, loss_of=lambda _: 0.0, gradient_of=lambda _: {})
        return certify._nearest(problem, {}, 1e-7, 10)

    one, more = reading(relative=1e-6), reading(relative=0.9e-5, groups=pair)
    assert nearest(one, more) is more
    assert nearest(one, reading(relative=1.1e-5, groups=pair)) is one
    assert nearest(one, reading(relative=0.9e-5, groups=pair, converged=False)) is one
    lost = reading(converged=False)
    assert nearest(lost, reading(converged=False, groups=pair)) is lost
    assert nearest(reading(), reading(relative=1e-17, groups=pair)).merged == 1  # to rounding as near


# Proofs.


def test_signs_of_shares_are_exact():
    network = MLP((2, 3, 1), "tanh")

    def found(*shares: float, layer: int | None = 1, neuron: int | None = 2, decay: float = 0.0):
        return proof._share_signs(network, layer, neuron, shares, decay)

    assert found(0.5, 0.5) == {1: 1, -1: 0, 0: 0}
    assert found(1.5, -0.25, -0.25) == {1: 0, -1: 2, 0: 0}
    assert found(1.0, 0.0) == {1: 0, -1: 0, 0: 1}
    assert found(1.0, 1e-13)[0] == 1  # the last share is what makes the sum 1
    assert found(1e3, -999.0 + 0.9e-9) == {1: 0, -1: 1, 0: 0}
    assert found(0.5, 0.5, layer=None, neuron=None) is None
    for wrong in ({"layer": None}, {"neuron": None}, {"neuron": -1}, {"neuron": 3}, {"decay": 1e-9}, {"layer": 2}):
        with pytest.raises((SettingsError, NeuronsError)):
            found(0.5, 0.5, **wrong)
    for shares in ((1.0,), (0.5, 0.5 + 2e-12), (1e3, -999.0 + 1.1e-9), (np.inf, -np.inf), (np.nan, 1.0)):
        with pytest.raises(SettingsError, match="sum to 1"):
            found(*shares)
    assert found(0.5, 0.5 + 0.9e-12) == {1: 1, -1: 0, 0: 0}


def test_a_proved_block_has_the_inertia_of_its_matrix():
    pytest.importorskip("flint")
    with balls.precision(128):
        wide = balls.exact(np.array([[1.0, 2.0, 0.0]]))
        curved = balls.exact(np.diag([1.0, 1.0, -3.0]))
        whole = np.block(
            [[np.zeros((1, 1)), np.array([[1.0, 2.0, 0.0]])], [np.array([[1.0, 2.0, 0.0]]).T, np.zeros((3, 3))]]
        )
        for sigma in (1, -1):
            matrix = whole.copy()
            matrix[1:, 1:] = sigma * np.diag([1.0, 1.0, -3.0])
            assert proof._block(wide, curved, sigma) == (int((np.linalg.eigvalsh(matrix) < 0).sum()), 0)
        assert proof._block(wide, curved, 0) == (1, 2)
        assert proof._block(balls.exact(np.array([[1.0], [2.0], [0.0]])), balls.exact(np.eye(1)), 1) == (1, 2)
        assert proof._block(balls.exact(np.zeros((1, 3))), curved, 0) is None
        assert proof._block(wide, balls.exact(np.zeros((3, 3))), 1) is None
        square = balls.exact(np.diag([1.0, 2.0]))
        assert proof._block(square, balls.exact(np.eye(2)), 1) == (2, 0)
        assert proof._block(square, balls.exact(np.eye(2)), 0) == (2, 0)


def test_the_next_radius_is_where_the_contraction_is_a_quarter_and_at_most_1():
    flint = pytest.importorskip("flint")
    arb = flint.arb
    assert float(proof._larger(arb(0.5), arb(0.25))) == 0.5
    assert float(proof._larger(arb(0.5), arb(2.0))) == 0.0625
    assert float(proof._larger(arb(3.0), arb(0.25))) == 1.0


@pytest.mark.parametrize(
    ("chance", "values", "found"),
    [
        (0.9e-6, (0.5, 2.0), (0, 5, 0)),
        (1.1e-6, (0.5, 2.0), (0, 2, 3)),
        (1e-9, (-0.5, 2.0), (1, 1, 3)),
        (1e-9, (0.140625, 2.0), (0, 1, 4)),  # at its bound
        (1e-9, (-0.140625, 2.0), (0, 1, 4)),
        (1e-9, (0.141, 2.0), (0, 5, 0)),
        (1e-9, (-0.141, 2.0), (1, 1, 3)),
        (1e-9, (-1.0, -0.141), (2, 0, 3)),
        (1e-9, (np.nan, 2.0), (0, 0, 5)),
    ],
)
def test_without_a_matrix_all_is_positive_only_up_to_a_chance_of_a_millionth(monkeypatch, chance, values, found):
    """Six directions, one of them flat, and two Ritz values with residuals of 1/8 and 2 * 2^-8 * 2 for skewness."""
    vectors = np.eye(6)[:2]
    ritz = spectrum.Lanczos(np.array(values), np.full(2, 0.125), vectors, 2, 2.0**-8)
    operator = SimpleNamespace(layers=None, half=np.asarray, product=None)
    monkeypatch.setattr(symmetric, "congruent", lambda reduced, x: operator)
    monkeypatch.setattr(symmetric, "lanczos", lambda *args, **words: ritz)
    monkeypatch.setattr(symmetric, "in_32", lambda reduced, x: (reduced, x))
    monkeypatch.setattr(symmetric, "reduced_product", lambda reduced, x, v: np.zeros(6))
    monkeypatch.setattr(symmetric, "chance_unseen", lambda found, size, error: chance * (size == 5))
    point = refined(x=np.zeros(6), way=np.zeros(6))
    free = symmetric.free_inertia(None, point, np.array([[0, 0, 3.0, 0, 0, 0]]), steps=2)  # type: ignore[arg-type]
    one = free.inertia
    assert (one.negative, one.positive, one.unresolved, one.zero) == (*found, 1)


def test_without_a_matrix_rounding_and_drift_are_the_largest_on_the_lowest_two_vectors(monkeypatch):
    """The operator is x -> (1 + |x|) v, in float32 off by 2^-12; the way is 1e-3 long, times a factor of 4."""
    size = 3

    def product(reduced, x, v):
        v = np.asarray(v)
        return (1.0 + np.linalg.norm(x) + (2.0**-12 if v.dtype == np.float32 else 0.0)) * v

    ritz = spectrum.Lanczos(np.array([1.0, 1.0]), np.zeros(2), np.eye(size)[:2] * [[1.0], [2.0]], 2, 1e-3)
    operator = SimpleNamespace(layers=None, half=np.asarray, product=None)
    monkeypatch.setattr(symmetric, "congruent", lambda reduced, x: operator)
    monkeypatch.setattr(symmetric, "lanczos", lambda *args, **words: ritz)
    monkeypatch.setattr(symmetric, "in_32", lambda reduced, x: (reduced, x))
    monkeypatch.setattr(symmetric, "reduced_product", product)
    point = refined(x=np.zeros(size), way=np.array([1e-3, 0.0, 0.0]), factor=4.0)
    with float64():
        free = symmetric.free_inertia(None, point, np.zeros((0, size)), steps=2)  # type: ignore[arg-type]
    assert free.drift == pytest.approx(4.0 * 2e-3)
    assert free.rounding == pytest.approx(
        16 * (2.0**-29 * 2.0**-11 + 2 * np.finfo(float).eps) + 1.0 * 1e-3 * 2, rel=1e-9, abs=0.0
    )
    assert free.inertia.bounds == pytest.approx(free.rounding + free.drift)
    assert (free.inertia.positive, free.inertia.size) == (3 if free.chance <= 1e-6 else 2, 3)


# Words.


def test_methods_whose_ranges_touch_do_not_disagree():
    one = ((1, 2), (0, 3))
    for other in (((2, 4), (3, 3)), ((0, 1), (0, 0))):
        assert verdict.disagreement({"dense": one, "exchange": other}) is None
    for other in (((3, 4), (3, 3)), ((0, 0), (0, 0)), ((1, 2), (4, 4))):
        assert "disagree" in str(verdict.disagreement({"dense": one, "exchange": other, "closed": one}))
        assert "disagree" in str(verdict.disagreement({"dense": one, "exchange": one, "closed": other}))


@pytest.mark.parametrize(
    ("sigma", "block", "said"),
    [
        (1, Inertia(1, 0, 3, 0), ["the index is 2 higher"]),
        (1, Inertia(3, 0, 2, 0), ["the index is 1 lower"]),
        (1, Inertia(2, 5, 2, 0), []),
        (1, Inertia(2, 0, 2, 1), ["the index may be another"]),
        (-1, Inertia(1, 0, 3, 0), []),  # no negative share is near 0
        (0, Inertia(1, 0, 3, 1), []),
    ],
)
def test_a_note_on_a_share_near_0_says_no_more_than_the_block_does(sigma, block, said):
    group = Group(1, (0, 4, 7, 8), (1.5, 1e-4, 1.01e-4, -0.5 - 2.01e-4))
    notes = inertia._near_zero(group, sigma, block)
    assert [note.split("beyond 0, ")[1] for note in notes] == said
    assert all(note.startswith("unit 4 of layer 1 has the share 1.0e-04") for note in notes)


def test_one_eigenvalue_lies_and_two_lie():
    assert verdict.verdict(Inertia(0, 0, 5, 1), global_minimum=False)[1] == [
        "1 eigenvalue lies within the bound around 0: no sign"
    ]
    assert verdict.verdict(Inertia(0, 0, 5, 2), global_minimum=False)[1] == [
        "2 eigenvalues lie within the bound around 0: no sign"
    ]
