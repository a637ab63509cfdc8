"""Weights files: what torch writes is read and computes the same; what is not a network is refused."""

import copy
import pickle

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file
from safetensors.torch import save_file as torch_save

from saddlescope.data.agreement import doubt, require_agreement
from saddlescope.data.data import Data
from saddlescope.data.weights import load_weights, save_weights, weights_notes
from saddlescope.errors import NonFiniteError, RecordExistsError, SettingsError, ShapeError, StorageError, WeightsError
from saddlescope.models.mlp import MLP
from saddlescope.precision import float64
from saddlescope.problem.problem import Problem

TORCH = {
    "relu": torch.nn.ReLU,
    "leaky_relu": torch.nn.LeakyReLU,
    "tanh": torch.nn.Tanh,
    "sigmoid": torch.nn.Sigmoid,
    "softplus": torch.nn.Softplus,
    "gelu": torch.nn.GELU,
    "silu": torch.nn.SiLU,
    "identity": torch.nn.Identity,
}
KINDS = (("weight", (2, 2)), ("bias", (2,)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", TORCH)
def test_a_torch_sequential_loads_and_gives_the_same_outputs(tmp_path, name, dtype):
    torch.manual_seed(0)
    layers = [torch.nn.Linear(3, 5), TORCH[name](), torch.nn.Linear(5, 4), TORCH[name](), torch.nn.Linear(4, 2)]
    module = torch.nn.Sequential(*layers).to(dtype)
    torch_save(module.state_dict(), tmp_path / "net.safetensors")
    network, parameters = load_weights(tmp_path / "net.safetensors", activation=name)
    x = np.random.default_rng(0).normal(size=(9, 3))
    with float64():
        ours = np.asarray(network.apply(parameters, x))
    theirs = module.double()(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-13, atol=1e-14)


def test_what_is_saved_is_loaded_bit_by_bit_and_torch_reads_it(tmp_path):
    network = MLP((3, 4, 2), "gelu")
    parameters = network.initial(0)
    parameters["0.weight"] = np.asfortranarray(parameters["0.weight"])  # safetensors would scramble this one
    save_weights(tmp_path / "n.safetensors", network, parameters)
    other, back = load_weights(tmp_path / "n.safetensors")
    assert other == network
    for name, value in parameters.items():
        np.testing.assert_array_equal(back[name], value)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.GELU(), torch.nn.Linear(4, 2))
    module.load_state_dict(load_file(tmp_path / "n.safetensors"))


def test_names_like_fc1_are_ordered_by_number(tmp_path):
    arrays = {f"fc{k}.weight": np.ones((2, 2)) * k for k in (10, 2, 1)}
    save_file(arrays, tmp_path / "n.safetensors")
    network, parameters = load_weights(tmp_path / "n.safetensors", activation="relu")
    assert network.widths == (2, 2, 2, 2)
    assert not network.bias
    assert [parameters[f"{2 * k}.weight"][0, 0] for k in range(3)] == [1, 2, 10]


@pytest.mark.parametrize(
    ("shapes", "many"),
    [
        ({"inp": (4, 3), "one": (4, 4), "two": (4, 4), "out": (2, 4)}, "more than one order"),
        ({"encode": (2, 3), "decode": (3, 2)}, "more than one order"),
        ({"inp": (4, 3), "out": (2, 5)}, "no order"),
        ({f"n{'x' * k}": (3, 3) for k in range(12)}, "more than one order"),
        ({**{f"n{'x' * k}": (3, 3) for k in range(12)}, "end": (2, 4)}, "more than one order"),
    ],
)
def test_names_whose_shapes_do_not_tell_one_order_are_refused(tmp_path, shapes, many):
    """The last has no order, and the search for one takes too long to say so."""
    save_file({f"{name}.weight": np.ones(shape) for name, shape in shapes.items()}, tmp_path / "n.safetensors")
    with pytest.raises(WeightsError, match=rf"shapes of {many}, .*Say the order: load_weights\(\.\.\., layers=\("):
        load_weights(tmp_path / "n.safetensors", activation="tanh")


@pytest.mark.parametrize("prefix", ["", "net.", "module.encoder.fc"])
def test_a_prefix_and_gaps_in_the_numbers_do_not_matter(tmp_path, prefix):
    arrays = {f"{prefix}{k}.{kind}": np.full(shape, k + 1.0) for k in (3, 0, 11) for kind, shape in KINDS}
    save_file(arrays, tmp_path / "n.safetensors")
    network, parameters = load_weights(tmp_path / "n.safetensors", activation="tanh")
    assert list(parameters) == list(network.layout.names)
    assert [parameters[f"{2 * k}.bias"][0] for k in range(3)] == [1, 4, 12]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened_exactly(tmp_path, dtype):
    weight = torch.linspace(-2, 2, 12).reshape(3, 4).to(dtype)
    torch_save({"0.weight": weight}, tmp_path / "n.safetensors")
    _, parameters = load_weights(tmp_path / "n.safetensors", activation="relu")
    assert parameters["0.weight"].dtype == np.float64
    np.testing.assert_array_equal(parameters["0.weight"], weight.double().numpy())


def test_widths_that_contradict_the_arrays_are_refused(tmp_path):
    save_file({"0.weight": np.ones((3, 2))}, tmp_path / "n.safetensors", {"activation": "relu", "widths": "2,4"})
    with pytest.raises(WeightsError, match=r"widths=\(2, 3\); expected 2,4"):
        load_weights(tmp_path / "n.safetensors")


@pytest.mark.parametrize("place", ["missing/n.safetensors", "file/n.safetensors", "x" * 300])
def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path, place):
    network = MLP((2, 2), "relu")
    (tmp_path / "file").write_text("here")
    with pytest.raises(StorageError, match="cannot be written"):
        save_weights(tmp_path / place, network, network.initial(0))


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    file = _good(tmp_path)
    before = file.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("saddlescope.data.weights.os.replace", full)
    network = MLP((3, 4, 2), "tanh")
    with pytest.raises(StorageError, match="No space left"):
        save_weights(file, network, network.initial(1), overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == [file.name]
    assert file.read_bytes() == before


def test_parameters_of_another_network_or_not_finite_are_not_saved(tmp_path):
    network = MLP((3, 4, 2), "tanh")
    with pytest.raises(ShapeError, match="do not fit the network"):
        save_weights(tmp_path / "n", network, MLP((3, 5, 2), "tanh").initial(0))
    parameters = network.initial(0)
    parameters["2.bias"][1] = np.nan
    with pytest.raises(NonFiniteError, match=r"2.bias\[1\]=nan"):
        save_weights(tmp_path / "n", network, parameters)
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_not_overwritten_unasked(tmp_path):
    network = MLP((2, 2), "relu")
    file = tmp_path / "n.safetensors"
    save_weights(file, network, network.initial(0))
    before = file.read_bytes()
    with pytest.raises(RecordExistsError, match="output exists"):
        save_weights(file, network, network.initial(1))
    assert file.read_bytes() == before
    save_weights(file, network, network.initial(1), overwrite=True)
    assert file.read_bytes() != before


def _good(tmp_path):
    network = MLP((3, 4, 2), "tanh")
    save_weights(tmp_path / "n.safetensors", network, network.initial(0))
    return tmp_path / "n.safetensors"


@pytest.mark.parametrize(
    "content",
    [b"", b"hello, this is a text", lambda raw: raw[:-5], lambda raw: raw[:20], lambda raw: b"\xff" * 8 + raw],
)
def test_damaged_and_foreign_files_are_refused(tmp_path, content):
    file = _good(tmp_path)
    file.write_bytes(content(file.read_bytes()) if callable(content) else content)
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        load_weights(file, activation="tanh")


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"0.weight": np.ones((3, 2)), "2.weight": np.ones((2, 4))}, "inputs=4; expected 3"),
        ({"0.weight": np.ones((3, 2, 1))}, "not a plain perceptron"),
        ({"weight": np.ones((3, 2))}, "not a plain perceptron"),
        ({"0.bias": np.ones(3)}, "no weights"),
        ({}, "no weights"),
        ({"0.weight": np.ones((3, 2)), "0.bias": np.ones(4)}, r"shape=\(4,\); expected \(3,\)"),
        ({"fc1.weight": np.ones((2, 2)), "fc01.weight": np.ones((2, 2))}, "two arrays for one place"),
        ({"a1.weight": np.ones((2, 2)), "b2.weight": np.ones((2, 2))}, "names of more than one kind"),
        ({"0.weight": np.ones((3, 2), int)}, "types"),
        ({"0.weight": np.ones((3, 2)), "0.bias": np.ones(3), "2.weight": np.ones((1, 3))}, "some layers have a bias"),
    ],
)
def test_arrays_that_are_no_perceptron_are_refused(tmp_path, arrays, text):
    save_file(arrays, tmp_path / "n.safetensors")
    with pytest.raises(WeightsError, match=text):
        load_weights(tmp_path / "n.safetensors", activation="relu")


