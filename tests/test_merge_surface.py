"""The merge surface against losses of parameter sets written out by hand, its symmetry, and its lines of equal loss."""

import numpy as np
import pytest

from saddlescope.data.sources import toy, toy_teacher
from saddlescope.errors import SettingsError
from saddlescope.paths.find import find_path
from saddlescope.paths.result import PathSettings
from saddlescope.problem.problem import Problem
from saddlescope.workflows.merge_surface import merge_surface


@pytest.fixture(scope="module")
def found():
    network, teacher = toy_teacher("tanh", 0)
    problem = Problem(network, toy("tanh", 0))
    path = find_path(problem, teacher, layer=1, pair=(3, 4), settings=PathSettings(steps=20))
    return problem, path, merge_surface(problem, path, steps=11)


def test_its_entries_are_the_losses_of_the_networks_described(found):
    problem, path, surface = found
    point = path.permutation_point.parameters
    rows = {name: array[-2] for name, array in path.parameters.items()}  # the last distance above zero
    gap = np.append(rows["0.weight"][4] - rows["0.weight"][3], rows["0.bias"][4] - rows["0.bias"][3])
    unit = gap / np.linalg.norm(gap)
    for i, j in ((0, 0), (2, 9), (5, 5), (10, 3)):
        moved = {name: value.copy() for name, value in point.items()}
        for neuron, sign in ((3, -0.5), (4, 0.5)):
            moved["0.weight"][neuron] += sign * surface.differences[i] * unit[:2]
            moved["0.bias"][neuron] += sign * surface.differences[i] * unit[2]
        total = point["2.weight"][:, 3] + point["2.weight"][:, 4]
        moved["2.weight"][:, 3], moved["2.weight"][:, 4] = surface.shares[j] * total, (1 - surface.shares[j]) * total
        assert surface.losses[i, j] == pytest.approx(problem.loss_of(moved), rel=1e-10, abs=0.0)


def test_exchanging_the_pair_is_its_symmetry_and_zero_difference_a_line_of_equal_loss(found):
    _, path, surface = found
    np.testing.assert_allclose(surface.losses, surface.losses[::-1, ::-1], rtol=1e-9)
    np.testing.assert_allclose(surface.losses[5], path.loss_at_point, rtol=1e-9)
    assert np.ptp(surface.losses) > 10 * path.loss_at_point


def test_the_trace_begins_at_the_minimum_and_ends_at_the_point(found):
    _, path, surface = found
    assert abs(surface.trace[0, 0]) <= path.distances[0] + 1e-12
    assert surface.trace[-1, 0] == 0.0
    np.testing.assert_array_equal(surface.trace[:, 2], path.losses)
    assert surface.trace[-1, 1] == pytest.approx(0.5, abs=1e-6)  # tied: the difference of the outgoing weights is gone


@pytest.mark.parametrize(("steps", "reach"), [(4, 1.0), (1, 1.0), (5, 0.0)])
def test_grids_that_make_no_sense_are_refused(found, steps, reach):
    problem, path, _ = found
    with pytest.raises(SettingsError, match="not a grid"):
        merge_surface(problem, path, steps=steps, reach=reach)
