"""Students: the same seed ends at the same bits, and constructed students are sorted as they were made."""

import numpy as np
import pytest

from saddlescope.errors import SettingsError
from saddlescope.problem.data import Data
from saddlescope.problem.problem import Problem
from saddlescope.study.overparameterised import TEACHER, sort_neurons, toy_problem
from saddlescope.training.students import _ending, train_students


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
    assert end.losses[0] == pytest.approx(problem.loss_of(end.parameters[0]), rel=1e-12)


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
    assert _ending(1.2e-20, 1e-13, 1.0, 1e-20, 1e-12) == "not converged"
    assert _ending(3e-6, 5e-17, 1.0, 1e-20, 1e-12) == "critical point"
    assert _ending(9e-21, 1e-13, 1.0, 1e-20, 1e-12) == "zero loss"
    assert _ending(3e-6, 1e-7, 40.0, 1e-20, 1e-12) == "channel suspected"
