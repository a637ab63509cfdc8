"""Tasks as data: a name, settings that JSON can hold, and an id that is the same wherever these are the same."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from saddlescope.errors import SettingsError


@dataclass(frozen=True)
class Task:
    """One piece of work. ``identity`` is a hash of kind, version, name and settings: other settings, another id."""

    name: str
    settings: dict[str, Any]
    identity: str


def plan(kind: str, version: int, settings: Mapping[str, Mapping[str, Any]]) -> tuple[Task, ...]:
    """Return a task for each name, in the order given.

    Raises:
        SettingsError: settings that JSON cannot hold exactly.
    """
    return tuple(_task(kind, version, name, dict(chosen)) for name, chosen in settings.items())


def _task(kind: str, version: int, name: str, settings: dict[str, Any]) -> Task:
    text = ""
    try:
        text = json.dumps([kind, version, name, settings], sort_keys=True, allow_nan=False)
        same = json.loads(text)[3] == settings
    except (TypeError, ValueError):
        same = False
    if not same:
        raise SettingsError(
            f"the settings of task {name} cannot be kept",
            name="settings",
            value=settings,
            expected="numbers, words, lists and dicts with words as keys",
        )
    return Task(name, settings, hashlib.sha256(text.encode()).hexdigest()[:16])
