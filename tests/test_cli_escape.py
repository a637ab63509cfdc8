"""saddlescope expand --escape: the loss falls, one JSON document, exit codes, one line for a mistake."""

import json
import os

import numpy as np
import pytest

from saddlescope.cli import main
from saddlescope.data.weights import load_weights, save_weights
from saddlescope.models.mlp import MLP

NETWORK = MLP((2, 3, 2), "tanh")
ESCAPE = ("expand", "net.safetensors", "--escape", "--data", "data.npz", "--widths", "1:5")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The program, in an empty folder with a small network and data."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    parameters = {name: generator.normal(size=value.shape) for name, value in NETWORK.initial(0).items()}
    save_weights("net.safetensors", NETWORK, parameters)
    np.savez("data.npz", inputs=generator.normal(size=(50, 2)), targets=generator.normal(size=(50, 2)))
    return main.run


def loss(file, decay):
    p, data = load_weights(file)[1], np.load("data.npz")
    hidden = np.tanh(data["inputs"] @ p["0.weight"].T + p["0.bias"])
    outputs = hidden @ p["2.weight"].T + p["2.bias"]
    return np.mean((outputs - data["targets"]) ** 2) + 0.5 * decay * sum(np.sum(v**2) for v in p.values())


def test_the_loss_falls_and_both_promises_are_told(run, capfd):
    words = ["--loss", "mse", "--weight-decay", "0.001"]
    assert run([*ESCAPE, *words, "--out", "big.safetensors", "--json"]) == 0
    captured = capfd.readouterr()
    answer = json.loads(captured.out, parse_constant=pytest.fail)
    assert captured.err == ""
    assert answer["widths"] == [2, 5, 2]
    assert answer["refused"] == {}
    assert answer["loss_before"] == pytest.approx(loss("net.safetensors", 1e-3), rel=1e-12)
    assert answer["loss_after"] == pytest.approx(loss("big.safetensors", 1e-3), rel=1e-12)
    before = answer["loss_before"]
    for place, unit in enumerate(answer["units"]):
        assert unit["neuron"] == 3 + place
        assert unit["loss_before"] == before
        assert unit["loss_after"] == unit[unit["taken"]]["loss"] < before
        before = unit["loss_after"]
        assert {"promise", "loss", "step"} <= set(unit["split"]) & set(unit["birth"])
    assert len(answer["units"]) == 2
    assert before == answer["loss_after"]

    assert run([*ESCAPE, *words, "--out", "big.safetensors"]) == 2
    assert "the output exists" in capfd.readouterr().err
    assert run([*ESCAPE, *words, "--out", "big.safetensors", "--overwrite"]) == 0
    said = capfd.readouterr().err
    assert "widths 2,5,2: loss " in said
    assert said.count("promises") == 4
    assert "written to big.safetensors" in said


def test_where_nothing_is_gained_the_answer_is_no_and_nothing_is_written(run, capfd):
    before = sorted(os.listdir())
    assert run([*ESCAPE, "--target", "network", "--out", "big.safetensors"]) == 1
    said = capfd.readouterr().err
    assert "stopped at 3 of 5 units: growing gains nothing to second order here" in said
    assert "nothing is written" in said
    assert sorted(os.listdir()) == before
    assert run([*ESCAPE, "--target", "network", "--out", "big.safetensors", "--json"]) == 1
    answer = json.loads(capfd.readouterr().out, parse_constant=pytest.fail)
    assert answer["out"] is None
    assert answer["units"] == []
    assert "gains nothing" in answer["refused"]["1"]
    assert sorted(os.listdir()) == before


MISTAKES = {
    "copies": ([*ESCAPE, "--copies", "1:0=2", "--out", "o"], "this does not go with --escape: copies=1:0=2"),
    "zero type": ([*ESCAPE, "--zero-type", "1:1", "--out", "o"], "this does not go with --escape: zero-type=1:1"),
    "shares": ([*ESCAPE, "--shares", "random", "--out", "o"], "this does not go with --escape: shares=random"),
    "no widths": ([*ESCAPE[:-2], "--out", "o"], "nothing to expand"),
    "narrower": ([*ESCAPE[:-1], "1:2", "--out", "o"], "width=2; expected an integer, at least 3"),
    "no such layer": ([*ESCAPE[:-1], "2:3", "--out", "o"], "layer=2; expected 1"),
    "unknown loss": ([*ESCAPE, "--loss", "l1", "--out", "o"], "loss=l1; expected mse, normalised, cross-entropy"),
    "unknown target": ([*ESCAPE, "--target", "sky", "--out", "o"], "target=sky; expected data, network"),
    "code": ([*ESCAPE[:1], "net.py:make", *ESCAPE[2:], "--out", "o"], "net=net.py:make; expected a safetensors file"),
    "loss alone": (
        [ESCAPE[0], ESCAPE[1], *ESCAPE[3:], "--loss", "mse", "--out", "o"],
        "this does not go without --escape: loss=mse",
    ),
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
