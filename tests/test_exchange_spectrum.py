"""The Hessian split by the exchange: all eigenvalues and no others, with a penalty and without."""

from dataclasses import replace

import numpy as np
import pytest

from saddlescope.cli.report import commands_of
from saddlescope.critical.certify import certify
from saddlescope.data.sources import toy, toy_teacher
from saddlescope.errors import SettingsError
from saddlescope.paths.find import find_path
from saddlescope.paths.result import PathSettings
from saddlescope.precision import float64
from saddlescope.problem.problem import Problem
from saddlescope.report.sections import spectrum
from saddlescope.workflows.exchange_spectrum import parity


def _path(decay: float):
    network, teacher = toy_teacher("tanh", 0)
    problem = Problem(network, toy("tanh", 0), weight_decay=decay)
    return problem, find_path(problem, teacher, layer=1, pair=(3, 4), settings=PathSettings(steps=12))


@pytest.fixture(scope="module")
def free():
    return _path(0.0)


@pytest.fixture(scope="module")
def penalised():
    return _path(1e-4)


def test_without_a_penalty_the_parts_are_the_certificate_s(free):
    problem, path = free
    found, certificate = parity(problem, path), certify(problem, path.permutation_point)
    own = {part.name.split(",")[0]: part.inertia for part in certificate.parts}
    assert found.symmetric.negative + found.antisymmetric.negative == certificate.index
    # The certificate reduces the copies: the same signs, in other coordinates, so that sizes differ.
    assert found.symmetric.negative == own["symmetric"].negative
    assert found.antisymmetric.negative == own["antisymmetric"].negative
    assert found.antisymmetric.size == own["antisymmetric"].size
    assert found.mixing < 1e-12


def test_with_a_penalty_the_two_parts_hold_every_eigenvalue_of_the_whole(penalised):
    problem, path = penalised
    certificate = certify(problem, path.permutation_point)
    assert [part.name for part in certificate.parts] == ["all"]
    found = parity(problem, path)
    both = np.sort(np.concatenate([found.symmetric.values, found.antisymmetric.values]))
    with float64():
        layout = problem.network.layout
        hessian = problem.hessian(layout.flatten(path.permutation_point.parameters))
        np.testing.assert_allclose(both, np.linalg.eigvalsh(np.asarray(hessian)), atol=1e-9)
    # The certificate's are those in natural units: the same signs.
    assert np.sum(both < 0) == np.sum(certificate.parts[0].inertia.values < 0)
    assert found.mixing < 1e-10
    drawn = spectrum(certificate, found)
    assert [row["name"] for row in drawn["parts"]] == ["symmetric", "antisymmetric"]
    assert sum(value < 0 for row in drawn["parts"] for value in row["values"]) == certificate.index
    assert [row["name"] for row in spectrum(certificate)["parts"]] == ["all"]


def test_a_point_that_the_exchange_moves_shows_in_the_mixing(free):
    problem, path = free
    point = path.permutation_point
    moved = {name: value.copy() for name, value in point.parameters.items()}
    moved["0.weight"][3] += 0.1
    away = replace(path, permutation_point=replace(point, parameters=moved))
    assert parity(problem, away).mixing > 1e-4


def test_the_error_given_widens_every_bound(free):
    problem, path = free
    narrow, wide = parity(problem, path), parity(problem, path, error=0.5)
    np.testing.assert_allclose(wide.symmetric.bounds - narrow.symmetric.bounds, 0.5)


def test_a_path_without_a_point_is_refused(free):
    problem, path = free
    with pytest.raises(SettingsError, match="no permutation point"):
        parity(problem, replace(path, permutation_point=None))


def test_a_path_followed_in_python_has_no_command(free, tmp_path):
    _, path = free
    assert commands_of(tmp_path / "run.saddle", path) == []
