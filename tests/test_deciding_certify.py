"""What decides in a certificate, on each side of where it turns: against mutants that earlier tests let pass."""

import numpy as np
import pytest

from saddlescope.arrays import Layout
from saddlescope.critical import exchange, flat, groups
from saddlescope.critical.patterns import layer_patterns, mixing_rows
from saddlescope.critical.result import Group
from saddlescope.critical.zero import is_zero
from saddlescope.data.data import Data
from saddlescope.models.mlp import MLP
from saddlescope.precision import float64
from saddlescope.problem.problem import Problem
from saddlescope.units.neurons import Neurons, Slice

pytestmark = pytest.mark.usefixtures("stand_ins")

EPS = np.finfo(float).eps
LAYER = Neurons((Slice("0.weight", 0),), (Slice("2.weight", 1),))


def layer(incoming, outgoing) -> dict[str, np.ndarray]:
    """Parameters of one layer, by its units' vectors."""
    return {"0.weight": np.array(incoming, float), "2.weight": np.array(outgoing, float).T.copy()}


# Copies.


def test_the_misfit_is_the_largest_gap_over_the_largest_vector_and_what_shares_make_of_the_distance():
    parameters = layer([[3, 4], [3, 4], [0, 1]], [[2, 2], [2, 0], [0, 0]])
    found = groups.misfit(parameters, LAYER, Group(1, (0, 1, 2), (0.5, 0.5, 0.0)))
    assert found == pytest.approx(0.5 / np.sqrt(2) + 0.5 * (np.sqrt(18) / 5 + 4 * EPS), rel=1e-14, abs=0.0)
    exact = groups.misfit(layer([[3, 4], [3, 4]], [[2, 2], [6, 6]]), LAYER, Group(1, (0, 1), (0.25, 0.75)))
    assert exact == pytest.approx(3 * EPS, rel=1e-12, abs=0.0)


@pytest.mark.parametrize(("outgoing", "misfit"), [([[1, 0], [-1, 0]], np.inf), ([[0, 0], [0, 0]], 0.0)])
def test_copies_without_shares_fit_only_if_they_send_out_nothing(outgoing, misfit):
    nan = float("nan")
    assert groups.misfit(layer([[3, 4], [3, 4]], outgoing), LAYER, Group(1, (0, 1), (nan, nan))) == misfit


def test_a_unit_at_the_very_distance_is_a_copy():
    found = groups.find_groups(layer([[4, 0], [3, 0], [0, 0]], [[1], [3], [1]]), {1: LAYER}, close=0.25)
    assert found == (Group(1, (0, 1), (0.25, 0.75)),)


# Flat directions.


@pytest.mark.parametrize(("tilt", "more", "unclear"), [(2e-6, 1, 0), (5e-7, 0, 1), (2e-12, 0, 1), (5e-13, 0, 0)])
def test_claims_are_independent_dependent_or_unclear_by_their_angle(tilt, more, unclear):
    eye = np.eye(4)
    null = flat.null_space({"a": eye[:1], "b": (eye[0] + tilt * eye[1])[None]}, np.ones(4))
    assert null.counts == ({"a": 1, "b": 1} if more else {"a": 1})
    assert len(null.rows) == 1 + more
    assert len(null.reasons) == unclear


@pytest.mark.parametrize(("tilt", "unclear"), [(1.2e-12, 1), (0.8e-12, 0)])
def test_many_rows_may_depend_on_others_by_the_rounding_of_all_of_them(tilt, unclear):
    eye = np.eye(4)
    row = eye[0] + tilt * eye[1]
    null = flat.null_space({"a": eye[:1], "b": np.stack([row, row])}, np.ones(4))
    assert (null.counts, len(null.reasons)) == ({"a": 1}, unclear)


def test_claims_are_judged_in_natural_units_and_given_in_the_parameters():
    scale = np.array([2.0, 0.5, 1.0, 1e6])
    row = np.array([3.0, -1.0, 2.0, 0.0])
    null = flat.null_space({"a": row[None], "none": np.zeros((2, 4)), "b": 5 * row[None]}, scale)
    assert null.counts == {"a": 1}
    np.testing.assert_allclose(np.abs(null.rows[0]), np.abs(row) / np.linalg.norm(row / scale), rtol=1e-13)
    other = np.array([3.0, -1.0, 2.0, 1.0])  # 1 of 1e6 natural units apart
    assert flat.null_space({"a": row[None], "b": other[None]}, scale).reasons
    assert flat.null_space({"a": row[None], "b": other[None]}, np.ones(4)).counts == {"a": 1, "b": 1}
    both = flat.null_space({"a": row[None], "b": np.stack([0 * row, other])}, np.ones(4))
    assert both.counts == {"a": 1, "b": 1}
    np.testing.assert_allclose(both.rows @ both.rows.T, np.eye(2), atol=1e-14)


