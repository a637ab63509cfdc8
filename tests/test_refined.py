"""A certificate belongs to the critical point that it names, in any units; flat directions have a reason."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

import saddlescope as ss
from references.critical_networks import (
    Critical,
    copied,
    critical,
    gradient_and_hessian,
    moved,
    problem_of,
    signs,
    with_residual,
)
from saddlescope.critical.certify import certify
from saddlescope.critical.exchange import structurally_unused
from saddlescope.critical.flat import dependent_inputs, null_space
from saddlescope.critical.inertia import CONSTANT, WHY
from saddlescope.critical.result import Certificate, Kind
from saddlescope.critical.twins import turn
from saddlescope.critical.zero import is_zero
from saddlescope.numerics.spectrum import natural_scale
from saddlescope.precision import float64


def right(point: Critical, found: Certificate) -> None:
    """Check a decided certificate against the signs of the Hessian, in extended precision, at the point it names."""
    there = replace(point, parameters=found.point)
    assert np.linalg.norm(gradient_and_hessian(there)[0].astype(float)) < 1e-13
    assert (found.index, found.nullity) == signs(there), (found.reasons, found.methods)


def counts(found: Certificate) -> dict[str, int]:
    return {one.kind: one.count for one in found.flat}


# The point that the signs belong to.


@pytest.mark.parametrize("exponent", [4, 6, 8])
@pytest.mark.parametrize(("widths", "copies"), [((2, 3, 1), (0.5, 0.5)), ((2, 3, 2), (1.4, -0.4))])
def test_a_point_beside_a_lifted_point_has_the_signs_of_the_critical_point_it_names(widths, copies, exponent) -> None:
    """Copies 1e-4 to 1e-8 apart: the Hessian's own signs just there are no index (science notes, 9.5)."""
    generator = np.random.default_rng(exponent)
    for seed in range(3):
        point = copied(critical(widths, seed=seed, residual=0.3), 1, 0, copies)
        beside = moved(point, 10.0**-exponent * generator.normal(size=point.size))
        found = certify(problem_of(beside), beside.parameters)
        right(beside, found)
        assert [group.units for group in found.groups] == [(0, 3)]
        assert 0 < found.distance < 100 * 10.0**-exponent
        assert found.signs_here is None


def test_beside_a_line_of_minima_nothing_is_called_a_saddle() -> None:
    """[FA00] theorem 3: with B definite the copies' line consists of minima; what is 1e-5 beside it is no saddle."""
    generator, minima = np.random.default_rng(0), 0
    for seed in range(40):
        point = copied(critical((1, 2, 1), seed=seed, bias=False, residual=0.1, samples=25), 1, 0, (0.5, 0.5))
        if signs(point) != (0, 1):
            continue
        beside = moved(point, 1e-5 * generator.normal(size=point.size))
        found = certify(problem_of(beside), beside.parameters)
        assert found.verdict in (Kind.MINIMUM, Kind.UNDECIDED)
        minima += found.verdict == Kind.MINIMUM
    assert minima >= 3


def test_where_no_critical_point_is_reached_there_is_no_index() -> None:
    point = critical((2, 3, 2), seed=0)
    found = certify(problem_of(point), moved(point, np.full(17, 0.7)).parameters, gradient_tolerance=1e9)
    if found.method == "none":
        assert (found.index, found.nullity, found.verdict) == (None, None, Kind.UNDECIDED)
        assert found.signs_here is not None
        assert sum(found.signs_here) == 17
    else:
        right(point, found)


def test_a_critical_point_keeps_its_own_copies_though_others_are_near() -> None:
    """Two units 1e-3 apart at an exact critical point: no merge is nearer than the point itself."""
    point = critical((2, 3, 2), seed=4)
    parameters = dict(point.parameters)
    for name in ("0.weight", "0.bias"):
        parameters[name] = parameters[name].copy()
        parameters[name][2] = parameters[name][0] + 1e-3
    point = with_residual(replace(point, parameters=parameters), np.random.default_rng(1).normal(size=(80, 2)), 0.3)
    found = certify(problem_of(point), point.parameters)
    assert found.groups == ()
    assert found.distance < 1e-12
    if found.index is not None and found.nullity is not None:
        right(point, found)


