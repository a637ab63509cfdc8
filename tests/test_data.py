"""Data sources: what is read is what was written, and what is not data is refused in one line."""

import gzip
import http.server
import struct
import threading

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from saddlescope.data import download
from saddlescope.data.data import Data, teacher_data
from saddlescope.data.idx import read_idx
from saddlescope.data.sources import digits, grid_inputs, load_data, mnist, toy, toy_teacher
from saddlescope.errors import DataError, NonFiniteError, ShapeError
from saddlescope.models.mlp import MLP


def test_the_embedded_digits_are_scikit_learn_s():
    ours, theirs = digits(), load_digits()
    np.testing.assert_array_equal(ours.inputs, theirs.data / 16)
    np.testing.assert_array_equal(ours.labels, theirs.target)


def test_mnist_is_read_from_the_original_files(mnist_folder):
    train, test = mnist("train", mnist_folder), mnist("test", mnist_folder)
    assert train.inputs.shape == (60000, 784)
    assert test.inputs.shape == (10000, 784)
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert train.inputs.max() == 1.0
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_the_toy_s_targets_are_its_teacher_s_outputs():
    _, teacher = toy_teacher("tanh", 3)
    data = toy("tanh", 3)
    hidden = np.tanh(data.inputs @ teacher["0.weight"].T + teacher["0.bias"])
    np.testing.assert_allclose(data.targets, hidden @ teacher["2.weight"].T, atol=1e-13)
    assert grid_inputs().shape == (1681, 2)


def test_files_of_every_kind_return_what_was_written(tmp_path, generator):
    x, y = generator.normal(size=(5, 2)), generator.normal(size=(5, 1))
    labels = np.array([0, 1, 2, 1, 0])
    np.savez(tmp_path / "a.npz", inputs=x, targets=y, labels=labels)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    np.save(tmp_path / "l.npy", labels)
    rows = "\n".join(f"{a!r},{b!r},{c!r},{k}" for (a, b), (c,), k in zip(x.tolist(), y.tolist(), labels, strict=True))
    (tmp_path / "a.csv").write_text(f"x0,x1,y,label\n{rows}\n")
    for spec in ("a.npz", "a.csv"):
        data = load_data(str(tmp_path / spec))
        np.testing.assert_array_equal(data.inputs, x)
        np.testing.assert_array_equal(data.targets, y)
        np.testing.assert_array_equal(data.labels, labels)
    assert load_data(f"{tmp_path}/x.npy,{tmp_path}/y.npy").targets.shape == (5, 1)
    assert load_data(f"{tmp_path}/x.npy,{tmp_path}/l.npy").labels.tolist() == labels.tolist()


def _idx(array, code):
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize(("kind", "code"), [("u1", 8), ("i1", 9), (">i2", 11), (">i4", 12), (">f4", 13), (">f8", 14)])
@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files_of_every_type_are_read(tmp_path, kind, code, zipped):
    array = np.arange(12, dtype=kind).reshape(3, 2, 2)
    raw = _idx(array, code)
    (tmp_path / "f").write_bytes(gzip.compress(raw, mtime=0) if zipped else raw)
    np.testing.assert_array_equal(read_idx(tmp_path / "f"), array)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", "not an IDX file"),
        (b"hello world", "not an IDX file"),
        (_idx(np.zeros((3, 2), "u1"), 8)[:-1], "truncated"),
        (_idx(np.zeros((3, 2), "u1"), 8) + b"x", "longer than its head says"),
        (bytes([0, 0, 8, 2, 0, 0]), "truncated in its head"),
        (gzip.compress(_idx(np.zeros((3, 2), "u1"), 8), mtime=0)[:-9], "corrupt or truncated"),
    ],
)
def test_damaged_idx_files_are_refused(tmp_path, raw, text):
    (tmp_path / "f").write_bytes(raw)
    with pytest.raises(DataError, match=text):
        read_idx(tmp_path / "f")


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.npz", b"\x89PNG\r\n", "not what its name says"),
        ("a.npz", b"", "not what its name says"),
        ("a.csv", b"", "the file is empty"),
        ("a.csv", b"x0,y0\n1,2\n1,b\n", "line 3, column 2.*cell='b'"),
        ("a.csv", b"x0,y0\n1\n", "line 2.*cells=1; expected 2"),
        ("a.csv", b"x0,price\n1,2\n", "columns=.'price'."),
        ("a.csv", b"x0,x1\n1,2\n", "neither targets nor labels"),
        ("a.csv", b"x0,y0\n", "data set is empty"),
        ("a.csv", b"\xff\xfe\x00", "cannot be read as CSV"),
        ("a.txt", b"1", "this data is not known"),
    ],
)
def test_files_that_are_not_data_are_refused(tmp_path, name, content, text):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=text):
        load_data(str(tmp_path / name))


