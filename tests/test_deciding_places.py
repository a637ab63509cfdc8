"""What decides about data, their place and files, on each side of where it turns (see tests/mutants)."""

import ctypes
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saddlescope import files
from saddlescope.data import agreement
from saddlescope.data.data import Data
from saddlescope.errors import RecordExistsError, SettingsError, StorageError, WeightsError
from saddlescope.models.mlp import MLP
from saddlescope.precision import float64
from saddlescope.problem import placement
from saddlescope.problem.problem import Problem
from saddlescope.valleys.moves import route_position
from saddlescope.valleys.route import find_route
from saddlescope.valleys.walk import measure, walk

pytestmark = pytest.mark.usefixtures("stand_ins")

EPS = float(np.finfo(np.float32).eps)
ROWS = Data(np.array([[3.0], [-1.0]]), np.zeros((2, 1)))
LINE = MLP((1, 1), "tanh", bias=False)
TWO = {"0.weight": np.array([[2.0]])}


# Is this my network?


def outputs_as(outputs) -> Data:
    return Data(ROWS.inputs, outputs=np.array(outputs, float))


@pytest.mark.parametrize(("times", "fine"), [(7.9, True), (8.1, False)])
def test_eight_roundings_of_the_largest_output_are_allowed(times, fine):
    given = outputs_as([[6.0 + times * EPS * 6.0], [-2.0]])
    if fine:
        assert agreement.require_agreement(LINE, TWO, given) == pytest.approx(times * EPS * 6.0, rel=1e-6, abs=0.0)
    else:
        with pytest.raises(WeightsError, match=r"differ by up to 5.79e-06, rounding allows 5.7e-06.*output \[0, 0\]"):
            agreement.require_agreement(LINE, TWO, given)
    assert agreement.require_agreement(LINE, TWO, ROWS) is None


def test_what_the_coarse_type_loses_where_terms_cancel_is_allowed_too():
    network, parameters = MLP((2, 1), "tanh", bias=False), {"0.weight": np.array([[1.0, -1.0]])}
    rows = np.array([[1000.1, 1000.0]])
    here = rows @ np.array([[1.0], [-1.0]])
    lost = abs(float(np.float32(1000.1)) - 1000.1)
    assert lost > 100 * EPS * 0.1
    with float64():
        found = agreement._allowed(network, parameters, Data(rows, outputs=here), here)
        assert found == pytest.approx(8.0 * lost, rel=1e-6, abs=0.0)
        coarse = Data(np.repeat(rows, 9, axis=0), outputs=np.full((9, 1), 2.0))  # outputs that bfloat16 holds
        lost = abs(float(jnp.asarray(1000.1, jnp.bfloat16) - jnp.asarray(1000.0, jnp.bfloat16)) - 0.1)
        found = agreement._allowed(network, parameters, coarse, np.repeat(here, 9, axis=0))
        assert found == pytest.approx(8.0 * lost, rel=1e-6, abs=0.0)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1.0] * 8, jnp.float32),  # a few round numbers fit into any type
        ([1.0] * 9, jnp.bfloat16),
        ([*[1.0] * 8, 1.0 + 2.0**-9], jnp.float16),
        ([*[1.0] * 8, 1.0 + 2.0**-12], jnp.float32),
        ([*[1.0] * 8, 1e5 + 1.0], jnp.float32),  # beyond float16
        ([*[1.0] * 8, 1.0 + 2.0**-40], jnp.bfloat16),  # at finest float32
    ],
)
def test_outputs_were_computed_in_the_coarsest_type_that_holds_them_all(values, kind):
    assert agreement._kind(np.array(values)) is kind


def test_a_model_that_holds_on_to_a_finer_type_is_not_asked_in_a_coarse_one():
    rows = np.array([[1.0, 2.0]])

    def computed(apply):
        with float64():
            return agreement._computed_in(jnp.float32, SimpleNamespace(apply=apply), {"a": np.array(0.1)}, rows)

    assert computed(lambda p, x: x * p["a"]).tolist() == [[np.float32(0.1), 2 * np.float32(0.1)]]
    assert computed(lambda p, x: (x * p["a"]).astype(jnp.float64)) is None
    assert computed(lambda p, x: jax.lax.add(x, jnp.zeros((1, 2), jnp.float64))) is None


