"""Certificates against Hessians in extended precision, against PyTorch's, against theory; and their words."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import scipy.optimize
import torch

import saddlescope as ss
from references.critical_networks import (
    Critical,
    copied,
    coupling,
    critical,
    gradient_and_hessian,
    moved,
    newton,
    problem_of,
    signs,
    value,
    with_residual,
)
from saddlescope.arrays import Layout
from saddlescope.critical.certify import certify
from saddlescope.critical.result import Certificate, Inertia, Kind
from saddlescope.critical.verdict import disagreement, verdict
from saddlescope.data.data import Data
from saddlescope.errors import NeuronsError, NonFiniteError, SettingsError, ShapeError
from saddlescope.units.actions import split
from saddlescope.units.neurons import Neurons, Slice

HALF = (0.5, 0.5)


def agree(point: Critical, found: Certificate, *, decided: bool = True) -> None:
    """Check a certificate against the signs of the Hessian in extended precision."""
    truth = signs(point)
    assert truth is not None, "the Hessian's eigenvalues leave no clear gap: choose another seed"
    text = f"{truth} {found.index_range} {found.nullity_range} {found.methods} {found.reasons}"
    assert found.index_range[0] <= truth[0] <= found.index_range[1], text
    assert found.nullity_range[0] <= truth[1] <= found.nullity_range[1], text
    if decided:
        assert (found.index, found.nullity) == truth, text
        flat = Kind.MINIMUM if truth[1] else Kind.STRICT_MINIMUM
        assert found.verdict == (Kind.SADDLE if truth[0] else flat), text
    if found.index is not None and found.nullity is not None and found.verdict != Kind.UNDECIDED:
        assert sum(part.times * part.inertia.size for part in found.parts) == point.size, text


def check(point: Critical, **settings: object) -> Certificate:
    """Certify and compare."""
    found = certify(problem_of(point), point.parameters, **settings)
    agree(point, found)
    return found


# The exchange split, the whole Hessian and the truth.

SPLITS = [
    ((0, HALF),),
    ((1, (0.2, 0.3, 0.5)),),
    ((2, (1.7, -0.7)),),
    ((0, (1.0, 0.0)),),
    ((0, (0.0, 0.0, 1.0)),),
    ((2, (-0.4, 0.9, 0.5)),),
    ((0, (1.5, -0.25, -0.25)),),
    ((0, (0.4, 0.6)), (2, (1.2, -0.2))),
    ((0, (0.0, 1.0)), (1, (-2.0, 3.0))),
]


@pytest.mark.parametrize("residual", [0.02, 1.0])
@pytest.mark.parametrize("splits", SPLITS, ids=str)
def test_all_three_ways_agree_with_the_truth_whatever_the_shares(splits: tuple, residual: float) -> None:
    point = critical((2, 3, 2), seed=2, residual=residual)
    extra = 2 - sum(len(shares) - 1 for _, shares in splits)
    for unit, shares in splits:
        point = copied(point, 1, unit, shares)
    if extra:  # to the width of the others, so that they share a compilation
        point = copied(point, 1, 1 if splits[0][0] == 0 else 0, HALF)
    found = check(point)
    assert set(found.methods) == {"closed-form", "exchange", "dense"}
    assert found.method == "closed-form + exchange + dense"
    assert found.distance < 1e-12
    assert found.loss == pytest.approx(value(point), rel=1e-12, abs=0.0)
    truth = gradient_and_hessian(point)[0].astype(float)
    assert found.gradient_norm == pytest.approx(np.linalg.norm(truth), abs=1e-13)
    flat = {one.kind: one for one in found.flat}
    assert flat["outgoing transfer"].count >= len(splits)
    assert flat["outgoing transfer"].residual < 1e-12
    assert found.symmetry_nullity == flat["outgoing transfer"].count
    assert [group.layer for group in found.groups] == [1] * len(found.groups)


def test_copies_in_neighbouring_layers_count_the_directions_between_them_once() -> None:
    """3 copies in layer 1 and 2 in layer 2: (3 - 1)(2 - 1) flat directions belong to neither group alone."""
    for seed, splits in itertools.product(range(3), [(HALF, (0.2, 0.3, 0.5)), ((0.0, 1.0), (1.4, -0.2, -0.2))]):
        point = critical((2, 2, 2, 3), "sine", seed=seed, bias=False)
        point = copied(copied(point, 2, 1, splits[0]), 1, 0, splits[1])
        found = check(point)
        assert {group.layer for group in found.groups} == {1, 2}
        assert found.nullity is not None
        assert found.nullity >= 2 + 2 + 1


def test_three_hidden_layers_one_output_all_with_copies() -> None:
    point = critical((2, 2, 2, 2, 1), "sigmoid", seed=3)
    for layer, unit, shares in ((1, 0, (0.3, 0.7)), (2, 1, (1.3, -0.3)), (3, 0, (0.25, 0.25, 0.5))):
        point = copied(point, layer, unit, shares)
    agree(point, certify(problem_of(point), point.parameters, check_limit=1), decided=False)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_piecewise_linear_units_have_their_scale_and_the_kernel_of_g_flat(activation: str) -> None:
    for seed, shares in itertools.product(range(3), (HALF, (1.5, -0.5), (0.0, 1.0))):
        point = copied(critical((3, 3, 2), activation, seed=seed), 1, 1, shares)
        found = certify(problem_of(point), point.parameters, check_limit=1)
        agree(point, found)
        counts = {one.kind: one for one in found.flat}
        assert counts["scaling"].residual < 1e-12
        assert any("across kinks" in line for line in found.not_shown)
        if activation == "leaky_relu":
            assert counts["scaling"].count == 4
            assert counts["zero share" if 0.0 in shares else "piecewise linear"].count == 4 - 1 - 1


@pytest.mark.parametrize("scale", [(1e-8, 1.0), (1e6, 1.0), (1.0, 1e-4), (1.0, 1e3), (1e-3, 1e3)])
def test_the_scale_of_data_weights_and_loss_does_not_change_the_signs(scale: tuple[float, float]) -> None:
    """Losses from 1e-8 to 1e6; a scale that hides signs may leave them undecided, never wrong."""
    point = copied(critical((2, 3, 2), seed=4, input_scale=scale[0], output_scale=scale[1]), 1, 0, (0.3, 0.3, 0.4))
    agree(point, certify(problem_of(point), point.parameters), decided=scale == (1.0, 1e3))


# What theory says.


def test_at_zero_loss_copies_part_in_any_way_and_the_answer_is_a_global_minimum() -> None:
    """Nullity 3 outputs ... science notes, 3: n_out + n_in + 1 for each further copy at a proportional split."""
    point = copied(critical((2, 3, 2), seed=1, residual=0.0), 1, 0, (0.2, 0.2, 0.6))
    found = check(point)
    assert found.verdict == Kind.MINIMUM
    assert found.nullity == 2 * (2 + 2 + 1)
    assert any("global minimum" in reason for reason in found.reasons)
    flat = {one.kind: one.count for one in found.flat}
    assert flat == {"zero loss": 10}


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("beta", [0.3, 0.9, 1.4, -0.6])
def test_theorem_3_of_fukumizu_and_amari(positive: bool, beta: float) -> None:
    """One output, strict minimum without copies, B definite: a minimum inside (0, 1) iff B > 0, outside iff B < 0."""
    for seed in range(200):
        point = critical((2, 1, 1), "softplus", seed=seed, bias=False, residual=0.3, samples=40)
        b = np.linalg.eigvalsh(coupling(point, 1, 0)[1].astype(float))
        truth = signs(point)
        if truth == (0, 0) and np.abs(b).min() > 1e-4 and (b > 0).all() == positive and (b < 0).all() != positive:
            break
    else:
        pytest.fail("no such network among the seeds")
    found = check(copied(point, 1, 0, (beta, 1 - beta)), check_limit=1)
    inside = 0 < beta < 1
    assert found.index == (0 if inside == positive else 2)
    assert found.nullity == 1
    assert found.verdict == (Kind.MINIMUM if inside == positive else Kind.SADDLE)


class Weighted:
    """One erf unit without bias whose inputs end with a column that weighs the sample: a sum over quadrature nodes."""

    def __init__(self, inputs: int, units: int) -> None:
        self.widths, self.shapes = (inputs + 1, units, 1), {"in": (units, inputs), "out": (1, units)}

    @property
    def layout(self) -> Layout:
        return Layout(tuple(self.shapes), tuple(self.shapes.values()))

    def apply(self, parameters, inputs):
        from jax.scipy.special import erf

        return (erf(inputs[:, :-1] @ parameters["in"].T / np.sqrt(2.0)) @ parameters["out"].T) * inputs[:, -1:]

    def neurons(self, layer: int) -> Neurons:
        if layer != 1:
            raise NeuronsError("no such layer", name="layer", value=layer, expected="1")
        return Neurons((Slice("in", 0),), (Slice("out", 1),))

    def homogeneous(self, layer: int) -> bool:
        return layer < 0

    def check(self, parameters) -> None:
        assert {name: np.shape(entry) for name, entry in parameters.items()} == self.shapes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Weighted) and self.shapes == other.shapes

    def __hash__(self) -> int:
        return hash(str(self.shapes))


def test_the_average_of_two_teachers_at_infinite_data_is_the_closed_form() -> None:
    """Science notes, 8: w = sum v_i / sqrt m / sqrt(2m - 1), a = m, loss m/3 - (2/pi) m^2 arcsin(1/(2m)) for m = 2."""
    from scipy.special import erf

    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    x, y = (part.ravel() for part in np.meshgrid(nodes, nodes))
    mass = np.outer(weights, weights).ravel() / (2 * np.pi)
    column = np.sqrt(mass * len(x))
    targets = (erf(x / np.sqrt(2)) + erf(y / np.sqrt(2))) * column
    data = Data(np.stack([x, y, column], axis=1), targets)
    one = {"in": np.full((1, 2), 1 / np.sqrt(6.0)), "out": np.array([[2.0]])}
    network = Weighted(2, 1)
    found = certify(ss.Problem(network, data), one)
    assert found.loss == pytest.approx(2 / 3 - 8 / np.pi * np.arcsin(1 / 4), abs=1e-10)
    assert found.loss == pytest.approx(0.02322168, abs=1e-8)
    assert found.gradient_norm < 1e-9
    values = np.linalg.eigvalsh(_erf_hessian(np.sqrt(1 / 6.0), 2.0))
    assert (found.index, found.nullity) == (int(np.sum(values < 0)), 0)
    wide = split(one, network.neurons(1), 0, HALF)
    # Two units there are a saddle: turning them apart lowers the loss. The other direction of B, along w, is 0.
    pair = certify(ss.Problem(Weighted(2, 2), data), wide)
    assert set(pair.methods) == {"exchange", "dense"}
    assert pair.verdict == Kind.SADDLE
    assert (pair.index_range, pair.nullity_range) == ((1, 2), (1, 2))


def _erf_hessian(w: float, a: float, step: float = 1e-4) -> np.ndarray:
    """Return the Hessian of the closed-form loss at infinite data, by differences: E erf erf = (2/pi) arcsin(...)."""

    def mean(u, v):
        return 2 / np.pi * np.arcsin(u @ v / np.sqrt((1 + u @ u) * (1 + v @ v)))

    def loss(p):
        teachers = np.eye(2)
        across = sum(mean(p[:2], teacher) for teacher in teachers)
        return p[2] ** 2 * mean(p[:2], p[:2]) - 2 * p[2] * across + 2 / 3

    at, e = np.array([w, w, a]), step * np.eye(3)
    return np.array(
        [
            [
                (loss(at + e[i] + e[j]) - loss(at + e[i] - e[j]) - loss(at - e[i] + e[j]) + loss(at - e[i] - e[j]))
                / (4 * step**2)
                for j in range(3)
            ]
            for i in range(3)
        ]
    )


# Other models, losses and penalties.


class Convolution:
    """Channels over a short signal, tanh, flattened into a dense layer: the outgoing slices have blocks of 3."""

    def __init__(self, channels: int) -> None:
        self.widths = (8, channels, 2)
        self.shapes = {"conv": (channels, 2, 2), "shift": (channels,), "fc": (2, channels * 3), "end": (2,)}

    @property
    def layout(self) -> Layout:
        return Layout(tuple(self.shapes), tuple(self.shapes.values()))

    def apply(self, parameters, inputs):
        import jax.numpy as jnp

        signal = inputs.reshape(len(inputs), 2, 4)
        windows = jnp.stack([signal[:, :, k : k + 3] for k in range(2)], axis=-1)
        z = jnp.einsum("sipk,cik->scp", windows, parameters["conv"]) + parameters["shift"][None, :, None]
        return jnp.tanh(z).reshape(len(inputs), -1) @ parameters["fc"].T + parameters["end"][None, :]

    def neurons(self, layer: int) -> Neurons:
        if layer != 1:
            raise NeuronsError("no such layer", name="layer", value=layer, expected="1")
        return Neurons((Slice("conv", 0), Slice("shift", 0)), (Slice("fc", 1, block=3),))

    def homogeneous(self, layer: int) -> bool:
        return layer < 0

    def check(self, parameters) -> None:
        assert {name: np.shape(entry) for name, entry in parameters.items()} == self.shapes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Convolution) and self.shapes == other.shapes

    def __hash__(self) -> int:
        return hash(str(self.shapes))

    def torch_outputs(self, vector: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        pieces = torch.split(vector, [int(np.prod(shape)) for shape in self.shapes.values()])
        p = {name: piece.reshape(shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)}
        z = torch.nn.functional.conv1d(inputs.reshape(-1, 2, 4), p["conv"], p["shift"])
        return torch.tanh(z).flatten(1) @ p["fc"].T + p["end"]


@pytest.mark.parametrize("shares", [HALF, (1.6, -0.6), (0.0, 1.0)])
def test_channels_of_a_convolution_are_certified_by_products_as_by_torch(shares: tuple[float, float]) -> None:
    generator = np.random.default_rng(0)
    small, wide = Convolution(2), Convolution(3)
    parameters = {name: generator.normal(size=shape) for name, shape in small.shapes.items()}
    inputs = torch.from_numpy(generator.normal(size=(60, 8)))
    theta = torch.from_numpy(np.concatenate([entry.ravel() for entry in parameters.values()]))
    jacobian = torch.autograd.functional.jacobian(lambda at: small.torch_outputs(at, inputs).ravel(), theta).numpy()
    basis, _ = np.linalg.qr(jacobian)
    residual = generator.normal(size=len(basis))
    for _ in range(3):
        residual -= basis @ (basis.T @ residual)
    targets = small.torch_outputs(theta, inputs).numpy() - residual.reshape(60, 2)
    large = split(parameters, small.neurons(1), 1, shares)
    at = torch.from_numpy(np.concatenate([entry.ravel() for entry in large.values()]))
    wanted = torch.from_numpy(targets)
    hessian = torch.autograd.functional.hessian(lambda v: ((wide.torch_outputs(v, inputs) - wanted) ** 2).mean(), at)
    values = np.linalg.eigvalsh(hessian.numpy())
    zero = np.abs(values) < 1e-13
    assert np.abs(values[~zero]).min() > 1e-7
    found = certify(ss.Problem(wide, Data(inputs.numpy(), targets)), large)
    assert set(found.methods) == {"exchange", "dense"}
    assert (found.index, found.nullity) == (int(np.sum(values[~zero] < 0)), int(zero.sum()))
    assert [group.units for group in found.groups] == [(1, 2)]


def descended(point: Critical) -> Critical:
    """Return the minimum that BFGS and Newton's method lead to."""
    at = np.concatenate([entry.ravel() for entry in point.parameters.values()])

    def loss(theta):
        here = moved(point, theta - at)
        return value(here), gradient_and_hessian(here)[0].astype(float)

    found = scipy.optimize.minimize(loss, at, jac=True, method="BFGS", options={"gtol": 1e-7})
    point = newton(moved(point, found.x - at))
    assert np.linalg.norm(gradient_and_hessian(point)[0].astype(float)) < 1e-13
    return point


