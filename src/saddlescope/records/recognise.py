"""Whether a file or folder is an earlier result of a command, by its content: only then may ``--overwrite`` replace it.

Each function returns None, or in words what speaks against it.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from saddlescope.data.weights import load_weights, weights_notes
from saddlescope.errors import SaddlescopeError

# What the writers of figures put into them, by suffix: the mark of their maker, and the end of a whole file.
FIGURES = {".png": (b"Software\0saddlescope ", b"IEND"), ".pdf": (b"/Creator (saddlescope ", b"%%EOF"),
           ".svg": (b">saddlescope ", b"</svg>")}  # fmt: skip
TRAINED = "saddlescope train"

OWN = "weights of"
"""In the metadata of weights of the user's own code: its name."""


def weights(file: Path, command: str) -> str | None:
    """Whether these are whole weights that the command wrote."""
    try:
        notes = weights_notes(file)
        if OWN not in notes:  # of the user's own code any arrays may be
            load_weights(file)
    except SaddlescopeError:
        return "no whole file of weights"
    trained = command == TRAINED and notes.get("command", "").startswith(f"{TRAINED} ")  # of older versions
    return None if notes.get("written by") == command or trained else f"not written by {command}"


def document(file: Path, command: str) -> str | None:
    """Whether this is a whole JSON document of the command."""
    kind = {"saddlescope walk": "walk", "saddlescope certify": "certificate"}[command]
    found = json_of(file)
    if found is None or found.get("kind") != kind or ("moves" not in found and "words" not in found):
        return f"no {kind} that {command} wrote"
    return None


def json_of(file: Path) -> dict | None:
    """Return a file's JSON object; None where it is no such file."""
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def page(file: Path, command: str) -> str | None:
    """Whether this is a whole page of the command."""
    try:
        text = file.read_text("utf-8")
    except (OSError, ValueError):
        return "no page"
    ours = text.startswith("<!doctype html>") and ": saddlescope</title>" in text and "<footer><p>saddlescope " in text
    return None if ours and text.rstrip().endswith("</html>") else f"no whole page of {command}"


def figure(file: Path, command: str) -> str | None:
    """Whether this is a whole figure that the command drew; figures of versions before 0.2 are not known again."""
    mark, end = FIGURES.get(file.suffix, (b"", b""))
    try:
        content = file.read_bytes()
    except OSError:
        return "it cannot be read"
    ours = mark and mark + command.removeprefix("saddlescope ").encode() in content and end in content[-64:]
    return None if ours else f"no figure that {command} drew"


COMMANDS: Mapping[str, Callable[[Path, str], str | None]] = {
    **{f"saddlescope {name}": weights for name in ("train", "expand", "reduce", "shrink")},
    **{f"saddlescope {name}": document for name in ("walk", "certify")},
    "saddlescope report": page,
}


def objection(file: Path, command: str, *, drawn: bool = False) -> str | None:
    """Return why a file is not an earlier output of a command (``drawn``: its figure), or None if it is."""
    if not file.is_file():
        return "not a plain file"
    return figure(file, command) if drawn else COMMANDS[command](file, command)