def test_rows_of_the_scale_hold_a_unit_s_vectors_and_copies_once():
    parameters = layer([[3, 4], [3, 4], [0, 1]], [[2], [6], [5]])
    layout = Layout.of(parameters)
    x = np.asarray(layout.flatten(parameters))
    alone = groups.embedding(parameters, {1: LAYER}, ())
    rows = flat.scaling_rows(x, layout, {1: LAYER}, alone)
    wanted = [[3, 4, 0, 0, 0, 0, -2, 0, 0], [0, 0, 3, 4, 0, 0, 0, -6, 0], [0, 0, 0, 0, 0, 1, 0, 0, -5]]
    assert rows.tolist() == wanted
    parts = groups.embedding(parameters, {1: LAYER}, (Group(1, (0, 1), (0.25, 0.75)),))
    small = groups.reduce_vector(x, parts)
    assert small == pytest.approx(np.array([3, 4, 0, 1, 8, 5]))
    assert flat.scaling_rows(small, layout, {1: LAYER}, parts) == pytest.approx(
        np.array([[3, 4, 0, 0, -8, 0], [0, 0, 0, 1, 0, -5]])
    )
    assert flat.scaling_rows(x, layout, {}, alone).shape == (0, 9)


def _outputs(network: MLP, theta: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """A perceptron of the identity, by hand."""
    parameters, here = network.layout.unflatten_numpy(theta), inputs
    for k in range(network.depth):
        here = here @ parameters[f"{2 * k}.weight"].T + parameters.get(f"{2 * k}.bias", 0.0)
    return here


@pytest.mark.parametrize(("bias", "rows"), [(True, 4 + 2 + 9 + 3), (False, 4 + 9)])
def test_between_linear_layers_every_row_leaves_the_outputs_alone(bias, rows, generator):
    network = MLP((3, 2, 3, 2), "identity", bias=bias)
    x, inputs = generator.normal(size=network.layout.size), generator.normal(size=(9, 3))
    with float64():
        problem = Problem(network, Data(inputs, np.zeros((9, 2))))
        found = mixing_rows(network, x, layer_patterns(problem, x))
    assert found.shape == (rows, len(x))
    assert np.linalg.matrix_rank(found) == rows - 1  # u v^T with W3 u = 0 and v W2 = 0 changes nothing
    for row in found:
        slope = (_outputs(network, x + 1e-6 * row, inputs) - _outputs(network, x - 1e-6 * row, inputs)) / 2e-6
        assert np.abs(slope).max() < 1e-8
    curved = Problem(MLP((3, 2, 2), "tanh"), Data(inputs, np.zeros((9, 2))))
    assert layer_patterns(curved, np.zeros(14)) == ()
    assert mixing_rows(curved.network, np.zeros(14), ()).shape == (0, 14)


@pytest.mark.parametrize("bias", [True, False])
def test_a_shift_of_all_logits_is_one_row_for_each_input_of_the_last_layer(bias, generator):
    network = MLP((2, 3, 4), "tanh", bias=bias)
    inputs = generator.normal(size=(8, 2))
    labels = np.arange(8) % 4
    rows = flat.softmax_rows(Problem(network, Data(inputs, labels=labels), loss="cross_entropy"))
    wanted = []
    for name, place in [("2.weight", (slice(None), k)) for k in range(3)] + [("2.bias", slice(None))] * bias:
        move = {key: np.zeros(shape) for key, shape in zip(network.layout.names, network.layout.shapes, strict=True)}
        move[name][place] = 1.0
        wanted.append(np.concatenate([value.ravel() for value in move.values()]))
    assert np.array_equal(rows, np.stack(wanted))
    squares = Problem(network, Data(inputs, generator.normal(size=(8, 4))))
    assert flat.softmax_rows(squares).shape == (0, network.layout.size)


def test_a_relation_between_inputs_is_a_row_of_every_unit():
    for bias in (True, False):
        network = MLP((2, 2, 1), "tanh", bias=bias)
        inputs = np.array([[1.0, 2.0], [2.0, 4.0], [-1.0, -2.0], [3.0, 6.0]])
        problem = Problem(network, Data(inputs, np.ones((4, 1))))
        relations = flat.dependent_inputs(problem)
        assert relations.shape == (1, 2 + bias)
        assert relations[0] / relations[0, 0] == pytest.approx(np.array([1.0, -0.5, 0.0][: 2 + bias]), abs=1e-15)
        rows = flat.input_rows(problem, relations)
        named = [network.layout.unflatten_numpy(row) for row in rows]
        for unit, parts in enumerate(named):
            assert np.array_equal(parts["0.weight"][unit], relations[0, :2])
            assert not parts["0.weight"][1 - unit].any()
            assert not any(value.any() for name, value in parts.items() if name != "0.weight")
        assert flat.input_rows(problem, relations[:0]).shape == (0, network.layout.size)


def test_a_relation_with_the_bias_s_one_is_found_over_all_samples_and_chunks():
    network = MLP((3, 2, 1), "tanh")
    generator = np.random.default_rng(0)
    first, size = generator.normal(size=11), 1e7
    inputs = np.stack([first, 3.0 - 2.0 * first, size * first], axis=1)
    problem = Problem(network, Data(inputs, np.ones((11, 1))), chunk=4)  # the last chunk is padded with zeros
    relations = flat.dependent_inputs(problem)
    assert len(relations) == 2
    with_one = np.concatenate([inputs, np.ones((11, 1))], axis=1)
    terms = np.abs(with_one) @ np.abs(relations).T
    assert (np.abs(with_one @ relations.T) <= 16 * EPS * terms).all()
    assert np.abs(relations).max(axis=1).tolist() == [1.0, 1.0]
    rows = flat.input_rows(problem, relations)
    assert np.array_equal(rows[0][[network.layout.offsets()["0.bias"]]], relations[0, 3:])
    inputs[7, 1] += 1e-13
    assert len(flat.dependent_inputs(Problem(network, Data(inputs, np.ones((11, 1))), chunk=4))) == 1
    inputs[:, 1] = 0.0  # zeros are no relation of their own
    inputs[0, 0], inputs[0, 2] = 1.0, size
    found = flat.dependent_inputs(Problem(network, Data(inputs, np.ones((11, 1))), chunk=4))
    assert (found.shape, found[0, 1]) == ((1, 4), 0.0)
    nothing = Problem(MLP((3, 2, 1), "tanh", bias=False), Data(np.zeros((4, 3)), np.ones((4, 1))))
    assert flat.dependent_inputs(nothing).shape == (0, 3)


@pytest.mark.parametrize("seed", range(6))
def test_whole_coefficients_of_a_relation_are_whole(seed):
    first = np.random.default_rng(seed).uniform(size=23)
    inputs = np.stack([first, 1.0 - first, np.random.default_rng(seed + 99).normal(size=23)], axis=1)
    found = flat.dependent_inputs(Problem(MLP((3, 2, 1), "tanh"), Data(inputs, np.ones((23, 1)))))
    assert (found / found[0, 0]).tolist() == [[1.0, 1.0, 0.0, -1.0]]
    inputs[:, 1] = 0.37 * first  # a share is no whole number
    found = flat.dependent_inputs(Problem(MLP((3, 2, 1), "tanh"), Data(inputs, np.ones((23, 1)))))
    assert found[0] / found[0, 1] == pytest.approx(np.array([-0.37, 1.0, 0.0, 0.0]), abs=1e-15)


@pytest.mark.parametrize(("off", "holds"), [(3.4e-15, True), (3.8e-15, False)])
def test_a_relation_holds_to_the_rounding_of_its_terms(off, holds):
    """4 eps a column: 4 * 2 * eps * (1 + 1) = 3.55e-15."""
    assert flat._holds(np.array([[1.0, 1.0 - off], [5.0, 5.0]]), np.array([1.0, -1.0])) is holds


def test_a_basis_of_relations_is_sparse_and_spans_the_same():
    null = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 2)))[0].T
    null[:, 0] = 0.0
    rows = flat._sparse(null)
    assert sorted(rows.sum(axis=0)[[(rows == np.eye(2)[k][:, None]).all(axis=0).argmax() for k in (0, 1)]]) == [1, 1]
    assert np.linalg.matrix_rank(np.concatenate([rows, null]), tol=1e-12) == 2
    assert flat._sparse(np.array([[2.0, 4e-12, 1e-12]])).tolist() == [[1.0, 2e-12, 0.0]]
    assert flat._sparse(null[:0]).shape == (0, 5)