def test_cross_entropy_has_the_null_directions_of_its_softmax() -> None:
    """A vector added to every logit's weights changes nothing: 2 + 1 null directions with 2 inputs and biases."""
    generator = np.random.default_rng(0)
    start = replace(critical((2, 3), samples=60), loss="cross_entropy", targets=generator.integers(0, 3, 60))
    point = descended(start)
    assert signs(point) == (0, 3)
    found = check(point)
    assert {one.kind: one.count for one in found.flat} == {"softmax shift": 3}


def test_cross_entropy_with_weight_decay_is_decided() -> None:
    labels = np.random.default_rng(0).integers(0, 2, 60)
    start = replace(critical((2, 3, 2), seed=6, samples=60), loss="cross_entropy", targets=labels, weight_decay=1e-2)
    assert check(descended(start)).verdict == Kind.STRICT_MINIMUM


def test_the_normalised_loss_has_the_signs_of_the_squared_error() -> None:
    point = replace(critical((2, 3, 2), seed=2), loss="normalised")
    found = check(point)
    assert found.loss == pytest.approx(value(point), rel=1e-12, abs=0.0)
    assert found.index == certify(problem_of(replace(point, loss="mse")), point.parameters).index


def test_weight_decay_leaves_no_copies_and_no_flat_directions() -> None:
    """Copies with weight decay are pulled together; they are no group, and the dense Hessian alone decides."""
    wide = replace(copied(critical((2, 3, 2), seed=5), 1, 0, (1 / 3, 1 / 3, 1 / 3)), weight_decay=1e-3)
    copies = with_residual(wide, np.random.default_rng(0).normal(size=wide.targets.shape), 1.0)
    for one in (copies, critical((2, 5, 2), seed=5, weight_decay=1e-3)):
        assert np.linalg.norm(gradient_and_hessian(one)[0].astype(float)) < 1e-15
        found = check(one)
        assert found.groups == ()
        assert found.method == "dense"
        assert found.symmetry_nullity == 0


