"""saddlescope walk: one JSON document, the same in a file, exit codes, and one clear line for every mistake."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from references.synthetic_paths import synthetic_path
from saddlescope.cli.main import run
from saddlescope.data.data import Data
from saddlescope.data.weights import save_weights
from saddlescope.models.mlp import MLP
from saddlescope.outcomes import Outcome
from saddlescope.problem.problem import Problem
from saddlescope.records.store import load_path, save_path
from saddlescope.units.actions import permute
from saddlescope.valleys.moves import route_end
from saddlescope.valleys.result import Move, MoveKind, Route

KEYS = ("segments", "loss", "max_loss_deviation", "max_gradient_norm", "moves")


def critical_point():
    """Inputs, targets, and parameters of a 2-3-1 tanh network with twins 0 and 2, critical at a loss above zero.

    The targets are the outputs of a 2-2-1 network plus residuals that are orthogonal to all its derivatives.
    """
    generator = np.random.default_rng(0)
    x, w, b, a = (generator.normal(size=shape) for shape in ((60, 2), (2, 2), 2, 2))
    hidden = np.tanh(x @ w.T + b)
    slopes = a * (1.0 - hidden**2)
    jacobian = np.column_stack([slopes * x[:, :1], slopes * x[:, 1:], slopes, hidden, np.ones(60)])
    residual = generator.normal(size=60)
    residual -= jacobian @ np.linalg.lstsq(jacobian, residual, rcond=None)[0]
    twins = {
        "0.weight": w[[0, 1, 0]],
        "0.bias": b[[0, 1, 0]],
        "2.weight": np.array([[0.3 * a[0], a[1], 0.7 * a[0]]]),
        "2.bias": np.zeros(1),
    }
    return x, (hidden @ a + residual)[:, None], twins


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a network, data, and two runs on them: one ends in a permutation point, the other has none."""
    folder = tmp_path_factory.mktemp("walk")
    x, y, twins = critical_point()
    network = MLP((2, 3, 1), "tanh")
    problem = Problem(network, Data(x, y))
    path = synthetic_path()
    point = dataclasses.replace(path.permutation_point, parameters=twins, loss=problem.loss_of(twins))
    words = {"network": "net.safetensors", "data": "data.npz", "weight_decay": 0.0, "norm_barrier": 0.0}
    path = dataclasses.replace(
        path,
        permutation_point=point,
        fingerprints=problem.fingerprint(twins),
        problem={**path.problem, **words},
    )
    none = dataclasses.replace(path, permutation_point=None, ending=Outcome.CHANNEL, reasons=("it grew",))
    save_weights(folder / "net.safetensors", network, network.initial(0))
    np.savez(folder / "data.npz", inputs=x, targets=y)
    save_path(path, folder / "run.saddle")
    save_path(none, folder / "none.saddle")
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    """A copy of that folder, to work in."""
    folder = tmp_path / "work"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    return folder


def test_walk_prints_one_json_document_that_holds_the_walk(here, capfd):
    assert run(["walk", "run.saddle", "--to", "1,2,0", "--json"]) == 0
    captured = capfd.readouterr()
    answer = json.loads(captured.out, parse_constant=pytest.fail)
    assert captured.err == ""
    assert all(key in answer for key in KEYS)
    assert answer["segments"] == len(answer["moves"]) == len(answer["critical"]) == len(answer["gradient_norms"])
    path = load_path("run.saddle")
    point = path.permutation_point
    assert answer["loss"] == pytest.approx(point.loss, rel=1e-12, abs=0.0)
    assert answer["max_loss_deviation"] <= 1e-12 * answer["loss"]
    assert answer["max_gradient_norm"] >= max(answer["gradient_norms"])
    assert answer["critical"] == [kind != "walk" for kind, _, _ in answer["moves"]]
    route = Route(
        start=point.parameters,
        neurons=path.neurons,
        pair=path.pair,
        permutation=tuple(answer["permutation"]),
        moves=tuple(Move(MoveKind(kind), neuron, to) for kind, neuron, to in answer["moves"]),
    )
    expected = permute(point.parameters, path.neurons, [1, 2, 0])
    for name, value in route_end(route).items():
        np.testing.assert_array_equal(value, expected[name])


def test_walk_tells_people_the_answer_first_and_writes_what_json_prints(here, capfd):
    assert run(["walk", "run.saddle", "--to", "1,2,0", "--out", "walk.json"]) == 0
    captured = capfd.readouterr()
    assert captured.out == ""
    written = json.loads((here / "walk.json").read_text())
    assert captured.err.startswith(f"{written['segments']} segments to the permutation 1,2,0 of layer 1")
    assert len(captured.err.splitlines()) == 5 + written["segments"]
    assert ", critical: gradient norm" in captured.err
    assert run(["walk", "run.saddle", "--to", "1,2,0", "--json"]) == 0
    printed = json.loads(capfd.readouterr().out)
    assert {**printed, "seconds": 0} == {**written, "seconds": 0}