HIDDEN = {"0.weight": np.ones((3, 2)), "2.weight": np.ones((1, 3))}


def test_the_activation_is_never_guessed(tmp_path):
    save_file(HIDDEN, tmp_path / "n.safetensors")
    with pytest.raises(WeightsError, match=r"does not say the activation.*--activation"):
        load_weights(tmp_path / "n.safetensors")
    with pytest.raises(SettingsError, match="Did you mean relu"):
        load_weights(tmp_path / "n.safetensors", activation="rellu")
    save_file(HIDDEN, tmp_path / "m.safetensors", {"activation": "tahn"})
    with pytest.raises(SettingsError, match=r"activation=tahn.*Did you mean tanh"):
        load_weights(tmp_path / "m.safetensors")
    (tmp_path / "n.safetensors").unlink()
    with pytest.raises(WeightsError, match="activation=relu; expected tanh"):
        load_weights(_good(tmp_path), activation="relu")
    with pytest.raises(WeightsError, match="no such file"):
        load_weights(tmp_path / "none.safetensors")


def test_without_a_hidden_layer_there_is_no_activation_to_say(tmp_path):
    save_file({"0.weight": np.ones((3, 2))}, tmp_path / "n.safetensors")
    network, parameters = load_weights(tmp_path / "n.safetensors")
    assert network.widths == (2, 3)
    with float64():
        np.testing.assert_array_equal(network.apply(parameters, np.ones((1, 2))), [[2.0, 2.0, 2.0]])