# Units of measurement.


@settings(max_examples=10)
@given(
    inputs=st.lists(st.integers(-6, 6), min_size=2, max_size=2),
    targets=st.integers(-6, 6),
    residual=st.sampled_from([0.02, 1.0]),
)
def test_the_verdict_does_not_depend_on_the_units_of_inputs_and_targets(inputs, targets, residual) -> None:
    """Sylvester's law: a diagonal change of the parameters is a congruence (science notes, 9.7)."""
    point = copied(critical((2, 3, 2), seed=2, residual=residual), 1, 0, (0.3, 0.7))
    base = certify(problem_of(point), point.parameters)
    columns, size = 10.0 ** np.array(inputs), 10.0**targets
    parameters = dict(point.parameters)
    parameters["0.weight"] = parameters["0.weight"] / columns
    parameters |= {name: parameters[name] * size for name in ("2.weight", "2.bias")}
    other = replace(point, parameters=parameters, inputs=point.inputs * columns, targets=point.targets * size)
    found = certify(problem_of(other), parameters)
    assert base.index is not None
    assert (found.verdict, found.index, found.nullity) == (base.verdict, base.index, base.nullity)


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), spread=st.integers(0, 12))
def test_natural_scale_undoes_any_diagonal_and_does_not_enlarge_rounding(seed: int, spread: int) -> None:
    generator = np.random.default_rng(seed)
    matrix = generator.normal(size=(6, 6))
    matrix = matrix + matrix.T
    diagonal = 2.0 ** generator.integers(-spread, spread + 1, 6)
    scale = natural_scale(matrix * diagonal[:, None] * diagonal, np.zeros((6, 6)))
    scaled = matrix * (diagonal * scale)[:, None] * (diagonal * scale)
    assert np.all(np.abs(np.log2(np.abs(scaled).max(axis=1))) <= 2.0)
    noisy = np.zeros((2, 2))
    noisy[0, 0] = 1.0
    scale = natural_scale(noisy, np.array([[0.0, 1e-16], [1e-16, 1e-16]]))
    assert scale[0] == 1.0
    assert scale[1] * 1e-16 < 2.0**-36


# Flat directions by their reason.


@pytest.mark.parametrize("copies", [(), ((1, 0, (0.4, 0.6)),)])
def test_a_common_shift_of_all_logits_is_flat(copies) -> None:
    """units + 1 directions, one more in every copy's block: as the Hessian in extended precision says."""
    generator = np.random.default_rng(3)
    point = critical((2, 1, 3), seed=1, samples=300, residual=0.0)
    labels = np.argmax(point.targets + generator.gumbel(size=point.targets.shape), axis=1)
    point = replace(point, loss="cross_entropy", targets=labels)
    trained = ss.train(problem_of(point), seed=1)
    assert trained.gradient_norm < 1e-10
    point = replace(point, parameters={name: np.asarray(v) for name, v in trained.parameters.items()})
    found = certify(problem_of(point), point.parameters)
    base = replace(point, parameters=found.point)
    for layer, unit, shares in copies:
        base = copied(base, layer, unit, shares)
    found = certify(problem_of(base), base.parameters)
    assert counts(found)["softmax shift"] == 2 + len(copies)
    truth = signs(replace(base, parameters=found.point))
    if truth is not None:
        assert found.index_range[0] <= truth[0] <= found.index_range[1]
        assert found.nullity_range[0] <= truth[1] <= found.nullity_range[1]
        assert copies or (found.index, found.nullity) == truth


