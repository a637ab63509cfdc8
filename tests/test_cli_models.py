"""The word MODEL on the command line: plain files, own code, weights; each mistake is one line and exit code 2."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from saddlescope.cli.main import run
from saddlescope.data.weights import save_weights
from saddlescope.models.mlp import MLP

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's own, which differ from version to version

CODE = """
import sys
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import torch
from torch import nn

import saddlescope as ss
from helper import WIDTH
from saddlescope.arrays import Layout

print("loading")


def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 2)).eval()


def conv():
    torch.manual_seed(0)
    parts = nn.Conv2d(1, 3, 3), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(3, 2)
    return nn.Sequential(*parts).eval(), torch.randn(4, 1, 4, 4)


def words():
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(12, 2)).eval()


def jax_model():
    g = np.random.default_rng(0)
    params = {"a": g.normal(size=(3, 4)), "b": g.normal(size=(4, 2))}
    return ss.from_function(lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"], params, g.normal(size=(5, 3)))


def training():
    return make().train(), torch.randn(4, 3)


def wrong_example():
    return make(), torch.randn(4, 5)


def raises():
    raise ValueError("no such\\nthing")


def leaves():
    sys.exit(3)


def other():
    return 3


def three():
    return make(), 1, 2


def nothing():
    return ()


@dataclass(frozen=True)
class Residual:
    layout: Layout = Layout(("up", "bias", "down"), ((4, 3), (4,), (3, 4)))

    def apply(self, p, x):
        return jnp.tanh(x @ p["up"].T + p["bias"][None, :]) @ p["down"].T + x

    @property
    def layers(self):
        return {1: ss.Neurons((ss.Slice("up", 0), ss.Slice("bias", 0)), (ss.Slice("down", 1),))}


def own():
    g, net = np.random.default_rng(3), Residual()
    return net, {name: g.normal(size=shape) for name, shape in zip(net.layout.names, net.layout.shapes)}


def own_other():
    net, params = own()
    return net, {**params, "bias": params["bias"][::-1]}


def own_nan():
    net, params = own()
    return net, {**params, "bias": params["bias"] * np.nan}


def own_extra():
    net, params = own()
    return net, {**params, "more": params["bias"]}


def square():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 3), nn.GELU(), nn.Linear(3, 3)).eval()


def squares_turned():
    net = square()
    net[0].weight.data = net[0].weight.data.T.contiguous()
    net[2].weight.data = net[2].weight.data.T.contiguous()
    return net


def normed():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)).eval()
    net[1].running_mean.data.uniform_(-1, 1)
    net[1].running_var.data.uniform_(0.5, 2)
    return net


def words_other():
    net = words()
    net[2].bias.data += 1e-4
    return net


value = 3
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with code, weights and data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "helper", raising=False)
    Path("helper.py").write_text("WIDTH = 4\n")
    Path("net.py").write_text(CODE)
    Path("broken.py").write_text("def make(:\n")
    g = np.random.default_rng(0)
    np.savez("data.npz", inputs=g.normal(size=(20, 3)), targets=g.normal(size=(20, 2)))
    torch.manual_seed(1)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    torch.save(module.state_dict(), "net.pt")
    torch.save(module, "whole.pt")
    return module


def asked(capfd, *words: str) -> dict:
    assert run(["symmetries", *words, "--json"]) == 0
    return json.loads(capfd.readouterr().out, parse_constant=pytest.fail)


def test_a_module_of_the_users_own_file(here, capfd):
    """One group of 4 units under the module's names; what the code prints does not disturb the JSON document."""
    answer = asked(capfd, "net.py:make", "--data", "data.npz")
    (group,) = answer["groups"]
    assert (group["units"], group["layer"], group["verified"], group["name"]) == (4, 1, True, "0")
    assert [place["name"] for place in group["incoming"]] == ["0.weight", "0.bias"]
    assert [(place["name"], place["axis"]) for place in group["outgoing"]] == [("2.weight", 1)]
    assert group["deviation"] < 1e-12 < group["omission"]


@pytest.mark.parametrize(
    ("word", "options", "units"),
    [
        ("net:make", ["--example", "3"], [4]),
        ("net.py:conv", [], [3]),
        ("net.py:words", ["--example", "3:7"], [4]),
        ("net.py:jax_model", [], [4]),
    ],
)
def test_what_a_function_may_return(here, capfd, word, options, units):
    assert [group["units"] for group in asked(capfd, word, *options)["groups"]] == units


def test_the_table_names_every_array_and_says_why_not(here, capfd):
    assert run(["symmetries", "net.py:words", "--example", "3:7"]) == 0
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "0.weight [axis 1]" in captured.err
    assert "2.weight [axis 1" in captured.err
    assert "any invertible matrix moves these units" in captured.err