def test_a_network_without_hidden_layers_is_least_squares() -> None:
    found = check(critical((3, 2), residual=0.5))
    assert found.verdict == Kind.STRICT_MINIMUM
    assert found.groups == ()


# Points near which something is nearly zero.


def fold(seed: int, distance: float) -> tuple[Critical, float]:
    """Return a critical point whose residual is ``distance`` beyond where its lowest eigenvalue is 0, and that."""
    base = critical((2, 3, 2), seed=seed, residual=0.0)
    noise = np.random.default_rng(100 + seed).normal(size=base.targets.shape)

    def lowest(residual: float) -> float:
        return np.linalg.eigvalsh(gradient_and_hessian(with_residual(base, noise, residual))[1].astype(float))[0]

    low, high = 0.0, 2.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if lowest(middle) > 0 else (low, middle)
    residual = low * (1 + distance)
    return with_residual(base, noise, residual), lowest(residual)


@pytest.mark.parametrize("seed", [0, 1, 3])
def test_near_a_fold_an_eigenvalue_has_its_sign_or_none(seed: int) -> None:
    kinds = []
    for exponent, side in itertools.product((1, 3, 5, 7, 9, 12, 14), (1.0, -1.0)):
        point, lowest = fold(seed, side * 10.0**-exponent)
        found = certify(problem_of(point), point.parameters)
        assert found.index_range[0] <= (lowest < 0) <= found.index_range[1]
        # The gradient's rounding of 1e-16 moves a point so flat too far for a sign, though 1e-12 is not rounding.
        assert abs(lowest) > 1e-11 or found.verdict == Kind.UNDECIDED
        kinds.append(found.verdict)
    assert kinds[:2] == [Kind.SADDLE, Kind.STRICT_MINIMUM]
    assert kinds[-2:] == [Kind.UNDECIDED] * 2


