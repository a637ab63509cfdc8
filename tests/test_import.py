"""Importing the package, and asking for help, is cheap and changes nothing outside it."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import saddlescope

HEAVY = ("jax", "equinox", "scipy", "matplotlib", "xarray", "diffrax")
LOADED = f"[name for name in {HEAVY} if name in sys.modules]"


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert _python(f"import saddlescope, sys; print({LOADED})").strip() == "[]"


def test_help_loads_nothing_heavy() -> None:
    code = f"""
import atexit, runpy, sys
atexit.register(lambda: print({LOADED}))
sys.argv = ["saddlescope", "--help"]
runpy.run_module("saddlescope", run_name="__main__")
"""
    output = _python(code)
    assert "path" in output
    assert output.splitlines()[-1] == "[]"


def test_using_every_public_name_changes_no_global_setting_of_jax() -> None:
    code = """
import jax
before = dict(jax.config.values)
import saddlescope
for name in dir(saddlescope):
    getattr(saddlescope, name)
after = dict(jax.config.values)
print({name: (before.get(name), after[name]) for name in after if before.get(name) != after[name]})
"""
    assert _python(code).strip() == "{}"


def test_type_checkers_and_python_see_the_same_public_names() -> None:
    tree = ast.parse(Path(saddlescope.__file__).read_text("utf-8"))
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    lines = [node for node in checked.body if isinstance(node, ast.ImportFrom)]
    told = {alias.asname: f"{line.module}.{alias.name}" for line in lines for alias in line.names}
    homes = {name: f"{home}.{name}" for name, home in saddlescope._HOMES.items()}
    assert told == {**homes, **saddlescope._MODULES}


@pytest.mark.parametrize("name", dir(saddlescope))
def test_every_public_name_can_be_had(name: str) -> None:
    assert getattr(saddlescope, name) is not None


def test_a_name_that_is_not_there_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'find_paht'"):
        importlib.import_module("saddlescope").find_paht  # noqa: B018