def test_a_plain_file_keeps_its_own_names(here, capfd):
    network = MLP((3, 5, 4, 2), "tanh")
    save_weights("plain.safetensors", network, network.initial(0))
    from safetensors.numpy import load_file, save_file

    arrays = {
        f"fc{int(n.split('.')[0]) // 2 + 1}.{n.split('.')[1]}": v for n, v in load_file("plain.safetensors").items()
    }
    save_file(arrays, "named.safetensors")
    groups = asked(capfd, "named.safetensors", "--activation", "tanh")["groups"]
    assert [(group["name"], group["units"]) for group in groups] == [("fc1", 5), ("fc2", 4)]
    assert [place["name"] for place in groups[0]["outgoing"]] == ["fc2.weight"]


def forms(module) -> dict[str, str]:
    """The same weights in every format that is read, with and without the prefixes of wrappers."""
    from safetensors.torch import save_file

    state = module.state_dict()
    save_file(state, "one.safetensors")
    save_file({f"_orig_mod.module.{name}": value for name, value in state.items()}, "wrapped.safetensors")
    names = list(state)
    save_file({name: state[name] for name in names[:2]}, "part1.safetensors")
    save_file({name: state[name] for name in names[2:]}, "part2.safetensors")
    places = {name: f"part{1 if name in names[:2] else 2}.safetensors" for name in names}
    Path("model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    torch.save({"state_dict": {f"model.{name}": v for name, v in state.items()}, "epoch": 3}, "lightning.ckpt")
    return {
        "one file": "one.safetensors",
        "wrapped": "wrapped.safetensors",
        "sharded": "model.safetensors.index.json",
        "torch.save": "net.pt",
        "nested": "lightning.ckpt",
    }


@pytest.mark.parametrize("how", ["one file", "wrapped", "sharded", "torch.save", "nested"])
def test_weights_in_every_format(here, how):
    from saddlescope.cli.models import open_model

    found = open_model("net.py:make", weights=Path(forms(here)[how]), example=np.ones((2, 3)))
    assert found.words["weights"] == forms(here)[how]
    for name, value in here.state_dict().items():
        np.testing.assert_array_equal(found.parameters[name], value.double().numpy())


def test_weights_of_double_precision_keep_their_digits(here):
    from safetensors.torch import save_file

    from saddlescope.cli.models import open_model

    state = {name: value.double() / 3 for name, value in here.state_dict().items()}
    save_file(state, "double.safetensors")
    found = open_model("net.py:make", weights=Path("double.safetensors"), example=np.ones((2, 3)))
    np.testing.assert_array_equal(found.parameters["0.weight"], state["0.weight"].numpy())


def test_weights_for_a_model_of_jax(here, capfd):
    """Names and shapes must be the model's; the units are searched again at these weights."""
    from safetensors.numpy import save_file

    from saddlescope.cli.models import open_model

    g = np.random.default_rng(1)
    arrays = {"b": g.normal(size=(4, 2)), "a": g.normal(size=(3, 4))}
    save_file(arrays, "own.safetensors")
    found = open_model("net.py:jax_model", weights=Path("own.safetensors"))
    assert list(found.parameters) == ["a", "b"]
    np.testing.assert_array_equal(found.parameters["b"], arrays["b"])
    assert [g["units"] for g in asked(capfd, "net.py:jax_model", "--weights", "own.safetensors")["groups"]] == [4]
    for wrong, said in (({"a": arrays["a"]}, "missing"), ({**arrays, "c": arrays["a"]}, "no such array")):
        save_file(wrong, "wrong.safetensors")
        assert run(["symmetries", "net.py:jax_model", "--weights", "wrong.safetensors"]) == 2
        assert said in capfd.readouterr().err


def test_a_pickle_is_never_executed(here, capfd):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (Path("ran"),))

    for name in ("evil.pt", "plain.pt"):
        with Path(name).open("wb") as file:
            torch.save({"0.weight": Evil()}, file) if name == "evil.pt" else pickle.dump(Evil(), file)
        assert run(["symmetries", "net.py:make", "--example", "3", "--weights", name]) == 2
        assert not Path("ran").exists()


# Is this my model? The data's outputs are those of the user's own program, computed without this package.


def _torch_outputs(name: str, x: np.ndarray, kind: torch.dtype) -> np.ndarray:
    module = getattr(__import__("net"), name)().to(kind)
    given = torch.as_tensor(x).to(kind if name != "words" else torch.int64)
    return module(given).detach().double().numpy()


