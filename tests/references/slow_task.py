"""A task that takes as long as it is asked to, at the top of a module so that other processes find it."""

import time
from typing import Any


def wait(settings: dict[str, Any]) -> dict[str, Any]:
    """Wait so many seconds."""
    time.sleep(settings["seconds"])
    return dict(settings)
