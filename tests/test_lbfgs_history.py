"""The memory of curvature: against the BFGS formula written out densely, and what it saves a later solve."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saddlescope.data.data import teacher_data
from saddlescope.models.mlp import MLP
from saddlescope.numerics.lbfgs_history import empty, precondition, remember
from saddlescope.numerics.linear import forcing, krylov_step
from saddlescope.numerics.tangent import ROUNDING_SINGLE, Unconstrained, tangent
from saddlescope.paths.constraint import PairObjective
from saddlescope.paths.find import find_path
from saddlescope.paths.result import PathSettings
from saddlescope.precision import float64
from saddlescope.problem.problem import Problem
from saddlescope.units.coordinates import PairCoordinates

SINGLE = 1e-4


def positive(generator: np.random.Generator, size: int, spread: float) -> np.ndarray:
    turn = np.linalg.qr(generator.normal(size=(size, size)))[0]
    return turn @ np.diag(np.logspace(0, -spread, size)) @ turn.T


def filled(directions: np.ndarray, hessian: np.ndarray, least: float = 0.0):
    memory = empty(len(hessian))
    for s in directions:
        memory = remember(memory, jnp.asarray(s), jnp.asarray(hessian @ s), jnp.asarray(least))
    return memory


def naive(directions: np.ndarray, hessian: np.ndarray) -> np.ndarray:
    """BFGS's inverse, update by update, from the identity (Nocedal and Wright, equation 6.17)."""
    inverse, one = np.eye(len(hessian)), np.eye(len(hessian))
    for s in directions:
        y = hessian @ s
        rho = 1.0 / (s @ y)
        inverse = (one - rho * np.outer(s, y)) @ inverse @ (one - rho * np.outer(y, s)) + rho * np.outer(s, s)
    return inverse


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), count=st.integers(0, 9))
def test_the_two_loops_are_the_bfgs_formula(seed, count):
    generator = np.random.default_rng(seed)
    hessian = positive(generator, 6, 1.0)
    directions, v = generator.normal(size=(count, 6)), generator.normal(size=6)
    with float64():
        found = precondition(filled(directions, hessian), lambda x: x, jnp.asarray(v))
    wanted = naive(directions, hessian) @ v
    assert np.linalg.norm(np.asarray(found) - wanted) <= SINGLE * np.linalg.norm(wanted) * max(1, count)


def test_conjugate_directions_enough_to_span_give_the_inverse():
    generator = np.random.default_rng(1)
    hessian, v = positive(generator, 8, 1.5), generator.normal(size=8)
    with float64():
        found = precondition(filled(np.linalg.eigh(hessian)[1].T, hessian), lambda x: x, jnp.asarray(v))
    assert np.asarray(found) == pytest.approx(np.linalg.solve(hessian, v), rel=SINGLE, abs=SINGLE)


def test_a_full_ring_forgets_its_oldest_pair(monkeypatch):
    monkeypatch.setattr("saddlescope.numerics.lbfgs_history.SLOTS", 3)
    generator = np.random.default_rng(2)
    hessian, v = positive(generator, 5, 1.0), generator.normal(size=5)
    directions = generator.normal(size=(7, 5))
    with float64():
        found = precondition(filled(directions, hessian), lambda x: x, jnp.asarray(v))
    assert np.asarray(found) == pytest.approx(naive(directions[-3:], hessian) @ v, rel=SINGLE, abs=SINGLE)


def test_a_curvature_within_rounding_is_not_trusted():
    with float64():
        memory = filled(np.eye(3)[:1], np.diag([1e-8, 1.0, 1.0]), least=1e-6)
        found = precondition(memory, lambda x: x, jnp.ones(3))
    assert np.asarray(found) == pytest.approx(np.ones(3))