def _by_hand(name: str, x: np.ndarray) -> np.ndarray:
    params = getattr(__import__("net"), name)()[1]
    hidden = np.tanh(np.einsum("ni,hi->nh", x, params["up"]) + params["bias"])
    return np.einsum("nh,oh->no", hidden, params["down"]) + x


def _stored(monkeypatch, name: str, kind: torch.dtype = torch.float32) -> None:
    """Write data whose outputs are those of a function of net.py."""
    monkeypatch.syspath_prepend(str(Path.cwd()))
    monkeypatch.delitem(__import__("sys").modules, "net", raising=False)
    g = np.random.default_rng(5)
    x = g.integers(0, 7, size=(30, 3)) if name == "words" else g.normal(size=(30, 3))
    outputs = _by_hand(name, x).astype(np.float32) if name == "own" else _torch_outputs(name, x, kind)
    np.savez("with.npz", inputs=x, targets=g.normal(size=outputs.shape), outputs=outputs)


COMPUTED = [(name, kind) for name in ("make", "normed") for kind in (torch.float32, torch.bfloat16, torch.float64)]


@pytest.mark.parametrize(("name", "kind"), [("own", torch.float32), ("words", torch.float32), *COMPUTED])
def test_a_model_that_gives_the_datas_own_outputs_is_taken(here, monkeypatch, name, kind):
    from saddlescope.cli.models import open_model
    from saddlescope.data.agreement import require_agreement
    from saddlescope.data.sources import load_data

    _stored(monkeypatch, name, kind)
    rows = load_data("with.npz")
    opened = open_model(f"net.py:{name}", data=rows)
    gap = require_agreement(opened.model, opened.parameters, rows)
    assert gap is not None
    assert gap < {torch.float64: 1e-14, torch.float32: 1e-6, torch.bfloat16: 0.05}[kind]


@pytest.mark.parametrize(
    ("right", "asked", "said"),
    [
        ("own", "own_other", "Are these its weights"),
        ("square", "squares_turned", "With its weights transposed it does"),
        ("words", "words_other", "differ by up to 0.0001, rounding allows"),
        ("make", "jax_model", "Are these its weights"),
        ("make", "normed", "Are these its weights"),
        ("make", "own", "outputs per sample=(2,); expected (3,)"),
    ],
)
@pytest.mark.parametrize("command", ["path", "certify", "symmetries"])
def test_a_model_that_does_not_is_refused_before_anything_is_computed(
    here, monkeypatch, capfd, right, asked, said, command
):
    import saddlescope.paths.find

    _stored(monkeypatch, right)
    monkeypatch.setattr(saddlescope.paths.find, "find_path", lambda *_, **__: pytest.fail("computed"))
    words = {
        "path": ["path", f"net.py:{asked}", "--layer", "1", "--out", "r.saddle"],
        "certify": ["certify", "--net", f"net.py:{asked}", "--out", "c.json"],
        "symmetries": ["symmetries", f"net.py:{asked}"],
    }
    before = sorted(Path().iterdir())
    assert run([*words[command], "--data", "with.npz"]) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line != "loading"]
    assert len(lines) == 1
    assert said in lines[0]
    assert sorted(Path().iterdir()) == before


def test_outputs_after_a_softmax_are_named_for_a_model_of_any_kind(here, monkeypatch, capfd):
    _stored(monkeypatch, "make")
    rows = dict(np.load("with.npz"))
    rows["outputs"] = torch.softmax(torch.as_tensor(rows["outputs"]), 1).numpy()
    np.savez("with.npz", **rows)
    assert run(["symmetries", "net.py:make", "--data", "with.npz"]) == 2
    assert "outputs after softmax" in capfd.readouterr().err


def test_a_class_with_the_least_of_a_model_serves_every_command(here, capfd):
    g = np.random.default_rng(0)
    np.savez("three.npz", inputs=g.normal(size=(20, 3)), targets=g.normal(size=(20, 3)))
    answer = asked(capfd, "net.py:own", "--data", "three.npz")
    assert (answer["origin"], [group["units"] for group in answer["groups"]]) == ("Residual", [4])
    words = ["--data", "three.npz", "--target", "network"]
    code = run(["path", "net.py:own", "--layer", "1", "--pair", "0,1", "--steps", "3", *words, "--out", "r.saddle"])
    assert code in (0, 1)
    assert run(["certify", "--net", "net.py:own", *words, "--json"]) == 0