def test_a_point_moved_off_a_fold_is_judged_at_the_critical_point_beside_it_or_not_at_all() -> None:
    step = np.random.default_rng(0).normal(size=17)
    for length in (1e-9, 1e-6, 1e-4):
        point = critical((2, 3, 2), seed=2, residual=0.02)
        found = certify(problem_of(moved(point, length * step)), moved(point, length * step).parameters)
        agree(point, found)
        assert found.distance == pytest.approx(length * np.linalg.norm(step), rel=1e-3, abs=0.0)
        assert found.refined_gradient_norm < 1e-14 < found.gradient_norm


def test_where_no_critical_point_can_be_pinned_down_nothing_is_flat_for_certain() -> None:
    """At a point that is not critical weight that moves between copies is not flat; a tolerance may let it through."""
    generator, unpinned = np.random.default_rng(1), 0
    for seed in range(6):
        start = moved(critical((2, 3, 2), seed=seed), 0.3 * generator.normal(size=17))
        point = copied(start, 1, 0, (0.3, 0.3, 0.4))
        found = certify(problem_of(point), point.parameters, gradient_tolerance=1e9)
        if not any("Newton corrections from here do not converge" in reason for reason in found.reasons):
            continue
        unpinned += 1
        agree(point, found, decided=False)
        assert found.nullity_range[0] == 0
    assert unpinned > 0