@pytest.mark.parametrize("copies", [0, 1])
@pytest.mark.parametrize("kind", ["one", "copy", "complement", "sum"])
def test_inputs_that_depend_on_each_other_leave_weights_flat(kind: str, copies: int) -> None:
    point = critical((3, 3, 2), seed=5)
    inputs = point.inputs.copy()
    inputs[:, 2] = {
        "one": np.ones(80),
        "copy": inputs[:, 0],
        "complement": 1.0 - inputs[:, 0],
        "sum": 0.3 * inputs[:, 0] - 1.7 * inputs[:, 1],
    }[kind]
    point = with_residual(replace(point, inputs=inputs), np.random.default_rng(3).normal(size=(80, 2)), 0.5)
    if copies:
        point = copied(point, 1, 1, (0.3, 0.7))
    found = certify(problem_of(point), point.parameters)
    right(point, found)
    assert counts(found)["collinear inputs"] == 3 + copies


def test_nearly_dependent_inputs_are_not_called_dependent() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(50, 2))
    network = ss.MLP((3, 2, 1), "tanh")

    def relations(third: np.ndarray) -> int:
        return len(dependent_inputs(ss.Problem(network, ss.Data(np.c_[x, third], x[:, :1]))))

    assert relations(x[:, 0]) == 1
    assert relations(x[:, 0] + 1e-10 * x[:, 1]) == 0
    nudged = x[:, 0].copy()
    nudged[7] *= 1 + 1e-11
    assert relations(nudged) == 0
    small = np.where(np.arange(50) == 7, 1e-9, x[:, 0])  # one small entry holds its own relation, relatively
    assert len(dependent_inputs(ss.Problem(network, ss.Data(np.c_[small, x[:, 1], small], x[:, :1])))) == 1
    wrong = small.copy()
    wrong[7] *= 1 + 1e-6
    assert len(dependent_inputs(ss.Problem(network, ss.Data(np.c_[small, x[:, 1], wrong], x[:, :1])))) == 0


@pytest.mark.parametrize("chosen", [(0, 1), (0, 2), (1, 2)])
def test_linear_networks_have_the_index_of_baldi_and_hornik(chosen: tuple[int, int]) -> None:
    """Index = inversions of the chosen singular values, nullity = p^2 (science notes, 9.10)."""
    generator = np.random.default_rng(1)
    x = np.linalg.qr(generator.normal(size=(200, 4)))[0] * 200**0.5
    y = x @ generator.normal(size=(4, 3)) + 0.1 * generator.normal(size=(200, 3))
    u, s, v = np.linalg.svd(y.T @ x / 200)
    picked = list(chosen)
    parameters = {"0.weight": np.sqrt(s[picked])[:, None] * v[picked], "2.weight": u[:, picked] * np.sqrt(s[picked])}
    found = certify(ss.Problem(ss.MLP((4, 2, 3), "identity", bias=False), ss.Data(x, y)), parameters)
    inversions = sum(1 for k in chosen for other in range(k) if other not in chosen)
    assert (found.index, found.nullity) == (inversions, 4)
    assert found.verdict == (Kind.SADDLE if inversions else Kind.MINIMUM)


def test_with_biases_a_shift_between_linear_layers_is_flat_too() -> None:
    generator = np.random.default_rng(2)
    x = generator.normal(size=(100, 3))
    y = x @ generator.normal(size=(3, 2)) + 0.3 * generator.normal(size=(100, 2)) + 1.0
    problem = ss.Problem(ss.MLP((3, 2, 2), "identity"), ss.Data(x, y))
    found = certify(problem, ss.train(problem, seed=0))
    assert (found.verdict, found.index, found.nullity) == (Kind.MINIMUM, 0, 2 * 2 + 2)
    assert counts(found) == {"scaling": 2, "linear units": 4}


def test_a_deep_linear_network_at_the_origin_is_no_minimum() -> None:
    """Kawaguchi 2016: no negative curvature, and the loss falls along (t, t, t)."""
    generator = np.random.default_rng(1)
    x = generator.normal(size=(200, 1))
    problem = ss.Problem(ss.MLP((1, 1, 1, 1), "identity", bias=False), ss.Data(x, x))
    zero = {f"{k}.weight": np.zeros((1, 1)) for k in (0, 2, 4)}
    assert problem.loss_of({name: value + 1e-2 for name, value in zero.items()}) < problem.loss_of(zero)
    found = certify(problem, zero)
    assert found.verdict == Kind.UNDECIDED
    assert "unused" not in counts(found)


