"""The terminal's comforts: completion, a table with the verdict first, colours on a terminal only, quiet, verbose."""

import os
import pty
import shutil
import subprocess
import sys

import pytest

from saddlescope.cli.console import Summary, paint, show, table
from saddlescope.cli.main import build, run


def _script(shell: str, capfd: pytest.CaptureFixture[str]) -> str:
    assert run(["completion", shell]) == 0
    captured = capfd.readouterr()
    assert captured.err == ""
    return captured.out


def _completed(script: str, words: list[str]) -> list[str]:
    """Return what bash offers for the last of the words, in a bash of its own that has read the script."""
    line = " ".join(words)
    quoted = " ".join(f"'{word}'" for word in words)
    # The function that `complete` registered is called as bash calls it on the Tab key.
    ask = (
        f"{script}\n"
        "name=$(complete -p saddlescope | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n"
        f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; COMP_LINE='{line}'; COMP_POINT={len(line)}\n"
        f"$name saddlescope '{words[-1]}' '{words[-2]}'\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "--norc", "--noprofile"], input=ask, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stderr == ""
    return [word.strip() for word in done.stdout.split("\n") if word.strip()]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_names_every_command_and_is_valid_for_its_shell(
    shell: str, capfd: pytest.CaptureFixture[str]
) -> None:
    script = _script(shell, capfd)
    for command in ("demo", "train", "path", "certify", "walk", "count", "expand", "reduce", "shrink", "completion"):
        assert command in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True, timeout=30)


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["saddlescope", "cert"], ["certify"]),
        (["saddlescope", "walk", "--tol"], ["--tolerance"]),
        (["saddlescope", "completion", "f"], ["fish"]),
    ],
)
def test_bash_completes_a_command_an_option_and_a_value(
    words: list[str], expected: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert _completed(_script("bash", capfd), words) == expected


def test_an_unknown_shell_is_one_line_and_exit_code_two(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", "tcsh"]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1


def test_the_program_prints_its_script_when_run_as_a_process() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "saddlescope", "completion", "bash"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, timeout=60)
    assert "complete " in done.stdout
    assert done.stderr == ""


RESULT_FILE = Summary("saddle: index 1", good=True, reasons=["one"], rows=[("loss", "1"), ("flat", "a"), ("flat", "b")])


def test_a_table_is_aligned_and_writes_a_repeated_name_once() -> None:
    assert table(RESULT_FILE.rows) == ["  loss  1", "  flat  a", "        b"]


def test_the_verdict_comes_first_and_details_only_for_those_who_ask(capfd: pytest.CaptureFixture[str]) -> None:
    told = Summary(
        RESULT_FILE.verdict, RESULT_FILE.good, RESULT_FILE.reasons, RESULT_FILE.rows, details=[("setting steps", "7")]
    )
    show(told)
    brief = capfd.readouterr()
    assert brief.out == ""
    assert brief.err.splitlines()[:2] == ["saddle: index 1", "  because one"]
    assert "steps" not in brief.err
    show(told, verbose=True)
    full = capfd.readouterr().err
    assert "setting steps  7" in full
    assert f"python {sys.version.split()[0]}" in full
    show(told, quiet=True, verbose=True)
    assert capfd.readouterr().err == ""


def _on_a_terminal(environment: dict[str, str]) -> str:
    """Return what a process writes that shows a verdict on a terminal of 60 columns."""
    code = (
        "from saddlescope.cli.console import Summary, show;"
        "show(Summary('fails', good=False, reasons=['why ' * 30], rows=[('reason', 'word ' * 30), ('name', 'value')]))"
    )
    mine, theirs = pty.openpty()
    seen = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm", "COLUMNS": "60", **environment}
    subprocess.run([sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs, env=seen, check=True)
    os.close(theirs)
    text = os.read(mine, 10_000).decode()
    os.close(mine)
    return text


def test_colours_and_wrapping_are_for_terminals_and_can_be_refused(capfd: pytest.CaptureFixture[str]) -> None:
    text = _on_a_terminal({"NO_COLOR": ""})
    assert text.startswith("\x1b[1;31mfails\x1b[0m")
    plain = _on_a_terminal({"NO_COLOR": "1"})
    assert "\x1b" not in plain
    assert plain.startswith("fails")
    assert max(len(line) for line in plain.splitlines()) <= 60
    assert len(plain.splitlines()) > 5
    assert plain.splitlines()[2].startswith(" " * 10 + "why")  # a long reason goes on below its beginning
    assert "\x1b" not in _on_a_terminal({"TERM": "dumb", "NO_COLOR": ""})
    show(RESULT_FILE)  # no terminal here
    assert "\x1b" not in capfd.readouterr().err
    assert paint("word", "31") == "word"


def test_every_command_that_prints_for_people_has_quiet_and_verbose() -> None:
    application = build()
    for name in application:
        if name.startswith("-") or name == "completion":
            continue
        options = {option for argument in application[name].assemble_argument_collection() for option in argument.names}
        assert {"--json", "--quiet", "--verbose"} <= options, name


def test_json_is_the_same_whatever_the_level(capfd: pytest.CaptureFixture[str]) -> None:
    words = ["count", "--small", "4", "--wide", "10", "--json"]
    answers = []
    for level in ([], ["--quiet"], ["--verbose"]):
        assert run([*words, *level]) == 0
        captured = capfd.readouterr()
        assert captured.err == ""
        answers.append(captured.out)
    assert len(set(answers)) == 1
    assert run(["count", "--small", "4", "--wide", "10", "--verbose"]) == 0
    assert "versions" in capfd.readouterr().err
