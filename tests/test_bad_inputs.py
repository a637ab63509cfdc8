"""Bad inputs at every door: exit code 2, one line of at most 400 characters that no terminal obeys, nothing written.

Whatever computes a path fails here, so that what is refused late shows as a fault of our own.
"""

import gzip
import io
import json
import os
import pickle
import shutil
import struct
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import saddlescope.paths.find
from references.synthetic_paths import WIDTHS, synthetic_data, synthetic_path
from saddlescope.cli.main import run
from saddlescope.data.weights import save_weights
from saddlescope.models.mlp import MLP
from saddlescope.printable import clipped, one_line, printable
from saddlescope.records.store import save_path
from saddlescope.report.page import render

PATH = ("path", "net.safetensors", "--layer", "1", "--out", "o.saddle", "--data")
X = np.random.default_rng(0).normal(size=(24, WIDTHS[0]))
Y = np.ones((24, WIDTHS[-1]))
HEAD = {"dtype": "F64", "shape": [3, 2], "data_offsets": [0, 48]}
MARKS = "\x1b[31m\x07\u202eevil\u202c\u2028\x9b"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network, data and a stored run, where nothing can be computed."""
    data = synthetic_data()
    network = MLP(WIDTHS, "tanh")
    monkeypatch.chdir(tmp_path)
    save_weights("net.safetensors", network, network.initial(0))
    np.savez("data.npz", inputs=data.inputs, targets=np.asarray(data.targets))
    save_path(synthetic_path(), "run.saddle")

    def compute(*_: Any, **__: Any) -> None:
        raise AssertionError("computed")

    monkeypatch.setattr(saddlescope.paths.find, "find_path", compute)
    return tmp_path


def _refused(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    before = sorted(str(path) for path in Path().rglob("*"))
    assert run(list(words)) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.endswith("\n")
    assert "fault of saddlescope" not in err
    assert len(err) <= 401
    assert not [c for c in err[:-1] if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")], ascii(err)
    assert sorted(str(path) for path in Path().rglob("*")) == before
    return err


def _safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    words = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(words) if length is None else length) + words + data


def _one(name: str, **changes: Any) -> bytes:
    return _safetensors({name: {**HEAD, **changes}}, bytes(48))


WEIGHTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not a whole safetensors file"),
    "header of 2^60 bytes": (_safetensors({}, length=1 << 60), "not a whole safetensors file"),
    "header no JSON": (_safetensors(b"{nonsense"), "not a whole safetensors file"),
    "header a list": (_safetensors([1, 2]), "not a whole safetensors file"),
    "nothing in it": (_safetensors({}), "no weights"),
    "negative shape": (_one("0.weight", shape=[-3, 2]), "not a whole safetensors file"),
    "huge shape": (_one("0.weight", shape=[1 << 62, 8]), "not a whole safetensors file"),
    "beyond the end": (_one("0.weight", data_offsets=[48, 96]), "not a whole safetensors file"),
    "integers": (_one("0.weight", dtype="I64"), "not used for weights"),
    "a counter of batches": (_one("1.running_mean", dtype="I64"), "it has a batch normalisation"),
    "a convolution": (_one("0.weight", shape=[1, 1, 3, 2]), "it has a convolution"),
    "an adapter": (_one("0.lora_A"), "a LoRA adapter"),
    "name of 5000 digits": (_one("9" * 5000 + ".weight"), "do not fit"),
    "superscript digit": (_one("\u00b2.weight"), "names of more than one kind"),
    "name that steers": (_one(MARKS + ".weight"), "names of more than one kind"),
    "long name": (_one("a" * 100_000 + ".b"), "not a plain perceptron"),
    "activation that steers": (
        _safetensors({"__metadata__": {"activation": MARKS}, "0.weight": HEAD}, bytes(48)),
        "ac",
    ),
    "zip": (b"PK\x03\x04 damaged", "this is a damaged zip file"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(20), "this is an HDF5 file"),
    "pickle": (pickle.dumps({"w": 1}), "this is a pickle"),
}


@pytest.mark.parametrize(("content", "text"), WEIGHTS.values(), ids=WEIGHTS)
def test_weights_that_cannot_be_used(here: Path, capfd: pytest.CaptureFixture[str], content: bytes, text: str) -> None:
    Path("bad.safetensors").write_bytes(content)
    words = [*PATH, "data.npz", "--activation", "tanh"] if "steers" not in text else [*PATH, "data.npz"]
    assert text in _refused(capfd, *["bad.safetensors" if word == "net.safetensors" else word for word in words])


@pytest.mark.parametrize(
    "name", [".", "none.safetensors", "/dev/null", "a\nb", "a" * 5000, "fifo", "a\udcff\u202e.safetensors"]
)
def test_places_that_hold_no_weights(here: Path, capfd: pytest.CaptureFixture[str], name: str) -> None:
    os.mkfifo("fifo")
    _refused(capfd, "path", name, *PATH[2:], "data.npz")


def _npy(header: bytes, version: bytes = b"\x02\x00") -> bytes:
    size = struct.pack("<I" if version == b"\x02\x00" else "<H", len(header))
    return b"\x93NUMPY" + version + size + header


def _claim(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return stream.getvalue() + bytes(64)


def _zipped(*members: tuple[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


def _saved(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _twice() -> bytes:
    with pytest.warns(UserWarning, match="Duplicate name"):
        return _zipped(("inputs.npy", _saved(X)), ("inputs.npy", _saved(2 * X)), ("targets.npy", _saved(Y)))


FILES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "npz is a text": ("a.npz", lambda: b"text", "not what its name says"),
    "npz is a pickle": ("a.npz", lambda: pickle.dumps([1]), "it looks like a pickle"),
    "npz cut": ("a.npz", lambda: _zipped(("inputs.npy", _saved(X)))[:300], "not what its name says"),
    "npz of raw bytes": ("a.npz", lambda: _zipped(("inputs", b"x"), ("targets", b"y")), "cannot be read as arrays"),
    "npz of texts": ("a.npz", lambda: _zipped(("inputs.npy", b"x"), ("targets.npy", b"y")), "cannot be read"),
    "npz with one name twice": ("a.npz", _twice, "two arrays of one name, inputs"),
    "npz claims 16 TB": (
        "a.npz",
        lambda: _zipped(("inputs.npy", _claim((1 << 40, 2))), ("targets.npy", _saved(Y))),
        "cannot be read",
    ),
    "npy nested": ("a.npy", lambda: _npy(b"(" * 9000, b"\x01\x00"), "not what its name says"),
    "npy deeper nested": ("a.npy", lambda: _npy(b"(" * 200_000), "not what its name says"),
    "npy claims 16 TB": ("a.npy", lambda: _claim((1 << 40, 2)), "not what its name says"),
    "npy of negative length": ("a.npy", lambda: _claim((-4, 2)), "not what its name says"),
    "npy is an npz": ("a.npy", lambda: _zipped(("inputs.npy", _saved(X))), "archive of several arrays"),
    "csv text": ("a.csv", lambda: b"x0,x1,y\n1,abc,3\n", "cell='abc'"),
    "csv underscore": ("a.csv", lambda: b"x0,x1,y\n1_000,2,3\n", "cell='1_000'"),
    "csv twice": ("a.csv", lambda: b"x0,x00,y\n1,2,3\n", "stand for the same: columns=['x0', 'x00']"),
    "csv number and none": ("a.csv", lambda: b"x,x1,y\n1,2,3\n", "not understood: columns=['x', 'x1']"),
    "csv quote left open": ("a.csv", lambda: b'x0,x1,y\n"1,2,3\n', "cannot be read as CSV"),
    "csv decimal commas": ("a.csv", lambda: b"x0;x1;y\n1,5;2;3\n", "cell='1,5'"),
    "csv in UTF-16": ("a.csv", lambda: "x0,y\n1,2\n".encode("utf-16"), "cannot be read as CSV"),
    "csv of 5000 columns": ("a.csv", lambda: ",".join(f"q{k}" for k in range(5000)).encode(), "not understood"),
    "csv number of a column": ("a.csv", lambda: b"x" + b"9" * 5000 + b",y\n1,2\n", "not understood"),
    "csv that steers": ("a.csv", lambda: f"{MARKS},y\n1,2\n".encode(), "not understood"),
    "csv label too large": ("a.csv", lambda: b"x0,x1,label\n1,2,1e300\n", "labels must be whole numbers"),
    "csv label without an output": ("a.csv", lambda: b"x0,x1,y,label\n1,2,3,7\n", "a label has no output: label=7"),
    "csv negative label": ("a.csv", lambda: b"x0,x1,y,label\n1,2,3,-1\n", "a label has no output: label=-1"),
    "other program's": ("a.parquet", lambda: b"PAR1", "this data is not known"),
    "HDF5": ("a.h5", lambda: b"\x89HDF\r\n\x1a\n", "this data is not known: it is an HDF5 file"),
}


@pytest.mark.parametrize(("name", "content", "text"), FILES.values(), ids=FILES)
def test_data_that_cannot_be_used(
    here: Path, capfd: pytest.CaptureFixture[str], name: str, content: Callable[[], bytes], text: str
) -> None:
    Path(name).write_bytes(content())
    np.save("y.npy", Y)
    assert text in _refused(capfd, *PATH, f"{name},y.npy" if name == "a.npy" else name)


ARRAYS: dict[str, dict[str, Any]] = {
    "strings": {"inputs": np.array([["a", "b"]] * 24), "targets": Y},
    "complex": {"inputs": X + 1j, "targets": Y},
    "dates": {"inputs": X.astype("M8[s]"), "targets": Y},
    "records": {"inputs": np.zeros(24, [("a", "f8"), ("b", "f8")]), "targets": Y},
    "three dimensions": {"inputs": X[:, :, None], "targets": Y},
    "no dimension": {"inputs": np.float64(3), "targets": Y},
    "labels beyond int64": {"inputs": X, "targets": Y, "labels": np.full(24, 2**63, np.uint64)},
    "labels infinite": {"inputs": X, "targets": Y, "labels": np.full(24, np.inf)},
    "labels 2^63": {"inputs": X, "targets": Y, "labels": np.full(24, 2.0**63)},
    "labels complex": {"inputs": X, "targets": Y, "labels": np.zeros(24, complex)},
    "outputs of another length": {"inputs": X, "targets": Y, "outputs": Y[:5]},
    "outputs of another width": {"inputs": X, "targets": Y, "outputs": np.hstack([Y, Y])},
    "outputs not finite": {"inputs": X, "targets": Y, "outputs": Y * np.nan},
    "targets whose squares overflow": {"inputs": X, "targets": Y * 1e300},
    "targets whose squares vanish": {"inputs": X, "targets": Y * 1e-200},
    "inputs whose squares overflow": {"inputs": X * 1e300, "targets": Y},
    "longer than float64 holds": {"inputs": X.astype(np.longdouble) * np.longdouble("1e400"), "targets": Y},
}


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("arrays", ARRAYS.values(), ids=ARRAYS)
def test_arrays_that_cannot_be_used(here: Path, capfd: pytest.CaptureFixture[str], arrays: dict[str, Any]) -> None:
    np.savez("a.npz", **arrays)
    _refused(capfd, *PATH, "a.npz")


@pytest.mark.parametrize("spec", ["", "xyz", "a" * 5000 + ".csv", "a\nb.npz", "a.npy,b.npy", "d.csv", "f.npz", MARKS])
def test_places_that_hold_no_data(here: Path, capfd: pytest.CaptureFixture[str], spec: str) -> None:
    os.mkdir("d.csv")
    os.mkfifo("f.npz")
    _refused(capfd, *PATH, spec)


STUDY = 'data = "data.npz"\nnetwork = "net.safetensors"\n'
STUDIES = {
    "a number of 5000 digits": (f"{STUDY}[path]\nlayer = 1\nsteps = {'9' * 5000}\n", "is no TOML"),
    "5000 brackets": ("a = " + "[" * 5000, "is no TOML"),
    "bytes": ("\udcff", "is no TOML"),
    "outputs of another network": (f"{STUDY.replace('data.npz', 'other.npz')}[path]\nlayer = 1\n", "own outputs"),
}


@pytest.mark.parametrize(("text", "said"), STUDIES.values(), ids=STUDIES)
def test_studies_that_cannot_be_used(here: Path, capfd: pytest.CaptureFixture[str], text: str, said: str) -> None:
    Path("s.toml").write_text(text, encoding="utf-8", errors="surrogateescape")
    np.savez("other.npz", inputs=X, targets=Y, outputs=Y)
    assert said in _refused(capfd, "study", "s.toml")


CLAIM = {"format": 1, "statement": "limit-as-printed", "source": "", "words": "", "numbers": {}, "seed": 0}
CLAIMS = {
    "brackets": "[" * 200_000,
    "digits": "9" * 5000,
    "nothing more": json.dumps({"format": 1, "statement": "limit-as-printed"}),
    "no facts": json.dumps({**CLAIM, "network": False, "facts": {}}),
    "facts of texts": json.dumps({**CLAIM, "network": False, "facts": {"n": "x", "k": []}}),
    "statement a list": json.dumps({**CLAIM, "statement": [MARKS], "network": False, "facts": {}}),
    "a damaged archive": json.dumps({**CLAIM, "network": True, "facts": {}}),
}


@pytest.mark.parametrize("text", CLAIMS.values(), ids=CLAIMS)
def test_counterexamples_that_cannot_be_used(here: Path, capfd: pytest.CaptureFixture[str], text: str) -> None:
    os.mkdir("found")
    Path("found/claim.json").write_text(text)
    shutil.copy("net.safetensors", "found/network.safetensors")
    Path("found/data.npz").write_bytes(_zipped(("inputs.npy", _saved(X)))[:300])
    _refused(capfd, "claims", "--recheck", "found")


def test_a_name_that_says_gzip_and_is_none(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    os.mkdir("idx")
    Path("idx/train-images-idx3-ubyte.gz").write_bytes(b"\0\0\x08\x03" + struct.pack(">III", 1, 1, 2) + b"ab")
    Path("idx/train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 1) + b"\0"))
    assert "a gzipped file is corrupt" in _refused(capfd, *PATH, "idx")


def _set(*keys: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    def change(document: dict[str, Any]) -> Any:
        place = document
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        return document

    return change


RUNS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "infinite format": _set("format", value=[float("inf"), 0]),
    "infinite pair": _set("pair", value=[float("inf"), 0]),
    "pair out of range": _set("pair", value=[0, 99]),
    "pair of one": _set("pair", value=[1, 1]),
    "problem a list": _set("problem", value=[]),
    "fingerprints null": _set("fingerprints", value=None),
    "fingerprints empty": _set("fingerprints", value={}),
    "versions a list": _set("versions", value=[1]),
    "barrier a text": _set("barrier", value="x"),
    "tolerance null": _set("tolerance", value=None),
    "layer a text": _set("layer", value=MARKS),
    "neurons a number": _set("neurons", value=5),
    "events a number": _set("events", value=7),
    "a list": lambda _: [],
}


@pytest.mark.parametrize("change", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize(
    "words", [("walk", "run.saddle", "--to", "1,0"), ("report", "run.saddle"), ("certify", "run.saddle")]
)
def test_stored_runs_that_hold_something_else(
    here: Path, capfd: pytest.CaptureFixture[str], words: tuple[str, ...], change: Callable[[dict[str, Any]], Any]
) -> None:
    file = Path("run.saddle/result.json")
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    _refused(capfd, *words)


@pytest.mark.parametrize(
    "text", ["[" * 200_000, '{"a":' * 100_000, "\ufeff", "5", '{"format":[1e999,0]}', '{"kind":{}}']
)
def test_documents_that_are_none(here: Path, capfd: pytest.CaptureFixture[str], text: str) -> None:
    Path("run.saddle/result.json").write_text(text)
    Path("walk.json").write_text(text)
    _refused(capfd, "walk", "run.saddle", "--to", "1,0")
    _refused(capfd, "report", "walk.json")


def test_a_weights_file_where_a_run_belongs(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "given with --net" in _refused(capfd, "certify", "net.safetensors", "--data", "data.npz")


@given(st.text())
def test_what_is_printed_steers_no_terminal_and_reads_as_it_stands(text: str) -> None:
    shown = printable(text)
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")]
    assert printable(shown) == shown
    assert len(one_line(text).splitlines()) <= 1
    if text.isprintable():
        assert shown == text


@given(st.text(max_size=60), st.integers(10, 50))
def test_a_clipped_text_keeps_its_ends(text: str, most: int) -> None:
    short = clipped(text, most)
    assert len(short) <= most
    assert short == text if len(text) <= most else (text.startswith(short.split(" ... ")[0]))
    assert len(text) <= most or text[-1] == short[-1]


def test_a_page_holds_no_character_that_steers(here: Path) -> None:
    from saddlescope.cli.report import section_of

    file = Path("run.saddle/result.json")
    content = json.loads(file.read_text())
    content["problem"] |= {MARKS: MARKS, "network": MARKS, "doubt": MARKS}
    content["reasons"] = [MARKS]
    file.write_text(json.dumps(content))
    shutil.move("run.saddle", f"run{MARKS}.saddle")
    page = render([section_of(Path(f"run{MARKS}.saddle"), None, None)] * 2, command=MARKS, version=MARKS)
    assert not [c for c in page if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c != "\n"]
    assert r"\u202e" in page
    assert r"\u202e" not in page.split("id='numbers'>")[1] or r"\\u202e" in page.split("id='numbers'>")[1]
