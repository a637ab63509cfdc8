"""Eigenvalues with bounds: against matrices whose eigenvalues are known beyond float64."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.tree_util import Partial

from saddlescope.numerics.spectrum import Lanczos, chance_unseen, dense_spectrum, lanczos, rounding_bound
from saddlescope.precision import float64

Long = np.longdouble


def known(values, seed=0):
    """Return Q diag(values) Q^T in extended precision, Q a product of two reflections."""
    values = np.sort(np.asarray(values, Long))
    matrix = np.diag(values)
    generator = np.random.default_rng(seed)
    for _ in range(2):
        v = generator.normal(size=len(values)).astype(Long)
        reflection = np.eye(len(values), dtype=Long) - 2 * np.outer(v, v) / (v @ v)
        matrix = reflection @ matrix @ reflection
    return matrix, values


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e6])
@pytest.mark.parametrize(
    "values",
    [
        np.linspace(-1, 2, 30),
        [0.0] * 10 + [1.0] * 10,
        [-1e-13, 0.0, 1e-13, 1e-9, 1.0, 1.0 + 1e-12],
        10.0 ** np.arange(-15.0, 3.0),
        [3.0],
    ],
)
def test_dense_bounds_hold_the_exact_eigenvalues_and_are_near_rounding(values, scale: float) -> None:
    matrix, exact = known(np.asarray(values) * scale)
    found = dense_spectrum(matrix.astype(float), float(np.linalg.norm((matrix - matrix.astype(float)).astype(float))))
    assert np.all(np.abs(found.values - exact) <= found.bounds)
    assert found.bounds.max() < 1e-13 * len(exact) * np.abs(exact).max()


def test_dense_eigenvalues_of_the_second_difference_are_the_closed_form() -> None:
    size = 50
    matrix = 2.0 * np.eye(size) - np.eye(size, k=1) - np.eye(size, k=-1)
    exact = 2 - 2 * np.cos(np.arange(1, size + 1, dtype=Long) * Long(np.pi) / (size + 1))
    found = dense_spectrum(matrix)
    assert np.all(np.abs(found.values - exact) <= found.bounds)


@given(seed=st.integers(0, 1000), size=st.integers(1, 8), error=st.floats(1e-12, 1.0))
def test_an_error_of_the_matrix_is_covered_by_the_bounds(seed: int, size: int, error: float) -> None:
    generator = np.random.default_rng(seed)
    matrix, exact = known(generator.normal(size=size), seed)
    change = generator.normal(size=(size, size))
    change += change.T
    change *= error / np.linalg.norm(change, 2)
    found = dense_spectrum(matrix.astype(float) + change, error + 1e-15)
    assert np.all(np.abs(found.values - exact) <= found.bounds)


def test_an_empty_matrix_has_no_eigenvalues() -> None:
    found = dense_spectrum(np.zeros((0, 0)))
    assert found.values.shape == found.bounds.shape == (0,)


@given(seed=st.integers(0, 1000))
def test_the_rounding_bound_covers_the_rounding_of_float64(seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(40, 6)) * 10.0 ** generator.uniform(-3, 3)

    def program(kind):
        x = rows.astype(kind)
        return (np.tanh(x).T @ np.sin(x)) / len(x)

    fine, exact = program(np.float64), program(Long)
    bound = rounding_bound(fine, program(np.float32))
    assert float(np.linalg.norm((fine - exact).astype(float), 2)) <= bound <= 1e-12 * np.linalg.norm(fine) + 1e-14


def test_the_rounding_bound_is_infinite_where_float32_overflows() -> None:
    with np.errstate(over="ignore"):
        coarse = np.array([1e300, 1.0]).astype(np.float32)
    assert rounding_bound(np.array([1e300, 1.0]), coarse) == np.inf


def run_lanczos(matrix, *, steps, null=None, seed=0):
    with float64():
        product = Partial(jnp.matmul, jnp.asarray(matrix))  # the matrix is a leaf: one compilation for all of its size
        rows = np.zeros((0, len(matrix))) if null is None else null
        return lanczos(product, len(matrix), steps=steps, null=rows, seed=seed)


def test_all_steps_of_lanczos_give_all_eigenvalues() -> None:
    matrix, exact = known(np.linspace(-1, 3, 25))
    found = run_lanczos(matrix.astype(float), steps=40)
    assert found.steps == 25
    assert np.abs(found.values - exact).max() < 1e-12
    assert found.residuals.max() < 1e-11
    assert found.orthogonality < 1e-13


@given(seed=st.integers(0, 50), negative=st.integers(0, 3))
def test_every_ritz_value_is_within_its_residual_of_an_eigenvalue_and_none_is_too_many(
    seed: int, negative: int
) -> None:
    generator = np.random.default_rng(seed)
    values = np.concatenate([-generator.uniform(0.01, 1, negative), generator.uniform(0.01, 5, 25 - negative)])
    matrix, exact = known(values, seed)
    found = run_lanczos(matrix.astype(float), steps=12, seed=seed)
    gaps = np.abs(found.values[:, None] - exact[None, :]).min(axis=1)
    assert np.all(gaps <= found.residuals + 1e-12)
    assert np.sum(found.values < -found.residuals - 1e-12) <= negative
    lowest = found.vectors[0]
    image = matrix.astype(float) @ lowest
    assert np.linalg.norm(image - found.values[0] * lowest) == pytest.approx(found.residuals[0], abs=1e-12)


def test_null_vectors_are_projected_out() -> None:
    matrix, exact = known([0.0, 0.0, *np.linspace(1, 2, 23)])
    _, vectors = np.linalg.eigh(matrix.astype(float))
    found = run_lanczos(matrix.astype(float), steps=40, null=vectors[:, :2].T)
    assert found.steps == 23
    assert np.abs(found.values - exact[2:]).max() < 1e-12


def test_lanczos_stops_where_the_space_is_exhausted() -> None:
    found = run_lanczos(np.diag([1.0] * 20 + [2.0] * 5), steps=20)
    assert found.steps == 2
    assert found.values == pytest.approx([1.0, 2.0])
    assert chance_unseen(found, 25) > 0.01, "a third eigenvalue may hide"


def test_no_steps_leave_nothing() -> None:
    found = run_lanczos(np.eye(25), steps=20, null=np.eye(25))
    assert found.steps == 0
    assert chance_unseen(found, 0) == 0.0


def ritz(values, steps):
    values = np.asarray(values, dtype=float)
    return Lanczos(values, np.zeros(len(values)), np.zeros((1, 1)), steps, 0.0)


@pytest.mark.parametrize(
    ("found", "size", "error", "chance"),
    [
        (ritz([-0.1, 1.0], 2), 10, 0.0, 1.0),
        (ritz([0.0, 1.0], 2), 10, 0.0, 1.0),
        (ritz([0.1, 1.0], 2), 2, 0.0, 0.0),
        (ritz([0.1, 1.0], 2), 2, 0.2, 1.0),
        (ritz([np.nan, np.nan], 2), 2, 0.0, 1.0),
        (ritz([0.1, 1.0], 2), 10, 0.0, 1.0),
        (ritz([0.25, 1.0], 40), 100, 0.0, 16.48 * np.exp(-np.sqrt(0.25 / 1.05) * 79)),
    ],
)
def test_chance_unseen_at_its_limits(found: Lanczos, size: int, error: float, chance: float) -> None:
    assert chance_unseen(found, size, error) == pytest.approx(chance, rel=1e-12, abs=0.0)


def test_a_negative_eigenvalue_goes_unseen_no_more_often_than_the_chance_says() -> None:
    """The claim of `chance_unseen`: whatever p, the event "chance <= p, yet one is negative" has frequency <= p."""
    values = np.concatenate([[-1e-3], np.linspace(0.7, 1.0, 29)])
    matrix = np.diag(values)
    tries, unseen = 600, []
    for seed in range(tries):
        found = run_lanczos(matrix, steps=3, seed=seed)
        if found.values[0] > 0:
            unseen.append(chance_unseen(found, 30))
    assert len(unseen) > 10, "the test needs starts that miss"
    shares = {p: sum(chance <= p for chance in unseen) / tries for p in (0.05, 0.1, 0.2, 0.4)}
    assert all(share <= p for p, share in shares.items()), shares
