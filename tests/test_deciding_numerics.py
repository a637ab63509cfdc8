"""What decides in the solvers and in bounds of eigenvalues, on each side of where it turns (see tests/mutants)."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from saddlescope.numerics import balls, levenberg, newton, spectrum
from saddlescope.numerics.linear import Step
from saddlescope.numerics.tangent import Unconstrained
from saddlescope.paths import polish
from saddlescope.precision import float64

pytestmark = pytest.mark.usefixtures("stand_ins")

EPS = np.finfo(float).eps

# Bounds.


def test_the_rounding_of_a_norm_is_sixteen_times_the_scaled_difference_and_a_unit_of_the_last_place():
    found = spectrum.rounding_bound(np.array([3.0, 4.0]), np.array([3.0 + 2.0**-10, 4.0]))
    assert found == pytest.approx(16 * (2.0**-39 + 5 * EPS), rel=1e-12, abs=0.0)
    assert spectrum.rounding_bound(np.array([3.0, 4.0]), np.array([3.0, np.inf])) == np.inf


def test_the_rounding_of_an_entry_is_its_own():
    found = spectrum.entry_rounding(np.array([2.0, -8.0, 1.0]), np.array([2.0 + 2.0**-20, -8.0, np.inf]))
    assert found[:2] == pytest.approx([16 * (2.0**-49 + 2 * EPS), 16 * 8 * EPS], rel=1e-12, abs=0.0)
    assert found[2] == np.inf


def test_the_bounds_of_eigenvalues_hold_the_error_and_the_rounding():
    found = spectrum.dense_spectrum(np.diag([3.0, -5.0]), 0.25)
    assert found.values.tolist() == [-5.0, 3.0]
    assert (found.bounds >= 0.25 + 2 * EPS * 5).all()
    assert (found.bounds <= 0.25 + 1e-13).all()


def test_natural_units_bring_the_largest_entry_of_every_row_near_one():
    assert spectrum.natural_scale(np.diag([16.0, 2.0**-12]), np.zeros((2, 2))).tolist() == [0.25, 64.0]
    matrix = np.array([[0.0, 2.0**21, 0.0], [2.0**21, 1.0, 2.0**-9], [0.0, 2.0**-9, 2.0**-30]])
    scale = spectrum.natural_scale(matrix, np.zeros((3, 3)))
    tops = (scale[:, None] * matrix * scale).max(axis=1)
    assert ((tops >= 0.5) & (tops <= 2.0)).all()
    assert np.log2(scale).tolist() == np.round(np.log2(scale)).tolist()
    assert spectrum.natural_scale(np.zeros((2, 2)), np.zeros((2, 2))).tolist() == [1.0, 1.0]
    assert spectrum.natural_scale(np.diag([16.0, np.nan]), np.zeros((2, 2))).tolist() == [1.0, 1.0]


def test_a_row_is_not_enlarged_beyond_a_rounding_of_two_to_the_minus_forty():
    scale = spectrum.natural_scale(np.diag([1.0, 0.0]), np.diag([0.0, 2.0**-50]))
    assert scale.tolist() == [1.0, 2.0**5]


@pytest.mark.parametrize(("apart", "steps"), [(1e-12, 2), (1e-13, 1)])
def test_a_space_is_exhausted_where_what_is_left_is_below_1e_13(apart, steps):
    """diag(1, 1 + d): with a start of about equal entries the first beta is d/2."""
    with float64():
        product = Partial(jnp.multiply, jnp.asarray([1.0, 1.0 + apart]))
        assert spectrum.lanczos(product, 2, steps=2, null=np.zeros((0, 2))).steps == steps


def test_the_chance_that_an_eigenvalue_went_unseen_is_the_one_of_kuczynski_and_wozniakowski():
    found = spectrum.Lanczos(np.array([0.5, 2.0]), np.array([0.1, 0.0]), np.zeros((0, 9)), 10, 0.0)
    share = (0.5 - 0.3) / (1.05 * 2.0 - 0.3)
    wanted = 1.648 * np.sqrt(1e4) * np.exp(-np.sqrt(share) * 19)
    assert spectrum.chance_unseen(found, 10_000, 0.3) == pytest.approx(min(1.0, wanted), abs=0.0)
    long = found._replace(steps=100, residuals=np.array([0.1, 1.0]))
    share = 0.5 / (1.05 * 3.0)
    wanted = 1.648 * 100 * np.exp(-np.sqrt(share) * 199)
    assert spectrum.chance_unseen(long, 10_000) == pytest.approx(wanted, abs=0.0)
    assert spectrum.chance_unseen(long, 100) == 0.0
    assert spectrum.chance_unseen(long, 10_000, 0.5) == 1.0
    assert spectrum.chance_unseen(long._replace(steps=0), 10_000) == 0.0


# Newton steps.


class Square:
    """x^2 / 2, or any other height at each point."""

    def __init__(self, height=lambda x: 0.5 * x**2, slope=lambda x: x) -> None:
        self.height, self.slope = height, slope

    def value_and_gradient(self, x):
        return self.height(x[0]), jnp.asarray([self.slope(x[0])])


def step_from_one(
    monkeypatch, move, predicted, *, reach=1.0, radius=2.0, tolerance=1e-9, objective=None, linear="dense"
):
    """One step from x = 1, where the linear solver says what we tell it to; also what it was asked."""
    asked = []

    def solve(objective, surface, x, space, slope, shift, length, **options):
        asked.append((float(shift), float(length)))
        return Step(jnp.asarray([move]), jnp.asarray(predicted), jnp.asarray(7.0), jnp.asarray(3))

    monkeypatch.setattr(newton, "dense_step", solve)
    monkeypatch.setattr(newton, "krylov_step", solve)
    objective, surface = objective or Square(), Unconstrained(jnp.ones(1))
    begin = newton.begin(objective, surface, jnp.asarray([1.0]), jnp.asarray(0.0), jnp.asarray(tolerance))
    begin = begin._replace(reach=jnp.asarray(reach))
    found = newton.advance(
        objective, surface, begin, jnp.asarray(0.0), jnp.asarray(tolerance), jnp.asarray(radius), linear
    )
    return found, asked[0]


@pytest.mark.parametrize(
    ("move", "predicted", "reach", "after"),
    [
        (-0.5, 0.375 / 0.71, 0.3, 0.75),  # as good as predicted: three times this length
        (-0.5, 0.375 / 0.69, 0.3, 0.3),
        (-0.5, 0.375 / 0.71, 0.9, 0.9),
        (-0.9, 0.495 / 0.71, 0.1, 1.0),  # but never more than the radius
        (-0.5, -1.0, 0.3, 0.3),  # no prediction: 0.375 over 1
        (0.5, 0.1, 0.3, 0.25 * 0.25),  # refused: a quarter of the step
        (0.5, 0.1, 0.2, 0.25 * 0.2),
    ],
)
def test_steps_grow_after_good_ones_and_shrink_after_refused_ones(monkeypatch, move, predicted, reach, after):
    with float64():
        found, (shift, length) = step_from_one(monkeypatch, move, predicted, reach=reach)
        assert float(found.reach) == pytest.approx(after)
        assert float(found.x[0]) == pytest.approx(1.0 + min(move, 0.0))
        assert (int(found.iterations), int(found.products), float(found.curvature)) == (1, 3, 7.0)
        assert (shift, length) == pytest.approx((0.5, 2.0 * reach))  # |g| / radius
        assert int(found.status) == newton.RUNNING
        _, (shift, _) = step_from_one(monkeypatch, move, predicted, reach=reach, linear="krylov")
        assert shift == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("move", "tolerance", "status"),
    [(-0.5, 0.5, newton.CONVERGED), (-0.5, 0.49, newton.RUNNING), (-1.0, 0.0, newton.CONVERGED)],
)
def test_a_step_converges_at_the_tolerance_itself(monkeypatch, move, tolerance, status):
    with float64():
        assert int(step_from_one(monkeypatch, move, 0.1, tolerance=tolerance)[0].status) == status


@pytest.mark.parametrize(("length", "status"), [(3.9e-15, newton.STAGNATED), (4.1e-15, newton.RUNNING)])
def test_a_refused_step_too_short_to_move_anything_ends_the_search(monkeypatch, length, status):
    """A quarter of it, against 1e-15 of |x| = 1; the height rises whatever the step, so it is refused."""
    with float64():
        rising = Square(lambda x: jnp.where(x == 1.0, 0.0, 1.0), lambda x: jnp.where(x == 1.0, 1.0, 1e-30))
        found, _ = step_from_one(monkeypatch, length, 1.0, objective=rising)
        assert int(found.status) == status
        assert float(found.x[0]) == 1.0
        falling = Square(lambda x: jnp.where(x == 1.0, 0.0, -1.0), lambda x: 1.0 + 0.0 * x)
        assert int(step_from_one(monkeypatch, length, 1.0, objective=falling)[0].status) == newton.RUNNING


@pytest.mark.parametrize(
    ("value", "residual", "taken"),
    [
        (1.0 - 1.1e-14, 2.0, True),
        (1.0 - 1e-14, 2.0, False),
        (1.0 + 1e-14, 0.9, True),
        (1.0 - 0.9e-14, 2.0, False),
        (1.0 - 0.9e-14, 0.9, True),
        (1.0 + 0.9e-14, 0.9, True),
        (1.0 + 1.1e-14, 0.9, False),
    ],
)
def test_a_loss_is_level_to_1e_14(value, residual, taken):
    with float64():
        assert bool(newton.takes(*map(jnp.asarray, (value, residual, 1.0, 1.0)))) is taken


def test_where_it_begins_is_converged_running_or_not_finite():
    def status(slope: float, height: float = 1.0) -> int:
        objective = Square(lambda x: jnp.asarray(height), lambda x: jnp.asarray(slope))
        there = newton.begin(objective, Unconstrained(jnp.ones(1)), jnp.ones(1), jnp.asarray(0.0), jnp.asarray(0.5))
        return int(there.status)

    with float64():
        assert status(0.5) == newton.CONVERGED
        assert status(0.51) == newton.RUNNING
        assert status(0.5, np.nan) == status(np.inf) == status(np.nan) == newton.NON_FINITE


def test_of_two_guesses_the_flatter_is_taken_and_not_one_of_nan():
    def at(residual: float) -> newton.Iterate:
        place = jnp.asarray(residual)
        return newton.Iterate(place, place, place, place, place, place, jnp.asarray(0), jnp.asarray(0), jnp.asarray(0))

    with float64():
        for one, other, taken in ((1.0, 2.0, 1.0), (2.0, 1.0, 1.0), (1.0, np.nan, 1.0)):
            assert float(newton._better(at(one), at(other)).x) == taken


@pytest.mark.parametrize(("limit", "status", "steps"), [(2, newton.MAX_STEPS, 2), (3, newton.CONVERGED, 3)])
def test_a_correction_ends_at_the_limit_or_the_tolerance(limit, status, steps):
    """Each step halves x from 1: 1/8 is within the tolerance."""

    def halve(objective, surface, state, d, tolerance, radius):
        x = 0.5 * state.x
        done = jnp.where(jnp.abs(x[0]) <= tolerance, newton.CONVERGED, newton.RUNNING)
        return state._replace(x=x, iterations=state.iterations + 1, status=done)

    with float64():
        found = newton.correct(
            Square(), Unconstrained(jnp.ones(1)), jnp.ones(1), jnp.asarray(0.0), tolerance=jnp.asarray(0.125),
            radius=jnp.asarray(1.0), limit=jnp.asarray(limit), method=newton.Method(newton.begin, halve),
        )  # fmt: skip
        assert (int(found.status), int(found.iterations)) == (status, steps)
        there = newton.correct(
            Square(), Unconstrained(jnp.ones(1)), jnp.ones(1), jnp.asarray(0.0), tolerance=jnp.asarray(0.125),
            radius=jnp.asarray(1.0), limit=jnp.asarray(9), method=newton.Method(newton.begin, halve),
            other=jnp.asarray([0.1]),
        )  # fmt: skip
        assert (float(there.x[0]), int(there.iterations)) == (0.1, 0)


# Levenberg and Marquardt.


def lane(r=1.0, jacobian=1.0, damping=1.0, growth=2.0, x=1.0) -> levenberg.Lane:
    value, gradient, gram = r * r, 2.0 * r * jacobian, jacobian * jacobian
    numbers = map(jnp.asarray, (value, [gradient], [[gram]], damping, growth))
    return levenberg.Lane(jnp.asarray([x]), *numbers, jnp.asarray(4), jnp.asarray(levenberg.RUNNING))


def advanced(before: levenberg.Lane, r: float, jacobian: float = 1.0, target=0.0, tolerance=0.0, bound=1e8):
    """One step, after which residual and Jacobian are these, wherever it leads."""

    def linear(x):
        return jnp.asarray([r]) + 0.0 * x, jnp.asarray([[jacobian]])

    return levenberg._advance(linear, before, *map(jnp.asarray, (target, tolerance, bound)))


@pytest.mark.parametrize(
    ("gain", "factor"), [(1.0, 1 / 3), (0.8, 1 - 0.6**3), (0.5, 1.0), (0.25, 1.125), (1e-3, 1 + 0.998**3), (3.0, 1 / 3)]
)
def test_the_damping_follows_nielsen_s_gain(gain, factor):
    """r = 2, J = 1, damping 3: the step is -1/2 and predicts a fall by 1/2 (3/2 + 2) = 7/4."""
    with float64():
        found = advanced(lane(2.0, damping=3.0), np.sqrt(4.0 - gain * 1.75) if gain <= 2 else 0.0)
        wanted = factor if gain <= 2 else max(1 / 3, 1 - (2 * 4 / 1.75 - 1) ** 3)
        assert float(found.damping) == pytest.approx(3.0 * wanted, rel=1e-9)
        assert (float(found.x[0]), float(found.growth), int(found.iterations)) == (0.5, 2.0, 5)


def test_a_step_that_rises_is_refused_and_the_damping_grows_ever_faster():
    with float64():
        found = advanced(lane(2.0, damping=3.0, growth=4.0), 2.1)
        assert (float(found.x[0]), float(found.value), float(found.damping), float(found.growth)) == (
            1.0,
            4.0,
            12.0,
            8.0,
        )
        assert int(found.status) == levenberg.RUNNING
        assert int(advanced(found._replace(status=jnp.asarray(levenberg.CONVERGED)), 0.0).iterations) == 5
        assert float(advanced(lane(), np.nan).x[0]) == 1.0


@pytest.mark.parametrize(
    ("change", "jacobian", "taken"),
    [(-1.2e-14, 2.0, True), (-0.8e-14, 2.0, False), (-0.8e-14, 0.5, True), (0.8e-14, 0.5, True), (1.2e-14, 0.5, False)],
)
def test_where_values_are_level_to_1e_14_the_flatter_point_is_taken(change, jacobian, taken):
    with float64():
        found = advanced(lane(), 1.0 + change / 2, jacobian)
        assert (float(found.x[0]) != 1.0) is taken
        if abs(change) < 1e-14 and taken:
            assert float(found.damping) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("r", "growth", "status"),
    [
        (0.9e-16, 2.0, levenberg.STAGNATED),  # r = J'r: over 1 + damping 1e-9 it is the step, against |x| = 1
        (1.1e-16, 2.0, levenberg.RUNNING),
        (1.0, 0.9e30, levenberg.RUNNING),
        (1.0, 1.1e30, levenberg.STAGNATED),
    ],
)
def test_a_lane_stagnates_where_steps_move_nothing_or_the_damping_has_grown_for_good(r, growth, status):
    with float64():
        assert int(advanced(lane(r, damping=1e-9, growth=growth), 2.0).status) == status
        assert int(advanced(lane(1.0, growth=growth), 0.5).status) == levenberg.RUNNING


def test_a_lane_ends_at_its_target_its_tolerance_or_its_bound():
    with float64():
        assert int(advanced(lane(), 0.5, target=0.25).status) == levenberg.CONVERGED
        assert int(advanced(lane(), 0.5, target=0.24).status) == levenberg.RUNNING
        assert int(advanced(lane(), 0.5, tolerance=1.0).status) == levenberg.CONVERGED
        assert int(advanced(lane(), 0.5, tolerance=0.99).status) == levenberg.RUNNING
        assert int(advanced(lane(x=-3.0), 0.5, bound=3.4).status) == levenberg.DIVERGED
        assert int(advanced(lane(x=-3.0), 0.5, bound=3.5).status) == levenberg.RUNNING
        assert int(advanced(lane(x=-3.0), 0.5, bound=3.0, target=1.0).status) == levenberg.CONVERGED


def test_the_first_damping_is_a_thousandth_of_the_largest_square():
    def linear(x):
        return x, jnp.diag(jnp.asarray([3.0, 0.5]))

    with float64():
        found = levenberg._begin(linear, jnp.asarray([2.0, 4.0]))
        assert float(found.damping) == pytest.approx(9e-3, rel=1e-14, abs=0.0)
        assert (float(found.value), found.gradient.tolist()) == (20.0, [12.0, 4.0])
        assert int(found.status) == levenberg.RUNNING
        assert int(levenberg._begin(linear, jnp.asarray([np.nan, 4.0])).status) == levenberg.NON_FINITE


# The polish of a permutation point.


def model() -> polish._Model:
    """Weak directions of curvature 2, -1 and (no sign) just what is flat; a strong one of curvature 4."""
    frame = polish._Frame(np.arange(4), np.eye(4)[:, :3], np.eye(4)[:, 3:], np.array([4.0]), 4e-14)
    values, slope = np.array([2.0, -1.0, 4e-14]), np.array([1.0, 3.0, 5.0])
    return polish._Model(frame, np.array([[1.0, 0.0, 0.0]]), values, np.eye(3), slope, np.array([2.0]))


def test_at_the_bound_itself_a_step_is_taken_and_a_point_critical():
    assert polish.takes(0.5, 1.0)
    assert polish.is_critical(1.0, 1e-12, 1e-5 * 2.0, -2.0)
    assert polish.is_critical(1e-12, 1e-12, 1.0, 2.0)


def test_what_is_left_to_win_counts_every_curvature_that_has_a_sign():
    assert model().decrease == pytest.approx(0.5 * (1 / 2 + 9 / 1 + 4 / 4))


def test_a_step_down_goes_against_every_slope_and_says_how_far_its_model_falls():
    step, falls = model().descent(100.0)
    assert step == pytest.approx([-0.5, -3.0, 0.0, -(2.0 - 0.5) / 4])
    assert falls == pytest.approx(model().decrease)
    step, falls = model().descent(1.0)
    assert 0.9 < np.linalg.norm(step[:3]) <= 1.0
    assert falls == pytest.approx(-(step[0] + 3 * step[1]) - 0.5 * (2 * step[0] ** 2 + step[1] ** 2) + 0.5)


@pytest.mark.parametrize("radius", [1e-6, 1e-3, 0.5, 2.9])
def test_the_shift_brings_a_step_just_within_its_radius(radius):
    sizes, slope = np.array([2.0, 1.0]), np.array([1.0, 3.0])
    length = np.linalg.norm(slope / (sizes + polish._shift(sizes, slope, radius)))
    assert 0.8 * radius < length <= radius
    assert polish._shift(sizes, slope, 3.1) == 0.0
    assert polish._shift(sizes[:0], slope[:0], radius) == 0.0


# Refinement in balls.


@pytest.mark.parametrize(
    ("left", "bits", "hessians", "settles"),
    [(0.009, 200, 1, True), (0.009, 500, 1, False), (0.011, 200, 8, False), (0.5, 200, 8, False)],
)
def test_steps_that_shrink_by_less_than_a_hundred_ask_for_another_hessian_up_to_eight(left, bits, hessians, settles):
    """f' = x, and a Hessian that leaves a share of x after each step: 60 steps of 0.009 reach 2^-407."""
    flint = pytest.importorskip("flint")
    asked = []

    def hessian(x):
        asked.append(x)
        return flint.arb_mat([[1 / (1 - flint.arb(left))]])

    with balls.precision(bits):
        found = balls.refine(balls.exact([1.0]), lambda x: x, hessian)
    assert (len(asked), isinstance(found, balls.Refined)) == (hessians, settles)
