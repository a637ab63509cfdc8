"""Loss, gradient and curvature against torch, exact sums and finite differences."""

import math
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saddlescope.data.data import Data
from saddlescope.errors import SettingsError, ShapeError
from saddlescope.models.activations import ACTIVATIONS
from saddlescope.models.mlp import MLP
from saddlescope.precision import float64
from saddlescope.problem.kronecker import apply, factors
from saddlescope.problem.problem import Problem
from saddlescope.problem.shallow import NUMBERS, is_shallow

TORCH = {
    "relu": torch.relu,
    "leaky_relu": torch.nn.functional.leaky_relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": torch.nn.functional.softplus,
    "gelu": torch.nn.functional.gelu,
    "silu": torch.nn.functional.silu,
    "erf": lambda z: torch.erf(z / math.sqrt(2)),
    "exp": torch.exp,
    "identity": lambda z: z,
    "sine": torch.sin,
    "sigmoid_softplus": lambda z: torch.sigmoid(4 * z) + torch.nn.functional.softplus(z),
    "gelu_tanh": torch.nn.GELU("tanh"),
    "mish": torch.nn.functional.mish,
    "elu": torch.nn.functional.elu,
    "selu": torch.nn.functional.selu,
    "relu6": torch.nn.functional.relu6,
    "hardswish": torch.nn.functional.hardswish,
}
PAIRS = [(name, "mse") for name in ACTIVATIONS]  # each activation once, each loss with a smooth and a kinked one
PAIRS += [(name, loss) for name in ("gelu", "relu") for loss in ("normalised", "cross_entropy")]


def _data(samples, inputs=3, outputs=2, seed=0):
    generator = np.random.default_rng(seed)
    targets = generator.normal(size=(samples, outputs))
    return Data(generator.normal(size=(samples, inputs)), targets, generator.integers(0, outputs, samples))


def _torch_outputs(network, data, theta):
    here, at = torch.from_numpy(np.array(data.inputs)), 0
    for k, (n, m) in enumerate(zip(network.widths[:-1], network.widths[1:], strict=True)):
        weight = theta[at : at + n * m].reshape(m, n)
        bias = theta[at + n * m : at + n * m + m]
        at += n * m + m
        here = torch.nn.functional.linear(here, weight, bias)
        if k < network.depth - 1:
            here = TORCH[network.activation](here)
    return here


def _torch_loss(network, data, loss):
    y, labels = torch.from_numpy(np.array(data.targets)), torch.from_numpy(np.array(data.labels))

    def value(theta):
        here = _torch_outputs(network, data, theta)
        if loss == "cross_entropy":
            return torch.nn.functional.cross_entropy(here, labels)
        scale = (y**2).mean() if loss == "normalised" else 1.0
        return torch.nn.functional.mse_loss(here, y) / scale

    return value


@eqx.filter_jit
def _value_gradient_hessian(problem, theta):
    return problem.value_and_gradient(theta), problem.hessian(theta)