# The user's own names.


class _Named(torch.nn.Module):
    def __init__(self, hidden=4):
        super().__init__()
        self.inp, self.mid, self.out = (torch.nn.Linear(n, m) for n, m in ((3, hidden), (hidden, hidden), (hidden, 2)))

    def forward(self, x):
        return self.out(torch.tanh(self.mid(torch.tanh(self.inp(x)))))


def test_names_without_numbers_need_an_order_and_come_back(tmp_path):
    torch.manual_seed(0)
    module = _Named()
    torch_save(module.state_dict(), tmp_path / "n.safetensors")
    by_shape, read = load_weights(tmp_path / "n.safetensors", activation="tanh")  # the only order in which they fit
    order = ("inp", "mid", "out")
    network, parameters = load_weights(tmp_path / "n.safetensors", activation="tanh", layers=order)
    torch_save(module.state_dict(), tmp_path / "m.safetensors", {"layers": "inp,mid,out", "activation": "tanh"})
    same, others = load_weights(tmp_path / "m.safetensors")
    assert same == network == by_shape
    for name, value in parameters.items():
        np.testing.assert_array_equal(value, read[name])
        np.testing.assert_array_equal(value, others[name])
    save_weights(tmp_path / "b.safetensors", network, parameters, like=tmp_path / "m.safetensors")
    back = _Named()
    back.load_state_dict(load_file(tmp_path / "b.safetensors"), strict=True)
    x = torch.randn(5, 3)
    torch.testing.assert_close(back(x), module(x), rtol=0, atol=0)
    again, _ = load_weights(tmp_path / "b.safetensors")  # the order stands in its metadata
    assert again == network
    for wrong in (("inp", "out"), ("inp", "mid", "out", "out")):
        with pytest.raises(WeightsError, match="not the layers of the file"):
            load_weights(tmp_path / "n.safetensors", activation="tanh", layers=wrong)
    with pytest.raises(WeightsError, match="the file says another order"):
        load_weights(tmp_path / "m.safetensors", layers=("mid", "inp", "out"))