@pytest.mark.parametrize("activation", ["tanh", "sine", "erf", "sigmoid"])
def test_sign_twins_have_the_spectrum_of_copies(activation: str) -> None:
    """g(-z) = -g(z), for the sigmoid 1 - g(z): a linear map takes the twin to a copy, and the loss with it."""
    for seed, shares in ((2, (0.4, 0.6)), (3, (1.7, -0.7))):
        point = copied(critical((2, 3, 2), activation, seed=seed), 1, 1, shares)
        network = problem_of(point).network
        with float64():
            twin = replace(point, parameters=turn(point.parameters, network.layers[1], 3))
        assert not np.allclose(twin.parameters["0.weight"], point.parameters["0.weight"])
        one, other = (certify(problem_of(p), p.parameters) for p in (point, twin))
        right(twin, other)
        assert (one.verdict, one.index, one.nullity) == (other.verdict, other.index, other.nullity)
        assert any("copy with the other sign" in reason for reason in other.reasons)
        assert other.distance < 1e-12


def test_turning_a_unit_twice_is_the_identity_and_leaves_the_outputs_alone() -> None:
    for activation in ("tanh", "sigmoid"):
        point = critical((2, 3, 2, 2), activation, seed=1)
        problem = problem_of(point)
        for layer, unit in ((1, 2), (2, 0)):
            neurons = problem.network.layers[layer]
            with float64():
                once = turn(point.parameters, neurons, unit)
                twice = turn(once, neurons, unit)
            np.testing.assert_allclose(problem.outputs_of(once), problem.outputs_of(point.parameters), rtol=1e-11)
            for name, value in point.parameters.items():
                np.testing.assert_allclose(twice[name], value, rtol=1e-15, atol=1e-15)


def test_a_share_of_zero_at_index_0_is_no_minimum_for_certain() -> None:
    """The copy may turn and send something out at once: flat to second order only (science notes, 9.6)."""
    decided = 0
    for seed in range(30):
        small = critical((2, 1, 1), "softplus", seed=seed, bias=False, residual=0.3, samples=40)
        if signs(small) != (0, 0):
            continue
        point = copied(small, 1, 0, (1.0, 0.0))
        found = certify(problem_of(point), point.parameters)
        assert (found.index, found.nullity) == signs(point)
        assert found.verdict == Kind.UNDECIDED
        assert "second order only" in found.reasons[-1] or any("second order only" in why for why in found.reasons)
        decided += 1
    assert decided > 0


def test_each_kind_says_why_and_only_some_are_constant_together() -> None:
    assert set(WHY) > CONSTANT
    assert set(WHY) - CONSTANT == {"piecewise linear", "zero share"}


def test_claimed_rows_count_once_and_unclear_ones_not_at_all() -> None:
    eye = np.eye(4)
    null = null_space({"a": eye[:2], "b": np.stack([eye[0] + eye[1], eye[2]])}, np.ones(4))
    assert null.counts == {"a": 2, "b": 1}
    np.testing.assert_allclose(null.rows @ null.rows.T, np.eye(3), atol=1e-14)
    null = null_space({"a": eye[:1], "b": (eye[0] + 1e-9 * eye[1])[None]}, np.ones(4))
    assert null.counts == {"a": 1}
    assert "unclear" in null.reasons[0]


# What is read, and what is zero.


def test_entries_that_are_unread_one_by_one_are_not_unread_together() -> None:
    """x y: at the origin no entry is read while the other is zero."""

    def evaluate(x: np.ndarray) -> tuple[float, np.ndarray]:
        return float(x[0] * x[1]), np.array([x[1], x[0], 0.0])

    assert structurally_unused(evaluate, np.zeros(3), np.ones(3, bool)).tolist() == [False, False, True]