def test_weight_moves_from_the_first_copy_to_every_other():
    rows = flat.transfer_rows(
        layer([[3, 4]] * 3, [[2, 1], [6, 3], [5, 5]]), LAYER, Group(1, (0, 1, 2), (0.2, 0.3, 0.5))
    )
    first = np.array([[-13.0, 13.0, 0.0], [-9.0, 9.0, 0.0]])  # outputs by units, as the array is stored
    assert rows[:, 6:].tolist() == [first.ravel().tolist(), first[:, [0, 2, 1]].ravel().tolist()]
    assert not rows[:, :6].any()


@pytest.mark.parametrize("matrix", [True, False])
def test_unused_are_exact_zeros_in_gradient_and_hessian(matrix):
    def evaluate(x: np.ndarray) -> tuple[float, np.ndarray]:
        return float(x[0] ** 2 + x[1]), np.array([2.0 * x[0], 1.0, 0.0])

    image = np.diag([2.0, 0.0, 0.0])
    image = image if matrix else image @ np.array([0.3, 0.4, 0.5])
    rows = flat.unused_rows(evaluate, np.zeros(3), image, np.array([0.0, 1.0, 0.0]), kinked=False)
    assert rows.tolist() == [[0.0, 0.0, 1.0]]


# The loss is zero.