def test_pickles_are_never_loaded(tmp_path):
    np.savez(tmp_path / "a.npz", inputs=np.array([[object()]]), targets=np.ones((1, 1)))
    with pytest.raises(DataError, match="cannot be read"):
        load_data(str(tmp_path / "a.npz"))


@pytest.mark.parametrize(
    ("build", "error", "text"),
    [
        (lambda: Data(np.ones((0, 2)), np.ones((0, 1))), DataError, "empty"),
        (lambda: Data(np.ones(3)), ShapeError, "shape of inputs"),
        (lambda: Data(np.ones((3, 2)), np.ones((2, 1))), ShapeError, "targets=2; expected 3"),
        (lambda: Data(np.array([[1.0, np.nan]])), NonFiniteError, r"inputs\[0, 1\]=nan"),
        (lambda: Data(np.ones((2, 1)), labels=np.array([0.5, 1])), DataError, "whole numbers"),
        (lambda: Data(np.array([["a"]])), DataError, "not numbers"),
    ],
)
def test_arrays_that_are_no_data_set_are_refused(build, error, text):
    with pytest.raises(error, match=text):
        build()


def test_a_teacher_s_data_make_it_a_zero_loss_minimum(generator):
    network = MLP((3, 4, 2), "gelu")
    teacher = network.initial(0)
    data = teacher_data(network, teacher, generator.normal(size=(10, 3)))
    with pytest.raises(ShapeError, match="inputs per sample=4; expected 3"):
        teacher_data(network, teacher, np.ones((2, 4)))
    assert data.targets.shape == (10, 2)


# Arrays as people bring them.

ROWS = np.random.default_rng(5).normal(size=(6, 3))


def _strided(array):
    return np.repeat(array, 2, axis=0)[::2]


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "negative strides": lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    "every second row": _strided,
    "big-endian": lambda a: a.astype(">f8"),
    "a list": lambda a: a.tolist(),
    "read-only": lambda a: np.frombuffer(a.tobytes()).reshape(a.shape),
    "no mask": lambda a: np.ma.masked_array(a, mask=np.zeros(a.shape, bool)),
    "torch": lambda a: torch.from_numpy(a.copy()),
    "torch that requires grad": lambda a: torch.from_numpy(a.copy()).requires_grad_(),
    "torch transposed": lambda a: torch.from_numpy(a.T.copy()).T,
    "torch sparse": lambda a: torch.from_numpy(a.copy()).to_sparse(),
    "torch negated": lambda a: torch.from_numpy(-1j * a).conj().imag,
}


@pytest.mark.parametrize("bring", LAYOUTS.values(), ids=LAYOUTS)
def test_the_layout_and_library_of_an_array_do_not_matter(bring):
    data = Data(bring(ROWS), bring(ROWS[:, :1]), outputs=bring(ROWS[:, 1:]))
    for array, expected in ((data.inputs, ROWS), (data.targets, ROWS[:, :1]), (data.outputs, ROWS[:, 1:])):
        np.testing.assert_array_equal(array, expected)
        assert array.dtype == np.float64
        assert array.flags.c_contiguous
        assert not array.flags.writeable
    assert data.fingerprint == Data(ROWS, ROWS[:, :1], outputs=ROWS[:, 1:]).fingerprint


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float32, torch.float8_e4m3fn])
def test_narrow_types_are_widened_exactly(kind):
    narrow = torch.from_numpy(ROWS).to(kind)
    np.testing.assert_array_equal(Data(narrow).inputs, narrow.to(torch.float64).numpy())
    if kind in (torch.bfloat16, torch.float8_e4m3fn):
        other = jnp.asarray(narrow.float().numpy(), jnp.bfloat16 if kind == torch.bfloat16 else jnp.float8_e4m3fn)
        np.testing.assert_array_equal(Data(other).inputs, narrow.to(torch.float64).numpy())