def test_every_parameter_and_input_moves_by_one_rounding_up_or_down(monkeypatch):
    seen = []
    monkeypatch.setattr(agreement, "network_outputs", lambda network, p, rows: seen.append((p["a"], rows)))
    own, rows = np.full((50,), 3.0), np.full((20, 2), 5.0)
    agreement._perturbed(jnp.float32, None, {"a": own}, rows)
    agreement._perturbed(jnp.float32, None, {"a": own}, rows.astype(np.int64))
    for moved, before in ((seen[0][0], 3.0), (seen[0][1], 5.0), (seen[1][0], 3.0)):
        assert set(np.round((moved / before - 1.0) / EPS).ravel()) == {-1.0, 1.0}
        assert np.abs(moved / before - 1.0) == pytest.approx(np.full(moved.shape, EPS), rel=1e-6, abs=0.0)
    assert seen[1][1].tolist() == [[5, 5]] * 20


def words(network: MLP, parameters) -> list[str]:
    return [text for text, _, _ in agreement._slips(network, parameters)]


def test_the_slips_that_are_tried_are_those_that_another_network_would_be():
    deep = MLP((2, 2, 2), "tanh", bias=False)
    said = words(deep, deep.initial(0))
    assert "With activation relu it does" in said
    assert "With activation tanh it does" not in said
    assert said[-2:] == [
        "With its weights transposed it does: they are stored (in, out)",
        "With its layers in the order 2, 1 it does",
    ]
    assert words(LINE, TWO) == ["With its weights transposed it does: they are stored (in, out)"]  # [[w]] is square
    flat = MLP((2, 1), "tanh")
    assert words(flat, flat.initial(0)) == []
    four, five = MLP((2, 2, 2, 2, 2), "tanh"), MLP((2, 2, 2, 2, 2, 2), "tanh")
    assert sum("order" in text for text in words(four, four.initial(0))) == 23
    assert sum("order" in text for text in words(five, five.initial(0))) == 0
    function = SimpleNamespace(layout=deep.layout)
    assert len(words(function, deep.initial(0))) == 1  # type: ignore[arg-type]


def test_only_square_weights_are_transposed():
    square, wide, bias = np.arange(4.0).reshape(2, 2), np.arange(6.0).reshape(3, 2), np.arange(2.0)
    found = agreement._turned({"a": square, "b": wide, "c": bias})
    assert found is not None
    assert found["a"].tolist() == [[0.0, 2.0], [1.0, 3.0]]
    assert (found["b"] is wide, found["c"] is bias) == (True, True)
    assert agreement._turned({"b": wide, "c": bias}) is None


def test_layers_are_reordered_with_their_biases_where_the_shapes_allow_it():
    network = MLP((2, 2, 2), "tanh")
    own = network.initial(0)
    moved = agreement._reordered(network, own, (1, 0))
    assert moved is not None
    assert all(moved[f"0.{kind}"] is own[f"2.{kind}"] and moved[f"2.{kind}"] is own[f"0.{kind}"] for kind in KINDS)
    other = MLP((2, 3, 2), "tanh")
    assert agreement._reordered(other, other.initial(0), (1, 0)) is None


KINDS = ("weight", "bias")

Z = np.random.default_rng(0).normal(size=(4, 3, 5))
E = np.exp(Z)


@pytest.mark.parametrize(
    ("outputs", "name"),
    [
        (E / E.sum(axis=-1, keepdims=True), "softmax"),
        (Z - np.log(E.sum(axis=-1, keepdims=True)), "log-softmax"),
        (1.0 / (1.0 + np.exp(-Z)), "sigmoid"),
        ((E - 1.0 / E) / (E + 1.0 / E), "tanh"),
        (Z * (Z > 0), "relu"),
        (E / E.sum(axis=1, keepdims=True), None),  # a softmax over positions
    ],
)
def test_outputs_that_were_passed_on_are_named_whatever_their_shape(monkeypatch, outputs, name):
    monkeypatch.setattr(agreement, "network_outputs", lambda network, parameters, inputs: Z)
    found = agreement._explanation(SimpleNamespace(), {"a": np.ones(2)}, Z, outputs, 1e-12)
    assert found == (
        None if name is None else f"They are this network's outputs after {name}: store what comes before it"
    )


