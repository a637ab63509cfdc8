"""The store's laws: what is loaded is what was saved bit by bit, whole or not at all, and no damage goes unnoticed."""

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import fields, is_dataclass, replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from references.synthetic_paths import WIDTHS, synthetic_data, synthetic_path
from saddlescope import files
from saddlescope.errors import RecordError, RecordExistsError, ShapeError, StorageError
from saddlescope.models.mlp import MLP
from saddlescope.outcomes import Outcome
from saddlescope.problem.problem import Problem
from saddlescope.records.provenance import LIBRARIES, versions
from saddlescope.records.recheck import recheck_path
from saddlescope.records.schema import arrays, document, plain, rebuild
from saddlescope.records.store import load_path, read_document, save_path


def assert_same(one: Any, two: Any, where: str = "path") -> None:
    """Equal in type and value, field by field; arrays and floating-point numbers bit by bit."""
    assert type(one) is type(two), f"{where}: {type(one)} and {type(two)}"
    if is_dataclass(one):
        for field in fields(one):
            assert_same(getattr(one, field.name), getattr(two, field.name), f"{where}.{field.name}")
    elif isinstance(one, dict):
        assert list(one) == list(two), where
        for key in one:
            assert_same(one[key], two[key], f"{where}[{key}]")
    elif isinstance(one, np.ndarray):
        assert one.shape == two.shape, where
        assert one.dtype.kind == two.dtype.kind, where
        same = one.tobytes() == two.tobytes() if one.dtype.kind == "f" else np.array_equal(one, two)
        assert same, f"{where}: {one} and {two}"
    elif isinstance(one, tuple):
        assert len(one) == len(two), where
        for k, (left, right) in enumerate(zip(one, two, strict=True)):
            assert_same(left, right, f"{where}[{k}]")
    else:
        assert one == two or (one != one and two != two), f"{where}: {one!r} and {two!r}"


@pytest.fixture
def saved(tmp_path: FilePath) -> FilePath:
    save_path(synthetic_path(), tmp_path / "one.saddle")
    return tmp_path / "one.saddle"


@pytest.mark.parametrize("ending", [Outcome.PERMUTATION_POINT, Outcome.CHANNEL])
@pytest.mark.parametrize("labels", [True, False])
def test_a_loaded_path_is_the_saved_one_in_every_field(tmp_path: FilePath, ending: Outcome, labels: bool) -> None:
    path = save_path(synthetic_path(ending=ending, labels=labels), tmp_path / "one.saddle")
    assert_same(path, load_path(tmp_path / "one.saddle"))


@pytest.mark.parametrize("name", [b"bad\xff.saddle", "ü\u202e\n.saddle".encode()])
def test_a_folder_may_have_any_name_that_the_disk_takes(tmp_path: FilePath, name: bytes) -> None:
    """The netCDF library takes UTF-8 only, and said so after the whole path had been computed."""
    folder = tmp_path / os.fsdecode(name)
    assert_same(save_path(synthetic_path(), folder), load_path(folder))
    assert_same(save_path(synthetic_path(seed=2), folder, overwrite=True), load_path(folder))
    assert [os.fsencode(place.name) for place in tmp_path.iterdir()] == [name]


def test_infinite_and_undefined_numbers_come_back_as_they_were(tmp_path: FilePath) -> None:
    losses = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 5e-324, 1.7e308, 1 / 3, 1.0])
    made = synthetic_path()
    event = replace(made.events[0], loss=float("inf"), distance=float("nan"))
    path = replace(made, losses=losses, barrier=float("inf"), largest_deviation=float("nan"), events=(event,))
    path = save_path(path, tmp_path / "one.saddle")
    assert_same(path, load_path(tmp_path / "one.saddle"))


@given(hnp.arrays(np.float64, 9, elements=st.floats(width=64)), st.floats(), st.text())
def test_any_numbers_and_words_survive_the_document(losses: np.ndarray, barrier: float, reason: str) -> None:
    path = replace(synthetic_path(), losses=losses, barrier=barrier, reasons=(reason,))
    text = json.dumps(document(path), allow_nan=False)
    assert_same(path, rebuild(json.loads(text), {name: value for name, (_, value) in arrays(path).items()}))