def test_a_residual_of_many_roundings_is_not_zero_and_one_of_rounding_is() -> None:
    """8e-15 of the outputs, orthogonal to the Jacobian: 50 to 100 units in the last place; index 1 or 2 in truth."""
    for seed in range(4):
        exact = critical((2, 3, 1), seed=seed, residual=0.0, samples=25)
        assert is_zero(problem_of(exact), exact.parameters)
        off = with_residual(exact, np.random.default_rng(seed).normal(size=exact.targets.shape), 2e-14)
        assert not is_zero(problem_of(off), off.parameters)
        found = certify(problem_of(copied(off, 1, 0, (0.5, 0.5))), copied(off, 1, 0, (0.5, 0.5)).parameters)
        assert not any("loss is zero" in reason for reason in found.reasons)


def test_one_large_sample_does_not_hide_the_residuals_of_the_others() -> None:
    """Residuals of 1e-12 at outputs of about 1, beside one output of 1e6 whose rounding is 1e-10: not zero."""
    generator = np.random.default_rng(11)
    for _ in range(4):
        first, last = generator.normal(size=(2, 1)), generator.normal(size=(1, 2))
        parameters = {"0.weight": first, "2.weight": last}
        inputs = np.concatenate([[[1e6]], generator.normal(size=(13, 1))])
        z = inputs @ first.T
        outputs = (z * expit(z)) @ last.T
        off = np.where(np.arange(14)[:, None] == 0, 0.0, 1e-12 * generator.choice([-1.0, 1.0], (14, 1)))
        network = ss.MLP((1, 2, 1), "silu", bias=False)
        exact = ss.Problem(network, ss.Data(inputs, outputs))
        assert is_zero(exact, parameters)
        assert not is_zero(ss.Problem(network, ss.Data(inputs, outputs + off)), parameters)


@pytest.mark.parametrize("exponent", [0, 20, 30])
@pytest.mark.parametrize("layer", [1, 2])
def test_units_that_differ_in_the_weight_of_a_large_input_are_no_copies(exponent: int, layer: int) -> None:
    """A weight counts by what it adds: the same two units in other units of one input (layer 1) or hidden unit."""
    activation = "tanh" if layer == 1 else "relu"
    widths = (2, 2, 1) if layer == 1 else (2, 2, 2, 1)
    point = critical(widths, seed=5, activation=activation, residual=0.0, samples=30)
    parameters = {name: value.copy() for name, value in point.parameters.items()}
    names = (f"{2 * layer - 2}.weight", f"{2 * layer - 2}.bias")
    if layer == 2:
        parameters["0.bias"] += 3.0
    parameters[names[0]][1, 1], parameters[names[1]][1] = parameters[names[0]][0, 1], parameters[names[1]][0]
    point = with_residual(
        replace(point, parameters=parameters), np.random.default_rng(1).normal(size=point.targets.shape), 0.3
    )
    base = certify(problem_of(point), point.parameters)
    size, inputs = 2.0**exponent, point.inputs.copy()
    parameters[names[0]][:, 0] /= size
    if layer == 1:
        inputs[:, 0] *= size
    else:
        parameters["0.weight"][0] *= size
        parameters["0.bias"][0] *= size
    other = replace(point, parameters=parameters, inputs=inputs)
    found = certify(problem_of(other), parameters)
    assert base.groups == found.groups == ()
    assert Kind.NOT_CRITICAL not in (base.verdict, found.verdict)
    if layer == 1:
        assert base.index is not None
        assert (found.verdict, found.index, found.nullity) == (base.verdict, base.index, base.nullity)


def test_a_network_without_hidden_layers_needs_no_activation() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(50, 4)), generator.normal(size=(50, 3))
    problem = ss.Problem(ss.MLP((4, 3)), ss.Data(x, y))
    found = certify(problem, ss.train(problem, seed=0))
    assert (found.verdict, found.index, found.nullity) == (Kind.STRICT_MINIMUM, 0, 0)


