"""A study's file: what a file may hold, and one clear line, before anything is computed, for what it may not."""

import contextlib
import inspect
import json
import os
import shutil
from dataclasses import MISSING, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import saddlescope.paths.find
import saddlescope.training.train
from references.dying import Killed, dying
from references.synthetic_paths import synthetic_data, synthetic_path
from saddlescope.cli.certify import certify
from saddlescope.cli.main import run
from saddlescope.cli.path import path
from saddlescope.cli.train import train
from saddlescope.cli.walk import walk
from saddlescope.errors import SettingsError
from saddlescope.outcomes import Outcome
from saddlescope.records.store import load_path
from saddlescope.workflows.configuration import CertifyTable, PathTable, Study, TrainTable, WalkTable, load_study

WHOLE = """
data = "toy"
weight_decay = 0
[train]
widths = [2, 5, 1]
activation = "tanh"
[path]
layer = 1
pairs = [[0, 3], [1, 2]]
[certify]
prove = true
[walk]
to = [3, 1, 2, 0, 4]
[report]
"""


def _load(tmp_path: Path, text: str) -> Study:
    file = tmp_path / "study.toml"
    file.write_text(text, encoding="utf-8")
    return load_study(file)


def test_a_whole_study_is_read_with_its_defaults(tmp_path: Path) -> None:
    study = _load(tmp_path, WHOLE)
    assert study.train == TrainTable(widths=(2, 5, 1), activation="tanh")
    assert study.path == PathTable(layer=1, pairs=((0, 3), (1, 2)))
    assert study.certify == CertifyTable(prove=True)
    assert study.walk == WalkTable(to=(3, 1, 2, 0, 4))
    assert study.report is not None
    assert isinstance(study.weight_decay, float)


@pytest.mark.parametrize(
    ("table", "command"), [(TrainTable, train), (PathTable, path), (CertifyTable, certify), (WalkTable, walk)]
)
def test_the_tables_have_the_commands_defaults(table: Any, command: Any) -> None:
    options = inspect.signature(command).parameters
    compared = 0
    for entry in fields(table):
        if entry.name in options and entry.default is not MISSING:
            assert entry.default == options[entry.name].default, entry.name
            compared += 1
    assert compared >= 2


BASE = 'data = "toy"\nnetwork = "net.safetensors"\n'
PATH = BASE + "[path]\nlayer = 1\n"
MISTAKES = {
    "unknown key": (PATH + 'solvr = "newton"', r"unknown key in \[path\]: key=solvr. Did you mean solver\?"),
    "unknown table": (BASE + "[certfy]", r"unknown key in the top of the file: key=certfy. Did you mean certify\?"),
    "nothing near": (PATH + "qqqq = 1", "key=qqqq; expected layer, pairs, distance"),
    "missing key": (BASE + "[path]", r"a key is missing in \[path\]: key=layer"),
    "a text for a number": (PATH + 'steps = "many"', "path.steps='many'; expected a whole number, 1 or more"),
    "a truth for a number": (PATH + "steps = true", "path.steps=True; expected a whole number"),
    "a number for a truth": (PATH + "[certify]\nprove = 1", "certify.prove=1; expected true or false"),
    "out of range": (PATH + "steps = 0", "path.steps=0; expected a whole number, 1 or more"),
    "a reach of one": (PATH + "reach = 1", "path.reach=1; expected a number, between 0 and 1"),
    "not a number": (PATH + "tolerance = nan", "path.tolerance=nan; expected a number, above 0"),
    "no choice": (PATH + 'distance = "far"', "path.distance='far'; expected incoming, joint, tied"),
    "a word for pairs": (PATH + 'pairs = "some"', 'path.pairs=\'some\'; expected "all", "closest", or a list'),
    "a pair of itself": (PATH + "pairs = [[1, 1]]", "two different neurons"),
    "a pair twice": (PATH + "pairs = [[0, 1], [1, 0]]", "each pair once"),
    "a pair of three": (PATH + "pairs = [[0, 1, 2]]", "two different neurons"),
    "no pairs": (PATH + "pairs = []", "two different neurons"),
    "a neuron left out": (PATH + "[walk]\nto = [0, 2]", "each neuron once, from 0"),
    "no neurons": (PATH + "[walk]\nto = []", "each neuron once, from 0"),
    "a table that is none": (BASE + "path = 3", "path=3; expected a table"),
    "no network": ('data = "toy"', "network=neither"),
    "two networks": (WHOLE.replace('data = "toy"', BASE), "network=both"),
    "no runs to certify": (BASE + "[certify]", r"certify=given; expected \[path\]"),
    "labels of a network": (BASE + 'loss = "cross-entropy"\ntarget = "network"', "needs the data's labels"),
    "no TOML": ("data = ", "is no TOML"),
}


