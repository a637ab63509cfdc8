"""saddlescope expand and reduce: one JSON document, exit codes, one line for a mistake, and nothing written then."""

import json
import os

import numpy as np
import pytest
import torch

from saddlescope.cli import main
from saddlescope.cli.expand import expand
from saddlescope.cli.reduce import reduce
from saddlescope.data.weights import load_weights, save_weights
from saddlescope.models.mlp import MLP

NETWORK = MLP((2, 3, 4, 2), "tanh")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The program, in an empty folder with a small network and data."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    parameters = {name: generator.normal(size=value.shape) for name, value in NETWORK.initial(0).items()}
    save_weights("net.safetensors", NETWORK, parameters)
    np.savez("data.npz", inputs=generator.normal(size=(50, 2)), targets=generator.normal(size=(50, 2)))
    build = main.build

    def with_both():
        app = build()
        for command in (expand, reduce):
            if command.__name__ not in app:
                app.command(command)
        return app

    monkeypatch.setattr(main, "build", with_both)
    return main.run


EXPAND = ("expand", "net.safetensors", "--widths", "1:8,2:7", "--data", "data.npz")


def outputs(file):
    network, p = load_weights(file)
    x = np.load("data.npz")["inputs"]
    for k in range(network.depth):
        x = x @ p[f"{2 * k}.weight"].T + p[f"{2 * k}.bias"]
        x = np.tanh(x) if k < network.depth - 1 else x
    return x


def test_expand_then_reduce_gives_the_function_and_the_widths_back(run, capfd):
    assert run([*EXPAND, "--copies", "1:0=3", "--zero-type", "1:2,2:1", "--out", "big.safetensors", "--json"]) == 0
    captured = capfd.readouterr()
    answer = json.loads(captured.out, parse_constant=pytest.fail)
    assert captured.err == ""
    assert answer["widths"] == [2, 8, 7, 2]
    assert 0.0 <= answer["max_output_deviation"] <= 1e-14 * answer["output_scale"]
    assert load_weights("big.safetensors")[0].widths == (2, 8, 7, 2)
    assert np.abs(outputs("big.safetensors") - outputs("net.safetensors")).max() <= 1e-13
    assert sum(n["layer"] == 1 and n["source"] == 0 for n in answer["neurons"]) == 3
    assert [n["kind"] for n in answer["neurons"]].count("zero-type") == 3

    assert run(["reduce", "big.safetensors", "--data", "data.npz", "--out", "small.safetensors", "--json"]) == 0
    captured = capfd.readouterr()
    answer = json.loads(captured.out, parse_constant=pytest.fail)
    assert captured.err == ""
    assert answer["widths"] == [2, 3, 4, 2]
    assert len(answer["removed"]) == 8
    assert {"layer", "neuron", "why", "into"} <= set(answer["removed"][0])
    assert answer["max_output_deviation"] <= 1e-13
    assert np.abs(outputs("small.safetensors") - outputs("net.safetensors")).max() <= 1e-13


@pytest.mark.parametrize(
    ("words", "told"), [(("--shares", "equal"), True), (("--shares", "random"), False), (("--zero-type", "1:5"), False)]
)
def test_copies_that_training_cannot_part_are_told(run, capfd, words, told):
    """Torch's Adam leaves copies with equal shares equal to the last bit; no other group of equal neurons stays."""
    network, start = MLP((2, 3, 2), "tanh"), MLP((2, 3, 2), "tanh").initial(4)
    save_weights("flat.safetensors", network, start)
    assert run(["expand", "flat.safetensors", "--widths", "1:8", "--data", "data.npz", *words, "--out", "w.st"]) == 0
    assert ("training leaves them equal" in capfd.readouterr().err) is told
    weights = {name: torch.tensor(v, requires_grad=True) for name, v in load_weights("w.st")[1].items()}
    with np.load("data.npz") as rows:
        x, y = (torch.tensor(rows[name]) for name in ("inputs", "targets"))
    adam = torch.optim.Adam(list(weights.values()), 1e-2)
    for _ in range(20):
        adam.zero_grad()
        hidden = torch.tanh(x @ weights["0.weight"].T + weights["0.bias"])
        torch.mean((hidden @ weights["2.weight"].T + weights["2.bias"] - y) ** 2).backward()
        adam.step()
    apart = torch.cdist(weights["0.weight"].detach(), weights["0.weight"].detach()) + 9.0 * torch.eye(8)
    assert bool((apart.min(dim=1).values < 1e-9).any()) is told


def test_people_read_the_widths_first_on_standard_error(run, capfd):
    run([*EXPAND, "--out", "big.safetensors"])
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("widths 2,8,7,2: outputs differ by at most")
    run(["reduce", "big.safetensors", "--data", "data.npz", "--out", "small.safetensors"])
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("widths 2,3,4,2: outputs differ by at most")
    assert "layer 1: 5 removed, copy" in captured.err
    run(["reduce", "big.safetensors", "--data", "data.npz", "--out", "again.safetensors", "--quiet"])
    assert capfd.readouterr() == ("", "")


def test_the_same_seed_writes_the_same_weights(run):
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        run([*EXPAND, "--shares", "random", "--seed", seed, "--out", f"{name}.safetensors", "--quiet"])
    a, b, c = (load_weights(f"{name}.safetensors")[1] for name in "abc")
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert not all(np.array_equal(a[name], c[name]) for name in a)


