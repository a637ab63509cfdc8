"""Ball arithmetic: enclosures hold the truth, proofs refuse what is false, and say so where they cannot tell."""

import sys

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from saddlescope.errors import MissingExtraError
from saddlescope.models.activations import ACTIVATIONS
from saddlescope.numerics import balls
from saddlescope.precision import float64

flint = pytest.importorskip("flint")

# The activations, once more, in another library and without their derivatives.
FORMULAS = {
    "tanh": lambda m, z: m.tanh(z),
    "sigmoid": lambda m, z: 1 / (1 + m.exp(-z)),
    "softplus": lambda m, z: m.log1p(m.exp(z)),
    "gelu": lambda m, z: z * m.ncdf(z),
    "silu": lambda m, z: z / (1 + m.exp(-z)),
    "erf": lambda m, z: m.erf(z / m.sqrt(2)),
    "exp": lambda m, z: m.exp(z),
    "identity": lambda m, z: z,
    "sine": lambda m, z: m.sin(z),
    "sigmoid_softplus": lambda m, z: 1 / (1 + m.exp(-4 * z)) + m.log1p(m.exp(z)),
}


def _ball(low: object, high: object) -> object:
    return flint.arb(str(low)).union(flint.arb(str(high)))


def test_every_smooth_activation_has_a_jet_and_no_kinked_one_has() -> None:
    smooth = {name for name, entry in ACTIVATIONS.items() if not entry.kinks}
    assert set(balls.JETS) == smooth - {"gelu_tanh", "mish"} == set(FORMULAS)  # these two cannot be proved yet


@pytest.mark.parametrize("name", sorted(FORMULAS))
def test_jets_hold_value_and_both_derivatives_to_eighteen_digits(name: str) -> None:
    mpmath = pytest.importorskip("mpmath")
    with balls.precision(160), mpmath.workdps(60):
        for z in (-30.5, -3.25, -0.5, 0.0, 1e-3, 0.75, 2.0, 18.25):
            for order, ball in enumerate(balls.JETS[name](flint.arb(z))):
                truth = mpmath.diff(lambda x: FORMULAS[name](mpmath, x), mpmath.mpf(z), order)
                # mpmath's numerical derivative is good to half its digits; the ball must be as narrow.
                assert _ball(truth - mpmath.mpf(10) ** -18, truth + mpmath.mpf(10) ** -18).contains(ball), (z, order)
                assert ball.rad() < 1e-30


@pytest.mark.parametrize("name", sorted(FORMULAS))
def test_jets_agree_with_jax_at_points_of_a_box(name: str, generator: np.random.Generator) -> None:
    with float64(), balls.precision(128):
        function = ACTIVATIONS[name].function
        orders = [jax.jit(jax.vmap(f)) for f in (function, jax.grad(function), jax.grad(jax.grad(function)))]
        for centre in (-2.0, 0.1, 3.0):
            jet = balls.JETS[name](flint.arb(centre, 0.01))
            points = jnp.asarray(centre + generator.uniform(-0.01, 0.01, 20))
            for ball, derivative in zip(jet, orders, strict=True):
                values = np.asarray(derivative(points))
                assert (values >= balls.below(ball) - 1e-12).all()
                assert (values <= balls.above(ball) + 1e-12).all()


def test_bounds_as_floats_lie_outside() -> None:
    with balls.precision(200):
        third = flint.arb(1) / 3
        assert flint.arb(balls.below(third)) < third < flint.arb(balls.above(third))
        assert 1.0 < balls.above(flint.arb(0, 1)) < 1.0 + 1e-8
        assert -1.0 > balls.below(flint.arb(0, 1)) > -1.0 - 1e-8


def test_the_norm_bounds_the_largest_row_and_a_nan_makes_it_infinite() -> None:
    matrix = balls.exact(np.array([[1.0, -2.0], [0.5, 0.25]]))
    assert balls.norm(matrix) == 3
    assert balls.norm(balls.widen(matrix, flint.arb(1))) >= 5
    assert not balls.norm(balls.exact(np.array([[1.0, np.nan], [0.0, 5.0]]))).is_finite()
    assert not balls.norm(balls.exact(np.array([[np.inf], [0.0]]))).is_finite()


def test_the_callers_precision_comes_back() -> None:
    before = flint.ctx.prec
    with balls.precision(300):
        assert flint.ctx.prec == 300
    assert flint.ctx.prec == before


def test_without_python_flint_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flint", None)
    with pytest.raises(MissingExtraError, match=r"python-flint is not installed.*saddlescope\[proof\]"):
        balls.flint()


# f(x) = x^3/3 - 2x has its critical points at +-sqrt 2.


def _slope(x: object) -> object:
    return flint.arb_mat([[x[0, 0] ** 2 - 2]])


def _bend(x: object) -> object:
    return flint.arb_mat([[2 * x[0, 0]]])


