"""Write docs/reference.md and docs/commands.md from the public names and the real help texts.

Run it after a change of either: ``python docs/make_reference.py``. A test compares its pages with the stored ones.
"""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import saddlescope
from saddlescope.cli.main import build

HERE = Path(__file__).parent


# Public beside the names of `saddlescope` itself: all that these modules define without an underscore.
FURTHER = {
    "Counting": ["counting.closed_form", "counting.enumerate", "counting.regimes"],
    "Data": ["data.data", "data.sources"],
    "Results": [
        "critical.result",
        "paths.result",
        "valleys.result",
        "resize.result",
        "exchanges.result",
        "training.train",
        "workflows.shrunk",
        "workflows.escaped",
    ],
    "Plots": ["plots.path", "plots.neurons", "plots.spectrum", "plots.surface", "plots.walk", "plots.regimes"],
    "Around a permutation point": ["workflows.merge_surface", "workflows.exchange_spectrum"],
    "Errors": ["errors"],
}


def defined(module: str) -> list[str]:
    """The public functions and classes that a module of this package defines itself, in their order."""
    found = import_module(f"saddlescope.{module}")
    return [
        name
        for name, value in vars(found).items()
        if not name.startswith("_") and callable(value) and getattr(value, "__module__", None) == found.__name__
    ]


def reference() -> str:
    """One entry per public name, at its home, for mkdocstrings; then what belongs to them, by module."""
    homes = {**saddlescope._HOMES, **{name: None for name in saddlescope._MODULES}}
    parts = ["# Reference\n\nEvery public name of `saddlescope`, from the docstrings; then what they return and use."]
    for name in sorted(homes):
        target = f"{homes[name]}.{name}" if homes[name] else saddlescope._MODULES[name]
        parts.append(f"::: {target}")
    shown = set(homes)
    for title, modules in FURTHER.items():
        parts.append(f"## {title}: further names")
        for module in modules:
            names = [name for name in defined(module) if name not in shown]
            parts += [f"::: saddlescope.{module}.{name}\n    options: {{heading_level: 3}}" for name in names]
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
