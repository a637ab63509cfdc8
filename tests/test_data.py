"""Data sources: what is read is what was written, and what is not data is refused in one line."""

import gzip
import http.server
import struct
import threading

import numpy as np
import pytest
from sklearn.datasets import load_digits

from saddlescope.errors import DataError, NonFiniteError, ShapeError
from saddlescope.problem import download
from saddlescope.problem.data import Data, teacher_data
from saddlescope.problem.idx import read_idx
from saddlescope.problem.networks import Perceptron
from saddlescope.problem.sources import digits, grid_inputs, load_data, mnist, toy, toy_teacher


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
    network = Perceptron((3, 4, 2), "gelu")
    teacher = network.initial(0)
    data = teacher_data(network, teacher, generator.normal(size=(10, 3)))
    with pytest.raises(ShapeError, match="inputs per sample=4; expected 3"):
        teacher_data(network, teacher, np.ones((2, 4)))
    assert data.targets.shape == (10, 2)


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
