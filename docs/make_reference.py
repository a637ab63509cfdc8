"""Write docs/reference.md and docs/commands.md from the public names and the real help texts.

Run it after a change of either: ``python docs/make_reference.py``. A test compares its pages with the stored ones.
"""

import os
import subprocess
import sys
from pathlib import Path

import saddlescope
from saddlescope.cli.main import build

HERE = Path(__file__).parent


def reference() -> str:
    """One entry per public name, at its home, for mkdocstrings."""
    homes = {**saddlescope._HOMES, **{name: None for name in saddlescope._MODULES}}
    parts = ["# Reference\n\nEvery public name of `saddlescope`, from the docstrings."]
    for name in sorted(homes):
        target = f"{homes[name]}.{name}" if homes[name] else saddlescope._MODULES[name]
        parts.append(f"## {name}\n\n::: {target}")
    return "\n\n".join(parts) + "\n"


def names_of_commands() -> list[str]:
    """The application's own commands, without its flags."""
    return [name for name in build() if not name.startswith("-")]


def commands() -> str:
    """The help text of each command, as a terminal of 100 columns shows it."""
    parts = ["# Command line\n\nThe help texts themselves."]
    for name in names_of_commands():
        run = [sys.executable, "-m", "saddlescope", name, "--help"]
        seen = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
        text = subprocess.run(run, capture_output=True, text=True, check=True, env=seen).stdout
        lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
        parts.append(f"## {name}\n\n```text\n{lines}\n```")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    (HERE / "reference.md").write_text(reference(), encoding="utf-8")
    (HERE / "commands.md").write_text(commands(), encoding="utf-8")
