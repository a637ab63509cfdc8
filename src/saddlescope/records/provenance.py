"""What made a result: versions of everything that computes, the platform, the time."""

import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

LIBRARIES = ("saddlescope", "jax", "jaxlib", "equinox", "diffrax", "optax", "numpy", "scipy")


def versions() -> dict[str, str]:
    """Return the versions of Python, this package and its numerical libraries, the platform, and the time in UTC."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    found["platform"] = f"{platform.system()} {platform.machine()}"
    found["created"] = datetime.now(UTC).isoformat(timespec="seconds")
    return found
