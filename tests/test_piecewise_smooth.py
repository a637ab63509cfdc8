"""Newton along creases: against quadratic programs with known answers, naive preactivations, and the loss itself."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.optimize import lsq_linear

from references.surfaces import FirstEntry
from saddlescope.data.data import Data
from saddlescope.data.sources import toy, toy_teacher
from saddlescope.errors import SettingsError
from saddlescope.models.mlp import MLP
from saddlescope.numerics.continuation import Tolerances, settle, slope_at
from saddlescope.numerics.newton import CONVERGED
from saddlescope.numerics.piecewise_smooth import share_of_step
from saddlescope.numerics.tangent import Unconstrained
from saddlescope.paths.find import find_path
from saddlescope.paths.result import PathSettings
from saddlescope.precision import float64
from saddlescope.problem.kink_surfaces import Creases
from saddlescope.problem.problem import Problem


class Folded(eqx.Module):
    """x Q x / 2 - b x + sum_j c_j |A_j x - e_j|, with its creases A_j x = e_j."""

    quadratic: jax.Array
    linear: jax.Array
    rows: jax.Array
    offsets: jax.Array
    heaviness: jax.Array

    def value(self, x):
        sharp = self.heaviness @ jnp.abs(self.preactivations(x))
        return 0.5 * x @ self.quadratic @ x - self.linear @ x + sharp

    def value_and_gradient(self, x):
        return jax.value_and_grad(self.value)(x)

    def hessian_product(self, x, v):
        del x
        return self.quadratic @ v

    rounding = 1e-14

    def model_product(self, x, v):
        return self.hessian_product(x, v)

    def hessian(self, x):
        del x
        return self.quadratic

    def precondition(self, x, shift, v):
        del x, shift
        return v

    @property
    def creases(self):
        return self

    def preactivations(self, x):
        return self.rows @ x - self.offsets

    def gradient_jumps(self, x):
        del x
        return 2.0 * self.heaviness

    def chosen(self, x, names):
        return self.rows[names] @ x - self.offsets[names]


def folded(seed: int, size: int, creases: int, heaviness: float) -> Folded:
    generator = np.random.default_rng(seed)
    root = generator.normal(size=(size, size))
    return Folded(
        jnp.asarray(root @ root.T + 0.1 * np.eye(size)),
        jnp.asarray(generator.normal(size=size)),
        jnp.asarray(generator.normal(size=(creases, size))),
        jnp.asarray(generator.normal(size=creases)),
        jnp.asarray(heaviness * generator.uniform(0.2, 1.0, size=creases)),
    )


def minimum_by_duality(problem: Folded) -> np.ndarray:
    """The minimiser by bounded least squares over the creases' forces u, |u_j| <= c_j: x = Q^-1 (b - A^T u)."""
    q, b, a, e, c = (np.asarray(leaf) for leaf in jax.tree.leaves(problem))
    kernel = a @ np.linalg.solve(q, a.T)
    triangle = np.linalg.cholesky(kernel)
    wanted = np.linalg.solve(triangle, a @ np.linalg.solve(q, b) - e)
    u = lsq_linear(triangle.T, wanted, bounds=(-c, c), tol=1e-15, lsmr_tol=None, method="bvls").x
    return np.linalg.solve(q, b - a.T @ u)


@pytest.mark.parametrize("heaviness", [0.01, 0.3, 10.0])
@pytest.mark.parametrize("seed", range(6))
def test_the_minimiser_of_a_folded_quadratic_is_the_dual_program_s(seed, heaviness):
    with float64():
        problem = folded(seed, 8, 6, heaviness)
        limits = Tolerances(jnp.asarray(1e-10), jnp.asarray(10.0), jnp.asarray(300))
        start = jnp.asarray(np.random.default_rng(seed + 100).normal(size=8))
        found = settle(problem, Unconstrained(jnp.ones(8)), start, jnp.asarray(0.0), limits, "creased")
        right = minimum_by_duality(problem)
        assert int(found.status) == CONVERGED
        assert float(found.residual) <= 1e-10
        np.testing.assert_allclose(np.asarray(found.x), right, atol=1e-9)
        # The plain corrector cannot: where creases are held, no gradient vanishes.
        on = np.abs(np.asarray(problem.preactivations(jnp.asarray(right)))) < 1e-9
        if on.any():
            plain = settle(problem, Unconstrained(jnp.ones(8)), start, jnp.asarray(0.0), limits, "newton")
            assert int(plain.status) != CONVERGED


