"""Training reaches what it says: a stated gradient norm, checked by torch; least squares against NumPy."""

import numpy as np
import pytest

from saddlescope.data.data import Data
from saddlescope.data.sources import toy
from saddlescope.errors import NonFiniteError, SettingsError
from saddlescope.models.mlp import MLP
from saddlescope.outcomes import Outcome
from saddlescope.problem.problem import Problem
from saddlescope.training.train import train


def test_a_linear_network_reaches_the_least_squares_solution(generator):
    x, y = generator.normal(size=(50, 3)), generator.normal(size=(50, 2))
    network = MLP((3, 2), "identity")
    result = train(Problem(network, Data(x, y)), adam_steps=20)
    solution, *_ = np.linalg.lstsq(np.hstack([x, np.ones((50, 1))]), y, rcond=None)
    assert result.outcome is Outcome.CONVERGED
    np.testing.assert_allclose(result.parameters["0.weight"], solution[:3].T, atol=1e-8)
    np.testing.assert_allclose(result.parameters["0.bias"], solution[3], atol=1e-8)


def test_a_toy_student_reaches_a_gradient_norm_of_1e_10():
    network = MLP((2, 5, 1), "tanh")
    problem = Problem(network, toy("tanh", 0), weight_decay=1e-4)
    result = train(problem, seed=1, adam_steps=300)
    gradient = problem.gradient_of(result.parameters)
    norm = np.sqrt(sum(np.sum(value**2) for value in gradient.values()))
    assert result.outcome is Outcome.CONVERGED
    assert norm <= 1e-10
    assert norm == pytest.approx(result.gradient_norm, abs=1e-12)
    assert result.losses[-1] < result.losses[0]


def test_the_same_seed_gives_the_same_bits():
    network = MLP((2, 4, 1), "softplus")
    problem = Problem(network, toy("softplus", 0))
    first, second = (train(problem, seed=3, adam_steps=30, max_newton=5) for _ in range(2))
    other = train(problem, seed=4, adam_steps=30, max_newton=5)
    for name, value in first.parameters.items():
        np.testing.assert_array_equal(value, second.parameters[name])
    assert not np.array_equal(first.parameters["0.weight"], other.parameters["0.weight"])


def test_too_few_steps_are_reported_with_their_residual():
    network = MLP((2, 4, 1), "tanh")
    result = train(Problem(network, toy("tanh", 0)), adam_steps=5, max_newton=1)
    assert result.outcome is Outcome.MAX_STEPS
    assert result.gradient_norm > 1e-10


def test_wrong_settings_are_named():
    network = MLP((2, 4, 1), "tanh")
    problem = Problem(network, toy("tanh", 0))
    with pytest.raises(SettingsError, match="tolerance=0"):
        train(problem, tolerance=0.0)
    with pytest.raises(NonFiniteError, match="not finite"):
        train(problem, initial={**network.initial(0), "0.bias": np.full(4, np.inf)})