@pytest.mark.parametrize("loss", ["mse", "normalised"])
@pytest.mark.parametrize(("off", "zero"), [(8, True), (16, False)])
def test_a_loss_is_zero_up_to_a_few_half_units_of_each_target(loss, off, zero):
    """4 * eps/2 * 4 for the target, and as much again at most for its output: another's 1e6 does not count."""
    problem = Problem(MLP((1, 2)), Data([[1.0], [0.0]], [[4.0 + off * EPS, 1e6], [0.0, 0.0]]), loss=loss)
    with float64():
        assert is_zero(problem, {"0.weight": np.array([[4.0], [1e6]]), "0.bias": np.zeros(2)}) is zero


@pytest.mark.parametrize(("units", "zero"), [(4, True), (5, False)])
def test_the_rounding_of_outputs_is_measured_in_float32(units, zero):
    """1 + 2^-24 rounds by 2^-24 in float32, 2^-53 after scaling: with half a unit of the target 2^-52, times 4."""
    output = 1.0 + 2.0**-24
    targets = np.array([[output + units * 2.0**-52]])
    problem = Problem(MLP((1, 1), bias=False), Data([[1.0]], targets))
    with float64():
        assert is_zero(problem, {"0.weight": np.array([[output]])}) is zero


def test_a_penalty_or_another_loss_is_never_zero():
    rows = Data([[1.0], [0.0]], [[4.0], [0.0]])
    exact = {"0.weight": np.array([[4.0]]), "0.bias": np.zeros(1)}
    with float64():
        assert is_zero(Problem(MLP((1, 1)), rows), exact)
        assert not is_zero(Problem(MLP((1, 1)), rows, weight_decay=1e-9), exact)
        huge = Data([[1.0], [0.0]], [[4e60], [0.0]])  # beyond float32
        assert not is_zero(Problem(MLP((1, 1)), huge), {**exact, "0.weight": np.array([[4e60]])})
        labels = Problem(MLP((1, 2)), Data([[1.0], [0.0]], labels=[0, 1]), loss="cross_entropy")
        assert not is_zero(labels, {"0.weight": np.zeros((2, 1)), "0.bias": np.zeros(2)})


# The exchange split.


def ring(low: float, high: float, centre: np.ndarray):
    """A loss that reads an entry only while it is so far from the centre."""

    def evaluate(x: np.ndarray) -> tuple[float, np.ndarray]:
        away = np.abs(x - centre)
        return 0.0, np.where((away > low) & (away < high), 1.0, 0.0)

    return evaluate


@pytest.mark.parametrize(("low", "high", "is_read"), [(3e-10, 3e-9, 1), (3e2, 3e3, 1), (3, 30, 1), (5e4, 1e9, 0)])
def test_random_points_lie_at_every_scale_from_a_billionth_to_a_thousand(low, high, is_read):
    x = np.zeros(40)
    left = exchange.structurally_unused(ring(low, high, x), x, np.ones(40, bool))
    assert left.all() if not is_read else left.sum() < 20


@pytest.mark.parametrize(("low", "fewest", "most"), [(3.5e-7, 0, 0), (1e-8, 31, 40), (1e-7, 5, 25)])
def test_between_kinks_points_stay_within_a_ten_millionth(low, fewest, most):
    """Relative to the entry plus the usual one: here 1 + 1, so twice 1e-7 times a normal number."""
    x = np.ones(40)
    left = exchange.structurally_unused(ring(2 * low, np.inf, x), x, np.ones(40, bool), kinked=True)
    assert fewest <= 40 - left.sum() <= most