def test_a_saturated_unit_keeps_all_digits_of_its_derivatives() -> None:
    """Against 50 digits: 1 - tanh(40)^2 and s(40)(1 - s(40)), and their derivatives."""
    import jax
    import mpmath

    from saddlescope.models.activations import activation

    mpmath.mp.dps = 50
    exact = {"tanh": mpmath.tanh, "sigmoid": lambda z: 1 / (1 + mpmath.exp(-z))}
    with float64():
        for name, function in exact.items():
            g = activation(name).function
            for z in (-40.0, -3.0, -1e-3, 0.7, 12.0, 40.0):
                for order, derivative in enumerate((g, jax.grad(g), jax.grad(jax.grad(g)))):
                    want = float(mpmath.diff(function, z, order)) if order else float(function(z))
                    assert float(derivative(z)) == pytest.approx(want, rel=1e-13, abs=1e-300)


# Piecewise linear units.


def with_bias(point: Critical, layer: int, bias: list[float], residual: float = 0.3) -> Critical:
    """Return the point with other biases in one layer, critical again."""
    parameters = dict(point.parameters) | {f"{2 * layer - 2}.bias": np.array(bias)}
    point = replace(point, parameters=parameters)
    return with_residual(point, np.random.default_rng(3).normal(size=point.targets.shape), residual)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_units_that_are_always_on_are_linear(activation: str) -> None:
    """Two units on at all samples: GL(2) among them, of which 2 are scales, and a shift of each."""
    point = with_bias(critical((3, 3, 2), activation, seed=1), 1, [8.0, 9.0, 0.3])
    found = certify(problem_of(point), point.parameters)
    right(point, found)
    assert counts(found) == {"scaling": 3, "linear units": 2 + 2}
    wide = copied(point, 1, 1, (0.4, 0.6))
    found = certify(problem_of(wide), wide.parameters)
    right(wide, found)
    assert counts(found)["linear units"] == 4 + 2 + 1  # the other's incoming and outgoing vectors, and the bias


def test_a_unit_on_at_few_samples_does_not_see_all_of_its_weights() -> None:
    point = critical((4, 3, 2), "relu", seed=2)
    z = point.inputs @ point.parameters["0.weight"].T
    bias = [0.3, -float(np.sort(z[:, 1])[-3:].mean()), 0.2]  # on at 2 or so of 80 samples
    point = with_bias(point, 1, bias)
    on = int(np.sum(z[:, 1] + bias[1] > 0))
    assert 0 < on < 5
    found = certify(problem_of(point), point.parameters)
    right(point, found)
    assert counts(found)["few samples"] >= 5 - on - 1


def test_samples_that_nothing_behind_reads_do_not_tell_units_apart() -> None:
    """Layer 1's units are alike at all samples at which the one unit of layer 2 that sends anything is on."""
    for seed in range(3):
        point = with_bias(critical((2, 2, 2, 2), "relu", seed=seed), 2, [0.4, -60.0])
        point = copied(point, 1, 0, (0.3, 0.7))
        found = certify(problem_of(point), point.parameters)
        truth = signs(point)
        if truth is not None and found.method != "none":
            assert found.index_range[0] <= truth[0] <= found.index_range[1]
            assert found.nullity_range[0] <= truth[1] <= found.nullity_range[1]


def test_copies_of_a_relu_with_one_output_are_one_vector_and_a_minimum_stays_one() -> None:
    """sum a_j theta_j is all that the output sees: the flat set is a manifold of equal loss, shares of 0 included."""
    for shares in ((0.3, 0.7), (1.5, -0.5), (1.0, 0.0)):
        small = critical((3, 2, 1), "relu", seed=1, residual=0.2)
        point = copied(small, 1, 1, shares)
        found = certify(problem_of(point), point.parameters)
        right(point, found)
        assert counts(found)["one vector"] == 4 - 1
        assert found.verdict == (Kind.MINIMUM if found.index == 0 else Kind.SADDLE)
        # Along the manifold, far from the point, the loss is the same as long as no sample crosses a kink.
        moved_to = {name: value.copy() for name, value in found.point.items()}
        a, theta = moved_to["2.weight"][0], moved_to["0.weight"]
        step = 1e-3 * np.random.default_rng(0).normal(size=3)
        theta[2] += step
        theta[1] -= a[2] / a[1] * step
        assert problem_of(point).loss_of(moved_to) == pytest.approx(found.loss, rel=1e-12, abs=0.0)
