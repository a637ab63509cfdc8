"""The command line around the computation: refusals before it, what a record keeps, disks that refuse, time of help.

Nothing is computed here: `find_path` and the demonstration are replaced by a path made by hand.
"""

import errno
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path as FilePath
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import saddlescope.paths.find
import saddlescope.training.train
import saddlescope.workflows.demo
from references.synthetic_paths import WIDTHS, synthetic_data, synthetic_path
from saddlescope.cli.main import run
from saddlescope.cli.progress import progress_bar
from saddlescope.cli.summary import path_json, path_lines
from saddlescope.data.weights import save_weights
from saddlescope.models.mlp import MLP
from saddlescope.outcomes import Outcome
from saddlescope.records.store import load_path

NETWORK = MLP(WIDTHS, "tanh")
PATH = ("path", "net.safetensors", "--data", "data.npz", "--layer", "1")
TRAIN = ("train", "--widths", "2,3,1", "--activation", "tanh", "--data", "data.npz")


@pytest.fixture
def here(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> FilePath:
    """A working folder with a network and data, where paths and demonstrations are ready at once."""
    data = synthetic_data()
    save_weights(tmp_path / "net.safetensors", NETWORK, NETWORK.initial(0))
    np.savez(tmp_path / "data.npz", inputs=data.inputs, targets=np.asarray(data.targets))
    np.savez(tmp_path / "labels.npz", inputs=data.inputs, labels=np.zeros(len(data.inputs), dtype=int))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(saddlescope.paths.find, "find_path", lambda *_, **__: synthetic_path())
    shown = SimpleNamespace(
        network=NETWORK, teacher=SimpleNamespace(parameters=NETWORK.initial(0)), accuracy=0.5, path=synthetic_path()
    )
    monkeypatch.setattr(saddlescope.workflows.demo, "demonstrate", lambda **_: shown)
    return tmp_path


@pytest.fixture
def idle(here: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever computes says so and fails."""

    def compute(*_: Any, **__: Any) -> None:
        raise AssertionError("computed")

    monkeypatch.setattr(saddlescope.paths.find, "find_path", compute)
    monkeypatch.setattr(saddlescope.training.train, "train", compute)
    monkeypatch.setattr(saddlescope.workflows.demo, "demonstrate", compute)


def _refused(capfd: pytest.CaptureFixture[str], words: list[str], text: str) -> None:
    before = sorted(os.listdir())
    assert run(words) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert re.search(text, captured.err), captured.err
    assert sorted(os.listdir()) == before


# Refused before anything is computed.

MISTAKES = {
    "folder exists": ([*PATH, "--out", "."], r"the output exists: out=\."),
    "folder is no result": ([*PATH, "--out", ".", "--overwrite"], "not a result"),
    "folder is a file": ([*PATH, "--out", "data.npz", "--overwrite"], "not a result"),
    "figure exists": ([*PATH, "--out", "o", "--figure", "old.png"], "the output exists: file=old.png"),
    "figure is a folder": ([*PATH, "--out", "o", "--figure", "folder.png", "--overwrite"], "is a folder"),
    "no folder for the figure": ([*PATH, "--out", "o", "--figure", "no/f.png"], "does not exist .*folder="),
    "a disk that takes no files": ([*PATH, "--out", "/proc/o"], "cannot be written to .*folder=/proc"),
    "a pair of three": ([*PATH, "--out", "o", "--pair", "0,1,2"], "pair=0,1,2; expected such as 0,3, or closest"),
    "a solver unknown": ([*PATH, "--out", "o", "--solver", "sgd"], "solver=sgd; expected auto, newton"),
    "a loss unknown": ([*PATH, "--out", "o", "--loss", "mae"], "loss=mae; expected mse, normalised, cross-entropy"),
    "a target unknown": ([*PATH, "--out", "o", "--target", "moon"], "target=moon; expected data, network"),
    "a word for a number": ([*PATH, "--out", "o", "--steps", "many"], '"many" into int'),
    "labels wanted, none there": ([*PATH, "--out", "o", "--loss", "cross-entropy"], "needs labels"),
    "labels of a network": (
        [*PATH, "--out", "o", "--loss", "cross-entropy", "--target", "network"],
        "needs the data's labels",
    ),
    "targets wanted, only labels there": (
        [*PATH[:2], "--data", "labels.npz", "--layer", "1", "--out", "o", "--target", "data"],
        "this loss needs targets",
    ),
    "another activation": ([*PATH, "--out", "o", "--activation", "relu"], "activation=relu; expected tanh"),
    "negative weight decay": ([*PATH, "--out", "o", "--weight-decay=-1"], "weight_decay=-1.0"),
    "network exists": ([*TRAIN, "--out", "net.safetensors"], "the output exists: file=net.safetensors"),
    "negative seed": ([*TRAIN, "--out", "o", "--seed=-1"], "seed=-1; expected 0 or more"),
    "negative width": (["train", "--widths", "2,-3,1", *TRAIN[3:], "--out", "o"], r"widths=\(2, -3, 1\)"),
    "negative seed of the demo": (["demo", "--seed=-1"], "seed=-1"),
    "demo exists": (["demo", "--out", "folder.png"], "the output exists: out=folder.png"),
    "demo is a file": (["demo", "--out", "data.npz", "--overwrite"], "the output exists"),
    "no folder for the demo": (["demo", "--out", "no/demo"], "does not exist .*folder=.*/no"),
    "an option twice": ([*PATH, "--layer", "2", "--out", "o"], "multiple times"),
    "too many words": ([*PATH, "--out", "o", "more"], "more"),
}


@pytest.mark.parametrize(("words", "text"), MISTAKES.values(), ids=MISTAKES.keys())
@pytest.mark.usefixtures("idle")
def test_a_mistake_is_told_before_anything_is_computed(
    here: FilePath, capfd: pytest.CaptureFixture[str], words: list[str], text: str
) -> None:
    (here / "folder.png").mkdir()
    (here / "old.png").touch()
    _refused(capfd, words, text)


def test_the_parser_s_own_mistakes_and_real_processes_end_with_two(here: FilePath) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "saddlescope", *PATH[:4], "--laier", "1", "--out", "o"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "--layer" in done.stderr


# What is written and said.


def test_a_path_is_written_with_the_words_that_rebuild_its_problem(here: FilePath) -> None:
    assert run([*PATH, "--out", "o.saddle", "--target", "network", "--quiet"]) == 0
    problem = load_path(here / "o.saddle").problem
    kept = {"network": "net.safetensors", "data": "data.npz", "target": "network"}
    assert {name: problem[name] for name in kept} == kept


def test_quiet_prints_nothing_and_json_prints_one_document_only(
    here: FilePath, capfd: pytest.CaptureFixture[str]
) -> None:
    run([*PATH, "--out", "a", "--quiet"])
    assert capfd.readouterr() == ("", "")
    run([*PATH, "--out", "b", "--json"])
    captured = capfd.readouterr()
    answer = json.loads(captured.out, parse_constant=pytest.fail)
    assert captured.err == ""
    path = synthetic_path()
    assert answer["losses"] == path.losses.tolist()
    assert answer["accuracy"] == np.asarray(path.accuracies).tolist()
    assert [event["kind"] for event in answer["events"]] == [event.kind.value for event in path.events]


def test_a_path_without_a_point_exits_with_one_and_says_why(
    here: FilePath, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = synthetic_path(ending=Outcome.CHANNEL)
    monkeypatch.setattr(saddlescope.paths.find, "find_path", lambda *_, **__: channel)
    assert run([*PATH, "--out", "o"]) == 1
    first, second, *_ = capfd.readouterr().err.splitlines()
    assert first.startswith("ending: channel. The outgoing weights grow")
    assert second == "  because |a_m - a_l| grows"
    assert path_json(channel)["loss_at_point"] is None


def test_labels_alone_make_the_network_its_own_target(here: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def find(problem: Any, *_: Any, **__: Any) -> Any:
        seen.append(problem)
        return synthetic_path()

    monkeypatch.setattr(saddlescope.paths.find, "find_path", find)
    run(["path", "net.safetensors", "--data", "labels.npz", "--layer", "1", "--out", "a", "--quiet"])
    assert seen[0].loss == "normalised"
    assert seen[0].loss_of(NETWORK.initial(0)) < 1e-30
    run([*PATH, "--out", "b", "--quiet"])
    assert seen[1].loss == "mse"
    assert seen[1].loss_of(NETWORK.initial(0)) > 1e-3


def test_the_summary_counts_the_asked_distances_only() -> None:
    path = synthetic_path()
    asked = path.kinds == "asked"
    missed = int((asked & ~path.converged).sum())
    line = next(line for line in path_lines(path) if "distances from" in line)
    assert line.startswith(f"residuals: {asked.sum()} distances from 1 to ")
    assert line.endswith(f"tolerance 1.00e-09, missed at {missed}")


def test_the_demo_writes_picture_path_and_weights(here: FilePath, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", "--out", "d", "--json", "--seed", "3"]) == 0
    answer = json.loads(capfd.readouterr().out)
    assert answer["teacher_accuracy"] == 0.5
    assert sorted(os.listdir("d")) == ["demo.png", "path.saddle", "teacher.safetensors"]
    assert load_path("d/path.saddle").problem["seed"] == 3
    assert run(["demo", "--out", "d"]) == 2
    assert run(["demo", "--out", "d", "--overwrite"]) == 0
    assert re.search(r"accuracy +0\.5", capfd.readouterr().err)


# Disks that refuse, and faults of our own.


def _full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("words", [[*PATH, "--out", "o"], ["demo", "--out", "d"]], ids=["path", "demo"])
def test_a_full_disk_is_one_line_and_nothing_is_left(
    here: FilePath, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setattr(os, "fsync", _full)
    before = sorted(os.listdir())
    assert run([*words]) == 2
    assert re.match(r"error: the .* cannot be written \(No space left", capfd.readouterr().err.splitlines()[-1])
    assert sorted(os.listdir()) == before


def test_a_path_is_kept_when_only_its_figure_cannot_be_written(
    here: FilePath, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    monkeypatch.setattr(Figure, "savefig", _full)
    assert run([*PATH, "--out", "o", "--figure", "f.png", "--quiet"]) == 2
    assert capfd.readouterr().err.startswith("error: the figure cannot be written")
    assert load_path("o").pair == (0, 2)
    assert not (here / "f.png").exists()


def test_an_interrupted_demo_leaves_no_folder(here: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(**_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(saddlescope.workflows.demo, "demonstrate", stop)
    assert run(["demo", "--out", "d"]) == 130
    assert not (here / "d").exists()


@pytest.mark.usefixtures("idle")
def test_a_fault_of_our_own_is_never_taken_for_an_answer(here: FilePath, capfd: pytest.CaptureFixture[str]) -> None:
    _refused(capfd, [*PATH, "--out", "o", "--quiet"], "AssertionError: computed .a fault of saddlescope; --debug shows")
    with pytest.raises(AssertionError):
        run([*PATH, "--out", "o", "--quiet", "--debug"])


# Time.


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_is_drawn_on_a_terminal_only_and_never_when_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, quiet, drawn in ((_Terminal(), False, True), (_Terminal(), True, False), (io.StringIO(), False, False)):
        monkeypatch.setattr(sys, "stderr", stream)
        with progress_bar(quiet=quiet) as report:
            assert (report is not None) == (not quiet)
            if report is not None:
                report(3, 7, "at distance 0.5")
        assert ("at distance 0.5" in stream.getvalue()) == drawn
        assert ("3/7" in stream.getvalue()) == drawn


def test_help_is_there_in_half_a_second_of_computing() -> None:
    code = """
import resource, subprocess, sys
subprocess.run([sys.executable, "-m", "saddlescope", "--help"], check=True, stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    times = [float(subprocess.check_output([sys.executable, "-c", code], env=environment)) for _ in range(2)]
    assert min(times) < 0.5