@pytest.mark.parametrize(("activation", "loss"), PAIRS)
def test_value_gradient_and_hessian_agree_with_torch(activation, loss):
    network, data = MLP((3, 3, 2, 2), activation), _data(9)
    problem = Problem(network, data, loss=loss, chunk=4)
    reference = _torch_loss(network, data, loss)
    with float64():
        theta = network.layout.flatten(network.initial(1))
        there = torch.from_numpy(np.array(theta))
        (value, gradient), hessian = _value_gradient_hessian(problem, theta)
        assert float(value) == pytest.approx(float(reference(there)), rel=1e-13, abs=0.0)
        np.testing.assert_allclose(gradient, torch.func.grad(reference)(there).numpy(), rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(hessian, torch.func.hessian(reference)(there).numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_the_gauss_newton_product_is_jacobian_transposed_times_bend_times_jacobian(loss):
    network, data = MLP((3, 4, 2), "tanh"), _data(7)
    problem = Problem(network, data, loss=loss, chunk=3, weight_decay=0.3)
    with float64():
        theta = network.layout.flatten(network.initial(1))
        v = np.random.default_rng(3).normal(size=theta.shape)
        product = eqx.filter_jit(Problem.gauss_newton_product)(problem, theta, jnp.asarray(v))
    there = torch.from_numpy(np.array(theta))
    jacobian = torch.func.jacrev(lambda at: _torch_outputs(network, data, at))(there).numpy()
    outputs = _torch_outputs(network, data, there).numpy()
    expected = 0.3 * v
    for one, out in zip(jacobian, outputs, strict=True):
        share = np.exp(out) / np.exp(out).sum()
        bend = np.eye(2) if loss == "mse" else np.diag(share) - np.outer(share, share)
        expected += one.T @ bend @ one @ v / 7
    np.testing.assert_allclose(product, expected, rtol=1e-11)


def test_the_hessian_product_is_the_dense_hessian_of_torch_times_v():
    network, data = MLP((3, 4, 2), "sigmoid"), _data(11)
    problem = Problem(network, data, loss="cross_entropy", chunk=4)
    with float64():
        theta = network.layout.flatten(network.initial(1))
        v = np.random.default_rng(3).normal(size=theta.shape)
        product = eqx.filter_jit(Problem.hessian_product)(problem, theta, jnp.asarray(v))
    dense = torch.func.hessian(_torch_loss(network, data, "cross_entropy"))(torch.from_numpy(np.array(theta)))
    np.testing.assert_allclose(product, dense.numpy() @ v, rtol=1e-11, atol=1e-14)


def _hessian_and_products(problem, theta):
    return problem.hessian(theta), jax.vmap(lambda v: problem.hessian_product(theta, v))(jnp.eye(theta.shape[0]))


@pytest.mark.parametrize("activation", ["tanh", "gelu", "relu"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("outputs", "loss"), [(1, "mse"), (3, "normalised"), (3, "cross_entropy")])
@pytest.mark.parametrize("chunk", [None, 7])
def test_the_hessian_written_out_for_one_hidden_layer_is_that_of_the_products(activation, bias, outputs, loss, chunk):
    network = MLP((3, 4, outputs), activation, bias=bias)
    assert is_shallow(network, 20)
    problem = Problem(network, _data(20, outputs=outputs), loss=loss, chunk=chunk, weight_decay=0.3)
    with float64():
        theta = jnp.asarray(np.random.default_rng(1).normal(size=network.layout.size))
        hessian, products = eqx.filter_jit(_hessian_and_products)(problem, theta)
        scale = float(jnp.max(jnp.abs(products)))
        np.testing.assert_allclose(hessian, products, rtol=1e-12, atol=1e-13 * scale)


def test_only_one_hidden_layer_and_a_bounded_memory_are_written_out():
    assert not is_shallow(MLP((3, 4, 4, 1), "tanh"), 20)
    assert not is_shallow(MLP((3, 2), "tanh"), 20)
    network = MLP((3, 4, 2), "tanh")
    most = NUMBERS // (2 * network.layout.size)
    assert is_shallow(network, most)
    assert not is_shallow(network, most + 1)


def test_the_hessian_product_is_the_gradient_s_difference_quotient():
    network, data = MLP((3, 4, 2), "softplus"), _data(7)
    problem = Problem(network, data, loss="cross_entropy", weight_decay=0.1, norm_barrier=0.1)
    with float64():
        theta = 30 * network.layout.flatten(network.initial(1)) + 40  # beyond the norm barrier's radius
        v = jnp.asarray(np.random.default_rng(3).normal(size=theta.shape))
        step = 1e-5
        quotient = (problem.gradient(theta + step * v) - problem.gradient(theta - step * v)) / (2 * step)
        np.testing.assert_allclose(problem.hessian_product(theta, v), quotient, rtol=1e-6, atol=1e-5)


@eqx.filter_jit
def _values(problems, theta):
    return [problem.value(theta) for problem in problems]


@pytest.mark.parametrize("samples", range(1, 65))
def test_the_sum_is_exact_for_every_number_of_samples_and_chunk(samples):
    network = MLP((2, 2), "identity")
    generator = np.random.default_rng(samples)
    data = Data(generator.normal(size=(samples, 2)), generator.normal(size=(samples, 2)))
    start = network.initial(0)
    outputs = data.inputs @ start["0.weight"].T + start["0.bias"]
    expected = math.fsum(((outputs - data.targets) ** 2).ravel()) / (2 * samples)
    chunks = sorted({1, 2, 7, 16, max(1, samples - 1), samples, samples + 1})
    problems = [Problem(network, data, chunk=chunk) for chunk in chunks]
    with float64():
        values = _values(problems, network.layout.flatten(start))
    assert [float(value) for value in values] == pytest.approx([expected] * len(chunks), rel=1e-14, abs=0.0)


@pytest.mark.parametrize("samples", [1, 2, 7, 8, 9, 20])
def test_gradient_and_outputs_do_not_depend_on_the_chunk(samples):
    network, data = MLP((3, 2, 2), "tanh"), _data(samples)
    start = network.initial(0)
    whole = Problem(network, data)
    there = torch.from_numpy(np.concatenate([value.ravel() for value in start.values()]))
    gradient = torch.func.grad(_torch_loss(network, data, "mse"))(there).numpy()
    for chunk in {2, 7, 8}:
        problem = Problem(network, data, chunk=chunk)
        assert problem.inputs.shape == (-(-samples // min(chunk, samples)), min(chunk, samples), 3)
        np.testing.assert_allclose(
            np.concatenate([value.ravel() for value in problem.gradient_of(start).values()]), gradient, rtol=1e-12
        )
        np.testing.assert_allclose(problem.outputs_of(start), _torch_outputs(network, data, there), rtol=1e-13)
        hits = whole.outputs_of(start).argmax(1) == data.labels
        assert problem.accuracy(start) == pytest.approx(np.mean(hits), rel=1e-15, abs=0.0)  # not float32's mean
        assert problem.fingerprint(start) == whole.fingerprint(start)


@given(st.permutations(range(10)), st.integers(1, 12))
def test_the_order_of_the_data_and_the_chunk_do_not_matter(order, chunk):
    network, data = MLP((3, 4, 2), "gelu"), _data(10)
    mixed = Data(data.inputs[order], data.targets[order], data.labels[order])
    start = network.initial(0)
    expected = Problem(network, data).loss_of(start)
    assert Problem(network, mixed, chunk=chunk).loss_of(start) == pytest.approx(expected, rel=1e-13, abs=0.0)


def test_a_user_s_loss_equals_the_built_in_one():
    network, data = MLP((3, 4, 2), "tanh"), _data(10)
    own = Problem(network, data, loss=lambda out, target: jnp.mean((out - target) ** 2, axis=1), chunk=4)
    start = network.initial(0)
    assert own.loss_of(start) == pytest.approx(Problem(network, data).loss_of(start), rel=1e-14, abs=0.0)


def test_a_user_s_loss_is_given_labels_when_there_are_no_targets():
    network, data = MLP((3, 4, 2), "tanh"), _data(10)
    labelled = Data(data.inputs, labels=data.labels)
    own = Problem(network, labelled, chunk=4, loss=lambda out, label: (out[:, 0] - label) ** 2)
    outputs = own.outputs_of(network.initial(0))
    expected = np.mean((outputs[:, 0] - data.labels) ** 2)
    assert own.loss_of(network.initial(0)) == pytest.approx(expected, rel=1e-13, abs=0.0)


@pytest.mark.parametrize(
    ("loss", "shape"),
    [(lambda out, y: jnp.mean((out - y) ** 2), r"\(\)"), (lambda out, y: (out - y) ** 2, r"\(4, 2\)")],
)
def test_a_loss_that_is_not_one_number_a_sample_is_refused(loss, shape):
    with pytest.raises(ShapeError, match=rf"shape of loss\(outputs, targets\)={shape}; expected \(4,\)"):
        Problem(MLP((3, 2)), _data(10), loss=loss, chunk=4)


def test_cross_entropy_survives_huge_logits():
    network = MLP((1, 2), "identity", bias=False)
    data = Data(np.array([[1.0]]), labels=np.array([1]))
    weights = {"0.weight": np.array([[1e4], [0.0]])}
    problem = Problem(network, data, loss="cross_entropy")
    assert problem.loss_of(weights) == pytest.approx(1e4)
    np.testing.assert_allclose(problem.gradient_of(weights)["0.weight"], [[1.0], [-1.0]])


def test_weight_decay_adds_half_the_squared_norm():
    network, data = MLP((3, 4, 2), "tanh"), _data(10)
    start = network.initial(0)
    square = sum(float(np.sum(value**2)) for value in start.values())
    extra = Problem(network, data, weight_decay=0.3).loss_of(start) - Problem(network, data).loss_of(start)
    assert extra == pytest.approx(0.15 * square, rel=1e-10)


def test_the_norm_barrier_is_zero_inside_its_radius_and_cubic_outside():
    network, data = MLP((2, 2), "identity", bias=False), _data(5, inputs=2)
    plain, barred = Problem(network, data), Problem(network, data, norm_barrier=0.7)
    inside = {"0.weight": np.full((2, 2), 44.7)}  # |theta|^2 / 2 = 3996.2, R = 4000
    assert barred.loss_of(inside) == plain.loss_of(inside)
    outside = {"0.weight": np.full((2, 2), 50.0)}  # |theta|^2 / 2 = 5000
    assert barred.loss_of(outside) - plain.loss_of(outside) == pytest.approx(0.7 / 3 * 1000.0**3, rel=1e-12)


def test_accuracy_counts_the_largest_output():
    network = MLP((2, 2), "identity", bias=False)
    data = Data(np.array([[1.0, 0], [0, 1], [2, 1], [0, 3]]), labels=np.array([0, 1, 1, 1]))
    problem = Problem(network, data, loss="cross_entropy", chunk=3)
    assert problem.accuracy({"0.weight": np.eye(2)}) == 0.75


def test_the_kronecker_factors_solve_a_single_linear_layer_exactly():
    network, data = MLP((3, 2), "identity"), _data(30)
    problem = Problem(network, data, chunk=7)
    with float64():
        theta = network.layout.flatten(network.initial(0))
        v = jnp.asarray(np.random.default_rng(3).normal(size=theta.shape))
        solved = apply(network, factors(problem, theta), jnp.asarray(0.0), v)
        np.testing.assert_allclose(problem.hessian_product(theta, solved), v, rtol=1e-10)


def test_changing_the_caller_s_array_afterwards_changes_nothing():
    room = np.ones(72)
    aligned = room[-room.ctypes.data % 64 // 8 :][:60].reshape(20, 3)  # JAX shares memory at multiples of 64
    network, data = MLP((3, 2)), Data(aligned, np.zeros((20, 2)))
    start = network.initial(0)
    problem = Problem(network, data)
    before = problem.loss_of(start)
    aligned[...] = 0.0
    assert problem.loss_of(start) == before


def test_the_fingerprint_knows_data_and_parameters():
    network, data = MLP((3, 2)), _data(5)
    start, other = network.initial(0), network.initial(1)
    first = Problem(network, data).fingerprint(start)
    turned = {name: np.asfortranarray(value) for name, value in start.items()}
    assert Problem(network, data).fingerprint(turned) == first
    assert Problem(network, data).fingerprint(other)["data"] == first["data"]
    assert Problem(network, data).fingerprint(other)["parameters"] != first["parameters"]
    moved = Data(data.inputs, data.targets + 1e-15, data.labels)
    assert Problem(network, moved).fingerprint(start)["data"] != first["data"]


def test_float32_users_get_float64_and_keep_their_setting():
    network, data = MLP((3, 4, 2), "tanh"), _data(10)
    assert not jax.config.jax_enable_x64
    gradient = Problem(network, data).gradient_of(network.initial(0))
    assert all(value.dtype == np.float64 for value in gradient.values())
    assert jnp.ones(1).dtype == jnp.float32


@pytest.mark.parametrize(
    ("build", "error", "text"),
    [
        (lambda: Problem(MLP((4, 2)), _data(5)), ShapeError, "inputs per sample=3; expected 4"),
        (lambda: Problem(MLP((3, 5)), _data(5)), ShapeError, "targets per sample=2; expected 5"),
        (lambda: Problem(MLP((3, 1)), _data(9), loss="cross_entropy"), ShapeError, "label=1; expected 0 to 0"),
        (lambda: Problem(MLP((3, 2)), Data(np.ones((2, 3)), labels=np.zeros(2, int))), ShapeError, "targets"),
        (lambda: Problem(MLP((3, 2)), _data(5), loss="hinge"), SettingsError, "loss=hinge"),
        (lambda: Problem(MLP((3, 2)), _data(5), weight_decay=-1.0), SettingsError, "weight_decay=-1.0"),
        (lambda: Problem(MLP((3, 2)), _data(5), weight_decay=math.inf), SettingsError, "weight_decay=inf"),
        (lambda: Problem(MLP((3, 2)), _data(5), norm_barrier=math.nan), SettingsError, "norm_barrier=nan"),
        (lambda: Problem(MLP((3, 2)), _data(5), chunk=0), SettingsError, "chunk=0; expected an integer"),
        (lambda: Problem(MLP((3, 2)), _data(5), loss=3), SettingsError, "loss=3"),
        (
            lambda: Problem(MLP((3, 2)), Data(np.ones((2, 3)), labels=np.array([-1, 0])), loss="cross_entropy"),
            ShapeError,
            "label=-1; expected 0 to 1",
        ),
        (
            lambda: Problem(MLP((3, 2)), Data(np.ones((2, 3)), np.ones((2, 2))), loss="cross_entropy"),
            ShapeError,
            "needs labels",
        ),
        (
            lambda: Problem(MLP((3, 2)), Data(np.ones((2, 3)), np.zeros((2, 2))), loss="normalised"),
            ShapeError,
            "all targets are zero",
        ),
        (
            lambda: Problem(MLP((3, 2)), _data(5)).loss_of({"0.weight": np.ones((2, 3))}),
            ShapeError,
            "do not fit",
        ),
    ],
)
def test_what_does_not_fit_is_named(build, error, text):
    with pytest.raises(error, match=text):
        build()


def test_equal_shapes_share_one_compiled_program():
    network = MLP((3, 4, 2), "tanh")
    count = 0

    @jax.jit
    def value(problem, theta):
        nonlocal count
        count += 1
        return problem.value(theta)

    with float64():
        theta = network.layout.flatten(network.initial(0))
        for seed in range(3):
            value(Problem(network, _data(8, seed=seed), weight_decay=0.1 * seed), theta)
    assert count == 1


def test_a_stand_in_for_data_is_enough():
    stand_in = SimpleNamespace(inputs=np.ones((2, 3)), targets=np.ones((2, 2)), labels=None)
    assert Problem(MLP((3, 2)), stand_in).samples == 2


# Binary and multi-label cross entropy.


@pytest.mark.parametrize("outputs", [1, 3])
def test_binary_cross_entropy_is_torchs_with_gradient_and_hessian(outputs):
    generator = np.random.default_rng(4)
    network = MLP((3, 4, outputs), "tanh")
    x, answers = generator.normal(size=(11, 3)), generator.uniform(size=(11, outputs))
    answers[:6] = np.round(answers[:6])
    problem = Problem(network, Data(x, answers), loss="binary_cross_entropy", chunk=4, weight_decay=0.1)
    with float64():
        theta = jnp.asarray(3.0 * generator.normal(size=network.layout.size))

        def loss(at):
            logits = _torch_outputs(network, SimpleNamespace(inputs=x), at)
            bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor(answers))
            return bce + 0.05 * (at**2).sum()

        at = torch.tensor(np.array(theta), requires_grad=True)
        loss(at).backward()
        hessian = torch.autograd.functional.hessian(loss, torch.tensor(np.array(theta))).numpy()
        assert float(problem.value(theta)) == pytest.approx(float(loss(at).detach()), rel=1e-14)
        np.testing.assert_allclose(problem.gradient(theta), at.grad.numpy(), rtol=1e-11, atol=1e-14)
        np.testing.assert_allclose(problem.hessian(theta), hessian, rtol=1e-10, atol=1e-13)


def test_labels_of_one_output_are_answers_and_large_logits_neither_overflow_nor_vanish():
    network, x = MLP((1, 1), "identity"), np.array([[1.0], [-1.0], [2.0]])
    problem = Problem(network, Data(x, labels=np.array([1, 0, 0])), loss="binary_cross_entropy")
    parameters = {"0.weight": np.array([[800.0]]), "0.bias": np.zeros(1)}
    assert problem.loss_of(parameters) == pytest.approx(1600.0 / 3.0, rel=1e-15)
    assert problem.accuracy(parameters) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"targets": [[0.0, 1.5]]}, r"answers between 0 and 1: largest of targets=1.5"),
        ({"targets": [[0.0, -0.5]]}, r"smallest of targets=-0.5"),
        ({"targets": [[0.0]]}, r"targets per sample=\(1,\); expected \(2,\)"),
        ({"labels": [1]}, r"labels per sample=\(1,\); expected \(2,\).*of several give targets"),
    ],
)
def test_data_that_are_no_answers_are_refused(data, text):
    with pytest.raises(ShapeError, match=text):
        Problem(MLP((3, 2), "identity"), Data(np.ones((1, 3)), **data), loss="binary_cross_entropy")