class Quadratic:
    rounding = 1e-14

    def __init__(self, matrix: np.ndarray) -> None:
        self.matrix = jnp.asarray(matrix)

    def value_and_gradient(self, x):
        return 0.5 * x @ self.matrix @ x, self.matrix @ x

    def hessian_product(self, x, v):
        del x
        return self.matrix @ v

    model_product = hessian_product

    def hessian(self, x):
        del x
        return self.matrix

    def precondition(self, x, shift, v):
        del x, shift
        return v


def test_a_second_solve_with_nearly_the_same_hessian_needs_a_fraction_of_the_products():
    generator = np.random.default_rng(3)
    one = positive(generator, 60, 4.0)
    two = one + 1e-6 * positive(generator, 60, 1.0)
    with float64():
        plane, x = Unconstrained(jnp.ones(60)), jnp.zeros(60)
        small = {"tolerance": jnp.asarray(0.0), "shift": jnp.asarray(0.0), "radius": jnp.asarray(1e9)}

        def step(matrix, memory):
            slope = jnp.asarray(generator.normal(size=60))
            return slope, krylov_step(
                Quadratic(matrix), plane, x, tangent(plane, x, slope), slope, memory=memory, **small
            )

        _, first = step(one, empty(60))
        slope, second = step(two, first.memory)
        _, fresh = step(two, empty(60))
    assert int(second.products) <= int(fresh.products) / 2
    assert np.linalg.norm(two @ np.asarray(second.move) + np.asarray(slope)) <= 0.2 * np.linalg.norm(
        np.asarray(slope)
    ) * (1 + 1e-9)


@pytest.mark.parametrize(("slope", "share"), [(1.0, 0.2), (1e-6, 0.2), (1e-5, 0.05), (4e-5, 0.02)])
def test_systems_are_solved_no_further_than_the_tolerance_asks(slope, share):
    with float64():
        assert float(forcing(jnp.asarray(1e-6), jnp.asarray(slope))) == pytest.approx(share)


@pytest.fixture(scope="module")
def wide() -> tuple[Problem, dict[str, np.ndarray]]:
    """A network of 292 parameters, too many for dense steps, as its own teacher."""
    network = MLP((12, 14, 6, 3), "tanh")
    teacher = network.initial(0)
    inputs = np.random.default_rng(4).normal(size=(500, 12))
    return Problem(network, teacher_data(network, teacher, inputs)), teacher


def test_a_problem_in_single_precision_has_the_same_products_to_single_rounding(wide):
    problem, teacher = wide
    generator = np.random.default_rng(5)
    with float64():
        layout = problem.network.layout
        turn = PairCoordinates.of(problem.network.neurons(2), layout, (0, 3))
        x = turn.rotate(layout.flatten(teacher) + 0.1 * generator.normal(size=layout.size))
        v = jnp.asarray(generator.normal(size=layout.size))
        rough = PairObjective(problem, turn, None, problem.in_single())
        near, exact = rough.model_product(x, v), rough.hessian_product(x, v)
    gap = np.linalg.norm(np.asarray(near) - np.asarray(exact)) / np.linalg.norm(np.asarray(exact))
    assert 1e-12 < gap < ROUNDING_SINGLE
    assert near.dtype == exact.dtype == np.float64


def test_what_a_matrix_free_path_reports_is_in_double_precision(wide):
    problem, teacher = wide
    assert problem.network.layout.size > 256
    path = find_path(problem, teacher, layer=2, pair=(0, 3), settings=PathSettings(steps=6, reach=0.3, tolerance=1e-7))
    assert path.solver == "krylov"
    asked = np.flatnonzero(path.kinds == "asked")
    assert path.converged[asked].all()
    assert path.gradient_norms[asked].max() <= 1e-7
    for k in asked:
        row = {name: array[k] for name, array in path.parameters.items()}
        full = np.sqrt(sum(np.sum(part**2) for part in problem.gradient_of(row).values()))
        assert path.losses[k] == pytest.approx(problem.loss_of(row), rel=1e-12, abs=1e-30)
        assert path.full_gradient_norms[k] == pytest.approx(full, rel=1e-9, abs=1e-15)