def test_a_slip_explains_a_difference_up_to_rounding(monkeypatch):
    square, wide = np.array([[1.0, 3.0], [2.0, 4.0]]), np.array([[-1.0, 3.0, 2.0]])
    monkeypatch.setattr(agreement, "network_outputs", lambda network, p, inputs: p["a"])
    for own, there in ((square, square.T), (wide, np.maximum(wide, 0.0))):
        for allowed, found in ((0.5, True), (0.49, False)):
            words = agreement._explanation(SimpleNamespace(), {"a": own}, Z, there + 0.5, allowed)
            assert (words is not None) is found


@pytest.mark.parametrize(("extra", "fine"), [(0.0, True), (1e-9, False)])
def test_a_difference_of_all_that_is_allowed_is_accepted(monkeypatch, extra, fine):
    monkeypatch.setattr(agreement, "_allowed", lambda *_: 0.5)
    given = outputs_as([[6.5 + extra], [-2.0]])
    if fine:
        assert agreement.require_agreement(LINE, TWO, given) == 0.5
    else:
        with pytest.raises(WeightsError, match="No known activation"):
            agreement.require_agreement(LINE, TWO, given)


@pytest.fixture
def doubted(monkeypatch):
    """Doubt outputs on data, whatever network they come from."""
    monkeypatch.setattr(agreement, "adapted", lambda network: network)

    def doubt(outputs, *, labels=None, goals=None, **changes) -> str | None:
        rows = np.array(outputs, float)
        monkeypatch.setattr(agreement, "network_outputs", lambda *_: rows)
        data: Any = SimpleNamespace(
            inputs=None,
            labels=None if labels is None else np.array(labels),
            targets=None if goals is None else np.array(goals, float),
        )
        return agreement.doubt(None, {}, data, **changes)

    return doubt


RIGHT, WRONG = [1.0, 0.0], [0.0, 1.0]


@pytest.mark.parametrize(
    ("accuracy", "labels", "said"),
    [
        (0.97, [0, 0, 0, 0, 0, 0, 1, 0], None),  # 0.875: a tenth below training, no more
        (0.98, [0, 0, 0, 0, 0, 0, 1, 0], "accuracy 0.8750 on these data, 0.9800 in training:"),
        (0.86, [0] * 8, "accuracy 0.7500 on these data, 0.8600 in training"),
        (None, [0] * 8, "accuracy 0.7500, below that of naming always the commonest label, 1.0000"),
        (None, [0, 0, 0, 0, 0, 0, 1, 1], None),
        (None, [1, 1, 0, 0, 0, 0, 1, 1], None),  # as good as one label
        (None, [1, 1, 1, 1, 0, 0, 1, 0], "accuracy 0.3750, below"),
        (0.9, [0, 0, 0, 0, 0, 0, 0, 2], None),  # labels that the network has no output for
        (0.9, [0, 0, 0, 0, 0, 0, 0, -1], None),
    ],
)
def test_an_accuracy_a_tenth_below_training_s_or_below_one_label_s_is_doubted(doubted, accuracy, labels, said):
    found = doubted([RIGHT] * 6 + [WRONG] * 2, labels=labels, accuracy=accuracy)
    assert (found is None) if said is None else str(found).startswith(said)


def test_one_output_has_no_label_and_rows_of_rows_have_none_either(doubted):
    assert doubted([[1.0], [1.0]], labels=[0, 0], accuracy=2.0) is None
    assert doubted([[RIGHT, RIGHT]], labels=[1], accuracy=2.0) is None


