"""Levenberg-Marquardt against closed forms and against SciPy's, lane by lane."""

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from scipy.optimize import least_squares

from saddlescope.errors import SettingsError
from saddlescope.numerics.levenberg import levenberg
from saddlescope.outcomes import Outcome

GRID = np.linspace(0.0, 2.0, 30)


def _rosenbrock(x: Array) -> Array:
    return jnp.stack([10.0 * (x[1] - x[0] ** 2), 1.0 - x[0]])


def _exponential(x: Array) -> Array:
    return x[0] * jnp.exp(-x[1] * GRID) - jnp.asarray(np.cos(GRID))


def test_rosenbrock_ends_at_its_minimum_from_every_start() -> None:
    starts = np.random.default_rng(0).normal(size=(7, 2)) * 2.0
    end = levenberg(_rosenbrock, starts, target=1e-24)
    assert set(end.outcomes) == {Outcome.CONVERGED}
    assert np.abs(end.points - 1.0).max() < 1e-10


def test_a_residual_that_stays_ends_where_scipy_ends() -> None:
    starts = np.array([[1.0, 0.5], [0.5, 1.0]])
    end = levenberg(_exponential, starts, tolerance=1e-12)
    for start, point, value in zip(starts, end.points, end.values, strict=True):
        with_scipy = least_squares(
            lambda x: x[0] * np.exp(-x[1] * GRID) - np.cos(GRID), start, method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15
        )
        assert value == pytest.approx(2.0 * with_scipy.cost, rel=1e-12, abs=0.0)
        assert np.abs(point - with_scipy.x).max() < 1e-7


def test_a_lane_does_not_depend_on_the_lanes_beside_it() -> None:
    starts, order = np.random.default_rng(1).normal(size=(5, 2)), [2, 0, 1, 4, 3]  # no reversal, not its own inverse
    together, other = levenberg(_rosenbrock, starts), levenberg(_rosenbrock, starts[order])
    assert np.array_equal(together.points[order], other.points)
    assert np.array_equal(together.iterations[order], other.iterations)


def test_growth_without_bound_and_bad_starts_are_named() -> None:
    end = levenberg(lambda x: jnp.exp(-x), np.array([[0.0], [np.nan]]), tolerance=0.0, bound=20.0)
    assert end.outcomes == (Outcome.DIVERGED, Outcome.NON_FINITE)


def test_too_few_steps_are_said() -> None:
    assert levenberg(_rosenbrock, np.array([[-1.2, 1.0]]), limit=2).outcomes == (Outcome.MAX_STEPS,)


def test_no_lane_is_refused() -> None:
    with pytest.raises(SettingsError, match="points"):
        levenberg(_rosenbrock, np.zeros((0, 2)))


def test_a_jacobian_of_ones_own_changes_nothing() -> None:
    def linear(x: Array) -> tuple[Array, Array]:
        pull = jnp.stack([jnp.stack([-20.0 * x[0], jnp.asarray(10.0)]), jnp.asarray([-1.0, 0.0])])
        return _rosenbrock(x), pull

    starts = np.random.default_rng(2).normal(size=(4, 2))
    one, other = levenberg(_rosenbrock, starts, limit=9), levenberg(_rosenbrock, starts, limit=9, linear=linear)
    assert np.allclose(one.points, other.points, rtol=1e-12, atol=1e-13)
    assert not np.allclose(one.points, levenberg(_rosenbrock, starts, limit=8).points, rtol=1e-12, atol=1e-13)


def test_where_the_value_can_fall_no_further_the_gradient_still_does() -> None:
    end = levenberg(_exponential, np.array([[1.0, 0.5], [0.5, 1.0]]), tolerance=0.0)
    assert set(end.outcomes) == {Outcome.STAGNATED}
    assert end.gradient_norms.max() < 1e-13
