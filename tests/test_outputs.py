"""What commands do to what is there: --overwrite replaces a command's own whole result, and nothing else ever goes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import saddlescope.paths.find
import saddlescope.workflows.demo
from references.dying import Killed, dying
from references.slow_task import wait
from references.synthetic_paths import WIDTHS, synthetic_data, synthetic_path
from saddlescope.cli.main import run
from saddlescope.data.weights import save_weights
from saddlescope.errors import RecordExistsError
from saddlescope.files import write_file
from saddlescope.models.mlp import MLP
from saddlescope.papers import reproduce as module
from saddlescope.papers.experiment import Claim, Experiment, Judgement
from saddlescope.papers.reproduce import reproduce
from saddlescope.plots.canvas import axes_or_new
from saddlescope.records.recognise import FIGURES
from saddlescope.records.store import load_path, save_path
from saddlescope.sweeps.plan import plan
from saddlescope.sweeps.run import sweep

NETWORK = MLP(WIDTHS, "tanh")
EXPAND = ("expand", "net.safetensors", "--data", "data.npz", "--widths", "1:5", "--quiet", "--out")
REDUCE = ("reduce", "net.safetensors", "--data", "data.npz", "--quiet", "--out")
CERTIFY = ("certify", "--net", "net.safetensors", "--data", "data.npz", "--quiet", "--out")
PATH = ("path", "net.safetensors", "--data", "data.npz", "--layer", "1", "--quiet", "--out")
COUNT = ("count", "--regimes", "5", "--quiet", "--figure")
REPORT = ("report", "certificate.json", "--quiet", "--out")
CLAIMS = ("claims", "--only", "limit-as-printed", "--samples", "20", "--quiet", "--out")
REPRODUCE = ("reproduce", "counts", "--quick", "--quiet", "--out")
DEMO = ("demo", "--quiet", "--out")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a network, data, and a certificate, where paths and demonstrations are ready at once."""
    monkeypatch.chdir(tmp_path)
    save_weights("net.safetensors", NETWORK, NETWORK.initial(0))
    data = synthetic_data()
    np.savez("data.npz", inputs=data.inputs, targets=np.asarray(data.targets))
    shown = SimpleNamespace(
        network=NETWORK, teacher=SimpleNamespace(parameters=NETWORK.initial(0)), accuracy=0.5, path=synthetic_path()
    )
    monkeypatch.setattr(saddlescope.paths.find, "find_path", lambda *_, **__: synthetic_path())
    monkeypatch.setattr(saddlescope.workflows.demo, "demonstrate", lambda **_: shown)
    return tmp_path