def test_the_square_root_of_two_is_isolated_and_enclosed() -> None:
    with balls.precision(128):
        refined = balls.refine(balls.exact([1.4]), _slope, _bend)
        assert isinstance(refined, balls.Refined)
        found = balls.isolate(refined, _bend, flint.arb(0.5))
        assert found.proved
        assert balls.widen(refined.point, found.error)[0, 0].contains(flint.arb(2).sqrt())
        assert found.error < flint.arb(2) ** -120


@pytest.mark.parametrize("radius", [1.5, 3.0, 100.0])
def test_a_box_with_two_zeros_or_a_singular_hessian_is_not_proved(radius: float) -> None:
    refined = balls.refine(balls.exact([1.4]), _slope, _bend)
    assert isinstance(refined, balls.Refined)
    assert not balls.isolate(refined, _bend, flint.arb(radius)).proved


def test_a_box_that_does_not_hold_the_zero_is_not_proved() -> None:
    with balls.precision(128):
        off = balls.Refined(balls.exact([1.5]), balls.exact([1 / 3]), flint.arb(0.25) / 3)
        assert balls.isolate(off, _bend, flint.arb(0.2)).proved
        assert not balls.isolate(off, _bend, flint.arb(0.08)).proved


def test_a_double_zero_is_not_proved() -> None:
    def square(x: object) -> object:
        return flint.arb_mat([[x[0, 0] ** 2]])

    refined = balls.refine(balls.exact([0.1]), square, _bend)
    if isinstance(refined, balls.Refined):
        assert not balls.isolate(refined, _bend, flint.arb(1e-10)).proved


def test_without_a_zero_the_steps_do_not_settle() -> None:
    words = balls.refine(balls.exact([0.3]), lambda x: flint.arb_mat([[x[0, 0] ** 2 + 1]]), _bend)
    assert isinstance(words, str)
    assert "do not settle" in words
    assert balls.refine(balls.exact([0.0]), _slope, _bend) == "the Hessian is singular to the working precision"


@given(st.integers(0, 10_000), st.integers(1, 9))
def test_signs_of_random_matrices_are_those_they_were_made_with(seed: int, size: int) -> None:
    generator = np.random.default_rng(seed)
    values = generator.choice([-1.0, 1.0], size) * 10.0 ** generator.uniform(-9, 3, size)
    vectors = np.linalg.qr(generator.normal(size=(size, size)))[0]
    with balls.precision(128):
        # V^T D V has the signs of D exactly, whatever V's rounding.
        frame = balls.exact(vectors)
        matrix = frame.transpose() * balls.exact(np.diag(values)) * frame
        found = balls.signs(matrix)
    assert found == balls.Signs(int((values < 0).sum()), int((values > 0).sum()), 0)


@given(st.integers(0, 10_000), st.integers(2, 9))
def test_a_zero_eigenvalue_is_never_given_a_sign(seed: int, size: int) -> None:
    generator = np.random.default_rng(seed)
    factor = generator.integers(-3, 4, (size, size - 1)).astype(float)
    weights = generator.choice([-1.0, 1.0], size - 1)
    matrix = factor @ np.diag(weights) @ factor.T  # small integers: singular, exactly
    with balls.precision(128):
        found = balls.signs(balls.exact(matrix))
    assert found.undecided >= 1
    assert found.negative <= int((weights < 0).sum())
    assert found.positive <= int((weights > 0).sum())


def test_signs_that_a_box_leaves_open_stay_open() -> None:
    matrix = balls.widen(balls.exact(np.diag([1.0, -1e-3, 2.0])), flint.arb(1e-2))
    found = balls.signs(matrix)
    assert found == balls.Signs(0, 2, 1)
    assert balls.signs(balls.exact(np.full((2, 2), np.nan))) == balls.Signs(0, 0, 2)


@pytest.mark.parametrize("vectors", [np.zeros((3, 3)), np.diag([1.0, 0.0, 0.0]), np.ones((3, 3))])
def test_no_sign_rests_on_the_eigenvectors_being_right(vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np.linalg, "eigh", lambda matrix: (np.zeros(len(matrix)), vectors))
    found = balls.signs(balls.exact(np.diag([3.0, -1.0, 2.0])))
    assert found.negative <= 1
    assert found.positive <= 2
    assert found.undecided >= 1


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 6))
def test_full_rank_is_proved_where_it_is_and_never_where_it_is_not(seed: int, rows: int, columns: int) -> None:
    generator = np.random.default_rng(seed)
    matrix = generator.integers(-9, 10, (rows, columns)).astype(float)
    full = np.linalg.matrix_rank(matrix) == min(rows, columns)
    assert balls.full_rank(balls.exact(matrix)) == full
    deficient = np.concatenate([matrix, matrix[:1]]).repeat(2, axis=1)
    assert not balls.full_rank(balls.exact(np.tile(deficient[:1], (3, 2))))