@pytest.mark.parametrize("prefix", ["", "net.", "module.", "_orig_mod.", "model.net."])
def test_prefixed_names_come_back_as_they_were(tmp_path, prefix):
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    state = {f"{prefix}{name}": value for name, value in module.state_dict().items()}
    torch_save(state, tmp_path / "n.safetensors")
    network, parameters = load_weights(tmp_path / "n.safetensors", activation="tanh")
    save_weights(tmp_path / "b.safetensors", network, parameters, like=tmp_path / "n.safetensors")
    back = load_file(tmp_path / "b.safetensors")
    assert set(back) == set(state)
    for name, value in state.items():
        np.testing.assert_array_equal(back[name].numpy(), value.double().numpy())


def test_tied_weights_are_named(tmp_path):
    save_file({"a.weight": np.ones((2, 2))}, tmp_path / "n.safetensors", {"b.weight": "a.weight"})
    with pytest.raises(WeightsError, match=r"weights are tied: array=b.weight is a.weight"):
        load_weights(tmp_path / "n.safetensors", activation="tanh")


def test_weights_stored_the_other_way_round_are_named(tmp_path):
    save_file({"0.weight": np.ones((2, 3)), "1.weight": np.ones((3, 5))}, tmp_path / "n.safetensors")
    with pytest.raises(WeightsError, match=r"look like \(in, out\): transpose"):
        load_weights(tmp_path / "n.safetensors", activation="tanh")


# Files of other programs.


def _foreign(folder, kind):
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    state = module.state_dict()
    arrays = {name: value.numpy() for name, value in state.items()}
    write = {
        "net.pt": lambda file: torch.save(state, file),
        "net.pth": lambda file: torch.save(module, file),
        "net.bin": lambda file: torch.save(state, file, _use_new_zipfile_serialization=False),
        "net.ckpt": lambda file: torch.save({"state_dict": state, "epoch": 3}, file),
        "net": lambda file: torch.save(state, file),
        "net.pkl": lambda file: file.write_bytes(pickle.dumps(arrays)),
        "net.npz": lambda file: np.savez(file, **arrays),
    }
    write[kind](folder / kind)
    return arrays


@pytest.mark.parametrize("name", ["net.pt", "net.pth", "net.bin", "net.ckpt", "net", "net.pkl", "net.npz"])
def test_the_line_that_is_given_converts_a_file_of_another_program(tmp_path, monkeypatch, name):
    arrays = _foreign(tmp_path, name)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=r"this is .*Convert it: python -c '") as refused:
        load_weights(name, activation="tanh")
    text = str(refused.value)
    assert len(text) < 400
    exec(text.split("python -c '")[1].removesuffix("'."), {})
    network, parameters = load_weights("net.safetensors", activation="tanh")
    assert network.widths == (3, 4, 2)
    for key, value in arrays.items():
        np.testing.assert_array_equal(parameters[key], value.astype(float))


@pytest.mark.parametrize(
    ("name", "head", "text"),
    [
        ("a.h5", b"\x89HDF\r\n\x1a\n", "an HDF5 file.*import keras"),
        ("weights", b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        ("a.onnx", b"\x08\x0a", "an ONNX file.*import onnx"),
        ("a.msgpack", b"\x81", "a msgpack file.*import serialization"),
        ("a.safetensors", b"\x80\x04}.", "this is a pickle"),
        ("it's.pt", b"\x80\x02}.", r'torch.load\("FILE"'),
    ],
)
def test_files_of_other_programs_are_told_by_content_or_name(tmp_path, name, head, text):
    (tmp_path / name).write_bytes(head)
    with pytest.raises(WeightsError, match=text):
        load_weights(tmp_path / name, activation="tanh")


# Is this my network?


@pytest.fixture
def taught(tmp_path):
    """A file of a trained-like network with two square layers, and what torch computes with it in float32."""
    torch.manual_seed(1)
    layers = [torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)]
    module = torch.nn.Sequential(*layers)
    x = torch.randn(50, 4)
    torch_save(module.state_dict(), tmp_path / "n.safetensors")
    return tmp_path / "n.safetensors", module, x


def test_outputs_that_agree_are_accepted_whatever_their_precision(taught):
    file, module, x = taught
    for kind in (torch.float64, torch.float32, torch.bfloat16):
        outputs = copy.deepcopy(module).to(kind)(x.to(kind))
        network, parameters = load_weights(file, activation="tanh", data=Data(x, x[:, :2], outputs=outputs))
        gap = require_agreement(network, parameters, Data(x, x[:, :2], outputs=outputs))
        assert gap is not None
        assert gap < (1e-6 if kind != torch.bfloat16 else 0.05)


