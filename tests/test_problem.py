"""Loss, gradient and curvature against torch, exact sums and finite differences."""

import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saddlescope.errors import SettingsError, ShapeError
from saddlescope.precision import float64
from saddlescope.problem.activations import ACTIVATIONS
from saddlescope.problem.data import Data
from saddlescope.problem.kronecker import apply, factors
from saddlescope.problem.networks import Perceptron
from saddlescope.problem.problem import Problem

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
}
LOSSES = ("mse", "normalised", "cross_entropy")


def _data(samples, inputs=3, outputs=2, seed=0):
    generator = np.random.default_rng(seed)
    targets = generator.normal(size=(samples, outputs))
    return Data(generator.normal(size=(samples, inputs)), targets, generator.integers(0, outputs, samples))


def _torch_loss(network, data, loss):
    x, y, labels = (torch.from_numpy(np.array(v)) for v in (data.inputs, data.targets, data.labels))

    def value(theta):
        here, at = x, 0
        for k, (n, m) in enumerate(zip(network.widths[:-1], network.widths[1:], strict=True)):
            weight = theta[at : at + n * m].reshape(m, n)
            bias = theta[at + n * m : at + n * m + m]
            at += n * m + m
            here = torch.nn.functional.linear(here, weight, bias)
            if k < network.depth - 1:
                here = TORCH[network.activation](here)
        if loss == "cross_entropy":
            return torch.nn.functional.cross_entropy(here, labels)
        scale = (y**2).mean() if loss == "normalised" else 1.0
        return torch.nn.functional.mse_loss(here, y) / scale

    return value


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_value_gradient_and_hessian_agree_with_torch(activation, loss):
    network, data = Perceptron((3, 4, 3, 2), activation), _data(9)
    problem = Problem(network, data, loss=loss, chunk=4)
    reference = _torch_loss(network, data, loss)
    with float64():
        theta = network.layout.flatten(network.initial(1))
        there = torch.from_numpy(np.array(theta))
        value, gradient = problem.value_and_gradient(theta)
        hessian = problem.hessian(theta)
        assert float(value) == pytest.approx(float(reference(there)), rel=1e-13)
        np.testing.assert_allclose(gradient, torch.func.grad(reference)(there).numpy(), rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(hessian, torch.func.hessian(reference)(there).numpy(), rtol=1e-9, atol=1e-12)


def test_the_gauss_newton_product_is_jacobian_transposed_times_jacobian():
    network, data = Perceptron((3, 4, 2), "tanh"), _data(7)
    problem = Problem(network, data, chunk=3)
    with float64():
        theta = network.layout.flatten(network.initial(1))
        jacobian = np.asarray(jax.jacfwd(problem.outputs)(theta)).reshape(14, -1)
        v = np.random.default_rng(3).normal(size=theta.shape)
        product = problem.gauss_newton_product(theta, jnp.asarray(v))
    np.testing.assert_allclose(product, 2 / 14 * jacobian.T @ (jacobian @ v), rtol=1e-11)


def test_the_hessian_product_is_the_gradient_s_difference_quotient():
    network, data = Perceptron((3, 4, 2), "softplus"), _data(7)
    problem = Problem(network, data, loss="cross_entropy", weight_decay=0.1, norm_barrier=0.1)
    with float64():
        theta = 30 * network.layout.flatten(network.initial(1)) + 40  # beyond the norm barrier's radius
        v = jnp.asarray(np.random.default_rng(3).normal(size=theta.shape))
        step = 1e-5
        quotient = (problem.gradient(theta + step * v) - problem.gradient(theta - step * v)) / (2 * step)
        np.testing.assert_allclose(problem.hessian_product(theta, v), quotient, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("samples", range(1, 65))
def test_the_sum_is_exact_for_every_number_of_samples_and_chunk(samples):
    network = Perceptron((2, 2), "identity")
    generator = np.random.default_rng(samples)
    data = Data(generator.normal(size=(samples, 2)), generator.normal(size=(samples, 2)))
    start = network.initial(0)
    outputs = data.inputs @ start["0.weight"].T + start["0.bias"]
    expected = math.fsum(((outputs - data.targets) ** 2).ravel()) / (2 * samples)
    for chunk in {1, 7, 16, max(1, samples - 1), samples, samples + 1}:
        assert Problem(network, data, chunk=chunk).loss_of(start) == pytest.approx(expected, rel=1e-14)


@given(st.permutations(range(10)), st.integers(1, 12))
def test_the_order_of_the_data_and_the_chunk_do_not_matter(order, chunk):
    network, data = Perceptron((3, 4, 2), "gelu"), _data(10)
    mixed = Data(data.inputs[order], data.targets[order], data.labels[order])
    start = network.initial(0)
    expected = Problem(network, data).loss_of(start)
    assert Problem(network, mixed, chunk=chunk).loss_of(start) == pytest.approx(expected, rel=1e-13)


def test_a_user_s_loss_equals_the_built_in_one():
    network, data = Perceptron((3, 4, 2), "tanh"), _data(10)
    own = Problem(network, data, loss=lambda out, target: jnp.mean((out - target) ** 2, axis=1), chunk=4)
    start = network.initial(0)
    assert own.loss_of(start) == pytest.approx(Problem(network, data).loss_of(start), rel=1e-14)


def test_cross_entropy_survives_huge_logits():
    network = Perceptron((1, 2), "identity", bias=False)
    data = Data(np.array([[1.0]]), labels=np.array([1]))
    weights = {"0.weight": np.array([[1e4], [0.0]])}
    assert Problem(network, data, loss="cross_entropy").loss_of(weights) == pytest.approx(1e4)


def test_weight_decay_adds_half_the_squared_norm():
    network, data = Perceptron((3, 4, 2), "tanh"), _data(10)
    start = network.initial(0)
    square = sum(float(np.sum(value**2)) for value in start.values())
    extra = Problem(network, data, weight_decay=0.3).loss_of(start) - Problem(network, data).loss_of(start)
    assert extra == pytest.approx(0.15 * square, rel=1e-10)


def test_accuracy_counts_the_largest_output():
    network = Perceptron((2, 2), "identity", bias=False)
    data = Data(np.array([[1.0, 0], [0, 1], [2, 1], [0, 3]]), labels=np.array([0, 1, 1, 1]))
    problem = Problem(network, data, loss="cross_entropy", chunk=3)
    assert problem.accuracy({"0.weight": np.eye(2)}) == 0.75


def test_the_kronecker_factors_solve_a_single_linear_layer_exactly():
    network, data = Perceptron((3, 2), "identity"), _data(30)
    problem = Problem(network, data, chunk=7)
    with float64():
        theta = network.layout.flatten(network.initial(0))
        v = jnp.asarray(np.random.default_rng(3).normal(size=theta.shape))
        solved = apply(network, factors(problem, theta), jnp.asarray(0.0), v)
        np.testing.assert_allclose(problem.hessian_product(theta, solved), v, rtol=1e-10)


def test_float32_users_get_float64_and_keep_their_setting():
    network, data = Perceptron((3, 4, 2), "tanh"), _data(10)
    assert not jax.config.jax_enable_x64
    gradient = Problem(network, data).gradient_of(network.initial(0))
    assert all(value.dtype == np.float64 for value in gradient.values())
    assert jnp.ones(1).dtype == jnp.float32


@pytest.mark.parametrize(
    ("build", "error", "text"),
    [
        (lambda: Problem(Perceptron((4, 2)), _data(5)), ShapeError, "inputs per sample=3; expected 4"),
        (lambda: Problem(Perceptron((3, 5)), _data(5)), ShapeError, "targets per sample=2; expected 5"),
        (lambda: Problem(Perceptron((3, 1)), _data(9), loss="cross_entropy"), ShapeError, "label=1; expected 0 to 0"),
        (lambda: Problem(Perceptron((3, 2)), Data(np.ones((2, 3)), labels=np.zeros(2, int))), ShapeError, "targets"),
        (lambda: Problem(Perceptron((3, 2)), _data(5), loss="hinge"), SettingsError, "loss=hinge"),
        (lambda: Problem(Perceptron((3, 2)), _data(5), weight_decay=-1.0), SettingsError, "weight_decay=-1.0"),
        (lambda: Perceptron((3, 2), "tanhh"), SettingsError, "activation=tanhh.*Did you mean tanh"),
        (lambda: Perceptron((3,)), SettingsError, "widths"),
        (
            lambda: Problem(Perceptron((3, 2)), _data(5)).loss_of({"0.weight": np.ones((2, 3))}),
            ShapeError,
            "do not fit",
        ),
    ],
)
def test_what_does_not_fit_is_named(build, error, text):
    with pytest.raises(error, match=text):
        build()


def test_equal_shapes_share_one_compiled_program():
    network = Perceptron((3, 4, 2), "tanh")
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
    assert Problem(Perceptron((3, 2)), stand_in).samples == 2
