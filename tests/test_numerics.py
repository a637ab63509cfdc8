"""The solvers against closed forms: quadratics on spheres, a cusp with a known fold, each against the others."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from references.surfaces import FirstEntry
from saddlescope.numerics.continuation import Tolerances, advance_to, evaluate, init_tracking, settle
from saddlescope.numerics.newton import CONVERGED, MAX_STEPS, OUTCOMES
from saddlescope.numerics.tangent import Unconstrained, tangent
from saddlescope.outcomes import Outcome
from saddlescope.precision import float64


class Smooth(eqx.Module):
    """Any smooth function with derivatives by JAX."""

    function: object = eqx.field(static=True)

    def value_and_gradient(self, x):
        return jax.value_and_grad(self.function)(x)

    def hessian_product(self, x, v):
        return jax.jvp(jax.grad(self.function), (x,), (v,))[1]

    rounding = 1e-14

    def model_product(self, x, v):
        return self.hessian_product(x, v)

    def hessian(self, x):
        return jax.hessian(self.function)(x)

    def precondition(self, x, shift, v):
        del x, shift
        return v


class Sphere(eqx.Module):
    """|x| = d."""

    def free(self, x):
        return jnp.ones_like(x)

    def normals(self, x):
        return (x / jnp.linalg.norm(x))[None]

    def curvature_product(self, x, multipliers, v):
        return multipliers[0] * v / jnp.linalg.norm(x)

    def retract(self, x, d):
        return x * d / jnp.linalg.norm(x)


def limits(tolerance=1e-10, radius=0.5, iterations=200):
    return Tolerances(jnp.asarray(tolerance), jnp.asarray(radius), jnp.asarray(iterations))


SOLVERS = ("newton", "krylov", "flow", "descent")
SPECTRUM = np.array([-1.0, 0.5, 1.0, 2.0])


def _rayleigh(x):
    return 0.5 * jnp.sum(jnp.asarray(SPECTRUM) * x**2) + 0.1 * x[1]


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_finds_the_constrained_minimum_that_a_secular_equation_gives(solver):
    with float64():
        start = jnp.array([0.6, 0.5, 0.4, 0.2])
        found = settle(Smooth(_rayleigh), Sphere(), start, jnp.asarray(1.0), limits(1e-9), solver)
        assert int(found.status) == CONVERGED
        x = np.asarray(found.x)
    # Stationarity: (A - mu) x = -b with |x| = 1; minimum: mu <= smallest eigenvalue -1. Then x_1 = -0.1/(0.5 - mu),
    # x_0 from |x| = 1.
    mu = SPECTRUM[0]
    expected = np.array([0.0, -0.1 / (0.5 - mu), 0.0, 0.0])
    expected[0] = np.sqrt(1 - expected[1] ** 2)
    np.testing.assert_allclose(x, expected, atol=1e-7)


def test_a_solver_that_runs_out_of_iterations_says_so_with_its_residual():
    with float64():
        found = settle(
            Smooth(_rayleigh),
            Sphere(),
            jnp.array([0.01, 0.5, 0.4, 0.2]),
            jnp.asarray(1.0),
            limits(1e-12, 0.05, 2),
            "newton",
        )
        assert int(found.status) == MAX_STEPS
        assert OUTCOMES[int(found.status)] is Outcome.MAX_STEPS
        assert float(found.residual) > 1e-12


def test_non_finite_values_are_named():
    with float64():
        bad = Smooth(lambda x: jnp.sum(jnp.log(x)))
        found = settle(bad, Unconstrained(jnp.ones(2)), jnp.array([-1.0, 1.0]), jnp.asarray(0.0), limits(), "newton")
        assert OUTCOMES[int(found.status)] is Outcome.NON_FINITE


def _wavy(x):
    return jnp.sum(jnp.cos(2 * x) + 0.1 * x**4)


@settings(deadline=None)
@given(st.lists(st.floats(-2, 2), min_size=5, max_size=5), st.floats(0.1, 3.0))
def test_the_loss_never_rises_and_the_point_stays_on_the_surface(entries, d):
    with float64():
        start = jnp.asarray(entries) + jnp.array([0.0, 0.0, 0.0, 0.0, 3.0])
        wavy = Smooth(_wavy)
        before = wavy.value_and_gradient(Sphere().retract(start, d))[0]
        found = settle(wavy, Sphere(), start, jnp.asarray(d), limits(radius=0.3, iterations=15), "newton")
        assert float(found.value) <= float(before) * (1 + 1e-13) + 1e-13
        assert float(jnp.linalg.norm(found.x)) == pytest.approx(d, rel=1e-12, abs=0.0)


def test_the_tangential_gradient_is_orthogonal_to_the_normals():
    with float64():
        x = jnp.array([1.0, -2.0, 0.5, 0.25])
        gradient = Smooth(_rayleigh).value_and_gradient(x)[1]
        space = tangent(Sphere(), x, gradient)
        assert float(jnp.abs(Sphere().normals(x) @ space.project(gradient))[0]) < 1e-14


def _cusp(x):
    """Minimisers of y^4/4 - y^2/2 + (1/2 - p) y over y: the upper one folds where p - 1/2 = -2/(3 sqrt 3)."""
    p, y = x[0], x[1]
    return y**4 / 4 - y**2 / 2 + (0.5 - p) * y + 0.5 * (x[2] - y) ** 2


def _follow_cusp(solver, asked):
    x, d = jnp.array([1.0, 1.0, 1.0]), jnp.asarray(1.0)
    objective, surface = Smooth(_cusp), FirstEntry()
    x = settle(objective, surface, x, d, limits(), "newton").x
    full = jnp.asarray(0.1)
    track = init_tracking(objective, surface, x, d, full, solver)
    legs = []
    for target in asked:
        track, leg = advance_to(objective, surface, track, jnp.asarray(target), full, limits(), solver)
        legs.append(leg)
    return legs


@pytest.mark.parametrize("solver", ["newton", "krylov"])
def test_a_smooth_branch_is_tracked_without_a_leap_to_its_cubic_root(solver):
    with float64():
        leg = _follow_cusp(solver, [0.8, 0.6, 0.4, 0.2])[-1]
        assert float(leg.leap) == 0.0
        y = float(leg.iterate.x[1])
    assert y**3 - y + 0.3 == pytest.approx(0.0, abs=1e-9)
    assert y > 1 / np.sqrt(3)


def test_a_fold_is_met_where_the_discriminant_says_and_bridged_downwards():
    fold = 0.5 - 2 / (3 * np.sqrt(3))  # 0.1151
    with float64():
        legs = _follow_cusp("newton", [0.5, 0.2, 0.05])
        assert float(legs[1].leap) == 0.0
        assert float(legs[2].leap) > 1.0
        assert float(legs[2].leap_d) == pytest.approx(fold, rel=2e-2)
        assert float(legs[2].iterate.x[1]) < -1.0  # the other branch
        assert int(legs[2].iterate.status) == CONVERGED


def test_the_slope_along_the_path_is_the_derivative_of_the_minimum():
    with float64():
        legs = _follow_cusp("newton", [0.81, 0.8, 0.79])
        values = [float(leg.iterate.value) for leg in legs]
        slope = float(legs[1].slope)
    assert slope == pytest.approx((values[0] - values[2]) / 0.02, rel=1e-3)


def test_the_lowest_curvature_is_the_hessian_s_smallest_eigenvalue_on_the_tangent_space():
    with float64():
        leg = _follow_cusp("newton", [0.6])[-1]
        y = float(leg.iterate.x[1])
        inner = np.array([[3 * y**2 - 1 + 1, -1.0], [-1.0, 1.0]])
        assert float(leg.curvature) == pytest.approx(np.linalg.eigvalsh(inner)[0], rel=1e-10)


@pytest.mark.parametrize("solver", ["newton", "krylov"])
@pytest.mark.parametrize("entry", [0.3, 1.0], ids=["above the tolerance", "a minimiser"])
def test_evaluating_is_a_correction_without_iterations(solver, entry):
    """(x_1 - 1)^2 on x_0 = d: minimal at x_1 = 1."""
    objective = Smooth(lambda x: (x[1] - 1.0) ** 2 + x[0])
    with float64():
        x, d = jnp.asarray([0.0, entry]), jnp.asarray(0.5)
        seen = evaluate(objective, FirstEntry(), x, d, jnp.asarray(1e-10), solver)
        settled = settle(objective, FirstEntry(), x, d, limits(iterations=0), solver)
    assert int(seen.status) == (CONVERGED if entry == 1.0 else MAX_STEPS)
    np.testing.assert_array_equal(seen.x, [0.5, entry])
    for mine, other in zip(seen[:-1], settled[:-1], strict=True):  # the last is the memory of conjugate gradients
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("solver", ["newton", "krylov"])
def test_a_leg_ends_where_the_weights_pass_the_bound(solver):
    """(x_1 (x_0 - 1/2) - 1)^2 on x_0 = d: minimal at x_1 = 1 / (d - 1/2), which passes 10 on the way from 1 to 0.55."""
    objective = Smooth(lambda x: (x[1] * (x[0] - 0.5) - 1.0) ** 2)
    with float64():
        start, full = jnp.array([1.0, 2.0]), jnp.asarray(0.01)
        bounded = limits(1e-12)._replace(bound=jnp.asarray(10.0))
        track = init_tracking(objective, FirstEntry(), start, jnp.asarray(1.0), full, solver)
        track, leg = advance_to(objective, FirstEntry(), track, jnp.asarray(0.55), full, bounded, solver)
        d, end = float(track.d), np.asarray(leg.iterate.x)
        strides = np.asarray(leg.trace)[: int(leg.traced)]
    assert 0.55 < d < 0.65
    assert np.linalg.norm(end) > 10.0
    np.testing.assert_allclose(end, [d, 1.0 / (d - 0.5)], rtol=1e-6)
    assert (np.linalg.norm(strides, axis=1) <= 10.0).all()  # the stride that passed the bound is the leg's own point