def test_a_reduction_at_the_edge_of_its_tolerance_exits_with_one(run, capfd):
    network, parameters = load_weights("net.safetensors")
    for name, row in (("0.weight", parameters["0.weight"]), ("0.bias", parameters["0.bias"])):
        row[2] = row[0] * (1.0 + 3e-9)
        parameters[name] = row
    save_weights("near.safetensors", network, parameters)
    code = run(["reduce", "near.safetensors", "--data", "data.npz", "--out", "small.safetensors", "--json"])
    answer = json.loads(capfd.readouterr().out)
    assert (code, answer["undecided"], answer["widths"]) == (1, True, [2, 3, 4, 2])
    assert answer["nearest"]["1"] == pytest.approx(3e-9, rel=1e-3, abs=0.0)
    assert (
        run(["reduce", "near.safetensors", "--data", "data.npz", "--out", "two.safetensors", "--tolerance", "1e-7"])
        == 0
    )
    assert load_weights("two.safetensors")[0].widths == (2, 2, 4, 2)


def test_one_neuron_a_layer_has_no_nearest_distance(run, capfd):
    network = MLP((2, 1, 2), "tanh")
    save_weights("one.safetensors", network, network.initial(0))
    assert run(["reduce", "one.safetensors", "--data", "data.npz", "--out", "o.safetensors", "--json"]) == 0
    assert json.loads(capfd.readouterr().out, parse_constant=pytest.fail)["nearest"] == {"1": None}


MISTAKES = {
    "nothing asked": (["expand", "net.safetensors", "--data", "data.npz", "--out", "o"], "nothing to expand"),
    "no widths": ([*EXPAND[:3], "1=8", *EXPAND[4:], "--out", "o"], "widths=1=8; expected such as 1:30,2:28"),
    "a layer twice": ([*EXPAND[:3], "1:8,1:9", *EXPAND[4:], "--out", "o"], "a layer has two widths"),
    "no copies": ([*EXPAND, "--copies", "1:0", "--out", "o"], "copies=1:0; expected layer:neuron=number"),
    "a neuron twice": ([*EXPAND, "--copies", "1:0=2,1:0=3", "--out", "o"], "a neuron is named twice"),
    "no groups": ([*EXPAND, "--zero-type", "1:2:3", "--out", "o"], "zero-type=1:2:3; expected such as 1:2,1:1"),
    "no such layer": ([*EXPAND[:3], "3:8", *EXPAND[4:], "--out", "o"], "layer=3; expected 1 to 2"),
    "no such neuron": ([*EXPAND, "--copies", "1:3=2", "--out", "o"], "neuron=3; expected 0 to 2"),
    "narrower": ([*EXPAND[:3], "1:2", *EXPAND[4:], "--out", "o"], "width=2; expected at least 3"),
    "unknown shares": ([*EXPAND, "--shares", "fair", "--out", "o"], "shares=fair; expected equal, random"),
    "negative seed": ([*EXPAND, "--seed", "-1", "--out", "o"], "seed=-1"),
    "data do not fit": ([*EXPAND[:-1], "digits", "--out", "o"], "inputs per sample=64; expected 2"),
    "expand over a file": ([*EXPAND, "--out", "data.npz"], "the output exists"),
    "reduce over a file": (
        ["reduce", "net.safetensors", "--data", "data.npz", "--out", "data.npz"],
        "the output exists",
    ),
    "reduce: data do not fit": (["reduce", "net.safetensors", "--data", "digits", "--out", "o"], "64; expected 2"),
    "reduce: tolerance": (
        ["reduce", "net.safetensors", "--data", "data.npz", "--out", "o", "--tolerance", "0"],
        "tolerance=0.0; expected between 0 and 1",
    ),
    "reduce: no network": (["reduce", "none", "--data", "data.npz", "--out", "o"], "no such file"),
}


@pytest.mark.parametrize(("words", "text"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_line_exit_code_two_and_nothing_written(run, capfd, words, text):
    before = sorted(os.listdir())
    assert run(words) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("error: ")
    assert text in captured.err
    assert sorted(os.listdir()) == before


def test_overwriting_needs_a_word(run):
    assert run([*EXPAND, "--out", "net.safetensors", "--quiet"]) == 2
    assert load_weights("net.safetensors")[0].widths == (2, 3, 4, 2)
    assert run([*EXPAND, "--out", "net.safetensors", "--quiet", "--overwrite"]) == 2  # the user's own network
    assert load_weights("net.safetensors")[0].widths == (2, 3, 4, 2)
    assert run([*EXPAND, "--out", "wide.safetensors", "--quiet"]) == 0
    assert run([*EXPAND, "--out", "wide.safetensors", "--quiet"]) == 2
    assert run([*EXPAND, "--out", "wide.safetensors", "--quiet", "--overwrite"]) == 0
    assert load_weights("wide.safetensors")[0].widths == (2, 8, 7, 2)


def test_help_names_an_example(run, capfd):
    for command in ("expand", "reduce"):
        assert run([command, "--help"]) == 0
        assert f"Example: saddlescope {command}" in capfd.readouterr().out