@pytest.mark.parametrize(("text", "words"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_in_a_study_s_file_is_told_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        _load(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_a_study_s_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_study(tmp_path / "none.toml")


TINY = (Path(__file__).parent.parent / "examples" / "study.toml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, int]:
    """The example's study, run once: its file, its folder, its exit code."""
    here = tmp_path_factory.mktemp("study")
    (here / "study.toml").write_text(TINY, encoding="utf-8")
    return here / "study.toml", here / "out", run(["study", str(here / "study.toml"), "--out", str(here / "out")])


def test_the_example_makes_runs_certificates_walks_and_a_page(ended) -> None:
    _, out, code = ended
    told = json.loads((out / "study.json").read_text())
    found = [row["ending"] == "permutation-point" and row["verdict"] != "undecided" for row in told["runs"]]
    assert code == (0 if all(found) else 1)
    assert [row["pair"] for row in told["runs"]] == [[0, 1], [2, 3]]
    for row in told["runs"]:
        path = load_path(row["run"])
        assert path.ending.value == row["ending"]
        name = Path(row["run"]).stem
        point = row["ending"] == "permutation-point"
        assert (out / f"{name}.walk.json").is_file() == point
        assert (out / f"{name}.certificate.json").is_file() == point
    assert any(found)
    assert "<h2" in (out / "report.html").read_text(encoding="utf-8")


def test_run_again_it_keeps_what_is_there_to_the_byte(ended, capfd) -> None:
    file, out, code = ended
    before = {str(place): place.stat().st_mtime_ns for place in out.rglob("arrays.nc")}
    assert run(["study", str(file), "--out", str(out), "--json"]) == code
    told = json.loads(capfd.readouterr().out)
    assert all(row["kept"] for row in told["runs"])
    assert before == {str(place): place.stat().st_mtime_ns for place in out.rglob("arrays.nc")}


def test_a_run_that_is_missing_is_all_that_is_computed(ended) -> None:
    file, out, code = ended
    shutil.rmtree(out / "pair-0-1.saddle")
    assert run(["study", str(file), "--out", str(out), "--quiet"]) == code
    told = json.loads((out / "study.json").read_text())
    assert [row["kept"] for row in told["runs"]] == [False, True]


def test_another_study_is_not_written_over_the_first(ended, capfd) -> None:
    file, out, _ = ended
    other = file.with_name("other.toml")
    other.write_text(TINY.replace("steps = 20", "steps = 21"), encoding="utf-8")
    held = (out / "study.json").read_bytes()
    assert run(["study", str(other), "--out", str(out)]) == 2
    error = capfd.readouterr().err
    assert error == ("error: the output holds another study: changed=path. Use another --out, or --overwrite.\n")
    assert (out / "study.json").read_bytes() == held


def test_a_folder_that_is_no_study_is_left_alone(ended, tmp_path, capfd) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    assert run(["study", str(ended[0]), "--out", str(tmp_path), "--overwrite"]) == 2
    assert "is no study's" in capfd.readouterr().err
    assert [place.name for place in tmp_path.iterdir()] == ["letter.txt"]


def test_pairs_and_walk_must_fit_the_layer(tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(tmp_path)
    short = TINY.replace("adam_steps = 1500", "adam_steps = 1\nnewton_steps = 0")
    for old, new, word in (
        ("[2, 3]]", "[2, 4]]", "no such neuron"),
        ("to = [1, 0, 3, 2]", "to = [1, 0]", "not a permutation of the layer"),
        ("layer = 1", "layer = 2", "no such hidden layer"),
    ):
        Path("s.toml").write_text(short.replace(old, new), encoding="utf-8")
        assert run(["study", "s.toml", "--out", f"out-{word[:5]}-{len(word)}"]) == 2
        error = capfd.readouterr().err.splitlines()[-1]
        assert word in error


def test_an_unknown_key_is_refused_with_the_nearest_name_before_anything_is_made(tmp_path, capfd) -> None:
    file = tmp_path / "s.toml"
    file.write_text(TINY.replace("steps = 20", "stepps = 20"), encoding="utf-8")
    assert run(["study", str(file), "--out", str(tmp_path / "out")]) == 2
    assert "Did you mean steps?" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


# What is in a study's folder. Training and paths are replaced by ready ones: only what becomes of files is tried.

QUICK = """
data = "data.npz"
[train]
widths = [2, 3, 1]
activation = "tanh"
[path]
layer = 1
pairs = [[0, 1], [0, 2]]
[report]
"""


class _Counts:
    """How often was trained, and which pairs were followed; at ``stop`` paths an interruption comes."""

    trained = 0
    stop: BaseException | None = None

    def __init__(self) -> None:
        self.pairs: list[Any] = []


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Counts:
    """A working folder with a study and its data, where networks and paths are ready at once."""
    counts = _Counts()
    data = synthetic_data()
    np.savez(tmp_path / "data.npz", inputs=data.inputs, targets=np.asarray(data.targets))
    (tmp_path / "s.toml").write_text(QUICK, encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    def find(problem: Any, parameters: Any, *, pair: Any, **_: Any) -> Any:
        if counts.stop is not None and counts.pairs:
            raise counts.stop
        counts.pairs.append(pair)
        return replace(synthetic_path(ending=Outcome.CHANNEL), pair=pair, fingerprints=problem.fingerprint(parameters))

    def train_quickly(problem: Any, *, seed: int, **_: Any) -> Any:
        counts.trained += 1
        parameters = problem.network.initial(seed)
        return SimpleNamespace(parameters=parameters, outcome="ready", loss=0.0, gradient_norm=0.0)

    monkeypatch.setattr(saddlescope.paths.find, "find_path", find)
    monkeypatch.setattr(saddlescope.training.train, "train", train_quickly)
    return counts


def _study(*options: str, file: str = "s.toml") -> int:
    return run(["study", file, "--out", "st", "--quiet", *options])


def _files(folder: str = "st") -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def _mend(old: str, new: str) -> None:
    text = Path("s.toml").read_text(encoding="utf-8")
    assert old in text
    Path("s.toml").write_text(text.replace(old, new), encoding="utf-8")


def _change_data() -> None:
    with np.load("data.npz") as data:
        np.savez("data.npz", inputs=3 * data["inputs"], targets=-data["targets"])


def test_a_network_trained_on_data_that_then_changed_is_not_gone_on_with(quick, capfd) -> None:
    quick.stop = KeyboardInterrupt()
    assert _study() == 130
    assert quick.trained == 1
    before = _files()
    _change_data()
    quick.stop = None
    assert _study() == 2
    assert "another study: changed=the contents of the data." in capfd.readouterr().err
    assert _files() == before
    assert _study("--overwrite") == 1
    assert quick.trained == 2


def test_a_walk_with_a_penalty_is_refused_before_training(quick, capfd) -> None:
    _mend('data = "data.npz"', 'data = "data.npz"\nweight_decay = 0.1')
    _mend("[report]", "[walk]\nto = [2, 1, 0]")
    assert _study() == 2
    assert "not constant along a walk" in capfd.readouterr().err
    assert (quick.trained, Path("st").exists()) == (0, False)


def test_an_interrupted_study_goes_on_where_it_was(quick) -> None:
    quick.stop = KeyboardInterrupt()
    assert _study() == 130
    assert quick.pairs == [(0, 1)]
    quick.stop = None
    assert _study() == 1
    assert (quick.trained, quick.pairs) == (1, [(0, 1), (0, 2)])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("layer = 1", "layer = 9"),
        ("[0, 2]]", "[0, 3]]"),
        ("[report]", "[walk]\nto = [1, 0]"),
        ("[report]", '[report]\nname = "../mine.html"'),
        ("[report]", '[report]\nname = "sub/mine.html"'),
        ("[report]", '[report]\nname = "C:mine.html"'),
        ("[report]", '[report]\nname = "a\\nb.html"'),
        ("[report]", '[report]\nname = ".html"'),
        ("widths = [2, 3, 1]", "widths = [5, 3, 1]"),
        ("layer = 1", "layer = 1\nsteps = 2"),
        ("layer = 1", 'layer = 1\nsolver = "creased"'),
        ('activation = "tanh"', 'activation = "relu"\n[certify]\nprove = true'),
        ('activation = "tanh"', 'activation = "tahn"'),
        ('data = "data.npz"', 'data = "data.npz"\nloss = "cross-entropy"'),
        ('data = "data.npz"', 'data = "none.npz"'),
    ],
)
def test_all_that_can_be_checked_is_checked_before_anything_is_written(quick, capfd, old: str, new: str) -> None:
    before = sorted(os.listdir())
    _mend(old, new)
    assert _study() == 2
    assert capfd.readouterr().err.count("\n") == 1
    assert sorted(os.listdir()) == before
    assert (quick.trained, quick.pairs) == (0, [])
    _mend(new, old)
    assert _study() == 1


@pytest.mark.parametrize("left", ["an empty folder", "another study's settings alone"])
def test_a_folder_in_which_nothing_was_computed_does_not_block_a_study(quick, left: str) -> None:
    Path("st").mkdir()
    if left != "an empty folder":
        quick.stop = KeyboardInterrupt()
        quick.pairs.append("stop at once")
        _mend("layer = 1", "layer = 1\nsteps = 7")
        assert _study() == 130
        Path("st/net.safetensors").unlink()
        assert sorted(os.listdir("st")) == ["asked.json"]
        quick.stop = None
        _mend("steps = 7", "steps = 8")
    assert _study() == 1


@pytest.mark.parametrize("text", ["[]", "{", "", "\xff"])
def test_damaged_settings_are_told_and_overwritten_when_asked(quick, capfd, text: str) -> None:
    assert _study() == 1
    Path("st/asked.json").write_text(text, encoding="latin-1")
    before = _files()
    assert _study() == 2
    assert "asked.json is damaged" in capfd.readouterr().err
    assert _files() == before
    assert _study("--overwrite") == 1
    assert quick.trained == 2


@pytest.mark.parametrize("name", ["pair-0-1.saddle/arrays.nc", "pair-0-1.saddle/result.json", "net.safetensors"])
def test_what_is_damaged_in_a_study_is_computed_anew(quick, name: str) -> None:
    assert _study() == 1
    whole = _files()
    Path("st", name).write_bytes(whole[name][:-50])
    assert _study() == 1
    assert (quick.trained, quick.pairs[2:]) == ((2, []) if name == "net.safetensors" else (1, [(0, 1)]))
    assert set(_files()) == set(whole)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("thesis.tex", "mine"),
        ("mine.html", "<html></html>"),
        ("pair-0-1.saddle/notes.txt", "mine"),
        ("pair-0-1.walk.json", '{"kind": "my walk"}'),
        ("study.json", '{"kind": "my study"}'),
        ("asked.json", '{"my": 1}'),
    ],
)
def test_a_study_with_anything_of_others_in_it_is_not_overwritten(quick, capfd, name: str, text: str) -> None:
    assert _study() == 1
    Path("st", name).write_text(text)
    _mend("layer = 1", "layer = 1\nsteps = 7")
    before = _files()
    assert _study("--overwrite") == 2
    assert "is no study's" in capfd.readouterr().err
    assert _files() == before


def test_the_old_study_stays_until_the_new_is_whole_and_the_new_goes_on(quick) -> None:
    assert _study() == 1
    before = _files()
    _mend("layer = 1", "layer = 1\nsteps = 7")
    quick.pairs.clear()
    quick.stop = KeyboardInterrupt()
    assert _study("--overwrite") == 130
    assert _files() == before
    quick.stop = None
    assert _study("--overwrite") == 1
    assert (quick.trained, quick.pairs) == (2, [(0, 1), (0, 2)])  # neither training nor the first path were lost
    assert set(_files()) == set(before)
    assert json.loads(_files()["asked.json"])["path"]["steps"] == 7
    assert sorted(os.listdir()) == ["data.npz", "s.toml", "st"]
    told = json.loads(_files()["study.json"])
    assert [row["run"] for row in told["runs"]] == ["st/pair-0-1.saddle", "st/pair-0-2.saddle"]
    assert (told["network"], told["report"]) == ("st/net.safetensors", "st/report.html")
    assert load_path("st/pair-0-1.saddle").problem["network"] == "st/net.safetensors"


def test_a_study_that_is_overwritten_is_old_or_new_whenever_its_process_dies(
    quick, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("saddlescope.report.page.render", lambda *_, **__: PAGE)
    assert _study() == 1
    steps, last = 7, _files()["asked.json"]
    _mend("layer = 1", "layer = 1\nsteps = 7")
    with dying(tmp_path, 0) as counted:
        assert _study("--overwrite") == 1
        moments = counted.count
    assert moments > 30
    for at in range(1, moments + 1, 3):
        last = _files()["asked.json"]
        _mend(f"steps = {steps}", f"steps = {steps + 1}")
        steps += 1
        with dying(tmp_path, at), contextlib.suppress(Killed):
            _study("--overwrite")
        found = _files()
        assert {"study.json", "net.safetensors", "pair-0-2.saddle/arrays.nc", "report.html"} <= set(found), at
        assert found["asked.json"] == last or json.loads(found["asked.json"])["path"]["steps"] == steps
        assert _study("--overwrite") == 1
        assert json.loads(_files()["asked.json"])["path"]["steps"] == steps
        assert sorted(os.listdir()) == ["data.npz", "s.toml", "st"], at


PAGE = "<!doctype html>\n<title>x: saddlescope</title><footer><p>saddlescope 0</footer></html>\n"


def test_a_walk_of_another_study_is_not_shown(ended, tmp_path: Path) -> None:
    file, out, code = ended
    shutil.copytree(out, tmp_path / "st")
    text = file.read_text(encoding="utf-8")
    (tmp_path / "s.toml").write_text(text.replace("[walk]\nto = [1, 0, 3, 2]\n", ""), encoding="utf-8")
    assert "All moves" in (out / "report.html").read_text(encoding="utf-8")
    assert run(["study", str(tmp_path / "s.toml"), "--out", str(tmp_path / "st"), "--quiet"]) == code
    assert list((tmp_path / "st").glob("*.walk.json"))
    assert "All moves" not in (tmp_path / "st" / "report.html").read_text(encoding="utf-8")


def test_a_page_s_certificates_are_of_the_study_s_own_network(ended) -> None:
    assert "network or data are not at hand" not in (ended[1] / "report.html").read_text(encoding="utf-8")
