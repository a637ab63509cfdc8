"""The command line: exit codes, one JSON document, one clear line for every mistake, and nothing written then."""

import html
import json
import os
import pty
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

from saddlescope.cli.main import run
from saddlescope.data.weights import save_weights
from saddlescope.models.mlp import MLP
from saddlescope.records.store import load_path

TRAIN = ("train", "--widths", "2,3,1", "--activation", "tanh", "--adam-steps", "50")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder with a small teacher and its data."""
    monkeypatch.chdir(tmp_path)
    network = MLP((2, 3, 1), "tanh")
    generator = np.random.default_rng(0)
    teacher = {name: generator.normal(size=value.shape) for name, value in network.initial(0).items()}
    x = generator.normal(size=(60, 2))
    y = np.tanh(x @ teacher["0.weight"].T + teacher["0.bias"]) @ teacher["2.weight"].T + teacher["2.bias"]
    save_weights("net.safetensors", network, teacher)
    np.savez("data.npz", inputs=x, targets=y)
    return tmp_path


PATH = ("path", "net.safetensors", "--data", "data.npz", "--layer", "1", "--pair", "0,2", "--steps", "8")


def test_path_prints_one_json_document_and_writes_the_result(here, capfd):
    code = run([*PATH, "--out", "run.saddle", "--json", "--figure", "run.svg"])
    captured = capfd.readouterr()
    answer = json.loads(captured.out, parse_constant=pytest.fail)
    assert captured.err == ""
    assert code == (0 if answer["ending"] == "permutation-point" else 1)
    keys = ("loss_at_point", "barrier", "distances", "losses", "gradient_norms", "accuracy", "continuous", "events")
    assert all(key in answer for key in keys)
    assert len(answer["losses"]) == len(answer["distances"])
    assert (here / "run.saddle" / "result.json").is_file()
    assert (here / "run.svg").is_file()


def test_path_says_the_verdict_first_on_standard_error(here, capfd):
    run([*PATH, "--out", "run.saddle"])
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("ending: ")
    assert "\r" not in captured.err
    assert "\x1b" not in captured.err


def test_train_writes_a_network_and_says_whether_it_converged(here, capfd):
    code = run([*TRAIN, "--data", "data.npz", "--out", "new.safetensors", "--json"])
    answer = json.loads(capfd.readouterr().out)
    assert (here / "new.safetensors").is_file()
    assert code == (0 if answer["outcome"] == "converged" else 1)
    assert answer["gradient_norm"] <= 1e-10 or code == 1


def test_a_training_that_does_not_converge_exits_with_one(here, capfd):
    code = run([*TRAIN, "--data", "data.npz", "--out", "new.safetensors", "--newton-steps", "0", "--json"])
    assert code == 1
    assert json.loads(capfd.readouterr().out)["outcome"] == "max-steps"


def _write(name, content):
    with open(name, "wb") as file:
        file.write(content)


MISTAKES = {
    "unknown command": (["pth"], "Did you mean"),
    "unknown option": ([*PATH, "--out", "o", "--distanse", "tied"], "distan"),
    "missing option": (["path", "net.safetensors"], "requires"),
    "layer out of range": ([*PATH[:4], "--layer", "2", "--out", "o"], "layer=2; expected 1 to 1"),
    "neuron out of range": ([*PATH[:6], "--pair", "0,3", "--out", "o"], "neuron=3; expected 0 to 2"),
    "twice the same": ([*PATH[:6], "--pair", "1,1", "--out", "o"], "two different neurons"),
    "no pair": ([*PATH[:6], "--pair", "a,b", "--out", "o"], "pair=a,b"),
    "unknown distance": ([*PATH, "--distance", "far", "--out", "o"], "distance=far; expected incoming, joint, tied"),
    "unknown activation": ([*TRAIN[:4], "tanhh", "--data", "data.npz", "--out", "o"], "Did you mean tanh?"),
    "wrong widths": (["train", "--widths", "2,x", "--activation", "relu", "--data", "toy", "--out", "o"], "widths=2,x"),
    "data do not fit": ([*PATH[:2], "--data", "digits", "--layer", "1", "--out", "o"], "64; expected 2"),
    "no such data": ([*PATH[:2], "--data", "none.npz", "--layer", "1", "--out", "o"], "no such file"),
    "data not what its name says": ([*PATH[:2], "--data", "fake.npz", "--layer", "1", "--out", "o"], "its name says"),
    "data not finite": ([*PATH[:2], "--data", "nan.npz", "--layer", "1", "--out", "o"], "not finite"),
    "data empty": ([*PATH[:2], "--data", "empty.npz", "--layer", "1", "--out", "o"], "empty"),
    "no such network": (["path", "none", "--data", "toy", "--layer", "1", "--out", "o"], "no such file"),
    "network truncated": (["path", "cut.safetensors", "--data", "toy", "--layer", "1", "--out", "o"], "safetensors"),
    "no folder for the output": ([*PATH, "--out", "no/o"], "cannot be written to"),
    "figure of unknown kind": ([*PATH, "--out", "o", "--figure", "f.bmp"], ".png, .pdf, .svg"),
}


@pytest.mark.parametrize(("words", "text"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_line_exit_code_two_and_nothing_written(here, capfd, words, text):
    _write("fake.npz", b"this is a text")
    np.savez("nan.npz", inputs=np.full((3, 2), np.nan), targets=np.ones((3, 1)))
    np.savez("empty.npz", inputs=np.ones((0, 2)), targets=np.ones((0, 1)))
    with open("net.safetensors", "rb") as file:
        _write("cut.safetensors", file.read()[:-9])
    before = sorted(os.listdir())
    assert run(words) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("error: ")
    assert text in captured.err
    assert "Traceback" not in captured.err
    assert sorted(os.listdir()) == before


def test_outputs_that_exist_are_refused_before_computing(here, capfd):
    for words in ([*PATH, "--out", "there"], [*TRAIN, "--data", "data.npz", "--out", "there.safetensors"]):
        (here / "there").mkdir(exist_ok=True)
        _write("there.safetensors", b"precious")
        assert run(words) == 2
        assert "exists" in capfd.readouterr().err
    assert (here / "there.safetensors").read_bytes() == b"precious"
    assert run(["demo", "--out", "there"]) == 2


def test_an_interrupt_exits_with_130(here, capfd, monkeypatch):
    from saddlescope.paths import find

    def stop(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(find, "find_path", stop)
    assert run([*PATH, "--out", "o"]) == 130
    assert not (here / "o").exists()


def test_debug_shows_the_traceback(here):
    from saddlescope.errors import WeightsError

    with pytest.raises(WeightsError):
        run(["path", "none", "--data", "toy", "--layer", "1", "--out", "o", "--debug"])


def test_help_names_an_example_for_every_command(capfd):
    for command in ("demo", "train", "path"):
        assert run([command, "--help"]) == 0
        assert f"saddlescope {command}" in capfd.readouterr().out


def test_a_terminal_gets_a_bar_with_time_left():
    """Run in a pseudo-terminal; the bar's words are there, and standard output is still only JSON."""
    code = (
        "import sys, time\n"
        "from saddlescope.cli.progress import progress_bar\n"
        "with progress_bar() as report:\n"
        "    assert report is not None\n"
        "    for k in range(3): report(k, 3, 'distance'); time.sleep(0.15)\n"
    )
    main_end, other_end = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", code],
        stderr=other_end,
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(other_end)
    shown = os.read(main_end, 100000).decode()
    os.close(main_end)
    assert "left" in shown
    assert done.stdout == b""