@pytest.mark.parametrize(
    ("outputs", "goals", "changes", "said"),
    [
        ([[1.0], [1.0]], [[0.0], [2.0]], {}, None),  # the mean itself
        ([[1.1], [1.1]], [[0.0], [2.0]], {}, "squared error 1.01, above that of constant outputs, 1:"),
        ([[0.0], [0.0]], [[0.0], [2.0]], {"weight_decay": 1e-9}, None),  # all parameters zero: 2
        ([[-0.1], [-0.1]], [[0.0], [2.0]], {"weight_decay": 1e-9}, "squared error 2.21, above"),
        ([[0.0], [0.0]], [[0.0], [2.0]], {"weight_decay": 0.0}, "squared error 2, above"),
        ([[9.0], [9.0]], [[0.0], [2.0]], {"targets": False}, None),
        ([[9.0], [9.0]], [[0.0, 1.0], [2.0, 1.0]], {}, None),  # another shape
        ([[1e200], [0.0]], [[0.0], [2.0]], {}, "squared error inf"),
    ],
)
def test_an_error_above_that_of_constants_is_doubted(doubted, outputs, goals, changes, said):
    found = doubted(outputs, goals=goals, **changes)
    assert (found is None) if said is None else str(found).startswith(said)


# Where the data lie.


def backend(monkeypatch, name: str, chosen=None) -> None:
    kinds = {"cpu": ["the processor"], None: ["the first"], name: ["the first"]} | {"other": ["another"]}

    def devices(wanted=None):
        if wanted not in kinds:
            raise RuntimeError(wanted)
        return kinds[wanted]

    config = SimpleNamespace(jax_default_device=chosen)
    own = SimpleNamespace(config=config, default_backend=lambda: name, devices=devices)
    monkeypatch.setattr(placement, "jax", own)


@pytest.mark.parametrize(
    ("name", "work", "chosen", "device"),
    [
        ("gpu", 10**8 - 1, None, "the processor"),
        ("gpu", 10**8, None, None),
        ("gpu", 1, "theirs", None),  # the user's own choice
        ("cpu", 1, None, None),
    ],
)
def test_an_accelerator_is_left_to_large_work(monkeypatch, name, work, chosen, device):
    backend(monkeypatch, name, chosen)
    assert placement.device_for(work, None) == device


def test_a_device_that_is_wanted_is_taken_or_named(monkeypatch):
    backend(monkeypatch, "gpu")
    assert placement.device_for(10**9, "cpu") == "the processor"
    assert placement.device_for(1, "other") == "another"
    assert placement.device_for(1, "gpu") is None  # JAX's own choice
    with pytest.raises(SettingsError, match=r"no such device: device='?tpu'?; expected cpu, gpu"):
        placement.device_for(1, "tpu")


@pytest.mark.parametrize(
    ("each", "processor", "accelerator"),
    [
        (2**10, 2**14, 2**21),  # 16 MB
        (2**13, 2**11, 2**18),
        (2**14, 2**11, 2**17),  # 2048 samples all the same
        (2**16, 2**10, 2**15),  # up to 64 MB
        (2**27, 1, 16),
        (2**32, 1, 1),
    ],
)
def test_a_chunk_takes_so_many_samples(monkeypatch, each, processor, accelerator):
    backend(monkeypatch, "cpu")
    assert placement.chunk_samples(each, None) == processor
    assert placement.chunk_samples(each, SimpleNamespace(platform="gpu")) == accelerator
    backend(monkeypatch, "gpu")
    assert placement.chunk_samples(each, None) == accelerator
    assert placement.chunk_samples(each, SimpleNamespace(platform="cpu")) == processor