@given(st.permutations(range(6)), st.sampled_from(["f4", "f8", "i4", "u1", "?"]))
def test_rows_stay_with_their_labels_in_any_order_and_type(order, kind):
    inputs, labels = (4 * ROWS).astype(kind), np.arange(6)
    data = Data(inputs[order], labels=labels[order].astype("f8"))
    np.testing.assert_array_equal(data.inputs[np.argsort(order)], inputs.astype(float))
    assert data.labels.tolist() == list(order)


def test_a_data_set_shares_no_memory_with_the_caller():
    x, labels = np.ones((4, 2)), np.arange(4)
    data = Data(x, x.copy(), labels)
    before = data.fingerprint
    x += 1
    labels += 1
    assert data.fingerprint == before
    with pytest.raises(ValueError, match="read-only"):
        data.inputs[0, 0] = 5.0
    assert Data(data.inputs).inputs is data.inputs  # what nobody can write to is not copied again


def test_a_tensor_without_values_is_refused():
    with pytest.raises(DataError, match=r"type of inputs=torch"):
        Data(torch.empty((3, 2), device="meta"))


def test_a_masked_entry_is_refused_where_it_stands():
    masked = np.ma.masked_values([[1.0, 2.0], [-9999.0, 0.5]], -9999.0)
    with pytest.raises(DataError, match=r"inputs\[1, 0\]=masked, one of 1.*Drop these rows"):
        Data(masked)
    with pytest.raises(DataError, match=r"labels\[1\]=masked"):
        Data(np.ones((2, 1)), labels=np.ma.masked_array([0, 1], [False, True]))


@pytest.mark.parametrize("value", [np.inf, np.nan, 2.0**63, -(2.0**63) * 2, 0.5])
def test_labels_that_int64_does_not_hold_are_refused(value):
    with pytest.raises(DataError, match=r"labels\[2\]="):
        Data(np.ones((3, 1)), labels=np.array([0, 1, value]))


def test_the_largest_integers_are_labels():
    top = np.iinfo(np.int64).max
    assert Data(np.ones((2, 1)), labels=np.array([top, -top - 1])).labels.tolist() == [top, -top - 1]
    assert Data(np.ones((1, 1)), labels=np.array([top], np.uint64)).labels.tolist() == [top]
    with pytest.raises(DataError, match=str(top + 1)):
        Data(np.ones((1, 1)), labels=np.array([top + 1], np.uint64))


@given(st.permutations(["x0", "x2", "x10", "y1", "y3", "label"]), st.sampled_from([",", ";"]), st.booleans())
def test_columns_are_taken_by_their_numbers_wherever_they_stand(tmp_path_factory, header, mark, marked):
    values = {"x0": 0.5, "x2": 2.5, "x10": 10.5, "y1": 1.25, "y3": 3.25, "label": 4}
    file = tmp_path_factory.mktemp("csv") / "a.csv"
    text = mark.join(header) + "\n" + mark.join(str(values[name]) for name in header) + "\n"
    file.write_text(text, encoding="utf-8-sig" if marked else "utf-8")
    data = load_data(str(file))
    assert data.inputs.tolist() == [[0.5, 2.5, 10.5]]
    assert data.targets.tolist() == [[1.25, 3.25]]
    assert data.labels.tolist() == [4]


class _Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(404 if "labels" in self.path else 200)
        self.end_headers()
        self.wfile.write(b"good" if "train" in self.path else b"bad")

    def log_message(self, *args):
        pass


@pytest.fixture
def mirror():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_a_download_is_kept_only_with_the_right_checksum(tmp_path, mirror, monkeypatch):
    good = "770e607624d689265ca6c44884d0807d9b054d23c473c106c72be9de08b7376c"  # SHA-256 of b"good"
    monkeypatch.setattr(download, "CHECKSUMS", {name: good for name in download.CHECKSUMS})
    path = download.fetch("train-images-idx3-ubyte.gz", tmp_path, (mirror,))
    assert path.read_bytes() == b"good"
    with pytest.raises(DataError, match=r"wrong checksum.*SADDLESCOPE_DATA"):
        download.fetch("t10k-images-idx3-ubyte.gz", tmp_path, (mirror,))
    with pytest.raises(DataError, match=r"404|Not Found"):
        download.fetch("train-labels-idx1-ubyte.gz", tmp_path, (mirror,))
    with pytest.raises(DataError, match="refused"):
        download.fetch("train-images-idx3-ubyte.gz", tmp_path, ("http://127.0.0.1:9/",))
    assert [file.name for file in tmp_path.iterdir()] == ["train-images-idx3-ubyte.gz"]