def test_a_trained_network_tells_its_seed_and_the_command_that_makes_it_again(here, capfd):
    words = [*TRAIN, "--data", "data.npz", "--out", "new.safetensors", "--seed", "5", "--weight-decay", "1e-3"]
    run([*words, "--newton-steps", "3", "--quiet"])
    run(["path", "new.safetensors", *PATH[2:], "--weight-decay", "1e-3", "--out", "r.saddle", "--quiet"])
    told = json.loads((here / "r.saddle" / "result.json").read_text())["problem"]
    assert told["seed"] == "5"
    command = shlex.split(told["trained by"])
    assert command[0] == "saddlescope"
    before = (here / "new.safetensors").read_bytes()
    run([*command[1:], "--overwrite", "--quiet"])
    assert (here / "new.safetensors").read_bytes() == before
    assert run(["report", "r.saddle", "--out", "r.html", "--quiet"]) == 0
    page = html.unescape((here / "r.html").read_text())
    assert told["trained by"] in page
    # The page's command for the path gives the stored losses again.
    path = re.search(r"<code>(saddlescope path [^<]*)</code>", page)
    run([*shlex.split(path[1])[1:-2], "--out", "again.saddle", "--quiet"])
    again, first = (load_path(name) for name in ("again.saddle", "r.saddle"))
    np.testing.assert_array_equal(again.losses, first.losses)