@pytest.mark.parametrize("level", [12.0, 20.0, 40.0])
def test_a_saturated_unit_is_not_flat_for_certain(level: float) -> None:
    """1 - tanh(40)^2 = 7e-35, not zero. At 40 the signs are (2, 1), with copies (6, 3): 100 digits, Newton's method."""
    point = critical((2, 3, 2), seed=1)
    parameters = dict(point.parameters) | {"0.bias": np.array([0.3, level, -0.5])}
    point = replace(point, parameters=parameters, inputs=np.clip(point.inputs, -1.5, 1.5))
    point = with_residual(point, np.random.default_rng(3).normal(size=point.targets.shape), 1e-3)
    for one, transfers in ((point, 0), (copied(point, 1, 1, (0.2, 0.3, 0.5)), 2)):
        found = certify(problem_of(one), one.parameters)
        assert found.nullity_range[0] == transfers
        assert all(flat.kind != "unused" for flat in found.flat)
        if level == 40.0:
            index, nullity = (6, 3) if transfers else (2, 1)
            assert found.index_range[0] <= index <= found.index_range[1]
            assert found.nullity_range[0] <= nullity <= found.nullity_range[1]


def test_weights_of_a_feature_that_is_always_zero_are_unused_with_all_copies() -> None:
    point = critical((2, 3, 2), seed=2)
    inputs = point.inputs.copy()
    inputs[:, 1] = 0.0
    point = with_residual(replace(point, inputs=inputs), np.random.default_rng(3).normal(size=point.targets.shape), 1.0)
    found = check(copied(point, 1, 0, (0.3, 0.3, 0.4)))
    assert {flat.kind: flat.count for flat in found.flat}["unused"] == 5


