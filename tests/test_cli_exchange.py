"""saddlescope exchange: the table, the JSON document, exit codes, and mistakes in one line."""

import json
from pathlib import Path

import numpy as np
import pytest

import saddlescope as ss
from saddlescope.cli.main import run


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A plain network, data, and a model of the user's own in the current folder."""
    monkeypatch.chdir(tmp_path)
    g = np.random.default_rng(0)
    network = ss.MLP((3, 4, 3, 2), "tanh")
    parameters = network.initial(0)
    np.savez("data.npz", inputs=g.normal(size=(30, 3)), targets=g.normal(size=(30, 2)))
    ss.save_weights("net.safetensors", network, parameters)
    Path("own.py").write_text(
        "import jax.numpy as jnp\nimport numpy as np\nimport saddlescope as ss\n\n\ndef make():\n"
        "    g = np.random.default_rng(0)\n"
        "    params = {'a': g.normal(size=(3, 4)), 'b': g.normal(size=(4, 2))}\n"
        "    return ss.from_function(lambda p, x: jnp.tanh(x @ p['a']) @ p['b'], params, g.normal(size=(5, 3)))\n"
    )
    return network, parameters


def test_the_document_holds_what_python_returns(here, capfd):
    network, parameters = here
    assert run(["exchange", "net.safetensors", "--data", "data.npz", "--json"]) == 0
    answer = json.loads(capfd.readouterr().out, parse_constant=pytest.fail)
    found = ss.exchange(ss.Problem(network, ss.data.load_data("data.npz")), parameters)
    assert [one["layer"] for one in answer["layers"]] == [1, 2]
    for one in answer["layers"]:
        np.testing.assert_allclose([unit["lowest"] for unit in one["units"]], found[one["layer"]].lowest, rtol=1e-12)
        assert tuple(unit["unstable"] for unit in one["units"]) == found[one["layer"]].unstable
        costs = found[one["layer"]].costs
        for key in ("drop", "drop_held_out", "merge", "merge_held_out"):
            np.testing.assert_allclose([unit[key] for unit in one["units"]], getattr(costs, key), rtol=1e-9)
        assert tuple(unit["verdict"] for unit in one["units"]) == costs.verdict
    assert answer["loss"] == pytest.approx(found.loss, rel=1e-13)


def test_the_table_has_a_row_for_each_unit_most_unstable_first(here, capfd):
    assert run(["exchange", "own.py:make", "--data", "data.npz", "--layer", "a"]) == 0
    told = capfd.readouterr()
    assert told.out == ""
    assert "4 of 4 units are unstable when copied" in told.err
    rows = [line.split() for line in told.err.splitlines() if line.startswith("a ")]
    values = [float(row[2]) for row in rows]
    assert len(rows) == 4
    assert values == sorted(values)
    assert all(row[-1] in ("keep", "drop", "merge") for row in rows)


def test_what_has_no_costs_says_so(here, capfd):
    """Four rows in a half cannot fit four weights and a constant and be tried."""
    g = np.random.default_rng(0)
    np.savez("few.npz", inputs=g.normal(size=(8, 3)), targets=g.normal(size=(8, 2)))
    assert run(["exchange", "net.safetensors", "--data", "few.npz", "--layer", "1"]) == 0
    told = capfd.readouterr().err
    assert "too few rows to refit" in told
    assert run(["exchange", "net.safetensors", "--data", "few.npz", "--layer", "1", "--json"]) == 0
    answer = json.loads(capfd.readouterr().out, parse_constant=pytest.fail)
    assert all(unit["drop"] is None and unit["verdict"] is None for unit in answer["layers"][0]["units"])


def test_no_unstable_unit_is_exit_code_one(here, capfd):
    assert run(["exchange", "net.safetensors", "--data", "data.npz", "--weight-decay", "50", "--layer", "1"]) == 1
    assert "0 of 4 units are unstable" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["net.safetensors", "--layer", "7"], "no such layer: layer=7"),
        (["own.py:make", "--layer", "c"], "no such layer: layer=c"),
        (["net.safetensors", "--loss", "hinge"], "loss=hinge"),
        (["none.safetensors"], "none.safetensors"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(here, capfd, words, text):
    assert run(["exchange", *words, "--data", "data.npz"]) == 2
    told = capfd.readouterr().err
    assert text in told
    assert len(told.strip().splitlines()) == 1
