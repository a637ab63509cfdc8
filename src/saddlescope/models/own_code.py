"""The user's own code: ``FILE.py:function`` or ``package.module:function``, run because the user names it."""

import contextlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from saddlescope.errors import SettingsError

_CODE = re.compile(r"(?P<place>.+\.py|[^\W\d]\w*(\.[^\W\d]\w*)*):(?P<function>[^\W\d]\w*)", re.DOTALL)
FORM = "FILE.py:function or package.module:function"


def is_code(word: str) -> bool:
    """Return whether a word has the form of code: ``FILE.py:function`` or ``package.module:function``."""
    return _CODE.fullmatch(word) is not None


def run_own(word: str) -> Any:
    """Return what the function that a word names returns; it is called without arguments.

    As with ``python FILE.py``, the file's folder is searched for what it imports; as with ``python -m``, a module is
    looked for in the working folder too. What the code prints goes to standard error.

    Args:
        word: ``FILE.py:function`` or ``package.module:function``.

    Raises:
        SettingsError: no such file, module or function, or code that raises.
    """
    match = _CODE.fullmatch(word)
    if match is None:
        raise SettingsError("not the name of a function", name="model", value=word, expected=FORM)
    place, name = match["place"], match["function"]
    file = Path(place) if place.endswith(".py") else None
    if file is not None and not file.is_file():
        raise SettingsError("no such file", name="file", value=place, expected=FORM)
    folder = str((file.parent if file else Path()).resolve())
    with _searched(folder), contextlib.redirect_stdout(sys.stderr):
        module = _guarded(place, lambda: _module(place, file))
        function = getattr(module, name, None)
        if not callable(function):
            known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            raise SettingsError(
                "no such function" if function is None else "this cannot be called",
                name=f"name in {place}",
                value=name,
                expected=f"one of {', '.join(known[:8])}" if known else "a function",
            )
        return _guarded(word, function)


def _module(place: str, file: Path | None) -> Any:
    if file is None:
        return importlib.import_module(place)
    # Under a name of its own: a file called torch.py must not stand for torch.
    spec = importlib.util.spec_from_file_location(f"saddlescope_own_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and annotations look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module


def _guarded(place: str, call: Any) -> Any:
    """Return what a call of the user's code returns; whatever it raises, leaving the program too, is one line."""
    try:
        return call()
    except (Exception, SystemExit) as error:
        text = next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
        raise SettingsError(
            f"your own code raised {type(error).__name__} ({text[:140].rstrip('.')})", name="model", value=place
        ) from error


@contextlib.contextmanager
def _searched(folder: str) -> Iterator[None]:
    """Search a folder first for imports."""
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)