@pytest.mark.parametrize(("rows", "size", "chunks"), [(5, 3, 2), (6, 3, 2), (1, 4, 1), (7, 1, 7)])
@pytest.mark.parametrize("kind", [float, int, bool, np.float32])
def test_rows_are_cut_into_chunks_and_padded_with_the_first(monkeypatch, rows, size, chunks, kind):
    given, put = (np.arange(2 * rows).reshape(rows, 2) + 1).astype(kind), []
    real = jax.device_put
    monkeypatch.setattr(placement.jax, "device_put", lambda array, device: put.append(array) or real(array, device))
    with float64():
        found = np.asarray(placement.chunked(given, size, None))
    assert found.shape == (chunks, size, 2)
    assert found.dtype == {float: np.float64, np.float32: np.float64, int: np.int64, bool: np.bool_}[kind]
    flat = found.reshape(-1, 2)
    np.testing.assert_array_equal(flat[:rows], given)
    np.testing.assert_array_equal(flat[rows:], np.repeat(given[:1], chunks * size - rows, axis=0))
    marks = placement.marks(rows, size)
    assert (marks.shape, marks.sum()) == ((chunks, size), rows)
    assert marks.ravel()[:rows].all()


def test_jax_takes_the_copied_rows_over_as_they_are(monkeypatch):
    """It copies once more what lies at no multiple of 64 bytes."""
    put = []
    monkeypatch.setattr(placement.jax, "device_put", lambda array, device: put.append(array))
    for rows in range(1, 60):
        placement.chunked(np.ones((rows, 3)), 2, None)
    assert {array.ctypes.data % 64 for array in put} == {0}


# Files.


@pytest.mark.parametrize("ending", ["part", "old", "next"])
def test_names_of_two_hundred_bytes_are_kept_and_longer_ones_fit_with_their_digest(tmp_path, ending):
    for letter in ("x", "\u00e4"):
        whole = letter * (200 // len(letter.encode()))
        assert files.beside(tmp_path / whole, ending).name.startswith(f".{whole}.")
        longer = files.beside(tmp_path / f"{whole}z", ending).name
        assert longer.startswith(f".{whole}.")
        assert longer != files.beside(tmp_path / f"{whole}y", ending).name
    assert len(files.beside(tmp_path / ("x" * 255), ending).name) == 1 + 200 + 1 + 10 + 1 + len(ending)


def test_names_from_where_one_stands_are_exchanged_too(tmp_path, monkeypatch):
    if sys.platform != "linux":
        pytest.skip("renameat2 is Linux's")
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"in {name}").touch()
    assert files._exchange(Path("a"), Path("b"))
    assert (tmp_path / "a" / "in b").exists()


def test_what_a_dead_process_left_is_put_right(tmp_path):
    place = tmp_path / "a"
    old, part = files.beside(place, "old"), files.beside(place, "part")

    def lay(*there: Path) -> list[str]:
        for one in there:
            one.write_text(one.name)
        files.recover(place)
        found = [f"{one.name}: {one.read_text()}" for one in sorted(tmp_path.iterdir())]
        for one in tmp_path.iterdir():
            one.unlink()
        return found

    assert lay(place, old, part) == ["a: a"]
    assert lay(old, part) == [f"a: {old.name}"]
    assert lay(old) == [f"a: {old.name}"]
    assert lay(place) == ["a: a"]
    assert lay() == []
    place.symlink_to(tmp_path / "nowhere")
    old.write_text("former")
    files.recover(place)  # the link is the result's name still
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_a_result_is_recovered_for_a_reader_only_where_it_is_missing(tmp_path):
    place = tmp_path / "a"
    old, part = files.beside(place, "old"), files.beside(place, "part")
    for one in (place, old, part):
        one.write_text(one.name)
    assert files.restored(place) == place
    assert (old.exists(), part.exists()) == (True, True)
    place.unlink()
    assert files.restored(place).read_text() == old.name
    assert (old.exists(), part.exists()) == (False, False)
    place.unlink()
    part.write_text("half")
    files.restored(place)
    assert (place.exists(), part.exists()) == (False, True)  # another process may be writing it


def test_a_claim_cleans_the_folder_the_output_and_what_is_in_it_of_our_names_only(tmp_path):
    output = tmp_path / "out"
    (output / "inner").mkdir(parents=True)
    ours = [files.beside(folder / "x", "part") for folder in (tmp_path, output, output / "inner")]
    theirs = [folder / ".x.0123456789.part" for folder in (tmp_path, output)]
    deep = files.beside(output / "inner" / "inner" / "x", "part")
    deep.parent.mkdir()
    for one in (*ours, *theirs, deep):
        one.write_text("x")
    with files.claim(output) as place:
        assert place == output
        assert [one.exists() for one in ours] == [False] * 3
        assert all(one.exists() for one in (*theirs, deep))
    with files.claim(Path("/")) as place:
        assert place == Path("/")
    (tmp_path / "file").write_text("mine")
    with files.claim(tmp_path / "file") as place:
        assert place.read_text() == "mine"