@pytest.mark.parametrize("name", ["relu", "sigmoid", "gelu", "sine", "erf"])
def test_another_activation_is_refused_and_the_right_one_named(taught, name):
    file, module, x = taught
    data = Data(x, x[:, :2], outputs=module(x))
    with pytest.raises(WeightsError, match=r"differ by up to .*With activation tanh it does") as refused:
        load_weights(file, activation=name, data=data)
    network, parameters = load_weights(file, activation=name)
    with float64():
        gap = np.abs(np.asarray(network.apply(parameters, data.inputs)) - data.outputs).max()
    assert f"differ by up to {gap:.3g}," in str(refused.value)


def test_transposed_and_reordered_layers_are_named(taught):
    file, module, x = taught
    state, data = load_file(file), Data(x, x[:, :2], outputs=module(x))
    turned = {n: v.T.contiguous() if v.shape == (4, 4) else v for n, v in state.items()}
    torch_save(turned, file)
    with pytest.raises(WeightsError, match="weights transposed"):
        load_weights(file, activation="tanh", data=data)
    other = {"0": "2", "2": "0", "4": "4"}
    torch_save({f"{other[n[0]]}{n[1:]}": v for n, v in state.items()}, file)
    with pytest.raises(WeightsError, match="layers in the order 2, 1, 3"):
        load_weights(file, activation="tanh", data=data)


def test_outputs_after_a_softmax_or_of_another_function_are_named(taught):
    file, module, x = taught
    with pytest.raises(WeightsError, match="outputs after softmax"):
        load_weights(file, activation="tanh", data=Data(x, x[:, :2], outputs=torch.softmax(module(x), 1)))
    with pytest.raises(WeightsError, match="No known activation"):
        load_weights(file, activation="tanh", data=Data(x, x[:, :2], outputs=module(x) + 1e-3))
    with pytest.raises(ShapeError, match="outputs per sample=\\(4,\\); expected \\(2,\\)"):
        load_weights(file, activation="tanh", data=Data(x, x[:, :2], outputs=x))


def test_a_network_worse_than_constants_is_doubted():
    generator = np.random.default_rng(0)
    network = MLP((2, 3, 3), "tanh")
    parameters, x = network.initial(0), generator.normal(size=(60, 2))
    outputs = Problem(network, Data(x, np.zeros((60, 3)))).outputs_of(parameters)
    right = Data(x, outputs, outputs.argmax(axis=1))
    assert doubt(network, parameters, right) is None
    assert "squared error" in str(doubt(network, parameters, Data(x, -outputs - 1.0)))
    wrong = (right.labels + 1) % 3
    assert "below that of naming always the commonest label" in str(doubt(network, parameters, Data(x, labels=wrong)))
    half = np.where(np.arange(60) % 4 == 0, wrong, right.labels)
    said = doubt(network, parameters, Data(x, labels=half), accuracy=0.95)
    assert said is not None
    assert said.startswith("accuracy 0.7500 on these data, 0.9500 in training")
    assert doubt(network, parameters, Data(x, labels=half), accuracy=0.8) is None


def test_weights_that_are_not_finite_are_refused(tmp_path):
    save_file({"0.weight": np.array([[np.inf, 1.0]])}, tmp_path / "n.safetensors")
    with pytest.raises(NonFiniteError, match=r"0.weight\[0, 0\]=inf"):
        load_weights(tmp_path / "n.safetensors", activation="relu")


def test_the_same_weights_are_the_same_bytes(tmp_path):
    network = MLP((3, 4, 2), "tanh")
    contents = set()
    for k in range(8):
        save_weights(tmp_path / f"{k}.safetensors", network, network.initial(0))
        contents.add((tmp_path / f"{k}.safetensors").read_bytes())
    assert len(contents) == 1


def test_notes_may_hold_a_name_that_is_no_utf_8(tmp_path):
    network = MLP((3, 4, 2), "tanh")
    notes = {"command": "train --data b\udcff.npz ü"}
    save_weights(tmp_path / "b\udcff.safetensors", network, network.initial(0), notes=notes)
    assert weights_notes(tmp_path / "b\udcff.safetensors")["command"] == "train --data b\\udcff.npz ü"
