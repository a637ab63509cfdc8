"""Proofs of critical points: closed forms, dense Hessians of the wider network, refusals where nothing is proved."""

import itertools
from fractions import Fraction

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from saddlescope.critical.enclosure import BallLoss, to_parameters, to_vector
from saddlescope.critical.proof import Proof, prove
from saddlescope.data.data import Data
from saddlescope.errors import NeuronsError, NonFiniteError, SettingsError, ShapeError
from saddlescope.models.mlp import MLP
from saddlescope.numerics import balls
from saddlescope.precision import float64
from saddlescope.problem.problem import Problem
from saddlescope.units.actions import split

flint = pytest.importorskip("flint")


def _random(network: MLP, seed: int, samples: int) -> tuple[Data, dict[str, np.ndarray]]:
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(samples, network.widths[0]))
    data = Data(inputs, targets=generator.normal(size=(samples, network.widths[-1])))
    shapes = zip(network.layout.names, network.layout.shapes, strict=True)
    return data, {name: generator.normal(size=shape) for name, shape in shapes}


@eqx.filter_jit
def _derivatives(problem: Problem, theta: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    return problem.value(theta), problem.gradient(theta), problem.hessian(theta)


def _in_own_order(network: MLP) -> np.ndarray:
    """Return, for each entry of a proof's vector, its place in the flattened parameters."""
    layout = network.layout
    places = layout.unflatten_numpy(np.arange(layout.size).astype(float))
    return to_vector(network, places).astype(int)


@pytest.mark.parametrize(
    ("network", "loss", "decay"),
    [
        (MLP((2, 3, 1), "tanh"), "mse", 0.0),
        (MLP((2, 3, 2, 3), "gelu"), "normalised", 0.0),
        (MLP((2, 2, 2, 2, 2), "sigmoid_softplus", bias=False), "mse", 0.25),
        (MLP((3, 2), "sine"), "mse", 0.0),
    ],
    ids=str,
)
def test_enclosures_over_a_box_hold_jaxs_derivatives_at_its_points(
    network: MLP, loss: str, decay: float, generator: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saddlescope.critical.enclosure.CHUNK_BALLS", 150)  # several chunks, the last one short
    data, centre = _random(network, 3, 25)
    order = _in_own_order(network)
    with float64(), balls.precision(128):
        problem = Problem(network, data, loss=loss, weight_decay=decay)
        task = BallLoss.of(network, data, loss, decay)
        assert len(task.chunks) == -(-25 // len(task.chunks[0][0].tolist())) > 1
        vector = to_vector(network, centre)
        assert np.array_equal(vector, np.asarray(network.layout.flatten(centre))[order])
        for radius in (0.0, 1e-6, 1e-3):
            box = balls.widen(balls.exact(vector), flint.arb(radius))
            enclosed = task.value(box), task.gradient(box), task.hessian(box)
            for _ in range(5):
                point = vector + generator.uniform(-radius, radius, len(vector))
                theta = network.layout.flatten(to_parameters(network, point))
                value, gradient, hessian = (np.asarray(part) for part in _derivatives(problem, theta))
                _holds(flint.arb_mat([[enclosed[0]]]), value.reshape(1, 1))
                _holds(enclosed[1], gradient[order][:, None])
                _holds(enclosed[2], hessian[np.ix_(order, order)])
        # A box of radius 0 gives the value itself: the enclosures are not idly wide.
        exact = task.hessian(balls.exact(vector))
        assert max(entry.rad() for entry in exact.entries()) < 1e-30


def _holds(enclosure: object, values: np.ndarray) -> None:
    """Check entry by entry, up to the rounding of float64."""
    entries = np.array([[balls.below(v), balls.above(v)] for v in enclosure.entries()])  # type: ignore[attr-defined]
    low, high = entries.T.reshape(2, *values.shape)
    slack = 1e-12 * (1.0 + np.abs(values))
    assert (low - slack <= values).all()
    assert (values <= high + slack).all()


# Closed forms.


def test_a_straight_line_is_proved_at_the_exact_rational_minimum() -> None:
    x, t = np.array([1.0, 2.0, 4.0]), np.array([0.5, 3.0, 1.0])
    network = MLP((1, 1), "tanh", bias=False)  # no hidden layer: f = w x
    proof = prove(network, x[:, None], t, {"0.weight": np.array([[0.5]])})
    best = sum(Fraction(a) * Fraction(b) for a, b in zip(x, t, strict=True)) / sum(Fraction(a) ** 2 for a in x)
    least = sum((best * Fraction(a) - Fraction(b)) ** 2 for a, b in zip(x, t, strict=True)) / 3
    assert proof.proved
    assert (proof.index, proof.nullity, proof.lift) == (0, 0, None)
    assert proof.parameters is not None
    assert proof.loss is not None
    assert abs(Fraction(proof.parameters["0.weight"][0, 0]) - best) <= Fraction(proof.uncertainty)
    assert Fraction(proof.distance) >= abs(Fraction(1, 2) - best)
    assert Fraction(proof.loss[0]) <= least <= Fraction(proof.loss[1])
    assert proof.uncertainty < 1e-15
    assert proof.loss[1] - proof.loss[0] < 1e-15
    assert proof.curvature <= 2 * 21 / 3  # the only eigenvalue
    assert proof.curvature == pytest.approx(14.0)


SINE = MLP((1, 1, 1), "sine", bias=False)
SINE_INPUTS, SINE_TARGETS = np.array([[1.0], [2.0]]), np.array([[1.0], [1.0]])


def _sine(w: float, a: float) -> dict[str, np.ndarray]:
    return {"0.weight": np.array([[w]]), "2.weight": np.array([[a]])}


def test_the_zero_loss_minimum_of_a_sine_is_found_in_closed_form() -> None:
    # a sin w = a sin 2w = 1 has cos w = 1/2: w = pi/3, a = 2/sqrt 3.
    proof = prove(SINE, SINE_INPUTS, SINE_TARGETS, _sine(1.0471, 1.1547), layer=1, neuron=0, precision_bits=200)
    assert proof.parameters is not None
    w, a = (flint.arb(proof.parameters[name][0, 0], proof.uncertainty) for name in SINE.layout.names)
    with balls.precision(300):
        assert w.contains(flint.arb.pi() / 3)
        assert a.contains(2 / flint.arb(3).sqrt())
    assert proof.loss is not None
    assert proof.loss[0] == 0.0
    assert proof.loss[1] < 1e-60
    assert (proof.index, proof.nullity) == (0, 0)
    # Copies: G = B = 0 at zero loss, which no enclosure can tell from signs.
    assert proof.lift is not None
    assert (proof.lift.index, proof.lift.nullity) == (None, None)
    assert not proof.proved
    assert "are not all proved" in proof.reasons[0]


def test_the_radius_never_reaches_the_sign_twin() -> None:
    # sine is odd, so (-w, -a) is critical too, 2 a away in the largest norm.
    for w in (1.0471, 1.0):
        proof = prove(SINE, SINE_INPUTS, SINE_TARGETS, _sine(w, 1.1547))
        assert proof.radius is None or proof.radius < 2 * 1.1547
    # The saddle at 0 lies within pi/3 of (pi/3, 2/sqrt 3) in w and 1.16 in a.
    near = prove(SINE, SINE_INPUTS, SINE_TARGETS, _sine(np.pi / 3, 2 / np.sqrt(3)))
    assert near.proved
    assert near.radius is not None
    assert 1e-3 < near.radius < 2 / np.sqrt(3)


def test_the_origin_of_a_tanh_network_is_proved_to_be_a_saddle() -> None:
    network = MLP((1, 1, 1), "tanh", bias=False)
    x, t = np.array([[1.0], [2.0], [-1.0]]), np.array([[1.0], [0.5], [0.25]])
    proof = prove(network, x, t, _sine(1e-9, -2e-9))
    # The Hessian there is [[0, c], [c, 0]] with c = -(2/3) sum x t = -7/6, the loss mean t^2.
    assert proof.proved
    assert (proof.index, proof.nullity) == (1, 0)
    assert 2e-9 <= proof.distance < 2.1e-9 < proof.radius
    assert proof.parameters is not None
    assert all(np.abs(value).max() <= proof.uncertainty for value in proof.parameters.values())
    assert proof.curvature == pytest.approx(7 / 6)
    assert proof.loss == pytest.approx((1.3125 / 3, 1.3125 / 3), rel=1e-14, abs=0.0)
    lifted = prove(network, x, t, _sine(0.0, 0.0), layer=1, neuron=0)
    assert not lifted.proved
    assert lifted.index == 1
    assert "outgoing vector may be zero" in lifted.reasons[0]


# Against the dense Hessian of the wider network.


def _noisy(network: MLP, samples: int = 60) -> Data:
    """Return data of the teacher that `_random` gives, with noise, so that no loss is zero."""
    data, teacher = _random(network, 7, samples)
    with float64():
        outputs = np.asarray(network.apply(teacher, data.inputs))
    return Data(data.inputs, targets=outputs + 0.03 * np.random.default_rng(1).normal(size=outputs.shape))


def _critical_points(network: MLP, data: Data, starts: int, decay: float = 0.0) -> list[dict[str, np.ndarray]]:
    """Return critical points: a minimum near the teacher, and what a root finder comes to from random starts."""
    problem, layout, found = Problem(network, data, weight_decay=decay), network.layout, []
    teacher = np.concatenate([value.ravel() for value in _random(network, 7, len(data.inputs))[1].values()])

    def parts(x: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(part) for part in _derivatives(problem, jnp.asarray(x))]

    with float64():
        for seed in range(starts):
            start = teacher + 0.1 * np.random.default_rng(seed).normal(size=layout.size)
            if seed == 0:
                slope, bend = (lambda x: parts(x)[1]), (lambda x: parts(x)[2])
                options = {"gtol": 1e-9, "maxiter": 100}
                done = scipy.optimize.minimize(
                    lambda x: float(parts(x)[0]), start, jac=slope, hess=bend, method="trust-exact", options=options
                )
            else:
                start = np.random.default_rng(seed).normal(size=layout.size)
                done = scipy.optimize.root(
                    lambda x: parts(x)[1:], start, jac=True, method="lm", options={"maxiter": 100}
                )
            x = done.x
            for _ in range(4):
                x = x - np.linalg.lstsq(parts(x)[2], parts(x)[1])[0]
            if np.abs(parts(x)[1]).max() < 1e-12 and np.abs(x).max() < 30:
                found.append(layout.unflatten_numpy(x))
    return found


def _dense_signs(network: MLP, data: Data, parameters: dict[str, np.ndarray]) -> tuple[int, int]:
    """Return index and nullity of the dense Hessian in float64."""
    with float64():
        theta = network.layout.flatten(parameters)
        hessian = np.asarray(_derivatives(Problem(network, data), theta)[2])
    values = np.linalg.eigvalsh(hessian)
    noise = 1e-11 * max(1.0, np.abs(values).max())
    return int((values < -noise).sum()), int((np.abs(values) <= noise).sum())


CASES = [
    # widths, activation, bias, layer, shares
    ((2, 2, 1), "tanh", True, 1, (0.5, 0.5)),
    ((2, 2, 1), "erf", True, 1, (1.5, -0.75, 0.25)),
    ((2, 2, 3), "sigmoid", True, 1, (0.25, 0.75)),
    ((2, 2, 2), "sine", False, 1, (2.0, -1.0)),
    ((1, 1, 4), "silu", False, 1, (0.5, 0.25, 0.25)),
    ((1, 1, 3), "tanh", True, 1, (1.0, 0.0)),
    ((2, 2, 2, 2), "sigmoid_softplus", False, 1, (0.25, 0.75)),
    ((2, 2, 2, 2), "sigmoid_softplus", False, 2, (-0.5, 1.5)),
]


@pytest.mark.parametrize(("widths", "activation", "bias", "layer", "shares"), CASES, ids=str)
def test_index_and_nullity_of_the_lift_are_those_of_the_dense_hessian(
    widths: tuple[int, ...], activation: str, bias: bool, layer: int, shares: tuple[float, ...]
) -> None:
    network = MLP(widths, activation, bias=bias)
    data = _noisy(network)
    assert data.targets is not None
    wider = list(widths)
    wider[layer] += len(shares) - 1
    wide, proved, saddles = MLP(tuple(wider), activation, bias=bias), 0, 0
    for point in _critical_points(network, data, 6):
        for neuron in range(widths[layer]):
            proof = prove(network, data.inputs, data.targets, point, layer=layer, neuron=neuron, shares=shares)
            if not proof.proved:
                continue
            assert proof.parameters is not None
            assert proof.lift is not None
            assert proof.lift.widths == wide.widths
            assert (proof.index, proof.nullity) == _dense_signs(network, data, proof.parameters)
            lifted = split(proof.parameters, network.neurons(layer), neuron, shares)
            assert (proof.lift.index, proof.lift.nullity) == _dense_signs(wide, data, lifted)
            assert proof.lift.symmetry_nullity == proof.lift.nullity >= len(shares) - 1
            proved += 1
            saddles += proof.lift.index > 0
    assert proved >= 1, "no proof, so nothing was compared"
    assert saddles >= 1


def test_the_proof_does_not_depend_on_the_order_of_the_data_or_on_the_scale_of_the_loss() -> None:
    network = MLP((2, 2, 1), "tanh")
    data = _noisy(network)
    assert data.targets is not None
    turned = np.random.default_rng(1).permutation(60)
    for point in _critical_points(network, data, 3):
        ours = prove(network, data.inputs, data.targets, point)
        other = prove(network, data.inputs[turned], data.targets[turned], point)
        scaled = prove(network, data.inputs, data.targets, point, loss="normalised")
        assert ours.proved
        assert ours.index == other.index == scaled.index
        assert ours.loss is not None
        assert other.loss is not None
        assert scaled.loss is not None
        assert ours.loss[0] <= other.loss[1]
        assert other.loss[0] <= ours.loss[1]
        assert scaled.loss[0] == pytest.approx(ours.loss[0] / np.mean(data.targets**2), rel=1e-14, abs=0.0)


def test_weight_decay_moves_the_point_and_is_proved_too() -> None:
    network = MLP((2, 2, 1), "tanh")
    data = _noisy(network)
    assert data.targets is not None
    points = _critical_points(network, data, 6, decay=0.01)
    assert points
    for point in points:
        proof = prove(network, data.inputs, data.targets, point, weight_decay=0.01)
        assert proof.proved
        assert proof.distance < 1e-9
        plain = prove(network, data.inputs, data.targets, point)
        assert plain.distance is None or plain.distance > 1e-3


# Where nothing is proved, or less.


def test_a_point_moved_by_a_thousandth_is_not_proved_as_near_as_it_is_not() -> None:
    network = MLP((2, 2, 1), "tanh")
    data = _noisy(network)
    assert data.targets is not None
    refused = 0
    for point in _critical_points(network, data, 6):
        moved = {name: value + 1e-3 for name, value in point.items()}
        proof = prove(network, data.inputs, data.targets, moved)
        assert proof.distance is None or proof.distance > 0.99e-3
        assert proof.radius is None or proof.radius > proof.distance
        refused += not proof.proved
        if not proof.proved and proof.parameters is not None:
            assert "Prove it from `parameters`" in proof.reasons[0]
            again = prove(network, data.inputs, data.targets, proof.parameters)
            assert again.proved
            assert again.distance <= 2 * proof.uncertainty
    assert refused >= 1


def _not_proved(network: MLP, parameters: dict[str, np.ndarray], samples: int = 60) -> Proof:
    data = _noisy(network, samples)
    assert data.targets is not None
    proof = prove(network, data.inputs, data.targets, parameters)
    assert proof.verdict == "not-proved"
    assert (proof.radius, proof.index, proof.nullity, proof.loss) == (None, None, None, None)
    assert proof.reasons
    return proof


def test_neurons_that_coincide_are_not_proved_because_they_are_not_isolated() -> None:
    network = MLP((2, 2, 1), "tanh")
    point = _critical_points(network, _noisy(network), 3)[0]
    wide = MLP((2, 3, 1), "tanh")
    proof = _not_proved(wide, split(point, network.neurons(1), 0))
    assert "prove the network without copies" in proof.reasons[-1]


@pytest.mark.parametrize(
    ("activation", "bias", "words"), [("identity", True, "identity units"), ("exp", True, "a bias trades")]
)
def test_activations_with_a_free_scale_are_not_proved_and_say_so(activation: str, bias: bool, words: str) -> None:
    network = MLP((1, 1, 1), activation, bias=bias)
    points = _critical_points(network, _noisy(network), 5)
    for point in [*points, _random(network, 1, 12)[1]]:
        assert words in " ".join(_not_proved(network, point).reasons)


def test_more_parameters_than_the_data_fix_are_not_proved() -> None:
    network = MLP((1, 3, 1), "tanh")
    for point in _critical_points(network, _noisy(network, 3), 4):
        _not_proved(network, point, 3)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_kinks_are_refused(activation: str) -> None:
    network = MLP((2, 2, 1), activation)
    data, parameters = _random(network, 7, 12)
    with pytest.raises(SettingsError, match=f"has kinks, where the loss has no second derivative.*{activation}"):
        prove(network, data.inputs, data.targets, parameters)


def test_what_cannot_be_proved_is_refused_in_words() -> None:
    network = MLP((2, 2, 1), "tanh")
    data, good = _random(network, 7, 12)
    x, t = data.inputs, data.targets
    assert t is not None
    for options, error, text in [
        ({"loss": "cross_entropy"}, SettingsError, "no proof for this loss: loss=cross_entropy.*all outputs rise"),
        ({"precision_bits": 53}, SettingsError, "not a precision: precision_bits=53; expected 64 to 4096"),
        ({"weight_decay": -1.0}, SettingsError, "not a penalty: weight_decay=-1.0"),
        (
            {"weight_decay": 0.1, "layer": 1, "neuron": 0},
            SettingsError,
            "copies are no critical point",
        ),
        ({"layer": 1}, SettingsError, "a neuron needs its layer"),
        ({"layer": 2, "neuron": 0}, NeuronsError, "no such hidden layer: layer=2"),
        ({"layer": 1, "neuron": 2}, NeuronsError, "no such neuron in this layer: neuron=2; expected 0 to 1"),
        ({"layer": 1, "neuron": 0, "shares": (1.0,)}, SettingsError, "the shares must sum to 1"),
        ({"layer": 1, "neuron": 0, "shares": (0.5, 0.6)}, SettingsError, "the shares must sum to 1"),
        ({"layer": 1, "neuron": 0, "shares": (0.5, float("nan"))}, SettingsError, "the shares must sum to 1"),
        ({"layer": 1, "neuron": 0, "shares": (float("inf"), 0.5)}, SettingsError, "the shares must sum to 1"),
    ]:
        with pytest.raises(error, match=text):
            prove(network, x, t, good, **options)
    with pytest.raises(ShapeError, match="inputs per sample=3; expected 2"):
        prove(network, np.zeros((12, 3)), t, good)
    with pytest.raises(ShapeError, match="all targets are zero"):
        prove(network, x, 0 * t, good, loss="normalised")
    with pytest.raises(ShapeError, match="parameters do not fit"):
        prove(network, x, t, {"0.weight": np.zeros((2, 2))})


def test_nan_and_infinity_are_refused_wherever_they_stand() -> None:
    network = MLP((2, 2, 1), "tanh")
    data, good = _random(network, 7, 12)
    assert data.targets is not None
    for bad, place in itertools.product((np.nan, np.inf), range(3)):
        x, t, parameters = data.inputs.copy(), data.targets.copy(), {**good, "2.bias": good["2.bias"].copy()}
        (x, t, parameters["2.bias"])[place].flat[0] = bad
        with pytest.raises(NonFiniteError, match="not finite"):
            prove(network, x, t, parameters)


def test_huge_weights_end_without_a_proof() -> None:
    network = MLP((2, 2, 1), "exp", bias=False)
    data, good = _random(network, 7, 12)
    assert data.targets is not None
    proof = prove(network, data.inputs, data.targets, {name: 1e300 * value for name, value in good.items()})
    assert not proof.proved
    assert proof.radius is None
