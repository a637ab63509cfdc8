"""Students: the same seed ends at the same bits, and constructed students are sorted as they were made."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from saddlescope.data.data import Data
from saddlescope.errors import SettingsError
from saddlescope.models.mlp import MLP
from saddlescope.papers.overparameterised import TEACHER, sort_neurons, toy_problem
from saddlescope.precision import float64
from saddlescope.problem.problem import Problem
from saddlescope.training.students import _ending, _Linear, train_students


def test_permuting_the_seeds_permutes_the_students() -> None:
    problem = toy_problem(4, "sigmoid")
    settings = {"adam_steps": 20, "limit": 15}
    one = train_students(problem, [3, 0, 7], **settings)
    other = train_students(problem, [7, 3, 0], **settings)
    assert np.array_equal(one.losses[[2, 0, 1]], other.losses)
    assert np.array_equal(one.parameters[0]["0.weight"], other.parameters[1]["0.weight"])


def test_the_loss_is_the_problems_own() -> None:
    problem = toy_problem(4, "sigmoid")
    end = train_students(problem, [1], adam_steps=20, limit=3)
    assert end.losses[0] == pytest.approx(problem.loss_of(end.parameters[0]), rel=1e-12, abs=0.0)


def test_the_residuals_and_their_jacobian_are_torch_s() -> None:
    """More than one output and a bias, in chunks that do not divide the samples; torch differentiates for itself."""
    generator = np.random.default_rng(0)
    network = MLP((3, 4, 2), "tanh")
    data = Data(generator.normal(size=(7, 3)), generator.normal(size=(7, 2)))
    start = network.initial(1)

    def gaps(flat: torch.Tensor) -> torch.Tensor:
        w, b, a, c = torch.split(flat, [12, 4, 8, 2])
        hidden = torch.tanh(torch.from_numpy(data.inputs.copy()) @ w.reshape(4, 3).T + b)
        return ((hidden @ a.reshape(2, 4).T + c - torch.from_numpy(data.targets.copy())) / math.sqrt(14)).ravel()

    theta = np.concatenate([start[name].ravel() for name in ("0.weight", "0.bias", "2.weight", "2.bias")])
    with float64():
        found, rows = _Linear(Problem(network, data, chunk=3))(jnp.asarray(theta))
    np.testing.assert_allclose(found, gaps(torch.from_numpy(theta)).numpy(), rtol=1e-12, atol=1e-14)
    wanted = torch.autograd.functional.jacobian(gaps, torch.from_numpy(theta)).numpy()
    np.testing.assert_allclose(rows, wanted, rtol=1e-12, atol=1e-14)


def test_levenberg_marquardt_takes_the_students_on_from_where_adam_left_them() -> None:
    problem = toy_problem(4, "sigmoid")
    before = train_students(problem, [0, 1], adam_steps=50, limit=1)
    after = train_students(problem, [0, 1], adam_steps=50, limit=30)
    assert (after.losses < 0.1 * before.losses).all()
    assert (after.iterations > 0).all()


def test_a_row_keeps_the_student_s_own_numbers() -> None:
    students = train_students(toy_problem(4, "sigmoid"), [5, 2], adam_steps=10, limit=2)
    row = students.row(1)
    assert row["seed"] == 2
    assert row["loss"] == pytest.approx(students.losses[1], rel=1e-5, abs=0.0)
    assert row["gradient_norm"] == pytest.approx(students.gradient_norms[1], rel=1e-2, abs=0.0)
    assert (row["ending"], row["steps"]) == (students.endings[1], students.iterations[1])


def test_a_student_made_of_copies_a_zero_group_and_a_silent_neuron_is_sorted_so() -> None:
    extra = np.array([TEACHER[0], TEACHER[2], [2.0, 1.0], [2.0, 1.0], [2.0, 1.0], [-1.0, 3.0], [0.3, -2.0]])
    weights = {
        "0.weight": np.vstack([TEACHER, extra]),
        "2.weight": np.array([[0.25, 1.0, -1.0, 1.0, 0.75, 2.0, 0.5, 0.5, -1.0, 0.0, 0.4]]),
    }
    sorting = sort_neurons(weights, toy_problem(11, "sigmoid").network.neurons(1))
    assert sorting.copies == (2, 1, 2, 1)
    assert (sorting.zero_groups, sorting.silent, sorting.other) == ((3,), 1, 1)


def test_a_penalty_is_refused() -> None:
    plain = toy_problem(4, "sigmoid")
    inputs = np.asarray(plain.inputs).reshape(-1, 2)
    problem = Problem(plain.network, Data(inputs, np.zeros((len(inputs), 1))), weight_decay=0.1)
    with pytest.raises(SettingsError, match="penalty"):
        train_students(problem, [0])


def test_a_small_gradient_near_zero_loss_is_no_critical_point() -> None:
    assert _ending(1.2e-20, 1e-13, 1e-20, 1e-12) == "not converged"
    assert _ending(3e-6, 5e-17, 1e-20, 1e-12) == "critical point"
    assert _ending(9e-21, 1e-13, 1e-20, 1e-12) == "zero loss"