def test_a_dead_relu_is_unused() -> None:
    point = critical((3, 3, 2), "relu", seed=1)
    parameters = dict(point.parameters) | {"0.bias": np.array([0.3, -40.0, 0.5])}
    point = with_residual(replace(point, parameters=parameters), np.random.default_rng(3).normal(size=(80, 2)), 0.3)
    found = check(copied(point, 1, 0, HALF), check_limit=1)
    assert {flat.kind: flat.count for flat in found.flat}["unused"] == 4 + 2


def test_one_large_output_does_not_make_the_others_loss_zero() -> None:
    """1e8 and 1e-8: all of the second output is below the first one's rounding, and it is far from fitted."""
    point = copied(critical((2, 3, 2), seed=2, residual=0.0), 1, 0, (0.3, 0.3, 0.4))
    sizes = np.array([1e8, 1e-8])
    last = {name: (point.parameters[name].T * sizes).T for name in ("2.weight", "2.bias")}
    targets = point.targets * sizes + np.random.default_rng(0).normal(size=point.targets.shape) * [0.0, 1e-7]
    point = replace(point, parameters=dict(point.parameters) | last, targets=targets)
    found = certify(problem_of(point), point.parameters)
    assert found.verdict in (Kind.NOT_CRITICAL, Kind.UNDECIDED)


# Matrix-free.


def test_without_a_matrix_a_saddle_is_found_and_a_minimum_has_a_chance() -> None:
    saddle, minimum = (critical((2, 5, 2), seed=3, residual=residual) for residual in (1.0, 0.005))
    found = certify(problem_of(saddle), saddle.parameters, dense_limit=1)
    agree(saddle, found, decided=False)
    assert found.method == "matrix-free"
    assert found.verdict == Kind.SADDLE
    found = certify(problem_of(minimum), minimum.parameters, dense_limit=1)
    agree(minimum, found)
    assert any("chance that a nonpositive eigenvalue" in reason for reason in found.reasons)
    assert any("has a probability" in line for line in found.not_shown)
    # One step less than there are directions: every sign that was seen is clear, yet one may hide.
    few = certify(problem_of(minimum), minimum.parameters, dense_limit=1, steps=26)
    agree(minimum, few, decided=False)
    assert few.verdict == Kind.UNDECIDED
    assert np.all(few.parts[0].inertia.values > few.parts[0].inertia.bounds)


# Words.


@pytest.fixture(scope="module")
def pair() -> Critical:
    return copied(critical((2, 3, 2), seed=2), 1, 0, (0.3, 0.3, 0.4))


def test_a_point_that_is_not_critical_is_said_to_be_none(pair: Critical) -> None:
    parameters = problem_of(pair).network.initial(3)
    found = certify(problem_of(pair), parameters)
    assert found.verdict == Kind.NOT_CRITICAL
    assert (found.index, found.nullity) == (None, None)
    assert (found.index_range, found.nullity_range) == ((0, 27), (0, 27))
    assert found.method == "none"
    assert any("a quadratic model sees a change of the loss by" in reason for reason in found.reasons)
    strict = certify(problem_of(pair), pair.parameters, gradient_tolerance=1e-30)
    assert strict.verdict == Kind.NOT_CRITICAL
    assert any("is above the tolerance 1.0e-30" in reason for reason in strict.reasons)


def test_the_order_of_the_parameters_does_not_matter(pair: Critical) -> None:
    turned = {name: pair.parameters[name] for name in reversed(list(pair.parameters))}
    agree(pair, certify(problem_of(pair), turned))


