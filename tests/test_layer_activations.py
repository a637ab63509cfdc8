"""Networks of which every hidden layer has its own activation, and activations with several kinks or none like ReLU's.

Outputs against torch, what happens inside against a loop by hand, signs against the eigenvalues of the whole Hessian.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import saddlescope as ss
from saddlescope.critical.exchange import closed_coupling
from saddlescope.critical.patterns import layer_patterns
from saddlescope.errors import SettingsError, WeightsError
from saddlescope.models.chain import is_traceable
from saddlescope.papers.samples import critical_case
from saddlescope.precision import float64
from saddlescope.problem.kinks import has_breaks, is_kinked, is_piecewise, kink_distances
from saddlescope.units.actions import split

TORCH = {
    "relu": torch.nn.ReLU(),
    "tanh": torch.nn.Tanh(),
    "leaky_relu:0.2": torch.nn.LeakyReLU(0.2),
    "elu": torch.nn.ELU(),
    "selu": torch.nn.SELU(),
    "mish": torch.nn.Mish(),
    "relu6": torch.nn.ReLU6(),
    "hardswish": torch.nn.Hardswish(),
    "gelu_tanh": torch.nn.GELU("tanh"),
}
MIXES = ["relu,tanh", "tanh,leaky_relu:0.2", "elu,selu", "mish,relu6", "hardswish,gelu_tanh"]


@pytest.mark.parametrize("mix", MIXES)
def test_outputs_are_those_of_torch_s_sequential(mix):
    first, second = mix.split(",")
    network = ss.MLP((3, 5, 4, 2), mix)
    assert network == ss.MLP((3, 5, 4, 2), (first, second))
    assert network.describe()["activation"] == mix
    linear = [torch.nn.Linear(n, m) for n, m in ((3, 5), (5, 4), (4, 2))]
    module = torch.nn.Sequential(linear[0], TORCH[first], linear[1], TORCH[second], linear[2]).double()
    parameters = {name: 2.0 * value for name, value in network.initial(0).items()}
    module.load_state_dict({name: torch.from_numpy(value) for name, value in parameters.items()})
    x = 3.0 * np.random.default_rng(1).normal(size=(20, 3))
    with float64():
        ours = np.asarray(network.apply(parameters, x))
    np.testing.assert_allclose(ours, module(torch.from_numpy(x)).detach().numpy(), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("bias", [True, False])
def test_a_trace_holds_what_a_loop_by_hand_finds_and_probes_shift_preactivations(bias):
    network = ss.MLP((3, 5, 4, 2), "tanh,leaky_relu:0.2", bias=bias)
    assert is_traceable(network)
    generator = np.random.default_rng(0)
    parameters, x = network.initial(1), generator.normal(size=(7, 3))
    probe = generator.normal(size=(7, 4))
    functions = [np.tanh, lambda z: np.where(z > 0, z, 0.2 * z), lambda z: z]
    with float64():
        traced = network.trace(parameters, x, {2: jnp.asarray(probe)})
    here = x
    for k, (found, function) in enumerate(zip(traced, functions, strict=True)):
        names = [f"{2 * k}.weight"] + ([f"{2 * k}.bias"] if bias else [])
        assert list(found.layer.names) == names
        assert found.layer.outgoing == (f"{2 * k + 2}.weight" if k < 2 else None)
        np.testing.assert_allclose(found.inputs, here, rtol=1e-14, atol=1e-15)
        z = here @ parameters[names[0]].T + (parameters[names[1]] if bias else 0.0) + (probe if k == 1 else 0.0)
        np.testing.assert_allclose(found.preactivations, z, rtol=1e-13, atol=1e-14)
        here = function(z)
        np.testing.assert_allclose(found.outputs, here, rtol=1e-13, atol=1e-14)
        whole = found.layer.matrix(parameters)
        flat = np.concatenate([value.ravel() for value in parameters.values()])
        assert np.array_equal(flat[found.layer.positions(network.layout)], whole)
        assert all(np.array_equal(value, parameters[n]) for n, value in found.layer.arrays(whole).items())
        np.testing.assert_allclose(found.layer.padded(np.asarray(found.inputs)) @ whole.T, z - (probe if k == 1 else 0))


def _index(problem: ss.Problem, parameters: dict[str, np.ndarray]) -> tuple[int, int]:
    """Signs of the whole Hessian by NumPy: clearly negative and clearly positive eigenvalues."""
    with float64():
        hessian = np.asarray(problem.hessian(jnp.asarray(problem.network.layout.flatten(parameters))))
    scale = 1.0 / np.sqrt(np.maximum(np.abs(np.diag(hessian)), 1e-12))
    values = np.linalg.eigvalsh(scale[:, None] * hessian * scale)
    return int(np.sum(values < -1e-8)), int(np.sum(values > 1e-8))


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("layer", [1, 2])
def test_certificates_of_copies_have_the_signs_of_the_whole_hessian(mix, layer):
    case = critical_case(3, (2, 3, 2, 2), mix, residual=0.1)
    wide = split(case.parameters, case.network.neurons(layer), 0, (0.3, 0.7))
    counts = {layer: case.widths[layer] + 1}
    problem = ss.Problem(case.network.with_units(counts), ss.Data(case.inputs, case.targets))
    found = ss.certify(problem, wide)
    assert {"closed-form", "exchange", "dense"} <= set(found.methods), found.reasons
    negative, positive = _index(problem, found.point)
    assert found.index_range[0] <= negative <= found.index_range[1]
    size = problem.network.layout.size
    assert found.nullity_range[0] <= size - negative - positive <= found.nullity_range[1]
    if not {"relu6", "hardswish"} & set(mix.split(",")):  # units that stay on one piece are flat for unstated reasons
        assert (found.index, found.nullity) == (negative, size - negative - positive), found.reasons


def test_kinks_of_each_layer_are_its_own():
    network = ss.MLP((2, 3, 2, 1), "tanh,relu6")
    parameters, x = network.initial(0), np.random.default_rng(0).normal(size=(9, 2))
    parameters["2.bias"] = parameters["2.bias"] + np.array([0.1, 5.8])
    problem = ss.Problem(network, ss.Data(x, x[:, :1]), chunk=4)
    with float64():
        found = np.asarray(kink_distances(problem, jnp.asarray(network.layout.flatten(parameters))))
    z = np.tanh(x @ parameters["0.weight"].T + parameters["0.bias"]) @ parameters["2.weight"].T + parameters["2.bias"]
    assert np.isinf(found[0, 0])
    assert found[1, 0] == pytest.approx(min(np.abs(z).min(), np.abs(z - 6).min()), rel=1e-12)
    assert found[1, 1] == pytest.approx(np.abs(z).max(), rel=1e-12)
    assert [network.homogeneous(k) for k in (1, 2)] == [False, False]
    assert [units.facts.kinked for units in network.layers.values()] == [False, True]


@pytest.mark.parametrize(
    ("activation", "kinked", "breaks", "piecewise"),
    [
        ("tanh", False, False, False),
        ("relu,relu6", True, True, True),
        ("relu,identity", True, True, True),
        ("relu,tanh", True, True, False),  # a saturated tanh near a point is none far from it
        ("elu,tanh", False, True, False),
        ("selu", True, True, False),
    ],
)
def test_what_is_asked_of_kinks(activation, kinked, breaks, piecewise):
    x = np.ones((2, 2))
    problem = ss.Problem(ss.MLP((2, 3, 3, 2), activation), ss.Data(x, x))
    assert (is_kinked(problem), has_breaks(problem), is_piecewise(problem)) == (kinked, breaks, piecewise)


def test_a_point_on_the_bend_of_an_elu_has_no_hessian():
    case = critical_case(0, (2, 2, 1), "elu", residual=0.1)
    on = {**case.parameters, "0.bias": case.parameters["0.bias"].copy()}
    on["0.bias"][0] = -float(case.parameters["0.weight"][0] @ case.inputs[0])
    found = ss.certify(case.problem, on)
    assert any("lies on the kink of elu in layer 1" in reason for reason in found.reasons)


def test_patterns_are_told_of_the_layers_that_have_them():
    network = ss.MLP((2, 3, 3, 1), "tanh,relu")
    x = np.random.default_rng(0).normal(size=(9, 2))
    parameters = network.initial(0)
    parameters["2.bias"] = np.array([9.0, 9.0, -9.0])
    problem = ss.Problem(network, ss.Data(x, x[:, :1]), chunk=4)
    first, second = layer_patterns(problem, np.concatenate([value.ravel() for value in parameters.values()]))
    assert first.alike == ()
    assert np.isnan(first.slopes).all()
    assert [rows.shape for rows in first.idle] == [(0, 3)] * 3
    assert second.alike == ((0, 1), (2,))
    assert second.slopes.tolist() == [1.0, 1.0, 0.0]


def test_a_dead_unit_s_entries_are_unused_whatever_comes_before_it():
    for activation in ("tanh,relu", "relu,hardswish"):
        network = ss.MLP((2, 3, 2, 1), activation)
        x = np.random.default_rng(0).normal(size=(9, 2))
        parameters = {**network.initial(0), "2.bias": np.array([-9.0, 1.0])}
        problem = ss.Problem(network, ss.Data(x, x[:, :1]))
        with float64():
            theta = np.asarray(network.layout.flatten(parameters))
            used = [closed_coupling(problem, theta, 2, unit).used for unit in (0, 1)]
        assert not used[0].any()
        assert used[1].all()


def test_zeros_of_hardswish_by_zero_weights_are_no_dead_units():
    network = ss.MLP((2, 2, 2, 1), "hardswish")
    x = np.random.default_rng(0).normal(size=(9, 2))
    parameters = network.initial(0)
    for name in ("0.weight", "0.bias"):
        parameters[name][0] = 0.0  # this unit gives 0 everywhere, but not nearby
    problem = ss.Problem(network, ss.Data(x, x[:, :1]))
    with float64():
        assert closed_coupling(problem, np.asarray(network.layout.flatten(parameters)), 2, 0).used.all()


@pytest.mark.parametrize("mix", MIXES)
def test_weights_keep_their_activations(mix, tmp_path):
    network = ss.MLP((3, 5, 4, 2), mix)
    ss.save_weights(tmp_path / "n.safetensors", network, network.initial(0))
    assert ss.load_weights(tmp_path / "n.safetensors")[0] == network
    assert ss.load_weights(tmp_path / "n.safetensors", activation=mix.replace(",", ", "))[0] == network
    with pytest.raises(WeightsError, match="the file says another activation"):
        ss.load_weights(tmp_path / "n.safetensors", activation="relu")
    with pytest.raises(SettingsError, match="not an activation for each hidden layer"):
        ss.load_weights(tmp_path / "n.safetensors", activation="relu,tanh,relu")


def test_reduction_keeps_the_outputs_and_uses_each_layer_s_own_symmetries():
    network = ss.MLP((2, 3, 2, 1), "tanh,relu")
    parameters = network.initial(2)
    wide = split(split(parameters, network.neurons(1), 0, (0.4, 0.6)), network.neurons(2), 1, (0.5, 0.5))
    for name in ("0.weight", "0.bias"):
        wide[name][3] *= -1.0  # a sign twin of tanh
    wide["2.weight"][:, 3] *= -1.0
    for name in ("2.weight", "2.bias"):
        wide[name][2] *= 3.0  # a scale twin of ReLU
    wide["4.weight"][:, 2] /= 3.0
    found = ss.reduce(network.with_units({1: 4, 2: 3}), wide)
    assert found.widths == (2, 3, 2, 1)
    assert found.max_output_deviation < 1e-13


def test_second_derivatives_of_a_mixed_shallow_network_are_those_of_jax():
    network = ss.MLP((3, 4, 2), "hardswish")
    generator = np.random.default_rng(0)
    data = ss.Data(2.0 * generator.normal(size=(11, 3)), generator.normal(size=(11, 2)))
    problem = ss.Problem(network, data)
    with float64():
        theta = jnp.asarray(2.0 * np.asarray(network.layout.flatten(network.initial(0))))
        np.testing.assert_allclose(problem.hessian(theta), jax.hessian(problem.value)(theta), rtol=1e-11, atol=1e-13)
