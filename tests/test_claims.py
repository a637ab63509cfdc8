"""The papers' statements: verdicts are counts, counterexamples are judged again from files, references are naive."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from saddlescope.cli.main import run
from saddlescope.errors import DataError, RecordExistsError, SettingsError
from saddlescope.papers.claims import STATEMENTS, Verdict, find_statement, judge, run_claims
from saddlescope.papers.claims_points import gradient_norm, reduced, signs, spectrum
from saddlescope.papers.counterexamples import recheck, save_counterexamples
from saddlescope.papers.samples import ROWS, Case, critical_case, lifted_case, small_of, with_copies
from saddlescope.papers.statements import Finding


def verdicts(*names: str, samples: int = 48) -> dict[str, Verdict]:
    return {found.statement.name: found for found in run_claims(samples=samples, only=names)}


@pytest.fixture(scope="module")
def points() -> dict[str, Verdict]:
    """The statements about points, on four cases of each kind of network."""
    return verdicts(*[s.name for s in STATEMENTS if s.judge.__module__.endswith("claims_points")])


@pytest.mark.parametrize(
    ("widths", "activation", "bias"),
    [((2, 3, 1), "tanh", True), ((2, 2, 3, 2), "softplus", True), ((3, 3, 2), "relu", False)],
)
def test_made_up_points_are_critical_by_finite_differences(widths, activation, bias):
    case = critical_case(7, widths, activation, bias=bias, residual=0.3)
    losses = []
    for name, value in case.parameters.items():
        for place in np.ndindex(value.shape):
            sides = []
            for step in (1e-4, -1e-4):
                moved = {**case.parameters, name: value.copy()}
                moved[name][place] += step
                sides.append(case.problem.loss_of(moved))
            losses.append((sides[0] - sides[1]) / 2e-4)
    assert np.abs(losses).max() < 1e-6 * max(1.0, case.facts["scale"])
    assert case.problem.loss_of(case.parameters) > 1e-4 * np.mean(case.targets**2)
    assert case.facts["scale"] > 1e-3  # the gradient's terms do not vanish one by one


def test_the_small_network_comes_back_from_its_copies():
    case = critical_case(3, (2, 3, 2), "tanh")
    again = small_of(with_copies(case, 1, 1, (0.3, 1.1, -0.4)))
    assert again.widths == case.widths
    for name, value in case.parameters.items():
        np.testing.assert_allclose(again.parameters[name], value, rtol=1e-14, atol=1e-15)


def test_signs_are_counted_only_where_there_is_a_gap():
    assert signs(np.array([-1.0, 0.0, 1e-14, 2.0])) == (1, 2)
    assert signs(np.array([-1e-10, 1.0])) is None
    assert signs(np.zeros(3)) == (0, 3)


def test_statements_that_are_right_fail_in_no_case(points):
    for name in ("copies-are-critical", "plane-of-equal-loss", "plane-gradient", "exchange-split", "fukumizu-amari-3"):
        assert points[name].verdict == "holds", (name, points[name].numbers)
        assert points[name].held >= 5, name


def test_statements_that_are_wrong_have_counterexamples_and_conditions(points):
    zero, plane = points["zero-eigenvalues"], points["plane-is-critical"]
    for found in (zero, plane):
        assert found.verdict == "holds when"
        assert ("neurons after", "1") in [condition[:2] for condition in found.conditions]
        assert found.failed >= 5
        assert found.counterexample is not None
        assert found.counterexample.widths[found.counterexample.facts["layer"] + 1] > 1
    assert points["one-negative-eigenvalue"].failed > 0
    assert points["one-negative-eigenvalue"].numbers["index"] >= 2
    assert points["merged-minima-are-saddles"].failed > 0


def test_odd_activations_have_more_equal_networks_than_the_manifold(points):
    found = points["only-copies-and-zero-groups"]
    held = {value for label, value, _ in found.conditions if label == "activation"}
    assert found.failed > 0
    assert held <= {"sigmoid_softplus"}
    assert found.counterexample is not None
    assert found.counterexample.activation in ("tanh", "sigmoid", "sine", "relu")


def test_a_statement_turned_round_gets_the_other_verdict():
    right = find_statement("plane-of-equal-loss")

    def turned(case: Case) -> Finding | None:
        found = right.judge(case)
        return None if found is None else replace(found, holds=None if found.holds is None else not found.holds)

    cases = [lifted_case(seed) for seed in range(4)]
    assert judge(right, cases).verdict == "holds"
    wrong = judge(replace(right, judge=turned), cases)
    assert (wrong.verdict, wrong.held, wrong.failed) == ("fails", 0, 4)
    assert wrong.counterexample is cases[0]


def test_a_point_that_is_not_critical_is_no_sample_of_a_critical_one():
    statement = find_statement("copies-are-critical")
    case = lifted_case(0)
    moved = {name: value + 0.1 for name, value in case.parameters.items()}
    broken = Case(0, case.facts, case.widths, case.activation, case.bias, moved, case.inputs, case.targets)
    found = statement.judge(broken)
    assert found is not None
    assert found.holds is False
    assert gradient_norm(broken) > 1e-3


def test_the_spectrum_is_numpy_s_of_a_difference_quotient_hessian():
    case = lifted_case(0)
    network = case.network
    theta = np.concatenate([value.ravel() for value in case.parameters.values()])

    def gradient(at: np.ndarray) -> np.ndarray:
        parameters = network.layout.unflatten_numpy(at)
        return np.concatenate([value.ravel() for value in case.problem.gradient_of(parameters).values()])

    rows = [(gradient(theta + 1e-5 * unit) - gradient(theta - 1e-5 * unit)) / 2e-5 for unit in np.eye(len(theta))]
    np.testing.assert_allclose(spectrum(case), np.linalg.eigvalsh(0.5 * (np.array(rows) + np.array(rows).T)), atol=1e-7)
    assert ROWS[0][0] == reduced(case).widths


def test_counts_and_limits_in_exact_arithmetic():
    found = verdicts(
        "subspaces-counted",
        "permutation-points-counted",
        "limit-as-printed",
        "limit-without-exponential",
        "share-of-saddles",
        "manifold-connected",
        samples=40,
    )
    assert found["limit-as-printed"].verdict == "fails"
    assert found["limit-as-printed"].numbers["bound over its limit"] == pytest.approx(np.e, rel=1e-6)
    rest = [name for name in found if name != "limit-as-printed"]
    assert all(found[name].verdict == "holds" for name in rest)


def test_walks_keep_the_loss_and_spare_neurons_join():
    found = verdicts(
        "walks-keep-the-loss", "walks-are-critical", "a-spare-neuron-joins", "expansion-keeps-the-function", samples=12
    )
    for name in ("walks-keep-the-loss", "a-spare-neuron-joins", "expansion-keeps-the-function"):
        assert found[name].verdict == "holds", found[name].numbers
    assert found["walks-are-critical"].failed > 0


def test_paths_are_neither_tangent_to_the_gradient_nor_always_there():
    found = verdicts("gradient-along-tangent", "gradient-along-distance", "paths-arrive", samples=20)
    assert found["gradient-along-tangent"].failed == 2
    right = found["gradient-along-distance"]
    assert right.held >= 1  # the incoming distance
    assert right.failed >= 1  # the tied one prescribes outgoing weights too


def test_counterexamples_are_judged_again_from_their_files(points, tmp_path: Path):
    chosen = tuple(points[name] for name in ("zero-eigenvalues", "plane-is-critical", "only-copies-and-zero-groups"))
    printed = tuple(run_claims(samples=10, only=("limit-as-printed",)))
    places = save_counterexamples(tmp_path / "found", (*chosen, *printed))
    assert len(places) == 4
    for place, verdict in zip(places, (*chosen, *printed), strict=True):
        record, again = recheck(place)
        assert record["statement"] == verdict.statement.name
        assert again is not None
        assert again.holds is False
        assert again.numbers.keys() == record["numbers"].keys()
    assert not list(tmp_path.glob(".found*"))
    with pytest.raises(RecordExistsError, match="the output exists"):
        save_counterexamples(tmp_path / "found", chosen)
    save_counterexamples(tmp_path / "found", chosen[:1], overwrite=True)
    assert sorted(p.name for p in (tmp_path / "found").iterdir()) == ["README.txt", "zero-eigenvalues"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").write_text("x")
    with pytest.raises(RecordExistsError, match="is not a folder of counterexamples"):
        save_counterexamples(tmp_path / "mine", chosen, overwrite=True)
    assert (tmp_path / "mine" / "precious").read_text() == "x"


def test_a_mended_counterexample_refutes_no_longer(points, tmp_path: Path, capsys):
    place = save_counterexamples(tmp_path / "found", (points["plane-is-critical"],))[0]
    assert run(["claims", "--recheck", str(place), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["refutes"] is True
    with np.load(place / "data.npz") as arrays:
        inputs = arrays["inputs"]
    case = points["plane-is-critical"].counterexample
    assert case is not None
    np.savez(place / "data.npz", inputs=inputs, targets=case.problem.outputs_of(case.parameters))  # zero loss
    assert run(["claims", "--recheck", str(place)]) == 1
    assert "NOT refuted" in capsys.readouterr().err


def test_the_command_prints_one_document_and_writes_what_failed(tmp_path: Path, capsys):
    words = [
        "claims",
        "--only",
        "limit-as-printed,subspaces-counted",
        "--samples",
        "20",
        "--out",
        str(tmp_path / "found"),
    ]
    assert run([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["verdict"] for row in found["statements"]] == ["fails", "holds"]
    assert (tmp_path / "found" / "limit-as-printed" / "claim.json").is_file()
    assert run(words) == 2
    assert "the output exists" in capsys.readouterr().err
    assert run([*words, "--overwrite"]) == 0
    told = capsys.readouterr().err
    assert "FAILS" in told
    assert "counterexample, seed" in told


@pytest.mark.parametrize(
    ("words", "error", "text"),
    [
        (["--only", "nonsense"], SettingsError, "no such statement"),
        (["--samples", "0"], SettingsError, "not a number of samples"),
        (["--recheck", "nowhere"], DataError, "this is no counterexample"),
        (["--recheck", "x", "--out", "y"], SettingsError, "--recheck judges"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, error, text, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["claims", *words]) == 2
    told = capsys.readouterr().err
    assert text in told
    assert told.count("\n") == 1
    assert issubclass(error, Exception)
    assert not list(tmp_path.iterdir())