def test_float32_parameters_are_judged_at_the_critical_point_beside_them(pair: Critical) -> None:
    coarse = {name: entry.astype(np.float32) for name, entry in pair.parameters.items()}
    found = certify(problem_of(pair), coarse)
    assert 1e-9 < found.distance < 1e-4
    agree(pair, found)
    found = certify(problem_of(pair), coarse, gradient_tolerance=1e-12)
    assert found.verdict == Kind.NOT_CRITICAL
    assert any("stored in less than float64" in reason for reason in found.reasons)


@pytest.mark.parametrize("tiny", [1e-14, -1e-14])
def test_a_tiny_share_has_no_sign(tiny: float) -> None:
    point = copied(critical((2, 3, 2), seed=2), 1, 0, (0.6, 0.4 - tiny, tiny))
    found = certify(problem_of(point), point.parameters)
    assert found.groups == ()
    assert any(
        "a share of copies (0, 3, 4) in layer 1 is too small to have a sign" in reason for reason in found.reasons
    )
    assert found.nullity is None


@pytest.mark.parametrize(("size", "noted"), [(0.99e-4, True), (1.01e-4, False), (1e-7, True)])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("widths", [(2, 3, 1), (3, 3, 2)])
def test_a_share_near_0_is_noted_with_the_index_beyond_it(widths, sign: int, size: float, noted: bool) -> None:
    small = critical(widths, seed=1)
    here, beyond = (copied(small, 1, 0, (1.0 - share, share)) for share in (sign * size, -sign * size))
    found, other = (certify(problem_of(point), point.parameters) for point in (here, beyond))
    assert None not in (found.index, other.index)
    change = other.index - found.index  # type: ignore[operator]
    assert abs(change) == 1
    notes = [reason for reason in found.reasons if "beyond 0" in reason]
    assert notes == [
        f"unit 3 of layer 1 has the share {sign * size:.1e} of what copies (0, 3) send out: at a distance of "
        f"{size:.1e} in the share, beyond 0, the index is 1 {'higher' if change > 0 else 'lower'}"
    ] * int(noted)


def test_no_share_is_noted_beyond_which_the_index_is_the_same() -> None:
    """At 0 itself, at a share near 1 of three, where B is indefinite by as much, and at zero loss."""
    for widths, residual, shares in (
        ((2, 3, 1), 1.0, (1.0, 0.0)),
        ((2, 3, 1), 1.0, (0.5, 1.0 - 1e-5, 1e-5 - 0.5)),
        ((2, 3, 2), 1.0, (1.0 - 1e-5, 1e-5)),
        ((2, 3, 1), 0.0, (1.0 - 1e-5, 1e-5)),
    ):
        point = copied(critical(widths, seed=1, residual=residual), 1, 0, shares)
        found = certify(problem_of(point), point.parameters)
        assert not any("beyond 0" in reason for reason in found.reasons)
        if shares == (1.0 - 1e-5, 1e-5) and residual:
            other = copied(critical(widths, seed=1), 1, 0, (1.0 + 1e-5, -1e-5))
            assert certify(problem_of(other), other.parameters).index == found.index


def test_copies_that_send_no_multiples_are_not_reduced(pair: Critical) -> None:
    """At zero loss any division of the outgoing vector is critical; the copies are then no group."""
    point = copied(critical((2, 3, 2), seed=2, residual=0.0), 1, 0, (0.3, 0.3, 0.4))
    weight = point.parameters["2.weight"].copy()
    weight[:, 3] += (1.0, -2.0)
    weight[:, 4] -= (1.0, -2.0)
    parameters = dict(point.parameters) | {"2.weight": weight}
    found = certify(problem_of(point), parameters)
    assert found.groups == ()
    assert any("do not send out multiples of one vector" in reason for reason in found.reasons)
    assert found.index == 0
    assert found.verdict == Kind.UNDECIDED
    agree(replace(point, parameters=parameters), found, decided=False)


def test_copies_whose_outgoing_vectors_cancel_are_not_reduced() -> None:
    point = copied(critical((2, 3, 2), seed=2), 1, 0, (1e9, -1e9, 1.0))
    found = certify(problem_of(point), point.parameters)
    assert found.groups == ()
    assert any("or they nearly cancel" in reason for reason in found.reasons)


def test_a_sample_on_a_kink_leaves_no_hessian() -> None:
    point = copied(critical((3, 3, 2), "relu", seed=1), 1, 1, HALF)
    inputs = point.inputs.copy()
    row, bias = point.parameters["0.weight"][2], point.parameters["0.bias"][2]
    inputs[5] -= (row @ inputs[5] + bias) / (row @ row) * row
    found = certify(problem_of(replace(point, inputs=inputs)), point.parameters, check_limit=1)
    assert found.verdict == Kind.UNDECIDED
    assert any("lies on the kink of relu in layer 1" in reason for reason in found.reasons)
    assert found.index_range == (0, point.size)