@pytest.mark.parametrize("kind", ["file", "folder", "link to a folder", "link to nothing", "nothing"])
def test_a_link_is_removed_and_not_followed(tmp_path, kind):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "mine").write_text("precious")
    place = tmp_path / "place"
    if kind == "file":
        place.write_text("x")
    elif kind == "folder":
        (place / "in").mkdir(parents=True)
    elif kind != "nothing":
        place.symlink_to(tmp_path / ("far" if kind == "link to a folder" else "none"))
    files.remove(place)
    assert not os.path.lexists(place)
    assert (tmp_path / "far" / "mine").read_text() == "precious"


@pytest.mark.parametrize(("ending", "stays"), [("part", False), ("next", True)])
def test_of_a_work_that_failed_only_what_is_to_be_gone_on_with_stays(tmp_path, ending, stays):
    place = tmp_path / "out"
    draft = files.beside(place, ending)

    def fail():
        with files.writing(place, "the test", ending) as here:
            assert here == draft
            here.mkdir()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert draft.exists() is stays
    assert not place.exists()


@pytest.mark.parametrize("folder", [True, False])
def test_a_disk_that_refuses_is_named_by_what_was_written(tmp_path, folder):
    def write():
        with files.writing(tmp_path / "out", "the test") as draft:
            draft.mkdir() if folder else draft.write_text("x")
            raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match=rf"the test cannot be written \(No space.*: {'out' if folder else 'file'}="):
        write()


def test_a_system_without_an_exchange_of_names_renames_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    assert not files._exchange(tmp_path / "a", tmp_path / "b")
    for k in (1, 2):
        with files.writing(tmp_path / "out", "the test") as draft:
            draft.mkdir()
            (draft / f"{k}").touch()
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["2"]
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


def test_an_output_is_free_where_nothing_lies_or_with_overwrite_an_earlier_result(tmp_path):
    def free(name: str, *, overwrite: bool, reason: str | None = None) -> Path:
        return files.require_free(tmp_path / name, overwrite=overwrite, objection=lambda _: reason, kind="a result")

    (tmp_path / "there").write_text("x")
    (tmp_path / "lost").symlink_to(tmp_path / "none")
    assert free("new", overwrite=False) == free("new", overwrite=True, reason="not asked") == tmp_path / "new"
    assert free("there", overwrite=True) == tmp_path / "there"
    with pytest.raises(RecordExistsError, match=r"the output exists: .*--overwrite"):
        free("there", overwrite=False)
    with pytest.raises(RecordExistsError, match=r"is not a result \(no mark\)"):
        free("there", overwrite=True, reason="no mark")
    with pytest.raises(RecordExistsError, match="a link that leads nowhere"):
        free("lost", overwrite=True)
    with pytest.raises(StorageError, match="does not exist and cannot be written to"):
        free("none/new", overwrite=False)


def test_a_folder_with_anything_unknown_or_a_link_in_it_is_not_ours(tmp_path):
    def known(name: str) -> bool:
        return name.startswith("known")

    assert files.foreign_entry(tmp_path, known) is None
    for name in ("known", "known too"):
        (tmp_path / name).touch()
    assert files.foreign_entry(tmp_path, known) is None
    (tmp_path / "known link").symlink_to(tmp_path / "known")
    assert files.foreign_entry(tmp_path, known) == "known link in it is a link"
    (tmp_path / "a").touch()
    assert files.foreign_entry(tmp_path, known) == "a in it is not part of one"


