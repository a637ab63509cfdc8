"""Weights files: what torch writes is read and computes the same; what is not a network is refused."""

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as torch_save

from saddlescope.errors import NonFiniteError, RecordExistsError, SettingsError, ShapeError, StorageError, WeightsError
from saddlescope.precision import float64
from saddlescope.problem.networks import Perceptron
from saddlescope.problem.weights import load_weights, save_weights

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
    network = Perceptron((3, 4, 2), "gelu")
    parameters = network.initial(0)
    parameters["0.weight"] = np.asfortranarray(parameters["0.weight"])  # safetensors would scramble this one
    save_weights(tmp_path / "n.safetensors", network, parameters)
    other, back = load_weights(tmp_path / "n.safetensors")
    assert other == network
    for name, value in parameters.items():
        np.testing.assert_array_equal(back[name], value)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.GELU(), torch.nn.Linear(4, 2))
    from safetensors.torch import load_file

    module.load_state_dict(load_file(tmp_path / "n.safetensors"))


def test_names_like_fc1_are_ordered_by_number(tmp_path):
    arrays = {f"fc{k}.weight": np.ones((2, 2)) * k for k in (10, 2, 1)}
    save_file(arrays, tmp_path / "n.safetensors")
    network, parameters = load_weights(tmp_path / "n.safetensors", activation="relu")
    assert network.widths == (2, 2, 2, 2)
    assert not network.bias
    assert [parameters[f"{2 * k}.weight"][0, 0] for k in range(3)] == [1, 2, 10]


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
    network = Perceptron((2, 2), "relu")
    (tmp_path / "file").write_text("here")
    with pytest.raises(StorageError, match="cannot be written"):
        save_weights(tmp_path / place, network, network.initial(0))


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    file = _good(tmp_path)
    before = file.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("saddlescope.problem.weights.os.replace", full)
    network = Perceptron((3, 4, 2), "tanh")
    with pytest.raises(StorageError, match="No space left"):
        save_weights(file, network, network.initial(1), overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == [file.name]
    assert file.read_bytes() == before


def test_parameters_of_another_network_or_not_finite_are_not_saved(tmp_path):
    network = Perceptron((3, 4, 2), "tanh")
    with pytest.raises(ShapeError, match="do not fit the network"):
        save_weights(tmp_path / "n", network, Perceptron((3, 5, 2), "tanh").initial(0))
    parameters = network.initial(0)
    parameters["2.bias"][1] = np.nan
    with pytest.raises(NonFiniteError, match=r"2.bias\[1\]=nan"):
        save_weights(tmp_path / "n", network, parameters)
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_not_overwritten_unasked(tmp_path):
    network = Perceptron((2, 2), "relu")
    file = tmp_path / "n.safetensors"
    save_weights(file, network, network.initial(0))
    before = file.read_bytes()
    with pytest.raises(RecordExistsError, match="output exists"):
        save_weights(file, network, network.initial(1))
    assert file.read_bytes() == before
    save_weights(file, network, network.initial(1), overwrite=True)
    assert file.read_bytes() != before


def _good(tmp_path):
    network = Perceptron((3, 4, 2), "tanh")
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


def test_the_activation_is_never_guessed(tmp_path):
    save_file({"0.weight": np.ones((3, 2))}, tmp_path / "n.safetensors")
    with pytest.raises(WeightsError, match=r"does not say the activation.*--activation"):
        load_weights(tmp_path / "n.safetensors")
    with pytest.raises(SettingsError, match="Did you mean relu"):
        load_weights(tmp_path / "n.safetensors", activation="rellu")
    save_file({"0.weight": np.ones((3, 2))}, tmp_path / "m.safetensors", {"activation": "tahn"})
    with pytest.raises(SettingsError, match=r"activation=tahn.*Did you mean tanh"):
        load_weights(tmp_path / "m.safetensors")
    (tmp_path / "n.safetensors").unlink()
    with pytest.raises(WeightsError, match="activation=relu; expected tanh"):
        load_weights(_good(tmp_path), activation="relu")
    with pytest.raises(WeightsError, match="no such file"):
        load_weights(tmp_path / "none.safetensors")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    save_file({"0.weight": np.array([[np.inf, 1.0]])}, tmp_path / "n.safetensors")
    with pytest.raises(NonFiniteError, match=r"0.weight\[0, 0\]=inf"):
        load_weights(tmp_path / "n.safetensors", activation="relu")


def test_the_same_weights_are_the_same_bytes(tmp_path):
    network = Perceptron((3, 4, 2), "tanh")
    contents = set()
    for k in range(8):
        save_weights(tmp_path / f"{k}.safetensors", network, network.initial(0))
        contents.add((tmp_path / f"{k}.safetensors").read_bytes())
    assert len(contents) == 1