def test_from_the_minimiser_itself_nothing_moves_and_a_wrong_crease_is_let_go():
    with float64():
        problem = folded(3, 8, 6, 0.3)
        limits = Tolerances(jnp.asarray(1e-10), jnp.asarray(10.0), jnp.asarray(300))
        plane = Unconstrained(jnp.ones(8))
        right = jnp.asarray(minimum_by_duality(problem))
        again = settle(problem, plane, right, jnp.asarray(0.0), limits, "creased")
        np.testing.assert_allclose(np.asarray(again.x), np.asarray(right), atol=1e-9)
        # A start on all six creases at once, most of which do not carry the minimum.
        corner = jnp.asarray(np.linalg.lstsq(np.asarray(problem.rows), np.asarray(problem.offsets), rcond=None)[0])
        freed = settle(problem, plane, corner, jnp.asarray(0.0), limits, "creased")
        assert int(freed.status) == CONVERGED
        np.testing.assert_allclose(np.asarray(freed.x), np.asarray(right), atol=1e-9)


def test_the_slope_along_held_creases_is_the_difference_quotient_of_the_minimum():
    with float64():
        problem = folded(3, 8, 6, 0.3)
        limits = Tolerances(jnp.asarray(1e-10), jnp.asarray(10.0), jnp.asarray(300))

        def minimum(d):
            return settle(problem, FirstEntry(), jnp.zeros(8), jnp.asarray(d), limits, "creased")

        here = minimum(0.3)
        assert (np.abs(np.asarray(problem.preactivations(here.x))) < 1e-9).any()  # a crease is held
        slope = float(slope_at(problem, FirstEntry(), here, jnp.asarray(0.3), "creased"))
        quotient = (float(minimum(0.3 + 1e-5).value) - float(minimum(0.3 - 1e-5).value)) / 2e-5
        assert slope == pytest.approx(quotient, rel=1e-6, abs=0.0)
        without = float(slope_at(problem, FirstEntry(), here, jnp.asarray(0.3), "newton"))
        assert without != pytest.approx(quotient, rel=1e-3)


NUMBERS = st.floats(-3.0, 3.0).map(lambda number: round(number, 3))


@example([(1.0, -1.0, -1.0)], -0.5, 1.0)  # turns before a crease behind which it would not have turned
@given(
    st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=6), st.floats(-5.0, -0.01), st.floats(0.0, 4.0)
)
def test_the_step_ends_at_the_first_turn_of_the_model_s_slope(creases, slope, bend):
    preactivations, speeds, gradient_jumps = (np.array(column) for column in zip(*creases, strict=True))
    with float64():
        t, name, lands = share_of_step(*(jnp.asarray(v) for v in (preactivations, speeds, gradient_jumps, slope, bend)))
    t, name, lands = float(t), int(name), bool(lands)

    def after(at: float) -> float:
        crossed = (preactivations * speeds < 0) & (-preactivations / np.where(speeds != 0, speeds, 1.0) <= at)
        return slope + bend * at + float((gradient_jumps * np.abs(speeds))[crossed].sum())

    assert 0.0 <= t <= 1.0
    grid = [s for s in np.linspace(0.0, 1.0, 401) if s < t - 1e-9]
    assert all(after(s) <= 1e-9 for s in grid)  # the slope has not turned before
    if lands:
        assert preactivations[name] + t * speeds[name] == pytest.approx(0.0, abs=1e-9)
        assert after(t + 1e-9) >= -1e-6
    elif t < 1.0:
        assert after(t + 1e-9) == pytest.approx(0.0, abs=1e-6)


def deep_problem(activation: str, chunk: int | None) -> tuple[Problem, np.ndarray]:
    generator = np.random.default_rng(5)
    network = MLP((3, 4, 5, 2), activation)
    data = Data(generator.normal(size=(7, 3)), generator.normal(size=(7, 2)))
    problem = Problem(network, data, chunk=chunk)
    return problem, generator.normal(size=network.layout.size)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