def test_locks_go_to_the_second_place_where_the_first_takes_none(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(files.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    first = Path(files._file_lock(tmp_path / "a").lock_file)
    assert first.parent == tmp_path / "cache" / "saddlescope" / "locks"
    assert Path(files._file_lock(tmp_path / "b").lock_file) != first
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.chdir(tmp_path)
    assert Path(files._file_lock(tmp_path / "a").lock_file).parent.parent == tmp_path / "tmp"
    monkeypatch.setattr(files.os, "access", lambda place, mode: False)
    with pytest.raises(StorageError, match="no folder for lock files"):
        files._file_lock(tmp_path / "a")


# Walks.


class Slope(eqx.Module):
    """A loss of 1 everywhere with a gradient of one size, whatever the network."""

    network: Any = eqx.field(static=True)
    size: float
    penalised: bool = eqx.field(static=True, default=False)

    def outputs(self, theta):
        return jnp.stack([theta[:2], 2.0 * theta[:2]])

    def value_and_gradient(self, theta):
        return jnp.asarray(1.0), jnp.zeros_like(theta).at[:2].set(self.size * jnp.asarray([0.6, 0.8]))


@pytest.mark.parametrize(("size", "critical"), [(0.9e-8, True), (1.1e-8, False)])
def test_a_walk_is_critical_up_to_a_gradient_of_a_hundred_millionth(size, critical):
    network = MLP((1, 3, 1), "tanh")
    start = network.initial(0)
    for name in ("0.weight", "0.bias"):
        start[name][2] = start[name][0]
    found = walk(Slope(network, size), start, (1, 0, 2), layer=1, pair=(0, 2))  # type: ignore[arg-type]
    assert found.segments > 0
    assert found.scan.critical.tolist() == [critical] * found.segments
    assert found.scan.gradient_norms == pytest.approx(np.full((found.segments, 5), size), rel=1e-12, abs=0.0)
    assert found.scan.gradient_norm == pytest.approx(size, rel=1e-12, abs=0.0)
    ends = [flat["0.weight"][:2, 0] for flat in (start, route_position(found.route, 1.0))]
    assert found.scan.output_deviations[-1, -1] == pytest.approx(2.0 * np.abs(ends[1] - ends[0]).max(), rel=1e-12)
    assert found.scan.largest_output == pytest.approx(2.0 * np.abs(ends[0]).max(), rel=1e-12)


def test_routes_of_several_layers_are_measured_one_after_the_other():
    network = MLP((2, 3, 4, 2), "tanh")
    generator = np.random.default_rng(0)
    start = {name: generator.normal(size=value.shape) for name, value in network.initial(0).items()}
    for name, first, second in (("0.weight", 0, 2), ("0.bias", 0, 2), ("2.weight", 1, 3), ("2.bias", 1, 3)):
        start[name][second] = start[name][first]
    routes = [find_route(start, network.neurons(1), (0, 2), (1, 0, 2))]
    between = route_position(routes[0], 1.0)
    routes.append(find_route(between, network.neurons(2), (1, 3), (1, 0, 2, 3)))
    problem = Problem(network, Data(generator.normal(size=(9, 2)), generator.normal(size=(9, 2))))
    told: list[tuple] = []
    with float64():
        end = {name: value + 0.1 for name, value in route_position(routes[1], 1.0).items()}
        found = measure(problem, routes, end=end, points=2, progress=lambda *words: told.append(words))
    count = routes[0].segments
    assert len(found.losses) == count + routes[1].segments + 1
    for row, parameters in ((count - 1, between), (-2, route_position(routes[1], 1.0)), (-1, end)):
        slope = problem.gradient_of(parameters)
        norm = np.sqrt(sum(np.sum(np.square(part)) for part in slope.values()))
        change = np.abs(problem.outputs_of(parameters) - problem.outputs_of(start)).max()
        assert found.losses[row, -1] == pytest.approx(problem.loss_of(parameters), rel=1e-12)
        assert found.gradient_norms[row, -1] == pytest.approx(norm, rel=1e-10)
        assert found.output_deviations[row, -1] == pytest.approx(change, rel=1e-12, abs=1e-14)
    assert found.max_output_deviation > 0.01
    assert {total for _, total, _ in told} == {len(found.losses)}
