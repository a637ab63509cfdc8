"""What copying a unit adds to the Hessian's signs: G and B against sums over samples, blocks against their matrices."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from references.critical_networks import ACTIVATIONS, copied, coupling, critical, problem_of, with_residual
from saddlescope.arrays import Layout
from saddlescope.critical.decomposition import antisymmetric, coupling_of, scene_of
from saddlescope.critical.exchange import Coupling, block, closed_coupling, share_signs, structurally_unused
from saddlescope.critical.groups import CLOSE
from saddlescope.critical.refine import refine_dense
from saddlescope.data.data import Data
from saddlescope.precision import float64
from saddlescope.problem.problem import Problem

seeds = st.integers(0, 10_000)


def flat(parameters):
    return np.concatenate([value.ravel() for value in parameters.values()])


@given(
    shares=st.lists(st.one_of(st.just(0.0), st.floats(0.01, 5), st.floats(-5, -0.01)), min_size=1, max_size=6).filter(
        lambda shares: abs(sum(shares)) > 0.05
    )
)
def test_signs_of_the_shares_are_those_of_the_restricted_form(shares: list[float]) -> None:
    """Against the eigenvalues of diag(beta) on {eps: sum beta eps = 0}."""
    beta = np.array(shares) / sum(shares)
    _, _, rows = np.linalg.svd(beta[None, :])
    restricted = rows[1:] @ np.diag(beta) @ rows[1:].T
    values = np.linalg.eigvalsh(restricted)
    size = 1e-9 * np.abs(beta).max()
    expected = (int(np.sum(values < -size)), int(np.sum(np.abs(values) <= size)), int(np.sum(values > size)))
    assert share_signs(tuple(beta)) == expected


def test_signs_of_a_pair_are_the_sign_of_beta_times_one_minus_beta() -> None:
    assert [share_signs((beta, 1 - beta)) for beta in (0.5, 1.5, -0.1, 0.0, 1.0)] == [
        (0, 0, 1),
        (1, 0, 0),
        (1, 0, 0),
        (0, 1, 0),
        (0, 1, 0),
    ]


@pytest.fixture(scope="module")
def two_layers():
    """A critical point of two hidden layers, its problem with samples in chunks, and the scene of copies in both."""
    point = critical((2, 2, 3, 2), "softplus", seed=5, samples=40)
    wide = copied(copied(point, 1, 1, (0.4, -0.3, 0.9)), 2, 0, (0.7, 0.3))
    chunked = Problem(problem_of(wide).network, Data(wide.inputs, wide.targets), chunk=7)
    with float64():
        return point, chunked, scene_of(chunked, wide.parameters, CLOSE)


@pytest.mark.parametrize(("layer", "unit"), [(1, 0), (1, 1), (2, 0), (2, 2)])
def test_the_closed_form_is_the_sum_over_samples_to_within_its_bound(two_layers, layer: int, unit: int) -> None:
    point, _, scene = two_layers
    with float64():
        found = closed_coupling(scene.small, flat(point.parameters), layer, unit)
    g, b = (part.astype(float) for part in coupling(point, layer, unit))
    assert np.linalg.norm(found.g - g) <= np.linalg.norm(found.g_error) < 1e-12
    assert np.linalg.norm(found.b - b) <= np.linalg.norm(found.b_error) < 1e-12
    assert found.used.all()
    assert np.array_equal(found.outgoing, point.parameters[f"{2 * layer}.weight"][:, unit])
    assert np.array_equal(found.incoming[:-1], point.parameters[f"{2 * layer - 2}.weight"][unit])
    # At a critical point a^T G = 0.
    assert np.linalg.norm(found.outgoing @ found.g) < 1e-14 * np.linalg.norm(found.outgoing)


@pytest.mark.parametrize("number", [0, 1])
def test_products_give_the_same_g_and_b_where_two_neighbouring_layers_hold_copies(two_layers, number: int) -> None:
    point, _, scene = two_layers
    group = scene.groups[number]
    with float64():
        found = coupling_of(scene, flat(point.parameters), group, "exchange")
    g, b = (part.astype(float) for part in coupling(point, group.layer, group.units[0]))
    # Entries may come in another order: those of x, not those of the neurons.
    layout = Layout.of(point.parameters)
    neurons = scene.small.network.neurons(group.layer)
    columns = np.argsort(neurons.incoming_positions(layout)[group.units[0]])
    wrong = [float(np.linalg.norm(error)) for error in (found.g_error, found.b_error)]
    np.testing.assert_allclose(found.g, g[:, columns], atol=wrong[0])
    np.testing.assert_allclose(found.b, b[np.ix_(columns, columns)], atol=wrong[1])
    assert max(wrong) < 1e-12
    assert found.used.all()


def test_blocks_of_all_copies_and_the_small_network_have_as_many_directions_as_the_wide_one(two_layers) -> None:
    point, chunked, scene = two_layers
    with float64():
        for form in ("closed-form", "exchange"):
            found = antisymmetric(scene, refine_dense(scene.reduced, flat(point.parameters)), form)
            sizes = sum(times * one.inertia.size for _, _, times, one in found)
            assert point.size + sizes == chunked.network.layout.size


# Blocks, without any network.


def random_coupling(seed: int, outputs: int, inputs: int, *, outgoing: bool = True, linear: bool = False):
    """Return a random G with a^T G = 0 (small whole numbers, of any rank) and a random B of any rank."""
    generator = np.random.default_rng(seed)
    a = generator.integers(-3, 4, outputs).astype(float)
    a[0] = a[0] or 1.0
    rank = generator.integers(0, min(outputs, inputs) + 1)
    g = generator.integers(-3, 4, (outputs, rank)) @ generator.integers(-3, 4, (rank, inputs)).astype(float)
    g = (a @ a) * g - np.outer(a, a @ g) if outgoing else g
    rank = generator.integers(0, inputs + 1)
    half = generator.integers(-3, 4, (rank, inputs)).astype(float)
    b = 0.0 * np.eye(inputs) if linear else half.T @ np.diag(generator.choice([-1.0, 1.0], rank)) @ half
    return Coupling(g, b, 1e-13, 1e-13, a if outgoing else 0 * a, np.ones(inputs), np.ones(inputs, dtype=bool))


def counted(matrix):
    values = np.linalg.eigvalsh(matrix)
    size = 1e-11 * max(np.abs(values).max(initial=0.0), 1.0)
    return int(np.sum(values < -size)), int(np.sum(np.abs(values) <= size)), int(np.sum(values > size))


@given(seed=seeds, outputs=st.integers(1, 4), inputs=st.integers(1, 4), sigma=st.sampled_from([-1, 0, 1]))
def test_a_block_never_contradicts_the_eigenvalues_of_its_matrix(seed, outputs, inputs, sigma) -> None:
    given_coupling = random_coupling(seed, outputs, inputs)
    g, b = given_coupling.g, given_coupling.b
    negative, zero, positive = counted(np.block([[np.zeros((outputs, outputs)), g], [g.T, sigma * b]]))
    found = block(given_coupling, sigma, homogeneous=False).inertia
    assert found.size == negative + zero + positive
    assert found.negative == negative
    assert found.positive == positive
    assert found.zero <= zero


@given(seed=seeds, outputs=st.integers(1, 4), inputs=st.integers(1, 5))
def test_at_full_rank_every_sign_of_a_block_is_decided_as_the_formula_says(seed, outputs, inputs) -> None:
    """index = rho + index(N^T B N), nullity = outputs - rho: rho = rank G = min(outputs - 1, inputs), N spans ker G."""
    generator = np.random.default_rng(seed)
    a, g, b = generator.normal(size=outputs), generator.normal(size=(outputs, inputs)), generator.normal(size=inputs)
    g -= np.outer(a, a @ g) / (a @ a)
    b = np.diag(np.sign(b) * (0.1 + np.abs(b)))
    rho = min(outputs - 1, inputs)
    kernel = np.linalg.svd(g)[2][rho:]
    low = int(np.sum(np.linalg.eigvalsh(kernel @ b @ kernel.T) < 0))
    if np.abs(np.linalg.eigvalsh(kernel @ b @ kernel.T)).min(initial=1.0) < 1e-3:
        return
    wanted = Coupling(g, b, 1e-12, 1e-12, a, np.ones(inputs), np.ones(inputs, dtype=bool))
    found = block(wanted, 1, homogeneous=False, extra=3)
    assert (found.inertia.negative, found.inertia.zero) == (rho + low, outputs - rho + 3)
    assert found.inertia.unresolved == 0
    assert found.counts["outgoing transfer"] == found.inertia.zero


@given(seed=seeds, outputs=st.integers(1, 4), inputs=st.integers(1, 4), sigma=st.sampled_from([-1, 0, 1]))
def test_without_curvature_the_kernel_of_g_is_flat_and_the_rest_comes_in_pairs(seed, outputs, inputs, sigma) -> None:
    generator = np.random.default_rng(seed)
    a, theta = generator.normal(size=outputs), generator.normal(size=inputs)
    g = generator.normal(size=(outputs, inputs))
    g -= np.outer(a, a @ g) / (a @ a)
    g -= np.outer(g @ theta, theta) / (theta @ theta)
    wanted = Coupling(g, np.zeros((inputs, inputs)), 1e-12, 0.0, a, theta, np.ones(inputs, dtype=bool))
    found = block(wanted, sigma, homogeneous=True)
    rank = min(outputs, inputs) - 1
    assert (found.inertia.negative, found.inertia.zero, found.inertia.positive) == (
        rank,
        outputs + inputs - 2 * rank,
        rank,
    )
    assert found.counts["scaling"] == 1


def test_curvature_that_rounds_to_zero_is_flat_only_for_a_piecewise_linear_activation() -> None:
    """A saturated tanh has g'' = 0 in float64, not in truth."""
    flat_b = random_coupling(3, 2, 3, linear=True)
    assert block(flat_b, 1, homogeneous=True).counts["piecewise linear"] > 0
    smooth = block(flat_b, 1, homogeneous=False)
    assert "piecewise linear" not in smooth.counts
    assert smooth.inertia.unresolved > 0
    assert block(flat_b, 0, homogeneous=False).counts["zero share"] > 0


def test_an_error_of_g_or_b_as_large_as_they_are_leaves_no_sign() -> None:
    sharp = random_coupling(1, 3, 3)
    assert block(sharp, 1, homogeneous=False).inertia.negative > 0
    found = block(sharp._replace(g_error=1e3, b_error=1e3), 1, homogeneous=False).inertia
    assert (found.negative, found.positive) == (0, 0)


def test_entries_that_nothing_reads_are_flat_and_no_others() -> None:
    """G and B vanish in two columns; only the one that no sample reads counts as flat."""
    whole = random_coupling(1, 3, 2)
    g, b = np.zeros((3, 4)), np.zeros((4, 4))
    g[:, :2], b[:2, :2] = whole.g, whole.b
    used = np.array([True, True, True, False])
    found = block(Coupling(g, b, 1e-13, 1e-13, whole.outgoing, np.ones(4), used), 1, homogeneous=False)
    before = block(whole, 1, homogeneous=False)
    assert found.counts["unused"] == 1
    assert found.inertia.zero == before.inertia.zero + 1 - max(0, 3 - 1 - 2) + max(0, 3 - 1 - 3)
    assert found.inertia.unresolved == before.inertia.unresolved + 1


def test_entries_are_unread_only_if_the_loss_is_the_same_without_them() -> None:
    """min(x^2, 1) has no slope at 5, nor at 0: only the third entry of x is truly unread."""

    def evaluate(x):
        near = np.abs(x[:2]) < 1
        return float(np.minimum(x[:2] ** 2, 1).sum()), np.append(np.where(near, 2 * x[:2], 0.0), 0.0)

    def found(*dead: bool) -> list[bool]:
        return structurally_unused(evaluate, np.array([5.0, 0.5, 3.0]), np.array(dead)).tolist()

    assert found(False, False, False) == [False, False, False]
    assert found(False, False, True) == [False, False, True]
    assert found(True, False, False) == [False, False, False]


def test_a_feature_that_is_always_zero_is_unused_a_saturated_unit_is_not() -> None:
    """Both have exact zeros in G and B; the unit would be read if it were less saturated."""
    point = critical((3, 2, 2), "tanh", samples=40)
    inputs = np.clip(point.inputs, -1, 1)
    inputs[:, 1] = 0.0
    parameters = dict(point.parameters) | {"0.bias": np.array([40.0, 0.1])}
    point = with_residual(replace(point, inputs=inputs, parameters=parameters), point.targets, 1e-2)
    assert float(ACTIVATIONS["tanh"][1](np.longdouble(35.0))) > 0
    wide = copied(copied(point, 1, 0, (0.5, 0.5)), 1, 1, (0.5, 0.5))
    with float64():
        scene = scene_of(problem_of(wide), wide.parameters, CLOSE)
        for form in ("closed-form", "exchange"):
            saturated, other = (coupling_of(scene, flat(point.parameters), group, form) for group in scene.groups)
            assert saturated.used.tolist() == [True, False, True, True]
            assert other.used.tolist() == [True, False, True, True]