@pytest.mark.parametrize("chunk", [None, 3])
def test_heights_are_the_preactivations_and_padding_has_none(activation, chunk):
    problem, theta = deep_problem(activation, chunk)
    with float64():
        preactivations = np.asarray(Creases(problem).preactivations(jnp.asarray(theta)))
        parameters = problem.network.layout.unflatten_numpy(theta)
        inputs = np.asarray(problem.inputs).reshape(-1, 3)[:7]
        first = inputs @ parameters["0.weight"].T + parameters["0.bias"]
        slope = 0.01 if activation == "leaky_relu" else 0.0
        second = np.where(first > 0, first, slope * first) @ parameters["2.weight"].T + parameters["2.bias"]
        expected = np.concatenate([first, second], axis=1).ravel()
        np.testing.assert_allclose(preactivations[: expected.size], expected, rtol=1e-13, atol=1e-14)
        assert np.all(np.isinf(preactivations[expected.size :]))
        names = jnp.asarray([0, 4, 9, 40, 62])
        np.testing.assert_allclose(np.asarray(Creases(problem).chosen(jnp.asarray(theta), names)), expected[names])


@pytest.mark.parametrize(
    ("activation", "chosen"),  # first and second hidden layer; the second kink of several
    [
        ("relu", (1, 6, 30, 53)),
        ("leaky_relu", (1, 6, 30, 53)),
        ("relu6", (1, 5, 10, 15)),
        ("hardswish", (1, 5, 9, 14)),
        ("tanh,relu", (1, 12)),
        ("hardswish,tanh", (1, 5, 17)),
    ],
)
def test_across_a_crease_the_gradient_jumps_by_the_pressure_times_the_height_s_gradient(activation, chosen):
    problem, theta = deep_problem(activation, 3)
    with float64():
        creases = Creases(problem)
        for name in chosen:
            at = jnp.asarray(theta)
            names = jnp.asarray([name])
            for _ in range(40):  # bring this sample onto the kink
                row = jax.jacrev(creases.chosen)(at, names)[0]
                at = at - row * creases.chosen(at, names)[0] / (row @ row)
            row = jax.jacrev(creases.chosen)(at, names)[0]
            push = 1e-9 * row / (row @ row)
            jump = problem.gradient(at + push) - problem.gradient(at - push)
            pressure = creases.gradient_jumps(at)[name]
            np.testing.assert_allclose(np.asarray(jump), np.asarray(pressure * row), atol=1e-7)
            assert float(jnp.linalg.norm(jump)) > 1e-4  # there is a jump to speak of


@pytest.fixture(scope="module")
def relu_path():
    network, teacher = toy_teacher("relu", 0)
    problem = Problem(network, toy("relu", 0))
    return problem, find_path(problem, teacher, layer=1, pair=(2, 3), settings=PathSettings(steps=60))


def test_the_relu_toy_of_the_paper_converges_at_every_distance(relu_path):
    _, path = relu_path
    assert path.solver == "creased"
    assert path.ending.value == "permutation-point"
    asked = path.kinds == "asked"
    assert path.converged[asked].all()
    assert path.gradient_norms[asked].max() <= 1e-10


def test_at_a_minimiser_on_a_crease_the_loss_rises_in_every_direction_allowed(relu_path):
    problem, path = relu_path
    neurons, (l, m) = path.neurons, path.pair
    generator = np.random.default_rng(0)
    asked = np.flatnonzero(path.kinds == "asked")
    kinked = 0
    for k in asked[5::10]:
        here = {name: array[k] for name, array in path.parameters.items()}
        base = problem.loss_of(here)
        gradient = np.sqrt(sum(float((g**2).sum()) for g in problem.gradient_of(here).values()))
        kinked += gradient > 1e-6
        for _ in range(60):
            # The pair's incoming vectors stay, and (tied) the difference of its outgoing weights; all else may move.
            move = {name: generator.normal(size=array.shape) for name, array in here.items()}
            for part in ("0.weight", "0.bias"):
                move[part][[l, m]] = 0.0
            move["2.weight"][:, m] = move["2.weight"][:, l]
            rises = [problem.loss_of({name: here[name] + h * move[name] for name in here}) - base for h in (1e-6, 1e-4)]
            assert min(rises) > -1e-13
    assert kinked >= 2  # at these the plain gradient does not vanish
    assert neurons.incoming


def test_smooth_networks_have_no_creases():
    network, teacher = toy_teacher("tanh", 0)
    with pytest.raises(SettingsError, match="this loss has no creases"):
        find_path(
            Problem(network, toy("tanh", 0)), teacher, layer=1, pair=(0, 1), settings=PathSettings(solver="creased")
        )
