"""Points of higher order: from the small network alone, by recursive merging, and along a path."""

from pathlib import Path

import numpy as np
import pytest

import saddlescope as ss
from saddlescope.cli.main import run
from saddlescope.critical.along import certify_along
from saddlescope.critical.lifted import lifted_signs
from saddlescope.data.data import Data
from saddlescope.data.sources import toy, toy_teacher
from saddlescope.errors import NeuronsError, SettingsError
from saddlescope.outcomes import Outcome
from saddlescope.precision import float64
from saddlescope.units.actions import split
from saddlescope.workflows.higher_order import lift_members, merge_recursively

SETTINGS = ss.PathSettings(steps=12, reach=1e-3)


@pytest.fixture(scope="module")
def small() -> tuple[ss.MLP, dict[str, np.ndarray], Data]:
    """A network that is critical by construction: residuals orthogonal to the outputs' Jacobian (two linear layers)."""
    import jax

    network, generator = ss.MLP((2, 3, 3, 2), "tanh"), np.random.default_rng(1)
    layout = network.layout
    parameters = {name: generator.normal(size=shape) for name, shape in zip(layout.names, layout.shapes, strict=True)}
    inputs = generator.normal(size=(200, 2))
    with float64():
        theta = layout.flatten(parameters)
        jacobian = np.asarray(jax.jacfwd(lambda t: network.apply(layout.unflatten(t), inputs).ravel())(theta))
        outputs = np.asarray(network.apply(parameters, inputs))
    basis, _ = np.linalg.qr(jacobian)
    residual = generator.normal(size=outputs.size)
    for _ in range(2):
        residual -= basis @ (basis.T @ residual)
    return network, parameters, Data(inputs, outputs - residual.reshape(outputs.shape))


def _dense_signs(problem: ss.Problem, parameters: dict[str, np.ndarray]) -> tuple[int, int]:
    with float64():
        theta = problem.network.layout.flatten(parameters)
        values = np.linalg.eigvalsh(np.asarray(problem.hessian(theta)))
    size = np.abs(values) / np.abs(values).max()
    zero = size < 1e-12
    assert size[~zero].min() > 1e-7, "the dense Hessian has no clear gap: another seed"
    return int(np.sum(values[~zero] < 0)), int(zero.sum())


@pytest.mark.parametrize(
    "copies",
    [
        {(1, 0): (0.5, 0.5)},
        {(2, 1): (1.4, -0.4)},
        {(1, 2): (0.2, 0.3, 0.5), (1, 0): (1.0, 0.0)},
        {(1, 1): (0.5, 0.5), (2, 0): (0.3, 1.2, -0.5)},
    ],
)
def test_the_small_network_alone_gives_the_signs_of_the_large_dense_hessian(small, copies: dict) -> None:
    network, parameters, data = small
    found = lifted_signs(ss.Problem(network, data), parameters, copies)
    wide, large = network, parameters
    for (layer, unit), shares in copies.items():
        large = split(large, wide.neurons(layer), unit, shares)
        widths = list(wide.widths)
        widths[layer] += len(shares) - 1
        wide = ss.MLP(tuple(widths), "tanh")
    assert found.widths == wide.widths
    assert found.order == sum(len(shares) - 1 for shares in copies.values())
    assert (found.index, found.nullity) == _dense_signs(ss.Problem(wide, data), large)


def test_copies_that_are_none_are_refused(small) -> None:
    network, parameters, data = small
    problem = ss.Problem(network, data)
    with pytest.raises(SettingsError, match="shares must sum to 1: shares="):
        lifted_signs(problem, parameters, {(1, 0): (0.5, 0.4)})
    with pytest.raises(SettingsError, match="too small to have a sign"):
        lifted_signs(problem, parameters, {(1, 0): (1.0 - 1e-14, 1e-14)})
    with pytest.raises(NeuronsError, match="no such neuron in this layer: neuron=3; expected 0 to 2"):
        lifted_signs(problem, parameters, {(1, 3): (0.5, 0.5)})
    with pytest.raises(SettingsError, match="without penalties"):
        lifted_signs(ss.Problem(network, data, weight_decay=0.1), parameters, {})
    wide = split(parameters, network.neurons(1), 0)
    with pytest.raises(NeuronsError, match="holds copies already"):
        lifted_signs(ss.Problem(ss.MLP((2, 4, 3, 2), "tanh"), data), wide, {})


@pytest.fixture(scope="module")
def merged():
    network, teacher = toy_teacher("tanh", 0)
    problem = ss.Problem(network, toy("tanh", 0))
    return problem, merge_recursively(problem, teacher, [(1, (3, 4)), (1, (3, 2))], settings=SETTINGS)


