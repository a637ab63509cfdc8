"""The folder of a study: what may lie in it, and where to work, so that a former study stays until the new is whole.

A new study grows in its own folder, and goes on there after an interruption. One that takes the place of another
(``--overwrite``) grows in a hidden folder beside it, goes on there, and changes names with the former at its end.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saddlescope.data.weights import weights_notes
from saddlescope.errors import RecordExistsError, StorageError, WeightsError
from saddlescope.files import beside, foreign_entry, real, remove, require_room, write_file, writing
from saddlescope.records.recognise import json_of, page
from saddlescope.records.store import ARRAYS, DOCUMENT

SPEC_FILE, RESULT_FILE, NETWORK = "asked.json", "study.json", "net.safetensors"
RUN = re.compile(r"(?:pair-\d+-\d+|closest)\.saddle")
PART = re.compile(r"(?:pair-\d+-\d+|closest)\.(walk|certificate)\.json")
# What a change of it is called, where the key alone does not say it.
WORDS = {"data_sha256": "the contents of the data", "network_sha256": "the contents of the network's file"}


def open_study(folder: Path, grounds: Mapping[str, Any], *, overwrite: bool) -> Path:
    """Return the folder to work in, made if need be; what is there already of this same study is gone on with.

    Args:
        folder: the study's folder, claimed.
        grounds: what results depend on: a study that differs in one of these is another study.
        overwrite: whether another or a finished study may be replaced, at the new one's end.

    Raises:
        RecordExistsError: the folder holds something else, or may not be replaced.
        StorageError: it cannot be made.
    """
    wanted = json.loads(json.dumps(dict(grounds)))
    place = real(folder)
    if not os.path.lexists(place):
        return _make(place, wanted, 1)
    before = json_of(place / SPEC_FILE)
    reason = study_objection(place, before, wanted)
    if reason is not None:
        raise RecordExistsError(
            f"the output exists and is no study's ({reason})", name="out", value=folder, advice="Use another name"
        )
    changed = [name for name in wanted if before is None or before.get(name) != wanted[name]]
    if not changed and not (overwrite and (place / RESULT_FILE).exists()):
        return place
    if set(os.listdir(place)) <= {SPEC_FILE}:  # made, but nothing was computed: nothing is lost
        return _make(place, wanted, 1)
    if not overwrite:
        what = "the output holds another study" if before is not None else f"the study's {SPEC_FILE} is damaged"
        told = ", ".join(str(WORDS.get(name, name)) for name in changed)
        raise RecordExistsError(what, name="changed", value=told, advice="Use another --out, or --overwrite")
    draft = beside(place, "next")
    there = json_of(draft / SPEC_FILE) or {}
    # The former study, whose removal after the exchange of names was interrupted, has an edition that is not larger.
    edition = 1 + _edition(before)
    if _edition(there) == edition and all(there.get(name) == wanted[name] for name in wanted):
        return draft
    remove(draft)
    return _make(draft, wanted, edition)


def close_study(place: Path, folder: Path) -> None:
    """Let a finished draft take the place of the former study.

    Raises:
        StorageError: the disk refuses; the draft stays.
    """
    if place != real(folder):
        with writing(folder, "the study", ending="next"):
            pass
    else:
        remove(beside(place, "next"))  # of an --overwrite that was given up


def _edition(settings: Mapping[str, Any] | None) -> int:
    """Return how many studies this folder has held, with this one; 0 where it does not say so."""
    number = (settings or {}).get("edition", 0)
    return number if isinstance(number, int) else 0


def _make(place: Path, wanted: Mapping[str, Any], edition: int) -> Path:
    require_room(place.parent)
    try:
        place.mkdir(exist_ok=True)
    except OSError as error:
        what = f"the output's folder cannot be made ({error.strerror})"
        raise StorageError(what, name="out", value=place) from error
    content = {"kind": "study", "edition": edition, **wanted}
    write_file(place / SPEC_FILE, json.dumps(content, indent=1) + "\n", "the study's settings")
    return place


def study_objection(place: Path, before: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> str | None:
    """Return why a folder is not a study's with nothing else in it, or None if it is, or is empty."""
    if not place.is_dir():
        return "not a folder"
    entries = os.listdir(place)
    if entries and SPEC_FILE not in entries:
        return f"there is no {SPEC_FILE} in it"
    known = set(wanted) - set(WORDS)
    if before is not None and not known <= set(before):
        return f"{SPEC_FILE} is of something else"
    found = foreign_entry(place, lambda name: name in (SPEC_FILE, RESULT_FILE, NETWORK) or _part(place / name))
    if found is not None:
        return found
    told = place / RESULT_FILE
    if told.exists() and (json_of(told) or {"kind": "study"}).get("kind") != "study":
        return f"{RESULT_FILE} is of something else"
    if (place / NETWORK).exists() and not _network(place / NETWORK):
        return f"{NETWORK} is of something else"
    return None


def _part(entry: Path) -> bool:
    """Whether this is a run, a certificate, a walk or a page of a study; damaged ones count, foreign ones do not."""
    if RUN.fullmatch(entry.name):
        return entry.is_dir() and foreign_entry(entry, (DOCUMENT, ARRAYS).__contains__) is None
    part = PART.fullmatch(entry.name)
    if part is not None:
        return (json_of(entry) or {"kind": part[1]}).get("kind") == part[1]
    return entry.suffix == ".html" and page(entry, "saddlescope study") is None


def _network(file: Path) -> bool:
    """Whether a network's file was trained by a study, or is too damaged to say."""
    try:
        notes = weights_notes(file)
    except WeightsError:
        return True
    return "activation" in notes and "widths" in notes