def test_a_kink_within_the_rounding_of_large_terms_that_cancel_counts_as_one() -> None:
    """w.x = 1e9 - 1e9 + 1e-8: the side is decided by rounding, although it is not small beside the others."""
    point = copied(critical((3, 3, 2), "relu", seed=1), 1, 1, HALF)
    inputs = point.inputs.copy()
    weight = point.parameters["0.weight"].copy()
    inputs[:, 2] = -inputs[:, 1]
    inputs[3, 1:] = (1.0, -1.0)
    weight[2] = (0.7, 1e9, 1e9)
    bias = point.parameters["0.bias"].copy()
    bias[2] = -0.7 * inputs[3, 0] + 1e-6
    parameters = dict(point.parameters) | {"0.weight": weight, "0.bias": bias}
    found = certify(problem_of(replace(point, inputs=inputs)), parameters, check_limit=1)
    assert any("lies on the kink of relu" in reason for reason in found.reasons)


def test_mistakes_are_refused_with_their_value(pair: Critical) -> None:
    problem = problem_of(pair)
    broken = dict(pair.parameters) | {"2.bias": np.array([np.nan, 0.0])}
    with pytest.raises(NonFiniteError, match=r"the point holds 1 numbers that are not finite: 2.bias\[0\]=nan"):
        certify(problem, broken)
    huge = dict(pair.parameters) | {"2.weight": pair.parameters["2.weight"] * 1e200}
    with pytest.raises(NonFiniteError, match="what is computed at the point holds 1 numbers that are not finite: loss"):
        certify(problem, huge)
    with pytest.raises(ShapeError, match="do not fit the network"):
        certify(problem, {"0.weight": pair.parameters["0.weight"]})
    with pytest.raises(SettingsError, match="there is no point to certify: point=None"):
        certify(problem, None)
    for name in ("steps", "close", "gradient_tolerance"):
        with pytest.raises(SettingsError, match=f"cannot be used: {name}=-1.* expected a positive number"):
            certify(problem, pair.parameters, **{name: -1 if name == "steps" else -1.0})


def test_the_words_of_a_verdict() -> None:
    def said(*counts: int, zero: bool = False, loose: tuple[str, ...] = ()) -> tuple[Kind, str]:
        kind, reasons = verdict(Inertia(*counts), global_minimum=zero, loose=loose)
        return kind, "; ".join(reasons)

    assert said(0, 0, 5, 0) == (Kind.STRICT_MINIMUM, "all eigenvalues are positive beyond the bound")
    assert said(0, 2, 5, 0)[0] == Kind.MINIMUM
    assert said(2, 0, 5, 0) == (Kind.SADDLE, "2 negative eigenvalues beyond the bound")
    assert said(1, 0, 5, 3) == (Kind.SADDLE, "at least 1 negative eigenvalue beyond the bound, at most 4")
    assert said(0, 0, 5, 1) == (Kind.UNDECIDED, "1 eigenvalue lies within the bound around 0: no sign")
    kind, text = said(0, 2, 5, 0, loose=("zero share",))
    assert kind == Kind.UNDECIDED
    assert "zero share" in text
    assert "second order only" in text
    assert said(1, 2, 5, 0, loose=("zero share",))[0] == Kind.SADDLE
    assert said(0, 2, 5, 0, zero=True, loose=("zero loss",))[0] == Kind.MINIMUM
    assert said(0, 1, 5, 3, zero=True)[0] == Kind.MINIMUM
    assert said(0, 0, 5, 0, zero=True)[0] == Kind.STRICT_MINIMUM
    kind, text = said(0, 0, 5, 3, zero=True)
    assert kind == Kind.UNDECIDED
    assert "a global minimum; whether it is strict" in text
    assert said(1, 0, 5, 0, zero=True)[0] == Kind.UNDECIDED


def test_two_ways_that_exclude_each_other_are_reported() -> None:
    one, other = ((1, 1), (0, 3)), ((2, 4), (0, 0))
    assert disagreement({"dense": one, "exchange": other}) == ("dense and exchange disagree on the index: 1 and 2 to 4")
    assert disagreement({"dense": one, "exchange": ((0, 2), (4, 4))}) == (
        "dense and exchange disagree on the nullity: 0 to 3 and 4"
    )
    assert disagreement({"dense": one, "exchange": ((0, 2), (2, 4))}) is None
