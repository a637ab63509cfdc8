"""Sweeps: ids follow the settings, what is finished stays, only what is missing is computed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saddlescope.errors import SettingsError, StorageError
from saddlescope.sweeps.plan import Task, plan
from saddlescope.sweeps.resume import keep, kept
from saddlescope.sweeps.run import gather, sweep

calls: list[int] = []


def square(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the square of x, and remember that it was asked for."""
    calls.append(settings["x"])
    return {"square": settings["x"] ** 2}


def interrupted(settings: dict[str, Any]) -> dict[str, Any]:
    """Stop as Ctrl-C does at the third task."""
    if settings["x"] == 2:
        raise KeyboardInterrupt
    return square(settings)


def tasks(count: int = 4, version: int = 1) -> tuple[Task, ...]:
    """Return small tasks."""
    calls.clear()
    return plan("squares", version, {f"task {x}": {"x": x} for x in range(count)})


def test_the_same_settings_have_the_same_id_and_others_another() -> None:
    one, other = plan("kind", 1, {"t": {"a": 1, "b": [2, 3]}}), plan("kind", 1, {"t": {"b": [2, 3], "a": 1}})
    assert one[0].identity == other[0].identity
    others = [
        plan("kind", 1, {"t": {"a": 1, "b": [2, 4]}}),
        plan("kind", 2, {"t": {"a": 1, "b": [2, 3]}}),
        plan("else", 1, {"t": {"a": 1, "b": [2, 3]}}),
        plan("kind", 1, {"u": {"a": 1, "b": [2, 3]}}),
    ]
    assert len({one[0].identity, *(each[0].identity for each in others)}) == 5


@pytest.mark.parametrize("bad", [{"a": (1, 2)}, {"a": float("nan")}, {"a": Path()}, {"a": {1: 2}}])
def test_settings_that_json_does_not_give_back_are_refused(bad: dict[Any, Any]) -> None:
    with pytest.raises(SettingsError, match="cannot be kept"):
        plan("kind", 1, {"t": bad})


def test_after_an_interruption_only_the_rest_is_computed(tmp_path: Path) -> None:
    work = tasks()
    with pytest.raises(KeyboardInterrupt):
        sweep(interrupted, work, tmp_path)
    assert list(gather(tmp_path, work).results) == ["task 0", "task 1"]
    calls.clear()
    swept = sweep(square, work, tmp_path)
    assert calls == [2, 3]
    assert swept.computed == 2
    assert swept.results == {f"task {x}": {"square": x * x} for x in range(4)}


def test_a_changed_version_computes_all_anew(tmp_path: Path) -> None:
    sweep(square, tasks(), tmp_path)
    again = tasks(version=2)
    sweep(square, again, tmp_path)
    assert calls == [0, 1, 2, 3]


@pytest.mark.parametrize("change", [lambda text: text[:-20], lambda _: "[" * 200_000, lambda _: "null"])
def test_a_damaged_file_counts_as_not_done(tmp_path: Path, change: Callable[[str], str]) -> None:
    (task,) = tasks(1)
    keep(tmp_path, task, {"square": 0}, 1.0)
    (file,) = tmp_path.iterdir()
    file.write_text(change(file.read_text()))
    assert kept(tmp_path, task) is None
    sweep(square, (task,), tmp_path)
    assert kept(tmp_path, task) is not None


def test_a_file_of_other_settings_under_the_same_id_is_not_taken(tmp_path: Path) -> None:
    (task,) = tasks(1)
    keep(tmp_path, task, {"square": 0}, 1.0)
    (file,) = tmp_path.iterdir()
    file.write_text(json.dumps({**json.loads(file.read_text()), "settings": {"x": 7}}))
    assert kept(tmp_path, task) is None


def test_a_result_that_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    (task,) = tasks(1)
    with pytest.raises(StorageError, match="cannot be written"):
        keep(tmp_path / "missing", task, {}, 1.0)
    with pytest.raises(ValueError, match="not JSON compliant"):
        keep(tmp_path, task, {"x": float("nan")}, 1.0)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_what_was_done_before_and_says_what_is_left(tmp_path: Path) -> None:
    work = tasks()
    sweep(square, work[:2], tmp_path)
    told: list[tuple[int, int, str]] = []
    sweep(square, work, tmp_path, progress=lambda *words: told.append(words))
    assert [done for done, _, _ in told] == [2, 3, 4]
    assert {total for _, total, _ in told} == {4}
    assert "left" in told[1][2]


def test_other_processes_give_what_this_one_gives(tmp_path: Path) -> None:
    work = plan("powers", 1, {f"power {x}": {"base": x} for x in range(3)})
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    assert sweep(dict, work, here).results == sweep(dict, work, there, workers=2).results


def test_no_workers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="not a number of processes"):
        sweep(square, tasks(1), tmp_path, workers=0)