def _listing(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _cut(place: Path) -> None:
    """Damage a file, or the first large file of a folder, by taking its end away."""
    file = (
        place if place.is_file() else max((p for p in place.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    )
    file.write_bytes(file.read_bytes()[: -max(100, file.stat().st_size // 3)])


def _stray(place: Path) -> None:
    (place / "thesis.tex").write_text("years of work")


OUTPUTS = {
    "expand": (EXPAND, "o.safetensors"),
    "reduce": (REDUCE, "o.safetensors"),
    "certify": (CERTIFY, "o.json"),
    "report": (REPORT, "o.html"),
    "path": (PATH, "o.saddle"),
    "path's figure": ((*PATH, "p.saddle", "--figure"), "o.svg"),
    "count's figure": (COUNT, "o.pdf"),
    "count's picture": (COUNT, "o.png"),
    "claims": (CLAIMS, "o"),
    "reproduce": (REPRODUCE, "o"),
    "demo": (DEMO, "o"),
}


@pytest.mark.parametrize(("words", "name"), OUTPUTS.values(), ids=OUTPUTS.keys())
def test_overwrite_replaces_a_command_s_own_whole_result_and_nothing_else(
    here: Path, capfd: pytest.CaptureFixture[str], words: tuple[str, ...], name: str
) -> None:
    assert run([*CERTIFY, "certificate.json"]) in (0, 1)
    command, out = [*words, name], here / name
    assert run(command) in (0, 1)
    assert run(command) == 2  # not asked to
    assert run([*command, "--overwrite"]) in (0, 1)
    whole = here / "whole"
    shutil.copytree(out, whole) if out.is_dir() else shutil.copy(out, whole)

    def foreign(_: Path) -> None:
        shutil.rmtree(out) if out.is_dir() else out.unlink()
        if out.suffix in ("", ".saddle"):
            out.mkdir()
            for known in ("README.txt", "result.json", "teacher.safetensors"):
                (out / known).write_text('{"my": 1}')
            (out / "tasks").mkdir()
        else:
            out.write_text("precious")

    harms: list[Callable[[Path], None]] = [foreign]
    harms += [_stray] if out.is_dir() else []
    harms += [_cut] if words not in (CLAIMS, REPRODUCE) else []
    capfd.readouterr()
    for harm in harms:
        harm(out)
        before = _listing(here)
        assert run([*command, "--overwrite"]) == 2, harm
        error = capfd.readouterr().err
        assert error.count("\n") == 1, error
        assert "is no" in error, error
        assert _listing(here) == before, harm
        shutil.rmtree(out) if out.is_dir() else out.unlink()
        shutil.copytree(whole, out) if whole.is_dir() else shutil.copy(whole, out)
    assert run([*command, "--overwrite"]) in (0, 1)  # the whole one again


def test_one_command_does_not_replace_another_s_result(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run([*EXPAND, "o.safetensors"]) == 0
    before = _listing(here)
    assert run([*REDUCE, "o.safetensors", "--overwrite"]) == 2
    assert (
        "is not an earlier result of saddlescope reduce (not written by saddlescope expand"
        not in capfd.readouterr().err
    )
    assert run([*CERTIFY, "o.safetensors", "--overwrite"]) == 2
    assert _listing(here) == before


def test_a_damaged_counterexample_or_a_link_in_it_keeps_the_whole_folder(here: Path) -> None:
    assert run([*CLAIMS, "o"]) == 0
    (here / "far").mkdir()
    (here / "far" / "mine").write_text("precious")
    for name, harm in (
        ("a link", lambda: (here / "o" / "more").symlink_to(here / "far")),
        ("another statement", lambda: shutil.copytree(here / "o" / "limit-as-printed", here / "o" / "copy")),
        ("a changed text", lambda: (here / "o" / "README.txt").write_text("mine")),
    ):
        shutil.copytree(here / "o", here / "kept", dirs_exist_ok=True)
        harm()
        assert run([*CLAIMS, "o", "--overwrite"]) == 2, name
        assert (here / "far" / "mine").exists()
        shutil.rmtree(here / "o")
        shutil.move(here / "kept", here / "o")
    assert run([*CLAIMS, "o", "--overwrite"]) == 0


def test_a_result_reached_by_a_link_is_replaced_behind_it(here: Path) -> None:
    save_path(synthetic_path(seed=1), here / "real.saddle")
    (here / "link.saddle").symlink_to("real.saddle")
    assert run([*PATH, "link.saddle", "--overwrite"]) == 0
    assert (here / "link.saddle").is_symlink()
    assert load_path(here / "real.saddle").losses.tolist() == synthetic_path().losses.tolist()
    assert sorted(os.listdir(here)) == ["data.npz", "link.saddle", "net.safetensors", "real.saddle"]


def test_nothing_is_put_into_another_result(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save_path(synthetic_path(), here / "a.saddle")
    assert run([*PATH, "a.saddle/b.saddle"]) == 2
    assert "lies inside another result" in capfd.readouterr().err


def test_a_page_of_a_file_whose_name_is_no_text_is_written(here: Path) -> None:
    assert run([*CERTIFY, "certificate.json"]) in (0, 1)
    odd = os.fsdecode(b"b\xff.json")
    shutil.copy("certificate.json", odd)
    assert run(["report", odd, "--quiet", "--out", "r.html"]) == 0
    assert "b\\udcff.json" in Path("r.html").read_text("utf-8")


def test_a_long_name_has_room_for_the_hidden_names_beside_it(here: Path) -> None:
    name = "x" * 240 + ".saddle"
    assert run([*PATH, name]) == 0
    assert run([*PATH, name, "--overwrite"]) == 0


# Reproductions.


def _save_figure(_: Any, file: Path, *, by: str) -> None:
    """Write what stands for a figure: the mark of its maker, and its end."""
    mark, end = FIGURES[file.suffix]
    write_file(file, mark + by.removeprefix("saddlescope ").encode() + end, "the figure")


def _toy(monkeypatch: pytest.MonkeyPatch, version: int = 1, stop: int = -1) -> list[int]:
    """Let the catalogue hold one experiment of three tasks that cost nothing; return the list of what it measured."""
    done: list[int] = []

    def measure(settings: dict[str, Any]) -> dict[str, Any]:
        if len(done) == stop:
            raise KeyboardInterrupt
        done.append(settings["x"])
        return {"x": settings["x"]}

    experiment = Experiment(
        name="toy",
        title="Toy",
        source="here",
        claims=(Claim("c", "here", "words"),),
        tasks=lambda size: {f"t{x}": {"x": x} for x in range(3 if size == "full" else 2)},
        measure=measure,
        judge=lambda _: (Judgement("c", "measured", "yes"),),
        version=version,
    )
    monkeypatch.setattr(module, "find", lambda _: (experiment, lambda _: axes_or_new(None).figure))
    monkeypatch.setattr(module, "save_figure", _save_figure)
    return done


def test_a_reproduction_that_dies_at_any_moment_completes_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "rc"
    _toy(monkeypatch)
    with dying(tmp_path, 0) as counted:
        reproduce("toy", out)
        moments = counted.count
    whole = set(_listing(tmp_path))
    assert moments > 15
    for at in range(1, moments + 1):
        shutil.rmtree(out)
        with dying(tmp_path, at), pytest.raises(Killed):
            reproduce("toy", out)
        kept = len(list((out / "tasks").glob("[!.]*"))) if (out / "tasks").is_dir() else 0
        done = _toy(monkeypatch)
        try:
            assert reproduce("toy", out).done == 3
            assert len(done) == 3 - kept  # what was finished is not computed again
        except RecordExistsError:  # it had come to its end
            assert (out / "toy.json").exists()
        assert set(_listing(tmp_path)) == whole, at


def test_a_finished_reproduction_stays_whole_while_it_is_computed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "rc"
    _toy(monkeypatch)
    reproduce("toy", out)
    before = _listing(out)
    _toy(monkeypatch, stop=2)
    with pytest.raises(KeyboardInterrupt):
        reproduce("toy", out, overwrite=True)
    assert {name: text for name, text in _listing(out).items() if not name.startswith("anew")} == before
    done = _toy(monkeypatch)
    with pytest.raises(RecordExistsError, match="finished"):
        reproduce("toy", out)
    assert reproduce("toy", out, overwrite=True).done == 3
    assert done == [2]  # the two tasks computed before the interruption are kept
    assert set(_listing(out)) == set(before)
    assert reproduce("toy", out, overwrite=True).done == 3
    assert done == [2, 0, 1, 2]


def test_another_size_does_not_replace_a_finished_reproduction_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _toy(monkeypatch)
    reproduce("toy", tmp_path / "rc", size="quick")
    before = _listing(tmp_path)
    with pytest.raises(RecordExistsError, match="a finished reproduction of another size"):
        reproduce("toy", tmp_path / "rc")
    assert _listing(tmp_path) == before
    assert reproduce("toy", tmp_path / "rc", overwrite=True).done == 3


@pytest.mark.parametrize("name", ["toy.png", "toy.md", "toy.json", "notes.txt", "tasks/mine.json"])
def test_a_user_s_file_of_the_same_name_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    _toy(monkeypatch)
    (tmp_path / "rc" / "tasks").mkdir(parents=True)
    (tmp_path / "rc" / name).write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(RecordExistsError, match="no folder of a reproduction"):
            reproduce("toy", tmp_path / "rc", overwrite=overwrite)
    assert _listing(tmp_path / "rc") == {name: b"precious"}


# Interruptions.

SLEEPER = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background would inherit that it is ignored
import saddlescope.paths.find
def find(*_, **__):
    print("begun", flush=True)
    time.sleep(60)
saddlescope.paths.find.find_path = find
from saddlescope.cli.main import main
sys.argv = ["saddlescope", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_command_with_one_line_and_130(here: Path, number: int) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", SLEEPER, *PATH, "o.saddle"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=here
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert error.endswith("interrupted\n")
    assert "Traceback" not in error
    assert sorted(os.listdir(here)) == ["data.npz", "net.safetensors"]


def test_an_interruption_does_not_wait_for_tasks_in_other_processes(tmp_path: Path) -> None:
    tasks = plan("waits", 1, {f"task {k}": {"seconds": 0.0 if k == 0 else 300.0} for k in range(3)})

    def interrupt(done: int, *_: Any) -> None:
        if done:
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        sweep(wait, tasks, tmp_path, workers=2, progress=interrupt)
    assert time.monotonic() - began < 60
    assert len(os.listdir(tmp_path)) == 1  # what was finished is kept


def test_json_of_a_report_counts_the_bytes_that_are_there(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run([*CERTIFY, "certificate.json"]) in (0, 1)
    assert run(["report", "certificate.json", "--json", "--out", "r.html"]) == 0
    assert json.loads(capfd.readouterr().out)["bytes"] == Path("r.html").stat().st_size