MISTAKES = {
    "own class without inputs": (["net.py:own"], "does not say its inputs"),
    "own class with NaN": (["net.py:own_nan", "--example", "3"], "not finite: bias[0]=nan"),
    "own class with one array more": (["net.py:own_extra", "--example", "3"], "more=(4,); expected no such array"),
    "no file": (["none.py:make"], "no such file"),
    "no module": (["none.there:make"], "ModuleNotFoundError"),
    "no function": (["net.py:absent"], "no such function"),
    "no function named": (["net.py"], "no function is named"),
    "not callable": (["net.py:value"], "cannot be called"),
    "syntax": (["broken.py:make"], "SyntaxError"),
    "raises": (["net.py:raises"], "ValueError (no such)"),
    "leaves": (["net.py:leaves"], "SystemExit"),
    "returns a number": (["net.py:other"], "returns no model"),
    "returns three": (["net.py:three"], "returns no model"),
    "returns nothing": (["net.py:nothing"], "returns no model"),
    "train mode": (["net.py:training"], "train mode"),
    "wrong example": (["net.py:wrong_example"], "does not run on this example"),
    "no example": (["net.py:make"], "an example is missing"),
    "example's shape": (["net.py:make", "--example", "3,0"], "not the shape of a sample"),
    "example's file": (["net.py:make", "--example", "none.npy"], "cannot be read"),
    "other weights": (["net.py:conv", "--weights", "net.pt"], "lack an array of the module: array=4.weight"),
    "whole module": (["net.py:make", "--example", "3", "--weights", "whole.pt"], "more than tensors"),
    "no weights": (["net.py:make", "--example", "3", "--weights", "none.pt"], "no such file"),
    "code as weights": (["net.py:make", "--example", "3", "--weights", "net.py"], "not a known format"),
    "weights of a file": (["plain.safetensors", "--weights", "net.pt"], "for a model of your own code"),
    "activation": (["net.py:make", "--activation", "tanh"], "its own activations"),
    "statistics": (["net.py:make", "--statistics", "lost"], "kept, folded"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(here, capfd, mistake):
    words, said = MISTAKES[mistake]
    assert run(["symmetries", *words]) == 2
    captured = capfd.readouterr()
    lines = [line for line in captured.err.splitlines() if line != "loading"]
    assert captured.out == ""
    assert len(lines) == 1
    assert len(lines[0]) <= 400
    assert said in lines[0]


@pytest.mark.parametrize("what", ["shape", "extra", "missing shard", "elsewhere", "not JSON"])
def test_weights_that_do_not_fit(here, capfd, what):
    from safetensors.torch import save_file

    state = dict(here.state_dict())
    file = "model.safetensors.index.json"
    if what == "shape":
        state["0.weight"], file = torch.zeros(5, 3), "bad.safetensors"
    elif what == "extra":
        state["9.weight"], file = torch.zeros(1), "bad.safetensors"
    save_file(state, "bad.safetensors")
    place = "../bad.safetensors" if what == "elsewhere" else "none.safetensors"
    Path("model.safetensors.index.json").write_text(
        "[" if what == "not JSON" else json.dumps({"weight_map": dict.fromkeys(state, place)})
    )
    assert run(["symmetries", "net.py:make", "--example", "3", "--weights", file]) == 2
    expected = {
        "shape": "0.weight=(5, 3); expected (4, 3)",
        "extra": "no such array: array=9.weight",
        "missing shard": "a file of the index is missing",
        "elsewhere": "names a file elsewhere",
        "not JSON": "no index",
    }
    assert expected[what] in capfd.readouterr().err


def test_path_and_certify_take_the_same_word(here, capfd):
    """A run on the user's own code keeps his names; its code runs again only when he names it."""
    words = ["--data", "data.npz", "--target", "network", "--pair", "0,1", "--steps", "5", "--quiet"]
    code = run(["path", "net.py:make", "--weights", "net.pt", "--layer", "1", *words, "--out", "r.saddle"])
    assert code in (0, 1)
    from saddlescope.records.store import load_path

    path = load_path("r.saddle")
    assert path.problem["network"] == "net.py:make"
    assert path.problem["weights"] == "net.pt"
    assert list(path.parameters) == list(here.state_dict())
    capfd.readouterr()
    assert run(["certify", "r.saddle"]) == 2
    assert "only when you name it" in capfd.readouterr().err
    again = run(["certify", "r.saddle", "--net", "net.py:make", "--weights", "net.pt", "--json"])
    assert again in (0, 1)
    assert json.loads(capfd.readouterr().out)["verdict"]
    assert run(["path", "net.py:make", "--layer", "conv9", *words, "--out", "s.saddle"]) == 2
    assert "no such layer" in capfd.readouterr().err
    assert not Path("s.saddle").exists()