def test_a_run_without_a_permutation_point_exits_with_one_and_says_why(here, capfd):
    assert run(["walk", "none.saddle", "--to", "1,2,0", "--json", "--out", "walk.json"]) == 1
    answer = json.loads(capfd.readouterr().out)
    assert all(answer[key] is None for key in KEYS)
    assert answer["ending"] == "channel"
    assert answer["reasons"][-1] == "it grew"
    assert not (here / "walk.json").exists()
    assert run(["walk", "none.saddle", "--to", "1,2,0"]) == 1
    assert capfd.readouterr().err.startswith("no permutation point to walk from: channel")


def test_files_that_moved_can_be_named(here, capfd):
    (here / "net.safetensors").rename("other.safetensors")
    (here / "data.npz").rename("rows.npz")
    assert run(["walk", "run.saddle", "--to", "1,2,0"]) == 2
    assert "Name it with --net" in capfd.readouterr().err
    named = ["--net", "other.safetensors", "--data", "rows.npz"]
    assert run(["walk", "run.saddle", "--to", "1,2,0", "--quiet", *named]) == 0
    assert capfd.readouterr() == ("", "")


MISTAKES = {
    "too few": (["--to", "1,2"], "permutation=1,2; expected 0 to 2, each once. Missing: 0."),
    "twice": (["--to", "1,1,0"], "Missing: 2"),
    "no numbers": (["--to", "1,b,0"], "not a list of whole numbers for to: to=1,b,0"),
    "nowhere": ([], "requires"),
    "no points": (["--to", "1,2,0", "--points", "0"], "points=0; expected an integer, 1 or more"),
    "negative tolerance": (["--to", "1,2,0", "--tolerance", "-1"], "tolerance=-1.0"),
    "file exists": (["--to", "1,2,0", "--out", "data.npz"], "the output exists: file=data.npz"),
    "no folder": (["--to", "1,2,0", "--out", "no/walk.json"], "folder for the output does not exist"),
    "other data": (["--to", "1,2,0", "--data", "toy"], "the data are not those of the run"),
}


@pytest.mark.parametrize(("words", "text"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_line_and_exit_code_two(here, capfd, words, text):
    before = sorted(file.name for file in here.iterdir())
    assert run(["walk", "run.saddle", *words]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert text in captured.err
    assert len(captured.err.splitlines()) == 1
    assert sorted(file.name for file in here.iterdir()) == before


def test_what_is_no_run_is_refused(here, capfd):
    assert run(["walk", "data.npz", "--to", "1,2,0"]) == 2
    assert "not a readable result: run=data.npz" in capfd.readouterr().err


def test_an_earlier_walk_is_replaced_when_asked_and_nothing_else(here, capfd):
    (here / "walk.json").write_text("old")
    assert run(["walk", "run.saddle", "--to", "0,2,1", "--out", "walk.json", "--overwrite", "--quiet"]) == 2
    assert (here / "walk.json").read_text() == "old"
    (here / "walk.json").unlink()
    assert run(["walk", "run.saddle", "--to", "1,2,0", "--out", "walk.json", "--quiet"]) == 0
    assert run(["walk", "run.saddle", "--to", "0,2,1", "--out", "walk.json", "--overwrite", "--quiet"]) == 0
    assert json.loads((here / "walk.json").read_text())["permutation"] == [0, 2, 1]


def test_certify_writes_the_document_it_prints_with_its_words_and_fingerprints(here, capfd):
    code = run(["certify", "run.saddle", "--json", "--out", "certificate.json"])
    printed = json.loads(capfd.readouterr().out)
    written = json.loads((here / "certificate.json").read_text())
    assert code == (1 if printed["verdict"] in ("undecided", "not-critical") else 0)
    assert written.pop("kind") == "certificate"
    assert written.pop("fingerprints") == load_path("run.saddle").fingerprints
    assert written.pop("words")
    assert {**written, "seconds": 0} == {**printed, "seconds": 0}
    assert run(["certify", "run.saddle", "--out", "certificate.json"]) == 2
    assert "the output exists: file=certificate.json" in capfd.readouterr().err


def test_certify_writes_a_network_s_own_fingerprints(here, capfd):
    run(["certify", "--net", "net.safetensors", "--data", "data.npz", "--quiet", "--out", "certificate.json"])
    assert capfd.readouterr() == ("", "")
    written = json.loads((here / "certificate.json").read_text())
    assert written["fingerprints"]["data"] == load_path("run.saddle").fingerprints["data"]
