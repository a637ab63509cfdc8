"""Stored paths: equal after a round trip, atomic, refused when damaged or foreign, and true on re-evaluation."""

import errno
import json
from dataclasses import fields, replace

import numpy as np
import pytest

from saddlescope.data.sources import toy, toy_teacher
from saddlescope.errors import RecordError, RecordExistsError, StorageError
from saddlescope.outcomes import Outcome
from saddlescope.paths.find import find_path
from saddlescope.paths.result import Event, PathSettings
from saddlescope.plots.path import path_figure, save_figure
from saddlescope.problem.problem import Problem
from saddlescope.records import store
from saddlescope.records.recheck import recheck_path
from saddlescope.records.store import load_path, save_path


@pytest.fixture(scope="module")
def found():
    network, teacher = toy_teacher("tanh", 0)
    problem = Problem(network, toy("tanh", 0))
    path = find_path(problem, teacher, layer=1, pair=(2, 3), settings=PathSettings(steps=10))
    event = Event(Outcome.FOLD, 0.5, float("nan"), 2, "for the test")
    return problem, replace(path, events=(*path.events, event))


def _equal(left, right):
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_equal(left[key], right[key]) for key in left)
    if isinstance(left, np.ndarray):
        same_kind = left.dtype.kind == right.dtype.kind or {left.dtype.kind, right.dtype.kind} <= {"U", "O"}
        return same_kind and bool(np.array_equal(left, right, equal_nan=left.dtype.kind == "f"))
    if isinstance(left, tuple) and left and isinstance(left[0], Event):
        return all(repr(a) == repr(b) for a, b in zip(left, right, strict=True))
    if hasattr(left, "__dataclass_fields__"):
        return all(_equal(getattr(left, field.name), getattr(right, field.name)) for field in fields(left))
    return left == right


def test_a_loaded_path_equals_the_saved_one_field_by_field(found, tmp_path):
    saved = save_path(found[1], tmp_path / "a.saddle")
    loaded = load_path(tmp_path / "a.saddle")
    for field in fields(saved):
        assert _equal(getattr(saved, field.name), getattr(loaded, field.name)), field.name


def test_a_loaded_path_gives_the_stored_losses_again(found, tmp_path):
    problem, path = found
    save_path(path, tmp_path / "a.saddle")
    check = recheck_path(problem, load_path(tmp_path / "a.saddle"))
    assert check.loss_deviation < 1e-12
    assert check.gradient_deviation < 1e-10
    assert check.same_data


def test_a_changed_parameter_is_found_on_rechecking(found):
    problem, path = found
    bent = {name: value.copy() for name, value in path.parameters.items()}
    bent["0.weight"][3, 0, 0] += 0.1
    assert recheck_path(problem, replace(path, parameters=bent)).loss_deviation > 1e-3


def test_the_document_is_strict_json_and_the_arrays_are_labelled(found, tmp_path):
    import xarray

    save_path(found[1], tmp_path / "a.saddle")
    document = json.loads((tmp_path / "a.saddle" / "result.json").read_text(), parse_constant=pytest.fail)
    assert document["kind"] == "path"
    assert document["versions"]["jax"]
    with xarray.open_dataset(tmp_path / "a.saddle" / "arrays.nc", engine="netcdf4") as dataset:
        assert dataset["losses"].dims == ("node",)
        assert dataset["path.0.weight"].dims[0] == "node"


def test_nothing_is_overwritten_unasked_and_foreign_folders_never(found, tmp_path):
    save_path(found[1], tmp_path / "a.saddle")
    with pytest.raises(RecordExistsError, match=r"output exists.*--overwrite"):
        save_path(found[1], tmp_path / "a.saddle")
    save_path(found[1], tmp_path / "a.saddle", overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(RecordExistsError, match="not a result"):
        save_path(found[1], tmp_path / "mine", overwrite=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.saddle", "mine"]


def test_a_full_disk_leaves_nothing_behind_and_the_old_result_in_place(found, tmp_path, monkeypatch):
    save_path(found[1], tmp_path / "a.saddle")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store, "_write_arrays", full)
    with pytest.raises(StorageError, match="No space left"):
        save_path(found[1], tmp_path / "a.saddle", overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == ["a.saddle"]
    monkeypatch.undo()
    load_path(tmp_path / "a.saddle")


def test_a_missing_parent_is_named_before_anything_is_computed(tmp_path):
    with pytest.raises(StorageError, match="cannot be written to"):
        store.check_free(tmp_path / "no" / "a.saddle")


def _damage(folder, how):
    document, arrays = folder / "result.json", folder / "arrays.nc"
    if how == "truncated document":
        document.write_text(document.read_text()[:100])
    elif how == "no arrays":
        arrays.unlink()
    elif how == "truncated arrays":
        arrays.write_bytes(arrays.read_bytes()[:3000])
    else:
        content = json.loads(document.read_text())
        content.update({"format": [2, 0]} if how == "newer format" else {"kind": "walk"})
        content.update({"events": [{}]} if how == "incomplete event" else {})
        content["kind"] = "walk" if how == "other kind" else "path"
        document.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("truncated document", "not a readable result"),
        ("no arrays", "missing or damaged"),
        ("truncated arrays", "damaged"),
        ("newer format", "another format: format=.2, 0.; expected 1.x"),
        ("other kind", "kind=walk; expected path"),
        ("incomplete event", "incomplete or damaged"),
    ],
)
def test_damaged_and_foreign_results_are_refused(found, tmp_path, how, text):
    save_path(found[1], tmp_path / "a.saddle")
    _damage(tmp_path / "a.saddle", how)
    with pytest.raises(RecordError, match=text):
        load_path(tmp_path / "a.saddle")


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_the_figure_shows_what_was_measured(found, tmp_path, suffix):
    path = found[1]
    figure = path_figure(path)
    drawn = figure.axes[0].lines[0].get_xydata()
    np.testing.assert_array_equal(drawn[:, 1], path.losses)
    assert path.ending.value in figure.get_suptitle()
    save_figure(figure, tmp_path / f"f.{suffix}")
    assert (tmp_path / f"f.{suffix}").stat().st_size > 5000