def test_merging_twice_gives_a_critical_point_of_second_order(merged) -> None:
    problem, point = merged
    assert point.complete
    assert [one.ending for one in point.merges] == [Outcome.PERMUTATION_POINT] * 2
    assert point.members == {1: ((0,), (1,), (2, 3, 4))}
    assert point.loss == pytest.approx(point.merges[-1].loss_after, rel=1e-9, abs=0.0)
    assert point.signs.order == 2
    certificate = ss.certify(problem, point)
    assert [group.units for group in certificate.groups] == [(2, 3, 4)]
    assert set(certificate.methods) == {"closed-form", "exchange", "dense"}
    assert (certificate.index, certificate.nullity) == (point.signs.index, point.signs.nullity)
    assert certificate.verdict.value == "saddle"
    assert certificate.gradient_norm < 1e-9


def test_lifting_members_puts_copies_where_the_first_network_had_them() -> None:
    network = ss.MLP((2, 2, 1), "tanh")
    parameters = network.initial(0)
    wide = lift_members(network, parameters, {1: ((0, 3), (1, 2))})
    assert np.array_equal(wide["0.weight"], parameters["0.weight"][[0, 1, 1, 0]])
    assert np.array_equal(wide["2.weight"], parameters["2.weight"][:, [0, 1, 1, 0]] / 2)


def test_along_a_path_index_and_angles_are_those_of_a_naive_computation() -> None:
    network, teacher = toy_teacher("tanh", 0)
    problem = ss.Problem(network, toy("tanh", 0))
    path = ss.find_path(problem, teacher, layer=1, pair=(3, 4), settings=SETTINGS)
    along = certify_along(problem, path, count=4)
    k = int(along.nodes[2])
    row = {name: value[k] for name, value in path.parameters.items()}
    with float64():
        values = np.linalg.eigvalsh(np.asarray(problem.hessian(network.layout.flatten(row))))
    assert along.index[2].tolist() == [int(np.sum(values < 0))] * 2
    gradient = problem.gradient_of(row)
    gap = np.append(row["0.weight"][4] - row["0.weight"][3], row["0.bias"][4] - row["0.bias"][3])
    pull = np.append(gradient["0.weight"][4], gradient["0.bias"][4])
    push = np.append(gradient["0.weight"][3], gradient["0.bias"][3])
    flat = np.concatenate([value.ravel() for value in gradient.values()])
    cosine = abs(gap @ (pull - push)) / (np.sqrt(2) * np.linalg.norm(gap) * np.linalg.norm(flat))
    assert np.cos(np.radians(along.distance_angles[2])) == pytest.approx(cosine, abs=1e-9)
    with pytest.raises(SettingsError, match="dense"):
        certify_along(problem, path, count=0)


def test_the_command_certifies_a_run_and_a_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    network, teacher = toy_teacher("tanh", 0)
    ss.save_weights(tmp_path / "net.safetensors", network, teacher)
    words = ["path", str(tmp_path / "net.safetensors"), "--data", "toy", "--layer", "1", "--pair", "3,4"]
    assert run([*words, "--steps", "30", "--out", str(tmp_path / "run.saddle"), "--quiet"]) == 0
    assert run(["certify", str(tmp_path / "run.saddle"), "--json", "--along", "3"]) == 0
    found = json.loads(capsys.readouterr().out)
    fixed = ("loss", "gradient_norm", "index", "nullity", "symmetry_nullity", "verdict", "method", "split", "reasons")
    assert all(name in found for name in fixed)
    assert found["verdict"] == "saddle"
    assert found["split"] == [{"layer": 1, "units": [3, 4], "shares": [0.5, 0.5]}]
    assert len(found["along"]["nodes"]) == 3
    assert run(["certify", "--net", str(tmp_path / "net.safetensors"), "--data", "toy"]) == 0
    assert "strict-minimum" in capsys.readouterr().err
    (tmp_path / "net.safetensors").unlink()
    assert run(["certify", str(tmp_path / "run.saddle")]) == 2
    assert "is not where the run says" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "nothing to certify"),
        (["--net", "no.safetensors", "--data", "toy"], "no such file"),
        (["--net", "no.safetensors", "--data", "toy", "--along", "3"], "--along belongs to a run"),
        (["nowhere.saddle"], "not a readable result"),
        (["nowhere.saddle", "--loss", "mse"], "a run brings its own settings"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["certify", *words]) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1