def test_versions_name_every_library_and_a_path_that_has_them_keeps_its_own(tmp_path: FilePath) -> None:
    assert versions()["numpy"] == np.__version__
    assert {"python", "platform", "created", *LIBRARIES} == set(versions())
    assert set(save_path(synthetic_path(), tmp_path / "a").versions) == set(versions())
    old = replace(synthetic_path(), versions={"python": "2.7"})
    assert save_path(old, tmp_path / "b").versions == {"python": "2.7"}


def test_a_machine_gets_null_where_a_number_is_not_finite() -> None:
    given = {"a": [np.float64("nan"), 1.0], "b": np.array([np.inf, 2.0]), "c": np.True_, "d": Outcome.FOLD}
    assert plain(given) == {"a": [None, 1.0], "b": [None, 2.0], "c": True, "d": "fold"}


# Outputs that exist.


def test_an_existing_result_is_refused_and_left_alone(saved: FilePath) -> None:
    before = (saved / "result.json").read_bytes(), (saved / "arrays.nc").read_bytes()
    with pytest.raises(RecordExistsError, match="--overwrite"):
        save_path(synthetic_path(seed=1), saved)
    assert before == ((saved / "result.json").read_bytes(), (saved / "arrays.nc").read_bytes())


def test_overwriting_replaces_the_whole_folder(saved: FilePath) -> None:
    path = save_path(synthetic_path(seed=1, ending=Outcome.CHANNEL), saved, overwrite=True)
    assert_same(path, load_path(saved))
    assert os.listdir(saved.parent) == ["one.saddle"]
    assert sorted(os.listdir(saved)) == ["arrays.nc", "result.json"]


@pytest.mark.parametrize("what", ["file", "broken link"])
def test_overwriting_never_destroys_what_is_not_a_folder(tmp_path: FilePath, what: str) -> None:
    place = tmp_path / "mine"
    if what == "file":
        place.write_text("mine")
    else:
        place.symlink_to(tmp_path / "nowhere")
    with pytest.raises(RecordExistsError, match="is not a result"):
        save_path(synthetic_path(), place, overwrite=True)
    assert os.path.lexists(place)


# Disks that refuse.


