"""saddlescope expand, reduce and shrink for the user's own code: truth is PyTorch in a module of the shapes told."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saddlescope.cli.main import run

torch = pytest.importorskip("torch")
nn = torch.nn
pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's own, which differ from version to version

CODE = """
import torch
from torch import nn


def net(channels=3, hidden=4):
    torch.manual_seed(0)
    parts = [nn.Conv2d(1, channels, 3), nn.BatchNorm2d(channels), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten()]
    parts += [nn.Linear(4 * channels, hidden), nn.BatchNorm1d(hidden), nn.Tanh(), nn.Linear(hidden, 2)]
    module = nn.Sequential(*parts)
    for _ in range(20):  # statistics that are not 0 and 1
        module(2 * torch.randn(16, 1, 6, 6) + 1)
    return module.eval()


def jax_model(units=4):
    import jax.numpy as jnp
    import numpy as np
    import saddlescope as ss

    g = np.random.default_rng(0)
    params = {"a": g.normal(size=(36, units)), "b": g.normal(size=(units, 2))}
    return ss.from_function(lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"], params, g.normal(size=(5, 36)))
"""


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A folder with code, other weights than the code's own and data; what the code defines."""
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(CODE)
    defined: dict[str, Any] = {}
    exec(CODE, defined)
    module = defined["net"]()
    with torch.no_grad():
        for value in module.parameters():
            value += 0.1 * torch.randn(value.shape, generator=torch.Generator().manual_seed(1))
    torch.save(module.state_dict(), "own.pt")
    g = np.random.default_rng(0)
    np.savez("data.npz", inputs=g.normal(size=(12, 1, 6, 6)), targets=g.normal(size=(12, 2)))
    np.savez("flat.npz", inputs=g.normal(size=(12, 36)), targets=g.normal(size=(12, 2)))
    return defined


def outputs(module: Any, weights: str) -> np.ndarray:
    """Outputs by torch, in double precision, of a module that loads all of a file."""
    from safetensors.torch import load_file

    state = load_file(weights) if weights.endswith("safetensors") else torch.load(weights, weights_only=True)
    module.double().load_state_dict(state, strict=True)
    with torch.no_grad():
        return module(torch.tensor(np.load("data.npz")["inputs"])).numpy()


OWN = ("own.py:net", "--data", "data.npz")


def test_weights_grow_and_shrink_back_under_the_modules_own_names(make: dict[str, Any], capfd: Any) -> None:
    grow = ["--weights", "own.pt", "--widths", "0:5", "--copies", "5:1=3", "--shares", "random"]
    assert run(["expand", *OWN, *grow, "--out", "big.safetensors", "--json"]) == 0
    answer = json.loads(capfd.readouterr().out, parse_constant=pytest.fail)
    assert answer["widths"] == [5, 6]
    wide = make["net"](5, 6)
    changed = {"0.weight", "0.bias", "1.weight", "1.bias", "5.weight", "5.bias", "6.weight", "6.bias", "8.weight"}
    assert answer["shapes"] == {name: list(wide.state_dict()[name].shape) for name in changed}
    given = outputs(make["net"](), "own.pt")
    assert np.abs(outputs(wide, "big.safetensors") - given).max() < 1e-13

    Path("wide.py").write_text(CODE.replace("channels=3, hidden=4", "channels=5, hidden=6"))
    wide_words = ["wide.py:net", "--weights", "big.safetensors", "--data", "data.npz"]
    assert run(["reduce", *wide_words, "--out", "small.safetensors"]) == 0
    told = capfd.readouterr().err
    assert "build your model with 0.weight (3, 1, 3, 3), 0.bias (3,), 1.weight (3,)" in told
    assert "running statistics 0 and 1" in told
    assert np.abs(outputs(make["net"](), "small.safetensors") - given).max() < 1e-13
    # An earlier result of the command, and nothing else, is replaced.
    assert run(["reduce", *wide_words, "--out", "small.safetensors", "--overwrite"]) == 0
    assert run(["reduce", *wide_words, "--out", "big.safetensors", "--overwrite"]) == 2


def test_shrinking_own_code_writes_what_a_smaller_module_loads(make: dict[str, Any], capfd: Any) -> None:
    words = ["--weights", "own.pt", "--widths", "5:3", "--candidates", "1", "--finish", "5"]
    assert run(["shrink", *OWN, *words, "--out", "small.safetensors", "--json"]) == 0
    answer = json.loads(capfd.readouterr().out, parse_constant=pytest.fail)
    assert (answer["widths"], answer["shapes"]["8.weight"]) == ([3, 3], [2, 3])
    found = outputs(make["net"](3, 3), "small.safetensors")
    loss = np.mean((found - np.load("data.npz")["targets"]) ** 2)
    assert answer["loss"] == pytest.approx(loss, rel=1e-12)


def test_a_jax_models_weights_are_read_again_by_code_of_the_new_shapes(make: dict[str, Any], capfd: Any) -> None:
    assert run(["expand", "own.py:jax_model", "--data", "flat.npz", "--copies", "1:2=2", "--out", "b.safetensors"]) == 0
    assert "build your model with a (36, 5), b (5, 2)" in capfd.readouterr().err
    Path("wide.py").write_text(CODE.replace("units=4", "units=5"))
    words = [
        "wide.py:jax_model",
        "--weights",
        "b.safetensors",
        "--data",
        "flat.npz",
        "--out",
        "s.safetensors",
        "--json",
    ]
    assert run(["reduce", *words]) == 0
    answer = json.loads(capfd.readouterr().out)
    assert (answer["shapes"], answer["removed"][0]["why"]) == ({"a": [36, 4], "b": [4, 2]}, "copy")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--widths", "conv9:5"], "no such layer: layer=conv9"),
        (["--widths", "1:5,0:6"], "a layer is named twice: layer=0"),
        (["--widths", "0:2"], "width=2"),
        (["--widths", "5"], "not a list of layer:number"),
        (["--copies", ":1=3"], "copies=:1=3; expected layer:neuron=number"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(make: Any, capfd: Any, words: list[str], text: str) -> None:
    assert run(["expand", *OWN, *words, "--out", "big.safetensors"]) == 2
    told = capfd.readouterr().err
    assert (text in told, told.count("\n")) == (True, 1)
    assert not Path("big.safetensors").exists()


def test_an_example_of_zeros_serves_as_any_other(make: Any, capfd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """At zeros every kernel does the same: units are found at other inputs. What computes something else is refused."""
    parts = "nn.Conv2d(1, 3, 3), nn.Tanh(), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(3, 2)"
    code = f"torch.manual_seed(0)\n    return nn.Sequential({parts}).eval(), torch.zeros(2, 1, 6, 6)"
    Path("zeros.py").write_text(f"import torch\nfrom torch import nn\n\n\ndef net():\n    {code}\n")
    words = ["zeros.py:net", "--data", "data.npz", "--widths", "1:5"]
    assert run(["expand", *words, "--out", "big.safetensors", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["max_output_deviation"] <= 1e-13 * told["output_scale"]
    monkeypatch.setattr("saddlescope.cli.expand.SAME", -1.0)  # as if the outputs were others
    assert run(["expand", *words, "--out", "other.safetensors"]) == 2
    assert "computes something else" in capfd.readouterr().err
    assert not Path("other.safetensors").exists()
