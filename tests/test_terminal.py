"""The terminal's comforts: shells complete commands and options by the script that the program prints."""

import os
import shutil
import subprocess
import sys

import pytest

from saddlescope.cli.main import run


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