def _full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_full_disk_leaves_nothing_behind(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    monkeypatch.setattr(os, call, _full)
    with pytest.raises(StorageError, match=r"No space left on device.*room") as caught:
        save_path(synthetic_path(), tmp_path / "one.saddle")
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_disk_that_fills_while_overwriting_leaves_the_older_result(
    saved: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.rename
    monkeypatch.setattr(files, "_exchange", lambda *_: False)  # as on a system that cannot

    def only_aside(source: Any, target: Any) -> None:
        if str(source).endswith(".part"):
            _full()
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", only_aside)
        with pytest.raises(StorageError):
            save_path(synthetic_path(seed=1), saved, overwrite=True)
    assert os.listdir(saved.parent) == ["one.saddle"]
    np.testing.assert_array_equal(load_path(saved).losses, synthetic_path().losses)


def test_a_write_that_is_interrupted_leaves_nothing_behind(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_path(synthetic_path(), tmp_path / "one.saddle")
    assert os.listdir(tmp_path) == []


def test_a_file_that_the_system_cuts_short_inside_the_netcdf_library_is_a_storage_error(tmp_path: FilePath) -> None:
    code = """
import resource, sys
from references.synthetic_paths import synthetic_path
from saddlescope.errors import StorageError
from saddlescope.records.store import save_path
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
try:
    save_path(synthetic_path(), sys.argv[1])
except StorageError as error:
    print("refused:", error)
"""
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([str(FilePath(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", code, str(tmp_path / "one.saddle")]
    done = subprocess.run(command, env=here, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("refused: the result cannot be written")
    assert done.stderr == ""
    assert os.listdir(tmp_path) == []


# Results that are damaged.


def _edit(folder: FilePath, **changes: Any) -> None:
    content = read_document(folder)
    content.update(changes)
    (folder / "result.json").write_text(json.dumps(content))


def _refused(folder: FilePath, match: str) -> None:
    with pytest.raises(RecordError, match=match) as caught:
        load_path(folder)
    assert "\n" not in str(caught.value)


def test_a_later_minor_version_is_read(saved: FilePath) -> None:
    _edit(saved, format=[1, 99])
    assert load_path(saved).pair == (0, 2)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"kind": None}, "not a path"),
        ({"format": "x"}, "not a readable result"),
        ({"format": []}, "not a readable result"),
        ({"pair": None}, "incomplete or damaged"),
        ({"ending": "heaven"}, "incomplete or damaged: .*heaven"),
        ({"settings": {"colour": 1}}, "incomplete or damaged: .*colour"),
        ({"arrays_sha256": None}, "not what was written"),
    ],
)
def test_a_document_that_is_not_a_path_s_is_refused(saved: FilePath, changes: dict[str, Any], match: str) -> None:
    _edit(saved, **changes)
    _refused(saved, match)


@pytest.mark.parametrize("field", ["layer", "barrier", "events", "neurons", "permutation_point", "evaluations"])
def test_a_document_without_a_field_is_refused(saved: FilePath, field: str) -> None:
    content = read_document(saved)
    del content[field]
    (saved / "result.json").write_text(json.dumps(content))
    _refused(saved, f"incomplete or damaged: .*{field}")


@pytest.mark.parametrize("text", ["", "[]", "{", "\xff", "null"])
def test_a_document_that_is_not_json_of_ours_is_refused(saved: FilePath, text: str) -> None:
    (saved / "result.json").write_text(text, encoding="latin-1")
    _refused(saved, "not a readable result")


def test_what_is_no_folder_is_refused(tmp_path: FilePath) -> None:
    _refused(tmp_path / "nowhere.saddle", "not a readable result")
    (tmp_path / "file").touch()
    _refused(tmp_path / "file", "not a readable result")


@given(st.data())
def test_no_cut_and_no_flipped_bit_in_the_arrays_goes_unnoticed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("bits") / "one.saddle"
    save_path(synthetic_path(), folder)
    content = bytearray((folder / "arrays.nc").read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:at]
    else:
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    (folder / "arrays.nc").write_bytes(content)
    _refused(folder, "the arrays of a result are damaged")
    shutil.rmtree(folder.parent)


# Looking again.


def _problem() -> Problem:
    return Problem(MLP(WIDTHS, "tanh"), synthetic_data())


def test_rechecking_agrees_with_losses_and_gradients_by_loops_over_samples(saved: FilePath) -> None:
    again = recheck_path(_problem(), load_path(saved))
    assert again.loss_deviation < 1e-14
    assert again.gradient_deviation < 1e-14


def test_rechecking_measures_a_changed_loss_a_changed_gradient_and_lost_numbers() -> None:
    path = synthetic_path()
    worse = path.losses + 1e-3 * np.abs(path.losses).max() * (np.arange(len(path.losses)) == 3)
    assert recheck_path(_problem(), replace(path, losses=worse)).loss_deviation == pytest.approx(1e-3)
    gradients = 1.5 * path.full_gradient_norms
    again = recheck_path(_problem(), replace(path, full_gradient_norms=gradients))
    assert again.gradient_deviation == pytest.approx(0.5)
    broken = {**path.parameters, "2.bias": np.full_like(path.parameters["2.bias"], np.nan)}
    assert recheck_path(_problem(), replace(path, parameters=broken)).loss_deviation == np.inf


def test_rechecking_says_whether_the_data_are_the_same() -> None:
    problem, path = _problem(), synthetic_path()
    known = problem.fingerprint({name: rows[0] for name, rows in path.parameters.items()})
    path = replace(path, fingerprints=known)
    assert recheck_path(problem, path).same_data
    assert not recheck_path(Problem(MLP(WIDTHS, "tanh"), synthetic_data(seed=1)), path).same_data


def test_rechecking_with_another_network_is_refused() -> None:
    with pytest.raises(ShapeError, match="do not fit the network"):
        recheck_path(Problem(MLP((2, 4, 1), "tanh"), synthetic_data()), synthetic_path())