def test_what_is_read_moves_by_a_tenth_while_others_are_tried():
    seen = []

    def evaluate(x: np.ndarray) -> tuple[float, np.ndarray]:
        seen.append(x[1:] - 1.0)
        return 0.0, np.zeros(len(x))

    assert exchange.structurally_unused(evaluate, np.ones(41), np.arange(41) == 0).tolist() == [True] + [False] * 40
    assert np.std(np.concatenate(seen)) == pytest.approx(0.2, rel=0.15)  # 0.1 (|x| + the usual)


@pytest.mark.parametrize(
    ("rows", "rank"),
    [
        ([[1, 0], [1, 3e-6]], 2),  # singular values 1.4 and 2.1e-6
        ([[1, 0], [1, 1e-6]], 1),
        ([[1, 0], [0, 1e-5]], 2),  # lengths do not matter
        ([[0, 0], [3, 4]], 1),
        ([[0, 0]], 0),
    ],
)
def test_rows_are_independent_by_their_angle(rows, rank):
    basis = exchange._independent(np.array(rows, float))
    assert basis.shape == (rank, 2)
    assert basis @ basis.T == pytest.approx(np.eye(rank))


def plain(g, b, g_error=0.0, b_error=0.0, outgoing=(0.0, 0.0), incoming=(0.0, 0.0), **null) -> exchange.Coupling:
    arrays = (np.array(value, float) for value in (g, b))
    used = np.ones(2, bool)
    return exchange.Coupling(*arrays, g_error, b_error, np.array(outgoing), np.array(incoming), used, **null)


def test_errors_of_g_and_of_sigma_b_add_up_in_a_block_s_bounds():
    """G = 1 and B = 1 stay in natural units: the bounds are the Frobenius norms of the errors, and rounding."""
    eye = np.eye(2)
    for sigma, wanted in ((1, 6e-13 + 2e-13), (-1, 6e-13 + 2e-13), (0, 6e-13)):
        found = exchange.block(plain(eye, eye, 3e-13, 1e-13), sigma, homogeneous=False)
        assert found.inertia.bounds == pytest.approx(wanted, rel=2e-2, abs=0.0)
        assert (found.inertia.negative, found.inertia.positive) == (2, 2)


def test_what_vanishes_only_at_the_exact_point_is_an_error_of_the_block():
    g, b = np.diag([1e-5, 1.0]), np.diag([1e-6, 1.0])
    first = np.array([[1.0, 0.0]])
    scale = exchange._scaled(plain(g, b), 1, homogeneous=False)
    along_out = exchange.block(plain(g, b, outgoing=(1.0, 0.0)), 1, homogeneous=False)
    assert along_out.counts["outgoing transfer"] == 1
    assert along_out.inertia.bounds == pytest.approx(abs(scale.g[0, 0]), rel=1e-6)
    shifted = exchange.block(plain(g, b, outgoing_null={"softmax shift": first}), 1, homogeneous=False)
    assert (shifted.counts["outgoing transfer"], shifted.counts["softmax shift"]) == (0, 1)
    assert shifted.inertia.bounds == pytest.approx(abs(scale.g[0, 0]), rel=1e-6)
    both = exchange.block(plain(g, b, incoming_null={"collinear inputs": first}), 1, homogeneous=False)
    assert (both.counts["collinear inputs"], both.counts.get("scaling", 0)) == (1, 0)
    assert both.inertia.bounds == pytest.approx(abs(scale.g[0, 0]) + 2 * abs(scale.bend[0, 0]), rel=1e-6)
    own = exchange.block(plain(g, 0 * b, incoming=(1.0, 0.0)), 1, homogeneous=True)
    assert (own.counts["scaling"], own.counts["piecewise linear"]) == (1, 0)
    assert own.counts["outgoing transfer"] == 1  # G has a row more than columns then


def test_the_bounds_of_a_flat_block_hold_the_rounding_of_its_largest_singular_value():
    """Singular values 2 and 5e-9: two units of rounding of the larger, 8.9e-16."""
    found = exchange.block(plain([[1.0, 1.0], [1.0, 1.0 + 1e-8]], np.zeros((2, 2))), 0, homogeneous=False)
    assert found.inertia.bounds == pytest.approx(2 * EPS * 2, rel=1e-6, abs=0.0)
    assert sorted(found.inertia.values)[2:] == pytest.approx([5e-9, 2.0], rel=1e-6, abs=0.0)
